/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The SMBIOS tables (DMTF DSP0134, 2.8): what a guest shows as the machine's name, serial number and UUID, its CPUs and memory. A
 * firmware gets them through fw_cfg and gives them their place; for a kernel that starts without one they lie at MEM_SMBIOS.
 */
#ifndef LODGE_MACHINE_SMBIOS_H
#define LODGE_MACHINE_SMBIOS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/guestmem.h"

#define SMBIOS_ANCHOR_SIZE 31
#define SMBIOS_MAX         2048 /* bytes of structures */

struct smbios_config {
    uint8_t uuid[16]; /* in the order in which it is written */
    unsigned cpus;
    const struct guestmem *mem;
};

struct smbios {
    uint8_t anchor[SMBIOS_ANCHOR_SIZE]; /* the entry point, whole but for the address */
    uint8_t data[SMBIOS_MAX];
    size_t len;
};

void smbios_build(const struct smbios_config *cfg, struct smbios *s);
/* Into guest memory at MEM_SMBIOS, the anchor first. */
void smbios_install(struct smbios *s, struct guestmem *mem);

#endif
