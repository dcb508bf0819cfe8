// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory operands: the check in front of each access, and the instruction rewritten to [s1 + s2].
 */
#include "softkvm/x86/bt_xlat.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_ops.h"

/* s1 = linear address of the instruction's memory operand. */
void xlat_address(struct xlat *x, const struct insn *i, unsigned s1)
{
    struct emit *e = &x->e;
    int32_t disp = (int32_t)i->disp;
    if (i->base == REG_RIP) {
        e_load(e, s1, BT_OFF(page));
        e_lea(e, s1, s1, REG_NONE, 0, (int32_t)(x->page_off + x->at[i - x->insns] + i->len) + disp);
    } else {
        e_lea(e, s1, i->base, i->index, i->scale, disp);
    }
    if (i->seg == SEG_FS || i->seg == SEG_GS)
        e_gs(e, 0x03, s1, offsetof(struct vcpu, seg) + i->seg * sizeof(struct segment) + offsetof(struct segment, base));
}

void xlat_flags_save(struct xlat *x)
{
    e_flags_to_ax(&x->e);
    e_store32(&x->e, RAX, BT_OFF(flags));
}

/* Puts the saved flags back; RAX is displaced or was saved in scratch[1]. */
void xlat_flags_restore(struct xlat *x)
{
    e_load32(&x->e, RAX, BT_OFF(flags));
    e_flags_from_ax(&x->e);
}

/* Behind this [s1 + s2] is the operand in host memory. `s1` holds the linear address; the flags are free. */
struct aside *xlat_check(struct xlat *x, const struct access *a)
{
    struct emit *e = &x->e;
    unsigned s1 = a->s1, s2 = a->s2;
    unsigned slow = x->nasides;
    struct aside *out = xlat_aside(x, ASIDE_SLOW, a->k);
    out->flags_saved = a->flags_live;
    e_mov(e, s2, s1);
    e8(e, 0x48); /* shl s2, 16 */
    e8(e, 0xc1);
    e8(e, 0xe0 | s2);
    e8(e, 16);
    e8(e, 0x48); /* shr s2, 28: the page's number, 36 bits */
    e8(e, 0xc1);
    e8(e, 0xe8 | s2);
    e8(e, 28);
    e_gs(e, 0x03, s2, BT_OFF(index[x->key & BT_KEY_USER ? BT_USER : BT_KERNEL][a->write ? MEM_W : MEM_R]));
    e8(e, 0x48); /* mov s2, [s2*8] */
    e8(e, 0x8b);
    e8(e, s2 << 3 | 4);
    e8(e, 0xc0 | s2 << 3 | 5);
    e32(e, 0);
    e_rr(e, 0x85, s2, s2); /* test s2, s2 */
    xlat_from(out, e_jump(e, CC_Z));
    if (a->size > 1) {
        e8(e, 0xf7); /* test s1, size - 1, rounded up to a power of two */
        e8(e, 0xc0 | s1);
        e32(e, a->size == 10 ? 15 : a->size - 1);
        uint8_t *jump = e_jump(e, CC_NZ);
        if (a->must_align) {
            xlat_from(out, jump);
        } else {
            struct aside *c = xlat_aside(x, ASIDE_CROSS, a->k);
            c->slow = slow;
            c->s1 = (uint8_t)s1;
            c->size = (uint8_t)a->size;
            c->back = e->p;
            xlat_from(c, jump);
        }
    }
    return &x->asides[slow];
}

/* Takes scratch registers and computes the address; keeps the flags if they are wanted. */
void xlat_access_begin(struct xlat *x, struct access *a, unsigned needed)
{
    xlat_bring_back(x, needed);
    if (a->flags_live && ((a->avoid | a->address) & BIT_OF(RAX))) {
        bool displaced = x->displaced & BIT_OF(RAX);
        xlat_displace(x, RAX); /* RAX is in use: only for the moment */
        xlat_flags_save(x);
        if (!displaced)
            xlat_bring_back(x, BIT_OF(RAX));
    } else if (a->flags_live) {
        xlat_displace(x, RAX);
        xlat_flags_save(x);
    }
    a->s1 = xlat_scratch(x, a->k, a->avoid | a->address);
    unsigned avoid = a->avoid | BIT_OF(a->s1);
    a->s2 = xlat_scratch(x, a->k, SCRATCHABLE & ~(avoid | a->address) ? avoid | a->address : avoid);
}

void xlat_flags_back(struct xlat *x, const struct access *a)
{
    if (!a->flags_live)
        return;
    if (a->s1 != RAX && a->s2 != RAX) {
        if (!(x->displaced & BIT_OF(RAX)))
            e_store(&x->e, RAX, GPR_OFF(RAX));
        xlat_flags_restore(x);
        if (!(x->displaced & BIT_OF(RAX)))
            e_load(&x->e, RAX, GPR_OFF(RAX));
        return;
    }
    e_store(&x->e, RAX, BT_OFF(scratch[1]));
    xlat_flags_restore(x);
    e_load(&x->e, RAX, BT_OFF(scratch[1]));
}

/* [s1 + s2] with `reg` in ModRM. RBP is never the base: that would be a stack access, whose non-canonical address is SIGBUS instead of SIGSEGV. */
void xlat_modrm(struct emit *e, unsigned reg, unsigned s1, unsigned s2)
{
    e8(e, (reg & 7) << 3 | 4);
    e8(e, s1 == RBP ? s1 << 3 | s2 : s2 << 3 | s1);
}

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

static void emit_rewritten(struct xlat *x, const struct insn *i, unsigned s1, unsigned s2)
{
    struct emit *e = &x->e;
    if (insn_has(i, PFX_VEX)) {
        const uint8_t *op = i->bytes + i->opcode_at;
        if (op[-2] == 0xc5) {
            e8(e, 0xc5);
            e8(e, op[-1]);
        } else {
            e8(e, 0xc4);
            e8(e, op[-2] | 0x60); /* X and B, inverted */
            e8(e, op[-1]);
        }
    } else {
        static const uint8_t escapes[4][2] = {{0, 0}, {0x0f, 0}, {0x0f, 0x38}, {0x0f, 0x3a}};
        copy_prefixes(e, i);
        if (insn_has(i, PFX_REX))
            e8(e, 0x40 | (i->rex & 12));
        for (unsigned k = 0; k < 2 && escapes[i->opmap][k]; k++)
            e8(e, escapes[i->opmap][k]);
    }
    e8(e, i->opcode);
    xlat_modrm(e, i->modrm >> 3, s1, s2);
    for (unsigned k = 0; k < i->imm_len; k++)
        e8(e, i->bytes[i->imm_at + k]);
}

void xlat_plain_mem(struct xlat *x, const struct insn *i, unsigned k, const struct operand *m, unsigned n)
{
    unsigned t = xlat_traits(i), reads, writes, ea = xlat_address_regs(i);
    xlat_reg_use(i, t, &reads, &writes);
    struct access a = {.k = k, .size = m->size, .write = i->desc->opuse >> (2 * n) & ISA_OP_W, .flags_live = x->flags_live[k], .avoid = reads | writes, .address = ea};
    a.must_align = (i->desc->flags & ISA_ALIGN) || i->op == OP_cmpxchg16b;
    xlat_access_begin(x, &a, reads | ea);
    xlat_address(x, i, a.s1);
    xlat_check(x, &a);
    xlat_flags_back(x, &a);
    emit_rewritten(x, i, a.s1, a.s2);
    xlat_written(x, writes);
    if (xlat_is_x87(i))
        xlat_x87_ran(x, i, k, a.s1);
}
