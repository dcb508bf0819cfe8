/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A back end of a virtio device that is not this process: it reads and writes the rings itself, waits for kicks and gives
 * interrupts by eventfds. This side only tells it where all that is: another process by vhost-user (vhost_user.h), or the host's
 * kernel (vhost_kernel.h).
 *
 * A back end is made without being connected, and can be connected again after it was lost. One thread at a time uses it.
 */
#ifndef LODGE_NET_VHOST_BACK_H
#define LODGE_NET_VHOST_BACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/guestmem.h"

/* A ring of a device, as its driver has set it up: guest addresses that lie in RAM. The descriptors stay the caller's. */
struct vhost_ring {
    unsigned index;
    uint16_t size, base; /* base: requests before it are not the back end's */
    uint64_t desc, driver, device;
    int kick_fd, call_fd; /* eventfds */
    bool enabled;         /* where the back end can tell; otherwise every ring is */
};

/*
 * Where a back end notes which requests it has in flight, so that the next one can finish them: its own memory, of which this side
 * holds the descriptor and sees nothing else.
 */
struct vhost_inflight {
    int fd; /* -1: there is none */
    uint64_t bytes, offset;
    uint16_t queues, queue_size;
};

struct vhost_back;
struct net_stats;

struct vhost_back_ops {
    const char *lost; /* what it means when `fd` is readable, and what to do then */
    /* `asks` is readable: obeys one message. *config: the device's configuration is another now. NULL: it asks nothing. */
    int (*obey)(struct vhost_back *b, bool *config, struct error *err);
    /* Fills in what the back end is; the guest's memory is `mem`. */
    int (*connect)(struct vhost_back *b, const struct guestmem *mem, struct error *err);
    void (*disconnect)(struct vhost_back *b); /* also one that is not connected */
    /* Reads the first `size` bytes of the device's configuration. NULL: it knows none. */
    int (*get_config)(struct vhost_back *b, void *config, uint32_t size, struct error *err);
    /*
     * Hands the rings over, in ascending order of their index; they are the back end's until `stop`. Where it tracks its requests,
     * `inflight` goes with them, and is asked for first when it has no descriptor yet; the caller closes that. 0, or -1 with err:
     * then only disconnect.
     */
    int (*start)(struct vhost_back *b, uint64_t features, const struct guestmem *mem, const struct vhost_ring *rings, unsigned n,
                 struct vhost_inflight *inflight, struct error *err);
    /* While it runs: may the back end take requests from the ring? */
    int (*enable)(struct vhost_back *b, unsigned ring, bool on, struct error *err);
    /* After this the back end does not touch the rings of `which`, a bit for each. */
    int (*stop)(struct vhost_back *b, uint64_t which, struct error *err);
    /* From any thread: what a network card has carried; false when that is not known. NULL: it never is. */
    bool (*stats)(const struct vhost_back *b, struct net_stats *s);
    void (*destroy)(struct vhost_back *b); /* after disconnect */
};

struct vhost_back {
    const struct vhost_back_ops *ops;
    char *name; /* for messages: "vhost-user back end '/run/back'" */
    bool connected;
    /* As long as it is: */
    uint64_t features; /* of virtio, that it offers */
    uint64_t queues;   /* that it serves at most; of a network card, pairs of queues */
    bool tracks;       /* it notes its requests in flight */
    int fd;            /* readable: it has gone, or cannot go on. -1: there is nothing to watch */
    int asks;          /* readable: it wants something of this side. -1: it never does */
};

static inline int vhost_back_connect(struct vhost_back *b, const struct guestmem *mem, struct error *err)
{
    if (b->connected)
        return 0;
    b->connected = b->ops->connect(b, mem, err) == 0;
    return b->connected ? 0 : -1;
}

static inline void vhost_back_disconnect(struct vhost_back *b)
{
    b->ops->disconnect(b);
    b->connected = false;
}

static inline void vhost_back_destroy(struct vhost_back *b) /* NULL does nothing */
{
    if (!b)
        return;
    vhost_back_disconnect(b);
    b->ops->destroy(b);
}

#endif
