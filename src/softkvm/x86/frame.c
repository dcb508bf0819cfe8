// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Stacks that transfers push to: the current one, or an inner ring's from the TSS. A frame is checked as a whole, then written, so
 * that a fault leaves neither half a frame nor a moved stack pointer. SDM vol. 3, 5.8.5, 6.12.1 and 6.14.
 */
#include "softkvm/x86/desc.h"
#include "softkvm/x86/op.h"

struct stack stack_current(struct vcpu *v)
{
    return (struct stack){
        .seg = v->seg[SEG_SS],
        .sp = v->gpr[RSP],
        .mask = size_mask(stack_size(v)),
        .idx = v->mmu_idx,
        .error = v->ext,
    };
}

/* Reads from the TSS; #TS(TR) when its limit does not hold the field. */
static uint64_t tss_read(struct vcpu *v, unsigned off, unsigned size)
{
    const struct segment *tr = &v->seg[SEG_TR];
    if (off + size - 1 > tr->limit)
        sel_fault(v, EXC_TS, tr->sel);
    return sys_read(v, v->long_mode ? tr->base + off : (uint32_t)(tr->base + off), size);
}

struct stack stack_inner(struct vcpu *v, unsigned dpl)
{
    struct stack st;
    struct descriptor d;
    uint16_t sel;
    if (SEG_TYPE(&v->seg[SEG_TR]) & 8) {
        sel = (uint16_t)tss_read(v, 8 * dpl + 8, 2);
        st.sp = tss_read(v, 8 * dpl + 4, 4);
    } else {
        sel = (uint16_t)tss_read(v, 4 * dpl + 4, 2);
        st.sp = tss_read(v, 4 * dpl + 2, 2);
    }
    desc_get(v, sel, EXC_TS, &d);
    if (sel_null(sel) || (sel & SEL_RPL) != dpl || SEG_DPL(&d) != dpl || !desc_is_writable_data(&d))
        sel_fault(v, EXC_TS, sel);
    if (!desc_present(&d))
        sel_fault(v, EXC_SS, sel);
    desc_set_accessed(v, &d);
    desc_to_segment(&d, sel, &st.seg);
    st.mask = d.attr & SEG_DB ? 0xffffffff : 0xffff;
    st.idx = MMU_KERNEL;
    st.error = (sel & ~SEL_RPL) | v->ext;
    return st;
}

struct stack stack_inner64(struct vcpu *v, unsigned index, unsigned dpl)
{
    struct stack st = {.mask = ~0ull, .idx = dpl == 3 ? MMU_USER : MMU_KERNEL, .error = v->ext};
    st.sp = tss_read(v, 4 + 8 * index, 8); /* SDM vol. 3, figure 8-11 */
    if (!is_canonical(st.sp))
        ext_fault(v, EXC_SS);
    segment_set_null(&st.seg, dpl, dpl);
    return st;
}

/* Linear address of the n-th slot from the top; raises #SS. */
static uint64_t slot_linear(struct vcpu *v, const struct stack *st, unsigned n, unsigned size, bool to64)
{
    uint64_t off = (st->sp - (uint64_t)(n + 1) * size) & st->mask;
    if (to64) {
        if (!is_canonical(off) || !is_canonical(off + size - 1))
            ext_fault(v, EXC_SS);
        return off;
    }
    if (st->seg.unusable || !seg_contains(&st->seg, off, size))
        cpu_fault(v, EXC_SS, st->error);
    return (uint32_t)(st->seg.base + off);
}

void stack_push_frame(struct vcpu *v, struct stack *st, const struct frame *f, bool to64)
{
    uint64_t la[FRAME_MAX];
    for (unsigned n = 0; n < f->n; n++)
        la[n] = slot_linear(v, st, n, f->size, to64);
    if (st->idx == MMU_USER_AC && f->n && (la[0] & (f->size - 1))) /* before any page is looked at */
        cpu_fault(v, EXC_AC, 0);
    /* Within one page the first write faults or none does. */
    unsigned total = f->n * f->size;
    bool one_page = f->n && la[0] - la[f->n - 1] == total - f->size && !((la[f->n - 1] ^ (la[0] + f->size - 1)) & PAGE_MASK);
    for (unsigned n = 0; n < f->n && !one_page; n++)
        mmu_probe(v, la[n], f->size, MEM_W, st->idx, SEG_SS);
    for (unsigned n = 0; n < f->n; n++)
        mmu_write(v, la[n], f->size, f->val[n], st->idx, SEG_SS);
    uint64_t sp = st->sp - total;
    if (st->mask == 0xffff)
        st->sp = (st->sp & ~st->mask) | (sp & st->mask);
    else
        st->sp = sp & st->mask;
}

void stack_commit(struct vcpu *v, const struct stack *st)
{
    v->seg[SEG_SS] = st->seg;
    v->gpr[RSP] = st->sp;
}
