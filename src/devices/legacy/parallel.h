/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A PC's parallel port (SPP) with a printer that takes every byte at once and never runs out of paper. */
#ifndef LODGE_DEVICES_PARALLEL_H
#define LODGE_DEVICES_PARALLEL_H

#include "devices/bus.h"
#include "devices/chardev.h"

#define PARALLEL_LPT1_PORT 0x378
#define PARALLEL_LPT1_GSI  7

struct parallel_config {
    uint16_t port;
    unsigned gsi;
    struct chardev chr; /* what is printed */
};

struct parallel;
extern const struct device_desc parallel_desc;

int parallel_create(struct bus *b, const struct parallel_config *cfg, struct parallel **out, struct error *err);
void parallel_destroy(struct parallel *p);

#endif
