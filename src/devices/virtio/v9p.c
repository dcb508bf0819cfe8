// SPDX-License-Identifier: GPL-2.0-or-later
/* The transport of 9P (virtio 1.2, 5.11): a request is a message and room for its answer; src/share/ does the rest. */
#include "devices/virtio/v9p.h"

#include <string.h>

#include "base/util.h"
#include "devices/virtio/virtio.h"

#define V9P_F_MOUNT_TAG BIT64(0)
#define V9P_QUEUE_SIZE  128 /* Linux makes messages of as many pages, less three */

/* Device configuration (5.11.4): the tag's length, and the tag. */
#define CONFIG_TAG_LEN 0
#define CONFIG_TAG     2
#define CONFIG_BYTES   (CONFIG_TAG + V9P_TAG_MAX)

struct v9p {
    struct virtio_dev virtio; /* first */
    struct share *share;
};

static void v9p_queue_ready(struct virtio_dev *v, unsigned q)
{
    struct v9p *d = container_of(v, struct v9p, virtio);
    struct vq_elem *e;
    while (virtio_pop(v, q, &e) > 0)
        virtio_push(v, q, e, share_serve(d->share, e->out, e->nout, e->out_len, e->in, e->nin, e->in_len));
}

static void v9p_stop(struct virtio_dev *v)
{
    share_reset(container_of(v, struct v9p, virtio)->share);
}

static const struct virtio_class v9p_class = {
    .name = "virtio-9p",
    .type = 9,
    .pci_class = 0x018000,
    .queue_size = V9P_QUEUE_SIZE,
    .config_len = CONFIG_BYTES,
    .queue_ready = v9p_queue_ready,
    .stop = v9p_stop,
};

int v9p_create(struct pci_host *h, const struct v9p_config *cfg, struct v9p **out, struct error *err)
{
    uint8_t config[CONFIG_BYTES] = {0};
    size_t len = strlen(cfg->tag);
    if (len == 0 || len > V9P_TAG_MAX)
        return error_set(err, 0, "device 'virtio-9p': the tag '%s' has %zu bytes; give it 1 to %d", cfg->tag, len, V9P_TAG_MAX);
    struct v9p *d = calloc(1, sizeof *d);
    if (!d)
        return error_set(err, 0, "device 'virtio-9p': out of memory; close other programs");
    d->share = cfg->share;
    pci_set16(config + CONFIG_TAG_LEN, (uint16_t)len);
    memcpy(config + CONFIG_TAG, cfg->tag, len);
    if (virtio_create(&d->virtio, &v9p_class, 1, h, cfg->slot, V9P_F_MOUNT_TAG, config, err) < 0) {
        free(d);
        return -1;
    }
    *out = d;
    return 0;
}

void v9p_destroy(struct v9p *d)
{
    if (!d)
        return;
    virtio_destroy(&d->virtio);
    free(d);
}
