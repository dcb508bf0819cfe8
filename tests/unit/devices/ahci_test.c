// SPDX-License-Identifier: GPL-2.0-or-later
/* The AHCI controller with a disk and a CD-ROM drive, as a driver meets them, polite and not. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "devices/ata/ahci.h"
#include "rig.h"

#define FN       PCI_DEVFN(31, 2)
#define BAR      RIG_MMIO32
#define PORT(n)  (BAR + 0x100 + 0x80 * (n))
#define DISK     0
#define CDROM    2
#define DISK_LEN (4 * MIB)
#define DISC_LEN (MIB)

enum {
    CLB = 0x00,
    CLBU = 0x04,
    FB = 0x08,
    IS = 0x10,
    IE = 0x14,
    CMD = 0x18,
    TFD = 0x20,
    SIG = 0x24,
    SSTS = 0x28,
    SCTL = 0x2c,
    SERR = 0x30,
    SACT = 0x34,
    CI = 0x38
};

static struct rig rig, *const r = &rig;
static struct ahci *ahci;
static struct block *blocks[2];
static uint64_t lists[AHCI_PORTS], fises[AHCI_PORTS], tables[AHCI_PORTS], buffer;

static uint32_t get(unsigned port, unsigned reg)
{
    return (uint32_t)rig_read(r, BUS_MMIO, PORT(port) + reg, 4);
}

static void put(unsigned port, unsigned reg, uint32_t val)
{
    rig_write(r, BUS_MMIO, PORT(port) + reg, 4, val);
}

/* Waits until the bits of a register are as wanted; the thread of the port works meanwhile. */
static bool comes(unsigned port, unsigned reg, uint32_t mask, uint32_t want)
{
    for (unsigned i = 0; i < 240000; i++) {
        if ((get(port, reg) & mask) == want)
            return true;
        usleep(500);
    }
    return false;
}

static struct block *open_image(char *path, size_t len, bool readonly)
{
    ERROR_SCOPED(err);
    struct block *b;
    AUTO_CLOSE int fd = mkstemp(path);
    CHECK(fd >= 0);
    for (size_t at = 0; at < len; at += 512) {
        uint8_t sector[512];
        memset(sector, (int)(at / 512 * 7), sizeof sector);
        CHECK(write(fd, sector, sizeof sector) == (ssize_t)sizeof sector);
    }
    CHECK(block_open(&(struct block_config){.path = path, .format = "raw", .readonly = readonly}, &b, &err) == 0);
    unlink(path);
    return b;
}

static void start_port(unsigned port)
{
    put(port, CMD, 0x16);
    CHECK(comes(port, SSTS, 0xf, 3) && comes(port, TFD, 0x88, 0));
    put(port, SERR, ~0u);
    put(port, IS, ~0u);
    put(port, CLB, (uint32_t)lists[port]);
    put(port, FB, (uint32_t)fises[port]);
    put(port, CMD, 0x17);
}

static void restart_port(unsigned port)
{
    put(port, CMD, 0x16);
    CHECK(comes(port, CMD, 0x8000, 0));
    start_port(port);
}

struct fis {
    uint8_t command, features, device;
    uint64_t lba;
    uint16_t count;
    uint8_t features_high;
    const uint8_t *packet;
};

/* Writes the command of a slot; its data is at `buffer`, in two pieces. */
static void prepare(unsigned port, unsigned slot, const struct fis *f, uint32_t len)
{
    uint64_t table = tables[port] + slot * 0x200;
    uint8_t *t = rig_at(r, table), cfis[20] = {0x27, 0x80, f->command, f->features};
    uint32_t *h = rig_at(r, lists[port] + slot * 32), *prd = (uint32_t *)(t + 0x80);
    for (unsigned i = 0; i < 3; i++) {
        cfis[4 + i] = (uint8_t)(f->lba >> (8 * i));
        cfis[8 + i] = (uint8_t)(f->lba >> (24 + 8 * i));
    }
    cfis[7] = f->device | 0x40;
    cfis[11] = f->features_high;
    cfis[12] = (uint8_t)f->count;
    cfis[13] = (uint8_t)(f->count >> 8);
    memset(t, 0, 0x200);
    memcpy(t, cfis, sizeof cfis);
    if (f->packet)
        memcpy(t + 0x40, f->packet, 12);
    unsigned n = len == 0 ? 0 : len > 512 ? 2 : 1;
    h[0] = 5 | (f->packet ? 0x20 : 0) | n << 16;
    h[1] = 0;
    h[2] = (uint32_t)table;
    h[3] = 0;
    if (n) {
        prd[0] = (uint32_t)buffer, prd[1] = 0, prd[3] = (n == 2 ? 512 : len) - 1;
        prd[4] = (uint32_t)buffer + 512, prd[5] = 0, prd[7] = len - 512 - 1;
    }
}

static void issue(unsigned port, unsigned slot)
{
    put(port, CI, 1u << slot);
}

/* A command alone, to its end; the task file. */
static uint32_t run(unsigned port, const struct fis *f, uint32_t len)
{
    put(port, IS, ~0u);
    prepare(port, 3, f, len);
    issue(port, 3);
    for (unsigned i = 0; i < 240000 && !(get(port, IS) & 0x40000003); i++)
        usleep(500);
    uint32_t tfd = get(port, TFD);
    if (get(port, IS) & 0x40000000) {
        CHECK(get(port, CI) & 8);
        restart_port(port);
    }
    CHECK_EQ(get(port, CI), 0);
    return tfd;
}

#define GOOD 0x50

/* ---- the controller ---- */

static void registers(void)
{
    CHECK_EQ(rig_cfg_read(r, FN, 0, 4), 0x29228086);
    CHECK_EQ(rig_cfg_read(r, FN, 9, 2), 0x0601);
    CHECK_EQ(rig_read(r, BUS_MMIO, BAR, 4) & 0xc0001f1f, 0xc0001f05);
    CHECK_EQ(rig_read(r, BUS_MMIO, BAR + 1, 1), 0x1f);
    CHECK_EQ(rig_read(r, BUS_MMIO, BAR + 0x0c, 4), 0x3f);
    CHECK_EQ(get(1, SSTS), 0); /* nothing is there */
    CHECK(comes(DISK, SSTS, 0xf, 3) && comes(CDROM, SSTS, 0xf, 3));
    CHECK_EQ(get(DISK, SIG), 0x101);
    CHECK_EQ(get(CDROM, SIG), 0xeb140101);
    put(DISK, CI, 1); /* not started: no effect */
    CHECK_EQ(get(DISK, CI), 0);
}

static void identify(void)
{
    uint16_t *w = rig_at(r, buffer);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0xec}, 512), GOOD);
    CHECK_EQ(get(DISK, IS) & 3, 2); /* told by a PIO setup FIS */
    CHECK_EQ(w[100] | w[101] << 16, DISK_LEN / 512);
    CHECK_EQ(w[75] & 31, 31);
    uint8_t sum = 0;
    for (unsigned i = 0; i < 512; i++)
        sum = (uint8_t)(sum + ((uint8_t *)w)[i]);
    CHECK_EQ(sum, 0);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0xa1}, 512), 0x451); /* aborted: it is no CD-ROM drive */
    CHECK_EQ(run(CDROM, &(struct fis){.command = 0xec}, 512), 0x451);
    CHECK_EQ(run(CDROM, &(struct fis){.command = 0xa1}, 512), GOOD);
    CHECK_EQ(w[0], 0x85c0);
}

/* ---- the disk ---- */

static void transfers(void)
{
    uint8_t *data = rig_at(r, buffer);
    uint32_t *header = rig_at(r, lists[DISK] + 3 * 32);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = 5, .count = 3}, 1536), GOOD);
    CHECK(data[0] == 35 && data[512] == 42 && data[1535] == 49);
    CHECK_EQ(header[1], 1536);
    CHECK_EQ(((uint8_t *)rig_at(r, fises[DISK] + 0x40))[0], 0x34);
    memset(data, 0xaa, 1024);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x3d, .lba = 6, .count = 2}, 1024), GOOD); /* through the cache */
    CHECK_EQ(run(DISK, &(struct fis){.command = 0xc8, .lba = 5, .count = 4}, 2048), GOOD); /* 28-bit */
    CHECK(data[0] == 35 && data[512] == 0xaa && data[1024] == 0xaa && data[1536] == 56);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0xea}, 0), GOOD);
    /* TRIM sectors 8 to 15. */
    memset(data, 0, 512);
    data[0] = 8, data[6] = 8;
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x06, .features = 1, .count = 1}, 512), GOOD);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = 8, .count = 1}, 512), GOOD);
    CHECK(data[0] == 0 && data[511] == 0);
    /* The write cache off, and on. */
    CHECK_EQ(run(DISK, &(struct fis){.command = 0xef, .features = 0x82}, 0), GOOD);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0xca, .lba = 20, .count = 1}, 512), GOOD);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0xef, .features = 0x02}, 0), GOOD);
}

static void refusals(void)
{
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = DISK_LEN / 512, .count = 1}, 512), 0x1051);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = ~0ull >> 16, .count = 0}, 512), 0x1051);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = 0, .count = 2}, 512), 0x451); /* more than there is memory */
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = 0, .count = 1}, 0), 0x451);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x06, .features = 1, .count = 9}, 512), 0x451);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0xb0}, 0), 0x451);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = 1, .count = 1}, 512), GOOD); /* and it goes on */
}

/* Four queued commands at once; then one that fails, which stops the queue and is in the log. */
static void queue(void)
{
    uint8_t *data = rig_at(r, buffer);
    for (unsigned slot = 4; slot < 8; slot++)
        prepare(DISK, slot, &(struct fis){.command = 0x60, .features = 1, .lba = 30, .count = (uint16_t)(slot << 3)}, 512);
    put(DISK, IS, ~0u);
    put(DISK, SACT, 0xf0);
    put(DISK, CI, 0xf0);
    CHECK(comes(DISK, SACT, ~0u, 0) && comes(DISK, CI, ~0u, 0));
    CHECK_EQ(get(DISK, IS) & 8, 8);
    CHECK_EQ(data[0], 210);
    put(DISK, IS, ~0u);
    prepare(DISK, 9, &(struct fis){.command = 0x60, .features = 1, .lba = 1ull << 40, .count = 9 << 3}, 512);
    put(DISK, SACT, 1 << 9);
    put(DISK, CI, 1 << 9);
    CHECK(comes(DISK, IS, 0x40000000, 0x40000000));
    CHECK_EQ(get(DISK, SACT), 1 << 9);
    CHECK_EQ(get(DISK, TFD), 0x1051);
    restart_port(DISK);
    CHECK_EQ(get(DISK, SACT), 0);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x2f, .lba = 0x10, .count = 1}, 512), GOOD);
    CHECK(data[0] == 9 && data[3] == 0x10 && data[10] == 1);
    /* A tag that is not the slot's. */
    prepare(DISK, 9, &(struct fis){.command = 0x60, .features = 1, .lba = 1, .count = 4 << 3}, 512);
    put(DISK, IS, ~0u);
    put(DISK, SACT, 1 << 9);
    put(DISK, CI, 1 << 9);
    CHECK(comes(DISK, IS, 0x40000000, 0x40000000));
    restart_port(DISK);
}

/* Memory that does not exist: a host bus error, which a restart ends. */
static void nowhere(void)
{
    uint32_t *h = rig_at(r, lists[DISK] + 3 * 32), *prd = rig_at(r, tables[DISK] + 3 * 0x200 + 0x80);
    for (unsigned what = 0; what < 4; what++) {
        prepare(DISK, 3, &(struct fis){.command = 0x25, .lba = 1, .count = 1}, 512);
        put(DISK, IS, ~0u);
        if (what == 0)
            h[3] = 0xffffffff; /* the table */
        else if (what == 1)
            prd[1] = 0x1234; /* the data */
        else if (what == 2)
            prd[3] = 0x3fffff; /* behind the end of memory */
        else
            h[0] = 5 | 0xffffu << 16; /* more regions than any driver has */
        prd[0] = what == 2 ? RIG_LOW - 4096 : prd[0];
        issue(DISK, 3);
        CHECK(comes(DISK, IS, 1u << 29, 1u << 29));
        restart_port(DISK);
        CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = 1, .count = 1}, 512), GOOD);
    }
    /* The command list and the area for FISes themselves. */
    put(DISK, CMD, 0x16);
    CHECK(comes(DISK, CMD, 0x8000, 0));
    put(DISK, CLBU, 0x7fffffff);
    put(DISK, CMD, 0x17);
    put(DISK, IS, ~0u);
    issue(DISK, 3);
    CHECK(comes(DISK, IS, 1u << 29, 1u << 29));
    put(DISK, CMD, 0x16);
    CHECK(comes(DISK, CMD, 0x8000, 0));
    put(DISK, CLBU, 0);
    start_port(DISK);
}

static void interrupts(void)
{
    unsigned gsi = pci_intx_gsi(31, 1), cap = rig_cap(r, FN, 5, 0);
    rig_write(r, BUS_MMIO, BAR + 4, 4, 0x80000002);
    put(DISK, IE, 1);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = 1, .count = 1}, 512), GOOD);
    CHECK(rig_gsi(r, gsi));
    rig_write(r, BUS_MMIO, BAR + 8, 4, 1); /* the port has not been served yet */
    CHECK(rig_gsi(r, gsi));
    put(DISK, IS, ~0u);
    rig_write(r, BUS_MMIO, BAR + 8, 4, 1);
    CHECK(!rig_gsi(r, gsi));
    /* By message. */
    rig_cfg_write(r, FN, cap + 4, 4, 0xfee00000);
    rig_cfg_write(r, FN, cap + 8, 4, 0);
    rig_cfg_write(r, FN, cap + 12, 2, 17);
    rig_cfg_write(r, FN, cap + 2, 2, 1);
    unsigned seen = rig_msis(r, 17);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = 1, .count = 1}, 512), GOOD);
    CHECK(rig_wait_msi(r, 17, seen));
    CHECK(!rig_gsi(r, gsi));
    put(DISK, IS, ~0u);
    rig_write(r, BUS_MMIO, BAR + 8, 4, ~0u);
    put(DISK, IE, 0);
    rig_cfg_write(r, FN, cap + 2, 2, 0);
}

static void resets(void)
{
    /* The link. */
    put(DISK, CMD, 0x16);
    CHECK(comes(DISK, CMD, 0x8000, 0));
    put(DISK, SCTL, 0x301);
    CHECK_EQ(get(DISK, SSTS) & 15, 0);
    put(DISK, SCTL, 0x300);
    CHECK(comes(DISK, SSTS, 15, 3) && comes(DISK, TFD, 0x80, 0));
    CHECK_EQ(get(DISK, SIG), 0x101);
    CHECK(get(DISK, SERR) & 1u << 26);
    start_port(DISK);
    /* By a FIS: SRST on, then off. */
    prepare(DISK, 0, &(struct fis){0}, 0);
    uint8_t *cfis = rig_at(r, tables[DISK]);
    cfis[1] = 0, cfis[15] = 4;
    issue(DISK, 0);
    CHECK(comes(DISK, CI, 1, 0));
    cfis[15] = 0;
    issue(DISK, 0);
    CHECK(comes(DISK, CI, 1, 0));
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = 1, .count = 1}, 512), GOOD);
    /* The controller, with a command in flight. */
    prepare(DISK, 3, &(struct fis){.command = 0x25, .lba = 1, .count = 1}, 512);
    issue(DISK, 3);
    rig_write(r, BUS_MMIO, BAR + 4, 4, 0x80000001);
    for (unsigned i = 0; i < 240000 && rig_read(r, BUS_MMIO, BAR + 4, 4) != 0x80000000; i++)
        usleep(500);
    CHECK_EQ(rig_read(r, BUS_MMIO, BAR + 4, 4), 0x80000000);
    CHECK_EQ(get(DISK, CLB), 0);
    start_port(DISK);
    start_port(CDROM);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = 1, .count = 1}, 512), GOOD);
}

/* ---- the CD-ROM drive ---- */

static uint32_t packet(const uint8_t p[12], uint32_t len)
{
    return run(CDROM, &(struct fis){.command = 0xa0, .features = 1, .packet = p}, len);
}

/* Fetches the sense: key, code, qualifier. */
static uint32_t sense(void)
{
    const uint8_t *data = rig_at(r, buffer);
    CHECK_EQ(packet((uint8_t[12]){0x03, 0, 0, 0, 18}, 18), GOOD);
    return (uint32_t)(data[2] << 16 | data[12] << 8 | data[13]);
}

static void cdrom(void)
{
    const uint8_t *data = rig_at(r, buffer);
    CHECK_EQ(packet((uint8_t[12]){0x00}, 0), GOOD);
    CHECK_EQ(packet((uint8_t[12]){0x12, 0, 0, 0, 36}, 36), GOOD);
    CHECK(data[0] == 5 && memcmp(data + 8, "LODGE", 5) == 0);
    CHECK_EQ(packet((uint8_t[12]){0x25}, 8), GOOD);
    CHECK(data[2] == 1 && data[3] == 0xff && data[6] == 8); /* the last of 512 blocks; 2048 bytes */
    CHECK_EQ(packet((uint8_t[12]){0x28, 0, 0, 0, 0, 2, 0, 0, 1}, 2048), GOOD);
    CHECK(data[0] == (8 * 7 & 0xff) && data[512] == (9 * 7 & 0xff));
    CHECK_EQ(packet((uint8_t[12]){0xbe, 0, 0, 0, 0, 1, 0, 0, 1, 0x10}, 2048), GOOD);
    CHECK_EQ(data[0], 28);
    CHECK_EQ(packet((uint8_t[12]){0x28, 0, 0, 0, 2, 0, 0, 0, 1}, 2048), 0x5451);
    CHECK_EQ(sense(), 0x052100);
    CHECK_EQ(sense(), 0);
    CHECK_EQ(packet((uint8_t[12]){0xa8, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 2048), 0x5451);
    CHECK_EQ(packet((uint8_t[12]){0x2a}, 2048), 0x5451); /* there is no writing */
    CHECK_EQ(sense(), 0x052000);
    CHECK_EQ(packet((uint8_t[12]){0x43, 2, 0, 0, 0, 0, 0, 0, 20}, 20), GOOD);
    CHECK(data[1] == 18 && data[14] == 0xaa && data[18] == 8); /* the lead-out: 512 + 150 frames are 8.62 s */
    /* The tray: locked, opened, closed with a change to tell. */
    CHECK_EQ(packet((uint8_t[12]){0x1e, 0, 0, 0, 1}, 0), GOOD);
    CHECK_EQ(packet((uint8_t[12]){0x1b, 0, 0, 0, 2}, 0), 0x5451);
    CHECK_EQ(packet((uint8_t[12]){0x1e, 0, 0, 0, 0}, 0), GOOD);
    CHECK_EQ(packet((uint8_t[12]){0x1b, 0, 0, 0, 2}, 0), GOOD);
    CHECK_EQ(packet((uint8_t[12]){0x00}, 0), 0x2451);
    CHECK_EQ(sense(), 0x023a00);
    CHECK_EQ(packet((uint8_t[12]){0x1b, 0, 0, 0, 3}, 0), GOOD);
    CHECK_EQ(packet((uint8_t[12]){0x00}, 0), 0x6451);
    CHECK_EQ(sense(), 0x062800);
    CHECK_EQ(packet((uint8_t[12]){0x00}, 0), GOOD);
}

/* ---- any register, any command ---- */

static void noise(unsigned rounds)
{
    struct rnd rnd = {now_ns() | 1};
    printf("seed %llu\n", (unsigned long long)rnd.state);
    fflush(stdout);
    for (unsigned i = 0; i < rounds; i++) {
        unsigned port = rnd_below(&rnd, 2) ? DISK : CDROM, slot = rnd_below(&rnd, 32);
        uint32_t val = rnd_below(&rnd, 3) ? (uint32_t)rnd64(&rnd) : 1u << rnd_below(&rnd, 32);
        switch (rnd_below(&rnd, 6)) {
        case 0:
            rig_write(r, BUS_MMIO, BAR + rnd_below(&rnd, 1024) * 4, 1u << rnd_below(&rnd, 4), val);
            break;
        case 1:
            rig_read(r, BUS_MMIO, BAR + rnd_below(&rnd, 4092), 1u << rnd_below(&rnd, 3));
            break;
        case 2: /* noise in the command's memory */
            for (unsigned k = 0; k < 8; k++)
                *(uint32_t *)rig_at(r, tables[port] + slot * 0x200 + rnd_below(&rnd, 128) * 4) = (uint32_t)rnd64(&rnd);
            break;
        case 3: {
            uint8_t p[12];
            for (unsigned k = 0; k < 12; k++)
                p[k] = (uint8_t)(rnd_below(&rnd, 2) ? rnd64(&rnd) : 0);
            bool ata = rnd_below(&rnd, 2);
            prepare(port, slot,
                    &(struct fis){.command = (uint8_t)(ata ? rnd64(&rnd) : 0xa0),
                                  .features = (uint8_t)rnd64(&rnd),
                                  .lba = rnd_below(&rnd, 2) ? rnd64(&rnd) : rnd_below(&rnd, 9000),
                                  .count = (uint16_t)(rnd_below(&rnd, 2) ? rnd64(&rnd) : slot << 3),
                                  .packet = ata ? NULL : p},
                    rnd_below(&rnd, 2) ? 512 * (1 + rnd_below(&rnd, 32)) : rnd_below(&rnd, 8192));
            if (rnd_below(&rnd, 2))
                put(port, SACT, 1u << slot);
            issue(port, slot);
            break;
        }
        case 4:
            put(port, CMD, 0x16);
            put(port, CLB, (uint32_t)lists[port]);
            put(port, FB, (uint32_t)fises[port]);
            put(port, CLBU, 0);
            put(port, CMD, 0x17);
            break;
        case 5:
            put(port, SCTL, rnd_below(&rnd, 2) ? 0x300 : 0x301);
            break;
        }
    }
    /* After all that, a reset makes it a controller again. */
    pci_host_reset(r->pci);
    rig_cfg_write(r, FN, 0x24, 4, BAR);
    rig_cfg_write(r, FN, 4, 2, 6);
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        memset(rig_at(r, tables[i]), 0, 32 * 0x200);
    start_port(DISK);
    start_port(CDROM);
    CHECK_EQ(run(DISK, &(struct fis){.command = 0x25, .lba = 1, .count = 1}, 512), GOOD);
    packet((uint8_t[12]){0x1b, 0, 0, 0, 3}, 0);
    packet((uint8_t[12]){0x00}, 0);
    CHECK_EQ(packet((uint8_t[12]){0x00}, 0), GOOD);
}

int main(int argc, char **argv)
{
    char disk[] = "/tmp/lodge-disk-XXXXXX", disc[] = "/tmp/lodge-disc-XXXXXX";
    struct ata_device *dev;
    rig_init(r);
    blocks[0] = open_image(disk, DISK_LEN, false);
    blocks[1] = open_image(disc, DISC_LEN, true);
    CHECK(ahci_create(r->pci, &ahci, NULL) == 0);
    CHECK(ata_disk_create(blocks[0], "SERIAL", &dev, NULL) == 0 && ahci_attach(ahci, DISK, dev, NULL) == 0);
    CHECK(ata_cdrom_create(blocks[1], "DISC", &dev, NULL) == 0 && ahci_attach(ahci, CDROM, dev, NULL) == 0);
    CHECK(ahci_attach(ahci, CDROM, dev, NULL) < 0 && ahci_attach(ahci, AHCI_PORTS, dev, NULL) < 0);
    rig_cfg_write(r, FN, 0x24, 4, BAR);
    rig_cfg_write(r, FN, 4, 2, 6);
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        lists[i] = rig_alloc(r, 1024, 1024);
        fises[i] = rig_alloc(r, 256, 256);
        tables[i] = rig_alloc(r, 32 * 0x200, 128);
    }
    buffer = rig_alloc(r, 64 * KIB, 4096);
    registers();
    start_port(DISK);
    start_port(CDROM);
    identify();
    transfers();
    refusals();
    queue();
    nowhere();
    interrupts();
    cdrom();
    resets();
    noise(argc > 1 ? (unsigned)atoi(argv[1]) : 240000);
    ahci_destroy(ahci);
    block_close(blocks[0]);
    block_close(blocks[1]);
    rig_free(r);
    return 0;
}
