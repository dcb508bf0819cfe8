/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GSI routing: each GSI goes to one pin of each of several chips, or is one MSI (KVM_SET_GSI_ROUTING). A table is built whole and replaced
 * whole; entries of one GSI are chained by index.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "softkvm/irqchip/irqchip_priv.h"

#define NO_ENTRY 0xffff

struct route {
    uint16_t next; /* of the same GSI */
    uint16_t gsi;
    bool msi;
    union {
        struct {
            uint8_t chip, pin;
        } pin;
        struct apic_msg msg;
    } u;
};

struct route_table {
    uint16_t first[IRQ_MAX_GSI];
    unsigned count;
    struct route entries[];
};

/*
 * An MSI's address and data: SDM vol. 3, 10.11. With KVM_X2APIC_API_USE_32BIT_IDS the address's upper half carries bits 8..31 of the
 * destination (Documentation/virt/kvm/api.rst, KVM_CAP_X2APIC_API).
 */
static struct apic_msg msi_message(const struct softkvm_vm *vm, uint64_t addr, uint32_t data)
{
    uint32_t dest = (addr >> 12) & 0xff;
    if (vm->x2apic_api & KVM_X2APIC_API_USE_32BIT_IDS)
        dest |= (uint32_t)(addr >> 32) & 0xffffff00;
    return (struct apic_msg){
        .dest = dest,
        .mode = (data >> 8) & 7,
        .vector = (uint8_t)data,
        .logical = addr >> 2 & 1,
        .redirect = addr >> 3 & 1,
        .level = data >> 15 & 1,
        .assert = true,
    };
}

/* With 32-bit IDs, the lowest byte of an MSI's upper address is reserved. */
static bool msi_valid(const struct softkvm_vm *vm, uint64_t addr)
{
    return !(vm->x2apic_api & KVM_X2APIC_API_USE_32BIT_IDS) || !(addr >> 32 & 0xff);
}

static int parse_entry(const struct irqchip *c, const struct kvm_irq_routing_entry *e, struct route *r)
{
    if (e->gsi >= IRQ_MAX_GSI)
        return -EINVAL;
    r->gsi = (uint16_t)e->gsi;
    if (e->type == KVM_IRQ_ROUTING_IRQCHIP) {
        if (e->flags || c->split)
            return -EINVAL;
        unsigned pins = e->u.irqchip.irqchip == KVM_IRQCHIP_IOAPIC ? IOAPIC_PINS : 8;
        if (e->u.irqchip.irqchip > KVM_IRQCHIP_IOAPIC || e->u.irqchip.pin >= pins)
            return -EINVAL;
        r->msi = false;
        r->u.pin.chip = (uint8_t)e->u.irqchip.irqchip;
        r->u.pin.pin = (uint8_t)e->u.irqchip.pin;
        return 0;
    }
    uint64_t addr = (uint64_t)e->u.msi.address_hi << 32 | e->u.msi.address_lo;
    if (e->type != KVM_IRQ_ROUTING_MSI || (e->flags & ~KVM_MSI_VALID_DEVID) || !msi_valid(c->vm, addr))
        return -EINVAL;
    r->msi = true;
    r->u.msg = msi_message(c->vm, addr, e->u.msi.data);
    return 0;
}

/* A GSI may go to one pin of each chip, or be one MSI. */
static bool conflicts(const struct route_table *t, const struct route *r)
{
    for (unsigned i = t->first[r->gsi]; i != NO_ENTRY; i = t->entries[i].next) {
        const struct route *o = &t->entries[i];
        if (o->msi || r->msi || o->u.pin.chip == r->u.pin.chip)
            return true;
    }
    return false;
}

static struct route_table *table_new(unsigned n)
{
    struct route_table *t = calloc(1, sizeof(*t) + n * sizeof(struct route));
    for (unsigned gsi = 0; t && gsi < IRQ_MAX_GSI; gsi++)
        t->first[gsi] = NO_ENTRY;
    return t;
}

static void table_add(struct route_table *t, const struct route *r)
{
    /* Appended to the chain's end, so that chips are told in the table's order. */
    uint16_t *link = &t->first[r->gsi];
    while (*link != NO_ENTRY)
        link = &t->entries[*link].next;
    *link = (uint16_t)t->count;
    t->entries[t->count] = *r;
    t->entries[t->count++].next = NO_ENTRY;
}

static void table_install(struct irqchip *c, struct route_table *t)
{
    pthread_mutex_lock(&c->lock);
    struct route_table *old = c->routes;
    c->routes = t;
    irqchip_update_eoi_vectors(c);
    pthread_mutex_unlock(&c->lock);
    route_free(old);
}

int irqchip_set_routes(struct softkvm_vm *vm, const struct kvm_irq_routing_entry *e, unsigned n)
{
    struct irqchip *c = vm->irqchip;
    if (!c)
        return -ENXIO;
    if (n > IRQ_MAX_GSI)
        return -EINVAL;
    struct route_table *t = table_new(n);
    if (!t)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        struct route r = {0};
        if (parse_entry(c, &e[i], &r) < 0 || conflicts(t, &r)) {
            free(t);
            return -EINVAL;
        }
        table_add(t, &r);
    }
    table_install(c, t);
    return 0;
}

/* KVM's initial table: GSI n is pin n of the IOAPIC, and below 16 of the PICs too. (Boards that wire the PIT to IOAPIC pin 2 set their own.) */
int route_set_default(struct irqchip *c)
{
    struct route_table *t = table_new(16 + IOAPIC_PINS);
    if (!t)
        return -ENOMEM;
    for (unsigned gsi = 0; gsi < IOAPIC_PINS && !c->split; gsi++) {
        struct route r = {.gsi = (uint16_t)gsi, .u.pin = {KVM_IRQCHIP_IOAPIC, (uint8_t)gsi}};
        table_add(t, &r);
        if (gsi >= 16)
            continue;
        r.u.pin.chip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
        r.u.pin.pin = gsi & 7;
        table_add(t, &r);
    }
    table_install(c, t);
    return 0;
}

void route_free(struct route_table *t)
{
    free(t);
}

static int route_deliver(struct irqchip *c, const struct route *r, unsigned source, bool level)
{
    if (r->msi)
        return level ? apic_send(c->vm, NULL, &r->u.msg) : -1;
    if (r->u.pin.chip == KVM_IRQCHIP_IOAPIC)
        return ioapic_set_pin(c, r->u.pin.pin, source, level);
    return pic_set_pin(c, r->u.pin.chip * 8 + r->u.pin.pin, source, level);
}

int route_set_gsi(struct irqchip *c, unsigned source, unsigned gsi, bool level)
{
    const struct route_table *t = c->routes;
    int ret = -1;
    if (gsi >= IRQ_MAX_GSI)
        return ret;
    for (unsigned i = t->first[gsi]; i != NO_ENTRY; i = t->entries[i].next) {
        int r = route_deliver(c, &t->entries[i], source, level);
        if (r >= 0)
            ret = r + MAX(ret, 0);
    }
    return ret;
}

bool route_has_pin(const struct route_table *t, unsigned gsi, unsigned chip, unsigned pin)
{
    if (gsi >= IRQ_MAX_GSI)
        return false;
    for (unsigned i = t->first[gsi]; i != NO_ENTRY; i = t->entries[i].next) {
        const struct route *r = &t->entries[i];
        if (!r->msi && r->u.pin.chip == chip && r->u.pin.pin == pin)
            return true;
    }
    return false;
}

void route_level_msis(const struct route_table *t, unsigned pins, uint64_t map[4])
{
    for (unsigned i = 0; i < t->count; i++) {
        const struct route *r = &t->entries[i];
        if (r->msi && r->u.msg.level && r->gsi < pins)
            map[r->u.msg.vector / 64] |= BIT64(r->u.msg.vector % 64);
    }
}

int irqchip_set_gsi(struct softkvm_vm *vm, unsigned source, unsigned gsi, bool level)
{
    struct irqchip *c = vm->irqchip;
    if (!c || source >= SOURCES_MAX)
        return -1;
    pthread_mutex_lock(&c->lock);
    int ret = route_set_gsi(c, source, gsi, level);
    pthread_mutex_unlock(&c->lock);
    return MIN(ret, 1);
}

int irqchip_signal_msi(struct softkvm_vm *vm, uint64_t addr, uint32_t data)
{
    if (!vm->irqchip)
        return -ENXIO;
    if (!msi_valid(vm, addr))
        return -EINVAL;
    struct apic_msg m = msi_message(vm, addr, data);
    return apic_send(vm, NULL, &m) > 0;
}

int irqchip_source_alloc(struct softkvm_vm *vm)
{
    struct irqchip *c = vm->irqchip;
    if (!c)
        return -ENXIO;
    pthread_mutex_lock(&c->lock);
    int source = -EBUSY;
    if (~c->sources) {
        source = __builtin_ctzll(~c->sources);
        c->sources |= BIT64(source);
    }
    pthread_mutex_unlock(&c->lock);
    return source;
}

void irqchip_source_free(struct softkvm_vm *vm, int source)
{
    struct irqchip *c = vm->irqchip;
    if (!c || source <= SOURCE_PIT || source >= SOURCES_MAX)
        return;
    pthread_mutex_lock(&c->lock);
    /* What the source still holds up falls. */
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        if (c->ioapic.sources[pin] & BIT64(source))
            ioapic_set_pin(c, pin, (unsigned)source, false);
    for (unsigned pin = 0; pin < 16; pin++)
        if (c->pic.sources[pin] & BIT64(source))
            pic_set_pin(c, pin, (unsigned)source, false);
    c->sources &= ~BIT64(source);
    pthread_mutex_unlock(&c->lock);
}
