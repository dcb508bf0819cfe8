// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A back end of vhost-user for a network card: a host at 10.9.0.1 that answers ARP and ping, and returns frames of Ethernet type
 * 88b5 to their sender.
 *
 *     vhostback PATH            listens there
 *     vhostback --fd N          on a socket that listens already
 *     vhostback --fd N --rude   and answers with nonsense
 *
 * It serves one connection after another until it is killed. Rings are walked by Lodge's own library, on the memory that the front
 * end has passed.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/util.h"
#include "devices/virtio/queue.h"
#include "devices/virtio/virtio.h"

#define HDR       12 /* of virtio-net, before each frame */
#define FRAME_MAX 65550
#define REGIONS   8
#define RINGS     2 /* receive, send */

#define F_PROTOCOL  BIT64(30)
#define FEATURES    (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | F_PROTOCOL)
#define F_REPLY_ACK BIT64(3)

struct __attribute__((packed)) message {
    uint32_t request, flags, size;
    union __attribute__((packed)) {
        uint64_t u64;
        struct __attribute__((packed)) {
            uint32_t index, num;
        } state;
        struct __attribute__((packed)) {
            uint32_t index, flags;
            uint64_t desc, used, avail, log;
        } addr;
        struct __attribute__((packed)) {
            uint32_t count, padding;
            struct __attribute__((packed)) {
                uint64_t gpa, size, user, offset;
            } regions[REGIONS];
        } mem;
    };
};
#define HEADER offsetof(struct message, u64)

struct ring {
    struct vq vq;
    struct vq_config cfg;
    int kick, call;
    bool enabled;
};

struct back {
    int fd;
    bool rude;
    uint64_t features;
    struct guestmem mem;
    uint64_t user[REGIONS]; /* where the front end has each region */
    struct ring rings[RINGS];
    uint8_t frame[HDR + FRAME_MAX];
};

static const uint8_t own_mac[6] = {0x52, 0x54, 0, 0xaa, 0xbb, 0xcc}, own_ip[4] = {10, 9, 0, 1};

static void die(const char *what)
{
    fprintf(stderr, "vhostback: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- the host at 10.9.0.1 ---- */

static void swap(uint8_t *a, uint8_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
}

/* Makes the answer to a frame in its place; false when there is none. */
static bool answer(uint8_t *f, size_t len)
{
    bool arp = len >= 42 && f[12] == 0x08 && f[13] == 0x06 && f[21] == 1 && memcmp(f + 38, own_ip, 4) == 0;
    bool ping =
        len >= 42 && f[12] == 0x08 && f[13] == 0 && f[14] == 0x45 && f[23] == 1 && f[34] == 8 && memcmp(f + 30, own_ip, 4) == 0;
    bool echo = len >= 14 && f[12] == 0x88 && f[13] == 0xb5;
    if (!arp && !ping && !echo)
        return false;
    memcpy(f, f + 6, 6);
    memcpy(f + 6, own_mac, 6);
    if (arp) {
        f[21] = 2;
        swap(f + 22, f + 32, 10);
        memcpy(f + 22, own_mac, 6);
    } else if (ping) {
        swap(f + 26, f + 30, 4);
        f[34] = 0; /* echo reply; the checksum loses what the type did */
        unsigned sum = (unsigned)(f[36] << 8 | f[37]) + 0x800;
        sum = (sum & 0xffff) + (sum >> 16);
        f[36] = (uint8_t)(sum >> 8);
        f[37] = (uint8_t)sum;
    }
    return true;
}

/* ---- rings ---- */

/* The next request of a ring, or NULL when there is none; then the driver is to kick. */
static struct vq_elem *pop(struct ring *r)
{
    struct vq_elem *e;
    for (;;) {
        int n = vq_pop(&r->vq, &e);
        if (n > 0) {
            if (r->vq.kicks_wanted)
                vq_set_kicks(&r->vq, false);
            return e;
        }
        if (n < 0 || r->vq.kicks_wanted || !vq_set_kicks(&r->vq, true))
            return NULL;
    }
}

static void push(struct ring *r, struct vq_elem *e, size_t written)
{
    vq_push(&r->vq, e, (uint32_t)written);
    if (vq_should_notify(&r->vq) && r->call >= 0)
        eventfd_write(r->call, 1);
}

static void serve_frames(struct back *b)
{
    struct vq_elem *e, *to;
    while (b->rings[0].vq.started && b->rings[1].vq.started && (e = pop(&b->rings[1]))) {
        size_t len = iov_read(e->out, e->nout, 0, b->frame, sizeof b->frame);
        push(&b->rings[1], e, 0);
        if (len <= HDR || !answer(b->frame + HDR, len - HDR) || !(to = pop(&b->rings[0])))
            continue;
        memset(b->frame, 0, HDR);
        b->frame[10] = 1; /* buffers */
        push(&b->rings[0], to, iov_write(to->in, to->nin, 0, b->frame, len));
    }
}

/* ---- messages ---- */

static uint64_t guest_address(const struct back *b, uint64_t user)
{
    for (unsigned i = 0; i < b->mem.count; i++)
        if (user >= b->user[i] && user - b->user[i] < b->mem.regions[i].size)
            return b->mem.regions[i].gpa + (user - b->user[i]);
    return UINT64_MAX;
}

static void drop_memory(struct back *b)
{
    for (unsigned i = 0; i < b->mem.count; i++)
        munmap(b->mem.regions[i].host, b->mem.regions[i].size);
    b->mem.count = 0;
}

static bool take_memory(struct back *b, const struct message *m, const int *fds, unsigned nfds)
{
    drop_memory(b);
    if (m->mem.count > REGIONS || m->mem.count != nfds)
        return false;
    for (unsigned i = 0; i < m->mem.count; i++) {
        void *p = mmap(NULL, m->mem.regions[i].size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], (off_t)m->mem.regions[i].offset);
        if (p == MAP_FAILED)
            return false;
        b->mem.regions[b->mem.count++] = (struct guestmem_region){m->mem.regions[i].gpa, m->mem.regions[i].size, p, 0};
        b->user[i] = m->mem.regions[i].user;
    }
    return true;
}

static void take_fd(int *to, const int *fds, unsigned nfds)
{
    if (*to >= 0)
        close(*to);
    *to = nfds ? dup(fds[0]) : -1;
}

static void take_addresses(struct back *b, const struct message *m)
{
    struct ring *r = &b->rings[m->addr.index % RINGS];
    r->cfg.desc = guest_address(b, m->addr.desc);
    r->cfg.driver = guest_address(b, m->addr.avail);
    r->cfg.device = guest_address(b, m->addr.used);
    r->cfg.enabled = true;
}

static void start_ring(struct back *b, struct ring *r)
{
    if (!r->vq.started && r->cfg.enabled && r->enabled)
        vq_start(&r->vq, &b->mem, &r->cfg, false, b->features & VIRTIO_F_EVENT_IDX, b->features & VIRTIO_F_INDIRECT_DESC);
}

static void stop_ring(struct ring *r)
{
    vq_stop(&r->vq);
    r->cfg = (struct vq_config){0};
    take_fd(&r->kick, NULL, 0);
}

static void reply(struct back *b, struct message *m, uint32_t size)
{
    m->flags = b->rude ? 2 : 1 | 4;
    m->size = size;
    if (send(b->fd, m, HEADER + size, MSG_NOSIGNAL) < 0 && errno != EPIPE)
        die("send");
}

/* False for what it does not know. */
static bool obey(struct back *b, struct message *m, const int *fds, unsigned nfds)
{
    struct ring *r = &b->rings[m->state.index % RINGS];
    switch (m->request) {
    case 2: /* features */
        b->features = m->u64;
        return (m->u64 & ~FEATURES) == 0;
    case 3:  /* owner */
    case 10: /* base */
    case 16: /* protocol features */
        return true;
    case 5:
        return take_memory(b, m, fds, nfds);
    case 8:
        r->cfg.size = (uint16_t)m->state.num;
        return true;
    case 9:
        take_addresses(b, m);
        return true;
    case 12:
        take_fd(&r->kick, fds, nfds);
        return true;
    case 13:
        take_fd(&r->call, fds, nfds);
        return true;
    case 18:
        r->enabled = m->state.num;
        return true;
    default:
        return false;
    }
}

static void handle(struct back *b, struct message *m, const int *fds, unsigned nfds)
{
    bool wants_ack = m->flags & 8;
    switch (m->request) {
    case 1:
        m->u64 = FEATURES;
        reply(b, m, 8);
        return;
    case 15:
        m->u64 = F_REPLY_ACK;
        reply(b, m, 8);
        return;
    case 11:
        stop_ring(&b->rings[m->state.index % RINGS]);
        m->state.num = 0;
        reply(b, m, 8);
        return;
    default:
        break;
    }
    bool good = obey(b, m, fds, nfds);
    if (!wants_ack)
        return;
    m->u64 = !good;
    reply(b, m, 8);
}

/* One message with its descriptors; false when the front end has gone. */
static bool receive(struct back *b)
{
    struct message m = {0};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(REGIONS * sizeof(int))];
    } control;
    struct iovec iov = {&m, HEADER};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fds[REGIONS];
    unsigned nfds = 0;
    if (recvmsg(b->fd, &msg, MSG_CMSG_CLOEXEC | MSG_WAITALL) != (ssize_t)HEADER || m.size > sizeof m - HEADER)
        return false;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), nfds * sizeof(int));
    }
    if (m.size && recv(b->fd, &m.u64, m.size, MSG_WAITALL) != (ssize_t)m.size)
        return false;
    handle(b, &m, fds, nfds);
    while (nfds)
        close(fds[--nfds]);
    return true;
}

static void serve(int fd, bool rude)
{
    static struct back b;
    b = (struct back){.fd = fd, .rude = rude, .rings = {{.kick = -1, .call = -1}, {.kick = -1, .call = -1}}};
    for (;;) {
        struct pollfd p[1 + RINGS] = {{fd, POLLIN, 0}, {b.rings[0].kick, POLLIN, 0}, {b.rings[1].kick, POLLIN, 0}};
        eventfd_t count;
        if (poll(p, 1 + RINGS, -1) < 0)
            continue;
        if (p[0].revents && !receive(&b))
            break;
        for (unsigned q = 0; q < RINGS; q++)
            if ((p[1 + q].revents & POLLIN) && b.rings[q].kick == p[1 + q].fd && eventfd_read(b.rings[q].kick, &count) == 0)
                start_ring(&b, &b.rings[q]);
        serve_frames(&b);
    }
    for (unsigned q = 0; q < RINGS; q++) {
        stop_ring(&b.rings[q]);
        take_fd(&b.rings[q].call, NULL, 0);
    }
    drop_memory(&b);
    close(fd);
}

static int listen_at(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, 4) < 0)
        die(path);
    return fd;
}

int main(int argc, char **argv)
{
    bool by_fd = argc >= 3 && strcmp(argv[1], "--fd") == 0;
    if (argc < 2) {
        fputs("usage: vhostback PATH | --fd N [--rude]\n", stderr);
        return 2;
    }
    int listener = by_fd ? atoi(argv[2]) : listen_at(argv[1]);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            die("accept");
        serve(fd, by_fd && argc > 3);
    }
}
