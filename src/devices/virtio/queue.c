// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What both ring formats share, and the split ring (virtio 1.2, 2.7). The packed ring is in packed.c.
 *
 * A split ring is three areas: the descriptor table, the available ring that the driver writes, the used ring that the device
 * writes. Ring indices run freely over 16 bits and are taken modulo the size, which is a power of two.
 */
#include "devices/virtio/queue.h"

#include <string.h>

#include "base/util.h"
#include "devices/virtio/ring.h"

/* Offsets in the available and used rings. */
#define RING_FLAGS 0
#define RING_IDX   2
#define RING_RING  4

#define AVAIL_NO_INTERRUPT 1 /* driver: do not interrupt */
#define USED_NO_NOTIFY     1 /* device: do not kick */

/* ---- shared ---- */

int vq_break(struct vq *q, const char *rule)
{
    if (!q->broken)
        q->broken = rule;
    return -1;
}

int vq_chain_add(struct vq *q, struct vq_chain *c, uint64_t addr, uint32_t len, bool write)
{
    if (c->ndesc++ >= q->cfg.size)
        return vq_break(q, "a descriptor chain is longer than the queue");
    if (!write && c->nin)
        return vq_break(q, "a readable descriptor comes after a writable one");
    uint64_t *total = write ? &c->in_len : &c->out_len;
    *total += len;
    if (c->in_len + c->out_len > UINT32_MAX)
        return vq_break(q, "a descriptor chain holds more than 2^32 bytes");
    if (len == 0) /* no bytes, so its address means nothing */
        return 0;
    void *host = guestmem_ptr(q->mem, addr, len);
    if (!host)
        return vq_break(q, "a buffer lies outside of memory");
    c->iov[c->nout + c->nin] = (struct iovec){.iov_base = host, .iov_len = len};
    *(write ? &c->nin : &c->nout) += 1;
    return 0;
}

const uint8_t *vq_indirect_table(struct vq *q, uint64_t addr, uint32_t len, unsigned *entries)
{
    const uint8_t *table = NULL;
    *entries = len / sizeof(struct vring_desc);
    if (!q->indirect)
        vq_break(q, "an indirect descriptor was not negotiated");
    else if (len == 0 || len % sizeof(struct vring_desc))
        vq_break(q, "an indirect table is empty or not a multiple of 16 bytes");
    else if (*entries > q->cfg.size)
        vq_break(q, "an indirect table is longer than the queue");
    else if (!(table = guestmem_ptr(q->mem, addr, len)))
        vq_break(q, "an indirect table lies outside of memory");
    return table;
}

int vq_chain_finish(struct vq *q, const struct vq_chain *c, uint16_t id, uint16_t ndesc, struct vq_elem **out)
{
    unsigned n = c->nout + c->nin;
    if (q->in_flight + ndesc > q->cfg.size)
        return vq_break(q, "more descriptors are in flight than the queue has");
    struct vq_elem *e = malloc(sizeof *e + n * sizeof e->iov[0]);
    if (!e)
        return vq_break(q, "the host has no memory for a request");
    *e = (struct vq_elem){
        .id = id,
        .ndesc = ndesc,
        .nout = c->nout,
        .nin = c->nin,
        .out_len = (uint32_t)c->out_len,
        .in_len = (uint32_t)c->in_len,
    };
    e->out = e->iov;
    e->in = e->iov + c->nout;
    memcpy(e->iov, c->iov, n * sizeof e->iov[0]);
    q->in_flight += ndesc;
    *out = e;
    return 1;
}

/* ---- the split ring ---- */

static uint8_t *used_event(const struct vq *q) /* the driver's wish: interrupt when used_idx passes this */
{
    return q->driver + RING_RING + 2 * q->cfg.size;
}

static uint8_t *avail_event(const struct vq *q) /* ours: kick when the available index passes this */
{
    return q->device + RING_RING + 8 * q->cfg.size;
}

static int split_start(struct vq *q)
{
    const struct vq_config *c = &q->cfg;
    unsigned n = c->size, event = q->event_idx ? 2 : 0;
    if (n & (n - 1))
        return vq_break(q, "the queue size is not a power of two");
    if (c->desc % 16 || c->driver % 2 || c->device % 4)
        return vq_break(q, "a ring is not aligned");
    q->desc = guestmem_ptr(q->mem, c->desc, 16 * n);
    q->driver = guestmem_ptr(q->mem, c->driver, RING_RING + 2 * n + event);
    q->device = guestmem_ptr(q->mem, c->device, RING_RING + 8 * n + event);
    return q->desc && q->driver && q->device ? 0 : vq_break(q, "a ring lies outside of memory");
}

/* Walks the list of descriptors in `table`; every entry is copied before it is looked at. */
static int split_walk(struct vq *q, struct vq_chain *c, const uint8_t *table, unsigned entries, unsigned i, bool indirect)
{
    for (;;) {
        struct vring_desc d;
        if (i >= entries)
            return vq_break(q, "a descriptor index is outside of its table");
        memcpy(&d, table + sizeof d * i, sizeof d);
        if (d.flags & DESC_INDIRECT) {
            unsigned n;
            if (indirect)
                return vq_break(q, "indirect descriptors are nested");
            if (d.flags & DESC_NEXT)
                return vq_break(q, "an indirect descriptor has a successor");
            const uint8_t *inner = vq_indirect_table(q, d.addr, d.len, &n);
            return inner ? split_walk(q, c, inner, n, 0, true) : -1;
        }
        if (vq_chain_add(q, c, d.addr, d.len, d.flags & DESC_WRITE) < 0)
            return -1;
        if (!(d.flags & DESC_NEXT))
            return 0;
        i = d.next;
    }
}

static int split_pop(struct vq *q, struct vq_elem **out)
{
    uint16_t size = q->cfg.size, waiting = (uint16_t)(ring_load(q->driver + RING_IDX) - q->last_avail);
    if (waiting == 0)
        return 0;
    if (waiting > size)
        return vq_break(q, "the available index is ahead by more than the queue");
    uint16_t head = ring_load(q->driver + RING_RING + 2 * (q->last_avail % size));
    struct vq_chain c;
    c.nout = c.nin = c.ndesc = 0;
    c.out_len = c.in_len = 0;
    if (split_walk(q, &c, q->desc, size, head, false) < 0)
        return -1;
    /* Heads, not descriptors, are counted: the ring has room for that many answers. */
    if (vq_chain_finish(q, &c, head, 1, out) < 0)
        return -1;
    q->last_avail++;
    return 1;
}

static void split_push(struct vq *q, struct vq_elem *const *elems, const uint32_t *written, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint32_t entry[2] = {elems[i]->id, written[i]};
        memcpy(q->device + RING_RING + 8 * ((uint16_t)(q->used_idx + i) % q->cfg.size), entry, sizeof entry);
    }
    q->used_idx = (uint16_t)(q->used_idx + n);
    ring_store(q->device + RING_IDX, q->used_idx);
    q->unsignalled += n;
}

/* Did the index pass `event` on its way from `old` to `now`? (2.7.10) */
static bool passed(uint16_t event, uint16_t now, uint16_t old)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

static bool split_should_notify(const struct vq *q)
{
    if (!q->event_idx)
        return !(ring_load(q->driver + RING_FLAGS) & AVAIL_NO_INTERRUPT);
    return q->unsignalled > UINT16_MAX || passed(ring_load(used_event(q)), q->used_idx, (uint16_t)(q->used_idx - q->unsignalled));
}

/* With event index, wanting no kicks means leaving the event behind, where the index has passed it already. */
static void split_set_kicks(struct vq *q, bool wanted)
{
    if (!q->event_idx)
        ring_store(q->device + RING_FLAGS, wanted ? 0 : USED_NO_NOTIFY);
    else if (wanted)
        ring_store(avail_event(q), q->last_avail);
}

/* ---- the interface ---- */

int vq_start(struct vq *q, const struct guestmem *mem, const struct vq_config *cfg, bool packed, bool event_idx, bool indirect)
{
    *q = (struct vq){.mem = mem, .cfg = *cfg, .packed = packed, .event_idx = event_idx, .indirect = indirect};
    q->avail_wrap = q->used_wrap = true;
    q->started = true;
    if (cfg->size == 0 || cfg->size > VQ_SIZE_MAX)
        return vq_break(q, "the queue size is zero or too large");
    if ((packed ? vq_packed_start(q) : split_start(q)) < 0)
        return -1;
    vq_set_kicks(q, true); /* the memory may say otherwise, from a life before this one */
    return 0;
}

void vq_stop(struct vq *q)
{
    *q = (struct vq){0};
}

int vq_pop(struct vq *q, struct vq_elem **out)
{
    if (!q->started || q->broken)
        return -1;
    return q->packed ? vq_packed_pop(q, out) : split_pop(q, out);
}

void vq_push_all(struct vq *q, struct vq_elem *const *elems, const uint32_t *written, unsigned n)
{
    if (q->started && !q->broken) {
        if (q->packed)
            vq_packed_push(q, elems, written, n);
        else
            split_push(q, elems, written, n);
    }
    for (unsigned i = 0; i < n; i++)
        vq_discard(q, elems[i]);
}

void vq_push(struct vq *q, struct vq_elem *e, uint32_t written)
{
    vq_push_all(q, &e, &written, 1);
}

void vq_discard(struct vq *q, struct vq_elem *e)
{
    if (q->started)
        q->in_flight -= e->ndesc;
    free(e);
}

void vq_unpop(struct vq *q, struct vq_elem *e)
{
    if (q->packed)
        vq_packed_unpop(q, e->ndesc);
    else
        q->last_avail--;
    vq_discard(q, e);
}

bool vq_should_notify(struct vq *q)
{
    if (!q->started || q->broken || !q->unsignalled)
        return false;
    /* The used entry must be visible before the driver's wish is read (2.7.10.1). */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    bool notify = q->packed ? vq_packed_should_notify(q) : split_should_notify(q);
    q->unsignalled = 0;
    return notify;
}

bool vq_set_kicks(struct vq *q, bool wanted)
{
    if (!q->started || q->broken)
        return false;
    if (q->packed)
        vq_packed_set_kicks(q, wanted);
    else
        split_set_kicks(q, wanted);
    q->kicks_wanted = wanted;
    if (!wanted)
        return false;
    /* Our wish must be visible before the ring is looked at again, or a request between the two is never kicked. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return q->packed ? vq_packed_more(q) : ring_load(q->driver + RING_IDX) != q->last_avail;
}

uint16_t vq_answered(const struct vq *q)
{
    return ring_load(q->device + RING_IDX);
}

bool vq_unanswered(const struct vq *q)
{
    return ring_load(q->driver + RING_IDX) != vq_answered(q);
}
