// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Checking: count all references, and compare with the refcounts and flags that stand. Repairing: commit what was counted.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/util.h"
#include "block/qcow2.h"

/* ---- counting ---- */

static int count_snapshots(struct qcow2 *q, struct qcow2_commit *c, uint64_t *bad)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < q->h.nsnapshots; i++) {
        const struct qcow2_snapshot *s = &q->snapshots[i];
        uint64_t *l1 = NULL;
        bytes += s->l1_size * 8ull;
        if (bytes > c->nrefs << q->h.cluster_bits) { /* so they overlap */
            ++*bad;
            return 0;
        }
        int ret = qcow2_read_l1(q, s->l1_offset, s->l1_size, &l1);
        if (ret == 0)
            ret = qcow2_commit_ref(q, c, s->l1_offset, s->l1_size * 8ull, 1);
        if (ret == -EIO) {
            ++*bad;
            ret = 0;
        } else if (ret == 0) {
            ret = qcow2_commit_count(q, c, l1, s->l1_size, 1, bad);
        }
        free(l1);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static void count_place(struct qcow2 *q, struct qcow2_commit *c, uint64_t offset, uint64_t bytes, uint64_t *bad)
{
    if (bytes && qcow2_commit_ref(q, c, offset, bytes, 1) < 0)
        ++*bad;
}

static uint64_t snapshot_table_bytes(const struct qcow2 *q)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < q->h.nsnapshots; i++)
        bytes += ALIGN_UP(40 + (uint64_t)q->snapshots[i].stored_extra + strlen(q->snapshots[i].id) + strlen(q->snapshots[i].name), 8u);
    return bytes;
}

/* Bitmaps' tables and data (spec. "Bitmaps"): the directory's place is in the kept extension. */
static int count_bitmaps(struct qcow2 *q, struct qcow2_commit *c, uint64_t *bad)
{
    for (uint32_t at = 0; at + 8 <= q->extensions_len;) {
        uint32_t type = be32_get(q->extensions + at), len = be32_get(q->extensions + at + 4);
        const uint8_t *p = q->extensions + at + 8;
        at += 8 + ALIGN_UP(len, 8u);
        if (type != QCOW2_EXT_BITMAPS || len < 24)
            continue;
        uint64_t bytes = be64_get(p + 8), offset = be64_get(p + 16);
        if (bytes > 64 * MIB) {
            ++*bad;
            return 0;
        }
        AUTO_FREE uint8_t *dir = malloc(bytes + 1);
        int ret = dir ? file_read(q->file, offset, dir, bytes) : -ENOMEM;
        if (ret < 0)
            return ret;
        count_place(q, c, offset, bytes, bad);
        for (uint64_t d = 0; d + 24 <= bytes;) {
            uint64_t table = be64_get(dir + d), entries = be32_get(dir + d + 8), *t = NULL;
            uint64_t size = 24 + (uint64_t)be32_get(dir + d + 20) + be16_get(dir + d + 18);
            d += ALIGN_UP(size, 8u);
            if (entries > 8 * MIB / 8) {
                ++*bad;
                continue;
            }
            count_place(q, c, table, entries * 8, bad);
            if ((ret = qcow2_read_l1(q, table, (uint32_t)entries, &t)) < 0)
                return ret;
            for (uint64_t k = 0; k < entries; k++)
                if (t[k] & QCOW2_OFFSET)
                    count_place(q, c, t[k] & QCOW2_OFFSET, q->cluster_size, bad);
            free(t);
        }
    }
    return 0;
}

/* All but the tables that a commit writes anew. */
static int count_kept(struct qcow2 *q, struct qcow2_commit *c, uint64_t *bad)
{
    memset(c->refs, 0, c->nrefs * sizeof *c->refs);
    count_place(q, c, 0, q->cluster_size, bad);
    struct qcow2_range luks = q->h.crypt ? qcow2_luks_range(q) : (struct qcow2_range){0, 0};
    count_place(q, c, luks.offset, luks.len, bad);
    int ret = qcow2_commit_count(q, c, q->l1, q->h.l1_size, 1, bad);
    if (ret == 0)
        ret = count_snapshots(q, c, bad);
    return ret < 0 ? ret : count_bitmaps(q, c, bad);
}

static void count_replaced(struct qcow2 *q, struct qcow2_commit *c, uint64_t *bad)
{
    count_place(q, c, q->h.l1_offset, q->h.l1_size * 8ull, bad);
    count_place(q, c, q->h.rct_offset, (uint64_t)q->h.rct_clusters << q->h.cluster_bits, bad);
    for (uint32_t i = 0; i < q->rct_size; i++)
        if (q->rct[i])
            count_place(q, c, q->rct[i] & QCOW2_OFFSET, q->cluster_size, bad);
    count_place(q, c, q->h.snapshots_offset, snapshot_table_bytes(q), bad);
}

/* ---- comparing ---- */

/* `there`: clusters that the file has at least a byte of. */
static void compare(struct image_check *k, struct qcow2 *q, const uint64_t *stand, const struct qcow2_commit *c, uint64_t there)
{
    for (uint64_t n = 0; n < c->nrefs; n++) {
        if (c->refs[n])
            k->end = (n + 1) << q->h.cluster_bits;
        if (c->refs[n] && n >= there) {
            image_report(k, "ERROR: cluster %" PRIu64 " is in use, and the file ends before it: its content is lost", n);
            k->corruptions++;
        }
        if (stand[n] == c->refs[n])
            continue;
        bool leak = stand[n] > c->refs[n];
        image_report(k, "%s: cluster %" PRIu64 " has refcount %" PRIu64 " and %" PRIu64 " references", leak ? "leaked" : "ERROR", n, stand[n], c->refs[n]);
        ++*(leak ? &k->leaks : &k->corruptions);
    }
}

static void check_entry(struct image_check *k, struct qcow2 *q, const uint64_t *stand, uint64_t nrefs, uint64_t e, uint64_t guest, uint64_t *last)
{
    if (e & QCOW2_COMPRESSED) {
        k->compressed_clusters++;
        k->allocated_clusters++;
        k->fragmented_clusters++;
        return;
    }
    uint64_t host = e & QCOW2_OFFSET, n = host >> q->h.cluster_bits;
    if (!host)
        return;
    k->allocated_clusters++;
    k->fragmented_clusters += *last && host != *last + q->cluster_size;
    *last = host;
    if (q->data != q->file || n >= nrefs || !stand[n])
        return; /* told already */
    if ((stand[n] == 1) != !!(e & QCOW2_COPIED)) {
        image_report(k, "ERROR: the entry of guest offset 0x%" PRIx64 " is%s marked as the only user of its cluster, whose refcount is %" PRIu64, guest,
               e & QCOW2_COPIED ? "" : " not", stand[n]);
        k->corruptions++;
    }
}

static int check_flags(struct image_check *k, struct qcow2 *q, const uint64_t *stand, uint64_t nrefs)
{
    AUTO_FREE uint8_t *table = malloc(q->cluster_size);
    uint64_t last = 0;
    k->total_clusters = qcow2_clusters(q, q->h.size);
    for (uint32_t i = 0; table && i < q->h.l1_size; i++) {
        uint64_t at = q->l1[i] & QCOW2_OFFSET, n = at >> q->h.cluster_bits;
        if (!at || n >= nrefs || at % q->cluster_size)
            continue;
        int ret = file_read(q->file, at, table, q->cluster_size);
        if (ret < 0)
            return ret;
        if (stand[n] && (stand[n] == 1) != !!(q->l1[i] & QCOW2_COPIED)) {
            image_report(k, "ERROR: L1 entry %u is%s marked as the only user of its table, whose refcount is %" PRIu64, i, q->l1[i] & QCOW2_COPIED ? "" : " not",
                   stand[n]);
            k->corruptions++;
        }
        for (unsigned b = 0; b < q->cluster_size; b += q->entry_bytes)
            check_entry(k, q, stand, nrefs, be64_get(table + b), ((uint64_t)i << q->l2_bits | b / q->entry_bytes) << q->h.cluster_bits, &last);
    }
    return table ? 0 : -ENOMEM;
}

/* ---- repairing ---- */

/* Entries that lead nowhere are taken out, so that what was counted is all there is. */
static int clear_bad(struct qcow2 *q, uint64_t nrefs)
{
    AUTO_FREE uint8_t *table = malloc(q->cluster_size);
    uint64_t limit = nrefs << q->h.cluster_bits;
    int ret = table ? 0 : -ENOMEM;
    for (uint32_t i = 0; ret == 0 && i < q->h.l1_size; i++) {
        uint64_t at = q->l1[i] & QCOW2_OFFSET;
        if (at % q->cluster_size || at >= limit) {
            q->l1[i] = 0;
            continue;
        }
        bool changed = false;
        if (!at)
            continue;
        ret = file_read(q->file, at, table, q->cluster_size);
        for (unsigned b = 0; ret == 0 && b < q->cluster_size; b += q->entry_bytes) {
            uint64_t e = be64_get(table + b);
            struct qcow2_range r = e & QCOW2_COMPRESSED ? qcow2_packed_range(q, e) : (struct qcow2_range){e & QCOW2_OFFSET, q->cluster_size};
            if (q->data != q->file || (r.offset % q->cluster_size == 0 && r.offset + r.len <= limit))
                continue;
            memset(table + b, 0, q->entry_bytes);
            changed = true;
        }
        if (ret == 0 && changed)
            ret = file_write(q->file, at, table, q->cluster_size);
    }
    return ret;
}

/* What the file has lost is zeroes from now on. */
static int extend(struct qcow2 *q, uint64_t end)
{
    uint64_t length;
    int ret = file_length(q->file, &length);
    return ret < 0 || file_keeps_size(q->file) || length >= end ? ret : file_extend(q->file, end);
}

static int repair_now(struct qcow2 *q, struct qcow2_commit *c, struct image_check *k)
{
    uint64_t bad = 0, end = 0;
    int ret = clear_bad(q, c->nrefs);
    if (ret == 0)
        ret = count_kept(q, c, &bad);
    if (ret == 0 && bad)
        ret = -EIO;
    if (ret < 0)
        return ret;
    for (uint64_t n = 0; n < c->nrefs; n++)
        end = c->refs[n] ? n + 1 : end;
    if ((ret = extend(q, end << q->h.cluster_bits)) < 0)
        return ret;
    memcpy(c->l1, q->l1, q->h.l1_size * 8ull);
    c->h.incompatible &= ~(uint64_t)(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
    ret = qcow2_commit_switch(q, c);
    if (ret == 0) {
        k->corruptions_fixed = k->corruptions;
        k->leaks_fixed = k->leaks;
        k->corruptions = k->leaks = 0;
        q->broken = false;
    }
    return ret;
}

static int check(struct qcow2 *q, struct qcow2_commit *c, enum image_repair repair, struct image_check *k)
{
    uint64_t bad = 0, length = 0;
    int ret = qcow2_commit_load(q, c);
    if (ret == 0)
        ret = file_length(q->file, &length);
    AUTO_FREE uint64_t *stand = ret == 0 ? malloc(c->nrefs * sizeof *stand) : NULL;
    if (ret == 0 && !stand)
        ret = -ENOMEM;
    if (ret < 0)
        return ret;
    memcpy(stand, c->refs, c->nrefs * sizeof *stand);
    if ((ret = count_kept(q, c, &bad)) < 0)
        return ret;
    count_replaced(q, c, &bad);
    for (uint64_t n = 0; n < c->nrefs; n++)
        c->busy[n] = c->refs[n] != 0;
    if (bad)
        image_report(k, "ERROR: %" PRIu64 " entries of tables lead outside of the image", bad);
    k->corruptions += bad;
    compare(k, q, stand, c, qcow2_clusters(q, length));
    if ((ret = check_flags(k, q, stand, c->nrefs)) < 0)
        return ret;
    bool wanted = (repair == REPAIR_ALL && (k->corruptions || k->leaks || (q->h.incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT)))) ||
                  (repair == REPAIR_LEAKS && k->leaks && !k->corruptions);
    return wanted ? repair_now(q, c, k) : 0;
}

int qcow2_check(struct image *im, enum image_repair repair, struct image_check *out, struct error *err)
{
    struct qcow2 *q = im->state;
    struct qcow2_commit c = {0};
    fiber_lock(&q->meta);
    int ret = im->readonly ? 0 : qcow2_settle(q);
    if (ret == 0)
        ret = check(q, &c, im->readonly ? REPAIR_NONE : repair, out);
    qcow2_commit_end(q, &c);
    if (ret < 0)
        return error_set(err, -ret, "image '%s': cannot be checked: %s; check the disk that holds it", im->file->path, strerror(-ret));
    return 0;
}
