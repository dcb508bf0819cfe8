/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio driver for tests, written from the specification: it finds a device on PCI, negotiates, lays out split or packed rings
 * in guest memory and moves buffers. It is polite; hostile tests reach into its rings.
 */
#ifndef LODGE_TESTS_DRIVER_H
#define LODGE_TESTS_DRIVER_H

#include "rig.h"

#define DRV_QUEUES 20
#define DRV_SIZE   256 /* largest queue, descriptors */

#define DRV_PACKED   (1ull << 34)
#define DRV_EVENT    (1ull << 29)
#define DRV_INDIRECT (1ull << 28)
#define DRV_V1       (1ull << 32)

struct drv_buf {
    uint64_t addr;
    uint32_t len;
    bool write; /* by the device */
};

struct drv_queue {
    uint16_t size;
    uint64_t desc, driver, device; /* guest addresses */
    uint64_t tables;               /* one indirect table of 64 entries for each descriptor */
    uint16_t next_avail, last_used;
    bool avail_wrap, used_wrap;
    uint16_t free_head, nfree;
    uint16_t next[DRV_SIZE];  /* split: the free list; packed: free ids */
    uint16_t count[DRV_SIZE]; /* descriptors of the request with this id */
    uint16_t kicked_at;       /* split: next_avail at the last kick decision */
};

struct drv {
    struct rig *rig;
    unsigned devfn;
    uint64_t common, notify, isr, device; /* guest addresses of the structures */
    uint32_t notify_multiplier;
    uint64_t features;
    bool msix;
    unsigned vector_base; /* MSI data of the configuration vector; queue q has vector_base + 1 + q */
    unsigned nqueues;
    struct drv_queue q[DRV_QUEUES];
};

/* Finds the structures and enables decoding, bus mastering and MSI-X (or INTx); resets the device. */
void drv_find(struct drv *d, struct rig *r, unsigned devfn, bool msix, unsigned vector_base);
/* Negotiates what the device offers of `want` (VERSION_1 is added), sets up the queues, DRIVER_OK. */
void drv_start(struct drv *d, uint64_t want, unsigned nqueues, uint16_t size);
/* The steps of drv_start. */
void drv_negotiate(struct drv *d, uint64_t want);
void drv_setup_queue(struct drv *d, unsigned q, uint16_t size);
void drv_ok(struct drv *d);
void drv_layout(struct drv *d, unsigned q, uint16_t size); /* rings in memory only */
/* Writes 0 to the status and waits until it reads 0; false after a minute. */
bool drv_reset(struct drv *d);

uint64_t drv_read(struct drv *d, unsigned off, unsigned size); /* common configuration */
void drv_write(struct drv *d, unsigned off, unsigned size, uint64_t val);

/* Adds a request, readable buffers first; its id. */
uint16_t drv_add(struct drv *d, unsigned q, const struct drv_buf *bufs, unsigned n);
void drv_kick(struct drv *d, unsigned q); /* if the device wants one */
void drv_force_kick(struct drv *d, unsigned q);
/* Takes one answer; false when there is none. */
bool drv_take(struct drv *d, unsigned q, uint16_t *id, uint32_t *len);
/* With event index: asks for an interrupt at the next answer, and no more behind it. */
void drv_arm(struct drv *d, unsigned q);
/* As drv_take, waiting up to a minute with interrupts. */
bool drv_wait(struct drv *d, unsigned q, uint16_t *id, uint32_t *len);
/* Adds, kicks, waits: the length of the answer. */
uint32_t drv_do(struct drv *d, unsigned q, const struct drv_buf *bufs, unsigned n);

enum {
    DRV_OFFERED_SELECT = 0,
    DRV_OFFERED = 4,
    DRV_FEATURES_SELECT = 8,
    DRV_FEATURES = 12,
    DRV_CONFIG_VECTOR = 16,
    DRV_NUM_QUEUES = 18,
    DRV_STATUS = 20,
    DRV_GENERATION = 21,
    DRV_QUEUE_SELECT = 22,
    DRV_QUEUE_SIZE = 24,
    DRV_QUEUE_VECTOR = 26,
    DRV_QUEUE_ENABLE = 28,
    DRV_NOTIFY_OFF = 30,
    DRV_QUEUE_DESC = 32,
    DRV_QUEUE_DRIVER = 40,
    DRV_QUEUE_DEVICE = 48,
};

#endif
