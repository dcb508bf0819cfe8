/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Libraries that few disks need (clients of servers, TLS) are loaded when one does, so that no guest waits for them at its start and none has their code
 * in its process. A list of functions makes a table of pointers with the types of the library's own header:
 *
 *     #define CALLS(X) X(nbd_create) X(nbd_close)
 *     static struct { CALLS(LIBRARY_POINTER) } nbd;
 *     static const struct library_call calls[] = {CALLS(LIBRARY_CALL_NBD)};
 */
#ifndef LODGE_BLOCK_LIBRARY_H
#define LODGE_BLOCK_LIBRARY_H

#include <stddef.h>

#include "base/error.h"

#define LIBRARY_POINTER(name) __typeof__(name) *name;
#define LIBRARY_CALL(table, name) {#name, (void **)&(table).name}

struct library_call {
    const char *name;
    void **pointer;
};

/* Loads a library, once, and fills the pointers. `what` and `object` begin the error, `package` is its remedy. 0, or -1 with err. Any thread. */
int library_load(const char *soname, const char *package, const struct library_call *calls, size_t n, const char *what, const char *object,
                 struct error *err);

#endif
