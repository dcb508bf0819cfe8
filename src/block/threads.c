// SPDX-License-Identifier: GPL-2.0-or-later
/* The engine for kernels that do not permit io_uring: a few threads that make the system calls, started when the first request
 * comes. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "block/loop.h"

#define WORKERS 4

struct pool {
    struct io_loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct io_step *todo, **todo_tail;
    struct io_step *done, **done_tail;
    bool quit;
    pthread_t workers[WORKERS];
    unsigned nworkers;
};

static void append(struct io_step ***tail, struct io_step *s)
{
    s->next = NULL;
    **tail = s;
    *tail = &s->next;
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
        struct io_step *s = p->todo;
        p->todo = s->next;
        if (!p->todo)
            p->todo_tail = &p->todo;
        pthread_mutex_unlock(&p->lock);
        s->ret = io_perform(s);
        pthread_mutex_lock(&p->lock);
        append(&p->done_tail, s);
        uint64_t one = 1;
        if (write(p->loop->event_fd, &one, sizeof one) < 0 && errno != EAGAIN)
            log_error("block layer: cannot write its eventfd: %s", strerror(errno));
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static int pool_open(struct io_loop *l, struct error *err)
{
    struct pool *p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, 0, "block layer: out of memory; close other programs");
    p->loop = l;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    p->todo_tail = &p->todo;
    p->done_tail = &p->done;
    l->engine_data = p;
    return 0;
}

static void pool_close(struct io_loop *l)
{
    struct pool *p = l->engine_data;
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

/* Without any worker the step runs at once. */
static void pool_start(struct io_loop *l, struct io_step *s)
{
    struct pool *p = l->engine_data;
    if (p->nworkers < WORKERS && pthread_create(&p->workers[p->nworkers], NULL, worker, p) == 0)
        pthread_setname_np(p->workers[p->nworkers++], "block");
    if (p->nworkers == 0)
        s->ret = io_perform(s);
    pthread_mutex_lock(&p->lock);
    append(p->nworkers ? &p->todo_tail : &p->done_tail, s);
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

static bool pool_reap(struct io_loop *l)
{
    struct pool *p = l->engine_data;
    pthread_mutex_lock(&p->lock);
    struct io_step *done = p->done;
    p->done = NULL;
    p->done_tail = &p->done;
    pthread_mutex_unlock(&p->lock);
    bool any = done;
    while (done) {
        struct io_step *s = done;
        done = s->next;
        io_step_done(l, s, s->ret);
    }
    return any;
}

const struct io_engine io_threads_engine = {"threads", pool_open, pool_close, pool_start, pool_reap};
