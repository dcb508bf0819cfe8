/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ICH9's SATA controller in AHCI mode (8086:2922; AHCI 1.3), at 00:1f.2: six ports, with a thread for each that has a device.
 */
#ifndef LODGE_DEVICES_AHCI_H
#define LODGE_DEVICES_AHCI_H

#include "devices/ata/ata.h"
#include "devices/pci/pci.h"

#define AHCI_PORTS 6

struct ahci;
int ahci_create(struct pci_host *h, struct ahci **out, struct error *err);
/* Puts a device on a port, before the first vCPU runs; from then on it is the controller's. -1 with err: it stays the caller's. */
int ahci_attach(struct ahci *a, unsigned port, struct ata_device *dev, struct error *err);
/* Completes what is in flight; no vCPU runs, lock not held. */
void ahci_destroy(struct ahci *a);

#endif
