// SPDX-License-Identifier: GPL-2.0-or-later
/* The host's side: unix sockets, polled by the device's thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/unix.h"
#include "base/util.h"
#include "devices/virtio/vsock_internal.h"

#define BACKLOG    16
#define FIRST_PORT 0x40000000u /* of the host's own connections; programs seldom listen there */

int vsock_listen(struct vsock *s, struct error *err)
{
    s->listen_fd = unix_listen(s->path, SOCK_NONBLOCK, 0777, BACKLOG);
    if (s->listen_fd < 0)
        return error_set(err, errno, "device 'virtio-vsock': cannot listen at '%s': %s; give a path that does not exist, in a folder that you may write to",
                         s->path, unix_strerror(errno));
    s->next_port = FIRST_PORT;
    return 0;
}

struct vsock_conn *vsock_conn_new(struct vsock *s)
{
    for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++) {
        struct vsock_conn *c = &s->conns[i];
        if (c->state != VSOCK_FREE)
            continue;
        uint8_t *out = malloc(VSOCK_BUFFER);
        if (!out)
            return NULL;
        *c = (struct vsock_conn){.fd = -1, .slot = -1, .out = out};
        return c;
    }
    return NULL;
}

void vsock_conn_free(struct vsock_conn *c)
{
    if (c->state == VSOCK_FREE && !c->out)
        return;
    if (c->fd >= 0)
        close(c->fd);
    free(c->out);
    *c = (struct vsock_conn){.fd = -1, .slot = -1};
}

int vsock_conn_connect(struct vsock *s, struct vsock_conn *c, uint32_t port)
{
    char path[sizeof s->path + 16];
    snprintf(path, sizeof path, "%s_%u", s->path, port);
    c->fd = unix_connect(path, SOCK_NONBLOCK, 0);
    return c->fd < 0 ? -1 : 0;
}

/* The program went away, or the guest wants nothing more: what the guest is owed is a last word. */
static void end(struct vsock_conn *c)
{
    bool known = c->state == VSOCK_REQUESTED || c->state == VSOCK_OPEN;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->state = VSOCK_ENDED;
    c->owed = known ? BIT(VSOCK_RST) : 0;
    if (!known)
        vsock_conn_free(c);
}

bool vsock_conn_write(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t skip, uint32_t len)
{
    if (c->out_len + len > VSOCK_BUFFER && c->out_at) {
        memmove(c->out, c->out + c->out_at, c->out_len - c->out_at);
        c->out_len -= c->out_at;
        c->out_at = 0;
    }
    if (len > VSOCK_BUFFER - c->out_len)
        return false;
    iov_read(iov, n, skip, c->out + c->out_len, len);
    c->out_len += len;
    return true;
}

void vsock_conn_flush(struct vsock *s, struct vsock_conn *c)
{
    (void)s;
    while (c->fd >= 0 && c->out_at < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            end(c);
        if (n < 0)
            return;
        c->out_at += (uint32_t)n;
        if (c->state == VSOCK_OPEN)
            c->taken += (uint32_t)n;
    }
    c->out_at = c->out_len = 0;
    /* The guest stops sending when it believes that there is no room; half a buffer is worth telling. */
    if (c->state == VSOCK_OPEN && c->taken - c->told >= VSOCK_BUFFER / 2)
        c->owed |= BIT(VSOCK_CREDIT_UPDATE);
    if (c->guest_ended && c->fd >= 0)
        shutdown(c->fd, SHUT_WR);
}

static void take_program(struct vsock *s)
{
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct vsock_conn *c = fd >= 0 ? vsock_conn_new(s) : NULL;
    if (!c) {
        if (fd >= 0)
            close(fd);
        return;
    }
    c->fd = fd;
    c->state = VSOCK_GREETING;
}

static bool host_port_used(const struct vsock *s, uint32_t port)
{
    for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
        if (s->conns[i].state != VSOCK_FREE && s->conns[i].host_port == port)
            return true;
    return false;
}

/* "CONNECT PORT\n", read byte by byte: what follows is for the guest. */
static void greet(struct vsock *s, struct vsock_conn *c)
{
    char ch, rest;
    ssize_t n;
    while ((n = recv(c->fd, &ch, 1, 0)) == 1 && ch != '\n' && c->line_len < VSOCK_LINE - 1)
        c->line[c->line_len++] = ch;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    c->line[c->line_len] = 0;
    if (n != 1 || ch != '\n' || sscanf(c->line, "CONNECT %u%c", &c->guest_port, &rest) != 1) {
        end(c);
        return;
    }
    do
        s->next_port = s->next_port < UINT32_MAX ? s->next_port + 1 : FIRST_PORT;
    while (host_port_used(s, s->next_port));
    c->host_port = s->next_port;
    c->state = VSOCK_REQUESTED;
    c->owed |= BIT(VSOCK_REQUEST);
}

static bool wants_input(const struct vsock *s, const struct vsock_conn *c)
{
    return c->state == VSOCK_GREETING || (c->state == VSOCK_OPEN && !c->host_ended && !s->starved && vsock_credit(c));
}

void vsock_host_prepare(struct vsock *s, struct pollset *p)
{
    s->listen_slot = s->virtio.running ? pollset_add(p, s->listen_fd, POLLIN) : -1;
    for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++) {
        struct vsock_conn *c = &s->conns[i];
        c->slot = -1;
        if (c->state == VSOCK_FREE || c->fd < 0)
            continue;
        short events = (short)((wants_input(s, c) ? POLLIN : 0) | (c->out_at < c->out_len ? POLLOUT : 0));
        if (events)
            c->slot = pollset_add(p, c->fd, events);
    }
}

void vsock_host_dispatch(struct vsock *s, struct pollset *p)
{
    if (pollset_revents(p, s->listen_slot) & POLLIN)
        take_program(s);
    for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++) {
        struct vsock_conn *c = &s->conns[i];
        short got = c->state == VSOCK_FREE ? 0 : pollset_revents(p, c->slot);
        c->slot = -1;
        if (got & (POLLOUT | POLLERR))
            vsock_conn_flush(s, c);
        if (c->state == VSOCK_GREETING && got)
            greet(s, c);
        else if (c->state == VSOCK_OPEN && (got & (POLLIN | POLLHUP)))
            c->owed |= BIT(VSOCK_RW); /* vsock_deliver() reads into the guest's buffer */
    }
    if (s->virtio.running)
        vsock_deliver(s);
}
