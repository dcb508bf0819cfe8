/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VHDX, Hyper-V's format ([MS-VHDX]): what its two files share. */
#ifndef LODGE_BLOCK_VHDX_H
#define LODGE_BLOCK_VHDX_H

#include "block/blockmap.h"

#define VHDX_HEADER 4096u         /* bytes that the checksum of a header covers */
#define VHDX_LOG_MAX (64u << 20)  /* bytes */
enum { HEADER_SUM = 4, HEADER_SEQUENCE = 8, HEADER_FILE_GUID = 16, HEADER_DATA_GUID = 32, HEADER_LOG_GUID = 48, HEADER_LOG_VERSION = 64, HEADER_VERSION = 66,
       HEADER_LOG_LEN = 68, HEADER_LOG_AT = 72 };

/* CRC-32C of `n` bytes, those of a field of four at `at` taken as zeroes. */
uint32_t vhdx_sum(const uint8_t *p, uint64_t n, uint64_t at);
static inline bool vhdx_sum_is_right(const uint8_t *p, uint64_t n, uint64_t at)
{
    return le_get(p + at, 4) == vhdx_sum(p, n, at);
}

/* vhdx_log.c: brings into the file what a writer had logged and not finished. 0 or -errno; -EINVAL: the log is not sound. */
int vhdx_replay(struct image *im, const uint8_t *header);

#endif
