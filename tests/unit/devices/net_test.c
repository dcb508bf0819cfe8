// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The network card: first with a back end that only records and injects frames, then with the user network and a small TCP/IP stack
 * of the test's own, against servers on the host's loopback.
 */
#include <arpa/inet.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/util.h"
#include "net/offload.h"
#include "devices/virtio/vnet.h"
#include "driver.h"

#define RX 0
#define TX 1

#define F_CSUM       (1ull << 0)
#define F_GUEST_CSUM (1ull << 1)
#define F_TSO4       (1ull << 11)
#define F_TSO6       (1ull << 12)
#define F_MERGE      (1ull << 15)

#define HDR   sizeof(struct net_header)
#define RXBUF 2048

static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};

/* ---- a card and its driver ---- */

struct card {
    struct drv d;
    struct vnet *vnet;
    uint64_t tx, rx; /* guest addresses of buffers */
    uint32_t rx_len;
    unsigned rx_count;
    uint16_t rx_of[DRV_SIZE]; /* which buffer a request id carries */
};

static void post_rx(struct card *c, unsigned i)
{
    uint16_t id = drv_add(&c->d, RX, &(struct drv_buf){c->rx + i * c->rx_len, c->rx_len, true}, 1);
    c->rx_of[id] = (uint16_t)i;
    drv_kick(&c->d, RX);
}

static void card_open(struct card *c, struct rig *r, struct netdev *net, uint64_t features, unsigned rx_count, uint32_t rx_len)
{
    struct vnet_config cfg = {.slot = 5, .net = net};
    ERROR_SCOPED(err);
    memcpy(cfg.mac, mac, 6);
    CHECK(vnet_create(r->pci, &cfg, &c->vnet, &err) == 0);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    drv_find(&c->d, r, PCI_DEVFN(5, 0), true, 0);
    drv_start(&c->d, features, 2, 64);
    CHECK_EQ(c->d.features, features | DRV_V1);
    CHECK_EQ(rig_read(r, BUS_MMIO, c->d.device + 6, 2), 1);
    CHECK_EQ(rig_read(r, BUS_MMIO, c->d.device, 4), 0x01005452);
    c->tx = rig_alloc(r, 70000, 16);
    c->rx = rig_alloc(r, rx_count * rx_len, 16);
    c->rx_len = rx_len;
    c->rx_count = rx_count;
    for (unsigned i = 0; i < rx_count; i++)
        post_rx(c, i);
}

static void card_send(struct card *c, const struct net_header *h, const void *frame, uint32_t len)
{
    uint8_t *p = rig_at(c->d.rig, c->tx);
    memcpy(p, h, HDR);
    memcpy(p + HDR, frame, len);
    /* Cut inside the header, as a driver may. */
    struct drv_buf bufs[] = {{c->tx, 5, false}, {c->tx + 5, HDR - 5 + 20, false}, {c->tx + HDR + 20, len - 20, false}};
    drv_do(&c->d, TX, bufs, 3);
}

/* Waits for a frame; its length. `h` gets the first header. */
static uint32_t card_receive(struct card *c, struct net_header *h, uint8_t *frame)
{
    uint32_t len, total = 0;
    unsigned left = 1;
    for (bool first = true; left > 0; left--, first = false) {
        uint16_t id;
        CHECK(drv_wait(&c->d, RX, &id, &len));
        unsigned i = c->rx_of[id];
        const uint8_t *p = rig_at(c->d.rig, c->rx + i * c->rx_len);
        CHECK(len <= c->rx_len);
        if (first) {
            memcpy(h, p, HDR);
            left = h->num_buffers;
            CHECK(left >= 1 && left <= c->rx_count);
            p += HDR;
            len -= HDR;
        }
        memcpy(frame + total, p, len);
        total += len;
        post_rx(c, i);
    }
    return total;
}

/* ---- the recording back end ---- */

struct recorder {
    struct netdev dev; /* first */
    pthread_mutex_t lock;
    int event;
    uint8_t *sent[64], *inject[64];
    size_t sent_len[64], inject_len[64];
    unsigned nsent, ninject;
};

static void recorder_send(struct netdev *n, const void *frame, size_t len)
{
    struct recorder *r = container_of(n, struct recorder, dev);
    pthread_mutex_lock(&r->lock);
    CHECK(r->nsent < ARRAY_SIZE(r->sent));
    r->sent[r->nsent] = malloc(len);
    memcpy(r->sent[r->nsent], frame, len);
    r->sent_len[r->nsent++] = len;
    pthread_mutex_unlock(&r->lock);
}

static void recorder_prepare(struct netdev *n, struct pollset *p)
{
    pollset_add(p, container_of(n, struct recorder, dev)->event, POLLIN);
}

static void recorder_dispatch(struct netdev *n, struct pollset *p)
{
    struct recorder *r = container_of(n, struct recorder, dev);
    uint64_t dummy;
    (void)p;
    if (read(r->event, &dummy, sizeof dummy) < 0)
        return;
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < r->ninject; i++) {
        r->dev.receive(r->dev.opaque, r->inject[i], r->inject_len[i]);
        free(r->inject[i]);
    }
    r->ninject = 0;
    pthread_mutex_unlock(&r->lock);
}

static const struct netdev_ops recorder_ops = {
    .name = "recorder",
    .checksums_valid = true,
    .send = recorder_send,
    .prepare = recorder_prepare,
    .dispatch = recorder_dispatch,
};

static void recorder_init(struct recorder *r)
{
    *r = (struct recorder){.dev.ops = &recorder_ops, .lock = PTHREAD_MUTEX_INITIALIZER, .event = eventfd(0, EFD_NONBLOCK)};
}

static void recorder_forget(struct recorder *r)
{
    for (unsigned i = 0; i < r->nsent; i++)
        free(r->sent[i]);
    r->nsent = 0;
}

static void recorder_inject(struct recorder *r, const uint8_t *frame, size_t len)
{
    uint64_t one = 1;
    pthread_mutex_lock(&r->lock);
    r->inject[r->ninject] = malloc(len);
    memcpy(r->inject[r->ninject], frame, len);
    r->inject_len[r->ninject++] = len;
    pthread_mutex_unlock(&r->lock);
    CHECK(write(r->event, &one, sizeof one) == sizeof one);
}

/* ---- frames ---- */

static void be16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static unsigned get_be16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}

static void be32(uint8_t *p, uint32_t v)
{
    be16(p, v >> 16);
    be16(p + 2, v & 0xffff);
}

/* RFC 1071, byte by byte. */
static unsigned sum16(const uint8_t *p, size_t len, unsigned acc)
{
    for (size_t i = 0; i < len; i++) {
        acc += i % 2 ? p[i] : p[i] << 8;
        acc = (acc & 0xffff) + (acc >> 16);
    }
    return acc;
}

static unsigned pseudo(const uint8_t *ip, bool v6, unsigned protocol, size_t len)
{
    return sum16(ip + (v6 ? 8 : 12), v6 ? 32 : 8,
                 sum16((uint8_t[]){(uint8_t)(len >> 8), (uint8_t)len, 0, (uint8_t)protocol}, 4, 0));
}

/* Ethernet and IPv4 headers; the length of both. */
static unsigned ip4_headers(uint8_t *f, const uint8_t *dst_mac, unsigned protocol, uint32_t src, uint32_t dst, unsigned payload)
{
    memcpy(f, dst_mac, 6);
    memcpy(f + 6, mac, 6);
    be16(f + 12, 0x0800);
    uint8_t *ip = f + 14;
    memset(ip, 0, 20);
    ip[0] = 0x45;
    be16(ip + 2, 20 + payload);
    be16(ip + 4, 0x1234);
    ip[8] = 64;
    ip[9] = (uint8_t)protocol;
    be32(ip + 12, src);
    be32(ip + 16, dst);
    be16(ip + 10, ~sum16(ip, 20, 0) & 0xffff);
    return 34;
}

static void tcp_header(uint8_t *t, unsigned sport, unsigned dport, uint32_t seq, uint32_t ack, uint8_t flags)
{
    memset(t, 0, 20);
    be16(t, sport);
    be16(t + 2, dport);
    be32(t + 4, seq);
    be32(t + 8, ack);
    t[12] = 5 << 4;
    t[13] = flags;
    be16(t + 14, 0xffff);
}

/* ---- sending ---- */

static void plain_and_checksum(struct card *c, struct recorder *rec)
{
    const struct net_stats before = net_stats_of(&rec->dev);
    uint8_t f[200];
    for (unsigned i = 0; i < sizeof f; i++)
        f[i] = (uint8_t)i;
    struct net_header h = {0};
    card_send(c, &h, f, sizeof f);
    CHECK(rec->nsent == 1 && rec->sent_len[0] == sizeof f && memcmp(rec->sent[0], f, sizeof f) == 0);
    recorder_forget(rec);
    /* A UDP checksum left to the device. */
    unsigned udp = ip4_headers(f, mac, 17, 0x0a00020f, 0x0a000202, sizeof f - 34), len = sizeof f - udp;
    be16(f + udp + 4, len);
    be16(f + udp + 6, pseudo(f + 14, false, 17, len));
    h = (struct net_header){.flags = NET_HDR_NEEDS_CSUM, .csum_start = (uint16_t)udp, .csum_offset = 6};
    card_send(c, &h, f, sizeof f);
    CHECK_EQ(rec->nsent, 1);
    CHECK_EQ(sum16(rec->sent[0] + udp, len, pseudo(f + 14, false, 17, len)), 0xffff);
    recorder_forget(rec);
    /* Outside of the frame, or never negotiated: nothing leaves. */
    static const struct net_header bad[] = {
        {.flags = NET_HDR_NEEDS_CSUM, .csum_start = 199, .csum_offset = 0},
        {.flags = NET_HDR_NEEDS_CSUM, .csum_start = 0xffff, .csum_offset = 0xffff},
        {.flags = NET_HDR_NEEDS_CSUM, .csum_start = 0, .csum_offset = 199},
        {.gso_type = 3, .gso_size = 100, .csum_start = 34, .csum_offset = 6},
        {.gso_type = 5, .gso_size = 100, .csum_start = 34, .csum_offset = 6},
        {.gso_type = 1, .gso_size = 100, .csum_start = 34, .csum_offset = 16}, /* not TCP */
        {.gso_type = 1, .gso_size = 1, .csum_start = 34, .csum_offset = 16},
        {.gso_type = 1, .gso_size = 100, .csum_start = 0xfff0, .csum_offset = 16},
        {.gso_type = 4, .gso_size = 100, .csum_start = 34, .csum_offset = 16},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        card_send(c, &bad[i], f, sizeof f);
    CHECK_EQ(rec->nsent, 0);
    struct net_stats after = net_stats_of(&rec->dev);
    CHECK(after.tx_drop >= before.tx_drop + 2); /* those of kinds that were not negotiated */
    CHECK(after.tx_packets >= before.tx_packets + 2 && after.tx_bytes - before.tx_bytes == (after.tx_packets - before.tx_packets) * sizeof f);
}

static void segmentation(struct card *c, struct recorder *rec, bool v6)
{
    static uint8_t f[10000];
    const unsigned mss = 1400, payload = 5 * 1400 + 77, tcp = v6 ? 54 : 34, data = tcp + 20;
    ip4_headers(f, mac, 6, 0x0a00020f, 0x0a000202, 20 + payload);
    if (v6) {
        memset(f + 12, 0, 42);
        be16(f + 12, 0x86dd);
        f[14] = 0x60;
        be16(f + 18, 20 + payload);
        f[20] = 6;
        f[21] = 64;
        for (unsigned i = 22; i < 54; i++)
            f[i] = (uint8_t)i;
    }
    tcp_header(f + tcp, 1000, 2000, 0xffffff00, 5, 0x99); /* CWR, ACK, PSH, FIN; the sequence number wraps */
    for (unsigned i = 0; i < payload; i++)
        f[data + i] = (uint8_t)(i * 31 >> 3);
    be16(f + tcp + 16, pseudo(f + 14, v6, 6, 20 + payload));
    struct net_header h = {
        .flags = NET_HDR_NEEDS_CSUM,
        .gso_type = v6 ? NET_GSO_TCPV6 : NET_GSO_TCPV4,
        .gso_size = mss,
        .hdr_len = (uint16_t)data,
        .csum_start = (uint16_t)tcp,
        .csum_offset = 16,
    };
    card_send(c, &h, f, data + payload);
    CHECK_EQ(rec->nsent, 6);
    for (unsigned i = 0; i < 6; i++) {
        const uint8_t *s = rec->sent[i];
        size_t part = i < 5 ? mss : 77, seg = 20 + part;
        CHECK_EQ(rec->sent_len[i], data + part);
        CHECK(memcmp(s + data, f + data + i * mss, part) == 0);
        CHECK_EQ(get_be32(s + tcp + 4), 0xffffff00 + i * mss);
        CHECK_EQ(s[tcp + 13], i == 0 ? 0x90 : i == 5 ? 0x19 : 0x10);
        CHECK_EQ(sum16(s + tcp, seg, pseudo(s + 14, v6, 6, seg)), 0xffff);
        CHECK_EQ(get_be16(s + (v6 ? 18 : 16)), v6 ? seg : 20 + seg);
        if (!v6) {
            CHECK_EQ(sum16(s + 14, 20, 0), 0xffff);
            CHECK_EQ(get_be16(s + 18), 0x1234 + i);
        }
    }
    recorder_forget(rec);
}

/* ---- receiving ---- */

static void receiving(struct card *c, struct recorder *rec)
{
    static uint8_t f[9000], got[9000];
    const struct net_stats before = net_stats_of(&rec->dev);
    struct net_header h;
    for (unsigned i = 0; i < sizeof f; i++)
        f[i] = (uint8_t)(i * 13 >> 2);
    for (unsigned round = 0; round < 40; round++) {
        uint32_t len = 60 + round * 100;
        f[0] = (uint8_t)round;
        recorder_inject(rec, f, len);
        CHECK_EQ(card_receive(c, &h, got), len);
        CHECK(memcmp(f, got, len) == 0);
        CHECK_EQ(h.flags, NET_HDR_DATA_VALID);
        CHECK_EQ(h.num_buffers, (len + HDR + c->rx_len - 1) / c->rx_len);
    }
    /* More at once than there are buffers: the rest waits, in order. */
    for (unsigned i = 0; i < 20; i++) {
        f[0] = (uint8_t)i;
        recorder_inject(rec, f, 2000);
    }
    for (unsigned i = 0; i < 20; i++) {
        CHECK_EQ(card_receive(c, &h, got), 2000);
        CHECK_EQ(got[0], i);
    }
    recorder_inject(rec, f, 300);
    CHECK_EQ(card_receive(c, &h, got), 300);
    struct net_stats s = net_stats_of(&rec->dev);
    CHECK_EQ(s.rx_packets - before.rx_packets, 40 + 20 + 1);
    CHECK_EQ(s.rx_bytes - before.rx_bytes, 40 * 60 + 100 * 39 * 40 / 2 + 20 * 2000 + 300);
    CHECK_EQ(s.rx_drop, before.rx_drop);
}

static void with_recorder(uint64_t ring)
{
    struct rig r;
    struct card c;
    struct recorder rec;
    rig_init(&r);
    recorder_init(&rec);
    card_open(&c, &r, &rec.dev, ring | F_CSUM | F_GUEST_CSUM | F_TSO4 | F_TSO6 | F_MERGE, 16, 512);
    plain_and_checksum(&c, &rec);
    segmentation(&c, &rec, false);
    segmentation(&c, &rec, true);
    receiving(&c, &rec);
    vnet_destroy(c.vnet);
    /* Without merging: what does not fit one buffer is dropped, the next is not. */
    card_open(&c, &r, &rec.dev, ring, 4, RXBUF);
    static uint8_t f[4000], got[4000];
    struct net_header h;
    recorder_inject(&rec, f, 3000);
    f[0] = 1;
    recorder_inject(&rec, f, 1500);
    CHECK_EQ(card_receive(&c, &h, got), 1500);
    CHECK(got[0] == 1 && h.flags == 0 && h.num_buffers == 1);
    CHECK(net_stats_of(&rec.dev).rx_drop >= 1);
    h = (struct net_header){.flags = NET_HDR_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
    card_send(&c, &h, f, 100); /* not negotiated */
    CHECK_EQ(rec.nsent, 0);
    vnet_destroy(c.vnet);
    close(rec.event);
    rig_free(&r);
}

/* ---- the user network ---- */

#define GUEST_IP 0x0a00020fu
#define HOST_IP  0x0a000202u

static uint8_t gateway[6];

static void send_plain(struct card *c, const uint8_t *frame, uint32_t len)
{
    struct net_header h = {0};
    card_send(c, &h, frame, len);
}

/* Waits for a frame of that EtherType and, for IPv4, protocol; others are passed over. */
static uint32_t expect_frame(struct card *c, unsigned type, unsigned protocol, uint8_t *f)
{
    struct net_header h;
    for (;;) {
        uint32_t len = card_receive(c, &h, f);
        if (len >= 34 && get_be16(f + 12) == type && (type != 0x0800 || f[14 + 9] == protocol))
            return len;
    }
}

static void arp(struct card *c)
{
    uint8_t f[2048] = {0};
    memset(f, 0xff, 6);
    memcpy(f + 6, mac, 6);
    be16(f + 12, 0x0806);
    memcpy(f + 14, (uint8_t[]){0, 1, 8, 0, 6, 4, 0, 1}, 8);
    memcpy(f + 22, mac, 6);
    be32(f + 28, GUEST_IP);
    be32(f + 38, HOST_IP);
    send_plain(c, f, 60);
    CHECK(expect_frame(c, 0x0806, 0, f) >= 42);
    CHECK_EQ(get_be16(f + 20), 2);
    CHECK_EQ(get_be32(f + 28), HOST_IP);
    memcpy(gateway, f + 22, 6);
}

static uint32_t udp_frame(uint8_t *f, const uint8_t *to, uint32_t src, uint32_t dst, unsigned sport, unsigned dport,
                          const void *data, unsigned len)
{
    unsigned udp = ip4_headers(f, to, 17, src, dst, 8 + len);
    be16(f + udp, sport);
    be16(f + udp + 2, dport);
    be16(f + udp + 4, 8 + len);
    be16(f + udp + 6, 0);
    memcpy(f + udp + 8, data, len);
    return udp + 8 + len;
}

static void dhcp(struct card *c)
{
    uint8_t m[300] = {1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78}, f[2048];
    memcpy(m + 28, mac, 6);
    memcpy(m + 236, (uint8_t[]){0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255}, 8);
    send_plain(c, f, udp_frame(f, (uint8_t[]){255, 255, 255, 255, 255, 255}, 0, 0xffffffff, 68, 67, m, sizeof m));
    CHECK(expect_frame(c, 0x0800, 17, f) > 42 + 240);
    CHECK_EQ(get_be32(f + 42 + 16), GUEST_IP); /* the offered address */
    CHECK_EQ(f[42 + 240 + 2], 2);              /* an offer */
}

/* A UDP or TCP server socket on the host's loopback; its port. */
static int server(int type, unsigned *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void udp_echo(struct card *c)
{
    unsigned port;
    AUTO_CLOSE int fd = server(SOCK_DGRAM, &port);
    uint8_t f[2048], data[1200];
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    memset(data, 'u', sizeof data);
    send_plain(c, f, udp_frame(f, gateway, GUEST_IP, HOST_IP, 5000, port, data, sizeof data));
    CHECK_EQ(recvfrom(fd, f, sizeof f, 0, (struct sockaddr *)&from, &from_len), sizeof data);
    CHECK(memcmp(f, data, sizeof data) == 0);
    CHECK(sendto(fd, "pong", 4, 0, (struct sockaddr *)&from, from_len) == 4);
    CHECK_EQ(expect_frame(c, 0x0800, 17, f), 46);
    CHECK(get_be16(f + 36) == 5000 && memcmp(f + 42, "pong", 4) == 0);
    CHECK_EQ(sum16(f + 34, 12, pseudo(f + 14, false, 17, 12)), 0xffff); /* as DATA_VALID promises */
}

struct tcp {
    unsigned port;
    uint32_t seq, ack;
};

/* Sends a segment, its checksum left to the card; a long one is left to it to cut. */
static void tcp_send(struct card *c, struct tcp *t, uint8_t flags, const void *data, uint32_t len)
{
    static uint8_t f[70000];
    ip4_headers(f, gateway, 6, GUEST_IP, HOST_IP, 20 + len);
    tcp_header(f + 34, 4000, t->port, t->seq, t->ack, flags);
    if (len)
        memcpy(f + 54, data, len);
    be16(f + 50, pseudo(f + 14, false, 6, 20 + len));
    struct net_header h = {.flags = NET_HDR_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16};
    if (len > 1460) {
        h.gso_type = NET_GSO_TCPV4;
        h.gso_size = 1460;
    }
    card_send(c, &h, f, 54 + len);
    t->seq += len + !!(flags & 3);
}

static void tcp_both_ways(struct card *c)
{
    struct tcp t = {.seq = 1000};
    AUTO_CLOSE int listener = server(SOCK_STREAM, &t.port);
    static uint8_t big[30000], got[30000], f[4096];
    CHECK(listen(listener, 1) == 0);
    tcp_send(c, &t, 0x02, NULL, 0);
    CHECK(expect_frame(c, 0x0800, 6, f) >= 54);
    CHECK_EQ(f[47] & 0x12, 0x12);
    t.ack = get_be32(f + 38) + 1;
    CHECK_EQ(get_be32(f + 42), t.seq);
    tcp_send(c, &t, 0x10, NULL, 0);
    AUTO_CLOSE int fd = accept(listener, NULL, NULL);
    CHECK(fd >= 0);
    for (unsigned i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i * 101 >> 4);
    tcp_send(c, &t, 0x18, big, sizeof big);
    CHECK_EQ(recv(fd, got, sizeof got, MSG_WAITALL), sizeof got);
    CHECK(memcmp(big, got, sizeof big) == 0);
    /* The other way, acknowledged as it comes. */
    CHECK(send(fd, big, sizeof big, 0) == sizeof big);
    size_t total = 0;
    while (total < sizeof big) {
        uint32_t len = expect_frame(c, 0x0800, 6, f), head = 34 + (f[46] >> 4) * 4u;
        uint32_t part = get_be16(f + 16) + 14 - head;
        CHECK(head + part <= len);
        CHECK_EQ(sum16(f + 34, get_be16(f + 16) - 20, pseudo(f + 14, false, 6, get_be16(f + 16) - 20)), 0xffff);
        if (get_be32(f + 38) != t.ack || part == 0)
            continue;
        memcpy(got + total, f + head, part);
        total += part;
        t.ack += part;
        tcp_send(c, &t, 0x10, NULL, 0);
    }
    CHECK(memcmp(big, got, sizeof big) == 0);
    tcp_send(c, &t, 0x14, NULL, 0); /* reset: nothing lingers */
}

/* Garbage to libslirp, under the sanitizers. */
static void garbage(struct card *c)
{
    struct rnd rnd = {99};
    uint8_t f[1600];
    for (unsigned i = 0; i < 3000; i++) {
        uint32_t len = 21 + rnd_below(&rnd, 1400);
        for (unsigned k = 0; k < len; k++)
            f[k] = (uint8_t)rnd64(&rnd);
        unsigned kind = rnd_below(&rnd, 4);
        if (kind && len > 60) {
            ip4_headers(f, gateway, kind == 1 ? 17 : kind == 2 ? 6 : 1, GUEST_IP, HOST_IP, len - 34);
            f[14 + rnd_below(&rnd, 20)] ^= (uint8_t)(1 << rnd_below(&rnd, 8));
        }
        send_plain(c, f, len);
        uint16_t id;
        uint32_t dummy;
        while (drv_take(&c->d, RX, &id, &dummy))
            post_rx(c, c->rx_of[id]);
    }
}

static void with_user_network(uint64_t ring, bool restricted)
{
    struct rig r;
    struct card c;
    struct netdev *net;
    ERROR_SCOPED(err);
    rig_init(&r);
    CHECK(net_user_create(&(struct net_user_config){.hostname = "guest", .restricted = restricted}, &net, &err) == 0);
    card_open(&c, &r, net, ring | F_CSUM | F_GUEST_CSUM | F_TSO4 | F_MERGE, 32, RXBUF);
    arp(&c);
    dhcp(&c);
    if (restricted) {
        garbage(&c); /* which must not reach the host's own servers */
        arp(&c);
    } else {
        udp_echo(&c);
        tcp_both_ways(&c);
    }
    vnet_destroy(c.vnet);
    netdev_destroy(net);
    rig_free(&r);
}

int main(void)
{
    static const uint64_t rings[] = {0, DRV_EVENT | DRV_INDIRECT, DRV_PACKED, DRV_PACKED | DRV_EVENT | DRV_INDIRECT};
    for (unsigned i = 0; i < ARRAY_SIZE(rings); i++) {
        with_recorder(rings[i]);
        with_user_network(rings[i], false);
        with_user_network(rings[i], true);
    }
    return 0;
}
