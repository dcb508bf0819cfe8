/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A growing array for poll(2), refilled on every turn of an I/O thread's loop. */
#ifndef LODGE_BASE_POLLSET_H
#define LODGE_BASE_POLLSET_H

#include <poll.h>
#include <stdlib.h>

struct pollset {
    struct pollfd *fds; /* owned */
    unsigned n, cap;
    int timeout_ms; /* -1: none */
};

static inline void pollset_clear(struct pollset *p)
{
    p->n = 0;
    p->timeout_ms = -1;
}

static inline void pollset_free(struct pollset *p)
{
    free(p->fds);
    *p = (struct pollset){.timeout_ms = -1};
}

/* The entry's index, or -1 when there is no memory for it. */
static inline int pollset_add(struct pollset *p, int fd, short events)
{
    if (p->n == p->cap) {
        unsigned cap = p->cap ? p->cap * 2 : 16;
        struct pollfd *fds = realloc(p->fds, cap * sizeof *fds);
        if (!fds)
            return -1;
        p->fds = fds;
        p->cap = cap;
    }
    p->fds[p->n] = (struct pollfd){.fd = fd, .events = events};
    return (int)p->n++;
}

static inline short pollset_revents(const struct pollset *p, int index)
{
    return index >= 0 && (unsigned)index < p->n ? p->fds[index].revents : 0;
}

/* Lowers the timeout to `ms`; negative: no wish. */
static inline void pollset_timeout(struct pollset *p, int ms)
{
    if (ms >= 0 && (p->timeout_ms < 0 || ms < p->timeout_ms))
        p->timeout_ms = ms;
}

#endif
