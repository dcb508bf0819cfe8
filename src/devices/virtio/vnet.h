/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio 1.2, 5.1: a network card with up to VNET_PAIRS_MAX pairs of queues, on a thread of its own that also runs its back end. */
#ifndef LODGE_DEVICES_VNET_H
#define LODGE_DEVICES_VNET_H

#include "devices/pci/pci.h"
#include "net/net.h"

#define VNET_PAIRS_MAX 8
#define VNET_MTU_MIN   68 /* bytes; the least that IPv4 needs */

struct vnet_rate {
    uint64_t bytes, burst; /* in a second, at once; 0 bytes: no limit */
};

struct vnet_config {
    int slot;           /* PCI slot or PCI_SLOT_AUTO */
    struct netdev *net; /* the card's while it exists; destroying it stays with the caller */
    uint8_t mac[6];
    unsigned pairs;      /* of queues; 0: 1 */
    uint16_t mtu;        /* told to the guest; 0: it is not told */
    bool link_down;
    struct pcap *pcap;   /* gets all packets; NULL: none. The caller's, as net */
    struct vnet_rate to_guest, from_guest;
};

struct vnet;
int vnet_create(struct pci_host *h, const struct vnet_config *cfg, struct vnet **out, struct error *err);
void vnet_destroy(struct vnet *v); /* no vCPU runs, lock not held */

/* From any thread, lock not held. */
void vnet_set_link(struct vnet *v, bool up);
/* Asks the guest to tell the network where it is now, as after a migration. */
void vnet_announce(struct vnet *v);

#endif
