/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a verb shows: JSON objects, and columns that say how a person sees them. `--json` prints the objects as they are, so that
 * both come of the same values and the names of the members are what scripts rely on (lodge(1) lists them).
 */
#ifndef LODGE_CLI_SHEET_H
#define LODGE_CLI_SHEET_H

#include <stdio.h>

#include "base/json.h"

enum column_kind {
    COLUMN_TEXT,
    COLUMN_NUMBER,
    COLUMN_SIZE,    /* bytes */
    COLUMN_SECONDS, /* from nanoseconds */
    COLUMN_FLAG,    /* yes, no */
};

struct column {
    const char *key, *title;
    enum column_kind kind;
};
#define COLUMN_END  \
    {               \
        .key = NULL \
    }

/* Any bytes as a JSON string: what is not ASCII in a text that is not UTF-8 becomes '?'. NULL gives null. */
json_t *sheet_text(const char *s);

/* An array of objects as a table with a line of titles; an object as a line for each column. Null and absent members are "-". */
void sheet_rows(FILE *out, const json_t *rows, const struct column *columns);
void sheet_object(FILE *out, const json_t *object, const struct column *columns);
/* One value as a person sees it, to be freed. Bytes that would steer a terminal become '?'. */
char *sheet_value(const json_t *value, enum column_kind kind);

#endif
