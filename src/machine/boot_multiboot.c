// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Multiboot 1 (Multiboot Specification 0.6.96): Xen, and small kernels. The kernel is an ELF file, or says in its header where it
 * goes (the "a.out kludge"). Modules and the information structure lie behind the kernel:
 *
 *     kernel (with its bss) | module 0 | module 1 | … | multiboot_info, memory map, module list, strings
 */
#include "machine/boot.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "machine/elfimage.h"
#include "machine/memmap.h"

#define HEADER_MAGIC  0x1badb002u
#define HEADER_SEARCH 8192u /* bytes of the file that may hold the header */
#define ENTRY_EAX     0x2badb002u
#define MAX_MODULES   32u

enum header_flags {
    HEADER_MUST_KNOW = 0xffff, /* a loader that does not know one of these must refuse */
    HEADER_KNOWN = 0x0007,     /* page-aligned modules, memory map, video mode; the last is a wish (3.1.1) */
    HEADER_ADDRESSES = 1 << 16,
};

struct mb_header {
    uint32_t magic, flags, checksum;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr; /* with HEADER_ADDRESSES */
};

enum info_flags { INFO_MEMORY = 1 << 0, INFO_CMDLINE = 1 << 2, INFO_MODULES = 1 << 3, INFO_MMAP = 1 << 6, INFO_LOADER = 1 << 9 };

struct mb_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length, mmap_addr;
    uint32_t drives_length, drives_addr, config_table, boot_loader_name, apm_table, vbe[4];
};

struct mb_module {
    uint32_t start, end, string, reserved;
};

struct mb_mmap {
    uint32_t size; /* of what follows */
    struct e820_entry range;
} __attribute__((packed));

/* The part behind the modules, built here and written at once. Strings are at `strings`, growing. */
struct mb_block {
    struct mb_info info;
    struct mb_mmap map[E820_MAX];
    struct mb_module modules[MAX_MODULES];
};

struct layout {
    const struct boot_config *cfg;
    struct boot_file *kernel;
    uint64_t end; /* first free byte behind the kernel and what was put there */
    struct mb_block block;
    char *strings; /* all of them, each with its zero; owned */
    size_t strings_len;
};

static bool find_header(const struct boot_file *f, uint32_t *offset, struct mb_header *h)
{
    uint32_t limit = MIN(f->head_len, HEADER_SEARCH);
    for (uint32_t at = 0; at + 12 <= limit; at += 4) {
        memcpy(h, f->head + at, 12);
        if (h->magic != HEADER_MAGIC || h->magic + h->flags + h->checksum != 0)
            continue;
        if (h->flags & HEADER_ADDRESSES) {
            if (at + sizeof *h > f->head_len)
                return false;
            memcpy(h, f->head + at, sizeof *h);
        }
        *offset = at;
        return true;
    }
    return false;
}

bool boot_multiboot_is(const struct boot_file *f)
{
    struct mb_header h;
    uint32_t offset;
    return find_header(f, &offset, &h);
}

/* Loads by the addresses of the header (3.1.3). */
static int load_by_header(struct layout *l, const struct mb_header *h, uint32_t offset, struct error *err)
{
    const char *path = l->kernel->path;
    uint32_t before = h->header_addr - h->load_addr;
    if (h->load_addr > h->header_addr || before > offset)
        return error_set(err, 0, "kernel '%s': its Multiboot header has impossible addresses; get it again", path);
    uint64_t from = offset - before;
    uint64_t len = h->load_end_addr ? (uint64_t)h->load_end_addr - h->load_addr : l->kernel->size - from;
    uint64_t end = h->bss_end_addr ? h->bss_end_addr : h->load_addr + len;
    if ((h->load_end_addr && h->load_end_addr < h->load_addr) || end < h->load_addr + len)
        return error_set(err, 0, "kernel '%s': its Multiboot header has impossible addresses; get it again", path);
    if (!e820_loadable(l->cfg->mem, h->load_addr, end - h->load_addr))
        return error_set(err, 0,
                         "kernel '%s': does not fit: 0x%x to 0x%llx is not memory of this guest; give it more with --memory", path,
                         h->load_addr, (unsigned long long)end);
    l->end = end;
    return boot_file_load(l->kernel, from, len, l->cfg->mem, h->load_addr, err);
}

static int load_elf(struct layout *l, uint64_t *entry, struct error *err)
{
    struct elf elf;
    uint64_t low;
    if (!elf_is(l->kernel))
        return error_set(err, 0, "kernel '%s': Multiboot, but neither ELF nor with load addresses in its header; get it again",
                         l->kernel->path);
    if (elf_open(&elf, l->kernel, err) < 0 || elf_load(&elf, l->cfg->mem, &low, &l->end, err) < 0)
        return -1;
    if (elf.entry > UINT32_MAX || l->end > UINT32_MAX)
        return error_set(err, 0,
                         "kernel '%s': a Multiboot kernel begins in 32-bit mode, and this one lies above 4 GiB; link it lower",
                         l->kernel->path);
    *entry = elf.entry;
    return 0;
}

/* Appends a string; its offset. -1 when memory is out. */
static int64_t add_string(struct layout *l, const char *text)
{
    size_t len = strlen(text) + 1;
    char *grown = realloc(l->strings, l->strings_len + len);
    if (!grown)
        return -1;
    l->strings = grown;
    memcpy(grown + l->strings_len, text, len);
    l->strings_len += len;
    return (int64_t)(l->strings_len - len);
}

static int load_module(struct layout *l, const char *text, struct error *err)
{
    struct mb_info *info = &l->block.info;
    struct boot_file f;
    AUTO_FREE char *path = strndup(text, strcspn(text, " "));
    int64_t string = path ? add_string(l, text) : -1;
    if (string < 0)
        return error_set(err, 0, "module '%s': out of memory", text);
    if (info->mods_count == MAX_MODULES)
        return error_set(err, 0, "module '%s': a guest takes %u modules; give fewer", path, MAX_MODULES);
    if (boot_file_open(&f, "module", path, err) < 0)
        return -1;
    uint64_t start = ALIGN_UP(l->end, PAGE_SIZE);
    int result = -1;
    if (f.size > e820_low_end(l->cfg->mem) || start + f.size > e820_low_end(l->cfg->mem))
        error_set(err, 0,
                  "module '%s': does not fit: %llu MiB behind the kernel, the guest has %llu MiB; give it more with --memory", path,
                  (unsigned long long)(f.size / MIB + 1), (unsigned long long)(l->cfg->mem->total / MIB));
    else
        result = boot_file_load(&f, 0, f.size, l->cfg->mem, start, err);
    l->block.modules[info->mods_count++] = (struct mb_module){(uint32_t)start, (uint32_t)(start + f.size), (uint32_t)string, 0};
    l->end = start + f.size;
    boot_file_close(&f);
    return result;
}

/* "file arguments,file2": separated by commas; a comma that is meant is written twice. */
static int load_modules(struct layout *l, const char *list, struct error *err)
{
    AUTO_FREE char *text = malloc(strlen(list) + 1);
    if (!text)
        return error_set(err, 0, "modules: out of memory");
    for (const char *p = list; *p;) {
        size_t len = 0;
        while (*p && (*p != ',' || p[1] == ',')) {
            p += *p == ',';
            text[len++] = *p++;
        }
        text[len] = 0;
        p += *p == ',';
        if (len && load_module(l, text, err) < 0)
            return -1;
    }
    return 0;
}

static void fill_map(struct layout *l, uint64_t base)
{
    struct mb_info *info = &l->block.info;
    const struct e820 *map = l->cfg->map;
    for (unsigned i = 0; i < map->count; i++)
        l->block.map[i] = (struct mb_mmap){sizeof(struct e820_entry), map->entries[i]};
    info->mmap_addr = (uint32_t)(base + offsetof(struct mb_block, map));
    info->mmap_length = map->count * sizeof(struct mb_mmap);
    info->mem_lower = MEM_EBDA / KIB;
    info->mem_upper = (uint32_t)((e820_low_end(l->cfg->mem) - BOOT_KERNEL_MIN) / KIB);
    info->flags |= INFO_MEMORY | INFO_MMAP;
}

/* The first word of the command line is the kernel's name (3.3). */
static int write_info(struct layout *l, uint64_t *info_addr, struct error *err)
{
    struct mb_info *info = &l->block.info;
    const char *args = l->cfg->os->cmdline ? l->cfg->os->cmdline : "";
    AUTO_FREE char *cmdline = NULL;
    if (asprintf(&cmdline, "%s%s%s", l->kernel->path, args[0] ? " " : "", args) < 0)
        cmdline = NULL;
    int64_t cmdline_at = cmdline ? add_string(l, cmdline) : -1, name_at = add_string(l, "Lodge");
    if (cmdline_at < 0 || name_at < 0)
        return error_set(err, 0, "kernel '%s': out of memory", l->kernel->path);
    uint64_t base = ALIGN_UP(l->end, PAGE_SIZE), strings = base + sizeof l->block;
    if (!e820_loadable(l->cfg->mem, base, sizeof l->block + l->strings_len))
        return error_set(err, 0, "kernel '%s': no memory left for the boot information; give the guest more with --memory",
                         l->kernel->path);
    info->flags = INFO_CMDLINE | INFO_MODULES | INFO_LOADER;
    info->cmdline = (uint32_t)(strings + (uint64_t)cmdline_at);
    info->boot_loader_name = (uint32_t)(strings + (uint64_t)name_at);
    info->mods_addr = (uint32_t)(base + offsetof(struct mb_block, modules));
    for (unsigned i = 0; i < info->mods_count; i++)
        l->block.modules[i].string += (uint32_t)strings;
    fill_map(l, base);
    guestmem_write(l->cfg->mem, base, &l->block, sizeof l->block);
    guestmem_write(l->cfg->mem, strings, l->strings, l->strings_len);
    *info_addr = base;
    return 0;
}

int boot_multiboot(const struct boot_config *cfg, struct boot_file *kernel, struct boot_entry *entry, struct error *err)
{
    struct mb_header h;
    uint32_t offset;
    int result = -1;
    struct layout l = {.cfg = cfg, .kernel = kernel};
    if (!find_header(kernel, &offset, &h))
        return error_set(err, 0, "kernel '%s': no Multiboot header", kernel->path);
    if (h.flags & HEADER_MUST_KNOW & ~HEADER_KNOWN)
        return error_set(err, 0,
                         "kernel '%s': its Multiboot header asks for features 0x%x, which do not exist here; use another build",
                         kernel->path, h.flags & HEADER_MUST_KNOW & ~HEADER_KNOWN);
    if (h.flags & HEADER_ADDRESSES) {
        entry->rip = h.entry_addr;
        result = load_by_header(&l, &h, offset, err);
    } else {
        result = load_elf(&l, &entry->rip, err);
    }
    if (result == 0 && cfg->os->initrd)
        result = load_modules(&l, cfg->os->initrd, err);
    if (result == 0)
        result = write_info(&l, &entry->rbx, err);
    if (result == 0)
        boot_write_gdt(cfg, false, entry);
    entry->rax = ENTRY_EAX;
    free(l.strings);
    return result;
}
