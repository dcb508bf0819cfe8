/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The board: a VM of the accelerator with guest memory, interrupt chips and a bus, but without CPUs and devices.
 *
 * Invariants
 * - `end` is set once, by whoever ends the machine first (a device, a CPU, a person); from then on no CPU enters the guest again.
 * - GSIs below GSI_COUNT are the IOAPIC's and the PICs' pins. Those above are MSI routes, one for each irqfd; the accelerator gets
 *   the whole table at every change.
 */
#ifndef LODGE_MACHINE_BOARD_H
#define LODGE_MACHINE_BOARD_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/guestmem.h"
#include "devices/bus.h"
#include "devices/chardev.h"
#include "machine/accel.h"

enum board_end {
    END_NONE,
    END_POWEROFF,
    END_RESET,
    END_DEBUG_EXIT, /* code: the value that the guest wrote */
    END_PANIC,      /* the guest's kernel said so */
    END_TRIPLE_FAULT,
    /* Those before are the guest's doing. */
    END_FAILED, /* the accelerator cannot go on; `failure` says why */
    END_USER,   /* Ctrl-A x */
    END_RESTART, /* a person or program outside resets the machine */
    END_SIGNAL, /* code: the signal */
};

struct board {
    struct accel_vm vm;
    struct guestmem mem;
    struct bus bus;
    uint64_t pci64_base, pci64_end; /* the window for 64-bit BARs; equal when the CPU cannot address one */
    uint64_t pmem_base;             /* where persistent memory begins */
    unsigned physical_bits;         /* of an address, that the guest's CPUs have */
    int end_fd;                     /* an eventfd: readable when `end` is set */
    _Atomic uint32_t end;           /* enum board_end */
    int end_code;
    struct error failure;
    struct chardev console; /* CPU threads call its wait() after each exit: a guest does not outrun a slow terminal */
    pthread_mutex_t end_lock;
    pthread_mutex_t pause_lock;
    pthread_cond_t pause_change;
    _Atomic bool paused;  /* CPUs that leave the guest wait; set by the main thread */
    unsigned paused_cpus; /* that do, under pause_lock */
    pthread_mutex_t route_lock;
    struct msi_route *routes; /* by GSI - GSI_COUNT; owned */
    unsigned nroutes, max_routes;
};

/* A VM with `memory` (whose low_limit the board knows) for `ncpus` CPUs, which are created afterwards. 0, or -1 with err; then nothing is left. */
int board_create(struct board *b, enum domain_accel accel, const struct guestmem_config *memory, unsigned ncpus, struct error *err);
/* CPUs and devices are gone. */
void board_destroy(struct board *b);

/* Ends the machine, unless it is ended. Any thread, any lock. */
void board_end(struct board *b, enum board_end end, int code);
void board_fail(struct board *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool board_ended(struct board *b)
{
    return atomic_load_explicit(&b->end, memory_order_acquire) != END_NONE;
}

/* For a CPU's thread, outside of the guest: waits while the board is paused and not ended. */
void board_wait_paused(struct board *b);
/* Sets or ends the pause; the caller kicks the CPUs. */
void board_pause(struct board *b, bool paused);
/* Waits until `ncpus` CPUs wait, or the board is ended. */
void board_wait_cpus(struct board *b, unsigned ncpus);

/*
 * For a firmware, which puts 64-bit BARs where it likes: all that is above RAM and `room` bytes behind it is their window. The CPUs
 * get fewer address bits, where the rest are enough.
 */
void board_open_pci64(struct board *b, uint64_t room);

/* Takes the timer's line from the PIT, for the HPET, or gives it back. */
void board_replace_pit(struct board *b, bool replaced);

/* Has the guest unmasked a pin of the IOAPIC? */
bool board_ioapic_used(struct board *b);

/*
 * Memory slots. Those of RAM are the board's from the start; SLOT_SHADOW is the RAM from 768 KiB to 1 MiB, which a firmware's
 * shadow RAM replaces by slots from SLOT_FIRMWARE on.
 */
enum { SLOT_LOW, SLOT_SHADOW, SLOT_MAIN, SLOT_HIGH, SLOT_NVRAM = 14, SLOT_GENID = 15, SLOT_FIRMWARE = 16, SLOT_PMEM = 32 };
/* Makes, changes or (size 0) removes a slot. 0, or -errno. */
int board_slot(struct board *b, unsigned slot, uint64_t gpa, uint64_t size, const void *host, bool readonly);

static inline int board_ioctl(struct board *b, int fd, unsigned long request, void *arg)
{
    return accel_ioctl(b->vm.accel, fd, request, arg);
}

#endif
