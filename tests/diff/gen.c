// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Random encodings of a row, and addresses for its memory operands.
 *
 * encode() takes the row's pattern for what is fixed and dice for the rest. The decoder under test then says where displacement and immediate are, and
 * aim() chooses an address and solves for one register or for the displacement. What an instruction needs to get past its first check (a valid
 * selector, an aligned XSAVE area, a dividend that fits) is made likely, not certain.
 */
#include <string.h>
#include <Zydis/Zydis.h>

#include "diff.h"
#include "softkvm/x86/cpu.h"
#include "softkvm/x86/isa_pattern.h"

const uint8_t scratch_kind[SCRATCH_PAGES] = {PAGE_HOLE, PAGE_CODE, PAGE_CODE, PAGE_HOLE, PAGE_RW, PAGE_RW, PAGE_HOLE, PAGE_RW,
                                             PAGE_RO,   PAGE_HOLE, PAGE_RW,   PAGE_RW,   PAGE_HOLE, PAGE_HOLE, PAGE_HOLE, PAGE_HOLE};

const struct ldt_desc ldt[LDT_COUNT] = {
    [LDT_CODE16] = {.base = 0, .limit = 0xfffff, .code = true, .pages = true},
    [LDT_DATA16] = {.base = SCRATCH_BASE, .limit = 0xffff, .writable = true},
    [LDT_DATA_SMALL] = {.base = SCRATCH_BASE + 4 * PAGE_SIZE, .limit = 0x17ff, .db = true, .writable = true},
    [LDT_DATA_RO] = {.base = 0, .limit = 0xfffff, .db = true, .pages = true},
    [LDT_DATA_DOWN] = {.base = SCRATCH_BASE - 0x10000, .limit = 0x14fff, .db = true, .writable = true, .down = true},
    [LDT_CODE16_LOW] = {.base = SCRATCH_BASE, .limit = 0xffff, .code = true},
    [LDT_CODE32] = {.base = SCRATCH_BASE, .limit = 0xfffff, .code = true, .db = true, .pages = true},
};

/* ---- encodings ---- */

struct bytes {
    uint8_t b[40];
    unsigned n;
};

static void emit(struct bytes *e, unsigned byte)
{
    e->b[e->n++] = (uint8_t)byte;
}

/* Random bits where the mask leaves the choice. */
static unsigned key_field(const struct isa_pattern *p, uint32_t field, unsigned shift, unsigned random)
{
    return (((random << shift) & ~p->mask) | (p->match & p->mask)) >> shift & field >> shift;
}

static void legacy_prefixes(struct bytes *e, const struct isa_row *r, const struct isa_pattern *p, unsigned mode)
{
    static const uint8_t segments[] = {0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e};
    static const uint8_t pp[] = {0, 0x66, 0xf3, 0xf2};
    unsigned fixed = p->mask & KEY_PFX;
    bool string = r->op == OP_movs || r->op == OP_cmps || r->op == OP_stos || r->op == OP_lods || r->op == OP_scas || r->op == OP_ins || r->op == OP_outs;
    if (chance(12))
        emit(e, 0x67);
    if (chance(mode == CODE64 ? 12 : 20))
        emit(e, segments[rng_below(chance(80) ? 2 : 6)]);
    if (chance((r->flags & ISA_LOCK) ? 30 : 1) && !p->vex && !p->evex)
        emit(e, 0xf0);
    if (p->vex || p->evex)
        return;
    if (fixed == KEY_PFX) {
        unsigned want = p->match & KEY_PFX;
        if (want >= 2 && chance(20))
            emit(e, 0x66);
        if (want)
            emit(e, pp[want]);
    } else {
        if (chance(25))
            emit(e, 0x66);
        if (!fixed && chance(string ? 60 : 3))
            emit(e, chance(50) ? 0xf2 : 0xf3);
    }
}

static void shuffle(uint8_t *b, unsigned n)
{
    for (unsigned k = n; k > 1; k--) {
        unsigned at = (unsigned)rng_below(k);
        uint8_t t = b[k - 1];
        b[k - 1] = b[at];
        b[at] = t;
    }
}

/* What the last byte of EVEX says is decided when ModRM is known: evex_tail(). */
static void evex_escape(struct bytes *e, const struct isa_row *r, const struct isa_pattern *p)
{
    unsigned w = key_field(p, KEY_W, 9, chance(50)), pp = key_field(p, KEY_PFX, 0, rng() & 3);
    unsigned vvvv = p->mask & KEY_VVVV ? 15 : (unsigned)(rng() & 15), extra = (unsigned)(chance(60) ? rng() & 0xf0 : 0xf0);
    emit(e, 0x62);
    emit(e, extra | r->opmap);
    emit(e, w << 7 | vvvv << 3 | 4 | pp);
    emit(e, 0);
}

/* Length or rounding, broadcast, mask and zeroing. */
static unsigned evex_tail(const struct isa_row *r, const struct isa_pattern *p, bool memory)
{
    unsigned length = key_field(p, KEY_L2, 14, rng() & 1) << 1;
    if (!length)
        length = key_field(p, KEY_L, 10, rng() & 1);
    bool vvvv = !(p->mask & KEY_VVVV) || p->vsib, b = (r->flags & (memory ? EV_BCST : EV_ER | EV_SAE)) && chance(40);
    unsigned tail = (b && !memory ? (unsigned)rng() & 3 : length) << 5 | (unsigned)b << 4 | (vvvv && chance(40) ? 0 : 8);
    if ((r->flags & EV_KREQ) || ((r->flags & EV_K) && chance(60)))
        tail |= 1 + (unsigned)rng_below(7);
    if (tail & 7 && (r->flags & EV_Z) && chance(50))
        tail |= 0x80;
    return tail;
}

static void opcode_escape(struct bytes *e, const struct isa_row *r, const struct isa_pattern *p, unsigned mode)
{
    unsigned w = key_field(p, KEY_W, 9, chance(35)), rxb = (unsigned)(chance(50) ? rng() & 7 : 0);
    if (p->mask & KEY_B)
        rxb &= 6;
    if (p->evex) {
        evex_escape(e, r, p);
        return;
    }
    if (!p->vex) {
        if (mode == CODE64 && (w || rxb || chance(10)))
            emit(e, 0x40 | w << 3 | rxb);
        if (r->opmap)
            emit(e, 0x0f);
        if (r->opmap >= 2)
            emit(e, r->opmap == 2 ? 0x38 : 0x3a);
        return;
    }
    unsigned l = key_field(p, KEY_L, 10, rng() & 1), pp = key_field(p, KEY_PFX, 0, rng() & 3);
    unsigned vvvv = p->mask & KEY_VVVV ? 15 : (unsigned)(rng() & 15), low = vvvv << 3 | l << 2 | pp;
    if (mode != CODE64)
        rxb = 0;
    if (r->opmap == 1 && !w && !(rxb & 3) && chance(50)) {
        if (mode != CODE64)
            low |= 0x40;
        emit(e, 0xc5);
        emit(e, low | (rxb & 4 ? 0 : 0x80));
        return;
    }
    emit(e, 0xc4);
    emit(e, (~rxb & 7) << 5 | r->opmap);
    emit(e, low | w << 7);
}

static void encode(struct bytes *e, unsigned row, unsigned mode)
{
    const struct isa_row *r = &isa_rows[row];
    const struct isa_pattern *p = &isa_patterns[row];
    e->n = 0;
    legacy_prefixes(e, r, p, mode);
    shuffle(e->b, e->n);
    opcode_escape(e, r, p, mode);
    emit(e, r->opcode + (unsigned)rng_below(p->span));
    if (p->modrm) {
        unsigned mod3 = key_field(p, KEY_MOD3, 2, chance(40)), reg = key_field(p, KEY_REG, KEY_REG_SHIFT, rng() & 7), rm = key_field(p, KEY_RM, KEY_RM_SHIFT, rng() & 7);
        if (p->vsib)
            rm = 4;
        emit(e, (mod3 ? 3 : (unsigned)rng_below(3)) << 6 | reg << 3 | rm);
        if (p->evex)
            e->b[e->n - 3] = (uint8_t)evex_tail(r, p, !mod3);
    }
    while (e->n < 24) {
        uint64_t v = interesting_int();
        for (unsigned k = 0; k < 4; k++, v >>= 8)
            emit(e, v & 0xff);
    }
}

/* ---- addresses ---- */

/* Where an operand of `size` bytes may lie: inside, across and beside the scratch area's pages. */
static uint64_t pick_target(unsigned size, bool aligned, unsigned mode)
{
    static const uint8_t writable[] = {4, 5, 7, 10, 11};
    unsigned dice = (unsigned)rng_below(100);
    uint64_t page = SCRATCH_BASE + writable[rng_below(ARRAY_SIZE(writable))] * PAGE_SIZE, at = rng_below(PAGE_SIZE - 64);
    size = MAX(size, 1u);
    if (aligned || chance(30))
        at &= ~63ull;
    else if (chance(50))
        at &= ~7ull;
    if (dice < 66)
        return page + at;
    if (dice < 76) /* across two pages */
        return SCRATCH_BASE + (chance(50) ? 5 : 11) * PAGE_SIZE - rng_below(size + 1);
    if (dice < 83) /* across the end of the last, or just before it */
        return SCRATCH_BASE + (chance(50) ? 6 : 12) * PAGE_SIZE - rng_below(size + 2);
    if (dice < 87) /* across the beginning of the first */
        return SCRATCH_BASE + (chance(50) ? 4 : 7) * PAGE_SIZE - rng_below(size + 1);
    if (dice < 91)
        return SCRATCH_BASE + 8 * PAGE_SIZE + at;
    if (dice < 93) /* from writable into read-only */
        return SCRATCH_BASE + 8 * PAGE_SIZE - rng_below(size + 1);
    if (dice < 95)
        return SCRATCH_BASE + 6 * PAGE_SIZE + at;
    if (dice < 97)
        return SCRATCH_BASE + CODE_PAGE * PAGE_SIZE + at;
    return mode == CODE64 ? interesting_int() : interesting_int() & 0xffffffff;
}

static uint64_t segment_base(const struct cpu_image *s, unsigned seg, unsigned mode)
{
    if (mode == CODE64)
        return seg == SEG_FS ? s->fs_base : seg == SEG_GS ? s->gs_base : 0;
    return s->sel[seg] & 4 ? ldt[s->sel[seg] >> 3].base : 0;
}

static uint64_t cut(uint64_t v, unsigned size)
{
    return size == 8 ? v : v & (BIT64(8 * size) - 1);
}

static void set_reg_part(uint64_t *reg, unsigned size, uint64_t v)
{
    *reg = (*reg & ~cut(~0ull, size)) | cut(v, size);
}

static void patch_disp(struct test_case *t, const struct insn *i, int64_t disp)
{
    memcpy(t->code + i->disp_at, &disp, i->disp_len);
}

/* Makes the memory operand's offset `off`, or something near it where the registers do not allow that. */
static void solve(struct test_case *t, const struct insn *i, uint64_t off)
{
    uint64_t *gpr = t->in.gpr;
    bool vsib = isa_patterns[i->desc - isa_rows].vsib;
    uint64_t index = i->index == REG_NONE || vsib ? 0 : gpr[i->index] << i->scale;
    if (i->base == REG_RIP) {
        patch_disp(t, i, (int64_t)(off - t->in.rip - i->len));
    } else if (i->base == REG_NONE && i->index == REG_NONE) {
        patch_disp(t, i, (int64_t)off);
    } else if (i->base == REG_NONE) {
        if (!vsib) {
            set_reg_part(&gpr[i->index], i->addrsize, (off - (uint64_t)i->disp) >> i->scale);
            index = gpr[i->index] << i->scale;
        }
        patch_disp(t, i, (int64_t)(off - index));
    } else if (i->base == i->index && !vsib) {
        set_reg_part(&gpr[i->base], i->addrsize, (off - (uint64_t)i->disp) / (1 + (1u << i->scale)));
    } else {
        set_reg_part(&gpr[i->base], i->addrsize, off - (uint64_t)i->disp - index);
    }
}

static uint64_t linear_of(const struct test_case *t, const struct insn *i)
{
    const uint64_t *gpr = t->in.gpr;
    uint64_t ea = (uint64_t)i->disp;
    if (i->base == REG_RIP)
        ea += t->in.rip + i->len;
    else if (i->base != REG_NONE)
        ea += gpr[i->base];
    if (i->index != REG_NONE && !isa_patterns[i->desc - isa_rows].vsib)
        ea += gpr[i->index] << i->scale;
    ea = cut(ea, i->addrsize) + segment_base(&t->in, i->seg, t->mode);
    return t->mode == CODE64 ? ea : (uint32_t)ea;
}

static const struct operand *memory_operand(const struct insn *i)
{
    for (unsigned n = 0; n < i->nops; n++)
        if (i->ops[n].kind == OPK_MEM)
            return &i->ops[n];
    return NULL;
}

/* A register that holds an address of its own: rSI, rDI, rSP, rBP, rBX. */
static void aim_register(struct test_case *t, unsigned reg, unsigned seg, unsigned addrsize, unsigned size)
{
    uint64_t target = pick_target(size, chance(30), t->mode);
    set_reg_part(&t->in.gpr[reg], addrsize, target - segment_base(&t->in, seg, t->mode));
}

/* ---- contents that an instruction wants ---- */

static uint16_t some_selector(void)
{
    static const uint16_t sels[] = {0, 3, SEL_USER_CS32, SEL_USER_DS, SEL_USER_CS64, 0x10, 0x18, 0x28, 0x40, 0x50, SEL_LDT(0), SEL_LDT(1), SEL_LDT(2), SEL_LDT(3),
                                    SEL_LDT(4), SEL_LDT(5), 0x0f & ~3};
    return chance(90) ? sels[rng_below(ARRAY_SIZE(sels))] : (uint16_t)rng();
}

static uint64_t some_code_address(unsigned mode)
{
    uint64_t v = SCRATCH_BASE + CODE_PAGE * PAGE_SIZE + rng_below(CODE_PAGES * PAGE_SIZE);
    if (chance(30))
        v = interesting_int();
    return mode == CODE64 ? v : (uint32_t)v;
}

/* Puts `v` where the instruction takes the operand n from. */
static void supply(struct test_case *t, const struct insn *i, unsigned n, uint64_t v)
{
    const struct operand *o = &i->ops[n];
    if (o->kind == OPK_GPR)
        memcpy((uint8_t *)t->in.gpr + o->off, &v, MIN(o->size, 8));
    else if (o->kind == OPK_MEM)
        mem_plant(linear_of(t, i), &v, MIN(o->size ? o->size : 8, 8));
}

static void plant_far_pointer(uint64_t at, unsigned opsize, unsigned mode)
{
    uint64_t off = some_code_address(mode);
    uint16_t sel = some_selector();
    mem_plant(at, &off, opsize);
    mem_plant(at + opsize, &sel, 2);
}

static uint64_t stack_linear(const struct test_case *t)
{
    uint64_t sp = t->in.gpr[RSP];
    if (t->mode == CODE64)
        return sp;
    bool wide = t->in.sel[S_SS] & 4 ? ldt[t->in.sel[S_SS] >> 3].db : true;
    return (uint32_t)((wide ? (uint32_t)sp : (uint16_t)sp) + segment_base(&t->in, SEG_SS, t->mode));
}

static void plant_stack(const struct test_case *t, const struct insn *i, unsigned slot, uint64_t v)
{
    mem_plant(stack_linear(t) + slot * i->opsize, &v, i->opsize);
}

static void want_xsave(struct test_case *t, const struct insn *i)
{
    static uint8_t area[XAREA_SIZE + 64] __attribute__((aligned(64)));
    /* Only components that both sides have. PKRU is the host's own. */
    uint64_t ours = xarea_mask();
    t->in.gpr[RAX] = chance(50) ? ours : rng() & ours;
    t->in.gpr[RDX] = 0;
    t->in.xarea[512] |= XCR0_SSE; /* whether the host takes initial SSE state for in use depends on its interrupts */
    memcpy(area, t->in.xarea, 160);
    for (unsigned at = 160; at < sizeof(area); at++)
        area[at] = (uint8_t)rng();
    memset(area + 512, 0, 64);
    area[512] = (uint8_t)(rng() & ours);
    if (chance(15)) { /* compacted format */
        area[520] = (uint8_t)(area[512] | (rng() & ours));
        area[527] = 0x80;
    }
    if (chance(5)) /* a component that neither side has */
        area[512] ^= (uint8_t)(8u << rng_below(2));
    if (chance(5)) /* high bits of XSTATE_BV and XCOMP_BV, and reserved bytes; the low bytes have components that only the host has */
        area[(chance(50) ? 515 : 523) + rng_below(5)] ^= (uint8_t)(1u << rng_below(8));
    if (chance(5))
        area[528 + rng_below(48)] ^= (uint8_t)(1u << rng_below(8));
    if (chance(5))
        area[24 + rng_below(4)] ^= (uint8_t)(1u << rng_below(8));
    mem_plant(linear_of(t, i), area, sizeof(area));
}

/* Byte `at` of a ZMM register, wherever the area has it. */
static uint8_t *zmm_byte(uint8_t *x, unsigned reg, unsigned at)
{
    unsigned size;
    if (reg >= 16)
        return x + xarea_component(7, &size) + 64 * (reg - 16) + at;
    return at < 16 ? x + 160 + 16 * reg + at : at < 32 ? x + 576 + 16 * reg + at - 16 : x + xarea_component(6, &size) + 32 * reg + at - 32;
}

static bool has_wide_index(const struct insn *i)
{
    switch (i->op) {
    case OP_vpgatherqd:
    case OP_vpgatherqq:
    case OP_vgatherqps:
    case OP_vgatherqpd:
    case OP_vpscatterqd:
    case OP_vpscatterqq:
    case OP_vscatterqps:
    case OP_vscatterqpd:
        return true;
    default:
        return false;
    }
}

static void want_wide_vsib(struct test_case *t, const struct insn *i)
{
    for (unsigned k = 0; k < 16; k++) {
        int32_t off = (int32_t)rng_below(chance(90) ? 600 : 0x100000) - 300;
        if (has_wide_index(i) && k & 1)
            off = *zmm_byte(t->in.xarea, i->index, 4 * k - 1) & 0x80 ? -1 : 0;
        memcpy(zmm_byte(t->in.xarea, i->index, 4 * k), &off, 4);
    }
    t->in.xarea[512] = (uint8_t)xarea_mask();
    state_canonical(t->in.xarea);
}

static void want_vsib(struct test_case *t, const struct insn *i)
{
    uint8_t *x = t->in.xarea;
    if (insn_has(i, PFX_EVEX)) {
        want_wide_vsib(t, i);
        return;
    }
    for (unsigned k = 0; k < 8; k++) {
        int32_t off = (int32_t)rng_below(chance(90) ? 600 : 0x100000) - 300;
        bool quad = has_wide_index(i);
        uint8_t *lane = k < 4 ? x + 160 + 16 * i->index + 4 * k : x + 576 + 16 * i->index + 4 * (k - 4);
        if (quad && k & 1)
            off = lane[-1] & 0x80 ? -1 : 0;
        memcpy(lane, &off, 4);
    }
    x[512] |= XCR0_SSE | XCR0_AVX;
    state_canonical(x);
}

static void want_iret(struct test_case *t, const struct insn *i)
{
    plant_stack(t, i, 0, some_code_address(t->mode));
    plant_stack(t, i, 1, some_selector());
    plant_stack(t, i, 2, (rng() & FL_ARITH) | FL_ONE | FL_IF | (rng() & FL_TF));
    plant_stack(t, i, 3, rng());
    plant_stack(t, i, 4, chance(80) ? SEL_USER_DS : some_selector());
}

static void want_far_pointer(struct test_case *t, const struct insn *i)
{
    if (i->ops[0].kind == OPK_MEM) {
        plant_far_pointer(linear_of(t, i), i->opsize, t->mode);
    } else {
        uint16_t sel = some_selector();
        memcpy(t->code + i->imm_at + i->imm_len - 2, &sel, 2);
    }
    /* A CALL into 64-bit code pushes by 64-bit rules. Linux takes a fault beyond 4 GiB in 32-bit code for an erratum of the K8, and retries forever. */
    if (t->mode != CODE64)
        t->in.gpr[RSP] |= 64;
}

/* A dividend whose quotient often fits. */
static void want_dividend(struct test_case *t, const struct insn *i)
{
    uint64_t *gpr = t->in.gpr;
    gpr[RDX] = chance(50) ? 0 : rng_below(1000);
    if (i->op == OP_idiv && chance(50))
        gpr[RDX] = 0 - (gpr[RAX] >> (i->opsize * 8 - 1) & 1);
    if (i->ops[0].size == 1)
        gpr[RAX] = (gpr[RAX] & ~0xff00ull) | rng_below(4) << 8;
}

/* Operands that are addressed by registers of their own. */
static void aim_implicit(struct test_case *t, const struct insn *i)
{
    unsigned size = i->ops[0].size;
    switch (i->op) {
    case OP_movs:
    case OP_cmps:
        aim_register(t, RSI, i->seg, i->addrsize, size);
        aim_register(t, RDI, SEG_ES, i->addrsize, size);
        break;
    case OP_stos:
    case OP_scas:
    case OP_ins:
        aim_register(t, RDI, SEG_ES, i->addrsize, size);
        break;
    case OP_lods:
    case OP_outs:
        aim_register(t, RSI, i->seg, i->addrsize, size);
        break;
    case OP_maskmovq:
    case OP_maskmovdqu:
    case OP_vmaskmovdqu:
        aim_register(t, RDI, i->seg, i->addrsize, 16);
        break;
    case OP_movdir64b:
        aim_register(t, i->ops[0].reg, SEG_ES, i->addrsize, 64);
        break;
    case OP_xlat:
        aim_register(t, RBX, i->seg, i->addrsize, 1);
        break;
    case OP_leave:
    case OP_enter:
        aim_register(t, RBP, SEG_SS, t->mode == CODE64 ? 8 : 4, 8);
        break;
    default:
        break;
    }
}

/* Targets, selectors and flags for what transfers control or loads segments. */
static void want_control(struct test_case *t, const struct insn *i)
{
    switch (i->op) {
    case OP_ret:
        plant_stack(t, i, 0, some_code_address(t->mode));
        break;
    case OP_retf:
        plant_stack(t, i, 0, some_code_address(t->mode));
        plant_stack(t, i, 1, some_selector());
        break;
    case OP_iret:
        want_iret(t, i);
        break;
    case OP_popf:
        plant_stack(t, i, 0, rng());
        break;
    case OP_jmp_ind:
    case OP_call_ind:
        if (chance(70))
            supply(t, i, 0, some_code_address(t->mode));
        break;
    case OP_jmpf:
    case OP_callf:
        want_far_pointer(t, i);
        break;
    case OP_lfp:
        plant_far_pointer(linear_of(t, i), i->opsize, t->mode);
        break;
    case OP_mov_seg:
    case OP_lar:
    case OP_lsl:
        supply(t, i, 1, some_selector());
        break;
    case OP_verr:
    case OP_verw:
        supply(t, i, 0, some_selector());
        break;
    case OP_arpl:
        supply(t, i, 0, some_selector());
        supply(t, i, 1, some_selector());
        break;
    case OP_pop_seg:
        plant_stack(t, i, 0, some_selector());
        break;
    default:
        break;
    }
}

/* Values that make arithmetic, comparisons and state loads do more than fault or compare unequal. */
static void want_data(struct test_case *t, const struct insn *i)
{
    uint64_t *gpr = t->in.gpr;
    unsigned size = i->ops[0].size;
    switch (i->op) {
    case OP_bt:
    case OP_bts:
    case OP_btr:
    case OP_btc:
        if (memory_operand(i) && i->ops[1].kind == OPK_GPR && i->ops[1].reg != i->base && i->ops[1].reg != i->index && chance(80))
            gpr[i->ops[1].reg] = rng_below(20000) - 10000;
        break;
    case OP_cmpxchg:
        if (chance(50))
            supply(t, i, 0, gpr[RAX]);
        break;
    case OP_cmpxchg8b:
    case OP_cmpxchg16b:
        if (chance(50)) {
            mem_plant(linear_of(t, i), &gpr[RAX], size / 2);
            mem_plant(linear_of(t, i) + size / 2, &gpr[RDX], size / 2);
        }
        break;
    case OP_div:
    case OP_idiv:
        if (chance(70))
            want_dividend(t, i);
        break;
    case OP_ldmxcsr:
        if (chance(80))
            supply(t, i, 0, 0x1f80 ^ (rng() & 0xe07f) ^ (chance(20) ? rng() & 0x1f80 : 0));
        break;
    case OP_fxsave:
    case OP_fxrstor:
    case OP_xsave:
    case OP_xsavec:
    case OP_xsaveopt:
    case OP_xrstor:
        want_xsave(t, i);
        break;
    case OP_pcmpestri:
    case OP_pcmpestrm:
    case OP_vpcmpestri:
    case OP_vpcmpestrm:
        if (chance(60)) {
            gpr[RAX] = rng_below(40) - 20;
            gpr[RDX] = rng_below(40) - 20;
        }
        break;
    default:
        break;
    }
    if (isa_patterns[i->desc - isa_rows].vsib)
        want_vsib(t, i);
    if (i->op == OP_loop || i->op == OP_loope || i->op == OP_loopne || i->op == OP_jcxz || insn_has(i, PFX_REP | PFX_REPNE))
        set_reg_part(&gpr[RCX], i->addrsize, chance(90) ? rng_below(40) : interesting_int());
}

/* ---- cases ---- */

static uint64_t place_code(struct test_case *t)
{
    unsigned dice = (unsigned)rng_below(100);
    uint64_t code = SCRATCH_BASE + CODE_PAGE * PAGE_SIZE, end = code + CODE_PAGES * PAGE_SIZE;
    uint64_t at = dice < 85 ? code + rng_below(CODE_PAGES * PAGE_SIZE - 64) : dice < 94 ? code + PAGE_SIZE - rng_below(16) : end - 1 - rng_below(16);
    return at - segment_base(&t->in, SEG_CS, t->mode);
}

/* VMCALL and VMMCALL with prefixes that make them invalid: hypervisors are lenient there. */
static bool leads_into_hypervisor(const uint8_t *code)
{
    for (unsigned n = 0; n < 10; n++)
        if (code[n] == 0x0f && code[n + 1] == 0x01 && (code[n + 2] == 0xc1 || code[n + 2] == 0xd9))
            return true;
    return false;
}

/* INT 80h is Linux's system call. */
static bool leads_into_kernel(const struct insn *i)
{
    return i->op == OP_int && (i->imm & 0xff) == 0x80;
}

static void aim(struct test_case *t, struct insn *i)
{
    const struct operand *mem = memory_operand(i);
    aim_register(t, RSP, SEG_SS, t->mode == CODE64 ? 8 : 4, i->opsize);
    if (mem) {
        bool state = !mem->size && i->op != OP_nop && i->op != OP_lea;
        bool aligned = (i->desc->flags & ISA_ALIGN) ? chance(85) : state ? chance(90) : chance(30);
        uint64_t target = pick_target(mem->size ? mem->size : 64, aligned, t->mode);
        if (state && chance(80))
            target &= ~511ull; /* room for an XSAVE area */
        solve(t, i, cut(target - segment_base(&t->in, i->seg, t->mode), i->addrsize));
        insn_decode(t->code, 16, (enum code_mode)t->mode, i);
    }
    aim_implicit(t, i);
    want_control(t, i);
    want_data(t, i);
}

/* Sets t->code and i to an encoding of the row. */
static bool choose_encoding(struct test_case *t, unsigned row, unsigned mode, struct insn *i)
{
    struct bytes e;
    for (unsigned tries = 0; tries < 60; tries++) {
        encode(&e, row, mode);
        if (insn_decode(e.b, 16, (enum code_mode)mode, i) != DECODE_OK || i->desc != &isa_rows[row] || leads_into_kernel(i))
            continue;
        t->mode = (uint8_t)mode;
        t->row = (int)row;
        memcpy(t->code, e.b, 16);
        return true;
    }
    return false;
}

bool gen_next(struct test_case *t, unsigned row, unsigned mode)
{
    struct insn i;
    if (!choose_encoding(t, row, mode, &i))
        return false;
    aim(t, &i);
    t->len = i.len;
    return true;
}

bool gen_case(struct test_case *t, unsigned row, unsigned mode)
{
    struct insn i;
    if (choose_encoding(t, row, mode, &i)) {
        state_random(&t->in, mode);
        t->in.rip = place_code(t);
        aim(t, &i);
        t->len = i.len;
        t->step = (i.desc->flags & ISA_BRANCH) || chance(40); /* a branch to itself would never end otherwise */
        if (t->step)
            t->in.rflags |= FL_TF;
        memset(t->code + t->len, 0xcc, 16 - t->len);
        return true;
    }
    return false;
}

void gen_invalid(struct test_case *t, unsigned mode)
{
    static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0xf0, 0x67, 0x64, 0x2e, 0x48, 0x41};
    static const ZydisMachineMode modes[] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_MACHINE_MODE_LONG_64};
    ZydisDecoder decoder;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zo[ZYDIS_MAX_OPERAND_COUNT];
    struct insn i;
    ZydisDecoderInit(&decoder, modes[mode], mode == CODE64 ? ZYDIS_STACK_WIDTH_64 : mode == CODE32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16);
    for (;;) {
        unsigned n = 0;
        while (n < 3 && chance(40)) /* not so many that the length could become the fault */
            t->code[n++] = prefixes[rng_below(ARRAY_SIZE(prefixes))];
        if (chance(60))
            t->code[n++] = 0x0f;
        while (n < 15)
            t->code[n++] = (uint8_t)rng();
        t->code[15] = 0xcc;
        enum decode_result r = insn_decode(t->code, 15, (enum code_mode)mode, &i);
        bool evex = memchr(t->code, 0x62, 12) != NULL; /* AVX-512 of processors newer than this Zydis */
        if (r != DECODE_OK && !evex && !leads_into_hypervisor(t->code) && !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, t->code, 15, &zi, zo)))
            break;
    }
    t->mode = (uint8_t)mode;
    t->row = -1;
    t->len = 15;
    t->step = false;
    state_random(&t->in, mode);
    t->in.rip = SCRATCH_BASE + CODE_PAGE * PAGE_SIZE + rng_below(PAGE_SIZE) - segment_base(&t->in, SEG_CS, mode);
}
