// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * SYSCALL and SYSRET between 64-bit user code and 64-bit kernel code: the target is looked up in the other ring's jump table, then CS, SS and RFLAGS are
 * set as syscall.c does, and what follows from the ring: the tables that accesses use belong to the target's block.
 *
 * Everything that might go wrong, or that has consequences elsewhere, leaves for the interpreter before anything is committed: SYSCALL not enabled, a target
 * that is not known (so a known one is canonical), RFLAGS with more than ordinary flags, IF set while an event waits for that.
 */
#include "softkvm/x86/bt_xlat.h"
#include "softkvm/x86/desc.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_ops.h"

#define VCPU_OFF(field)   offsetof(struct vcpu, field)
#define SEG_OFF(n, field) (VCPU_OFF(seg) + (n) * sizeof(struct segment) + offsetof(struct segment, field))
#define ORDINARY          (FL_ARITH | FL_ONE | FL_IF | FL_DF | FL_ID)

_Static_assert(offsetof(struct segment, attr) == offsetof(struct segment, sel) + 2, "stored together");
_Static_assert(offsetof(struct segment, flat) == offsetof(struct segment, unusable) + 1, "stored together");

bool xlat_syscall_here(const struct insn *i, uint32_t key)
{
    return key & BT_KEY_USER ? i->op == OP_syscall : i->op == OP_sysret && i->opsize == 8;
}

/* mov gs:[off], imm of 1, 2, 4 or 8 bytes; the last sign-extended from 4 */
static void store_imm(struct emit *e, unsigned size, size_t off, uint32_t imm)
{
    e8(e, 0x65);
    if (size == 2)
        e8(e, 0x66);
    if (size == 8)
        e8(e, 0x48);
    e8(e, size == 1 ? 0xc6 : 0xc7);
    e_gs_operand(e, 0, off);
    if (size >= 4)
        e32(e, imm);
    for (unsigned n = 0; n < size && size < 4; n++)
        e8(e, imm >> 8 * n & 0xff);
}

/* Leaves when dword gs:[off] has none of these bits (CC_Z), or one of them (CC_NZ). */
static void leave_by_bits(struct xlat *x, size_t off, uint32_t bits, enum cc cc, struct aside *slow)
{
    e_test_mem_imm(&x->e, off, bits);
    xlat_from(slow, e_jump(&x->e, cc));
}

/* CS or SS as syscall.c's set_flat() makes it, its selector from a word of STAR. Clobbers s. */
static void set_segment(struct emit *e, unsigned seg, unsigned ring, unsigned s)
{
    unsigned add = ring == 3 ? (seg == SEG_CS ? 16 : 8) : seg == SEG_CS ? 0 : 8;
    uint32_t attr = SEG_P | SEG_S | SEG_G | ring << 5 | SEG_RW | SEG_ACCESSED | (seg == SEG_CS ? SEG_CODE | SEG_L : SEG_DB);
    e_load_narrow(e, s, VCPU_OFF(msr.star) + (ring == 3 ? 6 : 4), 2);
    if (ring == 0)
        e_alu_imm(e, false, ALU_AND, s, 0xfffc);
    e_lea(e, s, s, REG_NONE, 0, (int32_t)add);
    e_alu_imm(e, false, ALU_AND, s, 0xffff); /* the sum has 16 bits */
    e_alu_imm(e, false, ALU_OR, s, ring | attr << 16);
    e_store32(e, s, SEG_OFF(seg, sel));
    store_imm(e, 8, SEG_OFF(seg, base), 0);
    store_imm(e, 4, SEG_OFF(seg, limit), 0xffffffff);
    store_imm(e, 2, SEG_OFF(seg, unusable), seg == SEG_SS ? 1 << 8 : 0);
}

/* v->rflags = r, bt.flags = its arithmetic flags (op.h). Clobbers r and s. */
static void set_flags(struct emit *e, unsigned r, unsigned s)
{
    e_alu_imm(e, true, ALU_OR, r, FL_ONE);
    e_store(e, r, VCPU_OFF(rflags));
    e_mov(e, s, r);
    e_shift(e, SHIFT_SHR, s, 11);
    e_alu_imm(e, false, ALU_AND, s, 1);
    e_alu_imm(e, false, ALU_AND, r, 0xff);
    e_shift(e, SHIFT_SHL, r, 8);
    e_rr(e, 0x09, r, s); /* or r, s */
    e_store32(e, r, BT_OFF(flags));
}

/* What depends on the ring. Clobbers s. */
static void set_ring(struct xlat *x, unsigned ring, unsigned s)
{
    struct emit *e = &x->e;
    bool user = ring == 3;
    set_segment(e, SEG_CS, ring, s);
    set_segment(e, SEG_SS, ring, s);
    store_imm(e, 1, VCPU_OFF(cpl), ring);
    store_imm(e, 1, VCPU_OFF(mmu_idx), user ? MMU_USER : MMU_KERNEL);
    store_imm(e, 8, VCPU_OFF(fetch_page), ~0u);
    e_store_imm32(e, BT_OFF(key), user ? x->key | BT_KEY_USER : x->key & ~(uint32_t)BT_KEY_USER);
}

/* The other ring's table must be for the same mode. */
static void leave_by_mode(struct xlat *x, unsigned ring, uint32_t key, struct aside *slow)
{
    struct emit *e = &x->e;
    e_alu_mem_imm(e, ALU_CMP, BT_OFF(mode[ring].key), key);
    xlat_from(slow, e_jump(e, CC_NZ));
}

static void xlat_enter_kernel(struct xlat *x, unsigned k)
{
    struct emit *e = &x->e;
    xlat_branch_begin(x, 0);
    xlat_displace(x, R10);
    xlat_displace(x, R11);
    struct aside *slow = xlat_aside(x, ASIDE_SLOW, k);
    leave_by_bits(x, VCPU_OFF(efer), EFER_SCE, CC_Z, slow);
    leave_by_bits(x, VCPU_OFF(rflags), (uint32_t)FL_AC, CC_NZ, slow); /* so it is clear in the kernel, too */
    xlat_page_offset(x, R11, xlat_next_off(x, k));
    e_load(e, R10, VCPU_OFF(msr.lstar));
    leave_by_mode(x, BT_KERNEL, x->key & ~(uint32_t)BT_KEY_USER, slow);
    xlat_branch_probe(x, R10, slow, BT_KERNEL);
    e_mov(e, RCX, R11);
    xlat_written(x, BIT_OF(RCX));
    xlat_flags_image(e, R10, R11);
    e_store(e, R10, GPR_OFF(R11));
    e_load(e, R11, VCPU_OFF(msr.sfmask));
    e_not(e, R11);
    e_rr(e, 0x21, R10, R11); /* and */
    set_flags(e, R10, R11);
    set_ring(x, 0, R10);
    xlat_branch_jump(x, REG_NONE, BT_KERNEL);
}

static void xlat_enter_user(struct xlat *x, unsigned k)
{
    struct emit *e = &x->e;
    xlat_branch_begin(x, BIT_OF(RCX) | BIT_OF(R11));
    xlat_displace(x, R10);
    unsigned s = xlat_scratch(x, k, BIT_OF(RAX) | BIT_OF(RCX) | BIT_OF(R10) | BIT_OF(R11));
    struct aside *slow = xlat_aside(x, ASIDE_SLOW, k);
    leave_by_bits(x, VCPU_OFF(efer), EFER_SCE, CC_Z, slow);
    leave_by_bits(x, VCPU_OFF(ev.waiting), 0xff, CC_NZ, slow);
    e_alu_imm(e, true, ALU_TEST, R11, (uint32_t)~ORDINARY);
    xlat_from(slow, e_jump(e, CC_NZ));
    e_mov(e, R10, RCX);
    leave_by_mode(x, BT_USER, x->key | BT_KEY_USER, slow);
    xlat_branch_probe(x, R10, slow, BT_USER);
    e_mov(e, R10, R11);
    set_flags(e, R10, s);
    set_ring(x, 3, R10);
    xlat_branch_jump(x, REG_NONE, BT_USER);
}

void xlat_syscall(struct xlat *x, unsigned k)
{
    if (x->key & BT_KEY_USER)
        xlat_enter_kernel(x, k);
    else
        xlat_enter_user(x, k);
}
