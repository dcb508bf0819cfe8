/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio 1.2, 5.1: a network card with one pair of queues, on a thread of its own that also runs its back end. */
#ifndef LODGE_DEVICES_VNET_H
#define LODGE_DEVICES_VNET_H

#include "devices/pci/pci.h"
#include "net/net.h"

struct vnet_config {
    int slot;           /* PCI slot or PCI_SLOT_AUTO */
    struct netdev *net; /* the card's while it exists; destroying it stays with the caller */
    uint8_t mac[6];
};

struct vnet;
int vnet_create(struct pci_host *h, const struct vnet_config *cfg, struct vnet **out, struct error *err);
void vnet_destroy(struct vnet *v); /* no vCPU runs, lock not held */

#endif
