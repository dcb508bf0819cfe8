/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The run loop's inside, for the instructions that it runs (op.h) and for tests.
 */
#ifndef LODGE_SOFTKVM_X86_INTERP_H
#define LODGE_SOFTKVM_X86_INTERP_H

#include "softkvm/x86/cpu.h"

/* What unwinding brings: this after cpu_fault(), with v->fault set, or the enum cpu_stop given to cpu_exit(). */
enum { UNWIND_FAULT = 0x100 };

/* Does the exception push an error code? SDM vol. 3, table 6-1. */
static inline bool exc_has_error(unsigned vector)
{
    return BIT(vector) & (BIT(EXC_DF) | BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_PF) | BIT(EXC_AC));
}

/* An instruction, or one iteration of a REP string instruction, is complete: its I/O log has served. */
static inline void insn_retire_iteration(struct vcpu *v)
{
    if (unlikely(v->io_done))
        v->io_done = v->io_next = 0;
}

/* For the translator's loop: one instruction, and the slow lane before one. */
void interp_execute(struct vcpu *v);
const struct insn *interp_peek(struct vcpu *v); /* the instruction at rip; raises the faults of its fetch */
enum cpu_stop interp_step_slow(struct vcpu *v);

/* Replaces i->exec of a freshly decoded instruction by a function made for its operands, where there is one (hot.c). Also takes out
 * what the host's CPU cannot execute: such an instruction is #UD. */
void insn_specialise(struct insn *i);

/* Leaves for user space with KVM_EXIT_INTERNAL_ERROR, suberror KVM_INTERNAL_ERROR_EMULATION: code in MMIO. */
_Noreturn void interp_emulation_error(struct vcpu *v);

#endif
