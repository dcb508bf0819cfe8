// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reading and writing the disk. Data in clusters that are ours alone is overwritten in place. Everything else gets clusters: choose them, fill what the
 * guest does not write of them, write, and link them when the data is there.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "block/qcow2.h"

#define ALLOC_MAX  (64 * MIB) /* bytes that one piece of a write takes at most */
#define FREED_MAX  4096       /* freed ranges that wait for a write-back at most */
#define IOV_STACK  16
#define REACH_STEP (32 * MIB) /* bytes that the file is made longer by */

/* Part of a caller's vector, with room for something before and behind it. */
struct part {
    struct iovec few[IOV_STACK + 2], *iov;
};

static int part_init(struct part *p, int niov)
{
    p->iov = niov <= IOV_STACK ? p->few : malloc(((size_t)niov + 2) * sizeof *p->iov);
    return p->iov ? 0 : -ENOMEM;
}

static void part_free(struct part *p)
{
    if (p->iov != p->few)
        free(p->iov);
}

/* What is written: bytes in memory, or, with `from`, those that this file has at `at`. */
struct content {
    const struct iovec *iov;
    int niov;
    struct file *from;
    uint64_t at;
};

/* Writes data clusters; changes iov. */
static int write_data(struct qcow2 *q, uint64_t host, uint64_t len, struct iovec *iov, int niov)
{
    if (!q->h.crypt)
        return file_writev(q->data, host, len, iov, niov);
    return q->luks ? luks_write(q->luks, q->data, host, host / LUKS_SECTOR, len, iov, niov) : -ENOKEY;
}

/* Writes [at, at + len) of the content; `p` is room for a part of its vector. */
static int write_content(struct qcow2 *q, uint64_t host, const struct content *c, uint64_t at, uint64_t len, struct part *p)
{
    if (c->from)
        return file_copy(q->data, host, c->from, c->at + at, len);
    int n = iov_slice(p->iov, c->iov, c->niov, at, len);
    return write_data(q, host, len, p->iov, n);
}

/* ---- reading ---- */

static int read_run(struct image *im, const struct qcow2_run *r, uint64_t offset, const struct iovec *iov, int niov)
{
    struct qcow2 *q = im->state;
    struct iovec *copy = (struct iovec *)(uintptr_t)iov; /* the part is ours */
    ssize_t got;
    switch (r->kind) {
    case QCOW2_NONE: return image_read_backing(im, offset, r->len, iov, niov);
    case QCOW2_IS_ZERO: iov_zero(iov, niov, 0, r->len); return 0;
    case QCOW2_PACKED: return qcow2_read_packed(q, r->entry, (unsigned)(offset & (q->cluster_size - 1)), r->len, iov, niov);
    case QCOW2_NORMAL: break;
    }
    if (q->h.crypt)
        return q->luks ? luks_read(q->luks, q->data, r->host, r->host / LUKS_SECTOR, r->len, iov, niov) : -ENOKEY;
    struct iovec whole[IOV_STACK + 2], *keep = niov <= IOV_STACK + 2 ? whole : malloc((size_t)niov * sizeof *keep);
    if (!keep)
        return -ENOMEM;
    memcpy(keep, iov, (size_t)niov * sizeof *keep);
    got = file_readv(q->data, r->host, r->len, copy, niov);
    if (got >= 0 && (uint64_t)got < r->len)
        iov_zero(keep, niov, (uint64_t)got, r->len - (uint64_t)got); /* behind the end of the file */
    if (keep != whole)
        free(keep);
    return got < 0 ? (int)got : 0;
}

static int qcow2_read(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    struct qcow2 *q = im->state;
    struct part p;
    int ret = part_init(&p, niov);
    for (uint64_t done = 0; ret == 0 && done < len;) {
        struct qcow2_run r;
        unsigned token = qcow2_transfer_begin(q);
        ret = qcow2_lookup(q, offset + done, len - done, &r);
        if (ret == 0) {
            int n = iov_slice(p.iov, iov, niov, done, r.len);
            ret = read_run(im, &r, offset + done, p.iov, n);
            done += r.len;
        }
        qcow2_transfer_end(q, token);
    }
    part_free(&p);
    return ret;
}

/* The disk's present content, for what surrounds a write; behind the disk's end there are zeroes. */
static int read_old(struct image *im, uint64_t offset, uint64_t len, void *buf)
{
    uint64_t have = offset >= im->size ? 0 : MIN(len, im->size - offset);
    struct iovec iov = {buf, have};
    memset((uint8_t *)buf + have, 0, len - have);
    return have ? qcow2_read(im, offset, have, &iov, 1) : 0;
}

/* ---- writers of the same clusters wait for each other ---- */

/* Registers [offset, offset + len), after all others there have ended. True if it had to wait: what was looked up before is stale. */
static bool writer_begin(struct qcow2 *q, struct qcow2_writer *w, uint64_t offset, uint64_t len)
{
    uint64_t first = offset >> q->h.cluster_bits, end = ((offset + len - 1) >> q->h.cluster_bits) + 1;
    bool waited = false;
    for (struct qcow2_writer *o = q->writers; o;) {
        if (o->first < end && first < o->first + o->n && fiber_self()) {
            fiber_queue_push(&o->waiters, fiber_self());
            fiber_yield();
            waited = true;
            o = q->writers;
        } else {
            o = o->next;
        }
    }
    *w = (struct qcow2_writer){.first = first, .n = end - first, .next = q->writers};
    q->writers = w;
    return waited;
}

static void writer_end(struct qcow2 *q, struct qcow2_writer *w)
{
    struct qcow2_writer **at = &q->writers;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    for (struct fiber *f; (f = fiber_queue_pop(&w->waiters));)
        fiber_queue_push(&q->im->loop->ready, f);
}

/* ---- allocating writes ---- */

struct piece {
    uint64_t offset, end; /* guest bytes that are written */
    uint64_t from, to;    /* the same with what is written around them */
    uint64_t link, link_end; /* what of the clusters is the piece's then */
    uint64_t host;        /* of the cluster that `offset` lies in */
    bool ours;            /* clusters were allocated */
    bool zeroes;          /* what was there before reads as zeroes, and has no place */
    bool zeroed;          /* the host clusters read as zeroes */
    uint64_t clusters;
    uint8_t *head, *tail;
};

static bool reads_as_zero(const struct image *im, const struct qcow2_run *r)
{
    return r->kind == QCOW2_IS_ZERO || (r->kind == QCOW2_NONE && !im->backing_name);
}

static bool is_nothing(const struct image *im, const struct qcow2_run *r)
{
    return !r->has_host && reads_as_zero(im, r);
}

/* How many bytes from `offset` on need clusters like the first ones? And do all of them read as zeroes? */
static int need(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_run *first, uint64_t *bytes, bool *zeroes)
{
    struct qcow2_run r;
    int ret = qcow2_lookup(q, offset, len, first);
    *bytes = ret == 0 ? first->len : 0;
    *zeroes = ret == 0 && is_nothing(q->im, first);
    bool in_place = first->copied;
    while (ret == 0 && !in_place && *bytes < len && *bytes < ALLOC_MAX) {
        ret = qcow2_lookup(q, offset + *bytes, len - *bytes, &r);
        if (ret < 0 || r.copied)
            break;
        *bytes += r.len;
        *zeroes &= is_nothing(q->im, &r);
    }
    if (in_place) /* one cluster at a time: granules differ within it */
        *bytes = MIN(len, q->cluster_size - (offset & (q->cluster_size - 1)));
    return ret;
}

static bool too_dirty(const struct qcow2 *q)
{
    return q->l2.ndirty > q->l2.max / 4 || q->refs.ndirty > q->refs.max / 4 || q->nfreed > FREED_MAX;
}

/* Finds a place for as much as possible of the piece. `meta` is held. */
static int place(struct qcow2 *q, struct piece *p, const struct qcow2_run *first)
{
    uint64_t cluster = ALIGN_DOWN(p->offset, (uint64_t)q->cluster_size), got;
    if (too_dirty(q)) {
        int ret = qcow2_write_back(q);
        if (ret < 0)
            return ret;
    }
    if (first->copied) {
        p->host = first->host - (p->offset - cluster);
        return 0;
    }
    if (q->data != q->file) {
        p->host = cluster;
        return 0;
    }
    int ret = qcow2_alloc(q, qcow2_clusters(q, p->end - cluster), &p->host, &got);
    if (ret < 0)
        return ret;
    p->ours = true;
    p->clusters = got;
    p->zeroed = p->host >= q->fresh && !q->file->device && !q->file->protocol && !q->h.crypt;
    q->fresh = MAX(q->fresh, p->host + (got << q->h.cluster_bits));
    p->end = MIN(p->end, cluster + (got << q->h.cluster_bits));
    return 0;
}

/*
 * Zeroes over zeroes change nothing, so such clusters are linked before their data is there: it is written in place then, with that of other requests for
 * the same clusters beside it. But no reference may lead behind the file's end. `meta` is held; *done when that was possible.
 */
static int link_early(struct qcow2 *q, const struct piece *p, bool *done)
{
    bool cut;
    *done = false;
    if (!p->zeroes || !p->zeroed)
        return 0;
    if (q->fresh > q->reach) {
        if (qcow2_is_cut_off(q, &cut) < 0 || cut)
            return 0; /* nobody knows where the file ends while its clusters are written to: it might get shorter */
        if (file_extend(q->file, q->fresh + REACH_STEP) < 0)
            return 0; /* a limit, perhaps: what fits can still be written */
        q->reach = q->fresh + REACH_STEP;
    }
    *done = true;
    return qcow2_link(q, p->offset, p->end - p->offset, p->host);
}

/* Reads what surrounds the piece, unless the host's zeroes are that already. */
static int fill(struct image *im, struct piece *p, const struct qcow2_run *first)
{
    struct qcow2 *q = im->state;
    bool granules_only = first->copied || first->kind == QCOW2_NONE || first->kind == QCOW2_IS_ZERO;
    uint64_t unit = granules_only && !(first->has_host && !first->copied) && p->end <= ALIGN_UP(p->offset + 1, (uint64_t)q->cluster_size)
                        ? qcow2_granule(q)
                        : q->cluster_size;
    uint64_t from = ALIGN_DOWN(p->offset, unit), to = ALIGN_UP(p->end, unit);
    uint64_t head = p->offset - from, tail = to - p->end;
    int ret = 0;
    p->from = p->offset;
    p->to = p->end;
    p->link = from;
    p->link_end = to;
    if (head && !(p->head = file_buffer(head)))
        return -ENOMEM;
    if (tail && !(p->tail = file_buffer(tail)))
        return -ENOMEM;
    if (head && (ret = read_old(im, from, head, p->head)) == 0 && !(p->zeroed && bytes_are_zero(p->head, head)))
        p->from = from;
    if (ret == 0 && tail && (ret = read_old(im, p->end, tail, p->tail)) == 0 && !(p->zeroed && bytes_are_zero(p->tail, tail)))
        p->to = to;
    return ret;
}

static int write_piece(struct qcow2 *q, const struct piece *p, uint64_t at, const struct content *c)
{
    struct part v;
    int ret = part_init(&v, c->niov), n = 0;
    if (ret < 0)
        return ret;
    if (c->from) /* whole clusters: nothing surrounds them */
        return write_content(q, p->host, c, at, p->end - p->offset, &v);
    if (p->from < p->offset)
        v.iov[n++] = (struct iovec){p->head, p->offset - p->from};
    n += iov_slice(v.iov + n, c->iov, c->niov, at, p->end - p->offset);
    if (p->to > p->end)
        v.iov[n++] = (struct iovec){p->tail, p->to - p->end};
    ret = write_data(q, p->host + (p->from & (q->cluster_size - 1)), p->to - p->from, v.iov, n);
    part_free(&v);
    return ret;
}

/* Writes a piece of [offset, offset + len), whose bytes are at `at` in the content; *done of them, 0 when it has to be looked at again. */
static int write_allocating(struct image *im, uint64_t offset, uint64_t len, uint64_t at, const struct content *c, uint64_t *done)
{
    struct qcow2 *q = im->state;
    struct qcow2_writer w;
    struct qcow2_run first;
    struct piece p = {.offset = offset};
    uint64_t bytes;
    bool linked = false;
    *done = 0;
    int ret = need(q, offset, len, &first, &bytes, &p.zeroes);
    if (ret < 0)
        return ret;
    if (writer_begin(q, &w, offset, bytes)) {
        writer_end(q, &w);
        return 0;
    }
    p.end = offset + bytes;
    fiber_lock(&q->meta);
    ret = q->broken ? -EIO : place(q, &p, &first);
    if (ret == 0)
        ret = link_early(q, &p, &linked);
    fiber_unlock(im->loop, &q->meta);
    if (linked) {
        writer_end(q, &w);
        return ret;
    }
    if (ret == 0)
        ret = fill(im, &p, &first);
    if (ret == 0)
        ret = write_piece(q, &p, at, c);
    fiber_lock(&q->meta);
    if (ret == 0)
        ret = qcow2_link(q, p.link, p.link_end - p.link, p.host);
    else if (p.ours)
        qcow2_free(q, p.host, p.clusters << q->h.cluster_bits);
    fiber_unlock(im->loop, &q->meta);
    writer_end(q, &w);
    free(p.head);
    free(p.tail);
    if (ret == 0)
        *done = p.end - offset;
    return ret;
}

static int write_range(struct image *im, uint64_t offset, uint64_t len, const struct content *c)
{
    struct qcow2 *q = im->state;
    struct part p;
    int ret = qcow2_bitmaps_touch(q, offset, len);
    if (ret < 0 || (ret = part_init(&p, c->niov)) < 0)
        return ret;
    for (uint64_t done = 0, n; ret == 0 && done < len; done += n) {
        struct qcow2_run r;
        unsigned token = qcow2_transfer_begin(q);
        ret = q->broken ? -EIO : qcow2_lookup(q, offset + done, len - done, &r);
        bool in_place = ret == 0 && r.kind == QCOW2_NORMAL && r.copied;
        n = in_place ? r.len : 0;
        if (in_place)
            ret = write_content(q, r.host, c, done, n, &p);
        qcow2_transfer_end(q, token);
        if (ret == 0 && !in_place)
            ret = write_allocating(im, offset + done, len - done, done, c, &n);
    }
    part_free(&p);
    return ret;
}

static int qcow2_write(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    return write_range(im, offset, len, &(struct content){.iov = iov, .niov = niov});
}

static int qcow2_copy(struct image *im, uint64_t offset, uint64_t *len, struct file *from, uint64_t host)
{
    struct qcow2 *q = im->state;
    uint64_t within = offset & (q->cluster_size - 1), whole = within ? 0 : ALIGN_DOWN(*len, (uint64_t)q->cluster_size);
    *len = whole ? whole : MIN(*len, q->cluster_size - within);
    if (!whole || q->h.crypt || q->data->no_copy) /* before clusters are taken for it */
        return -EOPNOTSUPP;
    return write_range(im, offset, whole, &(struct content){.from = from, .at = host});
}

/* ---- zeroes and discards ---- */

static int unlink_clusters(struct image *im, uint64_t offset, uint64_t len, enum qcow2_unlink how)
{
    struct qcow2 *q = im->state;
    struct qcow2_writer w;
    int ret = 0;
    writer_begin(q, &w, offset, len);
    fiber_lock(&q->meta);
    for (uint64_t done = 0; ret == 0 && done < len;) {
        struct qcow2_run r;
        ret = q->broken ? -EIO : qcow2_lookup(q, offset + done, len - done, &r);
        if (ret == 0 && too_dirty(q))
            ret = qcow2_write_back(q);
        if (ret < 0)
            break;
        uint64_t part = MIN(ALIGN_UP(r.len, (uint64_t)q->cluster_size), len - done);
        bool nothing = r.kind == QCOW2_NONE && !r.has_host && r.len >= part && (how == QCOW2_TO_NONE || !im->backing_name);
        part = nothing ? part : MIN(part, (uint64_t)q->cluster_size << 6);
        if (!nothing)
            ret = qcow2_unlink(q, offset + done, part, how);
        done += part;
    }
    fiber_unlock(im->loop, &q->meta);
    writer_end(q, &w);
    return ret;
}

static int write_zeroes(struct image *im, uint64_t offset, uint64_t len)
{
    AUTO_FREE uint8_t *zero = file_buffer(MIN(len, MIB));
    if (!zero)
        return -ENOMEM;
    memset(zero, 0, MIN(len, MIB));
    for (uint64_t done = 0; done < len;) {
        struct iovec iov = {zero, MIN(len - done, MIB)};
        uint64_t n = iov.iov_len;
        int ret = qcow2_write(im, offset + done, n, &iov, 1);
        if (ret < 0)
            return ret;
        done += n;
    }
    return 0;
}

/* The part of a range that covers whole clusters; the disk's last cluster may be a short one. */
static void whole_clusters(struct image *im, uint64_t offset, uint64_t len, uint64_t *from, uint64_t *to)
{
    uint64_t size = qcow2_of(im)->cluster_size;
    *from = ALIGN_UP(offset, size);
    *to = offset + len == im->size ? ALIGN_UP(im->size, size) : ALIGN_DOWN(offset + len, size);
    if (*to < *from)
        *to = *from = offset + len; /* all of it is an edge */
}

static int zero_edge(struct image *im, uint64_t offset, uint64_t len)
{
    struct qcow2_run r;
    for (uint64_t done = 0; done < len; done += r.len) {
        int ret = qcow2_lookup(im->state, offset + done, len - done, &r);
        if (ret == 0 && !reads_as_zero(im, &r))
            ret = write_zeroes(im, offset + done, r.len);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int qcow2_zero(struct image *im, uint64_t offset, uint64_t len, bool may_unmap)
{
    struct qcow2 *q = im->state;
    uint64_t from, to;
    if ((q->h.version < 3 && im->backing_name) || q->data != q->file)
        return write_zeroes(im, offset, len);
    whole_clusters(im, offset, len, &from, &to);
    int ret = qcow2_bitmaps_touch(q, offset, len);
    if (ret == 0)
        ret = zero_edge(im, offset, MIN(from, offset + len) - offset);
    if (ret == 0 && to > from)
        ret = unlink_clusters(im, from, to - from, q->h.version < 3 ? QCOW2_TO_NONE : may_unmap ? QCOW2_TO_ZERO : QCOW2_TO_ZERO_KEEP);
    if (ret == 0 && to < offset + len)
        ret = zero_edge(im, to, offset + len - to);
    return ret;
}

static int qcow2_discard(struct image *im, uint64_t offset, uint64_t len)
{
    struct qcow2 *q = im->state;
    uint64_t from, to;
    whole_clusters(im, offset, len, &from, &to);
    if (to <= from || (q->h.version < 3 && im->backing_name) || q->data != q->file)
        return 0;
    int ret = qcow2_bitmaps_touch(q, from, MIN(to, im->size) - from);
    return ret < 0 ? ret : unlink_clusters(im, from, to - from, q->h.version < 3 ? QCOW2_TO_NONE : QCOW2_TO_ZERO);
}

int qcow2_forget(struct image *im, uint64_t offset, uint64_t len)
{
    return unlink_clusters(im, offset, len, QCOW2_TO_NONE);
}

/* ---- the rest ---- */

static int qcow2_flush(struct image *im)
{
    struct qcow2 *q = im->state;
    if (!q->l2.ndirty && !q->l1_dirty && !q->rct_dirty && !q->broken) {
        int ret = q->data != q->file ? file_sync(q->data) : 0;
        return ret < 0 ? ret : file_sync(q->file);
    }
    fiber_lock(&q->meta);
    int ret = qcow2_write_back(q);
    fiber_unlock(im->loop, &q->meta);
    return ret;
}

static int qcow2_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out)
{
    static const enum extent_kind kinds[] = {
        [QCOW2_NONE] = EXTENT_NONE, [QCOW2_IS_ZERO] = EXTENT_ZERO, [QCOW2_NORMAL] = EXTENT_DATA, [QCOW2_PACKED] = EXTENT_COMPRESSED};
    struct qcow2_run r;
    int ret = qcow2_lookup(im->state, offset, len, &r);
    if (ret == 0)
        *out = (struct extent){.kind = kinds[r.kind], .len = r.len, .host = r.host, .has_host = r.has_host, .file = qcow2_of(im)->h.crypt ? NULL : qcow2_of(im)->data};
    if (ret == 0 && r.kind == QCOW2_NORMAL && !qcow2_of(im)->h.crypt)
        ret = file_is_hole(qcow2_of(im)->data, r.host, &out->len, &out->zero);
    return ret;
}

/* ---- life ---- */

#define L2_CACHE_MAX   (32 * MIB)
#define REFS_CACHE_MAX (8 * MIB)

static int load_tables(struct qcow2 *q, struct error *err)
{
    uint64_t length = 0;
    int ret = qcow2_read_l1(q, q->h.l1_offset, q->h.l1_size, &q->l1);
    q->rct_size = (uint32_t)(((uint64_t)q->h.rct_clusters << q->h.cluster_bits) / 8);
    if (ret == 0)
        ret = qcow2_read_l1(q, q->h.rct_offset, q->rct_size, &q->rct);
    unsigned slice = MIN(q->cluster_size, QCOW2_SLICE);
    uint64_t all = qcow2_clusters(q, q->h.size) * q->entry_bytes + 64 * KIB;
    if (ret == 0)
        ret = qcow2_cache_init(&q->l2, slice, MIN(2 * all, L2_CACHE_MAX));
    if (ret == 0)
        ret = qcow2_cache_init(&q->refs, slice, MIN(2 * all, REFS_CACHE_MAX));
    if (ret == 0)
        ret = file_length(q->file, &length);
    q->fresh = ALIGN_UP(length, (uint64_t)q->cluster_size);
    q->reach = length;
    if (ret < 0)
        return error_set(err, -ret, "image '%s': cannot read its tables: %s; check the disk that holds it", q->file->path, strerror(-ret));
    return 0;
}

static int open_data_file(struct qcow2 *q, struct error *err)
{
    q->data = q->file;
    if (!(q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE))
        return 0;
    if (!q->data_name)
        return error_set(err, 0, "image '%s': its data is in another file that it does not name; make a new image", q->file->path);
    AUTO_FREE char *path = image_backing_path(q->file->path, q->data_name);
    if (!path)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", q->file->path);
    q->data = NULL;
    return file_open(q->im->loop, "data file", path, q->im->readonly, &q->data, err);
}

static int unlock(struct qcow2 *q, struct error *err)
{
    struct qcow2_range r = qcow2_luks_range(q);
    uint64_t length;
    if (!q->h.crypt || (q->im->no_backing && !q->im->secret_file)) /* nobody reads the data */
        return 0;
    int ret = file_length(q->file, &length);
    if (ret < 0 || r.len == 0 || r.offset % q->cluster_size || r.offset > length || r.len > length - r.offset)
        return error_set(err, 0, "image '%s': its LUKS header is not where it can be; restore a copy", q->file->path);
    return luks_open(q->file, r.offset, r.len, q->im->secret_file, &q->luks, err);
}

/* Bits that say of parts of the image that they are up to date, and that nothing here keeps so (spec. "autoclear_features"). And an image that another
 * program left with stale refcounts gets new ones. */
static int prepare_to_write(struct qcow2 *q, struct error *err)
{
    int ret = 0;
    if (q->im->readonly || q->im->for_repair)
        return 0;
    if (q->h.incompatible & QCOW2_INCOMPAT_DIRTY) {
        struct image_check check = {0};
        if (qcow2_check(q->im, REPAIR_ALL, &check, err) < 0)
            return -1;
    }
    if (qcow2_check_counted(q, err) < 0)
        return -1;
    uint64_t keep = q->h.autoclear & (QCOW2_AUTOCLEAR_RAW_DATA | (q->nbitmaps ? QCOW2_AUTOCLEAR_BITMAPS : 0u));
    if (q->h.autoclear != keep) {
        q->h.autoclear = keep;
        ret = qcow2_write_header(q);
    }
    if (ret < 0)
        return error_set(err, -ret, "image '%s': cannot write its header: %s; check the disk that holds it", q->file->path, strerror(-ret));
    return 0;
}

static void qcow2_release(struct qcow2 *q)
{
    qcow2_cache_free(&q->l2);
    qcow2_cache_free(&q->refs);
    qcow2_free_snapshots(q->snapshots, q->h.nsnapshots);
    qcow2_bitmaps_free(q);
    luks_close(q->luks);
    if (q->data != q->file)
        file_close(q->data);
    free(q->l1);
    free(q->rct);
    free(q->freed);
    free(q->extensions);
    free(q->data_name);
    free(q->unpacked.data);
    free(q);
}

static int qcow2_open(struct image *im, struct error *err)
{
    struct qcow2 *q = calloc(1, sizeof *q);
    if (!q)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    q->im = im;
    q->file = q->data = im->file;
    im->state = q;
    if (qcow2_read_header(q, err) == 0 && qcow2_read_snapshots(q, err) == 0 && open_data_file(q, err) == 0 && load_tables(q, err) == 0 &&
        unlock(q, err) == 0) {
        qcow2_bitmaps_open(q);
        if (prepare_to_write(q, err) == 0)
            return 0;
    }
    qcow2_release(q);
    im->state = NULL;
    return -1;
}

static int qcow2_close(struct image *im)
{
    struct qcow2 *q = im->state;
    int ret = 0;
    if (!im->readonly && !q->broken && (ret = qcow2_settle(q)) == 0)
        ret = qcow2_bitmaps_store(q);
    if (q->reach > q->fresh)
        file_truncate(q->file, q->fresh); /* what is left over is a hole behind the last cluster, and no error */
    qcow2_release(q);
    im->state = NULL;
    return ret;
}

const struct image_driver qcow2_driver = {.name = "qcow2",
                                          .open = qcow2_open,
                                          .close = qcow2_close,
                                          .read = qcow2_read,
                                          .write = qcow2_write,
                                          .zero = qcow2_zero,
                                          .discard = qcow2_discard,
                                          .flush = qcow2_flush,
                                          .copy = qcow2_copy,
                                          .extent = qcow2_extent,
                                          .create = qcow2_new,
                                          .resize = qcow2_resize};
