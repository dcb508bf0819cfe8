/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The instruction set as data: one row for each (opcode, form). The decoder's tables, the interpreter's dispatch, docs/isa.md and the
 * differential test's generator are all made from these rows. They are written in isa_rows.h, an X-macro file, which explains the notation;
 * isa.c turns them into `struct isa_row` before main() begins.
 */
#ifndef LODGE_SOFTKVM_X86_ISA_H
#define LODGE_SOFTKVM_X86_ISA_H

#include "softkvm/x86/insn.h"
#include "softkvm/x86/isa_ops.h"

/* What a row's instruction does beyond its operands. */
enum isa_flag {
    ISA_NATIVE = 1 << 0,   /* x87, MMX, SSE, AVX...: native_exec() runs it on the host's units, rewritten to its operands' new places */
    ISA_LOCK = 1 << 1,     /* LOCK allowed when operand 0 is memory */
    ISA_ALIGN = 1 << 2,    /* memory operand must be aligned to its size, else #GP(0) (legacy SSE, VMOVAPS...) */
    ISA_PRIV = 1 << 3,     /* CPL 0 only: op_M checks */
    ISA_SENS = 1 << 4,     /* its result is the virtual CPU's (cpuid, rdtsc...), or it reaches the host's kernel (syscall...): not for the host oracle */
    ISA_BRANCH = 1 << 5,   /* may set rip */
    ISA_WFLAGS = 1 << 6,   /* writes arithmetic EFLAGS */
    ISA_RFLAGS = 1 << 7,   /* reads arithmetic EFLAGS */
    ISA_NO64 = 1 << 8,     /* #UD in 64-bit code */
    ISA_ONLY64 = 1 << 9,   /* #UD outside 64-bit code */
    ISA_D64 = 1 << 10,     /* operand size defaults to 64 bits in 64-bit code (and 32 cannot be had) */
    ISA_F64 = 1 << 11,     /* operand size is 64 bits in 64-bit code whatever the prefixes (near branches on Intel) */
    ISA_UNDEF = 1 << 12,   /* leaves flags or registers undefined: the host's very result is not promised */
    ISA_PROT = 1 << 13,    /* #UD in real and virtual-8086 mode */
    ISA_NOVM = 1 << 14,    /* NATIVE row that native.c handles by a function of its own (fxsave, xsave family, maskmov, gathers, fldenv...): row's exec is op_M */
};

/* What an EVEX row allows, and how its mask goes with its memory operand: SDM vol. 2, 2.7. */
enum isa_evex_flag {
    EV_K = 1 << 16,      /* an opmask */
    EV_Z = 1 << 17,      /* that zeroes, unless the destination is memory */
    EV_KREQ = 1 << 18,   /* k0 cannot be it */
    EV_BCST = 1 << 19,   /* one element in memory that is broadcast */
    EV_ER = 1 << 20,     /* rounding in the instruction, between registers */
    EV_SAE = 1 << 21,    /* no exceptions, between registers */
    EV_FS = 1 << 22,     /* elements of memory that the mask leaves out are not accessed */
    EV_PACKED = 1 << 23, /* memory has the elements that the mask selects one behind the other */
    EV_REPEAT = 1 << 24, /* memory is repeated along the vector */
    EV_E1 = 0,           /* bytes of an element in memory */
    EV_E2 = 1 << 25,
    EV_E4 = 2 << 25,
    EV_E8 = 3 << 25,
};
#define EV_ELEMENT(flags) (1u << ((flags) >> 25 & 3))

/* How operands are used, from the row's operand list: "+r" read, "+w" written. Two bits for each operand. */
enum { ISA_OP_R = 1, ISA_OP_W = 2 };

/* CPUID feature that admits the instruction; FEAT_NONE: always there on x86-64. The host's own feature bits decide for NATIVE rows. */
enum isa_feature {
    FEAT_NONE, FEAT_X87, FEAT_MMX, FEAT_SSE, FEAT_SSE2, FEAT_SSE3, FEAT_SSSE3, FEAT_SSE41, FEAT_SSE42, FEAT_AES, FEAT_PCLMUL, FEAT_SHA,
    FEAT_AVX, FEAT_AVX2, FEAT_FMA, FEAT_F16C, FEAT_BMI1, FEAT_BMI2, FEAT_ADX, FEAT_MOVBE, FEAT_POPCNT, FEAT_LZCNT, FEAT_CX16, FEAT_RDRAND,
    FEAT_RDSEED, FEAT_XSAVE, FEAT_XSAVEOPT, FEAT_XSAVEC, FEAT_XSAVES, FEAT_FXSR, FEAT_FSGSBASE, FEAT_RDTSCP, FEAT_RDPID, FEAT_INVPCID, FEAT_SMAP,
    FEAT_PKU, FEAT_CLFLUSH, FEAT_CLFLUSHOPT, FEAT_CLWB, FEAT_PREFETCHW, FEAT_GFNI, FEAT_VAES, FEAT_VPCLMUL, FEAT_AVXVNNI, FEAT_MONITOR, FEAT_MOVDIRI,
    FEAT_MOVDIR64B, FEAT_SERIALIZE, FEAT_WBNOINVD, FEAT_AVX512F, FEAT_AVX512DQ, FEAT_AVX512BW, FEAT_AVX512CD, FEAT_AVX512IFMA, FEAT_AVX512VBMI,
    FEAT_AVX512VBMI2, FEAT_AVX512VNNI, FEAT_AVX512BITALG, FEAT_AVX512VPOPCNTDQ, FEAT_AVX512BF16, FEAT_COUNT
};

struct isa_row {
    const char *name;     /* lower-case mnemonic */
    const char *encoding; /* as written in isa_rows.h */
    const char *operands; /* as written in isa_rows.h */
    uint16_t op;          /* enum insn_op */
    uint32_t flags;       /* enum isa_flag */
    uint8_t feature;      /* enum isa_feature */
    uint8_t opuse;        /* bits 2n, 2n+1: ISA_OP_R/W of operand n */
    uint8_t opmap;        /* 0..3 */
    uint8_t opcode;
    insn_fn *exec;
};

extern const struct isa_row *const isa_rows;
extern const unsigned isa_row_count;

/* The functions that execute the rows which are not native: op_add() and so on. */
#define ISA_DECLARE_HANDLER(m) insn_fn op_##m;
ISA_HANDLED_OPS(ISA_DECLARE_HANDLER)
#undef ISA_DECLARE_HANDLER

#endif
