// SPDX-License-Identifier: GPL-2.0-or-later
#include "block/vmdk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/util.h"

#define MAGIC "KDMV"
#define MARKER 12u /* bytes before a compressed grain: its first sector, its length */

/* ---- the table: a directory of grain tables of 512 entries, each a leaf ---- */

static int vmdk_load(struct blockmap *m, uint64_t first, unsigned n, uint64_t *host)
{
    struct vmdk *v = container_of(m, struct vmdk, map);
    uint8_t raw[4 * BLOCKMAP_LEAF];
    uint64_t table = v->directory[first / BLOCKMAP_LEAF];
    if (!table) {
        memset(host, 0, n * sizeof *host);
        return 0;
    }
    if (table * BLOCK_SECTOR >= m->end)
        return -EIO;
    int ret = file_read(m->im->file, table * BLOCK_SECTOR, raw, sizeof raw);
    for (unsigned i = 0; ret == 0 && i < n; i++) {
        uint64_t sector = le_get(raw + 4 * i, 4);
        bool there = sector > 1 || (sector == 1 && !v->zero_grains);
        host[i] = there ? sector * BLOCK_SECTOR : sector && m->im->backing_name ? BLOCKMAP_ZERO : BLOCKMAP_NONE;
        if (there && host[i] >= m->end)
            ret = -EIO;
    }
    return ret;
}

static int store_copy(struct blockmap *m, uint64_t table, unsigned n, const uint8_t *raw)
{
    if (!table)
        return -EOPNOTSUPP; /* no program leaves tables out of images that are to be written to */
    return file_write(m->im->file, table * BLOCK_SECTOR, raw, ALIGN_UP(4ull * n, (uint64_t)BLOCK_SECTOR));
}

static int vmdk_store(struct blockmap *m, uint64_t first, unsigned n, const uint64_t *host)
{
    struct vmdk *v = container_of(m, struct vmdk, map);
    uint8_t raw[4 * BLOCKMAP_LEAF] = {0};
    for (unsigned i = 0; i < n; i++)
        le_put(raw + 4 * i, host[i] / BLOCK_SECTOR, 4);
    int ret = store_copy(m, v->directory[first / BLOCKMAP_LEAF], n, raw);
    return ret < 0 || !v->backup ? ret : store_copy(m, v->backup[first / BLOCKMAP_LEAF], n, raw);
}

static int vmdk_place(struct blockmap *m, uint64_t *host)
{
    (void)m;
    return *host / BLOCK_SECTOR < UINT32_MAX ? 0 : -EFBIG;
}

static const struct blockmap_ops ops = {.load = vmdk_load, .store = vmdk_store, .place = vmdk_place};

/* ---- compressed grains ---- */

static int unpack(struct image *im, struct vmdk *v, uint64_t host)
{
    uint8_t marker[MARKER];
    uLongf got = v->map.block;
    if (!v->last.data && !(v->last.data = malloc(v->map.block)))
        return -ENOMEM;
    v->last.host = 0;
    int ret = file_read(im->file, host, marker, sizeof marker);
    uint64_t len = le_get(marker + 8, 4);
    if (ret == 0 && (len == 0 || len > 2 * v->map.block + 64))
        ret = -EIO;
    AUTO_FREE uint8_t *in = ret == 0 ? malloc(len) : NULL;
    if (ret == 0)
        ret = in ? file_read(im->file, host + MARKER, in, len) : -ENOMEM;
    if (ret == 0 && uncompress(v->last.data, &got, in, len) != Z_OK)
        ret = -EIO;
    if (ret < 0)
        return ret;
    memset(v->last.data + got, 0, v->map.block - got);
    v->last.host = host;
    return 0;
}

static int read_packed(struct image *im, uint64_t host, uint64_t within, uint64_t at, uint64_t n, const struct iovec *iov, int niov)
{
    struct vmdk *v = im->state;
    fiber_lock(&v->last.lock);
    int ret = v->last.host == host ? 0 : unpack(im, v, host);
    if (ret == 0)
        iov_from(iov, niov, at, v->last.data + within, n);
    fiber_unlock(im->loop, &v->last.lock);
    return ret;
}

static int read_grains(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    struct vmdk *v = im->state;
    for (uint64_t done = 0, n, host; done < len; done += n) {
        uint64_t within = (offset + done) % v->map.block;
        n = MIN(v->map.block - within, len - done);
        int ret = blockmap_lookup(&v->map, (offset + done) / v->map.block, &host);
        if (ret == 0 && !blockmap_has_place(host))
            ret = blockmap_read_absent(im, host, offset + done, done, n, iov, niov);
        else if (ret == 0)
            ret = read_packed(im, host, within, done, n, iov, niov);
        if (ret < 0)
            return ret;
    }
    return 0;
}

struct packing {
    const uint8_t *in;
    uint8_t *out;
    uint64_t bytes;
    uLongf len;
};

static ssize_t pack(void *arg)
{
    struct packing *p = arg;
    return compress2(p->out, &p->len, p->in, p->bytes, Z_DEFAULT_COMPRESSION) == Z_OK ? 0 : -ENOMEM;
}

/* Puts a grain behind all others and lets the table lead there. What the old one took is lost, as in every program that writes such images. */
static int write_packed(struct image *im, uint64_t grain, const uint8_t *data)
{
    struct vmdk *v = im->state;
    struct packing p = {.in = data, .bytes = v->map.block, .len = compressBound(v->map.block)};
    uint64_t room = ALIGN_UP(MARKER + (uint64_t)p.len, (uint64_t)BLOCK_SECTOR);
    AUTO_FREE uint8_t *buf = calloc(1, room);
    if (!buf)
        return -ENOMEM;
    p.out = buf + MARKER;
    int ret = (int)io_call(im->loop, pack, &p);
    if (ret < 0)
        return ret;
    le_put(buf, grain * v->map.block / BLOCK_SECTOR, 8);
    le_put(buf + 8, p.len, 4);
    uint64_t bytes = ALIGN_UP(MARKER + (uint64_t)p.len, (uint64_t)BLOCK_SECTOR);
    fiber_lock(&v->map.lock);
    uint64_t host = ALIGN_UP(v->map.end, (uint64_t)BLOCK_SECTOR);
    ret = host / BLOCK_SECTOR < UINT32_MAX ? file_write(im->file, host, buf, bytes) : -EFBIG;
    if (ret == 0)
        ret = blockmap_set(&v->map, grain, host);
    if (ret == 0)
        v->map.end = host + bytes;
    fiber_unlock(im->loop, &v->map.lock);
    return ret;
}

static int write_grains(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    struct vmdk *v = im->state;
    AUTO_FREE uint8_t *buf = malloc(v->map.block);
    int ret = buf ? 0 : -ENOMEM;
    for (uint64_t done = 0, n; ret == 0 && done < len; done += n) {
        uint64_t at = offset + done, within = at % v->map.block, start = at - within;
        struct iovec whole = {buf, v->map.block};
        n = MIN(v->map.block - within, len - done);
        if (n < v->map.block && at + n < im->size)
            ret = read_grains(im, start, v->map.block, &whole, 1);
        else if (n < v->map.block) {
            memset(buf, 0, v->map.block);
            ret = within ? read_grains(im, start, within, &(struct iovec){buf, within}, 1) : 0;
        }
        iov_to(iov, niov, done, buf + within, n);
        if (ret == 0)
            ret = write_packed(im, start / v->map.block, buf);
    }
    return ret;
}

/* ---- the driver ---- */

static int vmdk_read(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    const struct vmdk *v = im->state;
    if (v->nparts)
        return vmdk_parts_transfer(im, false, offset, len, iov, niov);
    return v->packed ? read_grains(im, offset, len, iov, niov) : blockmap_read(im, offset, len, iov, niov);
}

/* Children of this image see by its number that it is not their parent any more. */
static int change_cid(struct image *im)
{
    struct vmdk *v = im->state;
    uint64_t at = v->cid_at;
    uint8_t random[16];
    char digits[9];
    if (!at || !v->cid_digits)
        return 0;
    v->cid_at = 0;
    format_uuid(random);
    v->cid = (uint32_t)(le_get(random, 4) & ((1ull << 4 * v->cid_digits) - 2)); /* an even number: never VMDK_NO_PARENT */
    snprintf(digits, sizeof digits, "%0*x", (int)v->cid_digits, v->cid);
    return file_write(im->file, at, digits, v->cid_digits);
}

static int vmdk_write(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    const struct vmdk *v = im->state;
    int ret = change_cid(im);
    if (ret < 0)
        return ret;
    if (v->nparts)
        return vmdk_parts_transfer(im, true, offset, len, iov, niov);
    return v->packed ? write_grains(im, offset, len, iov, niov) : blockmap_write(im, offset, len, iov, niov);
}

static int vmdk_zero(struct image *im, uint64_t offset, uint64_t len, bool may_unmap)
{
    struct vmdk *v = im->state;
    static uint8_t zeroes[64 * KIB];
    int ret = change_cid(im);
    if (ret < 0)
        return ret;
    if (v->nparts)
        return vmdk_parts_zero(im, offset, len, may_unmap);
    if (!v->packed)
        return blockmap_zero(im, offset, len, may_unmap);
    for (uint64_t done = 0, n; done < len; done += n) {
        n = MIN(sizeof zeroes, len - done);
        if ((ret = write_grains(im, offset + done, n, &(struct iovec){zeroes, n}, 1)) < 0)
            return ret;
    }
    return 0;
}

static int vmdk_discard(struct image *im, uint64_t offset, uint64_t len)
{
    const struct vmdk *v = im->state;
    return v->nparts || v->packed ? 0 : vmdk_zero(im, offset, len, true);
}

static int vmdk_flush(struct image *im)
{
    const struct vmdk *v = im->state;
    return v->nparts ? vmdk_parts_flush(im) : blockmap_flush(im);
}

static int vmdk_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out)
{
    struct vmdk *v = im->state;
    if (v->nparts)
        return vmdk_parts_extent(im, offset, len, out);
    int ret = blockmap_extent(im, offset, len, out);
    if (v->packed && out->kind == EXTENT_DATA)
        *out = (struct extent){.kind = EXTENT_COMPRESSED, .len = MIN(len, v->map.block - offset % v->map.block)};
    return ret;
}

static int vmdk_check_backing(struct image *im, struct error *err)
{
    const struct vmdk *v = im->state, *parent = im->backing->state;
    if (im->backing->driver == &vmdk_driver && parent->cid == v->parent_cid)
        return 0;
    return error_set(err, 0, "image '%s': its parent '%s' has changed since; restore the parent as it was", im->file->path, im->backing_name);
}

/* ---- opening ---- */

static void release(struct vmdk *v)
{
    vmdk_parts_close(v);
    blockmap_free(&v->map);
    free(v->directory);
    free(v->backup);
    free(v->last.data);
    free(v);
}

static int read_directory(struct image *im, struct vmdk *v, uint64_t sector, uint64_t entries, uint32_t **out)
{
    uint32_t *d = calloc(entries + 1, sizeof *d);
    int ret = d ? 0 : -ENOMEM;
    if (ret == 0 && (sector > v->map.end / BLOCK_SECTOR || 4 * entries > v->map.end - sector * BLOCK_SECTOR))
        ret = -EIO;
    if (ret == 0)
        ret = file_read(im->file, sector * BLOCK_SECTOR, d, 4 * entries);
    if (ret < 0) {
        free(d);
        return ret;
    }
    for (uint64_t i = 0; i < entries; i++)
        d[i] = (uint32_t)le_get((uint8_t *)&d[i], 4);
    *out = d;
    return 0;
}

static int check_text(struct image *im, struct vmdk *v, const uint8_t *h, struct error *err)
{
    uint64_t at = le_get(h + VMDK_TEXT_AT, 8), n = le_get(h + VMDK_TEXT_SIZE, 8);
    if (!at || !n)
        return 0;
    if (at > v->map.end / BLOCK_SECTOR || n > VMDK_DESCRIPTOR / BLOCK_SECTOR)
        return format_bad(im, "its descriptor is not where it can be", err);
    AUTO_FREE char *text = calloc(1, n * BLOCK_SECTOR + 1);
    int ret = text ? file_read(im->file, at * BLOCK_SECTOR, text, n * BLOCK_SECTOR) : -ENOMEM;
    return ret < 0 ? format_io(im, ret, err) : vmdk_parse_text(im, v, text, at * BLOCK_SECTOR, true, err);
}

static int open_sparse(struct image *im, struct vmdk *v, uint8_t *h, struct error *err)
{
    uint64_t length;
    int ret = file_length(im->file, &length);
    if (ret == 0 && le_get(h + VMDK_DIRECTORY, 8) == UINT64_MAX) { /* a stream's: the header that counts is a footer */
        ret = length >= 3 * VMDK_HEADER ? file_read(im->file, length - 2 * VMDK_HEADER, h, VMDK_HEADER) : -EINVAL;
        if (ret < 0 || memcmp(h, MAGIC, 4) != 0 || !im->readonly)
            return im->readonly ? format_bad(im, "it is a stream without its footer", err)
                                : error_set(err, EROFS, "image '%s': is a finished stream, which is only read; convert it", im->file->path);
    }
    if (ret < 0)
        return format_io(im, ret, err);
    uint64_t sectors = le_get(h + VMDK_CAPACITY, 8), grain = le_get(h + VMDK_GRAIN, 8), version = le_get(h + VMDK_VERSION, 4);
    uint32_t flags = (uint32_t)le_get(h + VMDK_FLAGS, 4);
    if (version < 1 || version > 3 || grain < 8 || grain > 2 * MIB / BLOCK_SECTOR || (grain & (grain - 1)) || le_get(h + VMDK_ENTRIES, 4) != BLOCKMAP_LEAF)
        return format_bad(im, "its version, grains or tables have a size that is not possible", err);
    if ((flags & VMDK_COMPRESSED) && le_get(h + VMDK_COMPRESSION, 2) != 1)
        return format_bad(im, "its compression is not known", err);
    if (sectors == 0 || sectors > INT64_MAX / BLOCK_SECTOR || sectors / grain >= BLOCKMAP_BLOCKS)
        return format_bad(im, "its size is not possible", err);
    im->size = sectors * BLOCK_SECTOR;
    v->packed = flags & VMDK_COMPRESSED;
    v->zero_grains = flags & VMDK_ZERO_GRAINS;
    if (blockmap_init(&v->map, im, &ops, grain * BLOCK_SECTOR, (sectors + grain - 1) / grain, err) < 0)
        return -1;
    uint64_t tables = (v->map.nblocks + BLOCKMAP_LEAF - 1) / BLOCKMAP_LEAF;
    ret = read_directory(im, v, le_get(h + VMDK_DIRECTORY, 8), tables, &v->directory);
    if (ret == 0 && (flags & VMDK_HAS_BACKUP) && !im->readonly)
        ret = read_directory(im, v, le_get(h + VMDK_BACKUP, 8), tables, &v->backup);
    if (ret < 0)
        return format_bad(im, "its grain directory is not where it can be", err);
    return check_text(im, v, h, err);
}

static int open_text(struct image *im, struct vmdk *v, struct error *err)
{
    uint64_t length;
    int ret = file_length(im->file, &length);
    if (ret == 0 && length > VMDK_DESCRIPTOR)
        return format_bad(im, "it has no VMDK signature", err);
    AUTO_FREE char *text = ret == 0 ? calloc(1, length + 1) : NULL;
    if (ret == 0)
        ret = text ? file_read(im->file, 0, text, length) : -ENOMEM;
    if (ret < 0)
        return format_io(im, ret, err);
    if (!strstr(text, "# Disk DescriptorFile"))
        return format_bad(im, "it has no VMDK signature", err);
    return vmdk_parse_text(im, v, text, 0, false, err);
}

static struct vmdk *vmdk_new(struct image *im, struct error *err)
{
    struct vmdk *v = calloc(1, sizeof *v);
    if (!v)
        error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    else
        v->parent_cid = VMDK_NO_PARENT;
    return v;
}

/* It must be a sparse file: a descriptor could name itself as its part. */
static int open_part_file(struct image *im, struct error *err)
{
    uint8_t h[VMDK_HEADER];
    int ret = file_read(im->file, 0, h, sizeof h);
    if (ret < 0)
        return format_io(im, ret, err);
    if (memcmp(h, MAGIC, 4) != 0)
        return format_bad(im, "it is no sparse part of an image", err);
    struct vmdk *v = vmdk_new(im, err);
    if (!v)
        return -1;
    if (open_sparse(im, v, h, err) == 0) {
        im->state = v;
        im->driver = &vmdk_driver;
        return 0;
    }
    release(v);
    return -1;
}

int vmdk_open_part(struct image *im, const char *path, struct image **out, struct error *err)
{
    struct image *part = calloc(1, sizeof *part);
    if (!part)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    part->loop = im->loop;
    part->readonly = im->readonly;
    if (file_open(im->loop, "part of an image", path, im->readonly, &part->file, err) == 0 && open_part_file(part, err) == 0) {
        *out = part;
        return 0;
    }
    image_close(part);
    return -1;
}

static int vmdk_open(struct image *im, struct error *err)
{
    uint8_t h[VMDK_HEADER];
    struct vmdk *v = vmdk_new(im, err);
    if (!v)
        return -1;
    int ret = file_read(im->file, 0, h, sizeof h);
    ret = ret < 0 ? format_io(im, ret, err) : memcmp(h, MAGIC, 4) == 0 ? open_sparse(im, v, h, err) : open_text(im, v, err);
    im->state = v;
    if (ret == 0)
        return 0;
    release(v);
    im->state = NULL;
    return -1;
}

static int vmdk_close(struct image *im)
{
    int ret = im->readonly ? 0 : vmdk_flush(im);
    release(im->state);
    return ret;
}

static int vmdk_check(struct image *im, struct image_check *out)
{
    struct vmdk *v = im->state;
    int ret = v->parts ? 0 : blockmap_check_map(&v->map, v->packed ? BLOCK_SECTOR : v->map.block, out);
    for (unsigned i = 0; ret == 0 && i < v->nparts; i++) {
        const struct vmdk_part *p = &v->parts[i];
        uint64_t length = 0;
        if (p->sparse)
            ret = vmdk_check(p->sparse, out);
        else if (p->file && (ret = file_length(p->file, &length)) == 0 && (p->host > length || p->len > length - p->host)) {
            out->corruptions++;
            image_report(out, "ERROR: part '%s' is shorter than what the disk has in it", p->file->path);
        }
    }
    return ret;
}

const struct image_driver vmdk_driver = {.name = "vmdk",
                                         .open = vmdk_open,
                                         .check_backing = vmdk_check_backing,
                                         .close = vmdk_close,
                                         .read = vmdk_read,
                                         .write = vmdk_write,
                                         .zero = vmdk_zero,
                                         .discard = vmdk_discard,
                                         .flush = vmdk_flush,
                                         .check = vmdk_check,
                                         .extent = vmdk_extent,
                                         .create = vmdk_create};
