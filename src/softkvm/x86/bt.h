/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator: guest code as host code, block by block.
 *
 * What runs where
 * - Translated code runs with the guest's sixteen general registers in the host registers of the same name (rsp included, so every signal
 *   handler of the process must run on an alternate stack), the arithmetic flags in the host's, the vector registers live (cpu.h). GS points
 *   to struct vcpu: `gs:[offset]` reaches everything else. The host's DF, TF and AC are clear; the guest's are in v->rflags.
 * - v->gpr[] are the registers' homes. Inside a block a register may be displaced: its value is in its home, the host register is scratch.
 *   At block boundaries nothing is displaced. Exits go through a stub that brings displaced registers back, so the state that an exit
 *   shows is exact, but for arithmetic flags that no instruction can read any more.
 * - Whatever the translator does not do itself (faults, MMIO, TLB misses, rare system instructions, x87) is one instruction of the interpreter:
 *   the code calls bt_step() with the instruction's number, and goes on where that says, behind the instruction or in another block.
 *
 * Blocks
 * - A block is keyed by the guest-physical address of its first byte and by the mode (bt_key()), lies in one page, and does not know its
 *   linear address: v->bt.page holds that of its page, set by whoever enters the page.
 * - Jumps within a page are linked directly. All others look up v->bt.jump, which is dropped with the TLB; what is not there, the interpreter executes.
 * - A page that holds blocks has its bit in bt->code_pages: the MMU gives it no write tag, so each store to it comes to bt_code_write(), which
 *   drops the blocks that it hits. Stores of the VMM (DMA) do not come there: the first fetch from a page after a TLB flush
 *   compares the blocks' bytes with memory. A guest that lets a device write code must flush before it runs that, as remapping does.
 * - Blocks are dropped with all other vCPUs held (vm_exclusive_begin); memory of dropped blocks is reused when the whole cache is.
 *
 * Interrupting: each way round a loop stores to v->bt.poll, and each branch by lookup to v->bt.page, which lies there too; bt_poke() makes that page
 * read-only, and the fault leads out. The VMM's own stores to v->bt.page just make it writable again, so the requests are looked at behind them.
 */
#ifndef LODGE_SOFTKVM_X86_BT_H
#define LODGE_SOFTKVM_X86_BT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vcpu;
struct softkvm_vm;
struct bt;

#define BT_JUMP_BITS 12
#define BT_JUMP_SIZE (1 << BT_JUMP_BITS)
#define BT_FILL_LOG  16384
#define BT_XPAGES    1024

enum { BT_KERNEL, BT_USER, BT_RINGS };

/* Where `rip` was last found. */
struct bt_jumps {
    struct {
        uint64_t rip; /* BT_NO_RIP: empty */
        uint64_t host;
    } e[BT_JUMP_SIZE];
};
/* The entry of a linear address: e[(rip & BT_JUMP_MASK) / 2]. Bit 0 is left out, since translated code scales by 8. */
#define BT_JUMP_MASK (2u * BT_JUMP_SIZE - 2)
#define BT_NO_RIP (1ull << 62) /* not canonical: no rip equals it */

struct bt_xpage { /* a page that code is fetched from */
    uint64_t la, gpa;
    bool global;
    const uint8_t *host;
};

/* The translator's part of struct vcpu. */
struct bt_cpu {
    union {
        uint8_t poll[4096] __attribute__((aligned(4096)));
        uint64_t page;      /* linear address of the page that the running block lies in */
    };
    uint64_t jump_to;       /* host address to enter at */
    uint64_t host_rsp;
    uint64_t self;          /* this vcpu's address */
    uint64_t scratch[2];    /* of translated code, within one instruction */
    uint32_t flags;         /* arithmetic flags as AX has them (op.h), while they are not in the host's */
    uint32_t exit_kind;     /* enum bt_exit */
    uint32_t exit_insn;     /* bt_step(): block number << 8 | instruction */
    int32_t exit_off;       /* BT_EXIT_LINK, BT_EXIT_POLL: target's offset from `page` */
    uint32_t exit_link;     /* BT_EXIT_LINK: number of the link */
    uint32_t key;           /* the mode that `jump` holds blocks for */
    _Atomic bool running;   /* translated code may be running */
    bool on;                /* this vCPU translates */
    uint64_t saved_gs;
    uint64_t *table[BT_RINGS][2]; /* [ring][MEM_R or MEM_W]: host minus linear address by linear page, 0 none; BT_TABLE_PAGES entries */
    uint64_t index[BT_RINGS][2];  /* the same divided by 8, as translated code adds it */
    unsigned log_count;     /* > BT_FILL_LOG: too many to tell */
    uint64_t log[BT_FILL_LOG]; /* linear pages that have entries; BT_LOG_GLOBAL: they survive a write of CR3 */
    uint64_t code_filter[BT_RINGS][8]; /* Bloom filter of the linear pages that `jump` knows */
    bool kernel_local;      /* kernel code was run from a page that is not global */
    bool user_code;         /* user code was run */
    struct bt_xpage xpage[BT_RINGS][BT_XPAGES];
    struct bt_jumps jump[BT_RINGS];
    struct { uint64_t lookups, links, interps, translated, invalidated, flushes, polls; } stats;
};

#define BT_TABLE_PAGES (1ull << 36)
#define BT_POLL_AT     64 /* offset of the polls of loops in bt.poll */

enum bt_exit { BT_EXIT_LINK, BT_EXIT_STEP, BT_EXIT_POLL };

/* ---- for the API: creation and end. Called with libc allowed. ---- */
/* Makes the VM's code cache of `bytes`; 0 or -errno (-EOPNOTSUPP: this host lacks FSGSBASE or BMI2). */
int bt_create(struct softkvm_vm *vm, uint64_t bytes);
void bt_destroy(struct softkvm_vm *vm);
/* Gives the calling thread an alternate signal stack, unless it has one. 0 or -errno. */
int bt_thread_init(void);
/* Reserves the vCPU's tables (2 TiB of address space, not of memory). Where that cannot be had, the vCPU interprets. */
void bt_cpu_init(struct vcpu *v);
void bt_cpu_free(struct vcpu *v);

/* ---- for the run loop ---- */
/* Runs like the interpreter's run_loop(). Inside cpu_run()'s unwinding. */
int bt_loop(struct vcpu *v);
/* Makes a vCPU that runs translated code look at its requests soon. Any thread. */
void bt_poke(struct vcpu *v);
/* Around bt_loop(): GS is the host program's outside. */
void bt_begin(struct vcpu *v);
void bt_end(struct vcpu *v);
/* A trap in this thread at `pc`, with the fault's address: where to go on if it was in translated code, else 0. For signal handlers. */
uint64_t bt_trap(uint64_t pc, uint64_t addr);

/* ---- for the MMU ---- */
void bt_tlb_fill(struct vcpu *v, unsigned mmu_idx, uint64_t la, uintptr_t host_page, bool read, bool write, bool global);
void bt_tlb_flush(struct vcpu *v);
void bt_tlb_flush_address_space(struct vcpu *v); /* all but global pages */
void bt_tlb_flush_range(struct vcpu *v, uint64_t la, unsigned shift); /* the entries within the 2^shift bytes around la */
void bt_tlb_unwrite(struct vcpu *v, uintptr_t host_page); /* no linear page leads to this host page for writing any more */
bool bt_is_code(const struct vcpu *v, uint64_t gpa);
void bt_code_write(struct vcpu *v, uint64_t gpa, unsigned n); /* after the bytes have been stored */

#endif
