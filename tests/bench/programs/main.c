// SPDX-License-Identifier: GPL-2.0-or-later
/* lodge-bench: the small programs of `make bench`, in one static executable, so that host and guests run the same bytes.
 *
 *   lodge-bench NAME [WORK]           runs a program and prints "NAME seconds checksum"; status 1 when its result is wrong
 *   lodge-bench --time NAME COMMAND…  the same for any command: its wall-clock time, and a checksum of what it writes to its standard output
 *   lodge-bench --list                prints "NAME group work" of each program */
#include "bench.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void bench_start(struct bench *b)
{
    b->seconds = -now();
}

void bench_stop(struct bench *b)
{
    b->seconds += now();
}

void bench_fold(struct bench *b, uint64_t value)
{
    b->checksum = (b->checksum ^ value) * 0x9e3779b97f4a7c15;
    b->checksum ^= b->checksum >> 29;
}

void bench_fold_double(struct bench *b, double value, int digits)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%.*e", digits - 1, value);
    for (int i = 0; i < n; i++)
        bench_fold(b, (unsigned char)text[i]);
}

void *bench_memory(size_t bytes, int prot)
{
    void *p = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "lodge-bench: no memory for %zu bytes: %s\n", bytes, strerror(errno));
        exit(1);
    }
    return p;
}

static const struct program {
    const char *name;
    bool (*run)(struct bench *b);
    const char *group;
    unsigned long work;
    uint64_t checksum;
} programs[] = {
#define ROW(name, function, group, work, checksum) {name, function, group, work, checksum},
    BENCH_PROGRAMS(ROW)
#undef ROW
};

static const struct program *find(const char *name)
{
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        if (!strcmp(programs[i].name, name))
            return &programs[i];
    return NULL;
}

static void report(const char *name, const struct bench *b)
{
    printf("%s %.6f %016" PRIx64 "\n", name, b->seconds, b->checksum);
}

static int run_program(const struct program *p, unsigned long work)
{
    struct bench b = {.work = work};
    bool ok = p->run(&b);
    report(p->name, &b);
    if (!ok) {
        fprintf(stderr, "lodge-bench: %s: the result contradicts itself\n", p->name);
        return 1;
    }
    if (work == p->work && b.checksum != p->checksum) {
        fprintf(stderr, "lodge-bench: %s: checksum %016" PRIx64 " instead of %016" PRIx64 "\n", p->name, b.checksum, p->checksum);
        return 1;
    }
    return 0;
}

/* The child's output goes through a pipe, so that reading it costs the same in every place. */
static int time_command(const char *name, char **argv)
{
    struct bench b = {0};
    int fds[2];
    if (pipe(fds)) {
        perror("lodge-bench: pipe");
        return 1;
    }
    bench_start(&b);
    pid_t child = fork();
    if (!child) {
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        execvp(argv[0], argv);
        fprintf(stderr, "lodge-bench: %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(fds[1]);
    unsigned char data[65536];
    for (ssize_t n; (n = read(fds[0], data, sizeof data)) > 0;)
        for (ssize_t i = 0; i < n; i++)
            b.checksum = (b.checksum ^ data[i]) * 0x100000001b3;
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status)) {
        fprintf(stderr, "lodge-bench: %s: ended with wait status %#x\n", name, (unsigned)status);
        return 1;
    }
    bench_stop(&b);
    report(name, &b);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--list")) {
        for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
            printf("%s %s %lu\n", programs[i].name, programs[i].group, programs[i].work);
        return 0;
    }
    if (argc >= 4 && !strcmp(argv[1], "--time"))
        return time_command(argv[2], argv + 3);
    if (argc == 2 && !strcmp(argv[1], "--exit")) /* what fork-exec runs */
        return 7;
    const struct program *p = argc == 2 || argc == 3 ? find(argv[1]) : NULL;
    unsigned long work = p && argc == 3 ? strtoul(argv[2], NULL, 10) : p ? p->work : 0;
    if (!p || !work) {
        fprintf(stderr, "usage: lodge-bench NAME [WORK] | --time NAME COMMAND... | --list\n");
        return 2;
    }
    return run_program(p, work);
}
