// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs of EVEX loads and stores in random programs, where an opmask decides what happens: around the edges of pages that are not
 * there or not writable, so that the elements which fault are among those that the mask leaves out, or are not; and at constant
 * distances, which the translator checks together.
 */
#include "progen.h"
#include "softkvm/x86/cpu.h"

/* kmovq k, rcx */
static void set_mask(struct progen *g, unsigned k, uint64_t mask)
{
    progen_mov(g, RCX, mask);
    INSN(g, 0xc4, 0xe1, 0xfb, 0x92, (uint8_t)(0xc0 | k << 3 | RCX));
}

/* The lowest elements, the highest, some, none. */
static uint64_t some_mask(void)
{
    unsigned n = (unsigned)rng_below(64);
    switch (rng_below(5)) {
    case 0:
        return n ? ~0ull >> n : ~0ull;
    case 1:
        return ~0ull << n;
    case 2:
        return (uint64_t)0xffff << n % 16 * 4;
    case 3:
        return rng() & rng();
    default:
        return chance(50) ? 0 : rng();
    }
}

static const struct {
    uint8_t map, pp, w, opcode;
    uint8_t size; /* bytes of the operand, 0: the vector's */
    bool store, unmasked;
} moves[] = {
    {1, 3, 0, 0x6f, 0, false, false},                                   /* vmovdqu8 */
    {1, 3, 0, 0x7f, 0, true, false},  {1, 2, 0, 0x6f, 0, false, false}, /* vmovdqu32 */
    {1, 2, 0, 0x7f, 0, true, false},  {1, 2, 1, 0x6f, 0, false, false}, /* vmovdqu64 */
    {1, 2, 1, 0x7f, 0, true, false},  {1, 1, 0, 0x6f, 0, false, false}, /* vmovdqa32 */
    {1, 1, 0, 0x7f, 0, true, false},  {1, 0, 0, 0x10, 0, false, false}, /* vmovups */
    {1, 0, 0, 0x11, 0, true, false},  {1, 3, 1, 0x10, 8, false, false}, /* vmovsd */
    {1, 3, 1, 0x11, 8, true, false},  {2, 1, 0, 0x63, 1, true, false},  /* vpcompressb */
    {2, 1, 0, 0x8b, 4, true, false},                                    /* vpcompressd */
    {2, 1, 1, 0x89, 8, false, false},                                   /* vpexpandq */
    {2, 1, 0, 0x58, 4, false, false},                                   /* vpbroadcastd */
    {1, 1, 0, 0xe7, 0, true, true},                                     /* vmovntdq */
};

static void add_move(struct progen *g, unsigned base, int disp)
{
    unsigned n = (unsigned)rng_below(ARRAY_SIZE(moves)), length = (unsigned)rng_below(3),
             unit = moves[n].size ? moves[n].size : 16u << length;
    unsigned reg = (unsigned)rng_below(32), k = moves[n].unmasked ? 0 : (unsigned)rng_below(8), rm = base & 7;
    bool zero = k && !moves[n].store && chance(50), small = chance(60);
    if (small)
        disp = disp / (int)unit % 128;
    progen_start(g);
    progen_imm(g, 0x62, 1);
    progen_imm(g, 0x40 | (reg & 8 ? 0 : 0x80) | (base & 8 ? 0 : 0x20) | (reg & 16 ? 0 : 0x10) | moves[n].map, 1);
    progen_imm(g, (unsigned)moves[n].w << 7 | 0x7c | moves[n].pp, 1);
    progen_imm(g, (zero ? 0x80 : 0) | length << 5 | 8 | k, 1);
    progen_imm(g, moves[n].opcode, 1);
    progen_imm(g, (small ? 0x40 : 0x80) | (reg & 7) << 3 | rm, 1);
    if (rm == RSP)
        progen_imm(g, 0x24, 1);
    progen_imm(g, (uint32_t)disp, small ? 1 : 4);
}

void progevex_add(struct progen *g)
{
    static const uint8_t bases[] = {RAX, RBX, RBP, RSI, R8, R11, R12, R13}, edges[] = {4, 5, 6, 7, 8, 9, 10, 11, 12};
    unsigned base = bases[rng_below(ARRAY_SIZE(bases))];
    uint64_t at = SCRATCH_BASE + edges[rng_below(ARRAY_SIZE(edges))] * PAGE_SIZE - 64 + rng_below(128);
    if (chance(40))
        at &= ~63ull;
    for (unsigned n = 1 + (unsigned)rng_below(3); n--;)
        set_mask(g, 1 + (unsigned)rng_below(7), some_mask());
    progen_mov(g, base, at);
    for (unsigned n = 1 + (unsigned)rng_below(6); n--;)
        add_move(g, base, chance(60) ? 64 * ((int)rng_below(5) - 2) : (int)rng_below(400) - 200);
}
