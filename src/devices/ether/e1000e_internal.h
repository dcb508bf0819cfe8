/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What e1000e.c (registers, PHY, NVM, the thread), e1000e_irq.c (interrupts), e1000e_ring.c (descriptors) and e1000e_rss.c (which
 * queue) share. Names are those of the 82574 data sheet, chapter 10.
 *
 * Registers are one array by address, under the device lock. The card's thread owns the back end; it holds the lock while it reads
 * or writes descriptors and buffers, so that nothing reaches guest memory after a register write has stopped it, and gives it back
 * to send.
 */
#ifndef LODGE_DEVICES_E1000E_INTERNAL_H
#define LODGE_DEVICES_E1000E_INTERNAL_H

#include "base/log.h"
#include "base/util.h"
#include "devices/ether/e1000e.h"

#define E_REG_BYTES 0xc000u /* of the 128 KiB; nothing is behind */
#define E_QUEUES    2u      /* each way */
#define E_QUEUE     0x100u  /* from a ring's registers to those of the next */
#define E_VECTORS   5u

enum {
    CTRL = 0x0000,
    STATUS = 0x0008,
    EEC = 0x0010,
    EERD = 0x0014,
    CTRL_EXT = 0x0018,
    MDIC = 0x0020,
    ICR = 0x00c0,
    ICS = 0x00c8,
    IMS = 0x00d0,
    IMC = 0x00d8,
    EIAC = 0x00dc,
    IAM = 0x00e0,
    IVAR = 0x00e4,
    RCTL = 0x0100,
    TCTL = 0x0400,
    EEMNGCTL = 0x1010,
    RDBAL = 0x2800,
    RDBAH = 0x2804,
    RDLEN = 0x2808,
    RDH = 0x2810,
    RDT = 0x2818,
    TDBAL = 0x3800,
    TDBAH = 0x3804,
    TDLEN = 0x3808,
    TDH = 0x3810,
    TDT = 0x3818,
    STATS = 0x4000, /* to STATS_END: counters, cleared by reading */
    MPC = 0x4010,
    GPRC = 0x4074,
    GPTC = 0x4080,
    GORC = 0x4088, /* bytes received, then those sent: 64 bits each */
    GOTC = 0x4090,
    STATS_END = 0x4128,
    RXCSUM = 0x5000,
    RFCTL = 0x5008,
    MTA = 0x5200, /* 128 words */
    RAL = 0x5400, /* 16 pairs of RAL and RAH */
    MRQC = 0x5818,
    RETA = 0x5c00,  /* 128 bytes */
    RSSRK = 0x5c80, /* 40 bytes */
    SYSTIML = 0xb600,
    SYSTIMH = 0xb604,
};

#define CTRL_MASTER_DISABLE BIT(2)
#define CTRL_RST            BIT(26)
#define CTRL_PHY_RST        BIT(31)
#define CTRL_EXT_EIAME      BIT(24)
#define CTRL_EXT_IAME       BIT(27)

#define INT_TXDW     BIT(0)
#define INT_LSC      BIT(2)
#define INT_RXDMT0   BIT(4)
#define INT_RXO      BIT(6)
#define INT_RXT0     BIT(7)
#define INT_MDAC     BIT(9)
#define INT_RXQ0     BIT(20) /* these five with MSI-X only */
#define INT_RXQ1     BIT(21)
#define INT_TXQ0     BIT(22)
#define INT_TXQ1     BIT(23)
#define INT_OTHER    BIT(24)
#define INT_ASSERTED BIT(31)

#define RCTL_EN     BIT(1)
#define RCTL_UPE    BIT(3)
#define RCTL_MPE    BIT(4)
#define RCTL_BAM    BIT(15)
#define RCTL_BSEX   BIT(25)
#define RCTL_SECRC  BIT(26)
#define TCTL_EN     BIT(1)
#define RXCSUM_PCSD BIT(13) /* receive descriptors have the hash where others have a checksum */
#define RFCTL_EXT   BIT(15) /* receive descriptors are of the extended kind */

/* The context that the last context descriptor set: how checksums and segments are made (7.2.7). */
struct e1000e_context {
    uint8_t ipcss, ipcso, tucss, tucso;
    uint16_t ipcse, tucse, mss;
    uint8_t tucmd, hdrlen;
};

/* A transmit queue's packet that is being gathered from descriptors. */
struct e1000e_tx {
    struct e1000e_context context;
    uint32_t len;
    uint64_t flags; /* what any of its descriptors asks for */
    bool skip;      /* it is too long, or its memory is none: the rest of it is dropped */
    uint8_t *frame; /* NET_FRAME_MAX bytes; the thread's */
};

struct e1000e {
    struct pci_dev pci; /* first */
    struct bus *bus;
    struct netdev *net;
    struct pcap *pcap;
    uint8_t mac[6];
    uint32_t regs[E_REG_BYTES / 4];
    uint16_t phy[32];
    struct e1000e_tx tx[E_QUEUES];
    bool irq;      /* the pin is asserted, or MSI was sent */
    uint32_t told; /* causes whose messages were sent (MSI-X) */

    pthread_t thread;
    int kick_fd;
    bool has_thread, quit;
    uint8_t *tx_room; /* NET_FRAME_MAX bytes; the thread's */
};

static inline uint32_t *e_reg(struct e1000e *e, unsigned addr)
{
    return &e->regs[addr / 4];
}

/* ---- e1000e_irq.c; the lock is held ---- */
void e1000e_update_irq(struct e1000e *e);
void e1000e_cause(struct e1000e *e, uint32_t bits);
/* What a queue tells: `bits`, or its own cause with MSI-X. */
void e1000e_queue_cause(struct e1000e *e, unsigned queue, bool transmit, uint32_t bits);
uint32_t e1000e_read_icr(struct e1000e *e);

/* ---- e1000e_rss.c; the lock is held ---- */
struct e1000e_rss {
    uint32_t hash;
    uint8_t type; /* of the hash, 0: none */
    unsigned queue;
};
bool e1000e_rss_on(struct e1000e *e); /* frames may go to the second queue */
struct e1000e_rss e1000e_pick_queue(struct e1000e *e, const uint8_t *frame, size_t len);

/* ---- e1000e_ring.c; on the thread, the lock is not held ---- */

/* Sends what the transmit rings hold, up to so many frames of each; true when there may be more. */
bool e1000e_transmit(struct e1000e *e, unsigned frames);
/* May a frame be received? While not, the back end is not asked for any. */
bool e1000e_has_room(struct e1000e *e);
void e1000e_receive(void *card, const void *frame, size_t len); /* netdev_receive */

#endif
