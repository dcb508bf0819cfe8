// SPDX-License-Identifier: GPL-2.0-or-later
/* Locked instructions of one thread, and two threads that share a counter under a mutex or a spin lock. */
#include "bench.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

bool bench_atomics(struct bench *b)
{
    static _Atomic uint64_t counter, bits, slot;
    counter = bits = slot = 0;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        atomic_fetch_add(&counter, 3);
        atomic_fetch_xor(&bits, 1ull << (n & 63));
        uint64_t old = atomic_load(&slot);
        while (!atomic_compare_exchange_weak(&slot, &old, old * 5 + atomic_exchange(&counter, counter)))
            ;
    }
    bench_stop(b);
    bench_fold(b, counter);
    bench_fold(b, bits);
    bench_fold(b, slot);
    return counter == 3 * (uint64_t)b->work;
}

struct shared {
    pthread_mutex_t mutex;
    _Atomic bool taken;
    unsigned long work;
    uint64_t counter; /* under the lock */
};

static void *with_mutex(void *arg)
{
    struct shared *s = arg;
    for (unsigned long n = 0; n < s->work; n++) {
        pthread_mutex_lock(&s->mutex);
        s->counter += n;
        pthread_mutex_unlock(&s->mutex);
    }
    return NULL;
}

/* Whoever waits long gives the CPU away: its owner may have none. */
static void *with_spin(void *arg)
{
    struct shared *s = arg;
    for (unsigned long n = 0; n < s->work; n++) {
        for (unsigned tries = 1; atomic_exchange_explicit(&s->taken, true, memory_order_acquire); tries++) {
            while (atomic_load_explicit(&s->taken, memory_order_relaxed) && tries % 1024) {
                __builtin_ia32_pause();
                tries++;
            }
            if (tries % 1024 == 0)
                sched_yield();
        }
        s->counter += n;
        atomic_store_explicit(&s->taken, false, memory_order_release);
    }
    return NULL;
}

/* Two threads share the work. */
static bool two_threads(struct bench *b, void *(*body)(void *))
{
    struct shared s = {.mutex = PTHREAD_MUTEX_INITIALIZER, .work = (b->work + 1) / 2};
    pthread_t other;
    bench_start(b);
    if (pthread_create(&other, NULL, body, &s))
        return false;
    body(&s);
    pthread_join(other, NULL);
    bench_stop(b);
    bench_fold(b, s.counter);
    return s.counter == (uint64_t)s.work * (s.work - 1);
}

bool bench_mutex(struct bench *b)
{
    return two_threads(b, with_mutex);
}

bool bench_spin(struct bench *b)
{
    return two_threads(b, with_spin);
}
