/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APIC: registers through the xAPIC page and the x2APIC MSRs, priorities, end of interrupt, saved state. Messages are in
 * lapic_msg.c, the timer in lapic_timer.c; lapic.h says who may touch what.
 *
 * SDM vol. 3, chapter 10. Six LVT entries (seven with CMCI), version 0x14, as KVM presents it.
 */
#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "softkvm/irqchip/lapic.h"

#define VERSION          0x14u
#define VERSION_DIRECTED BIT(24)
#define MCG_CMCI_P       BIT64(10)
#define DFR_FLAT         0xffffffffu
#define SVR_RESET        0xffu
#define ICR_BUSY         BIT(12)

/* ---- what there is ---- */

static bool has_cmci(const struct lapic *l)
{
    return l->v->msr.mcg_cap & MCG_CMCI_P;
}

static uint32_t version(const struct lapic *l)
{
    /* Suppressing EOI broadcasts wants an IOAPIC with an EOI register, which KVM's lacks and user space's may have. */
    bool directed = l->chip->split && l->v->has.x2apic;
    return VERSION | (has_cmci(l) ? 6u : 5u) << 16 | (directed ? VERSION_DIRECTED : 0);
}

static bool is_lvt(const struct lapic *l, unsigned r)
{
    return (r >= LR_LVTT && r <= LR_ERROR) || (r == LR_CMCI && has_cmci(l));
}

/* Writable bits of an LVT entry: SDM vol. 3, figure 10-8. */
static uint32_t lvt_writable(unsigned r)
{
    switch (r) {
    case LR_LVTT: return 0xff | LVT_MASKED | 3u << 17;
    case LR_LINT0:
    case LR_LINT1: return 0x7ff | BIT(13) | BIT(15) | LVT_MASKED;
    case LR_ERROR: return 0xff | LVT_MASKED;
    default: return 0x7ff | LVT_MASKED;
    }
}

static uint32_t svr_writable(const struct lapic *l)
{
    return 0x1ff | (version(l) & VERSION_DIRECTED ? SVR_DIRECTED_EOI : 0);
}

/* ---- priorities ---- */

static int highest(const struct lapic *l, unsigned bank)
{
    for (int w = 7; w >= 0; w--) {
        uint32_t bits = atomic_load_explicit(&l->reg[bank + (unsigned)w], memory_order_acquire);
        if (bits)
            return w * 32 + 31 - __builtin_clz(bits);
    }
    return -1;
}

/* Processor priority: SDM vol. 3, 10.8.3.1. */
static uint8_t ppr(const struct lapic *l)
{
    uint32_t tpr = lapic_reg(l, LR_TPR), isr = (uint32_t)MAX(highest(l, LR_ISR), 0);
    return (uint8_t)((tpr & 0xf0) >= (isr & 0xf0) ? tpr : isr & 0xf0);
}

/* The vector that may interrupt now, or -1. */
static int deliverable(const struct lapic *l)
{
    int irr = highest(l, LR_IRR);
    return irr >= 0 && (irr & 0xf0) > (ppr(l) & 0xf0) ? irr : -1;
}

static void look_again(struct lapic *l)
{
    if (deliverable(l) >= 0)
        cpu_request(l->v, REQ_EVENT);
}

bool lapic_takes_extint(const struct lapic *l)
{
    uint32_t lint0 = lapic_reg(l, LR_LINT0);
    return lapic_mode(l) == LAPIC_OFF || (!(lint0 & LVT_MASKED) && LVT_MODE(lint0) == APIC_EXTINT);
}

static bool extint_pending(const struct lapic *l)
{
    return atomic_load_explicit(&l->chip->pic_output, memory_order_acquire) && lapic_takes_extint(l);
}

/* ---- local sources ---- */

void lapic_local(struct lapic *l, unsigned lvt)
{
    uint32_t val = lapic_reg(l, lvt);
    if (val & LVT_MASKED)
        return;
    if (LVT_MODE(val) == APIC_NMI)
        lapic_nmi(l->v);
    else if (LVT_MODE(val) == APIC_FIXED)
        lapic_accept(l, (uint8_t)val, false);
}

void lapic_error(struct lapic *l, uint32_t esr_bits)
{
    /* A bit that is logged already, by the error interrupt's own illegal vector too, does not interrupt again. */
    uint32_t old = atomic_fetch_or_explicit(&l->esr_pending, esr_bits, memory_order_acq_rel);
    if (esr_bits & ~old)
        lapic_local(l, LR_ERROR);
}

/* ---- end of interrupt ---- */

static bool eoi_wanted(const struct lapic *l, uint8_t vector)
{
    return atomic_load_explicit(&l->chip->eoi_vectors[vector / 64], memory_order_acquire) >> (vector % 64) & 1;
}

static void end_of_interrupt(struct lapic *l)
{
    int isr = highest(l, LR_ISR);
    if (isr < 0)
        return;
    uint8_t vector = (uint8_t)isr;
    lapic_bit_clear(l, LR_ISR, vector);
    bool level = lapic_bit(l, LR_TMR, vector), wanted = eoi_wanted(l, vector);
    bool directed = lapic_reg(l, LR_SVR) & SVR_DIRECTED_EOI;
    if (l->chip->split) {
        if (level && wanted && !directed) {
            l->eoi_exit = vector;
            cpu_request(l->v, REQ_EVENT);
        }
    } else if ((level || wanted) && !directed) {
        pthread_mutex_lock(&l->chip->lock);
        ioapic_eoi(l->chip, vector);
        pthread_mutex_unlock(&l->chip->lock);
    }
    look_again(l);
}

/*
 * PV EOI (Documentation/virt/kvm/x86/msr.rst, MSR_KVM_PV_EOI_EN): while bit 0 of the guest's word is set, the guest may end the interrupt in
 * service by clearing it. It is offered only while nothing else waits and nobody wants to hear of the EOI; a new request makes the run loop
 * call lapic_has_interrupt(), which takes the offer back first.
 */
static bool pv_eoi_word(const struct lapic *l, uint64_t *gpa)
{
    *gpa = l->v->msr.kvm_pv_eoi & ~3ull;
    return l->v->msr.kvm_pv_eoi & KVM_MSR_ENABLED;
}

static void pv_eoi_take_back(struct lapic *l)
{
    uint64_t gpa;
    uint8_t byte;
    if (likely(!l->pv_eoi_offered))
        return;
    l->pv_eoi_offered = false;
    if (!pv_eoi_word(l, &gpa) || !vm_phys_read(l->v->vm, gpa, &byte, 1))
        return;
    if (byte & KVM_PV_EOI_ENABLED) {
        byte &= (uint8_t)~KVM_PV_EOI_ENABLED;
        vm_phys_write(l->v->vm, gpa, &byte, 1);
    } else {
        end_of_interrupt(l);
    }
}

static void pv_eoi_offer(struct lapic *l)
{
    uint64_t gpa;
    uint8_t byte;
    int isr;
    if (!pv_eoi_word(l, &gpa) || (isr = highest(l, LR_ISR)) < 0 || highest(l, LR_IRR) >= 0)
        return;
    if (lapic_bit(l, LR_TMR, (uint8_t)isr) || eoi_wanted(l, (uint8_t)isr) || !vm_phys_read(l->v->vm, gpa, &byte, 1))
        return;
    byte |= KVM_PV_EOI_ENABLED;
    l->pv_eoi_offered = vm_phys_write(l->v->vm, gpa, &byte, 1);
}

void lapic_pv_eoi_sync(struct vcpu *v)
{
    if (!v->lapic)
        return;
    pv_eoi_take_back(v->lapic);
    pv_eoi_offer(v->lapic);
}

int lapic_pv_eoi_set(struct vcpu *v, uint64_t val)
{
    if (val & 2) /* a 4-byte aligned address, and bit 0 */
        return -1;
    if (v->lapic)
        pv_eoi_take_back(v->lapic);
    v->msr.kvm_pv_eoi = val;
    return 0;
}

/* ---- the virtual APIC page, KVM_SET_VAPIC_ADDR ---- */

/*
 * A word that firmware and guest share, so that 32-bit Windows can raise and lower its task priority without an exit: TPR in byte 0, the class in
 * service in byte 1, the highest request in byte 3. Guests whose TPR accesses user space has patched look at it; others never see it.
 */
int lapic_vapic_set(struct vcpu *v, uint64_t gpa)
{
    if (!v->lapic || (gpa && !vm_phys_host(v->vm, gpa, 4, true)))
        return -EINVAL;
    v->lapic->vapic = gpa;
    return 0;
}

void lapic_vapic_to_guest(struct vcpu *v)
{
    const struct lapic *l = v->lapic;
    if (likely(!l || !l->vapic))
        return;
    uint32_t isr = (uint32_t)MAX(highest(l, LR_ISR), 0), irr = (uint32_t)MAX(highest(l, LR_IRR), 0);
    uint32_t word = (lapic_reg(l, LR_TPR) & 0xff) | (isr & 0xf0) << 8 | irr << 24;
    vm_phys_write(v->vm, l->vapic, &word, sizeof(word));
}

void lapic_vapic_from_guest(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    uint8_t tpr;
    if (likely(!l || !l->vapic) || !vm_phys_read(v->vm, l->vapic, &tpr, 1) || tpr == (lapic_reg(l, LR_TPR) & 0xff))
        return;
    lapic_reg_set(l, LR_TPR, tpr);
    look_again(l);
}

/* ---- what the vCPU asks ---- */

bool lapic_has_interrupt(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    if (!l)
        return false;
    pv_eoi_take_back(l);
    return extint_pending(l) || (lapic_mode(l) != LAPIC_OFF && deliverable(l) >= 0);
}

int lapic_take_interrupt(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    int vector = -1;
    if (!l)
        return vector;
    pv_eoi_take_back(l);
    if (extint_pending(l)) {
        pthread_mutex_lock(&l->chip->lock);
        if (atomic_load_explicit(&l->chip->pic_output, memory_order_relaxed)) {
            vector = pic_intack(l->chip);
            pic_notify(l->chip);
        }
        pthread_mutex_unlock(&l->chip->lock);
    }
    if (vector < 0 && lapic_mode(l) != LAPIC_OFF && (vector = deliverable(l)) >= 0) {
        lapic_bit_set(l, LR_ISR, (uint8_t)vector);
        lapic_bit_clear(l, LR_IRR, (uint8_t)vector);
    }
    pv_eoi_offer(l);
    return vector;
}

int lapic_take_eoi_exit(struct vcpu *v)
{
    if (!v->lapic)
        return -1;
    int vector = v->lapic->eoi_exit;
    v->lapic->eoi_exit = -1;
    return vector;
}

bool lapic_accept_pic(struct vcpu *v)
{
    return !v->lapic || lapic_takes_extint(v->lapic);
}

uint64_t lapic_tpr_get(struct vcpu *v)
{
    return v->lapic ? lapic_reg(v->lapic, LR_TPR) >> 4 & 15 : v->cr8;
}

void lapic_tpr_set(struct vcpu *v, uint64_t cr8)
{
    v->cr8 = cr8 & 15;
    if (!v->lapic)
        return;
    lapic_reg_set(v->lapic, LR_TPR, (uint32_t)(cr8 & 15) << 4);
    look_again(v->lapic);
}

/* ---- registers ---- */

static uint32_t reg_read(struct lapic *l, unsigned r)
{
    switch (r) {
    case LR_VERSION: return version(l);
    case LR_PPR: pv_eoi_take_back(l); return ppr(l);
    case LR_TMCCT: return lapic_timer_count(l);
    case LR_APR:
    case LR_EOI:
    case LR_RRD: return 0;
    default: break;
    }
    if (r >= LR_ISR && r < LR_ISR + 8)
        pv_eoi_take_back(l);
    return lapic_reg(l, r);
}

static void write_svr(struct lapic *l, uint32_t val)
{
    bool was = lapic_reg(l, LR_SVR) & SVR_ENABLE, on = val & SVR_ENABLE;
    lapic_reg_set(l, LR_SVR, val & svr_writable(l));
    if (was && !on) { /* SDM vol. 3, 10.4.7.2: the masks are set and cannot be cleared */
        for (unsigned r = LR_CMCI; r <= LR_ERROR; r++)
            if (is_lvt(l, r))
                lapic_reg_set(l, r, lapic_reg(l, r) | LVT_MASKED);
    } else if (!was && on && !l->chip->split) {
        pthread_mutex_lock(&l->chip->lock);
        ioapic_retry(l->chip);
        pthread_mutex_unlock(&l->chip->lock);
    }
}

static void write_lvt(struct lapic *l, unsigned r, uint32_t val)
{
    val &= lvt_writable(r);
    if (!(lapic_reg(l, LR_SVR) & SVR_ENABLE))
        val |= LVT_MASKED;
    if (r == LR_LVTT && (LVTT_MODE(val) == LVTT_DEADLINE) != (LVTT_MODE(lapic_reg(l, r)) == LVTT_DEADLINE)) {
        /* Changing between deadline mode and the others disarms: SDM vol. 3, 10.5.4.1. */
        lapic_timer_stop(l);
        atomic_store_explicit(&l->tsc_deadline, 0, memory_order_relaxed);
        lapic_reg_set(l, LR_TMICT, 0);
    }
    lapic_reg_set(l, r, val);
    if (r == LR_LINT0 && extint_pending(l))
        cpu_request(l->v, REQ_EVENT);
}

/* Writes that the xAPIC page and the MSRs have in common. False when there is no such register to write. */
static bool reg_write(struct lapic *l, unsigned r, uint32_t val)
{
    if (is_lvt(l, r)) {
        write_lvt(l, r, val);
        return true;
    }
    switch (r) {
    case LR_TPR:
        lapic_reg_set(l, r, val & 0xff);
        look_again(l);
        return true;
    case LR_EOI:
        pv_eoi_take_back(l);
        end_of_interrupt(l);
        return true;
    case LR_SVR: write_svr(l, val); return true;
    case LR_ESR: lapic_reg_set(l, r, atomic_exchange_explicit(&l->esr_pending, 0, memory_order_acq_rel)); return true;
    case LR_TMICT:
        if (LVTT_MODE(lapic_reg(l, LR_LVTT)) != LVTT_DEADLINE) {
            lapic_reg_set(l, r, val);
            lapic_timer_start(l, val);
        }
        return true;
    case LR_TDCR: lapic_timer_set_divider(l, val); return true;
    default: return false;
    }
}

/* ---- the xAPIC page ---- */

static bool xapic_exists(const struct lapic *l, unsigned r)
{
    return (r >= LR_ID && r <= LR_VERSION) || (r >= LR_TPR && r <= LR_ESR && r != LR_RRD) || is_lvt(l, r) || r == LR_ICR || r == LR_ICR2 ||
           r == LR_TMICT || r == LR_TMCCT || r == LR_TDCR;
}

void lapic_mmio_read(struct lapic *l, unsigned offset, void *data, unsigned size)
{
    if (lapic_mode(l) != LAPIC_XAPIC) { /* a hole, as KVM has it by default (KVM_X86_QUIRK_LAPIC_MMIO_HOLE) */
        memset(data, 0xff, size);
        return;
    }
    unsigned r = offset >> 4, byte = offset & 15;
    uint32_t val = 0;
    if (r < LR_COUNT && xapic_exists(l, r))
        val = reg_read(l, r);
    else
        lapic_error(l, ESR_ILLEGAL_REGISTER);
    memset(data, 0, size);
    if (byte < 4)
        memcpy(data, (const uint8_t *)&val + byte, MIN(size, 4 - byte));
}

void lapic_mmio_write(struct lapic *l, unsigned offset, const void *data, unsigned size)
{
    unsigned r = offset >> 4;
    uint32_t val;
    if (lapic_mode(l) != LAPIC_XAPIC || size < 4 || (offset & 15)) /* SDM vol. 3, 10.4.1: 32-bit accesses at multiples of 16 */
        return;
    memcpy(&val, data, sizeof(val));
    if (r >= LR_COUNT || !xapic_exists(l, r)) {
        lapic_error(l, ESR_ILLEGAL_REGISTER);
        return;
    }
    switch (r) {
    case LR_ID:
    case LR_LDR:
    case LR_ICR2: lapic_reg_set(l, r, val & 0xff000000); break;
    case LR_DFR: lapic_reg_set(l, r, val | 0x0fffffff); break;
    case LR_ICR:
        lapic_reg_set(l, r, val & ~ICR_BUSY);
        lapic_send_icr(l, val, lapic_reg(l, LR_ICR2) >> 24);
        break;
    default: reg_write(l, r, val); break; /* writes to read-only registers are dropped */
    }
}

/* ---- x2APIC MSRs: SDM vol. 3, table 10-6 ---- */

static bool x2apic_readable(const struct lapic *l, unsigned r)
{
    return xapic_exists(l, r) && r != LR_APR && r != LR_EOI && r != LR_DFR && r != LR_ICR2;
}

int lapic_msr_read(struct vcpu *v, uint32_t index, uint64_t *val)
{
    struct lapic *l = v->lapic;
    unsigned r = index - 0x800;
    if (!l || lapic_mode(l) != LAPIC_X2APIC || r >= LR_COUNT || !x2apic_readable(l, r))
        return -1;
    *val = reg_read(l, r);
    if (r == LR_ICR)
        *val |= (uint64_t)lapic_reg(l, LR_ICR2) << 32;
    return 0;
}

/* Bits that a write may set; others, and registers that cannot be written, raise #GP. */
static uint64_t x2apic_writable(const struct lapic *l, unsigned r)
{
    if (is_lvt(l, r)) /* delivery status and remote IRR are read-only, not reserved */
        return lvt_writable(r) | ICR_BUSY | (r == LR_LINT0 || r == LR_LINT1 ? BIT(14) : 0);
    switch (r) {
    case LR_TPR:
    case LR_SELF_IPI: return 0xff;
    case LR_SVR: return svr_writable(l);
    case LR_ICR: return 0xffffffff000cdfffull;
    case LR_TMICT: return 0xffffffff;
    case LR_TDCR: return 0xb;
    default: return 0; /* EOI and ESR take only 0 */
    }
}

int lapic_msr_write(struct vcpu *v, uint32_t index, uint64_t val)
{
    struct lapic *l = v->lapic;
    unsigned r = index - 0x800;
    if (!l || lapic_mode(l) != LAPIC_X2APIC || r >= LR_COUNT || (val & ~x2apic_writable(l, r)))
        return -1;
    switch (r) {
    case LR_ICR:
        lapic_reg_set(l, LR_ICR, (uint32_t)val & ~ICR_BUSY);
        lapic_reg_set(l, LR_ICR2, (uint32_t)(val >> 32));
        lapic_send_icr(l, (uint32_t)val, (uint32_t)(val >> 32));
        return 0;
    case LR_SELF_IPI: lapic_send_icr(l, (uint32_t)val | APIC_TO_SELF << 18, 0); return 0;
    default: return reg_write(l, r, (uint32_t)val) ? 0 : -1;
    }
}

/* ---- IA32_APIC_BASE, reset, life ---- */

static void set_mode(struct lapic *l, uint64_t base)
{
    enum lapic_mode mode = !(base & APIC_BASE_EN) ? LAPIC_OFF : base & APIC_BASE_EXTD ? LAPIC_X2APIC : LAPIC_XAPIC;
    if (mode == LAPIC_X2APIC) {
        lapic_reg_set(l, LR_ID, l->v->id);
        lapic_reg_set(l, LR_LDR, x2apic_ldr(l->v->id));
    } else if (lapic_mode(l) != LAPIC_XAPIC) {
        lapic_reg_set(l, LR_ID, l->v->id << 24);
        lapic_reg_set(l, LR_LDR, 0);
    }
    atomic_store_explicit(&l->mode, mode, memory_order_release);
}

/* The registers' state after power-up and INIT: SDM vol. 3, 10.4.7.1. ID and mode are not touched. */
static void reset_registers(struct lapic *l)
{
    lapic_timer_stop(l);
    for (unsigned r = LR_TPR; r < LR_COUNT; r++)
        if (r != LR_LDR || lapic_mode(l) != LAPIC_X2APIC)
            lapic_reg_set(l, r, 0);
    for (unsigned r = LR_LVTT; r <= LR_ERROR; r++)
        lapic_reg_set(l, r, LVT_MASKED);
    if (has_cmci(l))
        lapic_reg_set(l, LR_CMCI, LVT_MASKED);
    lapic_reg_set(l, LR_DFR, DFR_FLAT);
    lapic_reg_set(l, LR_SVR, SVR_RESET);
    /* KVM's LINT0 of the boot CPU passes the PIC on without being told (KVM_X86_QUIRK_LINT0_REENABLED); firmware relies on it. */
    if (l->v->apic_base & APIC_BASE_BSP)
        lapic_reg_set(l, LR_LINT0, APIC_EXTINT << 8);
    atomic_store_explicit(&l->esr_pending, 0, memory_order_relaxed);
    atomic_store_explicit(&l->tsc_deadline, 0, memory_order_relaxed);
    l->eoi_exit = -1;
    l->pv_eoi_offered = false;
}

int lapic_set_base(struct vcpu *v, uint64_t base, bool host)
{
    uint64_t old = v->apic_base, mode_bits = APIC_BASE_EN | APIC_BASE_EXTD;
    uint64_t reserved = ~(BIT64(MAX(v->phys_bits, 36)) - 1) | 0x2ff | (v->has.x2apic ? 0 : APIC_BASE_EXTD);
    if ((base & reserved) || (base & mode_bits) == APIC_BASE_EXTD)
        return -1;
    if (!host) { /* SDM vol. 3, figure 10-27: x2APIC is entered from xAPIC and left by disabling */
        if ((old & APIC_BASE_EXTD) && (base & mode_bits) == APIC_BASE_EN)
            return -1;
        if (!(old & APIC_BASE_EN) && (base & APIC_BASE_EXTD))
            return -1;
    }
    v->apic_base = base;
    struct lapic *l = v->lapic;
    if (!l)
        return 0;
    set_mode(l, base);
    if ((old & APIC_BASE_EN) && !(base & APIC_BASE_EN))
        reset_registers(l); /* SDM vol. 3, 10.4.3 */
    cpu_request(v, REQ_EVENT);
    return 0;
}

void lapic_reset(struct vcpu *v, bool init)
{
    struct lapic *l = v->lapic;
    if (!init)
        v->apic_base = APIC_BASE_DEFAULT | APIC_BASE_EN | (v->id == v->vm->bsp_id ? APIC_BASE_BSP : 0);
    if (!l)
        return;
    if (!init) {
        set_mode(l, 0);
        set_mode(l, v->apic_base);
        atomic_store_explicit(&l->latch, 0, memory_order_relaxed);
    }
    reset_registers(l);
    v->msr.kvm_pv_eoi = 0;
}

int lapic_create(struct vcpu *v)
{
    if (!v->vm->irqchip)
        return -ENXIO;
    struct lapic *l = calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    l->v = v;
    l->chip = v->vm->irqchip;
    int err = lapic_timer_init(l);
    if (err) {
        free(l);
        return err;
    }
    v->lapic = l;
    lapic_reset(v, false);
    return 0;
}

void lapic_destroy(struct vcpu *v)
{
    if (!v->lapic)
        return;
    lapic_timer_stop(v->lapic);
    free(v->lapic);
    v->lapic = NULL;
}

/* ---- KVM_GET_LAPIC, KVM_SET_LAPIC ---- */

static uint32_t *state_word(struct kvm_lapic_state *s, unsigned r)
{
    return (uint32_t *)(void *)(s->regs + r * 16);
}

/* Without KVM_X2APIC_API_USE_32BIT_IDS, an x2APIC's ID is shown as xAPICs have it. */
static bool short_id(const struct lapic *l)
{
    return lapic_mode(l) == LAPIC_X2APIC && !(l->v->vm->x2apic_api & KVM_X2APIC_API_USE_32BIT_IDS);
}

int lapic_get(struct vcpu *v, struct kvm_lapic_state *s)
{
    struct lapic *l = v->lapic;
    if (!l)
        return -EINVAL;
    pv_eoi_take_back(l);
    memset(s, 0, sizeof(*s));
    for (unsigned r = 0; r < LR_COUNT; r++)
        *state_word(s, r) = reg_read(l, r);
    if (short_id(l))
        *state_word(s, LR_ID) <<= 24;
    return 0;
}

/* Which bits of a saved register exist; the rest of a hostile state is dropped. */
static uint32_t restorable(const struct lapic *l, unsigned r)
{
    if (is_lvt(l, r))
        return lvt_writable(r);
    if (r == LR_ISR || r == LR_TMR)
        return 0xffff0000; /* vectors 0-15 do not exist; IRR shows them all the same, without effect, as KVM's does */
    if (r > LR_ISR && r < LR_ESR)
        return 0xffffffff;
    switch (r) {
    case LR_TPR:
    case LR_ESR: return 0xff;
    case LR_LDR: return 0xff000000;
    case LR_SVR: return svr_writable(l);
    case LR_ICR: return 0x000ccfff;
    case LR_DFR:
    case LR_ICR2:
    case LR_TMICT: return 0xffffffff;
    case LR_TDCR: return 0xb;
    default: return 0;
    }
}

int lapic_set(struct vcpu *v, const struct kvm_lapic_state *in)
{
    struct lapic *l = v->lapic;
    if (!l)
        return -EINVAL;
    struct kvm_lapic_state s = *in;
    bool x2 = lapic_mode(l) == LAPIC_X2APIC;
    uint32_t id = *state_word(&s, LR_ID);
    if (x2 && (short_id(l) ? id >> 24 != (v->id & 0xff) : id != v->id))
        return -EINVAL;
    lapic_timer_stop(l);
    l->pv_eoi_offered = false;
    for (unsigned r = LR_TPR; r < LR_COUNT; r++)
        if (r != LR_LDR || !x2)
            lapic_reg_set(l, r, *state_word(&s, r) & restorable(l, r));
    if (!x2)
        lapic_reg_set(l, LR_ID, id & 0xff000000);
    lapic_reg_set(l, LR_DFR, lapic_reg(l, LR_DFR) | 0x0fffffff);
    for (unsigned r = LR_LVTT; r <= LR_ERROR && !(lapic_reg(l, LR_SVR) & SVR_ENABLE); r++)
        lapic_reg_set(l, r, lapic_reg(l, r) | (r == LR_LINT0 ? 0 : LVT_MASKED));
    v->cr8 = lapic_tpr_get(v);
    uint32_t count = *state_word(&s, LR_TMCCT);
    if (!count && LVTT_MODE(lapic_reg(l, LR_LVTT)) == LVTT_PERIODIC)
        count = lapic_reg(l, LR_TMICT);
    lapic_timer_start(l, MIN(count, lapic_reg(l, LR_TMICT)));
    cpu_request(v, REQ_EVENT);
    return 0;
}
