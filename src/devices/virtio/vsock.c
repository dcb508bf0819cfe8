// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's side (virtio 1.2, 5.10): queue 0 brings packets to it, queue 1 takes them from it, queue 2 is for events that never come.
 *
 * What a connection owes the guest is a set of bits; a packet is made when there is a buffer for it, so nothing queues up here. Its data is read from the
 * program's socket into the guest's buffer.
 */
#include "devices/virtio/vsock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "devices/virtio/vsock_internal.h"

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

#define PIECES 64 /* of a buffer that data is read into */

static struct vsock *vsock_of(struct virtio_dev *v)
{
    return container_of(v, struct vsock, virtio);
}

/* ---- to the guest ---- */

static struct vsock_header packet(const struct vsock *s, struct vsock_conn *c, enum vsock_op op)
{
    c->told = c->taken;
    return (struct vsock_header){.src_cid = VSOCK_HOST_CID,
                                 .dst_cid = s->cid,
                                 .src_port = c->host_port,
                                 .dst_port = c->guest_port,
                                 .type = VSOCK_TYPE_STREAM,
                                 .op = op,
                                 .buf_alloc = VSOCK_BUFFER,
                                 .fwd_cnt = c->taken};
}

/* Reads from the program behind the header's place: the bytes, or what recvmsg() gives. */
static ssize_t read_data(struct vsock_conn *c, const struct vq_elem *e)
{
    struct iovec part[PIECES];
    size_t skip = sizeof(struct vsock_header), room = vsock_credit(c);
    unsigned n = 0;
    for (unsigned i = 0; i < e->nin && n < PIECES && room; i++) {
        if (skip >= e->in[i].iov_len) {
            skip -= e->in[i].iov_len;
            continue;
        }
        size_t len = MIN(e->in[i].iov_len - skip, room);
        part[n++] = (struct iovec){(uint8_t *)e->in[i].iov_base + skip, len};
        room -= len;
        skip = 0;
    }
    struct msghdr m = {.msg_iov = part, .msg_iovlen = n};
    return recvmsg(c->fd, &m, 0);
}

/* Data, or the end of it. False when there is nothing to tell. */
static bool make_data(struct vsock *s, struct vsock_conn *c, const struct vq_elem *e, struct vsock_header *h)
{
    if (c->state != VSOCK_OPEN || c->fd < 0 || c->host_ended || !vsock_credit(c))
        return false;
    ssize_t n = read_data(c, e);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n > 0) {
        *h = packet(s, c, VSOCK_RW);
        h->len = (uint32_t)n;
        c->sent += (uint32_t)n;
        c->owed |= BIT(VSOCK_RW); /* there may be more */
        return true;
    }
    c->host_ended = true;
    *h = packet(s, c, VSOCK_SHUTDOWN);
    h->flags = VSOCK_SHUTDOWN_SEND | (n < 0 ? VSOCK_SHUTDOWN_RECV : 0);
    return true;
}

/* The next packet of a connection; false when it owes none. */
static bool next_packet(struct vsock *s, struct vsock_conn *c, const struct vq_elem *e, struct vsock_header *h)
{
    static const enum vsock_op order[] = {VSOCK_REQUEST, VSOCK_RESPONSE, VSOCK_RST, VSOCK_CREDIT_UPDATE};
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
        if (!(c->owed & BIT(order[i])))
            continue;
        c->owed &= ~BIT(order[i]);
        *h = packet(s, c, order[i]);
        if (order[i] == VSOCK_RST)
            vsock_conn_free(c);
        return true;
    }
    if (!(c->owed & BIT(VSOCK_RW)))
        return false;
    c->owed &= ~BIT(VSOCK_RW);
    return make_data(s, c, e, h);
}

static bool any_packet(struct vsock *s, const struct vq_elem *e, struct vsock_header *h)
{
    if (s->nstrays) {
        *h = s->strays[--s->nstrays];
        return true;
    }
    for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
        if (s->conns[i].state != VSOCK_FREE && s->conns[i].owed && next_packet(s, &s->conns[i], e, h))
            return true;
    return false;
}

void vsock_deliver(struct vsock *s)
{
    struct virtio_dev *v = &s->virtio;
    struct vq_elem *e;
    struct vsock_header h;
    s->starved = false;
    for (;;) {
        if (virtio_pop(v, VSOCK_RX, &e) <= 0) {
            s->starved = true;
            break;
        }
        if (e->in_len <= sizeof h) {
            virtio_push(v, VSOCK_RX, e, 0);
            virtio_break(v, "a buffer to receive into is too short for a packet");
            return;
        }
        if (!any_packet(s, e, &h)) {
            vq_unpop(&v->queues[VSOCK_RX], e);
            break;
        }
        iov_write(e->in, e->nin, 0, &h, sizeof h);
        vq_push(&v->queues[VSOCK_RX], e, (uint32_t)sizeof h + h.len);
    }
    virtio_notify(v, VSOCK_RX);
}

/* ---- from the guest ---- */

static struct vsock_conn *find(struct vsock *s, const struct vsock_header *h)
{
    for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++) {
        struct vsock_conn *c = &s->conns[i];
        if (c->state >= VSOCK_REQUESTED && c->host_port == h->dst_port && c->guest_port == h->src_port)
            return c;
    }
    return NULL;
}

static void refuse(struct vsock *s, const struct vsock_header *h)
{
    if (h->op == VSOCK_RST || s->nstrays == ARRAY_SIZE(s->strays))
        return;
    s->strays[s->nstrays++] = (struct vsock_header){.src_cid = h->dst_cid,
                                                    .dst_cid = s->cid,
                                                    .src_port = h->dst_port,
                                                    .dst_port = h->src_port,
                                                    .type = h->type,
                                                    .op = VSOCK_RST};
}

static void take_credit(struct vsock_conn *c, const struct vsock_header *h)
{
    c->peer_alloc = h->buf_alloc;
    c->peer_fwd = h->fwd_cnt;
    c->owed |= c->state == VSOCK_OPEN ? BIT(VSOCK_RW) : 0;
}

static void take_request(struct vsock *s, const struct vsock_header *h)
{
    struct vsock_conn *c = vsock_conn_new(s);
    if (!c || vsock_conn_connect(s, c, h->dst_port) < 0) {
        if (c)
            vsock_conn_free(c);
        refuse(s, h);
        return;
    }
    c->state = VSOCK_OPEN;
    c->host_port = h->dst_port;
    c->guest_port = h->src_port;
    c->owed = BIT(VSOCK_RESPONSE);
    take_credit(c, h);
}

static void take_response(struct vsock *s, struct vsock_conn *c, const struct vsock_header *h)
{
    char line[VSOCK_LINE];
    if (c->state != VSOCK_REQUESTED) {
        refuse(s, h);
        return;
    }
    int n = snprintf(line, sizeof line, "OK %u\n", c->host_port);
    memcpy(c->out, line, (size_t)n);
    c->out_len = (uint32_t)n;
    vsock_conn_flush(s, c); /* while it is not open yet: these bytes are not the guest's */
    if (c->state != VSOCK_REQUESTED)
        return;
    c->state = VSOCK_OPEN;
    take_credit(c, h);
}

static void take_data(struct vsock *s, struct vsock_conn *c, const struct vsock_header *h, const struct vq_elem *e)
{
    if (c->state != VSOCK_OPEN || c->guest_ended || h->len > e->out_len - sizeof *h || !vsock_conn_write(c, e->out, e->nout, sizeof *h, h->len)) {
        refuse(s, h);
        vsock_conn_free(c);
        return;
    }
    take_credit(c, h);
    vsock_conn_flush(s, c);
}

static void take_shutdown(struct vsock *s, struct vsock_conn *c, const struct vsock_header *h)
{
    c->guest_ended |= h->flags & VSOCK_SHUTDOWN_SEND;
    vsock_conn_flush(s, c);
    if ((h->flags & VSOCK_SHUTDOWN_SEND) && (h->flags & VSOCK_SHUTDOWN_RECV)) {
        /* Both ways: the guest waits for the RST that ends it. */
        refuse(s, h);
        vsock_conn_free(c);
    }
}

static void take_packet(struct vsock *s, const struct vq_elem *e)
{
    struct vsock_header h;
    if (iov_read(e->out, e->nout, 0, &h, sizeof h) != sizeof h)
        return;
    if (h.src_cid != s->cid || h.dst_cid != VSOCK_HOST_CID || h.type != VSOCK_TYPE_STREAM) {
        refuse(s, &h);
        return;
    }
    struct vsock_conn *c = find(s, &h);
    if (h.op == VSOCK_REQUEST && !c)
        take_request(s, &h);
    else if (!c || h.op == VSOCK_REQUEST)
        refuse(s, &h);
    else if (h.op == VSOCK_RESPONSE)
        take_response(s, c, &h);
    else if (h.op == VSOCK_RW)
        take_data(s, c, &h, e);
    else if (h.op == VSOCK_RST)
        vsock_conn_free(c);
    else if (h.op == VSOCK_SHUTDOWN)
        take_shutdown(s, c, &h);
    else
        take_credit(c, &h);
    if (h.op == VSOCK_CREDIT_REQUEST && c)
        c->owed |= BIT(VSOCK_CREDIT_UPDATE);
}

/* ---- the I/O thread ---- */

static void vsock_queue_ready(struct virtio_dev *v, unsigned q)
{
    struct vsock *s = vsock_of(v);
    struct vq_elem *e;
    while (q == VSOCK_TX && virtio_pop(v, VSOCK_TX, &e) > 0) {
        take_packet(s, e);
        vq_push(&v->queues[VSOCK_TX], e, 0);
    }
    if (q == VSOCK_TX)
        virtio_notify(v, VSOCK_TX);
    if (q != VSOCK_EVENT)
        vsock_deliver(s);
}

static void vsock_stop(struct virtio_dev *v)
{
    struct vsock *s = vsock_of(v);
    for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
        vsock_conn_free(&s->conns[i]);
    s->nstrays = 0;
}

static void vsock_prepare(struct virtio_dev *v, struct pollset *p)
{
    vsock_host_prepare(vsock_of(v), p);
}

static void vsock_dispatch(struct virtio_dev *v, struct pollset *p)
{
    vsock_host_dispatch(vsock_of(v), p);
}

static const struct virtio_class vsock_class = {
    .name = "virtio-vsock",
    .type = 19,
    .pci_class = 0x078000,
    .queue_size = 128,
    .config_len = 8,
    .queue_ready = vsock_queue_ready,
    .stop = vsock_stop,
    .prepare = vsock_prepare,
    .dispatch = vsock_dispatch,
};

static void free_all(struct vsock *s)
{
    for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
        vsock_conn_free(&s->conns[i]);
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
        unlink(s->path);
    }
    free(s);
}

int vsock_create(struct pci_host *h, const struct vsock_config *cfg, struct vsock **out, struct error *err)
{
    uint64_t config = cfg->cid;
    struct vsock *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, ENOMEM, "device 'virtio-vsock': out of memory; close other programs");
    s->listen_fd = s->listen_slot = -1;
    for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
        s->conns[i].fd = s->conns[i].slot = -1;
    s->cid = cfg->cid;
    if (cfg->cid < VSOCK_CID_MIN || cfg->cid == UINT32_MAX)
        error_set(err, 0, "device 'virtio-vsock': the CID %u is reserved; give it %u or more", cfg->cid, VSOCK_CID_MIN);
    else if (strlen(cfg->path) >= sizeof s->path)
        error_set(err, 0, "device 'virtio-vsock': the path '%s' is longer than %zu bytes; shorten it", cfg->path, sizeof s->path - 1);
    else if (strcpy(s->path, cfg->path), vsock_listen(s, err) == 0 &&
             virtio_create(&s->virtio, &vsock_class, VSOCK_QUEUES, h, cfg->slot, 0, &config, err) == 0) {
        *out = s;
        return 0;
    }
    free_all(s);
    return -1;
}

void vsock_destroy(struct vsock *s)
{
    if (!s)
        return;
    virtio_destroy(&s->virtio);
    free_all(s);
}
