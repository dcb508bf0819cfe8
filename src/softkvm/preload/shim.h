/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libsoftkvm-preload: a /dev/kvm for a dynamically linked program, by functions that take the place of the C library's.
 *
 * Each function here looks whether the call concerns /dev/kvm or a descriptor of softkvm; all other calls go to the C library unchanged.
 * Which calls those are:
 * - paths.c: opening /dev/kvm, and looking whether it is there.
 * - descriptors.c: ioctls of type KVMIO, and whatever ends or copies a descriptor. mmap() needs nothing: a vCPU's descriptor is a memfd.
 *   Also pthread_cancel(), for threads that are inside such an ioctl.
 * - signals.c: handlers, so that they run on an alternate stack and end KVM_RUN, and masks, so that softkvm's own traps stay open.
 *
 * softkvm itself is linked into this library, and its calls come here too.
 */
#ifndef LODGE_SOFTKVM_PRELOAD_SHIM_H
#define LODGE_SOFTKVM_PRELOAD_SHIM_H

/* A function of ours that is found instead of the C library's. */
#define SHIM __attribute__((visibility("default")))

/* The C library's function behind ours; looked up at its first use. Never NULL: the program asked for a function that the C library has. */
#define REAL(name)                                                                                                                         \
    ({                                                                                                                                     \
        static __typeof__(&name) real_##name;                                                                                              \
        if (!real_##name)                                                                                                                  \
            real_##name = (__typeof__(&name))shim_real(#name);                                                                             \
        real_##name;                                                                                                                       \
    })

typedef void shim_fn(void);
shim_fn *shim_real(const char *name); /* ends the program when there is none */

/* ---- signals.c ---- */
void shim_internal_signals(void); /* before the first guest runs: the C library's handlers get an alternate stack too */

#endif
