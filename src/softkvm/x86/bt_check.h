/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lock-step of the two engines (SOFTKVM_CHECK), for bt_check.c, the hooks of the translator and the MMU, and the report's printing
 * in api/.
 *
 * While a vCPU checks, the interpreter runs its guest. Before it comes to a block, both engines execute that block for show, from
 * the same state: what a page is written with goes to a copy of the page, one copy for each engine, and nobody else sees it. Then
 * everything is compared: registers, flags, system state that the block's instructions can reach, vector state, and all bytes of
 * the copies. So a check disturbs nothing, can be made anew, and needs no agreement with other vCPUs or devices: when they have
 * written between the two runs what one of them read, the next try finds no difference. The last tries are made with all other
 * vCPUs held.
 *
 * Not compared are 16- and 32-bit code, instructions that cannot be executed twice without consequences or with the same result,
 * and those that the translator does not translate: a run ends in front of them (bt_check_repeats()), as it does in front of faults
 * and MMIO.
 */
#ifndef LODGE_SOFTKVM_X86_BT_CHECK_H
#define LODGE_SOFTKVM_X86_BT_CHECK_H

#include "softkvm/x86/bt_priv.h"

#define CHECK_PAGES 16   /* that one block may write */
#define CHECK_AREA  2688 /* bytes of an XSAVE area that are compared: x87, SSE, AVX and AVX-512 end there at most */

enum check_phase { CHECK_OFF, CHECK_INTERP, CHECK_BT };
enum { CHECK_RUNS = 2 }; /* copies of each page: of the interpreter, of the translator */

struct check_state {
    uint64_t gpr[16], rip, rflags, cr2, kernel_gs_base;
    struct segment seg[SEG_COUNT];
    uint8_t cpl, int_shadow;
};

struct check_fpu {
    bool saved;
    struct fpu fpu; /* of its area, CHECK_AREA bytes */
};

struct bt_check {
    unsigned every; /* check a block's first `every` entries, then each `every`th; 1: all */
    enum check_phase phase;
    bool failed;
    const char *what; /* of a failure */

    const struct bt_block *block;
    uint64_t start;                       /* linear address of the block */
    unsigned count;                       /* instructions that the interpreter has executed */
    uint32_t step;                        /* the instruction that the translator has left at, ~0 none */
    uint64_t gprs[BT_MAX_INSNS + 1][16];  /* before each of them */
    uint64_t rips[BT_MAX_INSNS + 1], cr2; /* cr2: before the last of them */
    bool single; /* the translator has left for the block that shares no check of addresses, in which it would go on */
    bool again;  /* the run has to be made again, now that it is known how far it goes and which pages it writes */
    bool native; /* one of them uses vector or x87 registers */

    unsigned npages;
    struct check_page {
        uint64_t la;
        const uint8_t *host;
        uint64_t entry[2]; /* of the tables, outside checks */
        uint8_t ring;
        uint8_t before[4096] __attribute__((aligned(4096))), copy[CHECK_RUNS][4096]; /* aligned: as operands are */
    } pages[CHECK_PAGES];

    struct check_state before, interp, bt;
    struct check_fpu fpu_before, fpu_interp, fpu_bt;
    void *unwind[8]; /* v->unwind, outside checks */
    struct {
        uint64_t blocks, insns, races;
    } stats;
};

/* ---- hooks ---- */
/* Is the instruction one that a check may execute twice? */
bool bt_check_repeats(const struct insn *i);
/* The translator has come to a block. Checks it; then the interpreter executes what was compared, at least one instruction. */
void bt_check_run(struct vcpu *v, struct bt_block *b);
/* For the MMU: a page that is to be written, at `host`. Where the store is to go. Does not return when there is no room. */
uint8_t *bt_check_page(struct vcpu *v, unsigned ring, uint64_t la, uint8_t *host);
/* The MMU has filled entries, perhaps of pages that have copies. */
void bt_check_filled(struct vcpu *v);
/* The instruction cannot be finished for show: it reaches a device. */
_Noreturn void bt_check_cut(struct vcpu *v);
static inline bool bt_check_showing(const struct vcpu *v)
{
    return v->bt.check && v->bt.check->phase != CHECK_OFF;
}

/* ---- bt_run.c, for bt_check.c ---- */
void bt_run_code(struct vcpu *v, const uint8_t *host);
bool bt_usable(const struct vcpu *v);

/* ---- api/check_report.c ---- */
void check_report(struct vcpu *v);  /* prints a failure, once */
void check_summary(struct vcpu *v); /* says what has been compared */

#endif
