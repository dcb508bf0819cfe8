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

#define ACPI_CELLS 32u

/* The guest's NUMA nodes. */
struct acpi_numa {
    unsigned ncells;
    uint8_t cpu_cell[1024]; /* by APIC ID */
    struct acpi_numa_range {
        uint64_t gpa, size; /* bytes */
        unsigned cell;
    } ranges[ACPI_CELLS + 1]; /* one cell may lie on both sides of the hole below 4 GiB */
    unsigned nranges;
    uint8_t distances[ACPI_CELLS][ACPI_CELLS];
};

struct acpi_config {
    unsigned cpus;                  /* APIC IDs 0 to cpus-1 */
    uint64_t pci64_base, pci64_end; /* the 64-bit window, end exclusive; equal for none */
    bool serial[2], parallel, hpet, pvpanic, genid; /* which of the optional devices exist */
    const struct acpi_numa *numa;             /* NULL: one node, of which no table speaks */
};

/* Room that the tables have, in bytes. */
#define ACPI_MAX       0x1f000u
#define ACPI_RSDP_SIZE 36u
#define ACPI_POINTERS  24
#define ACPI_SUMS      16

/*
 * The tables before somebody has chosen their address: pointers count from the start of `data`, which must lie at a multiple of 64;
 * checksum bytes are zero. The RSDP stands apart, because it must lie below 1 MiB.
 */
struct acpi_tables {
    uint8_t *data; /* owned */
    size_t len;
    struct acpi_pointer {
        uint32_t at;
        uint8_t size; /* 4 or 8 bytes */
    } pointers[ACPI_POINTERS];
    unsigned npointers;
    struct acpi_sum {
        uint32_t at, start, len; /* the checksum byte, and what it is about */
    } sums[ACPI_SUMS];
    unsigned nsums;
    uint8_t rsdp[ACPI_RSDP_SIZE];
};
/* Where the RSDP has its pointer to the XSDT (8 bytes), and its two checksums. */
enum { ACPI_RSDP_XSDT = 24, ACPI_RSDP_SUM = 8, ACPI_RSDP_SUM_LEN = 20, ACPI_RSDP_SUM2 = 32 };

/* What SRAT and SLIT hold behind their headers (acpi_numa.c). */
struct aml;
void acpi_put_srat(struct aml *a, const struct acpi_numa *numa, unsigned cpus);
void acpi_put_slit(struct aml *a, const struct acpi_numa *numa);

int acpi_tables_make(const struct acpi_config *cfg, struct acpi_tables *t, struct error *err);
void acpi_tables_free(struct acpi_tables *t);

/*
 * Builds the tables for guest address `base` (64-byte aligned, the RSDP comes first) into `buf` of ACPI_MAX bytes. Returns their
 * size in bytes, 0 with err.
 */
size_t acpi_build(const struct acpi_config *cfg, uint64_t base, uint8_t *buf, struct error *err);
/* The same into guest memory at MEM_TABLES. *rsdp is the root's address. */
int acpi_install(const struct acpi_config *cfg, struct guestmem *mem, uint64_t *rsdp, struct error *err);

#endif
