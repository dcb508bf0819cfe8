/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptors, gates and stacks, as segment loads, far transfers, task switches and event delivery share them. SDM vol. 3, 3.4.5
 * and 6.11.
 *
 * All of these raise guest faults and touch no architectural state but memory, so that a transfer can check everything first and
 * commit last. Error codes carry the selector with its RPL replaced by the EXT bit (v->ext).
 */
#ifndef LODGE_SOFTKVM_X86_DESC_H
#define LODGE_SOFTKVM_X86_DESC_H

#include "softkvm/x86/cpu.h"
#include "softkvm/x86/mem.h"

struct descriptor {
    uint64_t raw;   /* its first eight bytes */
    uint64_t la;    /* linear address, for the accessed and busy bits */
    uint64_t base;  /* 64-bit for system descriptors read by desc_system() in long mode */
    uint32_t limit; /* bytes, granularity applied */
    uint16_t attr;  /* as struct segment has it */
    uint16_t sel;
};

/* Types of system descriptors (S = 0), SDM vol. 3, table 3-2 */
enum desc_type {
    DT_TSS16 = 1,
    DT_LDT,
    DT_TSS16_BUSY,
    DT_CALL16,
    DT_TASK,
    DT_INT16,
    DT_TRAP16,
    DT_TSS32 = 9,
    DT_TSS32_BUSY = 11,
    DT_CALL32,
    DT_INT32 = 14,
    DT_TRAP32,
};
#define DT_BUSY      2 /* the bit that tells a busy TSS */
#define SEG_CODE     8 /* type bits of code and data segments */
#define SEG_CONFORM  4 /* code */
#define SEG_DOWN     4 /* data: expands down */
#define SEG_RW       2 /* data: writable; code: readable */
#define SEG_ACCESSED 1
#define SEL_TI       4
#define SEL_RPL      3

struct gate {
    uint64_t off;
    uint16_t sel;
    uint8_t type; /* enum desc_type; a non-system descriptor gives 0 */
    uint8_t dpl, params, ist;
    bool present;
};

/* Raises `vec` with a selector as error code. */
_Noreturn void sel_fault(struct vcpu *v, enum vector vec, uint16_t sel);
/* Raises `vec` with the error code 0, or 1 while an external event is being delivered. */
_Noreturn void ext_fault(struct vcpu *v, enum vector vec);

/* Reads the descriptor of a selector; false when the selector is null or outside its table. */
bool desc_read(struct vcpu *v, uint16_t sel, struct descriptor *d);
/* As desc_read, but raises vec(sel). */
void desc_get(struct vcpu *v, uint16_t sel, enum vector vec, struct descriptor *d);
/* Completes an LDT or TSS descriptor: in long mode these have 16 bytes. Raises vec(sel). */
void desc_system(struct vcpu *v, enum vector vec, struct descriptor *d);
/* Reads the second half of a 16-byte descriptor in the GDT or LDT; false when it is outside the table. */
bool desc_upper(struct vcpu *v, const struct descriptor *d, uint64_t *upper);
struct gate gate_parse(uint64_t lo, uint64_t hi, bool wide);
void desc_set_accessed(struct vcpu *v, struct descriptor *d);
/* Sets or clears the busy bit of a TSS descriptor at a linear address, by a locked update. */
void desc_set_busy(struct vcpu *v, uint64_t la, bool busy);
void desc_to_segment(const struct descriptor *d, uint16_t sel, struct segment *s);
void segment_set_null(struct segment *s, uint16_t sel, unsigned dpl);

static inline bool desc_present(const struct descriptor *d)
{
    return d->attr & SEG_P;
}
static inline bool desc_is_code(const struct descriptor *d)
{
    return (d->attr & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}
static inline bool desc_is_conforming(const struct descriptor *d)
{
    return desc_is_code(d) && (d->attr & SEG_CONFORM);
}
static inline bool desc_is_writable_data(const struct descriptor *d)
{
    return (d->attr & (SEG_S | SEG_CODE | SEG_RW)) == (SEG_S | SEG_RW);
}
static inline bool desc_is_64bit(const struct descriptor *d)
{
    return (d->attr & (SEG_L | SEG_DB)) == SEG_L;
}
static inline unsigned desc_type(const struct descriptor *d)
{
    return d->attr & (SEG_S | 15); /* above 15: not a system descriptor */
}
static inline bool sel_null(uint16_t sel)
{
    return !(sel & ~SEL_RPL);
}

/* True when [off, off+size) lies within the segment's limit; legacy rules. SDM vol. 3, 5.3. */
bool seg_contains(const struct segment *s, uint64_t off, unsigned size);

/* A code segment for a transfer to `off`: raises #GP(0) when off is outside it (or not canonical in 64-bit code). */
void check_target(struct vcpu *v, const struct descriptor *cs, uint64_t off);
/* Commits CS with the given CPL, and the derived state. */
void commit_cs(struct vcpu *v, const struct descriptor *cs, uint16_t sel, unsigned cpl);
/* Drops DS, ES, FS and GS that a return to the (already committed) outer ring must not keep. SDM vol. 3, 5.8.6. */
void drop_inner_segments(struct vcpu *v);

/* A stack that a transfer pushes to or will load. */
struct stack {
    struct segment seg; /* what SS becomes; `seg.sel` with its RPL */
    uint64_t sp;        /* full register value before the first push */
    uint64_t mask;      /* which bits of it count: 16, 32 or 64 */
    enum mmu_index idx;
    uint16_t error; /* error code of #SS for a stack that is too small */
};
#define FRAME_MAX 40
struct frame {
    uint64_t val[FRAME_MAX]; /* in order of pushing */
    unsigned n, size;        /* bytes each */
};
static inline void frame_init(struct frame *f, unsigned size)
{
    f->n = 0;
    f->size = size;
}
static inline void frame_add(struct frame *f, uint64_t val)
{
    f->val[f->n++] = val;
}
struct stack stack_current(struct vcpu *v);
/* The stack for ring `dpl` from the TSS, fully checked, SS marked accessed. Raises #TS, #SS, #NP. Legacy modes. */
struct stack stack_inner(struct vcpu *v, unsigned dpl);
/* The same in long mode: the RSP at index 0..2 (rings) or 4..10 (IST 1..7) of the 64-bit TSS, SS null with RPL dpl. Raises #TS,
 * #SS. */
struct stack stack_inner64(struct vcpu *v, unsigned index, unsigned dpl);
/* Writes the frame after it has been checked as a whole, and sets st->sp to the new top. */
void stack_push_frame(struct vcpu *v, struct stack *st, const struct frame *f, bool to64);
/* Commits SS:RSP. */
void stack_commit(struct vcpu *v, const struct stack *st);

/* Changes the bits of `mask` in RFLAGS with all that follows: derived state, single step, interrupt window. */
void flags_write(struct vcpu *v, uint64_t val, uint64_t mask);
/* RFLAGS as an event that interrupts the current instruction saves them. SDM vol. 3, 18.3.1.1. */
uint64_t event_saved_flags(const struct vcpu *v);

#endif
