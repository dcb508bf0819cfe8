/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A network card (virtio 1.2, 5.1) whose data path is another process, by vhost-user, or the host's kernel, by vhost-net. */
#ifndef LODGE_DEVICES_VHOST_NET_H
#define LODGE_DEVICES_VHOST_NET_H

#include "devices/pci/pci.h"
#include "devices/virtio/vhost.h"
#include "net/net.h"

#define VHOST_NET_PAIRS_MAX 8

struct vhost_net_config {
    int slot; /* PCI slot or PCI_SLOT_AUTO */
    struct vhost_config back;
    uint8_t mac[6];
    unsigned pairs; /* of queues; 0: 1, at most VHOST_NET_PAIRS_MAX */
    uint16_t mtu;   /* told to the guest; 0: it is not told */
    bool link_down;
};

struct vhost_net;
int vhost_net_create(struct pci_host *h, const struct vhost_net_config *cfg, struct vhost_net **out, struct error *err);
/* From any thread: what it has carried; false when its back end does not tell. */
bool vhost_net_stats(const struct vhost_net *n, struct net_stats *s);
void vhost_net_destroy(struct vhost_net *n); /* no vCPU runs, lock not held */

#endif
