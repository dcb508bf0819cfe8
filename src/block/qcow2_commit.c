// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Changes of the whole: the refcounts of the new state are put together in memory, its tables are written to clusters that neither state uses, and one
 * sector of the header makes them the image's. What only the old state used is free then.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "block/qcow2.h"

#define SPARE_CLUSTERS 4096ull /* that a commit may add at least */

/* ---- tables of 64-bit entries ---- */

int qcow2_read_l1(struct qcow2 *q, uint64_t offset, uint32_t entries, uint64_t **out)
{
    uint64_t *t = calloc(entries + 1ull, 8);
    int ret = t ? file_read(q->file, offset, t, entries * 8ull) : -ENOMEM;
    if (ret < 0) {
        free(t);
        return ret;
    }
    for (uint32_t i = 0; i < entries; i++)
        t[i] = be64_get(&t[i]);
    *out = t;
    return 0;
}

int qcow2_write_l1(struct qcow2 *q, uint64_t offset, uint32_t entries, const uint64_t *table)
{
    uint64_t bytes = ALIGN_UP(entries * 8ull, (uint64_t)BLOCK_SECTOR);
    AUTO_FREE uint8_t *buf = calloc(1, bytes + 1);
    if (!buf)
        return -ENOMEM;
    for (uint32_t i = 0; i < entries; i++)
        be64_put(buf + 8ull * i, table[i]);
    return file_write(q->file, offset, buf, bytes);
}

/* ---- refcounts of the new state ---- */

int qcow2_commit_ref(const struct qcow2 *q, struct qcow2_commit *c, uint64_t offset, uint64_t bytes, int by)
{
    uint64_t first = offset >> q->h.cluster_bits, end = (offset + bytes + q->cluster_size - 1) >> q->h.cluster_bits;
    if (offset % q->cluster_size || end > c->nrefs || end < first)
        return -EIO;
    for (uint64_t k = first; k < end; k++) {
        if (by < 0 && c->refs[k] < (uint64_t)-by)
            return -EIO;
        c->refs[k] += (uint64_t)(int64_t)by;
    }
    return 0;
}

static int count_entry(struct qcow2 *q, struct qcow2_commit *c, uint64_t e, int by)
{
    if (e & QCOW2_COMPRESSED) {
        struct qcow2_range r = qcow2_packed_range(q, e);
        return qcow2_commit_ref(q, c, r.offset, r.len, by);
    }
    if (!(e & QCOW2_OFFSET) || q->data != q->file)
        return 0;
    return qcow2_commit_ref(q, c, e & QCOW2_OFFSET, q->cluster_size, by);
}

static int tolerate(int ret, uint64_t *bad)
{
    if (ret != -EIO || !bad)
        return ret;
    ++*bad;
    return 0;
}

int qcow2_commit_count(struct qcow2 *q, struct qcow2_commit *c, const uint64_t *l1, uint32_t l1_size, int by, uint64_t *bad)
{
    AUTO_FREE uint8_t *table = malloc(q->cluster_size), *seen = calloc(1, c->nrefs / 8 + 1);
    int ret = table && seen ? 0 : -ENOMEM;
    for (uint32_t i = 0; ret == 0 && i < l1_size; i++) {
        uint64_t offset = l1[i] & QCOW2_OFFSET, k = offset >> q->h.cluster_bits;
        if (!offset)
            continue;
        ret = qcow2_commit_ref(q, c, offset, q->cluster_size, by);
        if (ret == 0 && (seen[k / 8] & BIT(k % 8)))
            ret = -EIO; /* no program lets two entries of one L1 table lead to the same L2 table; read once, a small file costs little time */
        if (ret == 0)
            seen[k / 8] |= (uint8_t)BIT(k % 8);
        if (ret == -EIO && bad) {
            ++*bad;
            ret = 0;
            continue;
        }
        if (ret == 0)
            ret = file_read(q->file, offset, table, q->cluster_size);
        for (unsigned at = 0; ret == 0 && at < q->cluster_size; at += q->entry_bytes)
            ret = tolerate(count_entry(q, c, be64_get(table + at), by), bad);
    }
    return ret;
}

/* ---- the state that stands ---- */

static int load_refcounts(struct qcow2 *q, struct qcow2_commit *c)
{
    uint64_t per_block = (uint64_t)q->cluster_size * 8 >> q->h.refcount_order;
    AUTO_FREE uint8_t *block = malloc(q->cluster_size);
    if (!block)
        return -ENOMEM;
    for (uint32_t i = 0; i < q->rct_size; i++) {
        uint64_t at = q->rct[i] & QCOW2_OFFSET;
        if (!at || i * per_block >= c->nrefs)
            continue;
        int ret = file_read(q->file, at, block, q->cluster_size);
        if (ret < 0)
            return ret;
        for (uint64_t n = 0; n < per_block && i * per_block + n < c->nrefs; n++)
            c->refs[i * per_block + n] = qcow2_get_refcount(block, n, q->h.refcount_order);
    }
    return 0;
}

/* The tables that every commit writes anew. */
static int count_tables(struct qcow2 *q, struct qcow2_commit *c)
{
    int ret = qcow2_commit_ref(q, c, q->h.l1_offset, q->h.l1_size * 8ull, -1);
    if (ret == 0)
        ret = qcow2_commit_ref(q, c, q->h.rct_offset, (uint64_t)q->h.rct_clusters << q->h.cluster_bits, -1);
    for (uint32_t i = 0; ret == 0 && i < q->rct_size; i++)
        if (q->rct[i] & QCOW2_OFFSET)
            ret = qcow2_commit_ref(q, c, q->rct[i] & QCOW2_OFFSET, q->cluster_size, -1);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < q->h.nsnapshots; i++) {
        const struct qcow2_snapshot *s = &q->snapshots[i];
        bytes += ALIGN_UP(40 + (uint64_t)s->stored_extra + strlen(s->id) + strlen(s->name), 8u);
    }
    if (ret == 0 && bytes)
        ret = qcow2_commit_ref(q, c, q->h.snapshots_offset, bytes, -1);
    return ret;
}

int qcow2_commit_load(struct qcow2 *q, struct qcow2_commit *c)
{
    uint64_t length;
    int ret = file_length(q->file, &length);
    if (ret < 0)
        return ret;
    uint64_t have = qcow2_clusters(q, MAX(length, q->fresh)); /* behind the file's end there may be clusters that are being written */
    *c = (struct qcow2_commit){.h = q->h, .snapshots = q->snapshots, .nrefs = have + MAX(have / 2, SPARE_CLUSTERS)};
    c->refs = calloc(c->nrefs, sizeof *c->refs);
    c->busy = calloc(c->nrefs, 1);
    c->l1 = malloc(MAX(q->h.l1_size, 1u) * 8ull);
    if (!c->refs || !c->busy || !c->l1)
        return -ENOMEM;
    memcpy(c->l1, q->l1, q->h.l1_size * 8ull);
    if ((ret = load_refcounts(q, c)) < 0)
        return ret;
    for (uint64_t k = 0; k < c->nrefs; k++)
        c->busy[k] = c->refs[k] != 0;
    return 0;
}

int qcow2_commit_begin(struct qcow2 *q, struct qcow2_commit *c)
{
    *c = (struct qcow2_commit){0};
    fiber_lock(&q->meta);
    int ret = qcow2_settle(q);
    if (ret == 0)
        ret = qcow2_commit_load(q, c);
    return ret < 0 ? ret : count_tables(q, c);
}

void qcow2_commit_end(struct qcow2 *q, struct qcow2_commit *c)
{
    free(c->refs);
    free(c->busy);
    free(c->l1);
    fiber_unlock(q->im->loop, &q->meta);
}

/* ---- the new state ---- */

int qcow2_commit_alloc(struct qcow2 *q, struct qcow2_commit *c, uint64_t n, uint64_t *offset)
{
    uint64_t run = 0;
    for (uint64_t k = 0; k < c->nrefs; k++) {
        run = c->refs[k] || c->busy[k] ? 0 : run + 1;
        if (run < n)
            continue;
        *offset = (k + 1 - n) << q->h.cluster_bits;
        q->fresh = MAX(q->fresh, (k + 1) << q->h.cluster_bits); /* what is written there stays when the commit fails */
        return qcow2_commit_ref(q, c, *offset, n << q->h.cluster_bits, 1);
    }
    return -EFBIG;
}

static bool alone(const struct qcow2 *q, const struct qcow2_commit *c, uint64_t e)
{
    uint64_t k = (e & QCOW2_OFFSET) >> q->h.cluster_bits;
    return q->data != q->file || (k < c->nrefs && c->refs[k] == 1);
}

/* Sets the COPIED flags of a table as the new refcounts are; true when one changed. */
static bool set_flags(const struct qcow2 *q, const struct qcow2_commit *c, uint8_t *table)
{
    bool changed = false;
    for (unsigned at = 0; at < q->cluster_size; at += q->entry_bytes) {
        uint64_t e = be64_get(table + at), was = e;
        if ((e & QCOW2_COMPRESSED) || !(e & QCOW2_OFFSET))
            continue;
        e = alone(q, c, e) ? e | QCOW2_COPIED : e & ~QCOW2_COPIED;
        changed |= e != was;
        be64_put(table + at, e);
    }
    return changed;
}

/* Each active L2 table becomes the active disk's own, with flags that are true. */
static int own_tables(struct qcow2 *q, struct qcow2_commit *c)
{
    AUTO_FREE uint8_t *table = malloc(q->cluster_size);
    if (!table)
        return -ENOMEM;
    for (uint32_t i = 0; i < c->h.l1_size; i++) {
        uint64_t old = c->l1[i] & QCOW2_OFFSET, new;
        if (!old)
            continue;
        int ret = file_read(q->file, old, table, q->cluster_size);
        if (ret < 0)
            return ret;
        c->l1[i] = old | QCOW2_COPIED;
        bool own = (old >> q->h.cluster_bits) < c->nrefs && c->refs[old >> q->h.cluster_bits] == 1;
        if (!set_flags(q, c, table) && own)
            continue;
        if ((ret = qcow2_commit_alloc(q, c, 1, &new)) < 0 || (ret = file_write(q->file, new, table, q->cluster_size)) < 0 ||
            (ret = qcow2_commit_ref(q, c, old, q->cluster_size, -1)) < 0)
            return ret;
        c->l1[i] = new | QCOW2_COPIED;
    }
    return 0;
}

static int write_l1(struct qcow2 *q, struct qcow2_commit *c)
{
    uint64_t bytes = MAX(c->h.l1_size, 1u) * 8ull;
    int ret = qcow2_commit_alloc(q, c, qcow2_clusters(q, bytes), &c->h.l1_offset);
    return ret < 0 ? ret : qcow2_write_l1(q, c->h.l1_offset, c->h.l1_size, c->l1);
}

static uint64_t put_snapshot(uint8_t *p, const struct qcow2_snapshot *s)
{
    uint32_t id = (uint32_t)strlen(s->id), name = (uint32_t)strlen(s->name), extra = 24 + s->extra_len;
    uint64_t bytes = ALIGN_UP(40 + (uint64_t)extra + id + name, 8u);
    if (!p)
        return bytes;
    be64_put(p, s->l1_offset);
    be32_put(p + 8, s->l1_size);
    be16_put(p + 12, (uint16_t)id);
    be16_put(p + 14, (uint16_t)name);
    be32_put(p + 16, s->date_sec);
    be32_put(p + 20, s->date_ns);
    be64_put(p + 24, s->vm_clock_ns);
    be32_put(p + 32, (uint32_t)MIN(s->vm_state_size, UINT32_MAX));
    be32_put(p + 36, extra);
    be64_put(p + 40, s->vm_state_size);
    be64_put(p + 48, s->disk_size);
    be64_put(p + 56, s->icount);
    if (s->extra_len)
        memcpy(p + 64, s->extra, s->extra_len);
    memcpy(p + 40 + extra, s->id, id);
    memcpy(p + 40 + extra + id, s->name, name);
    return bytes;
}

static int write_snapshots(struct qcow2 *q, struct qcow2_commit *c)
{
    uint64_t bytes = 0, at = 0;
    c->h.snapshots_offset = 0;
    for (uint32_t i = 0; i < c->h.nsnapshots; i++)
        bytes += put_snapshot(NULL, &c->snapshots[i]);
    if (!bytes)
        return 0;
    AUTO_FREE uint8_t *buf = calloc(1, bytes);
    if (!buf)
        return -ENOMEM;
    for (uint32_t i = 0; i < c->h.nsnapshots; i++)
        at += put_snapshot(buf + at, &c->snapshots[i]);
    int ret = qcow2_commit_alloc(q, c, qcow2_clusters(q, bytes), &c->h.snapshots_offset);
    return ret < 0 ? ret : file_write(q->file, c->h.snapshots_offset, buf, bytes);
}

static uint64_t used_end(const struct qcow2_commit *c)
{
    uint64_t end = c->nrefs;
    while (end && !c->refs[end - 1])
        end--;
    return end;
}

/* Room for the refcount table and its blocks, which count themselves; the table reaches half as far again, and at least twice over what `q` has when it
 * is to grow. */
static int place_refcounts(struct qcow2 *q, struct qcow2_commit *c, uint64_t *nblocks)
{
    uint64_t per_block = (uint64_t)q->cluster_size * 8 >> c->h.refcount_order, total = 0, at = 0;
    for (*nblocks = 1;; ++*nblocks) {
        uint64_t entries = MAX(*nblocks + *nblocks / 2, c->min_rct_entries);
        c->h.rct_clusters = (uint32_t)qcow2_clusters(q, entries * 8);
        if ((uint64_t)c->h.rct_clusters << q->h.cluster_bits > QCOW2_MAX_RCT)
            return -EFBIG;
        total = c->h.rct_clusters + *nblocks;
        int ret = qcow2_commit_alloc(q, c, total, &at);
        if (ret < 0)
            return ret;
        uint64_t end = used_end(c);
        if (*nblocks * per_block >= end)
            break;
        qcow2_commit_ref(q, c, at, total << q->h.cluster_bits, -1);
        *nblocks = MAX(*nblocks, (end + per_block - 1) / per_block - 1);
    }
    c->h.rct_offset = at;
    return 0;
}

static int write_refcounts(struct qcow2 *q, struct qcow2_commit *c)
{
    uint64_t nblocks, per_block = (uint64_t)q->cluster_size * 8 >> c->h.refcount_order;
    uint64_t max = c->h.refcount_order == 6 ? INT64_MAX : (1ull << (1u << c->h.refcount_order)) - 1;
    int ret = place_refcounts(q, c, &nblocks);
    if (ret < 0)
        return ret;
    uint64_t first = c->h.rct_offset + ((uint64_t)c->h.rct_clusters << q->h.cluster_bits);
    uint32_t entries = (uint32_t)(((uint64_t)c->h.rct_clusters << q->h.cluster_bits) / 8);
    AUTO_FREE uint64_t *rct = calloc(entries, 8);
    AUTO_FREE uint8_t *block = malloc(q->cluster_size);
    if (!rct || !block)
        return -ENOMEM;
    for (uint64_t b = 0; ret == 0 && b < nblocks; b++) {
        rct[b] = first + (b << q->h.cluster_bits);
        memset(block, 0, q->cluster_size);
        for (uint64_t n = 0; n < per_block && b * per_block + n < c->nrefs; n++) {
            if (c->refs[b * per_block + n] > max)
                return -EMLINK;
            qcow2_put_refcount(block, n, c->h.refcount_order, c->refs[b * per_block + n]);
        }
        ret = file_write(q->file, rct[b], block, q->cluster_size);
    }
    return ret < 0 ? ret : qcow2_write_l1(q, c->h.rct_offset, entries, rct);
}

/* Takes the new state into memory; what only the old one used goes back to the host. */
static int adopt(struct qcow2 *q, struct qcow2_commit *c)
{
    uint64_t *rct = NULL, end = 0;
    uint32_t entries = (uint32_t)(((uint64_t)q->h.rct_clusters << q->h.cluster_bits) / 8);
    int ret = qcow2_read_l1(q, q->h.rct_offset, entries, &rct);
    if (ret < 0)
        return ret;
    free(q->rct);
    q->rct = rct;
    q->rct_size = entries;
    free(q->l1);
    q->l1 = steal_ptr(&c->l1);
    qcow2_cache_drop(&q->l2);
    qcow2_cache_drop(&q->refs);
    q->search = 0;
    q->packed_at = 0;
    q->unpacked.entry = 0;
    for (uint64_t k = 0, n; k < c->nrefs; k += n) {
        end = c->refs[k] ? k + 1 : end;
        for (n = 1; k + n < c->nrefs && !c->refs[k + n] && c->busy[k + n];)
            n++;
        if (!c->refs[k] && c->busy[k])
            file_discard(q->file, k << q->h.cluster_bits, n << q->h.cluster_bits);
        else
            n = 1;
    }
    q->fresh = MAX(q->fresh, end << q->h.cluster_bits);
    return 0;
}

int qcow2_commit_switch(struct qcow2 *q, struct qcow2_commit *c)
{
    int ret = own_tables(q, c);
    if (ret == 0)
        ret = write_l1(q, c);
    if (ret == 0)
        ret = write_snapshots(q, c);
    if (ret == 0)
        ret = write_refcounts(q, c);
    if (ret == 0)
        ret = file_sync(q->file);
    if (ret < 0)
        return ret;
    struct qcow2_header old = q->h;
    q->h = c->h;
    if ((ret = qcow2_write_header(q)) < 0) {
        q->h = old;
        q->broken = true; /* nobody knows which state stands */
        return ret;
    }
    q->im->size = q->h.size;
    ret = adopt(q, c);
    q->broken |= ret < 0;
    return ret;
}

int qcow2_grow_refcounts(struct qcow2 *q)
{
    struct qcow2_commit c = {0};
    int ret = qcow2_settle(q);
    if (ret == 0)
        ret = qcow2_commit_load(q, &c);
    if (ret == 0)
        ret = count_tables(q, &c);
    c.min_rct_entries = 2ull * q->rct_size;
    if (ret == 0)
        ret = qcow2_commit_switch(q, &c);
    free(c.refs);
    free(c.busy);
    free(c.l1);
    return ret;
}
