/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a disk does besides its requests: how fast they go, what follows an error, and what the host's page cache may keep. */
#ifndef LODGE_BLOCK_POLICY_H
#define LODGE_BLOCK_POLICY_H

#include "base/bucket.h"
#include "block/internal.h"

/* Rates of a disk; kept by its I/O thread. */
struct block_throttle {
    struct bucket bytes[BLOCK_RATES], ops[BLOCK_RATES];
};

void policy_init(struct block *b, const struct block_config *cfg);
/* 0: the request may start, and has been counted; else the ms until it may be asked again. */
int policy_delay(struct block *b, const struct block_req *req);
/* What a request of the device's comes to, in its fiber. */
int policy_perform(struct block *b, const struct block_req *req);
/* Does the disk stop rather than tell the guest of this error? */
bool policy_stops(const struct block *b, const struct block_req *req, int ret);
/* Does what the cache mode asks for with the image that has been opened. 0, or -1 with err. */
int policy_open(struct block *b, const char *path, struct error *err);
/* block_make_overlay() */
int policy_make_overlay(struct io_loop *l, const struct block_config *cfg, struct error *err);

#endif
