/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The IOAPIC: 24 pins, each with a redirection table entry that says which message its interrupt becomes (82093AA datasheet, 3.2.4).
 *
 * An edge sends one message; while the pin is masked, edges are lost, as the datasheet has it. A level sends a message and sets remote IRR;
 * the LAPIC's EOI of that vector clears it, and sends again while the line is still up. A level that no LAPIC took (all were disabled) keeps
 * remote IRR clear and is offered again when a LAPIC is enabled.
 */
#include <string.h>

#include "softkvm/irqchip/irqchip_priv.h"

#define REG_SELECT  0x00
#define REG_WINDOW  0x10
#define REG_ID      0
#define REG_VERSION 1
#define REG_ARB     2
#define REG_TABLE   0x10

#define IOAPIC_VERSION (0x11u | (IOAPIC_PINS - 1) << 16)
#define ID_MASK        0x0f000000u
/* What software may write into an entry: all but delivery status, remote IRR and the reserved bits. */
#define RTE_WRITABLE (0xffull << 56 | 0x1afffull)

/* Sends a pin's message if it may: 1 or more taken, 0 nobody took it, -1 masked or waiting for an EOI. */
static int ioapic_service(struct irqchip *c, unsigned pin)
{
    uint64_t *rte = &c->ioapic.rte[pin];
    if ((*rte & RTE_MASKED) || ((*rte & RTE_LEVEL) && (*rte & RTE_REMOTE_IRR)))
        return -1;
    struct apic_msg m = {
        .dest = (uint32_t)(*rte >> 56),
        .mode = (*rte >> 8) & 7,
        .vector = (uint8_t)*rte,
        .logical = *rte & RTE_DEST_LOGICAL,
        .level = *rte & RTE_LEVEL,
        .assert = true,
    };
    int taken = apic_send(c->vm, NULL, &m);
    if (taken > 0 && m.level && (m.mode == APIC_FIXED || m.mode == APIC_LOWEST))
        *rte |= RTE_REMOTE_IRR;
    return taken;
}

int ioapic_set_pin(struct irqchip *c, unsigned pin, unsigned source, bool level)
{
    struct ioapic *io = &c->ioapic;
    if (level)
        io->sources[pin] |= BIT64(source);
    else
        io->sources[pin] &= ~BIT64(source);
    bool was = io->lines >> pin & 1;
    if (!io->sources[pin]) {
        io->lines &= ~BIT(pin);
        return 1;
    }
    io->lines |= BIT(pin);
    if (io->rte[pin] & RTE_LEVEL ? (io->rte[pin] & RTE_REMOTE_IRR) != 0 : was)
        return 0;
    return ioapic_service(c, pin);
}

/* A level pin whose line is up, after something that may have freed it. */
static void retry_pin(struct irqchip *c, unsigned pin)
{
    if ((c->ioapic.rte[pin] & RTE_LEVEL) && (c->ioapic.lines >> pin & 1))
        ioapic_service(c, pin);
}

void ioapic_retry(struct irqchip *c)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        retry_pin(c, pin);
}

void ioapic_eoi(struct irqchip *c, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *rte = &c->ioapic.rte[pin];
        if ((uint8_t)*rte != vector)
            continue;
        /* Resampling lowers the line before it is looked at again, so the notifiers come first. */
        irqchip_notify_ack(c, KVM_IRQCHIP_IOAPIC, pin);
        if ((uint8_t)*rte != vector || !(*rte & RTE_REMOTE_IRR))
            continue;
        *rte &= ~RTE_REMOTE_IRR;
        retry_pin(c, pin);
    }
}

static void write_rte(struct irqchip *c, unsigned pin, unsigned high, uint32_t val)
{
    uint64_t *rte = &c->ioapic.rte[pin];
    bool was_masked = *rte & RTE_MASKED;
    uint64_t want = high ? (uint64_t)val << 32 | (uint32_t)*rte : (*rte & ~0xffffffffull) | val;
    *rte = (want & RTE_WRITABLE) | (*rte & (RTE_REMOTE_IRR | RTE_PENDING));
    /* Making a pin edge-triggered forgets its remote IRR: the only way to end a stuck interrupt without an EOI register. */
    if (!(*rte & RTE_LEVEL))
        *rte &= ~RTE_REMOTE_IRR;
    if (was_masked && !(*rte & RTE_MASKED))
        irqchip_notify_unmask(c, KVM_IRQCHIP_IOAPIC, pin);
    irqchip_update_eoi_vectors(c);
    retry_pin(c, pin);
}

uint32_t ioapic_read(struct irqchip *c, uint32_t offset)
{
    struct ioapic *io = &c->ioapic;
    if (offset == REG_SELECT)
        return io->select;
    if (offset != REG_WINDOW)
        return 0;
    unsigned n = io->select - REG_TABLE;
    switch (io->select) {
    case REG_ID:
    case REG_ARB: return io->id & ID_MASK;
    case REG_VERSION: return IOAPIC_VERSION;
    default: return n < 2 * IOAPIC_PINS ? (uint32_t)(io->rte[n / 2] >> (n & 1) * 32) : 0xffffffff;
    }
}

void ioapic_write(struct irqchip *c, uint32_t offset, uint32_t val)
{
    struct ioapic *io = &c->ioapic;
    if (offset == REG_SELECT)
        io->select = val & 0xff;
    if (offset != REG_WINDOW)
        return;
    unsigned n = io->select - REG_TABLE;
    if (io->select == REG_ID)
        io->id = val & ID_MASK;
    else if (io->select >= REG_TABLE && n < 2 * IOAPIC_PINS)
        write_rte(c, n / 2, n & 1, val);
}

void ioapic_reset(struct irqchip *c)
{
    memset(&c->ioapic, 0, sizeof(c->ioapic));
    c->ioapic.base = IOAPIC_BASE;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        c->ioapic.rte[pin] = RTE_MASKED;
}

void ioapic_get(struct irqchip *c, struct kvm_ioapic_state *s)
{
    const struct ioapic *io = &c->ioapic;
    memset(s, 0, sizeof(*s));
    s->base_address = io->base;
    s->ioregsel = io->select;
    s->id = io->id >> 24;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        s->redirtbl[pin].bits = io->rte[pin];
        /* An edge has been sent or lost by now; only levels are still to be told. */
        if (io->rte[pin] & RTE_LEVEL)
            s->irr |= io->lines & BIT(pin);
    }
}

void ioapic_set(struct irqchip *c, const struct kvm_ioapic_state *s)
{
    struct ioapic *io = &c->ioapic;
    io->base = s->base_address & (PAGE_SIZE - 1) ? IOAPIC_BASE : s->base_address;
    io->select = s->ioregsel & 0xff;
    io->id = (s->id & 15) << 24;
    io->lines = 0;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        io->rte[pin] = s->redirtbl[pin].bits & (RTE_WRITABLE | RTE_REMOTE_IRR);
        if (!(io->rte[pin] & RTE_LEVEL))
            io->rte[pin] &= ~RTE_REMOTE_IRR;
    }
    irqchip_update_eoi_vectors(c);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        if (!(s->irr >> pin & 1))
            continue;
        io->lines |= BIT(pin);
        ioapic_service(c, pin);
    }
}
