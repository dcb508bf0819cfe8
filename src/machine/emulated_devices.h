/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices that a domain names and that any system has drivers for: disks and CD-ROM drives on SATA. */
#ifndef LODGE_MACHINE_EMULATED_DEVICES_H
#define LODGE_MACHINE_EMULATED_DEVICES_H

#include "devices/pci/pci.h"
#include "machine/boot_order.h"
#include "model/domain.h"

struct block;
struct emulated_devices;
/* 0, or -1 with err; then what was made is in *out all the same, for emulated_devices_destroy(). Disks are added to the boot order.
 */
int emulated_devices_create(const struct domain *d, struct pci_host *pci, struct boot_order *order, struct emulated_devices **out,
                            struct error *err);
/* The block behind a disk of the domain's, by its number there; NULL when it is not here. */
struct block *emulated_devices_block(const struct emulated_devices *e, unsigned disk);
/* A disk of the domain's, which is not here, is gone: those behind it get the number before theirs. NULL is allowed. */
void emulated_devices_renumber(struct emulated_devices *e, unsigned gone);
void emulated_devices_destroy(struct emulated_devices *e); /* no vCPU runs; NULL is allowed */

#endif
