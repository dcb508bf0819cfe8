/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <memory model='virtio-pmem'>: a file of the host that the guest has as persistent memory. */
#ifndef LODGE_MODEL_PMEM_H
#define LODGE_MODEL_PMEM_H

#include <stdint.h>

#include "model/pci.h"

#define DOMAIN_MAX_PMEMS 4u
#define PMEM_UNIT        (2ull << 20) /* bytes: what a size is a multiple of */

struct domain_pmem {
    char *path;
    uint64_t size; /* bytes */
    struct domain_pci_address address;
};

#endif
