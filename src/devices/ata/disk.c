// SPDX-License-Identifier: GPL-2.0-or-later
/* An ATA disk (ACS-3): 48-bit addresses, DMA, native command queueing, TRIM, a write cache that can be switched off. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "devices/ata/ata.h"

enum {
    CMD_TRIM = 0x06,
    CMD_READ_SECTORS = 0x20,
    CMD_READ_SECTORS_EXT = 0x24,
    CMD_READ_DMA_EXT = 0x25,
    CMD_NATIVE_MAX_EXT = 0x27,
    CMD_READ_MULTIPLE_EXT = 0x29,
    CMD_READ_LOG_EXT = 0x2f,
    CMD_WRITE_SECTORS = 0x30,
    CMD_WRITE_SECTORS_EXT = 0x34,
    CMD_WRITE_DMA_EXT = 0x35,
    CMD_WRITE_MULTIPLE_EXT = 0x39,
    CMD_WRITE_DMA_FUA_EXT = 0x3d,
    CMD_VERIFY = 0x40,
    CMD_VERIFY_EXT = 0x42,
    CMD_READ_LOG_DMA_EXT = 0x47,
    CMD_READ_QUEUED = 0x60,
    CMD_WRITE_QUEUED = 0x61,
    CMD_INIT_PARAMETERS = 0x91,
    CMD_READ_MULTIPLE = 0xc4,
    CMD_WRITE_MULTIPLE = 0xc5,
    CMD_SET_MULTIPLE = 0xc6,
    CMD_READ_DMA = 0xc8,
    CMD_WRITE_DMA = 0xca,
    CMD_STANDBY_NOW = 0xe0,
    CMD_IDLE_NOW = 0xe1,
    CMD_STANDBY = 0xe2,
    CMD_IDLE = 0xe3,
    CMD_CHECK_POWER = 0xe5,
    CMD_FLUSH = 0xe7,
    CMD_FLUSH_EXT = 0xea,
    CMD_IDENTIFY = 0xec,
    CMD_SET_FEATURES = 0xef,
    CMD_NATIVE_MAX = 0xf8,
};

enum { FEATURE_CACHE_ON = 0x02, FEATURE_MODE = 0x03, FEATURE_AHEAD_OFF = 0x55, FEATURE_CACHE_OFF = 0x82, FEATURE_AHEAD_ON = 0xaa };

#define LOG_DIRECTORY    0x00
#define LOG_QUEUED_ERROR 0x10
#define POWER_ACTIVE     0xff
#define MULTIPLE_MAX     16
#define TRIM_ENTRIES     64 /* in a block of 512 bytes */
#define TRIM_BLOCKS      8  /* of one command */
#define HEADS            16u
#define SECTORS          63u
#define QUEUE_DEPTH      32u

struct disk {
    struct ata_device ata; /* first */
    uint8_t multiple;      /* sectors of a READ MULTIPLE's block; 0: off */
    bool write_through;
};

static const struct field disk_fields[] = {
    FIELD(FIELD_U8, struct disk, multiple),
    FIELD(FIELD_BOOL, struct disk, write_through),
    FIELD(FIELD_U8, struct disk, ata.failed_tag),
    FIELD(FIELD_U8, struct disk, ata.failed_status),
    FIELD(FIELD_U8, struct disk, ata.failed_error),
    FIELD(FIELD_U64, struct disk, ata.failed_lba),
    {0},
};
static const struct device_desc disk_desc = {.name = "ata-disk", .fields = disk_fields};

static struct disk *disk_of(struct ata_command *c)
{
    return container_of(c->dev, struct disk, ata);
}

static uint64_t sectors(const struct disk *d)
{
    return block_size(d->ata.block) / BLOCK_SECTOR;
}

/* ---- IDENTIFY DEVICE (ACS-3, 7.12.7) ---- */

static void identify_capacity(const struct disk *d, uint16_t *w)
{
    uint64_t n = sectors(d), cylinders = MIN(n / (HEADS * SECTORS), 16383ull);
    uint32_t chs = (uint32_t)(cylinders * HEADS * SECTORS), lba28 = (uint32_t)MIN(n, 0x0fffffffull);
    unsigned physical = block_physical_sector(d->ata.block) / BLOCK_SECTOR;
    w[1] = w[54] = (uint16_t)cylinders;
    w[3] = w[55] = HEADS;
    w[6] = w[56] = SECTORS;
    w[57] = (uint16_t)chs;
    w[58] = (uint16_t)(chs >> 16);
    w[60] = (uint16_t)lba28;
    w[61] = (uint16_t)(lba28 >> 16);
    for (unsigned i = 0; i < 4; i++)
        w[100 + i] = (uint16_t)(n >> (16 * i));
    w[106] = 0x4000 | (physical > 1 ? 0x2000 | (uint16_t)__builtin_ctz(physical) : 0);
}

static void identify(struct ata_command *c)
{
    const struct disk *d = disk_of(c);
    uint16_t w[256] = {[0] = 0x0040,
                       [47] = 0x8000 | MULTIPLE_MAX,
                       [49] = 0x0f00, /* LBA, DMA, IORDY */
                       [50] = 0x4000,
                       [53] = 0x0006,
                       [63] = 0x0007,
                       [64] = 0x0003,
                       [65] = 120,
                       [66] = 120,
                       [67] = 120,
                       [68] = 120,
                       [75] = QUEUE_DEPTH - 1,
                       [76] = 0x0106, /* queueing; 1.5 and 3 Gbit/s */
                       [80] = 0x01f0, /* ATA/ATAPI-4 to ACS-1 */
                       [82] = 0x0020, /* write cache */
                       [83] = 0x7400, /* flush, flush ext, 48-bit addresses */
                       [84] = 0x4040, /* FUA */
                       [86] = 0x3400,
                       [87] = 0x4040,
                       [88] = 0x203f, /* Ultra DMA 5 is selected */
                       [93] = 0,
                       [108] = 0x5000,
                       [217] = 1}; /* not rotating */
    ata_text(w + 10, d->ata.serial, 10);
    ata_text(w + 23, "1", 4);
    ata_text(w + 27, d->ata.model, 20);
    identify_capacity(d, w);
    w[59] = d->multiple ? 0x0100 | d->multiple : 0;
    w[85] = d->write_through ? 0 : 0x0020;
    if (!block_readonly(d->ata.block)) {
        w[69] = 0x4000; /* trimmed sectors read the same each time */
        w[105] = TRIM_BLOCKS;
        w[169] = 1;
    }
    uint8_t sum = 0;
    w[255] = 0xa5;
    for (unsigned i = 0; i < 511; i++)
        sum = (uint8_t)(sum + ((uint8_t *)w)[i]);
    w[255] = (uint16_t)(0xa5 | (uint8_t)-sum << 8);
    ata_answer(c, w, sizeof w);
}

/* ---- reading and writing ---- */

/* Host errors: what the media lacks, and what the host could not do. */
static uint8_t error_of(int ret)
{
    return ret == -EROFS || ret == -EPERM ? ATA_ABORT : ATA_UNCORRECTABLE;
}

/* A queued command that failed is remembered for the log that the driver reads then (ACS-3, A.14). */
static void fail(struct ata_command *c, uint8_t error)
{
    struct ata_device *d = c->dev;
    if (c->protocol == ATA_QUEUED) {
        d->failed_tag = c->fis[FIS_COUNT] >> 3;
        d->failed_status = ATA_READY | ATA_ERR;
        d->failed_error = error;
        d->failed_lba = ata_lba48(c->fis);
    }
    ata_fail(c, error);
}

static void transfer_done(struct block_req *b, int ret)
{
    struct ata_command *c = container_of(b, struct ata_command, block);
    bool wrote = b->op == BLOCK_WRITE;
    if (ret < 0) {
        fail(c, error_of(ret));
        return;
    }
    if (wrote && (c->force_unit || disk_of(c)->write_through)) {
        ata_submit(c, BLOCK_FLUSH, 0, 0, transfer_done);
        return;
    }
    c->transferred = c->room;
    ata_finish(c);
}

static void transfer(struct ata_command *c, bool write, uint64_t lba, uint64_t count)
{
    struct disk *d = disk_of(c);
    if (lba > sectors(d) || count > sectors(d) - lba)
        fail(c, ATA_ID_NOT_FOUND);
    else if ((write && block_readonly(d->ata.block)) || !ata_cut(c, count * BLOCK_SECTOR))
        fail(c, ATA_ABORT);
    else
        ata_submit(c, write ? BLOCK_WRITE : BLOCK_READ, lba * BLOCK_SECTOR, count * BLOCK_SECTOR, transfer_done);
}

/* The registers' address: of 28 bits, or cylinder, head and sector when the LBA bit is clear. */
static uint64_t address28(const uint8_t *fis)
{
    uint64_t head = fis[FIS_DEVICE] & 15, low = fis[FIS_LBA_LOW],
             cylinder = fis[FIS_LBA_LOW + 1] | (uint64_t)fis[FIS_LBA_LOW + 2] << 8;
    if (fis[FIS_DEVICE] & 0x40)
        return low | cylinder << 8 | head << 24;
    return low ? (cylinder * HEADS + head) * SECTORS + low - 1 : ~0ull;
}

static void transfer28(struct ata_command *c, enum ata_protocol protocol, bool write)
{
    c->protocol = protocol;
    transfer(c, write, address28(c->fis), c->fis[FIS_COUNT] ? c->fis[FIS_COUNT] : 256);
}

static uint64_t count48(const uint8_t *fis)
{
    uint64_t n = fis[FIS_COUNT] | (uint64_t)fis[FIS_COUNT_HIGH] << 8;
    return n ? n : 65536;
}

static void transfer48(struct ata_command *c, enum ata_protocol protocol, bool write)
{
    c->protocol = protocol;
    c->force_unit = c->fis[FIS_COMMAND] == CMD_WRITE_DMA_FUA_EXT;
    transfer(c, write, ata_lba48(c->fis), count48(c->fis));
}

/* The count is in the features, the tag in the count, and bit 7 of the device register forces the write through (ACS-3, 7.16). */
static void transfer_queued(struct ata_command *c, bool write)
{
    uint64_t n = c->fis[FIS_FEATURES] | (uint64_t)c->fis[FIS_FEATURES_HIGH] << 8;
    c->protocol = ATA_QUEUED;
    c->force_unit = write && (c->fis[FIS_DEVICE] & 0x80);
    transfer(c, write, ata_lba48(c->fis), n ? n : 65536);
}

static void flush_done(struct block_req *b, int ret)
{
    struct ata_command *c = container_of(b, struct ata_command, block);
    if (ret < 0)
        ata_fail(c, error_of(ret));
    else
        ata_finish(c);
}

/* ---- TRIM: a list of addresses (48 bits) and counts (16 bits), done one after the other ---- */

static void trim_next(struct block_req *b, int ret)
{
    struct ata_command *c = container_of(b, struct ata_command, block);
    struct disk *d = disk_of(c);
    uint64_t entry = 0;
    if (ret < 0) {
        ata_fail(c, error_of(ret));
        return;
    }
    while (c->at < c->left) {
        ata_copy_from(c, c->at++ * sizeof entry, &entry, sizeof entry);
        uint64_t lba = entry & 0xffffffffffffull, count = entry >> 48;
        if (count == 0)
            continue;
        if (lba > sectors(d) || count > sectors(d) - lba)
            ata_fail(c, ATA_ID_NOT_FOUND);
        else
            ata_submit(c, BLOCK_DISCARD, lba * BLOCK_SECTOR, count * BLOCK_SECTOR, trim_next);
        return;
    }
    c->transferred = c->room;
    ata_finish(c);
}

static void trim(struct ata_command *c)
{
    uint64_t blocks = count48(c->fis);
    c->protocol = ATA_DMA;
    if (block_readonly(c->dev->block) || c->fis[FIS_FEATURES] != 1 || blocks > TRIM_BLOCKS || !ata_cut(c, blocks * BLOCK_SECTOR)) {
        ata_fail(c, ATA_ABORT);
        return;
    }
    c->at = 0;
    c->left = blocks * TRIM_ENTRIES;
    trim_next(&c->block, 0);
}

/* ---- the rest ---- */

static void read_log(struct ata_command *c)
{
    const struct ata_device *d = c->dev;
    uint8_t page[BLOCK_SECTOR] = {0};
    c->protocol = c->fis[FIS_COMMAND] == CMD_READ_LOG_DMA_EXT ? ATA_DMA : ATA_PIO_IN;
    if (c->fis[FIS_LBA_LOW] == LOG_DIRECTORY) {
        page[0] = 1;
        page[2 * LOG_QUEUED_ERROR] = 1;
    } else if (c->fis[FIS_LBA_LOW] == LOG_QUEUED_ERROR) {
        uint8_t sum = 0;
        page[0] = d->failed_tag;
        page[2] = d->failed_status;
        page[3] = d->failed_error;
        for (unsigned i = 0; i < 3; i++) {
            page[4 + i] = (uint8_t)(d->failed_lba >> (8 * i));
            page[8 + i] = (uint8_t)(d->failed_lba >> (24 + 8 * i));
        }
        for (unsigned i = 0; i < sizeof page - 1; i++)
            sum = (uint8_t)(sum + page[i]);
        page[sizeof page - 1] = (uint8_t)-sum;
    } else {
        ata_fail(c, ATA_ABORT);
        return;
    }
    ata_answer(c, page, sizeof page);
}

static void set_features(struct ata_command *c)
{
    struct disk *d = disk_of(c);
    switch (c->fis[FIS_FEATURES]) {
    case FEATURE_CACHE_ON:
        d->write_through = false;
        break;
    case FEATURE_CACHE_OFF:
        d->write_through = true;
        ata_submit(c, BLOCK_FLUSH, 0, 0, flush_done);
        return;
    case FEATURE_MODE: /* every mode transfers at the same speed */
    case FEATURE_AHEAD_ON:
    case FEATURE_AHEAD_OFF:
        break;
    default:
        ata_fail(c, ATA_ABORT);
        return;
    }
    ata_finish(c);
}

static void set_multiple(struct ata_command *c)
{
    uint8_t n = c->fis[FIS_COUNT];
    if (n > MULTIPLE_MAX || (n & (n - 1))) {
        ata_fail(c, ATA_ABORT);
        return;
    }
    disk_of(c)->multiple = n;
    ata_finish(c);
}

static void native_max(struct ata_command *c)
{
    uint64_t last = sectors(disk_of(c)) - 1;
    c->has_lba = true;
    c->lba = c->fis[FIS_COMMAND] == CMD_NATIVE_MAX ? MIN(last, 0x0fffffffull) : last;
    ata_finish(c);
}

static void verify(struct ata_command *c, uint64_t lba, uint64_t count)
{
    uint64_t size = sectors(disk_of(c));
    if (lba > size || count > size - lba)
        ata_fail(c, ATA_ID_NOT_FOUND);
    else
        ata_finish(c);
}

static void other(struct ata_command *c)
{
    switch (c->fis[FIS_COMMAND]) {
    case CMD_IDENTIFY:
        identify(c);
        break;
    case CMD_TRIM:
        trim(c);
        break;
    case CMD_FLUSH:
    case CMD_FLUSH_EXT:
        ata_submit(c, BLOCK_FLUSH, 0, 0, flush_done);
        break;
    case CMD_READ_LOG_EXT:
    case CMD_READ_LOG_DMA_EXT:
        read_log(c);
        break;
    case CMD_SET_FEATURES:
        set_features(c);
        break;
    case CMD_SET_MULTIPLE:
        set_multiple(c);
        break;
    case CMD_VERIFY:
        verify(c, address28(c->fis), c->fis[FIS_COUNT] ? c->fis[FIS_COUNT] : 256);
        break;
    case CMD_VERIFY_EXT:
        verify(c, ata_lba48(c->fis), count48(c->fis));
        break;
    case CMD_NATIVE_MAX:
    case CMD_NATIVE_MAX_EXT:
        native_max(c);
        break;
    case CMD_CHECK_POWER:
        c->reason = POWER_ACTIVE;
        ata_finish(c);
        break;
    case CMD_INIT_PARAMETERS:
    case CMD_STANDBY_NOW:
    case CMD_IDLE_NOW:
    case CMD_STANDBY:
    case CMD_IDLE:
        ata_finish(c);
        break;
    default:
        ata_fail(c, ATA_ABORT);
        break;
    }
}

static void disk_start(struct ata_device *dev, struct ata_command *c)
{
    (void)dev;
    switch (c->fis[FIS_COMMAND]) {
    case CMD_READ_QUEUED:
    case CMD_WRITE_QUEUED:
        transfer_queued(c, c->fis[FIS_COMMAND] == CMD_WRITE_QUEUED);
        break;
    case CMD_READ_DMA:
    case CMD_WRITE_DMA:
        transfer28(c, ATA_DMA, c->fis[FIS_COMMAND] == CMD_WRITE_DMA);
        break;
    case CMD_READ_DMA_EXT:
        transfer48(c, ATA_DMA, false);
        break;
    case CMD_WRITE_DMA_EXT:
    case CMD_WRITE_DMA_FUA_EXT:
        transfer48(c, ATA_DMA, true);
        break;
    case CMD_READ_SECTORS:
    case CMD_READ_MULTIPLE:
        transfer28(c, ATA_PIO_IN, false);
        break;
    case CMD_WRITE_SECTORS:
    case CMD_WRITE_MULTIPLE:
        transfer28(c, ATA_PIO_OUT, true);
        break;
    case CMD_READ_SECTORS_EXT:
    case CMD_READ_MULTIPLE_EXT:
        transfer48(c, ATA_PIO_IN, false);
        break;
    case CMD_WRITE_SECTORS_EXT:
    case CMD_WRITE_MULTIPLE_EXT:
        transfer48(c, ATA_PIO_OUT, true);
        break;
    default:
        other(c);
        break;
    }
}

static void disk_reset(struct ata_device *dev)
{
    struct disk *d = container_of(dev, struct disk, ata);
    d->multiple = MULTIPLE_MAX;
    d->write_through = false;
    dev->failed_tag = dev->failed_status = dev->failed_error = 0;
    dev->failed_lba = 0;
}

static void disk_destroy(struct ata_device *dev)
{
    free(container_of(dev, struct disk, ata));
}

static const struct ata_kind disk_kind = {
    .desc = &disk_desc, .signature = ATA_SIGNATURE_DISK, .start = disk_start, .reset = disk_reset, .destroy = disk_destroy};

int ata_disk_create(struct block *block, const char *serial, struct ata_device **out, struct error *err)
{
    struct disk *d = calloc(1, sizeof *d);
    if (!d)
        return error_set(err, ENOMEM, "device 'ata-disk': out of memory; close other programs");
    d->ata = (struct ata_device){.kind = &disk_kind, .block = block, .model = "LODGE DISK"};
    snprintf(d->ata.serial, sizeof d->ata.serial, "%s", serial);
    disk_reset(&d->ata);
    *out = &d->ata;
    return 0;
}
