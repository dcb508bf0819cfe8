/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Start by a firmware: SeaBIOS gets from fw_cfg what it cannot find out by itself: memory map, CPUs, ACPI and SMBIOS tables, boot
 * order, and where its messages go.
 */
#ifndef LODGE_MACHINE_FIRMWARE_H
#define LODGE_MACHINE_FIRMWARE_H

#include "devices/legacy/fwcfg.h"
#include "machine/acpi.h"
#include "machine/boot_order.h"
#include "machine/smbios.h"

struct firmware_config {
    const struct acpi_config *acpi;
    const struct guestmem *mem;
    const uint8_t *uuid;
    unsigned cpus;
    const struct boot_order *order;
    uint16_t serial;  /* the port that shows the firmware's screen and is its keyboard, 0: none */
    bool menu;        /* waits for Esc before it boots, and lists the devices then */
    unsigned menu_ms; /* how long; 0: as long as it likes */
};

int firmware_describe(const struct firmware_config *cfg, struct fwcfg *f, struct error *err);

#endif
