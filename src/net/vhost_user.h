/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The front end of vhost-user: another process is the data path of a virtio device. It maps the guest's memory by its descriptor,
 * reads and writes the rings itself, waits for kicks and gives interrupts by eventfds. This side only tells it where all that is,
 * over a Unix socket.
 *
 * The back end is trusted with the guest's memory, but not with this process: its answers are checked, and one that does not come
 * within VHOST_USER_WAIT_S ends the connection. One thread at a time uses a connection.
 */
#ifndef LODGE_NET_VHOST_USER_H
#define LODGE_NET_VHOST_USER_H

#include <stdint.h>

#include "base/error.h"
#include "base/guestmem.h"

#define VHOST_USER_WAIT_S 20 /* seconds for an answer */

struct vhost_user;

/* A ring of a device, as its driver has set it up: guest addresses that lie in RAM. The descriptors stay the caller's. */
struct vhost_ring {
    uint16_t size;
    uint64_t desc, driver, device;
    int kick_fd, call_fd; /* eventfds */
};

int vhost_user_connect(const char *path, struct vhost_user **out, struct error *err);
void vhost_user_close(struct vhost_user *u); /* NULL does nothing */
/* What the back end offers: virtio's feature bits. */
uint64_t vhost_user_features(const struct vhost_user *u);
/* Readable when the back end has gone, or speaks unasked, which comes to the same. */
int vhost_user_fd(const struct vhost_user *u);
/* Hands the rings over, from their beginning; they are the back end's until vhost_user_stop(). 0, or -1 with err: then only close
 * it. */
int vhost_user_start(struct vhost_user *u, uint64_t features, const struct guestmem *mem, const struct vhost_ring *rings,
                     unsigned n, struct error *err);
/* After this the back end does not touch them. */
int vhost_user_stop(struct vhost_user *u, unsigned n, struct error *err);

#endif
