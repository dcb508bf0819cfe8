// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One loop serves the three kinds of paging. They differ in the shape of the tree (levels, bits of index, size of an entry, which
 * levels may hold a leaf) and in their reserved bits; both stand in a table row for each kind. Entries are read straight from guest RAM.
 * A and D are set only after the whole walk and its permissions are known to be good, by compare-and-swap against the value that was
 * used, and the walk starts again if another CPU changed an entry meanwhile.
 */
#include "softkvm/x86/walk.h"

#include "softkvm/vm.h"
#include "softkvm/x86/mem.h"

#define PTE_P  BIT64(0)
#define PTE_W  BIT64(1)
#define PTE_U  BIT64(2)
#define PTE_A  BIT64(5)
#define PTE_D  BIT64(6)
#define PTE_PS BIT64(7)
#define PTE_G  BIT64(8)
#define PTE_NX BIT64(63)

#define MAX_LEVELS 4

enum paging { PAGING_32, PAGING_PAE, PAGING_4LEVEL };

static const struct shape {
    uint8_t levels, index_bits, entry_size;
} shapes[] = {
    [PAGING_32] = {2, 10, 4},
    [PAGING_PAE] = {2, 9, 8}, /* the PDPTEs are registers: the walk starts at the page directory */
    [PAGING_4LEVEL] = {4, 9, 8},
};

struct step {
    uint64_t gpa;           /* of the entry */
    uint64_t value;         /* as read */
    void *host;             /* where it is */
    struct memslot *slot;
};

static enum paging paging_kind(const struct vcpu *v)
{
    if (v->long_mode)
        return PAGING_4LEVEL;
    return v->cr4 & CR4_PAE ? PAGING_PAE : PAGING_32;
}

static uint64_t phys_mask(const struct vcpu *v)
{
    return BIT64(v->phys_bits ? v->phys_bits : 46) - 1;
}

/* Bits that must be zero in a present entry at `level` (1 = page table). SDM vol. 3, tables 4-4 to 4-20. */
static uint64_t reserved_bits(const struct vcpu *v, enum paging kind, unsigned level, bool leaf)
{
    if (kind == PAGING_32)
        return level == 2 && leaf ? (BIT64(22) - 1) & ~(BIT64(21) - 1) : 0;
    uint64_t rsvd = ~phys_mask(v) & (BIT64(52) - 1);
    if (kind == PAGING_PAE)
        rsvd |= (PTE_NX - 1) & ~(BIT64(52) - 1);
    if (!(v->efer & EFER_NX))
        rsvd |= PTE_NX;
    if (leaf && level == 2)
        rsvd |= BIT64(21) - BIT64(13);
    if (leaf && level == 3)
        rsvd |= BIT64(30) - BIT64(13);
    if (kind == PAGING_4LEVEL && (level == 4 || (level == 3 && !v->has.gbpages)))
        rsvd |= PTE_PS;
    return rsvd;
}

static bool is_leaf(const struct vcpu *v, enum paging kind, unsigned level, uint64_t entry)
{
    if (level == 1)
        return true;
    if (!(entry & PTE_PS) || level == 4)
        return false;
    if (kind == PAGING_32)
        return v->cr4 & CR4_PSE;
    return level == 2 || v->has.gbpages;
}

static uint64_t leaf_address(const struct vcpu *v, enum paging kind, unsigned level, uint64_t entry, uint64_t la)
{
    unsigned shift = 12 + (level - 1) * shapes[kind].index_bits;
    uint64_t offset_mask = BIT64(shift) - 1;
    if (kind == PAGING_32 && level == 2) /* PSE-36: bits 13..20 are address bits 32..39 */
        return ((entry & 0xffc00000) | ((entry >> 13 & 0xff) << 32) | (la & offset_mask)) & phys_mask(v);
    return (entry & phys_mask(v) & ~offset_mask) | (la & offset_mask);
}

/* Sets A (and D in the leaf) where missing; false when an entry changed under us. */
static bool set_accessed(struct step *steps, unsigned n, unsigned entry_size, bool write)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t want = steps[i].value | PTE_A | (write && i == n - 1 ? PTE_D : 0);
        if (want == steps[i].value || (steps[i].slot->flags & KVM_MEM_READONLY))
            continue;
        bool ok;
        if (entry_size == 4) {
            uint32_t old = (uint32_t)steps[i].value;
            ok = atomic_compare_exchange_strong((_Atomic uint32_t *)steps[i].host, &old, (uint32_t)want);
        } else {
            uint64_t old = steps[i].value;
            ok = atomic_compare_exchange_strong((_Atomic uint64_t *)steps[i].host, &old, want);
        }
        if (!ok)
            return false;
        memslot_mark_dirty(steps[i].slot, steps[i].gpa);
    }
    return true;
}

/* Reads the entry at s->gpa; an entry outside RAM reads as not present. */
static bool read_entry(struct vcpu *v, struct step *s, unsigned size)
{
    s->slot = vm_slot(v->vm, s->gpa);
    if (!s->slot)
        return false;
    s->host = s->slot->hva + (s->gpa - s->slot->gpa);
    s->value = size == 4 ? atomic_load_explicit((_Atomic uint32_t *)s->host, memory_order_relaxed)
                         : atomic_load_explicit((_Atomic uint64_t *)s->host, memory_order_relaxed);
    return s->value & PTE_P;
}

/* Walks down to the leaf; fills *w and steps[]; returns the number of entries used, or 0 with w->error. */
static unsigned descend(struct vcpu *v, uint64_t la, enum paging kind, struct step *steps, struct walk *w)
{
    const struct shape *sh = &shapes[kind];
    uint64_t table = kind == PAGING_32 ? v->cr3 & 0xfffff000 : v->cr3 & phys_mask(v) & PAGE_MASK;
    *w = (struct walk){.writable = true, .user = true};
    if (kind == PAGING_PAE) {
        uint64_t pdpte = v->pdptr[la >> 30 & 3];
        if (!(pdpte & PTE_P))
            return 0;
        table = pdpte & phys_mask(v) & PAGE_MASK;
    }
    for (unsigned level = sh->levels, n = 0;; level--, n++) {
        unsigned shift = 12 + (level - 1) * sh->index_bits;
        struct step *s = &steps[n];
        s->gpa = table + (la >> shift & (BIT64(sh->index_bits) - 1)) * sh->entry_size;
        if (!read_entry(v, s, sh->entry_size))
            return 0;
        bool leaf = is_leaf(v, kind, level, s->value);
        if (s->value & reserved_bits(v, kind, level, leaf)) {
            w->error = PF_P | PF_RSVD;
            return 0;
        }
        w->writable &= !!(s->value & PTE_W);
        w->user &= !!(s->value & PTE_U);
        w->nx |= kind != PAGING_32 && (s->value & PTE_NX);
        if (leaf) {
            w->gpa = leaf_address(v, kind, level, s->value, la);
            w->accessed = s->value & PTE_A;
            w->dirty = s->value & PTE_D;
            w->global = (s->value & PTE_G) && (v->cr4 & CR4_PGE);
            w->shift = (uint8_t)shift;
            w->pkey = kind == PAGING_4LEVEL && w->user ? s->value >> 59 & 15 : 0;
            return n + 1;
        }
        table = s->value & phys_mask(v) & PAGE_MASK;
        if (kind == PAGING_32)
            table &= 0xfffff000;
    }
}

bool walk_page(struct vcpu *v, uint64_t la, bool write, bool set_ad, uint32_t (*permit)(struct vcpu *v, const struct walk *w, const void *ctx),
               const void *ctx, struct walk *w)
{
    if (!v->paging) {
        *w = (struct walk){.gpa = la & 0xffffffff, .writable = true, .user = true, .accessed = true, .dirty = true, .shift = 12};
        return true;
    }
    enum paging kind = paging_kind(v);
    struct step steps[MAX_LEVELS];
    for (;;) {
        unsigned n = descend(v, la, kind, steps, w);
        if (n == 0)
            return false;
        if (permit) {
            uint32_t bad = permit(v, w, ctx);
            if (bad) {
                w->error = PF_P | (bad & PF_PK);
                return false;
            }
        }
        if (!set_ad)
            return true;
        if (set_accessed(steps, n, shapes[kind].entry_size, write)) {
            w->dirty |= write;
            return true;
        }
    }
}

bool mmu_load_pdptrs(struct vcpu *v, uint64_t cr3)
{
    uint64_t pdptr[4];
    fpu_put(v); /* cpu.h: before calling out of x86/ */
    if (!vm_phys_read(v->vm, cr3 & 0xffffffe0, pdptr, sizeof pdptr))
        return false;
    /* Reserved: 1, 2, 5-8 and everything above MAXPHYADDR (SDM vol. 3, table 4-8). */
    uint64_t rsvd = ~phys_mask(v) | 0x1e6;
    for (unsigned i = 0; i < 4; i++)
        if ((pdptr[i] & PTE_P) && (pdptr[i] & rsvd))
            return false;
    for (unsigned i = 0; i < 4; i++)
        v->pdptr[i] = pdptr[i];
    return true;
}

bool mmu_translate_debug(struct vcpu *v, uint64_t la, uint64_t *gpa, bool *writable, bool *user)
{
    struct walk w;
    if (v->long_mode && !is_canonical(la))
        return false;
    if (!walk_page(v, la, false, false, NULL, NULL, &w))
        return false;
    *gpa = w.gpa;
    *writable = w.writable;
    *user = w.user;
    return true;
}
