// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * MOVS CMPS STOS LODS SCAS, with and without repeat prefixes.
 *
 * A repeated instruction is a loop of steps. Each step does one element in full (or, in bulk, several of them), then commits
 * pointers and counter; so a fault or an exit finds the state of SDM vol. 2, REP: everything before the element done, rip still at
 * the instruction. Between steps the loop looks for requests and, when there is one, leaves with rip unmoved; the run loop comes
 * back later.
 *
 * Bulk: with DF clear, flat addresses and plain RAM behind both pages, as many elements as fit into the pages run as the host's own
 * repeated instruction on host addresses; MOVS with DF set, too, by which memory is moved up onto itself. The same element size makes overlapping moves come out the same. Stores to code are told to the
 * translator a page at a time.
 */
#include "softkvm/x86/string_op.h"

/* How many elements from `la`, offset `off`, on lie in one page, going in DF's direction, without the offset wrapping. */
static uint64_t elements_here(const struct vcpu *v, const struct insn *i, uint64_t la, uint64_t off)
{
    unsigned size = i->ops[0].size;
    uint64_t in_page = la & (PAGE_SIZE - 1), above = (size_mask(i->addrsize) - off) / size, n;
    bool narrow = i->addrsize < 8;
    if (!(v->rflags & FL_DF)) {
        n = (PAGE_SIZE - in_page) / size;
        return narrow ? MIN(n, above) : n;
    }
    if (in_page + size > PAGE_SIZE || (narrow && !above))
        return 0;
    n = in_page / size + 1;
    return narrow ? MIN(n, off / size + 1) : n;
}

/* string_host_run(), in DF's direction: the first element is at run->host, and others are below it when DF is set. */
static uint64_t host_run(struct vcpu *v, const struct insn *i, int seg, enum reg r, enum mem_access acc, uint64_t count, struct host_run *run)
{
    unsigned size = i->ops[0].size;
    uint64_t off = reg_get(v, r, i->addrsize);
    if (v->code_mode != CODE64 && !v->seg[seg].flat)
        return 0;
    if (atomic_load_explicit(&v->requests, memory_order_relaxed) & REQ_STEP) /* each iteration traps */
        return 0;
    uint64_t la = v->code_mode == CODE64 && seg >= SEG_FS ? v->seg[seg].base + off : off;
    uint64_t n = elements_here(v, i, la, off);
    if (!n)
        return 0;
    run->host = mmu_host_fast(v, la, size, acc, v->mmu_idx);
    run->code = MMU_NO_CODE;
    if (!run->host && !(run->host = mmu_host_run(v, la, acc, v->mmu_idx, seg, &run->code)))
        return 0;
    return MIN(n, count);
}

uint64_t string_host_run(struct vcpu *v, const struct insn *i, int seg, enum reg r, enum mem_access acc, uint64_t count, struct host_run *run)
{
    return v->rflags & FL_DF ? 0 : host_run(v, i, seg, r, acc, count, run);
}

/* One run of steps; true when it has to go on later, at the same rip. */
static bool repeat_steps(struct vcpu *v, const struct insn *i, step_fn *step, struct step *s)
{
    for (;;) {
        uint64_t count = reg_get(v, RCX, i->addrsize);
        if (count == 0)
            return false;
        *s = step(v, i, count);
        count -= s->done;
        reg_set(v, RCX, i->addrsize, count);
        if (count == 0 || s->end)
            return false;
        insn_retire_iteration(v);
        if (unlikely(cpu_interrupted(v)))
            return true;
    }
}

/*
 * With 32-bit addresses in 64-bit code, the counter's upper half is cleared before anything else, even when the count is zero or the first element
 * faults; MOVS and STOS treat their pointers alike. So do Intel's processors.
 */
static void narrow_registers(struct vcpu *v, const struct insn *i)
{
    if (i->mode != CODE64 || i->addrsize != 4)
        return;
    v->gpr[RCX] = (uint32_t)v->gpr[RCX];
    if (i->op == OP_movs || i->op == OP_stos)
        v->gpr[RDI] = (uint32_t)v->gpr[RDI];
    if (i->op == OP_movs)
        v->gpr[RSI] = (uint32_t)v->gpr[RSI];
}

void string_repeat(struct vcpu *v, const struct insn *i, step_fn *step)
{
    struct step s = {0};
    bool suspended = false;
    if (insn_has(i, PFX_REP | PFX_REPNE)) {
        narrow_registers(v, i);
        suspended = repeat_steps(v, i, step, &s);
    } else {
        s = step(v, i, 1);
    }
    if (s.compared)
        flags_put(v, s.ax);
    if (suspended) {
        v->rflags |= FL_RF; /* SDM vol. 3, 18.3.1.1: a code breakpoint is not met again when the instruction goes on */
        cpu_jump(v, v->insn_rip);
    }
}

/* ---- MOVS ---- */
#define ASM_REP_MOVS(sfx, m, unused)      __asm__ volatile("rep movs" sfx : "+D"(d), "+S"(s), "+c"(n) : : "memory")
#define ASM_REP_MOVS_DOWN(sfx, m, unused) __asm__ volatile("std\n\trep movs" sfx "\n\tcld" : "+D"(d), "+S"(s), "+c"(n) : : "memory")
#define ASM_REP_STOS(sfx, m, unused) __asm__ volatile("rep stos" sfx : "+D"(d), "+c"(n) : "a"(v->gpr[RAX]) : "memory")

static struct step movs_step(struct vcpu *v, const struct insn *i, uint64_t count)
{
    unsigned size = i->ops[0].size;
    bool down = v->rflags & FL_DF;
    struct host_run from, to;
    uint64_t n = host_run(v, i, i->seg, RSI, MEM_R, count, &from);
    if (n && (n = host_run(v, i, SEG_ES, RDI, MEM_W, n, &to))) {
        uint64_t done = n;
        void *s = from.host, *d = to.host;
        if (down)
            BY_SIZE(size, ASM_REP_MOVS_DOWN, 0);
        else
            BY_SIZE(size, ASM_REP_MOVS, 0);
        if (down && to.code != MMU_NO_CODE)
            to.code -= (done - 1) * size;
        string_stored(v, &to, done * size);
        string_advance(v, i, RSI, done);
        string_advance(v, i, RDI, done);
        return (struct step){.done = done};
    }
    string_write(v, i, mem_read(v, i->seg, reg_get(v, RSI, i->addrsize), size));
    string_advance(v, i, RSI, 1);
    string_advance(v, i, RDI, 1);
    return (struct step){.done = 1};
}

void op_movs(struct vcpu *v, const struct insn *i)
{
    string_repeat(v, i, movs_step);
}

/* ---- STOS ---- */
static struct step stos_step(struct vcpu *v, const struct insn *i, uint64_t count)
{
    unsigned size = i->ops[0].size;
    struct host_run to;
    uint64_t n = string_host_run(v, i, SEG_ES, RDI, MEM_W, count, &to);
    if (n) {
        uint64_t done = n;
        void *d = to.host;
        BY_SIZE(size, ASM_REP_STOS, 0);
        string_stored(v, &to, done * size);
        string_advance(v, i, RDI, done);
        return (struct step){.done = done};
    }
    string_write(v, i, v->gpr[RAX]);
    string_advance(v, i, RDI, 1);
    return (struct step){.done = 1};
}

void op_stos(struct vcpu *v, const struct insn *i)
{
    string_repeat(v, i, stos_step);
}

/* ---- LODS ---- */
static struct step lods_step(struct vcpu *v, const struct insn *i, uint64_t count)
{
    unsigned size = i->ops[0].size;
    struct host_run from;
    uint64_t n = string_host_run(v, i, i->seg, RSI, MEM_R, count, &from);
    if (n) { /* of the elements in a run only the last one shows */
        reg_set(v, RAX, size, guest_load((const uint8_t *)from.host + (n - 1) * size, size));
        string_advance(v, i, RSI, n);
        return (struct step){.done = n};
    }
    uint64_t val = mem_read(v, i->seg, reg_get(v, RSI, i->addrsize), size);
    reg_set(v, RAX, size, val);
    string_advance(v, i, RSI, 1);
    return (struct step){.done = 1};
}

void op_lods(struct vcpu *v, const struct insn *i)
{
    string_repeat(v, i, lods_step);
}

/* ---- SCAS and CMPS: REPE goes on while ZF is set, REPNE while it is clear ---- */
#define ASM_COMPARE(sfx, m, unused) \
    __asm__("cmp" sfx " %" m "[b], %" m "[a]" ASM_FLAGS_SAVE : "=&a"(f) : [a] "r"(a), [b] "r"(b) : "cc")
#define ASM_REP_SCAS(sfx, m, prefix) \
    __asm__ volatile(prefix " scas" sfx ASM_FLAGS_SAVE : "+D"(d), "+c"(n), "=a"(f) : "2"(v->gpr[RAX]) : "cc", "memory")
#define ASM_REP_CMPS(sfx, m, prefix) \
    __asm__ volatile(prefix " cmps" sfx ASM_FLAGS_SAVE : "+D"(d), "+S"(s), "+c"(n), "=&a"(f) : : "cc", "memory")

static struct step compared(const struct insn *i, uint64_t done, uint64_t ax)
{
    bool equal = flags_from_ax((uint32_t)ax) & FL_ZF;
    return (struct step){.done = done, .end = equal == insn_has(i, PFX_REPNE), .compared = true, .ax = (uint32_t)ax};
}

static uint64_t compare(unsigned size, uint64_t a, uint64_t b)
{
    uint64_t f;
    BY_SIZE(size, ASM_COMPARE, 0);
    return f;
}

static struct step scas_step(struct vcpu *v, const struct insn *i, uint64_t count)
{
    unsigned size = i->ops[0].size;
    struct host_run at;
    uint64_t n = string_host_run(v, i, SEG_ES, RDI, MEM_R, count, &at), f;
    if (n > 1) {
        uint64_t all = n;
        void *d = at.host;
        if (insn_has(i, PFX_REPNE))
            BY_SIZE(size, ASM_REP_SCAS, "repne");
        else
            BY_SIZE(size, ASM_REP_SCAS, "repe");
        string_advance(v, i, RDI, all - n);
        return compared(i, all - n, f);
    }
    f = compare(size, v->gpr[RAX], mem_read(v, SEG_ES, reg_get(v, RDI, i->addrsize), size));
    string_advance(v, i, RDI, 1);
    return compared(i, 1, f);
}

void op_scas(struct vcpu *v, const struct insn *i)
{
    string_repeat(v, i, scas_step);
}

static struct step cmps_step(struct vcpu *v, const struct insn *i, uint64_t count)
{
    unsigned size = i->ops[0].size;
    struct host_run first, second;
    bool repeated = insn_has(i, PFX_REP | PFX_REPNE);
    uint64_t n = repeated ? string_host_run(v, i, i->seg, RSI, MEM_R, count, &first) : 0, f;
    if (n > 1 && (n = string_host_run(v, i, SEG_ES, RDI, MEM_R, n, &second)) > 1) {
        uint64_t all = n;
        void *s = first.host, *d = second.host;
        if (insn_has(i, PFX_REPNE))
            BY_SIZE(size, ASM_REP_CMPS, "repne");
        else
            BY_SIZE(size, ASM_REP_CMPS, "repe");
        string_advance(v, i, RSI, all - n);
        string_advance(v, i, RDI, all - n);
        return compared(i, all - n, f);
    }
    uint64_t a, b;
    if (repeated) {
        a = mem_read(v, i->seg, reg_get(v, RSI, i->addrsize), size);
        b = mem_read(v, SEG_ES, reg_get(v, RDI, i->addrsize), size);
    } else { /* the other way round: it shows when both fault */
        b = mem_read(v, SEG_ES, reg_get(v, RDI, i->addrsize), size);
        a = mem_read(v, i->seg, reg_get(v, RSI, i->addrsize), size);
    }
    f = compare(size, a, b);
    string_advance(v, i, RSI, 1);
    string_advance(v, i, RDI, 1);
    return compared(i, 1, f);
}

void op_cmps(struct vcpu *v, const struct insn *i)
{
    string_repeat(v, i, cmps_step);
}
