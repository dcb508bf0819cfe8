// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Moves and conversions, single flags, decimal adjustment, hints and fences, random numbers: instructions that need a few lines
 * each.
 */
#include <sys/syscall.h>

#include "softkvm/x86/op.h"

/* ---- moves ---- */
void op_mov(struct vcpu *v, const struct insn *i)
{
    op_write(v, i, 0, op_read(v, i, 1));
}

void op_movzx(struct vcpu *v, const struct insn *i)
{
    op_write(v, i, 0, op_read(v, i, 1));
}

void op_movsx(struct vcpu *v, const struct insn *i)
{
    op_write(v, i, 0, (uint64_t)sign_extend(op_read(v, i, 1), i->ops[1].size));
}

/* The source has 32 bits also when the destination has 16. */
void op_movsxd(struct vcpu *v, const struct insn *i)
{
    op_write(v, i, 0, (uint64_t)sign_extend(op_read(v, i, 1), i->ops[1].size));
}

static uint64_t byte_swap(uint64_t val, unsigned size)
{
    return __builtin_bswap64(val) >> (64 - 8 * size);
}

void op_movbe(struct vcpu *v, const struct insn *i)
{
    op_write(v, i, 0, byte_swap(op_read(v, i, 1), i->ops[0].size));
}

/* With a 16-bit operand the result is undefined; processors swap 32 bits' worth and keep the low half, which is zero. */
void op_bswap(struct vcpu *v, const struct insn *i)
{
    op_write(v, i, 0, i->opsize == 2 ? 0 : byte_swap(op_read(v, i, 0), i->opsize));
}

void op_lea(struct vcpu *v, const struct insn *i)
{
    gpr_write(v, i->ops[0].off, i->ops[0].size, insn_ea(v, i));
}

/* The source is read, and a 32-bit destination zero-extended, whatever the condition. */
void op_cmovcc(struct vcpu *v, const struct insn *i)
{
    uint64_t s = op_read(v, i, 1);
    op_write(v, i, 0, flags_cond(v->rflags, i->opcode) ? s : op_read(v, i, 0));
}

void op_setcc(struct vcpu *v, const struct insn *i)
{
    op_write(v, i, 0, flags_cond(v->rflags, i->opcode));
}

void op_xlat(struct vcpu *v, const struct insn *i)
{
    uint64_t off = (v->gpr[RBX] + (v->gpr[RAX] & 0xff)) & size_mask(i->addrsize);
    reg_set(v, RAX, 1, mem_read(v, i->seg, off, 1));
}

/* CBW CWDE CDQE */
void op_cbw(struct vcpu *v, const struct insn *i)
{
    unsigned half = i->opsize / 2;
    reg_set(v, RAX, i->opsize, (uint64_t)sign_extend(v->gpr[RAX], half));
}

/* CWD CDQ CQO */
void op_cwd(struct vcpu *v, const struct insn *i)
{
    reg_set(v, RDX, i->opsize, sign_extend(v->gpr[RAX], i->opsize) < 0 ? ~0ull : 0);
}

/* Non-temporal and direct stores are ordinary stores with weaker ordering; being stronger is allowed. */
void op_movnti(struct vcpu *v, const struct insn *i)
{
    op_write(v, i, 0, op_read(v, i, 1));
}

void op_movdiri(struct vcpu *v, const struct insn *i)
{
    op_write(v, i, 0, op_read(v, i, 1));
}

/* 64 bytes from the memory operand to ES:reg, which must be aligned. */
void op_movdir64b(struct vcpu *v, const struct insn *i)
{
    uint64_t line[8];
    uint64_t src = seg_linear(v, i->seg, insn_ea(v, i), sizeof(line), MEM_R);
    mmu_read_buf(v, src, line, sizeof(line), v->mmu_idx, i->seg);
    uint64_t dst = seg_linear(v, SEG_ES, reg_get(v, i->ops[0].reg, i->addrsize), sizeof(line), MEM_W);
    if (dst & (sizeof(line) - 1))
        cpu_gp(v, 0);
    mmu_write_buf(v, dst, line, sizeof(line), v->mmu_idx, SEG_ES);
}

/* ---- single flags ---- */
void op_clc(struct vcpu *v, const struct insn *i)
{
    (void)i;
    v->rflags &= ~FL_CF;
}

void op_stc(struct vcpu *v, const struct insn *i)
{
    (void)i;
    v->rflags |= FL_CF;
}

void op_cmc(struct vcpu *v, const struct insn *i)
{
    (void)i;
    v->rflags ^= FL_CF;
}

void op_cld(struct vcpu *v, const struct insn *i)
{
    (void)i;
    v->rflags &= ~FL_DF;
}

void op_std(struct vcpu *v, const struct insn *i)
{
    (void)i;
    v->rflags |= FL_DF;
}

#define LAHF_FLAGS (FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF)

void op_lahf(struct vcpu *v, const struct insn *i)
{
    (void)i;
    gpr_write(v, RAX * 8 + 1, 1, (v->rflags & LAHF_FLAGS) | FL_ONE);
}

void op_sahf(struct vcpu *v, const struct insn *i)
{
    (void)i;
    v->rflags = (v->rflags & ~LAHF_FLAGS) | (gpr_read(v, RAX * 8 + 1, 1) & LAHF_FLAGS);
}

void op_salc(struct vcpu *v, const struct insn *i)
{
    (void)i;
    reg_set(v, RAX, 1, v->rflags & FL_CF ? 0xff : 0);
}

/* ---- BOUND: #BR when a signed index is outside of the pair in memory ---- */
void op_bound(struct vcpu *v, const struct insn *i)
{
    unsigned size = i->opsize;
    uint64_t off = insn_ea(v, i);
    int64_t index = sign_extend(op_read(v, i, 0), size);
    /* The upper bound is read only when the lower one holds. */
    if (index < sign_extend(mem_read(v, i->seg, off, size), size))
        cpu_fault(v, EXC_BR, 0);
    if (index > sign_extend(mem_read(v, i->seg, (off + size) & size_mask(i->addrsize), size), size))
        cpu_fault(v, EXC_BR, 0);
}

/* ---- #UD by name ---- */
void op_ud0(struct vcpu *v, const struct insn *i)
{
    (void)i;
    cpu_ud(v);
}

void op_ud1(struct vcpu *v, const struct insn *i)
{
    (void)i;
    cpu_ud(v);
}

void op_ud2(struct vcpu *v, const struct insn *i)
{
    (void)i;
    cpu_ud(v);
}

/* ---- hints, fences, cache lines ---- */
void op_nop(struct vcpu *v, const struct insn *i)
{
    (void)v, (void)i;
}

void op_cldemote(struct vcpu *v, const struct insn *i)
{
    (void)v, (void)i;
}

/*
 * A guest that spins waits for another vCPU, whose thread the host may have taken off the CPU in favour of this one. So who has done little but
 * PAUSE for SPIN_US gives the CPU away for a moment.
 */
#define SPIN_US  10
#define SPIN_GAP 1000 /* TSC ticks: with more between two PAUSEs they belong to two loops */
void op_pause(struct vcpu *v, const struct insn *i)
{
    (void)i;
    __asm__ volatile("pause");
    uint64_t now = __builtin_ia32_rdtsc();
    if (now - v->spin.last > SPIN_GAP)
        v->spin.start = now;
    v->spin.last = now;
    if (now - v->spin.start < (uint64_t)v->tsc_khz * SPIN_US / 1000)
        return;
    long r; /* not libc's: the guest's vector state is live */
    __asm__ volatile("syscall" : "=a"(r) : "a"(SYS_sched_yield) : "rcx", "r11", "memory");
    STAT_ADD(v, pause_yields, 1);
    v->spin.start = v->spin.last = __builtin_ia32_rdtsc();
}

void op_lfence(struct vcpu *v, const struct insn *i)
{
    (void)v, (void)i;
    __asm__ volatile("lfence" : : : "memory");
}

void op_mfence(struct vcpu *v, const struct insn *i)
{
    (void)v, (void)i;
    __asm__ volatile("mfence" : : : "memory");
}

void op_sfence(struct vcpu *v, const struct insn *i)
{
    (void)v, (void)i;
    __asm__ volatile("sfence" : : : "memory");
}

/* CLFLUSH and its kin fault as a load of one byte does; memory is coherent without them. */
static void check_line(struct vcpu *v, const struct insn *i)
{
    mmu_probe(v, seg_linear(v, i->seg, insn_ea(v, i), 1, MEM_R), 1, MEM_R, v->mmu_idx, i->seg);
}

void op_clflush(struct vcpu *v, const struct insn *i)
{
    check_line(v, i);
}

void op_clflushopt(struct vcpu *v, const struct insn *i)
{
    check_line(v, i);
}

void op_clwb(struct vcpu *v, const struct insn *i)
{
    check_line(v, i);
}

/* ---- random numbers from the host ---- */
#define ASM_RANDOM(sfx, m, insn) __asm__ volatile(insn " %" m "[d]" ASM_FLAGS_SAVE : [d] "=r"(d), "=&a"(f) : : "cc")
#define RANDOM_OP(name)                                  \
    void op_##name(struct vcpu *v, const struct insn *i) \
    {                                                    \
        uint64_t d = 0;                                  \
        uint32_t f;                                      \
        BY_WORD_SIZE(i->ops[0].size, ASM_RANDOM, #name); \
        op_write(v, i, 0, d);                            \
        flags_put(v, f);                                 \
    }

RANDOM_OP(rdrand)
RANDOM_OP(rdseed)
