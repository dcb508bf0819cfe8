// SPDX-License-Identifier: GPL-2.0-or-later
/* With more than one pair of queues there is a control queue, which is served here: it says how many pairs the guest uses. */
#include "devices/virtio/vhost_net.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "devices/virtio/vnet_internal.h"

/* Control commands (5.1.6.5). */
#define CLASS_MQ     4
#define MQ_PAIRS_SET 0
#define CONTROL_OK   0
#define CONTROL_ERR  1

struct vhost_net {
    struct vhost vhost; /* first */
    unsigned max_pairs;
};

struct pairs_command {
    uint8_t class, command;
    uint16_t pairs;
} __attribute__((packed));

static struct vhost_net *net_of(struct virtio_dev *v)
{
    return container_of(vhost_of(v), struct vhost_net, vhost);
}

/* The driver's view: without MQ there is one pair, and the control queue comes behind that (5.1.2). */
static unsigned pairs_known(const struct vhost_net *n)
{
    return virtio_has(&n->vhost.virtio, VNET_F_MQ) ? n->max_pairs : 1;
}

static void use_pairs(struct vhost_net *n, unsigned pairs)
{
    uint64_t used = BIT64(2 * pairs) - 1, all = BIT64(2 * n->max_pairs) - 1;
    vhost_enable(&n->vhost, used, all & ~used);
}

static void net_start(struct virtio_dev *v)
{
    struct vhost_net *n = net_of(v);
    n->vhost.rings = 2 * pairs_known(n);
    use_pairs(n, 1);
    vhost_start(v);
}

static uint8_t obey(struct vhost_net *n, const struct vq_elem *e)
{
    struct pairs_command c;
    if (!virtio_has(&n->vhost.virtio, VNET_F_MQ) || iov_read(e->out, e->nout, 0, &c, sizeof c) != sizeof c || c.class != CLASS_MQ ||
        c.command != MQ_PAIRS_SET || c.pairs < 1 || c.pairs > n->max_pairs)
        return CONTROL_ERR;
    use_pairs(n, c.pairs);
    return CONTROL_OK;
}

static void net_queue_ready(struct virtio_dev *v, unsigned q)
{
    struct vhost_net *n = net_of(v);
    struct vq_elem *e;
    if (q != 2 * pairs_known(n) || !virtio_has(v, VNET_F_CTRL_VQ))
        return;
    while (virtio_pop(v, q, &e) > 0) {
        uint8_t status = obey(n, e);
        virtio_push(v, q, e, (uint32_t)iov_write(e->in, e->nin, 0, &status, 1));
    }
}

static const struct virtio_class vhost_net_class = {
    .name = "virtio-net",
    .type = 1,
    .pci_class = 0x020000,
    .queue_size = 256,
    .config_len = CONFIG_BYTES,
    .foreign = true,
    .start = net_start,
    .queue_ready = net_queue_ready,
    .stop = vhost_stop,
    .prepare = vhost_prepare,
    .dispatch = vhost_dispatch,
};

static int make(struct pci_host *h, const struct vhost_net_config *cfg, struct vhost_net *n, struct error *err)
{
    uint64_t passed = VNET_F_CSUM | VNET_F_GUEST_CSUM | VNET_F_GUEST_TSO4 | VNET_F_GUEST_TSO6 | VNET_F_HOST_TSO4 |
                      VNET_F_HOST_TSO6 | VNET_F_MRG_RXBUF | VHOST_RING_FEATURES;
    uint8_t config[CONFIG_BYTES] = {0};
    struct vhost *v = &n->vhost;
    n->max_pairs = MIN(MAX(cfg->pairs, 1u), VHOST_NET_PAIRS_MAX);
    if (vhost_open(v, pci_host_bus(h)->mem, &cfg->back, 2 * n->max_pairs, err) < 0 || vhost_check_queues(v, n->max_pairs, err) < 0)
        return -1;
    uint64_t features = vhost_features(v, passed, err);
    if (!features)
        return -1;
    v->own = VNET_F_MAC | VNET_F_STATUS | VNET_F_MTU | VNET_F_MQ | VNET_F_CTRL_VQ;
    v->in_order = true; /* frames are sent and received one behind the other */
    memcpy(config + CONFIG_MAC, cfg->mac, sizeof cfg->mac);
    pci_set16(config + CONFIG_STATUS, cfg->link_down ? 0 : STATUS_LINK_UP);
    pci_set16(config + CONFIG_PAIRS, (uint16_t)n->max_pairs);
    pci_set16(config + CONFIG_MTU, cfg->mtu);
    bool many = n->max_pairs > 1;
    features |= VNET_F_MAC | VNET_F_STATUS | (cfg->mtu ? VNET_F_MTU : 0) | (many ? VNET_F_MQ | VNET_F_CTRL_VQ : 0);
    return virtio_create(&v->virtio, &vhost_net_class, 2 * n->max_pairs + many, h, cfg->slot, features, config, err);
}

int vhost_net_create(struct pci_host *h, const struct vhost_net_config *cfg, struct vhost_net **out, struct error *err)
{
    struct vhost_net *n = calloc(1, sizeof *n);
    if (!n) {
        vhost_back_destroy(cfg->back.back);
        return error_set(err, ENOMEM, "device 'virtio-net': out of memory; close other programs");
    }
    if (make(h, cfg, n, err) < 0) {
        vhost_close(&n->vhost);
        free(n);
        return -1;
    }
    *out = n;
    return 0;
}

bool vhost_net_stats(const struct vhost_net *n, struct net_stats *s)
{
    const struct vhost_back *b = n->vhost.back;
    return b->ops->stats && b->ops->stats(b, s);
}

void vhost_net_destroy(struct vhost_net *n)
{
    if (n)
        vhost_destroy(&n->vhost);
}
