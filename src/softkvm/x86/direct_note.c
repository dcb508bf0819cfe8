// SPDX-License-Identifier: GPL-2.0-or-later
/* What the MMU tells direct execution (direct.h): which of a stub's mappings are no longer those of the guest's TLB. */
#include "softkvm/direct.h"
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/cpu.h"

static unsigned pcid_of(uint64_t cr3)
{
    return cr3 & 0xfff;
}

struct direct_space *direct_current(const struct vcpu *v)
{
    for (struct direct_space *s = v->direct->space; s < v->direct->space + DIRECT_SPACES; s++)
        if (s->cr3 == v->cr3)
            return s;
    return NULL;
}

void direct_note_cr3(struct vcpu *v, bool keep)
{
    struct direct_cpu *d = v->direct;
    for (unsigned n = 0; d && n < DIRECT_SPACES; n++) {
        struct direct_space *s = &d->space[n];
        if (!((s->cr3 ^ v->cr3) & PAGE_MASK)) { /* the same page table, perhaps by another PCID */
            s->stale |= !keep || s->cr3 != v->cr3;
            s->cr3 = v->cr3;
        } else if (!keep && pcid_of(s->cr3) == pcid_of(v->cr3)) {
            s->stale = true;
        }
    }
}

static void drop(struct direct_space *s, uint64_t la)
{
    if (s->stale || !s->stub)
        return;
    if (s->giant || s->ndrops == DIRECT_DROPS)
        s->stale = true;
    else
        s->drops[s->ndrops++] = la & PAGE_MASK;
}

void direct_note_page(struct vcpu *v, uint64_t la)
{
    struct direct_cpu *d = v->direct;
    for (unsigned n = 0; d && !(la >> 47) && n < DIRECT_SPACES; n++)
        if (pcid_of(d->space[n].cr3) == pcid_of(v->cr3))
            drop(&d->space[n], la);
}

void direct_note_pcid(struct vcpu *v, unsigned pcid)
{
    struct direct_cpu *d = v->direct;
    for (unsigned n = 0; d && n < DIRECT_SPACES; n++)
        d->space[n].stale |= pcid_of(d->space[n].cr3) == pcid;
}

void direct_note_all(struct vcpu *v)
{
    struct direct_cpu *d = v->direct;
    for (unsigned n = 0; d && n < DIRECT_SPACES; n++)
        d->space[n].stale = true;
}

bool direct_may_write(const struct vcpu *v, uint64_t gpa)
{
    uint64_t page = gpa >> 12;
    return v->direct && gpa < BT_GPA_MAX && (__atomic_load_n(&v->direct->writable[page / 64], __ATOMIC_RELAXED) & BIT64(page % 64));
}

void direct_unwrite(struct vcpu *v, uint64_t gpa)
{
    uint64_t page = gpa >> 12;
    if (!direct_may_write(v, gpa))
        return;
    __atomic_fetch_and(&v->direct->writable[page / 64], ~BIT64(page % 64), __ATOMIC_RELAXED);
    direct_note_all(v);
    struct direct_space *s = direct_current(v);
    if (s)
        s->unwritten++;
}
