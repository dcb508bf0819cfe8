/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The IOAPIC, its way to the LAPICs and back, GSI routing, ack notifiers, and the split irqchip. */
#include "rig.h"

#include <errno.h>

/* The PICs see GSIs 0-15 as well; most tests are about the IOAPIC alone. */
static struct rig *without_pics(unsigned vcpus)
{
    struct rig *r = rig_new(RIG_FULL, vcpus);
    port_out(rig_cpu(r, 0), 0x21, 0xff);
    port_out(rig_cpu(r, 0), 0xa1, 0xff);
    return r;
}

static void edges(void)
{
    struct rig *r = without_pics(2);
    struct vcpu *v = rig_cpu(r, 0);
    apic_enable(v);
    CHECK_EQ(io_get(v, 1), 0x170011);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 5, true), -1); /* masked after reset: the edge is lost */
    io_route(v, 5, 0x45);
    CHECK_EQ(apic_take(v), -1);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 5, true), 0); /* still up: no edge */
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 5, false), 1);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 5, true), 1);
    CHECK_EQ(atomic_load(&v->requests) & REQ_EVENT, REQ_EVENT);
    CHECK_EQ(apic_take(v), 0x45);
    CHECK(!(apic_get(v, LR_TMR + 2) & BIT(5)));
    CHECK_EQ(apic_take(v), -1);
    apic_eoi(v);
    CHECK_EQ(apic_take(v), -1);
    CHECK_EQ(apic_get(v, LR_ISR + 2), 0);
    /* To the second CPU, by physical destination. */
    apic_enable(rig_cpu(r, 1));
    io_route(v, 6, 1ull << 56 | 0x46);
    irqchip_set_gsi(&r->vm, 0, 6, true);
    CHECK_EQ(apic_take(v), -1);
    CHECK_EQ(apic_take(rig_cpu(r, 1)), 0x46);
    rig_free(r);
}

static void levels(void)
{
    struct rig *r = without_pics(1);
    struct vcpu *v = rig_cpu(r, 0);
    apic_enable(v);
    io_route(v, 10, RTE_LEVEL | 0x51);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 10, true), 1);
    CHECK_EQ(io_get(v, 0x10 + 20) & RTE_REMOTE_IRR, RTE_REMOTE_IRR);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 10, true), 0);
    CHECK_EQ(apic_take(v), 0x51);
    CHECK(apic_get(v, LR_TMR + 2) & BIT(0x51 - 64));
    CHECK_EQ(apic_take(v), -1);
    apic_eoi(v); /* the line is still up: again */
    CHECK_EQ(apic_take(v), 0x51);
    irqchip_set_gsi(&r->vm, 0, 10, false);
    CHECK_EQ(io_get(v, 0x10 + 20) & RTE_REMOTE_IRR, RTE_REMOTE_IRR);
    apic_eoi(v);
    CHECK_EQ(io_get(v, 0x10 + 20) & RTE_REMOTE_IRR, 0);
    CHECK_EQ(apic_take(v), -1);
    /* A masked level that is up is sent when it is unmasked. */
    io_route(v, 10, RTE_LEVEL | RTE_MASKED | 0x51);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 10, true), -1);
    CHECK_EQ(apic_take(v), -1);
    io_route(v, 10, RTE_LEVEL | 0x51);
    CHECK_EQ(apic_take(v), 0x51);
    /* Turning the pin to edge forgets remote IRR. */
    io_route(v, 10, RTE_MASKED | 0x51);
    CHECK_EQ(io_get(v, 0x10 + 20) & RTE_REMOTE_IRR, 0);
    rig_free(r);
}

/* A level that comes before any LAPIC is enabled is not lost. */
static void early_level(void)
{
    struct rig *r = without_pics(1);
    struct vcpu *v = rig_cpu(r, 0);
    io_route(v, 9, RTE_LEVEL | 0x61);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 9, true), 0);
    CHECK_EQ(io_get(v, 0x10 + 18) & RTE_REMOTE_IRR, 0);
    apic_enable(v);
    CHECK_EQ(apic_take(v), 0x61);
    rig_free(r);
}

static void sources(void)
{
    struct rig *r = without_pics(1);
    struct vcpu *v = rig_cpu(r, 0);
    apic_enable(v);
    io_route(v, 11, RTE_LEVEL | 0x71);
    int s = irqchip_source_alloc(&r->vm);
    CHECK(s > SOURCE_PIT);
    irqchip_set_gsi(&r->vm, 0, 11, true);
    irqchip_set_gsi(&r->vm, (unsigned)s, 11, true);
    CHECK_EQ(apic_take(v), 0x71);
    irqchip_set_gsi(&r->vm, 0, 11, false); /* the other source still holds it up */
    apic_eoi(v);
    CHECK_EQ(apic_take(v), 0x71);
    irqchip_source_free(&r->vm, s);
    apic_eoi(v);
    CHECK_EQ(apic_take(v), -1);
    int all[SOURCES_MAX], n = 0;
    while ((all[n] = irqchip_source_alloc(&r->vm)) >= 0)
        n++;
    CHECK_EQ(n, SOURCES_MAX - 2);
    CHECK_EQ(all[n], -EBUSY);
    CHECK_EQ(irqchip_set_gsi(&r->vm, SOURCES_MAX, 11, true), -1);
    rig_free(r);
}

struct resampler {
    struct rig *r;
    int calls;
    bool lower;
};
static void resample(void *opaque)
{
    struct resampler *s = opaque;
    s->calls++;
    if (s->lower)
        irqchip_set_gsi(&s->r->vm, 2, 12, false);
}

/* The notifier runs before remote IRR is cleared and may call back; a line it lowers is not sent again. */
static void ack_notifiers(void)
{
    struct rig *r = without_pics(1);
    struct vcpu *v = rig_cpu(r, 0);
    struct resampler s = {.r = r, .lower = true};
    apic_enable(v);
    CHECK_EQ(irqchip_source_alloc(&r->vm), 2);
    CHECK_EQ(irqchip_add_ack_notifier(&r->vm, 12, resample, &s), 0);
    io_route(v, 12, RTE_LEVEL | 0x81);
    irqchip_set_gsi(&r->vm, 2, 12, true);
    CHECK_EQ(apic_take(v), 0x81);
    apic_eoi(v);
    CHECK_EQ(s.calls, 1);
    CHECK_EQ(apic_take(v), -1);
    /* An edge's end is told, too. */
    io_route(v, 12, 0x81);
    irqchip_set_gsi(&r->vm, 2, 12, true);
    CHECK_EQ(apic_take(v), 0x81);
    apic_eoi(v);
    CHECK_EQ(s.calls, 2);
    /* And through the PIC: GSI 12 is pin 4 of the slave. */
    irqchip_del_ack_notifier(&r->vm, 12, resample, &s);
    irqchip_set_gsi(&r->vm, 2, 12, true);
    CHECK_EQ(apic_take(v), 0x81);
    apic_eoi(v);
    CHECK_EQ(s.calls, 2);
    irqchip_add_ack_notifier(&r->vm, 12, resample, &s);
    port_out(v, 0xa0, 0x64); /* specific EOI of slave pin 4 */
    CHECK_EQ(s.calls, 3);
    rig_free(r);
}

static struct kvm_irq_routing_entry pin_route(unsigned gsi, unsigned chip, unsigned pin)
{
    return (struct kvm_irq_routing_entry){.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {chip, pin}};
}
static struct kvm_irq_routing_entry msi_route(unsigned gsi, uint32_t lo, uint32_t hi, uint32_t data)
{
    return (struct kvm_irq_routing_entry){.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI, .u.msi = {.address_lo = lo, .address_hi = hi, .data = data}};
}

static void routing(void)
{
    struct rig *r = without_pics(2);
    struct vcpu *v = rig_cpu(r, 0);
    apic_enable(v);
    apic_enable(rig_cpu(r, 1));
    struct kvm_irq_routing_entry e[4] = {pin_route(0, KVM_IRQCHIP_IOAPIC, 2), pin_route(0, KVM_IRQCHIP_PIC_MASTER, 0),
                                         msi_route(40, 0xfee01000, 0, 0x91), pin_route(30, KVM_IRQCHIP_IOAPIC, 23)};
    CHECK_EQ(irqchip_set_routes(&r->vm, e, 4), 0);
    io_route(v, 2, 0x30);
    CHECK(irqchip_set_gsi(&r->vm, 0, 0, true) > 0);
    CHECK_EQ(apic_take(v), 0x30);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 40, true), 1);
    CHECK_EQ(apic_take(rig_cpu(r, 1)), 0x91);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 40, false), -1);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 41, true), -1);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 5, true), -1); /* no longer routed */
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 1u << 31, true), -1);

    struct kvm_irq_routing_entry bad[] = {pin_route(0, KVM_IRQCHIP_IOAPIC, 24), pin_route(0, KVM_IRQCHIP_PIC_SLAVE, 8), pin_route(0, 3, 0),
                                          pin_route(IRQ_MAX_GSI, KVM_IRQCHIP_IOAPIC, 0), {.gsi = 1, .type = 9},
                                          {.gsi = 1, .type = KVM_IRQ_ROUTING_IRQCHIP, .flags = 1}};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        CHECK_EQ(irqchip_set_routes(&r->vm, &bad[i], 1), -EINVAL);
    struct kvm_irq_routing_entry twice[2] = {pin_route(3, KVM_IRQCHIP_IOAPIC, 3), pin_route(3, KVM_IRQCHIP_IOAPIC, 4)};
    CHECK_EQ(irqchip_set_routes(&r->vm, twice, 2), -EINVAL);
    twice[1] = msi_route(3, 0xfee00000, 0, 0x40);
    CHECK_EQ(irqchip_set_routes(&r->vm, twice, 2), -EINVAL);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 40, true), 1); /* a refused table changes nothing */
    apic_set(v, LR_LINT0, LVT_MASKED);
    port_out(v, 0x21, 0);
    irqchip_set_gsi(&r->vm, 0, 0, false);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 0, true), 1); /* delivered by the IOAPIC, coalesced by the PIC */
    CHECK_EQ(irqchip_set_routes(&r->vm, NULL, 0), 0);
    CHECK_EQ(irqchip_set_gsi(&r->vm, 0, 40, true), -1);

    CHECK_EQ(irqchip_signal_msi(&r->vm, 0xfee00000, 0x55), 1);
    CHECK_EQ(apic_take(v), 0x55);
    CHECK_EQ(irqchip_signal_msi(&r->vm, 0xfee09000, 0x55), 0); /* nobody has ID 9 */
    rig_free(r);
}

/* KVM's own default: GSI n is pin n; 0-15 reach the PICs too. */
static void default_routes(void)
{
    struct rig *r = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(r, 0);
    apic_enable(v);
    apic_set(v, LR_LINT0, LVT_MASKED);
    for (unsigned gsi = 0; gsi < IOAPIC_PINS; gsi++) {
        io_route(v, gsi, 0x60 + gsi);
        irqchip_set_gsi(&r->vm, 0, gsi, true);
        CHECK_EQ(apic_take(v), 0x60 + gsi);
        apic_eoi(v);
        struct kvm_irqchip k = {.chip_id = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE};
        CHECK_EQ(irqchip_get(&r->vm, &k), 0);
        if (gsi < 16)
            CHECK(k.chip.pic.irr & BIT(gsi & 7));
    }
    rig_free(r);
}

static void extended_ids(void)
{
    struct rig *r = rig_new(RIG_FULL, 2);
    struct vcpu *v = rig_cpu(r, 1);
    v->id = 0x1234; /* a CPU that only 32-bit destinations reach */
    lapic_reset(v, false);
    apic_to_x2apic(v);
    apic_enable(v);
    CHECK_EQ(irqchip_signal_msi(&r->vm, 0x00001200fee34000, 0x44), 0);
    CHECK_EQ(irqchip_signal_msi(&r->vm, 0x00000000feeff000, 0x43), 1); /* broadcast from an 8-bit sender */
    CHECK_EQ(apic_take(v), 0x43);
    apic_eoi(v);
    r->vm.x2apic_api = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
    CHECK_EQ(irqchip_signal_msi(&r->vm, 0x00001200fee34000, 0x44), 1);
    CHECK_EQ(apic_take(v), 0x44);
    CHECK_EQ(irqchip_signal_msi(&r->vm, 0x00001201fee34000, 0x44), -EINVAL);
    CHECK_EQ(irqchip_signal_msi(&r->vm, 0x00000000feeff000, 0x45), 0);
    CHECK_EQ(apic_take(v), -1);
    CHECK_EQ(irqchip_signal_msi(&r->vm, 0xffffff00feeff000, 0x55), 1);
    CHECK_EQ(apic_take(v), 0x55);
    rig_free(r);
}

static void split(void)
{
    struct rig *r = rig_new(RIG_SPLIT, 1);
    struct vcpu *v = rig_cpu(r, 0);
    apic_enable(v);
    CHECK_EQ(apic_get(v, LR_VERSION), 0x01050014);
    struct kvm_irqchip k = {.chip_id = 0};
    CHECK_EQ(irqchip_get(&r->vm, &k), -ENXIO);
    CHECK_EQ(pit_create(&r->vm, 0), -ENOENT);
    struct kvm_irq_routing_entry e[] = {msi_route(4, 0xfee00000, 0, 0x8051), msi_route(30, 0xfee00000, 0, 0x8052), msi_route(5, 0xfee00000, 0, 0x53)};
    CHECK_EQ(irqchip_set_routes(&r->vm, e, 3), 0);
    struct kvm_irq_routing_entry pin = pin_route(4, KVM_IRQCHIP_IOAPIC, 4);
    CHECK_EQ(irqchip_set_routes(&r->vm, &pin, 1), -EINVAL);
    uint8_t byte[4];
    CHECK(!irqchip_mmio_read(v, IOAPIC_BASE, byte, 4));
    irqchip_set_gsi(&r->vm, 0, 4, true);
    CHECK_EQ(apic_take(v), 0x51);
    atomic_store(&v->requests, 0);
    apic_eoi(v);
    CHECK_EQ(atomic_load(&v->requests), REQ_EVENT);
    CHECK_EQ(lapic_take_eoi_exit(v), 0x51);
    CHECK_EQ(lapic_take_eoi_exit(v), -1);
    irqchip_set_gsi(&r->vm, 0, 30, true); /* beyond user space's pins */
    CHECK_EQ(apic_take(v), 0x52);
    apic_eoi(v);
    irqchip_set_gsi(&r->vm, 0, 5, true); /* an edge */
    CHECK_EQ(apic_take(v), 0x53);
    apic_eoi(v);
    CHECK_EQ(lapic_take_eoi_exit(v), -1);
    apic_set(v, LR_SVR, 0x11ff); /* directed EOI: the guest tells the IOAPIC itself */
    irqchip_set_gsi(&r->vm, 0, 4, true);
    CHECK_EQ(apic_take(v), 0x51);
    apic_eoi(v);
    CHECK_EQ(lapic_take_eoi_exit(v), -1);
    rig_free(r);
}

static void saved_state(void)
{
    struct rig *r = rig_new(RIG_FULL, 1), *s = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(r, 0), *w = rig_cpu(s, 0);
    apic_enable(w);
    io_route(v, 10, RTE_LEVEL | 0x51);
    io_set(v, 0, 0x05000000);
    irqchip_set_gsi(&r->vm, 0, 10, true); /* up, and taken by nobody */
    struct kvm_irqchip k = {.chip_id = KVM_IRQCHIP_IOAPIC};
    CHECK_EQ(irqchip_get(&r->vm, &k), 0);
    CHECK_EQ(k.chip.ioapic.base_address, IOAPIC_BASE);
    CHECK_EQ(k.chip.ioapic.irr, BIT(10));
    CHECK_EQ(k.chip.ioapic.id, 5);
    CHECK_EQ(irqchip_set(&s->vm, &k), 0);
    CHECK_EQ(io_get(w, 0), 0x05000000);
    CHECK_EQ(apic_take(w), 0x51);
    /* Hostile state: what does not exist is not kept. */
    memset(&k.chip, 0xff, sizeof(k.chip));
    CHECK_EQ(irqchip_set(&s->vm, &k), 0);
    CHECK_EQ(irqchip_get(&s->vm, &k), 0);
    CHECK_EQ(k.chip.ioapic.base_address, IOAPIC_BASE);
    CHECK_EQ(k.chip.ioapic.ioregsel, 0xff);
    CHECK_EQ(io_get(w, 0xff), 0xffffffff);
    CHECK_EQ(k.chip.ioapic.redirtbl[0].bits, 0xff0000000001efff);
    k.chip_id = 3;
    CHECK_EQ(irqchip_set(&s->vm, &k), -EINVAL);
    CHECK_EQ(irqchip_get(&s->vm, &k), -EINVAL);
    rig_free(r);
    rig_free(s);
}

int main(void)
{
    edges();
    levels();
    early_level();
    sources();
    ack_notifiers();
    routing();
    default_routes();
    extended_ids();
    split();
    saved_state();
    return 0;
}
