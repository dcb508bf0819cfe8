// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Frames on a stream. What the peer does not take at once waits, up to a limit; beyond it frames are dropped, as on a wire. What it sends is taken apart
 * as it comes; a length that no frame has ends the connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/log.h"
#include "base/unix.h"
#include "base/util.h"
#include "net/net.h"

#define LENGTH_BYTES 4
#define OUT_BYTES    (1 << 20) /* that wait for the peer */
#define IN_BYTES     (256 * 1024)
#define RETRY_MS     1000

/* Resolved once, because a name server may take its time. */
struct address {
    struct sockaddr_storage sa;
    socklen_t len;
};

struct net_socket {
    struct netdev dev; /* first */
    char *address;
    struct address resolved;
    bool listening, connecting;
    int listen_fd, fd, slot;
    uint64_t retry_ns; /* when to connect again */
    struct log_limit limit;
    size_t out_at, out_len, in_len;
    uint8_t out[OUT_BYTES], in[IN_BYTES];
};

_Static_assert(IN_BYTES > LENGTH_BYTES + NET_FRAME_MAX, "a whole frame fits");

/* ---- connections ---- */

static int resolve(const char *text, struct address *a, struct error *err)
{
    *a = (struct address){0};
    if (strchr(text, '/')) {
        struct sockaddr_un *un = (struct sockaddr_un *)&a->sa;
        a->len = sizeof *un;
        return unix_address(text, un) < 0 ? error_set(err, errno, "network socket '%s': %s; shorten it", text, unix_strerror(errno)) : 0;
    }
    AUTO_FREE char *host = strdup(text);
    char *colon = host ? strrchr(host, ':') : NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    if (!colon)
        return error_set(err, 0, "network socket '%s': not an address; write HOST:PORT, or a path with a slash", text);
    *colon = 0;
    int r = getaddrinfo(*host ? host : "127.0.0.1", colon + 1, &hints, &list);
    if (r != 0 || !list)
        return error_set(err, 0, "network socket '%s': %s; write HOST:PORT", text, gai_strerror(r));
    memcpy(&a->sa, list->ai_addr, list->ai_addrlen);
    a->len = list->ai_addrlen;
    freeaddrinfo(list);
    return 0;
}

static void drop_peer(struct net_socket *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->connecting = false;
    s->in_len = s->out_at = s->out_len = 0;
    s->retry_ns = now_ns() + RETRY_MS * 1000000ull;
}

static void no_delay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* fails for unix sockets, which have none */
}

static int start_listening(struct net_socket *s, struct error *err)
{
    const struct address *a = &s->resolved;
    int one = 1;
    AUTO_CLOSE int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&a->sa, a->len) < 0 || listen(fd, 1) < 0)
        return error_set(err, errno, "network socket '%s': cannot listen: %s; give an address that is free", s->address, strerror(errno));
    s->listen_fd = steal_fd(&fd);
    return 0;
}

static void try_connect(struct net_socket *s)
{
    const struct address *a = &s->resolved;
    if (s->listening || s->fd >= 0 || now_ns() < s->retry_ns)
        return;
    s->fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    s->connecting = true;
    if (s->fd >= 0 && connect(s->fd, (const struct sockaddr *)&a->sa, a->len) < 0 && errno != EINPROGRESS) {
        drop_peer(s);
        return;
    }
    if (s->fd >= 0)
        no_delay(s->fd);
}

/* One peer at a time: the next waits until this one has gone. */
static void take_peer(struct net_socket *s)
{
    s->fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (s->fd >= 0)
        no_delay(s->fd);
}

/* ---- frames ---- */

static void flush_out(struct net_socket *s)
{
    while (s->out_at < s->out_len) {
        ssize_t n = send(s->fd, s->out + s->out_at, s->out_len - s->out_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            drop_peer(s);
        if (n < 0)
            return;
        s->out_at += (size_t)n;
    }
    s->out_at = s->out_len = 0;
}

static void socket_send(struct netdev *n, const void *frame, size_t len)
{
    struct net_socket *s = container_of(n, struct net_socket, dev);
    uint32_t length = htonl((uint32_t)len);
    if (s->fd < 0 || s->connecting || len > NET_FRAME_MAX)
        return;
    if (s->out_at && s->out_len + LENGTH_BYTES + len > OUT_BYTES) {
        memmove(s->out, s->out + s->out_at, s->out_len - s->out_at);
        s->out_len -= s->out_at;
        s->out_at = 0;
    }
    if (s->out_len + LENGTH_BYTES + len > OUT_BYTES)
        return;
    memcpy(s->out + s->out_len, &length, LENGTH_BYTES);
    memcpy(s->out + s->out_len + LENGTH_BYTES, frame, len);
    s->out_len += LENGTH_BYTES + len;
    if (s->out_len >= OUT_BYTES / 4)
        flush_out(s);
}

static bool take_frames(struct net_socket *s)
{
    size_t at = 0;
    while (s->in_len - at >= LENGTH_BYTES) {
        uint32_t len;
        memcpy(&len, s->in + at, LENGTH_BYTES);
        len = ntohl(len);
        if (len == 0 || len > NET_FRAME_MAX) {
            log_guest(&s->limit, "network socket '%s': the peer sends a frame of %u bytes; the connection ends", s->address, len);
            return false;
        }
        if (s->in_len - at - LENGTH_BYTES < len)
            break;
        if (s->dev.receive)
            s->dev.receive(s->dev.opaque, s->in + at + LENGTH_BYTES, len);
        at += LENGTH_BYTES + len;
    }
    memmove(s->in, s->in + at, s->in_len - at);
    s->in_len -= at;
    return true;
}

static void read_in(struct net_socket *s)
{
    ssize_t n = recv(s->fd, s->in + s->in_len, IN_BYTES - s->in_len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        s->in_len += (size_t)n;
    if (n <= 0 || !take_frames(s))
        drop_peer(s);
}

static void socket_prepare(struct netdev *n, struct pollset *p)
{
    struct net_socket *s = container_of(n, struct net_socket, dev);
    try_connect(s);
    if (s->fd >= 0 && !s->connecting)
        flush_out(s); /* may end the connection */
    s->slot = -1;
    if (s->fd >= 0)
        s->slot = pollset_add(p, s->fd, s->connecting ? POLLOUT : (short)(POLLIN | (s->out_len ? POLLOUT : 0)));
    else if (s->listening)
        s->slot = pollset_add(p, s->listen_fd, POLLIN);
    else
        pollset_timeout(p, RETRY_MS);
}

static void socket_dispatch(struct netdev *n, struct pollset *p)
{
    struct net_socket *s = container_of(n, struct net_socket, dev);
    short got = pollset_revents(p, s->slot);
    int error = 0;
    socklen_t len = sizeof error;
    s->slot = -1;
    if (!got)
        return;
    if (s->fd < 0) {
        take_peer(s);
    } else if (s->connecting) {
        if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error)
            drop_peer(s);
        s->connecting = false;
    } else if (got & (POLLIN | POLLHUP | POLLERR)) {
        read_in(s);
    }
}

/* ---- life ---- */

static void socket_destroy(struct netdev *n)
{
    struct net_socket *s = container_of(n, struct net_socket, dev);
    if (s->fd >= 0)
        close(s->fd);
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
        if (strchr(s->address, '/'))
            unlink(s->address);
    }
    free(s->address);
    free(s);
}

static const struct netdev_ops socket_ops = {
    .name = "socket",
    .send = socket_send,
    .prepare = socket_prepare,
    .dispatch = socket_dispatch,
    .destroy = socket_destroy,
};

int net_socket_create(const struct net_socket_config *cfg, struct netdev **out, struct error *err)
{
    struct net_socket *s = calloc(1, sizeof *s);
    if (!s || !(s->address = strdup(cfg->address))) {
        free(s);
        return error_set(err, ENOMEM, "network socket '%s': out of memory; close other programs", cfg->address);
    }
    s->dev.ops = &socket_ops;
    s->listening = cfg->listen;
    s->listen_fd = s->fd = s->slot = -1;
    if (resolve(cfg->address, &s->resolved, err) < 0 || (cfg->listen && start_listening(s, err) < 0)) {
        socket_destroy(&s->dev);
        return -1;
    }
    *out = &s->dev;
    return 0;
}
