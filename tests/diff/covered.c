// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which rows the differential test covers. It runs at CPL 3, so privileged instructions are covered by their #GP or #UD. What is left out
 * would show the host's machine instead of the guest's, or would reach the host's kernel or hypervisor.
 */
#include <cpuid.h>

#include "diff.h"
#include "softkvm/x86/isa.h"

const char *not_covered(const struct isa_row *row)
{
    if (!(row->flags & ISA_SENS))
        return NULL;
    switch (row->op) {
    case OP_sgdt:
    case OP_sidt:
    case OP_sldt:
    case OP_smsw:
    case OP_str:
        return "Linux emulates it under UMIP";
    case OP_syscall:
    case OP_sysenter:
        return "enters the host's kernel";
    case OP_vmcall:
    case OP_vmmcall:
        return "enters the host's hypervisor";
    case OP_rdrand:
    case OP_rdseed:
        return "random";
    case OP_rdtsc:
    case OP_rdtscp:
        return "time";
    default:
        return "the vCPU's own value";
    }
}

/* ---- what the host has ---- */

struct feature_bit {
    uint32_t leaf, subleaf;
    uint8_t reg; /* 0 eax, 1 ebx, 2 ecx, 3 edx */
    uint8_t bit;
};

static const struct feature_bit feature_bits[FEAT_COUNT] = {
    [FEAT_X87] = {1, 0, 3, 0},          [FEAT_MMX] = {1, 0, 3, 23},          [FEAT_SSE] = {1, 0, 3, 25},          [FEAT_SSE2] = {1, 0, 3, 26},
    [FEAT_SSE3] = {1, 0, 2, 0},         [FEAT_SSSE3] = {1, 0, 2, 9},         [FEAT_SSE41] = {1, 0, 2, 19},        [FEAT_SSE42] = {1, 0, 2, 20},
    [FEAT_AES] = {1, 0, 2, 25},         [FEAT_PCLMUL] = {1, 0, 2, 1},        [FEAT_SHA] = {7, 0, 1, 29},          [FEAT_AVX] = {1, 0, 2, 28},
    [FEAT_AVX2] = {7, 0, 1, 5},         [FEAT_FMA] = {1, 0, 2, 12},          [FEAT_F16C] = {1, 0, 2, 29},         [FEAT_BMI1] = {7, 0, 1, 3},
    [FEAT_BMI2] = {7, 0, 1, 8},         [FEAT_ADX] = {7, 0, 1, 19},          [FEAT_MOVBE] = {1, 0, 2, 22},        [FEAT_POPCNT] = {1, 0, 2, 23},
    [FEAT_LZCNT] = {0x80000001, 0, 2, 5}, [FEAT_CX16] = {1, 0, 2, 13},       [FEAT_RDRAND] = {1, 0, 2, 30},       [FEAT_RDSEED] = {7, 0, 1, 18},
    [FEAT_XSAVE] = {1, 0, 2, 27},       [FEAT_XSAVEOPT] = {0xd, 1, 0, 0},    [FEAT_XSAVEC] = {0xd, 1, 0, 1},      [FEAT_XSAVES] = {0xd, 1, 0, 3},
    [FEAT_FXSR] = {1, 0, 3, 24},        [FEAT_FSGSBASE] = {7, 0, 1, 0},      [FEAT_RDTSCP] = {0x80000001, 0, 3, 27}, [FEAT_RDPID] = {7, 0, 2, 22},
    [FEAT_INVPCID] = {7, 0, 1, 10},     [FEAT_SMAP] = {7, 0, 1, 20},         [FEAT_PKU] = {7, 0, 2, 4},           [FEAT_CLFLUSH] = {1, 0, 3, 19},
    [FEAT_CLFLUSHOPT] = {7, 0, 1, 23},  [FEAT_CLWB] = {7, 0, 1, 24},         [FEAT_PREFETCHW] = {0x80000001, 0, 2, 8}, [FEAT_GFNI] = {7, 0, 2, 8},
    [FEAT_VAES] = {7, 0, 2, 9},         [FEAT_VPCLMUL] = {7, 0, 2, 10},      [FEAT_AVXVNNI] = {7, 1, 0, 4},       [FEAT_MONITOR] = {1, 0, 2, 3},
    [FEAT_MOVDIRI] = {7, 0, 2, 27},     [FEAT_MOVDIR64B] = {7, 0, 2, 28},    [FEAT_SERIALIZE] = {7, 0, 3, 14},    [FEAT_WBNOINVD] = {0x80000008, 0, 1, 9},
    [FEAT_AVX512F] = {7, 0, 1, 16},     [FEAT_AVX512DQ] = {7, 0, 1, 17},     [FEAT_AVX512BW] = {7, 0, 1, 30},     [FEAT_AVX512CD] = {7, 0, 1, 28},
    [FEAT_AVX512IFMA] = {7, 0, 1, 21},  [FEAT_AVX512VBMI] = {7, 0, 2, 1},    [FEAT_AVX512VBMI2] = {7, 0, 2, 6},   [FEAT_AVX512VNNI] = {7, 0, 2, 11},
    [FEAT_AVX512BITALG] = {7, 0, 2, 12}, [FEAT_AVX512VPOPCNTDQ] = {7, 0, 2, 14}, [FEAT_AVX512BF16] = {7, 1, 0, 5},
};

bool host_has_feature(unsigned feature)
{
    static int8_t known[FEAT_COUNT]; /* CPUID exits on a virtual host: 0 not asked yet, 1 yes, -1 no */
    const struct feature_bit *f = &feature_bits[feature];
    uint32_t r[4];
    if (!known[feature]) {
        bool yes = feature == FEAT_NONE || (__get_cpuid_count(f->leaf, f->subleaf, &r[0], &r[1], &r[2], &r[3]) && (r[f->reg] >> f->bit & 1));
        known[feature] = yes ? 1 : -1;
    }
    return known[feature] > 0;
}
