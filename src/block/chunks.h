/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images of which each piece is compressed by itself, and which are only read: cloop, DMG. The chunk that was unpacked last stays in memory. */
#ifndef LODGE_BLOCK_CHUNKS_H
#define LODGE_BLOCK_CHUNKS_H

#include "block/blockmap.h"

#define CHUNK_MAX (64u << 20) /* bytes of one, packed or not */

enum chunk_kind { CHUNK_ZERO, CHUNK_RAW, CHUNK_ZLIB, CHUNK_BZIP2 };
struct chunk {
    uint64_t start, len;   /* of the disk; bytes */
    uint64_t host, stored; /* in the file; bytes */
    enum chunk_kind kind;
};

struct chunks {
    struct chunk *list; /* sorted by start; what is between them is zeroes */
    uint64_t n, unpacked; /* unpacked: number of the one that `data` holds, plus one */
    uint8_t *data;
    struct fiber_lock lock;
};

/* Adds one; it lies within the disk, and the file has its bytes. 0 or -errno. */
int chunks_add(struct chunks *c, const struct chunk *k);
/* Sorts them, and looks that none overlaps another and all lie within `size`. 0 or -EINVAL. */
int chunks_finish(struct chunks *c, uint64_t size);
/* A driver's functions, im->state being a struct chunks. */
int chunks_read(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov);
int chunks_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out);
int chunks_close(struct image *im);

#endif
