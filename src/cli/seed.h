/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cloud-init's NoCloud seed: a small ISO 9660 image labelled "cidata" with a guest's user-data and meta-data. */
#ifndef LODGE_CLI_SEED_H
#define LODGE_CLI_SEED_H

#include "base/error.h"

/*
 * Makes the seed of a user-data file for a guest of that name, in memory: a descriptor that survives exec(), which the caller
 * closes. -1 with err.
 */
int seed_make(const char *user_data, const char *name, struct error *err);

#endif
