/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk (virtio 1.2, 5.2) that another process serves, by vhost-user: its size, its geometry and what it can are the back end's.
 */
#ifndef LODGE_DEVICES_VHOST_BLK_H
#define LODGE_DEVICES_VHOST_BLK_H

#include "devices/pci/pci.h"
#include "devices/virtio/vhost.h"

#define VHOST_BLK_QUEUES_MAX 8

struct vhost_blk_config {
    int slot; /* PCI slot or PCI_SLOT_AUTO */
    struct vhost_config back;
    unsigned queues; /* 0: 1; at most VHOST_BLK_QUEUES_MAX */
};

struct vhost_blk;
int vhost_blk_create(struct pci_host *h, const struct vhost_blk_config *cfg, struct vhost_blk **out, struct error *err);
const struct pci_dev *vhost_blk_pci(const struct vhost_blk *d); /* where it is */
void vhost_blk_destroy(struct vhost_blk *d);                    /* no vCPU runs, lock not held */

#endif
