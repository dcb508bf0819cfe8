// SPDX-License-Identifier: GPL-2.0-or-later
#include "devices/virtio/vrng.h"

#include <errno.h>
#include <sys/random.h>

#include "base/util.h"
#include "devices/virtio/virtio.h"

#define VRNG_REQUEST (64 * KIB) /* bytes of a request that are filled; a driver asks again for more */

struct vrng {
    struct virtio_dev virtio; /* first */
};

static uint32_t fill(const struct vq_elem *e)
{
    uint32_t done = 0;
    for (unsigned i = 0; i < e->nin && done < VRNG_REQUEST; i++) {
        uint8_t *p = e->in[i].iov_base;
        size_t want = MIN(e->in[i].iov_len, VRNG_REQUEST - done), have = 0;
        while (have < want) {
            ssize_t n = getrandom(p + have, want - have, 0);
            if (n < 0 && errno != EINTR)
                return done;
            have += n > 0 ? (size_t)n : 0;
        }
        done += (uint32_t)have;
    }
    return done;
}

static void vrng_queue_ready(struct virtio_dev *v, unsigned q)
{
    struct vq_elem *e;
    while (virtio_pop(v, q, &e) > 0)
        virtio_push(v, q, e, fill(e));
}

static const struct virtio_class vrng_class = {
    .name = "virtio-rng",
    .type = 4,
    .pci_class = 0x00ff00,
    .queue_size = 64,
    .queue_ready = vrng_queue_ready,
};

int vrng_create(struct pci_host *h, const struct vrng_config *cfg, struct vrng **out, struct error *err)
{
    struct vrng *r = calloc(1, sizeof *r);
    if (!r)
        return error_set(err, 0, "device 'virtio-rng': out of memory; close other programs");
    if (virtio_create(&r->virtio, &vrng_class, 1, h, cfg->slot, 0, NULL, err) < 0) {
        free(r);
        return -1;
    }
    *out = r;
    return 0;
}

void vrng_destroy(struct vrng *r)
{
    if (!r)
        return;
    virtio_destroy(&r->virtio);
    free(r);
}
