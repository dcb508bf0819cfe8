// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two-operand arithmetic and its relatives: ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NOT NEG, ADCX ADOX.
 * Each is one host instruction between flags in and flags out; see op.h. alu.h makes the functions, so that hot.c can inline them
 * too.
 */
#include "softkvm/x86/alu.h"

#define ALU_OP(name)                                                      \
    void op_##name(struct vcpu *v, const struct insn *i)                  \
    {                                                                     \
        rmw(v, i, op_read(v, i, 1), name##_reg, name##_locked, FL_ARITH); \
    }

ALU_OP(add)
ALU_OP(or)
ALU_OP(adc)
ALU_OP(sbb)
ALU_OP(and)
ALU_OP(sub)
ALU_OP(xor)

void op_cmp(struct vcpu *v, const struct insn *i)
{
    uint32_t ax;
    uint64_t d = op_read(v, i, 0);
    cmp_reg(i->ops[0].size, d, op_read(v, i, 1), v->rflags, &ax);
    flags_put(v, ax);
}

void op_test(struct vcpu *v, const struct insn *i)
{
    uint32_t ax;
    uint64_t d = op_read(v, i, 0);
    test_reg(i->ops[0].size, d, op_read(v, i, 1), v->rflags, &ax);
    flags_put(v, ax);
}

void op_inc(struct vcpu *v, const struct insn *i)
{
    rmw(v, i, 0, inc_reg, inc_locked, FL_ARITH & ~FL_CF);
}

void op_dec(struct vcpu *v, const struct insn *i)
{
    rmw(v, i, 0, dec_reg, dec_locked, FL_ARITH & ~FL_CF);
}

void op_neg(struct vcpu *v, const struct insn *i)
{
    rmw(v, i, 0, neg_reg, neg_locked, FL_ARITH);
}

void op_not(struct vcpu *v, const struct insn *i)
{
    rmw(v, i, 0, not_reg, not_locked, 0);
}

/* ADCX and ADOX add with one flag as carry and leave the others alone. */
static void add_with(struct vcpu *v, const struct insn *i, uint64_t flag)
{
    unsigned size = i->ops[0].size;
    uint32_t ax;
    uint64_t s = op_read(v, i, 1);
    uint64_t r = adc_reg(size, op_read(v, i, 0), s, v->rflags & flag ? FL_CF : 0, &ax);
    op_write(v, i, 0, r);
    v->rflags = (v->rflags & ~flag) | (flags_from_ax(ax) & FL_CF ? flag : 0);
}

void op_adcx(struct vcpu *v, const struct insn *i)
{
    add_with(v, i, FL_CF);
}

void op_adox(struct vcpu *v, const struct insn *i)
{
    add_with(v, i, FL_OF);
}
