// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Streams: a socket, joined to a client's connection. It leads to a guest's console, or to the thread that copies a volume
 * (transfer.h). All on the main thread, but for opening.
 *
 * The socket is read while the client takes what it gets, and the client's data waits here, bounded. A guest may never take it:
 * then the client is told an error, because its connection cannot be left unread for one console. A disk does take it: then the
 * connection is left unread until it has.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix.h"
#include "base/util.h"
#include "daemon/server.h"
#include "daemon/transfer.h"

#define HIGH_WATER (1u << 20) /* bytes on their way to the client */
#define IN_MAX     (1u << 20) /* bytes that the other side has not taken */
#define IN_RESUME  (IN_MAX / 4)
#define READ_BYTES 131072
#define CONNECT_S  5

struct stream {
    struct watch watch; /* first */
    struct stream *next;
    struct client *client;
    struct rpc_header h; /* of its packets */
    uint8_t *in;
    size_t in_len;
    bool ended;                /* the other side is over, and the client knows */
    struct transfer *transfer; /* NULL: a console */
    bool finishing;            /* the client has sent all of a volume */
    bool holding;              /* the client is not read because of this stream */
};

static void send_packet(struct stream *s, uint32_t status, const void *data, size_t len)
{
    struct rpc_header h = s->h;
    h.status = status;
    client_send(s->client, &h, NULL, NULL, data, len);
}

static void free_stream(void *arg)
{
    struct stream *s = arg;
    client_unref(s->client);
    close(s->watch.fd);
    transfer_unref(s->transfer);
    free(s->in);
    free(s);
}

static void hold(struct stream *s, bool on)
{
    if (s->holding == on)
        return;
    s->holding = on;
    client_hold(s->client, on);
}

static void remove_stream(struct stream *s)
{
    for (struct stream **p = &s->client->streams; *p; p = &(*p)->next) {
        if (*p != s)
            continue;
        *p = s->next;
        hold(s, false);
        loop_remove(&s->client->daemon->loop, &s->watch);
        loop_defer(&s->client->daemon->loop, free_stream, s);
        return;
    }
}

static void update(struct stream *s)
{
    bool room = client_pending(s->client) < HIGH_WATER;
    loop_change(&s->client->daemon->loop, &s->watch, (room && !s->ended ? (uint32_t)EPOLLIN : 0u) | (s->in_len ? EPOLLOUT : 0u));
}

static void write_in(struct stream *s)
{
    if (s->in_len <= IN_RESUME)
        hold(s, false);
    while (s->in_len) {
        ssize_t n = send(s->watch.fd, s->in, s->in_len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n <= 0) {
            if (n < 0 && errno != EAGAIN)
                s->in_len = 0;
            return;
        }
        s->in_len -= (size_t)n;
        memmove(s->in, s->in + n, s->in_len);
        if (s->in_len <= IN_RESUME)
            hold(s, false);
    }
    if (s->finishing) {
        s->finishing = false;
        shutdown(s->watch.fd, SHUT_WR); /* the thread ends with what it has got, and closes its end */
    }
}

/* The thread has closed its end: all is done, or it has failed. */
static void end_transfer(struct stream *s)
{
    ERROR_SCOPED(err);
    if (transfer_result(s->transfer, &err) < 0) {
        client_send_error(s->client, &s->h, &err);
        remove_stream(s);
    } else if (transfer_is_upload(s->transfer)) {
        send_packet(s, VIR_NET_OK, NULL, 0);
        remove_stream(s);
    } else {
        s->ended = true;
        send_packet(s, VIR_NET_CONTINUE, NULL, 0); /* the end: the client answers with its own */
        loop_remove(&s->client->daemon->loop, &s->watch);
    }
}

static void stream_ready(struct watch *w, uint32_t events)
{
    struct stream *s = container_of(w, struct stream, watch);
    uint8_t buf[READ_BYTES];
    if (events & EPOLLOUT)
        write_in(s);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !s->ended) {
        ssize_t n = recv(w->fd, buf, sizeof buf, MSG_DONTWAIT);
        if (n > 0)
            send_packet(s, VIR_NET_CONTINUE, buf, (size_t)n);
        else if ((n == 0 || errno != EAGAIN) && s->transfer) {
            end_transfer(s);
            return;
        } else if (n == 0 || errno != EAGAIN) {
            s->ended = true;
            send_packet(s, VIR_NET_CONTINUE, NULL, 0); /* the end: the client answers with its own */
            loop_remove(&s->client->daemon->loop, w);
            return;
        }
    }
    update(s);
}

static void take_data(struct stream *s, const uint8_t *data, size_t len)
{
    /* A client that is held sends nothing more than the packet that brought it there. */
    size_t max = s->transfer ? IN_MAX + RPC_PACKET_MAX : IN_MAX;
    uint8_t *grown = s->in_len + len <= max ? realloc(s->in, s->in_len + len) : NULL;
    if (!grown) {
        struct error e = {.text = (char *)(s->transfer ? "volume: out of memory; send it in smaller packets"
                                                       : "console: the guest does not take its input; the console is closed"),
                          .errnum = VIR_ERR_OPERATION_FAILED};
        client_send_error(s->client, &s->h, &e);
        remove_stream(s);
        return;
    }
    memcpy(grown + s->in_len, data, len);
    s->in = grown;
    s->in_len += len;
    write_in(s);
    if (s->transfer && s->in_len > IN_MAX / 2)
        hold(s, true);
    if (!s->ended)
        update(s);
}

void stream_packet(struct client *c, const struct rpc_header *h, const uint8_t *data, size_t len)
{
    struct stream *s = c->streams;
    while (s && (s->h.serial != h->serial || s->h.proc != h->proc))
        s = s->next;
    if (!s) /* of a stream that is closed: libvirt drops these, too */
        return;
    if (h->status == VIR_NET_CONTINUE && len && !s->ended) {
        take_data(s, data, len);
    } else if (h->status == VIR_NET_OK && s->transfer && transfer_is_upload(s->transfer)) {
        s->finishing = true;
        write_in(s);
        update(s);
    } else if (h->status != VIR_NET_CONTINUE) {
        send_packet(s, VIR_NET_OK, NULL, 0);
        remove_stream(s);
    }
}

void stream_close_all(struct client *c)
{
    while (c->streams)
        remove_stream(c->streams);
}

void stream_flush(struct client *c)
{
    for (struct stream *s = c->streams; s; s = s->next)
        if (!s->ended)
            update(s);
}

/*
 * Answers the opening call and lets the stream run, both on the main thread: so no data goes out before the answer, and what the
 * client sends on it finds the stream.
 */
static void attach(void *arg)
{
    struct stream *s = arg;
    struct client *c = s->client;
    struct rpc_header reply = s->h;
    ERROR_SCOPED(err);
    reply.type = VIR_NET_REPLY;
    if (c->closed) {
        free_stream(s);
    } else if (loop_add(&c->daemon->loop, &s->watch, EPOLLIN, &err) < 0) {
        client_send_error(c, &reply, &err);
        free_stream(s);
    } else {
        client_send(c, &reply, NULL, NULL, NULL, 0);
        s->next = c->streams;
        c->streams = s;
    }
}

void stream_start(struct call *c)
{
    loop_defer(&c->daemon->loop, attach, c->stream);
}

int stream_open_transfer(struct call *c, int *fd, struct transfer *t)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s)
        return call_fail(c, VIR_ERR_NO_MEMORY, "stream: out of memory");
    *s = (struct stream){.watch = {steal_fd(fd), stream_ready}, .client = c->client, .h = c->h, .transfer = t};
    s->h.type = VIR_NET_STREAM;
    client_ref(c->client);
    c->stream = s;
    return 0;
}

int stream_open_socket(struct call *c, const char *path)
{
    AUTO_CLOSE int fd = unix_connect(path, 0, CONNECT_S); /* later calls say MSG_DONTWAIT */
    if (fd < 0)
        return call_fail(c, VIR_ERR_OPERATION_FAILED, "console '%s': cannot connect: %s; see whether the guest runs", path,
                         unix_strerror(errno));
    return stream_open_transfer(c, &fd, NULL);
}
