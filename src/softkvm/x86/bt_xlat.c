// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From guest instructions to host instructions. An instruction without memory operand is copied as it is, since the guest's registers are in the host's.
 * A memory operand becomes [linear address + s], s being the distance from there to the host's memory, taken from a table with an entry for each
 * linear page (bt_mem.c). Entry 0 (nothing there, or no permission) and a page crossing leave for the interpreter. A non-canonical address drops its
 * upper bits in the index; the sum is then non-canonical too, since the host's memory lies in the lower half, and the access faults (#GP or #SS), so
 * no host memory is ever reached through it.
 *
 * s is a displaced register (bt.h): its value went to its home once, and comes back where it is used next. The checks clobber the arithmetic flags; where
 * an instruction behind them may read these, they are in RAX meanwhile.
 */
#include "softkvm/x86/bt_xlat.h"
#include "softkvm/x86/bt_check.h"
#include "softkvm/x86/interp.h"
#include "softkvm/x86/isa.h"
#include "softkvm/x86/isa_ops.h"
#include "softkvm/x86/native.h"

static const uint16_t traits[OP_COUNT] = {
#define P(m, t) [OP_##m] = T_PLAIN | (t)
    P(add, T_KILLS), P(or, T_KILLS), P(adc, T_KILLS), P(sbb, T_KILLS), P(and, T_KILLS), P(sub, T_KILLS), P(xor, T_KILLS), P(cmp, T_KILLS), P(inc, 0), P(dec, 0),
    P(not, 0), P(neg, T_KILLS), P(test, T_KILLS), P(xchg, 0), P(mov, 0), P(movsxd, 0), P(movzx, 0), P(movsx, 0), P(movbe, 0), P(bswap, 0), P(cmovcc, 0), P(setcc, 0),
    P(cbw, T_RAX_R | T_RAX_W), P(cwd, T_RAX_R | T_RDX_R | T_RDX_W), P(lahf, T_RAX_R | T_RAX_W), P(sahf, T_RAX_R), P(movnti, 0), P(rol, 0), P(ror, 0), P(rcl, 0),
    P(rcr, 0), P(shl, 0), P(shr, 0), P(sar, 0), P(shld, 0), P(shrd, 0), P(bt, 0), P(bts, 0), P(btr, 0), P(btc, 0), P(popcnt, T_KILLS), P(tzcnt, 0), P(lzcnt, 0), P(bsf, 0),
    P(bsr, 0), P(crc32, 0), P(adcx, 0), P(adox, 0), P(andn, 0), P(blsr, 0), P(blsmsk, 0), P(blsi, 0), P(bextr, 0), P(bzhi, 0), P(pext, 0), P(pdep, 0), P(mulx, T_RDX_R),
    P(shlx, 0), P(sarx, 0), P(shrx, 0), P(rorx, 0), P(cmpxchg, T_KILLS | T_RAX_R | T_RAX_W), P(xadd, T_KILLS), P(cmc, 0), P(clc, 0), P(stc, 0),
    P(lfence, 0), P(mfence, 0), P(sfence, 0), P(imul, T_KILLS), P(mul, T_KILLS | T_RAX_R | T_RAX_W | T_RDX_R | T_RDX_W),
    P(div, T_RAX_R | T_RAX_W | T_RDX_R | T_RDX_W | T_TRAPS), P(idiv, T_RAX_R | T_RAX_W | T_RDX_R | T_RDX_W | T_TRAPS),
    [OP_loop] = T_RCX_R | T_RCX_W,
    P(cmpxchg8b, T_RAX_R | T_RAX_W | T_RDX_R | T_RDX_W | T_RCX_R | T_RBX_R), P(cmpxchg16b, T_RAX_R | T_RAX_W | T_RDX_R | T_RDX_W | T_RCX_R | T_RBX_R),
#undef P
};

/* ---- what an instruction is ---- */

const struct operand *xlat_mem_operand(const struct insn *i, unsigned *n)
{
    for (*n = 0; *n < i->nops; ++*n)
        if (i->ops[*n].kind == OPK_MEM)
            return &i->ops[*n];
    return NULL;
}

static unsigned implicit_reads(unsigned t)
{
    return (t & T_RAX_R ? BIT_OF(RAX) : 0) | (t & T_RDX_R ? BIT_OF(RDX) : 0) | (t & T_RCX_R ? BIT_OF(RCX) : 0) | (t & T_RBX_R ? BIT_OF(RBX) : 0);
}
static unsigned implicit_writes(unsigned t)
{
    return (t & T_RAX_W ? BIT_OF(RAX) : 0) | (t & T_RDX_W ? BIT_OF(RDX) : 0) | (t & T_RCX_W ? BIT_OF(RCX) : 0);
}

/* The registers whose values the instruction needs (all but those of the address), and those that it changes. */
void xlat_reg_use(const struct insn *i, unsigned t, unsigned *reads, unsigned *writes)
{
    *reads = implicit_reads(t);
    *writes = implicit_writes(t);
    for (unsigned n = 0; n < i->nops; n++) {
        const struct operand *o = &i->ops[n];
        if (o->kind != OPK_GPR)
            continue;
        unsigned use = i->desc->opuse >> (2 * n) & 3;
        if (use & ISA_OP_W)
            *writes |= BIT_OF(o->reg);
        if ((use & ISA_OP_R) || o->size < 4)
            *reads |= BIT_OF(o->reg);
    }
}

static unsigned native_traits(const struct insn *i)
{
    unsigned t = T_PLAIN | T_TRAPS;
    if ((i->desc->flags & ISA_WFLAGS) && !xlat_is_x87(i)) /* FCOMI and its kin leave some alone on some processors */
        t |= T_KILLS;
    switch (i->op) {
    case OP_pcmpestri: case OP_vpcmpestri: return t | T_RAX_R | T_RDX_R | T_RCX_R | T_RCX_W;
    case OP_pcmpestrm: case OP_vpcmpestrm: return t | T_RAX_R | T_RDX_R;
    case OP_pcmpistri: case OP_vpcmpistri: return t | T_RCX_R | T_RCX_W;
    default: return t;
    }
}

unsigned xlat_traits(const struct insn *i)
{
    if (i->op == OP_imul && i->nops == 1)
        return traits[OP_mul];
    return i->desc->flags & ISA_NATIVE ? native_traits(i) : traits[i->op];
}

/* The state that a vector or MMX instruction needs to be enabled: native.c's class_of(). */
static uint32_t state_key(const struct insn *i)
{
    bool vec = false;
    for (unsigned n = 0; n < i->nops; n++) {
        if (i->ops[n].kind == OPK_K)
            return BT_KEY_AVX512;
        vec |= i->ops[n].kind == OPK_VEC;
    }
    if (insn_has(i, PFX_VEX | PFX_EVEX))
        return insn_has(i, PFX_VEX) ? BT_KEY_AVX : BT_KEY_AVX512;
    return vec ? BT_KEY_SSE : BT_KEY_X87;
}

static bool native_here(const struct insn *i, uint32_t key)
{
    if (FPU_EACH || i->exec != native_exec || (i->desc->flags & ISA_NOVM))
        return false;
    return xlat_is_x87(i) ? xlat_x87_here(i, key) : (key & state_key(i)) != 0;
}

static bool plain_size(unsigned size)
{
    return size == 10 || (size && size <= 64 && !(size & (size - 1)));
}

enum how xlat_plain_or_interp(const struct insn *i, uint32_t key)
{
    unsigned n;
    if (i->desc->flags & ISA_NATIVE) {
        if (!native_here(i, key))
            return HOW_INTERP;
    } else if (!(traits[i->op] & T_PLAIN)) {
        return HOW_INTERP;
    }
    const struct operand *m = xlat_mem_operand(i, &n);
    if (!m)
        return HOW_PLAIN;
    bool moffs = i->opmap == 0 && (i->opcode & 0xfc) == 0xa0 && i->op == OP_mov;
    if (!plain_size(m->size) || (!(key & BT_KEY_LEGACY) && (i->addrsize != 8 || moffs)))
        return HOW_INTERP;
    if (i->op == OP_fldcw)
        return HOW_FLDCW;
    bool bit_string = i->op == OP_bt || i->op == OP_bts || i->op == OP_btr || i->op == OP_btc;
    return bit_string && i->ops[1].kind == OPK_GPR ? HOW_INTERP : HOW_PLAIN;
}

/* Counted from the page's start the displacement would not have 32 bits any more. */
static bool too_far(const struct insn *i)
{
    return i->base == REG_RIP && (int32_t)i->disp > INT32_MAX - 2 * (int32_t)PAGE_SIZE;
}

static enum how classify(const struct insn *i, uint32_t key)
{
    const struct operand *o = &i->ops[0];
    bool near64 = i->opsize == 8;
    if (too_far(i))
        return i->desc->flags & ISA_BRANCH ? HOW_END : HOW_INTERP;
    switch (i->op) {
    case OP_nop:
    case OP_serialize: return HOW_SKIP; /* code is always seen at once */
    case OP_lea: return i->base == REG_RIP && i->opsize == 2 ? HOW_INTERP : HOW_LEA;
    case OP_push: return near64 && (o->kind != OPK_MEM || i->addrsize == 8) ? HOW_PUSH : HOW_INTERP;
    case OP_pop: return near64 && o->kind == OPK_GPR ? HOW_POP : HOW_INTERP;
    case OP_leave: return near64 ? HOW_LEAVE : HOW_INTERP;
    case OP_jcc: return near64 ? HOW_JCC : HOW_END;
    case OP_loop: return near64 ? HOW_LOOP : HOW_END;
    case OP_jmp: return near64 ? HOW_JMP : HOW_END;
    case OP_call: return near64 ? HOW_CALL : HOW_END;
    case OP_ret: return near64 ? HOW_RET : HOW_END;
    case OP_jmp_ind: return near64 && i->addrsize == 8 ? HOW_JMP_IND : HOW_END;
    case OP_call_ind: return near64 && i->addrsize == 8 ? HOW_CALL_IND : HOW_END;
    default: break;
    }
    if (xlat_syscall_here(i, key))
        return HOW_SYSCALL;
    if (i->desc->flags & ISA_BRANCH)
        return HOW_END;
    if (xlat_sys_here(i, key))
        return HOW_SYS;
    if (xlat_string_here(i))
        return HOW_STRING;
    if (xlat_bits_here(i))
        return HOW_BITS;
    return xlat_plain_or_interp(i, key);
}

static bool ends_block(enum how h)
{
    return h == HOW_JMP || h == HOW_CALL || h == HOW_JMP_IND || h == HOW_CALL_IND || h == HOW_RET || h == HOW_SYSCALL || h == HOW_LEGACY_END || h == HOW_END;
}

/* A block that jumps back to its own start is several turns of the loop, so that accesses in one turn can share the checks of another's (bt_share.c). */
#define TURNS 4

static bool is_loop(const struct xlat *x)
{
    const struct insn *last = &x->insns[x->n - 1];
    unsigned n, operands = 0;
    if (x->how[x->n - 1] != HOW_JCC || (x->key & (BT_KEY_SINGLE | BT_KEY_LEGACY)) || xlat_next_off(x, x->n - 1) + (int32_t)last->imm != (int32_t)x->page_off)
        return false;
    for (unsigned k = 0; k < x->n; k++) {
        if (x->how[k] != HOW_PLAIN && x->how[k] != HOW_LEA && x->how[k] != HOW_SKIP && x->how[k] != HOW_JCC)
            return false;
        operands += xlat_mem_operand(&x->insns[k], &n) && x->how[k] == HOW_PLAIN;
    }
    return operands;
}

static void unroll(struct xlat *x)
{
    unsigned body = x->n, turns = MIN(x->max / body, (unsigned)TURNS);
    for (; x->n < turns * body; x->n++) {
        unsigned from = x->n - body;
        x->insns[x->n] = x->insns[from];
        x->at[x->n] = x->at[from];
        x->how[x->n] = x->how[from];
        x->copy[x->n] = x->copy[from];
    }
    x->body = body;
}

/* Decodes the block's instructions; returns the bytes they take. */
static unsigned decode_block(struct xlat *x, const uint8_t *src, unsigned avail, unsigned more)
{
    unsigned at = 0;
    enum code_mode mode = x->key & BT_KEY_CODE16 ? CODE16 : x->key & BT_KEY_CODE32 ? CODE32 : CODE64;
    while (x->n < x->max && at < avail && at < 240) {
        struct insn *i = &x->insns[x->n];
        unsigned have = MIN(avail + more - at, 16u);
        x->at[x->n] = (uint8_t)at;
        enum decode_result r = insn_decode(src + at, have, mode, i);
        bool over = r == DECODE_MORE || (r == DECODE_OK && at + i->len > avail);
        if (over && x->n) /* what goes on in the next page is a block of its own */
            break;
        if (r == DECODE_MORE) {
            *i = (struct insn){.len = (uint8_t)have, .base = REG_NONE, .index = REG_NONE};
            x->how[x->n++] = HOW_END;
            return avail;
        }
        if (r != DECODE_OK)
            break;
        insn_specialise(i);
        x->copy[x->n] = i->len;
        x->how[x->n] = (uint8_t)(mode == CODE64 ? classify(i, x->key) : xlat_legacy(i, x->key, &x->copy[x->n]));
        if (unlikely(x->bt->check && !bt_check_repeats(i)))
            x->how[x->n] = i->desc->flags & ISA_BRANCH ? HOW_END : HOW_INTERP;
        if (x->n && x->insns[x->n - 1].op == OP_sti && (x->how[x->n] == HOW_INTERP || x->how[x->n] == HOW_END))
            x->how[x->n - 1] = HOW_INTERP; /* an exit to user space before it retires shows the shadow */
        at += i->len;
        if (ends_block((enum how)x->how[x->n++]) || over)
            break;
        if (is_loop(x)) {
            unroll(x);
            break;
        }
    }
    if (x->n > 1 && x->insns[x->n - 1].op == OP_sti) /* it is translated only where its shadow ends within the block */
        at -= x->insns[--x->n].len;
    x->tail = at > avail ? (uint8_t)(at - avail) : 0;
    return MIN(at, avail);
}

unsigned xlat_address_regs(const struct insn *i)
{
    unsigned regs = 0;
    if (i->base < 16)
        regs |= BIT_OF(i->base);
    if (i->index < 16)
        regs |= BIT_OF(i->index);
    return regs;
}

static void register_uses(struct xlat *x)
{
    for (unsigned k = 0; k < x->n; k++) {
        const struct insn *i = &x->insns[k];
        unsigned reads = 0xffff, writes = 0;
        if (x->how[k] == HOW_SYS)
            xlat_sys_use(i, &reads, &writes);
        else if (x->how[k] == HOW_STRING)
            xlat_string_use(i, &reads, &writes);
        else if (x->how[k] != HOW_INTERP && x->how[k] != HOW_SYSCALL && x->how[k] != HOW_END)
            xlat_reg_use(i, xlat_traits(i), &reads, &writes);
        x->reads[k] = (uint16_t)(reads | xlat_address_regs(i));
        x->writes[k] = (uint16_t)writes;
    }
}

static bool leaves_flags(const struct insn *i, enum how h)
{
    const uint32_t hows = BIT(HOW_LEA) | BIT(HOW_SKIP) | BIT(HOW_PUSH) | BIT(HOW_POP) | BIT(HOW_LEAVE) | BIT(HOW_JMP) | BIT(HOW_CALL) |
                          BIT(HOW_JMP_IND) | BIT(HOW_CALL_IND) | BIT(HOW_RET) | BIT(HOW_LEGACY) | BIT(HOW_LEGACY_END);
    if (h == HOW_PLAIN)
        return !(i->desc->flags & (ISA_RFLAGS | ISA_WFLAGS)) && !(xlat_traits(i) & T_KILLS);
    return BIT(h) & hows;
}

static void flags_liveness(struct xlat *x)
{
    bool live = true, last = true;
    for (unsigned k = x->n; k-- > 0;) {
        const struct insn *i = &x->insns[k];
        enum how h = (enum how)x->how[k];
        if (i->op == OP_sysret || (i->op == OP_iret && !(x->key & BT_KEY_LEGACY)) || i->op == OP_popf) /* IRET to another task saves them */
            live = x->bt->exact_flags;
        else if (h == HOW_INTERP || h == HOW_JCC || h == HOW_LOOP || h == HOW_SYSCALL || h == HOW_END || (h == HOW_SYS && i->op == OP_pushf))
            live = true;
        else if (h == HOW_PLAIN && (i->desc->flags & ISA_RFLAGS))
            live = true;
        else if (h == HOW_STRING && xlat_string_compares(i))
            live = x->bt->exact_flags;
        else if (h == HOW_PLAIN && (xlat_traits(i) & T_KILLS))
            live = x->bt->exact_flags;
        last = last && leaves_flags(i, h);
        x->flags_live[k] = live;
        x->flags_last[k] = live && last;
    }
}

/* ---- registers ---- */

void xlat_bring_back(struct xlat *x, unsigned regs)
{
    for (unsigned r = 0; r < 16; r++)
        if (x->displaced & regs & BIT_OF(r))
            e_load(&x->e, r, GPR_OFF(r));
    x->displaced &= (uint16_t)~regs;
}

void xlat_settle(struct xlat *x)
{
    xlat_bring_back(x, ~BT_SPARE);
    for (unsigned r = 0; r < 16; r++)
        if (BT_SPARE & ~x->displaced & BIT_OF(r))
            xlat_displace(x, r);
}

void xlat_written(struct xlat *x, unsigned regs)
{
    x->displaced &= (uint16_t)~regs;
    x->home &= (uint16_t)~regs;
}

void xlat_displace(struct xlat *x, unsigned r)
{
    if (!(x->home & BIT_OF(r)))
        e_store(&x->e, r, GPR_OFF(r));
    x->home |= (uint16_t)BIT_OF(r);
    x->displaced |= (uint16_t)BIT_OF(r);
}

/* How many instructions on is the register needed next? One that is overwritten first costs nothing to take. */
static unsigned next_need(const struct xlat *x, unsigned k, unsigned r)
{
    unsigned far = 0;
    for (unsigned j = k + 1; j < x->n; j++, far++) {
        if (x->reads[j] & BIT_OF(r))
            return far;
        if (x->writes[j] & BIT_OF(r))
            return 1000;
    }
    return far;
}

unsigned xlat_scratch(struct xlat *x, unsigned k, unsigned avoid)
{
    unsigned best = REG_NONE, best_score = 0;
    for (unsigned r = 0; r < 16; r++) {
        if (!(SCRATCHABLE & ~avoid & ~x->held & BIT_OF(r)))
            continue;
        unsigned score = x->displaced & BIT_OF(r) ? 4000 : 1 + next_need(x, k, r) + (x->home & BIT_OF(r) ? 1 : 0);
        if (score > best_score) {
            best = r;
            best_score = score;
        }
    }
    xlat_displace(x, best);
    return best;
}

/* ---- exits ---- */

struct aside *xlat_aside(struct xlat *x, unsigned kind, unsigned k)
{
    struct aside *a = &x->asides[x->nasides];
    if (x->nasides < x->bt->max_asides)
        x->nasides++;
    else
        x->full = true;
    *a = (struct aside){.kind = kind, .insn = (uint8_t)k, .displaced = x->displaced, .home = x->home, .x87 = x->x87, .flags_saved = x->flags_saved};
    return a;
}

/* The number of a way out, the registers being as they are now. */
static unsigned way_here(struct xlat *x, unsigned insn, unsigned how)
{
    struct bt_way w = {.at_home = x->displaced, .insn = (uint8_t)insn, .how = (uint8_t)how};
    const struct bt_way *last = x->nways ? &x->ways[x->nways - 1] : NULL;
    if (last && last->at_home == w.at_home && last->insn == w.insn && last->how == w.how)
        return x->nways - 1;
    x->ways[x->nways] = w;
    if (x->nways == BT_MAX_WAYS) {
        x->full = true;
        return 0;
    }
    return x->nways++;
}

/* R11 is needed on the way out. */
static void free_r11(struct xlat *x)
{
    if (!(x->displaced & BIT_OF(R11)))
        e_store(&x->e, R11, GPR_OFF(R11));
}

void xlat_leave_by(struct xlat *x, unsigned way)
{
    struct emit *e = &x->e;
    e8(e, 0x41); /* mov r11b, way */
    e8(e, 0xb3);
    e8(e, way);
    e_jump_back(e, x->way_tail);
}

void xlat_way_out(struct xlat *x, unsigned insn, unsigned how)
{
    unsigned way = way_here(x, insn, how);
    xlat_x87_note(x);
    free_r11(x);
    xlat_leave_by(x, way);
}

static void emit_tail(struct xlat *x)
{
    struct emit *e = &x->e;
    x->way_tail = e->p;
    e8(e, 0x45); /* movzx r11d, r11b */
    e8(e, 0x0f);
    e8(e, 0xb6);
    e8(e, 0xdb);
    e8(e, 0x45); /* lea r11d, [r11 + number << 8] */
    e8(e, 0x8d);
    e8(e, 0x9b);
    e32(e, x->b->number << 8);
    e_jump_to(e, x->bt->rw + x->bt->thunk.exit_way);
}

static void emit_aside_slow(struct xlat *x, const struct aside *a)
{
    unsigned how = (a->leads ? BT_WAY_LEADS : 0) | (a->flags_saved ? BT_WAY_SAVED : 0);
    struct bt_insn *i = &x->map[a->insn];
    if (a->flags_in_rax && a->rax_in == R11) { /* which the way out takes */
        e_store(&x->e, R11, GPR_OFF(RAX));
        x->displaced |= BIT_OF(RAX);
    }
    if (a->flags_in_rax) /* not where a trap leads to */
        how |= BT_WAY_RAX | (x->displaced & BIT_OF(RAX) ? 0 : (unsigned)a->rax_in << 4);
    else if ((i->coded = x->x87 != 0))
        i->slow = (emit_off(&x->e) - x->b->code) & 0x3fff;
    else
        i->slow = (way_here(x, a->insn, how) + 1) & 0x3fff;
    if (a->nfrom || x->x87)
        xlat_way_out(x, a->insn, how);
}

/* The block at the next page's start is not known. */
static void emit_aside_leave(struct xlat *x, const struct aside *a)
{
    xlat_flags_restore(x);
    xlat_settle(x);
    e_load(&x->e, R11, x->where);
    e_store(&x->e, R11, BT_OFF(page));
    e_store_imm32(&x->e, BT_OFF(exit_off), (uint32_t)a->target);
    e_jump_to(&x->e, x->bt->rw + x->bt->thunk.exit_goto);
}

static void emit_aside(struct xlat *x, struct aside *a)
{
    for (unsigned f = 0; f < a->nfrom; f++)
        e_patch(a->from[f], x->e.p);
    x->displaced = a->displaced;
    x->home = a->home;
    x->x87 = a->x87;
    x->flags_saved = a->flags_saved;
    switch (a->kind) {
    case ASIDE_SLOW: emit_aside_slow(x, a); break;
    case ASIDE_CROSS: xlat_aside_cross(x, a); break;
    case ASIDE_TAKEN: xlat_goto(x, a->target, a->insn); break;
    case ASIDE_LINK: xlat_aside_link(x, a); break;
    case ASIDE_LEAVE: emit_aside_leave(x, a); break;
    case ASIDE_SECOND: xlat_aside_second(x, a); break;
    case ASIDE_SINGLE: xlat_aside_single(x, a); break;
    case ASIDE_WHERE: xlat_aside_where(x); break;
    }
}

static bool aside_leaves(const struct aside *a)
{
    return a->kind == ASIDE_SLOW || a->kind == ASIDE_LEAVE || a->kind == ASIDE_LINK || a->kind == ASIDE_WHERE;
}

/* Crossings and second entries jump to those that leave, so these come last. */
static void emit_asides(struct xlat *x)
{
    for (unsigned n = 0; n < x->nasides; n++)
        if (!aside_leaves(&x->asides[n]))
            emit_aside(x, &x->asides[n]);
    emit_tail(x);
    for (unsigned n = 0; n < x->nasides; n++)
        if (aside_leaves(&x->asides[n]))
            emit_aside(x, &x->asides[n]);
}

/* ---- instructions without memory operands ---- */

static void xlat_plain(struct xlat *x, const struct insn *i, unsigned k)
{
    unsigned n, reads, writes, t = xlat_traits(i);
    const struct operand *m = xlat_mem_operand(i, &n);
    if (m) {
        xlat_plain_mem(x, i, k, m, n);
        return;
    }
    xlat_reg_use(i, t, &reads, &writes);
    xlat_bring_back(x, reads);
    if (t & T_TRAPS)
        xlat_aside(x, ASIDE_SLOW, k);
    for (unsigned b = 0; b < x->copy[k]; b++)
        e8(&x->e, i->bytes[b]);
    xlat_written(x, writes);
    if (xlat_is_x87(i))
        xlat_x87_ran(x, i, k, NULL, 0);
}

static void xlat_lea(struct xlat *x, const struct insn *i, unsigned k)
{
    struct emit *e = &x->e;
    unsigned dst = i->ops[0].reg;
    if (i->base != REG_RIP) {
        xlat_bring_back(x, xlat_address_regs(i) | (i->opsize == 2 ? BIT_OF(dst) : 0));
        for (unsigned b = 0; b < i->len; b++)
            e8(e, i->bytes[b]);
    } else {
        e_load(e, dst, x->where);
        e_lea(e, dst, dst, REG_NONE, 0, (int32_t)(x->page_off + x->at[k] + i->len) + (int32_t)i->disp);
        if (i->opsize == 4 || i->addrsize == 4)
            e_mov32(e, dst, dst);
    }
    xlat_written(x, BIT_OF(dst));
}

void xlat_interp(struct xlat *x, unsigned k)
{
    struct emit *e = &x->e;
    unsigned way = way_here(x, k, 0);
    xlat_x87_note(x);
    free_r11(x);
    e_mov_imm32(e, R11, x->b->number << 8 | way);
    e_jump_to(e, x->bt->rw + x->bt->thunk.exit_way);
    x->displaced = BT_SPARE;
    x->home = 0xffff; /* entered again, behind it, from the homes */
    x->x87 = 0;
    x->x87_page = false;
}

/* Returns how many instructions it has translated. */
static unsigned xlat_insn(struct xlat *x, unsigned k)
{
    const struct insn *i = &x->insns[k];
    x->map[k] = (struct bt_insn){.host = (emit_off(&x->e) - x->b->code) & 0x3fff, .at = x->at[k]};
    x->held = x->share[k].held ? BIT_OF(SHARE_REG) : 0;
    x->map[k].share = xlat_share_note(x, k);
    x->map[k].slots = x->slot[k].held;
    x->map[k].leads = x->slot[k].leads;
    x->map[k].interp = x->how[k] == HOW_INTERP || x->how[k] == HOW_END;
    switch ((enum how)x->how[k]) {
    case HOW_PLAIN: xlat_plain(x, i, k); break;
    case HOW_LEA: xlat_lea(x, i, k); break;
    case HOW_SKIP: break;
    case HOW_PUSH: return xlat_pushes(x, k);
    case HOW_POP: return xlat_pops(x, k);
    case HOW_LEAVE: xlat_leave(x, k); break;
    case HOW_FLDCW: xlat_fldcw(x, i, k); break;
    case HOW_JCC: xlat_jcc(x, i, k); break;
    case HOW_LOOP: xlat_loop(x, i, k); break;
    case HOW_RET: xlat_ret(x, i, k); break;
    case HOW_SYS: xlat_sys(x, i, k); break;
    case HOW_STRING: xlat_string(x, i, k); break;
    case HOW_BITS: xlat_bits(x, i, k); break;
    case HOW_LEGACY:
    case HOW_LEGACY_END: xlat_legacy_insn(x, i, k); break;
    case HOW_SYSCALL: xlat_syscall(x, k); break;
    case HOW_JMP: xlat_jmp(x, i, k); break;
    case HOW_JMP_IND: xlat_jmp_ind(x, i, k); break;
    case HOW_CALL:
    case HOW_CALL_IND: xlat_call(x, i, k); break;
    case HOW_INTERP:
    case HOW_END: xlat_interp(x, k); break;
    }
    return 1;
}

static void xlat_insns(struct xlat *x)
{
    for (unsigned k = 0, n; k < x->n; k += n) {
        n = xlat_insn(x, k);
        for (unsigned j = 1; j < n; j++)
            x->map[k + j] = (struct bt_insn){.host = (emit_off(&x->e) - x->b->code) & 0x3fff, .at = x->at[k + j], .share = BT_SHARE_PART, .slots = x->slot[k + j].held};
    }
}

/* The block as it is kept, copied out of the working state; NULL without room. */
static struct bt_block *keep(struct xlat *x, const uint8_t *src)
{
    unsigned nlinks = x->nlinks * sizeof(struct bt_link), ninsns = x->n * sizeof(struct bt_insn);
    unsigned nleads = x->nleads * sizeof(struct bt_lead), nways = x->nways * sizeof(struct bt_way);
    uint8_t *p = bt_alloc(x->bt, sizeof x->head + nlinks + nleads + nways + ninsns + x->head.nbytes);
    if (!p)
        return NULL;
    struct bt_block *b = (void *)p;
    *b = x->head;
    p += sizeof *b;
    bytes_copy(p, x->links, nlinks);
    bytes_copy(p += nlinks, x->leads, nleads);
    bytes_copy(p += nleads, x->ways, nways);
    bytes_copy(p += nways, x->map, ninsns);
    bytes_copy(p += ninsns, src, b->nbytes);
    return b;
}

uint64_t bt_xlat_size(void)
{
    return sizeof(struct xlat);
}

/* The way in, in front of the block's code, which is aligned for loops that jump there. */
static void emit_entry(struct xlat *x)
{
    struct bt_block *b = x->b;
    uint8_t *start = x->e.p;
    unsigned before = x->nasides;
    xlat_entry(x);
    start += -(x->e.p - start) & 15;
    x->e.p = start;
    x->nasides = before;
    xlat_entry(x);
    b->code = emit_off(&x->e);
    b->entry = (uint8_t)(x->e.p - start);
    b->entry_link = (uint8_t)(x->e.p - x->asides[before].back);
}

/* One attempt, with x->max instructions at most. */
static struct bt_block *translate(struct xlat *x, uint64_t gpa, const uint8_t *bytes, unsigned avail, bool next)
{
    struct bt *bt = x->bt;
    unsigned nbytes = decode_block(x, bytes, avail, next ? INSN_MAX_LEN : 0);
    if (x->n == 0)
        return NULL;
    struct bt_block *b = x->b = &x->head;
    const struct bt_page *page = bt_page_find(bt, gpa, true);
    if (!page)
        return NULL;
    x->e = (struct emit){bt->rw + ALIGN_UP(bt->used, 16u), bt->rw, bt->rw + bt->size};
    *b = (struct bt_block){.gpa = gpa, .key = x->key, .number = bt->nblocks, .nbytes = (uint16_t)nbytes, .slot = (uint16_t)(page - bt->pool)};
    x->where = (uint32_t)(BT_OFF(where[bt_ring(x->key)]) + b->slot * sizeof(uint64_t));
    x->displaced = x->home = BT_SPARE;
    flags_liveness(x);
    register_uses(x);
    xlat_share_plan(x);
    emit_entry(x);
    if (x->tail)
        xlat_check_tail(x, bytes + avail);
    xlat_insns(x);
    if (!ends_block((enum how)x->how[x->n - 1]))
        xlat_goto(x, xlat_next_off(x, x->n - 1), x->n);
    emit_asides(x);
    b->code_len = (uint16_t)(emit_off(&x->e) - b->code);
    b->ninsns = (uint8_t)x->n;
    b->nlinks = (uint8_t)x->nlinks;
    b->nleads = (uint8_t)x->nleads;
    b->nways = (uint8_t)x->nways;
    return x->full ? NULL : keep(x, bytes);
}

struct bt_block *bt_translate(struct bt *bt, uint64_t gpa, const uint8_t *src, unsigned avail, const uint8_t *next, uint32_t key)
{
    struct xlat *x = bt->work;
    struct bt_block *b = NULL;
    uint8_t bytes[256 + INSN_MAX_LEN];
    avail = MIN(avail, 256u);
    bytes_copy(bytes, src, avail); /* read once: another CPU may be writing */
    if (next)
        bytes_copy(bytes + avail, next, INSN_MAX_LEN);
    unsigned max = BT_MAX_INSNS;
    do { /* a block that needs too many exits ends early */
        bytes_fill(x, 0, offsetof(struct xlat, insns));
        x->nlinks = x->nleads = x->nways = x->nasides = 0;
        x->bt = bt;
        x->key = key;
        x->page_off = gpa & (PAGE_SIZE - 1);
        x->max = max;
        b = translate(x, gpa, bytes, avail, next);
        max = x->n / 2;
        bt->cut += x->full;
    } while (x->full && max);
    if (b)
        bt->used = b->code + b->code_len;
    return b;
}
