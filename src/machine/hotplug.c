// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/hotplug.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"

static int find_disk(const struct domain *d, const char *name)
{
    for (unsigned i = 0; i < d->ndisks; i++)
        if (strcmp(d->disks[i].target, name) == 0)
            return (int)i;
    return -1;
}

static int find_card(const struct domain *d, const char *name)
{
    char own[IFACE_MAC_TEXT];
    for (unsigned i = 0; i < d->nifaces; i++) {
        iface_mac_text(&d->ifaces[i], own);
        if (strcasecmp(own, name) == 0)
            return (int)i;
    }
    return -1;
}

/* ---- coming ---- */

/* The port of the address, or the first that is free, in which case the address becomes its. NULL with err. */
static struct rootport *choose_port(const struct hotplug *h, const char *name, struct domain_pci_address *a, struct error *err)
{
    for (unsigned bus = 1; !a->set && bus <= PCI_LAST_BUS; bus++) {
        struct rootport *p = pci_places_port(h->places, h->domain, bus);
        if (p && rootport_vacant(p))
            *a = (struct domain_pci_address){.set = true, .bus = (uint8_t)bus};
    }
    if (!a->set) {
        error_set(
            err, 0,
            "device '%s': every root port is taken; add <controller type='pci' model='pcie-root-port'/> and start the guest anew",
            name);
        return NULL;
    }
    struct rootport *p = pci_places_port(h->places, h->domain, a->bus);
    if (p && rootport_vacant(p) && a->slot == 0 && a->function == 0)
        return p;
    error_set(err, 0,
              "device '%s': PCI address %02x:%02x.%x is not a free slot behind a root port that allows hot plug; give another",
              name, a->bus, a->slot, a->function);
    return NULL;
}

static void tell_guest(const struct hotplug *h, struct rootport *p)
{
    pthread_mutex_lock(&pci_host_bus(h->pci)->lock);
    rootport_changed(p);
    pthread_mutex_unlock(&pci_host_bus(h->pci)->lock);
}

static int attach_disk(const struct hotplug *h, struct domain *from, struct error *err)
{
    struct domain_disk *disk = &from->disks[0];
    if (disk->bus != DISK_VIRTIO || disk->snapshot)
        return error_set(err, 0, "disk '%s': only lasting disks on the bus 'virtio' can be attached to a running guest",
                         disk->target);
    if (find_disk(h->domain, disk->target) >= 0)
        return error_set(err, 0, "disk '%s': the guest has one of that name; give it another target", disk->target);
    struct rootport *p = choose_port(h, disk->target, &disk->address, err);
    struct domain_disk *own = p ? domain_add_disk(h->domain, err) : NULL;
    if (!own)
        return -1;
    *own = *disk;
    if (virtio_devices_add_disk(h->virtio, h->domain, h->pci, h->domain->ndisks - 1, err) < 0) {
        h->domain->ndisks--; /* `from` still has it */
        return -1;
    }
    from->ndisks = 0;
    tell_guest(h, p);
    return 0;
}

static int attach_card(const struct hotplug *h, struct domain *from, struct error *err)
{
    struct domain_iface *card = &from->ifaces[0];
    char name[IFACE_MAC_TEXT];
    iface_mac_text(card, name);
    if (card->model != IFACE_VIRTIO)
        return error_set(err, 0, "network card '%s': only cards of the model 'virtio' can be attached to a running guest", name);
    if (find_card(h->domain, name) >= 0)
        return error_set(err, 0, "network card '%s': the guest has one of that MAC address; give it another", name);
    struct rootport *p = choose_port(h, name, &card->address, err);
    struct domain_iface *own = p ? domain_add_iface(h->domain, err) : NULL;
    if (!own)
        return -1;
    *own = *card;
    if (virtio_devices_add_net(h->virtio, h->domain, h->pci, h->domain->nifaces - 1, err) < 0) {
        h->domain->nifaces--;
        return -1;
    }
    from->nifaces = 0;
    tell_guest(h, p);
    return 0;
}

int hotplug_attach(const struct hotplug *h, struct domain *from, struct error *err)
{
    if (from->ndisks + from->nifaces != 1)
        return error_set(err, 0, "device: one disk or one interface can be attached at a time");
    return from->ndisks ? attach_disk(h, from, err) : attach_card(h, from, err);
}

/* ---- going ---- */

int hotplug_detach(const struct hotplug *h, const char *name, struct error *err)
{
    int disk = find_disk(h->domain, name), card = find_card(h->domain, name);
    if (disk < 0 && card < 0)
        return error_set(
            err, 0, "device '%s': the guest has no such disk or network card; give a disk's target or a card's MAC address", name);
    const struct domain_pci_address *a = disk >= 0 ? &h->domain->disks[disk].address : &h->domain->ifaces[card].address;
    bool virtio = disk >= 0 ? h->domain->disks[disk].bus == DISK_VIRTIO : h->domain->ifaces[card].model == IFACE_VIRTIO;
    struct rootport *p = a->set && virtio ? pci_places_port(h->places, h->domain, a->bus) : NULL;
    if (!p)
        return error_set(err, 0, "device '%s': is not in the slot of a root port; it stays until the guest ends", name);
    pthread_mutex_lock(&pci_host_bus(h->pci)->lock);
    int r = rootport_press(p);
    pthread_mutex_unlock(&pci_host_bus(h->pci)->lock);
    if (r < 0)
        return error_set(err, 0, "device '%s': %s", name,
                         rootport_hotplug(p) ? "the guest is about to give it back"
                                             : "its root port does not allow hot plug; it stays until the guest ends");
    return 0;
}

static bool reap_behind(const struct hotplug *h, unsigned bus, char name[HOTPLUG_NAME_MAX], int *disk)
{
    struct domain *d = h->domain;
    for (unsigned i = 0; i < d->ndisks; i++) {
        if (!d->disks[i].address.set || d->disks[i].address.bus != bus)
            continue;
        snprintf(name, HOTPLUG_NAME_MAX, "%s", d->disks[i].target);
        virtio_devices_remove_disk(h->virtio, d->ndisks, i);
        domain_remove_disk(d, i);
        *disk = (int)i;
        return true;
    }
    for (unsigned i = 0; i < d->nifaces; i++) {
        if (!d->ifaces[i].address.set || d->ifaces[i].address.bus != bus)
            continue;
        iface_mac_text(&d->ifaces[i], name);
        virtio_devices_remove_net(h->virtio, d->nifaces, i);
        domain_remove_iface(d, i);
        *disk = -1;
        return true;
    }
    return false;
}

bool hotplug_reap(const struct hotplug *h, char name[HOTPLUG_NAME_MAX], int *disk)
{
    for (unsigned bus = 1; bus <= PCI_LAST_BUS; bus++) {
        struct rootport *p = pci_places_port(h->places, h->domain, bus);
        if (!p || !rootport_released(p))
            continue;
        bool found = reap_behind(h, bus, name, disk);
        tell_guest(h, p);
        if (found)
            return true;
    }
    return false;
}
