// SPDX-License-Identifier: GPL-2.0-or-later
/* The C library's functions behind ours. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "softkvm/preload/shim.h"

shim_fn *shim_real(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    shim_fn *fn;
    if (!p) {
        fprintf(stderr, "softkvm: function '%s': the C library has none; run the program without softkvm, or with glibc 2.34 or later\n", name);
        abort();
    }
    memcpy(&fn, &p, sizeof fn); /* POSIX lets dlsym() give functions as data pointers, ISO C has no such conversion */
    return fn;
}
