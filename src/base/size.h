/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes as people write them. */
#ifndef LODGE_BASE_SIZE_H
#define LODGE_BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* "10G", "512", "1.5T": bytes. 0, or -1 with err. */
int parse_size(const char *text, uint64_t *bytes, struct error *err);
void print_size(char *out, size_t n, uint64_t bytes); /* "1.5 GiB" */

#endif
