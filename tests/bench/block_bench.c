// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * block_bench FORMAT read|write SIZE COUNT STEP FILE [threads]: COUNT requests of SIZE bytes, 32 under way, each STEP bytes behind the one before (around the disk's
 * end), as `qemu-img bench` makes them. Prints the seconds that they took. Then, as that does too, what was written is flushed.
 */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "block/block.h"

#define DEPTH 32

struct bench {
    struct block *b;
    enum block_op op;
    uint64_t size, left, step, offset, failed;
};

struct slot {
    struct block_req req;
    struct iovec iov;
    struct bench *bench;
};

static void start(struct slot *s)
{
    struct bench *t = s->bench;
    if (!t->left)
        return;
    t->left--;
    s->req = (struct block_req){.op = t->op, .offset = t->offset, .len = t->size, .iov = &s->iov, .niov = 1, .done = s->req.done, .opaque = s};
    t->offset = (t->offset + t->step) % block_size(t->b); /* sizes and steps are multiples of SIZE */
    block_submit(t->b, &s->req);
}

static void done(struct block_req *req, int ret)
{
    struct slot *s = req->opaque;
    s->bench->failed += ret < 0;
    start(s);
}

int main(int argc, char **argv)
{
    ERROR_SCOPED(err);
    static struct slot slots[DEPTH];
    if (argc != 7 && argc != 8) {
        fprintf(stderr, "usage: block_bench FORMAT read|write SIZE COUNT STEP FILE [threads]\n");
        return 2;
    }
    struct bench t = {.op = strcmp(argv[2], "write") == 0 ? BLOCK_WRITE : BLOCK_READ, .size = strtoull(argv[3], NULL, 0), .left = strtoull(argv[4], NULL, 0),
                      .step = strtoull(argv[5], NULL, 0)};
    struct block_config cfg = {.path = argv[6], .format = argv[1], .readonly = t.op == BLOCK_READ, .engine = argc == 8 && strcmp(argv[7], "threads") == 0 ? BLOCK_ENGINE_THREADS : BLOCK_ENGINE_AUTO};
    if (block_open(&cfg, &t.b, &err) < 0) {
        fprintf(stderr, "%s\n", error_text(&err));
        return 1;
    }
    uint8_t *buf = aligned_alloc(4096, DEPTH * t.size); /* as a guest's pages lie, and as qemu-img does it */
    if (!buf)
        return 1;
    memset(buf, 0, DEPTH * t.size);
    for (unsigned i = 0; i < DEPTH; i++) {
        slots[i].iov = (struct iovec){buf + i * t.size, t.size};
        slots[i].bench = &t;
        slots[i].req.done = done;
    }
    uint64_t began = now_ns();
    for (unsigned i = 0; i < DEPTH; i++)
        start(&slots[i]);
    block_drain(t.b);
    printf("%.6f\n", (double)(now_ns() - began) / (double)NS_PER_S);
    slots[0].req.op = BLOCK_FLUSH;
    block_submit(t.b, &slots[0].req);
    block_drain(t.b);
    block_close(t.b);
    return t.failed != 0;
}
