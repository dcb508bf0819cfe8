/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A board for device tests: guest memory in two regions, a bus, a PCI host, and a record of everything that devices did to the
 * board. The functions below act as a vCPU does.
 */
#ifndef LODGE_TESTS_RIG_H
#define LODGE_TESTS_RIG_H

#include "check.h"
#include "devices/pci/pci.h"

#define RIG_LOW     (16ull << 20) /* bytes of RAM at 0 */
#define RIG_HIGH    (4ull << 20)  /* bytes of RAM at 4 GiB */
#define RIG_ECAM    0xb0000000ull
#define RIG_MMIO32  0xe0000000ull
#define RIG_MMIO64  0x8000000000ull
#define RIG_IO      0xc000
#define RIG_VECTORS 64

struct rig_ioeventfd {
    int fd;
    uint64_t addr;
};

struct rig {
    struct guestmem mem;
    struct bus bus;
    struct pci_host *pci;
    uint64_t next; /* bump allocator of guest memory */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool gsi[24];
    unsigned gsi_rises[24];
    unsigned msi[RIG_VECTORS]; /* messages by their data */
    unsigned msi_other;
    unsigned events[4];
    int event_code;
    struct rig_ioeventfd ioeventfds[64];
    bool use_ioeventfds; /* false: the board refuses them */
};

void rig_init(struct rig *r);
/* The same with a host bridge as a reset leaves it, which tells `pam` of its PAM registers. */
void rig_init_firmware(struct rig *r, void (*pam)(void *opaque, const uint8_t *regs), void *opaque);
void rig_free(struct rig *r);

/* Guest memory; `at` gives its host address. */
uint64_t rig_alloc(struct rig *r, uint64_t len, uint64_t align);
void *rig_at(struct rig *r, uint64_t gpa);

uint64_t rig_read(struct rig *r, enum bus_space space, uint64_t addr, unsigned size);
void rig_write(struct rig *r, enum bus_space space, uint64_t addr, unsigned size, uint64_t val);
static inline uint8_t rig_in(struct rig *r, uint16_t port)
{
    return (uint8_t)rig_read(r, BUS_PORT, port, 1);
}
static inline void rig_out(struct rig *r, uint16_t port, uint8_t val)
{
    rig_write(r, BUS_PORT, port, 1, val);
}
uint32_t rig_cfg_read(struct rig *r, unsigned devfn, unsigned off, unsigned size);
void rig_cfg_write(struct rig *r, unsigned devfn, unsigned off, unsigned size, uint32_t val);

/* The offset of the next capability `id` behind `after` (0: the first), or 0. */
unsigned rig_cap(struct rig *r, unsigned devfn, uint8_t id, unsigned after);

/* Waits up to a minute until more than `seen` messages of that data arrived; false on time-out. */
bool rig_wait_msi(struct rig *r, unsigned data, unsigned seen);
bool rig_wait_gsi(struct rig *r, unsigned gsi, bool level);
unsigned rig_msis(struct rig *r, unsigned data);
bool rig_gsi(struct rig *r, unsigned gsi);
unsigned rig_events(struct rig *r, int event);

#endif
