// SPDX-License-Identifier: GPL-2.0-or-later
/* The virtqueue library by itself: order, limits, taking back, and when each side is to be told. */
#include <string.h>

#include "base/util.h"
#include "devices/virtio/queue.h"
#include "driver.h"

struct pair {
    struct rig r;
    struct drv d;
    struct vq q;
    uint64_t buf;
};

static void pair_init(struct pair *p, uint64_t features, uint16_t size)
{
    rig_init(&p->r);
    p->d = (struct drv){.rig = &p->r, .features = features};
    drv_layout(&p->d, 0, size);
    struct vq_config cfg = {
        .size = size, .enabled = 1, .desc = p->d.q[0].desc, .driver = p->d.q[0].driver, .device = p->d.q[0].device};
    CHECK(vq_start(&p->q, &p->r.mem, &cfg, features & DRV_PACKED, features & DRV_EVENT, features & DRV_INDIRECT) == 0);
    p->buf = rig_alloc(&p->r, 4096, 16);
}

static uint16_t add(struct pair *p, unsigned n)
{
    struct drv_buf bufs[8];
    for (unsigned i = 0; i < n; i++)
        bufs[i] = (struct drv_buf){p->buf + 16 * i, 16, i >= n / 2};
    return drv_add(&p->d, 0, bufs, n);
}

static struct vq_elem *pop(struct pair *p)
{
    struct vq_elem *e;
    CHECK_EQ(vq_pop(&p->q, &e), 1);
    return e;
}

static void answered(struct pair *p, uint16_t id, uint32_t len)
{
    uint16_t got;
    uint32_t got_len;
    CHECK(drv_take(&p->d, 0, &got, &got_len));
    CHECK_EQ(got, id);
    CHECK_EQ(got_len, len);
}

/* Requests of several descriptors, answered in another order, round the ring many times; some are taken back first. */
static void order(uint64_t features, uint16_t size)
{
    struct pair p;
    struct vq_elem *e;
    pair_init(&p, features, size);
    for (unsigned round = 0; round < 500; round++) {
        uint16_t a = add(&p, 1 + round % 3), b = add(&p, 2 + round % 2);
        struct vq_elem *x = pop(&p), *y = pop(&p);
        CHECK_EQ(vq_pop(&p.q, &e), 0);
        CHECK(x->id == a && y->id == b);
        CHECK_EQ(y->nout + y->nin, 2 + round % 2);
        CHECK_EQ(y->out_len, 16);
        if (round % 5 == 0) { /* both back, last first */
            vq_unpop(&p.q, y);
            vq_unpop(&p.q, x);
            x = pop(&p), y = pop(&p);
            CHECK(x->id == a && y->id == b);
        }
        vq_push(&p.q, y, 7);
        answered(&p, b, 7);
        vq_push(&p.q, x, round);
        answered(&p, a, round);
        CHECK_EQ(p.q.in_flight, 0);
    }
    rig_free(&p.r);
}

/* Answers that are given together come in their order, at every place of the ring. */
static void together(uint64_t features, uint16_t size)
{
    struct pair p;
    pair_init(&p, features, size);
    for (unsigned round = 0; round < 500; round++) {
        uint16_t id[3];
        struct vq_elem *e[3];
        for (unsigned i = 0; i < 3; i++)
            id[i] = add(&p, 1 + (round + i) % 2);
        for (unsigned i = 0; i < 3; i++)
            e[i] = pop(&p);
        vq_push_all(&p.q, e, (const uint32_t[]){round, 1, 2}, 3);
        answered(&p, id[0], round);
        answered(&p, id[1], 1);
        answered(&p, id[2], 2);
        CHECK_EQ(p.q.in_flight, 0);
    }
    rig_free(&p.r);
}

/* Interrupts with event index: one when the armed answer comes, none for those behind it, at every place of the ring. */
static void event_index(uint64_t features, uint16_t size)
{
    struct pair p;
    pair_init(&p, features | DRV_EVENT, size);
    for (unsigned round = 0; round < 200; round++) {
        unsigned n = 1 + round % size;
        struct vq_elem *e[64];
        for (unsigned i = 0; i < n; i++)
            add(&p, 1);
        for (unsigned i = 0; i < n; i++)
            e[i] = pop(&p);
        drv_arm(&p.d, 0);
        CHECK(!vq_should_notify(&p.q)); /* nothing was answered */
        unsigned notified = 0;
        for (unsigned i = 0; i < n; i++) {
            vq_push(&p.q, e[i], 0);
            if (round % 2 || i + 1 == n) /* each by itself, or all together */
                notified += vq_should_notify(&p.q);
        }
        CHECK_EQ(notified, 1);
        uint16_t id;
        uint32_t len;
        for (unsigned i = 0; i < n; i++)
            CHECK(drv_take(&p.d, 0, &id, &len));
    }
    rig_free(&p.r);
}

/* Without event index a flag says all; and wishes for kicks are told by flag or by index. */
static void wishes(uint64_t features)
{
    struct pair p;
    bool packed = features & DRV_PACKED, event = features & DRV_EVENT;
    pair_init(&p, features, 16);
    uint16_t *driver_flags = rig_at(&p.r, p.d.q[0].driver + (packed ? 2 : 0)),
             *device_flags = rig_at(&p.r, p.d.q[0].device + (packed ? 2 : 0));
    add(&p, 1);
    vq_push(&p.q, pop(&p), 0);
    if (!event) {
        *driver_flags = 1;
        CHECK(!vq_should_notify(&p.q));
        add(&p, 1);
        vq_push(&p.q, pop(&p), 0);
        *driver_flags = 0;
        CHECK(vq_should_notify(&p.q));
        CHECK(!vq_set_kicks(&p.q, false));
        CHECK_EQ(*device_flags, 1);
        CHECK(!vq_set_kicks(&p.q, true));
        CHECK_EQ(*device_flags, 0);
    } else {
        uint16_t *index = packed ? rig_at(&p.r, p.d.q[0].device) : rig_at(&p.r, p.d.q[0].device + 4 + 8 * 16);
        CHECK(!vq_set_kicks(&p.q, true));
        CHECK_EQ(*index, packed ? 0x8001 : 1);
        CHECK_EQ(*device_flags, packed ? 2 : 0);
    }
    CHECK(!vq_set_kicks(&p.q, false));
    add(&p, 1);
    CHECK(vq_set_kicks(&p.q, true)); /* a request came in between */
    vq_push(&p.q, pop(&p), 0);
    rig_free(&p.r);
}

/* More requests in flight than the ring has places: a driver that adds the same ones again and again. */
static void in_flight(bool packed)
{
    struct pair p;
    struct vq_elem *e[17];
    unsigned n = 0;
    int ret = 1;
    pair_init(&p, packed ? DRV_PACKED : 0, 16);
    for (unsigned i = 0; i < 16; i++)
        add(&p, 1);
    while (ret == 1) {
        CHECK(n < ARRAY_SIZE(e));
        ret = vq_pop(&p.q, &e[n]);
        n += ret == 1;
        if (ret != 0)
            continue;
        /* The ring again, as if answers had come. */
        uint16_t more = 32;
        if (!packed)
            memcpy(rig_at(&p.r, p.d.q[0].driver + 2), &more, 2);
        for (unsigned i = 0; packed && i < 16; i++)
            memcpy(rig_at(&p.r, p.d.q[0].desc + 16 * i + 14), &(uint16_t){0x8000}, 2);
        ret = vq_pop(&p.q, &e[n]);
    }
    CHECK_EQ(n, 16);
    CHECK_EQ(ret, -1);
    CHECK(strstr(p.q.broken, "in flight"));
    CHECK(!vq_should_notify(&p.q) && !vq_set_kicks(&p.q, true));
    while (n > 0)
        vq_push(&p.q, e[--n], 0); /* freed without a trace in the ring */
    rig_free(&p.r);
}

static void limits(void)
{
    struct pair p;
    struct vq_elem *e;
    pair_init(&p, 0, 256);
    /* 2^32 bytes and more in one chain: 256 buffers of 16 MiB. */
    struct drv_buf bufs[256];
    for (unsigned i = 0; i < 256; i++)
        bufs[i] = (struct drv_buf){0, 16u << 20, true};
    drv_add(&p.d, 0, bufs, 256);
    CHECK_EQ(vq_pop(&p.q, &e), -1);
    CHECK(strstr(p.q.broken, "2^32"));
    rig_free(&p.r);
    /* An indirect descriptor that was not negotiated. */
    for (unsigned packed = 0; packed < 2; packed++) {
        pair_init(&p, packed ? DRV_PACKED : 0, 16);
        p.d.features |= DRV_INDIRECT; /* only the driver thinks so */
        add(&p, 2);
        CHECK_EQ(vq_pop(&p.q, &e), -1);
        CHECK(strstr(p.q.broken, "not negotiated"));
        rig_free(&p.r);
    }
    /* Stopped, there is nothing to be had. */
    pair_init(&p, 0, 16);
    add(&p, 1);
    vq_stop(&p.q);
    CHECK_EQ(vq_pop(&p.q, &e), -1);
    rig_free(&p.r);
}

/* The first request is kicked, whatever was in the ring's memory. */
static void first_wish(uint64_t features)
{
    struct pair p;
    pair_init(&p, features, 16);
    struct vq_config cfg = p.q.cfg;
    bool packed = features & DRV_PACKED, event = features & DRV_EVENT;
    uint8_t *device = guestmem_ptr(&p.r.mem, cfg.device, 256);
    CHECK(device);
    uint8_t *wish = device + (packed ? 2 : event ? 4 + 8 * 16 : 0);
    *wish = 1; /* split: no kicks, or after the second request; packed: no kicks */
    vq_stop(&p.q);
    CHECK(vq_start(&p.q, &p.r.mem, &cfg, packed, event, false) == 0);
    CHECK_EQ(*wish, packed && event ? 2 : 0);
    rig_free(&p.r);
}

int main(void)
{
    static const uint64_t rings[] = {0, DRV_INDIRECT, DRV_PACKED, DRV_PACKED | DRV_INDIRECT};
    for (unsigned i = 0; i < ARRAY_SIZE(rings); i++) {
        order(rings[i], 16);
        order(rings[i] | DRV_EVENT, 8);
        event_index(rings[i], 16);
        together(rings[i], 8);
        wishes(rings[i]);
        wishes(rings[i] | DRV_EVENT);
        first_wish(rings[i]);
        first_wish(rings[i] | DRV_EVENT);
    }
    order(DRV_PACKED, 7);
    event_index(DRV_PACKED, 7);
    together(DRV_PACKED, 7);
    in_flight(false);
    in_flight(true);
    limits();
    return 0;
}
