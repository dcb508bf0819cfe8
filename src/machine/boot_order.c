// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/boot_order.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

void boot_order_add(struct boot_order *o, unsigned priority, const char *fmt, ...)
{
    va_list ap;
    if (o->count == BOOT_ORDER_MAX)
        return; /* the rest is tried in the firmware's own order */
    va_start(ap, fmt);
    vsnprintf(o->paths[o->count], BOOT_PATH_MAX, fmt, ap);
    va_end(ap);
    o->priority[o->count++] = priority;
}

size_t boot_order_text(const struct boot_order *o, char text[BOOT_TEXT_MAX])
{
    size_t len = 0;
    bool taken[BOOT_ORDER_MAX] = {false};
    text[0] = 0;
    for (unsigned round = 0; round < o->count; round++) {
        unsigned best = BOOT_ORDER_MAX;
        for (unsigned i = 0; i < o->count; i++)
            if (!taken[i] && (best == BOOT_ORDER_MAX || o->priority[i] < o->priority[best]))
                best = i;
        taken[best] = true;
        len += (size_t)sprintf(text + len, "%s%s", round ? "\n" : "", o->paths[best]);
    }
    return len + 1;
}
