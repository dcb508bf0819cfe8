// SPDX-License-Identifier: GPL-2.0-or-later
/* The messages of vhost-user (QEMU's docs/interop/vhost-user), as far as a device without migration needs them. */
#include "net/vhost_user.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/unix.h"
#include "base/util.h"

enum request {
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

/* What the back end asks, on a connection of its own. */
#define BACKEND_CONFIG_CHANGE_MSG 2

#define FLAG_VERSION    1u
#define FLAG_REPLY      4u
#define FLAG_NEED_REPLY 8u

#define F_PROTOCOL           BIT64(30) /* among the device's features: there are features of the protocol */
#define PROTOCOL_MQ          BIT64(0)
#define PROTOCOL_REPLY_ACK   BIT64(3)
#define PROTOCOL_BACKEND_REQ BIT64(5)
#define PROTOCOL_CONFIG      BIT64(9)
#define PROTOCOL_INFLIGHT    BIT64(12)

#define CONFIG_MAX 256 /* bytes in one message */
#define ASKED_MAX  256 /* bytes of what the back end asks, of which none is looked at */

struct header {
    uint32_t request, flags, size;
};

struct vring_state {
    uint32_t index, num;
};

struct vring_addr {
    uint32_t index, flags;
    uint64_t desc, used, avail, log; /* addresses in this process */
};

struct mem_table {
    uint32_t count, padding;
    struct {
        uint64_t gpa, size, user, offset;
    } regions[GUESTMEM_REGIONS];
};

struct config {
    uint32_t offset, size, flags;
    uint8_t data[CONFIG_MAX];
};

struct inflight {
    uint64_t bytes, offset;
    uint16_t queues, queue_size;
    uint32_t padding; /* which every peer sends */
};

struct vhost_user {
    struct vhost_back back; /* first */
    char *path;
    uint64_t features, protocol; /* of the connection; features: with F_PROTOCOL */
};

static struct vhost_user *user_of(struct vhost_back *b)
{
    return container_of(b, struct vhost_user, back);
}

static int failed(const struct vhost_user *u, const char *what, const char *why, struct error *err)
{
    return error_set(err, 0, "%s: %s: %s; look at its own log, and start it again", u->back.name, what, why);
}

/* ---- messages ---- */

static int send_message(struct vhost_user *u, enum request request, const void *payload, uint32_t size, const int *fds,
                        unsigned nfds, bool ack, struct error *err)
{
    struct header h = {request, FLAG_VERSION | (ack ? FLAG_NEED_REPLY : 0), size};
    struct iovec iov[] = {{&h, sizeof h}, {(void *)payload, size}};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(GUESTMEM_REGIONS * sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = size ? 2 : 1};
    if (nfds) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        control.head =
            (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(nfds * sizeof(int))};
        memcpy(CMSG_DATA(&control.head), fds, nfds * sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(u->back.fd, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    /* Messages are far smaller than a socket's buffer: one that went in parts was cut by the time limit. */
    return n == (ssize_t)(sizeof h + size) ? 0 : failed(u, "cannot send", n < 0 ? strerror(errno) : "it does not read", err);
}

/* Waits until there is something to read; -1 with err when the time is over. */
static int await(struct vhost_user *u, int from, uint64_t deadline, struct error *err)
{
    struct pollfd p = {.fd = from, .events = POLLIN};
    for (;;) {
        uint64_t now = now_ns();
        int n = now < deadline ? poll(&p, 1, (int)((deadline - now) / 1000000) + 1) : 0;
        if (n > 0)
            return 0;
        if (n == 0 || errno != EINTR)
            return failed(u, "no answer", n == 0 ? "time is over" : strerror(errno), err);
    }
}

/* One recvmsg(2). `fd`, where one is wanted: the descriptor that came, -1 when it was not exactly one. */
static ssize_t receive_some(int from, void *to, size_t size, int *fd)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(GUESTMEM_REGIONS * sizeof(int))];
    } control;
    struct iovec iov = {to, size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[GUESTMEM_REGIONS];
    unsigned count = 0;
    if (fd) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof control;
    }
    ssize_t n = recvmsg(from, &msg, MSG_CMSG_CLOEXEC); /* without room for them, descriptors are dropped */
    const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), count * sizeof(int));
    }
    bool one = count == 1 && !(msg.msg_flags & MSG_CTRUNC);
    for (unsigned i = 0; i < count && !one; i++)
        close(fds[i]);
    if (fd)
        *fd = one ? fds[0] : -1;
    return n;
}

/* Descriptors come with the first byte. */
static int receive_from(struct vhost_user *u, int from, void *to, size_t size, uint64_t deadline, int *fd, struct error *err)
{
    for (uint8_t *p = to; size;) {
        if (await(u, from, deadline, err) < 0)
            return -1;
        ssize_t n = receive_some(from, p, size, fd);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return failed(u, "no answer", n == 0 ? "it has closed the connection" : strerror(errno), err);
        fd = NULL;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

static int receive(struct vhost_user *u, void *to, size_t size, uint64_t deadline, int *fd, struct error *err)
{
    return receive_from(u, u->back.fd, to, size, deadline, fd, err);
}

/* The answer to `request`, which has exactly `size` bytes. The caller closes *fd, which is -1 when not one descriptor came. */
static int receive_reply(struct vhost_user *u, enum request request, void *payload, uint32_t size, int *fd, struct error *err)
{
    const uint64_t deadline = now_ns() + VHOST_USER_WAIT_S * NS_PER_S;
    struct header h;
    if (receive(u, &h, sizeof h, deadline, fd, err) < 0)
        return -1;
    if (h.request != request || (h.flags & 3) != FLAG_VERSION || !(h.flags & FLAG_REPLY) || h.size != size)
        return failed(u, "wrong answer", "not to what it was asked", err);
    return receive(u, payload, size, deadline, NULL, err);
}

static int get_u64(struct vhost_user *u, enum request request, uint64_t *value, struct error *err)
{
    return send_message(u, request, NULL, 0, NULL, 0, false, err) < 0 ? -1
                                                                      : receive_reply(u, request, value, sizeof *value, NULL, err);
}

/* Sends, and where the back end can say so, waits until it has taken it. */
static int set(struct vhost_user *u, enum request request, const void *payload, uint32_t size, const int *fds, unsigned nfds,
               struct error *err)
{
    bool ack = u->protocol & PROTOCOL_REPLY_ACK;
    uint64_t refused = 0;
    if (send_message(u, request, payload, size, fds, nfds, ack, err) < 0 ||
        (ack && receive_reply(u, request, &refused, sizeof refused, NULL, err) < 0))
        return -1;
    return refused ? failed(u, "refused", "what the device needs", err) : 0;
}

static int set_state(struct vhost_user *u, enum request request, unsigned ring, uint32_t num, struct error *err)
{
    return set(u, request, &(struct vring_state){ring, num}, sizeof(struct vring_state), NULL, 0, err);
}

/* ---- what it asks ---- */

static int open_asks(struct vhost_user *u, struct error *err)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return failed(u, "cannot let it ask", strerror(errno), err);
    AUTO_CLOSE int theirs = ends[1];
    u->back.asks = ends[0];
    return set(u, SET_BACKEND_REQ_FD, NULL, 0, &theirs, 1, err);
}

/* The rest of a message that began is due at once, as an answer is. */
static int user_obey(struct vhost_back *b, bool *config, struct error *err)
{
    struct vhost_user *u = user_of(b);
    const uint64_t deadline = now_ns() + VHOST_USER_WAIT_S * NS_PER_S;
    struct {
        struct header h;
        uint64_t refused;
    } __attribute__((packed)) answer = {.h = {.flags = FLAG_VERSION | FLAG_REPLY, .size = sizeof answer.refused}};
    uint8_t dropped[ASKED_MAX];
    struct header h;
    if (receive_from(u, b->asks, &h, sizeof h, deadline, NULL, err) < 0)
        return -1;
    if ((h.flags & 3) != FLAG_VERSION || (h.flags & FLAG_REPLY) || h.size > sizeof dropped)
        return failed(u, "wrong message", "not one that a back end sends", err);
    if (receive_from(u, b->asks, dropped, h.size, deadline, NULL, err) < 0)
        return -1;
    *config = h.request == BACKEND_CONFIG_CHANGE_MSG;
    answer.h.request = h.request;
    answer.refused = !*config;
    if ((h.flags & FLAG_NEED_REPLY) && send(b->asks, &answer, sizeof answer, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof answer)
        return failed(u, "cannot answer", "it does not read", err);
    return 0;
}

/* ---- the connection ---- */

static int greet(struct vhost_user *u, struct error *err)
{
    uint64_t protocol;
    if (send_message(u, SET_OWNER, NULL, 0, NULL, 0, false, err) < 0 || get_u64(u, GET_FEATURES, &u->features, err) < 0)
        return -1;
    if (!(u->features & F_PROTOCOL))
        return 0;
    if (get_u64(u, GET_PROTOCOL_FEATURES, &protocol, err) < 0)
        return -1;
    protocol &= PROTOCOL_MQ | PROTOCOL_REPLY_ACK | PROTOCOL_BACKEND_REQ | PROTOCOL_CONFIG | PROTOCOL_INFLIGHT;
    if (!(protocol & PROTOCOL_CONFIG)) /* what it can ask is about that */
        protocol &= ~PROTOCOL_BACKEND_REQ;
    if (set(u, SET_PROTOCOL_FEATURES, &protocol, sizeof protocol, NULL, 0, err) < 0)
        return -1;
    u->protocol = protocol;
    if (protocol & PROTOCOL_BACKEND_REQ && open_asks(u, err) < 0)
        return -1;
    return protocol & PROTOCOL_MQ ? get_u64(u, GET_QUEUE_NUM, &u->back.queues, err) : 0;
}

static int open_socket(struct vhost_user *u, struct error *err)
{
    u->back.fd = unix_connect(u->path, 0, VHOST_USER_WAIT_S);
    return u->back.fd < 0
               ? error_set(err, errno, "%s: cannot connect: %s; start the back end first", u->back.name, unix_strerror(errno))
               : 0;
}

static void user_disconnect(struct vhost_back *b)
{
    int *const open[] = {&b->fd, &b->asks};
    for (unsigned i = 0; i < ARRAY_SIZE(open); i++) {
        if (*open[i] >= 0)
            close(*open[i]);
        *open[i] = -1;
    }
    user_of(b)->protocol = 0;
}

static int user_connect(struct vhost_back *b, const struct guestmem *mem, struct error *err)
{
    struct vhost_user *u = user_of(b);
    if (mem->fd < 0)
        return error_set(err, 0, "%s: the guest's memory is private; leave out source=anonymous and access=private", b->name);
    b->queues = 1;
    if (open_socket(u, err) < 0 || greet(u, err) < 0) {
        user_disconnect(b);
        return -1;
    }
    b->features = u->features & ~F_PROTOCOL;
    b->tracks = u->protocol & PROTOCOL_INFLIGHT;
    return 0;
}

static int user_get_config(struct vhost_back *b, void *config, uint32_t size, struct error *err)
{
    struct vhost_user *u = user_of(b);
    struct config c = {.size = size};
    uint32_t len = (uint32_t)offsetof(struct config, data) + size;
    if (!(u->protocol & PROTOCOL_CONFIG))
        return failed(u, "no configuration", "it lacks the protocol's feature CONFIG", err);
    if (send_message(u, GET_CONFIG, &c, len, NULL, 0, false, err) < 0 || receive_reply(u, GET_CONFIG, &c, len, NULL, err) < 0)
        return -1;
    if (c.offset != 0 || c.size != size)
        return failed(u, "wrong answer", "another part of the configuration", err);
    memcpy(config, c.data, size);
    return 0;
}

/* ---- rings ---- */

static int set_memory(struct vhost_user *u, const struct guestmem *mem, struct error *err)
{
    struct mem_table t = {.count = mem->count};
    int fds[GUESTMEM_REGIONS];
    for (unsigned i = 0; i < mem->count; i++) {
        const struct guestmem_region *r = &mem->regions[i];
        t.regions[i].gpa = r->gpa;
        t.regions[i].size = r->size;
        t.regions[i].user = (uintptr_t)r->host;
        t.regions[i].offset = r->fd_offset;
        fds[i] = mem->fd;
    }
    return set(u, SET_MEM_TABLE, &t, (uint32_t)(offsetof(struct mem_table, regions) + mem->count * sizeof t.regions[0]), fds,
               mem->count, err);
}

/* The memory stays the back end's: nothing here looks into it, so its size and place need no check. */
static int get_inflight(struct vhost_user *u, struct vhost_inflight *f, struct error *err)
{
    struct inflight m = {.queues = f->queues, .queue_size = f->queue_size};
    if (send_message(u, GET_INFLIGHT_FD, &m, sizeof m, NULL, 0, false, err) < 0)
        return -1;
    if (receive_reply(u, GET_INFLIGHT_FD, &m, sizeof m, &f->fd, err) < 0) {
        if (f->fd >= 0)
            close(f->fd);
        f->fd = -1;
        return -1;
    }
    if (f->fd < 0)
        return failed(u, "wrong answer", "not one descriptor for its requests in flight", err);
    f->bytes = m.bytes;
    f->offset = m.offset;
    return 0;
}

static int set_inflight(struct vhost_user *u, struct vhost_inflight *f, struct error *err)
{
    if (f->fd < 0 && get_inflight(u, f, err) < 0)
        return -1;
    const struct inflight m = {.bytes = f->bytes, .offset = f->offset, .queues = f->queues, .queue_size = f->queue_size};
    return set(u, SET_INFLIGHT_FD, &m, sizeof m, &f->fd, 1, err);
}

static int user_enable(struct vhost_back *b, unsigned ring, bool on, struct error *err)
{
    struct vhost_user *u = user_of(b);
    return u->features & F_PROTOCOL ? set_state(u, SET_VRING_ENABLE, ring, on, err) : 0;
}

static int set_ring(struct vhost_user *u, const struct guestmem *mem, const struct vhost_ring *r, struct error *err)
{
    struct vring_addr addr = {.index = r->index,
                              .desc = (uintptr_t)guestmem_ptr(mem, r->desc, 1),
                              .used = (uintptr_t)guestmem_ptr(mem, r->device, 1),
                              .avail = (uintptr_t)guestmem_ptr(mem, r->driver, 1)};
    uint64_t number = r->index;
    if (set_state(u, SET_VRING_NUM, r->index, r->size, err) < 0 || set_state(u, SET_VRING_BASE, r->index, r->base, err) < 0 ||
        set(u, SET_VRING_ADDR, &addr, sizeof addr, NULL, 0, err) < 0 ||
        set(u, SET_VRING_CALL, &number, sizeof number, &r->call_fd, 1, err) < 0 ||
        set(u, SET_VRING_KICK, &number, sizeof number, &r->kick_fd, 1, err) < 0)
        return -1;
    return user_enable(&u->back, r->index, r->enabled, err);
}

static int user_start(struct vhost_back *b, uint64_t features, const struct guestmem *mem, const struct vhost_ring *rings,
                      unsigned n, struct vhost_inflight *inflight, struct error *err)
{
    struct vhost_user *u = user_of(b);
    features |= u->features & F_PROTOCOL;
    if (set(u, SET_FEATURES, &features, sizeof features, NULL, 0, err) < 0)
        return -1;
    if (b->tracks && set_inflight(u, inflight, err) < 0)
        return -1;
    if (set_memory(u, mem, err) < 0)
        return -1;
    for (unsigned i = 0; i < n; i++)
        if (set_ring(u, mem, &rings[i], err) < 0)
            return -1;
    return 0;
}

/* The answer comes when the back end has stopped the ring. */
static int user_stop(struct vhost_back *b, uint64_t which, struct error *err)
{
    struct vhost_user *u = user_of(b);
    for (; which; which &= which - 1) {
        struct vring_state state = {(uint32_t)__builtin_ctzll(which), 0};
        if (user_enable(b, state.index, false, err) < 0 ||
            send_message(u, GET_VRING_BASE, &state, sizeof state, NULL, 0, false, err) < 0 ||
            receive_reply(u, GET_VRING_BASE, &state, sizeof state, NULL, err) < 0)
            return -1;
    }
    return 0;
}

static void user_destroy(struct vhost_back *b)
{
    struct vhost_user *u = user_of(b);
    free(b->name);
    free(u->path);
    free(u);
}

static const struct vhost_back_ops user_ops = {
    .lost = "has gone; start it again, and the guest's driver",
    .obey = user_obey,
    .connect = user_connect,
    .disconnect = user_disconnect,
    .get_config = user_get_config,
    .start = user_start,
    .enable = user_enable,
    .stop = user_stop,
    .destroy = user_destroy,
};

struct vhost_back *vhost_user_create(const char *path)
{
    struct vhost_user *u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    *u = (struct vhost_user){.back = {.ops = &user_ops, .fd = -1, .asks = -1}, .path = strdup(path)};
    if (u->path && asprintf(&u->back.name, "vhost-user back end '%s'", path) >= 0)
        return &u->back;
    free(u->path);
    free(u);
    return NULL;
}
