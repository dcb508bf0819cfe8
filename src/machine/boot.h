/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Direct boot: puts a kernel into guest memory without firmware, and says in which state the first CPU starts.
 *
 * The kernel file's own magic decides the protocol: "HdrS" is a Linux bzImage, a Multiboot header within the first 8 KiB is
 * Multiboot 1, an ELF file with a PVH note is PVH. The files are hostile input: every offset and size is checked against the file
 * and against guest memory, and they are read with pread(), so that a file that shrinks meanwhile gives an error and no signal.
 */
#ifndef LODGE_MACHINE_BOOT_H
#define LODGE_MACHINE_BOOT_H

#include "base/error.h"
#include "base/guestmem.h"
#include "machine/e820.h"
#include "model/domain.h"

struct boot_config {
    const struct domain_os *os;
    struct guestmem *mem;
    const struct e820 *map;
    uint64_t rsdp; /* guest address of the ACPI tables' root */
};

/* The first CPU's start: flat segments, interrupts off; everything that is not named is zero. */
struct boot_entry {
    bool long_mode; /* with identity page tables for 4 GiB at `cr3`; otherwise 32-bit protected mode without paging */
    uint64_t cr3;
    uint64_t rip, rax, rbx, rsi, rsp;
    uint64_t gdt; /* guest address of four descriptors: null, null, code (0x10), data (0x18) */
};

int boot_load(const struct boot_config *cfg, struct boot_entry *entry, struct error *err);

/* ---- for the protocols ---- */

#define BOOT_HEAD_MAX 16384u

/* A file that is being loaded. */
struct boot_file {
    const char *what; /* "kernel", "initrd" */
    const char *path;
    int fd;
    uint64_t size;     /* bytes */
    uint32_t head_len; /* bytes of `head` that are valid */
    uint8_t head[BOOT_HEAD_MAX];
};

int boot_file_open(struct boot_file *f, const char *what, const char *path, struct error *err);
void boot_file_close(struct boot_file *f);
/* Reads [offset, offset+len) into guest memory at gpa, which must be loadable. */
int boot_file_load(struct boot_file *f, uint64_t offset, uint64_t len, struct guestmem *mem, uint64_t gpa, struct error *err);
int boot_file_read(struct boot_file *f, uint64_t offset, void *buf, size_t len, struct error *err);
/* Copies the command line to BOOT_CMDLINE; `limit` is the kernel's own, without the terminating zero. */
int boot_write_cmdline(const struct boot_config *cfg, const char *text, uint64_t limit, struct error *err);
/* The descriptor table for entry; `wide` makes the code segment 64-bit. */
void boot_write_gdt(const struct boot_config *cfg, bool wide, struct boot_entry *entry);
void boot_write_page_tables(const struct boot_config *cfg, struct boot_entry *entry);

bool boot_linux_is(const struct boot_file *f);
int boot_linux(const struct boot_config *cfg, struct boot_file *kernel, struct boot_entry *entry, struct error *err);
bool boot_multiboot_is(const struct boot_file *f);
int boot_multiboot(const struct boot_config *cfg, struct boot_file *kernel, struct boot_entry *entry, struct error *err);
int boot_pvh(const struct boot_config *cfg, struct boot_file *kernel, struct boot_entry *entry, struct error *err);

#endif
