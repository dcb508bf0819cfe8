// SPDX-License-Identifier: GPL-2.0-or-later
#include "block/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "base/util.h"

#define COPY_BYTES (32 * KIB) /* from here on a read is large */

/* ---- steps ---- */

ssize_t io_perform(const struct io_step *s)
{
    ssize_t ret = -1;
    switch (s->kind) {
    case IO_READ: ret = preadv(s->fd, s->iov, s->niov, (off_t)s->offset); break;
    case IO_WRITE: ret = pwritev(s->fd, s->iov, s->niov, (off_t)s->offset); break;
    case IO_SYNC: ret = fdatasync(s->fd); break;
    case IO_ALLOCATE: ret = fallocate(s->fd, s->mode, (off_t)s->offset, (off_t)s->len); break;
    case IO_EXTEND: ret = ftruncate(s->fd, (off_t)s->offset); break;
    case IO_CALL: return s->call(s->arg);
    case IO_HAND: return -ENOSYS;
    }
    return ret < 0 ? -errno : ret;
}

ssize_t io_run(struct io_loop *l, struct io_step *s)
{
    if (!l->in_fiber)
        return io_perform(s);
    s->waiter = fiber_self();
    io_steps_push(&l->waiting, s);
    fiber_yield();
    return s->ret;
}

ssize_t io_call(struct io_loop *l, ssize_t (*call)(void *arg), void *arg)
{
    struct io_step s = {.kind = IO_CALL, .call = call, .arg = arg};
    return io_run(l, &s);
}

void io_step_done(struct io_loop *l, struct io_step *s, ssize_t ret)
{
    l->in_engine--;
    s->ret = ret;
    fiber_queue_push(&l->ready, s->waiter);
}

void io_steps_post(struct io_loop *l, struct io_steps *ended)
{
    pthread_mutex_lock(&l->posted_lock);
    if (!l->posted.first)
        eventfd_write(l->event_fd, 1); /* within the lock: the loop may be freed once it has seen its last step */
    io_steps_append(&l->posted, ended);
    pthread_mutex_unlock(&l->posted_lock);
}

void io_step_post(struct io_loop *l, struct io_step *s, ssize_t ret)
{
    struct io_steps one = {.tail = &one.first};
    s->ret = ret;
    io_steps_push(&one, s);
    io_steps_post(l, &one);
}

static bool reap_posted(struct io_loop *l)
{
    struct io_steps ended = {.tail = &ended.first};
    pthread_mutex_lock(&l->posted_lock);
    io_steps_append(&ended, &l->posted);
    pthread_mutex_unlock(&l->posted_lock);
    bool any = ended.first;
    while (ended.first) {
        struct io_step *s = io_steps_pop(&ended);
        io_step_done(l, s, s->ret);
    }
    return any;
}

/*
 * What is copied to the page cache, or in large pieces from it, is copied on all CPUs by our own workers: for that io_uring's take a third more CPU time,
 * and most file systems have them do every buffered write. Small reads of what is there are a few hundred cycles within io_uring's call.
 */
static bool is_for_workers(const struct io_loop *l, const struct io_step *s)
{
    return s->kind == IO_CALL || s->kind == IO_EXTEND || (s->cached && (s->kind == IO_WRITE || (s->kind == IO_READ && s->len >= COPY_BYTES && l->in_engine > 1)));
}

/* Without any thread the steps run at once. */
static void give_to_workers(struct io_loop *l, struct io_steps *steps)
{
    if (l->workers || (l->workers = io_workers_create(l)))
        io_workers_give(l->workers, steps);
    while (steps->first) {
        struct io_step *s = io_steps_pop(steps);
        io_step_done(l, s, io_perform(s));
    }
}

/* The workers get theirs together, so that writes find each other. */
static void start_waiting(struct io_loop *l)
{
    struct io_steps theirs = {.tail = &theirs.first};
    while (l->waiting.first && l->in_engine < LOOP_DEPTH) {
        struct io_step *s = io_steps_pop(&l->waiting);
        l->in_engine++;
        if (s->kind == IO_HAND)
            s->hand(s->arg);
        else if (!l->engine || is_for_workers(l, s))
            io_steps_push(&theirs, s);
        else
            l->engine->start(l, s);
    }
    if (theirs.first)
        give_to_workers(l, &theirs);
}

/* ---- sources ---- */

#define SOURCES_AT_ONCE 8

int io_loop_fd(const struct io_loop *l)
{
    return l->poll_fd >= 0 ? l->poll_fd : l->event_fd;
}

static int open_poll(struct io_loop *l)
{
    struct epoll_event e = {.events = EPOLLIN};
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (epoll_ctl(fd, EPOLL_CTL_ADD, l->event_fd, &e) < 0) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    l->poll_fd = fd;
    return 0;
}

int io_loop_watch(struct io_loop *l, struct io_source *s)
{
    struct epoll_event e = {.events = s->events, .data.ptr = s};
    int ret = l->poll_fd < 0 ? open_poll(l) : 0;
    if (ret < 0)
        return ret;
    if (epoll_ctl(l->poll_fd, s->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s->fd, &e) < 0)
        return -errno;
    s->watched = true;
    return 0;
}

void io_loop_unwatch(struct io_loop *l, struct io_source *s)
{
    if (s->watched && epoll_ctl(l->poll_fd, EPOLL_CTL_DEL, s->fd, NULL) < 0)
        log_error("block layer: cannot stop watching a descriptor: %s", strerror(errno));
    s->watched = false;
}

static void clear_event(struct io_loop *l)
{
    uint64_t n;
    if (read(l->event_fd, &n, sizeof n) < 0 && errno != EAGAIN)
        log_error("block layer: cannot read its eventfd: %s", strerror(errno));
}

/* True if it is worth to look again at everything. `ms` as in epoll_wait(2). */
static bool reap_sources(struct io_loop *l, int ms)
{
    struct epoll_event e[SOURCES_AT_ONCE];
    bool any = false;
    int n = l->poll_fd < 0 ? 0 : epoll_wait(l->poll_fd, e, SOURCES_AT_ONCE, ms);
    for (int i = 0; i < n; i++) {
        struct io_source *s = e[i].data.ptr; /* NULL: event_fd */
        if (!s)
            clear_event(l);
        else if (s->watched)
            s->ready(s->arg, e[i].events);
        else
            continue;
        any = true;
    }
    return any;
}

/* ---- locks ---- */

void fiber_lock(struct fiber_lock *k)
{
    struct fiber *self = fiber_self();
    if (!self)
        return;
    if (!k->held) {
        k->held = true;
        return;
    }
    fiber_queue_push(&k->waiters, self);
    fiber_yield(); /* fiber_unlock() has handed the lock over */
}

void fiber_unlock(struct io_loop *l, struct fiber_lock *k)
{
    struct fiber *next = fiber_queue_pop(&k->waiters);
    if (next)
        fiber_queue_push(&l->ready, next);
    else
        k->held = false;
}

/* ---- running ---- */

struct start {
    struct io_loop *loop;
    fiber_fn *fn;
    void *arg;
};

static void first(void *arg)
{
    struct start s = *(struct start *)arg;
    free(arg);
    s.fn(s.arg);
    s.loop->alive--;
}

int io_loop_spawn(struct io_loop *l, fiber_fn *fn, void *arg)
{
    struct start *s = malloc(sizeof *s);
    struct fiber *f = s ? fiber_create(&l->fibers, first, s) : NULL;
    if (!f) {
        free(s);
        return -ENOMEM;
    }
    *s = (struct start){l, fn, arg};
    l->alive++;
    fiber_queue_push(&l->ready, f);
    return 0;
}

static bool run_ready(struct io_loop *l)
{
    struct fiber *f = fiber_queue_pop(&l->ready);
    bool any = f;
    for (; f; f = fiber_queue_pop(&l->ready)) {
        l->in_fiber = true;
        fiber_resume(f);
        l->in_fiber = false;
    }
    return any;
}

static bool reap(struct io_loop *l)
{
    bool any = reap_posted(l);
    any |= l->engine && l->engine->reap(l);
    return reap_sources(l, 0) || any;
}

static void pump(struct io_loop *l)
{
    do {
        run_ready(l);
        start_waiting(l);
    } while (reap(l) || l->ready.first || (l->waiting.first && l->in_engine < LOOP_DEPTH));
}

/* What completes at once has signalled the eventfd too; clearing it behind that, and looking once more, saves the owner a useless turn. */
void io_loop_poll(struct io_loop *l)
{
    pump(l);
    if (l->poll_fd >= 0) /* which tells of the eventfd too */
        return;
    clear_event(l);
    pump(l);
}

void io_loop_turn(struct io_loop *l)
{
    io_loop_poll(l);
    if (!l->alive)
        return;
    struct pollfd p = {.fd = l->event_fd, .events = POLLIN};
    if (l->poll_fd >= 0)
        reap_sources(l, -1);
    else
        poll(&p, 1, -1);
    io_loop_poll(l);
}

void io_loop_drain(struct io_loop *l)
{
    io_loop_poll(l);
    while (l->alive)
        io_loop_turn(l);
}

/* ---- life ---- */

/* Where the kernel does not permit io_uring the workers are enough, unless the user has asked for it. */
static int open_engine(struct io_loop *l, enum block_engine want, struct error *err)
{
    l->engine = want == BLOCK_ENGINE_THREADS ? NULL : &io_uring_engine;
    if (!l->engine || l->engine->open(l, want == BLOCK_ENGINE_URING ? err : NULL) == 0)
        return 0;
    l->engine = NULL;
    return want == BLOCK_ENGINE_URING ? -1 : 0;
}

const char *io_loop_engine_name(const struct io_loop *l)
{
    return l->engine ? l->engine->name : "threads";
}

int io_loop_create(enum block_engine want, struct io_loop **out, struct error *err)
{
    struct io_loop *l = calloc(1, sizeof *l);
    if (!l)
        return error_set(err, 0, "block layer: out of memory; close other programs");
    l->waiting.tail = &l->waiting.first;
    l->posted.tail = &l->posted.first;
    l->poll_fd = -1;
    pthread_mutex_init(&l->posted_lock, NULL);
    l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->event_fd < 0)
        error_set(err, errno, "block layer: cannot create an eventfd: %s; raise the limit of open files (ulimit -n)", strerror(errno));
    if (l->event_fd < 0 || open_engine(l, want, err) < 0) {
        io_loop_free(l);
        return -1;
    }
    *out = l;
    return 0;
}

void io_loop_free(struct io_loop *l)
{
    if (!l)
        return;
    io_workers_free(l->workers);
    if (l->engine)
        l->engine->close(l);
    if (l->poll_fd >= 0)
        close(l->poll_fd);
    if (l->event_fd >= 0)
        close(l->event_fd);
    fiber_pool_free(&l->fibers);
    pthread_mutex_destroy(&l->posted_lock);
    free(l);
}
