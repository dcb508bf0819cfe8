// SPDX-License-Identifier: GPL-2.0-or-later
/* What a program asks of its kernel: system calls, faults, processes, signals. */
#include "bench.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

bool bench_getpid(struct bench *b)
{
    pid_t self = getpid();
    bool ok = true;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++)
        ok &= syscall(SYS_getpid) == self;
    bench_stop(b);
    bench_fold(b, b->work);
    return ok;
}

/* By the vDSO where the kernel trusts its clock source, else by a system call: both as a program finds it. */
bool bench_clock(struct bench *b)
{
    struct timespec last = {0}, t;
    bool ok = true;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        ok &= !clock_gettime(CLOCK_MONOTONIC, &t);
        ok &= t.tv_sec > last.tv_sec || (t.tv_sec == last.tv_sec && t.tv_nsec >= last.tv_nsec);
        last = t;
    }
    bench_stop(b);
    bench_fold(b, b->work);
    return ok;
}

/* A byte goes to a child and comes back one larger. */
bool bench_pipe(struct bench *b)
{
    int there[2], back[2];
    if (pipe(there) || pipe(back))
        return false;
    pid_t child = fork();
    if (child < 0)
        return false;
    if (!child) {
        close(there[1]);
        close(back[0]);
        for (unsigned char c; read(there[0], &c, 1) == 1;) {
            c++;
            if (write(back[1], &c, 1) != 1)
                _exit(1);
        }
        _exit(0);
    }
    close(there[0]);
    close(back[1]);
    unsigned char c = 0;
    bool ok = true;
    bench_start(b);
    for (unsigned long n = 0; ok && n < b->work; n++)
        ok = write(there[1], &c, 1) == 1 && read(back[0], &c, 1) == 1;
    bench_stop(b);
    close(there[1]);
    close(back[0]);
    int status = -1;
    waitpid(child, &status, 0);
    bench_fold(b, c);
    return ok && c == (unsigned char)b->work && status == 0;
}

/* One unit maps 4 MiB, touches each page and gives them back. */
bool bench_faults(struct bench *b)
{
    enum { PAGE = 4096, PAGES = 1024 };
    uint64_t sum = 0;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        unsigned char *p = bench_memory(PAGES * PAGE, PROT_READ | PROT_WRITE);
        madvise(p, PAGES * PAGE, MADV_NOHUGEPAGE);
        for (int i = 0; i < PAGES; i++) {
            sum += p[i * PAGE + 1];
            p[i * PAGE] = (unsigned char)i;
        }
        for (int i = 0; i < PAGES; i++)
            sum += p[i * PAGE];
        munmap(p, PAGES * PAGE);
    }
    bench_stop(b);
    bench_fold(b, sum);
    return sum == b->work * (PAGES / 256) * (255 * 256 / 2);
}

static volatile sig_atomic_t caught;
static unsigned char *guarded;

static void on_signal(int number)
{
    (void)number;
    caught++;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (info->si_addr != guarded || mprotect(guarded, 4096, PROT_READ | PROT_WRITE))
        _exit(1);
    caught++;
}

/* Takes the right to write away and gives it back, writing in between; every 64th time the write comes first and a handler lets it pass. */
bool bench_mprotect(struct bench *b)
{
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    guarded = bench_memory(16 * 4096, PROT_READ | PROT_WRITE);
    sigaction(SIGSEGV, &sa, NULL);
    caught = 0;
    bool ok = true;
    uint64_t sum = 0;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        ok &= !mprotect(guarded, 4096, PROT_READ);
        sum += *(volatile unsigned char *)guarded;
        if (n % 64)
            ok &= !mprotect(guarded, 4096, PROT_READ | PROT_WRITE);
        *(volatile unsigned char *)guarded = (unsigned char)n;
    }
    bench_stop(b);
    signal(SIGSEGV, SIG_DFL);
    bench_fold(b, sum);
    return ok && (unsigned long)caught == (b->work + 63) / 64;
}

bool bench_fork(struct bench *b)
{
    bool ok = true;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        pid_t child = fork();
        if (!child)
            _exit((int)(n & 127));
        int status = -1;
        ok &= child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == (int)(n & 127);
    }
    bench_stop(b);
    bench_fold(b, b->work);
    return ok;
}

/* Each child becomes this program again, which returns 7. */
bool bench_exec(struct bench *b)
{
    static char *const argv[] = {"lodge-bench", "--exit", NULL}, *const env[] = {NULL};
    bool ok = true;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++) {
        pid_t child = fork();
        if (!child) {
            execve("/proc/self/exe", argv, env);
            _exit(127);
        }
        int status = -1;
        ok &= child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7;
    }
    bench_stop(b);
    bench_fold(b, b->work);
    return ok;
}

bool bench_signals(struct bench *b)
{
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &sa, NULL);
    pid_t self = getpid();
    caught = 0;
    bool ok = true;
    bench_start(b);
    for (unsigned long n = 0; n < b->work; n++)
        ok &= !kill(self, SIGUSR1);
    bench_stop(b);
    bench_fold(b, (uint64_t)caught);
    return ok && (unsigned long)caught == b->work;
}
