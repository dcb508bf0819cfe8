/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A program in the making, as progen.c and progsys.c share it. */
#ifndef LODGE_TESTS_PROGEN_H
#define LODGE_TESTS_PROGEN_H

#include "program.h"

#define MAX_FIXUPS 64

/* A place in the code that wants the address of a later instruction. */
struct fixup {
    enum { FIX_REL32, FIX_ABS64 } kind;
    uint16_t at;
    uint8_t base; /* enum prog_base, for absolute addresses */
};

struct progen {
    struct program *p;
    struct test_case t; /* its state says where registers point, as far as that is known */
    struct fixup fixups[MAX_FIXUPS];
    unsigned nfixups;
    bool x87;                    /* only x87 instructions, apart from what is between them */
    unsigned loop_at, loop_left; /* a loop is open: where it begins, and how many items it still takes */
};

/* An instruction begins here. */
void progen_start(struct progen *g);
/* Bytes of the instruction; `insn` is the whole of one. */
void progen_bytes(struct progen *g, const void *bytes, unsigned n);
void progen_imm(struct progen *g, uint64_t v, unsigned n);
void progen_insn(struct progen *g, const void *bytes, unsigned n);
#define INSN(g, ...) progen_insn(g, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
/* mov r64, imm64 or its kin in narrower modes */
void progen_mov(struct progen *g, unsigned reg, uint64_t v);
/* The next `kind` bytes at the end of the code are to be the address of an instruction further on. */
void progen_fixup(struct progen *g, unsigned kind, unsigned base);
/* An aligned place in a page that everybody may write. */
uint32_t progen_cell(void);

#endif
