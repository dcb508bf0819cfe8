/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the formats have in common that keep a disk in blocks of one size, and a table of where in the file each block is (VMDK, VDI, VHD, VHDX, Parallels).
 *
 * A piece of the table, a leaf, is read when a block of it is looked up, and its entries become file offsets there and then; the format's `load` refuses
 * those that point outside of the file's data. Up to LEAVES_MAX clean leaves stay in memory, so that a table of any claimed size costs a bounded amount.
 *
 * Writes to a block that is not there put it behind everything else, where the file is zero. Tables reach the file in a flush, behind a sync of the
 * blocks, so that after a power cut no entry leads to a block that is not there; what such a cut costs is blocks that no entry leads to.
 */
#ifndef LODGE_BLOCK_BLOCKMAP_H
#define LODGE_BLOCK_BLOCKMAP_H

#include "block/image.h"

#define BLOCKMAP_LEAF   512u /* entries */
#define BLOCKMAP_NONE   0ull /* the block is not in the file: the backing image's, or zeroes */
#define BLOCKMAP_ZERO   1ull /* the block is zeroes, and has no place; only where there is a backing image */
#define BLOCKMAP_BLOCKS (1ull << 31) /* of an image at most */

struct blockmap;
struct blockmap_ops {
    /* Reads entries [first, first + n) as file offsets or BLOCKMAP_NONE. 0 or -errno. */
    int (*load)(struct blockmap *m, uint64_t first, unsigned n, uint64_t *host);
    /* Writes them. 0 or -errno. NULL: the format is only read. */
    int (*store)(struct blockmap *m, uint64_t first, unsigned n, const uint64_t *host);
    /* Where the next block goes, m->end being the file's; may write what stands before it. NULL: at m->end. 0 or -errno. */
    int (*place)(struct blockmap *m, uint64_t *host);
    /* Before the first change since it was opened, and after tables were stored. NULL: nothing to do. 0 or -errno. */
    int (*begin)(struct blockmap *m);
    int (*stored)(struct blockmap *m);
};

struct blockmap {
    struct image *im;
    const struct blockmap_ops *ops;
    uint64_t block;   /* bytes */
    uint64_t nblocks;
    uint64_t end;     /* bytes of the file that are in use */
    uint64_t align;   /* of blocks in the file */
    struct blockmap_leaf **leaves;
    unsigned loaded;  /* leaves in memory */
    bool begun, dirty;
    struct fiber_lock lock; /* held while tables change or are written */
};

/* 0, or -1 with err. */
int blockmap_init(struct blockmap *m, struct image *im, const struct blockmap_ops *ops, uint64_t block, uint64_t nblocks, struct error *err);
void blockmap_free(struct blockmap *m);
int blockmap_lookup(struct blockmap *m, uint64_t block, uint64_t *host);
int blockmap_set(struct blockmap *m, uint64_t block, uint64_t host); /* `lock` is held */

static inline bool blockmap_has_place(uint64_t host)
{
    return host > BLOCKMAP_ZERO;
}
/* What a block at `host` without a place reads as: the part of the vector [at, at + n), which is the disk's from `offset` on. */
int blockmap_read_absent(struct image *im, uint64_t host, uint64_t offset, uint64_t at, uint64_t n, const struct iovec *iov, int niov);

/* A driver's functions, for images without a backing image where they write; im->state beginning with a struct blockmap. */
int blockmap_read(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov);
int blockmap_write(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov);
int blockmap_zero(struct image *im, uint64_t offset, uint64_t len, bool may_unmap);
int blockmap_discard(struct image *im, uint64_t offset, uint64_t len);
int blockmap_flush(struct image *im);
int blockmap_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out);
/* ---- blockmap_check.c ---- */
int blockmap_check(struct image *im, struct image_check *out);
/* The same for one map; `bytes` is what a block takes in the file at least. Adds to what `out` has. */
int blockmap_check_map(struct blockmap *m, uint64_t bytes, struct image_check *out);

/* For the formats: "image 'x': is not a sound NAME image: WHAT", and fields. */
int format_bad(const struct image *im, const char *what, struct error *err);
int format_io(const struct image *im, int ret, struct error *err); /* cannot be read or written */
static inline uint64_t le_get(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    while (bytes--)
        v = v << 8 | p[bytes];
    return v;
}
static inline void le_put(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (; bytes--; v >>= 8)
        *p++ = (uint8_t)v;
}
static inline uint64_t be_get(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}
static inline void be_put(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (; bytes--; v >>= 8)
        p[bytes] = (uint8_t)v;
}
/* A random UUID, RFC 4122 section 4.4. */
void format_uuid(uint8_t out[16]);

#endif
