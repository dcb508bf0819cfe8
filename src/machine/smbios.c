// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Each structure is a formatted part of fixed layout, and strings behind it, counted from 1 and ended by an empty one
 * (DSP0134, 6.1). All of them are built here from literals, so that SMBIOS_MAX bytes are known to be enough.
 */
#include "machine/smbios.h"

#include <assert.h>
#include <string.h>

#include "base/util.h"
#include "machine/memmap.h"

enum {
    T_BIOS = 0,
    T_SYSTEM = 1,
    T_CHASSIS = 3,
    T_PROCESSOR = 4,
    T_ARRAY = 16,
    T_MEMORY = 17,
    T_MAPPED = 19,
    T_BOOT = 32,
    T_END = 127
};
enum {
    HANDLE_BIOS = 0x000,
    HANDLE_SYSTEM = 0x100,
    HANDLE_CHASSIS = 0x300,
    HANDLE_CPU = 0x400,
    HANDLE_ARRAY = 0x1000,
    HANDLE_MEMORY = 0x1100,
    HANDLE_MAPPED = 0x1300,
    HANDLE_BOOT = 0x2000,
    HANDLE_END = 0x7f00
};

struct header {
    uint8_t type, len;
    uint16_t handle;
} __attribute__((packed));

struct bios {
    struct header h;
    uint8_t vendor, version;
    uint16_t segment;
    uint8_t date, rom_size;
    uint64_t characteristics;
    uint8_t extension[2], major, minor, ec_major, ec_minor;
} __attribute__((packed));

struct system_info {
    struct header h;
    uint8_t manufacturer, product, version, serial, uuid[16], wake_up, sku, family;
} __attribute__((packed));

struct chassis {
    struct header h;
    uint8_t manufacturer, type, version, serial, asset, boot_state, power_state, thermal_state, security;
    uint32_t oem;
    uint8_t height, cords, elements, element_len, sku;
} __attribute__((packed));

struct processor {
    struct header h;
    uint8_t socket, type, family, manufacturer;
    uint64_t id;
    uint8_t version, voltage;
    uint16_t clock, max_speed, speed;
    uint8_t status, upgrade;
    uint16_t cache[3];
    uint8_t serial, asset, part, cores, enabled, threads;
    uint16_t characteristics, family2, cores2, enabled2, threads2;
} __attribute__((packed));

struct memory_array {
    struct header h;
    uint8_t location, use, correction;
    uint32_t capacity_kib;
    uint16_t error_handle, devices;
    uint64_t capacity;
} __attribute__((packed));

struct memory_device {
    struct header h;
    uint16_t array, error_handle, width, data_width, size_mib;
    uint8_t form, set, locator, bank, type;
    uint16_t detail, speed;
    uint8_t manufacturer, serial, asset, part, attributes;
    uint32_t size_extended_mib;
    uint16_t clock, voltage[3];
} __attribute__((packed));

struct mapped {
    struct header h;
    uint32_t start_kib, end_kib;
    uint16_t array;
    uint8_t width;
    uint64_t start, end;
} __attribute__((packed));

struct boot {
    struct header h;
    uint8_t reserved[6], status;
} __attribute__((packed));

/* Appends a structure of `len` bytes and its strings, a list that ends with NULL. */
static void put(struct smbios *s, void *structure, size_t len, const char *const *strings)
{
    struct header *h = structure;
    h->len = (uint8_t)len;
    assert(s->len + len + 256 < SMBIOS_MAX);
    memcpy(s->data + s->len, structure, len);
    s->len += len;
    for (unsigned i = 0; strings && strings[i]; i++) {
        size_t n = strlen(strings[i]) + 1;
        memcpy(s->data + s->len, strings[i], n);
        s->len += n;
    }
    /* The empty string; without any string there are two zeroes. */
    s->data[s->len++] = 0;
    if (!strings)
        s->data[s->len++] = 0;
}

static void put_machine(struct smbios *s, const struct smbios_config *cfg)
{
    struct bios bios = {.h = {T_BIOS, 0, HANDLE_BIOS},
                        .vendor = 1,
                        .version = 2,
                        .segment = 0xe800,
                        .date = 3,
                        .characteristics = 1 << 3,         /* no characteristics are told */
                        .extension = {0, 1 << 4 | 1 << 2}, /* a virtual machine; targeted content distribution */
                        .ec_major = 0xff,
                        .ec_minor = 0xff};
    struct system_info sys = {
        .h = {T_SYSTEM, 0, HANDLE_SYSTEM}, .manufacturer = 1, .product = 2, .version = 3, .wake_up = 6 /* switch */};
    struct chassis ch = {.h = {T_CHASSIS, 0, HANDLE_CHASSIS},
                         .manufacturer = 1,
                         .type = 1, /* other */
                         .boot_state = 3,
                         .power_state = 3,
                         .thermal_state = 3,
                         .security = 2};
    /* The UUID's first three fields are little-endian (7.2.1). */
    static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    for (unsigned i = 0; i < 16; i++)
        sys.uuid[i] = cfg->uuid[order[i]];
    put(s, &bios, sizeof bios, (const char *const[]){"Lodge", "1", "01/01/2024", NULL});
    put(s, &sys, sizeof sys, (const char *const[]){"Lodge", "Lodge virtual machine", "q35", NULL});
    put(s, &ch, sizeof ch, (const char *const[]){"Lodge", NULL});
}

static void put_cpus(struct smbios *s, unsigned cpus)
{
    struct processor p = {.h = {T_PROCESSOR, 0, HANDLE_CPU},
                          .socket = 1,
                          .type = 3,   /* central processor */
                          .family = 1, /* other */
                          .manufacturer = 2,
                          .status = 0x41,
                          .upgrade = 1,
                          .cache = {0xffff, 0xffff, 0xffff},
                          .characteristics = 1 << 2, /* 64 bits */
                          .family2 = 1,
                          .cores2 = (uint16_t)cpus,
                          .enabled2 = (uint16_t)cpus,
                          .threads2 = (uint16_t)cpus};
    p.cores = p.enabled = p.threads = (uint8_t)MIN(cpus, 255u);
    put(s, &p, sizeof p, (const char *const[]){"CPU 0", "Lodge", NULL});
}

static void put_memory(struct smbios *s, const struct guestmem *mem)
{
    uint64_t mib = mem->total / MIB;
    bool large = mib >= 0x7fff, beyond = mem->total / KIB >= 0x80000000ull;
    struct memory_array array = {.h = {T_ARRAY, 0, HANDLE_ARRAY},
                                 .location = 1,
                                 .use = 3, /* system memory */
                                 .correction = 3,
                                 .capacity_kib = beyond ? 0x80000000u : (uint32_t)(mem->total / KIB),
                                 .error_handle = 0xfffe,
                                 .devices = 1,
                                 .capacity = beyond ? mem->total : 0};
    struct memory_device dev = {.h = {T_MEMORY, 0, HANDLE_MEMORY},
                                .array = HANDLE_ARRAY,
                                .error_handle = 0xfffe,
                                .width = 0xffff,
                                .data_width = 0xffff,
                                .size_mib = large ? 0x7fff : (uint16_t)mib,
                                .form = 9, /* DIMM */
                                .locator = 1,
                                .type = 7, /* RAM */
                                .detail = 1 << 1,
                                .manufacturer = 2,
                                .size_extended_mib = large ? (uint32_t)mib : 0};
    put(s, &array, sizeof array, NULL);
    put(s, &dev, sizeof dev, (const char *const[]){"DIMM 0", "Lodge", NULL});
    for (unsigned i = 0; i < mem->count; i++) {
        uint64_t start = mem->regions[i].gpa, end = start + mem->regions[i].size - 1;
        bool wide = end / KIB >= 0xffffffffull;
        struct mapped m = {.h = {T_MAPPED, 0, (uint16_t)(HANDLE_MAPPED + i)},
                           .start_kib = wide ? 0xffffffffu : (uint32_t)(start / KIB),
                           .end_kib = wide ? 0xffffffffu : (uint32_t)(end / KIB),
                           .array = HANDLE_ARRAY,
                           .width = 1,
                           .start = wide ? start : 0,
                           .end = wide ? end : 0};
        put(s, &m, sizeof m, NULL);
    }
}

/* Makes the bytes of [from, from + len) of the anchor add up to zero (5.2.1). */
static void anchor_sum(struct smbios *s, unsigned from, unsigned len, unsigned at)
{
    uint8_t sum = 0;
    s->anchor[at] = 0;
    for (unsigned i = 0; i < len; i++)
        sum = (uint8_t)(sum + s->anchor[from + i]);
    s->anchor[at] = (uint8_t)-sum;
}

static void anchor_sums(struct smbios *s)
{
    anchor_sum(s, 16, 15, 21);
    anchor_sum(s, 0, SMBIOS_ANCHOR_SIZE, 4);
}

/* The size of the largest structure, strings included, and the number of structures. */
static unsigned count(const struct smbios *s, uint16_t *largest)
{
    unsigned n = 0;
    *largest = 0;
    for (size_t at = 0; at < s->len; n++) {
        size_t end = at + s->data[at + 1];
        while (s->data[end] || s->data[end + 1])
            end++;
        end += 2;
        *largest = (uint16_t)MAX((size_t)*largest, end - at);
        at = end;
    }
    return n;
}

static void fill_anchor(struct smbios *s)
{
    uint16_t largest, len = (uint16_t)s->len, structures = (uint16_t)count(s, &largest);
    memcpy(s->anchor, "_SM_\0\x1f\x02\x08", 8); /* length 31, version 2.8 */
    memcpy(s->anchor + 8, &largest, 2);
    memcpy(s->anchor + 16, "_DMI_", 5);
    memcpy(s->anchor + 22, &len, 2);
    memcpy(s->anchor + 28, &structures, 2);
    s->anchor[30] = 0x28;
    anchor_sums(s);
}

void smbios_build(const struct smbios_config *cfg, struct smbios *s)
{
    struct boot boot = {.h = {T_BOOT, 0, HANDLE_BOOT}};
    struct header end = {T_END, 0, HANDLE_END};
    *s = (struct smbios){.len = 0};
    put_machine(s, cfg);
    put_cpus(s, cfg->cpus);
    put_memory(s, cfg->mem);
    put(s, &boot, sizeof boot, NULL);
    put(s, &end, sizeof end, NULL);
    fill_anchor(s);
}

void smbios_install(struct smbios *s, struct guestmem *mem)
{
    const uint32_t at = MEM_SMBIOS + ALIGN_UP(SMBIOS_ANCHOR_SIZE, 16);
    memcpy(s->anchor + 24, &at, sizeof at);
    anchor_sums(s);
    guestmem_write(mem, MEM_SMBIOS, s->anchor, sizeof s->anchor);
    guestmem_write(mem, at, s->data, s->len);
}
