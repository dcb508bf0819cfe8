// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Linux bzImages by the 64-bit boot protocol, or the 32-bit one for kernels without a 64-bit entry
 * (Documentation/arch/x86/boot.rst: "The Real-Mode Kernel Header", "64-bit Boot Protocol", "32-bit Boot Protocol").
 */
#include "machine/boot.h"

#include <asm/bootparam.h>
#include <stddef.h>
#include <string.h>

#include "base/util.h"
#include "machine/memmap.h"

#define HEADER_OFFSET    0x1f1
#define HEADER_MAGIC     0x53726448u /* "HdrS" */
#define VERSION_MIN      0x0206      /* has cmdline_size */
#define VERSION_LOADADDR 0x020a      /* has pref_address and init_size */
#define VERSION_64       0x020c      /* has xloadflags */
#define ENTRY_64         0x200       /* of the 64-bit code, from the load address */
#define LOADER_OTHER     0xff

_Static_assert(offsetof(struct boot_params, hdr) == HEADER_OFFSET, "the zero page has its header where the file has it");

bool boot_linux_is(const struct boot_file *f)
{
    uint32_t magic;
    if (f->head_len < 0x206)
        return false;
    memcpy(&magic, f->head + 0x202, sizeof magic);
    return magic == HEADER_MAGIC;
}

/* The setup header ends at 0x202 + the byte at 0x201 (the jump over it); what the file lacks stays zero. */
static int read_header(const struct boot_file *f, struct setup_header *h, struct error *err)
{
    size_t end = 0x202u + f->head[0x201];
    memset(h, 0, sizeof *h);
    if (end > f->head_len)
        return error_set(err, 0, "kernel '%s': truncated: it ends within its setup header; get it again", f->path);
    memcpy(h, f->head + HEADER_OFFSET, MIN(end - HEADER_OFFSET, sizeof *h));
    if (h->version < VERSION_MIN)
        return error_set(err, 0, "kernel '%s': boot protocol %u.%02u is too old; use Linux 2.6.22 or newer", f->path,
                         h->version >> 8, h->version & 0xff);
    if (!(h->loadflags & LOADED_HIGH))
        return error_set(err, 0, "kernel '%s': a zImage, which loads low; use a bzImage", f->path);
    return 0;
}

static bool memory_fits(const struct guestmem *mem, uint64_t addr, uint64_t size)
{
    return addr >= BOOT_KERNEL_MIN && addr <= UINT32_MAX && e820_loadable(mem, addr, size);
}

/* Where the kernel wants to be, or, when that is not memory and it can be moved, the lowest address that suits it. */
static int choose_address(const struct boot_config *cfg, const struct boot_file *f, const struct setup_header *h, uint64_t payload,
                          uint64_t *addr, uint64_t *room, struct error *err)
{
    bool knows = h->version >= VERSION_LOADADDR;
    *addr = knows ? h->pref_address : BOOT_KERNEL_MIN;
    *room = MAX(payload, knows ? h->init_size : payload);
    if (memory_fits(cfg->mem, *addr, *room))
        return 0;
    uint64_t align = h->kernel_alignment;
    if (knows && h->relocatable_kernel && align >= PAGE_SIZE && (align & (align - 1)) == 0) {
        *addr = ALIGN_UP(BOOT_KERNEL_MIN, align);
        if (memory_fits(cfg->mem, *addr, *room))
            return 0;
    }
    return error_set(err, 0,
                     "kernel '%s': does not fit: it needs %llu MiB of memory from 0x%llx on; give the guest more with --memory",
                     f->path, (unsigned long long)(*room / MIB + 1), (unsigned long long)*addr);
}

/* As high as the kernel allows, so that it never overlaps the kernel, which unpacks upwards. */
static int load_initrd(const struct boot_config *cfg, struct boot_params *bp, uint64_t kernel_end, struct error *err)
{
    struct boot_file f;
    if (!cfg->os->initrd || !cfg->os->initrd[0])
        return 0;
    if (boot_file_open(&f, "initrd", cfg->os->initrd, err) < 0)
        return -1;
    uint64_t top = MIN(e820_low_end(cfg->mem), (uint64_t)bp->hdr.initrd_addr_max + 1);
    uint64_t start = f.size > top ? 0 : ALIGN_DOWN(top - f.size, PAGE_SIZE);
    int result = -1;
    if (start < kernel_end)
        error_set(err, 0,
                  "initrd '%s': does not fit: %llu MiB beside the kernel, the guest has %llu MiB; give it more with --memory, or a "
                  "smaller initrd",
                  f.path, (unsigned long long)(f.size / MIB + 1), (unsigned long long)(cfg->mem->total / MIB));
    else
        result = boot_file_load(&f, 0, f.size, cfg->mem, start, err);
    bp->hdr.ramdisk_image = (uint32_t)start;
    bp->hdr.ramdisk_size = (uint32_t)f.size;
    boot_file_close(&f);
    return result;
}

static void fill_e820(const struct boot_config *cfg, struct boot_params *bp)
{
    _Static_assert(sizeof(struct e820_entry) == sizeof(struct boot_e820_entry), "both are the BIOS's 20 bytes");
    memcpy(bp->e820_table, cfg->map->entries, cfg->map->count * sizeof(struct e820_entry));
    bp->e820_entries = (uint8_t)cfg->map->count;
}

int boot_linux(const struct boot_config *cfg, struct boot_file *kernel, struct boot_entry *entry, struct error *err)
{
    struct boot_params bp = {0};
    uint64_t addr, room;
    if (read_header(kernel, &bp.hdr, err) < 0)
        return -1;
    /* The file is the boot sector and setup_sects sectors of real-mode code, then syssize paragraphs of kernel. */
    uint64_t setup = ((bp.hdr.setup_sects ? bp.hdr.setup_sects : 4) + 1ull) * 512;
    uint64_t payload = bp.hdr.syssize * 16ull;
    if (payload == 0)
        return error_set(err, 0, "kernel '%s': its header says that it is empty; get it again", kernel->path);
    if (setup < kernel->size && setup + payload - kernel->size < 16)
        payload = kernel->size - setup; /* the last paragraph need not be whole: Memtest86+'s is not */
    if (setup + payload > kernel->size)
        return error_set(err, 0, "kernel '%s': truncated: it has %llu bytes and needs %llu; get it again", kernel->path,
                         (unsigned long long)kernel->size, (unsigned long long)(setup + payload));
    if (choose_address(cfg, kernel, &bp.hdr, payload, &addr, &room, err) < 0)
        return -1;
    const char *cmdline = cfg->os->cmdline ? cfg->os->cmdline : "";
    if (boot_write_cmdline(cfg, cmdline, bp.hdr.cmdline_size, err) < 0 ||
        boot_file_load(kernel, setup, payload, cfg->mem, addr, err) < 0 || load_initrd(cfg, &bp, addr + room, err) < 0)
        return -1;

    entry->long_mode = bp.hdr.version >= VERSION_64 && (bp.hdr.xloadflags & XLF_KERNEL_64);
    bp.hdr.type_of_loader = LOADER_OTHER;
    bp.hdr.code32_start = (uint32_t)addr;
    bp.hdr.cmd_line_ptr = BOOT_CMDLINE;
    bp.acpi_rsdp_addr = cfg->rsdp;
    fill_e820(cfg, &bp);
    guestmem_write(cfg->mem, BOOT_PARAMS, &bp, sizeof bp);
    boot_write_gdt(cfg, entry->long_mode, entry);
    if (entry->long_mode)
        boot_write_page_tables(cfg, entry);
    entry->rip = addr + (entry->long_mode ? ENTRY_64 : 0);
    entry->rsi = BOOT_PARAMS;
    entry->rsp = BOOT_STACK;
    return 0;
}
