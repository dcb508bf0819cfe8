/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the block layer: the device's view of an image. */
#ifndef LODGE_BLOCK_INTERNAL_H
#define LODGE_BLOCK_INTERNAL_H

#include "block/block.h"

struct image;
struct io_loop;

struct block {
    struct io_loop *loop;
    struct image *image;
    unsigned in_flight;                /* submitted and not done */
    unsigned running;                  /* of those, in fibers */
    struct block_req *waiting, **tail; /* the others, oldest first */
    struct block_stats stats;
    int error_fd; /* -1: nobody wants to know */
};

/* Takes QEMU's image locks for `fd`. `what` and `path` name it in errors. */
int block_lock(int fd, const char *what, const char *path, bool readonly, struct error *err);

#endif
