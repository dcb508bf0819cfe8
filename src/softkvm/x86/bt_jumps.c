// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The known targets of branches by lookup, as bt_flow.c probes them: three entries for each place, the latest one first. An entry
 * stays when its block is dropped: the block's way in then leads out (bt_cache.c). It stays as well when the guest may have changed what its
 * linear address leads to, and while another address space is current: where the block's page is is seen to at its way in, page by page, with what the
 * second half of this file keeps (bt.h). It goes with the mode of the code, and with the piece of the cache that it leads to.
 *
 * An empty entry is zero, so a table is only resident where it is used. Where linear address 0 is looked for, it has an address
 * instead that is looked for elsewhere. So have the entries that a cleared probe leads to, and the first leads out to just that address.
 */
#include "softkvm/x86/bt_priv.h"

void bt_jumps_clear(struct vcpu *v, unsigned ring)
{
    struct bt_jumps *j = &v->bt.jump[ring];
    if (j->count > BT_JUMP_LOG) {
        uint64_t *p = &j->e[0].rip, n = sizeof j->e / 8;
        __asm__ volatile("rep stosq" : "+D"(p), "+c"(n) : "a"(0) : "memory");
    } else {
        for (unsigned n = 0; n < j->count; n++)
            j->e[j->filled[n]].rip = j->e[j->filled[n]].host = 0;
    }
    j->count = 0;
    unsigned zero = bt_jump_slot(0);
    for (unsigned n = zero; n < zero + 4; n++)
        j->e[n].rip = BT_ELSEWHERE;
    j->e[zero].host = (uint64_t)(uintptr_t)v->vm->bt->rx + v->vm->bt->thunk.exit_elsewhere;
}

void bt_jumps_drop(struct vcpu *v, unsigned ring, uint64_t lo, uint64_t hi)
{
    struct bt_jumps *j = &v->bt.jump[ring];
    bool logged = j->count <= BT_JUMP_LOG;
    for (unsigned n = 0, end = logged ? j->count : BT_JUMP_SIZE; n < end; n++) {
        unsigned slot = logged ? j->filled[n] : n;
        if (j->e[slot].host - lo >= hi - lo)
            continue;
        j->e[slot].host = 0;
        j->e[slot].rip = slot < 4 ? BT_ELSEWHERE : 0; /* where linear address 0 is looked for */
    }
}

static void put(struct bt_jumps *j, unsigned n, uint64_t rip, uint64_t host)
{
    if (!j->e[n].host) {
        if (j->count < BT_JUMP_LOG)
            j->filled[j->count] = (uint16_t)n;
        if (j->count <= BT_JUMP_LOG)
            j->count++;
    }
    j->e[n].host = host;
    j->e[n].rip = rip;
}

static bool is_free(const struct bt_jumps *j, unsigned n, uint64_t rip)
{
    return !j->e[n].host || j->e[n].rip == rip;
}

void bt_jumps_add(struct vcpu *v, unsigned ring, uint64_t rip, const uint8_t *host)
{
    struct bt_jumps *j = &v->bt.jump[ring];
    unsigned n = bt_jump_first(rip), third = bt_jump_third(bt_jump_slot(rip));
    if (n % 2 == 0 && !is_free(j, n, rip)) {
        if (!is_free(j, n + 1, rip))
            put(j, third, j->e[n + 1].rip, j->e[n + 1].host);
        put(j, n + 1, j->e[n].rip, j->e[n].host);
    } else if (n % 2 && !is_free(j, n, rip)) {
        put(j, third, j->e[n].rip, j->e[n].host);
    }
    put(j, n, rip, (uint64_t)(uintptr_t)host);
}

const uint8_t *bt_jumps_find(const struct vcpu *v, unsigned ring, uint64_t rip)
{
    const struct bt_jumps *j = &v->bt.jump[ring];
    unsigned n = bt_jump_slot(rip);
    if (j->e[n].rip != rip && j->e[++n].rip != rip)
        n = bt_jump_third(n - 1);
    return j->e[n].rip == rip ? (const uint8_t *)(uintptr_t)j->e[n].host : NULL;
}

/* ---- the pages that code runs from ---- */

void bt_enter_set(struct vcpu *v, unsigned ring, unsigned slot, uint64_t la)
{
    struct bt_cpu *c = &v->bt;
    struct bt_entered *known = &c->entered[ring];
    if (c->where[ring][slot] == la && la) /* 0 may be there since nothing has been yet */
        return;
    if (known->count == BT_ENTER_LOG)
        bt_enter_none(v, ring);
    known->slot[known->count++] = (uint16_t)slot;
    known->halves |= (uint8_t)BIT(la >> 63);
    bt_bit_set(c->known_code, bt_table_index(la));
    c->where[ring][slot] = la;
}

void bt_enter_none(struct vcpu *v, unsigned ring)
{
    struct bt_entered *known = &v->bt.entered[ring];
    for (unsigned n = 0; n < known->count; n++)
        v->bt.where[ring][known->slot[n]] = BT_NOWHERE;
    known->count = 0;
    known->halves = 0;
}
