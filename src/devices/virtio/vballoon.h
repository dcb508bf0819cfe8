/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio 1.2, 5.5: the memory balloon. The guest puts pages into it when the host asks, and takes them back when it would otherwise run out of memory. With
 * free page reporting, which is on, the guest also names pages that it has just freed, unasked; either way the host has them back at once.
 */
#ifndef LODGE_DEVICES_VBALLOON_H
#define LODGE_DEVICES_VBALLOON_H

#include "devices/pci/pci.h"

struct vballoon_config {
    int slot; /* PCI slot or PCI_SLOT_AUTO */
    bool deflate_on_oom, reporting;
    uint64_t inflated; /* bytes that the guest is asked to give from its start on */
};

/* What the guest last told of itself (5.5.6.3); bytes, or counts since it booted. UINT64_MAX: it did not say. */
enum vballoon_stat {
    VBALLOON_SWAP_IN,
    VBALLOON_SWAP_OUT,
    VBALLOON_MAJOR_FAULTS,
    VBALLOON_MINOR_FAULTS,
    VBALLOON_FREE,
    VBALLOON_TOTAL,
    VBALLOON_AVAILABLE,
    VBALLOON_CACHES,
    VBALLOON_HUGE_ALLOC,
    VBALLOON_HUGE_FAIL,
    VBALLOON_STATS
};

struct vballoon;
int vballoon_create(struct pci_host *h, const struct vballoon_config *cfg, struct vballoon **out, struct error *err);
void vballoon_destroy(struct vballoon *b); /* no vCPU runs, lock not held */

/* From any thread, lock not held. */
void vballoon_set(struct vballoon *b, uint64_t bytes);  /* how much the guest is to give; whole pages */
uint64_t vballoon_inflated(const struct vballoon *b);   /* what it says that it has given, bytes */
uint64_t vballoon_reported(const struct vballoon *b);   /* bytes that free page reporting gave back so far */
/* The last statistics, and asks for new ones, which come when the guest gets to it. False: there are none yet. */
bool vballoon_stats(struct vballoon *b, uint64_t stats[VBALLOON_STATS]);

#endif
