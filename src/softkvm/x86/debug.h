/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debugging as the run loop sees it: single step, breakpoints, KVM_SET_GUEST_DEBUG. debug.c owns DR6/DR7 and these hooks; interp.c
 * calls them on its slow lane, that is, only while REQ_STEP is set in vcpu->requests.
 */
#ifndef LODGE_SOFTKVM_X86_DEBUG_H
#define LODGE_SOFTKVM_X86_DEBUG_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;

/* DR6, SDM vol. 3, 18.2.3 */
#define DR6_HITS  0xfull
#define DR6_BD    (1ull << 13)
#define DR6_BS    (1ull << 14)
#define DR6_BT    (1ull << 15)
#define DR6_FIXED 0xffff0ff0ull /* bits that read as 1 */
#define DR6_VALID 0x0000e00full /* bits that can be changed */
/* DR7, 18.2.4 */
#define DR7_ENABLE 0xffull /* L0, G0 .. L3, G3 */
#define DR7_GD     (1ull << 13)
#define DR7_FIXED  0x400ull
#define DR7_VALID  0xffff23ffull

/* Sets or clears REQ_STEP by RFLAGS.TF, DR7 and v->guest_debug. Call after anything that may set one of them (POPF and IRET with
 * TF, MOV DR7, KVM_SET_GUEST_DEBUG, KVM_SET_REGS). Clearing late is harmless. Also keeps v->watch_active. */
void debug_update(struct vcpu *v);

/*
 * Before the instruction at v->rip is fetched: code breakpoints. Not called while RFLAGS.RF is set, nor under the shadow of MOV SS
 * or POP SS, nor when an instruction is restarted after an exit. Raises the guest's #DB by unwinding, or returns true when v->run
 * describes a KVM_EXIT_DEBUG.
 */
bool debug_before_insn(struct vcpu *v);

/*
 * After an instruction, or an iteration of a REP string instruction (rip then still points at it), has retired and v->rip has been
 * advanced: single step and data breakpoints. `tf`: RFLAGS.TF was set when the instruction began, and the instruction has not
 * opened a shadow of MOV SS. Delivers the guest's #DB trap through event_deliver() with next_rip = v->rip; returns true when v->run
 * describes a KVM_EXIT_DEBUG. A delivery that faults or exits unwinds as everywhere.
 */
bool debug_after_insn(struct vcpu *v, bool tf);

/* A data access of the executing instruction; the MMU reports them while v->watch_active. Only marks: the trap follows the
 * instruction. */
void debug_data_access(struct vcpu *v, uint64_t la, unsigned size, bool write);
/* A port access, for I/O breakpoints (CR4.DE); called before it is made, whatever is armed. */
void debug_io_access(struct vcpu *v, uint16_t port, unsigned size);

/* Raises #DB as a fault (or, with all state committed, as a trap at v->rip) with these bits in DR6; or leaves with KVM_EXIT_DEBUG.
 */
_Noreturn void cpu_fault_db(struct vcpu *v, uint64_t dr6_bits);
/* INT3: leaves with KVM_EXIT_DEBUG when a debugger has software breakpoints (KVM_GUESTDBG_USE_SW_BP), else returns. */
void debug_int3(struct vcpu *v);

/* DR7 as it is in force: a debugger's outside, or the guest's. */
uint64_t debug_dr7(const struct vcpu *v);

/* MOV DRn, and KVM_SET_DEBUGREGS after its checks. */
void dr_write(struct vcpu *v, unsigned n, uint64_t val);

#endif
