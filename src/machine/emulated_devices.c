// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/emulated_devices.h"

#include <errno.h>
#include <stdio.h>

#include "base/util.h"
#include "block/block.h"
#include "devices/ata/ahci.h"
#include "machine/disk.h"

struct emulated_devices {
    struct ahci *ahci;
    unsigned ports; /* of it that are taken */
    struct block *blocks[AHCI_PORTS];
    unsigned disks[AHCI_PORTS]; /* their numbers in the domain */
};

static int make_disk(struct emulated_devices *e, const struct domain *d, struct boot_order *order, unsigned i, struct error *err)
{
    const struct domain_disk *disk = &d->disks[i];
    struct ata_device *dev;
    char serial[16];
    unsigned port = e->ports;
    if (port == AHCI_PORTS)
        return error_set(err, 0, "disk '%s': the bus 'sata' has %d ports, and they are taken; give it another bus", disk->target,
                         AHCI_PORTS);
    if (disk->file && disk_open(disk, &e->blocks[port], err) < 0)
        return -1;
    e->disks[port] = i;
    e->ports++;
    snprintf(serial, sizeof serial, "LODGE%05u", port + 1);
    int r =
        disk->cdrom ? ata_cdrom_create(e->blocks[port], serial, &dev, err) : ata_disk_create(e->blocks[port], serial, &dev, err);
    if (r < 0)
        return -1;
    if (ahci_attach(e->ahci, port, dev, err) < 0) {
        ata_destroy(dev);
        return -1;
    }
    enum domain_boot kind = disk->cdrom ? DOMAIN_BOOT_CDROM : DOMAIN_BOOT_HD;
    boot_order_add(order, domain_boot_place(d, disk->boot_order, kind, i), "/pci@i0cf8/pci8086,2922@1f,2/drive@%x/disk@0", port);
    return 0;
}

int emulated_devices_create(const struct domain *d, struct pci_host *pci, struct boot_order *order, struct emulated_devices **out,
                            struct error *err)
{
    struct emulated_devices *e = *out = calloc(1, sizeof *e);
    if (!e)
        return error_set(err, ENOMEM, "machine: out of memory");
    for (unsigned i = 0; i < d->ndisks; i++) {
        if (d->disks[i].bus != DISK_SATA)
            continue;
        if ((!e->ahci && ahci_create(pci, &e->ahci, err) < 0) || make_disk(e, d, order, i, err) < 0)
            return -1;
    }
    return 0;
}

struct block *emulated_devices_block(const struct emulated_devices *e, unsigned disk)
{
    for (unsigned port = 0; e && port < e->ports; port++)
        if (e->disks[port] == disk)
            return e->blocks[port];
    return NULL;
}

void emulated_devices_renumber(struct emulated_devices *e, unsigned gone)
{
    for (unsigned port = 0; e && port < e->ports; port++)
        e->disks[port] -= e->disks[port] > gone;
}

void emulated_devices_destroy(struct emulated_devices *e)
{
    if (!e)
        return;
    ahci_destroy(e->ahci);
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        block_close(e->blocks[i]);
    free(e);
}
