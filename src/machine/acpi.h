/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The board's ACPI tables: RSDP, XSDT, FADT, FACS, MADT, MCFG and DSDT, from MEM_TABLES on. A guest learns from them of its CPUs,
 * the IOAPIC, the PCI root, the legacy devices, the power button, and how to switch off (S5) and to reset.
 */
#ifndef LODGE_MACHINE_ACPI_H
#define LODGE_MACHINE_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/guestmem.h"

struct acpi_config {
    unsigned cpus;                  /* APIC IDs 0 to cpus-1 */
    uint64_t pci64_base, pci64_end; /* the 64-bit window, end exclusive; equal for none */
    bool serial, pvpanic;           /* which of the optional devices exist */
};

/* Room that the tables have, in bytes. */
#define ACPI_MAX 0x20000u

/*
 * Builds the tables for guest address `base` (16-byte aligned, the RSDP comes first) into `buf` of ACPI_MAX bytes. Returns their
 * size in bytes, 0 with err.
 */
size_t acpi_build(const struct acpi_config *cfg, uint64_t base, uint8_t *buf, struct error *err);
/* The same into guest memory at MEM_TABLES. *rsdp is the root's address. */
int acpi_install(const struct acpi_config *cfg, struct guestmem *mem, uint64_t *rsdp, struct error *err);

#endif
