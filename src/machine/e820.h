/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory map as a PC's firmware reports it (ACPI 6.4, 15): one list, for every boot protocol. */
#ifndef LODGE_MACHINE_E820_H
#define LODGE_MACHINE_E820_H

#include <stdbool.h>
#include <stdint.h>

#include "base/guestmem.h"

#define E820_MAX 16

enum e820_type { E820_RAM = 1, E820_RESERVED = 2 };

struct e820_entry {
    uint64_t addr, size; /* bytes */
    uint32_t type;
} __attribute__((packed));

struct e820 {
    struct e820_entry entries[E820_MAX];
    unsigned count;
};

void e820_build(struct e820 *map, const struct guestmem *mem);
/* End of the RAM that begins at 1 MiB. */
uint64_t e820_low_end(const struct guestmem *mem);
/* May a loader put something into [addr, addr+len)? It must be RAM outside the areas of firmware and loaders. */
bool e820_loadable(const struct guestmem *mem, uint64_t addr, uint64_t len);

#endif
