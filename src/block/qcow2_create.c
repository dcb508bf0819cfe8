// SPDX-License-Identifier: GPL-2.0-or-later
/* New images. The first clusters are: header, refcount table, refcount blocks, L1 table. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/util.h"
#include "block/qcow2.h"

struct layout {
    uint64_t rct_clusters, blocks, l1_clusters, luks_clusters, total; /* clusters */
};

int qcow2_check_create(const struct qcow2_create *o, struct error *err)
{
    unsigned entry = o->ext_l2 ? 4 : 3;
    const char *what = NULL;
    if (o->cluster_bits < QCOW2_MIN_CLUSTER || o->cluster_bits > QCOW2_MAX_CLUSTER)
        what = "the cluster size is a power of two from 512 to 2M";
    else if (o->refcount_order > 6 || (o->version < 3 && o->refcount_order != 4))
        what = "refcounts have 1, 2, 4, 8, 16, 32 or 64 bits, and in version 2 (compat 0.10) always 16";
    else if (o->version < 3 && (o->lazy || o->ext_l2 || o->zstd || o->data_file))
        what = "version 2 (compat 0.10) has no lazy refcounts, extended L2 entries, zstd and data files; use compat 1.1";
    else if (o->ext_l2 && o->cluster_bits < 14)
        what = "extended L2 entries want clusters of 16K at least";
    else if (o->size % BLOCK_SECTOR)
        what = "the size is a multiple of 512 bytes";
    else if (o->size >> (2 * o->cluster_bits - entry) > QCOW2_MAX_L1 / 8 - 1)
        what = "the disk is too large for clusters of that size; use larger ones";
    else if (o->data_file_raw && !o->data_file)
        what = "data_file_raw is about a data_file";
    else if (o->data_file_raw && o->backing)
        what = "an image with a raw data file has no backing file";
    else if (o->prealloc != PREALLOC_OFF && o->backing)
        what = "what is preallocated would hide the backing file; leave preallocation or the backing file out";
    else if (o->encrypt && o->data_file)
        what = "an encrypted image keeps its data itself; leave data_file out";
    else if (o->encrypt && o->version < 3 && o->prealloc != PREALLOC_OFF)
        what = "version 2 (compat 0.10) cannot preallocate what is encrypted; use compat 1.1";
    return what ? error_set(err, 0, "image '%s': cannot be made so: %s", o->path, what) : 0;
}

static struct layout lay_out(const struct qcow2_create *o, uint64_t l1_size, uint64_t luks_bytes)
{
    uint64_t size = 1ull << o->cluster_bits, per_block = size * 8 >> o->refcount_order;
    uint64_t data = (o->size + size - 1) / size, tables = l1_size + (l1_size * 8 + size - 1) / size;
    uint64_t all = data + tables + data / per_block + 16;
    struct layout l = {.l1_clusters = MAX((l1_size * 8 + size - 1) / size, 1), .blocks = 1, .luks_clusters = (luks_bytes + size - 1) / size};
    all += l.luks_clusters;
    l.rct_clusters = MIN(MAX((all / per_block * 8 + 8 * 8 + size - 1) / size, 1), QCOW2_MAX_RCT / size);
    for (;; l.blocks++) {
        l.total = 1 + l.rct_clusters + l.blocks + l.l1_clusters + l.luks_clusters;
        if (l.blocks * per_block >= l.total)
            return l;
    }
}

static void describe(struct qcow2 *q, struct image *im, const struct qcow2_create *o)
{
    *q = (struct qcow2){.im = im, .cluster_size = 1u << o->cluster_bits, .entry_bytes = o->ext_l2 ? 16 : 8, .granules = o->ext_l2 ? 32 : 1};
    q->l2_bits = o->cluster_bits - (o->ext_l2 ? 4 : 3);
    q->h = (struct qcow2_header){.version = o->version, .cluster_bits = o->cluster_bits, .size = o->size, .refcount_order = o->refcount_order,
                                 .compression = o->zstd};
    q->h.incompatible = (o->ext_l2 ? QCOW2_INCOMPAT_EXT_L2 : 0) | (o->zstd ? QCOW2_INCOMPAT_COMPRESSION : 0) |
                        (o->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0);
    q->h.compatible = o->lazy ? QCOW2_COMPAT_LAZY : 0;
    q->h.autoclear = o->data_file_raw ? QCOW2_AUTOCLEAR_RAW_DATA : 0;
    q->data_name = (char *)(uintptr_t)o->data_file;
    im->backing_name = (char *)(uintptr_t)o->backing;
    im->backing_format = (char *)(uintptr_t)o->backing_format;
}

static int write_refcounts(struct qcow2 *q, const struct layout *l)
{
    uint64_t per_block = (uint64_t)q->cluster_size * 8 >> q->h.refcount_order;
    AUTO_FREE uint8_t *block = malloc(q->cluster_size);
    AUTO_FREE uint64_t *rct = calloc(l->rct_clusters, q->cluster_size);
    if (!block || !rct)
        return -ENOMEM;
    for (uint64_t b = 0; b < l->blocks; b++) {
        rct[b] = (1 + l->rct_clusters + b) << q->h.cluster_bits;
        memset(block, 0, q->cluster_size);
        for (uint64_t n = b * per_block; n < MIN((b + 1) * per_block, l->total); n++)
            qcow2_put_refcount(block, n - b * per_block, q->h.refcount_order, 1);
        int ret = file_write(q->file, rct[b], block, q->cluster_size);
        if (ret < 0)
            return ret;
    }
    return qcow2_write_l1(q, q->h.rct_offset, (uint32_t)((l->rct_clusters << q->h.cluster_bits) / 8), rct);
}

/* The header goes behind all tables, and the extension that names it into the image's header. */
static int write_luks(struct qcow2 *q, const struct qcow2_create *o, const struct layout *l, uint64_t bytes, struct error *err)
{
    uint64_t at = (l->total - l->luks_clusters) << q->h.cluster_bits;
    q->extensions = calloc(1, 24);
    if (!q->extensions)
        return -ENOMEM;
    q->extensions_len = 24;
    be32_put(q->extensions, QCOW2_EXT_CRYPTO);
    be32_put(q->extensions + 4, 16);
    be64_put(q->extensions + 8, at);
    be64_put(q->extensions + 16, bytes);
    q->h.crypt = QCOW2_CRYPT_LUKS;
    return luks_format(q->file, at, &o->luks, o->secret_file, err);
}

static int write_image(struct qcow2 *q, const struct qcow2_create *o, uint64_t luks_bytes, struct error *err)
{
    uint64_t l1_size = qcow2_l1_entries(q, o->size);
    struct layout l = lay_out(o, l1_size, luks_bytes);
    q->h.rct_offset = q->cluster_size;
    q->h.rct_clusters = (uint32_t)l.rct_clusters;
    q->h.l1_offset = (1 + l.rct_clusters + l.blocks) << q->h.cluster_bits;
    q->h.l1_size = (uint32_t)l1_size;
    AUTO_FREE uint64_t *l1 = calloc(MAX(l1_size, 1), 8);
    int ret = l1 ? write_refcounts(q, &l) : -ENOMEM;
    if (ret == 0)
        ret = qcow2_write_l1(q, q->h.l1_offset, q->h.l1_size, l1);
    if (ret == 0 && !q->file->device)
        ret = file_truncate(q->file, l.total << q->h.cluster_bits);
    if (ret == 0 && luks_bytes)
        ret = write_luks(q, o, &l, luks_bytes, err);
    return ret < 0 ? ret : qcow2_write_header(q);
}

/* Gives every guest cluster a host cluster; what they hold is zeroes. */
static int allocate_all(struct image *im)
{
    struct qcow2 *q = qcow2_of(im);
    uint64_t end = ALIGN_UP(im->size, (uint64_t)q->cluster_size);
    int ret = 0;
    for (uint64_t at = 0; ret == 0 && at < end;) {
        uint64_t host = at, got = qcow2_clusters(q, MIN(end - at, 256 * MIB));
        if (q->data == q->file && (ret = qcow2_alloc(q, got, &host, &got)) < 0)
            break;
        uint64_t bytes = got << q->h.cluster_bits;
        q->fresh = MAX(q->fresh, host + bytes);
        ret = qcow2_link(q, at, bytes, host);
        if (ret == 0 && q->h.crypt) /* what is there would be noise */
            ret = qcow2_unlink(q, at, bytes, QCOW2_TO_ZERO_KEEP);
        if (ret == 0 && (q->l2.ndirty > q->l2.max / 4 || q->refs.ndirty > q->refs.max / 4))
            ret = qcow2_write_back(q);
        at += bytes;
    }
    return ret;
}

static int preallocate(struct io_loop *l, const struct qcow2_create *o, struct error *err)
{
    struct image_options io = {.path = o->path, .format = "qcow2", .no_backing = true, .what = "image"};
    struct image *im;
    if (image_open(l, &io, &im, err) < 0)
        return -1;
    struct qcow2 *q = qcow2_of(im);
    uint64_t length, before;
    int ret = file_length(q->data, &before);
    if (ret == 0)
        ret = allocate_all(im);
    if (ret == 0)
        ret = qcow2_write_back(q);
    if (ret == 0 && !q->data->device && (ret = file_length(q->data, &length)) == 0) {
        uint64_t end = q->data == q->file ? MAX(q->fresh, length) : im->size;
        ret = file_truncate(q->data, end);
        uint64_t from = q->data == q->file ? before : 0; /* a data file has its length already, and no room */
        if (ret == 0 && o->prealloc == PREALLOC_FALLOC && end > from)
            ret = -posix_fallocate(q->data->fd, (off_t)from, (off_t)(end - from));
    }
    for (uint64_t at = 0; ret == 0 && o->prealloc == PREALLOC_FULL && at < im->size;) {
        struct qcow2_run r;
        ret = qcow2_lookup(q, at, im->size - at, &r);
        if (ret == 0)
            ret = file_fill(q->data, r.host, r.len);
        at += r.len;
    }
    int closed = image_close(im);
    ret = ret < 0 ? ret : closed;
    if (ret < 0)
        return error_set(err, -ret, "image '%s': cannot be preallocated: %s; free space on its disk", o->path, strerror(-ret));
    return 0;
}

/* What an image names for its data is made anew: it must be none of the files that are needed. */
static int check_data_file(const struct qcow2_create *o, struct error *err)
{
    AUTO_FREE char *path = image_backing_path(o->path, o->data_file), *backing = o->backing ? image_backing_path(o->path, o->backing) : NULL;
    if (!path || (o->backing && !backing))
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", o->path);
    if (file_is_same(path, o->path) || (backing && file_is_same(path, backing)))
        return error_set(err, 0, "data file '%s': is the image itself or its backing file; give another name", path);
    return 0;
}

static int make_data_file(struct io_loop *l, const struct qcow2_create *o, struct error *err)
{
    AUTO_FREE char *path = image_backing_path(o->path, o->data_file);
    struct file *f;
    if (check_data_file(o, err) < 0) /* now that there is the image, by whatever name */
        return -1;
    if (!path)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", o->path);
    if (file_create(l, "data file", path, true, &f, err) < 0)
        return -1;
    int ret = f->device ? 0 : file_truncate(f, o->size);
    file_close(f);
    return ret < 0 ? error_set(err, -ret, "data file '%s': cannot be made: %s; free space on its disk", path, strerror(-ret)) : 0;
}

int qcow2_create(struct io_loop *l, const struct qcow2_create *o, struct error *err)
{
    struct image im = {.loop = l};
    struct qcow2 q;
    uint64_t luks_bytes = o->encrypt ? luks_header_size(&o->luks, err) : 0;
    if ((o->encrypt && !luks_bytes) || qcow2_check_create(o, err) < 0 || (o->data_file && check_data_file(o, err) < 0) || file_create(l, "image", o->path, o->replace, &im.file, err) < 0)
        return -1;
    if (o->nocow)
        file_write_in_place(im.file);
    describe(&q, &im, o);
    q.file = q.data = im.file;
    im.file->no_sync = o->no_sync;
    int ret = write_image(&q, o, luks_bytes, err);
    file_close(im.file);
    free(q.extensions);
    if (ret < 0 && error_is_set(err))
        return -1;
    if (ret < 0)
        return error_set(err, -ret, "image '%s': cannot be made: %s; %s", o->path, strerror(-ret),
                         ret == -ENOSPC ? "use a shorter name of the backing file, or free space" : "check the disk that is to hold it");
    if (o->data_file && make_data_file(l, o, err) < 0)
        return -1;
    return o->prealloc == PREALLOC_OFF ? 0 : preallocate(l, o, err);
}
