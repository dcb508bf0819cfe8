// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * xlattest [--seed N] [--count N] [--reports N] [--evex]: the translator against the interpreter, over whole random programs (program.h).
 *
 * A program is interpreted once and translated twice (the second time it comes from the cache), from the same state and memory.
 * Registers, system registers and vector state at each stop must be equal, and so must memory at the end; arithmetic flags too,
 * unless a fault made the stop: the translator does not keep those that no instruction can read any more (bt.h). `--count` says how
 * many instructions they execute together. With `--evex` most of them are AVX-512's.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <Zydis/Zydis.h>

#include "guest.h"
#include "program.h"
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/cpu.h"

#define MEMORY_LIFE 256 /* programs */

uint64_t rng_state;
uint8_t *mem_template, *mem_host, *mem_guest;

/* What a run left of memory. */
struct memory {
    uint8_t scratch[SCRATCH_SIZE], kernel[PROG_KERNEL_SIZE];
};

/* A component that has its initial values may be told to be in use or not (SDM vol. 1, 13.6): a signal of the host makes it so. */
static bool same_xarea(const uint8_t *a, const uint8_t *b)
{
    return !memcmp(a, b, 512) && !memcmp(a + 520, b + 520, XAREA_SIZE - 520);
}

/* A triple fault: where one comes about depends on what the TLB still has of tables that are no more. Both engines must come to it.
 */
static bool wrecked(const struct stop *s)
{
    return s->how == HOW_OTHER && s->reason == STOP_TRIPLE;
}

static bool same_stop(const struct stop *x, const struct stop *y)
{
    const struct cpu_image *a = &x->cpu, *b = &y->cpu;
    if (wrecked(x) && wrecked(y))
        return true;
    uint64_t flags = x->how != HOW_EXCEPTION || a->vector == EXC_BP ? ~0ull : ~(uint64_t)FL_ARITH;
    return x->how == y->how && x->reason == y->reason && !memcmp(a->gpr, b->gpr, sizeof a->gpr) && a->rip == b->rip &&
           !((a->rflags ^ b->rflags) & flags) && a->vector == b->vector && a->error == b->error && a->cr2 == b->cr2 &&
           a->fs_base == b->fs_base && a->gs_base == b->gs_base && !memcmp(a->sel, b->sel, sizeof a->sel) &&
           !memcmp(&x->sys, &y->sys, sizeof x->sys) && same_xarea(a->xarea, b->xarea);
}

/* The first stop that differs, or -1; the number of stops counts as one more. */
static int first_difference(const struct outcome *a, const struct outcome *b)
{
    unsigned n = MIN(a->nstops, b->nstops);
    for (unsigned k = 0; k < n; k++)
        if (!same_stop(&a->stops[k], &b->stops[k]))
            return (int)k;
    return a->nstops == b->nstops ? -1 : (int)n;
}

static void save_memory(struct memory *m)
{
    memcpy(m->scratch, mem_guest, SCRATCH_SIZE);
    memcpy(m->kernel, prog_kernel, PROG_KERNEL_SIZE);
}

/* For a report. */
static void restore_memory(const struct memory *m)
{
    memcpy(mem_guest, m->scratch, SCRATCH_SIZE);
    memcpy(prog_kernel, m->kernel, PROG_KERNEL_SIZE);
}

static bool same_memory(const struct memory *m)
{
    if (memcmp(m->kernel, prog_kernel, 0xb000) || memcmp(m->kernel + 0xc000, prog_kernel + 0xc000, PROG_KERNEL_SIZE - 0xc000))
        return false;
    for (unsigned page = 0; page < SCRATCH_PAGES; page++)
        if (scratch_kind[page] != PAGE_HOLE && memcmp(m->scratch + page * PAGE_SIZE, mem_guest + page * PAGE_SIZE, PAGE_SIZE))
            return false;
    return true;
}

/* ---- reports ---- */

static void show_stop(const char *name, const struct stop *s)
{
    static const char *const regs[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                       "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    static const char *const how[] = {"exception", "HLT", "left with"};
    const struct cpu_image *c = &s->cpu;
    printf("  %s: %s %u error %#x cr2 %#" PRIx64 " cs %x rip %#" PRIx64 " rflags %#" PRIx64 "\n", name, how[s->how],
           s->how == HOW_EXCEPTION ? c->vector : s->reason, c->error, c->cr2, c->sel[S_CS], c->rip, c->rflags);
    for (unsigned r = 0; r < 16; r++)
        printf("    %-4s%016" PRIx64 "%s", regs[r], c->gpr[r], r % 4 == 3 ? "\n" : "");
}

static void show_program(const struct program *p)
{
    static const ZydisMachineMode modes[] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
                                             ZYDIS_MACHINE_MODE_LONG_64};
    ZydisDisassembledInstruction d;
    for (unsigned k = 0; k < p->nstarts; k++) {
        unsigned at = p->starts[k], len = (k + 1 < p->nstarts ? p->starts[k + 1] : p->len) - at;
        bool known = ZYAN_SUCCESS(ZydisDisassembleIntel(modes[p->mode], p->in.rip + at, p->code + at, len, &d));
        printf("    %" PRIx64 " ", p->in.rip + at);
        for (unsigned n = 0; n < len; n++)
            printf(" %02x", p->code[at + n]);
        printf("  %s\n", known ? d.text : "?");
    }
}

static void show_system(const struct sys_image *a, const struct sys_image *b)
{
    const uint64_t *x = (const void *)a, *y = (const void *)b;
    for (unsigned n = 0; n < sizeof *a / 8; n++)
        if (x[n] != y[n])
            printf("    word %u of struct sys_image: %#" PRIx64 ", %#" PRIx64 "\n", n, x[n], y[n]);
}

static void show_memory(const struct memory *m)
{
    unsigned shown = 0;
    for (unsigned n = 0; n < SCRATCH_SIZE && shown < 16; n++)
        if (m->scratch[n] != mem_guest[n] && ++shown)
            printf("    memory %#" PRIx64 ": %02x, %02x\n", (uint64_t)(SCRATCH_BASE + n), m->scratch[n], mem_guest[n]);
    for (unsigned n = 0; n < PROG_KERNEL_SIZE && shown < 16; n++)
        if (prog_kernel_compares(n) && m->kernel[n] != prog_kernel[n] && ++shown)
            printf("    kernel memory %#x: %02x, %02x\n", n, m->kernel[n], prog_kernel[n]);
}

static void report(const struct program *p, const struct outcome *interp, const struct outcome *bt, const struct memory *m,
                   bool again)
{
    int k = first_difference(interp, bt);
    printf("difference%s:\n", again ? " (second run)" : "");
    show_program(p);
    show_memory(m);
    if (k < 0)
        return;
    printf("  stop %d of %u interpreted and %u translated\n", k + 1, interp->nstops, bt->nstops);
    if (k > 0)
        show_stop("before", &interp->stops[k - 1]);
    else
        show_stop("before", &(struct stop){.cpu = p->in});
    if ((unsigned)k < interp->nstops)
        show_stop("interpreted", &interp->stops[k]);
    if ((unsigned)k < bt->nstops)
        show_stop("translated", &bt->stops[k]);
    if ((unsigned)k >= interp->nstops || (unsigned)k >= bt->nstops)
        return;
    show_system(&interp->stops[k].sys, &bt->stops[k].sys);
    for (unsigned n = 0; n < XAREA_SIZE; n++)
        if (interp->stops[k].cpu.xarea[n] != bt->stops[k].cpu.xarea[n])
            printf("    xsave byte %u: %02x, %02x\n", n, interp->stops[k].cpu.xarea[n], bt->stops[k].cpu.xarea[n]);
}

/* ---- all ---- */

static struct {
    uint64_t seed, programs, insns, stops, endless, unsteady, flags, stale, different;
} total;

/* A program that shows the time (a trap right behind RDTSC, say) does not even equal itself. */
static bool steady(const struct program *p, const struct outcome *before, const struct memory *m)
{
    static struct outcome o;
    progrun(p, false, &o);
    return first_difference(before, &o) < 0 && same_memory(m);
}

/* A store may turn an instruction further on in its block into one that reads flags, which the translator had taken for dead: docs/softkvm.md, "Two
 * engines". Is that all there is to it? */
static bool by_dead_flags(const struct program *p, const struct outcome *interp, const struct memory *m)
{
    static struct outcome o;
    progrun_exact_flags(true);
    progrun(p, true, &o);
    bool same = first_difference(interp, &o) < 0 && same_memory(m);
    progrun_exact_flags(false);
    return same;
}

/* Where a fault makes the run go on behind an INVLPG, the TLB may still have an entry that the tables have no more, or not. Do both engines agree when
 * it has none behind a stop? */
static bool by_stale_entries(const struct program *p)
{
    static struct outcome interp, bt;
    static struct memory m;
    progrun_flush_at_stops(true);
    progrun(p, false, &interp);
    save_memory(&m);
    progrun(p, true, &bt);
    bool same = first_difference(&interp, &bt) < 0 && same_memory(&m);
    progrun_flush_at_stops(false);
    return same;
}

static void test_program(const struct program *p, unsigned max_reports)
{
    static struct outcome interp, bt;
    static struct memory m;
    total.programs++;
    if (!progrun(p, false, &interp)) {
        total.endless++;
        return;
    }
    save_memory(&m);
    total.insns += interp.steps;
    total.stops += interp.nstops;
    for (unsigned again = 0; again < 2; again++) {
        progrun(p, true, &bt);
        if (first_difference(&interp, &bt) < 0 && (wrecked(&interp.stops[interp.nstops - 1]) || same_memory(&m)))
            continue;
        static struct memory wrong;
        save_memory(&wrong);
        if (!steady(p, &interp, &m)) {
            total.unsteady++;
            break;
        }
        if (by_dead_flags(p, &interp, &m)) {
            total.flags++;
            break;
        }
        if (by_stale_entries(p)) {
            total.stale++;
            break;
        }
        restore_memory(&wrong);
        if (total.different++ < max_reports)
            report(p, &interp, &bt, &m, again);
        break;
    }
}

static bool run_all(uint64_t count, unsigned max_reports)
{
    static struct program p;
    for (uint64_t n = 0; total.insns < count; n++) {
        if (n % MEMORY_LIFE == 0)
            state_random_memory();
        progen(&p);
        progrun_few_exits(n % 4 ? 0 : 3 + (unsigned)(n / 4 % 30)); /* most blocks must be cut short then */
        test_program(&p, max_reports);
    }
    printf("xlattest: %" PRIu64 " programs executed %" PRIu64 " instructions, %" PRIu64 " stops, %" PRIu64 " endless, %" PRIu64
           " unsteady, %" PRIu64 " by dead flags, %" PRIu64 " by stale entries, %" PRIu64 " different\n",
           total.programs, total.insns, total.stops, total.endless, total.unsteady, total.flags, total.stale, total.different);
    if (total.programs >= 100 && !progrun_cut()) {
        printf("xlattest: no block was cut short for want of exits\n");
        return false;
    }
    uint64_t excused = 10 + total.programs / 10000; /* several times what random seeds come to: about one program in 50,000 each */
    return !total.different && total.flags <= excused && total.stale <= excused && total.endless < total.programs / 8 &&
           total.unsteady <= 10 + total.programs / 1000;
}

/* Programs run in one address space. Does another one that is left before any of its code has run come back without that of the next? */
static bool spaces_apart(void)
{
    struct vcpu *v = guest_vcpu;
    bt_tlb_flush(v);
    bt_tlb_switch(v, 1, 2, false);
    bt_tlb_fill_code(v, &(struct bt_fill){.la = SCRATCH_BASE, .gpa = 0, .host = guest_ram, .ring = BT_USER, .shift = 12});
    bt_tlb_switch(v, 2, 1, true);
    bool apart = !bt_tlb_code(v, BT_USER, SCRATCH_BASE);
    bt_tlb_switch(v, 1, 2, true);
    bool back = bt_tlb_code(v, BT_USER, SCRATCH_BASE) == guest_ram;
    bt_tlb_flush(v);
    if (!apart || !back)
        printf("xlattest: an address space %s\n", apart ? "has lost its code" : "has another one's code");
    return apart && back;
}

/* Is a page of code that has been forgotten not known again when the tags of code have come round? */
static bool tags_apart(void)
{
    struct vcpu *v = guest_vcpu;
    struct bt_fill there = {.la = SCRATCH_BASE, .gpa = 0, .host = guest_ram, .shift = 12};
    bool apart = true;
    for (unsigned ring = 0; ring < BT_RINGS; ring++) {
        there.ring = (uint8_t)ring;
        bt_tlb_fill_code(v, &there);
        apart &= bt_tlb_code(v, ring, SCRATCH_BASE) == guest_ram;
        for (unsigned n = 0; n < 2 * PAGE_SIZE; n++) {
            bt_code_forget(v, ring);
            apart &= !bt_tlb_code(v, ring, SCRATCH_BASE);
        }
    }
    /* nor what another address space knew, when the one that has been left comes back with its tag */
    there.ring = BT_USER;
    uint64_t tag = v->bt.code_tag[BT_USER];
    bt_tlb_switch(v, 1, 2, false);
    for (unsigned n = 0; n < 2 * PAGE_SIZE && v->bt.code_tag[BT_USER] != tag; n++)
        bt_code_forget(v, BT_USER);
    bool round = v->bt.code_tag[BT_USER] == tag;
    bt_tlb_fill_code(v, &there);
    bt_tlb_switch(v, 2, 1, true);
    apart &= round && !bt_tlb_code(v, BT_USER, SCRATCH_BASE);
    bt_tlb_flush(v);
    if (!apart)
        printf("xlattest: code that was forgotten is known\n");
    return apart;
}

/* Does a flush take away where code runs from, however many pages that are, and at linear address 0 too? The last of them is known until then. */
static bool entered_forgotten(void)
{
    struct vcpu *v = guest_vcpu;
    const unsigned many = 2 * BT_ENTER_LOG + 1;
    bool known = true, gone = true;
    for (unsigned slot = 0; slot < many; slot++) {
        uint64_t la = (many - 1 - slot) * (uint64_t)PAGE_SIZE;
        bt_enter_set(v, BT_USER, slot, la);
        known &= v->bt.where[BT_USER][slot] == la && v->bt.entered[BT_USER].count <= BT_ENTER_LOG;
    }
    bt_tlb_flush(v);
    for (unsigned slot = 0; slot < many; slot++)
        gone &= v->bt.where[BT_USER][slot] == BT_NOWHERE;
    if (!known || !gone)
        printf("xlattest: where code runs from %s\n", known ? "outlives a flush" : "is not known");
    return known && gone;
}

static void say_where(void)
{
    fprintf(stderr, "xlattest: in program %" PRIu64 " of seed %#" PRIx64 "\n", total.programs, total.seed);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"seed", 1, NULL, 's'}, {"count", 1, NULL, 'c'}, {"reports", 1, NULL, 'r'}, {"evex", 0, NULL, 'e'}, {NULL, 0, NULL, 0}};
    uint64_t count = 20000000;
    unsigned reports = 3;
    bool evex = false;
    rng_state = now_ns();
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) >= 0;) {
        if (c == 's')
            rng_state = strtoull(optarg, NULL, 0);
        else if (c == 'c')
            count = strtoull(optarg, NULL, 0);
        else if (c == 'r')
            reports = (unsigned)strtoul(optarg, NULL, 0);
        else if (c == 'e')
            evex = true;
        else
            return 2;
    }
    total.seed = rng_state;
    progwatch_crashes(say_where);
    setvbuf(stdout, NULL, _IOLBF, 0);
    int status = progrun_start("xlattest");
    if (status)
        return status;
    if (evex)
        progen_evex();
    printf("xlattest: seed %#" PRIx64 "\n", rng_state);
    return spaces_apart() && tags_apart() && entered_forgotten() && run_all(count, reports) ? 0 : 1;
}
