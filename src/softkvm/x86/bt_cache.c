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

#define CHUNK 64u

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
    struct bt_block *b = bt->hash[hash_of(gpa, key)];
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

static uint64_t chunk_mask(uint64_t gpa, unsigned n)
{
    unsigned first = (gpa & (PAGE_SIZE - 1)) / CHUNK, last = (unsigned)(((gpa & (PAGE_SIZE - 1)) + n - 1) / CHUNK);
    return (~0ull << first) & (~0ull >> (63 - MIN(last, 63u)));
}

void bt_insert(struct bt *bt, struct bt_block *b)
{
    struct bt_block **head = &bt->hash[hash_of(b->gpa, b->key)];
    struct bt_page *p = bt_page_find(bt, b->gpa, true);
    b->hash_next = *head;
    *head = b;
    bt->blocks[bt->nblocks++] = b;
    if (!p)
        return; /* bt_room() has seen to it that this does not happen */
    b->page_next = p->blocks;
    p->blocks = b;
    p->chunks |= chunk_mask(b->gpa, b->nbytes);
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
    set_jump(bt, l, to->code);
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
        set_jump(bt, l, l->stub);
    }
    b->in = NULL;
}

/* Takes a block out of everything but its page's list. */
static void drop(struct bt *bt, struct bt_block *b)
{
    struct bt_block **at = &bt->hash[hash_of(b->gpa, b->key)];
    while (*at && *at != b)
        at = &(*at)->hash_next;
    if (*at)
        *at = b->hash_next;
    unlink_out(b);
    unlink_in(bt, b);
    b->dead = true;
}

void bt_jumps_clear(struct vcpu *v, unsigned ring)
{
    uint64_t *p = &v->bt.jump[ring].e[0].rip, n = sizeof v->bt.jump[ring] / 8;
    __asm__ volatile("rep stosq" : "+D"(p), "+c"(n) : "a"(BT_NO_RIP) : "memory");
    v->bt.jump[ring].e[0].rip = BT_NO_RIP | 2; /* BT_NO_RIP is looked for here, this elsewhere: a branch to either finds nothing */
}

static void all_jumps_clear(struct softkvm_vm *vm)
{
    for (unsigned i = 0, n = atomic_load(&vm->nvcpus); i < n; i++) {
        bt_jumps_clear(atomic_load(&vm->vcpus[i]), BT_KERNEL);
        bt_jumps_clear(atomic_load(&vm->vcpus[i]), BT_USER);
    }
}

static bool hit(const struct bt_block *b, uint64_t gpa, unsigned n)
{
    return b->gpa < gpa + n && gpa < b->gpa + b->nbytes;
}

void bt_drop_range(struct vcpu *v, uint64_t gpa, unsigned n)
{
    struct bt *bt = v->vm->bt;
    struct bt_page *p = bt_page_find(bt, gpa, false);
    bool any = false;
    if (!p)
        return;
    p->chunks = 0;
    for (struct bt_block **at = &p->blocks; *at;) {
        struct bt_block *b = *at;
        if (hit(b, gpa, n)) {
            *at = b->page_next;
            drop(bt, b);
            v->bt.stats.invalidated++;
            any = true;
        } else {
            p->chunks |= chunk_mask(b->gpa, b->nbytes);
            at = &b->page_next;
        }
    }
    if (any)
        all_jumps_clear(v->vm);
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

static bool same_bytes(const uint8_t *a, const uint8_t *b, unsigned n)
{
    uint64_t differ = 0;
    unsigned k = 0;
    for (; k + 8 <= n; k += 8)
        differ |= *(const volatile uint64_t *)(const void *)(a + k) ^ *(const uint64_t *)(const void *)(b + k);
    for (; k < n; k++)
        differ |= *(const volatile uint8_t *)(a + k) ^ b[k];
    return !differ;
}

void bt_page_verify(struct vcpu *v, uint64_t gpa, const uint8_t *host)
{
    struct bt *bt = v->vm->bt;
    bool same = true;
    bt_lock(bt);
    struct bt_page *p = bt_page_find(bt, gpa, false);
    for (struct bt_block *b = p ? p->blocks : NULL; b && same; b = b->page_next) {
        same = same_bytes(host + (b->gpa & (PAGE_SIZE - 1)), b->bytes, b->nbytes);
    }
    bt_unlock(bt);
    if (same)
        return;
    vm_exclusive_begin(v);
    bt_drop_range(v, gpa & PAGE_MASK, PAGE_SIZE);
    vm_exclusive_end(v);
}

bool bt_is_code(const struct vcpu *v, uint64_t gpa)
{
    const struct bt *bt = v->vm->bt;
    uint64_t page = gpa >> 12;
    return bt && gpa < BT_GPA_MAX && (atomic_load_explicit(&bt->code_pages[page / 64], memory_order_acquire) & BIT64(page % 64));
}

/* Takes everybody's write permission away, at the price of those who have it. */
void bt_page_protect(struct vcpu *v, uint64_t gpa)
{
    struct bt *bt = v->vm->bt;
    uint64_t page = gpa >> 12;
    if (bt_is_code(v, gpa))
        return;
    gpa &= PAGE_MASK;
    atomic_fetch_or(&bt->code_pages[page / 64], BIT64(page % 64)); /* from here on nobody gets it anew */
    mmu_unwrite_page(v, gpa);
    bool others = false;
    for (unsigned i = 0, n = atomic_load(&v->vm->nvcpus); i < n; i++)
        others |= atomic_load(&v->vm->vcpus[i]) != v && mmu_may_write_page(atomic_load(&v->vm->vcpus[i]), gpa);
    if (!others)
        return;
    vm_exclusive_begin(v);
    for (unsigned i = 0, n = atomic_load(&v->vm->nvcpus); i < n; i++)
        mmu_unwrite_page(atomic_load(&v->vm->vcpus[i]), gpa);
    vm_exclusive_end(v);
}

void bt_code_write(struct vcpu *v, uint64_t gpa, unsigned n)
{
    struct bt *bt = v->vm->bt;
    atomic_thread_fence(memory_order_seq_cst);
    bt_lock(bt);
    struct bt_page *p = bt_page_find(bt, gpa, false);
    bool any = p && (p->chunks & chunk_mask(gpa, n));
    if (any) {
        any = false;
        for (struct bt_block *b = p->blocks; b && !any; b = b->page_next)
            any = hit(b, gpa, n);
    }
    bt_unlock(bt);
    if (!any)
        return;
    vm_exclusive_begin(v);
    bt_drop_range(v, gpa, n);
    vm_exclusive_end(v);
}
