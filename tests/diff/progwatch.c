// SPDX-License-Identifier: GPL-2.0-or-later
/* A clock of CPU time for runs that do not end, and last words of those that end too soon. A file of its own because <signal.h> has another
 * REG_RIP. */
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "program.h"

static void (*tick)(void);

static void on_tick(int sig)
{
    (void)sig;
    tick();
}

int progwatch_start(void (*every_second)(void))
{
    struct sigaction sa = {.sa_handler = on_tick, .sa_flags = SA_ONSTACK | SA_RESTART};
    struct itimerval every = {{1, 0}, {1, 0}};
    tick = every_second;
    return sigaction(SIGPROF, &sa, NULL) || setitimer(ITIMER_PROF, &every, NULL);
}

/* ---- crashes ---- */

static void (*say_where)(void);

static void print_code(uint64_t rip)
{
    uint8_t code[64];
    struct iovec to = {code, sizeof code},
                 from = {(void *)(uintptr_t)(rip - 32), sizeof code}; /* NOLINT: an address, not an object */
    ssize_t n = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
    fprintf(stderr, "code from rip - 32:");
    for (ssize_t k = 0; k < n; k++)
        fprintf(stderr, "%s%02x", k == 32 ? " | " : " ", code[k]);
    fprintf(stderr, "\n");
}

static void print_mapping(uint64_t rip)
{
    char line[512];
    uint64_t begin, end;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%" SCNx64 "-%" SCNx64, &begin, &end) == 2 && rip >= begin && rip < end)
            fprintf(stderr, "rip is in %s", line);
    if (f)
        fclose(f);
}

/* The process is lost already: functions that signal handlers must not call can make it no worse. */
static void on_crash(int sig, siginfo_t *info, void *context)
{
    static const char *const names[] = {"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rdi",
                                        "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip"};
    const greg_t *r = ((const ucontext_t *)context)->uc_mcontext.gregs;
    signal(sig, SIG_DFL); /* of which the process dies at the return */
    fprintf(stderr, "signal %d, code %d, address %p, trap %lld, error %#llx, flags %#llx\n", sig, info->si_code, info->si_addr,
            (long long)r[REG_TRAPNO], (unsigned long long)r[REG_ERR], (unsigned long long)r[REG_EFL]);
    for (unsigned n = 0; n <= REG_RIP; n++)
        fprintf(stderr, "%s %#llx%s", names[n], (unsigned long long)r[n], n == REG_RIP ? "\n" : n % 6 == 5 ? "\n" : ", ");
    print_code((uint64_t)r[REG_RIP]);
    print_mapping((uint64_t)r[REG_RIP]);
    say_where();
}

void progwatch_crashes(void (*where)(void))
{
    struct sigaction sa = {.sa_sigaction = on_crash, .sa_flags = SA_ONSTACK | SA_SIGINFO};
    say_where = where;
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGILL, &sa, NULL);
}
