// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * FXSAVE, XSAVE and their kin, LDMXCSR and STMXCSR. SDM vol. 1, 10.5 and chapter 13.
 *
 * The host's own XSAVE and XRSTOR (of the same operand size, which decides about the pointers' format) move the state between the
 * registers and a scratch area; which parts then move between scratch area and guest memory follows the guest's mask, XCR0 and
 * mode. All is probed before anything changes. Outside 64-bit code the upper eight XMM and YMM registers are neither stored nor
 * loaded.
 *
 * XINUSE is the host's, since the state is in its registers; so the INIT optimisation happens where it would natively. The MODIFIED
 * optimisation of XSAVEOPT and XSAVES is optional (13.9) and never happens.
 */
#include "softkvm/x86/fpu.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/native.h"

#define AVX_SIZE      256
#define AVX_LOW       128 /* bytes of YMM0..7's upper halves */
#define EXTENDED      576 /* where the extended components begin: AVX's offset in both formats */
#define MXCSR_DEFAULT 0x1f80
#define COMPACTED     BIT64(63)

/* An XSAVE area as the host writes it; AVX-512's components are where xstate_component() says, in `room`. */
struct image {
    uint8_t x87[24];
    uint32_t mxcsr, mxcsr_mask;
    uint8_t st[128];
    uint8_t xmm[256];
    uint8_t pad[96];
    uint64_t xstate_bv, xcomp_bv, reserved[6];
    uint8_t avx[AVX_SIZE];
    uint8_t room[FPU_AREA_SIZE - EXTENDED - AVX_SIZE];
} __attribute__((aligned(64)));

static bool wide_pointers(const struct insn *i)
{
    return i->rex & 8;
}
static unsigned xmm_size(const struct vcpu *v)
{
    return cpu_64bit(v) ? 256 : 128;
}

#define COMPONENTS 10 /* one more than PKRU's number */

/* Component n's offset when those of `xcomp` are laid out. */
static unsigned component_offset(unsigned n, uint64_t xcomp, bool compacted)
{
    uint32_t size, offset;
    if (compacted)
        return xstate_size(xcomp & (BIT64(n) - 1), true);
    xstate_component(n, &size, &offset);
    return offset;
}
static unsigned pkru_offset(uint64_t xcomp, bool compacted)
{
    return component_offset(9, xcomp, compacted);
}
static unsigned area_size(uint64_t rfbm, uint64_t xcomp, bool compacted)
{
    unsigned end = EXTENDED;
    uint32_t size, offset;
    for (unsigned n = 2; n < COMPONENTS; n++)
        if ((rfbm & BIT64(n)) && xstate_component(n, &size, &offset))
            end = MAX(end, component_offset(n, xcomp, compacted) + size);
    return end;
}

/* ---- AVX-512's three components ---- */

#define FIRST_AVX512 5
#define LAST_AVX512  7

/* Outside 64-bit code there are the lower halves of eight registers, and opmasks. */
static unsigned avx512_size(const struct vcpu *v, unsigned n, uint32_t size)
{
    return cpu_64bit(v) || n == FIRST_AVX512 ? size : n == LAST_AVX512 ? 0 : size / 2;
}

static void avx512_save(struct area p, struct image *x, uint64_t saved, uint64_t xcomp, bool compact)
{
    uint32_t size, offset;
    for (unsigned n = FIRST_AVX512; n <= LAST_AVX512; n++)
        if ((saved & BIT64(n)) && xstate_component(n, &size, &offset))
            area_write(p, component_offset(n, xcomp, compact), (uint8_t *)x + offset, avx512_size(p.v, n, size));
}

static void avx512_load(struct area p, struct image *x, uint64_t loaded, uint64_t xcomp, bool compact)
{
    uint32_t size, offset;
    for (unsigned n = FIRST_AVX512; n <= LAST_AVX512; n++)
        if ((loaded & BIT64(n)) && xstate_component(n, &size, &offset))
            area_read(p, component_offset(n, xcomp, compact), (uint8_t *)x + offset, size);
}

/* What code outside 64-bit mode does not load stays. */
static void avx512_keep(const struct vcpu *v, struct image *x, const struct image *now, uint64_t rfbm)
{
    uint32_t size, offset;
    for (unsigned n = FIRST_AVX512 + 1; n <= LAST_AVX512; n++) {
        if (!(rfbm & BIT64(n)) || !xstate_component(n, &size, &offset))
            continue;
        unsigned low = avx512_size(v, n, size);
        if (!(x->xstate_bv & BIT64(n)))
            bytes_fill((uint8_t *)x + offset, 0, low);
        bytes_copy((uint8_t *)x + offset + low, (const uint8_t *)now + offset + low, size - low);
        x->xstate_bv |= BIT64(n);
    }
}

static uint64_t requested(const struct vcpu *v)
{
    return v->xcr0 & (v->gpr[RDX] << 32 | (uint32_t)v->gpr[RAX]);
}

/* The guest's state as an XSAVE area; xstate_bv = XINUSE. */
static void state_store(struct vcpu *v, struct image *x, bool wide)
{
    struct native_regs r = {.a = xstate_supported() & ~XCR0_PKRU};
    fpu_ptrs_settle(v);
    for (unsigned n = 0; n < 6; n++)
        x->reserved[n] = 0;
    x->xstate_bv = x->xcomp_bv = 0;
    native_run(v, wide ? fpu_op_xsave64 : fpu_op_xsave, &r, x);
}

/* ---- XSAVE ---- */

enum save_kind { PLAIN, OPT, COMPACT };

/* What differs between the three: SDM vol. 1, 13.7, 13.9, 13.10. */
static void save(struct vcpu *v, const struct insn *i, enum save_kind kind)
{
    uint64_t rfbm = requested(v);
    bool compact = kind == COMPACT;
    unsigned size = area_size(rfbm, rfbm, compact);
    struct area p = area_of(v, i, 64, MEM_W);
    struct image x;
    uint64_t old_bv = 0;

    /* What the mask leaves out is not accessed; the last byte is looked at first. */
    area_probe(p, size - 1, 1, MEM_W);
    unsigned from = rfbm & XCR0_X87 ? 0 : rfbm & (compact ? XCR0_SSE : XCR0_SSE | XCR0_AVX) ? 24 : 512;
    area_probe(p, from, size - from, MEM_W);
    if (!compact)
        area_read(p, 512, &old_bv, 8);
    state_store(v, &x, wide_pointers(i));
    uint64_t inuse = x.xstate_bv | (v->pkru ? XCR0_PKRU : 0);
    if (!cpu_64bit(v))
        inuse &= ~BIT64(LAST_AVX512); /* there are no such registers: SDM vol. 1, 13.6 */
    if (compact && x.mxcsr != MXCSR_DEFAULT)
        inuse |= XCR0_SSE;
    uint64_t saved = kind == PLAIN ? rfbm : rfbm & inuse;

    if (saved & XCR0_X87) {
        area_write(p, 0, x.x87, sizeof(x.x87));
        area_write(p, 32, x.st, sizeof(x.st));
    }
    if (compact ? saved & XCR0_SSE : rfbm & (XCR0_SSE | XCR0_AVX))
        area_write(p, 24, &x.mxcsr, 8);
    if (saved & XCR0_SSE)
        area_write(p, 160, x.xmm, xmm_size(v));
    if (saved & XCR0_AVX)
        area_write(p, EXTENDED, x.avx, cpu_64bit(v) ? AVX_SIZE : AVX_LOW);
    avx512_save(p, &x, saved, rfbm, compact);
    if (saved & XCR0_PKRU)
        area_write(p, pkru_offset(rfbm, compact), &(uint64_t){v->pkru}, 8);

    uint64_t header[2] = {compact ? saved : (old_bv & ~rfbm) | (inuse & rfbm), rfbm | COMPACTED};
    area_write(p, 512, header, compact ? 16 : 8);
}

void op_xsave(struct vcpu *v, const struct insn *i)
{
    fpu_check(v, FPU_XSAVE);
    save(v, i, PLAIN);
}
void op_xsaveopt(struct vcpu *v, const struct insn *i)
{
    fpu_check(v, FPU_XSAVE);
    save(v, i, OPT);
}
void op_xsavec(struct vcpu *v, const struct insn *i)
{
    fpu_check(v, FPU_XSAVE);
    save(v, i, COMPACT);
}
/* No supervisor component is offered (IA32_XSS = 0), so XSAVES and XRSTORS differ from XSAVEC and XRSTOR by their checks only. */
void op_xsaves(struct vcpu *v, const struct insn *i)
{
    fpu_check(v, FPU_XSAVE);
    if (v->cpl)
        cpu_gp(v, 0);
    save(v, i, COMPACT);
}

/* ---- XRSTOR ---- */

/* Header checks of SDM vol. 1, 13.8 and 13.12. */
static void check_xcomp(struct vcpu *v, const struct image *x, bool must_compact)
{
    bool compact = x->xcomp_bv & COMPACTED;
    if ((must_compact && !compact) || (compact && (x->xcomp_bv & ~COMPACTED & ~v->xcr0)))
        cpu_gp(v, 0);
}
static void check_header(struct vcpu *v, const struct image *x)
{
    uint64_t bad = x->reserved[0];
    if (x->xcomp_bv & COMPACTED) {
        bad |= x->xstate_bv & (COMPACTED | ~x->xcomp_bv);
        for (unsigned n = 1; n < 6; n++)
            bad |= x->reserved[n];
    } else {
        bad |= (x->xstate_bv & ~v->xcr0) | x->xcomp_bv;
    }
    if (bad)
        cpu_gp(v, 0);
}

/* Outside 64-bit code the upper eight registers keep what they have. The host's XRSTOR loads all of them, so they are put into the
 * area. */
static void keep_upper(struct vcpu *v, struct image *x, uint64_t rfbm)
{
    struct image now;
    state_store(v, &now, true);
    if (!(x->xstate_bv & XCR0_SSE))
        bytes_fill(x->xmm, 0, 128);
    if (!(x->xstate_bv & XCR0_AVX))
        bytes_fill(x->avx, 0, AVX_LOW);
    bytes_copy(x->xmm + 128, now.xmm + 128, 128);
    bytes_copy(x->avx + AVX_LOW, now.avx + AVX_LOW, AVX_LOW);
    x->xstate_bv |= rfbm & (XCR0_SSE | XCR0_AVX);
    avx512_keep(v, x, &now, rfbm);
}

/* Settles which MXCSR the host's XRSTOR of the standard format is to load; it does so for SSE and AVX alike, whatever XSTATE_BV
 * says. */
static void settle_mxcsr(struct vcpu *v, struct image *x, uint64_t rfbm, bool compact)
{
    if (!compact || (rfbm & x->xstate_bv & XCR0_SSE)) {
        if ((rfbm & (XCR0_SSE | XCR0_AVX)) && (x->mxcsr & ~fpu_mxcsr_mask()))
            cpu_gp(v, 0);
    } else if (rfbm & XCR0_SSE) {
        x->mxcsr = MXCSR_DEFAULT;
    } else if (rfbm & XCR0_AVX) {
        native_run(v, fpu_op_stmxcsr, NULL, &x->mxcsr);
    }
}

/* Reads the area into x as far as `rfbm` asks for it, with all checks. The order is that of the processors that this has been
 * compared with. */
static void image_load(struct area p, struct image *x, uint64_t rfbm, bool must_compact, uint32_t *pkru)
{
    area_read(p, 520, &x->xcomp_bv, 8);
    check_xcomp(p.v, x, must_compact);
    bool compact = x->xcomp_bv & COMPACTED;
    uint64_t there = compact ? rfbm & x->xcomp_bv : rfbm; /* components that the area has room for */
    unsigned size = area_size(there, x->xcomp_bv, compact);
    area_probe(p, size - 1, 1, MEM_R);
    if (there & XCR0_X87) {
        area_read(p, 0, x->x87, sizeof(x->x87));
        area_read(p, 32, x->st, sizeof(x->st));
    }
    if (there & (compact ? XCR0_SSE : XCR0_SSE | XCR0_AVX))
        area_read(p, 24, &x->mxcsr, 8);
    area_read(p, 512, &x->xstate_bv, 64);
    check_header(p.v, x);
    settle_mxcsr(p.v, x, rfbm, compact);
    if (rfbm & x->xstate_bv & XCR0_SSE)
        area_read(p, 160, x->xmm, sizeof(x->xmm));
    if (rfbm & x->xstate_bv & XCR0_AVX)
        area_read(p, EXTENDED, x->avx, sizeof(x->avx));
    avx512_load(p, x, rfbm & x->xstate_bv, x->xcomp_bv, compact);
    *pkru = 0;
    if (rfbm & x->xstate_bv & XCR0_PKRU)
        area_read(p, pkru_offset(x->xcomp_bv, compact), pkru, 4);
}

static void restore(struct vcpu *v, const struct insn *i, bool must_compact)
{
    struct image x;
    uint32_t pkru;
    uint64_t rfbm = requested(v);
    image_load(area_of(v, i, 64, MEM_R), &x, rfbm, must_compact, &pkru);

    struct native_regs r = {.a = rfbm & xstate_supported() & ~XCR0_PKRU};
    x.xstate_bv &= r.a;
    x.xcomp_bv = 0;
    if (!cpu_64bit(v))
        keep_upper(v, &x, rfbm);
    if (r.a)
        native_run(v, wide_pointers(i) ? fpu_op_xrstor64 : fpu_op_xrstor, &r, &x);
    if (rfbm & XCR0_X87)
        fpu_ptrs_loaded(v);
    if (rfbm & XCR0_PKRU)
        mmu_set_pkru(v, pkru);
}

void op_xrstor(struct vcpu *v, const struct insn *i)
{
    fpu_check(v, FPU_XSAVE);
    restore(v, i, false);
}
void op_xrstors(struct vcpu *v, const struct insn *i)
{
    fpu_check(v, FPU_XSAVE);
    if (v->cpl)
        cpu_gp(v, 0);
    restore(v, i, true);
}

/* ---- FXSAVE, FXRSTOR: SDM vol. 1, 10.5 ---- */

void op_fxsave(struct vcpu *v, const struct insn *i)
{
    struct image x;
    fpu_check(v, FPU_FXSR);
    struct area p = area_of(v, i, 16, MEM_W);
    area_probe(p, 511, 1, MEM_W);
    area_probe(p, 0, 512, MEM_W);
    fpu_ptrs_settle(v);
    native_run(v, wide_pointers(i) ? fpu_op_fxsave64 : fpu_op_fxsave, NULL, &x);
    area_write(p, 0, &x, 160 + xmm_size(v)); /* bytes 416 to 511 stay */
}

void op_fxrstor(struct vcpu *v, const struct insn *i)
{
    struct image x;
    fpu_check(v, FPU_FXSR);
    struct area p = area_of(v, i, 16, MEM_R);
    area_probe(p, 511, 1, MEM_R);
    area_read(p, 0, &x, 512);
    if (x.mxcsr & ~fpu_mxcsr_mask())
        cpu_gp(v, 0);
    if (!cpu_64bit(v)) {
        struct image now;
        state_store(v, &now, true);
        bytes_copy(x.xmm + 128, now.xmm + 128, 128);
    }
    native_run(v, wide_pointers(i) ? fpu_op_fxrstor64 : fpu_op_fxrstor, NULL, &x);
    fpu_ptrs_loaded(v);
}

/* ---- MXCSR ---- */

void op_ldmxcsr(struct vcpu *v, const struct insn *i)
{
    fpu_check(v, insn_has(i, PFX_VEX) ? FPU_AVX : FPU_SSE);
    uint32_t val = (uint32_t)mem_read(v, i->seg, insn_ea(v, i), 4);
    if (val & ~fpu_mxcsr_mask())
        cpu_gp(v, 0);
    native_run(v, fpu_op_ldmxcsr, NULL, &val);
}

void op_stmxcsr(struct vcpu *v, const struct insn *i)
{
    uint32_t val;
    fpu_check(v, insn_has(i, PFX_VEX) ? FPU_AVX : FPU_SSE);
    native_run(v, fpu_op_stmxcsr, NULL, &val);
    mem_write(v, i->seg, insn_ea(v, i), 4, val);
}
