/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Port 0xf4, 4 bytes: a write ends the machine with BOARD_DEBUG_EXIT and the value written. For test kernels, off by default. */
#ifndef LODGE_DEVICES_DEBUGEXIT_H
#define LODGE_DEVICES_DEBUGEXIT_H

#include "devices/bus.h"

struct debugexit;
extern const struct device_desc debugexit_desc;

int debugexit_create(struct bus *b, uint16_t port, struct debugexit **out, struct error *err); /* port: 0xf4 */
void debugexit_destroy(struct debugexit *d);

#endif
