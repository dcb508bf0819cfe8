/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ELF executables (32 and 64 bits, x86, little endian) as kernels: loaded by physical address. The file is hostile input. */
#ifndef LODGE_MACHINE_ELFIMAGE_H
#define LODGE_MACHINE_ELFIMAGE_H

#include "machine/boot.h"

struct elf {
    struct boot_file *file;
    bool wide; /* ELFCLASS64 */
    uint64_t entry, phoff;
    unsigned phnum, phentsize;
};

bool elf_is(const struct boot_file *f);
int elf_open(struct elf *e, struct boot_file *f, struct error *err);
/* Loads every PT_LOAD segment; [*low, *high) is what they occupy. */
int elf_load(struct elf *e, struct guestmem *mem, uint64_t *low, uint64_t *high, struct error *err);
/* Finds the note (name, type) and copies its first `len` bytes. 1 found, 0 not there, -1 with err. */
int elf_note(struct elf *e, const char *name, uint32_t type, void *desc, size_t len, struct error *err);

#endif
