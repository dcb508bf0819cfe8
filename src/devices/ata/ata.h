/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An ATA device behind a host adapter: a disk (ACS-3) or a CD-ROM drive (ATAPI; MMC-3). The adapter hands it a command with the
 * host memory that it may transfer to or from; the device answers through a callback, perhaps later.
 *
 * A device and its block belong to one thread, the adapter's for the port; nothing here takes a lock.
 */
#ifndef LODGE_DEVICES_ATA_H
#define LODGE_DEVICES_ATA_H

#include "block/block.h"
#include "devices/bus.h"
#include "devices/scsi/scsi.h"

#define ATA_FIS_BYTES    20
#define ATA_PACKET_BYTES 16

#define ATA_SIGNATURE_DISK   0x00000101u
#define ATA_SIGNATURE_PACKET 0xeb140101u

/* Bytes of a register FIS from the host (Serial ATA 3.0, 10.3.4). */
enum {
    FIS_TYPE,
    FIS_FLAGS,
    FIS_COMMAND,
    FIS_FEATURES,
    FIS_LBA_LOW,
    FIS_DEVICE = 7,
    FIS_LBA_HIGH,
    FIS_FEATURES_HIGH = 11,
    FIS_COUNT,
    FIS_COUNT_HIGH,
    FIS_CONTROL = 15
};

/* Status and error registers (ACS-3, 6.2 and 6.3). */
enum { ATA_ERR = 0x01, ATA_DRQ = 0x08, ATA_SEEK = 0x10, ATA_DF = 0x20, ATA_READY = 0x40, ATA_BUSY = 0x80 };
enum { ATA_ABORT = 0x04, ATA_ID_NOT_FOUND = 0x10, ATA_UNCORRECTABLE = 0x40 };

/* How a command moves its data, which decides how the adapter reports its end. */
enum ata_protocol { ATA_NON_DATA, ATA_PIO_IN, ATA_PIO_OUT, ATA_DMA, ATA_QUEUED };

struct ata_device;

struct ata_command {
    uint8_t fis[ATA_FIS_BYTES];
    uint8_t packet[ATA_PACKET_BYTES];
    struct iovec *iov; /* guest memory; the device may change the list */
    unsigned niov;
    uint64_t room; /* bytes of it */
    /* The answer: */
    enum ata_protocol protocol;
    uint8_t status, error;
    uint8_t reason; /* the count register: of packet commands, the interrupt reason */
    uint64_t lba;   /* with `has_lba`: what the LBA registers read as */
    bool has_lba;
    uint64_t transferred; /* bytes */
    void (*done)(struct ata_command *c);
    /* The device's: */
    struct ata_device *dev;
    struct block_req block;
    struct scsi_request scsi; /* a packet */
    uint64_t at, left; /* of a list of ranges: the next entry, and how many there are */
    bool force_unit;   /* makes a write durable before it completes */
};

/* The command that is being answered; the error that a device remembers for READ LOG is of a queued command. */
struct ata_kind {
    const struct device_desc *desc;
    uint32_t signature;
    void (*start)(struct ata_device *d, struct ata_command *c);
    void (*reset)(struct ata_device *d);
    void (*destroy)(struct ata_device *d);
};

struct ata_device {
    const struct ata_kind *kind;
    struct block *block; /* NULL: a drive without a disc */
    char serial[21], model[41];
    uint8_t failed_tag; /* of the queued command that failed last, with the answer it had */
    uint8_t failed_status, failed_error;
    uint64_t failed_lba;
};

/* `block` is the device's while it exists; closing it stays with the caller. */
int ata_disk_create(struct block *block, const char *serial, struct ata_device **out, struct error *err);
int ata_cdrom_create(struct block *block, const char *serial, struct ata_device **out, struct error *err);
void ata_destroy(struct ata_device *d);

/* ---- for the devices ---- */

/* Ends a command well, or with an error. */
void ata_finish(struct ata_command *c);
void ata_fail(struct ata_command *c, uint8_t error);
/* Copies up to `len` bytes to the guest and ends the command; PIO data in, unless the protocol says otherwise. */
void ata_answer(struct ata_command *c, const void *data, size_t len);
size_t ata_copy_from(const struct ata_command *c, size_t off, void *buf, size_t len);
size_t ata_copy_to(const struct ata_command *c, size_t off, const void *buf, size_t len);
/* Cuts the command's memory to `len` bytes; false when there is less. */
bool ata_cut(struct ata_command *c, uint64_t len);
/* Gives [offset, offset+len) to the block layer, whose end calls `done`. */
void ata_submit(struct ata_command *c, enum block_op op, uint64_t offset, uint64_t len, void (*done)(struct block_req *, int));
/* Text of an IDENTIFY block: padded with spaces, the bytes of each word exchanged (ACS-3, 3.3.10). */
void ata_text(uint16_t *words, const char *text, unsigned nwords);
uint64_t ata_lba48(const uint8_t *fis);

#endif
