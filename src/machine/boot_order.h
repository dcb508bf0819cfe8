/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The devices that a firmware may boot from. Whoever makes one adds it. */
#ifndef LODGE_MACHINE_BOOT_ORDER_H
#define LODGE_MACHINE_BOOT_ORDER_H

#include <stddef.h>

#define BOOT_ORDER_MAX 32
#define BOOT_PATH_MAX  96
#define BOOT_TEXT_MAX  (BOOT_ORDER_MAX * BOOT_PATH_MAX)

/* Devices in the order in which they are tried, as Open Firmware's device paths, which is how SeaBIOS names them. */
struct boot_order {
    char paths[BOOT_ORDER_MAX][BOOT_PATH_MAX];
    unsigned priority[BOOT_ORDER_MAX]; /* lower first */
    unsigned count;
};
void boot_order_add(struct boot_order *o, unsigned priority, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The list that the firmware reads: a path a line, in their order. Returns its length with the terminating zero. */
size_t boot_order_text(const struct boot_order *o, char text[BOOT_TEXT_MAX]);

#endif
