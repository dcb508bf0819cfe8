/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a network card does for its driver, in software: completing a checksum, and cutting a large TCP segment into frames
 * (virtio 1.2, 5.1.6.2); and the same for the user network, whose peer is a TCP stack without a wire.
 */
#ifndef LODGE_NET_OFFLOAD_H
#define LODGE_NET_OFFLOAD_H

#include "net/net.h"

/* Stores the checksum of frame[csum_start..len) where the header says; false when that is outside of the frame. */
bool offload_checksum(const struct net_header *h, uint8_t *frame, size_t len);

/*
 * Cuts a TCP frame into ones of gso_size bytes of payload and gives each, with its checksums, to `emit`. `room` is a buffer for one
 * of them: headers and payload, or the whole frame where that is shorter. False, and nothing emitted, when the frame is not what the header says.
 */
bool offload_segment(const struct net_header *h, const uint8_t *frame, size_t len, uint8_t *room,
                     void (*emit)(void *opaque, const uint8_t *frame, size_t len), void *opaque);

/* Where the TCP frame has its parts, when it is one: with IPv4 or IPv6, without fragments and extension headers. */
struct offload_tcp {
    size_t ip, tcp, payload; /* offsets */
    bool v6;
};
bool offload_find_tcp(const uint8_t *frame, size_t len, struct offload_tcp *t);
/* Completes lengths and checksums of a frame that is one large segment. */
void offload_finish(uint8_t *frame, size_t len, const struct offload_tcp *t);
/* In a SYN, raises the largest segment that the sender takes to `mss`. True when it did; then the checksum is to be completed. */
bool offload_raise_mss(uint8_t *frame, const struct offload_tcp *t, uint16_t mss);
/* The checksum field with the sum of the pseudo header alone, as a receiver wants it that completes it. */
void offload_pseudo(uint8_t *frame, size_t len, const struct offload_tcp *t);

#endif
