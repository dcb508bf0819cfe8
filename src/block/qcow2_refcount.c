// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Refcounts, free clusters, and the order in which changes reach the file (qcow2.h, invariants 1 and 2).
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "block/qcow2.h"

/* ---- one refcount ---- */

static unsigned count_bits(const struct qcow2 *q)
{
    return 1u << q->h.refcount_order;
}

static uint64_t per_block(const struct qcow2 *q) /* clusters that a refcount block counts */
{
    return (uint64_t)q->cluster_size * 8 >> q->h.refcount_order;
}

uint64_t qcow2_get_refcount(const uint8_t *p, uint64_t n, unsigned order)
{
    switch (order) {
    case 3: return p[n];
    case 4: return be16_get(p + 2 * n);
    case 5: return be32_get(p + 4 * n);
    case 6: return be64_get(p + 8 * n);
    default: return p[n << order >> 3] >> ((n << order) & 7) & ((1u << (1u << order)) - 1);
    }
}

void qcow2_put_refcount(uint8_t *p, uint64_t n, unsigned order, uint64_t count)
{
    unsigned shift = (unsigned)(n << order) & 7, mask = (1u << (1u << (order & 3))) - 1;
    switch (order) {
    case 3: p[n] = (uint8_t)count; break;
    case 4: be16_put(p + 2 * n, (uint16_t)count); break;
    case 5: be32_put(p + 4 * n, (uint32_t)count); break;
    case 6: be64_put(p + 8 * n, count); break;
    default: p[n << order >> 3] = (uint8_t)((p[n << order >> 3] & ~(mask << shift)) | (unsigned)count << shift); break;
    }
}

/* The slice with a cluster's refcount, pinned, and its place there. NULL slice: there is no block, and all it would count is free. */
static int count_slice(struct qcow2 *q, uint64_t cluster, struct qcow2_slice **s, uint64_t *n)
{
    uint64_t block = cluster / per_block(q);
    uint64_t at = block < q->rct_size ? q->rct[block] & QCOW2_OFFSET : 0;
    *s = NULL;
    if (!at)
        return 0;
    if (at % q->cluster_size || at >= q->fresh) /* behind the file's end all counts would be 0, those of the tables too */
        return -EIO;
    uint64_t bit = cluster % per_block(q) << q->h.refcount_order;
    at += bit / 8;
    *n = (bit / 8 % q->refs.slice_bytes * 8 + bit % 8) >> q->h.refcount_order;
    return qcow2_get(q, &q->refs, at, false, s);
}

int qcow2_refcount(struct qcow2 *q, uint64_t cluster, uint64_t *count)
{
    struct qcow2_slice *s;
    uint64_t n = 0;
    int ret = count_slice(q, cluster, &s, &n);
    *count = 0;
    if (ret < 0 || !s)
        return ret;
    *count = qcow2_get_refcount(s->data, n, q->h.refcount_order);
    qcow2_put(s);
    return 0;
}

static bool is_counted(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    uint64_t count, end = bytes ? qcow2_clusters(q, offset + bytes) : 0;
    for (uint64_t n = offset >> q->h.cluster_bits; n < end; n++)
        if (qcow2_refcount(q, n, &count) < 0 || count == 0)
            return false;
    return true;
}

int qcow2_check_counted(struct qcow2 *q, struct error *err)
{
    if (is_counted(q, 0, 1) && is_counted(q, q->h.rct_offset, q->rct_size * 8ull) && is_counted(q, q->h.l1_offset, q->h.l1_size * 8ull) &&
        is_counted(q, q->h.snapshots_offset, q->h.nsnapshots))
        return 0;
    return error_set(err, 0, "image '%s': its header or a table of it counts as free space, so that writing would destroy it; mend it with 'lodge image check -r all'", q->file->path);
}

/* ---- new refcount blocks ---- */

/* Makes the block that counts `cluster`, and puts it there: nothing uses a cluster that nobody counts. */
static int add_block(struct qcow2 *q, uint64_t cluster)
{
    uint64_t block = cluster / per_block(q), at = cluster << q->h.cluster_bits;
    if (block >= q->rct_size) {
        int ret = qcow2_grow_refcounts(q);
        return ret < 0 ? ret : -EAGAIN; /* the new tables may have taken what the caller has found */
    }
    struct qcow2_slice *s;
    for (uint64_t o = 0; o < q->cluster_size; o += q->refs.slice_bytes) {
        int ret = qcow2_get(q, &q->refs, at + o, true, &s);
        if (ret < 0)
            return ret;
        qcow2_dirty(&q->refs, s);
        qcow2_put(s);
    }
    q->rct[block] = at;
    q->rct_dirty = true;
    q->fresh = MAX(q->fresh, at + q->cluster_size);
    return qcow2_refcount_add(q, cluster, 1, 1);
}

static uint64_t per_slice(const struct qcow2 *q) /* clusters that a cached piece of a block counts */
{
    return (uint64_t)q->refs.slice_bytes * 8 >> q->h.refcount_order;
}

/* Adds to the counts of n clusters, from the k-th of a slice on, and tells to how many: all, unless one cannot be what it would have to be. */
static uint64_t add_in_slice(struct qcow2 *q, struct qcow2_slice *s, uint64_t k, uint64_t cluster, uint64_t n, int64_t by)
{
    uint64_t max = count_bits(q) == 64 ? INT64_MAX : (1ull << count_bits(q)) - 1, done = 0;
    for (; done < n; done++, k++) {
        uint64_t count = qcow2_get_refcount(s->data, k, q->h.refcount_order);
        if (by < 0 ? count < (uint64_t)-by : count > max - (uint64_t)by)
            break;
        qcow2_put_refcount(s->data, k, q->h.refcount_order, count + (uint64_t)by);
        if (count + (uint64_t)by == 0)
            q->search = MIN(q->search, cluster + done);
    }
    if (done)
        qcow2_dirty(&q->refs, s);
    return done;
}

int qcow2_refcount_add(struct qcow2 *q, uint64_t cluster, uint64_t n, int64_t by)
{
    for (uint64_t end = cluster + n; cluster < end;) {
        struct qcow2_slice *s;
        uint64_t k = 0;
        int ret = count_slice(q, cluster, &s, &k);
        if (ret < 0)
            return ret;
        if (!s)
            return -EIO;
        uint64_t part = MIN(end - cluster, per_slice(q) - k), done = add_in_slice(q, s, k, cluster, part, by);
        qcow2_put(s);
        if (done < part)
            return by < 0 ? -EIO : -EMLINK;
        cluster += part;
    }
    return 0;
}

/* ---- allocation ---- */

#define AHEAD_BYTES    MIB /* that are counted before they are needed, at most: what a power cut may leave counted and unused */
#define AHEAD_CLUSTERS 64u

/* How many clusters from `first` on, up to `want`, are free? Makes the block that is to count them, which takes a cluster itself: there the run ends. */
static int free_run(struct qcow2 *q, uint64_t first, uint64_t want, uint64_t *n)
{
    for (*n = 0; *n < want;) {
        struct qcow2_slice *s;
        uint64_t k = 0;
        int ret = count_slice(q, first + *n, &s, &k);
        if (ret < 0 || !s)
            return ret < 0 ? ret : add_block(q, first + *n);
        for (; *n < want && k < per_slice(q) && qcow2_get_refcount(s->data, k, q->h.refcount_order) == 0; k++)
            ++*n;
        qcow2_put(s);
        if (k < per_slice(q))
            break;
    }
    return 0;
}

/* How many from `first` on are in use, as far as one slice tells? */
static int used_run(struct qcow2 *q, uint64_t first, uint64_t *n)
{
    struct qcow2_slice *s;
    uint64_t k = 0;
    int ret = count_slice(q, first, &s, &k);
    *n = 0;
    if (ret < 0 || !s)
        return ret;
    for (; k < per_slice(q) && qcow2_get_refcount(s->data, k, q->h.refcount_order) != 0; k++)
        ++*n;
    qcow2_put(s);
    return 0;
}

static int alloc_once(struct qcow2 *q, uint64_t want, uint64_t *offset, uint64_t *got)
{
    uint64_t first = q->search, n = 0, used = 0;
    for (int ret; n == 0; first += n ? 0 : used) {
        if (first << q->h.cluster_bits > QCOW2_OFFSET)
            return -EFBIG;
        if ((ret = free_run(q, first, want, &n)) < 0 || (n == 0 && (ret = used_run(q, first, &used)) < 0))
            return ret;
    }
    int ret = qcow2_refcount_add(q, first, n, 1);
    if (ret < 0)
        return ret;
    q->search = first + n;
    *offset = first << q->h.cluster_bits;
    *got = n;
    return 0;
}

/* Counts at least as many clusters ahead as are wanted, if they lie side by side. The more are taken, the more are counted at a time. */
static int count_ahead(struct qcow2 *q, uint64_t want)
{
    uint64_t at = 0, got = 0, have;
    int ret;
    do { /* growing tables gives back what is there */
        have = q->ahead.len >> q->h.cluster_bits;
        ret = alloc_once(q, MAX(want - have, q->batch), &at, &got);
    } while (ret == -EAGAIN);
    if (ret < 0)
        return have ? 0 : ret;
    if (have && at != q->ahead.offset + q->ahead.len) /* another place: what is there comes first */
        return qcow2_refcount_add(q, at >> q->h.cluster_bits, got, -1);
    q->ahead.offset = have ? q->ahead.offset : at;
    q->ahead.len += got << q->h.cluster_bits;
    q->batch = (unsigned)MIN(MAX(2 * q->batch, 1u), MIN(MAX(AHEAD_BYTES >> q->h.cluster_bits, 1u), AHEAD_CLUSTERS));
    return 0;
}

int qcow2_alloc(struct qcow2 *q, uint64_t want, uint64_t *offset, uint64_t *got)
{
    int ret = q->ahead.len >> q->h.cluster_bits < want ? count_ahead(q, want) : 0;
    if (ret < 0)
        return ret;
    *got = MIN(want, q->ahead.len >> q->h.cluster_bits);
    *offset = q->ahead.offset;
    q->ahead.offset += *got << q->h.cluster_bits;
    q->ahead.len -= *got << q->h.cluster_bits;
    return 0;
}

int qcow2_is_cut_off(struct qcow2 *q, bool *cut)
{
    uint64_t first = MAX(q->fresh, q->ahead.offset + q->ahead.len) >> q->h.cluster_bits, block = first / per_block(q), n = 0;
    uint64_t want = (block + 1) * per_block(q) - first;
    int ret = 0;
    *cut = q->ahead.len && q->ahead.offset > q->fresh; /* there was something in between */
    if (block < q->rct_size && (q->rct[block] & QCOW2_OFFSET)) {
        ret = free_run(q, first, want, &n);
        *cut |= n < want;
    }
    while (++block < q->rct_size)
        *cut |= (q->rct[block] & QCOW2_OFFSET) != 0;
    return ret;
}

/* Nothing has referred to these clusters, so their counts need not wait. */
static int give_up_ahead(struct qcow2 *q)
{
    struct qcow2_range r = q->ahead;
    q->ahead = (struct qcow2_range){0};
    q->batch = 0;
    return r.len ? qcow2_refcount_add(q, r.offset >> q->h.cluster_bits, r.len >> q->h.cluster_bits, -1) : 0;
}

int qcow2_free(struct qcow2 *q, uint64_t offset, uint64_t len)
{
    struct qcow2_range *last = q->nfreed ? &q->freed[q->nfreed - 1] : NULL;
    if (last && last->offset + last->len == offset) {
        last->len += len;
        return 0;
    }
    if (q->nfreed == q->freed_cap) {
        unsigned cap = q->freed_cap ? 2 * q->freed_cap : 64;
        struct qcow2_range *r = realloc(q->freed, cap * sizeof *r);
        if (!r)
            return -ENOMEM;
        q->freed = r;
        q->freed_cap = cap;
    }
    q->freed[q->nfreed++] = (struct qcow2_range){offset, len};
    return 0;
}

/* ---- writing back ---- */

static int sync_all(struct qcow2 *q)
{
    int ret = q->data != q->file ? file_sync(q->data) : 0;
    return ret < 0 ? ret : file_sync(q->file);
}

static int write_references(struct qcow2 *q)
{
    int ret = qcow2_cache_write(q, &q->refs);
    if (ret < 0 || (ret = sync_all(q)) < 0)
        return ret;
    if (q->rct_dirty) {
        if ((ret = qcow2_write_l1(q, q->h.rct_offset, q->rct_size, q->rct)) < 0 || (ret = file_sync(q->file)) < 0)
            return ret;
        q->rct_dirty = false;
    }
    if (q->l2.ndirty) {
        if ((ret = qcow2_cache_write(q, &q->l2)) < 0 || (ret = file_sync(q->file)) < 0)
            return ret;
    }
    if (q->l1_dirty) {
        if ((ret = qcow2_write_l1(q, q->h.l1_offset, q->h.l1_size, q->l1)) < 0 || (ret = file_sync(q->file)) < 0)
            return ret;
        q->l1_dirty = false;
    }
    return 0;
}

/* Storage that nothing refers to any more goes back to the host's file system, as much as lies side by side in one call. */
static int give_back(struct qcow2 *q, uint64_t offset, uint64_t len)
{
    uint64_t unused = 0; /* bytes in front of `at` */
    int ret = qcow2_refcount_add(q, offset >> q->h.cluster_bits, len >> q->h.cluster_bits, -1);
    for (uint64_t at = offset; ret == 0 && at < offset + len; at += q->cluster_size) {
        uint64_t count;
        ret = qcow2_refcount(q, at >> q->h.cluster_bits, &count);
        if (ret == 0 && count == 0) {
            unused += q->cluster_size;
        } else if (ret == 0 && unused) {
            ret = file_discard(q->file, at - unused, unused);
            unused = 0;
        }
    }
    return ret == 0 && unused ? file_discard(q->file, offset + len - unused, unused) : ret;
}

void qcow2_transfer_end(struct qcow2 *q, unsigned parity)
{
    if (--q->active[parity] > 0 || parity == (q->generation & 1))
        return;
    struct fiber *f = fiber_queue_pop(&q->quiet);
    if (f)
        fiber_queue_push(&q->im->loop->ready, f);
}

/* Waits until no transfer is under way that may have looked up what was unlinked before now. */
static void wait_for_transfers(struct qcow2 *q)
{
    unsigned old = q->generation++ & 1;
    struct fiber *self = fiber_self();
    while (self && q->active[old]) {
        fiber_queue_push(&q->quiet, self);
        fiber_yield();
    }
}

int qcow2_write_back(struct qcow2 *q)
{
    if (q->broken)
        return -EIO;
    int ret = write_references(q);
    if (ret < 0 || !q->nfreed)
        return ret;
    wait_for_transfers(q);
    for (unsigned i = 0; ret == 0 && i < q->nfreed; i++)
        ret = give_back(q, q->freed[i].offset, q->freed[i].len);
    q->nfreed = 0;
    q->unpacked.entry = 0; /* its place may be given out again */
    if (ret < 0) {
        log_error("image '%s': its refcounts contradict its tables; no more writes: mend it with 'lodge image check -r all'", q->file->path);
        q->broken = true;
    }
    return ret;
}

int qcow2_settle(struct qcow2 *q)
{
    int ret = q->broken ? 0 : give_up_ahead(q);
    while (ret == 0 && (q->refs.ndirty || q->l2.ndirty || q->l1_dirty || q->rct_dirty || q->nfreed))
        ret = qcow2_write_back(q);
    return ret;
}
