/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoder against Zydis: byte strings of all three modes must be accepted or rejected alike, and then have the same length, mnemonic,
 * registers, memory operand and immediate.
 *
 * The strings are enumerated (prefixes x map x opcode x ModRM, and for VEX also length, W and pp) and random. Where the two are meant to differ,
 * a rule below says so and why.
 *
 *     decode_test [seed [random strings a mode]]
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <Zydis/Zydis.h>

#include "base/util.h"
#include "softkvm/x86/isa_pattern.h"

#define MAX_REPORTS 400

static ZydisDecoder decoders[3];
static ZydisFormatter formatter;
static uint64_t rng_state, decodes, accepted;
static unsigned failures;
static uint8_t *row_hit;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state * 0x2545f4914f6cdd1dull;
}

struct peer {
    bool ok;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
};

/* One example of each (row, Zydis mnemonic, complaint) is reported. */
static bool first_of_its_kind(int row, int mnemonic, const char *what)
{
    static struct {
        int row, mnemonic;
        const char *what;
    } seen[MAX_REPORTS];
    static unsigned count;
    for (unsigned n = 0; n < count; n++)
        if (seen[n].row == row && seen[n].mnemonic == mnemonic && seen[n].what == what)
            return false;
    if (count == MAX_REPORTS)
        return false;
    seen[count].row = row;
    seen[count].mnemonic = mnemonic;
    seen[count++].what = what;
    return true;
}

static void report(const uint8_t *bytes, enum code_mode mode, const struct peer *z, enum decode_result r, const struct insn *i, const char *what)
{
    static const char *const modes[] = {"16", "32", "64"}, *const results[] = {"ok", "more", "#UD", "#GP"};
    char text[128] = "rejected";
    failures++;
    if (!first_of_its_kind(r == DECODE_OK ? (int)(i->desc - isa_rows) : -1, z->ok ? (int)z->insn.mnemonic : -1, what))
        return;
    if (z->ok)
        ZydisFormatterFormatInstruction(&formatter, &z->insn, z->ops, z->insn.operand_count_visible, text, sizeof text, 0, NULL);
    printf("%s-bit", modes[mode]);
    for (unsigned n = 0; n < INSN_MAX_LEN; n++)
        printf(" %02x", bytes[n]);
    printf(": %s\n  zydis: %s", what, text);
    if (z->ok)
        printf(" (%u bytes)", z->insn.length);
    printf("\n  ours:  %s", results[r]);
    if (r == DECODE_OK)
        printf(" %s %s [%s] (%u bytes)", i->desc->name, i->desc->operands, i->desc->encoding, i->len);
    putchar('\n');
}

/* ---- where the two differ on purpose ---- */

/* Instruction sets that softkvm's CPUID never shows: #UD here, an instruction for Zydis. KNC is a coprocessor. */
static const ZydisISAExt not_offered[] = {
    ZYDIS_ISA_EXT_VTX,       ZYDIS_ISA_EXT_VMFUNC,         ZYDIS_ISA_EXT_SVM,       ZYDIS_ISA_EXT_SMX,       ZYDIS_ISA_EXT_SGX,
    ZYDIS_ISA_EXT_SGX_ENCLV, ZYDIS_ISA_EXT_RTM,            ZYDIS_ISA_EXT_TSX_LDTRK, ZYDIS_ISA_EXT_CET,       ZYDIS_ISA_EXT_AMD3DNOW,
    ZYDIS_ISA_EXT_FMA4,      ZYDIS_ISA_EXT_XOP,            ZYDIS_ISA_EXT_SSE4A,
    ZYDIS_ISA_EXT_KEYLOCKER, ZYDIS_ISA_EXT_KEYLOCKER_WIDE, ZYDIS_ISA_EXT_WAITPKG,   ZYDIS_ISA_EXT_PT,        ZYDIS_ISA_EXT_ENQCMD,
    ZYDIS_ISA_EXT_PCONFIG,   ZYDIS_ISA_EXT_HRESET,         ZYDIS_ISA_EXT_TDX,       ZYDIS_ISA_EXT_CLZERO,    ZYDIS_ISA_EXT_MONITORX,
    ZYDIS_ISA_EXT_MCOMMIT,   ZYDIS_ISA_EXT_RDPRU,          ZYDIS_ISA_EXT_SNP,       ZYDIS_ISA_EXT_AMD_INVLPGB, ZYDIS_ISA_EXT_UINTR,
    ZYDIS_ISA_EXT_PADLOCK,   ZYDIS_ISA_EXT_AMX_TILE,       ZYDIS_ISA_EXT_AMX_INT8,  ZYDIS_ISA_EXT_AMX_BF16,  ZYDIS_ISA_EXT_TBM,
    ZYDIS_ISA_EXT_KNC,       ZYDIS_ISA_EXT_KNCE,           ZYDIS_ISA_EXT_KNCV,
};

/* FP16, VP2INTERSECT and the instruction sets of Knights Landing and Knights Mill. */
static bool avx512_not_offered(ZydisISASet set)
{
    const char *name = ZydisISASetGetString(set);
    return strstr(name, "FP16") || strstr(name, "VP2INTERSECT") || strstr(name, "AVX512ER") || strstr(name, "AVX512PF") || strstr(name, "4FMAPS") ||
           strstr(name, "4VNNIW");
}

static bool refused_on_purpose(const struct peer *z, enum code_mode mode)
{
    for (unsigned n = 0; n < ARRAY_SIZE(not_offered); n++)
        if (z->insn.meta.isa_ext == not_offered[n])
            return true;
    /* AVX-512 exists in 64-bit code only, and some of it not at all. */
    if (z->insn.meta.isa_ext == ZYDIS_ISA_EXT_AVX512EVEX || z->insn.meta.isa_ext == ZYDIS_ISA_EXT_AVX512VEX)
        return mode != CODE64 || avx512_not_offered(z->insn.meta.isa_set);
    /* AMD has these in 32-bit code, Intel has not (SDM vol. 2, SYSCALL). */
    return mode != CODE64 && (z->insn.mnemonic == ZYDIS_MNEMONIC_SYSCALL || z->insn.mnemonic == ZYDIS_MNEMONIC_SYSRET);
}

/* ---- comparison of accepted instructions ---- */

/* One mnemonic here stands for several there: their names, or a stem that a condition or an operand size follows. */
static const struct {
    const char *ours, *theirs;
} aliases[] = {
    {"jcc", "j?"},
    {"cmovcc", "cmov?"},
    {"setcc", "set?"},
    {"movs", "movs#"},
    {"cmps", "cmps#"},
    {"stos", "stos#"},
    {"lods", "lods#"},
    {"scas", "scas#"},
    {"ins", "ins#"},
    {"outs", "outs#"},
    {"call_ind", "call"},
    {"callf", "call"},
    {"jmp_ind", "jmp"},
    {"jmpf", "jmp"},
    {"retf", "ret"},
    {"mov_seg", "mov"},
    {"mov_cr", "mov"},
    {"mov_dr", "mov"},
    {"push_seg", "push"},
    {"pop_seg", "pop"},
    {"lfp", "les lds lss lfs lgs"},
    {"cbw", "cbw cwde cdqe"},
    {"cwd", "cwd cdq cqo"},
    {"iret", "iret iretd iretq"},
    {"pushf", "pushf pushfd pushfq"},
    {"popf", "popf popfd popfq"},
    {"pusha", "pusha pushad"},
    {"popa", "popa popad"},
    {"jcxz", "jcxz jecxz jrcxz"},
    {"nop", "nop prefetch prefetchw prefetchwt1 prefetchnta prefetcht0 prefetcht1 prefetcht2"},
    {"fneni", "feni8087_nop"},
    {"fndisi", "fdisi8087_nop"},
    {"fnsetpm", "fsetpm287_nop"},
    {"ldmxcsr", "ldmxcsr vldmxcsr"},
    {"stmxcsr", "stmxcsr vstmxcsr"},
    {"fxsave", "fxsave fxsave64"},
    {"fxrstor", "fxrstor fxrstor64"},
    {"xsave", "xsave xsave64"},
    {"xrstor", "xrstor xrstor64"},
    {"xsaveopt", "xsaveopt xsaveopt64"},
    {"xsavec", "xsavec xsavec64"},
    {"xsaves", "xsaves xsaves64"},
    {"xrstors", "xrstors xrstors64"},
    {"wbnoinvd", "wbinvd wbnoinvd"},
};

/* Is `name` one of the blank-separated patterns in `list`? ?: the condition of the opcode; #: the letter of the element's size. */
static bool name_in_list(const char *name, const char *list, const struct insn *i)
{
    static const char *const conditions[] = {"o", "no", "b", "nb", "z", "nz", "be", "nbe", "s", "ns", "p", "np", "l", "nl", "le", "nle"};
    while (*list) {
        char want[32];
        unsigned n = (unsigned)strcspn(list, " ");
        char last = list[n - 1];
        const char *tail = last == '?' ? conditions[i->opcode & 15] : last == '#' ? (const char *[]){"", "b", "w", "", "d", "", "", "", "q"}[i->ops[0].size] : "";
        snprintf(want, sizeof want, "%.*s%s", (int)n - (last == '?' || last == '#'), list, tail);
        if (!strcmp(want, name))
            return true;
        list += n + (list[n] == ' ');
    }
    return false;
}

static bool same_mnemonic(const struct insn *i, const struct peer *z)
{
    const char *theirs = ZydisMnemonicGetString(z->insn.mnemonic);
    for (unsigned n = 0; n < ARRAY_SIZE(aliases); n++)
        if (!strcmp(aliases[n].ours, i->desc->name))
            return name_in_list(theirs, aliases[n].theirs, i);
    return !strcmp(theirs, i->desc->name);
}

static const char *check_register(const struct insn *i, const struct operand *o, const ZydisDecodedOperand *zo)
{
    ZydisRegister reg = zo->reg.value;
    ZydisRegisterClass class = ZydisRegisterGetClass(reg);
    unsigned id = (unsigned)ZydisRegisterGetId(reg), width = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, reg) / 8u;
    switch (o->kind) {
    case OPK_GPR:
        if (class == ZYDIS_REGCLASS_GPR8) {
            unsigned off = id < 4 ? id * 8 : id < 8 ? (id - 4) * 8 + 1 : (id - 4) * 8;
            return o->size == 1 && o->off == off && o->reg == off / 8 ? NULL : "byte register";
        }
        if (class != ZYDIS_REGCLASS_GPR16 && class != ZYDIS_REGCLASS_GPR32 && class != ZYDIS_REGCLASS_GPR64)
            return "register class";
        if (o->size != width && i->op != OP_lar && i->op != OP_lsl) /* these use 16 bits of the source, whatever its name */
            return "register size";
        return o->reg == id && o->off == id * 8 ? NULL : "register number";
    case OPK_SEG:
        return class == ZYDIS_REGCLASS_SEGMENT && o->reg == id ? NULL : "segment register";
    case OPK_CR:
        return class == ZYDIS_REGCLASS_CONTROL && o->reg == id ? NULL : "control register";
    case OPK_DR:
        return class == ZYDIS_REGCLASS_DEBUG && o->reg == id ? NULL : "debug register";
    case OPK_VEC:
        if (class != (o->size == 64 ? ZYDIS_REGCLASS_ZMM : o->size == 32 ? ZYDIS_REGCLASS_YMM : ZYDIS_REGCLASS_XMM))
            return "vector register size";
        return o->reg == id ? NULL : "vector register number";
    case OPK_K:
        return class == ZYDIS_REGCLASS_MASK && o->reg == id ? NULL : "opmask register";
    case OPK_MMX:
        return class == ZYDIS_REGCLASS_MMX && o->reg == id ? NULL : "MMX register";
    case OPK_ST:
        return class == ZYDIS_REGCLASS_X87 && o->reg == id ? NULL : "x87 register";
    default:
        return "a register in Zydis";
    }
}

static bool same_address_register(unsigned ours, ZydisRegister theirs, unsigned addrsize, bool vsib)
{
    if (ours == REG_NONE || theirs == ZYDIS_REGISTER_NONE)
        return ours == REG_NONE && theirs == ZYDIS_REGISTER_NONE;
    if (ours == REG_RIP && !vsib)
        return theirs == (addrsize == 8 ? ZYDIS_REGISTER_RIP : ZYDIS_REGISTER_EIP);
    ZydisRegisterClass class = ZydisRegisterGetClass(theirs);
    if (vsib)
        return (class == ZYDIS_REGCLASS_XMM || class == ZYDIS_REGCLASS_YMM || class == ZYDIS_REGCLASS_ZMM) && (unsigned)ZydisRegisterGetId(theirs) == ours;
    return class == (addrsize == 8 ? ZYDIS_REGCLASS_GPR64 : addrsize == 4 ? ZYDIS_REGCLASS_GPR32 : ZYDIS_REGCLASS_GPR16) &&
           (unsigned)ZydisRegisterGetId(theirs) == ours;
}

static const char *check_memory(const struct insn *i, const struct operand *o, const ZydisDecodedOperand *zo)
{
    bool vsib = isa_patterns[i->desc - isa_rows].vsib;
    if (o->kind != OPK_MEM)
        return "memory in Zydis";
    if (!o->size)
        return NULL; /* not accessed, or of a size that depends on state */
    bool line = i->op == OP_clflush || i->op == OP_clflushopt || i->op == OP_clwb; /* Zydis: the cache line; here: the byte whose access is checked */
    bool movsxd16 = i->op == OP_movsxd && i->opsize == 2; /* MOVSXD r16, r/m16 in the SDM and on Intel's processors; Zydis has AMD's m32 */
    if (o->size * 8 != zo->size && !line && !movsxd16)
        return "size of the memory operand";
    /* SIB.base 101 with mod 0 is "no base" whatever REX.B says; Zydis 4.0 shows R13D and no displacement in the 32-bit form. */
    if (i->addrsize == 4 && i->base == REG_NONE && zo->mem.base == ZYDIS_REGISTER_R13D && (i->bytes[i->opcode_at + 2] & 7) == 5)
        return NULL;
    if (!same_address_register(i->base, zo->mem.base, i->addrsize, false))
        return "base register";
    if (!same_address_register(i->index, zo->mem.index, i->addrsize, vsib))
        return "index register";
    if (i->index != REG_NONE && zo->mem.scale && 1u << i->scale != zo->mem.scale)
        return "scale";
    uint64_t disp = zo->mem.disp.has_displacement ? (uint64_t)zo->mem.disp.value : 0;
    if (((uint64_t)i->disp ^ disp) & (i->addrsize == 8 ? ~0ull : i->addrsize == 4 ? 0xffffffff : 0xffff))
        return "displacement";
    if ((unsigned)ZydisRegisterGetId(zo->mem.segment) != i->seg)
        return "segment";
    return NULL;
}

static const char *check_immediate(const struct insn *i, const struct operand *o, const ZydisDecodedOperand *zo, bool second)
{
    if (o->kind != OPK_IMM && o->kind != OPK_REL)
        return "an immediate in Zydis";
    uint64_t ours = second ? i->imm2 : i->imm, theirs = zo->imm.value.u;
    if (zo->imm.is_relative != (o->kind == OPK_REL))
        return "branch displacement";
    unsigned size = o->kind == OPK_REL ? 8 : o == i->ops ? i->opsize : i->ops[0].size; /* what lies above is nobody's */
    return (ours ^ theirs) << (64 - 8 * MIN(size, 8u)) ? "immediate" : NULL;
}

/* Our operands that the encoding names, against the ones that Zydis calls explicit. */
static const char *check_operands(const struct insn *i, const struct peer *z)
{
    const struct isa_pattern *p = &isa_patterns[i->desc - isa_rows];
    unsigned zn = 0, immediates = 0;
    if (i->op == OP_nop)
        return NULL; /* the operands of hints are a matter of taste */
    for (unsigned n = 0; n < i->nops; n++) {
        const struct operand *o = &i->ops[n];
        if (strchr("asf1XY", p->ops[n].place))
            continue;
        while (zn < z->insn.operand_count && (z->ops[zn].visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT || z->ops[zn].encoding == ZYDIS_OPERAND_ENCODING_MASK))
            zn++;
        if (zn == z->insn.operand_count)
            return "number of operands";
        const ZydisDecodedOperand *zo = &z->ops[zn++];
        const char *bad = NULL;
        switch (zo->type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            bad = check_register(i, o, zo);
            break;
        case ZYDIS_OPERAND_TYPE_MEMORY:
            bad = check_memory(i, o, zo);
            break;
        case ZYDIS_OPERAND_TYPE_POINTER:
            bad = o->kind == OPK_FAR && i->imm == zo->ptr.offset && i->imm2 == zo->ptr.segment ? NULL : "far pointer";
            break;
        default:
            bad = check_immediate(i, o, zo, immediates++);
            break;
        }
        if (bad)
            return bad;
    }
    return NULL;
}

static const char *check_raw(const struct insn *i, const uint8_t *bytes)
{
    if (memcmp(i->bytes, bytes, i->len) || i->bytes[i->len])
        return "bytes[]";
    if (i->bytes[i->opcode_at] != i->opcode)
        return "opcode_at";
    if (i->disp_len && i->disp_at + i->disp_len + i->imm_len != i->len)
        return "disp_at";
    if (i->imm_len && i->imm_at + i->imm_len != i->len)
        return "imm_at";
    if (i->native || i->exec != i->desc->exec || i->op != i->desc->op)
        return "exec, op or native";
    return NULL;
}

static void check(const uint8_t *bytes, enum code_mode mode)
{
    struct insn i;
    struct peer z;
    ZydisDecoderContext context;
    enum decode_result r = insn_decode(bytes, 16, mode, &i);
    z.ok = ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoders[mode], &context, bytes, INSN_MAX_LEN, &z.insn)) &&
           ZYAN_SUCCESS(ZydisDecoderDecodeOperands(&decoders[mode], &context, &z.insn, z.ops, ZYDIS_MAX_OPERAND_COUNT));
    decodes++;
    if (r == DECODE_MORE) {
        report(bytes, mode, &z, r, &i, "asks for more than 15 bytes");
        return;
    }
    if ((r == DECODE_OK) != z.ok) {
        if (z.ok && refused_on_purpose(&z, mode))
            return;
        report(bytes, mode, &z, r, &i, "acceptance");
        return;
    }
    if (r != DECODE_OK)
        return;
    accepted++;
    row_hit[i.desc - isa_rows] = 1;
    const char *bad = i.len != z.insn.length ? "length" : !same_mnemonic(&i, &z) ? "mnemonic" : i.addrsize * 8 != z.insn.address_width ? "address size" : NULL;
    if (!bad)
        bad = check_raw(&i, bytes);
    if (!bad)
        bad = check_operands(&i, &z);
    if (bad)
        report(bytes, mode, &z, r, &i, bad);
}

/* ---- strings ---- */

static void random_bytes(uint8_t *b, unsigned n)
{
    for (unsigned k = 0; k < n; k++)
        b[k] = (uint8_t)(rng() >> 32);
}

static void enumerate_legacy(enum code_mode mode)
{
    static const struct {
        uint8_t len, bytes[3];
    } prefixes[] = {{0, {0}}, {1, {0x66}}, {1, {0xf3}}, {1, {0xf2}}, {1, {0x48}}, {1, {0x4f}}, {2, {0x66, 0x45}}, {2, {0xf3, 0x48}}, {2, {0x66, 0x48}}, {2, {0x66, 0xf2}}, {1, {0xf0}}, {2, {0x67, 0x64}}};
    static const struct {
        uint8_t len, bytes[2];
    } maps[] = {{0, {0}}, {1, {0x0f}}, {2, {0x0f, 0x38}}, {2, {0x0f, 0x3a}}};
    uint8_t b[16];
    for (unsigned p = 0; p < ARRAY_SIZE(prefixes); p++) {
        for (unsigned m = 0; m < ARRAY_SIZE(maps); m++) {
            for (unsigned op_modrm = 0; op_modrm < 0x10000; op_modrm++) {
                if ((op_modrm & 0xff) % 3 != p % 3 && (op_modrm & 0xc0) != 0xc0)
                    continue; /* a third of the memory forms for each prefix is enough */
                random_bytes(b, 16);
                memcpy(b, prefixes[p].bytes, 3);
                unsigned at = prefixes[p].len;
                memcpy(b + at, maps[m].bytes, maps[m].len);
                at += maps[m].len;
                b[at] = (uint8_t)(op_modrm >> 8);
                b[at + 1] = (uint8_t)op_modrm;
                check(b, mode);
            }
        }
    }
}

static void enumerate_vex(enum code_mode mode)
{
    uint8_t b[16];
    for (unsigned n = 0; n < 3 * 256 * 64 * 16; n++) {
        random_bytes(b, 16);
        unsigned rnd = b[15], last = (n & 7) | (n & 8) << 4;
        last |= rnd & 1 ? 0x78 : (rnd & 0x1e) << 2; /* vvvv: 1111 every other time */
        b[0] = 0xc4;
        b[1] = (uint8_t)(((b[1] | (mode == CODE64 ? 0 : 0xc0)) & 0xe0) | (n / (256 * 64 * 16) + 1));
        b[2] = (uint8_t)last;
        b[3] = (uint8_t)(n >> 10);
        unsigned modrm = n >> 4 & 63;
        b[4] = (uint8_t)((modrm & 7) << 3 | (modrm & 8 ? 0xc0 : (modrm & 0x30) << 2) | (rnd & 0x40 ? 4 : b[4] & 7)); /* a SIB often: gathers need one */
        if (rnd & 0x20) { /* the two-byte form of map 0F */
            b[0] = 0xc5;
            b[1] = (uint8_t)((last & 0x7f) | (mode == CODE64 ? b[5] & 0x80 : 0x80) | (mode == CODE64 ? 0 : 0x40));
            memmove(b + 2, b + 3, 12);
        }
        check(b, mode);
    }
}

/* Every map, opcode, pp, W, ModRM.reg and length, with and without memory and mask, and otherwise as most instructions want it. */
static void enumerate_plain_vex(void)
{
    uint8_t b[16];
    for (unsigned n = 0; n < 3 * 256 * 8 * 8 * 2 * 2; n++) {
        unsigned memory = n % 2, reg = n / 2 % 8, pp = n / 16 % 4, w = n / 64 % 2, length = n / 128 % 2;
        random_bytes(b, 16);
        b[0] = 0xc4;
        b[1] = (uint8_t)((b[1] & 0x60) | 0x80 | (n / (256 * 256) + 1));
        b[2] = (uint8_t)(w << 7 | 0x78 | length << 2 | pp);
        b[3] = (uint8_t)(n / 256);
        b[4] = (uint8_t)((memory ? b[4] & 0x80 : 0xc0) | reg << 3 | 4);
        check(b, CODE64);
    }
}

static void enumerate_plain_evex(void)
{
    uint8_t b[16];
    for (unsigned n = 0; n < 3 * 256 * 8 * 8 * 2 * 2 * 3; n++) {
        unsigned k = n, mask = k % 2, memory = k / 2 % 2, reg = k / 4 % 8, pp = k / 32 % 4, w = k / 128 % 2, length = k / 256 % 3;
        random_bytes(b, 16);
        b[0] = 0x62;
        b[1] = (uint8_t)((b[1] & 0x70) | 0x80 | (k / (768 * 256) + 1));
        b[2] = (uint8_t)(w << 7 | 0x7c | pp);
        b[3] = (uint8_t)(length << 5 | 8 | (mask ? 1 + b[15] % 7 : 0));
        b[4] = (uint8_t)(k / 768);
        b[5] = (uint8_t)((memory ? b[5] & 0x80 : 0xc0) | reg << 3 | 4); /* a SIB: gathers need one */
        check(b, CODE64);
    }
}

static void enumerate_evex(void)
{
    uint8_t b[16];
    for (unsigned n = 0; n < 3 * 256 * 64 * 16; n++) {
        random_bytes(b, 16);
        unsigned rnd = b[15], modrm = n >> 4 & 63;
        b[0] = 0x62;
        b[1] &= rnd & 0x80 ? 0xf0 : 0xff;
        b[1] = (uint8_t)((b[1] & ~3u) | (n / (256 * 64 * 16) + 1));
        if (b[14] & 0x18)
            b[1] &= 0xf3; /* reserved bits */
        b[2] = (uint8_t)((n & 3) | (b[14] & 7 ? 4 : 0) | (n & 4 ? 0x80 : 0) | (rnd & 4 ? 0x78 : b[2] & 0x78)); /* vvvv: 1111 every other time */
        b[3] = (uint8_t)((b[3] & (rnd & 8 ? 0x6f : 0xff)) | (rnd & 16 ? 8 : 0));
        if (b[14] & 0x20)
            b[3] &= 0x78; /* no mask */
        b[4] = (uint8_t)(n >> 10);
        b[5] = (uint8_t)((modrm & 7) << 3 | (modrm & 8 ? 0xc0 : (modrm & 0x30) << 2) | (rnd & 0x40 ? 4 : b[5] & 7));
        check(b, CODE64);
    }
}

static void random_strings(enum code_mode mode, unsigned count)
{
    static const uint8_t likely_prefixes[16] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x3e, 0x64, 0x65, 0x26, 0x40, 0x48, 0x41, 0x44, 0x4f, 0x36};
    uint8_t b[16];
    for (unsigned n = 0; n < count; n++) {
        random_bytes(b, 16);
        unsigned prefixes = rng() & 31;
        for (unsigned k = 0; prefixes & 1 && k < 15; k++, prefixes >>= 1)
            b[k] = likely_prefixes[rng() & 15];
        check(b, mode);
    }
}

/* Cut off at every length, a string asks for more until it is whole; it never reads behind `avail`. */
static void truncated_strings(enum code_mode mode, unsigned count)
{
    uint8_t b[16];
    struct insn whole, part;
    for (unsigned n = 0; n < count; n++) {
        random_bytes(b, 16);
        if (insn_decode(b, 16, mode, &whole) != DECODE_OK)
            continue;
        for (unsigned avail = 1; avail <= 16; avail++) {
            uint8_t *exact = malloc(avail);
            memcpy(exact, b, avail);
            enum decode_result r = insn_decode(exact, avail, mode, &part);
            free(exact);
            bool good = avail < whole.len ? r == DECODE_MORE : r == DECODE_OK && !memcmp(&whole, &part, sizeof whole);
            if (!good && failures++ < MAX_REPORTS)
                printf("mode %d, %s cut to %u of %u bytes: result %d\n", mode, whole.desc->name, avail, whole.len, r);
        }
    }
}

static void check_rows(void)
{
    static uint8_t op_has_row[OP_COUNT];
    for (unsigned n = 0; n < isa_row_count; n++) {
        op_has_row[isa_rows[n].op] = 1;
        if (!row_hit[n] && failures++ < MAX_REPORTS)
            printf("row %s \"%s\" was never decoded\n", isa_rows[n].name, isa_rows[n].encoding);
    }
    for (unsigned op = 0; op < OP_COUNT; op++)
        if (!op_has_row[op] && failures++ < MAX_REPORTS)
            printf("isa_ops.h: %s has no row\n", insn_op_name(op));
}

static void measure_speed(void)
{
    enum { COUNT = 4096, ROUNDS = 64 };
    static uint8_t strings[COUNT][16];
    struct insn i;
    for (unsigned n = 0; n < COUNT; n++)
        do
            random_bytes(strings[n], 16);
        while (insn_decode(strings[n], 16, CODE64, &i) != DECODE_OK);
    uint64_t start = now_ns();
    for (unsigned k = 0; k < ROUNDS * COUNT; k++)
        insn_decode(strings[k % COUNT], 16, CODE64, &i);
    printf("decode: %.1f ns for a random instruction\n", (double)(now_ns() - start) / (ROUNDS * COUNT));
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : now_ns();
    unsigned count = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 400000;
    rng_state = seed | 1;
    row_hit = calloc(isa_row_count, 1);
    ZydisDecoderInit(&decoders[CODE16], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    ZydisDecoderInit(&decoders[CODE32], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisDecoderInit(&decoders[CODE64], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    for (unsigned mode = CODE16; mode <= CODE64; mode++) {
        ZydisDecoderEnableMode(&decoders[mode], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[mode], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[mode], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_TRUE);
        enumerate_legacy((enum code_mode)mode);
        enumerate_vex((enum code_mode)mode);
        if (mode == CODE64) {
            enumerate_plain_vex();
            enumerate_plain_evex();
            enumerate_evex();
        }
        random_strings((enum code_mode)mode, count);
        truncated_strings((enum code_mode)mode, count / 20);
    }
    check_rows();
    measure_speed();
    printf("decode: seed %#" PRIx64 ", %" PRIu64 " strings, %" PRIu64 " instructions\n", seed, decodes, accepted);
    if (failures)
        printf("decode: FAILED, %u differences\n", failures);
    else
        puts("decode: ok");
    free(row_hit);
    return failures != 0;
}
