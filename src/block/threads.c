// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A few threads that perform steps, started as work comes: the engine for kernels that do not permit io_uring, and for every engine the place of calls
 * that take long.
 */
#include <pthread.h>

#include "base/util.h"
#include "block/loop.h"

#define WORKERS_MIN 4
#define WORKERS_MAX 16

struct io_workers {
    struct io_loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct io_step *todo, **todo_tail;
    bool quit;
    pthread_t threads[WORKERS_MAX];
    unsigned nthreads, max, idle;
};

static void *worker(void *arg)
{
    struct io_workers *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        p->idle++;
        while (!p->todo && !p->quit)
            pthread_cond_wait(&p->work, &p->lock);
        p->idle--;
        if (!p->todo)
            break;
        struct io_step *s = p->todo;
        p->todo = s->next;
        if (!p->todo)
            p->todo_tail = &p->todo;
        pthread_mutex_unlock(&p->lock);
        io_step_post(p->loop, s, io_perform(s));
        pthread_mutex_lock(&p->lock);
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
    p->todo_tail = &p->todo;
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

/* Without any thread the step runs at once. */
void io_workers_give(struct io_workers *p, struct io_step *s)
{
    pthread_mutex_lock(&p->lock);
    bool wanted = p->idle == 0 && p->nthreads < p->max;
    pthread_mutex_unlock(&p->lock);
    if (wanted && pthread_create(&p->threads[p->nthreads], NULL, worker, p) == 0)
        pthread_setname_np(p->threads[p->nthreads++], "block");
    if (p->nthreads == 0) {
        io_step_done(p->loop, s, io_perform(s));
        return;
    }
    s->next = NULL;
    pthread_mutex_lock(&p->lock);
    *p->todo_tail = s;
    p->todo_tail = &s->next;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

/* ---- the engine ---- */

static int threads_open(struct io_loop *l, struct error *err)
{
    l->engine_data = io_workers_create(l);
    return l->engine_data ? 0 : error_set(err, 0, "block layer: out of memory; close other programs");
}

static void threads_close(struct io_loop *l)
{
    io_workers_free(l->engine_data);
}

static void threads_start(struct io_loop *l, struct io_step *s)
{
    io_workers_give(l->engine_data, s);
}

const struct io_engine io_threads_engine = {"threads", threads_open, threads_close, threads_start, NULL};
