// SPDX-License-Identifier: GPL-2.0-or-later
/* Control flow: deep recursion, calls through pointers, and an interpreter that jumps from one instruction's code to the next's. Built without
 * inlining, so that the calls are there. */
#include "bench.h"

static uint64_t fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

bool bench_fib(struct bench *b)
{
    uint64_t x = 0, y = 1;
    for (unsigned long i = 0; i < b->work; i++) {
        uint64_t sum = x + y;
        x = y;
        y = sum;
    }
    bench_start(b);
    uint64_t f = fib((unsigned)b->work);
    bench_stop(b);
    bench_fold(b, f);
    return f == x;
}

#define TARGETS(T) T(0) T(1) T(2) T(3) T(4) T(5) T(6) T(7) T(8) T(9) T(10) T(11) T(12) T(13) T(14) T(15)
#define TARGET(i) \
    static uint64_t target##i(uint64_t x) { return (x ^ (0x9e3779b9u * (i + 1))) + (x >> (i + 1)); }
TARGETS(TARGET)

bool bench_indirect(struct bench *b)
{
#define NAME(i) target##i,
    static uint64_t (*volatile const targets[16])(uint64_t) = {TARGETS(NAME)};
    uint64_t x = 1, seed = 12345;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        seed = seed * 6364136223846793005 + 1442695040888963407;
        x = targets[seed >> 60](x);
    }
    bench_stop(b);
    bench_fold(b, x);
    /* The first few again, by an index that the compiler knows nothing of either. */
    return targets[0](1) == target0(1) && targets[15](1) == target15(1);
}

/* A stack machine: each instruction ends with its own indirect jump. The program sums i * i xor i for i from `work` down to 1. */
bool bench_interpreter(struct bench *b)
{
    enum op { PUSH_I, MUL, XOR, ADD, LOOP, END };
    static const unsigned char code[] = {PUSH_I, PUSH_I, MUL, PUSH_I, XOR, ADD, LOOP, END};
    static const void *const labels[] = {&&push_i, &&mul, &&xor, &&add, &&loop, &&end};
    uint64_t stack[8] = {0}, *top = stack, i = b->work, check = 0;
    const unsigned char *pc = code;
    bench_start(b);
#define NEXT goto *labels[*pc++]
    NEXT;
push_i:
    *++top = i;
    NEXT;
mul:
    top[-1] *= top[0];
    top--;
    NEXT;
xor:
    top[-1] ^= top[0];
    top--;
    NEXT;
add:
    top[-1] += top[0];
    top--;
    NEXT;
loop:
    if (--i)
        pc = code;
    NEXT;
end:
    bench_stop(b);
    for (uint64_t n = 1; n <= b->work; n++)
        check += (n * n) ^ n;
    bench_fold(b, stack[0]);
    return stack[0] == check;
}
