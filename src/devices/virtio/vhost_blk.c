// SPDX-License-Identifier: GPL-2.0-or-later
#include "devices/virtio/vhost_blk.h"

#include <errno.h>
#include <string.h>

#include "devices/virtio/vblk_space.h"

struct vhost_blk {
    struct vhost vhost; /* first */
};

/*
 * What the back end may offer to the guest. Not CONFIG_WCE: a cache mode that the guest writes would reach the back end by another
 * way than its requests, and later than those that count on it.
 */
#define PASSED                                                                                                           \
    (VBLK_F_SIZE_MAX | VBLK_F_SEG_MAX | VBLK_F_GEOMETRY | VBLK_F_RO | VBLK_F_BLK_SIZE | VBLK_F_FLUSH | VBLK_F_TOPOLOGY | \
     VBLK_F_MQ | VBLK_F_DISCARD | VBLK_F_WRITE_ZEROES | VHOST_RING_FEATURES)

static int read_space(struct vhost *v, unsigned queues, struct vblk_space *space, struct error *err)
{
    if (v->back->ops->get_config(v->back, space, VBLK_SPACE_BYTES, err) < 0)
        return -1;
    space->num_queues = (uint16_t)queues;
    return 0;
}

/* The disk has been resized, or the next back end has a larger one. */
static int reconfigure(struct vhost *h, struct error *err)
{
    struct virtio_dev *v = &h->virtio;
    struct vblk_space space;
    if (read_space(h, h->rings, &space, err) < 0)
        return -1;
    pthread_mutex_lock(&v->bus->lock);
    bool changed = memcmp(v->config_reset, &space, VBLK_SPACE_BYTES) != 0;
    memcpy(v->config_reset, &space, VBLK_SPACE_BYTES);
    memcpy(v->config, &space, VBLK_SPACE_BYTES);
    if (changed)
        virtio_config_changed(v);
    pthread_mutex_unlock(&v->bus->lock);
    return 0;
}

static const struct virtio_class vhost_blk_class = {
    .name = "virtio-blk",
    .type = 2,
    .pci_class = 0x010000,
    .queue_size = 256,
    .config_len = VBLK_SPACE_BYTES,
    .foreign = true,
    .start = vhost_start,
    .queue_ready = vhost_queue_ready,
    .stop = vhost_stop,
    .prepare = vhost_prepare,
    .dispatch = vhost_dispatch,
};

static int make(struct pci_host *h, const struct vhost_blk_config *cfg, struct vhost *v, struct error *err)
{
    unsigned queues = MIN(MAX(cfg->queues, 1u), VHOST_BLK_QUEUES_MAX);
    struct vblk_space space;
    if (vhost_open(v, pci_host_bus(h)->mem, &cfg->back, queues, err) < 0 || vhost_check_queues(v, queues, err) < 0 ||
        read_space(v, queues, &space, err) < 0)
        return -1;
    uint64_t features = vhost_features(v, PASSED, err);
    if (!features)
        return -1;
    if (queues > 1 && !(features & VBLK_F_MQ))
        return error_set(err, 0, "%s: has one queue only; leave out queues", v->back->name);
    if (queues == 1)
        features &= ~VBLK_F_MQ;
    v->reconfigure = reconfigure;
    return virtio_create(&v->virtio, &vhost_blk_class, queues, h, cfg->slot, features, &space, err);
}

int vhost_blk_create(struct pci_host *h, const struct vhost_blk_config *cfg, struct vhost_blk **out, struct error *err)
{
    struct vhost_blk *d = calloc(1, sizeof *d);
    if (!d) {
        vhost_back_destroy(cfg->back.back);
        return error_set(err, ENOMEM, "device 'virtio-blk': out of memory; close other programs");
    }
    if (make(h, cfg, &d->vhost, err) < 0) {
        vhost_close(&d->vhost);
        free(d);
        return -1;
    }
    *out = d;
    return 0;
}

const struct pci_dev *vhost_blk_pci(const struct vhost_blk *d)
{
    return &d->vhost.virtio.pci;
}

void vhost_blk_destroy(struct vhost_blk *d)
{
    if (d)
        vhost_destroy(&d->vhost);
}
