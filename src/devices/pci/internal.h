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

/* The registers of the type 1 header, a bridge's (PCI-to-PCI bridge 1.2, 3.2). */
#define PCI_PRIMARY          0x18
#define PCI_SECONDARY        0x19
#define PCI_SUBORDINATE      0x1a
#define PCI_IO_BASE          0x1c /* bits 15 to 12 of the address; the limit beside it */
#define PCI_IO_LIMIT         0x1d
#define PCI_SECONDARY_STATUS 0x1e
#define PCI_MEM_BASE         0x20 /* bits 31 to 20 */
#define PCI_MEM_LIMIT        0x22
#define PCI_PREF_BASE        0x24 /* the same, and more in the upper halves */
#define PCI_PREF_LIMIT       0x26
#define PCI_PREF_BASE_UPPER  0x28
#define PCI_PREF_LIMIT_UPPER 0x2c
#define PCI_BRIDGE_CONTROL   0x3e

#define PCI_BRIDGE_RESET 0x0040

/* The PCI Express capability (PCI Express base 4.0, 7.5.3). */
#define PCI_EXP_CAPS         2
#define PCI_EXP_DEVCAP       4
#define PCI_EXP_DEVCTL       8
#define PCI_EXP_DEVSTA       0xa
#define PCI_EXP_LNKCAP       0xc
#define PCI_EXP_LNKCTL       0x10
#define PCI_EXP_LNKSTA       0x12
#define PCI_EXP_SLTCAP       0x14
#define PCI_EXP_SLTCTL       0x18
#define PCI_EXP_SLTSTA       0x1a
#define PCI_EXP_RTCTL        0x1c
#define PCI_EXP_DEVCAP2      0x24
#define PCI_EXP_DEVCTL2      0x28
#define PCI_EXP_BYTES        0x3c
#define PCI_EXP_VERSION      2
#define PCI_EXP_ENDPOINT     (0 << 4)
#define PCI_EXP_ROOT_PORT    (4 << 4)
#define PCI_EXP_INTEGRATED   (9 << 4)
#define PCI_EXP_SLOT         0x0100
#define PCI_EXP_LINK         0x0011 /* one lane of 2.5 GT/s */

struct pci_bus {
    struct pci_dev *bridge;              /* the port that it is behind; NULL: bus 0 */
    unsigned number;                     /* in places; the guest's number is in the port's header */
    struct pci_dev *devs[PCI_SLOTS * 8]; /* by devfn */
    void (*changed)(struct pci_bus *b);  /* a device came or went; NULL: bus 0 */
    struct pci_bus *next;                /* of the host's */
};

/* All devices of a host: bus 0 by devfn, then the others. Removing the device that it stands at is allowed. */
struct pci_iter {
    struct pci_bus *bus;
    unsigned devfn;
};
struct pci_dev *pci_iter_next(struct pci_iter *it);

struct pci_host {
    struct bus *bus;
    struct pci_host_config cfg;
    struct pci_dev bridge;
    struct pci_bus root;
    uint32_t reserved; /* slots of bus 0 that are nobody's to choose */
    unsigned intx_count[PCI_INTX_GSIS];  /* asserted pins of each GSI */
    uint8_t isa_route[PCI_INTX_GSIS];    /* the PICs' IRQ of each, 0: none */
    bool isa_level[16];                  /* what the routed IRQs were last set to */
    uint32_t address;                    /* port 0xcf8 */
    uint8_t reset_control;               /* port 0xcf9 */
    bool ports_mapped;                   /* what pci_host_destroy() undoes */
    bool ecam_mapped;
    uint64_t ecam_at; /* while mapped */
};

/* The bus of that number; NULL: there is none. */
struct pci_bus *pci_bus_find(struct pci_host *h, unsigned number);
/* A window of a bridge, from its registers; size 0 while it is closed. */
struct pci_window pci_bridge_io(const struct pci_dev *bridge);
struct pci_window pci_bridge_mem(const struct pci_dev *bridge);
struct pci_window pci_bridge_pref(const struct pci_dev *bridge);
/* The GSI of the device's pin, through the port that it is behind. */
unsigned pci_dev_gsi(const struct pci_dev *d);
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
