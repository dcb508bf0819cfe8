// SPDX-License-Identifier: GPL-2.0-or-later
/* Instructions on segment registers and descriptor tables. SDM vol. 2; vol. 3, 2.4 and 5.10. */
#include "softkvm/x86/desc.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/op.h"
#include "softkvm/x86/sys.h"

/* ---- segment registers ---- */

/* MOV SS and POP SS shield the next instruction from interrupts and debug traps; two in a row do not shield longer. SDM vol.
 * 3, 6.8.3. */
static void shield_after_ss(struct vcpu *v)
{
    if (v->int_shadow & KVM_X86_SHADOW_INT_MOV_SS)
        return;
    v->int_shadow |= KVM_X86_SHADOW_INT_MOV_SS;
    cpu_request(v, REQ_SHADOW);
}

/* With a 32-bit operand the slot's upper half stays as it is, on Intel's recent processors. SDM vol. 2, PUSH. */
void op_push_seg(struct vcpu *v, const struct insn *i)
{
    uint64_t sp = stack_pointer(v, -(int64_t)i->opsize);
    mem_write(v, SEG_SS, sp, i->opsize == 4 ? 2 : i->opsize, v->seg[i->ops[0].reg].sel);
    stack_set(v, sp);
}

void op_pop_seg(struct vcpu *v, const struct insn *i)
{
    enum seg_reg seg = i->ops[0].reg;
    unsigned width = stack_size(v); /* of the stack that is popped, not of the one that POP SS brings */
    uint64_t sp = stack_pointer(v, i->opsize);
    seg_load(v, seg, (uint16_t)stack_peek(v, 0, 2));
    reg_set(v, RSP, width, sp);
    if (seg == SEG_SS)
        shield_after_ss(v);
}

void op_mov_seg(struct vcpu *v, const struct insn *i)
{
    if (i->ops[0].kind != OPK_SEG) {
        if (i->ops[1].reg > SEG_GS)
            cpu_ud(v);
        op_write(v, i, 0, v->seg[i->ops[1].reg].sel);
        return;
    }
    enum seg_reg seg = i->ops[0].reg;
    if (seg == SEG_CS || seg > SEG_GS)
        cpu_ud(v);
    seg_load(v, seg, (uint16_t)op_read(v, i, 1));
    if (seg == SEG_SS)
        shield_after_ss(v);
}

void op_lfp(struct vcpu *v, const struct insn *i)
{
    uint64_t ea = insn_ea(v, i), at = ea + i->opsize;
    uint64_t off = mem_read(v, i->seg, ea, i->opsize);
    at = i->addrsize == 8 ? at : i->addrsize == 4 ? (uint32_t)at : (uint16_t)at;
    seg_load(v, i->ops[2].reg, (uint16_t)mem_read(v, i->seg, at, 2));
    gpr_write(v, i->ops[0].off, i->opsize, off);
}

/* ---- GDTR, IDTR ---- */

/* What LGDT reads and SGDT writes: 10 bytes in 64-bit code, the first 6 of them elsewhere. */
struct pseudo_descriptor {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

static unsigned pseudo_size(const struct vcpu *v)
{
    return cpu_64bit(v) ? 10 : 6;
}

static void load_table(struct vcpu *v, const struct insn *i, struct desc_table *t)
{
    struct pseudo_descriptor p = {0};
    unsigned n = pseudo_size(v);
    require_cpl0(v);
    mmu_read_buf(v, seg_linear(v, i->seg, insn_ea(v, i), n, MEM_R), &p, n, v->mmu_idx, i->seg);
    uint64_t base = p.base;
    if (cpu_64bit(v) && !is_canonical(base))
        cpu_gp(v, 0);
    if (!cpu_64bit(v) && i->opsize == 2)
        base &= 0xffffff;
    *t = (struct desc_table){.base = base, .limit = p.limit};
}

static void store_table(struct vcpu *v, const struct insn *i, const struct desc_table *t)
{
    struct pseudo_descriptor p = {.limit = t->limit, .base = t->base};
    unsigned n = pseudo_size(v);
    require_no_umip(v);
    mmu_write_buf(v, seg_linear(v, i->seg, insn_ea(v, i), n, MEM_W), &p, n, v->mmu_idx, i->seg);
}

void op_lgdt(struct vcpu *v, const struct insn *i)
{
    load_table(v, i, &v->gdt);
}

void op_lidt(struct vcpu *v, const struct insn *i)
{
    load_table(v, i, &v->idt);
}

void op_sgdt(struct vcpu *v, const struct insn *i)
{
    store_table(v, i, &v->gdt);
}

void op_sidt(struct vcpu *v, const struct insn *i)
{
    store_table(v, i, &v->idt);
}

/* ---- LDTR, TR ---- */

static void store_selector(struct vcpu *v, const struct insn *i, enum seg_reg seg)
{
    if (!cpu_protected(v))
        cpu_ud(v);
    require_no_umip(v);
    op_write(v, i, 0, v->seg[seg].sel);
}

void op_sldt(struct vcpu *v, const struct insn *i)
{
    store_selector(v, i, SEG_LDTR);
}

void op_str(struct vcpu *v, const struct insn *i)
{
    store_selector(v, i, SEG_TR);
}

void op_lldt(struct vcpu *v, const struct insn *i)
{
    struct descriptor d;
    if (!cpu_protected(v))
        cpu_ud(v);
    require_cpl0(v);
    uint16_t sel = (uint16_t)op_read(v, i, 0);
    if (sel_null(sel)) {
        segment_set_null(&v->seg[SEG_LDTR], sel, 0);
        return;
    }
    if ((sel & SEL_TI) || !desc_read(v, sel, &d) || desc_type(&d) != DT_LDT)
        sel_fault(v, EXC_GP, sel);
    if (!desc_present(&d))
        sel_fault(v, EXC_NP, sel);
    desc_system(v, EXC_GP, &d);
    desc_to_segment(&d, sel, &v->seg[SEG_LDTR]);
}

void op_ltr(struct vcpu *v, const struct insn *i)
{
    struct descriptor d;
    if (!cpu_protected(v))
        cpu_ud(v);
    require_cpl0(v);
    uint16_t sel = (uint16_t)op_read(v, i, 0);
    if ((sel & SEL_TI) || !desc_read(v, sel, &d))
        sel_fault(v, EXC_GP, sel);
    if (desc_type(&d) != DT_TSS32 && (v->long_mode || desc_type(&d) != DT_TSS16))
        sel_fault(v, EXC_GP, sel);
    if (!desc_present(&d))
        sel_fault(v, EXC_NP, sel);
    desc_system(v, EXC_GP, &d);
    desc_set_busy(v, d.la, true);
    desc_to_segment(&d, sel, &v->seg[SEG_TR]);
    v->seg[SEG_TR].attr |= DT_BUSY;
}

/* ---- LAR, LSL, VERR, VERW, ARPL ---- */

static void set_zf(struct vcpu *v, bool zf)
{
    v->rflags = (v->rflags & ~FL_ZF) | (zf ? FL_ZF : 0);
}

/* May code at this CPL, using this selector, look at the segment? */
static bool visible(const struct vcpu *v, const struct descriptor *d)
{
    return desc_is_conforming(d) || (SEG_DPL(d) >= v->cpl && SEG_DPL(d) >= (d->sel & SEL_RPL));
}

/* System descriptor types that LAR and LSL accept; gates have no limit. */
static bool inspectable(const struct vcpu *v, const struct descriptor *d, bool limit)
{
    uint16_t legacy = BIT(DT_TSS16) | BIT(DT_LDT) | BIT(DT_TSS16_BUSY) | BIT(DT_TSS32) | BIT(DT_TSS32_BUSY);
    uint16_t wide = BIT(DT_LDT) | BIT(DT_TSS32) | BIT(DT_TSS32_BUSY);
    if (!limit) {
        legacy |= BIT(DT_CALL16) | BIT(DT_TASK) | BIT(DT_CALL32);
        wide |= BIT(DT_CALL32);
    }
    return (d->attr & SEG_S) || ((v->long_mode ? wide : legacy) >> desc_type(d) & 1);
}

static bool inspect(struct vcpu *v, const struct insn *i, bool limit, struct descriptor *d)
{
    if (!cpu_protected(v))
        cpu_ud(v);
    bool ok = desc_read(v, (uint16_t)op_read(v, i, 1), d) && inspectable(v, d, limit) && visible(v, d);
    set_zf(v, ok);
    return ok;
}

void op_lar(struct vcpu *v, const struct insn *i)
{
    struct descriptor d;
    if (inspect(v, i, false, &d))
        op_write(v, i, 0, (d.raw >> 32) & 0xffff00); /* with the limit's upper bits, as CPUs do */
}

void op_lsl(struct vcpu *v, const struct insn *i)
{
    struct descriptor d;
    if (inspect(v, i, true, &d))
        op_write(v, i, 0, d.limit);
}

void op_verr(struct vcpu *v, const struct insn *i)
{
    struct descriptor d;
    if (!cpu_protected(v))
        cpu_ud(v);
    bool ok = desc_read(v, (uint16_t)op_read(v, i, 0), &d) && (d.attr & SEG_S) && visible(v, &d);
    set_zf(v, ok && (!desc_is_code(&d) || (d.attr & SEG_RW)));
}

void op_verw(struct vcpu *v, const struct insn *i)
{
    struct descriptor d;
    if (!cpu_protected(v))
        cpu_ud(v);
    bool ok = desc_read(v, (uint16_t)op_read(v, i, 0), &d) && visible(v, &d);
    set_zf(v, ok && desc_is_writable_data(&d));
}

void op_arpl(struct vcpu *v, const struct insn *i)
{
    if (!cpu_protected(v))
        cpu_ud(v);
    uint16_t dst = (uint16_t)op_read(v, i, 0), rpl = op_read(v, i, 1) & SEL_RPL;
    bool raise = (dst & SEL_RPL) < rpl;
    if (raise)
        op_write(v, i, 0, (dst & ~SEL_RPL) | rpl);
    set_zf(v, raise);
}
