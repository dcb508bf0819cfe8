// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A back end of vhost-user for a network card: a host at 10.9.0.1 that answers ARP and ping, and returns frames of Ethernet type
 * 88b5 to their sender.
 *
 *     vhostback PATH            listens there
 *     vhostback --fd N          on a socket that listens already
 *     vhostback … --spoil R:H   and spoils answers (peer.c)
 *
 * It serves one connection after another until it is killed.
 */
#include <stdio.h>
#include <string.h>

#include "base/iov.h"
#include "base/util.h"
#include "peer.h"

#define HDR       12 /* of virtio-net, before each frame */
#define FRAME_MAX 65550
#define PAIRS     4

static const uint8_t own_mac[6] = {0x52, 0x54, 0, 0xaa, 0xbb, 0xcc}, own_ip[4] = {10, 9, 0, 1};

/* ---- the host at 10.9.0.1 ---- */

static void swap(uint8_t *a, uint8_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
}

/* Makes the answer to a frame in its place; false when there is none. */
static bool answer(uint8_t *f, size_t len)
{
    bool arp = len >= 42 && f[12] == 0x08 && f[13] == 0x06 && f[21] == 1 && memcmp(f + 38, own_ip, 4) == 0;
    bool ping =
        len >= 42 && f[12] == 0x08 && f[13] == 0 && f[14] == 0x45 && f[23] == 1 && f[34] == 8 && memcmp(f + 30, own_ip, 4) == 0;
    bool echo = len >= 14 && f[12] == 0x88 && f[13] == 0xb5;
    if (!arp && !ping && !echo)
        return false;
    memcpy(f, f + 6, 6);
    memcpy(f + 6, own_mac, 6);
    if (arp) {
        f[21] = 2;
        swap(f + 22, f + 32, 10);
        memcpy(f + 22, own_mac, 6);
    } else if (ping) {
        swap(f + 26, f + 30, 4);
        f[34] = 0; /* echo reply; the checksum loses what the type did */
        unsigned sum = (unsigned)(f[36] << 8 | f[37]) + 0x800;
        sum = (sum & 0xffff) + (sum >> 16);
        f[36] = (uint8_t)(sum >> 8);
        f[37] = (uint8_t)sum;
    }
    return true;
}

/* ---- rings ---- */

/* The next request of a ring, or NULL when there is none; then the driver is to kick. */
static struct vq_elem *pop(struct peer_ring *r)
{
    struct vq_elem *e;
    for (;;) {
        int n = vq_pop(&r->vq, &e);
        if (n > 0) {
            if (r->vq.kicks_wanted)
                vq_set_kicks(&r->vq, false);
            return e;
        }
        if (n < 0 || r->vq.kicks_wanted || !vq_set_kicks(&r->vq, true))
            return NULL;
    }
}

static void serve_pair(struct peer *p, unsigned rx)
{
    static uint8_t frame[HDR + FRAME_MAX];
    struct peer_ring *in = &p->rings[rx], *out = &p->rings[rx + 1];
    struct vq_elem *e, *to;
    while (in->vq.started && in->enabled && out->vq.started && out->enabled && (e = pop(out))) {
        size_t len = iov_read(e->out, e->nout, 0, frame, sizeof frame);
        peer_push(p, rx + 1, e, 0);
        if (len <= HDR || !answer(frame + HDR, len - HDR) || !(to = pop(in)))
            continue;
        memset(frame, 0, HDR);
        frame[10] = 1; /* buffers */
        peer_push(p, rx, to, (uint32_t)iov_write(to->in, to->nin, 0, frame, len));
    }
}

static void serve_frames(struct peer *p)
{
    for (unsigned pair = 0; pair < PAIRS; pair++)
        serve_pair(p, 2 * pair);
}

int main(int argc, char **argv)
{
    static const struct peer_device device = {.features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC,
                                              .protocol = PEER_REPLY_ACK | PEER_MQ,
                                              .queues = PAIRS,
                                              .serve = serve_frames};
    if (argc < 2) {
        fputs("usage: vhostback PATH | --fd N [--spoil REQUEST:HOW]\n", stderr);
        return 2;
    }
    peer_main(argc, argv, &device);
}
