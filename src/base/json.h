/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON by jansson, with errors of our kind and the few things that jansson leaves to its users. */
#ifndef LODGE_BASE_JSON_H
#define LODGE_BASE_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

/* A text that may be hostile; jansson bounds its depth. The caller's reference, NULL with err. */
json_t *json_parse(const char *text, size_t len, struct error *err);
/* A member's string or integer; NULL or `absent` when there is none, or it has another type. */
const char *json_get_string(const json_t *object, const char *key);
int64_t json_get_int(const json_t *object, const char *key, int64_t absent);
/* With quotes and escapes. Bytes that are not UTF-8 become '?'. */
void json_put_string(FILE *out, const char *s);
/* On one line. */
void json_put(FILE *out, const json_t *j);

#endif
