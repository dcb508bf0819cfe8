// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The rings (82574 data sheet, 7.1 and 7.2). A ring is RDLEN or TDLEN bytes of descriptors of 16 bytes; the card owns those from
 * head to tail; there are two each way. Each descriptor is copied once. A ring, a head or a tail that makes no sense is an empty
 * ring.
 */
#include "devices/ether/e1000e_internal.h"

#include <string.h>

#include "net/offload.h"

#define DESC 16u

static void count(struct e1000e *e, unsigned frames, unsigned bytes, size_t len)
{
    uint64_t total = (*e_reg(e, bytes) | (uint64_t)*e_reg(e, bytes + 4) << 32) + len;
    *e_reg(e, frames) += 1;
    *e_reg(e, bytes) = (uint32_t)total;
    *e_reg(e, bytes + 4) = (uint32_t)(total >> 32);
}

struct ring {
    uint64_t base;
    uint32_t count, head, tail;
};

/* ---- transmit ---- */

/* The upper half of a descriptor, as a little-endian number: 7.2.10, 7.2.11, 7.2.12. */
#define TX_LEN(d)        ((uint32_t)((d)&0xfffff))
#define TX_LEGACY_LEN(d) ((uint32_t)((d)&0xffff))
#define TX_TYPE(d)       ((d) >> 20 & 15)
#define TX_EXTENDED      BIT64(29) /* DEXT: not of the oldest kind */
#define TX_EOP           BIT64(24)
#define TX_INSERT_CS     BIT64(26) /* old kind: IC; data: TSE */
#define TX_REPORT        BIT64(27)
#define TX_VLAN          BIT64(30)
#define TX_DONE          BIT64(32)
#define TX_IP_SUM        BIT64(40) /* data: POPTS.IXSM */
#define TX_TCP_SUM       BIT64(41)
#define TUCMD_TCP        1u
#define TUCMD_IPV4       2u
#define VLAN_BYTES       4u
#define ETH_ADDRESSES    12u

/* `base` is RDBAL or TDBAL. */
static struct ring ring_at(struct e1000e *e, unsigned base, unsigned queue)
{
    base += queue * E_QUEUE;
    struct ring r = {.base = (*e_reg(e, base) & ~15u) | (uint64_t)*e_reg(e, base + 4) << 32,
                     .count = *e_reg(e, base + 8) / DESC,
                     .head = *e_reg(e, base + 0x10),
                     .tail = *e_reg(e, base + 0x18)};
    if (r.head >= r.count || r.tail >= r.count)
        r.head = r.tail = 0;
    return r;
}

static void take_context(struct e1000e_tx *t, uint64_t low, uint64_t high)
{
    t->context = (struct e1000e_context){.ipcss = (uint8_t)low,
                                         .ipcso = (uint8_t)(low >> 8),
                                         .ipcse = (uint16_t)(low >> 16),
                                         .tucss = (uint8_t)(low >> 32),
                                         .tucso = (uint8_t)(low >> 40),
                                         .tucse = (uint16_t)(low >> 48),
                                         .tucmd = (uint8_t)(high >> 24),
                                         .hdrlen = (uint8_t)(high >> 40),
                                         .mss = (uint16_t)(high >> 48)};
}

static void gather(struct e1000e *e, struct e1000e_tx *t, uint64_t gpa, uint32_t len)
{
    const void *data = len ? guestmem_ptr(e->bus->mem, gpa, len) : NULL;
    if ((len && !data) || len > NET_FRAME_MAX - VLAN_BYTES - t->len)
        t->skip = true;
    if (t->skip || !len)
        return;
    memcpy(t->frame + t->len, data, len);
    t->len += len;
}

static void insert_vlan(struct e1000e_tx *t, uint16_t tag)
{
    uint8_t *f = t->frame;
    if (t->len < ETH_ADDRESSES + 2)
        return;
    memmove(f + ETH_ADDRESSES + VLAN_BYTES, f + ETH_ADDRESSES, t->len - ETH_ADDRESSES);
    f[ETH_ADDRESSES] = 0x81, f[ETH_ADDRESSES + 1] = 0;
    f[ETH_ADDRESSES + 2] = (uint8_t)(tag >> 8), f[ETH_ADDRESSES + 3] = (uint8_t)tag;
    t->len += VLAN_BYTES;
}

/* The sum over [start, end] (end 0: to the end of the frame), complemented, stored at `at`. */
static void checksum(uint8_t *f, size_t len, size_t start, size_t at, size_t end)
{
    size_t last = end && end < len ? end + 1 : len;
    uint32_t sum = 0;
    if (start >= last || at + 2 > len)
        return;
    for (size_t i = start; i < last; i++)
        sum += (uint32_t)f[i] << ((i - start) & 1 ? 0 : 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    f[at] = (uint8_t)(~sum >> 8), f[at + 1] = (uint8_t)~sum;
}

static void emit(void *card, const uint8_t *frame, size_t len)
{
    struct e1000e *e = card;
    if (e->pcap)
        pcap_write(e->pcap, &(struct iovec){(void *)frame, len}, 1, len);
    net_count_tx(e->net, len);
    e->net->ops->send(e->net, frame, len);
}

/* A frame that was gathered, on its way out: the descriptor that ended it, and the context as it was then. */
struct outgoing {
    uint8_t *frame;
    uint64_t high;
    uint32_t len;
    struct e1000e_context c;
    bool whole; /* there is a frame */
};

/* Lock not held: the frame is the card's own copy. */
static void send_frame(struct e1000e *e, const struct outgoing *o)
{
    uint8_t *f = o->frame;
    const struct e1000e_context *c = &o->c;
    bool extended = o->high & TX_EXTENDED;
    if (!o->whole || o->len < ETH_ADDRESSES + 2)
        return;
    if (extended && (o->high & TX_INSERT_CS)) {
        struct net_header h = {.gso_type = c->tucmd & TUCMD_IPV4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6,
                               .flags = NET_HDR_NEEDS_CSUM,
                               .hdr_len = c->hdrlen,
                               .gso_size = c->mss,
                               .csum_start = c->tucss,
                               .csum_offset = (uint16_t)(c->tucso - c->tucss)};
        offload_segment(&h, f, o->len, e->tx_room, emit, e);
        return;
    }
    if (extended && (o->high & TX_TCP_SUM))
        checksum(f, o->len, c->tucss, c->tucso, c->tucse);
    if (extended && (o->high & TX_IP_SUM)) {
        if ((size_t)c->ipcso + 2 <= o->len)
            f[c->ipcso] = f[c->ipcso + 1] = 0;
        checksum(f, o->len, c->ipcss, c->ipcso, c->ipcse);
    }
    if (!extended && (o->high & TX_INSERT_CS)) /* CSO and CSS of the old kind */
        checksum(f, o->len, o->high >> 40 & 0xff, o->high >> 16 & 0xff, 0);
    emit(e, f, o->len);
}

/* A packet's last descriptor. */
static void end_frame(struct e1000e *e, struct e1000e_tx *t, uint64_t high, struct outgoing *out)
{
    if ((high & TX_VLAN) && !t->skip)
        insert_vlan(t, (uint16_t)(high >> 48));
    if (high & TX_EXTENDED) /* the old kind has the checksum's places there */
        high |= t->flags;
    *out = (struct outgoing){t->frame, high, t->len, t->context, !t->skip};
    t->flags = 0;
    count(e, GPTC, GOTC, t->len);
    t->len = 0;
    t->skip = false;
}

/* One descriptor. True when it ended a frame, which is in *out. */
static bool take_descriptor(struct e1000e *e, struct e1000e_tx *t, const struct ring *r, uint32_t *causes, struct outgoing *out)
{
    uint64_t at = r->base + (uint64_t)r->head * DESC, d[2], low, high;
    bool ended = false;
    if (guestmem_read(e->bus->mem, at, d, sizeof d) < 0)
        return false;
    low = le64toh(d[0]);
    high = le64toh(d[1]);
    if ((high & TX_EXTENDED) && TX_TYPE(high) == 0) {
        take_context(t, low, high);
    } else {
        gather(e, t, low, high & TX_EXTENDED ? TX_LEN(high) : TX_LEGACY_LEN(high));
        t->flags |= high & (TX_EXTENDED | TX_INSERT_CS | TX_IP_SUM | TX_TCP_SUM);
        ended = high & TX_EOP;
        if (ended)
            end_frame(e, t, high, out);
    }
    if (high & TX_REPORT) {
        uint64_t done = htole64(high | TX_DONE);
        guestmem_write(e->bus->mem, at + 8, &done, sizeof done);
        *causes |= INT_TXDW;
    }
    return ended;
}

static bool may_transmit(struct e1000e *e)
{
    return (*e_reg(e, TCTL) & TCTL_EN) && pci_dev_dma(&e->pci);
}

/* Takes descriptors up to the end of a frame. Lock held. False when the ring is empty before. */
static bool next_frame(struct e1000e *e, unsigned queue, struct outgoing *out)
{
    struct ring r = ring_at(e, TDBAL, queue);
    uint32_t causes = 0;
    bool ended = false;
    /* Not more than the ring holds: contexts without an end do not keep the thread here. */
    for (unsigned n = 0; may_transmit(e) && r.head != r.tail && !ended && n < r.count; n++) {
        ended = take_descriptor(e, &e->tx[queue], &r, &causes, out);
        r.head = r.head + 1 == r.count ? 0 : r.head + 1;
        *e_reg(e, TDH + queue * E_QUEUE) = r.head;
    }
    if (causes)
        e1000e_queue_cause(e, queue, true, causes);
    return ended;
}

static bool transmit_queue(struct e1000e *e, unsigned queue, unsigned frames)
{
    while (frames--) {
        struct outgoing out = {0};
        pthread_mutex_lock(&e->bus->lock);
        bool ended = next_frame(e, queue, &out);
        pthread_mutex_unlock(&e->bus->lock);
        if (!ended)
            return false;
        send_frame(e, &out);
    }
    return true;
}

bool e1000e_transmit(struct e1000e *e, unsigned frames)
{
    bool more = false;
    for (unsigned i = 0; i < E_QUEUES; i++)
        more |= transmit_queue(e, i, frames);
    return more;
}

/* ---- receive ---- */

#define RX_DONE   1u
#define RX_EOP    2u
#define RX_IGNORE 4u /* checksums were not looked at */
#define CRC_BYTES 4u

static uint32_t buffer_size(uint32_t rctl)
{
    uint32_t size = 2048u >> (rctl >> 16 & 3);
    return rctl & RCTL_BSEX ? size * 16 : size;
}

static bool wanted(struct e1000e *e, const uint8_t *f)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint32_t rctl = *e_reg(e, RCTL);
    if (rctl & (f[0] & 1 ? RCTL_MPE : RCTL_UPE))
        return true;
    if (memcmp(f, broadcast, 6) == 0)
        return rctl & RCTL_BAM;
    for (unsigned i = 0; i < 16; i++) {
        uint32_t low = *e_reg(e, RAL + 8 * i), high = *e_reg(e, RAL + 8 * i + 4);
        const uint8_t mac[6] = {(uint8_t)low,         (uint8_t)(low >> 8), (uint8_t)(low >> 16),
                                (uint8_t)(low >> 24), (uint8_t)high,       (uint8_t)(high >> 8)};
        if ((high & BIT(31)) && memcmp(mac, f, 6) == 0)
            return true;
    }
    if (!(f[0] & 1))
        return false;
    /* Twelve bits of the address, as RCTL's MO shifts them, are an index into the table. */
    static const uint8_t shifts[] = {4, 3, 2, 0};
    unsigned hash = (f[4] | (unsigned)f[5] << 8) >> shifts[rctl >> 12 & 3] & 0xfff;
    return *e_reg(e, MTA + 4 * (hash >> 5)) & BIT(hash & 31);
}

static uint32_t free_descriptors(const struct ring *r)
{
    return r->tail >= r->head ? r->tail - r->head : r->count - r->head + r->tail;
}

/* Room for a frame of the usual size. */
static bool has_room(struct e1000e *e, const struct ring *r)
{
    return (uint64_t)free_descriptors(r) * buffer_size(*e_reg(e, RCTL)) >= NET_MTU + 64;
}

bool e1000e_has_room(struct e1000e *e)
{
    pthread_mutex_lock(&e->bus->lock);
    /* A card that is off drops what comes, as a wire does. */
    bool on = (*e_reg(e, RCTL) & RCTL_EN) && pci_dev_dma(&e->pci), room = true;
    for (unsigned i = 0; on && i < (e1000e_rss_on(e) ? E_QUEUES : 1); i++) {
        struct ring r = ring_at(e, RDBAL, i);
        room = room && ((i && !r.count) || has_room(e, &r)); /* a driver may leave the second queue out */
    }
    pthread_mutex_unlock(&e->bus->lock);
    return room;
}

static void write_back(struct e1000e *e, uint64_t at, uint32_t len, bool last, const struct e1000e_rss *rss)
{
    uint32_t status = RX_DONE | (last ? RX_EOP | RX_IGNORE : 0);
    uint64_t d[2] = {0, 0};
    if (*e_reg(e, RFCTL) & RFCTL_EXT) {
        if (rss->type)
            d[0] = htole64(rss->type | rss->queue << 8 | (uint64_t)rss->hash << 32);
        d[1] = htole64(status | (uint64_t)(len & 0xffff) << 32);
        guestmem_write(e->bus->mem, at, d, sizeof d);
    } else {
        d[1] = htole64((len & 0xffff) | (uint64_t)status << 32);
        guestmem_write(e->bus->mem, at + 8, &d[1], sizeof d[1]);
    }
}

/* Spreads a frame over descriptors. Lock held; there are enough. */
static void deliver(struct e1000e *e, struct ring *r, const struct e1000e_rss *rss, const uint8_t *frame, size_t len)
{
    size_t size = buffer_size(*e_reg(e, RCTL));
    size_t total = len + (*e_reg(e, RCTL) & RCTL_SECRC ? 0 : CRC_BYTES); /* of a CRC that is not computed: no driver looks at it */
    for (size_t done = 0; done < total;) {
        uint64_t at = r->base + (uint64_t)r->head * DESC, addr;
        size_t part = MIN(total - done, size), copied = done < len ? MIN(part, len - done) : 0;
        if (guestmem_read(e->bus->mem, at, &addr, sizeof addr) < 0)
            return;
        uint8_t *host = guestmem_ptr(e->bus->mem, le64toh(addr), part);
        if (host && copied)
            memcpy(host, frame + done, copied);
        if (host && copied < part)
            memset(host + copied, 0, part - copied);
        done += part;
        write_back(e, at, (uint32_t)part, done == total, rss);
        r->head = r->head + 1 == r->count ? 0 : r->head + 1;
        *e_reg(e, RDH + rss->queue * E_QUEUE) = r->head;
    }
}

/* Lock held. */
static void take_frame(struct e1000e *e, const uint8_t *frame, size_t len)
{
    struct e1000e_rss rss = e1000e_pick_queue(e, frame, len);
    struct ring r = ring_at(e, RDBAL, rss.queue);
    size_t size = buffer_size(*e_reg(e, RCTL));
    if ((len + CRC_BYTES + size - 1) / size <= free_descriptors(&r)) {
        net_count_rx(e->net, len); /* before the guest can tell anybody of it */
        deliver(e, &r, &rss, frame, len);
        count(e, GPRC, GORC, len);
        e1000e_queue_cause(e, rss.queue, false, INT_RXT0 | (free_descriptors(&r) < r.count / 2 ? INT_RXDMT0 : 0));
    } else {
        *e_reg(e, MPC) += 1;
        net_count(&e->net->stats.rx_drop, 1);
        e1000e_cause(e, INT_RXO);
    }
}

void e1000e_receive(void *card, const void *frame, size_t len)
{
    struct e1000e *e = card;
    uint8_t padded[60] = {0};
    if (e->pcap)
        pcap_write(e->pcap, &(struct iovec){(void *)frame, len}, 1, len);
    if (len < sizeof padded) {
        memcpy(padded, frame, len);
        frame = padded;
        len = sizeof padded;
    }
    pthread_mutex_lock(&e->bus->lock);
    if ((*e_reg(e, RCTL) & RCTL_EN) && pci_dev_dma(&e->pci) && wanted(e, frame))
        take_frame(e, frame, len);
    pthread_mutex_unlock(&e->bus->lock);
}
