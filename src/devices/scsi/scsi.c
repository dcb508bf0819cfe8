// SPDX-License-Identifier: GPL-2.0-or-later
/* What every logical unit does: finding the command, unit attentions, sense data, INQUIRY (SPC-4). */
#include "devices/scsi/scsi.h"

#include <stdio.h>
#include <string.h>

#include "base/iov.h"
#include "base/util.h"

enum { VPD_PAGES = 0x00, VPD_SERIAL = 0x80, VPD_IDENTIFICATION = 0x83 };

bool scsi_has_medium(const struct scsi_unit *u)
{
    return u->block && !u->open;
}

/* ---- answers ---- */

static void finish(struct scsi_request *r)
{
    free(steal_ptr(&r->buffer));
    free(steal_ptr(&r->list));
    r->done(r);
}

void scsi_good(struct scsi_request *r)
{
    r->sense = SENSE_NONE;
    finish(r);
}

void scsi_refuse(struct scsi_request *r, uint32_t sense)
{
    r->sense = sense;
    r->transferred = 0;
    finish(r);
}

void scsi_overrun(struct scsi_request *r)
{
    r->overrun = true;
    scsi_refuse(r, SENSE_INVALID_FIELD);
}

void scsi_give(struct scsi_request *r, const void *data, size_t len, size_t wanted)
{
    r->transferred = iov_write(r->in.iov, r->in.niov, 0, data, MIN(len, wanted));
    scsi_good(r);
}

size_t scsi_take(const struct scsi_request *r, size_t off, void *buf, size_t len)
{
    return iov_read(r->out.iov, r->out.niov, off, buf, len);
}

bool scsi_cut(struct scsi_data *d, uint64_t len)
{
    uint64_t have = 0;
    for (unsigned i = 0; i < d->niov && have < len; i++) {
        if (d->iov[i].iov_len >= len - have) {
            d->iov[i].iov_len = len - have;
            d->niov = i + 1;
            d->len = len;
            return true;
        }
        have += d->iov[i].iov_len;
    }
    return false;
}

void scsi_submit(struct scsi_request *r, enum block_op op, uint64_t offset, uint64_t len, const struct scsi_data *d,
                 void (*done)(struct block_req *, int))
{
    r->block = (struct block_req){.op = op, .offset = offset, .len = len, .may_unmap = r->block.may_unmap, .done = done};
    if (d) {
        r->block.iov = d->iov;
        r->block.niov = (int)d->niov;
    }
    block_submit(r->unit->block, &r->block);
}

/* ---- sense ---- */

void scsi_sense_data(uint32_t sense, uint8_t data[SCSI_SENSE_BYTES])
{
    memset(data, 0, SCSI_SENSE_BYTES);
    data[0] = 0x70; /* current errors, fixed format */
    data[2] = (uint8_t)(sense >> 16);
    data[7] = SCSI_SENSE_BYTES - 8;
    data[12] = (uint8_t)(sense >> 8);
    data[13] = (uint8_t)sense;
}

/* A pending unit attention is told here as well, and is told then. */
void scsi_request_sense(struct scsi_request *r)
{
    struct scsi_unit *u = r->unit;
    uint8_t data[SCSI_SENSE_BYTES];
    uint32_t sense = u->sense ? u->sense : u->attention;
    if (!u->sense)
        u->attention = SENSE_NONE;
    u->sense = SENSE_NONE;
    if (r->cdb[1] & 1) { /* descriptor format */
        scsi_refuse(r, SENSE_INVALID_FIELD);
        return;
    }
    scsi_sense_data(sense, data);
    scsi_give(r, data, sizeof data, r->cdb[4]);
}

/* ---- INQUIRY ---- */

void scsi_inquiry_data(uint8_t data[36], uint8_t type, const char *product)
{
    memset(data, 0, 36);
    data[0] = type;
    data[2] = 6;                                          /* SPC-4 */
    data[3] = 0x12;                                       /* the response format; REPORT LUNS numbers units */
    data[4] = 31;                                         /* more bytes */
    data[7] = 2;                                          /* command queueing */
    memcpy(data + 8, "LODGE                   1   ", 28); /* vendor, product, revision */
    memcpy(data + 16, product, MIN(strlen(product), (size_t)16));
}

/* The identity of the unit: a vendor's text, which is unique with the serial number. */
static size_t identification(const struct scsi_unit *u, uint8_t *data)
{
    int n = snprintf((char *)data + 8, 60, "LODGE   %s %s", u->kind->product, u->serial);
    data[4] = 0x02; /* ASCII */
    data[5] = 0x01; /* of the unit, beginning with the vendor */
    data[7] = (uint8_t)n;
    return 8 + (size_t)n;
}

static void vital_product_data(struct scsi_request *r)
{
    const struct scsi_unit *u = r->unit;
    uint8_t data[96] = {u->kind->type, r->cdb[2]};
    size_t len = 4;
    switch (r->cdb[2]) {
    case VPD_PAGES:
        data[len++] = VPD_PAGES;
        data[len++] = VPD_SERIAL;
        data[len++] = VPD_IDENTIFICATION;
        for (const uint8_t *p = u->kind->pages; p && *p; p++)
            data[len++] = *p;
        break;
    case VPD_SERIAL:
        len += strlen(u->serial);
        memcpy(data + 4, u->serial, len - 4);
        break;
    case VPD_IDENTIFICATION:
        len = identification(u, data);
        break;
    default:
        if (u->kind->vpd)
            u->kind->vpd(r, r->cdb[2]);
        else
            scsi_refuse(r, SENSE_INVALID_FIELD);
        return;
    }
    scsi_put16(data + 2, (uint32_t)len - 4);
    scsi_give(r, data, len, scsi_get16(r->cdb + 3));
}

void scsi_inquiry(struct scsi_request *r)
{
    const struct scsi_unit *u = r->unit;
    uint8_t data[36];
    bool vital = r->cdb[1] & 1;
    if ((vital && u->atapi) || (!vital && r->cdb[2])) {
        scsi_refuse(r, SENSE_INVALID_FIELD);
        return;
    }
    if (vital) {
        vital_product_data(r);
        return;
    }
    scsi_inquiry_data(data, u->kind->type, u->kind->product);
    if (u->kind == &scsi_cdrom)
        data[1] = 0x80; /* the medium can be removed */
    if (u->atapi) {
        data[2] = 0, data[3] = 0x21, data[7] = 0; /* what the ATA standard says it is */
    }
    scsi_give(r, data, sizeof data, scsi_get16(r->cdb + 3));
}

/* ---- commands ---- */

void scsi_unit_reset(struct scsi_unit *u)
{
    u->sense = SENSE_NONE;
    u->locked = false;
    u->write_through = false;
    u->attention = u->atapi ? SENSE_NONE : SENSE_RESET;
}

static const struct scsi_command *find(const struct scsi_unit *u, uint8_t opcode)
{
    for (unsigned i = 0; i < u->kind->ncommands; i++)
        if (u->kind->commands[i].opcode == opcode)
            return &u->kind->commands[i];
    return NULL;
}

void scsi_start(struct scsi_unit *u, struct scsi_request *r)
{
    const struct scsi_command *c = find(u, r->cdb[0]);
    r->unit = u;
    r->sense = SENSE_NONE;
    r->overrun = r->fua = false;
    r->transferred = 0;
    r->buffer = NULL;
    r->list = NULL;
    if (u->attention && !(c && c->flags & SCSI_ALWAYS)) {
        scsi_refuse(r, u->attention);
        u->attention = SENSE_NONE;
    } else if (!c) {
        scsi_refuse(r, SENSE_INVALID_OPCODE);
    } else if (c->flags & SCSI_MEDIUM && !scsi_has_medium(u)) {
        scsi_refuse(r, SENSE_NO_MEDIUM);
    } else if (c->flags & SCSI_MEDIUM && u->changed) {
        u->changed = false;
        scsi_refuse(r, SENSE_MEDIUM_CHANGED);
    } else if (c->flags & SCSI_WRITES && block_readonly(u->block)) {
        scsi_refuse(r, SENSE_WRITE_PROTECTED);
    } else {
        c->run(r);
    }
}
