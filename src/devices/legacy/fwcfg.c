// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * fw_cfg. A guest writes a key to the selector port and reads the item byte by byte from the data port; or it writes the address of
 * a control block to the DMA register, and the whole transfer is done when the write returns. Reading past an item gives zeroes.
 *
 * The control block is read once and checked in the copy; the guest's buffer must be RAM. A transfer that asks for more than
 * DMA_MAX bytes fails, so that one register write never takes long.
 */
#include "devices/legacy/fwcfg.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"

enum { OFF_SELECTOR = 0, OFF_DATA = 1, OFF_DMA = 4, OFF_DMA_LOW = 8 };

#define KEY_SIGNATURE 0x00
#define KEY_ID        0x01
#define KEY_DIRECTORY 0x19
#define KEY_FILES     0x20    /* the first file's */
#define KEY_MASK      0xbfffu /* without the bit that old versions took for writing */

#define ID_TRADITIONAL 1u
#define ID_DMA         2u

#define DMA_ERROR  0x01u
#define DMA_READ   0x02u
#define DMA_SKIP   0x04u
#define DMA_SELECT 0x08u /* the key is in the upper half */
#define DMA_WRITE  0x10u
#define DMA_MAX    (16u << 20) /* bytes */

#define FILES_MAX 64u
#define ITEMS_MAX (FILES_MAX + 8)

struct fwcfg_item {
    uint16_t key;
    bool writable;
    uint32_t len;
    uint8_t *data; /* owned */
};

/* The directory's entry; numbers are big-endian. */
struct fwcfg_file {
    uint32_t size;
    uint16_t select, reserved;
    char name[FWCFG_NAME_MAX + 1];
} __attribute__((packed));

struct fwcfg_directory {
    uint32_t count;
    struct fwcfg_file files[FILES_MAX];
} __attribute__((packed));

/* All big-endian. */
struct fwcfg_dma {
    uint32_t control, length;
    uint64_t address;
} __attribute__((packed));

struct fwcfg {
    struct bus *bus;
    struct fwcfg_item items[ITEMS_MAX];
    unsigned nitems, nfiles;
    struct fwcfg_directory directory;
    uint16_t key;    /* selected */
    uint32_t offset; /* of the next byte in it */
    uint64_t dma;    /* the DMA register, as far as it was written */
    bool mapped;
};

static const struct field fwcfg_fields[] = {
    FIELD(FIELD_U16, struct fwcfg, key),
    FIELD(FIELD_U32, struct fwcfg, offset),
    FIELD(FIELD_U64, struct fwcfg, dma),
    {0},
};
const struct device_desc fwcfg_desc = {
    .name = "fw-cfg",
    .fields = fwcfg_fields,
    .why_unsaved = "the files that the guest wrote are not among its fields",
    .reset = fwcfg_reset,
};

static struct fwcfg_item *find(const struct fwcfg *f, unsigned key)
{
    for (unsigned i = 0; i < f->nitems; i++)
        if (f->items[i].key == (key & KEY_MASK))
            return (struct fwcfg_item *)&f->items[i];
    return NULL;
}

/* ---- transfers ---- */

/* The part of a transfer of `len` bytes at the offset that the item has. */
static uint32_t within(const struct fwcfg *f, const struct fwcfg_item *item, uint32_t len)
{
    return item && f->offset < item->len ? MIN(len, item->len - f->offset) : 0;
}

static uint8_t read_byte(struct fwcfg *f)
{
    const struct fwcfg_item *item = find(f, f->key);
    uint8_t v = within(f, item, 1) ? item->data[f->offset] : 0;
    f->offset += f->offset < UINT32_MAX;
    return v;
}

static void select_key(struct fwcfg *f, uint16_t key)
{
    f->key = key;
    f->offset = 0;
}

static bool transfer(struct fwcfg *f, uint32_t control, uint32_t len, uint64_t gpa)
{
    struct fwcfg_item *item = find(f, f->key);
    uint32_t have = within(f, item, len);
    if (control & (DMA_READ | DMA_WRITE)) {
        uint8_t *mem = len && len <= DMA_MAX ? guestmem_ptr(f->bus->mem, gpa, len) : NULL;
        if (len && !mem)
            return false;
        if (control & DMA_READ) {
            if (have)
                memcpy(mem, item->data + f->offset, have);
            if (len > have)
                memset(mem + have, 0, len - have);
        } else {
            if (!item || !item->writable || have != len)
                return false;
            if (have)
                memcpy(item->data + f->offset, mem, have);
        }
    }
    f->offset = f->offset + len < f->offset ? UINT32_MAX : f->offset + len;
    return true;
}

static void run_dma(struct fwcfg *f, uint64_t gpa)
{
    struct fwcfg_dma d;
    if (guestmem_read(f->bus->mem, gpa, &d, sizeof d) < 0)
        return; /* there is no place for an error either */
    uint32_t control = be32toh(d.control), status = 0;
    if (control & DMA_SELECT)
        select_key(f, (uint16_t)(control >> 16));
    if ((control & (DMA_READ | DMA_WRITE | DMA_SKIP)) && !transfer(f, control, be32toh(d.length), be64toh(d.address)))
        status = htobe32(DMA_ERROR);
    guestmem_write(f->bus->mem, gpa, &status, sizeof status);
}

/* ---- ports ---- */

/* The DMA register reads as "QEMU CFG", which says that it is there; like its value it is big-endian. */
static uint64_t fwcfg_read(void *dev, uint64_t off, unsigned size)
{
    static const char signature[] = "QEMU CFG";
    struct fwcfg *f = dev;
    uint64_t v = 0;
    if (off == OFF_DATA && size == 1)
        return read_byte(f);
    if (off >= OFF_DMA)
        memcpy(&v, signature + (off - OFF_DMA), size);
    return v;
}

static void fwcfg_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct fwcfg *f = dev;
    if (off == OFF_SELECTOR && size == 2) {
        select_key(f, (uint16_t)val);
    } else if (off == OFF_DMA && size == 4) {
        f->dma = (uint64_t)be32toh((uint32_t)val) << 32;
    } else if ((off == OFF_DMA_LOW && size == 4) || (off == OFF_DMA && size == 8)) {
        uint64_t gpa = size == 8 ? be64toh(val) : f->dma | be32toh((uint32_t)val);
        f->dma = 0;
        run_dma(f, gpa);
    }
}

static const struct io_ops fwcfg_io = {.read = fwcfg_read, .write = fwcfg_write};

/* ---- items ---- */

static int add_item(struct fwcfg *f, uint16_t key, const void *data, size_t len, bool writable, struct error *err)
{
    uint8_t *copy = len <= UINT32_MAX && f->nitems < ITEMS_MAX ? calloc(1, len ? len : 1) : NULL;
    if (!copy)
        return error_set(err, ENOMEM, "fw_cfg: no room for an item of %zu bytes; close other programs", len);
    if (data)
        memcpy(copy, data, len);
    f->items[f->nitems++] = (struct fwcfg_item){key, writable, (uint32_t)len, copy};
    return 0;
}

int fwcfg_add(struct fwcfg *f, uint16_t key, const void *data, size_t len, struct error *err)
{
    return add_item(f, key, data, len, false, err);
}

static int add_file(struct fwcfg *f, const char *name, const void *data, size_t len, bool writable, struct error *err)
{
    if (f->nfiles == FILES_MAX || strlen(name) > FWCFG_NAME_MAX)
        return error_set(err, 0, "fw_cfg: no room for the file '%s'; attach fewer devices", name);
    uint16_t key = (uint16_t)(KEY_FILES + f->nfiles);
    if (add_item(f, key, data, len, writable, err) < 0)
        return -1;
    struct fwcfg_file *entry = &f->directory.files[f->nfiles++];
    *entry = (struct fwcfg_file){.size = htobe32((uint32_t)len), .select = htobe16(key)};
    strcpy(entry->name, name);
    f->directory.count = htobe32(f->nfiles);
    struct fwcfg_item *directory = find(f, KEY_DIRECTORY);
    memcpy(directory->data, &f->directory, sizeof f->directory);
    return 0;
}

int fwcfg_add_file(struct fwcfg *f, const char *name, const void *data, size_t len, struct error *err)
{
    return add_file(f, name, data, len, false, err);
}

int fwcfg_add_number(struct fwcfg *f, const char *name, uint64_t value, struct error *err)
{
    uint64_t le = htole64(value);
    return add_file(f, name, &le, sizeof le, false, err);
}

int fwcfg_add_writable(struct fwcfg *f, const char *name, size_t len, struct error *err)
{
    return add_file(f, name, NULL, len, true, err);
}

bool fwcfg_contents(const struct fwcfg *f, const char *name, void *data, size_t len)
{
    for (unsigned i = 0; i < f->nfiles; i++) {
        const struct fwcfg_item *item = find(f, KEY_FILES + i);
        if (strcmp(f->directory.files[i].name, name) == 0 && item->len == len) {
            memcpy(data, item->data, len);
            return true;
        }
    }
    return false;
}

void fwcfg_reset(void *dev)
{
    struct fwcfg *f = dev;
    select_key(f, 0);
    f->dma = 0;
}

int fwcfg_create(struct bus *b, struct fwcfg **out, struct error *err)
{
    const uint32_t id = htole32(ID_TRADITIONAL | ID_DMA);
    struct fwcfg *f = calloc(1, sizeof *f);
    if (!f)
        return error_set(err, ENOMEM, "device 'fw-cfg': out of memory; close other programs");
    f->bus = b;
    if (fwcfg_add(f, KEY_SIGNATURE, "QEMU", 4, err) < 0 || fwcfg_add(f, KEY_ID, &id, sizeof id, err) < 0 ||
        fwcfg_add(f, KEY_DIRECTORY, &f->directory, sizeof f->directory, err) < 0 ||
        bus_map(b, BUS_PORT, FWCFG_PORT, FWCFG_PORTS, &fwcfg_io, f, fwcfg_desc.name, err) < 0) {
        fwcfg_destroy(f);
        return -1;
    }
    f->mapped = true;
    *out = f;
    return 0;
}

void fwcfg_destroy(struct fwcfg *f)
{
    if (!f)
        return;
    if (f->mapped)
        bus_unmap(f->bus, BUS_PORT, FWCFG_PORT);
    for (unsigned i = 0; i < f->nitems; i++)
        free(f->items[i].data);
    free(f);
}
