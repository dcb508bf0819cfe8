// SPDX-License-Identifier: GPL-2.0-or-later
#include "net/offload.h"

#include <string.h>

#include "base/util.h"

#define ETH_BYTES    14u
#define VLAN_BYTES   4u
#define ETH_TYPE     12
#define TYPE_IPV4    0x0800
#define TYPE_IPV6    0x86dd
#define TYPE_VLAN    0x8100
#define IPV4_MIN     20u
#define IPV6_BYTES   40u
#define PROTOCOL_TCP 6
#define TCP_MIN      20u
#define TCP_CHECKSUM 16 /* offset in the TCP header */
#define TCP_FIN      0x01
#define TCP_PSH      0x08
#define TCP_CWR      0x80
#define GSO_MIN      32u /* bytes; smaller ones only burn the host's time */

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)(v >> 16));
    put16(p + 2, (uint16_t)v);
}

/*
 * The ones' complement sum of RFC 1071, of big-endian 16-bit words. It is indifferent to byte order but for a swap at the end, so the bulk is summed as it lies in memory, and
 * 32-bit words into 64 bits: no carry is lost before 16 GiB.
 */
static uint64_t sum(const uint8_t *p, size_t len, uint64_t acc)
{
    uint64_t a = 0, b = 0;
    for (; len >= 16; p += 16, len -= 16) {
        uint32_t w[4];
        memcpy(w, p, sizeof w);
        a += (uint64_t)w[0] + w[1];
        b += (uint64_t)w[2] + w[3];
    }
    a += b;
    a = (a & 0xffffffff) + (a >> 32);
    while (a >> 16)
        a = (a & 0xffff) + (a >> 16);
    acc += __builtin_bswap16((uint16_t)a);
    for (; len >= 2; p += 2, len -= 2)
        acc += get16(p);
    return len ? acc + (uint64_t)p[0] * 256 : acc;
}

static uint16_t fold(uint64_t acc)
{
    while (acc >> 16)
        acc = (acc & 0xffff) + (acc >> 16);
    return (uint16_t)~acc;
}

bool offload_checksum(const struct net_header *h, uint8_t *frame, size_t len)
{
    size_t at = (size_t)h->csum_start + h->csum_offset;
    if (h->csum_start >= len || at + 2 > len)
        return false;
    /* The field holds the sum of the pseudo header. A UDP checksum of zero would mean none, so zero goes out as its other form. */
    uint16_t c = fold(sum(frame + h->csum_start, len - h->csum_start, 0));
    put16(frame + at, c ? c : 0xffff);
    return true;
}

static bool parse(const struct net_header *h, const uint8_t *f, size_t len, struct offload_tcp *l)
{
    *l = (struct offload_tcp){.ip = ETH_BYTES, .tcp = h->csum_start};
    l->v6 = (h->gso_type & ~NET_GSO_ECN) == NET_GSO_TCPV6;
    if (len < ETH_BYTES + VLAN_BYTES + IPV4_MIN + TCP_MIN)
        return false;
    unsigned type = get16(f + ETH_TYPE);
    if (type == TYPE_VLAN) {
        type = get16(f + ETH_TYPE + VLAN_BYTES);
        l->ip += VLAN_BYTES;
    }
    if (type != (l->v6 ? TYPE_IPV6 : TYPE_IPV4) || l->tcp + TCP_MIN > len)
        return false;
    const uint8_t *ip = f + l->ip;
    if (l->v6 ? l->tcp < l->ip + IPV6_BYTES
              : (ip[0] & 15) * 4u < IPV4_MIN || l->tcp != l->ip + (ip[0] & 15) * 4u || ip[9] != PROTOCOL_TCP)
        return false;
    unsigned tcp_len = (f[l->tcp + 12] >> 4) * 4u;
    l->payload = l->tcp + tcp_len;
    return tcp_len >= TCP_MIN && l->payload < len && h->csum_offset == TCP_CHECKSUM;
}

/* Lengths, identification and checksums of the frame in `f`, which is the n-th. */
static void finish_headers(uint8_t *f, size_t len, const struct offload_tcp *l, unsigned n)
{
    uint8_t *ip = f + l->ip, *tcp = f + l->tcp;
    size_t addresses = l->v6 ? 8 : 12, tcp_len = len - l->tcp;
    if (l->v6) {
        put16(ip + 4, (uint16_t)(len - l->ip - IPV6_BYTES));
    } else {
        put16(ip + 2, (uint16_t)(len - l->ip));
        put16(ip + 4, (uint16_t)(get16(ip + 4) + n));
        put16(ip + 10, 0);
        put16(ip + 10, fold(sum(ip, l->tcp - l->ip, 0)));
    }
    put16(tcp + TCP_CHECKSUM, 0);
    uint64_t pseudo = sum(ip + addresses, l->v6 ? 32 : 8, PROTOCOL_TCP + tcp_len);
    put16(tcp + TCP_CHECKSUM, fold(sum(tcp, tcp_len, pseudo)));
}

bool offload_segment(const struct net_header *h, const uint8_t *frame, size_t len, uint8_t *room,
                     void (*emit)(void *opaque, const uint8_t *frame, size_t len), void *opaque)
{
    struct offload_tcp l;
    unsigned kind = h->gso_type & ~NET_GSO_ECN;
    if ((kind != NET_GSO_TCPV4 && kind != NET_GSO_TCPV6) || h->gso_size < GSO_MIN || !parse(h, frame, len, &l))
        return false;
    uint32_t seq = get32(frame + l.tcp + 4);
    uint8_t flags = frame[l.tcp + 13];
    size_t total = len - l.payload;
    for (size_t done = 0, n = 0; done < total; n++) {
        size_t part = MIN(total - done, (size_t)h->gso_size);
        bool last = done + part == total;
        memcpy(room, frame, l.payload);
        memcpy(room + l.payload, frame + l.payload + done, part);
        put32(room + l.tcp + 4, seq + (uint32_t)done);
        /* The end of the data is announced by the last frame, the reduced window by the first. */
        room[l.tcp + 13] = flags & (uint8_t) ~((last ? 0 : TCP_FIN | TCP_PSH) | (n ? TCP_CWR : 0));
        finish_headers(room, l.payload + part, &l, (unsigned)n);
        emit(opaque, room, l.payload + part);
        done += part;
    }
    return true;
}

/* ---- for the user network ---- */

#define TCP_SYN     0x02
#define TCP_OPTIONS 20
#define OPTION_END  0
#define OPTION_NOP  1
#define OPTION_MSS  2

bool offload_find_tcp(const uint8_t *f, size_t len, struct offload_tcp *t)
{
    if (len < ETH_BYTES + IPV4_MIN + TCP_MIN)
        return false;
    unsigned type = get16(f + ETH_TYPE);
    const uint8_t *ip = f + ETH_BYTES;
    *t = (struct offload_tcp){.ip = ETH_BYTES, .v6 = type == TYPE_IPV6};
    if (type == TYPE_IPV4) {
        if (ip[9] != PROTOCOL_TCP || (get16(ip + 6) & 0x3fff) || (ip[0] & 15) * 4u < IPV4_MIN)
            return false;
        t->tcp = t->ip + (ip[0] & 15) * 4u;
    } else if (!t->v6 || ip[6] != PROTOCOL_TCP) {
        return false;
    } else {
        t->tcp = t->ip + IPV6_BYTES;
    }
    if (t->tcp + TCP_MIN > len)
        return false;
    unsigned tcp_len = (f[t->tcp + 12] >> 4) * 4u;
    t->payload = t->tcp + tcp_len;
    return tcp_len >= TCP_MIN && t->payload <= len;
}

void offload_finish(uint8_t *f, size_t len, const struct offload_tcp *t)
{
    finish_headers(f, len, t, 0);
}

void offload_pseudo(uint8_t *f, size_t len, const struct offload_tcp *t)
{
    uint64_t pseudo = sum(f + t->ip + (t->v6 ? 8 : 12), t->v6 ? 32 : 8, PROTOCOL_TCP + (len - t->tcp));
    put16(f + t->tcp + TCP_CHECKSUM, (uint16_t)~fold(pseudo));
}

bool offload_raise_mss(uint8_t *f, const struct offload_tcp *t, uint16_t mss)
{
    if (!(f[t->tcp + 13] & TCP_SYN))
        return false;
    for (size_t at = t->tcp + TCP_OPTIONS; at < t->payload && f[at] != OPTION_END;) {
        if (f[at] == OPTION_NOP) {
            at++;
            continue;
        }
        if (at + 2 > t->payload || f[at + 1] < 2 || at + f[at + 1] > t->payload)
            return false;
        if (f[at] == OPTION_MSS && f[at + 1] == 4) {
            put16(f + at + 2, mss);
            return true;
        }
        at += f[at + 1];
    }
    return false;
}
