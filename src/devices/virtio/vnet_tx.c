// SPDX-License-Identifier: GPL-2.0-or-later
/* Frames from the guest: handed on as they are where the back end completes them itself, completed here where it does not. */
#include <string.h>

#include "base/util.h"
#include "devices/virtio/vnet_internal.h"
#include "net/offload.h"

#define VNET_PIECES 60 /* of a frame that is handed on in pieces */

int vnet_slice(const struct iovec *iov, unsigned n, size_t skip, struct iovec *part, unsigned max)
{
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        if (count == max)
            return -1;
        part[count++] = (struct iovec){(uint8_t *)iov[i].iov_base + skip, iov[i].iov_len - skip};
        skip = 0;
    }
    return (int)count;
}

static void emit(void *opaque, const uint8_t *frame, size_t len)
{
    struct vnet *n = opaque;
    n->net->ops->send(n->net, frame, len);
}

/* What the header asks for, as bits of a back end's offloads. False when it asks for what was not negotiated. */
static bool wanted(const struct vnet *n, const struct net_header *h, unsigned *bits)
{
    const struct virtio_dev *v = &n->virtio;
    unsigned kind = h->gso_type & ~NET_GSO_ECN;
    *bits = h->flags & NET_HDR_NEEDS_CSUM ? NET_CSUM : 0;
    if (*bits && !virtio_has(v, VNET_F_CSUM))
        return false;
    if (h->gso_type == NET_GSO_NONE)
        return true;
    *bits |= kind == NET_GSO_TCPV4 ? NET_TSO4 : NET_TSO6;
    return virtio_has(v, VNET_F_CSUM) && ((kind == NET_GSO_TCPV4 && virtio_has(v, VNET_F_HOST_TSO4)) ||
                                          (kind == NET_GSO_TCPV6 && virtio_has(v, VNET_F_HOST_TSO6)));
}

/* The frame is in n->frame. Frames that contradict themselves are dropped. */
static void complete(struct vnet *n, const struct net_header *h, size_t len)
{
    if (h->gso_type != NET_GSO_NONE)
        offload_segment(h, n->frame, len, n->segment, emit, n);
    else if (!(h->flags & NET_HDR_NEEDS_CSUM) || offload_checksum(h, n->frame, len))
        emit(n, n->frame, len);
}

static void send_frame(struct vnet *n, const struct vq_elem *e)
{
    struct net_header h;
    struct iovec part[VNET_PIECES];
    unsigned bits;
    size_t have = iov_read(e->out, e->nout, 0, &h, sizeof h), len = e->out_len - have;
    if (have < sizeof h || len == 0 || len > sizeof n->frame || !n->link_up || !wanted(n, &h, &bits)) {
        net_count(&n->net->stats.tx_drop, 1);
        return;
    }
    net_count_tx(n->net, len);
    bucket_take(&n->from_guest, len);
    bool whole = !n->net->ops->send_offloaded || (bits & ~n->net->offloads);
    int pieces = whole ? -1 : vnet_slice(e->out, e->nout, sizeof h, part, VNET_PIECES);
    if (pieces < 0) {
        iov_read(e->out, e->nout, sizeof h, n->frame, len);
        part[0] = (struct iovec){n->frame, len};
        pieces = 1;
    }
    if (n->pcap)
        pcap_write(n->pcap, part, pieces, len);
    if (whole)
        complete(n, &h, len);
    else
        n->net->ops->send_offloaded(n->net, &h, part, pieces, len);
}

void vnet_send_queue(struct vnet *n, unsigned q)
{
    struct virtio_dev *v = &n->virtio;
    struct vq_elem *e;
    n->held_back &= ~BIT64(q);
    for (;;) {
        if (bucket_wait(&n->from_guest)) {
            n->held_back |= BIT64(q);
            break;
        }
        if (virtio_pop(v, q, &e) <= 0)
            break;
        send_frame(n, e);
        vq_push(&v->queues[q], e, 0);
    }
    virtio_notify(v, q);
}
