/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interrupt controllers that KVM has in the kernel: a LAPIC per vCPU, the IOAPIC, two PICs, the PIT, and the GSI routing between them.
 *
 * Invariants
 * - The IOAPIC, PICs, PIT and routes are guarded by irqchip->lock. A LAPIC's IRR may be set from any thread (atomically, then
 *   vcpu_kick(v, REQ_EVENT)); every other LAPIC register is touched only by its own vCPU's thread or under its vcpu->lock.
 * - Interrupts go one way: line or MSI -> route -> (PIC | IOAPIC | MSI) -> LAPIC -> vcpu. EOI goes back the same way.
 * - Timers (LAPIC, PIT) run on one timer thread per VM, on CLOCK_MONOTONIC deadlines.
 */
#ifndef LODGE_SOFTKVM_IRQCHIP_H
#define LODGE_SOFTKVM_IRQCHIP_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

struct softkvm_vm;
struct vcpu;
struct irqchip;
struct lapic;

#define IRQ_MAX_GSI 4096

/* Whole-chip: created once by KVM_CREATE_IRQCHIP (split=false) or KVM_CAP_SPLIT_IRQCHIP (split=true: LAPICs only, MSI routes; `pins` GSIs
 * whose EOIs are reported to user space). 0 or -errno. */
int irqchip_create(struct softkvm_vm *vm, bool split, unsigned pins);
void irqchip_stop(struct softkvm_vm *vm);    /* from now on nothing happens by itself: before the LAPICs are destroyed */
void irqchip_destroy(struct softkvm_vm *vm); /* after them */
int irqchip_get(struct softkvm_vm *vm, struct kvm_irqchip *c);       /* KVM_GET_IRQCHIP */
int irqchip_set(struct softkvm_vm *vm, const struct kvm_irqchip *c); /* restored state is untrusted: everything is masked to what exists */
int irqchip_set_routes(struct softkvm_vm *vm, const struct kvm_irq_routing_entry *e, unsigned n);
/* Raises or lowers a GSI for one of many sources (`source` 0 = KVM_IRQ_LINE, others from irqchip_source_alloc; a line is high while any source is).
 * Returns 1 delivered, 0 coalesced, -1 ignored (masked), as KVM_IRQ_LINE_STATUS reports. */
int irqchip_set_gsi(struct softkvm_vm *vm, unsigned source, unsigned gsi, bool level);
int irqchip_source_alloc(struct softkvm_vm *vm);
void irqchip_source_free(struct softkvm_vm *vm, int source);
/* 1 delivered, 0 blocked by the guest, -errno: KVM_SIGNAL_MSI. */
int irqchip_signal_msi(struct softkvm_vm *vm, uint64_t addr, uint32_t data);
/* `fn` is called (with no lock held) when the guest ends a level interrupt on this GSI: resampling irqfds. */
int irqchip_add_ack_notifier(struct softkvm_vm *vm, unsigned gsi, void (*fn)(void *opaque), void *opaque);
void irqchip_del_ack_notifier(struct softkvm_vm *vm, unsigned gsi, void (*fn)(void *opaque), void *opaque);

int pit_create(struct softkvm_vm *vm, uint32_t flags);
int pit_get(struct softkvm_vm *vm, struct kvm_pit_state2 *s);
int pit_set(struct softkvm_vm *vm, const struct kvm_pit_state2 *s);
int pit_reinject(struct softkvm_vm *vm, bool reinject);

/* Guest accesses. True when the chip owns the address. Called on the vCPU's thread, FPU put. */
bool irqchip_port_in(struct vcpu *v, uint16_t port, unsigned size, uint32_t *val);
bool irqchip_port_out(struct vcpu *v, uint16_t port, unsigned size, uint32_t val);
bool irqchip_mmio_read(struct vcpu *v, uint64_t gpa, void *data, unsigned size); /* LAPIC page (by apic_base) and IOAPIC */
bool irqchip_mmio_write(struct vcpu *v, uint64_t gpa, const void *data, unsigned size);

/* LAPIC of a vCPU. */
int lapic_create(struct vcpu *v);
void lapic_destroy(struct vcpu *v);
void lapic_reset(struct vcpu *v, bool init);
int lapic_get(struct vcpu *v, struct kvm_lapic_state *s);       /* KVM_GET_LAPIC, with APIC ID format by mode */
int lapic_set(struct vcpu *v, const struct kvm_lapic_state *s);
int lapic_set_base(struct vcpu *v, uint64_t base, bool host);   /* IA32_APIC_BASE: 0, or -1 for #GP */
int lapic_msr_read(struct vcpu *v, uint32_t index, uint64_t *val);  /* x2APIC MSRs 0x800..0x8ff: 0 or -1 for #GP */
int lapic_msr_write(struct vcpu *v, uint32_t index, uint64_t val);
uint64_t lapic_tsc_deadline_get(struct vcpu *v);
void lapic_tsc_deadline_set(struct vcpu *v, uint64_t tsc);
uint64_t lapic_tpr_get(struct vcpu *v); /* CR8: 0..15 */
void lapic_tpr_set(struct vcpu *v, uint64_t cr8);
/* Is there an interrupt that the LAPIC (or the PIC through LINT0/ExtINT) would deliver now? */
bool lapic_has_interrupt(struct vcpu *v);
/* Would an ExtINT (of user space's PIC, with a split irqchip) pass LINT0? True without a LAPIC and with a disabled one. */
bool lapic_accept_pic(struct vcpu *v);
/* Takes it: moves IRR to ISR (or acknowledges the PIC) and returns the vector; -1 when it went away. */
int lapic_take_interrupt(struct vcpu *v);
/* Latched INIT / SIPI: run.c asks when REQ_EVENT is set. Returns true and the vector when a SIPI is there. */
bool lapic_take_init(struct vcpu *v);
bool lapic_take_sipi(struct vcpu *v, uint8_t *vector);
/* KVM_HC_KICK_CPU: ends the vCPU's HLT, whatever RFLAGS.IF says, or its next HLT if it is not halted. True once for each such kick. */
bool lapic_take_unhalt(struct vcpu *v);
void lapic_pv_kick(struct softkvm_vm *vm, uint32_t apic_id);
void lapic_nmi(struct vcpu *v); /* KVM_NMI and NMI messages: counts in v->ev.nmi_pending, kicks */
/* Next LAPIC timer deadline is handled by the timer thread; nothing to poll. */
/* Split irqchip: vector whose EOI user space must see (kvm_run.eoi.vector of KVM_EXIT_IOAPIC_EOI), or -1; cleared by the call. REQ_EVENT is
 * set when there is one. */
int lapic_take_eoi_exit(struct vcpu *v);
/* PV send-IPI hypercall (KVM_HC_SEND_IPI): number of vCPUs, or -KVM_E*. */
long lapic_pv_ipi(struct vcpu *v, uint64_t low, uint64_t high, uint32_t min, uint32_t icr, bool op64);
/* PV EOI: called before entering the guest and after, brings the shared word and the LAPIC into line. The LAPIC's own functions do so where they need it. */
void lapic_pv_eoi_sync(struct vcpu *v);
int lapic_pv_eoi_set(struct vcpu *v, uint64_t val); /* MSR_KVM_PV_EOI_EN: 0, or -1 for #GP */
/* The word of KVM_SET_VAPIC_ADDR: the guest has the LAPIC's priorities in it before it is entered, and its TPR is taken from there after. */
int lapic_vapic_set(struct vcpu *v, uint64_t gpa); /* 0: none. Returns 0 or -EINVAL */
void lapic_vapic_to_guest(struct vcpu *v);
void lapic_vapic_from_guest(struct vcpu *v);

/* ---- PV (pv.c) ---- */
/* KVM_HC_*; op64: called from 64-bit code. Returns the value for RAX; may leave through cpu_exit() for KVM_EXIT_HYPERCALL. */
uint64_t pv_hypercall(struct vcpu *v, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, bool op64);
int pv_msr_read(struct vcpu *v, uint32_t index, uint64_t *val, bool host);   /* 0x11, 0x12, 0x4b564d00.. */
int pv_msr_write(struct vcpu *v, uint32_t index, uint64_t val, bool host);
void pv_run_begins(struct vcpu *v); /* KVM_RUN: a guest sees by its steal time's version that the vCPU was away */
void pv_before_run(struct vcpu *v); /* refresh kvmclock page and steal time when due */
/* A new VM's clock starts with pv_clock_set() of a zeroed structure. */
int pv_clock_get(struct softkvm_vm *vm, struct kvm_clock_data *c);
int pv_clock_paused(struct vcpu *v); /* KVM_KVMCLOCK_CTRL: tells the guest that it has been stopped. 0, or -EINVAL without kvmclock */
int pv_clock_set(struct softkvm_vm *vm, const struct kvm_clock_data *c);

#endif
