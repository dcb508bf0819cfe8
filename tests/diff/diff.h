/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The differential test: one random instruction on random state, executed by the host's CPU in user mode and by softkvm, and everything compared.
 *
 *     gen.c       makes the instruction and aims its memory operand
 *     state.c     makes register and memory contents
 *     host.c      runs a case on the host: signal frames carry the state in and out
 *     guest.c     runs it on a vCPU whose page tables and descriptors look like those of a Linux process
 *     compare.c   finds differences and prints them
 *     covered.c   says which rows of the instruction set take part
 *
 * Memory is one scratch area of 64 KiB at the same linear address on both sides. Its pages are of four kinds (scratch_kind), so that operands
 * can cross from any kind into another.
 *
 * This header must not include insn.h: <ucontext.h>, which host.c needs, has another REG_RIP.
 */
#ifndef LODGE_TESTS_DIFF_H
#define LODGE_TESTS_DIFF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

/* Below 2 GiB, so that 32-bit code and sign-extended displacements reach it. */
#define SCRATCH_BASE  0x20000000ull
#define SCRATCH_PAGES 16u
#define SCRATCH_SIZE  (SCRATCH_PAGES * PAGE_SIZE)
#define CODE_PAGE     1u /* two code pages, then a hole */
#define CODE_PAGES    2u

enum page_kind { PAGE_HOLE, PAGE_CODE, PAGE_RW, PAGE_RO };
extern const uint8_t scratch_kind[SCRATCH_PAGES];

/* Selectors of a 64-bit Linux process, and of the LDT that both sides get. */
enum { SEL_USER_CS32 = 0x23, SEL_USER_DS = 0x2b, SEL_USER_CS64 = 0x33 };
#define SEL_LDT(n) ((n) * 8u + 7)
enum ldt_entry { LDT_CODE16, LDT_DATA16, LDT_DATA_SMALL, LDT_DATA_RO, LDT_DATA_DOWN, LDT_CODE32, LDT_CODE16_LOW, LDT_COUNT };
struct ldt_desc {
    uint32_t base, limit; /* limit in pages where `pages` */
    bool code, db, writable, down, pages;
};
extern const struct ldt_desc ldt[LDT_COUNT];

/* Segment order of the hardware: ES CS SS DS FS GS. */
enum { S_ES, S_CS, S_SS, S_DS, S_FS, S_GS, S_COUNT };

#define XAREA_SIZE 2752 /* at most: legacy region, header, AVX at 576, and where the host has AVX-512 its components, where its CPUID says */

struct cpu_image {
    uint64_t gpr[16], rip, rflags;
    uint64_t fs_base, gs_base;
    uint16_t sel[S_COUNT];
    uint8_t vector; /* of the exception that ended the instruction */
    uint32_t error;
    uint64_t cr2; /* only for #PF */
    uint8_t xarea[XAREA_SIZE] __attribute__((aligned(64)));
};

struct test_case {
    uint8_t mode;       /* enum code_mode */
    bool step;          /* TF is set; else an INT3 follows the instruction */
    uint8_t code[16];
    unsigned len;       /* bytes to place; the instruction may be shorter */
    int row;            /* of the instruction, -1: #UD is expected */
    struct cpu_image in;
};

/* ---- random numbers ---- */
extern uint64_t rng_state;
static inline uint64_t rng(void)
{
    uint64_t z = (rng_state += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
static inline uint64_t rng_below(uint64_t n)
{
    return rng() % n;
}
static inline bool chance(unsigned percent)
{
    return rng() % 100 < percent;
}

/* ---- memory ---- */
extern uint8_t *mem_template; /* what both scratch areas hold before each case */
extern uint8_t *mem_host;     /* alias of the host's scratch area, writable throughout */
extern uint8_t *mem_guest;    /* the guest's */
/* Writes to all three; for contents that one case wants. */
void mem_plant(uint64_t addr, const void *data, unsigned n);

/* ---- state.c ---- */
void state_random(struct cpu_image *s, unsigned mode);
void state_random_memory(void);
uint64_t interesting_int(void);
/* Components of the area that take part (XCR0), its bytes, and where one of AVX-512's components (5 to 7) begins. After guest_init(). */
uint64_t xarea_mask(void);
unsigned xarea_size(void);
unsigned xarea_component(unsigned n, unsigned *size);
/* Passes an area through the host's registers, so that what reads back differently from how it was written is settled. */
void state_canonical(uint8_t *xarea);

/* ---- gen.c ---- */
/* Makes a case for the row; false when no encoding was found for this mode. */
bool gen_case(struct test_case *t, unsigned row, unsigned mode);
/* The same with the state and the place that the case has already; registers that the instruction's operands want are changed. */
bool gen_next(struct test_case *t, unsigned row, unsigned mode);
/* Makes a case from a byte string that is no instruction. */
void gen_invalid(struct test_case *t, unsigned mode);

/* ---- host.c ---- */
int host_init(void); /* after the guest's side has installed its own signal handlers */
bool host_has_mode(unsigned mode);
bool host_has_feature(unsigned feature); /* enum isa_feature */
void host_run(const struct test_case *t, struct cpu_image *out);

/* ---- guest.c ---- */
int guest_init(void);
/* Gives the translator's tables back: among 2 TiB of them a random address of the host's side would find memory. */
void guest_interpret_only(void);
void guest_run(const struct test_case *t, struct cpu_image *out);
/* ---- compare.c ---- */
/* Number of differences; prints them, with the case, unless `quiet`. */
unsigned compare(const struct test_case *t, const struct cpu_image *host, const struct cpu_image *guest, bool quiet);

/* ---- covered.c ---- */
struct isa_row;
/* NULL when the test covers the row, else the reason why not. */
const char *not_covered(const struct isa_row *row);

#endif
