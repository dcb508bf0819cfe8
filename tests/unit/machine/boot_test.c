// SPDX-License-Identifier: GPL-2.0-or-later
/* Loaders: good files land where their protocol says, and files that lie about themselves end in an error. */
#include <asm/bootparam.h>
#include <elf.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "../devices/check.h"
#include "base/util.h"
#include "machine/boot.h"
#include "machine/memmap.h"

#define RAM (64 * MIB)

static struct guestmem mem;
static struct e820 map;

/* A file that exists only while the test runs: its path is in /proc. */
struct temp {
    int fd;
    char path[64];
};

static void temp_make(struct temp *t, const void *data, size_t len)
{
    t->fd = memfd_create("boot-test", MFD_CLOEXEC);
    CHECK(t->fd >= 0 && (len == 0 || write(t->fd, data, len) == (ssize_t)len));
    snprintf(t->path, sizeof t->path, "/proc/self/fd/%d", t->fd);
}

static int load(const void *data, size_t len, const char *initrd, const char *cmdline, struct boot_entry *entry, struct error *err)
{
    struct temp t;
    temp_make(&t, data, len);
    struct domain_os os = {.kernel = t.path, .initrd = (char *)initrd, .cmdline = (char *)cmdline};
    struct boot_config cfg = {.os = &os, .mem = &mem, .map = &map, .rsdp = MEM_TABLES};
    int r = boot_load(&cfg, entry, err);
    close(t.fd);
    return r;
}

static void refuse(const void *data, size_t len, const char *initrd, const char *cmdline, const char *word)
{
    struct boot_entry entry;
    ERROR_SCOPED(err);
    CHECK(load(data, len, initrd, cmdline, &entry, &err) < 0);
    if (!strstr(error_text(&err), word) || strchr(error_text(&err), '\n')) {
        fprintf(stderr, "'%s' is not in: %s\n", word, error_text(&err));
        exit(1);
    }
}

/* ---- Linux ---- */

#define LINUX_PAYLOAD 8192u
#define LINUX_SIZE    (1024 + LINUX_PAYLOAD)

static struct setup_header *linux_make(uint8_t image[LINUX_SIZE])
{
    memset(image, 0, LINUX_SIZE);
    struct setup_header *h = (void *)(image + 0x1f1);
    *h = (struct setup_header){
        .setup_sects = 1,
        .syssize = LINUX_PAYLOAD / 16,
        .boot_flag = 0xaa55,
        .jump = 0x66eb, /* the header ends at 0x202 + 0x66 */
        .header = 0x53726448,
        .version = 0x020f,
        .loadflags = LOADED_HIGH,
        .code32_start = 0x100000,
        .initrd_addr_max = 0x7fffffff,
        .kernel_alignment = 0x200000,
        .relocatable_kernel = 1,
        .xloadflags = XLF_KERNEL_64,
        .cmdline_size = 2047,
        .pref_address = 16 * MIB,
        .init_size = MIB,
    };
    memset(image + 1024, 0x5a, LINUX_PAYLOAD);
    return h;
}

static void test_linux(void)
{
    static uint8_t image[LINUX_SIZE];
    struct boot_entry e;
    struct boot_params bp;
    char cmdline[32];
    ERROR_SCOPED(err);
    struct temp initrd;
    temp_make(&initrd, "initrd contents", 15);
    linux_make(image);
    CHECK(load(image, sizeof image, initrd.path, "hello", &e, &err) == 0);
    CHECK(e.long_mode);
    CHECK_EQ(e.rip, 16 * MIB + 0x200);
    CHECK_EQ(e.rsi, BOOT_PARAMS);
    CHECK(guestmem_read(&mem, BOOT_PARAMS, &bp, sizeof bp) == 0);
    CHECK_EQ(bp.hdr.type_of_loader, 0xff);
    CHECK_EQ(bp.acpi_rsdp_addr, MEM_TABLES);
    CHECK_EQ(bp.e820_entries, map.count);
    CHECK_EQ(bp.hdr.ramdisk_size, 15);
    CHECK_EQ(bp.hdr.ramdisk_image, RAM - PAGE_SIZE);
    CHECK(memcmp(guestmem_ptr(&mem, bp.hdr.ramdisk_image, 15), "initrd contents", 15) == 0);
    CHECK(guestmem_read(&mem, bp.hdr.cmd_line_ptr, cmdline, 6) == 0 && strcmp(cmdline, "hello") == 0);
    CHECK_EQ(*(uint8_t *)guestmem_ptr(&mem, 16 * MIB, 1), 0x5a);
    CHECK_EQ(*(uint8_t *)guestmem_ptr(&mem, 0x413, 1) | *(uint8_t *)guestmem_ptr(&mem, 0x414, 1) << 8,
             639); /* BIOS data area: KiB */

    struct setup_header *h = linux_make(image);
    h->pref_address = 16 * GIB; /* not there: moved */
    CHECK(load(image, sizeof image, NULL, NULL, &e, &err) == 0);
    CHECK_EQ(e.rip, 0x200000 + 0x200);
    h = linux_make(image);
    h->xloadflags = 0; /* no 64-bit entry */
    CHECK(load(image, sizeof image, NULL, NULL, &e, &err) == 0);
    CHECK(!e.long_mode);
    CHECK_EQ(e.rip, 16 * MIB);
    linux_make(image); /* the last paragraph is not whole */
    CHECK(load(image, LINUX_SIZE - 15, NULL, NULL, &e, &err) == 0);
    CHECK_EQ(e.rip, 16 * MIB + 0x200);
    close(initrd.fd);
}

static void test_linux_hostile(void)
{
    static uint8_t image[LINUX_SIZE];
    struct temp big;
    struct setup_header *h = linux_make(image);
    refuse(image, LINUX_SIZE - 16, NULL, NULL, "truncated");
    refuse(image, 0x210, NULL, NULL, "truncated");
    h->syssize = UINT32_MAX;
    refuse(image, sizeof image, NULL, NULL, "truncated");
    h = linux_make(image), h->syssize = 0;
    refuse(image, sizeof image, NULL, NULL, "empty");
    h = linux_make(image), h->version = 0x0203;
    refuse(image, sizeof image, NULL, NULL, "too old");
    h = linux_make(image), h->loadflags = 0;
    refuse(image, sizeof image, NULL, NULL, "zImage");
    h = linux_make(image), h->init_size = UINT32_MAX;
    refuse(image, sizeof image, NULL, NULL, "does not fit");
    h = linux_make(image), h->pref_address = UINT64_MAX - 100, h->relocatable_kernel = 0;
    refuse(image, sizeof image, NULL, NULL, "does not fit");
    h = linux_make(image), h->pref_address = 0x1000, h->relocatable_kernel = 0;
    refuse(image, sizeof image, NULL, NULL, "does not fit");
    h = linux_make(image), h->kernel_alignment = 3, h->pref_address = 0;
    refuse(image, sizeof image, NULL, NULL, "does not fit");
    h = linux_make(image), h->initrd_addr_max = 0;
    refuse(image, sizeof image, "/proc/self/exe", NULL, "does not fit");
    h = linux_make(image), h->cmdline_size = 3;
    refuse(image, sizeof image, NULL, "four", "command line");
    linux_make(image);
    refuse(image, sizeof image, "/nonexistent", NULL, "/nonexistent");
    refuse(image, sizeof image, "/tmp", NULL, "not a regular file");
    temp_make(&big, "", 0);
    CHECK(ftruncate(big.fd, 3 * (off_t)GIB) == 0);
    refuse(image, sizeof image, big.path, NULL, "does not fit");
    close(big.fd);
}

/* ---- ELF, PVH, Multiboot ---- */

#define ELF_LOAD  0x400000u
#define ELF_FILE  4096u
#define ELF_NOTE  512u
#define ELF_CODE  1024u
#define ELF_MBOOT 256u

struct elf_image {
    uint8_t bytes[ELF_FILE];
};

/* Two program headers: a note, and a segment of 1 KiB in the file and 64 KiB in memory. */
static Elf64_Phdr *elf_make(struct elf_image *im, bool note, bool multiboot)
{
    memset(im, 0, sizeof *im);
    Elf64_Ehdr *h = (void *)im->bytes;
    memcpy(h->e_ident, ELFMAG, SELFMAG);
    h->e_ident[EI_CLASS] = ELFCLASS64;
    h->e_ident[EI_DATA] = ELFDATA2LSB;
    h->e_type = ET_EXEC;
    h->e_machine = EM_X86_64;
    h->e_entry = ELF_LOAD + 16;
    h->e_phoff = sizeof *h;
    h->e_phentsize = sizeof(Elf64_Phdr);
    h->e_phnum = 2;
    Elf64_Phdr *p = (void *)(im->bytes + sizeof *h);
    p[0] = (Elf64_Phdr){.p_type = note ? PT_NOTE : PT_NULL, .p_offset = ELF_NOTE, .p_filesz = 20, .p_align = 4};
    p[1] = (Elf64_Phdr){.p_type = PT_LOAD, .p_offset = ELF_CODE, .p_paddr = ELF_LOAD, .p_filesz = 1024, .p_memsz = 65536};
    const uint32_t words[] = {4, 4, 18, 0x006e6558 /* "Xen" */, ELF_LOAD + 32};
    memcpy(im->bytes + ELF_NOTE, words, sizeof words);
    memset(im->bytes + ELF_CODE, 0xcc, 1024);
    const uint32_t header[] = {0x1badb002, 3, -(0x1badb002u + 3)};
    if (multiboot)
        memcpy(im->bytes + ELF_MBOOT, header, sizeof header);
    return p;
}

static void test_pvh(void)
{
    static struct elf_image im;
    struct boot_entry e;
    uint32_t magic;
    ERROR_SCOPED(err);
    elf_make(&im, true, false);
    CHECK(load(&im, sizeof im, "/proc/self/exe", "x", &e, &err) == 0);
    CHECK(!e.long_mode);
    CHECK_EQ(e.rip, ELF_LOAD + 32);
    CHECK(guestmem_read(&mem, e.rbx, &magic, 4) == 0);
    CHECK_EQ(magic, 0x336ec578);
    CHECK_EQ(*(uint8_t *)guestmem_ptr(&mem, ELF_LOAD + 1023, 1), 0xcc);
    elf_make(&im, false, false);
    refuse(&im, sizeof im, NULL, NULL, "CONFIG_PVH");
}

static void test_elf_hostile(void)
{
    static struct elf_image im;
    Elf64_Ehdr *h = (void *)im.bytes;
    Elf64_Phdr *p;
    elf_make(&im, true, false), h->e_phoff = UINT64_MAX - 10;
    refuse(&im, sizeof im, NULL, NULL, "");
    elf_make(&im, true, false), h->e_phnum = UINT16_MAX;
    refuse(&im, sizeof im, NULL, NULL, "malformed");
    elf_make(&im, true, false), h->e_phentsize = 0;
    refuse(&im, sizeof im, NULL, NULL, "malformed");
    elf_make(&im, true, false), h->e_machine = EM_AARCH64;
    refuse(&im, sizeof im, NULL, NULL, "another kind of CPU");
    elf_make(&im, true, false), h->e_type = ET_REL;
    refuse(&im, sizeof im, NULL, NULL, "no executable");
    elf_make(&im, true, false);
    refuse(&im, 40, NULL, NULL, "truncated");
    refuse(&im, ELF_CODE + 1023, NULL, NULL, "truncated");
    p = elf_make(&im, true, false), p[1].p_filesz = 65537;
    refuse(&im, sizeof im, NULL, NULL, "larger in the file");
    p = elf_make(&im, true, false), p[1].p_paddr = UINT64_MAX - 4095;
    refuse(&im, sizeof im, NULL, NULL, "does not fit");
    p = elf_make(&im, true, false), p[1].p_paddr = BOOT_PARAMS;
    refuse(&im, sizeof im, NULL, NULL, "does not fit");
    p = elf_make(&im, true, false), p[1].p_memsz = UINT64_MAX;
    refuse(&im, sizeof im, NULL, NULL, "does not fit");
    p = elf_make(&im, true, false), p[1].p_offset = UINT64_MAX - 1;
    refuse(&im, sizeof im, NULL, NULL, "truncated");
    p = elf_make(&im, true, false), p[0].p_filesz = UINT64_MAX;
    refuse(&im, sizeof im, NULL, NULL, "truncated");
    p = elf_make(&im, true, false), p[1].p_type = PT_NULL;
    refuse(&im, sizeof im, NULL, NULL, "nothing to load");
    elf_make(&im, true, false);
    memcpy(im.bytes + ELF_NOTE + 16, &(uint32_t){0x100}, 4);
    refuse(&im, sizeof im, NULL, NULL, "outside");
    elf_make(&im, true, false);
    memcpy(im.bytes + ELF_NOTE, &(uint32_t){UINT32_MAX}, 4);
    refuse(&im, sizeof im, NULL, NULL, "CONFIG_PVH");
}

/* The information structure, as words: 5 = mods_count, 6 = mods_addr (Multiboot 0.6.96, 3.3). */
static void test_multiboot(void)
{
    static struct elf_image im;
    struct boot_entry e;
    struct temp a, b;
    char list[160];
    uint32_t info[12], module[4];
    ERROR_SCOPED(err);
    temp_make(&a, "first", 5);
    temp_make(&b, "second one", 10);
    snprintf(list, sizeof list, "%s arg=1,,2,%s", a.path, b.path);
    elf_make(&im, false, true);
    CHECK(load(&im, sizeof im, list, "opt", &e, &err) == 0);
    CHECK_EQ(e.rax, 0x2badb002);
    CHECK_EQ(e.rip, ELF_LOAD + 16);
    CHECK(guestmem_read(&mem, e.rbx, info, sizeof info) == 0);
    CHECK_EQ(info[5], 2);
    CHECK(guestmem_read(&mem, info[6], module, sizeof module) == 0);
    CHECK_EQ(module[0] % PAGE_SIZE, 0);
    CHECK_EQ(module[1] - module[0], 5);
    CHECK(memcmp(guestmem_ptr(&mem, module[0], 5), "first", 5) == 0);
    const char *string = guestmem_ptr(&mem, module[2], 64);
    CHECK(string && strstr(string, " arg=1,2") && string[strlen(string) - 1] == '2');
    CHECK(guestmem_read(&mem, info[6] + 16, module, sizeof module) == 0);
    CHECK(memcmp(guestmem_ptr(&mem, module[0], 10), "second one", 10) == 0);
    const char *cmdline = guestmem_ptr(&mem, info[4], 64);
    CHECK(cmdline && strstr(cmdline, " opt"));
    refuse(&im, sizeof im, "/nonexistent-module x", NULL, "/nonexistent-module");
    close(a.fd);
    close(b.fd);
}

/* The load addresses of the header instead of ELF (3.1.3). */
static void test_multiboot_addresses(void)
{
    uint32_t image[64] = {0x1badb002, 0x10000, -(0x1badb002u + 0x10000), 0x200000, 0x200000, 0, 0, 0x200020};
    struct boot_entry e;
    ERROR_SCOPED(err);
    image[8] = 0xfeedface;
    CHECK(load(image, sizeof image, NULL, NULL, &e, &err) == 0);
    CHECK_EQ(e.rip, 0x200020);
    CHECK_EQ(*(uint32_t *)guestmem_ptr(&mem, 0x200020, 4), 0xfeedface);
    image[4] = 0x300000; /* load_addr above header_addr */
    refuse(image, sizeof image, NULL, NULL, "impossible");
    image[4] = 0x100000; /* the header lies further in than the file's offset allows */
    refuse(image, sizeof image, NULL, NULL, "impossible");
    image[4] = 0x200000, image[5] = 0x100000;
    refuse(image, sizeof image, NULL, NULL, "impossible");
    image[5] = 0x200000 + sizeof image + 1;
    refuse(image, sizeof image, NULL, NULL, "truncated");
    image[5] = 0, image[6] = 0xfffffff0;
    refuse(image, sizeof image, NULL, NULL, "does not fit");
    image[6] = 0, image[1] = 0x10008, image[2] = -(0x1badb002u + 0x10008);
    refuse(image, sizeof image, NULL, NULL, "features");
}

static void test_no_kernel(void)
{
    char text[600];
    memset(text, 'x', sizeof text);
    refuse(text, sizeof text, NULL, NULL, "not a kernel");
    refuse("", 0, NULL, NULL, "empty");
    refuse("\x1f\x8b", 2, NULL, NULL, "gunzip");
    refuse("\x7f"
           "ELF",
           4, NULL, NULL, "not a kernel");
}

/* Headers changed at random: loaded or refused, never worse. (The sanitizer round makes this count.) */
static void test_mutations(uint64_t seed)
{
    struct rnd r = {seed};
    static union {
        uint8_t linux_image[LINUX_SIZE];
        struct elf_image elf;
    } u;
    for (unsigned i = 0; i < 3000; i++) {
        struct boot_entry e;
        ERROR_SCOPED(err);
        unsigned kind = i % 3, from = kind ? 0 : 0x1f1, n = kind ? 600 : 120;
        size_t size = kind ? sizeof u.elf : sizeof u.linux_image;
        if (kind)
            elf_make(&u.elf, kind == 1, kind == 2);
        else
            linux_make(u.linux_image);
        for (unsigned j = rnd_below(&r, 4) + 1; j; j--) {
            uint8_t *p = (uint8_t *)&u + from + rnd_below(&r, n);
            *p = rnd_below(&r, 3) ? (uint8_t)rnd64(&r) : 0xff;
        }
        if (load(&u, rnd_below(&r, 4) ? size : rnd_below(&r, (uint32_t)size), NULL, "c", &e, &err) < 0)
            CHECK(error_is_set(&err));
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : now_ns() | 1;
    ERROR_SCOPED(err);
    printf("seed %llu\n", (unsigned long long)seed);
    CHECK(guestmem_init(&mem, RAM, MEM_LOW_LIMIT, &err) == 0);
    e820_build(&map, &mem);
    test_linux();
    test_linux_hostile();
    test_pvh();
    test_elf_hostile();
    test_multiboot();
    test_multiboot_addresses();
    test_no_kernel();
    test_mutations(seed);
    guestmem_free(&mem);
    return 0;
}
