// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What translated code knows of linear addresses: the tables of data pages, which stand in for the TLB, and the cache of code pages. Filled by the MMU's
 * walks, emptied when the guest says so, at the cost of what was filled.
 */
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/mem.h"

#include <sys/mman.h>

static uint64_t table_index(uint64_t la)
{
    return la >> 12 & (BT_TABLE_PAGES - 1);
}

#define LOG_GLOBAL BIT64(63)

static bool has_page(const struct bt_cpu *c, uint64_t n)
{
    for (unsigned ring = 0; ring < BT_RINGS; ring++)
        if (c->table[ring][MEM_R][n] | c->table[ring][MEM_W][n])
            return true;
    return false;
}

void bt_tlb_fill(struct vcpu *v, unsigned mmu_idx, uint64_t la, uintptr_t host_page, bool read, bool write, bool global)
{
    struct bt_cpu *c = &v->bt;
    if (!c->on || mmu_idx > MMU_USER)
        return;
    unsigned ring = mmu_idx == MMU_USER ? BT_USER : BT_KERNEL;
    uint64_t n = table_index(la), delta = host_page - (la & PAGE_MASK);
    if (!has_page(c, n)) {
        if (c->log_count < BT_FILL_LOG)
            c->log[c->log_count] = n | (global ? LOG_GLOBAL : 0);
        if (c->log_count <= BT_FILL_LOG)
            c->log_count++;
    }
    if (read)
        c->table[ring][MEM_R][n] = delta;
    if (write)
        c->table[ring][MEM_W][n] = delta;
}

static void clear_page(struct bt_cpu *c, uint64_t n)
{
    for (unsigned ring = 0; ring < BT_RINGS; ring++)
        c->table[ring][MEM_R][n] = c->table[ring][MEM_W][n] = 0;
}

static void xpages_clear(struct bt_cpu *c, unsigned ring)
{
    for (unsigned n = 0; n < BT_XPAGES; n++)
        c->xpage[ring][n].la = BT_NO_RIP;
}

/* Forgets what is known of code addresses in a ring. */
static void code_forget(struct vcpu *v, unsigned ring)
{
    xpages_clear(&v->bt, ring);
    bt_jumps_clear(v, ring);
}

void bt_tlb_flush(struct vcpu *v)
{
    struct bt_cpu *c = &v->bt;
    if (!c->on)
        return;
    if (c->log_count <= BT_FILL_LOG) {
        for (unsigned n = 0; n < c->log_count; n++)
            clear_page(c, c->log[n] & ~LOG_GLOBAL);
    } else {
        for (unsigned ring = 0; ring < BT_RINGS; ring++)
            for (unsigned acc = MEM_R; acc <= MEM_W; acc++)
                bt_madvise(c->table[ring][acc], BT_TABLE_PAGES * 8, MADV_DONTNEED);
    }
    c->log_count = 0;
    code_forget(v, BT_KERNEL);
    code_forget(v, BT_USER);
    v->bt.kernel_local = v->bt.user_code = false;
    c->stats.flushes++;
}

void bt_tlb_flush_address_space(struct vcpu *v)
{
    struct bt_cpu *c = &v->bt;
    unsigned kept = 0;
    if (!c->on)
        return;
    if (c->log_count > BT_FILL_LOG) {
        bt_tlb_flush(v);
        return;
    }
    for (unsigned n = 0; n < c->log_count; n++)
        if (c->log[n] & LOG_GLOBAL)
            c->log[kept++] = c->log[n];
        else
            clear_page(c, c->log[n]);
    c->log_count = kept;
    if (c->user_code)
        code_forget(v, BT_USER);
    if (c->kernel_local)
        code_forget(v, BT_KERNEL);
    c->kernel_local = c->user_code = false;
    c->stats.flushes++;
}

static void jumps_forget(struct vcpu *v, uint64_t la, unsigned shift)
{
    for (unsigned ring = 0; ring < BT_RINGS; ring++) {
        uint64_t bit;
        if (shift > 12 || (*bt_filter_word(&v->bt, ring, la, &bit) & bit))
            bt_jumps_clear(v, ring);
    }
}

void bt_tlb_flush_range(struct vcpu *v, uint64_t la, unsigned shift)
{
    struct bt_cpu *c = &v->bt;
    if (!c->on)
        return;
    if (c->log_count > BT_FILL_LOG) {
        bt_tlb_flush(v);
        return;
    }
    uint64_t page = table_index(la);
    if (shift == 12) {
        clear_page(c, page);
        for (unsigned ring = 0; ring < BT_RINGS; ring++)
            bt_xpage_of(v, ring, la)->la = BT_NO_RIP;
    } else {
        for (unsigned n = 0; n < c->log_count; n++)
            if ((c->log[n] & ~LOG_GLOBAL) >> (shift - 12) == page >> (shift - 12))
                clear_page(c, c->log[n] & ~LOG_GLOBAL);
        xpages_clear(c, BT_KERNEL);
        xpages_clear(c, BT_USER);
    }
    jumps_forget(v, la, shift);
    c->stats.flushes++;
}

void bt_tlb_unwrite(struct vcpu *v, uintptr_t host_page)
{
    struct bt_cpu *c = &v->bt;
    if (!c->on)
        return;
    if (c->log_count > BT_FILL_LOG) {
        bt_tlb_flush(v);
        return;
    }
    for (unsigned n = 0; n < c->log_count; n++)
        for (unsigned ring = 0; ring < BT_RINGS; ring++) {
            uint64_t *e = &c->table[ring][MEM_W][c->log[n] & ~LOG_GLOBAL];
            uint64_t la = (uint64_t)((int64_t)(c->log[n] << 28) >> 16);
            if (*e && *e + la == host_page)
                *e = 0;
        }
}
