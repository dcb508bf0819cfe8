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

#define RX      0
#define TX      1
#define HDR     12
#define BUFFERS 16
#define BUFFER  2048

#define F_CSUM 0

/* ---- the guest ---- */

static pid_t start_rude(void)
{
    return back_start("--spoil", "0:flags");
}

struct card {
    struct drv d;
    uint64_t tx, rx;
    uint16_t buffer_of[DRV_SIZE];
};

static void post(struct card *c, unsigned i)
{
    uint16_t id = drv_add(&c->d, RX, &(struct drv_buf){c->rx + i * BUFFER, BUFFER, true}, 1);
    c->buffer_of[id] = (uint16_t)i;
    drv_kick(&c->d, RX);
}

static void start_driver(struct card *c, struct rig *r, uint64_t features, bool msix)
{
    drv_find(&c->d, r, PCI_DEVFN(5, 0), msix, 0);
    drv_start(&c->d, features, 2, 64);
    c->tx = rig_alloc(r, BUFFER, 16);
    c->rx = rig_alloc(r, BUFFERS * BUFFER, 16);
    for (unsigned i = 0; i < BUFFERS; i++)
        post(c, i);
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
    CHECK_EQ(drv_do(&c->d, TX, bufs, 3), 0);
    CHECK(drv_wait(&c->d, RX, &id, &got));
    const uint8_t *in = rig_at(c->d.rig, c->rx + c->buffer_of[id] * BUFFER);
    CHECK_EQ(got, HDR + len);
    CHECK(memcmp(in + HDR, out + HDR + 6, 6) == 0 && memcmp(in + HDR + 12, out + HDR + 12, len - 12) == 0);
    post(c, c->buffer_of[id]);
}

static struct vhost_net *make_card(struct rig *r)
{
    struct vhost_net_config cfg = {.slot = 5, .back = {backs_path, 0}, .mac = {0x52, 0x54, 0, 1, 2, 3}, .mtu = 1400};
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
    struct vhost_net *n = make_card(&r);
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
    struct vhost_net *n = make_card(&r);
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

static void refused(struct rig *r, const char *where, const char *word)
{
    struct vhost_net_config cfg = {.slot = 5, .back = {where, 0}};
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
    CHECK(vhost_fs_create(r.pci, &(struct vhost_fs_config){5, backs_path, longest}, &f, &err) < 0 && strstr(error_text(&err), "37 bytes"));
    error_clear(&err);
    longest[36] = 0;
    CHECK(vhost_fs_create(r.pci, &(struct vhost_fs_config){5, backs_path, longest}, &f, &err) == 0);
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
    test_refusals();
    backs_close();
    return 0;
}
