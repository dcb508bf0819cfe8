// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The stack and control flow.
 *
 * A branch to a place that is not known, or that lies in another page, looks its target up where it stands: bt.jump has the linear
 * address and the host's side by side. So the host's branch predictor sees one jump for each of the guest's. Until the target is
 * found nothing is committed; when it is not, the interpreter executes the whole branch, with all its faults.
 *
 * Such a jump arrives at the block's `entry` bytes before its code, with RAX displaced, the flags in bt.flags, where they are only
 * brought back from where they may be read, and the linear address of the target's page in R10. Where that is not where the page is known
 * to be, bt_step() has a look at it.
 */
#include "softkvm/x86/bt_xlat.h"
#include "softkvm/x86/native.h"

/* ---- branches by lookup ---- */

/* Saves the flags, and takes RAX; those of the registers `needed` stay as they are. */
void xlat_branch_begin(struct xlat *x, unsigned needed)
{
    xlat_x87_note(x);
    xlat_bring_back(x, needed);
    xlat_displace(x, RAX);
    if (!x->flags_saved)
        xlat_flags_save(x);
    x->flags_saved = true;
    xlat_bring_back(x, needed & BIT_OF(RAX));
}

/* op reg, gs:[rax*8 + off] */
static void e_indexed(struct emit *e, unsigned op, unsigned reg, size_t off)
{
    e8(e, 0x65);
    e8(e, 0x48 | (reg >> 3) << 2);
    e8(e, op);
    e8(e, (reg & 7) << 3 | 4);
    e8(e, 0xc5);
    e32(e, (uint32_t)off);
}

/* The ring that the block runs in. */
static unsigned ring_of(const struct xlat *x)
{
    return bt_ring(x->key);
}

static size_t jump_off(unsigned ring, size_t field)
{
    return BT_OFF(jump) + ring * sizeof(struct bt_jumps) + field;
}

/* Leaves by `a` when the vCPU is wanted outside. Clobbers the flags. */
static void test_requests(struct xlat *x, struct aside *a)
{
    struct emit *e = &x->e;
    e8(e, 0x65); /* cmp dword gs:[requests], 0 */
    e8(e, 0x83);
    e_gs_operand(e, ALU_CMP, offsetof(struct vcpu, requests));
    e8(e, 0);
    xlat_from(a, e_jump(e, CC_NZ));
}

/* The other entries for the target, or away; away with a cleared probe, which leads to none of them. */
void xlat_aside_second(struct xlat *x, const struct aside *a)
{
    struct emit *e = &x->e;
    size_t entries = jump_off(a->size, offsetof(struct bt_jumps, e[0].rip));
    e_gs32(e, 0x03, RAX, BT_OFF(jump_probe) + 4); /* add */
    e_indexed(e, 0x3b, a->s, entries);
    e_patch(e_jump(e, CC_Z), a->back);
    e8(e, 0x83); /* xor eax, 4: bt_jump_third() */
    e8(e, 0xf0);
    e8(e, 2 * BT_JUMP_STEP);
    e_indexed(e, 0x3b, a->s, entries);
    e_patch(e_jump(e, CC_Z), a->back);
    xlat_from(&x->asides[a->slow], e_jump(e, -1));
}

/* Finds the linear address in `t`, or leaves by `miss`; rax = index of its entry. */
void xlat_branch_probe(struct xlat *x, unsigned t, struct aside *miss, unsigned ring)
{
    struct emit *e = &x->e;
    e_rorx(e, RAX, t, BT_JUMP_MIX);
    e_rr(e, 0x31, RAX, t); /* xor rax, t */
    e_gs32(e, 0x23, RAX, BT_OFF(jump_probe)); /* and */
    e_indexed(e, 0x3b, t, jump_off(ring, offsetof(struct bt_jumps, e[0].rip))); /* cmp t, ... */
    struct aside *second = xlat_aside(x, ASIDE_SECOND, 0);
    second->s = (uint8_t)t;
    second->size = (uint8_t)ring;
    second->slow = (unsigned)(miss - x->asides);
    xlat_from(second, e_jump(e, CC_NZ));
    second->back = e->p;
}

/* Everything as a block's way in wants it. */
static void settle_for_entry(struct xlat *x)
{
    xlat_displace(x, RAX);
    x->displaced &= (uint16_t)~BIT_OF(RAX);
    xlat_settle(x);
}

void xlat_branch_jump(struct xlat *x, unsigned t, unsigned ring)
{
    struct emit *e = &x->e;
    xlat_displace(x, R10);
    if (t == REG_NONE)
        e_indexed(e, 0x8b, R10, jump_off(ring, offsetof(struct bt_jumps, e[0].rip)));
    else if (t != R10)
        e_mov(e, R10, t);
    e_alu_imm(e, true, ALU_AND, R10, (uint32_t)PAGE_MASK);
    e_indexed(e, 0x8b, RAX, jump_off(ring, offsetof(struct bt_jumps, e[0].host)));
    settle_for_entry(x);
    e8(e, 0xff); /* jmp rax */
    e8(e, 0xe0);
}

void xlat_entry(struct xlat *x)
{
    struct aside *elsewhere = xlat_aside(x, ASIDE_WHERE, 0);
    e_gs(&x->e, 0x3b, R10, x->where); /* cmp */
    xlat_from(elsewhere, e_jump(&x->e, CC_NZ));
    elsewhere->back = x->e.p; /* for b->entry_link */
    if (x->flags_live[0])
        xlat_flags_restore(x);
    e_load(&x->e, RAX, GPR_OFF(RAX));
}

void xlat_aside_where(struct xlat *x)
{
    xlat_leave_by(x, BT_WAY_IN); /* R11 is one of BT_SPARE */
}

void xlat_page_offset(struct xlat *x, unsigned reg, int32_t off)
{
    e_load(&x->e, reg, x->where);
    e_lea(&x->e, reg, reg, REG_NONE, 0, off);
}

/* Instruction k goes to another page; behind the block's last one k is x->n. */
static void goto_page(struct xlat *x, int32_t off, unsigned k)
{
    xlat_branch_begin(x, 0);
    unsigned t = xlat_scratch(x, MIN(k, x->n - 1), BIT_OF(RAX));
    struct aside *miss = xlat_aside(x, k < x->n ? ASIDE_SLOW : ASIDE_LEAVE, k);
    miss->target = off;
    xlat_page_offset(x, t, off);
    if (x->key & BT_KEY_LEGACY)
        xlat_legacy_target(x, k < x->n ? x->insns[k].opsize : 4, t, true, miss);
    xlat_branch_probe(x, t, miss, ring_of(x));
    xlat_branch_jump(x, t, ring_of(x));
}

/* A jump within the page on condition cc (-1: none), everything being as at a boundary, or, when the flags are saved, as a way in
 * wants it. */
static void link_jump(struct xlat *x, int cc, int32_t off)
{
    e_pad(&x->e, cc < 0 ? 1 : 2);
    struct aside *a = xlat_aside(x, ASIDE_LINK, x->nlinks);
    struct bt_link *l = &x->links[x->nlinks];
    if (x->nlinks < BT_MAX_LINKS - 1)
        x->nlinks++;
    else
        x->full = true;
    uint8_t *at = e_jump(&x->e, cc);
    *l = (struct bt_link){.at = (uint32_t)(at - x->e.base), .off = off & (PAGE_SIZE - 1), .entry = x->flags_saved};
    xlat_from(a, at);
}

void xlat_aside_link(struct xlat *x, const struct aside *a)
{
    struct bt_link *l = &x->links[a->insn];
    l->stub = (int16_t)(emit_off(&x->e) - l->at);
    x->displaced = BT_SPARE | (l->entry ? BIT_OF(RAX) : 0);
    x->x87 = 0;
    xlat_way_out(x, a->insn, BT_WAY_LINK | (l->entry ? BT_WAY_SAVED : 0));
}

static bool in_page(int32_t off)
{
    return off >= 0 && off < (int32_t)PAGE_SIZE;
}

/* Does the jump of instruction k lead back, so that it has to poll? */
static bool leads_back(const struct xlat *x, int32_t off, unsigned k)
{
    return k < x->n && (unsigned)off <= x->page_off + x->at[k];
}

static void goto_in_page(struct xlat *x, int32_t off)
{
    xlat_x87_note(x);
    if (x->flags_saved)
        settle_for_entry(x);
    else
        xlat_settle(x);
    link_jump(x, -1, off);
}

void xlat_goto(struct xlat *x, int32_t off, unsigned k)
{
    if (in_page(off))
        goto_in_page(x, off);
    else
        goto_page(x, off, k);
}

void xlat_goto_single(struct xlat *x, unsigned k)
{
    unsigned link = x->nlinks;
    goto_in_page(x, (int32_t)(x->page_off + x->at[k]));
    x->links[link].single = true;
}

/* The state is as before instruction k, and everything as at a boundary. */
static void poll(struct xlat *x, unsigned k)
{
    xlat_aside(x, ASIDE_SLOW, k);
    e_load(&x->e, R11, BT_OFF(poll)); /* R11 is one of BT_SPARE */
    e_mem(&x->e, 0, 0x8b, R11, &(struct place){R11, REG_NONE, 0, 0});
}

void xlat_jmp(struct xlat *x, const struct insn *i, unsigned k)
{
    int32_t off = xlat_next_off(x, k) + (int32_t)i->imm;
    if (in_page(off) && leads_back(x, off, k)) {
        xlat_settle(x);
        poll(x, k);
    }
    xlat_goto(x, off, k);
}

void xlat_jcc(struct xlat *x, const struct insn *i, unsigned k)
{
    int32_t off = xlat_next_off(x, k) + (int32_t)i->imm;
    int cc = i->opcode & 15;
    if (x->body && k + 1 < x->n && (k + 1) % x->body == 0) { /* to the next turn, which follows */
        cc ^= 1;
        off = xlat_next_off(x, k);
    }
    bool back = leads_back(x, off, k);
    if (in_page(off) && (back || (x->displaced == BT_SPARE && !x->x87))) {
        xlat_x87_note(x);
        xlat_settle(x);
        if (back)
            poll(x, k);
        link_jump(x, cc, off);
        return;
    }
    uint8_t *jump = e_jump(&x->e, cc);
    struct aside *a = xlat_aside(x, ASIDE_TAKEN, k);
    a->target = off;
    xlat_from(a, jump);
}

/* jrcxz or, by way of R11, jcxz over the jump that follows; returns where its displacement is. */
static uint8_t *skip_if_zero(struct xlat *x, unsigned size)
{
    struct emit *e = &x->e;
    if (size == 2) {
        e_mov(e, R11, RCX);
        e8(e, 0x0f); /* movzx ecx, cx */
        e8(e, 0xb7);
        e8(e, 0xc9);
    }
    e8(e, 0xe3);
    e8(e, 0);
    uint8_t *at = e->p - 1;
    if (size == 2)
        e_mov(e, RCX, R11);
    return at;
}

/* LOOP within the page: the count is taken down once nothing can leave in front of the instruction any more. */
void xlat_loop(struct xlat *x, const struct insn *i, unsigned k)
{
    struct emit *e = &x->e;
    int32_t off = xlat_next_off(x, k) + (int32_t)i->imm;
    unsigned size = i->addrsize;
    if (!in_page(off)) {
        x->map[k].interp = true;
        xlat_interp(x, k);
        return;
    }
    xlat_x87_note(x);
    xlat_settle(x);
    if (leads_back(x, off, k))
        poll(x, k);
    if (size == 2)
        e8(e, 0x66);
    e_mem(e, size == 8 ? 8 : 0, 0x8d, RCX, &(struct place){RCX, REG_NONE, 0, -1}); /* lea */
    xlat_written(x, BIT_OF(RCX));
    uint8_t *skip = skip_if_zero(x, size);
    link_jump(x, -1, off);
    *skip = (uint8_t)(e->p - (skip + 1));
    if (size == 2)
        e_mov(e, RCX, R11);
}

/* ---- an instruction across two pages ---- */

/* Goes on if the n bytes at [R10 + at] are these. */
static void check_bytes(struct xlat *x, struct aside *slow, const uint8_t *bytes, unsigned n, int32_t at)
{
    struct emit *e = &x->e;
    uint64_t want = 0;
    bytes_copy(&want, bytes, n);
    e8(e, 0x49); /* mov r11, want */
    e8(e, 0xbb);
    e64(e, want);
    e_mem(e, 8, 0x33, R11, &(struct place){R10, REG_NONE, 0, at}); /* xor r11, [r10 + at] */
    if (n < 8) {
        e8(e, 0x49); /* shl r11, 64 - 8n */
        e8(e, 0xc1);
        e8(e, 0xe3);
        e8(e, 64 - 8 * n);
    }
    xlat_from(slow, e_jump(e, CC_NZ));
}

/* The next page's part is checked by its mapping and its content at each turn, so stores there need not be watched. */
void xlat_check_tail(struct xlat *x, const uint8_t *bytes)
{
    _Static_assert(sizeof(struct bt_xpage) == 32, "an entry's place is a page's address >> 7");
    struct emit *e = &x->e;
    struct access a = {.k = 0};
    int32_t page = (int32_t)(BT_OFF(xpage) + ring_of(x) * sizeof(((struct bt_cpu *)0)->xpage[0]));
    xlat_flags_hold(x, &a);
    struct aside *slow = xlat_aside(x, ASIDE_SLOW, 0);
    slow->flags_saved |= a.flags_saved;
    xlat_page_offset(x, R11, PAGE_SIZE);
    e_rorx(e, R10, R11, 7);
    e_alu_imm(e, false, ALU_AND, R10, (BT_XPAGES - 1) * sizeof(struct bt_xpage));
    e_gs(e, 0x03, R11, BT_OFF(code_tag[ring_of(x)])); /* add */
    e8(e, 0x65);
    e_mem(e, 8, 0x3b, R11, &(struct place){R10, REG_NONE, 0, page + (int32_t)offsetof(struct bt_xpage, tag)}); /* cmp */
    xlat_from(slow, e_jump(e, CC_NZ));
    e8(e, 0x65);
    e_mem(e, 8, 0x8b, R10, &(struct place){R10, REG_NONE, 0, page + (int32_t)offsetof(struct bt_xpage, host)});
    check_bytes(x, slow, bytes, MIN(x->tail, 8u), 0);
    if (x->tail > 8)
        check_bytes(x, slow, bytes + 8, x->tail - 8u, 8);
    xlat_flags_release(x, &a);
}

/* ---- the stack ---- */

/* The a->size bytes at rsp + disp. */
static void stack_access(struct xlat *x, struct access *a, int32_t disp)
{
    xlat_access(x, a, &(struct ea){RSP, REG_NONE, 0, SEG_SS, disp, 8});
}

void xlat_move_rsp(struct xlat *x, int32_t by)
{
    e_lea(&x->e, RSP, RSP, REG_NONE, 0, by);
    xlat_written(x, BIT_OF(RSP));
}

static void push_mem(struct xlat *x, const struct insn *i, unsigned k)
{
    struct access from = {.k = k, .size = 8, .want_s2 = true}, to = {.k = k, .size = 8, .write = true};
    struct ea ea = xlat_ea(x, i);
    xlat_flags_hold(x, &from);
    xlat_access(x, &from, &ea);
    xlat_op(x, 8, 0x8b, from.s2, &from);
    to.flags_saved = from.flags_saved;
    to.avoid = from.avoid | BIT_OF(from.s2);
    stack_access(x, &to, -8);
    xlat_op(x, 8, 0x89, from.s2, &to);
    xlat_flags_release(x, &to);
    xlat_move_rsp(x, -8);
}

static bool three_left(unsigned set)
{
    set &= set - 1;
    return set & (set - 1);
}

/*
 * How many pushes, or pops, from k on can share one check, and which registers they have. Three registers stay for the check; rsp
 * as an operand changes within the run, so it is alone. Such a run may itself be a part of those that bt_share.c plans. A block that shares nothing
 * has no runs: it is where a stack that crosses a page goes on, and the interpreter would execute the whole run each time.
 */
static unsigned stack_run(const struct xlat *x, unsigned k, unsigned *regs)
{
    unsigned n = 0, how = x->how[k];
    *regs = 0;
    for (; k + n < x->n && n < 15 && x->how[k + n] == how; n++) {
        const struct share *r = &x->share[k + n], *s = &x->slot[k + n];
        if (x->share[k].member != r->member || x->slot[k].member != s->member || x->slot[k].slot != s->slot || (n && (r->leads || s->leads)))
            break;
        const struct operand *o = &x->insns[k + n].ops[0];
        unsigned with = *regs | (o->kind == OPK_GPR ? BIT_OF(o->reg) : 0);
        if (n && (o->kind == OPK_MEM || (with & BIT_OF(RSP)) || !three_left(SCRATCHABLE & ~with)))
            break;
        *regs = with;
        if ((with & BIT_OF(RSP)) || (x->key & BT_KEY_SINGLE))
            return 1;
    }
    return n;
}

unsigned xlat_pushes(struct xlat *x, unsigned k)
{
    unsigned regs, n;
    if (x->insns[k].ops[0].kind == OPK_MEM) {
        push_mem(x, &x->insns[k], k);
        return 1;
    }
    n = stack_run(x, k, &regs);
    struct access a = {.k = k, .size = 8 * n, .write = true, .flags_live = x->flags_live[k], .avoid = regs};
    xlat_bring_back(x, regs);
    stack_access(x, &a, -8 * (int32_t)n);
    a.at.disp += 8 * (int32_t)n;
    for (unsigned j = 0; j < n; j++) {
        const struct insn *i = &x->insns[k + j];
        a.at.disp -= 8;
        if (i->ops[0].kind == OPK_GPR) {
            xlat_op(x, 8, 0x89, i->ops[0].reg, &a);
        } else {
            xlat_op(x, 8, 0xc7, 0, &a);
            e32(&x->e, (uint32_t)i->imm);
        }
    }
    xlat_move_rsp(x, -8 * (int32_t)n);
    return n;
}

unsigned xlat_pops(struct xlat *x, unsigned k)
{
    unsigned regs, n = stack_run(x, k, &regs);
    struct access a = {.k = k, .size = 8 * n, .flags_live = x->flags_live[k], .avoid = regs};
    stack_access(x, &a, 0);
    for (unsigned j = 0; j < n; j++) {
        xlat_op(x, 8, 0x8b, x->insns[k + j].ops[0].reg, &a);
        a.at.disp += 8;
    }
    xlat_written(x, regs);
    if (!(regs & BIT_OF(RSP)))
        xlat_move_rsp(x, 8 * (int32_t)n);
    return n;
}

void xlat_leave(struct xlat *x, unsigned k)
{
    struct access a = {.k = k, .size = 8, .flags_live = x->flags_live[k], .avoid = BIT_OF(RBP)};
    xlat_access(x, &a, &(struct ea){RBP, REG_NONE, 0, SEG_SS, 0, 8});
    xlat_op(x, 8, 0x8b, a.s, &a); /* may fault: nothing has changed yet */
    e_lea(&x->e, RSP, RBP, REG_NONE, 0, 8);
    e_mov(&x->e, RBP, a.s);
    xlat_written(x, BIT_OF(RSP) | BIT_OF(RBP));
}

/* ---- calls and returns ---- */

/* The word that a call pushes; what `avoid` has and RAX, the flags being saved, are in use. */
static struct access push_access(struct xlat *x, unsigned k, unsigned avoid)
{
    struct access a = {.k = k, .size = 8, .write = true, .avoid = avoid | BIT_OF(RAX)};
    stack_access(x, &a, -8);
    return a;
}

void xlat_ret(struct xlat *x, const struct insn *i, unsigned k)
{
    xlat_branch_begin(x, 0);
    unsigned t = xlat_scratch(x, k, BIT_OF(RAX));
    struct access a = {.k = k, .size = 8, .avoid = BIT_OF(RAX) | BIT_OF(t)};
    stack_access(x, &a, 0);
    xlat_op(x, 8, 0x8b, t, &a);
    xlat_branch_probe(x, t, &x->asides[a.slow], ring_of(x));
    xlat_move_rsp(x, 8 + (int32_t)(i->nops ? (uint16_t)i->imm : 0));
    xlat_branch_jump(x, t, ring_of(x));
}

/* t = the branch's target. */
static void branch_target(struct xlat *x, const struct insn *i, unsigned k, unsigned t)
{
    const struct operand *o = &i->ops[0];
    if (o->kind == OPK_MEM) {
        struct access a = {.k = k, .size = 8, .avoid = BIT_OF(RAX) | BIT_OF(t)};
        struct ea ea = xlat_ea(x, i);
        xlat_access(x, &a, &ea);
        xlat_op(x, 8, 0x8b, t, &a);
    } else if (o->kind == OPK_GPR) {
        e_mov(&x->e, t, o->reg);
    } else {
        xlat_page_offset(x, t, xlat_next_off(x, k) + (int32_t)i->imm);
    }
    xlat_displace(x, RAX); /* if it was needed: its value is still at home */
}

static unsigned target_regs(const struct insn *i)
{
    return i->ops[0].kind == OPK_GPR ? BIT_OF(i->ops[0].reg) : i->ops[0].kind == OPK_MEM ? xlat_address_regs(i) : 0;
}

void xlat_jmp_ind(struct xlat *x, const struct insn *i, unsigned k)
{
    xlat_branch_begin(x, target_regs(i));
    unsigned t = xlat_scratch(x, k, BIT_OF(RAX) | target_regs(i));
    branch_target(x, i, k, t);
    xlat_branch_probe(x, t, xlat_aside(x, ASIDE_SLOW, k), ring_of(x));
    xlat_branch_jump(x, t, ring_of(x));
}

/* The push is done last, since the operand may be what it overwrites; it does not fault then, for its place has been read. */
static void call_lookup(struct xlat *x, const struct insn *i, unsigned k)
{
    struct emit *e = &x->e;
    xlat_branch_begin(x, target_regs(i));
    unsigned t = xlat_scratch(x, k, BIT_OF(RAX) | target_regs(i));
    branch_target(x, i, k, t);
    struct access a = push_access(x, k, BIT_OF(t));
    xlat_page_offset(x, RAX, xlat_next_off(x, k));
    e_store(e, RAX, BT_OFF(scratch[0]));
    xlat_op(x, 0, 0x84, RAX, &a); /* test [...], al */
    xlat_branch_probe(x, t, &x->asides[a.slow], ring_of(x));
    e_load(e, t, BT_OFF(scratch[0]));
    xlat_op(x, 8, 0x89, t, &a);
    xlat_move_rsp(x, -8);
    xlat_branch_jump(x, REG_NONE, ring_of(x));
}

void xlat_call(struct xlat *x, const struct insn *i, unsigned k)
{
    int32_t off = xlat_next_off(x, k) + (int32_t)i->imm;
    if (i->ops[0].kind == OPK_GPR || i->ops[0].kind == OPK_MEM || !in_page(off)) {
        call_lookup(x, i, k);
        return;
    }
    xlat_branch_begin(x, 0);
    struct access a = push_access(x, k, 0);
    if (leads_back(x, off, k))
        test_requests(x, &x->asides[a.slow]);
    xlat_page_offset(x, RAX, xlat_next_off(x, k));
    xlat_op(x, 8, 0x89, RAX, &a);
    xlat_move_rsp(x, -8);
    xlat_goto(x, off, k);
}
