/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A firmware's image, and what the host bridge makes of the memory between 768 KiB and 1 MiB.
 *
 * The image is read-only memory below 4 GiB, where the CPU starts, and its last 128 KiB are seen again below 1 MiB. The PAM
 * registers (Intel 3 Series MCH, 5.1.19 to 25) say for each of thirteen pieces from 768 KiB on whether reads go to RAM or to the
 * image, and whether writes go to RAM or nowhere: so a firmware copies itself into RAM, patches that, and locks it.
 *
 * A piece that reads from RAM is a memory slot, writable or not; one that reads from the image is a read-only slot of the image.
 * Writes to read-only slots come to the bus, where a piece that reads from the image and writes to RAM takes them.
 */
#ifndef LODGE_MACHINE_SHADOW_H
#define LODGE_MACHINE_SHADOW_H

#include "devices/pci/pci.h"
#include "machine/board.h"

#define SHADOW_IMAGE_MAX (16u << 20) /* bytes of an image: from 16 MiB below 4 GiB on there is nothing else */

struct shadow;

/* Reads the image file and maps it, all pieces closed. No CPU exists yet. */
int shadow_create(struct board *b, const char *path, struct shadow **out, struct error *err);
void shadow_destroy(struct shadow *s);
uint64_t shadow_image_base(const struct shadow *s); /* where the image begins */
/* pci_host_config.pam: the lock is held. */
void shadow_pam(void *shadow, const uint8_t regs[PCI_PAM_REGS]);

#endif
