/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON (RFC 8259): a text becomes a tree, strings are written with their escapes.
 *
 * Texts are hostile: depth is bounded by JSON_MAX_DEPTH, a string holds no NUL. Numbers are kept as doubles and, when they are
 * whole and fit, as integers.
 */
#ifndef LODGE_BASE_JSON_H
#define LODGE_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

#define JSON_MAX_DEPTH 32u

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    char *key; /* of an object's member, else NULL */
    bool boolean, is_integer;
    double number;
    int64_t integer;
    char *string;
    struct json *children, *next;
};

/* NULL with err. */
struct json *json_parse(const char *text, size_t len, struct error *err);
void json_free(struct json *j);
/* The object's member, or NULL. */
const struct json *json_get(const struct json *object, const char *key);
/* A member's string or integer; NULL or `absent` when there is none, or it has another type. */
const char *json_get_string(const struct json *object, const char *key);
int64_t json_get_int(const struct json *object, const char *key, int64_t absent);
/* With quotes and escapes. Bytes that are not UTF-8 become '?'. */
void json_put_string(FILE *out, const char *s);
/* Writes the tree back, on one line. */
void json_put(FILE *out, const struct json *j);

#endif
