// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * x87 environments: FLDENV, FNSTENV, FRSTOR, FNSAVE, and WAIT. SDM vol. 1, 8.1.10 and 8.1.11.
 *
 * The host's own instructions produce and take the two protected-mode formats. Those of real and virtual-8086 mode differ in where
 * the pointers lie, and are converted to and from the 32-bit protected-mode format. Code segment and data segment selectors are
 * zero throughout, as on all processors with CPUID.7.0:EBX[13]; so the pointers of the real-mode formats are offsets.
 */
#include "softkvm/x86/isa.h"
#include "softkvm/x86/native.h"

#define ST_SIZE 80 /* the eight registers behind the environment in a save area */

/* The 32-bit protected-mode format */
struct env {
    uint32_t fcw, fsw, ftw, fip, fcs_fop, fdp, fds;
    uint8_t st[ST_SIZE];
};

struct env_format {
    bool wide; /* 32-bit operand size */
    bool real; /* pointers as in real and virtual-8086 mode */
};

static struct env_format format_of(const struct vcpu *v, const struct insn *i)
{
    return (struct env_format){.wide = i->opsize != 2, .real = !cpu_protected(v)};
}
static unsigned env_size(struct env_format f)
{
    return f.wide ? 28 : 14;
}
/* Real-mode formats travel through the 32-bit protected one. */
static bool host_wide(struct env_format f)
{
    return f.wide || f.real;
}

static void put16(uint8_t *p, uint32_t val)
{
    p[0] = (uint8_t)val;
    p[1] = (uint8_t)(val >> 8);
}
static uint32_t get16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

/* SDM vol. 1, figures 8-10 and 8-12: pointer bits from 16 up stand in bits 12 up of the next word. */
static void to_real(struct env *e, bool wide)
{
    uint32_t fop = e->fcs_fop >> 16 & 0x7ff;
    struct env o;
    bytes_copy(&o, e, sizeof(o));
    if (wide) {
        e->fip = o.fip & 0xffff;
        e->fcs_fop = o.fip >> 16 << 12 | fop;
        e->fdp = o.fdp & 0xffff;
        e->fds = o.fdp >> 16 << 12;
        return;
    }
    uint8_t *p = (uint8_t *)e;
    put16(p, o.fcw);
    put16(p + 2, o.fsw);
    put16(p + 4, o.ftw);
    put16(p + 6, o.fip);
    put16(p + 8, (o.fip >> 16 & 15) << 12 | fop);
    put16(p + 10, o.fdp);
    put16(p + 12, (o.fdp >> 16 & 15) << 12);
    bytes_copy(p + 14, o.st, ST_SIZE);
}

static void from_real(struct env *e, bool wide)
{
    struct env o;
    bytes_copy(&o, e, sizeof(o));
    if (wide) {
        e->fip = (o.fip & 0xffff) | o.fcs_fop >> 12 << 16;
        e->fcs_fop = (o.fcs_fop & 0x7ff) << 16;
        e->fdp = (o.fdp & 0xffff) | o.fds >> 12 << 16;
        e->fds = 0;
        return;
    }
    const uint8_t *p = (const uint8_t *)&o;
    e->fcw = get16(p);
    e->fsw = get16(p + 2);
    e->ftw = get16(p + 4);
    e->fip = get16(p + 6) | get16(p + 8) >> 12 << 16;
    e->fcs_fop = (get16(p + 8) & 0x7ff) << 16;
    e->fdp = get16(p + 10) | get16(p + 12) >> 12 << 16;
    e->fds = 0;
    bytes_copy(e->st, p + 14, ST_SIZE);
}

/* Probes as microcode does: the control word, the last byte, the rest. */
static struct area env_probe(struct vcpu *v, const struct insn *i, struct env_format f, unsigned n, enum mem_access acc)
{
    struct area a = area_of(v, i, v->mmu_idx != MMU_USER_AC ? 1 : f.wide ? 4 : 2, acc);
    area_probe(a, 0, f.wide ? 4 : 2, acc);
    area_probe(a, n - 1, 1, acc);
    area_probe(a, 0, n, acc);
    return a;
}

/* Environment of `n` bytes -> guest memory, then `then` is done to the state: masking all exceptions, or initialising. */
static void store(struct vcpu *v, const struct insn *i, struct env_format f, unsigned n, native_code *code, native_code *then)
{
    struct env e, scratch;
    fpu_check(v, FPU_X87);
    struct area a = env_probe(v, i, f, n, MEM_W);
    fpu_try(v, code, NULL, &e);
    if (f.real)
        to_real(&e, f.wide);
    area_write(a, 0, &e, n);
    native_run(v, then, NULL, &scratch);
}

void op_fnstenv(struct vcpu *v, const struct insn *i)
{
    struct env_format f = format_of(v, i);
    native_code *code = host_wide(f) ? fpu_op_fnstenv32 : fpu_op_fnstenv16;
    store(v, i, f, env_size(f), code, code);
}

void op_fnsave(struct vcpu *v, const struct insn *i)
{
    struct env_format f = format_of(v, i);
    store(v, i, f, env_size(f) + ST_SIZE, host_wide(f) ? fpu_op_fnsave32 : fpu_op_fnsave16, fpu_op_fninit);
    fpu_ptrs_loaded(v);
}

static void load(struct vcpu *v, const struct insn *i, struct env_format f, unsigned n, native_code *code)
{
    struct env e;
    fpu_check(v, FPU_X87);
    native_wait(v);
    area_read(env_probe(v, i, f, n, MEM_R), 0, &e, n);
    if (f.real)
        from_real(&e, f.wide);
    native_run(v, code, NULL, &e);
    fpu_ptrs_loaded(v);
}

void op_fldenv(struct vcpu *v, const struct insn *i)
{
    struct env_format f = format_of(v, i);
    load(v, i, f, env_size(f), host_wide(f) ? fpu_op_fldenv32 : fpu_op_fldenv16);
}

void op_frstor(struct vcpu *v, const struct insn *i)
{
    struct env_format f = format_of(v, i);
    load(v, i, f, env_size(f) + ST_SIZE, host_wide(f) ? fpu_op_frstor32 : fpu_op_frstor16);
}

void op_fwait(struct vcpu *v, const struct insn *i)
{
    (void)i;
    fpu_check(v, FPU_WAIT);
    native_wait(v);
}
