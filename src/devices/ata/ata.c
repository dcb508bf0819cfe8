// SPDX-License-Identifier: GPL-2.0-or-later
/* What disks and CD-ROM drives share: answering, and the guest's memory. */
#include "devices/ata/ata.h"

#include <string.h>

#include "base/iov.h"
#include "base/util.h"

void ata_finish(struct ata_command *c)
{
    c->status = ATA_READY | ATA_SEEK;
    c->error = 0;
    c->done(c);
}

void ata_fail(struct ata_command *c, uint8_t error)
{
    c->status = ATA_READY | ATA_SEEK | ATA_ERR;
    c->error = error;
    c->transferred = 0;
    c->done(c);
}

size_t ata_copy_from(const struct ata_command *c, size_t off, void *buf, size_t len)
{
    return iov_read(c->iov, c->niov, off, buf, len);
}

size_t ata_copy_to(const struct ata_command *c, size_t off, const void *buf, size_t len)
{
    return iov_write(c->iov, c->niov, off, buf, len);
}

void ata_answer(struct ata_command *c, const void *data, size_t len)
{
    if (c->protocol == ATA_NON_DATA)
        c->protocol = ATA_PIO_IN;
    c->transferred = ata_copy_to(c, 0, data, len);
    ata_finish(c);
}

bool ata_cut(struct ata_command *c, uint64_t len)
{
    uint64_t have = 0;
    for (unsigned i = 0; i < c->niov && have < len; i++) {
        if (c->iov[i].iov_len >= len - have) {
            c->iov[i].iov_len = len - have;
            c->niov = i + 1;
            c->room = len;
            return true;
        }
        have += c->iov[i].iov_len;
    }
    return false;
}

void ata_submit(struct ata_command *c, enum block_op op, uint64_t offset, uint64_t len, void (*done)(struct block_req *, int))
{
    c->block = (struct block_req){.op = op, .offset = offset, .len = len, .done = done};
    if (op == BLOCK_READ || op == BLOCK_WRITE) {
        c->block.iov = c->iov;
        c->block.niov = (int)c->niov;
    }
    block_submit(c->dev->block, &c->block);
}

void ata_text(uint16_t *words, const char *text, unsigned nwords)
{
    size_t len = strlen(text);
    for (unsigned i = 0; i < nwords; i++) {
        uint8_t high = 2 * i < len ? (uint8_t)text[2 * i] : ' ', low = 2 * i + 1 < len ? (uint8_t)text[2 * i + 1] : ' ';
        words[i] = (uint16_t)(high << 8 | low);
    }
}

uint64_t ata_lba48(const uint8_t *fis)
{
    uint64_t lba = 0;
    for (unsigned i = 0; i < 3; i++)
        lba |= (uint64_t)fis[FIS_LBA_LOW + i] << (8 * i) | (uint64_t)fis[FIS_LBA_HIGH + i] << (24 + 8 * i);
    return lba;
}

void ata_destroy(struct ata_device *d)
{
    if (d)
        d->kind->destroy(d);
}
