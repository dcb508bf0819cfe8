// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The io_uring engine. Steps are collected in the submission ring and go to the kernel in one call when the owner polls. What
 * the page cache can answer is complete when that call returns.
 */
#include <errno.h>
#include <liburing.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "block/internal.h"

struct uring {
    struct io_uring ring;
    unsigned unsubmitted;
};

static bool has_operations(struct io_uring *ring)
{
    static const int needed[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool all = probe;
    for (unsigned i = 0; probe && i < ARRAY_SIZE(needed); i++)
        all = all && io_uring_opcode_supported(probe, needed[i]);
    io_uring_free_probe(probe);
    return all;
}

static int uring_open(struct block *b, struct error *err)
{
    struct uring *u = calloc(1, sizeof *u);
    int e = u ? io_uring_queue_init(BLOCK_DEPTH, &u->ring, 0) : -ENOMEM;
    if (e == 0) {
        e = has_operations(&u->ring) ? io_uring_register_eventfd(&u->ring, b->event_fd) : -ENOSYS;
        if (e < 0)
            io_uring_queue_exit(&u->ring);
    }
    if (e < 0) {
        free(u);
        return error_set(err, -e, "disk '%s': io_uring is not usable: %s; use the thread engine", b->path, strerror(-e));
    }
    b->engine_data = u;
    return 0;
}

static void uring_close(struct block *b)
{
    struct uring *u = b->engine_data;
    io_uring_queue_exit(&u->ring);
    free(u);
}

static void prepare(struct io_uring_sqe *sqe, int fd, const struct block_step *s)
{
    switch (s->kind) {
    case STEP_READ:
        io_uring_prep_readv(sqe, fd, s->iov, (unsigned)s->niov, s->offset);
        break;
    case STEP_WRITE:
        io_uring_prep_writev(sqe, fd, s->iov, (unsigned)s->niov, s->offset);
        break;
    case STEP_SYNC:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    case STEP_ALLOCATE:
        io_uring_prep_fallocate(sqe, fd, s->mode, (off_t)s->offset, (off_t)s->len);
        break;
    }
}

/* The ring has BLOCK_DEPTH entries and the caller gives no more at a time, so there is always a free one. */
static void uring_start(struct block *b, struct block_req *req, const struct block_step *step)
{
    struct uring *u = b->engine_data;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    prepare(sqe, b->fd, step);
    io_uring_sqe_set_data(sqe, req);
    u->unsubmitted++;
}

/* What the kernel does not take now stays in the ring for the next time. */
static void submit(struct block *b, struct uring *u)
{
    while (u->unsubmitted) {
        int n = io_uring_submit(&u->ring);
        if (n < 0 && (n == -EINTR || n == -EAGAIN))
            continue;
        if (n <= 0) {
            log_error("disk '%s': io_uring takes no requests: %s", b->path, strerror(-n));
            return;
        }
        u->unsubmitted -= MIN((unsigned)n, u->unsubmitted);
    }
}

static bool uring_reap(struct block *b)
{
    struct uring *u = b->engine_data;
    struct io_uring_cqe *cqe;
    bool any = false;
    submit(b, u);
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        struct block_req *req = io_uring_cqe_get_data(cqe);
        int res = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        block_step_done(b, req, res);
        any = true;
    }
    return any;
}

const struct block_engine_ops block_uring = {"io_uring", uring_open, uring_close, uring_start, uring_reap};
