// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/e820.h"

#include "machine/memmap.h"

static void add(struct e820 *map, uint64_t addr, uint64_t end, enum e820_type type)
{
    if (end > addr && map->count < E820_MAX)
        map->entries[map->count++] = (struct e820_entry){addr, end - addr, type};
}

uint64_t e820_low_end(const struct guestmem *mem)
{
    return mem->regions[0].size;
}

void e820_build(struct e820 *map, const struct guestmem *mem)
{
    *map = (struct e820){.count = 0};
    add(map, 0, MEM_EBDA, E820_RAM);
    add(map, MEM_EBDA, MEM_VGA_BASE, E820_RESERVED);
    add(map, MEM_TABLES, MEM_TABLES_END, E820_RESERVED);
    add(map, MEM_TABLES_END, e820_low_end(mem), E820_RAM);
    add(map, MEM_ECAM, MEM_ECAM + MEM_ECAM_SIZE, E820_RESERVED);
    add(map, MEM_GENID, MEM_HIGH, E820_RESERVED);
    for (unsigned i = 1; i < mem->count; i++)
        add(map, mem->regions[i].gpa, mem->regions[i].gpa + mem->regions[i].size, E820_RAM);
}

bool e820_loadable(const struct guestmem *mem, uint64_t addr, uint64_t len)
{
    if (!guestmem_ptr(mem, addr, len))
        return false;
    return (addr >= BOOT_LOW_END && addr + len <= MEM_EBDA) || addr >= BOOT_KERNEL_MIN;
}
