/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rows in the form that the decoder works with. What the bytes in front of the operands say is packed into a 32-bit key:
 *
 *     bit 0-1   mandatory prefix, as VEX.pp counts them: 0 none, 1 66, 2 F3, 3 F2
 *     bit 2     mod == 3 (clear without ModRM)
 *     bit 3-5   ModRM.reg        bit 6-8   ModRM.rm
 *     bit 9     REX.W / VEX.W    bit 10    VEX.L        bit 11   64-bit code
 *     bit 12    VEX.vvvv is not 1111                    bit 13   REX.B
 *     bit 14    EVEX.L' (512 bits; also where EVEX.b means rounding)
 *
 * A row is the instruction when (key & mask) == match. Rows that share map, opcode and VEX-ness stand one behind the other in
 * isa_candidates[], in the order of isa_rows.h; isa_slots[] says where they begin.
 */
#ifndef LODGE_SOFTKVM_X86_ISA_PATTERN_H
#define LODGE_SOFTKVM_X86_ISA_PATTERN_H

#include "softkvm/x86/isa.h"

#define KEY_PFX_SHIFT 0
#define KEY_PFX       (3u << KEY_PFX_SHIFT)
#define KEY_PFX_REP   (2u << KEY_PFX_SHIFT) /* set for F2 and F3 */
#define KEY_MOD3      (1u << 2)
#define KEY_REG_SHIFT 3
#define KEY_REG       (7u << KEY_REG_SHIFT)
#define KEY_RM_SHIFT  6
#define KEY_RM        (7u << KEY_RM_SHIFT)
#define KEY_W         (1u << 9)
#define KEY_L         (1u << 10)
#define KEY_64        (1u << 11)
#define KEY_VVVV      (1u << 12)
#define KEY_B         (1u << 13)
#define KEY_L2        (1u << 14)

/* Sizes that depend on the instruction; smaller values are bytes. */
enum isa_size {
    SZ_FIXED_MAX = 64,
    SZ_V, /* operand size */
    SZ_Z, /* operand size, at most 4 */
    SZ_Y, /* 4, with W in 64-bit code 8 */
    SZ_N, /* 4, in 64-bit code 8 */
    SZ_J, /* address size */
    SZ_P, /* 2 + operand size */
    SZ_A, /* 2 * operand size */
    SZ_S, /* pseudo-descriptor: 6, in 64-bit code 10 */
    SZ_X, /* vector length */
    SZ_H, /* half of it */
    SZ_F, /* a quarter */
    SZ_O, /* an eighth */
    SZ_BS, /* byte, sign-extended */
};

struct isa_operand {
    /* The letter of isa_rows.h, or a register that the opcode implies: 'a' general, 's' segment, 'f' ST(fixed), 'i' ST(rm), '1' the constant. */
    char place;
    uint8_t size;     /* bytes, or enum isa_size */
    uint8_t mem_size; /* of the memory form */
    uint8_t fixed;    /* register number of 'a', 's', 'f' */
};

struct isa_pattern {
    uint32_t mask, match;
    bool vex, evex, modrm;
    bool any_mod;    /* mod is ignored, rm is a register */
    bool is4;        /* a register in imm8[7:4] */
    bool vsib;
    bool lig;        /* VEX.L is ignored */
    bool vectors;    /* has a vector length */
    uint8_t span;    /* opcodes that the row covers: 1, 8 (+r) or 16 (+cc) */
    uint8_t nops;
    bool imm_signed; /* the first immediate is sign-extended */
    uint8_t imm[2];  /* sizes of the immediates, 0: none; a far pointer is SZ_V and 2 */
    struct isa_operand ops[4];
};

struct isa_candidate {
    uint32_t mask, match;
    uint16_t row;
    bool last; /* of its slot */
};

struct isa_slot {
    uint16_t first; /* index into isa_candidates[] */
    bool used, modrm;
};

/* By row number. */
extern const struct isa_pattern *const isa_patterns;
extern const struct isa_candidate *const isa_candidates;
/* By map * 256 + opcode; maps 0..3 are the legacy ones, 4 + n is map n with VEX, 8 + n with EVEX. */
#define ISA_MAP_VEX  4
#define ISA_MAP_EVEX 8
#define ISA_SLOTS    (12 * 256)
extern const struct isa_slot *const isa_slots;

#endif
