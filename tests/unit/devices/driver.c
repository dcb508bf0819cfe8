// SPDX-License-Identifier: GPL-2.0-or-later
#include "driver.h"

#include <string.h>

#include "base/util.h"

#define TABLE_ENTRIES 64
#define F_NEXT        1
#define F_WRITE       2
#define F_INDIRECT    4
#define F_AVAIL       0x80
#define F_USED        0x8000

/* ---- guest memory ---- */

static void put16(struct drv *d, uint64_t gpa, uint16_t v)
{
    __atomic_store_n((uint16_t *)rig_at(d->rig, gpa), v, __ATOMIC_RELEASE);
}

static uint16_t get16(struct drv *d, uint64_t gpa)
{
    return __atomic_load_n((uint16_t *)rig_at(d->rig, gpa), __ATOMIC_ACQUIRE);
}

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t a, b; /* split: flags, next; packed: id, flags */
};

static void put_desc(struct drv *d, uint64_t table, unsigned i, struct desc desc)
{
    memcpy(rig_at(d->rig, table + 16 * i), &desc, sizeof desc);
}

/* ---- finding the device ---- */

uint64_t drv_read(struct drv *d, unsigned off, unsigned size)
{
    return rig_read(d->rig, BUS_MMIO, d->common + off, size);
}

void drv_write(struct drv *d, unsigned off, unsigned size, uint64_t val)
{
    rig_write(d->rig, BUS_MMIO, d->common + off, size, val);
}

static uint64_t bar_address(struct drv *d, unsigned bar)
{
    uint32_t low = rig_cfg_read(d->rig, d->devfn, 0x10 + 4 * bar, 4);
    uint64_t high = (low & 6) == 4 ? rig_cfg_read(d->rig, d->devfn, 0x14 + 4 * bar, 4) : 0;
    return high << 32 | (low & ~0xfu);
}

static void find_structures(struct drv *d)
{
    for (unsigned at = rig_cap(d->rig, d->devfn, 9, 0); at; at = rig_cap(d->rig, d->devfn, 9, at)) {
        uint64_t addr = bar_address(d, rig_cfg_read(d->rig, d->devfn, at + 4, 1)) + rig_cfg_read(d->rig, d->devfn, at + 8, 4);
        switch (rig_cfg_read(d->rig, d->devfn, at + 3, 1)) {
        case 1:
            d->common = addr;
            break;
        case 2:
            d->notify = addr;
            d->notify_multiplier = rig_cfg_read(d->rig, d->devfn, at + 16, 4);
            break;
        case 3:
            d->isr = addr;
            break;
        case 4:
            d->device = addr;
            break;
        }
    }
    CHECK(d->common && d->notify && d->isr);
}

static void enable_msix(struct drv *d)
{
    unsigned cap = rig_cap(d->rig, d->devfn, 0x11, 0);
    CHECK(cap);
    uint32_t where = rig_cfg_read(d->rig, d->devfn, cap + 4, 4);
    unsigned n = (rig_cfg_read(d->rig, d->devfn, cap + 2, 2) & 0x7ff) + 1;
    uint64_t table = bar_address(d, where & 7) + (where & ~7u);
    for (unsigned i = 0; i < n; i++) {
        rig_write(d->rig, BUS_MMIO, table + 16 * i, 8, 0xfee00000);
        rig_write(d->rig, BUS_MMIO, table + 16 * i + 8, 4, d->vector_base + i);
        rig_write(d->rig, BUS_MMIO, table + 16 * i + 12, 4, 0);
    }
    rig_cfg_write(d->rig, d->devfn, cap + 2, 2, 0x8000);
}

void drv_find(struct drv *d, struct rig *r, unsigned devfn, bool msix, unsigned vector_base)
{
    *d = (struct drv){.rig = r, .devfn = devfn, .msix = msix, .vector_base = vector_base};
    rig_cfg_write(r, devfn, 4, 2, rig_cfg_read(r, devfn, 4, 2) | 6);
    find_structures(d);
    if (msix)
        enable_msix(d);
    CHECK(drv_reset(d));
}

bool drv_reset(struct drv *d)
{
    uint64_t deadline = now_ns() + 60 * NS_PER_S;
    drv_write(d, DRV_STATUS, 1, 0);
    while (drv_read(d, DRV_STATUS, 1) != 0) {
        if (now_ns() > deadline)
            return false;
        usleep(100);
    }
    return true;
}

void drv_negotiate(struct drv *d, uint64_t want)
{
    drv_write(d, DRV_STATUS, 1, 1);
    drv_write(d, DRV_STATUS, 1, 3);
    uint64_t offered = 0;
    for (unsigned i = 0; i < 2; i++) {
        drv_write(d, DRV_OFFERED_SELECT, 4, i);
        offered |= drv_read(d, DRV_OFFERED, 4) << (32 * i);
    }
    d->features = offered & (want | DRV_V1);
    for (unsigned i = 0; i < 2; i++) {
        drv_write(d, DRV_FEATURES_SELECT, 4, i);
        drv_write(d, DRV_FEATURES, 4, (uint32_t)(d->features >> (32 * i)));
    }
    drv_write(d, DRV_STATUS, 1, 11);
    CHECK_EQ(drv_read(d, DRV_STATUS, 1), 11);
}

void drv_layout(struct drv *d, unsigned n, uint16_t size)
{
    struct drv_queue *q = &d->q[n];
    bool packed = d->features & DRV_PACKED;
    *q = (struct drv_queue){.size = size, .avail_wrap = true, .used_wrap = true, .nfree = size};
    for (unsigned i = 0; i < q->size; i++)
        q->next[i] = (uint16_t)(i + 1);
    q->desc = rig_alloc(d->rig, 16 * q->size, 16);
    q->driver = rig_alloc(d->rig, packed ? 4 : 6 + 2 * q->size, 4);
    q->device = rig_alloc(d->rig, packed ? 4 : 6 + 8 * q->size, 4);
    q->tables = rig_alloc(d->rig, 16 * TABLE_ENTRIES * q->size, 16);
}

void drv_setup_queue(struct drv *d, unsigned n, uint16_t size)
{
    struct drv_queue *q = &d->q[n];
    drv_write(d, DRV_QUEUE_SELECT, 2, n);
    uint16_t max = (uint16_t)drv_read(d, DRV_QUEUE_SIZE, 2);
    CHECK(max > 0 && max <= DRV_SIZE);
    drv_layout(d, n, MIN(size, max));
    drv_write(d, DRV_QUEUE_SIZE, 2, q->size);
    drv_write(d, DRV_QUEUE_VECTOR, 2, d->msix ? n + 1 : 0xffff);
    drv_write(d, DRV_QUEUE_DESC, 8, q->desc);
    drv_write(d, DRV_QUEUE_DRIVER, 4, (uint32_t)q->driver);
    drv_write(d, DRV_QUEUE_DRIVER + 4, 4, q->driver >> 32);
    drv_write(d, DRV_QUEUE_DEVICE, 8, q->device);
    drv_write(d, DRV_QUEUE_ENABLE, 2, 1);
    CHECK_EQ(drv_read(d, DRV_QUEUE_ENABLE, 2), 1);
}

void drv_ok(struct drv *d)
{
    if (d->msix) {
        drv_write(d, DRV_CONFIG_VECTOR, 2, 0);
        CHECK_EQ(drv_read(d, DRV_CONFIG_VECTOR, 2), 0);
    }
    drv_write(d, DRV_STATUS, 1, 15);
}

void drv_start(struct drv *d, uint64_t want, unsigned nqueues, uint16_t size)
{
    d->nqueues = nqueues;
    drv_negotiate(d, want);
    CHECK(drv_read(d, DRV_NUM_QUEUES, 2) >= nqueues);
    for (unsigned i = 0; i < nqueues; i++)
        drv_setup_queue(d, i, size);
    drv_ok(d);
}

/* ---- adding ---- */

static bool want_indirect(const struct drv *d, unsigned n)
{
    return (d->features & DRV_INDIRECT) && n > 1 && n <= TABLE_ENTRIES;
}

/* Fills the indirect table of a request; its address. */
static uint64_t fill_table(struct drv *d, struct drv_queue *q, uint16_t id, const struct drv_buf *bufs, unsigned n)
{
    uint64_t table = q->tables + 16ull * TABLE_ENTRIES * id;
    bool packed = d->features & DRV_PACKED;
    for (unsigned i = 0; i < n; i++) {
        uint16_t flags = bufs[i].write ? F_WRITE : 0;
        if (!packed && i + 1 < n)
            flags |= F_NEXT;
        put_desc(d, table, i, (struct desc){bufs[i].addr, bufs[i].len, packed ? 0 : flags, packed ? flags : (uint16_t)(i + 1)});
    }
    return table;
}

static uint16_t add_split(struct drv *d, struct drv_queue *q, const struct drv_buf *bufs, unsigned n)
{
    uint16_t head = q->free_head, i = head;
    bool indirect = want_indirect(d, n);
    unsigned need = indirect ? 1 : n;
    CHECK(q->nfree >= need);
    for (unsigned k = 0; k < need; k++) {
        struct desc desc = {bufs[k].addr, bufs[k].len, bufs[k].write ? F_WRITE : 0, q->next[i]};
        if (indirect)
            desc = (struct desc){fill_table(d, q, head, bufs, n), 16 * n, F_INDIRECT, 0};
        else if (k + 1 < need)
            desc.a |= F_NEXT;
        put_desc(d, q->desc, i, desc);
        q->free_head = q->next[i];
        i = q->next[i];
    }
    q->nfree -= need;
    q->count[head] = (uint16_t)need;
    put16(d, q->driver + 4 + 2 * (q->next_avail % q->size), head);
    put16(d, q->driver + 2, ++q->next_avail);
    return head;
}

static uint16_t add_packed(struct drv *d, struct drv_queue *q, const struct drv_buf *bufs, unsigned n)
{
    uint16_t id = q->free_head, first = q->next_avail, first_flags = 0;
    bool indirect = want_indirect(d, n);
    unsigned need = indirect ? 1 : n;
    CHECK(q->nfree >= need);
    q->free_head = q->next[id];
    for (unsigned k = 0; k < need; k++) {
        uint16_t flags = (q->avail_wrap ? F_AVAIL : F_USED) | (bufs[k].write ? F_WRITE : 0) | (k + 1 < need ? F_NEXT : 0);
        struct desc desc = {bufs[k].addr, bufs[k].len, id, flags};
        if (indirect)
            desc = (struct desc){fill_table(d, q, id, bufs, n), 16 * n, id, (q->avail_wrap ? F_AVAIL : F_USED) | F_INDIRECT};
        /* All but the flags of the first, which hands the whole chain over. */
        memcpy(rig_at(d->rig, q->desc + 16 * q->next_avail), &desc, 14);
        if (k == 0)
            first_flags = desc.b;
        else
            put16(d, q->desc + 16 * q->next_avail + 14, desc.b);
        if (++q->next_avail == q->size) {
            q->next_avail = 0;
            q->avail_wrap = !q->avail_wrap;
        }
    }
    q->nfree -= need;
    q->count[id] = (uint16_t)need;
    put16(d, q->desc + 16 * first + 14, first_flags);
    return id;
}

uint16_t drv_add(struct drv *d, unsigned n, const struct drv_buf *bufs, unsigned count)
{
    return d->features & DRV_PACKED ? add_packed(d, &d->q[n], bufs, count) : add_split(d, &d->q[n], bufs, count);
}

void drv_force_kick(struct drv *d, unsigned n)
{
    rig_write(d->rig, BUS_MMIO, d->notify + n * d->notify_multiplier, 2, n);
}

void drv_kick(struct drv *d, unsigned n)
{
    struct drv_queue *q = &d->q[n];
    bool kick;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (d->features & DRV_PACKED) {
        /* Event positions only save kicks; one kick too many is allowed. */
        kick = get16(d, q->device + 2) != 1;
    } else if (d->features & DRV_EVENT) {
        uint16_t event = get16(d, q->device + 4 + 8 * q->size);
        kick = (uint16_t)(q->next_avail - event - 1) < (uint16_t)(q->next_avail - q->kicked_at);
        q->kicked_at = q->next_avail;
    } else {
        kick = !(get16(d, q->device) & 1);
    }
    if (kick)
        drv_force_kick(d, n);
}

/* ---- taking ---- */

static bool take_split(struct drv *d, struct drv_queue *q, uint16_t *id, uint32_t *len)
{
    uint32_t entry[2];
    if (get16(d, q->device + 2) == q->last_used)
        return false;
    memcpy(entry, rig_at(d->rig, q->device + 4 + 8 * (q->last_used % q->size)), sizeof entry);
    CHECK(entry[0] < q->size && q->count[entry[0]]);
    *id = (uint16_t)entry[0];
    *len = entry[1];
    q->last_used++;
    /* Back onto the free list, whose links still run through the chain. */
    uint16_t last = *id;
    for (unsigned k = 1; k < q->count[*id]; k++)
        last = q->next[last];
    q->next[last] = q->free_head;
    q->free_head = *id;
    return true;
}

static bool take_packed(struct drv *d, struct drv_queue *q, uint16_t *id, uint32_t *len)
{
    uint64_t at = q->desc + 16 * q->last_used;
    uint16_t flags = get16(d, at + 14);
    if (!!(flags & F_AVAIL) != q->used_wrap || !!(flags & F_USED) != q->used_wrap)
        return false;
    memcpy(len, rig_at(d->rig, at + 8), 4);
    memcpy(id, rig_at(d->rig, at + 12), 2);
    CHECK(*id < q->size && q->count[*id]);
    q->last_used += q->count[*id];
    if (q->last_used >= q->size) {
        q->last_used -= q->size;
        q->used_wrap = !q->used_wrap;
    }
    q->next[*id] = q->free_head;
    q->free_head = *id;
    return true;
}

bool drv_take(struct drv *d, unsigned n, uint16_t *id, uint32_t *len)
{
    struct drv_queue *q = &d->q[n];
    bool got = d->features & DRV_PACKED ? take_packed(d, q, id, len) : take_split(d, q, id, len);
    if (got) {
        q->nfree += q->count[*id];
        q->count[*id] = 0;
    }
    return got;
}

void drv_arm(struct drv *d, unsigned n)
{
    struct drv_queue *q = &d->q[n];
    if (d->features & DRV_EVENT) {
        if (d->features & DRV_PACKED) {
            put16(d, q->driver, (uint16_t)(q->last_used | (q->used_wrap ? 0x8000 : 0)));
            put16(d, q->driver + 2, 2);
        } else {
            put16(d, q->driver + 4 + 2 * q->size, q->last_used);
        }
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static bool wait_interrupt(struct drv *d, unsigned n, unsigned seen)
{
    if (d->msix)
        return rig_wait_msi(d->rig, d->vector_base + 1 + n, seen);
    if (!rig_wait_gsi(d->rig, pci_intx_gsi(PCI_SLOT(d->devfn), 1), true))
        return false;
    return rig_read(d->rig, BUS_MMIO, d->isr, 1) & 3;
}

bool drv_wait(struct drv *d, unsigned n, uint16_t *id, uint32_t *len)
{
    for (;;) {
        unsigned seen = d->msix ? rig_msis(d->rig, d->vector_base + 1 + n) : 0;
        drv_arm(d, n);
        if (drv_take(d, n, id, len))
            return true;
        if (!wait_interrupt(d, n, seen))
            return false;
    }
}

uint32_t drv_do(struct drv *d, unsigned n, const struct drv_buf *bufs, unsigned count)
{
    uint16_t id, got;
    uint32_t len;
    id = drv_add(d, n, bufs, count);
    drv_kick(d, n);
    CHECK(drv_wait(d, n, &got, &len));
    CHECK_EQ(got, id);
    return len;
}
