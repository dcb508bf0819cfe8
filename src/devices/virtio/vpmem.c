// SPDX-License-Identifier: GPL-2.0-or-later
#include "devices/virtio/vpmem.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/iov.h"
#include "base/log.h"
#include "base/util.h"
#include "devices/virtio/virtio.h"

#define REQ_FLUSH 0

struct vpmem {
    struct virtio_dev virtio; /* first */
    int fd;
    bool told; /* that the file cannot be made durable */
};

/* What the driver gets: 0, or -1 as it wants it. Nobody else waits for this thread. */
static uint32_t flush(struct vpmem *p)
{
    while (fdatasync(p->fd) < 0) {
        if (errno == EINTR)
            continue;
        if (!p->told)
            log_error("virtio-pmem: cannot make the guest's data durable: %s; see to the host's disk", strerror(errno));
        p->told = true;
        return UINT32_MAX;
    }
    p->told = false;
    return 0;
}

static void vpmem_queue_ready(struct virtio_dev *v, unsigned q)
{
    struct vpmem *p = container_of(v, struct vpmem, virtio);
    struct vq_elem *e;
    while (virtio_pop(v, q, &e) > 0) {
        uint32_t type, answer = UINT32_MAX;
        if (iov_read(e->out, e->nout, 0, &type, sizeof type) == sizeof type && le32toh(type) == REQ_FLUSH)
            answer = flush(p);
        answer = htole32(answer);
        virtio_push(v, q, e, (uint32_t)iov_write(e->in, e->nin, 0, &answer, sizeof answer));
    }
}

static const struct virtio_class vpmem_class = {
    .name = "virtio-pmem",
    .type = 27,
    .pci_class = 0x00ff00,
    .queue_size = 64,
    .config_len = 16,
    .queue_ready = vpmem_queue_ready,
};

int vpmem_create(struct pci_host *h, const struct vpmem_config *cfg, struct vpmem **out, struct error *err)
{
    struct vpmem *p = calloc(1, sizeof *p);
    const uint64_t config[2] = {htole64(cfg->start), htole64(cfg->size)};
    if (!p)
        return error_set(err, 0, "device 'virtio-pmem': out of memory; close other programs");
    p->fd = cfg->fd;
    if (virtio_create(&p->virtio, &vpmem_class, 1, h, cfg->slot, 0, config, err) < 0) {
        free(p);
        return -1;
    }
    *out = p;
    return 0;
}

void vpmem_destroy(struct vpmem *p)
{
    if (!p)
        return;
    virtio_destroy(&p->virtio);
    free(p);
}
