// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Persistent dirty bitmaps (spec. "Bitmaps"): which parts of the disk were written since the bitmap was made.
 *
 * Bits live in memory while the image is written to. Before the first change of the disk the directory's entries of the bitmaps that record get their
 * IN_USE flag, in place and synced, so that a cut leaves bitmaps that say of themselves that they are not to be trusted. Closing stores all: data, tables
 * and directory go to new clusters, refcounts and a sync come next, then the header, whose extension names the new directory; then the old clusters fall
 * free. So a bitmap without IN_USE is complete at every moment, and the invariants of qcow2.h hold.
 *
 * A bitmap that is IN_USE when the image is opened is kept as it is, and can only be removed.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "block/qcow2.h"

#define ENTRY_FIXED    24u
#define DIRECTORY_MAX  (16 * MIB)
#define BITS_MAX       (512 * MIB) /* bytes of one bitmap, as QEMU has it */
#define BITMAPS_MAX    1000u
#define MIN_GRANULARITY 9u
#define MAX_GRANULARITY 31u

struct directory {
    uint64_t offset, bytes;
    uint32_t n;
};

/* ---- the header extension ---- */

#define EXTENSION 32u /* bytes */

static uint8_t *find_extension(struct qcow2 *q, uint32_t *len)
{
    for (uint32_t at = 0; at + 8 <= q->extensions_len;) {
        uint32_t n = be32_get(q->extensions + at + 4);
        *len = 8 + ALIGN_UP(n, 8u);
        if (be32_get(q->extensions + at) == QCOW2_EXT_BITMAPS)
            return q->extensions + at;
        at += *len;
    }
    return NULL;
}

static struct directory get_directory(struct qcow2 *q)
{
    uint32_t len;
    const uint8_t *p = find_extension(q, &len);
    if (!p || len < 32)
        return (struct directory){0};
    return (struct directory){.n = be32_get(p + 8), .bytes = be64_get(p + 16), .offset = be64_get(p + 24)};
}

/* Makes the extension name `d`; without bitmaps there is none. */
static int set_directory(struct qcow2 *q, const struct directory *d)
{
    uint32_t len;
    uint8_t *p = find_extension(q, &len);
    if (p) {
        memmove(p, p + len, (size_t)(q->extensions + q->extensions_len - (p + len)));
        q->extensions_len -= len;
    }
    if (!d->n)
        return 0;
    if (!(p = realloc(q->extensions, q->extensions_len + EXTENSION)))
        return -ENOMEM;
    q->extensions = p;
    p += q->extensions_len;
    q->extensions_len += EXTENSION;
    be32_put(p, QCOW2_EXT_BITMAPS);
    be32_put(p + 4, EXTENSION - 8);
    be32_put(p + 8, d->n);
    be32_put(p + 12, 0);
    be64_put(p + 16, d->bytes);
    be64_put(p + 24, d->offset);
    return 0;
}

/* ---- reading ---- */

static uint64_t bit_count(const struct qcow2 *q, unsigned granularity)
{
    return (q->h.size + (1ull << granularity) - 1) >> granularity;
}

static uint32_t table_entries(const struct qcow2 *q, uint64_t nbits)
{
    return (uint32_t)qcow2_clusters(q, (nbits + 7) / 8);
}

static bool entry_is_sound(const struct qcow2 *q, const struct qcow2_bitmap *b)
{
    uint64_t nbits = bit_count(q, b->granularity);
    return (nbits + 7) / 8 <= BITS_MAX && b->type == 1 &&
           b->table_offset % q->cluster_size == 0 && b->table_offset <= QCOW2_OFFSET && (uint64_t)b->table_size * 8 <= BITS_MAX / 8 &&
           ((b->flags & QCOW2_BITMAP_IN_USE) || b->table_size == table_entries(q, nbits));
}

static int parse_entry(struct qcow2 *q, const uint8_t *p, uint64_t have, struct qcow2_bitmap *b, uint64_t *used)
{
    if (have < ENTRY_FIXED)
        return -EINVAL;
    uint32_t extra = be32_get(p + 20);
    uint16_t name = be16_get(p + 18);
    *b = (struct qcow2_bitmap){.table_offset = be64_get(p), .table_size = be32_get(p + 8), .flags = be32_get(p + 12), .type = p[16], .granularity = p[17]};
    *used = ALIGN_UP(ENTRY_FIXED + (uint64_t)extra + name, 8u);
    if (ENTRY_FIXED + (uint64_t)extra + name > have || name == 0 || name > QCOW2_BITMAP_NAME_MAX || b->granularity < MIN_GRANULARITY ||
        b->granularity > MAX_GRANULARITY)
        return -EINVAL;
    if (!(b->name = strndup((const char *)p + ENTRY_FIXED + extra, name)))
        return -ENOMEM;
    b->foreign = (b->flags & QCOW2_BITMAP_IN_USE) || extra || !entry_is_sound(q, b);
    return (b->flags & QCOW2_BITMAP_IN_USE) || entry_is_sound(q, b) ? 0 : -EINVAL;
}

static int load_directory(struct qcow2 *q, const struct directory *d)
{
    uint64_t length;
    int ret = file_length(q->file, &length);
    if (ret < 0)
        return ret;
    if (d->n > BITMAPS_MAX || d->bytes > DIRECTORY_MAX || d->bytes < d->n * (uint64_t)ENTRY_FIXED || d->offset % q->cluster_size || d->offset > length ||
        d->bytes > length - d->offset)
        return -EINVAL;
    AUTO_FREE uint8_t *buf = malloc(d->bytes);
    q->bitmaps = calloc(d->n, sizeof *q->bitmaps);
    if (!buf || !q->bitmaps)
        return -ENOMEM;
    ret = file_read(q->file, d->offset, buf, d->bytes);
    for (uint64_t at = 0, used = 0; ret == 0 && q->nbitmaps < d->n; at += used) {
        struct qcow2_bitmap *b = &q->bitmaps[q->nbitmaps++];
        ret = at > d->bytes ? -EINVAL : parse_entry(q, buf + at, d->bytes - at, b, &used);
        b->flags_at = d->offset + at + 12;
        if (ret == 0 && b->table_size)
            ret = qcow2_read_l1(q, b->table_offset, b->table_size, &b->table);
    }
    return ret;
}

void qcow2_bitmaps_free(struct qcow2 *q)
{
    for (unsigned i = 0; i < q->nbitmaps; i++) {
        free(q->bitmaps[i].name);
        free(q->bitmaps[i].table);
        free(q->bitmaps[i].bits);
    }
    free(q->bitmaps);
    q->bitmaps = NULL;
    q->nbitmaps = 0;
}

void qcow2_bitmaps_open(struct qcow2 *q)
{
    struct directory d = get_directory(q);
    if (!(q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS) || !d.n)
        return;
    int ret = load_directory(q, &d);
    if (ret == 0)
        return;
    log_warn("image '%s': its dirty bitmaps cannot be used: %s; they stay in the file, and are not valid once the image is written to", q->file->path, strerror(-ret));
    qcow2_bitmaps_free(q);
}

static int load_cluster(struct qcow2 *q, struct qcow2_bitmap *b, uint32_t i)
{
    uint64_t bytes = (bit_count(q, b->granularity) + 7) / 8, at = (uint64_t)i << q->h.cluster_bits, e = b->table[i];
    uint64_t n = MIN(q->cluster_size, bytes - at), length;
    if (!(e & QCOW2_OFFSET)) {
        memset(b->bits + at, e & 1 ? 0xff : 0, n);
        return 0;
    }
    int ret = file_length(q->file, &length);
    if (ret == 0 && ((e & QCOW2_OFFSET) % q->cluster_size || (e & QCOW2_OFFSET) >= length))
        ret = -EINVAL;
    return ret < 0 ? ret : file_read(q->file, e & QCOW2_OFFSET, b->bits + at, n);
}

static int load_bits(struct qcow2 *q, struct qcow2_bitmap *b)
{
    uint64_t bytes = (bit_count(q, b->granularity) + 7) / 8;
    if (b->bits || b->foreign)
        return b->foreign ? -EINVAL : 0;
    if (!(b->bits = calloc(1, bytes + 1)))
        return -ENOMEM;
    for (uint32_t i = 0; i < b->table_size; i++) {
        int ret = load_cluster(q, b, i);
        if (ret < 0) {
            free(b->bits);
            b->bits = NULL;
            return ret;
        }
    }
    return 0;
}

/* ---- recording ---- */

static bool records(const struct qcow2_bitmap *b)
{
    return (b->flags & QCOW2_BITMAP_AUTO) && !b->foreign;
}

static int mark_in_use(struct qcow2 *q)
{
    int ret = 0;
    for (unsigned i = 0; ret == 0 && i < q->nbitmaps; i++) {
        struct qcow2_bitmap *b = &q->bitmaps[i];
        uint8_t flags[4];
        if (!records(b) || !b->flags_at)
            continue;
        be32_put(flags, b->flags | QCOW2_BITMAP_IN_USE);
        if ((ret = load_bits(q, b)) == 0)
            ret = file_write(q->file, b->flags_at, flags, sizeof flags);
    }
    return ret < 0 ? ret : file_sync(q->file);
}

/* Before the first change of the disk. */
static int begin(struct qcow2 *q)
{
    bool any = false;
    for (unsigned i = 0; i < q->nbitmaps; i++)
        any |= records(&q->bitmaps[i]);
    if (q->bitmaps_in_use || !any)
        return 0;
    fiber_lock(&q->bitmaps_lock);
    int ret = q->bitmaps_in_use ? 0 : mark_in_use(q);
    q->bitmaps_in_use |= ret == 0;
    fiber_unlock(q->im->loop, &q->bitmaps_lock);
    return ret;
}

static void set_bits(uint8_t *bits, uint64_t from, uint64_t to)
{
    for (; from < to && from % 8; from++)
        bits[from / 8] |= (uint8_t)BIT(from % 8);
    for (; to > from && to % 8; to--)
        bits[(to - 1) / 8] |= (uint8_t)BIT((to - 1) % 8);
    if (to > from)
        memset(bits + from / 8, 0xff, (to - from) / 8);
}

int qcow2_bitmaps_touch(struct qcow2 *q, uint64_t offset, uint64_t len)
{
    if (!q->nbitmaps || !len)
        return 0;
    int ret = begin(q);
    for (unsigned i = 0; ret == 0 && i < q->nbitmaps; i++) {
        struct qcow2_bitmap *b = &q->bitmaps[i];
        if (records(b))
            set_bits(b->bits, offset >> b->granularity, MIN(((offset + len - 1) >> b->granularity) + 1, bit_count(q, b->granularity)));
    }
    return ret;
}

/* What is behind the old end counts as written. */
static int fit_bits(struct qcow2 *q, struct qcow2_bitmap *b, uint64_t old_size)
{
    uint64_t nbits = bit_count(q, b->granularity), bytes = (nbits + 7) / 8, old_bits = (old_size + (1ull << b->granularity) - 1) >> b->granularity;
    uint8_t *bits = bytes <= BITS_MAX ? realloc(b->bits, bytes + 1) : NULL;
    if (!bits)
        return bytes <= BITS_MAX ? -ENOMEM : -EFBIG;
    b->bits = bits;
    if (bytes > (old_bits + 7) / 8)
        memset(bits + (old_bits + 7) / 8, 0, bytes - (old_bits + 7) / 8);
    if (nbits > old_bits && records(b))
        set_bits(bits, old_bits, nbits);
    if (nbits % 8)
        bits[nbits / 8] &= (uint8_t)(BIT(nbits % 8) - 1);
    return 0;
}

/* The tables in the file fit the old size: until they are stored anew, none may count as valid. */
int qcow2_bitmaps_before_resize(struct qcow2 *q)
{
    int ret = 0;
    for (unsigned i = 0; ret == 0 && i < q->nbitmaps; i++) {
        struct qcow2_bitmap *b = &q->bitmaps[i];
        uint8_t flags[4];
        be32_put(flags, b->flags | QCOW2_BITMAP_IN_USE);
        if (b->foreign || (ret = load_bits(q, b)) < 0 || !b->flags_at)
            continue;
        ret = file_write(q->file, b->flags_at, flags, sizeof flags);
    }
    if (ret == 0 && q->nbitmaps)
        ret = file_sync(q->file);
    if (ret == 0 && q->nbitmaps)
        q->bitmaps_in_use = true;
    return ret;
}

int qcow2_bitmaps_after_resize(struct qcow2 *q, uint64_t old_size)
{
    int ret = 0;
    for (unsigned i = 0; ret == 0 && i < q->nbitmaps; i++)
        if (!q->bitmaps[i].foreign)
            ret = fit_bits(q, &q->bitmaps[i], old_size);
    return ret;
}

/* ---- storing ---- */

static bool all_set(const uint8_t *p, uint64_t n)
{
    return n == 0 || (p[0] == 0xff && (n == 1 || memcmp(p, p + 1, n - 1) == 0));
}

static int write_new(struct qcow2 *q, const void *data, uint64_t bytes, uint64_t *offset)
{
    AUTO_FREE uint8_t *padded = calloc(1, ALIGN_UP(bytes, (uint64_t)q->cluster_size));
    uint64_t want = qcow2_clusters(q, bytes), got = 0;
    if (!padded)
        return -ENOMEM;
    memcpy(padded, data, bytes);
    int ret = qcow2_alloc(q, want, offset, &got);
    while (ret == 0 && got < want) { /* they must lie in a row: look further on */
        if ((ret = qcow2_free(q, *offset, got << q->h.cluster_bits)) == 0)
            ret = qcow2_alloc(q, want, offset, &got);
    }
    if (ret < 0)
        return ret;
    q->fresh = MAX(q->fresh, *offset + (want << q->h.cluster_bits));
    return file_write(q->file, *offset, padded, want << q->h.cluster_bits);
}

static int store_bits(struct qcow2 *q, const struct qcow2_bitmap *b, uint64_t *table, uint32_t entries)
{
    uint64_t bytes = (bit_count(q, b->granularity) + 7) / 8;
    for (uint32_t i = 0; i < entries; i++) {
        const uint8_t *p = b->bits + ((uint64_t)i << q->h.cluster_bits);
        uint64_t n = MIN(q->cluster_size, bytes - ((uint64_t)i << q->h.cluster_bits));
        int ret = 0;
        table[i] = 0;
        if (n == q->cluster_size && all_set(p, n))
            table[i] = 1;
        else if (!bytes_are_zero(p, n))
            ret = write_new(q, p, n, &table[i]);
        if (ret < 0)
            return ret;
    }
    return 0;
}

struct stored {
    uint64_t *table; /* owned */
    uint64_t table_offset;
    uint32_t entries;
};

static int store_one(struct qcow2 *q, const struct qcow2_bitmap *b, struct stored *s)
{
    s->entries = table_entries(q, bit_count(q, b->granularity));
    s->table = calloc(s->entries + 1ull, 8);
    AUTO_FREE uint8_t *raw = calloc(s->entries + 1ull, 8);
    int ret = s->table && raw ? store_bits(q, b, s->table, s->entries) : -ENOMEM;
    for (uint32_t i = 0; ret == 0 && i < s->entries; i++)
        be64_put(raw + 8ull * i, s->table[i]);
    return ret < 0 || !s->entries ? ret : write_new(q, raw, s->entries * 8ull, &s->table_offset);
}

static uint64_t entry_bytes(const struct qcow2_bitmap *b)
{
    return ALIGN_UP(ENTRY_FIXED + (uint64_t)strlen(b->name), 8u);
}

static int store_directory(struct qcow2 *q, const struct stored *new, struct directory *d)
{
    *d = (struct directory){.n = q->nbitmaps};
    for (unsigned i = 0; i < q->nbitmaps; i++)
        d->bytes += entry_bytes(&q->bitmaps[i]);
    if (!d->n)
        return 0;
    AUTO_FREE uint8_t *buf = calloc(1, d->bytes);
    if (!buf)
        return -ENOMEM;
    uint64_t at = 0;
    for (unsigned i = 0; i < q->nbitmaps; at += entry_bytes(&q->bitmaps[i++])) {
        const struct qcow2_bitmap *b = &q->bitmaps[i];
        uint8_t *p = buf + at;
        be64_put(p, new[i].table_offset);
        be32_put(p + 8, new[i].entries);
        be32_put(p + 12, b->flags);
        p[16] = b->type;
        p[17] = b->granularity;
        be16_put(p + 18, (uint16_t)strlen(b->name));
        memcpy(p + ENTRY_FIXED, b->name, strlen(b->name));
    }
    return write_new(q, buf, d->bytes, &d->offset);
}

static int free_clusters(struct qcow2 *q, const uint64_t *table, uint32_t entries, uint64_t table_offset)
{
    int ret = 0;
    for (uint32_t i = 0; ret == 0 && i < entries; i++)
        if (table[i] & QCOW2_OFFSET)
            ret = qcow2_free(q, table[i] & QCOW2_OFFSET, q->cluster_size);
    if (ret == 0 && entries)
        ret = qcow2_free(q, table_offset, qcow2_clusters(q, entries * 8ull) << q->h.cluster_bits);
    return ret;
}

/* Writes the new directory's header, and frees what the old one led to. */
static int switch_to(struct qcow2 *q, const struct directory *d, struct stored *new)
{
    struct directory old = get_directory(q);
    int ret = qcow2_write_back(q);
    if (ret < 0 || (ret = set_directory(q, d)) < 0)
        return ret;
    q->h.autoclear = d->n ? q->h.autoclear | QCOW2_AUTOCLEAR_BITMAPS : q->h.autoclear & ~(uint64_t)QCOW2_AUTOCLEAR_BITMAPS;
    if ((ret = qcow2_write_header(q)) < 0) {
        q->broken = true;
        return ret;
    }
    uint64_t at = d->offset;
    for (unsigned i = 0; ret == 0 && i < q->nbitmaps; at += entry_bytes(&q->bitmaps[i++])) {
        struct qcow2_bitmap *b = &q->bitmaps[i];
        if (!b->foreign)
            ret = free_clusters(q, b->table, b->table_size, b->table_offset);
        b->flags_at = at + 12;
        if (b->foreign)
            continue;
        free(b->table);
        b->table = steal_ptr(&new[i].table);
        b->table_size = new[i].entries;
        b->table_offset = new[i].table_offset;
    }
    if (ret == 0 && old.n)
        ret = qcow2_free(q, old.offset, qcow2_clusters(q, old.bytes) << q->h.cluster_bits);
    q->bitmaps_in_use = q->bitmaps_changed = false;
    return ret;
}

/* `meta` is held. */
static int store(struct qcow2 *q)
{
    struct stored *new = calloc(MAX(q->nbitmaps, 1u), sizeof *new);
    struct directory d;
    int ret = new ? 0 : -ENOMEM;
    for (unsigned i = 0; ret == 0 && i < q->nbitmaps; i++) {
        struct qcow2_bitmap *b = &q->bitmaps[i];
        if (b->foreign)
            new[i] = (struct stored){.table_offset = b->table_offset, .entries = b->table_size};
        else if ((ret = load_bits(q, b)) == 0)
            ret = store_one(q, b, &new[i]);
    }
    if (ret == 0)
        ret = store_directory(q, new, &d);
    if (ret == 0)
        ret = switch_to(q, &d, new);
    for (unsigned i = 0; new && i < q->nbitmaps; i++)
        free(new[i].table);
    free(new);
    return ret;
}

int qcow2_bitmaps_store(struct qcow2 *q)
{
    if (!q->bitmaps_in_use && !q->bitmaps_changed)
        return 0;
    fiber_lock(&q->meta);
    int ret = store(q);
    if (ret == 0)
        ret = qcow2_settle(q);
    fiber_unlock(q->im->loop, &q->meta);
    return ret;
}

/* ---- what `lodge image bitmap` does ---- */

static struct qcow2_bitmap *find(struct qcow2 *q, const char *name)
{
    for (unsigned i = 0; i < q->nbitmaps; i++)
        if (strcmp(q->bitmaps[i].name, name) == 0)
            return &q->bitmaps[i];
    return NULL;
}

static struct qcow2_bitmap *find_sound(struct image *im, const char *name, struct error *err)
{
    struct qcow2 *q = im->state;
    struct qcow2_bitmap *b = find(q, name);
    int ret = b && !b->foreign ? load_bits(q, b) : 0;
    if (!b)
        error_set(err, ENOENT, "image '%s': has no bitmap '%s'; 'lodge image info' lists them", im->file->path, name);
    else if (b->foreign)
        error_set(err, 0, "image '%s': bitmap '%s' was in use when a program or host ended, and is not valid; remove it and make a new one", im->file->path, name);
    else if (ret < 0)
        error_set(err, -ret, "image '%s': bitmap '%s' cannot be read: %s; remove it", im->file->path, name, strerror(-ret));
    return b && !b->foreign && ret == 0 ? b : NULL;
}

int qcow2_bitmap_add(struct image *im, const char *name, unsigned granularity, bool enabled, struct error *err)
{
    struct qcow2 *q = im->state;
    if (q->h.version < 3)
        return error_set(err, 0, "image '%s': version 2 (compat 0.10) has no bitmaps; use 'lodge image amend -o compat=1.1'", im->file->path);
    if (!*name || strlen(name) > QCOW2_BITMAP_NAME_MAX || find(q, name))
        return error_set(err, EEXIST, "image '%s': '%s' is no name for a new bitmap, or there is one; use another", im->file->path, name);
    if (granularity < MIN_GRANULARITY || granularity > MAX_GRANULARITY || (bit_count(q, granularity) + 7) / 8 > BITS_MAX)
        return error_set(err, 0, "image '%s': a bitmap of that granularity is not possible; give a power of two from 512 to 2G", im->file->path);
    if (q->nbitmaps >= BITMAPS_MAX)
        return error_set(err, 0, "image '%s': has %u bitmaps; remove some", im->file->path, q->nbitmaps);
    uint32_t len;
    if (!find_extension(q, &len) && qcow2_header_has_room(q, EXTENSION) < 0)
        return error_set(err, ENOSPC, "image '%s': its header has no room for bitmaps beside the names in it; convert it to larger clusters, or use shorter names", im->file->path);
    struct qcow2_bitmap *all = realloc(q->bitmaps, (q->nbitmaps + 1) * sizeof *all);
    if (all)
        q->bitmaps = all;
    struct qcow2_bitmap b = {.name = strdup(name), .bits = calloc(1, (bit_count(q, granularity) + 7) / 8 + 1), .type = 1, .granularity = (uint8_t)granularity,
                             .flags = enabled ? QCOW2_BITMAP_AUTO : 0};
    if (!all || !b.name || !b.bits) {
        free(b.name);
        free(b.bits);
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    }
    q->bitmaps[q->nbitmaps++] = b;
    q->bitmaps_changed = true;
    return 0;
}

int qcow2_bitmap_remove(struct image *im, const char *name, struct error *err)
{
    struct qcow2 *q = im->state;
    struct qcow2_bitmap *b = find(q, name);
    if (!b)
        return error_set(err, ENOENT, "image '%s': has no bitmap '%s'; 'lodge image info' lists them", im->file->path, name);
    fiber_lock(&q->meta);
    struct qcow2_bitmap gone = *b;
    memmove(b, b + 1, (size_t)(q->bitmaps + q->nbitmaps - (b + 1)) * sizeof *b);
    q->nbitmaps--;
    q->bitmaps_changed = true;
    int ret = store(q); /* nothing leads there any more */
    if (ret == 0)
        ret = free_clusters(q, gone.table, gone.table_size, gone.table_offset);
    if (ret == 0)
        ret = qcow2_settle(q);
    fiber_unlock(im->loop, &q->meta);
    free(gone.name);
    free(gone.table);
    free(gone.bits);
    return ret < 0 ? error_set(err, -ret, "image '%s': bitmap '%s' cannot be removed: %s; try 'lodge image check'", im->file->path, name, strerror(-ret)) : 0;
}

int qcow2_bitmap_clear(struct image *im, const char *name, struct error *err)
{
    struct qcow2 *q = im->state;
    struct qcow2_bitmap *b = find_sound(im, name, err);
    if (!b)
        return -1;
    memset(b->bits, 0, (bit_count(q, b->granularity) + 7) / 8);
    q->bitmaps_changed = true;
    return 0;
}

int qcow2_bitmap_enable(struct image *im, const char *name, bool enabled, struct error *err)
{
    struct qcow2_bitmap *b = find_sound(im, name, err);
    if (!b)
        return -1;
    b->flags = enabled ? b->flags | QCOW2_BITMAP_AUTO : b->flags & ~(uint32_t)QCOW2_BITMAP_AUTO;
    qcow2_of(im)->bitmaps_changed = true;
    return 0;
}

int qcow2_bitmap_merge(struct image *im, const char *name, struct image *from_image, const char *from, struct error *err)
{
    struct qcow2 *q = im->state, *other = from_image->state;
    struct qcow2_bitmap *to = find_sound(im, name, err), *b = to ? find_sound(from_image, from, err) : NULL;
    if (!b)
        return -1;
    uint64_t n = bit_count(other, b->granularity);
    for (uint64_t i = 0; i < n; i++) {
        if (!(b->bits[i / 8] & BIT(i % 8)))
            continue;
        uint64_t start = i << b->granularity, last = MIN(((i + 1) << b->granularity), q->h.size);
        if (start < q->h.size)
            set_bits(to->bits, start >> to->granularity, ((last - 1) >> to->granularity) + 1);
    }
    q->bitmaps_changed = true;
    return 0;
}

int qcow2_bitmap_at(struct image *im, const char *name, uint64_t offset, uint64_t *len, bool *dirty)
{
    struct qcow2 *q = im->state;
    struct qcow2_bitmap *b = find(q, name);
    int ret = b ? load_bits(q, b) : -ENOENT;
    if (ret < 0)
        return ret;
    uint64_t i = offset >> b->granularity, n = bit_count(q, b->granularity), end = i;
    *dirty = b->bits[i / 8] >> i % 8 & 1;
    while (end < n && (b->bits[end / 8] >> end % 8 & 1) == *dirty && (end << b->granularity) < offset + *len)
        end++;
    *len = MIN(*len, (end << b->granularity) - offset);
    return 0;
}

int qcow2_bitmap_check(struct image *im, const char *name, struct error *err)
{
    return find_sound(im, name, err) ? 0 : -1;
}
