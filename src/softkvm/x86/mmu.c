// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The software TLB's slow side: misses, page crossings, MMIO, watchpoints, alignment checks, faults.
 *
 * translate() is the one place where permissions are decided. It fills a TLB entry with a tag for exactly those kinds of access
 * that need no further look: a write tag only once D is set, the slot is writable and its dirty bit is set. Everything that is not
 * plain RAM never gets a tag, so it always comes back here. CR0.WP, CR4.SMEP/SMAP/PKE, EFER.NX and PKRU are baked into the tags:
 * whoever changes one of them flushes.
 */
#include "softkvm/vm.h"
#include "softkvm/x86/bt_check.h"
#include "softkvm/x86/debug.h"
#include "softkvm/direct.h"
#include "softkvm/x86/mem.h"
#include "softkvm/x86/walk.h"

#define NEIGHBOURS 16ull /* pages of a large page that one miss fills */

/* Where one page's part of an access goes. */
struct target {
    uint8_t *host; /* NULL: MMIO at gpa */
    uint64_t gpa;
    bool code; /* translated code was made from the page: stores must be told to the translator */
};

static bool idx_user(enum mmu_index idx)
{
    return idx == MMU_USER || idx == MMU_USER_AC;
}

struct permit_ctx {
    enum mem_access acc;
    enum mmu_index idx;
};

/* What forbids the access: 0 nothing, PF_PK a protection key, PF_P anything else. SDM vol. 3, 4.6. */
static uint32_t permit(struct vcpu *v, const struct walk *w, const void *ctx)
{
    const struct permit_ctx *c = ctx;
    bool user = idx_user(c->idx);
    if (user && !w->user)
        return PF_P;
    if (c->acc == MEM_X) {
        if (w->nx || (!user && w->user && (v->cr4 & CR4_SMEP)))
            return PF_P;
        return 0;
    }
    if (!user && w->user && (v->cr4 & CR4_SMAP) && c->idx == MMU_KERNEL)
        return PF_P;
    if (c->acc == MEM_W && !w->writable && (user || (v->cr0 & CR0_WP)))
        return PF_P;
    if (w->user && v->long_mode && (v->cr4 & CR4_PKE)) {
        uint32_t key = v->pkru >> (2 * w->pkey);
        if ((key & 1) || (c->acc == MEM_W && (key & 2) && (user || (v->cr0 & CR0_WP))))
            return PF_PK;
    }
    return 0;
}

static _Noreturn void page_fault(struct vcpu *v, uint64_t la, uint32_t error, enum mem_access acc, enum mmu_index idx)
{
    if (acc == MEM_W)
        error |= PF_W;
    if (idx_user(idx))
        error |= PF_U;
    if (acc == MEM_X && (((v->efer & EFER_NX) && (v->cr4 & CR4_PAE)) || (v->cr4 & CR4_SMEP)))
        error |= PF_I;
    v->cr2 = la;
    cpu_fault(v, EXC_PF, error);
}

static struct tlb_entry *tlb_at(struct vcpu *v, unsigned n)
{
    return &v->tlb[n / TLB_SIZE][n % TLB_SIZE];
}

static uint64_t large_bit(uint64_t la)
{
    return BIT64((la >> 21) & 63);
}

static void log_entry(struct vcpu *v, unsigned n, bool global)
{
    uint64_t bit = BIT64(n % 64);
    v->tlb_global[n / 64] = (v->tlb_global[n / 64] & ~bit) | (global ? bit : 0);
    if (v->tlb_logged[n / 64] & bit)
        return;
    v->tlb_logged[n / 64] |= bit;
    if (v->tlb_log_count < TLB_LOG_MAX)
        v->tlb_log[v->tlb_log_count] = (uint16_t)n;
    if (v->tlb_log_count <= TLB_LOG_MAX)
        v->tlb_log_count++;
}

/* The pages around one of a large page, for the translator: the walk has the same result for all of them. */
static void fill_neighbours(struct vcpu *v, struct bt_fill f, const struct memslot *slot)
{
    uint64_t la = f.la, first = la & ~(NEIGHBOURS * PAGE_SIZE - 1), gpa = f.gpa - (la - first);
    if (gpa < slot->gpa || gpa + NEIGHBOURS * PAGE_SIZE > slot->gpa + slot->size)
        return;
    f.write &= !slot->dirty;
    for (uint64_t at = 0; at < NEIGHBOURS * PAGE_SIZE; at += PAGE_SIZE) {
        if (first + at == la)
            continue;
        f.la = first + at;
        f.gpa = gpa + at;
        f.host = slot->hva + (f.gpa - slot->gpa);
        bt_tlb_fill(v, &f);
    }
}

/* Which accesses need no further look, beyond the one that the walk was made for? The other kind of data access comes for free
 * where it is known to be allowed. A page of code may be written, but that is looked at each time. */
static void allowed(struct vcpu *v, enum mmu_index idx, enum mem_access acc, const struct walk *w, const struct memslot *slot,
                    bool ok[3])
{
    ok[MEM_X] = acc == MEM_X;
    ok[MEM_R] = acc == MEM_R || (acc == MEM_W && !permit(v, w, &(struct permit_ctx){MEM_R, idx}));
    ok[MEM_W] = acc == MEM_W || (acc == MEM_R && w->dirty && !(slot->flags & KVM_MEM_READONLY) && !slot->dirty &&
                                 !permit(v, w, &(struct permit_ctx){MEM_W, idx}));
    ok[MEM_W] &= !bt_is_code(v, w->gpa) && !v->bt.check;
}

/* For the translator's tables. */
static void fill_tables(struct vcpu *v, uint64_t la, enum mmu_index idx, const bool ok[3], const struct walk *w,
                        const struct memslot *slot, uint8_t *host)
{
    struct bt_fill f = {
        .la = la & PAGE_MASK,
        .gpa = w->gpa & PAGE_MASK,
        .host = host - (la & (PAGE_SIZE - 1)),
        .ring = idx, /* BT_KERNEL, BT_USER */
        .shift = w->shift,
        .read = ok[MEM_R],
        .write = ok[MEM_W],
        .global = w->global,
    };
    if (ok[MEM_X]) {
        bt_tlb_fill_code(v, &f);
        return;
    }
    bt_tlb_fill(v, &f);
    if (w->shift > 12)
        fill_neighbours(v, f, slot);
}

static void fill(struct vcpu *v, uint64_t la, enum mmu_index idx, enum mem_access acc, const struct walk *w,
                 const struct memslot *slot, uint8_t *host)
{
    struct tlb_entry *e = &v->tlb[idx][(la >> 12) & (TLB_SIZE - 1)];
    uint64_t page = la & PAGE_MASK;
    bool ok[3];
    v->tlb_keys |= (uint16_t)BIT(w->pkey);
    allowed(v, idx, acc, w, slot, ok);
    if (v->bt.on && idx <= MMU_USER) {
        fill_tables(v, la, idx, ok, w, slot, host);
        return;
    }
    if (e->tag[0] != page && e->tag[1] != page && e->tag[2] != page)
        e->tag[MEM_R] = e->tag[MEM_W] = e->tag[MEM_X] = ~0ull;
    e->addend = (uintptr_t)host - la;
    log_entry(v, idx * TLB_SIZE + ((la >> 12) & (TLB_SIZE - 1)), w->global);
    if (w->shift > 12) {
        v->tlb_large |= large_bit(la);
        v->tlb_giant |= w->shift == 30;
    }
    for (unsigned kind = MEM_R; kind <= MEM_X; kind++)
        if (ok[kind])
            e->tag[kind] = page;
    atomic_thread_fence(memory_order_seq_cst); /* bt_page_protect() on another vCPU: one of us sees the other */
    if (bt_is_code(v, w->gpa))
        e->tag[MEM_W] = ~0ull;
}

/* Translates one page's part; raises the guest's fault. Fills the TLB when the page is plain RAM for this access. */
static struct target translate(struct vcpu *v, uint64_t la, enum mem_access acc, enum mmu_index idx, int seg)
{
    struct permit_ctx ctx = {acc, idx};
    struct walk w;
    if (v->code_mode != CODE64)
        la &= v->long_mode && idx == MMU_KERNEL ? ~0ull : 0xffffffff;
    if (unlikely(v->long_mode && !is_canonical(la)))
        cpu_fault(v, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
    STAT_ADD(v, tlb_misses, 1);
    if (!walk_page(v, la, acc == MEM_W, true, permit, &ctx, &w))
        page_fault(v, la, w.error, acc, idx);
    struct memslot *slot = vm_slot(v->vm, w.gpa);
    bool showing = unlikely(bt_check_showing(v)), ram = slot && !(acc == MEM_W && (slot->flags & KVM_MEM_READONLY));
    if (showing && (!ram || v->watch_active))
        bt_check_cut(v);
    if (!ram)
        return (struct target){.gpa = w.gpa};
    uint8_t *host = slot->hva + (w.gpa - slot->gpa);
    if (acc == MEM_W)
        memslot_mark_dirty(slot, w.gpa);
    if (idx != MMU_USER_AC && (acc == MEM_X || !v->watch_active))
        fill(v, la, idx, acc, &w, slot, host);
    if (showing)
        bt_check_filled(v);
    if (showing && acc == MEM_W)
        return (struct target){.host = bt_check_page(v, idx, la, host), .gpa = w.gpa};
    return (struct target){host, w.gpa, acc == MEM_W && bt_is_code(v, w.gpa)};
}

static struct target target_of(struct vcpu *v, uint64_t la, enum mem_access acc, enum mmu_index idx, int seg)
{
    uint8_t *host = acc == MEM_X && v->bt.on ? (uint8_t *)(uintptr_t)bt_tlb_code(v, idx, la) : mmu_host_fast(v, la, 1, acc, idx);
    return host ? (struct target){.host = host} : translate(v, la, acc, idx, seg);
}

static void copy(void *dst, const void *src, unsigned n)
{
    __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}

/* One access of 1, 2, 4 or 8 bytes stays one access, so that other CPUs never see half of it. */
static void copy_part(void *dst, const void *src, unsigned n)
{
    if (n <= 8 && !(n & (n - 1)))
        guest_store(dst, n, guest_load(src, n));
    else
        copy(dst, src, n);
}

static void part_read(struct vcpu *v, struct target t, void *buf, unsigned n)
{
    if (likely(t.host)) {
        copy_part(buf, t.host, n);
        return;
    }
    for (unsigned done = 0; done < n; done += 8)
        cpu_mmio_read(v, t.gpa + done, (uint8_t *)buf + done, MIN(n - done, 8u));
}

static void part_write(struct vcpu *v, struct target t, const void *buf, unsigned n)
{
    if (likely(t.host)) {
        copy_part(t.host, buf, n);
        if (unlikely(t.code))
            bt_code_write(v, t.gpa, n);
        return;
    }
    for (unsigned done = 0; done < n; done += 8)
        cpu_mmio_write(v, t.gpa + done, (const uint8_t *)buf + done, MIN(n - done, 8u));
}

/* Bytes of [la, la+n) that lie in la's page. */
static unsigned first_part(uint64_t la, unsigned n)
{
    uint64_t left = PAGE_SIZE - (la & (PAGE_SIZE - 1));
    return n < left ? n : (unsigned)left;
}

static uint64_t next_page(const struct vcpu *v, uint64_t la, unsigned first)
{
    return v->code_mode == CODE64 || v->long_mode ? la + first : (uint32_t)(la + first);
}

/* Raises every fault of a multi-page access, in address order, before any byte moves. */
static void check_pages(struct vcpu *v, uint64_t la, unsigned n, enum mem_access acc, enum mmu_index idx, int seg)
{
    if (v->code_mode == CODE64 && !is_canonical(la + n - 1)) /* comes before a page fault on the first page */
        cpu_fault(v, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
    for (unsigned part; n; n -= part) {
        part = first_part(la, n);
        target_of(v, la, acc, idx, seg);
        la = next_page(v, la, part);
    }
}

void mmu_read_buf(struct vcpu *v, uint64_t la, void *buf, unsigned n, enum mmu_index idx, int seg)
{
    if (unlikely(v->watch_active))
        debug_data_access(v, la, n, false);
    if (first_part(la, n) < n)
        check_pages(v, la, n, MEM_R, idx, seg);
    for (unsigned part; n; n -= part, buf = (uint8_t *)buf + part) {
        part = first_part(la, n);
        part_read(v, target_of(v, la, MEM_R, idx, seg), buf, part);
        la = next_page(v, la, part);
    }
}

void mmu_write_buf(struct vcpu *v, uint64_t la, const void *buf, unsigned n, enum mmu_index idx, int seg)
{
    if (unlikely(v->watch_active))
        debug_data_access(v, la, n, true);
    if (first_part(la, n) < n)
        check_pages(v, la, n, MEM_W, idx, seg);
    for (unsigned part; n; n -= part, buf = (const uint8_t *)buf + part) {
        part = first_part(la, n);
        part_write(v, target_of(v, la, MEM_W, idx, seg), buf, part);
        la = next_page(v, la, part);
    }
}

/* Alignment is looked at before pages are, but after the address was found canonical. */
static void check_alignment(struct vcpu *v, uint64_t la, unsigned size, enum mmu_index idx)
{
    if (unlikely(idx == MMU_USER_AC && (la & (size - 1)) && (v->code_mode != CODE64 || is_canonical(la))))
        cpu_fault(v, EXC_AC, 0);
}

uint64_t mmu_read_slow(struct vcpu *v, uint64_t la, unsigned size, enum mmu_index idx, int seg)
{
    uint64_t val = 0;
    check_alignment(v, la, size, idx);
    mmu_read_buf(v, la, &val, size, idx, seg);
    return val;
}

void mmu_write_slow(struct vcpu *v, uint64_t la, unsigned size, uint64_t val, enum mmu_index idx, int seg)
{
    check_alignment(v, la, size, idx);
    mmu_write_buf(v, la, &val, size, idx, seg);
}

void *mmu_host_slow(struct vcpu *v, uint64_t la, enum mem_access acc, enum mmu_index idx, int seg)
{
    struct target t = target_of(v, la, acc, idx, seg);
    return (v->watch_active && acc != MEM_X) || t.code ? NULL : t.host;
}

void *mmu_host_run(struct vcpu *v, uint64_t la, enum mem_access acc, enum mmu_index idx, int seg, uint64_t *code)
{
    *code = MMU_NO_CODE;
    if (idx == MMU_USER_AC || v->watch_active)
        return NULL;
    struct target t = target_of(v, la, acc, idx, seg);
    if (t.code)
        *code = t.gpa;
    return t.host;
}

void mmu_fetch_page(struct vcpu *v, uint64_t la)
{
    translate(v, la, MEM_X, v->cpl == 3 ? MMU_USER : MMU_KERNEL, SEG_CS); /* a fault reports the very address */
}

void mmu_probe(struct vcpu *v, uint64_t la, unsigned n, enum mem_access acc, enum mmu_index idx, int seg)
{
    check_pages(v, la, n, acc, idx, seg);
}

void mmu_unwrite_page(struct vcpu *v, uint64_t gpa)
{
    const struct memslot *slot = vm_slot(v->vm, gpa);
    const uint8_t *host = slot ? slot->hva + (gpa - slot->gpa) : NULL;
    bool logged = v->tlb_log_count <= TLB_LOG_MAX;
    unsigned entries = logged ? v->tlb_log_count : MMU_COUNT * TLB_SIZE;
    for (unsigned n = 0; host && n < entries; n++) {
        struct tlb_entry *e = tlb_at(v, logged ? v->tlb_log[n] : n);
        if (e->tag[MEM_W] != ~0ull && e->tag[MEM_W] + e->addend == (uintptr_t)host)
            e->tag[MEM_W] = ~0ull;
    }
    bt_tlb_unwrite(v, gpa, host);
    direct_unwrite(v, gpa);
}

bool mmu_may_write_page(struct vcpu *v, uint64_t gpa)
{
    return *(volatile unsigned *)&v->tlb_log_count || bt_tlb_may_write(v, gpa) || direct_may_write(v, gpa);
}

static void clear_entry(struct tlb_entry *e)
{
    e->tag[MEM_R] = e->tag[MEM_W] = e->tag[MEM_X] = ~0ull;
}

/* Clears the filled entries that lie in the same 2^shift bytes as la. */
static void flush_filled(struct vcpu *v, uint64_t la, unsigned shift)
{
    bool logged = v->tlb_log_count <= TLB_LOG_MAX;
    unsigned n = logged ? v->tlb_log_count : MMU_COUNT * TLB_SIZE;
    for (unsigned i = 0; i < n; i++) {
        struct tlb_entry *e = tlb_at(v, logged ? v->tlb_log[i] : i);
        for (unsigned acc = 0; acc < 3; acc++)
            if (e->tag[acc] >> shift == la >> shift)
                e->tag[acc] = ~0ull;
    }
}

static void flush_tlb(struct vcpu *v)
{
    bool logged = v->tlb_log_count <= TLB_LOG_MAX;
    unsigned n = logged ? v->tlb_log_count : MMU_COUNT * TLB_SIZE;
    for (unsigned i = 0; i < n; i++) {
        unsigned at = logged ? v->tlb_log[i] : i;
        clear_entry(tlb_at(v, at));
        v->tlb_logged[at / 64] &= ~BIT64(at % 64);
    }
    v->tlb_log_count = 0;
    v->tlb_large = 0;
    v->tlb_giant = false;
    v->fetch_page = ~0ull;
    STAT_ADD(v, tlb_flushes, 1);
}

void mmu_flush_all(struct vcpu *v)
{
    v->tlb_keys = 1;
    flush_tlb(v);
    bt_tlb_flush(v);
    direct_note_all(v);
}

/* The interpreter's own TLB keeps nothing of another address space. */
static void flush_tlb_local(struct vcpu *v)
{
    if (v->tlb_log_count > TLB_LOG_MAX) {
        flush_tlb(v);
        return;
    }
    unsigned kept = 0;
    for (unsigned i = 0; i < v->tlb_log_count; i++) {
        unsigned at = v->tlb_log[i];
        if (v->tlb_global[at / 64] & BIT64(at % 64)) {
            v->tlb_log[kept++] = (uint16_t)at;
        } else {
            clear_entry(tlb_at(v, at));
            v->tlb_logged[at / 64] &= ~BIT64(at % 64);
        }
    }
    v->tlb_log_count = kept;
    v->fetch_page = ~0ull;
    STAT_ADD(v, tlb_flushes, 1);
}

void mmu_flush_address_space(struct vcpu *v)
{
    flush_tlb_local(v);
    bt_tlb_flush_address_space(v);
    direct_note_pcid(v, v->cr3 & 0xfff);
}

void mmu_flush_local(struct vcpu *v)
{
    mmu_flush_address_space(v);
    bt_tlb_forget_all(v);
    direct_note_all(v);
}

void mmu_switch_space(struct vcpu *v, unsigned from, unsigned to, bool keep)
{
    if (from == to && keep)
        return;
    flush_tlb_local(v);
    bt_tlb_switch(v, from, to, keep);
}

void mmu_flush_pcid(struct vcpu *v, unsigned pcid)
{
    bt_tlb_forget(v, pcid);
    direct_note_pcid(v, pcid);
}

void mmu_flush_page(struct vcpu *v, uint64_t la)
{
    unsigned shift = v->long_mode || (v->cr4 & CR4_PAE) ? 21 : 22;
    for (unsigned idx = 0; idx < MMU_COUNT && v->tlb_log_count; idx++)
        clear_entry(&v->tlb[idx][(la >> 12) & (TLB_SIZE - 1)]);
    if (v->tlb_large & large_bit(la & ~(BIT64(22) - 1)) || v->tlb_large & large_bit(la | BIT64(21)))
        flush_filled(v, la, shift);
    if (v->tlb_giant)
        flush_filled(v, la, 30);
    bt_tlb_flush_page(v, la, shift);
    direct_note_page(v, la);
    v->fetch_page = ~0ull;
}

void mmu_set_pkru(struct vcpu *v, uint32_t pkru)
{
    uint32_t differ = v->pkru ^ pkru;
    v->pkru = pkru;
    for (unsigned key = 0; key < 16; key++)
        if ((differ >> 2 * key & 3) && (v->tlb_keys >> key & 1)) {
            mmu_flush_all(v);
            return;
        }
}

void mmu_init(struct vcpu *v)
{
    v->tlb_log_count = TLB_LOG_MAX + 1;
    mmu_flush_all(v);
}
