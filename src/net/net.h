/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network back end: Ethernet frames in both directions.
 *
 * A back end takes and delivers whole frames with complete checksums. One that can do better says so in `offloads`: then the card may hand it frames with
 * a header that leaves a checksum, or cutting a TCP segment, to it; and where the card says in `wants` that its driver takes such frames, it may deliver
 * them.
 *
 * It belongs to one thread (the network card's I/O thread), which calls everything below except create and destroy; those may be on
 * any thread while no other uses it. Received frames are delivered from send and dispatch.
 */
#ifndef LODGE_NET_H
#define LODGE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/pollset.h"

#define NET_FRAME_MAX (65536 + 14) /* bytes; the largest frame that a back end takes or delivers */
#define NET_MTU       1500         /* bytes behind the Ethernet header */

/* What is left to do for a frame: virtio's header (virtio 1.2, 5.1.6), which is the tap device's too. */
struct net_header {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

#define NET_HDR_NEEDS_CSUM 1
#define NET_HDR_DATA_VALID 2

#define NET_GSO_NONE  0
#define NET_GSO_TCPV4 1
#define NET_GSO_TCPV6 4
#define NET_GSO_ECN   0x80

/* Bits of offloads and wants. */
#define NET_CSUM 1u
#define NET_TSO4 2u
#define NET_TSO6 4u

struct netdev;

/* What a card has carried since it was made: `rx` is what the guest received. A segment that is cut later counts as one frame. Written
 * by the card's thread, read by any. */
struct net_stats {
    uint64_t rx_bytes, rx_packets, rx_drop; /* dropped: the guest had no room, no driver, or no link */
    uint64_t tx_bytes, tx_packets, tx_drop; /* dropped: no link, or not a frame */
};

/* A frame from the network for the guest. The buffer is the back end's and valid during the call. */
typedef void netdev_receive(void *opaque, const void *frame, size_t len);
/* The same with a header, in pieces. */
typedef void netdev_receive_offloaded(void *opaque, const struct net_header *h, const struct iovec *iov, int niov, size_t len);

struct netdev_ops {
    const char *name;
    bool checksums_valid; /* it computes the checksums of what it delivers, so that the guest need not */
    void (*send)(struct netdev *n, const void *frame, size_t len);
    /* With a header whose bits `offloads` has. The pieces may be guest memory, which changes at any time. NULL without offloads. */
    void (*send_offloaded)(struct netdev *n, const struct net_header *h, const struct iovec *iov, int niov, size_t len);
    void (*wants_changed)(struct netdev *n); /* may be NULL */
    /* Before and after each poll(2): adds descriptors and a timeout; handles what is ready. */
    void (*prepare)(struct netdev *n, struct pollset *p);
    void (*dispatch)(struct netdev *n, struct pollset *p);
    void (*destroy)(struct netdev *n);
};

struct netdev {
    const struct netdev_ops *ops;
    unsigned offloads;                            /* what send_offloaded takes */
    netdev_receive *receive;                      /* NULL: frames are dropped */
    netdev_receive_offloaded *receive_offloaded;  /* NULL: only whole frames */
    unsigned wants;                               /* what receive_offloaded takes */
    void *opaque;
    struct net_stats stats;
};

static inline void net_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}
static inline void net_count_rx(struct netdev *n, size_t bytes)
{
    net_count(&n->stats.rx_packets, 1);
    net_count(&n->stats.rx_bytes, bytes);
}
static inline void net_count_tx(struct netdev *n, size_t bytes)
{
    net_count(&n->stats.tx_packets, 1);
    net_count(&n->stats.tx_bytes, bytes);
}
/* A copy, from any thread. */
static inline struct net_stats net_stats_of(const struct netdev *n)
{
    const struct net_stats *s = &n->stats;
    return (struct net_stats){__atomic_load_n(&s->rx_bytes, __ATOMIC_RELAXED),   __atomic_load_n(&s->rx_packets, __ATOMIC_RELAXED),
                              __atomic_load_n(&s->rx_drop, __ATOMIC_RELAXED),    __atomic_load_n(&s->tx_bytes, __ATOMIC_RELAXED),
                              __atomic_load_n(&s->tx_packets, __ATOMIC_RELAXED), __atomic_load_n(&s->tx_drop, __ATOMIC_RELAXED)};
}

static inline void netdev_destroy(struct netdev *n)
{
    if (n)
        n->ops->destroy(n);
}

/*
 * The user network by libslirp: 10.0.2.0/24 and fec0::/64 with NAT; the host is 10.0.2.2, DNS 10.0.2.3, the guest gets 10.0.2.15 by
 * DHCP. Needs no privileges.
 */
struct net_forward {
    bool udp;
    char host[46]; /* IPv4 address on the host; "": 127.0.0.1 */
    uint16_t host_port, guest_port;
};
struct net_user_config {
    bool restricted;      /* the guest reaches nothing but the virtual hosts above */
    const char *hostname; /* given by DHCP; NULL: none */
    const char *tftp;     /* a folder that TFTP serves, read-only; NULL: none */
    const char *bootfile; /* given by DHCP; NULL: none */
    const struct net_forward *forwards;
    unsigned nforwards;
};
int net_user_create(const struct net_user_config *cfg, struct netdev **out, struct error *err);

/*
 * A tap device: an interface of the host's kernel. The host's administrator makes one for a user with `ip tuntap add NAME mode tap user NAME`; with privileges, the
 * kernel makes one here. With `bridge` it becomes a port of that bridge, which needs privileges too.
 */
struct net_tap_config {
    const char *ifname; /* NULL: the kernel's choice */
    const char *bridge; /* NULL: none */
};
int net_tap_create(const struct net_tap_config *cfg, struct netdev **out, struct error *err);

/* The same for who moves the frames himself: the device with so many queues, each frame behind a struct net_header. */
#define NET_TAP_QUEUES_MAX 8
#define NET_TAP_NAME       16 /* bytes, with its end */
struct net_tap_queues {
    char name[NET_TAP_NAME];
    unsigned count;
    int fds[NET_TAP_QUEUES_MAX];
};
int net_tap_open(const struct net_tap_config *cfg, unsigned queues, struct net_tap_queues *out, struct error *err);
void net_tap_close(struct net_tap_queues *t); /* all zeroes: does nothing */
/* What the device has carried, as the guest sees it; false when there is none of that name. */
bool net_tap_stats(const char *name, struct net_stats *s);

/*
 * A wire to another guest: frames on a stream, each behind its length in 4 bytes, big-endian, as QEMU's -netdev socket has them. An address is HOST:PORT, or a
 * path with a slash in it. A connection that breaks is awaited, or tried, again.
 */
struct net_socket_config {
    const char *address;
    bool listen;
};
int net_socket_create(const struct net_socket_config *cfg, struct netdev **out, struct error *err);

/* Packets into a file, for tcpdump and Wireshark. The card writes both directions. */
struct pcap;
int pcap_create(const char *path, struct pcap **out, struct error *err);
void pcap_write(struct pcap *p, const struct iovec *iov, int niov, size_t len);
void pcap_flush(struct pcap *p);
void pcap_free(struct pcap *p);

#endif
