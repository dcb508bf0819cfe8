/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libvirt's typed parameters, as answers of calls: rows of a name and a value, in the call's arena. */
#ifndef LODGE_DAEMON_PARAMS_H
#define LODGE_DAEMON_PARAMS_H

#include "daemon/server.h"

struct params {
    struct call *c;
    struct remote_typed_param *val;
    unsigned len, cap;
};

/* The name is formatted; a string that is NULL adds nothing. Without memory, rows get lost. */
void params_int(struct params *p, int value, const char *name, ...) __attribute__((format(printf, 3, 4)));
void params_uint(struct params *p, unsigned value, const char *name, ...) __attribute__((format(printf, 3, 4)));
void params_u64(struct params *p, uint64_t value, const char *name, ...) __attribute__((format(printf, 3, 4)));
void params_string(struct params *p, const char *value, const char *name, ...) __attribute__((format(printf, 3, 4)));

#endif
