/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory as instructions see it: segment, then paging, then RAM or MMIO.
 *
 * The fast path is one compare of the page address with the TLB's tag for the kind of access; everything else (miss, page crossing, MMIO,
 * watchpoint, alignment check, non-canonical address) goes to mmu.c. A non-canonical address can never match a tag, so it needs no test of
 * its own: mmu.c turns it into #GP(0), or #SS(0) for a stack segment. On a vCPU that translates, the translator's tables (bt.h) are the TLB for ordinary
 * data; they have no tags, so there the test is made.
 *
 * All functions raise the guest's exception themselves and do not return then. A write that can fault changes nothing before it faults:
 * both pages of a crossing write are translated first.
 */
#ifndef LODGE_SOFTKVM_X86_MEM_H
#define LODGE_SOFTKVM_X86_MEM_H

#include "softkvm/x86/cpu.h"

/*
 * Guest operands in host memory: of any alignment, one access each, while other CPUs read and write them. That is what volatile gives
 * on x86; ThreadSanitizer wants to hear of it in other words.
 */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define GUEST_LOAD(type, p)       __atomic_load_n((const type *)(p), __ATOMIC_RELAXED)
#define GUEST_STORE(type, p, val) __atomic_store_n((type *)(p), (type)(val), __ATOMIC_RELAXED)
#else
typedef volatile uint8_t guest_uint8_t __attribute__((may_alias));
typedef volatile uint16_t guest_uint16_t __attribute__((may_alias, aligned(1)));
typedef volatile uint32_t guest_uint32_t __attribute__((may_alias, aligned(1)));
typedef volatile uint64_t guest_uint64_t __attribute__((may_alias, aligned(1)));
#define GUEST_LOAD(type, p)       (*(const guest_##type *)(p))
#define GUEST_STORE(type, p, val) (*(guest_##type *)(p) = (type)(val))
#endif

static inline uint64_t guest_load(const void *p, unsigned size)
{
    switch (size) {
    case 1: return GUEST_LOAD(uint8_t, p);
    case 2: return GUEST_LOAD(uint16_t, p);
    case 4: return GUEST_LOAD(uint32_t, p);
    default: return GUEST_LOAD(uint64_t, p);
    }
}
static inline void guest_store(void *p, unsigned size, uint64_t val)
{
    switch (size) {
    case 1: GUEST_STORE(uint8_t, p, val); break;
    case 2: GUEST_STORE(uint16_t, p, val); break;
    case 4: GUEST_STORE(uint32_t, p, val); break;
    default: GUEST_STORE(uint64_t, p, val); break;
    }
}

/* ---- slow paths, mmu.c ---- */
uint64_t mmu_read_slow(struct vcpu *v, uint64_t la, unsigned size, enum mmu_index idx, int seg);
void mmu_write_slow(struct vcpu *v, uint64_t la, unsigned size, uint64_t val, enum mmu_index idx, int seg);
/* Fills the TLB for (la, access) or raises; returns the host address, or NULL when the page is MMIO, watched or read-only. */
void *mmu_host_slow(struct vcpu *v, uint64_t la, enum mem_access acc, enum mmu_index idx, int seg);
/* The same for a run of elements from la on, within its page. NULL too where each element needs a look. *code: MMU_NO_CODE, or the GPA of a destination
 * that translated code was made from; bt_code_write() must hear of the stores then. */
void *mmu_host_run(struct vcpu *v, uint64_t la, enum mem_access acc, enum mmu_index idx, int seg, uint64_t *code);
#define MMU_NO_CODE (~0ull)
void mmu_read_buf(struct vcpu *v, uint64_t la, void *buf, unsigned n, enum mmu_index idx, int seg);
void mmu_write_buf(struct vcpu *v, uint64_t la, const void *buf, unsigned n, enum mmu_index idx, int seg);
/* Raises the fault that a read (MEM_R) or write (MEM_W) of n bytes would raise. */
void mmu_probe(struct vcpu *v, uint64_t la, unsigned n, enum mem_access acc, enum mmu_index idx, int seg);

void mmu_init(struct vcpu *v);                          /* before the first access */
void mmu_flush_all(struct vcpu *v);                     /* everything, global too */
void mmu_flush_local(struct vcpu *v);                   /* all but global entries, of every PCID */
void mmu_flush_address_space(struct vcpu *v);           /* a write of CR3 without PCIDs: all but global entries */
void mmu_switch_space(struct vcpu *v, unsigned from, unsigned to, bool keep); /* the same with PCIDs; keep: those of `to` stay valid */
void mmu_flush_pcid(struct vcpu *v, unsigned pcid);     /* all but global entries, of a PCID that is not current */
void mmu_flush_page(struct vcpu *v, uint64_t la);       /* INVLPG */
void mmu_set_pkru(struct vcpu *v, uint32_t pkru);       /* drops what was filled by rights that are others now */
/* Fills the entry for a fetch from la, unless that is not RAM; raises its fault. */
void mmu_fetch_page(struct vcpu *v, uint64_t la);
/* Nobody may write this guest page through the TLBs of `v` without coming to mmu.c first. `v` is held, or the caller's own. */
void mmu_unwrite_page(struct vcpu *v, uint64_t gpa);
bool mmu_may_write_page(struct vcpu *v, uint64_t gpa); /* is there anything to do for that? Any thread, once bt_is_code(gpa) */
/* KVM_TRANSLATE and debuggers: no side effects. Returns false when not mapped. */
bool mmu_translate_debug(struct vcpu *v, uint64_t la, uint64_t *gpa, bool *writable, bool *user);
/* Loads pdptr[] from CR3 (PAE without long mode); false when a reserved bit is set (-> #GP). */
bool mmu_load_pdptrs(struct vcpu *v, uint64_t cr3);

/* Segmentation for legacy modes (seg.c): offset -> linear with limit and type checks; raises #GP(0)/#SS(0). */
uint64_t seg_linear_slow(struct vcpu *v, int seg, uint64_t off, unsigned size, enum mem_access acc);

/* ---- segment:offset -> linear ---- */
static inline uint64_t seg_linear(struct vcpu *v, int seg, uint64_t off, unsigned size, enum mem_access acc)
{
    if (likely(v->code_mode == CODE64))
        return seg >= SEG_FS ? v->seg[seg].base + off : off;
    if (likely(v->seg[seg].flat && off + size <= BIT64(32)))
        return off;
    return seg_linear_slow(v, seg, off, size, acc);
}

/* ---- linear accesses ---- */
static inline void *mmu_host_fast(struct vcpu *v, uint64_t la, unsigned size, enum mem_access acc, enum mmu_index idx)
{
    if (unlikely((la & (PAGE_SIZE - 1)) + size > PAGE_SIZE))
        return NULL;
    if (v->bt.on && idx <= MMU_USER && acc != MEM_X) { /* the translator's tables are the TLB; BT_KERNEL, BT_USER */
        uint64_t delta = bt_entry(&v->bt, idx, la >> 12 & (BT_TABLE_PAGES - 1))[acc];
        return likely(delta && is_canonical(la)) ? (void *)(uintptr_t)(la + delta) : NULL;
    }
    struct tlb_entry *e = &v->tlb[idx][(la >> 12) & (TLB_SIZE - 1)];
    return likely(e->tag[acc] == (la & PAGE_MASK)) ? (void *)(uintptr_t)(la + e->addend) : NULL;
}

static inline uint64_t mmu_read(struct vcpu *v, uint64_t la, unsigned size, enum mmu_index idx, int seg)
{
    const void *p = mmu_host_fast(v, la, size, MEM_R, idx);
    if (unlikely(!p))
        return mmu_read_slow(v, la, size, idx, seg);
    return guest_load(p, size);
}

static inline void mmu_write(struct vcpu *v, uint64_t la, unsigned size, uint64_t val, enum mmu_index idx, int seg)
{
    void *p = mmu_host_fast(v, la, size, MEM_W, idx);
    if (unlikely(!p)) {
        mmu_write_slow(v, la, size, val, idx, seg);
        return;
    }
    guest_store(p, size, val);
}

/* ---- ordinary data accesses of an instruction; size 1, 2, 4 or 8 ---- */
static inline uint64_t mem_read(struct vcpu *v, int seg, uint64_t off, unsigned size)
{
    return mmu_read(v, seg_linear(v, seg, off, size, MEM_R), size, v->mmu_idx, seg);
}
static inline void mem_write(struct vcpu *v, int seg, uint64_t off, unsigned size, uint64_t val)
{
    mmu_write(v, seg_linear(v, seg, off, size, MEM_W), size, val, v->mmu_idx, seg);
}

/*
 * The host address of a read-modify-write operand, for real atomics: non-NULL when all `size` bytes (1..16) are in one writable RAM page.
 * NULL: write permission has been checked for all bytes (a fault would have been raised), but the operand crosses pages, is MMIO, or is
 * misaligned where that is a fault; use mem_read, then mem_write, and for LOCK bracket them with vm_exclusive_begin/end (vm.h).
 */
static inline void *mem_rmw(struct vcpu *v, int seg, uint64_t off, unsigned size)
{
    uint64_t la = seg_linear(v, seg, off, size, MEM_W);
    void *p = mmu_host_fast(v, la, size, MEM_W, v->mmu_idx);
    if (likely(p != NULL))
        return p;
    if (v->mmu_idx == MMU_USER_AC && (la & (size - 1)))
        return NULL; /* mem_read raises #AC */
    if ((la & (PAGE_SIZE - 1)) + size <= PAGE_SIZE)
        return mmu_host_slow(v, la, MEM_W, v->mmu_idx, seg);
    mmu_probe(v, la, size, MEM_W, v->mmu_idx, seg);
    return NULL;
}

/* Implicit supervisor accesses: descriptor tables, TSS, IDT, stacks of inner rings (linear addresses). */
static inline uint64_t sys_read(struct vcpu *v, uint64_t la, unsigned size)
{
    return mmu_read(v, la, size, MMU_KERNEL, SEG_DS);
}
static inline void sys_write(struct vcpu *v, uint64_t la, unsigned size, uint64_t val)
{
    mmu_write(v, la, size, val, MMU_KERNEL, SEG_DS);
}

/* ---- operands ---- */
/* Offset of the memory operand within its segment, truncated to the address size. */
static inline uint64_t insn_ea(const struct vcpu *v, const struct insn *i)
{
    uint64_t ea = (uint64_t)i->disp;
    if (i->base == REG_RIP)
        ea += v->rip + i->len;
    else if (i->base != REG_NONE)
        ea += v->gpr[i->base];
    if (i->index != REG_NONE)
        ea += v->gpr[i->index] << i->scale;
    return i->addrsize == 8 ? ea : i->addrsize == 4 ? (uint32_t)ea : (uint16_t)ea;
}

static inline uint64_t op_read(struct vcpu *v, const struct insn *i, unsigned n)
{
    const struct operand *o = &i->ops[n];
    switch (o->kind) {
    case OPK_GPR: return gpr_read(v, o->off, o->size);
    case OPK_MEM: return mem_read(v, i->seg, insn_ea(v, i), o->size);
    default: return i->imm;
    }
}
static inline void op_write(struct vcpu *v, const struct insn *i, unsigned n, uint64_t val)
{
    const struct operand *o = &i->ops[n];
    if (o->kind == OPK_GPR)
        gpr_write(v, o->off, o->size, val);
    else
        mem_write(v, i->seg, insn_ea(v, i), o->size, val);
}

/* ---- MMIO and ports (api/exits.c): answered by an in-kernel device, from io_log, or by an exit that unwinds ---- */
void cpu_mmio_read(struct vcpu *v, uint64_t gpa, void *data, unsigned size);        /* size 1..8, within one page */
void cpu_mmio_write(struct vcpu *v, uint64_t gpa, const void *data, unsigned size);
/* One IN or OUT of 1, 2 or 4 bytes; the caller has checked permission. */
uint32_t cpu_port_in(struct vcpu *v, uint16_t port, unsigned size);
void cpu_port_out(struct vcpu *v, uint16_t port, unsigned size, uint32_t val);

#endif
