/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The panic device (QEMU, docs/specs/pvpanic): one port by which a guest's kernel says that it panicked. Raises BOARD_PANIC. */
#ifndef LODGE_MACHINE_PVPANIC_H
#define LODGE_MACHINE_PVPANIC_H

#include "devices/bus.h"

struct pvpanic;
extern const struct device_desc pvpanic_desc;

int pvpanic_create(struct bus *b, uint16_t port, struct pvpanic **out, struct error *err);
void pvpanic_destroy(struct pvpanic *p);

#endif
