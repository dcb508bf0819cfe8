// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Queues 0 and 1 belong to port 0, which is kept for a console and does not exist here; 2 and 3 carry control messages; port n has 2n + 2 and 2n + 3.
 *
 * What is to be told about a port is a set of bits, sent when the driver has a buffer for it. Data is read into the guest's buffer; what a program does not
 * take stays in the guest's queue.
 */
#include "devices/virtio/vserial.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/unix.h"
#include "base/util.h"
#include "devices/virtio/virtio.h"

enum { VSERIAL_CONTROL_RX = 2, VSERIAL_CONTROL_TX = 3 };

#define VSERIAL_F_MULTIPORT BIT64(1)
#define CONFIG_PORTS        4
#define CONFIG_BYTES        12

enum { CONTROL_READY, CONTROL_ADD, CONTROL_REMOVE, CONTROL_PORT_READY, CONTROL_CONSOLE, CONTROL_RESIZE, CONTROL_OPEN, CONTROL_NAME };
struct control {
    uint32_t port;
    uint16_t event, value;
};

struct vserial_port {
    char name[VSERIAL_NAME_MAX + 1];
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int listen_fd, fd, slot; /* fd: the program's, -1: none; slot: in this turn's poll */
    uint32_t tell;           /* bit per control event that the guest is to get */
    bool open;               /* the guest has opened it */
    bool starved;            /* it has no buffer to receive into */
    /* A request of the guest's that the program has taken up to `done`. */
    struct vq_elem *elem;
    size_t done;
};

struct vserial {
    struct virtio_dev virtio; /* first */
    unsigned nports;
    struct vserial_port ports[VSERIAL_PORTS_MAX]; /* port n + 1 */
};

static struct vserial *vserial_of(struct virtio_dev *v)
{
    return container_of(v, struct vserial, virtio);
}

static unsigned rx_queue(unsigned index)
{
    return 2 * (index + 1) + 2;
}

/* ---- control ---- */

static bool take_event(struct vserial *s, struct control *c, const char **name)
{
    static const uint16_t order[] = {CONTROL_ADD, CONTROL_NAME, CONTROL_OPEN};
    for (unsigned i = 0; i < s->nports; i++) {
        struct vserial_port *p = &s->ports[i];
        for (unsigned k = 0; k < ARRAY_SIZE(order); k++) {
            if (!(p->tell & BIT(order[k])))
                continue;
            p->tell &= ~BIT(order[k]);
            *c = (struct control){.port = i + 1, .event = order[k], .value = order[k] == CONTROL_OPEN ? p->fd >= 0 : 1};
            *name = order[k] == CONTROL_NAME ? p->name : NULL;
            return true;
        }
    }
    return false;
}

static bool anything_to_tell(const struct vserial *s)
{
    for (unsigned i = 0; i < s->nports; i++)
        if (s->ports[i].tell)
            return true;
    return false;
}

static void tell(struct vserial *s)
{
    struct vq_elem *e;
    struct control c;
    const char *name;
    while (anything_to_tell(s) && virtio_pop(&s->virtio, VSERIAL_CONTROL_RX, &e) > 0) {
        uint32_t len = 0;
        if (take_event(s, &c, &name)) {
            len = (uint32_t)iov_write(e->in, e->nin, 0, &c, sizeof c);
            if (name)
                len += (uint32_t)iov_write(e->in, e->nin, len, name, strlen(name));
        }
        virtio_push(&s->virtio, VSERIAL_CONTROL_RX, e, len);
    }
}

static void hear(struct vserial *s, const struct control *c)
{
    struct vserial_port *p = c->port >= 1 && c->port <= s->nports ? &s->ports[c->port - 1] : NULL;
    if (c->event == CONTROL_READY && c->value)
        for (unsigned i = 0; i < s->nports; i++)
            s->ports[i].tell |= BIT(CONTROL_ADD);
    else if (p && c->event == CONTROL_PORT_READY && c->value)
        p->tell |= BIT(CONTROL_NAME) | (p->fd >= 0 ? BIT(CONTROL_OPEN) : 0);
    else if (p && c->event == CONTROL_OPEN)
        p->open = c->value;
}

static void take_control(struct vserial *s)
{
    struct vq_elem *e;
    struct control c;
    while (virtio_pop(&s->virtio, VSERIAL_CONTROL_TX, &e) > 0) {
        if (iov_read(e->out, e->nout, 0, &c, sizeof c) == sizeof c)
            hear(s, &c);
        virtio_push(&s->virtio, VSERIAL_CONTROL_TX, e, 0);
    }
    tell(s);
}

/* ---- data ---- */

static void lose_program(struct vserial *s, struct vserial_port *p)
{
    close(p->fd);
    p->fd = -1;
    p->tell |= BIT(CONTROL_OPEN);
    tell(s);
}

/* Hands what the guest writes to the program, as far as it takes it. */
static void drain(struct vserial *s, unsigned index)
{
    struct vserial_port *p = &s->ports[index];
    unsigned q = rx_queue(index) + 1;
    while (p->elem || virtio_pop(&s->virtio, q, &p->elem) > 0) {
        uint8_t buf[4096];
        size_t n = p->fd < 0 ? 0 : iov_read(p->elem->out, p->elem->nout, p->done, buf, sizeof buf);
        ssize_t sent = n ? send(p->fd, buf, n, MSG_NOSIGNAL) : 0;
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent < 0 && errno != EINTR)
            lose_program(s, p);
        p->done += sent > 0 ? (size_t)sent : 0;
        if (n && p->fd >= 0 && p->done < p->elem->out_len)
            continue;
        p->done = 0;
        virtio_push(&s->virtio, q, steal_ptr(&p->elem), 0);
    }
}

/* Fills the guest's buffers from the program. */
static void fill(struct vserial *s, unsigned index)
{
    struct vserial_port *p = &s->ports[index];
    struct virtio_dev *v = &s->virtio;
    unsigned q = rx_queue(index);
    struct vq_elem *e;
    p->starved = false;
    while (p->fd >= 0 && p->open) {
        uint8_t buf[4096];
        if (virtio_pop(v, q, &e) <= 0) {
            p->starved = true;
            return;
        }
        ssize_t n = recv(p->fd, buf, MIN(sizeof buf, (size_t)e->in_len), 0);
        if (n <= 0 || e->in_len == 0) {
            vq_unpop(&v->queues[q], e);
            if (n == 0 || (errno != EAGAIN && errno != EINTR))
                lose_program(s, p);
            return;
        }
        virtio_push(v, q, e, (uint32_t)iov_write(e->in, e->nin, 0, buf, (size_t)n));
    }
}

/* ---- the I/O thread ---- */

static void vserial_queue_ready(struct virtio_dev *v, unsigned q)
{
    struct vserial *s = vserial_of(v);
    if (q == VSERIAL_CONTROL_TX)
        take_control(s);
    else if (q == VSERIAL_CONTROL_RX)
        tell(s);
    else if (q >= rx_queue(0) && q % 2 == 0)
        fill(s, (q - rx_queue(0)) / 2);
    else if (q > rx_queue(0))
        drain(s, (q - rx_queue(0)) / 2);
}

static void vserial_prepare(struct virtio_dev *v, struct pollset *set)
{
    struct vserial *s = vserial_of(v);
    for (unsigned i = 0; i < s->nports; i++) {
        struct vserial_port *p = &s->ports[i];
        short events = (short)((p->open && !p->starved ? POLLIN : 0) | (p->elem ? POLLOUT : 0));
        /* A program that has gone is looked at again when the guest has taken what it left. */
        if (p->fd < 0)
            p->slot = pollset_add(set, p->listen_fd, POLLIN);
        else
            p->slot = p->starved && !p->elem ? -1 : pollset_add(set, p->fd, events | (p->starved ? 0 : POLLRDHUP));
    }
}

static void vserial_dispatch(struct virtio_dev *v, struct pollset *set)
{
    struct vserial *s = vserial_of(v);
    for (unsigned i = 0; i < s->nports; i++) {
        struct vserial_port *p = &s->ports[i];
        short got = pollset_revents(set, p->slot);
        if (!got)
            continue;
        if (p->fd < 0) {
            p->fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
            p->tell |= p->fd >= 0 ? BIT(CONTROL_OPEN) : 0;
            tell(s);
            continue;
        }
        if (got & POLLIN)
            fill(s, i);
        if (got & POLLOUT)
            drain(s, i);
        /* Gone, and nothing of what it sent is left that the guest may still take. */
        if (p->fd >= 0 && (got & (POLLHUP | POLLERR | POLLRDHUP)) && !(got & POLLIN))
            lose_program(s, p);
    }
}

static void vserial_stop(struct virtio_dev *v)
{
    struct vserial *s = vserial_of(v);
    for (unsigned i = 0; i < s->nports; i++) {
        struct vserial_port *p = &s->ports[i];
        if (p->elem)
            vq_discard(&v->queues[rx_queue(i) + 1], steal_ptr(&p->elem));
        p->done = 0;
        p->open = p->starved = false;
        p->tell = 0;
    }
}

static const struct virtio_class vserial_class = {
    .name = "virtio-serial",
    .type = 3,
    .pci_class = 0x078000,
    .queue_size = 64,
    .config_len = CONFIG_BYTES,
    .queue_ready = vserial_queue_ready,
    .stop = vserial_stop,
    .prepare = vserial_prepare,
    .dispatch = vserial_dispatch,
};

/* ---- life ---- */

static int open_port(struct vserial_port *p, const struct vserial_port_config *cfg, struct error *err)
{
    if (!cfg->name[0] || strlen(cfg->name) > VSERIAL_NAME_MAX)
        return error_set(err, 0, "channel '%s': a name has 1 to %d bytes; give it another", cfg->name, VSERIAL_NAME_MAX);
    strcpy(p->name, cfg->name);
    int fd = unix_listen(cfg->path, SOCK_NONBLOCK, 0777, 1);
    if (fd < 0)
        return error_set(err, errno, "channel '%s': cannot listen at '%s': %s; give a path that does not exist, in a folder that you may write to",
                         cfg->name, cfg->path, unix_strerror(errno));
    strcpy(p->path, cfg->path);
    p->listen_fd = fd;
    return 0;
}

static void free_all(struct vserial *s)
{
    for (unsigned i = 0; i < VSERIAL_PORTS_MAX; i++) {
        struct vserial_port *p = &s->ports[i];
        if (p->fd >= 0)
            close(p->fd);
        if (p->listen_fd >= 0) {
            close(p->listen_fd);
            unlink(p->path);
        }
    }
    free(s);
}

int vserial_create(struct pci_host *h, const struct vserial_config *cfg, struct vserial **out, struct error *err)
{
    uint8_t config[CONFIG_BYTES] = {0};
    struct vserial *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, ENOMEM, "device 'virtio-serial': out of memory; close other programs");
    for (unsigned i = 0; i < VSERIAL_PORTS_MAX; i++)
        s->ports[i].fd = s->ports[i].listen_fd = s->ports[i].slot = -1;
    if (cfg->nports > VSERIAL_PORTS_MAX) {
        error_set(err, 0, "device 'virtio-serial': %u channels; give it at most %d", cfg->nports, VSERIAL_PORTS_MAX);
        goto fail;
    }
    for (; s->nports < cfg->nports; s->nports++)
        if (open_port(&s->ports[s->nports], &cfg->ports[s->nports], err) < 0)
            goto fail;
    pci_set32(config + CONFIG_PORTS, s->nports + 1);
    if (virtio_create(&s->virtio, &vserial_class, 2 * (s->nports + 1) + 2, h, cfg->slot, VSERIAL_F_MULTIPORT, config, err) == 0) {
        *out = s;
        return 0;
    }
fail:
    free_all(s);
    return -1;
}

void vserial_destroy(struct vserial *s)
{
    if (!s)
        return;
    virtio_destroy(&s->virtio);
    free_all(s);
}
