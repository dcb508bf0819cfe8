// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an opmask does to memory operands (SDM vol. 1, 15.6; vol. 2, 2.7): elements that it leaves out are not accessed and cannot fault; and
 * gathers and scatters, which clear the mask bit of each element that is done, so that they go on there after a fault.
 */
#include "softkvm/x86/debug.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/native.h"
#include "softkvm/x86/op.h"
#include "softkvm/x86/unwind.h"

static uint64_t low_bits(unsigned n)
{
    return n < 64 ? BIT64(n) - 1 : ~0ull;
}

/* Without libgcc's, which may use vector registers. */
static unsigned count_bits(uint64_t v)
{
    unsigned n = 0;
    for (; v; v &= v - 1)
        n++;
    return n;
}

static uint64_t mask_of(struct vcpu *v, const struct insn *i)
{
    uint64_t k;
    native_store(v, NATIVE_K, i->evex & EVEX_K, &k);
    return k;
}

/* One bit for each element of the memory operand that is accessed. */
static uint64_t elements_accessed(struct vcpu *v, const struct insn *i, unsigned mem_size, unsigned size)
{
    unsigned flags = i->desc->flags, count = mem_size / size, bits = count;
    uint64_t k = mask_of(v, i);
    if (flags & EV_REPEAT)
        bits = i->vl / size;
    else if (i->evex & EVEX_B)
        bits = native_full_size(i) / size;
    k &= low_bits(bits);
    if (flags & EV_PACKED)
        return low_bits(count_bits(k));
    uint64_t folded = 0;
    for (unsigned at = 0; at < bits; at += count)
        folded |= k >> at;
    return folded & low_bits(count);
}

bool evex_accesses(struct vcpu *v, const struct insn *i, unsigned mem_size)
{
    return elements_accessed(v, i, mem_size, EV_ELEMENT(i->desc->flags)) != 0;
}

bool evex_is_masked(const struct insn *i)
{
    return insn_has(i, PFX_EVEX) && (i->evex & EVEX_K) && ((i->desc->flags & EV_FS) || i->ops[0].kind == OPK_MEM);
}

static uint64_t element_la(struct vcpu *v, const struct insn *i, uint64_t ea, unsigned n, unsigned size, enum mem_access acc)
{
    return seg_linear(v, i->seg, ea + n * size, size, acc);
}

void evex_read_masked(struct vcpu *v, const struct insn *i, uint64_t ea, void *buf, unsigned mem_size)
{
    unsigned size = EV_ELEMENT(i->desc->flags);
    uint64_t want = elements_accessed(v, i, mem_size, size);
    bytes_fill(buf, 0, mem_size);
    for (unsigned n = 0; n < mem_size / size; n++)
        if (want >> n & 1)
            mmu_read_buf(v, element_la(v, i, ea, n, size, MEM_R), (uint8_t *)buf + n * size, size, v->mmu_idx, i->seg);
}

/*
 * All faults come before any byte is written. What counts is the range from the lowest to the highest element: a fault is reported at its
 * first byte, or, when only its second page faults, at its last one.
 */
void evex_write_masked(struct vcpu *v, const struct insn *i, uint64_t ea, const void *buf, unsigned mem_size)
{
    unsigned size = EV_ELEMENT(i->desc->flags);
    uint64_t want = elements_accessed(v, i, mem_size, size);
    if (!(i->desc->flags & EV_FS))
        mmu_probe(v, element_la(v, i, ea, 0, mem_size, MEM_W), mem_size, MEM_W, v->mmu_idx, i->seg);
    if (!want)
        return;
    unsigned low = (unsigned)__builtin_ctzll(want), high = 63 - (unsigned)__builtin_clzll(want);
    uint64_t first = element_la(v, i, ea, low, size, MEM_W), last = element_la(v, i, ea, high, size, MEM_W) + size - 1;
    if (mem_size == size) {
        mmu_probe(v, first, size, MEM_W, v->mmu_idx, i->seg);
    } else {
        mmu_probe(v, first, 1, MEM_W, v->mmu_idx, i->seg);
        mmu_probe(v, last, 1, MEM_W, v->mmu_idx, i->seg);
    }
    for (unsigned n = 0; n < mem_size / size; n++)
        if (want >> n & 1)
            mmu_write_buf(v, element_la(v, i, ea, n, size, MEM_W), (const uint8_t *)buf + n * size, size, v->mmu_idx, i->seg);
}

/* ---- gathers and scatters ---- */

struct elements {
    uint8_t data[64], index[64];
    uint64_t mask;
    unsigned index_size, size, count; /* bytes of an index, bytes of an element, elements */
    uint8_t reg;
    bool scatter, any; /* `any`: an element has been moved */
};

/* What lies above `bytes` of the destination is cleared: that is the whole vector where a fault has come in between. */
static void commit(struct vcpu *v, const struct insn *i, struct elements *e, unsigned bytes)
{
    native_load(v, NATIVE_K, i->evex & EVEX_K, &e->mask);
    if (e->scatter)
        return;
    bytes_fill(e->data + bytes, 0, sizeof(e->data) - bytes);
    native_load(v, NATIVE_ZMM, e->reg, e->data);
}

static uint64_t offset_of(const struct vcpu *v, const struct insn *i, const struct elements *e, unsigned n)
{
    const void *p = e->index + n * e->index_size;
    int64_t index = e->index_size == 4 ? *(const int32_t *)p : *(const int64_t *)p;
    uint64_t base = i->base == REG_NONE ? 0 : v->gpr[i->base];
    uint64_t off = base + ((uint64_t)index << i->scale) + (uint64_t)i->disp;
    return i->addrsize == 8 ? off : (uint32_t)off;
}

static void move_element(struct vcpu *v, const struct insn *i, struct elements *e, unsigned n)
{
    enum mem_access acc = e->scatter ? MEM_W : MEM_R;
    uint8_t *at = e->data + n * e->size;
    uint64_t la = seg_linear(v, i->seg, offset_of(v, i, e, n), e->size, acc);
    if (e->scatter)
        mmu_write_buf(v, la, at, e->size, v->mmu_idx, i->seg);
    else
        mmu_read_buf(v, la, at, e->size, v->mmu_idx, i->seg);
    e->mask &= ~BIT64(n);
    e->any = true;
}

/*
 * Runs through the elements. A fault or an exit unwinds, but not before those that are done have been committed; that is left out when one of
 * them came from user space: its record must find the instruction unchanged.
 */
static void move_elements(struct vcpu *v, const struct insn *i, struct elements *e)
{
    void *outer[ARRAY_SIZE(v->unwind)];
    bytes_copy(outer, v->unwind, sizeof(outer));
    int why = unwind_set(v->unwind);
    if (why) {
        bytes_copy(v->unwind, outer, sizeof(outer));
        if (!v->io_done && e->any)
            commit(v, i, e, i->vl);
        if (e->any && (v->rflags & FL_TF)) { /* the trap of what has been done comes in lieu of the fault: SDM vol. 2, VGATHERDPS */
            v->rflags |= FL_RF;
            cpu_fault_db(v, DR6_BS);
        }
        unwind_jump(v->unwind, why);
    }
    for (unsigned n = 0; n < e->count; n++)
        if (e->mask >> n & 1)
            move_element(v, i, e, n);
    bytes_copy(v->unwind, outer, sizeof(outer));
}

static void run(struct vcpu *v, const struct insn *i, unsigned index_size, bool scatter)
{
    unsigned mem = scatter ? 0 : 1, reg = !mem;
    struct elements e = {.index_size = index_size, .size = i->ops[mem].size, .reg = i->ops[reg].reg, .scatter = scatter};
    fpu_check(v, FPU_AVX512);
    e.count = i->vl / MAX(e.size, index_size);
    native_store(v, NATIVE_ZMM, e.reg, e.data);
    native_store(v, NATIVE_ZMM, i->index, e.index);
    e.mask = mask_of(v, i);
    move_elements(v, i, &e);
    e.mask = 0;
    commit(v, i, &e, e.count * e.size);
}

void evex_gather(struct vcpu *v, const struct insn *i, unsigned index_size)
{
    run(v, i, index_size, false);
}

#define SCATTER(name, index_size)                         \
    void op_##name(struct vcpu *v, const struct insn *i)  \
    {                                                     \
        run(v, i, index_size, true);                      \
    }
SCATTER(vpscatterdd, 4)
SCATTER(vpscatterdq, 4)
SCATTER(vscatterdps, 4)
SCATTER(vscatterdpd, 4)
SCATTER(vpscatterqd, 8)
SCATTER(vpscatterqq, 8)
SCATTER(vscatterqps, 8)
SCATTER(vscatterqpd, 8)
