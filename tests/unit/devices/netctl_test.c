// SPDX-License-Identifier: GPL-2.0-or-later
/* The network card's control queue, several pairs of queues, rate limits and the link; and the back ends that need no guest: sockets, captures. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "base/util.h"
#include "devices/virtio/vnet.h"
#include "driver.h"
#include "net/offload.h"

#define PAIRS 4
#define CTRL  (2 * PAIRS)
#define HDR   sizeof(struct net_header)

#define F_MTU      (1ull << 3)
#define F_CTRL     (1ull << 17 | 1ull << 18 | 1ull << 20 | 1ull << 23 | 1ull << 21)
#define F_MQ       (1ull << 22)
#define F_GUEST_4  (1ull << 1 | 1ull << 7 | 1ull << 15)

static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};

/* ---- a back end that takes large frames, and gives what it is told to ---- */

struct source {
    struct netdev dev; /* first */
    pthread_mutex_t lock;
    int event, at; /* in the pollset */
    uint8_t frame[2000];
    size_t len;
    struct net_header h;
    bool full;
    _Atomic unsigned sent, injected, delivered;
    struct net_header sent_h;
    size_t sent_len;
};

static void source_send_offloaded(struct netdev *n, const struct net_header *h, const struct iovec *iov, int niov, size_t len)
{
    struct source *s = container_of(n, struct source, dev);
    size_t total = 0;
    for (int i = 0; i < niov; i++)
        total += iov[i].iov_len;
    CHECK_EQ(total, len);
    pthread_mutex_lock(&s->lock);
    s->sent_h = *h;
    s->sent_len = len;
    pthread_mutex_unlock(&s->lock);
    s->sent++;
}

static void source_send(struct netdev *n, const void *frame, size_t len)
{
    const struct net_header none = {0};
    source_send_offloaded(n, &none, &(struct iovec){(void *)(uintptr_t)frame, len}, 1, len);
}

static void source_prepare(struct netdev *n, struct pollset *p)
{
    struct source *s = container_of(n, struct source, dev);
    s->at = pollset_add(p, s->event, POLLIN);
}

static void source_dispatch(struct netdev *n, struct pollset *p)
{
    struct source *s = container_of(n, struct source, dev);
    uint64_t count;
    /* What comes after the poll waits for the next one: the card may hear then that its driver is there. */
    if (!(pollset_revents(p, s->at) & POLLIN) || read(s->event, &count, sizeof count) < 0)
        return;
    pthread_mutex_lock(&s->lock);
    struct iovec iov[] = {{s->frame, 60}, {s->frame + 60, s->len - 60}};
    if (s->full)
        n->receive_offloaded(n->opaque, &s->h, iov, 2, s->len);
    else
        n->receive(n->opaque, s->frame, s->len);
    pthread_mutex_unlock(&s->lock);
    s->delivered++;
}

static const struct netdev_ops source_ops = {.name = "source",
                                             .send = source_send,
                                             .send_offloaded = source_send_offloaded,
                                             .prepare = source_prepare,
                                             .dispatch = source_dispatch};

static struct source src;
static struct drv d;
static uint64_t buf, rxbuf;

static void inject(const uint8_t dest[6], size_t len)
{
    uint64_t one = 1;
    pthread_mutex_lock(&src.lock);
    memcpy(src.frame, dest, 6);
    src.len = len;
    pthread_mutex_unlock(&src.lock);
    src.injected++;
    CHECK(write(src.event, &one, sizeof one) == sizeof one);
    for (uint64_t end = now_ns() + 120 * NS_PER_S; src.delivered != src.injected && now_ns() < end;)
        usleep(100);
    CHECK_EQ(src.delivered, src.injected);
}

/* A command's status. */
static uint8_t control(uint8_t class, uint8_t command, const void *data, uint32_t len)
{
    uint8_t *p = rig_at(d.rig, buf);
    p[0] = class;
    p[1] = command;
    memcpy(p + 2, data, len);
    p[1000] = 0xee;
    struct drv_buf bufs[] = {{buf, 2, false}, {buf + 2, len, false}, {buf + 1000, 1, true}};
    CHECK_EQ(drv_do(&d, CTRL, bufs, 3), 1);
    return p[1000];
}

static void post(unsigned q)
{
    drv_add(&d, q, &(struct drv_buf){rxbuf + 2048 * q, 2048, true}, 1);
    drv_kick(&d, q);
}

/* A frame to `dest` arrives, or does not while one to everybody behind it does. */
static void check_filter(const uint8_t dest[6], bool wanted)
{
    static const uint8_t all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint16_t id;
    uint32_t len;
    src.full = false;
    inject(dest, 100);
    inject(all, 200);
    CHECK(drv_wait(&d, 0, &id, &len));
    CHECK_EQ(len, HDR + (wanted ? 100 : 200));
    post(0);
    if (wanted) {
        CHECK(drv_wait(&d, 0, &id, &len));
        CHECK_EQ(len, HDR + 200);
        post(0);
    }
}

static void filters(void)
{
    static const uint8_t other[6] = {0x52, 0x54, 0, 9, 9, 9}, group[6] = {1, 0, 0x5e, 1, 2, 3}, fresh[6] = {0x52, 0x54, 0, 7, 7, 7};
    const uint8_t on = 1, off = 0, two = 2;
    uint8_t tables[8 + 12] = {0};
    check_filter(mac, true);
    check_filter(other, false);
    check_filter(group, false);
    CHECK_EQ(control(0, 0, &on, 1), 0); /* promiscuous */
    check_filter(other, true);
    CHECK_EQ(control(0, 0, &off, 1), 0);
    CHECK_EQ(control(0, 1, &on, 1), 0); /* all multicast */
    check_filter(group, true);
    check_filter(other, false);
    CHECK_EQ(control(0, 1, &off, 1), 0);
    tables[0] = 1;
    memcpy(tables + 4, other, 6);
    tables[10] = 1;
    memcpy(tables + 14, group, 6);
    CHECK_EQ(control(1, 0, tables, sizeof tables), 0);
    check_filter(other, true);
    check_filter(group, true);
    CHECK_EQ(control(1, 1, fresh, 6), 0); /* another address */
    CHECK_EQ(rig_read(d.rig, BUS_MMIO, d.device + 4, 2), 0x0707);
    check_filter(fresh, true);
    check_filter(mac, false);
    /* What is wrong is refused, and changes nothing. */
    CHECK_EQ(control(1, 1, group, 6), 1);
    CHECK_EQ(control(1, 1, fresh, 5), 1);
    CHECK_EQ(control(0, 0, &two, 1), 1);
    CHECK_EQ(control(0, 9, &on, 1), 1);
    CHECK_EQ(control(9, 0, &on, 1), 1);
    memset(tables, 0xff, 4); /* 2^32 - 1 addresses */
    CHECK_EQ(control(1, 0, tables, sizeof tables), 1);
    CHECK_EQ(control(1, 0, tables, 3), 1);
    check_filter(fresh, true);
    check_filter(group, true);
}

/* With more pairs, flows spread over them, each flow to one. */
static void pairs(void)
{
    uint16_t n = 0, id;
    uint32_t len;
    unsigned used = 0;
    CHECK_EQ(control(4, 0, &n, 2), 1);
    n = PAIRS + 1;
    CHECK_EQ(control(4, 0, &n, 2), 1);
    n = PAIRS;
    CHECK_EQ(control(4, 0, &n, 2), 0);
    for (unsigned q = 2; q < CTRL; q += 2)
        post(q);
    src.frame[12] = 8;
    src.frame[13] = 0;
    for (unsigned flow = 0; flow < 32; flow++) {
        int at = -1;
        src.frame[35] = (uint8_t)flow;
        for (unsigned again = 0; again < 3; again++) {
            inject((const uint8_t[6]){0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 100);
            uint64_t deadline = now_ns() + 120 * NS_PER_S;
            int got = -1;
            while (got < 0 && now_ns() < deadline)
                for (unsigned q = 0; q < CTRL && got < 0; q += 2)
                    if (drv_take(&d, q, &id, &len))
                        got = (int)q;
            CHECK(got >= 0 && (at < 0 || got == at));
            at = got;
            post((unsigned)got);
        }
        used |= 1u << at;
    }
    CHECK(used == 0x55);
}

static void link_and_announcement(struct vnet *v)
{
    unsigned seen = rig_msis(d.rig, 0);
    vnet_announce(v);
    CHECK(rig_wait_msi(d.rig, 0, seen));
    CHECK_EQ(rig_read(d.rig, BUS_MMIO, d.device + 6, 2), 3);
    CHECK_EQ(control(3, 0, NULL, 0), 0);
    CHECK_EQ(rig_read(d.rig, BUS_MMIO, d.device + 6, 2), 1);
    seen = rig_msis(d.rig, 0);
    vnet_set_link(v, false);
    CHECK(rig_wait_msi(d.rig, 0, seen));
    CHECK_EQ(rig_read(d.rig, BUS_MMIO, d.device + 6, 2), 0);
    unsigned sent = src.sent;
    drv_do(&d, 1, &(struct drv_buf){buf, 100, false}, 1);
    CHECK_EQ(src.sent, sent);
    vnet_set_link(v, true);
    control(3, 0, NULL, 0); /* a turn of the loop */
    memset(rig_at(d.rig, buf), 0, 100);
    drv_do(&d, 1, &(struct drv_buf){buf, 100, false}, 1);
    CHECK_EQ(src.sent, sent + 1);
}

/* Large segments pass as they are, both ways. */
static void large(void)
{
    uint16_t id;
    uint32_t len;
    struct net_header h = {.flags = NET_HDR_NEEDS_CSUM, .gso_type = NET_GSO_TCPV4, .gso_size = 1000, .csum_start = 34, .csum_offset = 16};
    memcpy(rig_at(d.rig, buf), &h, HDR);
    drv_do(&d, 1, &(struct drv_buf){buf, HDR + 3000, false}, 1);
    CHECK(src.sent_len == 3000 && src.sent_h.gso_size == 1000 && src.sent_h.gso_type == NET_GSO_TCPV4);
    src.full = true;
    src.h = h;
    inject((const uint8_t[6]){0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 1900);
    CHECK(drv_wait(&d, 0, &id, &len));
    CHECK_EQ(len, HDR + 1900);
    struct net_header *got = rig_at(d.rig, rxbuf);
    CHECK(got->gso_size == 1000 && got->num_buffers == 1 && got->flags == NET_HDR_NEEDS_CSUM);
    post(0);
}

static struct vnet *open_card(struct rig *r, struct vnet_config cfg, uint64_t features, unsigned queues)
{
    struct vnet *v;
    ERROR_SCOPED(err);
    src = (struct source){.dev = {.ops = &source_ops, .offloads = NET_CSUM | NET_TSO4 | NET_TSO6}, .lock = PTHREAD_MUTEX_INITIALIZER};
    src.event = eventfd(0, EFD_NONBLOCK);
    cfg.slot = 5;
    cfg.net = &src.dev;
    memcpy(cfg.mac, mac, 6);
    CHECK(vnet_create(r->pci, &cfg, &v, &err) == 0);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    drv_find(&d, r, PCI_DEVFN(5, 0), true, 0);
    drv_start(&d, features, queues, 16);
    CHECK_EQ(d.features, features | DRV_V1);
    buf = rig_alloc(r, 70000, 16);
    rxbuf = rig_alloc(r, 2048 * CTRL, 16);
    return v;
}

static void controlled(uint64_t ring)
{
    struct rig r;
    rig_init(&r);
    struct vnet *v = open_card(&r, (struct vnet_config){.pairs = PAIRS, .mtu = 9000}, ring | F_CTRL | F_MQ | F_MTU | F_GUEST_4 | 1 | 1ull << 11, CTRL + 1);
    CHECK_EQ(rig_read(&r, BUS_MMIO, d.device + 8, 2), PAIRS);
    CHECK_EQ(rig_read(&r, BUS_MMIO, d.device + 10, 2), 9000);
    post(0);
    filters();
    large();
    pairs();
    vnet_destroy(v);
    close(src.event);
    v = open_card(&r, (struct vnet_config){.pairs = PAIRS}, ring | F_CTRL | F_MQ | 1ull << 16, CTRL + 1);
    link_and_announcement(v);
    vnet_destroy(v);
    close(src.event);
    rig_free(&r);
}

/* 1 MB at 4 MB a second takes a quarter of one, less the burst; never much less, whatever the machine does meanwhile. */
static void limited(void)
{
    struct rig r;
    rig_init(&r);
    struct vnet *v = open_card(&r, (struct vnet_config){.from_guest = {4000000, 100000}}, 0, 2);
    uint64_t start = now_ns();
    for (unsigned i = 0; i < 50; i++)
        drv_do(&d, 1, &(struct drv_buf){buf, 20000 + HDR, false}, 1);
    CHECK(now_ns() - start > 200000000);
    CHECK_EQ(src.sent, 50);
    vnet_destroy(v);
    close(src.event);
    rig_free(&r);
}

/* Waits of 0.2 to 20 us: some are over between the look at the queue and the look at how long to sleep. */
static void limited_shortly(void)
{
    struct rig r;
    rig_init(&r);
    struct vnet *v = open_card(&r, (struct vnet_config){.from_guest = {1000000000, 1}}, 0, 2);
    for (unsigned i = 0; i < 2000; i++)
        drv_do(&d, 1, &(struct drv_buf){buf, (uint32_t)(200 + 10 * i + HDR), false}, 1);
    CHECK_EQ(src.sent, 2000);
    vnet_destroy(v);
    close(src.event);
    rig_free(&r);
}

/* ---- sockets and captures ---- */

struct sink {
    unsigned frames;
    size_t bytes;
    uint8_t last;
};

static void sink_receive(void *opaque, const void *frame, size_t len)
{
    struct sink *s = opaque;
    s->frames++;
    s->bytes += len;
    s->last = ((const uint8_t *)frame)[0];
}

static void turn(struct netdev *a, struct netdev *b)
{
    struct pollset p = {0};
    struct netdev *const both[] = {a, b};
    for (unsigned i = 0; i < 2; i++) {
        if (!both[i])
            continue;
        pollset_clear(&p);
        both[i]->ops->prepare(both[i], &p);
        poll(p.fds, p.n, 1);
        both[i]->ops->dispatch(both[i], &p);
    }
    pollset_free(&p);
}

static void sockets(void)
{
    char address[64];
    struct netdev *a, *b;
    struct sink sa = {0}, sb = {0};
    static uint8_t frame[NET_FRAME_MAX];
    ERROR_SCOPED(err);
    snprintf(address, sizeof address, "/tmp/lodge-net-%d", (int)getpid());
    unlink(address); /* of a process that ended too soon */
    CHECK(net_socket_create(&(struct net_socket_config){"nowhere", false}, &a, &err) < 0);
    error_clear(&err);
    CHECK(net_socket_create(&(struct net_socket_config){address, true}, &a, &err) == 0);
    CHECK(net_socket_create(&(struct net_socket_config){address, true}, &b, &err) < 0); /* taken, and left to its owner */
    error_clear(&err);
    CHECK(access(address, F_OK) == 0);
    CHECK(net_socket_create(&(struct net_socket_config){address, false}, &b, &err) == 0);
    a->receive = b->receive = sink_receive;
    a->opaque = &sa;
    b->opaque = &sb;
    for (unsigned i = 0; i < 50; i++)
        turn(a, b);
    for (unsigned i = 0; i < 300; i++) {
        frame[0] = (uint8_t)i;
        a->ops->send(a, frame, i % 10 ? 60 + i : sizeof frame);
        b->ops->send(b, frame, 1000);
        turn(a, b);
    }
    for (unsigned i = 0; i < 1000 && (sa.frames < 300 || sb.frames < 300); i++)
        turn(a, b);
    CHECK_EQ(sa.frames, 300);
    CHECK_EQ(sb.frames, 300);
    CHECK(sa.bytes == 300000 && sa.last == 43 && sb.last == 43);
    netdev_destroy(b);
    /* A peer that speaks nonsense is cut off; the next one is taken. */
    for (unsigned i = 0; i < 20; i++)
        turn(a, NULL);
    CHECK(net_socket_create(&(struct net_socket_config){address, false}, &b, &err) == 0);
    b->receive = sink_receive;
    b->opaque = &sb;
    for (unsigned i = 0; i < 50; i++)
        turn(a, b);
    a->ops->send(a, frame, 77);
    for (unsigned i = 0; i < 200 && sb.frames < 301; i++)
        turn(a, b);
    CHECK_EQ(sb.frames, 301);
    netdev_destroy(a);
    netdev_destroy(b);
    CHECK(access(address, F_OK) < 0);
}

static void captures(void)
{
    char path[64];
    struct pcap *p;
    struct stat st;
    uint8_t data[100] = {1};
    uint32_t magic;
    ERROR_SCOPED(err);
    snprintf(path, sizeof path, "/tmp/lodge-pcap-%d", (int)getpid());
    CHECK(pcap_create("/nowhere/x", &p, &err) < 0);
    error_clear(&err);
    CHECK(pcap_create(path, &p, &err) == 0);
    struct iovec iov[] = {{data, 60}, {data + 60, 40}};
    pcap_write(p, iov, 2, 100);
    pcap_write(p, iov, 2, 70);
    pcap_flush(p);
    pcap_free(p);
    CHECK(stat(path, &st) == 0 && st.st_size == 24 + 2 * 16 + 170);
    int fd = open(path, O_RDONLY);
    CHECK(read(fd, &magic, 4) == 4 && magic == 0xa1b23c4d);
    close(fd);
    unlink(path);
}

int main(void)
{
    static const uint64_t rings[] = {0, DRV_EVENT | DRV_INDIRECT, DRV_PACKED, DRV_PACKED | DRV_EVENT | DRV_INDIRECT};
    for (unsigned i = 0; i < ARRAY_SIZE(rings); i++)
        controlled(rings[i]);
    limited();
    limited_shortly();
    sockets();
    captures();
    return 0;
}
