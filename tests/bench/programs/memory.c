// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory: STREAM's four loops, copies short and long, string instructions, and dependent loads. Set-up is not measured. */
#include "bench.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { RW = PROT_READ | PROT_WRITE };

/* One unit is one pass of copy, scale, add and triad over three arrays of 8 MiB. */
bool bench_stream(struct bench *b)
{
    enum { N = 1 << 20 };
    double *x = bench_memory(3 * N * sizeof *x, RW), *y = x + N, *z = y + N;
    double px = 1, py = 2, pz = 0;
    for (int i = 0; i < N; i++) {
        x[i] = px;
        y[i] = py;
        z[i] = pz;
    }
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        for (int i = 0; i < N; i++)
            z[i] = x[i];
        for (int i = 0; i < N; i++)
            y[i] = 0.5 * z[i];
        for (int i = 0; i < N; i++)
            z[i] = x[i] + y[i];
        for (int i = 0; i < N; i++)
            x[i] = y[i] + 0.25 * z[i];
    }
    bench_stop(b);
    for (unsigned long n = 0; n < b->work; n++) {
        pz = px;
        py = 0.5 * pz;
        pz = px + py;
        px = py + 0.25 * pz;
    }
    bool ok = true;
    for (int i = 0; i < N; i++)
        ok &= x[i] == px && y[i] == py && z[i] == pz;
    bench_fold_double(b, px + py + pz, 12);
    return ok;
}

/* The C library's memcpy of 1 to 64 bytes between shifting addresses. */
bool bench_memcpy_small(struct bench *b)
{
    static unsigned char from[4096 + 64], to[4096 + 64];
    uint64_t seed = 7, sum = 0;
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (unsigned char)(i * 7);
    bool ok = true;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        uint64_t r = bench_random(&seed);
        size_t length = 1 + (r & 63), at = r >> 52, source = r >> 40 & 4095;
        memcpy(to + at, from + source, length);
        ok &= to[at + length - 1] == (unsigned char)((source + length - 1) * 7);
        sum += to[at];
    }
    bench_stop(b);
    bench_fold(b, sum);
    return ok;
}

/* One unit copies 2 MiB there and back. */
bool bench_memcpy_large(struct bench *b)
{
    enum { SIZE = 2 << 20 };
    uint64_t *from = bench_memory(SIZE, RW), *to = bench_memory(SIZE, RW), seed = 3;
    for (size_t i = 0; i < SIZE / 8; i++)
        from[i] = bench_random(&seed);
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        memcpy(to, from, SIZE);
        to[n % (SIZE / 8)]++;
        memcpy(from, to, SIZE);
    }
    bench_stop(b);
    for (size_t i = 0; i < SIZE / 8; i += 61)
        bench_fold(b, from[i]);
    return !memcmp(from, to, SIZE);
}

/* rep movsb, rep stosq, repe cmpsb and repne scasb over a page. */
bool bench_rep_movs(struct bench *b)
{
    enum { SIZE = 4096 };
    unsigned char *from = bench_memory(2 * SIZE, RW), *to = from + SIZE;
    bool ok = true;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        void *d = from, *s = from;
        size_t count = SIZE / 8;
        __asm__ volatile("rep stosq" : "+D"(d), "+c"(count) : "a"((n & 255) * 0x0101010101010101) : "memory");
        d = to;
        count = SIZE;
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(count)::"memory");
        to[n & 1023] ^= 1;
        d = to;
        s = from;
        count = SIZE;
        __asm__ volatile("repe cmpsb" : "+D"(d), "+S"(s), "+c"(count)::"memory", "cc");
        ok &= count == SIZE - (n & 1023) - 1;
        d = to;
        count = SIZE;
        __asm__ volatile("repne scasb" : "+D"(d), "+c"(count) : "a"(to[n & 1023]) : "memory", "cc");
        ok &= count == SIZE - (n & 1023) - 1;
        bench_fold(b, to[(n * 3) & 4095]);
    }
    bench_stop(b);
    return ok;
}

/* A cycle through 128 Ki nodes of a cache line each: 8 MiB, beyond most second-level caches and TLBs. */
bool bench_chase(struct bench *b)
{
    enum { NODES = 1 << 17 };
    struct line {
        struct line *next;
        uint64_t number, unused[6];
    } *lines = bench_memory(NODES * sizeof *lines, RW);
    uint32_t *order = malloc(NODES * sizeof *order);
    uint64_t seed = 17;
    if (!order)
        return false;
    for (uint32_t i = 0; i < NODES; i++)
        order[i] = i;
    for (uint32_t i = NODES - 1; i; i--) {
        uint32_t j = (uint32_t)(bench_random(&seed) % i), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        lines[order[i]].next = &lines[order[(i + 1) % NODES]];
        lines[order[i]].number = i;
    }
    struct line *at = &lines[order[0]];
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++)
        at = at->next;
    bench_stop(b);
    free(order);
    bench_fold(b, at->number);
    return at->number == b->work % NODES;
}
