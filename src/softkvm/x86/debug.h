/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debugging as the run loop sees it: single step, breakpoints, KVM_SET_GUEST_DEBUG. debug.c owns DR6/DR7 and these hooks; interp.c calls
 * them on its slow lane, that is, only while REQ_STEP is set in vcpu->requests.
 */
#ifndef LODGE_SOFTKVM_X86_DEBUG_H
#define LODGE_SOFTKVM_X86_DEBUG_H

#include <stdbool.h>

struct vcpu;

/* Sets or clears REQ_STEP by RFLAGS.TF, DR7 and v->guest_debug. Call after anything that may set one of them (POPF and IRET with TF, MOV DR7,
 * KVM_SET_GUEST_DEBUG, KVM_SET_REGS). Clearing late is harmless. */
void debug_update(struct vcpu *v);

/*
 * Before the instruction at v->rip is fetched: code breakpoints. Not called while RFLAGS.RF is set, nor under the shadow of MOV SS or POP SS, nor
 * when an instruction is restarted after an exit. Raises the guest's #DB by unwinding, or returns true when v->run describes a KVM_EXIT_DEBUG.
 */
bool debug_before_insn(struct vcpu *v);

/*
 * After an instruction, or an iteration of a REP string instruction (rip then still points at it), has retired and v->rip has been advanced:
 * single step and data breakpoints. `tf`: RFLAGS.TF was set when the instruction began, and the instruction has not opened a shadow of MOV SS.
 * Delivers the guest's #DB trap through event_deliver() with next_rip = v->rip; returns true when v->run describes a KVM_EXIT_DEBUG.
 * A delivery that faults or exits unwinds as everywhere.
 */
bool debug_after_insn(struct vcpu *v, bool tf);

#endif
