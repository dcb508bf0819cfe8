/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of the host as memory of the guest: mapped above RAM, each with a virtio-pmem device that tells of it.
 */
#ifndef LODGE_MACHINE_PMEM_H
#define LODGE_MACHINE_PMEM_H

#include "devices/pci/pci.h"
#include "machine/board.h"
#include "model/domain.h"

struct pmem;
uint64_t pmem_room(const struct domain *d); /* bytes of addresses that it takes */
/* 0, or -1 with err; then what was made is in *out all the same, for pmem_destroy(). */
int pmem_create(const struct domain *d, struct board *b, struct pci_host *pci, struct pmem **out, struct error *err);
void pmem_destroy(struct pmem *p); /* no vCPU runs; NULL is allowed */

#endif
