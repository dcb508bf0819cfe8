// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * stress [ROUNDS [SECONDS]]: runs inside a guest, linked statically. Two threads hammer what an SMP virtual CPU gets wrong first; each part checks
 * its own result, and the program prints "stress: PART ok" for each and "stress: all ok" at the end. Any other end is a failure. With SECONDS it goes
 * round all parts until these are over.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS 2
#define PAGE    4096

static unsigned rounds = 1000;

static _Noreturn void bad(const char *part, const char *what, unsigned long long got, unsigned long long want)
{
    printf("stress: %s FAILED: %s is %llu, not %llu\n", part, what, got, want);
    exit(1);
}

static void expect(const char *part, const char *what, unsigned long long got, unsigned long long want)
{
    if (got != want)
        bad(part, what, got, want);
}

static void run_threads(void *(*fn)(void *))
{
    pthread_t th[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&th[i], NULL, fn, (void *)i))
            bad("threads", "pthread_create", 1, 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(th[i], NULL);
}

/* ---- atomics: every locked form keeps its count, in one line of cache and across two ---- */

static struct {
    _Atomic uint64_t add, xadd, cas, inc;
    _Atomic uint32_t xchg_lock;
    uint64_t under_lock;
    _Atomic uint64_t bits;
    unsigned __int128 wide __attribute__((aligned(16)));
} at;
static uint8_t split_area[128] __attribute__((aligned(64)));

static bool cas16(unsigned __int128 *p, unsigned __int128 *old, unsigned __int128 val)
{
    bool ok;
    uint64_t lo = (uint64_t)*old, hi = (uint64_t)(*old >> 64);
    __asm__ volatile("lock cmpxchg16b %1" : "=@ccz"(ok), "+m"(*p), "+a"(lo), "+d"(hi) : "b"((uint64_t)val), "c"((uint64_t)(val >> 64)) : "memory");
    *old = (unsigned __int128)hi << 64 | lo;
    return ok;
}

static void *atomics_thread(void *arg)
{
    uint64_t *across = (void *)(split_area + 60); /* crosses a cache line: a split lock */
    for (unsigned i = 0; i < rounds * 20; i++) {
        atomic_fetch_add(&at.xadd, 3);
        __asm__ volatile("lock addq $1, %0" : "+m"(at.add) : : "cc");
        __asm__ volatile("lock incq %0" : "+m"(at.inc) : : "cc");
        __asm__ volatile("lock addq $5, %0" : "+m"(*across) : : "cc");
        uint64_t old = atomic_load(&at.cas);
        while (!atomic_compare_exchange_weak(&at.cas, &old, old + 7))
            ;
        while (atomic_exchange(&at.xchg_lock, 1))
            sched_yield();
        at.under_lock++;
        atomic_store(&at.xchg_lock, 0);
        __asm__ volatile("lock btcq %1, %0" : "+m"(at.bits) : "r"((uint64_t)(uintptr_t)arg) : "cc");
        unsigned __int128 w = at.wide;
        while (!cas16(&at.wide, &w, w + (((unsigned __int128)1 << 64) | 1)))
            ;
    }
    return NULL;
}

static void part_atomics(void)
{
    uint64_t n = (uint64_t)rounds * 20 * THREADS, across;
    memset(&at, 0, sizeof at);
    memset(split_area, 0, sizeof split_area);
    run_threads(atomics_thread);
    memcpy(&across, split_area + 60, 8);
    expect("atomics", "lock add", at.add, n);
    expect("atomics", "lock xadd", at.xadd, 3 * n);
    expect("atomics", "lock inc", at.inc, n);
    expect("atomics", "lock cmpxchg", at.cas, 7 * n);
    expect("atomics", "xchg lock", at.under_lock, n);
    expect("atomics", "split lock", across, 5 * n);
    expect("atomics", "lock btc", at.bits, 0);
    expect("atomics", "cmpxchg16b low", (uint64_t)at.wide, n);
    expect("atomics", "cmpxchg16b high", (uint64_t)(at.wide >> 64), n);
}

/* ---- IPIs: membarrier interrupts every CPU that runs this process; signals reach a thread that spins ---- */

static _Atomic unsigned signals;
static _Atomic bool ipi_stop;

static void on_signal(int sig)
{
    (void)sig;
    atomic_fetch_add(&signals, 1);
}

static void *spin_thread(void *arg)
{
    (void)arg;
    volatile uint64_t x = 0;
    while (!atomic_load(&ipi_stop))
        x++;
    return NULL;
}

static void part_ipi(void)
{
    pthread_t th;
    signals = 0;
    ipi_stop = false;
    signal(SIGUSR1, on_signal);
    pthread_create(&th, NULL, spin_thread, NULL);
    syscall(SYS_membarrier, 1 << 4 /* REGISTER_PRIVATE_EXPEDITED */, 0, 0);
    for (unsigned i = 0; i < rounds; i++) {
        if (syscall(SYS_membarrier, 1 << 3 /* PRIVATE_EXPEDITED */, 0, 0))
            bad("ipi", "membarrier's errno", (unsigned)errno, 0);
        if (i % 16 == 0) {
            unsigned before = atomic_load(&signals);
            pthread_kill(th, SIGUSR1);
            while (atomic_load(&signals) == before)
                sched_yield();
        }
    }
    atomic_store(&ipi_stop, true);
    pthread_join(th, NULL);
    expect("ipi", "signals", signals, (rounds + 15) / 16);
}

/* ---- TLB shootdown: one thread takes write permission away, the other must never write afterwards ---- */

static uint8_t *shoot;
static _Atomic uint32_t shoot_epoch; /* odd: the page is read-only */
static _Atomic uint64_t shoot_faults;
static _Atomic bool shoot_stop;

static void on_segv(int sig, siginfo_t *si, void *ctx)
{
    (void)sig, (void)ctx;
    if ((uint8_t *)si->si_addr < shoot || (uint8_t *)si->si_addr >= shoot + PAGE)
        _exit(3);
    atomic_fetch_add(&shoot_faults, 1);
    while (atomic_load(&shoot_epoch) & 1)
        sched_yield();
}

static void *writer_thread(void *arg)
{
    (void)arg;
    while (!atomic_load(&shoot_stop))
        __asm__ volatile("incl %0" : "+m"(*(volatile uint32_t *)shoot) : : "cc");
    return NULL;
}

static void part_shootdown(void)
{
    struct sigaction sa = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO}, old;
    shoot = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &sa, &old);
    shoot_stop = false;
    pthread_t th;
    pthread_create(&th, NULL, writer_thread, NULL);
    for (unsigned i = 0; i < rounds; i++) {
        atomic_fetch_add(&shoot_epoch, 1);
        mprotect(shoot, PAGE, PROT_READ);
        uint32_t a = *(volatile uint32_t *)shoot;
        for (volatile int k = 0; k < 200; k++)
            ;
        uint32_t b = *(volatile uint32_t *)shoot;
        expect("shootdown", "value under a read-only page", b, a);
        mprotect(shoot, PAGE, PROT_READ | PROT_WRITE);
        atomic_fetch_add(&shoot_epoch, 1);
        for (volatile int k = 0; k < 200; k++)
            ;
    }
    atomic_store(&shoot_stop, true);
    pthread_join(th, NULL);
    sigaction(SIGSEGV, &old, NULL);
    munmap(shoot, PAGE);
}

/* ---- page tables: map, fill, move, unmap, fork with copy-on-write ---- */

static void *pages_thread(void *arg)
{
    uint64_t seed = (uintptr_t)arg * 7919 + 1;
    for (unsigned i = 0; i < rounds / 4; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        size_t n = 1 + (seed >> 60);
        uint64_t *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            bad("pages", "mmap's errno", (unsigned)errno, 0);
        for (size_t k = 0; k < n; k++)
            p[k * PAGE / 8] = seed + k;
        p = mremap(p, n * PAGE, (n + 3) * PAGE, MREMAP_MAYMOVE);
        for (size_t k = 0; k < n; k++)
            expect("pages", "word after mremap", p[k * PAGE / 8], seed + k);
        for (size_t k = n; k < n + 3; k++)
            expect("pages", "fresh page", p[k * PAGE / 8], 0);
        munmap(p, (n + 3) * PAGE);
    }
    return NULL;
}

static void part_pages(void)
{
    run_threads(pages_thread);
    uint64_t *cow = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < 64; i++)
        cow[i * PAGE / 8] = i;
    for (unsigned r = 0; r < 1 + rounds / 50; r++) {
        pid_t pid = fork();
        if (pid == 0) {
            for (unsigned i = 0; i < 64; i++) {
                if (cow[i * PAGE / 8] != i)
                    _exit(1);
                cow[i * PAGE / 8] = ~0ull;
            }
            _exit(0);
        }
        int status = -1;
        waitpid(pid, &status, 0);
        expect("pages", "child's status", (unsigned)status, 0);
        for (unsigned i = 0; i < 64; i++)
            expect("pages", "word after the child's copy", cow[i * PAGE / 8], i);
    }
    munmap(cow, 64 * PAGE);
}

/* ---- self-modifying code: rewritten by the CPU that runs it, and by the other one ---- */

static uint8_t *code;
static _Atomic uint32_t code_version;

static uint32_t call_code(void)
{
    return ((uint32_t(*)(void))(void *)code)();
}

static void *patch_thread(void *arg)
{
    (void)arg;
    for (uint32_t i = 1; i <= rounds; i++) {
        *(volatile uint32_t *)(code + 1) = i; /* aligned: mov $i, %eax at code + 0 with its immediate at + 1 is made so below */
        atomic_store(&code_version, i);
        sched_yield();
    }
    return NULL;
}

static void part_code(void)
{
    uint8_t *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    code = page + 3; /* so that the immediate is aligned */
    memcpy(code, "\xb8\0\0\0\0\xc3", 6);
    for (uint32_t i = 0; i < rounds * 4; i++) { /* same CPU, a new constant each time */
        *(volatile uint32_t *)(code + 1) = i;
        expect("code", "constant patched by this CPU", call_code(), i);
    }
    for (uint32_t i = 0; i < 64; i++) { /* an instruction patches the one behind it, in one straight line */
        uint8_t line[] = {0xc6, 0x05, 0x01, 0, 0, 0, (uint8_t)i, 0xb0, 0xff, 0x0f, 0xb6, 0xc0, 0xc3}; /* movb $i, 1(%rip); mov $-1, %al; movzx; ret */
        memcpy(page + 256, line, sizeof line);
        expect("code", "constant patched in line", ((uint32_t(*)(void))(void *)(page + 256))(), i);
    }
    *(volatile uint32_t *)(code + 1) = 0;
    code_version = 0;
    pthread_t th;
    pthread_create(&th, NULL, patch_thread, NULL);
    for (uint32_t got = 0, low = 0; got < rounds; low = got) {
        uint32_t before = atomic_load(&code_version);
        __asm__ volatile("cpuid" : : "a"(0), "c"(0) : "rbx", "rdx", "memory"); /* serialize, as cross-modifying code must */
        got = call_code();
        if (got < before || got < low)
            bad("code", "constant patched by the other CPU", got, before);
    }
    pthread_join(th, NULL);
    munmap(page, 2 * PAGE);
}

/* ---- floating point survives preemption ---- */

static void *fpu_thread(void *arg)
{
    double seed = 1.0 + (double)(uintptr_t)arg, x = seed, y = seed;
    for (unsigned i = 0; i < rounds * 50; i++) {
        x = x * 1.0000001 + 0.5;
        __asm__ volatile("" : "+x"(x));
        y = y * 1.0000001 + 0.5;
        if (i % 1000 == 0)
            sched_yield();
    }
    if (x != y)
        bad("fpu", "sum", (unsigned long long)x, (unsigned long long)y);
    return NULL;
}

static void part_fpu(void)
{
    run_threads(fpu_thread);
}

/* ---- JIT: functions are made, run, and made anew in the same place, while another thread does the same beside it ---- */

enum { JIT_OPS = 40, JIT_FUNCTIONS = 8 };

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return *seed >> 33;
}

/* Emits JIT_OPS operations on rax, which begins as rdi; returns what they make of `x`. */
static uint64_t jit_make(uint8_t *p, uint64_t *seed, uint64_t x)
{
    memcpy(p, "\x48\x89\xf8", 3); /* mov rax, rdi */
    p += 3;
    for (unsigned n = 0; n < JIT_OPS; n++) {
        uint32_t imm = (uint32_t)next_random(seed) & 0x7fffffff;
        unsigned shift = imm % 63 + 1;
        switch (next_random(seed) % 4) {
        case 0: /* add rax, imm32 */
            memcpy(p, "\x48\x05", 2);
            memcpy(p + 2, &imm, 4);
            p += 6;
            x += imm;
            break;
        case 1: /* xor rax, imm32 */
            memcpy(p, "\x48\x35", 2);
            memcpy(p + 2, &imm, 4);
            p += 6;
            x ^= imm;
            break;
        case 2: /* rol rax, imm8 */
            memcpy(p, (uint8_t[]){0x48, 0xc1, 0xc0, (uint8_t)shift}, 4);
            p += 4;
            x = x << shift | x >> (64 - shift);
            break;
        default: /* test al, 1; jz +3; inc rax */
            memcpy(p, "\xa8\x01\x74\x03\x48\xff\xc0", 7);
            p += 7;
            x += x & 1;
            break;
        }
    }
    *p = 0xc3;
    return x;
}

static void *jit_thread(void *arg)
{
    uint64_t seed = (uintptr_t)arg * 104729 + 7;
    for (unsigned r = 0; r < 1 + rounds / 20; r++) {
        uint8_t *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            bad("jit", "mmap's errno", (unsigned)errno, 0);
        for (unsigned n = 0; n < 4 * JIT_FUNCTIONS; n++) {
            uint8_t *p = page + n % JIT_FUNCTIONS * (PAGE / JIT_FUNCTIONS);
            uint64_t x = next_random(&seed), want = jit_make(p, &seed, x);
            for (unsigned k = 0; k < 3; k++)
                expect("jit", "result", ((uint64_t(*)(uint64_t))(void *)p)(x), want);
        }
        munmap(page, PAGE);
    }
    return NULL;
}

static void part_jit(void)
{
    run_threads(jit_thread);
}

/* ---- fork storms: many children at once, each with a sum over memory that it shares by copy-on-write and changes ---- */

enum { STORM = 12, STORM_WORDS = 32 * PAGE / 8 };

static uint8_t storm_child(uint64_t *words, unsigned n)
{
    uint64_t sum = 0;
    for (unsigned k = 0; k < STORM_WORDS; k++)
        sum = (sum << 1 | sum >> 63) + (words[k] += n);
    return (uint8_t)(sum ^ sum >> 32 ^ sum >> 48 ^ sum >> 56);
}

static void part_forks(void)
{
    static uint64_t words[STORM_WORDS], copy[STORM_WORDS];
    pid_t pids[STORM];
    for (unsigned k = 0; k < STORM_WORDS; k++)
        words[k] = k * 0x9e3779b97f4a7c15ull;
    for (unsigned r = 0; r < 1 + rounds / 50; r++) {
        for (unsigned n = 0; n < STORM; n++) {
            pids[n] = fork();
            if (pids[n] < 0)
                bad("forks", "fork's errno", (unsigned)errno, 0);
            if (pids[n] == 0)
                _exit(storm_child(words, n));
        }
        for (unsigned n = 0; n < STORM; n++) {
            int status = -1;
            waitpid(pids[n], &status, 0);
            memcpy(copy, words, sizeof copy);
            expect("forks", "a child's sum", (unsigned)status, (unsigned)storm_child(copy, n) << 8);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"atomics", part_atomics}, {"ipi", part_ipi}, {"shootdown", part_shootdown}, {"pages", part_pages}, {"code", part_code}, {"jit", part_jit}, {"forks", part_forks}, {"fpu", part_fpu},
    };
    if (argc > 1)
        rounds = (unsigned)atoi(argv[1]);
    time_t end = argc > 2 ? time(NULL) + atoi(argv[2]) : 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    do {
        for (unsigned i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            parts[i].run();
            printf("stress: %s ok\n", parts[i].name);
        }
    } while (time(NULL) < end);
    printf("stress: all ok\n");
    return 0;
}
