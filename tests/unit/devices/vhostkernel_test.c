// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A network card whose data path is the kernel's vhost-net: what the kernel is told, in which order, for which driver; and that a
 * kernel which refuses any of it costs the guest the device until its reset, and nobody a descriptor.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backs.h"
#include "base/log.h"
#include "base/util.h"
#include "devices/virtio/vhost_net.h"
#include "driver.h"
#include "fakevhost.h"
#include "net/net.h"

#define F_CSUM       BIT64(0)
#define F_GUEST_CSUM BIT64(1)
#define F_GUEST_TSO4 BIT64(7)
#define F_GUEST_TSO6 BIT64(8)
#define F_MRG_RXBUF  BIT64(15)
#define F_CTRL_VQ    BIT64(17)
#define F_MQ         BIT64(22)

#define TUN_CSUM 1u /* TUN_F_ of <linux/if_tun.h> */
#define TUN_TSO4 2u

#define NEEDS_RESET 64

struct card {
    struct rig r;
    struct drv d;
    struct vhost_net *n;
};

static int make(struct card *c, unsigned pairs, struct error *err)
{
    struct vhost_net_config cfg = {.slot = 5, .mac = {0x52, 0x54, 0, 1, 2, 3}, .pairs = pairs};
    if (vhost_kernel_create(&(struct net_tap_config){NULL, NULL}, pairs, &c->r.mem, &fake_sys, &cfg.back.back, err) < 0)
        return -1;
    return vhost_net_create(c->r.pci, &cfg, &c->n, err);
}

static void open_card(struct card *c, unsigned pairs)
{
    ERROR_SCOPED(err);
    fake_reset();
    rig_init(&c->r);
    if (make(c, pairs, &err) < 0) {
        fprintf(stderr, "%s\n", error_text(&err));
        exit(1);
    }
    CHECK(pci_host_assign(c->r.pci, &err) == 0);
}

static void close_card(struct card *c)
{
    vhost_net_destroy(c->n);
    rig_free(&c->r);
}

static void start(struct card *c, uint64_t features, unsigned queues)
{
    drv_find(&c->d, &c->r, PCI_DEVFN(5, 0), true, 0);
    drv_start(&c->d, features, queues, 64);
}

static void wait_broken(struct card *c)
{
    uint64_t end = now_ns() + 120 * NS_PER_S;
    while (!(drv_read(&c->d, DRV_STATUS, 1) & NEEDS_RESET) && now_ns() < end)
        usleep(1000);
    CHECK(drv_read(&c->d, DRV_STATUS, 1) & NEEDS_RESET);
}

/* Kicks arrive at the kernel's descriptors, and its interrupts at the driver. */
static void check_wires(struct card *c, unsigned ring)
{
    const struct fake_ring *r = &fake.pairs[ring / 2].rings[ring % 2];
    unsigned seen = rig_msis(&c->r, 1 + ring);
    eventfd_t count;
    while (eventfd_read(r->kick, &count) == 0)
        ;
    drv_force_kick(&c->d, ring);
    CHECK(eventfd_read(r->kick, &count) == 0 && count == 1);
    CHECK(eventfd_write(r->call, 1) == 0);
    CHECK(rig_wait_msi(&c->r, 1 + ring, seen));
}

static void check_ring(struct card *c, unsigned ring)
{
    const struct fake_ring *r = &fake.pairs[ring / 2].rings[ring % 2];
    const struct drv_queue *q = &c->d.q[ring];
    CHECK_EQ(r->size, 64);
    CHECK_EQ(r->base, 0);
    CHECK_EQ(r->addr.desc_user_addr, (uintptr_t)rig_at(&c->r, q->desc));
    CHECK_EQ(r->addr.avail_user_addr, (uintptr_t)rig_at(&c->r, q->driver));
    CHECK_EQ(r->addr.used_user_addr, (uintptr_t)rig_at(&c->r, q->device));
}

static void test_messages(void)
{
    static const struct {
        uint64_t features;
        unsigned offloads;
    } drivers[] = {{F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_MRG_RXBUF | DRV_EVENT, TUN_CSUM | TUN_TSO4},
                   {F_GUEST_TSO4 | F_GUEST_TSO6, 0},
                   {F_GUEST_CSUM, TUN_CSUM}};
    struct card c;
    open_card(&c, 1);
    for (unsigned i = 0; i < ARRAY_SIZE(drivers); i++) {
        const struct fake_pair *p = &fake.pairs[0];
        start(&c, drivers[i].features | DRV_PACKED | F_MQ, 2);
        CHECK_EQ(c.d.features, drivers[i].features | DRV_V1); /* no packed rings, and one pair is not many */
        CHECK(fake_wait_backends(2));
        CHECK_EQ(p->features, (drivers[i].features & (F_MRG_RXBUF | DRV_EVENT)) | DRV_V1);
        CHECK_EQ(fake.offloads, drivers[i].offloads);
        CHECK_EQ(p->nregions, c.r.mem.count);
        for (unsigned k = 0; k < p->nregions; k++)
            CHECK(p->regions[k].guest_phys_addr == c.r.mem.regions[k].gpa && p->regions[k].memory_size == c.r.mem.regions[k].size &&
                  p->regions[k].userspace_addr == (uintptr_t)c.r.mem.regions[k].host);
        for (unsigned ring = 0; ring < 2; ring++) {
            check_ring(&c, ring);
            check_wires(&c, ring);
        }
        CHECK(drv_reset(&c.d));
        CHECK(fake_wait_backends(0));
    }
    CHECK_EQ(fake.opened, 1);
    close_card(&c);
}

/* By the control queue; the answer. */
static uint8_t set_pairs(struct card *c, unsigned control, uint16_t pairs)
{
    uint64_t command = rig_alloc(&c->r, 4, 2), status = rig_alloc(&c->r, 1, 1);
    const struct drv_buf bufs[] = {{command, 4, false}, {status, 1, true}};
    const uint8_t bytes[4] = {4, 0, (uint8_t)pairs, (uint8_t)(pairs >> 8)};
    memcpy(rig_at(&c->r, command), bytes, sizeof bytes);
    CHECK_EQ(drv_do(&c->d, control, bufs, 2), 1);
    return *(uint8_t *)rig_at(&c->r, status);
}

static void check_attached(unsigned pairs)
{
    pthread_mutex_lock(&fake.lock);
    for (unsigned i = 0; i < fake.taps; i++)
        CHECK_EQ(fake.pairs[i].attached, i < pairs);
    pthread_mutex_unlock(&fake.lock);
}

/* Queues of the tap that the guest does not use get no frames. */
static void test_pairs(void)
{
    struct card c;
    open_card(&c, 3);
    CHECK_EQ(fake.taps, 3);
    for (unsigned life = 0; life < 2; life++) {
        start(&c, F_CTRL_VQ | F_MQ, 7);
        CHECK(fake_wait_backends(2));
        check_attached(1);
        CHECK_EQ(set_pairs(&c, 6, 4), 1);
        CHECK_EQ(set_pairs(&c, 6, 3), 0);
        CHECK(fake_wait_backends(6));
        check_attached(3);
        for (unsigned ring = 0; ring < 6; ring++) {
            check_ring(&c, ring);
            check_wires(&c, ring);
        }
        CHECK_EQ(set_pairs(&c, 6, 2), 0);
        CHECK(fake_wait_backends(4));
        check_attached(2);
        CHECK(drv_reset(&c.d)); /* the next driver begins with one */
        CHECK(fake_wait_backends(0));
    }
    start(&c, 0, 2); /* and one without MQ stays there */
    CHECK(fake_wait_backends(2));
    check_attached(1);
    close_card(&c);
}

/* The kernel tells by the ring's error descriptor that it does not go on. */
static void test_broken_ring(void)
{
    struct card c;
    open_card(&c, 2);
    for (unsigned life = 1; life < 4; life++) {
        start(&c, F_CTRL_VQ | F_MQ, 5);
        CHECK(fake_wait_backends(2));
        CHECK_EQ(fake.opened, 2 * life);
        check_wires(&c, 1);
        pthread_mutex_lock(&fake.lock);
        CHECK(eventfd_write(fake.pairs[0].rings[1].trouble, 1) == 0);
        pthread_mutex_unlock(&fake.lock);
        wait_broken(&c);
        CHECK(fake_wait_backends(0));
        CHECK(drv_reset(&c.d));
    }
    close_card(&c);
}

/* Waits until the device runs, or has given up. */
static bool came_up(struct card *c)
{
    uint64_t end = now_ns() + 120 * NS_PER_S;
    while (now_ns() < end) {
        if (fake_backends() == 2)
            return true;
        if (drv_read(&c->d, DRV_STATUS, 1) & NEEDS_RESET)
            return false;
        usleep(200);
    }
    CHECK(!"the device comes up or gives up");
    return false;
}

/* Each call fails in its turn, from those that make the card to those that start it. */
static void test_failures(void)
{
    const unsigned before = backs_open_fds();
    unsigned made = 0;
    bool started = false;
    for (unsigned at = 1; !started; at++) {
        struct card c;
        ERROR_SCOPED(err);
        fake_reset();
        fake.fail_at = at;
        fake.fail_with = ENOBUFS;
        rig_init(&c.r);
        if (make(&c, 2, &err) < 0) {
            CHECK(strstr(error_text(&err), ";") && !strchr(error_text(&err), '\n'));
            CHECK_EQ(made, 0);
        } else {
            made++;
            CHECK(pci_host_assign(c.r.pci, &err) == 0);
            start(&c, F_CTRL_VQ | F_MQ, 5);
            started = came_up(&c);
            CHECK(drv_reset(&c.d));
            start(&c, F_CTRL_VQ | F_MQ, 5); /* the next driver has it again */
            CHECK(fake_wait_backends(2));
            vhost_net_destroy(c.n);
        }
        rig_free(&c.r);
        CHECK_EQ(backs_open_fds(), before);
    }
    CHECK(made > 20);
}

static void refused(unsigned call, int code, const char *word)
{
    struct card c;
    ERROR_SCOPED(err);
    fake_reset();
    fake.fail_at = call;
    fake.fail_with = code;
    rig_init(&c.r);
    CHECK(make(&c, 1, &err) < 0);
    if (!strstr(error_text(&err), word) || strchr(error_text(&err), '\n')) {
        fprintf(stderr, "'%s' is not in: %s\n", word, error_text(&err));
        exit(1);
    }
    rig_free(&c.r);
}

/* Memory without a descriptor is as good, and counts are the interface's. */
static void test_private(void)
{
    struct card c;
    struct net_stats s;
    ERROR_SCOPED(err);
    fake_reset();
    rig_init(&c.r);
    int fd = c.r.mem.fd;
    c.r.mem.fd = -1;
    CHECK(make(&c, 1, &err) == 0);
    CHECK(vhost_net_stats(c.n, &s) && s.rx_bytes >= s.rx_packets);
    CHECK(!net_tap_stats("no such", &s));
    vhost_net_destroy(c.n);
    c.r.mem.fd = fd;
    rig_free(&c.r);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    test_messages();
    test_pairs();
    test_broken_ring();
    test_failures();
    refused(1, ENOENT, "modprobe vhost_net");
    refused(1, EACCES, "access");
    refused(2, EBUSY, "vhost=off");
    refused(4, EPERM, "not permitted");
    test_private();
    return 0;
}
