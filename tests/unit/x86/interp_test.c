// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the differential test against the host cannot see: restarts, interruptions, faults in the middle, self-modifying code,
 * single step, modes other than 64-bit, and instructions that behave by privilege.
 */
#include <stdio.h>
#include <string.h>

#include "flat.h"
#include "softkvm/api/api.h"

static unsigned checks, failures;
static const char *test_name;

static void check_failed(const char *what, uint64_t got, uint64_t want, int line)
{
    failures++;
    printf("%s, line %d: %s is %#lx, not %#lx\n", test_name, line, what, got, want);
}

#define CHECK_EQ(got, want)                                        \
    do {                                                           \
        uint64_t got_ = (uint64_t)(got), want_ = (uint64_t)(want); \
        checks++;                                                  \
        if (got_ != want_)                                         \
            check_failed(#got, got_, want_, __LINE__);             \
    } while (0)

#define CODE_BYTES(f, ...) flat_code((f), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static uint64_t ram_read(const struct flat *f, uint64_t gpa, unsigned size)
{
    uint64_t val = 0;
    memcpy(&val, f->ram + gpa, size);
    return val;
}

static void ram_write(struct flat *f, uint64_t gpa, uint64_t val, unsigned size)
{
    memcpy(f->ram + gpa, &val, size);
}

static void unmap(struct flat *f, uint64_t la)
{
    *flat_pte(f, la) &= ~1ull;
    mmu_flush_all(f->v);
}

static void map(struct flat *f, uint64_t la, uint64_t gpa)
{
    *flat_pte(f, la) = gpa | 7;
    mmu_flush_all(f->v);
}

/* ---- strings ---- */

static void test_string_overlap(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    CODE_BYTES(&f, 0xf3, 0xa4); /* rep movsb */
    memcpy(f.ram + FLAT_DATA + 0xff0, "abcdefgh", 8);
    f.v->gpr[RSI] = FLAT_DATA + 0xff0;
    f.v->gpr[RDI] = FLAT_DATA + 0xff3;
    f.v->gpr[RCX] = 30;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(memcmp(f.ram + FLAT_DATA + 0xff0, "abcabcabcabcabcabcabcabcabcabcabc", 33), 0);
    CHECK_EQ(f.v->gpr[RCX], 0);
    CHECK_EQ(f.v->gpr[RDI], FLAT_DATA + 0xff3 + 30);
    CHECK_EQ(f.v->rip, FLAT_CODE + 2);
    flat_free(&f);
}

static void test_string_backward(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    CODE_BYTES(&f, 0xf3, 0xa5); /* rep movsd */
    for (unsigned n = 0; n < 8; n++)
        ram_write(&f, FLAT_DATA + 4 * n, n + 1, 4);
    f.v->rflags |= FL_DF;
    f.v->gpr[RSI] = FLAT_DATA + 28;
    f.v->gpr[RDI] = FLAT_DATA + 32;
    f.v->gpr[RCX] = 8;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    for (unsigned n = 0; n < 8; n++)
        CHECK_EQ(ram_read(&f, FLAT_DATA + 4 + 4 * n, 4), n + 1);
    CHECK_EQ(f.v->gpr[RSI], FLAT_DATA - 4);
    flat_free(&f);
}

/* A request that arrives before the end suspends the instruction; RF is set so that its breakpoint is not met again. */
static void test_string_suspended(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    CODE_BYTES(&f, 0xf3, 0xaa); /* rep stosb */
    f.v->gpr[RAX] = 0x5a;
    f.v->gpr[RDI] = FLAT_DATA + 0x100;
    f.v->gpr[RCX] = 0x3000;
    ram_write(&f, FLAT_DATA + 0x100, 0, 1);
    cpu_request(f.v, REQ_EVENT);
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, FLAT_CODE);
    CHECK_EQ(f.v->gpr[RCX] > 0 && f.v->gpr[RCX] < 0x3000, true);
    CHECK_EQ(f.v->gpr[RCX] + f.v->gpr[RDI], FLAT_DATA + 0x3100);
    CHECK_EQ(f.v->rflags & FL_RF, FL_RF);
    f.v->requests = 0;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, FLAT_CODE + 2);
    CHECK_EQ(f.v->rflags & FL_RF, 0);
    CHECK_EQ(ram_read(&f, FLAT_DATA + 0x30ff, 1), 0x5a);
    CHECK_EQ(ram_read(&f, FLAT_DATA + 0x3100, 1), 0);
    flat_free(&f);
}

/* A run of LODS leaves the element in front of the one that faults in AL, and goes on there. */
static void test_string_load(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    CODE_BYTES(&f, 0xf3, 0xac); /* rep lodsb */
    ram_write(&f, FLAT_DATA + 0x1fff, 0x42, 1);
    unmap(&f, FLAT_DATA + 0x2000);
    f.v->gpr[RAX] = 0x1100;
    f.v->gpr[RSI] = FLAT_DATA + 0xf80;
    f.v->gpr[RCX] = 0x2000;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_PF);
    CHECK_EQ(f.v->cr2, FLAT_DATA + 0x2000);
    CHECK_EQ(f.v->gpr[RCX], 0x2000 - 0x1080);
    CHECK_EQ(f.v->gpr[RSI], FLAT_DATA + 0x2000);
    CHECK_EQ(f.v->gpr[RAX], 0x1142);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP] + 8, 8), FLAT_CODE);
    flat_free(&f);
}

static void test_string_fault(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    CODE_BYTES(&f, 0xf3, 0xa6); /* repe cmpsb */
    unmap(&f, FLAT_DATA + 0x2000);
    f.v->rflags |= FL_CF | FL_SF;
    f.v->gpr[RSI] = FLAT_DATA + 0x1f00;
    f.v->gpr[RDI] = FLAT_DATA;
    f.v->gpr[RCX] = 0x200;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_PF);
    CHECK_EQ(f.v->cr2, FLAT_DATA + 0x2000);
    CHECK_EQ(f.v->gpr[RCX], 0x100);
    CHECK_EQ(f.v->gpr[RDI], FLAT_DATA + 0x100);
    /* The frame, upwards from rsp: error code, RIP, CS, RFLAGS. Flags are those from before the instruction, with RF. */
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP] + 8, 8), FLAT_CODE);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP] + 24, 8), FL_ONE | FL_CF | FL_SF | FL_RF);
    flat_free(&f);
}

static void test_string_16bit_wrap(void)
{
    struct flat f;
    flat_init(&f, CODE16);
    CODE_BYTES(&f, 0xf3, 0xaa); /* rep stosb */
    f.v->gpr[RAX] = 0x77;
    f.v->gpr[RDI] = 0x1234fffe;
    f.v->gpr[RCX] = 0xabcd0004;
    f.v->seg[SEG_ES].base = 0x20000;
    seg_fixup(f.v, SEG_ES);
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(ram_read(&f, 0x2fffe, 2), 0x7777);
    CHECK_EQ(ram_read(&f, 0x20000, 4), 0x7777);
    CHECK_EQ(f.v->gpr[RDI], 0x12340002);
    CHECK_EQ(f.v->gpr[RCX], 0xabcd0000);
    flat_free(&f);
}

/* ---- user space: MMIO and ports ---- */

#define MMIO (FLAT_RAM + 0x1000) /* behind RAM */

static void map_mmio(struct flat *f, uint64_t la)
{
    map(f, la, MMIO);
}

/* A read-modify-write on MMIO is one read exit and one write exit, and the instruction takes effect once. */
static void test_mmio_restart(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct kvm_run *run = f.v->run;
    map_mmio(&f, FLAT_DATA);
    CODE_BYTES(&f, 0x01, 0x03); /* add %eax, (%rbx) */
    f.v->gpr[RAX] = 5;
    f.v->gpr[RBX] = FLAT_DATA + 8;
    f.v->rflags |= FL_CF;
    CHECK_EQ(cpu_step(f.v), STOP_EXIT);
    CHECK_EQ(run->exit_reason, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.is_write, 0);
    CHECK_EQ(run->mmio.phys_addr, MMIO + 8);
    CHECK_EQ(f.v->rip, FLAT_CODE);
    uint32_t val = 0xfffffffe;
    memcpy(run->mmio.data, &val, 4);
    exits_complete(f.v);
    CHECK_EQ(cpu_step(f.v), STOP_EXIT);
    CHECK_EQ(run->mmio.is_write, 1);
    memcpy(&val, run->mmio.data, 4);
    CHECK_EQ(val, 3);
    CHECK_EQ(f.v->rflags, FL_ONE | FL_CF);
    exits_complete(f.v);
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, FLAT_CODE + 2);
    CHECK_EQ(f.v->rflags & FL_ARITH, FL_CF | FL_PF | FL_AF);
    CHECK_EQ(f.v->io_done, 0);
    flat_free(&f);
}

/* Each element of a repeated instruction is an access of its own, and a finished one is never made again. */
static void test_mmio_string(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct kvm_run *run = f.v->run;
    map_mmio(&f, FLAT_DATA);
    CODE_BYTES(&f, 0xf3, 0xa5, 0xf4); /* rep movsd; hlt */
    f.v->gpr[RSI] = FLAT_DATA;
    f.v->gpr[RDI] = FLAT_DATA + 0x1000;
    f.v->gpr[RCX] = 3;
    for (unsigned n = 0; n < 3; n++) {
        CHECK_EQ(cpu_run(f.v), STOP_EXIT);
        CHECK_EQ(run->mmio.phys_addr, MMIO + 4 * n);
        CHECK_EQ(f.v->gpr[RCX], 3 - n);
        uint32_t val = 100 + n;
        memcpy(run->mmio.data, &val, 4);
        exits_complete(f.v);
    }
    CHECK_EQ(cpu_run(f.v), STOP_HALT);
    CHECK_EQ(ram_read(&f, FLAT_DATA + 0x1000, 4), 100);
    CHECK_EQ(ram_read(&f, FLAT_DATA + 0x1008, 4), 102);
    flat_free(&f);
}

/* What has been asked for before the exit is granted only once the instruction is complete; but then before the next one. */
static void test_mmio_then_request(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    map_mmio(&f, FLAT_DATA);
    CODE_BYTES(&f, 0x8b, 0x03, 0x90); /* mov (%rbx), %eax; nop */
    f.v->gpr[RBX] = FLAT_DATA;
    CHECK_EQ(cpu_run(f.v), STOP_EXIT);
    memset(((struct kvm_run *)f.v->run)->mmio.data, 0x11, 4);
    exits_complete(f.v);
    cpu_request(f.v, REQ_EXIT);
    CHECK_EQ(cpu_run(f.v), STOP_REQUEST);
    CHECK_EQ(f.v->gpr[RAX], 0x11111111);
    CHECK_EQ(f.v->rip, FLAT_CODE + 2);
    flat_free(&f);
}

static void test_ports_permission(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct vcpu *v = f.v;
    v->cpl = 3;
    cpu_update_mode(v);
    ram_write(&f, FLAT_TSS + 102, 0x68, 2);
    v->seg[SEG_TR].limit = 0x68 + 0x20;
    memset(f.ram + FLAT_TSS + 0x68, 0xff, 0x21);
    ram_write(&f, FLAT_TSS + 0x68 + 0x80 / 8, 0xfffe, 2); /* port 0x80 alone is open */
    ram_write(&f, FLAT_TSS + 4, FLAT_STACK, 8);           /* RSP0 for the handler */
    CODE_BYTES(&f, 0xe6, 0x80);                           /* out %al, $0x80 */
    CHECK_EQ(cpu_step(v), STOP_EXIT);
    CHECK_EQ(v->run->exit_reason, KVM_EXIT_IO);
    CHECK_EQ(v->run->io.port, 0x80);
    exits_complete(v);
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->rip, FLAT_CODE + 2);
    CODE_BYTES(&f, 0x66, 0xe7, 0x80); /* outw: port 0x81 is closed */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_exception(v), EXC_GP);
    v->cpl = 3;
    cpu_update_mode(v);
    v->rflags |= FL_IOPL;
    CODE_BYTES(&f, 0x66, 0xe7, 0x80);
    CHECK_EQ(cpu_step(v), STOP_EXIT);
    CHECK_EQ(v->run->io.size, 2);
    exits_drop(v);
    v->rflags &= ~FL_IOPL;
    CODE_BYTES(&f, 0x66, 0xba, 0x07, 0x01,
               0xee); /* mov $0x107, %dx; out: its bitmap byte is the last, whose successor must be within the limit */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_exception(v), EXC_GP);
    flat_free(&f);
}

/* ---- code ---- */

static void test_self_modifying(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    /* mov $imm, %eax; incb imm; add %eax, %ecx; dec %edx; jnz: sums 0 + 1 + ... + 99 only when each store is seen */
    CODE_BYTES(&f, 0xb8, 0, 0, 0, 0, 0xfe, 0x05, 0xf6, 0xff, 0xff, 0xff, 0x01, 0xc1, 0xff, 0xca, 0x75, 0xef, 0xf4);
    f.v->gpr[RCX] = 0;
    f.v->gpr[RDX] = 100;
    CHECK_EQ(cpu_run(f.v), STOP_HALT);
    CHECK_EQ(f.v->gpr[RCX], 4950);
    flat_free(&f);
}

/* The same linear address, other bytes by remapping. */
static void test_remapped_code(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    f.ram[FLAT_DATA] = 0xf4;
    f.ram[FLAT_CODE] = 0x90;
    f.ram[FLAT_CODE + 1] = 0xf4;
    CHECK_EQ(cpu_run(f.v), STOP_HALT);
    CHECK_EQ(f.v->rip, FLAT_CODE + 2);
    map(&f, FLAT_CODE, FLAT_DATA);
    f.v->rip = FLAT_CODE;
    CHECK_EQ(cpu_run(f.v), STOP_HALT);
    CHECK_EQ(f.v->rip, FLAT_CODE + 1);
    flat_free(&f);
}

static void test_page_crossing_code(void)
{
    static const uint8_t mov[] = {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}; /* movabs $0x0807060504030201, %rax */
    struct flat f;
    flat_init(&f, CODE64);
    uint64_t at = FLAT_CODE + 0x1000 - 5;
    memcpy(f.ram + at, mov, sizeof(mov));
    f.ram[at + sizeof(mov)] = 0xf4;
    unmap(&f, FLAT_CODE + 0x1000);
    f.v->rip = at;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_PF);
    CHECK_EQ(f.v->cr2, FLAT_CODE + 0x1000);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP], 8), 0x10); /* instruction fetch */
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP] + 8, 8), at);
    map(&f, FLAT_CODE + 0x1000, FLAT_CODE + 0x1000);
    for (unsigned n = 0; n < 3; n++) { /* decoded, from the cache, from the cache after a change in the second page */
        f.ram[FLAT_CODE + 0x1000] = (uint8_t)(0x40 + n / 2);
        f.v->rip = at;
        CHECK_EQ(cpu_run(f.v), STOP_HALT);
        CHECK_EQ(f.v->gpr[RAX], 0x0807060500030201ull | (uint64_t)(0x40 + n / 2) << 24);
        unmap(&f, FLAT_CODE + 0x1000);
        map(&f, FLAT_CODE + 0x1000, FLAT_CODE + 0x1000);
    }
    /* A one-byte instruction in the last byte does not touch the next page, whatever the cache holds for this address. */
    unmap(&f, FLAT_CODE + 0x1000);
    memset(f.ram + at, 0x90, 5);
    f.v->rip = at;
    for (unsigned n = 0; n < 5; n++)
        CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, FLAT_CODE + 0x1000);
    CHECK_EQ(flat_exception(f.v), -1);
    flat_free(&f);
}

static void test_length_limit(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    uint8_t code[16];
    memset(code, 0x66, sizeof(code));
    code[14] = 0x90;
    flat_code(&f, code, sizeof(code));
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, FLAT_CODE + 15);
    code[14] = 0x66;
    code[15] = 0x90;
    flat_code(&f, code, sizeof(code));
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_GP);
    flat_free(&f);
}

static void test_code_limit(void)
{
    struct flat f;
    flat_init(&f, CODE32);
    f.v->seg[SEG_CS].limit = FLAT_CODE + 3;
    CODE_BYTES(&f, 0x90, 0xb8, 1, 0, 0, 0); /* nop; mov $1, %eax: reaches beyond the limit */
    f.v->gpr[RAX] = 7;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    /* Frame: error code, EIP. */
    CHECK_EQ(flat_exception(f.v), EXC_GP);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP] + 4, 4), FLAT_CODE + 1);
    CHECK_EQ(f.v->gpr[RAX], 7);
    f.v->seg[SEG_CS].limit = FLAT_CODE + 3;
    CODE_BYTES(&f, 0xeb, 0x02); /* jmp to the first byte beyond */
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_GP);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP] + 4, 4), FLAT_CODE);
    flat_free(&f);
}

static void test_ip_wrap(void)
{
    struct flat f;
    flat_init(&f, CODE16);
    f.v->rip = 0xfff0;
    f.ram[FLAT_CODE + 0xfff0] = 0xeb; /* jmp +0x20: to 0x0012 */
    f.ram[FLAT_CODE + 0xfff1] = 0x20;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, 0x12);
    f.v->rip = 0xfff0;
    f.v->gpr[RSP] = 0x12340000;
    f.ram[FLAT_CODE + 0xfff0] = 0xe8; /* call +0x40 */
    f.ram[FLAT_CODE + 0xfff1] = 0x40;
    f.ram[FLAT_CODE + 0xfff2] = 0;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(f.v->rip, 0x33);
    CHECK_EQ(f.v->gpr[RSP], 0x1234fffe);
    CHECK_EQ(ram_read(&f, 0xfffe, 2), 0xfff3);
    flat_free(&f);
}

static void test_non_canonical_branch(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    CODE_BYTES(&f, 0xff, 0xe0); /* jmp *%rax */
    f.v->gpr[RAX] = 1ull << 47;
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_GP);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP] + 8, 8), FLAT_CODE);
    uint64_t sp = f.v->gpr[RSP];
    CODE_BYTES(&f, 0xc3); /* ret: pops nothing when it faults */
    ram_write(&f, sp, 1ull << 63, 8);
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_GP);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP] + 32, 8), sp);
    flat_free(&f);
}

/* ---- shadow, single step ---- */

static void test_sti_shadow(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    CODE_BYTES(&f, 0xfb, 0x90, 0x90); /* sti; nop; nop */
    f.v->ev.waiting = true; /* an interrupt waits for its window */
    CHECK_EQ(cpu_run(f.v), STOP_REQUEST);
    CHECK_EQ(f.v->rip, FLAT_CODE + 1);
    CHECK_EQ(f.v->int_shadow, KVM_X86_SHADOW_INT_STI);
    CHECK_EQ(event_intr_open(f.v), false);
    atomic_fetch_and(&f.v->requests, ~(uint32_t)REQ_EVENT);
    CHECK_EQ(cpu_run(f.v), STOP_REQUEST);
    CHECK_EQ(f.v->rip, FLAT_CODE + 2);
    CHECK_EQ(f.v->requests & REQ_EVENT, REQ_EVENT);
    CHECK_EQ(event_intr_open(f.v), true);
    flat_free(&f);
}

/* POPF that sets TF is not itself stepped over; the next instruction is. */
static void test_single_step(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    CODE_BYTES(&f, 0x9d, 0x90, 0x90); /* popf; nop; nop */
    f.v->gpr[RSP] = FLAT_STACK - 8;
    ram_write(&f, FLAT_STACK - 8, FL_ONE | FL_TF, 8);
    CHECK_EQ(cpu_run(f.v), STOP_HALT);
    CHECK_EQ((f.v->rip - 1 - FLAT_HANDLER) / 16, EXC_DB);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP], 8), FLAT_CODE + 2);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP] + 16, 8) & (FL_TF | FL_RF), FL_TF);
    CHECK_EQ(f.v->dr[6] & 0x400f, 0x4000);
    CHECK_EQ(f.v->rflags & FL_TF, 0);
    flat_free(&f);
}

/* Runs until HLT; there are no events, so looking for them is over at once. */
static void run_to_halt(struct vcpu *v)
{
    enum cpu_stop stop;
    while ((stop = cpu_run(v)) == STOP_REQUEST && (v->requests & REQ_EVENT))
        atomic_fetch_and(&v->requests, ~(uint32_t)REQ_EVENT);
    CHECK_EQ(stop, STOP_HALT);
}

/* MOV SS delays the trap by one instruction; each iteration of a repeated instruction traps. */
static void test_single_step_delays(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    CODE_BYTES(&f, 0x8e, 0xd0, 0x90, 0x90); /* mov %eax, %ss; nop; nop */
    f.v->gpr[RAX] = FLAT_DS;
    f.v->gdt.limit = 0x2f;
    f.v->rflags |= FL_TF;
    cpu_request(f.v, REQ_STEP);
    run_to_halt(f.v);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP], 8), FLAT_CODE + 3);

    CODE_BYTES(&f, 0xf3, 0xaa);
    f.v->gpr[RSP] = FLAT_STACK;
    f.v->gpr[RCX] = 5;
    f.v->gpr[RDI] = FLAT_DATA;
    f.v->rflags |= FL_TF;
    cpu_request(f.v, REQ_STEP);
    run_to_halt(f.v);
    CHECK_EQ(f.v->gpr[RCX], 4);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP], 8), FLAT_CODE);
    CHECK_EQ(ram_read(&f, f.v->gpr[RSP] + 16, 8) & FL_RF, FL_RF);
    flat_free(&f);
}

/* ---- flags and stack ---- */

static uint64_t popf_image(struct flat *f, unsigned cpl, unsigned iopl, uint64_t before, uint64_t image, unsigned size)
{
    struct vcpu *v = f->v;
    v->cpl = (uint8_t)cpl;
    v->rflags = before | (uint64_t)iopl << 12 | FL_ONE;
    cpu_update_mode(v);
    if (size == 2)
        CODE_BYTES(f, 0x66, 0x9d);
    else
        CODE_BYTES(f, 0x9d);
    v->gpr[RSP] = FLAT_STACK;
    ram_write(f, FLAT_STACK, image, size);
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->gpr[RSP], FLAT_STACK + size);
    v->requests = 0;
    return v->rflags;
}

static void test_popf(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    uint64_t all = 0xffffffff, low = FL_ARITH | FL_DF | FL_NT | FL_ONE;
    uint64_t wide = FL_AC | FL_ID;
    all &= ~FL_TF;
    CHECK_EQ(popf_image(&f, 0, 0, 0, all, 8), low | wide | FL_IF | FL_IOPL);
    CHECK_EQ(popf_image(&f, 0, 0, FL_RF | FL_VIP | FL_VIF, 0, 8), FL_ONE | FL_VIP | FL_VIF);
    CHECK_EQ(popf_image(&f, 0, 0, 0, all, 2), low | FL_IF | FL_IOPL);
    CHECK_EQ(popf_image(&f, 3, 3, 0, all, 8), low | wide | FL_IF | FL_IOPL);
    CHECK_EQ(popf_image(&f, 3, 3, FL_IF, 0, 8), FL_ONE | FL_IOPL);
    CHECK_EQ(popf_image(&f, 3, 0, FL_IF, 0, 8), FL_ONE | FL_IF);
    CHECK_EQ(popf_image(&f, 3, 0, 0, all, 8), low | wide);
    CHECK_EQ(popf_image(&f, 1, 1, 0, all, 8), low | wide | FL_IF | 1 << 12);
    flat_free(&f);
}

/* Virtual-8086 mode by hand: PUSHF and POPF with and without VME. */
static void test_v86_flags(void)
{
    struct flat f;
    flat_init(&f, CODE16);
    struct vcpu *v = f.v;
    v->cr0 |= CR0_PE;
    v->cpl = 3;
    v->rflags = FL_ONE | FL_VM | FL_IF | 3ull << 12;
    cpu_update_mode(v);
    CODE_BYTES(&f, 0x9c); /* pushf with IOPL 3: as it is */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(ram_read(&f, v->gpr[RSP], 2), FL_ONE | FL_IF | 3 << 12);
    v->rflags &= ~FL_IOPL;
    v->rflags |= FL_VIF;
    v->cr4 |= CR4_VME;
    CODE_BYTES(&f, 0x9c); /* IOPL 0, VME: VIF in IF's place, IOPL 3 */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(ram_read(&f, v->gpr[RSP], 2), FL_ONE | FL_IF | 3 << 12);
    CODE_BYTES(&f, 0x9d);
    ram_write(&f, v->gpr[RSP], FL_CF | 3 << 12, 2); /* IF clear: clears VIF alone */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->rflags, FL_ONE | FL_VM | FL_IF | FL_CF);
    flat_free(&f);
}

static void test_enter_leave(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct vcpu *v = f.v;
    CODE_BYTES(&f, 0xc8, 0x20, 0x00, 0x03, 0xc9); /* enter $32, $3; leave */
    v->gpr[RSP] = FLAT_STACK;
    v->gpr[RBP] = FLAT_STACK + 0x100;
    ram_write(&f, FLAT_STACK + 0xf8, 0x1111, 8);
    ram_write(&f, FLAT_STACK + 0xf0, 0x2222, 8);
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->gpr[RBP], FLAT_STACK - 8);
    CHECK_EQ(v->gpr[RSP], FLAT_STACK - 32 - 32);
    CHECK_EQ(ram_read(&f, FLAT_STACK - 8, 8), FLAT_STACK + 0x100);
    CHECK_EQ(ram_read(&f, FLAT_STACK - 16, 8), 0x1111);
    CHECK_EQ(ram_read(&f, FLAT_STACK - 24, 8), 0x2222);
    CHECK_EQ(ram_read(&f, FLAT_STACK - 32, 8), FLAT_STACK - 8);
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->gpr[RSP], FLAT_STACK);
    CHECK_EQ(v->gpr[RBP], FLAT_STACK + 0x100);
    flat_free(&f);
}

static void test_pusha_popa(void)
{
    struct flat f;
    flat_init(&f, CODE32);
    struct vcpu *v = f.v;
    CODE_BYTES(&f, 0x60, 0x61); /* pusha; popa */
    for (unsigned r = RAX; r <= RDI; r++)
        if (r != RSP)
            v->gpr[r] = 0x100 + r;
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->gpr[RSP], FLAT_STACK - 32);
    CHECK_EQ(ram_read(&f, FLAT_STACK - 4, 4), 0x100);
    CHECK_EQ(ram_read(&f, FLAT_STACK - 20, 4), FLAT_STACK);
    CHECK_EQ(ram_read(&f, FLAT_STACK - 32, 4), 0x107);
    for (unsigned n = 1; n <= 8; n++)
        ram_write(&f, FLAT_STACK - 4 * n, 0x200 + n, 4);
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->gpr[RAX], 0x201);
    CHECK_EQ(v->gpr[RSP], FLAT_STACK);
    CHECK_EQ(v->gpr[RDI], 0x208);
    flat_free(&f);
}

/* ---- the rest ---- */

static void test_divide_error(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct vcpu *v = f.v;
    CODE_BYTES(&f, 0x48, 0xf7, 0xfb); /* idiv %rbx: INT64_MIN / -1 */
    v->gpr[RAX] = 1ull << 63;
    v->gpr[RDX] = ~0ull;
    v->gpr[RBX] = ~0ull;
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_exception(v), EXC_DE);
    CHECK_EQ(v->gpr[RAX], 1ull << 63);
    CODE_BYTES(&f, 0x48, 0xf7, 0xfb); /* INT64_MIN / 1 fits */
    v->gpr[RBX] = 1;
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->rip, FLAT_CODE + 3);
    CHECK_EQ(v->gpr[RAX], 1ull << 63);
    CHECK_EQ(v->gpr[RDX], 0);
    flat_free(&f);
}

static void test_bound(void)
{
    struct flat f;
    flat_init(&f, CODE32);
    struct vcpu *v = f.v;
    ram_write(&f, FLAT_DATA, (uint32_t)-5, 4);
    ram_write(&f, FLAT_DATA + 4, 10, 4);
    v->gpr[RBX] = FLAT_DATA;
    static const struct {
        int32_t index;
        int exception;
    } cases[] = {{-5, -1}, {10, -1}, {0, -1}, {-6, EXC_BR}, {11, EXC_BR}};
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        CODE_BYTES(&f, 0x62, 0x03); /* bound %eax, (%ebx) */
        v->gpr[RAX] = (uint32_t)cases[n].index;
        CHECK_EQ(cpu_step(v), STOP_NONE);
        CHECK_EQ(flat_exception(v), cases[n].exception);
    }
    flat_free(&f);
}

/* VEX instructions do not exist in real mode, though 16-bit protected code has them. */
static void test_vex_real_mode(void)
{
    struct flat f;
    flat_init(&f, CODE16);
    struct vcpu *v = f.v;
    CODE_BYTES(&f, 0xc4, 0xe2, 0x60, 0xf2, 0xc1); /* andn %ecx, %ebx, %eax */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_exception(v), EXC_UD);
    v->cr0 |= CR0_PE;
    cpu_update_mode(v);
    v->seg[SEG_CS].base = FLAT_CODE;
    CODE_BYTES(&f, 0xc4, 0xe2, 0x60, 0xf2, 0xc1);
    v->gpr[RBX] = 0xff00;
    v->gpr[RCX] = 0x0ff0;
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->gpr[RAX], 0x00f0);
    flat_free(&f);
}

/* A locked operation whose operand crosses pages takes effect as a whole, or not at all when its second page faults. */
static void test_split_lock(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct vcpu *v = f.v;
    uint64_t at = FLAT_DATA + 0xffe;
    v->gpr[RBX] = at;
    v->gpr[RAX] = 0x00010001;
    ram_write(&f, at, 0x0000ffff, 4);
    CODE_BYTES(&f, 0xf0, 0x01, 0x03); /* lock add %eax, (%rbx) */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(ram_read(&f, at, 4), 0x00020000);
    CHECK_EQ(v->exclusive, false);
    unmap(&f, FLAT_DATA + 0x1000);
    CODE_BYTES(&f, 0xf0, 0x01, 0x03);
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_exception(v), EXC_PF);
    CHECK_EQ(v->cr2, FLAT_DATA + 0x1000);
    CHECK_EQ(ram_read(&f, at, 4), 0x00020000);
    CHECK_EQ(v->exclusive, false);
    flat_free(&f);
}

/* CPL 3 with CR0.AM and RFLAGS.AC: also a read-modify-write within one page must be aligned. */
static void test_alignment_check(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct vcpu *v = f.v;
    ram_write(&f, FLAT_TSS + 4, FLAT_STACK, 8);
    for (unsigned misaligned = 0; misaligned < 2; misaligned++) {
        v->cr0 |= CR0_AM;
        v->rflags |= FL_AC;
        v->cpl = 3;
        cpu_update_mode(v);
        v->gpr[RBX] = FLAT_DATA + misaligned;
        CODE_BYTES(&f, 0xf0, 0xff, 0x03); /* lock incl (%rbx) */
        CHECK_EQ(cpu_step(v), STOP_NONE);
        CHECK_EQ(flat_exception(v), misaligned ? EXC_AC : -1);
        CHECK_EQ(ram_read(&f, FLAT_DATA, 8), 1);
    }
    flat_free(&f);
}

/* Results and all six flags as measured on an Intel processor, undefined ones too. Flags going in: CF and AF as given, OF SF ZF PF set. */
static void test_decimal(void)
{
    static const struct {
        uint8_t code[2];
        uint16_t ax, in, out_ax, out;
    } cases[] = {
        {{0x27}, 0x9a, 0, 0x00, FL_CF | FL_AF | FL_ZF | FL_PF},
        {{0x27}, 0x45, FL_CF | FL_AF, 0xab, FL_CF | FL_AF | FL_SF},
        {{0x2f}, 0x03, FL_AF, 0xfd, FL_CF | FL_AF | FL_SF},
        {{0x2f}, 0x9a, 0, 0x34, FL_CF | FL_AF},
        {{0x37}, 0x01fb, 0, 0x0301, FL_CF | FL_AF},
        {{0x3f}, 0x0105, FL_AF, 0xff0f, FL_CF | FL_AF | FL_PF},
        {{0xd4, 10}, 0x1263, 0, 0x0909, FL_PF},
        {{0xd5, 10}, 0x0128, 0, 0x0032, FL_AF},
        {{0xd5, 33}, 0x0172, 0, 0x0093, FL_OF | FL_SF | FL_PF},
    };
    struct flat f;
    flat_init(&f, CODE32);
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        flat_code(&f, cases[n].code, 2);
        f.v->gpr[RAX] = cases[n].ax;
        f.v->rflags = FL_ONE | FL_OF | FL_SF | FL_ZF | FL_PF | cases[n].in;
        CHECK_EQ(cpu_step(f.v), STOP_NONE);
        CHECK_EQ(f.v->gpr[RAX], cases[n].out_ax);
        CHECK_EQ(f.v->rflags & FL_ARITH, cases[n].out);
    }
    CODE_BYTES(&f, 0xd4, 0x00); /* aam $0 */
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_DE);
    flat_free(&f);
}

static const struct {
    const char *name;
    void (*fn)(void);
} tests[] = {
    {"string_overlap", test_string_overlap},
    {"string_backward", test_string_backward},
    {"string_suspended", test_string_suspended},
    {"string_load", test_string_load},
    {"string_fault", test_string_fault},
    {"string_16bit_wrap", test_string_16bit_wrap},
    {"mmio_restart", test_mmio_restart},
    {"mmio_string", test_mmio_string},
    {"mmio_then_request", test_mmio_then_request},
    {"ports_permission", test_ports_permission},
    {"self_modifying", test_self_modifying},
    {"remapped_code", test_remapped_code},
    {"page_crossing_code", test_page_crossing_code},
    {"length_limit", test_length_limit},
    {"code_limit", test_code_limit},
    {"ip_wrap", test_ip_wrap},
    {"non_canonical_branch", test_non_canonical_branch},
    {"sti_shadow", test_sti_shadow},
    {"single_step", test_single_step},
    {"single_step_delays", test_single_step_delays},
    {"popf", test_popf},
    {"v86_flags", test_v86_flags},
    {"enter_leave", test_enter_leave},
    {"pusha_popa", test_pusha_popa},
    {"divide_error", test_divide_error},
    {"bound", test_bound},
    {"vex_real_mode", test_vex_real_mode},
    {"split_lock", test_split_lock},
    {"alignment_check", test_alignment_check},
    {"decimal", test_decimal},
};

int main(void)
{
    for (unsigned n = 0; n < ARRAY_SIZE(tests); n++) {
        test_name = tests[n].name;
        tests[n].fn();
    }
    printf("interp: %u checks in %zu tests, %u failed\n", checks, ARRAY_SIZE(tests), failures);
    return failures != 0;
}
