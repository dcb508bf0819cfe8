// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Commands in guest memory (AHCI 1.3, chapter 4). A command header names a command table, which holds the FIS for the device, a
 * packet, and the list of the memory to transfer. All of it is copied once and checked in the copy; memory that is not RAM stops
 * the port with a host bus error, as the specification has it.
 */
#include <string.h>

#include "devices/ata/ahci_internal.h"

#define HEADER_BYTES  32u
#define TABLE_PACKET  0x40u
#define TABLE_REGIONS 0x80u
#define REGIONS_MAX   1024u /* of one command; drivers use a few hundred at most */
#define REGION_MAX    0x400000u
#define FIS_HOST      0x27
#define FIS_HOST_C    0x80 /* in the flags: the command register was written, not control */
#define CONTROL_SRST  0x04
#define HEADER_ATAPI  BIT(5)

/* Places in the area for received FISes (4.2.1), and their types. */
enum { RX_PIO = 0x20, RX_REGISTER = 0x40, RX_BITS = 0x58 };
enum { FIS_REGISTER = 0x34, FIS_PIO = 0x5f, FIS_BITS = 0xa1 };
enum { FIS_INTERRUPT = 0x40, FIS_TO_HOST = 0x20 };

struct region {
    uint64_t addr;
    uint32_t reserved, count; /* bits 0 to 21: bytes, less one */
};

/* ---- FISes to the host ---- */

static uint64_t rx_area(const struct ahci_port *p)
{
    return p->regs[P_FB] | (uint64_t)p->regs[P_FBU] << 32;
}

static void post(struct ahci_port *p, unsigned at, const uint8_t *fis, unsigned len)
{
    if ((p->regs[P_CMD] & CMD_FRE) && pci_dev_dma(&p->hba->pci))
        guestmem_write(p->hba->bus->mem, rx_area(p) + at, fis, len);
    p->regs[P_TFD] = fis[2] | (uint32_t)fis[3] << 8;
}

static void fill_registers(uint8_t *fis, uint64_t lba, uint8_t device, uint8_t count)
{
    for (unsigned i = 0; i < 3; i++) {
        fis[FIS_LBA_LOW + i] = (uint8_t)(lba >> (8 * i));
        fis[FIS_LBA_HIGH + i] = (uint8_t)(lba >> (24 + 8 * i));
    }
    fis[FIS_DEVICE] = device;
    fis[FIS_COUNT] = count;
}

void ahci_post_signature(struct ahci_port *p)
{
    uint32_t signature = p->dev->kind->signature;
    uint8_t fis[ATA_FIS_BYTES] = {FIS_REGISTER, 0, ATA_READY | ATA_SEEK, 1};
    fill_registers(fis, signature >> 8, 0, (uint8_t)signature);
    p->regs[P_SIG] = signature;
    post(p, RX_REGISTER, fis, sizeof fis);
}

/* ---- the end of a command ---- */

static void end_queued(struct ahci_slot *s, unsigned slot)
{
    struct ahci_port *p = s->port;
    const struct ata_command *c = &s->command;
    bool failed = c->status & ATA_ERR;
    uint32_t bits = failed ? 0 : htole32(BIT(slot));
    uint8_t fis[8] = {FIS_BITS, FIS_INTERRUPT, (uint8_t)(c->status & ~ATA_DRQ), c->error};
    memcpy(fis + 4, &bits, sizeof bits);
    post(p, RX_BITS, fis, sizeof fis);
    p->halted |= failed;
    if (!failed)
        p->regs[P_SACT] &= ~BIT(slot);
    ahci_port_event(p, failed ? IS_SDB | IS_TFE : IS_SDB);
}

static void end_single(struct ahci_slot *s, unsigned slot)
{
    struct ahci_port *p = s->port;
    const struct ata_command *c = &s->command;
    bool failed = c->status & ATA_ERR, pio = c->protocol == ATA_PIO_IN && !failed;
    uint8_t fis[ATA_FIS_BYTES] = {pio ? FIS_PIO : FIS_REGISTER, FIS_INTERRUPT | (pio ? FIS_TO_HOST : 0), c->status, c->error};
    uint32_t moved = htole32((uint32_t)c->transferred);
    fill_registers(fis, c->has_lba ? c->lba : ata_lba48(c->fis), c->fis[FIS_DEVICE], c->reason);
    if (pio) {
        fis[15] = c->status;
        fis[16] = (uint8_t)c->transferred;
        fis[17] = (uint8_t)(c->transferred >> 8);
    }
    guestmem_write(p->hba->bus->mem, s->list + slot * HEADER_BYTES + 4, &moved, sizeof moved);
    post(p, pio ? RX_PIO : RX_REGISTER, fis, sizeof fis);
    p->regs[P_CMD] = (p->regs[P_CMD] & ~CMD_CCS) | slot << 8;
    p->halted |= failed;
    if (!failed)
        p->regs[P_CI] &= ~BIT(slot);
    ahci_port_event(p, failed ? IS_TFE | IS_DHR : pio ? IS_PS : IS_DHR);
}

/* Takes a slot's command out of flight. Lock held. */
static void leave(struct ahci_slot *s)
{
    struct ahci_port *p = s->port;
    p->in_flight--;
    p->taken &= ~BIT(s - p->slots);
    p->exclusive &= s->queued;
    free(s->command.iov);
    s->command.iov = NULL;
}

static void command_done(struct ata_command *c)
{
    struct ahci_slot *s = container_of(c, struct ahci_slot, command);
    struct ahci_port *p = s->port;
    unsigned slot = (unsigned)(s - p->slots);
    pthread_mutex_lock(&p->hba->bus->lock);
    leave(s);
    if (!p->draining && !p->halted) {
        if (s->queued)
            end_queued(s, slot);
        else
            end_single(s, slot);
    }
    pthread_mutex_unlock(&p->hba->bus->lock);
}

/* ---- the start ---- */

/* The memory of a command as host addresses; NULL in *iov when there is none. False: it is not RAM, or too much. */
static bool read_regions(struct ahci_slot *s, uint64_t table, unsigned n)
{
    struct ata_command *c = &s->command;
    const struct guestmem *mem = s->port->hba->bus->mem;
    if (n == 0)
        return true;
    AUTO_FREE struct region *regions = n <= REGIONS_MAX ? malloc(n * sizeof *regions) : NULL;
    c->iov = regions ? malloc(n * sizeof *c->iov) : NULL;
    if (!c->iov || guestmem_read(mem, table + TABLE_REGIONS, regions, n * sizeof *regions) < 0)
        return false;
    for (unsigned i = 0; i < n; i++) {
        size_t len = (le32toh(regions[i].count) & (REGION_MAX - 1)) + 1;
        void *host = guestmem_ptr(mem, le64toh(regions[i].addr), len);
        if (!host)
            return false;
        c->iov[c->niov++] = (struct iovec){host, len};
        c->room += len;
    }
    return true;
}

/* False when something lies where there is no RAM. */
static bool read_command(struct ahci_slot *s, unsigned slot)
{
    struct ata_command *c = &s->command;
    const struct guestmem *mem = s->port->hba->bus->mem;
    uint32_t header[4];
    if (guestmem_read(mem, s->list + slot * HEADER_BYTES, header, sizeof header) < 0)
        return false;
    uint32_t flags = le32toh(header[0]);
    uint64_t table = le32toh(header[2]) | (uint64_t)le32toh(header[3]) << 32;
    if (guestmem_read(mem, table, c->fis, sizeof c->fis) < 0)
        return false;
    if ((flags & HEADER_ATAPI) && guestmem_read(mem, table + TABLE_PACKET, c->packet, sizeof c->packet) < 0)
        return false;
    return read_regions(s, table, flags >> 16);
}

/* A FIS that sets the control register: SRST on, then off, resets the device, which answers with its signature. */
static void control(struct ahci_slot *s, unsigned slot)
{
    struct ahci_port *p = s->port;
    bool srst = s->command.fis[FIS_CONTROL] & CONTROL_SRST;
    if (p->soft_reset && !srst)
        p->dev->kind->reset(p->dev);
    pthread_mutex_lock(&p->hba->bus->lock);
    leave(s);
    if (!p->draining) {
        if (p->soft_reset && !srst)
            ahci_post_signature(p);
        p->soft_reset = srst;
        p->regs[P_CI] &= ~BIT(slot);
    }
    pthread_mutex_unlock(&p->hba->bus->lock);
}

static void bus_error(struct ahci_slot *s)
{
    struct ahci_port *p = s->port;
    pthread_mutex_lock(&p->hba->bus->lock);
    leave(s);
    if (!p->draining) {
        log_guest(&p->limit,
                  "ahci: a command of port %u lies in memory that does not exist; the port rests until the guest restarts it",
                  p->index);
        p->halted = true;
        ahci_port_event(p, IS_HBF);
    }
    pthread_mutex_unlock(&p->hba->bus->lock);
}

void ahci_command_run(struct ahci_port *p, unsigned slot)
{
    struct ahci_slot *s = &p->slots[slot];
    struct ata_command *c = &s->command;
    *c = (struct ata_command){.dev = p->dev, .done = command_done};
    if (!read_command(s, slot) || c->fis[FIS_TYPE] != FIS_HOST) {
        bus_error(s);
    } else if (!(c->fis[FIS_FLAGS] & FIS_HOST_C)) {
        control(s, slot);
    } else if (s->queued && c->fis[FIS_COUNT] >> 3 != slot) {
        /* The tag of a queued command is its slot (5.6.4.1). */
        c->protocol = ATA_QUEUED;
        ata_fail(c, ATA_ABORT);
    } else {
        if (s->queued) {
            /* The device has it: the slot's bit in SACT stays until it is done. */
            pthread_mutex_lock(&p->hba->bus->lock);
            p->regs[P_CI] &= ~(p->draining ? 0 : BIT(slot));
            pthread_mutex_unlock(&p->hba->bus->lock);
        }
        p->dev->kind->start(p->dev, c);
    }
}
