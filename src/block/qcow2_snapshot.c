// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Internal snapshots, resizing, another backing file: all are commits. Creating a snapshot gives it the tables that stand; the commit then makes copies of
 * the L2 tables for the active disk, since their flags change.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "block/qcow2.h"

static int failed(struct image *im, const char *what, int ret, struct error *err)
{
    const char *remedy = ret == -ENOSPC    ? "free space on the disk that holds it"
                         : ret == -EMLINK  ? "its refcounts are too narrow: convert it to one with refcount_bits=64"
                         : ret == -EIO     ? "its tables contradict each other: try 'lodge image check -r all'"
                                           : "check the disk that holds it";
    return error_set(err, -ret, "image '%s': cannot %s: %s; %s", im->file->path, what, strerror(-ret), remedy);
}

/* By id or by name. */
static struct qcow2_snapshot *find(struct qcow2 *q, const char *name)
{
    for (uint32_t i = 0; i < q->h.nsnapshots; i++)
        if (strcmp(q->snapshots[i].name, name) == 0)
            return &q->snapshots[i];
    for (uint32_t i = 0; i < q->h.nsnapshots; i++)
        if (strcmp(q->snapshots[i].id, name) == 0)
            return &q->snapshots[i];
    return NULL;
}

static int absent(struct image *im, const char *name, struct error *err)
{
    return error_set(err, ENOENT, "image '%s': has no snapshot '%s'; 'lodge image snapshot -l' lists them", im->file->path, name);
}

/* ---- create ---- */

static bool describe(struct qcow2 *q, struct qcow2_snapshot *s, const char *name)
{
    unsigned long last = 0;
    char id[24];
    struct timespec now;
    for (uint32_t i = 0; i < q->h.nsnapshots; i++)
        last = MAX(last, strtoul(q->snapshots[i].id, NULL, 10));
    snprintf(id, sizeof id, "%lu", last + 1);
    clock_gettime(CLOCK_REALTIME, &now);
    *s = (struct qcow2_snapshot){.l1_size = q->h.l1_size,
                                 .id = strdup(id),
                                 .name = strdup(name),
                                 .date_sec = (uint32_t)now.tv_sec,
                                 .date_ns = (uint32_t)now.tv_nsec,
                                 .disk_size = q->h.size,
                                 .icount = UINT64_MAX,
                                 .stored_extra = 24};
    return s->id && s->name;
}

static int create(struct qcow2 *q, struct qcow2_commit *c, struct qcow2_snapshot *s)
{
    int ret = qcow2_commit_count(q, c, c->l1, q->h.l1_size, 1, NULL);
    if (ret == 0)
        ret = qcow2_commit_alloc(q, c, qcow2_clusters(q, MAX(s->l1_size, 1u) * 8ull), &s->l1_offset);
    if (ret == 0)
        ret = qcow2_write_l1(q, s->l1_offset, s->l1_size, c->l1);
    return ret < 0 ? ret : qcow2_commit_switch(q, c);
}

int qcow2_snapshot_create(struct image *im, const char *name, struct error *err)
{
    struct qcow2 *q = im->state;
    struct qcow2_commit c;
    if (!*name || strlen(name) > 255)
        return error_set(err, 0, "image '%s': '%s' is no name for a snapshot; use 1 to 255 characters", im->file->path, name);
    if (find(q, name))
        return error_set(err, EEXIST, "image '%s': has a snapshot '%s' already; use another name or delete that one", im->file->path, name);
    if (q->data != q->file)
        return error_set(err, 0, "image '%s': keeps its data in another file, so it cannot have snapshots; use an overlay", im->file->path);
    if (q->h.nsnapshots >= QCOW2_MAX_SNAPSHOTS)
        return error_set(err, 0, "image '%s': has %u snapshots; delete some", im->file->path, q->h.nsnapshots);
    struct qcow2_snapshot *all = malloc((q->h.nsnapshots + 1) * sizeof *all), *s = all ? &all[q->h.nsnapshots] : NULL;
    if (!s || !describe(q, s, name)) {
        free(all);
        return failed(im, "make a snapshot", -ENOMEM, err);
    }
    if (q->h.nsnapshots)
        memcpy(all, q->snapshots, q->h.nsnapshots * sizeof *all);
    int ret = qcow2_commit_begin(q, &c);
    c.snapshots = all;
    c.h.nsnapshots++;
    if (ret == 0)
        ret = create(q, &c, s);
    qcow2_commit_end(q, &c);
    if (ret < 0) {
        free(s->id);
        free(s->name);
        free(all);
        return failed(im, "make a snapshot", ret, err);
    }
    free(q->snapshots);
    q->snapshots = all;
    return 0;
}

/* ---- apply and delete ---- */

int qcow2_snapshot_apply(struct image *im, const char *name, struct error *err)
{
    struct qcow2 *q = im->state;
    struct qcow2_commit c;
    const struct qcow2_snapshot *s = find(q, name);
    uint64_t *l1 = NULL;
    if (!s)
        return absent(im, name, err);
    if (s->disk_size % BLOCK_SECTOR || s->l1_size < qcow2_l1_entries(q, s->disk_size))
        return failed(im, "apply a snapshot", -EIO, err);
    uint64_t old = q->h.size;
    int ret = s->disk_size != old ? qcow2_bitmaps_before_resize(q) : 0;
    if (ret == 0) /* who asks a bitmap wants to know what to read again: all */
        ret = qcow2_bitmaps_touch(q, 0, old);
    if (ret < 0)
        return failed(im, "apply a snapshot", ret, err);
    ret = qcow2_commit_begin(q, &c);
    if (ret == 0)
        ret = qcow2_read_l1(q, s->l1_offset, s->l1_size, &l1);
    if (ret == 0)
        ret = qcow2_commit_count(q, &c, c.l1, q->h.l1_size, -1, NULL);
    if (ret == 0)
        ret = qcow2_commit_count(q, &c, l1, s->l1_size, 1, NULL);
    if (ret == 0) {
        free(c.l1);
        c.l1 = steal_ptr(&l1);
        c.h.l1_size = s->l1_size;
        c.h.size = s->disk_size;
        ret = qcow2_commit_switch(q, &c);
    }
    free(l1);
    qcow2_commit_end(q, &c);
    if (ret == 0 && q->h.size != old)
        ret = qcow2_bitmaps_after_resize(q, old);
    return ret < 0 ? failed(im, "apply a snapshot", ret, err) : 0;
}

int qcow2_snapshot_delete(struct image *im, const char *name, struct error *err)
{
    struct qcow2 *q = im->state;
    struct qcow2_commit c;
    struct qcow2_snapshot *s = find(q, name), *all = malloc(MAX(q->h.nsnapshots, 1u) * sizeof *all);
    uint64_t *l1 = NULL;
    if (!s) {
        free(all);
        return absent(im, name, err);
    }
    uint32_t at = (uint32_t)(s - q->snapshots);
    int ret = qcow2_commit_begin(q, &c);
    if (ret == 0 && !all)
        ret = -ENOMEM;
    if (ret == 0)
        ret = qcow2_read_l1(q, s->l1_offset, s->l1_size, &l1);
    if (ret == 0)
        ret = qcow2_commit_count(q, &c, l1, s->l1_size, -1, NULL);
    if (ret == 0)
        ret = qcow2_commit_ref(q, &c, s->l1_offset, s->l1_size * 8ull, -1);
    if (ret == 0) {
        memcpy(all, q->snapshots, at * sizeof *all);
        memcpy(all + at, s + 1, (q->h.nsnapshots - at - 1) * sizeof *all);
        c.snapshots = all;
        c.h.nsnapshots--;
        ret = qcow2_commit_switch(q, &c);
    }
    free(l1);
    qcow2_commit_end(q, &c);
    if (ret < 0) {
        free(all);
        return failed(im, "delete a snapshot", ret, err);
    }
    free(s->id);
    free(s->name);
    free(s->extra);
    free(q->snapshots);
    q->snapshots = all;
    return 0;
}

/* ---- size and backing file ---- */

/* The part of the cluster behind `from` that lies before `end` reads as zeroes. */
static int zero_tail(struct image *im, uint64_t from, uint64_t end)
{
    uint64_t to = MIN(ALIGN_UP(from, (uint64_t)qcow2_of(im)->cluster_size), end);
    int ret = to > from ? image_zero(im, from, to - from, false) : 0;
    return ret < 0 ? ret : image_flush(im);
}

/* What lies behind a new, smaller end goes. */
static int cut(struct qcow2 *q, uint64_t size)
{
    uint64_t from = ALIGN_UP(size, (uint64_t)q->cluster_size), to = ALIGN_UP(q->h.size, (uint64_t)q->cluster_size);
    int ret = zero_tail(q->im, size, q->h.size);
    fiber_lock(&q->meta);
    for (uint64_t at = from; ret == 0 && at < to;) {
        struct qcow2_run r;
        ret = qcow2_lookup(q, at, to - at, &r);
        uint64_t part = ret == 0 ? MIN(ALIGN_UP(r.len, (uint64_t)q->cluster_size), to - at) : 0;
        if (ret == 0 && (r.kind != QCOW2_NONE || r.has_host))
            ret = qcow2_unlink(q, at, part, QCOW2_TO_NONE);
        if (ret == 0 && q->nfreed > 4096)
            ret = qcow2_write_back(q);
        at += part;
    }
    fiber_unlock(q->im->loop, &q->meta);
    return ret;
}

/* The L2 tables behind the end of a smaller disk. */
static int cut_tables(struct qcow2 *q, struct qcow2_commit *c, uint32_t entries)
{
    for (uint32_t i = entries; i < q->h.l1_size; i++) {
        int ret = c->l1[i] & QCOW2_OFFSET ? qcow2_commit_ref(q, c, c->l1[i] & QCOW2_OFFSET, q->cluster_size, -1) : 0;
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* A data file is as long as the disk; one that can be read as the disk has zeroes where that grows. */
static int fit_data_file(struct qcow2 *q, uint64_t old, uint64_t size)
{
    uint64_t length = 0;
    if (q->data == q->file || q->data->device)
        return 0;
    int ret = file_length(q->data, &length);
    if (ret == 0 && length > old && size > old && (q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA))
        ret = file_truncate(q->data, old);
    return ret < 0 ? ret : file_truncate(q->data, size);
}

int qcow2_resize(struct image *im, uint64_t size, bool shrink, struct error *err)
{
    struct qcow2 *q = im->state;
    struct qcow2_commit c;
    uint64_t entries = qcow2_l1_entries(q, size);
    if (size % BLOCK_SECTOR)
        return error_set(err, 0, "image '%s': a size of %llu bytes is no multiple of %u; round it", im->file->path, (unsigned long long)size, BLOCK_SECTOR);
    if (entries * 8 > QCOW2_MAX_L1)
        return error_set(err, EFBIG, "image '%s': clusters of %u bytes allow no disk of that size; convert it to larger clusters", im->file->path,
                         q->cluster_size);
    if (size < q->h.size && !shrink)
        return error_set(err, 0, "image '%s': is larger than that, and what lies behind the new end would be lost; say --shrink to want that", im->file->path);
    uint64_t old = q->h.size;
    int ret = qcow2_bitmaps_before_resize(q);
    if (ret == 0 && size < old)
        ret = cut(q, size);
    if (ret == 0 && size > old)
        ret = fit_data_file(q, old, size);
    if (ret < 0)
        return failed(im, "be resized", ret, err);
    ret = qcow2_commit_begin(q, &c);
    if (ret == 0 && entries < q->h.l1_size)
        ret = cut_tables(q, &c, (uint32_t)entries);
    uint64_t *l1 = ret == 0 ? realloc(c.l1, MAX(entries, 1) * 8) : NULL;
    if (l1) {
        c.l1 = l1;
        if (entries > q->h.l1_size)
            memset(l1 + q->h.l1_size, 0, (entries - q->h.l1_size) * 8);
        c.h.l1_size = (uint32_t)entries;
        c.h.size = size;
        ret = qcow2_commit_switch(q, &c);
    } else if (ret == 0) {
        ret = -ENOMEM;
    }
    qcow2_commit_end(q, &c);
    if (ret == 0)
        ret = qcow2_bitmaps_after_resize(q, old);
    if (ret == 0 && size < old)
        ret = fit_data_file(q, old, size);
    if (ret == 0 && size > old && im->backing && im->backing->size > old) /* the new part is zeroes, not what the backing file has there */
        ret = image_zero(im, old, MIN(size, im->backing->size) - old, true);
    if (ret == 0 && size > old) /* what another program may have left behind the old end */
        ret = zero_tail(im, old, size);
    return ret < 0 ? failed(im, "be resized", ret, err) : 0;
}

int qcow2_set_backing(struct image *im, const char *name, const char *format, struct error *err)
{
    struct qcow2 *q = im->state;
    char *old_name = im->backing_name, *old_format = im->backing_format;
    im->backing_name = name ? strdup(name) : NULL;
    im->backing_format = format ? strdup(format) : NULL;
    int ret = (name && !im->backing_name) || (format && !im->backing_format) ? -ENOMEM : qcow2_write_header(q);
    if (ret < 0) {
        free(im->backing_name);
        free(im->backing_format);
        im->backing_name = old_name;
        im->backing_format = old_format;
        return ret == -ENOSPC ? error_set(err, ENOSPC, "image '%s': its header has no room for the backing file's name beside the old one; use a shorter name, or convert it to larger clusters", im->file->path)
                              : failed(im, "change its backing file", ret, err);
    }
    free(old_name);
    free(old_format);
    return 0;
}
