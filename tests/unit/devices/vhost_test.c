// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vhost_test BACK: a network card whose data path is another process. Frames go out and come back, the rings move to a new driver,
 * and a back end that dies, refuses or talks nonsense costs the guest the device until its reset, and nobody else anything.
 */
#include <stdio.h>
#include <string.h>

#include "backs.h"
#include "base/log.h"
#include "base/util.h"
#include "devices/virtio/vhost_fs.h"
#include "devices/virtio/vhost_net.h"
#include "driver.h"
#include "net/vhost_user.h"

#define RX      0
#define TX      1
#define HDR     12
#define BUFFERS 16
#define BUFFER  2048

#define F_CSUM    0
#define F_CTRL_VQ BIT64(17)
#define F_MQ      BIT64(22)

/* ---- the guest ---- */

static pid_t start_rude(void)
{
    return back_start("--spoil", "0:flags");
}

struct card {
    struct drv d;
    unsigned first; /* queue of the pair that it uses */
    uint64_t tx, rx;
    uint16_t buffer_of[DRV_SIZE];
};

static void post(struct card *c, unsigned i)
{
    uint16_t id = drv_add(&c->d, c->first + RX, &(struct drv_buf){c->rx + i * BUFFER, BUFFER, true}, 1);
    c->buffer_of[id] = (uint16_t)i;
    drv_kick(&c->d, c->first + RX);
}

static void use_pair(struct card *c, unsigned pair)
{
    struct rig *r = c->d.rig;
    c->first = 2 * pair;
    c->tx = rig_alloc(r, BUFFER, 16);
    c->rx = rig_alloc(r, BUFFERS * BUFFER, 16);
    for (unsigned i = 0; i < BUFFERS; i++)
        post(c, i);
}

static void start_driver(struct card *c, struct rig *r, uint64_t features, bool msix)
{
    drv_find(&c->d, r, PCI_DEVFN(5, 0), msix, 0);
    drv_start(&c->d, features, 2, 64);
    use_pair(c, 0);
}

/* Sends a frame of the type that comes back, and waits for it. */
static void echo(struct card *c, uint32_t len, uint8_t seed)
{
    uint8_t *out = rig_at(c->d.rig, c->tx);
    uint16_t id;
    uint32_t got;
    memset(out, 0, HDR);
    for (unsigned i = 0; i < len; i++)
        out[HDR + i] = (uint8_t)(seed + i);
    out[HDR + 12] = 0x88;
    out[HDR + 13] = 0xb5;
    const struct drv_buf bufs[] = {{c->tx, HDR, false}, {c->tx + HDR, 20, false}, {c->tx + HDR + 20, len - 20, false}};
    CHECK_EQ(drv_do(&c->d, c->first + TX, bufs, 3), 0);
    CHECK(drv_wait(&c->d, c->first + RX, &id, &got));
    const uint8_t *in = rig_at(c->d.rig, c->rx + c->buffer_of[id] * BUFFER);
    CHECK_EQ(got, HDR + len);
    CHECK(memcmp(in + HDR, out + HDR + 6, 6) == 0 && memcmp(in + HDR + 12, out + HDR + 12, len - 12) == 0);
    post(c, c->buffer_of[id]);
}

static struct vhost_net *make_card(struct rig *r, unsigned pairs, unsigned reconnect_s)
{
    struct vhost_net_config cfg = {
        .slot = 5, .back = {vhost_user_create(backs_path), reconnect_s}, .mac = {0x52, 0x54, 0, 1, 2, 3}, .pairs = pairs, .mtu = 1400};
    struct vhost_net *n;
    ERROR_SCOPED(err);
    rig_init(r);
    if (vhost_net_create(r->pci, &cfg, &n, &err) < 0) {
        fprintf(stderr, "%s\n", error_text(&err));
        exit(1);
    }
    CHECK(pci_host_assign(r->pci, &err) == 0);
    return n;
}

static void wait_broken(struct card *c)
{
    uint64_t end = now_ns() + 120 * NS_PER_S;
    while (!(drv_read(&c->d, DRV_STATUS, 1) & 64) && now_ns() < end)
        usleep(1000);
    CHECK(drv_read(&c->d, DRV_STATUS, 1) & 64);
}

static void test_frames(uint64_t features, bool msix)
{
    struct rig r;
    struct card c;
    pid_t back = back_start(NULL);
    struct vhost_net *n = make_card(&r, 1, 0);
    for (unsigned life = 0; life < 3; life++) { /* a driver after another */
        start_driver(&c, &r, features | DRV_PACKED | BIT64(F_CSUM), msix);
        CHECK_EQ(c.d.features, features | DRV_V1); /* the back end has neither packed rings nor checksums */
        CHECK_EQ(rig_read(&r, BUS_MMIO, c.d.device, 4), 0x01005452);
        for (unsigned i = 0; i < 200; i++)
            echo(&c, 60 + 7 * i % 1400, (uint8_t)i);
        CHECK(drv_reset(&c.d));
    }
    vhost_net_destroy(n);
    rig_free(&r);
    back_kill(back);
}

/* The device needs a reset then, and with the next back end it goes on. */
static void test_death(void)
{
    struct rig r;
    struct card c;
    pid_t back = back_start(NULL);
    struct vhost_net *n = make_card(&r, 1, 0);
    for (unsigned life = 0; life < 3; life++) {
        start_driver(&c, &r, 0, true);
        echo(&c, 100, 1);
        back_kill(back);
        wait_broken(&c);
        CHECK(drv_reset(&c.d));
        back = life == 1 ? start_rude() : back_start(NULL);
        if (life == 1) { /* a rude one is none */
            start_driver(&c, &r, 0, true);
            wait_broken(&c);
            CHECK(drv_reset(&c.d));
            back_kill(back);
            back = back_start(NULL);
        }
    }
    vhost_net_destroy(n); /* with nobody connected */
    rig_free(&r);
    back_kill(back);
}

/* The next back end sends and receives where the one before has stopped; the guest does nothing for that. */
static void test_reconnect(void)
{
    struct rig r;
    struct card c;
    pid_t back = back_start(NULL);
    struct vhost_net *n = make_card(&r, 1, 1);
    start_driver(&c, &r, DRV_EVENT, true);
    for (unsigned life = 0; life < 3; life++) {
        for (unsigned i = 0; i < 20; i++)
            echo(&c, 60 + 9 * i, (uint8_t)i);
        back_kill(back);
        back = back_start(NULL);
    }
    echo(&c, 100, 1);
    CHECK(!(drv_read(&c.d, DRV_STATUS, 1) & 64));
    vhost_net_destroy(n);
    rig_free(&r);
    back_kill(back);
}

/* By the control queue; the answer. */
static uint8_t set_pairs(struct card *c, unsigned control, uint8_t class, uint16_t pairs)
{
    struct rig *r = c->d.rig;
    uint64_t command = rig_alloc(r, 4, 2), status = rig_alloc(r, 1, 1);
    uint8_t *p = rig_at(r, command);
    const struct drv_buf bufs[] = {{command, 4, false}, {status, 1, true}};
    p[0] = class;
    p[1] = 0;
    memcpy(p + 2, &pairs, sizeof pairs);
    CHECK_EQ(drv_do(&c->d, control, bufs, 2), 1);
    return *(uint8_t *)rig_at(r, status);
}

static void test_pairs(void)
{
    struct rig r;
    struct card c;
    pid_t back = back_start(NULL);
    struct vhost_net *n = make_card(&r, 3, 0);
    for (unsigned life = 0; life < 2; life++) {
        drv_find(&c.d, &r, PCI_DEVFN(5, 0), true, 0);
        drv_start(&c.d, F_CTRL_VQ | F_MQ, 7, 64);
        CHECK_EQ(c.d.features, F_CTRL_VQ | F_MQ | DRV_V1);
        CHECK_EQ(rig_read(&r, BUS_MMIO, c.d.device + 8, 2), 3);
        CHECK_EQ(set_pairs(&c, 6, 4, 0), 1);
        CHECK_EQ(set_pairs(&c, 6, 4, 4), 1);
        CHECK_EQ(set_pairs(&c, 6, 3, 3), 1);
        CHECK_EQ(set_pairs(&c, 6, 4, 3), 0);
        for (unsigned pair = 3; pair-- > 0;) {
            use_pair(&c, pair);
            for (unsigned i = 0; i < 50; i++)
                echo(&c, 60 + 7 * i, (uint8_t)(i + pair));
        }
        CHECK_EQ(set_pairs(&c, 6, 4, 1), 0);
        echo(&c, 100, 1);
        CHECK(drv_reset(&c.d));
    }
    /* A driver without MQ has the control queue behind the first pair, and nothing to say there. */
    drv_start(&c.d, F_CTRL_VQ, 3, 64);
    CHECK_EQ(set_pairs(&c, 2, 4, 1), 1);
    use_pair(&c, 0);
    echo(&c, 100, 1);
    vhost_net_destroy(n);
    rig_free(&r);
    back_kill(back);
}

static void refused(struct rig *r, const char *where, const char *word)
{
    struct vhost_net_config cfg = {.slot = 5, .back = {vhost_user_create(where), 0}, .pairs = 5};
    struct vhost_net *n;
    ERROR_SCOPED(err);
    CHECK(vhost_net_create(r->pci, &cfg, &n, &err) < 0);
    if (!strstr(error_text(&err), word) || strchr(error_text(&err), '\n')) {
        fprintf(stderr, "'%s' is not in: %s\n", word, error_text(&err));
        exit(1);
    }
}

static void test_refusals(void)
{
    struct rig r;
    char longer[200];
    rig_init(&r);
    memset(longer, 'a', sizeof longer);
    longer[sizeof longer - 1] = 0;
    refused(&r, "/nonexistent/socket", "start the back end first");
    refused(&r, longer, "shorten it");
    pid_t back = start_rude();
    refused(&r, backs_path, "wrong answer");
    back_kill(back);
    back = back_start(NULL);
    refused(&r, backs_path, "serves 4 queues");
    back_kill(back);
    int fd = r.mem.fd;
    r.mem.fd = -1;
    refused(&r, backs_path, "private");
    r.mem.fd = fd;
    rig_free(&r);
}

/* A file system's configuration is this side's; its requests are those of a guest test, which has a back end for them. */
static void test_fs(void)
{
    struct rig r;
    struct drv d;
    struct vhost_fs *f;
    char longest[] = "0123456789abcdefghijklmnopqrstuvwxyz+";
    ERROR_SCOPED(err);
    pid_t back = back_start(NULL);
    rig_init(&r);
    CHECK(vhost_fs_create(r.pci, &(struct vhost_fs_config){5, vhost_user_create(backs_path), longest}, &f, &err) < 0 && strstr(error_text(&err), "37 bytes"));
    error_clear(&err);
    longest[36] = 0;
    CHECK(vhost_fs_create(r.pci, &(struct vhost_fs_config){5, vhost_user_create(backs_path), longest}, &f, &err) == 0);
    CHECK(pci_host_assign(r.pci, &err) == 0);
    CHECK_EQ(rig_cfg_read(&r, PCI_DEVFN(5, 0), 0, 4), 0x105a1af4);
    drv_find(&d, &r, PCI_DEVFN(5, 0), true, 0);
    drv_start(&d, DRV_PACKED | DRV_INDIRECT, 2, 64);
    CHECK_EQ(d.features, DRV_INDIRECT | DRV_V1);
    for (unsigned i = 0; i < 36; i++)
        CHECK_EQ(rig_read(&r, BUS_MMIO, d.device + i, 1), (uint8_t)longest[i]);
    CHECK_EQ(rig_read(&r, BUS_MMIO, d.device + 36, 4), 1);
    back_kill(back);
    uint64_t end = now_ns() + 120 * NS_PER_S;
    while (!(drv_read(&d, DRV_STATUS, 1) & 64) && now_ns() < end)
        usleep(1000);
    CHECK(drv_read(&d, DRV_STATUS, 1) & 64);
    vhost_fs_destroy(f);
    rig_free(&r);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    log_set_level(LOG_ERROR);
    backs_open(argv[1]);
    test_frames(0, true);
    test_frames(DRV_EVENT | DRV_INDIRECT, true);
    test_frames(DRV_INDIRECT, false);
    test_death();
    test_fs();
    test_reconnect();
    test_pairs();
    test_refusals();
    backs_close();
    return 0;
}
