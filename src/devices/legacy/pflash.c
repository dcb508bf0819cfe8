// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest writes a command to any address of the chip, and then reads what it asked for, or writes what the command is about.
 * Programming clears bits, erasing a block sets them all. Both are done at once, so the chip is always ready, and suspending does
 * not exist. There is no buffer for programming: the query says so.
 *
 * The status is 0 after it has been cleared, without the ready bit that a real chip shows: OVMF takes the chip for RAM or ROM
 * otherwise.
 */
#include "devices/legacy/pflash.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

enum {
    CMD_PROGRAM_ALT = 0x10,
    CMD_ERASE = 0x20,
    CMD_PROGRAM = 0x40,
    CMD_CLEAR_STATUS = 0x50,
    CMD_LOCKS = 0x60,
    CMD_READ_STATUS = 0x70,
    CMD_READ_ID = 0x90,
    CMD_QUERY = 0x98,
    CMD_CONFIRM = 0xd0,
    CMD_READ_MEMORY = 0xff,
};

#define STATUS_READY   0x80
#define STATUS_ERASE   0x20 /* it failed; both: no such sequence of commands */
#define STATUS_PROGRAM 0x10

#define ID_MAKER 0x89 /* Intel */
#define ID_CHIP  0x18

/* What a read gives, or what the next write is. */
enum mode { READS_MEMORY, READS_STATUS, READS_ID, READS_QUERY, WRITES_BYTE, WRITES_ERASE, WRITES_LOCKS, MODES };

struct pflash {
    struct bus *bus;
    struct pflash_config cfg;
    uint8_t mode, status;
};

/* ---- reading ---- */

/* The answer to a query (JESD68, tables 1 to 4). What is not here is 0: there is no other command set, no buffer, no time to wait.
 */
static uint8_t query(const struct pflash *f, uint64_t off)
{
    static const uint8_t magic[] = {'Q', 'R', 'Y'}, table[] = {'P', 'R', 'I', '1', '0'};
    uint64_t blocks = f->cfg.size / PFLASH_BLOCK;
    switch (off) {
    case 0x10 ... 0x12:
        return magic[off - 0x10];
    case 0x13: /* the command set */
        return 1;
    case 0x15: /* where its own table is */
        return 0x31;
    case 0x1b: /* volts, in binary-coded decimal: 2.7 to 3.6 */
        return 0x27;
    case 0x1c:
        return 0x36;
    case 0x27: /* the size's logarithm, rounded up */
        return (uint8_t)(64 - __builtin_clzll(f->cfg.size - 1));
    case 0x2c: /* one kind of blocks: how many, less one, and the size of one in units of 256 bytes */
        return 1;
    case 0x2d:
        return (uint8_t)(blocks - 1);
    case 0x2e:
        return (uint8_t)((blocks - 1) >> 8);
    case 0x2f:
        return PFLASH_BLOCK / 256;
    case 0x31 ... 0x35:
        return table[off - 0x31];
    default:
        return 0;
    }
}

static uint64_t pflash_read(void *dev, uint64_t off, unsigned size)
{
    const struct pflash *f = dev;
    (void)size;
    switch (f->mode) {
    case READS_MEMORY:
        return f->cfg.data[off];
    case READS_ID:
        return off == 0 ? ID_MAKER : off == 1 ? ID_CHIP : 0; /* no block is locked */
    case READS_QUERY:
        return query(f, off);
    default:
        return f->status;
    }
}

/* ---- writing ---- */

static void set_mode(struct pflash *f, enum mode mode)
{
    bool was = f->mode == READS_MEMORY, is = mode == READS_MEMORY;
    f->mode = (uint8_t)mode;
    if (was != is)
        f->cfg.mapped(f->cfg.opaque, is);
}

static void program(struct pflash *f, uint64_t off, uint8_t val)
{
    uint8_t before = f->cfg.data[off];
    f->cfg.data[off] &= val;
    if (f->cfg.data[off] != before && f->cfg.store(f->cfg.opaque, off, 1) < 0) {
        f->cfg.data[off] = before;
        f->status |= STATUS_PROGRAM;
    }
}

static void erase(struct pflash *f, uint64_t off)
{
    uint8_t before[PFLASH_BLOCK], *block = f->cfg.data + off / PFLASH_BLOCK * PFLASH_BLOCK;
    memcpy(before, block, sizeof before);
    memset(block, 0xff, PFLASH_BLOCK);
    if (memcmp(before, block, sizeof before) != 0 &&
        f->cfg.store(f->cfg.opaque, (uint64_t)(block - f->cfg.data), PFLASH_BLOCK) < 0) {
        memcpy(block, before, sizeof before);
        f->status |= STATUS_ERASE;
    }
}

static void command(struct pflash *f, uint8_t val)
{
    switch (val) {
    case CMD_PROGRAM:
    case CMD_PROGRAM_ALT:
        set_mode(f, WRITES_BYTE);
        break;
    case CMD_ERASE:
        set_mode(f, WRITES_ERASE);
        break;
    case CMD_LOCKS:
        set_mode(f, WRITES_LOCKS);
        break;
    case CMD_READ_STATUS:
        set_mode(f, READS_STATUS);
        break;
    case CMD_READ_ID:
        set_mode(f, READS_ID);
        break;
    case CMD_QUERY:
        set_mode(f, READS_QUERY);
        break;
    case CMD_CLEAR_STATUS:
        f->status = 0;
        set_mode(f, READS_MEMORY);
        break;
    case CMD_READ_MEMORY:
    default: /* no command */
        set_mode(f, READS_MEMORY);
        break;
    }
}

static void pflash_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct pflash *f = dev;
    (void)size;
    switch (f->mode) {
    case WRITES_BYTE:
        program(f, off, (uint8_t)val);
        break;
    case WRITES_ERASE:
        if (val == CMD_CONFIRM)
            erase(f, off);
        else
            f->status |= STATUS_ERASE | STATUS_PROGRAM;
        break;
    case WRITES_LOCKS: /* blocks cannot be locked: whatever is asked for changes nothing */
        break;
    default:
        command(f, (uint8_t)val);
        return;
    }
    f->status |= STATUS_READY;
    set_mode(f, READS_STATUS);
}

static const struct io_ops pflash_io = {.read = pflash_read, .write = pflash_write, .max_size = 1};

/* ---- life ---- */

static int pflash_restored(void *dev, struct error *err)
{
    struct pflash *f = dev;
    if (f->mode >= MODES)
        return error_set(err, 0, "device '%s': its saved mode %u does not exist; save the guest again", pflash_desc.name, f->mode);
    f->cfg.mapped(f->cfg.opaque, f->mode == READS_MEMORY);
    return 0;
}

/* The contents are a file's, as a disk's are. */
static const struct field pflash_fields[] = {
    FIELD(FIELD_U8, struct pflash, mode),
    FIELD(FIELD_U8, struct pflash, status),
    {0},
};
const struct device_desc pflash_desc = {.name = "pflash", .fields = pflash_fields, .restored = pflash_restored};

int pflash_create(struct bus *b, const struct pflash_config *cfg, struct pflash **out, struct error *err)
{
    if (!cfg->size || cfg->size % PFLASH_BLOCK || cfg->size > PFLASH_MAX)
        return error_set(err, 0, "device '%s': 0x%llx bytes are not possible; give it whole blocks of %u bytes, up to 256 MiB",
                         pflash_desc.name, (unsigned long long)cfg->size, PFLASH_BLOCK);
    struct pflash *f = calloc(1, sizeof *f);
    if (!f)
        return error_set(err, ENOMEM, "device '%s': out of memory; close other programs", pflash_desc.name);
    *f = (struct pflash){.bus = b, .cfg = *cfg};
    if (bus_map(b, BUS_MMIO, cfg->base, cfg->size, &pflash_io, f, pflash_desc.name, err) < 0) {
        free(f);
        return -1;
    }
    *out = f;
    return 0;
}

void pflash_destroy(struct pflash *f)
{
    if (!f)
        return;
    bus_unmap(f->bus, BUS_MMIO, f->cfg.base);
    free(f);
}
