// SPDX-License-Identifier: GPL-2.0-or-later
#include "rpc/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define CHUNK 4000u

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(16) char data[];
};

void *arena_alloc(struct arena *a, size_t size)
{
    struct arena_chunk *k = a->chunks;
    size = ALIGN_UP(MAX(size, (size_t)1), 16);
    if (!k || k->size - k->used < size) {
        size_t room = MAX(size, (size_t)CHUNK);
        k = malloc(sizeof *k + room);
        if (!k)
            return NULL;
        *k = (struct arena_chunk){.next = a->chunks, .size = room};
        a->chunks = k;
    }
    void *p = k->data + k->used;
    k->used += size;
    return memset(p, 0, size);
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
    char *copy = arena_alloc(a, len + 1);
    return copy ? memcpy(copy, s, len) : NULL;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    AUTO_FREE char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int len = vasprintf(&text, fmt, ap);
    va_end(ap);
    return len < 0 ? NULL : arena_strndup(a, text, (size_t)len);
}

void arena_free(struct arena *a)
{
    for (struct arena_chunk *next, *k = a->chunks; k; k = next) {
        next = k->next;
        free(k);
    }
    a->chunks = NULL;
}
