/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest RAM as devices and loaders see it: a few regions of memfd-backed host memory at guest-physical addresses.
 *
 * Guest addresses are hostile: every access goes through guestmem_ptr() or the copy functions, which check the whole range, wrap-around
 * included. Regions are fixed before the first vCPU runs.
 */
#ifndef LODGE_BASE_GUESTMEM_H
#define LODGE_BASE_GUESTMEM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define GUESTMEM_REGIONS 8

struct guestmem_region {
    uint64_t gpa, size; /* bytes */
    uint8_t *host;      /* mapping, owned by the guestmem */
    uint64_t fd_offset; /* of this region in the memfd */
};

struct guestmem {
    struct guestmem_region regions[GUESTMEM_REGIONS];
    unsigned count;
    int fd;         /* the memfd, -1 before guestmem_init */
    uint64_t total; /* bytes */
};

/* Creates `bytes` of RAM: below `low_limit` first, the rest at 4 GiB. 0, or -1 with err. */
int guestmem_init(struct guestmem *m, uint64_t bytes, uint64_t low_limit, struct error *err);
void guestmem_free(struct guestmem *m);
/* Host address of [gpa, gpa+len), or NULL when any byte of it is not RAM or it spans two regions. len 0 gives NULL. */
void *guestmem_ptr(const struct guestmem *m, uint64_t gpa, uint64_t len);
/* Copies; -1 (and nothing copied) when the range is not all RAM. */
int guestmem_read(const struct guestmem *m, uint64_t gpa, void *buf, uint64_t len);
int guestmem_write(const struct guestmem *m, uint64_t gpa, const void *buf, uint64_t len);

/*
 * Gives memory back to the host: whole pages of [host, host+len) read as zeroes from now on and take no room. The range is one that guestmem_ptr()
 * returned. 0 or -errno.
 */
int guestmem_discard(const struct guestmem *m, void *host, uint64_t len);

#endif
