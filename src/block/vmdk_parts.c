// SPDX-License-Identifier: GPL-2.0-or-later
/* VMDK disks of several files: each request goes to the parts that it touches. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "block/vmdk.h"

void vmdk_parts_close(struct vmdk *v)
{
    for (unsigned i = 0; i < v->nparts; i++) {
        file_close(v->parts[i].file);
        image_close(v->parts[i].sparse);
    }
    free(v->parts);
}

static const struct vmdk_part *part_at(const struct vmdk *v, uint64_t offset)
{
    unsigned low = 0, high = v->nparts; /* parts have no gaps between them */
    while (high - low > 1) {
        unsigned middle = low + (high - low) / 2;
        if (v->parts[middle].start <= offset)
            low = middle;
        else
            high = middle;
    }
    return &v->parts[low];
}

/* What a sparse part has not is the parent's, from the disk's own offset on. */
static int read_sparse(struct image *im, const struct vmdk_part *p, uint64_t offset, uint64_t len, const struct iovec *iov,
                       int niov)
{
    AUTO_FREE struct iovec *part = malloc((size_t)niov * sizeof *part);
    if (!im->backing_name || !part)
        return part ? image_read(p->sparse, offset - p->start, len, iov, niov) : -ENOMEM;
    for (uint64_t done = 0; done < len;) {
        struct extent e;
        int ret = image_extent(p->sparse, offset + done - p->start, len - done, &e);
        if (ret < 0)
            return ret;
        int n = iov_slice(part, iov, niov, done, e.len);
        ret = e.kind == EXTENT_NONE ? image_read_backing(im, offset + done, e.len, part, n)
                                    : image_read(p->sparse, offset + done - p->start, e.len, part, n);
        if (ret < 0)
            return ret;
        done += e.len;
    }
    return 0;
}

static int transfer_part(struct image *im, const struct vmdk_part *p, bool write, uint64_t offset, uint64_t len, struct iovec *iov,
                         int niov)
{
    if (p->sparse)
        return write ? image_write(p->sparse, offset - p->start, len, iov, niov) : read_sparse(im, p, offset, len, iov, niov);
    if (!p->file && write)
        return -EIO;
    if (!p->file) {
        iov_zero(iov, niov, 0, len);
        return 0;
    }
    if (write)
        return file_writev(p->file, p->host + offset - p->start, len, iov, niov);
    ssize_t got = file_readv(p->file, p->host + offset - p->start, len, iov, niov);
    return got < 0 ? (int)got : (uint64_t)got < len ? -EIO : 0;
}

int vmdk_parts_transfer(struct image *im, bool write, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    const struct vmdk *v = im->state;
    AUTO_FREE struct iovec *slice = malloc((size_t)niov * sizeof *slice);
    int ret = slice ? 0 : -ENOMEM;
    for (uint64_t done = 0, n; ret == 0 && done < len; done += n) {
        const struct vmdk_part *p = part_at(v, offset + done);
        n = MIN(len - done, p->start + p->len - (offset + done));
        ret = transfer_part(im, p, write, offset + done, n, slice, iov_slice(slice, iov, niov, done, n));
    }
    return ret;
}

int vmdk_parts_zero(struct image *im, uint64_t offset, uint64_t len, bool may_unmap)
{
    const struct vmdk *v = im->state;
    int ret = 0;
    for (uint64_t done = 0, n; ret == 0 && done < len; done += n) {
        const struct vmdk_part *p = part_at(v, offset + done);
        uint64_t within = offset + done - p->start;
        n = MIN(len - done, p->len - within);
        if (p->sparse)
            ret = image_zero(p->sparse, within, n, may_unmap);
        else if (p->file)
            ret = file_fill(p->file, p->host + within, n);
    }
    return ret;
}

int vmdk_parts_flush(struct image *im)
{
    const struct vmdk *v = im->state;
    int ret = file_sync(im->file);
    for (unsigned i = 0; ret == 0 && i < v->nparts; i++) {
        if (v->parts[i].file)
            ret = file_sync(v->parts[i].file);
        else if (v->parts[i].sparse)
            ret = image_flush(v->parts[i].sparse);
    }
    return ret;
}

int vmdk_parts_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out)
{
    const struct vmdk_part *p = part_at(im->state, offset);
    uint64_t within = offset - p->start, have = MIN(len, p->len - within);
    if (p->sparse) {
        int ret = image_extent(p->sparse, within, have, out);
        out->has_host = false; /* a place would be one in the image's own file */
        out->host = 0;
        return ret;
    }
    bool hole = false;
    *out = (struct extent){.kind = p->file ? EXTENT_DATA : EXTENT_ZERO, .len = have, .file = p->file, .host = p->host + within};
    int ret = p->file ? file_is_hole(p->file, p->host + within, &out->len, &hole) : 0;
    out->zero = hole;
    return ret;
}
