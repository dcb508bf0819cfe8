// SPDX-License-Identifier: GPL-2.0-or-later
/* The e1000e, as a driver meets it, polite and not. The network behind it is a box that keeps what is sent and delivers what the
 * test puts in. */
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/util.h"
#include "devices/ether/e1000e.h"
#include "rig.h"

#define SLOT            4
#define FN              PCI_DEVFN(SLOT, 0)
#define BAR             RIG_MMIO32
#define MSIX            (RIG_MMIO32 + 0x100000)
#define DATA_OF(vector) (10 + (vector)) /* of a vector's message */
#define RING            16u             /* descriptors */

enum {
    CTRL = 0x00,
    STATUS = 0x08,
    EERD = 0x14,
    CTRL_EXT = 0x18,
    MDIC = 0x20,
    ICR = 0xc0,
    ICS = 0xc8,
    IMS = 0xd0,
    IMC = 0xd8,
    EIAC = 0xdc,
    IAM = 0xe0,
    IVAR = 0xe4,
    EITR = 0xe8,
    RCTL = 0x100,
    TCTL = 0x400,
    RX = 0x2800,
    TX = 0x3800,
    GPRC = 0x4074,
    RXCSUM = 0x5000,
    RFCTL = 0x5008,
    RAL = 0x5400,
    MRQC = 0x5818,
    RETA = 0x5c00,
    RSSRK = 0x5c80
};
enum { LOW = 0, HIGH = 4, LEN = 8, HEAD = 0x10, TAIL = 0x18, SECOND = 0x100 };

static struct rig rig, *const r = &rig;
static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};
static uint64_t rx_ring, tx_ring, buffers;

static uint32_t get(unsigned reg)
{
    return (uint32_t)rig_read(r, BUS_MMIO, BAR + reg, 4);
}

static void put(unsigned reg, uint32_t val)
{
    rig_write(r, BUS_MMIO, BAR + reg, 4, val);
}

/* ---- the network ---- */

static struct {
    struct netdev dev;
    pthread_mutex_t lock;
    int fd;
    uint8_t sent[64][2048], in[2048];
    size_t sent_len[64], in_len;
    unsigned nsent;
    unsigned arrived, delivered; /* the last frame that was put in; the last that the card has been given */
} box = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void box_send(struct netdev *n, const void *frame, size_t len)
{
    (void)n;
    pthread_mutex_lock(&box.lock);
    unsigned at = box.nsent % 64;
    box.sent_len[at] = len;
    memcpy(box.sent[at], frame, MIN(len, sizeof box.sent[0]));
    box.nsent++;
    pthread_mutex_unlock(&box.lock);
}

static void box_prepare(struct netdev *n, struct pollset *p)
{
    (void)n;
    pollset_add(p, box.fd, POLLIN);
}

static void box_dispatch(struct netdev *n, struct pollset *p)
{
    eventfd_t count;
    uint8_t frame[2048];
    (void)p;
    if (eventfd_read(box.fd, &count) < 0)
        return;
    pthread_mutex_lock(&box.lock);
    size_t len = box.in_len;
    unsigned arrived = box.arrived;
    memcpy(frame, box.in, len);
    pthread_mutex_unlock(&box.lock);
    if (n->receive)
        n->receive(n->opaque, frame, len);
    pthread_mutex_lock(&box.lock);
    box.delivered = arrived;
    pthread_mutex_unlock(&box.lock);
}

static void box_destroy(struct netdev *n)
{
    (void)n;
}

static const struct netdev_ops box_ops = {
    .name = "box", .send = box_send, .prepare = box_prepare, .dispatch = box_dispatch, .destroy = box_destroy};

static unsigned sent(void)
{
    pthread_mutex_lock(&box.lock);
    unsigned n = box.nsent;
    pthread_mutex_unlock(&box.lock);
    return n;
}

static bool sends(unsigned want)
{
    for (unsigned i = 0; i < 240000 && sent() < want; i++)
        usleep(500);
    return sent() == want;
}

static void arrive_frame(const uint8_t *head, size_t head_len, size_t len)
{
    pthread_mutex_lock(&box.lock);
    memset(box.in, 0xab, sizeof box.in);
    memcpy(box.in, head, head_len);
    box.in_len = len;
    box.arrived++;
    pthread_mutex_unlock(&box.lock);
    eventfd_write(box.fd, 1);
}

static void arrive(const uint8_t *to, size_t len)
{
    arrive_frame(to, 6, len);
}

/* Resets the card, and waits until its thread has ended what it was at: a frame that comes now is dropped by the turn behind it. */
static void settle(void)
{
    bool done = false;
    put(CTRL, 1u << 26);
    arrive(mac, 64);
    for (unsigned i = 0; i < 240000 && !done; i++) {
        usleep(500);
        pthread_mutex_lock(&box.lock);
        done = box.delivered == box.arrived;
        pthread_mutex_unlock(&box.lock);
    }
    CHECK(done);
}

/* ---- the driver ---- */

static void start(void)
{
    put(CTRL, 1u << 26);
    const unsigned rings[] = {RX, TX};
    for (unsigned i = 0; i < 2; i++) {
        put(rings[i] + LOW, (uint32_t)(i ? tx_ring : rx_ring));
        put(rings[i] + HIGH, 0);
        put(rings[i] + LEN, RING * 16);
        put(rings[i] + HEAD, 0);
        put(rings[i] + TAIL, 0);
        memset(rig_at(r, i ? tx_ring : rx_ring), 0, RING * 16);
    }
    for (unsigned i = 0; i < RING; i++)
        *(uint64_t *)rig_at(r, rx_ring + 16 * i) = buffers + 2048 * i;
    put(TCTL, 2);
    put(RCTL, 1u << 1 | 1u << 15 | 1u << 26);
}

static unsigned tail;

static void descriptor(uint64_t low, uint64_t high)
{
    uint64_t *d = rig_at(r, tx_ring + 16 * (tail % RING));
    d[0] = low, d[1] = high;
    tail++;
}

static void transmit(void)
{
    put(TX + TAIL, tail % RING);
}

#define EOP  (1ull << 24)
#define RS   (1ull << 27)
#define EXT  (1ull << 29)
#define DATA (EXT | 1ull << 20)

static void identity(void)
{
    uint32_t sum = 0;
    CHECK_EQ(rig_cfg_read(r, FN, 0, 4), 0x10d38086);
    CHECK_EQ(get(STATUS) & 0x80083, 0x80083);
    CHECK_EQ(get(RAL), 0x01005452);
    CHECK_EQ(get(RAL + 4), 0x80000302);
    for (unsigned i = 0; i < 0x40; i++) {
        put(EERD, i << 2 | 1);
        CHECK(get(EERD) & 2);
        sum += get(EERD) >> 16;
    }
    CHECK_EQ(sum & 0xffff, 0xbaba);
    put(MDIC, 2u << 26 | 1u << 21 | 2u << 16);
    CHECK_EQ(get(MDIC) & 0x5000ffff, 0x10000141);
    put(MDIC, 2u << 26 | 5u << 21 | 2u << 16); /* nobody is at that address */
    CHECK_EQ(get(MDIC) & 0x50000000, 0x50000000);
}

static void interrupts(void)
{
    unsigned gsi = pci_intx_gsi(SLOT, 1);
    put(ICS, 4);
    CHECK(!rig_gsi(r, gsi));
    put(IMS, 4);
    CHECK(rig_gsi(r, gsi));
    CHECK_EQ(get(ICR), 0x80000004);
    CHECK(!rig_gsi(r, gsi));
    CHECK_EQ(get(ICR), 0);
    put(IMC, ~0u);
}

/* ---- MSI-X ---- */

enum { RXQ0 = 1 << 20, RXQ1 = 1 << 21, TXQ0 = 1 << 22, TXQ1 = 1 << 23, OTHER = 1 << 24, LSC = 4 };
#define IVAR_ALL 0x000cba98u /* RxQ0 to vector 0, RxQ1 to 1, TxQ0 to 2, TxQ1 to 3, others to 4 */

static void msix_on(bool on)
{
    unsigned cap = rig_cap(r, FN, 0x11, 0);
    CHECK_EQ(rig_cfg_read(r, FN, cap + 2, 2) & 0x7ff, 4);
    CHECK_EQ(rig_cfg_read(r, FN, cap + 4, 4) & 7, 3);
    rig_cfg_write(r, FN, 0x1c, 4, MSIX);
    for (unsigned i = 0; i < 5; i++) {
        rig_write(r, BUS_MMIO, MSIX + 16 * i, 4, 0xfee00000);
        rig_write(r, BUS_MMIO, MSIX + 16 * i + 4, 4, 0);
        rig_write(r, BUS_MMIO, MSIX + 16 * i + 8, 4, DATA_OF(i));
        rig_write(r, BUS_MMIO, MSIX + 16 * i + 12, 4, 0);
    }
    rig_cfg_write(r, FN, cap + 2, 2, on ? 0x8000 : 0);
}

static unsigned messages(unsigned vector)
{
    return rig_msis(r, DATA_OF(vector));
}

/* One message more of this vector, and none of the others, since the last call. */
static bool only_message(unsigned vector)
{
    static unsigned seen[5];
    bool only = true;
    for (unsigned i = 0; i < 5; i++) {
        only = only && messages(i) == seen[i] + (i == vector);
        seen[i] = messages(i);
    }
    return only;
}
#define NO_MESSAGE 5

static void vectors(void)
{
    put(CTRL, 1u << 26);
    msix_on(true);
    put(IMS, RXQ0 | TXQ0 | OTHER | LSC);
    put(ICS, RXQ0);
    CHECK(only_message(NO_MESSAGE)); /* no vector yet */
    put(IVAR, IVAR_ALL);
    CHECK(only_message(0));
    put(ICS, RXQ0);
    CHECK(only_message(NO_MESSAGE)); /* it stands already */
    CHECK_EQ(get(ICR), 0x80000000 | RXQ0);
    put(ICS, RXQ0 | RXQ1 | TXQ1); /* the last two are masked */
    CHECK(only_message(0));
    put(ICS, LSC);
    CHECK(only_message(4));
    CHECK(!rig_gsi(r, pci_intx_gsi(SLOT, 1)));
    CHECK_EQ(get(ICR), 0x80000000 | RXQ0 | RXQ1 | TXQ1 | OTHER | LSC);
    put(IVAR, 0xfffff); /* a vector that the card does not have */
    put(ICS, RXQ0 | TXQ0 | OTHER);
    CHECK(only_message(NO_MESSAGE));
    put(ICR, ~0u);
    put(IVAR, IVAR_ALL);
}

static void clears_and_masks_itself(void)
{
    put(EIAC, RXQ0);
    put(ICS, RXQ0);
    CHECK(only_message(0));
    CHECK_EQ(get(ICR), 0);
    put(ICS, RXQ0);
    CHECK(only_message(0));
    put(IAM, TXQ0 | OTHER);
    put(ICS, TXQ0);
    CHECK(only_message(2));
    CHECK(get(IMS) & TXQ0); /* not without EIAME */
    CHECK_EQ(get(ICR), 0x80000000 | TXQ0);
    put(CTRL_EXT, 1u << 24);
    put(ICS, TXQ0);
    CHECK(only_message(2));
    CHECK_EQ(get(IMS), RXQ0 | OTHER | LSC);
    put(ICS, TXQ0);
    CHECK(only_message(NO_MESSAGE));
    put(IMS, TXQ0);
    CHECK(only_message(2));
    /* A vector that its table masks is pending until it is not. */
    rig_write(r, BUS_MMIO, MSIX + 12, 4, 1);
    put(ICS, RXQ0);
    CHECK(only_message(NO_MESSAGE));
    CHECK_EQ(rig_read(r, BUS_MMIO, MSIX + 0x800, 8), 1);
    rig_write(r, BUS_MMIO, MSIX + 12, 4, 0);
    CHECK(only_message(0));
    msix_on(false);
    put(ICR, ~0u);
    put(IMS, LSC);
    put(ICS, LSC);
    CHECK(only_message(NO_MESSAGE) && rig_gsi(r, pci_intx_gsi(SLOT, 1)));
    put(IMC, ~0u);
    get(ICR);
}

static void sending(void)
{
    uint8_t *f = rig_at(r, buffers);
    unsigned n = sent();
    start();
    tail = 0;
    memset(f, 0x11, 100);
    descriptor(buffers, 60 | EOP | RS);
    transmit();
    CHECK(sends(n + 1));
    CHECK_EQ(box.sent_len[n % 64], 60);
    for (unsigned i = 0; i < 240000 && !(get(ICR) & 1); i++)
        usleep(500);
    CHECK(*(uint64_t *)rig_at(r, tx_ring + 8) >> 32 & 1);
    /* Two pieces, a VLAN tag. */
    descriptor(buffers, 14 | DATA);
    descriptor(buffers + 50, 50 | DATA | EOP | 1ull << 30 | 0x123ull << 48);
    transmit();
    CHECK(sends(n + 2));
    const uint8_t *s = box.sent[(n + 1) % 64];
    CHECK(box.sent_len[(n + 1) % 64] == 68 && s[12] == 0x81 && s[14] == 1 && s[15] == 0x23 && s[16] == 0x11);
}

/* A TCP segment of 3000 bytes, of which the card makes two of 1448 and one of 104. */
static void segments(void)
{
    uint8_t *f = rig_at(r, buffers);
    unsigned n = sent();
    memset(f, 0, 3054);
    f[12] = 8, f[14] = 0x45, f[20] = 0x40, f[22] = 64, f[23] = 6, f[46] = 0x50, f[47] = 0x18;
    descriptor(14 | 24 << 8 | 33 << 16 | 34ull << 32 | 50ull << 40, 3000 | EXT | 0x27ull << 24 | 54ull << 40 | 1448ull << 48);
    descriptor(buffers, 3054 | DATA | EOP | 1ull << 26 | 3ull << 40);
    transmit();
    CHECK(sends(n + 3));
    CHECK(box.sent_len[n % 64] == 1502 && box.sent_len[(n + 1) % 64] == 1502 && box.sent_len[(n + 2) % 64] == 158);
    uint32_t sum = 0;
    for (unsigned i = 14; i < 34; i += 2)
        sum += (uint32_t)(box.sent[n % 64][i] << 8 | box.sent[n % 64][i + 1]);
    CHECK_EQ((sum & 0xffff) + (sum >> 16), 0xffff); /* the IP header's checksum */
}

static bool received(unsigned head)
{
    for (unsigned i = 0; i < 240000 && get(RX + HEAD) != head; i++)
        usleep(500);
    return get(RX + HEAD) == head;
}

static void receiving(void)
{
    const uint8_t other[6] = {0x52, 0x54, 0, 9, 9, 9}, everyone[6] = {255, 255, 255, 255, 255, 255};
    start();
    put(RX + TAIL, 4);
    arrive(mac, 200);
    CHECK(received(1));
    uint64_t status = *(uint64_t *)rig_at(r, rx_ring + 8);
    CHECK((status & 0xffff) == 200 && (status >> 32 & 3) == 3);
    CHECK(((uint8_t *)rig_at(r, buffers))[199] == 0xab);
    arrive(other, 200); /* not ours */
    arrive(everyone, 20);
    CHECK(received(2));
    CHECK_EQ(*(uint64_t *)rig_at(r, rx_ring + 16 + 8) & 0xffff, 60);
    /* Extended descriptors. */
    put(RFCTL, 1u << 15);
    arrive(mac, 300);
    CHECK(received(3));
    CHECK_EQ(*(uint64_t *)rig_at(r, rx_ring + 32 + 8), 300ull << 32 | 7);
    CHECK_EQ(get(GPRC), 3);
    CHECK_EQ(get(GPRC), 0);
}

/* ---- the second queues ---- */

static bool message_comes(unsigned vector, unsigned seen)
{
    return rig_wait_msi(r, DATA_OF(vector), seen);
}

/* Microsoft's example of the hash: its key, and 66.9.149.187:2794 to 161.142.100.80:1766. */
static void scaling(void)
{
    static const uint8_t key[40] = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
                                    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
                                    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
    uint8_t head[54] = {[12] = 8, [14] = 0x45, [23] = 6, [26] = 66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6};
    uint64_t second = rx_ring + RING * 16 / 2; /* the upper half of the first's memory, which has its own half only */
    unsigned seen = messages(1);
    start();
    msix_on(true);
    put(IVAR, IVAR_ALL);
    put(IMS, RXQ0 | RXQ1 | TXQ1);
    put(RX + LEN, RING * 16 / 2);
    put(RX + TAIL, RING / 2 - 1);
    put(RX + SECOND + LOW, (uint32_t)second);
    put(RX + SECOND + LEN, RING * 16 / 2);
    put(RX + SECOND + TAIL, RING / 2 - 1);
    for (unsigned i = 0; i < sizeof key; i += 4)
        put(RSSRK + i, key[i] | (uint32_t)key[i + 1] << 8 | (uint32_t)key[i + 2] << 16 | (uint32_t)key[i + 3] << 24);
    put(RETA + (0x51ccc178 & 127 & ~3u), 0x80u << 8 * (0x78 & 3));
    put(RFCTL, 1u << 15);
    put(RXCSUM, 1u << 13);
    put(MRQC, 3u << 16 | 1);
    memcpy(head, mac, 6);
    arrive_frame(head, sizeof head, 80);
    CHECK(message_comes(1, seen));
    CHECK_EQ(get(RX + HEAD), 0);
    CHECK_EQ(get(RX + SECOND + HEAD), 1);
    CHECK_EQ(*(uint64_t *)rig_at(r, second), 0x51ccc17800000101);
    /* Without its ports another hash, whose entry says the first queue. */
    seen = messages(0);
    put(MRQC, 2u << 16 | 1);
    arrive_frame(head, sizeof head, 80);
    CHECK(message_comes(0, seen));
    CHECK_EQ(*(uint64_t *)rig_at(r, rx_ring), 0x323e8fc200000002);
    /* The second transmit ring has its own cause. */
    unsigned n = sent();
    seen = messages(3);
    uint64_t *d = rig_at(r, tx_ring);
    d[0] = buffers, d[1] = 60 | EOP | RS;
    put(TX + SECOND + LOW, (uint32_t)tx_ring);
    put(TX + SECOND + LEN, RING * 16);
    put(TX + SECOND + TAIL, 1);
    CHECK(sends(n + 1) && message_comes(3, seen));
    CHECK(d[1] >> 32 & 1);
    msix_on(false);
}

/* Any value in any register, rings and descriptors of noise; a reset makes it a card again. */
static void noise(unsigned rounds)
{
    static const unsigned regs[] = {CTRL,      EERD,     MDIC,      ICR,       ICS,      IMS,       IMC,       RCTL,
                                    TCTL,      RFCTL,    RX + LOW,  RX + HIGH, RX + LEN, RX + HEAD, RX + TAIL, TX + LOW,
                                    TX + HIGH, TX + LEN, TX + HEAD, TX + TAIL, CTRL_EXT, EIAC,      IAM,       IVAR,
                                    EITR,      MRQC,     RXCSUM,    RETA,      RSSRK};
    unsigned cap = rig_cap(r, FN, 0x11, 0);
    struct rnd rnd = {now_ns() | 1};
    printf("seed %llu\n", (unsigned long long)rnd.state);
    fflush(stdout);
    for (unsigned i = 0; i < rounds; i++) {
        uint32_t val = rnd_below(&rnd, 3) ? (uint32_t)rnd64(&rnd) >> rnd_below(&rnd, 32) : 1u << rnd_below(&rnd, 32);
        unsigned queue = rnd_below(&rnd, 4) ? 0 : SECOND, reg = regs[rnd_below(&rnd, ARRAY_SIZE(regs))];
        switch (rnd_below(&rnd, 6)) {
        case 0:
            put(reg >= RX && reg < TX + SECOND ? reg + queue : reg, val);
            break;
        case 5:
            rig_cfg_write(r, FN, cap + 2, 2, val);
            rig_write(r, BUS_MMIO, MSIX + rnd_below(&rnd, 0x1000 - 8), 1u << rnd_below(&rnd, 4), val);
            rig_read(r, BUS_MMIO, MSIX + rnd_below(&rnd, 0x1000 - 8), 1u << rnd_below(&rnd, 4));
            break;
        case 1:
            rig_write(r, BUS_MMIO, BAR + rnd_below(&rnd, 0x20000 - 8), 1u << rnd_below(&rnd, 4), val);
            rig_read(r, BUS_MMIO, BAR + rnd_below(&rnd, 0x20000 - 8), 1u << rnd_below(&rnd, 4));
            break;
        case 2:
            for (unsigned k = 0; k < RING; k++)
                descriptor(rnd_below(&rnd, 2) ? rnd64(&rnd) : buffers + rnd_below(&rnd, 4096), rnd64(&rnd));
            transmit();
            break;
        case 3:
            arrive(mac, 14 + rnd_below(&rnd, 2000));
            break;
        case 4:
            start();
            put(RX + TAIL, rnd_below(&rnd, RING));
            break;
        }
    }
    settle();
    msix_on(false);
    sending();
    receiving();
    scaling();
}

int main(int argc, char **argv)
{
    struct e1000e *card;
    rig_init(r);
    box.dev.ops = &box_ops;
    box.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct e1000e_config cfg = {.slot = SLOT, .net = &box.dev};
    memcpy(cfg.mac, mac, sizeof mac);
    CHECK(e1000e_create(r->pci, &cfg, &card, NULL) == 0);
    CHECK_EQ(e1000e_slot(card), SLOT);
    rig_cfg_write(r, FN, 0x10, 4, BAR);
    rig_cfg_write(r, FN, 4, 2, 6);
    rx_ring = rig_alloc(r, RING * 16, 128);
    tx_ring = rig_alloc(r, RING * 16, 128);
    buffers = rig_alloc(r, RING * 2048, 4096);
    identity();
    interrupts();
    vectors();
    clears_and_masks_itself();
    sending();
    segments();
    receiving();
    scaling();
    noise(argc > 1 ? (unsigned)atoi(argv[1]) : 20000);
    e1000e_destroy(card);
    close(box.fd);
    rig_free(r);
    return 0;
}
