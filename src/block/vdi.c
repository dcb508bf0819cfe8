// SPDX-License-Identifier: GPL-2.0-or-later
/* VDI, VirtualBox's format: a header, a table of 32-bit block numbers, and blocks. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "block/blockmap.h"

#define SIGNATURE   0xbeda107fu
#define VERSION_1_1 0x00010001u
#define HEADER      512u
#define NOT_THERE   0xffffffffu /* reads as zeroes, as does ZERO */
#define ZERO        0xfffffffeu
#define BLOCK       MIB

/* Places of fields in the header. */
enum { AT_SIGNATURE = 64, AT_VERSION = 68, AT_HEADER_SIZE = 72, AT_TYPE = 76, AT_TABLE = 340, AT_DATA = 344, AT_SECTOR = 360, AT_SIZE = 368, AT_BLOCK = 376,
       AT_EXTRA = 380, AT_BLOCKS = 384, AT_ALLOCATED = 388, AT_UUID = 392, AT_SNAPSHOT = 408, AT_LINK = 424, AT_PARENT = 440 };
enum { TYPE_DYNAMIC = 1, TYPE_STATIC = 2 };

struct vdi {
    struct blockmap map;
    uint64_t table, data; /* offsets in the file */
};

static int vdi_load(struct blockmap *m, uint64_t first, unsigned n, uint64_t *host)
{
    struct vdi *v = container_of(m, struct vdi, map);
    uint8_t raw[4 * BLOCKMAP_LEAF];
    int ret = file_read(m->im->file, v->table + 4 * first, raw, 4ull * n);
    for (unsigned i = 0; ret == 0 && i < n; i++) {
        uint32_t e = (uint32_t)le_get(raw + 4 * i, 4);
        host[i] = e >= ZERO ? BLOCKMAP_NONE : v->data + (uint64_t)e * m->block;
        if (host[i] != BLOCKMAP_NONE && host[i] >= m->end)
            ret = -EIO;
    }
    return ret;
}

static int vdi_store(struct blockmap *m, uint64_t first, unsigned n, const uint64_t *host)
{
    struct vdi *v = container_of(m, struct vdi, map);
    uint8_t raw[4 * BLOCKMAP_LEAF];
    for (unsigned i = 0; i < n; i++)
        le_put(raw + 4 * i, host[i] == BLOCKMAP_NONE ? NOT_THERE : (host[i] - v->data) / m->block, 4);
    return file_write(m->im->file, v->table + 4 * first, raw, 4ull * n);
}

static int vdi_place(struct blockmap *m, uint64_t *host)
{
    const struct vdi *v = container_of(m, struct vdi, map);
    uint64_t n = (MAX(m->end, v->data) - v->data + m->block - 1) / m->block;
    *host = v->data + n * m->block;
    return n < ZERO ? 0 : -EFBIG;
}

/* The number of blocks in the file, which the header tells as well. */
static int vdi_stored(struct blockmap *m)
{
    const struct vdi *v = container_of(m, struct vdi, map);
    uint8_t n[4];
    le_put(n, (m->end - v->data) / m->block, 4);
    return file_write(m->im->file, AT_ALLOCATED, n, sizeof n);
}

static const struct blockmap_ops ops = {.load = vdi_load, .store = vdi_store, .place = vdi_place, .stored = vdi_stored};

static bool is_zero_uuid(const uint8_t *p)
{
    return bytes_are_zero(p, 16);
}

static int check_header(struct image *im, const uint8_t *h, struct error *err)
{
    uint64_t length, size = le_get(h + AT_SIZE, 8), block = le_get(h + AT_BLOCK, 4), blocks = le_get(h + AT_BLOCKS, 4);
    int ret = file_length(im->file, &length);
    if (ret < 0)
        return format_io(im, ret, err);
    if (le_get(h + AT_SIGNATURE, 4) != SIGNATURE)
        return format_bad(im, "it has no VDI signature", err);
    if (le_get(h + AT_VERSION, 4) != VERSION_1_1)
        return format_bad(im, "its VDI version is not 1.1", err);
    if (!is_zero_uuid(h + AT_LINK) || !is_zero_uuid(h + AT_PARENT))
        return error_set(err, 0, "image '%s': is the difference to another VDI image, which is not supported; merge it with VBoxManage clonemedium", im->file->path);
    if (le_get(h + AT_SECTOR, 4) != BLOCK_SECTOR || block < 4 * KIB || block > 64 * MIB || (block & (block - 1)) || le_get(h + AT_EXTRA, 4))
        return format_bad(im, "its sectors or blocks have a size that is not possible", err);
    uint64_t table = le_get(h + AT_TABLE, 4), data = le_get(h + AT_DATA, 4);
    if (size == 0 || size > blocks * block || table < HEADER || table % BLOCK_SECTOR || data % BLOCK_SECTOR || table + 4 * blocks > data || data > ALIGN_UP(length, BLOCK) ||
        table + 4 * blocks > length)
        return format_bad(im, "its block table is not where it can be", err);
    return 0;
}

static int vdi_open(struct image *im, struct error *err)
{
    uint8_t h[HEADER];
    int ret = file_read(im->file, 0, h, sizeof h);
    if (ret < 0)
        return format_io(im, ret, err);
    if (check_header(im, h, err) < 0)
        return -1;
    struct vdi *v = calloc(1, sizeof *v);
    if (!v)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    if (blockmap_init(&v->map, im, &ops, le_get(h + AT_BLOCK, 4), le_get(h + AT_BLOCKS, 4), err) < 0) {
        free(v);
        return -1;
    }
    v->table = le_get(h + AT_TABLE, 4);
    v->data = le_get(h + AT_DATA, 4);
    v->map.end = MAX(v->map.end, v->data);
    im->size = ALIGN_DOWN(le_get(h + AT_SIZE, 8), (uint64_t)BLOCK_SECTOR);
    im->state = v;
    return 0;
}

static int vdi_close(struct image *im)
{
    struct vdi *v = im->state;
    int ret = im->readonly ? 0 : blockmap_flush(im);
    blockmap_free(&v->map);
    free(v);
    return ret;
}

/* ---- making ---- */

static int write_tables(struct file *f, const uint8_t *h, uint64_t blocks, bool fixed)
{
    uint8_t raw[4 * BLOCKMAP_LEAF];
    int ret = file_write(f, 0, h, HEADER);
    for (uint64_t first = 0; ret == 0 && first < blocks; first += BLOCKMAP_LEAF) {
        memset(raw, 0, sizeof raw);
        for (unsigned i = 0; i < BLOCKMAP_LEAF && first + i < blocks; i++)
            le_put(raw + 4 * i, fixed ? first + i : NOT_THERE, 4);
        ret = file_write(f, le_get(h + AT_TABLE, 4) + 4 * first, raw, ALIGN_UP(4 * MIN(blocks - first, BLOCKMAP_LEAF), (uint64_t)BLOCK_SECTOR));
    }
    return ret < 0 ? ret : file_truncate(f, le_get(h + AT_DATA, 4) + (fixed ? blocks * BLOCK : 0));
}

static int vdi_create(struct io_loop *l, const struct image_new *n, struct error *err)
{
    static const char text[] = "<<< Lodge Virtual Disk Image >>>\n";
    uint8_t h[HEADER] = {0};
    bool fixed = false;
    struct file *f;
    for (unsigned i = 0; i < n->noptions; i++) {
        if (strcmp(n->options[i].name, "static") != 0)
            return image_bad_option(&n->options[i], "static", err);
        fixed = strcmp(n->options[i].value, "on") == 0;
    }
    uint64_t blocks = (n->size + BLOCK - 1) / BLOCK, data = HEADER + ALIGN_UP(4 * blocks, (uint64_t)BLOCK_SECTOR);
    if (n->backing || !n->size || blocks > 0x1fffffff)
        return error_set(err, 0, "image '%s': a VDI image has no backing file, and between 512 bytes and 512T; use qcow2", n->path);
    memcpy(h, text, sizeof text);
    le_put(h + AT_SIGNATURE, SIGNATURE, 4);
    le_put(h + AT_VERSION, VERSION_1_1, 4);
    le_put(h + AT_HEADER_SIZE, 0x180, 4);
    le_put(h + AT_TYPE, fixed ? TYPE_STATIC : TYPE_DYNAMIC, 4);
    le_put(h + AT_TABLE, HEADER, 4);
    le_put(h + AT_DATA, data, 4);
    le_put(h + AT_SECTOR, BLOCK_SECTOR, 4);
    le_put(h + AT_SIZE, n->size, 8);
    le_put(h + AT_BLOCK, BLOCK, 4);
    le_put(h + AT_BLOCKS, blocks, 4);
    le_put(h + AT_ALLOCATED, fixed ? blocks : 0, 4);
    format_uuid(h + AT_UUID);
    format_uuid(h + AT_SNAPSHOT);
    if (file_create(l, "image", n->path, n->replace, &f, err) < 0)
        return -1;
    int ret = write_tables(f, h, blocks, fixed);
    file_close(f);
    return ret < 0 ? error_set(err, -ret, "image '%s': cannot be made: %s; check the disk that is to hold it", n->path, strerror(-ret)) : 0;
}

const struct image_driver vdi_driver = {.name = "vdi",
                                        .open = vdi_open,
                                        .close = vdi_close,
                                        .read = blockmap_read,
                                        .write = blockmap_write,
                                        .zero = blockmap_zero,
                                        .discard = blockmap_discard,
                                        .flush = blockmap_flush,
                                        .check = blockmap_check,
                                        .extent = blockmap_extent,
                                        .create = vdi_create};
