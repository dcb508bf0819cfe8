// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Segments: descriptors, segment loads, limit checks of legacy modes, and the state that is derived from CS and the control
 * registers. SDM vol. 3, chapters 3 and 5; vol. 2, MOV.
 */
#include "softkvm/x86/debug.h"
#include "softkvm/x86/desc.h"

_Noreturn void sel_fault(struct vcpu *v, enum vector vec, uint16_t sel)
{
    cpu_fault(v, vec, (sel & ~SEL_RPL) | v->ext);
}

_Noreturn void ext_fault(struct vcpu *v, enum vector vec)
{
    cpu_fault(v, vec, v->ext);
}

/* ---- derived state ---- */

static enum mmu_index data_index(const struct vcpu *v)
{
    bool ac = v->rflags & FL_AC;
    if (v->cpl == 3)
        return ac && (v->cr0 & CR0_AM) ? MMU_USER_AC : MMU_USER;
    return ac && (v->cr4 & CR4_SMAP) ? MMU_KERNEL_AC : MMU_KERNEL;
}

void cpu_update_mode(struct vcpu *v)
{
    v->long_mode = v->efer & EFER_LMA;
    v->paging = v->cr0 & CR0_PG;
    if (v->rflags & FL_VM)
        v->code_mode = CODE16;
    else if (v->long_mode && (v->seg[SEG_CS].attr & SEG_L))
        v->code_mode = CODE64;
    else /* D counts in real mode too: code that has just cleared CR0.PE goes on as it was until its far jump */
        v->code_mode = v->seg[SEG_CS].attr & SEG_DB ? CODE32 : CODE16;
    if (v->rflags & FL_VM)
        v->cpl = 3;
    else if (!(v->cr0 & CR0_PE))
        v->cpl = 0;
    v->mmu_idx = data_index(v);
    v->fetch_page = ~0ull;
}

/* ---- descriptors ---- */

bool desc_read(struct vcpu *v, uint16_t sel, struct descriptor *d)
{
    uint64_t base = v->gdt.base;
    uint32_t limit = v->gdt.limit;
    d->sel = sel;
    if (sel & SEL_TI) {
        if (v->seg[SEG_LDTR].unusable)
            return false;
        base = v->seg[SEG_LDTR].base;
        limit = v->seg[SEG_LDTR].limit;
    } else if (sel_null(sel)) {
        return false;
    }
    if ((sel | 7u) > limit)
        return false;
    d->la = base + (sel & 0xfff8);
    if (!v->long_mode)
        d->la = (uint32_t)d->la;
    d->raw = sys_read(v, d->la, 8);
    d->attr = (d->raw >> 40) & 0xf0ff;
    d->base = ((d->raw >> 16) & 0xffffff) | ((d->raw >> 32) & 0xff000000);
    d->limit = (d->raw & 0xffff) | ((d->raw >> 32) & 0xf0000);
    if (d->attr & SEG_G)
        d->limit = d->limit << 12 | 0xfff;
    return true;
}

void desc_get(struct vcpu *v, uint16_t sel, enum vector vec, struct descriptor *d)
{
    if (!desc_read(v, sel, d))
        sel_fault(v, vec, sel);
}

bool desc_upper(struct vcpu *v, const struct descriptor *d, uint64_t *upper)
{
    uint32_t limit = d->sel & SEL_TI ? v->seg[SEG_LDTR].limit : v->gdt.limit;
    if ((d->sel | 7u) + 8 > limit)
        return false;
    *upper = sys_read(v, d->la + 8, 8);
    return true;
}

void desc_system(struct vcpu *v, enum vector vec, struct descriptor *d)
{
    uint64_t upper;
    if (!v->long_mode)
        return;
    /* The type field of the second half must be 0 (SDM vol. 3, 3.5.2). */
    if (!desc_upper(v, d, &upper) || ((upper >> 40) & 0x1f))
        sel_fault(v, vec, d->sel);
    d->base |= upper << 32;
    if (!is_canonical(d->base))
        sel_fault(v, vec, d->sel);
}

struct gate gate_parse(uint64_t lo, uint64_t hi, bool wide)
{
    struct gate g = {
        .sel = (lo >> 16) & 0xffff,
        .type = (lo >> 40) & SEG_S ? 0 : (lo >> 40) & 15,
        .dpl = (lo >> 45) & 3,
        .params = (lo >> 32) & 31,
        .ist = (lo >> 32) & 7,
        .present = (lo >> 47) & 1,
    };
    g.off = lo & 0xffff;
    if (g.type & 8)
        g.off |= (lo >> 32) & 0xffff0000;
    if (wide)
        g.off |= hi << 32;
    return g;
}

/* A locked OR and AND on one byte of a descriptor table. */
static void desc_byte_update(struct vcpu *v, uint64_t la, uint8_t set, uint8_t clear)
{
    uint8_t *p = mmu_host_slow(v, la, MEM_W, MMU_KERNEL, SEG_DS);
    if (!p) {
        sys_write(v, la, 1, (sys_read(v, la, 1) | set) & ~clear);
        return;
    }
    if (set)
        __atomic_fetch_or(p, set, __ATOMIC_SEQ_CST);
    if (clear)
        __atomic_fetch_and(p, (uint8_t)~clear, __ATOMIC_SEQ_CST);
}

void desc_set_accessed(struct vcpu *v, struct descriptor *d)
{
    if (d->attr & SEG_ACCESSED)
        return;
    desc_byte_update(v, d->la + 5, SEG_ACCESSED, 0);
    d->attr |= SEG_ACCESSED;
}

void desc_set_busy(struct vcpu *v, uint64_t la, bool busy)
{
    desc_byte_update(v, la + 5, busy ? DT_BUSY : 0, busy ? 0 : DT_BUSY);
}

static bool is_flat(const struct segment *s)
{
    return !s->unusable && s->base == 0 && s->limit == 0xffffffff &&
           (s->attr & (SEG_P | SEG_S | SEG_CODE | SEG_DOWN | SEG_RW)) == (SEG_P | SEG_S | SEG_RW);
}

void seg_fixup(struct vcpu *v, enum seg_reg seg)
{
    v->seg[seg].flat = is_flat(&v->seg[seg]);
}

void desc_to_segment(const struct descriptor *d, uint16_t sel, struct segment *s)
{
    *s = (struct segment){.base = d->base, .limit = d->limit, .sel = sel, .attr = d->attr};
    s->flat = is_flat(s);
}

void segment_set_null(struct segment *s, uint16_t sel, unsigned dpl)
{
    *s = (struct segment){.sel = sel, .attr = (uint16_t)(dpl << 5), .unusable = true};
}

/* ---- loads ---- */

void seg_set_real(struct vcpu *v, enum seg_reg seg, uint16_t sel)
{
    struct segment *s = &v->seg[seg];
    s->sel = sel;
    s->base = (uint64_t)sel << 4;
    if (cpu_v86(v)) {
        s->limit = 0xffff;
        s->attr = SEG_P | 3 << 5 | SEG_S | SEG_RW | SEG_ACCESSED;
    } else {
        /* Limit, G and D/B stay as protected mode left them ("unreal mode"); a segment that was null gets the reset value. */
        if (s->unusable)
            s->limit = 0xffff;
        uint16_t code = seg == SEG_CS ? SEG_CODE : 0;
        s->attr = (s->attr & (SEG_G | SEG_DB)) | SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | code;
    }
    s->unusable = false;
    s->flat = is_flat(s);
}

static void load_stack_segment(struct vcpu *v, uint16_t sel)
{
    struct descriptor d;
    if (sel_null(sel)) {
        if (!cpu_64bit(v) || v->cpl == 3 || (sel & SEL_RPL) != v->cpl)
            ext_fault(v, EXC_GP);
        segment_set_null(&v->seg[SEG_SS], sel, v->cpl);
        return;
    }
    desc_get(v, sel, EXC_GP, &d);
    if ((sel & SEL_RPL) != v->cpl || !desc_is_writable_data(&d) || SEG_DPL(&d) != v->cpl)
        sel_fault(v, EXC_GP, sel);
    if (!desc_present(&d))
        sel_fault(v, EXC_SS, sel);
    desc_set_accessed(v, &d);
    desc_to_segment(&d, sel, &v->seg[SEG_SS]);
}

void seg_load(struct vcpu *v, enum seg_reg seg, uint16_t sel)
{
    struct descriptor d;
    if (!cpu_protected(v)) {
        seg_set_real(v, seg, sel);
        return;
    }
    if (seg == SEG_SS) {
        load_stack_segment(v, sel);
        return;
    }
    if (sel_null(sel)) {
        segment_set_null(&v->seg[seg], sel, 0);
        return;
    }
    desc_get(v, sel, EXC_GP, &d);
    bool readable = (d.attr & SEG_S) && (!desc_is_code(&d) || (d.attr & SEG_RW));
    if (!readable || (!desc_is_conforming(&d) && (SEG_DPL(&d) < (sel & SEL_RPL) || SEG_DPL(&d) < v->cpl)))
        sel_fault(v, EXC_GP, sel);
    if (!desc_present(&d))
        sel_fault(v, EXC_NP, sel);
    desc_set_accessed(v, &d);
    desc_to_segment(&d, sel, &v->seg[seg]);
}

/* ---- limits ---- */

bool seg_contains(const struct segment *s, uint64_t off, unsigned size)
{
    uint64_t last = off + size - 1;
    if ((s->attr & (SEG_CODE | SEG_DOWN)) == SEG_DOWN) {
        uint32_t top = s->attr & SEG_DB ? 0xffffffff : 0xffff;
        return off > s->limit && last <= top;
    }
    /* The flat segment has no end to run over: what lies behind the last byte is the first one. SDM vol. 3, 5.3. */
    return last <= s->limit || (s->limit == 0xffffffff && s->base == 0);
}

uint64_t seg_linear_slow(struct vcpu *v, int seg, uint64_t off, unsigned size, enum mem_access acc)
{
    const struct segment *s = &v->seg[seg];
    bool bad = s->unusable || !seg_contains(s, off, size);
    if (!bad && cpu_protected(v)) {
        bool code = s->attr & SEG_CODE, rw = s->attr & SEG_RW;
        bad = (acc == MEM_W && (code || !rw)) || (acc == MEM_R && code && !rw);
    }
    if (bad)
        cpu_fault(v, seg == SEG_SS ? EXC_SS : EXC_GP, v->ext);
    return (uint32_t)(s->base + off);
}

/* ---- flags ---- */

void flags_write(struct vcpu *v, uint64_t val, uint64_t mask)
{
    uint64_t old = v->rflags;
    uint64_t now = (old & ~mask) | (val & mask) | FL_ONE;
    v->rflags = now;
    if ((old ^ now) & (FL_VM | FL_AC))
        cpu_update_mode(v);
    if (now & FL_TF)
        debug_update(v);
    if (now & ~old & FL_IF)
        event_window_opened(v);
}

/* ---- reset ---- */

static void reset_segments(struct vcpu *v)
{
    for (enum seg_reg s = SEG_ES; s <= SEG_GS; s++) {
        v->seg[s] = (struct segment){.limit = 0xffff, .attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED};
    }
    v->seg[SEG_CS].sel = 0xf000;
    v->seg[SEG_CS].base = 0xffff0000;
    v->seg[SEG_CS].attr |= SEG_CODE;
    v->seg[SEG_LDTR] = (struct segment){.limit = 0xffff, .attr = SEG_P | DT_LDT};
    v->seg[SEG_TR] = (struct segment){.limit = 0xffff, .attr = SEG_P | DT_TSS32_BUSY};
    v->gdt = (struct desc_table){.limit = 0xffff};
    v->idt = (struct desc_table){.limit = 0xffff};
}

void cpu_reset(struct vcpu *v, bool init)
{
    uint32_t id[4] = {0};
    cpuid_query(v, 1, 0, id);
    for (unsigned r = 0; r < 16; r++)
        v->gpr[r] = 0;
    v->gpr[RDX] = id[0] ? id[0] : 0x600; /* processor signature */
    v->rip = 0xfff0;
    v->rflags = FL_ONE;
    reset_segments(v);
    /* INIT keeps CD and NW (SDM vol. 3, table 9-1, note 2). */
    v->cr0 = CR0_ET | (init ? v->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW);
    v->cr2 = v->cr3 = v->cr4 = v->cr8 = v->efer = 0;
    for (unsigned n = 0; n < 8; n++)
        v->dr[n] = 0;
    v->dr[6] = DR6_FIXED;
    v->dr[7] = DR7_FIXED;
    v->pkru = init ? v->pkru : 0;
    if (!init)
        v->xcr0 = XCR0_X87;
    for (unsigned n = 0; n < 4; n++)
        v->pdptr[n] = 0;
    v->ev.exc_pending = v->ev.irq_pending = v->ev.nmi_masked = v->ev.nmi_injected = false;
    atomic_store_explicit(&v->ev.nmi_pending, 0, memory_order_relaxed);
    v->int_shadow = 0;
    v->debug_hits = 0;
    v->cpl = 0;
    v->delivering = -1;
    v->ext = false;
    v->rip_set = v->io_wait = v->tf_dropped = false;
    v->io_done = v->io_next = 0;
    fpu_reset(v, init);
    mmu_flush_all(v);
    cpu_update_mode(v);
    debug_update(v);
}
