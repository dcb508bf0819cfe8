// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A CD-ROM drive on ATA (ATAPI, in the ATA part ACS-3): packets go to the drive of scsi/cdrom.c.
 *
 * A command that fails leaves sense data, key and code, which the next REQUEST SENSE fetches; every other command clears them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "devices/ata/ata.h"

#define P_REQUEST_SENSE 0x03

enum {
    CMD_DEVICE_RESET = 0x08,
    CMD_PACKET = 0xa0,
    CMD_IDENTIFY_PACKET = 0xa1,
    CMD_IDENTIFY = 0xec,
    CMD_IDLE_NOW = 0xe1,
    CMD_STANDBY_NOW = 0xe0,
    CMD_SET_FEATURES = 0xef
};

struct cdrom {
    struct ata_device ata; /* first */
    struct scsi_unit unit;
};

static const struct field cdrom_fields[] = {
    FIELD(FIELD_U32, struct cdrom, unit.sense),
    FIELD(FIELD_BOOL, struct cdrom, unit.open),
    FIELD(FIELD_BOOL, struct cdrom, unit.locked),
    FIELD(FIELD_BOOL, struct cdrom, unit.changed),
    {0},
};
static const struct device_desc cdrom_desc = {.name = "ata-cdrom", .fields = cdrom_fields};

/* ---- packets ---- */

enum { REASON_STATUS = 3 }; /* interrupt reason: the command is over */

static void packet_done(struct scsi_request *r)
{
    struct ata_command *c = container_of(r, struct ata_command, scsi);
    c->reason = REASON_STATUS;
    c->transferred = r->transferred;
    if (r->sense) {
        r->unit->sense = r->sense;
        ata_fail(c, (uint8_t)(r->sense >> 16 << 4 | ATA_ABORT));
    } else {
        ata_finish(c);
    }
}

static void run_packet(struct ata_command *c)
{
    struct cdrom *d = container_of(c->dev, struct cdrom, ata);
    const struct scsi_data data = {c->iov, c->niov, c->room};
    c->protocol = ATA_DMA; /* also where data goes by PIO, the end is told as for DMA */
    if (c->packet[0] != P_REQUEST_SENSE)
        d->unit.sense = SENSE_NONE;
    c->scsi = (struct scsi_request){.out = data, .in = data, .done = packet_done};
    memcpy(c->scsi.cdb, c->packet, sizeof c->packet);
    scsi_start(&d->unit, &c->scsi);
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
    scsi_unit_reset(&container_of(dev, struct cdrom, ata)->unit);
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
    d->unit = (struct scsi_unit){.kind = &scsi_cdrom, .block = block, .atapi = true};
    snprintf(d->ata.serial, sizeof d->ata.serial, "%s", serial);
    *out = &d->ata;
    return 0;
}
