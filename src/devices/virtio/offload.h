/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a network card does for its driver, in software: completing a checksum, and cutting a large TCP segment into frames
 * (virtio 1.2, 5.1.6.2). Back ends get whole frames only.
 */
#ifndef LODGE_DEVICES_VIRTIO_OFFLOAD_H
#define LODGE_DEVICES_VIRTIO_OFFLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The header in front of every frame on a queue (5.1.6). */
struct vnet_header {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

#define VNET_HDR_NEEDS_CSUM 1
#define VNET_HDR_DATA_VALID 2

#define VNET_GSO_NONE  0
#define VNET_GSO_TCPV4 1
#define VNET_GSO_TCPV6 4
#define VNET_GSO_ECN   0x80

/* Stores the checksum of frame[csum_start..len) where the header says; false when that is outside of the frame. */
bool offload_checksum(const struct vnet_header *h, uint8_t *frame, size_t len);

/*
 * Cuts a TCP frame into ones of gso_size bytes of payload and gives each, with its checksums, to `emit`. `room` is a buffer for one
 * of them, at least as long as the frame. False, and nothing emitted, when the frame is not what the header says.
 */
bool offload_segment(const struct vnet_header *h, const uint8_t *frame, size_t len, uint8_t *room,
                     void (*emit)(void *opaque, const uint8_t *frame, size_t len), void *opaque);

#endif
