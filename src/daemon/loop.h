/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's main loop: descriptors with a function each, over epoll.
 *
 * Watches are added, changed and removed from any thread; their functions run on the main thread. Whoever frees the object behind a
 * watch does that by loop_defer(), so that an event that is under way finds it alive.
 */
#ifndef LODGE_DAEMON_LOOP_H
#define LODGE_DAEMON_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/error.h"

struct watch {
    int fd;
    void (*ready)(struct watch *w, uint32_t events);
};

struct deferred;
struct loop {
    int epoll_fd;
    struct watch wake;
    pthread_mutex_t lock;
    struct deferred *first, **last;
    bool quit;
};

int loop_init(struct loop *l, struct error *err);
int loop_add(struct loop *l, struct watch *w, uint32_t events, struct error *err);
void loop_change(struct loop *l, struct watch *w, uint32_t events);
void loop_remove(struct loop *l, struct watch *w);
/* Runs fn(arg) on the main thread, after the events that are under way. Any thread. */
void loop_defer(struct loop *l, void (*fn)(void *arg), void *arg);
void loop_run(struct loop *l); /* until `quit` */

#endif
