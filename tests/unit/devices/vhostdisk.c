// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A back end of vhost-user for a disk, which is a file, so that it outlives this process.
 *
 *     vhostdisk SOCKET|--fd N --file PATH [--queues N] [--forget] [--poor] [--spoil R:H]
 *
 * --forget: it does not note its requests in flight. --poor: it can neither flush nor tell of its configuration.
 *
 * It answers in order. A write of DEADLY bytes to the last sector kills it before it answers, unless it was under way when the
 * process before it died. Its name (GET_ID) says how often the front end has brought its memory, and how many requests were under
 * way then.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/iov.h"
#include "devices/virtio/vblk_space.h"
#include "peer.h"
#include "vhostdisk.h"

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8 };
enum { S_OK, S_IOERR, S_UNSUPP };

struct header {
    uint32_t type, reserved;
    uint64_t sector;
};

static int disk;
static uint64_t sectors;
static struct vblk_space space = {.seg_max = 62, .blk_size = 512, .num_queues = 99};
static uint32_t found_underway; /* when it came */

static bool transfer(const struct header *h, const struct vq_elem *e, bool write)
{
    uint8_t buf[64 * 512];
    uint64_t len = write ? e->out_len - sizeof *h : e->in_len - 1u;
    if (len % 512 || h->sector > sectors || len / 512 > sectors - h->sector)
        return false;
    for (uint64_t at = 0, n; at < len; at += n) {
        off_t where = (off_t)(h->sector * 512 + at);
        n = MIN(len - at, sizeof buf);
        if (write ? iov_read(e->out, e->nout, sizeof *h + at, buf, n) != n || pwrite(disk, buf, n, where) != (ssize_t)n
                  : pread(disk, buf, n, where) != (ssize_t)n || iov_write(e->in, e->nin, at, buf, n) != n)
            return false;
    }
    return true;
}

static void measure(void)
{
    struct stat st;
    if (fstat(disk, &st) < 0)
        peer_die("fstat");
    space.capacity = sectors = (uint64_t)st.st_size / 512;
}

static uint8_t wish(const struct header *h, const struct vq_elem *e)
{
    uint8_t first = 0;
    bool last = h->type == T_OUT && h->sector + (e->out_len - sizeof *h) / 512 == sectors;
    return last && iov_read(e->out, e->nout, e->out_len - 512, &first, 1) == 1 ? first : 0;
}

static void grant(struct peer *p, uint8_t what)
{
    if (p->asks < 0)
        return;
    switch (what) {
    case VHOSTDISK_RESIZED:
    case VHOSTDISK_WAITS:
        measure();
        peer_ask(p, PEER_CONFIG_CHANGED, PEER_VERSION | (what == VHOSTDISK_WAITS ? PEER_NEED_REPLY : 0), 0);
        if (what == VHOSTDISK_WAITS && peer_asked(p, PEER_CONFIG_CHANGED) != 0)
            peer_die("refused");
        break;
    case VHOSTDISK_UNKNOWN:
        peer_ask(p, 77, PEER_VERSION | PEER_NEED_REPLY, 0);
        if (peer_asked(p, 77) == 0)
            peer_die("not refused");
        break;
    case VHOSTDISK_RUDE:
        peer_ask(p, PEER_CONFIG_CHANGED, 0, 0);
        break;
    case VHOSTDISK_LONG:
        peer_ask(p, PEER_CONFIG_CHANGED, PEER_VERSION, 1u << 30);
        break;
    default:
        break;
    }
}

static uint8_t answer(const struct peer *p, const struct header *h, const struct vq_elem *e)
{
    char id[20] = "";
    switch (h->type) {
    case T_IN:
    case T_OUT:
        return transfer(h, e, h->type == T_OUT) ? S_OK : S_IOERR;
    case T_FLUSH:
        return fsync(disk) == 0 ? S_OK : S_IOERR;
    case T_GET_ID:
        snprintf(id, sizeof id, "%u %u", p->kept ? p->kept->lives : 0, found_underway);
        iov_write(e->in, e->nin, 0, id, sizeof id);
        return S_OK;
    default:
        return S_UNSUPP;
    }
}

static void serve_request(struct peer *p, unsigned ring, struct vq_elem *e)
{
    struct header h = {.type = UINT32_MAX};
    iov_read(e->out, e->nout, 0, &h, sizeof h);
    if (p->kept)
        p->kept->underway++;
    uint8_t what = wish(&h, e);
    if (what == VHOSTDISK_DEADLY && !found_underway)
        _exit(0);
    uint8_t status = answer(p, &h, e);
    grant(p, what);
    iov_write(e->in, e->nin, e->in_len - 1, &status, 1);
    peer_push(p, ring, e, e->in_len);
    if (p->kept)
        p->kept->underway--;
}

static void serve(struct peer *p)
{
    for (unsigned q = 0; q < PEER_RINGS; q++) {
        struct vq *vq = &p->rings[q].vq;
        struct vq_elem *e;
        if (!vq->started)
            continue;
        if (p->kept) {
            found_underway += p->kept->underway;
            p->kept->underway = 0;
        }
        do {
            while (vq_pop(vq, &e) > 0)
                serve_request(p, q, e);
        } while (!vq->broken && vq_set_kicks(vq, true));
    }
}

int main(int argc, char **argv)
{
    int file = peer_argument(argc, argv, "--file"), queues = peer_argument(argc, argv, "--queues");
    bool forget = peer_argument(argc, argv, "--forget"), poor = peer_argument(argc, argv, "--poor");
    if (!file || (disk = open(argv[file + 1], O_RDWR)) < 0)
        peer_die("no --file");
    measure();
    const struct peer_device device = {
        .features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_RING_PACKED | VBLK_F_SEG_MAX |
                    VBLK_F_BLK_SIZE | VBLK_F_MQ | VBLK_F_CONFIG_WCE | (poor ? 0 : VBLK_F_FLUSH),
        .protocol = PEER_REPLY_ACK | PEER_MQ | (poor ? 0 : PEER_CONFIG | PEER_ASKS) | (forget ? 0 : PEER_INFLIGHT),
        .queues = queues ? strtoul(argv[queues + 1], NULL, 10) : 1,
        .config = &space,
        .config_len = VBLK_SPACE_BYTES,
        .serve = serve};
    peer_main(argc, argv, &device);
}
