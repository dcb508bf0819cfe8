// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A disk (virtio 1.2, 5.2). The I/O thread takes requests off the queue, gives them to the block layer as they come, and returns
 * each when it completes, in any order.
 *
 * A request is a 16-byte header, data, and a status byte at the end of the writable part; where the buffers are cut is the driver's
 * choice (2.7.4.1), so header and status are found by their distance from the ends, and the rest of the iovec is the data.
 */
#include "devices/virtio/vblk.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "devices/virtio/vblk_space.h"
#include "devices/virtio/virtio.h"

#define VBLK_QUEUE_SIZE 256
#define VBLK_SEG_MAX    (VBLK_QUEUE_SIZE - 2)
#define VBLK_RANGES     32          /* ranges of one discard or write zeroes request */
#define VBLK_RANGE_MAX  (GIB / 512) /* sectors of one range */

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK, S_IOERR, S_UNSUPP };

#define CONFIG_WRITEBACK 32
_Static_assert(offsetof(struct vblk_space, writeback) == CONFIG_WRITEBACK, "the cache mode is where the guest writes it");

struct vblk_header {
    uint32_t type, reserved;
    uint64_t sector;
};

struct vblk_range {
    uint64_t sector;
    uint32_t count, flags; /* flags bit 0: unmap */
};

struct vblk {
    struct virtio_dev virtio; /* first */
    struct block *block;
    char id[VBLK_ID_BYTES];
};

/* A request on its way through the block layer. */
struct vblk_req {
    struct block_req block;
    struct vblk *disk;
    struct vq_elem *elem;
    unsigned queue;
    uint32_t type;
    uint32_t data_len; /* bytes written into the guest's buffers when it succeeds */
    struct vblk_range ranges[VBLK_RANGES];
    unsigned nranges, range;
    bool flushing; /* a write that is made durable before it completes */
};

/* ---- the ends of a request ---- */

/* Drops `len` bytes from the front of an iovec list. */
static void trim_front(struct iovec **iov, unsigned *n, size_t len)
{
    while (len && *n) {
        size_t part = MIN(len, (*iov)->iov_len);
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + part;
        (*iov)->iov_len -= part;
        len -= part;
        if ((*iov)->iov_len == 0)
            ++*iov, --*n;
    }
}

static void finish(struct vblk_req *r, uint8_t status)
{
    struct vblk *d = r->disk;
    struct vq_elem *e = r->elem;
    uint32_t data = status == S_OK ? r->data_len : 0;
    /* The status byte was cut off the last buffer, which therefore has it right behind its end. */
    struct iovec *last = &e->in[e->nin - 1];
    ((uint8_t *)last->iov_base)[last->iov_len] = status;
    virtio_push(&d->virtio, r->queue, e, data + 1);
    free(r);
}

/* ---- completion ---- */

static void submit(struct vblk_req *r, enum block_op op, uint64_t offset, uint64_t len)
{
    r->block.op = op;
    r->block.offset = offset;
    r->block.len = len;
    block_submit(r->disk->block, &r->block);
}

static void submit_range(struct vblk_req *r)
{
    const struct vblk_range *g = &r->ranges[r->range];
    r->block.may_unmap = r->type == T_DISCARD || (g->flags & 1);
    submit(r, r->type == T_DISCARD ? BLOCK_DISCARD : BLOCK_ZERO, g->sector * BLOCK_SECTOR, (uint64_t)g->count * BLOCK_SECTOR);
}

/* A driver that cannot flush expects a write-through cache (5.2.6.2); others may ask for one. */
static bool write_through(struct vblk *d)
{
    struct virtio_dev *v = &d->virtio;
    if (!virtio_has(v, VBLK_F_CONFIG_WCE))
        return !virtio_has(v, VBLK_F_FLUSH);
    return !__atomic_load_n(&v->config[CONFIG_WRITEBACK], __ATOMIC_RELAXED);
}

static void request_done(struct block_req *b, int ret)
{
    struct vblk_req *r = container_of(b, struct vblk_req, block);
    struct vblk *d = r->disk;
    bool changed = r->type == T_OUT || r->type == T_WRITE_ZEROES;
    if (ret < 0) {
        log_guest(&d->virtio.limit, "virtio-blk: request of type %u at byte %llu fails: %s", r->type, (unsigned long long)b->offset,
                  strerror(-ret));
        finish(r, S_IOERR);
    } else if (++r->range < r->nranges) {
        submit_range(r);
    } else if (changed && !r->flushing && write_through(d)) {
        r->flushing = true;
        submit(r, BLOCK_FLUSH, 0, 0);
    } else {
        finish(r, S_OK);
    }
}

/* ---- requests ---- */

static bool range_ok(const struct vblk *d, uint64_t sector, uint64_t count)
{
    uint64_t capacity = block_size(d->block) / BLOCK_SECTOR;
    return sector <= capacity && count <= capacity - sector;
}

static void transfer(struct vblk_req *r, uint64_t sector, struct iovec *iov, unsigned n, uint64_t len)
{
    struct vblk *d = r->disk;
    bool write = r->type == T_OUT;
    if (len == 0 || len % BLOCK_SECTOR || !range_ok(d, sector, len / BLOCK_SECTOR) || (write && block_readonly(d->block))) {
        finish(r, S_IOERR);
        return;
    }
    r->data_len = write ? 0 : (uint32_t)len;
    r->block.iov = iov;
    r->block.niov = (int)n;
    submit(r, write ? BLOCK_WRITE : BLOCK_READ, sector * BLOCK_SECTOR, len);
}

static void get_id(struct vblk_req *r, struct iovec *iov, unsigned n)
{
    r->data_len = (uint32_t)iov_write(iov, n, 0, r->disk->id, VBLK_ID_BYTES);
    finish(r, S_OK);
}

/* Discard and write zeroes: a list of ranges (5.2.6.2), done one after the other. */
static void start_ranges(struct vblk_req *r, const struct iovec *iov, unsigned n, uint64_t len)
{
    struct vblk *d = r->disk;
    uint8_t status = block_readonly(d->block) ? S_IOERR : S_OK;
    unsigned count = (unsigned)MIN(len / sizeof r->ranges[0], (uint64_t)VBLK_RANGES);
    if (len == 0 || len != count * sizeof r->ranges[0])
        status = S_IOERR;
    iov_read(iov, n, 0, r->ranges, count * sizeof r->ranges[0]);
    for (unsigned i = 0; i < count && status == S_OK; i++) {
        const struct vblk_range *g = &r->ranges[i];
        if ((g->flags & ~1u) || (r->type == T_DISCARD && g->flags))
            status = S_UNSUPP;
        else if (g->count == 0 || g->count > VBLK_RANGE_MAX || !range_ok(d, g->sector, g->count))
            status = S_IOERR;
    }
    if (status != S_OK) {
        finish(r, status);
        return;
    }
    r->nranges = count;
    submit_range(r);
}

static void start_request(struct vblk *d, unsigned q, struct vq_elem *e)
{
    struct vblk_header h;
    /* Without a place for the status byte there is no way to answer. */
    if (iov_read(e->out, e->nout, 0, &h, sizeof h) != sizeof h || e->in_len == 0) {
        virtio_push(&d->virtio, q, e, 0);
        virtio_break(&d->virtio, "a request has no header or no status byte");
        return;
    }
    struct vblk_req *r = calloc(1, sizeof *r);
    if (!r) {
        vq_discard(&d->virtio.queues[q], e);
        virtio_break(&d->virtio, "the host has no memory for a request");
        return;
    }
    struct iovec *out = e->out, *in = e->in;
    unsigned nout = e->nout, nin = e->nin;
    trim_front(&out, &nout, sizeof h);
    uint64_t out_len = e->out_len - sizeof h, in_len = e->in_len - 1;
    if (--in[nin - 1].iov_len == 0)
        nin--;
    *r = (struct vblk_req){.block.done = request_done, .disk = d, .elem = e, .queue = q, .type = h.type};
    switch (h.type) {
    case T_IN:
        transfer(r, h.sector, in, nin, in_len);
        break;
    case T_OUT:
        transfer(r, h.sector, out, nout, out_len);
        break;
    case T_FLUSH:
        submit(r, BLOCK_FLUSH, 0, 0);
        break;
    case T_GET_ID:
        get_id(r, in, nin);
        break;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        start_ranges(r, out, nout, out_len);
        break;
    default:
        finish(r, S_UNSUPP);
        break;
    }
}

/* ---- the I/O thread ---- */

static void vblk_queue_ready(struct virtio_dev *v, unsigned q)
{
    struct vblk *d = container_of(v, struct vblk, virtio);
    struct vq_elem *e;
    while (virtio_pop(v, q, &e) > 0)
        start_request(d, q, e);
}

/* Between two polls: what the queue gave is started, what has completed is returned. */
static void vblk_prepare(struct virtio_dev *v, struct pollset *p)
{
    struct vblk *d = container_of(v, struct vblk, virtio);
    block_poll(d->block);
    pollset_timeout(p, block_timeout(d->block));
    pollset_add(p, block_event_fd(d->block), POLLIN);
}

static void vblk_stop(struct virtio_dev *v)
{
    block_drain(container_of(v, struct vblk, virtio)->block);
}

static const struct virtio_class vblk_class = {
    .name = "virtio-blk",
    .type = 2,
    .pci_class = 0x010000,
    .queue_size = VBLK_QUEUE_SIZE,
    .config_len = sizeof(struct vblk_space),
    .config_wmask = {[CONFIG_WRITEBACK] = 1},
    .queue_ready = vblk_queue_ready,
    .stop = vblk_stop,
    .prepare = vblk_prepare,
};

int vblk_create(struct pci_host *h, const struct vblk_config *cfg, struct vblk **out, struct error *err)
{
    struct vblk *d = calloc(1, sizeof *d);
    if (!d)
        return error_set(err, 0, "device 'virtio-blk': out of memory; close other programs");
    unsigned queues = MIN(MAX(cfg->queues, 1u), VBLK_QUEUES_MAX);
    d->block = cfg->block;
    memcpy(d->id, cfg->serial ? cfg->serial : "", cfg->serial ? strnlen(cfg->serial, VBLK_ID_BYTES) : 0);
    unsigned physical = block_physical_sector(cfg->block);
    struct vblk_space space = {
        .capacity = block_size(cfg->block) / BLOCK_SECTOR,
        .seg_max = VBLK_SEG_MAX,
        .blk_size = BLOCK_SECTOR,
        .physical_block_exp = (uint8_t)__builtin_ctz(physical / BLOCK_SECTOR),
        .min_io_size = (uint16_t)(physical / BLOCK_SECTOR),
        .writeback = 1,
        .num_queues = (uint16_t)queues,
        .max_discard_sectors = VBLK_RANGE_MAX,
        .max_discard_seg = VBLK_RANGES,
        .discard_sector_alignment = physical / BLOCK_SECTOR,
        .max_write_zeroes_sectors = VBLK_RANGE_MAX,
        .max_write_zeroes_seg = VBLK_RANGES,
        .write_zeroes_may_unmap = 1,
    };
    uint64_t features = VBLK_F_SEG_MAX | VBLK_F_BLK_SIZE | VBLK_F_FLUSH | VBLK_F_TOPOLOGY | VBLK_F_CONFIG_WCE | (queues > 1 ? VBLK_F_MQ : 0);
    features |= block_readonly(cfg->block) ? VBLK_F_RO : VBLK_F_DISCARD | VBLK_F_WRITE_ZEROES;
    if (virtio_create(&d->virtio, &vblk_class, queues, h, cfg->slot, features, &space, err) < 0) {
        free(d);
        return -1;
    }
    *out = d;
    return 0;
}

const struct pci_dev *vblk_pci(const struct vblk *d)
{
    return &d->virtio.pci;
}

void vblk_destroy(struct vblk *d)
{
    if (!d)
        return;
    virtio_destroy(&d->virtio);
    free(d);
}
