// SPDX-License-Identifier: GPL-2.0-or-later
/* The small values that the domain's notation is made of: sizes and UUIDs. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/domain.h"

int domain_parse_size(const char *text, uint64_t unit, uint64_t *bytes)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } units[] = {
        {"b", 1},          {"bytes", 1},        {"KB", 1000},          {"k", KIB}, {"KiB", KIB}, {"MB", 1000000},
        {"M", MIB},        {"MiB", MIB},        {"GB", 1000000000ull}, {"G", GIB}, {"GiB", GIB}, {"TB", 1000000000000ull},
        {"T", 1024 * GIB}, {"TiB", 1024 * GIB},
    };
    if (!isdigit((unsigned char)text[0]))
        return -1;
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno)
        return -1;
    uint64_t factor = *end ? 0 : unit;
    for (unsigned i = 0; *end && i < ARRAY_SIZE(units); i++) {
        if (strcasecmp(end, units[i].name) == 0)
            factor = units[i].factor;
    }
    return factor == 0 || __builtin_mul_overflow((uint64_t)n, factor, bytes) ? -1 : 0;
}

int domain_parse_uuid(const char *text, uint8_t uuid[16])
{
    unsigned digits = 0;
    uint8_t parsed[16] = {0};
    for (const char *p = text; *p; p++) {
        if (*p == '-')
            continue;
        if (!isxdigit((unsigned char)*p) || digits == 32)
            return -1;
        unsigned digit = isdigit((unsigned char)*p) ? (unsigned)(*p - '0') : (unsigned)(tolower((unsigned char)*p) - 'a' + 10);
        parsed[digits / 2] |= (uint8_t)(digits % 2 ? digit : digit << 4);
        digits++;
    }
    if (digits != 32)
        return -1;
    memcpy(uuid, parsed, 16);
    return 0;
}

void domain_format_uuid(const uint8_t uuid[16], char text[37])
{
    for (unsigned i = 0; i < 16; i++) {
        text += sprintf(text, "%02x", uuid[i]);
        if (i == 3 || i == 5 || i == 7 || i == 9)
            *text++ = '-';
    }
    *text = 0;
}
