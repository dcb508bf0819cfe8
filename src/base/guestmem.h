/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest RAM as devices and loaders see it: a few regions of host memory at guest-physical addresses.
 *
 * Guest addresses are hostile: every access goes through guestmem_ptr() or the copy functions, which check the whole range,
 * wrap-around included. Regions are fixed before the first vCPU runs.
 *
 * Where nothing else is asked for, the regions are one memfd, mapped shared: whoever has `fd` and a region's `fd_offset` can map
 * the same memory again. Memory that is private or anonymous has no such descriptor, and `fd` is -1.
 */
#ifndef LODGE_BASE_GUESTMEM_H
#define LODGE_BASE_GUESTMEM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define GUESTMEM_REGIONS 8
#define GUESTMEM_EXTRA   4

struct guestmem_region {
    uint64_t gpa, size; /* bytes */
    uint8_t *host;      /* mapping, owned by the guestmem */
    uint64_t fd_offset; /* of this region in the descriptor, and among all RAM */
};

struct guestmem {
    struct guestmem_region regions[GUESTMEM_REGIONS];
    unsigned count;
    struct guestmem_region extra[GUESTMEM_EXTRA]; /* memory that is no RAM, but that devices reach as well; not owned */
    unsigned nextra;
    int fd;             /* what the regions map, -1: nobody else can map it */
    uint64_t total;     /* bytes */
    uint64_t page_size; /* bytes: the unit in which memory comes from the host, a power of two */
};

enum guestmem_source { GUESTMEM_MEMFD, GUESTMEM_ANONYMOUS, GUESTMEM_FILE };
enum guestmem_thp { GUESTMEM_THP_HOST, GUESTMEM_THP_ON, GUESTMEM_THP_OFF };
enum guestmem_policy { GUESTMEM_STRICT, GUESTMEM_INTERLEAVE, GUESTMEM_PREFERRED };

/* A part of the RAM that belongs on nodes of the host. */
struct guestmem_binding {
    uint64_t start, size; /* bytes; as fd_offset counts */
    uint64_t nodes;       /* a bit for each */
    enum guestmem_policy policy;
};

struct guestmem_config {
    uint64_t bytes;     /* all RAM: below `low_limit` first, the rest at 4 GiB */
    uint64_t low_limit; /* bytes */
    enum guestmem_source source;
    bool private_copy;      /* what the guest writes is not to be seen through a descriptor */
    bool hugetlb;           /* pages that the host has reserved */
    uint64_t huge_page;     /* their size in bytes, 0: the host's default */
    enum guestmem_thp thp;  /* pages that the host makes huge by itself */
    bool merge;             /* KSM may join equal pages; of memory that is private or anonymous */
    bool locked;            /* never on swap */
    unsigned alloc_threads; /* that touch all pages at the start, 0: pages come as they are used */
    const struct guestmem_binding *bindings;
    unsigned nbindings;
};

/* 0, or -1 with err; then nothing is left. */
int guestmem_create(struct guestmem *m, const struct guestmem_config *cfg, struct error *err);
/* Creates `bytes` of RAM in a memfd: below `low_limit` first, the rest at 4 GiB. 0, or -1 with err. */
int guestmem_init(struct guestmem *m, uint64_t bytes, uint64_t low_limit, struct error *err);
void guestmem_free(struct guestmem *m);
/* Host address of [gpa, gpa+len), or NULL when any byte of it is not RAM or it spans two regions. len 0 gives NULL. */
void *guestmem_ptr(const struct guestmem *m, uint64_t gpa, uint64_t len);
/* Copies; -1 (and nothing copied) when the range is not all RAM. */
int guestmem_read(const struct guestmem *m, uint64_t gpa, void *buf, uint64_t len);
int guestmem_write(const struct guestmem *m, uint64_t gpa, const void *buf, uint64_t len);

/*
 * Gives memory back to the host: whole pages of [host, host+len) read as zeroes from now on and take no room. The range is one that
 * guestmem_ptr() returned. 0 or -errno.
 */
int guestmem_discard(const struct guestmem *m, void *host, uint64_t len);

/* Makes other memory reachable for devices. Before the first vCPU runs. 0, or -ENOSPC. */
int guestmem_add_extra(struct guestmem *m, uint64_t gpa, void *host, uint64_t size);

#endif
