// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The code cache: blocks by physical address and mode, pages that hold them, links between them, and how all of that goes away.
 *
 * Host code and bookkeeping are only ever appended to the current piece (struct bt). A dropped block leaves the tables, and what leads to it leads to exits; its
 * memory comes back when its piece is emptied. So a vCPU may at any time still be inside a dropped block; it is held at an instruction's boundary
 * while the block is dropped, and does not go back into it. A piece is emptied in steps, between which the others go on: at each a number of its
 * blocks is dropped, and at the last the known targets of branches that lie there go, and the piece is filled anew.
 *
 * Not all pieces are used from the start. What a guest runs once, as it starts, need not stay: more pieces are taken only when much of what is translated
 * had been emptied away before. When that is so with all of them in use, what runs has no room, and a block has to run more often before it is
 * translated; what is emptied away begins its warm-up anew, so that the seldom used stays out.
 */
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/mem.h"
#include "softkvm/x86/native.h"

#include <sys/mman.h>

#ifndef MADV_COLLAPSE /* Linux 6.1 */
#define MADV_COLLAPSE 25
#endif

void *bt_alloc(struct bt *bt, uint64_t bytes)
{
    bytes = ALIGN_UP(bytes, 8u);
    if (bytes > (bt->current + 1ull) * bt->piece - bt->arena_used)
        return NULL;
    void *p = bt->arena + bt->arena_used;
    bt->arena_used += bytes;
    return p;
}

static uint32_t first_block(const struct bt *bt, uint32_t piece)
{
    return piece * (bt->piece / BT_MIN_BLOCK);
}

bool bt_room(const struct bt *bt)
{
    uint64_t end = (bt->current + 1ull) * bt->piece;
    return end - bt->used > 2 * BT_MAX_CODE && end - bt->arena_used > 16384 && bt->nblocks < first_block(bt, bt->current + 1) &&
           (bt->npages < BT_MAX_PAGES || bt->free_pages);
}

void bt_lock(struct bt *bt)
{
    while (atomic_exchange_explicit(&bt->lock, 1, memory_order_acquire))
        while (atomic_load_explicit(&bt->lock, memory_order_relaxed))
            __builtin_ia32_pause();
}

void bt_unlock(struct bt *bt)
{
    atomic_store_explicit(&bt->lock, 0, memory_order_release);
}

static unsigned hash_of(uint64_t gpa, uint32_t key)
{
    return (unsigned)((gpa * 0x9e3779b97f4a7c15ull + key) >> (64 - BT_HASH_BITS));
}

struct bt_block *bt_hash_find(struct bt *bt, uint64_t gpa, uint32_t key)
{
    struct bt_block *b = __atomic_load_n(&bt->hash[hash_of(gpa, key)], __ATOMIC_ACQUIRE);
    while (b && (b->gpa != gpa || b->key != key))
        b = b->hash_next;
    return b;
}

static struct bt_page *page_new(struct bt *bt)
{
    struct bt_page *p = bt->free_pages;
    if (p)
        bt->free_pages = p->hash_next;
    else if (bt->npages < BT_MAX_PAGES)
        p = &bt->pool[bt->npages++];
    return p;
}

void bt_page_free(struct bt *bt, struct bt_page *p)
{
    p->hash_next = bt->free_pages;
    bt->free_pages = p;
}

struct bt_page *bt_page_find(struct bt *bt, uint64_t gpa, bool create)
{
    struct bt_page **head = &bt->pages[(gpa >> 12) & (ARRAY_SIZE(bt->pages) - 1)], *p = *head;
    while (p && p->gpa != (gpa & PAGE_MASK))
        p = p->hash_next;
    if (!p && create && (p = page_new(bt))) {
        *p = (struct bt_page){.gpa = gpa & PAGE_MASK, .hash_next = *head};
        *head = p;
    }
    return p;
}

/* The block's bit among those that were emptied away. */
static uint64_t *evicted_word(struct bt *bt, const struct bt_block *b, uint64_t *bit)
{
    uint64_t h = (b->gpa * 0x9e3779b97f4a7c15ull + b->key) >> 44;
    *bit = BIT64(h % 64);
    return &bt->evicted[h / 64];
}

#define CLOSED_BYTES 17 /* of close_entry() */

void bt_insert(struct bt *bt, struct bt_block *b)
{
    struct bt_block **head = &bt->hash[hash_of(b->gpa, b->key)];
    struct bt_page *p = bt_page_find(bt, b->gpa, true);
    b->hash_next = *head;
    bt->blocks[bt->nblocks++] = b;
    __atomic_store_n(head, b, __ATOMIC_RELEASE);
    bt->used = MAX(bt->used, b->code - b->entry + CLOSED_BYTES);
    uint64_t bit, *word = evicted_word(bt, b, &bit);
    bt->made++;
    bt->remade += !!(*word & bit);
    if (!p)
        return; /* bt_room() has seen to it that this does not happen */
    b->page_next = p->blocks;
    b->page_at = &p->blocks;
    if (p->blocks)
        p->blocks->page_at = &b->page_next;
    p->blocks = b;
    p->chunks |= bt_chunks(b->gpa, b->nbytes);
    p->nblocks++;
}

/* The others of the page are not looked at: which of its 64-byte pieces hold code is known less well from now on. */
static void leave_page(struct bt *bt, struct bt_block *b)
{
    *b->page_at = b->page_next;
    if (b->page_next)
        b->page_next->page_at = b->page_at;
    bt->pool[b->slot].nblocks--;
}

static void set_jump(struct bt *bt, const struct bt_link *l, uint32_t target)
{
    atomic_store_explicit((_Atomic uint32_t *)(void *)(bt->rw + l->at), target - (l->at + 4), memory_order_release);
}

void bt_link_set(struct bt *bt, struct bt_link *l, struct bt_block *to)
{
    if (l->to)
        return;
    l->to = to;
    l->next_in = to->in;
    to->in = l;
    set_jump(bt, l, to->code - (l->entry ? to->entry_link : 0));
}

static void unlink_out(struct bt_block *b)
{
    for (unsigned n = 0; n < b->nlinks; n++) {
        struct bt_link *l = &bt_links(b)[n];
        if (!l->to)
            continue;
        struct bt_link **at = &l->to->in;
        while (*at && *at != l)
            at = &(*at)->next_in;
        if (*at)
            *at = l->next_in;
        l->to = NULL;
    }
}

static void unlink_in(struct bt *bt, struct bt_block *b)
{
    for (struct bt_link *l = b->in, *next; l; l = next) {
        next = l->next_in;
        l->to = NULL;
        set_jump(bt, l, l->at + (uint32_t)l->stub);
    }
    b->in = NULL;
}

/* Whoever still knows the block's way in comes out again with its address. */
static void close_entry(struct bt *bt, const struct bt_block *b)
{
    struct emit e = {.p = bt->rw + b->code - b->entry, .base = bt->rw};
    e_store_imm32(&e, BT_OFF(exit_off), b->gpa & (PAGE_SIZE - 1));
    e_jump_to(&e, bt->rw + bt->thunk.exit_stale);
}

void bt_drop(struct bt *bt, struct bt_block *b)
{
    struct bt_block **at = &bt->hash[hash_of(b->gpa, b->key)];
    while (*at && *at != b)
        at = &(*at)->hash_next;
    if (*at)
        *at = b->hash_next;
    unlink_out(b);
    unlink_in(bt, b);
    close_entry(bt, b);
    b->dead = true;
}

struct bt_block *bt_block_at(struct bt *bt, uint32_t off)
{
    uint32_t piece = MIN(off / bt->piece, BT_REGIONS - 1u), lo = first_block(bt, piece);
    uint32_t end = piece == bt->current ? bt->nblocks : bt->ends[piece].blocks, hi = end;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (bt->blocks[mid]->code + bt->blocks[mid]->code_len <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < end && bt->blocks[lo]->code <= off ? bt->blocks[lo] : NULL;
}

/* Branches do not lead to the current piece any more. */
static void drop_jumps(struct softkvm_vm *vm)
{
    const struct bt *bt = vm->bt;
    uint64_t rx = (uint64_t)(uintptr_t)bt->rx, lo = rx + bt->used, hi = rx + (bt->current + 1ull) * bt->piece;
    for (unsigned i = 0, n = atomic_load(&vm->nvcpus); i < n; i++) {
        struct vcpu *u = atomic_load(&vm->vcpus[i]);
        bt_jumps_drop(u, BT_KERNEL, lo, hi);
        bt_jumps_drop(u, BT_USER, lo, hi);
    }
}

static void note_end(struct bt *bt)
{
    bt->ends[bt->current].blocks = bt->nblocks;
    bt->ends[bt->current].code = bt->used;
    bt->ends[bt->current].arena = bt->arena_used;
}

struct bt_usage bt_usage(struct softkvm_vm *vm)
{
    struct bt *bt = vm->bt;
    struct bt_usage u = {0};
    if (!bt)
        return u;
    bt_lock(bt);
    note_end(bt);
    for (uint32_t n = 0; n < bt->npieces && bt->ends[n].code; n++) {
        u.blocks += bt->ends[n].blocks - first_block(bt, n);
        u.code += bt->ends[n].code - n * bt->piece;
        u.tables += bt->ends[n].arena - (uint64_t)n * bt->piece;
    }
    u.code_limit = bt->size;
    u.flushes = bt->generation;
    bt_unlock(bt);
    u.flush_max = atomic_load(&bt->hold_max);
    u.flush_cpu_max = atomic_load(&bt->hold_cpu_max);
    return u;
}

/*
 * A piece that is full becomes one huge page of the host, if that can be had: translated code is several times as long as the guest's, and the host's
 * CPU has no room for the addresses of that many small pages. The other vCPUs go on meanwhile; the memory is the same. It is hardly written any more.
 */
void bt_collapse(struct bt *bt)
{
    uint64_t full = likely(!atomic_load(&bt->full)) ? 0 : atomic_exchange(&bt->full, 0);
    for (uint64_t left = full; left; left &= left - 1)
        bt_madvise(bt->rw + (unsigned)__builtin_ctzll(left) * (uint64_t)bt->piece, bt->piece, MADV_DONTNEED);
    for (full &= ~atomic_fetch_or(&bt->huge, full); full && bt->piece == HUGE_PAGE; full &= full - 1) {
        uint64_t at = (unsigned)__builtin_ctzll(full) * (uint64_t)HUGE_PAGE;
        bt_madvise((void *)(uintptr_t)(bt->rx + at), HUGE_PAGE, MADV_COLLAPSE);
    }
}

#define PRESSURE_MAX 2

/* Which piece is to be emptied now that the current one is full? */
static uint32_t choose_piece(struct bt *bt)
{
    bool again = bt->remade > bt->made / 4;
    if (again && bt->allowed < bt->npieces)
        bt->allowed = MIN(bt->allowed + bt->allowed / 2, bt->npieces);
    else if (again && bt->live == bt->npieces)
        bt->pressure = MIN(bt->pressure + 1, (uint32_t)PRESSURE_MAX);
    else if (bt->remade < bt->made / 8 && bt->pressure)
        bt->pressure--;
    if (bt->nevicted > ARRAY_SIZE(bt->evicted) * 64 / 8) {
        bytes_fill(bt->evicted, 0, sizeof bt->evicted);
        bt->nevicted = 0;
    }
    return bt->live < bt->allowed ? bt->live++ : (bt->current + 1) % bt->live;
}

static void empty_away(struct bt *bt, struct bt_block *b)
{
    uint64_t bit, *word = evicted_word(bt, b, &bit);
    bt_drop(bt, b);
    leave_page(bt, b);
    *bt_warmth(bt, b->gpa, b->key) = 0;
    bt->nevicted += !(*word & bit);
    *word |= bit;
}

/* The chosen piece holds no block any more: it is the current one. */
static void use_next(struct bt *bt)
{
    for (unsigned n = 0; n < ARRAY_SIZE(bt->pages); n++)
        bt_free_pages(bt, &bt->pages[n]);
    note_end(bt);
    atomic_fetch_or(&bt->full, BIT64(bt->current));
    bt->current = bt->next;
    bt->nblocks = first_block(bt, bt->current);
    bt->used = bt->current ? bt->current * bt->piece : bt->start;
    bt->arena_used = (uint64_t)bt->current * bt->piece;
    bt->made = bt->remade = 0;
    bt->generation++;
}

void bt_evict(struct vcpu *v)
{
    struct bt *bt = v->vm->bt;
    bt_lock(bt); /* against bt_usage() */
    if (bt->next == bt->current) {
        bt->next = choose_piece(bt);
        bt->next_block = first_block(bt, bt->next);
    }
    for (unsigned n = 0; n < bt->evict_step && bt->next_block < bt->ends[bt->next].blocks; n++) {
        struct bt_block *b = bt->blocks[bt->next_block++];
        if (!b->dead)
            empty_away(bt, b);
    }
    bool done = bt->next_block >= bt->ends[bt->next].blocks;
    if (done)
        use_next(bt);
    bt_unlock(bt);
    if (!done)
        return;
    drop_jumps(v->vm);
    v->bt.stats.flushes++;
    v->bt.stats.evictions++;
}
