/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ways in which a driver may use a device: each kind of ring, with MSI-X and with the pin. */
#ifndef LODGE_TESTS_MODES_H
#define LODGE_TESTS_MODES_H

#include "driver.h"

struct mode {
    const char *name;
    uint64_t features;
    bool msix;
    uint16_t size;
};

static const struct mode modes[] = {
    {"split", 0, true, 64},
    {"split, event index", DRV_EVENT, true, 16},
    {"split, indirect", DRV_INDIRECT, true, 64},
    {"split, event index, indirect, pin", DRV_EVENT | DRV_INDIRECT, false, 256},
    {"packed", DRV_PACKED, true, 64},
    {"packed, event index", DRV_PACKED | DRV_EVENT, true, 13}, /* need not be a power of two */
    {"packed, indirect, pin", DRV_PACKED | DRV_INDIRECT, false, 64},
    {"packed, event index, indirect", DRV_PACKED | DRV_EVENT | DRV_INDIRECT, true, 256},
};

#endif
