/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The front end of vhost-user: another process is the data path of a virtio device. It maps the guest's memory by its descriptor,
 * reads and writes the rings itself, waits for kicks and gives interrupts by eventfds. This side only tells it where all that is,
 * over a Unix socket.
 *
 * The back end is trusted with the guest's memory, but not with this process: its answers are checked, and one that is not whole
 * within VHOST_USER_WAIT_S ends the connection. One thread at a time uses a connection.
 */
#ifndef LODGE_NET_VHOST_USER_H
#define LODGE_NET_VHOST_USER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/guestmem.h"

#define VHOST_USER_WAIT_S 20 /* seconds for an answer */

struct vhost_user;

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

int vhost_user_connect(const char *path, struct vhost_user **out, struct error *err);
void vhost_user_close(struct vhost_user *u); /* NULL does nothing */
/* What the back end offers: virtio's feature bits. */
uint64_t vhost_user_features(const struct vhost_user *u);
/* How many queues it serves at most; of a network card, pairs of queues. */
uint64_t vhost_user_queues(const struct vhost_user *u);
/* Does it note its requests in flight? */
bool vhost_user_tracks(const struct vhost_user *u);
/* Reads the first `size` bytes of the device's configuration, which the back end knows. */
int vhost_user_get_config(struct vhost_user *u, void *config, uint32_t size, struct error *err);
/* Readable when the back end has gone, or speaks unasked, which comes to the same. */
int vhost_user_fd(const struct vhost_user *u);
/*
 * Hands the rings over, in ascending order of their index; they are the back end's until vhost_user_stop(). Where it tracks its
 * requests, `inflight` goes with them, and is asked for first when it has no descriptor yet; the caller closes that. 0, or -1 with
 * err: then only close the connection.
 */
int vhost_user_start(struct vhost_user *u, uint64_t features, const struct guestmem *mem, const struct vhost_ring *rings,
                     unsigned n, struct vhost_inflight *inflight, struct error *err);
/* While it runs: may the back end take requests from the ring? */
int vhost_user_enable(struct vhost_user *u, unsigned ring, bool on, struct error *err);
/* After this the back end does not touch the rings of `which`, a bit for each. */
int vhost_user_stop(struct vhost_user *u, uint64_t which, struct error *err);

#endif
