// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The io_uring engine. Steps are collected in the submission ring and go to the kernel in one call when the owner polls. What
 * the page cache can answer is complete when that call returns. Large copies to and from the page cache do not come here (loop.c).
 */
#include <errno.h>
#include <liburing.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "block/loop.h"

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

static int uring_open(struct io_loop *l, struct error *err)
{
    struct uring *u = calloc(1, sizeof *u);
    int e = u ? io_uring_queue_init(LOOP_DEPTH, &u->ring, 0) : -ENOMEM;
    if (e == 0) {
        e = has_operations(&u->ring) ? io_uring_register_eventfd(&u->ring, l->event_fd) : -ENOSYS;
        if (e < 0)
            io_uring_queue_exit(&u->ring);
    }
    if (e < 0) {
        free(u);
        return error_set(err, -e, "block layer: io_uring is not usable: %s; use the thread engine", strerror(-e));
    }
    l->engine_data = u;
    return 0;
}

static void uring_close(struct io_loop *l)
{
    struct uring *u = l->engine_data;
    io_uring_queue_exit(&u->ring);
    free(u);
}

static void prepare(struct io_uring_sqe *sqe, const struct io_step *s)
{
    switch (s->kind) {
    case IO_READ:
        io_uring_prep_readv(sqe, s->fd, s->iov, (unsigned)s->niov, s->offset);
        break;
    case IO_WRITE:
        io_uring_prep_writev(sqe, s->fd, s->iov, (unsigned)s->niov, s->offset);
        break;
    case IO_SYNC:
        io_uring_prep_fsync(sqe, s->fd, IORING_FSYNC_DATASYNC);
        break;
    case IO_ALLOCATE:
        io_uring_prep_fallocate(sqe, s->fd, s->mode, (off_t)s->offset, (off_t)s->len);
        break;
    case IO_CALL: /* the workers' */
    case IO_EXTEND:
    case IO_HAND: /* its own thread's */
        break;
    }
}

/* The ring has LOOP_DEPTH entries and the caller gives no more at a time, so there is always a free one. */
static void uring_start(struct io_loop *l, struct io_step *s)
{
    struct uring *u = l->engine_data;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    prepare(sqe, s);
    io_uring_sqe_set_data(sqe, s);
    u->unsubmitted++;
}

/* What the kernel does not take now stays in the ring for the next time. */
static void submit(struct uring *u)
{
    while (u->unsubmitted) {
        int n = io_uring_submit(&u->ring);
        if (n < 0 && (n == -EINTR || n == -EAGAIN))
            continue;
        if (n <= 0) {
            log_error("block layer: io_uring takes no requests: %s", strerror(-n));
            return;
        }
        u->unsubmitted -= MIN((unsigned)n, u->unsubmitted);
    }
}

static bool uring_reap(struct io_loop *l)
{
    struct uring *u = l->engine_data;
    struct io_uring_cqe *cqe;
    bool any = false;
    submit(u);
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        struct io_step *s = io_uring_cqe_get_data(cqe);
        int res = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        io_step_done(l, s, res);
        any = true;
    }
    return any;
}

const struct io_engine io_uring_engine = {"io_uring", uring_open, uring_close, uring_start, uring_reap};
