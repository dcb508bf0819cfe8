/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client's side: a connection to any daemon that speaks the protocol, calls that wait for their reply, one stream at a time.
 *
 * A client belongs to one thread. While it waits for a reply it answers keepalives and hands events to `on_event`. An error of the
 * daemon's is an error whose text is the daemon's and whose errnum is the VIR_ERR_… code. calls.h, generated, has a typed function
 * for each procedure: client_domain_get_info(c, &args, &ret, err). What `ret` points to stays until the next call.
 */
#ifndef LODGE_RPC_CLIENT_H
#define LODGE_RPC_CLIENT_H

#include <sys/types.h>

#include "rpc/packet.h"
#include "rpc/remote.h"

struct rpc_client;

/* What carries the bytes. Reading and writing wait, and give what read(2) and write(2) do. */
struct rpc_transport {
    ssize_t (*read)(void *self, void *data, size_t len);
    ssize_t (*write)(void *self, const void *data, size_t len);
    bool (*pending)(void *self); /* has bytes that poll(2) of `fd` does not tell of; NULL: never */
    void (*close)(void *self);
    void *self;
    int fd;
};

/* Connects to a Unix socket. 0, or -1 with err. */
int rpc_client_connect(const char *path, struct rpc_client **out, struct error *err);
/* Over a connected socket, which is closed with the client and when this fails. `name` is the daemon's in errors. */
int rpc_client_from_fd(int fd, const char *name, struct rpc_client **out, struct error *err);
/* Over anything else; on failure, `t` is closed. */
int rpc_client_new(const struct rpc_transport *t, const char *name, struct rpc_client **out, struct error *err);
void rpc_client_close(struct rpc_client *c);
int rpc_client_fd(const struct rpc_client *c);
/* The connection has ended, and every further call fails. */
bool rpc_client_broken(const struct rpc_client *c);
/* Something can be read, whatever poll(2) says of the descriptor. */
bool rpc_client_pending(const struct rpc_client *c);

int rpc_client_call(struct rpc_client *c, int proc, const void *args, void *ret, struct error *err);
/* Moves what the last answer points to into `a`, which is empty: it outlives the next call, and the caller frees it. */
void rpc_client_keep(struct rpc_client *c, struct arena *a);

/* Called for each event, from inside of the functions here: the procedure's number and its decoded message. */
typedef void rpc_event_fn(void *opaque, int proc, const void *message);
void rpc_client_on_event(struct rpc_client *c, rpc_event_fn *fn, void *opaque);
/* Takes what the daemon has sent, when rpc_client_fd() is readable and no stream is open: events. 0, or -1 when the connection is
 * over. */
int rpc_client_dispatch(struct rpc_client *c, struct error *err);

/* After a call of a procedure with a stream: one packet of data to the daemon, or from it. */
int rpc_client_stream_send(struct rpc_client *c, const void *data, size_t len, struct error *err);
/* Bytes at *data (until the next call), 0 at the end, -1 with err. */
ssize_t rpc_client_stream_receive(struct rpc_client *c, const void **data, struct error *err);
/* Ends it: tells the daemon that there is no more, and waits for its word. */
int rpc_client_stream_finish(struct rpc_client *c, struct error *err);
int rpc_client_stream_abort(struct rpc_client *c, struct error *err);

#endif
