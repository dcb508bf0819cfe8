// SPDX-License-Identifier: GPL-2.0-or-later
/* The messages of vhost-user (QEMU's docs/interop/vhost-user), as far as a device without migration needs them. */
#include "net/vhost_user.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

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
    SET_VRING_ENABLE = 18,
};

#define FLAG_VERSION    1u
#define FLAG_REPLY      4u
#define FLAG_NEED_REPLY 8u

#define F_PROTOCOL         BIT64(30) /* among the device's features: there are features of the protocol */
#define PROTOCOL_REPLY_ACK BIT64(3)

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

struct vhost_user {
    int fd;
    char *path;
    uint64_t features, protocol;
};

static int failed(const struct vhost_user *u, const char *what, const char *why, struct error *err)
{
    return error_set(err, 0, "vhost-user back end '%s': %s: %s; look at its own log, and start it again", u->path, what, why);
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
        n = sendmsg(u->fd, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    /* Messages are far smaller than a socket's buffer: one that went in parts was cut by the time limit. */
    return n == (ssize_t)(sizeof h + size) ? 0 : failed(u, "cannot send", n < 0 ? strerror(errno) : "it does not read", err);
}

static int receive(struct vhost_user *u, void *to, size_t size, struct error *err)
{
    for (uint8_t *p = to; size;) {
        ssize_t n = recv(u->fd, p, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return failed(u, "no answer",
                          n == 0            ? "it has closed the connection"
                          : errno == EAGAIN ? "time is over"
                                            : strerror(errno),
                          err);
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

/* The answer to `request`, which has exactly `size` bytes. */
static int receive_reply(struct vhost_user *u, enum request request, void *payload, uint32_t size, struct error *err)
{
    struct header h;
    if (receive(u, &h, sizeof h, err) < 0)
        return -1;
    if (h.request != request || (h.flags & 3) != FLAG_VERSION || !(h.flags & FLAG_REPLY) || h.size != size)
        return failed(u, "wrong answer", "not to what it was asked", err);
    return receive(u, payload, size, err);
}

static int get_u64(struct vhost_user *u, enum request request, uint64_t *value, struct error *err)
{
    return send_message(u, request, NULL, 0, NULL, 0, false, err) < 0 ? -1 : receive_reply(u, request, value, sizeof *value, err);
}

/* Sends, and where the back end can say so, waits until it has taken it. */
static int set(struct vhost_user *u, enum request request, const void *payload, uint32_t size, const int *fds, unsigned nfds,
               struct error *err)
{
    bool ack = u->protocol & PROTOCOL_REPLY_ACK;
    uint64_t refused = 0;
    if (send_message(u, request, payload, size, fds, nfds, ack, err) < 0 ||
        (ack && receive_reply(u, request, &refused, sizeof refused, err) < 0))
        return -1;
    return refused ? failed(u, "refused", "what the device needs", err) : 0;
}

static int set_state(struct vhost_user *u, enum request request, unsigned ring, uint32_t num, struct error *err)
{
    return set(u, request, &(struct vring_state){ring, num}, sizeof(struct vring_state), NULL, 0, err);
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
    protocol &= PROTOCOL_REPLY_ACK;
    if (set(u, SET_PROTOCOL_FEATURES, &protocol, sizeof protocol, NULL, 0, err) < 0)
        return -1;
    u->protocol = protocol;
    return 0;
}

static int open_socket(struct vhost_user *u, struct error *err)
{
    const struct timeval limit = {.tv_sec = VHOST_USER_WAIT_S};
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(u->path) >= sizeof sa.sun_path)
        return error_set(err, 0, "vhost-user back end '%s': the path is longer than %zu bytes; shorten it", u->path,
                         sizeof sa.sun_path - 1);
    strcpy(sa.sun_path, u->path);
    u->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (u->fd >= 0 && setsockopt(u->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
        setsockopt(u->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
        connect(u->fd, (struct sockaddr *)&sa, sizeof sa) == 0)
        return 0;
    return error_set(err, errno, "vhost-user back end '%s': cannot connect: %s; start the back end first", u->path,
                     strerror(errno));
}

int vhost_user_connect(const char *path, struct vhost_user **out, struct error *err)
{
    struct vhost_user *u = calloc(1, sizeof *u);
    if (u)
        *u = (struct vhost_user){.fd = -1, .path = strdup(path)};
    if (!u || !u->path) {
        free(u);
        return error_set(err, ENOMEM, "vhost-user: out of memory");
    }
    if (open_socket(u, err) < 0 || greet(u, err) < 0) {
        vhost_user_close(u);
        return -1;
    }
    *out = u;
    return 0;
}

void vhost_user_close(struct vhost_user *u)
{
    if (!u)
        return;
    if (u->fd >= 0)
        close(u->fd);
    free(u->path);
    free(u);
}

uint64_t vhost_user_features(const struct vhost_user *u)
{
    return u->features & ~F_PROTOCOL;
}

int vhost_user_fd(const struct vhost_user *u)
{
    return u->fd;
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

static int set_ring(struct vhost_user *u, unsigned index, const struct guestmem *mem, const struct vhost_ring *r, struct error *err)
{
    struct vring_addr addr = {.index = index,
                              .desc = (uintptr_t)guestmem_ptr(mem, r->desc, 1),
                              .used = (uintptr_t)guestmem_ptr(mem, r->device, 1),
                              .avail = (uintptr_t)guestmem_ptr(mem, r->driver, 1)};
    uint64_t number = index;
    if (set_state(u, SET_VRING_NUM, index, r->size, err) < 0 || set_state(u, SET_VRING_BASE, index, 0, err) < 0 ||
        set(u, SET_VRING_ADDR, &addr, sizeof addr, NULL, 0, err) < 0 ||
        set(u, SET_VRING_CALL, &number, sizeof number, &r->call_fd, 1, err) < 0 ||
        set(u, SET_VRING_KICK, &number, sizeof number, &r->kick_fd, 1, err) < 0)
        return -1;
    return u->features & F_PROTOCOL ? set_state(u, SET_VRING_ENABLE, index, 1, err) : 0;
}

int vhost_user_start(struct vhost_user *u, uint64_t features, const struct guestmem *mem, const struct vhost_ring *rings,
                     unsigned n, struct error *err)
{
    features |= u->features & F_PROTOCOL;
    if (set(u, SET_FEATURES, &features, sizeof features, NULL, 0, err) < 0 || set_memory(u, mem, err) < 0)
        return -1;
    for (unsigned i = 0; i < n; i++)
        if (set_ring(u, i, mem, &rings[i], err) < 0)
            return -1;
    return 0;
}

/* The answer comes when the back end has stopped the ring. */
int vhost_user_stop(struct vhost_user *u, unsigned n, struct error *err)
{
    for (unsigned i = 0; i < n; i++) {
        struct vring_state state = {i, 0};
        if (((u->features & F_PROTOCOL) && set_state(u, SET_VRING_ENABLE, i, 0, err) < 0) ||
            send_message(u, GET_VRING_BASE, &state, sizeof state, NULL, 0, false, err) < 0 ||
            receive_reply(u, GET_VRING_BASE, &state, sizeof state, err) < 0)
            return -1;
    }
    return 0;
}
