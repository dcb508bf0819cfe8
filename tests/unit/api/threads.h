/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A vCPU that runs on a thread of its own until an exit that the test waits for. */
#ifndef LODGE_TESTS_API_THREADS_H
#define LODGE_TESTS_API_THREADS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "harness.h"

struct runner {
    struct guest *g;
    unsigned cpu;
    pthread_t thread;
    _Atomic bool done;
    _Atomic int tid;
    int ret, err; /* of KVM_RUN */
};

/* Runs until something other than EAGAIN and the exits in `skip` (bits) comes. */
static inline void *runner_main(void *arg)
{
    struct runner *r = arg;
    r->tid = gettid();
    do {
        r->ret = be->ioctl(r->g->vcpu[r->cpu], KVM_RUN, NULL);
        r->err = r->ret < 0 ? errno : 0;
    } while (r->err == EAGAIN);
    r->done = true;
    return NULL;
}

static inline void runner_start(struct runner *r, struct guest *g, unsigned cpu)
{
    *r = (struct runner){.g = g, .cpu = cpu};
    CHECK(!pthread_create(&r->thread, NULL, runner_main, r));
}

/* Is it done within this time? For what must not happen; what must is waited for with runner_ends(). */
static inline bool runner_done(struct runner *r, int ms)
{
    for (uint64_t end = now_ns() + (uint64_t)ms * 1000000; !r->done && now_ns() < end;)
        usleep(100);
    return r->done;
}

/* The cap is there against hanging: a loaded machine may take its time. */
static inline bool runner_ends(struct runner *r)
{
    return runner_done(r, 120000);
}

/* The state of its thread as `ps` shows it, and how often that has gone to sleep. */
static inline char runner_state(const struct runner *r, unsigned long *sleeps)
{
    char path[64], line[256], state = '?';
    snprintf(path, sizeof(path), "/proc/self/task/%d/status", r->tid);
    FILE *f = fopen(path, "r");
    CHECK(f);
    while (fgets(line, sizeof(line), f)) {
        sscanf(line, "State: %c", &state);
        sscanf(line, "voluntary_ctxt_switches: %lu", sleeps);
    }
    fclose(f);
    return state;
}

/*
 * Waits until it sleeps: ten looks in a row, 2 ms apart, find it in one and the same sleep. One that polls instead, or that wakes
 * up time and again, is never found so.
 */
static inline bool runner_sleeps(const struct runner *r)
{
    unsigned long last = 0, now = 0;
    for (unsigned looks = 0, same = 0; looks < 60000 && !r->done; looks++) {
        same = r->tid && runner_state(r, &now) == 'S' && now == last ? same + 1 : 0;
        if (same == 10)
            return true;
        last = now;
        usleep(2000);
    }
    return false;
}

/* The exit that ended it, or minus errno. */
static inline int runner_join(struct runner *r)
{
    pthread_join(r->thread, NULL);
    return r->err ? -r->err : (int)r->g->run[r->cpu]->exit_reason;
}

#endif
