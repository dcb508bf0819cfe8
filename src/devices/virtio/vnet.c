// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A network card (virtio 1.2, 5.1): queue 0 receives, queue 1 sends. Its I/O thread also runs the back end.
 *
 * Frames that the guest has no buffer for wait in a backlog. While there is one, the back end is not polled, so that pressure
 * reaches the remote side; what a back end delivers in answer to a sent frame can still come, and is dropped when the backlog is
 * full, as on any wire. Without a driver all frames are dropped.
 */
#include "devices/virtio/vnet.h"

#include <string.h>

#include "base/util.h"
#include "devices/virtio/offload.h"
#include "devices/virtio/virtio.h"

#define VNET_RX 0
#define VNET_TX 1

#define VNET_F_CSUM       BIT64(0)
#define VNET_F_GUEST_CSUM BIT64(1)
#define VNET_F_MAC        BIT64(5)
#define VNET_F_HOST_TSO4  BIT64(11)
#define VNET_F_HOST_TSO6  BIT64(12)
#define VNET_F_MRG_RXBUF  BIT64(15)
#define VNET_F_STATUS     BIT64(16)

/* Device configuration (5.1.4). */
#define CONFIG_MAC     0
#define CONFIG_STATUS  6
#define CONFIG_BYTES   8
#define STATUS_LINK_UP 1

#define VNET_MERGE   64          /* buffers of one received frame */
#define VNET_BACKLOG (256 * KIB) /* bytes */

struct waiting_frame {
    struct waiting_frame *next;
    size_t len;
    uint8_t data[];
};

struct vnet {
    struct virtio_dev virtio; /* first */
    struct netdev *net;
    bool polled; /* the back end takes part in this turn's poll */
    struct waiting_frame *backlog, **backlog_tail;
    size_t backlog_bytes;
    uint8_t frame[NET_FRAME_MAX], segment[NET_FRAME_MAX];
};

static struct vnet *vnet_of(struct virtio_dev *v)
{
    return container_of(v, struct vnet, virtio);
}

/* ---- to the guest ---- */

enum delivery { DELIVERED, NO_BUFFER, DROPPED };

/* Writes header and frame over the buffers, one after the other, and returns them. */
static void scatter(struct vnet *n, struct vq_elem **elems, unsigned count, const uint8_t *frame, size_t len)
{
    struct virtio_dev *v = &n->virtio;
    struct vnet_header h = {.num_buffers = (uint16_t)count};
    if (virtio_has(v, VNET_F_GUEST_CSUM) && n->net->ops->checksums_valid)
        h.flags = VNET_HDR_DATA_VALID;
    size_t done = 0;
    for (unsigned i = 0; i < count; i++) {
        struct vq_elem *e = elems[i];
        size_t head = i == 0 ? iov_write(e->in, e->nin, 0, &h, sizeof h) : 0;
        size_t part = iov_write(e->in, e->nin, head, frame + done, len - done);
        done += part;
        vq_push(&v->queues[VNET_RX], e, (uint32_t)(head + part));
    }
    virtio_notify(v, VNET_RX);
}

static enum delivery deliver(struct vnet *n, const uint8_t *frame, size_t len)
{
    struct virtio_dev *v = &n->virtio;
    struct vq_elem *elems[VNET_MERGE];
    unsigned count = 0, max = virtio_has(v, VNET_F_MRG_RXBUF) ? VNET_MERGE : 1;
    size_t room = 0, need = sizeof(struct vnet_header) + len;
    while (room < need && count < max && virtio_pop(v, VNET_RX, &elems[count]) > 0)
        room += elems[count++]->in_len;
    bool header_fits = count && elems[0]->in_len >= sizeof(struct vnet_header);
    if (room >= need && header_fits) {
        scatter(n, elems, count, frame, len);
        return DELIVERED;
    }
    /* Either more buffers will come, or those that are there can never hold it. */
    enum delivery d = count == max || (count && !header_fits) ? DROPPED : NO_BUFFER;
    while (count > 0)
        vq_unpop(&v->queues[VNET_RX], elems[--count]);
    return d;
}

static void drop_backlog(struct vnet *n)
{
    while (n->backlog) {
        struct waiting_frame *f = n->backlog;
        n->backlog = f->next;
        free(f);
    }
    n->backlog_tail = &n->backlog;
    n->backlog_bytes = 0;
}

static void drain_backlog(struct vnet *n)
{
    while (n->backlog) {
        struct waiting_frame *f = n->backlog;
        if (deliver(n, f->data, f->len) == NO_BUFFER)
            return;
        n->backlog = f->next;
        n->backlog_bytes -= f->len;
        if (!n->backlog)
            n->backlog_tail = &n->backlog;
        free(f);
    }
}

static void receive(void *opaque, const void *frame, size_t len)
{
    struct vnet *n = opaque;
    if (!n->virtio.running || n->virtio.broken || len > NET_FRAME_MAX)
        return;
    if (!n->backlog && deliver(n, frame, len) != NO_BUFFER)
        return;
    if (n->backlog_bytes + len > VNET_BACKLOG)
        return;
    struct waiting_frame *f = malloc(sizeof *f + len);
    if (!f)
        return;
    f->next = NULL;
    f->len = len;
    memcpy(f->data, frame, len);
    *n->backlog_tail = f;
    n->backlog_tail = &f->next;
    n->backlog_bytes += len;
}

/* ---- from the guest ---- */

static void emit(void *opaque, const uint8_t *frame, size_t len)
{
    struct vnet *n = opaque;
    n->net->ops->send(n->net, frame, len);
}

/* Frames that ask for what was not negotiated, or contradict themselves, are dropped. */
static void send_frame(struct vnet *n, const struct vq_elem *e)
{
    struct virtio_dev *v = &n->virtio;
    struct vnet_header h;
    size_t have = iov_read(e->out, e->nout, 0, &h, sizeof h);
    size_t len = e->out_len - have;
    if (have < sizeof h || len == 0 || len > sizeof n->frame)
        return;
    iov_read(e->out, e->nout, sizeof h, n->frame, len);
    uint64_t tso = (h.gso_type & ~VNET_GSO_ECN) == VNET_GSO_TCPV4 ? VNET_F_HOST_TSO4 : VNET_F_HOST_TSO6;
    if (h.gso_type != VNET_GSO_NONE) {
        if (virtio_has(v, VNET_F_CSUM) && virtio_has(v, tso))
            offload_segment(&h, n->frame, len, n->segment, emit, n);
        return;
    }
    if ((h.flags & VNET_HDR_NEEDS_CSUM) && !(virtio_has(v, VNET_F_CSUM) && offload_checksum(&h, n->frame, len)))
        return;
    emit(n, n->frame, len);
}

/* ---- the I/O thread ---- */

static void vnet_queue_ready(struct virtio_dev *v, unsigned q)
{
    struct vnet *n = vnet_of(v);
    struct vq_elem *e;
    if (q == VNET_RX) {
        drain_backlog(n);
        return;
    }
    while (virtio_pop(v, VNET_TX, &e) > 0) {
        send_frame(n, e);
        virtio_push(v, VNET_TX, e, 0);
    }
}

static void vnet_stop(struct virtio_dev *v)
{
    drop_backlog(vnet_of(v));
}

static void vnet_prepare(struct virtio_dev *v, struct pollset *p)
{
    struct vnet *n = vnet_of(v);
    n->polled = !n->backlog;
    if (n->polled)
        n->net->ops->prepare(n->net, p);
}

static void vnet_dispatch(struct virtio_dev *v, struct pollset *p)
{
    struct vnet *n = vnet_of(v);
    if (n->polled)
        n->net->ops->dispatch(n->net, p);
    n->polled = false;
}

static const struct virtio_class vnet_class = {
    .name = "virtio-net",
    .type = 1,
    .pci_class = 0x020000,
    .queue_size = 256,
    .config_len = CONFIG_BYTES,
    .queue_ready = vnet_queue_ready,
    .stop = vnet_stop,
    .prepare = vnet_prepare,
    .dispatch = vnet_dispatch,
};

int vnet_create(struct pci_host *h, const struct vnet_config *cfg, struct vnet **out, struct error *err)
{
    uint8_t config[CONFIG_BYTES];
    memcpy(config + CONFIG_MAC, cfg->mac, sizeof cfg->mac);
    pci_set16(config + CONFIG_STATUS, STATUS_LINK_UP);
    struct vnet *n = calloc(1, sizeof *n);
    if (!n)
        return error_set(err, 0, "device 'virtio-net': out of memory; close other programs");
    n->net = cfg->net;
    n->net->receive = receive;
    n->net->opaque = n;
    n->backlog_tail = &n->backlog;
    uint64_t features =
        VNET_F_CSUM | VNET_F_GUEST_CSUM | VNET_F_MAC | VNET_F_HOST_TSO4 | VNET_F_HOST_TSO6 | VNET_F_MRG_RXBUF | VNET_F_STATUS;
    if (virtio_create(&n->virtio, &vnet_class, 2, h, cfg->slot, features, config, err) < 0) {
        n->net->receive = NULL;
        free(n);
        return -1;
    }
    *out = n;
    return 0;
}

void vnet_destroy(struct vnet *n)
{
    if (!n)
        return;
    virtio_destroy(&n->virtio);
    n->net->receive = NULL;
    drop_backlog(n);
    free(n);
}
