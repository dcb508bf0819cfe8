// SPDX-License-Identifier: GPL-2.0-or-later
/* LUKS over a raw file: the header and its key slots in front, then the disk. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "block/blockmap.h"
#include "block/luks.h"

static int luks_image_open(struct image *im, struct error *err)
{
    struct luks *l;
    uint64_t length;
    int ret = file_length(im->file, &length);
    if (ret < 0)
        return format_io(im, ret, err);
    bool locked = im->no_backing && !im->secret_file; /* nobody reads the data */
    if ((locked ? luks_open_locked(im->file, 0, length, &l, err) : luks_open(im->file, 0, length, im->secret_file, &l, err)) < 0)
        return -1;
    if (luks_payload(l) < LUKS_SECTOR || luks_payload(l) >= length || (length - luks_payload(l)) % BLOCK_SECTOR) {
        luks_close(l);
        return format_bad(im, "its data are not where they can be, or not whole sectors", err);
    }
    im->size = length - luks_payload(l);
    im->state = l;
    return 0;
}

static int luks_image_close(struct image *im)
{
    luks_close(im->state);
    return 0;
}

static int luks_image_read(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    return luks_read(im->state, im->file, luks_payload(im->state) + offset, offset / LUKS_SECTOR, len, iov, niov);
}

static int luks_image_write(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    return luks_write(im->state, im->file, luks_payload(im->state) + offset, offset / LUKS_SECTOR, len, iov, niov);
}

/* Zeroes are encrypted like everything else. */
static int luks_image_zero(struct image *im, uint64_t offset, uint64_t len, bool may_unmap)
{
    AUTO_FREE uint8_t *zero = calloc(1, MIN(len, MIB) + 1);
    int ret = zero ? 0 : -ENOMEM;
    (void)may_unmap;
    for (uint64_t done = 0, n; ret == 0 && done < len; done += n) {
        struct iovec iov = {zero, n = MIN(len - done, MIB)};
        ret = luks_image_write(im, offset + done, n, &iov, 1);
    }
    return ret;
}

static int luks_image_discard(struct image *im, uint64_t offset, uint64_t len)
{
    (void)im;
    (void)offset;
    (void)len;
    return 0; /* a hole would read as noise */
}

static int luks_image_flush(struct image *im)
{
    return file_sync(im->file);
}

static int luks_image_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out)
{
    *out = (struct extent){.kind = EXTENT_DATA, .len = len, .host = luks_payload(im->state) + offset, .has_host = true};
    return 0;
}

static int luks_image_create(struct io_loop *loop, const struct image_new *n, struct error *err)
{
    struct luks_kind k = {0};
    struct file *f;
    for (unsigned i = 0; i < n->noptions; i++) {
        int ret = luks_set_option(&k, n->options[i].name, n->options[i].value, err);
        if (ret <= 0)
            return ret < 0 ? -1 : image_bad_option(&n->options[i], "cipher-alg, cipher-mode, ivgen-alg, hash-alg, iter-time", err);
    }
    uint64_t head = luks_header_size(&k, err);
    if (!head || n->backing)
        return head ? error_set(err, 0, "image '%s': a LUKS image has no backing file; use qcow2 with encrypt.format=luks", n->path) : -1;
    if (file_create(loop, "image", n->path, n->replace, &f, err) < 0)
        return -1;
    int ret = f->device ? 0 : file_truncate(f, head + n->size);
    ret = ret < 0 ? error_set(err, -ret, "image '%s': cannot be made: %s; check the disk that is to hold it", n->path, strerror(-ret))
                  : luks_format(f, 0, &k, n->secret_file, err);
    file_close(f);
    return ret;
}

static int luks_image_resize(struct image *im, uint64_t size, bool shrink, struct error *err)
{
    uint64_t old = im->size;
    (void)shrink;
    int ret = file_truncate(im->file, luks_payload(im->state) + size);
    im->size = ret < 0 ? old : size;
    if (ret == 0 && size > old)
        ret = luks_image_zero(im, old, size - old, false);
    return ret < 0 ? format_io(im, ret, err) : 0;
}

const struct image_driver luks_driver = {.name = "luks",
                                         .noise = true,
                                         .open = luks_image_open,
                                         .close = luks_image_close,
                                         .read = luks_image_read,
                                         .write = luks_image_write,
                                         .zero = luks_image_zero,
                                         .discard = luks_image_discard,
                                         .flush = luks_image_flush,
                                         .extent = luks_image_extent,
                                         .create = luks_image_create,
                                         .resize = luks_image_resize};
