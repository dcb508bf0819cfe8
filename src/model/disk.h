/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <disk>: a virtio disk over an image file. */
#ifndef LODGE_MODEL_DISK_H
#define LODGE_MODEL_DISK_H

#include <stdbool.h>

enum disk_format { DISK_RAW, DISK_QCOW2, DISK_FORMATS };
extern const char *const disk_format_names[DISK_FORMATS]; /* libvirt's, and the block layer's */

struct domain_disk {
    enum disk_format format;
    char *file;
    char target[8]; /* "vda" */
    bool readonly;
};

#endif
