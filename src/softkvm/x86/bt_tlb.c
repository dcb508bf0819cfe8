// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What translated code knows of linear addresses: the tables of data pages, which are the TLB, and the cache of code pages. Filled
 * by the MMU's walks, emptied when the guest says so, at the cost of what was filled: each page that has entries is in one of two
 * logs, for pages that survive a write of CR3 and for those that do not. A page whose entries INVLPG drops stays in its log.
 *
 * Who writes where: `writers` leads from a guest page to the linear pages that have write entries for it, so that a page can become
 * code at the cost of these. Another vCPU may look there while this one fills. Either it sees the entry that is being made, or we
 * see that the page has become code: each stores first, then looks (bt_page_protect()).
 */
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/mem.h"

#include <sys/mman.h>

#define HALF (BT_TABLE_PAGES / 2)

static bool has_page(const struct bt_cpu *c, uint64_t page)
{
    for (unsigned ring = 0; ring < BT_RINGS; ring++)
        if (bt_entry(c, ring, page)[MEM_R] | bt_entry(c, ring, page)[MEM_W])
            return true;
    return false;
}

void bt_tlb_clear_page(struct bt_cpu *c, uint64_t page)
{
    if (has_page(c, page)) /* a store to a page that was never filled would make its memory resident */
        for (unsigned ring = 0; ring < BT_RINGS; ring++)
            bt_entry(c, ring, page)[MEM_R] = bt_entry(c, ring, page)[MEM_W] = 0;
}

/* ---- filling ---- */

void bt_tlb_log(struct bt_cpu *c, unsigned which, uint64_t page)
{
    struct bt_log *log = &c->log[which];
    uint64_t *word = &c->logged[which][page / 64], bit = BIT64(page % 64);
    if (*word & bit)
        return;
    *word |= bit;
    if (log->count < BT_FILL_LOG)
        log->page[log->count] = page;
    if (log->count <= BT_FILL_LOG)
        log->count++;
    c->local_high |= which == BT_LOCAL && page >= HALF;
}

static bool writes(const struct bt_cpu *c, uint64_t la, const uint8_t *host)
{
    uint64_t page = bt_table_index(la), delta = (uint64_t)(uintptr_t)host - la;
    return bt_entry(c, BT_KERNEL, page)[MEM_W] == delta || bt_entry(c, BT_USER, page)[MEM_W] == delta;
}

void bt_tlb_note_writer(struct vcpu *v, uint64_t gpa, uint64_t la, const uint8_t *host)
{
    if (gpa >= BT_GPA_MAX)
        return;
    _Atomic uint64_t *w = &v->bt.writers[gpa >> 12].la[la >> 63];
    uint64_t old = atomic_load_explicit(w, memory_order_relaxed), now = la | BT_WRITER_SET;
    if ((old & ~(uint64_t)BT_WRITER_MANY) == now)
        return;
    if (old && ((old & BT_WRITER_MANY) || writes(&v->bt, old & PAGE_MASK, host)))
        now |= BT_WRITER_MANY;
    atomic_store_explicit(w, now, memory_order_relaxed);
}

static void set_write(struct vcpu *v, const struct bt_fill *f)
{
    uint64_t *e = &bt_entry(&v->bt, f->ring, bt_table_index(f->la))[MEM_W], delta = (uint64_t)(uintptr_t)f->host - f->la;
    if (*e == delta)
        return;
    bt_tlb_note_writer(v, f->gpa, f->la, f->host);
    *e = delta;
    if (atomic_load_explicit(&v->vm->nvcpus, memory_order_relaxed) > 1)
        atomic_thread_fence(memory_order_seq_cst);
    if (bt_is_code(v, f->gpa))
        *e = 0;
}

void bt_tlb_fill(struct vcpu *v, const struct bt_fill *f)
{
    struct bt_cpu *c = &v->bt;
    uint64_t page = bt_table_index(f->la);
    bt_tlb_log(c, f->global ? BT_GLOBAL : BT_LOCAL, page);
    if (f->shift > 12)
        bt_bit_set(c->large, f->la << 16 >> 37);
    if (f->shift == 30)
        bt_bit_set(c->giant, f->la << 16 >> 46);
    if (f->read)
        bt_entry(c, f->ring, page)[MEM_R] = (uint64_t)(uintptr_t)f->host - f->la;
    if (f->write)
        set_write(v, f);
}

void bt_tlb_fill_code(struct vcpu *v, const struct bt_fill *f)
{
    struct bt_cpu *c = &v->bt;
    c->xpage[f->ring][f->la >> 12 & (BT_XPAGES - 1)] = (struct bt_xpage){
        .tag = f->la | c->code_tag[f->ring],
        .gpa = f->gpa,
        .global = f->global,
        .host = f->host,
    };
    c->kernel_local |= f->ring == BT_KERNEL && !f->global;
    c->user_code |= f->ring == BT_USER;
    if (f->shift > 12)
        bt_bit_set(c->large, f->la << 16 >> 37);
    if (f->shift == 30)
        bt_bit_set(c->giant, f->la << 16 >> 46);
}

const uint8_t *bt_tlb_code(struct vcpu *v, unsigned ring, uint64_t la)
{
    const struct bt_xpage *x = bt_xpage_find(v, ring, la);
    return x ? x->host + (la & (PAGE_SIZE - 1)) : NULL;
}

/* ---- write permission ---- */

bool bt_tlb_may_write(struct vcpu *v, uint64_t gpa)
{
    const struct bt_writer *w = &v->bt.writers[gpa >> 12];
    return v->bt.on &&
           (atomic_load_explicit(&w->la[0], memory_order_relaxed) | atomic_load_explicit(&w->la[1], memory_order_relaxed));
}

static void unwrite(struct bt_cpu *c, uint64_t page, const uint8_t *host)
{
    uint64_t delta = (uint64_t)(uintptr_t)host - bt_page_la(page);
    for (unsigned ring = 0; ring < BT_RINGS; ring++)
        if (bt_entry(c, ring, page)[MEM_W] == delta)
            bt_entry(c, ring, page)[MEM_W] = 0;
}

void bt_tlb_unwrite(struct vcpu *v, uint64_t gpa, const uint8_t *host)
{
    struct bt_cpu *c = &v->bt;
    if (!c->on)
        return;
    c->revoked++;
    for (unsigned half = 0; half < 2; half++) {
        uint64_t w = atomic_load_explicit(&c->writers[gpa >> 12].la[half], memory_order_relaxed);
        if (w & BT_WRITER_MANY) {
            if (c->log[BT_LOCAL].count > BT_FILL_LOG || c->log[BT_GLOBAL].count > BT_FILL_LOG)
                bt_tlb_flush(v);
            for (unsigned which = BT_LOCAL; which <= BT_GLOBAL; which++)
                for (unsigned n = 0; n < c->log[which].count; n++)
                    unwrite(c, c->log[which].page[n], host);
        } else if (w) {
            unwrite(c, bt_table_index(w), host);
        }
        if (w)
            atomic_store_explicit(&c->writers[gpa >> 12].la[half], 0, memory_order_relaxed);
    }
}

/* ---- flushing ---- */

void bt_code_forget(struct vcpu *v, unsigned ring)
{
    struct bt_cpu *c = &v->bt;
    if (++c->last_tag == PAGE_SIZE) { /* the tags begin anew: nothing may keep an old one */
        for (unsigned r = 0; r < BT_RINGS; r++)
            for (unsigned n = 0; n < BT_XPAGES; n++)
                c->xpage[r][n].tag = 0;
        for (unsigned n = 0; n < BT_SPACES; n++)
            c->space[n].valid = false;
        c->code_tag[BT_KERNEL] = 1;
        c->code_tag[BT_USER] = c->last_tag = 2;
        bt_enter_none(v, BT_KERNEL);
        bt_enter_none(v, BT_USER);
        return;
    }
    c->code_tag[ring] = c->last_tag;
    bt_enter_none(v, ring);
}

static void log_reset(struct bt_cpu *c, unsigned which)
{
    struct bt_log *log = &c->log[which];
    if (log->count > BT_FILL_LOG)
        bt_madvise(c->logged[which], BT_TABLE_PAGES / 8, MADV_DONTNEED);
    else
        for (unsigned n = 0; n < log->count; n++)
            c->logged[which][log->page[n] / 64] = 0;
    log->count = 0;
}

/* Empties the tables of the pages in a log. Where that is too long, of all pages that can be in it. */
static void log_flush(struct bt_cpu *c, unsigned which)
{
    struct bt_log *log = &c->log[which];
    bool all = which == BT_GLOBAL || c->local_high;
    if (log->count > BT_FILL_LOG) {
        for (unsigned ring = 0; ring < BT_RINGS; ring++)
            bt_madvise(bt_entry(c, ring, 0), (all ? BT_TABLE_PAGES : HALF) * 16, MADV_DONTNEED);
    } else {
        for (unsigned n = 0; n < log->count; n++)
            bt_tlb_clear_page(c, log->page[n]);
    }
    log_reset(c, which);
}

void bt_tlb_flush(struct vcpu *v)
{
    struct bt_cpu *c = &v->bt;
    if (!c->on)
        return;
    log_flush(c, BT_LOCAL);
    log_flush(c, BT_GLOBAL);
    bt_madvise(c->large, BT_TABLE_PAGES / 512 / 8, MADV_DONTNEED);
    bt_madvise(c->known_code, BT_TABLE_PAGES / 8, MADV_DONTNEED);
    bt_madvise(c->giant, BT_TABLE_PAGES / BIT64(18) / 8, MADV_DONTNEED);
    c->local_high = false;
    bt_tlb_forget_all(v);
    bt_code_forget(v, BT_KERNEL);
    bt_code_forget(v, BT_USER);
    c->kernel_local = c->user_code = false;
    c->stats.flushes++;
}

void bt_tlb_flush_address_space(struct vcpu *v)
{
    struct bt_cpu *c = &v->bt;
    if (!c->on)
        return;
    log_flush(c, BT_LOCAL);
    c->local_high = false;
    if (c->user_code)
        bt_code_forget(v, BT_USER);
    if (c->kernel_local)
        bt_code_forget(v, BT_KERNEL);
    c->kernel_local = c->user_code = false;
    c->stats.flushes++;
}

/* Code in the region of la, which does not leave its half of the address space, is looked up anew. */
static void leave_code(struct vcpu *v, uint64_t la)
{
    for (unsigned ring = 0; ring < BT_RINGS; ring++)
        if (v->bt.entered[ring].halves & BIT(la >> 63))
            bt_enter_none(v, ring);
}

static void drop_code_page(struct vcpu *v, uint64_t la)
{
    for (unsigned ring = 0; ring < BT_RINGS; ring++) {
        struct bt_xpage *x = bt_xpage_find(v, ring, la);
        if (x)
            x->tag = 0;
    }
}

static void flush_region(struct vcpu *v, uint64_t first, uint64_t pages)
{
    struct bt_cpu *c = &v->bt;
    uint64_t any = 0;
    for (uint64_t page = first; page < first + pages; page++) {
        bt_tlb_clear_page(c, page);
        drop_code_page(v, bt_page_la(page));
    }
    for (uint64_t word = first / 64; word < (first + pages) / 64; word++)
        any |= c->known_code[word];
    if (any)
        leave_code(v, bt_page_la(first));
}

void bt_tlb_flush_page(struct vcpu *v, uint64_t la, unsigned large_shift)
{
    struct bt_cpu *c = &v->bt;
    if (!c->on)
        return;
    uint64_t page = bt_table_index(la);
    if (unlikely(bt_bit(c->giant, page >> 18))) {
        bt_tlb_flush(v);
        return;
    }
    c->stats.flushes++;
    if (bt_bit(c->large, page >> 9) || bt_bit(c->large, (page >> 9) ^ (large_shift == 22))) {
        uint64_t pages = BIT64(large_shift - 12);
        flush_region(v, ALIGN_DOWN(page, pages), pages);
        return;
    }
    bt_tlb_clear_page(c, page);
    drop_code_page(v, la);
    if (bt_bit(c->known_code, page))
        leave_code(v, la);
}
