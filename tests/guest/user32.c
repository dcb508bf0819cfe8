// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A program without libc that is built twice, for 32- and for 64-bit user mode, and must print the same line from both: integer
 * work, recursion, calls through pointers, 64-bit sums in two registers, strings, x87, SSE2, code that is rewritten and, in the
 * 32-bit one, accesses through GS with a base.
 */
#include <stdint.h>

static long sys(long n, long a, long b, long c)
{
#ifdef __i386__
    __asm__ volatile("int $0x80" : "+a"(n) : "b"(a), "c"(b), "d"(c) : "memory");
#else
    __asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#endif
    return n;
}
#ifdef __i386__
enum { SYS_exit = 1, SYS_write = 4, SYS_mprotect = 125 };
#else
enum { SYS_exit = 60, SYS_write = 1, SYS_mprotect = 10 };
#endif

static uint64_t sum;
static void fold(uint64_t v)
{
    sum = (sum << 7 | sum >> 57) ^ v ^ sum >> 3;
}

static uint32_t words[4096];
static uint8_t bytes[8192];

static void integers(void)
{
    uint32_t x = 12345;
    for (unsigned n = 0; n < 4096; n++)
        words[n] = x = x * 1103515245u + 12345u;
    for (unsigned gap = 1093; gap; gap /= 3) /* shell sort */
        for (unsigned n = gap; n < 4096; n++) {
            uint32_t v = words[n];
            unsigned k = n;
            for (; k >= gap && words[k - gap] > v; k -= gap)
                words[k] = words[k - gap];
            words[k] = v;
        }
    for (unsigned n = 0; n < 4096; n += 7)
        fold(words[n] % (n + 3) + (words[n] / (n + 1) << 5));
}

static __attribute__((noinline)) unsigned fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint32_t op_add(uint32_t a, uint32_t b)
{
    return a + b;
}
static uint32_t op_xor(uint32_t a, uint32_t b)
{
    return a ^ b * 3;
}
static uint32_t op_rol(uint32_t a, uint32_t b)
{
    return a << (b & 31) | a >> (-b & 31);
}
static uint32_t (*volatile const ops[])(uint32_t, uint32_t) = {op_add, op_xor, op_rol};

static void calls(void)
{
    uint32_t v = 1;
    uint64_t wide = 0x123456789abcdefull;
    for (unsigned n = 0; n < 30000; n++) {
        v = ops[n % 3](v, n);
        wide = wide * 5 + ((uint64_t)v << 17) - (wide >> 9);
    }
    fold(v);
    fold(wide);
    fold(fib(20));
}

static void strings(void)
{
    for (unsigned n = 0; n < sizeof bytes; n++)
        bytes[n] = (uint8_t)(n * 7 >> 2);
    void *to = bytes + 100, *from = bytes + 4096;
    unsigned long count = 1000;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    for (unsigned n = 0, h = 0; n < sizeof bytes; n++) {
        h = h * 31 + bytes[n];
        if (n % 512 == 0)
            fold(h);
    }
}

static void floating(void)
{
    long double a = 1, b = 0;
    volatile double stored = 0;
    for (int n = 1; n < 3000; n++) {
        a = a * 3 + n;
        __asm__("fsqrt" : "+t"(a));
        a = a / 7 + 0.25L;
        b += a > 1 ? a : -a;
        stored = (double)b;
        fold((uint64_t)(int64_t)(b * 16) + (uint32_t)(int32_t)stored);
    }
    typedef uint32_t vec __attribute__((vector_size(16), aligned(1)));
    vec v = {4, 3, 2, 1}, w = {77, 77, 77, 77};
    for (int n = 0; n < 1000; n++) {
        v = (v ^ w) + *(const vec *)(bytes + n);
        w = __builtin_shufflevector(v, v, 1, 2, 3, 0);
    }
    fold(v[0] ^ v[1] ^ v[2] ^ v[3]);
}

static uint8_t page[4096] __attribute__((aligned(4096)));

static void rewriting(void)
{
    fold((uint64_t)sys(SYS_mprotect, (long)page, sizeof page, 7));
    for (uint32_t n = 0; n < 300; n++) { /* mov eax, n; ret */
        uint8_t *p = page + n % 5 * 900;
        p[0] = 0xb8;
        __builtin_memcpy(p + 1, &n, 4);
        p[5] = 0xc3;
        union {
            uint8_t *data;
            uint32_t (*code)(void);
        } call = {p};
        for (unsigned k = 0; k < 3; k++)
            fold(call.code());
    }
}

/* The segment begins inside `words`; 32-bit code reaches below its base by offsets near 4 GiB. */
static void segments(void)
{
    uint32_t at = 0, below = 0, *base = words + 2048;
#ifdef __i386__
    struct {
        uint32_t entry, base, limit, flags;
    } desc = {~0u, (uint32_t)(uintptr_t)base, 0xfffff, 0x51}; /* 32-bit, in pages, usable */
    fold((uint64_t)sys(243, (long)&desc, 0, 0));
    __asm__ volatile("mov %w0, %%gs" : : "r"(desc.entry * 8 + 3));
#else
    fold(0);
#endif
    for (uint32_t n = 0; n < 4000; n += 4) {
#ifdef __i386__
        __asm__ volatile("movl %%gs:(%1), %0" : "=r"(at) : "r"(n));
        __asm__ volatile("movl %%gs:(%1), %0" : "=r"(below) : "r"(-4 - n));
#else
        at = base[n / 4];
        below = base[-1 - (int)(n / 4)];
#endif
        fold(at + below * 3ull);
    }
}

void start(void) __attribute__((noreturn));
void start(void)
{
    char line[] = "user32: 0123456789abcdef\n";
    for (unsigned n = 0; n < 20; n++) {
        integers();
        calls();
        strings();
        floating();
        rewriting();
    }
    segments();
    for (unsigned n = 0; n < 16; n++)
        line[8 + n] = "0123456789abcdef"[sum >> 4 * (15 - n) & 15];
    sys(SYS_write, 1, (long)line, sizeof line - 1);
    sys(SYS_exit, 0, 0, 0);
    __builtin_unreachable();
}
__asm__(".globl _start\n_start:\n"
#ifdef __i386__
        "and $-16, %esp\n"
#else
        "and $-16, %rsp\n"
#endif
        "call start\n");
