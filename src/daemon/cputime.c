// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/cputime.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

#define READS 16 /* at most, of a process whose children end meanwhile */

struct usage {
    uint64_t own, waited; /* ns: its own, and of children that have ended and were waited for */
    int cpu;              /* of the host that it ran on last */
    char state;           /* proc(5): X is one that is just being waited for */
};

/* A file of /proc as a string; false when it is not there. */
static bool read_text(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, size - 1, f) : 0;
    text[n] = 0;
    if (f)
        fclose(f);
    return f;
}

/* proc(5): fields 14 to 17 are the times in ticks, 39 is the CPU. The name before them may have anything in it. */
static bool read_stat(const char *path, struct usage *u)
{
    char text[1024];
    unsigned long long user, system, waited_user, waited_system;
    *u = (struct usage){0};
    const char *p = read_text(path, text, sizeof text) ? strrchr(text, ')') : NULL;
    if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu", &u->state, &user, &system,
                     &waited_user, &waited_system) != 5)
        return false;
    uint64_t tick = NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK);
    u->own = (user + system) * tick;
    u->waited = (waited_user + waited_system) * tick;
    const char *field = p + 1;
    for (unsigned i = 2; i < 39 && field; i++)
        field = strchr(field + 1, ' ');
    u->cpu = field ? atoi(field) : 0;
    return true;
}

static bool process_usage(int pid, struct usage *u)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    return read_stat(path, u);
}

/* The children that a thread has started and that live. *ending: there is one whose time may be its parent's already. */
static uint64_t children_of(int pid, int tid, bool *ending)
{
    char path[64], text[4096];
    uint64_t ns = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, tid);
    if (!read_text(path, text, sizeof text))
        return 0;
    for (char *next, *p = text; *p; p = next) {
        struct usage child;
        long id = strtol(p, &next, 10);
        if (next == p)
            break;
        if (process_usage((int)id, &child))
            ns += child.own + child.waited;
        *ending |= child.state == 'X';
    }
    return ns;
}

static uint64_t all_children(int pid, bool *ending)
{
    char path[64];
    uint64_t ns = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        return 0;
    for (const struct dirent *e; (e = readdir(tasks));)
        if (e->d_name[0] != '.')
            ns += children_of(pid, atoi(e->d_name), ending);
    closedir(tasks);
    return ns;
}

uint64_t cputime_process(int pid)
{
    struct usage before, after;
    uint64_t live;
    if (pid <= 0)
        return 0;
    /* A child that ends between the two looks at its parent is in neither sum, or in both: the time would go back and forth. */
    for (unsigned reads = 1;; reads++) {
        bool ending = false;
        if (!process_usage(pid, &before))
            return 0;
        live = all_children(pid, &ending);
        if (!process_usage(pid, &after))
            return 0;
        if ((before.waited == after.waited && !ending) || reads == READS)
            return after.own + after.waited + live;
    }
}

uint64_t cputime_thread(int pid, int tid, int *cpu)
{
    char path[64];
    struct usage u;
    bool ending = false;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    bool there = pid > 0 && read_stat(path, &u);
    if (cpu)
        *cpu = there ? u.cpu : 0;
    return there ? u.own + children_of(pid, tid, &ending) : 0;
}
