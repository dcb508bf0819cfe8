// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Receive-side scaling (82574 data sheet, 7.1.11): which of the two queues gets a frame. A hash of the frame's addresses and ports,
 * by a key of the driver's, picks one of 128 entries of the table RETA.
 */
#include <string.h>

#include "devices/ether/e1000e_internal.h"

#define MRQC_ON    1u /* of two bits */
#define MRQC_TCP4  BIT(16)
#define MRQC_IPV4  BIT(17)
#define MRQC_TCP6  BIT(18)
#define MRQC_IPV6X BIT(19)
#define MRQC_IPV6  BIT(20)

/* What was hashed, as descriptors have it. */
enum { TYPE_NONE, TYPE_TCP4, TYPE_IPV4, TYPE_TCP6, TYPE_IPV6X, TYPE_IPV6 };

#define KEY_BYTES   40u
#define INPUT_MAX   36u /* two IPv6 addresses and two ports */
#define PORTS_BYTES 4u
#define ETH_HEADER  14u
#define VLAN_TAG    4u
#define IP4_HEADER  20u
#define IP6_HEADER  40u
#define PROTO_TCP   6u

/* Toeplitz's hash: each bit of the input that is set adds the 32 bits of the key that begin where it is. */
static uint32_t toeplitz(const uint8_t key[KEY_BYTES], const uint8_t *input, size_t len)
{
    uint32_t hash = 0, window = (uint32_t)key[0] << 24 | (uint32_t)key[1] << 16 | (uint32_t)key[2] << 8 | key[3];
    for (size_t i = 0; i < len; i++)
        for (int bit = 7; bit >= 0; bit--) {
            if (input[i] >> bit & 1)
                hash ^= window;
            window = window << 1 | (key[i + 4] >> bit & 1);
        }
    return hash;
}

static size_t input_ipv4(uint32_t mrqc, const uint8_t *ip, size_t len, uint8_t input[INPUT_MAX], uint8_t *type)
{
    if (len < IP4_HEADER)
        return 0;
    size_t header = (ip[0] & 15u) * 4;
    bool whole = !(ip[6] & 0x3f) && !ip[7]; /* not a fragment */
    bool tcp = (mrqc & MRQC_TCP4) && ip[9] == PROTO_TCP && whole && header >= IP4_HEADER && len >= header + PORTS_BYTES;
    if (!tcp && !(mrqc & MRQC_IPV4))
        return 0;
    memcpy(input, ip + 12, 8);
    if (tcp)
        memcpy(input + 8, ip + header, PORTS_BYTES);
    *type = tcp ? TYPE_TCP4 : TYPE_IPV4;
    return tcp ? 8 + PORTS_BYTES : 8;
}

/* TCP behind extension headers is hashed by its addresses alone. */
static size_t input_ipv6(uint32_t mrqc, const uint8_t *ip, size_t len, uint8_t input[INPUT_MAX], uint8_t *type)
{
    if (len < IP6_HEADER)
        return 0;
    bool tcp = (mrqc & MRQC_TCP6) && ip[6] == PROTO_TCP && len >= IP6_HEADER + PORTS_BYTES;
    if (!tcp && !(mrqc & (MRQC_IPV6 | MRQC_IPV6X)))
        return 0;
    memcpy(input, ip + 8, 32);
    if (tcp)
        memcpy(input + 32, ip + IP6_HEADER, PORTS_BYTES);
    *type = tcp ? TYPE_TCP6 : mrqc & MRQC_IPV6 ? TYPE_IPV6 : TYPE_IPV6X;
    return tcp ? 32 + PORTS_BYTES : 32;
}

/* Two queues need descriptors with room for the hash. */
bool e1000e_rss_on(struct e1000e *e)
{
    return (*e_reg(e, MRQC) & 3) == MRQC_ON && (*e_reg(e, RXCSUM) & RXCSUM_PCSD) && (*e_reg(e, RFCTL) & RFCTL_EXT);
}

struct e1000e_rss e1000e_pick_queue(struct e1000e *e, const uint8_t *frame, size_t len)
{
    struct e1000e_rss rss = {0};
    uint8_t key[KEY_BYTES], input[INPUT_MAX];
    uint32_t mrqc = *e_reg(e, MRQC);
    size_t header = ETH_HEADER, n = 0;
    if (!e1000e_rss_on(e) || len < ETH_HEADER + VLAN_TAG)
        return rss;
    if (frame[12] == 0x81 && frame[13] == 0)
        header += VLAN_TAG;
    unsigned type = (unsigned)frame[header - 2] << 8 | frame[header - 1];
    if (type == 0x0800)
        n = input_ipv4(mrqc, frame + header, len - header, input, &rss.type);
    else if (type == 0x86dd)
        n = input_ipv6(mrqc, frame + header, len - header, input, &rss.type);
    if (rss.type == TYPE_NONE)
        return rss;
    for (unsigned i = 0; i < KEY_BYTES; i++)
        key[i] = (uint8_t)(*e_reg(e, RSSRK + i) >> (8 * (i % 4)));
    rss.hash = toeplitz(key, input, n);
    unsigned at = rss.hash % 128;
    rss.queue = *e_reg(e, RETA + at) >> (8 * (at % 4)) >> 7 & 1;
    return rss;
}
