/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-net: a back end that is the host's kernel. Frames go from a tap device into the guest's memory and back without passing
 * this process. A pair of queues is a descriptor of /dev/vhost-net and a queue of the tap device.
 */
#ifndef LODGE_NET_VHOST_KERNEL_H
#define LODGE_NET_VHOST_KERNEL_H

#include "net/net.h"
#include "net/vhost_back.h"

#define VHOST_KERNEL_PAIRS_MAX 8

/* How it reaches the kernel. */
struct vhost_kernel_sys {
    int (*open)(const char *path, int flags);
    void (*close)(int fd); /* of what `open` has opened */
    int (*ioctl)(int fd, unsigned long request, void *arg);
    int (*open_tap)(const struct net_tap_config *cfg, unsigned queues, struct net_tap_queues *out, struct error *err);
};
extern const struct vhost_kernel_sys vhost_kernel_host;

/* Opens the tap device with so many pairs, 0 for 1, and connects. 0, or -1 with err. */
int vhost_kernel_create(const struct net_tap_config *cfg, unsigned pairs, const struct guestmem *mem,
                        const struct vhost_kernel_sys *sys, struct vhost_back **out, struct error *err);

#endif
