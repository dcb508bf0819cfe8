/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator: guest code as host code, block by block.
 *
 * What runs where
 * - Translated code runs with the guest's sixteen general registers in the host registers of the same name (rsp included, so every signal
 *   handler of the process must run on an alternate stack), the arithmetic flags in the host's, the vector registers live (cpu.h). GS points
 *   to struct vcpu: `gs:[offset]` reaches everything else. The host's DF, TF and AC are clear; the guest's are in v->rflags.
 * - v->gpr[] are the registers' homes. Inside a block a register may be displaced: its value is in its home, the host register is scratch.
 *   At block boundaries BT_SPARE (the two that compilers use least) are displaced and no others, so code between boundaries has two scratch
 *   registers for nothing; one of them may hold a distance from linear to host addresses that several instructions use (bt_share.c). Each exit
 *   has a note of where what is there (struct bt_way), so the state that it shows is exact, but for arithmetic flags that no
 *   instruction can read any more.
 * - Whatever the translator does not do itself (faults, MMIO, TLB misses, rare system instructions) is one instruction of the interpreter:
 *   the code calls bt_step() with the instruction's number, and goes on where that says, behind the instruction or in another block.
 *
 * Blocks
 * - A block is keyed by the guest-physical address of its first byte and by the mode (bt_key()), lies in one page, and does not know its
 *   linear address: v->bt.where[] has that of its page. A way in compares it with where the branch has led to; so the host's CPU need not wait for a
 *   branch's target to go on with addresses relative to RIP.
 * - where[] is also what says that code may be run from there: it has a page's linear address only while that address is known to lead to the page, for
 *   code of that ring and in the mode that v->bt.jump is for, and the page's blocks to have been compared with its bytes. A TLB flush takes it away
 *   (bt_enter_none()), and a block that is left for one instruction is not gone back into behind a flush. What does not match comes to bt_step(), which
 *   looks the page up (enter_page() in bt_run.c). It is a rule for each ring, since what the one may execute the other may not.
 * - Linear addresses are all that blocks know. Outside 64-bit code v->rip is an offset from CS's base: bt_run.c and bt_legacy.c convert.
 * - An instruction that goes on in the next page is a block of its own, which compares the bytes there at each turn.
 * - Jumps within a page are linked directly. All others look up v->bt.jump where they stand (bt_flow.c). It is a hint where a block for a linear
 *   address may be, for the code of all address spaces of one mode: where[] decides. What is not there, the interpreter executes.
 * - A page that holds blocks has its bit in bt->code_pages: the MMU gives it no write tag, so each store to it comes to bt_code_write(), which
 *   drops the blocks that it hits. Stores of the VMM (DMA) do not come there: the first fetch from a page after a TLB flush
 *   compares the blocks' bytes with memory. A guest that lets a device write code must flush before it runs that, as remapping does.
 *   Memory that is in two slots, and not read-only in both, is not translated.
 * - Blocks are dropped with all other vCPUs held (vm_exclusive_begin); their memory is reused when their piece of the cache is emptied.
 *
 * Interrupting: each jump back reads where v->bt.poll points to, which needs no flags; bt_poke() makes it point to where nothing can be, and the fault
 * leads out. Branches by lookup take the mask of their index from v->bt.jump_probe, which bt_poke() clears: then they find nothing. In each case the
 * interpreter executes the branch.
 */
#ifndef LODGE_SOFTKVM_X86_BT_H
#define LODGE_SOFTKVM_X86_BT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vcpu;
struct softkvm_vm;
struct bt;
struct bt_check;

#define BT_JUMP_BITS 15
#define BT_JUMP_SIZE (1 << BT_JUMP_BITS)
#define BT_JUMP_LOG  1024
#define BT_ENTER_LOG 4096
#define BT_FILL_LOG  16384
#define BT_MAX_PAGES (1u << 16)
#define BT_SLOTS     4
#define BT_XPAGES    1024
#define BT_SPACES    8    /* address spaces kept besides the current one */
#define BT_SPACE_MAX 2048 /* pages kept of each */

enum { BT_KERNEL, BT_USER, BT_RINGS };

/* Where `rip` was last found. */
struct bt_jumps {
    struct {
        uint64_t rip, host;
    } e[BT_JUMP_SIZE];
    unsigned count; /* > BT_JUMP_LOG: too many to tell */
    uint16_t filled[BT_JUMP_LOG];
};
/*
 * The first of the entries for a linear address. Translated code counts in words; functions begin at multiples of 16, so upper bits are mixed in. The
 * second is its neighbour, the third is the second of the other pair in the same cache line. The first of either pair of the first line is never used: a
 * cleared bt_cpu.jump_probe leads there.
 */
#define BT_JUMP_MASK (2u * BT_JUMP_SIZE - 4)
#define BT_JUMP_MIX  9
static inline unsigned bt_jump_slot(uint64_t rip)
{
    return ((unsigned)(rip ^ rip >> BT_JUMP_MIX) & BT_JUMP_MASK) / 2;
}
static inline unsigned bt_jump_third(unsigned slot)
{
    return (slot ^ 2) + 1;
}
static inline unsigned bt_jump_first(uint64_t rip) /* that is used */
{
    unsigned slot = bt_jump_slot(rip);
    return slot == 0 || slot == 2 ? slot + 1 : slot;
}

/* The pages that have an address in bt_cpu.where. */
struct bt_entered {
    uint8_t halves; /* of the address space that these are in: bits 0 and 1 */
    unsigned count;
    uint16_t slot[BT_ENTER_LOG];
};
#define BT_NOWHERE 1ull /* in bt_cpu.where: no page's address */

struct bt_xpage { /* a page that code is fetched from */
    uint64_t tag; /* linear page address | bt_cpu.code_tag */
    uint64_t gpa;
    bool global, verified; /* verified: its blocks have been compared with its bytes */
    const uint8_t *host;
};

enum { BT_LOCAL, BT_GLOBAL }; /* does a page survive a write of CR3? */

struct bt_log { /* linear pages that have entries, each once */
    unsigned count; /* > BT_FILL_LOG: too many to tell */
    uint64_t page[BT_FILL_LOG];
};

/* The linear pages through which a guest page can be written, one in each half of the address space. */
struct bt_writer {
    _Atomic uint64_t la[2]; /* page address | BT_WRITER_SET, | BT_WRITER_MANY when there may be more of them */
};
#define BT_WRITER_SET  1u
#define BT_WRITER_MANY 2u

struct bt_mode { /* outside 64-bit code also the place of the code segment, within which jumps are checked */
    uint32_t key, cs_limit;
    uint64_t cs_base;
};

/* An address space that is not current: the entries of its pages, and its code's tag. */
struct bt_space {
    bool valid;
    uint16_t pcid;
    unsigned count;
    uint64_t used, code_tag;
    struct bt_saved {
        uint64_t page; /* number | permissions << BT_SAVED_SHIFT: bit ring * 2 + access */
        uint64_t delta;
    } saved[BT_SPACE_MAX];
};
#define BT_SAVED_SHIFT 40

/* The translator's part of struct vcpu. */
struct bt_cpu {
    uint64_t page;          /* linear address of the page that the running block lies in: at exits and outside translated code */
    _Atomic uint64_t poll;  /* &self, or BT_POKED */
    _Atomic uint64_t jump_probe; /* BT_JUMP_MASK | from there to the second entry, in words << 32; or 0 */
    uint64_t jump_to;       /* host address to enter at */
    uint64_t host_rsp;
    uint64_t self;          /* this vcpu's address */
    uint64_t scratch[2];    /* of translated code, within one instruction */
    uint64_t share;         /* SHARE_REG at calls of bt_step() (for a leader: an address in its window) and to come back with; to a way in, the page */
    uint64_t slot[BT_SLOTS]; /* distances from linear to host addresses that translated code keeps within a block (bt_share.c) */
    uint64_t slot_address;  /* at calls of bt_step() for the leader of such a run: an address in its window */
    uint64_t revoked;       /* counts what has taken write entries away */
    uint32_t flags;         /* arithmetic flags as AX has them (op.h), while they are not in the host's */
    uint32_t exit_kind;     /* enum bt_exit */
    uint32_t live_flags;    /* at a way out the host's, as `flags` */
    uint64_t live[16];      /* and the host's registers but R11, which is at home */
    uint32_t exit_insn;     /* bt_step(): block number << 8 | way out; then instruction */
    int32_t exit_off;       /* BT_EXIT_GOTO: target's offset from `page` */
    uint32_t exit_link;     /* BT_EXIT_LINK: block number << 8 | link */
    uint32_t key;           /* enum bt_key of the running code */
    struct bt_mode mode[BT_RINGS]; /* what `jump` holds blocks for */
    _Atomic bool running;   /* translated code may be running */
    bool on;                /* this vCPU translates */
    bool has_tables;        /* bt_entry() may be used */
    uint64_t saved_gs;
    struct bt_log log[2];         /* BT_LOCAL, BT_GLOBAL */
    uint64_t *logged[2];          /* bit maps: linear pages that are in the log */
    uint64_t *large;              /* bit map: 2 MiB of linear addresses that a large page filled entries of */
    uint64_t *giant;              /* the same for 1 GiB */
    uint64_t *known_code;         /* bit map: linear pages that `where` may have */
    struct bt_writer *writers;    /* by guest page below BT_GPA_MAX */
    bool local_high;              /* a page of the upper half is in the local log */
    bool kernel_local;            /* kernel code was run from a page that is not global */
    bool user_code;               /* user code was run */
    uint64_t code_tag[BT_RINGS];  /* of the xpages that are valid: 1 to PAGE_SIZE - 1 */
    uint64_t last_tag;
    uint64_t uses;                /* counts switches of address spaces */
    struct bt_space space[BT_SPACES];
    struct bt_xpage xpage[BT_RINGS][BT_XPAGES];
    struct bt_jumps jump[BT_RINGS];
    struct bt_entered entered[BT_RINGS];
    uint64_t where[BT_RINGS][BT_MAX_PAGES]; /* by bt_block.slot: the page's linear address, or BT_NOWHERE; 0 as that until the slot is first used */
    bool cold;                    /* what comes next is not worth a translation yet */
    struct bt_check *check;       /* lock-step with the interpreter (bt_check.h), NULL without */
    struct { uint64_t lookups, links, interps, translated, invalidated, flushes, polls, evictions, translating /* TSC */; } stats;
};

/*
 * What stands in for the TLB: for each linear page two entries, for reads and for writes, each the distance from the linear address to the host's
 * memory, or 0. The kernel's table ends where struct vcpu begins, the user's begins behind it (bt_entry()), so GS reaches both.
 */
#define BT_TABLE_PAGES (1ull << 36)
#define BT_POKED       (-4096ull) /* an address that user mode cannot read on any host */
#define BT_TABLE_BYTES (BT_TABLE_PAGES * 16)

#define BT_MIN_CACHE (1ull << 20)
#define BT_MAX_CACHE (1ull << 30)

enum bt_exit { BT_EXIT_LINK, BT_EXIT_STEP, BT_EXIT_GOTO, BT_EXIT_CHECK };

/* ---- for the API: creation and end. Called with libc allowed. ---- */
/* Makes the VM's code cache, of the size that SOFTKVM_CACHE says; 0 or -errno (-EOPNOTSUPP: this host lacks FSGSBASE or BMI2). */
int bt_create(struct softkvm_vm *vm);
void bt_destroy(struct softkvm_vm *vm);
struct bt_usage { /* of the VM's cache; bytes */
    uint64_t blocks, code, code_limit, tables, flushes;
    uint64_t flush_max, flush_cpu_max; /* TSC cycles for which the others were waited for and held at most while a piece was emptied; ns of CPU time of that */
};
struct bt_usage bt_usage(struct softkvm_vm *vm);
/* Gives the calling thread an alternate signal stack, unless it has one. 0 or -errno. */
int bt_thread_init(void);
/* Zeroed memory for a vCPU between its tables (2 TiB of address space, not of memory); where that cannot be had, without them. NULL: none. */
struct vcpu *bt_cpu_map(void);
void bt_cpu_unmap(struct vcpu *v);
/* Lets the vCPU, whose `vm` is set, translate if it has tables and the VM has a cache. */
void bt_cpu_init(struct vcpu *v);

/* ---- for the run loop ---- */
/* Runs like the interpreter's run_loop(). Inside cpu_run()'s unwinding. */
int bt_loop(struct vcpu *v);
/* Makes a vCPU that runs translated code look at its requests soon. Any thread. */
void bt_poke(struct vcpu *v);
/* Around bt_loop(): GS is the host program's outside. */
void bt_begin(struct vcpu *v);
void bt_end(struct vcpu *v);
/* A trap in this thread at `pc`, with the fault's address: where to go on, and with what in r11, if it was in translated code, else 0. For signal
 * handlers. */
uint64_t bt_trap(uint64_t pc, uint64_t addr, uint64_t *r11);

/* ---- for the MMU ---- */
struct bt_fill {
    uint64_t la, gpa; /* of a page */
    uint8_t *host;
    uint8_t ring, shift; /* shift: of the guest's page */
    bool read, write, global;
};
void bt_tlb_fill(struct vcpu *v, const struct bt_fill *f);
void bt_tlb_fill_code(struct vcpu *v, const struct bt_fill *f);
/* The host address of code at la, or NULL when its page is not known. */
const uint8_t *bt_tlb_code(struct vcpu *v, unsigned ring, uint64_t la);
void bt_tlb_flush(struct vcpu *v);
void bt_tlb_flush_address_space(struct vcpu *v); /* all but global pages, of the current address space */
void bt_tlb_flush_page(struct vcpu *v, uint64_t la, unsigned large_shift); /* and all of a large page (4 or 2 MiB) that it lies in */
/* Address spaces by PCID: a write of CR3 leaves one and enters another; INVPCID forgets one that is not current (bt_space.c). */
void bt_tlb_switch(struct vcpu *v, unsigned from, unsigned to, bool keep);
void bt_tlb_forget(struct vcpu *v, unsigned pcid);
void bt_tlb_forget_all(struct vcpu *v);
/* No linear page of this vCPU leads to the guest page for writing any more. It is held, or the caller's own. */
void bt_tlb_unwrite(struct vcpu *v, uint64_t gpa, const uint8_t *host);
bool bt_tlb_may_write(struct vcpu *v, uint64_t gpa); /* could one? Any thread, once bt_is_code(gpa) */
bool bt_is_code(const struct vcpu *v, uint64_t gpa);
void bt_code_write(struct vcpu *v, uint64_t gpa, unsigned n); /* after the bytes have been stored */

#endif
