// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The rings are checked as those of every device, then the back end has them: kicks go to it without passing here, its interrupts
 * come to this thread. A back end that goes away leaves a device that needs a reset; when the guest starts it again, so is the
 * connection.
 */
#include "devices/virtio/vhost_net.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/util.h"
#include "devices/virtio/vnet_internal.h"
#include "net/vhost_user.h"

#define RINGS 2 /* receive, send */

struct vhost_net {
    struct virtio_dev virtio; /* first */
    char *path;
    struct vhost_user *back;     /* [io]; NULL: it has gone */
    int call_fds[RINGS];         /* eventfds */
    int call_at[RINGS], back_at; /* in this turn's poll */
};

static struct vhost_net *vhost_of(struct virtio_dev *v)
{
    return container_of(v, struct vhost_net, virtio);
}

static void lose(struct vhost_net *n, const char *why)
{
    vhost_user_close(n->back);
    n->back = NULL;
    n->virtio.handed_over = 0;
    log_guest(&n->virtio.limit, "%s", why);
    if (n->virtio.running)
        virtio_break(&n->virtio, "its vhost-user back end has gone");
}

static int hand_over(struct vhost_net *n, struct error *err)
{
    struct virtio_dev *v = &n->virtio;
    struct vhost_ring rings[RINGS];
    if (!n->back && vhost_user_connect(n->path, &n->back, err) < 0)
        return -1;
    uint64_t own = VNET_F_MAC | VNET_F_STATUS | VNET_F_MTU;
    if (v->features & ~own & ~vhost_user_features(n->back))
        return error_set(err, 0, "vhost-user back end '%s': lacks what the guest was offered before; start the one that it had",
                         n->path);
    for (unsigned q = 0; q < RINGS; q++) {
        const struct vq_config *c = &v->queues[q].cfg;
        rings[q] = (struct vhost_ring){c->size, c->desc, c->driver, c->device, v->kick_fds[q], n->call_fds[q]};
    }
    return vhost_user_start(n->back, v->features & ~own, v->bus->mem, rings, RINGS, err);
}

static void vhost_start(struct virtio_dev *v)
{
    struct vhost_net *n = vhost_of(v);
    ERROR_SCOPED(err);
    if (v->broken || !v->queues[0].started || !v->queues[1].started)
        return;
    v->handed_over = BIT64(RINGS) - 1;
    if (hand_over(n, &err) < 0) {
        lose(n, error_text(&err));
        return;
    }
    for (unsigned q = 0; q < RINGS; q++) /* a ring starts with its first kick, and the driver may have given it already */
        virtio_kick(v, q);
}

static void vhost_queue_ready(struct virtio_dev *v, unsigned q)
{
    (void)v;
    (void)q;
}

static void vhost_stop(struct virtio_dev *v)
{
    struct vhost_net *n = vhost_of(v);
    ERROR_SCOPED(err);
    if (v->handed_over && vhost_user_stop(n->back, RINGS, &err) < 0) {
        vhost_user_close(n->back);
        n->back = NULL;
        log_guest(&v->limit, "%s", error_text(&err));
    }
    v->handed_over = 0;
}

static void vhost_prepare(struct virtio_dev *v, struct pollset *p)
{
    struct vhost_net *n = vhost_of(v);
    n->back_at = n->back ? pollset_add(p, vhost_user_fd(n->back), POLLIN) : -1;
    for (unsigned q = 0; q < RINGS; q++)
        n->call_at[q] = pollset_add(p, n->call_fds[q], POLLIN);
}

static void vhost_dispatch(struct virtio_dev *v, struct pollset *p)
{
    struct vhost_net *n = vhost_of(v);
    eventfd_t count;
    for (unsigned q = 0; q < RINGS; q++) {
        if (!(pollset_revents(p, n->call_at[q]) & POLLIN) || eventfd_read(n->call_fds[q], &count) < 0 || !v->handed_over)
            continue;
        pthread_mutex_lock(&v->bus->lock);
        virtio_interrupt(v, VIRTIO_ISR_QUEUE, v->qcfg[q].vector);
        pthread_mutex_unlock(&v->bus->lock);
    }
    /* Stopping has read what came after the poll. */
    struct pollfd now = {.fd = n->back ? vhost_user_fd(n->back) : -1, .events = POLLIN};
    if (pollset_revents(p, n->back_at) && n->back && poll(&now, 1, 0) > 0)
        lose(n, "virtio-net: its vhost-user back end has gone");
}

static const struct virtio_class vhost_class = {
    .name = "virtio-net",
    .type = 1,
    .pci_class = 0x020000,
    .queue_size = 256,
    .config_len = CONFIG_BYTES,
    .start = vhost_start,
    .queue_ready = vhost_queue_ready,
    .stop = vhost_stop,
    .prepare = vhost_prepare,
    .dispatch = vhost_dispatch,
};

static int open_calls(struct vhost_net *n, struct error *err)
{
    for (unsigned q = 0; q < RINGS; q++) {
        n->call_fds[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (n->call_fds[q] < 0)
            return error_set(err, errno,
                             "device 'virtio-net': cannot create an eventfd: %s; raise the limit of open files (ulimit -n)",
                             strerror(errno));
    }
    return 0;
}

static void vhost_free(struct vhost_net *n)
{
    vhost_user_close(n->back);
    for (unsigned q = 0; q < RINGS; q++)
        if (n->call_fds[q] >= 0)
            close(n->call_fds[q]);
    free(n->path);
    free(n);
}

static int make(struct pci_host *h, const struct vhost_net_config *cfg, struct vhost_net *n, struct error *err)
{
    uint64_t passed = VNET_F_CSUM | VNET_F_GUEST_CSUM | VNET_F_GUEST_TSO4 | VNET_F_GUEST_TSO6 | VNET_F_HOST_TSO4 |
                      VNET_F_HOST_TSO6 | VNET_F_MRG_RXBUF | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;
    uint8_t config[CONFIG_BYTES] = {0};
    if (pci_host_bus(h)->mem->fd < 0)
        return error_set(err, 0,
                         "vhost-user back end '%s': the guest's memory is private; leave out source=anonymous and access=private",
                         cfg->path);
    if (open_calls(n, err) < 0 || vhost_user_connect(cfg->path, &n->back, err) < 0)
        return -1;
    uint64_t features = vhost_user_features(n->back) & passed;
    if (!(features & VIRTIO_F_VERSION_1))
        return error_set(err, 0, "vhost-user back end '%s': is for virtio before 1.0 only; use a newer one", cfg->path);
    features |= VNET_F_MAC | VNET_F_STATUS | (cfg->mtu ? VNET_F_MTU : 0);
    memcpy(config + CONFIG_MAC, cfg->mac, sizeof cfg->mac);
    pci_set16(config + CONFIG_STATUS, cfg->link_down ? 0 : STATUS_LINK_UP);
    pci_set16(config + CONFIG_PAIRS, 1);
    pci_set16(config + CONFIG_MTU, cfg->mtu);
    if (virtio_create(&n->virtio, &vhost_class, RINGS, h, cfg->slot, features, config, err) < 0)
        return -1;
    n->virtio.offered = features; /* no more than the back end can: no packed rings */
    return 0;
}

int vhost_net_create(struct pci_host *h, const struct vhost_net_config *cfg, struct vhost_net **out, struct error *err)
{
    struct vhost_net *n = calloc(1, sizeof *n);
    if (!n || !(n->path = strdup(cfg->path))) {
        free(n);
        return error_set(err, ENOMEM, "device 'virtio-net': out of memory; close other programs");
    }
    memset(n->call_fds, -1, sizeof n->call_fds);
    if (make(h, cfg, n, err) < 0) {
        vhost_free(n);
        return -1;
    }
    *out = n;
    return 0;
}

void vhost_net_destroy(struct vhost_net *n)
{
    if (!n)
        return;
    virtio_destroy(&n->virtio);
    vhost_free(n);
}
