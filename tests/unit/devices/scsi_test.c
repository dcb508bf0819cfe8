// SPDX-License-Identifier: GPL-2.0-or-later
/* virtio-scsi: a disk, a CD-ROM drive, a disk that may not be written, driven with every kind of ring; task management and events;
 * noise. */
#include <fcntl.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "devices/virtio/vscsi.h"
#include "modes.h"

#define SECTORS    8192u
#define DATA_BYTES (64 * KIB)

enum { REQUESTS = 2 };
enum { OK = 0, OVERRUN = 1, BAD_TARGET = 3, SUCCEEDED = 10, REJECTED = 11, INCORRECT_LUN = 12 };
enum { HEADER = 19 + 32, RESPONSE = 12 + 96 };

struct lab {
    struct rig r;
    struct drv d;
    char path[32];
    struct block *blocks[4];
    struct vscsi *scsi;
    uint64_t header, response, data; /* guest addresses */
    /* Of the last answer: */
    uint32_t answer, sense, residual;
    uint8_t status;
};

/* One command; its response. `in` is the direction of `len` bytes of data. */
static uint8_t run_at(struct lab *l, const uint8_t lun[8], const void *cdb, size_t cdb_len, uint32_t len, bool in)
{
    uint8_t *h = rig_at(&l->r, l->header), *a = rig_at(&l->r, l->response);
    memset(h, 0, HEADER);
    memcpy(h, lun, 8);
    h[8] = 77; /* the tag */
    memcpy(h + 19, cdb, cdb_len);
    memset(a, 0xaa, RESPONSE);
    struct drv_buf bufs[5] = {{l->header, 30, false}, {l->header + 30, HEADER - 30, false}};
    unsigned n = 2;
    if (len && !in)
        bufs[n++] = (struct drv_buf){l->data, len, false};
    bufs[n++] = (struct drv_buf){l->response, RESPONSE, true};
    if (len && in)
        bufs[n++] = (struct drv_buf){l->data, len, true};
    l->answer = drv_do(&l->d, REQUESTS, bufs, n);
    memcpy(&l->residual, a + 4, 4);
    l->status = a[10];
    l->sense = l->status == 2 ? (uint32_t)((a[12 + 2] & 15) << 16 | a[12 + 12] << 8 | a[12 + 13]) : 0;
    return a[11];
}

static uint8_t run(struct lab *l, unsigned lun, const void *cdb, size_t cdb_len, uint32_t len, bool in)
{
    return run_at(l, (const uint8_t[8]){1, 0, 0x40, (uint8_t)lun}, cdb, cdb_len, len, in);
}

#define CDB(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
#define GOOD(l, lun, len, in, ...)                            \
    do {                                                      \
        CHECK_EQ(run(l, lun, CDB(__VA_ARGS__), len, in), OK); \
        CHECK_EQ((l)->sense, 0);                              \
        CHECK_EQ((l)->status, 0);                             \
    } while (0)
#define FAILS(l, lun, code, len, in, ...)                     \
    do {                                                      \
        CHECK_EQ(run(l, lun, CDB(__VA_ARGS__), len, in), OK); \
        CHECK_EQ((l)->status, 2);                             \
        CHECK_EQ((l)->sense, code);                           \
    } while (0)

static uint8_t *data(struct lab *l)
{
    return rig_at(&l->r, l->data);
}

/* ---- what the units say of themselves ---- */

static void identity(struct lab *l)
{
    for (unsigned lun = 0; lun < 3; lun++) {
        GOOD(l, lun, 36, true, 0x12, 0, 0, 0, 36); /* INQUIRY passes a unit attention, */
        CHECK_EQ(data(l)[0], lun == 1 ? 5 : 0);
        FAILS(l, lun, 0x062900, 0, true, 0x00); /* which the next command gets, */
        GOOD(l, lun, 0, true, 0x00);            /* once */
    }
    CHECK(memcmp(data(l) + 8, "LODGE   DISK", 12) == 0);
    GOOD(l, 0, 4096, true, 0x12, 0, 0, 4, 0);
    CHECK_EQ(l->residual, 4096 - 36);
    CHECK_EQ(l->answer, RESPONSE + 36);
    GOOD(l, 7, 36, true, 0x12, 0, 0, 0, 36);
    CHECK_EQ(data(l)[0], 0x7f);
    FAILS(l, 7, 0x052500, 0, true, 0x00);
    CHECK_EQ(run_at(l, (const uint8_t[8]){1, 1}, CDB(0x00), 0, true), BAD_TARGET);
    GOOD(l, 0, 64, true, 0x12, 1, 0x80, 0, 64);
    CHECK(data(l)[3] == 10 && memcmp(data(l) + 4, "the-serial", 10) == 0);
    GOOD(l, 0, 64, true, 0x12, 1, 0x00, 0, 64);
    CHECK(memcmp(data(l), "\0\0\0\6\0\x80\x83\xb0\xb1\xb2", 10) == 0);
    GOOD(l, 0, 96, true, 0x12, 1, 0x83, 0, 96);
    CHECK_EQ(data(l)[4], 2);
    GOOD(l, 0, 64, true, 0x12, 1, 0xb0, 0, 64);
    CHECK_EQ(data(l)[3], 60);
    GOOD(l, 0, 64, true, 0x12, 1, 0xb2, 0, 64);
    CHECK_EQ(data(l)[5], 0xe0);
    FAILS(l, 0, 0x052400, 64, true, 0x12, 1, 0x77, 0, 64);
    GOOD(l, 0, 64, true, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64); /* REPORT LUNS */
    CHECK(data(l)[3] == 24 && data(l)[9] == 0 && data(l)[17] == 1 && data(l)[25] == 2);
    GOOD(l, 0, 8, true, 0x25);
    CHECK(data(l)[2] == (SECTORS - 1) >> 8 && data(l)[6] == 2);
    GOOD(l, 0, 32, true, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32);
    CHECK(data(l)[6] == (SECTORS - 1) >> 8 && data(l)[14] == 0x80);
    GOOD(l, 1, 8, true, 0x25);
    CHECK(data(l)[3] == 255 && data(l)[6] == 8); /* 256 blocks of 2048 bytes */
    FAILS(l, 0, 0x052000, 0, true, 0xee);
}

/* ---- data ---- */

/* One transfer of `count` sectors by a command of 6, 10, 12 or 16 bytes. */
static void transfer(struct lab *l, bool write, unsigned size, uint32_t sector, uint32_t count)
{
    uint8_t s1 = (uint8_t)(sector >> 8), s0 = (uint8_t)sector, n = (uint8_t)count;
    uint32_t len = 512 * count;
    uint8_t w = write ? 2 : 0;
    switch (size) {
    case 6:
        GOOD(l, 0, len, !write, (uint8_t)(8 + w), 0, s1, s0, n, 0);
        break;
    case 10:
        GOOD(l, 0, len, !write, (uint8_t)(0x28 + w), 0, 0, 0, s1, s0, 0, 0, n, 0);
        break;
    case 12:
        GOOD(l, 0, len, !write, (uint8_t)(0xa8 + w), 8, 0, 0, s1, s0, 0, 0, 0, n, 0, 0);
        break;
    default:
        GOOD(l, 0, len, !write, (uint8_t)(0x88 + w), 0, 0, 0, 0, 0, 0, 0, s1, s0, 0, 0, 0, n, 0, 0);
        break;
    }
    CHECK_EQ(l->residual, 0);
}

static void transfers(struct lab *l)
{
    static const unsigned sizes[] = {6, 10, 12, 16};
    struct rnd rnd = {9};
    uint8_t *shadow = calloc(SECTORS, 512);
    /* WRITE SAME with zeroes and the longest count makes the disk what the shadow is. */
    memset(data(l), 0, 512);
    GOOD(l, 0, 512, false, 0x93, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, SECTORS >> 8, 0, 0, 0);
    for (unsigned i = 0; i < 200; i++) {
        uint32_t count = 1 + rnd_below(&rnd, 16), sector = rnd_below(&rnd, SECTORS - count), len = 512 * count;
        uint8_t *at = shadow + 512ull * sector, s1 = (uint8_t)(sector >> 8), s0 = (uint8_t)sector;
        switch (rnd_below(&rnd, 4)) {
        case 0:
            transfer(l, false, sizes[i % 4], sector, count);
            CHECK(memcmp(data(l), at, len) == 0);
            break;
        case 1:
            for (unsigned b = 0; b < len; b++)
                at[b] = data(l)[b] = (uint8_t)rnd64(&rnd);
            transfer(l, true, sizes[i % 4], sector, count);
            break;
        case 2: /* WRITE SAME with a pattern, over more than one write of it */
            sector = rnd_below(&rnd, SECTORS - 4000);
            s1 = (uint8_t)(sector >> 8), s0 = (uint8_t)sector;
            memset(data(l), (int)i | 1, 512);
            memset(shadow + 512ull * sector, (int)i | 1, 512 * 3000);
            GOOD(l, 0, 512, false, 0x41, 0, 0, 0, s1, s0, 0, 3000 >> 8, 3000 & 255, 0);
            break;
        case 3: /* without data: zeroes */
            memset(at, 0, len);
            GOOD(l, 0, 0, false, 0x93, 9, 0, 0, 0, 0, 0, 0, s1, s0, 0, 0, 0, (uint8_t)count, 0, 0);
            break;
        }
    }
    GOOD(l, 0, 0, true, 0x35);
    GOOD(l, 0, 0, true, 0x91);
    for (unsigned s = 0; s < SECTORS; s += 64) {
        transfer(l, false, 10, s, 64);
        CHECK(memcmp(data(l), shadow + 512ull * s, 64 * 512) == 0);
    }
    free(shadow);
}

static void refusals(struct lab *l)
{
    FAILS(l, 0, 0x052100, 512, true, 0x28, 0, 0, 0, SECTORS >> 8, 0, 0, 0, 1);
    FAILS(l, 0, 0x052100, 512, true, 0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
    FAILS(l, 0, 0x052100, 1024, true, 0x28, 0, 0, 0, (SECTORS - 1) >> 8, 0xff, 0, 0, 2);
    CHECK_EQ(run(l, 0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 2), 1023, true), OVERRUN);
    CHECK_EQ(run(l, 0, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 2), 1023, false), OVERRUN);
    FAILS(l, 0, 0x052400, 512, true, 0x28, 0x20, 0, 0, 0, 0, 0, 0, 1); /* protection information */
    FAILS(l, 2, 0x072700, 512, false, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1);
    FAILS(l, 2, 0x072700, 512, false, 0x41, 0, 0, 0, 0, 0, 0, 0, 1);
    FAILS(l, 2, 0x072700, 24, false, 0x42, 0, 0, 0, 0, 0, 0, 0, 24);
    GOOD(l, 2, 512, true, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
    GOOD(l, 0, 0, true, 0x2f, 0, 0, 0, 0, 0, 0, 0, 1); /* VERIFY */
    FAILS(l, 0, 0x052400, 512, false, 0x2f, 2, 0, 0, 0, 0, 0, 0, 1);
}

static void put_range(uint8_t *p, uint64_t sector, uint32_t count)
{
    memset(p, 0, 16);
    for (unsigned i = 0; i < 8; i++)
        p[i] = (uint8_t)(sector >> (56 - 8 * i));
    for (unsigned i = 0; i < 4; i++)
        p[8 + i] = (uint8_t)(count >> (24 - 8 * i));
}

static void unmapping(struct lab *l)
{
    uint8_t *p = data(l);
    memset(p, 0, 8);
    p[1] = 38, p[3] = 32;
    put_range(p + 8, 0, 8);
    put_range(p + 24, SECTORS - 8, 8);
    GOOD(l, 0, 40, false, 0x42, 0, 0, 0, 0, 0, 0, 0, 40);
    put_range(p + 24, SECTORS - 8, 9);
    FAILS(l, 0, 0x052100, 40, false, 0x42, 0, 0, 0, 0, 0, 0, 0, 40);
    put_range(p + 24, ~0ull, ~0u);
    FAILS(l, 0, 0x052600, 40, false, 0x42, 0, 0, 0, 0, 0, 0, 0, 40);
    p[2] = 0xff, p[3] = 0xff; /* more than is there */
    FAILS(l, 0, 0x052600, 40, false, 0x42, 0, 0, 0, 0, 0, 0, 0, 40);
    CHECK_EQ(run(l, 0, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 40), 39, false), OVERRUN);
    FAILS(l, 0, 0x051a00, 4, false, 0x42, 0, 0, 0, 0, 0, 0, 0, 4);
}

static void modes_pages(struct lab *l)
{
    uint8_t *p = data(l);
    GOOD(l, 0, 255, true, 0x1a, 0, 0x3f, 0, 255);
    CHECK(p[3] == 8 && p[2] == 0x10 && p[12] == 1 && p[24] == 8 && p[26] == 4);
    GOOD(l, 2, 255, true, 0x5a, 8, 0x08, 0, 0, 0, 0, 0, 255);
    CHECK(p[3] == 0x90 && p[8] == 8);
    memset(p, 0, 24);
    p[4] = 8, p[5] = 18;
    GOOD(l, 0, 24, false, 0x15, 0x10, 0, 0, 24); /* the write cache off, */
    GOOD(l, 0, 24, true, 0x1a, 8, 0x08, 0, 24);
    CHECK_EQ(p[6], 0);
    transfer(l, true, 10, 5, 1);
    memset(p, 0, 24);
    p[4] = 8, p[5] = 18, p[6] = 4;
    GOOD(l, 0, 24, false, 0x15, 0x10, 0, 0, 24); /* and on */
    p[6] = 5;
    FAILS(l, 0, 0x052600, 24, false, 0x15, 0x10, 0, 0, 24);
    CHECK_EQ(run(l, 0, CDB(0x15, 0x10, 0, 0, 24), 23, false), OVERRUN);
    FAILS(l, 0, 0x053900, 255, true, 0x1a, 0, 0xc8, 0, 255);
    FAILS(l, 0, 0x052400, 255, true, 0x1a, 0, 0x22, 0, 255);
}

static void cdrom(struct lab *l)
{
    uint8_t *p = data(l);
    GOOD(l, 1, 2048, true, 0x28, 0, 0, 0, 0, 2, 0, 0, 1);
    CHECK(p[0] == 2 && p[2047] == 2);
    CHECK_EQ(run(l, 1, CDB(0x28, 0, 0, 0, 0, 2, 0, 0, 1), 2047, true), OVERRUN);
    FAILS(l, 1, 0x052100, 2048, true, 0x28, 0, 0, 0, 1, 0, 0, 0, 1);
    GOOD(l, 1, 20, true, 0x43, 0, 0, 0, 0, 0, 0, 0, 20);
    GOOD(l, 1, 0, true, 0x1e, 0, 0, 0, 1);
    FAILS(l, 1, 0x055302, 0, true, 0x1b, 0, 0, 0, 2); /* the tray is locked */
    GOOD(l, 1, 0, true, 0x1e, 0, 0, 0, 0);
    GOOD(l, 1, 0, true, 0x1b, 0, 0, 0, 2);
    FAILS(l, 1, 0x023a00, 0, true, 0x00);
    GOOD(l, 1, 0, true, 0x1b, 0, 0, 0, 3);
    FAILS(l, 1, 0x062800, 0, true, 0x00);
    GOOD(l, 1, 0, true, 0x00);
    FAILS(l, 1, 0x052000, 2048, false, 0x2a);
}

/* ---- task management and events ---- */

static uint8_t control(struct lab *l, uint32_t type, uint32_t subtype, unsigned lun, uint64_t tag)
{
    uint8_t *q = rig_at(&l->r, l->header), *a = rig_at(&l->r, l->response);
    memset(q, 0, 24);
    memcpy(q, &type, 4);
    memcpy(q + 4, &subtype, 4);
    q[8] = 1, q[10] = 0x40, q[11] = (uint8_t)lun;
    memcpy(q + 16, &tag, 8);
    *a = 0xaa;
    struct drv_buf bufs[] = {{l->header, 24, false}, {l->response, 1, true}};
    CHECK_EQ(drv_do(&l->d, 0, bufs, 2), 1);
    return *a;
}

static void task_management(struct lab *l)
{
    CHECK_EQ(control(l, 0, 6, 0, 77), OK); /* QUERY TASK: nothing is under way */
    CHECK_EQ(control(l, 0, 0, 0, 77), OK); /* ABORT TASK */
    CHECK_EQ(control(l, 0, 1, 0, 0), OK);
    CHECK_EQ(control(l, 0, 2, 0, 0), REJECTED); /* CLEAR ACA */
    CHECK_EQ(control(l, 0, 5, 9, 0), INCORRECT_LUN);
    CHECK_EQ(control(l, 0, 77, 0, 0), REJECTED);
    CHECK_EQ(control(l, 77, 0, 0, 0), REJECTED);
    GOOD(l, 0, 0, true, 0x00);
    CHECK_EQ(control(l, 0, 5, 0, 0), OK); /* LOGICAL UNIT RESET */
    FAILS(l, 0, 0x062900, 0, true, 0x00);
    GOOD(l, 1, 0, true, 0x00);
    CHECK_EQ(control(l, 0, 4, 0, 0), OK); /* I_T NEXUS RESET */
    FAILS(l, 1, 0x062900, 0, true, 0x00);
    FAILS(l, 0, 0x062900, 0, true, 0x00);
    FAILS(l, 2, 0x062900, 0, true, 0x00);
}

/* Many reads, an abort of all of them behind: each ends once, and before the abort does. */
static void aborting(struct lab *l, const struct mode *m)
{
    unsigned batch = MIN(m->size / 4u, 8u); /* each has a buffer of its own */
    uint16_t id;
    uint32_t len;
    for (unsigned round = 0; round < 20; round++) {
        uint8_t *h = rig_at(&l->r, l->header), *q = rig_at(&l->r, l->data + 32768), *a = q + 64;
        memset(h, 0, HEADER);
        memcpy(h, (const uint8_t[8]){1, 0, 0x40, 0}, 8);
        memcpy(h + 19, (const uint8_t[10]){0x28, 0, 0, 0, 0, 0, 0, 0, 8}, 10);
        for (unsigned i = 0; i < batch; i++) {
            struct drv_buf bufs[] = {{l->header, HEADER, false}, {l->response, RESPONSE, true}, {l->data + 4096 * i, 4096, true}};
            drv_add(&l->d, REQUESTS, bufs, 3);
        }
        drv_kick(&l->d, REQUESTS);
        memset(q, 0, 24);
        q[4] = 1, q[8] = 1, q[10] = 0x40;
        *a = 0xaa;
        struct drv_buf bufs[] = {{l->data + 32768, 24, false}, {l->data + 32768 + 64, 1, true}};
        CHECK_EQ(drv_do(&l->d, 0, bufs, 2), 1);
        CHECK_EQ(*a, OK);
        if (round % 10 == 9) {
            CHECK(drv_reset(&l->d));
            drv_start(&l->d, m->features | 2, 3, m->size);
            GOOD(l, 0, 18, true, 0x03, 0, 0, 0, 18);
            continue;
        }
        for (unsigned i = 0; i < batch; i++)
            CHECK(drv_wait(&l->d, REQUESTS, &id, &len));
    }
}

static void events(struct lab *l)
{
    ERROR_SCOPED(err);
    uint16_t id;
    uint32_t len;
    uint8_t *e = rig_at(&l->r, l->data);
    memset(e, 0, 16);
    CHECK(vscsi_attach(l->scsi, 5, &(struct vscsi_unit_config){.cdrom = true}, &err) == 0);
    CHECK(vscsi_attach(l->scsi, 5, &(struct vscsi_unit_config){.cdrom = true}, &err) < 0);
    CHECK(vscsi_attach(l->scsi, VSCSI_UNITS, &(struct vscsi_unit_config){.cdrom = true}, &err) < 0);
    drv_add(&l->d, 1, &(struct drv_buf){l->data, 16, true}, 1);
    drv_kick(&l->d, 1);
    CHECK(drv_wait(&l->d, 1, &id, &len));
    CHECK_EQ(len, 16);
    CHECK(memcmp(e, "\1\0\0\0\1\0\x40\5\0\0\0\0\1\0\0\0", 16) == 0);
    FAILS(l, 5, 0x062900, 0, true, 0x00);
    FAILS(l, 5, 0x023a00, 0, true, 0x00);
}

/* ---- noise ---- */

/* Commands of every opcode with every kind of buffer; afterwards the adapter works. */
static void noise(struct lab *l, uint64_t seed)
{
    struct rnd rnd = {seed};
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t cdb[32], lun[8] = {1, 0, 0x40, (uint8_t)rnd_below(&rnd, 4)};
        for (unsigned k = 0; k < sizeof cdb; k++)
            cdb[k] = rnd_below(&rnd, 3) ? 0 : (uint8_t)rnd64(&rnd);
        cdb[0] = (uint8_t)i;
        for (unsigned k = 0; k < 64; k++)
            data(l)[k] = rnd_below(&rnd, 2) ? 0 : (uint8_t)rnd64(&rnd);
        if (rnd_below(&rnd, 16) == 0)
            lun[rnd_below(&rnd, 8)] = (uint8_t)rnd64(&rnd);
        if (rnd_below(&rnd, 16) == 0)
            control(l, rnd_below(&rnd, 4), rnd_below(&rnd, 9), rnd_below(&rnd, 4), 77);
        run_at(l, lun, cdb, sizeof cdb, rnd_below(&rnd, 3) * rnd_below(&rnd, 2048), rnd_below(&rnd, 2));
    }
    GOOD(l, 0, 18, true, 0x03, 0, 0, 0, 18);
    GOOD(l, 0, 512, true, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
}

/* A request that is shorter than its headers, and headers of sizes that cannot be. */
static void headers(struct lab *l, const struct mode *m)
{
    for (unsigned i = 0; i < 2; i++) {
        struct drv_buf bufs[] = {{l->header, HEADER, false}, {l->response, RESPONSE - !i, true}};
        uint16_t id;
        uint32_t len;
        CHECK(drv_reset(&l->d));
        if (i)
            rig_write(&l->r, BUS_MMIO, l->d.device + 24, 4, 0xffffffff);
        drv_start(&l->d, m->features, 3, m->size);
        drv_add(&l->d, REQUESTS, bufs, 2);
        drv_kick(&l->d, REQUESTS);
        CHECK(drv_wait(&l->d, REQUESTS, &id, &len));
        CHECK_EQ(len, 0);
        while (!(drv_read(&l->d, DRV_STATUS, 1) & 64))
            usleep(1000);
    }
    CHECK(drv_reset(&l->d));
    drv_start(&l->d, m->features, 3, m->size);
    GOOD(l, 0, 18, true, 0x03, 0, 0, 0, 18);
}

/* ---- */

static struct block *open_file(struct lab *l, const char *name, uint64_t bytes, bool readonly)
{
    char path[64];
    struct block *b;
    ERROR_SCOPED(err);
    snprintf(path, sizeof path, "%s/%s", l->path, name);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    for (unsigned i = 0; i < 256 && name[0] == 'c'; i++) {
        uint8_t block[2048];
        memset(block, (int)i, sizeof block);
        CHECK(pwrite(fd, block, sizeof block, i * 2048) == 2048);
    }
    CHECK(block_open(&(struct block_config){.path = path, .format = "raw", .readonly = readonly}, &b, &err) == 0);
    unlink(path);
    return b;
}

static void test_mode(const struct mode *m)
{
    static struct lab l;
    ERROR_SCOPED(err);
    memset(&l, 0, sizeof l);
    rig_init(&l.r);
    strcpy(l.path, "/tmp/lodge-scsi-XXXXXX");
    CHECK(mkdtemp(l.path));
    l.blocks[0] = open_file(&l, "disk", SECTORS * 512, false);
    l.blocks[1] = open_file(&l, "cd", 256 * 2048, true);
    l.blocks[2] = open_file(&l, "sealed", SECTORS * 512, true);
    CHECK(vscsi_create(l.r.pci, &(struct vscsi_config){.slot = 3}, &l.scsi, &err) == 0);
    for (unsigned i = 0; i < 3; i++)
        CHECK(vscsi_attach(l.scsi, i,
                           &(struct vscsi_unit_config){.cdrom = i == 1, .block = l.blocks[i], .serial = i ? NULL : "the-serial"},
                           &err) == 0);
    CHECK(pci_host_assign(l.r.pci, &err) == 0);
    l.header = rig_alloc(&l.r, 4096, 16);
    l.response = rig_alloc(&l.r, 4096, 16);
    l.data = rig_alloc(&l.r, DATA_BYTES, 4096);
    drv_find(&l.d, &l.r, PCI_DEVFN(3, 0), m->msix, 0);
    CHECK_EQ(rig_cfg_read(&l.r, l.d.devfn, 0, 4), 0x10481af4);
    drv_start(&l.d, m->features | 2, 3, m->size);
    identity(&l);
    transfers(&l);
    refusals(&l);
    unmapping(&l);
    modes_pages(&l);
    cdrom(&l);
    task_management(&l);
    events(&l);
    aborting(&l, m);
    noise(&l, m->features + m->size);
    headers(&l, m);
    vscsi_destroy(l.scsi);
    for (unsigned i = 0; i < 3; i++)
        block_close(l.blocks[i]);
    rmdir(l.path);
    rig_free(&l.r);
}

int main(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        printf("%s\n", modes[i].name);
        fflush(stdout);
        test_mode(&modes[i]);
    }
    return 0;
}
