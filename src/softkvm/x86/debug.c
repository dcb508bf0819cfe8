// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Debug registers, single step, and a debugger outside the guest (KVM_SET_GUEST_DEBUG). SDM vol. 3, chapter 18.
 *
 * While a debugger uses hardware breakpoints, its registers take the place of the guest's, as with KVM. A debugger that steps or
 * uses hardware breakpoints also sees every #DB first, and gives it back with KVM_GUESTDBG_INJECT_DB when it is the guest's own.
 */
#include "softkvm/x86/debug.h"
#include "softkvm/x86/mem.h"

enum dr7_rw { DR7_X, DR7_W, DR7_IO, DR7_RW };

struct breakpoint {
    uint64_t addr;
    uint64_t last;
    unsigned rw; /* enum dr7_rw */
};

static bool outside_uses(const struct vcpu *v, uint32_t control)
{
    return (v->guest_debug.control & KVM_GUESTDBG_ENABLE) && (v->guest_debug.control & control);
}

/* The registers that are in force: the debugger's or the guest's. */
static uint64_t effective_dr(const struct vcpu *v, unsigned n)
{
    return outside_uses(v, KVM_GUESTDBG_USE_HW_BP) ? v->guest_debug.arch.debugreg[n] : v->dr[n];
}

uint64_t debug_dr7(const struct vcpu *v)
{
    return effective_dr(v, 7);
}

/* Breakpoint n, or false when it is not enabled. SDM vol. 3, 18.2.4 and 18.2.5: the address is aligned to the length. */
static bool breakpoint(const struct vcpu *v, unsigned n, struct breakpoint *b)
{
    static const uint8_t lengths[] = {1, 2, 8, 4};
    uint64_t dr7 = effective_dr(v, 7);
    if (!(dr7 >> (2 * n) & 3))
        return false;
    unsigned len = lengths[dr7 >> (18 + 4 * n) & 3];
    b->rw = dr7 >> (16 + 4 * n) & 3;
    b->addr = effective_dr(v, n) & ~(uint64_t)(len - 1);
    b->last = b->addr + len - 1;
    return true;
}

void debug_update(struct vcpu *v)
{
    bool watch = false;
    bool step = (v->rflags & FL_TF) || outside_uses(v, KVM_GUESTDBG_SINGLESTEP) || (effective_dr(v, 7) & DR7_ENABLE);
    for (unsigned n = 0; n < 4; n++) {
        struct breakpoint b;
        watch |= breakpoint(v, n, &b) && (b.rw == DR7_W || b.rw == DR7_RW);
    }
    if (watch && !v->watch_active)
        mmu_flush_all(v);
    v->watch_active = watch;
    if (step)
        cpu_request(v, REQ_STEP);
    else
        atomic_fetch_and_explicit(&v->requests, ~(uint32_t)REQ_STEP, memory_order_relaxed);
}

/* Describes a stop for the debugger. */
static void describe_exit(struct vcpu *v, unsigned exception, uint64_t dr6_bits)
{
    struct kvm_debug_exit_arch *arch = &v->run->debug.arch;
    v->run->exit_reason = KVM_EXIT_DEBUG;
    arch->exception = exception;
    arch->pad = 0;
    arch->pc = (cpu_64bit(v) ? 0 : v->seg[SEG_CS].base) + v->rip;
    arch->dr6 = dr6_bits | DR6_FIXED;
    arch->dr7 = effective_dr(v, 7) | DR7_FIXED;
}

/* B0-B3 tell this exception's breakpoints alone; BD, BS and BT stay until software clears them. */
static void record_dr6(struct vcpu *v, uint64_t bits)
{
    v->dr[6] = (v->dr[6] & ~DR6_HITS) | bits;
    v->dr[7] &= ~DR7_GD;
}

_Noreturn void cpu_fault_db(struct vcpu *v, uint64_t dr6_bits)
{
    v->debug_hits = 0;
    if (outside_uses(v, KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP)) {
        describe_exit(v, EXC_DB, dr6_bits);
        cpu_exit(v, STOP_EXIT);
    }
    record_dr6(v, dr6_bits);
    cpu_fault(v, EXC_DB, 0);
}

bool debug_before_insn(struct vcpu *v)
{
    uint64_t pc = (cpu_64bit(v) ? 0 : v->seg[SEG_CS].base) + v->rip, hits = 0;
    for (unsigned n = 0; n < 4; n++) {
        struct breakpoint b;
        if (breakpoint(v, n, &b) && b.rw == DR7_X && b.addr == pc)
            hits |= BIT64(n);
    }
    v->debug_hits = 0;
    if (!hits)
        return false;
    if (outside_uses(v, KVM_GUESTDBG_USE_HW_BP)) {
        describe_exit(v, EXC_DB, hits);
        return true;
    }
    cpu_fault_db(v, hits);
}

bool debug_after_insn(struct vcpu *v, bool tf)
{
    uint64_t bits = v->debug_hits | (tf && !v->tf_dropped ? DR6_BS : 0);
    v->debug_hits = 0;
    v->tf_dropped = false;
    if (outside_uses(v, KVM_GUESTDBG_SINGLESTEP)) {
        describe_exit(v, EXC_DB, bits | DR6_BS);
        return true;
    }
    if (bits && outside_uses(v, KVM_GUESTDBG_USE_HW_BP)) {
        describe_exit(v, EXC_DB, bits);
        return true;
    }
    if (bits) {
        record_dr6(v, bits);
        event_deliver(v, EV_HW_EXC, EXC_DB, false, 0, v->rip);
    }
    debug_update(v);
    return false;
}

static void mark_hits(struct vcpu *v, uint64_t first, uint64_t last, unsigned kinds)
{
    for (unsigned n = 0; n < 4; n++) {
        struct breakpoint b;
        if (breakpoint(v, n, &b) && (kinds & BIT(b.rw)) && first <= b.last && last >= b.addr)
            v->debug_hits |= BIT(n);
    }
}

void debug_data_access(struct vcpu *v, uint64_t la, unsigned size, bool write)
{
    mark_hits(v, la, la + size - 1, write ? BIT(DR7_W) | BIT(DR7_RW) : BIT(DR7_RW));
}

void debug_io_access(struct vcpu *v, uint16_t port, unsigned size)
{
    if ((v->cr4 & CR4_DE) && (effective_dr(v, 7) & DR7_ENABLE))
        mark_hits(v, port, port + size - 1, BIT(DR7_IO));
}

void debug_int3(struct vcpu *v)
{
    if (!outside_uses(v, KVM_GUESTDBG_USE_SW_BP))
        return;
    describe_exit(v, EXC_BP, 0);
    cpu_exit(v, STOP_EXIT);
}

void dr_write(struct vcpu *v, unsigned n, uint64_t val)
{
    if (n == 6)
        val = (val & DR6_VALID) | DR6_FIXED;
    else if (n == 7)
        val = (val & DR7_VALID) | DR7_FIXED;
    v->dr[n] = val;
    debug_update(v);
}
