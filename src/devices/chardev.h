/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the bytes of a serial port or console go.
 *
 * The back end is the board's: a terminal, a file, a test's buffer. Output is pushed through `write`; input is pushed the other way
 * by the back end's own thread with serial_input() or vconsole_input(), which take the device lock themselves.
 */
#ifndef LODGE_DEVICES_CHARDEV_H
#define LODGE_DEVICES_CHARDEV_H

#include <stddef.h>

struct chardev {
    /* Takes `len` bytes of output. May be called with the device lock held: it must not call back into a device and should not
     * block. */
    void (*write)(void *opaque, const void *buf, size_t len);
    /* May be NULL. The device has room for input again after an input call that took less than it was given. Same rules as write.
     */
    void (*input_ready)(void *opaque);
    /* May be NULL. Waits while the back end has much output to get rid of. Only for a device's own thread, which holds no lock. */
    void (*wait)(void *opaque);
    void *opaque;
};

#endif
