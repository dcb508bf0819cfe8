/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM's timers: one thread that sleeps until the earliest of a binary heap of CLOCK_MONOTONIC deadlines.
 *
 * Arming wakes the thread only when it would sleep too long. After a cancel it wakes up for nothing at most once, at the old deadline: a guest that
 * goes idle and comes back moves its timer each time. The thread asks for a timer slack of 1 ns, as the default of 50 us would be the
 * largest part of a timer interrupt's latency.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "softkvm/irqchip/irqchip_priv.h"

static void heap_place(struct timers *t, unsigned i, struct vm_timer *tm)
{
    t->heap[i] = tm;
    tm->slot = i + 1;
}

static void heap_up(struct timers *t, unsigned i)
{
    struct vm_timer *tm = t->heap[i];
    while (i > 0 && t->heap[(i - 1) / 2]->deadline > tm->deadline) {
        heap_place(t, i, t->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_place(t, i, tm);
}

static void heap_down(struct timers *t, unsigned i)
{
    struct vm_timer *tm = t->heap[i];
    for (;;) {
        unsigned child = 2 * i + 1;
        if (child >= t->count)
            break;
        if (child + 1 < t->count && t->heap[child + 1]->deadline < t->heap[child]->deadline)
            child++;
        if (t->heap[child]->deadline >= tm->deadline)
            break;
        heap_place(t, i, t->heap[child]);
        i = child;
    }
    heap_place(t, i, tm);
}

static void heap_remove(struct timers *t, struct vm_timer *tm)
{
    if (!tm->slot)
        return;
    unsigned i = tm->slot - 1;
    tm->slot = 0;
    struct vm_timer *last = t->heap[--t->count];
    if (last == tm)
        return;
    heap_place(t, i, last);
    heap_up(t, i);
    heap_down(t, last->slot - 1);
}

static void heap_insert(struct timers *t, struct vm_timer *tm, uint64_t deadline)
{
    tm->deadline = deadline;
    heap_place(t, t->count++, tm);
    heap_up(t, tm->slot - 1);
}

/* Waits, with the lock held, until the callback of `tm` is not under way. The callback's own thread does not wait for itself. */
static void wait_done(struct timers *t, const struct vm_timer *tm)
{
    while (t->running == tm && !pthread_equal(pthread_self(), t->thread))
        pthread_cond_wait(&t->done, &t->lock);
}

static void fire_first(struct timers *t)
{
    struct vm_timer *tm = t->heap[0];
    uint64_t deadline = tm->deadline;
    unsigned gen = tm->gen;
    heap_remove(t, tm);
    t->running = tm;
    pthread_mutex_unlock(&t->lock);
    uint64_t next = tm->fire(tm->opaque, deadline);
    pthread_mutex_lock(&t->lock);
    t->running = NULL;
    if (next && tm->gen == gen)
        heap_insert(t, tm, next);
    pthread_cond_broadcast(&t->done);
}

/* Until the deadline or a wake-up; UINT64_MAX is a deadline that never comes. */
static void sleep_until(struct timers *t, uint64_t deadline)
{
    struct timespec ts = {.tv_sec = (time_t)(deadline / NS_PER_S), .tv_nsec = (long)(deadline % NS_PER_S)};
    t->asleep_until = deadline;
    if (deadline == UINT64_MAX)
        pthread_cond_wait(&t->wake, &t->lock);
    else
        pthread_cond_timedwait(&t->wake, &t->lock, &ts);
    t->asleep_until = 0;
}

static void *timer_thread(void *opaque)
{
    struct timers *t = opaque;
    prctl(PR_SET_NAME, "softkvm-timer");
    prctl(PR_SET_TIMERSLACK, 1);
    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        uint64_t first = t->count ? t->heap[0]->deadline : UINT64_MAX;
        if (first > now_ns())
            sleep_until(t, first);
        else
            fire_first(t);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

int timers_init(struct timers *t)
{
    memset(t, 0, sizeof(*t));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int err = pthread_mutex_init(&t->lock, NULL);
    if (!err)
        err = pthread_cond_init(&t->wake, &attr);
    if (!err)
        err = pthread_cond_init(&t->done, NULL);
    pthread_condattr_destroy(&attr);
    return -err;
}

int timers_start(struct timers *t)
{
    /* The VMM's signals are for its own threads. */
    sigset_t all, old;
    int err = 0;
    sigfillset(&all);
    pthread_mutex_lock(&t->lock);
    if (!t->started) {
        pthread_sigmask(SIG_SETMASK, &all, &old);
        err = pthread_create(&t->thread, NULL, timer_thread, t);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        t->started = !err;
    }
    pthread_mutex_unlock(&t->lock);
    return -err;
}

void timers_destroy(struct timers *t)
{
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    if (t->started)
        pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->wake);
    pthread_cond_destroy(&t->done);
    pthread_mutex_destroy(&t->lock);
}

void timer_arm(struct timers *t, struct vm_timer *tm, uint64_t deadline, bool wait)
{
    pthread_mutex_lock(&t->lock);
    if (wait)
        wait_done(t, tm);
    heap_remove(t, tm);
    tm->gen++;
    heap_insert(t, tm, deadline);
    bool too_long = deadline < t->asleep_until;
    if (too_long)
        t->asleep_until = deadline; /* as far as others are concerned who arm before it has woken up */
    pthread_mutex_unlock(&t->lock);
    if (too_long)
        pthread_cond_signal(&t->wake); /* the lock is free for it */
}

void timer_cancel(struct timers *t, struct vm_timer *tm, bool wait)
{
    pthread_mutex_lock(&t->lock);
    tm->gen++;
    heap_remove(t, tm);
    if (wait)
        wait_done(t, tm);
    pthread_mutex_unlock(&t->lock);
}
