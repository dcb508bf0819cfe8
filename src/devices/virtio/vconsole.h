/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio 1.2, 5.3: one console port (Linux: hvc0). Output reaches the back end from the console's own thread. */
#ifndef LODGE_DEVICES_VCONSOLE_H
#define LODGE_DEVICES_VCONSOLE_H

#include "devices/chardev.h"
#include "devices/pci/pci.h"

struct vconsole_config {
    int slot;           /* PCI slot or PCI_SLOT_AUTO */
    struct chardev chr; /* copied */
};

struct vconsole;
int vconsole_create(struct pci_host *h, const struct vconsole_config *cfg, struct vconsole **out, struct error *err);
void vconsole_destroy(struct vconsole *c); /* no vCPU runs, lock not held */

/* From the back end's thread, lock not held: bytes taken, less than `len` when the guest is slow (see chardev.input_ready). */
size_t vconsole_input(struct vconsole *c, const void *buf, size_t len);
/* The terminal's size in characters, told to the guest. Lock not held. */
void vconsole_resize(struct vconsole *c, uint16_t cols, uint16_t rows);

#endif
