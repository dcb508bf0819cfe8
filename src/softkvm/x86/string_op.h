/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the string instructions of memory (string.c) and of ports (portio.c) share. */
#ifndef LODGE_SOFTKVM_X86_STRING_OP_H
#define LODGE_SOFTKVM_X86_STRING_OP_H

#include "softkvm/x86/op.h"

/* What one step has done. */
struct step {
    uint64_t done; /* elements, at least 1 */
    bool end;      /* REPE or REPNE has found its end */
    bool compared; /* ax holds flags, to be put when the instruction ends or is suspended: a fault later on leaves them as they were
                      before it */
    uint32_t ax;
};
typedef struct step step_fn(struct vcpu *v, const struct insn *i, uint64_t count);

/* Runs steps while the repeat prefix, RCX and the step itself say so; one step without a prefix. */
void string_repeat(struct vcpu *v, const struct insn *i, step_fn *step);

struct host_run {
    void *host;
    uint64_t code; /* of mmu_host_run() */
};
/* How many of `count` elements at seg:r can be had as plain host memory, ascending, without a further check; 0 when not even one. Raises the fault of
 * the first element. */
uint64_t string_host_run(struct vcpu *v, const struct insn *i, int seg, enum reg r, enum mem_access acc, uint64_t count, struct host_run *run);
/* `bytes` have been stored to a run. */
static inline void string_stored(struct vcpu *v, const struct host_run *run, uint64_t bytes)
{
    if (unlikely(run->code != MMU_NO_CODE))
        bt_code_write(v, run->code, (unsigned)bytes);
}

/* Moves a string pointer by n elements in DF's direction. */
static inline void string_advance(struct vcpu *v, const struct insn *i, enum reg r, uint64_t n)
{
    uint64_t delta = n * i->ops[0].size;
    uint64_t p = reg_get(v, r, i->addrsize);
    reg_set(v, r, i->addrsize, v->rflags & FL_DF ? p - delta : p + delta);
}

/* Writes one element to the destination; ES cannot be overridden. */
static inline void string_write(struct vcpu *v, const struct insn *i, uint64_t val)
{
    mem_write(v, SEG_ES, reg_get(v, RDI, i->addrsize), i->ops[0].size, val);
}

#endif
