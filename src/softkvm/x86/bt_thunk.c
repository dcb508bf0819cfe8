// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The code around the blocks: the way in, and the ways out. Emitted once for each VM, since the offsets of struct vcpu
 * are known here and nowhere else.
 */
#include "softkvm/x86/bt_priv.h"

static void mark(struct bt *bt, struct emit *e, uint32_t *where)
{
    (void)bt;
    while (emit_off(e) & 15)
        e8(e, 0x90);
    *where = emit_off(e);
}

static void push(struct emit *e, unsigned r)
{
    if (r >= 8)
        e8(e, 0x41);
    e8(e, 0x50 | (r & 7));
}
static void pop(struct emit *e, unsigned r)
{
    if (r >= 8)
        e8(e, 0x41);
    e8(e, 0x58 | (r & 7));
}
/* An odd number: calls out of translated code need an aligned stack. RAX fills in. */
static const uint8_t saved[] = {RBX, RBP, R12, R13, R14, R15, RAX};

/* Loads the guest's flags and registers and jumps to bt.jump_to. */
static void emit_resume(struct emit *e)
{
    e_load32(e, RAX, BT_OFF(flags));
    e_flags_from_ax(e);
    for (unsigned r = 0; r < 16; r++)
        e_load(e, r, r == SHARE_REG ? BT_OFF(share) : GPR_OFF(r));
    e_jump_gs(e, BT_OFF(jump_to));
}

/* void enter(struct vcpu *v [rdi], host [rsi]) */
static void emit_enter(struct bt *bt, struct emit *e)
{
    mark(bt, e, &bt->thunk.enter);
    for (unsigned i = 0; i < ARRAY_SIZE(saved); i++)
        push(e, saved[i]);
    e_store(e, RSP, BT_OFF(host_rsp));
    e_store(e, RSI, BT_OFF(jump_to));
    emit_resume(e);
}

/* Stores the guest's registers, but for the spare ones, which are at home, and its flags when they are in the host's. */
static void emit_save(struct emit *e, bool flags)
{
    for (unsigned r = 0; r < 16; r++)
        if (!(BT_SPARE >> r & 1))
            e_store(e, r, GPR_OFF(r));
    if (flags) {
        e_flags_to_ax(e);
        e_store32(e, RAX, BT_OFF(flags));
    }
    e_load(e, RSP, BT_OFF(host_rsp));
}

/* Returns from enter(). */
static void emit_return(struct emit *e)
{
    for (unsigned i = ARRAY_SIZE(saved); i-- > 0;)
        pop(e, saved[i]);
    e8(e, 0xc3);
}

static void emit_leave(struct emit *e, enum bt_exit kind, bool flags)
{
    emit_save(e, flags);
    e_store_imm32(e, BT_OFF(exit_kind), kind);
    emit_return(e);
}

/* Calls bt_step() for the way out that r11d says, and goes on where that says; returns from enter() when it does not. */
static void emit_step(struct emit *e)
{
    e_store32(e, R11, BT_OFF(exit_insn));
    for (unsigned r = 0; r < 16; r++)
        if (r != R11)
            e_store(e, r, BT_OFF(live) + 8 * r);
    e_flags_to_ax(e);
    e_store32(e, RAX, BT_OFF(live_flags));
    e_load(e, RSP, BT_OFF(host_rsp));
    e_load(e, RDI, BT_OFF(self));
    e8(e, 0x48); /* mov rax, bt_step */
    e8(e, 0xb8);
    e64(e, (uint64_t)(uintptr_t)bt_step);
    e8(e, 0xff); /* call rax */
    e8(e, 0xd0);
    e_store(e, RAX, BT_OFF(jump_to));
    e_rr(e, 0x85, RAX, RAX);
    uint8_t *none = e_jump(e, CC_Z);
    emit_resume(e);
    e_patch(none, e->p);
    emit_return(e);
}

void bt_emit_thunks(struct bt *bt)
{
    struct emit e = {bt->rw + 64, bt->rw, bt->rw + bt->size};
    bt_emit_page_bits(bt, &e);
    emit_enter(bt, &e);
    mark(bt, &e, &bt->thunk.exit_way);
    emit_step(&e);
    mark(bt, &e, &bt->thunk.exit_goto);
    emit_leave(&e, BT_EXIT_GOTO, true);
    mark(bt, &e, &bt->thunk.exit_check); /* entered as a block is by a lookup */
    e_store(&e, R10, BT_OFF(page));
    e_load(&e, RAX, GPR_OFF(RAX));
    emit_leave(&e, BT_EXIT_CHECK, false);
    mark(bt, &e, &bt->thunk.exit_stale);
    e_store(&e, R10, BT_OFF(page));
    e_load(&e, RAX, GPR_OFF(RAX));
    emit_leave(&e, BT_EXIT_GOTO, false);
    mark(bt, &e, &bt->thunk.exit_elsewhere);
    e_store_imm32(&e, BT_OFF(exit_off), BT_ELSEWHERE % PAGE_SIZE);
    e_jump_to(&e, bt->rw + bt->thunk.exit_stale);
    mark(bt, &e, &bt->start);
    bt->used = bt->start;
}
