// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Near branches. The target is truncated to the operand size and checked before anything is committed (SDM vol. 2, JMP, CALL, RET).
 */
#include "softkvm/x86/op.h"

static void jump_relative(struct vcpu *v, const struct insn *i)
{
    cpu_jump(v, branch_target(v, i->opsize, v->rip + i->len + i->imm));
}

void op_jmp(struct vcpu *v, const struct insn *i)
{
    jump_relative(v, i);
}

void op_jcc(struct vcpu *v, const struct insn *i)
{
    if (flags_cond(v->rflags, i->opcode))
        jump_relative(v, i);
}

void op_jmp_ind(struct vcpu *v, const struct insn *i)
{
    cpu_jump(v, branch_target(v, i->opsize, op_read(v, i, 0)));
}

void op_call(struct vcpu *v, const struct insn *i)
{
    uint64_t next = v->rip + i->len;
    uint64_t sp = stack_pointer(v, -(int64_t)i->opsize);
    mem_write(v, SEG_SS, sp, i->opsize, next);
    uint64_t target = branch_target(v, i->opsize, next + i->imm);
    stack_set(v, sp);
    cpu_jump(v, target);
}

void op_call_ind(struct vcpu *v, const struct insn *i)
{
    uint64_t target = op_read(v, i, 0), sp = stack_pointer(v, -(int64_t)i->opsize);
    /* The return address is in memory before the target is checked; rSP moves only afterwards. */
    mem_write(v, SEG_SS, sp, i->opsize, v->rip + i->len);
    target = branch_target(v, i->opsize, target);
    stack_set(v, sp);
    cpu_jump(v, target);
}

void op_ret(struct vcpu *v, const struct insn *i)
{
    uint64_t target = branch_target(v, i->opsize, stack_peek(v, 0, i->opsize));
    stack_set(v, stack_pointer(v, i->opsize + (int64_t)(i->nops ? i->imm : 0)));
    cpu_jump(v, target);
}

/* Counts rCX down; the counter is committed only after the target has been found good. */
static void loop_while(struct vcpu *v, const struct insn *i, bool cond)
{
    uint64_t count = (reg_get(v, RCX, i->addrsize) - 1) & size_mask(i->addrsize);
    if (count != 0 && cond)
        jump_relative(v, i);
    reg_set(v, RCX, i->addrsize, count);
}

void op_loop(struct vcpu *v, const struct insn *i)
{
    loop_while(v, i, true);
}

void op_loope(struct vcpu *v, const struct insn *i)
{
    loop_while(v, i, v->rflags & FL_ZF);
}

void op_loopne(struct vcpu *v, const struct insn *i)
{
    loop_while(v, i, !(v->rflags & FL_ZF));
}

void op_jcxz(struct vcpu *v, const struct insn *i)
{
    if (reg_get(v, RCX, i->addrsize) == 0)
        jump_relative(v, i);
}
