// SPDX-License-Identifier: GPL-2.0-or-later
/* Code that is data first: a function that is patched before each call, and functions that are generated, called once, and written over. */
#include "bench.h"
#include <string.h>
#include <sys/mman.h>

enum { RWX = PROT_READ | PROT_WRITE | PROT_EXEC };

typedef uint32_t function(uint32_t);

/* lea eax, [rdi + imm32]; ret */
bool bench_smc(struct bench *b)
{
    static const unsigned char code[] = {0x8d, 0x87, 0, 0, 0, 0, 0xc3};
    unsigned char *p = bench_memory(4096, RWX);
    memcpy(p, code, sizeof code);
    function *f = (function *)(uintptr_t)p;
    uint64_t sum = 0;
    bench_start(b);
    for (uint32_t n = 0; n < b->work; n++) {
        memcpy(p + 2, &n, 4);
        __builtin___clear_cache((char *)p, (char *)p + sizeof code);
        sum += f(1);
    }
    bench_stop(b);
    munmap(p, 4096);
    bench_fold(b, sum);
    return sum == (uint64_t)b->work * (b->work - 1) / 2 + b->work;
}

/* A function that is made of x = (x + imm) ^ imm, a dozen times: mov eax, edi; { add eax, imm; xor eax, imm } ...; ret. Returns its end. */
static unsigned char *generate(unsigned char *p, uint64_t *seed)
{
    *p++ = 0x89;
    *p++ = 0xf8;
    for (int i = 0; i < 12; i++) {
        uint64_t r = bench_random(seed);
        *p++ = 0x05;
        memcpy(p, &r, 4);
        p += 4;
        *p++ = 0x35;
        memcpy(p, (char *)&r + 4, 4);
        p += 4;
    }
    *p++ = 0xc3;
    return p;
}

static uint32_t expect(uint32_t x, uint64_t *seed)
{
    for (int i = 0; i < 12; i++) {
        uint64_t r = bench_random(seed);
        x = (x + (uint32_t)r) ^ (uint32_t)(r >> 32);
    }
    return x;
}

/* One unit generates 500 functions over the code of the unit before, and calls each once. */
bool bench_cold_jit(struct bench *b)
{
    enum { FUNCTIONS = 500, ROOM = 128 };
    unsigned char *code = bench_memory(FUNCTIONS * ROOM, RWX);
    uint64_t seed = 5, again = 5;
    uint32_t x = 1, check = 1;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        for (int i = 0; i < FUNCTIONS; i++) {
            unsigned char *end = generate(code + i * ROOM, &seed);
            __builtin___clear_cache((char *)code + i * ROOM, (char *)end);
        }
        for (int i = 0; i < FUNCTIONS; i++)
            x = ((function *)(uintptr_t)(code + i * ROOM))(x);
    }
    bench_stop(b);
    for (unsigned long n = 0; n < b->work * FUNCTIONS; n++)
        check = expect(check, &again);
    munmap(code, FUNCTIONS * ROOM);
    bench_fold(b, x);
    return x == check;
}
