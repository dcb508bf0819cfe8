/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio 1.2, 5.11: a folder of the host by 9P. Requests run on a thread of the device's own. */
#ifndef LODGE_DEVICES_V9P_H
#define LODGE_DEVICES_V9P_H

#include "devices/pci/pci.h"
#include "share/share.h"

#define V9P_TAG_MAX 64 /* bytes of the tag that the guest mounts */

struct v9p_config {
    int slot;            /* PCI slot or PCI_SLOT_AUTO */
    struct share *share; /* the device's while it exists; closing it stays with the caller */
    const char *tag;
};

struct v9p;
int v9p_create(struct pci_host *h, const struct v9p_config *cfg, struct v9p **out, struct error *err);
void v9p_destroy(struct v9p *v); /* no vCPU runs, lock not held */

#endif
