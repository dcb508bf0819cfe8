// SPDX-License-Identifier: GPL-2.0-or-later
/* The engine for kernels that do not permit io_uring: a few threads that make the system calls, started when the first request
 * comes. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "block/internal.h"

#define WORKERS 4

/* A step that waits for a worker, runs, or waits to be reaped. */
struct job {
    struct job *next;
    struct block_req *req;
    struct block_step step;
    ssize_t ret;
};

struct pool {
    struct block *block;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct job *todo, **todo_tail;
    struct job *done, **done_tail;
    struct job jobs[BLOCK_DEPTH], *free; /* free: the owner's */
    bool quit;
    pthread_t workers[WORKERS];
    unsigned nworkers;
};

static ssize_t perform(int fd, const struct block_step *s)
{
    ssize_t ret = -1;
    switch (s->kind) {
    case STEP_READ:
        ret = preadv(fd, s->iov, s->niov, (off_t)s->offset);
        break;
    case STEP_WRITE:
        ret = pwritev(fd, s->iov, s->niov, (off_t)s->offset);
        break;
    case STEP_SYNC:
        ret = fdatasync(fd);
        break;
    case STEP_ALLOCATE:
        ret = fallocate(fd, s->mode, (off_t)s->offset, (off_t)s->len);
        break;
    }
    return ret < 0 ? -errno : ret;
}

static void append(struct job ***tail, struct job *job)
{
    job->next = NULL;
    **tail = job;
    *tail = &job->next;
}

static void *worker(void *arg)
{
    struct pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->todo && !p->quit)
            pthread_cond_wait(&p->work, &p->lock);
        if (!p->todo)
            break;
        struct job *job = p->todo;
        p->todo = job->next;
        if (!p->todo)
            p->todo_tail = &p->todo;
        pthread_mutex_unlock(&p->lock);
        job->ret = perform(p->block->fd, &job->step);
        pthread_mutex_lock(&p->lock);
        append(&p->done_tail, job);
        uint64_t one = 1;
        if (write(p->block->event_fd, &one, sizeof one) < 0 && errno != EAGAIN)
            log_error("disk '%s': cannot write its eventfd: %s", p->block->path, strerror(errno));
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static int pool_open(struct block *b, struct error *err)
{
    struct pool *p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, 0, "disk '%s': out of memory; close other programs", b->path);
    p->block = b;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    p->todo_tail = &p->todo;
    p->done_tail = &p->done;
    for (unsigned i = 0; i < BLOCK_DEPTH; i++) {
        p->jobs[i].next = p->free;
        p->free = &p->jobs[i];
    }
    b->engine_data = p;
    return 0;
}

static void pool_close(struct block *b)
{
    struct pool *p = b->engine_data;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->nworkers; i++)
        pthread_join(p->workers[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* The caller has at most BLOCK_DEPTH steps here, so there is a free job. Without any worker the step runs at once. */
static void pool_start(struct block *b, struct block_req *req, const struct block_step *step)
{
    struct pool *p = b->engine_data;
    struct job *job = p->free;
    p->free = job->next;
    *job = (struct job){.req = req, .step = *step};
    if (p->nworkers < WORKERS && pthread_create(&p->workers[p->nworkers], NULL, worker, p) == 0)
        pthread_setname_np(p->workers[p->nworkers++], "block");
    if (p->nworkers == 0)
        job->ret = perform(b->fd, &job->step);
    pthread_mutex_lock(&p->lock);
    append(p->nworkers ? &p->todo_tail : &p->done_tail, job);
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

static bool pool_reap(struct block *b)
{
    struct pool *p = b->engine_data;
    pthread_mutex_lock(&p->lock);
    struct job *done = p->done;
    p->done = NULL;
    p->done_tail = &p->done;
    pthread_mutex_unlock(&p->lock);
    bool any = done;
    while (done) {
        struct job *job = done;
        done = job->next;
        struct block_req *req = job->req;
        ssize_t ret = job->ret;
        job->next = p->free;
        p->free = job;
        block_step_done(b, req, ret);
    }
    return any;
}

const struct block_engine_ops block_threads = {"threads", pool_open, pool_close, pool_start, pool_reap};
