// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "base/util.h"

#define EVENTS 64

struct deferred {
    struct deferred *next;
    void (*fn)(void *arg);
    void *arg;
};

static void woken(struct watch *w, uint32_t events)
{
    eventfd_t count;
    (void)events;
    eventfd_read(w->fd, &count);
}

int loop_init(struct loop *l, struct error *err)
{
    *l = (struct loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC), .wake = {eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), woken}};
    l->last = &l->first;
    pthread_mutex_init(&l->lock, NULL);
    if (l->epoll_fd < 0 || l->wake.fd < 0)
        return error_set(err, errno, "main loop: cannot create its descriptors: %s; raise the limit of open files",
                         strerror(errno));
    return loop_add(l, &l->wake, EPOLLIN, err);
}

int loop_add(struct loop *l, struct watch *w, uint32_t events, struct error *err)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, w->fd, &e) < 0)
        return error_set(err, errno, "main loop: cannot watch a descriptor: %s", strerror(errno));
    return 0;
}

void loop_change(struct loop *l, struct watch *w, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, w->fd, &e);
}

void loop_remove(struct loop *l, struct watch *w)
{
    epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
}

void loop_defer(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct deferred *d = malloc(sizeof *d);
    if (!d) {
        log_error("out of memory; an object is not freed");
        return;
    }
    *d = (struct deferred){.fn = fn, .arg = arg};
    pthread_mutex_lock(&l->lock);
    *l->last = d;
    l->last = &d->next;
    pthread_mutex_unlock(&l->lock);
    eventfd_write(l->wake.fd, 1);
}

static void run_deferred(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    struct deferred *d = l->first;
    l->first = NULL;
    l->last = &l->first;
    pthread_mutex_unlock(&l->lock);
    for (struct deferred *next; d; d = next) {
        next = d->next;
        d->fn(d->arg);
        free(d);
    }
}

void loop_run(struct loop *l)
{
    struct epoll_event events[EVENTS];
    while (!l->quit) {
        int n = epoll_wait(l->epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct watch *w = events[i].data.ptr;
            w->ready(w, events[i].events);
        }
        run_deferred(l);
    }
}
