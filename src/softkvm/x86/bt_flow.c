// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The stack and control flow.
 */
#include "softkvm/x86/bt_xlat.h"

void xlat_lookup_jump(struct xlat *x)
{
    xlat_x87_note(x);
    e_jump_to(&x->e, x->bt->rw + x->bt->thunk.lookup[x->key & BT_KEY_USER ? BT_USER : BT_KERNEL]);
}

/* Leaves for the linear address page + off. Nothing is displaced. `here`: offset of the jump itself. */
void xlat_goto(struct xlat *x, int32_t off, unsigned here)
{
    struct emit *e = &x->e;
    xlat_x87_note(x);
    if (off < 0 || off >= (int32_t)PAGE_SIZE) {
        e_store(e, RAX, GPR_OFF(RAX));
        e_load(e, RAX, BT_OFF(page));
        e_lea(e, RAX, RAX, REG_NONE, 0, off);
        e_store(e, RAX, BT_OFF(target));
        e_load(e, RAX, GPR_OFF(RAX));
        xlat_lookup_jump(x);
        return;
    }
    if ((unsigned)off <= here) {
        e_store_imm32(e, BT_OFF(exit_off), (uint32_t)off);
        e_store32(e, RAX, BT_OFF(poll));
    }
    while ((emit_off(e) + 1) & 3)
        e8(e, 0x90);
    struct bt_link *l = &x->links[x->nlinks];
    uint8_t *at = e_jump(e, -1);
    *l = (struct bt_link){.at = (uint32_t)(at - e->base), .stub = emit_off(e)};
    e_patch(at, e->p);
    e_store_imm32(e, BT_OFF(exit_off), (uint32_t)off);
    e_store_imm32(e, BT_OFF(exit_link), x->b->number << 8 | x->nlinks++);
    e_jump_to(e, x->bt->rw + x->bt->thunk.exit_link);
}

/* s1, s2 for the eight bytes at rsp + disp. */
static void stack_access(struct xlat *x, struct access *a, int8_t disp)
{
    xlat_access_begin(x, a, 0);
    e_lea8(&x->e, a->s1, RSP, disp);
    xlat_check(x, a);
    xlat_flags_back(x, a);
}

static void move_rsp(struct xlat *x, int32_t by)
{
    e_lea(&x->e, RSP, RSP, REG_NONE, 0, by);
    xlat_written(x, BIT_OF(RSP));
}

/* REX.W op reg, [s1 + s2] */
static void emit_mov_mem(struct xlat *x, unsigned op, unsigned reg, const struct access *a)
{
    e8(&x->e, 0x48 | (reg >> 3) << 2);
    e8(&x->e, op);
    xlat_modrm(&x->e, reg, a->s1, a->s2);
}

void xlat_push(struct xlat *x, const struct insn *i, unsigned k)
{
    bool reg = i->ops[0].kind == OPK_GPR;
    unsigned r = i->ops[0].reg, keep = reg ? BIT_OF(r) : 0;
    struct access a = {.k = k, .size = 8, .write = true, .flags_live = x->flags_live[k], .avoid = keep};
    xlat_bring_back(x, keep);
    stack_access(x, &a, -8);
    if (reg) {
        emit_mov_mem(x, 0x89, r, &a);
    } else {
        emit_mov_mem(x, 0xc7, 0, &a);
        e32(&x->e, (uint32_t)i->imm);
    }
    move_rsp(x, -8);
}

void xlat_pop(struct xlat *x, const struct insn *i, unsigned k)
{
    unsigned r = i->ops[0].reg;
    struct access a = {.k = k, .size = 8, .flags_live = x->flags_live[k], .avoid = BIT_OF(r)};
    stack_access(x, &a, 0);
    emit_mov_mem(x, 0x8b, r, &a);
    xlat_written(x, BIT_OF(r));
    move_rsp(x, 8);
}

void xlat_leave(struct xlat *x, unsigned k)
{
    struct access a = {.k = k, .size = 8, .flags_live = x->flags_live[k], .avoid = BIT_OF(RBP)};
    xlat_access_begin(x, &a, BIT_OF(RBP));
    e_mov(&x->e, a.s1, RBP);
    xlat_check(x, &a);
    xlat_flags_back(x, &a);
    emit_mov_mem(x, 0x8b, RBP, &a); /* may fault: nothing has changed yet */
    e_lea(&x->e, RSP, a.s1, REG_NONE, 0, 8);
    xlat_written(x, BIT_OF(RSP) | BIT_OF(RBP));
}

void xlat_ret(struct xlat *x, const struct insn *i, unsigned k)
{
    struct access a = {.k = k, .size = 8, .flags_live = true};
    stack_access(x, &a, 0);
    emit_mov_mem(x, 0x8b, a.s1, &a);
    e_store(&x->e, a.s1, BT_OFF(target));
    move_rsp(x, 8 + (int32_t)(i->nops ? (uint16_t)i->imm : 0));
    xlat_bring_back(x, 0xffff);
    xlat_lookup_jump(x);
}

void xlat_push_return(struct xlat *x, unsigned k)
{
    struct emit *e = &x->e;
    struct access a = {.k = k, .size = 8, .write = true, .flags_live = true, .avoid = BIT_OF(RBP)};
    stack_access(x, &a, -8);
    e_lea(e, a.s1, a.s1, a.s2, 0, 0);
    e_load(e, a.s2, BT_OFF(page));
    e_lea(e, a.s2, a.s2, REG_NONE, 0, xlat_next_off(x, k));
    e8(e, 0x48); /* mov [s1], s2 */
    e8(e, 0x89);
    e8(e, 0x40 | a.s2 << 3 | a.s1);
    e8(e, 0);
    move_rsp(x, -8);
}

/* bt.target = the branch's operand. */
void xlat_indirect_target(struct xlat *x, const struct insn *i, unsigned k)
{
    const struct operand *o = &i->ops[0];
    if (o->kind == OPK_GPR) {
        xlat_bring_back(x, BIT_OF(o->reg));
        e_store(&x->e, o->reg, BT_OFF(target));
        return;
    }
    struct access a = {.k = k, .size = 8, .flags_live = true, .address = xlat_address_regs(i)};
    xlat_access_begin(x, &a, xlat_address_regs(i));
    xlat_address(x, i, a.s1);
    xlat_check(x, &a);
    xlat_flags_back(x, &a);
    emit_mov_mem(x, 0x8b, a.s1, &a);
    e_store(&x->e, a.s1, BT_OFF(target));
}

void xlat_jcc(struct xlat *x, const struct insn *i, unsigned k)
{
    uint8_t *jump = e_jump(&x->e, i->opcode & 15);
    struct aside *a = xlat_aside(x, ASIDE_TAKEN, k);
    a->target = xlat_next_off(x, k) + (int32_t)i->imm;
    xlat_from(a, jump);
}
