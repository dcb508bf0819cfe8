// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vhostblk_test BACK: a disk that another process serves. Data go through several queues; a back end that dies is followed by the
 * next one, without the guest's help where that is safe; and one that answers nonsense costs the guest the device until its reset,
 * and nobody else anything, not even a descriptor.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "backs.h"
#include "base/log.h"
#include "base/util.h"
#include "devices/virtio/vblk_space.h"
#include "devices/virtio/vhost_blk.h"
#include "driver.h"
#include "net/vhost_user.h"
#include "vhostdisk.h"

#define SECTORS 2048u
#define QUEUES  3u

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8 };

static void set_size(unsigned sectors)
{
    AUTO_CLOSE int fd = open(backs_file, O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)sectors * 512) == 0);
}

/* ---- the guest ---- */

struct guest {
    struct rig r;
    struct vhost_blk *disk;
    struct drv d;
    uint64_t header, data, status;
};

static int make_disk(struct guest *g, unsigned queues, unsigned reconnect_s, struct error *err)
{
    struct vhost_blk_config cfg = {.slot = 5, .back = {vhost_user_create(backs_path), reconnect_s}, .queues = queues};
    rig_init(&g->r);
    if (vhost_blk_create(g->r.pci, &cfg, &g->disk, err) == 0)
        return 0;
    rig_free(&g->r);
    return -1;
}

static void make(struct guest *g, unsigned queues, unsigned reconnect_s)
{
    ERROR_SCOPED(err);
    if (make_disk(g, queues, reconnect_s, &err) < 0) {
        fprintf(stderr, "%s\n", error_text(&err));
        exit(1);
    }
    CHECK(pci_host_assign(g->r.pci, &err) == 0);
}

static void start(struct guest *g, uint64_t features, unsigned queues, bool msix)
{
    drv_find(&g->d, &g->r, PCI_DEVFN(5, 0), msix, 0);
    drv_start(&g->d, features, queues, 64);
    g->header = rig_alloc(&g->r, 16, 16);
    g->data = rig_alloc(&g->r, 8192, 16);
    g->status = rig_alloc(&g->r, 1, 1);
}

static void end(struct guest *g)
{
    vhost_blk_destroy(g->disk);
    rig_free(&g->r);
}

/* Adds a request on `bytes` of the data area, and kicks. */
static void add(struct guest *g, unsigned q, uint32_t type, uint64_t sector, uint32_t bytes)
{
    bool read = type == T_IN || type == T_GET_ID;
    const struct drv_buf in[] = {{g->header, 16, false}, {g->data, bytes, true}, {g->status, 1, true}},
                         out[] = {{g->header, 16, false}, {g->data, bytes, false}, {g->status, 1, true}},
                         none[] = {{g->header, 16, false}, {g->status, 1, true}};
    uint8_t *h = rig_at(&g->r, g->header);
    memset(h, 0, 16);
    memcpy(h, &type, sizeof type);
    memcpy(h + 8, &sector, sizeof sector);
    *(uint8_t *)rig_at(&g->r, g->status) = 0xff;
    drv_add(&g->d, q, bytes == 0 ? none : read ? in : out, bytes ? 3 : 2);
    drv_kick(&g->d, q);
}

static uint8_t finish(struct guest *g, unsigned q)
{
    uint16_t id;
    uint32_t len;
    CHECK(drv_wait(&g->d, q, &id, &len));
    return *(uint8_t *)rig_at(&g->r, g->status);
}

static void do_ok(struct guest *g, unsigned q, uint32_t type, uint64_t sector, uint32_t bytes)
{
    add(g, q, type, sector, bytes);
    CHECK_EQ(finish(g, q), 0);
}

static void fill(struct guest *g, uint8_t seed)
{
    uint8_t *p = rig_at(&g->r, g->data);
    for (unsigned i = 0; i < 4096; i++)
        p[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

static void write_read(struct guest *g, unsigned q, uint64_t sector, uint8_t seed)
{
    uint8_t want[4096], *p = rig_at(&g->r, g->data);
    fill(g, seed);
    memcpy(want, p, sizeof want);
    do_ok(g, q, T_OUT, sector, sizeof want);
    do_ok(g, q, T_FLUSH, 0, 0);
    memset(p, 0, sizeof want);
    do_ok(g, q, T_IN, sector, sizeof want);
    CHECK(memcmp(p, want, sizeof want) == 0);
}

static void check_id(struct guest *g, const char *want)
{
    do_ok(g, 0, T_GET_ID, 0, 20);
    CHECK(strcmp(rig_at(&g->r, g->data), want) == 0);
}

static uint64_t capacity(struct guest *g)
{
    return rig_read(&g->r, BUS_MMIO, g->d.device, 8);
}

static bool broken(struct guest *g)
{
    return drv_read(&g->d, DRV_STATUS, 1) & 64;
}

static void wait_broken(struct guest *g)
{
    uint64_t deadline = now_ns() + 120 * NS_PER_S;
    while (!broken(g) && now_ns() < deadline)
        usleep(1000);
    CHECK(broken(g));
}

/* ---- what works ---- */

static void test_data(uint64_t features, unsigned queues, bool msix)
{
    struct guest g;
    pid_t back = back_start("--file", backs_file, "--queues", "4");
    make(&g, queues, 0);
    for (unsigned life = 0; life < 3; life++) { /* a driver after another */
        start(&g, features | DRV_PACKED | VBLK_F_FLUSH | VBLK_F_MQ | VBLK_F_CONFIG_WCE, queues, msix);
        CHECK_EQ(g.d.features, features | DRV_V1 | VBLK_F_FLUSH | (queues > 1 ? VBLK_F_MQ : 0));
        CHECK_EQ(capacity(&g), SECTORS);
        CHECK_EQ(rig_read(&g.r, BUS_MMIO, g.d.device + offsetof(struct vblk_space, num_queues), 2), queues);
        for (unsigned i = 0; i < 100; i++)
            write_read(&g, i % queues, 8 * i, (uint8_t)(i + life));
        CHECK(drv_reset(&g.d));
    }
    end(&g);
    back_kill(back);
}

/* Nobody waits for an answer when it dies, nor before its death is noticed: the next one goes on. */
static void test_idle_death(const char *more)
{
    struct guest g;
    char number[16];
    AUTO_CLOSE int told = eventfd(0, 0); /* which the back end inherits */
    snprintf(number, sizeof number, "%d", told);
    pid_t back = back_start("--file", backs_file, "--queues", "4", more);
    make(&g, QUEUES, 1);
    start(&g, VBLK_F_MQ | VBLK_F_FLUSH | DRV_EVENT, QUEUES, true);
    for (unsigned life = 0; life < 3; life++) {
        for (unsigned q = 0; q < QUEUES; q++)
            write_read(&g, q, 16 * q, (uint8_t)(life + q));
        back_kill(back);
        back = back_start("--file", backs_file, "--queues", "4", "--tell", number, more);
        for (eventfd_t rings = 0, more_rings; rings < QUEUES; rings += more_rings)
            CHECK(eventfd_read(told, &more_rings) == 0);
    }
    write_read(&g, 1, 40, 3);
    CHECK(!broken(&g));
    CHECK(drv_reset(&g.d));
    end(&g);
    back_kill(back);
}

/* It dies with a request under way, of which it has made a note: the next one does it, and the guest sees one answer. */
static void test_death_underway(void)
{
    struct guest g;
    pid_t back = back_start("--file", backs_file);
    make(&g, 1, 1);
    start(&g, VBLK_F_FLUSH, 1, true);
    check_id(&g, "1 0");
    write_read(&g, 0, 0, 1);
    memset(rig_at(&g.r, g.data), VHOSTDISK_DEADLY, 512);
    add(&g, 0, T_OUT, SECTORS - 1, 512);
    back_wait(back);
    back = back_start("--file", backs_file);
    CHECK_EQ(finish(&g, 0), 0);
    check_id(&g, "2 1");
    do_ok(&g, 0, T_IN, SECTORS - 1, 512);
    CHECK_EQ(*(uint8_t *)rig_at(&g.r, g.data), VHOSTDISK_DEADLY);
    /* What was kept is of this life of the driver only. */
    CHECK(drv_reset(&g.d));
    start(&g, VBLK_F_FLUSH, 1, true);
    check_id(&g, "1 1");
    end(&g);
    back_kill(back);
}

/* It has made no note: what the guest waits for cannot be known, so the device asks for a reset; and so it does where nobody wants
 * to connect again. */
static void test_death_unknown(const char *forget, unsigned reconnect_s)
{
    struct guest g;
    pid_t back = back_start("--file", backs_file, forget);
    make(&g, 1, reconnect_s);
    start(&g, VBLK_F_FLUSH, 1, true);
    memset(rig_at(&g.r, g.data), VHOSTDISK_DEADLY, 512);
    add(&g, 0, T_OUT, SECTORS - 1, 512);
    back_wait(back);
    wait_broken(&g);
    CHECK(drv_reset(&g.d));
    back = back_start("--file", backs_file);
    start(&g, VBLK_F_FLUSH, 1, true);
    write_read(&g, 0, 0, 9);
    end(&g);
    back_kill(back);
}

/* The next one has a larger disk: the guest is told. One that lacks what the guest uses is none, and is tried again. */
static void test_other_back(void)
{
    struct guest g;
    pid_t back = back_start("--file", backs_file);
    make(&g, 1, 1);
    start(&g, VBLK_F_FLUSH, 1, true);
    write_read(&g, 0, 0, 1);
    unsigned seen = rig_msis(&g.r, 0);
    back_kill(back);
    back = back_start("--file", backs_file, "--poor");
    set_size(2 * SECTORS);
    add(&g, 0, T_FLUSH, 0, 0);
    usleep(1500000); /* the poor one has had its chance; nothing depends on how many it had */
    back_kill(back);
    back = back_start("--file", backs_file);
    CHECK_EQ(finish(&g, 0), 0);
    CHECK(rig_wait_msi(&g.r, 0, seen));
    CHECK_EQ(capacity(&g), 2 * SECTORS);
    write_read(&g, 0, SECTORS + 8, 1);
    end(&g);
    back_kill(back);
    set_size(SECTORS);
}

static void ask(struct guest *g, uint8_t what)
{
    memset(rig_at(&g->r, g->data), what, 512);
    do_ok(g, 0, T_OUT, capacity(g) - 1, 512);
}

/* It tells that its disk has another size, with or without waiting for this side's word. */
static void test_resize(void)
{
    struct guest g;
    pid_t back = back_start("--file", backs_file);
    make(&g, 1, 0);
    start(&g, VBLK_F_FLUSH, 1, true);
    for (unsigned i = 2; i < 5; i++) {
        unsigned seen = rig_msis(&g.r, 0);
        set_size(i * SECTORS);
        ask(&g, i % 2 ? VHOSTDISK_WAITS : VHOSTDISK_RESIZED);
        CHECK(rig_wait_msi(&g.r, 0, seen));
        CHECK_EQ(capacity(&g), i * SECTORS);
        write_read(&g, 0, i * SECTORS - 8, (uint8_t)i);
    }
    ask(&g, VHOSTDISK_UNKNOWN);
    write_read(&g, 0, 0, 1);
    CHECK(!broken(&g));
    end(&g);
    back_kill(back);
    set_size(SECTORS);
}

/* ---- what does not ---- */

/* Nonsense unasked. */
static void test_rude_asks(void)
{
    static const uint8_t whats[] = {VHOSTDISK_RUDE, VHOSTDISK_LONG};
    for (unsigned i = 0; i < ARRAY_SIZE(whats); i++) {
        struct guest g;
        unsigned fds = backs_open_fds();
        pid_t back = back_start("--file", backs_file);
        make(&g, 1, 0);
        start(&g, VBLK_F_FLUSH, 1, true);
        memset(rig_at(&g.r, g.data), whats[i], 512);
        add(&g, 0, T_OUT, SECTORS - 1, 512);
        wait_broken(&g);
        CHECK(drv_reset(&g.d));
        end(&g);
        CHECK_EQ(backs_open_fds(), fds);
        back_kill(back);
    }
}

static void refused(unsigned queues, const char *word, const char *a, const char *b)
{
    struct guest g;
    ERROR_SCOPED(err);
    unsigned fds = backs_open_fds();
    pid_t back = back_start("--file", backs_file, "--queues", "2", a, b);
    CHECK(make_disk(&g, queues, 0, &err) < 0);
    if (!strstr(error_text(&err), word) || strchr(error_text(&err), '\n')) {
        fprintf(stderr, "'%s' is not in: %s\n", word, error_text(&err));
        exit(1);
    }
    CHECK_EQ(backs_open_fds(), fds);
    back_kill(back);
}

static const char *const hows[] = {"request", "flags", "size", "long", "short", "close"};

/* Nonsense at each answer before there is a device. */
static void test_rude_greeting(void)
{
    static const unsigned requests[] = {1, 15, 17, 21, 24};
    for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
        for (unsigned k = 0; k < ARRAY_SIZE(hows); k++) {
            char spoil[32];
            snprintf(spoil, sizeof spoil, "%u:%s", requests[i], hows[k]);
            refused(1, "answer", "--spoil", spoil);
        }
    refused(1, "another part", "--spoil", "24:value");
    refused(3, "serves 2 queues", NULL, NULL);
    refused(1, "CONFIG", "--poor", NULL);
}

/* And when the driver starts the device, or resets it: descriptors that come unasked are dropped. */
static void rude_start(unsigned request, const char *how, bool harmless)
{
    struct guest g;
    char spoil[32];
    unsigned fds = backs_open_fds();
    snprintf(spoil, sizeof spoil, "%u:%s", request, how);
    pid_t back = back_start("--file", backs_file, "--spoil", spoil);
    make(&g, 1, 0);
    start(&g, VBLK_F_FLUSH, 1, true);
    if (harmless)
        write_read(&g, 0, 0, 5);
    else if (request != 11)
        wait_broken(&g);
    CHECK(drv_reset(&g.d));
    end(&g);
    CHECK_EQ(backs_open_fds(), fds);
    back_kill(back);
}

static void test_rude_start(void)
{
    static const unsigned requests[] = {2, 5, 8, 9, 10, 11, 12, 13, 18, 31, 32};
    for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
        for (unsigned k = 0; k < ARRAY_SIZE(hows); k++)
            rude_start(requests[i], hows[k], false);
    rude_start(5, "value", false);
    rude_start(31, "fds", false);
    rude_start(31, "nofd", false);
    rude_start(1, "fds", true);
    rude_start(18, "fds", true);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    log_set_level(LOG_ERROR);
    backs_open(argv[1]);
    set_size(SECTORS);
    test_data(0, 1, true);
    test_data(DRV_EVENT | DRV_INDIRECT, QUEUES, true);
    test_data(DRV_INDIRECT, 1, false);
    test_idle_death(NULL);
    test_idle_death("--forget");
    test_death_underway();
    test_death_unknown("--forget", 1);
    test_death_unknown(NULL, 0);
    test_other_back();
    test_rude_greeting();
    test_rude_start();
    test_resize();
    test_rude_asks();
    backs_close();
    return 0;
}
