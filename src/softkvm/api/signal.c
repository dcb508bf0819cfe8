// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM_SET_SIGNAL_MASK: the signals that end KVM_RUN although the thread has them blocked.
 *
 * The kernel swaps the thread's mask during KVM_RUN and returns with EINTR when a signal is pending then; no handler runs, and the
 * signal is still pending after the return. Here the thread's mask can only grow (a signal let through would reach its handler). So
 * what the mask lets through is looked for: by a signalfd while the vCPU sleeps (wait.c), by sigpending() at every REQ_TICK while
 * it runs. The ticks come from the VM's worker, and only while some vCPU runs with a mask.
 */
#include "softkvm/api/sigmask.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/util.h"

#define KERNEL_SIGSET_SIZE 8 /* bytes: 64 signals */

/* Signals by which the CPU reports what a thread did; blocked, they kill the process. */
static const int synchronous[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};

static void drop_synchronous(sigset_t *set)
{
    for (unsigned i = 0; i < ARRAY_SIZE(synchronous); i++)
        sigdelset(set, synchronous[i]);
}

void sigmask_init(struct sigmask *s)
{
    s->wake_fd = s->signal_fd = -1;
}

void sigmask_free(struct sigmask *s)
{
    int wake = atomic_exchange(&s->wake_fd, -1);
    if (wake >= 0)
        close(wake);
    if (s->signal_fd >= 0)
        close(s->signal_fd);
    s->signal_fd = -1;
    s->set = false;
}

static int open_fds(struct sigmask *s, const sigset_t *through)
{
    if (atomic_load(&s->wake_fd) < 0) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (fd < 0)
            return -errno;
        atomic_store(&s->wake_fd, fd);
    }
    int fd = signalfd(s->signal_fd, through, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    s->signal_fd = fd;
    return 0;
}

/* The signals that `mask` lets through. */
static void complement(sigset_t *out, const sigset_t *mask)
{
    sigfillset(out);
    for (int sig = 1; sig < NSIG; sig++)
        if (sigismember(mask, sig) > 0)
            sigdelset(out, sig);
    drop_synchronous(out);
}

int sigmask_set(struct sigmask *s, const struct kvm_signal_mask *m)
{
    if (!m) {
        sigmask_free(s);
        return 0;
    }
    if (m->len != KERNEL_SIGSET_SIZE)
        return -EINVAL;
    sigset_t mask, through;
    sigemptyset(&mask);
    memcpy(&mask, m->sigset, KERNEL_SIGSET_SIZE); /* glibc's set begins with the kernel's */
    complement(&through, &mask);
    int err = open_fds(s, &through);
    if (err)
        return err;
    s->mask = mask;
    s->set = true;
    return 0;
}

void sigmask_enter(struct sigmask *s)
{
    if (!s->set)
        return;
    sigset_t block = s->mask;
    drop_synchronous(&block);
    pthread_sigmask(SIG_BLOCK, &block, &s->saved);
    atomic_store(&s->running, true);
}

void sigmask_leave(struct sigmask *s)
{
    if (!s->set)
        return;
    atomic_store(&s->running, false);
    pthread_sigmask(SIG_SETMASK, &s->saved, NULL);
}

bool sigmask_pending(const struct sigmask *s)
{
    if (!s->set)
        return false;
    sigset_t pending, through;
    sigpending(&pending);
    complement(&through, &s->mask);
    for (int sig = 1; sig < NSIG; sig++)
        if (sigismember(&pending, sig) > 0 && sigismember(&through, sig) > 0)
            return true;
    return false;
}

int thread_create(pthread_t *t, void *(*fn)(void *), void *arg)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int err = pthread_create(t, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -err;
}
