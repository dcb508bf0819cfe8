/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM_SET_SIGNAL_MASK for one vCPU, and threads of our own. A header by itself: <signal.h> and x86/insn.h both have a REG_RIP.
 */
#ifndef LODGE_SOFTKVM_SIGMASK_H
#define LODGE_SOFTKVM_SIGMASK_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/select.h> /* sigset_t */

struct sigmask {
    bool set;
    _Atomic bool running; /* KVM_RUN is under way with the mask: wants REQ_TICK */
    _Atomic int wake_fd;  /* eventfd for kicks, and signalfd of what the mask lets through: a sleeping vCPU polls both. -1 without a mask */
    int signal_fd;
    sigset_t mask, saved;
};

void sigmask_init(struct sigmask *s);
void sigmask_free(struct sigmask *s);
int sigmask_set(struct sigmask *s, const struct kvm_signal_mask *m); /* NULL: no mask. 0 or -errno */
void sigmask_enter(struct sigmask *s); /* KVM_RUN's begin and end: the mask takes effect */
void sigmask_leave(struct sigmask *s);
bool sigmask_pending(const struct sigmask *s); /* is a signal that the mask lets through waiting? */

/* A thread on which none of the host program's signal handlers runs. 0 or -errno. */
int thread_create(pthread_t *t, void *(*fn)(void *), void *arg);

#endif
