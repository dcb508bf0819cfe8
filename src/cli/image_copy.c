// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `lodge image` convert, commit, rebase and compare: all walk over disks in chunks, several at a time in fibers.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cli/image.h"

#define CHUNK (2 * MIB)    /* that a fiber takes at a time; a multiple of every cluster size */
#define GRAIN (4 * KIB)    /* zeroes of fewer bytes are written */

struct walk {
    struct io_loop *loop;
    struct image *from, *to;
    uint64_t size, next, limit; /* limit: what `from` has behind it is not copied */
    uint64_t skip;             /* skip: `from` begins that much further on */
    bool reading;              /* it was `from` that failed */
    int (*chunk)(struct walk *w, uint64_t offset, uint64_t len, uint8_t *buf);
    int ret;
    bool compress, progress, differs;
    uint64_t differs_at, rate, started;
    int shown;
    struct fiber_lock writing; /* compressed clusters */
};

/* ---- walking ---- */

static void show(struct walk *w, bool end)
{
    int tenths = w->size ? (int)(1000.0 * (double)MIN(w->next, w->size) / (double)w->size) : 1000;
    if (!w->progress || (tenths == w->shown && !end))
        return;
    w->shown = tenths;
    printf("    (%.2f/100%%)\r%s", tenths / 10.0, end ? "\n" : "");
    fflush(stdout);
}

/* Sleeps as long as the walk is ahead of its rate: the tool has nothing else to do. */
static void keep_rate(const struct walk *w)
{
    if (!w->rate)
        return;
    uint64_t due = w->started + (uint64_t)((double)w->next / (double)w->rate * (double)NS_PER_S), now = now_ns();
    if (due > now)
        usleep((useconds_t)MIN((due - now) / 1000, 1000000ull));
}

static void worker(void *arg)
{
    struct walk *w = arg;
    uint8_t *buf = malloc(CHUNK);
    if (!buf)
        w->ret = -ENOMEM;
    while (w->ret == 0 && w->next < w->size) {
        uint64_t at = w->next;
        w->next += CHUNK;
        keep_rate(w);
        show(w, false);
        int ret = w->chunk(w, at, MIN(CHUNK, w->size - at), buf);
        if (ret < 0)
            w->ret = ret;
    }
    free(buf);
}

static int walk(struct walk *w, unsigned jobs)
{
    w->started = now_ns();
    w->shown = -1;
    for (unsigned i = 0; i < jobs && w->ret == 0; i++)
        w->ret = io_loop_spawn(w->loop, worker, w);
    io_loop_drain(w->loop);
    if (w->ret == 0)
        show(w, true);
    else if (w->shown >= 0)
        putchar('\n'); /* the error has a line of its own */
    return w->ret;
}

/* What fails while this is read is not the new image's fault. */
static int note_reading(struct walk *w, int ret)
{
    w->reading |= ret < 0;
    return ret;
}

static int read_into(struct image *im, uint64_t offset, uint64_t len, uint8_t *buf)
{
    struct iovec iov = {buf, len};
    uint64_t have = offset >= im->size ? 0 : MIN(len, im->size - offset);
    memset(buf + have, 0, len - have);
    iov.iov_len = have;
    return have ? image_read(im, offset, have, &iov, 1) : 0;
}

static int write_from(struct image *im, uint64_t offset, uint64_t len, uint8_t *buf)
{
    struct iovec iov = {buf, len};
    return image_write(im, offset, len, &iov, 1);
}

/* ---- convert ---- */

/* A new image is zero everywhere, unless it is a device, encrypted as a whole, or has a backing file. */
static int leave_zero(struct image *to, uint64_t offset, uint64_t len)
{
    return image_is_blank(to) ? 0 : image_zero(to, offset, len, true);
}

static int write_sparse(struct image *to, uint64_t offset, uint64_t len, uint8_t *buf)
{
    for (uint64_t at = 0, n; at < len; at += n) {
        bool zero = bytes_are_zero(buf + at, MIN(GRAIN, len - at));
        for (n = MIN(GRAIN, len - at); at + n < len && bytes_are_zero(buf + at + n, MIN(GRAIN, len - at - n)) == zero;)
            n += MIN(GRAIN, len - at - n);
        int ret = !zero ? write_from(to, offset + at, n, buf + at) : leave_zero(to, offset + at, n);
        if (ret < 0)
            return ret;
    }
    return 0;
}

struct packing {
    const struct qcow2 *q;
    const uint8_t *in;
    uint8_t *out;
};

static ssize_t pack(void *arg)
{
    struct packing *p = arg;
    return (ssize_t)qcow2_pack(p->q, p->in, p->out);
}

/* Compresses the chunk, then writes its clusters without another chunk's between them: they lie closer together, in fewer clusters of the file. */
static int write_compressed(struct walk *w, uint64_t offset, uint64_t len, uint8_t *buf)
{
    const struct qcow2 *q = qcow2_of(w->to);
    uint64_t size = q->cluster_size, n = (len + size - 1) / size;
    AUTO_FREE uint8_t *packed = malloc(n * size);
    AUTO_FREE size_t *bytes = calloc(n, sizeof *bytes);
    int ret = packed && bytes ? 0 : -ENOMEM;
    memset(buf + len, 0, n * size - len); /* behind the disk's end; a chunk is whole clusters */
    for (uint64_t i = 0; ret == 0 && i < n; i++) {
        struct packing p = {q, buf + i * size, packed + i * size};
        if (!bytes_are_zero(p.in, size))
            bytes[i] = (size_t)io_call(w->loop, pack, &p);
    }
    fiber_lock(&w->writing);
    for (uint64_t i = 0; ret == 0 && i < n; i++)
        if (!bytes[i] && bytes_are_zero(buf + i * size, size))
            ret = leave_zero(w->to, offset + i * size, MIN(size, len - i * size));
        else
            ret = qcow2_write_packed(w->to, offset + i * size, buf + i * size, packed + i * size, bytes[i]);
    fiber_unlock(w->loop, &w->writing);
    return ret;
}

/* Does the range read as zeroes, as far as tables and holes tell? */
static int reads_as_zero(struct image *im, uint64_t offset, uint64_t len, bool *zero)
{
    *zero = true;
    for (uint64_t at = 0, n; at < len && *zero; at += n) {
        n = len - at;
        int ret = image_is_zero(im, offset + at, &n, zero);
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* Lets the kernel copy what lies in a file as it is; the rest goes through `buf`. */
static int offload_chunk(struct walk *w, uint64_t offset, uint64_t len, uint8_t *buf)
{
    for (uint64_t at = 0, n; at < len; at += n) {
        bool zero, copied;
        n = len - at;
        int ret = note_reading(w, image_is_zero(w->from, w->skip + offset + at, &n, &zero));
        if (ret == 0 && zero) {
            ret = leave_zero(w->to, offset + at, n);
        } else if (ret == 0 && (ret = image_copy(w->to, offset + at, w->from, w->skip + offset + at, &n, &copied)) == 0 && !copied) {
            ret = note_reading(w, read_into(w->from, w->skip + offset + at, n, buf));
            ret = ret < 0 ? ret : write_sparse(w->to, offset + at, n, buf);
        }
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int convert_chunk(struct walk *w, uint64_t offset, uint64_t len, uint8_t *buf)
{
    bool zero;
    int ret = note_reading(w, reads_as_zero(w->from, w->skip + offset, len, &zero));
    if (ret < 0)
        return ret;
    if (zero)
        return leave_zero(w->to, offset, len);
    ret = note_reading(w, read_into(w->from, w->skip + offset, len, buf));
    if (ret < 0)
        return ret;
    if (offset + len > w->limit)
        memset(buf + (w->limit - offset), 0, offset + len - w->limit);
    return w->compress ? write_compressed(w, offset, len, buf) : write_sparse(w->to, offset, len, buf);
}

/* The new image gets the bitmaps of the old one, those that can be trusted. What recorded does so again when all is copied. */
static int copy_bitmaps(struct image *from, struct image *to, struct error *err)
{
    if (image_need_qcow2(from, "bitmaps", err) < 0 || image_need_qcow2(to, "bitmaps", err) < 0)
        return -1;
    const struct qcow2 *q = qcow2_of(from);
    for (unsigned i = 0; i < q->nbitmaps; i++) {
        const struct qcow2_bitmap *b = &q->bitmaps[i];
        if (b->foreign)
            return error_set(err, 0, "image '%s': bitmap '%s' is not valid; remove it, or leave --bitmaps out", from->file->path, b->name);
        if (qcow2_bitmap_add(to, b->name, b->granularity, false, err) < 0 || qcow2_bitmap_merge(to, b->name, from, b->name, err) < 0)
            return -1;
    }
    return 0;
}

static int copy_failed(const struct walk *w, const char *from, const char *path, int ret, struct error *err)
{
    const char *remedy = w->reading ? "try 'lodge image check' on the old one" : ret == -ENOSPC ? "free space for it" : "check the disk that is to hold it";
    return error_set(err, -ret, "image '%s': cannot be copied to '%s': %s; the new one is not complete: remove it, and %s", from, path, strerror(-ret), remedy);
}

/* Makes `path` and copies that many bytes of `from` into it. Closes `from`. */
static int copy_to_new(const struct image_args *a, struct image *from, uint64_t skip, uint64_t bytes, const char *path, struct error *err)
{
    uint64_t size = ALIGN_UP(bytes, (uint64_t)BLOCK_SECTOR);
    struct image *to = NULL;
    struct image_args out = *a;
    out.secret_file = a->new_secret_file ? a->new_secret_file : a->secret_file;
    out.data_follow = !a->sync;
    int ret = image_make(&out, path, a->out_format, size, true, err);
    if (ret == 0)
        ret = image_args_open(&out, path, a->out_format, false, &to, err);
    if (ret == 0 && to->size < size) /* a device */
        ret = error_set(err, 0, "image '%s': has %" PRIu64 " bytes, and the disk to copy has %" PRIu64 "; give a larger one", path, to->size, size);
    if (ret == 0 && a->compress && qcow2_of(to)->h.crypt)
        ret = error_set(err, 0, "image '%s': what is compressed is not encrypted in qcow2; leave -c or encrypt.format out", path);
    if (ret == 0 && a->bitmaps)
        ret = copy_bitmaps(from, to, err);
    if (ret < 0) {
        image_close(to);
        image_close(from);
        return -1;
    }
    struct file *data = to->driver == &qcow2_driver ? qcow2_of(to)->data : to->file;
    to->file->no_sync = data->no_sync = !a->sync; /* until it is complete it is of no use anyway */
    data->copy_unshared = a->offload;
    struct walk w = {.loop = a->loop, .from = from, .to = to, .size = size, .limit = bytes, .skip = skip, .chunk = a->offload && !a->compress && bytes == size ? offload_chunk : convert_chunk, .compress = a->compress, .progress = a->progress, .rate = a->rate};
    ret = walk(&w, a->jobs);
    if (ret == 0)
        ret = image_flush(to);
    for (unsigned i = 0; ret == 0 && a->bitmaps && i < qcow2_of(from)->nbitmaps; i++)
        if (qcow2_of(from)->bitmaps[i].flags & QCOW2_BITMAP_AUTO)
            ret = qcow2_bitmap_enable(to, qcow2_of(from)->bitmaps[i].name, true, err);
    to->given_up = true;
    int closed = image_close(to);
    ret = ret < 0 ? ret : closed;
    image_close(from);
    return ret < 0 ? copy_failed(&w, a->argv[0], path, ret, err) : 0;
}

int image_convert(struct image_args *a, struct error *err)
{
    struct image *from;
    if (!a->out_format)
        return error_set(err, 0, "image '%s': no format; add -O FORMAT, for instance -O qcow2", a->argv[1]);
    if (a->compress && strcmp(a->out_format, "qcow2") != 0)
        return error_set(err, 0, "image '%s': format %s has no compression; leave -c out, or use -O qcow2", a->argv[1], a->out_format);
    if (a->offload && a->compress)
        return error_set(err, 0, "image '%s': what is copied in the kernel cannot be compressed; leave -c or -C out", a->argv[1]);
    if (image_args_open(a, a->argv[0], a->format, true, &from, err) < 0)
        return -1;
    return copy_to_new(a, from, 0, from->size, a->argv[1], err);
}

/* ---- dd ---- */

struct dd {
    const char *in, *out;
    uint64_t block, count, skip;
};

static int dd_operand(struct dd *d, const char *word, struct error *err)
{
    if (strncmp(word, "if=", 3) == 0)
        d->in = word + 3;
    else if (strncmp(word, "of=", 3) == 0)
        d->out = word + 3;
    else if (strncmp(word, "bs=", 3) == 0)
        return parse_size(word + 3, &d->block, err);
    else if (strncmp(word, "count=", 6) == 0)
        return parse_size(word + 6, &d->count, err);
    else if (strncmp(word, "skip=", 5) == 0)
        return parse_size(word + 5, &d->skip, err);
    else
        return error_set(err, 0, "operand '%s': is not known; there are if=, of=, bs=, count=, skip=", word);
    return 0;
}

int image_dd(struct image_args *a, struct error *err)
{
    struct dd d = {.block = BLOCK_SECTOR, .count = UINT64_MAX};
    struct image *from;
    for (int i = 0; i < a->argc; i++)
        if (dd_operand(&d, a->argv[i], err) < 0)
            return -1;
    if (!d.in || !d.out || !d.block)
        return error_set(err, 0, "image verb 'dd': wants if=FILE, of=FILE, and a bs= above 0");
    a->out_format = a->out_format ? a->out_format : "raw";
    a->argv[0] = (char *)(uintptr_t)d.in;
    if (image_args_open(a, d.in, a->format, true, &from, err) < 0)
        return -1;
    uint64_t skip = d.skip > from->size / d.block ? from->size : d.skip * d.block, left = from->size - skip;
    uint64_t size = d.count > left / d.block ? left : d.count * d.block;
    if (skip % BLOCK_SECTOR || !size) {
        image_close(from);
        return error_set(err, 0, "image '%s': has nothing to copy there, or not at a multiple of 512 bytes; give another skip", d.in);
    }
    return copy_to_new(a, from, skip, size, d.out, err);
}

/* ---- commit ---- */

static int commit_chunk(struct walk *w, uint64_t offset, uint64_t len, uint8_t *buf)
{
    for (uint64_t at = 0, n; at < len; at += n) {
        struct extent e;
        bool copied = false;
        int ret = image_extent(w->from, offset + at, len - at, &e);
        if (ret < 0)
            return ret;
        n = e.len;
        if (e.kind == EXTENT_NONE)
            continue;
        if (e.kind == EXTENT_ZERO || e.zero)
            ret = image_zero(w->to, offset + at, n, true);
        else if ((ret = image_copy(w->to, offset + at, w->from, offset + at, &n, &copied)) == 0 && !copied &&
                 (ret = read_into(w->from, offset + at, n, buf)) == 0)
            ret = write_from(w->to, offset + at, n, buf);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int grow_to(struct image *im, uint64_t size, struct error *err)
{
    return im->size >= size ? 0 : image_resize_to(im, size, false, err);
}

/* The data are in the backing image, which is flushed: the overlay's own are not needed any more. */
static int empty(struct image *im)
{
    int ret = 0;
    for (uint64_t at = 0; ret == 0 && at < im->size; at += GIB)
        ret = qcow2_forget(im, at, MIN(GIB, im->size - at));
    return ret < 0 ? ret : image_flush(im);
}

int image_commit(struct image_args *a, struct error *err)
{
    struct image *im, *to = NULL;
    if (image_args_open(a, a->argv[0], a->format, false, &im, err) < 0)
        return -1;
    int ret = im->backing ? 0 : error_set(err, 0, "image '%s': has no backing file to commit to; use 'lodge image convert' for a copy", a->argv[0]);
    AUTO_FREE char *path = ret == 0 ? strdup(im->backing->file->path) : NULL;
    AUTO_FREE char *format = ret == 0 ? strdup(im->backing_format) : NULL;
    if (ret == 0) { /* from now on it is written to: our own lock for reading has to go */
        image_close(im->backing);
        im->backing = NULL;
        ret = image_args_open(a, path, format, false, &to, err);
    }
    if (ret == 0)
        ret = grow_to(to, im->size, err);
    if (ret == 0) {
        struct walk w = {.loop = a->loop, .from = im, .to = to, .size = im->size, .chunk = commit_chunk, .progress = a->progress};
        ret = walk(&w, a->jobs);
        if (ret == 0)
            ret = image_flush(to);
        if (ret == 0)
            ret = empty(im);
        if (ret < 0)
            ret = error_set(err, -ret, "image '%s': cannot be committed to '%s': %s; nothing of it is lost: mend the cause and try again", a->argv[0], path, strerror(-ret));
    }
    ret = image_end(to, ret, err);
    ret = image_end(im, ret, err);
    if (ret == 0 && !a->quiet)
        puts("Image committed.");
    return ret;
}

/* ---- rebase ---- */

struct rebase {
    struct walk w;
    struct image *old, *new; /* NULL: none */
};

static int read_or_zero(struct image *im, uint64_t offset, uint64_t len, uint8_t *buf)
{
    if (im)
        return read_into(im, offset, len, buf);
    memset(buf, 0, len);
    return 0;
}

/* Where the overlay has nothing itself and the two backing images differ, it gets the old one's content. */
static int rebase_chunk(struct walk *w, uint64_t offset, uint64_t len, uint8_t *buf)
{
    struct rebase *r = container_of(w, struct rebase, w);
    AUTO_FREE uint8_t *other = malloc(CHUNK);
    if (!other)
        return -ENOMEM;
    for (uint64_t at = 0, n; at < len; at += n) {
        struct extent e;
        int ret = image_extent(w->to, offset + at, len - at, &e);
        if (ret < 0)
            return ret;
        n = e.len;
        if (e.kind != EXTENT_NONE)
            continue;
        if ((ret = read_or_zero(r->old, offset + at, n, buf)) < 0 || (ret = read_or_zero(r->new, offset + at, n, other)) < 0)
            return ret;
        if (memcmp(buf, other, n) != 0 && (ret = write_from(w->to, offset + at, n, buf)) < 0)
            return ret;
    }
    return 0;
}

static int rebase_data(struct image_args *a, struct image *im, const char *path, struct error *err)
{
    struct rebase r = {.w = {.loop = a->loop, .to = im, .size = im->size, .chunk = rebase_chunk, .progress = a->progress}, .old = im->backing};
    if (path && image_args_open(a, path, a->backing_format, true, &r.new, err) < 0)
        return -1;
    int ret = walk(&r.w, 1);
    if (ret == 0)
        ret = image_flush(im);
    image_close(r.new);
    return ret < 0 ? error_set(err, -ret, "image '%s': cannot take over its old backing file's data: %s; it has not changed its backing file", a->argv[0], strerror(-ret)) : 0;
}

int image_rebase(struct image_args *a, struct error *err)
{
    struct image *im;
    const char *backing = a->backing && *a->backing ? a->backing : NULL;
    if (!a->backing)
        return error_set(err, 0, "image '%s': no new backing file; add -b FILE -F FORMAT, or -b '' for none", a->argv[0]);
    if (backing && !a->backing_format)
        return error_set(err, 0, "backing file '%s': no format, and it is never guessed; add -F raw or -F qcow2", backing);
    if (!a->format)
        return error_set(err, 0, "image '%s': no format, and it is never guessed; add -f qcow2", a->argv[0]);
    if (backing && image_check_backing(a->argv[0], backing, a->backing_format, err) < 0)
        return -1;
    struct image_options o = {.path = a->argv[0], .format = a->format, .no_backing = a->unsafe, .what = "image"};
    if (image_open(a->loop, &o, &im, err) < 0)
        return -1;
    AUTO_FREE char *path = backing ? image_backing_path(a->argv[0], backing) : NULL;
    int ret = im->driver == &qcow2_driver ? 0 : error_set(err, 0, "image '%s': format %s has no backing file; convert it to qcow2", a->argv[0], im->driver->name);
    if (ret == 0 && !a->unsafe)
        ret = rebase_data(a, im, path, err);
    if (ret == 0)
        ret = qcow2_set_backing(im, backing, backing ? a->backing_format : NULL, err);
    return image_end(im, ret, err);
}

/* ---- compare ---- */

static int compare_chunk(struct walk *w, uint64_t offset, uint64_t len, uint8_t *buf)
{
    bool zero = false;
    int ret = reads_as_zero(w->from, offset, len, &zero);
    if (ret == 0 && zero)
        ret = reads_as_zero(w->to, offset, len, &zero);
    if (ret < 0 || zero)
        return ret;
    AUTO_FREE uint8_t *other = malloc(CHUNK);
    ret = other ? read_into(w->from, offset, len, buf) : -ENOMEM;
    if (ret == 0)
        ret = read_into(w->to, offset, len, other);
    if (ret < 0 || memcmp(buf, other, len) == 0)
        return ret;
    uint64_t at = 0;
    while (buf[at] == other[at])
        at++;
    w->differs_at = w->differs ? MIN(w->differs_at, offset + at) : offset + at;
    w->differs = true;
    w->next = w->size; /* the others end */
    return 0;
}

int image_compare(struct image_args *a, struct error *err)
{
    struct image *x, *y;
    const char *format = a->backing_format ? a->backing_format : a->format;
    if (image_args_open(a, a->argv[0], a->format, true, &x, err) < 0)
        return IMAGE_COMPARE_FAILED;
    if (image_args_open(a, a->argv[1], format, true, &y, err) < 0) {
        image_close(x);
        return IMAGE_COMPARE_FAILED;
    }
    struct walk w = {.loop = a->loop, .from = x, .to = y, .size = MAX(x->size, y->size), .chunk = compare_chunk, .progress = a->progress};
    int ret = walk(&w, a->jobs);
    if (ret == 0 && !a->quiet && x->size != y->size)
        puts("Warning: the disks differ in size; what is missing counts as zeroes.");
    if (ret == 0 && !a->quiet)
        w.differs ? printf("Content mismatch at offset %" PRIu64 "!\n", w.differs_at) : puts("Images are identical.");
    image_close(y);
    image_close(x);
    if (ret < 0) {
        error_set(err, -ret, "images '%s' and '%s': cannot be compared: %s; try 'lodge image check'", a->argv[0], a->argv[1], strerror(-ret));
        return IMAGE_COMPARE_FAILED;
    }
    return w.differs;
}
