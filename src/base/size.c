// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/size.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"

int parse_size(const char *text, uint64_t *bytes, struct error *err)
{
    static const char units[] = "KMGTPE";
    size_t digits = strspn(text, "0123456789"), all = digits;
    if (text[digits] == '.')
        all += 1 + strspn(text + digits + 1, "0123456789");
    const char *end = text + all; /* what strtod() takes beyond that, such as 0x10 and 1e3, would be another number to a reader than to strtoull() */
    double n = strtod(text, NULL);
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    bool ok = digits && (!*end || (unit && (!end[1] || strcasecmp(end + 1, "iB") == 0 || strcasecmp(end + 1, "B") == 0)));
    if (!ok || n * (double)(1ull << shift) >= 9e18)
        return error_set(err, 0, "size '%s': is no size; write bytes, or a number with K, M, G or T, for instance 10G", text);
    uint64_t whole = strtoull(text, NULL, 10);
    *bytes = text[digits] == '.' ? (uint64_t)(n * (double)(1ull << shift)) : whole << shift;
    return 0;
}

void print_size(char *out, size_t n, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    unsigned u = 0;
    for (; v >= 1024 && u + 1 < ARRAY_SIZE(units); u++)
        v /= 1024;
    snprintf(out, n, v == (double)(uint64_t)v ? "%.0f %s" : "%.3g %s", v, units[u]);
}
