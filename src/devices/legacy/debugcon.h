/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Port 0xe9: every byte written goes to the back end; a read gives 0xe9, which tells a guest that the port is there. */
#ifndef LODGE_DEVICES_DEBUGCON_H
#define LODGE_DEVICES_DEBUGCON_H

#include "devices/bus.h"
#include "devices/chardev.h"

struct debugcon;
extern const struct device_desc debugcon_desc;

int debugcon_create(struct bus *b, uint16_t port, const struct chardev *chr, struct debugcon **out,
                    struct error *err); /* port: 0xe9 */
void debugcon_destroy(struct debugcon *d);

#endif
