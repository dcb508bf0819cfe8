// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The files of fw_cfg. The ACPI tables come with a script, etc/table-loader, whose commands of 128 bytes each are: load a file into
 * memory, add a file's address to a pointer in another, set a checksum. SeaBIOS and OVMF carry it out.
 */
#include "machine/firmware.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "machine/e820.h"
#include "machine/memmap.h"
#include "machine/pm.h"

#define FILE_RSDP   "etc/acpi/rsdp"
#define FILE_TABLES "etc/acpi/tables"

enum { LOAD_ALLOCATE = 1, LOAD_POINTER = 2, LOAD_CHECKSUM = 3 };
enum { ZONE_HIGH = 1, ZONE_FSEG = 2 };

/* Little-endian. */
struct load_command {
    uint32_t command;
    union {
        struct {
            char file[56];
            uint32_t align;
            uint8_t zone;
        } __attribute__((packed)) allocate;
        struct {
            char file[56], source[56]; /* the pointer is in `file`, and points into `source` */
            uint32_t offset;
            uint8_t size;
        } __attribute__((packed)) pointer;
        struct {
            char file[56];
            uint32_t offset, start, len;
        } __attribute__((packed)) checksum;
        uint8_t room[124];
    };
} __attribute__((packed));
_Static_assert(sizeof(struct load_command) == 128, "the commands have a fixed size");

struct load_script {
    struct load_command commands[ACPI_POINTERS + ACPI_SUMS + 8];
    unsigned count;
};

static struct load_command *add_command(struct load_script *s, uint32_t command)
{
    struct load_command *c = &s->commands[s->count++];
    *c = (struct load_command){.command = command};
    return c;
}

static void load_file(struct load_script *s, const char *file, uint32_t align, uint8_t zone)
{
    struct load_command *c = add_command(s, LOAD_ALLOCATE);
    strcpy(c->allocate.file, file);
    c->allocate.align = align;
    c->allocate.zone = zone;
}

static void load_pointer(struct load_script *s, const char *file, uint32_t offset, uint8_t size)
{
    struct load_command *c = add_command(s, LOAD_POINTER);
    strcpy(c->pointer.file, file);
    strcpy(c->pointer.source, FILE_TABLES);
    c->pointer.offset = offset;
    c->pointer.size = size;
}

static void load_checksum(struct load_script *s, const char *file, uint32_t offset, uint32_t start, uint32_t len)
{
    struct load_command *c = add_command(s, LOAD_CHECKSUM);
    strcpy(c->checksum.file, file);
    c->checksum.offset = offset;
    c->checksum.start = start;
    c->checksum.len = len;
}

static int describe_acpi(const struct firmware_config *cfg, struct fwcfg *f, struct error *err)
{
    struct acpi_tables t;
    AUTO_FREE struct load_script *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, ENOMEM, "ACPI tables: out of memory");
    if (acpi_tables_make(cfg->acpi, &t, err) < 0)
        return -1;
    load_file(s, FILE_RSDP, 16, ZONE_FSEG);
    load_file(s, FILE_TABLES, 64, ZONE_HIGH);
    for (unsigned i = 0; i < t.npointers; i++)
        load_pointer(s, FILE_TABLES, t.pointers[i].at, t.pointers[i].size);
    for (unsigned i = 0; i < t.nsums; i++)
        load_checksum(s, FILE_TABLES, t.sums[i].at, t.sums[i].start, t.sums[i].len);
    load_pointer(s, FILE_RSDP, ACPI_RSDP_XSDT, 8);
    load_checksum(s, FILE_RSDP, ACPI_RSDP_SUM, 0, ACPI_RSDP_SUM_LEN);
    load_checksum(s, FILE_RSDP, ACPI_RSDP_SUM2, 0, ACPI_RSDP_SIZE);
    int r = fwcfg_add_file(f, FILE_RSDP, t.rsdp, sizeof t.rsdp, err);
    if (r == 0)
        r = fwcfg_add_file(f, FILE_TABLES, t.data, t.len, err);
    if (r == 0)
        r = fwcfg_add_file(f, "etc/table-loader", s->commands, s->count * sizeof s->commands[0], err);
    acpi_tables_free(&t);
    return r;
}

static int describe_smbios(const struct firmware_config *cfg, struct fwcfg *f, struct error *err)
{
    struct smbios s;
    struct smbios_config smbios = {.cpus = cfg->cpus, .mem = cfg->mem};
    memcpy(smbios.uuid, cfg->uuid, sizeof smbios.uuid);
    smbios_build(&smbios, &s);
    if (fwcfg_add_file(f, "etc/smbios/smbios-anchor", s.anchor, sizeof s.anchor, err) < 0)
        return -1;
    return fwcfg_add_file(f, "etc/smbios/smbios-tables", s.data, s.len, err);
}

/* RAM, the page of the VM generation ID and KVM's own pages; what else is reserved is the firmware's doing. */
static int describe_memory(const struct firmware_config *cfg, struct fwcfg *f, struct error *err)
{
    struct e820_entry map[GUESTMEM_REGIONS + 1];
    unsigned n = 0;
    for (; n < cfg->mem->count; n++)
        map[n] = (struct e820_entry){cfg->mem->regions[n].gpa, cfg->mem->regions[n].size, E820_RAM};
    map[n++] = (struct e820_entry){MEM_GENID, 5 * PAGE_SIZE, E820_RESERVED};
    return fwcfg_add_file(f, "etc/e820", map, n * sizeof map[0], err);
}

static int describe_order(const struct boot_order *o, struct fwcfg *f, struct error *err)
{
    char text[BOOT_TEXT_MAX];
    return fwcfg_add_file(f, "bootorder", text, boot_order_text(o, text), err);
}

int firmware_describe(const struct firmware_config *cfg, struct fwcfg *f, struct error *err)
{
    const uint16_t cpus = (uint16_t)cfg->cpus, menu = cfg->menu;
    /* Bit 7: the state exists; below, its sleep type. Only S0 and S5 do. */
    const uint8_t states[6] = {0x80, 0, 0, 0, 0, 0x80 | PM_SLP_TYP_S5};
    if (fwcfg_add(f, FWCFG_NB_CPUS, &cpus, sizeof cpus, err) < 0 || fwcfg_add(f, FWCFG_MAX_CPUS, &cpus, sizeof cpus, err) < 0 ||
        fwcfg_add(f, FWCFG_BOOT_MENU, &menu, sizeof menu, err) < 0 ||
        fwcfg_add_file(f, "etc/system-states", states, sizeof states, err) < 0 || describe_memory(cfg, f, err) < 0 ||
        describe_acpi(cfg, f, err) < 0 || describe_smbios(cfg, f, err) < 0)
        return -1;
    if (cfg->menu_ms && fwcfg_add_number(f, "etc/boot-menu-wait", cfg->menu_ms, err) < 0)
        return -1;
    if (cfg->serial && fwcfg_add_number(f, "etc/sercon-port", cfg->serial, err) < 0)
        return -1;
    return cfg->order->count ? describe_order(cfg->order, f, err) : 0;
}
