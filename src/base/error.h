/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors that a person reads.
 *
 * A fallible function returns an int (0, or -1) or a pointer (or NULL) and, on failure, fills the `struct error *` that is its
 * last argument. The text is one line that names the object, the cause and the remedy:
 *
 *     kernel '/boot/vmlinuz': cannot open: No such file or directory; give the path of a bzImage, vmlinux or Multiboot image
 *
 * A NULL `struct error *` is allowed everywhere and drops the text. The first error wins: error_set() on an error that is set
 * keeps the first text, so that clean-up code cannot hide the cause.
 */
#ifndef LODGE_BASE_ERROR_H
#define LODGE_BASE_ERROR_H

#include <stdbool.h>

struct error {
    char *text;   /* owned; NULL when no error is set */
    int errnum;   /* errno value of the cause, 0 when it has none */
};

/* Declares an error that is freed at the end of its scope. */
#define ERROR_SCOPED(name) struct error name __attribute__((cleanup(error_clear))) = {0}

/* Sets `err` to the formatted text; `errnum` is the errno of the cause or 0 (it is not printed by itself). Returns -1. */
int error_set(struct error *err, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Sets `err` to what `from` says. Returns -1. */
int error_copy(struct error *err, const struct error *from);

/* Puts the formatted text in front of the text of `err`. Returns -1. */
int error_prefix(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void error_clear(struct error *err);
const char *error_text(const struct error *err); /* never NULL */

static inline bool error_is_set(const struct error *err)
{
    return err && err->text;
}

#endif
