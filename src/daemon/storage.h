/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pools of the type `dir` and their volumes. Everything is called with pools_lock() held. */
#ifndef LODGE_DAEMON_STORAGE_H
#define LODGE_DAEMON_STORAGE_H

#include "daemon/daemon.h"

struct pool {
    struct pool *next;
    char *name, *path;
    uint8_t uuid[16];
    bool has_uuid, active, autostart;
};

struct vol {
    uint64_t capacity, allocation; /* bytes */
};

struct vol_new {
    char *name, *backing, *backing_format;
    uint64_t capacity, allocation; /* bytes */
    bool qcow2;
};

void pools_lock(struct daemon *d);
void pools_unlock(struct daemon *d);
struct pool *pools_first(struct daemon *d);
struct pool *pool_parse(const char *xml, size_t len, struct error *err);
char *pool_xml(const struct pool *p);
/* Takes over `p`; *out is it, or the one of the same name and UUID with its new path. */
int pool_add(struct daemon *d, struct pool *p, struct pool **out, struct error *err);
int pool_save(struct daemon *d, const struct pool *p, struct error *err);
int pool_save_autostart(struct daemon *d, struct pool *p, bool on, struct error *err);
int pool_remove(struct daemon *d, struct pool *p, struct error *err);

bool vol_name_ok(const char *name);
const char *vol_format(const char *name);
char *vol_path(const struct pool *p, const char *name); /* NULL for a name that cannot be */
int vol_stat(const struct pool *p, const char *name, struct vol *v, struct error *err);
int vol_parse(const char *xml, struct vol_new *v, struct error *err);
void vol_new_free(struct vol_new *v);
int vol_create(const struct pool *p, const struct vol_new *v, struct error *err);
/* A raw volume's new bytes are allocated with `allocate`. A guest that uses the volume keeps it as it is. */
int vol_resize(const struct pool *p, const char *name, uint64_t size, bool shrink, bool allocate, struct error *err);
int vol_copy(const struct pool *p, const char *from, const struct vol_new *v, struct error *err);

#endif
