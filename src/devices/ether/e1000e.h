/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Intel's 82574L (8086:10d3), the e1000e of other boards: a gigabit Ethernet card that every system has a driver for. */
#ifndef LODGE_DEVICES_E1000E_H
#define LODGE_DEVICES_E1000E_H

#include "devices/pci/pci.h"
#include "net/net.h"

struct e1000e_config {
    int slot; /* PCI slot or PCI_SLOT_AUTO */
    uint8_t mac[6];
    struct netdev *net; /* the card's while it exists; destroying it stays with the caller */
    struct pcap *pcap;  /* NULL: frames are not captured */
};

struct e1000e;
int e1000e_create(struct pci_host *h, const struct e1000e_config *cfg, struct e1000e **out, struct error *err);
unsigned e1000e_slot(const struct e1000e *e); /* the PCI slot it has */
void e1000e_destroy(struct e1000e *e);        /* no vCPU runs, lock not held */

#endif
