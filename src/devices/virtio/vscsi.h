/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio 1.2, 5.6: a SCSI host adapter with one target, whose logical units are disks and CD-ROM drives. All of them run on the
 * adapter's one thread. */
#ifndef LODGE_DEVICES_VSCSI_H
#define LODGE_DEVICES_VSCSI_H

#include "block/block.h"
#include "devices/pci/pci.h"

#define VSCSI_UNITS      16
#define VSCSI_QUEUES_MAX 8

struct vscsi_config {
    int slot;        /* PCI slot or PCI_SLOT_AUTO */
    unsigned queues; /* for requests; 0: 1; at most VSCSI_QUEUES_MAX */
};
struct vscsi_unit_config {
    bool cdrom;
    struct block *block; /* the unit's while it exists; closing it stays with the caller. NULL: a drive without a disc */
    const char *serial;  /* at most 20 bytes are used; NULL: empty */
};

struct vscsi;
int vscsi_create(struct pci_host *h, const struct vscsi_config *cfg, struct vscsi **out, struct error *err);
/* Adds logical unit `lun`, which must be free. A driver that runs is told by an event. The device lock is not held. 0, or -1 with
 * err. */
int vscsi_attach(struct vscsi *s, unsigned lun, const struct vscsi_unit_config *cfg, struct error *err);
const struct pci_dev *vscsi_pci(const struct vscsi *s); /* where it is */
void vscsi_destroy(struct vscsi *s);        /* completes what is in flight; no vCPU runs, lock not held */

#endif
