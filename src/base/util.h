/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small things that every floor uses. */
#ifndef LODGE_BASE_UTIL_H
#define LODGE_BASE_UTIL_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a)         (sizeof(a) / sizeof((a)[0]))
#define BIT(n)                (1u << (n))
#define BIT64(n)              (1ull << (n))
#define MIN(a, b)             ((a) < (b) ? (a) : (b))
#define MAX(a, b)             ((a) > (b) ? (a) : (b))
#define ALIGN_DOWN(x, a)      ((x) & ~((__typeof__(x))(a) - 1))
#define ALIGN_UP(x, a)        ALIGN_DOWN((x) + ((__typeof__(x))(a) - 1), a)
#define likely(x)             __builtin_expect(!!(x), 1)
#define unlikely(x)           __builtin_expect(!!(x), 0)
#define container_of(p, t, m) ((t *)((char *)(p) - offsetof(t, m)))

#define KIB       1024ull
#define MIB       (1024 * KIB)
#define GIB       (1024 * MIB)
#define PAGE_SIZE 4096ull
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define NS_PER_S  1000000000ull

/* Scope-bound resources: `AUTO_FREE char *s = …;` `AUTO_CLOSE int fd = …;` */
static inline void auto_free_(void *p)
{
    free(*(void **)p);
}
static inline void auto_close_(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTO_FREE  __attribute__((cleanup(auto_free_)))
#define AUTO_CLOSE __attribute__((cleanup(auto_close_)))

/* Takes a scoped value out of its scope. */
static inline int steal_fd(int *fd)
{
    int v = *fd;
    *fd = -1;
    return v;
}
static inline void *steal_ptr_(void *pp)
{
    void *v = *(void **)pp;
    *(void **)pp = NULL;
    return v;
}
#define steal_ptr(pp) ((__typeof__(*(pp)))steal_ptr_(pp))

/* CLOCK_MONOTONIC in ns. */
static inline uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

#endif
