// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The program's signal handlers, which may run in a thread that runs a guest.
 *
 * - Translated code has the guest's rsp in the host's, so every handler runs on the alternate stack: SA_ONSTACK.
 * - A handler ends KVM_RUN, which then returns EINTR. In the kernel the handler would run between the two; here it runs first.
 * - It finds x87 and SSE control state as the ABI has it, not the guest's. The kernel brings the guest's back at the handler's return.
 *
 * So the kernel calls on_signal(), and that calls the program's handler. One word for each signal holds the program's handler and the flags
 * that differ; mask and other flags are the kernel's to keep. Thus sigaction() takes no lock and may be called from handlers.
 *
 * The handlers of SIGSEGV, SIGBUS, SIGFPE and SIGILL stay softkvm's own once it runs; the program's are called for what is not softkvm's (x86/trap.c).
 * These four are never blocked: a trap in a thread that blocks it would end the process.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "base/util.h"
#include "softkvm/api/hosting.h"
#include "softkvm/preload/shim.h"

/* A handler's address has 47 bits; above it are the flags. */
#define WITH_SIGINFO BIT64(62)
#define WITH_ONSTACK BIT64(63)
#define HANDLER_MASK (BIT64(48) - 1)
#define SIGNALS      65

static _Atomic uint64_t programs[SIGNALS]; /* what the program has installed; means something while the kernel has on_signal() */

static const int traps[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

static void default_fpu(void)
{
    static const uint32_t mxcsr = 0x1f80;
    __asm__ volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    uint64_t word = atomic_load(&programs[sig]);
    int saved = errno;
    if (run_signalled())
        default_fpu();
    errno = saved;
    union {
        uint64_t word;
        void (*plain)(int);
        void (*detailed)(int, siginfo_t *, void *);
    } fn = {.word = word & HANDLER_MASK};
    if (word & WITH_SIGINFO)
        fn.detailed(sig, info, context);
    else
        fn.plain(sig);
}

static bool is_handler(const struct sigaction *act)
{
    return (act->sa_flags & SA_SIGINFO) || (act->sa_handler != SIG_DFL && act->sa_handler != SIG_IGN);
}

static uint64_t pack(const struct sigaction *act)
{
    return (uintptr_t)act->sa_handler | (act->sa_flags & SA_SIGINFO ? WITH_SIGINFO : 0) | (act->sa_flags & SA_ONSTACK ? WITH_ONSTACK : 0);
}

/* What the kernel has, as the program set it. */
static void unpack(struct sigaction *act, uint64_t word)
{
    if (!(act->sa_flags & SA_SIGINFO) || act->sa_sigaction != on_signal)
        return;
    act->sa_flags &= ~(SA_SIGINFO | SA_ONSTACK);
    act->sa_flags |= (word & WITH_SIGINFO ? SA_SIGINFO : 0) | (word & WITH_ONSTACK ? SA_ONSTACK : 0);
    act->sa_handler = (__sighandler_t)(uintptr_t)(word & HANDLER_MASK);
}

static void keep_traps(sigset_t *set)
{
    for (unsigned i = 0; i < ARRAY_SIZE(traps); i++)
        sigdelset(set, traps[i]);
}

/* As sigaction(), of the handler that the kernel calls or that softkvm's calls. */
static int set_handler(int sig, const struct sigaction *act, struct sigaction *old)
{
    if (!trap_owns(sig))
        return REAL(sigaction)(sig, act, old);
    trap_chain(sig, act, old);
    return 0;
}

SHIM int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
    if (trap_busy || sig < 1 || sig >= SIGNALS)
        return REAL(sigaction)(sig, act, old);
    struct sigaction wrapped, before;
    uint64_t was = atomic_load(&programs[sig]);
    if (act) {
        wrapped = *act;
        keep_traps(&wrapped.sa_mask);
        if (is_handler(act)) {
            atomic_store(&programs[sig], pack(act));
            wrapped.sa_sigaction = on_signal;
            wrapped.sa_flags |= SA_SIGINFO | SA_ONSTACK;
        }
    }
    int r = set_handler(sig, act ? &wrapped : NULL, &before);
    if (r == 0 && old) {
        unpack(&before, was);
        *old = before;
    }
    return r;
}

static __sighandler_t set_simply(int sig, __sighandler_t handler, int flags)
{
    struct sigaction act = {.sa_handler = handler, .sa_flags = flags}, old;
    if (handler == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    sigemptyset(&act.sa_mask);
    if (!(flags & SA_NODEFER))
        sigaddset(&act.sa_mask, sig);
    return sigaction(sig, &act, &old) ? SIG_ERR : old.sa_handler;
}

SHIM __sighandler_t signal(int sig, __sighandler_t handler)
{
    return set_simply(sig, handler, SA_RESTART);
}

__sighandler_t bsd_signal(int sig, __sighandler_t handler);
SHIM __sighandler_t bsd_signal(int sig, __sighandler_t handler)
{
    return set_simply(sig, handler, SA_RESTART);
}

__sighandler_t __sysv_signal(int sig, __sighandler_t handler);
SHIM __sighandler_t __sysv_signal(int sig, __sighandler_t handler)
{
    return set_simply(sig, handler, (int)(SA_RESETHAND | SA_NODEFER));
}

SHIM __sighandler_t sysv_signal(int sig, __sighandler_t handler)
{
    return set_simply(sig, handler, (int)(SA_RESETHAND | SA_NODEFER));
}

/* ---- the C library's own signals ---- */

/*
 * glibc installs handlers of its own for the first two real-time signals (pthread_cancel, setuid in all threads), without SA_ONSTACK and past
 * sigaction(). The one appears with the first thread, the other with the first cancellation; so both are made to appear, and get the flag.
 */
#define FIRST_INTERNAL 32
#define LAST_INTERNAL  33

struct kernel_sigaction {
    uintptr_t handler;
    unsigned long flags;
    uintptr_t restorer;
    uint64_t mask;
};

static void *sleeper(void *arg)
{
    for (;;)
        pause();
    return arg;
}

static void provoke_handlers(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, sleeper, NULL))
        return;
    REAL(pthread_cancel)(thread);
    pthread_join(thread, NULL);
}

static void put_on_stack(void)
{
    provoke_handlers();
    for (int sig = FIRST_INTERNAL; sig <= LAST_INTERNAL; sig++) {
        struct kernel_sigaction k;
        if (syscall(SYS_rt_sigaction, sig, NULL, &k, sizeof k.mask) || k.handler == (uintptr_t)SIG_DFL || k.handler == (uintptr_t)SIG_IGN)
            continue;
        k.flags |= SA_ONSTACK;
        syscall(SYS_rt_sigaction, sig, &k, NULL, sizeof k.mask);
    }
}

void shim_internal_signals(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, put_on_stack);
}

/* ---- masks ---- */

/* `set` without the traps, when it would block them. */
static const sigset_t *open_mask(int how, const sigset_t *set, sigset_t *copy)
{
    if (!set || how == SIG_UNBLOCK)
        return set;
    *copy = *set;
    keep_traps(copy);
    return copy;
}

SHIM int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t copy;
    return REAL(sigprocmask)(how, open_mask(how, set, &copy), old);
}

SHIM int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t copy;
    return REAL(pthread_sigmask)(how, open_mask(how, set, &copy), old);
}
