/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio device whose rings are served outside of this process, by another one or by the host's kernel (net/vhost_back.h): what
 * is the same for a network card, a disk and a file system, and for every such back end.
 *
 * The rings are checked as those of every device, then the back end has them: kicks go to it without passing here, its interrupts
 * come to the device's thread. What happens when it goes away is said in vhost.c.
 *
 * A device puts a struct vhost first in its own, vhost_open()s it, asks it for the back end's features, and creates its virtio
 * device with a class that is `foreign` and has the functions below.
 */
#ifndef LODGE_DEVICES_VHOST_H
#define LODGE_DEVICES_VHOST_H

#include "devices/virtio/virtio.h"
#include "net/vhost_back.h"

/* Ring features that a back end may have; packed rings are not among them, because the library does not resume those. */
#define VHOST_RING_FEATURES (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

struct vhost_config {
    struct vhost_back *back; /* the device's from now on, also when it cannot be created. NULL: memory is out */
    unsigned reconnect_s;    /* seconds between two attempts to connect again; 0: only when the guest starts the device anew */
};

struct vhost {
    struct virtio_dev virtio; /* first */
    struct vhost_back *back;  /* as a driver's: [io] */
    unsigned reconnect_s;
    uint64_t own;  /* features that this process serves */
    bool in_order; /* the back end answers in the order of the requests, so that the next one knows where to go on */
    /* [io] The configuration is the back end's, and may be another: it is connected anew, or says so. May be NULL. -1 with err: the
     * back end is not used. */
    int (*reconfigure)(struct vhost *h, struct error *err);

    /* [io] */
    unsigned rings;    /* the first so many queues are the back end's */
    uint64_t disabled; /* bit per ring that it leaves alone */
    struct vhost_inflight inflight;
    bool served;                     /* a back end has had the rings since the driver started the device */
    bool resumable;                  /* and nothing has been done to them since the last one went, from where the next can go on */
    uint64_t retry_ns;               /* when to connect again; 0: not by itself */
    int call_fds[VIRTIO_QUEUES_MAX]; /* eventfds */
    int call_at[VIRTIO_QUEUES_MAX], back_at, asks_at; /* in this turn's poll */
};

/* Connects; `queues` of the device are to be served. *h is zeroed before. 0, or -1 with err; then vhost_close() all the same. */
int vhost_open(struct vhost *h, const struct guestmem *mem, const struct vhost_config *cfg, unsigned queues, struct error *err);
/* What of `passed` the back end offers. 0 with err when it is not for virtio 1.0. */
uint64_t vhost_features(const struct vhost *h, uint64_t passed, struct error *err);
/* Does the back end serve so many queues (of a network card, pairs)? */
int vhost_check_queues(const struct vhost *h, unsigned queues, struct error *err);
void vhost_close(struct vhost *h);   /* of a device that could not be created */
void vhost_destroy(struct vhost *h); /* with the device whose first member it is. No vCPU runs, lock not held */

static inline struct vhost *vhost_of(struct virtio_dev *v)
{
    return (struct vhost *)v;
}

/* For the class. */
void vhost_start(struct virtio_dev *v);
void vhost_queue_ready(struct virtio_dev *v, unsigned q);
void vhost_stop(struct virtio_dev *v);
void vhost_prepare(struct virtio_dev *v, struct pollset *p);
void vhost_dispatch(struct virtio_dev *v, struct pollset *p);
/* [io] The back end may take requests from the rings of `on`, and not from those of `off`. */
void vhost_enable(struct vhost *h, uint64_t on, uint64_t off);

#endif
