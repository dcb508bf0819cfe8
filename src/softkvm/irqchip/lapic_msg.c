/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupt messages: who is addressed (SDM vol. 3, 10.6.2 and 10.12.10), and what a message does at its destination.
 *
 * A sender looks at the destinations' ID, LDR, DFR, SVR and mode without a lock. It may see a register while its owner changes it; on hardware
 * such a message races with the change just the same.
 */
#include <errno.h>
#include <linux/kvm_para.h>

#include "softkvm/irqchip/lapic.h"

#define XAPIC_BROADCAST  0xffu
#define X2APIC_BROADCAST 0xffffffffu

/* ---- addressing ---- */

static bool match_x2apic(const struct lapic *l, const struct apic_msg *m)
{
    /* An IOAPIC or a plain MSI cannot say 0xffffffff, so its 0xff means all; unless user space says that it is an ordinary ID
     * (KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK). */
    bool quirk = !m->ipi && !(l->v->vm->x2apic_api & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
    if (m->dest == X2APIC_BROADCAST || (quirk && m->dest == XAPIC_BROADCAST))
        return true;
    if (!m->logical)
        return m->dest == l->v->id;
    uint32_t ldr = x2apic_ldr(l->v->id);
    return ldr >> 16 == m->dest >> 16 && (ldr & m->dest & 0xffff);
}

static bool match_xapic(const struct lapic *l, const struct apic_msg *m)
{
    if (m->dest == XAPIC_BROADCAST)
        return true;
    if (!m->logical) /* an ID beyond 8 bits reaches a CPU that has not entered x2APIC mode yet, as with KVM */
        return m->dest == (m->dest > 0xff ? l->v->id : lapic_reg(l, LR_ID) >> 24);
    uint32_t id = lapic_reg(l, LR_LDR) >> 24, dest = m->dest & 0xff;
    switch (lapic_reg(l, LR_DFR) >> 28) {
    case 0xf: return id & dest; /* flat */
    case 0x0: return id >> 4 == dest >> 4 && (id & dest & 0xf); /* cluster */
    default: return false;
    }
}

static bool match(const struct lapic *l, const struct vcpu *from, const struct apic_msg *m)
{
    enum lapic_mode mode = lapic_mode(l);
    if (mode == LAPIC_OFF)
        return false;
    switch (m->shorthand) {
    case APIC_TO_SELF: return l->v == from;
    case APIC_TO_ALL: return true;
    case APIC_TO_OTHERS: return l->v != from;
    default: return mode == LAPIC_X2APIC ? match_x2apic(l, m) : match_xapic(l, m);
    }
}

static struct lapic *lapic_of(struct softkvm_vm *vm, unsigned index)
{
    struct vcpu *v = atomic_load_explicit(&vm->vcpus[index], memory_order_acquire);
    return v ? v->lapic : NULL;
}

static unsigned vcpu_count(struct softkvm_vm *vm)
{
    unsigned n = atomic_load_explicit(&vm->nvcpus, memory_order_acquire);
    return MIN(n, SOFTKVM_MAX_VCPUS);
}

/* ---- arrival ---- */

bool lapic_accept(struct lapic *l, uint8_t vector, bool level)
{
    if (!(lapic_reg(l, LR_SVR) & SVR_ENABLE))
        return false;
    if (vector < 16) {
        lapic_error(l, ESR_RECEIVE_ILLEGAL);
        return false;
    }
    if (level)
        lapic_bit_set(l, LR_TMR, vector);
    else
        lapic_bit_clear(l, LR_TMR, vector);
    /* Whoever sets the bit kicks; a bit that is set already has its kick under way. */
    if (!lapic_bit_set(l, LR_IRR, vector))
        vcpu_kick(l->v, REQ_EVENT);
    return true;
}

/* INIT supersedes a SIPI that waits; a SIPI stays until it is taken, with the latest vector. */
static void latch_event(struct lapic *l, uint32_t keep, uint32_t set)
{
    uint32_t old = atomic_load_explicit(&l->latch, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&l->latch, &old, (old & keep) | set, memory_order_acq_rel, memory_order_relaxed))
        ;
    vcpu_kick(l->v, REQ_EVENT);
}

static bool arrive(struct lapic *l, const struct apic_msg *m)
{
    switch (m->mode) {
    case APIC_FIXED:
    case APIC_LOWEST: return lapic_accept(l, m->vector, m->level);
    case APIC_NMI: lapic_nmi(l->v); return true;
    case APIC_INIT:
        if (!m->level || m->assert) /* "INIT level de-assert" only meant something to Pentiums */
            latch_event(l, LATCH_UNHALT, LATCH_INIT);
        return true;
    case APIC_STARTUP: latch_event(l, LATCH_UNHALT | LATCH_INIT, LATCH_SIPI | (uint32_t)m->vector << 8); return true;
    default: return false; /* no SMM; ExtINT comes through LINT0 only */
    }
}

/* One of the destinations that would take it. The vector decides which, so that an interrupt stays where its data is. */
static int send_lowest(struct softkvm_vm *vm, struct vcpu *from, const struct apic_msg *m)
{
    unsigned n = vcpu_count(vm), matched = 0, candidates = 0;
    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = lapic_of(vm, i);
        if (!l || !match(l, from, m))
            continue;
        matched++;
        candidates += (lapic_reg(l, LR_SVR) & SVR_ENABLE) != 0;
    }
    if (!candidates)
        return matched ? 0 : -1;
    unsigned chosen = m->vector % candidates;
    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = lapic_of(vm, i);
        if (l && match(l, from, m) && (lapic_reg(l, LR_SVR) & SVR_ENABLE) && !chosen--)
            return arrive(l, m);
    }
    return 0; /* the chosen one has just been disabled */
}

int apic_send(struct softkvm_vm *vm, struct vcpu *from, const struct apic_msg *m)
{
    if ((m->mode == APIC_LOWEST || m->redirect) && m->shorthand == APIC_TO_DEST)
        return send_lowest(vm, from, m);
    int taken = -1;
    unsigned n = vcpu_count(vm);
    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = lapic_of(vm, i);
        if (l && match(l, from, m))
            taken = MAX(taken, 0) + arrive(l, m);
    }
    return taken;
}

/* ---- the interrupt command register ---- */

void lapic_send_icr(struct lapic *l, uint32_t icr, uint32_t dest)
{
    struct apic_msg m = {
        .dest = dest,
        .mode = LVT_MODE(icr),
        .vector = (uint8_t)icr,
        .shorthand = icr >> 18 & 3,
        .logical = icr >> 11 & 1,
        .assert = icr >> 14 & 1,
        .level = icr >> 15 & 1,
        .ipi = true,
    };
    if (m.mode == APIC_FIXED || m.mode == APIC_LOWEST) {
        if (m.vector < 16) {
            lapic_error(l, ESR_SEND_ILLEGAL);
            return;
        }
        m.level = false; /* only INIT knows levels: SDM vol. 3, 10.6.1, "Trigger Mode" */
    }
    apic_send(l->v->vm, l->v, &m);
}

long lapic_pv_ipi(struct vcpu *v, uint64_t low, uint64_t high, uint32_t min, uint32_t icr, bool op64)
{
    struct apic_msg m = {.mode = LVT_MODE(icr), .vector = (uint8_t)icr, .ipi = true};
    if (!v->lapic || (icr & (3u << 18 | 1u << 11)) || (m.mode != APIC_FIXED && m.mode != APIC_NMI))
        return -KVM_EINVAL;
    unsigned width = op64 ? 64 : 32, n = vcpu_count(v->vm);
    long sent = 0;
    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = lapic_of(v->vm, i);
        uint64_t bit = l ? (uint64_t)l->v->id - min : UINT64_MAX;
        if (bit >= 2 * width || !((bit < width ? low >> bit : high >> (bit - width)) & 1))
            continue;
        if (lapic_mode(l) != LAPIC_OFF)
            sent += arrive(l, &m);
    }
    return sent;
}

/* ---- other ways in ---- */

void lapic_nmi(struct vcpu *v)
{
    /* One is being delivered and one more is held: SDM vol. 3, 6.7.1. */
    unsigned n = atomic_load_explicit(&v->ev.nmi_pending, memory_order_relaxed);
    while (n < 2 && !atomic_compare_exchange_weak_explicit(&v->ev.nmi_pending, &n, n + 1, memory_order_acq_rel, memory_order_relaxed))
        ;
    vcpu_kick(v, REQ_EVENT);
}

void lapic_pv_kick(struct softkvm_vm *vm, uint32_t apic_id)
{
    unsigned n = vcpu_count(vm);
    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = lapic_of(vm, i);
        if (l && l->v->id == apic_id)
            latch_event(l, ~0u, LATCH_UNHALT);
    }
}

bool lapic_take_unhalt(struct vcpu *v)
{
    return v->lapic && (atomic_fetch_and_explicit(&v->lapic->latch, ~LATCH_UNHALT, memory_order_acq_rel) & LATCH_UNHALT);
}

bool lapic_take_init(struct vcpu *v)
{
    return v->lapic && (atomic_fetch_and_explicit(&v->lapic->latch, ~LATCH_INIT, memory_order_acq_rel) & LATCH_INIT);
}

bool lapic_take_sipi(struct vcpu *v, uint8_t *vector)
{
    if (!v->lapic)
        return false;
    uint32_t latch = atomic_fetch_and_explicit(&v->lapic->latch, ~LATCH_SIPI, memory_order_acq_rel);
    *vector = (uint8_t)(latch >> 8);
    return latch & LATCH_SIPI;
}

void apic_kick_extint(struct softkvm_vm *vm)
{
    unsigned n = vcpu_count(vm);
    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = lapic_of(vm, i);
        if (l && lapic_takes_extint(l))
            vcpu_kick(l->v, REQ_EVENT);
    }
}

void apic_lint0_nmi(struct softkvm_vm *vm)
{
    unsigned n = vcpu_count(vm);
    for (unsigned i = 0; i < n; i++) {
        struct lapic *l = lapic_of(vm, i);
        uint32_t lvt = l && lapic_mode(l) != LAPIC_OFF ? lapic_reg(l, LR_LINT0) : LVT_MASKED;
        if (!(lvt & LVT_MASKED) && LVT_MODE(lvt) == APIC_NMI)
            lapic_nmi(l->v);
    }
}
