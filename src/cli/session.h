/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection to a daemon, as the verbs use it: one verb, or all that are typed at the prompt. */
#ifndef LODGE_CLI_SESSION_H
#define LODGE_CLI_SESSION_H

#include <stdbool.h>

#include "cli/sheet.h"
#include "rpc/calls.h"

struct session {
    char *uri;            /* owned; NULL: the environment's, or the user's default */
    struct rpc_client *c; /* NULL: not connected yet */
    bool json;            /* of the verb that runs: JSON for programs */
};

/* The URI that is in use: the option's, $LODGE_URI, $LIBVIRT_DEFAULT_URI, qemu:///system for root, qemu:///session for others. */
const char *session_uri(const struct session *s);
/* The daemon is on this host, and sees the files that this process sees. */
bool session_is_local(const struct session *s);
/* Connects, when it is not. 0, or -1 with err. */
int session_open(struct session *s, struct error *err);
void session_close(struct session *s);

/* Objects by what a user types. What they point to lies in `kept`. 0, or -1 with err. */
int session_domain(struct session *s, const char *name, struct remote_nonnull_domain *dom, struct arena *kept, struct error *err);
int session_pool(struct session *s, const char *name, struct remote_nonnull_storage_pool *pool, struct arena *kept,
                 struct error *err);
/* A path, or a name in a pool. */
int session_volume(struct session *s, const char *pool, const char *name, struct remote_nonnull_storage_vol *vol,
                   struct arena *kept, struct error *err);

/* Prints `data` (an array or an object; its reference is taken) by the columns, or as JSON. */
int session_show(const struct session *s, json_t *data, const struct column *columns, struct error *err);
/* A line for a person about what was done; nothing with --json, where the status tells it. */
void session_say(const struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
