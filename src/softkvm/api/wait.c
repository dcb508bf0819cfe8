// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The sleep of a vCPU that has nothing to do, and vcpu_kick().
 *
 * It sleeps on a futex: the first word of kvm_run. That word holds immediate_exit, which a signal handler of user space may set at
 * any moment, also between our last look at it and the system call; the kernel compares the word again, so that the wish is never
 * lost. For kicks the word has a bit of its own, in a byte that the ABI leaves unused and that is only set while the vCPU sleeps.
 *
 * Before it sleeps it polls for a while, as a wake-up costs the waker a system call and the sleeper tens of microseconds. How long follows from
 * what waits have lasted: not at all where they are longer than the limit, so that an idle guest takes no CPU; twice as long as before where
 * polling would have met the end of a wait; and nothing where the host has something else to run.
 *
 * With KVM_SET_SIGNAL_MASK the signals that should end KVM_RUN are blocked and reach no handler. Then the vCPU polls a signalfd of
 * exactly these signals, and an eventfd for kicks.
 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>

#include "softkvm/api/api.h"

#define POLL_START_NS 10000u
#define POLL_SPINS    50     /* looks between two glances at the clock */
#define PREEMPTED_NS  30000u /* between two of these: somebody else has had the CPU */

#define WAKE_BIT BIT(16) /* kvm_run->padding1[0] */

/* With a timeout FUTEX_WAIT is never restarted after a signal handler, whatever SA_RESTART says; its length means nothing. */
static const struct timespec wait_limit = {.tv_sec = 3600};

static _Atomic uint32_t *wait_word(struct vcpu *v)
{
    return (_Atomic uint32_t *)(void *)v->run;
}

void vcpu_poke(struct vcpu *v)
{
    bt_poke(v);
    direct_kick(v);
}

void vcpu_kick(struct vcpu *v, uint32_t requests)
{
    struct vcpu_api *a = v->api;
    atomic_fetch_or(&v->requests, requests);
    vcpu_poke(v);
    if (!atomic_load(&a->waiting))
        return;
    int fd = atomic_load(&a->sigmask.wake_fd);
    if (fd >= 0) {
        uint64_t one = 1;
        while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
        return;
    }
    atomic_fetch_or(wait_word(v), WAKE_BIT);
    syscall(SYS_futex, wait_word(v), FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Requests that end a sleep; the others (REQ_STEP, REQ_SHADOW, REQ_TLB_FLUSH, REQ_PAUSE) can wait until the vCPU runs. */
static bool woken(struct vcpu *v)
{
    return (atomic_load(&v->requests) & (REQ_EXIT | REQ_EVENT | REQ_TICK)) || api_immediate_exit(v);
}

static enum wait_result wait_futex(struct vcpu *v)
{
    _Atomic uint32_t *word = wait_word(v);
    enum wait_result result = WAIT_WOKEN;
    for (;;) {
        uint32_t seen = atomic_load(word) & ~WAKE_BIT;
        if (woken(v))
            break;
        if (!syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, &wait_limit, NULL, 0))
            continue;
        if (errno == EINTR) {
            result = WAIT_SIGNAL;
            break;
        }
        if (atomic_load(word) & WAKE_BIT)
            break;
    }
    return result;
}

static enum wait_result wait_poll(struct vcpu *v)
{
    struct vcpu_api *a = v->api;
    struct pollfd fds[2] = {{.fd = a->sigmask.wake_fd, .events = POLLIN}, {.fd = a->sigmask.signal_fd, .events = POLLIN}};
    while (!woken(v)) {
        int n = poll(fds, 2, -1);
        if ((n < 0 && errno == EINTR) || (n > 0 && fds[1].revents))
            return WAIT_SIGNAL;
        uint64_t count;
        if (n > 0 && fds[0].revents && read(a->sigmask.wake_fd, &count, sizeof(count)) < 0)
            break;
    }
    return WAIT_WOKEN;
}

/* ---- polling before the sleep ---- */

static bool poll_woken(struct vcpu *v, uint64_t start)
{
    struct vcpu_api *a = v->api;
    uint64_t last = start, now = start;
    while (now - start < a->poll_ns) {
        for (unsigned n = 0; n < POLL_SPINS; n++) {
            if (woken(v))
                return true;
            __builtin_ia32_pause();
        }
        sched_yield();
        now = now_ns();
        if (now - last > PREEMPTED_NS) {
            a->poll_ns = 0;
            break;
        }
        last = now;
    }
    return woken(v);
}

static void poll_adapt(struct vcpu *v, uint64_t waited)
{
    struct vcpu_api *a = v->api;
    uint32_t limit = atomic_load(&v->vm->api->halt_poll_ns);
    if (waited > limit)
        a->poll_ns = 0;
    else if (waited > a->poll_ns)
        a->poll_ns = MIN(MAX(2 * a->poll_ns, POLL_START_NS), limit);
}

static enum wait_result sleep_until_woken(struct vcpu *v)
{
    struct vcpu_api *a = v->api;
    atomic_store(&a->waiting, true);
    enum wait_result result = a->sigmask.set ? wait_poll(v) : wait_futex(v);
    atomic_store(&a->waiting, false);
    atomic_fetch_and(wait_word(v), ~WAKE_BIT);
    return result;
}

enum wait_result vcpu_wait(struct vcpu *v)
{
    uint64_t start = now_ns();
    enum wait_result result = WAIT_WOKEN;
    STAT_ADD(v, halts, 1);
    pin_end(v);
    stats_publish(v);
    bool may_poll = (v->msr.kvm_poll_control & 1) && !v->api->sigmask.set; /* a blocked signal would not be seen by polling */
    bool polls = may_poll && v->api->poll_ns;
    STAT_ADD(v, polls, polls);
    if (polls && poll_woken(v, start))
        STAT_ADD(v, polls_woken, 1);
    else
        result = sleep_until_woken(v);
    poll_adapt(v, now_ns() - start);
    return result;
}
