/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between vsock.c (the guest's side) and vsock_host.c (the host's unix sockets). */
#ifndef LODGE_DEVICES_VSOCK_INTERNAL_H
#define LODGE_DEVICES_VSOCK_INTERNAL_H

#include <sys/un.h>

#include "devices/virtio/virtio.h"
#include "devices/virtio/vsock.h"

#define VSOCK_CONNECTIONS 256
#define VSOCK_BUFFER      65536u /* bytes that the guest may send ahead of what the host's program takes */
#define VSOCK_LINE        32     /* bytes of "CONNECT PORT\n" */
#define VSOCK_HOST_CID    2u

enum vsock_op {
    VSOCK_REQUEST = 1,
    VSOCK_RESPONSE,
    VSOCK_RST,
    VSOCK_SHUTDOWN,
    VSOCK_RW,
    VSOCK_CREDIT_UPDATE,
    VSOCK_CREDIT_REQUEST,
};
#define VSOCK_TYPE_STREAM   1
#define VSOCK_SHUTDOWN_RECV 1u /* flags: the sender will not receive, will not send any more */
#define VSOCK_SHUTDOWN_SEND 2u

struct vsock_header {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

enum vsock_state {
    VSOCK_FREE,
    VSOCK_GREETING,   /* a program of the host's has not said which port it wants */
    VSOCK_REQUESTED,  /* the guest has been asked */
    VSOCK_OPEN,
    VSOCK_ENDED,      /* nothing but a last packet to the guest */
};

struct vsock_conn {
    enum vsock_state state;
    int fd, slot; /* slot: in this turn's poll */
    uint32_t host_port, guest_port;
    /* Credit (5.10.6.3): the guest's room, and what was sent to it; what was taken from it. */
    uint32_t peer_alloc, peer_fwd, sent, taken, told;
    uint32_t owed;       /* bit per operation: packets that the guest is to get */
    uint32_t shutdown;   /* flags of the SHUTDOWN that is owed */
    bool host_ended;     /* the program will send nothing more */
    bool guest_ended;    /* nor will the guest */
    unsigned line_len;
    char line[VSOCK_LINE];
    uint8_t *out; /* VSOCK_BUFFER bytes for the program; owned */
    uint32_t out_at, out_len;
};

struct vsock {
    struct virtio_dev virtio; /* first */
    uint32_t cid;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    /* [io] */
    int listen_fd, listen_slot;
    uint32_t next_port; /* of the host, for connections that it makes */
    bool starved;       /* the guest has no buffer to receive into */
    struct vsock_conn conns[VSOCK_CONNECTIONS];
    /* Packets of which nothing is known: their senders get an RST each; more than these are dropped. */
    struct vsock_header strays[64];
    unsigned nstrays;
};

static inline uint32_t vsock_credit(const struct vsock_conn *c)
{
    uint32_t used = c->sent - c->peer_fwd;
    return used < c->peer_alloc ? c->peer_alloc - used : 0;
}

/* vsock_host.c */
int vsock_listen(struct vsock *s, struct error *err);
struct vsock_conn *vsock_conn_new(struct vsock *s);
void vsock_conn_free(struct vsock_conn *c);
/* The guest connects to a port of the host: 0, or -1 when nobody listens. */
int vsock_conn_connect(struct vsock *s, struct vsock_conn *c, uint32_t port);
/* Bytes from the guest for the program. False when the guest sends more than it may. */
bool vsock_conn_write(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t skip, uint32_t len);
void vsock_conn_flush(struct vsock *s, struct vsock_conn *c);
void vsock_host_prepare(struct vsock *s, struct pollset *p);
void vsock_host_dispatch(struct vsock *s, struct pollset *p);

/* vsock.c: gives the guest what it is owed. */
void vsock_deliver(struct vsock *s);

#endif
