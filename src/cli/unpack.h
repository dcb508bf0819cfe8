/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compressed files in memory: gzip, xz and zstd, told by their names' ends. */
#ifndef LODGE_CLI_UNPACK_H
#define LODGE_CLI_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool unpack_needed(const char *name);
/* What `data` of *len bytes comes to, at most `max` bytes: to be freed, with its length in *len. NULL when it is damaged, too long,
 * or of no known kind. */
uint8_t *unpack(const char *name, const uint8_t *data, size_t *len, size_t max);

#endif
