// SPDX-License-Identifier: GPL-2.0-or-later
/* Raw images: byte n of the disk is byte n of the file or block device. Of a file that is only read and ends within a sector, the rest of that is zeroes. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/util.h"
#include "block/image.h"

static int raw_open(struct image *im, struct error *err)
{
    const char *path = im->file->path;
    im->size = im->file->size;
    if (im->readonly && !im->file->protocol)
        im->size = ALIGN_UP(im->size, (uint64_t)BLOCK_SECTOR);
    if (im->size && im->size < BLOCK_SECTOR)
        return error_set(err, 0, "disk '%s': is %llu bytes long, shorter than a sector; give an image of at least %u bytes", path,
                         (unsigned long long)im->size, BLOCK_SECTOR);
    if (im->size % BLOCK_SECTOR)
        return error_set(err, 0, "disk '%s': is %llu bytes long, not a multiple of %u; lengthen it with 'truncate -s %%%u'", path,
                         (unsigned long long)im->size, BLOCK_SECTOR, BLOCK_SECTOR);
    return 0;
}

static int raw_close(struct image *im)
{
    (void)im;
    return 0;
}

#define IOV_ON_STACK 64

/* The file functions consume the vector they are given. */
static int raw_transfer(struct image *im, bool write, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    struct iovec few[IOV_ON_STACK], *copy = niov <= IOV_ON_STACK ? few : malloc((size_t)niov * sizeof *copy);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, iov, (size_t)niov * sizeof *copy);
    ssize_t ret = write ? file_writev(im->file, offset, len, copy, niov) : file_readv(im->file, offset, len, copy, niov);
    if (copy != few)
        free(copy);
    if (write || ret < 0 || (uint64_t)ret == len)
        return ret < 0 ? (int)ret : 0;
    if (offset + len <= im->file->size || offset + (uint64_t)ret != im->file->size)
        return -EIO; /* the image was cut short behind our back */
    iov_zero(iov, niov, (uint64_t)ret, len - (uint64_t)ret);
    return 0;
}

static int raw_read(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    return raw_transfer(im, false, offset, len, iov, niov);
}

static int raw_write(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    return raw_transfer(im, true, offset, len, iov, niov);
}

static int raw_zero(struct image *im, uint64_t offset, uint64_t len, bool may_unmap)
{
    return file_zero(im->file, offset, len, may_unmap);
}

static int raw_discard(struct image *im, uint64_t offset, uint64_t len)
{
    return file_discard(im->file, offset, len);
}

static int raw_flush(struct image *im)
{
    return file_sync(im->file);
}

static int raw_copy(struct image *im, uint64_t offset, uint64_t *len, struct file *from, uint64_t host)
{
    return file_copy(im->file, offset, from, host, *len);
}

static int raw_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out)
{
    bool hole;
    int ret = file_is_hole(im->file, offset, &len, &hole);
    *out = (struct extent){.kind = hole ? EXTENT_ZERO : EXTENT_DATA, .len = len, .host = offset, .has_host = true, .file = im->file};
    return ret;
}

static int raw_resize(struct image *im, uint64_t size, bool shrink, struct error *err)
{
    (void)shrink;
    if (file_keeps_size(im->file))
        return error_set(err, 0, "image '%s': is a %s, which keeps its size; change it %s", im->file->path, im->file->device ? "block device" : "server's disk",
                         im->file->device ? "by what made it, for instance lvresize" : "there");
    int ret = file_truncate(im->file, size);
    if (ret < 0)
        return error_set(err, -ret, "image '%s': cannot be resized: %s; check the disk that holds it", im->file->path, strerror(-ret));
    im->size = size;
    return 0;
}

static int allocate(struct file *f, const char *how, uint64_t size)
{
    if (strcmp(how, "full") == 0)
        return file_fill(f, 0, size);
    return size ? -posix_fallocate(f->fd, 0, (off_t)size) : 0;
}

static int raw_create(struct io_loop *l, const struct image_new *n, struct error *err)
{
    const char *how = "off", *nocow = "off";
    struct file *f;
    for (unsigned i = 0; i < n->noptions; i++) {
        const struct image_option *o = &n->options[i];
        if (strcmp(o->name, "preallocation") != 0 && strcmp(o->name, "nocow") != 0)
            return image_bad_option(o, "preallocation or nocow", err);
        *(o->name[0] == 'p' ? &how : &nocow) = o->value;
    }
    if (strcmp(how, "off") != 0 && strcmp(how, "falloc") != 0 && strcmp(how, "full") != 0)
        return error_set(err, 0, "option 'preallocation': '%s' is none; give off, falloc or full", how);
    if (n->backing)
        return error_set(err, 0, "image '%s': raw images have no backing file; use qcow2", n->path);
    bool remote = file_is_remote(n->path); /* then it is there already */
    if ((remote ? file_open_named(l, "image", n->path, false, &f, err) : file_create(l, "image", n->path, n->replace, &f, err)) < 0)
        return -1;
    if (strcmp(nocow, "on") == 0)
        file_write_in_place(f);
    if (file_keeps_size(f) && (f->size < n->size || strcmp(how, "off") != 0)) {
        error_set(err, 0, "image '%s': has %llu bytes, which it keeps, and nothing is preallocated there; give a size up to that, without preallocation", n->path,
                  (unsigned long long)f->size);
        file_close(f);
        return -1;
    }
    int ret = file_keeps_size(f) ? 0 : file_truncate(f, n->size);
    if (ret == 0 && strcmp(how, "off") != 0)
        ret = allocate(f, how, n->size);
    file_close(f);
    return ret < 0 ? error_set(err, -ret, "image '%s': cannot be made: %s; check the disk that is to hold it", n->path, strerror(-ret)) : 0;
}

const struct image_driver raw_driver = {.name = "raw",
                                        .open = raw_open,
                                        .close = raw_close,
                                        .read = raw_read,
                                        .write = raw_write,
                                        .zero = raw_zero,
                                        .discard = raw_discard,
                                        .flush = raw_flush,
                                        .copy = raw_copy,
                                        .extent = raw_extent,
                                        .create = raw_create,
                                        .resize = raw_resize};
