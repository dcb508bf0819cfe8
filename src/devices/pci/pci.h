/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI Express as a q35 board has it: one host bridge, whose bus 0 has root complex integrated endpoints (PCI Express base 4.0,
 * 1.3.2.3) and root ports, each with a bus of one slot behind it.
 *
 * Invariants
 * - Everything here runs under the device lock, or before the first vCPU runs; exceptions are marked.
 * - A BAR is on the bus exactly when the guest enabled its decoder and its address lies, aligned, inside the host's window for its
 * kind, inside its root port's windows when it is behind one, and touches nothing that is mapped already. Otherwise the guest sees nothing there, and no one is harmed; it is tried again
 * when another BAR moves away.
 * - Configuration bytes change only where wmask allows it.
 */
#ifndef LODGE_DEVICES_PCI_H
#define LODGE_DEVICES_PCI_H

#include "devices/bus.h"

#define PCI_DEVFN(slot, func) ((unsigned)(slot) << 3 | (func))
#define PCI_SLOT(devfn)       ((devfn) >> 3)
#define PCI_FUNC(devfn)       ((devfn)&7)
#define PCI_SLOTS             32
#define PCI_CONFIG_BYTES      256 /* of 4096; a device without extended capabilities reads as zero behind */

/*
 * INTx of a device on bus 0: pin 1 is INTA#. The eight GSIs are the ICH9's PIRQA to PIRQH. Slots from 25 on are those of the ICH9
 * itself, whose pins A to D go to PIRQA to PIRQD (data sheet, 10.1.37: the default of their route registers). The board's _PRT says
 * the same.
 */
#define PCI_INTX_GSI_BASE 16
#define PCI_INTX_GSIS     8
#define PCI_SLOT_ICH9     25
static inline unsigned pci_intx_gsi(unsigned slot, unsigned pin)
{
    unsigned first = slot < PCI_SLOT_ICH9 ? slot : 0;
    return PCI_INTX_GSI_BASE + ((first + pin - 1) & (PCI_INTX_GSIS - 1));
}

/* ---- the host bridge ---- */

#define PCI_PAM_REGS 7

struct pci_window {
    uint64_t base, size; /* bytes; size 0: none */
};

struct pci_host_config {
    uint64_t ecam_base; /* aligned to its size, which is buses MiB */
    unsigned buses;     /* 64, 128 or 256 */
    /* Where BARs may be. They must not contain RAM, the ECAM or the APICs; the board's _CRS says the same. */
    struct pci_window mmio32, mmio64, io;
    /*
     * With a firmware, which sets up the bridge itself: the ECAM appears where PCIEXBAR puts it, and `pam` is told of each change
     * of the PAM registers (PAM0 to PAM6). Without one (NULL), both are as a firmware left them, and read-only.
     */
    void (*pam)(void *opaque, const uint8_t regs[PCI_PAM_REGS]);
    void *opaque;
};

struct pci_host;
struct pci_dev;

/* Registers ECAM, ports 0xcf8-0xcff (with the reset control register at 0xcf9) and the bridge itself, 8086:29c0 at 00:00.0. */
int pci_host_create(struct bus *b, const struct pci_host_config *cfg, struct pci_host **out, struct error *err);
/* Every device must be gone. */
void pci_host_destroy(struct pci_host *h);
/* The platform reset: the bridge and every device, including waiting for their I/O. No vCPU runs; the device lock is NOT held. */
void pci_host_reset(struct pci_host *h);
/* What firmware does: numbers the buses, gives every BAR an address (below 4 GiB while there is room) and every pin its GSI, and
 * enables the decoders. The device lock is NOT held: threads of devices may be at work. */
int pci_host_assign(struct pci_host *h, struct error *err);
struct bus *pci_host_bus(struct pci_host *h);
/* Keeps a slot of bus 0 from devices that take any: its own comes later. */
void pci_host_reserve(struct pci_host *h, unsigned slot);

/* Where the ISA interrupt of a PIRQ (0 to 7, GSI PCI_INTX_GSI_BASE + n) goes besides: an IRQ of the PICs, or 0 for none. */
void pci_host_route(struct pci_host *h, unsigned pirq, unsigned isa_irq);

/* The ISA bridge, 8086:2918 at 00:1f.0, function 0 of a device with several. */
struct lpc;
struct lpc_config {
    uint16_t pmbase; /* port of the ACPI registers */
    /* With a firmware, which chooses their place: called with the port, or 0 for nowhere. NULL: they stay at pmbase. */
    void (*pm_moved)(void *opaque, uint16_t port);
    void *opaque;
};
int lpc_create(struct pci_host *h, const struct lpc_config *cfg, struct lpc **out, struct error *err);
void lpc_destroy(struct lpc *l);

/* The SMBus controller, 8086:2930 at 00:1f.3; nobody is on its bus. */
struct smbus;
int smbus_create(struct pci_host *h, struct smbus **out, struct error *err);
void smbus_destroy(struct smbus *s);

/* ---- root ports ---- */

/*
 * A root port, 1b36:000c: a bridge to a bus with the one slot 0. Bus `bus` in a device's place is the one behind the port with that
 * number here, whatever number the guest gives it.
 */
struct rootport;
struct rootport_config {
    int slot;        /* its own place, on bus 0 */
    unsigned bus;    /* 1 to PCI_BUS_MAX */
    unsigned number; /* the slot's, on the chassis: 13 bits, and no other port has it */
    bool hotplug;    /* devices may come and go while the guest runs */
    void (*released)(void *opaque); /* under the lock: the guest has given a device back, see rootport_released() */
    void *opaque;
};
int rootport_create(struct pci_host *h, const struct rootport_config *cfg, struct rootport **out, struct error *err);
void rootport_destroy(struct rootport *p); /* its bus is empty */
/*
 * Hot plug: after pci_dev_add() or pci_dev_remove(), rootport_changed() tells the guest. A device that is to go is asked for with
 * rootport_press(), which fails while it is asked for already, or where there is no hot plug; the guest may ignore that. When it has
 * let go, rootport_released() is true once.
 */
bool rootport_hotplug(const struct rootport *p);
bool rootport_vacant(const struct rootport *p); /* takes a device */
void rootport_changed(struct rootport *p);
int rootport_press(struct rootport *p);
bool rootport_released(struct rootport *p);

/* ---- a device ---- */

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64_PREF /* takes two registers */, PCI_BAR_UPPER };

struct pci_bar {
    enum pci_bar_kind kind;
    uint64_t size; /* bytes, a power of two */
    const struct io_ops *ops;
    void *opaque;
    bool mapped;
    uint64_t addr; /* while mapped */
};

struct pci_msix_entry {
    uint64_t addr;
    uint32_t data, control; /* control bit 0: masked */
};

struct pci_msix {
    unsigned cap; /* offset of the capability, 0: none */
    unsigned vectors;
    unsigned pba; /* offset of the pending bits in the BAR */
    struct pci_msix_entry *table;
    uint64_t *pending;
};

struct pci_ops {
    const struct device_desc *desc;
    /* All may be NULL. Before a configuration read; after a configuration write; after a BAR went on or off the bus. */
    void (*config_read)(struct pci_dev *d, unsigned off, unsigned size);
    void (*config_written)(struct pci_dev *d, unsigned off, unsigned size);
    void (*bar_changed)(struct pci_dev *d, unsigned bar);
    /* The platform reset; the device lock is not held. The generic part is reset by the caller after it. */
    void (*reset)(struct pci_dev *d);
    /* A reset of the bus behind a root port, under the lock: must not wait. The generic part is reset by the caller before it. */
    void (*bus_reset)(struct pci_dev *d);
};

struct pci_id {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class_code; /* 24 bits: class, subclass, interface */
    uint8_t revision;
};

struct pci_dev {
    const struct pci_ops *ops;
    struct pci_host *host;
    struct pci_bus *bus;
    const char *name;
    unsigned devfn;
    uint8_t config[PCI_CONFIG_BYTES];
    uint8_t wmask[PCI_CONFIG_BYTES];   /* bits that the guest may write */
    uint8_t w1cmask[PCI_CONFIG_BYTES]; /* bits that it clears by writing ones */
    uint8_t reset_config[PCI_CONFIG_BYTES];
    struct pci_bar bars[6];
    struct pci_msix msix;
    unsigned msi;                /* offset of the MSI capability, 0: none */
    unsigned express;            /* offset of the PCI Express capability, 0: none */
    unsigned last_cap, free_cap; /* offsets of the last capability and of the room behind it */
    bool intx;                   /* the device wants its pin asserted */
    bool intx_out;               /* and the pin is asserted (not disabled by the command register) */
};

/*
 * Where a device is to be: a slot of bus 0 by its number, PCI_PLACE() for anywhere, or PCI_SLOT_AUTO for the first free slot of bus
 * 0.
 */
#define PCI_SLOT_AUTO                  (-1)
#define PCI_PLACE(bus, slot, function) ((int)((unsigned)(bus) << 8 | (unsigned)(function) << 5 | (unsigned)(slot)))
#define PCI_BUS_MAX                    255

/*
 * Order: pci_dev_init, then BARs and capabilities, then pci_dev_add, which puts it into its place and takes its present
 * configuration as the one after reset. 0, or -1 with err. Function 0 of a slot with others says that there are others.
 */
void pci_dev_init(struct pci_dev *d, const char *name, const struct pci_ops *ops, const struct pci_id *id);
void pci_dev_bar(struct pci_dev *d, unsigned bar, enum pci_bar_kind kind, uint64_t size, const struct io_ops *ops, void *opaque);
/* Adds a capability of `len` bytes, header included; its offset, or 0 when there is no room left. */
unsigned pci_dev_cap(struct pci_dev *d, uint8_t id, unsigned len);
int pci_dev_msix(struct pci_dev *d, unsigned bar, unsigned vectors, struct error *err);
void pci_dev_msi(struct pci_dev *d);     /* one message, with a 64-bit address */
void pci_dev_express(struct pci_dev *d); /* the PCI Express capability of an endpoint, integrated or behind a port */
void pci_dev_pin(struct pci_dev *d);     /* has INTA# */
int pci_dev_add(struct pci_host *h, struct pci_dev *d, int slot, struct error *err);
/* Its place as an Open Firmware path, with `name` for its kind: "/pci@i0cf8/pci-bridge@2,1/scsi@0". */
#define PCI_PATH_MAX 64
void pci_dev_path(const struct pci_dev *d, const char *name, char path[PCI_PATH_MAX]);
void pci_dev_remove(struct pci_dev *d); /* also frees what a device holds that was never added */

/* Interrupts. */
bool pci_msix_enabled(const struct pci_dev *d);
void pci_msix_notify(struct pci_dev *d, unsigned vector); /* no effect when MSI-X is off or the vector does not exist */
void pci_intx_set(struct pci_dev *d, bool level);
bool pci_msi_enabled(const struct pci_dev *d);
void pci_msi_notify(struct pci_dev *d); /* no effect when MSI is off */

/* May the device reach guest memory (the command register's bus master bit)? */
bool pci_dev_dma(const struct pci_dev *d);

/* Configuration access; `off` below 4096, size 1, 2 or 4, naturally aligned or not. */
uint32_t pci_dev_config_read(struct pci_dev *d, unsigned off, unsigned size);
void pci_dev_config_write(struct pci_dev *d, unsigned off, unsigned size, uint32_t val);

static inline uint16_t pci_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t pci_get32(const uint8_t *p)
{
    return pci_get16(p) | (uint32_t)pci_get16(p + 2) << 16;
}
static inline void pci_set16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8);
}
static inline void pci_set32(uint8_t *p, uint32_t v)
{
    pci_set16(p, (uint16_t)v), pci_set16(p + 2, (uint16_t)(v >> 16));
}

#endif
