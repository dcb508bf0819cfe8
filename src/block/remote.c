// SPDX-License-Identifier: GPL-2.0-or-later
#include "block/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "base/log.h"
#include "base/util.h"

#define PATIENCE     60u /* seconds */
#define PATIENCE_MAX 86400u
#define TURN_MS      1000 /* a hung server is noticed so much late */

struct remote {
    struct io_source socket, clock; /* of a file without a thread; the clock ticks every TURN_MS while something is under way */
    bool ticking;
    int wake; /* eventfd: there is something in todo */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t answered;        /* for who waits outside of fibers */
    struct remote_cmd *todo, *last; /* lock; by next */
    bool quit;                      /* lock */
    /* The thread's, or the loop's: */
    struct remote_cmd *under_way; /* by next and prev */
    uint64_t heard_ns;            /* when the server last answered, or was given something while nothing was under way */
    int dead;                     /* -errno: it was given up */
    /* The loop's: writes that are not whole blocks read first what surrounds them, and nobody else writes meanwhile. */
    struct fiber_lock writing;
    unsigned writes;
    struct fiber_queue last_write; /* waits for `writes` to fall to 0 */
};

unsigned remote_patience(void)
{
    const char *text = getenv("LODGE_SERVER_TIMEOUT");
    long n = text ? strtol(text, NULL, 10) : PATIENCE;
    return n < 1 ? PATIENCE : n > (long)PATIENCE_MAX ? PATIENCE_MAX : (unsigned)n;
}

/* ---- commands ---- */

/* A fiber's command lies on its stack: it is gone once its loop hears of it. */
static void finish(struct remote_cmd *c, ssize_t ret)
{
    struct remote *r = c->file->remote;
    c->ret = ret;
    if (c->file->protocol->ready) {
        c->answered = true;
        if (c->step.waiter)
            io_step_done(c->file->loop, &c->step, ret);
        return;
    }
    if (c->step.waiter) {
        io_step_post(c->file->loop, &c->step, ret);
        return;
    }
    pthread_mutex_lock(&r->lock);
    c->answered = true;
    pthread_cond_broadcast(&r->answered);
    pthread_mutex_unlock(&r->lock);
}

void remote_answer(struct remote_cmd *c, int ret)
{
    struct remote *r = c->file->remote;
    *(c->prev ? &c->prev->next : &r->under_way) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    r->heard_ns = now_ns();
    finish(c, ret);
}

static void begin(struct file *f, struct remote_cmd *c)
{
    struct remote *r = f->remote;
    if (r->dead) {
        finish(c, r->dead);
        return;
    }
    if (!r->under_way)
        r->heard_ns = now_ns();
    c->prev = NULL;
    c->next = r->under_way;
    if (c->next)
        c->next->prev = c;
    r->under_way = c;
    f->protocol->start(f, c);
}

static void give_up(struct file *f, int ret)
{
    struct remote *r = f->remote;
    log_error("disk '%s': its server %s: %s; what was not flushed may be lost: mend the server, then open the disk again", f->path,
              ret == -ETIMEDOUT ? "does not answer any more" : "is gone", strerror(-ret));
    io_loop_unwatch(f->loop, &r->socket);
    f->protocol->cut(f);
    r->dead = ret;
    while (r->under_way)
        remote_answer(r->under_way, ret);
}

static bool late(const struct file *f)
{
    const struct remote *r = f->remote;
    return !f->protocol->patient && r->under_way && now_ns() - r->heard_ns > remote_patience() * NS_PER_S;
}

/* ---- files without a thread ---- */

static int tick(struct remote *r, bool on)
{
    struct timespec every = {TURN_MS / 1000, TURN_MS % 1000 * 1000000l};
    struct itimerspec t = {every, every};
    if (r->ticking == on)
        return 0;
    r->ticking = on;
    return timerfd_settime(r->clock.fd, 0, on ? &t : &(struct itimerspec){0}, NULL) < 0 ? -errno : 0;
}

/* The loop is to wait for what the library waits for now. */
static void watch(struct file *f)
{
    struct remote *r = f->remote;
    uint32_t events;
    if (r->dead)
        return;
    int ret = r->under_way ? tick(r, true) : 0;
    r->socket.fd = f->protocol->socket(f, &events);
    if (ret == 0 && (!r->socket.watched || events != r->socket.events)) {
        r->socket.events = events;
        ret = io_loop_watch(f->loop, &r->socket);
    }
    if (ret < 0)
        give_up(f, ret);
}

static void socket_ready(void *arg, uint32_t events)
{
    struct file *f = arg;
    int ret = f->protocol->ready(f, events);
    if (ret < 0)
        give_up(f, ret);
    else
        watch(f);
}

static void clock_ready(void *arg, uint32_t events)
{
    struct file *f = arg;
    struct remote *r = f->remote;
    uint64_t n;
    (void)events;
    if (read(r->clock.fd, &n, sizeof n) < 0 && errno != EAGAIN)
        log_error("block layer: cannot read a timer: %s", strerror(errno));
    if (!r->under_way)
        tick(r, false);
    else if (late(f))
        give_up(f, -ETIMEDOUT);
}

/* Outside of fibers nobody else waits for this server. */
static ssize_t command_now(struct file *f, struct remote_cmd *c)
{
    begin(f, c);
    watch(f);
    while (!c->answered) {
        struct remote *r = f->remote;
        short events = (short)((r->socket.events & EPOLLIN ? POLLIN : 0) | (r->socket.events & EPOLLOUT ? POLLOUT : 0));
        struct pollfd p = {.fd = r->socket.fd, .events = events};
        if (poll(&p, 1, TURN_MS) > 0)
            socket_ready(f, (p.revents & POLLIN ? EPOLLIN : 0u) | (p.revents & POLLOUT ? EPOLLOUT : 0u) | (p.revents & (POLLHUP | POLLERR | POLLNVAL) ? EPOLLHUP : 0u));
        else if (late(f))
            give_up(f, -ETIMEDOUT);
    }
    return c->ret;
}

/* ---- files with a thread ---- */

static bool take(struct remote *r, struct remote_cmd **todo)
{
    uint64_t n;
    if (read(r->wake, &n, sizeof n) < 0 && errno != EAGAIN)
        log_error("block layer: cannot read an eventfd: %s", strerror(errno));
    pthread_mutex_lock(&r->lock);
    *todo = r->todo;
    r->todo = r->last = NULL;
    bool quit = r->quit;
    pthread_mutex_unlock(&r->lock);
    return !quit;
}

int remote_poll(int fd, short events, int wake, int ms)
{
    struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = wake, .events = POLLIN}};
    return poll(p, ARRAY_SIZE(p), ms) < 0 && errno != EINTR ? -errno : p[0].revents;
}

static int wait_for_server(struct file *f)
{
    struct remote *r = f->remote;
    struct pollfd p = {.fd = r->wake, .events = POLLIN};
    if (r->dead) {
        poll(&p, 1, -1);
        return 0;
    }
    int ret = f->protocol->turn(f, r->wake, TURN_MS);
    return ret == 0 && late(f) ? -ETIMEDOUT : ret;
}

static void *serve(void *arg)
{
    struct file *f = arg;
    struct remote *r = f->remote;
    struct remote_cmd *c;
    while (take(r, &c)) {
        while (c) {
            struct remote_cmd *next = c->next;
            begin(f, c);
            c = next;
        }
        int ret = wait_for_server(f);
        if (ret < 0)
            give_up(f, ret);
    }
    return NULL;
}

/* ---- handing over ---- */

static void hand(void *arg)
{
    struct remote_cmd *c = arg;
    struct file *f = c->file;
    struct remote *r = f->remote;
    if (f->protocol->ready) {
        begin(f, c); /* `c` may be gone then */
        watch(f);
        return;
    }
    c->next = NULL;
    pthread_mutex_lock(&r->lock);
    bool first = !r->todo;
    *(first ? &r->todo : &r->last->next) = c;
    r->last = c;
    pthread_mutex_unlock(&r->lock);
    if (first) /* otherwise the thread has been told, and has not looked yet */
        eventfd_write(r->wake, 1);
}

static ssize_t command(struct file *f, struct remote_cmd *c)
{
    struct remote *r = f->remote;
    c->file = f;
    if (f->loop->in_fiber) {
        c->step = (struct io_step){.kind = IO_HAND, .hand = hand, .arg = c};
        return io_run(f->loop, &c->step);
    }
    if (f->protocol->ready)
        return command_now(f, c);
    hand(c);
    pthread_mutex_lock(&r->lock);
    while (!c->answered)
        pthread_cond_wait(&r->answered, &r->lock);
    pthread_mutex_unlock(&r->lock);
    return c->ret;
}

/* ---- steps ---- */

static void write_begin(struct file *f, bool alone)
{
    struct remote *r = f->remote;
    fiber_lock(&r->writing);
    while (alone && r->writes && fiber_self()) {
        fiber_queue_push(&r->last_write, fiber_self());
        fiber_yield();
    }
    if (!alone) {
        r->writes++;
        fiber_unlock(f->loop, &r->writing);
    }
}

static void write_end(struct file *f, bool alone)
{
    struct remote *r = f->remote;
    struct fiber *waiter;
    if (alone)
        fiber_unlock(f->loop, &r->writing);
    else if (--r->writes == 0 && (waiter = fiber_queue_pop(&r->last_write)))
        fiber_queue_push(&f->loop->ready, waiter);
}

struct piece {
    uint64_t done, len;   /* bytes of the step */
    uint64_t from, bytes; /* whole blocks around them */
};

/* Where a step's vector has the piece's blocks, if they are the piece and lie there side by side. */
static uint8_t *in_place(const struct io_step *s, const struct piece *p)
{
    uint64_t at = p->done;
    for (int i = 0; p->bytes == p->len && i < s->niov; at -= s->iov[i++].iov_len)
        if (at < s->iov[i].iov_len)
            return s->iov[i].iov_len - at >= p->len ? (uint8_t *)s->iov[i].iov_base + at : NULL;
    return NULL;
}

static ssize_t read_piece(struct file *f, const struct io_step *s, const struct piece *p)
{
    uint8_t *place = in_place(s, p);
    AUTO_FREE uint8_t *buf = place ? NULL : malloc(p->bytes);
    if (!place && !buf)
        return -ENOMEM;
    struct remote_cmd c = {.op = REMOTE_READ, .offset = p->from, .len = p->bytes, .data = place ? place : buf};
    ssize_t ret = command(f, &c);
    if (ret == 0 && buf)
        iov_from(s->iov, s->niov, p->done, buf + (s->offset + p->done - p->from), p->len);
    return ret;
}

static ssize_t write_piece(struct file *f, const struct io_step *s, const struct piece *p)
{
    uint8_t *place = in_place(s, p);
    bool around = p->bytes != p->len;
    AUTO_FREE uint8_t *buf = place ? NULL : malloc(p->bytes);
    if (!place && !buf)
        return -ENOMEM;
    struct remote_cmd old = {.op = REMOTE_READ, .offset = p->from, .len = p->bytes, .data = buf};
    struct remote_cmd c = {.op = REMOTE_WRITE, .offset = p->from, .len = p->bytes, .data = place ? place : buf};
    write_begin(f, around);
    ssize_t ret = around ? command(f, &old) : 0;
    if (ret == 0 && buf)
        iov_to(s->iov, s->niov, p->done, buf + (s->offset + p->done - p->from), p->len);
    if (ret == 0)
        ret = command(f, &c);
    write_end(f, around);
    return ret;
}

static ssize_t transfer(struct file *f, const struct io_step *s)
{
    uint64_t len = MIN(s->len, s->offset < f->size ? f->size - s->offset : 0), unit = f->unit;
    if (s->kind == IO_WRITE && len < s->len)
        return -ENOSPC;
    for (struct piece p = {0}; p.done < len; p.done += p.len) {
        uint64_t at = s->offset + p.done;
        p.from = ALIGN_DOWN(at, unit);
        p.len = MIN(len - p.done, f->protocol->transfer_max - at % f->protocol->transfer_max);
        p.bytes = MIN(ALIGN_UP(at + p.len, unit), f->size) - p.from;
        ssize_t ret = s->kind == IO_READ ? read_piece(f, s, &p) : write_piece(f, s, &p);
        if (ret < 0)
            return ret;
    }
    return (ssize_t)len;
}

static ssize_t zero(struct file *f, const struct io_step *s)
{
    ssize_t ret = 0;
    if (!f->protocol->has_zero)
        return -EOPNOTSUPP;
    if ((s->offset | s->len) % f->unit)
        return -EINVAL;
    for (uint64_t done = 0, part; ret == 0 && done < s->len; done += part) {
        part = MIN(s->len - done, f->protocol->range_max);
        struct remote_cmd c = {.op = REMOTE_ZERO, .punch = s->mode & FALLOC_FL_PUNCH_HOLE, .offset = s->offset + done, .len = part};
        write_begin(f, false);
        ret = command(f, &c);
        write_end(f, false);
    }
    return ret;
}

ssize_t remote_step(struct file *f, const struct io_step *s)
{
    struct remote_cmd sync = {.op = REMOTE_SYNC};
    switch (s->kind) {
    case IO_READ:
    case IO_WRITE:
        return transfer(f, s);
    case IO_SYNC:
        return command(f, &sync);
    case IO_ALLOCATE:
        return zero(f, s);
    case IO_EXTEND:
    case IO_CALL:
    case IO_HAND:
        break;
    }
    return -EOPNOTSUPP;
}

int remote_is_zero(struct file *f, uint64_t offset, uint64_t *len, bool *is_zero)
{
    *is_zero = false;
    if (!f->protocol->has_extents || offset >= f->size)
        return 0;
    struct remote_cmd c = {.op = REMOTE_EXTENT, .offset = offset, .len = MIN(MIN(*len, f->size - offset), f->protocol->range_max)};
    int ret = (int)command(f, &c);
    *len = c.len;
    *is_zero = c.zero;
    return ret;
}

/* ---- life ---- */

/* Signals are the business of the program's own threads. */
static int start_thread(struct file *f)
{
    sigset_t all, before;
    if (f->protocol->ready)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int e = pthread_create(&f->remote->thread, NULL, serve, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e == 0)
        pthread_setname_np(f->remote->thread, "server");
    return e;
}

static void release(struct file *f)
{
    struct remote *r = f->remote;
    pthread_cond_destroy(&r->answered);
    pthread_mutex_destroy(&r->lock);
    io_loop_unwatch(f->loop, &r->clock);
    if (r->clock.fd >= 0)
        close(r->clock.fd);
    if (r->wake >= 0)
        close(r->wake);
    free(r);
    f->remote = NULL;
}

/* What the loop watches, or what wakes the thread. 0 or -errno. */
static int open_descriptors(struct file *f)
{
    struct remote *r = f->remote;
    r->clock.fd = r->wake = r->socket.fd = -1;
    if (!f->protocol->ready) {
        r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return r->wake < 0 ? -errno : 0;
    }
    r->socket = (struct io_source){.fd = -1, .ready = socket_ready, .arg = f};
    r->clock = (struct io_source){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .events = EPOLLIN, .ready = clock_ready, .arg = f};
    return r->clock.fd < 0 ? -errno : io_loop_watch(f->loop, &r->clock);
}

int remote_open(struct file *f, const char *what, struct error *err)
{
    struct remote *r = calloc(1, sizeof *r);
    if (!r)
        return error_set(err, ENOMEM, "%s '%s': out of memory; close other programs", what, f->path);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->answered, NULL);
    f->remote = r;
    int e = -open_descriptors(f);
    bool connected = e == 0 && f->protocol->open(f, what, err) == 0;
    if (connected && (e = start_thread(f)) == 0) {
        if (f->protocol->ready)
            watch(f);
        return 0;
    }
    if (connected)
        f->protocol->close(f);
    if (e)
        error_set(err, e, "%s '%s': cannot wait for its server: %s; raise the limits of threads and open files (ulimit)", what,
                  f->path, strerror(e));
    release(f);
    return -1;
}

void remote_close(struct file *f)
{
    struct remote *r = f->remote;
    if (f->protocol->ready) {
        io_loop_unwatch(f->loop, &r->socket);
    } else {
        pthread_mutex_lock(&r->lock);
        r->quit = true;
        pthread_mutex_unlock(&r->lock);
        eventfd_write(r->wake, 1);
        pthread_join(r->thread, NULL);
    }
    f->protocol->close(f);
    release(f);
}
