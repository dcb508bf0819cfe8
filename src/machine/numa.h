/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A domain's memory options and NUMA cells, as guest memory, ACPI tables and CPUID want them. */
#ifndef LODGE_MACHINE_NUMA_H
#define LODGE_MACHINE_NUMA_H

#include "base/guestmem.h"
#include "machine/acpi.h"
#include "model/domain.h"

struct numa_memory {
    struct guestmem_config config; /* without low_limit; refers to `bindings` */
    struct guestmem_binding bindings[DOMAIN_MAX_CELLS];
};

void numa_memory_config(const struct domain *d, struct numa_memory *memory);
/* Cells lie one behind the other in the guest's memory. */
void numa_describe(const struct domain *d, const struct guestmem *mem, struct acpi_numa *numa);
/* CPUs of a socket: a cell's, where the APIC IDs can say so; otherwise all. */
unsigned numa_socket_cpus(const struct domain *d);

#endif
