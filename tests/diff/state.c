// SPDX-License-Identifier: GPL-2.0-or-later
/* Random register and memory contents, with a liking for the values at which instructions change their behaviour. */
#include <string.h>

#include "diff.h"
#include "softkvm/x86/cpu.h"
#include "softkvm/x86/fpu.h"

uint64_t interesting_int(void)
{
    uint64_t v = rng();
    switch (rng_below(10)) {
    case 0:
        return 0;
    case 1:
        return ~0ull;
    case 2:
        return rng_below(128);
    case 3:
        return 0 - rng_below(128);
    case 4:
        return 1ull << rng_below(64);
    case 5:
        return (1ull << rng_below(64)) - 1;
    case 6:
        return 0x8000000080008080ull;
    case 7:
        return v & 0xffffffff;
    default:
        return v;
    }
}

/* ---- floating point ---- */

/* Exponent and mantissa of a value of `mant` mantissa bits (without the integer bit) and `exp` exponent bits. */
static uint64_t interesting_float(unsigned exp, unsigned mant)
{
    uint64_t sign = (rng() & 1) << (exp + mant), e_max = (1ull << exp) - 1, m_mask = (1ull << mant) - 1, bias = e_max / 2;
    uint64_t quiet = 1ull << (mant - 1);
    switch (rng_below(10)) {
    case 0:
        return sign;
    case 1:
        return sign | e_max << mant;
    case 2:
        return sign | e_max << mant | quiet | (rng() & (quiet - 1));
    case 3:
        return sign | e_max << mant | (rng_below(quiet - 1) + 1);
    case 4:
        return sign | (rng() & m_mask);
    case 5: /* a small integer */
        return sign | ((bias + rng_below(mant)) << mant) | (rng() & m_mask & ~(m_mask >> rng_below(8)));
    case 6:
        return sign | ((bias + rng_below(4) - 2) << mant) | (rng() & m_mask);
    case 7: /* near the integer limits */
        return sign | ((bias + (rng() & 1 ? 31 : 63)) & e_max) << mant | (rng() & m_mask);
    case 8: /* near underflow or overflow */
        return sign | (rng() & 1 ? 1 + rng_below(2) : e_max - 1 - rng_below(2)) << mant | (rng() & m_mask);
    default:
        return rng() & (sign | m_mask | e_max << mant);
    }
}

static void random_st(uint8_t *p)
{
    uint64_t d = interesting_float(11, 52), mantissa = (d << 11) & 0x7fffffffffffffff;
    unsigned exponent = d >> 52 & 0x7ff;
    uint16_t se = (uint16_t)((exponent == 0x7ff ? 0x7fff : exponent ? exponent - 1023 + 16383 : 0) | (d >> 63) << 15);
    if (exponent)
        mantissa |= 1ull << 63;
    switch (rng_below(12)) {
    case 0: /* unnormal, pseudo-denormal, pseudo-infinity */
        mantissa ^= 1ull << 63;
        break;
    case 1:
        mantissa = rng();
        se = (uint16_t)rng();
        break;
    case 2: /* near the ends of the wide exponent range */
        se = (uint16_t)((se & 0x8000) | (rng() & 1 ? rng_below(70) : 0x7fff - rng_below(70)));
        mantissa = rng() | 1ull << 63;
        break;
    case 3: /* packed decimal */
        for (unsigned n = 0; n < 9; n++)
            p[n] = (uint8_t)(rng_below(10) | rng_below(10) << 4);
        p[9] = rng() & 1 ? 0x80 : 0;
        return;
    default:
        break;
    }
    memcpy(p, &mantissa, 8);
    memcpy(p + 8, &se, 2);
}

static void random_vector(uint8_t *p, unsigned n)
{
    unsigned kind = (unsigned)rng_below(6);
    for (unsigned at = 0; at < n; at += 8) {
        uint64_t v;
        switch (kind) {
        case 0:
            v = interesting_float(11, 52);
            break;
        case 1:
        case 2:
            v = interesting_float(8, 23) | interesting_float(8, 23) << 32;
            break;
        case 3:
            v = interesting_int();
            break;
        case 4:
            v = interesting_float(5, 10) | interesting_float(5, 10) << 16 | interesting_float(5, 10) << 32 | interesting_float(5, 10) << 48;
            break;
        default:
            v = rng();
            break;
        }
        memcpy(p + at, &v, 8);
    }
}

/* ---- memory ---- */

void state_random_memory(void)
{
    for (unsigned page = 0; page < SCRATCH_PAGES; page++) {
        uint8_t *p = mem_template + page * PAGE_SIZE;
        if (scratch_kind[page] == PAGE_CODE)
            memset(p, 0xcc, PAGE_SIZE);
        for (unsigned at = 0; at < PAGE_SIZE && (scratch_kind[page] == PAGE_RW || scratch_kind[page] == PAGE_RO); at += 32) {
            random_vector(p + at, 32);
            if (chance(10))
                random_st(p + at);
        }
    }
    memcpy(mem_host, mem_template, SCRATCH_SIZE);
    memcpy(mem_guest, mem_template, SCRATCH_SIZE);
}

void mem_plant(uint64_t addr, const void *data, unsigned n)
{
    uint64_t at = addr - SCRATCH_BASE;
    if (at >= SCRATCH_SIZE || SCRATCH_SIZE - at < n)
        return;
    for (unsigned k = 0; k < n; k++) {
        uint8_t byte = ((const uint8_t *)data)[k];
        unsigned kind = scratch_kind[(at + k) / PAGE_SIZE];
        if (kind == PAGE_RW || kind == PAGE_RO)
            mem_template[at + k] = mem_host[at + k] = mem_guest[at + k] = byte;
    }
}

/* ---- registers ---- */

uint64_t xarea_mask(void)
{
    return xstate_supported() & ~(uint64_t)XCR0_PKRU;
}

unsigned xarea_size(void)
{
    return xstate_size(xarea_mask(), false);
}

unsigned xarea_component(unsigned n, unsigned *size)
{
    uint32_t offset = 0;
    *size = 0;
    if (xarea_mask() >> n & 1)
        xstate_component(n, size, &offset);
    return offset;
}

static void random_avx512(uint8_t *x)
{
    unsigned size;
    uint8_t *k = x + xarea_component(5, &size);
    for (unsigned n = 0; n < size / 8; n++) {
        uint64_t v = chance(50) ? rng() : interesting_int();
        memcpy(k + 8 * n, &v, 8);
    }
    for (unsigned n = 6; n <= 7; n++) {
        uint8_t *p = x + xarea_component(n, &size);
        for (unsigned at = 0; at < size; at += 128)
            random_vector(p + at, 128);
    }
}

static void random_xarea(uint8_t *x)
{
    uint16_t fcw = 0x37f, fsw = (uint16_t)(rng() & 0x7f00);
    uint32_t mxcsr = 0x1f80 | (rng() & 0x3f);
    uint64_t bv = xarea_mask();
    memset(x, 0, XAREA_SIZE);
    if (chance(40))
        fcw = (uint16_t)((fcw & ~0xf00) | (rng() & 0xf00));
    if (chance(25))
        fcw = (uint16_t)((fcw & ~0x3f) | (rng() & 0x3f));
    if (chance(15))
        fsw |= rng() & 0x7f;
    if (chance(50))
        mxcsr = (mxcsr & ~0xe040u) | (rng() & 0xe040);
    if (chance(25))
        mxcsr = (mxcsr & ~0x1f80u) | (rng() & 0x1f80);
    memcpy(x, &fcw, 2);
    memcpy(x + 2, &fsw, 2);
    x[4] = (uint8_t)(chance(50) ? 0xff : chance(50) ? 0 : rng());
    uint16_t fop = rng() & 0x7ff;
    uint64_t fip = interesting_int() & 0x7fffffffffff, fdp = interesting_int() & 0x7fffffffffff;
    memcpy(x + 6, &fop, 2);
    memcpy(x + 8, &fip, 8);
    memcpy(x + 16, &fdp, 8);
    memcpy(x + 24, &mxcsr, 4);
    for (unsigned n = 0; n < 8; n++)
        random_st(x + 32 + 16 * n);
    random_vector(x + 160, 128);
    random_vector(x + 288, 128);
    random_vector(x + 576, 128);
    random_vector(x + 704, 128);
    random_avx512(x);
    if (chance(8))
        bv = rng() & xarea_mask();
    memcpy(x + 512, &bv, 8);
    state_canonical(x);
}

void state_canonical(uint8_t *xarea)
{
    static const uint32_t mxcsr = 0x1f80;
    __asm__ volatile("xrstor64 %0\n\t"
                     "xsave64 %0\n\t"
                     "vzeroupper\n\t"
                     "fninit\n\t"
                     "ldmxcsr %1"
                     : "+m"(*(uint8_t(*)[XAREA_SIZE])xarea)
                     : "m"(mxcsr), "a"((uint32_t)xarea_mask()), "d"(0)
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                       "xmm15", "memory");
}

static void random_segments(struct cpu_image *s, unsigned mode)
{
    static const uint16_t data[] = {SEL_USER_DS, SEL_USER_DS, SEL_USER_DS, SEL_USER_DS, SEL_LDT(LDT_DATA16), SEL_LDT(LDT_DATA_SMALL), SEL_LDT(LDT_DATA_RO),
                                    SEL_LDT(LDT_DATA_DOWN), SEL_LDT(LDT_CODE32), 0}; /* not 3: IRET makes that 0 */
    uint16_t usual = mode == CODE16 ? SEL_LDT(LDT_DATA16) : SEL_USER_DS;
    for (unsigned n = 0; n < S_COUNT; n++)
        s->sel[n] = chance(80) ? usual : data[rng_below(ARRAY_SIZE(data))];
    s->sel[S_SS] = chance(85) ? usual : chance(50) ? SEL_LDT(LDT_DATA16) : SEL_LDT(LDT_DATA_SMALL);
    s->sel[S_CS] = mode == CODE16 ? chance(50) ? SEL_LDT(LDT_CODE16) : SEL_LDT(LDT_CODE16_LOW) : chance(85) ? SEL_USER_CS32 : SEL_LDT(LDT_CODE32);
    if (mode == CODE64) {
        s->sel[S_CS] = SEL_USER_CS64;
        s->sel[S_SS] = SEL_USER_DS;
        s->sel[S_FS] = s->sel[S_GS] = 0;
        s->fs_base = SCRATCH_BASE + rng_below(SCRATCH_SIZE);
        s->gs_base = chance(80) ? SCRATCH_BASE + rng_below(SCRATCH_SIZE) : interesting_int() & 0x7fffffffffff;
    }
}

void state_random(struct cpu_image *s, unsigned mode)
{
    memset(s, 0, offsetof(struct cpu_image, xarea));
    for (unsigned n = 0; n < (mode == CODE64 ? 16 : 8); n++) {
        s->gpr[n] = interesting_int();
        if (mode != CODE64)
            s->gpr[n] &= 0xffffffff;
    }
    s->rflags = (rng() & FL_ARITH) | FL_ONE | FL_IF;
    if (chance(15))
        s->rflags |= FL_DF;
    if (chance(4))
        s->rflags |= FL_AC;
    random_segments(s, mode);
    random_xarea(s->xarea);
}
