/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A SCSI logical unit behind a host adapter: a disk (SBC-3) or a CD-ROM drive (MMC-3), both with the commands of SPC-4. The adapter
 * hands it a command with the guest memory that it may transfer to or from; the unit answers through a callback, perhaps later.
 *
 * A unit and its block belong to one thread, the adapter's; nothing here takes a lock.
 */
#ifndef LODGE_DEVICES_SCSI_H
#define LODGE_DEVICES_SCSI_H

#include "block/block.h"
#include "devices/bus.h"

#define SCSI_CDB_MAX     32 /* bytes */
#define SCSI_SENSE_BYTES 18 /* of fixed format */
#define SCSI_SERIAL_MAX  20

/* Status (SAM-5, 5.3.1). */
enum { SCSI_GOOD = 0x00, SCSI_CHECK_CONDITION = 0x02 };

/* Sense: key, additional code, its qualifier (SPC-4, 4.5). */
#define SCSI_SENSE(key, asc, ascq) ((key) << 16 | (asc) << 8 | (ascq))
enum {
    SENSE_NONE = 0,
    SENSE_NO_MEDIUM = SCSI_SENSE(2, 0x3a, 0),
    SENSE_WRITE_ERROR = SCSI_SENSE(3, 0x0c, 0),
    SENSE_READ_ERROR = SCSI_SENSE(3, 0x11, 0),
    SENSE_NO_MEMORY = SCSI_SENSE(4, 0x44, 0), /* internal target failure */
    SENSE_PARAMETER_LENGTH = SCSI_SENSE(5, 0x1a, 0),
    SENSE_INVALID_OPCODE = SCSI_SENSE(5, 0x20, 0),
    SENSE_OUT_OF_RANGE = SCSI_SENSE(5, 0x21, 0),
    SENSE_INVALID_FIELD = SCSI_SENSE(5, 0x24, 0),
    SENSE_NO_UNIT = SCSI_SENSE(5, 0x25, 0),
    SENSE_INVALID_PARAMETER = SCSI_SENSE(5, 0x26, 0),
    SENSE_NO_SAVING = SCSI_SENSE(5, 0x39, 0),
    SENSE_REMOVAL_PREVENTED = SCSI_SENSE(5, 0x53, 2),
    SENSE_WRONG_MODE = SCSI_SENSE(5, 0x64, 0),
    SENSE_MEDIUM_CHANGED = SCSI_SENSE(6, 0x28, 0),
    SENSE_RESET = SCSI_SENSE(6, 0x29, 0),
    SENSE_WRITE_PROTECTED = SCSI_SENSE(7, 0x27, 0),
    SENSE_NO_SPACE = SCSI_SENSE(7, 0x27, 7),
};

struct scsi_unit;
struct scsi_request;

/* One direction of a command's data: guest memory. The unit may change the list. */
struct scsi_data {
    struct iovec *iov;
    unsigned niov;
    uint64_t len; /* bytes */
};

struct scsi_request {
    uint8_t cdb[SCSI_CDB_MAX];
    struct scsi_data out, in; /* from the guest, and to it */
    void (*done)(struct scsi_request *r);
    /* The answer: */
    uint32_t sense;       /* SENSE_NONE: the status is GOOD, else CHECK CONDITION */
    bool overrun;         /* the command wants more data than the guest has memory for */
    uint64_t transferred; /* bytes */
    /* The unit's: */
    struct scsi_unit *unit;
    struct block_req block;
    bool fua;           /* makes a write durable before it completes */
    uint64_t at, left;  /* of a list or of a range that takes several steps */
    uint8_t *buffer;    /* owned */
    struct iovec *list; /* owned */
};

struct scsi_command {
    uint8_t opcode;
    uint8_t flags;
    void (*run)(struct scsi_request *r);
};
enum {
    SCSI_ALWAYS = 1 /* also while a unit attention is pending, which stays */,
    SCSI_MEDIUM = 2 /* needs a disc */,
    SCSI_WRITES = 4
};

struct scsi_kind {
    uint8_t type; /* peripheral device type */
    const char *product;
    const struct scsi_command *commands;
    unsigned ncommands;
    void (*vpd)(struct scsi_request *r, unsigned page); /* the pages that are the kind's own */
    const uint8_t *pages;                               /* their numbers, ascending; ends with 0 */
};
extern const struct scsi_kind scsi_disk, scsi_cdrom;

struct scsi_unit {
    const struct scsi_kind *kind;
    struct block *block; /* NULL: a drive without a disc */
    char serial[SCSI_SERIAL_MAX + 1];
    bool atapi;         /* behind an ATA adapter: sense data is fetched, there is no vital product data */
    uint32_t sense;     /* what REQUEST SENSE says; for adapters without autosense */
    uint32_t attention; /* SENSE_NONE, or what the next command fails with */
    bool open, locked;  /* a drive's tray */
    bool changed;       /* and it was closed: the next command that wants the disc is told so, once */
    bool write_through; /* a disk's cache is off */
};

/* As after power on. */
void scsi_unit_reset(struct scsi_unit *u);
/* Runs a command, whose `done` is called at once or from the block's callbacks. */
void scsi_start(struct scsi_unit *u, struct scsi_request *r);
/* Fixed-format sense data of `sense`. */
void scsi_sense_data(uint32_t sense, uint8_t data[SCSI_SENSE_BYTES]);
/* Does the drive have a disc? A disk always has. */
bool scsi_has_medium(const struct scsi_unit *u);

/* ---- for the kinds, and for adapters that answer themselves ---- */

void scsi_good(struct scsi_request *r);
void scsi_refuse(struct scsi_request *r, uint32_t sense);
void scsi_overrun(struct scsi_request *r);
/* Data of `len` bytes, of which the guest wants at most `wanted`. */
void scsi_give(struct scsi_request *r, const void *data, size_t len, size_t wanted);
/* Copies from the guest; the bytes that were there. */
size_t scsi_take(const struct scsi_request *r, size_t off, void *buf, size_t len);
/* Cuts guest memory to `len` bytes; false when there is less. */
bool scsi_cut(struct scsi_data *d, uint64_t len);
/* Gives [offset, offset+len) to the block layer, whose end calls `done`. Reads and writes go to `d`. */
void scsi_submit(struct scsi_request *r, enum block_op op, uint64_t offset, uint64_t len, const struct scsi_data *d,
                 void (*done)(struct block_req *, int));
/* An answer to INQUIRY; `type` has the peripheral qualifier, too. */
void scsi_inquiry_data(uint8_t data[36], uint8_t type, const char *product);
void scsi_inquiry(struct scsi_request *r);
void scsi_request_sense(struct scsi_request *r);

static inline uint32_t scsi_get16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}
static inline uint32_t scsi_get32(const uint8_t *p)
{
    return scsi_get16(p) << 16 | scsi_get16(p + 2);
}
static inline uint64_t scsi_get64(const uint8_t *p)
{
    return (uint64_t)scsi_get32(p) << 32 | scsi_get32(p + 4);
}
static inline void scsi_put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8), p[1] = (uint8_t)v;
}
static inline void scsi_put32(uint8_t *p, uint32_t v)
{
    scsi_put16(p, v >> 16), scsi_put16(p + 2, v);
}
static inline void scsi_put64(uint8_t *p, uint64_t v)
{
    scsi_put32(p, (uint32_t)(v >> 32)), scsi_put32(p + 4, (uint32_t)v);
}

#endif
