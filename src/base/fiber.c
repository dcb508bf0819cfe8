// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A switch saves the registers that the ABI makes a function keep (System V AMD64 ABI, 3.2.1) on the stack it leaves, and takes those of the stack it
 * enters. A new stack is laid out as if its fiber had been switched away from at fiber_start()'s first instruction.
 */
#include "base/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/util.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

struct fiber {
    void *sp;       /* while it does not run */
    void *resumer;  /* stack pointer of whoever resumed it, while it runs */
    uint8_t *stack; /* lowest usable byte */
    struct fiber_pool *pool;
    fiber_fn *fn;
    void *arg;
    bool ended;
    struct fiber *next; /* in a queue or in the pool */
    const void *resumer_stack; /* for AddressSanitizer */
    size_t resumer_size;
    void *tsan, *tsan_resumer;
};

static _Thread_local struct fiber *running;

/* Saves the present stack pointer in *from and goes on with the stack `to`. */
void fiber_switch(void **from, void *to);
__asm__(".text\n"
        ".type fiber_switch, @function\n"
        "fiber_switch:\n\t"
        "endbr64\n\t"
        "pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
        "movq %rsp, (%rdi)\n\t"
        "movq %rsi, %rsp\n\t"
        "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\t"
        "ret\n"
        ".size fiber_switch, . - fiber_switch\n"
        ".type fiber_start, @function\n"
        "fiber_start:\n\t"
        "movq %rbx, %rdi\n\t"
        "call fiber_main\n\t"
        "ud2\n"
        ".size fiber_start, . - fiber_start\n");
void fiber_start(void);
_Noreturn void fiber_main(struct fiber *f);

static void leave(struct fiber *f)
{
#ifdef __SANITIZE_ADDRESS__
    void *fake = NULL;
    __sanitizer_start_switch_fiber(f->ended ? NULL : &fake, f->resumer_stack, f->resumer_size);
#endif
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(f->tsan_resumer, 0);
#endif
    fiber_switch(&f->sp, f->resumer);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, &f->resumer_stack, &f->resumer_size);
#endif
}

_Noreturn void fiber_main(struct fiber *f)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &f->resumer_stack, &f->resumer_size);
#endif
    f->fn(f->arg);
    f->ended = true;
    leave(f);
    abort();
}

static void lay_out(struct fiber *f)
{
    void **sp = (void **)(void *)(f->stack + FIBER_STACK);
    *--sp = NULL; /* where unwinding ends; */
    *--sp = NULL; /* with it, rsp is a multiple of 16 at fiber_start()'s call, as the ABI wants */
    union {
        void (*fn)(void);
        void *p;
    } start = {.fn = fiber_start};
    *--sp = start.p;
    *--sp = NULL; /* rbp */
    *--sp = f;    /* rbx */
    for (unsigned i = 0; i < 4; i++)
        *--sp = NULL;
    f->sp = sp;
}

static struct fiber *fiber_new(struct fiber_pool *pool)
{
    struct fiber *f = calloc(1, sizeof *f);
    uint8_t *p = mmap(NULL, FIBER_STACK + PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (!f || p == MAP_FAILED || mprotect(p + PAGE_SIZE, FIBER_STACK, PROT_READ | PROT_WRITE) < 0) {
        if (p != MAP_FAILED)
            munmap(p, FIBER_STACK + PAGE_SIZE);
        free(f);
        return NULL;
    }
    f->stack = p + PAGE_SIZE;
    f->pool = pool;
#ifdef __SANITIZE_THREAD__
    f->tsan = __tsan_create_fiber(0);
#endif
    return f;
}

struct fiber *fiber_create(struct fiber_pool *pool, fiber_fn *fn, void *arg)
{
    struct fiber *f = pool->free;
    if (f)
        pool->free = f->next;
    else if (!(f = fiber_new(pool)))
        return NULL;
    f->fn = fn;
    f->arg = arg;
    f->ended = false;
    f->next = NULL;
    lay_out(f);
    return f;
}

void fiber_resume(struct fiber *f)
{
    running = f;
#ifdef __SANITIZE_ADDRESS__
    void *fake;
    __sanitizer_start_switch_fiber(&fake, f->stack, FIBER_STACK);
#endif
#ifdef __SANITIZE_THREAD__
    f->tsan_resumer = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(f->tsan, 0);
#endif
    fiber_switch(&f->resumer, f->sp);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
    running = NULL;
    if (!f->ended)
        return;
    f->next = f->pool->free;
    f->pool->free = f;
}

void fiber_yield(void)
{
    leave(running);
}

struct fiber *fiber_self(void)
{
    return running;
}

void fiber_pool_free(struct fiber_pool *pool)
{
    for (struct fiber *f; (f = pool->free);) {
        pool->free = f->next;
#ifdef __SANITIZE_THREAD__
        __tsan_destroy_fiber(f->tsan);
#endif
        munmap(f->stack - PAGE_SIZE, FIBER_STACK + PAGE_SIZE);
        free(f);
    }
}

void fiber_queue_push(struct fiber_queue *q, struct fiber *f)
{
    if (!q->first)
        q->tail = &q->first;
    f->next = NULL;
    *q->tail = f;
    q->tail = &f->next;
}

struct fiber *fiber_queue_pop(struct fiber_queue *q)
{
    struct fiber *f = q->first;
    if (f)
        q->first = f->next;
    return f;
}
