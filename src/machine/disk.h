/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A domain's disk as the block layer opens it, whatever device the guest sees. */
#ifndef LODGE_MACHINE_DISK_H
#define LODGE_MACHINE_DISK_H

#include "block/block.h"
#include "model/domain.h"

/* Once for a process, before the first machine: makes the overlays of disks with snapshots, which outlive the machines. 0, or -1 with err. */
int disk_make_overlays(struct domain *d, struct error *err);
int disk_open(const struct domain_disk *disk, struct block **out, struct error *err);

#endif
