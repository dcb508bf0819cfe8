// SPDX-License-Identifier: GPL-2.0-or-later
/* lodge console: a terminal on a guest's console, by a stream of the connection. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "cli/manage.h"

#define CONSOLE_LEAVE 0x1d /* Ctrl-], as in virsh */

static int loop(struct rpc_client *c, struct error *err)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = rpc_client_fd(c), .events = POLLIN}};
    char buf[1024];
    const void *data;
    while (rpc_client_pending(c) || poll(fds, 2, -1) >= 0 || errno == EINTR) {
        if (rpc_client_pending(c) || fds[1].revents) {
            ssize_t n = rpc_client_stream_receive(c, &data, err);
            if (n <= 0)
                return n < 0 ? -1 : rpc_client_stream_finish(c, err);
            if (write(STDOUT_FILENO, data, (size_t)n) < 0)
                return 0;
            fds[0].revents = 0;
            if (rpc_client_pending(c))
                continue;
            fds[1].revents = 0;
        }
        if (fds[0].revents) {
            ssize_t n = read(STDIN_FILENO, buf, sizeof buf);
            const char *leave = n > 0 ? memchr(buf, CONSOLE_LEAVE, (size_t)n) : buf;
            if (n <= 0 || leave)
                return rpc_client_stream_abort(c, err);
            if (rpc_client_stream_send(c, buf, (size_t)n, err) < 0)
                return -1;
        }
    }
    return 0;
}

int manage_console_of(struct session *s, const struct remote_nonnull_domain *dom, struct error *err)
{
    const struct remote_domain_open_console_args args = {.dom = *dom};
    struct termios saved, raw;
    bool tty = tcgetattr(STDIN_FILENO, &saved) == 0;
    if (client_domain_open_console(s->c, &args, err) < 0)
        return -1;
    fprintf(stderr, "lodge: console of '%s'; Ctrl-] leaves it\n", dom->name);
    fflush(stdout);
    if (tty) {
        raw = saved;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    int result = loop(s->c, err);
    if (tty)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    fputc('\n', stderr);
    return result;
}

int manage_console(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    (void)a;
    return manage_console_of(s, dom, err);
}
