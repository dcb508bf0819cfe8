/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtqueue library: split and packed rings (virtio 1.2, 2.7 and 2.8), with indirect descriptors and event index. Nothing else
 * in Lodge reads or writes a ring.
 *
 * Invariants
 * - Addresses and size are latched by vq_start(), which checks them; a later write of the guest to its registers changes nothing.
 * - Every descriptor is read from guest memory exactly once, into a local copy, and checked there. What vq_pop() hands out is host
 * memory that lies in guest RAM, in bounds; the guest can still change its contents, so a device reads each field of it once too.
 * - A chain visits at most `size` descriptors; readable buffers come before writable ones; its length fits 32 bits.
 * - At most `size` descriptors are in flight, so a guest cannot make the VMM allocate without bound.
 * - The first nonsense breaks the queue: vq_pop() returns -1 from then on, and `broken` names it.
 * - A started queue belongs to its device's I/O thread.
 */
#ifndef LODGE_DEVICES_VIRTIO_QUEUE_H
#define LODGE_DEVICES_VIRTIO_QUEUE_H

#include "base/iov.h"
#include "devices/bus.h"

#define VQ_SIZE_MAX 1024 /* descriptors; the limit of this library */

/* What the driver configures; plain registers until vq_start(). */
struct vq_config {
    uint16_t size, vector;
    uint8_t enabled;
    uint64_t desc, driver,
        device; /* guest addresses: descriptor ring; available ring or driver events; used ring or device events */
};
struct vq {
    const struct guestmem *mem;
    struct vq_config cfg; /* latched */
    bool packed, event_idx, indirect;
    bool started;
    const char *broken; /* NULL, or the rule that the driver broke */
    uint8_t *desc, *driver, *device;
    /* Split: free-running indices. Packed: positions, with the wrap counters. */
    uint16_t last_avail, used_idx;
    uint8_t avail_wrap, used_wrap;
    uint32_t unsignalled; /* answers (split) or descriptors (packed) since the last interrupt decision */
    uint8_t kicks_wanted;
    unsigned in_flight; /* descriptors of the ring handed out and not returned */
};

/* Saved state of all queues of a struct with `qcfg` and `queues`. */
#define VQ_FIELDS(s)                                                                                                                   \
    FIELD_EACH(FIELD_U16, s, qcfg, size), FIELD_EACH(FIELD_U16, s, qcfg, vector), FIELD_EACH(FIELD_U8, s, qcfg, enabled),              \
        FIELD_EACH(FIELD_U64, s, qcfg, desc), FIELD_EACH(FIELD_U64, s, qcfg, driver), FIELD_EACH(FIELD_U64, s, qcfg, device),          \
        FIELD_EACH(FIELD_U16, s, queues, last_avail), FIELD_EACH(FIELD_U16, s, queues, used_idx),                                      \
        FIELD_EACH(FIELD_U8, s, queues, avail_wrap), FIELD_EACH(FIELD_U8, s, queues, used_wrap),                                       \
        FIELD_EACH(FIELD_U32, s, queues, unsignalled), FIELD_EACH(FIELD_U8, s, queues, kicks_wanted)

/* One request: device-readable buffers first, then device-writable ones. Free it with vq_push() or vq_discard(). */
struct vq_elem {
    uint16_t id;    /* head index (split) or buffer id (packed) */
    uint16_t ndesc; /* descriptors of the ring it takes */
    unsigned nout, nin;
    uint32_t out_len, in_len; /* bytes */
    struct iovec *out, *in;
    struct iovec iov[];
};

/* Latches `cfg` and checks it. 0, or -1 with `broken` set: a queue that is enabled but unusable. */
int vq_start(struct vq *q, const struct guestmem *mem, const struct vq_config *cfg, bool packed, bool event_idx, bool indirect);
void vq_stop(struct vq *q); /* back to nothing; elements that are in flight may only be discarded */

/* 1 with the next request in *out, 0 when there is none, -1 when the queue is broken (or memory is short). */
int vq_pop(struct vq *q, struct vq_elem **out);
/* Returns a request of which `written` bytes were written; frees it. */
void vq_push(struct vq *q, struct vq_elem *e, uint32_t written);
/* The same of several, in their order: the driver sees all of them or none. 0 < n. */
void vq_push_all(struct vq *q, struct vq_elem *const *elems, const uint32_t *written, unsigned n);
/* Frees a request without telling the driver, as after a reset. */
void vq_discard(struct vq *q, struct vq_elem *e);
/* Takes back the last popped request: the next vq_pop() gives it again. Only when no other was popped or pushed since. */
void vq_unpop(struct vq *q, struct vq_elem *e);
/* Does the driver want an interrupt for what was pushed since the last call? */
bool vq_should_notify(struct vq *q);
/* Tells the driver whether to kick. After enabling, returns true when requests are there already (then poll again). */
bool vq_set_kicks(struct vq *q, bool wanted);

/* Of a split ring that another process has served, as it lies in memory: how many answers there are, and are there requests without? */
uint16_t vq_answered(const struct vq *q);
bool vq_unanswered(const struct vq *q);

#endif
