// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ioctls of <linux/vhost.h>. The kernel's module has the rings' features and mergeable buffers; checksums and segments are the
 * tap device's: together they are what the back end offers, and each gets its part of what the driver takes.
 *
 * A ring runs while it has a back end, the tap's queue. A queue of the tap whose rings have none is detached, so that the kernel
 * spreads frames over the others only.
 */
#include "net/vhost_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "base/util.h"

#define DEVICE "/dev/vhost-net"

#define TAP_FEATURES                                                                                                             \
    (BIT64(VIRTIO_NET_F_CSUM) | BIT64(VIRTIO_NET_F_GUEST_CSUM) | BIT64(VIRTIO_NET_F_HOST_TSO4) | BIT64(VIRTIO_NET_F_HOST_TSO6) | \
     BIT64(VIRTIO_NET_F_GUEST_TSO4) | BIT64(VIRTIO_NET_F_GUEST_TSO6))

struct vhost_kernel {
    struct vhost_back back; /* first */
    const struct vhost_kernel_sys *sys;
    struct net_tap_queues tap;
    unsigned pairs;
    int vhost[VHOST_KERNEL_PAIRS_MAX]; /* -1: not connected */
    uint64_t module;                   /* features of the kernel's module */
    uint64_t running;                  /* bit per ring */
    uint64_t detached;                 /* bit per queue of the tap */
};

static struct vhost_kernel *kernel_of(const struct vhost_back *b)
{
    return container_of((struct vhost_back *)(uintptr_t)b, struct vhost_kernel, back);
}

static int failed(const struct vhost_kernel *k, const char *what, struct error *err)
{
    int code = errno;
    return error_set(err, code, "%s: the kernel refuses %s: %s; use vhost=off", k->back.name, what, strerror(code));
}

static int call(struct vhost_kernel *k, unsigned pair, unsigned long request, void *arg, const char *what, struct error *err)
{
    return k->sys->ioctl(k->vhost[pair], request, arg) < 0 ? failed(k, what, err) : 0;
}

/* ---- the connection ---- */

static void kernel_disconnect(struct vhost_back *b)
{
    struct vhost_kernel *k = kernel_of(b);
    for (unsigned i = 0; i < k->pairs; i++) {
        if (k->vhost[i] >= 0)
            k->sys->close(k->vhost[i]);
        k->vhost[i] = -1;
    }
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
    k->running = 0;
}

static int open_device(struct vhost_kernel *k, unsigned pair, struct error *err)
{
    k->vhost[pair] = k->sys->open(DEVICE, O_RDWR | O_CLOEXEC);
    if (k->vhost[pair] >= 0)
        return 0;
    int code = errno;
    const char *remedy =
        code == EACCES || code == EPERM ? "have root give you access to it" : "have root load it (modprobe vhost_net)";
    return error_set(err, code, "%s: cannot open " DEVICE ": %s; %s, or use vhost=off", k->back.name, strerror(code), remedy);
}

static int kernel_connect(struct vhost_back *b, const struct guestmem *mem, struct error *err)
{
    struct vhost_kernel *k = kernel_of(b);
    int ret = 0;
    (void)mem;
    k->module = UINT64_MAX;
    b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (b->fd < 0)
        return error_set(err, errno, "%s: cannot create an eventfd: %s; raise the limit of open files (ulimit -n)", b->name,
                         strerror(errno));
    for (unsigned i = 0; ret == 0 && i < k->pairs; i++) {
        uint64_t features = 0;
        if (open_device(k, i, err) < 0 || call(k, i, VHOST_SET_OWNER, NULL, "an owner", err) < 0 ||
            call(k, i, VHOST_GET_FEATURES, &features, "to tell its features", err) < 0)
            ret = -1;
        k->module &= features;
    }
    if (ret < 0)
        kernel_disconnect(b);
    b->features = k->module | TAP_FEATURES;
    b->queues = k->pairs;
    return ret;
}

/* ---- rings ---- */

/* The kernel reads and writes where this process has the guest's memory, so what has no descriptor serves as well. */
static int set_memory(struct vhost_kernel *k, const struct guestmem *mem, struct error *err)
{
    unsigned n = 0;
    AUTO_FREE struct vhost_memory *m = calloc(1, sizeof *m + (GUESTMEM_REGIONS + GUESTMEM_EXTRA) * sizeof m->regions[0]);
    if (!m)
        return error_set(err, ENOMEM, "%s: out of memory; close other programs", k->back.name);
    for (unsigned i = 0; i < mem->count + mem->nextra; i++) {
        const struct guestmem_region *r = i < mem->count ? &mem->regions[i] : &mem->extra[i - mem->count];
        m->regions[n].guest_phys_addr = r->gpa;
        m->regions[n].memory_size = r->size;
        m->regions[n++].userspace_addr = (uintptr_t)r->host;
    }
    m->nregions = n;
    for (unsigned i = 0; i < k->pairs; i++)
        if (call(k, i, VHOST_SET_MEM_TABLE, m, "the guest's memory", err) < 0)
            return -1;
    return 0;
}

static int attach_queue(struct vhost_kernel *k, unsigned queue, bool on, struct error *err)
{
    struct ifreq ifr = {.ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};
    if (k->pairs == 1 || on == !(k->detached & BIT64(queue)))
        return 0;
    if (k->sys->ioctl(k->tap.fds[queue], TUNSETQUEUE, &ifr) < 0)
        return failed(k, "to switch a queue", err);
    k->detached ^= BIT64(queue);
    return 0;
}

static int set_backend(struct vhost_kernel *k, unsigned ring, bool on, struct error *err)
{
    struct vhost_vring_file f = {.index = ring % 2, .fd = on ? k->tap.fds[ring / 2] : -1};
    if (on == !!(k->running & BIT64(ring)))
        return 0;
    if (call(k, ring / 2, VHOST_NET_SET_BACKEND, &f, on ? "the guest's rings" : "to stop", err) < 0)
        return -1;
    k->running ^= BIT64(ring);
    return 0;
}

static int kernel_enable(struct vhost_back *b, unsigned ring, bool on, struct error *err)
{
    struct vhost_kernel *k = kernel_of(b);
    unsigned queue = ring / 2;
    if (on && attach_queue(k, queue, true, err) < 0)
        return -1;
    if (set_backend(k, ring, on, err) < 0)
        return -1;
    return on || (k->running >> (2 * queue) & 3) ? 0 : attach_queue(k, queue, false, err);
}

static int set_ring(struct vhost_kernel *k, const struct guestmem *mem, const struct vhost_ring *r, struct error *err)
{
    unsigned pair = r->index / 2, index = r->index % 2;
    struct vhost_vring_state size = {index, r->size}, base = {index, r->base};
    struct vhost_vring_addr addr = {.index = index,
                                    .desc_user_addr = (uintptr_t)guestmem_ptr(mem, r->desc, 1),
                                    .used_user_addr = (uintptr_t)guestmem_ptr(mem, r->device, 1),
                                    .avail_user_addr = (uintptr_t)guestmem_ptr(mem, r->driver, 1)};
    struct vhost_vring_file kick = {index, r->kick_fd}, interrupt = {index, r->call_fd}, trouble = {index, k->back.fd};
    static const char what[] = "the guest's rings";
    return call(k, pair, VHOST_SET_VRING_NUM, &size, what, err) < 0 || call(k, pair, VHOST_SET_VRING_BASE, &base, what, err) < 0 ||
                   call(k, pair, VHOST_SET_VRING_ADDR, &addr, what, err) < 0 ||
                   call(k, pair, VHOST_SET_VRING_CALL, &interrupt, what, err) < 0 ||
                   call(k, pair, VHOST_SET_VRING_ERR, &trouble, what, err) < 0 ||
                   call(k, pair, VHOST_SET_VRING_KICK, &kick, what, err) < 0
               ? -1
               : 0;
}

static int set_features(struct vhost_kernel *k, uint64_t features, struct error *err)
{
    uint64_t module = features & k->module & ~TAP_FEATURES;
    unsigned offloads = 0;
    /* Segments are of use only with their checksums. */
    if (features & BIT64(VIRTIO_NET_F_GUEST_CSUM))
        offloads = TUN_F_CSUM | (features & BIT64(VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0) |
                   (features & BIT64(VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0);
    for (unsigned i = 0; i < k->pairs; i++)
        if (call(k, i, VHOST_SET_FEATURES, &module, "its own features", err) < 0)
            return -1;
    return k->sys->ioctl(k->tap.fds[0], TUNSETOFFLOAD, (void *)(uintptr_t)offloads) < 0
               ? failed(k, "the tap device's offloads", err)
               : 0;
}

static int kernel_start(struct vhost_back *b, uint64_t features, const struct guestmem *mem, const struct vhost_ring *rings,
                        unsigned n, struct vhost_inflight *inflight, struct error *err)
{
    struct vhost_kernel *k = kernel_of(b);
    uint64_t used = 0;
    (void)inflight;
    if (set_features(k, features, err) < 0 || set_memory(k, mem, err) < 0)
        return -1;
    for (unsigned i = 0; i < n; i++) {
        if (set_ring(k, mem, &rings[i], err) < 0)
            return -1;
        used |= rings[i].enabled ? BIT64(rings[i].index / 2) : 0;
    }
    for (unsigned i = 0; i < k->pairs; i++)
        if (attach_queue(k, i, i == 0 || used & BIT64(i), err) < 0)
            return -1;
    for (unsigned i = 0; i < n; i++)
        if (rings[i].enabled && set_backend(k, rings[i].index, true, err) < 0)
            return -1;
    return 0;
}

static int kernel_stop(struct vhost_back *b, uint64_t which, struct error *err)
{
    struct vhost_kernel *k = kernel_of(b);
    for (which &= k->running; which; which &= which - 1)
        if (set_backend(k, (unsigned)__builtin_ctzll(which), false, err) < 0)
            return -1;
    return 0;
}

/* ---- life ---- */

static bool kernel_stats(const struct vhost_back *b, struct net_stats *s)
{
    return net_tap_stats(kernel_of(b)->tap.name, s);
}

static void kernel_destroy(struct vhost_back *b)
{
    struct vhost_kernel *k = kernel_of(b);
    net_tap_close(&k->tap);
    free(b->name);
    free(k);
}

static const struct vhost_back_ops kernel_ops = {
    .lost = "stops at what the guest has put into its rings; start the guest's driver again",
    .connect = kernel_connect,
    .disconnect = kernel_disconnect,
    .start = kernel_start,
    .enable = kernel_enable,
    .stop = kernel_stop,
    .stats = kernel_stats,
    .destroy = kernel_destroy,
};

static int host_ioctl(int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg);
}

static int host_open(const char *path, int flags)
{
    return open(path, flags);
}

static void host_close(int fd)
{
    close(fd);
}

const struct vhost_kernel_sys vhost_kernel_host = {host_open, host_close, host_ioctl, net_tap_open};

static int set_name(struct vhost_back *b, const char *name)
{
    free(b->name);
    if (asprintf(&b->name, "vhost-net%s%s", *name ? " of tap device " : "", name) < 0)
        b->name = NULL;
    return b->name ? 0 : -1;
}

int vhost_kernel_create(const struct net_tap_config *cfg, unsigned pairs, const struct guestmem *mem,
                        const struct vhost_kernel_sys *sys, struct vhost_back **out, struct error *err)
{
    struct vhost_kernel *k = calloc(1, sizeof *k);
    if (!k)
        return error_set(err, ENOMEM, "vhost-net: out of memory; close other programs");
    *k = (struct vhost_kernel){
        .back = {.ops = &kernel_ops, .fd = -1, .asks = -1}, .sys = sys, .pairs = MIN(MAX(pairs, 1u), VHOST_KERNEL_PAIRS_MAX)};
    memset(k->vhost, -1, sizeof k->vhost);
    int ret = set_name(&k->back, "");
    /* In this order, so that a host without vhost-net sees no tap device come and go. */
    if (ret == 0 && vhost_back_connect(&k->back, mem, err) == 0 && sys->open_tap(cfg, k->pairs, &k->tap, err) == 0) {
        if (set_name(&k->back, k->tap.name) == 0) {
            *out = &k->back;
            return 0;
        }
        ret = -1;
    }
    if (ret < 0 || !k->back.name)
        error_set(err, ENOMEM, "vhost-net: out of memory; close other programs");
    vhost_back_destroy(&k->back);
    return -1;
}
