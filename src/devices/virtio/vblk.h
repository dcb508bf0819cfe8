/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio 1.2, 5.2: a disk. Requests run on a thread of the disk's own. */
#ifndef LODGE_DEVICES_VBLK_H
#define LODGE_DEVICES_VBLK_H

#include "block/block.h"
#include "devices/pci/pci.h"

#define VBLK_ID_BYTES   20
#define VBLK_QUEUES_MAX 8

struct vblk_config {
    int slot;            /* PCI slot or PCI_SLOT_AUTO */
    struct block *block; /* the disk's while it exists; closing it stays with the caller */
    unsigned queues;     /* 0: 1; at most VBLK_QUEUES_MAX */
    const char *serial;  /* what GET_ID answers, at most VBLK_ID_BYTES bytes are used; NULL: empty */
};

struct vblk;
int vblk_create(struct pci_host *h, const struct vblk_config *cfg, struct vblk **out, struct error *err);
const struct pci_dev *vblk_pci(const struct vblk *v); /* where it is */
void vblk_destroy(struct vblk *v); /* completes what is in flight; no vCPU runs, lock not held */

#endif
