// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Address spaces that are not current, by PCID. There is one set of tables; the entries of the others lie in lists. A switch moves
 * the current space's entries to a list and fills the tables from the other's, which costs a few nanoseconds for each page in use,
 * where a miss costs hundreds.
 *
 * A page may become code while a space with a write entry for it is not current: each is looked at when it comes back.
 */
#include "softkvm/x86/bt_priv.h"
#include "softkvm/x86/mem.h"

static struct bt_space *find(struct bt_cpu *c, unsigned pcid)
{
    for (unsigned n = 0; n < BT_SPACES; n++)
        if (c->space[n].valid && c->space[n].pcid == pcid)
            return &c->space[n];
    return NULL;
}

/* The place for a space that is being left: a free one, or that of the space that was left longest ago. */
static struct bt_space *place(struct bt_cpu *c)
{
    struct bt_space *best = &c->space[0];
    for (unsigned n = 0; n < BT_SPACES; n++) {
        struct bt_space *s = &c->space[n];
        if (!s->valid)
            return s;
        if (s->used < best->used)
            best = s;
    }
    return best;
}

/* The page's entries as one record; false when it has none. */
static bool record(const struct bt_cpu *c, uint64_t page, struct bt_saved *r)
{
    *r = (struct bt_saved){.page = page};
    for (unsigned at = 0; at < 2 * BT_RINGS; at++) {
        uint64_t delta = bt_entry(c, at / 2, page)[at % 2];
        if (!delta ||
            (r->delta && delta != r->delta)) /* more than one can only be when the guest owes us an INVLPG: the first will do */
            continue;
        r->delta = delta;
        r->page |= BIT64(BT_SAVED_SHIFT + at);
    }
    return r->delta != 0;
}

/* Empties the local log into a list, as far as that has room. */
static void save(struct vcpu *v, unsigned pcid)
{
    struct bt_cpu *c = &v->bt;
    struct bt_log *log = &c->log[BT_LOCAL];
    if (log->count > BT_FILL_LOG)
        return;
    struct bt_space *s = place(c);
    s->valid = true;
    s->pcid = (uint16_t)pcid;
    s->used = ++c->uses;
    s->code_tag = c->code_tag[BT_USER];
    c->user_code = true; /* the tag is this space's now, also if none of its code has run: the next one needs another */
    s->count = 0;
    for (unsigned n = 0; n < log->count && s->count < BT_SPACE_MAX; n++)
        if (record(c, log->page[n], &s->saved[s->count]))
            s->count++;
}

static uint64_t gpa_of(const struct slot_table *t, const uint8_t *host)
{
    for (unsigned n = 0; n < t->count; n++)
        if ((uint64_t)(host - t->slots[n].hva) < t->slots[n].size)
            return t->slots[n].gpa + (uint64_t)(host - t->slots[n].hva);
    return BT_GPA_MAX;
}

static const uint8_t *host_of(const struct bt_saved *r)
{
    return (const uint8_t *)(uintptr_t)(bt_page_la(r->page) + r->delta);
}

#define ALL_WRITES (BIT64(BT_SAVED_SHIFT + 2 * BT_KERNEL + MEM_W) | BIT64(BT_SAVED_SHIFT + 2 * BT_USER + MEM_W))

/* Takes the right to write away from what has become code. */
static void check_writes(struct vcpu *v, const struct bt_space *s, const struct slot_table *t)
{
    for (unsigned n = 0; n < s->count; n++) {
        const struct bt_saved *r = &s->saved[n];
        if ((r->page & ALL_WRITES) && bt_is_code(v, gpa_of(t, host_of(r))))
            for (unsigned ring = 0; ring < BT_RINGS; ring++)
                bt_entry(&v->bt, ring, r->page & (BT_TABLE_PAGES - 1))[MEM_W] = 0;
    }
}

static void restore(struct vcpu *v, struct bt_space *s)
{
    struct bt_cpu *c = &v->bt;
    const struct slot_table *t = atomic_load_explicit(&v->vm->slots, memory_order_acquire);
    for (unsigned n = 0; n < s->count; n++) {
        const struct bt_saved *r = &s->saved[n];
        uint64_t page = r->page & (BT_TABLE_PAGES - 1);
        bt_tlb_log(c, BT_LOCAL, page);
        if (r->page & ALL_WRITES)
            bt_tlb_note_writer(v, gpa_of(t, host_of(r)), bt_page_la(page), host_of(r));
        for (unsigned at = 0; at < 2 * BT_RINGS; at++)
            if (r->page & BIT64(BT_SAVED_SHIFT + at))
                bt_entry(c, at / 2, page)[at % 2] = r->delta;
    }
    atomic_thread_fence(memory_order_seq_cst);
    check_writes(v, s, t);
    c->code_tag[BT_USER] = s->code_tag;
    c->user_code = true;
    s->valid = false;
}

void bt_tlb_switch(struct vcpu *v, unsigned from, unsigned to, bool keep)
{
    struct bt_cpu *c = &v->bt;
    if (!c->on || (from == to && keep))
        return;
    if (from != to)
        save(v, from);
    bt_tlb_flush_address_space(v);
    struct bt_space *s = find(c, to);
    if (s && keep)
        restore(v, s);
    else if (s)
        s->valid = false;
}

void bt_tlb_forget(struct vcpu *v, unsigned pcid)
{
    struct bt_space *s = v->bt.on ? find(&v->bt, pcid) : NULL;
    if (s)
        s->valid = false;
}

void bt_tlb_forget_all(struct vcpu *v)
{
    for (unsigned n = 0; n < BT_SPACES; n++)
        v->bt.space[n].valid = false;
}
