// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/util.h"

#define LIMIT_WINDOW_NS (5 * NS_PER_S)
#define LIMIT_LINES     10

static enum log_level max_level = LOG_INFO;

static void log_va(enum log_level level, const char *fmt, va_list ap)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char text[1024];
    if (level > max_level)
        return;
    vsnprintf(text, sizeof text, fmt, ap);
    fprintf(stderr, "lodge: %s: %s\n", names[level], text);
}

void log_set_level(enum log_level level)
{
    max_level = level;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_va(level, fmt, ap);
    va_end(ap);
}

void log_guest(struct log_limit *limit, const char *fmt, ...)
{
    uint64_t now = now_ns();
    if (now - limit->window_start_ns > LIMIT_WINDOW_NS) {
        limit->window_start_ns = now;
        limit->lines = 0;
    }
    if (limit->lines++ >= LIMIT_LINES)
        return;
    va_list ap;
    va_start(ap, fmt);
    log_va(LOG_WARN, fmt, ap);
    va_end(ap);
}
