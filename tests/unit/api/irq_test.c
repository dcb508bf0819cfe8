// SPDX-License-Identifier: GPL-2.0-or-later
/* Interrupts and waiting with the engine's own LAPICs: HLT, wake-ups, INIT and SIPI, timers, user space's PIC behind a split chip.
 */
#include "threads.h"

#define EMULATED "a software-only /dev/kvm emulates this code"
#define EOI 0x67, 0x66, 0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0, 0, 0, 0 /* mov dword [0xfee000b0],0 */

static void poke(struct guest *g, uint16_t at, const void *code, size_t n)
{
    memcpy(g->ram + at, code, n);
}

/* Real mode with a 4 GiB limit of DS, so that the LAPIC is in reach. */
static void start_real(struct guest *g, unsigned cpu, uint16_t at, const void *code, size_t n)
{
    guest_real(g, cpu, at, code, n);
    guest_big_data(g, cpu);
}

/* The PIC's interrupts come through LINT0, as ExtINT. */
static void virtual_wire(struct guest *g)
{
    guest_enable_lapic(g, 0);
    guest_set_lapic(g, 0, 0x350, 0x700);
}

static void msi(struct guest *g, unsigned cpu, uint8_t vector)
{
    struct kvm_msi m = {.address_lo = 0xfee00000 | cpu << 12, .data = vector};
    OK(g->vm, KVM_SIGNAL_MSI, &m);
}

/* A halted vCPU sleeps and wakes for its interrupt. */
static void halt_and_wake(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    memcpy(g->ram + 4 * 0x31, &(uint32_t){0x2000}, 4);
    poke(g, 0x2000, CODE(0x43, EOI, 0xcf));                        /* inc bx; EOI; iret */
    start_real(g, 0, 0x1000, CODE(0xfb, 0xf4, 0xe6, 0x10, 0xf4)); /* sti; hlt; out 0x10,al; hlt */
    guest_enable_lapic(g, 0);
    struct runner r;
    runner_start(&r, g, 0);
    CHECK(runner_sleeps(&r));
    msi(g, 0, 0x31);
    CHECK(runner_ends(&r));
    CHECK_EQ(runner_join(&r), KVM_EXIT_IO);
    CHECK_EQ(guest_regs(g, 0).rbx, 1);
}

/* With IF clear only an NMI wakes. */
static void nmi_wakes(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    memcpy(g->ram + 4 * 2, &(uint32_t){0x2000}, 4);
    poke(g, 0x2000, CODE(0x43, 0xe6, 0x10)); /* inc bx; out 0x10,al */
    start_real(g, 0, 0x1000, CODE(0xfa, 0xf4));
    guest_enable_lapic(g, 0);
    struct runner r;
    runner_start(&r, g, 0);
    msi(g, 0, 0x31);
    CHECK(!runner_done(&r, 30));
    struct kvm_msi nmi = {.address_lo = 0xfee00000, .data = 0x400};
    OK(g->vm, KVM_SIGNAL_MSI, &nmi);
    CHECK(runner_ends(&r));
    CHECK_EQ(runner_join(&r), KVM_EXIT_IO);
    CHECK_EQ(guest_regs(g, 0).rbx, 1);
}

/* Higher vectors first; the lower one when the higher has ended. */
static void priorities(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    memcpy(g->ram + 4 * 0x31, &(uint32_t){0x2000}, 4);
    memcpy(g->ram + 4 * 0x52, &(uint32_t){0x2100}, 4);
    poke(g, 0x2000, CODE(0xb0, 0x31, 0xe6, 0x10, EOI, 0xcf));
    poke(g, 0x2100,
         CODE(0xb0, 0x52, 0xfb, 0xe6, 0x10, EOI, 0xe6, 0x11, 0xcf)); /* interruptible, and still the lower one waits for its EOI */
    start_real(g, 0, 0x1000, CODE(0x90, 0xfb, 0x90, 0x90, 0xe6, 0x12, 0xf4));
    guest_enable_lapic(g, 0);
    msi(g, 0, 0x31);
    msi(g, 0, 0x52);
    static const uint16_t order[][2] = {{0x10, 0x52}, {0x10, 0x31}, {0x11, 0x31}, {0x12, 0x31}};
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
        struct kvm_run *run = RUN(g, 0, KVM_EXIT_IO);
        CHECK_EQ(run->io.port, order[i][0]);
        CHECK_EQ(*((uint8_t *)run + run->io.data_offset), order[i][1]);
    }
}

/* An interrupt that comes while user space handles an exit is delivered right behind the instruction. */
static void interrupt_at_exit(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    memcpy(g->ram + 4 * 0x31, &(uint32_t){0x2000}, 4);
    poke(g, 0x2000, CODE(0xe6, 0x11));
    start_real(g, 0, 0x1000, CODE(0xfb, 0x90, 0xe4, 0x70, 0x41, 0xeb, 0xfd)); /* sti; nop; in al,0x70; again: inc cx; jmp again */
    guest_enable_lapic(g, 0);
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_IO);
    CHECK_EQ(run->io.port, 0x70);
    *((uint8_t *)run + run->io.data_offset) = 0x5a;
    msi(g, 0, 0x31);
    run = RUN(g, 0, KVM_EXIT_IO);
    CHECK_EQ(run->io.port, 0x11);
    CHECK_EQ(guest_regs(g, 0).rax & 0xff, 0x5a);
    CHECK_EQ(guest_regs(g, 0).rcx, 0);
    CHECK_EQ(*(uint16_t *)(void *)(g->ram + 0x6ffa), 0x1004);
}

/* An AP waits for INIT and SIPI, which the BSP sends through its LAPIC. */
static void init_sipi(void)
{
    struct guest *g = guest_new(2, GUEST_IRQCHIP | GUEST_CPUID);
    /* mov dword [0xfee00310],1<<24; mov dword [0xfee00300],0x4500; ...,0x4604; hlt */
    start_real(g, 0, 0x1000,
               CODE(0x67, 0x66, 0xc7, 0x05, 0x10, 0x03, 0xe0, 0xfe, 0, 0, 0, 1, 0x67, 0x66, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe,
                    0x00, 0x45, 0, 0, 0xe6, 0x50, 0x67, 0x66, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x04, 0x46, 0, 0, 0xe6, 0x51));
    guest_enable_lapic(g, 0);
    poke(g, 0x4000, CODE(0x8c, 0xc8, 0xe7, 0x30)); /* mov ax,cs; out 0x30,ax */
    struct runner ap;
    runner_start(&ap, g, 1);
    CHECK(!runner_done(&ap, 30));
    RUN(g, 0, KVM_EXIT_IO); /* INIT sent */
    CHECK(!runner_done(&ap, 30));
    RUN(g, 0, KVM_EXIT_IO); /* SIPI sent */
    CHECK(runner_ends(&ap));
    CHECK_EQ(runner_join(&ap), KVM_EXIT_IO);
    CHECK_EQ(g->run[1]->io.port, 0x30);
    CHECK_EQ(*(uint16_t *)(void *)((uint8_t *)g->run[1] + g->run[1]->io.data_offset), 0x400);
    uint64_t rip = guest_regs(g, 1).rip;
    CHECK(rip == 2 || rip == 4); /* 4 where OUT is emulated */
}

/* An AP that has not been started: KVM_RUN waits and gives EAGAIN, or EINTR at once with immediate_exit. */
static void uninitialized(void)
{
    struct guest *g = guest_new(2, GUEST_IRQCHIP);
    g->run[1]->immediate_exit = 1;
    FAILS(g->vcpu[1], KVM_RUN, 0, EINTR);
    g->run[1]->immediate_exit = 0;
    struct kvm_mp_state s = {KVM_MP_STATE_SIPI_RECEIVED};
    struct kvm_vcpu_events e = {.flags = KVM_VCPUEVENT_VALID_SIPI_VECTOR, .sipi_vector = 5};
    OK(g->vcpu[1], KVM_SET_VCPU_EVENTS, &e);
    OK(g->vcpu[1], KVM_SET_MP_STATE, &s);
    poke(g, 0x5000, CODE(0xe6, 0x31));
    RUN(g, 1, KVM_EXIT_IO);
    CHECK_EQ(g->run[1]->io.port, 0x31);
}

static void lapic_timer(void)
{
    struct guest *g = guest_new(1, GUEST_IRQCHIP | GUEST_CPUID);
    memcpy(g->ram + 4 * 0x40, &(uint32_t){0x2000}, 4);
    poke(g, 0x2000, CODE(0x43, EOI, 0xcf));
    /* LVTT = 0x40, one-shot; TDCR = 1; TMICT = 20,000,000; sti; hlt; out 0x10,al */
    start_real(g, 0, 0x1000,
               CODE(0x67, 0x66, 0xc7, 0x05, 0x20, 0x03, 0xe0, 0xfe, 0x40, 0, 0, 0, 0x67, 0x66, 0xc7, 0x05, 0xe0, 0x03, 0xe0, 0xfe,
                    0x0b, 0, 0, 0, 0x67, 0x66, 0xc7, 0x05, 0x80, 0x03, 0xe0, 0xfe, 0x00, 0x2d, 0x31, 0x01, 0xfb, 0xf4, 0xe6, 0x10));
    guest_enable_lapic(g, 0);
    uint64_t start = now_ns();
    RUN(g, 0, KVM_EXIT_IO);
    uint64_t took = now_ns() - start;
    CHECK_EQ(guest_regs(g, 0).rbx, 1);
    CHECK(took >= 19000000 && took < 120 * NS_PER_S); /* 20 ms on a 1 GHz bus */
}

/* The PIT through the PIC and LINT0: what a board wakes up with. */
static void pit_through_pic(void)
{
    struct guest *g = guest_new(1, GUEST_IRQCHIP | GUEST_PIT | GUEST_CPUID);
    memcpy(g->ram + 4 * 0x20, &(uint32_t){0x2000}, 4);
    poke(g, 0x2000, CODE(0x43, 0xb0, 0x20, 0xe6, 0x20, 0xcf)); /* inc bx; PIC EOI; iret */
    /* PIC: icw1 0x11, icw2 0x20, icw3 4, icw4 1, mask 0xfe; PIT: 0x34, 0x4000 (13.7 ms); sti; 3 x hlt; out 0x10,al */
    start_real(g, 0, 0x1000,
               CODE(0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21, 0xb0, 0xfe,
                    0xe6, 0x21, 0xb0, 0x34, 0xe6, 0x43, 0xb0, 0x00, 0xe6, 0x40, 0xb0, 0x40, 0xe6, 0x40, 0xfb, 0xf4, 0xf4, 0xf4,
                    0xe6, 0x10));
    virtual_wire(g);
    uint64_t start = now_ns();
    RUN(g, 0, KVM_EXIT_IO);
    uint64_t took = now_ns() - start;
    CHECK(guest_regs(g, 0).rbx >= 3); /* ticks that were late come one right after the other */
    CHECK(took >= 27000000 && took < 120 * NS_PER_S);
}

/* KVM_IRQ_LINE through IOAPIC and PIC. */
static void irq_line(void)
{
    struct guest *g = guest_new(1, GUEST_IRQCHIP | GUEST_CPUID);
    memcpy(g->ram + 4 * 0x35, &(uint32_t){0x2000}, 4);
    poke(g, 0x2000, CODE(0x43, EOI, 0xcf));
    start_real(g, 0, 0x1000, CODE(0xfb, 0xf4, 0xe6, 0x10, 0xeb, 0xfc)); /* sti; hlt; again: out 0x10,al; jmp again */
    guest_enable_lapic(g, 0);
    struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_IOAPIC};
    OK(g->vm, KVM_GET_IRQCHIP, &c);
    c.chip.ioapic.redirtbl[10].bits = 0x35;
    OK(g->vm, KVM_SET_IRQCHIP, &c);
    for (unsigned i = 1; i <= 3; i++) {
        struct kvm_irq_level up = {.irq = 10, .level = 1}, down = {.irq = 10};
        OK(g->vm, KVM_IRQ_LINE_STATUS, &up);
        CHECK(up.status > 0); /* IOAPIC and PIC both take it */
        OK(g->vm, KVM_IRQ_LINE, &down);
        RUN(g, 0, KVM_EXIT_IO);
        CHECK_EQ(guest_regs(g, 0).rbx, i);
    }
}

/* Split chip: ExtINT from user space's PIC, with its window, and the EOI exit for user space's IOAPIC. */
static void split_external(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    memcpy(g->ram + 4 * 0x28, &(uint32_t){0x2000}, 4);
    poke(g, 0x2000, CODE(0x43, 0xcf));
    start_real(g, 0, 0x1000, CODE(0xe6, 0x10, 0xfb, 0x90, 0x90, 0xe6, 0x11, 0xf4));
    virtual_wire(g);
    RUN(g, 0, KVM_EXIT_IO);
    CHECK_EQ(g->run[0]->ready_for_interrupt_injection, 0);
    struct kvm_interrupt irq = {0x28};
    OK(g->vcpu[0], KVM_INTERRUPT, &irq);
    RUN(g, 0, KVM_EXIT_IO);
    CHECK_EQ(g->run[0]->io.port, 0x11);
    CHECK_EQ(guest_regs(g, 0).rbx, 1);
    CHECK_EQ(g->run[0]->ready_for_interrupt_injection, 1);
}

static void split_eoi_exit(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry e[1];
    } r = {.head.nr = 1,
           .e = {{.gsi = 7, .type = KVM_IRQ_ROUTING_MSI, .u.msi = {.address_lo = 0xfee00000, .data = 0xc033}}}}; /* level, assert */
    OK(g->vm, KVM_SET_GSI_ROUTING, &r);
    memcpy(g->ram + 4 * 0x33, &(uint32_t){0x2000}, 4);
    poke(g, 0x2000, CODE(0x43, EOI, 0xcf));
    start_real(g, 0, 0x1000, CODE(0xfb, 0xf4, 0xe6, 0x10));
    guest_enable_lapic(g, 0);
    struct kvm_msi m = {.address_lo = 0xfee00000, .data = 0xc033};
    OK(g->vm, KVM_SIGNAL_MSI, &m);
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_IOAPIC_EOI);
    CHECK_EQ(run->eoi.vector, 0x33);
    RUN(g, 0, KVM_EXIT_IO);
}

/* BLOCKIRQ keeps interrupts away while a debugger steps. */
static void blockirq(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    memcpy(g->ram + 4 * 0x31, &(uint32_t){0x2000}, 4);
    poke(g, 0x2000, CODE(0x43, EOI, 0xcf));
    start_real(g, 0, 0x1000, CODE(0xfb, 0x90, 0x90, 0x90, 0xe6, 0x10));
    guest_enable_lapic(g, 0);
    msi(g, 0, 0x31);
    struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ};
    OK(g->vcpu[0], KVM_SET_GUEST_DEBUG, &d);
    for (unsigned i = 1; i <= 3; i++)
        CHECK_EQ(RUN(g, 0, KVM_EXIT_DEBUG)->debug.arch.pc, 0x1000 + i);
    d.control = 0;
    OK(g->vcpu[0], KVM_SET_GUEST_DEBUG, &d);
    RUN(g, 0, KVM_EXIT_IO);
    CHECK_EQ(guest_regs(g, 0).rbx, 1);
}

const struct test tests[] = {
    {"halt and wake", halt_and_wake, NULL},
    {"nmi wakes", nmi_wakes, NULL},
    {"priorities", priorities, EMULATED ": windows are not looked for between emulated instructions"},
    {"interrupt at an exit", interrupt_at_exit, NULL},
    {"init and sipi", init_sipi, NULL},
    {"uninitialized", uninitialized, NULL},
    {"lapic timer", lapic_timer, NULL},
    {"pit through pic", pit_through_pic, NULL},
    {"irq line", irq_line, NULL},
    {"split: external interrupt", split_external, EMULATED ": windows are not looked for between emulated instructions"},
    {"split: eoi exit", split_eoi_exit, EMULATED ": the exit comes some instructions later"},
    {"blockirq", blockirq, NULL},
    {NULL, NULL, NULL},
};
