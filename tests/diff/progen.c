// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Random programs. Most of their instructions are from the generator of the differential test, with MOVs in front that put
 * addresses into the registers; between them is what one instruction cannot show: branches to every kind of target, loops, calls,
 * stores into the program itself, string instructions, changes of ring and mode.
 */
#include <string.h>

#include "progen.h"
#include "softkvm/x86/cpu.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_ops.h"

#define MAX_ITEMS 40
#define ROOM      160 /* bytes that the longest item takes, and then some */

struct row_list {
    uint16_t rows[4096];
    unsigned count;
};
static struct row_list lists[3], x87_lists[3], evex_list;
static bool evex_only;

/* ---- code ---- */

void progen_start(struct progen *g)
{
    g->p->starts[g->p->nstarts++] = (uint16_t)g->p->len;
}

void progen_bytes(struct progen *g, const void *bytes, unsigned n)
{
    memcpy(g->p->code + g->p->len, bytes, n);
    g->p->len += n;
}

void progen_imm(struct progen *g, uint64_t v, unsigned n)
{
    progen_bytes(g, &v, n);
}

void progen_insn(struct progen *g, const void *bytes, unsigned n)
{
    progen_start(g);
    progen_bytes(g, bytes, n);
}

void progen_mov(struct progen *g, unsigned reg, uint64_t v)
{
    uint8_t op = (uint8_t)(0xb8 | (reg & 7));
    g->t.in.gpr[reg] = v;
    progen_start(g);
    if (g->p->mode == CODE16)
        progen_imm(g, 0x66, 1);
    if (g->p->mode == CODE64)
        progen_imm(g, 0x48 | reg >> 3, 1);
    progen_bytes(g, &op, 1);
    progen_imm(g, v, g->p->mode == CODE64 ? 8 : 4);
}

void progen_fixup(struct progen *g, unsigned kind, unsigned base)
{
    unsigned n = kind == FIX_ABS64 ? 8 : 4;
    if (g->nfixups < MAX_FIXUPS)
        g->fixups[g->nfixups++] = (struct fixup){.kind = kind, .at = (uint16_t)g->p->len, .base = (uint8_t)base};
    progen_imm(g, 0, n);
}

uint32_t progen_cell(void)
{
    static const uint8_t pages[] = {4, 5, 7, 10, 11};
    return (uint32_t)(SCRATCH_BASE + pages[rng_below(ARRAY_SIZE(pages))] * PAGE_SIZE + 8 * rng_below(PAGE_SIZE / 8));
}

static uint64_t address_of(const struct program *p, unsigned base, unsigned at)
{
    return prog_base_address(base) + p->off + at;
}

static uint64_t first_rip(const struct program *p)
{
    return address_of(p, p->base, 0) - (p->in.sel[S_CS] & 4 ? ldt[p->in.sel[S_CS] >> 3].base : 0);
}

static void resolve(struct progen *g)
{
    struct program *p = g->p;
    for (unsigned n = 0; n < g->nfixups; n++) {
        const struct fixup *f = &g->fixups[n];
        unsigned k = 0;
        while (p->starts[k] <= f->at)
            k++;
        unsigned left = p->nstarts - k, to = p->starts[k + rng_below(chance(70) ? MIN(left, 6u) : left)];
        uint64_t v = f->kind == FIX_REL32 ? to - (f->at + 4u) : address_of(p, f->base, to);
        if (f->kind == FIX_ABS64 && chance(3))
            v++; /* into the middle of it */
        memcpy(p->code + f->at, &v, f->kind == FIX_ABS64 ? 8 : 4);
    }
}

/* ---- instructions of the generator ---- */

/* Programs may come to run any part in ring 0, where these would reach for devices or break the harness; progsys.c has those that
 * do no harm. */
static bool only_harmless_in_user_mode(const struct isa_row *row)
{
    return (row->flags & ISA_PRIV) || row->op == OP_in || row->op == OP_out || row->op == OP_ins || row->op == OP_outs;
}

/* XSTATE_BV may tell initial values for in use or not, and a signal to the host's process changes that: SDM vol. 1, 13.6. */
static bool shows_in_use(const struct isa_row *row)
{
    return row->op == OP_xsave || row->op == OP_xsavec || row->op == OP_xsaveopt;
}

static bool wanted(const struct isa_row *row, unsigned mode)
{
    if (shows_in_use(row))
        return false;
    if (mode == CODE64 && only_harmless_in_user_mode(row))
        return false;
    return !not_covered(row) && host_has_feature(row->feature) &&
           !(row->flags & (ISA_BRANCH | (mode == CODE64 ? ISA_NO64 : ISA_ONLY64)));
}

static void append(struct row_list *l, unsigned row)
{
    l->rows[l->count++] = (uint16_t)row;
}

void progen_init(void)
{
    for (unsigned mode = CODE16; mode <= CODE64; mode++)
        for (unsigned r = 0; r < isa_row_count; r++)
            if (wanted(&isa_rows[r], mode)) {
                append(&lists[mode], r);
                if (isa_rows[r].feature == FEAT_X87)
                    append(&x87_lists[mode], r);
                if (mode == CODE64 && (isa_rows[r].feature >= FEAT_AVX512F || !strncmp(isa_rows[r].encoding, "EVEX", 4)))
                    append(&evex_list, r);
            }
}

void progen_evex(void)
{
    evex_only = evex_list.count > 0;
}

static unsigned some_row(const struct row_list *l)
{
    return l->rows[rng_below(l->count)];
}

/* What an instruction with a memory operand, or one that takes its operands from fixed registers, needs to find there. */
static void set_registers(struct progen *g, const struct insn *i, const uint64_t *before)
{
    unsigned want = 0;
    for (unsigned n = 0; n < i->nops; n++)
        if (i->ops[n].kind == OPK_MEM)
            want |= (i->base < 16 ? 1u << i->base : 0) | (i->index < 16 ? 1u << i->index : 0);
    for (unsigned r = 0; r < 16; r++) {
        bool changed = g->t.in.gpr[r] != before[r];
        if (want >> r & 1 || (changed && (r != RSP || chance(25))))
            progen_mov(g, r, g->t.in.gpr[r]);
    }
}

/* The operand was aimed at from the program's beginning; in another mapping it is in that. */
static void move_rip_relative(struct progen *g, const struct insn *i, unsigned at)
{
    int32_t disp = (int32_t)(i->disp - at);
    memcpy(g->p->code + at + i->disp_at, &disp, 4);
}

static bool add_random(struct progen *g)
{
    unsigned mode = g->p->mode, row = some_row(g->x87 ? &x87_lists[mode] : evex_only && chance(80) ? &evex_list : &lists[mode]);
    uint64_t before[16];
    struct insn i;
    memcpy(before, g->t.in.gpr, sizeof before);
    if (!gen_next(&g->t, row, mode) || insn_decode(g->t.code, 16, (enum code_mode)mode, &i) != DECODE_OK)
        return false;
    set_registers(g, &i, before);
    if (chance(12)) { /* a jump over it: jcc, loop, loope, loopne, jrcxz */
        uint8_t jump[2] = {(uint8_t)(chance(80) ? 0x70 | rng_below(16) : 0xe0 | rng_below(4)), i.len};
        progen_insn(g, jump, 2);
    }
    progen_insn(g, g->t.code, i.len);
    if (i.base == REG_RIP)
        move_rip_relative(g, &i, g->p->len - i.len);
    return true;
}

/* ---- 64-bit code ---- */

static void add_common(struct progen *g)
{
    /* clang-format off */
    static const struct {
        uint8_t len[5], code[24];
    } patterns[] = {
        {{5, 1}, {0xe8, 0, 0, 0, 0, 0x58}},                                                         /* call +0; pop rax */
        {{1, 1}, {0x50, 0x59}},                                                                     /* push rax; pop rcx */
        {{7, 1, 1, 1}, {0x48, 0x8d, 0x15, 2, 0, 0, 0, 0x52, 0xc3, 0x90}}, /* lea rdx, [rip+2]; push rdx; ret; nop */
        {{7, 2, 1}, {0x48, 0x8d, 0x1d, 2, 0, 0, 0, 0xff, 0xe3, 0x90}}, /* lea rbx, [rip+2]; jmp rbx; nop */
        {{2, 1}, {0xeb, 1, 0x90}},                                                                  /* jmp +1; nop */
        {{1, 3, 2, 1}, {0x55, 0x48, 0x89, 0xe5, 0x6a, 0x05, 0xc9}}, /* push rbp; mov rbp, rsp; push 5; leave */
        {{3, 2}, {0x48, 0xff, 0xc0, 0xff, 0xc9}},                                                   /* inc rax; dec ecx */
        {{2, 2, 2, 2, 1}, {0x31, 0xc9, 0xb1, 3, 0xff, 0xc9, 0x75, 0xfc, 0x90}}, /* xor ecx, ecx; mov cl, 3; 1: dec ecx; jnz 1b */
        {{1, 1}, {0x9c, 0x58}},                                                                     /* pushf; pop rax */
        {{1, 1, 2, 1}, {0x9c, 0x58, 0x34, 0xd5, 0x50, 0}}, /* pushf; pop rax; xor al, 0xd5; push rax */
        {{1, 1}, {0x9c, 0x9d}},                                                                     /* pushf; popf */
        {{1, 2, 1, 1}, {0x9f, 0x80, 0xf4, 0x9e, 0x9e}},                                             /* lahf; ...; sahf */
        {{4, 3, 1, 4}, {0xc8, 0x20, 0, 0, 0x48, 0x89, 0xe0, 0x90, 0x48, 0x83, 0xc4, 0x28}}, /* enter 32, 0; ...; add rsp, 40 */
        {{2, 2, 2, 2}, {0x0f, 0x31, 0x31, 0xc0, 0x31, 0xd2, 0x31, 0xc9}},                           /* rdtsc, and forget it */
        {{3, 2, 2, 2}, {0x0f, 0x01, 0xf9, 0x31, 0xc0, 0x31, 0xd2, 0x90, 0x90}},                     /* rdtscp, and forget it */
        {{2, 2}, {0x31, 0xc0, 0x0f, 0xa2}},                                                         /* xor eax, eax; cpuid */
        {{2, 3}, {0x31, 0xc9, 0x0f, 0x01, 0xd0}},                                                   /* xor ecx, ecx; xgetbv */
        {{4, 4}, {0xd9, 0xe8, 0xd8, 0xc0, 0xdd, 0xd8, 0xd9, 0xee}},                                 /* fld1; fadd; fstp; fldz */
        {{2, 3}, {0x0f, 0x77, 0x0f, 0xef, 0xc9}},                                                   /* emms; pxor mm1, mm1 */
        {{7, 1}, {0x48, 0x8d, 0x05, 0xff, 0xff, 0xff, 0x7f, 0x90}},                                 /* lea rax, [rip+0x7fffffff]; nop */
        /* lea rdx, [rip+9]; mov [rsp-8], rdx; call [rsp-8], whose push overwrites it; nop */
        {{7, 5, 4, 1}, {0x48, 0x8d, 0x15, 9, 0, 0, 0, 0x48, 0x89, 0x54, 0x24, 0xf8, 0xff, 0x54, 0x24, 0xf8, 0x90}},
    };
    /* clang-format on */
    unsigned n = (unsigned)rng_below(ARRAY_SIZE(patterns)), at = 0;
    for (unsigned k = 0; k < 5 && patterns[n].len[k]; at += patterns[n].len[k++])
        progen_insn(g, patterns[n].code + at, patterns[n].len[k]);
}

static void add_jump(struct progen *g)
{
    progen_start(g);
    switch (rng_below(3)) {
    case 0:
        progen_imm(g, 0xe9, 1);
        break;
    case 1:
        progen_imm(g, 0xe8, 1);
        break;
    default:
        progen_imm(g, 0x0f | (0x80 | rng_below(16)) << 8, 2);
        break;
    }
    progen_fixup(g, FIX_REL32, 0);
}

/* Where no code is: not canonical, at the edge of that, not mapped, not executable, for ring 0 alone. */
static uint64_t bad_target(void)
{
    static const uint64_t bad[] = {0x8000000000000000,
                                   0x0000800000000000,
                                   0x00007fffffffffff,
                                   0xffff7fffffffffff,
                                   0x0000700000001000,
                                   0,
                                   1ull << 62,
                                   (1ull << 62) | 2,
                                   SCRATCH_BASE,
                                   SCRATCH_BASE + 4 * PAGE_SIZE + 0x10,
                                   KERNEL_TABLES + 0x8000,
                                   SCRATCH_BASE + 3 * PAGE_SIZE};
    return bad[rng_below(ARRAY_SIZE(bad))];
}

/* Through a register, memory, or the stack, to a later instruction in this mapping or another. */
static void add_indirect(struct progen *g)
{
    bool bad = chance(12), user = g->p->ring == 3;
    unsigned base = chance(60) ? g->p->base : user ? (unsigned)rng_below(2) : BASE_KERNEL, reg = (unsigned)(chance(50) ? RBX : RAX);
    uint32_t cell = progen_cell();
    progen_start(g);
    progen_imm(g, 0xb848 | reg << 8, 2);
    if (bad)
        progen_imm(g, bad_target(), 8);
    else
        progen_fixup(g, FIX_ABS64, base);
    switch (rng_below(5)) {
    case 0: /* jmp reg */
    case 1: /* call reg */
        INSN(g, 0xff, (uint8_t)((chance(50) ? 0xe0 : 0xd0) | reg));
        break;
    case 2: /* mov [cell], reg; jmp or call [cell] */
        INSN(g, 0x48, 0x89, (uint8_t)(0x04 | reg << 3), 0x25, (uint8_t)cell, (uint8_t)(cell >> 8), (uint8_t)(cell >> 16),
             (uint8_t)(cell >> 24));
        INSN(g, 0xff, chance(50) ? 0x24 : 0x14, 0x25, (uint8_t)cell, (uint8_t)(cell >> 8), (uint8_t)(cell >> 16),
             (uint8_t)(cell >> 24));
        break;
    case 3: /* push reg; ret */
        INSN(g, (uint8_t)(0x50 | reg));
        INSN(g, 0xc3);
        break;
    default: /* push reg; ret 8 */
        INSN(g, (uint8_t)(0x50 | reg));
        INSN(g, 0xc2, 8, 0);
        break;
    }
}

/* jmp over; leaf: ...; ret; over: call leaf; call leaf */
static void add_leaf(struct progen *g)
{
    progen_start(g);
    progen_imm(g, 0xe9, 1);
    unsigned jump = g->p->len, leaf = jump + 4;
    progen_imm(g, 0, 4);
    for (unsigned n = 0; n < 2; n++)
        if (chance(70))
            add_random(g);
        else
            add_common(g);
    INSN(g, 0xc3);
    uint32_t over = g->p->len - leaf;
    memcpy(g->p->code + jump, &over, 4);
    for (unsigned n = 0, calls = 1 + (unsigned)rng_below(3); n < calls; n++) {
        progen_start(g);
        progen_imm(g, 0xe8, 1);
        progen_imm(g, leaf - (g->p->len + 4), 4);
    }
}

/* mov dword [cell], n: the next items are done n times. The count is in memory, so that few of them can change it. */
static void begin_loop(struct progen *g)
{
    uint32_t cell = progen_cell();
    progen_start(g);
    progen_imm(g, 0x2504c7, 3);
    progen_imm(g, cell, 4);
    progen_imm(g, chance(90) ? 2 + rng_below(4) : 30, 4);
    g->loop_at = g->p->len;
    g->loop_left = 1 + (unsigned)rng_below(4);
    progen_start(g); /* dec dword [cell]; js out */
    progen_imm(g, 0x250cff, 3);
    progen_imm(g, cell, 4);
    INSN(g, 0x78, 2);
    INSN(g, 0xeb, 5); /* over the jump out of it */
    INSN(g, 0xe9, 0, 0, 0, 0);
}

static void end_loop(struct progen *g)
{
    progen_start(g);
    progen_imm(g, 0xe9, 1);
    progen_imm(g, g->loop_at - (g->p->len + 4), 4);
    uint32_t out = g->p->len - (g->loop_at + 16);
    memcpy(g->p->code + g->loop_at + 12, &out, 4);
    g->loop_left = 0;
}

/* Stores into code that follows or went before, through the mapping that allows it. */
static void add_self_modification(struct progen *g)
{
    uint32_t base = g->p->ring == 0 ? (uint32_t)KERNEL_CODE : (uint32_t)RWX_BASE;
    bool ahead = chance(70);
    /* mov byte [base + off + at], imm8: the immediate of a `mov al, imm8` */
    unsigned at = ahead || g->p->nstarts < 2 ? g->p->len + 8 + 1 : g->p->starts[rng_below(g->p->nstarts - 1)];
    uint8_t what = ahead ? (uint8_t)rng() : chance(50) ? 0x90 : 0xcc;
    unsigned gap = ahead && chance(40) ? 3 : 0;
    progen_start(g);
    progen_imm(g, 0x2504c6, 3);
    progen_imm(g, base + g->p->off + at + gap, 4);
    progen_imm(g, what, 1);
    if (gap)
        INSN(g, 0x48, 0xff, 0xc2); /* inc rdx */
    INSN(g, 0xb0, 0x11);
    INSN(g, 0x48, 0x0f, 0xb6, 0xc8); /* movzx rcx, al */
}

/* An instruction whose immediate lies in the next page, and changes between its two executions. */
static bool add_split(struct progen *g)
{
    uint32_t base = g->p->ring == 0 ? (uint32_t)KERNEL_CODE : (uint32_t)RWX_BASE;
    unsigned end = PAGE_SIZE - (g->p->off + g->p->len) % PAGE_SIZE;
    if (end < 3 || end > 64)
        return false;
    INSN(g, 0xb2, 2); /* mov dl, 2 */
    while ((g->p->off + g->p->len + 1) % PAGE_SIZE)
        INSN(g, 0x90);
    unsigned at = g->p->off + g->p->len + 1;
    INSN(g, 0xb0, 0x11);             /* 1: mov al, 0x11 */
    INSN(g, 0x48, 0x0f, 0xb6, 0xc8); /* movzx rcx, al */
    progen_start(g);
    progen_imm(g, 0x2504c6, 3); /* mov byte [base + at], imm8 */
    progen_imm(g, base + at, 4);
    progen_imm(g, (uint8_t)rng(), 1);
    INSN(g, 0xfe, 0xca); /* dec dl */
    INSN(g, 0x75, 0xee); /* jnz 1b */
    return true;
}

static void add_string(struct progen *g)
{
    static const uint8_t ops[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
    uint64_t at = progen_cell() + (chance(50) ? rng_below(8) : 0),
             to = chance(30) ? at + rng_below(32) - 16 : progen_cell() + rng_below(8);
    uint64_t count = chance(60) ? rng_below(20) : chance(80) ? rng_below(1200) : interesting_int();
    progen_mov(g, RSI, chance(3) ? interesting_int() : at);
    progen_mov(g, RDI, chance(3) ? interesting_int() : to);
    progen_mov(g, RCX, count);
    if (chance(15))
        INSN(g, chance(50) ? 0xfd : 0xfc); /* std, cld */
    progen_start(g);
    progen_imm(g, chance(70) ? 0xf3 : 0xf2, 1);
    if (chance(15))
        progen_imm(g, chance(50) ? 0x64 : 0x67, 1);
    if (chance(50))
        progen_imm(g, chance(50) ? 0x48 : 0x66, 1);
    progen_imm(g, ops[rng_below(sizeof ops)], 1);
    INSN(g, 0xfc);
}

/* One access at [base + disp], or at [base + rcx*scale + disp]. */
static void add_near(struct progen *g, unsigned base, unsigned index_scale, int disp)
{
    /* mov r, m; mov m, r; add m, r; cmp r, m; mov m8, r8; imul r, m; movups x, m; movaps m, x; movsd m, x; paddd x, m; lock xadd m, r */
    static const uint8_t ops[][4] = {{1, 0x8b}, {1, 0x89}, {1, 0x01}, {1, 0x3b}, {1, 0x88}, {2, 0x0f, 0xaf}, {2, 0x0f, 0x10}, {2, 0x0f, 0x29},
                                     {3, 0xf2, 0x0f, 0x11}, {3, 0x66, 0x0f, 0xfe}, {3, 0xf0, 0x0f, 0xc1}};
    const uint8_t *op = ops[rng_below(ARRAY_SIZE(ops))];
    unsigned n = 1, rex = 0x40 | (chance(50) ? 8 : 0) | base >> 3, reg = (unsigned)(chance(80) ? RAX : rng_below(8));
    progen_start(g);
    if (op[0] == 3)
        progen_imm(g, op[n++], 1);
    progen_imm(g, rex, 1);
    for (; n <= op[0]; n++)
        progen_imm(g, op[n], 1);
    progen_imm(g, 0x80 | (reg & 7) << 3 | (index_scale || (base & 7) == RSP ? 4 : base & 7), 1);
    if (index_scale || (base & 7) == RSP)
        progen_imm(g, (index_scale ? (index_scale - 1) << 6 | RCX << 3 : 4 << 3) | (base & 7), 1);
    progen_imm(g, (uint32_t)disp, 4);
}

/* Accesses at constant distances from each other, which the translator checks together: with one base, with an index, by pushes and pops. */
static void add_neighbours(struct progen *g)
{
    static const uint8_t bases[] = {RBX, RBP, RSI, R8, R11, R12, R13, RSP, RAX};
    unsigned base = bases[rng_below(ARRAY_SIZE(bases))], scale = base != RSP && chance(25) ? 1 + (unsigned)rng_below(4) : 0;
    uint64_t at = progen_cell() + (chance(20) ? rng_below(8) : 0), index = chance(70) ? rng_below(20) : interesting_int();
    unsigned spread = chance(70) ? 100 : 2000;
    if (chance(30))
        at = ALIGN_UP(at, PAGE_SIZE) - 8 * rng_below(8);
    int first = (int)rng_below(spread) - (int)(spread / 2);
    if (scale)
        progen_mov(g, RCX, index);
    progen_mov(g, base, chance(4) ? interesting_int() : at - (uint64_t)(int64_t)first - (scale ? index << (scale - 1) : 0));
    for (unsigned n = 3 + (unsigned)rng_below(6); n--;) {
        unsigned dice = (unsigned)rng_below(100);
        if (base == RSP && dice < 30)
            INSN(g, (uint8_t)((chance(50) ? 0x50 : 0x58) | (chance(70) ? RDX : RDI)));
        else if (dice < 10)
            INSN(g, (uint8_t)(0x48 | base >> 3), 0x83, (uint8_t)((chance(50) ? 0xc0 : 0xe8) | (base & 7)), (uint8_t)(8 * rng_below(4)));
        else if (dice < 14)
            INSN(g, (uint8_t)(0x70 | rng_below(16)), 0);
        else if (dice < 20)
            add_random(g);
        else
            add_near(g, base, scale, first + 8 * (int)rng_below(4) + (chance(20) ? (int)rng_below(spread) : 0));
    }
}

/* A loop of one block over one or two pieces of memory, a few turns of which the translator makes one block; its accesses interleave. */
static void add_short_loop(struct progen *g)
{
    static const uint8_t bases[] = {RBX, RBP, RSI, R8, R11, R12, R13};
    unsigned base[2], to = (unsigned)rng_below(ARRAY_SIZE(bases));
    for (unsigned n = 0; n < 2; n++, to = (to + 1) % ARRAY_SIZE(bases)) {
        uint64_t at = progen_cell() + (chance(20) ? rng_below(8) : 0);
        base[n] = bases[to];
        progen_mov(g, base[n], chance(3) ? interesting_int() : chance(40) ? ALIGN_UP(at, PAGE_SIZE) - 8 * rng_below(12) : at);
    }
    progen_mov(g, R9, 1 + rng_below(chance(80) ? 12 : 60));
    uint32_t head = g->p->len;
    for (unsigned n = 1 + (unsigned)rng_below(6); n--;)
        if (chance(85))
            add_near(g, base[rng_below(2)], 0, 8 * (int)rng_below(4));
        else
            INSN(g, (uint8_t)(0x70 | rng_below(16)), 0);
    for (unsigned n = 0; n < 2; n++)
        if (chance(70))
            INSN(g, (uint8_t)(0x48 | base[n] >> 3), 0x83, (uint8_t)((chance(70) ? 0xc0 : 0xe8) | (base[n] & 7)), (uint8_t)(8 * rng_below(4)));
    INSN(g, 0x49, 0xff, 0xc9); /* dec r9 */
    INSN(g, (uint8_t)(chance(90) ? 0x75 : 0x70 | rng_below(16)), (uint8_t)(head - (g->p->len + 2)));
}

/* A loop by LOOP, over instructions that do not touch its count; of each operand and address size. */
static void add_counted_loop(struct progen *g)
{
    unsigned mode = g->p->mode;
    bool prefix = chance(30), partly = prefix != (mode == CODE16); /* more of rCX is there than counts */
    uint64_t n = chance(3) ? 0 : 1 + rng_below(chance(80) ? 5 : 60);
    if (partly && chance(50))
        n |= mode == CODE64 ? rng() << 32 : rng() & 0xffff0000;
    progen_mov(g, RCX, n);
    uint32_t head = g->p->len;
    for (unsigned k = (unsigned)rng_below(4); k--;) {
        static const uint8_t body[][2] = {{0x01, 0xd0}, {0x11, 0xc2}, {0xd1, 0xe3}, {0x9c, 0x9d}, {0x85, 0xc0}, {0xa8, 0x55}};
        progen_insn(g, body[rng_below(ARRAY_SIZE(body))], 2); /* add eax, edx; adc edx, eax; shl ebx, 1; pushf, popf; test; test */
    }
    progen_start(g);
    progen_imm(g, 0x67, prefix);
    progen_imm(g, 0xe2, 1);
    progen_imm(g, chance(90) ? head - (g->p->len + 1) : 0, 1);
}

static void add_item64(struct progen *g)
{
    unsigned dice = (unsigned)rng_below(100);
    if (chance(50) && add_split(g))
        return;
    if (evex_only && chance(12))
        progevex_add(g);
    else if (dice < 50)
        add_random(g);
    else if (dice < 57)
        add_neighbours(g);
    else if (dice < 60)
        add_short_loop(g);
    else if (dice < 61)
        add_counted_loop(g);
    else if (dice < 70)
        add_common(g);
    else if (dice < 74)
        add_jump(g);
    else if (dice < 79)
        add_indirect(g);
    else if (dice < 82)
        add_leaf(g);
    else if (dice < 85)
        add_self_modification(g);
    else if (dice < 89)
        add_string(g);
    else if (dice < 92 && !g->loop_left)
        begin_loop(g);
    else if (dice < 93)
        progen_mov(g, (unsigned)rng_below(16), interesting_int());
    else
        progsys_add(g);
}

/* ---- 16- and 32-bit code ---- */

/* Calls, indirect jumps and returns, 32 bits wide, or 16 in 16-bit code. */
static void add_legacy_branch(struct progen *g)
{
    static const uint8_t call_pop[] = {0xe8, 0, 0, 0, 0, 0x58}, call_pop16[] = {0xe8, 0, 0, 0x58};
    bool wide = g->p->mode == CODE32 || chance(40), prefix = wide && g->p->mode == CODE16, ret = chance(50);
    uint8_t size = 0x66;
    /* call +0; pop eax */
    progen_start(g);
    progen_bytes(g, &size, prefix);
    progen_bytes(g, wide ? call_pop : call_pop16, wide ? 5 : 3);
    progen_start(g);
    progen_bytes(g, &size, prefix);
    progen_imm(g, 0x58, 1);
    if (chance(20))
        return;
    /* add eax, to the end of all this; jmp eax, or push eax; ret */
    progen_start(g);
    progen_bytes(g, &size, prefix);
    progen_imm(g, 0xc083, 2);
    progen_imm(g, 6 + (prefix ? (ret ? 4 : 3) : 0), 1);
    progen_start(g);
    progen_bytes(g, &size, prefix);
    if (ret) {
        progen_imm(g, 0x50, 1);
        progen_start(g);
        progen_bytes(g, &size, prefix);
    }
    progen_imm(g, ret ? 0xc3 : 0xe0ff, ret ? 1 : 2);
}

/* Strings at places that mostly exist, by themselves or repeated. */
static void add_string32(struct progen *g)
{
    static const uint8_t ops[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}, segs[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    const struct program *p = g->p;
    uint64_t at = progen_cell() + (chance(50) ? rng_below(8) : 0), to = chance(30) ? at + rng_below(32) - 16 : progen_cell() + rng_below(8);
    progen_mov(g, RSI, chance(4) ? interesting_int() : at - (p->in.sel[S_DS] == SEL_USER_DS ? 0 : SCRATCH_BASE));
    progen_mov(g, RDI, chance(4) ? interesting_int() : to - (p->in.sel[S_ES] == SEL_USER_DS ? 0 : SCRATCH_BASE));
    if (chance(10))
        INSN(g, chance(70) ? 0xfd : 0xfc); /* std, cld */
    for (unsigned n = 1 + (unsigned)rng_below(4); n--;) {
        bool repeat = chance(15);
        if (repeat)
            progen_mov(g, RCX, rng_below(20));
        if (chance(20))
            add_random(g); /* something that the flags matter to */
        progen_start(g);
        if (repeat)
            progen_imm(g, chance(50) ? 0xf3 : 0xf2, 1);
        if (chance(10))
            progen_imm(g, segs[rng_below(sizeof segs)], 1);
        if (chance(15))
            progen_imm(g, 0x67, 1);
        if (chance(30))
            progen_imm(g, 0x66, 1);
        progen_imm(g, ops[rng_below(sizeof ops)], 1);
        if (chance(30))
            INSN(g, (uint8_t)(0x70 | rng_below(16)), 0);
    }
    INSN(g, 0xfc);
}

static void add_item32(struct progen *g)
{
    static const uint8_t bytes[][6] = {{2, 0x50, 0x5b}, {2, 0x9c, 0x9d}, {3, 0xeb, 1, 0x90},
                                       {1, 0x40},       {2, 0x31, 0xc9}, {5, 0x55, 0x89, 0xe5, 0x6a, 0x05},
                                       {1, 0xc9}};
    unsigned dice = (unsigned)rng_below(100), n = (unsigned)rng_below(ARRAY_SIZE(bytes));
    if (dice < 68) {
        add_random(g);
    } else if (dice < 72) {
        add_counted_loop(g);
    } else if (dice < 80) {
        add_string32(g);
    } else if (dice < 88) {
        add_legacy_branch(g);
    } else if (dice < 95 || g->p->mode == CODE16) {
        progen_insn(g, bytes[n] + 1, bytes[n][0]);
    } else {
        add_jump(g);
    }
}

/* ---- programs ---- */

static void choose_kind(struct program *p)
{
    unsigned dice = (unsigned)rng_below(100);
    p->mode = evex_only || dice < 84 ? CODE64 : dice < 94 ? CODE32 : CODE16;
    p->ring = p->mode == CODE64 && chance(35) ? 0 : 3;
    p->base = p->ring == 0 ? BASE_KERNEL : p->mode == CODE64 && chance(40) ? BASE_RWX : BASE_USER;
    p->cr4_off = p->ring == 0 && chance(85) ? CR4_SMAP : 0;
    if (chance(10))
        p->cr4_off |= CR4_SMEP;
    p->xcr0_off = evex_only && chance(8) ? XCR0_AVX512 : 0;
    p->interrupts = p->mode == CODE64 && chance(30) ? 1 + (uint8_t)rng_below(3) : 0;
}

void progen(struct program *p)
{
    static struct progen g;
    p->len = p->nstarts = 0;
    choose_kind(p);
    unsigned mode = p->mode, ring = p->ring, base = p->base;
    g.p = p;
    g.nfixups = g.loop_left = 0;
    g.x87 = chance(12); /* x87 instructions leave more to each other than registers */
    while (!gen_case(&g.t, some_row(&lists[mode]), mode))
        ;
    p->off = (unsigned)(CODE_PAGE * PAGE_SIZE + rng_below(chance(40) ? 2 * PAGE_SIZE - PROG_CODE - 16 : PAGE_SIZE - 64));
    p->in = g.t.in;
    p->in.rip = first_rip(p);
    g.t.in.rip = SCRATCH_BASE + p->off;
    p->in.rflags &= ~(uint64_t)(FL_TF | FL_AC | (chance(50) && ring == 0 ? FL_IF : 0));
    if (chance(80) || ring == 0) /* a stack that works */
        p->in.gpr[RSP] = g.t.in.gpr[RSP] = progen_cell() - (p->in.sel[S_SS] == SEL_USER_DS ? 0 : SCRATCH_BASE);
    unsigned items = 4 + (unsigned)rng_below(MAX_ITEMS);
    for (unsigned n = 0; n < items && p->len < PROG_CODE - 2 * ROOM; n++) {
        if (p->mode == CODE64)
            add_item64(&g);
        else
            add_item32(&g);
        if (g.loop_left && --g.loop_left == 0)
            end_loop(&g);
    }
    if (g.loop_left)
        end_loop(&g);
    INSN(&g, 0xcc);
    resolve(&g);
    p->mode = (uint8_t)mode;
    p->ring = (uint8_t)ring;
    p->base = (uint8_t)base;
}
