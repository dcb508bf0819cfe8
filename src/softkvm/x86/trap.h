/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Traps of native code (native.h) as values instead of signals. */
#ifndef LODGE_SOFTKVM_X86_TRAP_H
#define LODGE_SOFTKVM_X86_TRAP_H

/* A trap's vector as native code returns it; 0 is success. */
#define NATIVE_TRAP(vector) ((unsigned long)(vector) + 1)

/* From now on #MF, #XM, #UD and #GP at an address in [begin, end), or in an operation of fpu_ops.S, return NATIVE_TRAP(vector) to the caller of that
 * code. All else goes to the handlers that were installed before. Once per process; 0 or -errno. */
int trap_install(const void *begin, const void *end);

#endif
