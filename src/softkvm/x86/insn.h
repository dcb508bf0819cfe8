/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoded instruction: what the decoder produces and the interpreter (and later the translator) consumes.
 *
 * Invariants
 * - Decoding depends on the bytes and on `enum code_mode` alone, never on other CPU state. So a decoded instruction may be cached
 *   under (mode, bytes), and a cache that compares the bytes needs no invalidation.
 * - One row of isa.h (see there) describes each instruction; `i->desc` points to it. Each row's mnemonic M has an enum value OP_M and,
 *   unless the row is NATIVE, a function `void op_M(struct vcpu *, const struct insn *)` that executes it.
 * - Every register operand is given as a byte offset into `struct vcpu.gpr`, so AH..BH need no special case.
 * - What the decoder rejects is #UD for the guest (or #GP for more than 15 bytes): LOCK where it is not allowed, invalid VEX, and so on.
 */
#ifndef LODGE_SOFTKVM_X86_INSN_H
#define LODGE_SOFTKVM_X86_INSN_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;
struct insn;
struct isa_row;

#define INSN_MAX_LEN 15

/* Default operand and address size of the code segment. Real and virtual-8086 mode are CODE16. */
enum code_mode { CODE16, CODE32, CODE64 };

/* General register numbers are the hardware's. */
enum reg { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, REG_RIP, REG_NONE = 0xff };

/* Segment register numbers are the hardware's for the first six. */
enum seg_reg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

enum prefix {
    PFX_LOCK = 1 << 0,
    PFX_REP = 1 << 1,   /* F3 */
    PFX_REPNE = 1 << 2, /* F2 */
    PFX_66 = 1 << 3,
    PFX_67 = 1 << 4,
    PFX_SEG = 1 << 5, /* a segment override is present (and effective: in 64-bit code only FS and GS are) */
    PFX_REX = 1 << 6, /* any REX */
    PFX_VEX = 1 << 7,
    PFX_EVEX = 1 << 8,
};

/* struct insn.evex */
enum evex_bit { EVEX_K = 7, EVEX_B = 0x10, EVEX_Z = 0x80 };

enum operand_kind {
    OPK_NONE,
    OPK_GPR,  /* general register; byte offset `off` into vcpu->gpr */
    OPK_MEM,  /* the instruction's one ModRM (or moffs) memory operand, described by insn.seg/base/index/scale/disp */
    OPK_IMM,  /* insn.imm, already sign- or zero-extended to 64 bits as the instruction wants it */
    OPK_SEG,  /* segment register `reg` */
    OPK_CR,   /* control register `reg` */
    OPK_DR,   /* debug register `reg` */
    OPK_VEC,  /* XMM/YMM/ZMM register `reg` */
    OPK_MMX,  /* MMX register `reg` */
    OPK_K,    /* opmask register `reg` */
    OPK_ST,   /* ST(reg) */
    OPK_REL,  /* branch displacement in insn.imm, sign-extended */
    OPK_FAR,  /* far pointer: offset in insn.imm, selector in insn.imm2 */
};

struct operand {
    uint8_t kind; /* enum operand_kind */
    uint8_t reg;  /* register number within its kind; for OPK_GPR of AH..BH the number of the full register, 0..3 */
    uint8_t off;  /* OPK_GPR: byte offset into vcpu->gpr (AH is RAX*8+1) */
    uint8_t size; /* bytes that the operand has: 1, 2, 4, 8, 10, 16, 32, 64; 0 when it depends (xsave areas, lea) */
};

typedef void insn_fn(struct vcpu *v, const struct insn *i);

/* In the order of their use: what executing an ordinary instruction reads lies together, in front. */
struct insn {
    insn_fn *exec;              /* op_M of the row, or native_exec for NATIVE rows */
    uint64_t imm;               /* immediate, displacement of a branch (sign-extended), moffs is in `disp` */
    int64_t disp;               /* displacement of the memory operand, sign-extended; 64-bit for moffs; RIP-relative: without RIP */
    struct operand ops[4];
    uint8_t len;                /* bytes, 1..15 */
    uint8_t mode;               /* enum code_mode it was decoded for */
    uint8_t opsize;             /* effective operand size in bytes: 2, 4, 8 (also for byte instructions, whose operands say 1) */
    uint8_t addrsize;           /* effective address size in bytes: 2, 4, 8 */
    uint8_t seg;                /* segment of the memory operand and of string sources: default or override */
    uint8_t base, index;        /* enum reg; REG_RIP as base means: relative to the end of this instruction */
    uint8_t scale;              /* shift: 0..3 */
    uint16_t prefixes;          /* enum prefix bits */
    uint8_t nops;               /* operands in op[] */
    uint8_t opcode;             /* last opcode byte */
    uint8_t modrm;              /* raw ModRM byte, 0 without one */
    uint8_t rex;                /* REX.WRXB bits, or their equivalent from VEX and EVEX; R'=16 W=8 R=4 X=2 B=1 */
    uint16_t op;                /* enum insn_op */
    const struct isa_row *desc; /* the row of isa.h */
    void *native;               /* host code for a NATIVE row once native.c has built it, else NULL; cleared by the decoder */
    uint8_t bytes[16];          /* the instruction's own bytes; bytes behind `len` are zero */
    uint16_t imm2;              /* ENTER's level, far pointer's selector */
    uint8_t vvvv;               /* VEX register, 0..15; with EVEX 0..31 */
    uint8_t evex;               /* EVEX's last byte: enum evex_bit, 0 without EVEX */
    uint8_t vl;                 /* vector length in bytes: 16, 32, 64; 0 for instructions without vectors */
    uint8_t opmap;              /* 0 one-byte, 1 0F, 2 0F38, 3 0F3A */
    uint8_t opcode_at;          /* index of the opcode byte (behind its prefixes and escapes) in bytes[]; ModRM follows it */
    uint8_t disp_at, disp_len;  /* index and size of the displacement in bytes[]; 0,0 without one */
    uint8_t imm_at, imm_len;    /* index and size of the immediate(s) in bytes[]; 0,0 without one */
};

static inline bool insn_has(const struct insn *i, unsigned prefix)
{
    return i->prefixes & prefix;
}

enum decode_result {
    DECODE_OK,
    DECODE_MORE, /* `avail` bytes are not enough: fetch more (a fault on the next page is the guest's fault) */
    DECODE_UD,   /* no such instruction: #UD */
    DECODE_GP,   /* longer than 15 bytes: #GP(0) */
};

/*
 * Decodes one instruction from `bytes` (`avail` of them readable, 1..15 or more) into *i. On DECODE_OK all of *i is set.
 * Thread-safe; reads nothing but its arguments and constant tables. SDM vol. 2, chapter 2 and appendix A.
 */
enum decode_result insn_decode(const uint8_t *bytes, unsigned avail, enum code_mode mode, struct insn *i);

/* What a displacement of one byte counts in the instruction's memory operand: bytes, but for EVEX (SDM vol. 2, 2.7.5). */
unsigned insn_disp8_unit(const struct insn *i);

/* "add", "vpaddd": lower-case mnemonic of an op; valid for every value below OP_COUNT. */
const char *insn_op_name(unsigned op);

#endif
