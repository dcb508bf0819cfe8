// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * In 64-bit code MOVS and STOS, alone or repeated, within one page at each side and with DF clear: the host's own instruction on host addresses. And BT,
 * BTS, BTR, BTC of a memory operand with a bit index in a register, which reaches beyond the operand. The other cases leave for the interpreter.
 *
 * The pointers hold host addresses while the instruction runs, so it must not fault: unlike other accesses these are checked for canonical addresses.
 *
 * In 16- and 32-bit code, where segments and address sizes are in the way of that, one element at a time: each of the five instructions, without a
 * repeat prefix, is a load, a store or a comparison, and what it adds to the pointers.
 */
#include "softkvm/x86/bt_xlat.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_ops.h"

bool xlat_string_here(const struct insn *i)
{
    return (i->op == OP_movs || i->op == OP_stos) && i->addrsize == 8 && i->seg != SEG_FS && i->seg != SEG_GS && !insn_has(i, PFX_REPNE);
}

static bool from_si(const struct insn *i)
{
    return i->op == OP_movs || i->op == OP_cmps || i->op == OP_lods;
}

static bool with_ax(const struct insn *i)
{
    return i->op == OP_stos || i->op == OP_scas || i->op == OP_lods;
}

static unsigned string_regs(const struct insn *i)
{
    unsigned pointers = (from_si(i) ? BIT_OF(RSI) : 0) | (i->op != OP_lods ? BIT_OF(RDI) : 0);
    return pointers | (with_ax(i) ? BIT_OF(RAX) : 0) | (insn_has(i, PFX_REP) ? BIT_OF(RCX) : 0);
}

bool xlat_string_compares(const struct insn *i)
{
    return i->op == OP_cmps || i->op == OP_scas;
}

void xlat_string_use(const struct insn *i, unsigned *reads, unsigned *writes)
{
    *reads = string_regs(i);
    *writes = i->op == OP_lods ? *reads : *reads & ~BIT_OF(RAX);
}

/* Leaves when an element, or RCX elements, from `r` on do not lie in one page; clobbers s. */
static void check_room(struct xlat *x, const struct insn *i, unsigned s, unsigned r, struct aside *slow)
{
    struct emit *e = &x->e;
    unsigned size = i->ops[0].size;
    if (!insn_has(i, PFX_REP)) {
        if (size == 1)
            return;
        e_mov(e, s, r);
        e_alu_imm(e, false, ALU_AND, s, PAGE_SIZE - 1);
        e_alu_imm(e, false, ALU_CMP, s, (uint32_t)PAGE_SIZE - size);
        xlat_from(slow, e_jump(e, CC_A));
        return;
    }
    e_mov(e, s, r);
    e_not(e, s);
    e_alu_imm(e, false, ALU_AND, s, PAGE_SIZE - 1);
    e_lea(e, s, s, REG_NONE, 0, 1);
    if (size > 1)
        e_shift(e, SHIFT_SHR, s, (unsigned)__builtin_ctz(size));
    e_rr(e, 0x39, RCX, s); /* cmp rcx, s */
    xlat_from(slow, e_jump(e, CC_A));
}

/* One side, in `r`: a->s becomes its distance to host memory. Clobbers t. */
static void check_side(struct xlat *x, const struct insn *i, struct access *a, unsigned r, unsigned t)
{
    struct emit *e = &x->e;
    xlat_access(x, a, &(struct ea){(uint8_t)r, REG_NONE, 0, SEG_DS, 0, 8});
    struct aside *slow = &x->asides[a->slow];
    e_mov(e, t, r);
    e_shift(e, SHIFT_SHL, t, 16);
    e_shift(e, SHIFT_SAR, t, 16);
    e_rr(e, 0x39, t, r); /* cmp t, r */
    xlat_from(slow, e_jump(e, CC_NZ));
    check_room(x, i, t, r, slow);
}

static void check_direction(struct xlat *x, unsigned k)
{
    struct emit *e = &x->e;
    struct aside *slow = xlat_aside(x, ASIDE_SLOW, k);
    slow->flags_saved = x->flags_live[k];
    e8(e, 0x65); /* test byte gs:[rflags + 1], DF */
    e8(e, 0xf6);
    e_gs_operand(e, 0, offsetof(struct vcpu, rflags) + 1);
    e8(e, FL_DF >> 8);
    xlat_from(slow, e_jump(e, CC_NZ));
}

/* ---- one element, in 16- and 32-bit code ---- */

/* op reg, [...] of `size` bytes; 40 is the prefix with which every byte register is a low one. */
static void sized_op(struct xlat *x, unsigned size, unsigned op, unsigned reg, const struct access *a)
{
    if (size == 2)
        e8(&x->e, 0x66);
    xlat_op(x, size == 1 ? 0x40 : 0, size == 1 ? op : op | 1, reg, a);
}

/* reg = the element at [rSI], cleared above; returns reg */
static unsigned load_element(struct xlat *x, const struct insn *i, unsigned k, const struct access *held, unsigned regs)
{
    unsigned size = i->ops[0].size;
    struct access a = {.k = k, .size = size, .flags_saved = held->flags_saved, .avoid = held->avoid | regs};
    xlat_access(x, &a, &(struct ea){RSI, REG_NONE, 0, i->seg, 0, i->addrsize});
    if (size == 4)
        xlat_op(x, 0, 0x8b, a.s, &a);
    else
        xlat_op_0f(x, 0, size == 1 ? 0xb6 : 0xb7, a.s, &a);
    return a.s;
}

/* The part of RAX that LODS loads. */
static void set_ax(struct xlat *x, unsigned size, unsigned from)
{
    struct emit *e = &x->e;
    if (size == 2)
        e8(e, 0x66);
    if (size > 1) {
        e_mov32(e, RAX, from);
    } else { /* mov al, from */
        e8(e, 0x40 | (from >> 3) << 2);
        e8(e, 0x88);
        e8(e, 0xc0 | (from & 7) << 3);
    }
    xlat_written(x, BIT_OF(RAX));
}

/* The second access is checked before the instruction changes anything, so every exit leads to the interpreter with nothing done. */
static void string_element(struct xlat *x, const struct insn *i, unsigned k)
{
    unsigned size = i->ops[0].size, regs = string_regs(i), value = RAX;
    struct access held = {.k = k};
    xlat_flags_hold(x, &held);
    xlat_bring_back(x, regs);
    check_direction(x, k);
    if (from_si(i))
        value = load_element(x, i, k, &held, regs);
    if (i->op != OP_lods) {
        struct access a = {.k = k, .size = size, .write = !xlat_string_compares(i), .flags_saved = held.flags_saved, .avoid = held.avoid | regs | BIT_OF(value)};
        xlat_access(x, &a, &(struct ea){RDI, REG_NONE, 0, SEG_ES, 0, i->addrsize});
        sized_op(x, size, a.write ? 0x88 : 0x3a, value, &a);
        xlat_legacy_advance(x, RDI, i->addrsize, size);
    }
    if (from_si(i))
        xlat_legacy_advance(x, RSI, i->addrsize, size);
    if (!xlat_string_compares(i))
        xlat_flags_release(x, &held);
    if (i->op == OP_lods)
        set_ax(x, size, value);
}

/* ---- 64-bit code ---- */

void xlat_string(struct xlat *x, const struct insn *i, unsigned k)
{
    if (x->key & BT_KEY_LEGACY) {
        string_element(x, i, k);
        return;
    }
    struct emit *e = &x->e;
    bool movs = i->op == OP_movs;
    unsigned size = i->ops[0].size, regs = string_regs(i);
    struct access d = {.k = k, .size = 1, .write = true};
    xlat_flags_hold(x, &d);
    xlat_bring_back(x, regs);
    unsigned t = xlat_scratch(x, k, regs | d.avoid);
    d.avoid |= regs | BIT_OF(t);
    check_direction(x, k);
    check_side(x, i, &d, RDI, t);
    struct access s = {.k = k, .size = 1, .flags_saved = d.flags_saved, .avoid = d.avoid | BIT_OF(d.s)};
    if (movs) {
        check_side(x, i, &s, RSI, t);
        e_lea(e, RSI, RSI, s.s, 0, 0);
    }
    e_lea(e, RDI, RDI, d.s, 0, 0);
    if (insn_has(i, PFX_REP))
        e8(e, 0xf3);
    if (size == 2)
        e8(e, 0x66);
    if (size == 8)
        e8(e, 0x48);
    e8(e, i->opcode);
    e_rr(e, 0x29, RDI, d.s); /* sub */
    if (movs)
        e_rr(e, 0x29, RSI, s.s);
    xlat_flags_release(x, &d);
    xlat_written(x, regs & ~BIT_OF(RAX));
}

/* ---- bit strings ---- */

bool xlat_bits_here(const struct insn *i)
{
    bool op = i->op == OP_bt || i->op == OP_bts || i->op == OP_btr || i->op == OP_btc;
    return op && i->ops[0].kind == OPK_MEM && i->ops[1].kind == OPK_GPR && i->addrsize == 8 && i->opsize != 2;
}

/* s = distance of the operand that the bit index asks for */
static void bit_distance(struct emit *e, unsigned s, unsigned index, unsigned size)
{
    if (size == 8)
        e_mov(e, s, index);
    else
        e_rr(e, 0x63, index, s); /* movsxd s, index */
    e_shift(e, SHIFT_SAR, s, 3);
    e_alu_imm(e, true, ALU_AND, s, -size);
}

void xlat_bits(struct xlat *x, const struct insn *i, unsigned k)
{
    struct emit *e = &x->e;
    unsigned size = i->opsize, index = i->ops[1].reg, regs = xlat_address_regs(i) | BIT_OF(index);
    struct ea ea = xlat_ea(x, i);
    struct access a = {.k = k, .size = size, .write = i->op != OP_bt, .scratch_base = true};
    xlat_flags_hold(x, &a);
    xlat_bring_back(x, regs);
    a.avoid |= regs;
    unsigned la = xlat_scratch(x, k, a.avoid), bit = xlat_scratch(x, k, a.avoid | BIT_OF(la));
    a.avoid |= BIT_OF(bit);
    xlat_linear(x, &ea, la);
    bit_distance(e, bit, index, size);
    e_lea(e, la, la, bit, 0, 0);
    xlat_access(x, &a, &(struct ea){(uint8_t)la, REG_NONE, 0, SEG_DS, 0, 0});
    e_mov(e, bit, index);
    e_alu_imm(e, false, ALU_AND, bit, size * 8 - 1);
    xlat_flags_release(x, &a);
    if (insn_has(i, PFX_LOCK))
        e8(e, 0xf0);
    xlat_op_0f(x, size == 8 ? 8 : 0, i->opcode, bit, &a);
}
