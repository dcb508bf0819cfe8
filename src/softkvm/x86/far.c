// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Far transfers: JMP, CALL, RET and IRET in real, virtual-8086, protected and long mode. SDM vol. 2 (each instruction's operation
 * section) and vol. 3, 5.8. Each function reads and checks everything first, then commits; the checks stand in the SDM's order, for
 * their faults differ.
 */
#include "softkvm/x86/debug.h"
#include "softkvm/x86/desc.h"
#include "softkvm/x86/op.h"

static uint64_t narrow(uint64_t val, unsigned size)
{
    return size == 8 ? val : size == 4 ? (uint32_t)val : (uint16_t)val;
}

void check_target(struct vcpu *v, const struct descriptor *cs, uint64_t off)
{
    bool is64 = v->long_mode && (cs->attr & SEG_L);
    if (is64 ? !is_canonical(off) : off > cs->limit)
        ext_fault(v, EXC_GP);
}

/* 16- and 32-bit code takes 32 bits of a 64-bit offset. */
static uint64_t code_offset(const struct vcpu *v, const struct descriptor *cs, uint64_t off)
{
    return v->long_mode && (cs->attr & SEG_L) ? off : (uint32_t)off;
}

void commit_cs(struct vcpu *v, const struct descriptor *cs, uint16_t sel, unsigned cpl)
{
    desc_to_segment(cs, (sel & ~SEL_RPL) | cpl, &v->seg[SEG_CS]);
    v->cpl = cpl;
    cpu_update_mode(v);
}

void drop_inner_segments(struct vcpu *v)
{
    static const uint8_t segs[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned n = 0; n < ARRAY_SIZE(segs); n++) {
        struct segment *s = &v->seg[segs[n]];
        bool conforming = (s->attr & (SEG_CODE | SEG_CONFORM)) == (SEG_CODE | SEG_CONFORM);
        if (!s->unusable && !conforming && SEG_DPL(s) < v->cpl)
            segment_set_null(s, 0, 0);
    }
}

/* A far pointer operand: immediate, or offset and selector in memory. */
static void far_operand(struct vcpu *v, const struct insn *i, uint16_t *sel, uint64_t *off)
{
    if (i->ops[0].kind == OPK_FAR) {
        *sel = i->imm2;
        *off = narrow(i->imm, i->opsize);
        return;
    }
    uint64_t ea = insn_ea(v, i);
    *off = mem_read(v, i->seg, ea, i->opsize);
    *sel = (uint16_t)mem_read(v, i->seg, narrow(ea + i->opsize, i->addrsize), 2);
}

/* ---- JMP and CALL ---- */

static void transfer_real(struct vcpu *v, const struct insn *i, uint16_t sel, uint64_t off, bool call)
{
    if (off > v->seg[SEG_CS].limit)
        cpu_gp(v, 0);
    if (call) {
        struct stack st = stack_current(v);
        struct frame f;
        frame_init(&f, i->opsize);
        frame_add(&f, v->seg[SEG_CS].sel);
        frame_add(&f, v->rip + i->len);
        stack_push_frame(v, &st, &f, false);
        stack_commit(v, &st);
    }
    seg_set_real(v, SEG_CS, sel);
    cpu_update_mode(v);
    cpu_jump(v, off);
}

/* Raises #NP or #GP for a code segment that cannot be loaded: privilege already checked. */
static void check_loadable(struct vcpu *v, const struct descriptor *cs)
{
    if (!desc_present(cs))
        sel_fault(v, EXC_NP, cs->sel);
    if (v->long_mode && (cs->attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB))
        sel_fault(v, EXC_GP, cs->sel);
}

/* The code segment and target of a gate or a return; marks the segment accessed. */
static void check_code(struct vcpu *v, struct descriptor *cs, uint64_t off)
{
    check_loadable(v, cs);
    check_target(v, cs, off);
    desc_set_accessed(v, cs);
}

/* The pushes of a direct CALL are made by the rules of the code that it leads to: 64-bit code has no stack segment. */
static void push_return(struct vcpu *v, const struct insn *i, struct stack *st, const struct descriptor *cs)
{
    bool to64 = v->long_mode && desc_is_64bit(cs);
    struct frame f;
    frame_init(&f, i->opsize);
    frame_add(&f, v->seg[SEG_CS].sel);
    frame_add(&f, v->rip + i->len);
    if (to64)
        st->mask = ~0ull;
    stack_push_frame(v, st, &f, to64);
}

static void transfer_direct(struct vcpu *v, const struct insn *i, struct descriptor *cs, uint64_t off, bool call)
{
    unsigned dpl = SEG_DPL(cs);
    if (desc_is_conforming(cs) ? dpl > v->cpl : (cs->sel & SEL_RPL) > v->cpl || dpl != v->cpl)
        sel_fault(v, EXC_GP, cs->sel);
    check_loadable(v, cs);
    off = code_offset(v, cs, off);
    struct stack st = stack_current(v);
    if (call) /* memory has the return address before the target is checked */
        push_return(v, i, &st, cs);
    check_target(v, cs, off);
    desc_set_accessed(v, cs);
    if (call)
        stack_commit(v, &st);
    commit_cs(v, cs, cs->sel, v->cpl);
    cpu_jump(v, off);
}

/* CALL through a gate to an inner ring: new stack, parameters copied. */
static void call_inner(struct vcpu *v, const struct insn *i, const struct gate *g, struct descriptor *cs)
{
    unsigned cpl = SEG_DPL(cs), size = v->long_mode ? 8 : g->type & 8 ? 4 : 2;
    struct stack st = v->long_mode ? stack_inner64(v, cpl, cpl) : stack_inner(v, cpl);
    struct frame f;
    frame_init(&f, size);
    frame_add(&f, v->seg[SEG_SS].sel);
    frame_add(&f, v->gpr[RSP]);
    for (unsigned n = g->params; n-- > 0 && !v->long_mode;)
        frame_add(&f, stack_peek(v, n * size, size));
    frame_add(&f, v->seg[SEG_CS].sel);
    frame_add(&f, v->rip + i->len);
    check_target(v, cs, g->off);
    desc_set_accessed(v, cs);
    stack_push_frame(v, &st, &f, v->long_mode);
    stack_commit(v, &st);
    commit_cs(v, cs, g->sel, cpl);
    cpu_jump(v, g->off);
}

static void transfer_call_gate(struct vcpu *v, const struct insn *i, const struct descriptor *d, bool call)
{
    uint64_t upper = 0;
    if (v->long_mode && (!desc_upper(v, d, &upper) || ((upper >> 40) & 0x1f)))
        sel_fault(v, EXC_GP, d->sel);
    struct gate g = gate_parse(d->raw, upper, v->long_mode);
    if (g.dpl < v->cpl || (d->sel & SEL_RPL) > g.dpl)
        sel_fault(v, EXC_GP, d->sel);
    if (!g.present)
        sel_fault(v, EXC_NP, d->sel);
    struct descriptor cs;
    desc_get(v, g.sel, EXC_GP, &cs);
    unsigned dpl = SEG_DPL(&cs);
    bool same_ring = !call && !desc_is_conforming(&cs);
    if (!desc_is_code(&cs) || dpl > v->cpl || (same_ring && dpl != v->cpl) || (v->long_mode && !desc_is_64bit(&cs)))
        sel_fault(v, EXC_GP, g.sel);
    if (!desc_present(&cs))
        sel_fault(v, EXC_NP, g.sel);
    if (call && !desc_is_conforming(&cs) && dpl < v->cpl) {
        call_inner(v, i, &g, &cs);
        return;
    }
    check_code(v, &cs, g.off);
    if (call) {
        struct stack st = stack_current(v);
        struct frame f;
        frame_init(&f, v->long_mode ? 8 : g.type & 8 ? 4 : 2);
        frame_add(&f, v->seg[SEG_CS].sel);
        frame_add(&f, v->rip + i->len);
        /* From compatibility mode the gate leads to 64-bit code, and its pushes are 64-bit ones. */
        if (v->long_mode)
            st.mask = ~0ull;
        stack_push_frame(v, &st, &f, v->long_mode);
        stack_commit(v, &st);
    }
    commit_cs(v, &cs, g.sel, v->cpl);
    cpu_jump(v, g.off);
}

/* To a TSS, directly or through a task gate. */
static void transfer_task(struct vcpu *v, const struct insn *i, const struct descriptor *d, bool call)
{
    unsigned dpl = SEG_DPL(d);
    if (dpl < v->cpl || dpl < (d->sel & SEL_RPL))
        sel_fault(v, EXC_GP, d->sel);
    uint16_t tss = d->sel;
    if (desc_type(d) == DT_TASK) {
        if (!desc_present(d))
            sel_fault(v, EXC_NP, d->sel);
        tss = (d->raw >> 16) & 0xffff;
    }
    task_switch(v, tss, call ? TASK_CALL : TASK_JMP, false, 0, v->rip + i->len);
}

static void transfer(struct vcpu *v, const struct insn *i, bool call)
{
    uint16_t sel;
    uint64_t off;
    struct descriptor d;
    far_operand(v, i, &sel, &off);
    if (!cpu_protected(v)) {
        transfer_real(v, i, sel, off, call);
        return;
    }
    desc_get(v, sel, EXC_GP, &d);
    if (desc_is_code(&d)) {
        transfer_direct(v, i, &d, off, call);
        return;
    }
    switch (desc_type(&d)) {
    case DT_CALL32:
        transfer_call_gate(v, i, &d, call);
        return;
    case DT_CALL16:
        if (!v->long_mode) {
            transfer_call_gate(v, i, &d, call);
            return;
        }
        break;
    case DT_TASK:
    case DT_TSS16:
    case DT_TSS32:
        if (!v->long_mode) {
            transfer_task(v, i, &d, call);
            return;
        }
        break;
    default:
        break;
    }
    sel_fault(v, EXC_GP, sel);
}

void op_jmpf(struct vcpu *v, const struct insn *i)
{
    transfer(v, i, false);
}

void op_callf(struct vcpu *v, const struct insn *i)
{
    transfer(v, i, true);
}

/* ---- RET and IRET ---- */

static void stack_drop(struct vcpu *v, unsigned bytes)
{
    stack_set(v, stack_pointer(v, bytes));
}

/* The code segment that a far return or IRET goes to; raises #GP, #NP. The target is checked last, by return_target(). */
static void return_code(struct vcpu *v, uint16_t sel, uint64_t *off, struct descriptor *cs)
{
    desc_get(v, sel, EXC_GP, cs);
    unsigned rpl = sel & SEL_RPL;
    if (!desc_is_code(cs) || rpl < v->cpl || (desc_is_conforming(cs) ? SEG_DPL(cs) > rpl : SEG_DPL(cs) != rpl))
        sel_fault(v, EXC_GP, sel);
    *off = code_offset(v, cs, *off);
    check_loadable(v, cs);
}

static void return_target(struct vcpu *v, struct descriptor *cs, uint64_t off)
{
    check_target(v, cs, off);
    desc_set_accessed(v, cs);
}

/* The stack segment of a return that pops one. Null is allowed for 64-bit code outside ring 3. */
static void return_stack(struct vcpu *v, const struct descriptor *cs, uint16_t sel, struct stack *st)
{
    unsigned rpl = cs->sel & SEL_RPL;
    bool to64 = v->long_mode && (cs->attr & SEG_L);
    struct descriptor d;
    if (sel_null(sel)) {
        if (!to64 || rpl == 3 || (sel & SEL_RPL) != rpl)
            cpu_gp(v, 0);
        segment_set_null(&st->seg, sel, rpl);
        st->mask = ~0ull;
        return;
    }
    desc_get(v, sel, EXC_GP, &d);
    if ((sel & SEL_RPL) != rpl || !desc_is_writable_data(&d) || SEG_DPL(&d) != rpl)
        sel_fault(v, EXC_GP, sel);
    if (!desc_present(&d))
        sel_fault(v, EXC_SS, sel);
    desc_set_accessed(v, &d);
    desc_to_segment(&d, sel, &st->seg);
    st->mask = to64 ? ~0ull : d.attr & SEG_DB ? 0xffffffff : 0xffff;
}

/* The popped stack pointer (plus what RET n releases there); a 16-bit stack leaves the upper half of ESP alone. */
static void return_sp(struct vcpu *v, struct stack *st, uint64_t sp)
{
    st->sp = st->mask == 0xffff ? (v->gpr[RSP] & ~0xffffull) | (sp & 0xffff) : sp & st->mask;
}

static void retf_real(struct vcpu *v, const struct insn *i, unsigned release)
{
    uint64_t off = stack_peek(v, 0, i->opsize);
    uint16_t sel = (uint16_t)stack_peek(v, i->opsize, i->opsize);
    if (off > v->seg[SEG_CS].limit)
        cpu_gp(v, 0);
    stack_drop(v, 2 * i->opsize + release);
    seg_set_real(v, SEG_CS, sel);
    cpu_update_mode(v);
    cpu_jump(v, off);
}

void op_retf(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->opsize, release = i->nops ? (uint16_t)i->imm : 0;
    if (!cpu_protected(v)) {
        retf_real(v, i, release);
        return;
    }
    uint16_t sel = (uint16_t)stack_peek(v, size, 2);
    uint64_t off = stack_peek(v, 0, size);
    struct descriptor cs;
    return_code(v, sel, &off, &cs);
    unsigned rpl = sel & SEL_RPL;
    if (rpl == v->cpl) {
        return_target(v, &cs, off);
        if (v->long_mode && desc_is_64bit(&cs)) /* rSP has the width of the code that is returned to, what is added that of the old stack */
            v->gpr[RSP] += (2 * size + release) & size_mask(stack_size(v));
        else
            stack_drop(v, 2 * size + release);
        commit_cs(v, &cs, sel, rpl);
    } else {
        struct stack st;
        uint64_t sp = stack_peek(v, 2 * size + release, size);
        return_stack(v, &cs, (uint16_t)stack_peek(v, 3 * size + release, size), &st);
        return_target(v, &cs, off);
        return_sp(v, &st, sp + release);
        stack_commit(v, &st);
        commit_cs(v, &cs, sel, rpl);
        drop_inner_segments(v);
    }
    cpu_jump(v, off);
}

static void nmi_unmask(struct vcpu *v)
{
    v->ev.nmi_masked = false;
    if (atomic_load_explicit(&v->ev.nmi_pending, memory_order_relaxed))
        cpu_request(v, REQ_EVENT);
}

#define IRET_LOW  (FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT)
#define IRET_HIGH (FL_RF | FL_AC | FL_ID)

static void iret_real(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->opsize;
    uint64_t off = stack_peek(v, 0, size);
    uint16_t sel = (uint16_t)stack_peek(v, size, size);
    uint64_t flags = stack_peek(v, 2 * size, size);
    if (off > v->seg[SEG_CS].limit)
        cpu_gp(v, 0);
    uint64_t mask = IRET_LOW | (size > 2 ? IRET_HIGH : 0);
    if (cpu_v86(v))
        mask &= ~FL_IOPL;
    stack_drop(v, 3 * size);
    seg_set_real(v, SEG_CS, sel);
    cpu_update_mode(v);
    nmi_unmask(v);
    cpu_jump(v, off);
    flags_write(v, flags, mask);
}

/* IRET in virtual-8086 mode with IOPL < 3: only with VME, and then VIF takes IF's place. SDM vol. 3, 20.3. */
static void iret_vme(struct vcpu *v, const struct insn *i)
{
    if (!(v->cr4 & CR4_VME) || i->opsize != 2)
        cpu_gp(v, 0);
    uint64_t off = stack_peek(v, 0, 2);
    uint16_t sel = (uint16_t)stack_peek(v, 2, 2);
    uint64_t flags = stack_peek(v, 4, 2);
    if ((flags & FL_TF) || ((flags & FL_IF) && (v->rflags & FL_VIP)) || off > v->seg[SEG_CS].limit)
        cpu_gp(v, 0);
    stack_drop(v, 6);
    seg_set_real(v, SEG_CS, sel);
    cpu_update_mode(v);
    nmi_unmask(v);
    cpu_jump(v, off);
    flags |= flags & FL_IF ? FL_VIF : 0;
    flags_write(v, flags, (IRET_LOW & ~(FL_IOPL | FL_IF)) | FL_VIF);
}

/* IRET with NT: back to the task whose selector is the TSS's back link. */
static void iret_task(struct vcpu *v, const struct insn *i)
{
    if (v->long_mode)
        cpu_gp(v, 0);
    uint16_t link = (uint16_t)sys_read(v, (uint32_t)v->seg[SEG_TR].base, 2);
    nmi_unmask(v);
    task_switch(v, link, TASK_IRET, false, 0, v->rip + i->len);
}

/* From ring 0 to virtual-8086 mode: nine doublewords. */
static void iret_to_v86(struct vcpu *v, uint64_t flags)
{
    static const uint8_t order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS}; /* dwords 4.. */
    uint16_t sel[ARRAY_SIZE(order)];
    uint64_t off = stack_peek(v, 0, 4), sp = stack_peek(v, 12, 4);
    uint16_t cs = (uint16_t)stack_peek(v, 4, 4);
    for (unsigned n = 0; n < ARRAY_SIZE(order); n++)
        sel[n] = (uint16_t)stack_peek(v, 16 + 4 * n, 4);
    if (off > 0xffff)
        cpu_gp(v, 0);
    v->gpr[RSP] = sp;
    nmi_unmask(v);
    flags_write(v, flags, IRET_LOW | IRET_HIGH | FL_VM | FL_VIF | FL_VIP);
    for (unsigned n = 0; n < ARRAY_SIZE(order); n++)
        seg_set_real(v, order[n], sel[n]);
    seg_set_real(v, SEG_CS, cs);
    cpu_update_mode(v);
    cpu_jump(v, off);
}

/* What of RFLAGS an IRET in protected mode may change, by operand size and the CPL it leaves. */
static uint64_t iret_mask(const struct vcpu *v, unsigned size)
{
    uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT;
    if (size > 2)
        mask |= IRET_HIGH;
    if (v->cpl <= cpu_iopl(v))
        mask |= FL_IF;
    if (v->cpl == 0)
        mask |= FL_IOPL | (size > 2 ? FL_VIF | FL_VIP : 0);
    return mask;
}

static void iret_protected(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->opsize;
    /* The order shows when the frame lies across pages. */
    uint64_t flags = stack_peek(v, 2 * size, size);
    uint16_t sel = (uint16_t)stack_peek(v, size, size);
    uint64_t off = stack_peek(v, 0, size);
    if ((flags & FL_VM) && size == 4 && v->cpl == 0 && !v->long_mode) {
        iret_to_v86(v, flags);
        return;
    }
    struct descriptor cs;
    return_code(v, sel, &off, &cs);
    unsigned rpl = sel & SEL_RPL;
    bool outer = rpl != v->cpl;
    uint64_t mask = iret_mask(v, size);
    if (outer || cpu_64bit(v)) {
        struct stack st;
        uint64_t sp = stack_peek(v, 3 * size, size);
        return_stack(v, &cs, (uint16_t)stack_peek(v, 4 * size, size), &st);
        return_target(v, &cs, off);
        return_sp(v, &st, sp);
        stack_commit(v, &st);
    } else {
        return_target(v, &cs, off);
        stack_drop(v, 3 * size);
    }
    commit_cs(v, &cs, sel, rpl);
    if (outer)
        drop_inner_segments(v);
    nmi_unmask(v);
    cpu_jump(v, off);
    flags_write(v, flags, mask);
}

void op_iret(struct vcpu *v, const struct insn *i)
{
    if (cpu_v86(v) && cpu_iopl(v) < 3)
        iret_vme(v, i);
    else if (!cpu_protected(v))
        iret_real(v, i);
    else if (v->rflags & FL_NT)
        iret_task(v, i);
    else
        iret_protected(v, i);
}
