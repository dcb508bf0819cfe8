// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From guest offsets to host clusters, through L1 and L2 (spec. "Cluster mapping"). With extended L2 entries a cluster has 32 granules, each of which is
 * in it, zero, or not there; without, a cluster is one granule.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "block/qcow2.h"

#define ALL_GRANULES 0xffffffffull

static uint64_t l1_index(const struct qcow2 *q, uint64_t offset)
{
    return offset >> (q->h.cluster_bits + q->l2_bits);
}

static uint64_t l2_index(const struct qcow2 *q, uint64_t offset)
{
    return offset >> q->h.cluster_bits & ((1ull << q->l2_bits) - 1);
}

static int contradiction(struct qcow2 *q, const char *what)
{
    if (!q->broken)
        log_error("image '%s': %s; no more writes: mend it with 'lodge image check -r all'", q->file->path, what);
    q->broken = true;
    return -EIO;
}

/* ---- reading entries ---- */

struct entry {
    uint64_t e, bits; /* bits: low half allocated, high half zero, by granule */
};

static struct entry get_entry(const struct qcow2 *q, const uint8_t *p)
{
    struct entry x = {be64_get(p), 0};
    if (q->granules > 1) {
        x.bits = be64_get(p + 8);
    } else if (q->h.version >= 3 && (x.e & QCOW2_ZERO) && !(x.e & QCOW2_COMPRESSED)) {
        x.bits = 1ull << 32;
    } else {
        x.bits = (x.e & QCOW2_OFFSET) || (q->data != q->file && (x.e & QCOW2_COPIED)) ? 1 : 0;
    }
    return x;
}

static void put_entry(const struct qcow2 *q, uint8_t *p, uint64_t e, uint64_t bits)
{
    if (q->granules > 1)
        be64_put(p + 8, bits);
    else if (bits >> 32)
        e |= QCOW2_ZERO;
    be64_put(p, e);
}

static bool has_host(const struct qcow2 *q, uint64_t e)
{
    return !(e & QCOW2_COMPRESSED) && ((e & QCOW2_OFFSET) || (q->data != q->file && (e & QCOW2_COPIED)));
}

static enum qcow2_kind kind_of(const struct entry *x, unsigned granule)
{
    if (x->e & QCOW2_COMPRESSED)
        return QCOW2_PACKED;
    if (x->bits >> (32 + granule) & 1)
        return QCOW2_IS_ZERO;
    return x->bits >> granule & 1 ? QCOW2_NORMAL : QCOW2_NONE;
}

static int describe(struct qcow2 *q, const struct entry *x, uint64_t offset, struct qcow2_run *r)
{
    uint64_t within = offset & (q->cluster_size - 1);
    unsigned g = (unsigned)(within / qcow2_granule(q)), end = g + 1;
    *r = (struct qcow2_run){.kind = kind_of(x, g), .has_host = has_host(q, x->e), .entry = x->e};
    if (r->kind == QCOW2_PACKED) {
        r->len = q->cluster_size - within;
        return 0;
    }
    while (end < q->granules && kind_of(x, end) == r->kind)
        end++;
    r->len = (uint64_t)end * qcow2_granule(q) - within;
    r->copied = r->has_host && (x->e & QCOW2_COPIED);
    r->host = r->has_host ? (x->e & QCOW2_OFFSET) + within : 0;
    if (r->kind == QCOW2_NORMAL && !r->has_host)
        return contradiction(q, "an L2 entry has data and no place");
    if (r->has_host && (x->e & QCOW2_OFFSET) % q->cluster_size)
        return contradiction(q, "an L2 entry points into the middle of a cluster");
    return 0;
}

static bool continues(const struct qcow2_run *r, const struct qcow2_run *next)
{
    return r->kind != QCOW2_PACKED && next->kind == r->kind && next->has_host == r->has_host && next->copied == r->copied &&
           (!r->has_host || next->host == r->host + r->len);
}

static int check_table(struct qcow2 *q, uint64_t table)
{
    if (table % q->cluster_size)
        return contradiction(q, "an L1 entry points into the middle of a cluster");
    return table && table >= q->fresh ? contradiction(q, "an L1 entry leads outside of the file") : 0;
}

int qcow2_lookup(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_run *run)
{
    uint64_t table = l1_index(q, offset) < q->h.l1_size ? q->l1[l1_index(q, offset)] & QCOW2_OFFSET : 0;
    int ret = check_table(q, table);
    if (ret < 0)
        return ret;
    if (!table) {
        uint64_t span = 1ull << (q->h.cluster_bits + q->l2_bits);
        *run = (struct qcow2_run){.kind = QCOW2_NONE, .len = MIN(len, span - (offset & (span - 1)))};
        return 0;
    }
    struct qcow2_slice *s;
    uint64_t at = table + l2_index(q, offset) * q->entry_bytes;
    ret = qcow2_get(q, &q->l2, at, false, &s);
    if (ret < 0)
        return ret;
    struct entry x = get_entry(q, s->data + (at - s->offset));
    ret = describe(q, &x, offset, run);
    while (ret == 0 && run->len < len && (at += q->entry_bytes) < s->offset + q->l2.slice_bytes) {
        struct qcow2_run next;
        if (((offset + run->len) & (q->cluster_size - 1)) != 0)
            break; /* ended within its cluster */
        x = get_entry(q, s->data + (at - s->offset));
        if (describe(q, &x, offset + run->len, &next) < 0 || !continues(run, &next))
            break;
        run->len += next.len;
    }
    qcow2_put(s);
    run->len = MIN(run->len, len);
    return ret;
}

/* ---- changing entries ---- */

static int copy_slice(struct qcow2 *q, uint64_t from, uint64_t to)
{
    struct qcow2_slice *old = NULL, *new;
    int ret = from ? qcow2_get(q, &q->l2, from, false, &old) : 0;
    if (ret < 0)
        return ret;
    if ((ret = qcow2_get(q, &q->l2, to, true, &new)) == 0) {
        if (old)
            memcpy(new->data, old->data, q->l2.slice_bytes);
        qcow2_dirty(&q->l2, new);
        qcow2_put(new);
    }
    if (old)
        qcow2_put(old);
    return ret;
}

/* A table of our own for this L1 entry: new, or a copy of one that a snapshot shares. */
static int own_table(struct qcow2 *q, uint64_t index)
{
    uint64_t old = q->l1[index] & QCOW2_OFFSET, new, got;
    int ret = qcow2_alloc(q, 1, &new, &got);
    for (uint64_t o = 0; ret == 0 && o < q->cluster_size; o += q->l2.slice_bytes)
        ret = copy_slice(q, old ? old + o : 0, new + o);
    if (ret < 0)
        return ret;
    q->fresh = MAX(q->fresh, new + q->cluster_size);
    q->l1[index] = new | QCOW2_COPIED;
    q->l1_dirty = true;
    return old ? qcow2_free(q, old, q->cluster_size) : 0;
}

int qcow2_l2_for_write(struct qcow2 *q, uint64_t offset, struct qcow2_slice **slice, unsigned *at)
{
    uint64_t index = l1_index(q, offset);
    if (index >= q->h.l1_size)
        return -EINVAL;
    int ret = check_table(q, q->l1[index] & QCOW2_OFFSET);
    if (ret == 0 && !(q->l1[index] & QCOW2_COPIED))
        ret = own_table(q, index);
    if (ret < 0)
        return ret;
    uint64_t place = (q->l1[index] & QCOW2_OFFSET) + l2_index(q, offset) * q->entry_bytes;
    ret = qcow2_get(q, &q->l2, place, false, slice);
    *at = ret == 0 ? (unsigned)(place - (*slice)->offset) : 0;
    return ret;
}

struct qcow2_range qcow2_packed_range(const struct qcow2 *q, uint64_t entry)
{
    unsigned x = 62 - (q->h.cluster_bits - 8);
    uint64_t host = entry & ((1ull << x) - 1), sectors = (entry & (QCOW2_COMPRESSED - 1)) >> x;
    uint64_t end = ALIGN_DOWN(host, (uint64_t)BLOCK_SECTOR) + (sectors + 1) * BLOCK_SECTOR;
    uint64_t first = ALIGN_DOWN(host, (uint64_t)q->cluster_size);
    return (struct qcow2_range){first, ALIGN_UP(end, (uint64_t)q->cluster_size) - first};
}

/* Gives up what an entry referred to. */
static int release(struct qcow2 *q, uint64_t e)
{
    if (e & QCOW2_COMPRESSED) {
        struct qcow2_range r = qcow2_packed_range(q, e);
        int ret = 0;
        for (uint64_t o = 0; ret == 0 && o < r.len; o += q->cluster_size)
            ret = qcow2_free(q, r.offset + o, q->cluster_size); /* one by one: neighbours share clusters */
        return ret;
    }
    if (!(e & QCOW2_OFFSET) || q->data != q->file)
        return 0;
    return qcow2_free(q, e & QCOW2_OFFSET, q->cluster_size);
}

static uint64_t granule_bits(const struct qcow2 *q, uint64_t offset, uint64_t end, uint64_t cluster)
{
    uint64_t from = offset > cluster ? offset - cluster : 0, to = MIN(end - cluster, (uint64_t)q->cluster_size);
    unsigned first = (unsigned)(from / qcow2_granule(q)), last = (unsigned)((to - 1) / qcow2_granule(q));
    return (ALL_GRANULES << first) & (ALL_GRANULES >> (31 - last));
}

static int link_one(struct qcow2 *q, uint64_t cluster, uint64_t host, uint64_t bits)
{
    struct qcow2_slice *s;
    unsigned at;
    int ret = qcow2_l2_for_write(q, cluster, &s, &at);
    if (ret < 0)
        return ret;
    struct entry old = get_entry(q, s->data + at);
    bool same = has_host(q, old.e) && (old.e & QCOW2_OFFSET) == host;
    if (!same)
        ret = release(q, old.e);
    uint64_t keep = same || !((old.e & QCOW2_COMPRESSED) || has_host(q, old.e)) ? old.bits : 0;
    if (ret == 0) {
        put_entry(q, s->data + at, host | QCOW2_COPIED, q->granules > 1 ? (keep & ~(bits << 32)) | bits : 0);
        qcow2_dirty(&q->l2, s);
    }
    qcow2_put(s);
    return ret;
}

int qcow2_link(struct qcow2 *q, uint64_t offset, uint64_t len, uint64_t host)
{
    uint64_t end = offset + len;
    for (uint64_t c = ALIGN_DOWN(offset, (uint64_t)q->cluster_size); c < end; c += q->cluster_size, host += q->cluster_size) {
        int ret = link_one(q, c, host, granule_bits(q, offset, end, c));
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int unlink_one(struct qcow2 *q, uint64_t cluster, enum qcow2_unlink how)
{
    struct qcow2_slice *s;
    unsigned at;
    int ret = qcow2_l2_for_write(q, cluster, &s, &at);
    if (ret < 0)
        return ret;
    struct entry old = get_entry(q, s->data + at);
    uint64_t keep = how == QCOW2_TO_ZERO_KEEP && has_host(q, old.e) && (old.e & QCOW2_COPIED) ? old.e & (QCOW2_OFFSET | QCOW2_COPIED) : 0;
    uint64_t bits = how == QCOW2_TO_NONE ? 0 : ALL_GRANULES << 32;
    if (!keep)
        ret = release(q, old.e);
    if (ret == 0) {
        put_entry(q, s->data + at, keep, bits);
        qcow2_dirty(&q->l2, s);
    }
    qcow2_put(s);
    return ret;
}

int qcow2_unlink(struct qcow2 *q, uint64_t offset, uint64_t len, enum qcow2_unlink how)
{
    for (uint64_t c = offset; c < offset + len; c += q->cluster_size) {
        int ret = unlink_one(q, c, how);
        if (ret < 0)
            return ret;
    }
    return 0;
}

int qcow2_link_packed(struct qcow2 *q, uint64_t offset, uint64_t entry)
{
    struct qcow2_slice *s;
    unsigned at;
    int ret = qcow2_l2_for_write(q, offset, &s, &at);
    if (ret < 0)
        return ret;
    ret = release(q, get_entry(q, s->data + at).e);
    if (ret == 0) {
        put_entry(q, s->data + at, entry, 0);
        qcow2_dirty(&q->l2, s);
    }
    qcow2_put(s);
    return ret;
}
