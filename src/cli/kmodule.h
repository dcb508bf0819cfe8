/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A kernel's modules on the host: where they are, what they depend on, and their unpacked contents.
 *
 * The tree may be one that a guest has written to. So nothing outside of it is read, whatever links are in it, sizes are bounded,
 * and no index (modules.dep) is believed: a module's dependencies are those that it names itself.
 */
#ifndef LODGE_CLI_KMODULE_H
#define LODGE_CLI_KMODULE_H

#include "base/error.h"
#include "cli/cpio.h"

#define KMODULE_VERSION_MAX 64 /* bytes of a kernel's version, the end included */

/* "6.1.0-41-amd64" of a bzImage's header or an ELF file's banner; empty when the file does not say. 0, or -1 with err. */
int kmodule_version(const char *kernel, char version[KMODULE_VERSION_MAX], struct error *err);

struct kmodules;
/* Looks in ROOT/lib/modules/VERSION, then beside the kernel. *out is NULL when there are none: everything may be built in. */
int kmodules_open(const char *root, const char *kernel, const char *version, struct kmodules **out, struct error *err);
void kmodules_close(struct kmodules *m);
/* Adds a module behind those that it needs, under "modules/". A module that is built in adds nothing. 0, or -1 with err. */
int kmodules_add(struct kmodules *m, const char *name, struct cpio *c, struct error *err);

#endif
