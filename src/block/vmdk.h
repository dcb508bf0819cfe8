/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VMDK, VMware's format ("Virtual Disk Format 5.0"). Three kinds: one sparse file with its descriptor inside (monolithicSparse), the same with compressed
 * grains (streamOptimized), and a descriptor in text beside files that are raw (monolithicFlat, twoGbMaxExtentFlat).
 */
#ifndef LODGE_BLOCK_VMDK_H
#define LODGE_BLOCK_VMDK_H

#include "block/blockmap.h"

#define VMDK_HEADER     512u
#define VMDK_DESCRIPTOR (64u << 10) /* bytes at most */
#define VMDK_FLATS      64u

enum { VMDK_VERSION = 4, VMDK_FLAGS = 8, VMDK_CAPACITY = 12, VMDK_GRAIN = 20, VMDK_TEXT_AT = 28, VMDK_TEXT_SIZE = 36, VMDK_ENTRIES = 44, VMDK_BACKUP = 48,
       VMDK_DIRECTORY = 56, VMDK_OVERHEAD = 64, VMDK_UNCLEAN = 72, VMDK_NEWLINES = 73, VMDK_COMPRESSION = 77 };
enum { VMDK_HAS_NEWLINES = 1, VMDK_HAS_BACKUP = 2, VMDK_ZERO_GRAINS = 4, VMDK_COMPRESSED = 1 << 16, VMDK_MARKERS = 1 << 17 };

struct vmdk_flat {
    struct file *file; /* NULL: reads as zeroes */
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
    struct vmdk_flat flats[VMDK_FLATS];
    unsigned nflats;
};

/* ---- vmdk_text.c: descriptors. 0, or -1 with err ---- */
/* Checks what must be so, and for flat files fills flats and im->size. `text` ends with a zero byte and is cut into lines. */
int vmdk_parse_text(struct image *im, struct vmdk *v, char *text, bool embedded, struct error *err);
/* Writes one into `out`; returns its length. */
size_t vmdk_write_text(char *out, size_t n, const char *kind, const char *extent_kind, const char *extent_name, uint64_t sectors);
int vmdk_create(struct io_loop *l, const struct image_new *n, struct error *err);

#endif
