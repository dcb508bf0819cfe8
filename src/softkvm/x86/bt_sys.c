// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a kernel does all the time: the interrupt and direction flags, EFLAGS on the stack, time stamps, SWAPGS, control registers, segment bases and
 * selectors. Each is what its interpreter's function does where nothing else follows from it; the other cases leave for that function.
 *
 * IF may be set here only while no event waits for that (v->ev.waiting): otherwise a window opens, and the API must look. STI's shadow needs no
 * state then: nothing looks for events between it and the next instruction of the block. It is never the last one of a block here, nor in front of
 * one that is interpreted.
 */
#include "softkvm/x86/bt_xlat.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_ops.h"

#define RFLAGS_OFF     offsetof(struct vcpu, rflags)
#define SEG_OFF(n, field) (offsetof(struct vcpu, seg) + (n) * sizeof(struct segment) + offsetof(struct segment, field))

static size_t cr_offset(unsigned n)
{
    switch (n) {
    case 0: return offsetof(struct vcpu, cr0);
    case 2: return offsetof(struct vcpu, cr2);
    case 3: return offsetof(struct vcpu, cr3);
    case 4: return offsetof(struct vcpu, cr4);
    default: return 0;
    }
}

static bool cr_here(const struct insn *i)
{
    if (i->ops[0].kind == OPK_CR)
        return i->ops[0].reg == 2;
    return cr_offset(i->ops[1].reg);
}

static bool seg_here(const struct insn *i)
{
    bool place = i->ops[0].kind == OPK_MEM ? i->addrsize == 8 : i->ops[0].kind == OPK_GPR && i->ops[0].size >= 4;
    return place && i->ops[1].kind == OPK_SEG && i->ops[1].reg <= SEG_GS;
}

bool xlat_sys_here(const struct insn *i, uint32_t key)
{
    bool user = key & BT_KEY_USER, tsc = !user || !(key & BT_KEY_TSD);
    switch (i->op) {
    case OP_cld:
    case OP_std: return true;
    case OP_pushf:
    case OP_popf: return i->opsize == 8;
    case OP_cli:
    case OP_sti:
    case OP_swapgs: return !user;
    case OP_rdtsc: return tsc;
    case OP_rdtscp: return tsc && (key & BT_KEY_RDTSCP);
    case OP_mov_cr: return !user && cr_here(i);
    case OP_mov_seg: return seg_here(i);
    case OP_rdpkru: return key & BT_KEY_PKE;
    case OP_rdfsbase:
    case OP_rdgsbase:
    case OP_wrfsbase:
    case OP_wrgsbase: return (key & BT_KEY_FSGSBASE) && i->ops[0].size == 8;
    default: return false;
    }
}

/* The general registers that the instruction reads and writes, rsp left out. */
void xlat_sys_use(const struct insn *i, unsigned *reads, unsigned *writes)
{
    *reads = *writes = 0;
    if (i->op == OP_rdtsc || i->op == OP_rdtscp || i->op == OP_rdpkru)
        *writes = BIT_OF(RAX) | BIT_OF(RDX) | (i->op == OP_rdtscp ? BIT_OF(RCX) : 0);
    if (i->op == OP_rdpkru)
        *reads = BIT_OF(RCX);
    else if (i->op == OP_wrfsbase || i->op == OP_wrgsbase)
        *reads = BIT_OF(i->ops[0].reg);
    else if (i->op == OP_mov_cr && i->ops[0].kind == OPK_CR)
        *reads = BIT_OF(i->ops[1].reg);
    else if (i->nops && i->ops[0].kind == OPK_GPR)
        *writes = BIT_OF(i->ops[0].reg);
}

/* cmp byte gs:[off], 0 */
static void emit_test_byte(struct emit *e, size_t off)
{
    e8(e, 0x65);
    e8(e, 0x80);
    e_gs_operand(e, ALU_CMP, off);
    e8(e, 0);
}

/* Sets or clears bit n of v->rflags; the host's flags stay when they are live: the bit is rotated to the top, and pushed out there. */
static void change_flag(struct xlat *x, unsigned k, unsigned n, bool set)
{
    struct emit *e = &x->e;
    if (!x->flags_live[k]) {
        e_alu_mem_imm(e, set ? ALU_OR : ALU_AND, RFLAGS_OFF, set ? 1u << n : ~(1u << n));
        return;
    }
    unsigned s = xlat_scratch(x, k, 0);
    e_load(e, s, RFLAGS_OFF);
    e_rorx(e, s, s, n + 1);
    e_lea(e, s, s, s, 0, set);
    e_rorx(e, s, s, 64 - n);
    e_store(e, s, RFLAGS_OFF);
}
enum { IF_BIT = 9, DF_BIT = 10 };

static void xlat_sti(struct xlat *x, unsigned k)
{
    struct emit *e = &x->e;
    if (k + 1 == x->n) {
        xlat_interp(x, k);
        return;
    }
    if (!x->flags_live[k]) {
        struct aside *slow = xlat_aside(x, ASIDE_SLOW, k);
        emit_test_byte(e, offsetof(struct vcpu, ev.waiting));
        xlat_from(slow, e_jump(e, CC_NZ));
    } else {
        xlat_displace(x, RCX);
        struct aside *slow = xlat_aside(x, ASIDE_SLOW, k);
        e_load_narrow(e, RCX, offsetof(struct vcpu, ev.waiting), 1);
        e8(e, 0xe3); /* jrcxz, over the jump that follows */
        e8(e, 5);
        xlat_from(slow, e_jump(e, -1));
    }
    change_flag(x, k, IF_BIT, true);
}

void xlat_flags_image(struct emit *e, unsigned s2, unsigned s3)
{
    e_load(e, s2, RFLAGS_OFF);
    e_alu_imm(e, true, ALU_AND, s2, (uint32_t) ~(FL_ARITH | FL_RF | FL_VM));
    e_load_narrow(e, s3, BT_OFF(flags) + 1, 1);
    e_alu_imm(e, false, ALU_AND, s3, FL_ARITH & 0xff);
    e_rr(e, 0x09, s2, s3); /* or s2, s3 */
    e_load_narrow(e, s3, BT_OFF(flags), 1);
    e_shift(e, SHIFT_SHL, s3, 11);
    e_rr(e, 0x09, s2, s3);
}

/* The a->size bytes at rSP + disp. */
static void stack_access(struct xlat *x, struct access *a, int32_t disp)
{
    if (x->key & BT_KEY_LEGACY)
        xlat_legacy_stack(x, a, disp);
    else
        xlat_access(x, a, &(struct ea){RSP, REG_NONE, 0, SEG_SS, disp, 8});
}

static void move_sp(struct xlat *x, int32_t by)
{
    if (x->key & BT_KEY_LEGACY)
        xlat_legacy_move_sp(x, by);
    else
        xlat_move_rsp(x, by);
}

static void xlat_pushf(struct xlat *x, const struct insn *i, unsigned k)
{
    struct emit *e = &x->e;
    unsigned size = i->opsize;
    struct access a = {.k = k, .size = size, .write = true, .flags_saved = true, .want_s2 = true, .avoid = BIT_OF(RAX)};
    xlat_displace(x, RAX);
    xlat_flags_save(x);
    stack_access(x, &a, -(int32_t)size);
    xlat_flags_image(e, a.s2, RAX);
    if (size == 2)
        e8(e, 0x66);
    xlat_op(x, size & 8, 0x89, a.s2, &a);
    xlat_flags_restore(x);
    move_sp(x, -(int32_t)size);
}

/* Where nothing but arithmetic flags, DF and, for the kernel, IF changes. */
static void xlat_popf(struct xlat *x, const struct insn *i, unsigned k)
{
    struct emit *e = &x->e;
    bool user = x->key & BT_KEY_USER;
    unsigned size = i->opsize;
    struct access a = {.k = k, .size = size, .want_s2 = true, .avoid = BIT_OF(RAX)};
    xlat_displace(x, RAX);
    stack_access(x, &a, 0);
    struct aside *slow = &x->asides[a.slow];
    if (size == 2)
        xlat_op_0f(x, 0, 0xb7, RAX, &a);
    else
        xlat_op(x, size & 8, 0x8b, RAX, &a);
    e_load(e, a.s2, RFLAGS_OFF);
    e_rr(e, 0x31, a.s2, RAX); /* xor s2, rax: what changes */
    if (size == 2)
        e_alu_imm(e, true, ALU_AND, a.s2, 0xffff);
    e_alu_imm(e, true, ALU_TEST, a.s2, (uint32_t) ~(FL_ARITH | FL_DF | (user ? 0 : FL_IF)));
    xlat_from(slow, e_jump(e, CC_NZ));
    if (!user) {
        e_alu_imm(e, false, ALU_TEST, a.s2, FL_IF);
        uint8_t *same = e_jump(e, CC_Z);
        emit_test_byte(e, offsetof(struct vcpu, ev.waiting));
        xlat_from(slow, e_jump(e, CC_NZ));
        e_patch(same, e->p);
    }
    e_gs(e, 0x31, a.s2, RFLAGS_OFF);
    e_mov(e, a.s2, RAX); /* AX = flags as op.h has them */
    e_shift(e, SHIFT_SHR, a.s2, 11);
    e_alu_imm(e, false, ALU_AND, a.s2, 1);
    e8(e, 0x88); /* mov ah, al */
    e8(e, 0xc4);
    e8(e, 0x40 | (a.s2 >> 3) << 2); /* mov al, s2 */
    e8(e, 0x88);
    e8(e, 0xc0 | (a.s2 & 7) << 3);
    e_flags_from_ax(e);
    move_sp(x, (int32_t)size);
}

/* mov r32, r32 */
static void emit_narrow(struct emit *e, unsigned r)
{
    e8(e, 0x89);
    e8(e, 0xc0 | r << 3 | r);
}

static void xlat_rdtsc(struct xlat *x, const struct insn *i)
{
    struct emit *e = &x->e;
    unsigned reads, writes;
    if (i->op == OP_rdtscp) { /* lfence */
        e8(e, 0x0f);
        e8(e, 0xae);
        e8(e, 0xe8);
        e_load32(e, RCX, offsetof(struct vcpu, msr.tsc_aux));
    }
    e8(e, 0x0f);
    e8(e, 0x31);
    e_rorx(e, RDX, RDX, 32);
    e_lea(e, RAX, RAX, RDX, 0, 0);
    e_load(e, RDX, offsetof(struct vcpu, tsc_offset));
    e_lea(e, RAX, RAX, RDX, 0, 0);
    e_rorx(e, RDX, RAX, 32);
    emit_narrow(e, RDX);
    emit_narrow(e, RAX);
    xlat_sys_use(i, &reads, &writes);
    xlat_written(x, writes);
}

/* `flat` may say no where yes would be true (cpu.h), never the reverse. */
static void clear_flat(struct emit *e, unsigned seg)
{
    e8(e, 0x65); /* mov byte gs:[flat], 0 */
    e8(e, 0xc6);
    e_gs_operand(e, 0, SEG_OFF(seg, flat));
    e8(e, 0);
}

static void xlat_swapgs(struct xlat *x, unsigned k)
{
    struct emit *e = &x->e;
    const size_t other = offsetof(struct vcpu, msr.kernel_gs_base);
    unsigned s1 = xlat_scratch(x, k, 0), s2 = xlat_scratch(x, k, BIT_OF(s1));
    e_load(e, s1, SEG_OFF(SEG_GS, base));
    e_load(e, s2, other);
    e_store(e, s2, SEG_OFF(SEG_GS, base));
    e_store(e, s1, other);
    clear_flat(e, SEG_GS);
}

static void xlat_write_base(struct xlat *x, const struct insn *i, unsigned k)
{
    struct emit *e = &x->e;
    unsigned seg = i->op == OP_wrfsbase ? SEG_FS : SEG_GS, r = i->ops[0].reg;
    struct access a = {.k = k, .avoid = BIT_OF(r)};
    xlat_flags_hold(x, &a);
    xlat_bring_back(x, BIT_OF(r));
    unsigned s = xlat_scratch(x, k, a.avoid);
    struct aside *slow = xlat_aside(x, ASIDE_SLOW, k);
    slow->flags_saved |= a.flags_saved;
    e_mov(e, s, r); /* canonical? */
    e_shift(e, SHIFT_SHL, s, 16);
    e_shift(e, SHIFT_SAR, s, 16);
    e_rr(e, 0x39, s, r);
    xlat_from(slow, e_jump(e, CC_NZ));
    e_store(e, r, SEG_OFF(seg, base));
    clear_flat(e, seg);
    xlat_flags_release(x, &a);
}

/* dst = 64 bits of struct vcpu */
static void xlat_get(struct xlat *x, const struct insn *i, size_t off)
{
    e_load(&x->e, i->ops[0].reg, off);
    xlat_written(x, BIT_OF(i->ops[0].reg));
}

static void xlat_mov_cr(struct xlat *x, const struct insn *i)
{
    unsigned src = i->ops[1].reg;
    if (i->ops[0].kind != OPK_CR) {
        xlat_get(x, i, cr_offset(src));
        return;
    }
    xlat_bring_back(x, BIT_OF(src));
    e_store(&x->e, src, cr_offset(i->ops[0].reg));
}

static void xlat_mov_seg(struct xlat *x, const struct insn *i, unsigned k)
{
    size_t sel = SEG_OFF(i->ops[1].reg, sel);
    if (i->ops[0].kind == OPK_GPR) {
        e_load_narrow(&x->e, i->ops[0].reg, sel, 2);
        xlat_written(x, BIT_OF(i->ops[0].reg));
        return;
    }
    struct access a = {.k = k, .size = 2, .write = true, .flags_live = x->flags_live[k], .want_s2 = true};
    struct ea ea = xlat_ea(x, i);
    xlat_access(x, &a, &ea);
    e_load_narrow(&x->e, a.s2, sel, 2);
    e8(&x->e, 0x66);
    xlat_op(x, 0, 0x89, a.s2, &a);
}

static void xlat_rdpkru(struct xlat *x, unsigned k)
{
    struct emit *e = &x->e;
    xlat_bring_back(x, BIT_OF(RCX));
    struct aside *slow = xlat_aside(x, ASIDE_SLOW, k);
    e8(e, 0x67); /* jecxz, over the jump that follows */
    e8(e, 0xe3);
    e8(e, 5);
    xlat_from(slow, e_jump(e, -1));
    e_load32(e, RAX, offsetof(struct vcpu, pkru));
    e_mov_imm32(e, RDX, 0);
    xlat_written(x, BIT_OF(RAX) | BIT_OF(RDX));
}

void xlat_sys(struct xlat *x, const struct insn *i, unsigned k)
{
    switch (i->op) {
    case OP_cld: change_flag(x, k, DF_BIT, false); break;
    case OP_std: change_flag(x, k, DF_BIT, true); break;
    case OP_cli: change_flag(x, k, IF_BIT, false); break;
    case OP_sti: xlat_sti(x, k); break;
    case OP_pushf: xlat_pushf(x, i, k); break;
    case OP_popf: xlat_popf(x, i, k); break;
    case OP_swapgs: xlat_swapgs(x, k); break;
    case OP_mov_cr: xlat_mov_cr(x, i); break;
    case OP_rdfsbase: xlat_get(x, i, SEG_OFF(SEG_FS, base)); break;
    case OP_rdgsbase: xlat_get(x, i, SEG_OFF(SEG_GS, base)); break;
    case OP_wrfsbase:
    case OP_wrgsbase: xlat_write_base(x, i, k); break;
    case OP_mov_seg: xlat_mov_seg(x, i, k); break;
    case OP_rdpkru: xlat_rdpkru(x, k); break;
    default: xlat_rdtsc(x, i); break;
    }
}
