// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * VHD, Virtual PC's format, which qemu-img calls vpc ("Virtual Hard Disk Image Format Specification", 1.0). A fixed image is the disk with a footer
 * behind it. A dynamic one has a copy of the footer in front, a header, a table of sectors, and blocks, each behind a bitmap of its sectors; blocks are
 * written whole, so bitmaps are all ones.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "block/blockmap.h"

#define FOOTER    512u
#define HEADER    1024u
#define NOT_THERE 0xffffffffu
#define BLOCK     (2 * MIB)
#define EPOCH     946684800 /* 1 January 2000, in Unix time */
#define SIZE_MAX_BYTES (2040 * GIB)

enum { AT_FEATURES = 8, AT_VERSION = 12, AT_DATA = 16, AT_TIME = 24, AT_CREATOR = 28, AT_CREATOR_VERSION = 32, AT_HOST = 36, AT_ORIGINAL = 40, AT_SIZE = 48,
       AT_CYLINDERS = 56, AT_HEADS = 58, AT_SECTORS = 59, AT_TYPE = 60, AT_SUM = 64, AT_UUID = 68 };
enum { HEADER_NEXT = 8, HEADER_TABLE = 16, HEADER_VERSION = 24, HEADER_ENTRIES = 28, HEADER_BLOCK = 32, HEADER_SUM = 36 };
enum { TYPE_FIXED = 2, TYPE_DYNAMIC = 3, TYPE_DIFFERENCE = 4 };

struct vpc {
    struct blockmap map; /* dynamic */
    bool fixed;
    uint64_t table, bitmap; /* offset; bytes of a block's bitmap */
    uint8_t footer[FOOTER];
};

/* The one's complement of the sum of all bytes, the sum itself taken as zeroes. */
static uint32_t checksum(const uint8_t *p, unsigned n, unsigned at)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += i >= at && i < at + 4 ? 0 : p[i];
    return ~sum;
}

/* ---- the table ---- */

static int vpc_load(struct blockmap *m, uint64_t first, unsigned n, uint64_t *host)
{
    struct vpc *v = container_of(m, struct vpc, map);
    uint8_t raw[4 * BLOCKMAP_LEAF];
    int ret = file_read(m->im->file, v->table + 4 * first, raw, 4ull * n);
    for (unsigned i = 0; ret == 0 && i < n; i++) {
        uint64_t sector = be_get(raw + 4 * i, 4);
        host[i] = sector == NOT_THERE ? BLOCKMAP_NONE : sector * BLOCK_SECTOR + v->bitmap;
        if (sector != NOT_THERE && (sector * BLOCK_SECTOR < FOOTER + HEADER || host[i] >= m->end))
            ret = -EIO;
    }
    return ret;
}

static int vpc_store(struct blockmap *m, uint64_t first, unsigned n, const uint64_t *host)
{
    struct vpc *v = container_of(m, struct vpc, map);
    uint8_t raw[4 * BLOCKMAP_LEAF];
    for (unsigned i = 0; i < n; i++)
        be_put(raw + 4 * i, host[i] == BLOCKMAP_NONE ? NOT_THERE : (host[i] - v->bitmap) / BLOCK_SECTOR, 4);
    return file_write(m->im->file, v->table + 4 * first, raw, 4ull * n);
}

/* A block goes where the footer was; the bitmap in front of it covers that. */
static int vpc_place(struct blockmap *m, uint64_t *host)
{
    struct vpc *v = container_of(m, struct vpc, map);
    uint64_t at = ALIGN_UP(m->end, (uint64_t)BLOCK_SECTOR);
    AUTO_FREE uint8_t *ones = malloc(v->bitmap);
    if (!ones || (at + v->bitmap) / BLOCK_SECTOR >= NOT_THERE)
        return ones ? -EFBIG : -ENOMEM;
    memset(ones, 0xff, v->bitmap);
    *host = at + v->bitmap;
    return file_write(m->im->file, at, ones, v->bitmap);
}

static int vpc_stored(struct blockmap *m)
{
    struct vpc *v = container_of(m, struct vpc, map);
    return file_write(m->im->file, m->end, v->footer, FOOTER);
}

static const struct blockmap_ops ops = {.load = vpc_load, .store = vpc_store, .place = vpc_place, .stored = vpc_stored};

/* ---- opening ---- */

/* Virtual PC goes by the geometry, all others by the size. */
static uint64_t disk_size(const uint8_t *footer)
{
    static const char *const by_geometry[] = {"vpc ", "vs  ", "qemu"};
    uint64_t size = be_get(footer + AT_SIZE, 8), cylinders = be_get(footer + AT_CYLINDERS, 2), sectors = cylinders * footer[AT_HEADS] * footer[AT_SECTORS];
    for (unsigned i = 0; i < ARRAY_SIZE(by_geometry); i++)
        if (memcmp(footer + AT_CREATOR, by_geometry[i], 4) == 0 && cylinders < 65535 && sectors)
            return sectors * BLOCK_SECTOR;
    return ALIGN_DOWN(size, (uint64_t)BLOCK_SECTOR);
}

static bool is_footer(const uint8_t *p)
{
    return memcmp(p, "conectix", 8) == 0 && be_get(p + AT_SUM, 4) == checksum(p, FOOTER, AT_SUM);
}

static int find_footer(struct image *im, uint8_t *footer, uint64_t length, struct error *err)
{
    int ret = length >= FOOTER ? file_read(im->file, length - FOOTER, footer, FOOTER) : -EINVAL;
    if (ret == 0 && !is_footer(footer))
        ret = file_read(im->file, 0, footer, FOOTER); /* the copy in front, when the end was lost */
    if (ret < 0 || !is_footer(footer))
        return format_bad(im, "it has no VHD footer with a right checksum", err);
    return 0;
}

static int open_dynamic(struct image *im, struct vpc *v, uint64_t length, struct error *err)
{
    uint8_t h[HEADER];
    uint64_t at = be_get(v->footer + AT_DATA, 8);
    int ret = at <= length && length - at >= HEADER ? file_read(im->file, at, h, sizeof h) : -EINVAL;
    if (ret < 0 || memcmp(h, "cxsparse", 8) != 0 || be_get(h + HEADER_SUM, 4) != checksum(h, HEADER, HEADER_SUM))
        return format_bad(im, "it has no dynamic VHD header with a right checksum", err);
    uint64_t block = be_get(h + HEADER_BLOCK, 4), entries = be_get(h + HEADER_ENTRIES, 4);
    v->table = be_get(h + HEADER_TABLE, 8);
    if (block < 4 * KIB || block > 256 * MIB || (block & (block - 1)))
        return format_bad(im, "its block size is not possible", err);
    if (v->table % BLOCK_SECTOR || v->table < FOOTER || v->table > length || 4 * entries > length - v->table || im->size > entries * block)
        return format_bad(im, "its block table is not where it can be", err);
    v->bitmap = ALIGN_UP(block / BLOCK_SECTOR / 8, (uint64_t)BLOCK_SECTOR);
    if (blockmap_init(&v->map, im, &ops, block, (im->size + block - 1) / block, err) < 0)
        return -1;
    uint8_t last[FOOTER];
    if (length >= FOOTER && file_read(im->file, length - FOOTER, last, FOOTER) == 0 && is_footer(last))
        v->map.end = length - FOOTER;
    return 0;
}

static int vpc_open(struct image *im, struct error *err)
{
    uint64_t length;
    struct vpc *v = calloc(1, sizeof *v);
    if (!v)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    im->state = v;
    int ret = file_length(im->file, &length);
    ret = ret < 0 ? format_io(im, ret, err) : find_footer(im, v->footer, length, err);
    uint32_t type = (uint32_t)be_get(v->footer + AT_TYPE, 4);
    im->size = disk_size(v->footer);
    if (ret == 0 && (im->size == 0 || im->size > SIZE_MAX_BYTES))
        ret = format_bad(im, "its size is not possible", err);
    if (ret == 0 && type == TYPE_DIFFERENCE)
        ret = error_set(err, 0, "image '%s': is the difference to another VHD image, which is not supported; merge the two first", im->file->path);
    else if (ret == 0 && type == TYPE_DYNAMIC)
        ret = open_dynamic(im, v, length, err);
    else if (ret == 0 && (type != TYPE_FIXED || im->size > length - FOOTER))
        ret = format_bad(im, "its type is not known, or it is shorter than its disk", err);
    v->fixed = type == TYPE_FIXED;
    if (ret == 0)
        return 0;
    free(v);
    im->state = NULL;
    return -1;
}

static int vpc_close(struct image *im)
{
    struct vpc *v = im->state;
    int ret = im->readonly || v->fixed ? 0 : blockmap_flush(im);
    if (!v->fixed)
        blockmap_free(&v->map);
    free(v);
    return ret;
}

/* ---- transfers: a fixed image is a raw one ---- */

static bool is_fixed(const struct image *im)
{
    return ((const struct vpc *)im->state)->fixed;
}

static int vpc_read(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    return (is_fixed(im) ? raw_driver.read : blockmap_read)(im, offset, len, iov, niov);
}

static int vpc_write(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    return (is_fixed(im) ? raw_driver.write : blockmap_write)(im, offset, len, iov, niov);
}

static int vpc_zero(struct image *im, uint64_t offset, uint64_t len, bool may_unmap)
{
    return (is_fixed(im) ? raw_driver.zero : blockmap_zero)(im, offset, len, may_unmap);
}

static int vpc_discard(struct image *im, uint64_t offset, uint64_t len)
{
    return (is_fixed(im) ? raw_driver.discard : blockmap_discard)(im, offset, len);
}

static int vpc_flush(struct image *im)
{
    return (is_fixed(im) ? raw_driver.flush : blockmap_flush)(im);
}

static int vpc_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out)
{
    return (is_fixed(im) ? raw_driver.extent : blockmap_extent)(im, offset, len, out);
}

/* A fixed image that is too short does not open. */
static int vpc_check(struct image *im, struct image_check *out)
{
    return is_fixed(im) ? 0 : blockmap_check(im, out);
}

/* ---- making ---- */

/* The specification's appendix "CHS Calculation". */
static void put_geometry(uint8_t *footer, uint64_t sectors)
{
    uint32_t spt = 255, heads = 16, rest;
    sectors = MIN(sectors, 65535ull * 16 * 255);
    if (sectors < 65535ull * 16 * 63) {
        spt = 17;
        rest = (uint32_t)(sectors / spt);
        heads = MAX((rest + 1023) / 1024, 4u);
        if (rest >= heads * 1024 || heads > 16) {
            spt = 31;
            heads = 16;
            rest = (uint32_t)(sectors / spt);
        }
        if (rest >= heads * 1024)
            spt = 63;
    }
    be_put(footer + AT_CYLINDERS, sectors / spt / heads, 2);
    footer[AT_HEADS] = (uint8_t)heads;
    footer[AT_SECTORS] = (uint8_t)spt;
}

static void put_footer(uint8_t *f, uint64_t size, bool fixed)
{
    memset(f, 0, FOOTER);
    memcpy(f, "conectix", 8);
    be_put(f + AT_FEATURES, 2, 4);
    be_put(f + AT_VERSION, 0x10000, 4);
    be_put(f + AT_DATA, fixed ? UINT64_MAX : FOOTER, 8);
    be_put(f + AT_TIME, (uint64_t)time(NULL) - EPOCH, 4);
    memcpy(f + AT_CREATOR, "win ", 4); /* readers go by the size then, and not by the geometry, which rounds */
    be_put(f + AT_CREATOR_VERSION, 0x000a0000, 4);
    memcpy(f + AT_HOST, "Wi2k", 4);
    be_put(f + AT_ORIGINAL, size, 8);
    be_put(f + AT_SIZE, size, 8);
    put_geometry(f, size / BLOCK_SECTOR);
    be_put(f + AT_TYPE, fixed ? TYPE_FIXED : TYPE_DYNAMIC, 4);
    format_uuid(f + AT_UUID);
    be_put(f + AT_SUM, checksum(f, FOOTER, AT_SUM), 4);
}

static int write_dynamic(struct file *f, const uint8_t *footer, uint64_t size)
{
    uint8_t h[HEADER] = {0}, ones[BLOCK_SECTOR];
    uint64_t entries = (size + BLOCK - 1) / BLOCK, table = FOOTER + HEADER, end = table + ALIGN_UP(4 * entries, (uint64_t)BLOCK_SECTOR);
    memset(ones, 0xff, sizeof ones);
    memcpy(h, "cxsparse", 8);
    be_put(h + HEADER_NEXT, UINT64_MAX, 8);
    be_put(h + HEADER_TABLE, table, 8);
    be_put(h + HEADER_VERSION, 0x10000, 4);
    be_put(h + HEADER_ENTRIES, entries, 4);
    be_put(h + HEADER_BLOCK, BLOCK, 4);
    be_put(h + HEADER_SUM, checksum(h, HEADER, HEADER_SUM), 4);
    int ret = file_write(f, 0, footer, FOOTER);
    if (ret == 0)
        ret = file_write(f, FOOTER, h, HEADER);
    for (uint64_t at = table; ret == 0 && at < end; at += sizeof ones)
        ret = file_write(f, at, ones, sizeof ones);
    return ret < 0 ? ret : file_write(f, end, footer, FOOTER);
}

static int vpc_create(struct io_loop *l, const struct image_new *n, struct error *err)
{
    uint8_t footer[FOOTER];
    bool fixed = false;
    struct file *f;
    for (unsigned i = 0; i < n->noptions; i++) {
        const char *value = n->options[i].value;
        if (strcmp(n->options[i].name, "subformat") != 0)
            return image_bad_option(&n->options[i], "subformat", err);
        if (strcmp(value, "fixed") != 0 && strcmp(value, "dynamic") != 0)
            return error_set(err, 0, "option 'subformat': '%s' is none; give dynamic or fixed", value);
        fixed = *value == 'f';
    }
    if (n->backing || !n->size || n->size > SIZE_MAX_BYTES)
        return error_set(err, 0, "image '%s': a VHD image has no backing file here, and 2040G at most; use qcow2", n->path);
    put_footer(footer, n->size, fixed);
    if (file_create(l, "image", n->path, n->replace, &f, err) < 0)
        return -1;
    int ret = fixed ? file_write(f, n->size, footer, FOOTER) : write_dynamic(f, footer, n->size);
    file_close(f);
    return ret < 0 ? error_set(err, -ret, "image '%s': cannot be made: %s; check the disk that is to hold it", n->path, strerror(-ret)) : 0;
}

const struct image_driver vpc_driver = {.name = "vpc",
                                        .open = vpc_open,
                                        .close = vpc_close,
                                        .read = vpc_read,
                                        .write = vpc_write,
                                        .zero = vpc_zero,
                                        .discard = vpc_discard,
                                        .flush = vpc_flush,
                                        .extent = vpc_extent,
                                        .check = vpc_check,
                                        .create = vpc_create};
