/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 8259A pair: the acknowledge cycle, priorities and modes of Intel's datasheet, and LINT0's virtual wire. */
#include "rig.h"

#define MASTER 0x20
#define SLAVE  0xa0

static void init_chip(struct vcpu *v, uint16_t port, uint8_t base, uint8_t icw4)
{
    port_out(v, port, 0x11);
    port_out(v, port + 1, base);
    port_out(v, port + 1, port == MASTER ? 4 : 2);
    port_out(v, port + 1, icw4);
    port_out(v, port + 1, 0);
}
static struct rig *pc(uint8_t icw4)
{
    struct rig *r = rig_new(RIG_FULL, 2);
    init_chip(rig_cpu(r, 0), MASTER, 0x08, icw4);
    init_chip(rig_cpu(r, 0), SLAVE, 0x70, icw4 & ~0x10);
    return r;
}
static void line(struct rig *r, unsigned gsi, bool level)
{
    irqchip_set_gsi(&r->vm, 0, gsi, level);
}
static void pulse(struct rig *r, unsigned gsi)
{
    line(r, gsi, true);
    line(r, gsi, false);
}
static uint8_t isr(struct vcpu *v, uint16_t port)
{
    port_out(v, port, 0x0b);
    return port_in(v, port);
}
static uint8_t irr(struct vcpu *v, uint16_t port)
{
    port_out(v, port, 0x0a);
    return port_in(v, port);
}

static void priorities_and_cascade(void)
{
    struct rig *r = pc(1);
    struct vcpu *v = rig_cpu(r, 0);
    CHECK_EQ(apic_take(v), -1);
    pulse(r, 5);
    pulse(r, 1);
    CHECK_EQ(irr(v, MASTER), 0x22);
    CHECK_EQ(apic_take(v), 0x09); /* 1 before 5 */
    CHECK_EQ(isr(v, MASTER), 0x02);
    CHECK_EQ(apic_take(v), -1); /* 5 is lower than what is in service */
    pulse(r, 0);
    CHECK_EQ(apic_take(v), 0x08); /* 0 is higher */
    port_out(v, MASTER, 0x20);
    port_out(v, MASTER, 0x20);
    CHECK_EQ(apic_take(v), 0x0d);
    port_out(v, MASTER, 0x65); /* specific */
    CHECK_EQ(isr(v, MASTER), 0);
    pulse(r, 12);
    pulse(r, 8);
    CHECK_EQ(apic_take(v), 0x70);
    CHECK_EQ(isr(v, MASTER), 0x04);
    CHECK_EQ(isr(v, SLAVE), 0x01);
    port_out(v, SLAVE, 0x20);
    port_out(v, MASTER, 0x20);
    CHECK_EQ(apic_take(v), 0x74);
    port_out(v, SLAVE, 0x20);
    port_out(v, MASTER, 0x20);
    CHECK_EQ(apic_take(v), -1);
    rig_free(r);
}

static void masks_and_spurious(void)
{
    struct rig *r = pc(1);
    struct vcpu *v = rig_cpu(r, 0);
    port_out(v, MASTER + 1, 0xff);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 3, true), -1);
    CHECK_EQ(apic_take(v), -1);
    port_out(v, MASTER + 1, 0xf7);
    CHECK_EQ(apic_take(v), 0x0b); /* the masked edge was kept in IRR */
    port_out(v, MASTER, 0x20);
    line(r, 3, false);
    /* Acknowledging nothing gives vector 7, and nothing is in service. */
    pthread_mutex_lock(&r->vm.irqchip->lock);
    CHECK_EQ(pic_intack(r->vm.irqchip), 0x0f);
    pthread_mutex_unlock(&r->vm.irqchip->lock);
    CHECK_EQ(isr(v, MASTER), 0);
    rig_free(r);
}

static void level_triggered(void)
{
    struct rig *r = pc(1);
    struct vcpu *v = rig_cpu(r, 0);
    port_out(v, 0x4d0, 0xff);
    port_out(v, 0x4d1, 0xff);
    CHECK_EQ(port_in(v, 0x4d0), 0xf8);
    CHECK_EQ(port_in(v, 0x4d1), 0xde);
    line(r, 5, true);
    CHECK_EQ(apic_take(v), 0x0d);
    CHECK_EQ(irr(v, MASTER), 0x20); /* a level stays requested */
    port_out(v, MASTER, 0x20);
    CHECK_EQ(apic_take(v), 0x0d);
    line(r, 5, false);
    port_out(v, MASTER, 0x20);
    CHECK_EQ(apic_take(v), -1);
    CHECK_EQ(irr(v, MASTER), 0);
    rig_free(r);
}

static void auto_eoi_and_rotation(void)
{
    struct rig *r = pc(3);
    struct vcpu *v = rig_cpu(r, 0);
    port_out(v, MASTER, 0x80); /* rotate in automatic EOI mode */
    pulse(r, 3);
    pulse(r, 4);
    CHECK_EQ(apic_take(v), 0x0b);
    CHECK_EQ(isr(v, MASTER), 0);
    pulse(r, 3); /* 3 has become the lowest */
    CHECK_EQ(apic_take(v), 0x0c);
    CHECK_EQ(apic_take(v), 0x0b);
    rig_free(r);

    r = pc(1);
    v = rig_cpu(r, 0);
    port_out(v, MASTER, 0xc4); /* set priority: 4 lowest, 5 highest */
    pulse(r, 1);
    pulse(r, 6);
    CHECK_EQ(apic_take(v), 0x0e);
    port_out(v, MASTER, 0xa0); /* rotate on non-specific EOI: 6 lowest */
    pulse(r, 6);
    CHECK_EQ(apic_take(v), 0x09);
    port_out(v, MASTER, 0xe1); /* rotate on specific EOI: 1 lowest */
    pulse(r, 1);
    CHECK_EQ(apic_take(v), 0x0e);
    rig_free(r);
}

static void special_modes(void)
{
    struct rig *r = pc(0x11);
    struct vcpu *v = rig_cpu(r, 0);
    /* Special fully nested: a second interrupt of the slave gets through while its first is in service. */
    pulse(r, 12);
    CHECK_EQ(apic_take(v), 0x74);
    pulse(r, 9);
    CHECK_EQ(apic_take(v), 0x71);
    rig_free(r);

    r = pc(1);
    v = rig_cpu(r, 0);
    pulse(r, 1);
    CHECK_EQ(apic_take(v), 0x09);
    pulse(r, 6);
    CHECK_EQ(apic_take(v), -1);
    port_out(v, MASTER + 1, 0x02);
    port_out(v, MASTER, 0x68); /* special mask mode: the masked level in service no longer blocks */
    CHECK_EQ(apic_take(v), 0x0e);
    port_out(v, MASTER, 0x20); /* and a non-specific EOI does not hit it */
    CHECK_EQ(isr(v, MASTER), 0x02);
    rig_free(r);

    r = pc(1);
    v = rig_cpu(r, 0);
    pulse(r, 6);
    port_out(v, MASTER, 0x0c); /* poll */
    CHECK_EQ(port_in(v, MASTER), 0x86);
    CHECK_EQ(isr(v, MASTER), 0x40);
    port_out(v, MASTER, 0x0c);
    CHECK_EQ(port_in(v, MASTER), 0);
    rig_free(r);
}

static void virtual_wire(void)
{
    struct rig *r = pc(1);
    struct vcpu *v = rig_cpu(r, 0), *ap = rig_cpu(r, 1);
    pulse(r, 1);
    CHECK(lapic_has_interrupt(v));
    CHECK(!lapic_has_interrupt(ap)); /* LINT0 is masked there */
    CHECK_EQ(atomic_load(&ap->requests) & REQ_EVENT, 0);
    apic_enable(v);
    apic_set(v, LR_LINT0, LVT_MASKED | APIC_EXTINT << 8);
    CHECK(!lapic_has_interrupt(v));
    atomic_store(&v->requests, 0);
    apic_set(v, LR_LINT0, APIC_EXTINT << 8);
    CHECK_EQ(atomic_load(&v->requests), REQ_EVENT);
    CHECK_EQ(apic_take(v), 0x09);
    port_out(v, MASTER, 0x20);
    /* A CPU whose LAPIC is off has the PIC at its INTR pin. */
    CHECK_EQ(lapic_set_base(ap, ap->apic_base & ~APIC_BASE_EN, false), 0);
    pulse(r, 1);
    CHECK_EQ(apic_take(ap), 0x09);
    rig_free(r);
}

static void wide_accesses(void)
{
    struct rig *r = pc(1);
    uint32_t val = 0;
    CHECK(irqchip_port_in(rig_cpu(r, 0), 0x20, 2, &val));
    CHECK_EQ(val, 0xffff);
    CHECK(irqchip_port_out(rig_cpu(r, 0), 0x20, 4, 0));
    CHECK(!irqchip_port_in(rig_cpu(r, 0), 0x22, 1, &val));
    CHECK(!irqchip_port_in(rig_cpu(r, 0), 0x40, 1, &val)); /* no PIT yet */
    rig_free(r);
}

static void hostile_state(void)
{
    struct rig *r = pc(1);
    struct kvm_irqchip k = {.chip_id = KVM_IRQCHIP_PIC_MASTER};
    memset(&k.chip, 0xff, sizeof(k.chip));
    CHECK_EQ(irqchip_set(&r->vm, &k), 0);
    CHECK_EQ(irqchip_get(&r->vm, &k), 0);
    CHECK_EQ(k.chip.pic.priority_add, 7);
    CHECK_EQ(k.chip.pic.irq_base, 0xf8);
    CHECK_EQ(k.chip.pic.init_state, 3);
    CHECK_EQ(k.chip.pic.elcr, 0xf8);
    k.chip.pic = (struct kvm_pic_state){.irr = 0x10, .irq_base = 0x20};
    CHECK_EQ(irqchip_set(&r->vm, &k), 0);
    CHECK_EQ(apic_take(rig_cpu(r, 0)), 0x24);
    rig_free(r);
}

int main(void)
{
    priorities_and_cascade();
    masks_and_spurious();
    level_triggered();
    auto_eoi_and_rotation();
    special_modes();
    virtual_wire();
    wide_accesses();
    hostile_state();
    return 0;
}
