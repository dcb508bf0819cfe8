/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One instruction on the host's CPU, in this very process: the oracle of the engine's tests.
 *
 * The instruction lies in memory that the caller has mapped, executable, with room for one byte behind it. It runs with the given
 * registers, flags and vector state, and ends in a breakpoint there or in a trap. Everything is caught in a signal handler on a
 * stack of its own, so RSP may be anything. Not for instructions that branch, nor with FS overrides (FS is the C library's).
 */
#ifndef LODGE_TESTS_HOSTRUN_H
#define LODGE_TESTS_HOSTRUN_H

#include <stdint.h>

#define HOSTRUN_AREA 4096

struct hostrun {
    uint64_t gpr[16], rflags, rip;                           /* rip: of the instruction; afterwards where it ended */
    uint8_t area[HOSTRUN_AREA] __attribute__((aligned(64))); /* standard-format XSAVE image; x87, SSE and AVX are loaded from it */
    int vector;                                              /* of the exception, -1 none */
    uint64_t fault_address;                                  /* of a page fault */
};

/* Installs the signal handlers. Before native_init(), so that the engine's come first and pass on what is not theirs. */
void hostrun_init(void);
/* Executes the `len` bytes at (void *)h->rip. Single-threaded. */
void hostrun(struct hostrun *h, unsigned len);

#endif
