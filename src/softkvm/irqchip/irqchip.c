/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The chips as one: creation, saved state, the guest's ports and MMIO, and the way back of an EOI to those who wait for it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "softkvm/irqchip/lapic.h"

/* ---- life ---- */

int irqchip_create(struct softkvm_vm *vm, bool split, unsigned pins)
{
    if (vm->irqchip)
        return -EEXIST;
    struct irqchip *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    *c = (struct irqchip){.vm = vm, .split = split, .pins = pins, .sources = BIT64(SOURCE_USER) | BIT64(SOURCE_PIT)};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->ack_idle, NULL);
    ioapic_reset(c);
    pic_reset(c);
    int err = timers_init(&c->timers);
    if (!err)
        err = route_set_default(c);
    if (err) {
        timers_destroy(&c->timers);
        free(c);
        return err;
    }
    vm->split_irqchip = split;
    vm->irqchip = c;
    return 0;
}

void irqchip_stop(struct softkvm_vm *vm)
{
    if (vm->irqchip)
        pit_destroy(vm->irqchip);
}

void irqchip_destroy(struct softkvm_vm *vm)
{
    struct irqchip *c = vm->irqchip;
    if (!c)
        return;
    pit_destroy(c);
    timers_destroy(&c->timers);
    while (c->acks) {
        struct ack_notifier *n = c->acks;
        c->acks = n->next;
        free(n);
    }
    route_free(c->routes);
    pthread_cond_destroy(&c->ack_idle);
    pthread_mutex_destroy(&c->lock);
    free(c);
    vm->irqchip = NULL;
}

/* ---- KVM_GET_IRQCHIP, KVM_SET_IRQCHIP ---- */

int irqchip_get(struct softkvm_vm *vm, struct kvm_irqchip *k)
{
    struct irqchip *c = vm->irqchip;
    if (!c || c->split)
        return -ENXIO;
    if (k->chip_id > KVM_IRQCHIP_IOAPIC)
        return -EINVAL;
    memset(&k->chip, 0, sizeof(k->chip));
    pthread_mutex_lock(&c->lock);
    if (k->chip_id == KVM_IRQCHIP_IOAPIC)
        ioapic_get(c, &k->chip.ioapic);
    else
        k->chip.pic = c->pic.chip[k->chip_id];
    pthread_mutex_unlock(&c->lock);
    return 0;
}

int irqchip_set(struct softkvm_vm *vm, const struct kvm_irqchip *k)
{
    struct irqchip *c = vm->irqchip;
    if (!c || c->split)
        return -ENXIO;
    if (k->chip_id > KVM_IRQCHIP_IOAPIC)
        return -EINVAL;
    pthread_mutex_lock(&c->lock);
    if (k->chip_id == KVM_IRQCHIP_IOAPIC)
        ioapic_set(c, &k->chip.ioapic);
    else
        pic_set_state(c, k->chip_id, &k->chip.pic);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

/* ---- acknowledgements ---- */

/* Vectors of IOAPIC pins whose GSI somebody wants acknowledged, whatever their trigger mode; in a split chip, those of user space's pins. */
void irqchip_update_eoi_vectors(struct irqchip *c)
{
    uint64_t map[4] = {0};
    if (c->split && c->routes)
        route_level_msis(c->routes, c->pins, map);
    for (unsigned pin = 0; pin < IOAPIC_PINS && !c->split && c->routes; pin++) {
        bool wanted = c->pit && c->pit->reinject && route_has_pin(c->routes, 0, KVM_IRQCHIP_IOAPIC, pin);
        for (struct ack_notifier *n = c->acks; n && !wanted; n = n->next)
            wanted = route_has_pin(c->routes, n->gsi, KVM_IRQCHIP_IOAPIC, pin);
        uint8_t vector = (uint8_t)c->ioapic.rte[pin];
        if (wanted && !(c->ioapic.rte[pin] & RTE_MASKED))
            map[vector / 64] |= BIT64(vector % 64);
    }
    for (unsigned i = 0; i < 4; i++)
        atomic_store_explicit(&c->eoi_vectors[i], map[i], memory_order_release);
}

void irqchip_notify_ack(struct irqchip *c, unsigned chip, unsigned pin)
{
    if (c->pit && route_has_pin(c->routes, 0, chip, pin))
        pit_ack(c);
    for (struct ack_notifier *n = c->acks; n; n = n->next) {
        if (n->dead || !route_has_pin(c->routes, n->gsi, chip, pin))
            continue;
        /* A busy notifier stays in the list, so n->next is good after the call. */
        n->busy++;
        pthread_mutex_unlock(&c->lock);
        n->fn(n->opaque);
        pthread_mutex_lock(&c->lock);
        if (!--n->busy && n->dead)
            pthread_cond_broadcast(&c->ack_idle);
    }
}

void irqchip_notify_unmask(struct irqchip *c, unsigned chip, unsigned pin)
{
    if (c->pit && route_has_pin(c->routes, 0, chip, pin))
        pit_forget_ticks(c);
}

int irqchip_add_ack_notifier(struct softkvm_vm *vm, unsigned gsi, void (*fn)(void *opaque), void *opaque)
{
    struct irqchip *c = vm->irqchip;
    if (!c)
        return -ENXIO;
    struct ack_notifier *n = calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    *n = (struct ack_notifier){.gsi = gsi, .fn = fn, .opaque = opaque};
    pthread_mutex_lock(&c->lock);
    n->next = c->acks;
    c->acks = n;
    irqchip_update_eoi_vectors(c);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

void irqchip_del_ack_notifier(struct softkvm_vm *vm, unsigned gsi, void (*fn)(void *opaque), void *opaque)
{
    struct irqchip *c = vm->irqchip;
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    struct ack_notifier *n = c->acks;
    while (n && (n->dead || n->gsi != gsi || n->fn != fn || n->opaque != opaque))
        n = n->next;
    if (n) {
        n->dead = true;
        while (n->busy)
            pthread_cond_wait(&c->ack_idle, &c->lock);
        struct ack_notifier **link = &c->acks;
        while (*link != n)
            link = &(*link)->next;
        *link = n->next;
        irqchip_update_eoi_vectors(c);
    }
    pthread_mutex_unlock(&c->lock);
    free(n);
}

/* ---- the guest's ports and MMIO ---- */

static bool pic_port(uint16_t port)
{
    return (port & ~0x81) == 0x20 || (port & ~1) == 0x4d0;
}
static bool pit_port(const struct irqchip *c, uint16_t port)
{
    return c->pit && ((port & ~3) == 0x40 || (port == 0x61 && c->pit->speaker));
}

bool irqchip_port_in(struct vcpu *v, uint16_t port, unsigned size, uint32_t *val)
{
    struct irqchip *c = v->vm->irqchip;
    if (!c || c->split || !(pic_port(port) || pit_port(c, port)))
        return false;
    *val = size == 4 ? 0xffffffff : (uint32_t)BIT64(size * 8) - 1;
    if (size != 1) /* the chips have 8 data lines */
        return true;
    pthread_mutex_lock(&c->lock);
    *val = pic_port(port) ? pic_read(c, port) : pit_read(c->pit, port);
    pic_notify(c);
    pthread_mutex_unlock(&c->lock);
    return true;
}

bool irqchip_port_out(struct vcpu *v, uint16_t port, unsigned size, uint32_t val)
{
    struct irqchip *c = v->vm->irqchip;
    if (!c || c->split || !(pic_port(port) || pit_port(c, port)))
        return false;
    if (size != 1)
        return true;
    pthread_mutex_lock(&c->lock);
    if (pic_port(port))
        pic_write(c, port, (uint8_t)val);
    else
        pit_write(c->pit, port, (uint8_t)val);
    pic_notify(c);
    pthread_mutex_unlock(&c->lock);
    return true;
}

static bool ioapic_hit(const struct irqchip *c, uint64_t gpa)
{
    return !c->split && gpa - atomic_load_explicit(&c->ioapic.base, memory_order_relaxed) < IOAPIC_SIZE;
}

bool irqchip_mmio_read(struct vcpu *v, uint64_t gpa, void *data, unsigned size)
{
    struct irqchip *c = v->vm->irqchip;
    if (v->lapic && gpa - (v->apic_base & PAGE_MASK) < PAGE_SIZE) {
        lapic_mmio_read(v->lapic, (unsigned)(gpa & (PAGE_SIZE - 1)), data, size);
        return true;
    }
    if (!c || !ioapic_hit(c, gpa))
        return false;
    pthread_mutex_lock(&c->lock);
    uint64_t val = ioapic_read(c, (uint32_t)(gpa & (IOAPIC_SIZE - 1)));
    pthread_mutex_unlock(&c->lock);
    memcpy(data, &val, MIN(size, sizeof(val)));
    return true;
}

bool irqchip_mmio_write(struct vcpu *v, uint64_t gpa, const void *data, unsigned size)
{
    struct irqchip *c = v->vm->irqchip;
    if (v->lapic && gpa - (v->apic_base & PAGE_MASK) < PAGE_SIZE) {
        lapic_mmio_write(v->lapic, (unsigned)(gpa & (PAGE_SIZE - 1)), data, size);
        return true;
    }
    if (!c || !ioapic_hit(c, gpa))
        return false;
    uint32_t val = 0;
    memcpy(&val, data, MIN(size, sizeof(val)));
    pthread_mutex_lock(&c->lock);
    ioapic_write(c, (uint32_t)(gpa & (IOAPIC_SIZE - 1)), val);
    pthread_mutex_unlock(&c->lock);
    return true;
}
