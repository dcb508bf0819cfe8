/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fibers: functions that can wait in the middle, on a stack of their own, while their thread does something else. Code that has to wait for I/O
 * between every two steps reads like code that does not.
 *
 * A fiber belongs to the thread that first resumes it. fiber_resume() runs it until it yields or ends; only code outside of fibers resumes.
 * Stacks are FIBER_STACK bytes with a guard page below, and are kept for the next fiber of the same pool.
 */
#ifndef LODGE_BASE_FIBER_H
#define LODGE_BASE_FIBER_H

#include <stdbool.h>

#define FIBER_STACK (64 * 1024) /* bytes */

struct fiber;
struct fiber_pool {
    struct fiber *free;
};
typedef void fiber_fn(void *arg);

/* A fiber that will run fn(arg); it returns to the pool when fn returns. NULL without memory. */
struct fiber *fiber_create(struct fiber_pool *pool, fiber_fn *fn, void *arg);
void fiber_resume(struct fiber *f);
void fiber_yield(void);
struct fiber *fiber_self(void); /* NULL outside of fibers */
/* Frees the stacks; no fiber of the pool is alive. */
void fiber_pool_free(struct fiber_pool *pool);

/* A queue of fibers that wait for the same thing. */
struct fiber_queue {
    struct fiber *first, **tail; /* all zero: empty */
};
void fiber_queue_push(struct fiber_queue *q, struct fiber *f);
struct fiber *fiber_queue_pop(struct fiber_queue *q); /* NULL when empty */

#endif
