/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks on servers: what the protocols (protocol_*.c) have in common. Fibers give commands and wait for their answers. Many commands are under
 * way at a time on one connection, and the server may answer them in any order.
 *
 * A library that never waits by itself, and that has one socket, is called by the disk's loop, which watches the socket (ready()). Each other file has a
 * thread that alone calls its library and waits for its server (turn()); what goes to and fro between two threads costs two wakings each way.
 *
 * A server that hangs up, or that answers nothing for remote_patience() seconds while something is under way, is given up: what was
 * under way fails, and so does all that comes later, until the disk is opened again. Nothing connects again by itself: a server
 * that went away may have lost what was written and not flushed, and only an error says so.
 */
#ifndef LODGE_BLOCK_REMOTE_H
#define LODGE_BLOCK_REMOTE_H

#include "block/file.h"

enum remote_op { REMOTE_READ, REMOTE_WRITE, REMOTE_SYNC, REMOTE_ZERO /* punch: may become a hole */, REMOTE_EXTENT };

struct remote_cmd {
    enum remote_op op;
    bool punch;
    bool zero;            /* the answer of REMOTE_EXTENT, */
    uint64_t offset, len; /* whose len is cut to what is alike */
    uint8_t *data;        /* of a read or write: len bytes */
    void *opaque;         /* the protocol's, zero at start() */
    /* remote.c's */
    struct file *file;
    struct io_step step;
    bool answered;
    ssize_t ret;
    struct remote_cmd *next, *prev;
};

/*
 * A protocol. A name of an image has one of its prefixes, and only names that a user gives are looked at so (file_open_named()):
 * what stands in an image never makes Lodge talk to a server.
 */
struct file_protocol {
    const char *const *prefixes; /* NULL ends them */
    /* Connects, in the caller's thread. Sets connection, size and, if need be, readonly, physical and unit. 0, or -1 with err. */
    int (*open)(struct file *f, const char *what, struct error *err);
    void (*close)(struct file *f); /* nothing is under way; any thread */
    /* The others are called in the file's thread, or by the loop. start() begins a command and calls remote_answer() for it, at once or later. */
    void (*start)(struct file *f, struct remote_cmd *c);
    /* Waits until the server or `wake` (a descriptor, which it leaves as it is) has something, for ms at most, and answers
     * commands. 0, or -errno: the connection is of no use any more. */
    int (*turn)(struct file *f, int wake, int ms);
    /* Instead of turn(), in the loop: which socket, and what of EPOLLIN and EPOLLOUT it waits for; and answers commands when that has come, as turn(). */
    int (*socket)(struct file *f, uint32_t *events);
    int (*ready)(struct file *f, uint32_t events);
    /* Ends the connection: afterwards no command's memory is touched. Commands may be answered meanwhile, and need not be. */
    void (*cut)(struct file *f);
    uint64_t transfer_max;      /* bytes; a read or write lies between two multiples of it */
    uint64_t range_max;         /* bytes of other commands */
    bool has_zero, has_extents; /* knows these commands at all */
    bool patient;               /* looks after servers that do not answer itself */
};
extern const struct file_protocol protocol_nbd, protocol_iscsi, protocol_http;

/* Protocols: a command's end; 0 or -errno. The command is gone then. */
void remote_answer(struct remote_cmd *c, int ret);
/* Protocols with a socket, for turn(): what has come for `fd`, 0 if nothing has, or -errno. */
int remote_poll(int fd, short events, int wake, int ms);
/* Seconds: the environment's LODGE_SERVER_TIMEOUT, or 60. */
unsigned remote_patience(void);

/* ---- file.c ---- */
int remote_open(struct file *f, const char *what, struct error *err);
void remote_close(struct file *f);
ssize_t remote_step(struct file *f, const struct io_step *s); /* as io_run() */
int remote_is_zero(struct file *f, uint64_t offset, uint64_t *len, bool *zero);

#endif
