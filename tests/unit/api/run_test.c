// SPDX-License-Identifier: GPL-2.0-or-later
/* KVM_RUN and its exits, with guests of a few instructions. */
#include "harness.h"

#define IRQ_VECTOR 0x20
/* The /dev/kvm of machines without VT-x or AMD-V (module kvm_pvm) runs all but 64-bit user mode in KVM's instruction emulator. */
#define EMULATED "a software-only /dev/kvm emulates this code"

static uint8_t *pio(struct kvm_run *run)
{
    return (uint8_t *)run + run->io.data_offset;
}

/* Real-mode vector `n` leads to `at`. */
static void set_ivt(struct guest *g, unsigned n, uint16_t at)
{
    memcpy(g->ram + 4 * n, &(uint32_t){at}, 4);
}

static void port_out_in(void)
{
    struct guest *g = guest_new(1, 0);
    /* mov al,0x41; out 0x10,al; mov eax,0x11223344; mov dx,0x3f8; out dx,eax; in al,0x20; in ax,dx; hlt */
    guest_real(
        g, 0, 0x1000,
        CODE(0xb0, 0x41, 0xe6, 0x10, 0x66, 0xb8, 0x44, 0x33, 0x22, 0x11, 0xba, 0xf8, 0x03, 0x66, 0xef, 0xe4, 0x20, 0xed, 0xf4));
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_IO);
    CHECK_EQ(run->io.direction, KVM_EXIT_IO_OUT);
    CHECK_EQ(run->io.port, 0x10);
    CHECK_EQ(run->io.size, 1);
    CHECK_EQ(run->io.count, 1);
    CHECK_EQ(*pio(run), 0x41);
    run = RUN(g, 0, KVM_EXIT_IO);
    CHECK_EQ(run->io.port, 0x3f8);
    CHECK_EQ(run->io.size, 4);
    CHECK_EQ(*(uint32_t *)(void *)pio(run), 0x11223344);
    run = RUN(g, 0, KVM_EXIT_IO);
    CHECK_EQ(run->io.direction, KVM_EXIT_IO_IN);
    CHECK_EQ(run->io.port, 0x20);
    *pio(run) = 0x99;
    run = RUN(g, 0, KVM_EXIT_IO);
    CHECK_EQ(run->io.size, 2);
    CHECK_EQ(guest_regs(g, 0).rax, 0x11223399); /* the upper bytes stay */
    memcpy(pio(run), &(uint16_t){0xabcd}, 2);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rax, 0x1122abcd);
}

/* The bytes of a string instruction reach user space in order, in whatever pieces. */
static void port_string(void)
{
    struct guest *g = guest_new(1, 0);
    memcpy(g->ram + 0x2000, "hello", 5);
    /* mov si,0x2000; mov cx,5; mov dx,0xe9; cld; rep outsb; mov di,0x3000; mov cx,3; rep insw; hlt */
    guest_real(g, 0, 0x1000,
               CODE(0xbe, 0x00, 0x20, 0xb9, 0x05, 0x00, 0xba, 0xe9, 0x00, 0xfc, 0xf3, 0x6e, 0xbf, 0x00, 0x30, 0xb9, 0x03, 0x00,
                    0xf3, 0x6d, 0xf4));
    char got[8] = "";
    unsigned n = 0;
    uint16_t next = 0x100;
    for (unsigned words = 0; n < 5 || words < 3;) {
        struct kvm_run *run = RUN(g, 0, KVM_EXIT_IO);
        CHECK_EQ(run->io.port, 0xe9);
        for (unsigned i = 0; i < run->io.count; i++) {
            uint8_t *p = pio(run) + i * run->io.size;
            if (run->io.direction == KVM_EXIT_IO_OUT) {
                CHECK(n < 5);
                got[n++] = (char)*p;
            } else {
                CHECK_EQ(run->io.size, 2);
                memcpy(p, &next, 2);
                next++;
                words++;
            }
        }
    }
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK(!strcmp(got, "hello"));
    CHECK(!memcmp(g->ram + 0x3000, "\x00\x01\x01\x01\x02\x01", 6));
    CHECK_EQ(guest_regs(g, 0).rsi, 0x2005);
    CHECK_EQ(guest_regs(g, 0).rcx, 0);
}

static void mmio(void)
{
    struct guest *g = guest_new(1, 0);
    /* Beyond RAM in 64-bit mode: the page tables end at 2 MiB, so the slot is cut down instead. */
    guest_cut_ram(g, 0x180000);
    /* mov rbx,0x180000; mov rax,0x1122334455667788; mov [rbx],rax; mov [rbx+6],al; mov ecx,[rbx+4]; hlt */
    guest_long(g, 0, 0x1000,
               CODE(0x48, 0xc7, 0xc3, 0x00, 0x00, 0x18, 0x00, 0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x48,
                    0x89, 0x03, 0x88, 0x43, 0x06, 0x8b, 0x4b, 0x04, 0xf4));
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.phys_addr, 0x180000);
    CHECK_EQ(run->mmio.len, 8);
    CHECK_EQ(run->mmio.is_write, 1);
    CHECK(!memcmp(run->mmio.data, "\x88\x77\x66\x55\x44\x33\x22\x11", 8));
    run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.phys_addr, 0x180006);
    CHECK_EQ(run->mmio.len, 1);
    CHECK_EQ(run->mmio.data[0], 0x88);
    run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.phys_addr, 0x180004);
    CHECK_EQ(run->mmio.len, 4);
    CHECK_EQ(run->mmio.is_write, 0);
    memcpy(run->mmio.data, &(uint32_t){0xdeadbeef}, 4);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rcx, 0xdeadbeef);
}

/* An instruction that reads and writes MMIO exits twice and then is done once. */
static void mmio_read_modify_write(void)
{
    struct guest *g = guest_new(1, 0);
    guest_cut_ram(g, 0x10000);
    /* mov ax,0x2000; mov ds,ax; add word [0x10],0x0101; inc cx; hlt */
    guest_real(g, 0, 0x1000, CODE(0xb8, 0x00, 0x20, 0x8e, 0xd8, 0x81, 0x06, 0x10, 0x00, 0x01, 0x01, 0x41, 0xf4));
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.is_write, 0);
    CHECK_EQ(run->mmio.phys_addr, 0x20010);
    memcpy(run->mmio.data, &(uint16_t){0x1234}, 2);
    run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.is_write, 1);
    CHECK_EQ(run->mmio.len, 2);
    CHECK(!memcmp(run->mmio.data, "\x35\x13", 2));
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rcx, 1);
}

/* A write that begins in RAM and ends in MMIO: the RAM part happens once, the rest exits. */
static void mmio_crossing(void)
{
    struct guest *g = guest_new(1, 0);
    guest_cut_ram(g, 0x20000);
    /* mov ax,0x1000; mov ds,ax; mov eax,0x44332211; mov [0xfffe],eax; hlt, with unreal limits not needed: 0x1fffe..0x20001 */
    guest_real(g, 0, 0x1000, CODE(0xb8, 0xf0, 0x1f, 0x8e, 0xd8, 0x66, 0xb8, 0x11, 0x22, 0x33, 0x44, 0x66, 0xa3, 0xfe, 0x00, 0xf4));
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.phys_addr, 0x20000);
    CHECK_EQ(run->mmio.len, 2);
    CHECK(!memcmp(run->mmio.data, "\x33\x44", 2));
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK(!memcmp(g->ram + 0x1fffe, "\x11\x22", 2));
}

/* Registers changed while an exit waits: the instruction still gets its answer. */
static void registers_at_exit(void)
{
    struct guest *g = guest_new(1, 0);
    guest_real(g, 0, 0x1000, CODE(0xe4, 0x20, 0xf4)); /* in al,0x20; hlt */
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_IO);
    *pio(run) = 0x12;
    struct kvm_regs r = guest_regs(g, 0);
    CHECK_EQ(r.rip, 0x1000);
    r.rbx = 0x77; /* as QEMU's vmport does */
    OK(g->vcpu[0], KVM_SET_REGS, &r);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rax & 0xff, 0x12);
    CHECK_EQ(guest_regs(g, 0).rbx, 0x77);
    CHECK_EQ(guest_regs(g, 0).rip, 0x1003);
}

/* A new rip forgets the instruction. */
static void rip_at_exit(void)
{
    struct guest *g = guest_new(1, 0);
    guest_real(g, 0, 0x1000, CODE(0xe6, 0x20, 0xf4, 0xb0, 0x55, 0xf4)); /* out 0x20,al; hlt; mov al,0x55; hlt */
    RUN(g, 0, KVM_EXIT_IO);
    struct kvm_regs r = guest_regs(g, 0);
    r.rip = 0x1003;
    OK(g->vcpu[0], KVM_SET_REGS, &r);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rax & 0xff, 0x55);
    CHECK_EQ(guest_regs(g, 0).rip, 0x1006);
}

static void immediate_exit(void)
{
    struct guest *g = guest_new(1, 0);
    guest_real(g, 0, 0x1000, CODE(0xe4, 0x20, 0x41, 0xf4)); /* in al,0x20; inc cx; hlt */
    g->run[0]->immediate_exit = 1;
    FAILS(g->vcpu[0], KVM_RUN, 0, EINTR);
    CHECK_EQ(guest_regs(g, 0).rip, 0x1000);
    g->run[0]->immediate_exit = 0;
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_IO);
    *pio(run) = 0x5a;
    run->immediate_exit = 1; /* completes the IN and nothing more */
    FAILS(g->vcpu[0], KVM_RUN, 0, EINTR);
    CHECK_EQ(guest_regs(g, 0).rip, 0x1002);
    CHECK_EQ(guest_regs(g, 0).rax & 0xff, 0x5a);
    CHECK_EQ(guest_regs(g, 0).rcx, 0);
    FAILS(g->vcpu[0], KVM_RUN, 0, EINTR);
    CHECK_EQ(guest_regs(g, 0).rip, 0x1002);
    run->immediate_exit = 0;
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rcx, 1);
}

/* With immediate_exit an instruction of two accesses gets its second exit first. */
static void immediate_exit_mid_instruction(void)
{
    struct guest *g = guest_new(1, 0);
    guest_cut_ram(g, 0x10000);
    guest_real(g, 0, 0x1000, CODE(0xb8, 0x00, 0x20, 0x8e, 0xd8, 0xfe, 0x06, 0x10, 0x00, 0xf4)); /* ... inc byte [0x10]; hlt */
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_MMIO);
    run->mmio.data[0] = 7;
    run->immediate_exit = 1;
    run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.is_write, 1);
    CHECK_EQ(run->mmio.data[0], 8);
    FAILS(g->vcpu[0], KVM_RUN, 0, EINTR);
    CHECK_EQ(guest_regs(g, 0).rip, 0x1009);
    run->immediate_exit = 0;
    RUN(g, 0, KVM_EXIT_HLT);
}

static void arguments(void)
{
    struct guest *g = guest_new(1, 0);
    FAILS(g->vcpu[0], KVM_RUN, 1, EINVAL);
    g->run[0]->kvm_valid_regs = 8;
    FAILS(g->vcpu[0], KVM_RUN, 0, EINVAL);
    g->run[0]->kvm_valid_regs = 0;
    g->run[0]->kvm_dirty_regs = 1 << 20;
    FAILS(g->vcpu[0], KVM_RUN, 0, EINVAL);
    g->run[0]->kvm_dirty_regs = 0;
    g->run[0]->cr8 = 16;
    FAILS(g->vcpu[0], KVM_RUN, 0, EINVAL);
}

static void triple_fault(void)
{
    struct guest *g = guest_new(1, 0);
    guest_long(g, 0, 0x1000, CODE(0x0f, 0x0b)); /* ud2, and no IDT entry is present */
    RUN(g, 0, KVM_EXIT_SHUTDOWN);
}

static void interrupt_window(void)
{
    struct guest *g = guest_new(1, 0);
    set_ivt(g, IRQ_VECTOR, 0x2000);
    memcpy(g->ram + 0x2000, (uint8_t[]){0xb3, 0x01, 0xcf}, 3); /* mov bl,1; iret */
    /* inc cx; sti; nop; inc dx; hlt; hlt */
    guest_real(g, 0, 0x1000, CODE(0x41, 0xfb, 0x90, 0x42, 0xf4, 0xf4));
    struct kvm_run *run = g->run[0];
    run->request_interrupt_window = 1;
    RUN(g, 0, KVM_EXIT_IRQ_WINDOW_OPEN);
    struct kvm_regs r = guest_regs(g, 0);
    CHECK_EQ(r.rip, 0x1003); /* behind the instruction that STI shields */
    CHECK_EQ(r.rcx, 1);
    CHECK_EQ(r.rdx, 0);
    CHECK_EQ(run->if_flag, 1);
    CHECK_EQ(run->ready_for_interrupt_injection, 1);
    run->request_interrupt_window = 0;
    struct kvm_interrupt irq = {256};
    FAILS(g->vcpu[0], KVM_INTERRUPT, &irq, EINVAL);
    irq.irq = IRQ_VECTOR;
    OK(g->vcpu[0], KVM_INTERRUPT, &irq);
    RUN(g, 0, KVM_EXIT_HLT);
    r = guest_regs(g, 0);
    CHECK_EQ(r.rbx, 1);
    CHECK_EQ(r.rip, 0x1005);
    CHECK_EQ(r.rsp, 0x7000);
}

static void interrupt_ends_halt(void)
{
    struct guest *g = guest_new(1, 0);
    set_ivt(g, IRQ_VECTOR, 0x2000);
    memcpy(g->ram + 0x2000, (uint8_t[]){0x43, 0xcf}, 2); /* inc bx; iret */
    guest_real(g, 0, 0x1000, CODE(0xfb, 0xf4, 0xf4, 0xf4)); /* sti; hlt; hlt; hlt */
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(g->run[0]->ready_for_interrupt_injection, 1);
    struct kvm_interrupt irq = {IRQ_VECTOR};
    OK(g->vcpu[0], KVM_INTERRUPT, &irq);
    struct kvm_sregs s;
    OK(g->vcpu[0], KVM_GET_SREGS, &s);
    CHECK_EQ(s.interrupt_bitmap[0], BIT64(IRQ_VECTOR));
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rbx, 1);
    CHECK_EQ(guest_regs(g, 0).rip, 0x1003);
}

static void nmi(void)
{
    struct guest *g = guest_new(1, 0);
    set_ivt(g, 2, 0x2000);
    memcpy(g->ram + 0x2000, (uint8_t[]){0x43, 0xf4, 0xcf}, 3); /* inc bx; hlt; iret */
    guest_real(g, 0, 0x1000, CODE(0x90, 0xf4, 0xf4));
    OK(g->vcpu[0], KVM_NMI, 0);
    RUN(g, 0, KVM_EXIT_HLT); /* in the handler, IF clear notwithstanding */
    CHECK_EQ(guest_regs(g, 0).rbx, 1);
    CHECK_EQ(guest_regs(g, 0).rip, 0x2002);
    struct kvm_vcpu_events e;
    OK(g->vcpu[0], KVM_GET_VCPU_EVENTS, &e);
    CHECK_EQ(e.nmi.masked, 1);
    CHECK_EQ(e.nmi.pending, 0);
    OK(g->vcpu[0], KVM_NMI, 0);
    OK(g->vcpu[0], KVM_GET_VCPU_EVENTS, &e);
    CHECK_EQ(e.nmi.pending, 1);
    RUN(g, 0, KVM_EXIT_HLT); /* IRET unmasks, and the second is delivered at once */
    CHECK_EQ(guest_regs(g, 0).rbx, 2);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rip, 0x1002);
}

static void debug_control(struct guest *g, uint32_t control, const uint64_t dr[8])
{
    struct kvm_guest_debug d = {.control = control};
    if (dr)
        memcpy(d.arch.debugreg, dr, sizeof(d.arch.debugreg));
    OK(g->vcpu[0], KVM_SET_GUEST_DEBUG, &d);
}

static void single_step(void)
{
    struct guest *g = guest_new(1, 0);
    guest_real(g, 0, 0x1000, CODE(0x40, 0xb9, 0x34, 0x12, 0x41, 0xf4)); /* inc ax; mov cx,0x1234; inc cx; hlt */
    debug_control(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, NULL);
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_DEBUG);
    CHECK_EQ(run->debug.arch.pc, 0x1001);
    CHECK_EQ(run->debug.arch.exception, 1);
    CHECK_EQ(run->debug.arch.dr6 & (1 << 14), 1 << 14);
    run = RUN(g, 0, KVM_EXIT_DEBUG);
    CHECK_EQ(run->debug.arch.pc, 0x1004);
    CHECK_EQ(guest_regs(g, 0).rcx, 0x1234);
    CHECK_EQ(guest_regs(g, 0).rflags & 0x100, 0); /* TF is not shown */
    debug_control(g, 0, NULL);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rcx, 0x1235);
}

static void breakpoints(void)
{
    struct guest *g = guest_new(1, 0);
    /* inc ax; inc ax; mov [0x3000],al; inc cx; int3; hlt */
    guest_real(g, 0, 0x1000, CODE(0x40, 0x40, 0xa2, 0x00, 0x30, 0x41, 0xcc, 0xf4));
    debug_control(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, (uint64_t[8]){0x1001, 0x3000, [7] = 0x0d | 1 << 10 | 1u << 20});
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_DEBUG);
    CHECK_EQ(run->debug.arch.pc, 0x1001);
    CHECK_EQ(run->debug.arch.dr6 & 15, 1);
    CHECK_EQ(guest_regs(g, 0).rax, 1);
    /* The debugger steps over it, or takes it away. */
    debug_control(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, (uint64_t[8]){0, 0x3000, [7] = 0x0c | 1 << 10 | 1u << 20});
    run = RUN(g, 0, KVM_EXIT_DEBUG);
    CHECK_EQ(run->debug.arch.pc, 0x1005); /* a data breakpoint is a trap */
    CHECK_EQ(run->debug.arch.dr6 & 15, 2);
    debug_control(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, NULL);
    run = RUN(g, 0, KVM_EXIT_DEBUG);
    CHECK_EQ(run->debug.arch.exception, 3);
    CHECK_EQ(run->debug.arch.pc, 0x1006);
    CHECK_EQ(guest_regs(g, 0).rip, 0x1006);
}

/* A debugger that uses the breakpoint registers hears of a guest that looks at them. */
static void general_detect(void)
{
    struct guest *g = guest_new(1, 0);
    guest_long(g, 0, 0x10000, CODE(0x90, 0x0f, 0x21, 0xc0, 0xf4)); /* nop; mov rax,dr0; hlt */
    debug_control(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, (uint64_t[8]){[7] = 1 << 10 | 1 << 13});
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_DEBUG);
    CHECK_EQ(run->debug.arch.exception, 1);
    CHECK_EQ(run->debug.arch.pc, 0x10001);
    CHECK_EQ(run->debug.arch.dr6, 0xffff0ff0 | 1 << 13);
}

static void injected_debug_exception(void)
{
    struct guest *g = guest_new(1, 0);
    set_ivt(g, 1, 0x2000);
    memcpy(g->ram + 0x2000, (uint8_t[]){0xb3, 0x01, 0xcf}, 3); /* mov bl,1; iret */
    guest_real(g, 0, 0x1000, CODE(0x90, 0xf4));
    debug_control(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB, NULL);
    struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_BP};
    FAILS(g->vcpu[0], KVM_SET_GUEST_DEBUG, &d, EBUSY);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rbx, 1);
}

static void sync_regs(void)
{
    struct guest *g = guest_new(1, 0);
    struct kvm_run *run = g->run[0];
    CHECK_EQ(OK(g->sys, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS), KVM_SYNC_X86_VALID_FIELDS);
    guest_real(g, 0, 0x1000, CODE(0x40, 0xe6, 0x10, 0x40, 0xf4)); /* inc ax; out 0x10,al; inc ax; hlt */
    run->kvm_valid_regs = KVM_SYNC_X86_VALID_FIELDS;
    RUN(g, 0, KVM_EXIT_IO);
    CHECK_EQ(run->s.regs.regs.rax, 1);
    CHECK_EQ(run->s.regs.sregs.cs.base, 0);
    CHECK_EQ(run->s.regs.events.nmi.masked, 0);
    run->s.regs.regs.rax = 0x50;
    run->s.regs.sregs.ds.base = 0x1230;
    run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(run->kvm_dirty_regs, 0);
    CHECK_EQ(run->s.regs.regs.rax, 0x51);
    CHECK_EQ(run->s.regs.sregs.ds.base, 0x1230);
    run->kvm_valid_regs = 0;
    run->s.regs.regs.rax = 0x33;
    run->immediate_exit = 1;
    FAILS(g->vcpu[0], KVM_RUN, 0, EINTR);
    CHECK_EQ(run->s.regs.regs.rax, 0x33); /* not asked for, not touched */
}

/* User space's TPR when the LAPIC is its own. */
static void cr8_exit(void)
{
    struct guest *g = guest_new(1, 0);
    /* mov eax,5; mov cr8,rax; mov eax,3; mov cr8,rax; mov rcx,cr8; hlt */
    guest_long(
        g, 0, 0x1000,
        CODE(0xb8, 5, 0, 0, 0, 0x44, 0x0f, 0x22, 0xc0, 0xb8, 3, 0, 0, 0, 0x44, 0x0f, 0x22, 0xc0, 0x44, 0x0f, 0x20, 0xc1, 0xf4));
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_SET_TPR); /* only when it becomes lower */
    CHECK_EQ(run->cr8, 3);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rcx, 3);
}

static void pending_exception(void)
{
    struct guest *g = guest_new(1, 0);
    set_ivt(g, 13, 0x2000);
    memcpy(g->ram + 0x2000, (uint8_t[]){0xb3, 0x0d, 0xf4}, 3); /* mov bl,13; hlt */
    guest_real(g, 0, 0x1000, CODE(0x90, 0xf4));
    struct kvm_vcpu_events e = {.exception = {.injected = 1, .nr = 13}};
    OK(g->vcpu[0], KVM_SET_VCPU_EVENTS, &e);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rbx, 13);
    CHECK_EQ(*(uint16_t *)(void *)(g->ram + 0x6ffa), 0x1000); /* pushed IP: of the instruction that comes next */
}

static void triple_fault_event(void)
{
    struct guest *g = guest_new(1, 0);
    struct kvm_vcpu_events e = {.flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT, .triple_fault.pending = 1};
    FAILS(g->vcpu[0], KVM_SET_VCPU_EVENTS, &e, EINVAL);
    struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT, .args = {1}};
    OK(g->vm, KVM_ENABLE_CAP, &cap);
    guest_real(g, 0, 0x1000, CODE(0xf4));
    OK(g->vcpu[0], KVM_SET_VCPU_EVENTS, &e);
    RUN(g, 0, KVM_EXIT_SHUTDOWN);
}

/* The delivery of an interrupt that pushes into MMIO exits for each push, and happens once. */
static void mmio_stack(void)
{
    struct guest *g = guest_new(1, 0);
    guest_cut_ram(g, 0x10000);
    set_ivt(g, IRQ_VECTOR, 0x2000);
    memcpy(g->ram + 0x2000, (uint8_t[]){0x43, 0xf4}, 2); /* inc bx; hlt */
    /* mov ax,0x2000; mov ss,ax; mov sp,0x100; sti; hlt; hlt */
    guest_real(g, 0, 0x1000, CODE(0xb8, 0x00, 0x20, 0x8e, 0xd0, 0xbc, 0x00, 0x01, 0xfb, 0xf4, 0xf4));
    RUN(g, 0, KVM_EXIT_HLT);
    struct kvm_interrupt irq = {IRQ_VECTOR};
    OK(g->vcpu[0], KVM_INTERRUPT, &irq);
    static const uint16_t pushed[] = {0x202, 0x0000, 0x100a}; /* FLAGS, CS, IP */
    unsigned n = 0;
    do {
        struct kvm_run *run = g->run[0];
        OK(g->vcpu[0], KVM_RUN, 0);
        if (run->exit_reason == KVM_EXIT_HLT)
            break;
        CHECK_EQ(run->exit_reason, KVM_EXIT_MMIO);
        CHECK(n < 3);
        CHECK_EQ(run->mmio.phys_addr, 0x200fe - 2 * n);
        CHECK_EQ(run->mmio.is_write, 1);
        uint16_t val;
        memcpy(&val, run->mmio.data, 2);
        CHECK_EQ(val & 0xfeff, pushed[n] & 0xfeff);
        CHECK_EQ(guest_regs(g, 0).rip, 0x100a);
        n++;
    } while (true);
    CHECK_EQ(n, 3);
    CHECK_EQ(guest_regs(g, 0).rbx, 1);
    CHECK_EQ(guest_regs(g, 0).rsp, 0xfa);
}

/* Code in a hole of memory cannot be emulated. */
static void code_in_mmio(void)
{
    struct guest *g = guest_new(1, 0);
    guest_cut_ram(g, 0x10000);
    guest_real(g, 0, 0x1000, CODE(0xea, 0x00, 0x00, 0x00, 0x20)); /* jmp 0x2000:0 */
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_INTERNAL_ERROR);
    CHECK_EQ(run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
}

const struct test tests[] = {
    {"port out and in", port_out_in, NULL},
    {"port strings", port_string, NULL},
    {"mmio", mmio, NULL},
    {"mmio read-modify-write", mmio_read_modify_write, NULL},
    {"mmio crossing from ram", mmio_crossing, NULL},
    {"registers changed at an exit", registers_at_exit, EMULATED ": its emulator loses the IN"},
    {"rip changed at an exit", rip_at_exit, NULL},
    {"immediate_exit", immediate_exit, NULL},
    {"immediate_exit in mid-instruction", immediate_exit_mid_instruction, NULL},
    {"arguments", arguments, NULL},
    {"triple fault", triple_fault, NULL},
    {"interrupt window", interrupt_window, EMULATED ": windows are not looked for between emulated instructions"},
    {"interrupt ends halt", interrupt_ends_halt, NULL},
    {"nmi", nmi, EMULATED ": the second NMI waits for more than IRET"},
    {"single step", single_step, NULL},
    {"breakpoints", breakpoints, EMULATED ": breakpoints do not hit there"},
    {"general detect", general_detect, EMULATED ": breakpoints do not hit there"},
    {"injected #DB", injected_debug_exception, NULL},
    {"sync regs", sync_regs, NULL},
    {"cr8 exit", cr8_exit, EMULATED ": its emulator's MOV CR8 does not exit"},
    {"pending exception", pending_exception, NULL},
    {"triple fault event", triple_fault_event, NULL},
    {"interrupt onto a stack in mmio", mmio_stack, EMULATED ": and that takes no stack in MMIO"},
    {"code in mmio", code_in_mmio, NULL},
    {NULL, NULL, NULL},
};
