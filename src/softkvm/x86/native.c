// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest vector instructions on the host's units.
 *
 * A stub is a function around one guest instruction that has been rewritten so that it depends on nothing of the guest's but vector
 * registers: its memory operand is (%rsi), general registers in ModRM.reg, ModRM.rm and VEX.vvvv become RAX, RCX and RDX, which the
 * stub loads from and stores to struct native_regs together with the flags. Segment override and address size prefixes are dropped,
 * as insn_ea() and seg_linear() have dealt with them. So a stub does not depend on the mode, on addresses or on which general
 * registers are used; a few thousand serve a whole system, and all vCPUs share them.
 *
 * Stubs are never changed and never freed, hence `i->native` stays valid in every decode cache. When STUB_MAX different ones exist
 * (no guest but a fuzzer gets there), further instructions are built each time into one scratch slot, under a spin lock.
 *
 * Code lies in a memfd that is mapped twice: written through one mapping, executed through the other. native_sync() makes what has
 * been written, by this CPU or another, safe to execute; it runs whenever a vCPU looks a stub up, that is, before it first executes
 * it.
 *
 * The mappings do not survive fork(): as with KVM, vCPUs belong to the process that created them.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "softkvm/x86/isa_pattern.h"
#include "softkvm/x86/native.h"
#include "softkvm/x86/op.h"

#define STUB_MAX   32768
#define STUB_CODE  64 /* bytes of code a stub may have */
#define STUB_TABLE (2 * STUB_MAX)
#define MOVE_CODE  16 /* bytes of one of native_load()'s and native_store()'s */
#define MOVE_BYTES (NATIVE_FILES * 2 * 32 * MOVE_CODE)
#define CODE_BYTES (MOVE_BYTES + (STUB_MAX + 1) * STUB_CODE)

enum stub_flag {
    STUB_FLAGS_IN = 1,  /* load arithmetic flags before */
    STUB_FLAGS_OUT = 2, /* and store them after the instruction */
    STUB_WAITS = 4,     /* raises pending x87 exceptions first */
    STUB_POINTERS = 8,  /* x87: sets the last-instruction pointers; the stub stores the status word */
    STUB_RESETS = 16,   /* FNINIT: clears them */
    STUB_GPR = 32,      /* `slot` says something */
    STUB_NO_AC = 64,    /* the memory operand is never checked for alignment */
};

#define FSW_ES 0x80 /* an unmasked x87 exception is pending */

/* Where RAX, RCX and RDX come from and go to: operand number + 1 for the value before (low four bits) and after the instruction, 0
 * for nowhere, SLOT_SELF for the guest's register of the same name. */
enum { SLOT_A, SLOT_C, SLOT_D, SLOT_COUNT };
#define SLOT_SELF 15

struct native_stub {
    native_code *code;
    uint8_t cls;      /* enum fpu_class */
    uint8_t flags;    /* enum stub_flag */
    uint8_t access;   /* of the memory operand: ISA_OP_R, ISA_OP_W; 0 without one */
    uint8_t mem_size; /* bytes */
    uint8_t align;    /* of the memory operand, else #GP(0); 0 any */
    uint8_t slot[SLOT_COUNT];
    uint8_t len;
    uint8_t text[47];
};
_Static_assert(sizeof(struct native_stub) == 64, "compared in words");

static struct {
    uint8_t *rw, *rx; /* the code's two mappings */
    _Atomic unsigned count;
    _Atomic uint16_t table[STUB_TABLE]; /* open hash of index + 1 */
    struct native_stub stubs[STUB_MAX];
    _Atomic bool scratch_busy;
} code;

/* ---- rewriting ---- */

struct emitter {
    uint8_t *text;
    unsigned n;
};
static void emit(struct emitter *e, unsigned n, uint64_t bytes)
{
    for (unsigned k = 0; k < n; k++)
        e->text[e->n++] = (uint8_t)(bytes >> 8 * k);
}

/* The letter that says where operand n stands in the encoding: isa_rows.h. */
static char operand_place(const struct isa_row *row, unsigned n)
{
    const char *s = row->operands;
    for (; n; s++)
        n -= *s == ',';
    return *s;
}

static bool is_x87(const struct insn *i)
{
    return i->opmap == 0 && (i->opcode & 0xf8) == 0xd8;
}
static bool is_mem(const struct insn *i)
{
    return i->modrm < 0xc0;
}
static bool has_modrm(const struct insn *i)
{
    return !(i->opmap == 1 && i->opcode == 0x77); /* EMMS, VZEROUPPER, VZEROALL */
}

/* x87 instructions that do not wait: FNSTCW, FNSTSW, FNCLEX, FNINIT and the no-operations among them. */
static bool x87_no_wait(const struct insn *i)
{
    unsigned reg = i->modrm >> 3 & 7;
    return (is_mem(i) && reg == 7 && (i->opcode == 0xd9 || i->opcode == 0xdd)) ||
           (i->opcode == 0xdb && i->modrm >= 0xe0 && i->modrm <= 0xe4) || (i->opcode == 0xdf && i->modrm == 0xe0);
}
/* Control instructions leave the last-instruction pointers alone (SDM vol. 1, 8.1.8): the above and FLDCW. */
static bool x87_control(const struct insn *i)
{
    return x87_no_wait(i) || (i->opcode == 0xd9 && is_mem(i) && (i->modrm >> 3 & 7) == 5);
}

bool native_x87_pointers(const struct insn *i, uint16_t *fop)
{
    *fop = (uint16_t)((i->opcode & 7) << 8 | i->modrm);
    return is_x87(i) && !x87_control(i);
}

static enum fpu_class class_of(const struct insn *i)
{
    bool vec = false;
    if (is_x87(i))
        return FPU_X87;
    for (unsigned n = 0; n < i->nops; n++) {
        vec |= i->ops[n].kind == OPK_VEC;
        if (i->ops[n].kind == OPK_K)
            return FPU_AVX512;
    }
    if (insn_has(i, PFX_VEX | PFX_EVEX))
        return insn_has(i, PFX_VEX) ? FPU_AVX : FPU_AVX512;
    return vec ? FPU_SSE : FPU_MMX; /* MMX also for those with general registers only; there are none, and EMMS */
}

/* In 64-bit code W gives these 64-bit general registers, in others it is ignored: MOVD, CVTSI2SS, CVTSS2SI, PEXTRD, PINSRD,
 * PCMPESTRx. */
bool native_w_is_size(const struct insn *i)
{
    if (i->opmap == 1)
        return i->opcode == 0x2a || i->opcode == 0x2c || i->opcode == 0x2d || i->opcode == 0x6e || i->opcode == 0x7e;
    return i->opmap == 3 && (i->opcode == 0x16 || i->opcode == 0x22 || i->opcode == 0x60 || i->opcode == 0x61);
}

/* A register in imm8[7:4] */
bool native_imm_is_register(const struct insn *i)
{
    return i->nops == 4 && operand_place(i->desc, 3) == 'L';
}

/* Registers as the stub has them. */
struct fields {
    uint8_t rex; /* R'=16 W=8 R=4 X=2 B=1 */
    uint8_t modrm, vvvv;
};

/* Gives general register operands their slots, notes the memory operand, and adapts the register fields. */
static struct fields assign(const struct insn *i, struct native_stub *s)
{
    bool code64 = i->mode == CODE64;
    struct fields f = {.rex = i->rex & (code64 ? 31 : 8), .modrm = i->modrm, .vvvv = i->vvvv & (code64 ? 15 : 7)};
    if (!code64 && native_w_is_size(i))
        f.rex = 0;
    for (unsigned n = 0; n < i->nops; n++) {
        const struct operand *o = &i->ops[n];
        unsigned use = i->desc->opuse >> 2 * n & 3, slot = SLOT_A;
        if (o->kind == OPK_MEM) {
            s->access = (uint8_t)(use ? use : ISA_OP_R);
            s->mem_size = o->size;
            s->align = i->desc->flags & ISA_ALIGN ? o->size : 0;
            f.modrm = (f.modrm & 0x38) | 6; /* (%rsi) */
            f.rex &= 0x1c;
        }
        if (o->kind != OPK_GPR)
            continue;
        switch (operand_place(i->desc, n)) {
        case 'G':
            f.modrm &= 0xc7;
            f.rex &= 0xb;
            break;
        case 'E':
        case 'R':
            slot = SLOT_C;
            f.modrm = (f.modrm & 0xf8) | 1;
            f.rex &= 0x1c;
            break;
        case 'B':
            slot = SLOT_D;
            f.vvvv = RDX;
            break;
        }
        s->slot[slot] = (uint8_t)((n + 1) | (use & ISA_OP_W ? (n + 1) << 4 : 0));
        s->flags |= STUB_GPR;
    }
    return f;
}

/* PCMPESTRx take lengths from RAX and RDX, PCMPxSTRI leave an index in RCX. */
static void assign_implicit(const struct insn *i, struct native_stub *s)
{
    if (i->opmap != 3 || i->opcode < 0x60 || i->opcode > 0x63)
        return;
    s->flags |= STUB_GPR;
    if (i->opcode < 0x62)
        s->slot[SLOT_A] = s->slot[SLOT_D] = SLOT_SELF;
    if (i->opcode & 1)
        s->slot[SLOT_C] = SLOT_SELF | SLOT_SELF << 4;
}

static void emit_prefixes(struct emitter *e, const struct insn *i, struct fields f)
{
    if (insn_has(i, PFX_VEX)) {
        unsigned last = i->bytes[i->opcode_at - 1]; /* of C4 and C5 alike: L and pp in the low three bits */
        emit(e, 2, 0xc4u | ((~(unsigned)f.rex & 7) << 5 | i->opmap) << 8);
        emit(e, 1, (f.rex & 8u) << 4 | (~(unsigned)f.vvvv & 15) << 3 | (last & 7));
        return;
    }
    if (insn_has(i, PFX_EVEX)) { /* L'L, b, z and the mask as they are */
        const uint8_t *p = i->bytes + i->opcode_at - 3;
        emit(e, 2, 0x62u | ((~(unsigned)f.rex & 7) << 5 | (f.rex & 16 ? 0 : 0x10) | i->opmap) << 8);
        emit(e, 2, ((f.rex & 8u) << 4 | (~(unsigned)f.vvvv & 15) << 3 | (p[1] & 7)) | (unsigned)p[2] << 8);
        return;
    }
    if (is_x87(i))
        return;
    /* 66, F2 and F3 select the instruction; the order of F2 and F3 counts, so the last of each is kept in its place */
    for (unsigned k = 0; k < i->opcode_at; k++) {
        uint8_t b = i->bytes[k];
        bool again = false;
        for (unsigned l = k + 1; l < i->opcode_at; l++)
            again |= i->bytes[l] == b;
        if ((b == 0x66 || b == 0xf2 || b == 0xf3) && !again)
            emit(e, 1, b);
    }
    if (f.rex)
        emit(e, 1, 0x40u | f.rex);
    if (i->opmap)
        emit(e, 1, 0x0f);
    if (i->opmap > 1)
        emit(e, 1, i->opmap == 2 ? 0x38 : 0x3a);
}

/* VZEROUPPER and VZEROALL leave registers 8 to 15 alone outside 64-bit code. The same for the lower eight: VMOVAPS to itself,
 * VXORPS with itself. */
static void emit_zero_low(struct emitter *e, bool all)
{
    for (unsigned reg = 0; reg < 8; reg++)
        emit(e, 4, 0xc5u | (0x80 | (~(all ? reg : 0) & 15) << 3) << 8 | (all ? 0x57u : 0x28u) << 16 | (0xc0 | reg * 9) << 24);
}

static void emit_insn(struct emitter *e, const struct insn *i, struct fields f)
{
    if (i->mode != CODE64 && i->opcode == 0x77 && insn_has(i, PFX_VEX)) {
        emit_zero_low(e, i->bytes[i->opcode_at - 1] & 4);
        return;
    }
    emit_prefixes(e, i, f);
    emit(e, 1, i->opcode);
    if (has_modrm(i))
        emit(e, 1, f.modrm);
    for (unsigned k = 0; k < i->imm_len; k++) {
        uint8_t b = i->bytes[i->imm_at + k];
        if (i->mode != CODE64 && native_imm_is_register(i)) /* bit 7 is ignored outside 64-bit code */
            b &= 0x7f;
        emit(e, 1, b);
    }
}

/* mov between a slot's register and struct native_regs (RDI): 48 8b /r or 48 89 /r, disp8 */
static void emit_slot(struct emitter *e, unsigned slot, bool store)
{
    emit(e, 4, 0x478b48u - (store ? 0x200u : 0) + slot * 0x80000 + slot * 8 * 0x1000000);
}

static void emit_stub(struct emitter *e, const struct insn *i, struct native_stub *s, struct fields f)
{
    const unsigned at_ax = offsetof(struct native_regs, ax), at_fsw = offsetof(struct native_regs, fsw);
    if (s->flags & STUB_FLAGS_IN) {
        emit(e, 3, 0x478b | at_ax << 16); /* mov ax(%rdi), %eax */
        emit(e, 3, 0x9e7f04);             /* add $0x7f, %al; sahf: see op.h */
    }
    for (unsigned n = 0; n < SLOT_COUNT; n++)
        if (s->slot[n] & 15)
            emit_slot(e, n, false);
    emit_insn(e, i, f);
    for (unsigned n = 0; n < SLOT_COUNT; n++)
        if (s->slot[n] >> 4)
            emit_slot(e, n, true);
    if (s->flags & STUB_FLAGS_OUT) {
        emit(e, 4, 0xc0900f9f);           /* lahf; seto %al */
        emit(e, 3, 0x4789 | at_ax << 16); /* mov %eax, ax(%rdi) */
    }
    if (s->flags & STUB_POINTERS)
        emit(e, 3, 0x7fdd | at_fsw << 16); /* fnstsw fsw(%rdi) */
    emit(e, 3, 0xc3c031);                  /* xor %eax, %eax; ret */
}

static void build(const struct insn *i, struct native_stub *s)
{
    bytes_fill(s, 0, sizeof(*s));
    s->cls = (uint8_t)class_of(i);
    struct fields f = assign(i, s);
    assign_implicit(i, s);
    if (i->desc->flags & ISA_WFLAGS)
        s->flags |= STUB_FLAGS_OUT;
    /* FCOMI and its kin leave OF, SF and AF alone on some processors */
    if ((i->desc->flags & ISA_RFLAGS) || (s->cls == FPU_X87 && (i->desc->flags & ISA_WFLAGS)))
        s->flags |= STUB_FLAGS_IN;
    if (s->cls == FPU_X87) {
        s->flags |= x87_no_wait(i) ? 0 : STUB_WAITS;
        s->flags |= x87_control(i) ? 0 : STUB_POINTERS;
        if (i->opcode == 0xdb && i->modrm == 0xe3)
            s->flags |= STUB_RESETS;
    }
    for (unsigned n = 0; n < i->nops; n++)
        if (i->ops[n].kind == OPK_MMX)
            s->flags |= STUB_WAITS;
    if (s->mem_size > 10 || i->op == OP_vcvtph2ps || i->op == OP_vcvtps2ph)
        s->flags |= STUB_NO_AC;
    struct emitter e = {s->text, 0};
    emit_stub(&e, i, s, f);
    s->len = (uint8_t)e.n;
}

/* ---- the table of stubs ---- */

static bool same(const struct native_stub *a, const struct native_stub *b)
{
    const uint64_t *x = (const uint64_t *)(const void *)a, *y = (const uint64_t *)(const void *)b;
    for (unsigned n = 1; n < sizeof(*a) / 8; n++) /* all but `code` */
        if (x[n] != y[n])
            return false;
    return true;
}

static unsigned hash(const struct native_stub *s)
{
    const uint64_t *x = (const uint64_t *)(const void *)s;
    uint64_t h = 0;
    for (unsigned n = 1; n < sizeof(*s) / 8; n++)
        h = (h ^ x[n]) * 0x9e3779b97f4a7c15ull, h ^= h >> 29;
    return (unsigned)(h >> 32) % STUB_TABLE;
}

static void place_code(struct native_stub *s, unsigned slot)
{
    unsigned at = MOVE_BYTES + slot * STUB_CODE;
    bytes_copy(code.rw + at, s->text, s->len);
    s->code = (native_code *)(uintptr_t)(code.rx + at);
}

/* Takes a fresh slot for the stub: its index, or STUB_MAX when there is none. */
static unsigned add(const struct native_stub *s)
{
    if (atomic_load_explicit(&code.count, memory_order_relaxed) >= STUB_MAX)
        return STUB_MAX;
    unsigned n = atomic_fetch_add_explicit(&code.count, 1, memory_order_relaxed);
    if (n >= STUB_MAX)
        return STUB_MAX;
    bytes_copy(&code.stubs[n], s, sizeof(*s));
    place_code(&code.stubs[n], n);
    return n;
}

/* Finds or adds the stub; NULL when the table is full. Lock-free: an entry of the hash is set once, after all that it stands for.
 */
static const struct native_stub *lookup(const struct native_stub *s)
{
    unsigned mine = STUB_MAX;
    for (unsigned h = hash(s);;) {
        uint16_t e = atomic_load_explicit(&code.table[h], memory_order_acquire);
        if (!e) {
            if (mine == STUB_MAX && (mine = add(s)) == STUB_MAX)
                return NULL;
            if (atomic_compare_exchange_strong(&code.table[h], &e, (uint16_t)(mine + 1)))
                return &code.stubs[mine];
            continue; /* another vCPU was faster: look at its entry */
        }
        if (same(&code.stubs[e - 1], s))
            return &code.stubs[e - 1];
        h = (h + 1) % STUB_TABLE;
    }
}

/* ---- execution ---- */

void native_raise(struct vcpu *v, uint64_t trap)
{
    switch (trap) {
    case NATIVE_TRAP(EXC_MF):
        /* With CR0.NE = 0 hardware would assert FERR# and leave it to the board to raise IRQ 13. KVM always has NE set underneath
         * and delivers #MF, and so do we. */
        cpu_fault(v, EXC_MF, 0);
    case NATIVE_TRAP(EXC_XM):
        cpu_fault(v, v->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD, 0);
    case NATIVE_TRAP(EXC_GP):
        cpu_gp(v, 0);
    default:
        cpu_ud(v); /* an instruction that the host's CPU lacks */
    }
}

void native_run(struct vcpu *v, native_code *fn, struct native_regs *r, void *mem)
{
    uint64_t trap = fpu_run(v, fn, r, mem);
    if (unlikely(trap))
        native_raise(v, trap);
}

/* Runs a stub by fpu_run() or fpu_try(); builds it first when it is none of the table's. */
typedef uint64_t runner(struct vcpu *v, native_code *fn, struct native_regs *r, void *mem);
static void run_stub(struct vcpu *v, runner *run, const struct native_stub *s, struct native_regs *r, void *mem)
{
    uint64_t trap;
    if (likely(s->code != NULL)) {
        trap = run(v, s->code, r, mem);
    } else {
        struct native_stub scratch;
        bytes_copy(&scratch, s, sizeof(scratch));
        while (atomic_exchange_explicit(&code.scratch_busy, true, memory_order_acquire))
            __builtin_ia32_pause();
        place_code(&scratch, STUB_MAX);
        native_sync();
        trap = run(v, scratch.code, r, mem);
        atomic_store_explicit(&code.scratch_busy, false, memory_order_release);
    }
    if (unlikely(trap))
        native_raise(v, trap);
}

/* Runs a stub on the guest's state. */
static inline void run_now(struct vcpu *v, const struct native_stub *s, struct native_regs *r, void *mem)
{
    if (unlikely(FPU_EACH || !v->fpu.live || !s->code)) {
        run_stub(v, fpu_run, s, r, mem);
        return;
    }
    uint64_t trap = s->code(r, mem);
    if (unlikely(trap))
        native_raise(v, trap);
}

static void regs_load(const struct vcpu *v, const struct insn *i, const struct native_stub *s, struct native_regs *r)
{
    static const uint8_t self[SLOT_COUNT] = {RAX, RCX, RDX};
    uint64_t *val = &r->a;
    for (unsigned n = 0; n < SLOT_COUNT; n++) {
        unsigned from = s->slot[n] & 15;
        if (from == SLOT_SELF)
            val[n] = v->gpr[self[n]];
        else if (from)
            val[n] = gpr_read(v, i->ops[from - 1].off, i->ops[from - 1].size);
    }
}

static void regs_store(struct vcpu *v, const struct insn *i, const struct native_stub *s, const struct native_regs *r)
{
    static const uint8_t self[SLOT_COUNT] = {RAX, RCX, RDX};
    const uint64_t *val = &r->a;
    for (unsigned n = 0; n < SLOT_COUNT; n++) {
        unsigned to = s->slot[n] >> 4;
        if (to == SLOT_SELF)
            v->gpr[self[n]] = val[n];
        else if (to)
            gpr_write(v, i->ops[to - 1].off, i->ops[to - 1].size, val[n]);
    }
}

static bool accesses(struct vcpu *v, const struct insn *i, const struct native_stub *s)
{
    return !evex_is_masked(i) || evex_accesses(v, i, s->mem_size);
}

/*
 * The operand's linear address, with all checks that come before paging. Alignment comes first: against the operand's size where
 * the instruction asks for it, SDM vol. 1, 10.4; against min(size, 8) where EFLAGS.AC does, SDM vol. 3, table 6-7.
 */
static uint64_t linear(struct vcpu *v, const struct insn *i, const struct native_stub *s, uint64_t ea, enum mem_access acc)
{
    if (s->align && (raw_linear(v, i->seg, ea) & (s->align - 1u)) && accesses(v, i, s))
        cpu_gp(v, 0);
    uint64_t la = seg_linear(v, i->seg, ea, s->mem_size, acc);
    unsigned align = MIN(s->mem_size, 8u);
    if (v->mmu_idx == MMU_USER_AC && !(s->flags & STUB_NO_AC) && (la & (align - 1)) && (v->code_mode != CODE64 || is_canonical(la)) &&
        accesses(v, i, s))
        cpu_fault(v, EXC_AC, 0);
    return la;
}

/* What an x87 instruction would store; false when an unmasked exception suppresses the store. */
static bool try_store(struct vcpu *v, const struct native_stub *s, const struct native_regs *r, uint8_t *buf)
{
    uint8_t other[32] __attribute__((aligned(32)));
    struct native_regs after = *r;
    bytes_fill(buf, 0, s->mem_size);
    run_stub(v, fpu_try, s, &after, buf);
    if (!(after.fsw & FSW_ES))
        return true;
    bytes_fill(other, 0xff, s->mem_size);
    run_stub(v, fpu_try, s, &after, other);
    for (unsigned n = 0; n < s->mem_size; n++)
        if (buf[n] == other[n])
            return true;
    return false; /* each byte is as it was before, whatever that was */
}

/*
 * A store that changes x87 registers, to a place without a host address at hand. The write may fault, or leave for user space and
 * restart the instruction. So what is to be written is found out first, and only once memory has it does the instruction run for
 * good.
 */
static void store_x87(struct vcpu *v, const struct insn *i, const struct native_stub *s, struct native_regs *r, uint64_t ea)
{
    uint8_t buf[32] __attribute__((aligned(32)));
    if (try_store(v, s, r, buf)) {
        uint64_t la = linear(v, i, s, ea, MEM_W);
        /* Ten bytes are two stores on the host's processors, too: the first one stays when the second faults. */
        unsigned first = MIN(s->mem_size, 8u);
        mmu_write_buf(v, la, buf, first, v->mmu_idx, i->seg);
        if (s->mem_size > first)
            mmu_write_buf(v, la + first, buf + first, s->mem_size - first, v->mmu_idx, i->seg);
    }
    run_now(v, s, r, buf);
}

/*
 * Stores other than x87's may run any number of times: they pop nothing. VCVTPS2PH sets MXCSR's flags or raises #XM before it
 * touches memory; MMX stores must not change the x87 tags when memory faults.
 */
static void store_other(struct vcpu *v, const struct insn *i, const struct native_stub *s, struct native_regs *r, uint64_t ea)
{
    uint8_t buf[64] __attribute__((aligned(64)));
    if (s->flags & STUB_WAITS) {
        fpu_clear_top(v);
        mmu_probe(v, linear(v, i, s, ea, MEM_W), s->mem_size, MEM_W, v->mmu_idx, i->seg);
    }
    run_now(v, s, r, buf);
    uint64_t la = linear(v, i, s, ea, MEM_W);
    if (evex_is_masked(i))
        evex_write_masked(v, i, ea, buf, s->mem_size);
    else
        mmu_write_buf(v, la, buf, s->mem_size, v->mmu_idx, i->seg);
}

unsigned native_full_size(const struct insn *i)
{
    const struct isa_pattern *p = &isa_patterns[i->desc - isa_rows];
    for (unsigned n = 0; n < i->nops; n++)
        if (i->ops[n].kind == OPK_MEM)
            switch (p->ops[n].mem_size) {
            case SZ_X: return i->vl;
            case SZ_H: return i->vl / 2u;
            case SZ_F: return i->vl / 4u;
            default: return p->ops[n].mem_size;
            }
    return 0;
}

/* Whatever may be the matter: a TLB miss, two pages, MMIO, a watchpoint, a fault. Pending x87 exceptions come before any of them.
 */
static __attribute__((noinline)) void run_mem_slow(struct vcpu *v, const struct insn *i, const struct native_stub *s,
                                                   struct native_regs *r, uint64_t ea)
{
    uint8_t buf[64] __attribute__((aligned(64)));
    if (s->flags & STUB_WAITS)
        native_wait(v);
    if (!(s->access & ISA_OP_W)) {
        uint64_t la = linear(v, i, s, ea, MEM_R);
        if (evex_is_masked(i))
            evex_read_masked(v, i, ea, buf, s->mem_size);
        else
            mmu_read_buf(v, la, buf, s->mem_size, v->mmu_idx, i->seg);
        run_now(v, s, r, buf);
    } else if (s->flags & STUB_POINTERS) {
        store_x87(v, i, s, r, ea);
    } else {
        store_other(v, i, s, r, ea);
    }
}

static void run_mem(struct vcpu *v, const struct insn *i, const struct native_stub *s, struct native_regs *r, uint64_t ea)
{
    enum mem_access acc = s->access & ISA_OP_W ? MEM_W : MEM_R;
    uint64_t la = ea;
    bool plain = true;
    if (likely(v->code_mode == CODE64))
        la += i->seg >= SEG_FS ? v->seg[i->seg].base : 0;
    else
        plain = v->seg[i->seg].flat && ea + s->mem_size <= BIT64(32);
    plain &= !(s->align && (la & (s->align - 1u)));
    void *p = likely(plain) ? mmu_host_fast(v, la, s->mem_size, acc, v->mmu_idx) : NULL;
    if (likely(p != NULL))
        run_now(v, s, r, p);
    else
        run_mem_slow(v, i, s, r, ea);
}

static void exec(struct vcpu *v, const struct insn *i, const struct native_stub *s)
{
    struct native_regs r;
    uint64_t ea = 0;
    fpu_check(v, s->cls);
    if (s->cls == FPU_X87)
        fpu_ptrs_noted(v);
    if (s->flags & STUB_GPR)
        regs_load(v, i, s, &r);
    if (s->flags & STUB_FLAGS_IN)
        r.ax = flags_to_ax(v->rflags);
    if (s->access) {
        ea = insn_ea(v, i);
        run_mem(v, i, s, &r, ea);
    } else {
        run_now(v, s, &r, NULL);
    }
    if (s->flags & STUB_GPR)
        regs_store(v, i, s, &r);
    if (s->flags & STUB_FLAGS_OUT)
        flags_put(v, r.ax);
    if (s->flags & STUB_POINTERS)
        fpu_ptrs_set(v, (uint16_t)((i->opcode & 7) << 8 | i->modrm), r.fsw, s->access, ea);
    if (s->flags & STUB_RESETS)
        fpu_ptrs_loaded(v);
}

void native_exec(struct vcpu *v, const struct insn *i)
{
    const struct native_stub *s = i->native;
    if (likely(s != NULL)) {
        exec(v, i, s);
        return;
    }
    struct native_stub fresh;
    build(i, &fresh);
    s = lookup(&fresh);
    /* The one field of a decoded instruction that is not the decoder's: a cache, hence the cast. */
    if (s)
        ((struct insn *)(uintptr_t)i)->native = (void *)(uintptr_t)s;
    native_sync();
    exec(v, i, s ? s : &fresh);
}

/* ---- whole registers ---- */

static unsigned move_at(enum native_file f, bool store, unsigned reg)
{
    return ((f * 2u + store) * 32 + reg) * MOVE_CODE;
}

static void build_move(enum native_file f, bool store, unsigned reg)
{
    struct emitter e = {code.rw + move_at(f, store, reg), 0};
    switch (f) {
    case NATIVE_MMX:
        emit(&e, 2, store ? 0x7f0f : 0x6f0f);
        break; /* movq */
    case NATIVE_XMM:
        emit(&e, 3, (reg < 8 ? 0x40u : 0x44u) | (store ? 0x110f00 : 0x100f00));
        break; /* movups */
    case NATIVE_VXMM:
        emit(&e, 3, 0xc5u | (reg < 8 ? 0xf800 : 0x7800) | (store ? 0x110000 : 0x100000));
        break; /* vmovups */
    case NATIVE_YMM:
        emit(&e, 3, 0xc5u | (reg < 8 ? 0xfc00 : 0x7c00) | (store ? 0x110000 : 0x100000));
        break;
    case NATIVE_K: /* kmovq */
        emit(&e, 4, 0xf8e1c4u | (store ? 0x91u : 0x90u) << 24);
        break;
    case NATIVE_ZMM: /* vmovups; inverted, the register's bits 3 and 4 are R and R' */
        emit(&e, 2, 0x62u | (0x61u | (reg & 8 ? 0 : 0x80) | (reg & 16 ? 0 : 0x10)) << 8);
        emit(&e, 3, 0x487cu | (store ? 0x110000 : 0x100000));
        break;
    case NATIVE_FILES:
        break;
    }
    emit(&e, 1, (reg & 7) << 3 | 6);
    emit(&e, 3, 0xc3c031);
}

void native_load(struct vcpu *v, enum native_file f, unsigned reg, void *from)
{
    native_run(v, (native_code *)(uintptr_t)(code.rx + move_at(f, false, reg)), NULL, from);
}

void native_store(struct vcpu *v, enum native_file f, unsigned reg, void *to)
{
    native_run(v, (native_code *)(uintptr_t)(code.rx + move_at(f, true, reg)), NULL, to);
}

/* ---- setting up ---- */

static int code_create(void)
{
    AUTO_CLOSE int fd = memfd_create("softkvm-code", MFD_CLOEXEC | 0x10u /* MFD_EXEC, Linux 6.3 */);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("softkvm-code", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, CODE_BYTES))
        return -errno;
    void *rw = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (rw == MAP_FAILED)
        return -errno;
    void *rx = mmap(NULL, CODE_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    if (rx == MAP_FAILED) {
        int e = -errno;
        munmap(rw, CODE_BYTES);
        return e;
    }
    madvise(rw, CODE_BYTES, MADV_DONTFORK);
    madvise(rx, CODE_BYTES, MADV_DONTFORK);
    code.rw = rw;
    code.rx = rx;
    for (unsigned f = NATIVE_MMX; f < NATIVE_FILES; f++)
        for (unsigned reg = 0; reg < (f == NATIVE_MMX || f == NATIVE_K ? 8 : f == NATIVE_ZMM ? 32 : 16); reg++)
            for (unsigned store = 0; store < 2; store++)
                build_move((enum native_file)f, store, reg);
    return 0;
}

static int init_result;

static void init_once(void)
{
    init_result = fpu_init();
    if (!init_result)
        init_result = code_create();
    if (!init_result)
        init_result = trap_install(code.rx, code.rx + CODE_BYTES);
    native_sync();
}

int native_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
    return init_result;
}
