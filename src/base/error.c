// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int error_set(struct error *err, int errnum, const char *fmt, ...)
{
    if (!err || err->text)
        return -1;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&err->text, fmt, ap) < 0)
        err->text = NULL;
    va_end(ap);
    err->errnum = errnum;
    return -1;
}

int error_copy(struct error *err, const struct error *from)
{
    return error_set(err, from->errnum, "%s", error_text(from));
}

int error_prefix(struct error *err, const char *fmt, ...)
{
    if (!err)
        return -1;
    char *front = NULL, *whole = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&front, fmt, ap) < 0)
        front = NULL;
    va_end(ap);
    if (front && asprintf(&whole, "%s%s", front, error_text(err)) >= 0) {
        free(err->text);
        err->text = whole;
    }
    free(front);
    return -1;
}

void error_clear(struct error *err)
{
    free(err->text);
    *err = (struct error){0};
}

const char *error_text(const struct error *err)
{
    return err && err->text ? err->text : "no error text (out of memory)";
}
