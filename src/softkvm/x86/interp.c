// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The interpreter's loop: look for requests, fetch, decode or find decoded, execute, retire.
 *
 * The decode cache is validated by content. An entry is found by the hash of its linear address, but it is a hit only when the
 * guest's bytes there now equal those that it was decoded from, in the same mode. Decoding depends on nothing else (insn.h), so
 * self-modifying code, DMA, other vCPUs' stores, remapping and mode switches need no invalidation whatever; the price is two
 * compares per instruction.
 *
 * Fast lane: no request, RF clear. Everything that is armed for one instruction (single step, breakpoints, an interrupt shadow, RF)
 * takes step_slow().
 *
 * Faults and exits unwind to cpu_run() or cpu_step(), see unwound(). An exit after cpu_jump() means that the instruction is
 * complete; any other exit restarts it, with RF and the shadow as they were.
 */
#include "softkvm/x86/interp.h"

#include <errno.h>
#include <sys/mman.h>

#include "softkvm/x86/debug.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/mem.h"
#include "softkvm/x86/op.h"
#include "softkvm/x86/unwind.h"

#define CACHE_BITS      14
#define CACHE_BITS_COLD 11 /* where the translator is on, code that is executed often does not come here: less to keep in the host's caches */
#define FETCH_MAX       16 /* bytes looked at by a cache probe: INSN_MAX_LEN, rounded up to two words */

struct cache_entry {
    uint64_t tag; /* the first min(len, 8) bytes, plus 1; an empty entry, of length 0, matches nothing */
    struct insn insn;
} __attribute__((aligned(128)));
_Static_assert(offsetof(struct cache_entry, insn.desc) == 64, "a hit on an ordinary instruction reads one line of the host's cache");

/* What the slow lane has taken away from the executing instruction, and gives back when that is to be restarted. */
struct slow_lane {
    bool active;
    bool step;      /* REQ_STEP was set */
    bool tf;        /* RFLAGS.TF was set */
    uint8_t shadow; /* int_shadow */
    uint64_t rf;    /* RFLAGS & RF */
};

struct insn_cache {
    uint64_t retired; /* not yet in stats.insns */
    struct slow_lane slow;
    struct cache_entry entries[1 << CACHE_BITS];
};

int interp_init(struct vcpu *v)
{
    /* Zero pages from the kernel cost nothing until they are used. */
    void *p = mmap(NULL, sizeof(struct insn_cache), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    v->icache = p;
    return 0;
}

void interp_free(struct vcpu *v)
{
    if (v->icache)
        munmap(v->icache, sizeof(struct insn_cache));
    v->icache = NULL;
}

/* ---- leaving an instruction ---- */
_Noreturn void cpu_fault(struct vcpu *v, enum vector vec, uint32_t error)
{
    v->fault.vector = (uint8_t)vec;
    v->fault.error = error;
    unwind_jump(v->unwind, UNWIND_FAULT);
}

_Noreturn void cpu_exit(struct vcpu *v, enum cpu_stop stop)
{
    unwind_jump(v->unwind, stop);
}

_Noreturn void interp_emulation_error(struct vcpu *v)
{
    v->run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    v->run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
    v->run->internal.ndata = 0;
    cpu_exit(v, STOP_EXIT);
}

/* ---- fetch ---- */
static inline uint64_t load64(const uint8_t *p)
{
    return guest_load(p, 8);
}

static inline struct cache_entry *entry_of(struct vcpu *v, uint64_t la)
{
    return &v->icache->entries[(uint32_t)la * 0x9e3779b1u >> (32 - (v->bt.on ? CACHE_BITS_COLD : CACHE_BITS))];
}

/* A mask of the first min(n, 8) bytes. */
static inline uint64_t first_bytes(unsigned n)
{
    return (n < 8 ? BIT64(8 * n) : 0) - 1;
}

/* `p` has FETCH_MAX readable bytes. They may change while they are looked at; each word is read once. */
static inline bool entry_hit(const struct cache_entry *e, const uint8_t *p, enum code_mode mode)
{
    if (unlikely((load64(p) & first_bytes(e->insn.len)) + 1 != e->tag || e->insn.mode != mode))
        return false;
    return likely(e->insn.len <= 8) || !((load64(p + 8) ^ load64(e->insn.bytes + 8)) & size_mask(e->insn.len - 8u));
}

/* Decodes `avail` bytes into the entry. False: more bytes are needed. */
static bool decode_into(struct vcpu *v, struct cache_entry *e, const uint8_t *bytes, unsigned avail)
{
    STAT_ADD(v, decode_misses, 1);
    e->tag = 0;
    enum decode_result r = insn_decode(bytes, avail, v->code_mode, &e->insn);
    if (unlikely(r != DECODE_OK))
        e->insn.len = 0;
    switch (r) {
    case DECODE_OK: break;
    case DECODE_MORE: return false;
    case DECODE_UD: cpu_ud(v);
    default: cpu_gp(v, 0);
    }
    insn_specialise(&e->insn);
    e->tag = (load64(bytes) & first_bytes(e->insn.len)) + 1;
    return true;
}

static uint64_t code_linear(const struct vcpu *v, uint64_t rip)
{
    return v->code_mode == CODE64 ? rip : (uint32_t)(v->seg[SEG_CS].base + rip);
}

/* The last `len` bytes from rip on must lie within CS's limit. */
static inline void check_code_limit(struct vcpu *v, unsigned len)
{
    if (v->code_mode != CODE64 && unlikely(v->rip + len - 1 > v->seg[SEG_CS].limit))
        cpu_gp(v, 0);
}

static const uint8_t *code_host(struct vcpu *v, uint64_t la)
{
    const uint8_t *p = mmu_host_slow(v, la, MEM_X, v->cpl == 3 ? MMU_USER : MMU_KERNEL, SEG_CS);
    if (!p)
        interp_emulation_error(v);
    return p;
}

typedef unsigned __int128 fetch_bytes;

static fetch_bytes load_bytes(const uint8_t *p)
{
    return load64(p) | (fetch_bytes)load64(p + 8) << 64;
}

/* Is the entry's instruction longer than `n` bytes, and are these its first ones? Then they are the beginning of no shorter one. */
static bool entry_continues(const struct cache_entry *e, fetch_bytes bytes, unsigned n, enum code_mode mode)
{
    return e->tag != 0 && e->insn.len > n && e->insn.mode == mode && !((load_bytes(e->insn.bytes) ^ bytes) << 8 * (FETCH_MAX - n));
}

/* An instruction that begins in the last bytes of a page: the next page is touched only when the instruction reaches into it. */
static const struct insn *fetch_tail(struct vcpu *v, uint64_t la, const uint8_t *p)
{
    struct cache_entry *e = entry_of(v, la);
    unsigned first = (unsigned)(PAGE_SIZE - (la & (PAGE_SIZE - 1))), missing = FETCH_MAX - first;
    union {
        fetch_bytes all;
        uint8_t at[FETCH_MAX];
    } buf = {load_bytes(p - missing) >> 8 * missing};
    if (entry_hit(e, buf.at, v->code_mode) && e->insn.len <= first)
        return &e->insn;
    if (!entry_continues(e, buf.all, first, v->code_mode) && decode_into(v, e, buf.at, first))
        return &e->insn;
    check_code_limit(v, first + 1);
    buf.all |= load_bytes(code_host(v, code_linear(v, v->rip + first))) << 8 * first;
    if (!entry_hit(e, buf.at, v->code_mode))
        decode_into(v, e, buf.at, FETCH_MAX);
    return &e->insn;
}

/* Not in the fetch window, or not in the cache. */
static __attribute__((noinline)) const struct insn *fetch_slow(struct vcpu *v, uint64_t la)
{
    uint64_t at = la & (PAGE_SIZE - 1);
    check_code_limit(v, 1);
    if ((la & PAGE_MASK) != v->fetch_page) {
        v->fetch_host = code_host(v, la) - at;
        v->fetch_page = la & PAGE_MASK;
    }
    const uint8_t *p = v->fetch_host + at;
    if (at > PAGE_SIZE - FETCH_MAX)
        return fetch_tail(v, la, p);
    struct cache_entry *e = entry_of(v, la);
    if (!entry_hit(e, p, v->code_mode)) {
        union {
            fetch_bytes all;
            uint8_t at[FETCH_MAX];
        } buf = {load_bytes(p)}; /* read once: another CPU may be writing */
        decode_into(v, e, buf.at, FETCH_MAX);
    }
    return &e->insn;
}

static inline const struct insn *fetch(struct vcpu *v)
{
    uint64_t la = code_linear(v, v->rip), at = la & (PAGE_SIZE - 1);
    const struct insn *i;
    if (likely((la & PAGE_MASK) == v->fetch_page && at <= PAGE_SIZE - FETCH_MAX)) {
        struct cache_entry *e = entry_of(v, la);
        i = likely(entry_hit(e, v->fetch_host + at, v->code_mode)) ? &e->insn : fetch_slow(v, la);
    } else {
        i = fetch_slow(v, la);
    }
    check_code_limit(v, i->len);
    return i;
}

/* ---- one instruction ---- */
static inline void execute(struct vcpu *v)
{
    v->insn_rip = v->rip;
    const struct insn *i = fetch(v);
    i->exec(v, i);
    if (v->rip_set)
        v->rip_set = false;
    else
        v->rip = likely(v->code_mode == CODE64) ? v->rip + i->len : (uint32_t)(v->rip + i->len);
    insn_retire_iteration(v);
    v->icache->retired++;
}

/* Opens the slow lane: the shadow ends, and RF is cleared, unless the instruction itself sets them anew. */
static void slow_begin(struct vcpu *v)
{
    struct slow_lane *s = &v->icache->slow;
    uint32_t requests = atomic_load_explicit(&v->requests, memory_order_relaxed);
    *s = (struct slow_lane){true, requests & REQ_STEP, v->rflags & FL_TF, v->int_shadow, v->rflags & FL_RF};
    v->int_shadow = 0;
    v->rflags &= ~FL_RF;
    if (requests & REQ_SHADOW)
        atomic_fetch_and_explicit(&v->requests, ~(uint32_t)REQ_SHADOW, memory_order_relaxed);
}

/* The instruction will be restarted: as if the slow lane had not been opened. */
static void slow_undo(struct vcpu *v)
{
    struct slow_lane *s = &v->icache->slow;
    if (!s->active)
        return;
    s->active = false;
    v->rflags |= s->rf;
    v->int_shadow = s->shadow;
    if (s->shadow)
        cpu_request(v, REQ_SHADOW);
}

/* The instruction has retired or faulted: interrupts that the shadow has kept away may come now. */
static void slow_end(struct vcpu *v)
{
    struct slow_lane *s = &v->icache->slow;
    if (s->active && s->shadow && !v->int_shadow)
        event_window_opened(v);
    s->active = false;
}

/* Single step and data breakpoints behind a retired instruction. */
static enum cpu_stop slow_trap(struct vcpu *v)
{
    const struct slow_lane *s = &v->icache->slow;
    v->insn_rip = v->rip;
    if (!s->step)
        return STOP_NONE;
    bool tf = s->tf && !(v->int_shadow & KVM_X86_SHADOW_INT_MOV_SS);
    if (debug_after_insn(v, tf))
        return STOP_EXIT;
    v->rip_set = false;
    debug_update(v);
    return STOP_NONE;
}

static enum cpu_stop step_one(struct vcpu *v)
{
    const struct slow_lane *s = &v->icache->slow;
    v->insn_rip = v->rip;
    slow_begin(v);
    if (s->step && !s->rf && !v->io_done && !(s->shadow & KVM_X86_SHADOW_INT_MOV_SS) && debug_before_insn(v)) {
        slow_undo(v);
        return STOP_EXIT;
    }
    execute(v);
    slow_end(v);
    return slow_trap(v);
}

static __attribute__((noinline)) enum cpu_stop step_slow(struct vcpu *v)
{
    uint32_t requests = atomic_load_explicit(&v->requests, memory_order_acquire);
    bool stop = (requests & ~(uint32_t)(REQ_STEP | REQ_SHADOW)) || *(volatile uint8_t *)&v->run->immediate_exit;
    /* A restarted instruction first takes what user space has answered. */
    if (stop && !v->io_done)
        return STOP_REQUEST;
    return step_one(v);
}

void interp_execute(struct vcpu *v)
{
    execute(v);
}

const struct insn *interp_peek(struct vcpu *v)
{
    v->insn_rip = v->rip;
    return fetch(v);
}

enum cpu_stop interp_step_slow(struct vcpu *v)
{
    return step_slow(v);
}

/* Not inlined into cpu_run(): around unwind_set() the compiler would keep everything in memory. */
static __attribute__((noinline)) enum cpu_stop run_loop(struct vcpu *v)
{
    for (;;) {
        if (unlikely(cpu_interrupted(v) || (v->rflags & FL_RF))) {
            enum cpu_stop stop = step_slow(v);
            if (stop != STOP_NONE)
                return stop;
            continue;
        }
        execute(v);
    }
}

/* ---- unwinding ---- */
/* The instruction has left for user space or to halt. */
static enum cpu_stop unwound_exit(struct vcpu *v, enum cpu_stop stop)
{
    v->io_next = 0;
    event_abandon(v);
    if (!v->rip_set) {
        v->rip = v->insn_rip;
        slow_undo(v);
        return stop;
    }
    v->rip_set = false;
    v->icache->retired++;
    insn_retire_iteration(v);
    bool slow = v->icache->slow.active;
    slow_end(v);
    if (!slow)
        return stop;
    enum cpu_stop trap = slow_trap(v);
    return trap == STOP_NONE && v->rip == v->insn_rip ? stop : trap; /* a #DB taken behind HLT ends it */
}

/* Lands here from cpu_fault() or cpu_exit(). Delivering may fault in turn, and then lands here again. */
static enum cpu_stop unwound(struct vcpu *v, int code)
{
    rmw_split_end(v);
    if (code != UNWIND_FAULT)
        return unwound_exit(v, (enum cpu_stop)code);
    v->rip_set = false;
    v->rip = v->insn_rip;
    slow_end(v);
    unsigned vector = v->fault.vector;
    event_deliver(v, EV_HW_EXC, (uint8_t)vector, exc_has_error(vector), v->fault.error, v->rip);
    v->rip_set = false;
    insn_retire_iteration(v);
    return STOP_NONE;
}

static enum cpu_stop leave(struct vcpu *v, enum cpu_stop stop)
{
    fpu_put(v);
    STAT_ADD(v, insns, v->icache->retired);
    v->icache->retired = 0;
    return stop;
}

static void enter(struct vcpu *v)
{
    v->io_next = 0;
    v->rip_set = false;
    if (v->int_shadow)
        cpu_request(v, REQ_SHADOW);
}

enum cpu_stop cpu_run(struct vcpu *v)
{
    enter(v);
    if (v->bt.on)
        bt_begin(v);
    int code = unwind_set(v->unwind);
    enum cpu_stop stop = code ? unwound(v, code) : STOP_NONE;
    if (!stop)
        stop = v->bt.on ? (enum cpu_stop)bt_loop(v) : run_loop(v);
    if (v->bt.on)
        bt_end(v);
    return leave(v, stop);
}

enum cpu_stop cpu_step(struct vcpu *v)
{
    enter(v);
    int code = unwind_set(v->unwind);
    return leave(v, code ? unwound(v, code) : step_one(v));
}
