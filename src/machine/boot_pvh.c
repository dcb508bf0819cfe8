// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ELF kernels with a PVH note: Xen's boot protocol for hardware virtual machines, which Linux, FreeBSD and others understand
 * (xen/include/public/arch-x86/hvm/start_info.h; the note is XEN_ELFNOTE_PHYS32_ENTRY of xen/include/public/elfnote.h).
 */
#include "machine/boot.h"

#include <string.h>

#include "base/util.h"
#include "machine/elfimage.h"
#include "machine/memmap.h"

#define NOTE_PHYS32_ENTRY 18
#define START_MAGIC       0x336ec578u
#define START_VERSION     1 /* has the memory map */

struct start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
    uint32_t memmap_entries, reserved;
};

struct modlist_entry {
    uint64_t paddr, size, cmdline_paddr, reserved;
};

struct memmap_entry {
    uint64_t addr, size;
    uint32_t type, reserved;
};

/* All of it lies in one page at BOOT_PVH_INFO. */
struct pvh_page {
    struct start_info info;
    struct modlist_entry module;
    struct memmap_entry map[E820_MAX];
};

static int load_module(const struct boot_config *cfg, struct pvh_page *page, uint64_t kernel_end, struct error *err)
{
    struct boot_file f;
    if (!cfg->os->initrd || !cfg->os->initrd[0])
        return 0;
    if (boot_file_open(&f, "initrd", cfg->os->initrd, err) < 0)
        return -1;
    uint64_t top = e820_low_end(cfg->mem);
    uint64_t start = f.size > top ? 0 : ALIGN_DOWN(top - f.size, PAGE_SIZE);
    int result = -1;
    if (start < kernel_end)
        error_set(err, 0,
                  "initrd '%s': does not fit: %llu MiB beside the kernel, the guest has %llu MiB; give it more with --memory, or a "
                  "smaller initrd",
                  f.path, (unsigned long long)(f.size / MIB + 1), (unsigned long long)(cfg->mem->total / MIB));
    else
        result = boot_file_load(&f, 0, f.size, cfg->mem, start, err);
    page->info.nr_modules = 1;
    page->info.modlist_paddr = BOOT_PVH_INFO + offsetof(struct pvh_page, module);
    page->module = (struct modlist_entry){.paddr = start, .size = f.size};
    boot_file_close(&f);
    return result;
}

int boot_pvh(const struct boot_config *cfg, struct boot_file *kernel, struct boot_entry *entry, struct error *err)
{
    struct pvh_page page = {.info = {.magic = START_MAGIC, .version = START_VERSION}};
    struct elf elf;
    uint64_t low, high;
    uint32_t start;
    if (elf_open(&elf, kernel, err) < 0)
        return -1;
    int found = elf_note(&elf, "Xen", NOTE_PHYS32_ENTRY, &start, sizeof start, err);
    if (found < 0)
        return -1;
    if (!found)
        return error_set(
            err, 0, "kernel '%s': an ELF file without a PVH entry; for Linux, use the bzImage, or build vmlinux with CONFIG_PVH=y",
            kernel->path);
    if (elf_load(&elf, cfg->mem, &low, &high, err) < 0)
        return -1;
    if (start < low || start >= high)
        return error_set(err, 0, "kernel '%s': its PVH entry 0x%x lies outside of it; get it again", kernel->path, start);
    const char *cmdline = cfg->os->cmdline ? cfg->os->cmdline : "";
    if (boot_write_cmdline(cfg, cmdline, BOOT_CMDLINE_MAX - 1, err) < 0 || load_module(cfg, &page, high, err) < 0)
        return -1;
    page.info.cmdline_paddr = BOOT_CMDLINE;
    page.info.rsdp_paddr = cfg->rsdp;
    page.info.memmap_paddr = BOOT_PVH_INFO + offsetof(struct pvh_page, map);
    page.info.memmap_entries = cfg->map->count;
    for (unsigned i = 0; i < cfg->map->count; i++)
        page.map[i] = (struct memmap_entry){cfg->map->entries[i].addr, cfg->map->entries[i].size, cfg->map->entries[i].type, 0};
    guestmem_write(cfg->mem, BOOT_PVH_INFO, &page, sizeof page);
    boot_write_gdt(cfg, false, entry);
    entry->rip = start;
    entry->rbx = BOOT_PVH_INFO;
    return 0;
}
