// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Signal handlers for traps in stubs. The kernel keeps the guest's vector state in the signal frame and puts it back at the return, so the trap
 * costs the guest nothing but its two microseconds: the state is as the faulting instruction left it.
 *
 * A file of its own because <ucontext.h> and insn.h both have a REG_RIP.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#include "base/util.h"
#include "softkvm/api/hosting.h"
#include "softkvm/x86/bt.h"
#include "softkvm/x86/trap.h"

enum { TRAP_UD = 6, TRAP_GP = 13, TRAP_MF = 16, TRAP_XM = 19 };

void fpu_trap_return(void);
extern const uint8_t fpu_ops_begin[], fpu_ops_end[];

static struct {
    const uint8_t *begin, *end;
    bool installed;
    struct sigaction fpe, ill, segv, bus; /* the handlers behind ours */
} trap;
_Thread_local bool trap_busy;

static struct sigaction *behind(int sig)
{
    return sig == SIGFPE ? &trap.fpe : sig == SIGILL ? &trap.ill : sig == SIGBUS ? &trap.bus : &trap.segv;
}

static bool ours(uint64_t rip, uint64_t vector)
{
    const uint8_t *p = (const uint8_t *)rip;
    if (vector != TRAP_UD && vector != TRAP_GP && vector != TRAP_MF && vector != TRAP_XM)
        return false; /* a page fault, say, is a hole in user space's memory, and nothing of the guest's */
    return (p >= trap.begin && p < trap.end) || (p >= fpu_ops_begin && p < fpu_ops_end);
}

/* By kill(), say: not the running instruction's doing. */
static bool was_sent(const siginfo_t *info)
{
    return info->si_code <= 0;
}

static void pass_on(int sig, siginfo_t *info, void *ctx)
{
    const struct sigaction *old = behind(sig);
    if (old->sa_flags & SA_SIGINFO)
        old->sa_sigaction(sig, info, ctx);
    else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN)
        old->sa_handler(sig);
    else if (old->sa_handler == SIG_DFL || !was_sent(info)) {
        trap_busy = true;
        signal(sig, SIG_DFL); /* the instruction runs again, and ends the process */
        trap_busy = false;
        if (was_sent(info))
            raise(sig); /* which this handler's end lets through */
    }
}

static void on_signal(int sig, siginfo_t *info, void *ctx)
{
    ucontext_t *uc = ctx;
    greg_t *r = uc->uc_mcontext.gregs;
    uint64_t r11 = (uint64_t)r[REG_R11];
    uint64_t next = was_sent(info) ? 0 : bt_trap((uint64_t)r[REG_RIP], (uint64_t)(uintptr_t)info->si_addr, &r11);
    if (next) {
        r[REG_R11] = (greg_t)r11;
        r[REG_RIP] = (greg_t)next;
        return;
    }
    if (was_sent(info) || !ours((uint64_t)r[REG_RIP], (uint64_t)r[REG_TRAPNO])) {
        pass_on(sig, info, ctx);
        return;
    }
    r[REG_RAX] = (greg_t)NATIVE_TRAP(r[REG_TRAPNO]);
    r[REG_RIP] = (greg_t)(uintptr_t)fpu_trap_return;
}

int trap_install(const void *begin, const void *end)
{
    static struct sigaction sa; /* static: filling 152 bytes in would call memset */
    sa.sa_sigaction = on_signal;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
    trap.begin = begin;
    trap.end = end;
    sigemptyset(&sa.sa_mask);
    trap_busy = true;
    trap.installed = !sigaction(SIGFPE, &sa, &trap.fpe) && !sigaction(SIGILL, &sa, &trap.ill) && !sigaction(SIGSEGV, &sa, &trap.segv) &&
                     !sigaction(SIGBUS, &sa, &trap.bus); /* SIGBUS: #SS, a non-canonical address made with rsp or rbp */
    trap_busy = false;
    return trap.installed ? 0 : -errno;
}

bool trap_owns(int sig)
{
    return trap.installed && !trap_busy && (sig == SIGFPE || sig == SIGILL || sig == SIGSEGV || sig == SIGBUS);
}

void trap_chain(int sig, const struct sigaction *act, struct sigaction *old)
{
    if (old)
        *old = *behind(sig);
    if (act)
        *behind(sig) = *act;
}
