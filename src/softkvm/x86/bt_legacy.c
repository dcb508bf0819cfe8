// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * 16- and 32-bit code: real, virtual-8086, protected and compatibility mode.
 *
 * An instruction becomes the 64-bit one that does the same: another prefix for the operand size, a longer INC, VEX bits that 64-bit
 * code gives a meaning to. Then bt_xlat.c copies it like any other. Registers behave as in the interpreter: a write of 32 bits
 * clears the upper half, R8 to R15 are not reached.
 *
 * Addresses are offsets, cut to the address size; the segment's base makes them linear. The key has a class for each segment:
 * SEG_FLAT needs nothing, with SEG_CHECKED the offset is compared with the limit and the base added, SEG_CLOSED (null, read-only,
 * expand-down) leaves for the interpreter.
 *
 * Translated code knows linear addresses only; v->rip is made of them, and CS's base, where C code looks at it. A page is run from
 * only while all of it lies within CS's limit (in 16-bit code, within the first 64 KiB), so jumps within the page need no check.
 * Others are cut, checked and moved here.
 */
#include "softkvm/x86/bt_xlat.h"
#include "softkvm/x86/desc.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_ops.h"
#include "softkvm/x86/native.h"

enum { SEG_CLOSED, SEG_CHECKED, SEG_FLAT };
#define CLASS_SHIFT(seg) (BT_KEY_CLASSES + 2 * (seg))

#define SEG_OFF(s, field) (offsetof(struct vcpu, seg) + (s) * sizeof(struct segment) + offsetof(struct segment, field))

/* ---- the mode ---- */

static unsigned class_of(const struct vcpu *v, unsigned n)
{
    const struct segment *s = &v->seg[n];
    if (s->flat)
        return SEG_FLAT;
    unsigned want = SEG_P | SEG_S | SEG_RW, type = want | SEG_CODE | SEG_DOWN;
    if (!cpu_protected(v) && n == SEG_CS)
        type &= ~(unsigned)SEG_CODE;
    return !s->unusable && (s->attr & type) == want ? SEG_CHECKED : SEG_CLOSED;
}

uint32_t bt_legacy_key(const struct vcpu *v)
{
    uint32_t key = v->code_mode == CODE16 ? BT_KEY_CODE16 : BT_KEY_CODE32;
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        if (n != SEG_CS || !cpu_protected(v))
            key |= class_of(v, n) << CLASS_SHIFT(n);
    const struct segment *cs = &v->seg[SEG_CS];
    key |= v->seg[SEG_SS].attr & SEG_DB ? BT_KEY_STACK32 : 0;
    key |= cs->base == 0 && cs->limit == 0xffffffff ? BT_KEY_CS_FLAT : 0;
    return key | (cpu_protected(v) ? BT_KEY_PROT : 0);
}

bool bt_legacy_page(const struct vcpu *v, uint64_t la)
{
    const struct segment *cs = &v->seg[SEG_CS];
    uint64_t last = v->code_mode == CODE16 ? MIN(cs->limit, 0xffffu) : cs->limit;
    return (la & PAGE_MASK) >= cs->base && (la | (PAGE_SIZE - 1)) <= cs->base + last;
}

/* ---- instructions as 64-bit code has them ---- */

/* Is 66 the operand size, and must be there for two bytes? Elsewhere it selects the instruction, or means nothing. */
static bool size_prefix(const struct insn *i)
{
    switch (i->op) {
    case OP_adcx:
        return true;
    case OP_adox:
    case OP_cmpxchg8b:
    case OP_movnti:
    case OP_lfence:
    case OP_mfence:
    case OP_sfence:
        return false;
    default:
        return i->opsize == 2;
    }
}

static unsigned put_prefixes(uint8_t *to, const struct insn *i)
{
    bool native = i->desc->flags & ISA_NATIVE;
    unsigned n = 0;
    for (unsigned k = 0; k < i->opcode_at; k++) {
        uint8_t b = i->bytes[k];
        if (b == 0xf0 || b == 0xf2 || b == 0xf3 || (b == 0x66 && native))
            to[n++] = b;
    }
    if (!native && size_prefix(i))
        to[n++] = 0x66;
    if (i->opmap)
        to[n++] = 0x0f;
    if (i->opmap > 1)
        to[n++] = i->opmap == 2 ? 0x38 : 0x3a;
    return n;
}

/* Register numbers have three bits; W counts where it is no register's size. */
static unsigned put_vex(uint8_t *to, const struct insn *i)
{
    const uint8_t *op = i->bytes + i->opcode_at;
    bool two = op[-2] == 0xc5;
    uint8_t last = op[-1] | 0x40;
    if (two || !(i->desc->flags & ISA_NATIVE) || native_w_is_size(i))
        last &= 0x7f;
    to[0] = 0xc4;
    to[1] = 0xe0 | i->opmap;
    to[2] = last;
    return 3;
}

/* Rewrites i->bytes; returns their number. The operand in memory, which is rewritten once more, is left out. */
static unsigned rewrite(struct insn *i)
{
    uint8_t to[24];
    unsigned n = insn_has(i, PFX_VEX) ? put_vex(to, i) : put_prefixes(to, i), m;
    bool mem = xlat_mem_operand(i, &m), moffs = mem && i->op == OP_mov && i->opmap == 0 && (i->opcode & 0xfc) == 0xa0;
    unsigned from = i->opcode_at + 1u, at = n++;
    if (moffs) { /* as MOV with ModRM */
        i->opcode = 0x88 | ((i->opcode & 3) ^ 2);
        i->modrm = 0;
    } else if (i->opmap == 0 && (i->opcode & 0xf0) == 0x40) { /* INC and DEC, where REX is */
        to[n++] = 0xc0 | (i->opcode & 15);
        i->opcode = 0xff;
    } else if (i->opmap == 0 && i->opcode == 0x82) {
        i->opcode = 0x80;
    }
    to[at] = i->opcode;
    if (mem) {
        to[n++] = i->modrm;
        from = moffs ? i->len : i->imm_at;
    }
    unsigned end = mem ? from + (moffs ? 0u : i->imm_len) : i->len;
    if (i->imm_len)
        i->imm_at = (uint8_t)(mem ? n : n + i->imm_at - from);
    while (from < end)
        to[n++] = i->bytes[from++];
    if (i->imm_len == 1 && native_imm_is_register(i))
        to[i->imm_at] &= 0x7f;
    i->opcode_at = (uint8_t)at;
    for (unsigned k = 0; k < sizeof i->bytes; k++)
        i->bytes[k] = k < n ? to[k] : 0;
    return n;
}

/* ---- which instructions ---- */

static bool segment_open(uint32_t key, unsigned seg)
{
    return (key >> CLASS_SHIFT(seg) & 3) != SEG_CLOSED;
}

static enum how near_branch(const struct insn *i, uint32_t key, enum how h)
{
    return i->opsize == 2 && (key & BT_KEY_CODE32) ? HOW_END : h;
}

static enum how classify_stack(uint32_t key, enum how h)
{
    return segment_open(key, SEG_SS) ? h : h == HOW_LEGACY_END ? HOW_END : HOW_INTERP;
}

/* Repeated ones are the interpreter's, which does many elements at once. */
static enum how classify_string(const struct insn *i, uint32_t key)
{
    bool si = i->op != OP_stos && i->op != OP_scas, di = i->op != OP_lods;
    bool open = (!si || segment_open(key, i->seg)) && (!di || segment_open(key, SEG_ES));
    return open && !insn_has(i, PFX_REP | PFX_REPNE) ? HOW_STRING : HOW_INTERP;
}

static enum how classify_plain(const struct insn *i, uint32_t key)
{
    unsigned n;
    const struct operand *m = xlat_mem_operand(i, &n);
    bool vex = insn_has(i, PFX_VEX);
    if (m && !segment_open(key, i->seg))
        return HOW_INTERP;
    if (!(key & BT_KEY_PROT) && (vex || (i->desc->flags & ISA_PROT)))
        return HOW_INTERP;
    if (xlat_is_x87(i) && (key & (BT_KEY_CODE32 | BT_KEY_CS_FLAT)) != (BT_KEY_CODE32 | BT_KEY_CS_FLAT))
        return HOW_INTERP; /* struct fpu's note has linear addresses where the interpreter has offsets */
    if ((vex && i->opcode == 0x77) || (i->op == OP_bswap && i->opsize == 2))
        return HOW_INTERP;
    return xlat_plain_or_interp(i, key);
}

static enum how classify(const struct insn *i, uint32_t key)
{
    const struct operand *o = &i->ops[0];
    bool mem = o->kind == OPK_MEM;
    switch (i->op) {
    case OP_nop:
    case OP_serialize:
        return HOW_SKIP;
    case OP_lea:
        return HOW_LEGACY;
    case OP_push:
        return mem ? HOW_INTERP : classify_stack(key, HOW_LEGACY);
    case OP_pop:
        return mem || o->reg == RSP ? HOW_INTERP : classify_stack(key, HOW_LEGACY);
    case OP_leave:
        return classify_stack(key, HOW_LEGACY);
    case OP_jcc:
        return near_branch(i, key, HOW_JCC);
    case OP_loop:
        return near_branch(i, key, HOW_LOOP);
    case OP_jmp:
        return near_branch(i, key, HOW_JMP);
    case OP_jmp_ind:
        return near_branch(i, key, mem && !segment_open(key, i->seg) ? HOW_END : HOW_LEGACY_END);
    case OP_call:
    case OP_ret:
        return near_branch(i, key, classify_stack(key, HOW_LEGACY_END));
    case OP_call_ind:
        return near_branch(i, key, mem && !segment_open(key, i->seg) ? HOW_END : classify_stack(key, HOW_LEGACY_END));
    case OP_movs:
    case OP_cmps:
    case OP_stos:
    case OP_lods:
    case OP_scas:
        return classify_string(i, key);
    case OP_cld:
    case OP_std:
        return HOW_SYS;
    case OP_pushf:
    case OP_popf:
        return !(key & BT_KEY_PROT) && (key & BT_KEY_USER) ? HOW_INTERP : classify_stack(key, HOW_SYS); /* virtual-8086 mode has its own rules */
    case OP_cli:
    case OP_sti:
        return key & BT_KEY_USER ? HOW_INTERP : HOW_SYS;
    default:
        return i->desc->flags & ISA_BRANCH ? HOW_END : classify_plain(i, key);
    }
}

enum how xlat_legacy(struct insn *i, uint32_t key, uint8_t *bytes)
{
    enum how h = classify(i, key);
    if (h == HOW_PLAIN || h == HOW_FLDCW)
        *bytes = (uint8_t)rewrite(i);
    return h;
}

/* ---- addresses ---- */

/* dst = base + index << scale + disp, of `size` bytes; two bytes leave the rest of dst as it is. */
static void e_lea_legacy(struct emit *e, unsigned size, unsigned dst, const struct place *m)
{
    if (size == 2)
        e8(e, 0x66);
    e_mem(e, 0, 0x8d, dst, m);
}

/* dst = src, cut to `size` bytes */
static void e_cut(struct emit *e, unsigned size, unsigned dst, unsigned src)
{
    if (size == 4) {
        e_mov32(e, dst, src);
        return;
    }
    e8(e, 0x40 | (dst >> 3) << 2 | src >> 3); /* movzx dst, src */
    e8(e, 0x0f);
    e8(e, 0xb7);
    e8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
}

void xlat_legacy_offset(struct xlat *x, const struct ea *ea, unsigned s)
{
    e_lea_legacy(&x->e, 4, s, &(struct place){ea->base, ea->index, ea->scale, ea->disp});
    if (ea->size == 2)
        e_cut(&x->e, 2, s, s);
}

void xlat_legacy_advance(struct xlat *x, unsigned reg, unsigned addrsize, unsigned by)
{
    e_lea_legacy(&x->e, addrsize, reg, &(struct place){(uint8_t)reg, REG_NONE, 0, (int32_t)by});
    xlat_written(x, BIT_OF(reg));
}

/* t: from offset to linear address; away when the operand is not within the limit. The flags are free. */
static void add_segment(struct xlat *x, unsigned seg, unsigned t, unsigned size, struct aside *slow)
{
    struct emit *e = &x->e;
    if (size > 1) {
        e_alu_imm(e, false, ALU_ADD, t, size - 1);
        xlat_from(slow, e_jump(e, CC_B));
    }
    e_gs32(e, 0x3b, t, SEG_OFF(seg, limit)); /* cmp */
    xlat_from(slow, e_jump(e, CC_A));
    if (size > 1)
        e_alu_imm(e, false, ALU_SUB, t, size - 1);
    e_gs32(e, 0x03, t, SEG_OFF(seg, base));
}

/* The flags stay in bt.flags throughout where the segment has to be looked at. */
void xlat_legacy_access(struct xlat *x, struct access *a, const struct ea *ea)
{
    bool flat = (x->key >> CLASS_SHIFT(ea->seg) & 3) == SEG_FLAT, put_back = a->flags_live && !flat;
    unsigned regs = (ea->base < 16 ? BIT_OF(ea->base) : 0) | (ea->index < 16 ? BIT_OF(ea->index) : 0);
    a->avoid |= regs | (a->flags_live ? BIT_OF(RAX) : 0);
    if (put_back) {
        bool in_place = !(x->displaced & BIT_OF(RAX));
        xlat_displace(x, RAX);
        xlat_flags_save(x);
        xlat_bring_back(x, in_place ? BIT_OF(RAX) : 0);
        a->flags_live = false;
        a->flags_saved = true;
    }
    xlat_bring_back(x, regs);
    unsigned t = xlat_scratch(x, a->k, a->avoid | (a->no_rex ? 0xff00 : 0));
    xlat_legacy_offset(x, ea, t);
    if (!flat) {
        struct aside *slow = xlat_aside(x, ASIDE_SLOW, a->k);
        slow->flags_saved |= a->flags_saved;
        add_segment(x, ea->seg, t, a->size, slow);
    }
    a->avoid |= BIT_OF(t);
    a->scratch_base = true;
    xlat_linear_access(x, a, &(struct ea){(uint8_t)t, REG_NONE, 0, SEG_DS, 0, 0});
    if (!put_back)
        return;
    xlat_flags_restore(x);
    if (!(x->displaced & BIT_OF(RAX)))
        e_load(&x->e, RAX, GPR_OFF(RAX));
}

/* ---- the stack ---- */

static unsigned stack_width(const struct xlat *x)
{
    return x->key & BT_KEY_STACK32 ? 4 : 2;
}

static void stack_access(struct xlat *x, struct access *a, unsigned reg, int32_t disp)
{
    xlat_access(x, a, &(struct ea){(uint8_t)reg, REG_NONE, 0, SEG_SS, disp, (uint8_t)stack_width(x)});
}

/* rSP = reg + by, in the stack's width */
static void set_sp(struct xlat *x, unsigned reg, int32_t by)
{
    e_lea_legacy(&x->e, stack_width(x), RSP, &(struct place){(uint8_t)reg, REG_NONE, 0, by});
    xlat_written(x, BIT_OF(RSP));
}

void xlat_legacy_stack(struct xlat *x, struct access *a, int32_t disp)
{
    stack_access(x, a, RSP, disp);
}

void xlat_legacy_move_sp(struct xlat *x, int32_t by)
{
    set_sp(x, RSP, by);
}

/* mov [...], reg of `size` bytes */
static void store(struct xlat *x, unsigned size, unsigned reg, const struct access *a)
{
    if (size == 2)
        e8(&x->e, 0x66);
    xlat_op(x, 0, 0x89, reg, a);
}

/* reg = [...], cleared above `size` bytes */
static void load(struct xlat *x, unsigned size, unsigned reg, const struct access *a)
{
    if (size == 2)
        xlat_op_0f(x, 0, 0xb7, reg, a);
    else
        xlat_op(x, 0, 0x8b, reg, a);
}

/* dst = src of `size` bytes; two leave the rest of dst as it is */
static void assign(struct xlat *x, unsigned size, unsigned dst, unsigned src)
{
    if (size == 2)
        e8(&x->e, 0x66);
    e_mov32(&x->e, dst, src);
    xlat_written(x, BIT_OF(dst));
}

static void legacy_push(struct xlat *x, const struct insn *i, unsigned k)
{
    bool reg = i->ops[0].kind == OPK_GPR;
    unsigned r = i->ops[0].reg, size = i->opsize, keep = reg ? BIT_OF(r) : 0;
    struct access a = {.k = k, .size = size, .write = true, .flags_live = x->flags_live[k], .avoid = keep};
    xlat_bring_back(x, keep);
    stack_access(x, &a, RSP, -(int32_t)size);
    if (reg) {
        store(x, size, r, &a);
    } else {
        if (size == 2)
            e8(&x->e, 0x66);
        xlat_op(x, 0, 0xc7, 0, &a);
        for (unsigned n = 0; n < size; n++)
            e8(&x->e, i->imm >> 8 * n & 0xff);
    }
    set_sp(x, RSP, -(int32_t)size);
}

static void legacy_pop(struct xlat *x, const struct insn *i, unsigned k)
{
    unsigned r = i->ops[0].reg, size = i->opsize;
    struct access a = {.k = k, .size = size, .flags_live = x->flags_live[k], .avoid = BIT_OF(r)};
    xlat_bring_back(x, BIT_OF(r));
    stack_access(x, &a, RSP, 0);
    load(x, size, a.s, &a);
    assign(x, size, r, a.s);
    set_sp(x, RSP, (int32_t)size);
}

static void legacy_leave(struct xlat *x, const struct insn *i, unsigned k)
{
    unsigned size = i->opsize;
    struct access a = {.k = k, .size = size, .flags_live = x->flags_live[k], .avoid = BIT_OF(RBP)};
    stack_access(x, &a, RBP, 0);
    load(x, size, a.s, &a);
    set_sp(x, RBP, (int32_t)size);
    assign(x, size, RBP, a.s);
}

static void legacy_lea(struct xlat *x, const struct insn *i)
{
    unsigned dst = i->ops[0].reg, size = i->opsize;
    xlat_bring_back(x, xlat_address_regs(i) | (size == 2 ? BIT_OF(dst) : 0));
    e_lea_legacy(&x->e, size, dst, &(struct place){i->base, i->index, i->scale, (int32_t)i->disp});
    if (size == 4 && i->addrsize == 2)
        e_cut(&x->e, 2, dst, dst);
    xlat_written(x, BIT_OF(dst));
}

/* ---- branches ---- */

static unsigned ring_of(const struct xlat *x)
{
    return x->key & BT_KEY_USER ? BT_USER : BT_KERNEL;
}

void xlat_legacy_target(struct xlat *x, unsigned size, unsigned t, bool linear, struct aside *miss)
{
    struct emit *e = &x->e;
    bool flat = x->key & BT_KEY_CS_FLAT;
    if (linear && !flat)
        e_gs32(e, 0x2b, t, SEG_OFF(SEG_CS, base)); /* sub */
    e_cut(e, size, t, t);
    if (flat)
        return;
    e_gs32(e, 0x3b, t, SEG_OFF(SEG_CS, limit)); /* cmp */
    xlat_from(miss, e_jump(e, CC_A));
    e_gs32(e, 0x03, t, SEG_OFF(SEG_CS, base));
}

/* t = offset or, from a relative operand, linear address of the branch's target. */
static void branch_operand(struct xlat *x, const struct insn *i, unsigned k, unsigned t)
{
    const struct operand *o = &i->ops[0];
    if (o->kind == OPK_MEM) {
        struct access a = {.k = k, .size = i->opsize, .flags_saved = true, .avoid = BIT_OF(RAX) | BIT_OF(t)};
        struct ea ea = xlat_ea(x, i);
        xlat_access(x, &a, &ea);
        load(x, i->opsize, t, &a);
    } else if (o->kind == OPK_GPR) {
        e_mov32(&x->e, t, o->reg);
    } else {
        xlat_page_offset(x, t, xlat_next_off(x, k) + (int32_t)i->imm);
    }
    xlat_displace(x, RAX);
}

static unsigned branch_regs(const struct insn *i)
{
    return i->ops[0].kind == OPK_GPR ? BIT_OF(i->ops[0].reg) : i->ops[0].kind == OPK_MEM ? xlat_address_regs(i) : 0;
}

static void legacy_ret(struct xlat *x, const struct insn *i, unsigned k)
{
    unsigned size = i->opsize;
    xlat_branch_begin(x, 0);
    unsigned t = xlat_scratch(x, k, BIT_OF(RAX));
    struct access a = {.k = k, .size = size, .flags_saved = true, .avoid = BIT_OF(RAX) | BIT_OF(t)};
    stack_access(x, &a, RSP, 0);
    load(x, size, t, &a);
    struct aside *miss = xlat_aside(x, ASIDE_SLOW, k);
    xlat_legacy_target(x, size, t, false, miss);
    xlat_branch_probe(x, t, miss, ring_of(x));
    set_sp(x, RSP, (int32_t)size + (int32_t)(i->nops ? (uint16_t)i->imm : 0));
    xlat_branch_jump(x, t, ring_of(x));
}

static void legacy_jump(struct xlat *x, const struct insn *i, unsigned k)
{
    unsigned regs = branch_regs(i);
    xlat_branch_begin(x, regs);
    unsigned t = xlat_scratch(x, k, BIT_OF(RAX) | regs);
    branch_operand(x, i, k, t);
    struct aside *miss = xlat_aside(x, ASIDE_SLOW, k);
    xlat_legacy_target(x, i->opsize, t, false, miss);
    xlat_branch_probe(x, t, miss, ring_of(x));
    xlat_branch_jump(x, t, ring_of(x));
}

/* As in bt_flow.c, the push is done last. */
static void legacy_call(struct xlat *x, const struct insn *i, unsigned k)
{
    struct emit *e = &x->e;
    unsigned regs = branch_regs(i), size = i->opsize;
    bool near = i->ops[0].kind != OPK_MEM && i->ops[0].kind != OPK_GPR;
    xlat_branch_begin(x, regs);
    unsigned t = xlat_scratch(x, k, BIT_OF(RAX) | regs);
    branch_operand(x, i, k, t);
    struct access a = {.k = k, .size = size, .write = true, .flags_saved = true, .avoid = BIT_OF(RAX) | BIT_OF(t)};
    stack_access(x, &a, RSP, -(int32_t)size);
    xlat_page_offset(x, RAX, xlat_next_off(x, k));
    e_gs32(e, 0x2b, RAX, SEG_OFF(SEG_CS, base)); /* sub */
    e_store(e, RAX, BT_OFF(scratch[0]));
    xlat_op(x, 0, 0x84, RAX, &a); /* test [...], al: what may fault comes before the poll */
    struct aside *miss = xlat_aside(x, ASIDE_SLOW, k);
    xlat_legacy_target(x, size, t, near, miss);
    xlat_branch_probe(x, t, miss, ring_of(x));
    e_load(e, t, BT_OFF(scratch[0]));
    store(x, size, t, &a);
    set_sp(x, RSP, -(int32_t)size);
    xlat_branch_jump(x, REG_NONE, ring_of(x));
}

void xlat_legacy_insn(struct xlat *x, const struct insn *i, unsigned k)
{
    switch (i->op) {
    case OP_lea:
        legacy_lea(x, i);
        break;
    case OP_push:
        legacy_push(x, i, k);
        break;
    case OP_pop:
        legacy_pop(x, i, k);
        break;
    case OP_leave:
        legacy_leave(x, i, k);
        break;
    case OP_ret:
        legacy_ret(x, i, k);
        break;
    case OP_jmp_ind:
        legacy_jump(x, i, k);
        break;
    default:
        legacy_call(x, i, k);
        break;
    }
}
