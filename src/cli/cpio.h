/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Archives that the kernel unpacks as its first root file system: cpio's "newc"
 * (Documentation/driver-api/early-userspace/buffer-format.rst). */
#ifndef LODGE_CLI_CPIO_H
#define LODGE_CLI_CPIO_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct cpio {
    FILE *out;
    uint32_t inode; /* of the last entry; no two are the same file */
    size_t pos;     /* bytes written */
};

/* Entries belong to root. `mode` has the kind of file; errors show in ferror(out). */
void cpio_add(struct cpio *c, const char *name, uint32_t mode, const void *data, size_t len);
void cpio_end(struct cpio *c);

#endif
