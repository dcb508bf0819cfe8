// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which code may run on the host's CPU as it is: that without an instruction that neither traps at CPL 3 nor means the same in the guest. Those read the
 * host's descriptor tables and segments (LAR, SGDT...), its CPUID, its XCR0 (XGETBV, and the XSAVE family, whose areas it shapes) or its CPU's number, enter its kernel
 * by another way than SYSCALL (SYSENTER), call its hypervisor, or need state that the guest does not keep (EVEX and opmask instructions without AVX-512: the
 * host has one XCR0 for all of its processes, so it would not trap them). What CPUID hides but the
 * host executes without any of this (XTEST, MOVDIRI...) it executes here, as under KVM.
 *
 * Their bytes are looked for at every offset, and where they occur the code before is decoded, to tell an instruction from the middle of another one:
 * decoding that begins anywhere meets the true boundaries after a few instructions.
 */
#include "softkvm/direct.h"
#include "softkvm/x86/cpu.h"

/* Group 7, register forms: VMCALL, XGETBV, ENCLU, VMMCALL, RDPKRU, WRPKRU, RDPRU. */
static bool group7_register(uint8_t modrm)
{
    switch (modrm) {
    case 0xc1: case 0xd0: case 0xd7: case 0xd9: case 0xee: case 0xef: case 0xfd: return true;
    default: return (modrm >> 3 & 7) == 4; /* SMSW */
    }
}

static bool group7(uint8_t modrm)
{
    unsigned reg = modrm >> 3 & 7;
    return modrm >= 0xc0 ? group7_register(modrm) : reg == 0 || reg == 1 || reg == 4; /* SGDT, SIDT, SMSW */
}

/* `p` holds 0F and the two bytes behind it. */
static bool sensitive_0f(const uint8_t *p)
{
    unsigned reg = p[2] >> 3 & 7;
    bool mem = p[2] < 0xc0;
    switch (p[1]) {
    case 0x00: return reg == 0 || reg == 1 || reg == 4 || reg == 5; /* SLDT, STR, VERR, VERW */
    case 0x01: return group7(p[2]);
    case 0x02: case 0x03: return true; /* LAR, LSL */
    case 0x33: return true;            /* RDPMC */
    case 0x34: return true;            /* SYSENTER */
    case 0xa2: return true;            /* CPUID: making it trap costs each switch 20 us on a virtual host */
    case 0xae: return mem && reg >= 4 && reg <= 6;               /* XSAVE, XRSTOR, XSAVEOPT */
    case 0xc7: return mem ? reg >= 3 && reg <= 5 : reg == 7;     /* XRSTORS, XSAVEC, XSAVES; RDPID and RDSEED */
    default: return false;
    }
}

/* The opmask instructions are the only ones that these opcodes are with VEX: KAND to KUNPCK, KMOV, KORTEST and KTEST; KSHIFT in map 0F3A. */
static bool opmask_opcode(uint8_t opcode, unsigned map)
{
    if (map == 3)
        return (opcode & 0xfc) == 0x30;
    return map == 1 && ((opcode & 0xf0) == 0x40 || (opcode & 0xfc) == 0x90 || (opcode & 0xfe) == 0x98);
}

/* The bytes that decide. */
static bool suspect(const uint8_t *p, bool avx512)
{
    switch (p[0]) {
    case 0x0f: return sensitive_0f(p);
    case 0x62: return !avx512 && !(p[1] & 8) && (p[1] & 7) && (p[2] & 4); /* P0, P1: SDM vol. 2, 2.7.1 */
    case 0xc4: return !avx512 && opmask_opcode(p[3], p[1] & 31);
    case 0xc5: return !avx512 && opmask_opcode(p[2], 1);
    default: return false;
    }
}

/* Prefixes in front of the opcode. */
static unsigned opcode_offset(const uint8_t *p, unsigned n)
{
    unsigned at = 0;
    for (; at < n; at++) {
        uint8_t b = p[at];
        if (b != 0x66 && b != 0x67 && b != 0xf0 && b != 0xf2 && b != 0xf3 && (b & 0xe7) != 0x26 && b != 0x64 && b != 0x65)
            break;
    }
    return at < n && (p[at] & 0xf0) == 0x40 ? at + 1 : at;
}

/* Does decoding from `from` on meet an instruction whose opcode is at `at`? */
static bool meets(const uint8_t *code, const uint8_t *from, const uint8_t *at)
{
    struct insn i;
    while (from < at) {
        unsigned left = (unsigned)(code + DIRECT_CODE - from);
        if (from + opcode_offset(from, left) == at)
            return true;
        from += insn_decode(from, left, CODE64, &i) == DECODE_OK ? i.len : 1;
    }
    return from == at;
}

static bool real(const struct direct_code *c, const uint8_t *at)
{
    const uint8_t *first = c->before + (DIRECT_BEFORE - c->nbefore);
    return meets(c->before, MAX(first, at - DIRECT_BEFORE), at) || meets(c->before, MAX(first, at - DIRECT_BEFORE / 2 - 1), at);
}

bool direct_scan(const struct direct_code *c, bool avx512)
{
    for (const uint8_t *p = c->page; p < c->page + PAGE_SIZE; p++)
        if (unlikely(*p == 0x0f || *p == 0x62 || (*p & 0xfe) == 0xc4) && suspect(p, avx512) && real(c, p))
            return false;
    return true;
}
