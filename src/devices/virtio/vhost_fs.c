// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two queues: one for what must not wait behind other requests, one for those. A back end that goes away takes the state of the
 * mount with it, so it is never connected to again before the driver starts the device anew.
 */
#include "devices/virtio/vhost_fs.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

#define QUEUES 2 /* high priority, requests */

/* Device configuration (5.11.4). */
#define CONFIG_TAG    0
#define CONFIG_QUEUES VHOST_FS_TAG_MAX /* of requests */
#define CONFIG_BYTES  (CONFIG_QUEUES + 4)

struct vhost_fs {
    struct vhost vhost; /* first */
};

static const struct virtio_class vhost_fs_class = {
    .name = "virtio-fs",
    .type = 26,
    .pci_class = 0x018000,
    .queue_size = 128,
    .config_len = CONFIG_BYTES,
    .foreign = true,
    .start = vhost_start,
    .queue_ready = vhost_queue_ready,
    .stop = vhost_stop,
    .prepare = vhost_prepare,
    .dispatch = vhost_dispatch,
};

static int make(struct pci_host *h, const struct vhost_fs_config *cfg, struct vhost *v, struct error *err)
{
    uint8_t config[CONFIG_BYTES] = {0};
    memcpy(config + CONFIG_TAG, cfg->tag, strlen(cfg->tag));
    pci_set32(config + CONFIG_QUEUES, QUEUES - 1);
    if (vhost_open(v, pci_host_bus(h)->mem, &(struct vhost_config){.back = cfg->back}, QUEUES, err) < 0)
        return -1;
    uint64_t features = vhost_features(v, VHOST_RING_FEATURES, err);
    return features ? virtio_create(&v->virtio, &vhost_fs_class, QUEUES, h, cfg->slot, features, config, err) : -1;
}

int vhost_fs_create(struct pci_host *h, const struct vhost_fs_config *cfg, struct vhost_fs **out, struct error *err)
{
    size_t len = strlen(cfg->tag);
    bool fits = len && len <= VHOST_FS_TAG_MAX;
    struct vhost_fs *f = fits ? calloc(1, sizeof *f) : NULL;
    if (!f) {
        vhost_back_destroy(cfg->back);
        return fits ? error_set(err, ENOMEM, "device 'virtio-fs': out of memory; close other programs")
                    : error_set(err, 0, "device 'virtio-fs': the tag '%s' has %zu bytes; give it 1 to %d", cfg->tag, len,
                                VHOST_FS_TAG_MAX);
    }
    if (make(h, cfg, &f->vhost, err) < 0) {
        vhost_close(&f->vhost);
        free(f);
        return -1;
    }
    *out = f;
    return 0;
}

void vhost_fs_destroy(struct vhost_fs *f)
{
    if (f)
        vhost_destroy(&f->vhost);
}
