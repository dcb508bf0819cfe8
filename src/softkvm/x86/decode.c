/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoder: bytes to `struct insn`, by the tables of isa_pattern.h.
 *
 * Prefixes, opcode and ModRM give a slot and a key; the first row of the slot that the key satisfies is the instruction. The row's pattern
 * then says which immediates follow and what the operands are. Nothing is decided by opcode in this file, except the encodings that
 * exist in some modes only (VEX against LES/LDS) and registers that do not exist (CR1, segment register 6).
 *
 * The whole `struct insn` is a function of the bytes and the mode. Intel's rules are followed where vendors differ (SDM vol. 2, ch. 2).
 */
#include "base/util.h"
#include "softkvm/x86/isa_pattern.h"

enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8, REX_R2 = 16 };

struct cursor {
    const uint8_t *bytes;
    unsigned at, end;
};

static enum decode_result out_of_bytes(const struct cursor *c)
{
    return c->end == INSN_MAX_LEN ? DECODE_GP : DECODE_MORE;
}

static inline bool has(const struct cursor *c, unsigned n)
{
    return c->at + n <= c->end;
}

static inline uint64_t load(const uint8_t *p, unsigned size)
{
    uint16_t v16;
    uint32_t v32;
    uint64_t v64;
    switch (size) {
    case 1:
        return *p;
    case 2:
        __builtin_memcpy(&v16, p, 2);
        return v16;
    case 4:
        __builtin_memcpy(&v32, p, 4);
        return v32;
    default:
        __builtin_memcpy(&v64, p, 8);
        return v64;
    }
}

static inline int64_t sign_extend(uint64_t v, unsigned size)
{
    unsigned shift = 64 - 8 * size;
    return (int64_t)(v << shift) >> shift;
}

/* ---- prefixes ---- */

enum prefix_class { NOT_PREFIX, P_REX, P_66, P_67, P_LOCK, P_REP, P_REPNE, P_SEG /* + segment register */ };

static const uint8_t prefix_class[256] = {
    [0x26] = P_SEG + SEG_ES, [0x2e] = P_SEG + SEG_CS, [0x36] = P_SEG + SEG_SS, [0x3e] = P_SEG + SEG_DS, [0x64] = P_SEG + SEG_FS,
    [0x65] = P_SEG + SEG_GS, [0x40 ... 0x4f] = P_REX, [0x66] = P_66, [0x67] = P_67, [0xf0] = P_LOCK, [0xf2] = P_REPNE, [0xf3] = P_REP,
};

/* Reads all prefixes; the cursor is left at the opcode. A REX counts only as the last of them. */
static enum decode_result read_prefixes(struct cursor *c, struct insn *i)
{
    unsigned rex = 0;
    for (;; c->at++) {
        if (!has(c, 1))
            return out_of_bytes(c);
        unsigned byte = c->bytes[c->at], class = prefix_class[byte];
        if (likely(class == NOT_PREFIX))
            break;
        if (class == P_REX) {
            if (i->mode != CODE64)
                break;
            rex = byte;
            continue;
        }
        rex = 0;
        switch (class) {
        case P_66:
            i->prefixes |= PFX_66;
            break;
        case P_67:
            i->prefixes |= PFX_67;
            break;
        case P_LOCK:
            i->prefixes |= PFX_LOCK;
            break;
        case P_REP:
            i->prefixes = (uint16_t)((i->prefixes & ~PFX_REPNE) | PFX_REP);
            break;
        case P_REPNE:
            i->prefixes = (uint16_t)((i->prefixes & ~PFX_REP) | PFX_REPNE);
            break;
        default:
            if (i->mode == CODE64 && class - P_SEG < SEG_FS)
                break;
            i->prefixes |= PFX_SEG;
            i->seg = (uint8_t)(class - P_SEG);
            break;
        }
    }
    if (rex) {
        i->prefixes |= PFX_REX;
        i->rex = rex & 15;
    }
    return DECODE_OK;
}

static inline unsigned mandatory_prefix(const struct insn *i)
{
    return i->prefixes & PFX_REPNE ? 3 : i->prefixes & PFX_REP ? 2 : i->prefixes & PFX_66 ? 1 : 0;
}

/* ---- opcode ---- */

/* C4 or C5 has been seen; the cursor is behind it. Adds L, W, pp and vvvv to *key (SDM vol. 2, 2.3.5). */
static enum decode_result read_vex(struct cursor *c, struct insn *i, bool three, uint32_t *key)
{
    unsigned map = 1, last;
    if (!has(c, three ? 3 : 2))
        return out_of_bytes(c);
    if (i->prefixes & (PFX_LOCK | PFX_66 | PFX_REP | PFX_REPNE | PFX_REX))
        return DECODE_UD;
    unsigned first = c->bytes[c->at++];
    i->rex = first & 0x80 ? 0 : REX_R;
    if (three) {
        map = first & 31;
        i->rex |= (first & 0x40 ? 0 : REX_X) | (first & 0x20 ? 0 : REX_B);
        last = c->bytes[c->at++];
        if (map < 1 || map > 3)
            return DECODE_UD;
    } else {
        last = first;
    }
    i->vvvv = (uint8_t)(~last >> 3 & 15);
    *key = (last & 3) << KEY_PFX_SHIFT | (last & 4 ? KEY_L : 0) | (i->vvvv ? KEY_VVVV : 0);
    if (i->mode != CODE64) { /* only the low eight registers exist; an unused vvvv must be 1111 all the same */
        i->rex = 0;
        i->vvvv &= 7;
    }
    if (three && last & 0x80)
        i->rex |= REX_W;
    i->prefixes |= PFX_VEX;
    i->opmap = (uint8_t)map;
    return DECODE_OK;
}

/* 62 has been seen, in 64-bit code. SDM vol. 2, 2.7.1. What L'L means is find_key_length()'s. */
static enum decode_result read_evex(struct cursor *c, struct insn *i, uint32_t *key)
{
    if (!has(c, 4))
        return out_of_bytes(c);
    unsigned p0 = c->bytes[c->at], p1 = c->bytes[c->at + 1], p2 = c->bytes[c->at + 2];
    if (i->prefixes & (PFX_LOCK | PFX_66 | PFX_REP | PFX_REPNE | PFX_REX))
        return DECODE_UD;
    if ((p0 & 0xc) || !(p0 & 3) || !(p1 & 4))
        return DECODE_UD;
    c->at += 3;
    i->rex = (uint8_t)((~p0 >> 5 & 7) | (p1 & 0x80 ? REX_W : 0) | (p0 & 0x10 ? 0 : REX_R2));
    i->vvvv = (uint8_t)((~p1 >> 3 & 15) | (p2 & 8 ? 0 : 16));
    i->evex = (uint8_t)p2;
    i->opmap = p0 & 3;
    i->prefixes |= PFX_EVEX;
    *key = (p1 & 3) << KEY_PFX_SHIFT | (i->vvvv & 15 ? KEY_VVVV : 0);
    return DECODE_OK;
}

/* Adds the vector length to *key: with EVEX.b between registers, L'L is the rounding mode and the length 512 bits. */
static bool evex_length(const struct insn *i, uint32_t *key)
{
    unsigned length = i->evex & EVEX_B && i->modrm >= 0xc0 ? 2 : i->evex >> 5 & 3;
    *key |= length == 2 ? KEY_L2 : length ? KEY_L : 0;
    return length != 3;
}

/* Broadcast, rounding and masks, as far as the row has them. */
static bool evex_allowed(const struct insn *i, const struct isa_pattern *p, bool memory)
{
    unsigned flags = i->desc->flags, k = i->evex & EVEX_K;
    bool has_vvvv = false, stores = false;
    for (unsigned n = 0; n < p->nops; n++)
        has_vvvv |= p->ops[n].place == 'H';
    stores = memory && (i->desc->opuse & ISA_OP_W) && (p->ops[0].place == 'W' || p->ops[0].place == 'M' || p->ops[0].place == 'T');
    if ((i->evex & EVEX_B) && !(flags & (memory ? EV_BCST : EV_ER | EV_SAE)))
        return false;
    if (k ? !(flags & EV_K) : flags & EV_KREQ)
        return false;
    if ((i->evex & EVEX_Z) && (!(flags & EV_Z) || !k || stores))
        return false;
    return has_vvvv || p->vsib || !(i->vvvv & 16);
}

/* Reads escapes or VEX and the opcode. */
static enum decode_result read_opcode(struct cursor *c, struct insn *i, uint32_t *key)
{
    unsigned byte = c->bytes[c->at++];
    if (byte == 0x0f) {
        if (!has(c, 1))
            return out_of_bytes(c);
        byte = c->bytes[c->at++];
        i->opmap = 1;
        if (byte == 0x38 || byte == 0x3a) {
            if (!has(c, 1))
                return out_of_bytes(c);
            i->opmap = byte == 0x38 ? 2 : 3;
            byte = c->bytes[c->at++];
        }
    } else if (unlikely((byte & 0xfe) == 0xc4)) { /* LES and LDS have memory operands, so mod 3 was free for VEX in 16- and 32-bit code */
        if (!has(c, 1))
            return out_of_bytes(c);
        if (i->mode == CODE64 || c->bytes[c->at] >= 0xc0) {
            enum decode_result r = read_vex(c, i, byte == 0xc4, key);
            if (r != DECODE_OK)
                return r;
            byte = c->bytes[c->at++];
        }
    }
    if (unlikely(byte == 0x62) && i->mode == CODE64 && !i->opmap) {
        enum decode_result r = read_evex(c, i, key);
        if (r != DECODE_OK)
            return r;
        byte = c->bytes[c->at++];
    }
    if (!insn_has(i, PFX_VEX | PFX_EVEX))
        *key = mandatory_prefix(i) << KEY_PFX_SHIFT;
    i->opcode = (uint8_t)byte;
    i->opcode_at = (uint8_t)(c->at - 1);
    return DECODE_OK;
}

/* Finds the row; reads ModRM when the slot has one. */
static enum decode_result find_row(struct cursor *c, struct insn *i, uint32_t *found, unsigned *row)
{
    const struct isa_slot *slot = &isa_slots[(i->opmap + (insn_has(i, PFX_EVEX) ? ISA_MAP_EVEX : insn_has(i, PFX_VEX) ? ISA_MAP_VEX : 0u)) * 256 + i->opcode];
    uint32_t key = *found;
    if (unlikely(!slot->used))
        return DECODE_UD;
    key |= (i->rex & REX_W ? KEY_W : 0) | (i->rex & REX_B ? KEY_B : 0) | (i->mode == CODE64 ? KEY_64 : 0);
    if (slot->modrm) {
        if (!has(c, 1))
            return out_of_bytes(c);
        unsigned modrm = c->bytes[c->at++];
        i->modrm = (uint8_t)modrm;
        key |= (modrm >= 0xc0 ? KEY_MOD3 : 0) | (modrm >> 3 & 7) << KEY_REG_SHIFT | (modrm & 7) << KEY_RM_SHIFT;
    }
    if (insn_has(i, PFX_EVEX) && !evex_length(i, &key))
        return DECODE_UD;
    const struct isa_candidate *cand = &isa_candidates[slot->first];
    while ((key & cand->mask) != cand->match) {
        if (cand->last)
            return DECODE_UD;
        cand++;
    }
    *row = cand->row;
    *found = key;
    return DECODE_OK;
}

/* ---- sizes ---- */

static void set_sizes(struct insn *i, unsigned flags, const struct isa_pattern *p, uint32_t key)
{
    if (i->mode == CODE64) {
        unsigned size = i->rex & REX_W ? 8 : i->prefixes & PFX_66 ? 2 : 4;
        if ((flags & ISA_F64) || ((flags & ISA_D64) && size == 4))
            size = 8;
        i->opsize = (uint8_t)size;
        i->addrsize = i->prefixes & PFX_67 ? 4 : 8;
    } else {
        bool code32 = i->mode == CODE32;
        i->opsize = code32 != !!(i->prefixes & PFX_66) ? 4 : 2;
        i->addrsize = code32 != !!(i->prefixes & PFX_67) ? 4 : 2;
        if (insn_has(i, PFX_VEX))
            i->opsize = 4;
    }
    if (p->vectors)
        i->vl = p->lig ? 16 : key & KEY_L2 ? 64 : key & KEY_L ? 32 : 16;
}

static inline unsigned resolve_size(const struct insn *i, unsigned size)
{
    if (likely(size <= SZ_FIXED_MAX))
        return size;
    switch (size) {
    case SZ_V:
        return i->opsize;
    case SZ_Z:
        return MIN(i->opsize, 4);
    case SZ_Y:
        return i->mode == CODE64 && i->rex & REX_W ? 8 : 4;
    case SZ_N:
        return i->mode == CODE64 ? 8 : 4;
    case SZ_J:
        return i->addrsize;
    case SZ_P:
        return 2u + i->opsize;
    case SZ_A:
        return 2u * i->opsize;
    case SZ_S:
        return i->mode == CODE64 ? 10 : 6;
    case SZ_X:
        return i->vl;
    case SZ_H:
        return i->vl / 2u;
    case SZ_F:
        return i->vl / 4u;
    case SZ_O:
        return i->vl / 8u;
    default: /* SZ_BS */
        return 1;
    }
}

/* ---- memory operands ---- */

static enum decode_result read_disp(struct cursor *c, struct insn *i, unsigned size, unsigned disp8_unit)
{
    if (!has(c, size))
        return out_of_bytes(c);
    i->disp = sign_extend(load(c->bytes + c->at, size), size) * (size == 1 ? disp8_unit : 1);
    i->disp_at = (uint8_t)c->at;
    i->disp_len = (uint8_t)size;
    c->at += size;
    return DECODE_OK;
}

/* The eight 16-bit forms, SDM vol. 2, table 2-1. */
static enum decode_result read_mem16(struct cursor *c, struct insn *i)
{
    static const uint8_t bases[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
    static const uint8_t indexes[8] = {RSI, RDI, RSI, RDI, REG_NONE, REG_NONE, REG_NONE, REG_NONE};
    unsigned mod = i->modrm >> 6, rm = i->modrm & 7;
    if (mod == 0 && rm == 6)
        return read_disp(c, i, 2, 1);
    i->base = bases[rm];
    i->index = indexes[rm];
    if (i->base == RBP && !insn_has(i, PFX_SEG))
        i->seg = SEG_SS;
    return mod ? read_disp(c, i, mod, 1) : DECODE_OK;
}

/* 32- and 64-bit forms, SDM vol. 2, tables 2-2 and 2-3. */
static enum decode_result read_mem(struct cursor *c, struct insn *i, bool vsib, unsigned disp8_unit)
{
    unsigned mod = i->modrm >> 6, base = i->modrm & 7;
    bool no_base = false;
    if (base == 4) {
        if (!has(c, 1))
            return out_of_bytes(c);
        unsigned sib = c->bytes[c->at++], index = (sib >> 3 & 7) | (i->rex & REX_X ? 8u : 0);
        i->scale = (uint8_t)(sib >> 6);
        if (index != 4 || vsib)
            i->index = (uint8_t)(index | (vsib ? i->vvvv & 16 : 0));
        base = sib & 7;
        no_base = mod == 0 && base == 5;
    } else if (vsib) {
        return DECODE_UD;
    } else if (mod == 0 && base == 5) {
        if (i->mode == CODE64)
            i->base = REG_RIP;
        return read_disp(c, i, 4, 1);
    }
    if (no_base)
        return read_disp(c, i, 4, 1);
    i->base = (uint8_t)(base | (i->rex & REX_B ? 8u : 0));
    if ((i->base == RSP || i->base == RBP) && !insn_has(i, PFX_SEG))
        i->seg = SEG_SS;
    return mod == 0 ? DECODE_OK : read_disp(c, i, mod == 1 ? 1 : 4, disp8_unit);
}

/* A displacement of one byte counts elements, halves or whole vectors with EVEX: SDM vol. 2, 2.7.5. */
static unsigned disp8_unit(const struct insn *i, const struct isa_pattern *p)
{
    if (!insn_has(i, PFX_EVEX))
        return 1;
    if (i->evex & EVEX_B || i->desc->flags & EV_PACKED)
        return EV_ELEMENT(i->desc->flags);
    for (unsigned n = 0; n < p->nops; n++)
        if (p->ops[n].place == 'W' || p->ops[n].place == 'M' || p->ops[n].place == 'E' || p->ops[n].place == 'T')
            return resolve_size(i, p->ops[n].mem_size);
    return 1;
}

unsigned insn_disp8_unit(const struct insn *i)
{
    return disp8_unit(i, &isa_patterns[i->desc - isa_rows]);
}

static enum decode_result read_memory_operand(struct cursor *c, struct insn *i, const struct isa_pattern *p)
{
    if (i->addrsize == 2)
        return p->vsib ? DECODE_UD : read_mem16(c, i);
    return read_mem(c, i, p->vsib, disp8_unit(i, p));
}

/* ---- immediates ---- */

static enum decode_result read_immediates(struct cursor *c, struct insn *i, const struct isa_pattern *p)
{
    unsigned size = resolve_size(i, p->imm[0]), size2 = p->imm[1];
    if (!has(c, size + size2))
        return out_of_bytes(c);
    i->imm = load(c->bytes + c->at, size);
    if (p->imm_signed)
        i->imm = (uint64_t)sign_extend(i->imm, size);
    i->imm_at = (uint8_t)c->at;
    i->imm_len = (uint8_t)(size + size2);
    if (size2)
        i->imm2 = (uint16_t)load(c->bytes + c->at + size, size2);
    c->at += size + size2;
    return DECODE_OK;
}

/* ---- operands ---- */

static inline void set_gpr(const struct insn *i, struct operand *o, unsigned n, unsigned size)
{
    bool high = size == 1 && (n & 12) == 4 && !insn_has(i, PFX_REX); /* AH, CH, DH, BH */
    o->kind = OPK_GPR;
    o->size = (uint8_t)size;
    o->reg = (uint8_t)(high ? n - 4 : n);
    o->off = (uint8_t)(high ? (n - 4) * 8 + 1 : n * 8);
}

static inline void set_reg(struct operand *o, enum operand_kind kind, unsigned n, unsigned size)
{
    o->kind = (uint8_t)kind;
    o->reg = (uint8_t)n;
    o->size = (uint8_t)size;
}

/* A register in the place that ModRM.rm names, or memory. */
static inline void set_rm(const struct insn *i, struct operand *o, const struct isa_operand *d, enum operand_kind kind, bool memory)
{
    unsigned rm = i->modrm & 7;
    if (memory) {
        o->kind = OPK_MEM;
        o->reg = REG_NONE;
        o->size = (uint8_t)(i->evex & EVEX_B ? EV_ELEMENT(i->desc->flags) : resolve_size(i, d->mem_size));
        return;
    }
    unsigned size = resolve_size(i, d->size);
    if (kind == OPK_MMX) {
        set_reg(o, kind, rm, 8);
        return;
    }
    if (kind == OPK_K) {
        set_reg(o, kind, rm, size);
        return;
    }
    rm |= i->rex & REX_B ? 8u : 0;
    if (kind == OPK_VEC && insn_has(i, PFX_EVEX))
        rm |= i->rex & REX_X ? 16u : 0;
    if (kind == OPK_GPR)
        set_gpr(i, o, rm, size);
    else
        set_reg(o, kind, rm, MAX(size, 16u));
}

/* Control, debug and segment registers: not every number exists. */
static bool set_system_register(const struct insn *i, struct operand *o, const struct isa_operand *d, bool written, unsigned reg)
{
    switch (d->place) {
    case 'C':
        set_reg(o, OPK_CR, reg, resolve_size(i, d->size));
        return reg == 0 || (reg >= 2 && reg <= 4) || reg == 8;
    case 'D':
        set_reg(o, OPK_DR, reg, resolve_size(i, d->size));
        return reg < 8;
    default:
        reg &= 7; /* REX.R is ignored */
        set_reg(o, OPK_SEG, reg, 2);
        return reg <= SEG_GS && !(written && reg == SEG_CS);
    }
}

/* Operands in vector, MMX and x87 registers; false for other places. */
static bool set_vector_operand(const struct insn *i, struct operand *o, const struct isa_operand *d, bool memory, unsigned reg)
{
    switch (d->place) {
    case 'U':
    case 'W':
        set_rm(i, o, d, OPK_VEC, memory);
        return true;
    case 'V':
        set_reg(o, OPK_VEC, reg | (i->rex & REX_R2), MAX(resolve_size(i, d->size), 16u));
        return true;
    case 'H':
        set_reg(o, OPK_VEC, i->vvvv, MAX(resolve_size(i, d->size), 16u));
        return true;
    case 'L':
        set_reg(o, OPK_VEC, i->imm >> 4 & (i->mode == CODE64 ? 15 : 7), resolve_size(i, d->size));
        return true;
    case 'K':
    case 'm':
        set_rm(i, o, d, OPK_K, memory);
        return true;
    case 'N':
    case 'Q':
        set_rm(i, o, d, OPK_MMX, memory);
        return true;
    case 'P':
        set_reg(o, OPK_MMX, reg & 7, 8);
        return true;
    case 'f':
        set_reg(o, OPK_ST, 0, 10);
        return true;
    case 'i':
        set_reg(o, OPK_ST, i->modrm & 7, 10);
        return true;
    default:
        return false;
    }
}

/* Fills operand n; false when it names a register that does not exist. */
static bool set_operand(struct insn *i, const struct isa_pattern *p, unsigned n, bool memory)
{
    const struct isa_operand *d = &p->ops[n];
    struct operand *o = &i->ops[n];
    unsigned reg = (i->modrm >> 3 & 7) | (i->rex & REX_R ? 8u : 0), size = resolve_size(i, d->size);
    switch (d->place) {
    case 'E':
    case 'M':
    case 'R':
    case 'T':
        set_rm(i, o, d, OPK_GPR, memory);
        return true;
    case 'G':
        set_gpr(i, o, reg, size);
        return !(i->rex & REX_R2);
    case 'I':
        set_reg(o, OPK_IMM, 0, size);
        return true;
    case 'J':
        set_reg(o, OPK_REL, 0, size);
        return true;
    case 'Z':
        set_gpr(i, o, (i->opcode & 7) | (i->rex & REX_B ? 8u : 0), size);
        return true;
    case 'a':
        set_gpr(i, o, d->fixed, size);
        return true;
    case 'B':
        set_gpr(i, o, i->vvvv, size);
        return true;
    case 'O':
        set_reg(o, OPK_MEM, REG_NONE, size);
        return true;
    case 'X':
    case 'Y':
        set_reg(o, OPK_NONE, 0, size);
        return true;
    case 's':
        set_reg(o, OPK_SEG, d->fixed, 2);
        return true;
    case '1':
        i->imm = 1;
        set_reg(o, OPK_IMM, 0, 1);
        return true;
    case 'A':
        set_reg(o, OPK_FAR, 0, resolve_size(i, SZ_P));
        return true;
    case 'F':
        set_reg(o, OPK_K, reg, size);
        return reg < 8 && !(i->rex & REX_R2);
    case 'k':
        set_reg(o, OPK_K, i->vvvv, size);
        return i->vvvv < 8;
    default:
        return set_vector_operand(i, o, d, memory, reg) || set_system_register(i, o, d, i->desc->opuse >> 2 * n & ISA_OP_W, reg);
    }
}

static bool set_operands(struct insn *i, const struct isa_pattern *p, bool memory)
{
    i->nops = p->nops;
    for (unsigned n = 0; n < p->nops; n++)
        if (!set_operand(i, p, n, memory))
            return false;
    /* LOCK wants a lockable instruction with a memory destination. */
    if (unlikely(insn_has(i, PFX_LOCK)) && !((i->desc->flags & ISA_LOCK) && i->ops[0].kind == OPK_MEM))
        return false;
    /* A gather's destination, index and mask are three registers. */
    if (p->vex && p->vsib && (i->ops[0].reg == i->index || i->ops[2].reg == i->index || i->ops[0].reg == i->ops[2].reg))
        return false;
    if (p->evex && ((p->vsib && i->ops[0].kind == OPK_VEC && i->ops[0].reg == i->index) || !evex_allowed(i, p, memory)))
        return false;
    return true;
}

/* ---- the whole ---- */

static void copy_bytes(struct insn *i, const uint8_t *bytes, unsigned avail)
{
    unsigned len = i->len;
    if (likely(avail >= 16)) {
        uint64_t low = load(bytes, 8), high = load(bytes + 8, 8);
        if (len < 8) {
            low &= BIT64(8 * len) - 1;
            high = 0;
        } else {
            high &= BIT64(8 * (len - 8)) - 1;
        }
        __builtin_memcpy(i->bytes, &low, 8);
        __builtin_memcpy(i->bytes + 8, &high, 8);
        return;
    }
    for (unsigned n = 0; n < len; n++)
        i->bytes[n] = bytes[n];
}

/* By words: without vector registers the compiler takes a string instruction for this, whose start is a fifth of the whole decoding. */
static inline void clear(struct insn *i)
{
    typedef volatile uint64_t __attribute__((may_alias)) word;
    _Static_assert(sizeof *i % 8 == 0, "it is a number of words");
#pragma GCC unroll 16
    for (unsigned n = 0; n < sizeof *i / 8; n++)
        ((word *)i)[n] = 0;
}

enum decode_result insn_decode(const uint8_t *bytes, unsigned avail, enum code_mode mode, struct insn *i)
{
    struct cursor c = {bytes, 0, MIN(avail, INSN_MAX_LEN)};
    uint32_t key = 0;
    unsigned row = 0;
    enum decode_result r;

    clear(i);
    i->mode = (uint8_t)mode;
    i->seg = SEG_DS;
    i->base = i->index = REG_NONE;
    if ((r = read_prefixes(&c, i)) != DECODE_OK || (r = read_opcode(&c, i, &key)) != DECODE_OK || (r = find_row(&c, i, &key, &row)) != DECODE_OK)
        return r;

    const struct isa_pattern *p = &isa_patterns[row];
    i->desc = &isa_rows[row];
    i->exec = i->desc->exec;
    i->op = i->desc->op;
    set_sizes(i, i->desc->flags, p, key);
    bool memory = p->modrm && i->modrm < 0xc0 && !p->any_mod;
    if (memory && (r = read_memory_operand(&c, i, p)) != DECODE_OK)
        return r;
    for (unsigned n = 0; n < p->nops; n++)
        if (p->ops[n].place == 'O' && (r = read_disp(&c, i, i->addrsize, 1)) != DECODE_OK)
            return r;
    if (p->imm[0] && (r = read_immediates(&c, i, p)) != DECODE_OK)
        return r;
    i->len = (uint8_t)c.at;
    if (!set_operands(i, p, memory))
        return DECODE_UD;
    copy_bytes(i, bytes, avail);
    return DECODE_OK;
}
