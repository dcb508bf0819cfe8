// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Shifts and rotates. The guest's flags are loaded before the host's instruction, so a count of zero leaves them alone, RCL and RCR
 * have their carry, and the flags that a count above 1 leaves undefined come out as the host has them.
 */
#include "softkvm/x86/op.h"

#define ASM_SHIFT(sfx, m, insn) \
    __asm__(ASM_FLAGS_LOAD insn sfx " %%cl, %" m "[d]" ASM_FLAGS_SAVE : [d] "+r"(d), "+&a"(f) : "c"(s) : "cc")
#define ASM_SHIFT_ONE(sfx, m, insn) __asm__(ASM_FLAGS_LOAD insn sfx " %" m "[d]" ASM_FLAGS_SAVE : [d] "+r"(d), "+&a"(f) : : "cc")

/* The forms D0 and D1 (count 1 in the opcode) are instructions of their own on the host too: they differ in undefined flags. */
#define DEFINE_SHIFT(name)                                                                                  \
    ALWAYS_INLINE uint64_t name##_reg(unsigned size, uint64_t d, uint64_t s, uint64_t rflags, uint32_t *ax) \
    {                                                                                                       \
        uint32_t f = flags_to_ax(rflags);                                                                   \
        BY_SIZE(size, ASM_SHIFT, #name);                                                                    \
        *ax = f;                                                                                            \
        return d;                                                                                           \
    }                                                                                                       \
    ALWAYS_INLINE uint64_t name##_one(unsigned size, uint64_t d, uint64_t s, uint64_t rflags, uint32_t *ax) \
    {                                                                                                       \
        uint32_t f = flags_to_ax(rflags);                                                                   \
        (void)s;                                                                                            \
        BY_SIZE(size, ASM_SHIFT_ONE, #name);                                                                \
        *ax = f;                                                                                            \
        return d;                                                                                           \
    }

DEFINE_SHIFT(rol)
DEFINE_SHIFT(ror)
DEFINE_SHIFT(rcl)
DEFINE_SHIFT(rcr)
DEFINE_SHIFT(shl)
DEFINE_SHIFT(shr)
DEFINE_SHIFT(sar)

/* ROL and ROR by an immediate other than 1 leave OF alone, where by CL they compute it; undefined, as measured on Intel processors.
 */
static uint64_t rotate_mask(const struct insn *i)
{
    bool imm = (i->opcode & 0xfe) == 0xc0 && i->ops[0].kind == OPK_GPR;
    return imm && (i->imm & (i->ops[0].size == 8 ? 63 : 31)) != 1 ? FL_ARITH & ~FL_OF : FL_ARITH;
}

#define SHIFT_OP(name, mask)                                     \
    void op_##name(struct vcpu *v, const struct insn *i)         \
    {                                                            \
        if ((i->opcode & 0xfe) == 0xd0)                          \
            rmw(v, i, 1, name##_one, NULL, FL_ARITH);            \
        else                                                     \
            rmw(v, i, op_read(v, i, 1), name##_reg, NULL, mask); \
    }

SHIFT_OP(rol, rotate_mask(i))
SHIFT_OP(ror, rotate_mask(i))
SHIFT_OP(rcl, FL_ARITH)
SHIFT_OP(rcr, FL_ARITH)
SHIFT_OP(shl, FL_ARITH)
SHIFT_OP(shr, FL_ARITH)
SHIFT_OP(sar, FL_ARITH)

/* SHLD and SHRD have three sources, so they do not fit rmw_fn. */
#define ASM_DOUBLE(sfx, m, insn)                                                 \
    __asm__(ASM_FLAGS_LOAD insn sfx " %%cl, %" m "[s], %" m "[d]" ASM_FLAGS_SAVE \
            : [d] "+r"(d), "+&a"(f)                                              \
            : [s] "r"(s), "c"(count)                                             \
            : "cc")
#define DEFINE_DOUBLE(name)                                                                         \
    static uint64_t name##_reg(unsigned size, uint64_t d, uint64_t s, unsigned count, uint32_t *ax) \
    {                                                                                               \
        uint32_t f = *ax;                                                                           \
        BY_WORD_SIZE(size, ASM_DOUBLE, #name);                                                      \
        *ax = f;                                                                                    \
        return d;                                                                                   \
    }

DEFINE_DOUBLE(shld)
DEFINE_DOUBLE(shrd)

static void shift_double(struct vcpu *v, const struct insn *i, uint64_t (*fn)(unsigned, uint64_t, uint64_t, unsigned, uint32_t *))
{
    unsigned size = i->ops[0].size, count = (unsigned)op_read(v, i, 2);
    uint64_t s = op_read(v, i, 1);
    uint32_t ax = flags_to_ax(v->rflags);
    if (i->ops[0].kind == OPK_GPR) {
        op_write(v, i, 0, fn(size, op_read(v, i, 0), s, count, &ax));
    } else {
        uint64_t off = insn_ea(v, i);
        void *p = mem_rmw(v, i->seg, off, size);
        if (p)
            guest_store(p, size, fn(size, guest_load(p, size), s, count, &ax));
        else
            mem_write(v, i->seg, off, size, fn(size, mem_read(v, i->seg, off, size), s, count, &ax));
    }
    flags_put(v, ax);
}

void op_shld(struct vcpu *v, const struct insn *i)
{
    shift_double(v, i, shld_reg);
}

void op_shrd(struct vcpu *v, const struct insn *i)
{
    shift_double(v, i, shrd_reg);
}

/* BMI2: no flags, VEX operands. */
#define ASM_SHIFTX(m, insn) __asm__(insn " %" m "[c], %" m "[s], %" m "[d]" : [d] "=r"(d) : [s] "r"(s), [c] "r"(count))
#define DEFINE_SHIFTX(name)                                         \
    void op_##name(struct vcpu *v, const struct insn *i)            \
    {                                                               \
        uint64_t d, s = op_read(v, i, 1), count = op_read(v, i, 2); \
        if (i->ops[0].size == 8)                                    \
            ASM_SHIFTX("q", #name);                                 \
        else                                                        \
            ASM_SHIFTX("k", #name);                                 \
        op_write(v, i, 0, d);                                       \
    }

DEFINE_SHIFTX(shlx)
DEFINE_SHIFTX(shrx)
DEFINE_SHIFTX(sarx)

void op_rorx(struct vcpu *v, const struct insn *i)
{
    unsigned bits = i->ops[0].size * 8, count = i->imm & (bits - 1);
    uint64_t s = op_read(v, i, 1);
    op_write(v, i, 0, count ? s >> count | s << (bits - count) : s);
}
