// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A disk (SBC-3): thin, with a write cache that can be off, of blocks of 512 bytes.
 *
 * UNMAP is a hint; WRITE SAME with zeroes is one request to the block layer, with anything else a series of writes of one pattern.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "devices/scsi/scsi.h"

#define UNMAP_RANGES  64u
#define RANGE_MAX     (GIB / BLOCK_SECTOR) /* blocks of one range, or of one WRITE SAME */
#define PATTERN_BYTES (64 * KIB)
#define PATTERN_PARTS 16u /* times the pattern in one write */

enum { PAGE_RECOVERY = 0x01, PAGE_CACHING = 0x08, PAGE_CONTROL = 0x0a, PAGE_ALL = 0x3f };
enum { VPD_LIMITS = 0xb0, VPD_CHARACTERISTICS = 0xb1, VPD_PROVISIONING = 0xb2 };
#define CACHING_WCE 0x04

static uint64_t blocks(const struct scsi_unit *u)
{
    return block_size(u->block) / BLOCK_SECTOR;
}

/* ---- addresses: where they are depends on the command's group (SPC-4, 4.3.4) ---- */

struct extent {
    uint64_t lba;
    uint32_t count;
};

static struct extent extent_of(const uint8_t *cdb)
{
    switch (cdb[0] >> 5) {
    case 0:
        return (struct extent){scsi_get32(cdb) & 0x1fffff, cdb[4] ? cdb[4] : 256};
    case 4:
        return (struct extent){scsi_get64(cdb + 2), scsi_get32(cdb + 10)};
    case 5:
        return (struct extent){scsi_get32(cdb + 2), scsi_get32(cdb + 6)};
    default:
        return (struct extent){scsi_get32(cdb + 2), scsi_get16(cdb + 7)};
    }
}

static bool in_range(const struct scsi_unit *u, struct extent e)
{
    uint64_t n = blocks(u);
    return e.lba <= n && e.count <= n - e.lba;
}

/* ---- the ends of requests ---- */

static uint32_t sense_of(const struct scsi_request *r, int ret)
{
    if (ret == -ENOSPC || ret == -EDQUOT)
        return SENSE_NO_SPACE;
    return r->block.op == BLOCK_READ ? SENSE_READ_ERROR : SENSE_WRITE_ERROR;
}

static void flushed(struct block_req *b, int ret)
{
    struct scsi_request *r = container_of(b, struct scsi_request, block);
    if (ret < 0)
        scsi_refuse(r, sense_of(r, ret));
    else
        scsi_good(r);
}

static void flush(struct scsi_request *r)
{
    scsi_submit(r, BLOCK_FLUSH, 0, 0, NULL, flushed);
}

/* What was changed is durable before it is told, where the guest wants that. */
static void changed(struct scsi_request *r)
{
    if (r->fua || r->unit->write_through)
        flush(r);
    else
        scsi_good(r);
}

static void transferred(struct block_req *b, int ret)
{
    struct scsi_request *r = container_of(b, struct scsi_request, block);
    if (ret < 0) {
        scsi_refuse(r, sense_of(r, ret));
        return;
    }
    r->transferred = b->len;
    if (b->op == BLOCK_WRITE)
        changed(r);
    else
        scsi_good(r);
}

/* ---- reading and writing ---- */

static void transfer(struct scsi_request *r, enum block_op op, struct scsi_data *d)
{
    struct extent e = extent_of(r->cdb);
    uint64_t len = (uint64_t)e.count * BLOCK_SECTOR;
    bool six = r->cdb[0] >> 5 == 0;
    if (!six && r->cdb[1] & 0xe0) { /* protection information */
        scsi_refuse(r, SENSE_INVALID_FIELD);
    } else if (!in_range(r->unit, e)) {
        scsi_refuse(r, SENSE_OUT_OF_RANGE);
    } else if (len == 0) {
        scsi_good(r);
    } else if (!scsi_cut(d, len)) {
        scsi_overrun(r);
    } else {
        r->fua = !six && r->cdb[1] & 0x08;
        scsi_submit(r, op, e.lba * BLOCK_SECTOR, len, d, transferred);
    }
}

static void read_blocks(struct scsi_request *r)
{
    transfer(r, BLOCK_READ, &r->in);
}

static void write_blocks(struct scsi_request *r)
{
    transfer(r, BLOCK_WRITE, &r->out);
}

/* The medium is as good as the host's; comparing with the guest's data is not offered. */
static void verify(struct scsi_request *r)
{
    if (r->cdb[1] & 0xe6)
        scsi_refuse(r, SENSE_INVALID_FIELD);
    else if (!in_range(r->unit, extent_of(r->cdb)))
        scsi_refuse(r, SENSE_OUT_OF_RANGE);
    else
        scsi_good(r);
}

static void synchronize(struct scsi_request *r)
{
    if (!in_range(r->unit, extent_of(r->cdb)))
        scsi_refuse(r, SENSE_OUT_OF_RANGE);
    else
        flush(r);
}

/* ---- UNMAP (SBC-3, 5.28) ---- */

static void unmap_next(struct block_req *b, int ret)
{
    struct scsi_request *r = container_of(b, struct scsi_request, block);
    if (ret < 0) {
        scsi_refuse(r, sense_of(r, ret));
        return;
    }
    while (r->left) {
        const uint8_t *p = r->buffer + 16 * r->at++;
        uint64_t lba = scsi_get64(p), count = scsi_get32(p + 8);
        r->left--;
        if (count) {
            scsi_submit(r, BLOCK_DISCARD, lba * BLOCK_SECTOR, count * BLOCK_SECTOR, NULL, unmap_next);
            return;
        }
    }
    changed(r);
}

/* The list is copied, and checked whole before the first range goes. */
static void unmap(struct scsi_request *r)
{
    uint8_t head[8];
    size_t len = scsi_get16(r->cdb + 7);
    if (len == 0) {
        scsi_good(r);
        return;
    }
    if (r->cdb[1] & 1) { /* anchored */
        scsi_refuse(r, SENSE_INVALID_FIELD);
        return;
    }
    if (r->out.len < len) {
        scsi_overrun(r);
        return;
    }
    if (len < sizeof head || scsi_take(r, 0, head, sizeof head) != sizeof head) {
        scsi_refuse(r, SENSE_PARAMETER_LENGTH);
        return;
    }
    unsigned n = (unsigned)MIN((size_t)scsi_get16(head + 2), len - sizeof head) / 16;
    r->buffer = malloc(16 * UNMAP_RANGES);
    if (n > UNMAP_RANGES || !r->buffer || scsi_take(r, sizeof head, r->buffer, 16 * (size_t)n) != 16 * (size_t)n) {
        scsi_refuse(r, r->buffer ? SENSE_INVALID_PARAMETER : SENSE_NO_MEMORY);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        struct extent e = {scsi_get64(r->buffer + 16 * i), scsi_get32(r->buffer + 16 * i + 8)};
        if (e.count > RANGE_MAX || !in_range(r->unit, e)) {
            scsi_refuse(r, e.count > RANGE_MAX ? SENSE_INVALID_PARAMETER : SENSE_OUT_OF_RANGE);
            return;
        }
    }
    r->transferred = len;
    r->at = 0;
    r->left = n;
    unmap_next(&r->block, 0);
}

/* ---- WRITE SAME (SBC-3, 5.43) ---- */

/* [at, at+left) bytes are still to be written. */
static void same_next(struct block_req *b, int ret)
{
    struct scsi_request *r = container_of(b, struct scsi_request, block);
    if (ret < 0) {
        scsi_refuse(r, sense_of(r, ret));
        return;
    }
    if (r->left == 0) {
        changed(r);
        return;
    }
    struct scsi_data d = {.iov = r->list};
    uint64_t offset = r->at;
    for (; d.niov < PATTERN_PARTS && r->left; d.niov++) {
        uint64_t part = MIN(r->left, PATTERN_BYTES);
        d.iov[d.niov] = (struct iovec){r->buffer, part};
        d.len += part;
        r->at += part;
        r->left -= part;
    }
    scsi_submit(r, BLOCK_WRITE, offset, d.len, &d, same_next);
}

static void write_pattern(struct scsi_request *r, const uint8_t *block, struct extent e)
{
    r->buffer = malloc(PATTERN_BYTES);
    r->list = calloc(PATTERN_PARTS, sizeof *r->list);
    if (!r->buffer || !r->list) {
        scsi_refuse(r, SENSE_NO_MEMORY);
        return;
    }
    for (unsigned i = 0; i < PATTERN_BYTES; i += BLOCK_SECTOR)
        memcpy(r->buffer + i, block, BLOCK_SECTOR);
    r->at = e.lba * BLOCK_SECTOR;
    r->left = (uint64_t)e.count * BLOCK_SECTOR;
    same_next(&r->block, 0);
}

static void zeroed(struct block_req *b, int ret)
{
    struct scsi_request *r = container_of(b, struct scsi_request, block);
    if (ret < 0)
        scsi_refuse(r, sense_of(r, ret));
    else
        changed(r);
}

static void write_same(struct scsi_request *r)
{
    static const uint8_t zeroes[BLOCK_SECTOR];
    uint8_t block[BLOCK_SECTOR] = {0};
    struct extent e = extent_of(r->cdb);
    bool no_data = r->cdb[0] == 0x93 && r->cdb[1] & 1, may_unmap = r->cdb[1] & 8;
    if (e.count == 0 && e.lba < blocks(r->unit)) /* to the end, which may be too many */
        e.count = (uint32_t)MIN(blocks(r->unit) - e.lba, UINT32_MAX);
    if (r->cdb[1] & 0xf0 || e.count > RANGE_MAX) {
        scsi_refuse(r, SENSE_INVALID_FIELD);
        return;
    }
    if (!in_range(r->unit, e) || e.count == 0) {
        scsi_refuse(r, SENSE_OUT_OF_RANGE);
        return;
    }
    if (!no_data && scsi_take(r, 0, block, sizeof block) != sizeof block) {
        scsi_overrun(r);
        return;
    }
    r->transferred = no_data ? 0 : sizeof block;
    if (memcmp(block, zeroes, sizeof block) != 0) {
        write_pattern(r, block, e);
        return;
    }
    r->block.may_unmap = may_unmap;
    scsi_submit(r, BLOCK_ZERO, e.lba * BLOCK_SECTOR, (uint64_t)e.count * BLOCK_SECTOR, NULL, zeroed);
}

/* ---- what the disk is ---- */

static void read_capacity(struct scsi_request *r)
{
    uint8_t data[8];
    scsi_put32(data, (uint32_t)MIN(blocks(r->unit) - 1, 0xffffffffull)); /* all ones: ask READ CAPACITY (16) */
    scsi_put32(data + 4, BLOCK_SECTOR);
    scsi_give(r, data, sizeof data, sizeof data);
}

/* SERVICE ACTION IN (16), of which only READ CAPACITY (16) is there. */
static void service_action(struct scsi_request *r)
{
    uint8_t data[32] = {0};
    if ((r->cdb[1] & 0x1f) != 0x10) {
        scsi_refuse(r, SENSE_INVALID_FIELD);
        return;
    }
    scsi_put64(data, blocks(r->unit) - 1);
    scsi_put32(data + 8, BLOCK_SECTOR);
    data[13] = (uint8_t)__builtin_ctz(block_physical_sector(r->unit->block) / BLOCK_SECTOR);
    data[14] = block_readonly(r->unit->block) ? 0 : 0x80; /* blocks can be unmapped; they need not read as zeroes then */
    scsi_give(r, data, sizeof data, scsi_get32(r->cdb + 10));
}

static void vpd(struct scsi_request *r, unsigned page)
{
    const struct scsi_unit *u = r->unit;
    uint8_t data[64] = {scsi_disk.type, (uint8_t)page, 0, 60};
    bool writes = !block_readonly(u->block);
    size_t len = sizeof data;
    switch (page) {
    case VPD_LIMITS:
        scsi_put16(data + 6, block_physical_sector(u->block) / BLOCK_SECTOR); /* granularity of transfers */
        if (writes) {
            scsi_put32(data + 20, RANGE_MAX);
            scsi_put32(data + 24, UNMAP_RANGES);
            scsi_put32(data + 28, block_physical_sector(u->block) / BLOCK_SECTOR); /* of unmapping */
            scsi_put64(data + 36, RANGE_MAX);                                      /* of WRITE SAME */
        }
        break;
    case VPD_CHARACTERISTICS:
        data[5] = 1; /* nothing rotates */
        break;
    case VPD_PROVISIONING:
        len = 8;
        data[3] = 4;
        data[5] = writes ? 0xe0 : 0; /* UNMAP, WRITE SAME (16) and (10) with UNMAP */
        data[6] = writes ? 2 : 0;    /* thin */
        break;
    default:
        scsi_refuse(r, SENSE_INVALID_FIELD);
        return;
    }
    scsi_give(r, data, len, scsi_get16(r->cdb + 3));
}

/* ---- mode pages ---- */

static size_t put_page(const struct scsi_unit *u, unsigned page, bool changeable, uint8_t *p)
{
    switch (page) {
    case PAGE_RECOVERY:
        p[0] = PAGE_RECOVERY, p[1] = 10;
        p[2] = changeable ? 0 : 0x80; /* bad blocks are replaced when written */
        return 12;
    case PAGE_CACHING:
        p[0] = PAGE_CACHING, p[1] = 18;
        p[2] = changeable || !u->write_through ? CACHING_WCE : 0;
        return 20;
    case PAGE_CONTROL:
        p[0] = PAGE_CONTROL, p[1] = 10;
        p[3] = changeable ? 0 : 0x10; /* commands are reordered as the disk likes */
        return 12;
    }
    return 0;
}

static void mode_sense(struct scsi_request *r)
{
    static const uint8_t all[] = {PAGE_RECOVERY, PAGE_CACHING, PAGE_CONTROL};
    const struct scsi_unit *u = r->unit;
    bool ten = r->cdb[0] == 0x5a, descriptor = !(r->cdb[1] & 8);
    unsigned page = r->cdb[2] & 0x3f, which = r->cdb[2] >> 6;
    uint8_t data[80] = {0};
    size_t at = ten ? 8 : 4, first;
    uint8_t specific = (uint8_t)(0x10 | (block_readonly(u->block) ? 0x80 : 0)); /* DPO and FUA; write protection */
    data[ten ? 3 : 2] = specific;
    if (descriptor) {
        data[ten ? 7 : 3] = 8;
        scsi_put32(data + at, (uint32_t)MIN(blocks(u), 0xffffffull) & 0xffffff);
        scsi_put32(data + at + 4, BLOCK_SECTOR);
        at += 8;
    }
    first = at;
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        if (page == PAGE_ALL || page == all[i])
            at += put_page(u, all[i], which == 1, data + at);
    if (which == 3 || at == first || r->cdb[3]) {
        scsi_refuse(r, which == 3 ? SENSE_NO_SAVING : SENSE_INVALID_FIELD);
        return;
    }
    if (ten)
        scsi_put16(data, (uint32_t)at - 2);
    else
        data[0] = (uint8_t)(at - 1);
    scsi_give(r, data, at, ten ? scsi_get16(r->cdb + 7) : r->cdb[4]);
}

/* Only the write cache can be switched. */
static void mode_select(struct scsi_request *r)
{
    bool ten = r->cdb[0] == 0x55;
    size_t len = ten ? scsi_get16(r->cdb + 7) : r->cdb[4], head = ten ? 8 : 4;
    uint8_t data[64] = {0};
    if (len == 0) {
        scsi_good(r);
        return;
    }
    if (r->cdb[1] & 1) { /* to be saved */
        scsi_refuse(r, SENSE_INVALID_FIELD);
        return;
    }
    if (r->out.len < len) {
        scsi_overrun(r);
        return;
    }
    if (len < head || len > sizeof data || scsi_take(r, 0, data, len) != len) {
        scsi_refuse(r, SENSE_PARAMETER_LENGTH);
        return;
    }
    size_t at = head + (ten ? scsi_get16(data + 6) : data[3]);
    r->transferred = len;
    if (at == len) {
        scsi_good(r);
    } else if (at + 20 != len || (data[at] & 0x7f) != PAGE_CACHING || data[at + 1] != 18 || data[at + 2] & ~CACHING_WCE) {
        scsi_refuse(r, SENSE_INVALID_PARAMETER);
    } else {
        r->unit->write_through = !(data[at + 2] & CACHING_WCE);
        changed(r); /* switched off, the cache is empty */
    }
}

static const uint8_t pages[] = {VPD_LIMITS, VPD_CHARACTERISTICS, VPD_PROVISIONING, 0};

static const struct scsi_command commands[] = {
    {0x00, 0, scsi_good}, /* TEST UNIT READY */
    {0x03, SCSI_ALWAYS, scsi_request_sense},
    {0x08, 0, read_blocks}, /* READ (6) */
    {0x0a, SCSI_WRITES, write_blocks},
    {0x12, SCSI_ALWAYS, scsi_inquiry},
    {0x15, 0, mode_select},
    {0x1a, 0, mode_sense},
    {0x1b, 0, scsi_good}, /* START STOP UNIT */
    {0x25, 0, read_capacity},
    {0x28, 0, read_blocks}, /* READ (10) */
    {0x2a, SCSI_WRITES, write_blocks},
    {0x2e, SCSI_WRITES, write_blocks}, /* WRITE AND VERIFY */
    {0x2f, 0, verify},
    {0x35, 0, synchronize},
    {0x41, SCSI_WRITES, write_same},
    {0x42, SCSI_WRITES, unmap},
    {0x55, 0, mode_select},
    {0x5a, 0, mode_sense},
    {0x88, 0, read_blocks}, /* READ (16) */
    {0x8a, SCSI_WRITES, write_blocks},
    {0x8f, 0, verify},
    {0x91, 0, synchronize},
    {0x93, SCSI_WRITES, write_same},
    {0x9e, 0, service_action},
    {0xa8, 0, read_blocks}, /* READ (12) */
    {0xaa, SCSI_WRITES, write_blocks},
    {0xaf, 0, verify},
};

const struct scsi_kind scsi_disk = {
    .type = 0x00, .product = "DISK", .commands = commands, .ncommands = ARRAY_SIZE(commands), .vpd = vpd, .pages = pages};
