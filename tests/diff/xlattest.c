// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * xlattest [--seed N] [--count N]: the translator against the interpreter, over whole random blocks.
 *
 * A block is a dozen random instructions from the generator of the differential test, with MOVs in front of those with memory operands that put their
 * addresses into the registers, with conditional jumps over some, calls, returns, pushes and pops. It is interpreted once and translated twice
 * (the second time it comes from the cache), from the same state and memory. Registers, vector state, memory, and how it ended must be equal; arithmetic
 * flags too, unless a fault ended it: the translator does not keep those that no instruction can read any more (bt.h).
 */
#include <Zydis/Zydis.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "diff.h"
#include "softkvm/x86/cpu.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_ops.h"

#define MAX_CODE   1024u
#define MAX_INSNS  12
#define ARITH_MASK FL_ARITH

uint64_t rng_state;
uint8_t *mem_template, *mem_host, *mem_guest;

struct block {
    uint8_t code[MAX_CODE];
    unsigned len, ninsns;
    struct cpu_image in;
};

static void add(struct block *b, const void *bytes, unsigned n)
{
    memcpy(b->code + b->len, bytes, n);
    b->len += n;
}

static void add_mov(struct block *b, unsigned reg, uint64_t val)
{
    uint8_t m[10] = {(uint8_t)(0x48 | reg >> 3), (uint8_t)(0xb8 | (reg & 7))};
    memcpy(m + 2, &val, 8);
    add(b, m, sizeof m);
}

/* An instruction of the row, with its address registers set as the generator wants them. */
static bool add_random(struct block *b, const uint16_t *rows, unsigned nrows)
{
    static struct test_case t;
    struct insn i;
    if (!gen_case(&t, rows[rng_below(nrows)], CODE64) || insn_decode(t.code, 16, CODE64, &i) != DECODE_OK)
        return false;
    if (b->ninsns == 0)
        b->in = t.in;
    for (unsigned n = 0; n < i.nops; n++) {
        if (i.ops[n].kind != OPK_MEM)
            continue;
        if (i.base < 16 && i.base != RSP)
            add_mov(b, i.base, t.in.gpr[i.base]);
        if (i.index < 16)
            add_mov(b, i.index, t.in.gpr[i.index]);
    }
    if (chance(15)) { /* a conditional jump over it */
        uint8_t jcc[2] = {(uint8_t)(0x70 | rng_below(16)), i.len};
        add(b, jcc, 2);
    }
    add(b, t.code, i.len);
    b->ninsns++;
    return true;
}

static void add_pattern(struct block *b)
{
    static const struct {
        uint8_t len, code[20];
    } patterns[] = {
        {6, {0xe8, 0, 0, 0, 0, 0x58}},                            /* call +0; pop rax */
        {2, {0x50, 0x59}},                                        /* push rax; pop rcx */
        {10, {0x48, 0x8d, 0x15, 2, 0, 0, 0, 0x52, 0xc3, 0x90}},   /* lea rdx, [rip+2]; push rdx; ret; nop */
        {10, {0x48, 0x8d, 0x1d, 2, 0, 0, 0, 0xff, 0xe3, 0x90}},   /* lea rbx, [rip+2]; jmp rbx; nop */
        {3, {0xeb, 1, 0x90}},                                     /* jmp +1; nop */
        {9, {0x55, 0x48, 0x89, 0xe5, 0x6a, 0x05, 0xc9, 0x90, 0x90}}, /* push rbp; mov rbp, rsp; push 5; leave */
        {3, {0x48, 0xff, 0xc0}},                                  /* inc rax */
        {9, {0x31, 0xc9, 0xb1, 3, 0xff, 0xc9, 0x75, 0xfc, 0x90}}, /* xor ecx, ecx; mov cl, 3; 1: dec ecx; jnz 1b */
        /* lea rdx, [rip+9]; mov [rsp-8], rdx; call [rsp-8], whose push overwrites it; nop */
        {17, {0x48, 0x8d, 0x15, 9, 0, 0, 0, 0x48, 0x89, 0x54, 0x24, 0xf8, 0xff, 0x54, 0x24, 0xf8, 0x90}},
        /* mov rdx, non-canonical; then jmp rdx; call rdx; push rdx and ret */
        {12, {0x48, 0xba, 0, 0, 0, 0, 0, 0x80, 0, 0, 0xff, 0xe2}},
        {12, {0x48, 0xba, 0, 0, 0, 0, 0, 0x80, 0, 0, 0xff, 0xd2}},
        {12, {0x48, 0xba, 1, 2, 3, 4, 5, 6, 7, 8, 0x52, 0xc3}},
    };
    const unsigned faulting = 3;
    unsigned n = (unsigned)rng_below(ARRAY_SIZE(patterns) - (chance(10) ? 0 : faulting));
    add(b, patterns[n].code, patterns[n].len);
}

/* Most blocks take from all rows; some from x87's alone, whose instructions leave more to each other than registers. */
static void make_block(struct block *b, const uint16_t *rows, unsigned nrows)
{
    static uint16_t x87[1024];
    static unsigned nx87;
    if (!nx87)
        for (unsigned n = 0; n < nrows; n++)
            if (isa_rows[rows[n]].feature == FEAT_X87)
                x87[nx87++] = rows[n];
    if (chance(15)) {
        rows = x87;
        nrows = nx87;
    }
    b->len = b->ninsns = 0;
    unsigned want = 1 + (unsigned)rng_below(MAX_INSNS);
    while (b->ninsns < want) {
        add_random(b, rows, nrows);
        if (b->ninsns && chance(25))
            add_pattern(b);
    }
    uint8_t int3 = 0xcc;
    add(b, &int3, 1);
    uint64_t code = SCRATCH_BASE + CODE_PAGE * PAGE_SIZE;
    b->in.rip = code + rng_below(chance(30) ? CODE_PAGES * PAGE_SIZE - b->len : PAGE_SIZE - b->len);
    b->in.rflags &= ~(uint64_t)(FL_TF | FL_AC);
}

static void restore_memory(void)
{
    memcpy(mem_guest, mem_template, SCRATCH_SIZE);
}

static void run(const struct block *b, bool translate, struct cpu_image *out, uint8_t *memory)
{
    restore_memory();
    memcpy(mem_guest + (b->in.rip - SCRATCH_BASE), b->code, b->len);
    guest_run_block(&b->in, translate, out);
    memcpy(memory, mem_guest, SCRATCH_SIZE);
}

/* A component that has its initial values may be told to be in use or not (SDM vol. 1, 13.6): a signal of the host makes it so. */
static bool same_xarea(const uint8_t *a, const uint8_t *b)
{
    return !memcmp(a, b, 512) && !memcmp(a + 520, b + 520, XAREA_SIZE - 520);
}

static bool same(const struct cpu_image *a, const struct cpu_image *b)
{
    uint64_t flags = a->vector == EXC_BP ? ~0ull : ~(uint64_t)ARITH_MASK;
    return !memcmp(a->gpr, b->gpr, sizeof a->gpr) && a->rip == b->rip && !((a->rflags ^ b->rflags) & flags) && a->vector == b->vector &&
           a->error == b->error && a->cr2 == b->cr2 && a->fs_base == b->fs_base && a->gs_base == b->gs_base && !memcmp(a->sel, b->sel, sizeof a->sel) &&
           same_xarea(a->xarea, b->xarea);
}

static void show_state(const char *name, const struct cpu_image *s)
{
    static const char *const regs[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
    printf("  %s: vector %u error %#x cr2 %#" PRIx64 " rip %#" PRIx64 " rflags %#" PRIx64 "\n", name, s->vector, s->error, s->cr2, s->rip, s->rflags);
    for (unsigned r = 0; r < 16; r++)
        printf("    %-4s%016" PRIx64 "%s", regs[r], s->gpr[r], r % 4 == 3 ? "\n" : "");
}

static void report(const struct block *b, const struct cpu_image *interp, const struct cpu_image *bt, const uint8_t *m1, const uint8_t *m2, bool again)
{
    ZydisDisassembledInstruction d;
    printf("difference%s:\n", again ? " (second run)" : "");
    for (unsigned at = 0; at < b->len && ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, b->in.rip + at, b->code + at, b->len - at, &d)); at += d.info.length)
        printf("    %" PRIx64 "  %s\n", b->in.rip + at, d.text);
    show_state("before", &b->in);
    show_state("interpreted", interp);
    show_state("translated", bt);
    for (unsigned n = 0; n < XAREA_SIZE; n++)
        if (interp->xarea[n] != bt->xarea[n])
            printf("    xsave byte %u: %02x, %02x\n", n, interp->xarea[n], bt->xarea[n]);
    for (unsigned n = 0, shown = 0; n < SCRATCH_SIZE && shown < 16; n++)
        if (m1[n] != m2[n] && ++shown)
            printf("    memory %#" PRIx64 ": %02x, %02x\n", (uint64_t)(SCRATCH_BASE + n), m1[n], m2[n]);
}

/* XRSTOR and the like may leave guests with a state that the next instruction depends on; all rows of user mode take part. */
static unsigned list_rows(uint16_t *rows)
{
    unsigned n = 0;
    for (unsigned r = 0; r < isa_row_count; r++) {
        const struct isa_row *row = &isa_rows[r];
        if (!not_covered(row) && host_has_feature(row->feature) && !(row->flags & (ISA_NO64 | ISA_BRANCH)))
            rows[n++] = (uint16_t)r;
    }
    return n;
}

static unsigned run_all(uint64_t count, unsigned max_reports)
{
    static uint16_t rows[4096];
    static struct block b;
    static struct cpu_image interp, bt;
    static uint8_t m1[SCRATCH_SIZE], m2[SCRATCH_SIZE];
    unsigned nrows = list_rows(rows), different = 0;
    uint64_t insns = 0, faults = 0;
    for (uint64_t n = 0; n < count; n++) {
        if (n % 256 == 0)
            state_random_memory();
        make_block(&b, rows, nrows);
        run(&b, false, &interp, m1);
        insns += b.ninsns;
        faults += interp.vector != EXC_BP;
        for (unsigned again = 0; again < 2; again++) {
            run(&b, true, &bt, m2);
            if (same(&interp, &bt) && !memcmp(m1, m2, SCRATCH_SIZE))
                continue;
            if (different++ < max_reports)
                report(&b, &interp, &bt, m1, m2, again);
            break;
        }
    }
    printf("xlattest: %" PRIu64 " blocks of %" PRIu64 " random instructions, %" PRIu64 " ended by a fault, %u different\n", count, insns, faults, different);
    return different;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"seed", 1, NULL, 's'}, {"count", 1, NULL, 'c'}, {"reports", 1, NULL, 'r'}, {NULL, 0, NULL, 0}};
    uint64_t count = 1600000;
    unsigned reports = 5;
    rng_state = now_ns();
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) >= 0;) {
        if (c == 's')
            rng_state = strtoull(optarg, NULL, 0);
        else if (c == 'c')
            count = strtoull(optarg, NULL, 0);
        else if (c == 'r')
            reports = (unsigned)strtoul(optarg, NULL, 0);
        else
            return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    mem_template = mmap(NULL, SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mem_host = mmap(NULL, SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem_template == MAP_FAILED || mem_host == MAP_FAILED || guest_init()) {
        perror("xlattest: cannot set up");
        return 1;
    }
    if (guest_translator()) {
        printf("xlattest: this host has no FSGSBASE or BMI2, so there is no translator\n");
        return 77;
    }
    printf("xlattest: seed %#" PRIx64 "\n", rng_state);
    return run_all(count, reports) ? 1 : 0;
}
