// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/charsock.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/unix.h"
#include "base/util.h"
#include "machine/charpty.h"

#define IN_SIZE 4096u

struct client {
    int fd; /* -1: free */
    int index;
    bool tty; /* the console's own terminal, whose descriptor is not ours to close */
    uint64_t sent; /* of all bytes that the guest wrote */
};

struct port {
    struct charsock *owner;
    char *path; /* NULL: this console is no socket */
    int listen_fd, listen_index;
    uint8_t *ring;
    uint64_t written; /* bytes since the beginning; under the lock */
    struct client clients[CHARSOCK_CLIENTS], terminal;
    struct charpty *pty; /* NULL: there is none */
    unsigned in_len;
    uint8_t in[IN_SIZE]; /* what the guest has not taken yet */
};

struct charsock {
    pthread_mutex_t lock; /* of the rings */
    int wake_fd, wake_index;
    size_t (*input)(void *opaque, unsigned index, const void *buf, size_t len);
    void *opaque;
    unsigned nports;
    struct port *ports[DOMAIN_MAX_CHARS];
};

/* ---- the device's side ---- */

static void port_write(void *opaque, const void *buf, size_t len)
{
    struct port *p = opaque;
    const uint8_t *from = buf;
    pthread_mutex_lock(&p->owner->lock);
    while (len) {
        size_t at = p->written % CHARSOCK_RING, n = MIN(len, CHARSOCK_RING - at);
        memcpy(p->ring + at, from, n);
        p->written += n;
        from += n;
        len -= n;
    }
    pthread_mutex_unlock(&p->owner->lock);
    eventfd_write(p->owner->wake_fd, 1);
}

static void port_input_ready(void *opaque)
{
    eventfd_write(((struct port *)opaque)->owner->wake_fd, 1);
}

struct chardev charsock_chardev(struct charsock *s, unsigned index)
{
    return (struct chardev){.write = port_write, .input_ready = port_input_ready, .opaque = s->ports[index]};
}

/* ---- clients ---- */

static void drop(struct client *c)
{
    if (c->fd >= 0 && !c->tty)
        close(c->fd);
    c->fd = -1;
}

/* The next bytes for a client, copied out of the ring; it skips what was overwritten. */
static size_t next_output(struct port *p, struct client *c, uint8_t *buf, size_t size)
{
    pthread_mutex_lock(&p->owner->lock);
    if (p->written - c->sent > CHARSOCK_RING)
        c->sent = p->written - CHARSOCK_RING;
    size_t at = c->sent % CHARSOCK_RING;
    size_t n = MIN(MIN((size_t)(p->written - c->sent), CHARSOCK_RING - at), size);
    memcpy(buf, p->ring + at, n);
    pthread_mutex_unlock(&p->owner->lock);
    return n;
}

static void serve_output(struct port *p, struct client *c)
{
    uint8_t buf[8192];
    size_t n;
    while (c->fd >= 0 && (n = next_output(p, c, buf, sizeof buf))) {
        ssize_t done = c->tty ? write(c->fd, buf, n) : send(c->fd, buf, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done < 0 && errno == EAGAIN)
            return;
        if (done > 0)
            c->sent += (uint64_t)done;
        else if (errno != EINTR)
            drop(c);
    }
}

static void deliver(struct charsock *s, unsigned index)
{
    struct port *p = s->ports[index];
    if (!p->in_len || !s->input)
        return;
    size_t taken = s->input(s->opaque, index, p->in, p->in_len);
    p->in_len -= (unsigned)taken;
    memmove(p->in, p->in + taken, p->in_len);
}

static void serve_input(struct charsock *s, unsigned index, struct client *c)
{
    struct port *p = s->ports[index];
    ssize_t n = c->tty ? read(c->fd, p->in + p->in_len, IN_SIZE - p->in_len)
                       : recv(c->fd, p->in + p->in_len, IN_SIZE - p->in_len, MSG_DONTWAIT);
    if (n > 0) {
        p->in_len += (unsigned)n;
        deliver(s, index);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        drop(c);
    }
}

/* A fifth client takes the place of the first: one that has gone to sleep cannot keep others out. */
static void accept_client(struct port *p)
{
    int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    unsigned i = 0;
    if (fd < 0)
        return;
    while (i < CHARSOCK_CLIENTS && p->clients[i].fd >= 0)
        i++;
    if (i == CHARSOCK_CLIENTS)
        drop(&p->clients[i = 0]);
    p->clients[i] = (struct client){.fd = fd, .index = -1};
    serve_output(p, &p->clients[i]);
}

/* ---- the main loop ---- */

static void prepare_client(const struct port *p, struct client *c, uint64_t written, struct pollset *set)
{
    short events = (short)((p->in_len < IN_SIZE ? POLLIN : 0) | (c->sent < written ? POLLOUT : 0));
    c->index = c->fd < 0 ? -1 : pollset_add(set, c->fd, events);
}

static void prepare_port(struct port *p, struct pollset *set)
{
    p->listen_index = pollset_add(set, p->listen_fd, POLLIN);
    pthread_mutex_lock(&p->owner->lock);
    uint64_t written = p->written;
    pthread_mutex_unlock(&p->owner->lock);
    for (unsigned i = 0; i < CHARSOCK_CLIENTS; i++)
        prepare_client(p, &p->clients[i], written, set);
    if (p->pty)
        charpty_prepare(p->pty, set);
    prepare_client(p, &p->terminal, written, set);
}

void charsock_prepare(struct charsock *s, struct pollset *set)
{
    s->wake_index = s->nports ? pollset_add(set, s->wake_fd, POLLIN) : -1;
    for (unsigned i = 0; i < DOMAIN_MAX_CHARS; i++)
        if (s->ports[i])
            prepare_port(s->ports[i], set);
}

static void dispatch_client(struct charsock *s, unsigned index, struct client *c, bool woken, struct pollset *set)
{
    struct port *p = s->ports[index];
    short events = c->fd >= 0 ? pollset_revents(set, c->index) : 0;
    if (events & (POLLIN | POLLHUP | POLLERR) && p->in_len < IN_SIZE)
        serve_input(s, index, c);
    if (woken || events & POLLOUT)
        serve_output(p, c);
}

/* The terminal is a client while somebody has it open, and is served from the beginning of what is kept for each who opens it. */
static void dispatch_terminal(struct port *p, struct pollset *set)
{
    bool anew, open = charpty_dispatch(p->pty, set, &anew);
    if (!anew && open == (p->terminal.fd >= 0))
        return;
    p->terminal = (struct client){.fd = open ? charpty_fd(p->pty) : -1, .index = -1, .tty = true};
    serve_output(p, &p->terminal);
}

const char *charsock_terminal(const struct charsock *s, unsigned index)
{
    const struct port *p = index < DOMAIN_MAX_CHARS ? s->ports[index] : NULL;
    return p && p->pty ? charpty_path(p->pty) : NULL;
}

void charsock_dispatch(struct charsock *s, struct pollset *set)
{
    eventfd_t count;
    bool woken = pollset_revents(set, s->wake_index);
    if (woken)
        eventfd_read(s->wake_fd, &count);
    for (unsigned i = 0; i < DOMAIN_MAX_CHARS; i++) {
        struct port *p = s->ports[i];
        if (!p)
            continue;
        deliver(s, i);
        for (unsigned k = 0; k < CHARSOCK_CLIENTS; k++)
            dispatch_client(s, i, &p->clients[k], woken, set);
        dispatch_client(s, i, &p->terminal, woken, set);
        if (p->pty)
            dispatch_terminal(p, set);
        if (pollset_revents(set, p->listen_index))
            accept_client(p);
    }
}

void charsock_attach(struct charsock *s, size_t (*input)(void *opaque, unsigned index, const void *buf, size_t len), void *opaque)
{
    s->input = input;
    s->opaque = opaque;
}

/* ---- life ---- */

static int open_port(struct charsock *s, unsigned index, const char *path, struct error *err)
{
    struct port *p = s->ports[index] = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, ENOMEM, "console '%s': out of memory", path);
    *p = (struct port){.owner = s, .path = strdup(path), .ring = malloc(CHARSOCK_RING)};
    for (unsigned i = 0; i < CHARSOCK_CLIENTS; i++)
        p->clients[i].fd = -1;
    p->terminal = (struct client){.fd = -1, .index = -1, .tty = true};
    p->pty = charpty_open();
    if (!p->pty)
        log_info("console '%s': has no terminal in /dev/pts: %s", path, strerror(errno));
    unlink(path); /* what a process that was killed left behind */
    p->listen_fd = unix_listen(path, SOCK_NONBLOCK, 0600, CHARSOCK_CLIENTS);
    s->nports++;
    if (p->listen_fd < 0)
        return error_set(err, errno,
                         "console '%s': cannot listen: %s; give a path in a folder that exists and that you may write to", path,
                         unix_strerror(errno));
    return p->path && p->ring ? 0 : error_set(err, ENOMEM, "console '%s': out of memory", path);
}

int charsock_open(const struct domain *d, struct charsock **out, struct error *err)
{
    struct charsock *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, ENOMEM, "consoles: out of memory");
    pthread_mutex_init(&s->lock, NULL);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (unsigned i = 0; i < d->nchars; i++) {
        if (d->chars[i].backend == DOMAIN_CHAR_UNIX && open_port(s, i, d->chars[i].path, err) < 0) {
            charsock_close(s);
            return -1;
        }
    }
    *out = s;
    return 0;
}

void charsock_close(struct charsock *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < DOMAIN_MAX_CHARS; i++) {
        struct port *p = s->ports[i];
        for (unsigned k = 0; p && k < CHARSOCK_CLIENTS; k++) {
            serve_output(p, &p->clients[k]); /* the guest's last words */
            drop(&p->clients[k]);
        }
        if (p && p->listen_fd >= 0) {
            close(p->listen_fd);
            unlink(p->path);
        }
        if (p) {
            charpty_close(p->pty);
            free(p->ring);
            free(p->path);
            free(p);
        }
    }
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
