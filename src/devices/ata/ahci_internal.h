/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What ahci.c (registers, ports, threads) and ahci_command.c (command lists and FISes in guest memory) share.
 *
 * A port with a device has a thread, which owns the device and its block. Under the device lock are the registers and everything in
 * struct ahci_port that is not marked otherwise. A register write never waits: it changes the registers and wakes the thread.
 */
#ifndef LODGE_DEVICES_AHCI_INTERNAL_H
#define LODGE_DEVICES_AHCI_INTERNAL_H

#include "base/log.h"
#include "base/util.h"
#include "devices/ata/ahci.h"

#define AHCI_SLOTS 32

/* Registers of a port, as indices of 32-bit words (AHCI 1.3, 3.3). */
enum {
    P_CLB = 0x00 / 4,
    P_CLBU = 0x04 / 4,
    P_FB = 0x08 / 4,
    P_FBU = 0x0c / 4,
    P_IS = 0x10 / 4,
    P_IE = 0x14 / 4,
    P_CMD = 0x18 / 4,
    P_TFD = 0x20 / 4,
    P_SIG = 0x24 / 4,
    P_SSTS = 0x28 / 4,
    P_SCTL = 0x2c / 4,
    P_SERR = 0x30 / 4,
    P_SACT = 0x34 / 4,
    P_CI = 0x38 / 4,
    P_REGS = 0x80 / 4,
};

/* P_IS, P_IE */
#define IS_DHR   BIT(0)  /* a register FIS came */
#define IS_PS    BIT(1)  /* a PIO setup FIS */
#define IS_SDB   BIT(3)  /* a set device bits FIS */
#define IS_PC    BIT(6)  /* the port's connection changed: SERR's X */
#define IS_HBF   BIT(29) /* the controller reached for memory that is none */
#define IS_TFE   BIT(30) /* the status has ERR */
#define IS_KNOWN 0xfdc000ffu

/* P_CMD */
#define CMD_ST    BIT(0)
#define CMD_SUD   BIT(1)
#define CMD_POD   BIT(2)
#define CMD_CLO   BIT(3)
#define CMD_FRE   BIT(4)
#define CMD_CCS   0x1f00u
#define CMD_FR    BIT(14)
#define CMD_CR    BIT(15)
#define CMD_ATAPI BIT(24)
#define CMD_WRITE (CMD_ST | CMD_FRE | CMD_ATAPI | 0xf0000000u)

#define SERR_X BIT(26) /* exchanged */

#define SSTS_UP 0x123u /* a device is there, at 3 Gbit/s, active */

/* A command on its way through the device. Owned by the port's thread. */
struct ahci_slot {
    struct ata_command command; /* first */
    struct ahci_port *port;
    uint64_t list; /* of the command list, when the command was taken */
    bool queued;
};

struct ahci_port {
    struct ahci *hba;
    unsigned index;
    uint32_t *regs; /* P_REGS words of hba->ports_regs */
    struct ata_device *dev;
    pthread_t thread;
    bool has_thread, quit;
    int kick_fd;
    struct ahci_slot *slots; /* AHCI_SLOTS */
    uint32_t taken;          /* slots that the thread has taken */
    unsigned in_flight;      /* commands that the device has */
    bool exclusive;          /* one of them is not queued: it is alone */
    bool halted;             /* a command failed: nothing is taken until the driver stops and starts the port */
    bool draining;           /* the port was stopped: what is in flight ends unseen, then it may start again */
    bool reset;              /* and the device is to be reset then */
    bool soft_reset;         /* the last control FIS had SRST set */
    struct log_limit limit;
};

struct ahci {
    struct pci_dev pci; /* first */
    struct bus *bus;
    uint32_t ghc, is;
    uint32_t port_regs[AHCI_PORTS * P_REGS];
    bool irq; /* level of the interrupt */
    struct ahci_port ports[AHCI_PORTS];
    pthread_cond_t drained;
};

/* ---- ahci.c; the lock is held ---- */

/* Sets bits of P_IS, and interrupts if the driver wants that. */
void ahci_port_event(struct ahci_port *p, uint32_t is);

/* ---- ahci_command.c ---- */

/* Reads the command of a slot that was taken and starts it at the device. On the thread, lock not held. */
void ahci_command_run(struct ahci_port *p, unsigned slot);
/* Posts the register FIS by which a device says what it is. Lock held. */
void ahci_post_signature(struct ahci_port *p);

#endif
