// SPDX-License-Identifier: GPL-2.0-or-later
/* The header, its extensions and the snapshot table: hostile bytes become checked numbers here, and nowhere else. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "block/qcow2.h"

#define V3_LENGTH 104u /* at least */
#define MAX_DISK  (1ull << 61)

static int bad(const struct qcow2 *q, struct error *err, const char *what)
{
    return error_set(err, 0, "image '%s': is not a sound qcow2 image: %s; try 'lodge image check -r all', or restore a copy", q->file->path, what);
}

/* ---- reading ---- */

static void parse_fields(struct qcow2_header *h, const uint8_t *p)
{
    *h = (struct qcow2_header){
        .version = be32_get(p + 4),
        .backing_offset = be64_get(p + 8),
        .backing_len = be32_get(p + 16),
        .cluster_bits = be32_get(p + 20),
        .size = be64_get(p + 24),
        .crypt = be32_get(p + 32),
        .l1_size = be32_get(p + 36),
        .l1_offset = be64_get(p + 40),
        .rct_offset = be64_get(p + 48),
        .rct_clusters = be32_get(p + 56),
        .nsnapshots = be32_get(p + 60),
        .snapshots_offset = be64_get(p + 64),
        .refcount_order = 4,
        .length = QCOW2_V2_HEADER,
    };
    if (h->version < 3)
        return;
    h->incompatible = be64_get(p + 72);
    h->compatible = be64_get(p + 80);
    h->autoclear = be64_get(p + 88);
    h->refcount_order = be32_get(p + 96);
    h->length = be32_get(p + 100);
    h->compression = h->length > V3_LENGTH ? p[104] : 0;
}

static bool table_ok(const struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    return offset % q->cluster_size == 0 && offset <= QCOW2_OFFSET && bytes <= QCOW2_OFFSET - offset;
}

static int check_features(const struct qcow2 *q, struct error *err)
{
    const struct qcow2_header *h = &q->h;
    const uint64_t known = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DATA_FILE | QCOW2_INCOMPAT_COMPRESSION | QCOW2_INCOMPAT_EXT_L2;
    if (h->incompatible & ~known)
        return error_set(err, 0, "image '%s': uses qcow2 features that are not known here (bits 0x%" PRIx64 "); convert it with the program that made it",
                         q->file->path, h->incompatible & ~known);
    if ((h->incompatible & QCOW2_INCOMPAT_CORRUPT) && !q->im->readonly && !q->im->for_repair)
        return error_set(err, 0, "image '%s': is marked as corrupt; mend it with 'lodge image check -r all', or open it read-only", q->file->path);
    if (h->crypt && h->crypt != QCOW2_CRYPT_LUKS)
        return error_set(err, 0, "image '%s': is encrypted the old, unsafe way, which is not supported; convert it with 'qemu-img convert'", q->file->path);
    if (h->crypt && (h->incompatible & QCOW2_INCOMPAT_DATA_FILE))
        return error_set(err, 0, "image '%s': is encrypted and has its data in another file, which is not supported; convert it with 'qemu-img convert'", q->file->path);
    if (h->compression > 1 || (h->compression && !(h->incompatible & QCOW2_INCOMPAT_COMPRESSION)))
        return bad(q, err, "its compression type is unknown");
    if ((h->incompatible & QCOW2_INCOMPAT_EXT_L2) && h->cluster_bits < 14)
        return bad(q, err, "it has extended L2 entries with clusters below 16 KiB");
    return 0;
}

static int check_fields(struct qcow2 *q, struct error *err)
{
    const struct qcow2_header *h = &q->h;
    if (h->version != 2 && h->version != 3)
        return error_set(err, 0, "image '%s': is qcow version %u; only 2 and 3 are supported: convert it", q->file->path, h->version);
    if (h->cluster_bits < QCOW2_MIN_CLUSTER || h->cluster_bits > QCOW2_MAX_CLUSTER)
        return bad(q, err, "its cluster size is out of range");
    q->cluster_size = 1u << h->cluster_bits;
    if (check_features(q, err) < 0)
        return -1;
    bool ext = h->incompatible & QCOW2_INCOMPAT_EXT_L2;
    q->entry_bytes = ext ? 16 : 8;
    q->granules = ext ? 32 : 1;
    q->l2_bits = h->cluster_bits - (ext ? 4 : 3);
    if (h->version >= 3 && (h->length < V3_LENGTH || h->length > q->cluster_size || h->length % 8))
        return bad(q, err, "its header length is out of range");
    if (h->refcount_order > 6)
        return bad(q, err, "its refcounts are wider than 64 bits");
    if (h->size > MAX_DISK || h->size % BLOCK_SECTOR)
        return bad(q, err, "its disk size is out of range or no multiple of 512");
    if (h->l1_size > QCOW2_MAX_L1 / 8 || !table_ok(q, h->l1_offset, h->l1_size * 8ull) || h->l1_size < qcow2_l1_entries(q, h->size))
        return bad(q, err, "its L1 table is out of range");
    if (h->rct_clusters == 0 || (uint64_t)h->rct_clusters << h->cluster_bits > QCOW2_MAX_RCT || h->rct_offset == 0 ||
        !table_ok(q, h->rct_offset, (uint64_t)h->rct_clusters << h->cluster_bits))
        return bad(q, err, "its refcount table is out of range");
    if (h->nsnapshots > QCOW2_MAX_SNAPSHOTS || !table_ok(q, h->snapshots_offset, QCOW2_MAX_SNAPSHOT_TABLE))
        return bad(q, err, "its snapshot table is out of range");
    return 0;
}

static char *text_dup(const uint8_t *p, uint32_t n)
{
    return strndup((const char *)p, n);
}

static bool keep_extension(struct qcow2 *q, const uint8_t *ext, uint32_t len)
{
    uint8_t *p = realloc(q->extensions, q->extensions_len + len);
    if (!p)
        return false;
    memcpy(p + q->extensions_len, ext, len);
    q->extensions = p;
    q->extensions_len += len;
    return true;
}

/* `buf` is the header's cluster. */
static int parse_extensions(struct qcow2 *q, const uint8_t *buf, struct error *err)
{
    const struct qcow2_header *h = &q->h;
    uint64_t at = h->length, end = h->backing_offset ? MIN(h->backing_offset, q->cluster_size) : q->cluster_size;
    while (at + 8 <= end) {
        uint32_t type = be32_get(buf + at), len = be32_get(buf + at + 4);
        uint64_t padded = ALIGN_UP((uint64_t)len, 8u);
        if (type == QCOW2_EXT_END)
            return 0;
        if (padded > end - at - 8)
            return bad(q, err, "a header extension reaches behind the header");
        const uint8_t *data = buf + at + 8;
        bool ok = true;
        if (type == (uint32_t)QCOW2_EXT_BACKING_FORMAT && !q->im->backing_format)
            ok = (q->im->backing_format = text_dup(data, len));
        else if (type == QCOW2_EXT_DATA_FILE && !q->data_name)
            ok = (q->data_name = text_dup(data, len));
        else if (type != QCOW2_EXT_FEATURES) /* written anew */
            ok = keep_extension(q, buf + at, (uint32_t)(8 + padded));
        if (!ok)
            return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", q->file->path);
        at += 8 + padded;
    }
    return 0;
}

static int parse_backing(struct qcow2 *q, const uint8_t *buf, struct error *err)
{
    const struct qcow2_header *h = &q->h;
    if (!h->backing_offset || !h->backing_len)
        return 0;
    if (h->backing_len > QCOW2_MAX_BACKING || h->backing_offset > q->cluster_size - h->backing_len || h->backing_offset < h->length)
        return bad(q, err, "its backing file's name lies outside the header");
    q->im->backing_name = text_dup(buf + h->backing_offset, h->backing_len);
    if (!q->im->backing_name)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", q->file->path);
    return 0;
}

static int read_error(const struct qcow2 *q, int ret, struct error *err)
{
    return error_set(err, -ret, "image '%s': cannot be read: %s; check the disk that holds it", q->file->path, strerror(-ret));
}

int qcow2_read_header(struct qcow2 *q, struct error *err)
{
    uint8_t first[QCOW2_V3_HEADER];
    int ret = file_read(q->file, 0, first, sizeof first);
    if (ret < 0)
        return read_error(q, ret, err);
    if (be32_get(first) != QCOW2_MAGIC)
        return error_set(err, 0, "image '%s': is no qcow2 image; give its format as it is, for instance raw", q->file->path);
    parse_fields(&q->h, first);
    if (check_fields(q, err) < 0)
        return -1;
    AUTO_FREE uint8_t *buf = malloc(q->cluster_size);
    if (!buf)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", q->file->path);
    if ((ret = file_read(q->file, 0, buf, q->cluster_size)) < 0)
        return read_error(q, ret, err);
    if (parse_extensions(q, buf, err) < 0 || parse_backing(q, buf, err) < 0)
        return -1;
    q->im->size = q->h.size;
    q->im->cluster = q->cluster_size;
    return 0;
}

struct qcow2_range qcow2_luks_range(const struct qcow2 *q)
{
    for (uint32_t at = 0; at + 8 <= q->extensions_len; at += 8 + ALIGN_UP(be32_get(q->extensions + at + 4), 8u))
        if (be32_get(q->extensions + at) == QCOW2_EXT_CRYPTO && be32_get(q->extensions + at + 4) >= 16)
            return (struct qcow2_range){be64_get(q->extensions + at + 8), be64_get(q->extensions + at + 16)};
    return (struct qcow2_range){0, 0};
}

/* ---- snapshots, spec. "Snapshots" ---- */

#define SNAPSHOT_FIXED 40u

static bool parse_extra(struct qcow2_snapshot *s, const uint8_t *p, uint32_t len, uint64_t disk_size)
{
    s->disk_size = len >= 16 ? be64_get(p + 8) : disk_size;
    if (len >= 8)
        s->vm_state_size = be64_get(p);
    s->icount = len >= 24 ? be64_get(p + 16) : UINT64_MAX;
    if (len <= 24)
        return true;
    s->extra_len = len - 24;
    s->extra = malloc(s->extra_len);
    if (s->extra)
        memcpy(s->extra, p + 24, s->extra_len);
    return s->extra;
}

static int parse_snapshot(struct qcow2 *q, struct qcow2_snapshot *s, const uint8_t *p, uint64_t have, uint64_t *used, struct error *err)
{
    if (have < SNAPSHOT_FIXED)
        return bad(q, err, "its snapshot table is cut short");
    uint32_t id_len = be16_get(p + 12), name_len = be16_get(p + 14), extra = be32_get(p + 36);
    uint64_t need = SNAPSHOT_FIXED + (uint64_t)extra + id_len + name_len;
    if (extra > 1024 || need > have)
        return bad(q, err, "its snapshot table is cut short");
    *s = (struct qcow2_snapshot){.l1_offset = be64_get(p),
                                 .l1_size = be32_get(p + 8),
                                 .date_sec = be32_get(p + 16),
                                 .date_ns = be32_get(p + 20),
                                 .vm_clock_ns = be64_get(p + 24),
                                 .vm_state_size = be32_get(p + 32)};
    s->stored_extra = extra;
    const uint8_t *text = p + SNAPSHOT_FIXED + extra;
    if (s->l1_size > QCOW2_MAX_L1 / 8 || !table_ok(q, s->l1_offset, s->l1_size * 8ull))
        return bad(q, err, "a snapshot's L1 table is out of range");
    bool ok = parse_extra(s, p + SNAPSHOT_FIXED, extra, q->h.size);
    s->id = text_dup(text, id_len);
    s->name = text_dup(text + id_len, name_len);
    *used = ALIGN_UP(need, 8u);
    if (!ok || !s->id || !s->name)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", q->file->path);
    return 0;
}

int qcow2_read_snapshots(struct qcow2 *q, struct error *err)
{
    if (!q->h.nsnapshots)
        return 0;
    uint64_t length, at = 0;
    int ret = file_length(q->file, &length);
    uint64_t have = ret < 0 || q->h.snapshots_offset >= length ? 0 : MIN(length - q->h.snapshots_offset, QCOW2_MAX_SNAPSHOT_TABLE);
    AUTO_FREE uint8_t *buf = malloc(have + 1);
    q->snapshots = calloc(q->h.nsnapshots, sizeof *q->snapshots);
    if (!buf || !q->snapshots)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", q->file->path);
    if (ret >= 0)
        ret = file_read(q->file, q->h.snapshots_offset, buf, have);
    if (ret < 0)
        return read_error(q, ret, err);
    for (uint32_t i = 0; i < q->h.nsnapshots; i++) {
        uint64_t used = 0;
        if (at > have || parse_snapshot(q, &q->snapshots[i], buf + at, have - at, &used, err) < 0)
            return error_is_set(err) || err == NULL ? -1 : bad(q, err, "its snapshot table is cut short");
        at += used;
    }
    return 0;
}

void qcow2_free_snapshots(struct qcow2_snapshot *s, unsigned n)
{
    for (unsigned i = 0; s && i < n; i++) {
        free(s[i].id);
        free(s[i].name);
        free(s[i].extra);
    }
    free(s);
}
