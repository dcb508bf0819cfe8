// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory operands: the check in front of an access, and the instruction rewritten to the operand's place in host memory.
 *
 *     lea  s, [operand+size-1] the linear address of its last byte
 *     test s, 4096 - size      that is among the page's first `size`: an exact look whether the operand crosses into it, out of line
 *     rorx s, s, 8             the page's number at bit 4,
 *     and  s, [page_bits]      and nothing else: the offset of its entries from the table
 *     mov  s, gs:[s + table]   host minus linear address, 0: none
 *     test s, s                leave for the interpreter
 *     op   [operand + s]
 *
 * One scratch register does where the operand leaves room for it in the address; a second part of it is added to s else.
 */
#include "softkvm/x86/bt_xlat.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_ops.h"

#define TABLE_ROTATE 8

void bt_emit_page_bits(struct bt *bt, struct emit *e)
{
    bt->thunk.page_bits = emit_off(e);
    e64(e, (BT_TABLE_PAGES - 1) << 4);
    bt->thunk.other_bits = emit_off(e);
    e64(e, ~((BT_TABLE_PAGES - 1) << 4));
}

struct ea xlat_ea(const struct xlat *x, const struct insn *i)
{
    struct ea ea = {i->base, i->index, i->scale, i->seg, (int32_t)i->disp, i->addrsize};
    if (i->base == REG_RIP)
        ea.disp += (int32_t)(x->page_off + x->at[i - x->insns] + i->len);
    return ea;
}

static unsigned reg_bit(unsigned r)
{
    return r < 16 ? BIT_OF(r) : 0;
}

static bool has_seg(const struct ea *ea)
{
    return ea->seg == SEG_FS || ea->seg == SEG_GS;
}

/* s += what an address register cannot hold: a segment's base, the page of RIP. Clobbers the flags. */
static void add_hidden(struct xlat *x, const struct ea *ea, unsigned s)
{
    if (has_seg(ea))
        e_gs(&x->e, 0x03, s, offsetof(struct vcpu, seg) + ea->seg * sizeof(struct segment) + offsetof(struct segment, base));
    if (ea->base == REG_RIP)
        e_gs(&x->e, 0x03, s, x->where);
}

void xlat_linear(struct xlat *x, const struct ea *ea, unsigned s)
{
    if (ea->size == 2 || ea->size == 4) {
        xlat_legacy_offset(x, ea, s);
        return;
    }
    if (ea->base == REG_RIP && !has_seg(ea)) {
        e_load(&x->e, s, x->where);
        e_lea(&x->e, s, s, REG_NONE, 0, ea->disp);
        return;
    }
    e_lea(&x->e, s, ea->base == REG_RIP ? REG_NONE : ea->base, ea->index, ea->scale, ea->disp);
    add_hidden(x, ea, s);
}

static unsigned power_of_two(unsigned size)
{
    unsigned p = 1;
    while (p < size)
        p *= 2;
    return p;
}

/*
 * The operand goes on if it does not cross after all. Where its last byte is among the page's first, a sum tells that stays in the page; where it is
 * not aligned, its last byte does. In either case what is left in s serves as the operand's address as far as its page goes.
 */
void xlat_aside_cross(struct xlat *x, const struct aside *a)
{
    struct emit *e = &x->e;
    unsigned power = power_of_two(a->size);
    if (a->last) {
        e_lea(e, a->s, a->s, REG_NONE, 0, (int32_t)(power - a->size + 1));
        e_test8(e, a->s, power);
    } else {
        e_lea(e, a->s, a->bare ? a->ea.base : a->s, REG_NONE, 0, a->size - 1);
        e_alu_imm(e, false, ALU_TEST, a->s, (uint32_t)PAGE_SIZE - power);
    }
    xlat_from(&x->asides[a->slow], e_jump(e, CC_Z));
    e_jump_to(e, a->back);
}

/* Alignment is the cheaper question where the address is a register as it stands; `last`: s has the address of the last byte. */
static void check_crossing(struct xlat *x, const struct access *a, unsigned slow, const struct ea *ea, bool bare, bool last)
{
    struct emit *e = &x->e;
    if (last)
        e_alu_imm(e, false, ALU_TEST, a->s, (uint32_t)PAGE_SIZE - power_of_two(a->size));
    else
        e_test8(e, bare ? ea->base : a->s, a->size - 1);
    uint8_t *jump = e_jump(e, last ? CC_Z : CC_NZ);
    if (a->must_align) {
        xlat_from(&x->asides[slow], jump);
        return;
    }
    struct aside *c = xlat_aside(x, ASIDE_CROSS, a->k);
    c->slow = slow;
    c->s = (uint8_t)a->s;
    c->size = (uint8_t)a->size;
    c->ea = *ea;
    c->bare = bare;
    c->last = last;
    c->back = e->p;
    xlat_from(c, jump);
}

/* s has the address of the window's last byte. */
static void check_window(struct xlat *x, const struct access *a, unsigned slow, unsigned size)
{
    struct aside *out = xlat_aside(x, ASIDE_SINGLE, a->k);
    out->flags_in_rax = x->asides[slow].flags_in_rax;
    out->rax_in = x->asides[slow].rax_in;
    e_alu_imm(&x->e, false, ALU_TEST, a->s, (uint32_t)PAGE_SIZE - power_of_two(size));
    xlat_from(out, e_jump(&x->e, CC_Z));
}

void xlat_aside_single(struct xlat *x, const struct aside *a)
{
    if (a->flags_in_rax) {
        e_flags_from_ax(&x->e);
        if (a->rax_in != REG_NONE)
            e_mov(&x->e, RAX, a->rax_in);
    }
    xlat_goto_single(x, a->insn);
}

/* s = the distance from linear to host address, or away. `from`: the register that has the address. */
static void check_entry(struct xlat *x, const struct access *a, unsigned slow, unsigned from, bool write)
{
    struct emit *e = &x->e;
    unsigned s = a->s;
    bool user = x->key & BT_KEY_USER;
    int32_t table = user ? (int32_t)BT_USER_TABLE : -15; /* OR has set all bits above, which makes it negative, and the lowest four */
    e_rorx(e, s, from, TABLE_ROTATE);
    e_const(e, user ? 0x23 : 0x0b, s, user ? x->bt->thunk.page_bits : x->bt->thunk.other_bits);
    e8(e, 0x65); /* mov s, gs:[s + table] */
    e_mem(e, 8, 0x8b, s, &(struct place){(uint8_t)s, REG_NONE, 0, table + 8 * (write ? MEM_W : MEM_R)});
    e_rr(e, 0x85, s, s); /* test s, s */
    xlat_from(&x->asides[slow], e_jump(e, CC_Z));
}

/* Does an operand of `size` bytes lie in one page wherever the code may be? Pages begin at multiples of their size, and disp counts from the code's. */
static bool in_one_page(const struct ea *ea, unsigned size)
{
    return ea->base == REG_RIP && ea->index == REG_NONE && !has_seg(ea) && ((uint32_t)ea->disp & (PAGE_SIZE - 1)) + size <= PAGE_SIZE;
}

/* The operand's place, given its distance in s. */
static struct place place_of(struct xlat *x, const struct ea *ea, unsigned s)
{
    uint8_t base = (uint8_t)s;
    if (ea->base >= 16)
        return (struct place){base, ea->index, ea->scale, ea->disp};
    if (ea->index < 16) {
        e_lea(&x->e, s, ea->base, s, 0, 0);
        return (struct place){base, ea->index, ea->scale, ea->disp};
    }
    return ea->base == RSP ? (struct place){RSP, base, 0, ea->disp} : (struct place){base, ea->base, 0, ea->disp};
}

static void take_registers(struct xlat *x, struct access *a, const struct ea *ea)
{
    unsigned avoid = a->avoid | reg_bit(ea->base) | reg_bit(ea->index);
    if (!a->scratch_base)
        xlat_bring_back(x, reg_bit(ea->base) | reg_bit(ea->index));
    unsigned flags = a->flags_live ? BIT_OF(RAX) : 0;
    if (x->share[a->k].leads) {
        xlat_displace(x, SHARE_REG);
        a->s = SHARE_REG;
        x->held = BIT_OF(SHARE_REG);
    } else {
        a->s = xlat_scratch(x, a->k, avoid | flags | (a->no_rex ? 0xff00 : 0));
    }
    avoid |= BIT_OF(a->s);
    if (a->want_s2) {
        a->s2 = xlat_scratch(x, a->k, avoid | flags);
        avoid |= BIT_OF(a->s2);
    }
    a->rax_in = REG_NONE;
    if (a->flags_live && !(x->displaced & BIT_OF(RAX)))
        a->rax_in = xlat_scratch(x, a->k, avoid | flags);
}

/* The flags go to RAX, and RAX to another register unless its value is at home. */
static void flags_away(struct xlat *x, const struct access *a, struct ea *ea)
{
    if (a->rax_in != REG_NONE) {
        e_mov(&x->e, a->rax_in, RAX);
        if (ea->base == RAX)
            ea->base = (uint8_t)a->rax_in;
        if (ea->index == RAX)
            ea->index = (uint8_t)a->rax_in;
    }
    e_flags_to_ax(&x->e);
}

static void flags_back(struct xlat *x, const struct access *a)
{
    e_flags_from_ax(&x->e);
    if (a->rax_in != REG_NONE)
        e_mov(&x->e, RAX, a->rax_in);
}

/* From here on the flags are in bt.flags, since only the block's end wants them. */
static void flags_leave(struct xlat *x, unsigned in_use)
{
    bool in_place = !(x->displaced & BIT_OF(RAX));
    xlat_displace(x, RAX);
    xlat_flags_save(x);
    x->flags_saved = true;
    if (in_place)
        xlat_bring_back(x, in_use & BIT_OF(RAX));
}

/* A trap is all that can happen to a member of a run. */
static void access_by_slot(struct xlat *x, struct access *a, const struct ea *ea)
{
    unsigned regs = reg_bit(ea->base) | reg_bit(ea->index);
    xlat_bring_back(x, regs);
    a->s = xlat_scratch(x, a->k, a->avoid | regs | (a->no_rex ? 0xff00 : 0));
    a->slow = x->nasides;
    xlat_aside(x, ASIDE_SLOW, a->k);
    e_load(&x->e, a->s, BT_OFF(slot[x->slot[a->k].slot]));
    a->at = place_of(x, ea, a->s);
}

void xlat_access(struct xlat *x, struct access *a, const struct ea *ea)
{
    if (x->share[a->k].member && x->share[a->k].held) { /* a trap is all that can happen to it */
        xlat_bring_back(x, reg_bit(ea->base) | reg_bit(ea->index));
        a->slow = x->nasides;
        xlat_aside(x, ASIDE_SLOW, a->k);
        a->s = REG_NONE;
        a->at = xlat_share_place(x, ea, a->k);
        return;
    }
    if (x->slot[a->k].member && !x->slot[a->k].leads) {
        access_by_slot(x, a, ea);
        return;
    }
    if (a->flags_live && x->flags_last[a->k]) {
        if (!x->flags_saved)
            flags_leave(x, a->avoid | reg_bit(ea->base) | reg_bit(ea->index));
        a->flags_live = false;
    }
    if (x->key & BT_KEY_LEGACY)
        xlat_legacy_access(x, a, ea);
    else
        xlat_linear_access(x, a, ea);
}

void xlat_linear_access(struct xlat *x, struct access *a, const struct ea *ea)
{
    const struct share *share = x->slot[a->k].leads ? &x->slot[a->k] : &x->share[a->k];
    bool by_slot = x->slot[a->k].leads;
    take_registers(x, a, ea);
    struct ea now = *ea;
    bool bare = ea->base < 16 && ea->index == REG_NONE && !ea->disp && !has_seg(ea) && (a->must_align || (a->size <= 8 && a->size == power_of_two(a->size)));
    bool last = !bare && !a->must_align && ea->disp < INT32_MAX - 64, within = !a->must_align && in_one_page(ea, a->size);
    if (share->leads) {
        bare = false;
        within = in_one_page(&(struct ea){ea->base, ea->index, ea->scale, ea->seg, share->from, ea->size}, share->size);
        now.disp = share->from + (int32_t)share->size - 1;
    } else if (last) {
        now.disp += (int32_t)a->size - 1;
    }
    unsigned slow = x->nasides;
    struct aside *trap = xlat_aside(x, ASIDE_SLOW, a->k);
    trap->flags_saved |= a->flags_saved;
    trap->leads = share->leads;
    if (share->leads)
        x->leads[x->nleads++] = (struct bt_lead){(uint8_t)a->k, ea->base, ea->index, ea->scale, now.disp};
    if (a->flags_live) { /* the check leaves with the flags in RAX, a trap in the access itself with them in their place */
        struct aside *out = xlat_aside(x, ASIDE_SLOW, a->k);
        slow++;
        out->flags_in_rax = true;
        out->rax_in = (uint8_t)a->rax_in;
        flags_away(x, a, &now);
    }
    x->asides[slow].leads = share->leads;
    if (!bare)
        xlat_linear(x, &now, a->s);
    if (share->leads && !within)
        check_window(x, a, slow, share->size);
    else if (a->size > 1 && !within)
        check_crossing(x, a, slow, &now, bare, last);
    check_entry(x, a, slow, bare ? now.base : a->s, share->leads ? share->write : a->write);
    a->slow = slow;
    if (by_slot)
        e_store(&x->e, a->s, BT_OFF(slot[share->slot]));
    add_hidden(x, ea, a->s);
    if (a->flags_live)
        flags_back(x, a);
    a->at = place_of(x, ea, a->s);
}

void xlat_op(struct xlat *x, unsigned w, unsigned op, unsigned reg, const struct access *a)
{
    e_mem(&x->e, w, op, reg, &a->at);
}

void xlat_op_0f(struct xlat *x, unsigned w, unsigned op, unsigned reg, const struct access *a)
{
    unsigned rex = w | e_rex_of(reg, &a->at);
    if (rex)
        e8(&x->e, 0x40 | rex);
    e8(&x->e, 0x0f);
    e8(&x->e, op);
    e_modrm(&x->e, reg, &a->at);
}

void xlat_flags_save(struct xlat *x)
{
    e_flags_to_ax(&x->e);
    e_store32(&x->e, RAX, BT_OFF(flags));
}

void xlat_flags_restore(struct xlat *x)
{
    e_load32(&x->e, RAX, BT_OFF(flags));
    e_flags_from_ax(&x->e);
}

void xlat_flags_hold(struct xlat *x, struct access *a)
{
    if (x->flags_live[a->k] && x->flags_last[a->k] && !x->flags_saved)
        flags_leave(x, 0);
    a->flags_saved = x->flags_live[a->k] && !x->flags_saved;
    if (!a->flags_saved)
        return;
    xlat_displace(x, RAX);
    xlat_flags_save(x);
    a->avoid |= BIT_OF(RAX);
}

void xlat_flags_release(struct xlat *x, const struct access *a)
{
    if (!a->flags_saved)
        return;
    bool in_place = !(x->displaced & BIT_OF(RAX)); /* an address has brought it back, and an exit expects it there */
    xlat_displace(x, RAX);
    xlat_flags_restore(x);
    if (in_place)
        xlat_bring_back(x, BIT_OF(RAX));
}

/* ---- copies of instructions, with another operand ---- */

static void copy_prefixes(struct emit *e, const struct insn *i)
{
    for (unsigned k = 0; k < i->opcode_at; k++) {
        uint8_t b = i->bytes[k];
        if (b == 0x66 || b == 0xf2 || b == 0xf3 || b == 0xf0)
            e8(e, b);
        else if (b != 0x2e && b != 0x36 && b != 0x3e && b != 0x26 && b != 0x64 && b != 0x65 && b != 0x67)
            return; /* REX, escape, VEX */
    }
}

static void emit_vex(struct emit *e, const uint8_t *op, unsigned xb)
{
    bool two = op[-2] == 0xc5; /* R vvvv L pp; the other has RXB map, W vvvv L pp */
    e8(e, 0xc4);
    e8(e, ((two ? (op[-1] & 0x80u) | 1 : op[-2] & 0x9fu)) | ((~xb & 3) << 5));
    e8(e, two ? op[-1] & 0x7fu : op[-1]);
}

/* 62, then R X B R' and the map, W vvvv pp, z L'L b V' and the mask: SDM vol. 2, 2.7.1. */
static void emit_evex(struct emit *e, const uint8_t *op, unsigned xb)
{
    e8(e, 0x62);
    e8(e, (op[-3] & 0x9fu) | (~xb & 3) << 5);
    e8(e, op[-2]);
    e8(e, op[-1]);
}

/*
 * Elements that an opmask leaves out are not accessed, here as there; what has come by the check lies in one page that may be accessed, so the mask does
 * not matter to it. Whatever does not (a second page, no entry) the interpreter looks at element by element.
 */
void xlat_emit_at(struct xlat *x, const struct insn *i, const struct place *at)
{
    struct emit *e = &x->e;
    unsigned xb = e_rex_of(0, at); /* X 2, B 1 */
    if (insn_has(i, PFX_EVEX)) {
        emit_evex(e, i->bytes + i->opcode_at, xb);
    } else if (insn_has(i, PFX_VEX)) {
        emit_vex(e, i->bytes + i->opcode_at, xb);
    } else {
        static const uint8_t escapes[4][2] = {{0, 0}, {0x0f, 0}, {0x0f, 0x38}, {0x0f, 0x3a}};
        copy_prefixes(e, i);
        if (xb || insn_has(i, PFX_REX))
            e8(e, 0x40 | (insn_has(i, PFX_REX) ? i->rex & 12u : 0) | xb);
        for (unsigned k = 0; k < 2 && escapes[i->opmap][k]; k++)
            e8(e, escapes[i->opmap][k]);
    }
    e8(e, i->opcode);
    e_modrm_unit(e, i->modrm >> 3, at, insn_disp8_unit(i));
    for (unsigned k = 0; k < i->imm_len; k++)
        e8(e, i->bytes[i->imm_at + k]);
}

/* AH to BH cannot be named beside a REX prefix. */
bool xlat_no_rex(const struct insn *i)
{
    for (unsigned n = 0; n < i->nops; n++)
        if (i->ops[n].kind == OPK_GPR && i->ops[n].off % 8)
            return true;
    return false;
}

void xlat_plain_mem(struct xlat *x, const struct insn *i, unsigned k, const struct operand *m, unsigned n)
{
    unsigned reads, writes;
    xlat_reg_use(i, xlat_traits(i), &reads, &writes);
    struct access a = {.k = k, .size = m->size, .write = i->desc->opuse >> (2 * n) & ISA_OP_W, .flags_live = x->flags_live[k], .avoid = reads | writes};
    a.must_align = (i->desc->flags & ISA_ALIGN) || i->op == OP_cmpxchg16b;
    a.no_rex = xlat_no_rex(i);
    struct ea ea = xlat_ea(x, i);
    xlat_bring_back(x, reads);
    xlat_access(x, &a, &ea);
    xlat_emit_at(x, i, &a.at);
    xlat_written(x, writes);
    if (xlat_is_x87(i))
        xlat_x87_ran(x, i, k, &ea, a.s);
}
