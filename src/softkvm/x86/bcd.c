// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Decimal adjustment: DAA DAS AAA AAS AAM AAD. They do not exist in 64-bit code, so the host's own cannot be used here.
 * Flags that SDM vol. 2 leaves undefined are as Intel processors have them: OF is cleared, SF ZF PF tell the new AL.
 */
#include "softkvm/x86/alu.h"

static uint64_t al_get(const struct vcpu *v)
{
    return gpr_read(v, RAX * 8, 1);
}

/* SF ZF PF of a byte. */
static uint64_t byte_flags(uint8_t val)
{
    return (val & 0x80 ? FL_SF : 0) | (val == 0 ? FL_ZF : 0) | (__builtin_parity(val) ? 0 : FL_PF);
}

static void put(struct vcpu *v, uint64_t flags)
{
    v->rflags = (v->rflags & ~FL_ARITH) | flags;
}

void op_daa(struct vcpu *v, const struct insn *i)
{
    (void)i;
    uint64_t old = al_get(v), al = old, fl = 0;
    if ((old & 15) > 9 || (v->rflags & FL_AF)) {
        al += 6;
        fl |= FL_AF;
    }
    if (old > 0x99 || (v->rflags & FL_CF)) {
        al += 0x60;
        fl |= FL_CF;
    }
    reg_set(v, RAX, 1, al);
    put(v, fl | byte_flags((uint8_t)al));
}

void op_das(struct vcpu *v, const struct insn *i)
{
    (void)i;
    uint64_t old = al_get(v), al = old, fl = 0;
    if ((old & 15) > 9 || (v->rflags & FL_AF)) {
        al -= 6;
        fl |= FL_AF | ((v->rflags & FL_CF) || old < 6 ? FL_CF : 0);
    }
    if (old > 0x99 || (v->rflags & FL_CF)) {
        al -= 0x60;
        fl |= FL_CF;
    }
    reg_set(v, RAX, 1, al);
    put(v, fl | byte_flags((uint8_t)al));
}

static void ascii_adjust(struct vcpu *v, int64_t step)
{
    uint64_t ax = reg_get(v, RAX, 2), fl = 0;
    if ((ax & 15) > 9 || (v->rflags & FL_AF)) {
        ax += (uint64_t)step;
        fl = FL_AF | FL_CF;
    }
    ax &= 0xff0f;
    reg_set(v, RAX, 2, ax);
    put(v, fl | byte_flags((uint8_t)ax));
}

void op_aaa(struct vcpu *v, const struct insn *i)
{
    (void)i;
    ascii_adjust(v, 0x106);
}

void op_aas(struct vcpu *v, const struct insn *i)
{
    (void)i;
    ascii_adjust(v, -0x106);
}

void op_aam(struct vcpu *v, const struct insn *i)
{
    uint8_t base = (uint8_t)i->imm, al = (uint8_t)al_get(v);
    if (base == 0)
        cpu_fault(v, EXC_DE, 0);
    reg_set(v, RAX, 2, (uint64_t)(al / base) << 8 | al % base);
    put(v, byte_flags(al % base));
}

/* The flags are those of the last step, an addition of bytes. */
void op_aad(struct vcpu *v, const struct insn *i)
{
    uint64_t ax = reg_get(v, RAX, 2);
    uint32_t f;
    uint64_t al = add_reg(1, ax & 0xff, (ax >> 8) * (i->imm & 0xff), 0, &f);
    reg_set(v, RAX, 2, al & 0xff);
    flags_put(v, f);
}
