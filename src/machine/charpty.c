// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/charpty.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <termios.h>
#include <unistd.h>

#define PATH_BYTES 64

struct charpty {
    int master, slave, notify, notify_index;
    unsigned opens; /* by others */
    char path[PATH_BYTES];
};

/* Neither echoes nor changes anything: what goes through is the guest's. */
static int make_raw(int slave)
{
    struct termios raw;
    if (tcgetattr(slave, &raw) < 0)
        return -1;
    cfmakeraw(&raw);
    return tcsetattr(slave, TCSANOW, &raw);
}

struct charpty *charpty_open(void)
{
    struct charpty *t = malloc(sizeof *t);
    if (!t)
        return NULL;
    *t = (struct charpty){.slave = -1, .notify = -1, .notify_index = -1};
    t->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (t->master >= 0 && grantpt(t->master) == 0 && unlockpt(t->master) == 0 && ptsname_r(t->master, t->path, sizeof t->path) == 0)
        t->slave = open(t->path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (t->slave >= 0 && make_raw(t->slave) == 0)
        t->notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (t->notify >= 0 && inotify_add_watch(t->notify, t->path, IN_OPEN | IN_CLOSE) >= 0)
        return t;
    int failed = errno;
    charpty_close(t);
    errno = failed;
    return NULL;
}

void charpty_close(struct charpty *t)
{
    if (!t)
        return;
    const int fds[] = {t->notify, t->slave, t->master};
    for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(t);
}

const char *charpty_path(const struct charpty *t)
{
    return t->path;
}

int charpty_fd(const struct charpty *t)
{
    return t->master;
}

void charpty_prepare(struct charpty *t, struct pollset *set)
{
    t->notify_index = pollset_add(set, t->notify, POLLIN);
}

static void count(struct charpty *t, uint32_t mask, bool *anew)
{
    if (mask & IN_OPEN || ((mask & IN_Q_OVERFLOW) && !t->opens)) { /* whom events were lost of may have it open */
        t->opens++;
        *anew = true;
    } else if ((mask & IN_CLOSE) && t->opens && --t->opens == 0) {
        tcflush(t->slave, TCIOFLUSH); /* what was left unread */
    }
}

bool charpty_dispatch(struct charpty *t, struct pollset *set, bool *anew)
{
    _Alignas(struct inotify_event) char buf[4096];
    *anew = false;
    if (!pollset_revents(set, t->notify_index))
        return t->opens;
    for (ssize_t n; (n = read(t->notify, buf, sizeof buf)) > 0;)
        for (char *p = buf; p < buf + n; p += sizeof(struct inotify_event) + ((struct inotify_event *)p)->len)
            count(t, ((struct inotify_event *)p)->mask, anew);
    return t->opens;
}
