// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

json_t *json_parse(const char *text, size_t len, struct error *err)
{
    json_error_t e;
    json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
    if (!j)
        error_set(err, 0, "JSON, line %d, column %d: %s; correct the text", e.line, e.column, e.text);
    return j;
}

const char *json_get_string(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

int64_t json_get_int(const json_t *object, const char *key, int64_t absent)
{
    const json_t *j = json_object_get(object, key);
    return json_is_integer(j) ? json_integer_value(j) : absent;
}

void json_put(FILE *out, const json_t *j)
{
    json_dumpf(j, out, JSON_ENCODE_ANY | JSON_COMPACT);
}

void json_put_string(FILE *out, const char *s)
{
    json_auto_t *j = json_string(s);
    AUTO_FREE char *ascii = j ? NULL : strdup(s);
    for (char *p = ascii; p && *p; p++)
        *p = (unsigned char)*p < 0x80 ? *p : '?';
    if (!j)
        j = json_string(ascii ? ascii : "");
    json_put(out, j);
}
