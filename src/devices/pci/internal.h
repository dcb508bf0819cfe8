/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this folder share: the host's struct, and the registers of the type 0 configuration header (PCI 3.0, 6.1). */
#ifndef LODGE_DEVICES_PCI_INTERNAL_H
#define LODGE_DEVICES_PCI_INTERNAL_H

#include "devices/pci/pci.h"

#define PCI_VENDOR       0x00
#define PCI_DEVICE       0x02
#define PCI_COMMAND      0x04
#define PCI_STATUS       0x06
#define PCI_REVISION     0x08
#define PCI_CLASS        0x09
#define PCI_CACHE_LINE   0x0c
#define PCI_HEADER_TYPE  0x0e
#define PCI_BAR0         0x10
#define PCI_SUBVENDOR    0x2c
#define PCI_SUBSYSTEM    0x2e
#define PCI_CAP_LIST     0x34
#define PCI_INT_LINE     0x3c
#define PCI_INT_PIN      0x3d
#define PCI_HEADER_BYTES 0x40

#define PCI_COMMAND_IO       0x0001
#define PCI_COMMAND_MEM      0x0002
#define PCI_COMMAND_MASTER   0x0004
#define PCI_COMMAND_PARITY   0x0040
#define PCI_COMMAND_SERR     0x0100
#define PCI_COMMAND_INTX_OFF 0x0400

#define PCI_STATUS_INTX 0x0008
#define PCI_STATUS_CAPS 0x0010

#define PCI_CAP_MSI     0x05
#define PCI_CAP_MSIX    0x11
#define PCI_CAP_EXPRESS 0x10

struct pci_host {
    struct bus *bus;
    struct pci_host_config cfg;
    struct pci_dev bridge;
    struct pci_dev *devs[PCI_SLOTS * 8]; /* by devfn */
    unsigned intx_count[PCI_INTX_GSIS];  /* asserted pins of each GSI */
    uint8_t isa_route[PCI_INTX_GSIS];    /* the PICs' IRQ of each, 0: none */
    bool isa_level[16];                  /* what the routed IRQs were last set to */
    uint32_t address;                    /* port 0xcf8 */
    uint8_t reset_control;               /* port 0xcf9 */
    bool ports_mapped;                   /* what pci_host_destroy() undoes */
    bool ecam_mapped;
    uint64_t ecam_at; /* while mapped */
};

/* Takes BARs off the bus that moved, and puts every one on it that may be there. */
void pci_update_bars(struct pci_host *h);
/* Sets the PICs' IRQs to what is routed to them. */
void pci_update_isa(struct pci_host *h);
/* Drives the pin to what the device, its command register and MSI-X say. */
void pci_update_intx(struct pci_dev *d);
void pci_dev_reset(struct pci_dev *d); /* the generic part */

void pci_msix_written(struct pci_dev *d); /* the message control word changed */
void pci_msix_reset(struct pci_dev *d);
void pci_msix_free(struct pci_dev *d);

#endif
