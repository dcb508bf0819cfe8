// SPDX-License-Identifier: GPL-2.0-or-later
#include "devices/virtio/vhost_net.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "devices/virtio/vnet_internal.h"

#define RINGS 2 /* receive, send */

struct vhost_net {
    struct vhost vhost; /* first */
};

static const struct virtio_class vhost_net_class = {
    .name = "virtio-net",
    .type = 1,
    .pci_class = 0x020000,
    .queue_size = 256,
    .config_len = CONFIG_BYTES,
    .foreign = true,
    .start = vhost_start,
    .queue_ready = vhost_queue_ready,
    .stop = vhost_stop,
    .prepare = vhost_prepare,
    .dispatch = vhost_dispatch,
};

static int make(struct pci_host *h, const struct vhost_net_config *cfg, struct vhost *v, struct error *err)
{
    uint64_t passed = VNET_F_CSUM | VNET_F_GUEST_CSUM | VNET_F_GUEST_TSO4 | VNET_F_GUEST_TSO6 | VNET_F_HOST_TSO4 |
                      VNET_F_HOST_TSO6 | VNET_F_MRG_RXBUF | VHOST_RING_FEATURES;
    uint8_t config[CONFIG_BYTES] = {0};
    if (vhost_open(v, pci_host_bus(h)->mem, &cfg->back, RINGS, err) < 0)
        return -1;
    uint64_t features = vhost_features(v, passed, err);
    if (!features)
        return -1;
    v->own = VNET_F_MAC | VNET_F_STATUS | VNET_F_MTU;
    v->in_order = true; /* frames are sent and received one behind the other */
    memcpy(config + CONFIG_MAC, cfg->mac, sizeof cfg->mac);
    pci_set16(config + CONFIG_STATUS, cfg->link_down ? 0 : STATUS_LINK_UP);
    pci_set16(config + CONFIG_PAIRS, 1);
    pci_set16(config + CONFIG_MTU, cfg->mtu);
    features |= VNET_F_MAC | VNET_F_STATUS | (cfg->mtu ? VNET_F_MTU : 0);
    return virtio_create(&v->virtio, &vhost_net_class, RINGS, h, cfg->slot, features, config, err);
}

int vhost_net_create(struct pci_host *h, const struct vhost_net_config *cfg, struct vhost_net **out, struct error *err)
{
    struct vhost_net *n = calloc(1, sizeof *n);
    if (!n)
        return error_set(err, ENOMEM, "device 'virtio-net': out of memory; close other programs");
    if (make(h, cfg, &n->vhost, err) < 0) {
        vhost_close(&n->vhost);
        free(n);
        return -1;
    }
    *out = n;
    return 0;
}

void vhost_net_destroy(struct vhost_net *n)
{
    if (!n)
        return;
    virtio_destroy(&n->vhost.virtio);
    vhost_close(&n->vhost);
    free(n);
}
