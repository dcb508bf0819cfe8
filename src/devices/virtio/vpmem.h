/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-pmem (virtio 1.2, 5.19): a file of the host as a range of guest memory. The range itself is the board's; the device says
 * where it is, and makes durable what the guest has written there.
 */
#ifndef LODGE_DEVICES_VPMEM_H
#define LODGE_DEVICES_VPMEM_H

#include "devices/pci/pci.h"

struct vpmem_config {
    int slot;             /* a place on PCI, or PCI_SLOT_AUTO */
    uint64_t start, size; /* guest addresses, bytes */
    int fd;               /* the file, open for writing; outlives the device */
};

struct vpmem;
int vpmem_create(struct pci_host *h, const struct vpmem_config *cfg, struct vpmem **out, struct error *err);
void vpmem_destroy(struct vpmem *p); /* no vCPU runs, lock not held */

#endif
