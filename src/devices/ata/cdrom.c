// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A CD-ROM drive (ATAPI, in the ATA part ACS-3; MMC-3 and SPC-3 for the packets): a disc of one data track, read-only, in a tray
 * that opens and closes.
 *
 * A command that fails leaves sense data, key and code, which the next REQUEST SENSE fetches; every other command clears them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "devices/ata/ata.h"

#define CD_BLOCK   2048u
#define CD_MAX     360000u /* blocks of the largest CD; more make it a DVD */
#define LEAD_OUT   0xaa
#define MSF_PREGAP 150u

enum {
    CMD_DEVICE_RESET = 0x08,
    CMD_PACKET = 0xa0,
    CMD_IDENTIFY_PACKET = 0xa1,
    CMD_IDENTIFY = 0xec,
    CMD_IDLE_NOW = 0xe1,
    CMD_STANDBY_NOW = 0xe0,
    CMD_SET_FEATURES = 0xef
};

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

/* Sense: key, additional code, its qualifier. */
#define SENSE(key, asc, ascq) ((key) << 16 | (asc) << 8 | (ascq))
enum {
    NO_SENSE = 0,
    NO_MEDIUM = SENSE(2, 0x3a, 0),
    MEDIUM_ERROR = SENSE(3, 0x11, 0),
    INVALID_OPCODE = SENSE(5, 0x20, 0),
    OUT_OF_RANGE = SENSE(5, 0x21, 0),
    INVALID_FIELD = SENSE(5, 0x24, 0),
    WRONG_MODE = SENSE(5, 0x64, 0),
    REMOVAL_PREVENTED = SENSE(5, 0x53, 2),
    MEDIUM_CHANGED = SENSE(6, 0x28, 0),
};

struct cdrom {
    struct ata_device ata; /* first */
    uint32_t sense;
    bool open, locked;
    bool changed; /* the tray was closed: the next command that wants the disc is told so, once */
};

static const struct field cdrom_fields[] = {
    FIELD(FIELD_U32, struct cdrom, sense),
    FIELD(FIELD_BOOL, struct cdrom, open),
    FIELD(FIELD_BOOL, struct cdrom, locked),
    FIELD(FIELD_BOOL, struct cdrom, changed),
    {0},
};
static const struct device_desc cdrom_desc = {.name = "ata-cdrom", .fields = cdrom_fields};

static struct cdrom *cdrom_of(struct ata_command *c)
{
    return container_of(c->dev, struct cdrom, ata);
}

static bool has_disc(const struct cdrom *d)
{
    return d->ata.block && !d->open;
}

static uint32_t blocks(const struct cdrom *d)
{
    return (uint32_t)MIN(block_size(d->ata.block) / CD_BLOCK, 0xffffffffull);
}

static uint32_t get32be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t get16be(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static void put32be(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8), p[3] = (uint8_t)v;
}

static void put16be(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8), p[1] = (uint8_t)v;
}

/* ---- answers ---- */

enum { REASON_STATUS = 3 }; /* interrupt reason: the command is over */

static void good(struct ata_command *c)
{
    c->reason = REASON_STATUS;
    ata_finish(c);
}

/* Data of `len` bytes, of which the guest wants at most `wanted`. */
static void give(struct ata_command *c, const void *data, size_t len, size_t wanted)
{
    c->reason = REASON_STATUS;
    ata_answer(c, data, MIN(len, wanted));
}

static void refuse(struct ata_command *c, uint32_t sense)
{
    cdrom_of(c)->sense = sense;
    c->reason = REASON_STATUS;
    ata_fail(c, (uint8_t)(sense >> 16 << 4 | ATA_ABORT));
}

static void request_sense(struct ata_command *c)
{
    struct cdrom *d = cdrom_of(c);
    uint8_t data[18] = {0x70, 0, (uint8_t)(d->sense >> 16), 0, 0, 0, 0, 10};
    data[12] = (uint8_t)(d->sense >> 8);
    data[13] = (uint8_t)d->sense;
    d->sense = NO_SENSE;
    give(c, data, sizeof data, c->packet[4]);
}

static void inquiry(struct ata_command *c)
{
    uint8_t data[36] = {0x05, 0x80, 0x00, 0x21, 31};
    memcpy(data + 8, "LODGE   CD-ROM          1   ", 28);
    if (c->packet[1] & 1)
        refuse(c, INVALID_FIELD); /* no vital product data */
    else
        give(c, data, sizeof data, get16be(c->packet + 3));
}

static void read_capacity(struct ata_command *c)
{
    uint8_t data[8];
    uint32_t n = blocks(cdrom_of(c));
    put32be(data, n ? n - 1 : 0);
    put32be(data + 4, CD_BLOCK);
    give(c, data, sizeof data, sizeof data);
}

/* ---- reading ---- */

static void read_done(struct block_req *b, int ret)
{
    struct ata_command *c = container_of(b, struct ata_command, block);
    if (ret < 0) {
        refuse(c, MEDIUM_ERROR);
        return;
    }
    c->transferred = c->room;
    good(c);
}

static void read_blocks(struct ata_command *c, uint32_t lba, uint32_t count)
{
    uint32_t n = blocks(cdrom_of(c));
    if (lba > n || count > n - lba)
        refuse(c, OUT_OF_RANGE);
    else if (count == 0)
        good(c);
    else if (!ata_cut(c, (uint64_t)count * CD_BLOCK))
        refuse(c, INVALID_FIELD);
    else
        ata_submit(c, BLOCK_READ, (uint64_t)lba * CD_BLOCK, (uint64_t)count * CD_BLOCK, read_done);
}

/* READ CD: only the user data of data blocks, which is what READ gives. */
static void read_cd(struct ata_command *c)
{
    const uint8_t *p = c->packet;
    unsigned type = p[1] >> 2 & 7, parts = p[9] & 0xf8;
    uint32_t count = (uint32_t)p[6] << 16 | get16be(p + 7);
    if (parts == 0 || count == 0)
        good(c);
    else if (parts != 0x10 || (type != 0 && type != 2 && type != 4) || p[10])
        refuse(c, WRONG_MODE);
    else
        read_blocks(c, get32be(p + 2), count);
}

/* ---- the disc's description ---- */

static void put_address(uint8_t *p, uint32_t lba, bool msf)
{
    if (msf) {
        uint32_t frames = lba + MSF_PREGAP;
        p[0] = 0, p[1] = (uint8_t)MIN(frames / 75 / 60, 255u), p[2] = frames / 75 % 60, p[3] = frames % 75;
    } else {
        put32be(p, lba);
    }
}

static void read_toc(struct ata_command *c)
{
    uint8_t data[20] = {0, 0, 1, 1};
    bool msf = c->packet[1] & 2;
    unsigned format = c->packet[2] & 15, first = c->packet[6], len = 4;
    if (format == 0)
        format = c->packet[9] >> 6; /* where the first drives had it */
    if (format > 1 || (format == 0 && first > 1 && first != LEAD_OUT)) {
        refuse(c, INVALID_FIELD);
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
        put_address(data + len + 4, blocks(cdrom_of(c)), msf);
        len += 8;
    }
    put16be(data, len - 2);
    give(c, data, len, get16be(c->packet + 7));
}

static void read_disc_info(struct ata_command *c)
{
    uint8_t data[34] = {0, 32, 0x0e, 1, 1, 1, 1, 0x20}; /* complete, one session, one track */
    give(c, data, sizeof data, get16be(c->packet + 7));
}

static void get_configuration(struct ata_command *c)
{
    const struct cdrom *d = cdrom_of(c);
    bool disc = has_disc(d), dvd = disc && blocks(d) > CD_MAX;
    uint8_t data[40] = {0};
    put16be(data + 6, !disc ? 0 : dvd ? 0x10 : 0x08);
    const uint8_t profiles[] = {0, 0, 3, 8, 0, 0x10, dvd, 0, 0, 8, disc && !dvd, 0};
    const uint8_t core[] = {0, 1, 3, 8, 0, 0, 0, 8, 0, 0, 0, 0}; /* the interface is ATAPI */
    const uint8_t removable[] = {0, 3, 3, 4, 0x29, 0, 0, 0};     /* a tray, which ejects and locks */
    memcpy(data + 8, profiles, sizeof profiles);
    memcpy(data + 20, core, sizeof core);
    memcpy(data + 32, removable, sizeof removable);
    put32be(data, sizeof data - 4);
    give(c, data, sizeof data, get16be(c->packet + 7));
}

/* Only polling, and only of media events. */
static void event_status(struct ata_command *c)
{
    struct cdrom *d = cdrom_of(c);
    uint8_t data[8] = {0, 2, 0x80, 0x10};
    if (!(c->packet[1] & 1)) {
        refuse(c, INVALID_FIELD);
        return;
    }
    if (!(c->packet[4] & 0x10)) {
        give(c, data, 4, get16be(c->packet + 7));
        return;
    }
    data[1] = 6;
    data[2] = 4;
    data[4] = d->changed ? 2 : 0; /* new media */
    data[5] = d->open ? 1 : has_disc(d) ? 2 : 0;
    d->changed = false;
    give(c, data, sizeof data, get16be(c->packet + 7));
}

static void mechanism_status(struct ata_command *c)
{
    uint8_t data[8] = {0};
    data[1] = cdrom_of(c)->open ? 0x10 : 0;
    data[5] = 1; /* one slot */
    give(c, data, sizeof data, get16be(c->packet + 8));
}

/* Pages: 0x01 error recovery, 0x2a capabilities. */
static void mode_sense(struct ata_command *c)
{
    bool ten = c->packet[0] == P_MODE_SENSE_10;
    unsigned page = c->packet[2] & 0x3f, at = ten ? 8 : 4, wanted = ten ? get16be(c->packet + 7) : c->packet[4];
    uint8_t data[64] = {0};
    if (c->packet[2] >> 6 == 3 || (page != 0x01 && page != 0x2a && page != 0x3f)) {
        refuse(c, INVALID_FIELD);
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
        capabilities[6] |= cdrom_of(c)->locked ? 2 : 0;
        put16be(capabilities + 8, 8467);
        put16be(capabilities + 14, 8467);
        memcpy(data + at, capabilities, sizeof capabilities);
        at += sizeof capabilities;
    }
    if (ten)
        put16be(data, at - 2);
    else
        data[0] = (uint8_t)(at - 1);
    give(c, data, at, wanted);
}

static void start_stop(struct ata_command *c)
{
    struct cdrom *d = cdrom_of(c);
    bool eject = c->packet[4] & 2, start = c->packet[4] & 1;
    if (eject && !start && d->locked) {
        refuse(c, REMOVAL_PREVENTED);
        return;
    }
    if (eject) {
        d->changed |= d->open && start;
        d->open = !start;
    }
    good(c);
}

/* ---- packets ---- */

static void read_10(struct ata_command *c)
{
    read_blocks(c, get32be(c->packet + 2), get16be(c->packet + 7));
}

static void read_12(struct ata_command *c)
{
    read_blocks(c, get32be(c->packet + 2), get32be(c->packet + 6));
}

static void prevent_removal(struct ata_command *c)
{
    cdrom_of(c)->locked = c->packet[4] & 1;
    good(c);
}

static const struct packet {
    uint8_t opcode;
    bool disc; /* needs one */
    void (*run)(struct ata_command *c);
} packets[] = {
    {P_TEST_UNIT_READY, true, good},
    {P_REQUEST_SENSE, false, request_sense},
    {P_INQUIRY, false, inquiry},
    {P_MODE_SENSE_6, false, mode_sense},
    {P_START_STOP, false, start_stop},
    {P_PREVENT_REMOVAL, false, prevent_removal},
    {P_READ_CAPACITY, true, read_capacity},
    {P_READ_10, true, read_10},
    {P_SEEK, true, good},
    {P_SYNCHRONIZE, false, good},
    {P_READ_TOC, true, read_toc},
    {P_GET_CONFIGURATION, false, get_configuration},
    {P_EVENT_STATUS, false, event_status},
    {P_READ_DISC_INFO, true, read_disc_info},
    {P_MODE_SENSE_10, false, mode_sense},
    {P_READ_12, true, read_12},
    {P_SET_SPEED, false, good},
    {P_MECHANISM_STATUS, false, mechanism_status},
    {P_READ_CD, true, read_cd},
};

static void run_packet(struct ata_command *c)
{
    struct cdrom *d = cdrom_of(c);
    c->protocol = ATA_DMA; /* also where data goes by PIO, the end is told as for DMA */
    if (c->packet[0] != P_REQUEST_SENSE)
        d->sense = NO_SENSE;
    for (unsigned i = 0; i < ARRAY_SIZE(packets); i++) {
        if (packets[i].opcode != c->packet[0])
            continue;
        if (packets[i].disc && !has_disc(d)) {
            refuse(c, NO_MEDIUM);
        } else if (packets[i].disc && d->changed) {
            d->changed = false;
            refuse(c, MEDIUM_CHANGED);
        } else {
            packets[i].run(c);
        }
        return;
    }
    refuse(c, INVALID_OPCODE);
}

/* ---- commands ---- */

/* IDENTIFY PACKET DEVICE (ACS-3, 7.13.7). */
static void identify(struct ata_command *c)
{
    uint16_t w[256] = {[0] = 0x85c0, /* a removable CD-ROM drive, packets of 12 bytes */
                       [49] = 0x0f00, [50] = 0x4000, [53] = 0x0006, [63] = 0x0007, [64] = 0x0003, [65] = 120, [66] = 120,
                       [67] = 120,    [68] = 120,    [76] = 0x0006, [80] = 0x01f0, [82] = 0x0210, /* packets, DEVICE RESET */
                       [83] = 0x4000, [84] = 0x4000, [85] = 0x0210, [87] = 0x4000, [88] = 0x203f};
    ata_text(w + 10, c->dev->serial, 10);
    ata_text(w + 23, "1", 4);
    ata_text(w + 27, c->dev->model, 20);
    ata_answer(c, w, sizeof w);
}

static void cdrom_reset(struct ata_device *dev)
{
    struct cdrom *d = container_of(dev, struct cdrom, ata);
    d->sense = NO_SENSE;
    d->locked = false;
}

static void cdrom_start(struct ata_device *dev, struct ata_command *c)
{
    switch (c->fis[FIS_COMMAND]) {
    case CMD_PACKET:
        run_packet(c);
        break;
    case CMD_IDENTIFY_PACKET:
        identify(c);
        break;
    case CMD_DEVICE_RESET:
        cdrom_reset(dev);
        ata_finish(c);
        break;
    case CMD_SET_FEATURES:
    case CMD_IDLE_NOW:
    case CMD_STANDBY_NOW:
        ata_finish(c);
        break;
    case CMD_IDENTIFY: /* how drivers for disks find out that this is none */
    default:
        ata_fail(c, ATA_ABORT);
        break;
    }
}

static void cdrom_destroy(struct ata_device *dev)
{
    free(container_of(dev, struct cdrom, ata));
}

static const struct ata_kind cdrom_kind = {
    .desc = &cdrom_desc, .signature = ATA_SIGNATURE_PACKET, .start = cdrom_start, .reset = cdrom_reset, .destroy = cdrom_destroy};

int ata_cdrom_create(struct block *block, const char *serial, struct ata_device **out, struct error *err)
{
    struct cdrom *d = calloc(1, sizeof *d);
    if (!d)
        return error_set(err, ENOMEM, "device 'ata-cdrom': out of memory; close other programs");
    d->ata = (struct ata_device){.kind = &cdrom_kind, .block = block, .model = "LODGE CD-ROM"};
    snprintf(d->ata.serial, sizeof d->ata.serial, "%s", serial);
    *out = &d->ata;
    return 0;
}
