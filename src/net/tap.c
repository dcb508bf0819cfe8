// SPDX-License-Identifier: GPL-2.0-or-later
/* A tap device, with the header in front of each frame: checksums and segmentation are left to the host's kernel, both ways. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/util.h"
#include "net/net.h"

#define TAP_TURN 256 /* frames that one turn of the loop takes, so that the other direction gets its turn too */
#define TAP_IOV  64

struct net_tap {
    struct netdev dev; /* first */
    int fd, slot;
    char name[IFNAMSIZ];
    struct log_limit limit;
    uint8_t frame[sizeof(struct net_header) + NET_FRAME_MAX];
};

static void tap_send_offloaded(struct netdev *n, const struct net_header *h, const struct iovec *iov, int niov, size_t len)
{
    struct net_tap *t = container_of(n, struct net_tap, dev);
    struct iovec all[1 + TAP_IOV];
    (void)len;
    if (niov > TAP_IOV)
        return;
    struct net_header copy = *h;
    copy.num_buffers = 0;
    all[0] = (struct iovec){&copy, sizeof copy};
    memcpy(all + 1, iov, (size_t)niov * sizeof *iov);
    /* A full queue drops, as a wire does. */
    if (writev(t->fd, all, niov + 1) < 0 && errno != EAGAIN && errno != ENOBUFS)
        log_guest(&t->limit, "tap '%s': a frame is lost: %s", t->name, strerror(errno));
}

static void tap_send(struct netdev *n, const void *frame, size_t len)
{
    const struct net_header none = {0};
    tap_send_offloaded(n, &none, &(struct iovec){(void *)(uintptr_t)frame, len}, 1, len);
}

static void tap_wants_changed(struct netdev *n)
{
    struct net_tap *t = container_of(n, struct net_tap, dev);
    unsigned flags = (n->wants & NET_CSUM ? TUN_F_CSUM : 0) | (n->wants & NET_TSO4 ? TUN_F_TSO4 : 0) | (n->wants & NET_TSO6 ? TUN_F_TSO6 : 0);
    if (ioctl(t->fd, TUNSETOFFLOAD, flags) < 0)
        log_warn("tap '%s': its offloads cannot be set: %s; it is slower without", t->name, strerror(errno));
}

static void tap_prepare(struct netdev *n, struct pollset *p)
{
    struct net_tap *t = container_of(n, struct net_tap, dev);
    t->slot = pollset_add(p, t->fd, POLLIN);
}

static void tap_dispatch(struct netdev *n, struct pollset *p)
{
    struct net_tap *t = container_of(n, struct net_tap, dev);
    struct net_header h;
    if (!(pollset_revents(p, t->slot) & POLLIN))
        return;
    for (unsigned i = 0; i < TAP_TURN; i++) {
        ssize_t got = read(t->fd, t->frame, sizeof t->frame);
        if (got <= (ssize_t)sizeof h)
            return;
        size_t len = (size_t)got - sizeof h;
        struct iovec iov = {t->frame + sizeof h, len};
        memcpy(&h, t->frame, sizeof h);
        if (n->receive_offloaded)
            n->receive_offloaded(n->opaque, &h, &iov, 1, len);
        else if (n->receive)
            n->receive(n->opaque, iov.iov_base, len);
    }
}

static void tap_destroy(struct netdev *n)
{
    struct net_tap *t = container_of(n, struct net_tap, dev);
    if (t->fd >= 0)
        close(t->fd);
    free(t);
}

static const struct netdev_ops tap_ops = {
    .name = "tap",
    .send = tap_send,
    .send_offloaded = tap_send_offloaded,
    .wants_changed = tap_wants_changed,
    .prepare = tap_prepare,
    .dispatch = tap_dispatch,
    .destroy = tap_destroy,
};

static int attach(struct net_tap *t, const char *ifname, struct error *err)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int header = sizeof(struct net_header);
    if (ifname && strlen(ifname) >= IFNAMSIZ)
        return error_set(err, 0, "tap '%s': an interface's name has at most %d characters; shorten it", ifname, IFNAMSIZ - 1);
    snprintf(ifr.ifr_name, IFNAMSIZ, "%s", ifname ? ifname : "lodge%d");
    int r = ioctl(t->fd, TUNSETIFF, &ifr);
    if (r < 0 && errno == EPERM)
        return error_set(err, EPERM, "tap '%s': not permitted; have root run 'ip tuntap add %s mode tap user %s', or use --net user",
                         ifname ? ifname : "", ifname ? ifname : "tap0", getenv("USER") ? getenv("USER") : "YOU");
    if (r < 0 || ioctl(t->fd, TUNSETVNETHDRSZ, &header) < 0)
        return error_set(err, errno, "tap '%s': cannot attach: %s; give a tap device that no other program has", ifr.ifr_name, strerror(errno));
    memcpy(t->name, ifr.ifr_name, sizeof t->name);
    return 0;
}

/* Up, and a port of the bridge. A device that its owner prepared is up already, and the kernel lets nobody else touch it. */
static int plug(const struct net_tap *t, const char *bridge, struct error *err)
{
    struct ifreq ifr = {0};
    AUTO_CLOSE int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memcpy(ifr.ifr_name, t->name, IFNAMSIZ);
    if (s < 0 || ioctl(s, SIOCGIFFLAGS, &ifr) < 0)
        return error_set(err, errno, "tap '%s': cannot read its state: %s", t->name, strerror(errno));
    if (!(ifr.ifr_flags & IFF_UP)) {
        ifr.ifr_flags |= IFF_UP;
        if (ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
            return error_set(err, errno, "tap '%s': cannot set it up: %s; have root run 'ip link set %s up'", t->name, strerror(errno), t->name);
    }
    if (!bridge)
        return 0;
    struct ifreq port = {.ifr_ifindex = (int)if_nametoindex(t->name)};
    if (strlen(bridge) >= IFNAMSIZ || if_nametoindex(bridge) == 0)
        return error_set(err, 0, "bridge '%s': there is none of that name; make it with 'ip link add %s type bridge'", bridge, bridge);
    snprintf(port.ifr_name, IFNAMSIZ, "%s", bridge);
    if (ioctl(s, SIOCBRADDIF, &port) < 0 && errno != EBUSY) /* EBUSY: it is a port already */
        return error_set(err, errno, "bridge '%s': cannot add '%s': %s; have root run 'ip link set %s master %s'", bridge, t->name,
                         strerror(errno), t->name, bridge);
    return 0;
}

int net_tap_create(const struct net_tap_config *cfg, struct netdev **out, struct error *err)
{
    struct net_tap *t = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, ENOMEM, "tap: out of memory; close other programs");
    *t = (struct net_tap){.dev = {.ops = &tap_ops, .offloads = NET_CSUM | NET_TSO4 | NET_TSO6}, .slot = -1};
    t->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (t->fd < 0)
        error_set(err, errno, "tap: cannot open /dev/net/tun: %s; load the kernel's tun module, or use --net user", strerror(errno));
    if (t->fd < 0 || attach(t, cfg->ifname, err) < 0 || plug(t, cfg->bridge, err) < 0) {
        tap_destroy(&t->dev);
        return -1;
    }
    *out = &t->dev;
    return 0;
}
