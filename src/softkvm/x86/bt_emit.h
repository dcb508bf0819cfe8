/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Host instructions as bytes: just those that the translator needs. SDM vol. 2, chapter 2. */
#ifndef LODGE_SOFTKVM_X86_BT_EMIT_H
#define LODGE_SOFTKVM_X86_BT_EMIT_H

#include <stddef.h>
#include <stdint.h>

#include "softkvm/x86/insn.h"

enum cc { CC_Z = 4, CC_NZ = 5, CC_A = 7 };

struct emit {
    uint8_t *p;    /* writable alias: next byte */
    uint8_t *base; /* writable alias of the code region's start */
    uint8_t *end;  /* first byte that must not be written */
};

static inline uint32_t emit_off(const struct emit *e)
{
    return (uint32_t)(e->p - e->base);
}
static inline void e8(struct emit *e, unsigned b)
{
    *e->p++ = (uint8_t)b;
}
static inline void e32(struct emit *e, uint32_t x)
{
    *(uint32_t *)(void *)e->p = x;
    e->p += 4;
}
static inline void e64(struct emit *e, uint64_t x)
{
    *(uint64_t *)(void *)e->p = x;
    e->p += 8;
}

/* REX.W op reg, gs:[off] */
static inline void e_gs(struct emit *e, unsigned op, unsigned reg, size_t off)
{
    e8(e, 0x65);
    e8(e, 0x48 | (reg >> 3) << 2);
    e8(e, op);
    e8(e, (reg & 7) << 3 | 4);
    e8(e, 0x25);
    e32(e, (uint32_t)off);
}
static inline void e_load(struct emit *e, unsigned reg, size_t off)
{
    e_gs(e, 0x8b, reg, off);
}
static inline void e_store(struct emit *e, unsigned reg, size_t off)
{
    e_gs(e, 0x89, reg, off);
}
/* mov gs:[off], eax..edi */
static inline void e_store32(struct emit *e, unsigned reg, size_t off)
{
    e8(e, 0x65);
    e8(e, 0x89);
    e8(e, reg << 3 | 4);
    e8(e, 0x25);
    e32(e, (uint32_t)off);
}
static inline void e_load32(struct emit *e, unsigned reg, size_t off)
{
    e8(e, 0x65);
    e8(e, 0x8b);
    e8(e, reg << 3 | 4);
    e8(e, 0x25);
    e32(e, (uint32_t)off);
}
/* mov dword gs:[off], imm */
static inline void e_store_imm32(struct emit *e, size_t off, uint32_t imm)
{
    e8(e, 0x65);
    e8(e, 0xc7);
    e8(e, 0x04);
    e8(e, 0x25);
    e32(e, (uint32_t)off);
    e32(e, imm);
}
/* REX.W op rm, reg, both registers */
static inline void e_rr(struct emit *e, unsigned op, unsigned rm, unsigned reg)
{
    e8(e, 0x48 | (reg >> 3) << 2 | rm >> 3);
    e8(e, op);
    e8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}
static inline void e_mov(struct emit *e, unsigned dst, unsigned src)
{
    e_rr(e, 0x89, dst, src);
}
/* lea dst, [base + index << scale + disp]; base and index may be REG_NONE */
static inline void e_lea(struct emit *e, unsigned dst, unsigned base, unsigned index, unsigned scale, int32_t disp)
{
    unsigned b = base == REG_NONE ? 5 : base, x = index == REG_NONE ? 4 : index;
    e8(e, 0x48 | (dst >> 3) << 2 | (x >> 3) << 1 | (base == REG_NONE ? 0 : b >> 3));
    e8(e, 0x8d);
    unsigned mod = base == REG_NONE ? 0 : 2;
    e8(e, mod << 6 | (dst & 7) << 3 | 4);
    e8(e, scale << 6 | (x & 7) << 3 | (b & 7));
    e32(e, (uint32_t)disp);
}
/* mov dst, [base + disp8] and the reverse */
static inline void e_lea8(struct emit *e, unsigned dst, unsigned base, int8_t disp)
{
    e8(e, 0x48 | (dst >> 3) << 2 | base >> 3);
    e8(e, 0x8d);
    e8(e, 0x40 | (dst & 7) << 3 | (base & 7));
    if ((base & 7) == 4)
        e8(e, 0x24);
    e8(e, (uint8_t)disp);
}
/* Emits a jump with a 32-bit displacement to be set later; returns the displacement's place. cc: 0..15, or -1 for jmp. */
static inline uint8_t *e_jump(struct emit *e, int cc)
{
    if (cc < 0) {
        e8(e, 0xe9);
    } else {
        e8(e, 0x0f);
        e8(e, 0x80 | (unsigned)cc);
    }
    e->p += 4;
    return e->p - 4;
}
static inline void e_patch(uint8_t *at, const uint8_t *target)
{
    *(volatile uint32_t *)(void *)at = (uint32_t)(target - (at + 4));
}
static inline void e_jump_to(struct emit *e, const uint8_t *target)
{
    e_patch(e_jump(e, -1), target);
}
/* jmp gs:[off] */
static inline void e_jump_gs(struct emit *e, size_t off)
{
    e8(e, 0x65);
    e8(e, 0xff);
    e8(e, 0x24);
    e8(e, 0x25);
    e32(e, (uint32_t)off);
}
/* The guest's arithmetic flags between AX and the host's: op.h has the idea. */
static inline void e_flags_to_ax(struct emit *e)
{
    e8(e, 0x9f);
    e8(e, 0x0f);
    e8(e, 0x90);
    e8(e, 0xc0);
}
static inline void e_flags_from_ax(struct emit *e)
{
    e8(e, 0x04);
    e8(e, 0x7f);
    e8(e, 0x9e);
}

/* ---- arithmetic; all of it changes the flags ---- */
enum { ALU_OR = 1, ALU_AND = 4, ALU_CMP = 7, ALU_TEST };
/* op r, imm: 32 bits wide, or 64 with the immediate sign-extended */
static inline void e_alu_imm(struct emit *e, bool wide, unsigned op, unsigned r, uint32_t imm)
{
    e8(e, 0x40 | (wide ? 8 : 0) | r >> 3);
    e8(e, op == ALU_TEST ? 0xf7 : 0x81);
    e8(e, 0xc0 | (op & 7) << 3 | (r & 7));
    e32(e, imm);
}
/* op dword gs:[off], imm */
static inline void e_alu_mem_imm(struct emit *e, unsigned op, size_t off, uint32_t imm)
{
    e8(e, 0x65);
    e8(e, 0x81);
    e8(e, op << 3 | 4);
    e8(e, 0x25);
    e32(e, (uint32_t)off);
    e32(e, imm);
}
enum { SHIFT_SHL = 4, SHIFT_SHR, SHIFT_SAR = 7 };
/* op r64, n */
static inline void e_shift(struct emit *e, unsigned op, unsigned r, unsigned n)
{
    e8(e, 0x48 | r >> 3);
    e8(e, 0xc1);
    e8(e, 0xc0 | op << 3 | (r & 7));
    e8(e, n);
}
static inline void e_not(struct emit *e, unsigned r)
{
    e8(e, 0x48 | r >> 3);
    e8(e, 0xf7);
    e8(e, 0xd0 | (r & 7));
}

#endif
