/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Long options by a table: `--name`, `--name VALUE`, `--name=VALUE`. */
#ifndef LODGE_CLI_OPTIONS_H
#define LODGE_CLI_OPTIONS_H

#include <stddef.h>

#include "base/error.h"

struct option_row {
    const char *name;  /* without the dashes */
    const char *value; /* what the help calls the value; NULL when there is none */
    const char *help;
    int (*set)(void *object, const char *value, struct error *err); /* value: NULL when there is none */
};

/* Defines the setter of an option without a value, or of such a field of a list: it stores a constant in the object. */
#define OPTION_SETS(function, type, place, constant)                        \
    static int function(void *object, const char *value, struct error *err) \
    {                                                                       \
        (void)value;                                                        \
        (void)err;                                                          \
        ((type *)object)->place = (constant);                               \
        return 0;                                                           \
    }

/* Gives every argument to its row. The table ends with a NULL name. `verb` begins the errors. */
int options_parse(const struct option_row *rows, const char *verb, int argc, char **argv, void *object, struct error *err);
void options_help(const struct option_row *rows);

/* The table of `lodge run`, for completion. */
const struct option_row *run_option_rows(void);

/* The word that is nearest to `typed`, or NULL when none is near. Words lie `stride` bytes apart in a table; NULL ends them. */
const char *nearest_word(const char *typed, const char *const *words, size_t stride);

#endif
