// SPDX-License-Identifier: GPL-2.0-or-later
/* What the differential test against the host cannot see, of instructions: single step, modes other than 64-bit, and what behaves
 * by privilege. */
#include <stdio.h>
#include <string.h>

#include "../devices/check.h"
#include "flat.h"
#include "softkvm/api/api.h"

/* ---- shadow, single step ---- */

static void test_sti_shadow(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    FLAT_CODE_BYTES(&f, 0xfb, 0x90, 0x90); /* sti; nop; nop */
    f.v->ev.waiting = true;                /* an interrupt waits for its window */
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
    FLAT_CODE_BYTES(&f, 0x9d, 0x90, 0x90); /* popf; nop; nop */
    f.v->gpr[RSP] = FLAT_STACK - 8;
    flat_write(&f, FLAT_STACK - 8, FL_ONE | FL_TF, 8);
    CHECK_EQ(cpu_run(f.v), STOP_HALT);
    CHECK_EQ((f.v->rip - 1 - FLAT_HANDLER) / 16, EXC_DB);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP], 8), FLAT_CODE + 2);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP] + 16, 8) & (FL_TF | FL_RF), FL_TF);
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
    FLAT_CODE_BYTES(&f, 0x8e, 0xd0, 0x90, 0x90); /* mov %eax, %ss; nop; nop */
    f.v->gpr[RAX] = FLAT_DS;
    f.v->gdt.limit = 0x2f;
    f.v->rflags |= FL_TF;
    cpu_request(f.v, REQ_STEP);
    run_to_halt(f.v);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP], 8), FLAT_CODE + 3);

    FLAT_CODE_BYTES(&f, 0xf3, 0xaa);
    f.v->gpr[RSP] = FLAT_STACK;
    f.v->gpr[RCX] = 5;
    f.v->gpr[RDI] = FLAT_DATA;
    f.v->rflags |= FL_TF;
    cpu_request(f.v, REQ_STEP);
    run_to_halt(f.v);
    CHECK_EQ(f.v->gpr[RCX], 4);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP], 8), FLAT_CODE);
    CHECK_EQ(flat_read(&f, f.v->gpr[RSP] + 16, 8) & FL_RF, FL_RF);
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
        FLAT_CODE_BYTES(f, 0x66, 0x9d);
    else
        FLAT_CODE_BYTES(f, 0x9d);
    v->gpr[RSP] = FLAT_STACK;
    flat_write(f, FLAT_STACK, image, size);
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
    FLAT_CODE_BYTES(&f, 0x9c); /* pushf with IOPL 3: as it is */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_read(&f, v->gpr[RSP], 2), FL_ONE | FL_IF | 3 << 12);
    v->rflags &= ~FL_IOPL;
    v->rflags |= FL_VIF;
    v->cr4 |= CR4_VME;
    FLAT_CODE_BYTES(&f, 0x9c); /* IOPL 0, VME: VIF in IF's place, IOPL 3 */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_read(&f, v->gpr[RSP], 2), FL_ONE | FL_IF | 3 << 12);
    FLAT_CODE_BYTES(&f, 0x9d);
    flat_write(&f, v->gpr[RSP], FL_CF | 3 << 12, 2); /* IF clear: clears VIF alone */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->rflags, FL_ONE | FL_VM | FL_IF | FL_CF);
    flat_free(&f);
}

static void test_enter_leave(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct vcpu *v = f.v;
    FLAT_CODE_BYTES(&f, 0xc8, 0x20, 0x00, 0x03, 0xc9); /* enter $32, $3; leave */
    v->gpr[RSP] = FLAT_STACK;
    v->gpr[RBP] = FLAT_STACK + 0x100;
    flat_write(&f, FLAT_STACK + 0xf8, 0x1111, 8);
    flat_write(&f, FLAT_STACK + 0xf0, 0x2222, 8);
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->gpr[RBP], FLAT_STACK - 8);
    CHECK_EQ(v->gpr[RSP], FLAT_STACK - 32 - 32);
    CHECK_EQ(flat_read(&f, FLAT_STACK - 8, 8), FLAT_STACK + 0x100);
    CHECK_EQ(flat_read(&f, FLAT_STACK - 16, 8), 0x1111);
    CHECK_EQ(flat_read(&f, FLAT_STACK - 24, 8), 0x2222);
    CHECK_EQ(flat_read(&f, FLAT_STACK - 32, 8), FLAT_STACK - 8);
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
    FLAT_CODE_BYTES(&f, 0x60, 0x61); /* pusha; popa */
    for (unsigned r = RAX; r <= RDI; r++)
        if (r != RSP)
            v->gpr[r] = 0x100 + r;
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(v->gpr[RSP], FLAT_STACK - 32);
    CHECK_EQ(flat_read(&f, FLAT_STACK - 4, 4), 0x100);
    CHECK_EQ(flat_read(&f, FLAT_STACK - 20, 4), FLAT_STACK);
    CHECK_EQ(flat_read(&f, FLAT_STACK - 32, 4), 0x107);
    for (unsigned n = 1; n <= 8; n++)
        flat_write(&f, FLAT_STACK - 4 * n, 0x200 + n, 4);
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
    FLAT_CODE_BYTES(&f, 0x48, 0xf7, 0xfb); /* idiv %rbx: INT64_MIN / -1 */
    v->gpr[RAX] = 1ull << 63;
    v->gpr[RDX] = ~0ull;
    v->gpr[RBX] = ~0ull;
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_exception(v), EXC_DE);
    CHECK_EQ(v->gpr[RAX], 1ull << 63);
    FLAT_CODE_BYTES(&f, 0x48, 0xf7, 0xfb); /* INT64_MIN / 1 fits */
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
    flat_write(&f, FLAT_DATA, (uint32_t)-5, 4);
    flat_write(&f, FLAT_DATA + 4, 10, 4);
    v->gpr[RBX] = FLAT_DATA;
    static const struct {
        int32_t index;
        int exception;
    } cases[] = {{-5, -1}, {10, -1}, {0, -1}, {-6, EXC_BR}, {11, EXC_BR}};
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        FLAT_CODE_BYTES(&f, 0x62, 0x03); /* bound %eax, (%ebx) */
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
    FLAT_CODE_BYTES(&f, 0xc4, 0xe2, 0x60, 0xf2, 0xc1); /* andn %ecx, %ebx, %eax */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_exception(v), EXC_UD);
    v->cr0 |= CR0_PE;
    cpu_update_mode(v);
    v->seg[SEG_CS].base = FLAT_CODE;
    FLAT_CODE_BYTES(&f, 0xc4, 0xe2, 0x60, 0xf2, 0xc1);
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
    flat_write(&f, at, 0x0000ffff, 4);
    FLAT_CODE_BYTES(&f, 0xf0, 0x01, 0x03); /* lock add %eax, (%rbx) */
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_read(&f, at, 4), 0x00020000);
    CHECK_EQ(v->exclusive, false);
    flat_unmap(&f, FLAT_DATA + 0x1000);
    FLAT_CODE_BYTES(&f, 0xf0, 0x01, 0x03);
    CHECK_EQ(cpu_step(v), STOP_NONE);
    CHECK_EQ(flat_exception(v), EXC_PF);
    CHECK_EQ(v->cr2, FLAT_DATA + 0x1000);
    CHECK_EQ(flat_read(&f, at, 4), 0x00020000);
    CHECK_EQ(v->exclusive, false);
    flat_free(&f);
}

/* CPL 3 with CR0.AM and RFLAGS.AC: also a read-modify-write within one page must be aligned. */
static void test_alignment_check(void)
{
    struct flat f;
    flat_init(&f, CODE64);
    struct vcpu *v = f.v;
    flat_write(&f, FLAT_TSS + 4, FLAT_STACK, 8);
    for (unsigned misaligned = 0; misaligned < 2; misaligned++) {
        v->cr0 |= CR0_AM;
        v->rflags |= FL_AC;
        v->cpl = 3;
        cpu_update_mode(v);
        v->gpr[RBX] = FLAT_DATA + misaligned;
        FLAT_CODE_BYTES(&f, 0xf0, 0xff, 0x03); /* lock incl (%rbx) */
        CHECK_EQ(cpu_step(v), STOP_NONE);
        CHECK_EQ(flat_exception(v), misaligned ? EXC_AC : -1);
        CHECK_EQ(flat_read(&f, FLAT_DATA, 8), 1);
    }
    flat_free(&f);
}

/* Results and all six flags as measured on an Intel processor, undefined ones too. Flags going in: CF and AF as given, OF SF ZF PF
 * set. */
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
    FLAT_CODE_BYTES(&f, 0xd4, 0x00); /* aam $0 */
    CHECK_EQ(cpu_step(f.v), STOP_NONE);
    CHECK_EQ(flat_exception(f.v), EXC_DE);
    flat_free(&f);
}

int main(void)
{
    test_sti_shadow();
    test_single_step();
    test_single_step_delays();
    test_popf();
    test_v86_flags();
    test_enter_leave();
    test_pusha_popa();
    test_divide_error();
    test_bound();
    test_vex_real_mode();
    test_split_lock();
    test_alignment_check();
    test_decimal();
    puts("interp-insn: 13 tests passed");
    return 0;
}
