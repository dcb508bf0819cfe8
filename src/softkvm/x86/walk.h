/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The page walk: guest page tables to a guest-physical page and its permissions. SDM vol. 3, chapter 4. */
#ifndef LODGE_SOFTKVM_X86_WALK_H
#define LODGE_SOFTKVM_X86_WALK_H

#include "softkvm/x86/cpu.h"

/* Page-fault error code, SDM vol. 3, 4.7 */
#define PF_P    BIT(0)
#define PF_W    BIT(1)
#define PF_U    BIT(2)
#define PF_RSVD BIT(3)
#define PF_I    BIT(4)
#define PF_PK   BIT(5)

struct walk {
    uint64_t gpa;      /* of the byte asked for */
    bool writable;     /* R/W set at every level */
    bool user;         /* U/S set at every level */
    bool nx;           /* XD set at some level, EFER.NX on */
    bool global;       /* G is set in the leaf and CR4.PGE is on: a write of CR3 leaves the translation alone */
    bool accessed;     /* A is set in the leaf (or paging is off) */
    bool dirty;        /* D is set in the leaf (or paging is off) */
    uint8_t shift;     /* log2 of the page's size in bytes: 12, 21, 22, 30 */
    uint8_t pkey;      /* protection key of a user page in 4-level paging, else 0 */
    uint32_t error;    /* of a failed walk: PF_P and PF_RSVD; the caller adds W, U, I */
};

/*
 * Translates a linear address. With `set_ad`, sets A in each entry used and, with `write`, D in the leaf, by locked updates in guest
 * memory, once `permit(v, w, ctx)` has agreed to the permissions found; without it nothing is changed. False: not mapped (w->error), or
 * permit refused (w->error is PF_P | what permit returned).
 */
bool walk_page(struct vcpu *v, uint64_t la, bool write, bool set_ad, uint32_t (*permit)(struct vcpu *v, const struct walk *w, const void *ctx),
               const void *ctx, struct walk *w);

#endif
