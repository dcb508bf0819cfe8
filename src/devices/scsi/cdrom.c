// SPDX-License-Identifier: GPL-2.0-or-later
/* A CD-ROM drive (MMC-3): a disc of one data track, read-only, in a tray that opens and closes. */
#include <string.h>

#include "base/util.h"
#include "devices/scsi/scsi.h"

#define CD_BLOCK   2048u
#define CD_MAX     360000u /* blocks of the largest CD; more make it a DVD */
#define LEAD_OUT   0xaa
#define MSF_PREGAP 150u

enum {
    P_TEST_UNIT_READY = 0x00,
    P_REQUEST_SENSE = 0x03,
    P_INQUIRY = 0x12,
    P_MODE_SENSE_6 = 0x1a,
    P_START_STOP = 0x1b,
    P_PREVENT_REMOVAL = 0x1e,
    P_READ_CAPACITY = 0x25,
    P_READ_10 = 0x28,
    P_SEEK = 0x2b,
    P_SYNCHRONIZE = 0x35,
    P_READ_TOC = 0x43,
    P_GET_CONFIGURATION = 0x46,
    P_EVENT_STATUS = 0x4a,
    P_READ_DISC_INFO = 0x51,
    P_MODE_SENSE_10 = 0x5a,
    P_READ_12 = 0xa8,
    P_SET_SPEED = 0xbb,
    P_MECHANISM_STATUS = 0xbd,
    P_READ_CD = 0xbe,
};

static uint32_t blocks(const struct scsi_unit *d)
{
    return (uint32_t)MIN(block_size(d->block) / CD_BLOCK, 0xffffffffull);
}

static void read_capacity(struct scsi_request *r)
{
    uint8_t data[8];
    uint32_t n = blocks(r->unit);
    scsi_put32(data, n ? n - 1 : 0);
    scsi_put32(data + 4, CD_BLOCK);
    scsi_give(r, data, sizeof data, sizeof data);
}

/* ---- reading ---- */

static void read_done(struct block_req *b, int ret)
{
    struct scsi_request *r = container_of(b, struct scsi_request, block);
    if (ret < 0) {
        scsi_refuse(r, SENSE_READ_ERROR);
        return;
    }
    r->transferred = r->in.len;
    scsi_good(r);
}

static void read_blocks(struct scsi_request *r, uint32_t lba, uint32_t count)
{
    uint32_t n = blocks(r->unit);
    if (lba > n || count > n - lba)
        scsi_refuse(r, SENSE_OUT_OF_RANGE);
    else if (count == 0)
        scsi_good(r);
    else if (!scsi_cut(&r->in, (uint64_t)count * CD_BLOCK))
        scsi_overrun(r);
    else
        scsi_submit(r, BLOCK_READ, (uint64_t)lba * CD_BLOCK, (uint64_t)count * CD_BLOCK, &r->in, read_done);
}

/* READ CD: only the user data of data blocks, which is what READ gives. */
static void read_cd(struct scsi_request *r)
{
    const uint8_t *p = r->cdb;
    unsigned type = p[1] >> 2 & 7, parts = p[9] & 0xf8;
    uint32_t count = (uint32_t)p[6] << 16 | scsi_get16(p + 7);
    if (parts == 0 || count == 0)
        scsi_good(r);
    else if (parts != 0x10 || (type != 0 && type != 2 && type != 4) || p[10])
        scsi_refuse(r, SENSE_WRONG_MODE);
    else
        read_blocks(r, scsi_get32(p + 2), count);
}

/* ---- the disc's description ---- */

static void put_address(uint8_t *p, uint32_t lba, bool msf)
{
    if (msf) {
        uint32_t frames = lba + MSF_PREGAP;
        p[0] = 0, p[1] = (uint8_t)MIN(frames / 75 / 60, 255u), p[2] = frames / 75 % 60, p[3] = frames % 75;
    } else {
        scsi_put32(p, lba);
    }
}

static void read_toc(struct scsi_request *r)
{
    uint8_t data[20] = {0, 0, 1, 1};
    bool msf = r->cdb[1] & 2;
    unsigned format = r->cdb[2] & 15, first = r->cdb[6], len = 4;
    if (format == 0)
        format = r->cdb[9] >> 6; /* where the first drives had it */
    if (format > 1 || (format == 0 && first > 1 && first != LEAD_OUT)) {
        scsi_refuse(r, SENSE_INVALID_FIELD);
        return;
    }
    if (format == 1 || first != LEAD_OUT) {
        data[len + 1] = 0x14; /* a data track */
        data[len + 2] = 1;
        put_address(data + len + 4, 0, msf);
        len += 8;
    }
    if (format == 0) {
        data[len + 1] = 0x16;
        data[len + 2] = LEAD_OUT;
        put_address(data + len + 4, blocks(r->unit), msf);
        len += 8;
    }
    scsi_put16(data, len - 2);
    scsi_give(r, data, len, scsi_get16(r->cdb + 7));
}

static void read_disc_info(struct scsi_request *r)
{
    uint8_t data[34] = {0, 32, 0x0e, 1, 1, 1, 1, 0x20}; /* complete, one session, one track */
    scsi_give(r, data, sizeof data, scsi_get16(r->cdb + 7));
}

static void get_configuration(struct scsi_request *r)
{
    const struct scsi_unit *d = r->unit;
    bool disc = scsi_has_medium(d), dvd = disc && blocks(d) > CD_MAX;
    uint8_t data[40] = {0};
    scsi_put16(data + 6, !disc ? 0 : dvd ? 0x10 : 0x08);
    const uint8_t profiles[] = {0, 0, 3, 8, 0, 0x10, dvd, 0, 0, 8, disc && !dvd, 0};
    const uint8_t core[] = {0, 1, 3, 8, 0, 0, 0, d->atapi ? 8 : 1, 0, 0, 0, 0}; /* the interface: ATAPI, or SCSI */
    const uint8_t removable[] = {0, 3, 3, 4, 0x29, 0, 0, 0};                    /* a tray, which ejects and locks */
    memcpy(data + 8, profiles, sizeof profiles);
    memcpy(data + 20, core, sizeof core);
    memcpy(data + 32, removable, sizeof removable);
    scsi_put32(data, sizeof data - 4);
    scsi_give(r, data, sizeof data, scsi_get16(r->cdb + 7));
}

/* Only polling, and only of media events. */
static void event_status(struct scsi_request *r)
{
    struct scsi_unit *d = r->unit;
    uint8_t data[8] = {0, 2, 0x80, 0x10};
    if (!(r->cdb[1] & 1)) {
        scsi_refuse(r, SENSE_INVALID_FIELD);
        return;
    }
    if (!(r->cdb[4] & 0x10)) {
        scsi_give(r, data, 4, scsi_get16(r->cdb + 7));
        return;
    }
    data[1] = 6;
    data[2] = 4;
    data[4] = d->changed ? 2 : 0; /* new media */
    data[5] = d->open ? 1 : scsi_has_medium(d) ? 2 : 0;
    d->changed = false;
    scsi_give(r, data, sizeof data, scsi_get16(r->cdb + 7));
}

static void mechanism_status(struct scsi_request *r)
{
    uint8_t data[8] = {0};
    data[1] = r->unit->open ? 0x10 : 0;
    data[5] = 1; /* one slot */
    scsi_give(r, data, sizeof data, scsi_get16(r->cdb + 8));
}

/* Pages: 0x01 error recovery, 0x2a capabilities. */
static void mode_sense(struct scsi_request *r)
{
    bool ten = r->cdb[0] == P_MODE_SENSE_10;
    unsigned page = r->cdb[2] & 0x3f, at = ten ? 8 : 4, wanted = ten ? scsi_get16(r->cdb + 7) : r->cdb[4];
    uint8_t data[64] = {0};
    if (r->cdb[2] >> 6 == 3 || (page != 0x01 && page != 0x2a && page != 0x3f)) {
        scsi_refuse(r, SENSE_INVALID_FIELD);
        return;
    }
    if (page != 0x2a) {
        const uint8_t recovery[8] = {0x01, 6, 0, 5};
        memcpy(data + at, recovery, sizeof recovery);
        at += sizeof recovery;
    }
    if (page != 0x01) {
        /* Reads CD-R, CD-RW and DVD-ROM; mode 2; locks, ejects, has a tray. Speeds are in KB/s. */
        uint8_t capabilities[22] = {0x2a, 20, 0x0b, 0, 0x70, 0, 0x29, 0};
        capabilities[6] |= r->unit->locked ? 2 : 0;
        scsi_put16(capabilities + 8, 8467);
        scsi_put16(capabilities + 14, 8467);
        memcpy(data + at, capabilities, sizeof capabilities);
        at += sizeof capabilities;
    }
    if (ten)
        scsi_put16(data, at - 2);
    else
        data[0] = (uint8_t)(at - 1);
    scsi_give(r, data, at, wanted);
}

static void start_stop(struct scsi_request *r)
{
    struct scsi_unit *d = r->unit;
    bool eject = r->cdb[4] & 2, start = r->cdb[4] & 1;
    if (eject && !start && d->locked) {
        scsi_refuse(r, SENSE_REMOVAL_PREVENTED);
        return;
    }
    if (eject) {
        d->changed |= d->open && start;
        d->open = !start;
    }
    scsi_good(r);
}

/* ---- packets ---- */

static void read_10(struct scsi_request *r)
{
    read_blocks(r, scsi_get32(r->cdb + 2), scsi_get16(r->cdb + 7));
}

static void read_12(struct scsi_request *r)
{
    read_blocks(r, scsi_get32(r->cdb + 2), scsi_get32(r->cdb + 6));
}

static void prevent_removal(struct scsi_request *r)
{
    r->unit->locked = r->cdb[4] & 1;
    scsi_good(r);
}

static const struct scsi_command commands[] = {
    {P_TEST_UNIT_READY, SCSI_MEDIUM, scsi_good},
    {P_REQUEST_SENSE, SCSI_ALWAYS, scsi_request_sense},
    {P_INQUIRY, SCSI_ALWAYS, scsi_inquiry},
    {P_MODE_SENSE_6, 0, mode_sense},
    {P_START_STOP, 0, start_stop},
    {P_PREVENT_REMOVAL, 0, prevent_removal},
    {P_READ_CAPACITY, SCSI_MEDIUM, read_capacity},
    {P_READ_10, SCSI_MEDIUM, read_10},
    {P_SEEK, SCSI_MEDIUM, scsi_good},
    {P_SYNCHRONIZE, 0, scsi_good},
    {P_READ_TOC, SCSI_MEDIUM, read_toc},
    {P_GET_CONFIGURATION, SCSI_ALWAYS, get_configuration},
    {P_EVENT_STATUS, SCSI_ALWAYS, event_status},
    {P_READ_DISC_INFO, SCSI_MEDIUM, read_disc_info},
    {P_MODE_SENSE_10, 0, mode_sense},
    {P_READ_12, SCSI_MEDIUM, read_12},
    {P_SET_SPEED, 0, scsi_good},
    {P_MECHANISM_STATUS, 0, mechanism_status},
    {P_READ_CD, SCSI_MEDIUM, read_cd},
};

const struct scsi_kind scsi_cdrom = {.type = 0x05, .product = "CD-ROM", .commands = commands, .ncommands = ARRAY_SIZE(commands)};
