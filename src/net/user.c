// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The user network: libslirp terminates the guest's TCP and UDP and speaks for it through ordinary sockets.
 *
 * libslirp is single-threaded and asks for four things: a clock, timers, a poll, and a place for its packets. All of it happens on
 * the network card's I/O thread, inside prepare, dispatch and send.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "net/net.h"

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
    char *hostname;
};

/* ---- what libslirp asks for ---- */

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
    struct net_user *u = opaque;
    if (u->dev.receive)
        u->dev.receive(u->dev.opaque, buf, len);
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

static void user_send(struct netdev *n, const void *frame, size_t len)
{
    struct net_user *u = container_of(n, struct net_user, dev);
    if (len <= NET_FRAME_MAX)
        slirp_input(u->slirp, frame, (int)len);
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
    free(u);
}

static const struct netdev_ops user_ops = {
    .name = "user",
    .checksums_valid = true,
    .send = user_send,
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

int net_user_create(const struct net_user_config *cfg, struct netdev **out, struct error *err)
{
    struct net_user *u = calloc(1, sizeof *u);
    if (!u)
        return error_set(err, 0, "user network: out of memory; close other programs");
    *u = (struct net_user){.dev.ops = &user_ops, .hostname = cfg->hostname ? strdup(cfg->hostname) : NULL};
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
        .if_mtu = NET_MTU,
        .if_mru = NET_MTU,
    };
    u->slirp = slirp_new(&config, &callbacks, u);
    if (!u->slirp) {
        user_destroy(&u->dev);
        return error_set(err, 0, "user network: libslirp does not start; use '--net none'");
    }
    *out = &u->dev;
    return 0;
}
