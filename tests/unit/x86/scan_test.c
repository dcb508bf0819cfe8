// SPDX-License-Identifier: GPL-2.0-or-later
/* Which pages of code may run directly: direct_scan() on one instruction among NOPs, with and without AVX-512. */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "softkvm/direct.h"
#include "softkvm/x86/cpu.h"

enum { PLAIN = 3, AVX512 = 2, NEVER = 0 }; /* bit 0: may run without AVX-512, bit 1: with it */

static const struct {
    const char *name;
    uint8_t bytes[12], len, may;
} cases[] = {
    {"nop", {0x90}, 1, PLAIN},
    {"syscall", {0x0f, 0x05}, 2, PLAIN},
    {"cpuid", {0x0f, 0xa2}, 2, NEVER},
    {"xgetbv", {0x0f, 0x01, 0xd0}, 3, NEVER},
    {"vaddps ymm", {0xc5, 0xf4, 0x58, 0xc2}, 4, PLAIN},
    {"vmovd xmm, r9d", {0xc4, 0xc1, 0x79, 0x6e, 0xc1}, 5, PLAIN},
    {"vpermq ymm", {0xc4, 0xe3, 0xfd, 0x00, 0xc1, 0x30}, 6, PLAIN},
    {"vaddps zmm", {0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2}, 6, AVX512},
    {"kmovw k1, eax", {0xc5, 0xf8, 0x92, 0xc8}, 4, AVX512},
    {"kmovq k1, rax", {0xc4, 0xe1, 0xfb, 0x92, 0xc8}, 5, AVX512},
    {"kandw", {0xc5, 0xec, 0x41, 0xcb}, 4, AVX512},
    {"kunpckbw", {0xc5, 0xed, 0x4b, 0xcb}, 4, AVX512},
    {"kortestw", {0xc5, 0xf8, 0x98, 0xca}, 4, AVX512},
    {"kshiftlw", {0xc4, 0xe3, 0xf9, 0x32, 0xca, 1}, 6, AVX512},
    {"fs kmovw from memory", {0x64, 0xc5, 0xf8, 0x90, 0x08}, 5, AVX512},
    {"mov rax, bytes of kmovw and cpuid", {0x48, 0xb8, 0xc5, 0xf8, 0x92, 0xc8, 0x0f, 0xa2, 0, 0}, 10, PLAIN},
    {"mov rax, bytes of vaddps zmm", {0x48, 0xb8, 0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2, 0, 0}, 10, PLAIN},
};

/* One instruction among NOPs, at an offset in the page; it may go on in the next one. */
static bool scan(const uint8_t *bytes, unsigned len, unsigned at, bool avx512)
{
    struct direct_code c;
    memset(&c, 0x90, DIRECT_CODE);
    c.nbefore = DIRECT_BEFORE;
    memcpy((uint8_t *)&c + DIRECT_BEFORE + at, bytes, len);
    return direct_scan(&c, avx512);
}

int main(void)
{
    static const unsigned places[] = {0, 1, 1000, PAGE_SIZE - 12, PAGE_SIZE - 1};
    unsigned failures = 0;
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++)
        for (unsigned p = 0; p < ARRAY_SIZE(places); p++) {
            if (cases[n].bytes[0] == 0x64 && places[p] == PAGE_SIZE - 1)
                continue; /* behind the prefix the next page begins, which is the one that is refused */
            for (unsigned avx512 = 0; avx512 < 2; avx512++) {
                bool may = cases[n].may >> avx512 & 1;
                if (scan(cases[n].bytes, cases[n].len, places[p], avx512) == may)
                    continue;
                printf("%s at %u, %s AVX-512: %s\n", cases[n].name, places[p], avx512 ? "with" : "without",
                       may ? "refused" : "not found");
                failures++;
            }
        }
    printf("scan_test: %s\n", failures ? "FAILED" : "ok");
    return failures != 0;
}
