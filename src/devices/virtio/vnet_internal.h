/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of the network card: vnet.c (life), vnet_rx.c, vnet_tx.c, vnet_ctrl.c. */
#ifndef LODGE_DEVICES_VNET_INTERNAL_H
#define LODGE_DEVICES_VNET_INTERNAL_H

#include "base/bucket.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio/vnet.h"

#define VNET_F_CSUM           BIT64(0)
#define VNET_F_GUEST_CSUM     BIT64(1)
#define VNET_F_MTU            BIT64(3)
#define VNET_F_MAC            BIT64(5)
#define VNET_F_GUEST_TSO4     BIT64(7)
#define VNET_F_GUEST_TSO6     BIT64(8)
#define VNET_F_HOST_TSO4      BIT64(11)
#define VNET_F_HOST_TSO6      BIT64(12)
#define VNET_F_MRG_RXBUF      BIT64(15)
#define VNET_F_STATUS         BIT64(16)
#define VNET_F_CTRL_VQ        BIT64(17)
#define VNET_F_CTRL_RX        BIT64(18)
#define VNET_F_CTRL_RX_EXTRA  BIT64(20)
#define VNET_F_GUEST_ANNOUNCE BIT64(21)
#define VNET_F_MQ             BIT64(22)
#define VNET_F_CTRL_MAC_ADDR  BIT64(23)

/* Device configuration (5.1.4). */
#define CONFIG_MAC      0
#define CONFIG_STATUS   6
#define CONFIG_PAIRS    8
#define CONFIG_MTU      10
#define CONFIG_BYTES    12
#define STATUS_LINK_UP  1
#define STATUS_ANNOUNCE 2

#define MAC_BYTES 6
#define VNET_MACS 64 /* of each table; more, and all that the table is about is let through (5.1.6.5.2) */

struct waiting_frame;

/* Which received frames the guest wants. */
struct vnet_filter {
    bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
    uint8_t mac[MAC_BYTES];
    uint8_t unicast[VNET_MACS][MAC_BYTES], multicast[VNET_MACS][MAC_BYTES];
    uint32_t nunicast, nmulticast;
    bool unicast_overflow, multicast_overflow;
};

struct vnet {
    struct virtio_dev virtio; /* first */
    struct netdev *net;
    struct pcap *pcap;
    unsigned max_pairs;
    /* [io] */
    unsigned pairs; /* that the guest uses */
    bool link_up;
    bool polled; /* the back end takes part in this turn's poll */
    struct waiting_frame *backlog, **backlog_tail;
    size_t backlog_bytes;
    struct vnet_filter filter;
    struct bucket to_guest, from_guest;
    uint64_t held_back; /* bit per sending queue: it waits for from_guest */
    uint8_t frame[NET_FRAME_MAX], segment[NET_FRAME_MAX];
};

/* Queues: receive 0, 2, 4, …; send 1, 3, 5, …; control behind them. */
static inline bool vnet_is_rx(unsigned q)
{
    return q % 2 == 0;
}
static inline unsigned vnet_control_queue(const struct vnet *n)
{
    return virtio_has(&n->virtio, VNET_F_MQ) ? 2 * n->max_pairs : 2;
}

void vnet_receive(void *opaque, const void *frame, size_t len);
void vnet_receive_offloaded(void *opaque, const struct net_header *h, const struct iovec *iov, int niov, size_t len);
void vnet_drain_backlog(struct vnet *n);
void vnet_drop_backlog(struct vnet *n);

void vnet_send_queue(struct vnet *n, unsigned q);

void vnet_control(struct vnet *n, unsigned q);
void vnet_filter_reset(struct vnet *n);
bool vnet_filter_wants(const struct vnet_filter *f, const uint8_t *frame);

/* The part of a vector behind `skip` bytes, in `part`, at most `max` pieces: their number, or -1 when they are more. */
int vnet_slice(const struct iovec *iov, unsigned n, size_t skip, struct iovec *part, unsigned max);

#endif
