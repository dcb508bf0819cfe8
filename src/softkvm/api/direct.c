// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Direct execution: when it pays, and the way in and out. direct.h has the idea and the invariants.
 *
 * An address space becomes active when timer interrupts have found it in user code some times: it computes. A stop of the stub costs some 10 us, which
 * the translator needs for a few thousand instructions; so a space that stops too often goes back to the translator, and has to compute for longer and
 * longer before it is tried again.
 *
 * While a space is active, the translator runs none of its user code without having looked up its page (bt_enter_none()): so a return to it comes to
 * bt_step(), which leaves it to bt_loop(), and from there to here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "softkvm/api/api.h"
#include "softkvm/api/direct_map.h"
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/debug.h"
#include "softkvm/x86/desc.h"
#include "softkvm/x86/fpu.h"
#include "softkvm/x86/mem.h"

#define HEAT_FIRST   3    /* interrupts that find it in user code before the first try, */
#define HEAT_KEPT_MS 50   /* each at the most so long after the one before */
#define HEAT_MAX     64u
#define WINDOW       128  /* stops that are looked at together */
#define STOP_NS      5000u /* of the stub's CPU time that each of them must have brought, beyond twice what a stop costs it */
#define PAUSE_NS     3000000u /* and what a space must have had in its stub when it comes to a page that it may not execute */
#define AROUND_INSNS 256  /* interpreted in a page that the stub may not execute, before the translator takes over until the next timer interrupt */
#define REWRITES     4    /* pages that were translated from although the stub could write them: then it waits for longest */
#define NO_PAGE      1ull

/* What Linux's user code has for selectors, 64-bit code's and stack's, and 32-bit code's. Other guests choose as they like, and are translated. */
#define USER_CS   0x33
#define USER_SS   0x2b
#define USER_CS32 0x23
#define FLAGS_USER (FL_ARITH | FL_DF | FL_AC | FL_ID | FL_TF | FL_NT)

/* ---- creation ---- */

int direct_memory(struct softkvm_vm *vm, const void *host, uint64_t bytes, int fd, uint64_t offset)
{
    struct vm_api *a = vm->api;
    if (((uintptr_t)host | bytes | offset) & (PAGE_SIZE - 1))
        return -EINVAL;
    if (atomic_load(&vm->nvcpus))
        return -EBUSY;
    if (a->nmemory == DIRECT_MEMORY)
        return -ENOSPC;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return -errno;
    a->memory[a->nmemory++] = (struct direct_memory){host, bytes, offset, copy};
    return 0;
}

void direct_memory_free(struct softkvm_vm *vm)
{
    for (unsigned n = 0; n < vm->api->nmemory; n++)
        close(vm->api->memory[n].fd);
}

/* For entries that are small and far apart. */
static void *reserve_scattered(uint64_t bytes)
{
    void *p = engine_reserve(bytes);
    if (p)
        madvise(p, bytes, MADV_NOHUGEPAGE);
    return p;
}

static void release(struct direct_space *s)
{
    stub_end(s->stub);
    if (s->pages)
        munmap(s->pages, DIRECT_PAGES);
    *s = (struct direct_space){.cr3 = ~0ull};
}

void direct_destroy(struct vcpu *v)
{
    struct direct_cpu *d = v->direct;
    if (!d)
        return;
    for (unsigned n = 0; n < DIRECT_SPACES; n++)
        release(&d->space[n]);
    munmap(d->writable, BT_GPA_MAX / PAGE_SIZE / 8);
    free(d);
    v->direct = NULL;
}

/* ---- when ---- */

/* The translator has user code from now on: until the next tick, or, if it has not paid, for longer. */
static void pause_space(struct vcpu *v, struct direct_space *s, bool failed)
{
    pin_end(v);
    s->active = false;
    if (failed)
        s->wait = MIN(2 * s->wait, HEAT_MAX);
    s->heat = failed ? 0 : s->wait - 1;
    s->warmed = __builtin_ia32_rdtsc();
}

/* The place for a space: a free one, or that which was used longest ago. A stub stays with its place. */
static struct direct_space *place(struct vcpu *v)
{
    struct direct_cpu *d = v->direct;
    struct direct_space *best = &d->space[0];
    for (struct direct_space *s = d->space; s < d->space + DIRECT_SPACES; s++)
        if (s->used < best->used)
            best = s;
    best->cr3 = v->cr3;
    best->active = false;
    best->stale = true;
    best->missed = best->heat = best->unwritten = 0;
    best->wait = HEAT_FIRST;
    return best;
}

/* The stub's thread must be the one that runs the vCPU: ptrace(2) knows no other. */
static bool have_stub(struct vcpu *v, struct direct_space *s)
{
    if (s->stub && (s->stub->tracer != gettid() || !s->stub->pid || s->stub->broken)) {
        stub_end(s->stub);
        s->stub = NULL;
    }
    if (!s->pages && !(s->pages = reserve_scattered(DIRECT_PAGES)))
        return false;
    if (s->stub)
        return true;
    int fds[DIRECT_MEMORY];
    for (unsigned n = 0; n < v->vm->api->nmemory; n++)
        fds[n] = v->vm->api->memory[n].fd;
    s->stub = stub_start(fds, v->vm->api->nmemory);
    s->stale = true;
    v->direct->impossible = !s->stub;
    return s->stub;
}

/* Are the guest's descriptors of user code and data those of a Linux host? Then selectors that user code loads mean the same in the stub. */
static bool same_selectors(struct vcpu *v)
{
    static const uint64_t wanted[] = {0x00cffb000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff}; /* 0x23, 0x2b, 0x33 */
    enum { FIRST = USER_CS32 & ~7, ACCESSED = 40 /* bit */ };
    for (unsigned n = 0; n < ARRAY_SIZE(wanted); n++) {
        uint64_t desc;
        if (FIRST + 8 * n + 7 > v->gdt.limit || !direct_peek(v, v->gdt.base + FIRST + 8 * n, &desc, sizeof(desc)))
            return false;
        if ((desc ^ wanted[n]) & ~BIT64(ACCESSED))
            return false;
    }
    return true;
}

static bool data_selector(uint16_t sel)
{
    return sel == 0 || sel == USER_SS;
}

/* Are the same components enabled as on the host? AVX-512's need not be: then its instructions do not run directly (direct_scan.c). */
static bool same_state(const struct vcpu *v)
{
    return !((v->xcr0 ^ xstate_supported()) & ~(uint64_t)(XCR0_PKRU | XCR0_AVX512));
}

/* May the vCPU's state go to the host's CPU as it is? */
static bool fits(const struct vcpu *v)
{
    const struct segment *g = v->seg;
    return v->code_mode == CODE64 && g[SEG_CS].sel == USER_CS && g[SEG_SS].sel == USER_SS && data_selector(g[SEG_DS].sel) && data_selector(g[SEG_ES].sel) &&
           data_selector(g[SEG_FS].sel) && data_selector(g[SEG_GS].sel) && (v->rflags & FL_IF) &&
           !(v->rflags & (FL_IOPL | FL_TF | FL_NT | FL_AC | FL_VM)) && !(v->cr0 & (CR0_TS | CR0_EM)) && (v->cr4 & CR4_FSGSBASE) &&
           (v->cr4 & CR4_OSXSAVE) && same_state(v) && !v->watch_active && !v->guest_debug.control && v->rip < STUB_END;
}

static void window_begin(struct direct_space *s)
{
    s->stops = 0;
    s->began_ns = stub_cpu_ns(s->stub);
}

/* From now on user code of the current address space comes to run(). False: it cannot. */
static bool activate(struct vcpu *v, struct direct_space *s)
{
    if (!same_selectors(v) || !have_stub(v, s))
        return false;
    s->active = true;
    window_begin(s);
    s->missed = v->gpr[RSP] + 1;
    bt_enter_none(v, BT_USER);
    return true;
}

static struct direct_space *current(struct vcpu *v)
{
    struct direct_space *s = direct_current(v);
    if (!s)
        s = place(v);
    s->used = ++v->direct->uses;
    return s;
}

void direct_tick(struct vcpu *v)
{
    struct direct_cpu *d = v->direct;
    if (!d || d->impossible || v->cpl != 3 || !fits(v))
        return;
    struct direct_space *s = current(v);
    uint64_t now = __builtin_ia32_rdtsc();
    if (s->active)
        return;
    s->heat = now - s->warmed > (uint64_t)HEAT_KEPT_MS * v->tsc_khz ? 1 : s->heat + 1;
    s->warmed = now;
    if (s->heat >= s->wait && !activate(v, s))
        pause_space(v, s, true);
}

void direct_kick(struct vcpu *v)
{
    int pidfd = v->direct ? atomic_load(&v->direct->running) : -1;
    if (pidfd >= 0)
        stub_kick(pidfd);
}

/* ---- in and out ---- */

static void state_in(const struct vcpu *v, struct stub *s)
{
    struct stub_regs *r = &s->regs;
    const uint64_t *g = v->gpr;
    r->rax = g[RAX], r->rcx = g[RCX], r->rdx = g[RDX], r->rbx = g[RBX], r->rsp = g[RSP], r->rbp = g[RBP], r->rsi = g[RSI], r->rdi = g[RDI];
    r->r8 = g[8], r->r9 = g[9], r->r10 = g[10], r->r11 = g[11], r->r12 = g[12], r->r13 = g[13], r->r14 = g[14], r->r15 = g[15];
    r->rip = v->rip;
    r->eflags = (v->rflags & FLAGS_USER) | FL_IF | FL_ONE;
    r->orig_rax = ~0ull;
    r->ds = v->seg[SEG_DS].sel, r->es = v->seg[SEG_ES].sel, r->fs = v->seg[SEG_FS].sel, r->gs = v->seg[SEG_GS].sel;
    r->fs_base = v->seg[SEG_FS].base;
    r->gs_base = v->seg[SEG_GS].base;
    fpu_give_host(v, s->xsave);
}

/* A selector that user code has loaded; fits() and same_selectors() say what it can be. */
static void take_selector(struct vcpu *v, enum seg_reg seg, uint64_t sel, uint64_t base)
{
    struct segment *s = &v->seg[seg];
    if (s->sel != (uint16_t)sel) {
        *s = v->seg[SEG_SS];
        s->sel = (uint16_t)sel;
        s->unusable = (sel & ~3ul) == 0;
        seg_fixup(v, seg);
    }
    s->base = base;
}

static void state_out(struct vcpu *v, struct stub *s)
{
    const struct stub_regs *r = &s->regs;
    uint64_t *g = v->gpr;
    g[RAX] = r->rax, g[RCX] = r->rcx, g[RDX] = r->rdx, g[RBX] = r->rbx, g[RSP] = r->rsp, g[RBP] = r->rbp, g[RSI] = r->rsi, g[RDI] = r->rdi;
    g[8] = r->r8, g[9] = r->r9, g[10] = r->r10, g[11] = r->r11, g[12] = r->r12, g[13] = r->r13, g[14] = r->r14, g[15] = r->r15;
    v->rip = r->rip;
    v->rflags = (v->rflags & ~FLAGS_USER) | (r->eflags & FLAGS_USER);
    if (v->rflags & (FL_TF | FL_AC)) {
        debug_update(v);
        cpu_update_mode(v);
    }
    take_selector(v, SEG_DS, r->ds, 0);
    take_selector(v, SEG_ES, r->es, 0);
    take_selector(v, SEG_FS, r->fs, r->fs_base);
    take_selector(v, SEG_GS, r->gs, r->gs_base);
    fpu_take_host(v, s->xsave);
}

/* Code that has gone on in 32-bit mode, by a far branch: its segment is the flat one that same_selectors() has seen. */
static void take_code_segment(struct vcpu *v, uint64_t sel)
{
    struct segment *cs = &v->seg[SEG_CS];
    if (sel != USER_CS32)
        return;
    *cs = (struct segment){.limit = ~0u, .sel = USER_CS32, .attr = SEG_G | SEG_DB | SEG_P | 3 << 5 | SEG_S | 11};
    seg_fixup(v, SEG_CS);
    cpu_update_mode(v);
}

/* The vCPU stands in front of the instruction that has stopped the stub. */
static bool in_front(struct vcpu *v, struct direct_space *s, enum stub_stop why, uint64_t address)
{
    switch (why) {
    case STUB_SYSCALL:
        v->rip -= 2;
        v->gpr[RAX] = s->stub->regs.orig_rax;
        return true;
    case STUB_FAULT:
        s->missed = address && address < STUB_END ? address + 1 : 0;
        return true;
    case STUB_VSYSCALL: /* the kernel has returned from it already */
        v->gpr[RSP] -= 8;
        v->rip = 0xffffffffff600000ull + (address == 96 ? 0 : address == 201 ? 0x400 : 0x800);
        return true;
    default:
        return false;
    }
}

/* SIGTRAP: INT3, INT1 or INT 3, which have been executed, or a single step behind POPF. */
static bool trapped(struct vcpu *v)
{
    uint8_t code[2] = {0};
    for (unsigned n = 0; n < 2; n++) /* they may lie in two pages */
        direct_peek(v, v->rip - 2 + n, &code[n], 1);
    if (code[0] == 0xcd && code[1] == 3)
        v->rip -= 2;
    else if (code[1] == 0xcc || code[1] == 0xf1)
        v->rip -= 1;
    else
        return false;
    return true;
}

static void count(struct vcpu *v, struct direct_space *s, uint64_t cycles)
{
    STAT_ADD(v, direct_stops, 1);
    STAT_ADD(v, direct_cycles, cycles);
    if (++s->stops < WINDOW)
        return;
    if (!v->direct->always && stub_cpu_ns(s->stub) - s->began_ns < WINDOW * (2 * s->stub->stop_ns + STOP_NS))
        pause_space(v, s, true);
    else if (s->wait > HEAT_FIRST)
        s->wait /= 2;
    window_begin(s);
}

/* Vector state may be live. In a page that the stub must not execute: the interpreter goes through it, if it does not take long. */
static bool goes_around(struct vcpu *v, struct direct_space *s)
{
    struct direct_cpu *d = v->direct;
    uint64_t page = v->rip & PAGE_MASK;
    if (v->rip < STUB_END && !(s->pages[page >> 12] & DIRECT_REFUSED)) {
        d->around = NO_PAGE;
        return false;
    }
    if (d->around != page) {
        d->around = page;
        d->around_left = AROUND_INSNS;
    }
    if (!d->around_left--) {
        fpu_put(v);
        d->around = NO_PAGE;
        pause_space(v, s, !d->always && stub_cpu_ns(s->stub) - s->began_ns < PAUSE_NS);
    }
    return true;
}

static enum direct_result stopped(struct vcpu *v, struct direct_space *s, enum stub_stop why, uint64_t address)
{
    struct stub *stub = s->stub;
    if (why == STUB_DEAD)
        return DIRECT_LOST;
    state_out(v, stub);
    bool in_front_of = why == STUB_TRAP ? trapped(v) : in_front(v, s, why, address);
    take_code_segment(v, stub->regs.cs);
    if (in_front_of)
        return DIRECT_INTERPRET;
    return why == STUB_TRAP ? DIRECT_STEPPED : DIRECT_LOOK;
}

/* Code that is written and run by turns: each time that some of it is translated, its page has to be taken from the stub. */
static bool keeps_rewriting(struct direct_space *s)
{
    if (s->unwritten < REWRITES)
        return false;
    s->unwritten = 0;
    s->wait = HEAT_MAX;
    return true;
}

/* Makes the stub what user code at rip needs. False: to the translator with it. */
static bool ready(struct vcpu *v, struct direct_space *s)
{
    if (keeps_rewriting(s) && !v->direct->always)
        return false;
    return (s->active ? s->stub->tracer == gettid() : activate(v, s)) && direct_settle(v, s);
}

/* Runs the stub, unless something is asked of the vCPU: whoever asks sees that it runs, or we see what he asks. */
static enum direct_result enter(struct vcpu *v, struct direct_space *s)
{
    _Atomic int *running = &v->direct->running;
    uint64_t address, cycles;
    atomic_store(running, s->stub->pidfd);
    if (cpu_interrupted(v)) {
        atomic_store(running, -1);
        return DIRECT_LOOK;
    }
    enum stub_stop why = stub_run(s->stub, &address, &cycles);
    atomic_store(running, -1);
    count(v, s, cycles);
    return stopped(v, s, why, address);
}

static enum direct_result run(struct vcpu *v)
{
    struct direct_space *s = direct_current(v);
    if (s && s->active && !s->stale && goes_around(v, s))
        return DIRECT_INTERPRET;
    fpu_put(v);
    if (v->direct->impossible || !fits(v)) {
        if (s)
            pause_space(v, s, true);
        return DIRECT_TRANSLATE;
    }
    s = current(v);
    if (!ready(v, s)) {
        pause_space(v, s, true);
        return DIRECT_TRANSLATE;
    }
    if (goes_around(v, s))
        return DIRECT_INTERPRET;
    pin_stub(v, s->stub);
    state_in(v, s->stub);
    if (stub_load(s->stub))
        return enter(v, s);
    pause_space(v, s, true);
    return DIRECT_TRANSLATE;
}

int direct_create(struct vcpu *v)
{
    const char *wanted = getenv("SOFTKVM_DIRECT");
    if (!v->bt.on || v->bt.check || !v->vm->api->nmemory || (wanted && strcmp(wanted, "0") == 0))
        return 0;
    struct direct_cpu *d = calloc(1, sizeof(*d));
    uint64_t *writable = d ? reserve_scattered(BT_GPA_MAX / PAGE_SIZE / 8) : NULL;
    if (!writable) {
        free(d);
        return -ENOMEM;
    }
    d->run = run;
    d->always = wanted && strcmp(wanted, "always") == 0;
    d->writable = writable;
    d->around = NO_PAGE;
    atomic_store(&d->running, -1);
    for (unsigned n = 0; n < DIRECT_SPACES; n++)
        d->space[n].cr3 = ~0ull;
    v->direct = d;
    return 0;
}
