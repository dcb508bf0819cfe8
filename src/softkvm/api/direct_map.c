// SPDX-License-Identifier: GPL-2.0-or-later
/* A stub's mappings, from the guest's page tables. direct.h has the rules. */
#include "softkvm/api/direct_map.h"

#include <string.h>
#include <sys/mman.h>

#include "softkvm/api/api.h"
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/mem.h"
#include "softkvm/x86/walk.h"

#define AROUND 32 /* pages that are looked at around one */

/* Pages that follow each other in the guest's address space and in a descriptor. */
struct run {
    uint64_t la, bytes, offset;
    unsigned mem;
    uint8_t kind; /* DIRECT_* */
};

/* ---- taking away ---- */

static void unmap_all(struct direct_space *s)
{
    struct stub *stub = s->stub;
    stub->nops = 0;
    stub_unmap(stub, 0, stub->base);
    stub_unmap(stub, stub->end, STUB_END - stub->end);
    madvise(s->pages, DIRECT_PAGES, MADV_DONTNEED);
    s->ndrops = 0;
    s->stale = s->large = s->giant = false;
}

static void unmap_page(struct direct_space *s, uint64_t la)
{
    if (s->pages[la >> 12] & DIRECT_MAPPED)
        stub_unmap(s->stub, la, PAGE_SIZE);
    s->pages[la >> 12] = 0;
}

/* INVLPG takes all of a large page away. Where one was mapped from, each INVLPG may mean one. */
static void unmap_drops(struct direct_space *s)
{
    for (unsigned n = 0; n < s->ndrops; n++) {
        uint64_t la = s->drops[n];
        if (!s->large) {
            unmap_page(s, la);
            continue;
        }
        la = ALIGN_DOWN(la, 2 * MIB);
        for (uint64_t at = la; at < la + 2 * MIB; at += PAGE_SIZE)
            unmap_page(s, at);
    }
    s->ndrops = 0;
}

/* ---- mapping ---- */

static bool find_memory(const struct softkvm_vm *vm, const uint8_t *host, unsigned *mem, uint64_t *offset)
{
    for (unsigned n = 0; n < vm->api->nmemory; n++) {
        const struct direct_memory *m = &vm->api->memory[n];
        if ((uint64_t)(host - m->host) < m->bytes) {
            *mem = n;
            *offset = m->offset + (uint64_t)(host - m->host);
            return true;
        }
    }
    return false;
}

static void mark_writable(struct vcpu *v, uint64_t gpa)
{
    uint64_t page = gpa >> 12;
    atomic_fetch_or((_Atomic uint64_t *)&v->direct->writable[page / 64], BIT64(page % 64));
}

/* May the page be mapped for writing? As with a write entry of the tables: first it can be seen, then we look whether it is code (bt_tlb.c). */
static bool may_write(struct vcpu *v, const struct walk *w, struct memslot *slot)
{
    if (!w->writable || !w->dirty || (slot->flags & KVM_MEM_READONLY) || w->gpa >= BT_GPA_MAX || bt_is_code(v, w->gpa))
        return false;
    mark_writable(v, w->gpa);
    atomic_thread_fence(memory_order_seq_cst);
    if (bt_is_code(v, w->gpa))
        return false;
    memslot_mark_dirty(slot, w->gpa);
    return true;
}

bool direct_peek(struct vcpu *v, uint64_t la, void *to, unsigned n)
{
    uint64_t gpa;
    bool writable, user;
    return mmu_translate_debug(v, la, &gpa, &writable, &user) && vm_phys_read(v->vm, gpa, to, n);
}

#define HASH_LANES 4 /* chains of multiplications side by side */

static uint64_t mixed(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
    return hash ^ hash >> 29;
}

static uint64_t word_at(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

static uint64_t hash_of(const struct direct_code *c, bool avx512)
{
    uint64_t lanes[HASH_LANES] = {c->nbefore + (avx512 ? PAGE_SIZE : 0), word_at(c->after), word_at(c->after + 8), 0}, hash = 0;
    _Static_assert((DIRECT_BEFORE + PAGE_SIZE) % (8 * HASH_LANES) == 0 && sizeof c->after == 16, "all bytes are looked at");
    for (const uint8_t *p = c->before; p < c->after; p += sizeof lanes) {
#pragma GCC unroll 4
        for (unsigned n = 0; n < HASH_LANES; n++)
            lanes[n] = mixed(lanes[n], word_at(p + 8 * n));
    }
    for (unsigned n = 0; n < HASH_LANES; n++)
        hash = mixed(hash, lanes[n]);
    return hash;
}

/* The same libraries are in many address spaces: a page is known by what it holds, and by what is asked of it. */
static bool plain_code(struct vcpu *v, const struct direct_code *c)
{
    bool avx512 = v->xcr0 & XCR0_AVX512;
    uint64_t hash = hash_of(c, avx512);
    uint64_t *known = &v->direct->known[hash >> 40 & (DIRECT_KNOWN - 1)];
    if ((*known ^ hash) & ~1ull)
        *known = (hash & ~1ull) | direct_scan(c, avx512);
    return *known & 1;
}

static bool may_execute(struct vcpu *v, uint64_t la, const struct walk *w, const uint8_t *host)
{
    struct direct_code c;
    if (w->nx || w->writable)
        return false;
    memset(c.before, 0, sizeof(c.before));
    memset(c.after, 0, sizeof(c.after));
    memcpy(c.page, host, sizeof(c.page));
    c.nbefore = direct_peek(v, la - DIRECT_BEFORE, c.before, DIRECT_BEFORE) ? DIRECT_BEFORE : 0;
    direct_peek(v, la + PAGE_SIZE, c.after, sizeof(c.after));
    return plain_code(v, &c);
}

/* Rights that the protection key of a user page takes away (SDM vol. 3, 4.6.2): bit 0 any access, bit 1 writes. */
static unsigned key_denies(const struct vcpu *v, const struct walk *w)
{
    return v->cr4 & CR4_PKE ? v->pkru >> (2 * w->pkey) & 3 : 0;
}

static uint32_t permit(struct vcpu *v, const struct walk *w, const void *ctx)
{
    (void)ctx;
    return w->user && !(key_denies(v, w) & 1) ? 0 : PF_P;
}

/* What the page can be mapped as; 0 not at all. `wanted`: it is about to be accessed, and A is set. */
static uint8_t page_kind(struct vcpu *v, struct direct_space *s, uint64_t la, bool wanted, struct run *r)
{
    struct walk w;
    if (!walk_page(v, la, false, wanted, permit, NULL, &w) || (!w.accessed && !wanted))
        return 0;
    struct memslot *slot = vm_slot(v->vm, w.gpa);
    if (!slot || slot->alias)
        return 0;
    const uint8_t *host = slot->hva + (w.gpa - slot->gpa);
    if (!find_memory(v->vm, host, &r->mem, &r->offset))
        return 0;
    v->tlb_keys |= (uint16_t)BIT(w.pkey);
    s->large |= w.shift > 12;
    s->giant |= w.shift > 21;
    uint8_t kind = DIRECT_MAPPED;
    if (!(key_denies(v, &w) & 2) && may_write(v, &w, slot))
        kind |= DIRECT_WRITE;
    if (may_execute(v, la, &w, host))
        kind |= DIRECT_EXEC;
    else
        kind |= DIRECT_REFUSED;
    return kind;
}

static void put_run(struct direct_space *s, const struct run *r)
{
    int prot = PROT_READ | (r->kind & DIRECT_WRITE ? PROT_WRITE : 0) | (r->kind & DIRECT_EXEC ? PROT_EXEC : 0);
    if (r->bytes)
        stub_map(s->stub, r->la, r->bytes, prot, r->mem, r->offset);
}

static bool continues(const struct run *r, const struct run *next)
{
    return r->bytes && next->la == r->la + r->bytes && next->offset == r->offset + r->bytes && next->mem == r->mem &&
           !((next->kind ^ r->kind) & (DIRECT_WRITE | DIRECT_EXEC));
}

/* The stub's own pages, and those at the bottom that the host maps for nobody (vm.mmap_min_addr): the guest's there are interpreted. */
static bool not_for_us(const struct stub *stub, uint64_t la)
{
    return la < STUB_BEGIN || (la >= stub->base && la < stub->end);
}

/* Maps the page of `la`, and of its neighbours those that are in use and not mapped. */
static void map_around(struct vcpu *v, struct direct_space *s, uint64_t la)
{
    struct run run = {0};
    uint64_t page = la & PAGE_MASK, first = ALIGN_DOWN(page, AROUND * PAGE_SIZE);
    for (uint64_t at = first; at < first + AROUND * PAGE_SIZE; at += PAGE_SIZE) {
        uint8_t *known = &s->pages[at >> 12];
        struct run next = {.la = at, .bytes = PAGE_SIZE};
        if ((*known && at != page) || not_for_us(s->stub, at))
            continue;
        next.kind = page_kind(v, s, at, at == page, &next);
        if (!next.kind || next.kind == *known)
            continue;
        *known = next.kind;
        if (continues(&run, &next)) {
            run.bytes += PAGE_SIZE;
            continue;
        }
        put_run(s, &run);
        run = next;
    }
    put_run(s, &run);
}

bool direct_settle(struct vcpu *v, struct direct_space *s)
{
    if (s->stale) {
        STAT_ADD(v, direct_flushes, 1);
        unmap_all(s);
    } else {
        unmap_drops(s);
    }
    uint64_t missed = s->missed;
    s->missed = 0;
    if (missed && missed - 1 < STUB_END)
        map_around(v, s, missed - 1);
    if (v->rip < STUB_END && !s->pages[v->rip >> 12])
        map_around(v, s, v->rip);
    if (s->stub->nops) /* two of these cost what a stop of the guest's does */
        s->stops += s->maps++ & 1;
    return stub_flush(s->stub);
}
