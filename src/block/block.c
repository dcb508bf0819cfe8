// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Requests and their steps.
 *
 * A read or write is one step, or several when the kernel transfers less than asked. A discard is one attempt: it is a hint, and
 * a file system that cannot is fine. Zeroes try the cheap ways first and are written in the end:
 *
 *     may_unmap: punch a hole -> zero the range -> write
 *     otherwise:                 zero the range -> write
 *
 * What the file system refused once is not tried again.
 */
#include "block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "base/util.h"
#include "block/internal.h"

#define ZERO_BYTES (256 * KIB) /* of one write of zeroes */

enum stage { STAGE_PUNCH, STAGE_ZERO_RANGE, STAGE_WRITE };

static uint8_t zeroes[ZERO_BYTES]; /* never written, so it costs no memory */

/* ---- steps ---- */

/* The cheapest way to zeroes that is still thought to work, from the request's stage on. */
static unsigned zero_stage(const struct block *b, const struct block_req *req)
{
    unsigned stage = req->stage;
    if (stage == STAGE_PUNCH && (!req->may_unmap || b->no_punch))
        stage = STAGE_ZERO_RANGE;
    if (stage == STAGE_ZERO_RANGE && b->no_zero_range)
        stage = STAGE_WRITE;
    return stage;
}

static struct block_step next_step(const struct block *b, struct block_req *req)
{
    struct block_step s = {
        .offset = req->offset + req->progress, .len = req->len - req->progress, .iov = req->iov, .niov = req->niov};
    switch (req->op) {
    case BLOCK_READ:
        s.kind = STEP_READ;
        break;
    case BLOCK_WRITE:
        s.kind = STEP_WRITE;
        break;
    case BLOCK_FLUSH:
        s.kind = STEP_SYNC;
        break;
    case BLOCK_DISCARD:
        s.kind = STEP_ALLOCATE;
        s.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        break;
    case BLOCK_ZERO:
        req->stage = zero_stage(b, req);
        s.kind = STEP_ALLOCATE;
        s.mode = (req->stage == STAGE_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
        if (req->stage == STAGE_WRITE) {
            req->zero = (struct iovec){zeroes, MIN(s.len, ZERO_BYTES)};
            s = (struct block_step){.kind = STEP_WRITE, .offset = s.offset, .len = req->zero.iov_len, .iov = &req->zero, .niov = 1};
        }
        break;
    }
    return s;
}

/* Drops the transferred bytes from the request's buffers. */
static void consume(struct block_req *req, size_t bytes)
{
    while (bytes && req->niov) {
        size_t part = MIN(bytes, req->iov->iov_len);
        req->iov->iov_base = (uint8_t *)req->iov->iov_base + part;
        req->iov->iov_len -= part;
        bytes -= part;
        if (req->iov->iov_len == 0)
            req->iov++, req->niov--;
    }
}

static bool unsupported(ssize_t ret)
{
    return ret == -EOPNOTSUPP || ret == -ENOSYS || ret == -EINVAL || ret == -ENOTTY || ret == -ENODEV;
}

/* Takes the result of a step; true when the request is done, with its result set. */
static bool absorb(struct block *b, struct block_req *req, ssize_t ret)
{
    bool transfer = req->op == BLOCK_READ || req->op == BLOCK_WRITE || (req->op == BLOCK_ZERO && req->stage == STAGE_WRITE);
    if (ret == -EINTR || ret == -EAGAIN)
        return false;
    if (ret < 0 && unsupported(ret) && req->op == BLOCK_DISCARD)
        ret = 0;
    if (ret < 0 && unsupported(ret) && req->op == BLOCK_ZERO && req->stage != STAGE_WRITE) {
        /* EINVAL is about this range (a device's alignment), the others are about the file system. */
        if (ret != -EINVAL)
            *(req->stage == STAGE_PUNCH ? &b->no_punch : &b->no_zero_range) = true;
        req->stage++;
        return false;
    }
    /* Nothing transferred: the image was cut short behind our back. */
    if (transfer && ret == 0)
        ret = -EIO;
    if (ret >= 0 && transfer) {
        req->progress += (uint64_t)ret;
        if (req->op != BLOCK_ZERO)
            consume(req, (size_t)ret);
        if (req->progress < req->len)
            return false;
    }
    req->result = ret < 0 ? (int)ret : 0;
    return true;
}

static void give_to_engine(struct block *b, struct block_req *req)
{
    struct block_step step = next_step(b, req);
    b->in_engine++;
    b->engine->start(b, req, &step);
}

static void start_waiting(struct block *b)
{
    while (b->waiting && b->in_engine < BLOCK_DEPTH) {
        struct block_req *req = b->waiting;
        b->waiting = req->next;
        if (!b->waiting)
            b->tail = &b->waiting;
        give_to_engine(b, req);
    }
}

void block_step_done(struct block *b, struct block_req *req, ssize_t ret)
{
    b->in_engine--;
    if (!absorb(b, req, ret)) {
        give_to_engine(b, req);
        return;
    }
    b->in_flight--;
    req->done(req, req->result);
}

/* ---- the interface ---- */

void block_submit(struct block *b, struct block_req *req)
{
    req->next = NULL;
    req->progress = 0;
    req->stage = 0;
    req->result = 0;
    b->in_flight++;
    *b->tail = req;
    b->tail = &req->next;
}

static void pump(struct block *b)
{
    do
        start_waiting(b);
    while (b->engine->reap(b) || (b->waiting && b->in_engine < BLOCK_DEPTH));
}

/* What completes at once has signalled the eventfd too; clearing it behind that, and looking once more, saves the owner a useless
 * turn. */
void block_poll(struct block *b)
{
    uint64_t n;
    pump(b);
    if (read(b->event_fd, &n, sizeof n) < 0 && errno != EAGAIN)
        log_error("disk '%s': cannot read its eventfd: %s", b->path, strerror(errno));
    pump(b);
}

void block_drain(struct block *b)
{
    block_poll(b);
    while (b->in_flight) {
        struct pollfd p = {.fd = b->event_fd, .events = POLLIN};
        poll(&p, 1, -1);
        block_poll(b);
    }
}

int block_event_fd(const struct block *b)
{
    return b->event_fd;
}

uint64_t block_size(const struct block *b)
{
    return b->size;
}

bool block_readonly(const struct block *b)
{
    return b->readonly;
}

unsigned block_physical_sector(const struct block *b)
{
    return b->physical;
}

const char *block_engine_name(const struct block *b)
{
    return b->engine->name;
}

/* ---- life ---- */

static int open_engine(struct block *b, enum block_engine want, struct error *err)
{
    b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (b->event_fd < 0)
        return error_set(err, errno, "disk '%s': cannot create an eventfd: %s; raise the limit of open files (ulimit -n)", b->path,
                         strerror(errno));
    if (want != BLOCK_ENGINE_THREADS) {
        b->engine = &block_uring;
        if (b->engine->open(b, want == BLOCK_ENGINE_URING ? err : NULL) == 0)
            return 0;
        b->engine = NULL;
        if (want == BLOCK_ENGINE_URING)
            return -1;
    }
    b->engine = &block_threads;
    if (b->engine->open(b, err) == 0)
        return 0;
    b->engine = NULL;
    return -1;
}

int block_open(const struct block_config *cfg, struct block **out, struct error *err)
{
    if (strcmp(cfg->format, "raw") != 0)
        return error_set(err, 0, "disk '%s': format '%s' is not known; use an image of format raw", cfg->path, cfg->format);
    struct block *b = calloc(1, sizeof *b);
    char *path = strdup(cfg->path);
    if (!b || !path) {
        free(b);
        free(path);
        return error_set(err, 0, "disk '%s': out of memory; close other programs", cfg->path);
    }
    *b = (struct block){.path = path, .fd = -1, .event_fd = -1, .readonly = cfg->readonly};
    b->tail = &b->waiting;
    if (raw_open(b, err) < 0 || open_engine(b, cfg->engine, err) < 0) {
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
    if (b->engine) {
        block_drain(b);
        b->engine->close(b);
    }
    if (b->event_fd >= 0)
        close(b->event_fd);
    if (b->fd >= 0)
        close(b->fd);
    free(b->path);
    free(b);
}
