// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hardware task switches. SDM vol. 3, 8.3 and table 8-1.
 *
 * The switch has a point of no return: what is checked before it faults in the old task, what is checked after it (the new task's
 * LDT and segments) faults in the new one, whose registers, selectors and RIP are then already in place.
 */
#include "softkvm/x86/debug.h"
#include "softkvm/x86/desc.h"

/* Offsets within the two TSS formats; SDM vol. 3, figures 8-2 and 8-10. */
struct tss_layout {
    uint8_t ip, flags, regs, segs, ldt; /* regs: eight from AX on; segs: `nsegs` from ES on */
    uint8_t width, seg_stride, nsegs;
    uint8_t min_limit;
};
static const struct tss_layout tss16 = {
    .ip = 14, .flags = 16, .regs = 18, .segs = 34, .ldt = 42, .width = 2, .seg_stride = 2, .nsegs = 4, .min_limit = 0x2b};
static const struct tss_layout tss32 = {
    .ip = 32, .flags = 36, .regs = 40, .segs = 72, .ldt = 96, .width = 4, .seg_stride = 4, .nsegs = 6, .min_limit = 0x67};
#define TSS32_CR3  28
#define TSS32_TRAP 100

struct tss_image {
    uint64_t ip, flags, cr3, regs[8];
    uint16_t segs[6], ldt, link;
    bool trap;
};

static const struct tss_layout *layout_of(unsigned type)
{
    return type & 8 ? &tss32 : &tss16;
}

/* The new TSS's descriptor; faults as table 8-1 orders them. */
static void find_tss(struct vcpu *v, uint16_t sel, enum task_reason why, struct descriptor *d)
{
    enum vector vec = why == TASK_IRET ? EXC_TS : EXC_GP;
    if ((sel & SEL_TI) || !desc_read(v, sel, d))
        sel_fault(v, vec, sel);
    unsigned want = why == TASK_IRET ? DT_TSS16_BUSY : DT_TSS16;
    if ((desc_type(d) & ~8u) != want)
        sel_fault(v, vec, sel);
    if (!desc_present(d))
        sel_fault(v, EXC_NP, sel);
    if (d->limit < layout_of(desc_type(d))->min_limit)
        sel_fault(v, EXC_TS, sel);
}

static uint64_t tss_get(struct vcpu *v, uint64_t base, unsigned off, unsigned size)
{
    return sys_read(v, (uint32_t)(base + off), size);
}

static void read_image(struct vcpu *v, const struct descriptor *d, struct tss_image *t)
{
    const struct tss_layout *l = layout_of(desc_type(d));
    t->ip = tss_get(v, d->base, l->ip, l->width);
    t->flags = tss_get(v, d->base, l->flags, l->width);
    t->segs[SEG_FS] = t->segs[SEG_GS] = 0; /* a 16-bit TSS has none */
    t->cr3 = 0;
    t->trap = false;
    for (unsigned n = 0; n < 8; n++)
        t->regs[n] = tss_get(v, d->base, l->regs + n * l->width, l->width);
    for (unsigned n = 0; n < l->nsegs; n++)
        t->segs[n] = (uint16_t)tss_get(v, d->base, l->segs + n * l->seg_stride, 2);
    t->ldt = (uint16_t)tss_get(v, d->base, l->ldt, 2);
    if (l == &tss32) {
        t->cr3 = tss_get(v, d->base, TSS32_CR3, 4);
        t->trap = tss_get(v, d->base, TSS32_TRAP, 2) & 1;
    }
}

/* Saves the old task; the caller has probed the area. Only the dynamic fields are written. */
static void write_image(struct vcpu *v, uint64_t flags, uint64_t next_rip)
{
    const struct segment *tr = &v->seg[SEG_TR];
    const struct tss_layout *l = layout_of(SEG_TYPE(tr));
    sys_write(v, (uint32_t)(tr->base + l->ip), l->width, next_rip);
    sys_write(v, (uint32_t)(tr->base + l->flags), l->width, flags);
    for (unsigned n = 0; n < 8; n++)
        sys_write(v, (uint32_t)(tr->base + l->regs + n * l->width), l->width, v->gpr[n]);
    for (unsigned n = 0; n < l->nsegs; n++)
        sys_write(v, (uint32_t)(tr->base + l->segs + n * l->seg_stride), 2, v->seg[n].sel);
}

static void load_ldt(struct vcpu *v, uint16_t sel)
{
    struct descriptor d;
    if (sel_null(sel))
        return;
    if ((sel & SEL_TI) || !desc_read(v, sel, &d) || desc_type(&d) != DT_LDT || !desc_present(&d))
        sel_fault(v, EXC_TS, sel);
    desc_to_segment(&d, sel, &v->seg[SEG_LDTR]);
}

/* Code segment of the new task: the CPL becomes its RPL. */
static void load_code(struct vcpu *v, uint16_t sel)
{
    struct descriptor d;
    unsigned rpl = sel & SEL_RPL;
    desc_get(v, sel, EXC_TS, &d);
    if (!desc_is_code(&d) || (desc_is_conforming(&d) ? SEG_DPL(&d) > rpl : SEG_DPL(&d) != rpl))
        sel_fault(v, EXC_TS, sel);
    if (!desc_present(&d))
        sel_fault(v, EXC_NP, sel);
    desc_set_accessed(v, &d);
    commit_cs(v, &d, sel, rpl);
}

static void load_stack(struct vcpu *v, uint16_t sel)
{
    struct descriptor d;
    desc_get(v, sel, EXC_TS, &d);
    if ((sel & SEL_RPL) != v->cpl || SEG_DPL(&d) != v->cpl || !desc_is_writable_data(&d))
        sel_fault(v, EXC_TS, sel);
    if (!desc_present(&d))
        sel_fault(v, EXC_SS, sel);
    desc_set_accessed(v, &d);
    desc_to_segment(&d, sel, &v->seg[SEG_SS]);
}

static void load_data(struct vcpu *v, enum seg_reg seg, uint16_t sel)
{
    struct descriptor d;
    if (sel_null(sel))
        return;
    desc_get(v, sel, EXC_TS, &d);
    bool readable = (d.attr & SEG_S) && (!desc_is_code(&d) || (d.attr & SEG_RW));
    if (!readable || (!desc_is_conforming(&d) && (SEG_DPL(&d) < v->cpl || SEG_DPL(&d) < (sel & SEL_RPL))))
        sel_fault(v, EXC_TS, sel);
    if (!desc_present(&d))
        sel_fault(v, EXC_NP, sel);
    desc_set_accessed(v, &d);
    desc_to_segment(&d, sel, &v->seg[seg]);
}

static void load_segments(struct vcpu *v, const struct tss_image *t)
{
    load_ldt(v, t->ldt);
    if (cpu_v86(v)) {
        for (enum seg_reg s = SEG_ES; s <= SEG_GS; s++)
            seg_set_real(v, s, t->segs[s]);
        cpu_update_mode(v);
        return;
    }
    load_code(v, t->segs[SEG_CS]);
    load_stack(v, t->segs[SEG_SS]);
    load_data(v, SEG_ES, t->segs[SEG_ES]);
    load_data(v, SEG_DS, t->segs[SEG_DS]);
    load_data(v, SEG_FS, t->segs[SEG_FS]);
    load_data(v, SEG_GS, t->segs[SEG_GS]);
}

/* The registers of the new task, without hidden segment parts: those follow once faults belong to the new task. */
static void load_registers(struct vcpu *v, const struct tss_image *t)
{
    for (unsigned n = 0; n < 8; n++)
        v->gpr[n] = t->regs[n];
    v->rflags =
        (t->flags & (FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | FL_VIP | FL_ID)) |
        FL_ONE;
    for (enum seg_reg s = SEG_ES; s <= SEG_GS; s++)
        segment_set_null(&v->seg[s], t->segs[s], 0);
    segment_set_null(&v->seg[SEG_LDTR], t->ldt, 0);
    v->insn_rip = t->ip;
    cpu_jump(v, t->ip);
    v->cr0 |= CR0_TS;
    v->dr[7] &= ~0x155ull; /* L0-L3, LE */
}

static void push_error(struct vcpu *v, uint32_t error, unsigned size)
{
    struct stack st = stack_current(v);
    struct frame f;
    frame_init(&f, size);
    st.error = 0;
    frame_add(&f, error);
    stack_push_frame(v, &st, &f, false);
    stack_commit(v, &st);
}

void task_switch(struct vcpu *v, uint16_t tss_sel, enum task_reason why, bool has_error, uint32_t error, uint64_t next_rip)
{
    struct descriptor d;
    struct tss_image image;
    struct segment *tr = &v->seg[SEG_TR];
    const struct tss_layout *old = layout_of(SEG_TYPE(tr));
    bool nested = why == TASK_CALL || why == TASK_GATE, paging_cr3;

    find_tss(v, tss_sel, why, &d);
    const struct tss_layout *l = layout_of(desc_type(&d));
    if (tr->limit < old->min_limit)
        sel_fault(v, EXC_TS, tr->sel);
    mmu_probe(v, (uint32_t)tr->base, old->min_limit, MEM_W, MMU_KERNEL, SEG_DS);
    mmu_probe(v, (uint32_t)d.base, l->min_limit, nested ? MEM_W : MEM_R, MMU_KERNEL, SEG_DS);
    read_image(v, &d, &image);
    paging_cr3 = v->paging && l == &tss32;
    if (paging_cr3 && (v->cr4 & CR4_PAE) && !mmu_load_pdptrs(v, image.cr3))
        sel_fault(v, EXC_TS, tss_sel);

    /* Point of no return. */
    uint64_t flags = why == TASK_GATE ? event_saved_flags(v) : v->rflags;
    write_image(v, why == TASK_IRET ? flags & ~FL_NT : flags, next_rip);
    uint64_t old_la = v->gdt.base + (tr->sel & 0xfff8);
    if (!nested)
        desc_set_busy(v, (uint32_t)old_la, false);
    if (nested) {
        sys_write(v, (uint32_t)d.base, 2, tr->sel);
        image.flags |= FL_NT;
    }
    if (why != TASK_IRET)
        desc_set_busy(v, d.la, true);
    desc_to_segment(&d, tss_sel, tr);
    tr->attr |= DT_BUSY;
    if (paging_cr3) {
        v->cr3 = image.cr3;
        mmu_flush_all(v);
    }
    load_registers(v, &image);
    v->int_shadow = 0;
    cpu_update_mode(v);

    /* From here on faults are the new task's. */
    load_segments(v, &image);
    if (image.ip > v->seg[SEG_CS].limit)
        ext_fault(v, EXC_GP);
    if (has_error)
        push_error(v, error, l->width);
    debug_update(v);
    cpu_request(v, REQ_EVENT);
    if (image.trap)
        cpu_fault_db(v, DR6_BT);
}
