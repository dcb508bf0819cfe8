// SPDX-License-Identifier: GPL-2.0-or-later
/* See client.h. */
#include "rpc/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/unix.h"
#include "base/util.h"

struct rpc_client {
    struct rpc_transport t;
    uint32_t serial;
    char *name;         /* of the daemon, for errors */
    struct arena arena; /* of the last reply */
    rpc_event_fn *on_event;
    void *opaque;
    struct rpc_header stream; /* proc and serial of the open stream; proc 0: none */
    bool stream_ended;        /* the daemon has no more data */
    uint8_t *packet;          /* the last one, without the length */
    size_t len;
    struct rpc_header head; /* of it */
    bool broken;
};

static int lost(struct rpc_client *c, struct error *err)
{
    c->broken = true;
    return error_set(err, VIR_ERR_INTERNAL_ERROR, "daemon at '%s': the connection is lost: %s; see whether lodged runs", c->name,
                     errno ? strerror(errno) : "it was closed");
}

static int send_all(struct rpc_client *c, const void *data, size_t len, struct error *err)
{
    for (const uint8_t *p = data; len;) {
        ssize_t n = c->t.write(c->t.self, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return lost(c, err);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int receive_all(struct rpc_client *c, void *data, size_t len, struct error *err)
{
    for (uint8_t *p = data; len;) {
        errno = 0;
        ssize_t n = c->t.read(c->t.self, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return lost(c, err);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int send_packet(struct rpc_client *c, const struct rpc_header *h, const struct xdr_type *type, const void *object,
                       const void *raw, size_t raw_len, struct error *err)
{
    struct xdr_out out __attribute__((cleanup(xdr_out_free))) = {0};
    rpc_packet_begin(&out, h);
    xdr_encode(&out, type, object);
    xdr_put_raw(&out, raw, raw_len);
    if (!rpc_packet_end(&out))
        return error_set(err, VIR_ERR_RPC, "message: too long for libvirt's protocol; send less");
    return send_all(c, out.data, out.len, err);
}

static int read_packet(struct rpc_client *c, struct error *err)
{
    uint8_t length[RPC_LENGTH_BYTES];
    if (receive_all(c, length, sizeof length, err) < 0)
        return -1;
    uint32_t len = xdr_get_u32(length);
    if (len < RPC_PACKET_MIN || len > RPC_PACKET_MAX)
        return error_set(err, VIR_ERR_RPC, "daemon at '%s': sends a packet of %u bytes; it does not speak libvirt's protocol",
                         c->name, len);
    free(c->packet);
    c->len = len - RPC_LENGTH_BYTES;
    c->packet = malloc(c->len);
    if (!c->packet)
        return error_set(err, VIR_ERR_NO_MEMORY, "message: out of memory");
    if (receive_all(c, c->packet, c->len, err) < 0)
        return -1;
    rpc_header_get(c->packet, &c->head);
    return 0;
}

static const void *body(const struct rpc_client *c)
{
    return c->packet + RPC_HEADER_BYTES;
}

static size_t body_len(const struct rpc_client *c)
{
    return c->len - RPC_HEADER_BYTES;
}

/* Keepalives and events; false when the packet is something else. */
static bool take_aside(struct rpc_client *c)
{
    const struct rpc_header *h = &c->head;
    if (h->type != VIR_NET_MESSAGE)
        return false;
    if (h->prog == RPC_PROGRAM_KEEPALIVE && h->proc == KEEPALIVE_PING) {
        struct rpc_header pong = *h;
        pong.proc = KEEPALIVE_PONG;
        send_packet(c, &pong, NULL, NULL, NULL, 0, NULL);
    }
    bool known =
        h->prog == RPC_PROGRAM_REMOTE && h->proc > 0 && h->proc < REMOTE_PROCS && (remote_procs[h->proc].flags & RPC_EVENT);
    const struct xdr_type *type = known ? remote_procs[h->proc].args : NULL;
    if (type && c->on_event) {
        struct arena arena = {0};
        void *message = arena_alloc(&arena, type->size);
        if (message && xdr_decode(type, body(c), body_len(c), &arena, message, NULL) == 0)
            c->on_event(c->opaque, h->proc, message);
        arena_free(&arena);
    }
    return true;
}

static int take_error(struct rpc_client *c, struct error *err)
{
    struct remote_error e;
    if (xdr_decode(&xdr_remote_error, body(c), body_len(c), &c->arena, &e, err) < 0)
        return -1;
    return error_set(err, e.code, "%s", e.message ? e.message : "the daemon gives no reason");
}

int rpc_client_call(struct rpc_client *c, int proc, const void *args, void *ret, struct error *err)
{
    const struct rpc_proc *p = &remote_procs[proc];
    struct rpc_header h = {RPC_PROGRAM_REMOTE, RPC_VERSION, proc, VIR_NET_CALL, c->serial++, VIR_NET_OK};
    arena_free(&c->arena);
    if (send_packet(c, &h, p->args, args, NULL, 0, err) < 0)
        return -1;
    do {
        if (read_packet(c, err) < 0)
            return -1;
    } while (take_aside(c) || c->head.type != VIR_NET_REPLY || c->head.serial != h.serial);
    if (c->head.status != VIR_NET_OK)
        return take_error(c, err);
    if (p->flags & RPC_STREAM) {
        c->stream = h;
        c->stream.type = VIR_NET_STREAM;
        c->stream_ended = false;
    }
    return xdr_decode(p->ret, body(c), body_len(c), &c->arena, ret, err);
}

void rpc_client_keep(struct rpc_client *c, struct arena *a)
{
    *a = c->arena;
    c->arena = (struct arena){0};
}

int rpc_client_dispatch(struct rpc_client *c, struct error *err)
{
    if (read_packet(c, err) < 0)
        return -1;
    take_aside(c); /* anything else belongs to a stream that is closed */
    return 0;
}

/* ---- streams ---- */

int rpc_client_stream_send(struct rpc_client *c, const void *data, size_t len, struct error *err)
{
    for (const uint8_t *p = data; len;) {
        struct rpc_header h = c->stream;
        size_t n = MIN(len, (size_t)RPC_STREAM_CHUNK);
        h.status = VIR_NET_CONTINUE;
        if (send_packet(c, &h, NULL, NULL, p, n, err) < 0)
            return -1;
        p += n;
        len -= n;
    }
    return 0;
}

ssize_t rpc_client_stream_receive(struct rpc_client *c, const void **data, struct error *err)
{
    if (c->stream_ended)
        return 0;
    do {
        if (read_packet(c, err) < 0)
            return -1;
    } while (take_aside(c) || c->head.type != VIR_NET_STREAM || c->head.serial != c->stream.serial);
    if (c->head.status == VIR_NET_ERROR) {
        c->stream.proc = 0;
        return take_error(c, err);
    }
    *data = body(c);
    c->stream_ended = c->head.status == VIR_NET_OK || body_len(c) == 0;
    return (ssize_t)body_len(c);
}

static int end_stream(struct rpc_client *c, uint32_t status, struct error *err)
{
    struct rpc_header h = c->stream;
    if (!h.proc)
        return 0;
    h.status = status;
    c->stream.proc = 0;
    if (send_packet(c, &h, NULL, NULL, NULL, 0, err) < 0)
        return -1;
    for (;;) {
        if (read_packet(c, err) < 0)
            return -1;
        if (take_aside(c) || c->head.type != VIR_NET_STREAM || c->head.serial != h.serial || c->head.status == VIR_NET_CONTINUE)
            continue;
        return c->head.status == VIR_NET_OK ? 0 : take_error(c, err);
    }
}

int rpc_client_stream_finish(struct rpc_client *c, struct error *err)
{
    return end_stream(c, VIR_NET_OK, err);
}

int rpc_client_stream_abort(struct rpc_client *c, struct error *err)
{
    return end_stream(c, VIR_NET_ERROR, err);
}

/* ---- life ---- */

int rpc_client_new(const struct rpc_transport *t, const char *name, struct rpc_client **out, struct error *err)
{
    struct rpc_client *c = calloc(1, sizeof *c);
    char *kept = strdup(name);
    if (!c || !kept) {
        free(c);
        free(kept);
        t->close(t->self);
        return error_set(err, VIR_ERR_NO_MEMORY, "connection: out of memory");
    }
    c->t = *t;
    c->name = kept;
    *out = c;
    return 0;
}

static ssize_t fd_read(void *self, void *data, size_t len)
{
    return recv((int)(intptr_t)self, data, len, 0);
}

static ssize_t fd_write(void *self, const void *data, size_t len)
{
    return send((int)(intptr_t)self, data, len, MSG_NOSIGNAL);
}

static void fd_close(void *self)
{
    close((int)(intptr_t)self);
}

int rpc_client_from_fd(int fd, const char *name, struct rpc_client **out, struct error *err)
{
    const struct rpc_transport t = {.read = fd_read, .write = fd_write, .close = fd_close, .self = (void *)(intptr_t)fd, .fd = fd};
    return rpc_client_new(&t, name, out, err);
}

int rpc_client_connect(const char *path, struct rpc_client **out, struct error *err)
{
    int fd = unix_connect(path, 0, 0);
    if (fd < 0)
        return error_set(err, errno, "daemon at '%s': cannot connect: %s; start lodged, or name another with -c URI", path,
                         unix_strerror(errno));
    return rpc_client_from_fd(fd, path, out, err);
}

void rpc_client_close(struct rpc_client *c)
{
    if (!c)
        return;
    c->t.close(c->t.self);
    arena_free(&c->arena);
    free(c->packet);
    free(c->name);
    free(c);
}

int rpc_client_fd(const struct rpc_client *c)
{
    return c->t.fd;
}

bool rpc_client_pending(const struct rpc_client *c)
{
    return c->t.pending && c->t.pending(c->t.self);
}

bool rpc_client_broken(const struct rpc_client *c)
{
    return c->broken;
}

void rpc_client_on_event(struct rpc_client *c, rpc_event_fn *fn, void *opaque)
{
    c->on_event = fn;
    c->opaque = opaque;
}
