// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Requests of devices: each runs in a fiber, so that drivers can wait where they like.
 */
#include "block/block.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/util.h"
#include "block/image.h"
#include "block/internal.h"
#include "block/policy.h"

static void start_waiting(struct block *b);

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void note_error(struct block *b, int ret)
{
    atomic_store_explicit(&b->stats.last_error, -ret, memory_order_relaxed);
    add(&b->stats.errors, 1);
    if (b->error_fd >= 0)
        eventfd_write(b->error_fd, 1);
}

static void finish(struct block *b, struct block_req *req, int ret)
{
    struct block_stats *s = &b->stats;
    b->in_flight--;
    if (ret < 0) {
        note_error(b, ret);
    } else {
        add(&s->requests[req->op], 1);
        add(&s->bytes[req->op], req->len);
        add(&s->ns[req->op], now_ns() - req->start_ns);
    }
    req->done(req, ret);
}

/* The disk stops: this request, and all that have not started, wait for block_retry(). */
static void keep(struct block *b, struct block_req *req, int ret)
{
    req->next = NULL;
    *b->kept_tail = req;
    b->kept_tail = &req->next;
    note_error(b, ret);
    if (atomic_exchange(&b->stopped, -ret) == 0 && b->stop_fd >= 0)
        eventfd_write(b->stop_fd, 1);
}

/* What was kept goes to the front, or fails when the disk is being drained. */
static void release(struct block *b)
{
    struct block_req *req = b->kept;
    int error = atomic_exchange(&b->stopped, 0);
    atomic_store(&b->retry, false);
    b->kept = NULL;
    if (!req) {
        b->kept_tail = &b->kept;
        return;
    }
    if (!b->draining) {
        *b->kept_tail = b->waiting;
        if (!b->waiting)
            b->tail = b->kept_tail;
        b->waiting = req;
        b->kept_tail = &b->kept;
        return;
    }
    b->kept_tail = &b->kept;
    while (req) {
        struct block_req *next = req->next;
        finish(b, req, error ? -error : -EIO);
        req = next;
    }
}

static void run(void *arg)
{
    struct block_req *req = arg;
    struct block *b = req->block;
    int ret = policy_perform(b, req);
    b->running--;
    if (ret < 0 && !b->draining && policy_stops(b, req, ret)) {
        keep(b, req, ret);
        return;
    }
    finish(b, req, ret);
    start_waiting(b);
}

static void start_waiting(struct block *b)
{
    b->delay_ms = -1;
    while (b->waiting && b->running < LOOP_DEPTH && !atomic_load(&b->stopped)) {
        struct block_req *req = b->waiting;
        int delay = b->draining ? 0 : policy_delay(b, req);
        if (delay) {
            b->delay_ms = delay;
            return;
        }
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
    if (atomic_load(&b->retry))
        release(b);
    start_waiting(b);
    io_loop_poll(b->loop);
}

void block_drain(struct block *b)
{
    b->draining = true;
    release(b);
    block_poll(b);
    while (b->in_flight) {
        io_loop_turn(b->loop);
        start_waiting(b);
    }
    b->draining = false;
}

void block_watch_stops(struct block *b, int fd)
{
    b->stop_fd = fd;
}

int block_stopped(const struct block *b)
{
    return atomic_load(&b->stopped);
}

void block_retry(struct block *b)
{
    atomic_store(&b->retry, true);
    eventfd_write(b->loop->event_fd, 1);
}

int block_timeout(const struct block *b)
{
    return b->delay_ms;
}

int block_event_fd(const struct block *b)
{
    return io_loop_fd(b->loop);
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
    return io_loop_engine_name(b->loop);
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

static int open_image(struct block *b, const struct block_config *cfg, struct error *err)
{
    struct image_options o = {.path = cfg->path, .format = cfg->format, .readonly = cfg->readonly, .what = "disk", .secret_file = cfg->secret_file};
    if (image_open(b->loop, &o, &b->image, err) < 0)
        return -1;
    if (!b->image->size)
        return error_set(err, 0, "disk '%s': is 0 bytes long, shorter than a sector; give an image of at least %u bytes", cfg->path, BLOCK_SECTOR);
    return policy_open(b, cfg->path, err);
}

int block_make_overlay(const struct block_config *cfg, struct error *err)
{
    struct io_loop *loop;
    if (io_loop_create(cfg->engine, &loop, err) < 0)
        return -1;
    int fd = policy_make_overlay(loop, cfg, err);
    io_loop_free(loop);
    return fd;
}

int block_open(const struct block_config *cfg, struct block **out, struct error *err)
{
    struct block *b = calloc(1, sizeof *b);
    if (!b || !(b->throttle = calloc(1, sizeof *b->throttle))) {
        free(b);
        return error_set(err, 0, "disk '%s': out of memory; close other programs", cfg->path);
    }
    b->tail = &b->waiting;
    b->kept_tail = &b->kept;
    b->error_fd = b->stop_fd = b->delay_ms = -1;
    policy_init(b, cfg);
    if (io_loop_create(cfg->engine, &b->loop, err) < 0 || open_image(b, cfg, err) < 0) {
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
    free(b->throttle);
    free(b);
}
