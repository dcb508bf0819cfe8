// SPDX-License-Identifier: GPL-2.0-or-later
/* Software interrupts, the interrupt flag, HLT, MSRs, time stamps, CPUID, hypercalls. SDM vol. 2; vol. 3, 20.3 (VME and PVI). */
#include <errno.h>
#include <linux/kvm_para.h>

#include "softkvm/irqchip/irqchip.h"
#include "softkvm/x86/debug.h"
#include "softkvm/x86/desc.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/sys.h"

/* ---- software interrupts ---- */

void op_int3(struct vcpu *v, const struct insn *i)
{
    debug_int3(v);
    event_deliver(v, EV_SOFT_EXC, EXC_BP, false, 0, v->rip + i->len);
}

void op_into(struct vcpu *v, const struct insn *i)
{
    if (v->rflags & FL_OF)
        event_deliver(v, EV_SOFT_EXC, EXC_OF, false, 0, v->rip + i->len);
}

void op_int1(struct vcpu *v, const struct insn *i)
{
    event_deliver(v, EV_PRIV_SOFT, EXC_DB, false, 0, v->rip + i->len);
}

/* Does the TSS's interrupt redirection bitmap, the 32 bytes below the I/O bitmap, send this vector to the program? SDM vol.
 * 3, 20.3.1. */
static bool vme_redirects(struct vcpu *v, uint8_t vector)
{
    const struct segment *tr = &v->seg[SEG_TR];
    if (!(v->cr4 & CR4_VME) || !(SEG_TYPE(tr) & 8) || tr->limit < 103)
        return false;
    uint32_t map = (uint32_t)sys_read(v, (uint32_t)(tr->base + 102), 2);
    uint32_t at = map - 32 + vector / 8;
    if (map < 32 || at > tr->limit)
        cpu_gp(v, 0);
    return !(sys_read(v, (uint32_t)(tr->base + at), 1) >> (vector & 7) & 1);
}

void op_int(struct vcpu *v, const struct insn *i)
{
    uint8_t vector = (uint8_t)i->imm;
    uint64_t next = v->rip + i->len;
    if (cpu_v86(v)) {
        if (vme_redirects(v, vector)) {
            event_redirect_v86(v, vector, next);
            return;
        }
        if (cpu_iopl(v) < 3)
            cpu_gp(v, 0);
    }
    event_deliver(v, EV_SOFT_INT, vector, false, 0, next);
}

/* ---- the interrupt flag ---- */

/* Which flag CLI and STI act on: IF, or VIF where ring 3 has a virtual one. Raises #GP(0). */
static uint64_t interrupt_flag(struct vcpu *v)
{
    if (!(v->cr0 & CR0_PE) || v->cpl <= cpu_iopl(v))
        return FL_IF;
    bool virtual = v->cpl == 3 && (v->cr4 & (cpu_v86(v) ? CR4_VME : CR4_PVI));
    if (!virtual)
        cpu_gp(v, 0);
    return FL_VIF;
}

void op_cli(struct vcpu *v, const struct insn *i)
{
    (void)i;
    v->rflags &= ~interrupt_flag(v);
}

void op_sti(struct vcpu *v, const struct insn *i)
{
    (void)i;
    uint64_t flag = interrupt_flag(v);
    if (flag == FL_VIF && (v->rflags & FL_VIP))
        cpu_gp(v, 0);
    if (flag == FL_IF && !(v->rflags & FL_IF)) {
        v->int_shadow |= KVM_X86_SHADOW_INT_STI;
        cpu_request(v, REQ_SHADOW);
        event_window_opened(v);
    }
    v->rflags |= flag;
}

void op_hlt(struct vcpu *v, const struct insn *i)
{
    require_cpl0(v);
    if (v->rflags & FL_TF) /* the single-step trap ends the halt at once */
        return;
    cpu_jump(v, v->rip + i->len);
    cpu_exit(v, STOP_HALT); /* after cpu_jump: the instruction is complete */
}

/* ---- MONITOR, MWAIT ---- */

void op_monitor(struct vcpu *v, const struct insn *i)
{
    if (!v->has.mwait || v->cpl)
        cpu_ud(v);
    if ((uint32_t)v->gpr[RCX])
        cpu_gp(v, 0);
    mem_read(v, i->seg, gpr_read(v, RAX * 8, i->addrsize), 1); /* faults as a load of one byte */
}

/* Waiting may end at any time (SDM vol. 2, MWAIT), so it ends at once. */
void op_mwait(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (!v->has.mwait || v->cpl)
        cpu_ud(v);
    if (v->gpr[RCX] & ~1ull)
        cpu_gp(v, 0);
}

/* ---- MSRs, time, identification ---- */

void op_rdmsr(struct vcpu *v, const struct insn *i)
{
    uint64_t val;
    (void)i;
    require_cpl0(v);
    if (msr_read(v, (uint32_t)v->gpr[RCX], &val, false))
        cpu_gp(v, 0);
    edx_eax_set(v, val);
}

void op_wrmsr(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_cpl0(v);
    if (msr_write(v, (uint32_t)v->gpr[RCX], edx_eax(v), false))
        cpu_gp(v, 0);
}

static void require_tsc(struct vcpu *v)
{
    if (v->cpl && (v->cr4 & CR4_TSD))
        cpu_gp(v, 0);
}

void op_rdtsc(struct vcpu *v, const struct insn *i)
{
    (void)i;
    require_tsc(v);
    edx_eax_set(v, guest_tsc(v));
}

void op_rdtscp(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (!v->has.rdtscp)
        cpu_ud(v);
    require_tsc(v);
    edx_eax_set(v, guest_tsc(v));
    v->gpr[RCX] = (uint32_t)v->msr.tsc_aux;
}

void op_rdpid(struct vcpu *v, const struct insn *i)
{
    op_write(v, i, 0, (uint32_t)v->msr.tsc_aux);
}

/* No performance counters are offered, so no index names one. */
void op_rdpmc(struct vcpu *v, const struct insn *i)
{
    (void)i;
    cpu_gp(v, 0);
}

void op_cpuid(struct vcpu *v, const struct insn *i)
{
    uint32_t out[4];
    (void)i;
    cpuid_query(v, (uint32_t)v->gpr[RAX], (uint32_t)v->gpr[RCX], out);
    v->gpr[RAX] = out[0];
    v->gpr[RBX] = out[1];
    v->gpr[RCX] = out[2];
    v->gpr[RDX] = out[3];
}

void op_serialize(struct vcpu *v, const struct insn *i)
{
    (void)v;
    (void)i;
}

void op_rsm(struct vcpu *v, const struct insn *i)
{
    (void)i;
    cpu_ud(v); /* there is no system-management mode */
}

/* ---- hypercalls ---- */

void op_vmcall(struct vcpu *v, const struct insn *i)
{
    (void)i;
    bool wide = cpu_64bit(v);
    uint64_t mask = wide ? ~0ull : 0xffffffff;
    if (v->cpl) {
        v->gpr[RAX] = (uint64_t)-KVM_EPERM & mask;
        return;
    }
    fpu_put(v);
    uint64_t ret =
        pv_hypercall(v, v->gpr[RAX] & mask, v->gpr[RBX] & mask, v->gpr[RCX] & mask, v->gpr[RDX] & mask, v->gpr[RSI] & mask, wide);
    v->gpr[RAX] = ret & mask;
}

/* KVM accepts either vendor's instruction. */
void op_vmmcall(struct vcpu *v, const struct insn *i)
{
    op_vmcall(v, i);
}
