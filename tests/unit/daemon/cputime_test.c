// SPDX-License-Identifier: GPL-2.0-or-later
/* CPU time with that of children: those that compute, those that have ended, those that end while it is asked for. */
#include "daemon/cputime.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../devices/check.h"
#include "base/util.h"

#define MS    1000000ull
#define TICKS (4 * 20 * MS) /* times are told in ticks of 10 ms, user and system each, of a process and of its child */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    CHECK(clock_gettime(clock, &t) == 0);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t child_ns(pid_t pid)
{
    clockid_t clock;
    return clock_getcpuclockid(pid, &clock) == 0 ? clock_ns(clock) : 0;
}

/* A child that computes until it is killed, or for so much CPU time. */
static pid_t burn(uint64_t ns)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    while (pid == 0)
        if (ns && clock_ns(CLOCK_PROCESS_CPUTIME_ID) > ns)
            _exit(0);
    return pid;
}

static void wait_used(pid_t pid, uint64_t ns)
{
    while (child_ns(pid) < ns)
        usleep(1000);
}

struct starter {
    pthread_t thread;
    int tid, go[2], done[2];
    pid_t child;
};

static void *start_child(void *arg)
{
    struct starter *s = arg;
    char byte;
    s->tid = gettid();
    s->child = burn(0);
    CHECK(write(s->done[1], "", 1) == 1 && read(s->go[0], &byte, 1) == 1);
    return NULL;
}

/* A child is counted for the thread that has started it, while it lives, and for the process also when it has ended. */
static void test_thread(void)
{
    struct starter s;
    char byte;
    int cpu = -1;
    CHECK(pipe(s.go) == 0 && pipe(s.done) == 0 && pthread_create(&s.thread, NULL, start_child, &s) == 0);
    CHECK(read(s.done[0], &byte, 1) == 1);
    wait_used(s.child, 300 * MS);
    uint64_t before = child_ns(s.child);
    uint64_t of_thread = cputime_thread(getpid(), s.tid, &cpu), of_main = cputime_thread(getpid(), getpid(), NULL),
             of_all = cputime_process(getpid());
    uint64_t after = child_ns(s.child) + clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    CHECK(of_thread + TICKS >= before && of_thread <= after);
    CHECK(of_all + TICKS >= before && of_all <= after);
    CHECK(of_main <= clock_ns(CLOCK_PROCESS_CPUTIME_ID)); /* which has started none */
    CHECK(cpu >= 0 && cpu < sysconf(_SC_NPROCESSORS_CONF));
    kill(s.child, SIGKILL);
    CHECK(waitpid(s.child, NULL, 0) == s.child);
    CHECK(cputime_process(getpid()) + TICKS >= before);
    CHECK(write(s.go[1], "", 1) == 1 && pthread_join(s.thread, NULL) == 0);
    CHECK(cputime_thread(getpid(), s.tid, NULL) == 0);
}

static void *start_many(void *arg)
{
    for (unsigned i = 0; i < 100; i++) {
        pid_t pid = burn(5 * MS);
        CHECK(waitpid(pid, NULL, 0) == pid);
    }
    __atomic_store_n((bool *)arg, true, __ATOMIC_RELEASE);
    return NULL;
}

/* Children come and go: no time is counted twice, and the process's never goes back. */
static void test_ends(void)
{
    bool done = false;
    uint64_t last = 0;
    pthread_t thread;
    struct rusage children;
    CHECK(pthread_create(&thread, NULL, start_many, &done) == 0);
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        uint64_t now = cputime_process(getpid());
        CHECK(now >= last);
        last = now;
    }
    CHECK(pthread_join(thread, NULL) == 0 && getrusage(RUSAGE_CHILDREN, &children) == 0);
    uint64_t most = clock_ns(CLOCK_PROCESS_CPUTIME_ID) +
                    (uint64_t)(children.ru_utime.tv_sec + children.ru_stime.tv_sec) * NS_PER_S +
                    (uint64_t)(children.ru_utime.tv_usec + children.ru_stime.tv_usec) * 1000;
    CHECK(last <= most + 10 * MS);
}

int main(void)
{
    CHECK(cputime_process(0) == 0 && cputime_process(-1) == 0 && cputime_thread(getpid(), 0, NULL) == 0);
    test_thread();
    test_ends();
    puts("ok");
    return 0;
}
