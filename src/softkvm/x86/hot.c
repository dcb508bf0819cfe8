// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What happens to an instruction between decoding and its first execution: its function is exchanged for one that knows more.
 */
#include "softkvm/x86/op.h"

/* ---- instructions that use a host instruction which the host may lack ---- */
struct host_bit {
    uint8_t feature; /* enum isa_feature */
    uint8_t reg;     /* 0..3: EAX EBX ECX EDX */
    uint8_t bit;
    uint32_t leaf;
};

/* TZCNT and LZCNT are missing on purpose: where they are, they run as BSF and BSR, on old hosts as in their guests. */
static const struct host_bit host_bits[] = {
    {FEAT_POPCNT, 2, 23, 1}, {FEAT_SSE42, 2, 20, 1}, {FEAT_RDRAND, 2, 30, 1},
    {FEAT_BMI1, 1, 3, 7},    {FEAT_BMI2, 1, 8, 7},   {FEAT_RDSEED, 1, 18, 7},
};

static uint64_t host_lacks; /* bit per enum isa_feature; set before main(), constant from then on */
_Static_assert(FEAT_COUNT <= 64, "one bit per feature");

static __attribute__((constructor)) void find_host_features(void)
{
    for (unsigned n = 0; n < ARRAY_SIZE(host_bits); n++) {
        const struct host_bit *h = &host_bits[n];
        uint32_t max = 0, r[4] = {0, 0, 0, 0}, unused[3];
        __asm__ volatile("cpuid" : "+a"(max), "=b"(unused[0]), "=c"(unused[1]), "=d"(unused[2]));
        if (max >= h->leaf)
            __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "0"(h->leaf), "2"(0));
        if (!(r[h->reg] >> h->bit & 1))
            host_lacks |= BIT64(h->feature);
    }
}

static void exec_ud(struct vcpu *v, const struct insn *i)
{
    (void)i;
    cpu_ud(v);
}

/* ---- instructions that do not exist in real and virtual-8086 mode, found in 16-bit code ---- */
static void exec_protected(struct vcpu *v, const struct insn *i)
{
    if (!cpu_protected(v))
        cpu_ud(v);
    i->desc->exec(v, i);
}

void insn_specialise(struct insn *i)
{
    const struct isa_row *row = i->desc;
    if (!(row->flags & ISA_NATIVE) && host_lacks & BIT64(row->feature) && i->op != OP_tzcnt)
        i->exec = exec_ud;
    else if (row->flags & ISA_PROT && i->mode == CODE16)
        i->exec = exec_protected;
}
