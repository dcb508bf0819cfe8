// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * x87, MMX, SSE and AVX instructions in the engine against the same ones on the host's CPU: each row of the instruction set many
 * times with random operands and state; registers, flags, every byte of vector state, memory and faults are compared. Operands lie
 * in a page, across two, before an unmapped page, and in a read-only one. The last-instruction pointers are part of the state, so
 * both sides run at the same address.
 *
 *     native_test [rounds a row [seed [mnemonic]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "flat.h"
#include "hostrun.h"
#include "softkvm/x86/fpu.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_pattern.h"

/* Guest and host have these pages at the same addresses: two writable ones, a hole, a read-only one. */
#define DATA   FLAT_DATA
#define HOLE   (DATA + 2 * PAGE_SIZE)
#define RONLY  (DATA + 3 * PAGE_SIZE)
#define WINDOW (4 * PAGE_SIZE)
#define STATE  832 /* bytes of an XSAVE area as far as AVX */

static uint64_t seed;
static uint32_t mxcsr_mask;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1dull;
}
static unsigned below(unsigned n)
{
    return (unsigned)(rnd() >> 33) % n;
}

struct test {
    struct flat f;
    struct hostrun host;
    uint8_t *window; /* the host's */
    uint64_t ran, faulted;
};

/* ---- making instructions ---- */

static void random_modrm(uint8_t *p, unsigned *n, const struct isa_pattern *row)
{
    unsigned reg = row->mask & KEY_REG ? (row->match & KEY_REG) >> KEY_REG_SHIFT : below(8);
    unsigned rm = row->mask & KEY_RM ? (row->match & KEY_RM) >> KEY_RM_SHIFT : below(8);
    unsigned mod = row->mask & KEY_MOD3 ? (row->match & KEY_MOD3 ? 3 : below(3)) : below(2) ? 3 : below(3);
    if (row->vsib)
        rm = 4;
    p[(*n)++] = (uint8_t)(mod << 6 | reg << 3 | rm);
    if (mod == 3)
        return;
    uint8_t sib = (uint8_t)rnd();
    if (rm == 4)
        p[(*n)++] = sib;
    unsigned disp = mod == 1 ? 1 : mod == 2 || rm == 5 || (rm == 4 && (sib & 7) == 5) ? 4 : 0;
    for (unsigned k = 0; k < disp; k++)
        p[(*n)++] = (uint8_t)rnd();
}

/* Bytes that have a good chance to be the row's. */
static unsigned random_bytes(const struct isa_row *r, const struct isa_pattern *row, uint8_t *p)
{
    unsigned n = 0, w = row->mask & KEY_W ? !!(row->match & KEY_W) : below(2), pp = row->mask & KEY_PFX ? row->match & KEY_PFX : 0;
    unsigned op = r->opcode;
    memset(p, 0, 16);
    if (row->vex) {
        unsigned l = row->mask & KEY_L ? !!(row->match & KEY_L) : below(2);
        unsigned vvvv = strchr(r->operands, 'H') || strchr(r->operands, 'B') ? below(16) : 15;
        p[n++] = 0xc4;
        p[n++] = (uint8_t)(rnd() << 5 | r->opmap);
        p[n++] = (uint8_t)(w << 7 | vvvv << 3 | l << 2 | pp);
    } else {
        if (!below(4))
            p[n++] = 0x65; /* GS, whose base is zero on both sides */
        if (!below(8))
            p[n++] = 0x67;
        if ((row->mask & KEY_PFX) ? pp == 1 : !below(8))
            p[n++] = 0x66;
        if (pp > 1)
            p[n++] = pp == 2 ? 0xf3 : 0xf2;
        if (w || below(2))
            p[n++] = (uint8_t)(0x40 | w << 3 | below(8));
        if (r->opmap)
            p[n++] = 0x0f;
        if (r->opmap > 1)
            p[n++] = r->opmap == 2 ? 0x38 : 0x3a;
    }
    p[n++] = (uint8_t)op;
    if (row->modrm)
        random_modrm(p, &n, row);
    for (unsigned k = 0; k < 4 && n < 15; k++)
        p[n++] = (uint8_t)rnd();
    return n;
}

static bool make_insn(const struct isa_row *r, const struct isa_pattern *row, struct insn *i)
{
    uint8_t bytes[16];
    for (unsigned tries = 0; tries < 2000; tries++) {
        random_bytes(r, row, bytes);
        if (insn_decode(bytes, 15, CODE64, i) == DECODE_OK && i->desc == r)
            return true;
    }
    return false;
}

/* ---- making state ---- */

static uint64_t random_float(void)
{
    static const uint64_t f64[] = {0,
                                   1ull << 63,
                                   0x7ff0000000000000,
                                   0xfff0000000000000,
                                   0x7ff8000000000000,
                                   0x7ff0000000000001,
                                   1,
                                   0x3ff0000000000000,
                                   0xbff0000000000000,
                                   0x4000000000000000,
                                   0x0010000000000000,
                                   0x7fefffffffffffff,
                                   0x43e0000000000000};
    static const uint32_t f32[] = {0, 1u << 31,   0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
                                   1, 0x3f800000, 0xbf800000, 0x40000000, 0x00800000, 0x7f7fffff};
    switch (below(4)) {
    case 0:
        return f64[below(ARRAY_SIZE(f64))];
    case 1:
        return f32[below(ARRAY_SIZE(f32))] | (uint64_t)f32[below(ARRAY_SIZE(f32))] << 32;
    case 2:
        return 0x3ff0000000000000 | rnd() >> 12;
    default:
        return rnd();
    }
}

static void put(uint8_t *p, unsigned at, uint64_t val, unsigned n)
{
    memcpy(p + at, &val, n);
}

/* A valid XSAVE image with every component in use. */
static void random_state(uint8_t *a)
{
    static const uint16_t exps[] = {0, 0x7fff, 0x3fff, 0xbfff, 0x4001, 0x403e, 0x8000, 0xffff, 0x3ffe, 1};
    memset(a, 0, HOSTRUN_AREA);
    put(a, 0, 0x40 | (below(4) ? 0x3f : below(64)) | below(16) << 8, 2);
    unsigned fsw = below(8) << 11 | (below(16) << 8 & 0x4700);
    if (!below(4))
        fsw |= below(128);
    if (fsw & ~(unsigned)a[0] & 0x3f)
        fsw |= 0x8080; /* ES and B follow from the flags and masks */
    put(a, 2, fsw, 2);
    put(a, 4, below(2) ? 0xff : rnd(), 1);
    put(a, 6, rnd() & 0x7ff, 2);
    put(a, 8, rnd() >> 17, 8);
    put(a, 16, rnd() >> 17, 8);
    put(a, 24, 0x1f80 ^ (below(3) ? 0 : rnd() & 0xffff & ~0x40u), 4);
    if (below(3))
        a[25] |= 0x1f, a[24] |= 0x80;
    for (unsigned k = 0; k < 8; k++) {
        uint64_t mant = rnd();
        put(a, 32 + 16 * k, !below(4) ? mant : below(2) ? mant | 1ull << 63 : 1ull << 63, 8);
        put(a, 40 + 16 * k, below(3) ? exps[below(ARRAY_SIZE(exps))] : rnd(), 2);
    }
    for (unsigned at = 160; at < 416; at += 8)
        put(a, at, random_float(), 8);
    for (unsigned at = 576; at < STATE; at += 8)
        put(a, at, random_float(), 8);
    put(a, 28, mxcsr_mask, 4);
    put(a, 512, 7, 8);
}

/* Where a memory operand of `size` bytes is to begin. */
static uint64_t random_place(unsigned size, unsigned align)
{
    uint64_t at;
    switch (below(8)) {
    case 0:
        at = DATA + PAGE_SIZE - below(size + 1);
        break; /* across two pages */
    case 1:
        at = HOLE - below(size + 1);
        break; /* into the hole */
    case 2:
        at = RONLY + below(PAGE_SIZE - size);
        break;
    case 3:
        at = RONLY - below(size + 1);
        break; /* out of the hole */
    default:
        at = DATA + below(2 * PAGE_SIZE - size);
        break;
    }
    return below(8) ? ALIGN_DOWN(at, (uint64_t)align) : at;
}

static unsigned operand_size(const struct insn *i, unsigned *align)
{
    *align = 1;
    for (unsigned n = 0; n < i->nops; n++) {
        if (i->ops[n].kind != OPK_MEM)
            continue;
        if (i->ops[n].size) {
            *align = i->ops[n].size & (i->ops[n].size - 1) ? 1 : i->ops[n].size;
            return i->ops[n].size;
        }
        *align = i->op == OP_fxsave || i->op == OP_fxrstor ? 16 : i->opmap ? 64 : 1;
        return i->op == OP_fnsave || i->op == OP_frstor    ? 108
               : i->op == OP_fnstenv || i->op == OP_fldenv ? 28
               : *align == 16                              ? 512
                                                           : STATE;
    }
    return 0;
}

static unsigned set_bytes(struct insn *i, unsigned at, unsigned len, uint64_t val)
{
    memcpy(i->bytes + at, &val, len);
    return len;
}

/* Points the memory operand at `la` by choosing registers or the displacement; false when the form does not allow it. */
static bool aim(struct test *t, struct insn *i, uint64_t *gpr, uint64_t la)
{
    bool vsib = i->desc->operands[0] == 'V' && strchr(i->desc->operands, 'T');
    uint64_t off = la - (uint64_t)i->disp;
    if (i->index != REG_NONE && !vsib) {
        gpr[i->index] = i->index == i->base ? 0 : below(64);
        off -= gpr[i->index] << i->scale;
    }
    if (i->base == REG_RIP || i->base == REG_NONE || i->index == i->base) {
        if (i->disp_len != 4)
            return false;
        set_bytes(i, i->disp_at, 4,
                  la - (i->base == REG_RIP              ? t->f.v->rip + i->len
                        : i->index != REG_NONE && !vsib ? gpr[i->index] << i->scale
                                                        : 0));
        return true;
    }
    gpr[i->base] = i->addrsize == 4 ? (uint32_t)off | rnd() << 32 : off;
    return true;
}

/* Indexes that spread a gather's elements over the window. */
static void spread_indexes(struct insn *i, uint8_t *area)
{
    bool qwords = i->opcode & 1;
    for (unsigned n = 0; n < (qwords ? 4u : 8u); n++) {
        int64_t x = (int64_t)below(below(3) ? 64 : 8192) - 32;
        unsigned at = n * (qwords ? 8 : 4);
        put(area, at < 16 ? 160 + 16u * i->index + at : 576 + 16u * i->index + at - 16, (uint64_t)x, qwords ? 8 : 4);
    }
}

static uint64_t host_xcr0(void)
{
    uint32_t lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* A plausible area for what loads one. */
static void plant_area(const struct insn *i, uint8_t *at)
{
    static uint8_t area[HOSTRUN_AREA] __attribute__((aligned(64)));
    random_state(area);
    if (!below(8))
        put(area, 26, rnd(), 1); /* reserved bits of MXCSR */
    put(area, 512, below(8) ? below(8) : below(16), 8);
    if (below(2))
        put(area, 520, 1ull << 63 | (below(2) ? 7 : below(8)), 8);
    if (!below(8))
        put(area, 520 + 8 * below(7), rnd() >> below(64), 8);
    for (unsigned k = 512; k < 528; k += 8) /* components that the host has but the guest has not would make a difference */
        *(uint64_t *)(void *)(area + k) &= ~(host_xcr0() & ~7ull);
    memcpy(at, area, operand_size(i, &(unsigned){0}));
}

/* ---- comparing ---- */

static void print_insn(const struct insn *i)
{
    printf("%s (%s) bytes", i->desc->name, i->desc->operands);
    for (unsigned n = 0; n < i->len; n++)
        printf(" %02x", i->bytes[n]);
    printf("\n");
}

static unsigned diff(const char *what, unsigned at, uint64_t got, uint64_t want)
{
    if (got == want)
        return 0;
    printf("  %s %u: engine %#llx, host %#llx\n", what, at, (unsigned long long)got, (unsigned long long)want);
    return 1;
}

/* Processors differ in which address they report when several elements of a masked store fault. */
static bool any_fault_address(const struct insn *i)
{
    return i->ops[0].kind == OPK_MEM &&
           (i->op == OP_vmaskmovps || i->op == OP_vmaskmovpd || i->op == OP_vpmaskmovd || i->op == OP_vpmaskmovq);
}

/*
 * The first byte of vector state to compare. After some faults the host's state is half changed, where the engine's is that before
 * the instruction: an MMX store leaves TOP cleared and the tags as they were, XRSTOR has loaded other components when it finds a
 * bad MXCSR.
 */
static unsigned state_from(const struct insn *i, int vec)
{
    bool mmx = false;
    for (unsigned n = 0; n < i->nops; n++)
        mmx |= i->ops[n].kind == OPK_MMX;
    if (vec == EXC_PF && mmx && i->ops[0].kind == OPK_MEM)
        return 160;
    return vec == EXC_GP && i->op == OP_xrstor ? STATE : 0;
}

static unsigned compare(struct test *t, const struct insn *i)
{
    struct vcpu *v = t->f.v;
    const struct hostrun *h = &t->host;
    unsigned bad = 0;
    int vec = flat_exception(v);
    bad += diff("vector", 0, (uint64_t)vec, (uint64_t)h->vector);
    if (vec == EXC_PF && h->vector == EXC_PF && !any_fault_address(i))
        bad += diff("fault address", 0, v->cr2, h->fault_address);
    for (unsigned n = 0; n < 16; n++)
        if (n != RSP || vec < 0)
            bad += diff("register", n, v->gpr[n], h->gpr[n]);
    if (vec < 0)
        bad += diff("rflags", 0, v->rflags & FL_ARITH, h->rflags & FL_ARITH);
    for (unsigned n = state_from(i, vec); n < STATE; n += n == 408 ? 168 : 8) /* skips 416..575 */
        bad += diff("state", n, *(uint64_t *)(void *)(v->fpu.area + n), *(const uint64_t *)(const void *)(h->area + n));
    for (uint64_t n = 0; n < WINDOW; n += 8)
        if (n < 2 * PAGE_SIZE || n >= 3 * PAGE_SIZE)
            bad += diff("memory", (unsigned)n, *(uint64_t *)(void *)(t->f.ram + DATA + n), *(uint64_t *)(void *)(t->window + n));
    if (bad)
        print_insn(i);
    return bad;
}

/* ---- one instruction on both ---- */

static void fill_memory(struct test *t)
{
    uint8_t *p = t->f.ram + DATA;
    for (unsigned n = 0; n < WINDOW; n += 8)
        put(p, n, random_float(), 8);
}

static void copy_memory(struct test *t)
{
    mprotect(t->window + 3 * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE);
    memcpy(t->window, t->f.ram + DATA, 2 * PAGE_SIZE);
    memcpy(t->window + 3 * PAGE_SIZE, t->f.ram + RONLY, PAGE_SIZE);
    mprotect(t->window + 3 * PAGE_SIZE, PAGE_SIZE, PROT_READ);
}

/* True when the instruction could be set up. */
static bool set_up(struct test *t, struct insn *i)
{
    struct vcpu *v = t->f.v;
    unsigned align, size = operand_size(i, &align);
    uint64_t la = size ? random_place(size, align) : 0;
    for (unsigned n = 0; n < 16; n++)
        v->gpr[n] = below(2) ? rnd() : below(32);
    v->gpr[RSP] = FLAT_STACK; /* exceptions are delivered */
    v->rip = FLAT_CODE + 16 * below(64);
    v->rflags = FL_ONE | (rnd() & FL_ARITH);
    random_state(v->fpu.area);
    v->fpu.ptrs = 0;
    if (size && (i->base == RSP || i->index == RSP))
        return false;
    if (i->op == OP_xsave || i->op == OP_xsaveopt || i->op == OP_xsavec || i->op == OP_xrstor) {
        if (i->base == RAX || i->base == RDX || i->index == RAX || i->index == RDX)
            return false;
        v->gpr[RAX] &= 7;
        v->gpr[RDX] = 0;
    }
    if (size && !aim(t, i, v->gpr, la))
        return false;
    if (i->op == OP_maskmovq || i->op == OP_maskmovdqu || i->op == OP_vmaskmovdqu)
        v->gpr[RDI] = random_place(i->op == OP_maskmovq ? 8 : 16, 1);
    if (strchr(i->desc->operands, 'T'))
        spread_indexes(i, v->fpu.area);
    if ((i->op == OP_xrstor || i->op == OP_fxrstor || i->op == OP_fldenv || i->op == OP_frstor) && la + size <= HOLE)
        plant_area(i, t->f.ram + la);
    return true;
}

static unsigned run_one(struct test *t, struct insn *i)
{
    struct vcpu *v = t->f.v;
    struct hostrun *h = &t->host;
    fill_memory(t);
    if (!set_up(t, i))
        return 0;
    copy_memory(t);
    memcpy(h->area, v->fpu.area, sizeof(h->area));
    memcpy(h->gpr, v->gpr, sizeof(h->gpr));
    h->rflags = v->rflags;
    h->rip = v->rip;
    memcpy(t->f.ram + v->rip, i->bytes, 16);
    memcpy((void *)(uintptr_t)v->rip, i->bytes, 16);
    hostrun(h, i->len);

    mmu_flush_all(v);
    cpu_step(v);
    fpu_put(v);
    t->ran++;
    t->faulted += h->vector >= 0;
    return compare(t, i);
}

static unsigned test_row(struct test *t, unsigned row, unsigned rounds)
{
    const struct isa_row *r = &isa_rows[row];
    unsigned bad = 0;
    for (unsigned n = 0; n < rounds && bad < 8; n++) {
        struct insn i;
        if (!make_insn(r, &isa_patterns[row], &i)) {
            printf("%s \"%s\": no such instruction could be made\n", r->name, r->encoding);
            return 1;
        }
        bad += run_one(t, &i);
    }
    return bad;
}

static void test_init(struct test *t)
{
    flat_init(&t->f, CODE64);
    struct vcpu *v = t->f.v;
    v->cr4 |= CR4_OSXSAVE;
    v->xcr0 = v->guest_xcr0_mask = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    cpu_update_mode(v);
    *flat_pte(&t->f, HOLE) = 0;
    *flat_pte(&t->f, RONLY) &= ~2ull;
    for (unsigned n = 1; n < 64; n++) /* around it the host has nothing */
        *flat_pte(&t->f, DATA - n * PAGE_SIZE) = *flat_pte(&t->f, DATA + WINDOW + (n - 1) * PAGE_SIZE) = 0;
    t->window = mmap((void *)DATA, WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    void *text = mmap((void *)FLAT_CODE, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (t->window == MAP_FAILED || text == MAP_FAILED) {
        perror("cannot map the guest's addresses");
        exit(2);
    }
    mprotect(t->window + 2 * PAGE_SIZE, PAGE_SIZE, PROT_NONE);
}

/* Its registers are not in this program's states; tests/diff has them. */
static bool needs_avx512(const struct isa_row *r)
{
    return r->feature >= FEAT_AVX512F || !strncmp(r->encoding, "EVEX", 4);
}

int main(int argc, char **argv)
{
    static struct test t;
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 50, bad = 0;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)now_ns() | 1;
    printf("seed %#llx\n", (unsigned long long)seed);
    hostrun_init();
    int e = native_init();
    if (e) {
        printf("cannot run vector instructions here: %s\n", strerror(-e));
        return 1;
    }
    test_init(&t);
    mxcsr_mask = fpu_mxcsr_mask();
    for (unsigned n = 0; n < isa_row_count; n++)
        if ((isa_rows[n].flags & (ISA_NATIVE | ISA_PRIV)) == ISA_NATIVE && !needs_avx512(&isa_rows[n]) && (argc < 4 || !strcmp(argv[3], isa_rows[n].name)))
            bad += test_row(&t, n, rounds);
    printf("%llu instructions, %llu of them faulted, %u differences\n", (unsigned long long)t.ran, (unsigned long long)t.faulted,
           bad);
    return bad != 0 || t.ran == 0;
}
