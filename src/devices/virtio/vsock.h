/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio 1.2, 5.10: sockets between guest and host, without vhost: on the host they are unix sockets, as Firecracker has them.
 *
 * Who connects to `path` and writes "CONNECT PORT\n" is led to that port of the guest; the answer is "OK PORT\n", or the connection ends. When the guest connects to a
 * port of the host (CID 2), it is led to whoever listens at `path`_PORT.
 */
#ifndef LODGE_DEVICES_VSOCK_H
#define LODGE_DEVICES_VSOCK_H

#include "devices/pci/pci.h"

#define VSOCK_CID_MIN 3u

struct vsock_config {
    int slot;     /* PCI slot or PCI_SLOT_AUTO */
    uint32_t cid; /* the guest's address, VSOCK_CID_MIN or more */
    const char *path;
};

struct vsock;
int vsock_create(struct pci_host *h, const struct vsock_config *cfg, struct vsock **out, struct error *err);
void vsock_destroy(struct vsock *s); /* no vCPU runs, lock not held */

#endif
