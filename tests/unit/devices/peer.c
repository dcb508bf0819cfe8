// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * --spoil REQUEST:HOW, REQUEST being the protocol's number, or 0 for every one:
 *
 *     request  the answer is to another request         long   it says that it has 2 GiB
 *     flags    it is none by its flags                  value  its value is another: a refusal, or another size
 *     size     it says that it has a byte more          close  the connection ends instead
 *     short    it ends in the middle, and so does       fds    three descriptors come with it
 *              the connection                           nofd   none does, where one should
 *     drip     a byte comes every DRIP_S seconds
 */
#include "peer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/util.h"

#define F_PROTOCOL BIT64(30)
#define CONFIG_MAX 256
#define DRIP_S     2 /* the shortest answer takes longer than VHOST_USER_WAIT_S */

enum {
    GET_FEATURES = 1,
    SET_FEATURES = 2,
    SET_OWNER = 3,
    SET_MEM_TABLE = 5,
    SET_VRING_NUM = 8,
    SET_VRING_ADDR = 9,
    SET_VRING_BASE = 10,
    GET_VRING_BASE = 11,
    SET_VRING_KICK = 12,
    SET_VRING_CALL = 13,
    GET_PROTOCOL_FEATURES = 15,
    SET_PROTOCOL_FEATURES = 16,
    GET_QUEUE_NUM = 17,
    SET_VRING_ENABLE = 18,
    SET_BACKEND_REQ_FD = 21,
    GET_CONFIG = 24,
    GET_INFLIGHT_FD = 31,
    SET_INFLIGHT_FD = 32,
};

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
            } regions[PEER_REGIONS];
        } mem;
        struct __attribute__((packed)) {
            uint32_t offset, size, flags;
            uint8_t data[CONFIG_MAX];
        } config;
        struct __attribute__((packed)) {
            uint64_t bytes, offset;
            uint16_t queues, queue_size;
            uint32_t padding;
        } inflight;
    };
};
#define HEADER offsetof(struct message, u64)

void peer_die(const char *what)
{
    fprintf(stderr, "vhost-user peer: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- memory and rings ---- */

static uint64_t guest_address(const struct peer *p, uint64_t user)
{
    for (unsigned i = 0; i < p->mem.count; i++)
        if (user >= p->user[i] && user - p->user[i] < p->mem.regions[i].size)
            return p->mem.regions[i].gpa + (user - p->user[i]);
    return UINT64_MAX;
}

static void drop_memory(struct peer *p)
{
    for (unsigned i = 0; i < p->mem.count; i++)
        munmap(p->mem.regions[i].host, p->mem.regions[i].size);
    p->mem.count = 0;
}

static bool take_memory(struct peer *p, const struct message *m, const int *fds, unsigned nfds)
{
    drop_memory(p);
    if (m->mem.count > PEER_REGIONS || m->mem.count != nfds)
        return false;
    for (unsigned i = 0; i < m->mem.count; i++) {
        void *at = mmap(NULL, m->mem.regions[i].size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], (off_t)m->mem.regions[i].offset);
        if (at == MAP_FAILED)
            return false;
        p->mem.regions[p->mem.count++] = (struct guestmem_region){m->mem.regions[i].gpa, m->mem.regions[i].size, at, 0};
        p->user[i] = m->mem.regions[i].user;
    }
    return true;
}

static void take_fd(int *to, const int *fds, unsigned nfds)
{
    if (*to >= 0)
        close(*to);
    *to = nfds ? dup(fds[0]) : -1;
}

static void take_addresses(struct peer *p, const struct message *m)
{
    struct peer_ring *r = &p->rings[m->addr.index % PEER_RINGS];
    r->cfg.desc = guest_address(p, m->addr.desc);
    r->cfg.driver = guest_address(p, m->addr.avail);
    r->cfg.device = guest_address(p, m->addr.used);
    r->cfg.enabled = true;
}

static void start_ring(struct peer *p, struct peer_ring *r)
{
    if (r->vq.started || !r->cfg.enabled || !r->enabled)
        return;
    vq_start(&r->vq, &p->mem, &r->cfg, false, p->features & VIRTIO_F_EVENT_IDX, p->features & VIRTIO_F_INDIRECT_DESC);
    r->vq.last_avail = r->vq.used_idx = r->base; /* it answers in order, so what was under way is what is next */
    vq_set_kicks(&r->vq, true);
    if (p->tell >= 0)
        eventfd_write(p->tell, 1);
}

static void stop_ring(struct peer_ring *r)
{
    vq_stop(&r->vq);
    r->cfg = (struct vq_config){0};
    r->base = 0;
    take_fd(&r->kick, NULL, 0);
}

void peer_push(struct peer *p, unsigned ring, struct vq_elem *e, uint32_t written)
{
    struct peer_ring *r = &p->rings[ring];
    vq_push(&r->vq, e, written);
    if (vq_should_notify(&r->vq) && r->call >= 0)
        eventfd_write(r->call, 1);
}

/* ---- its own memory ---- */

static bool take_kept(struct peer *p, const int *fds, unsigned nfds)
{
    if (p->kept)
        munmap(p->kept, sizeof *p->kept);
    p->kept = NULL;
    void *at = nfds == 1 ? mmap(NULL, sizeof *p->kept, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0) : MAP_FAILED;
    if (at == MAP_FAILED)
        return false;
    p->kept = at;
    p->kept->lives++;
    return true;
}

/* ---- answers ---- */

static bool spoils(const struct peer *p, const struct message *m, const char *how)
{
    return p->spoil && (!p->spoiled || p->spoiled == m->request) && strcmp(p->spoil, how) == 0;
}

static void send_bytes(struct peer *p, const struct message *m, size_t size, const int *fds, unsigned nfds)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(PEER_REGIONS * sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)m, size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (nfds) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        control.head =
            (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(nfds * sizeof(int))};
        memcpy(CMSG_DATA(&control.head), fds, nfds * sizeof(int));
    }
    if (sendmsg(p->fd, &msg, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
        peer_die("send");
}

static void drip(struct peer *p, const struct message *m, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (send(p->fd, (const char *)m + i, 1, MSG_NOSIGNAL) < 0)
            return;
        sleep(DRIP_S);
    }
}

static void reply_fd(struct peer *p, struct message *m, uint32_t size, int fd)
{
    const int many[] = {p->fd, p->fd, p->fd};
    uint32_t request = m->request;
    bool more = spoils(p, m, "fds"), no_fd = spoils(p, m, "nofd"), dripping = spoils(p, m, "drip");
    bool shorter = spoils(p, m, "short"), ends = shorter || spoils(p, m, "close");
    m->flags = spoils(p, m, "flags") ? 2 : 1 | 4;
    m->size = spoils(p, m, "long") ? 2u << 30 : size + spoils(p, m, "size");
    m->request = spoils(p, m, "request") ? request + 1 : request;
    if (dripping)
        drip(p, m, HEADER + size);
    else if (shorter || !ends)
        send_bytes(p, m, shorter ? (HEADER + size) / 2 : HEADER + size, more ? many : &fd, more ? 3 : fd >= 0 && !no_fd);
    if (ends)
        shutdown(p->fd, SHUT_RDWR);
}

static void reply(struct peer *p, struct message *m, uint32_t size)
{
    reply_fd(p, m, size, -1);
}

static void reply_config(struct peer *p, struct message *m)
{
    uint32_t size = m->config.size;
    if (m->config.offset || size > p->dev->config_len || size > CONFIG_MAX || m->size != 12 + size) {
        reply(p, m, 0);
        return;
    }
    memcpy(m->config.data, p->dev->config, size);
    m->config.size += spoils(p, m, "value");
    reply(p, m, 12 + size);
}

static void reply_memory(struct peer *p, struct message *m)
{
    int fd = memfd_create("peer", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, sizeof *p->kept) < 0)
        peer_die("memfd");
    m->inflight.bytes = sizeof *p->kept;
    m->inflight.offset = 0;
    reply_fd(p, m, sizeof m->inflight, fd);
    close(fd);
}

/* ---- what it asks ---- */

void peer_ask(struct peer *p, uint32_t request, uint32_t flags, uint32_t size)
{
    const struct message m = {.request = request, .flags = flags, .size = size};
    if (send(p->asks, &m, HEADER, MSG_NOSIGNAL) != (ssize_t)HEADER)
        peer_die("ask");
}

uint64_t peer_asked(struct peer *p, uint32_t request)
{
    struct message m;
    if (recv(p->asks, &m, HEADER + 8, MSG_WAITALL) != (ssize_t)HEADER + 8 || m.request != request || m.flags != (PEER_VERSION | 4) || m.size != 8)
        peer_die("no answer");
    return m.u64;
}

/* ---- requests ---- */

/* False for what it does not know. */
static bool obey(struct peer *p, struct message *m, const int *fds, unsigned nfds)
{
    struct peer_ring *r = &p->rings[m->state.index % PEER_RINGS];
    switch (m->request) {
    case SET_FEATURES:
        p->features = m->u64;
        return (m->u64 & ~(p->dev->features | F_PROTOCOL)) == 0;
    case SET_OWNER:
    case SET_PROTOCOL_FEATURES:
        return true;
    case SET_VRING_BASE:
        r->base = (uint16_t)m->state.num;
        return true;
    case SET_MEM_TABLE:
        return take_memory(p, m, fds, nfds);
    case SET_VRING_NUM:
        r->cfg.size = (uint16_t)m->state.num;
        return true;
    case SET_VRING_ADDR:
        take_addresses(p, m);
        return true;
    case SET_VRING_KICK:
        take_fd(&r->kick, fds, nfds);
        return true;
    case SET_VRING_CALL:
        take_fd(&r->call, fds, nfds);
        return true;
    case SET_VRING_ENABLE:
        r->enabled = m->state.num;
        return true;
    case SET_BACKEND_REQ_FD:
        take_fd(&p->asks, fds, nfds);
        return nfds == 1;
    case SET_INFLIGHT_FD:
        return take_kept(p, fds, nfds);
    default:
        return false;
    }
}

static void handle(struct peer *p, struct message *m, const int *fds, unsigned nfds)
{
    bool wants_ack = m->flags & 8;
    switch (m->request) {
    case GET_FEATURES:
        m->u64 = p->dev->features | F_PROTOCOL;
        reply(p, m, 8);
        return;
    case GET_PROTOCOL_FEATURES:
        m->u64 = p->dev->protocol;
        reply(p, m, 8);
        return;
    case GET_QUEUE_NUM:
        m->u64 = p->dev->queues;
        reply(p, m, 8);
        return;
    case GET_CONFIG:
        reply_config(p, m);
        return;
    case GET_INFLIGHT_FD:
        reply_memory(p, m);
        return;
    case GET_VRING_BASE:
        stop_ring(&p->rings[m->state.index % PEER_RINGS]);
        m->state.num = 0;
        reply(p, m, 8);
        return;
    default:
        break;
    }
    bool good = obey(p, m, fds, nfds) && !spoils(p, m, "value");
    if (!wants_ack)
        return;
    m->u64 = !good;
    reply(p, m, 8);
}

/* One message with its descriptors; false when the front end has gone. */
static bool receive(struct peer *p)
{
    struct message m = {0};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(PEER_REGIONS * sizeof(int))];
    } control;
    struct iovec iov = {&m, HEADER};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fds[PEER_REGIONS];
    unsigned nfds = 0;
    if (recvmsg(p->fd, &msg, MSG_CMSG_CLOEXEC | MSG_WAITALL) != (ssize_t)HEADER || m.size > sizeof m - HEADER)
        return false;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), nfds * sizeof(int));
    }
    if (m.size && recv(p->fd, &m.u64, m.size, MSG_WAITALL) != (ssize_t)m.size)
        return false;
    handle(p, &m, fds, nfds);
    while (nfds)
        close(fds[--nfds]);
    return true;
}

/* ---- connections ---- */

static void take_kick(struct peer *p, struct peer_ring *r, const struct pollfd *polled)
{
    eventfd_t count;
    if ((polled->revents & POLLIN) && r->kick == polled->fd && eventfd_read(r->kick, &count) == 0)
        start_ring(p, r);
}

static void serve(struct peer *p)
{
    for (;;) {
        struct pollfd polled[1 + PEER_RINGS] = {{p->fd, POLLIN, 0}};
        for (unsigned q = 0; q < PEER_RINGS; q++)
            polled[1 + q] = (struct pollfd){p->rings[q].kick, POLLIN, 0};
        if (poll(polled, 1 + PEER_RINGS, -1) < 0)
            continue;
        if (polled[0].revents && !receive(p))
            return;
        for (unsigned q = 0; q < PEER_RINGS; q++)
            take_kick(p, &p->rings[q], &polled[1 + q]);
        p->dev->serve(p);
    }
}

/* Who sees the socket there can connect to it. */
static int listen_at(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s.new", path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, 4) < 0 || rename(sa.sun_path, path) < 0)
        peer_die(path);
    return fd;
}

int peer_argument(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return i;
    return 0;
}

static void end_connection(struct peer *p)
{
    for (unsigned q = 0; q < PEER_RINGS; q++) {
        stop_ring(&p->rings[q]);
        take_fd(&p->rings[q].call, NULL, 0);
    }
    take_kept(p, NULL, 0);
    take_fd(&p->asks, NULL, 0);
    drop_memory(p);
    close(p->fd);
}

void peer_main(int argc, char **argv, const struct peer_device *dev)
{
    static struct peer p;
    int by_fd = peer_argument(argc, argv, "--fd"), spoil = peer_argument(argc, argv, "--spoil"),
        tell = peer_argument(argc, argv, "--tell");
    int listener = by_fd ? atoi(argv[by_fd + 1]) : listen_at(argv[1]);
    for (;;) {
        p = (struct peer){.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), .dev = dev, .asks = -1, .tell = tell ? atoi(argv[tell + 1]) : -1};
        if (p.fd < 0)
            peer_die("accept");
        if (spoil) {
            p.spoiled = (unsigned)atoi(argv[spoil + 1]);
            p.spoil = strchr(argv[spoil + 1], ':') + 1;
        }
        for (unsigned q = 0; q < PEER_RINGS; q++)
            p.rings[q].kick = p.rings[q].call = -1;
        serve(&p);
        end_connection(&p);
    }
}
