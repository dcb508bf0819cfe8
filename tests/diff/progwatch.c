// SPDX-License-Identifier: GPL-2.0-or-later
/* A clock for runs that do not end. A file of its own because <signal.h> has another REG_RIP. */
#include <signal.h>
#include <stddef.h>
#include <sys/time.h>

#include "program.h"

static void (*tick)(void);

static void on_alarm(int sig)
{
    (void)sig;
    tick();
}

int progwatch_start(void (*every_second)(void))
{
    struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK | SA_RESTART};
    struct itimerval every = {{1, 0}, {1, 0}};
    tick = every_second;
    return sigaction(SIGALRM, &sa, NULL) || setitimer(ITIMER_REAL, &every, NULL);
}
