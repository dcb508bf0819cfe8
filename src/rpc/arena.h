/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that belongs to one message: allocated piece by piece, freed as a whole. */
#ifndef LODGE_RPC_ARENA_H
#define LODGE_RPC_ARENA_H

#include <stddef.h>

struct arena_chunk;
struct arena {
    struct arena_chunk *chunks; /* all zero: empty */
};

/* Zeroed; NULL when memory is out. */
void *arena_alloc(struct arena *a, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t len);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void arena_free(struct arena *a);
/* Declares one that is freed at the end of its scope. */
#define ARENA_SCOPED(name) struct arena name __attribute__((cleanup(arena_free))) = {0}

#endif
