// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The translator's loop: find the block for rip, run until the code leaves, do what it left for.
 *
 * Everything that the interpreter's loop looks at before an instruction (requests, RF, a restarted instruction) is looked at here before a block is
 * entered; within translated code only the polls do.
 */
#include "softkvm/direct.h"
#include "softkvm/x86/bt_check.h"
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/debug.h"
#include "softkvm/x86/fpu.h"
#include "softkvm/x86/interp.h"
#include "softkvm/x86/mem.h"
#include "softkvm/x86/native.h"
#include "softkvm/x86/op.h"

#include <sys/mman.h>

#define TRIM_STEP (1u << 20)

static uint64_t read_gs(void)
{
    uint64_t base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

static void write_gs(uint64_t base)
{
    __asm__ volatile("wrgsbase %0" : : "r"(base));
}

/* ---- the mode ---- */

/* Ordinary data accesses, nothing watched. */
bool bt_usable(const struct vcpu *v)
{
    return v->mmu_idx == (v->cpl == 3 ? MMU_USER : MMU_KERNEL) && (v->cpl == 0 || v->cpl == 3) && !v->watch_active;
}

static uint32_t mode_key(const struct vcpu *v)
{
    uint32_t legacy = v->code_mode == CODE64 ? 0 : bt_legacy_key(v);
    uint32_t key = (v->cpl == 3 ? BT_KEY_USER : 0) | (v->cr4 & CR4_TSD ? BT_KEY_TSD : 0) | (v->cr4 & CR4_FSGSBASE ? BT_KEY_FSGSBASE : 0);
    key |= legacy | (v->has.rdtscp ? BT_KEY_RDTSCP : 0) | (v->cr4 & CR4_PKE ? BT_KEY_PKE : 0);
    if (v->cr0 & (CR0_EM | CR0_TS))
        return key;
    key |= BT_KEY_X87;
    if (!(v->cr4 & CR4_OSFXSR))
        return key;
    key |= BT_KEY_SSE;
    if ((v->cr4 & CR4_OSXSAVE) && (v->xcr0 & (XCR0_SSE | XCR0_AVX)) == (XCR0_SSE | XCR0_AVX))
        key |= BT_KEY_AVX;
    if ((key & BT_KEY_AVX) && v->code_mode == CODE64 && (v->xcr0 & XCR0_AVX512) == XCR0_AVX512)
        key |= BT_KEY_AVX512;
    return key;
}

static unsigned ring_of(const struct vcpu *v)
{
    return v->cpl == 3 ? BT_USER : BT_KERNEL;
}

static struct bt_mode mode_of(const struct vcpu *v, uint32_t key)
{
    bool long64 = v->code_mode == CODE64;
    return (struct bt_mode){key, long64 ? 0 : v->seg[SEG_CS].limit, long64 ? 0 : v->seg[SEG_CS].base};
}

/* Does `jump` hold what may run in the mode that the vCPU is in? */
static bool mode_same(const struct vcpu *v, uint32_t key)
{
    struct bt_mode now = mode_of(v, key);
    const struct bt_mode *known = &v->bt.mode[ring_of(v)];
    return now.key == known->key && now.cs_limit == known->cs_limit && now.cs_base == known->cs_base;
}

static void mode_enter(struct vcpu *v)
{
    uint32_t key = mode_key(v);
    if (unlikely(!mode_same(v, key))) {
        bt_jumps_clear(v, ring_of(v));
        bt_enter_none(v, ring_of(v));
        v->bt.mode[ring_of(v)] = mode_of(v, key);
    }
    v->bt.key = key;
}

/* Where translated code knows linear addresses, struct vcpu has offsets from CS's base. */
static uint64_t linear_rip(const struct vcpu *v)
{
    return v->code_mode == CODE64 ? v->rip : (uint32_t)(v->seg[SEG_CS].base + v->rip);
}
static void set_linear_rip(struct vcpu *v, uint64_t la)
{
    v->rip = v->code_mode == CODE64 ? la : (uint32_t)(la - v->seg[SEG_CS].base);
}

/* ---- finding blocks ---- */

static struct bt_xpage *code_page(struct vcpu *v, uint64_t rip)
{
    unsigned ring = ring_of(v);
    struct bt_xpage *x = bt_xpage_find(v, ring, rip);
    if (unlikely(!x)) {
        mmu_fetch_page(v, rip);
        x = bt_xpage_find(v, ring, rip);
    }
    if (x && unlikely(!x->verified)) {
        const struct memslot *slot = vm_slot(v->vm, x->gpa);
        if (slot && slot->alias)
            x->gpa = BT_GPA_MAX; /* stores at the other address would not be seen: interpreted */
        else
            bt_page_verify(v, x->gpa, x->host);
        x->verified = true;
    }
    return x;
}

/* What has been written is only executed from now on, or patched here and there: its writable mapping need not stay resident. From the start, since
 * links made meanwhile have brought pages back. */
static void trim_alias(struct bt *bt)
{
    uint32_t done = ALIGN_DOWN(bt->used, (uint32_t)TRIM_STEP);
    if (bt->trimmed > done)
        bt->trimmed = 0;
    if (done == bt->trimmed)
        return;
    bt_madvise(bt->rw, done, MADV_DONTNEED);
    bt->trimmed = done;
}

/* The next page, if the instruction at rip goes on there; may raise the fault of its fetch. */
static const uint8_t *next_page(struct vcpu *v, uint64_t rip)
{
    struct insn i;
    const struct bt_xpage *x = bt_xpage_find(v, ring_of(v), rip);
    unsigned at = rip & (PAGE_SIZE - 1);
    if (!x || v->code_mode != CODE64 || at <= PAGE_SIZE - INSN_MAX_LEN || insn_decode(x->host + at, PAGE_SIZE - at, CODE64, &i) != DECODE_MORE)
        return NULL;
    x = code_page(v, (rip & PAGE_MASK) + PAGE_SIZE);
    return x ? x->host : NULL;
}

static void note_max(_Atomic uint64_t *most, uint64_t x)
{
    uint64_t seen = atomic_load(most);
    while (x > seen && !atomic_compare_exchange_weak(most, &seen, x))
        ;
}

static void make_room(struct vcpu *v)
{
    struct bt *bt = v->vm->bt;
    uint64_t begin = __builtin_ia32_rdtsc(), cpu_begin = bt_cpu_time();
    vm_exclusive_begin(v);
    if (!bt_room(bt))
        bt_evict(v);
    vm_exclusive_end(v);
    note_max(&bt->hold_max, __builtin_ia32_rdtsc() - begin);
    note_max(&bt->hold_cpu_max, bt_cpu_time() - cpu_begin);
    bt_collapse(bt);
}

static struct bt_block *make_block(struct vcpu *v, uint64_t rip, uint64_t gpa, uint32_t key)
{
    struct bt *bt = v->vm->bt;
    struct bt_block *b = NULL;
    for (bool again = true; again;) {
        bt_page_protect(v, gpa);
        while (!bt_room(bt))
            make_room(v);
        const uint8_t *next = next_page(v, rip);
        const struct bt_xpage *x = bt_xpage_find(v, ring_of(v), rip);
        if (!x)
            return NULL; /* memslots have changed while we waited */
        unsigned at = gpa & (PAGE_SIZE - 1);
        bt_lock(bt);
        b = bt_hash_find(bt, gpa, key);
        again = !b && !bt_page_protected(v, gpa); /* a store may just have found the page without blocks */
        uint64_t begin = __builtin_ia32_rdtsc();
        if (!b && !again && (b = bt_translate(bt, gpa, x->host + at, PAGE_SIZE - at, next, key))) {
            v->bt.stats.translating += __builtin_ia32_rdtsc() - begin;
            bt_insert(bt, b);
            v->bt.stats.translated++;
            trim_alias(bt);
        }
        bt_unlock(bt);
    }
    return b;
}

/* The block at rip, or NULL when the instruction there has to be interpreted. May raise the guest's page fault. */
static struct bt_block *find(struct vcpu *v, uint64_t rip, uint32_t key)
{
    struct bt *bt = v->vm->bt;
    struct bt_xpage *x = code_page(v, rip);
    if (!x || x->gpa >= BT_GPA_MAX)
        return NULL;
    uint64_t gpa = x->gpa | (rip & (PAGE_SIZE - 1));
    v->bt.cold = bt_is_cold(bt, gpa, key); /* then there is hardly a block: none is looked for */
    if (v->bt.cold)
        return NULL;
    struct bt_block *b = bt_hash_find(bt, gpa, key);
    return b ? b : make_block(v, rip, gpa, key);
}

static const uint8_t *find_jump(struct vcpu *v, struct bt_block **block)
{
    uint64_t la = linear_rip(v);
    v->insn_rip = v->rip; /* of a fault of the fetch */
    struct bt_block *b = v->code_mode == CODE64 || bt_legacy_page(v, la) ? find(v, la, v->bt.key) : NULL;
    *block = b;
    if (!b)
        return NULL;
    const uint8_t *host = v->vm->bt->rx + b->code;
    v->bt.page = la & PAGE_MASK;
    bt_enter_set(v, ring_of(v), b->slot, v->bt.page);
    if (likely(!v->bt.check))
        bt_jumps_add(v, ring_of(v), la, host - b->entry);
    return host;
}

/* ---- running ---- */

static void prepare(struct vcpu *v)
{
    if (!FPU_EACH && (v->bt.key & BT_KEY_X87) && !v->fpu.live)
        fpu_get(v);
}

void bt_run_code(struct vcpu *v, const uint8_t *host)
{
    struct bt *bt = v->vm->bt;
    union {
        const uint8_t *code;
        bt_enter_fn *fn;
    } enter = {.code = bt->rx + bt->thunk.enter};
    prepare(v);
    v->bt.flags = flags_to_ax(v->rflags);
    enter.fn(v, host);
    flags_put(v, v->bt.flags);
}

/* The block of rip, if `jump` knows it, with nothing that has to be looked at before. */
static const uint8_t *known_jump(struct vcpu *v)
{
    uint64_t la = linear_rip(v);
    const uint8_t *host = bt_jumps_find(v, ring_of(v), la);
    if (!host || v->io_done)
        return NULL;
    v->rflags &= ~FL_RF;
    v->bt.share = la & PAGE_MASK;
    return host; /* all registers are in their homes: bt_flow.c's way in will do */
}

/* Sets the slot that instruction `i`, which has been interpreted, sets. False: there is no distance, or others in use may be wrong by now. */
static bool slots_resume(struct vcpu *v, const struct bt_insn *i, uint64_t revoked)
{
    struct bt_cpu *c = &v->bt;
    if (i->leads) {
        uint64_t distance = bt_entry(c, ring_of(v), bt_table_index(c->slot_address))[i->share & BT_SHARE_LEAD_W ? MEM_W : MEM_R];
        if (!distance)
            return false;
        c->slot[BT_SHARE_BASE(i->share) % BT_SLOTS] = distance;
    }
    return !i[1].slots || revoked == c->revoked;
}

/* Makes SHARE_REG what the place behind instruction `i`, which has been interpreted, wants. False: that cannot be. */
static bool share_resumes(struct vcpu *v, const struct bt_insn *i, uint64_t revoked)
{
    struct bt_cpu *c = &v->bt;
    if ((i[1].share & BT_SHARE_PART) == BT_SHARE_PART)
        return false;
    if (!(i[1].share & BT_SHARE_HELD)) {
        c->share = v->gpr[SHARE_REG];
        return true;
    }
    if (!i->leads && (i->share & (BT_SHARE_LEAD_R | BT_SHARE_LEAD_W))) {
        uint64_t distance = bt_entry(c, ring_of(v), bt_table_index(c->share))[i->share & BT_SHARE_LEAD_W ? MEM_W : MEM_R];
        unsigned base = BT_SHARE_BASE(i->share);
        c->share = distance + (!(i->share & BT_SHARE_ADD) ? 0 : base == SHARE_REG ? c->page : v->gpr[base]);
        return distance != 0;
    }
    return revoked == c->revoked;
}

/* One instruction by the interpreter; returns the place in translated code to go on at, if it is known. */
static const uint8_t *interpret_one(struct vcpu *v, uint32_t at)
{
    struct bt *bt = v->vm->bt;
    struct bt_block *b = bt->blocks[at >> 8];
    unsigned k = at & 0xff;
    uint64_t generation = bt->generation, flushes = v->bt.stats.flushes, page = v->bt.page;
    uint64_t start = page + (b->gpa & (PAGE_SIZE - 1));
    set_linear_rip(v, start + bt_insns(b)[k].at);
    const struct bt_xpage *x = bt_xpage_find(v, ring_of(v), page);
    if (x && v->fetch_page != page) { /* spares the interpreter the way there */
        v->fetch_page = page;
        v->fetch_host = x->host;
    }
    uint64_t revoked = v->bt.revoked;
    v->bt.stats.interps++;
    v->bt.stats.lookups += k + 1u >= b->ninsns;
    interp_execute(v);
    if (unlikely(cpu_interrupted(v) || !bt_usable(v)))
        return NULL;
    uint32_t key = mode_key(v);
    if (unlikely(!mode_same(v, key)))
        return NULL;
    bool same = generation == bt->generation && !b->dead && flushes == v->bt.stats.flushes && key == (b->key & ~(uint32_t)BT_KEY_SINGLE);
    const struct bt_insn *i = &bt_insns(b)[k];
    if (same && k + 1u < b->ninsns && linear_rip(v) == start + i[1].at && share_resumes(v, i, revoked) && slots_resume(v, i, revoked))
        return bt->rx + b->code + i[1].host;
    v->bt.key = key;
    return known_jump(v);
}

/* Branches by lookup are to find their targets again. Who calls this looks at the requests next. */
static void hear(struct vcpu *v)
{
    if (unlikely(!atomic_load_explicit(&v->bt.jump_probe, memory_order_relaxed)))
        atomic_store(&v->bt.jump_probe, BT_JUMP_PROBE);
}

static uint64_t lead_address(const struct vcpu *v, const struct bt_lead *l)
{
    uint64_t base = l->base == REG_RIP ? v->bt.page : v->gpr[l->base % 16];
    return base + (l->index < 16 ? v->gpr[l->index] << l->scale : 0) + (uint64_t)(int64_t)l->disp;
}

/* Brings the registers home that the translated code has left in the host's by way `w`, and the flags to bt.flags. */
static void come_home(struct vcpu *v, const struct bt_way *w)
{
    struct bt_cpu *c = &v->bt;
    for (unsigned live = (uint16_t)~(w->at_home | BIT(R11)); live; live &= live - 1) {
        unsigned r = (unsigned)__builtin_ctz(live);
        v->gpr[r] = c->live[r];
    }
    if ((w->how & BT_WAY_RAX) && !(w->at_home & BIT(RAX)))
        v->gpr[RAX] = c->live[w->how >> 4];
    if (!(w->how & BT_WAY_SAVED))
        c->flags = w->how & BT_WAY_RAX ? (uint32_t)c->live[RAX] : c->live_flags;
}

/* What the code has left for: sets bt.exit_kind and what belongs to it. */
static void note_exit(struct vcpu *v)
{
    struct bt_cpu *c = &v->bt;
    const struct bt_block *b = v->vm->bt->blocks[c->exit_insn >> 8];
    const struct bt_way *w = &bt_ways(b)[c->exit_insn & 0xff];
    uint32_t at = (c->exit_insn & ~0xffu) | w->insn;
    come_home(v, w);
    if (w->how & BT_WAY_LINK) {
        c->exit_kind = BT_EXIT_LINK;
        c->exit_link = at;
        return;
    }
    c->exit_kind = BT_EXIT_STEP;
    c->exit_insn = at;
    c->page = bt_where(v, at);
    c->share = c->live[SHARE_REG];
    for (const struct bt_lead *l = bt_leads(b); w->how & BT_WAY_LEADS; l++)
        if (l->insn == w->insn) {
            *(bt_insns(b)[w->insn].leads ? &c->slot_address : &c->share) = lead_address(v, l);
            break;
        }
}

/* May user code of the current address space be to run natively? */
static bool direct_active(const struct vcpu *v)
{
    if (!v->direct || v->cpl != 3)
        return false;
    const struct direct_space *s = direct_current(v);
    return v->direct->always || (s && s->active);
}

/*
 * A branch has led to a block whose page is not known to be at the address that it has led to. Finds out whether it is; the way in again, or NULL, and then
 * rip is to be looked at afresh. May raise the fault of the fetch: the branch is complete.
 */
static const uint8_t *enter_page(struct vcpu *v)
{
    static const struct bt_way arrived = {.at_home = BT_SPARE | BIT(RAX), .how = BT_WAY_SAVED};
    struct bt_cpu *c = &v->bt;
    struct bt *bt = v->vm->bt;
    const struct bt_block *b = bt->blocks[c->exit_insn >> 8];
    uint64_t generation = bt->generation;
    come_home(v, &arrived);
    flags_put(v, c->flags);
    c->page = c->live[R10];
    c->exit_kind = BT_EXIT_GOTO;
    c->exit_off = b->gpa & (PAGE_SIZE - 1);
    set_linear_rip(v, c->page + (uint32_t)c->exit_off);
    v->insn_rip = v->rip;
    if (cpu_interrupted(v) || !bt_usable(v) || direct_active(v) || b->key != mode_key(v) || !mode_same(v, b->key))
        return NULL;
    if (v->code_mode != CODE64 && !bt_legacy_page(v, c->page + (uint32_t)c->exit_off))
        return NULL;
    const struct bt_xpage *x = code_page(v, c->page);
    if (!x || generation != bt->generation || b->dead || x->gpa != (b->gpa & PAGE_MASK))
        return NULL;
    v->rflags &= ~FL_RF;
    c->key = b->key;
    bt_enter_set(v, ring_of(v), b->slot, c->page);
    c->share = c->page;
    return bt->rx + b->code - b->entry;
}

const uint8_t *bt_step(struct vcpu *v)
{
    hear(v);
    if ((v->bt.exit_insn & 0xff) == BT_WAY_IN) {
        const uint8_t *in = enter_page(v);
        if (in)
            prepare(v);
        return in;
    }
    note_exit(v);
    if (unlikely(bt_check_showing(v)) || v->bt.exit_kind == BT_EXIT_LINK)
        return NULL;
    flags_put(v, v->bt.flags);
    const uint8_t *host = interpret_one(v, v->bt.exit_insn);
    if (unlikely(cpu_interrupted(v))) /* again: the store to v->bt.page may have eaten the poke */
        host = NULL;
    if (host)
        prepare(v);
    v->bt.flags = flags_to_ax(v->rflags); /* bt_run_code() puts them, too */
    return host;
}

/* The block at rip that shares nothing: only links lead there. */
static const uint8_t *find_single(struct vcpu *v, struct bt_block **block)
{
    *block = find(v, linear_rip(v), v->bt.key | BT_KEY_SINGLE);
    return *block ? v->vm->bt->rx + (*block)->code : NULL;
}

/* Links the jump that was left through to the block of its target. */
static const uint8_t *follow_link(struct vcpu *v, uint32_t at)
{
    struct bt *bt = v->vm->bt;
    struct bt_block *from = bt->blocks[at >> 8], *to;
    uint64_t generation = bt->generation;
    v->bt.stats.links++;
    bool single = bt_links(from)[at & 0xff].single;
    const uint8_t *host = single ? find_single(v, &to) : find_jump(v, &to);
    if (!host && single && generation == bt->generation && !v->bt.cold)
        interp_execute(v); /* a block made anew would come here again */
    if (!host || generation != bt->generation)
        return host;
    bt_lock(bt);
    if (!from->dead && !to->dead)
        bt_link_set(bt, &bt_links(from)[at & 0xff], to);
    bt_unlock(bt);
    return host;
}

/* What the code left for; the place to go on at, or NULL for a fresh look. */
static const uint8_t *left(struct vcpu *v)
{
    switch ((enum bt_exit)v->bt.exit_kind) {
    case BT_EXIT_LINK:
        v->bt.page = bt_where(v, v->bt.exit_link);
        set_linear_rip(v, v->bt.page + bt_links(v->vm->bt->blocks[v->bt.exit_link >> 8])[v->bt.exit_link & 0xff].off);
        return cpu_interrupted(v) ? NULL : follow_link(v, v->bt.exit_link);
    case BT_EXIT_STEP:
    case BT_EXIT_CHECK: return NULL;
    case BT_EXIT_GOTO:
        set_linear_rip(v, v->bt.page + (uint64_t)(int64_t)v->bt.exit_off);
        return NULL;
    }
    return NULL;
}

static void check_target(struct vcpu *v)
{
    if (unlikely(v->code_mode == CODE64 && !is_canonical(v->rip)))
        cpu_gp(v, 0);
}

/* Interprets what find() has found to be cold, up to a branch. */
static void run_cold(struct vcpu *v)
{
    v->bt.cold = false;
    for (unsigned n = 0; n < BT_MAX_INSNS; n++) {
        uint64_t from = v->rip;
        interp_execute(v);
        v->insn_rip = v->rip;
        if (cpu_interrupted(v) || v->rip - from > INSN_MAX_LEN || ((v->rip ^ from) & PAGE_MASK) || (v->rflags & FL_RF) || !bt_usable(v))
            return;
    }
}

/* False: it is to be translated. */
static bool run_direct(struct vcpu *v)
{
    v->rflags &= ~FL_RF;
    switch (v->direct->run(v)) {
    case DIRECT_LOOK: return true;
    case DIRECT_TRANSLATE: return false;
    case DIRECT_INTERPRET: interp_execute(v); return true;
    case DIRECT_STEPPED: v->insn_rip = v->rip; cpu_fault_db(v, DR6_BS);
    case DIRECT_LOST: interp_emulation_error(v);
    }
    return false;
}

int bt_loop(struct vcpu *v)
{
    struct bt_block *b;
    bool stale = false; /* what `jump` knows for rip has just led out again */
    for (;;) {
        hear(v);
        if (unlikely(cpu_interrupted(v) || v->io_done || ((v->rflags & FL_RF) && !bt_usable(v)))) {
            enum cpu_stop stop = interp_step_slow(v);
            if (stop != STOP_NONE)
                return stop;
            continue;
        }
        v->insn_rip = v->rip;
        if (unlikely(direct_active(v)) && run_direct(v))
            continue;
        if (v->bt.cold) {
            v->rflags &= ~FL_RF;
            run_cold(v);
            continue;
        }
        const uint8_t *host = NULL;
        if (likely(bt_usable(v))) {
            check_target(v);
            mode_enter(v);
            host = stale ? NULL : known_jump(v); /* nothing is known while checks are made */
            if (!host)
                host = find_jump(v, &b);
            stale = false;
            v->rflags &= ~FL_RF; /* it has no effect while REQ_STEP is clear but to be seen, and the next instruction clears it */
        }
        if (!host) {
            if (!v->bt.cold)
                interp_execute(v);
            continue;
        }
        if (unlikely(v->bt.check)) {
            bt_check_run(v, b);
            continue;
        }
        while (host && likely(!cpu_interrupted(v))) {
            bt_run_code(v, host);
            host = left(v);
            stale = v->bt.exit_kind == BT_EXIT_GOTO;
        }
    }
}

static _Thread_local struct vcpu *current; /* the vCPU that this thread runs; for signal handlers */

void bt_begin(struct vcpu *v)
{
    current = v;
    v->bt.saved_gs = read_gs();
    write_gs((uint64_t)(uintptr_t)v);
    atomic_store_explicit(&v->bt.running, true, memory_order_relaxed);
    atomic_store(&v->bt.jump_probe, BT_JUMP_PROBE);
    atomic_store(&v->bt.poll, (uint64_t)(uintptr_t)&v->bt.self); /* before bt_loop() looks at the requests */
}

void bt_end(struct vcpu *v)
{
    atomic_store_explicit(&v->bt.running, false, memory_order_release);
    write_gs(v->bt.saved_gs);
    current = NULL;
}

void bt_poke(struct vcpu *v)
{
    atomic_store(&v->bt.poll, BT_POKED);
    atomic_store(&v->bt.jump_probe, 0);
}

/* ---- traps in translated code ---- */

/* The instruction of the block at code offset `off`. */
static const struct bt_insn *insn_at(const struct bt_block *b, uint32_t off)
{
    unsigned k = 0;
    while (k + 1u < b->ninsns && bt_insns(b)[k + 1].host <= off - b->code)
        k++;
    return &bt_insns(b)[k];
}

uint64_t bt_trap(uint64_t pc, uint64_t addr, uint64_t *r11)
{
    struct vcpu *v = current;
    if (!v)
        return 0;
    struct bt *bt = v->vm->bt;
    uint64_t off = pc - (uint64_t)(uintptr_t)bt->rx;
    if (off >= bt->size)
        return 0;
    if (addr == BT_POKED) { /* the exit looks at the requests */
        atomic_store(&v->bt.poll, (uint64_t)(uintptr_t)&v->bt.self);
        v->bt.stats.polls++;
    }
    const struct bt_block *b = bt_block_at(bt, (uint32_t)off);
    const struct bt_insn *i = b ? insn_at(b, (uint32_t)off) : NULL;
    if (!i || !i->slow)
        return 0;
    if (i->coded)
        return (uint64_t)(uintptr_t)bt->rx + b->code + i->slow;
    unsigned way = i->slow - 1u;
    if (!(bt_ways(b)[way].at_home & BIT(R11)))
        v->gpr[R11] = *r11;
    *r11 = b->number << 8 | way;
    return (uint64_t)(uintptr_t)bt->rx + bt->thunk.exit_way;
}
