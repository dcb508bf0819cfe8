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

/* ---- the interface ---- */

static int open_queue(struct net_tap_queues *t, unsigned flags, struct error *err)
{
    struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags)};
    int header = sizeof(struct net_header);
    const char *name = t->name[0] ? t->name : "tap0";
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, errno, "tap: cannot open /dev/net/tun: %s; load the kernel's tun module, or use --net user", strerror(errno));
    t->fds[t->count++] = fd;
    snprintf(ifr.ifr_name, IFNAMSIZ, "%s", t->name[0] ? t->name : "lodge%d");
    int r = ioctl(fd, TUNSETIFF, &ifr);
    if (r < 0 && errno == EPERM)
        return error_set(err, EPERM, "tap '%s': not permitted; have root run 'ip tuntap add %s mode tap%s user %s', or use --net user",
                         t->name, name, flags ? " multi_queue" : "", getenv("USER") ? getenv("USER") : "YOU");
    if (r < 0 && errno == EINVAL && flags)
        return error_set(err, EINVAL, "tap '%s': it has one queue; have root make it with 'ip tuntap add %s mode tap multi_queue', or leave out queues",
                         t->name, name);
    if (r < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
        return error_set(err, errno, "tap '%s': cannot attach: %s; give a tap device that no other program has", ifr.ifr_name, strerror(errno));
    memcpy(t->name, ifr.ifr_name, sizeof t->name);
    return 0;
}

/* Up, and a port of the bridge. A device that its owner prepared is up already, and the kernel lets nobody else touch it. */
static int plug(const struct net_tap_queues *t, const char *bridge, struct error *err)
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

void net_tap_close(struct net_tap_queues *t)
{
    while (t->count)
        close(t->fds[--t->count]);
}

int net_tap_open(const struct net_tap_config *cfg, unsigned queues, struct net_tap_queues *out, struct error *err)
{
    struct net_tap_queues t = {.count = 0};
    int ret = 0;
    if (cfg->ifname && strlen(cfg->ifname) >= IFNAMSIZ)
        return error_set(err, 0, "tap '%s': an interface's name has at most %d characters; shorten it", cfg->ifname, IFNAMSIZ - 1);
    snprintf(t.name, sizeof t.name, "%s", cfg->ifname ? cfg->ifname : "");
    while (ret == 0 && t.count < MIN(queues, NET_TAP_QUEUES_MAX))
        ret = open_queue(&t, queues > 1 ? IFF_MULTI_QUEUE : 0, err);
    if (ret < 0 || plug(&t, cfg->bridge, err) < 0) {
        net_tap_close(&t);
        return -1;
    }
    *out = t;
    return 0;
}

/* What the host's interface receives is what the guest has sent. */
bool net_tap_stats(const char *name, struct net_stats *s)
{
    AUTO_FREE char *line = NULL;
    size_t room = 0, len = strlen(name);
    bool found = false;
    FILE *f = fopen("/proc/net/dev", "re");
    while (f && !found && getline(&line, &room, f) > 0) {
        const char *at = line + strspn(line, " ");
        unsigned long long n[12];
        found = strncmp(at, name, len) == 0 && at[len] == ':' &&
                sscanf(at + len + 1, "%llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5],
                       &n[6], &n[7], &n[8], &n[9], &n[10], &n[11]) == 12;
        if (found) /* bytes, packets, errors, dropped and four others; then those that were sent */
            *s = (struct net_stats){.tx_bytes = n[0], .tx_packets = n[1], .tx_drop = n[3], .rx_bytes = n[8], .rx_packets = n[9], .rx_drop = n[11]};
    }
    if (f)
        fclose(f);
    return found;
}

/* ---- served by this process ---- */

int net_tap_create(const struct net_tap_config *cfg, struct netdev **out, struct error *err)
{
    struct net_tap_queues q;
    struct net_tap *t = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, ENOMEM, "tap: out of memory; close other programs");
    if (net_tap_open(cfg, 1, &q, err) < 0) {
        free(t);
        return -1;
    }
    *t = (struct net_tap){.dev = {.ops = &tap_ops, .offloads = NET_CSUM | NET_TSO4 | NET_TSO6}, .fd = q.fds[0], .slot = -1};
    memcpy(t->name, q.name, sizeof t->name);
    *out = &t->dev;
    return 0;
}
