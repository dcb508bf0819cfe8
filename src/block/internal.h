/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the block layer: the device's view of an image. */
#ifndef LODGE_BLOCK_INTERNAL_H
#define LODGE_BLOCK_INTERNAL_H

#include "block/block.h"
#include "block/lock.h"

struct image;
struct block_throttle;
struct io_loop;

struct block {
    struct io_loop *loop;
    struct image *image;
    unsigned in_flight;                /* submitted and not done */
    unsigned running;                  /* of those, in fibers */
    struct block_req *waiting, **tail; /* the others, oldest first */
    struct block_stats stats;
    int error_fd, stop_fd; /* -1: nobody wants to know */
    /* policy.c */
    enum block_cache cache;
    enum block_zeroes zeroes;
    bool keep_storage;
    enum block_on_error read_errors, write_errors;
    struct block_throttle *throttle; /* owned */
    bool throttled, draining;
    int delay_ms;                      /* until the first of `waiting` may start; -1: it may */
    _Atomic int stopped;               /* errno value; while it is set, nothing starts */
    _Atomic bool retry;
    struct block_req *kept, **kept_tail; /* what failed and is to be tried again, oldest first */
};

#endif
