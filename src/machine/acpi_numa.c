// SPDX-License-Identifier: GPL-2.0-or-later
/* SRAT and SLIT: which CPUs and which memory are near each other (ACPI 6.4, 5.2.16 and 5.2.17). */
#include "base/util.h"
#include "machine/acpi.h"
#include "machine/aml.h"

enum { SRAT_APIC = 0, SRAT_MEMORY = 1, SRAT_X2APIC = 2, SRAT_ENABLED = 1 };

static void put_cpu(struct aml *a, unsigned id, unsigned cell)
{
    if (id < 255) {
        aml_u8(a, SRAT_APIC);
        aml_u8(a, 16);
        aml_u8(a, cell); /* bits 0 to 7 */
        aml_u8(a, id);
        aml_u32(a, SRAT_ENABLED);
        aml_u64(a, 0); /* SAPIC EID, the cell's other bits, clock domain */
    } else {
        aml_u8(a, SRAT_X2APIC);
        aml_u8(a, 24);
        aml_u16(a, 0);
        aml_u32(a, cell);
        aml_u32(a, id);
        aml_u32(a, SRAT_ENABLED);
        aml_u64(a, 0); /* clock domain, reserved */
    }
}

void acpi_put_srat(struct aml *a, const struct acpi_numa *numa, unsigned cpus)
{
    aml_u32(a, 1); /* as the specification demands */
    aml_u64(a, 0);
    for (unsigned i = 0; i < MIN(cpus, (unsigned)ARRAY_SIZE(numa->cpu_cell)); i++)
        put_cpu(a, i, numa->cpu_cell[i]);
    for (unsigned i = 0; i < numa->nranges; i++) {
        aml_u8(a, SRAT_MEMORY);
        aml_u8(a, 40);
        aml_u32(a, numa->ranges[i].cell);
        aml_u16(a, 0);
        aml_u64(a, numa->ranges[i].gpa);
        aml_u64(a, numa->ranges[i].size);
        aml_u32(a, 0);
        aml_u32(a, SRAT_ENABLED);
        aml_u64(a, 0);
    }
}

void acpi_put_slit(struct aml *a, const struct acpi_numa *numa)
{
    aml_u64(a, numa->ncells);
    for (unsigned i = 0; i < numa->ncells; i++)
        aml_bytes(a, numa->distances[i], numa->ncells);
}
