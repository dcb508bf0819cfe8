// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Lock-step: executes a block for show by both engines and compares. bt_check.h has the idea.
 *
 * A run for show begins with every page unwritable in the tables, as fills leave them while a vCPU checks. The interpreter's first
 * store to a page makes the copies (bt_check_page()) and lets the tables lead to its own; then the translator runs with the tables
 * leading to its copies. A store of translated code to any other page finds no entry and leaves for the interpreter, that is, for
 * bt_step(), which ends the run there.
 *
 * A branch by lookup is given an entry for the place where the interpreter has gone, with a thunk behind it that leaves.
 */
#include "softkvm/x86/bt_check.h"
#include "softkvm/x86/debug.h"
#include "softkvm/x86/interp.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_ops.h"
#include "softkvm/x86/mem.h"
#include "softkvm/x86/native.h"
#include "softkvm/x86/op.h"
#include "softkvm/x86/unwind.h"

#define TRIES       8
#define TRIES_ALONE 4 /* the last of them, with the other vCPUs held */
#define REP_PIECES  4096
#define NOT_THERE   (~0u)
enum { AREA_XMM = 160, AREA_BV = 512 }; /* in an XSAVE area: the XMM registers, XSTATE_BV */

bool bt_check_repeats(const struct insn *i)
{
    switch (i->op) {
    case OP_cli:
    case OP_sti:
    case OP_swapgs:
        return true;
    case OP_mov_cr:
        return i->ops[0].kind != OPK_CR || i->ops[0].reg == 2;
    case OP_iret:
    case OP_syscall:
    case OP_sysret:
        return false; /* they change the ring, and so the tables */
    default:
        return !(i->desc->flags & (ISA_PRIV | ISA_SENS));
    }
}

/* ---- state ---- */

static bool same_bytes(const void *a, const void *b, unsigned n)
{
    const uint64_t *x = a, *y = b;
    uint64_t differ = 0;
    for (unsigned k = 0; k < n / 8; k++)
        differ |= x[k] ^ y[k];
    return !differ;
}

static void save(struct vcpu *v, struct check_state *s)
{
    bytes_copy(s->gpr, v->gpr, sizeof s->gpr);
    bytes_copy(s->seg, v->seg, sizeof s->seg);
    s->rip = v->rip;
    s->rflags = v->rflags;
    s->cr2 = v->cr2;
    s->kernel_gs_base = v->msr.kernel_gs_base;
    s->cpl = v->cpl;
    s->int_shadow = v->int_shadow;
}

static void restore(struct vcpu *v, const struct check_state *s)
{
    bool mode = ((v->rflags ^ s->rflags) & (FL_TF | FL_AC | FL_VM)) || v->cpl != s->cpl;
    if (v->int_shadow != s->int_shadow)
        atomic_fetch_and(&v->requests, ~(uint32_t)REQ_SHADOW);
    bytes_copy(v->gpr, s->gpr, sizeof s->gpr);
    bytes_copy(v->seg, s->seg, sizeof s->seg);
    v->rip = v->insn_rip = s->rip;
    v->rflags = s->rflags;
    v->cr2 = s->cr2;
    v->msr.kernel_gs_base = s->kernel_gs_base;
    v->cpl = s->cpl;
    v->int_shadow = s->int_shadow;
    if (mode) {
        cpu_update_mode(v);
        debug_update(v);
    }
}

static void copy_fpu(struct fpu *to, const struct fpu *from)
{
    bytes_copy(to->area, from->area, CHECK_AREA);
    bytes_copy(&to->live, &from->live, sizeof *to - offsetof(struct fpu, live));
}

static void save_fpu(struct vcpu *v, struct check_fpu *f)
{
    if (!v->bt.check->native)
        return;
    fpu_put(v);
    copy_fpu(&f->fpu, &v->fpu);
    f->saved = true;
}

static void restore_fpu(struct vcpu *v, const struct check_fpu *f)
{
    if (!f->saved)
        return;
    fpu_put(v);
    copy_fpu(&v->fpu, &f->fpu);
}

/* ---- pages ---- */

static void lead_to(struct vcpu *v, struct check_page *p, const uint8_t *host)
{
    uint64_t *e = bt_entry(&v->bt, p->ring, bt_table_index(p->la));
    e[MEM_R] = e[MEM_W] = (uint64_t)(uintptr_t)host - p->la;
}

void bt_check_filled(struct vcpu *v)
{
    struct bt_check *c = v->bt.check;
    for (unsigned n = 0; n < c->npages; n++)
        lead_to(v, &c->pages[n], c->pages[n].copy[c->phase - CHECK_INTERP]);
}

uint8_t *bt_check_page(struct vcpu *v, unsigned ring, uint64_t la, uint8_t *host)
{
    struct bt_check *c = v->bt.check;
    if (ring >= BT_RINGS || c->npages == CHECK_PAGES)
        bt_check_cut(v);
    struct check_page *p = &c->pages[c->npages++];
    const uint64_t *e = bt_entry(&v->bt, ring, bt_table_index(la));
    p->la = la & PAGE_MASK;
    p->ring = (uint8_t)ring;
    p->host = host - (la & (PAGE_SIZE - 1));
    p->entry[MEM_R] = e[MEM_R];
    p->entry[MEM_W] = e[MEM_W];
    bytes_copy(p->before, p->host, PAGE_SIZE);
    for (unsigned run = 0; run < CHECK_RUNS; run++)
        bytes_copy(p->copy[run], p->before, PAGE_SIZE);
    uint8_t *copy = p->copy[c->phase - CHECK_INTERP];
    lead_to(v, p, copy);
    return copy + (la & (PAGE_SIZE - 1));
}

/* A run begins: all that is written so far goes to its copies, which are as the pages were. */
static void use_copies(struct vcpu *v, enum check_phase phase)
{
    struct bt_check *c = v->bt.check;
    for (unsigned n = 0; n < c->npages; n++) {
        uint8_t *copy = c->pages[n].copy[phase - CHECK_INTERP];
        bytes_copy(copy, c->pages[n].before, PAGE_SIZE);
        lead_to(v, &c->pages[n], copy);
    }
    c->phase = phase;
}

static void use_memory(struct vcpu *v)
{
    struct bt_check *c = v->bt.check;
    c->phase = CHECK_OFF;
    for (unsigned n = c->npages; n-- > 0;) {
        const struct check_page *p = &c->pages[n];
        bytes_copy(bt_entry(&v->bt, p->ring, bt_table_index(p->la)), p->entry, sizeof p->entry);
    }
}

/* ---- the interpreter's run ---- */

_Noreturn void bt_check_cut(struct vcpu *v)
{
    unwind_jump(v->unwind, UNWIND_FAULT);
}

static uint64_t address_of(const struct bt_check *c, unsigned k)
{
    return c->start + bt_insns(c->block)[k].at;
}

/* One instruction; a repeated one may take several pieces. */
static void step(struct vcpu *v, const struct insn *i)
{
    uint64_t rip = v->rip;
    unsigned pieces = 0;
    bool repeated = insn_has(i, PFX_REP | PFX_REPNE) && !(i->desc->flags & (ISA_BRANCH | ISA_NATIVE));
    do {
        interp_execute(v);
    } while (repeated && v->rip == rip && ++pieces < REP_PIECES);
}

static void interpret(struct vcpu *v, unsigned limit)
{
    struct bt_check *c = v->bt.check;
    const struct bt_block *b = c->block;
    while (c->count < limit && !bt_insns(b)[c->count].interp) {
        bytes_copy(c->gprs[c->count], v->gpr, sizeof v->gpr);
        c->cr2 = v->cr2;
        const struct insn *i = interp_peek(v);
        unsigned npages = c->npages;
        if ((i->desc->flags & ISA_NATIVE) && !c->native) {
            c->native = true;
            save_fpu(v, &c->fpu_before);
        }
        step(v, i);
        c->again |= c->npages != npages && i->op == OP_movs; /* its source may have been found before the page had a copy */
        c->rips[++c->count] = v->rip;
        if (c->count == b->ninsns || v->rip != address_of(c, c->count) || !bt_usable(v))
            break;
    }
}

/* Not inlined: unwind_set() returns twice. */
static __attribute__((noinline)) void show_interp(struct vcpu *v, unsigned limit)
{
    struct bt_check *c = v->bt.check;
    restore_fpu(v, &c->fpu_before);
    c->count = 0;
    c->again = false;
    c->rips[0] = v->rip;
    use_copies(v, CHECK_INTERP);
    if (!unwind_set(v->unwind)) {
        interpret(v, limit);
    } else {
        rmw_split_end(v);
        c->again = true; /* what the instruction has done before it faulted is not to be seen */
        v->cr2 = c->cr2;
    }
    c->phase = CHECK_OFF;
    v->rip_set = false;
    v->rip = c->rips[c->count];
    save(v, &c->interp);
    save_fpu(v, &c->fpu_interp);
    restore(v, &c->before);
}

/* ---- the translator's run ---- */

/* Where did the translated code leave to? Sets rip. */
static void harvest(struct vcpu *v, uint64_t target)
{
    struct bt_check *c = v->bt.check;
    const struct bt_link *link;
    switch ((enum bt_exit)v->bt.exit_kind) {
    case BT_EXIT_LINK:
        link = &bt_links(v->vm->bt->blocks[v->bt.exit_link >> 8])[v->bt.exit_link & 0xff];
        v->rip = v->bt.page + link->off;
        c->single = link->single;
        break;
    case BT_EXIT_GOTO:
        v->rip = v->bt.page + (uint64_t)(int64_t)v->bt.exit_off;
        break;
    case BT_EXIT_CHECK:
        v->rip = target;
        break;
    case BT_EXIT_STEP:
        c->step = v->bt.exit_insn & 0xff;
        v->rip = c->step < c->block->ninsns ? address_of(c, c->step) : ~0ull;
        break;
    }
}

static void show_bt(struct vcpu *v)
{
    struct bt_check *c = v->bt.check;
    struct bt *bt = v->vm->bt;
    uint64_t target = c->interp.rip;
    struct bt_jumps *jumps = &v->bt.jump[c->interp.cpl == 3 ? BT_USER : BT_KERNEL];
    uint64_t *entry = &jumps->e[bt_jump_first(target)].rip, old = entry[0], old_host = entry[1];
    restore_fpu(v, &c->fpu_before);
    entry[0] = target;
    entry[1] = (uint64_t)(uintptr_t)bt->rx + bt->thunk.exit_check;
    v->bt.page = v->bt.where[bt_ring(c->block->key)][c->block->slot] = v->rip & PAGE_MASK;
    c->step = NOT_THERE;
    c->single = false;
    use_copies(v, CHECK_BT);
    bt_run_code(v, bt->rx + c->block->code);
    c->phase = CHECK_OFF;
    entry[0] = old;
    entry[1] = old_host;
    harvest(v, target);
    save(v, &c->bt);
    save_fpu(v, &c->fpu_bt);
    restore(v, &c->before);
}

/* Has the translator left as the interpreter was after n instructions? In a block of several turns of a loop the address alone does not tell. */
static bool left_at(const struct bt_check *c, unsigned n)
{
    const uint64_t *gpr = n < c->count ? c->gprs[n] : c->interp.gpr;
    return c->rips[n] == c->bt.rip && same_bytes(gpr, c->bt.gpr, sizeof c->bt.gpr);
}

/* After how many instructions, by the interpreter's count, has the translator left? */
static unsigned executed(const struct bt_check *c)
{
    if (c->step != NOT_THERE)
        return c->step <= c->count ? c->step : NOT_THERE;
    for (unsigned n = c->count; n > 0; n--)
        if (left_at(c, n))
            return n;
    for (unsigned n = 0; c->single && n < c->count; n++) /* in front of an access, so a way round a loop does not count */
        if (c->rips[n] == c->bt.rip)
            return n;
    for (unsigned n = c->count; n > 0; n--)
        if (c->rips[n] == c->bt.rip)
            return n;
    return c->single && c->bt.rip == c->rips[0] ? 0 : NOT_THERE;
}

/* ---- comparing ---- */

static bool same_segments(const struct segment *a, const struct segment *b)
{
    bool same = true;
    for (unsigned n = 0; n < SEG_COUNT; n++)
        same &= a[n].base == b[n].base && a[n].limit == b[n].limit && a[n].sel == b[n].sel && a[n].attr == b[n].attr;
    return same;
}

/* The instruction that the translated code has left in front of. */
static bool next_insn(const struct bt_check *c, struct insn *i)
{
    const struct bt_block *b = c->block;
    return c->step != NOT_THERE &&
           insn_decode(bt_bytes(b) + bt_insns(b)[c->step].at, b->nbytes - bt_insns(b)[c->step].at, CODE64, i) == DECODE_OK;
}

/* Is that a vector or x87 instruction? The translated code may have tried it, and so have set status flags, or TOP for MMX. */
static bool tried_native(const struct bt_check *c)
{
    struct insn i;
    return c->step != NOT_THERE && !bt_insns(c->block)[c->step].interp && (!next_insn(c, &i) || (i.desc->flags & ISA_NATIVE));
}

/* XSTATE_BV may tell initial values for in use or not (SDM vol. 1, 13.6). */
static bool same_fpu(const struct bt_check *c)
{
    const uint8_t *a = c->fpu_interp.fpu.area, *b = c->fpu_bt.fpu.area;
    if (!c->native)
        return true;
    bool x87 = tried_native(c) || same_bytes(a, b, AREA_XMM);
    return x87 && same_bytes(a + AREA_XMM, b + AREA_XMM, AREA_BV - AREA_XMM) &&
           same_bytes(a + AREA_BV + 8, b + AREA_BV + 8, CHECK_AREA - AREA_BV - 8);
}

/* The translator does not keep flags that nothing can read any more; an exit in the middle of a block, or in front of what loads
 * them all, shows that (bt.h). */
static uint64_t flags_kept(const struct bt_check *c)
{
    struct insn i;
    bool exact = c->step == NOT_THERE ? !c->single : bt_insns(c->block)[c->step].interp;
    if (c->step != NOT_THERE && (!next_insn(c, &i) || i.op == OP_iret || i.op == OP_sysret || i.op == OP_popf))
        exact = false;
    return exact ? ~0ull : ~(uint64_t)FL_ARITH;
}

static const char *compare(const struct bt_check *c)
{
    const struct check_state *a = &c->interp, *b = &c->bt;
    if (a->rip != b->rip)
        return "rip";
    if (!same_bytes(a->gpr, b->gpr, sizeof a->gpr))
        return "general registers";
    if ((a->rflags ^ b->rflags) & flags_kept(c))
        return "flags";
    if (a->cr2 != b->cr2 || a->kernel_gs_base != b->kernel_gs_base || a->cpl != b->cpl || !same_segments(a->seg, b->seg))
        return "system registers";
    if (!same_fpu(c))
        return "vector or x87 state";
    for (unsigned n = 0; n < c->npages; n++)
        if (!same_bytes(c->pages[n].copy[0], c->pages[n].copy[1], PAGE_SIZE))
            return "memory";
    return NULL;
}

/*
 * The translator has left in front of instruction k, which the interpreter has executed. That is its right, but not for a store to
 * one page that it was given an entry for: then it has looked elsewhere.
 */
static bool shy_of_store(struct vcpu *v, unsigned k)
{
    struct bt_check *c = v->bt.check;
    struct insn i;
    if (insn_decode(bt_bytes(c->block) + bt_insns(c->block)[k].at, c->block->nbytes - bt_insns(c->block)[k].at, CODE64, &i) != DECODE_OK)
        return false;
    if (!i.nops || i.ops[0].kind != OPK_MEM || !(i.desc->opuse & ISA_OP_W) || !i.ops[0].size ||
        (i.desc->flags & (ISA_NATIVE | ISA_BRANCH)) || i.op != OP_mov)
        return false;
    bytes_copy(v->gpr, c->gprs[k], sizeof v->gpr);
    v->rip = address_of(c, k);
    uint64_t la = seg_linear(v, i.seg, insn_ea(v, &i), i.ops[0].size, MEM_W);
    restore(v, &c->before);
    bool given = false;
    for (unsigned n = 0; n < c->npages; n++)
        given |= c->pages[n].la == (la & PAGE_MASK);
    return given && i.addrsize == 8 && (la & (PAGE_SIZE - 1)) + i.ops[0].size <= PAGE_SIZE;
}

/* One try; NULL when the engines agree, after `*n` instructions. */
static const char *try(struct vcpu *v, unsigned *n)
{
    struct bt_check *c = v->bt.check;
    const char *what = "rip";
    c->npages = 0;
    c->native = c->fpu_before.saved = false;
    show_interp(v, c->block->ninsns);
    if (c->again)
        show_interp(v, c->count);
    unsigned all = c->count;
    show_bt(v);
    *n = executed(c);
    if (*n != NOT_THERE) {
        bool shy = c->step == *n && *n < all && shy_of_store(v, *n);
        if (*n != all)
            show_interp(v, *n);
        what = shy ? "left for a store that it could have made" : compare(c);
    }
    use_memory(v);
    restore_fpu(v, &c->fpu_before);
    return what;
}

/* ---- all ---- */

static _Noreturn void fail(struct vcpu *v, const char *what)
{
    v->bt.check->what = what;
    v->bt.check->failed = true;
    v->run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    v->run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
    v->run->internal.ndata = 0;
    cpu_exit(v, STOP_EXIT);
}

/* Returns how many instructions have been compared. */
static unsigned check(struct vcpu *v, const struct bt_block *b)
{
    struct bt_check *c = v->bt.check;
    uint64_t generation = v->vm->bt->generation;
    const char *what = "";
    unsigned n = 0;
    bool alone = false;
    c->block = b;
    c->start = v->rip;
    bytes_copy(c->unwind, v->unwind, sizeof c->unwind);
    save(v, &c->before);
    for (unsigned t = 0; t < TRIES && what; t++) {
        if (t == TRIES - TRIES_ALONE) {
            vm_exclusive_begin(v);
            alone = true;
        }
        if (generation != v->vm->bt->generation || b->dead)
            break;
        what = try(v, &n);
        bytes_copy(v->unwind, c->unwind, sizeof c->unwind);
        c->stats.races += what && t == 0;
    }
    bool differs = what && generation == v->vm->bt->generation && !b->dead;
    if (alone)
        vm_exclusive_end(v);
    if (differs)
        fail(v, what);
    c->stats.blocks++;
    c->stats.insns += n == NOT_THERE ? 0 : n;
    return n == NOT_THERE ? 0 : n;
}

static bool due(struct bt_check *c, struct bt_block *b)
{
    uint32_t n = b->entered++;
    return c->every == 1 || n < c->every || n % c->every == 0;
}

void bt_check_run(struct vcpu *v, struct bt_block *b)
{
    bool checks = v->code_mode == CODE64 && due(v->bt.check, b);
    unsigned n = checks ? check(v, b) : b->ninsns;
    do {
        interp_execute(v);
    } while (n-- > 1 && !cpu_interrupted(v) && bt_usable(v) && !(v->rflags & FL_RF));
}
