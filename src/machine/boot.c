// SPDX-License-Identifier: GPL-2.0-or-later
/* Direct boot: the choice of the protocol, and what the protocols share. */
#include "machine/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "machine/elfimage.h"
#include "machine/memmap.h"

int boot_file_open(struct boot_file *f, const char *what, const char *path, struct error *err)
{
    struct stat st;
    f->what = what;
    f->path = path;
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (f->fd < 0)
        return error_set(err, errno, "%s '%s': cannot open: %s; give the path of a file that you may read", what, path,
                         strerror(errno));
    if (fstat(f->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        error_set(err, 0, "%s '%s': not a regular file; give the path of a file", what, path);
        goto fail;
    }
    f->size = (uint64_t)st.st_size;
    f->head_len = (uint32_t)MIN(f->size, (uint64_t)BOOT_HEAD_MAX);
    if (f->size == 0) {
        error_set(err, 0, "%s '%s': the file is empty; get it again", what, path);
        goto fail;
    }
    if (boot_file_read(f, 0, f->head, f->head_len, err) == 0)
        return 0;
fail:
    boot_file_close(f);
    return -1;
}

void boot_file_close(struct boot_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

int boot_file_read(struct boot_file *f, uint64_t offset, void *buf, size_t len, struct error *err)
{
    if (offset > f->size || len > f->size - offset)
        return error_set(err, 0, "%s '%s': truncated: it has %llu bytes and needs %llu; get it again", f->what, f->path,
                         (unsigned long long)f->size, (unsigned long long)(offset + len));
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(f->fd, (char *)buf + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(err, n < 0 ? errno : 0, "%s '%s': cannot read: %s; get it again", f->what, f->path,
                             n < 0 ? strerror(errno) : "it became shorter while it was read");
        done += (size_t)n;
    }
    return 0;
}

int boot_file_load(struct boot_file *f, uint64_t offset, uint64_t len, struct guestmem *mem, uint64_t gpa, struct error *err)
{
    if (len == 0)
        return 0;
    if (offset > f->size || len > f->size - offset)
        return error_set(err, 0, "%s '%s': truncated: it has %llu bytes and needs %llu; get it again", f->what, f->path,
                         (unsigned long long)f->size, (unsigned long long)(offset + len));
    if (!e820_loadable(mem, gpa, len))
        return error_set(err, 0,
                         "%s '%s': does not fit: %llu bytes at 0x%llx are not memory of this guest; give it more with --memory",
                         f->what, f->path, (unsigned long long)len, (unsigned long long)gpa);
    return boot_file_read(f, offset, guestmem_ptr(mem, gpa, len), len, err);
}

int boot_write_cmdline(const struct boot_config *cfg, const char *text, uint64_t limit, struct error *err)
{
    size_t len = strlen(text);
    if (len > MIN(limit, BOOT_CMDLINE_MAX - 1))
        return error_set(err, 0, "kernel command line: %zu bytes, the kernel takes %llu; shorten it", len,
                         (unsigned long long)MIN(limit, BOOT_CMDLINE_MAX - 1));
    if (guestmem_write(cfg->mem, BOOT_CMDLINE, text, len + 1) < 0)
        return error_set(err, 0, "kernel command line: the guest has no memory for it; give it more with --memory");
    return 0;
}

/* Descriptors: SDM vol. 3, 3.4.5. Accessed, so that the CPU never writes to the table. */
void boot_write_gdt(const struct boot_config *cfg, bool wide, struct boot_entry *entry)
{
    const uint64_t gdt[4] = {0, 0, wide ? 0x00af9b000000ffffull : 0x00cf9b000000ffffull, 0x00cf93000000ffffull};
    guestmem_write(cfg->mem, BOOT_GDT, gdt, sizeof gdt);
    entry->gdt = BOOT_GDT;
}

/* The first 4 GiB at their own addresses in 2 MiB pages: a PML4, a page of PDPTEs, four of PDEs (SDM vol. 3, 4.5). */
void boot_write_page_tables(const struct boot_config *cfg, struct boot_entry *entry)
{
    enum { PRESENT_WRITE = 3, LARGE = 0x80 };
    uint64_t *table = guestmem_ptr(cfg->mem, BOOT_PAGE_TABLES, 6 * PAGE_SIZE);
    memset(table, 0, 2 * PAGE_SIZE);
    table[0] = (BOOT_PAGE_TABLES + PAGE_SIZE) | PRESENT_WRITE;
    for (unsigned i = 0; i < 4; i++)
        table[512 + i] = (BOOT_PAGE_TABLES + (2 + i) * PAGE_SIZE) | PRESENT_WRITE;
    for (unsigned i = 0; i < 4 * 512; i++)
        table[2 * 512 + i] = i * 2 * MIB | PRESENT_WRITE | LARGE;
    entry->cr3 = BOOT_PAGE_TABLES;
}

/*
 * The words of the BIOS data area that kernels read without having asked a BIOS: where COM1 is, and where conventional memory ends
 * (Xen puts its trampoline below). The extended area begins with its size in KiB.
 */
static void write_bios_data(const struct boot_config *cfg)
{
    const uint16_t com1 = 0x3f8, ebda_segment = MEM_EBDA >> 4, base_kib = MEM_EBDA / KIB;
    const uint8_t ebda_kib = (MEM_VGA_BASE - MEM_EBDA) / KIB;
    guestmem_write(cfg->mem, 0x400, &com1, sizeof com1);
    guestmem_write(cfg->mem, 0x40e, &ebda_segment, sizeof ebda_segment);
    guestmem_write(cfg->mem, 0x413, &base_kib, sizeof base_kib);
    guestmem_write(cfg->mem, MEM_EBDA, &ebda_kib, sizeof ebda_kib);
}

static int load_by_magic(const struct boot_config *cfg, struct boot_file *kernel, struct boot_entry *entry, struct error *err)
{
    if (boot_linux_is(kernel))
        return boot_linux(cfg, kernel, entry, err);
    if (boot_multiboot_is(kernel))
        return boot_multiboot(cfg, kernel, entry, err);
    if (elf_is(kernel))
        return boot_pvh(cfg, kernel, entry, err);
    if (kernel->head_len >= 2 && kernel->head[0] == 0x1f && kernel->head[1] == 0x8b)
        return error_set(err, 0, "kernel '%s': compressed with gzip; unpack it with gunzip first", kernel->path);
    return error_set(
        err, 0, "kernel '%s': not a kernel: neither bzImage, nor Multiboot, nor ELF; give the path of one, such as /boot/vmlinuz",
        kernel->path);
}

int boot_load(const struct boot_config *cfg, struct boot_entry *entry, struct error *err)
{
    struct boot_file kernel;
    *entry = (struct boot_entry){0};
    write_bios_data(cfg);
    if (boot_file_open(&kernel, "kernel", cfg->os->kernel, err) < 0)
        return -1;
    int result = load_by_magic(cfg, &kernel, entry, err);
    boot_file_close(&kernel);
    return result;
}
