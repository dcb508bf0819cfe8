// SPDX-License-Identifier: GPL-2.0-or-later
/* The transmission phase (proto. "Transmission"). */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "block/nbd_server.h"
#include "block/qcow2.h"

#define REQUEST_MAGIC 0x25609513u
#define SIMPLE_MAGIC  0x67446698u
#define CHUNK_MAGIC   0x668e33efu
#define EXTENTS_MAX   4096u /* of one answer */

enum { CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS };
enum { FLAG_FUA = 1, FLAG_NO_HOLE = 2, FLAG_DF = 4, FLAG_REQ_ONE = 8 };
enum { CHUNK_NONE = 0, CHUNK_DATA = 1, CHUNK_HOLE = 2, CHUNK_STATUS = 5, CHUNK_ERROR = 32769 };
enum { CHUNK_DONE = 1 };
enum { STATE_HOLE = 1, STATE_ZERO = 2 };

struct request {
    struct nbd_conn *c;
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t len;
    uint64_t held; /* bytes of the connection's budget */
    uint8_t *buf;
};

/* ---- answers ---- */

static uint32_t nbd_error(int ret) /* proto. "Error values" */
{
    switch (-ret) {
    case 0: return 0;
    case EPERM:
    case EROFS: return 1;
    case ENOMEM: return 12;
    case EINVAL: return 22;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return 28;
    case EOPNOTSUPP: return 95;
    default: return 5;
    }
}

static int send_simple(struct request *r, int result, const void *data, uint32_t len)
{
    uint8_t head[16];
    nbd_put(head, SIMPLE_MAGIC, 4);
    nbd_put(head + 4, nbd_error(result), 4);
    nbd_put(head + 8, r->cookie, 8);
    int ret = nbd_send(r->c, head, sizeof head);
    return ret < 0 || result < 0 || !len ? ret : nbd_send(r->c, data, len);
}

static int send_chunk(struct request *r, uint16_t flags, uint16_t type, const void *first, uint32_t first_len, const void *rest, uint32_t rest_len)
{
    uint8_t head[20 + 16];
    nbd_put(head, CHUNK_MAGIC, 4);
    nbd_put(head + 4, flags, 2);
    nbd_put(head + 6, type, 2);
    nbd_put(head + 8, r->cookie, 8);
    nbd_put(head + 16, first_len + rest_len, 4);
    if (first_len)
        memcpy(head + 20, first, first_len);
    int ret = nbd_send(r->c, head, 20 + first_len);
    return ret < 0 || !rest_len ? ret : nbd_send(r->c, rest, rest_len);
}

static void answer(struct request *r, int result)
{
    struct io_loop *l = r->c->server->image->loop;
    uint8_t error[6] = {0};
    fiber_lock(&r->c->sending);
    if (!r->c->structured) {
        send_simple(r, result, NULL, 0);
    } else if (result < 0) {
        nbd_put(error, nbd_error(result), 4);
        send_chunk(r, CHUNK_DONE, CHUNK_ERROR, error, sizeof error, NULL, 0);
    } else {
        send_chunk(r, CHUNK_DONE, CHUNK_NONE, NULL, 0, NULL, 0);
    }
    fiber_unlock(l, &r->c->sending);
}

/* ---- reads and writes: the image wants whole sectors ---- */

static int read_sectors(struct request *r, const uint8_t **data)
{
    uint64_t from = ALIGN_DOWN(r->offset, (uint64_t)BLOCK_SECTOR), to = ALIGN_UP(r->offset + r->len, (uint64_t)BLOCK_SECTOR);
    if (!(r->buf = malloc(to - from + 1)))
        return -ENOMEM;
    struct iovec iov = {r->buf, to - from};
    *data = r->buf + (r->offset - from);
    return image_read(r->c->server->image, from, to - from, &iov, 1);
}

static void read_request(struct request *r)
{
    struct nbd_server *s = r->c->server;
    uint64_t len = r->len;
    const uint8_t *data = NULL;
    bool zero = false;
    uint8_t head[12];
    int ret = r->c->structured && len ? image_is_zero(s->image, r->offset, &len, &zero) : 0;
    zero = zero && len == r->len && r->len;
    if (ret == 0 && !zero)
        ret = read_sectors(r, &data);
    if (ret < 0) {
        answer(r, ret);
        return;
    }
    fiber_lock(&r->c->sending);
    nbd_put(head, r->offset, 8);
    nbd_put(head + 8, r->len, 4);
    if (!r->c->structured)
        send_simple(r, 0, data, r->len);
    else if (zero)
        send_chunk(r, CHUNK_DONE, CHUNK_HOLE, head, 12, NULL, 0);
    else if (r->len)
        send_chunk(r, CHUNK_DONE, CHUNK_DATA, head, 8, data, r->len);
    else
        send_chunk(r, CHUNK_DONE, CHUNK_NONE, NULL, 0, NULL, 0);
    fiber_unlock(s->image->loop, &r->c->sending);
}

/* What does not cover whole sectors is written with what is around it; one such write at a time. `data` NULL: zeroes. */
static int write_around(struct nbd_server *s, uint64_t offset, uint64_t len, const uint8_t *data)
{
    uint64_t from = ALIGN_DOWN(offset, (uint64_t)BLOCK_SECTOR), to = ALIGN_UP(offset + len, (uint64_t)BLOCK_SECTOR);
    AUTO_FREE uint8_t *buf = malloc(to - from);
    struct iovec iov = {buf, to - from};
    if (!buf)
        return -ENOMEM;
    fiber_lock(&s->unaligned);
    int ret = image_read(s->image, from, to - from, &iov, 1);
    if (ret == 0) {
        if (data)
            memcpy(buf + (offset - from), data, len);
        else
            memset(buf + (offset - from), 0, len);
        ret = image_write(s->image, from, to - from, &iov, 1);
    }
    fiber_unlock(s->image->loop, &s->unaligned);
    return ret;
}

static int write_request(struct request *r)
{
    struct nbd_server *s = r->c->server;
    struct iovec iov = {r->buf, r->len};
    if (!r->len)
        return 0;
    if ((r->offset | r->len) % BLOCK_SECTOR)
        return write_around(s, r->offset, r->len, r->buf);
    return image_write(s->image, r->offset, r->len, &iov, 1);
}

static int zero_request(struct request *r)
{
    struct nbd_server *s = r->c->server;
    uint64_t end = r->offset + r->len, from = ALIGN_UP(r->offset, (uint64_t)BLOCK_SECTOR), to = ALIGN_DOWN(end, (uint64_t)BLOCK_SECTOR);
    if (from > to || (from == to && r->offset / BLOCK_SECTOR == (end - 1) / BLOCK_SECTOR))
        return r->len ? write_around(s, r->offset, r->len, NULL) : 0;
    int ret = from > r->offset ? write_around(s, r->offset, from - r->offset, NULL) : 0;
    if (ret == 0 && to > from)
        ret = image_zero(s->image, from, to - from, !(r->flags & FLAG_NO_HOLE));
    if (ret == 0 && end > to)
        ret = write_around(s, to, end - to, NULL);
    return ret;
}

static int trim_request(struct request *r)
{
    uint64_t from = ALIGN_UP(r->offset, (uint64_t)BLOCK_SECTOR), to = ALIGN_DOWN(r->offset + r->len, (uint64_t)BLOCK_SECTOR);
    return to > from ? image_discard(r->c->server->image, from, to - from) : 0;
}

/* ---- block status ---- */

typedef int status_fn(struct nbd_server *s, uint64_t offset, uint64_t *len, uint32_t *state);

static int allocation_at(struct nbd_server *s, uint64_t offset, uint64_t *len, uint32_t *state)
{
    bool zero;
    int ret = image_is_zero(s->image, offset, len, &zero);
    *state = zero ? STATE_HOLE | STATE_ZERO : 0;
    return ret;
}

static int dirty_at(struct nbd_server *s, uint64_t offset, uint64_t *len, uint32_t *state)
{
    bool dirty;
    int ret = qcow2_bitmap_at(s->image, s->bitmap, offset, len, &dirty);
    *state = dirty;
    return ret;
}

/* One chunk: the context's id, and pairs of length and state. */
static int status_chunk(struct request *r, uint32_t id, status_fn *at, uint16_t flags)
{
    AUTO_FREE uint8_t *pairs = malloc(8 * EXTENTS_MAX);
    unsigned n = 0, max = r->flags & FLAG_REQ_ONE ? 1 : EXTENTS_MAX;
    uint32_t last = UINT32_MAX;
    int ret = pairs ? 0 : -ENOMEM;
    for (uint64_t done = 0, len; ret == 0 && done < r->len; done += len) {
        uint32_t state = 0;
        len = r->len - done;
        ret = at(r->c->server, r->offset + done, &len, &state);
        if (ret == 0 && state == last) {
            nbd_put(pairs + 8 * (n - 1), nbd_get(pairs + 8 * (n - 1), 4) + len, 4);
            continue;
        }
        if (ret < 0 || n == max)
            break;
        nbd_put(pairs + 8 * n, len, 4);
        nbd_put(pairs + 8 * n++ + 4, state, 4);
        last = state;
    }
    if (ret < 0)
        return ret;
    uint8_t head[4];
    nbd_put(head, id, 4);
    fiber_lock(&r->c->sending);
    send_chunk(r, flags, CHUNK_STATUS, head, sizeof head, pairs, 8 * n);
    fiber_unlock(r->c->server->image->loop, &r->c->sending);
    return 0;
}

static void status_request(struct request *r)
{
    int ret = (r->c->allocation || r->c->dirty) && r->len ? 0 : -EINVAL;
    if (ret == 0 && r->c->allocation)
        ret = status_chunk(r, NBD_ALLOCATION_ID, allocation_at, r->c->dirty ? 0 : CHUNK_DONE);
    if (ret == 0 && r->c->dirty)
        ret = status_chunk(r, NBD_DIRTY_ID, dirty_at, CHUNK_DONE);
    if (ret < 0)
        answer(r, ret);
}

/* ---- requests ---- */

static int check(const struct request *r)
{
    const struct nbd_server *s = r->c->server;
    bool changes = r->type == CMD_WRITE || r->type == CMD_TRIM || r->type == CMD_WRITE_ZEROES;
    if (changes && s->readonly)
        return -EPERM;
    if (r->type > CMD_BLOCK_STATUS || r->type == CMD_DISC || r->type == CMD_CACHE)
        return -EINVAL;
    if (r->offset > s->image->size || r->len > s->image->size - r->offset)
        return changes ? -ENOSPC : -EINVAL;
    if (r->type == CMD_READ && r->len > NBD_REQUEST_MAX)
        return -EINVAL;
    return 0;
}

static void perform(struct request *r)
{
    int ret = 0;
    switch (r->type) {
    case CMD_READ: read_request(r); return;
    case CMD_BLOCK_STATUS: status_request(r); return;
    case CMD_WRITE: ret = write_request(r); break;
    case CMD_WRITE_ZEROES: ret = zero_request(r); break;
    case CMD_TRIM: ret = trim_request(r); break;
    case CMD_FLUSH: ret = image_flush(r->c->server->image); break;
    }
    if (ret == 0 && (r->flags & FLAG_FUA) && r->type != CMD_FLUSH)
        ret = image_flush(r->c->server->image);
    answer(r, ret);
}

static void end_request(struct request *r)
{
    struct nbd_conn *c = r->c;
    c->requests--;
    c->in_flight -= r->held;
    free(r->buf);
    free(r);
    if (c->throttled)
        fiber_queue_push(&c->server->image->loop->ready, c->throttled);
    c->throttled = NULL;
}

static void run(void *arg)
{
    struct request *r = arg;
    perform(r);
    end_request(r);
}

/* Reads a request's head; whatever follows is the caller's. */
static int receive_head(struct nbd_conn *c, struct request *r)
{
    uint8_t head[28];
    int ret = nbd_receive(c, head, sizeof head);
    if (ret < 0)
        return ret;
    if (nbd_get(head, 4) != REQUEST_MAGIC)
        return -EPROTO;
    *r = (struct request){.c = c, .flags = (uint16_t)nbd_get(head + 4, 2), .type = (uint16_t)nbd_get(head + 6, 2), .cookie = nbd_get(head + 8, 8),
                          .offset = nbd_get(head + 16, 8), .len = (uint32_t)nbd_get(head + 24, 4)};
    return r->type == CMD_WRITE && r->len > NBD_REQUEST_MAX ? -EPROTO : 0;
}

static void wait_for_room(struct nbd_conn *c, uint64_t bytes)
{
    while (c->requests && (c->in_flight + bytes > NBD_IN_FLIGHT || c->requests >= LOOP_DEPTH)) {
        c->throttled = fiber_self();
        fiber_yield();
    }
}

/* Receives what a write carries, and starts the request. */
static int start(struct nbd_conn *c, const struct request *head)
{
    int bad = check(head), ret = 0;
    struct request *r = malloc(sizeof *r);
    if (!r)
        return -ENOMEM;
    *r = *head;
    r->held = bad < 0 ? 0 : r->type == CMD_READ || r->type == CMD_WRITE ? r->len : r->type == CMD_BLOCK_STATUS ? 8 * EXTENTS_MAX : 0;
    wait_for_room(c, r->held);
    c->requests++;
    c->in_flight += r->held;
    if (r->type == CMD_WRITE && bad < 0)
        ret = nbd_skip(c, r->len);
    else if (r->type == CMD_WRITE && (r->buf = malloc(MAX(r->len, 1u))))
        ret = nbd_receive(c, r->buf, r->len);
    else if (r->type == CMD_WRITE)
        ret = -ENOMEM;
    if (ret == 0 && bad == 0 && (ret = io_loop_spawn(c->server->image->loop, run, r)) == 0)
        return 0;
    if (bad < 0 && ret == 0)
        answer(r, bad);
    end_request(r);
    return ret;
}

int nbd_serve_requests(struct nbd_conn *c)
{
    int ret;
    for (;;) {
        struct request head;
        if ((ret = receive_head(c, &head)) < 0 || head.type == CMD_DISC || (ret = start(c, &head)) < 0)
            break;
    }
    if (ret < 0)
        nbd_hang_up(c); /* nobody reads the answers that are still to come */
    while (c->requests) {
        c->throttled = fiber_self();
        fiber_yield();
    }
    return ret;
}
