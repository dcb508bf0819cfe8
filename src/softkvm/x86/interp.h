/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The run loop's inside, for the instructions that it runs (op.h) and for tests.
 */
#ifndef LODGE_SOFTKVM_X86_INTERP_H
#define LODGE_SOFTKVM_X86_INTERP_H

#include "softkvm/x86/cpu.h"

/* An instruction, or one iteration of a REP string instruction, is complete: its I/O log has served. */
static inline void insn_retire_iteration(struct vcpu *v)
{
    if (unlikely(v->io_done))
        v->io_done = v->io_next = 0;
}

/* For the translator's loop: one instruction, and the slow lane before one. */
void interp_execute(struct vcpu *v);
enum cpu_stop interp_step_slow(struct vcpu *v);

/* Replaces i->exec of a freshly decoded instruction by a function made for its operands, where there is one (hot.c). Also takes out
 * what the host's CPU cannot execute: such an instruction is #UD. */
void insn_specialise(struct insn *i);

/* Leaves for user space with KVM_EXIT_INTERNAL_ERROR, suberror KVM_INTERNAL_ERROR_EMULATION: code in MMIO. */
_Noreturn void interp_emulation_error(struct vcpu *v);

#endif
