// SPDX-License-Identifier: GPL-2.0-or-later
/* Connections: accepting, closing, and where fibers wait for sockets. */
#include "block/nbd_server.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/util.h"

#define HANDSHAKE_NS (20 * NS_PER_S)

/* ---- transfers ---- */

/* Waits until the socket can go on. */
static int wait_for(struct nbd_conn *c, struct fiber **slot)
{
    *slot = fiber_self();
    fiber_yield();
    return c->dead ? -EPIPE : 0;
}

static ssize_t receive_some(struct nbd_conn *c, void *buf, size_t n)
{
    if (c->session)
        return nbd_tls_receive(c, buf, n);
    ssize_t got = recv(c->fd, buf, n, MSG_DONTWAIT);
    return got < 0 ? -errno : got;
}

int nbd_receive(struct nbd_conn *c, void *buf, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = c->dead ? -EPIPE : receive_some(c, (uint8_t *)buf + done, n - done);
        if (got == -EAGAIN && (got = wait_for(c, &c->reader)) == 0)
            continue;
        if (got == -EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? (int)got : -EPIPE;
        done += (size_t)got;
    }
    return 0;
}

static ssize_t send_some(struct nbd_conn *c, const void *buf, size_t n)
{
    if (c->session)
        return nbd_tls_send(c, buf, n);
    ssize_t sent = send(c->fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

int nbd_send(struct nbd_conn *c, const void *buf, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t sent = c->dead ? -EPIPE : send_some(c, (const uint8_t *)buf + done, n - done);
        if (sent == -EAGAIN && (sent = wait_for(c, &c->writer)) == 0)
            continue;
        if (sent == -EINTR)
            continue;
        if (sent <= 0) {
            c->dead = true;
            return sent < 0 ? (int)sent : -EPIPE;
        }
        done += (size_t)sent;
    }
    return 0;
}

int nbd_skip(struct nbd_conn *c, uint64_t n)
{
    uint8_t buf[4096];
    int ret = 0;
    for (; n && ret == 0; n -= MIN(n, sizeof buf))
        ret = nbd_receive(c, buf, MIN(n, sizeof buf));
    return ret;
}

/* ---- connections ---- */

static void end_connection(struct nbd_conn *c)
{
    struct nbd_server *s = c->server;
    struct nbd_conn **at = &s->conns;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    if (c->session)
        nbd_tls_end(c);
    close(c->fd);
    free(c);
    s->stop |= --s->nconns == 0 && s->once;
}

static void wake(struct nbd_conn *c, struct fiber **slot)
{
    if (*slot)
        fiber_queue_push(&c->server->image->loop->ready, *slot);
    *slot = NULL;
}

static void connection(void *arg)
{
    struct nbd_conn *c = arg;
    if (nbd_handshake(c) == 0) {
        c->ready = true;
        nbd_serve_requests(c); /* ends when no request is under way any more */
    }
    image_flush(c->server->image);
    end_connection(c);
}

static void accept_one(struct nbd_server *s)
{
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC), on = 1;
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on Unix sockets, which do not wait anyway */
    struct nbd_conn *c = s->nconns < NBD_CLIENTS_MAX ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        log_warn("NBD: a client was turned away: there are %u already, or no memory", s->nconns);
        close(fd);
        return;
    }
    *c = (struct nbd_conn){.server = s, .fd = fd, .deadline = now_ns() + HANDSHAKE_NS, .next = s->conns};
    s->conns = c;
    s->nconns++;
    if (io_loop_spawn(s->image->loop, connection, c) < 0)
        end_connection(c);
}

void nbd_hang_up(struct nbd_conn *c)
{
    c->dead = true;
    shutdown(c->fd, SHUT_RDWR);
    wake(c, &c->reader);
    wake(c, &c->writer);
}

/* ---- the loop ---- */

/* Milliseconds until the next handshake runs out of time; -1: none is under way. */
static int next_deadline(struct nbd_server *s)
{
    uint64_t now = now_ns(), first = UINT64_MAX;
    for (struct nbd_conn *c = s->conns; c; c = c->next) {
        if (c->ready || c->dead)
            continue;
        if (c->deadline <= now)
            nbd_hang_up(c);
        else
            first = MIN(first, c->deadline - now);
    }
    return first == UINT64_MAX ? -1 : (int)(first / 1000000) + 1;
}

static void wait_once(struct nbd_server *s)
{
    struct pollfd p[3 + NBD_CLIENTS_MAX];
    struct nbd_conn *who[NBD_CLIENTS_MAX];
    unsigned n = 3;
    int timeout = next_deadline(s);
    p[0] = (struct pollfd){.fd = io_loop_fd(s->image->loop), .events = POLLIN};
    p[1] = (struct pollfd){.fd = s->quit_fd, .events = POLLIN};
    p[2] = (struct pollfd){.fd = s->listen_fd, .events = POLLIN};
    for (struct nbd_conn *c = s->conns; c; c = c->next)
        if (c->reader || c->writer) {
            who[n - 3] = c;
            p[n++] = (struct pollfd){.fd = c->fd, .events = (short)((c->reader ? POLLIN : 0) | (c->writer ? POLLOUT : 0))};
        }
    if (poll(p, n, s->image->loop->ready.first ? 0 : timeout) < 0)
        return;
    for (unsigned i = 3; i < n; i++) {
        if (p[i].revents & (POLLIN | POLLHUP | POLLERR))
            wake(who[i - 3], &who[i - 3]->reader);
        if (p[i].revents & (POLLOUT | POLLHUP | POLLERR))
            wake(who[i - 3], &who[i - 3]->writer);
    }
    if (p[2].revents)
        accept_one(s);
    s->stop |= p[1].revents != 0;
}

int nbd_server_run(struct nbd_server *s, struct error *err)
{
    while (!s->stop) {
        io_loop_poll(s->image->loop);
        if (!s->stop)
            wait_once(s);
    }
    for (struct nbd_conn *c = s->conns; c; c = c->next)
        nbd_hang_up(c);
    io_loop_drain(s->image->loop);
    int ret = image_flush(s->image);
    if (ret < 0)
        return error_set(err, -ret, "image '%s': cannot be written back: %s; check the disk that holds it", s->image->file->path, strerror(-ret));
    return 0;
}
