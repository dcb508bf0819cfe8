/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libvirt's URIs, taken apart. */
#ifndef LODGE_CLI_URI_H
#define LODGE_CLI_URI_H

#include "base/error.h"

#define URI_PARAMS 16u /* parameters of a URI */

struct uri {
    char *driver;             /* "qemu" */
    char *transport;          /* "unix", "ssh", "tcp", "tls", "ext", …; "" when it is not named */
    char *user, *host, *path; /* NULL: none; the path with its slash */
    int port;                 /* 0: the transport's own */
    char *name;               /* what connect_open sends: the URI as the daemon has it */
    struct uri_param {
        char *name, *value;
    } params[URI_PARAMS];
    unsigned nparams;
};
#define URI_SCOPED(name) struct uri name __attribute__((cleanup(uri_free))) = {0}

int uri_parse(const char *text, struct uri *uri, struct error *err);
void uri_free(struct uri *uri);
/* A parameter's value, NULL when it is not there. */
const char *uri_param(const struct uri *uri, const char *name);

#endif
