/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio 1.2, 5.3: named ports of bytes between guest and host, such as org.qemu.guest_agent.0 (Linux: /dev/virtio-ports/NAME). On the host each is a unix
 * socket that one program at a time connects to; what the guest writes while none does is lost.
 */
#ifndef LODGE_DEVICES_VSERIAL_H
#define LODGE_DEVICES_VSERIAL_H

#include "devices/pci/pci.h"

#define VSERIAL_PORTS_MAX 15
#define VSERIAL_NAME_MAX  63 /* bytes */

struct vserial_port_config {
    const char *name, *path;
};

struct vserial_config {
    int slot; /* PCI slot or PCI_SLOT_AUTO */
    const struct vserial_port_config *ports;
    unsigned nports;
};

struct vserial;
int vserial_create(struct pci_host *h, const struct vserial_config *cfg, struct vserial **out, struct error *err);
void vserial_destroy(struct vserial *s); /* no vCPU runs, lock not held */

#endif
