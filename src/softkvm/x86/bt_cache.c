// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The code cache: blocks by physical address and mode, pages that hold them, links between them, and how all of that goes away.
 *
 * Host code and bookkeeping are only ever appended. A dropped block leaves the tables, and the jumps that lead to it lead to their
 * exits again; its memory comes back when the cache is full and everything is dropped. So a vCPU may at any time still be inside a
 * dropped block; it is held at an instruction's boundary while the block is dropped, and bt_loop() does not go back into it.
 */
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/mem.h"
#include "softkvm/x86/native.h"

void *bt_alloc(struct bt *bt, uint64_t bytes)
{
    bytes = ALIGN_UP(bytes, 16u);
    if (bytes > bt->arena_size - bt->arena_used)
        return NULL;
    void *p = bt->arena + bt->arena_used;
    bt->arena_used += bytes;
    return p;
}

bool bt_room(const struct bt *bt)
{
    return bt->size - bt->used > 2 * BT_MAX_CODE && bt->arena_size - bt->arena_used > 16384 && bt->nblocks < BT_MAX_BLOCKS;
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

struct bt_page *bt_page_find(struct bt *bt, uint64_t gpa, bool create)
{
    struct bt_page **head = &bt->pages[(gpa >> 12) & (ARRAY_SIZE(bt->pages) - 1)], *p = *head;
    while (p && p->gpa != (gpa & PAGE_MASK))
        p = p->hash_next;
    if (!p && create && (p = bt_alloc(bt, sizeof *p))) {
        *p = (struct bt_page){.gpa = gpa & PAGE_MASK, .hash_next = *head};
        *head = p;
    }
    return p;
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
    if (!p)
        return; /* bt_room() has seen to it that this does not happen */
    b->page_next = p->blocks;
    p->blocks = b;
    p->chunks |= bt_chunks(b->gpa, b->nbytes);
    p->nblocks++;
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
    set_jump(bt, l, to->code - (l->entry ? to->entry : 0));
}

static void unlink_out(struct bt_block *b)
{
    for (unsigned n = 0; n < b->nlinks; n++) {
        struct bt_link *l = &b->links[n];
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

/* Whoever still knows the block's way in, which has RAX at home and the flags saved, comes out again with its address. */
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
    b->dead = true;
    close_entry(bt, b);
}

static void all_jumps_clear(struct softkvm_vm *vm)
{
    for (unsigned i = 0, n = atomic_load(&vm->nvcpus); i < n; i++) {
        bt_jumps_clear(atomic_load(&vm->vcpus[i]), BT_KERNEL);
        bt_jumps_clear(atomic_load(&vm->vcpus[i]), BT_USER);
        bt_tlb_forget_jumps(atomic_load(&vm->vcpus[i]));
    }
}

void bt_drop_all(struct vcpu *v)
{
    struct bt *bt = v->vm->bt;
    bytes_fill(bt->hash, 0, sizeof bt->hash);
    bytes_fill(bt->pages, 0, sizeof bt->pages);
    for (uint32_t n = 0; n < bt->nblocks; n++)
        bt->blocks[n]->dead = true;
    bt->nblocks = 0;
    bt->generation++;
    bt->used = bt->start;
    bytes_fill(bt->arena, 0, bt->arena_used);
    bt->arena_used = 0;
    all_jumps_clear(v->vm);
    v->bt.stats.flushes++;
}
