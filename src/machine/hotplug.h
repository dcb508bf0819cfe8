/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that come and go while the guest runs: virtio disks and network cards in the slots of root ports.
 *
 * The guest's CPUs are held by the caller. A device that comes is at once in the slot, which tells the guest. One that is to go is
 * asked for by the slot's attention button; it stays until the guest has switched the slot's power indicator off.
 */
#ifndef LODGE_MACHINE_HOTPLUG_H
#define LODGE_MACHINE_HOTPLUG_H

#include "machine/pci_places.h"
#include "machine/virtio_devices.h"

struct hotplug {
    struct domain *domain; /* gets what is attached, so that a reboot finds it */
    struct pci_host *pci;
    struct pci_places *places;
    struct virtio_devices *virtio;
};

/* A device's name is a disk's target or a network card's MAC address, which is the longer. */
#define HOTPLUG_NAME_MAX IFACE_MAC_TEXT

/* Takes the one disk or interface of `from` out of it; the first free port where it names no address. -1 with err: nothing has
 * changed. */
int hotplug_attach(const struct hotplug *h, struct domain *from, struct error *err);
/* Asks the guest for it. */
int hotplug_detach(const struct hotplug *h, const char *name, struct error *err);
/* Takes apart one device that the guest has given back, and names it; `disk` is its former number, or -1. False: there is none. */
bool hotplug_reap(const struct hotplug *h, char name[HOTPLUG_NAME_MAX], int *disk);

#endif
