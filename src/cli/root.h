/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A folder of the host as the root of a directly booted Linux. */
#ifndef LODGE_CLI_ROOT_H
#define LODGE_CLI_ROOT_H

#include "base/error.h"
#include "model/filesystem.h"

#define ROOT_TAG "lodge-root" /* of the share that has the folder */

/*
 * Makes the initramfs that mounts the share in a guest with this kernel: a descriptor that survives exec(), which the caller
 * closes. -1 with err, also when the kernel is known to have no 9p.
 */
int root_make_initramfs(const struct domain_share *share, const char *kernel, struct error *err);

#endif
