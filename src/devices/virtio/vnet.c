// SPDX-License-Identifier: GPL-2.0-or-later
/* A network card (virtio 1.2, 5.1): its life and its I/O thread, which also runs the back end. */
#include "devices/virtio/vnet.h"

#include <string.h>

#include "base/util.h"
#include "devices/virtio/vnet_internal.h"

static struct vnet *vnet_of(struct virtio_dev *v)
{
    return container_of(v, struct vnet, virtio);
}

static const struct field vnet_fields[] = {
    FIELD(FIELD_U32, struct vnet, pairs),
    FIELD(FIELD_BOOL, struct vnet, link_up),
    FIELD(FIELD_BOOL, struct vnet, filter.promiscuous),
    FIELD(FIELD_BOOL, struct vnet, filter.all_multicast),
    FIELD(FIELD_BOOL, struct vnet, filter.all_unicast),
    FIELD(FIELD_BOOL, struct vnet, filter.no_multicast),
    FIELD(FIELD_BOOL, struct vnet, filter.no_unicast),
    FIELD(FIELD_BOOL, struct vnet, filter.no_broadcast),
    FIELD_ARRAY(FIELD_BYTES, struct vnet, filter.mac),
    FIELD_ARRAY(FIELD_BYTES, struct vnet, filter.unicast),
    FIELD_ARRAY(FIELD_BYTES, struct vnet, filter.multicast),
    FIELD(FIELD_U32, struct vnet, filter.nunicast),
    FIELD(FIELD_U32, struct vnet, filter.nmulticast),
    FIELD(FIELD_BOOL, struct vnet, filter.unicast_overflow),
    FIELD(FIELD_BOOL, struct vnet, filter.multicast_overflow),
    {0},
};

/* ---- the I/O thread ---- */

static void vnet_start(struct virtio_dev *v)
{
    struct vnet *n = vnet_of(v);
    n->pairs = 1;
    n->held_back = 0;
    vnet_filter_reset(n);
    n->net->wants = (virtio_has(v, VNET_F_GUEST_CSUM) ? NET_CSUM : 0) | (virtio_has(v, VNET_F_GUEST_TSO4) ? NET_TSO4 : 0) |
                    (virtio_has(v, VNET_F_GUEST_TSO6) ? NET_TSO6 : 0);
    /* Segments are of use only with their checksums, and only to who can take them in pieces. */
    if (!(n->net->wants & NET_CSUM) || !virtio_has(v, VNET_F_MRG_RXBUF))
        n->net->wants &= NET_CSUM;
    if (n->net->ops->wants_changed)
        n->net->ops->wants_changed(n->net);
}

static void vnet_queue_ready(struct virtio_dev *v, unsigned q)
{
    struct vnet *n = vnet_of(v);
    if (q == vnet_control_queue(n) && virtio_has(v, VNET_F_CTRL_VQ))
        vnet_control(n, q);
    else if (vnet_is_rx(q))
        vnet_drain_backlog(n);
    else
        vnet_send_queue(n, q);
}

static void vnet_stop(struct virtio_dev *v)
{
    vnet_drop_backlog(vnet_of(v));
}

/* Nothing else wakes the thread then, so a time that has passed since the queue was looked at is not the same as none. */
static void wait_for(struct pollset *p, uint64_t ns)
{
    pollset_timeout(p, ns ? (int)MIN(ns / 1000000 + 1, 1000) : 0);
}

static void vnet_prepare(struct virtio_dev *v, struct pollset *p)
{
    struct vnet *n = vnet_of(v);
    uint64_t wait = bucket_wait(&n->to_guest);
    if (wait)
        wait_for(p, wait);
    if (n->held_back)
        wait_for(p, bucket_wait(&n->from_guest));
    n->polled = !n->backlog && !wait;
    if (n->polled)
        n->net->ops->prepare(n->net, p);
    if (n->pcap)
        pcap_flush(n->pcap);
    /* Read here, once in a turn, because the link is set under the lock. */
    pthread_mutex_lock(&v->bus->lock);
    n->link_up = pci_get16(v->config_reset + CONFIG_STATUS) & STATUS_LINK_UP;
    pthread_mutex_unlock(&v->bus->lock);
}

static void vnet_dispatch(struct virtio_dev *v, struct pollset *p)
{
    struct vnet *n = vnet_of(v);
    if (n->polled)
        n->net->ops->dispatch(n->net, p);
    n->polled = false;
    for (unsigned q = 1; n->held_back && q < 2 * n->max_pairs; q += 2)
        if (n->held_back & BIT64(q))
            vnet_send_queue(n, q);
}

static const struct virtio_class vnet_class = {
    .name = "virtio-net",
    .type = 1,
    .pci_class = 0x020000,
    .fields = vnet_fields,
    .queue_size = 256,
    .config_len = CONFIG_BYTES,
    .start = vnet_start,
    .queue_ready = vnet_queue_ready,
    .stop = vnet_stop,
    .prepare = vnet_prepare,
    .dispatch = vnet_dispatch,
};

/* ---- the host's side ---- */

static void set_status(struct vnet *n, uint16_t set, uint16_t clear, bool lasting)
{
    struct virtio_dev *v = &n->virtio;
    pthread_mutex_lock(&v->bus->lock);
    pci_set16(v->config + CONFIG_STATUS, (uint16_t)((pci_get16(v->config + CONFIG_STATUS) | set) & ~clear));
    if (lasting)
        pci_set16(v->config_reset + CONFIG_STATUS, (uint16_t)((pci_get16(v->config_reset + CONFIG_STATUS) | set) & ~clear));
    virtio_config_changed(v);
    pthread_mutex_unlock(&v->bus->lock);
    virtio_wake(v);
}

void vnet_set_link(struct vnet *n, bool up)
{
    set_status(n, up ? STATUS_LINK_UP : 0, up ? 0 : STATUS_LINK_UP, true);
}

void vnet_announce(struct vnet *n)
{
    set_status(n, STATUS_ANNOUNCE, 0, false);
}

static uint64_t offered(const struct vnet_config *cfg)
{
    uint64_t f = VNET_F_CSUM | VNET_F_GUEST_CSUM | VNET_F_MAC | VNET_F_HOST_TSO4 | VNET_F_HOST_TSO6 | VNET_F_MRG_RXBUF | VNET_F_STATUS |
                 VNET_F_CTRL_VQ | VNET_F_CTRL_RX | VNET_F_CTRL_RX_EXTRA | VNET_F_CTRL_MAC_ADDR | VNET_F_GUEST_ANNOUNCE;
    if (cfg->net->offloads & NET_TSO4)
        f |= VNET_F_GUEST_TSO4;
    if (cfg->net->offloads & NET_TSO6)
        f |= VNET_F_GUEST_TSO6;
    return f | (cfg->pairs > 1 ? VNET_F_MQ : 0) | (cfg->mtu ? VNET_F_MTU : 0);
}

int vnet_create(struct pci_host *h, const struct vnet_config *cfg, struct vnet **out, struct error *err)
{
    uint8_t config[CONFIG_BYTES] = {0};
    if (cfg->pairs > VNET_PAIRS_MAX)
        return error_set(err, 0, "device 'virtio-net': %u pairs of queues; give it 1 to %d", cfg->pairs, VNET_PAIRS_MAX);
    struct vnet *n = calloc(1, sizeof *n);
    if (!n)
        return error_set(err, 0, "device 'virtio-net': out of memory; close other programs");
    n->net = cfg->net;
    n->pcap = cfg->pcap;
    n->max_pairs = MAX(cfg->pairs, 1u);
    n->pairs = 1;
    n->backlog_tail = &n->backlog;
    bucket_init(&n->to_guest, cfg->to_guest.bytes, cfg->to_guest.burst);
    bucket_init(&n->from_guest, cfg->from_guest.bytes, cfg->from_guest.burst);
    memcpy(config + CONFIG_MAC, cfg->mac, sizeof cfg->mac);
    pci_set16(config + CONFIG_STATUS, cfg->link_down ? 0 : STATUS_LINK_UP);
    pci_set16(config + CONFIG_PAIRS, (uint16_t)n->max_pairs);
    pci_set16(config + CONFIG_MTU, cfg->mtu);
    n->net->receive = vnet_receive;
    n->net->receive_offloaded = vnet_receive_offloaded;
    n->net->opaque = n;
    if (virtio_create(&n->virtio, &vnet_class, 2 * n->max_pairs + 1, h, cfg->slot, offered(cfg), config, err) < 0) {
        n->net->receive = NULL;
        n->net->receive_offloaded = NULL;
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
    n->net->receive_offloaded = NULL;
    vnet_drop_backlog(n);
    free(n);
}
