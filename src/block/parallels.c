// SPDX-License-Identifier: GPL-2.0-or-later
/* Parallels' expanding disks, read-only: a header, a table of 32-bit places, and blocks ("tracks"). */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "block/blockmap.h"

#define HEADER 64u
enum { AT_VERSION = 16, AT_TRACKS = 28, AT_ENTRIES = 32, AT_SECTORS = 36, AT_DATA = 48 };

struct parallels {
    struct blockmap map;
    uint64_t unit; /* bytes that an entry counts */
};

static int parallels_load(struct blockmap *m, uint64_t first, unsigned n, uint64_t *host)
{
    struct parallels *p = container_of(m, struct parallels, map);
    uint8_t raw[4 * BLOCKMAP_LEAF];
    int ret = file_read(m->im->file, HEADER + 4 * first, raw, 4ull * n);
    for (unsigned i = 0; ret == 0 && i < n; i++) {
        uint64_t e = le_get(raw + 4 * i, 4);
        host[i] = e ? e * p->unit : BLOCKMAP_NONE;
        if (e && (host[i] < HEADER || host[i] >= m->end))
            ret = -EIO;
    }
    return ret;
}

static const struct blockmap_ops ops = {.load = parallels_load};

static int parallels_open(struct image *im, struct error *err)
{
    uint8_t h[HEADER];
    uint64_t length;
    int ret = file_read(im->file, 0, h, sizeof h);
    if (ret == 0)
        ret = file_length(im->file, &length);
    if (ret < 0)
        return format_io(im, ret, err);
    bool extended = memcmp(h, "WithouFreSpacExt", 16) == 0;
    if (!extended && memcmp(h, "WithoutFreeSpace", 16) != 0)
        return format_bad(im, "it has no Parallels signature", err);
    if (!im->readonly)
        return error_set(err, EROFS, "image '%s': Parallels images are only read here; convert it to qcow2", im->file->path);
    uint64_t tracks = le_get(h + AT_TRACKS, 4), entries = le_get(h + AT_ENTRIES, 4), sectors = le_get(h + AT_SECTORS, extended ? 8 : 4);
    if (le_get(h + AT_VERSION, 4) != 2 || tracks == 0 || tracks > 256 * MIB / BLOCK_SECTOR)
        return format_bad(im, "its version or block size is not possible", err);
    if (sectors == 0 || sectors > entries * tracks || HEADER + 4 * entries > length)
        return format_bad(im, "its block table is not where it can be", err);
    struct parallels *p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    if (blockmap_init(&p->map, im, &ops, tracks * BLOCK_SECTOR, entries, err) < 0) {
        free(p);
        return -1;
    }
    p->unit = extended ? tracks * BLOCK_SECTOR : BLOCK_SECTOR;
    im->size = sectors * BLOCK_SECTOR;
    im->state = p;
    return 0;
}

static int parallels_close(struct image *im)
{
    struct parallels *p = im->state;
    blockmap_free(&p->map);
    free(p);
    return 0;
}

const struct image_driver parallels_driver = {.name = "parallels",
                                              .open = parallels_open,
                                              .close = parallels_close,
                                              .read = blockmap_read,
                                              .check = blockmap_check,
                                              .extent = blockmap_extent};
