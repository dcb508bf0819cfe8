// SPDX-License-Identifier: GPL-2.0-or-later
/* Fast system calls and the FS and GS bases. SDM vol. 3, 5.8.7 and 5.8.8; vol. 2. As on Intel, SYSCALL and SYSRET exist in 64-bit
 * code only. */
#include "softkvm/x86/desc.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/sys.h"

enum code_kind { KIND_32, KIND_64 };

/* CS and SS as these instructions set them: flat, without a look at the descriptor tables. */
static void set_flat(struct vcpu *v, uint16_t cs, uint16_t ss, unsigned cpl, enum code_kind kind)
{
    uint16_t common = SEG_P | SEG_S | SEG_G | (uint16_t)(cpl << 5) | SEG_RW | SEG_ACCESSED;
    v->seg[SEG_CS] =
        (struct segment){.limit = 0xffffffff, .sel = cs, .attr = common | SEG_CODE | (kind == KIND_64 ? SEG_L : SEG_DB)};
    v->seg[SEG_SS] = (struct segment){.limit = 0xffffffff, .sel = ss, .attr = common | SEG_DB, .flat = true};
    v->cpl = cpl;
    cpu_update_mode(v);
}

void op_syscall(struct vcpu *v, const struct insn *i)
{
    if (!cpu_64bit(v) || !(v->efer & EFER_SCE))
        cpu_ud(v);
    uint16_t cs = (v->msr.star >> 32) & 0xfffc;
    v->gpr[RCX] = v->rip + i->len;
    v->gpr[R11] = v->rflags & ~FL_RF;
    set_flat(v, cs, cs + 8, 0, KIND_64);
    v->tf_dropped = v->rflags & v->msr.sfmask & FL_TF;
    flags_write(v, 0, v->msr.sfmask | FL_RF);
    cpu_jump(v, v->msr.lstar);
}

void op_sysret(struct vcpu *v, const struct insn *i)
{
    const uint64_t settable = 0x3c7fd7; /* everything but RF and VM */
    if (!cpu_64bit(v) || !(v->efer & EFER_SCE))
        cpu_ud(v);
    require_cpl0(v);
    bool to64 = i->opsize == 8;
    uint64_t rip = to64 ? v->gpr[RCX] : (uint32_t)v->gpr[RCX];
    if (!is_canonical(rip))
        cpu_gp(v, 0);
    uint16_t base = v->msr.star >> 48;
    set_flat(v, (base + (to64 ? 16 : 0)) | 3, (base + 8) | 3, 3, to64 ? KIND_64 : KIND_32);
    cpu_jump(v, rip);
    flags_write(v, v->gpr[R11] & settable, settable | FL_RF | FL_VM);
}

void op_sysenter(struct vcpu *v, const struct insn *i)
{
    (void)i;
    uint16_t cs = v->msr.sysenter_cs & 0xfffc;
    if (!(v->cr0 & CR0_PE) || !cs)
        cpu_gp(v, 0);
    bool lm = v->long_mode;
    flags_write(v, 0, FL_VM | FL_IF | FL_RF);
    set_flat(v, cs, cs + 8, 0, lm ? KIND_64 : KIND_32);
    v->gpr[RSP] = lm ? v->msr.sysenter_esp : (uint32_t)v->msr.sysenter_esp;
    cpu_jump(v, lm ? v->msr.sysenter_eip : (uint32_t)v->msr.sysenter_eip);
}

void op_sysexit(struct vcpu *v, const struct insn *i)
{
    uint16_t base = v->msr.sysenter_cs & 0xfffc;
    if (!(v->cr0 & CR0_PE) || v->cpl || !base)
        cpu_gp(v, 0);
    bool to64 = i->opsize == 8;
    uint64_t rip = to64 ? v->gpr[RDX] : (uint32_t)v->gpr[RDX];
    uint64_t rsp = to64 ? v->gpr[RCX] : (uint32_t)v->gpr[RCX];
    if (to64 && (!is_canonical(rip) || !is_canonical(rsp)))
        cpu_gp(v, 0);
    set_flat(v, (base + (to64 ? 32 : 16)) | 3, (base + (to64 ? 40 : 24)) | 3, 3, to64 ? KIND_64 : KIND_32);
    v->gpr[RSP] = rsp;
    cpu_jump(v, rip);
}

void op_swapgs(struct vcpu *v, const struct insn *i)
{
    (void)i;
    if (!cpu_64bit(v))
        cpu_ud(v);
    require_cpl0(v);
    uint64_t base = v->seg[SEG_GS].base;
    v->seg[SEG_GS].base = v->msr.kernel_gs_base;
    v->msr.kernel_gs_base = base;
    seg_fixup(v, SEG_GS);
}

static void base_read(struct vcpu *v, const struct insn *i, enum seg_reg seg)
{
    if (!(v->cr4 & CR4_FSGSBASE) || !cpu_64bit(v))
        cpu_ud(v);
    op_write(v, i, 0, v->seg[seg].base);
}

static void base_write(struct vcpu *v, const struct insn *i, enum seg_reg seg)
{
    if (!(v->cr4 & CR4_FSGSBASE) || !cpu_64bit(v))
        cpu_ud(v);
    uint64_t base = op_read(v, i, 0);
    if (!is_canonical(base))
        cpu_gp(v, 0);
    v->seg[seg].base = base;
    seg_fixup(v, seg);
}

void op_rdfsbase(struct vcpu *v, const struct insn *i)
{
    base_read(v, i, SEG_FS);
}

void op_rdgsbase(struct vcpu *v, const struct insn *i)
{
    base_read(v, i, SEG_GS);
}

void op_wrfsbase(struct vcpu *v, const struct insn *i)
{
    base_write(v, i, SEG_FS);
}

void op_wrgsbase(struct vcpu *v, const struct insn *i)
{
    base_write(v, i, SEG_GS);
}
