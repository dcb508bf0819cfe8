// SPDX-License-Identifier: GPL-2.0-or-later
/* The control queue (5.1.6.5): which frames the guest wants, how many pairs of queues it uses, its answer to an announcement. */
#include <string.h>

#include "base/util.h"
#include "devices/virtio/vnet_internal.h"

enum { CLASS_RX, CLASS_MAC, CLASS_VLAN, CLASS_ANNOUNCE, CLASS_MQ };
enum { RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST };
enum { MAC_TABLE_SET, MAC_ADDR_SET };
enum { CONTROL_OK, CONTROL_ERR };

struct control_header {
    uint8_t class, command;
};

/* ---- the filter ---- */

void vnet_filter_reset(struct vnet *n)
{
    struct virtio_dev *v = &n->virtio;
    n->filter = (struct vnet_filter){0};
    pthread_mutex_lock(&v->bus->lock);
    memcpy(n->filter.mac, v->config + CONFIG_MAC, MAC_BYTES);
    pthread_mutex_unlock(&v->bus->lock);
    /* A driver that cannot say what it wants gets everything, as it always did. */
    n->filter.promiscuous = !virtio_has(v, VNET_F_CTRL_RX);
}

static bool in_table(const uint8_t table[][MAC_BYTES], uint32_t n, const uint8_t *mac)
{
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(table[i], mac, MAC_BYTES) == 0)
            return true;
    return false;
}

bool vnet_filter_wants(const struct vnet_filter *f, const uint8_t *frame)
{
    static const uint8_t broadcast[MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    if (f->promiscuous)
        return true;
    if (memcmp(frame, broadcast, MAC_BYTES) == 0)
        return !f->no_broadcast;
    if (frame[0] & 1)
        return !f->no_multicast && (f->all_multicast || f->multicast_overflow || in_table(f->multicast, f->nmulticast, frame));
    if (f->no_unicast)
        return false;
    return f->all_unicast || f->unicast_overflow || memcmp(frame, f->mac, MAC_BYTES) == 0 || in_table(f->unicast, f->nunicast, frame);
}

/* ---- commands ---- */

static uint8_t set_rx(struct vnet *n, uint8_t command, const struct vq_elem *e)
{
    bool *const modes[] = {&n->filter.promiscuous,  &n->filter.all_multicast, &n->filter.all_unicast,
                           &n->filter.no_multicast, &n->filter.no_unicast,    &n->filter.no_broadcast};
    uint8_t on;
    if (command >= ARRAY_SIZE(modes) || (command > RX_ALLMULTI && !virtio_has(&n->virtio, VNET_F_CTRL_RX_EXTRA)) ||
        iov_read(e->out, e->nout, sizeof(struct control_header), &on, 1) != 1 || on > 1)
        return CONTROL_ERR;
    *modes[command] = on;
    return CONTROL_OK;
}

/* A count and as many addresses; the bytes that were taken, or 0 when they are not all there. */
static size_t read_table(const struct vq_elem *e, size_t at, uint8_t table[][MAC_BYTES], uint32_t *count, bool *overflow)
{
    uint32_t n;
    if (iov_read(e->out, e->nout, at, &n, sizeof n) != sizeof n || n > (e->out_len - at - sizeof n) / MAC_BYTES)
        return 0;
    *overflow = n > VNET_MACS;
    *count = MIN(n, VNET_MACS);
    iov_read(e->out, e->nout, at + sizeof n, table, *count * MAC_BYTES);
    return sizeof n + (size_t)n * MAC_BYTES;
}

static uint8_t set_tables(struct vnet *n, const struct vq_elem *e)
{
    struct vnet_filter f = n->filter;
    size_t at = sizeof(struct control_header), first = read_table(e, at, f.unicast, &f.nunicast, &f.unicast_overflow);
    if (!first || !read_table(e, at + first, f.multicast, &f.nmulticast, &f.multicast_overflow))
        return CONTROL_ERR;
    n->filter = f;
    return CONTROL_OK;
}

static uint8_t set_mac(struct vnet *n, const struct vq_elem *e)
{
    struct virtio_dev *v = &n->virtio;
    uint8_t mac[MAC_BYTES];
    if (iov_read(e->out, e->nout, sizeof(struct control_header), mac, MAC_BYTES) != MAC_BYTES || (mac[0] & 1))
        return CONTROL_ERR;
    memcpy(n->filter.mac, mac, MAC_BYTES);
    pthread_mutex_lock(&v->bus->lock);
    memcpy(v->config + CONFIG_MAC, mac, MAC_BYTES);
    pthread_mutex_unlock(&v->bus->lock);
    return CONTROL_OK;
}

static uint8_t set_pairs(struct vnet *n, const struct vq_elem *e)
{
    uint16_t pairs;
    if (!virtio_has(&n->virtio, VNET_F_MQ) || iov_read(e->out, e->nout, sizeof(struct control_header), &pairs, sizeof pairs) != sizeof pairs ||
        pairs < 1 || pairs > n->max_pairs)
        return CONTROL_ERR;
    n->pairs = pairs;
    return CONTROL_OK;
}

static uint8_t end_announcement(struct vnet *n)
{
    struct virtio_dev *v = &n->virtio;
    pthread_mutex_lock(&v->bus->lock);
    pci_set16(v->config + CONFIG_STATUS, pci_get16(v->config + CONFIG_STATUS) & (uint16_t)~STATUS_ANNOUNCE);
    pthread_mutex_unlock(&v->bus->lock);
    return CONTROL_OK;
}

static uint8_t obey(struct vnet *n, const struct vq_elem *e)
{
    struct control_header h;
    if (iov_read(e->out, e->nout, 0, &h, sizeof h) != sizeof h)
        return CONTROL_ERR;
    switch (h.class << 8 | h.command) {
    case CLASS_MAC << 8 | MAC_TABLE_SET:
        return set_tables(n, e);
    case CLASS_MAC << 8 | MAC_ADDR_SET:
        return set_mac(n, e);
    case CLASS_ANNOUNCE << 8:
        return end_announcement(n);
    case CLASS_MQ << 8:
        return set_pairs(n, e);
    default:
        return h.class == CLASS_RX ? set_rx(n, h.command, e) : CONTROL_ERR;
    }
}

void vnet_control(struct vnet *n, unsigned q)
{
    struct vq_elem *e;
    while (virtio_pop(&n->virtio, q, &e) > 0) {
        uint8_t status = obey(n, e);
        virtio_push(&n->virtio, q, e, (uint32_t)iov_write(e->in, e->nin, 0, &status, 1));
    }
}
