/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the block layer: a request is a sequence of steps, each one system call. block.c decides which step comes next; an engine
 * performs a step without making the caller wait.
 */
#ifndef LODGE_BLOCK_INTERNAL_H
#define LODGE_BLOCK_INTERNAL_H

#include <sys/types.h>

#include "block/block.h"

#define BLOCK_DEPTH 128 /* steps that an engine has at a time */

enum block_step_kind { STEP_READ, STEP_WRITE, STEP_SYNC, STEP_ALLOCATE };

struct block_step {
    enum block_step_kind kind;
    int mode; /* STEP_ALLOCATE: fallocate(2)'s */
    uint64_t offset, len;
    const struct iovec *iov;
    int niov;
};

struct block_engine_ops {
    const char *name;
    int (*open)(struct block *b, struct error *err); /* sets b->engine_data; completions make b->event_fd readable */
    void (*close)(struct block *b);
    /* Takes the request's present step; may put off starting it to reap(). */
    void (*start)(struct block *b, struct block_req *req, const struct block_step *step);
    /* Calls block_step_done() for each completed step; true if there was any. */
    bool (*reap)(struct block *b);
};

struct block {
    char *path;
    int fd, event_fd;
    bool readonly, device; /* device: a block device, not a file */
    uint64_t size;         /* bytes */
    unsigned physical;     /* bytes */
    const struct block_engine_ops *engine;
    void *engine_data;
    unsigned in_flight;                /* submitted and not done */
    unsigned in_engine;                /* of those, given to the engine */
    struct block_req *waiting, **tail; /* the others, oldest first */
    bool no_punch, no_zero_range;      /* the file system refused that way before */
};

extern const struct block_engine_ops block_uring, block_threads;

/* A step of `req` ended with what its system call gives: bytes, 0, or -errno. */
void block_step_done(struct block *b, struct block_req *req, ssize_t ret);

/* Takes QEMU's image locks for `fd`. */
int block_lock(int fd, const char *path, bool readonly, struct error *err);

/* Opens a raw image: fills fd, size and so on. */
int raw_open(struct block *b, struct error *err);

#endif
