/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the integer instructions share: flags, read-modify-write, stack and near branches.
 *
 * Arithmetic runs as the very same instruction at the very same width on the host, with the guest's flags loaded before and all six
 * flags captured after it. So even flags that the SDM leaves undefined come out as the host has them. Flags travel in AX: AH as
 * LAHF and SAHF have it (SF ZF AF PF CF), AL = OF. This takes no stack, unlike PUSHF, and is far cheaper than POPF.
 *
 * Order in every op_*: read operands, compute, write memory, then registers and flags, since each memory access may fault or leave
 * for user space.
 */
#ifndef LODGE_SOFTKVM_X86_OP_H
#define LODGE_SOFTKVM_X86_OP_H

#include "softkvm/vm.h"
#include "softkvm/x86/interp.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/mem.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* ---- flags ---- */
#define ASM_FLAGS_LOAD "addb $0x7f, %%al\n\tsahf\n\t" /* AL = 1 overflows: OF = AL; SAHF leaves OF alone */
#define ASM_FLAGS_SAVE "\n\tlahf\n\tseto %%al"

static inline uint32_t flags_to_ax(uint64_t rflags)
{
    return (uint32_t)(rflags & 0xff) << 8 | (rflags >> 11 & 1);
}
static inline uint64_t flags_from_ax(uint32_t ax)
{
    return (ax >> 8 & (FL_ARITH & 0xff)) | (ax & 1) << 11;
}
static inline void flags_put(struct vcpu *v, uint32_t ax)
{
    v->rflags = (v->rflags & ~FL_ARITH) | flags_from_ax(ax);
}

/* Does condition `cc` (low four bits of the opcode of Jcc, SETcc, CMOVcc) hold? SDM vol. 1, appendix B. */
static inline bool flags_cond(uint64_t fl, unsigned cc)
{
    bool r;
    switch (cc >> 1 & 7) {
    case 0: r = fl & FL_OF; break;
    case 1: r = fl & FL_CF; break;
    case 2: r = fl & FL_ZF; break;
    case 3: r = fl & (FL_CF | FL_ZF); break;
    case 4: r = fl & FL_SF; break;
    case 5: r = fl & FL_PF; break;
    case 6: r = (fl >> 7 ^ fl >> 11) & 1; break;
    default: r = ((fl >> 7 ^ fl >> 11) & 1) || (fl & FL_ZF); break;
    }
    return r != (cc & 1);
}

/* Expands X(mnemonic suffix, operand modifier, ...) for the operand's size. */
#define BY_SIZE(size, X, ...)                     \
    do {                                          \
        switch (size) {                           \
        case 1: X("b", "b", __VA_ARGS__); break;  \
        case 2: X("w", "w", __VA_ARGS__); break;  \
        case 4: X("l", "k", __VA_ARGS__); break;  \
        default: X("q", "q", __VA_ARGS__); break; \
        }                                         \
    } while (0)

/* The same for instructions without a byte form. */
#define BY_WORD_SIZE(size, X, ...)                \
    do {                                          \
        switch (size) {                           \
        case 2: X("w", "w", __VA_ARGS__); break;  \
        case 4: X("l", "k", __VA_ARGS__); break;  \
        default: X("q", "q", __VA_ARGS__); break; \
        }                                         \
    } while (0)

static inline int64_t sign_extend(uint64_t val, unsigned size)
{
    unsigned shift = 64 - 8 * size;
    return (int64_t)(val << shift) >> shift;
}
static inline uint64_t size_mask(unsigned size)
{
    return ~0ull >> (64 - 8 * size);
}

/* ---- read-modify-write ---- */

/* Computes the new value of the destination `d` with source `s`; takes the guest's rflags, leaves the new flags in *ax. */
typedef uint64_t rmw_fn(unsigned size, uint64_t d, uint64_t s, uint64_t rflags, uint32_t *ax);
/* The same with LOCK on host memory; returns AX. */
typedef uint32_t rmw_locked_fn(unsigned size, void *p, uint64_t s, uint64_t rflags);

/* Bracket the read and the write of an operand that has no single host address. Harmless without LOCK, needed with it. */
void rmw_split_begin(struct vcpu *v, bool lock);
void rmw_split_end(struct vcpu *v);

/* Operand 0 = fn(operand 0, s) at segment offset `off` when it is memory; puts those flags that are in `mask`. */
ALWAYS_INLINE void rmw_at(struct vcpu *v, const struct insn *i, uint64_t off, unsigned size, uint64_t s, rmw_fn *fn,
                          rmw_locked_fn *locked, uint64_t mask)
{
    uint32_t ax;
    bool lock = locked && insn_has(i, PFX_LOCK);
    void *p = mem_rmw(v, i->seg, off, size);
    if (likely(p != NULL) && !lock) {
        guest_store(p, size, fn(size, guest_load(p, size), s, v->rflags, &ax));
    } else if (likely(p != NULL)) {
        ax = locked(size, p, s, v->rflags);
    } else {
        rmw_split_begin(v, lock);
        uint64_t r = fn(size, mem_read(v, i->seg, off, size), s, v->rflags, &ax);
        mem_write(v, i->seg, off, size, r);
        rmw_split_end(v);
    }
    v->rflags = (v->rflags & ~mask) | (flags_from_ax(ax) & mask);
}

ALWAYS_INLINE void rmw(struct vcpu *v, const struct insn *i, uint64_t s, rmw_fn *fn, rmw_locked_fn *locked, uint64_t mask)
{
    const struct operand *o = &i->ops[0];
    uint32_t ax;
    if (o->kind != OPK_GPR) {
        rmw_at(v, i, insn_ea(v, i), o->size, s, fn, locked, mask);
        return;
    }
    gpr_write(v, o->off, o->size, fn(o->size, gpr_read(v, o->off, o->size), s, v->rflags, &ax));
    v->rflags = (v->rflags & ~mask) | (flags_from_ax(ax) & mask);
}

/* ---- registers used at the address size: counters and string pointers ---- */
static inline uint64_t reg_get(const struct vcpu *v, enum reg r, unsigned size)
{
    return gpr_read(v, r * 8, size);
}
static inline void reg_set(struct vcpu *v, enum reg r, unsigned size, uint64_t val)
{
    gpr_write(v, r * 8, size, val);
}

/* ---- stack; SDM vol. 1, 6.2.3 ---- */
static inline unsigned stack_size(const struct vcpu *v)
{
    if (likely(v->code_mode == CODE64))
        return 8;
    return v->seg[SEG_SS].attr & SEG_DB ? 4 : 2;
}
static inline uint64_t stack_pointer(const struct vcpu *v, int64_t delta)
{
    return (v->gpr[RSP] + (uint64_t)delta) & size_mask(stack_size(v));
}
static inline void stack_set(struct vcpu *v, uint64_t sp)
{
    reg_set(v, RSP, stack_size(v), sp);
}
static inline void stack_push(struct vcpu *v, unsigned size, uint64_t val)
{
    uint64_t sp = stack_pointer(v, -(int64_t)size);
    mem_write(v, SEG_SS, sp, size, val);
    stack_set(v, sp);
}
/* The value at rsp + delta; rsp stays. */
static inline uint64_t stack_peek(struct vcpu *v, int64_t delta, unsigned size)
{
    return mem_read(v, SEG_SS, stack_pointer(v, delta), size);
}

/* ---- near branches (flow.c) ---- */
/* Truncates a target to the operand size and checks it: canonical in 64-bit code, within CS's limit elsewhere; #GP(0). */
static inline uint64_t branch_target(struct vcpu *v, unsigned opsize, uint64_t target)
{
    if (likely(v->code_mode == CODE64)) {
        if (unlikely(!is_canonical(target)))
            cpu_gp(v, 0);
        return target;
    }
    target &= opsize == 2 ? 0xffff : 0xffffffff;
    if (unlikely(target > v->seg[SEG_CS].limit))
        cpu_gp(v, 0);
    return target;
}

#endif
