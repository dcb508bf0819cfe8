/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The translator's inside: blocks, links, and the cache that holds them. bt.h has the idea. */
#ifndef LODGE_SOFTKVM_X86_BT_PRIV_H
#define LODGE_SOFTKVM_X86_BT_PRIV_H

#include <sys/syscall.h>
#include <time.h>

#include "softkvm/vm.h"
#include "softkvm/x86/bt.h"
#include "softkvm/x86/bt_emit.h"
#include "softkvm/x86/cpu.h"

#define BT_MAX_INSNS  32
#define BT_MAX_LINKS  (BT_MAX_INSNS + 2)
#define BT_MAX_ASIDES (5 * BT_MAX_INSNS)
#define BT_EVICT_STEP 256
#define BT_MAX_WAYS   255
#define BT_WAY_IN     255 /* in a way's place: the way in, where bt.where does not have what R10 has */
#define BT_MAX_CODE   16384 /* bytes of host code that one block can take at most */
#define BT_REGIONS    64   /* at most */
#define BT_MIN_BLOCK  64   /* bytes of host code that one takes at least, on the average */
#define BT_HASH_BITS  16
#define HUGE_PAGE     (2u << 20)
#define BT_WARMTH     (1u << 18)
#define BT_CHURN      (1u << 12)

struct bt_block;
struct xlat;

/* A jump to a place in the same page, linked straight to that block once it is known. */
struct bt_link {
    uint32_t at;   /* code offset of the jump's displacement, 4-byte aligned */
    int16_t stub;  /* distance from there to the exit that asks for the link */
    uint16_t off : 14; /* of the target in the page */
    bool single : 1;   /* to a block with BT_KEY_SINGLE */
    bool entry : 1;    /* goes to the target's way in */
    struct bt_block *to;
    struct bt_link *next_in; /* other links to the same block */
};

/* What an instruction has to do with SHARE_REG (bt_share.c): finds it in use; sets it for reads, for writes, to the entry of a page plus the register
 * BT_SHARE_BASE(i), or plus bt.page where that is SHARE_REG itself. BT_SHARE_PART: the instruction is part of a run with the one before
 * it, and not to be resumed at. */
enum bt_share { BT_SHARE_HELD = 1, BT_SHARE_LEAD_R = 2, BT_SHARE_LEAD_W = 4, BT_SHARE_PART = 6, BT_SHARE_ADD = 8 };
#define BT_SHARE_BASE(share) ((share) >> 4)

struct bt_insn {
    uint16_t host : 14;   /* code offset from the block's, where the instruction begins; 0 for one that is never resumed at */
    uint16_t interp : 1;  /* always left to the interpreter */
    uint16_t slots : 1;   /* finds words of bt.slot[] in use */
    uint16_t slow : 14;   /* what a trap in it leads to: 1 + number of the way out that interprets it, 0 none */
    uint16_t coded : 1;   /* `slow` is as `host` instead, since there is something to do before */
    uint16_t leads : 1;   /* `share` sets such a word instead of SHARE_REG: number BT_SHARE_BASE(share), to the distance of a page */
    uint8_t at;           /* guest bytes from the block's start */
    uint8_t share;        /* enum bt_share */
};
_Static_assert(BT_MAX_CODE <= 1 << 14, "struct bt_insn has 14 bits for an offset");

/*
 * A way out of a block says where the guest's state is there, so that the code of an exit is nothing but the way's number (bt_step()). RAX may be in
 * another register while it has the flags.
 */
struct bt_way {
    uint16_t at_home; /* a bit for each register that is in v->gpr[]; all others are in the host's */
    uint8_t insn;     /* the instruction to interpret, or the link */
    uint8_t how;      /* enum bt_way_how, and in the upper half the register that RAX is in with BT_WAY_RAX, unless it is at home */
};
enum bt_way_how { BT_WAY_SAVED = 1 /* the flags are in bt.flags */, BT_WAY_RAX = 2 /* in RAX */, BT_WAY_LINK = 4, BT_WAY_LEADS = 8 /* there is a bt_lead */ };

/* An address in the window of a run that instruction `insn` leads (bt_share.c). */
struct bt_lead {
    uint8_t insn, base, index, scale;
    int32_t disp;
};

/* Behind a block lie its links, leads, ways out, what is known of its instructions, and the guest's bytes as they were translated. */
struct bt_block {
    uint64_t gpa;
    struct bt_block *hash_next, *page_next, **page_at; /* page_at: what points to it in its page's list */
    struct bt_link *in; /* links that lead here */
    uint32_t key, number;
    uint32_t code;      /* offset in the code region */
    uint32_t entered;   /* times, while checks are made */
    uint16_t code_len;  /* bytes there */
    uint16_t nbytes;
    uint16_t slot;      /* number of its page */
    uint8_t entry;      /* bytes before `code` where a lookup enters: RAX is displaced, the flags are in bt.flags, and R10 has the page's address */
    uint8_t entry_link; /* the same for links from its own page, without R10 */
    uint8_t ninsns, nlinks, nleads, nways;
    bool dead;
};

static inline struct bt_link *bt_links(const struct bt_block *b)
{
    return (struct bt_link *)(uintptr_t)(b + 1);
}
static inline const struct bt_lead *bt_leads(const struct bt_block *b)
{
    return (const struct bt_lead *)(const void *)(bt_links(b) + b->nlinks);
}
static inline const struct bt_way *bt_ways(const struct bt_block *b)
{
    return (const struct bt_way *)(const void *)(bt_leads(b) + b->nleads);
}
static inline const struct bt_insn *bt_insns(const struct bt_block *b)
{
    return (const struct bt_insn *)(const void *)(bt_ways(b) + b->nways);
}
static inline const uint8_t *bt_bytes(const struct bt_block *b)
{
    return (const uint8_t *)(bt_insns(b) + b->ninsns);
}

/* A page of guest memory that blocks were made from. */
struct bt_page {
    uint64_t gpa;
    uint64_t chunks; /* which 64-byte pieces may hold translated code */
    uint64_t summed, sum; /* the chunks that were found unchanged last, and their sum (bt_patch.c) */
    uint32_t nblocks;
    uint32_t stores; /* that came here since the page became code */
    uint8_t patience; /* doublings of the stores that it may see */
    bool hit;        /* one of them changed a block */
    struct bt_block *blocks;
    struct bt_page *hash_next;
};

/*
 * The code region is cut into pieces, and so are the memory of the bookkeeping (bt_alloc()) and the numbers of blocks. One piece is current: what is
 * translated goes there. When it is full the next one is emptied, step by step, and becomes current.
 */
struct bt {
    uint8_t *rw;         /* the code region, writable */
    const uint8_t *rx;   /* the same memory, executable */
    uint64_t size;
    uint32_t trimmed;    /* bytes of `rw` that have been given back */
    uint32_t piece;      /* bytes of a piece, of code and of `arena` */
    uint32_t npieces, live, current; /* how many there are, are in use; which one is filled */
    uint32_t next, next_block; /* which one is being emptied, from which of its blocks on; the current one: none is */
    uint32_t allowed;    /* how many may be in use */
    uint32_t pressure;   /* doublings of `warm_up` for a cache that is too small for what runs */
    struct { uint32_t blocks, code; uint64_t arena; } ends[BT_REGIONS]; /* of each that has been filled: as nblocks, used, arena_used */
    uint32_t used, start; /* next free byte of the current piece; first byte behind the thunks */
    uint32_t made, remade; /* blocks since the current piece was begun; those of them that had been emptied away before */
    uint32_t nevicted;
    _Atomic uint64_t full; /* pieces that bt_collapse() is to look at */
    _Atomic uint64_t huge; /* those that it has looked at */
    uint8_t *arena;      /* blocks */
    uint64_t arena_used; /* as `used` */
    struct bt_page *pool, *free_pages; /* BT_MAX_PAGES of them */
    uint32_t npages;
    _Atomic uint64_t *code_pages; /* a bit for each guest-physical page below BT_GPA_MAX */
    _Atomic uint64_t *protected;  /* the same of those that nobody has write entries for any more */
    _Atomic uint32_t lock;
    unsigned evict_step; /* blocks that bt_evict() drops at once: BT_EVICT_STEP, fewer for tests */
    unsigned max_asides; /* exits that a block may have: BT_MAX_ASIDES, fewer for tests */
    unsigned cut;        /* blocks that ended early for that */
    bool exact_flags;    /* for tests: no flags are taken for dead (docs/softkvm.md) */
    unsigned warm_up;    /* times that code is interpreted before it is translated */
    uint8_t warmth[BT_WARMTH]; /* how often blocks were wanted that are not there, by hash of place and mode; read and written without a lock */
    uint8_t churn[BT_CHURN]; /* by page: how often it has lost blocks to a store; the same */
    unsigned check;      /* SOFTKVM_CHECK: vCPUs check (bt_check.h), 0 they do not */
    struct xlat *work;   /* of the translation under way */
    uint8_t copy[PAGE_SIZE]; /* of a page that is looked at; under `lock` */
    uint32_t nblocks;    /* number of the next one */
    uint64_t generation; /* counts pieces emptied */
    _Atomic uint64_t hold_max, hold_cpu_max; /* TSC cycles that one took at most from asking the other vCPUs to stop on; ns of CPU time */
    struct bt_block **blocks;
    struct bt_block *hash[1 << BT_HASH_BITS];
    struct bt_page *pages[1 << 12];
    uint64_t evicted[1 << 14]; /* Bloom filter of the blocks that were emptied away */
    struct {
        uint32_t page_bits, other_bits; /* constants: the bits of an address that index a table, rotated by TABLE_ROTATE, and all others */
        uint32_t enter, exit_way, exit_goto, exit_check, exit_stale, exit_elsewhere;
    } thunk; /* code offsets */
};
#define BT_GPA_MAX BIT64(46)

enum bt_key {
    BT_KEY_USER = 1,
    BT_KEY_SSE = 2,
    BT_KEY_AVX = 4,
    BT_KEY_X87 = 8,
    BT_KEY_TSD = 16, /* CR4.TSD */
    BT_KEY_RDTSCP = 32, /* CPUID has it */
    BT_KEY_FSGSBASE = 64, /* CR4.FSGSBASE */
    BT_KEY_PKE = 128, /* CR4.PKE */
    BT_KEY_SINGLE = 256, /* nothing is shared (bt_share.c); never in bt_cpu.key */
    BT_KEY_AVX512 = 512,
    BT_KEY_CS_FLAT = 1 << 15, /* 16- and 32-bit code: base 0, limit 4 GiB */
    BT_KEY_CLASSES = 16, /* the number of the first of 12 bits: bt_legacy.c's classes of segments */
    BT_KEY_CODE16 = 1 << 28, /* with neither of these two, 64-bit code */
    BT_KEY_CODE32 = 1 << 29,
    BT_KEY_STACK32 = 1 << 30, /* SS.B */
};
#define BT_KEY_PROT   BIT(31) /* protected mode, no virtual-8086 mode; only said of 16- and 32-bit code */
#define BT_KEY_LEGACY (BT_KEY_CODE16 | BT_KEY_CODE32)

/* ---- bt_legacy.c ---- */
uint32_t bt_legacy_key(const struct vcpu *v); /* the key's part that tells modes other than 64-bit */
bool bt_legacy_page(const struct vcpu *v, uint64_t la); /* may the linear page be run from? */

/* ---- bt_xlat.c ---- */
/* Translates from `src` (gpa's bytes in host memory, `avail` of them up to the page's end); `next`: the next page, where the first
 * instruction goes on there, or NULL, which leaves that to the interpreter. NULL when the first instruction cannot be part of a
 * block. The caller holds bt->lock and has seen to it that BT_MAX_CODE and the bookkeeping fit. */
uint64_t bt_xlat_size(void); /* of bt->work */
struct bt_block *bt_translate(struct bt *bt, uint64_t gpa, const uint8_t *src, unsigned avail, const uint8_t *next, uint32_t key);

/* ---- bt_cache.c ---- */
void *bt_alloc(struct bt *bt, uint64_t bytes);
bool bt_room(const struct bt *bt);
void bt_lock(struct bt *bt);
void bt_unlock(struct bt *bt);
/* Needs no lock: blocks come in whole, and go while this vCPU is held. */
struct bt_block *bt_hash_find(struct bt *bt, uint64_t gpa, uint32_t key);
void bt_insert(struct bt *bt, struct bt_block *b);
void bt_link_set(struct bt *bt, struct bt_link *l, struct bt_block *to);
struct bt_page *bt_page_find(struct bt *bt, uint64_t gpa, bool create);
/* These drop blocks; all other vCPUs are held. */
void bt_drop(struct bt *bt, struct bt_block *b); /* from everything but its page's list */
void bt_evict(struct vcpu *v);                   /* a step towards room: once more until bt_room() */
void bt_collapse(struct bt *bt);
struct bt_block *bt_block_at(struct bt *bt, uint32_t off); /* the block that has this byte of code, or NULL */
void bt_page_free(struct bt *bt, struct bt_page *p); /* one without blocks that is in no list */
void bt_free_pages(struct bt *bt, struct bt_page **head); /* those of a list that have no blocks; bt_patch.c */

/* ---- bt_patch.c ---- */
static inline uint64_t bt_chunks(uint64_t gpa, unsigned n) /* the 64-byte pieces of a page that n bytes at gpa lie in */
{
    unsigned first = (gpa & (PAGE_SIZE - 1)) / 64, last = (unsigned)(((gpa & (PAGE_SIZE - 1)) + n - 1) / 64);
    return (~0ull << first) & (~0ull >> (63 - MIN(last, 63u)));
}
/* Do the page's blocks still have the bytes they were made from? Drops those that have not. */
void bt_page_verify(struct vcpu *v, uint64_t gpa, const uint8_t *host);
/* Marks a page as code and takes everybody's write permission away. It may lose that mark again as long as it has no blocks: whoever makes one
 * asks with bt->lock held whether it still has it. */
void bt_page_protect(struct vcpu *v, uint64_t gpa);
bool bt_page_protected(const struct vcpu *v, uint64_t gpa);
/* Is what begins at gpa better interpreted this time? Counts the question. */
bool bt_is_cold(struct bt *bt, uint64_t gpa, uint32_t key);
uint8_t *bt_warmth(struct bt *bt, uint64_t gpa, uint32_t key); /* where that is counted */

/* ---- bt_run.c ---- */
/* Called from translated code that leaves by the way bt.exit_insn: interprets the instruction. Returns where to go on, NULL for bt_loop(). */
const uint8_t *bt_step(struct vcpu *v);

/* The ring that a block of this key runs in. */
static inline unsigned bt_ring(uint32_t key)
{
    return key & BT_KEY_USER ? BT_USER : BT_KERNEL;
}

/* The linear page of the block that `exit` says, as bt.exit_insn and bt.exit_link have it. */
static inline uint64_t bt_where(const struct vcpu *v, uint32_t exit)
{
    const struct bt_block *b = v->vm->bt->blocks[exit >> 8];
    return v->bt.where[bt_ring(b->key)][b->slot];
}

/* ---- bt_jumps.c ---- */
#define BT_ELSEWHERE 16u /* a linear address, not in the place of 0 */
#define BT_JUMP_STEP (sizeof(((struct bt_jumps *)0)->e[0]) / 8)
#define BT_JUMP_PROBE ((uint64_t)BT_JUMP_STEP << 32 | BT_JUMP_MASK)
void bt_jumps_clear(struct vcpu *v, unsigned ring);
void bt_jumps_drop(struct vcpu *v, unsigned ring, uint64_t lo, uint64_t hi); /* those that lead to host addresses in [lo, hi) */
const uint8_t *bt_jumps_find(const struct vcpu *v, unsigned ring, uint64_t rip); /* NULL: not known */
void bt_jumps_add(struct vcpu *v, unsigned ring, uint64_t rip, const uint8_t *host); /* host: the block's way in for lookups */

/* Code of this ring runs from the page of this slot at the linear page la, which has been looked up and verified since the last flush. */
void bt_enter_set(struct vcpu *v, unsigned ring, unsigned slot, uint64_t la);
void bt_enter_none(struct vcpu *v, unsigned ring); /* it runs from nowhere before it has been looked up */

/* ---- bt_tlb.c, bt_space.c ---- */
/* The valid page of code at la, or NULL. */
static inline struct bt_xpage *bt_xpage_find(struct vcpu *v, unsigned ring, uint64_t la)
{
    struct bt_xpage *x = &v->bt.xpage[ring][la >> 12 & (BT_XPAGES - 1)];
    return likely(x->tag == ((la & PAGE_MASK) | v->bt.code_tag[ring])) ? x : NULL;
}
static inline uint64_t bt_table_index(uint64_t la)
{
    return la >> 12 & (BT_TABLE_PAGES - 1);
}
static inline uint64_t bt_page_la(uint64_t page)
{
    return (uint64_t)((int64_t)(page << 28) >> 16);
}
static inline void bt_bit_set(uint64_t *map, uint64_t n)
{
    map[n / 64] |= BIT64(n % 64);
}
static inline bool bt_bit(const uint64_t *map, uint64_t n)
{
    return map[n / 64] >> (n % 64) & 1;
}
/* Code of this ring is known by a fresh tag from now on. */
void bt_code_forget(struct vcpu *v, unsigned ring);
void bt_tlb_log(struct bt_cpu *c, unsigned which, uint64_t page);
void bt_tlb_clear_page(struct bt_cpu *c, uint64_t page);
/* Notes that the guest page, at `host`, can be written through la. Before that is so. */
void bt_tlb_note_writer(struct vcpu *v, uint64_t gpa, uint64_t la, const uint8_t *host);
/* libc may not be called while the guest's state is live (cpu.h). */
static inline long bt_syscall3(long n, void *p, unsigned long len, long x)
{
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(p), "S"(len), "d"(x) : "rcx", "r11", "memory");
    return r;
}
/* CPU time of the calling thread, ns. */
static inline uint64_t bt_cpu_time(void)
{
    struct timespec t = {0};
    bt_syscall3(SYS_clock_gettime, (void *)(uintptr_t)CLOCK_THREAD_CPUTIME_ID, (unsigned long)(uintptr_t)&t, 0);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}
static inline long bt_madvise(void *p, unsigned long n, long advice)
{
    return bt_syscall3(SYS_madvise, p, n, advice);
}

/* ---- bt_thunk.c ---- */
void bt_emit_thunks(struct bt *bt);
void bt_emit_page_bits(struct bt *bt, struct emit *e); /* bt_mem.c's constants */
typedef void bt_enter_fn(struct vcpu *v, const uint8_t *host);

#define SHARE_REG     R10
#define BT_SPARE      (1u << R10 | 1u << R11)
#define BT_OFF(field) offsetof(struct vcpu, bt.field)
#define GPR_OFF(r)    (offsetof(struct vcpu, gpr) + 8u * (r))

#endif
