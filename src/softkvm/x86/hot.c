// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What happens to an instruction between decoding and its first execution: its function is exchanged for one that knows more.
 *
 * The second half is speed alone: in 64-bit code, the most frequent instructions get functions made for their operands' size and
 * form. They are the general functions with constants put in, and mean exactly the same.
 */
#include "softkvm/x86/alu.h"

/* ---- instructions that use a host instruction which the host may lack ---- */
struct host_bit {
    uint8_t feature; /* enum isa_feature */
    uint8_t reg;     /* 0..3: EAX EBX ECX EDX */
    uint8_t bit;
    uint32_t leaf;
};

/* TZCNT and LZCNT are missing on purpose: where they are, they run as BSF and BSR, on old hosts as in their guests. */
static const struct host_bit host_bits[] = {
    {FEAT_POPCNT, 2, 23, 1}, {FEAT_SSE42, 2, 20, 1}, {FEAT_RDRAND, 2, 30, 1},
    {FEAT_BMI1, 1, 3, 7},    {FEAT_BMI2, 1, 8, 7},   {FEAT_RDSEED, 1, 18, 7},
};

static uint64_t host_lacks; /* bit per enum isa_feature; set before main(), constant from then on */
_Static_assert(FEAT_COUNT <= 64, "one bit per feature");

static __attribute__((constructor)) void find_host_features(void)
{
    for (unsigned n = 0; n < ARRAY_SIZE(host_bits); n++) {
        const struct host_bit *h = &host_bits[n];
        uint32_t max = 0, r[4] = {0, 0, 0, 0}, unused[3];
        __asm__ volatile("cpuid" : "+a"(max), "=b"(unused[0]), "=c"(unused[1]), "=d"(unused[2]));
        if (max >= h->leaf)
            __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "0"(h->leaf), "2"(0));
        if (!(r[h->reg] >> h->bit & 1))
            host_lacks |= BIT64(h->feature);
    }
}

static void exec_ud(struct vcpu *v, const struct insn *i)
{
    (void)i;
    cpu_ud(v);
}

/* ---- instructions that do not exist in real and virtual-8086 mode, found in 16-bit code ---- */
static void exec_protected(struct vcpu *v, const struct insn *i)
{
    if (!cpu_protected(v))
        cpu_ud(v);
    i->desc->exec(v, i);
}

/* ---- 64-bit code's most frequent instructions ---- */

/* Operand forms. B is memory at base + displacement, 64-bit, in a segment without a base; the others are registers and immediates.
 */
enum form { FORM_RR, FORM_RI, FORM_RB, FORM_BR, FORM_BI, FORM_COUNT };

ALWAYS_INLINE uint64_t reg_operand(const struct vcpu *v, const struct insn *i, unsigned n, unsigned size)
{
    return gpr_read(v, i->ops[n].off, size);
}
ALWAYS_INLINE uint64_t base_address(const struct vcpu *v, const struct insn *i)
{
    return v->gpr[i->base] + (uint64_t)i->disp;
}
ALWAYS_INLINE uint64_t base_operand(struct vcpu *v, const struct insn *i, unsigned size)
{
    return mmu_read(v, base_address(v, i), size, v->mmu_idx, i->seg);
}
ALWAYS_INLINE uint64_t hot_source(struct vcpu *v, const struct insn *i, enum form form, unsigned size)
{
    switch (form) {
    case FORM_RR:
    case FORM_BR: return reg_operand(v, i, 1, size);
    case FORM_RB: return base_operand(v, i, size);
    default: return i->imm;
    }
}
ALWAYS_INLINE uint64_t hot_destination(struct vcpu *v, const struct insn *i, enum form form, unsigned size)
{
    return form == FORM_BR || form == FORM_BI ? base_operand(v, i, size) : reg_operand(v, i, 0, size);
}

ALWAYS_INLINE void hot_arith(struct vcpu *v, const struct insn *i, rmw_fn *fn, enum form form, unsigned size, bool keep)
{
    uint32_t ax;
    uint64_t s = hot_source(v, i, form, size);
    uint64_t r = fn(size, hot_destination(v, i, form, size), s, v->rflags, &ax);
    if (keep)
        gpr_write(v, i->ops[0].off, size, r);
    flags_put(v, ax);
}
ALWAYS_INLINE void hot_mov(struct vcpu *v, const struct insn *i, enum form form, unsigned size)
{
    uint64_t s = hot_source(v, i, form, size);
    if (form == FORM_BR || form == FORM_BI)
        mmu_write(v, base_address(v, i), size, s, v->mmu_idx, i->seg);
    else
        gpr_write(v, i->ops[0].off, size, s);
}

#define HOT_FN(name, size, form, call)                                             \
    static void hot_##name##_##size##_##form(struct vcpu *v, const struct insn *i) \
    {                                                                              \
        call;                                                                      \
    }
#define HOT_ARITH(name, size)                                                \
    HOT_FN(name, size, RR, hot_arith(v, i, name##_reg, FORM_RR, size, true)) \
    HOT_FN(name, size, RI, hot_arith(v, i, name##_reg, FORM_RI, size, true)) \
    HOT_FN(name, size, RB, hot_arith(v, i, name##_reg, FORM_RB, size, true))
#define HOT_COMPARE(name, size)                                               \
    HOT_FN(name, size, RR, hot_arith(v, i, name##_reg, FORM_RR, size, false)) \
    HOT_FN(name, size, RI, hot_arith(v, i, name##_reg, FORM_RI, size, false)) \
    HOT_FN(name, size, RB, hot_arith(v, i, name##_reg, FORM_RB, size, false)) \
    HOT_FN(name, size, BR, hot_arith(v, i, name##_reg, FORM_BR, size, false)) \
    HOT_FN(name, size, BI, hot_arith(v, i, name##_reg, FORM_BI, size, false))
#define HOT_MOV(name, size)                              \
    HOT_FN(name, size, RR, hot_mov(v, i, FORM_RR, size)) \
    HOT_FN(name, size, RI, hot_mov(v, i, FORM_RI, size)) \
    HOT_FN(name, size, RB, hot_mov(v, i, FORM_RB, size)) \
    HOT_FN(name, size, BR, hot_mov(v, i, FORM_BR, size)) \
    HOT_FN(name, size, BI, hot_mov(v, i, FORM_BI, size))
#define HOT_SIZES(make, name) make(name, 1) make(name, 4) make(name, 8)

HOT_SIZES(HOT_ARITH, add)
HOT_SIZES(HOT_ARITH, or)
HOT_SIZES(HOT_ARITH, and)
HOT_SIZES(HOT_ARITH, sub)
HOT_SIZES(HOT_ARITH, xor)
HOT_SIZES(HOT_COMPARE, cmp)
HOT_SIZES(HOT_COMPARE, test)
HOT_SIZES(HOT_MOV, mov)

#define ROW_3(name, size)                                                            \
    {                                                                                \
        hot_##name##_##size##_RR, hot_##name##_##size##_RI, hot_##name##_##size##_RB \
    }
#define ROW_5(name, size)                                                                                       \
    {                                                                                                           \
        hot_##name##_##size##_RR, hot_##name##_##size##_RI, hot_##name##_##size##_RB, hot_##name##_##size##_BR, \
            hot_##name##_##size##_BI                                                                            \
    }
#define ROWS(row, name)                              \
    {                                                \
        OP_##name,                                   \
        {                                            \
            row(name, 1), row(name, 4), row(name, 8) \
        }                                            \
    }

static const struct {
    uint16_t op;
    insn_fn *fn[3][FORM_COUNT]; /* by size: 1, 4, 8 */
} two_operands[] = {
    ROWS(ROW_3, add), ROWS(ROW_3, or),  ROWS(ROW_3, and),  ROWS(ROW_3, sub),
    ROWS(ROW_3, xor), ROWS(ROW_5, cmp), ROWS(ROW_5, test), ROWS(ROW_5, mov),
};

/* Jcc: one function for each condition. */
#define HOT_JCC(cc)                                                     \
    static void hot_jcc_##cc(struct vcpu *v, const struct insn *i)      \
    {                                                                   \
        if (flags_cond(v->rflags, 0x##cc))                              \
            cpu_jump(v, branch_target(v, 8, v->rip + i->len + i->imm)); \
    }
HOT_JCC(0)
HOT_JCC(1) HOT_JCC(2) HOT_JCC(3) HOT_JCC(4) HOT_JCC(5) HOT_JCC(6) HOT_JCC(7) HOT_JCC(8) HOT_JCC(9) HOT_JCC(a) HOT_JCC(b) HOT_JCC(c)
    HOT_JCC(d) HOT_JCC(e) HOT_JCC(f)

        static insn_fn *const jcc[16] = {
            hot_jcc_0, hot_jcc_1, hot_jcc_2, hot_jcc_3, hot_jcc_4, hot_jcc_5, hot_jcc_6, hot_jcc_7,
            hot_jcc_8, hot_jcc_9, hot_jcc_a, hot_jcc_b, hot_jcc_c, hot_jcc_d, hot_jcc_e, hot_jcc_f,
};

static void hot_push(struct vcpu *v, const struct insn *i)
{
    uint64_t sp = v->gpr[RSP] - 8;
    mmu_write(v, sp, 8, reg_operand(v, i, 0, 8), v->mmu_idx, SEG_SS);
    v->gpr[RSP] = sp;
}

static void hot_pop(struct vcpu *v, const struct insn *i)
{
    uint64_t val = mmu_read(v, v->gpr[RSP], 8, v->mmu_idx, SEG_SS);
    v->gpr[RSP] += 8;
    gpr_write(v, i->ops[0].off, 8, val);
}

static void hot_ret(struct vcpu *v, const struct insn *i)
{
    (void)i;
    uint64_t target = branch_target(v, 8, mmu_read(v, v->gpr[RSP], 8, v->mmu_idx, SEG_SS));
    v->gpr[RSP] += 8;
    cpu_jump(v, target);
}

static bool is_base_form(const struct insn *i)
{
    return i->base < REG_RIP && i->index == REG_NONE && i->addrsize == 8 && i->seg < SEG_FS;
}

static enum form form_of(const struct insn *i)
{
    unsigned d = i->ops[0].kind, s = i->ops[1].kind;
    if (i->nops != 2 || ((d == OPK_MEM || s == OPK_MEM) && !is_base_form(i)))
        return FORM_COUNT;
    if (d == OPK_GPR)
        return s == OPK_GPR ? FORM_RR : s == OPK_IMM ? FORM_RI : s == OPK_MEM ? FORM_RB : FORM_COUNT;
    if (d == OPK_MEM)
        return s == OPK_GPR ? FORM_BR : s == OPK_IMM ? FORM_BI : FORM_COUNT;
    return FORM_COUNT;
}

/* The function made for an instruction's operands, or NULL. */
static insn_fn *hot_function(const struct insn *i)
{
    static const uint8_t size_number[9] = {[1] = 1, [4] = 2, [8] = 3}; /* 0: there is none */
    switch (i->op) {
    case OP_jcc: return jcc[i->opcode & 15];
    case OP_push: return i->opsize == 8 && i->ops[0].kind == OPK_GPR ? hot_push : NULL;
    case OP_pop: return i->opsize == 8 && i->ops[0].kind == OPK_GPR ? hot_pop : NULL;
    case OP_ret: return i->nops == 0 ? hot_ret : NULL;
    default: break;
    }
    for (unsigned n = 0; n < ARRAY_SIZE(two_operands); n++) {
        if (two_operands[n].op != i->op)
            continue;
        enum form form = form_of(i);
        unsigned size = size_number[i->ops[0].size];
        return form < FORM_COUNT && size ? two_operands[n].fn[size - 1][form] : NULL;
    }
    return NULL;
}

void insn_specialise(struct insn *i)
{
    const struct isa_row *row = i->desc;
    insn_fn *hot = i->mode == CODE64 ? hot_function(i) : NULL;
    if (!(row->flags & ISA_NATIVE) && host_lacks & BIT64(row->feature) && i->op != OP_tzcnt)
        i->exec = exec_ud;
    else if (row->flags & ISA_PROT && i->mode == CODE16)
        i->exec = exec_protected;
    else if (hot)
        i->exec = hot;
}
