// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "base/unix.h"
#include "base/util.h"

#define PATH_LIMIT (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

int unix_address(const char *path, struct sockaddr_un *a)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) > PATH_LIMIT) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(a->sun_path, path);
    return 0;
}

int unix_connect(const char *path, int flags, unsigned limit_s)
{
    const struct timeval limit = {.tv_sec = limit_s};
    struct sockaddr_un a;
    AUTO_CLOSE int fd = unix_address(path, &a) < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        return -1;
    return steal_fd(&fd);
}

/* The file gets the mode of the socket, so there is no moment at which others may connect. */
int unix_listen(const char *path, int flags, unsigned mode, int backlog)
{
    struct sockaddr_un a;
    AUTO_CLOSE int fd = unix_address(path, &a) < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0 || fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, backlog) < 0)
        return -1;
    return steal_fd(&fd);
}

const char *unix_strerror(int errnum)
{
    static _Thread_local char text[64];
    if (errnum != ENAMETOOLONG)
        return strerror(errnum);
    snprintf(text, sizeof text, "the path is longer than %zu bytes (shorten it)", PATH_LIMIT);
    return text;
}
