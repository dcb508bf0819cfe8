// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge relay SOCKET`: standard input and output joined to a Unix socket. What qemu+ssh:// runs on the daemon's host. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/unix.h"
#include "base/util.h"
#include "cli/verbs.h"

#define RELAY_BYTES 65536

/* Bytes that are there, from one to the other. 0 at the end, -1 with errno. */
static ssize_t copy(int from, int to)
{
    char buf[RELAY_BYTES];
    ssize_t n = read(from, buf, sizeof buf), done = 0;
    while (done < n) {
        ssize_t part = write(to, buf + done, (size_t)(n - done));
        if (part < 0 && errno != EINTR)
            return -1;
        done += MAX(part, (ssize_t)0);
    }
    return n;
}

/* Until the daemon ends it: when our input ends, what it still has to say goes out. */
static int join(int fd)
{
    struct pollfd p[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    for (;;) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return -1;
        if (p[1].revents) {
            ssize_t n = copy(fd, STDOUT_FILENO);
            if (n <= 0)
                return n < 0 && errno != ECONNRESET ? -1 : 0;
        }
        if (p[0].revents && copy(STDIN_FILENO, fd) <= 0) {
            shutdown(fd, SHUT_WR);
            p[0].fd = -1;
        }
        p[0].revents = p[1].revents = 0;
    }
}

int verb_relay(int argc, char **argv, struct error *err)
{
    if (argc != 1)
        return error_set(err, 0, "lodge relay: takes the path of a daemon's socket; write lodge relay SOCKET"), 1;
    AUTO_CLOSE int fd = unix_connect(argv[0], 0, 0);
    if (fd < 0)
        return error_set(err, errno, "daemon at '%s': cannot connect: %s; start it, or name another socket", argv[0],
                         unix_strerror(errno)),
               1;
    if (join(fd) < 0)
        return error_set(err, errno, "daemon at '%s': the connection breaks: %s; connect again", argv[0], strerror(errno)), 1;
    return 0;
}
