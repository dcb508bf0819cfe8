// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * XCHG, XADD, CMPXCHG, CMPXCHG8B/16B; and what happens to any read-modify-write whose operand has no single host address.
 *
 * With LOCK (XCHG always) the host's own locked instruction works on the operand in place: guest atomics are host atomics. An
 * operand that crosses pages is read and written in two steps while all other vCPUs stand still (vm_exclusive_begin).
 */
#include "softkvm/x86/op.h"

void rmw_split_begin(struct vcpu *v, bool lock)
{
    if (!lock)
        return;
    fpu_put(v);
    vm_exclusive_begin(v);
    v->exclusive = true;
}

void rmw_split_end(struct vcpu *v)
{
    if (!v->exclusive)
        return;
    v->exclusive = false;
    vm_exclusive_end(v);
}

/* ---- XCHG ---- */
#define ASM_XCHG(sfx, m, p) __asm__ volatile("xchg" sfx " %" m "[s], (%[q])" : [s] "+r"(s) : [q] "r"(p) : "memory")

static uint64_t xchg_host(unsigned size, void *p, uint64_t s)
{
    BY_SIZE(size, ASM_XCHG, p);
    return s & size_mask(size);
}

void op_xchg(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->ops[0].size;
    uint64_t s = op_read(v, i, 1), d;
    if (i->ops[0].kind == OPK_GPR) {
        d = op_read(v, i, 0);
        op_write(v, i, 0, s);
    } else {
        uint64_t off = insn_ea(v, i);
        void *p = mem_rmw(v, i->seg, off, size);
        if (likely(p != NULL)) {
            d = xchg_host(size, p, s);
        } else {
            rmw_split_begin(v, true);
            d = mem_read(v, i->seg, off, size);
            mem_write(v, i->seg, off, size, s);
            rmw_split_end(v);
        }
    }
    op_write(v, i, 1, d);
}

/* ---- XADD ---- */
#define ASM_XADD(sfx, m, lock) \
    __asm__ volatile(lock "xadd" sfx " %" m "[s], (%[p])" ASM_FLAGS_SAVE : [s] "+r"(s), "=&a"(f) : [p] "r"(p) : "cc", "memory")

/* Adds s to *p; returns the old value, flags in *ax. */
static uint64_t xadd_host(unsigned size, void *p, uint64_t s, bool lock, uint32_t *ax)
{
    uint32_t f;
    if (lock)
        BY_SIZE(size, ASM_XADD, "lock ");
    else
        BY_SIZE(size, ASM_XADD, "");
    *ax = f;
    return s;
}

void op_xadd(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->ops[0].size;
    bool lock = insn_has(i, PFX_LOCK);
    uint64_t s = op_read(v, i, 1), old, tmp;
    uint32_t ax;
    if (i->ops[0].kind == OPK_GPR) {
        tmp = op_read(v, i, 0);
        old = xadd_host(size, &tmp, s, false, &ax);
        op_write(v, i, 1, old);
        op_write(v, i, 0, tmp); /* last: XADD of a register with itself leaves the sum */
        flags_put(v, ax);
        return;
    }
    uint64_t off = insn_ea(v, i);
    void *p = mem_rmw(v, i->seg, off, size);
    if (likely(p != NULL)) {
        old = xadd_host(size, p, s, lock, &ax);
    } else {
        rmw_split_begin(v, lock);
        tmp = mem_read(v, i->seg, off, size);
        old = xadd_host(size, &tmp, s, false, &ax);
        mem_write(v, i->seg, off, size, tmp);
        rmw_split_end(v);
    }
    op_write(v, i, 1, old);
    flags_put(v, ax);
}

/* ---- CMPXCHG ---- */
#define ASM_CMPXCHG(sfx, m, lock)                                                                                          \
    __asm__ volatile("movq %[acc], %%rax\n\t" lock "cmpxchg" sfx " %" m "[s], (%[p])\n\tmovq %%rax, %[acc]" ASM_FLAGS_SAVE \
                     : [acc] "+&r"(acc), "=&a"(f)                                                                          \
                     : [s] "r"(s), [p] "r"(p)                                                                              \
                     : "cc", "memory")
#define ASM_CMPXCHG_REG(sfx, m, unused)                                                                      \
    __asm__("movq %[acc], %%rax\n\tcmpxchg" sfx " %" m "[s], %" m "[d]\n\tmovq %%rax, %[acc]" ASM_FLAGS_SAVE \
            : [acc] "+&r"(acc), [d] "+&r"(d), "=&a"(f)                                                       \
            : [s] "r"(s)                                                                                     \
            : "cc")

/* Runs on host memory with the whole accumulator, so that its upper half comes out as the host has it; flags in *ax. */
static uint64_t cmpxchg_host(unsigned size, void *p, uint64_t acc, uint64_t s, bool lock, uint32_t *ax)
{
    uint32_t f;
    if (lock)
        BY_SIZE(size, ASM_CMPXCHG, "lock ");
    else
        BY_SIZE(size, ASM_CMPXCHG, "");
    *ax = f;
    return acc;
}

/* Both the accumulator and the destination are written whether they compare equal or not. */
static void cmpxchg_reg(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->ops[0].size;
    uint64_t s = op_read(v, i, 1), acc = v->gpr[RAX];
    uint64_t d = size == 1 ? op_read(v, i, 0) : v->gpr[i->ops[0].reg];
    uint32_t f;
    BY_SIZE(size, ASM_CMPXCHG_REG, 0);
    v->gpr[RAX] = acc;
    if (size == 1) {
        if (flags_from_ax(f) & FL_ZF)
            op_write(v, i, 0, d);
    } else if (i->ops[0].reg != RAX || flags_from_ax(f) & FL_ZF) {
        v->gpr[i->ops[0].reg] = d;
    }
    flags_put(v, f);
}

void op_cmpxchg(struct vcpu *v, const struct insn *i)
{
    if (i->ops[0].kind == OPK_GPR) {
        cmpxchg_reg(v, i);
        return;
    }
    unsigned size = i->ops[0].size;
    bool lock = insn_has(i, PFX_LOCK);
    uint64_t s = op_read(v, i, 1), off = insn_ea(v, i), acc;
    uint32_t ax;
    void *p = mem_rmw(v, i->seg, off, size);
    if (likely(p != NULL)) {
        acc = cmpxchg_host(size, p, v->gpr[RAX], s, lock, &ax);
    } else {
        rmw_split_begin(v, lock);
        uint64_t d = mem_read(v, i->seg, off, size);
        acc = cmpxchg_host(size, &d, v->gpr[RAX], s, false, &ax);
        mem_write(v, i->seg, off, size, d);
        rmw_split_end(v);
    }
    v->gpr[RAX] = acc;
    flags_put(v, ax);
}

/* ---- CMPXCHG8B, CMPXCHG16B: only ZF changes ---- */
void op_cmpxchg8b(struct vcpu *v, const struct insn *i)
{
    uint64_t off = insn_ea(v, i);
    uint64_t expect = (v->gpr[RDX] & 0xffffffff) << 32 | (uint32_t)v->gpr[RAX], seen = expect;
    uint64_t s = (v->gpr[RCX] & 0xffffffff) << 32 | (uint32_t)v->gpr[RBX];
    uint32_t ax;
    void *p = mem_rmw(v, i->seg, off, 8);
    if (likely(p != NULL)) {
        seen = cmpxchg_host(8, p, expect, s, insn_has(i, PFX_LOCK), &ax);
    } else {
        rmw_split_begin(v, insn_has(i, PFX_LOCK));
        seen = mem_read(v, i->seg, off, 8);
        mem_write(v, i->seg, off, 8, seen == expect ? s : seen);
        rmw_split_end(v);
    }
    if (seen != expect) {
        v->gpr[RAX] = (uint32_t)seen;
        v->gpr[RDX] = seen >> 32;
    }
    v->rflags = (v->rflags & ~FL_ZF) | (seen == expect ? FL_ZF : 0);
}

static bool cmpxchg16b_host(void *p, uint64_t *low, uint64_t *high, uint64_t new_low, uint64_t new_high)
{
    bool equal;
    __asm__ volatile("lock cmpxchg16b (%[p])\n\tsetz %[z]"
                     : "+a"(*low), "+d"(*high), [z] "=r"(equal)
                     : "b"(new_low), "c"(new_high), [p] "r"(p)
                     : "cc", "memory");
    return equal;
}

/* The operand is aligned, so it never crosses a page. */
void op_cmpxchg16b(struct vcpu *v, const struct insn *i)
{
    uint64_t off = insn_ea(v, i), low = v->gpr[RAX], high = v->gpr[RDX];
    bool equal;
    if (seg_linear(v, i->seg, off, 16, MEM_W) & 15)
        cpu_gp(v, 0);
    void *p = mem_rmw(v, i->seg, off, 16);
    if (likely(p != NULL)) {
        equal = cmpxchg16b_host(p, &low, &high, v->gpr[RBX], v->gpr[RCX]);
    } else {
        uint64_t m_low = mem_read(v, i->seg, off, 8), m_high = mem_read(v, i->seg, off + 8, 8);
        equal = m_low == low && m_high == high;
        mem_write(v, i->seg, off, 8, equal ? v->gpr[RBX] : m_low);
        mem_write(v, i->seg, off + 8, 8, equal ? v->gpr[RCX] : m_high);
        low = m_low;
        high = m_high;
    }
    if (!equal) {
        v->gpr[RAX] = low;
        v->gpr[RDX] = high;
    }
    v->rflags = (v->rflags & ~FL_ZF) | (equal ? FL_ZF : 0);
}
