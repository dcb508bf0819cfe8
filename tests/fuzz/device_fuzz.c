// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A virtio device under libFuzzer: the rings are a polite driver's (tests/unit/devices/driver.c; virtqueue_fuzz.c breaks rings),
 * what lies in the buffers, how they are cut, the features and the registers of the device are the input's. Answers must be ones
 * that the driver can have waited for, and the device must come to rest when it is reset.
 *
 * FUZZ_DEVICE names the one device. With -DSTANDALONE there is a main that feeds each device pseudo-random inputs, with a fixed
 * seed.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../unit/devices/driver.h"
#include "base/util.h"
#include "devices/virtio/v9p.h"
#include "devices/virtio/vballoon.h"
#include "devices/virtio/vblk.h"
#include "devices/virtio/vconsole.h"
#include "devices/virtio/vnet.h"
#include "devices/virtio/vpmem.h"
#include "devices/virtio/vrng.h"
#include "devices/virtio/vscsi.h"
#include "devices/virtio/vserial.h"
#include "devices/virtio/vsock.h"
#include "net/net.h"

#define SLOT        5
#define RING        64u
#define ROUNDS      3u
#define OUT_BYTES   4096u  /* of one request */
#define IN_BYTES    16384u /* the device writes there; all requests share it */
#define DISK_BYTES  MIB
#define ANSWER_WAIT (60 * NS_PER_S)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct lab {
    struct rig r;
    struct drv d;
    uint64_t mark; /* where guest memory is free */
    bool holes;    /* the device may take the rings' memory away, as the guest asked */
    char dir[32];
} lab;

/* What an input is made of. */
struct head {
    uint32_t features, rings;
};
struct record {
    uint8_t queue, kind, cut,
        next; /* kind 0: a register of the device, at `out_len`, gets `in_len`; next bit 0: the last of its round */
    uint16_t out_len, in_len;
};

/* ---- the devices ---- */

static struct block *open_disk(const char *name)
{
    char path[64];
    struct block *b;
    ERROR_SCOPED(err);
    snprintf(path, sizeof path, "%s/%s", lab.dir, name);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, DISK_BYTES) == 0);
    CHECK(block_open(&(struct block_config){.path = path, .format = "raw"}, &b, &err) == 0);
    return b;
}

static void swallow(void *opaque, const void *buf, size_t len)
{
    (void)opaque, (void)buf, (void)len;
}

static int make_blk(struct error *err)
{
    struct vblk *blk;
    return vblk_create(lab.r.pci, &(struct vblk_config){.slot = SLOT, .block = open_disk("blk"), .queues = 2, .serial = "x"}, &blk,
                       err);
}

static int make_scsi(struct error *err)
{
    struct vscsi *s;
    if (vscsi_create(lab.r.pci, &(struct vscsi_config){.slot = SLOT}, &s, err) < 0)
        return -1;
    for (unsigned i = 0; i < 3; i++) {
        struct vscsi_unit_config cfg = {.cdrom = i > 0, .block = i < 2 ? open_disk(i ? "cd" : "disk") : NULL};
        if (vscsi_attach(s, i, &cfg, err) < 0)
            return -1;
    }
    return 0;
}

static int make_net(struct error *err)
{
    struct netdev *user;
    struct vnet *net;
    if (net_user_create(&(struct net_user_config){.restricted = true}, &user, err) < 0)
        return -1;
    return vnet_create(lab.r.pci, &(struct vnet_config){.slot = SLOT, .net = user, .pairs = 2, .mac = {2}}, &net, err);
}

static int make_console(struct error *err)
{
    struct vconsole *c;
    return vconsole_create(lab.r.pci, &(struct vconsole_config){SLOT, {.write = swallow}}, &c, err);
}

static int make_rng(struct error *err)
{
    struct vrng *rng;
    return vrng_create(lab.r.pci, &(struct vrng_config){SLOT}, &rng, err);
}

static int make_pmem(struct error *err)
{
    struct vpmem *p;
    char path[64];
    snprintf(path, sizeof path, "%s/pmem", lab.dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    return vpmem_create(lab.r.pci, &(struct vpmem_config){.slot = SLOT, .start = 64 * GIB, .size = 2 * MIB, .fd = fd}, &p, err);
}

static int make_balloon(struct error *err)
{
    struct vballoon *b;
    lab.holes = true;
    return vballoon_create(lab.r.pci, &(struct vballoon_config){.slot = SLOT, .reporting = true, .inflated = MIB}, &b, err);
}

static int make_vsock(struct error *err)
{
    static char path[64];
    struct vsock *s;
    snprintf(path, sizeof path, "%s/vsock", lab.dir);
    return vsock_create(lab.r.pci, &(struct vsock_config){SLOT, 3, path}, &s, err);
}

static int make_9p(struct error *err)
{
    static char path[64];
    struct share *share;
    struct v9p *v;
    snprintf(path, sizeof path, "%s/share", lab.dir);
    CHECK(mkdir(path, 0700) == 0);
    if (share_open(&(struct share_config){.path = path, .access = SHARE_SQUASH}, &share, err) < 0)
        return -1;
    return v9p_create(lab.r.pci, &(struct v9p_config){SLOT, share, "tag"}, &v, err);
}

static int make_serial(struct error *err)
{
    static char path[64];
    struct vserial *s;
    snprintf(path, sizeof path, "%s/port", lab.dir);
    const struct vserial_port_config port = {"port", path};
    return vserial_create(lab.r.pci, &(struct vserial_config){SLOT, &port, 1}, &s, err);
}

static const struct device {
    const char *name;
    int (*make)(struct error *err);
} devices[] = {{"blk", make_blk},         {"scsi", make_scsi},   {"net", make_net}, {"console", make_console}, {"rng", make_rng},
               {"balloon", make_balloon}, {"vsock", make_vsock}, {"9p", make_9p},   {"serial", make_serial},     {"pmem", make_pmem}};

static void clean(void)
{
    char line[64];
    snprintf(line, sizeof line, "rm -rf %s", lab.dir);
    if (system(line) != 0)
        fprintf(stderr, "device_fuzz: %s stays\n", lab.dir);
}

/* A board with the device of that name, which lives as long as the process. */
static void prepare(const char *name)
{
    ERROR_SCOPED(err);
    rig_init(&lab.r);
    strcpy(lab.dir, "/tmp/lodge-fuzz-XXXXXX");
    CHECK(mkdtemp(lab.dir));
    atexit(clean);
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
        if (strcmp(devices[i].name, name) == 0 && (devices[i].make(&err) < 0 || pci_host_assign(lab.r.pci, &err) < 0)) {
            fprintf(stderr, "%s\n", error_text(&err));
            exit(1);
        }
    drv_find(&lab.d, &lab.r, PCI_DEVFN(SLOT, 0), true, 0);
    lab.mark = lab.r.next;
}

/* ---- one input ---- */

/* Waits until the device's thread has taken every kick, so that it has seen what is in the rings. */
static void settle(void)
{
    uint64_t deadline = now_ns() + ANSWER_WAIT;
    for (unsigned q = 0; q < lab.d.nqueues; q++)
        drv_force_kick(&lab.d, q);
    for (unsigned i = 0; i < ARRAY_SIZE(lab.r.ioeventfds); i++) {
        struct pollfd p = {.fd = lab.r.ioeventfds[i].fd, .events = POLLIN};
        while (lab.r.ioeventfds[i].addr && poll(&p, 1, 0) > 0) {
            CHECK(now_ns() < deadline);
            usleep(20);
        }
    }
}

static void take_answers(void)
{
    uint16_t id;
    uint32_t len;
    if (lab.holes)
        return;
    for (unsigned q = 0; q < lab.d.nqueues; q++)
        while (drv_take(&lab.d, q, &id, &len))
            ;
}

/* Two buffers at most each way, cut where the input says. */
static void add_request(const struct record *c, const uint8_t *data, size_t have, uint64_t in)
{
    unsigned q = c->queue % lab.d.nqueues, n = 0;
    uint32_t out_len = (uint32_t)MIN((size_t)c->out_len % OUT_BYTES, have), in_len = c->in_len % IN_BYTES;
    uint32_t out_cut = out_len ? c->cut % out_len : 0, in_cut = in_len ? c->cut % in_len : 0;
    struct drv_buf bufs[4];
    if (lab.d.q[q].nfree < ARRAY_SIZE(bufs) || out_len + in_len == 0)
        return;
    uint64_t out = rig_alloc(&lab.r, out_len + 1, 1);
    memcpy(rig_at(&lab.r, out), data, out_len);
    if (out_cut)
        bufs[n++] = (struct drv_buf){out, out_cut, false};
    if (out_len)
        bufs[n++] = (struct drv_buf){out + out_cut, out_len - out_cut, false};
    if (in_cut)
        bufs[n++] = (struct drv_buf){in, in_cut, true};
    if (in_len)
        bufs[n++] = (struct drv_buf){in + in_cut, in_len - in_cut, true};
    drv_add(&lab.d, q, bufs, n);
}

static void run_round(const uint8_t **data, size_t *size, uint64_t in)
{
    struct record c;
    do {
        if (*size < sizeof c)
            return;
        memcpy(&c, *data, sizeof c);
        *data += sizeof c;
        *size -= sizeof c;
        if (c.kind == 0 && lab.d.device) {
            rig_write(&lab.r, BUS_MMIO, lab.d.device + c.out_len % 96, 1u << c.cut % 4, c.in_len);
            continue;
        }
        size_t used = MIN((size_t)c.out_len % OUT_BYTES, *size);
        add_request(&c, *data, used, in);
        *data += used;
        *size -= used;
    } while (!(c.next & 1));
}

static void run_input(const uint8_t *data, size_t size)
{
    struct head h;
    if (size < sizeof h)
        return;
    memcpy(&h, data, sizeof h);
    data += sizeof h;
    size -= sizeof h;
    lab.r.next = lab.mark;
    uint64_t in = rig_alloc(&lab.r, IN_BYTES, 16),
             rings = (h.rings & 1 ? DRV_PACKED : 0) | (h.rings & 2 ? DRV_EVENT : 0) | (h.rings & 4 ? DRV_INDIRECT : 0);
    unsigned nqueues = (unsigned)MIN(drv_read(&lab.d, DRV_NUM_QUEUES, 2), (uint64_t)DRV_QUEUES);
    drv_start(&lab.d, (h.features & 0xffffff) | rings, nqueues, RING);
    for (unsigned i = 0; i < ROUNDS; i++) {
        run_round(&data, &size, in);
        settle();
        take_answers();
    }
    CHECK(drv_reset(&lab.d));
}

#ifdef STANDALONE
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    run_input(data, size);
    return 0;
}

/* Numbers that are small as often as not: types, lengths and tags mostly are. */
static uint8_t number(struct rnd *rnd)
{
    return rnd_below(rnd, 2) ? 0 : rnd_below(rnd, 2) ? (uint8_t)rnd_below(rnd, 16) : (uint8_t)rnd64(rnd);
}

/* Records, most of them with room for a request and its answer; the bytes it took. */
static size_t fill(uint8_t *p, size_t room, struct rnd *rnd)
{
    struct head h = {(uint32_t)rnd64(rnd), rnd_below(rnd, 8)};
    size_t at = sizeof h;
    memcpy(p, &h, sizeof h);
    for (unsigned n = 1 + rnd_below(rnd, 40); n > 0 && at + sizeof(struct record) + 512 < room; n--) {
        struct record c = {
            .queue = number(rnd), .kind = (uint8_t)rnd_below(rnd, 16), .cut = (uint8_t)rnd64(rnd), .next = rnd_below(rnd, 8) == 0};
        bool odd = rnd_below(rnd, 32) == 0;
        c.out_len = (uint16_t)(odd ? rnd_below(rnd, 32) : 64 + rnd_below(rnd, 448));
        c.in_len = (uint16_t)(odd ? rnd_below(rnd, 32) : rnd_below(rnd, IN_BYTES));
        memcpy(p + at, &c, sizeof c);
        at += sizeof c;
        for (unsigned i = 0; i < c.out_len && c.kind; i++)
            p[at++] = number(rnd);
    }
    return at;
}

int main(int argc, char **argv)
{
    static uint8_t input[8192];
    const char *name = argc > 1 ? argv[1] : "blk";
    unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 300;
    struct rnd rnd = {1};
    prepare(name);
    for (unsigned i = 0; i < rounds; i++) {
        size_t size = fill(input, sizeof input, &rnd);
        LLVMFuzzerTestOneInput(input, size);
    }
    return 0;
}
#else
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!lab.mark)
        prepare(FUZZ_DEVICE);
    run_input(data, size);
    return 0;
}
#endif
