// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Requests of devices: each runs in a fiber, so that drivers can wait where they like.
 */
#include "block/block.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/util.h"
#include "block/image.h"
#include "block/internal.h"

static int perform(struct image *im, const struct block_req *req)
{
    switch (req->op) {
    case BLOCK_READ: return image_read(im, req->offset, req->len, req->iov, req->niov);
    case BLOCK_WRITE: return image_write(im, req->offset, req->len, req->iov, req->niov);
    case BLOCK_FLUSH: return image_flush(im);
    case BLOCK_DISCARD: return image_discard(im, req->offset, req->len);
    case BLOCK_ZERO: return image_zero(im, req->offset, req->len, req->may_unmap);
    case BLOCK_OPS: break;
    }
    return -ENOTSUP;
}

static void start_waiting(struct block *b);

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void finish(struct block *b, struct block_req *req, int ret)
{
    struct block_stats *s = &b->stats;
    b->in_flight--;
    if (ret < 0) {
        atomic_store_explicit(&s->last_error, -ret, memory_order_relaxed);
        add(&s->errors, 1);
        if (b->error_fd >= 0)
            eventfd_write(b->error_fd, 1);
    } else {
        add(&s->requests[req->op], 1);
        add(&s->bytes[req->op], req->len);
        add(&s->ns[req->op], now_ns() - req->start_ns);
    }
    req->done(req, ret);
}

static void run(void *arg)
{
    struct block_req *req = arg;
    struct block *b = req->block;
    int ret = perform(b->image, req);
    b->running--;
    finish(b, req, ret);
    start_waiting(b);
}

static void start_waiting(struct block *b)
{
    while (b->waiting && b->running < LOOP_DEPTH) {
        struct block_req *req = b->waiting;
        b->waiting = req->next;
        if (!b->waiting)
            b->tail = &b->waiting;
        b->running++;
        if (io_loop_spawn(b->loop, run, req) == 0)
            continue;
        b->running--;
        finish(b, req, -ENOMEM);
    }
}

void block_submit(struct block *b, struct block_req *req)
{
    req->next = NULL;
    req->block = b;
    req->start_ns = now_ns();
    b->in_flight++;
    *b->tail = req;
    b->tail = &req->next;
}

void block_poll(struct block *b)
{
    start_waiting(b);
    io_loop_poll(b->loop);
}

void block_drain(struct block *b)
{
    block_poll(b);
    while (b->in_flight) {
        io_loop_turn(b->loop);
        start_waiting(b);
    }
}

int block_event_fd(const struct block *b)
{
    return b->loop->event_fd;
}

uint64_t block_size(const struct block *b)
{
    return b->image->size;
}

bool block_readonly(const struct block *b)
{
    return b->image->readonly;
}

unsigned block_physical_sector(const struct block *b)
{
    return b->image->file->physical;
}

const char *block_engine_name(const struct block *b)
{
    return b->loop->engine->name;
}

const struct block_stats *block_stats(const struct block *b)
{
    return &b->stats;
}

void block_watch_errors(struct block *b, int fd)
{
    b->error_fd = fd;
}

/* ---- life ---- */

int block_open(const struct block_config *cfg, struct block **out, struct error *err)
{
    struct block *b = calloc(1, sizeof *b);
    struct image_options o = {.path = cfg->path, .format = cfg->format, .readonly = cfg->readonly, .what = "disk", .secret_file = cfg->secret_file};
    if (!b)
        return error_set(err, 0, "disk '%s': out of memory; close other programs", cfg->path);
    b->tail = &b->waiting;
    b->error_fd = -1;
    if (io_loop_create(cfg->engine, &b->loop, err) < 0 || image_open(b->loop, &o, &b->image, err) < 0) {
        block_close(b);
        return -1;
    }
    *out = b;
    return 0;
}

void block_close(struct block *b)
{
    if (!b)
        return;
    if (b->image)
        block_drain(b);
    image_close(b->image);
    io_loop_free(b->loop);
    free(b);
}
