/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-net without a kernel that has it: what an ioctl needs before it is checked, what it sets is kept, and any of them can fail.
 * There is one in a process.
 */
#ifndef LODGE_TESTS_FAKEVHOST_H
#define LODGE_TESTS_FAKEVHOST_H

#include <linux/vhost.h>
#include <pthread.h>

#include "check.h"
#include "net/vhost_kernel.h"

#define FAKE_TAP "lo" /* an interface that every host has */

struct fake_ring {
    uint32_t size, base;
    bool sized, based, addressed;
    struct vhost_vring_addr addr;
    int kick, call, trouble, backend; /* descriptors of the device; -1: none */
};

struct fake_pair {
    int fd, tap;
    bool owned, attached, has_features, has_memory;
    uint64_t features;
    struct vhost_memory_region regions[GUESTMEM_REGIONS + GUESTMEM_EXTRA];
    unsigned nregions;
    struct fake_ring rings[2];
};

struct fake_vhost {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t offered;
    unsigned offloads;                              /* of the tap device */
    struct fake_pair pairs[VHOST_KERNEL_PAIRS_MAX]; /* in the order in which they were opened */
    unsigned opened, taps;                          /* since the last fake_reset() */
    unsigned calls, fail_at;                        /* the call that fails, from 1 on; 0: none */
    int fail_with;                                  /* errno */
};
extern struct fake_vhost fake;
extern const struct vhost_kernel_sys fake_sys;

void fake_reset(void);
unsigned fake_backends(void); /* rings that have one */
/* Waits up to a minute until so many rings have a back end; false on time-out. */
bool fake_wait_backends(unsigned n);

#endif
