// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A few threads that perform steps, started as work comes: calls that take long, copies between buffers and the page cache, and everything where the kernel
 * does not permit io_uring.
 *
 * Writes to the page cache are one thread's at a time: the kernel lets one in at a time into a file, and a second thread would spin until then.
 */
#include <pthread.h>

#include "base/util.h"
#include "block/loop.h"

#define WORKERS_MIN 6
#define WORKERS_MAX 16

struct io_workers {
    struct io_loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct io_steps todo, writes;
    bool writing, quit; /* writing: a thread performs one of `writes` */
    pthread_t threads[WORKERS_MAX];
    unsigned nthreads, max, idle;
};

static bool is_write(const struct io_step *s)
{
    return s->kind == IO_WRITE && s->cached;
}

static bool has_work(const struct io_workers *p)
{
    return p->todo.first || (p->writes.first && !p->writing);
}

static void *worker(void *arg)
{
    struct io_workers *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        p->idle++;
        while (!has_work(p) && !p->quit)
            pthread_cond_wait(&p->work, &p->lock);
        p->idle--;
        if (!has_work(p))
            break;
        bool write = p->writes.first && !p->writing;
        struct io_step *s = io_steps_pop(write ? &p->writes : &p->todo);
        p->writing |= write;
        pthread_mutex_unlock(&p->lock);
        io_step_post(p->loop, s, io_perform(s));
        pthread_mutex_lock(&p->lock);
        p->writing &= !write;
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

static bool wants_thread(struct io_workers *p, const struct io_step *s)
{
    pthread_mutex_lock(&p->lock);
    bool wanted = p->idle == 0 && p->nthreads < p->max && !(is_write(s) && p->writing);
    pthread_mutex_unlock(&p->lock);
    return wanted;
}

/* Without any thread the step runs at once. */
void io_workers_give(struct io_workers *p, struct io_step *s)
{
    if (wants_thread(p, s) && pthread_create(&p->threads[p->nthreads], NULL, worker, p) == 0)
        pthread_setname_np(p->threads[p->nthreads++], "block");
    if (p->nthreads == 0) {
        io_step_done(p->loop, s, io_perform(s));
        return;
    }
    pthread_mutex_lock(&p->lock);
    io_steps_push(is_write(s) ? &p->writes : &p->todo, s);
    if (!is_write(s) || !p->writing)
        pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}
