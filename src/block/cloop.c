// SPDX-License-Identifier: GPL-2.0-or-later
/* cloop, Knoppix's compressed disks, read-only: 128 bytes of a script, block size, number of blocks, their places, and blocks by zlib. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "block/chunks.h"

#define AT_BLOCK  128u
#define AT_PLACES 136u
#define PLACES_MAX (512 * MIB / 8)

static int add_blocks(struct image *im, struct chunks *c, uint64_t block, uint64_t n, uint64_t length)
{
    uint8_t raw[8 * 513];
    for (uint64_t first = 0; first < n; first += 512) {
        unsigned k = (unsigned)MIN(n - first, 512u);
        int ret = file_read(im->file, AT_PLACES + 8 * first, raw, 8ull * (k + 1));
        for (unsigned i = 0; ret == 0 && i < k; i++) {
            uint64_t from = be_get(raw + 8 * i, 8), to = be_get(raw + 8 * (i + 1), 8);
            if (from > to || to > length || to - from > CHUNK_MAX)
                return -EINVAL;
            ret = chunks_add(c, &(struct chunk){.start = (first + i) * block, .len = block, .host = from, .stored = to - from, .kind = CHUNK_ZLIB});
        }
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int cloop_open(struct image *im, struct error *err)
{
    uint8_t h[AT_PLACES];
    uint64_t length;
    int ret = file_read(im->file, 0, h, sizeof h);
    if (ret == 0)
        ret = file_length(im->file, &length);
    if (ret < 0)
        return format_io(im, ret, err);
    if (!im->readonly)
        return error_set(err, EROFS, "image '%s': cloop images are only read; convert it to qcow2", im->file->path);
    uint64_t block = be_get(h + AT_BLOCK, 4), n = be_get(h + AT_BLOCK + 4, 4);
    if (block == 0 || block % BLOCK_SECTOR || block > CHUNK_MAX)
        return format_bad(im, "its block size is not possible", err);
    if (n == 0 || n >= PLACES_MAX || AT_PLACES + 8 * (n + 1) > length)
        return format_bad(im, "its list of blocks is not where it can be", err);
    struct chunks *c = im->state = calloc(1, sizeof *c);
    if (!c)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    im->size = block * n;
    ret = add_blocks(im, c, block, n, length);
    if (ret == 0)
        ret = chunks_finish(c, im->size);
    if (ret == 0)
        return 0;
    chunks_close(im);
    return ret == -EINVAL ? format_bad(im, "a block is not where it can be", err) : format_io(im, ret, err);
}

const struct image_driver cloop_driver = {.name = "cloop", .open = cloop_open, .close = chunks_close, .read = chunks_read, .extent = chunks_extent};
