// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * IN OUT INS OUTS and who may use them: SDM vol. 1, 19.5. Ports themselves are cpu_port_in() and cpu_port_out().
 */
#include "softkvm/x86/debug.h"
#include "softkvm/x86/string_op.h"

#define TSS_IO_MAP_BASE 102 /* offset of the 16-bit pointer to the bitmap, in 32- and 64-bit TSSs alike */

/* Raises #GP(0) unless all bits of [port, port+size) in the TSS's bitmap are clear. */
static void check_bitmap(struct vcpu *v, uint16_t port, unsigned size)
{
    const struct segment *tr = &v->seg[SEG_TR];
    bool wide_tss = (SEG_TYPE(tr) & 13) == 9; /* 32- or 64-bit, available or busy */
    if (tr->unusable || !wide_tss || tr->limit < TSS_IO_MAP_BASE + 1)
        cpu_gp(v, 0);
    uint32_t at = (uint32_t)sys_read(v, tr->base + TSS_IO_MAP_BASE, 2) + port / 8;
    /* Two bytes are read whatever the size, and both must lie within the limit. */
    if (at + 1 > tr->limit)
        cpu_gp(v, 0);
    uint64_t bits = sys_read(v, tr->base + at, 2);
    if (bits >> (port & 7) & (BIT64(size) - 1))
        cpu_gp(v, 0);
}

static void check_permission(struct vcpu *v, uint16_t port, unsigned size)
{
    if ((v->cr0 & CR0_PE) && (cpu_v86(v) || v->cpl > cpu_iopl(v)))
        check_bitmap(v, port, size);
}

static uint64_t port_in(struct vcpu *v, uint16_t port, unsigned size)
{
    fpu_put(v);
    debug_io_access(v, port, size);
    return cpu_port_in(v, port, size);
}

static void port_out(struct vcpu *v, uint16_t port, unsigned size, uint64_t val)
{
    fpu_put(v);
    debug_io_access(v, port, size);
    cpu_port_out(v, port, size, (uint32_t)val);
}

void op_in(struct vcpu *v, const struct insn *i)
{
    uint16_t port = (uint16_t)op_read(v, i, 1);
    check_permission(v, port, i->ops[0].size);
    op_write(v, i, 0, port_in(v, port, i->ops[0].size));
}

void op_out(struct vcpu *v, const struct insn *i)
{
    uint16_t port = (uint16_t)op_read(v, i, 0);
    check_permission(v, port, i->ops[1].size);
    port_out(v, port, i->ops[1].size, op_read(v, i, 1));
}

/* The destination must be writable before the port is read, since reading a port cannot be undone. */
static struct step ins_step(struct vcpu *v, const struct insn *i, uint64_t count)
{
    unsigned size = i->ops[0].size;
    uint64_t off = reg_get(v, RDI, i->addrsize);
    (void)count;
    mmu_probe(v, seg_linear(v, SEG_ES, off, size, MEM_W), size, MEM_W, v->mmu_idx, SEG_ES);
    string_write(v, i, port_in(v, (uint16_t)v->gpr[RDX], size));
    string_advance(v, i, RDI, 1);
    return (struct step){.done = 1};
}

void op_ins(struct vcpu *v, const struct insn *i)
{
    check_permission(v, (uint16_t)v->gpr[RDX], i->ops[0].size);
    string_repeat(v, i, ins_step);
}

static struct step outs_step(struct vcpu *v, const struct insn *i, uint64_t count)
{
    unsigned size = i->ops[0].size;
    (void)count;
    uint64_t val = mem_read(v, i->seg, reg_get(v, RSI, i->addrsize), size);
    port_out(v, (uint16_t)v->gpr[RDX], size, val);
    string_advance(v, i, RSI, 1);
    return (struct step){.done = 1};
}

void op_outs(struct vcpu *v, const struct insn *i)
{
    check_permission(v, (uint16_t)v->gpr[RDX], i->ops[0].size);
    string_repeat(v, i, outs_step);
}
