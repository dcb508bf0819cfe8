// SPDX-License-Identifier: GPL-2.0-or-later
#include "block/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "block/image.h"
#include "block/qcow2.h"

void policy_init(struct block *b, const struct block_config *cfg)
{
    b->cache = cfg->cache;
    b->zeroes = cfg->zeroes;
    b->keep_storage = cfg->keep_storage;
    b->read_errors = cfg->read_errors;
    b->write_errors = cfg->write_errors;
    for (unsigned i = 0; i < BLOCK_RATES; i++) {
        bucket_init(&b->throttle->bytes[i], cfg->bytes[i].rate, cfg->bytes[i].burst);
        bucket_init(&b->throttle->ops[i], cfg->ops[i].rate, cfg->ops[i].burst);
        b->throttled |= cfg->bytes[i].rate || cfg->ops[i].rate;
    }
}

/* ---- rates ---- */

int policy_delay(struct block *b, const struct block_req *req)
{
    struct block_throttle *t = b->throttle;
    unsigned one = req->op == BLOCK_READ ? BLOCK_RATE_READ : BLOCK_RATE_WRITE;
    uint64_t bytes = req->op == BLOCK_READ || req->op == BLOCK_WRITE ? req->len : 0;
    if (!b->throttled || req->op == BLOCK_FLUSH)
        return 0;
    struct bucket *const all[] = {&t->bytes[BLOCK_RATE_TOTAL], &t->bytes[one], &t->ops[BLOCK_RATE_TOTAL], &t->ops[one]};
    uint64_t wait = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        wait = MAX(wait, bucket_wait(all[i]));
    if (wait)
        return (int)MIN(wait / 1000000 + 1, 1000u);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        bucket_take(all[i], i < 2 ? bytes : 1);
    return 0;
}

/* ---- errors ---- */

bool policy_stops(const struct block *b, const struct block_req *req, int ret)
{
    enum block_on_error policy = req->op == BLOCK_READ ? b->read_errors : b->write_errors;
    if (ret == -EINVAL || ret == -EROFS || ret == -ENOTSUP)
        return false; /* the guest's own mistake: it would be the same the next time */
    return policy == BLOCK_STOP || (policy == BLOCK_STOP_ENOSPC && (ret == -ENOSPC || ret == -EDQUOT));
}

/* ---- transfers ---- */

static bool is_direct(const struct block *b)
{
    return b->cache == BLOCK_CACHE_NONE || b->cache == BLOCK_CACHE_DIRECTSYNC;
}

static bool is_zero(const struct block_req *req)
{
    for (int i = 0; i < req->niov; i++)
        if (!bytes_are_zero(req->iov[i].iov_base, req->iov[i].iov_len))
            return false;
    return true;
}

/* Direct transfers need aligned buffers; a guest's may lie anywhere. */
static int bounce(struct block *b, const struct block_req *req)
{
    AUTO_FREE void *buf = file_buffer(req->len);
    struct iovec iov = {buf, req->len};
    int ret;
    if (!buf)
        return -ENOMEM;
    if (req->op == BLOCK_WRITE) {
        iov_to(req->iov, req->niov, 0, buf, req->len);
        ret = image_write(b->image, req->offset, req->len, &iov, 1);
    } else {
        ret = image_read(b->image, req->offset, req->len, &iov, 1);
        if (ret == 0)
            iov_from(req->iov, req->niov, 0, buf, req->len);
    }
    return ret;
}

static int perform(struct block *b, const struct block_req *req)
{
    struct image *im = b->image;
    bool transfer = req->op == BLOCK_READ || req->op == BLOCK_WRITE;
    if (req->op == BLOCK_WRITE && b->zeroes != BLOCK_ZEROES_WRITTEN && is_zero(req))
        return image_zero(im, req->offset, req->len, b->zeroes == BLOCK_ZEROES_UNMAPPED && !b->keep_storage);
    if (transfer && is_direct(b) && !iov_is_aligned(req->iov, req->niov))
        return bounce(b, req);
    switch (req->op) {
    case BLOCK_READ: return image_read(im, req->offset, req->len, req->iov, req->niov);
    case BLOCK_WRITE: return image_write(im, req->offset, req->len, req->iov, req->niov);
    case BLOCK_FLUSH: return b->cache == BLOCK_CACHE_UNSAFE ? 0 : image_flush(im);
    case BLOCK_DISCARD: return b->keep_storage ? 0 : image_discard(im, req->offset, req->len);
    case BLOCK_ZERO: return image_zero(im, req->offset, req->len, req->may_unmap && !b->keep_storage);
    case BLOCK_OPS: break;
    }
    return -ENOTSUP;
}

int policy_perform(struct block *b, const struct block_req *req)
{
    int ret = perform(b, req);
    bool changed = req->op == BLOCK_WRITE || req->op == BLOCK_ZERO;
    bool lasts = b->cache == BLOCK_CACHE_WRITETHROUGH || b->cache == BLOCK_CACHE_DIRECTSYNC;
    return ret == 0 && changed && lasts ? image_flush(b->image) : ret;
}

/* ---- opening ---- */

/* The file with the disk's contents; NULL for formats that mix them with their tables. */
static struct file *contents_of(struct image *im)
{
    if (im->driver == &raw_driver || im->driver == &luks_driver)
        return im->file;
    return im->driver == &qcow2_driver && qcow2_of(im)->cluster_size >= PAGE_SIZE ? qcow2_of(im)->data : NULL;
}

int policy_open(struct block *b, const char *path, struct error *err)
{
    struct file *f = contents_of(b->image);
    if (!is_direct(b))
        return 0;
    if (!f || f->protocol)
        return error_set(err, 0, "disk '%s': cache=none and directsync are for files and devices in formats raw and luks, and qcow2 with clusters of 4 KiB or more; use cache=writeback", path);
    int ret = file_set_direct(f);
    if (ret < 0)
        return error_set(err, -ret, "disk '%s': its file system has no direct transfers of %u bytes: %s; use cache=writeback", path, FILE_DIRECT_ALIGN,
                         strerror(-ret));
    for (struct image *im = b->image->backing; im; im = im->backing) /* as far as they can */
        if ((f = contents_of(im)))
            file_set_direct(f);
    return 0;
}

/* The overlay's file has lost its name when this returns, so it goes when the guest does, however that ends. */
int policy_make_overlay(struct io_loop *l, const struct block_config *cfg, struct error *err)
{
    const char *dir = getenv("TMPDIR");
    char backing[PATH_MAX], path[PATH_MAX];
    if (cfg->secret_file)
        return error_set(err, 0, "disk '%s': no snapshot of an encrypted image; leave out 'snapshot'", cfg->path);
    if (!realpath(cfg->path, backing))
        return error_set(err, errno, "disk '%s': cannot open: %s; give the path of an existing image", cfg->path, strerror(errno));
    struct image_options o = {.path = cfg->path, .format = cfg->format, .readonly = true, .what = "disk"};
    struct image *im;
    if (image_open(l, &o, &im, err) < 0)
        return -1;
    uint64_t size = im->size;
    image_close(im);
    snprintf(path, sizeof path, "%s/lodge-snapshot-XXXXXX", dir && *dir ? dir : "/var/tmp");
    AUTO_CLOSE int made = mkstemp(path);
    if (made < 0)
        return error_set(err, errno, "disk '%s': cannot make its temporary overlay '%s': %s; set TMPDIR to a folder with room", cfg->path, path,
                         strerror(errno));
    struct image_new n = {.path = path, .size = size, .replace = true, .backing = backing, .backing_format = cfg->format};
    int fd = image_create_new(l, "qcow2", &n, err) < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && !error_is_set(err))
        error_set(err, errno, "disk '%s': cannot open its temporary overlay '%s': %s; set TMPDIR to another folder", cfg->path, path, strerror(errno));
    unlink(path);
    return fd;
}
