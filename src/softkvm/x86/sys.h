/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the system instructions share. */
#ifndef LODGE_SOFTKVM_X86_SYS_H
#define LODGE_SOFTKVM_X86_SYS_H

#include "softkvm/x86/cpu.h"

static inline void require_cpl0(struct vcpu *v)
{
    if (v->cpl)
        cpu_gp(v, 0);
}

/* SGDT, SIDT, SLDT, STR and SMSW outside ring 0. */
static inline void require_no_umip(struct vcpu *v)
{
    if (v->cpl && (v->cr4 & CR4_UMIP))
        cpu_gp(v, 0);
}

static inline uint64_t edx_eax(const struct vcpu *v)
{
    return v->gpr[RDX] << 32 | (uint32_t)v->gpr[RAX];
}

static inline void edx_eax_set(struct vcpu *v, uint64_t val)
{
    v->gpr[RAX] = (uint32_t)val;
    v->gpr[RDX] = val >> 32;
}

/* INT n in virtual-8086 mode that VME's bitmap redirects to the program's own handler (event.c). */
void event_redirect_v86(struct vcpu *v, uint8_t vector, uint64_t next_rip);

#endif
