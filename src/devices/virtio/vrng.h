/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio 1.2, 5.4: random bytes from the host's getrandom(2). */
#ifndef LODGE_DEVICES_VRNG_H
#define LODGE_DEVICES_VRNG_H

#include "devices/pci/pci.h"

struct vrng_config {
    int slot; /* PCI slot or PCI_SLOT_AUTO */
};

struct vrng;
int vrng_create(struct pci_host *h, const struct vrng_config *cfg, struct vrng **out, struct error *err);
void vrng_destroy(struct vrng *r); /* no vCPU runs, lock not held */

#endif
