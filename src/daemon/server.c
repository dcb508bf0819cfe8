// SPDX-License-Identifier: GPL-2.0-or-later
/* Connections, packets and worker threads: see server.h. */
#include "daemon/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"

#define WORKERS        6
#define URGENT_WORKERS 2
#define IN_FIRST       4096u
#define EARLY_MAX      65536u /* bytes of a packet before connect_open */
#define TICK_S         5
#define TICKS_MAX      6 /* without a sign of life */

struct out_packet {
    struct out_packet *next;
    size_t len, sent;
    uint8_t data[];
};

struct door {
    struct watch watch;
    struct daemon *daemon;
    bool readonly;
};

struct queue {
    struct call *first, **last;
};

struct server {
    struct daemon *daemon;
    struct handler handlers[REMOTE_PROCS], qemu_handlers[QEMU_PROCS];
    pthread_mutex_t lock;             /* of the queues */
    pthread_cond_t work, urgent_work; /* for workers of any call, for those of urgent ones */
    unsigned idle;                    /* workers of any call that wait */
    struct queue normal, urgent;
    struct client *clients; /* main thread */
    unsigned nclients;
    struct watch tick;
};

/* ---- output ---- */

void client_ref(struct client *c)
{
    __atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
}

static void free_client(void *arg)
{
    struct client *c = arg;
    for (struct out_packet *next, *p = c->out; p; p = next) {
        next = p->next;
        free(p);
    }
    for (struct event_callback *next, *e = c->callbacks; e; e = next) {
        next = e->next;
        free(e);
    }
    close(c->watch.fd);
    pthread_mutex_destroy(&c->lock);
    free(c->in);
    free(c);
}

void client_unref(struct client *c)
{
    if (__atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) == 0)
        loop_defer(&c->daemon->loop, free_client, c);
}

static void close_now(void *arg)
{
    struct client *c = arg;
    struct server *s = c->daemon->server;
    if (!c->closed) {
        c->closed = true;
        loop_remove(&c->daemon->loop, &c->watch);
        shutdown(c->watch.fd, SHUT_RDWR);
        for (struct client **p = &s->clients; *p; p = &(*p)->next) {
            if (*p == c) {
                *p = c->next;
                break;
            }
        }
        s->nclients--;
        stream_close_all(c);
        client_unref(c); /* the server's */
    }
    client_unref(c);
}

void client_close(struct client *c)
{
    client_ref(c);
    loop_defer(&c->daemon->loop, close_now, c);
}

/* The client's lock is held. False when the connection is broken. */
static bool flush_locked(struct client *c)
{
    while (c->out) {
        struct out_packet *p = c->out;
        ssize_t n = send(c->watch.fd, p->data + p->sent, p->len - p->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0)
            return false;
        p->sent += (size_t)n;
        c->out_bytes -= (size_t)n;
        if (p->sent < p->len)
            continue;
        c->out = p->next;
        if (!c->out)
            c->out_tail = &c->out;
        free(p);
    }
    if (c->want_write != (c->out != NULL)) {
        c->want_write = c->out != NULL;
        loop_change(&c->daemon->loop, &c->watch, EPOLLIN | (c->want_write ? EPOLLOUT : 0u));
    }
    return true;
}

size_t client_pending(struct client *c)
{
    pthread_mutex_lock(&c->lock);
    size_t n = c->out_bytes;
    pthread_mutex_unlock(&c->lock);
    return n;
}

static void enqueue(struct client *c, const uint8_t *data, size_t len)
{
    struct out_packet *p = malloc(sizeof *p + len);
    bool alive = p != NULL;
    pthread_mutex_lock(&c->lock);
    if (p && !c->closed) {
        *p = (struct out_packet){.len = len};
        memcpy(p->data, data, len);
        *c->out_tail = p;
        c->out_tail = &p->next;
        c->out_bytes += len;
        alive = flush_locked(c) && c->out_bytes <= CLIENT_OUT_MAX;
    } else {
        free(p);
    }
    pthread_mutex_unlock(&c->lock);
    if (!alive)
        client_close(c);
}

void client_send(struct client *c, const struct rpc_header *h, const struct xdr_type *type, const void *object, const void *raw,
                 size_t len)
{
    struct xdr_out out __attribute__((cleanup(xdr_out_free))) = {0};
    rpc_packet_begin(&out, h);
    xdr_encode(&out, type, object);
    xdr_put_raw(&out, raw, len);
    if (rpc_packet_end(&out)) {
        enqueue(c, out.data, out.len);
        return;
    }
    if (h->type == VIR_NET_REPLY && h->status == VIR_NET_OK) {
        struct error e = {.text = (char *)"the answer does not fit into a message of libvirt's protocol; ask for less",
                          .errnum = VIR_ERR_RPC};
        client_send_error(c, h, &e);
        return;
    }
    client_close(c);
}

/* Which part of libvirt an error is said to be of: clients look at it for some codes only. */
static int error_domain(int code)
{
    static const struct {
        int code, domain;
    } rows[] = {{VIR_ERR_RPC, VIR_FROM_RPC},
                {VIR_ERR_NO_STORAGE_POOL, VIR_FROM_STORAGE},
                {VIR_ERR_NO_STORAGE_VOL, VIR_FROM_STORAGE},
                {VIR_ERR_NO_NETWORK, VIR_FROM_NETWORK},
                {VIR_ERR_NO_NODE_DEVICE, VIR_FROM_NODEDEV},
                {VIR_ERR_NO_INTERFACE, VIR_FROM_INTERFACE},
                {VIR_ERR_NO_SECRET, VIR_FROM_SECRET},
                {VIR_ERR_NO_NWFILTER, VIR_FROM_NWFILTER}};
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].code == code)
            return rows[i].domain;
    return VIR_FROM_QEMU;
}

void client_send_error(struct client *c, const struct rpc_header *h, const struct error *e)
{
    static char format[] = "%s";
    struct rpc_header reply = *h;
    int code = e->errnum > 0 && e->errnum <= 110 ? e->errnum : VIR_ERR_INTERNAL_ERROR;
    char *text = (char *)error_text(e);
    struct remote_error body = {.code = code,
                                .domain = error_domain(code),
                                .message = text,
                                .level = VIR_ERR_ERROR,
                                .str1 = format,
                                .str2 = text,
                                .int1 = -1,
                                .int2 = -1};
    reply.type = h->type == VIR_NET_STREAM ? VIR_NET_STREAM : VIR_NET_REPLY;
    reply.status = VIR_NET_ERROR;
    client_send(c, &reply, &xdr_remote_error, &body, NULL, 0);
}

char *call_string(struct call *c, const char *s)
{
    return s ? arena_strdup(&c->arena, s) : NULL;
}

/* ---- calls ---- */

static int check_call(struct call *c, const struct rpc_proc **proc, const struct handler **handler)
{
    const struct rpc_header *h = &c->h;
    const struct server *s = c->daemon->server;
    bool qemu = h->prog == RPC_PROGRAM_QEMU;
    const struct rpc_proc *procs = qemu ? qemu_procs : remote_procs;
    if (h->prog == RPC_PROGRAM_LXC)
        return call_fail(c, VIR_ERR_NO_SUPPORT, "procedure %d of program 0x%x: not supported by lodged", h->proc, h->prog);
    if ((!qemu && h->prog != RPC_PROGRAM_REMOTE) || h->vers != RPC_VERSION)
        return call_fail(c, VIR_ERR_RPC, "unknown program 0x%x version %u", h->prog, h->vers);
    if (h->proc <= 0 || h->proc >= (qemu ? QEMU_PROCS : REMOTE_PROCS) || !procs[h->proc].name || (procs[h->proc].flags & RPC_EVENT))
        return call_fail(c, VIR_ERR_RPC, "unknown procedure: %d", h->proc);
    *proc = &procs[h->proc];
    *handler = qemu ? &s->qemu_handlers[h->proc] : &s->handlers[h->proc];
    if (!c->client->hv && !(*handler)->early)
        return call_fail(c, VIR_ERR_NO_CONNECT, "procedure '%s': no connection is open; call connect_open first", (*proc)->name);
    /* The table has no word on who may use the program that goes past the daemon: those who may change something. */
    if (c->client->readonly && (qemu || ((*proc)->flags & RPC_RW)))
        return call_fail(c, VIR_ERR_OPERATION_DENIED, "operation '%s' is forbidden for read only access", (*proc)->name);
    if (!(*handler)->run)
        return call_fail(c, VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver: '%s'", (*proc)->name);
    return 0;
}

static void run_call(struct call *c)
{
    const struct rpc_proc *proc = NULL;
    const struct handler *handler = NULL;
    struct rpc_header reply = c->h;
    void *args = NULL, *ret = NULL;
    reply.type = VIR_NET_REPLY;
    if (check_call(c, &proc, &handler) == 0) {
        args = proc->args ? arena_alloc(&c->arena, proc->args->size) : NULL;
        ret = proc->ret ? arena_alloc(&c->arena, proc->ret->size) : NULL;
        if ((proc->args && !args) || (proc->ret && !ret))
            call_fail(c, VIR_ERR_NO_MEMORY, "procedure '%s': out of memory", proc->name);
        else if (xdr_decode(proc->args, c->packet + RPC_HEADER_BYTES, c->len - RPC_HEADER_BYTES, &c->arena, args, &c->err) < 0)
            c->err.errnum = VIR_ERR_RPC;
        else if (handler->run(c, args, ret) == 0) {
            if (c->stream)
                stream_start(c);
            else
                client_send(c->client, &reply, proc->ret, ret, NULL, 0);
            return;
        }
    }
    if (!error_is_set(&c->err))
        call_fail(c, VIR_ERR_NO_MEMORY, "out of memory");
    client_send_error(c->client, &reply, &c->err);
}

static void free_call(struct call *c)
{
    arena_free(&c->arena);
    error_clear(&c->err);
    free(c->packet);
    free(c);
}

static void read_packets(struct client *c);

/* Back on the main thread: the client may have more for us in its buffer. */
static void call_done(void *arg)
{
    struct client *c = arg;
    c->calls--;
    if (!c->closed)
        read_packets(c);
    client_unref(c);
}

static struct call *take_call(struct server *s, bool urgent_only)
{
    for (;;) {
        struct queue *q = s->urgent.first ? &s->urgent : urgent_only ? NULL : &s->normal;
        struct call *c = q ? q->first : NULL;
        if (c) {
            q->first = c->next;
            if (!q->first)
                q->last = &q->first;
            return c;
        }
        s->idle += !urgent_only;
        pthread_cond_wait(urgent_only ? &s->urgent_work : &s->work, &s->lock);
        s->idle -= !urgent_only;
    }
}

static void work(struct server *s, bool urgent_only)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);
        struct call *c = take_call(s, urgent_only);
        pthread_mutex_unlock(&s->lock);
        struct client *client = c->client;
        run_call(c);
        free_call(c);
        loop_defer(&s->daemon->loop, call_done, client);
    }
}

static void *work_any(void *arg)
{
    work(arg, false);
    return NULL;
}

static void *work_urgent(void *arg)
{
    work(arg, true);
    return NULL;
}

static void queue_call(struct client *c, const struct rpc_header *h, const uint8_t *packet, size_t len)
{
    struct server *s = c->daemon->server;
    struct call *call = calloc(1, sizeof *call);
    uint8_t *copy = malloc(len);
    if (!call || !copy) {
        free(call);
        free(copy);
        client_close(c);
        return;
    }
    memcpy(copy, packet, len);
    *call = (struct call){.client = c, .daemon = c->daemon, .h = *h, .packet = copy, .len = len};
    client_ref(c);
    c->calls++;
    bool urgent =
        h->prog == RPC_PROGRAM_REMOTE && h->proc > 0 && h->proc < REMOTE_PROCS && (remote_procs[h->proc].flags & RPC_URGENT);
    struct queue *q = urgent ? &s->urgent : &s->normal;
    pthread_mutex_lock(&s->lock);
    *q->last = call;
    q->last = &call->next;
    /* One is enough: whoever waits has found nothing to do. */
    pthread_cond_signal(urgent && s->idle == 0 ? &s->urgent_work : &s->work);
    pthread_mutex_unlock(&s->lock);
}

/* ---- input ---- */

static void keepalive(struct client *c, const struct rpc_header *h)
{
    struct rpc_header pong = *h;
    pong.proc = KEEPALIVE_PONG;
    if (h->proc == KEEPALIVE_PING)
        client_send(c, &pong, NULL, NULL, NULL, 0);
}

/* One packet without its length word. False when the client is not worth listening to. */
static bool take_packet(struct client *c, const uint8_t *packet, size_t len)
{
    struct rpc_header h;
    rpc_header_get(packet, &h);
    if (h.prog == RPC_PROGRAM_KEEPALIVE) {
        keepalive(c, &h);
        return true;
    }
    switch (h.type) {
    case VIR_NET_CALL:
        queue_call(c, &h, packet, len);
        return true;
    case VIR_NET_STREAM:
        stream_packet(c, &h, packet + RPC_HEADER_BYTES, len - RPC_HEADER_BYTES);
        return true;
    default:
        log_debug("a client sends a packet of type %u; it is disconnected", h.type);
        return false;
    }
}

static bool listened_to(const struct client *c)
{
    return c->calls < CLIENT_CALLS && !c->held;
}

static void read_packets(struct client *c)
{
    size_t used = 0;
    while (listened_to(c) && c->in_len - used >= RPC_LENGTH_BYTES) {
        uint32_t len = xdr_get_u32(c->in + used);
        if (len < RPC_PACKET_MIN || len > (c->hv ? RPC_PACKET_MAX : EARLY_MAX)) {
            log_debug("a client sends a packet of %u bytes; it is disconnected", len);
            client_close(c);
            return;
        }
        if (c->in_len - used < len)
            break;
        if (!take_packet(c, c->in + used + RPC_LENGTH_BYTES, len - RPC_LENGTH_BYTES)) {
            client_close(c);
            return;
        }
        used += len;
    }
    c->in_len -= used;
    if (used)
        memmove(c->in, c->in + used, c->in_len);
    if (c->in_len == 0 && c->in_cap > IN_FIRST) {
        free(c->in);
        c->in = NULL;
        c->in_cap = 0;
    }
    /* A client with as many calls as it may have waits in its socket. */
    pthread_mutex_lock(&c->lock);
    loop_change(&c->daemon->loop, &c->watch, (listened_to(c) ? (uint32_t)EPOLLIN : 0u) | (c->want_write ? EPOLLOUT : 0u));
    pthread_mutex_unlock(&c->lock);
}

static void go_on(void *arg)
{
    struct client *c = arg;
    if (!c->closed)
        read_packets(c);
    client_unref(c);
}

/* What lies in the buffer is taken later: a stream may say this in the middle of a packet. */
void client_hold(struct client *c, bool on)
{
    c->held += on ? 1u : -1u;
    if (on || c->held)
        return;
    client_ref(c);
    loop_defer(&c->daemon->loop, go_on, c);
}

/* The buffer grows with what has arrived, not with what a packet's length promises. */
static bool grow(struct client *c)
{
    if (c->in_len < c->in_cap)
        return true;
    size_t cap = MAX(c->in_cap * 2, (size_t)IN_FIRST);
    uint8_t *grown = cap <= 2 * (size_t)RPC_PACKET_MAX ? realloc(c->in, cap) : NULL;
    if (!grown)
        return false;
    c->in = grown;
    c->in_cap = cap;
    return true;
}

static void client_ready(struct watch *w, uint32_t events)
{
    struct client *c = container_of(w, struct client, watch);
    bool alive = true;
    if (c->closed)
        return;
    if (events & EPOLLOUT) {
        pthread_mutex_lock(&c->lock);
        alive = flush_locked(c);
        pthread_mutex_unlock(&c->lock);
        stream_flush(c);
    }
    if (alive && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && grow(c)) {
        ssize_t n = recv(w->fd, c->in + c->in_len, c->in_cap - c->in_len, MSG_DONTWAIT);
        c->idle_ticks = 0;
        if (n > 0) {
            c->in_len += (size_t)n;
            read_packets(c);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            alive = false;
        }
    }
    if (!alive)
        client_close(c);
}

/* Clients that answer keepalives are asked when they are silent. */
static void tick(struct watch *w, uint32_t events)
{
    struct server *s = container_of(w, struct server, tick);
    static const struct rpc_header ping = {RPC_PROGRAM_KEEPALIVE, 1, KEEPALIVE_PING, VIR_NET_MESSAGE, 0, VIR_NET_OK};
    uint64_t count;
    (void)events;
    if (read(w->fd, &count, sizeof count) < 0)
        return;
    for (struct client *c = s->clients; c; c = c->next) {
        if (!c->keepalive)
            continue;
        if (c->idle_ticks++ > TICKS_MAX)
            client_close(c);
        else
            client_send(c, &ping, NULL, NULL, NULL, 0);
    }
}

/* ---- connections ---- */

/* The owner and root; anybody who could open the socket in system mode, whose files' rights decide. */
static bool allowed(struct daemon *d, int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return false;
    return !d->session || peer.uid == geteuid() || peer.uid == 0;
}

static void accept_client(struct watch *w, uint32_t events)
{
    struct door *l = container_of(w, struct door, watch);
    struct daemon *d = l->daemon;
    struct server *s = d->server;
    (void)events;
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct client *c = s->nclients < CLIENTS_MAX && allowed(d, fd) ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        close(fd);
        return;
    }
    *c = (struct client){.watch = {fd, client_ready}, .daemon = d, .refs = 1, .readonly = l->readonly, .next_callback = 1};
    c->out_tail = &c->out;
    pthread_mutex_init(&c->lock, NULL);
    if (loop_add(&d->loop, &c->watch, EPOLLIN, NULL) < 0) {
        free_client(c);
        return;
    }
    c->next = s->clients;
    s->clients = c;
    s->nclients++;
}

int server_listen(struct daemon *d, int fd, bool readonly, struct error *err)
{
    struct door *l = calloc(1, sizeof *l);
    if (!l)
        return error_set(err, ENOMEM, "socket: out of memory");
    *l = (struct door){{fd, accept_client}, d, readonly};
    return loop_add(&d->loop, &l->watch, EPOLLIN, err);
}

static void add_handlers(struct handler *to, const struct handler *rows)
{
    for (; rows->proc; rows++)
        to[rows->proc] = *rows;
}

int server_open(struct daemon *d, struct error *err)
{
    struct server *s = calloc(1, sizeof *s);
    const struct itimerspec interval = {{TICK_S, 0}, {TICK_S, 0}};
    pthread_t thread;
    if (!s)
        return error_set(err, ENOMEM, "server: out of memory");
    d->server = s;
    s->daemon = d;
    s->normal.last = &s->normal.first;
    s->urgent.last = &s->urgent.first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->urgent_work, NULL);
    const struct handler *const tables[] = {connect_handlers, domain_handlers,    config_handlers,  device_handlers,
                                            stats_handlers,   event_handlers,     storage_handlers, other_handlers,
                                            stream_handlers,  interface_handlers, agent_handlers,   memtune_handlers, cpu_handlers};
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
        add_handlers(s->handlers, tables[i]);
    add_handlers(s->qemu_handlers, qemu_handlers);
    s->tick = (struct watch){timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), tick};
    if (s->tick.fd < 0 || timerfd_settime(s->tick.fd, 0, &interval, NULL) < 0 || loop_add(&d->loop, &s->tick, EPOLLIN, err) < 0)
        return error_set(err, errno, "server: cannot create its timer: %s", strerror(errno));
    for (unsigned i = 0; i < WORKERS + URGENT_WORKERS; i++) {
        int r = pthread_create(&thread, NULL, i < WORKERS ? work_any : work_urgent, s);
        if (r)
            return error_set(err, r, "server: cannot start a thread: %s; raise the limit of processes", strerror(r));
        pthread_detach(thread);
    }
    return 0;
}
