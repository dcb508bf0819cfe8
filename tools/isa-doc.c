// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writes docs/isa.md from the rows of the instruction set.
 *
 *     isa-doc              prints the document
 *     isa-doc FILE         compares it with FILE; status 1 and one line of advice when they differ
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "softkvm/x86/isa.h"
#include "diff.h"

/* How many rows each file of rows has: they stand one behind the other in isa_rows[]. */
#define I(...) +1
#define N(...) +1
#define V(...) +1
static const struct {
    const char *title;
    unsigned count;
} groups[] = {
    {"General-purpose instructions", 0
#include "softkvm/x86/isa_rows_int.h"
    },
    {"System instructions", 0
#include "softkvm/x86/isa_rows_sys.h"
    },
    {"x87", 0
#include "softkvm/x86/isa_rows_x87.h"
    },
    {"MMX, SSE to SSE4.2, AES, SHA, GFNI, and their VEX forms", 0
#include "softkvm/x86/isa_rows_sse.h"
    },
    {"VEX only: AVX, AVX2, FMA, F16C, AVX-VNNI", 0
#include "softkvm/x86/isa_rows_vex.h"
    },
    {"AVX-512, where the guest was given it", 0
#include "softkvm/x86/isa_rows_evex.h"
    },
};
#undef I
#undef N
#undef V

static const char *const features[FEAT_COUNT] = {
    "",        "x87",     "MMX",      "SSE",      "SSE2",    "SSE3",      "SSSE3",    "SSE4.1",  "SSE4.2",  "AES",      "PCLMULQDQ", "SHA",     "AVX",
    "AVX2",    "FMA",     "F16C",     "BMI1",     "BMI2",    "ADX",       "MOVBE",    "POPCNT",  "LZCNT",   "CX16",     "RDRAND",    "RDSEED",  "XSAVE",
    "XSAVEOPT", "XSAVEC", "XSAVES",   "FXSR",     "FSGSBASE", "RDTSCP",   "RDPID",    "INVPCID", "SMAP",    "PKU",      "CLFLUSH",   "CLFLUSHOPT", "CLWB",
    "PREFETCHW", "GFNI",  "VAES",     "VPCLMULQDQ", "AVX-VNNI", "MONITOR", "MOVDIRI", "MOVDIR64B", "SERIALIZE", "WBNOINVD",
    "AVX512F", "AVX512DQ", "AVX512BW", "AVX512CD", "AVX512IFMA", "AVX512VBMI", "AVX512VBMI2", "AVX512VNNI", "AVX512BITALG", "AVX512VPOPCNTDQ", "AVX512BF16",
};

static const char *executed_by(const struct isa_row *r)
{
    return !(r->flags & ISA_NATIVE) ? "interpreter" : r->flags & ISA_NOVM ? "interpreter, vector state" : "host's own unit";
}

static const char *modes(const struct isa_row *r)
{
    return r->flags & ISA_NO64 ? "16, 32" : r->flags & ISA_ONLY64 ? "64" : "all";
}

static const char *coverage(const struct isa_row *r)
{
    const char *why = not_covered(r);
    return why ? why : r->flags & ISA_PRIV ? "its fault at CPL 3" : "yes";
}

static void write_group(FILE *f, const char *title, const struct isa_row *rows, unsigned count)
{
    fprintf(f, "\n## %s\n\n| Instruction | Encoding | Operands | Modes | CPUID | Executed by | Differential test |\n|---|---|---|---|---|---|---|\n", title);
    for (unsigned n = 0; n < count; n++) {
        const struct isa_row *r = &rows[n];
        fprintf(f, "| %s | %s | %s | %s | %s | %s | %s |\n", r->name, r->encoding, r->operands, modes(r), features[r->feature], executed_by(r), coverage(r));
    }
}

static void write_document(FILE *f)
{
    unsigned row = 0, covered = 0, privileged = 0;
    for (unsigned n = 0; n < isa_row_count; n++) {
        covered += !not_covered(&isa_rows[n]) && !(isa_rows[n].flags & ISA_PRIV);
        privileged += (isa_rows[n].flags & ISA_PRIV) != 0;
    }
    fprintf(f,
            "# The instruction set\n\n"
            "Made from `src/softkvm/x86/isa_rows*.h` by `tools/isa-doc`; edit those, not this file. The notation is explained in `isa_rows.h`.\n\n"
            "%u rows, %u mnemonics. What has no row is #UD. The differential test (`tests/diff`, `make fuzz-cpu`) executes %u rows on the host's CPU and\n"
            "on softkvm and compares all state; of %u privileged ones it compares the fault at CPL 3, and what they do is tested by the guests of\n"
            "`tests/guest`. The remaining %u give a reason in the last column; they too are tested by guests.\n",
            isa_row_count, (unsigned)OP_COUNT, covered, privileged, isa_row_count - covered - privileged);
    for (unsigned n = 0; n < ARRAY_SIZE(groups); n++) {
        write_group(f, groups[n].title, isa_rows + row, groups[n].count);
        row += groups[n].count;
    }
}

static int compare_with(const char *path)
{
    AUTO_FREE char *want = NULL;
    AUTO_FREE char *have = NULL;
    size_t want_len = 0, have_len = 0;
    FILE *f = open_memstream(&want, &want_len), *in = fopen(path, "r");
    write_document(f);
    fclose(f);
    have = calloc(1, want_len + 2);
    if (in) {
        have_len = fread(have, 1, want_len + 1, in);
        fclose(in);
    }
    bool same = have_len == want_len && !memcmp(have, want, want_len);
    printf(same ? "isa-doc: ok\n" : "isa-doc: %s is not what the rows say; run `isa-doc > docs/isa.md`\n", path);
    return !same;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return compare_with(argv[1]);
    write_document(stdout);
    return 0;
}
