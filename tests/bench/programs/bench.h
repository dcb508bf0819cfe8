/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs of lodge-bench share: a fixed amount of work, measured by the program itself, with a result that can be checked.
 *
 * A program sets up, calls bench_start(), does its work, calls bench_stop(), and leaves a checksum. It returns false when its result is wrong by
 * what it knows itself (a closed form, a residual, a count); main.c also compares the checksum of the default amount of work with a constant.
 * Checksums must not depend on the machine: floating-point results whose last bits a libm may choose are rounded first. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench {
    unsigned long work; /* units of the program's own choosing, at least 1 */
    double seconds;     /* between bench_start() and bench_stop() */
    uint64_t checksum;
};

void bench_start(struct bench *b);
void bench_stop(struct bench *b);
/* Folds a value into the checksum. */
void bench_fold(struct bench *b, uint64_t value);
/* Folds a floating-point value with `digits` significant decimal digits. */
void bench_fold_double(struct bench *b, double value, int digits);
/* mmap of anonymous memory; ends the program when there is none. */
void *bench_memory(size_t bytes, int prot);

/* A xorshift generator: the same numbers everywhere. */
static inline uint64_t bench_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* One row per program: name, function, group (compute or os), default work, checksum at that work. */
#define BENCH_PROGRAMS(P)                                                         \
    P("coremark", bench_coremark, "compute", 800, 0x1c0f69b6e0fa932b)             \
    P("sieve", bench_sieve, "compute", 10, 0x544275e78b0ffe40)                    \
    P("division", bench_division, "compute", 3000000, 0x174463b0517b3630)         \
    P("flags", bench_flags, "compute", 2000000, 0xe598953a93281ee6)               \
    P("fib", bench_fib, "compute", 35, 0x000000d027d82efc)                        \
    P("indirect-calls", bench_indirect, "compute", 5000000, 0xa7b1b42abc3a319d)   \
    P("interpreter", bench_interpreter, "compute", 3000000, 0x10afd5bc245d33e5)   \
    P("whetstone", bench_whetstone, "compute", 2500, 0xc168869efbd00eda)          \
    P("linpack-sse2", bench_linpack_sse2, "compute", 30, 0xa01bdc75ffd25e3f)      \
    P("linpack-avx2", bench_linpack_avx2, "compute", 8, 0x04ef757cfc68a4a6)       \
    P("nbody", bench_nbody, "compute", 500000, 0x8d6a82f1eae860f6)                \
    P("x87", bench_x87, "compute", 2000000, 0x7b80d64b2df6f501)                   \
    P("sse-integer", bench_sse_integer, "compute", 80000, 0x6b81bf12cedf5c54)     \
    P("stream", bench_stream, "compute", 6, 0x3110a59289c76363)                   \
    P("memcpy-small", bench_memcpy_small, "compute", 6000000, 0x81bb5b4278984b3f) \
    P("memcpy-large", bench_memcpy_large, "compute", 60, 0xfc81d37235be5149)      \
    P("rep-movs", bench_rep_movs, "compute", 100000, 0x90ca7cfffbd2d255)          \
    P("pointer-chase", bench_chase, "compute", 1000000, 0x54f9c079257f6c9c)       \
    P("atomics", bench_atomics, "compute", 2000000, 0xb91ec78197dae629)           \
    P("smc", bench_smc, "compute", 100000, 0x72ebe1255c2096a6)                    \
    P("cold-jit", bench_cold_jit, "compute", 200, 0x78014c6cefa99a4b)             \
    P("getpid", bench_getpid, "os", 200000, 0xcc3957b06ee1abf0)                   \
    P("clock-gettime", bench_clock, "os", 1000000, 0xfd1eb689a322db32)            \
    P("pipe-ping-pong", bench_pipe, "os", 5000, 0x0d78aa8bf454bf74)               \
    P("page-faults", bench_faults, "os", 10, 0x2cfb73deb829c2fe)                  \
    P("mprotect", bench_mprotect, "os", 20000, 0x7a7b3be7174ef003)                \
    P("fork-wait", bench_fork, "os", 200, 0x9b5718efa8883733)                     \
    P("fork-exec", bench_exec, "os", 500, 0x0459be4cbfb7ab60)                     \
    P("signals", bench_signals, "os", 30000, 0x050899f4c0e81357)                  \
    P("mutex-2", bench_mutex, "os", 1000000, 0x7ab5d5eb0ec87326)                  \
    P("spin-2", bench_spin, "os", 1000000, 0x7ab5d5eb0ec87326)

#define BENCH_DECLARE(name, function, group, work, checksum) bool function(struct bench *b);
BENCH_PROGRAMS(BENCH_DECLARE)
#undef BENCH_DECLARE
