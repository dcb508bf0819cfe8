// SPDX-License-Identifier: GPL-2.0-or-later
#include "block/blockmap.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/util.h"

#define LEAVES_MAX 4096u /* clean ones in memory: 16 MiB */

struct blockmap_leaf {
    bool dirty;
    unsigned pins; /* > 0: stays */
    uint64_t host[BLOCKMAP_LEAF];
};

/* ---- for the formats ---- */

int format_bad(const struct image *im, const char *what, struct error *err)
{
    return error_set(err, 0, "image '%s': is not sound: %s; check that its format is right, or restore a copy", im->file->path, what);
}

int format_io(const struct image *im, int ret, struct error *err)
{
    return error_set(err, -ret, "image '%s': cannot be read or written: %s; check the disk that holds it", im->file->path, strerror(-ret));
}

void format_uuid(uint8_t out[16])
{
    if (getrandom(out, 16, 0) != 16)
        memset(out, 0x5a, 16);
    out[6] = (uint8_t)((out[6] & 0x0f) | 0x40);
    out[8] = (uint8_t)((out[8] & 0x3f) | 0x80);
}

/* ---- the table ---- */

static uint64_t leaf_count(const struct blockmap *m)
{
    return (m->nblocks + BLOCKMAP_LEAF - 1) / BLOCKMAP_LEAF;
}

int blockmap_init(struct blockmap *m, struct image *im, const struct blockmap_ops *ops, uint64_t block, uint64_t nblocks, struct error *err)
{
    uint64_t length;
    int ret = file_length(im->file, &length);
    if (ret < 0)
        return format_io(im, ret, err);
    if (nblocks > BLOCKMAP_BLOCKS)
        return format_bad(im, "it claims more blocks than are possible", err);
    *m = (struct blockmap){.im = im, .ops = ops, .block = block, .nblocks = nblocks, .end = length, .align = BLOCK_SECTOR};
    im->cluster = block;
    m->leaves = calloc(leaf_count(m) + 1, sizeof *m->leaves);
    return m->leaves ? 0 : error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
}

void blockmap_free(struct blockmap *m)
{
    for (uint64_t i = 0; m->leaves && i < leaf_count(m); i++)
        free(m->leaves[i]);
    free(m->leaves);
}

/* `lock` is held. */
static void make_room(struct blockmap *m)
{
    if (m->loaded < LEAVES_MAX)
        return;
    for (uint64_t i = 0; i < leaf_count(m); i++) {
        struct blockmap_leaf *l = m->leaves[i];
        if (!l || l->dirty || l->pins)
            continue;
        free(l);
        m->leaves[i] = NULL;
        m->loaded--;
    }
}

/* The leaf of a block, pinned. */
static int load_leaf(struct blockmap *m, uint64_t i)
{
    make_room(m);
    struct blockmap_leaf *l = calloc(1, sizeof *l);
    unsigned n = (unsigned)MIN(BLOCKMAP_LEAF, m->nblocks - i * BLOCKMAP_LEAF);
    int ret = l ? m->ops->load(m, i * BLOCKMAP_LEAF, n, l->host) : -ENOMEM;
    if (ret < 0) {
        free(l);
        return ret;
    }
    m->leaves[i] = l;
    m->loaded++;
    return 0;
}

int blockmap_lookup(struct blockmap *m, uint64_t block, uint64_t *host)
{
    uint64_t i = block / BLOCKMAP_LEAF;
    int ret = 0;
    if (!m->leaves[i]) {
        fiber_lock(&m->lock);
        if (!m->leaves[i])
            ret = load_leaf(m, i);
        if (ret == 0)
            *host = m->leaves[i]->host[block % BLOCKMAP_LEAF];
        fiber_unlock(m->im->loop, &m->lock);
        return ret;
    }
    *host = m->leaves[i]->host[block % BLOCKMAP_LEAF];
    return 0;
}

int blockmap_set(struct blockmap *m, uint64_t block, uint64_t host)
{
    uint64_t i = block / BLOCKMAP_LEAF;
    int ret = m->leaves[i] ? 0 : load_leaf(m, i);
    if (ret < 0)
        return ret;
    m->leaves[i]->host[block % BLOCKMAP_LEAF] = host;
    m->leaves[i]->dirty = true;
    m->dirty = true;
    return 0;
}

/* ---- transfers ---- */

#define IOV_ON_STACK 16

/* The part [at, at + n) of a caller's vector, from or to the file. */
static int transfer(struct image *im, bool write, uint64_t host, uint64_t at, uint64_t n, const struct iovec *iov, int niov)
{
    struct iovec few[IOV_ON_STACK], *part = niov <= IOV_ON_STACK ? few : malloc((size_t)niov * sizeof *part);
    if (!part)
        return -ENOMEM;
    int k = iov_slice(part, iov, niov, at, n);
    ssize_t ret = write ? file_writev(im->file, host, n, part, k) : file_readv(im->file, host, n, part, k);
    if (part != few)
        free(part);
    if (!write && ret >= 0 && (uint64_t)ret < n)
        iov_zero(iov, niov, at + (uint64_t)ret, n - (uint64_t)ret); /* behind the file's end */
    return ret < 0 ? (int)ret : 0;
}

int blockmap_read_absent(struct image *im, uint64_t host, uint64_t offset, uint64_t at, uint64_t n, const struct iovec *iov, int niov)
{
    if (host == BLOCKMAP_ZERO || !im->backing_name) {
        iov_zero(iov, niov, at, n);
        return 0;
    }
    AUTO_FREE struct iovec *part = malloc((size_t)niov * sizeof *part);
    return part ? image_read_backing(im, offset, n, part, iov_slice(part, iov, niov, at, n)) : -ENOMEM;
}

int blockmap_read(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    struct blockmap *m = im->state;
    for (uint64_t done = 0, n, host; done < len; done += n) {
        uint64_t within = (offset + done) % m->block;
        n = MIN(m->block - within, len - done);
        int ret = blockmap_lookup(m, (offset + done) / m->block, &host);
        if (ret == 0 && !blockmap_has_place(host))
            ret = blockmap_read_absent(im, host, offset + done, done, n, iov, niov);
        else if (ret == 0)
            ret = transfer(im, false, host + within, done, n, iov, niov);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int begin(struct blockmap *m)
{
    if (m->begun)
        return 0;
    int ret = m->ops->begin ? m->ops->begin(m) : 0;
    m->begun = ret == 0;
    return ret;
}

/* A place behind everything else, which reads as zeroes. `lock` is held. */
static int allocate(struct blockmap *m, uint64_t block, uint64_t *host)
{
    int ret = begin(m);
    *host = ALIGN_UP(m->end, m->align);
    if (ret == 0 && m->ops->place)
        ret = m->ops->place(m, host);
    if (ret < 0)
        return ret;
    uint64_t end = *host + m->block;
    if (m->im->file->device || m->im->file->protocol)
        ret = end <= m->im->file->size ? file_zero(m->im->file, *host, m->block, true) : -ENOSPC;
    else
        ret = file_truncate(m->im->file, end);
    if (ret == 0)
        ret = blockmap_set(m, block, *host);
    if (ret == 0)
        m->end = end;
    return ret;
}

static int for_write(struct blockmap *m, uint64_t block, uint64_t *host)
{
    int ret = blockmap_lookup(m, block, host);
    if (ret < 0 || (*host != BLOCKMAP_NONE && m->begun))
        return ret;
    fiber_lock(&m->lock);
    ret = begin(m);
    if (ret == 0 && !m->leaves[block / BLOCKMAP_LEAF])
        ret = load_leaf(m, block / BLOCKMAP_LEAF);
    if (ret == 0 && (*host = m->leaves[block / BLOCKMAP_LEAF]->host[block % BLOCKMAP_LEAF]) == BLOCKMAP_NONE)
        ret = allocate(m, block, host);
    fiber_unlock(m->im->loop, &m->lock);
    return ret;
}

int blockmap_write(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    struct blockmap *m = im->state;
    for (uint64_t done = 0, n, host; done < len; done += n) {
        uint64_t within = (offset + done) % m->block;
        n = MIN(m->block - within, len - done);
        int ret = for_write(m, (offset + done) / m->block, &host);
        if (ret == 0)
            ret = transfer(im, true, host + within, done, n, iov, niov);
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* Blocks that are not there are zero already. */
int blockmap_zero(struct image *im, uint64_t offset, uint64_t len, bool may_unmap)
{
    struct blockmap *m = im->state;
    for (uint64_t done = 0, n, host; done < len; done += n) {
        uint64_t within = (offset + done) % m->block;
        n = MIN(m->block - within, len - done);
        int ret = blockmap_lookup(m, (offset + done) / m->block, &host);
        if (ret == 0 && host != BLOCKMAP_NONE && (ret = for_write(m, (offset + done) / m->block, &host)) == 0)
            ret = file_zero(im->file, host + within, n, may_unmap);
        if (ret < 0)
            return ret;
    }
    return 0;
}

int blockmap_discard(struct image *im, uint64_t offset, uint64_t len)
{
    return blockmap_zero(im, offset, len, true);
}

static int store_leaves(struct blockmap *m)
{
    int ret = 0;
    for (uint64_t i = 0; ret == 0 && i < leaf_count(m); i++) {
        struct blockmap_leaf *l = m->leaves[i];
        if (!l || !l->dirty)
            continue;
        l->dirty = false;
        ret = m->ops->store(m, i * BLOCKMAP_LEAF, (unsigned)MIN(BLOCKMAP_LEAF, m->nblocks - i * BLOCKMAP_LEAF), l->host);
        l->dirty |= ret < 0;
    }
    return ret;
}

int blockmap_flush(struct image *im)
{
    struct blockmap *m = im->state;
    int ret = file_sync(im->file);
    if (ret < 0 || !m->dirty)
        return ret;
    fiber_lock(&m->lock);
    m->dirty = false;
    ret = store_leaves(m);
    if (ret == 0 && m->ops->stored)
        ret = m->ops->stored(m);
    if (ret == 0)
        ret = file_sync(im->file);
    m->dirty |= ret < 0;
    fiber_unlock(im->loop, &m->lock);
    return ret;
}

int blockmap_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out)
{
    struct blockmap *m = im->state;
    uint64_t within = offset % m->block, host, next;
    int ret = blockmap_lookup(m, offset / m->block, &host);
    if (ret < 0)
        return ret;
    bool there = blockmap_has_place(host);
    enum extent_kind absent = host == BLOCKMAP_NONE && im->backing_name ? EXTENT_NONE : EXTENT_ZERO;
    *out = (struct extent){.kind = there ? EXTENT_DATA : absent, .len = MIN(m->block - within, len), .host = there ? host + within : 0, .has_host = there};
    while (out->len < len && out->len < 64 * m->block) {
        ret = blockmap_lookup(m, (offset + out->len) / m->block, &next);
        if (ret < 0 || (there ? next != out->host + out->len : next != host))
            break;
        out->len = MIN(out->len + m->block, len);
    }
    return 0;
}
