// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A few threads that perform steps, started as work comes: calls that take long, copies between buffers and the page cache, and everything where the kernel
 * does not permit io_uring.
 *
 * Writes to the page cache are one thread's at a time: the kernel lets one in at a time into a file, and a second thread would spin until then. Those
 * that wait for it and lie one behind the other end together, and it makes small ones of them in one call.
 */
#include <pthread.h>
#include <string.h>

#include "base/util.h"
#include "block/loop.h"

#define WORKERS_MIN 6
#define WORKERS_MAX 16
#define RUN_BYTES   (512 * KIB) /* of adjacent writes that end together: the first waits for the last */
#define CALL_BYTES  (64 * KIB)  /* of them in one call, unless one has more itself */
#define CALL_IOVS   64

struct io_workers {
    struct io_loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct io_steps todo, writes;
    unsigned ntodo, nwrites;
    bool writing, quit; /* writing: a thread performs some of `writes` */
    pthread_t threads[WORKERS_MAX];
    unsigned nthreads, max, idle; /* idle: have no step yet, though they may be called for one */
};

static bool is_write(const struct io_step *s)
{
    return s->kind == IO_WRITE && s->cached;
}

static bool has_work(const struct io_workers *p)
{
    return p->todo.first || (p->writes.first && !p->writing);
}

/* ---- writes one behind the other ---- */

/* Takes the oldest write, and of those behind it what continues it: half of all at most, so that the loop has some to end while the others are made. */
static void take_writes(struct io_workers *p, struct io_steps *run)
{
    struct io_step *s = io_steps_pop(&p->writes);
    uint64_t begin = s->offset, end = s->offset + s->len;
    int fd = s->fd;
    unsigned most = (p->nwrites + 1) / 2;
    io_steps_push(run, s);
    p->nwrites--;
    while ((s = p->writes.first) && --most && s->fd == fd && s->offset == end && end + s->len - begin <= RUN_BYTES) {
        end += s->len;
        io_steps_push(run, io_steps_pop(&p->writes));
        p->nwrites--;
    }
}

/* True if they are writes. There is work. */
static bool take(struct io_workers *p, struct io_steps *run)
{
    if (p->writes.first && !p->writing) {
        take_writes(p, run);
        return true;
    }
    io_steps_push(run, io_steps_pop(&p->todo));
    p->ntodo--;
    return false;
}

/* Behind the steps of a run that go into one call with the first. */
static struct io_step *call_end(struct io_step *first)
{
    uint64_t bytes = first->len;
    int niov = first->niov;
    struct io_step *s = first->next;
    for (; s && bytes + s->len <= CALL_BYTES && niov + s->niov <= CALL_IOVS; s = s->next) {
        bytes += s->len;
        niov += s->niov;
    }
    return s;
}

/* What the kernel has not taken as a whole is tried again, each by itself: it may get further, or learn its own error. */
static void perform_together(struct io_step *first, const struct io_step *end)
{
    struct iovec iov[CALL_IOVS];
    struct io_step all = *first;
    all.niov = 0;
    for (struct io_step *s = first; s != end; s = s->next) {
        memcpy(&iov[all.niov], s->iov, (unsigned)s->niov * sizeof *iov);
        all.niov += s->niov;
    }
    all.iov = iov;
    ssize_t left = io_perform(&all);
    for (struct io_step *s = first; s != end; s = s->next) {
        bool whole = left >= (ssize_t)s->len;
        s->ret = whole ? (ssize_t)s->len : io_perform(s);
        left = whole ? left - s->ret : 0;
    }
}

static void perform(struct io_steps *run)
{
    for (struct io_step *s = run->first, *end; s; s = end) {
        end = call_end(s);
        if (end == s->next)
            s->ret = io_perform(s);
        else
            perform_together(s, end);
    }
}

/* ---- threads ---- */

static void *worker(void *arg)
{
    struct io_workers *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!has_work(p) && !p->quit)
            pthread_cond_wait(&p->work, &p->lock);
        if (!has_work(p))
            break;
        struct io_steps run = {.tail = &run.first};
        bool write = take(p, &run);
        p->idle--;
        p->writing |= write;
        pthread_mutex_unlock(&p->lock);
        perform(&run);
        io_steps_post(p->loop, &run);
        pthread_mutex_lock(&p->lock);
        p->writing &= !write;
        p->idle++;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

struct io_workers *io_workers_create(struct io_loop *l)
{
    struct io_workers *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->loop = l;
    p->max = (unsigned)MIN(MAX(sysconf(_SC_NPROCESSORS_ONLN), WORKERS_MIN), WORKERS_MAX);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    p->todo.tail = &p->todo.first;
    p->writes.tail = &p->writes.first;
    return p;
}

void io_workers_free(struct io_workers *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->nthreads; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* Sees to it that there is a thread for each step that waits for one; `more` of them are new. Within the lock. */
static void call_threads(struct io_workers *p, unsigned more)
{
    unsigned wanted = p->ntodo + (p->nwrites && !p->writing);
    for (unsigned i = 0; i < MIN(p->idle, more); i++)
        pthread_cond_signal(&p->work);
    while (p->idle < wanted && p->nthreads < p->max) {
        if (pthread_create(&p->threads[p->nthreads], NULL, worker, p) != 0)
            return;
        pthread_setname_np(p->threads[p->nthreads++], "block");
        p->idle++;
    }
}

void io_workers_give(struct io_workers *p, struct io_steps *steps)
{
    unsigned more = 0;
    pthread_mutex_lock(&p->lock);
    while (steps->first) {
        struct io_step *s = io_steps_pop(steps);
        bool write = is_write(s), follows = write && (p->writing || p->nwrites); /* somebody writes, or has been called to */
        io_steps_push(write ? &p->writes : &p->todo, s);
        ++*(write ? &p->nwrites : &p->ntodo);
        more += !follows;
    }
    call_threads(p, more);
    if (p->nthreads == 0) {
        io_steps_append(steps, &p->writes);
        io_steps_append(steps, &p->todo);
        p->nwrites = p->ntodo = 0;
    }
    pthread_mutex_unlock(&p->lock);
}
