/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For a shim that stands between a program and the C library (preload/): what it must tell softkvm, since the program believes that it talks
 * to the kernel. Free of other headers of softkvm, because <signal.h> and x86/insn.h both have a REG_RIP.
 */
#ifndef LODGE_SOFTKVM_HOSTING_H
#define LODGE_SOFTKVM_HOSTING_H

#include <pthread.h>
#include <stdbool.h>

struct sigaction;

/* Descriptors (fds.c). */
int fds_duplicated(int from, int to); /* `to` stands for the same object as `from` now: 0, -EBADF or -ENOMEM */
void fds_forget(int fd);              /* `fd` is no descriptor of softkvm any more; it is not closed here */
/* Is `fd`, which came by a way that nobody saw (SCM_RIGHTS, exec), one of ours all the same? Then it is known from now on. A VM or vCPU of another
 * process answers EIO. */
bool fds_recognize(int fd);

/* CPUID is to offer no XSAVE component that the host lacks or keeps elsewhere: QEMU asks the host's CPUID for the places of those that it gives to
 * the guest. To be called before softkvm_open(). */
void cpuid_places_as_host(void);

/* A signal handler of the program runs in this thread. When that is inside KVM_RUN, KVM_RUN returns EINTR soon, and the answer is true. For
 * signal handlers; may change errno. */
bool run_signalled(void);

/* Around KVM_RUN on `fd` by a thread that may be cancelled at any moment; run_cancelled(thread) makes it return EINTR. */
void run_announce(int fd, bool begins);
void run_cancelled(pthread_t thread);

/* Signals whose handler must stay softkvm's (trap.c). trap_chain() is sigaction() for the handler behind it, and trap_busy says that the thread sets
 * a handler on softkvm's own behalf. */
extern _Thread_local bool trap_busy;
bool trap_owns(int sig);
void trap_chain(int sig, const struct sigaction *act, struct sigaction *old);

#endif
