/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running guest instructions on the host's own x87, MMX, SSE and AVX units; private to native.c, fpu.c, xsave.c, x87.c and simd.c.
 *
 * Everything that touches vector state is a `native_code`: a stub that native.c has built from a guest instruction, or an operation
 * of fpu_ops.S. It runs through fpu_run(), which sees to it that the guest's state is in the registers, and returns 0 or the trap
 * that the host's CPU raised. Between fpu_run() and the next there may be any code of this directory, but under AddressSanitizer
 * and ThreadSanitizer, whose runtimes use vector registers, each fpu_run() loads and stores the state itself (FPU_EACH).
 */
#ifndef LODGE_SOFTKVM_X86_NATIVE_H
#define LODGE_SOFTKVM_X86_NATIVE_H

#include "softkvm/x86/mem.h"
#include "softkvm/x86/trap.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define FPU_EACH 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define FPU_EACH 1
#endif
#ifndef FPU_EACH
#define FPU_EACH 0
#endif

/* General registers of a stub: what the guest's instruction takes from and leaves in its own ones. fpu_ops.S and native.c know the
 * layout. */
struct native_regs {
    uint64_t a, c, d; /* RAX, RCX, RDX */
    uint32_t ax;      /* arithmetic flags, as flags_to_ax() of op.h has them */
    uint16_t fsw;     /* x87 status word after an x87 instruction */
};

typedef uint64_t native_code(struct native_regs *r, void *mem);

/* ---- fpu_ops.S ---- */
struct fpu_bracket {
    const void *load; /* standard-format XSAVE areas */
    void *store;      /* NULL: the state that the code leaves is dropped */
    const void *init;
    native_code *code;
    struct native_regs *regs;
    void *mem;
    uint64_t load_mask, save_mask;
    struct fpu_host *host;
};
uint64_t fpu_bracket(const struct fpu_bracket *b);
void fpu_enter(const void *area, uint64_t mask, struct fpu_host *save);
void fpu_leave(void *area, uint64_t save_mask, const void *init, uint64_t init_mask, const struct fpu_host *saved);
void native_sync(void);
extern native_code fpu_op_xsave64, fpu_op_xsave, fpu_op_xrstor64, fpu_op_xrstor, fpu_op_fxsave64, fpu_op_fxsave, fpu_op_fxrstor64,
    fpu_op_fxrstor, fpu_op_ldmxcsr, fpu_op_stmxcsr, fpu_op_fwait, fpu_op_fninit, fpu_op_fnstsw, fpu_op_fnstenv32, fpu_op_fnstenv16,
    fpu_op_fldenv32, fpu_op_fldenv16, fpu_op_fnsave32, fpu_op_fnsave16, fpu_op_frstor32, fpu_op_frstor16, fpu_op_fld1, fpu_op_flds;

/* ---- fpu.c ---- */
int fpu_init(void); /* finds out about the host; 0 or -errno. For native_init() */
/* Runs code on the guest's state. */
uint64_t fpu_run(struct vcpu *v, native_code *code, struct native_regs *r, void *mem);
/* The same, but the guest's state stays as it was: shows what the code would do. */
uint64_t fpu_try(struct vcpu *v, native_code *code, struct native_regs *r, void *mem);

/* After loading x87 state from memory, or FNINIT: the pointers in the host's registers are the guest's. */
static inline void fpu_ptrs_loaded(struct vcpu *v)
{
    v->fpu.ptrs = 0;
    v->fpu.note = 0;
    v->fpu.note_ea = 0;
}
/* Before reading the pointers out of the host's registers: makes them the guest's. */
static inline void fpu_ptrs_settle(struct vcpu *v)
{
    if (v->fpu.ptrs | v->fpu.note)
        fpu_put(v);
}
/* TOP = 0: an MMX store does that before its operand can fault, on the processors that this has been compared with. */
void fpu_clear_top(struct vcpu *v);
/* Takes over what translated code has noted; before an instruction that may change the exceptions that are pending. */
void fpu_ptrs_noted(struct vcpu *v);
/* A non-control x87 instruction at v->rip has executed. `fsw` as left by it; `ea`: its memory operand's offset, if `mem`. */
void fpu_ptrs_set(struct vcpu *v, uint16_t fop, uint16_t fsw, bool mem, uint64_t ea);

/* What the tests at an instruction's start are: SDM vol. 3, tables 2-2 and 13-1; vol. 2, 2.7. */
enum fpu_class {
    FPU_X87,  /* #NM by EM or TS */
    FPU_WAIT, /* #NM by TS and MP */
    FPU_MMX,  /* #UD by EM, #NM by TS */
    FPU_SSE,  /* #UD by EM or no OSFXSR, #NM by TS */
    FPU_AVX,  /* #UD by mode, OSXSAVE, XCR0; #NM by TS */
    FPU_AVX512, /* the same with more of XCR0 */
    FPU_FXSR, /* #NM by EM or TS */
    FPU_XSAVE /* #UD by OSXSAVE, #NM by TS */
};
void fpu_check(struct vcpu *v, enum fpu_class c);

/* Raises the guest's exception for a trap of native_code. */
_Noreturn void native_raise(struct vcpu *v, uint64_t trap);
/* Is VEX.W or REX.W the size of a general register? Does the immediate hold a register? Both mean less outside 64-bit code. */
bool native_w_is_size(const struct insn *i);
bool native_imm_is_register(const struct insn *i);
/* Does it change the last-instruction pointers? Control instructions do not. *fop: what it leaves as FOP. */
bool native_x87_pointers(const struct insn *i, uint16_t *fop);
/* fpu_run() of what cannot trap in a well-behaved guest; raises otherwise. */
void native_run(struct vcpu *v, native_code *code, struct native_regs *r, void *mem);
/* Raises a pending x87 exception: for waiting instructions whose memory operand might raise something of lower priority. */
static inline void native_wait(struct vcpu *v)
{
    native_run(v, fpu_op_fwait, NULL, NULL);
}

/* A linear address without any check. */
static inline uint64_t raw_linear(const struct vcpu *v, int seg, uint64_t off)
{
    if (v->code_mode != CODE64)
        return (uint32_t)(v->seg[seg].base + off);
    return seg >= SEG_FS ? v->seg[seg].base + off : off;
}

/*
 * A memory operand of many bytes, as microcode accesses it: piece by piece, each piece's offset wrapping at the address size.
 */
struct area {
    struct vcpu *v;
    const struct insn *i;
    uint64_t ea;
};
/* An operand at offset `ea` of the instruction's segment; #GP(0) when its linear address is not aligned to `align` bytes, or #AC
 * when EFLAGS.AC asks for that. */
struct area area_at(struct vcpu *v, const struct insn *i, uint64_t ea, unsigned align, enum mem_access acc);
static inline struct area area_of(struct vcpu *v, const struct insn *i, unsigned align, enum mem_access acc)
{
    return area_at(v, i, insn_ea(v, i), align, acc);
}
void area_probe(struct area a, unsigned at, unsigned n, enum mem_access acc);
void area_read(struct area a, unsigned at, void *to, unsigned n);
void area_write(struct area a, unsigned at, const void *from, unsigned n);

/* ---- evex.c ---- */
/* Does a mask choose the elements of the memory operand that are accessed? Then these are what accesses it. */
bool evex_is_masked(const struct insn *i);
/* Is any element accessed? */
bool evex_accesses(struct vcpu *v, const struct insn *i, unsigned mem_size);
void evex_read_masked(struct vcpu *v, const struct insn *i, uint64_t ea, void *buf, unsigned mem_size);
void evex_write_masked(struct vcpu *v, const struct insn *i, uint64_t ea, const void *buf, unsigned mem_size);
void evex_gather(struct vcpu *v, const struct insn *i, unsigned index_size);
/* Bytes of the memory operand without broadcast. */
unsigned native_full_size(const struct insn *i);

/* Loads or stores a whole register by plain moves. NATIVE_XMM leaves, NATIVE_VXMM and NATIVE_YMM clear what lies above. */
enum native_file { NATIVE_MMX, NATIVE_XMM, NATIVE_VXMM, NATIVE_YMM, NATIVE_K, NATIVE_ZMM, NATIVE_FILES };
void native_load(struct vcpu *v, enum native_file f, unsigned reg, void *from);
void native_store(struct vcpu *v, enum native_file f, unsigned reg, void *to);

/* Fallbacks of libc's functions, which may use vector registers. */
static inline void bytes_copy(void *to, const void *from, uint64_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}
static inline void bytes_fill(void *to, uint8_t val, uint64_t n)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(val) : "memory");
}

#endif
