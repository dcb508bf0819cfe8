// SPDX-License-Identifier: GPL-2.0-or-later
#include "block/library.h"

#include <dlfcn.h>
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int load(const char *soname, const char *package, const struct library_call *calls, size_t n, const char *what, const char *object, struct error *err)
{
    if (*calls[n - 1].pointer)
        return 0;
    void *lib = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return error_set(err, 0, "%s '%s': the library %s is not there; install Debian's package %s", what, object, soname, package);
    for (size_t i = 0; i < n; i++)
        if (!(*calls[i].pointer = dlsym(lib, calls[i].name)))
            return error_set(err, 0, "%s '%s': the library %s is too old, it has no %s; install a newer package %s", what, object, soname, calls[i].name, package);
    return 0;
}

int library_load(const char *soname, const char *package, const struct library_call *calls, size_t n, const char *what, const char *object,
                 struct error *err)
{
    pthread_mutex_lock(&lock);
    int ret = load(soname, package, calls, n, what, object, err);
    pthread_mutex_unlock(&lock);
    return ret;
}
