// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One check for several accesses. Accesses whose addresses differ by constants, since they are made with the same values of the same registers, are a
 * run: its leader checks the window from the first byte of all of them to the last, and leaves the window's distance to host memory in SHARE_REG, which
 * nothing else takes up to the run's end; the other accesses use it as it stands.
 *
 * A window that may cross its page goes on in a block of the same instructions that shares nothing (BT_KEY_SINGLE). When the leader's page has no
 * entry, bt_step() executes the leader and comes back with the distance, if there is one then. A run never reaches over an instruction that
 * does anything but compute and access memory. Where the leader only reads, writes behind a branch do not take part, but on the stack: to ask for
 * the right to write where the program does not write would leave for the interpreter each time.
 *
 * One run at a time has SHARE_REG, the longest. The others have a word of v->bt.slot[] that their leader stores the distance in; a member loads it,
 * which is one instruction instead of the check.
 */
#include "softkvm/x86/bt_xlat.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_ops.h"
#include "softkvm/x86/native.h"

#define WINDOW_MAX 1024

/* Where an access goes: registers by value (their number, and how often they have changed), and a constant. */
struct spot {
    bool known, write, stack;
    uint8_t base, index, scale;
    uint8_t base_age, index_age;
    int64_t from;                /* first byte */
    int64_t adjust, base_adjust; /* of it, what was added to the registers since they changed last, and to the base */
    unsigned size;
};

struct plan {
    uint8_t age[16];
    int64_t adjust[16]; /* added since it changed last */
    struct spot spot[BT_MAX_INSNS];
    uint8_t count[BT_MAX_INSNS], last[BT_MAX_INSNS]; /* of the run that k could lead */
};

static bool computes(unsigned how) /* HOW_CALL and HOW_RET end the block */
{
    return how == HOW_CALL || how == HOW_RET || how == HOW_PLAIN || how == HOW_LEA || how == HOW_SKIP || how == HOW_PUSH || how == HOW_POP || how == HOW_JCC;
}

static void find_spot(const struct xlat *x, const struct plan *p, unsigned k, struct spot *s)
{
    const struct insn *i = &x->insns[k];
    unsigned n, how = x->how[k];
    const struct operand *m = xlat_mem_operand(i, &n);
    *s = (struct spot){.base = RSP, .index = REG_NONE, .stack = true, .size = 8};
    if (how == HOW_PUSH && !m) {
        s->known = s->write = true;
        s->from = -8;
    } else if (how == HOW_CALL) {
        s->known = s->write = true;
        s->from = -8;
    } else if (how == HOW_POP || how == HOW_RET) {
        s->known = true;
    } else if (how == HOW_PLAIN && m && i->addrsize == 8 && !xlat_is_x87(i) && i->seg != SEG_FS && i->seg != SEG_GS && !xlat_no_rex(i)) {
        struct ea ea = xlat_ea(x, i);
        *s = (struct spot){.known = ea.base != REG_NONE, .write = i->desc->opuse >> (2 * n) & ISA_OP_W, .stack = ea.base == RSP && ea.index == REG_NONE,
                           .base = ea.base, .index = ea.index, .scale = ea.scale, .from = ea.disp, .size = m->size};
    }
    if (!s->known)
        return;
    if (s->base < 16) {
        s->base_age = p->age[s->base];
        s->base_adjust = s->adjust = p->adjust[s->base];
    }
    if (s->index < 16) {
        s->index_age = p->age[s->index];
        s->adjust += p->adjust[s->index] * (1 << s->scale);
    }
    s->from += s->adjust;
}

static void add(struct plan *p, unsigned r, int64_t by)
{
    p->adjust[r] += by;
}

static void change(struct plan *p, unsigned regs)
{
    for (unsigned r = 0; r < 16; r++)
        if (regs >> r & 1) {
            p->age[r]++;
            p->adjust[r] = 0;
        }
}

/* What instruction k does to the registers. */
static void step(const struct xlat *x, struct plan *p, unsigned k)
{
    const struct insn *i = &x->insns[k];
    const struct operand *o = i->ops;
    bool wide = i->opsize == 8 && o[0].kind == OPK_GPR && o[0].size == 8;
    if (x->how[k] == HOW_PUSH) {
        add(p, RSP, -8);
    } else if (x->how[k] == HOW_POP) {
        change(p, BIT_OF(o[0].reg));
        add(p, RSP, o[0].reg == RSP ? 0 : 8);
    } else if (x->how[k] == HOW_PLAIN && wide && (i->op == OP_add || i->op == OP_sub) && o[1].kind == OPK_IMM) {
        add(p, o[0].reg, i->op == OP_add ? (int32_t)i->imm : -(int64_t)(int32_t)i->imm);
    } else if (x->how[k] == HOW_LEA && wide && i->addrsize == 8 && i->base == o[0].reg && i->index == REG_NONE) {
        add(p, o[0].reg, i->disp);
    } else {
        change(p, x->writes[k]);
    }
}

static bool same_registers(const struct spot *a, const struct spot *b)
{
    return a->base == b->base && a->base_age == b->base_age && a->index == b->index && a->index_age == b->index_age && a->scale == b->scale;
}

static bool fits(int64_t disp)
{
    return disp == (int32_t)disp;
}

/* Looks how far the run goes that k leads, and gives it its window. */
static void measure(const struct xlat *x, struct plan *p, unsigned k, struct share *out)
{
    const struct spot *lead = &p->spot[k];
    int64_t from = lead->from, to = lead->from + lead->size;
    bool sure = true; /* nothing has branched since the leader */
    out->write = lead->write;
    p->count[k] = 0;
    for (unsigned j = k; lead->known && fits(lead->from - lead->adjust + lead->size) && j < x->n && computes(x->how[j]) && !((x->reads[j] | x->writes[j]) & BIT_OF(SHARE_REG)); j++) {
        const struct spot *s = &p->spot[j];
        sure = sure && x->how[j] != HOW_JCC;
        if (!s->known || !same_registers(lead, s) || (s->write && !out->write && !lead->stack && !sure))
            continue;
        int64_t new_from = MIN(from, s->from), new_to = MAX(to, s->from + s->size);
        if (new_to - new_from > WINDOW_MAX || !fits(new_from - lead->adjust) || !fits(new_to - lead->adjust))
            continue;
        from = new_from;
        to = new_to;
        out->write |= s->write;
        out->members |= 1u << j;
        p->count[k]++;
        p->last[k] = (uint8_t)j;
    }
    out->size = (unsigned)(to - from);
    out->from = (int32_t)(from - lead->adjust);
}

static bool by_slot(const struct spot *s)
{
    return s->known && s->base < 16;
}

/* A word for the run that k leads, with those members that have no part in another run. */
static void give_slot(struct xlat *x, const struct plan *p, unsigned k, const struct share *s, uint8_t *until)
{
    unsigned slot = 0, count = 0, last = k;
    while (slot < BT_SLOTS && until[slot] > k)
        slot++;
    for (unsigned j = k; j <= p->last[k]; j++)
        if ((s->members >> j & 1) && !x->share[j].member && !x->slot[j].member) {
            count++;
            last = j;
        }
    if (slot == BT_SLOTS || count < 2)
        return;
    until[slot] = (uint8_t)(last + 1);
    for (unsigned j = k; j <= last; j++) {
        x->slot[j].held |= j > k;
        if (!(s->members >> j & 1) || x->share[j].member || x->slot[j].member)
            continue;
        x->slot[j].member = true;
        x->slot[j].slot = (uint8_t)slot;
    }
    x->slot[k].leads = true;
    x->slot[k].write = s->write;
    x->slot[k].size = s->size;
    x->slot[k].from = s->from;
}

void xlat_share_plan(struct xlat *x)
{
    struct plan p = {.age = {0}};
    struct share s[BT_MAX_INSNS] = {{.members = 0}};
    uint8_t until[BT_SLOTS] = {0};
    bytes_fill(x->share, 0, sizeof x->share);
    bytes_fill(x->slot, 0, sizeof x->slot);
    if (x->key & (BT_KEY_SINGLE | BT_KEY_LEGACY))
        return;
    for (unsigned k = 0; k < x->n; k++) {
        find_spot(x, &p, k, &p.spot[k]);
        step(x, &p, k);
    }
    for (unsigned k = 0; k < x->n; k++)
        measure(x, &p, k, &s[k]);
    for (unsigned k = 0; k < x->n; k++) {
        unsigned better = k;
        for (unsigned j = k + 1; j <= p.last[k] && p.count[k] > 1; j++)
            if (p.count[j] > p.count[better])
                better = j;
        if (p.count[k] < 2 || better != k)
            continue;
        x->share[k] = s[k];
        x->share[k].leads = true;
        for (unsigned j = k; j <= p.last[k]; j++) {
            x->share[j].held = j > k;
            x->share[j].member = s[k].members >> j & 1;
            x->share[j].shift = (int32_t)(p.spot[j].base_adjust - p.spot[k].base_adjust);
        }
        k = p.last[k];
    }
    for (unsigned k = 0; k < x->n; k++)
        if (by_slot(&p.spot[k]) && !x->share[k].member && !x->slot[k].member)
            give_slot(x, &p, k, &s[k], until);
}

uint8_t xlat_share_note(const struct xlat *x, unsigned k)
{
    const struct share *s = &x->share[k];
    const struct insn *i = &x->insns[k];
    const struct share *slot = &x->slot[k];
    unsigned note = (s->held ? BT_SHARE_HELD : 0) | (s->leads ? s->write ? BT_SHARE_LEAD_W : BT_SHARE_LEAD_R : 0);
    if (s->leads && x->how[k] == HOW_PLAIN && i->base == REG_RIP)
        note |= BT_SHARE_ADD | SHARE_REG << 4;
    else if (s->leads && x->how[k] == HOW_PLAIN && i->index < 16)
        note |= BT_SHARE_ADD | (unsigned)i->base << 4;
    if (slot->leads)
        note |= (slot->write ? BT_SHARE_LEAD_W : BT_SHARE_LEAD_R) | (unsigned)slot->slot << 4;
    return (uint8_t)note;
}

/* Where the operand of an access is that need not be checked. */
struct place xlat_share_place(const struct xlat *x, const struct ea *ea, unsigned k)
{
    if (ea->base >= 16)
        return (struct place){SHARE_REG, ea->index, ea->scale, ea->disp};
    if (ea->index < 16)
        return (struct place){SHARE_REG, ea->index, ea->scale, ea->disp + x->share[k].shift};
    return ea->base == RSP ? (struct place){RSP, SHARE_REG, 0, ea->disp} : (struct place){SHARE_REG, ea->base, 0, ea->disp};
}
