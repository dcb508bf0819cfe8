/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The LAPIC: registers in both modes, priorities, who is addressed by what, IPIs, mode changes, saved state, PV EOI. */
#include "rig.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <linux/kvm_para.h>

#define LOGICAL BIT(11)

static void reset_values(void)
{
    struct rig *r = rig_new(RIG_FULL, 2);
    struct vcpu *v = rig_cpu(r, 0), *ap = rig_cpu(r, 1);
    CHECK_EQ(v->apic_base, 0xfee00900);
    CHECK_EQ(ap->apic_base, 0xfee00800);
    CHECK_EQ(apic_get(v, LR_ID), 0);
    CHECK_EQ(apic_get(ap, LR_ID), 0x01000000);
    CHECK_EQ(apic_get(v, LR_VERSION), 0x50014);
    CHECK_EQ(apic_get(v, LR_SVR), 0xff);
    CHECK_EQ(apic_get(v, LR_DFR), 0xffffffff);
    CHECK_EQ(apic_get(v, LR_LVTT), LVT_MASKED);
    CHECK_EQ(apic_get(v, LR_LINT0), 0x700); /* KVM's LINT0 of the boot CPU */
    CHECK_EQ(apic_get(ap, LR_LINT0), LVT_MASKED);
    apic_enable(ap);
    apic_set(ap, LR_TPR, 0x50);
    lapic_reset(ap, true);
    CHECK_EQ(apic_get(ap, LR_TPR), 0);
    CHECK_EQ(apic_get(ap, LR_SVR), 0xff);
    rig_free(r);
}

static void priorities(void)
{
    struct rig *r = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(r, 0);
    apic_enable(v);
    lapic_accept(v->lapic, 0x31, false);
    lapic_accept(v->lapic, 0x52, false);
    lapic_accept(v->lapic, 0x55, false);
    CHECK_EQ(apic_take(v), 0x55);
    CHECK_EQ(apic_get(v, LR_PPR), 0x50);
    CHECK_EQ(apic_take(v), -1); /* 0x52 is of the same class */
    lapic_accept(v->lapic, 0x60, false);
    CHECK_EQ(apic_take(v), 0x60);
    apic_eoi(v);
    CHECK_EQ(apic_get(v, LR_PPR), 0x50);
    atomic_store(&v->requests, 0);
    apic_eoi(v);
    CHECK_EQ(atomic_load(&v->requests), REQ_EVENT); /* an EOI makes the loop look again */
    lapic_tpr_set(v, 5);
    CHECK_EQ(apic_get(v, LR_TPR), 0x50);
    CHECK_EQ(apic_take(v), -1);
    apic_set(v, LR_TPR, 0x4f);
    CHECK_EQ(lapic_tpr_get(v), 4);
    CHECK_EQ(apic_get(v, LR_PPR), 0x4f);
    CHECK_EQ(apic_take(v), 0x52);
    apic_eoi(v);
    CHECK_EQ(apic_take(v), -1);
    atomic_store(&v->requests, 0);
    lapic_tpr_set(v, 0);
    CHECK_EQ(atomic_load(&v->requests), REQ_EVENT);
    CHECK_EQ(apic_take(v), 0x31);
    apic_set(v, LR_TPR, 0x37); /* of the class in service: the task's subclass shows (SDM vol. 3, 10.8.3.1) */
    CHECK_EQ(apic_get(v, LR_PPR), 0x37);
    apic_set(v, LR_TPR, 0x2f);
    CHECK_EQ(apic_get(v, LR_PPR), 0x30);
    rig_free(r);
}

/* ---- addressing ---- */

/* Which CPUs (as bits) took vector 0x40 of this IPI by CPU 0. Leaves no trace. */
static unsigned who(struct rig *r, uint32_t dest, uint32_t icr)
{
    unsigned got = 0;
    apic_icr(rig_cpu(r, 0), dest, icr | 0x40);
    for (unsigned n = 0; n < r->vm.nvcpus; n++) {
        if (apic_take(rig_cpu(r, n)) == 0x40) {
            got |= BIT(n);
            apic_eoi(rig_cpu(r, n));
        }
    }
    return got;
}

static void address_xapic(void)
{
    struct rig *r = rig_new(RIG_FULL, 4);
    for (unsigned n = 0; n < 4; n++) {
        apic_enable(rig_cpu(r, n));
        apic_set(rig_cpu(r, n), LR_LDR, BIT(n) << 24);
    }
    CHECK_EQ(who(r, 2, 0), 4);
    CHECK_EQ(who(r, 4, 0), 0);
    CHECK_EQ(who(r, 0xff, 0), 15);
    CHECK_EQ(who(r, 0, APIC_TO_SELF << 18), 1);
    CHECK_EQ(who(r, 0, APIC_TO_ALL << 18), 15);
    CHECK_EQ(who(r, 0, APIC_TO_OTHERS << 18), 14);
    CHECK_EQ(who(r, 0x0a, LOGICAL), 10); /* flat */
    CHECK_EQ(who(r, 0xff, LOGICAL), 15);
    CHECK_EQ(who(r, 0x10, LOGICAL), 0);
    unsigned one = who(r, 0x0e, LOGICAL | APIC_LOWEST << 8);
    CHECK(one == 2 || one == 4 || one == 8);
    for (unsigned n = 0; n < 4; n++) { /* two clusters of two */
        apic_set(rig_cpu(r, n), LR_DFR, 0x0fffffff);
        apic_set(rig_cpu(r, n), LR_LDR, ((n / 2) << 4 | BIT(n % 2)) << 24);
    }
    CHECK_EQ(who(r, 0x03, LOGICAL), 3);
    CHECK_EQ(who(r, 0x12, LOGICAL), 8);
    CHECK_EQ(who(r, 0x13, LOGICAL), 12);
    CHECK_EQ(who(r, 0x23, LOGICAL), 0);
    CHECK_EQ(who(r, 0xff, LOGICAL), 15);
    apic_set(rig_cpu(r, 2), LR_ID, 0x09000000); /* an xAPIC's ID is software's to change */
    CHECK_EQ(who(r, 2, 0), 0);
    CHECK_EQ(who(r, 9, 0), 4);
    apic_set(rig_cpu(r, 3), LR_SVR, 0xff); /* disabled: takes no fixed interrupts, and is no candidate for lowest priority */
    CHECK_EQ(who(r, 0xff, 0), 7);
    CHECK_EQ(who(r, 0x13, LOGICAL | APIC_LOWEST << 8), 4);
    rig_free(r);
}

static void address_x2apic(void)
{
    struct rig *r = rig_new(RIG_FULL, 20);
    for (unsigned n = 0; n < 20; n++) {
        apic_to_x2apic(rig_cpu(r, n));
        apic_enable(rig_cpu(r, n));
        CHECK_EQ(apic_get(rig_cpu(r, n), LR_ID), n);
        CHECK_EQ(apic_get(rig_cpu(r, n), LR_LDR), (n / 16) << 16 | BIT(n % 16));
    }
    CHECK_EQ(who(r, 19, 0), BIT(19));
    CHECK_EQ(who(r, 0xff, 0), 0); /* an ordinary ID for IPIs */
    CHECK_EQ(who(r, 0xffffffff, 0), BIT(20) - 1);
    CHECK_EQ(who(r, 0x0000f003, LOGICAL), 0xf003);
    CHECK_EQ(who(r, 0x0001000a, LOGICAL), 0xa0000);
    CHECK_EQ(who(r, 0xffffffff, LOGICAL), BIT(20) - 1);
    CHECK_EQ(who(r, 0, APIC_TO_OTHERS << 18), BIT(20) - 2);
    CHECK_EQ(lapic_msr_write(rig_cpu(r, 7), 0x83f, 0x77), 0);
    CHECK_EQ(apic_take(rig_cpu(r, 7)), 0x77);
    rig_free(r);
}

/* A CPU that has just been started is an xAPIC among x2APICs. */
static void address_mixed(void)
{
    struct rig *r = rig_new(RIG_FULL, 3);
    apic_to_x2apic(rig_cpu(r, 0));
    for (unsigned n = 0; n < 3; n++)
        apic_enable(rig_cpu(r, n));
    CHECK_EQ(who(r, 1, 0), 2);
    CHECK_EQ(who(r, 0, APIC_TO_ALL << 18), 7);
    rig_free(r);
}

static void special_messages(void)
{
    struct rig *r = rig_new(RIG_FULL, 2);
    struct vcpu *v = rig_cpu(r, 0), *ap = rig_cpu(r, 1);
    uint8_t vector = 0;
    apic_icr(v, 1, APIC_NMI << 8);
    apic_icr(v, 1, APIC_NMI << 8);
    apic_icr(v, 1, APIC_NMI << 8);
    CHECK_EQ(atomic_load(&ap->ev.nmi_pending), 2);
    CHECK(!lapic_take_init(ap));
    apic_icr(v, 1, APIC_STARTUP << 8 | 0x11);
    apic_icr(v, 1, APIC_INIT << 8 | BIT(14) | BIT(15)); /* drops the SIPI that came before it */
    apic_icr(v, 1, APIC_INIT << 8 | BIT(15));           /* de-assert: nothing */
    CHECK(lapic_take_init(ap));
    CHECK(!lapic_take_init(ap));
    CHECK(!lapic_take_sipi(ap, &vector));
    apic_icr(v, 1, APIC_STARTUP << 8 | 0x9a);
    lapic_reset(ap, true); /* the INIT's reset does not lose the SIPI that follows */
    CHECK(lapic_take_sipi(ap, &vector));
    CHECK_EQ(vector, 0x9a);
    CHECK(!lapic_take_sipi(ap, &vector));
    apic_icr(v, 1, APIC_INIT << 8 | BIT(14)); /* both before the CPU looks */
    apic_icr(v, 1, APIC_STARTUP << 8 | 0x10);
    CHECK(lapic_take_init(ap));
    CHECK(lapic_take_sipi(ap, &vector));
    CHECK_EQ(vector, 0x10);
    apic_icr(v, 1, APIC_SMI << 8);
    apic_icr(v, 1, APIC_EXTINT << 8);
    CHECK_EQ(apic_take(ap), -1);
    CHECK(!lapic_take_unhalt(ap));
    lapic_pv_kick(&r->vm, 1);
    CHECK(lapic_take_unhalt(ap));
    CHECK(!lapic_take_unhalt(ap));
    rig_free(r);
}

static void pv_ipi(void)
{
    struct rig *r = rig_new(RIG_FULL, 70);
    for (unsigned n = 0; n < 70; n++)
        apic_enable(rig_cpu(r, n));
    struct vcpu *v = rig_cpu(r, 0);
    CHECK_EQ(lapic_pv_ipi(v, 0x6, 0x1, 0, 0x41, true), 3);
    CHECK_EQ(apic_take(rig_cpu(r, 1)), 0x41);
    CHECK_EQ(apic_take(rig_cpu(r, 2)), 0x41);
    CHECK_EQ(apic_take(rig_cpu(r, 64)), 0x41);
    CHECK_EQ(lapic_pv_ipi(v, 0x1, 0x1, 5, 0x41, false), 2); /* 32 bits each: CPUs 5 and 37 */
    CHECK_EQ(apic_take(rig_cpu(r, 37)), 0x41);
    CHECK_EQ(lapic_pv_ipi(v, ~0ull, ~0ull, 0xfffffff0, 0x41, true), 0);
    CHECK_EQ(lapic_pv_ipi(v, 1, 0, 3, APIC_NMI << 8, true), 1);
    CHECK_EQ(atomic_load(&rig_cpu(r, 3)->ev.nmi_pending), 1);
    CHECK_EQ(lapic_pv_ipi(v, 1, 0, 0, 0x41 | LOGICAL, true), -KVM_EINVAL);
    CHECK_EQ(lapic_pv_ipi(v, 1, 0, 0, APIC_INIT << 8, true), -KVM_EINVAL);
    rig_free(r);
}

/* ---- errors and access rules ---- */

static void errors(void)
{
    struct rig *r = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(r, 0);
    apic_enable(v);
    apic_set(v, LR_ERROR, 0xfe);
    apic_icr(v, 0, APIC_TO_SELF << 18 | 0x0f);
    CHECK_EQ(apic_take(v), 0xfe);
    apic_eoi(v);
    CHECK_EQ(apic_get(v, LR_ESR), 0); /* shown only after a write */
    apic_set(v, LR_ESR, 0);
    CHECK_EQ(apic_get(v, LR_ESR), ESR_SEND_ILLEGAL);
    apic_set(v, LR_ESR, 0);
    CHECK_EQ(apic_get(v, LR_ESR), 0);
    irqchip_signal_msi(&r->vm, 0xfee00000, 3);
    apic_get(v, LR_RRD);
    apic_set(v, LR_ESR, 0);
    CHECK_EQ(apic_get(v, LR_ESR), ESR_RECEIVE_ILLEGAL | ESR_ILLEGAL_REGISTER);
    apic_set(v, LR_ERROR, 0x05); /* an illegal vector for the error interrupt itself */
    apic_icr(v, 0, APIC_TO_SELF << 18 | 0x01);
    CHECK_EQ(atomic_load(&v->lapic->esr_pending), ESR_SEND_ILLEGAL | ESR_RECEIVE_ILLEGAL);
    rig_free(r);
}

static void mmio_rules(void)
{
    struct rig *r = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(r, 0);
    uint64_t wide = 0x1111111122222222;
    apic_enable(v);
    CHECK(irqchip_mmio_write(v, 0xfee00081, &wide, 4)); /* misaligned: dropped */
    CHECK(irqchip_mmio_write(v, 0xfee00080, &wide, 2)); /* too narrow */
    CHECK_EQ(apic_get(v, LR_TPR), 0);
    CHECK(irqchip_mmio_write(v, 0xfee00080, &wide, 8));
    CHECK_EQ(apic_get(v, LR_TPR), 0x22);
    wide = ~0ull;
    CHECK(irqchip_mmio_read(v, 0xfee00032, &wide, 1)); /* a byte of the version */
    CHECK_EQ(wide & 0xff, 5);
    CHECK(irqchip_mmio_read(v, 0xfee00030, &wide, 8));
    CHECK_EQ(wide, 0x50014);
    CHECK(irqchip_mmio_read(v, 0xfee00ffc, &wide, 8)); /* beyond the registers */
    CHECK(!irqchip_mmio_read(v, 0xfee01000, &wide, 4));
    CHECK(!irqchip_mmio_read(v, 0xfedfffff, &wide, 1));
    /* Moved, and switched off: a hole. */
    CHECK_EQ(lapic_set_base(v, 0x123456000 | APIC_BASE_EN, false), 0);
    CHECK(!irqchip_mmio_read(v, 0xfee00030, &wide, 4));
    CHECK_EQ(apic_get(v, LR_VERSION), 0x50014);
    apic_to_x2apic(v);
    CHECK(irqchip_mmio_read(v, 0x123456030, &wide, 8));
    CHECK_EQ(wide, ~0ull);
    rig_free(r);
}

static void msr_rules(void)
{
    struct rig *r = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(r, 0);
    uint64_t val;
    CHECK_EQ(lapic_msr_read(v, 0x802, &val), -1); /* not in x2APIC mode */
    apic_to_x2apic(v);
    static const uint16_t unreadable[] = {0x800, 0x801, 0x804, 0x809, 0x80b, 0x80c, 0x80e, 0x829, 0x82f, 0x831, 0x83a, 0x83f, 0x840, 0x8ff};
    static const uint16_t unwritable[] = {0x802, 0x803, 0x80a, 0x80d, 0x80e, 0x810, 0x818, 0x820, 0x82f, 0x831, 0x839, 0x840, 0x8ff};
    for (unsigned i = 0; i < ARRAY_SIZE(unreadable); i++)
        CHECK_EQ(lapic_msr_read(v, unreadable[i], &val), -1);
    for (unsigned i = 0; i < ARRAY_SIZE(unwritable); i++)
        CHECK_EQ(lapic_msr_write(v, unwritable[i], 0), -1);
    static const struct {
        uint16_t index;
        uint64_t bad;
    } reserved[] = {{0x808, 0x100}, {0x80b, 1}, {0x80f, 0x1000}, {0x80f, 0x200}, {0x828, 1}, {0x830, 1 << 13}, {0x830, 1 << 20}, {0x830, 1 << 16},
                    {0x832, 0x700}, {0x832, 1 << 19}, {0x833, 1 << 17}, {0x835, 1 << 17}, {0x837, 0x100}, {0x838, 1ull << 32}, {0x83e, 4}, {0x83f, 0x100}};
    for (unsigned i = 0; i < ARRAY_SIZE(reserved); i++)
        CHECK_EQ(lapic_msr_write(v, reserved[i].index, reserved[i].bad), -1);
    CHECK_EQ(lapic_msr_write(v, 0x80f, 0x1ff), 0);
    CHECK_EQ(lapic_msr_write(v, 0x835, 0x1a7ff), 0);
    CHECK_EQ(lapic_msr_write(v, 0x830, 0xdead000000000800ull), 0);
    CHECK_EQ(lapic_msr_read(v, 0x830, &val), 0);
    CHECK_EQ(val, 0xdead000000000800ull);
    CHECK_EQ(lapic_msr_write(v, 0x80b, 0), 0);
    rig_free(r);
}

static void cmci(void)
{
    struct rig *r = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(r, 0);
    v->msr.mcg_cap = 10 | BIT64(10);
    CHECK_EQ(apic_get(v, LR_VERSION), 0x60014);
    apic_enable(v);
    apic_set(v, LR_CMCI, 0xf3);
    CHECK_EQ(apic_get(v, LR_CMCI), 0xf3);
    lapic_local(v->lapic, LR_CMCI);
    CHECK_EQ(apic_take(v), 0xf3);
    rig_free(r);
}

static void lvt_masks(void)
{
    struct rig *r = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(r, 0);
    static const struct {
        uint8_t reg;
        uint32_t all;
    } lvt[] = {{LR_LVTT, 0x700ff}, {LR_THERMAL, 0x107ff}, {LR_PERF, 0x107ff}, {LR_LINT0, 0x1a7ff}, {LR_LINT1, 0x1a7ff}, {LR_ERROR, 0x100ff}};
    apic_set(v, LR_LINT1, 0x20);
    CHECK_EQ(apic_get(v, LR_LINT1), LVT_MASKED | 0x20); /* disabled: the mask cannot be cleared */
    apic_enable(v);
    for (unsigned i = 0; i < ARRAY_SIZE(lvt); i++) {
        apic_set(v, lvt[i].reg, ~0u);
        CHECK_EQ(apic_get(v, lvt[i].reg), lvt[i].all);
        apic_set(v, lvt[i].reg, 0x20);
        CHECK_EQ(apic_get(v, lvt[i].reg), 0x20);
    }
    apic_set(v, LR_SVR, 0xff);
    for (unsigned i = 0; i < ARRAY_SIZE(lvt); i++)
        CHECK_EQ(apic_get(v, lvt[i].reg), LVT_MASKED | 0x20);
    apic_enable(v);
    apic_set(v, LR_PERF, APIC_NMI << 8);
    lapic_local(v->lapic, LR_PERF);
    CHECK_EQ(atomic_load(&v->ev.nmi_pending), 1);
    rig_free(r);
}

static void base_transitions(void)
{
    enum { OFF, X, INVALID, X2 };
    static const uint64_t bits[] = {0, APIC_BASE_EN, APIC_BASE_EXTD, APIC_BASE_EN | APIC_BASE_EXTD};
    static const bool guest_may[4][4] = {
        [OFF] = {[OFF] = true, [X] = true}, [X] = {[OFF] = true, [X] = true, [X2] = true}, [X2] = {[OFF] = true, [X2] = true}};
    for (unsigned from = 0; from < 4; from++) {
        for (unsigned to = 0; to < 4 && from != INVALID; to++) {
            struct rig *r = rig_new(RIG_FULL, 1);
            struct vcpu *v = rig_cpu(r, 0);
            CHECK_EQ(lapic_set_base(v, 0xfee00000 | bits[from], true), 0);
            CHECK_EQ(lapic_set_base(v, 0xfee00000 | bits[to], false), guest_may[from][to] ? 0 : -1);
            CHECK_EQ(v->apic_base, 0xfee00000 | bits[guest_may[from][to] ? to : from]);
            CHECK_EQ(lapic_set_base(v, 0xfee00000 | bits[to], true), to == INVALID ? -1 : 0);
            rig_free(r);
        }
    }
    struct rig *r = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(r, 0);
    CHECK_EQ(lapic_set_base(v, 0xfee00001 | APIC_BASE_EN, true), -1);
    CHECK_EQ(lapic_set_base(v, BIT64(46) | APIC_BASE_EN, true), -1);
    v->has.x2apic = false;
    CHECK_EQ(lapic_set_base(v, 0xfee00000 | bits[X2], true), -1);
    v->has.x2apic = true;
    apic_to_x2apic(v);
    lapic_reset(v, true); /* INIT keeps the mode */
    CHECK_EQ(apic_get(v, LR_ID), 0);
    CHECK_EQ(lapic_mode(v->lapic), LAPIC_X2APIC);
    lapic_reset(v, false);
    CHECK_EQ(lapic_mode(v->lapic), LAPIC_XAPIC);
    /* Off: nothing arrives, and what was there is gone. */
    apic_enable(v);
    lapic_accept(v->lapic, 0x44, false);
    CHECK_EQ(lapic_set_base(v, 0xfee00000, false), 0);
    CHECK_EQ(irqchip_signal_msi(&r->vm, 0xfee00000, 0x45), 0);
    CHECK_EQ(lapic_set_base(v, 0xfee00000 | APIC_BASE_EN, false), 0);
    CHECK_EQ(apic_take(v), -1);
    rig_free(r);
}

/* ---- saved state ---- */

static uint32_t *word(struct kvm_lapic_state *s, enum lapic_reg r)
{
    return (uint32_t *)(void *)(s->regs + r * 16);
}

static void saved_state(void)
{
    struct rig *r = rig_new(RIG_FULL, 2), *t = rig_new(RIG_FULL, 2);
    struct vcpu *v = rig_cpu(r, 1), *w = rig_cpu(t, 1);
    struct kvm_lapic_state s, u;
    apic_enable(v);
    apic_set(v, LR_TPR, 0x20);
    apic_set(v, LR_LINT1, 0x400);
    lapic_accept(v->lapic, 0x41, true);
    lapic_accept(v->lapic, 0x91, false);
    CHECK_EQ(apic_take(v), 0x91);
    CHECK_EQ(lapic_get(v, &s), 0);
    CHECK_EQ(*word(&s, LR_ID), 0x01000000);
    CHECK_EQ(*word(&s, LR_PPR), 0x90);
    CHECK_EQ(lapic_set(w, &s), 0);
    CHECK_EQ(lapic_get(w, &u), 0);
    CHECK_EQ(memcmp(&s, &u, sizeof(s)), 0);
    CHECK_EQ(apic_take(w), -1);
    apic_eoi(w);
    CHECK_EQ(apic_take(w), 0x41);
    CHECK_EQ(lapic_tpr_get(w), 2);

    apic_to_x2apic(v);
    CHECK_EQ(lapic_get(v, &s), 0);
    CHECK_EQ(*word(&s, LR_ID), 0x01000000); /* the short form */
    CHECK_EQ(*word(&s, LR_LDR), 2);
    *word(&s, LR_ID) = 0x02000000;
    CHECK_EQ(lapic_set(v, &s), -EINVAL);
    r->vm.x2apic_api = KVM_X2APIC_API_USE_32BIT_IDS;
    CHECK_EQ(lapic_get(v, &s), 0);
    CHECK_EQ(*word(&s, LR_ID), 1);
    *word(&s, LR_LDR) = 0xdeadbeef;
    CHECK_EQ(lapic_set(v, &s), 0);
    CHECK_EQ(apic_get(v, LR_LDR), 2);
    rig_free(r);
    rig_free(t);
}

static void hostile_state(void)
{
    struct rig *r = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(r, 0);
    struct kvm_lapic_state s;
    memset(&s, 0xff, sizeof(s));
    CHECK_EQ(lapic_set(v, &s), 0);
    CHECK_EQ(apic_get(v, LR_VERSION), 0x50014);
    CHECK_EQ(apic_get(v, LR_SVR), 0x1ff);
    CHECK_EQ(apic_get(v, LR_IRR), 0xffffffff);
    CHECK_EQ(apic_get(v, LR_ISR), 0xffff0000);
    CHECK_EQ(apic_get(v, LR_LVTT), 0x700ff);
    CHECK_EQ(apic_take(v), -1);
    for (int n = 0; n < 240; n++)
        apic_eoi(v); /* every vector in service, and level-triggered */
    CHECK_EQ(apic_get(v, LR_ISR + 7), 0);
    apic_set(v, LR_TPR, 0);
    for (int n = 0xff; n >= 16; n--) {
        CHECK_EQ(apic_take(v), n);
        apic_eoi(v);
    }
    CHECK_EQ(apic_get(v, LR_IRR), 0xffff); /* visible, and never delivered */
    CHECK_EQ(apic_take(v), -1);
    rig_free(r);
}

/* ---- PV EOI ---- */

static void pv_eoi(void)
{
    struct rig *r = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(r, 0);
    uint8_t *byte = &r->ram[0x1000];
    apic_enable(v);
    CHECK_EQ(lapic_pv_eoi_set(v, 0x1002), -1);
    CHECK_EQ(lapic_pv_eoi_set(v, 0x1000 | KVM_MSR_ENABLED), 0);
    lapic_accept(v->lapic, 0x51, false);
    CHECK_EQ(apic_take(v), 0x51);
    CHECK_EQ(*byte, 1);
    *byte = 0; /* the guest's EOI */
    lapic_accept(v->lapic, 0x41, false);
    CHECK_EQ(apic_take(v), 0x41);
    CHECK_EQ(*byte, 1);
    lapic_accept(v->lapic, 0x61, false); /* nested: the offer is taken back and made for the inner one */
    CHECK_EQ(apic_take(v), 0x61);
    *byte = 0;
    apic_eoi(v); /* the outer one's, by register, as the bit is clear */
    CHECK_EQ(apic_get(v, LR_ISR + 2), 0);
    CHECK_EQ(apic_get(v, LR_ISR + 3), 0);
    /* Not while something waits, nor for levels. */
    lapic_accept(v->lapic, 0x51, false);
    lapic_accept(v->lapic, 0x52, false);
    CHECK_EQ(apic_take(v), 0x52);
    CHECK_EQ(*byte, 0);
    apic_eoi(v);
    CHECK_EQ(apic_take(v), 0x51);
    CHECK_EQ(*byte, 1);
    lapic_pv_eoi_sync(v);
    CHECK_EQ(*byte, 1);
    struct kvm_lapic_state s;
    lapic_get(v, &s); /* the saved state shows the interrupt in service, and the offer is withdrawn */
    CHECK_EQ(*byte, 0);
    CHECK_EQ(*word(&s, LR_ISR + 2), BIT(0x51 - 64));
    apic_eoi(v);
    lapic_accept(v->lapic, 0x51, true);
    CHECK_EQ(apic_take(v), 0x51);
    CHECK_EQ(*byte, 0);
    apic_eoi(v);
    CHECK_EQ(lapic_pv_eoi_set(v, RIG_RAM | KVM_MSR_ENABLED), 0); /* no RAM: no offers */
    lapic_accept(v->lapic, 0x51, false);
    CHECK_EQ(apic_take(v), 0x51);
    apic_eoi(v);
    CHECK_EQ(apic_take(v), -1);
    rig_free(r);
}

int main(void)
{
    reset_values();
    priorities();
    address_xapic();
    address_x2apic();
    address_mixed();
    special_messages();
    pv_ipi();
    errors();
    mmio_rules();
    msr_rules();
    cmci();
    lvt_masks();
    base_transitions();
    saved_state();
    hostile_state();
    pv_eoi();
    return 0;
}
