/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Turns the rows of isa_rows.h into tables: `isa_rows` for everybody, patterns, candidates and slots for the decoder (isa_pattern.h).
 *
 * The strings of the rows are parsed once, before main(), in about 0.1 ms; from then on the tables do not change. A row that does not parse
 * is a mistake in this program and stops it there.
 */
#include "softkvm/x86/isa.h"

#include "base/util.h"
#include "softkvm/x86/isa_pattern.h"

void native_exec(struct vcpu *v, const struct insn *i);

/* Programs that only want the tables (tests, documentation) build this file without the functions that execute. */
#ifdef ISA_TABLES_ONLY
#define HANDLER(m) NULL
#define NATIVE     NULL
#else
#define HANDLER(m) op_##m
#define NATIVE     native_exec
#endif

#define ROW(m, enc, opnds, feat, fl, fn)                                                                                           \
    {.name = #m, .encoding = enc, .operands = opnds, .op = OP_##m, .flags = (fl), .feature = FEAT_##feat, .exec = (fn)},
#define I(m, enc, opnds, feat, fl) ROW(m, enc, opnds, feat, fl, HANDLER(m))
#define N(m, enc, opnds, feat, fl) ROW(m, enc, opnds, feat, (fl) | ISA_NATIVE, NATIVE)
#define V(m, enc, opnds, feat, fl) ROW(m, enc, opnds, feat, (fl) | ISA_NATIVE | ISA_NOVM, HANDLER(m))
static struct isa_row rows[] = {
#include "softkvm/x86/isa_rows.h"
};
#undef I
#undef N
#undef V

#define CANDIDATE_MAX (ARRAY_SIZE(rows) + 512)

static struct isa_pattern patterns[ARRAY_SIZE(rows)];
static struct isa_candidate candidates[CANDIDATE_MAX];
static struct isa_slot slots[ISA_SLOTS];

const struct isa_row *const isa_rows = rows;
const unsigned isa_row_count = ARRAY_SIZE(rows);
const struct isa_pattern *const isa_patterns = patterns;
const struct isa_candidate *const isa_candidates = candidates;
const struct isa_slot *const isa_slots = slots;

const char *insn_op_name(unsigned op)
{
#define OP_NAME(m) #m,
    static const char *const names[] = {ISA_HANDLED_OPS(OP_NAME) ISA_NATIVE_OPS(OP_NAME)};
#undef OP_NAME
    return op < OP_COUNT ? names[op] : "?";
}

/* ---- words of an encoding or operand list ---- */

struct word {
    const char *p;
    unsigned len;
};

static bool next_word(const char **s, char sep, struct word *w)
{
    while (**s == sep)
        ++*s;
    w->p = *s;
    while (**s && **s != sep)
        ++*s;
    w->len = (unsigned)(*s - w->p);
    return w->len != 0;
}

static bool word_is(const struct word *w, const char *s)
{
    unsigned n = 0;
    while (n < w->len && s[n] == w->p[n])
        n++;
    return n == w->len && !s[n];
}

static bool word_drop_suffix(struct word *w, const char *suffix)
{
    unsigned n = 0;
    while (suffix[n])
        n++;
    if (w->len < n)
        return false;
    struct word tail = {w->p + w->len - n, n};
    if (!word_is(&tail, suffix))
        return false;
    w->len -= n;
    return true;
}

/* Two upper-case hex digits, or -1. */
static int word_hex(const struct word *w)
{
    int v = 0;
    if (w->len != 2)
        return -1;
    for (unsigned n = 0; n < 2; n++) {
        char c = w->p[n];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F')))
            return -1;
        v = v * 16 + (c <= '9' ? c - '0' : c - 'A' + 10);
    }
    return v;
}

/* ---- encodings ---- */

static void constrain(struct isa_pattern *p, uint32_t mask, uint32_t match)
{
    p->mask |= mask;
    p->match |= match;
}

/* Words in front of the opcode map and the opcode; false when this is none of them. */
static bool parse_condition(struct isa_pattern *p, const struct word *w)
{
    static const struct {
        const char *word;
        uint32_t mask, match;
        bool vex, lig, evex;
    } conditions[] = {
        {"NP", KEY_PFX, 0, false, false, false},
        {"66", KEY_PFX, 1 << KEY_PFX_SHIFT, false, false, false},
        {"F3", KEY_PFX, 2 << KEY_PFX_SHIFT, false, false, false},
        {"F2", KEY_PFX, 3 << KEY_PFX_SHIFT, false, false, false},
        {"NFx", KEY_PFX_REP, 0, false, false, false},
        {"W0", KEY_W, 0, false, false, false},
        {"W1", KEY_W, KEY_W, false, false, false},
        {"B0", KEY_B, 0, false, false, false},
        {"VEX", 0, 0, true, false, false},
        {"VEX.128", KEY_L, 0, true, false, false},
        {"VEX.256", KEY_L, KEY_L, true, false, false},
        {"VEX.LZ", KEY_L, 0, true, false, false},
        {"VEX.LIG", 0, 0, true, true, false},
        {"EVEX", 0, 0, false, false, true},
        {"EVEX.128", KEY_L | KEY_L2, 0, false, false, true},
        {"EVEX.256", KEY_L | KEY_L2, KEY_L, false, false, true},
        {"EVEX.512", KEY_L | KEY_L2, KEY_L2, false, false, true},
        {"EVEX.LIG", 0, 0, false, true, true},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(conditions); n++) {
        if (!word_is(w, conditions[n].word))
            continue;
        constrain(p, conditions[n].mask, conditions[n].match);
        p->vex |= conditions[n].vex;
        p->lig |= conditions[n].lig;
        p->evex |= conditions[n].evex;
        return true;
    }
    return false;
}

static bool parse_modrm(struct isa_pattern *p, struct word w)
{
    p->modrm = true;
    if (w.p[0] == '/') {
        p->any_mod = word_drop_suffix(&w, "!");
        if (w.len == 2 && w.p[1] >= '0' && w.p[1] <= '7')
            constrain(p, KEY_REG, (uint32_t)(w.p[1] - '0') << KEY_REG_SHIFT);
        else if (!word_is(&w, "/r"))
            return false;
        return true;
    }
    bool free_rm = word_drop_suffix(&w, "+i");
    int byte = word_hex(&w);
    if (byte < 0xc0)
        return false;
    constrain(p, KEY_MOD3 | KEY_REG, KEY_MOD3 | (uint32_t)(byte >> 3 & 7) << KEY_REG_SHIFT);
    if (!free_rm)
        constrain(p, KEY_RM, (uint32_t)(byte & 7) << KEY_RM_SHIFT);
    return true;
}

static bool parse_encoding(struct isa_row *r, struct isa_pattern *p)
{
    const char *s = r->encoding;
    struct word w;
    bool opcode_seen = false;
    p->span = 1;
    while (next_word(&s, ' ', &w)) {
        if (!opcode_seen && r->opmap == 0 && parse_condition(p, &w)) /* behind 0F, F2 is an opcode */
            continue;
        if (opcode_seen) {
            if (!parse_modrm(p, w))
                return false;
            continue;
        }
        if (r->opmap == 0 && word_is(&w, "0F")) {
            r->opmap = 1;
            continue;
        }
        if (r->opmap == 1 && (word_is(&w, "38") || word_is(&w, "3A"))) {
            r->opmap = w.p[1] == '8' ? 2 : 3;
            continue;
        }
        if (word_drop_suffix(&w, "+r"))
            p->span = 8;
        else if (word_drop_suffix(&w, "+cc"))
            p->span = 16;
        int opcode = word_hex(&w);
        if (opcode < 0)
            return false;
        r->opcode = (uint8_t)opcode;
        opcode_seen = true;
    }
    return opcode_seen;
}

/* ---- operands ---- */

static int parse_size(const struct word *w)
{
    static const struct {
        const char *word;
        uint8_t size;
    } sizes[] = {
        {"b", 1},     {"w", 2},     {"d", 4},     {"q", 8},     {"t", 10},    {"dq", 16},   {"qq", 32},   {"0", 0},   {"v", SZ_V}, {"z", SZ_Z},
        {"y", SZ_Y},  {"n", SZ_N},  {"j", SZ_J},  {"p", SZ_P},  {"a", SZ_A},  {"s", SZ_S},  {"x", SZ_X},  {"h", SZ_H},  {"f", SZ_F},  {"o", SZ_O}, {"oq", 64},
        {"bs", SZ_BS},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(sizes); n++)
        if (word_is(w, sizes[n].word))
            return sizes[n].size;
    return -1;
}

static bool parse_fixed_register(const struct word *w, struct isa_operand *o)
{
    static const struct {
        const char *word;
        struct isa_operand operand;
    } registers[] = {
        {"AL", {'a', 1, 1, RAX}},       {"CL", {'a', 1, 1, RCX}},       {"AX", {'a', 2, 2, RAX}},     {"DX", {'a', 2, 2, RDX}},
        {"rAX", {'a', SZ_V, SZ_V, RAX}}, {"eAX", {'a', SZ_Z, SZ_Z, RAX}}, {"ES", {'s', 2, 2, SEG_ES}},  {"CS", {'s', 2, 2, SEG_CS}},
        {"SS", {'s', 2, 2, SEG_SS}},    {"DS", {'s', 2, 2, SEG_DS}},    {"FS", {'s', 2, 2, SEG_FS}},  {"GS", {'s', 2, 2, SEG_GS}},
        {"ST0", {'f', 10, 10, 0}},      {"STi", {'i', 10, 10, 0}},      {"1", {'1', 1, 1, 0}},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(registers); n++) {
        if (word_is(w, registers[n].word)) {
            *o = registers[n].operand;
            return true;
        }
    }
    return false;
}

static bool parse_operand(struct word w, struct isa_operand *o)
{
    if (parse_fixed_register(&w, o))
        return true;
    o->place = w.p[0];
    struct word reg = {w.p + 1, 0}, mem = {NULL, 0};
    while (reg.len < w.len - 1 && reg.p[reg.len] != '/')
        reg.len++;
    mem = reg;
    if (reg.len + 1 < w.len)
        mem = (struct word){reg.p + reg.len + 1, w.len - reg.len - 2};
    int size = parse_size(&reg), mem_size = parse_size(&mem);
    if (size < 0 || mem_size < 0)
        return false;
    o->size = (uint8_t)size;
    o->mem_size = (uint8_t)mem_size;
    return true;
}

/* What an operand's place says about ModRM, vvvv and the bytes behind. */
static bool apply_place(struct isa_pattern *p, const struct isa_operand *o)
{
    switch (o->place) {
    case 'M':
        constrain(p, KEY_MOD3, 0);
        break;
    case 'T':
        constrain(p, KEY_MOD3, 0);
        p->vsib = true;
        break;
    case 'N':
    case 'R':
    case 'U':
    case 'm':
        if (!p->any_mod)
            constrain(p, KEY_MOD3, KEY_MOD3);
        break;
    case 'I':
    case 'J':
        p->imm_signed |= o->place == 'J' || o->size == SZ_BS || o->size == SZ_Z;
        p->imm[p->imm[0] ? 1 : 0] = o->size == SZ_BS ? 1 : o->size;
        break;
    case 'L':
        p->imm[0] = 1;
        p->is4 = true;
        break;
    case 'A':
        p->imm[0] = SZ_V;
        p->imm[1] = 2;
        break;
    default:
        break;
    }
    p->vectors |= o->place == 'V' || o->place == 'W' || o->place == 'U' || o->place == 'H';
    switch (o->place) {
    case 'B': case 'C': case 'D': case 'E': case 'G': case 'H': case 'L': case 'M': case 'N': case 'P': case 'Q': case 'R': case 'S': case 'T': case 'U':
    case 'V': case 'W': case 'i': case 'F': case 'K': case 'k': case 'm':
        return p->modrm;
    case 'A': case 'I': case 'J': case 'O': case 'X': case 'Y': case 'Z': case 'a': case 'f': case 's': case '1':
        return true;
    default:
        return false;
    }
}

static bool parse_operands(struct isa_row *r, struct isa_pattern *p)
{
    const char *s = r->operands;
    struct word w;
    bool vvvv = false;
    while (next_word(&s, ',', &w)) {
        unsigned n = p->nops++, use = ISA_OP_R;
        if (n == ARRAY_SIZE(p->ops))
            return false;
        if (word_drop_suffix(&w, "+rw"))
            use = ISA_OP_R | ISA_OP_W;
        else if (word_drop_suffix(&w, "+w"))
            use = ISA_OP_W;
        else
            word_drop_suffix(&w, "+r");
        r->opuse |= (uint8_t)(use << 2 * n);
        if (!parse_operand(w, &p->ops[n]) || !apply_place(p, &p->ops[n]))
            return false;
        vvvv |= p->ops[n].place == 'B' || p->ops[n].place == 'H' || p->ops[n].place == 'k';
    }
    if ((p->vex || p->evex) && !vvvv)
        constrain(p, KEY_VVVV, 0);
    return vvvv ? p->vex || p->evex : true;
}

static bool parse_row(struct isa_row *r, struct isa_pattern *p)
{
    if (!parse_encoding(r, p) || !parse_operands(r, p))
        return false;
    if (p->vex || p->evex) {
        r->flags |= ISA_PROT; /* SDM vol. 2, 2.3.1: no VEX in real and virtual-8086 mode */
        p->vectors |= (r->flags & ISA_NATIVE) != 0;
    }
    if (p->evex)
        r->flags |= ISA_ONLY64; /* docs/softkvm.md */
    if (r->flags & ISA_NO64)
        constrain(p, KEY_64, 0);
    if (r->flags & ISA_ONLY64)
        constrain(p, KEY_64, KEY_64);
    return true;
}

/* ---- slots ---- */

/* The first of the slots that a row belongs to. */
static struct isa_slot *row_slots(unsigned row)
{
    return &slots[(rows[row].opmap + (patterns[row].evex ? ISA_MAP_EVEX : patterns[row].vex ? ISA_MAP_VEX : 0)) * 256 + rows[row].opcode];
}

/* A counting sort: how many candidates has each slot, where does each begin, then the rows in their order. */
__attribute__((constructor)) static void isa_build(void)
{
    static uint16_t fill[ISA_SLOTS];
    unsigned total = 0;
    for (unsigned r = 0; r < ARRAY_SIZE(rows); r++) {
        if (!parse_row(&rows[r], &patterns[r]))
            __builtin_trap();
        struct isa_slot *slot = row_slots(r);
        for (unsigned n = 0; n < patterns[r].span; n++) {
            if (slot[n].used && slot[n].modrm != patterns[r].modrm)
                __builtin_trap();
            slot[n].used = true;
            slot[n].modrm = patterns[r].modrm;
            fill[slot + n - slots]++;
        }
    }
    for (unsigned n = 0; n < ARRAY_SIZE(fill); n++) {
        if (!fill[n])
            continue;
        slots[n].first = (uint16_t)total;
        total += fill[n];
        if (total > CANDIDATE_MAX)
            __builtin_trap();
        candidates[total - 1].last = true;
        fill[n] = slots[n].first;
    }
    for (unsigned r = 0; r < ARRAY_SIZE(rows); r++) {
        for (unsigned n = 0; n < patterns[r].span; n++) {
            struct isa_candidate *c = &candidates[fill[row_slots(r) + n - slots]++];
            c->mask = patterns[r].mask;
            c->match = patterns[r].match;
            c->row = (uint16_t)r;
        }
    }
}
