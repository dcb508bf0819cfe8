// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Frames to the guest. Those that it has no buffer for wait in a backlog. While there is one, the back end is not polled, so that pressure
 * reaches the remote side; what a back end delivers in answer to a sent frame can still come, and is dropped when the backlog is
 * full, as on any wire. Without a driver all frames are dropped.
 */
#include <string.h>

#include "base/util.h"
#include "devices/virtio/vnet_internal.h"

#define VNET_MERGE   64          /* buffers of one received frame */
#define VNET_BACKLOG (1024 * KIB) /* bytes */

struct waiting_frame {
    struct waiting_frame *next;
    struct net_header h;
    size_t len;
    uint8_t data[];
};

enum delivery { DELIVERED, NO_BUFFER, DROPPED };

/* Where the writer stands in a frame that comes in pieces. */
struct cursor {
    const struct iovec *iov;
    int niov;
    size_t off; /* in the first piece */
};

/* Copies up to `room` bytes of the frame to the element, behind `at`; what was copied. */
static size_t copy_pieces(struct vq_elem *e, size_t at, struct cursor *c)
{
    size_t start = at;
    while (c->niov > 0) {
        size_t want = c->iov->iov_len - c->off;
        size_t done = iov_write(e->in, e->nin, at, (const uint8_t *)c->iov->iov_base + c->off, want);
        at += done;
        c->off += done;
        if (done < want)
            break;
        c->iov++, c->niov--;
        c->off = 0;
    }
    return at - start;
}

/* Writes header and frame over the buffers, one after the other, and returns them together (virtio 1.2, 5.1.6.4): a driver that finds the
 * first one without the rest drops the frame. */
static void scatter(struct vnet *n, unsigned q, struct vq_elem **elems, unsigned count, const struct net_header *h, struct cursor c)
{
    struct virtio_dev *v = &n->virtio;
    struct net_header head = *h;
    uint32_t written[VNET_MERGE];
    head.num_buffers = (uint16_t)count;
    for (unsigned i = 0; i < count; i++) {
        size_t at = i == 0 ? iov_write(elems[i]->in, elems[i]->nin, 0, &head, sizeof head) : 0;
        written[i] = (uint32_t)(at + copy_pieces(elems[i], at, &c));
    }
    vq_push_all(&v->queues[q], elems, written, count);
    virtio_notify(v, q);
}

static enum delivery deliver(struct vnet *n, unsigned q, const struct net_header *h, struct cursor c, size_t len)
{
    struct virtio_dev *v = &n->virtio;
    struct vq_elem *elems[VNET_MERGE];
    unsigned count = 0, max = virtio_has(v, VNET_F_MRG_RXBUF) ? VNET_MERGE : 1;
    size_t room = 0, need = sizeof *h + len;
    while (room < need && count < max && virtio_pop(v, q, &elems[count]) > 0)
        room += elems[count++]->in_len;
    bool header_fits = count && elems[0]->in_len >= sizeof *h;
    if (room >= need && header_fits) {
        net_count_rx(n->net, len); /* before the guest can tell anybody of it */
        scatter(n, q, elems, count, h, c);
        return DELIVERED;
    }
    /* Either more buffers will come, or those that are there can never hold it. */
    enum delivery d = count == max || (count && !header_fits) ? DROPPED : NO_BUFFER;
    while (count > 0)
        vq_unpop(&v->queues[q], elems[--count]);
    if (d == DROPPED)
        net_count(&n->net->stats.rx_drop, 1);
    return d;
}

/* Frames of one flow stay in order, so they take one queue; which one, addresses and ports say. */
static unsigned receive_queue(const struct vnet *n, const uint8_t *f, size_t len)
{
    if (n->pairs < 2 || len < 38)
        return 0;
    uint32_t w[3] = {0};
    if (f[12] == 0x08 && f[13] == 0)
        memcpy(w, f + 26, sizeof w); /* addresses, and the ports when there are no options */
    else if (f[12] == 0x86 && f[13] == 0xdd && len >= 58)
        memcpy(w, f + 34, 4), memcpy(w + 1, f + 50, 8);
    uint32_t hash = (w[0] ^ w[1] ^ (w[2] >> 16) ^ w[2]) * 0x9e3779b1u;
    return 2 * ((hash >> 16) % n->pairs);
}

void vnet_drop_backlog(struct vnet *n)
{
    while (n->backlog) {
        struct waiting_frame *f = n->backlog;
        n->backlog = f->next;
        net_count(&n->net->stats.rx_drop, 1);
        free(f);
    }
    n->backlog_tail = &n->backlog;
    n->backlog_bytes = 0;
}

void vnet_drain_backlog(struct vnet *n)
{
    while (n->backlog) {
        struct waiting_frame *f = n->backlog;
        const struct iovec iov = {f->data, f->len};
        if (deliver(n, receive_queue(n, f->data, f->len), &f->h, (struct cursor){&iov, 1, 0}, f->len) == NO_BUFFER)
            return;
        n->backlog = f->next;
        n->backlog_bytes -= f->len;
        if (!n->backlog)
            n->backlog_tail = &n->backlog;
        free(f);
    }
}

static void keep(struct vnet *n, const struct net_header *h, const struct iovec *iov, int niov, size_t len)
{
    struct waiting_frame *f = n->backlog_bytes + len > VNET_BACKLOG ? NULL : malloc(sizeof *f + len);
    if (!f) {
        net_count(&n->net->stats.rx_drop, 1);
        return;
    }
    f->next = NULL;
    f->h = *h;
    f->len = len;
    size_t done = 0;
    for (int i = 0; i < niov; i++) {
        memcpy(f->data + done, iov[i].iov_base, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    *n->backlog_tail = f;
    n->backlog_tail = &f->next;
    n->backlog_bytes += len;
}

/* The first piece holds at least the headers, or the whole frame. */
void vnet_receive_offloaded(void *opaque, const struct net_header *h, const struct iovec *iov, int niov, size_t len)
{
    struct vnet *n = opaque;
    if (!n->virtio.running || n->virtio.broken || !n->link_up || len > NET_FRAME_MAX || niov < 1 || iov[0].iov_len < 14) {
        net_count(&n->net->stats.rx_drop, 1);
        return;
    }
    if (!vnet_filter_wants(&n->filter, iov[0].iov_base))
        return;
    if (n->pcap)
        pcap_write(n->pcap, iov, niov, len);
    bucket_take(&n->to_guest, len);
    if (!n->backlog && deliver(n, receive_queue(n, iov[0].iov_base, iov[0].iov_len), h, (struct cursor){iov, niov, 0}, len) != NO_BUFFER)
        return;
    keep(n, h, iov, niov, len);
}

void vnet_receive(void *opaque, const void *frame, size_t len)
{
    struct vnet *n = opaque;
    struct net_header h = {0};
    if (virtio_has(&n->virtio, VNET_F_GUEST_CSUM) && n->net->ops->checksums_valid)
        h.flags = NET_HDR_DATA_VALID;
    vnet_receive_offloaded(n, &h, &(struct iovec){(void *)(uintptr_t)frame, len}, 1, len);
}
