/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VMDK, VMware's format ("Virtual Disk Format 5.0"). Three kinds: one sparse file with its descriptor inside (monolithicSparse), the same with compressed
 * grains (streamOptimized), and a descriptor in text beside files that are the parts of the disk, raw (monolithicFlat, twoGbMaxExtentFlat) or sparse
 * (twoGbMaxExtentSparse). A sparse part is an image of its own here.
 *
 * The descriptor may name a parent: a VMDK image that has what is not in this one. Such a disk is only read. A number (CID) that each change of a disk's
 * content alters tells whether the parent is still the one that it was.
 */
#ifndef LODGE_BLOCK_VMDK_H
#define LODGE_BLOCK_VMDK_H

#include "block/blockmap.h"

#define VMDK_HEADER     512u
#define VMDK_DESCRIPTOR (64u << 10) /* bytes at most */
#define VMDK_PARTS      1024u
#define VMDK_NO_PARENT  0xffffffffu /* CID */

enum { VMDK_VERSION = 4, VMDK_FLAGS = 8, VMDK_CAPACITY = 12, VMDK_GRAIN = 20, VMDK_TEXT_AT = 28, VMDK_TEXT_SIZE = 36, VMDK_ENTRIES = 44, VMDK_BACKUP = 48,
       VMDK_DIRECTORY = 56, VMDK_OVERHEAD = 64, VMDK_UNCLEAN = 72, VMDK_NEWLINES = 73, VMDK_COMPRESSION = 77 };
enum { VMDK_HAS_NEWLINES = 1, VMDK_HAS_BACKUP = 2, VMDK_ZERO_GRAINS = 4, VMDK_COMPRESSED = 1 << 16, VMDK_MARKERS = 1 << 17 };

struct vmdk_part { /* of both file and sparse one is NULL; both: reads as zeroes */
    const char *kind;          /* as the descriptor has it: "FLAT", "SPARSE", "ZERO" */
    struct file *file;         /* flat */
    struct image *sparse;
    uint64_t start, len, host; /* of the disk; len; where in the file; bytes */
};

struct vmdk {
    struct blockmap map; /* sparse */
    uint32_t *directory, *backup; /* sectors of grain tables; backup: the second copy of them, or NULL */
    bool zero_grains, packed;
    struct { /* the grain that was unpacked last */
        uint64_t host;
        uint8_t *data;
        struct fiber_lock lock;
    } last;
    struct vmdk_part *parts; /* NULL: one sparse file */
    unsigned nparts;
    uint32_t cid, parent_cid;
    uint64_t cid_at; /* of its digits in the file; 0: not there, or changed already */
    unsigned cid_digits;
    char create_type[32];
};

/* ---- vmdk.c ---- */
/* A file that is a sparse part of `im`. 0, or -1 with err. */
int vmdk_open_part(struct image *im, const char *path, struct image **out, struct error *err);

/* ---- vmdk_parts.c: disks of several files; as the driver's functions ---- */
void vmdk_parts_close(struct vmdk *v);
int vmdk_parts_transfer(struct image *im, bool write, uint64_t offset, uint64_t len, const struct iovec *iov, int niov);
int vmdk_parts_zero(struct image *im, uint64_t offset, uint64_t len, bool may_unmap);
int vmdk_parts_flush(struct image *im);
int vmdk_parts_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out);

/* ---- vmdk_text.c: descriptors. 0, or -1 with err ---- */
/* `at` is its place in the file. Finds the parent, and where the descriptor is not embedded fills parts and im->size. `text` ends with a zero byte and is cut into lines. */
int vmdk_parse_text(struct image *im, struct vmdk *v, char *text, uint64_t at, bool embedded, struct error *err);
int vmdk_create(struct io_loop *l, const struct image_new *n, struct error *err);

#endif
