// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Vector instructions whose memory operand is not one contiguous piece: byte- and element-masked moves, and gathers. They are
 * executed element by element; registers are read and written by native_store() and native_load().
 */
#include "softkvm/x86/debug.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/native.h"
#include "softkvm/x86/op.h"
#include "softkvm/x86/unwind.h"

/* ---- MASKMOVQ, MASKMOVDQU ---- */

/* Bytes of `data` whose mask byte has bit 7 set go to seg:rDI. Whatever the mask, the operand is checked like stores of eight
 * bytes, the upper one first: so the processors that this has been compared with do it. */
static void mask_move(struct vcpu *v, const struct insn *i, enum native_file f)
{
    uint8_t data[16], mask[16];
    unsigned size = f == NATIVE_MMX ? 8 : 16;
    if (f == NATIVE_MMX)
        native_wait(v);
    struct area a = {v, i, gpr_read(v, RDI * 8, i->addrsize)};
    native_store(v, f, i->ops[0].reg, data);
    native_store(v, f, i->ops[1].reg, mask);
    for (unsigned at = size; at; at -= 8) {
        uint64_t la = seg_linear(v, i->seg, (a.ea + at - 8) & size_mask(i->addrsize), 8, MEM_W);
        if (v->mmu_idx == MMU_USER_AC && (la & 7) && (!cpu_64bit(v) || is_canonical(la)))
            cpu_fault(v, EXC_AC, 0);
        mmu_probe(v, la, 8, MEM_W, v->mmu_idx, i->seg);
    }
    for (unsigned from = 0, to; from < size; from = to + 1) {
        for (to = from; to < size && mask[to] >> 7;)
            to++;
        if (to > from)
            area_write(a, from, data + from, to - from);
    }
}

void op_maskmovq(struct vcpu *v, const struct insn *i)
{
    fpu_check(v, FPU_MMX);
    mask_move(v, i, NATIVE_MMX);
}
void op_maskmovdqu(struct vcpu *v, const struct insn *i)
{
    fpu_check(v, FPU_SSE);
    mask_move(v, i, NATIVE_XMM);
}
void op_vmaskmovdqu(struct vcpu *v, const struct insn *i)
{
    fpu_check(v, FPU_AVX);
    mask_move(v, i, NATIVE_XMM);
}

/* ---- VMASKMOVPx, VPMASKMOVx ---- */

static enum native_file vex_file(unsigned bytes)
{
    return bytes == 32 ? NATIVE_YMM : NATIVE_VXMM;
}
static unsigned vex_length(const struct insn *i)
{
    return i->bytes[i->opcode_at - 1] & 4 ? 32 : 16; /* VEX.L */
}
static bool selected(const uint8_t *mask, unsigned n, unsigned size)
{
    return mask[n * size + size - 1] >> 7;
}
/* The linear address of element n of a memory operand. The offset does not wrap at the address size, but outside 64-bit code it has
 * 32 bits. */
static uint64_t element_la(struct vcpu *v, const struct insn *i, unsigned n, unsigned size, enum mem_access acc)
{
    uint64_t off = insn_ea(v, i) + n * size;
    return seg_linear(v, i->seg, cpu_64bit(v) ? off : (uint32_t)off, size, acc);
}

/* Elements that the mask leaves out are not accessed. No alignment check takes place (SDM vol. 2, VMASKMOV). */
static void mask_load(struct vcpu *v, const struct insn *i, unsigned size)
{
    uint8_t mask[32], data[32] = {0};
    unsigned length = vex_length(i);
    fpu_check(v, FPU_AVX);
    native_store(v, vex_file(length), i->ops[1].reg, mask);
    for (unsigned n = 0; n < length / size; n++)
        if (selected(mask, n, size))
            mmu_read_buf(v, element_la(v, i, n, size, MEM_R), data + n * size, size, v->mmu_idx, i->seg);
    native_load(v, vex_file(length), i->ops[0].reg, data);
}

/* All faults come before any byte is written. What counts is the range from the lowest to the highest selected element: a fault is
 * reported at its first byte, or, when only its second page faults, at its last one. */
static void mask_store_probe(struct vcpu *v, const struct insn *i, const uint8_t *mask, unsigned count, unsigned size)
{
    unsigned low = 0, high = count;
    while (low < count && !selected(mask, low, size))
        low++;
    if (low == count)
        return;
    while (!selected(mask, high - 1, size))
        high--;
    uint64_t first = element_la(v, i, low, size, MEM_W);
    uint64_t last = element_la(v, i, high - 1, size, MEM_W) + size - 1;
    mmu_probe(v, first, 1, MEM_W, v->mmu_idx, i->seg);
    mmu_probe(v, last, 1, MEM_W, v->mmu_idx, i->seg);
}

static void mask_store(struct vcpu *v, const struct insn *i, unsigned size)
{
    uint8_t mask[32], data[32];
    unsigned length = vex_length(i);
    fpu_check(v, FPU_AVX);
    native_store(v, vex_file(length), i->ops[1].reg, mask);
    native_store(v, vex_file(length), i->ops[2].reg, data);
    mask_store_probe(v, i, mask, length / size, size);
    for (unsigned n = 0; n < length / size; n++)
        if (selected(mask, n, size))
            mmu_write_buf(v, element_la(v, i, n, size, MEM_W), data + n * size, size, v->mmu_idx, i->seg);
}

static void mask_element_move(struct vcpu *v, const struct insn *i, unsigned size)
{
    if (i->ops[0].kind == OPK_MEM)
        mask_store(v, i, size);
    else
        mask_load(v, i, size);
}

void op_vmaskmovps(struct vcpu *v, const struct insn *i)
{
    mask_element_move(v, i, 4);
}
void op_vmaskmovpd(struct vcpu *v, const struct insn *i)
{
    mask_element_move(v, i, 8);
}
void op_vpmaskmovd(struct vcpu *v, const struct insn *i)
{
    mask_element_move(v, i, 4);
}
void op_vpmaskmovq(struct vcpu *v, const struct insn *i)
{
    mask_element_move(v, i, 8);
}

/* ---- gathers: SDM vol. 2, VGATHERDPS and VPGATHERDD ---- */

struct gather {
    uint8_t dest[32], mask[32], index[32];
    unsigned index_size, size, count; /* bytes of an index, bytes of an element, elements */
    unsigned length, bytes;           /* of the vector; of destination and mask that take part */
    uint8_t dest_reg, mask_reg;
    bool any; /* an element has been loaded */
};

static void gather_commit(struct vcpu *v, struct gather *g)
{
    bytes_fill(g->dest + g->bytes, 0, sizeof(g->dest) - g->bytes);
    bytes_fill(g->mask, 0, sizeof(g->mask));
    native_load(v, NATIVE_VXMM, g->mask_reg, g->mask);
    native_load(v, vex_file(MAX(g->bytes, 16u)), g->dest_reg, g->dest);
}

/*
 * At a fault: the elements that are there have been loaded and their mask is clear, as the SDM demands; the others' masks are
 * spread over their elements. What becomes of upper halves the SDM leaves open, and is as the host's processors have it.
 */
static void gather_commit_partly(struct vcpu *v, struct gather *g)
{
    for (unsigned n = 0; n < g->length / g->size; n++)
        bytes_fill(g->mask + n * g->size, selected(g->mask, n, g->size) ? 0xff : 0, g->size);
    native_load(v, vex_file(g->length), g->mask_reg, g->mask);
    if (!g->any)
        return;
    if (g->length > g->bytes && g->length == 32) { /* the upper half stays, what lies above it does not */
        uint8_t now[32];
        native_store(v, NATIVE_YMM, g->dest_reg, now);
        bytes_copy(g->dest + 16, now + 16, 16);
    }
    native_load(v, vex_file(g->length), g->dest_reg, g->dest);
}

static uint64_t gather_offset(const struct vcpu *v, const struct insn *i, const struct gather *g, unsigned n)
{
    const void *p = g->index + n * g->index_size;
    int64_t index = g->index_size == 4 ? *(const int32_t *)p : *(const int64_t *)p;
    uint64_t base = i->base == REG_NONE ? 0 : v->gpr[i->base];
    uint64_t off = base + ((uint64_t)index << i->scale) + (uint64_t)i->disp;
    return i->addrsize == 8 ? off : (uint32_t)off; /* 16-bit addressing has no VSIB */
}

/*
 * The element's linear address, once it is known that reading it does not fault. A fault unwinds, but not before the elements below
 * this one have been committed. That is left out when one of them came from user space: its record must find the instruction
 * unchanged.
 */
static uint64_t gather_probe(struct vcpu *v, const struct insn *i, struct gather *g, unsigned n)
{
    void *outer[ARRAY_SIZE(v->unwind)];
    uint64_t la;
    bytes_copy(outer, v->unwind, sizeof(outer));
    int why = unwind_set(v->unwind);
    if (why) {
        bytes_copy(v->unwind, outer, sizeof(outer));
        if (!v->io_done)
            gather_commit_partly(v, g);
        if (g->any && (v->rflags & FL_TF)) { /* the trap of what has been done comes in lieu of the fault: SDM vol. 2, VGATHERDPS */
            v->rflags |= FL_RF;
            cpu_fault_db(v, DR6_BS);
        }
        unwind_jump(v->unwind, why);
    }
    la = seg_linear(v, i->seg, gather_offset(v, i, g, n), g->size, MEM_R);
    mmu_probe(v, la, g->size, MEM_R, v->mmu_idx, i->seg);
    bytes_copy(v->unwind, outer, sizeof(outer));
    return la;
}

static void gather_element(struct vcpu *v, const struct insn *i, struct gather *g, unsigned n)
{
    uint8_t *to = g->dest + n * g->size;
    uint64_t off = gather_offset(v, i, g, n);
    const void *p = cpu_64bit(v) && i->seg < SEG_FS ? mmu_host_fast(v, off, g->size, MEM_R, v->mmu_idx) : NULL;
    if (p)
        bytes_copy(to, p, g->size);
    else
        mmu_read_buf(v, gather_probe(v, i, g, n), to, g->size, v->mmu_idx, i->seg);
    bytes_fill(g->mask + n * g->size, 0, g->size);
    g->any = true;
}

static void gather(struct vcpu *v, const struct insn *i, unsigned index_size)
{
    if (insn_has(i, PFX_EVEX)) {
        evex_gather(v, i, index_size);
        return;
    }
    struct gather g = {.index_size = index_size, .size = i->ops[1].size, .dest_reg = i->ops[0].reg, .mask_reg = i->ops[2].reg};
    fpu_check(v, FPU_AVX);
    if (g.dest_reg == g.mask_reg || g.dest_reg == i->index || g.mask_reg == i->index)
        cpu_ud(v);
    g.length = vex_length(i);
    g.count = g.length / MAX(g.size, index_size);
    g.bytes = g.count * g.size;
    native_store(v, vex_file(g.length), g.dest_reg, g.dest);
    native_store(v, vex_file(g.length), g.mask_reg, g.mask);
    native_store(v, vex_file(g.length), i->index, g.index);
    for (unsigned n = 0; n < g.count; n++)
        if (selected(g.mask, n, g.size))
            gather_element(v, i, &g, n);
    gather_commit(v, &g);
}

void op_vpgatherdd(struct vcpu *v, const struct insn *i)
{
    gather(v, i, 4);
}
void op_vpgatherdq(struct vcpu *v, const struct insn *i)
{
    gather(v, i, 4);
}
void op_vgatherdps(struct vcpu *v, const struct insn *i)
{
    gather(v, i, 4);
}
void op_vgatherdpd(struct vcpu *v, const struct insn *i)
{
    gather(v, i, 4);
}
void op_vpgatherqd(struct vcpu *v, const struct insn *i)
{
    gather(v, i, 8);
}
void op_vpgatherqq(struct vcpu *v, const struct insn *i)
{
    gather(v, i, 8);
}
void op_vgatherqps(struct vcpu *v, const struct insn *i)
{
    gather(v, i, 8);
}
void op_vgatherqpd(struct vcpu *v, const struct insn *i)
{
    gather(v, i, 8);
}
