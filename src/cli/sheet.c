// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/sheet.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/util.h"

#define GAP 2u /* spaces between columns */

json_t *sheet_text(const char *s)
{
    json_t *j = s ? json_string(s) : json_null();
    if (j)
        return j;
    AUTO_FREE char *ascii = strdup(s);
    for (char *p = ascii; p && *p; p++)
        *p = (unsigned char)*p < 0x80 ? *p : '?';
    return json_string(ascii ? ascii : "");
}

char *sheet_value(const json_t *value, enum column_kind kind)
{
    char *text = NULL, size[32];
    int n = -1;
    if (!value || json_is_null(value))
        return strdup("-");
    if (json_is_string(value)) {
        n = asprintf(&text, "%s", json_string_value(value));
        for (char *p = n < 0 ? NULL : text; p && *p; p++) /* a guest's or a file's name is anybody's text */
            *p = (unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p;
    } else if (json_is_boolean(value))
        n = asprintf(&text, "%s", json_is_true(value) ? "yes" : "no");
    else if (json_is_real(value))
        n = asprintf(&text, "%g", json_real_value(value));
    else if (kind == COLUMN_SIZE) {
        print_size(size, sizeof size, (uint64_t)json_integer_value(value));
        n = asprintf(&text, "%s", size);
    } else if (kind == COLUMN_SECONDS)
        n = asprintf(&text, "%.1f s", (double)json_integer_value(value) / 1e9);
    else
        n = asprintf(&text, "%lld", (long long)json_integer_value(value));
    return n < 0 ? NULL : text;
}

/* Columns of a terminal: characters of UTF-8, without regard to wide ones. */
static unsigned width(const char *s)
{
    unsigned n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static bool is_right(enum column_kind kind)
{
    return kind == COLUMN_NUMBER || kind == COLUMN_SIZE || kind == COLUMN_SECONDS;
}

static void put_cell(FILE *out, const char *text, unsigned columns, bool right, bool last)
{
    unsigned w = width(text), pad = columns > w ? columns - w : 0;
    if (right)
        fprintf(out, "%*s", (int)pad, "");
    fputs(text, out);
    if (!last)
        fprintf(out, "%*s", (int)((right ? 0 : pad) + GAP), "");
}

static void put_row(FILE *out, const json_t *row, const struct column *columns, const unsigned *widths)
{
    for (unsigned i = 0; columns[i].key; i++) {
        AUTO_FREE char *text = row ? sheet_value(json_object_get(row, columns[i].key), columns[i].kind) : NULL;
        put_cell(out, row ? text ? text : "?" : columns[i].title, widths[i], is_right(columns[i].kind), !columns[i + 1].key);
    }
    fputc('\n', out);
}

void sheet_rows(FILE *out, const json_t *rows, const struct column *columns)
{
    unsigned widths[16], n = 0;
    const json_t *row;
    size_t i;
    for (; columns[n].key && n < ARRAY_SIZE(widths); n++) {
        widths[n] = width(columns[n].title);
        json_array_foreach(rows, i, row)
        {
            AUTO_FREE char *text = sheet_value(json_object_get(row, columns[n].key), columns[n].kind);
            widths[n] = MAX(widths[n], text ? width(text) : 0);
        }
    }
    put_row(out, NULL, columns, widths);
    json_array_foreach(rows, i, row) put_row(out, row, columns, widths);
}

void sheet_object(FILE *out, const json_t *object, const struct column *columns)
{
    unsigned titles = 0;
    for (const struct column *c = columns; c->key; c++)
        titles = MAX(titles, width(c->title));
    for (const struct column *c = columns; c->key; c++) {
        AUTO_FREE char *text = sheet_value(json_object_get(object, c->key), c->kind);
        put_cell(out, c->title, titles, false, false);
        fprintf(out, "%s\n", text ? text : "?");
    }
}
