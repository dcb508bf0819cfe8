/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a disk's fibers wait for system calls. A step is one system call on one descriptor; io_run() performs it and returns what it gives. In a fiber
 * other fibers run meanwhile; outside of fibers (opening, closing, tools) the call is simply made. IO_CALL is for what takes long and is no system call:
 * compression, encryption of much, libraries that talk to a server. It runs in a worker thread, and many at a time.
 *
 * A loop belongs to one thread at a time, as a struct block does (block.h).
 */
#ifndef LODGE_BLOCK_LOOP_H
#define LODGE_BLOCK_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/fiber.h"
#include "block/block.h"

#define LOOP_DEPTH 128 /* steps that an engine has at a time */

enum io_kind {
    IO_READ,
    IO_WRITE,
    IO_SYNC,
    IO_ALLOCATE,
    IO_EXTEND, /* the file ends at `offset` then */
    IO_CALL, /* call(arg), in another thread */
    IO_HAND, /* hand(arg) begins it, and somebody ends it: io_step_done(), or from another thread io_step_post(); in fibers only */
};

struct io_step {
    enum io_kind kind;
    bool cached;          /* a transfer through the page cache */
    int fd, mode;         /* mode: fallocate(2)'s */
    uint64_t offset, len; /* bytes */
    const struct iovec *iov;
    int niov;
    ssize_t (*call)(void *arg);
    void (*hand)(void *arg);
    void *arg;
    ssize_t ret; /* bytes, 0, or -errno */
    struct fiber *waiter;
    struct io_step *next;
};

/* First in, first out. `tail` is where the next one goes: &first of an empty queue. */
struct io_steps {
    struct io_step *first, **tail;
};

static inline void io_steps_push(struct io_steps *q, struct io_step *s)
{
    s->next = NULL;
    *q->tail = s;
    q->tail = &s->next;
}

static inline struct io_step *io_steps_pop(struct io_steps *q) /* it is not empty */
{
    struct io_step *s = q->first;
    q->first = s->next;
    if (!q->first)
        q->tail = &q->first;
    return s;
}

static inline void io_steps_append(struct io_steps *q, struct io_steps *more) /* `more` is empty then */
{
    if (!more->first)
        return;
    *q->tail = more->first;
    q->tail = more->tail;
    more->first = NULL;
    more->tail = &more->first;
}

struct io_loop;
struct io_engine {
    const char *name;
    int (*open)(struct io_loop *l, struct error *err); /* completions make l->event_fd readable */
    void (*close)(struct io_loop *l);
    /* Takes a step; may put off starting it to reap(). At most LOOP_DEPTH at a time. */
    void (*start)(struct io_loop *l, struct io_step *s);
    /* Calls io_step_done() for each completed step; true if there was any. */
    bool (*reap)(struct io_loop *l);
};
extern const struct io_engine io_uring_engine;

/* A descriptor that has something to do now and then: a socket, a timer. */
struct io_source {
    int fd;
    uint32_t events; /* EPOLLIN, EPOLLOUT: what is waited for */
    void (*ready)(void *arg, uint32_t events); /* between fibers, in the loop's thread; called again until the events are gone */
    void *arg;
    bool watched;
};

struct io_workers;
struct io_loop {
    int event_fd, poll_fd; /* poll_fd: an epoll(7) descriptor for event_fd and the sources; -1 while there is none */
    const struct io_engine *engine; /* NULL: the workers do everything */
    void *engine_data;
    struct io_workers *workers; /* NULL until there is work for them */
    pthread_mutex_t posted_lock;
    struct io_steps posted; /* ended in other threads */
    unsigned in_engine;
    struct io_steps waiting; /* that the engine has no room for */
    struct fiber_queue ready;
    struct fiber_pool fibers;
    unsigned alive; /* fibers that have not ended */
    bool in_fiber;  /* one of ours runs */
};

/* 0, or -1 with err. */
int io_loop_create(enum block_engine want, struct io_loop **out, struct error *err);
void io_loop_free(struct io_loop *l); /* no fiber is alive */
/* Runs fn(arg) in a fiber from the next io_loop_poll() on. 0 or -ENOMEM. */
int io_loop_spawn(struct io_loop *l, fiber_fn *fn, void *arg);
/* Runs what can run, without waiting. */
void io_loop_poll(struct io_loop *l);
/* Polls until no fiber is alive. */
void io_loop_drain(struct io_loop *l);
/* Polls once, and waits for an event first when nothing could run. */
void io_loop_turn(struct io_loop *l);

/* What the owner waits for to become readable; the same after all disks are open. */
int io_loop_fd(const struct io_loop *l);
/* Begins to watch, or changes what is waited for. 0 or -errno. */
int io_loop_watch(struct io_loop *l, struct io_source *s);
void io_loop_unwatch(struct io_loop *l, struct io_source *s);

ssize_t io_run(struct io_loop *l, struct io_step *s);
ssize_t io_call(struct io_loop *l, ssize_t (*call)(void *arg), void *arg); /* its result */
ssize_t io_perform(const struct io_step *s); /* at once, in this thread */
void io_step_done(struct io_loop *l, struct io_step *s, ssize_t ret);
void io_step_post(struct io_loop *l, struct io_step *s, ssize_t ret); /* the same, from any thread */
void io_steps_post(struct io_loop *l, struct io_steps *ended); /* the same for several, which have their `ret`, and at least one */

const char *io_loop_engine_name(const struct io_loop *l);

/* ---- threads.c: a few threads that perform steps ---- */
/* Threads start when there is work. NULL without memory. */
struct io_workers *io_workers_create(struct io_loop *l);
void io_workers_free(struct io_workers *w); /* nothing is under way */
void io_workers_give(struct io_workers *w, struct io_steps *steps); /* each ends by io_steps_post(); all stay in `steps` when no thread can be made */

/* A lock between fibers of one loop; held across waits. Outside of fibers nobody else runs, and it is free. */
struct fiber_lock {
    bool held;
    struct fiber_queue waiters;
};
void fiber_lock(struct fiber_lock *k);
void fiber_unlock(struct io_loop *l, struct fiber_lock *k);

#endif
