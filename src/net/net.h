/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network back end: whole Ethernet frames in both directions, checksums complete, no offload headers.
 *
 * It belongs to one thread (the network card's I/O thread), which calls everything below except create and destroy; those may be on
 * any thread while no other uses it. Received frames are delivered from netdev_send() and netdev_dispatch().
 */
#ifndef LODGE_NET_H
#define LODGE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pollset.h"

#define NET_FRAME_MAX (65536 + 14) /* bytes; the largest frame that a back end takes or delivers */
#define NET_MTU       1500         /* bytes behind the Ethernet header */

struct netdev;

/* A frame from the network for the guest. The buffer is the back end's and valid during the call. */
typedef void netdev_receive(void *opaque, const void *frame, size_t len);

struct netdev_ops {
    const char *name;
    bool checksums_valid; /* it computes the checksums of what it delivers, so that the guest need not */
    void (*send)(struct netdev *n, const void *frame, size_t len);
    /* Before and after each poll(2): adds descriptors and a timeout; handles what is ready. */
    void (*prepare)(struct netdev *n, struct pollset *p);
    void (*dispatch)(struct netdev *n, struct pollset *p);
    void (*destroy)(struct netdev *n);
};

struct netdev {
    const struct netdev_ops *ops;
    netdev_receive *receive; /* NULL: frames are dropped */
    void *opaque;
};

static inline void netdev_destroy(struct netdev *n)
{
    if (n)
        n->ops->destroy(n);
}

/*
 * The user network by libslirp: 10.0.2.0/24 and fec0::/64 with NAT; the host is 10.0.2.2, DNS 10.0.2.3, the guest gets 10.0.2.15 by
 * DHCP. Needs no privileges.
 */
struct net_user_config {
    bool restricted;      /* the guest reaches nothing but the virtual hosts above */
    const char *hostname; /* given by DHCP; NULL: none */
};
int net_user_create(const struct net_user_config *cfg, struct netdev **out, struct error *err);

#endif
