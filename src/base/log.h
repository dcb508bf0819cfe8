/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log: lines on standard error, each `lodge: LEVEL: text`. Guests can cause log lines, so those go through log_guest(). */
#ifndef LODGE_BASE_LOG_H
#define LODGE_BASE_LOG_H

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level); /* default LOG_INFO */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* Rate limit for what a guest can cause: at most 10 lines in 5 s for each object; put one in the device's struct. */
struct log_limit {
    uint64_t window_start_ns;
    unsigned lines;
};
void log_guest(struct log_limit *limit, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
