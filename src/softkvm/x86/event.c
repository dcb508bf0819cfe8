// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Delivery of interrupts and exceptions. SDM vol. 3, chapter 6; for real and virtual-8086 mode, chapter 20.
 *
 * A fault during delivery unwinds like any other. Whoever catches it (the run loop, or event_inject) calls event_deliver() again
 * for the new exception, with v->delivering still naming the old event; that is where double and triple faults are made (table
 * 6-5).
 */
#include "softkvm/x86/debug.h"
#include "softkvm/x86/desc.h"
#include "softkvm/x86/interp.h"
#include "softkvm/x86/sys.h"
#include "softkvm/x86/unwind.h"

struct event {
    enum event_kind kind;
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t next_rip; /* return address */
};

static bool is_contributory(int vector)
{
    return vector == EXC_DE || (vector >= EXC_TS && vector <= EXC_GP);
}

/* The exceptions that are faults. #DB is not among them: its handler sets RF itself where that is wanted. */
#define FAULTS                                                                                                        \
    (BIT(EXC_DE) | BIT(EXC_BR) | BIT(EXC_UD) | BIT(EXC_NM) | BIT(EXC_CSO) | BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | \
     BIT(EXC_GP) | BIT(EXC_PF) | BIT(EXC_MF) | BIT(EXC_AC) | BIT(EXC_XM))

/* Faults leave RF set in the saved image, so that an instruction breakpoint does not hit again on return. */
uint64_t event_saved_flags(const struct vcpu *v)
{
    bool fault = v->delivering >= 0 && (FAULTS >> v->delivering & 1);
    return fault ? v->rflags | FL_RF : v->rflags;
}

static bool is_soft(const struct event *e)
{
    return e->kind == EV_SOFT_INT || e->kind == EV_SOFT_EXC;
}

/* Merges a new exception with the one whose delivery it interrupts. */
static void escalate(struct vcpu *v, struct event *e)
{
    int first = v->delivering;
    if (first < 0 || e->kind != EV_HW_EXC)
        return;
    bool severe = is_contributory(e->vector) || e->vector == EXC_PF;
    if (first == EXC_DF && severe) {
        v->delivering = -1;
        v->ext = false;
        cpu_exit(v, STOP_TRIPLE);
    }
    if ((is_contributory(first) && is_contributory(e->vector)) || (first == EXC_PF && severe)) {
        e->vector = EXC_DF;
        e->has_error = true;
        e->error = 0;
        e->next_rip = v->rip;
    }
}

/* ---- real mode; also INT n that VME redirects ---- */

static void through_ivt(struct vcpu *v, const struct event *e, uint64_t ivt, uint64_t saved, uint64_t cleared)
{
    uint32_t entry = (uint32_t)sys_read(v, ivt + e->vector * 4u, 4);
    struct stack st = stack_current(v);
    struct frame f;
    frame_init(&f, 2);
    frame_add(&f, saved);
    frame_add(&f, v->seg[SEG_CS].sel);
    frame_add(&f, e->next_rip);
    stack_push_frame(v, &st, &f, false);
    stack_commit(v, &st);
    seg_set_real(v, SEG_CS, entry >> 16);
    cpu_jump(v, entry & 0xffff);
    flags_write(v, 0, cleared);
    cpu_update_mode(v);
}

static void deliver_real(struct vcpu *v, const struct event *e)
{
    if (e->vector * 4u + 3 > v->idt.limit)
        cpu_fault(v, EXC_GP, e->vector * 8u + 2);
    through_ivt(v, e, v->idt.base, v->rflags, FL_IF | FL_TF | FL_AC | FL_RF);
}

void event_redirect_v86(struct vcpu *v, uint8_t vector, uint64_t next_rip)
{
    struct event e = {EV_SOFT_INT, vector, false, 0, next_rip};
    if (cpu_iopl(v) == 3) {
        through_ivt(v, &e, 0, v->rflags, FL_IF | FL_TF);
        return;
    }
    /* The program sees VIF in IF's place, and IOPL 3 (SDM vol. 3, 20.3.3.4). */
    uint64_t saved = (v->rflags & ~FL_IF) | FL_IOPL | (v->rflags & FL_VIF ? FL_IF : 0);
    through_ivt(v, &e, 0, saved, FL_VIF | FL_TF);
}

/* ---- protected mode ---- */

/* Error code that names an IDT entry. */
static uint32_t idt_error(const struct vcpu *v, const struct event *e)
{
    return e->vector * 8u + 2 + v->ext;
}

/* Reads and checks the gate; SDM vol. 2, INT n, PROTECTED-MODE. */
static struct gate read_gate(struct vcpu *v, const struct event *e)
{
    unsigned width = v->long_mode ? 16 : 8;
    uint64_t la = v->idt.base + e->vector * width, hi = 0;
    if (e->vector * width + width - 1 > v->idt.limit)
        cpu_fault(v, EXC_GP, idt_error(v, e));
    if (v->long_mode)
        hi = sys_read(v, la + 8, 8);
    else
        la = (uint32_t)la;
    struct gate g = gate_parse(sys_read(v, la, 8), hi, v->long_mode);
    bool ok = g.type == DT_INT32 || g.type == DT_TRAP32;
    if (!v->long_mode)
        ok |= g.type == DT_TASK || g.type == DT_INT16 || g.type == DT_TRAP16;
    if (!ok || (is_soft(e) && g.dpl < v->cpl))
        cpu_fault(v, EXC_GP, idt_error(v, e));
    if (!g.present)
        cpu_fault(v, EXC_NP, idt_error(v, e));
    return g;
}

/* The handler's code segment; returns the ring that it runs in. */
static unsigned handler_code(struct vcpu *v, const struct gate *g, struct descriptor *cs)
{
    desc_get(v, g->sel, EXC_GP, cs);
    unsigned dpl = SEG_DPL(cs);
    if (!desc_is_code(cs) || dpl > v->cpl || (v->long_mode && !desc_is_64bit(cs)))
        sel_fault(v, EXC_GP, g->sel);
    if (!desc_present(cs))
        sel_fault(v, EXC_NP, g->sel);
    if (cpu_v86(v) && (desc_is_conforming(cs) || dpl != 0))
        sel_fault(v, EXC_GP, g->sel);
    return desc_is_conforming(cs) ? v->cpl : dpl;
}

/* What every gate's frame ends with. */
static void add_return(const struct vcpu *v, struct frame *f, const struct event *e)
{
    frame_add(f, event_saved_flags(v));
    frame_add(f, v->seg[SEG_CS].sel);
    frame_add(f, e->next_rip);
    if (e->has_error)
        frame_add(f, e->error);
}

static void enter_handler(struct vcpu *v, const struct gate *g, const struct descriptor *cs, unsigned cpl)
{
    uint64_t clear = FL_TF | FL_NT | FL_VM | FL_RF;
    if (g->type == DT_INT32 || g->type == DT_INT16)
        clear |= FL_IF;
    v->rflags &= ~clear;
    commit_cs(v, cs, g->sel, cpl);
    cpu_jump(v, g->off);
}

static void deliver_legacy(struct vcpu *v, const struct event *e)
{
    static const uint8_t v86_segs[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
    struct gate g = read_gate(v, e);
    if (g.type == DT_TASK) {
        task_switch(v, g.sel, TASK_GATE, e->has_error, e->error, e->next_rip);
        return;
    }
    struct descriptor cs;
    unsigned cpl = handler_code(v, &g, &cs);
    bool from_v86 = cpu_v86(v), inner = cpl < v->cpl;
    struct stack st = inner ? stack_inner(v, cpl) : stack_current(v);
    struct frame f;
    frame_init(&f, g.type & 8 ? 4 : 2);
    for (unsigned n = 0; n < ARRAY_SIZE(v86_segs) && from_v86; n++)
        frame_add(&f, v->seg[v86_segs[n]].sel);
    if (inner) {
        frame_add(&f, v->seg[SEG_SS].sel);
        frame_add(&f, v->gpr[RSP]);
    }
    add_return(v, &f, e);
    check_target(v, &cs, g.off);
    desc_set_accessed(v, &cs);
    stack_push_frame(v, &st, &f, false);
    if (from_v86)
        for (unsigned n = 0; n < ARRAY_SIZE(v86_segs); n++)
            segment_set_null(&v->seg[v86_segs[n]], 0, 0);
    stack_commit(v, &st);
    enter_handler(v, &g, &cs, cpl);
}

static void deliver_long(struct vcpu *v, const struct event *e)
{
    struct gate g = read_gate(v, e);
    struct descriptor cs;
    unsigned cpl = handler_code(v, &g, &cs);
    bool inner = cpl < v->cpl;
    struct stack st;
    if (g.ist)
        st = stack_inner64(v, 3 + g.ist, cpl);
    else if (inner)
        st = stack_inner64(v, cpl, cpl);
    else
        st = stack_current(v);
    if (g.ist && !inner) {
        st.seg = v->seg[SEG_SS];
        st.idx = v->mmu_idx;
    }
    st.mask = ~0ull; /* also from compatibility mode */
    st.sp &= ~15ull;
    struct frame f;
    frame_init(&f, 8);
    frame_add(&f, v->seg[SEG_SS].sel);
    frame_add(&f, v->gpr[RSP]);
    add_return(v, &f, e);
    check_target(v, &cs, g.off);
    desc_set_accessed(v, &cs);
    stack_push_frame(v, &st, &f, true);
    stack_commit(v, &st);
    enter_handler(v, &g, &cs, cpl);
}

void event_deliver(struct vcpu *v, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t next_rip)
{
    struct event e = {kind, vector, has_error, error, next_rip};
    escalate(v, &e);
    v->delivering = kind == EV_HW_EXC ? e.vector : EXC_NMI;
    v->ext = !is_soft(&e);
    v->tf_dropped = (v->rflags & FL_TF) && (is_soft(&e) || kind == EV_PRIV_SOFT);
    if (!(v->cr0 & CR0_PE))
        deliver_real(v, &e);
    else if (v->long_mode)
        deliver_long(v, &e);
    else
        deliver_legacy(v, &e);
    if (kind == EV_NMI)
        v->ev.nmi_masked = true;
    v->delivering = -1;
    v->ext = false;
    v->int_shadow = 0;
    debug_update(v);
}

/* The delivery has faulted, or left for user space or for good. */
static enum cpu_stop inject_unwound(struct vcpu *v, int code)
{
    v->rip = v->insn_rip; /* of the new task, when a task switch has got as far as that */
    v->rip_set = false;
    v->io_next = 0;
    if (code != UNWIND_FAULT) {
        event_abandon(v);
        return (enum cpu_stop)code;
    }
    uint8_t vector = v->fault.vector;
    event_deliver(v, EV_HW_EXC, vector, exc_has_error(vector), v->fault.error, v->rip);
    return STOP_NONE;
}

enum cpu_stop event_inject(struct vcpu *v, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error)
{
    v->io_next = 0;
    v->insn_rip = v->rip;
    int code = unwind_set(v->unwind);
    if (code) { /* a fault in this delivery unwinds to here again */
        enum cpu_stop stop = inject_unwound(v, code);
        if (stop)
            return stop;
    } else {
        event_deliver(v, kind, vector, has_error, error, v->rip);
    }
    v->rip_set = false;
    insn_retire_iteration(v);
    return STOP_NONE;
}
