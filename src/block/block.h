/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk image as a device sees it: sectors, and requests that complete later.
 *
 * A block belongs to one thread at a time (the disk's I/O thread): it submits; calls block_poll(), which starts what was submitted
 * and runs the callbacks of what has completed; waits until block_event_fd() is readable; and so on. Opening and closing may be on
 * any thread when no other uses it.
 */
#ifndef LODGE_BLOCK_H
#define LODGE_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"

#define BLOCK_SECTOR 512u /* bytes; sizes and offsets are multiples of it */

enum block_engine {
    BLOCK_ENGINE_AUTO /* io_uring where the kernel permits it, else threads */,
    BLOCK_ENGINE_URING,
    BLOCK_ENGINE_THREADS
};

enum block_cache {
    BLOCK_CACHE_WRITEBACK,    /* the host's page cache; a flush makes writes last */
    BLOCK_CACHE_NONE,         /* direct transfers of the disk's contents */
    BLOCK_CACHE_WRITETHROUGH, /* each write lasts when it completes */
    BLOCK_CACHE_UNSAFE,       /* flushes do nothing until the disk is closed */
    BLOCK_CACHE_DIRECTSYNC,   /* NONE and WRITETHROUGH */
};

/* What writes of nothing but zeroes are: writes, requests to zero, or such that give the storage back. */
enum block_zeroes { BLOCK_ZEROES_WRITTEN, BLOCK_ZEROES_DETECTED, BLOCK_ZEROES_UNMAPPED };

/* What an error of the host's comes to. Stopped, a disk keeps the request and those behind it until block_retry(). */
enum block_on_error { BLOCK_REPORT /* the guest sees it */, BLOCK_STOP, BLOCK_STOP_ENOSPC /* when there is no room; others are reported */ };

enum { BLOCK_RATE_TOTAL, BLOCK_RATE_READ, BLOCK_RATE_WRITE, BLOCK_RATES };
struct block_rate {
    uint64_t rate, burst; /* in a second, at once; rate 0: no limit */
};

struct block_config {
    const char *path;   /* a file or block device, or nbd:…, iscsi://…, http(s)://… */
    const char *format; /* "raw", "qcow2", "vmdk", …; never guessed from the contents */
    bool readonly;
    enum block_engine engine;
    const char *secret_file; /* holds the passphrase of an encrypted image; NULL: none */
    enum block_cache cache;
    enum block_zeroes zeroes;
    bool keep_storage; /* discards do nothing, zeroes stay allocated */
    enum block_on_error read_errors, write_errors;
    struct block_rate bytes[BLOCK_RATES], ops[BLOCK_RATES]; /* discards and zeroes count as writes of no bytes */
};

enum block_op {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,   /* everything that completed before is on stable storage */
    BLOCK_DISCARD, /* the contents of the range are no longer needed; a hint */
    BLOCK_ZERO,    /* the range reads as zeroes; may_unmap: it may give its storage back */
    BLOCK_OPS
};

struct block_req {
    enum block_op op;
    bool may_unmap;
    uint64_t offset, len; /* bytes; len of a read or write is the sum over iov */
    struct iovec *iov;    /* the caller's, untouched until done */
    int niov;
    /* Once, from block_poll() or block_drain(): 0 or -errno. May submit again and may free the request. */
    void (*done)(struct block_req *req, int ret);
    void *opaque;
    /* The block layer's: */
    struct block_req *next;
    struct block *block;
    uint64_t start_ns;
};

/* What a block has done, for each operation. Read from any thread. */
struct block_stats {
    _Atomic uint64_t requests[BLOCK_OPS], bytes[BLOCK_OPS], ns[BLOCK_OPS];
    _Atomic uint64_t errors;
    _Atomic int last_error; /* errno value of the last request that failed */
};

struct block;

/*
 * Makes an empty qcow2 overlay without a name over the image, which is only read from then on: a descriptor, opened as "/proc/self/fd/N". What is
 * written there lasts as long as the descriptor, over any number of block_open(). -1 with err.
 */
int block_make_overlay(const struct block_config *cfg, struct error *err);
/* Opens and locks an image. The lock is QEMU's, so that QEMU and Lodge refuse each other. 0, or -1 with err. */
int block_open(const struct block_config *cfg, struct block **out, struct error *err);
/* Completes what is in flight, then closes. */
void block_close(struct block *b);

uint64_t block_size(const struct block *b); /* bytes */
bool block_readonly(const struct block *b);
unsigned block_physical_sector(const struct block *b); /* bytes: the write that needs no read-modify-write */
const char *block_engine_name(const struct block *b);
const struct block_stats *block_stats(const struct block *b);
/* `fd`, an eventfd of the caller's, is told of each request that fails. Before the first request. */
void block_watch_errors(struct block *b, int fd);

/* `fd`, an eventfd of the caller's, is told when the disk stops. Before the first request. */
void block_watch_stops(struct block *b, int fd);
/* From any thread: 0, or the errno value that stopped it; and tries again what it kept. */
int block_stopped(const struct block *b);
void block_retry(struct block *b);
/* For the poll of the block's thread: ms until a request that waits for its turn may start; -1: none does. */
int block_timeout(const struct block *b);

void block_submit(struct block *b, struct block_req *req);
int block_event_fd(const struct block *b);
void block_poll(struct block *b);
void block_drain(struct block *b); /* waits until nothing is in flight, whatever its rate; what a stop kept fails. Runs the callbacks */

#endif
