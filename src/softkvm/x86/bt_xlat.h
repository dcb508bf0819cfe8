/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The translation of one block, as bt_xlat.c (which opens with the idea), bt_mem.c and bt_flow.c share it. */
#ifndef LODGE_SOFTKVM_X86_BT_XLAT_H
#define LODGE_SOFTKVM_X86_BT_XLAT_H

#include "softkvm/x86/bt_priv.h"

#define BIT_OF(r)   (1u << (r))
#define SCRATCHABLE (0xffffu & ~BIT_OF(RSP))

enum how { HOW_INTERP, HOW_PLAIN, HOW_LEA, HOW_SKIP, HOW_PUSH, HOW_POP, HOW_LEAVE, HOW_FLDCW, HOW_JCC, HOW_LOOP, HOW_JMP, HOW_CALL, HOW_JMP_IND, HOW_CALL_IND, HOW_RET, HOW_SYS, HOW_STRING, HOW_BITS, HOW_SYSCALL, HOW_LEGACY, HOW_LEGACY_END, HOW_END };

/* What a plain operation uses beyond its operands, and what it does to the flags. */
enum trait { T_PLAIN = 1, T_KILLS = 2, T_RAX_R = 4, T_RAX_W = 8, T_RDX_R = 16, T_RDX_W = 32, T_RCX_R = 64, T_RBX_R = 128, T_RCX_W = 256, T_TRAPS = 512 };

/* A linear address. base REG_RIP: disp counts from the page's start. Only FS and GS matter as seg. In 16- and 32-bit code an offset of `size` bytes,
 * 0 for what is linear already, in a scratch register. */
struct ea {
    uint8_t base, index, scale, seg;
    int32_t disp;
    uint8_t size;
};

/* What an instruction's access has to do with a run of accesses (bt_share.c). */
struct share {
    bool leads, member, held; /* makes SHARE_REG; uses it, the leader too; finds it in use */
    bool write;               /* of the leader: some of the run write */
    uint32_t members;         /* of the leader: a bit for each instruction */
    unsigned size;            /* of the leader: the window's bytes */
    int32_t from;             /* of the leader: what the window's first byte is behind the base and the index */
    int32_t shift;            /* what has been added to the base since the leader */
    uint8_t slot;             /* of a run that has one instead of SHARE_REG: its number */
};

/* An exit out of the block's straight line, emitted behind it. */
struct aside {
    enum { ASIDE_SLOW, ASIDE_CROSS, ASIDE_TAKEN, ASIDE_LINK, ASIDE_LEAVE, ASIDE_SECOND, ASIDE_SINGLE, ASIDE_WHERE } kind;
    uint8_t *from[6];   /* displacements of the jumps to it */
    uint8_t nfrom;
    uint8_t insn;       /* ASIDE_LINK: the link */
    uint8_t rax_in;     /* ASIDE_SLOW with flags_in_rax: the register that holds RAX, if any; else it is at home */
    bool flags_in_rax;
    bool flags_saved;   /* they are in bt.flags */
    bool bare;          /* ASIDE_CROSS: the address is ea.base alone, and not in `s` */
    bool last;          /* ASIDE_CROSS: ea is the address of the last byte */
    uint8_t s, size;    /* ASIDE_CROSS; ASIDE_SECOND: the target's register, the ring */
    struct ea ea;
    bool leads;         /* ASIDE_SLOW: the instruction has a bt_lead */
    uint8_t *back;      /* ASIDE_CROSS, ASIDE_SECOND: where it goes on; ASIDE_WHERE: behind the comparison */
    unsigned slow;      /* the same: index of the aside that leaves */
    uint16_t displaced, home;
    uint32_t x87;       /* the block's `x87` there */
    int32_t target;     /* ASIDE_TAKEN, ASIDE_LEAVE: offset from the page */
};

struct xlat {
    struct emit e;
    struct bt *bt;
    struct bt_block *b, head; /* the latter until it is kept */
    uint32_t key;
    unsigned page_off; /* of the block's first byte */
    uint32_t where;    /* offset of the page's bt.where in struct vcpu */
    uint8_t tail;      /* bytes of its one instruction that lie in the next page */
    unsigned n, max;   /* instructions; how many there may be */
    bool full;         /* they need more exits than there is room for */
    unsigned body;     /* instructions of the loop that the block is several turns of, 0: it is none */
    uint16_t displaced, home;
    uint32_t x87;        /* struct fpu's note to leave at an exit here, 0 none */
    bool x87_page;       /* its note_page is this block's */
    bool flags_saved;    /* the flags are in bt.flags until the block's end; the host's are scratch */
    struct insn insns[BT_MAX_INSNS];
    uint8_t at[BT_MAX_INSNS], how[BT_MAX_INSNS];
    uint8_t copy[BT_MAX_INSNS]; /* bytes of an instruction without memory operand */
    struct share share[BT_MAX_INSNS], slot[BT_MAX_INSNS]; /* runs that have SHARE_REG, and those that have a word of bt.slot[] */
    uint16_t held; /* scratch registers that are not to be taken */
    bool flags_live[BT_MAX_INSNS]; /* before the instruction */
    bool flags_last[BT_MAX_INSNS]; /* and nothing touches them up to the block's end, which takes them from bt.flags */
    uint16_t reads[BT_MAX_INSNS], writes[BT_MAX_INSNS]; /* general registers; reads include those of addresses */
    struct bt_insn map[BT_MAX_INSNS];
    struct bt_link links[BT_MAX_LINKS];
    struct bt_lead leads[BT_MAX_INSNS];
    struct bt_way ways[BT_MAX_WAYS + 1]; /* the last one is for what is thrown away */
    unsigned nlinks, nleads, nways, nasides;
    const uint8_t *way_tail; /* where exits go on that have said their number */
    struct aside asides[BT_MAX_ASIDES + 2]; /* the last two are for what is thrown away */
};

/* One access to memory. Between its check and its use nothing may be displaced or brought back. */
struct access {
    unsigned k;          /* the instruction */
    unsigned size;
    bool write, must_align, flags_live;
    bool no_rex;         /* the place must do without r8 to r15 */
    bool flags_saved;    /* instead of flags_live: they are in bt.flags already */
    bool scratch_base;   /* the address is in a scratch register */
    bool want_s2;        /* give me a second scratch register */
    unsigned avoid;      /* registers that must not become scratch; those of the address are not meant */
    /* set by xlat_access() */
    unsigned s, s2;      /* scratch; s is part of `at` */
    unsigned rax_in;     /* where RAX is while the flags are in it */
    unsigned slow;       /* the aside that interprets the instruction instead */
    struct place at;     /* the operand in host memory */
};

/* ---- bt_xlat.c ---- */
const struct operand *xlat_mem_operand(const struct insn *i, unsigned *n);
unsigned xlat_traits(const struct insn *i); /* enum trait */
enum how xlat_plain_or_interp(const struct insn *i, uint32_t key);
/* The registers whose values the instruction needs (all but those of the address), and those that it changes. */
void xlat_reg_use(const struct insn *i, unsigned t, unsigned *reads, unsigned *writes);
unsigned xlat_address_regs(const struct insn *i);
/* These registers' values are to be in the host's registers; all are to be as at a block's boundary; have been written; is to be scratch. */
void xlat_bring_back(struct xlat *x, unsigned regs);
void xlat_settle(struct xlat *x);
void xlat_written(struct xlat *x, unsigned regs);
void xlat_displace(struct xlat *x, unsigned r);
/* Displaces the register that is needed last, none of `avoid`. */
unsigned xlat_scratch(struct xlat *x, unsigned k, unsigned avoid);
struct aside *xlat_aside(struct xlat *x, unsigned kind, unsigned k);
void xlat_interp(struct xlat *x, unsigned k); /* leaves instruction k to bt_step() */
void xlat_way_out(struct xlat *x, unsigned insn, unsigned how); /* as the registers are now */
void xlat_leave_by(struct xlat *x, unsigned way); /* the number of a way out, or BT_WAY_IN; R11 is free */
static inline void xlat_from(struct aside *a, uint8_t *jump)
{
    if (a->nfrom < sizeof a->from / sizeof a->from[0]) /* there are fewer but where the block is thrown away */
        a->from[a->nfrom++] = jump;
}
static inline int32_t xlat_next_off(const struct xlat *x, unsigned k)
{
    return (int32_t)(x->page_off + x->at[k] + x->insns[k].len);
}

/* ---- bt_mem.c ---- */
struct ea xlat_ea(const struct xlat *x, const struct insn *i); /* of the instruction's memory operand */
void xlat_linear(struct xlat *x, const struct ea *ea, unsigned s); /* s = the address; clobbers the flags where a segment has a base */
/* The flags to bt.flags and back, RAX being displaced. */
void xlat_flags_save(struct xlat *x);
void xlat_flags_restore(struct xlat *x);
/* For more than one check: the flags, if they are wanted, are in bt.flags between the two, and RAX is taken. */
void xlat_flags_hold(struct xlat *x, struct access *a);
void xlat_flags_release(struct xlat *x, const struct access *a);
/* Checks an access; its operand is at a->at then. The flags are as before if they are wanted. */
void xlat_access(struct xlat *x, struct access *a, const struct ea *ea);
void xlat_linear_access(struct xlat *x, struct access *a, const struct ea *ea); /* the same, whatever the mode */
/* op reg, [a->at]; w: 8 for REX.W, 0 without */
void xlat_op(struct xlat *x, unsigned w, unsigned op, unsigned reg, const struct access *a);
void xlat_op_0f(struct xlat *x, unsigned w, unsigned op, unsigned reg, const struct access *a); /* 0f op */
bool xlat_no_rex(const struct insn *i);
void xlat_emit_at(struct xlat *x, const struct insn *i, const struct place *at); /* the instruction with its operand there */
void xlat_aside_single(struct xlat *x, const struct aside *a);
void xlat_aside_cross(struct xlat *x, const struct aside *a);
void xlat_plain_mem(struct xlat *x, const struct insn *i, unsigned k, const struct operand *m, unsigned n);

/* ---- bt_share.c ---- */
void xlat_share_plan(struct xlat *x);
uint8_t xlat_share_note(const struct xlat *x, unsigned k); /* bt_insn.share */
/* The operand of a member that need not be checked; `ea`: its address. */
struct place xlat_share_place(const struct xlat *x, const struct ea *ea, unsigned k);

/* ---- bt_x87.c ---- */
bool xlat_x87_here(const struct insn *i, uint32_t key);
bool xlat_is_x87(const struct insn *i);
/* `ea`: of the operand in memory, with scratch register `s`; NULL without one. */
void xlat_x87_ran(struct xlat *x, const struct insn *i, unsigned k, const struct ea *ea, unsigned s);
void xlat_x87_note(struct xlat *x); /* in front of each exit */
void xlat_fldcw(struct xlat *x, const struct insn *i, unsigned k);

/* ---- bt_sys.c ---- */
bool xlat_sys_here(const struct insn *i, uint32_t key);
void xlat_sys_use(const struct insn *i, unsigned *reads, unsigned *writes); /* general registers, rsp left out */
void xlat_sys(struct xlat *x, const struct insn *i, unsigned k);
void xlat_flags_image(struct emit *e, unsigned s2, unsigned s3); /* s2 = RFLAGS with the arithmetic flags of bt.flags (op.h); clobbers s3 */

/* ---- bt_string.c ---- */
bool xlat_string_here(const struct insn *i);
void xlat_string_use(const struct insn *i, unsigned *reads, unsigned *writes);
bool xlat_string_compares(const struct insn *i); /* and sets the flags */
void xlat_string(struct xlat *x, const struct insn *i, unsigned k);
bool xlat_bits_here(const struct insn *i);
void xlat_bits(struct xlat *x, const struct insn *i, unsigned k);

/* ---- bt_syscall.c ---- */
bool xlat_syscall_here(const struct insn *i, uint32_t key);
void xlat_syscall(struct xlat *x, unsigned k);

/* ---- bt_flow.c ---- */
/* The parts of a branch by lookup, for those that go to the other ring (BT_KERNEL, BT_USER): bt_flow.c has the rules. */
void xlat_branch_begin(struct xlat *x, unsigned needed);
void xlat_branch_probe(struct xlat *x, unsigned t, struct aside *miss, unsigned ring);
void xlat_branch_jump(struct xlat *x, unsigned t, unsigned ring); /* t: REG_NONE where the target's register is in use again */
void xlat_page_offset(struct xlat *x, unsigned reg, int32_t off); /* reg = linear address page + off */

/* ---- bt_legacy.c ---- */
/* How to translate an instruction of 16- or 32-bit code; may rewrite it, to *bytes bytes. */
enum how xlat_legacy(struct insn *i, uint32_t key, uint8_t *bytes);
void xlat_legacy_insn(struct xlat *x, const struct insn *i, unsigned k); /* HOW_LEGACY, HOW_LEGACY_END */
void xlat_legacy_access(struct xlat *x, struct access *a, const struct ea *ea);
void xlat_legacy_advance(struct xlat *x, unsigned reg, unsigned addrsize, unsigned by); /* reg += by, as an address; the flags stay */
void xlat_legacy_offset(struct xlat *x, const struct ea *ea, unsigned s); /* s = the offset; the flags stay */
/* t, the target of a branch of `size` bytes, as offset from CS's base or `linear`, becomes the linear address; away if it is beyond CS's limit. Clobbers
 * the flags. */
void xlat_legacy_target(struct xlat *x, unsigned size, unsigned t, bool linear, struct aside *miss);
void xlat_move_rsp(struct xlat *x, int32_t by);
/* The same for the stack of 16- and 32-bit code, and its a->size bytes at rSP + disp. */
void xlat_legacy_move_sp(struct xlat *x, int32_t by);
void xlat_legacy_stack(struct xlat *x, struct access *a, int32_t disp);
void xlat_entry(struct xlat *x); /* what lies before the block's code, for those who come by a lookup */
/* Goes to the linear address page + off. k: the instruction that does, x->n behind the last one. */
/* Leaves the block's one instruction to the interpreter unless its last bytes, in the next page, are these. */
void xlat_check_tail(struct xlat *x, const uint8_t *bytes);
void xlat_aside_second(struct xlat *x, const struct aside *a);
void xlat_aside_where(struct xlat *x);
void xlat_goto(struct xlat *x, int32_t off, unsigned k);
/* The pushes or pops from k on that share one check; return how many. */
unsigned xlat_pushes(struct xlat *x, unsigned k);
unsigned xlat_pops(struct xlat *x, unsigned k);
void xlat_leave(struct xlat *x, unsigned k);
void xlat_ret(struct xlat *x, const struct insn *i, unsigned k);
void xlat_call(struct xlat *x, const struct insn *i, unsigned k);
void xlat_jmp_ind(struct xlat *x, const struct insn *i, unsigned k);
void xlat_jmp(struct xlat *x, const struct insn *i, unsigned k);
void xlat_goto_single(struct xlat *x, unsigned k); /* to the block of instruction k that shares nothing */
void xlat_aside_link(struct xlat *x, const struct aside *a);
void xlat_jcc(struct xlat *x, const struct insn *i, unsigned k);
void xlat_loop(struct xlat *x, const struct insn *i, unsigned k);

#endif
