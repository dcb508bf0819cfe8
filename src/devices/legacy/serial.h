/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A 16550A UART (National Semiconductor PC16550D data sheet) on 8 ports. */
#ifndef LODGE_DEVICES_SERIAL_H
#define LODGE_DEVICES_SERIAL_H

#include "devices/bus.h"
#include "devices/chardev.h"

#define SERIAL_COM1_PORT 0x3f8
#define SERIAL_COM1_GSI  4
#define SERIAL_COM2_PORT 0x2f8
#define SERIAL_COM2_GSI  3

struct serial_config {
    uint16_t port;
    unsigned gsi;
    struct chardev chr; /* copied */
};

struct serial;
extern const struct device_desc serial_desc;

int serial_create(struct bus *b, const struct serial_config *cfg, struct serial **out, struct error *err);
void serial_destroy(struct serial *s);
void serial_reset(void *s); /* device lock held, or no vCPU runs */

/* From the back end's thread, lock not held: bytes taken, which is less than `len` when the guest is slow (see
 * chardev.input_ready). */
size_t serial_input(struct serial *s, const void *buf, size_t len);
/* The line's break condition, as a terminal's break key makes it (Linux: SysRq). Lock not held. */
void serial_break(struct serial *s);

#endif
