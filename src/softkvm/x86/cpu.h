/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtual CPU: architectural state, and the rules by which the engine's parts share it.
 *
 * Invariants
 * - `struct vcpu` belongs to the thread that is inside KVM_RUN, or, between two runs, to the thread that holds `vcpu->lock`. Other
 *   threads touch `requests`, `irq` fields marked atomic, and nothing else.
 * - Guest state is precise at every instruction boundary: an instruction commits registers after the last step that can fault. A fault
 *   leaves through cpu_fault(), which unwinds to the run loop with all registers as they were before the instruction (`rip` too).
 *   `rip` points AT the executing instruction while it executes; the run loop adds insn->len after op_M returns, unless op_M set
 *   `v->rip_set` through cpu_jump().
 * - Guest x87/SSE/AVX state is either in `v->fpu.area` (fpu_live == false) or in the host's own registers (fpu_live == true). While it
 *   is live, only code compiled with -mgeneral-regs-only may run: everything in src/softkvm/x86/, and no libc. Call fpu_put(v) before
 *   calling anything else. tools/check-fpu-clean.sh checks the undefined symbols of these objects against a list.
 * - Derived fields (`code_mode`, `cpl`, `paging`, `mmu_idx`, ...) are functions of the architectural ones and are recomputed by cpu_update_mode()
 *   after any change of CR0, CR4, EFER, RFLAGS.VM/AC, CS or CPL.
 * - An instruction that needs user space (MMIO, port I/O) leaves through cpu_exit(); the next KVM_RUN executes it again from its start,
 *   and the accesses that user space has completed are answered from `v->io_log`. So each instruction sees each access once. The log is emptied
 *   when the instruction retires, each REP iteration counting as one. While the log holds entries nothing is injected.
 */
#ifndef LODGE_SOFTKVM_X86_CPU_H
#define LODGE_SOFTKVM_X86_CPU_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"
#include "softkvm/x86/bt.h"
#include "softkvm/x86/insn.h"

struct softkvm_vm;
struct lapic;

/* RFLAGS */
#define FL_CF   BIT64(0)
#define FL_ONE  BIT64(1)
#define FL_PF   BIT64(2)
#define FL_AF   BIT64(4)
#define FL_ZF   BIT64(6)
#define FL_SF   BIT64(7)
#define FL_TF   BIT64(8)
#define FL_IF   BIT64(9)
#define FL_DF   BIT64(10)
#define FL_OF   BIT64(11)
#define FL_IOPL (3ull << 12)
#define FL_NT   BIT64(14)
#define FL_RF   BIT64(16)
#define FL_VM   BIT64(17)
#define FL_AC   BIT64(18)
#define FL_VIF  BIT64(19)
#define FL_VIP  BIT64(20)
#define FL_ID   BIT64(21)
#define FL_ARITH (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

/* CR0, CR4, EFER */
#define CR0_PE BIT64(0)
#define CR0_MP BIT64(1)
#define CR0_EM BIT64(2)
#define CR0_TS BIT64(3)
#define CR0_ET BIT64(4)
#define CR0_NE BIT64(5)
#define CR0_WP BIT64(16)
#define CR0_AM BIT64(18)
#define CR0_NW BIT64(29)
#define CR0_CD BIT64(30)
#define CR0_PG BIT64(31)
#define CR4_VME        BIT64(0)
#define CR4_PVI        BIT64(1)
#define CR4_TSD        BIT64(2)
#define CR4_DE         BIT64(3)
#define CR4_PSE        BIT64(4)
#define CR4_PAE        BIT64(5)
#define CR4_MCE        BIT64(6)
#define CR4_PGE        BIT64(7)
#define CR4_PCE        BIT64(8)
#define CR4_OSFXSR     BIT64(9)
#define CR4_OSXMMEXCPT BIT64(10)
#define CR4_UMIP       BIT64(11)
#define CR4_LA57       BIT64(12)
#define CR4_VMXE       BIT64(13)
#define CR4_FSGSBASE   BIT64(16)
#define CR4_PCIDE      BIT64(17)
#define CR4_OSXSAVE    BIT64(18)
#define CR4_SMEP       BIT64(20)
#define CR4_SMAP       BIT64(21)
#define CR4_PKE        BIT64(22)
#define EFER_SCE BIT64(0)
#define EFER_LME BIT64(8)
#define EFER_LMA BIT64(10)
#define EFER_NX  BIT64(11)

/* Exceptions, SDM vol. 3, 6.15 */
enum vector { EXC_DE, EXC_DB, EXC_NMI, EXC_BP, EXC_OF, EXC_BR, EXC_UD, EXC_NM, EXC_DF, EXC_CSO, EXC_TS, EXC_NP, EXC_SS, EXC_GP, EXC_PF,
              EXC_MF = 16, EXC_AC, EXC_MC, EXC_XM };

/* A segment register with its hidden part. `attr` holds bits 8..23 of a descriptor's second dword, shifted right by 8:
 * type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15 (SDM vol. 3, 3.4.5). `limit` is in bytes, granularity applied. */
struct segment {
    uint64_t base;
    uint32_t limit;
    uint16_t sel;
    uint16_t attr;
    bool unusable; /* null selector */
    bool flat;     /* 64-bit rules do not need it; legacy: base 0, limit 4 GiB, readable and writable data: no checks needed */
};
#define SEG_TYPE(s) ((s)->attr & 15)
#define SEG_S       BIT(4)
#define SEG_DPL(s)  (((s)->attr >> 5) & 3)
#define SEG_P       BIT(7)
#define SEG_AVL     BIT(12)
#define SEG_L       BIT(13)
#define SEG_DB      BIT(14)
#define SEG_G       BIT(15)

struct desc_table {
    uint64_t base;
    uint16_t limit;
};

/* What the other threads ask of a vCPU; bits of vcpu->requests. The run loop looks at the word before every instruction. */
enum request {
    REQ_EXIT = 1 << 0,      /* leave KVM_RUN with EINTR (immediate_exit, a signal) */
    REQ_EVENT = 1 << 1,     /* look for interrupts, NMI, INIT, SIPI */
    REQ_TLB_FLUSH = 1 << 2, /* memslots changed or dirty logging began: drop the whole TLB */
    REQ_PAUSE = 1 << 3,     /* another thread wants all vCPUs at an instruction boundary (vm_pause_all) */
    REQ_STEP = 1 << 4,      /* TF, guest debug or breakpoints are active: the loop takes its slow lane */
    REQ_SHADOW = 1 << 5,    /* an interrupt shadow is to end after this instruction */
    REQ_TICK = 1 << 6,      /* periodic look at blocked signals (KVM_SET_SIGNAL_MASK) */
};

/* Software TLB, filled by mmu.c. Index: (linear address >> 12) & (TLB_SIZE - 1). */
#define TLB_SIZE 1024
enum mem_access { MEM_R, MEM_W, MEM_X };
/* KERNEL_AC: supervisor with CR4.SMAP and RFLAGS.AC set, so SMAP does not apply. USER_AC: CPL 3 with CR0.AM and RFLAGS.AC, so accesses must be
 * aligned; it is never filled, and every access takes the slow path that checks. */
enum mmu_index { MMU_KERNEL, MMU_USER, MMU_KERNEL_AC, MMU_USER_AC, MMU_COUNT };
#define TLB_LOG_MAX 1024
struct tlb_entry {
    uint64_t tag[3];  /* by enum mem_access: linear page address for which the access needs no check, or ~0 */
    uintptr_t addend; /* host address = linear address + addend */
};

/* A completed access of the instruction that is being restarted. */
struct io_record {
    uint64_t addr; /* GPA or port */
    uint8_t data[8];
    uint8_t size;
    bool write, port;
};
#define IO_LOG_MAX 512 /* XSAVE to MMIO in 8-byte pieces, with room */

/* XSAVE components that a guest can be given (bits of XCR0). */
#define XCR0_X87   BIT64(0)
#define XCR0_SSE   BIT64(1)
#define XCR0_AVX   BIT64(2)
#define XCR0_AVX512 (7ull << 5) /* opmasks, upper halves of ZMM0..15, ZMM16..31 */
#define XCR0_PKRU  BIT64(9)
#define FPU_AREA_SIZE 4096

/*
 * x87/SSE/AVX state in the host's standard-format XSAVE layout with 64-bit pointers (SDM vol. 1, 13.4). PKRU is kept in vcpu->pkru, never in
 * the host's register. Components whose XSTATE_BV bit is clear hold their initial values all the same.
 */
struct fpu {
    uint8_t area[FPU_AREA_SIZE] __attribute__((aligned(64)));
    bool live;
    /* x87 last-instruction pointers. Those in the host's registers are the stub's where a bit of `ptrs` is set; then these are the guest's,
     * and fpu_put() writes them into the area. */
    uint8_t ptrs; /* FPU_FIP, FPU_FDP, FPU_FOP: fpu.c */
    uint16_t fop;
    uint64_t fip, fdp;
    /* What translated code leaves of the last x87 instruction that it ran, for fpu_ptrs_noted() to look at: FPU_NOTE_* bits, 0 nothing new; the linear
     * address of its page; the linear address of the last memory operand, 0 none. */
    uint32_t note;
    uint64_t note_page, note_ea;
    struct fpu_host { /* the VMM's own control words while the guest's state is live */
        uint16_t fcw;
        uint32_t mxcsr;
    } host;
};

/* struct fpu's note: offset in the page in bits 0..11, FOP in 12..22 */
#define FPU_NOTE_FOP 12
#define FPU_NOTE_MEM BIT(30) /* the instruction has a memory operand */
#define FPU_NOTE     BIT(31)

struct msr_state { /* the MSRs that are plain storage or have no better home; msr.c owns their meaning */
    uint64_t tsc_aux, star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, misc_enable, spec_ctrl, debugctl, tsc_adjust, xss, feature_control, smbase, smi_count;
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_var[16];
    uint64_t mcg_status, mcg_ctl, mc_banks[32 * 4];
    uint64_t kvm_wall_clock, kvm_system_time, kvm_async_pf, kvm_async_pf_int, kvm_steal_time, kvm_pv_eoi, kvm_poll_control, kvm_migration;
    uint64_t perf_dummy[8];
    uint64_t arch_capabilities, platform_info, ucode_rev, power_ctl, mcg_cap, osvw[2], hwcr;
};

/* An event that waits for delivery, or whose delivery was interrupted; KVM_GET/SET_VCPU_EVENTS shows these. */
struct pending_events {
    bool exc_pending, exc_has_error;
    uint8_t exc_vector;
    uint32_t exc_error;
    bool irq_pending, irq_soft; /* an interrupt accepted from the irqchip or KVM_INTERRUPT, not yet delivered */
    uint8_t irq_vector;
    _Atomic unsigned nmi_pending; /* 0..2 */
    bool nmi_masked;
    bool nmi_injected;
    bool waiting; /* an event waits, or may wait, for a window: what opens one must have the API look again */
};

/* Counters are written by the vCPU's thread alone and read by others: no locked instruction is needed. */
#define STAT_ADD(v, counter, n)                                                                                                            \
    atomic_store_explicit(&(v)->stats.counter, atomic_load_explicit(&(v)->stats.counter, memory_order_relaxed) + (n), memory_order_relaxed)

/* 64-byte aligned so that the fields used by each instruction share few lines. */
struct vcpu {
    /* hot: general state */
    uint64_t gpr[16]; /* first: operand offsets are relative to it */
    uint64_t rip;
    uint64_t rflags; /* always complete; there are no lazy flags */
    _Atomic uint32_t requests;
    bool rip_set;     /* the executing instruction has set rip itself */
    uint8_t code_mode; /* enum code_mode */
    uint8_t cpl;
    uint8_t mmu_idx;    /* enum mmu_index for ordinary data accesses */
    bool long_mode;     /* EFER.LMA: 4-level paging and 64-bit system structures */
    bool paging;
    uint8_t int_shadow; /* KVM_X86_SHADOW_INT_STI / _MOV_SS while the next instruction is shielded */
    /* fetch window: host mapping of the page that rip is in; fetch_page == ~0 when invalid (every TLB flush, mode or CPL change) */
    uint64_t fetch_page;
    const uint8_t *fetch_host;

    struct segment seg[SEG_COUNT];
    struct desc_table gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, xcr0;
    uint64_t dr[8]; /* 4 and 5 unused */
    uint32_t pkru;
    uint16_t tlb_keys; /* protection keys of the pages that the TLB may hold; key 0 always */
    uint64_t apic_base; /* IA32_APIC_BASE */
    uint64_t pdptr[4];  /* PAE: loaded at CR3 writes (SDM vol. 3, 4.4.1) */
    struct msr_state msr;
    struct fpu fpu;
    struct pending_events ev;
    uint8_t debug_hits; /* data and I/O breakpoints that the executing instruction has hit: bits 0..3 of DR6 */
    bool tf_dropped;    /* the executing instruction was INT n, SYSCALL...: it has cleared TF, and no single-step trap follows it */
    bool watch_active; /* a data breakpoint of DR7 or of the debugger is armed: the MMU keeps those pages out of the TLB */

    /* unwinding: cpu_fault() and cpu_exit() end in longjmp to the loop */
    void *unwind[8]; /* see unwind.h */
    uint64_t insn_rip; /* rip of the executing instruction */
    struct {
        uint8_t vector;
        uint32_t error;
    } fault;           /* what cpu_fault() raised, until the run loop has delivered it */
    bool exclusive;    /* inside vm_exclusive_begin/end; the run loop ends it when the instruction unwinds */
    bool io_wait;      /* user space is completing io_log[io_done]; see exits.c */
    uint16_t io_done;  /* completed records */
    uint16_t io_next;  /* next record that the restarted instruction will consume */
    struct io_record io_log[IO_LOG_MAX];

    /* delivery in progress, for double and triple faults */
    int delivering; /* vector whose delivery is under way (EXC_NMI for all that is not an exception), -1 none */
    bool ext;       /* that event is external to the program: bit 0 of error codes raised meanwhile (SDM vol. 3, 6.13) */

    /* time */
    int64_t tsc_offset; /* guest TSC = host TSC + offset (scaling is not offered) */
    uint32_t tsc_khz;
    struct {
        uint64_t start, last; /* TSC of the first and the latest PAUSE of a loop */
    } spin;
    struct {
        uint64_t steal_due, steal_seen; /* ns: next look, and the thread's run delay at the last one */
        int steal_tid;
        bool enforce; /* KVM_CAP_ENFORCE_PV_FEATURE_CPUID */
        long steal_switches; /* context switches of the thread, at the begin of the last KVM_RUN */
    } pv;

    /* CPUID as set by KVM_SET_CPUID2, and what follows from it */
    struct kvm_cpuid_entry2 *cpuid;
    unsigned cpuid_count;
    uint8_t phys_bits;
    struct {
        bool nx, pcid, smep, smap, umip, pku, fsgsbase, pge, pse, pae, gbpages, xsave, rdtscp, invpcid, syscall, lm, x2apic, avx, avx2, mwait;
    } has;
    uint64_t guest_xcr0_mask; /* XCR0 bits that CPUID 0xD admits */

    struct tlb_entry tlb[MMU_COUNT][TLB_SIZE];
    uint16_t tlb_log[TLB_LOG_MAX]; /* entries that are filled, as index * TLB_SIZE + slot: a flush costs what was filled */
    unsigned tlb_log_count;        /* > TLB_LOG_MAX: too many to tell, flush all */
    uint64_t tlb_logged[MMU_COUNT * TLB_SIZE / 64]; /* is the entry in the log? */
    uint64_t tlb_global[MMU_COUNT * TLB_SIZE / 64]; /* does it survive a write of CR3? */
    uint64_t tlb_large;            /* Bloom filter of the 2 MiB regions that a large page filled entries of: INVLPG drops the whole page */
    bool tlb_giant;                /* a 1 GiB page filled entries */

    /* interpreter's decode cache (interp.c), allocated with the vCPU */
    struct insn_cache *icache;

    /* API side (api/) */
    struct softkvm_vm *vm;
    struct kvm_run *run;
    unsigned id;         /* APIC ID and vCPU id */
    struct lapic *lapic; /* NULL without an in-kernel one */
    _Atomic uint32_t mp_state;
    pthread_mutex_t lock; /* held throughout KVM_RUN and every vCPU ioctl */
    struct kvm_guest_debug guest_debug;
    struct vcpu_api *api; /* api/'s private part: signal mask, fds, wake-up futex */
    struct bt_cpu bt;
    struct direct_cpu *direct; /* user code that runs natively (softkvm/direct.h), NULL without */
    struct {
        _Atomic uint64_t insns, exits, io_exits, mmio_exits, irq_window_exits, debug_exits, signal_exits, irq_delivered, tlb_misses, tlb_flushes, decode_misses, halts, polls, polls_woken,
            pause_yields, direct_stops, direct_cycles, direct_flushes;
    } stats;
} __attribute__((aligned(64)));

/* ---- leaving an instruction (interp.c) ---- */

/* Raises an exception for the current instruction; never returns. For #DB use cpu_fault_db, for #PF mmu.c sets cr2. */
_Noreturn void cpu_fault(struct vcpu *v, enum vector vec, uint32_t error);
static inline _Noreturn void cpu_ud(struct vcpu *v)
{
    cpu_fault(v, EXC_UD, 0);
}
static inline _Noreturn void cpu_gp(struct vcpu *v, uint32_t error)
{
    cpu_fault(v, EXC_GP, error);
}

/* What the engine's loop returns with. */
enum cpu_stop {
    STOP_NONE,
    STOP_REQUEST,  /* vcpu->requests needs the API's attention */
    STOP_EXIT,     /* vcpu->run describes an exit for user space; run again to go on (or to restart the instruction) */
    STOP_HALT,     /* HLT retired; wait for an event, or KVM_EXIT_HLT without an in-kernel irqchip */
    STOP_TRIPLE,   /* triple fault: KVM_EXIT_SHUTDOWN */
};
/* Leaves the current instruction for user space; it will be restarted. Never returns. */
_Noreturn void cpu_exit(struct vcpu *v, enum cpu_stop stop);

/* Sets rip and marks it set. `rip` is checked by the caller. */
static inline void cpu_jump(struct vcpu *v, uint64_t rip)
{
    v->rip = rip;
    v->rip_set = true;
}

/* ---- derived state (seg.c) ---- */
bool cpu_set_xcr0(struct vcpu *v, uint64_t val); /* false: XSETBV and KVM_SET_XCRS refuse the value */
void cpu_update_mode(struct vcpu *v); /* recomputes code_mode, cpl-dependent fields; drops the fetch window. cpl itself is v->cpl */
void cpu_reset(struct vcpu *v, bool init); /* power-up (init=false) or INIT state, SDM vol. 3, table 9-1 */

static inline bool cpu_protected(const struct vcpu *v) /* protected mode and not virtual-8086 */
{
    return (v->cr0 & CR0_PE) && !(v->rflags & FL_VM);
}
static inline bool cpu_v86(const struct vcpu *v)
{
    return v->rflags & FL_VM;
}
static inline bool cpu_64bit(const struct vcpu *v)
{
    return v->code_mode == CODE64;
}
static inline unsigned cpu_iopl(const struct vcpu *v)
{
    return (v->rflags >> 12) & 3;
}
/* Canonical for 48-bit linear addresses. */
static inline bool is_canonical(uint64_t a)
{
    return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}
static inline void cpu_request(struct vcpu *v, uint32_t bits)
{
    atomic_fetch_or_explicit(&v->requests, bits, memory_order_release);
}

/* The run loop's test before every instruction: a request, or a signal handler of user space that has just set kvm_run->immediate_exit. */
static inline bool cpu_interrupted(const struct vcpu *v)
{
    return atomic_load_explicit(&v->requests, memory_order_relaxed) | __atomic_load_n(&v->run->immediate_exit, __ATOMIC_RELAXED);
}

/* ---- general registers ---- */
/* Reads `size` bytes of a register at byte offset `off`; zero-extended. */
static inline uint64_t gpr_read(const struct vcpu *v, unsigned off, unsigned size)
{
    const uint8_t *p = (const uint8_t *)v->gpr + off;
    switch (size) {
    case 1: return *p;
    case 2: return *(const uint16_t *)(const void *)p;
    case 4: return *(const uint32_t *)(const void *)p;
    default: return *(const uint64_t *)(const void *)p;
    }
}
/* Writes as hardware does: a 4-byte write clears the upper half, 1 and 2 bytes leave the rest. */
static inline void gpr_write(struct vcpu *v, unsigned off, unsigned size, uint64_t val)
{
    uint8_t *p = (uint8_t *)v->gpr + off;
    switch (size) {
    case 1: *p = (uint8_t)val; break;
    case 2: *(uint16_t *)(void *)p = (uint16_t)val; break;
    case 4: *(uint64_t *)(void *)p = (uint32_t)val; break;
    default: *(uint64_t *)(void *)p = val; break;
    }
}

/* ---- the interpreter (interp.c) ---- */
/* Runs until something stops it. Delivers exceptions itself. The caller holds v->lock. */
enum cpu_stop cpu_run(struct vcpu *v);
/* Executes exactly one instruction, or delivers the one exception that it raises; for tests and for single step. */
enum cpu_stop cpu_step(struct vcpu *v);
int interp_init(struct vcpu *v); /* allocates the decode cache: 0 or -ENOMEM */
void interp_free(struct vcpu *v);

/* ---- events (event.c) ---- */
enum event_kind { EV_EXT_INT, EV_NMI, EV_SOFT_INT /* INT n */, EV_SOFT_EXC /* INT3, INTO */, EV_PRIV_SOFT /* INT1 */, EV_HW_EXC };
/* Delivers an event through the IDT or IVT in the current mode. On a fault during delivery it raises by the rules of double and triple fault
 * (SDM vol. 3, table 6-5) and may so leave through the unwinder with STOP_TRIPLE. For EV_SOFT_* `rip` must still point at the instruction;
 * `next_rip` is pushed as return address for soft events and traps. */
void event_deliver(struct vcpu *v, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error, uint64_t next_rip);
/* Runs event_deliver() outside an instruction, with its own unwinding: STOP_NONE, STOP_EXIT (a stack in MMIO), or STOP_TRIPLE. */
enum cpu_stop event_inject(struct vcpu *v, enum event_kind kind, uint8_t vector, bool has_error, uint32_t error);
/* Forgets a delivery that has left for user space: it starts afresh. */
static inline void event_abandon(struct vcpu *v)
{
    v->delivering = -1;
    v->ext = false;
}
/* IF was set, or a shadow has ended. */
static inline void event_window_opened(struct vcpu *v)
{
    if (v->ev.waiting)
        cpu_request(v, REQ_EVENT);
}
/* Can an external interrupt / an NMI be delivered at this boundary? */
static inline bool event_intr_open(const struct vcpu *v)
{
    return (v->rflags & FL_IF) && !v->int_shadow && !v->ev.exc_pending && !v->ev.irq_pending && !v->ev.nmi_injected && !v->io_done && !v->io_wait;
}
static inline bool event_nmi_open(const struct vcpu *v)
{
    return !v->ev.nmi_masked && !v->int_shadow && !v->ev.exc_pending && !v->ev.irq_pending && !v->ev.nmi_injected && !v->io_done && !v->io_wait;
}

/* ---- segments (seg.c), far transfers (far.c), task switch (task.c) ---- */
/* MOV/POP Sreg, LDS..., in every mode; raises the faults of SDM vol. 2 MOV. */
void seg_load(struct vcpu *v, enum seg_reg seg, uint16_t sel);
void seg_set_real(struct vcpu *v, enum seg_reg seg, uint16_t sel); /* real and virtual-8086 mode semantics */
/* Fills `flat` and hides nothing else; call after writing a struct segment directly. */
void seg_fixup(struct vcpu *v, enum seg_reg seg);
enum task_reason { TASK_JMP, TASK_CALL, TASK_IRET, TASK_GATE };
void task_switch(struct vcpu *v, uint16_t tss_sel, enum task_reason why, bool has_error, uint32_t error, uint64_t next_rip);

/* ---- FPU (native.c, fpu.c) ---- */
void fpu_get(struct vcpu *v); /* area -> host registers, sets live; saves the VMM's own x87/MXCSR control state */
void fpu_put(struct vcpu *v); /* host registers -> area, restores the VMM's control state; no-op when not live */
void fpu_reset(struct vcpu *v, bool init);
/* Executes a NATIVE row on the host's own units, with all checks (#NM, #UD by CR0/CR4/XCR0, alignment, #XM, #MF). */
void native_exec(struct vcpu *v, const struct insn *i);
int native_init(void); /* code memory and the SIGFPE handler; once per process; 0 or -errno */

/* ---- system registers (sys.c, msr.c, cpuid.c, pv.c) ---- */
void cr0_write(struct vcpu *v, uint64_t val); /* with all checks and side effects; raise #GP(0) */
void cr3_write(struct vcpu *v, uint64_t val);
void cr4_write(struct vcpu *v, uint64_t val);
uint64_t cr8_read(struct vcpu *v);
void cr8_write(struct vcpu *v, uint64_t val);
/* MSRs: return 0, or -1 when the guest gets #GP(0). `host` = through KVM_SET_MSRS/KVM_GET_MSRS, which may write what a guest may not. */
int msr_read(struct vcpu *v, uint32_t index, uint64_t *val, bool host);
int msr_write(struct vcpu *v, uint32_t index, uint64_t val, bool host);
void msr_set_tsc_offset(struct vcpu *v, int64_t offset); /* guest TSC = host TSC + offset */
void msr_reset(struct vcpu *v); /* power-up values; the caller calls it at creation (INIT leaves MSRs alone, SDM vol. 3, table 9-1) */
extern const uint32_t msr_list[];     /* KVM_GET_MSR_INDEX_LIST */
extern const unsigned msr_list_count;
extern const uint32_t msr_feature_list[]; /* KVM_GET_MSR_FEATURE_INDEX_LIST */
extern const unsigned msr_feature_list_count;
int msr_feature_read(uint32_t index, uint64_t *val); /* KVM_GET_MSRS on the system descriptor: 0, or -1 */
/* Executes CPUID for (leaf, subleaf) on the vCPU's table, dynamic bits (OSXSAVE, APIC enable, XSAVE size) patched in. */
void cpuid_query(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4] /* eax ebx ecx edx */);
/* An entry's registers with what the vCPU's state decides of them: OSXSAVE, OSPKE, the APIC, the size of the XSAVE area. */
void cpuid_patch(const struct vcpu *v, struct kvm_cpuid_entry2 *e);
/* Fills `entries` (room for *count) with what softkvm can give on this host; sets *count. Returns 0 or -E2BIG. */
int cpuid_supported(struct kvm_cpuid_entry2 *entries, unsigned *count);
/* Takes a table (copied); sets v->has and v->guest_xcr0_mask. 0 or -ENOMEM/-EINVAL. */
int cpuid_set(struct vcpu *v, const struct kvm_cpuid_entry2 *entries, unsigned count);
uint64_t guest_tsc(const struct vcpu *v);
uint64_t host_tsc_khz(void); /* measured or from CPUID 0x15/0x16, cached */

/* The two entries of a linear page, [MEM_R] and [MEM_W], in a table that stands in for the TLB (bt.h). Only with bt.on. */
#define BT_USER_TABLE ALIGN_UP(sizeof(struct vcpu), (size_t)PAGE_SIZE) /* from struct vcpu */
static inline uint64_t *bt_entry(const struct bt_cpu *c, unsigned ring, uint64_t page)
{
    uintptr_t table = (uintptr_t)c->self + (ring == BT_USER ? BT_USER_TABLE : -BT_TABLE_BYTES);
    return (uint64_t *)(table + 16 * page);
}

#endif
