// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * When the back end goes away, the next one can go on where the ring says, if that is known: when every request has its answer,
 * when the back end has noted those in flight (the protocol's INFLIGHT_SHMFD), or when it answers in order, so that the number of
 * answers is the number of requests that are done. Then the device's thread connects again, every `reconnect_s` seconds, and the
 * guest sees a pause. Otherwise, and without reconnect_s, the device asks for a reset, and connects again when the guest's driver
 * starts it anew: a request that was answered must not be answered again.
 */
#include "devices/virtio/vhost.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/util.h"

static uint64_t started_rings(const struct vhost *h)
{
    uint64_t started = 0;
    for (unsigned q = 0; q < h->rings; q++)
        if (h->virtio.queues[q].started)
            started |= BIT64(q);
    return started;
}

/* ---- losing it ---- */

static bool can_resume(const struct vhost *h)
{
    bool whole = true;
    if (!h->served || h->resumable || h->inflight.fd >= 0 || h->in_order)
        return true;
    for (unsigned q = 0; q < h->rings; q++)
        if (h->virtio.queues[q].started)
            whole = whole && !vq_unanswered(&h->virtio.queues[q]);
    return whole;
}

static void lose(struct vhost *h, const char *why)
{
    struct virtio_dev *v = &h->virtio;
    if (h->back->connected || !h->retry_ns) /* that nobody listens yet was to be expected */
        log_guest(&v->limit, "%s", why);
    vhost_back_disconnect(h->back);
    bool resume = h->reconnect_s && v->running && !v->broken && can_resume(h);
    h->resumable = resume;
    h->retry_ns = resume ? now_ns() + h->reconnect_s * NS_PER_S : 0;
    if (resume) /* the rings stay handed over: kicks wait in their eventfds for the next one */
        return;
    v->handed_over = 0;
    if (v->running)
        virtio_break(v, h->reconnect_s ? "its back end has gone with requests that it did not note (INFLIGHT_SHMFD)"
                                       : "its back end has gone");
}

/* ---- handing over ---- */

static int ensure_connected(struct vhost *h, struct error *err)
{
    if (h->back->connected)
        return 0;
    if (vhost_back_connect(h->back, h->virtio.bus->mem, err) < 0)
        return -1;
    return h->reconfigure ? h->reconfigure(h, err) : 0;
}

static int hand_over(struct vhost *h, bool resume, struct error *err)
{
    struct virtio_dev *v = &h->virtio;
    struct vhost_ring rings[VIRTIO_QUEUES_MAX];
    unsigned n = 0;
    if (ensure_connected(h, err) < 0)
        return -1;
    if ((v->features & ~h->own & ~h->back->features) || (h->inflight.fd >= 0 && !h->back->tracks))
        return error_set(err, 0, "%s: lacks what the one before had; start the one that the guest was made with", h->back->name);
    for (unsigned q = 0; q < h->rings; q++) {
        const struct vq_config *c = &v->queues[q].cfg;
        if (v->handed_over & BIT64(q))
            rings[n++] = (struct vhost_ring){.index = q,
                                             .size = c->size,
                                             .base = resume ? vq_answered(&v->queues[q]) : 0,
                                             .desc = c->desc,
                                             .driver = c->driver,
                                             .device = c->device,
                                             .kick_fd = v->kick_fds[q],
                                             .call_fd = h->call_fds[q],
                                             .enabled = !(h->disabled & BIT64(q))};
    }
    h->inflight.queues = (uint16_t)h->rings;
    h->inflight.queue_size = v->cls->queue_size;
    h->served = true;
    h->resumable = false; /* from here on it may take requests */
    if (h->back->ops->start(h->back, v->features & ~h->own, v->bus->mem, rings, n, &h->inflight, err) < 0)
        return -1;
    for (unsigned i = 0; i < n; i++) /* a ring starts with its first kick, and the driver may have given it already */
        virtio_kick(v, rings[i].index);
    return 0;
}

void vhost_start(struct virtio_dev *v)
{
    struct vhost *h = vhost_of(v);
    ERROR_SCOPED(err);
    if (v->broken)
        return;
    v->handed_over = started_rings(h);
    if (hand_over(h, false, &err) < 0)
        lose(h, error_text(&err));
}

static void connect_again(struct vhost *h)
{
    ERROR_SCOPED(err);
    if (hand_over(h, h->served, &err) < 0) {
        lose(h, error_text(&err));
        return;
    }
    h->retry_ns = 0;
    log_guest(&h->virtio.limit, "%s: connected to %s again", h->virtio.cls->name, h->back->name);
}

void vhost_enable(struct vhost *h, uint64_t on, uint64_t off)
{
    ERROR_SCOPED(err);
    uint64_t changed = ((on & h->disabled) | (off & ~h->disabled)) & h->virtio.handed_over;
    h->disabled = (h->disabled | off) & ~on;
    for (; changed && h->back->connected; changed &= changed - 1) {
        unsigned q = (unsigned)__builtin_ctzll(changed);
        if (h->back->ops->enable(h->back, q, on & BIT64(q), &err) < 0) {
            lose(h, error_text(&err));
            return;
        }
    }
}

void vhost_queue_ready(struct virtio_dev *v, unsigned q)
{
    (void)v;
    (void)q;
}

static void forget_inflight(struct vhost *h)
{
    if (h->inflight.fd >= 0)
        close(h->inflight.fd);
    h->inflight.fd = -1;
}

void vhost_stop(struct virtio_dev *v)
{
    struct vhost *h = vhost_of(v);
    ERROR_SCOPED(err);
    if (v->handed_over && h->back->connected && h->back->ops->stop(h->back, v->handed_over, &err) < 0) {
        vhost_back_disconnect(h->back);
        log_guest(&v->limit, "%s", error_text(&err));
    }
    forget_inflight(h);
    v->handed_over = h->retry_ns = 0;
    h->served = h->resumable = false;
}

/* ---- the loop ---- */

void vhost_prepare(struct virtio_dev *v, struct pollset *p)
{
    struct vhost *h = vhost_of(v);
    h->back_at = h->back->connected && h->back->fd >= 0 ? pollset_add(p, h->back->fd, POLLIN) : -1;
    h->asks_at = h->back->connected && h->back->asks >= 0 ? pollset_add(p, h->back->asks, POLLIN) : -1;
    for (unsigned q = 0; q < v->nqueues; q++)
        h->call_at[q] = pollset_add(p, h->call_fds[q], POLLIN);
    if (h->retry_ns) {
        uint64_t now = now_ns();
        pollset_timeout(p, h->retry_ns > now ? (int)MIN((h->retry_ns - now) / 1000000 + 1, 1000) : 0);
    }
}

/* One message in a turn of the loop. */
static void obey(struct vhost *h)
{
    ERROR_SCOPED(err);
    bool config = false;
    if (h->back->ops->obey(h->back, &config, &err) < 0 || (config && h->reconfigure && h->reconfigure(h, &err) < 0))
        lose(h, error_text(&err));
}

/* Stopping, or losing it, has made this turn's poll old. */
static bool readable(int fd)
{
    struct pollfd now = {.fd = fd, .events = POLLIN};
    return fd >= 0 && poll(&now, 1, 0) > 0;
}

void vhost_dispatch(struct virtio_dev *v, struct pollset *p)
{
    struct vhost *h = vhost_of(v);
    eventfd_t count;
    for (unsigned q = 0; q < v->nqueues; q++) {
        if (!(pollset_revents(p, h->call_at[q]) & POLLIN) || eventfd_read(h->call_fds[q], &count) < 0 || !v->handed_over)
            continue;
        pthread_mutex_lock(&v->bus->lock);
        virtio_interrupt(v, VIRTIO_ISR_QUEUE, v->qcfg[q].vector);
        pthread_mutex_unlock(&v->bus->lock);
    }
    if (pollset_revents(p, h->back_at) && readable(h->back->fd)) {
        char why[256];
        snprintf(why, sizeof why, "%s: %s %s", v->cls->name, h->back->name, h->reconnect_s ? "has gone" : h->back->ops->lost);
        lose(h, why);
    }
    if (pollset_revents(p, h->asks_at) && readable(h->back->asks))
        obey(h);
    if (h->retry_ns && now_ns() >= h->retry_ns)
        connect_again(h);
}

/* ---- life ---- */

static int open_calls(struct vhost *h, unsigned queues, struct error *err)
{
    for (unsigned q = 0; q < queues; q++) {
        h->call_fds[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (h->call_fds[q] < 0)
            return error_set(err, errno, "%s: cannot create an eventfd: %s; raise the limit of open files (ulimit -n)",
                             h->back->name, strerror(errno));
    }
    return 0;
}

int vhost_open(struct vhost *h, const struct guestmem *mem, const struct vhost_config *cfg, unsigned queues, struct error *err)
{
    memset(h->call_fds, -1, sizeof h->call_fds);
    h->inflight.fd = -1;
    h->rings = queues;
    h->reconnect_s = cfg->reconnect_s;
    h->back = cfg->back;
    if (!h->back)
        return error_set(err, ENOMEM, "vhost: out of memory; close other programs");
    return open_calls(h, queues, err) < 0 ? -1 : vhost_back_connect(h->back, mem, err);
}

uint64_t vhost_features(const struct vhost *h, uint64_t passed, struct error *err)
{
    uint64_t features = h->back->features & passed;
    if (features & VIRTIO_F_VERSION_1)
        return features;
    error_set(err, 0, "%s: is for virtio before 1.0 only; use a newer one", h->back->name);
    return 0;
}

int vhost_check_queues(const struct vhost *h, unsigned queues, struct error *err)
{
    uint64_t most = h->back->queues;
    return queues <= most ? 0
                          : error_set(err, 0, "%s: serves %llu queues, not %u; give it more, or the device fewer", h->back->name,
                                      (unsigned long long)most, queues);
}

void vhost_close(struct vhost *h)
{
    vhost_back_destroy(h->back);
    forget_inflight(h);
    for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
        if (h->call_fds[q] >= 0)
            close(h->call_fds[q]);
}

void vhost_destroy(struct vhost *h)
{
    virtio_destroy(&h->virtio);
    vhost_close(h);
    free(h);
}
