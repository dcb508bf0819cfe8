/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 8042 keyboard controller (ports 0x60, 0x64) with a keyboard that answers commands and never types, no mouse, and system
 * control port A (0x92). Both ways to reset raise BOARD_RESET. The A20 bits read back as written and gate nothing: A20 is always
 * open.
 */
#ifndef LODGE_DEVICES_I8042_H
#define LODGE_DEVICES_I8042_H

#include "devices/bus.h"

struct i8042;
extern const struct device_desc i8042_desc;

int i8042_create(struct bus *b, unsigned kbd_gsi, struct i8042 **out, struct error *err); /* kbd_gsi: 1 */
void i8042_destroy(struct i8042 *k);
void i8042_reset(void *k); /* device lock held, or no vCPU runs */

#endif
