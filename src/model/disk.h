/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <disk>: a disk, or a CD-ROM drive, over an image in a file, on a device or at a server, or a disk that is a vhost-user back end. */
#ifndef LODGE_MODEL_DISK_H
#define LODGE_MODEL_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "model/netdisk.h"
#include "model/pci.h"

/* The last three are read-only. */
enum disk_format { DISK_RAW, DISK_QCOW2, DISK_LUKS, DISK_VMDK, DISK_VDI, DISK_VPC, DISK_VHDX, DISK_PARALLELS, DISK_DMG, DISK_CLOOP, DISK_FORMATS };
extern const char *const disk_format_names[DISK_FORMATS]; /* libvirt's, and the block layer's */

enum disk_bus { DISK_VIRTIO, DISK_SATA, DISK_SCSI, DISK_BUSES };
extern const char *const disk_bus_names[DISK_BUSES + 1]; /* libvirt's; ends with NULL */

#define DISK_MAX_BOOT 900u

/* Numbered as in block/block.h; the names are libvirt's. */
enum disk_cache { DISK_WRITEBACK, DISK_DIRECT, DISK_WRITETHROUGH, DISK_UNSAFE, DISK_DIRECTSYNC };
enum disk_zeroes { DISK_ZEROES_OFF, DISK_ZEROES_ON, DISK_ZEROES_UNMAP };
enum disk_on_error { DISK_REPORT, DISK_STOP, DISK_STOP_ENOSPC };
extern const char *const disk_cache_names[], *const disk_on_error_names[], *const disk_zeroes_names[]; /* end with NULL */

/* Who makes the host's system calls: what suits the file, worker threads alone, or io_uring for certain. Linux AIO ("native") is what suits the file. */
enum disk_io { DISK_IO_ANY, DISK_IO_NATIVE, DISK_IO_THREADS, DISK_IO_URING };
enum disk_discard { DISK_DISCARD_ANY /* as unmap */, DISK_DISCARD_UNMAP, DISK_DISCARD_IGNORE };
extern const char *const disk_io_names[], *const disk_discard_names[];

enum disk_cache disk_cache_of(int name); /* of an index of disk_cache_names: "default" is one of the modes */

/* Limits, in a second: total, reads, writes; and what may go at once. 0: none. */
#define DISK_RATES 3
extern const char *const disk_rate_names[DISK_RATES];
struct disk_rates {
    uint64_t rate[DISK_RATES], burst[DISK_RATES];
};

enum disk_type { DISK_FILE, DISK_DEVICE, DISK_NETWORK, DISK_VHOSTUSER };

struct domain_disk {
    enum disk_type type;
    enum disk_format format;
    enum disk_bus bus;
    bool cdrom;
    char *file;          /* also of a device; the URL of a network disk. NULL: a CD-ROM drive without a disc, or `socket` */
    struct netdisk net;  /* what `file` says of a network disk */
    char *socket;        /* where a vhost-user back end listens */
    unsigned reconnect;  /* seconds until it is tried again after it went away; 0: when the guest starts the device anew */
    char target[8];      /* "vda", "sda" */
    unsigned boot_order; /* place in the boot order, from 1; 0: behind those that have one, by os.boot */
    bool readonly, snapshot; /* snapshot: writes are forgotten when the guest ends */
    char *overlay;           /* of a running guest: where they go until then (machine/disk.h). Not in the XML */
    char *secret_file;       /* holds the passphrase of an encrypted image; NULL: none */
    char *serial;            /* at most 20 characters; NULL: none */
    enum disk_cache cache;
    enum disk_io io;
    enum disk_discard discard;
    enum disk_zeroes zeroes;
    enum disk_on_error read_errors, write_errors;
    unsigned queues; /* 0: 1 */
    struct disk_rates bytes, ops;
    struct domain_pci_address address; /* of a virtio disk */
    char *alias; /* the user's name of it; NULL: none */
};

#endif
