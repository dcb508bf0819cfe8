// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Changes of what kind of qcow2 an image is: version, width of refcounts, lazy refcounts. And how much space an image of some kind takes.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "block/qcow2.h"

static int failed(struct image *im, int ret, struct error *err)
{
    return error_set(err, -ret, "image '%s': cannot be amended: %s; %s", im->file->path, strerror(-ret),
                     ret == -EMLINK ? "a cluster has more references than refcounts of that width can count: use a larger refcount_bits" : "check the disk that holds it");
}

/* ---- version 2 ---- */

static int why_not_v2(const struct qcow2 *q, const struct qcow2_create *want, struct error *err)
{
    const char *what = NULL;
    if (want->refcount_order != 4)
        what = "refcounts that have not 16 bits; add refcount_bits=16";
    else if (q->h.incompatible & ~(uint64_t)QCOW2_INCOMPAT_DIRTY)
        what = "extended L2 entries, another compression, or a data file; convert it";
    else if (q->nbitmaps)
        what = "bitmaps; remove them";
    else if (q->h.nsnapshots)
        what = "snapshots, which may have clusters that are marked as zeroes; delete them";
    return what ? error_set(err, 0, "image '%s': cannot become version 2 (compat 0.10), it has %s", q->file->path, what) : 0;
}

static int write_zeroes(struct image *im, uint64_t offset, uint64_t len)
{
    AUTO_FREE uint8_t *zero = calloc(1, MIB);
    int ret = zero ? 0 : -ENOMEM;
    for (uint64_t done = 0; ret == 0 && done < len; done += MIN(len - done, MIB)) {
        struct iovec iov = {zero, MIN(len - done, MIB)};
        ret = image_write(im, offset + done, iov.iov_len, &iov, 1);
    }
    return ret;
}

/* Version 2 does not know clusters that are marked as zeroes. */
static int expand_zeroes(struct image *im)
{
    struct qcow2 *q = im->state;
    int ret = 0;
    for (uint64_t at = 0; ret == 0 && at < im->size;) {
        struct qcow2_run r;
        ret = qcow2_lookup(q, at, im->size - at, &r);
        if (ret < 0)
            break;
        if (r.kind == QCOW2_IS_ZERO)
            ret = im->backing_name ? write_zeroes(im, at, r.len) : qcow2_forget(im, at, r.len);
        at += r.len;
    }
    if (ret == 0) {
        fiber_lock(&q->meta);
        ret = qcow2_settle(q);
        fiber_unlock(im->loop, &q->meta);
    }
    return ret;
}

/* ---- amending ---- */

static int commit(struct image *im, const struct qcow2_create *want)
{
    struct qcow2 *q = im->state;
    struct qcow2_commit c;
    int ret = qcow2_commit_begin(q, &c);
    c.h.refcount_order = want->refcount_order;
    c.h.version = want->version;
    c.h.compatible = want->lazy ? c.h.compatible | QCOW2_COMPAT_LAZY : c.h.compatible & ~(uint64_t)QCOW2_COMPAT_LAZY;
    if (ret == 0)
        ret = qcow2_commit_switch(q, &c);
    qcow2_commit_end(q, &c);
    return ret;
}

int qcow2_amend(struct image *im, const struct image_new *options, struct error *err)
{
    struct qcow2 *q = im->state;
    struct qcow2_create want = {.version = q->h.version, .refcount_order = q->h.refcount_order, .lazy = q->h.compatible & QCOW2_COMPAT_LAZY};
    for (unsigned i = 0; i < options->noptions; i++) {
        const struct image_option *o = &options->options[i];
        if (strcmp(o->name, "compat") != 0 && strcmp(o->name, "refcount_bits") != 0 && strcmp(o->name, "lazy_refcounts") != 0)
            return image_bad_option(o, "compat, refcount_bits, lazy_refcounts to amend ('rebase' and 'resize' do more)", err);
        if (qcow2_set_option(&want, o->name, o->value, err) < 0)
            return -1;
    }
    if (want.version < 3 && q->h.version >= 3 && why_not_v2(q, &want, err) < 0)
        return -1;
    if (want.version < 3 && (want.refcount_order != 4 || want.lazy))
        return error_set(err, 0, "image '%s': version 2 (compat 0.10) has refcounts of 16 bits only, and none are lazy; add compat=1.1", im->file->path);
    int ret = want.version < 3 && q->h.version >= 3 ? expand_zeroes(im) : 0;
    if (ret == 0)
        ret = commit(im, &want);
    return ret < 0 ? failed(im, ret, err) : 0;
}

/* ---- measuring ---- */

/* Bytes of refcount blocks and tables that count `clusters` and themselves. */
static uint64_t refcount_bytes(uint64_t clusters, uint64_t cluster, unsigned order)
{
    uint64_t per_block = cluster * 8 >> order, per_table = cluster / 8, blocks = 0, tables = 0, before;
    do {
        before = blocks + tables;
        blocks = (clusters + before + per_block - 1) / per_block;
        tables = (blocks + per_table - 1) / per_table;
    } while (blocks + tables != before);
    return (blocks + tables) * cluster;
}

uint64_t qcow2_full_size(const struct qcow2_create *o)
{
    uint64_t cluster = 1ull << o->cluster_bits, entry = o->ext_l2 ? 16 : 8, data = ALIGN_UP(o->size, cluster);
    uint64_t l2 = ALIGN_UP(data / cluster, cluster / entry) * entry;
    uint64_t l1 = ALIGN_UP(l2 / cluster, cluster / 8) * 8;
    uint64_t tables = cluster + l2 + l1;
    return data + tables + refcount_bytes((tables + data) / cluster, cluster, o->refcount_order);
}

/* What the bitmaps of an image take in one with clusters of that size. */
uint64_t qcow2_bitmaps_size(struct image *im, unsigned cluster_bits)
{
    const struct qcow2 *q = im->state;
    uint64_t cluster = 1ull << cluster_bits, bytes = 0, directory = 0;
    for (unsigned i = 0; i < q->nbitmaps; i++) {
        const struct qcow2_bitmap *b = &q->bitmaps[i];
        if (b->foreign)
            continue;
        uint64_t bits = (im->size + (1ull << b->granularity) - 1) >> b->granularity, data = ALIGN_UP((bits + 7) / 8, cluster);
        bytes += data + ALIGN_UP(data / cluster * 8, cluster);
        directory += ALIGN_UP(24 + (uint64_t)strlen(b->name), 8u);
    }
    return bytes + ALIGN_UP(directory, cluster);
}
