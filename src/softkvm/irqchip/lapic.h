/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A LAPIC's inside, for lapic*.c.
 *
 * Whose field is whose
 * - `reg` is the register page, one word for each 16-byte slot. The owner (the vCPU's thread, or whoever holds vcpu->lock) writes it. Other threads
 *   read the words that decide about delivery (ID, LDR, DFR, SVR, LVT) with relaxed loads; IRR and TMR they also set, atomically, IRR
 *   last and with release, so that who sees the request sees its trigger mode.
 * - `mode`, written by the owner, is IA32_APIC_BASE's EN and EXTD as the senders see them.
 * - `latch` and `esr_pending` are set by anyone and taken by the owner.
 * - The timer's fields are written by the owner after timer_cancel(wait) and before timer_arm(), and by the timer's callback; so they need
 *   no lock. `timer_running` and `tsc_deadline` are also read by the owner while the timer is armed, hence atomic.
 * - The rest is the owner's.
 */
#ifndef LODGE_SOFTKVM_IRQCHIP_LAPIC_H
#define LODGE_SOFTKVM_IRQCHIP_LAPIC_H

#include "softkvm/irqchip/irqchip_priv.h"
#include "softkvm/x86/cpu.h"

/* Register numbers: offset in the xAPIC page / 16, and x2APIC MSR - 0x800. SDM vol. 3, tables 10-1 and 10-6. */
enum lapic_reg {
    LR_ID = 0x02, LR_VERSION = 0x03, LR_TPR = 0x08, LR_APR = 0x09, LR_PPR = 0x0a, LR_EOI = 0x0b, LR_RRD = 0x0c, LR_LDR = 0x0d, LR_DFR = 0x0e,
    LR_SVR = 0x0f, LR_ISR = 0x10, LR_TMR = 0x18, LR_IRR = 0x20, LR_ESR = 0x28, LR_CMCI = 0x2f, LR_ICR = 0x30, LR_ICR2 = 0x31, LR_LVTT = 0x32,
    LR_THERMAL = 0x33, LR_PERF = 0x34, LR_LINT0 = 0x35, LR_LINT1 = 0x36, LR_ERROR = 0x37, LR_TMICT = 0x38, LR_TMCCT = 0x39, LR_TDCR = 0x3e,
    LR_SELF_IPI = 0x3f, LR_COUNT = 0x40
};

#define SVR_ENABLE       BIT(8)
#define SVR_DIRECTED_EOI BIT(12)
#define LVT_MASKED       BIT(16)
#define LVT_MODE(x)      (((x) >> 8) & 7)
#define LVTT_MODE(x)     (((x) >> 17) & 3)
enum { LVTT_ONESHOT, LVTT_PERIODIC, LVTT_DEADLINE };

#define ESR_SEND_ILLEGAL     BIT(5)
#define ESR_RECEIVE_ILLEGAL  BIT(6)
#define ESR_ILLEGAL_REGISTER BIT(7)

#define APIC_BASE_BSP     BIT64(8)
#define APIC_BASE_EXTD    BIT64(10)
#define APIC_BASE_EN      BIT64(11)
#define APIC_BASE_DEFAULT 0xfee00000ull

enum lapic_mode { LAPIC_OFF, LAPIC_XAPIC, LAPIC_X2APIC };

/* latch: SIPI's vector is in bits 8..15. */
#define LATCH_INIT   BIT(0)
#define LATCH_SIPI   BIT(1)
#define LATCH_UNHALT BIT(2) /* KVM_HC_KICK_CPU */

#define APIC_BUS_HZ 1000000000u /* the timer's clock before its divider: KVM's 1 GHz, so a tick is 1 ns */

struct lapic {
    struct vcpu *v;
    struct irqchip *chip;
    _Atomic uint32_t reg[LR_COUNT];
    _Atomic uint8_t mode; /* enum lapic_mode */
    _Atomic uint32_t latch;
    _Atomic uint32_t esr_pending;
    int eoi_exit; /* vector for KVM_EXIT_IOAPIC_EOI, -1 none */
    bool pv_eoi_offered; /* the guest may end the interrupt in service by clearing its PV EOI bit */
    uint64_t vapic;      /* GPA of KVM_SET_VAPIC_ADDR's word, 0 none */

    struct vm_timer timer;
    uint64_t first_ns;  /* when the count reaches zero for the first time */
    uint64_t period_ns; /* of periodic mode: initial count times divider */
    uint64_t ticks;     /* periods since first_ns, for a grid without drift */
    uint64_t host_deadline; /* TSC-deadline mode: in host TSC */
    _Atomic bool timer_running;
    _Atomic uint64_t tsc_deadline; /* IA32_TSC_DEADLINE, 0 when not armed */
};

static inline uint32_t lapic_reg(const struct lapic *l, unsigned r)
{
    return atomic_load_explicit(&l->reg[r], memory_order_relaxed);
}
static inline void lapic_reg_set(struct lapic *l, unsigned r, uint32_t val)
{
    atomic_store_explicit(&l->reg[r], val, memory_order_relaxed);
}
static inline enum lapic_mode lapic_mode(const struct lapic *l)
{
    return atomic_load_explicit(&l->mode, memory_order_acquire);
}
/* Vector bitmaps: `bank` is LR_ISR, LR_TMR or LR_IRR. */
static inline bool lapic_bit(const struct lapic *l, unsigned bank, uint8_t vector)
{
    return lapic_reg(l, bank + vector / 32) >> (vector % 32) & 1;
}
static inline bool lapic_bit_set(struct lapic *l, unsigned bank, uint8_t vector)
{
    return atomic_fetch_or_explicit(&l->reg[bank + vector / 32], BIT(vector % 32), memory_order_acq_rel) >> (vector % 32) & 1;
}
static inline void lapic_bit_clear(struct lapic *l, unsigned bank, uint8_t vector)
{
    atomic_fetch_and_explicit(&l->reg[bank + vector / 32], ~BIT(vector % 32), memory_order_acq_rel);
}
/* The x2APIC's logical ID, which follows from its ID: SDM vol. 3, 10.12.10.2. */
static inline uint32_t x2apic_ldr(uint32_t id)
{
    return (id >> 4) << 16 | BIT(id & 15);
}

/* ---- lapic.c ---- */
/* An access to the xAPIC page, of 1 to 8 bytes; 32-bit ones at multiples of 16 reach registers. Owner. */
void lapic_mmio_read(struct lapic *l, unsigned offset, void *data, unsigned size);
void lapic_mmio_write(struct lapic *l, unsigned offset, const void *data, unsigned size);
/* Signals an LVT entry (LR_LVTT, LR_ERROR, ...) by its delivery mode. Any thread. */
void lapic_local(struct lapic *l, unsigned lvt);
/* LINT0 passes the PIC's output on, or there is no LAPIC in the way. Any thread. */
bool lapic_takes_extint(const struct lapic *l);
void lapic_error(struct lapic *l, uint32_t esr_bits); /* any thread */
/* ---- lapic_msg.c ---- */
/* Puts a fixed interrupt into IRR and kicks; any thread. */
bool lapic_accept(struct lapic *l, uint8_t vector, bool level);
void lapic_send_icr(struct lapic *l, uint32_t icr, uint32_t dest); /* owner */
/* ---- lapic_timer.c; owner ---- */
int lapic_timer_init(struct lapic *l);
void lapic_timer_stop(struct lapic *l);
void lapic_timer_start(struct lapic *l, uint32_t count); /* from TMICT, TDCR and LVTT; `count` ticks to the first zero */
uint32_t lapic_timer_count(const struct lapic *l);       /* TMCCT */
void lapic_timer_set_divider(struct lapic *l, uint32_t tdcr);

#endif
