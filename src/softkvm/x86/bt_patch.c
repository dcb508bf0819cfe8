// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Code that changes: self-modification, JITs, patching by other vCPUs, pages that are code today and data tomorrow.
 *
 * A page that blocks were made from has no write entries, so each store to it comes to bt_code_write(), some hundred nanoseconds
 * dearer than others. A store that leaves a block's bytes as they were, or that hits none, changes nothing: pages that mix code and
 * data stay as they are. A page whose blocks are hit loses these; once it has seen more stores than it would cost to make its other
 * blocks again, it loses them all, and with them its mark: what is being rewritten as a whole, or has become data, is written at
 * full speed until code is next executed there. The kernel's stores to a program's code count for more, since they are the
 * beginning of another use of the page.
 *
 * Most code of a boot or of a large program runs once or twice, and a translation costs as much as interpreting it some ten times; so code
 * is interpreted a few times first. What has been written over begins anew, and the more often a page loses blocks to stores, the more often its code
 * has to run: code that is generated, run once and written over stays with the interpreter, in a page that is written at full speed.
 */
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/mem.h"
#include "softkvm/x86/native.h"

#define STORES_PER_BLOCK 4u /* slow stores that are worth a translation */
#define KERNEL_STORES    8u /* what one by the kernel counts for */
#define PATIENCE_MAX     10
#define CHURN_STEP       16 /* losses that double what code has to run */
#define CHURN_MAX        (5 * CHURN_STEP)
#define WARMTH_MAX       255u

bool bt_is_code(const struct vcpu *v, uint64_t gpa)
{
    const struct bt *bt = v->vm->bt;
    uint64_t page = gpa >> 12;
    return bt && gpa < BT_GPA_MAX && (atomic_load_explicit(&bt->code_pages[page / 64], memory_order_acquire) & BIT64(page % 64));
}

bool bt_page_protected(const struct vcpu *v, uint64_t gpa)
{
    uint64_t page = gpa >> 12;
    return atomic_load_explicit(&v->vm->bt->protected[page / 64], memory_order_acquire) & BIT64(page % 64);
}

/* The mark comes first: from there on nobody gets a write entry anew. Then those that are there are dropped. `alone`: all other
 * vCPUs are held. False when others have to be. */
static bool protect(struct vcpu *v, uint64_t gpa, bool alone)
{
    struct bt *bt = v->vm->bt;
    uint64_t page = gpa >> 12;
    atomic_fetch_or(&bt->code_pages[page / 64], BIT64(page % 64));
    for (unsigned i = 0, n = atomic_load(&v->vm->nvcpus); i < n; i++) {
        struct vcpu *u = atomic_load(&v->vm->vcpus[i]);
        if (u == v || alone)
            mmu_unwrite_page(u, gpa);
        else if (mmu_may_write_page(u, gpa))
            return false;
    }
    atomic_fetch_or(&bt->protected[page / 64], BIT64(page % 64));
    return true;
}

void bt_page_protect(struct vcpu *v, uint64_t gpa)
{
    struct bt *bt = v->vm->bt;
    if (bt_page_protected(v, gpa))
        return;
    gpa &= PAGE_MASK;
    bt_lock(bt);
    bool done = protect(v, gpa, false);
    bt_unlock(bt);
    if (done)
        return;
    vm_exclusive_begin(v);
    protect(v, gpa, true);
    vm_exclusive_end(v);
}

/* With bt->lock held, and without blocks: whoever makes one looks at the mark again. */
static void unprotect(struct bt *bt, struct bt_page *p)
{
    uint64_t page = p->gpa >> 12;
    p->stores = 0;
    p->hit = false;
    atomic_fetch_and(&bt->protected[page / 64], ~BIT64(page % 64));
    atomic_fetch_and(&bt->code_pages[page / 64], ~BIT64(page % 64));
}

uint8_t *bt_warmth(struct bt *bt, uint64_t gpa, uint32_t key)
{
    return &bt->warmth[(gpa * 0x9e3779b97f4a7c15ull + (key & ~(uint32_t)BT_KEY_SINGLE)) >> 40 & (BT_WARMTH - 1)];
}

static uint8_t *churn_of(struct bt *bt, uint64_t gpa)
{
    return &bt->churn[gpa / PAGE_SIZE % BT_CHURN];
}

bool bt_is_cold(struct bt *bt, uint64_t gpa, uint32_t key)
{
    uint8_t *n = bt_warmth(bt, gpa, key);
    unsigned times = __atomic_load_n(n, __ATOMIC_RELAXED), churn = __atomic_load_n(churn_of(bt, gpa), __ATOMIC_RELAXED);
    if (times >= MIN(bt->warm_up << (churn / CHURN_STEP + bt->pressure), WARMTH_MAX))
        return false;
    __atomic_store_n(n, (uint8_t)(times + 1), __ATOMIC_RELAXED);
    return true;
}

static void note_churn(struct bt *bt, uint64_t gpa, bool more)
{
    uint8_t *n = churn_of(bt, gpa);
    __atomic_store_n(n, (uint8_t)(more ? MIN(*n + 1, CHURN_MAX) : 0), __ATOMIC_RELAXED);
}

static bool same_bytes(const uint8_t *a, const uint8_t *b, unsigned n)
{
    uint64_t differ = 0;
    unsigned k = 0;
    for (; k + 8 <= n; k += 8)
        differ |= guest_load(a + k, 8) ^ guest_load(b + k, 8);
    for (; k < n; k++)
        differ |= guest_load(a + k, 1) ^ b[k];
    return !differ;
}

static const uint8_t *page_host(struct vcpu *v, uint64_t gpa)
{
    const struct memslot *slot = vm_slot(v->vm, gpa);
    return slot ? slot->hva + ((gpa & PAGE_MASK) - slot->gpa) : NULL;
}

static bool changed(const struct bt_block *b, const uint8_t *host)
{
    return !host || !same_bytes(host + (b->gpa & (PAGE_SIZE - 1)), bt_bytes(b), b->nbytes);
}

/* ---- a page's blocks against its bytes ---- */

/*
 * A first fetch behind a TLB flush finds most pages as they were. To compare each block is to touch what each of them keeps; so a page that
 * was found unchanged has a sum of those of its 64-byte pieces that hold code, 64 bits of it, and is looked at more closely only when that differs.
 */
static uint64_t mixed(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9e3779b97f4a7c15ull;
    return h << 29 | h >> 35;
}

static uint64_t sum_of(const uint8_t *page, uint64_t chunks)
{
    uint64_t sum = 0;
    for (; chunks; chunks &= chunks - 1) {
        unsigned n = (unsigned)__builtin_ctzll(chunks);
        const volatile uint64_t *w = (const volatile uint64_t *)(const void *)(page + 64 * n);
        uint64_t even = n + 1, odd = ~even; /* two chains of multiplications side by side */
        for (unsigned k = 0; k < 8; k += 2) {
            even = mixed(even, w[k]);
            odd = mixed(odd, w[k + 1]);
        }
        sum += mixed(even, odd);
    }
    return sum;
}

/* With bt->lock held. The comparison and the sum are of the same copy: a device may be writing. */
static bool unchanged(struct bt *bt, struct bt_page *p, const uint8_t *host)
{
    if (p->summed == p->chunks && sum_of(host, p->chunks) == p->sum)
        return true;
    bytes_copy(bt->copy, host, PAGE_SIZE);
    for (const struct bt_block *b = p->blocks; b; b = b->page_next)
        if (changed(b, bt->copy))
            return false;
    p->summed = p->chunks;
    p->sum = sum_of(bt->copy, p->chunks);
    return true;
}

/* Keeps the blocks that are not dead. */
static void filter(struct bt_page *p)
{
    p->chunks = p->nblocks = 0;
    for (struct bt_block **at = &p->blocks; *at;) {
        struct bt_block *b = *at;
        if (b->dead) {
            *at = b->page_next;
        } else {
            b->page_at = at;
            p->chunks |= bt_chunks(b->gpa, b->nbytes);
            p->nblocks++;
            at = &b->page_next;
        }
    }
}

void bt_free_pages(struct bt *bt, struct bt_page **head)
{
    for (struct bt_page **at = head; *at;) {
        struct bt_page *p = *at;
        if (p->blocks) {
            at = &p->hash_next;
        } else {
            unprotect(bt, p);
            *at = p->hash_next;
            bt_page_free(bt, p);
        }
    }
}

/* Drops the page's blocks that have changed, or all; all other vCPUs are held. */
static void drop_blocks(struct vcpu *v, struct bt_page *p, bool all)
{
    struct bt *bt = v->vm->bt;
    const uint8_t *host = page_host(v, p->gpa);
    for (struct bt_block *b = p->blocks; b; b = b->page_next)
        if (all || changed(b, host)) {
            bt_drop(bt, b);
            __atomic_store_n(bt_warmth(bt, b->gpa, b->key), 0, __ATOMIC_RELAXED);
            v->bt.stats.invalidated++;
        }
    filter(p);
    bt_lock(bt);
    if (!p->blocks)
        unprotect(bt, p);
    bt_unlock(bt);
}

void bt_page_verify(struct vcpu *v, uint64_t gpa, const uint8_t *host)
{
    struct bt *bt = v->vm->bt;
    bt_lock(bt);
    struct bt_page *p = bt_page_find(bt, gpa, false);
    bool same = !p || !p->blocks || unchanged(bt, p, host);
    bt_unlock(bt);
    if (same)
        return;
    vm_exclusive_begin(v);
    if ((p = bt_page_find(bt, gpa, false))) { /* one program's code has given way to another's */
        drop_blocks(v, p, true);
        note_churn(bt, gpa, false);
    }
    vm_exclusive_end(v);
}

enum effect { EFFECT_NONE, EFFECT_HIT, EFFECT_ALL };

/* Does the kernel overwrite a program's code? */
static bool is_reuse(const struct vcpu *v, const struct bt_page *p)
{
    return v->cpl != 3 && (p->blocks->key & BT_KEY_USER);
}

/* What is to become of the page behind a store to n bytes at gpa? With bt->lock held. */
static enum effect effect_of(struct vcpu *v, struct bt_page *p, uint64_t gpa, unsigned n)
{
    const uint8_t *host = page_host(v, gpa);
    bool hit = false, kernel = is_reuse(v, p);
    p->stores += kernel ? KERNEL_STORES : 1;
    if (p->chunks & bt_chunks(gpa, n))
        for (struct bt_block *b = p->blocks; b && !hit; b = b->page_next)
            hit = b->gpa < gpa + n && gpa < b->gpa + b->nbytes && changed(b, host);
    p->hit |= hit;
    if ((p->hit || kernel) && p->stores > (STORES_PER_BLOCK * p->nblocks) << p->patience) {
        if (!p->hit && p->patience < PATIENCE_MAX)
            p->patience++; /* it was data beside the code: next time wait longer */
        return EFFECT_ALL;
    }
    return hit ? EFFECT_HIT : EFFECT_NONE;
}

void bt_code_write(struct vcpu *v, uint64_t gpa, unsigned n)
{
    struct bt *bt = v->vm->bt;
    enum effect effect = EFFECT_NONE;
    atomic_thread_fence(memory_order_seq_cst);
    bt_lock(bt);
    struct bt_page *p = bt_page_find(bt, gpa, true);
    if (p && p->blocks)
        effect = effect_of(v, p, gpa, n);
    else if (p)
        unprotect(bt, p); /* data from now on */
    bt_unlock(bt);
    if (effect == EFFECT_NONE)
        return;
    vm_exclusive_begin(v);
    p = bt_page_find(bt, gpa, false);
    if (p && p->blocks) {
        note_churn(bt, gpa, p->hit && !is_reuse(v, p));
        drop_blocks(v, p, effect == EFFECT_ALL);
    }
    vm_exclusive_end(v);
}
