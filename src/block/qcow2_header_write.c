// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writing the header. Its first sector changes at once. What lies behind that is in place and stable before, where the header that still stands has
 * nothing, or the same bytes. So the first sector leads either to all of the old header or to all of the new one:
 *
 *     first sector                          | behind it
 *     fields | extensions that fit | jump   | other extensions, END   backing file's name
 *
 * The jump is an extension that reaches up to the other ones. It is of the kind that names features, and begins with an empty row, where readers of names
 * stop. Mostly everything fits into the first sector, and there is none.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "block/qcow2.h"

#define NAMED_FEATURE 48u
#define EXT_HEADER    8u /* an extension's type and length; all of QCOW2_EXT_END */
#define JUMP_MIN      (EXT_HEADER + NAMED_FEATURE)

static const struct {
    uint8_t type, bit;
    const char *name;
} features[] = {
    {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},          {0, 2, "external data file"}, {0, 3, "compression type"},
    {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"}, {2, 0, "bitmaps"},            {2, 1, "raw external data"},
};

struct layout {
    uint8_t *buf;       /* a cluster: the header as it is to be */
    uint8_t *now;       /* as it stands in the file */
    uint64_t size;      /* of both */
    struct qcow2_range live[2]; /* what the header that stands has behind the first sector: extensions, the name */
    uint64_t tail, end; /* the new one's extensions behind the first sector begin and end; end may lie in that */
};

/* ---- the header that stands ---- */

static void find_live(struct layout *l)
{
    const uint8_t *p = l->now;
    if (be32_get(p) != QCOW2_MAGIC)
        return; /* it is being made */
    uint64_t at = be32_get(p + 4) < 3 ? QCOW2_V2_HEADER : be32_get(p + 100), first = UINT64_MAX;
    uint64_t name = be64_get(p + 8), name_end = name + be32_get(p + 16), end = name ? MIN(name, l->size) : l->size;
    for (bool last = false; !last && at + EXT_HEADER <= end;) {
        uint32_t type = be32_get(p + at), len = be32_get(p + at + 4);
        bool names = type == QCOW2_EXT_FEATURES && at < BLOCK_SECTOR; /* what these say matters to nobody */
        last = type == QCOW2_EXT_END;
        uint64_t next = at + EXT_HEADER + (last ? 0 : ALIGN_UP((uint64_t)len, 8u));
        if (next > BLOCK_SECTOR && !names)
            first = MIN(first, MAX(at, BLOCK_SECTOR));
        at = next;
    }
    if (first < at)
        l->live[0] = (struct qcow2_range){first, at - first};
    if (name && name_end > BLOCK_SECTOR)
        l->live[1] = (struct qcow2_range){MAX(name, BLOCK_SECTOR), name_end - MAX(name, BLOCK_SECTOR)};
}

/* May these bytes go to `at`, before the first sector changes? */
static bool may_put(const struct layout *l, uint64_t at, const uint8_t *bytes, uint64_t len)
{
    uint64_t from = MAX(at, BLOCK_SECTOR), end = at + len;
    if (at > l->size || len > l->size - at)
        return false;
    if (end <= from || memcmp(l->now + from, bytes + (from - at), end - from) == 0)
        return true;
    for (unsigned i = 0; i < ARRAY_SIZE(l->live); i++)
        if (from < l->live[i].offset + l->live[i].len && l->live[i].offset < end)
            return false;
    return true;
}

/* The first place from `from` on; *at is a multiple of `align`. */
static int find_place(const struct layout *l, uint64_t from, const uint8_t *bytes, uint64_t len, unsigned align, uint64_t *at)
{
    const struct qcow2_range *v = l->live;
    const uint64_t places[] = {from, v[0].offset, v[1].offset, BLOCK_SECTOR, v[0].offset + v[0].len, v[1].offset + v[1].len};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        *at = ALIGN_UP(MAX(places[i], from), (uint64_t)align);
        if (may_put(l, *at, bytes, len))
            return 0;
    }
    return -ENOSPC;
}

/* ---- the new one ---- */

static void put_fields(const struct qcow2_header *h, uint8_t *p)
{
    be32_put(p, QCOW2_MAGIC);
    be32_put(p + 4, h->version);
    be64_put(p + 8, h->backing_offset);
    be32_put(p + 16, h->backing_len);
    be32_put(p + 20, h->cluster_bits);
    be64_put(p + 24, h->size);
    be32_put(p + 32, h->crypt);
    be32_put(p + 36, h->l1_size);
    be64_put(p + 40, h->l1_offset);
    be64_put(p + 48, h->rct_offset);
    be32_put(p + 56, h->rct_clusters);
    be32_put(p + 60, h->nsnapshots);
    be64_put(p + 64, h->snapshots_offset);
    if (h->version < 3)
        return;
    be64_put(p + 72, h->incompatible);
    be64_put(p + 80, h->compatible);
    be64_put(p + 88, h->autoclear);
    be32_put(p + 96, h->refcount_order);
    be32_put(p + 100, h->length);
    p[104] = h->compression;
}

struct writer {
    uint8_t *buf;
    uint64_t at, end;
    bool full;
};

static void put_extension(struct writer *w, uint32_t type, const void *data, uint32_t len)
{
    uint64_t need = 8 + ALIGN_UP((uint64_t)len, 8u);
    if (w->full || need > w->end - w->at) {
        w->full = true;
        return;
    }
    be32_put(w->buf + w->at, type);
    be32_put(w->buf + w->at + 4, len);
    if (len)
        memcpy(w->buf + w->at + 8, data, len);
    w->at += need;
}

/* A courtesy to readers of newer features: left out where `more` bytes would then not fit behind it into the sector that changes at once. */
static void put_features(struct writer *w, uint64_t more)
{
    uint8_t table[ARRAY_SIZE(features) * NAMED_FEATURE] = {0};
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        uint8_t *row = table + i * NAMED_FEATURE;
        row[0] = features[i].type;
        row[1] = features[i].bit;
        memcpy(row + 2, features[i].name, strlen(features[i].name));
    }
    if (w->at + EXT_HEADER + sizeof table + more <= BLOCK_SECTOR)
        put_extension(w, QCOW2_EXT_FEATURES, table, sizeof table);
}

/* All extensions but those that only this file knows, one behind the other. */
static void collect(const struct qcow2 *q, bool backing, struct writer *all)
{
    const char *format = q->im->backing_format;
    if (backing && format)
        put_extension(all, (uint32_t)QCOW2_EXT_BACKING_FORMAT, format, (uint32_t)strlen(format));
    if (q->extensions_len > all->end - all->at) {
        all->full = true;
        return;
    }
    if (q->extensions_len)
        memcpy(all->buf + all->at, q->extensions, q->extensions_len);
    all->at += q->extensions_len;
    if (q->data_name)
        put_extension(all, QCOW2_EXT_DATA_FILE, q->data_name, (uint32_t)strlen(q->data_name));
}

/* What does not fit into the first sector goes behind it, and a jump leads there. */
static int split(struct layout *l, struct writer *w, const struct writer *all)
{
    AUTO_FREE uint8_t *tail = calloc(1, l->size);
    uint64_t tail_len = 0, place;
    if (!tail)
        return -ENOMEM;
    for (uint64_t at = 0, len; at < all->at; at += len) {
        len = EXT_HEADER + ALIGN_UP((uint64_t)be32_get(all->buf + at + 4), 8u);
        bool fits = w->at + len + JUMP_MIN <= BLOCK_SECTOR;
        memcpy(fits ? w->buf + w->at : tail + tail_len, all->buf + at, len);
        *(fits ? &w->at : &tail_len) += len;
    }
    if (tail_len > l->size - BLOCK_SECTOR - EXT_HEADER)
        return -ENOSPC;
    tail_len += EXT_HEADER; /* QCOW2_EXT_END is all zeroes */
    int ret = find_place(l, MAX(w->at + JUMP_MIN, BLOCK_SECTOR), tail, tail_len, 8, &place);
    if (ret < 0)
        return ret;
    be32_put(w->buf + w->at, QCOW2_EXT_FEATURES);
    be32_put(w->buf + w->at + 4, (uint32_t)(place - w->at - EXT_HEADER));
    memcpy(w->buf + place, tail, tail_len);
    l->tail = place;
    l->end = place + tail_len;
    return 0;
}

/* Extensions in l->buf; l->end is where they end. */
static int lay_out(const struct qcow2 *q, struct layout *l, uint64_t name_len)
{
    struct writer w = {l->buf, q->h.version < 3 ? QCOW2_V2_HEADER : QCOW2_V3_HEADER, l->size, false}, all = {calloc(1, l->size), 0, l->size, false};
    AUTO_FREE uint8_t *buf = all.buf;
    if (!buf)
        return -ENOMEM;
    collect(q, name_len, &all);
    if (all.full)
        return -ENOSPC;
    if (w.at + all.at + EXT_HEADER > BLOCK_SECTOR)
        return l->size > BLOCK_SECTOR ? split(l, &w, &all) : -ENOSPC;
    memcpy(w.buf + w.at, all.buf, all.at);
    w.at += all.at;
    if (q->h.version >= 3)
        put_features(&w, EXT_HEADER + name_len);
    put_extension(&w, QCOW2_EXT_END, NULL, 0);
    l->tail = l->end = w.at;
    return 0;
}

/* Writes a part of the new one that lies behind the first sector, if it differs. */
static int write_behind_first(struct qcow2 *q, const struct layout *l, uint64_t from, uint64_t end)
{
    from = MAX(from, BLOCK_SECTOR);
    return end <= from || memcmp(l->now + from, l->buf + from, end - from) == 0 ? 0 : file_write(q->file, from, l->buf + from, end - from);
}

/* Puts all of the new header into l->buf. */
static int plan(const struct qcow2 *q, struct layout *l, struct qcow2_header *h)
{
    const char *name = q->im->backing_name;
    *h = q->h;
    h->length = h->version < 3 ? QCOW2_V2_HEADER : QCOW2_V3_HEADER;
    h->backing_offset = 0;
    h->backing_len = name ? (uint32_t)strlen(name) : 0;
    int ret = !l->buf || !l->now ? -ENOMEM : h->backing_len > QCOW2_MAX_BACKING ? -ENOSPC : file_read(q->file, 0, l->now, l->size);
    if (ret < 0)
        return ret;
    find_live(l);
    if ((ret = lay_out(q, l, h->backing_len)) < 0)
        return ret;
    if (name && (ret = find_place(l, l->end, (const uint8_t *)name, h->backing_len, 1, &h->backing_offset)) < 0)
        return ret;
    if (name)
        memcpy(l->buf + h->backing_offset, name, h->backing_len);
    put_fields(h, l->buf);
    return 0;
}

int qcow2_header_has_room(struct qcow2 *q, uint32_t more)
{
    AUTO_FREE uint8_t *buf = calloc(1, q->cluster_size), *now = malloc(q->cluster_size), *longer = calloc(1, q->extensions_len + more);
    struct layout l = {.buf = buf, .now = now, .size = q->cluster_size};
    struct qcow2_header h;
    uint8_t *shorter = q->extensions;
    if (!longer)
        return -ENOMEM;
    if (shorter)
        memcpy(longer, shorter, q->extensions_len);
    be32_put(longer + q->extensions_len, QCOW2_EXT_BITMAPS);
    be32_put(longer + q->extensions_len + 4, more - EXT_HEADER);
    q->extensions = longer;
    q->extensions_len += more;
    int ret = plan(q, &l, &h);
    q->extensions = shorter;
    q->extensions_len -= more;
    return ret;
}

int qcow2_write_header(struct qcow2 *q)
{
    AUTO_FREE uint8_t *buf = calloc(1, q->cluster_size), *now = malloc(q->cluster_size);
    struct layout l = {.buf = buf, .now = now, .size = q->cluster_size};
    struct qcow2_header h;
    int ret = plan(q, &l, &h);
    if (ret < 0 || (ret = write_behind_first(q, &l, l.tail, l.end)) < 0 || (ret = write_behind_first(q, &l, h.backing_offset, h.backing_offset + h.backing_len)) < 0 ||
        (ret = file_sync(q->file)) < 0 || (ret = file_write(q->file, 0, buf, BLOCK_SECTOR)) < 0)
        return ret;
    q->h.backing_offset = h.backing_offset;
    q->h.backing_len = h.backing_len;
    return file_sync(q->file);
}
