// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * MUL IMUL DIV IDIV MULX. Division is checked for #DE first, by arithmetic, so that the host's instruction never traps.
 */
#include "softkvm/x86/op.h"

/* rDX:rAX op s (bytes: AX op s). The flags travel in AX, so rAX itself goes through another register; MOV touches no flags. */
#define ASM_WIDE(sfx, m, insn)                                                                             \
    __asm__(ASM_FLAGS_LOAD "movq %[a], %%rax\n\t" insn sfx " %" m "[s]\n\tmovq %%rax, %[a]" ASM_FLAGS_SAVE \
            : [a] "+&r"(a), "+&d"(d), "+&a"(f)                                                             \
            : [s] "r"(s)                                                                                   \
            : "cc")
#define DEFINE_WIDE(name)                                                     \
    static void name##_wide(struct vcpu *v, const struct insn *i, uint64_t s) \
    {                                                                         \
        uint64_t a = v->gpr[RAX], d = v->gpr[RDX];                            \
        uint32_t f = flags_to_ax(v->rflags);                                  \
        unsigned size = i->ops[0].size;                                       \
        BY_SIZE(size, ASM_WIDE, #name);                                       \
        v->gpr[RAX] = a;                                                      \
        if (size > 1)                                                         \
            v->gpr[RDX] = d;                                                  \
        flags_put(v, f);                                                      \
    }

DEFINE_WIDE(mul)
DEFINE_WIDE(imul)
DEFINE_WIDE(div)
DEFINE_WIDE(idiv)

void op_mul(struct vcpu *v, const struct insn *i)
{
    mul_wide(v, i, op_read(v, i, 0));
}

#define ASM_IMUL(sfx, m, insn) \
    __asm__(ASM_FLAGS_LOAD insn sfx " %" m "[s], %" m "[d]" ASM_FLAGS_SAVE : [d] "+r"(d), "+&a"(f) : [s] "r"(s) : "cc")

void op_imul(struct vcpu *v, const struct insn *i)
{
    if (i->nops == 1) {
        imul_wide(v, i, op_read(v, i, 0));
        return;
    }
    /* IMUL r, rm: sources are both operands; IMUL r, rm, imm: the last two. */
    uint64_t s = op_read(v, i, 1), d = i->nops == 2 ? op_read(v, i, 0) : i->imm;
    uint32_t f = flags_to_ax(v->rflags);
    BY_WORD_SIZE(i->ops[0].size, ASM_IMUL, "imul");
    op_write(v, i, 0, d);
    flags_put(v, f);
}

/* Upper and lower half of the dividend for a division by `size` bytes. */
static uint64_t dividend_low(const struct vcpu *v, unsigned size)
{
    return v->gpr[RAX] & size_mask(size);
}
static uint64_t dividend_high(const struct vcpu *v, unsigned size)
{
    return size == 1 ? gpr_read(v, RAX * 8 + 1, 1) : v->gpr[RDX] & size_mask(size);
}

void op_div(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->ops[0].size;
    uint64_t s = op_read(v, i, 0);
    if (dividend_high(v, size) >= s) /* the quotient does not fit; also s == 0 */
        cpu_fault(v, EXC_DE, 0);
    div_wide(v, i, s);
}

/* Does the signed quotient of high:low / s fit into `size` bytes? Works on magnitudes with the host's unsigned division. */
static bool idiv_fits(uint64_t high, uint64_t low, uint64_t s, unsigned size)
{
    unsigned bits = 8 * size;
    bool neg_n = high >> (bits - 1) & 1, neg_s = s >> (bits - 1) & 1;
    if (neg_n) {
        low = -low & size_mask(size);
        high = (~high + (low == 0)) & size_mask(size);
    }
    if (neg_s)
        s = -s & size_mask(size);
    if (high >= s)
        return false;
    uint64_t q, limit = BIT64(bits - 1);
    if (size == 8)
        __asm__("divq %[s]" : "=a"(q), "+d"(high) : "0"(low), [s] "r"(s) : "cc");
    else
        q = (high << bits | low) / s;
    return neg_n != neg_s ? q <= limit : q < limit;
}

void op_idiv(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->ops[0].size;
    uint64_t s = op_read(v, i, 0);
    if (!idiv_fits(dividend_high(v, size), dividend_low(v, size), s, size))
        cpu_fault(v, EXC_DE, 0);
    idiv_wide(v, i, s);
}

/* High half to operand 0, low half to operand 1; the high half wins when they are the same register. */
void op_mulx(struct vcpu *v, const struct insn *i)
{
    uint64_t s = op_read(v, i, 2);
    if (i->ops[0].size == 8) {
        unsigned __int128 p = (unsigned __int128)v->gpr[RDX] * s;
        op_write(v, i, 1, (uint64_t)p);
        op_write(v, i, 0, (uint64_t)(p >> 64));
    } else {
        uint64_t p = (v->gpr[RDX] & 0xffffffff) * s;
        op_write(v, i, 1, (uint32_t)p);
        op_write(v, i, 0, p >> 32);
    }
}
