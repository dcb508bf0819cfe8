// SPDX-License-Identifier: GPL-2.0-or-later
/* Raw images: byte n of the disk is byte n of the file or block device. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "block/image.h"

static int raw_open(struct image *im, struct error *err)
{
    const char *path = im->file->path;
    im->size = im->file->size;
    if (im->size < BLOCK_SECTOR)
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
    if (!write && ret >= 0)
        return (uint64_t)ret == len ? 0 : -EIO; /* the image was cut short behind our back */
    return (int)ret;
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

static int raw_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out)
{
    off_t data = lseek(im->file->fd, (off_t)offset, SEEK_DATA);
    *out = (struct extent){.kind = EXTENT_DATA, .len = len, .host = offset, .has_host = true};
    if (data < 0 && errno == ENXIO) {
        out->kind = EXTENT_ZERO; /* a hole up to the end */
    } else if (data >= 0 && (uint64_t)data > offset) {
        out->kind = EXTENT_ZERO;
        out->len = MIN(len, (uint64_t)data - offset);
    } else if (data >= 0) {
        off_t hole = lseek(im->file->fd, (off_t)offset, SEEK_HOLE);
        if (hole > data)
            out->len = MIN(len, (uint64_t)hole - offset);
    }
    return 0;
}

const struct image_driver raw_driver = {"raw", raw_open, raw_close, raw_read, raw_write, raw_zero, raw_discard, raw_flush, raw_extent};
