/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of the virtqueue library: descriptors as they lie in memory, and the collector of a request's buffers. */
#ifndef LODGE_DEVICES_VIRTIO_RING_H
#define LODGE_DEVICES_VIRTIO_RING_H

#include "devices/virtio/queue.h"

#define DESC_NEXT     0x0001
#define DESC_WRITE    0x0002
#define DESC_INDIRECT 0x0004

/* A split ring's descriptor (virtio 1.2, 2.7.5). */
struct vring_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* A packed ring's descriptor (2.8.13). */
struct vring_packed_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t id, flags;
};

_Static_assert(sizeof(struct vring_desc) == 16 && sizeof(struct vring_packed_desc) == 16, "descriptors are 16 bytes");

/* The buffers of one request, while its descriptors are walked. */
struct vq_chain {
    unsigned nout, nin, ndesc;
    uint64_t out_len, in_len;
    struct iovec iov[VQ_SIZE_MAX];
};

/* The ring's atomics. Guest and device share this memory; nothing else in it is read twice. */
static inline uint16_t ring_load(const void *p)
{
    return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
}
static inline void ring_store(void *p, uint16_t v)
{
    __atomic_store_n((uint16_t *)p, v, __ATOMIC_RELEASE);
}

/* Marks the queue broken; returns -1. */
int vq_break(struct vq *q, const char *rule);
/* Checks one buffer and adds it to the chain. 0, or -1 with the queue broken. */
int vq_chain_add(struct vq *q, struct vq_chain *c, uint64_t addr, uint32_t len, bool write);
/* Checks an indirect table's place and size (2.7.5.3): its host address and number of entries. */
const uint8_t *vq_indirect_table(struct vq *q, uint64_t addr, uint32_t len, unsigned *entries);
/* A request out of a finished chain. 1, or -1 with the queue broken. */
int vq_chain_finish(struct vq *q, const struct vq_chain *c, uint16_t id, uint16_t ndesc, struct vq_elem **out);

int vq_packed_start(struct vq *q);
int vq_packed_pop(struct vq *q, struct vq_elem **out);
void vq_packed_unpop(struct vq *q, unsigned ndesc);
void vq_packed_push(struct vq *q, struct vq_elem *const *elems, const uint32_t *written, unsigned n);
bool vq_packed_should_notify(const struct vq *q);
void vq_packed_set_kicks(struct vq *q, bool wanted);
bool vq_packed_more(const struct vq *q);

#endif
