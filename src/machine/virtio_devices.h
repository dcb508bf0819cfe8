/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio devices (and the network cards that are none) that a domain names, with what is behind them: disks, networks, folders. The console is the machine's. */
#ifndef LODGE_MACHINE_VIRTIO_DEVICES_H
#define LODGE_MACHINE_VIRTIO_DEVICES_H

#include "block/block.h"
#include "devices/pci/pci.h"
#include "machine/boot_order.h"
#include "model/domain.h"

struct virtio_devices;
struct vballoon;
struct net_stats;
/* 0, or -1 with err; then what was made is in *out all the same, for virtio_devices_destroy(). Disks are added to
 * the boot order. */
int virtio_devices_create(const struct domain *d, struct pci_host *pci, struct boot_order *order, struct virtio_devices **out,
                          struct error *err);
/* NULL when there is no such disk, or no image behind it. */
struct block *virtio_devices_block(const struct virtio_devices *v, unsigned disk);
/* What a network card of the domain's, by its number there, has carried; false when there is none, or it is not known. */
bool virtio_devices_net_stats(const struct virtio_devices *v, unsigned iface, struct net_stats *s);
/* Of a running guest, whose CPUs are held: the domain's disk or interface `i`, its last. -1 with err: nothing is left. */
int virtio_devices_add_disk(struct virtio_devices *v, const struct domain *d, struct pci_host *pci, unsigned i, struct error *err);
int virtio_devices_add_net(struct virtio_devices *v, const struct domain *d, struct pci_host *pci, unsigned i, struct error *err);
/* Number `i` of `count`; those behind it get the number before theirs. */
void virtio_devices_remove_disk(struct virtio_devices *v, unsigned count, unsigned i);
void virtio_devices_remove_net(struct virtio_devices *v, unsigned count, unsigned i);
void virtio_devices_destroy(struct virtio_devices *v); /* no vCPU runs; NULL is allowed */

/* For the monitor. NULL: the guest has none. */
struct vballoon *virtio_devices_balloon(const struct virtio_devices *v);

#endif
