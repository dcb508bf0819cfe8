// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs a case on the host's CPU.
 *
 * The kernel's signal frame holds all state of a thread. INT3 enters the handler, which writes the case's state into the frame and returns into
 * the case; the exception that ends the case (a fault, single step, or the INT3 behind the instruction) enters the handler again, which takes the
 * state out of the frame and puts back the one from before. So the kernel does all loading and storing, CS and SS included, which
 * also switches to 32- and 16-bit code.
 *
 * Data segment registers and FS/GS bases are not in the frame; the handler moves them. While it runs with the case's FS base it must not touch
 * thread-local storage.
 *
 * During guest_run() the same signals belong to softkvm, whose handlers were installed before ours.
 */
#include <asm/ldt.h>
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "diff.h"

enum { XSTATE_BV = 512, SW_RESERVED = 464, AVX_AT = 576, BV_OURS = 7 };
enum { TRAP_PF = 14 };

enum phase { PHASE_IDLE, PHASE_ENTER, PHASE_CASE };

static struct {
    volatile enum phase phase;
    const struct test_case *test;
    struct cpu_image *out;
    gregset_t saved;
    uint64_t fs_base, gs_base;
    struct sigaction older[NSIG];
    bool have_ldt;
} host;

static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

/* Hardware's register numbers, in ucontext's terms. */
static const uint8_t greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static uint64_t read_fs_base(void)
{
    uint64_t v;
    __asm__ volatile("rdfsbase %0" : "=r"(v));
    return v;
}
static uint64_t read_gs_base(void)
{
    uint64_t v;
    __asm__ volatile("rdgsbase %0" : "=r"(v));
    return v;
}

static void enter_case(ucontext_t *uc)
{
    const struct cpu_image *in = &host.test->in;
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *x = (uint8_t *)uc->uc_mcontext.fpregs;
    uint64_t bv, in_bv;

    memcpy(host.saved, g, sizeof(host.saved));
    for (unsigned n = 0; n < 16; n++)
        g[greg_of[n]] = (greg_t)in->gpr[n];
    g[REG_RIP] = (greg_t)in->rip;
    g[REG_EFL] = (greg_t)in->rflags;
    g[REG_CSGSFS] = (greg_t)(in->sel[S_CS] | (uint64_t)in->sel[S_SS] << 48);

    memcpy(x, in->xarea, SW_RESERVED);
    memcpy(&bv, x + XSTATE_BV, 8);
    memcpy(&in_bv, in->xarea + XSTATE_BV, 8);
    bv = (bv & ~0xffull) | in_bv;
    memcpy(x + XSTATE_BV, &bv, 8);
    memcpy(x + AVX_AT, in->xarea + AVX_AT, xarea_size() - AVX_AT);

    __asm__ volatile("movl %0, %%es; movl %1, %%ds" : : "r"((uint32_t)in->sel[S_ES]), "r"((uint32_t)in->sel[S_DS]));
    host.phase = PHASE_CASE;
    /* From here to the return FS is the case's. */
    __asm__ volatile("movl %0, %%fs; movl %1, %%gs" : : "r"((uint32_t)in->sel[S_FS]), "r"((uint32_t)in->sel[S_GS]) : "memory");
    if (!(in->sel[S_FS] & ~3))
        __asm__ volatile("wrfsbase %0" : : "r"(in->fs_base));
    if (!(in->sel[S_GS] & ~3))
        __asm__ volatile("wrgsbase %0" : : "r"(in->gs_base));
}

static void leave_case(ucontext_t *uc)
{
    struct cpu_image *out = host.out;
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *x = (uint8_t *)uc->uc_mcontext.fpregs;
    static const uint32_t mxcsr = 0x1f80;
    static const uint16_t fcw = 0x37f;
    uint64_t bv;

    for (unsigned n = 0; n < 16; n++)
        out->gpr[n] = (uint64_t)g[greg_of[n]];
    out->rip = (uint64_t)g[REG_RIP];
    out->rflags = (uint64_t)g[REG_EFL];
    out->sel[S_CS] = (uint16_t)g[REG_CSGSFS];
    out->sel[S_SS] = (uint16_t)((uint64_t)g[REG_CSGSFS] >> 48);
    out->vector = (uint8_t)g[REG_TRAPNO];
    out->error = (uint32_t)g[REG_ERR];
    out->cr2 = out->vector == TRAP_PF ? (uint64_t)g[REG_CR2] : 0;
    memcpy(out->xarea, x, xarea_size());

    memcpy(g, host.saved, sizeof(host.saved));
    memset(x, 0, SW_RESERVED);
    memcpy(x, &fcw, 2);
    memcpy(x + 24, &mxcsr, 4);
    memcpy(&bv, x + XSTATE_BV, 8);
    bv &= ~0xffull; /* all initial */
    memcpy(x + XSTATE_BV, &bv, 8);
    host.phase = PHASE_IDLE;
}

/* The first thing in the handler: what the case has changed and compiled code relies on. */
static inline void restore_segments(void)
{
    struct cpu_image *out = host.out;
    __asm__ volatile("movw %%es, %0; movw %%ds, %1; movw %%fs, %2; movw %%gs, %3"
                     : "=m"(out->sel[S_ES]), "=m"(out->sel[S_DS]), "=m"(out->sel[S_FS]), "=m"(out->sel[S_GS]));
    out->fs_base = read_fs_base();
    out->gs_base = read_gs_base();
    __asm__ volatile("movl %0, %%fs; movl %0, %%gs; wrfsbase %1; wrgsbase %2" : : "r"(0), "r"(host.fs_base), "r"(host.gs_base));
}

static void pass_on(int sig, siginfo_t *info, void *context)
{
    struct sigaction *older = &host.older[sig];
    if (older->sa_flags & SA_SIGINFO) {
        older->sa_sigaction(sig, info, context);
    } else if (older->sa_handler != SIG_DFL && older->sa_handler != SIG_IGN) {
        older->sa_handler(sig);
    } else {
        signal(sig, SIG_DFL); /* ours is a bug of the test itself: die of it at the return */
    }
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    /* The case's AC, NT and ID are still set. RT_SIGRETURN keeps the last two as they are then. */
    __asm__ volatile("pushq $2; popfq" : : : "memory", "cc");
    switch (host.phase) {
    case PHASE_IDLE:
        pass_on(sig, info, context);
        break;
    case PHASE_ENTER:
        enter_case(context);
        break;
    case PHASE_CASE:
        restore_segments();
        leave_case(context);
        break;
    }
}

/* A function, so that the compiler expects all vector registers to be lost. */
static __attribute__((noinline)) void enter(void)
{
    __asm__ volatile("int3" : : : "memory");
}

void host_run(const struct test_case *t, struct cpu_image *out)
{
    host.test = t;
    host.out = out;
    host.phase = PHASE_ENTER;
    enter();
}

/* ---- set-up ---- */

static bool install_ldt(void)
{
    for (unsigned n = 0; n < LDT_COUNT; n++) {
        struct user_desc d = {.entry_number = n, .base_addr = ldt[n].base, .limit = ldt[n].limit, .seg_32bit = ldt[n].db, .limit_in_pages = ldt[n].pages};
        d.contents = ldt[n].code ? 2 : ldt[n].down ? 1 : 0;
        d.read_exec_only = !ldt[n].writable && !ldt[n].code;
        if (syscall(SYS_modify_ldt, 1, &d, sizeof(d)))
            return false;
    }
    return true;
}

static int map_scratch(void)
{
    int fd = memfd_create("difftest", 0);
    if (fd < 0 || ftruncate(fd, SCRATCH_SIZE))
        return -1;
    mem_host = mmap(NULL, SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (mem_host == MAP_FAILED)
        return -1;
    for (unsigned page = 0; page < SCRATCH_PAGES; page++) {
        static const int prot[] = {[PAGE_HOLE] = PROT_NONE, [PAGE_CODE] = PROT_READ | PROT_EXEC, [PAGE_RW] = PROT_READ | PROT_WRITE, [PAGE_RO] = PROT_READ};
        void *want = (void *)(SCRATCH_BASE + page * PAGE_SIZE);
        void *got = mmap(want, PAGE_SIZE, prot[scratch_kind[page]], MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, (off_t)(page * PAGE_SIZE));
        if (got != want)
            return -1;
        if (scratch_kind[page] != PAGE_HOLE)
            *(volatile uint8_t *)got; /* present, so that a write to it is a protection fault */
    }
    return close(fd);
}

int host_init(void)
{
    static uint8_t stack[256 * 1024] __attribute__((aligned(64)));
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    if (map_scratch() || sigaltstack(&ss, NULL))
        return -1;
    for (unsigned n = 0; n < ARRAY_SIZE(signals); n++)
        if (sigaction(signals[n], &sa, &host.older[signals[n]]))
            return -1;
    host.have_ldt = install_ldt();
    host.fs_base = read_fs_base();
    host.gs_base = read_gs_base();
    return 0;
}

bool host_has_mode(unsigned mode)
{
    unsigned char ok;
    if (mode == 2)
        return true;
    /* A kernel without IA32 emulation has no descriptor for 32-bit user code. */
    __asm__("lar %1, %%eax; setz %0" : "=q"(ok) : "r"(SEL_USER_CS32) : "eax", "cc");
    return ok && host.have_ldt;
}
