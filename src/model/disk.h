/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <disk>: a disk, or a CD-ROM drive, over an image file. */
#ifndef LODGE_MODEL_DISK_H
#define LODGE_MODEL_DISK_H

#include <stdbool.h>

enum disk_format { DISK_RAW, DISK_QCOW2, DISK_FORMATS };
extern const char *const disk_format_names[DISK_FORMATS]; /* libvirt's, and the block layer's */

enum disk_bus { DISK_VIRTIO, DISK_SATA, DISK_BUSES };
extern const char *const disk_bus_names[DISK_BUSES + 1]; /* libvirt's; ends with NULL */

#define DISK_MAX_BOOT 900u

struct domain_disk {
    enum disk_format format;
    enum disk_bus bus;
    bool cdrom;
    char *file;          /* NULL: a CD-ROM drive without a disc */
    char target[8];      /* "vda", "sda" */
    unsigned boot_order; /* place in the boot order, from 1; 0: behind those that have one, by os.boot */
    bool readonly;
};

#endif
