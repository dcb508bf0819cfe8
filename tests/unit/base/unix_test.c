// SPDX-License-Identifier: GPL-2.0-or-later
/* Sockets by path: their rights, paths that do not fit, and a peer that never answers. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../devices/check.h"
#include "base/unix.h"
#include "base/util.h"

static void rights(const char *path)
{
    struct stat st;
    mode_t mask = umask(022);
    AUTO_CLOSE int closed = unix_listen(path, 0, 0600, 1);
    CHECK(closed >= 0 && stat(path, &st) == 0);
    CHECK_EQ(st.st_mode & 0777, 0600);
    CHECK(unix_listen(path, 0, 0600, 1) < 0 && errno == EADDRINUSE);
    unlink(path);
    AUTO_CLOSE int open = unix_listen(path, SOCK_NONBLOCK, 0777, 1);
    CHECK(open >= 0 && stat(path, &st) == 0);
    CHECK_EQ(st.st_mode & 0777, 0755);
    umask(mask);
    unlink(path);
}

static void lengths(void)
{
    struct sockaddr_un a;
    char path[sizeof a.sun_path + 1];
    memset(path, 'x', sizeof path);
    path[sizeof a.sun_path] = 0;
    CHECK(unix_address(path, &a) < 0 && errno == ENAMETOOLONG);
    CHECK(strcmp(unix_strerror(ENAMETOOLONG), "the path is longer than 107 bytes (shorten it)") == 0);
    CHECK(unix_connect(path, 0, 0) < 0 && errno == ENAMETOOLONG);
    CHECK(unix_listen(path, 0, 0600, 1) < 0 && errno == ENAMETOOLONG);
    path[sizeof a.sun_path - 1] = 0;
    CHECK(unix_address(path, &a) == 0);
    CHECK(unix_connect(path, 0, 0) < 0 && errno == ENOENT);
}

/* Nobody accepts, and nobody answers: both end. */
static void limits(const char *path)
{
    char c;
    AUTO_CLOSE int listener = unix_listen(path, 0, 0600, 0);
    AUTO_CLOSE int first = unix_connect(path, 0, 1);
    CHECK(listener >= 0 && first >= 0);
    CHECK(recv(first, &c, 1, 0) < 0 && errno == EAGAIN);
    CHECK(unix_connect(path, 0, 1) < 0 && errno == EAGAIN);
    CHECK(unix_connect(path, SOCK_NONBLOCK, 0) < 0 && errno == EAGAIN);
    unlink(path);
    CHECK(unix_connect(path, 0, 0) < 0 && errno == ENOENT);
}

int main(void)
{
    char folder[] = "/tmp/unix-test.XXXXXX", path[64];
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    rights(path);
    lengths();
    limits(path);
    CHECK(rmdir(folder) == 0);
    return 0;
}
