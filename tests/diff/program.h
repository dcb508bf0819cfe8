/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Programs for the test of the translator: dozens of random instructions with branches, loops, self-modification, changes of ring
 * and mode between them, and what a run of one leaves behind.
 *
 *     progen.c     makes a program
 *     progsys.c    the system instructions in it
 *     progevex.c   AVX-512's moves in it
 *     progrun.c    runs it on the vCPU of guest.c, interpreted or translated
 *
 * A program ends at its last INT3. Whatever else stops it (a fault, HLT, an interrupt) is one of its stops: the state is recorded,
 * and the run goes on behind the instruction, so that one fault does not keep the rest from being tested.
 *
 * The scratch area is mapped three times (enum prog_base): as difftest knows it, once more with all of it writable and executable,
 * and for ring 0.
 */
#ifndef LODGE_TESTS_PROGRAM_H
#define LODGE_TESTS_PROGRAM_H

#include "diff.h"

#define PROG_CODE  2048u
#define PROG_STEPS 2000 /* instructions after which a program counts as endless */
#define PROG_STOPS 48

enum prog_base { BASE_USER, BASE_RWX, BASE_KERNEL, BASES };
#define RWX_BASE      (SCRATCH_BASE + SCRATCH_SIZE)
#define KERNEL_CODE   0xffffffff80010000ull /* the scratch area for ring 0 */
#define KERNEL_TABLES 0xffffffff80000000ull
#define PROG_PT_LOW   0x6000ull /* guest-physical: page table of the scratch area's user mappings */
/* `lea rcx, [rcx + r10]; jmp rcx`, where SYSCALL goes: back behind it, in another mapping. */
#define PROG_SYSCALL   ((CODE_PAGE + CODE_PAGES) * PAGE_SIZE - 16)
#define PROG_INTERRUPT 0x40 /* vector of the interrupt that waits for its window */

struct program {
    uint8_t code[PROG_CODE];
    unsigned len, nstarts;
    uint16_t starts[PROG_CODE]; /* where its instructions begin */
    unsigned off;               /* of the code in the scratch area */
    uint8_t mode, base, ring;
    uint8_t interrupts; /* how many wait for their window */
    uint64_t cr4_off, xcr0_off; /* bits of CR4 and XCR0 that it runs without */
    struct cpu_image in;
};

enum stop_how { HOW_EXCEPTION, HOW_HALT, HOW_OTHER };

struct stop {
    uint32_t how, reason;
    struct cpu_image cpu;
    struct sys_image {
        uint64_t cr0, cr3, cr4, cr8, efer, xcr0, dr6, dr7;
        uint64_t kernel_gs_base, star, lstar, sfmask, tsc_aux, sysenter_esp, pat;
        uint64_t gdt_base, idt_base, gdt_limit, idt_limit;
        struct {
            uint64_t base, limit, sel, attr;
        } seg[8];
        uint64_t int_shadow, cpl;
    } sys;
};

struct outcome {
    unsigned nstops, steps; /* instructions, where they were interpreted */
    struct stop stops[PROG_STOPS];
};

static inline uint64_t prog_base_address(unsigned base)
{
    return base == BASE_USER ? SCRATCH_BASE : base == BASE_RWX ? RWX_BASE : KERNEL_CODE;
}

/* ---- progen.c ---- */
void progen_init(void);
void progen_evex(void); /* from now on mostly instructions of AVX-512, where the host has it */
void progen(struct program *p);

/* ---- progsys.c, for progen.c ---- */
struct progen;
void progsys_add(struct progen *g);

/* ---- progevex.c, for progen.c ---- */
void progevex_add(struct progen *g);

/* ---- progwatch.c ---- */
int progwatch_start(void (*every_second)(void)); /* called from a signal handler; 0 or an error */
void progwatch_crashes(void (*where)(void)); /* says what the host's registers are, and calls `where`; before the engine's handlers, which pass on to it */

/* ---- progrun.c ---- */
int progrun_start(const char *test); /* sets everything up; 0, or the status to exit with, when standard output or error says why */
/* Runs the program; leaves memory as it is then. False: it does not end. */
bool progrun(const struct program *p, bool translate, struct outcome *o);
/* From now on the translator takes no flags for dead, or does so again; what it has translated is thrown away. */
void progrun_exact_flags(bool exact);
/* Blocks may have n exits beside their straight line from now on, 0: as many as ever; how many have been cut short for that? */
void progrun_few_exits(unsigned n);
unsigned progrun_cut(void);
void progrun_flush_at_stops(bool on); /* of the TLB, which a program may leave with entries that are not what the tables say */
#define PROG_KERNEL_SIZE 0x10000u
extern uint8_t *prog_kernel; /* the guest kernel's memory */
/* Of the kernel's memory, what a run may leave differently: the stack of the exceptions. */
static inline bool prog_kernel_compares(unsigned at)
{
    return at < 0xb000 || at >= 0xc000;
}

#endif
