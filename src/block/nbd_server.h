/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An NBD server for one image (the NBD project's doc/proto.md is the protocol, "proto." below): fixed newstyle handshake, structured replies, block
 * status, TLS, and several clients at a time, who see each other's completed writes.
 *
 * One thread serves all. A fiber of each connection reads requests; each request is answered in a fiber of its own. Fibers wait for sockets in
 * nbd_server_run(), and for the image in its loop. What clients send is hostile: lengths are checked before anything is allocated, a connection has at
 * most NBD_IN_FLIGHT bytes under way, and one that has not finished its handshake in time is closed.
 */
#ifndef LODGE_BLOCK_NBD_SERVER_H
#define LODGE_BLOCK_NBD_SERVER_H

#include "block/image.h"

#define NBD_REQUEST_MAX (32u << 20)           /* bytes of a read or write */
#define NBD_IN_FLIGHT   (2ull * NBD_REQUEST_MAX) /* bytes that a connection's requests hold at most */
#define NBD_CLIENTS_MAX 64u
#define NBD_STRING_MAX  4096u /* proto. "Export names" */

struct nbd_tls;
struct nbd_server {
    struct image *image;
    const char *name; /* of the export; "" for the default one */
    bool readonly, once; /* once: ends when the last client has gone */
    const char *bitmap;  /* a bitmap that is exported as qemu:dirty-bitmap:NAME; NULL: none */
    struct nbd_tls *tls; /* NULL: clear text */
    int listen_fd, quit_fd; /* quit_fd: readable when it is to end */
    /* The server's own: */
    struct nbd_conn *conns;
    unsigned nconns;
    bool stop;
    struct fiber_lock unaligned; /* writes of parts of sectors */
};

struct nbd_conn {
    struct nbd_server *server;
    int fd;
    void *session; /* TLS; NULL: clear text */
    struct fiber *reader, *writer; /* wait for the socket */
    bool dead;                     /* no more transfers: shut down, or an error */
    bool ready;                    /* the handshake has ended */
    bool structured, no_zeroes;
    bool allocation, dirty;        /* contexts that the client has chosen */
    uint64_t deadline;             /* of the handshake; now_ns() */
    uint64_t in_flight;            /* bytes */
    unsigned requests;             /* under way */
    struct fiber *throttled;       /* the reader, until there is room again */
    struct fiber_lock sending;
    struct nbd_conn *next;
};

/* Serves until quit_fd is readable. 0, or -1 with err. */
int nbd_server_run(struct nbd_server *s, struct error *err);

/* ---- nbd_server.c, for the parts; 0 or -errno ---- */
int nbd_receive(struct nbd_conn *c, void *buf, size_t n);
int nbd_send(struct nbd_conn *c, const void *buf, size_t n); /* `sending` is held, or nobody else sends yet */
int nbd_skip(struct nbd_conn *c, uint64_t n);
void nbd_hang_up(struct nbd_conn *c); /* wakes everything that waits for the connection: it is to end */

/* ---- nbd_handshake.c, nbd_requests.c: what a connection's fiber does. 0 when it has ended as it should ---- */
int nbd_handshake(struct nbd_conn *c);
int nbd_serve_requests(struct nbd_conn *c);
uint16_t nbd_flags(const struct nbd_server *s); /* of the export */

/* ---- nbd_tls.c ---- */
/* Certificates from a folder with ca-cert.pem (then clients need one that it has signed), server-cert.pem and server-key.pem; or pre-shared keys from a
 * file of lines NAME:HEX. NULL with err. */
struct nbd_tls *nbd_tls_new(const char *certificates, const char *psk_file, struct error *err);
void nbd_tls_free(struct nbd_tls *t);
int nbd_tls_start(struct nbd_conn *c); /* the handshake; waits in a worker thread */
void nbd_tls_end(struct nbd_conn *c);
ssize_t nbd_tls_receive(struct nbd_conn *c, void *buf, size_t n); /* bytes, 0 at the end, -EAGAIN, -errno */
ssize_t nbd_tls_send(struct nbd_conn *c, const void *buf, size_t n);

#define NBD_ALLOCATION_ID 1u
#define NBD_DIRTY_ID      2u

/* Big endian fields of messages. */
static inline void nbd_put(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> 8 * (bytes - 1 - i));
}
static inline uint64_t nbd_get(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

#endif
