// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The user network: libslirp terminates the guest's TCP and UDP and speaks for it through ordinary sockets.
 *
 * libslirp is single-threaded and asks for four things: a clock, timers, a poll, and a place for its packets. All of it happens on
 * the network card's I/O thread, inside prepare, dispatch and send.
 *
 * libslirp speaks TCP itself, so between it and the guest there is no wire that frames would have to fit. A large segment of the guest's goes in as one
 * frame. In the other direction libslirp makes segments as large as the guest says it takes; so it is told, in the guest's SYN, that it takes 64 KiB, and
 * what comes is handed to the card as a large segment of the size that the guest named, where its driver takes those. Everything else keeps to NET_MTU.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "net/net.h"
#include "net/offload.h"

struct net_user;

struct user_timer {
    struct user_timer *next;
    SlirpTimerCb callback;
    void *opaque;
    int64_t expires_ms; /* -1: not armed */
};

struct net_user {
    struct netdev dev; /* first */
    Slirp *slirp;
    struct user_timer *timers;
    struct pollset *polled; /* between prepare and dispatch */
    struct log_limit limit;
    char *hostname, *tftp, *bootfile;
    uint8_t frame[NET_FRAME_MAX];
};

#define USER_MTU  65521 /* libslirp's largest */
/*
 * Segments of the guest's size in one of libslirp's. It does not scale windows, so 64 KiB are all that is under way: with segments as large as that,
 * it would wait for the guest after each.
 */
#define USER_SEGMENTS 4
#define ETH_BYTES 14
#define IPV4_MF   0x2000

/* ---- what libslirp asks for ---- */

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void deliver(struct net_user *u, const void *frame, size_t len)
{
    if (u->dev.receive)
        u->dev.receive(u->dev.opaque, frame, len);
}

/* Cuts an IPv4 packet that is no TCP into fragments (RFC 791). */
static void deliver_fragments(struct net_user *u, const uint8_t *frame, size_t len)
{
    uint8_t part[ETH_BYTES + NET_MTU];
    size_t head = ETH_BYTES + (frame[ETH_BYTES] & 15) * 4u, room = (sizeof part - head) & ~(size_t)7;
    if (get16(frame + 12) != 0x0800 || head < ETH_BYTES + 20 || head >= len)
        return;
    for (size_t at = head; at < len; at += room) {
        size_t n = MIN(room, len - at);
        uint8_t *ip = part + ETH_BYTES;
        memcpy(part, frame, head);
        memcpy(part + head, frame + at, n);
        put16(ip + 2, (uint16_t)(head - ETH_BYTES + n));
        put16(ip + 6, (uint16_t)((at - head) / 8 | (at + n < len ? IPV4_MF : 0)));
        struct net_header h = {.csum_start = ETH_BYTES, .csum_offset = 10};
        put16(ip + 10, 0);
        offload_checksum(&h, part, head);
        deliver(u, part, head + n);
    }
}

static void deliver_part(void *opaque, const uint8_t *frame, size_t len)
{
    deliver(opaque, frame, len);
}

static void deliver_large(struct net_user *u, const uint8_t *frame, size_t len, const struct offload_tcp *t)
{
    uint8_t head[ETH_BYTES + 60 + 60];
    struct net_header h = {.flags = NET_HDR_NEEDS_CSUM,
                           .gso_type = t->v6 ? NET_GSO_TCPV6 : NET_GSO_TCPV4,
                           .hdr_len = (uint16_t)t->payload,
                           .gso_size = (uint16_t)(NET_MTU + ETH_BYTES - t->payload),
                           .csum_start = (uint16_t)t->tcp,
                           .csum_offset = 16};
    if (!u->dev.receive_offloaded || !(u->dev.wants & (t->v6 ? NET_TSO6 : NET_TSO4))) {
        uint8_t part[ETH_BYTES + NET_MTU];
        offload_segment(&h, frame, len, part, deliver_part, u);
        return;
    }
    memcpy(head, frame, t->payload);
    offload_pseudo(head, len, t);
    struct iovec iov[] = {{head, t->payload}, {(void *)(uintptr_t)(frame + t->payload), len - t->payload}};
    u->dev.receive_offloaded(u->dev.opaque, &h, iov, 2, len);
}

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
    struct net_user *u = opaque;
    struct offload_tcp t;
    if (len <= ETH_BYTES + NET_MTU)
        deliver(u, buf, len);
    else if (!offload_find_tcp(buf, len, &t))
        deliver_fragments(u, buf, len);
    else
        deliver_large(u, buf, len, &t);
    return (ssize_t)len;
}

/* Packets that a guest made wrong; libslirp drops them itself. */
static void guest_error(const char *msg, void *opaque)
{
    struct net_user *u = opaque;
    log_guest(&u->limit, "user network: %s", msg);
}

static int64_t clock_ns(void *opaque)
{
    (void)opaque;
    return (int64_t)now_ns();
}

static void *timer_new(SlirpTimerCb cb, void *cb_opaque, void *opaque)
{
    struct net_user *u = opaque;
    struct user_timer *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    *t = (struct user_timer){.next = u->timers, .callback = cb, .opaque = cb_opaque, .expires_ms = -1};
    u->timers = t;
    return t;
}

static void timer_free(void *timer, void *opaque)
{
    struct net_user *u = opaque;
    for (struct user_timer **p = &u->timers; *p; p = &(*p)->next) {
        if (*p == timer) {
            *p = (*p)->next;
            break;
        }
    }
    free(timer);
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    struct user_timer *t = timer;
    (void)opaque;
    if (t)
        t->expires_ms = expire_ms;
}

/* Descriptors are polled afresh on every turn, so there is nothing to register and no one to wake. */
static void poll_fd(int fd, void *opaque)
{
    (void)fd, (void)opaque;
}

static void notify(void *opaque)
{
    (void)opaque;
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = poll_fd,
    .unregister_poll_fd = poll_fd,
    .notify = notify,
};

/* ---- polling ---- */

static const struct {
    int slirp;
    short poll;
} event_bits[] = {
    {SLIRP_POLL_IN, POLLIN},   {SLIRP_POLL_OUT, POLLOUT}, {SLIRP_POLL_PRI, POLLPRI},
    {SLIRP_POLL_ERR, POLLERR}, {SLIRP_POLL_HUP, POLLHUP},
};

static int add_poll(int fd, int events, void *opaque)
{
    struct net_user *u = opaque;
    short want = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(event_bits); i++)
        want |= events & event_bits[i].slirp ? event_bits[i].poll : 0;
    return pollset_add(u->polled, fd, want & (POLLIN | POLLOUT | POLLPRI));
}

static int get_revents(int index, void *opaque)
{
    struct net_user *u = opaque;
    short got = pollset_revents(u->polled, index);
    int events = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(event_bits); i++)
        events |= got & event_bits[i].poll ? event_bits[i].slirp : 0;
    return events;
}

static void user_prepare(struct netdev *n, struct pollset *p)
{
    struct net_user *u = container_of(n, struct net_user, dev);
    uint32_t timeout = UINT32_MAX;
    u->polled = p;
    slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
    if (timeout < INT32_MAX)
        pollset_timeout(p, (int)timeout);
    int64_t now_ms = (int64_t)(now_ns() / 1000000);
    for (const struct user_timer *t = u->timers; t; t = t->next) {
        if (t->expires_ms >= 0)
            pollset_timeout(p, (int)MIN(MAX(t->expires_ms - now_ms, 0), 60000));
    }
}

/* A callback may arm, add and free timers, so the list is walked afresh after each. */
static void run_timers(struct net_user *u)
{
    int64_t now_ms = (int64_t)(now_ns() / 1000000);
    for (struct user_timer *t = u->timers; t;) {
        if (t->expires_ms < 0 || t->expires_ms > now_ms) {
            t = t->next;
            continue;
        }
        t->expires_ms = -1;
        t->callback(t->opaque);
        t = u->timers;
    }
}

static void user_dispatch(struct netdev *n, struct pollset *p)
{
    struct net_user *u = container_of(n, struct net_user, dev);
    if (u->polled == p)
        slirp_pollfds_poll(u->slirp, 0, get_revents, u);
    u->polled = NULL;
    run_timers(u);
}

/* The frame is in u->frame. */
static void input(struct net_user *u, const struct net_header *h, size_t len)
{
    struct offload_tcp t;
    bool tcp = offload_find_tcp(u->frame, len, &t);
    bool raised = tcp && u->dev.receive_offloaded && (u->dev.wants & (t.v6 ? NET_TSO6 : NET_TSO4)) &&
                  offload_raise_mss(u->frame, &t, (uint16_t)(USER_SEGMENTS * (NET_MTU - (t.v6 ? 60 : 40))));
    if (tcp && (raised || h->gso_type != NET_GSO_NONE))
        offload_finish(u->frame, len, &t);
    else if (h->gso_type != NET_GSO_NONE || ((h->flags & NET_HDR_NEEDS_CSUM) && !offload_checksum(h, u->frame, len)))
        return; /* it is not what its header says */
    slirp_input(u->slirp, u->frame, (int)len);
}

static void user_send_offloaded(struct netdev *n, const struct net_header *h, const struct iovec *iov, int niov, size_t len)
{
    struct net_user *u = container_of(n, struct net_user, dev);
    size_t done = 0;
    if (len > NET_FRAME_MAX)
        return;
    for (int i = 0; i < niov; i++) {
        memcpy(u->frame + done, iov[i].iov_base, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    input(u, h, len);
}

static void user_send(struct netdev *n, const void *frame, size_t len)
{
    const struct net_header none = {0};
    user_send_offloaded(n, &none, &(struct iovec){(void *)(uintptr_t)frame, len}, 1, len);
}

/* ---- life ---- */

static void user_destroy(struct netdev *n)
{
    struct net_user *u = container_of(n, struct net_user, dev);
    if (u->slirp)
        slirp_cleanup(u->slirp);
    while (u->timers)
        timer_free(u->timers, u);
    free(u->hostname);
    free(u->tftp);
    free(u->bootfile);
    free(u);
}

static const struct netdev_ops user_ops = {
    .name = "user",
    .checksums_valid = true,
    .send = user_send,
    .send_offloaded = user_send_offloaded,
    .prepare = user_prepare,
    .dispatch = user_dispatch,
    .destroy = user_destroy,
};

static struct in_addr ipv4(const char *text)
{
    struct in_addr a = {0};
    inet_pton(AF_INET, text, &a);
    return a;
}

static struct in6_addr ipv6(const char *text)
{
    struct in6_addr a = {0};
    inet_pton(AF_INET6, text, &a);
    return a;
}

static int add_forward(struct net_user *u, const struct net_forward *f, struct error *err)
{
    struct in_addr host = ipv4(f->host[0] ? f->host : "127.0.0.1"), guest = ipv4("10.0.2.15"), probe;
    if (f->host[0] && inet_pton(AF_INET, f->host, &probe) != 1)
        return error_set(err, 0, "user network: forward from '%s': not an IPv4 address; write numbers such as 127.0.0.1", f->host);
    if (slirp_add_hostfwd(u->slirp, f->udp, host, f->host_port, guest, f->guest_port) < 0)
        return error_set(err, errno, "user network: cannot listen on %s port %u of %s: %s; give a port that is free", f->udp ? "UDP" : "TCP",
                         f->host_port, f->host[0] ? f->host : "127.0.0.1", strerror(errno));
    return 0;
}

/* Strings that libslirp keeps pointing at. */
static bool copy_strings(struct net_user *u, const struct net_user_config *cfg)
{
    const char *const from[] = {cfg->hostname, cfg->tftp, cfg->bootfile};
    char **const to[] = {&u->hostname, &u->tftp, &u->bootfile};
    for (unsigned i = 0; i < ARRAY_SIZE(from); i++)
        if (from[i] && !(*to[i] = strdup(from[i])))
            return false;
    return true;
}

int net_user_create(const struct net_user_config *cfg, struct netdev **out, struct error *err)
{
    struct net_user *u = calloc(1, sizeof *u);
    if (!u)
        return error_set(err, 0, "user network: out of memory; close other programs");
    u->dev = (struct netdev){.ops = &user_ops, .offloads = NET_CSUM | NET_TSO4 | NET_TSO6};
    if (!copy_strings(u, cfg)) {
        user_destroy(&u->dev);
        return error_set(err, 0, "user network: out of memory; close other programs");
    }
    const SlirpConfig config = {
        .version = 1,
        .restricted = cfg->restricted,
        .in_enabled = true,
        .vnetwork = ipv4("10.0.2.0"),
        .vnetmask = ipv4("255.255.255.0"),
        .vhost = ipv4("10.0.2.2"),
        .vdhcp_start = ipv4("10.0.2.15"),
        .vnameserver = ipv4("10.0.2.3"),
        .in6_enabled = true,
        .vprefix_addr6 = ipv6("fec0::"),
        .vprefix_len = 64,
        .vhost6 = ipv6("fec0::2"),
        .vnameserver6 = ipv6("fec0::3"),
        .vhostname = u->hostname,
        .tftp_path = u->tftp,
        .bootfile = u->bootfile,
        .if_mtu = USER_MTU,
        .if_mru = USER_MTU,
    };
    u->slirp = slirp_new(&config, &callbacks, u);
    if (!u->slirp) {
        user_destroy(&u->dev);
        return error_set(err, 0, "user network: libslirp does not start; use '--net none'");
    }
    for (unsigned i = 0; i < cfg->nforwards; i++) {
        if (add_forward(u, &cfg->forwards[i], err) < 0) {
            user_destroy(&u->dev);
            return -1;
        }
    }
    *out = &u->dev;
    return 0;
}
