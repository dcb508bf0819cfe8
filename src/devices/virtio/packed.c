// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The packed ring (virtio 1.2, 2.8): one ring of descriptors that driver and device both write, in turns.
 *
 * Two flags tell whose a descriptor is. The driver makes it available with AVAIL equal to its wrap counter and USED the opposite;
 * the device returns it with both equal to its own. A counter flips each time its side goes round. A request takes as many
 * consecutive descriptors as it has buffers, or a single one that names an indirect table; the answer is one descriptor at the
 * place where the device is in the ring, after which it skips as many as the request took.
 */
#include <string.h>

#include "base/util.h"
#include "devices/virtio/ring.h"

#define DESC_AVAIL 0x0080
#define DESC_USED  0x8000

/* The event suppression structures: a position with its wrap counter in bit 15, and flags (2.8.14). */
#define EVENT_POSITION 0
#define EVENT_FLAGS    2
#define EVENT_BYTES    4

#define EVENT_ENABLE  0
#define EVENT_DISABLE 1
#define EVENT_DESC    2

#define OFF_FLAGS 14 /* in a descriptor */

static uint8_t *desc_at(const struct vq *q, uint16_t position)
{
    return q->desc + sizeof(struct vring_packed_desc) * position;
}

static bool available(uint16_t flags, bool wrap)
{
    return !!(flags & DESC_AVAIL) == wrap && !!(flags & DESC_USED) != wrap;
}

/* Moves a position on by n descriptors. */
static void advance(const struct vq *q, uint16_t *position, uint8_t *wrap, unsigned n)
{
    unsigned p = *position + n;
    if (p >= q->cfg.size) {
        p -= q->cfg.size;
        *wrap ^= 1;
    }
    *position = (uint16_t)p;
}

int vq_packed_start(struct vq *q)
{
    const struct vq_config *c = &q->cfg;
    if (c->desc % 16 || c->driver % 4 || c->device % 4)
        return vq_break(q, "a ring is not aligned");
    q->desc = guestmem_ptr(q->mem, c->desc, sizeof(struct vring_packed_desc) * c->size);
    q->driver = guestmem_ptr(q->mem, c->driver, EVENT_BYTES);
    q->device = guestmem_ptr(q->mem, c->device, EVENT_BYTES);
    return q->desc && q->driver && q->device ? 0 : vq_break(q, "a ring lies outside of memory");
}

bool vq_packed_more(const struct vq *q)
{
    return available(ring_load(desc_at(q, q->last_avail) + OFF_FLAGS), q->avail_wrap);
}

/* In an indirect table only WRITE counts: the entries are one chain (2.8.7). */
static int walk_table(struct vq *q, struct vq_chain *c, const struct vring_packed_desc *outer)
{
    unsigned n;
    const uint8_t *table = vq_indirect_table(q, outer->addr, outer->len, &n);
    if (!table)
        return -1;
    for (unsigned i = 0; i < n; i++) {
        struct vring_packed_desc d;
        memcpy(&d, table + sizeof d * i, sizeof d);
        if (d.flags & DESC_INDIRECT)
            return vq_break(q, "indirect descriptors are nested");
        if (vq_chain_add(q, c, d.addr, d.len, d.flags & DESC_WRITE) < 0)
            return -1;
    }
    return 0;
}

/* Walks the descriptors from last_avail on; *taken of the ring, and the last one's buffer id. */
static int walk_ring(struct vq *q, struct vq_chain *c, unsigned *taken, uint16_t *id)
{
    uint16_t position = q->last_avail;
    uint8_t wrap = q->avail_wrap;
    for (*taken = 0;;) {
        struct vring_packed_desc d;
        if (*taken == q->cfg.size)
            return vq_break(q, "a descriptor chain is longer than the queue");
        memcpy(&d, desc_at(q, position), sizeof d);
        ++*taken;
        *id = d.id;
        if (d.flags & DESC_INDIRECT) {
            if ((d.flags & DESC_NEXT) || *taken > 1)
                return vq_break(q, "an indirect descriptor is part of a list");
            return walk_table(q, c, &d);
        }
        if (vq_chain_add(q, c, d.addr, d.len, d.flags & DESC_WRITE) < 0)
            return -1;
        if (!(d.flags & DESC_NEXT))
            return 0;
        advance(q, &position, &wrap, 1);
    }
}

int vq_packed_pop(struct vq *q, struct vq_elem **out)
{
    struct vq_chain c;
    unsigned taken;
    uint16_t id = 0;
    if (!vq_packed_more(q))
        return 0;
    c.nout = c.nin = c.ndesc = 0;
    c.out_len = c.in_len = 0;
    if (walk_ring(q, &c, &taken, &id) < 0 || vq_chain_finish(q, &c, id, (uint16_t)taken, out) < 0)
        return -1;
    advance(q, &q->last_avail, &q->avail_wrap, taken);
    return 1;
}

void vq_packed_unpop(struct vq *q, unsigned ndesc)
{
    unsigned back = q->cfg.size - ndesc;
    /* Forward by the size is once round, which flips the counter; back by ndesc flips it only when it passes the start. */
    q->avail_wrap ^= 1;
    advance(q, &q->last_avail, &q->avail_wrap, back);
}

/* The driver looks at them in their order, so the first one's flags come last. */
void vq_packed_push(struct vq *q, struct vq_elem *const *elems, const uint32_t *written, unsigned n)
{
    uint8_t *first = desc_at(q, q->used_idx);
    uint16_t first_flags = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct vq_elem *e = elems[i];
        uint8_t *p = desc_at(q, q->used_idx);
        struct vring_packed_desc d = {.len = written[i], .id = e->id};
        uint16_t flags = (q->used_wrap ? DESC_AVAIL | DESC_USED : 0) | (e->nin ? DESC_WRITE : 0);
        memcpy(p + offsetof(struct vring_packed_desc, len), &d.len, sizeof d.len);
        memcpy(p + offsetof(struct vring_packed_desc, id), &d.id, sizeof d.id);
        if (i == 0)
            first_flags = flags;
        else
            ring_store(p + OFF_FLAGS, flags);
        advance(q, &q->used_idx, &q->used_wrap, e->ndesc);
        q->unsignalled += e->ndesc;
    }
    ring_store(first + OFF_FLAGS, first_flags);
}

bool vq_packed_should_notify(const struct vq *q)
{
    uint16_t flags = ring_load(q->driver + EVENT_FLAGS) & 3;
    if (flags != EVENT_DESC || !q->event_idx)
        return flags != EVENT_DISABLE;
    if (q->unsignalled >= q->cfg.size)
        return true;
    uint16_t event = ring_load(q->driver + EVENT_POSITION);
    /* Positions of the other round count from one ring length below, so that the comparison is linear (2.8.10). */
    int at = event & 0x7fff;
    if (!!(event & 0x8000) != q->used_wrap)
        at -= q->cfg.size;
    return at >= (int)q->used_idx - (int)q->unsignalled && at < q->used_idx;
}

void vq_packed_set_kicks(struct vq *q, bool wanted)
{
    if (!wanted) {
        ring_store(q->device + EVENT_FLAGS, EVENT_DISABLE);
    } else if (q->event_idx) {
        ring_store(q->device + EVENT_POSITION, (uint16_t)(q->last_avail | (q->avail_wrap ? 0x8000 : 0)));
        ring_store(q->device + EVENT_FLAGS, EVENT_DESC);
    } else {
        ring_store(q->device + EVENT_FLAGS, EVENT_ENABLE);
    }
}
