// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * VHDX images. Before the first change the header gets new numbers, so that caches of other programs see that the file is another. Table entries are eight
 * bytes within a sector, which reaches the file whole or not at all, and are written behind a sync of the blocks (blockmap.h); so they need no log, and
 * the header that is written says that there is none.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "block/vhdx.h"

#define REGIONS     (64u << 10) /* bytes of a region table, and of the metadata's */
#define BLOCK_SIZE  (8 * MIB)
#define SIZE_LIMIT  (64ull << 40) /* bytes of a disk, [MS-VHDX] 2.6.2.2 */
enum { AT_HEADER_1 = 64 << 10, AT_HEADER_2 = 128 << 10, AT_REGIONS_1 = 192 << 10, AT_REGIONS_2 = 256 << 10 };
enum { STATE_NOT_PRESENT = 0, STATE_ZERO = 2, STATE_UNMAPPED = 3, STATE_PRESENT = 6, STATE_PARTIAL = 7 };

#define GUID(a, b, c, ...) {(uint8_t)(a), (uint8_t)((a) >> 8), (uint8_t)((a) >> 16), (uint8_t)((a) >> 24), (uint8_t)(b), (uint8_t)((b) >> 8), (uint8_t)(c), (uint8_t)((c) >> 8), __VA_ARGS__}
static const uint8_t guid_table[16] = GUID(0x2dc27766u, 0xf623u, 0x4200u, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08);
static const uint8_t guid_metadata[16] = GUID(0x8b7ca206u, 0x4790u, 0x4b9au, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e);
static const uint8_t guid_parameters[16] = GUID(0xcaa16737u, 0xfa36u, 0x4d43u, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b);
static const uint8_t guid_size[16] = GUID(0x2fa54224u, 0xcd1bu, 0x4876u, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8);
static const uint8_t guid_disk_id[16] = GUID(0xbeca12abu, 0xb2e6u, 0x4523u, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46);
static const uint8_t guid_logical[16] = GUID(0x8141bf1du, 0xa96fu, 0x4709u, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f);
static const uint8_t guid_physical[16] = GUID(0xcda348c7u, 0x445du, 0x4471u, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56);

struct vhdx {
    struct blockmap map;
    uint8_t header[VHDX_HEADER];
    unsigned current; /* which of the two headers is the newer one */
    uint64_t table, table_len, metadata, metadata_len; /* regions; bytes */
    uint64_t ratio;   /* blocks between two entries about bitmaps */
    uint32_t logical; /* bytes of a sector */
    bool leave_allocated, has_parent;
};

/* ---- the table: behind each `ratio` entries for blocks one for a bitmap, which only images with a parent have ---- */

static uint64_t place_of(const struct vhdx *v, uint64_t block)
{
    return v->table + 8 * (block + block / v->ratio);
}

/* Entries [first, first + n) with those for bitmaps between them: one read or write. */
static uint64_t span(const struct vhdx *v, uint64_t first, unsigned n)
{
    return place_of(v, first + n - 1) + 8 - place_of(v, first);
}

static int vhdx_load(struct blockmap *m, uint64_t first, unsigned n, uint64_t *host)
{
    struct vhdx *v = container_of(m, struct vhdx, map);
    uint8_t raw[16 * BLOCKMAP_LEAF];
    int ret = file_read(m->im->file, place_of(v, first), raw, span(v, first, n));
    for (unsigned i = 0; ret == 0 && i < n; i++) {
        uint64_t e = le_get(raw + (place_of(v, first + i) - place_of(v, first)), 8), state = e & 7;
        host[i] = state == STATE_PRESENT ? e & ~(MIB - 1) : BLOCKMAP_NONE;
        if (state == STATE_PARTIAL || (state == STATE_PRESENT && (host[i] < MIB || host[i] >= m->end)))
            ret = -EIO;
    }
    return ret;
}

static int vhdx_store(struct blockmap *m, uint64_t first, unsigned n, const uint64_t *host)
{
    struct vhdx *v = container_of(m, struct vhdx, map);
    uint8_t raw[16 * BLOCKMAP_LEAF];
    uint64_t bytes = span(v, first, n);
    int ret = file_read(m->im->file, place_of(v, first), raw, bytes);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *p = raw + (place_of(v, first + i) - place_of(v, first));
        if (host[i] != BLOCKMAP_NONE)
            le_put(p, host[i] | STATE_PRESENT, 8);
    }
    return ret < 0 ? ret : file_write(m->im->file, place_of(v, first), raw, bytes);
}

/* ---- headers ---- */

/* The older of the two becomes the newer one. */
static int write_header(struct image *im, struct vhdx *v)
{
    uint64_t at = v->current ? AT_HEADER_1 : AT_HEADER_2;
    uint8_t *h = v->header;
    le_put(h + HEADER_SEQUENCE, le_get(h + HEADER_SEQUENCE, 8) + 1, 8);
    memset(h + HEADER_LOG_GUID, 0, 16);
    le_put(h + HEADER_SUM, vhdx_sum(h, VHDX_HEADER, HEADER_SUM), 4);
    int ret = file_write(im->file, at, h, VHDX_HEADER);
    if (ret == 0)
        ret = file_sync(im->file);
    v->current ^= ret == 0;
    return ret;
}

static int vhdx_begin(struct blockmap *m)
{
    struct vhdx *v = container_of(m, struct vhdx, map);
    format_uuid(v->header + HEADER_FILE_GUID);
    format_uuid(v->header + HEADER_DATA_GUID);
    return write_header(m->im, v);
}

static const struct blockmap_ops ops = {.load = vhdx_load, .store = vhdx_store, .begin = vhdx_begin};

static int read_headers(struct image *im, struct vhdx *v, struct error *err)
{
    uint8_t id[8], h[2][VHDX_HEADER];
    bool ok[2];
    int ret = file_read(im->file, 0, id, sizeof id);
    for (unsigned i = 0; ret == 0 && i < 2; i++) {
        ret = file_read(im->file, i ? AT_HEADER_2 : AT_HEADER_1, h[i], VHDX_HEADER);
        ok[i] = memcmp(h[i], "head", 4) == 0 && le_get(h[i] + HEADER_VERSION, 2) == 1 && vhdx_sum_is_right(h[i], VHDX_HEADER, HEADER_SUM);
    }
    if (ret < 0)
        return format_io(im, ret, err);
    if (memcmp(id, "vhdxfile", 8) != 0)
        return format_bad(im, "it has no VHDX signature", err);
    if (!ok[0] && !ok[1])
        return format_bad(im, "neither of its headers has a right checksum", err);
    v->current = !ok[0] || (ok[1] && le_get(h[1] + HEADER_SEQUENCE, 8) > le_get(h[0] + HEADER_SEQUENCE, 8));
    memcpy(v->header, h[v->current], VHDX_HEADER);
    return 0;
}

static int look_at_log(struct image *im, struct vhdx *v, struct error *err)
{
    if (bytes_are_zero(v->header + HEADER_LOG_GUID, 16))
        return 0;
    if (im->readonly)
        return error_set(err, EROFS, "image '%s': was not closed, and its log has to be worked off first; 'lodge image check -f vhdx -r all' does so", im->file->path);
    int ret = vhdx_replay(im, v->header);
    if (ret == -EINVAL)
        return format_bad(im, "it was not closed, and its log cannot be read", err);
    if (ret == 0)
        ret = write_header(im, v);
    return ret < 0 ? format_io(im, ret, err) : 0;
}

/* ---- regions and metadata ---- */

static bool region_ok(uint64_t at, uint64_t len)
{
    return at >= MIB && at % MIB == 0 && len % MIB == 0 && len > 0 && len <= GIB && at <= INT64_MAX - len;
}

static int parse_regions(struct image *im, struct vhdx *v, const uint8_t *t, struct error *err)
{
    uint64_t n = le_get(t + 8, 4);
    for (uint64_t i = 0; i < n && 16 + 32 * (i + 1) <= REGIONS; i++) {
        const uint8_t *e = t + 16 + 32 * i;
        uint64_t at = le_get(e + 16, 8), len = le_get(e + 24, 4);
        bool table = memcmp(e, guid_table, 16) == 0, metadata = memcmp(e, guid_metadata, 16) == 0;
        if (!table && !metadata && (le_get(e + 28, 4) & 1))
            return format_bad(im, "it has a region that is required and not known", err);
        if ((table || metadata) && !region_ok(at, len))
            return format_bad(im, "its regions are not where they can be", err);
        if (table) {
            v->table = at;
            v->table_len = len;
        } else if (metadata) {
            v->metadata = at;
            v->metadata_len = len;
        }
    }
    return v->table && v->metadata ? 0 : format_bad(im, "it has no block table or no metadata", err);
}

static int read_regions(struct image *im, struct vhdx *v, struct error *err)
{
    AUTO_FREE uint8_t *t = malloc(REGIONS);
    if (!t)
        return format_io(im, -ENOMEM, err);
    for (unsigned i = 0; i < 2; i++) {
        int ret = file_read(im->file, i ? AT_REGIONS_2 : AT_REGIONS_1, t, REGIONS);
        if (ret < 0)
            return format_io(im, ret, err);
        if (memcmp(t, "regi", 4) == 0 && vhdx_sum_is_right(t, REGIONS, 4))
            return parse_regions(im, v, t, err);
    }
    return format_bad(im, "neither of its region tables has a right checksum", err);
}

/* An item of the metadata, at most 16 bytes of it. -ENOENT: it is not there. */
static int get_item(struct image *im, const struct vhdx *v, const uint8_t *table, const uint8_t *guid, uint8_t *out, unsigned n)
{
    uint64_t count = le_get(table + 10, 2);
    for (uint64_t i = 0; i < count && 32 * (i + 2) <= REGIONS; i++) {
        const uint8_t *e = table + 32 * (i + 1);
        uint64_t at = le_get(e + 16, 4), len = le_get(e + 20, 4);
        if (memcmp(e, guid, 16) != 0)
            continue;
        return at < REGIONS || len < n || at > v->metadata_len || len > v->metadata_len - at ? -EINVAL : file_read(im->file, v->metadata + at, out, n);
    }
    return -ENOENT;
}

static int read_metadata(struct image *im, struct vhdx *v, uint64_t *block, struct error *err)
{
    AUTO_FREE uint8_t *t = malloc(REGIONS);
    uint8_t parameters[8], size[8], logical[4];
    int ret = t ? file_read(im->file, v->metadata, t, REGIONS) : -ENOMEM;
    if (ret < 0)
        return format_io(im, ret, err);
    if (memcmp(t, "metadata", 8) != 0 || get_item(im, v, t, guid_parameters, parameters, 8) < 0 || get_item(im, v, t, guid_size, size, 8) < 0 ||
        get_item(im, v, t, guid_logical, logical, 4) < 0)
        return format_bad(im, "its metadata is not there or not where it can be", err);
    *block = le_get(parameters, 4);
    im->size = le_get(size, 8);
    v->logical = (uint32_t)le_get(logical, 4);
    v->has_parent = le_get(parameters + 4, 4) & 2;
    if (v->has_parent)
        return error_set(err, 0, "image '%s': is the difference to another VHDX image, which is not supported; merge the two first", im->file->path);
    if (*block < MIB || *block > 256 * MIB || (*block & (*block - 1)) || (v->logical != 512 && v->logical != 4096))
        return format_bad(im, "its blocks or sectors have a size that is not possible", err);
    if (im->size == 0 || im->size % BLOCK_SECTOR || im->size > SIZE_LIMIT)
        return format_bad(im, "its size is not possible", err);
    return 0;
}

/* ---- opening ---- */

static int open_parts(struct image *im, struct vhdx *v, struct error *err)
{
    uint64_t block = 0;
    if (read_headers(im, v, err) < 0 || look_at_log(im, v, err) < 0 || read_regions(im, v, err) < 0 || read_metadata(im, v, &block, err) < 0)
        return -1;
    uint64_t nblocks = (im->size + block - 1) / block;
    v->ratio = ((uint64_t)v->logical << 23) / block;
    if (8 * (nblocks + (nblocks - 1) / v->ratio) > v->table_len)
        return format_bad(im, "its block table is too short for its disk", err);
    if (blockmap_init(&v->map, im, &ops, block, nblocks, err) < 0)
        return -1;
    v->map.align = MIB;
    return 0;
}

static int vhdx_open(struct image *im, struct error *err)
{
    struct vhdx *v = calloc(1, sizeof *v);
    if (!v)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    im->state = v;
    if (open_parts(im, v, err) == 0)
        return 0;
    free(v);
    im->state = NULL;
    return -1;
}

static int vhdx_close(struct image *im)
{
    struct vhdx *v = im->state;
    int ret = im->readonly ? 0 : blockmap_flush(im);
    blockmap_free(&v->map);
    free(v);
    return ret;
}

/* ---- making ---- */

/* Where things are in a new file; from the table on, in MiB. */
enum { NEW_LOG = 1, NEW_METADATA = 2, NEW_TABLE = 3 };

static void put_region(uint8_t *e, const uint8_t *guid, uint64_t at, uint64_t len)
{
    memcpy(e, guid, 16);
    le_put(e + 16, at, 8);
    le_put(e + 24, len, 4);
    le_put(e + 28, 1, 4);
}

static int write_regions(struct file *f, uint64_t table_len)
{
    AUTO_FREE uint8_t *t = calloc(1, REGIONS);
    if (!t)
        return -ENOMEM;
    memcpy(t, "regi", 4);
    le_put(t + 8, 2, 4);
    put_region(t + 16, guid_table, NEW_TABLE * MIB, table_len);
    put_region(t + 48, guid_metadata, NEW_METADATA * MIB, MIB);
    le_put(t + 4, vhdx_sum(t, REGIONS, 4), 4);
    int ret = file_write(f, AT_REGIONS_1, t, REGIONS);
    return ret < 0 ? ret : file_write(f, AT_REGIONS_2, t, REGIONS);
}

static int write_metadata(struct file *f, uint64_t size)
{
    static const struct {
        const uint8_t *guid;
        uint32_t len, flags; /* flags: 2 about the virtual disk, 4 required */
    } items[] = {{guid_parameters, 8, 4}, {guid_size, 8, 6}, {guid_disk_id, 16, 6}, {guid_logical, 4, 6}, {guid_physical, 4, 6}};
    uint8_t data[ARRAY_SIZE(items)][16] = {{0}};
    AUTO_FREE uint8_t *t = calloc(1, REGIONS + 4096);
    if (!t)
        return -ENOMEM;
    le_put(data[0], BLOCK_SIZE, 4);
    le_put(data[1], size, 8);
    format_uuid(data[2]);
    le_put(data[3], 512, 4);
    le_put(data[4], 4096, 4);
    memcpy(t, "metadata", 8);
    le_put(t + 10, ARRAY_SIZE(items), 2);
    for (unsigned i = 0, at = REGIONS; i < ARRAY_SIZE(items); at += items[i++].len) {
        uint8_t *e = t + 32 * (i + 1);
        memcpy(e, items[i].guid, 16);
        le_put(e + 16, at, 4);
        le_put(e + 20, items[i].len, 4);
        le_put(e + 24, items[i].flags, 4);
        memcpy(t + at, data[i], items[i].len);
    }
    return file_write(f, NEW_METADATA * MIB, t, REGIONS + 4096);
}

static int write_headers(struct file *f)
{
    uint8_t id[32] = "vhdxfile", h[VHDX_HEADER] = {0};
    static const char creator[] = "Lodge";
    for (unsigned i = 0; creator[i]; i++)
        id[8 + 2 * i] = (uint8_t)creator[i];
    memcpy(h, "head", 4);
    format_uuid(h + HEADER_FILE_GUID);
    format_uuid(h + HEADER_DATA_GUID);
    le_put(h + HEADER_VERSION, 1, 2);
    le_put(h + HEADER_LOG_LEN, MIB, 4);
    le_put(h + HEADER_LOG_AT, NEW_LOG * MIB, 8);
    int ret = file_write(f, 0, id, sizeof id);
    for (unsigned i = 0; ret == 0 && i < 2; i++) {
        le_put(h + HEADER_SEQUENCE, i + 1, 8);
        le_put(h + HEADER_SUM, vhdx_sum(h, VHDX_HEADER, HEADER_SUM), 4);
        ret = file_write(f, i ? AT_HEADER_2 : AT_HEADER_1, h, VHDX_HEADER);
    }
    return ret;
}

static int vhdx_create(struct io_loop *l, const struct image_new *n, struct error *err)
{
    struct file *f;
    if (n->noptions)
        return image_bad_option(&n->options[0], "none", err);
    if (n->backing || !n->size || n->size > SIZE_LIMIT)
        return error_set(err, 0, "image '%s': a VHDX image has no backing file here, and 64T at most; use qcow2", n->path);
    uint64_t blocks = (n->size + BLOCK_SIZE - 1) / BLOCK_SIZE, ratio = (512ull << 23) / BLOCK_SIZE;
    uint64_t table_len = ALIGN_UP(8 * (blocks + (blocks - 1) / ratio), MIB);
    if (file_create(l, "image", n->path, n->replace, &f, err) < 0)
        return -1;
    int ret = write_regions(f, table_len);
    if (ret == 0)
        ret = write_metadata(f, n->size);
    if (ret == 0)
        ret = write_headers(f);
    if (ret == 0)
        ret = file_truncate(f, NEW_TABLE * MIB + table_len);
    file_close(f);
    return ret < 0 ? error_set(err, -ret, "image '%s': cannot be made: %s; check the disk that is to hold it", n->path, strerror(-ret)) : 0;
}

const struct image_driver vhdx_driver = {.name = "vhdx",
                                         .open = vhdx_open,
                                         .close = vhdx_close,
                                         .read = blockmap_read,
                                         .write = blockmap_write,
                                         .zero = blockmap_zero,
                                         .discard = blockmap_discard,
                                         .flush = blockmap_flush,
                                         .check = blockmap_check,
                                         .extent = blockmap_extent,
                                         .create = vhdx_create};
