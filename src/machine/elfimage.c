// SPDX-License-Identifier: GPL-2.0-or-later
/* System V ABI, chapters 4 and 5 (ELF header, program headers, notes). */
#include "machine/elfimage.h"

#include <elf.h>
#include <string.h>

#include "base/util.h"
#include "machine/memmap.h"

#define MAX_PHNUM 64
#define MAX_NOTES (64 * KIB) /* bytes of one PT_NOTE segment that are searched */

/* The fields of Elf32_Phdr and Elf64_Phdr that matter here. */
struct segment {
    uint32_t type;
    uint64_t offset, paddr, filesz, memsz, align;
};

bool elf_is(const struct boot_file *f)
{
    return f->head_len >= EI_NIDENT && memcmp(f->head, ELFMAG, SELFMAG) == 0;
}

static int bad(const struct elf *e, struct error *err, const char *cause)
{
    return error_set(err, 0, "kernel '%s': %s; get it again, or build it for x86", e->file->path, cause);
}

int elf_open(struct elf *e, struct boot_file *f, struct error *err)
{
    *e = (struct elf){.file = f, .wide = f->head[EI_CLASS] == ELFCLASS64};
    if ((!e->wide && f->head[EI_CLASS] != ELFCLASS32) || f->head[EI_DATA] != ELFDATA2LSB)
        return bad(e, err, "not a little-endian ELF file of 32 or 64 bits");
    unsigned machine, type;
    if (e->wide) {
        Elf64_Ehdr h;
        if (boot_file_read(f, 0, &h, sizeof h, err) < 0)
            return -1;
        e->entry = h.e_entry, e->phoff = h.e_phoff, e->phnum = h.e_phnum, e->phentsize = h.e_phentsize;
        machine = h.e_machine, type = h.e_type;
    } else {
        Elf32_Ehdr h;
        if (boot_file_read(f, 0, &h, sizeof h, err) < 0)
            return -1;
        e->entry = h.e_entry, e->phoff = h.e_phoff, e->phnum = h.e_phnum, e->phentsize = h.e_phentsize;
        machine = h.e_machine, type = h.e_type;
    }
    if (machine != EM_386 && machine != EM_X86_64)
        return bad(e, err, "an ELF file for another kind of CPU");
    if (type != ET_EXEC && type != ET_DYN)
        return bad(e, err, "an ELF file, but no executable");
    if (e->phentsize != (e->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || e->phnum == 0 || e->phnum > MAX_PHNUM)
        return bad(e, err, "its ELF program headers are malformed");
    return 0;
}

static int read_segment(struct elf *e, unsigned i, struct segment *s, struct error *err)
{
    uint64_t at;
    if (__builtin_add_overflow(e->phoff, (uint64_t)i * e->phentsize, &at) || at > e->file->size)
        return bad(e, err, "truncated: its ELF program headers lie behind its end");
    if (e->wide) {
        Elf64_Phdr p;
        if (boot_file_read(e->file, at, &p, sizeof p, err) < 0)
            return -1;
        *s = (struct segment){p.p_type, p.p_offset, p.p_paddr, p.p_filesz, p.p_memsz, p.p_align};
    } else {
        Elf32_Phdr p;
        if (boot_file_read(e->file, at, &p, sizeof p, err) < 0)
            return -1;
        *s = (struct segment){p.p_type, p.p_offset, p.p_paddr, p.p_filesz, p.p_memsz, p.p_align};
    }
    return 0;
}

int elf_load(struct elf *e, struct guestmem *mem, uint64_t *low, uint64_t *high, struct error *err)
{
    *low = UINT64_MAX;
    *high = 0;
    for (unsigned i = 0; i < e->phnum; i++) {
        struct segment s;
        if (read_segment(e, i, &s, err) < 0)
            return -1;
        if (s.type != PT_LOAD || s.memsz == 0)
            continue;
        if (s.filesz > s.memsz)
            return bad(e, err, "an ELF segment is larger in the file than in memory");
        if (!e820_loadable(mem, s.paddr, s.memsz))
            return error_set(
                err, 0, "kernel '%s': does not fit: %llu bytes at 0x%llx are not memory of this guest; give it more with --memory",
                e->file->path, (unsigned long long)s.memsz, (unsigned long long)s.paddr);
        if (boot_file_load(e->file, s.offset, s.filesz, mem, s.paddr, err) < 0)
            return -1;
        /* Fresh guest memory is zero; only a segment that overlaps an earlier one could find something else here. */
        *low = MIN(*low, s.paddr);
        *high = MAX(*high, s.paddr + s.memsz);
    }
    return *high ? 0 : bad(e, err, "its ELF file has nothing to load");
}

/* One PT_NOTE segment: entries of three words, name and descriptor, each padded to the segment's alignment. */
static int search_notes(const uint8_t *notes, size_t len, unsigned align, const char *name, uint32_t type, void *desc,
                        size_t desc_len)
{
    for (size_t at = 0; at + sizeof(Elf32_Nhdr) <= len;) {
        Elf32_Nhdr n;
        memcpy(&n, notes + at, sizeof n);
        size_t name_at = at + sizeof n;
        uint64_t desc_at = ALIGN_UP((uint64_t)name_at + n.n_namesz, align);
        uint64_t next = ALIGN_UP(desc_at + n.n_descsz, align);
        if (desc_at + n.n_descsz > len)
            return 0;
        if (n.n_type == type && n.n_namesz == strlen(name) + 1 && memcmp(notes + name_at, name, n.n_namesz) == 0 &&
            n.n_descsz >= desc_len) {
            memcpy(desc, notes + desc_at, desc_len);
            return 1;
        }
        at = next;
    }
    return 0;
}

int elf_note(struct elf *e, const char *name, uint32_t type, void *desc, size_t len, struct error *err)
{
    for (unsigned i = 0; i < e->phnum; i++) {
        struct segment s;
        if (read_segment(e, i, &s, err) < 0)
            return -1;
        if (s.type != PT_NOTE || s.filesz == 0)
            continue;
        size_t size = (size_t)MIN(s.filesz, MAX_NOTES);
        AUTO_FREE uint8_t *notes = malloc(size);
        if (!notes)
            return error_set(err, 0, "kernel '%s': out of memory", e->file->path);
        if (boot_file_read(e->file, s.offset, notes, size, err) < 0)
            return -1;
        if (search_notes(notes, size, s.align == 8 ? 8 : 4, name, type, desc, len))
            return 1;
    }
    return 0;
}
