/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clients and their calls.
 *
 * A client's packets are read by the main thread; whole calls go to worker threads, at most CLIENT_CALLS of one client at a time:
 * the rest waits in the socket. Answers go out as they come. Sizes are bounded: before connect_open a packet has 64 KiB at most,
 * and a client that leaves more than CLIENT_OUT_MAX bytes unread is disconnected.
 */
#ifndef LODGE_DAEMON_SERVER_H
#define LODGE_DAEMON_SERVER_H

#include "daemon/daemon.h"
#include "rpc/packet.h"

#define CLIENT_CALLS   5u
#define CLIENT_OUT_MAX (64u << 20) /* bytes */
#define CLIENTS_MAX    5000u

struct stream;
struct transfer;
struct out_packet;

struct event_callback {
    struct event_callback *next;
    int id, event; /* virDomainEventID */
    bool any, legacy;
    uint8_t uuid[16]; /* unless any */
};

struct client {
    struct watch watch; /* first */
    struct client *next;
    struct daemon *daemon;
    unsigned refs;
    bool readonly, closed, keepalive;
    struct hypervisor *hv; /* set by connect_open */
    unsigned calls;        /* that run or wait for a thread; main thread */
    unsigned held;         /* streams for which it is not read; main thread */
    unsigned idle_ticks;
    /* The packet that is being read. */
    uint8_t *in;
    size_t in_len, in_cap;
    pthread_mutex_t lock; /* of what follows */
    struct out_packet *out, **out_tail;
    size_t out_bytes;
    bool want_write;
    bool close_callback;
    struct event_callback *callbacks;
    int next_callback;
    struct stream *streams;
};

struct call {
    struct call *next;
    struct client *client;
    struct daemon *daemon;
    struct rpc_header h;
    uint8_t *packet; /* without the length word */
    size_t len;
    struct arena arena;    /* of arguments and answer */
    struct error err;      /* errnum: VIR_ERR_… */
    struct stream *stream; /* that the call has opened; its answer, which is empty, comes with it */
};

struct handler {
    int proc;
    /* 0, or -1 with c->err. What `ret` points to lies in c->arena, or outlives the call. */
    int (*run)(struct call *c, const void *args, void *ret);
    bool early; /* allowed before connect_open */
};
/* Each ends with proc 0. */
extern const struct handler connect_handlers[], domain_handlers[], config_handlers[], device_handlers[], stats_handlers[],
    event_handlers[], storage_handlers[], other_handlers[], stream_handlers[], interface_handlers[], agent_handlers[], memtune_handlers[], cpu_handlers[];
extern const struct handler qemu_handlers[]; /* of the program RPC_PROGRAM_QEMU */

int server_open(struct daemon *d, struct error *err);
int server_listen(struct daemon *d, int fd, bool readonly, struct error *err);
void client_ref(struct client *c);
void client_unref(struct client *c);
void client_close(struct client *c);
/* Sends a packet: a reply, a stream's data, an event. Any thread. */
void client_send(struct client *c, const struct rpc_header *h, const struct xdr_type *type, const void *object, const void *raw,
                 size_t len);
void client_send_error(struct client *c, const struct rpc_header *h, const struct error *e);
/* Leaves the client unread, for as many times as it is called, and reads it again. Main thread. */
void client_hold(struct client *c, bool on);
/* Bytes that wait to be sent. */
size_t client_pending(struct client *c);

/* Fails the call; returns -1. */
#define call_fail(c, code, ...) error_set(&(c)->err, code, __VA_ARGS__)
/* 0 for a string that did not fit into memory. */
char *call_string(struct call *c, const char *s);

/* ---- streams (stream.c) ---- */

/* Connects the call's stream to a Unix socket, both ways. 0, or -1 with c->err. */
int stream_open_socket(struct call *c, const char *path);
/* The call's stream is this socket, whose other end `t` has; NULL: somebody else. Takes over both, unless it fails. */
int stream_open_transfer(struct call *c, int *fd, struct transfer *t);
/* Answers the call that opened c->stream, and starts it. */
void stream_start(struct call *c);
/* A packet of a stream from the client; main thread. */
void stream_packet(struct client *c, const struct rpc_header *h, const uint8_t *data, size_t len);
void stream_close_all(struct client *c);
void stream_flush(struct client *c); /* the client has read */

/* ---- events (event.c) ---- */

void event_lifecycle(struct dom *dom, int event, int detail);
void event_reboot(struct dom *dom);
void event_device(struct dom *dom, const char *name, bool added);

#endif
