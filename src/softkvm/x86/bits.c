// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Bit tests, bit scans, BMI1, BMI2's PDEP PEXT BZHI, and CRC32.
 * insn_specialise() has replaced what the host lacks by #UD, so each function may use its host instruction.
 */
#include "softkvm/x86/op.h"

/* ---- BT BTS BTR BTC ---- */
#define ASM_BIT(sfx, m, insn) \
    __asm__(ASM_FLAGS_LOAD insn sfx " %" m "[s], %" m "[d]" ASM_FLAGS_SAVE : [d] "+r"(d), "+&a"(f) : [s] "r"(s) : "cc")
#define ASM_BIT_LOCKED(sfx, m, insn)                                                     \
    __asm__ volatile(ASM_FLAGS_LOAD "lock " insn sfx " %" m "[s], (%[p])" ASM_FLAGS_SAVE \
                     : "+&a"(f)                                                          \
                     : [p] "r"(p), [s] "r"(s)                                            \
                     : "cc", "memory")

/* `s` is below the operand's width, so the locked form stays within the operand. */
#define DEFINE_BIT(name)                                                                                    \
    ALWAYS_INLINE uint64_t name##_reg(unsigned size, uint64_t d, uint64_t s, uint64_t rflags, uint32_t *ax) \
    {                                                                                                       \
        uint32_t f = flags_to_ax(rflags);                                                                   \
        BY_WORD_SIZE(size, ASM_BIT, #name);                                                                 \
        *ax = f;                                                                                            \
        return d;                                                                                           \
    }
#define DEFINE_BIT_LOCKED(name)                                                               \
    ALWAYS_INLINE uint32_t name##_locked(unsigned size, void *p, uint64_t s, uint64_t rflags) \
    {                                                                                         \
        uint32_t f = flags_to_ax(rflags);                                                     \
        BY_WORD_SIZE(size, ASM_BIT_LOCKED, #name);                                            \
        return f;                                                                             \
    }

DEFINE_BIT(bt)
DEFINE_BIT(bts)
DEFINE_BIT(btr)
DEFINE_BIT(btc)
DEFINE_BIT_LOCKED(bts)
DEFINE_BIT_LOCKED(btr)
DEFINE_BIT_LOCKED(btc)

/* A register bit offset is signed and reaches beyond the operand in memory; an immediate one is taken modulo the width. SDM vol. 2,
 * BT. */
static uint64_t bit_address(const struct vcpu *v, const struct insn *i, uint64_t bit)
{
    uint64_t ea = insn_ea(v, i);
    unsigned size = i->ops[0].size, shift = size == 8 ? 6 : size == 4 ? 5 : 4;
    if (i->ops[1].kind == OPK_GPR)
        ea += (uint64_t)((sign_extend(bit, size) >> shift) * size);
    return ea & size_mask(i->addrsize);
}

void op_bt(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->ops[0].size;
    uint64_t bit = op_read(v, i, 1);
    uint64_t d = i->ops[0].kind == OPK_GPR ? op_read(v, i, 0) : mem_read(v, i->seg, bit_address(v, i, bit), size);
    uint32_t ax;
    bt_reg(size, d, bit & (8 * size - 1), v->rflags, &ax);
    flags_put(v, ax);
}

#define BIT_OP(name)                                                                                \
    void op_##name(struct vcpu *v, const struct insn *i)                                            \
    {                                                                                               \
        unsigned size = i->ops[0].size;                                                             \
        uint64_t bit = op_read(v, i, 1), index = bit & (8 * size - 1);                              \
        if (i->ops[0].kind == OPK_GPR)                                                              \
            rmw(v, i, index, name##_reg, NULL, FL_ARITH);                                           \
        else                                                                                        \
            rmw_at(v, i, bit_address(v, i, bit), size, index, name##_reg, name##_locked, FL_ARITH); \
    }

BIT_OP(bts)
BIT_OP(btr)
BIT_OP(btc)

/* ---- scans and counts: operand 0 = f(operand 1) ---- */
/* The whole destination register goes through the host's instruction: with a source of zero, BSF and BSR leave it as the host does.
 */
#define ASM_SCAN(sfx, m, insn) \
    __asm__(ASM_FLAGS_LOAD insn sfx " %" m "[s], %" m "[d]" ASM_FLAGS_SAVE : [d] "+r"(d), "+&a"(f) : [s] "r"(s) : "cc")
#define SCAN_OP(name)                                             \
    void op_##name(struct vcpu *v, const struct insn *i)          \
    {                                                             \
        uint64_t s = op_read(v, i, 1), d = v->gpr[i->ops[0].reg]; \
        uint32_t f = flags_to_ax(v->rflags);                      \
        BY_WORD_SIZE(i->ops[0].size, ASM_SCAN, #name);            \
        v->gpr[i->ops[0].reg] = d;                                \
        flags_put(v, f);                                          \
    }

SCAN_OP(bsf)
SCAN_OP(bsr)
SCAN_OP(tzcnt)
SCAN_OP(lzcnt)
SCAN_OP(popcnt)

/* ---- BMI with flags ---- */
#define ASM_BMI1(m, insn) \
    __asm__(ASM_FLAGS_LOAD insn " %" m "[s], %" m "[d]" ASM_FLAGS_SAVE : [d] "=r"(d), "+&a"(f) : [s] "r"(s) : "cc")
#define ASM_BMI2(m, insn)                                                         \
    __asm__(ASM_FLAGS_LOAD insn " %" m "[t], %" m "[s], %" m "[d]" ASM_FLAGS_SAVE \
            : [d] "=r"(d), "+&a"(f)                                               \
            : [s] "r"(s), [t] "r"(t)                                              \
            : "cc")

#define BMI1_OP(name)                                    \
    void op_##name(struct vcpu *v, const struct insn *i) \
    {                                                    \
        uint64_t d, s = op_read(v, i, 1);                \
        uint32_t f = flags_to_ax(v->rflags);             \
        if (i->ops[0].size == 8)                         \
            ASM_BMI1("q", #name);                        \
        else                                             \
            ASM_BMI1("k", #name);                        \
        op_write(v, i, 0, d);                            \
        flags_put(v, f);                                 \
    }

BMI1_OP(blsr)
BMI1_OP(blsmsk)
BMI1_OP(blsi)

/* In AT&T order: `first` and `second` are the operands that stand first and second before the destination. */
#define BMI2_OP(name, first, second)                                     \
    void op_##name(struct vcpu *v, const struct insn *i)                 \
    {                                                                    \
        uint64_t d, t = op_read(v, i, first), s = op_read(v, i, second); \
        uint32_t f = flags_to_ax(v->rflags);                             \
        if (i->ops[0].size == 8)                                         \
            ASM_BMI2("q", #name);                                        \
        else                                                             \
            ASM_BMI2("k", #name);                                        \
        op_write(v, i, 0, d);                                            \
        flags_put(v, f);                                                 \
    }

BMI2_OP(andn, 2, 1)
BMI2_OP(bextr, 2, 1)
BMI2_OP(bzhi, 2, 1)
BMI2_OP(pdep, 2, 1)
BMI2_OP(pext, 2, 1)

/* ---- CRC32 (the Castagnoli polynomial); SSE4.2, on general registers. The upper half of the destination is always cleared. ----
 */
#define ASM_CRC32(insn) __asm__(insn : [d] "+r"(d) : [s] "r"(s))

void op_crc32(struct vcpu *v, const struct insn *i)
{
    uint64_t s = op_read(v, i, 1), d = v->gpr[i->ops[0].reg];
    switch (i->ops[1].size) {
    case 1: ASM_CRC32("crc32b %b[s], %k[d]"); break;
    case 2: ASM_CRC32("crc32w %w[s], %k[d]"); break;
    case 4: ASM_CRC32("crc32l %k[s], %k[d]"); break;
    default: ASM_CRC32("crc32q %q[s], %q[d]"); break;
    }
    v->gpr[i->ops[0].reg] = d;
}
