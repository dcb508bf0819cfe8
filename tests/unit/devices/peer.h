/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other side of vhost-user, for tests: a back end whose rings are walked by Lodge's own library, on the memory that the front
 * end has passed, and which can spoil an answer.
 */
#ifndef LODGE_TESTS_PEER_H
#define LODGE_TESTS_PEER_H

#include "devices/virtio/queue.h"
#include "devices/virtio/virtio.h"

#define PEER_REGIONS GUESTMEM_REGIONS
#define PEER_RINGS   16

/* Of the protocol. */
#define PEER_MQ        BIT64(0)
#define PEER_REPLY_ACK BIT64(3)
#define PEER_ASKS      BIT64(5)
#define PEER_CONFIG    BIT64(9)
#define PEER_INFLIGHT  BIT64(12)

struct peer;

struct peer_device {
    uint64_t features, protocol; /* that it offers */
    uint64_t queues;             /* that it claims to have */
    const void *config;
    uint32_t config_len;
    void (*serve)(struct peer *p); /* after whatever happened */
};

struct peer_ring {
    struct vq vq;
    struct vq_config cfg;
    uint16_t base;
    int kick, call;
    bool enabled;
};

/* What it keeps over its death, where the front end brings it back. */
struct peer_memory {
    uint32_t lives;    /* front ends that have brought this */
    uint32_t underway; /* requests taken and not answered */
};

struct peer {
    int fd;
    int asks; /* where it may ask the front end, -1: nowhere */
    const struct peer_device *dev;
    uint64_t features;
    struct guestmem mem;
    uint64_t user[PEER_REGIONS]; /* where the front end has each region */
    struct peer_ring rings[PEER_RINGS];
    struct peer_memory *kept; /* NULL: the front end has brought nothing */
    int tell;                 /* eventfd that is written to when it gets its first kick, -1: none */
    unsigned spoiled;         /* the request whose answer is spoiled; 0: every one, by `spoil` */
    const char *spoil;        /* how; NULL: nothing is */
};

/* Serves connections until it is killed. argv: PATH, or --fd N; then perhaps --spoil REQUEST:HOW, with HOW of peer.c, and --tell N,
 * an eventfd that gets 1 when a ring starts. */
void peer_main(int argc, char **argv, const struct peer_device *dev);
/* Answers a request and interrupts the driver, if it wants that. */
void peer_push(struct peer *p, unsigned ring, struct vq_elem *e, uint32_t written);
/* Asks the front end. */
#define PEER_CONFIG_CHANGED 2u
#define PEER_VERSION        1u /* flags */
#define PEER_NEED_REPLY     8u
void peer_ask(struct peer *p, uint32_t request, uint32_t flags, uint32_t size);
/* The front end's answer to that: 0, or what it is refused with. */
uint64_t peer_asked(struct peer *p, uint32_t request);
/* The index of an argument, 0 when it is not there. */
int peer_argument(int argc, char **argv, const char *name);
_Noreturn void peer_die(const char *what);

#endif
