// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's x87/SSE/AVX state: where it lives, and how it gets into the host's registers and out of them.
 *
 * The state is loaded by the first vector instruction after fpu_put(), not before, so a guest that uses none pays nothing. It is
 * written by plain XSAVE: unlike XSAVEOPT and XSAVEC that writes every component, so the area never holds stale bytes.
 *
 * Last-instruction pointers. An x87 instruction runs in a stub, so the processor records the stub's address, its host operand and
 * the rewritten opcode. fpu_ptrs_set() notes the guest's values after each instruction that changes them, and fpu_put() writes
 * those into the area; whoever reads them otherwise (FNSTENV, FXSAVE...) first lets fpu_ptrs_settle() do that, and gets the right
 * ones from the registers. Translated code only notes its last x87 instruction (bt_x87.c), and fpu_ptrs_noted() follows it up. Recent
 * processors record FDP and FOP on unmasked exceptions only: fpu_init() asks this one.
 */
#include <errno.h>

#include "softkvm/x86/fpu.h"
#include "softkvm/x86/native.h"

enum { FPU_FIP = 1, FPU_FDP = 2, FPU_FOP = 4 };

#define FSW_ES        0x80
#define FSW_TOP       11 /* bits 11 to 13 */
#define MXCSR_DEFAULT 0x1f80
#define FCW_DEFAULT   0x37f

static struct {
    uint64_t mask; /* components in `area`: x87, SSE, and AVX and AVX-512 where this host has them. All are loaded, so that no dirty upper halves slow the
                    * guest's SSE down; saved_mask() is what comes back */
    uint32_t mxcsr_mask;
    uint32_t avx512_offset[3]; /* standard format; opmasks, upper halves of ZMM0..15, ZMM16..31 */
    uint32_t pkru_offset;      /* standard format */
    bool fdp_always, fop_always;
} host;

/* An XSAVE area without components: XRSTOR from it initialises. */
static const struct {
    uint8_t legacy[24];
    uint32_t mxcsr;
    uint8_t rest[FPU_AREA_SIZE - 28];
} __attribute__((aligned(64))) init_area = {.mxcsr = MXCSR_DEFAULT};

/* A guest that was not given AVX-512 cannot change its state, so that is not stored. */
static uint64_t saved_mask(const struct vcpu *v)
{
    return host.mask & (v->guest_xcr0_mask | v->xcr0 | ~(uint64_t)XCR0_AVX512);
}

/* Fields of an XSAVE area: SDM vol. 1, tables 10-2 and 13-1. */
enum {
    AT_FCW = 0,
    AT_FSW = 2,
    AT_FTW = 4,
    AT_FOP = 6,
    AT_FIP = 8,
    AT_FDP = 16,
    AT_MXCSR = 24,
    AT_MXCSR_MASK = 28,
    AT_ST = 32,
    AT_XMM = 160,
    AT_XMM_END = 416,
    AT_XSTATE_BV = 512,
    AT_XCOMP_BV = 520,
    AT_HEADER_END = 576,
    AT_AVX = 576,
    AVX_SIZE = 256,
    OPMASK_SIZE = 64,
    ZMM_HIGH_SIZE = 512,
    ZMM_UPPER_SIZE = 1024,
    PKRU_SIZE = 8
};

static uint16_t *field16(uint8_t *area, unsigned at)
{
    return (uint16_t *)(void *)(area + at);
}
static uint32_t *field32(uint8_t *area, unsigned at)
{
    return (uint32_t *)(void *)(area + at);
}
static uint64_t *field64(uint8_t *area, unsigned at)
{
    return (uint64_t *)(void *)(area + at);
}

/* ---- the host ---- */

static void host_cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}

static uint64_t host_xcr0(void)
{
    uint32_t lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Does one x87 instruction leave a last-instruction field behind that nobody asked for? */
static bool leaves(native_code *code, unsigned at)
{
    struct fpu_host saved;
    static const float one = 1.0f;
    uint8_t area[FPU_AREA_SIZE] __attribute__((aligned(64)));
    bytes_fill(area, 0, sizeof(area));
    struct fpu_bracket b = {.load = &init_area,
                            .store = area,
                            .init = &init_area,
                            .code = code,
                            .mem = (void *)(uintptr_t)&one,
                            .load_mask = host.mask,
                            .save_mask = host.mask,
                            .host = &saved};
    fpu_bracket(&b);
    return at == AT_FDP ? *field64(area, AT_FDP) != 0 : *field16(area, AT_FOP) != 0;
}

static const uint32_t avx512_size[3] = {OPMASK_SIZE, ZMM_HIGH_SIZE, ZMM_UPPER_SIZE};

/* Asks where the host has the three components of AVX-512; false when they are not as expected. */
static bool avx512_layout(void)
{
    for (unsigned n = 0; n < 3; n++) {
        uint32_t r[4];
        host_cpuid(0xd, 5 + n, r);
        if (r[0] != avx512_size[n] || r[1] < AT_AVX + AVX_SIZE || r[0] + r[1] > FPU_AREA_SIZE)
            return false;
        host.avx512_offset[n] = r[1];
    }
    return true;
}

int fpu_init(void)
{
    uint32_t r[4];
    host_cpuid(1, 0, r);
    if (!(r[2] & BIT(27))) /* OSXSAVE */
        return -EOPNOTSUPP;
    uint64_t xcr0 = host_xcr0();
    host.mask = XCR0_X87 | XCR0_SSE;
    host_cpuid(0xd, 2, r);
    if ((xcr0 & XCR0_AVX) && r[0] == AVX_SIZE && r[1] == AT_AVX)
        host.mask |= XCR0_AVX;
    if ((host.mask & XCR0_AVX) && (xcr0 & XCR0_AVX512) == XCR0_AVX512 && avx512_layout())
        host.mask |= XCR0_AVX512;
    host_cpuid(0xd, 9, r);
    host.pkru_offset = r[0] && r[1] + PKRU_SIZE <= FPU_AREA_SIZE ? r[1] : 0xa80;

    uint8_t fx[512] __attribute__((aligned(16)));
    bytes_fill(fx, 0, sizeof(fx));
    fpu_op_fxsave64(NULL, fx);
    host.mxcsr_mask = *field32(fx, AT_MXCSR_MASK);
    if (!host.mxcsr_mask)
        host.mxcsr_mask = 0xffbf; /* SDM vol. 1, 11.6.6 */
    host.fdp_always = leaves(fpu_op_flds, AT_FDP);
    host.fop_always = leaves(fpu_op_fld1, AT_FOP);
    return 0;
}

uint64_t xstate_supported(void)
{
    return host.mask | XCR0_PKRU;
}

bool xstate_component(unsigned n, uint32_t *size, uint32_t *offset)
{
    if (n >= 5 && n <= 7 && (host.mask & XCR0_AVX512)) {
        *size = avx512_size[n - 5];
        *offset = host.avx512_offset[n - 5];
        return true;
    }
    bool avx = n == 2 && (host.mask & XCR0_AVX);
    *size = avx ? AVX_SIZE : n == 9 ? PKRU_SIZE : 0;
    *offset = avx ? AT_AVX : n == 9 ? host.pkru_offset : 0;
    return *size;
}

uint32_t xstate_size(uint64_t xcr0, bool compacted)
{
    uint32_t end = AT_HEADER_END;
    for (unsigned n = 2; n < 63; n++) {
        uint32_t size, offset;
        if ((xcr0 & BIT64(n)) && xstate_component(n, &size, &offset))
            end = compacted ? end + size : MAX(end, offset + size);
    }
    return end;
}

uint32_t fpu_mxcsr_mask(void)
{
    return host.mxcsr_mask;
}

bool fpu_fdp_exceptions_only(void)
{
    return !host.fdp_always;
}

/* ---- in and out of the registers ---- */

/* The processor's rules: which pointers an instruction updates that has left `fsw`. */
static void set_pointers(struct fpu *f, uint64_t fip, uint16_t fop, uint16_t fsw, bool mem, uint64_t ea)
{
    f->fip = fip;
    f->ptrs |= FPU_FIP;
    if (unlikely((fsw & FSW_ES) || host.fop_always)) {
        f->fop = fop;
        f->ptrs |= FPU_FOP;
    }
    if (mem && unlikely((fsw & FSW_ES) || host.fdp_always)) {
        f->fdp = ea;
        f->ptrs |= FPU_FDP;
    }
}

/* Nothing that translated code does takes ES back, so the status word is still what the noted instruction has left. */
static void take_note(struct fpu *f, uint16_t fsw)
{
    if (!f->note)
        return;
    /* Processors that always record FDP remember an earlier instruction's operand. */
    bool mem = fsw & FSW_ES ? f->note & FPU_NOTE_MEM : f->note_ea;
    set_pointers(f, f->note_page + (f->note & (PAGE_SIZE - 1)), f->note >> FPU_NOTE_FOP & 0x7ff, fsw, mem, f->note_ea);
    f->note = 0;
}

/* Puts the guest's last-instruction pointers in the place of the stub's. A field that the processor has saved as zero it does not
 * keep at this moment (AMD's keep them only while an exception is pending), and so neither do we. */
static void patch_pointers(struct fpu *f)
{
    if ((f->ptrs & FPU_FIP) && *field64(f->area, AT_FIP))
        *field64(f->area, AT_FIP) = f->fip;
    if ((f->ptrs & FPU_FDP) && *field64(f->area, AT_FDP))
        *field64(f->area, AT_FDP) = f->fdp;
    if ((f->ptrs & FPU_FOP) && *field16(f->area, AT_FOP))
        *field16(f->area, AT_FOP) = f->fop;
    f->ptrs = 0;
}

void fpu_get(struct vcpu *v)
{
    if (v->fpu.live)
        return;
    fpu_enter(v->fpu.area, host.mask, &v->fpu.host);
    v->fpu.live = true;
}

void fpu_put(struct vcpu *v)
{
    if (!v->fpu.live)
        return;
    fpu_leave(v->fpu.area, saved_mask(v), &init_area, host.mask, &v->fpu.host);
    v->fpu.live = false;
    take_note(&v->fpu, *field16(v->fpu.area, AT_FSW));
    patch_pointers(&v->fpu);
}

static uint64_t run_bracketed(struct vcpu *v, native_code *code, struct native_regs *r, void *mem, void *store)
{
    struct fpu_bracket b = {.load = v->fpu.area,
                            .store = store,
                            .init = &init_area,
                            .code = code,
                            .regs = r,
                            .mem = mem,
                            .load_mask = host.mask,
                            .save_mask = saved_mask(v),
                            .host = &v->fpu.host};
    return fpu_bracket(&b);
}

uint64_t fpu_run(struct vcpu *v, native_code *code, struct native_regs *r, void *mem)
{
    if (FPU_EACH)
        return run_bracketed(v, code, r, mem, v->fpu.area);
    fpu_get(v);
    return code(r, mem);
}

uint64_t fpu_try(struct vcpu *v, native_code *code, struct native_regs *r, void *mem)
{
    fpu_put(v);
    return run_bracketed(v, code, r, mem, NULL);
}

void fpu_ptrs_noted(struct vcpu *v)
{
    uint16_t fsw;
    if (likely(!v->fpu.note))
        return;
    fpu_run(v, fpu_op_fnstsw, NULL, &fsw);
    take_note(&v->fpu, fsw);
}

void fpu_ptrs_set(struct vcpu *v, uint16_t fop, uint16_t fsw, bool mem, uint64_t ea)
{
    set_pointers(&v->fpu, v->rip, fop, fsw, mem, ea);
    /* Translated code that goes on behind this instruction may note it once more. */
    v->fpu.note_page = v->rip & PAGE_MASK;
    if (mem)
        v->fpu.note_ea = ea;
    if (FPU_EACH)
        patch_pointers(&v->fpu);
}

/* The registers stay where they are, but the area has them in the order that TOP says. The tags of an area do not depend on it. */
void fpu_clear_top(struct vcpu *v)
{
    fpu_put(v);
    uint8_t st[AT_XMM - AT_ST];
    uint16_t *fsw = field16(v->fpu.area, AT_FSW);
    unsigned size = sizeof(st) / 8, top = *fsw >> FSW_TOP & 7;
    bytes_copy(st, v->fpu.area + AT_ST, sizeof(st));
    for (unsigned n = 0; n < 8; n++)
        bytes_copy(v->fpu.area + AT_ST + size * ((n + top) & 7), st + size * n, size);
    *fsw &= (uint16_t)~(7u << FSW_TOP);
}

/* After power-up the state is what KVM gives a new vCPU, that of FNINIT, where SDM vol. 3, table 9-1 has FCW = 0x40. INIT leaves it
 * alone. */
void fpu_reset(struct vcpu *v, bool init)
{
    if (init)
        return;
    fpu_put(v);
    bytes_fill(v->fpu.area, 0, sizeof(v->fpu.area));
    *field16(v->fpu.area, AT_FCW) = FCW_DEFAULT;
    *field32(v->fpu.area, AT_MXCSR) = MXCSR_DEFAULT;
    *field32(v->fpu.area, AT_MXCSR_MASK) = host.mxcsr_mask;
    fpu_ptrs_loaded(v);
}

static _Noreturn void refuse(struct vcpu *v, bool ud)
{
    cpu_fault(v, ud ? EXC_UD : EXC_NM, 0);
}

void fpu_check(struct vcpu *v, enum fpu_class c)
{
    uint64_t off = v->cr0 & (CR0_EM | CR0_TS);
    switch (c) {
    case FPU_X87:
    case FPU_FXSR:
        if (unlikely(off))
            refuse(v, false);
        return;
    case FPU_WAIT:
        if (unlikely((v->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)))
            refuse(v, false);
        return;
    case FPU_MMX:
        if (unlikely(off))
            refuse(v, off & CR0_EM);
        return;
    case FPU_SSE:
        if (unlikely(off || !(v->cr4 & CR4_OSFXSR)))
            refuse(v, (off & CR0_EM) || !(v->cr4 & CR4_OSFXSR));
        return;
    case FPU_AVX:
        if (unlikely(!(v->cr4 & CR4_OSXSAVE) || (v->xcr0 & (XCR0_SSE | XCR0_AVX)) != (XCR0_SSE | XCR0_AVX) || !cpu_protected(v)))
            cpu_ud(v);
        if (unlikely(off & CR0_TS))
            refuse(v, false);
        return;
    case FPU_AVX512:
        if (unlikely((v->xcr0 & XCR0_AVX512) != XCR0_AVX512))
            cpu_ud(v);
        fpu_check(v, FPU_AVX);
        return;
    case FPU_XSAVE:
        if (unlikely(!(v->cr4 & CR4_OSXSAVE)))
            cpu_ud(v);
        if (unlikely(off & CR0_TS))
            refuse(v, false);
        return;
    }
}

/* ---- memory operands of whole states ---- */

struct area area_at(struct vcpu *v, const struct insn *i, uint64_t ea, unsigned align, enum mem_access acc)
{
    /* Limits come before alignment, and so does the right to write where microcode does not begin with other checks. */
    uint64_t la = seg_linear(v, i->seg, ea, align > 1 ? 4 : 1, align > 4 ? MEM_R : acc);
    if (cpu_64bit(v) && !is_canonical(la))
        cpu_fault(v, i->seg == SEG_SS ? EXC_SS : EXC_GP, 0);
    if (la & (align - 1))
        cpu_fault(v, v->mmu_idx == MMU_USER_AC && (la & MIN(align - 1, 3u)) ? EXC_AC : EXC_GP, 0);
    return (struct area){v, i, ea};
}

/* The linear address of the bytes from `at` on; cuts *n where the offset wraps. A doubleword across that place does not wrap within
 * itself. */
static uint64_t area_piece(struct area a, unsigned at, unsigned *n, enum mem_access acc)
{
    uint64_t off = a.ea + at;
    if (a.i->addrsize != 8) {
        uint64_t wrap = BIT64(8 * a.i->addrsize);
        off &= wrap - 1;
        if (off + *n > wrap)
            *n = MIN(*n, 4u);
    }
    return seg_linear(a.v, a.i->seg, off, *n, acc);
}

void area_probe(struct area a, unsigned at, unsigned n, enum mem_access acc)
{
    for (unsigned part; n; at += part, n -= part) {
        part = n;
        uint64_t la = area_piece(a, at, &part, acc);
        mmu_probe(a.v, la, part, acc, a.v->mmu_idx, a.i->seg);
    }
}

void area_read(struct area a, unsigned at, void *to, unsigned n)
{
    for (unsigned part; n; at += part, n -= part, to = (uint8_t *)to + part) {
        part = n;
        uint64_t la = area_piece(a, at, &part, MEM_R);
        mmu_read_buf(a.v, la, to, part, a.v->mmu_idx, a.i->seg);
    }
}

void area_write(struct area a, unsigned at, const void *from, unsigned n)
{
    for (unsigned part; n; at += part, n -= part, from = (const uint8_t *)from + part) {
        part = n;
        uint64_t la = area_piece(a, at, &part, MEM_W);
        mmu_write_buf(a.v, la, from, part, a.v->mmu_idx, a.i->seg);
    }
}

/* ---- user space's view ---- */

void fpu_get_kvm(const struct vcpu *v, struct kvm_fpu *f)
{
    uint8_t *a = (uint8_t *)(uintptr_t)v->fpu.area;
    bytes_fill(f, 0, sizeof(*f));
    f->fcw = *field16(a, AT_FCW);
    f->fsw = *field16(a, AT_FSW);
    f->ftwx = a[AT_FTW];
    f->last_opcode = *field16(a, AT_FOP);
    f->last_ip = *field64(a, AT_FIP);
    f->last_dp = *field64(a, AT_FDP);
    f->mxcsr = *field32(a, AT_MXCSR);
    bytes_copy(f->fpr, a + AT_ST, sizeof(f->fpr));
    bytes_copy(f->xmm, a + AT_XMM, sizeof(f->xmm));
}

void fpu_set_kvm(struct vcpu *v, const struct kvm_fpu *f)
{
    uint8_t *a = v->fpu.area;
    *field16(a, AT_FCW) = f->fcw;
    *field16(a, AT_FSW) = f->fsw;
    *field16(a, AT_FTW) = f->ftwx;
    *field16(a, AT_FOP) = f->last_opcode;
    *field64(a, AT_FIP) = f->last_ip;
    *field64(a, AT_FDP) = f->last_dp;
    bytes_copy(a + AT_ST, f->fpr, sizeof(f->fpr));
    bytes_copy(a + AT_XMM, f->xmm, sizeof(f->xmm));
    *field64(a, AT_XSTATE_BV) |= XCR0_X87 | XCR0_SSE;
}

uint32_t fpu_xsave_size(void)
{
    return MAX((uint32_t)sizeof(struct kvm_xsave), xstate_size(xstate_supported(), false));
}

void fpu_get_xsave(const struct vcpu *v, void *area, uint32_t size)
{
    uint8_t *to = area;
    const uint8_t *from = v->fpu.area;
    uint64_t bv = *field64((uint8_t *)(uintptr_t)from, AT_XSTATE_BV) & host.mask;
    bytes_fill(to, 0, size);
    bytes_copy(to, from, AT_XMM_END);
    *field32(to, AT_MXCSR_MASK) = host.mxcsr_mask;
    if (*field32(to, AT_MXCSR) != MXCSR_DEFAULT)
        bv |= XCR0_SSE; /* or a restore would initialise it */
    bytes_copy(to + AT_AVX, from + AT_AVX, AVX_SIZE);
    for (unsigned n = 0; n < 3 && (host.mask & XCR0_AVX512); n++)
        bytes_copy(to + host.avx512_offset[n], from + host.avx512_offset[n], avx512_size[n]);
    if (v->pkru) {
        *field32(to, host.pkru_offset) = v->pkru;
        bv |= XCR0_PKRU;
    }
    *field64(to, AT_XSTATE_BV) = bv;
}

/* What the area does not have gets its initial value. */
static void load_area(struct vcpu *v, uint8_t *from, uint64_t bv)
{
    uint8_t *to = v->fpu.area;
    bool mxcsr = bv & (XCR0_X87 | XCR0_SSE | XCR0_AVX);
    fpu_reset(v, false);
    if (bv & XCR0_X87) {
        bytes_copy(to, from, AT_MXCSR);
        bytes_copy(to + AT_ST, from + AT_ST, AT_XMM - AT_ST);
    }
    if (bv & XCR0_SSE)
        bytes_copy(to + AT_XMM, from + AT_XMM, AT_XMM_END - AT_XMM);
    if (mxcsr)
        *field32(to, AT_MXCSR) = *field32(from, AT_MXCSR);
    if (bv & XCR0_AVX)
        bytes_copy(to + AT_AVX, from + AT_AVX, AVX_SIZE);
    for (unsigned n = 0; n < 3; n++)
        if (bv & BIT64(5 + n))
            bytes_copy(to + host.avx512_offset[n], from + host.avx512_offset[n], avx512_size[n]);
    *field64(to, AT_XSTATE_BV) = bv & host.mask;
}

void fpu_take_host(struct vcpu *v, const void *area)
{
    uint8_t *from = (uint8_t *)(uintptr_t)area;
    load_area(v, from, *field64(from, AT_XSTATE_BV) & saved_mask(v));
}

void fpu_give_host(const struct vcpu *v, void *area)
{
    fpu_get_xsave(v, area, FPU_AREA_SIZE);
    *field64(area, AT_XSTATE_BV) &= saved_mask(v);
}

int fpu_set_xsave(struct vcpu *v, const void *area, uint32_t size, uint64_t permitted)
{
    uint8_t *from = (uint8_t *)(uintptr_t)area;
    if (size < sizeof(struct kvm_xsave))
        return -EINVAL;
    uint64_t bv = *field64(from, AT_XSTATE_BV);
    if (bv & ~(permitted & xstate_supported()))
        return -EINVAL;
    for (unsigned at = AT_XCOMP_BV; at < AT_HEADER_END; at += 8)
        if (*field64(from, at))
            return -EINVAL;
    bool mxcsr = bv & (XCR0_X87 | XCR0_SSE | XCR0_AVX);
    if (mxcsr && (*field32(from, AT_MXCSR) & ~host.mxcsr_mask))
        return -EINVAL;

    load_area(v, from, bv);
    uint32_t pkru = bv & XCR0_PKRU ? *field32(from, host.pkru_offset) : 0;
    mmu_set_pkru(v, pkru);
    return 0;
}
