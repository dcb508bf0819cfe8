// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * PUSH POP PUSHA POPA PUSHF POPF ENTER LEAVE.
 */
#include "softkvm/x86/desc.h"
#include "softkvm/x86/op.h"

void op_push(struct vcpu *v, const struct insn *i)
{
    stack_push(v, i->opsize, op_read(v, i, 0));
}

/* A memory destination is addressed with rSP as it is after the pop; a register destination rSP gets the value popped. */
void op_pop(struct vcpu *v, const struct insn *i)
{
    uint64_t val = stack_peek(v, 0, i->opsize);
    uint64_t old = v->gpr[RSP], sp = stack_pointer(v, i->opsize);
    if (i->ops[0].kind == OPK_GPR) {
        stack_set(v, sp);
        gpr_write(v, i->ops[0].off, i->opsize, val);
        return;
    }
    stack_set(v, sp);
    uint64_t off = insn_ea(v, i);
    v->gpr[RSP] = old;
    mem_write(v, i->seg, off, i->opsize, val);
    stack_set(v, sp);
}

void op_pusha(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->opsize;
    for (unsigned n = 0; n < 8; n++)
        mem_write(v, SEG_SS, stack_pointer(v, -(int64_t)(size * (n + 1))), size, v->gpr[RAX + n]);
    stack_set(v, stack_pointer(v, -(int64_t)(size * 8)));
}

void op_popa(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->opsize;
    uint64_t val[8];
    for (unsigned n = 0; n < 8; n++)
        val[n] = stack_peek(v, size * n, size);
    stack_set(v, stack_pointer(v, size * 8));
    for (unsigned n = 0; n < 8; n++)
        if (RDI - n != RSP)
            reg_set(v, RDI - n, size, val[n]);
}

/* ---- EFLAGS on the stack; SDM vol. 2, PUSHF and POPF; vol. 3, 20.3.1 for virtual-8086 mode ---- */
static bool v86_restricted(const struct vcpu *v)
{
    return cpu_v86(v) && cpu_iopl(v) < 3;
}

/* With IOPL below 3, virtual-8086 code gets at flags only through VME, 16 bits wide, and sees VIF in IF's place. */
static void require_vme(struct vcpu *v, const struct insn *i)
{
    if (i->opsize != 2 || !(v->cr4 & CR4_VME))
        cpu_gp(v, 0);
}

void op_pushf(struct vcpu *v, const struct insn *i)
{
    uint64_t image = v->rflags & ~(FL_RF | FL_VM);
    if (v86_restricted(v)) {
        require_vme(v, i);
        image = (image & ~FL_IF) | FL_IOPL | (v->rflags & FL_VIF ? FL_IF : 0);
    }
    stack_push(v, i->opsize, image);
}

void op_popf(struct vcpu *v, const struct insn *i)
{
    uint64_t old = v->rflags, image;
    uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT;
    if (v86_restricted(v)) {
        require_vme(v, i);
        image = stack_peek(v, 0, 2);
        if ((image & FL_TF) || ((image & FL_IF) && (old & FL_VIP)))
            cpu_gp(v, 0);
        image |= image & FL_IF ? FL_VIF : 0;
        mask |= FL_VIF;
    } else {
        image = stack_peek(v, 0, i->opsize);
        if (i->opsize != 2)
            mask |= FL_AC | FL_ID;
        if (!(v->cr0 & CR0_PE) || v->cpl == 0)
            mask |= FL_IOPL;
        if (!(v->cr0 & CR0_PE) || v->cpl <= cpu_iopl(v))
            mask |= FL_IF;
    }
    stack_set(v, stack_pointer(v, i->opsize));
    flags_write(v, image & ~FL_RF, mask | FL_RF);
}

/* ---- ENTER, LEAVE ---- */
/* The frame pointer of each enclosing level is copied from the old frame, then the new frame's own is pushed. SDM vol. 2, ENTER. */
void op_enter(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->opsize, level = i->imm2 & 31;
    uint64_t frame = stack_pointer(v, -(int64_t)size), bp_mask = size_mask(stack_size(v));
    uint64_t new_bp = (v->gpr[RSP] & ~bp_mask) | frame; /* of a 16-bit stack too the whole ESP */
    int64_t depth = -(int64_t)size;
    mem_write(v, SEG_SS, frame, size, v->gpr[RBP]);
    for (unsigned n = 1; n < level; n++) {
        uint64_t link = mem_read(v, SEG_SS, (v->gpr[RBP] - n * size) & bp_mask, size);
        depth -= size;
        mem_write(v, SEG_SS, stack_pointer(v, depth), size, link);
    }
    if (level) {
        depth -= size;
        mem_write(v, SEG_SS, stack_pointer(v, depth), size, new_bp);
    }
    uint64_t sp = stack_pointer(v, depth - (int64_t)i->imm);
    /* The new top of the stack must be aligned and writable, though nothing is written there. */
    uint64_t top = seg_linear(v, SEG_SS, sp, size, MEM_W);
    if (v->mmu_idx == MMU_USER_AC && (top & (size - 1)))
        cpu_fault(v, EXC_AC, 0);
    mmu_probe(v, top, size, MEM_W, v->mmu_idx, SEG_SS);
    reg_set(v, RBP, size, new_bp);
    stack_set(v, sp);
}

void op_leave(struct vcpu *v, const struct insn *i)
{
    uint64_t bp = reg_get(v, RBP, stack_size(v));
    uint64_t val = mem_read(v, SEG_SS, bp, i->opsize);
    stack_set(v, bp + i->opsize);
    reg_set(v, RBP, i->opsize, val);
}
