/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Host instructions as bytes: just those that the translator needs. SDM vol. 2, chapter 2. */
#ifndef LODGE_SOFTKVM_X86_BT_EMIT_H
#define LODGE_SOFTKVM_X86_BT_EMIT_H

#include <stddef.h>
#include <stdint.h>

#include "softkvm/x86/insn.h"

enum cc { CC_B = 2, CC_Z = 4, CC_NZ = 5, CC_A = 7 };

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
    __builtin_memcpy(e->p, &x, 4);
    e->p += 4;
}
static inline void e64(struct emit *e, uint64_t x)
{
    __builtin_memcpy(e->p, &x, 8);
    e->p += 8;
}

/* ModRM, SIB and displacement of gs:[off]; the prefix 0x65 stands at the instruction's beginning. */
static inline void e_gs_operand(struct emit *e, unsigned reg, size_t off)
{
    e8(e, (reg & 7) << 3 | 4);
    e8(e, 0x25);
    e32(e, (uint32_t)off);
}
/* REX.W op reg, gs:[off] */
static inline void e_gs(struct emit *e, unsigned op, unsigned reg, size_t off)
{
    e8(e, 0x65);
    e8(e, 0x48 | (reg >> 3) << 2);
    e8(e, op);
    e_gs_operand(e, reg, off);
}
static inline void e_load(struct emit *e, unsigned reg, size_t off)
{
    e_gs(e, 0x8b, reg, off);
}
static inline void e_store(struct emit *e, unsigned reg, size_t off)
{
    e_gs(e, 0x89, reg, off);
}
static inline void e_gs32(struct emit *e, unsigned op, unsigned reg, size_t off)
{
    e8(e, 0x65);
    if (reg >= 8)
        e8(e, 0x44);
    e8(e, op);
    e_gs_operand(e, reg, off);
}
/* mov gs:[off], eax..r15d and the reverse */
static inline void e_store32(struct emit *e, unsigned reg, size_t off)
{
    e_gs32(e, 0x89, reg, off);
}
static inline void e_load32(struct emit *e, unsigned reg, size_t off)
{
    e_gs32(e, 0x8b, reg, off);
}
/* movzx r32, byte or word gs:[off] */
static inline void e_load_narrow(struct emit *e, unsigned reg, size_t off, unsigned size)
{
    e8(e, 0x65);
    e8(e, 0x40 | (reg >> 3) << 2);
    e8(e, 0x0f);
    e8(e, size == 1 ? 0xb6 : 0xb7);
    e_gs_operand(e, reg, off);
}
/* mov dword gs:[off], imm */
static inline void e_store_imm32(struct emit *e, size_t off, uint32_t imm)
{
    e8(e, 0x65);
    e8(e, 0xc7);
    e_gs_operand(e, 0, off);
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
/* A memory operand; base and index may be REG_NONE. */
struct place {
    uint8_t base, index, scale;
    int32_t disp;
};
static inline unsigned e_rex_of(unsigned reg, const struct place *m)
{
    return (reg >> 3 & 1) << 2 | (m->index == REG_NONE ? 0 : (m->index >> 3) << 1) | (m->base == REG_NONE ? 0 : m->base >> 3);
}
/* ModRM, SIB and displacement, as short as they can be; one of a byte counts `unit` bytes. */
static inline void e_modrm_unit(struct emit *e, unsigned reg, const struct place *m, unsigned unit)
{
    int32_t disp8 = m->disp / (int32_t)unit;
    unsigned r = (reg & 7) << 3, base = m->base & 7, index = m->index == REG_NONE ? 4 : m->index & 7;
    if (m->base == REG_NONE) {
        e8(e, r | 4);
        e8(e, (unsigned)m->scale << 6 | index << 3 | 5);
        e32(e, (uint32_t)m->disp);
        return;
    }
    bool small = disp8 == (int8_t)disp8 && disp8 * (int32_t)unit == m->disp;
    unsigned mod = m->disp == 0 && base != 5 ? 0 : small ? 1 : 2;
    if (m->index == REG_NONE && base != 4) {
        e8(e, mod << 6 | r | base);
    } else {
        e8(e, mod << 6 | r | 4);
        e8(e, (unsigned)m->scale << 6 | index << 3 | base);
    }
    if (mod == 1)
        e8(e, (uint8_t)disp8);
    else if (mod == 2)
        e32(e, (uint32_t)m->disp);
}
static inline void e_modrm(struct emit *e, unsigned reg, const struct place *m)
{
    e_modrm_unit(e, reg, m, 1);
}
/* op reg, place; w: 8 for REX.W, 0 without */
static inline void e_mem(struct emit *e, unsigned w, unsigned op, unsigned reg, const struct place *m)
{
    unsigned rex = w | e_rex_of(reg, m);
    if (rex)
        e8(e, 0x40 | rex);
    e8(e, op);
    e_modrm(e, reg, m);
}
static inline void e_lea(struct emit *e, unsigned dst, unsigned base, unsigned index, unsigned scale, int32_t disp)
{
    e_mem(e, 8, 0x8d, dst, &(struct place){(uint8_t)base, (uint8_t)index, (uint8_t)scale, disp});
}
/* rorx dst, src, by: no flag is touched */
static inline void e_rorx(struct emit *e, unsigned dst, unsigned src, unsigned by)
{
    e8(e, 0xc4);
    e8(e, (dst < 8 ? 0x80 : 0) | 0x40 | (src < 8 ? 0x20 : 0) | 3);
    e8(e, 0xfb);
    e8(e, 0xf0);
    e8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
    e8(e, by);
}
/* test reg's low byte, imm */
static inline void e_test8(struct emit *e, unsigned reg, unsigned imm)
{
    if (reg >= 4)
        e8(e, 0x40 | reg >> 3);
    if (reg == RAX) {
        e8(e, 0xa8);
    } else {
        e8(e, 0xf6);
        e8(e, 0xc0 | (reg & 7));
    }
    e8(e, imm);
}
/* mov dst32, src32 */
static inline void e_mov32(struct emit *e, unsigned dst, unsigned src)
{
    if (dst >= 8 || src >= 8)
        e8(e, 0x40 | (src >> 3) << 2 | dst >> 3);
    e8(e, 0x89);
    e8(e, 0xc0 | (src & 7) << 3 | (dst & 7));
}
/* mov r32, imm32 */
static inline void e_mov_imm32(struct emit *e, unsigned reg, uint32_t imm)
{
    if (reg >= 8)
        e8(e, 0x41);
    e8(e, 0xb8 | (reg & 7));
    e32(e, imm);
}
/* REX.W op reg, [constant], which lies `off` bytes into the code region */
static inline void e_const(struct emit *e, unsigned op, unsigned reg, uint32_t off)
{
    e8(e, 0x48 | (reg >> 3) << 2);
    e8(e, op);
    e8(e, (reg & 7) << 3 | 5);
    e32(e, off - (emit_off(e) + 4));
}
/* Fills up to where an instruction whose opcode has n bytes has a 4-byte aligned operand behind it. */
static inline void e_pad(struct emit *e, unsigned n)
{
    static const uint8_t nops[4][3] = {{0}, {0x90}, {0x66, 0x90}, {0x0f, 0x1f, 0x00}};
    unsigned by = -(emit_off(e) + n) & 3;
    for (unsigned k = 0; k < by; k++)
        e8(e, nops[by][k]);
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
/* The same by the shorter form where that reaches; `target` lies before. */
static inline void e_jump_back(struct emit *e, const uint8_t *target)
{
    if (e->p + 2 - target > 128) {
        e_jump_to(e, target);
        return;
    }
    e8(e, 0xeb);
    e8(e, (unsigned)(target - (e->p + 1)));
}
/* jmp gs:[off] */
static inline void e_jump_gs(struct emit *e, size_t off)
{
    e8(e, 0x65);
    e8(e, 0xff);
    e_gs_operand(e, 4, off);
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
enum { ALU_ADD, ALU_OR, ALU_AND = 4, ALU_SUB, ALU_CMP = 7, ALU_TEST };
/* op r, imm: 32 bits wide, or 64 with the immediate sign-extended */
static inline void e_alu_imm(struct emit *e, bool wide, unsigned op, unsigned r, uint32_t imm)
{
    if (wide || r >= 8)
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
    e_gs_operand(e, op, off);
    e32(e, imm);
}
/* test dword gs:[off], imm */
static inline void e_test_mem_imm(struct emit *e, size_t off, uint32_t imm)
{
    e8(e, 0x65);
    e8(e, 0xf7);
    e_gs_operand(e, 0, off);
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
