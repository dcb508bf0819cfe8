/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two 8259A interrupt controllers in cascade, as on every PC: the slave's output is the master's IR2. Ports 20/21, a0/a1 and the edge/level
 * control registers 4d0/4d1. Behaviour after Intel's 8259A datasheet; the state is KVM's struct kvm_pic_state.
 *
 * The master's output is a level that LAPICs see through LINT0 (ExtINT); the vCPU that takes it runs the acknowledge cycle by pic_intack().
 */
#include <string.h>

#include "softkvm/irqchip/irqchip_priv.h"

#define CASCADE_PIN 2
enum { ICW_DONE, ICW2, ICW3, ICW4 }; /* init_state: the word that is expected next */

static const uint8_t elcr_mask[2] = {0xf8, 0xde}; /* the timer, keyboard, cascade, RTC and FPU pins are edges for good */

/* The highest priority among the set bits, 0 (highest) to 7; 8 when none. */
static unsigned priority(const struct kvm_pic_state *s, uint8_t bits)
{
    unsigned p = 0;
    while (p < 8 && !(bits & BIT((p + s->priority_add) & 7)))
        p++;
    return p;
}

/* The pin that a chip wants to interrupt with, or -1. */
static int pic_pending(const struct pic *p, unsigned chip)
{
    const struct kvm_pic_state *s = &p->chip[chip];
    unsigned want = priority(s, s->irr & (uint8_t)~s->imr);
    uint8_t serving = s->isr;
    if (s->special_mask)
        serving &= (uint8_t)~s->imr;
    if (s->special_fully_nested_mode && chip == 0)
        serving &= (uint8_t)~BIT(CASCADE_PIN);
    return want < priority(s, serving) ? (int)((want + s->priority_add) & 7) : -1;
}

/* Sets one pin of one chip by its trigger mode. 1 taken, 0 coalesced, -1 masked. */
static int set_input(struct kvm_pic_state *s, unsigned pin, bool level)
{
    uint8_t bit = (uint8_t)BIT(pin);
    int ret = 1;
    if (!level) {
        if (s->elcr & bit)
            s->irr &= (uint8_t)~bit;
        s->last_irr &= (uint8_t)~bit;
    } else {
        if ((s->elcr & bit) || !(s->last_irr & bit)) {
            ret = !(s->irr & bit);
            s->irr |= bit;
        }
        s->last_irr |= bit;
    }
    return s->imr & bit ? -1 : ret;
}

/* Recomputes the cascade and the output. */
static void pic_update(struct irqchip *c)
{
    struct pic *p = &c->pic;
    if (pic_pending(p, 1) >= 0) {
        /* The slave drops its output at each acknowledge, so whatever is left makes a new edge. */
        set_input(&p->chip[0], CASCADE_PIN, true);
        set_input(&p->chip[0], CASCADE_PIN, false);
    }
    bool output = pic_pending(p, 0) >= 0;
    bool was = atomic_exchange_explicit(&c->pic_output, output, memory_order_acq_rel);
    if (output && !was)
        apic_kick_extint(c->vm);
}

int pic_set_pin(struct irqchip *c, unsigned pin, unsigned source, bool level)
{
    struct pic *p = &c->pic;
    if (level)
        p->sources[pin] |= BIT64(source);
    else
        p->sources[pin] &= ~BIT64(source);
    int ret = set_input(&p->chip[pin / 8], pin % 8, p->sources[pin] != 0);
    pic_update(c);
    return ret;
}

/* The interrupt on a pin has ended: EOI, or automatic EOI. */
static void end_interrupt(struct pic *p, unsigned chip, unsigned pin)
{
    p->chip[chip].isr &= (uint8_t)~BIT(pin);
    p->acked |= (uint16_t)BIT(chip * 8 + pin);
}

static void acknowledge(struct pic *p, unsigned chip, unsigned pin)
{
    struct kvm_pic_state *s = &p->chip[chip];
    s->isr |= (uint8_t)BIT(pin);
    if (!(s->elcr & BIT(pin))) /* a level stays requested while its line is up */
        s->irr &= (uint8_t)~BIT(pin);
    if (!s->auto_eoi)
        return;
    if (s->rotate_on_auto_eoi)
        s->priority_add = (pin + 1) & 7;
    end_interrupt(p, chip, pin);
}

int pic_intack(struct irqchip *c)
{
    struct pic *p = &c->pic;
    int vector, pin = pic_pending(p, 0);
    if (pin < 0) {
        vector = p->chip[0].irq_base + 7; /* spurious: the request went away before the acknowledge */
    } else {
        acknowledge(p, 0, (unsigned)pin);
        vector = p->chip[0].irq_base + pin;
        if (pin == CASCADE_PIN) {
            int low = pic_pending(p, 1);
            if (low >= 0)
                acknowledge(p, 1, (unsigned)low);
            vector = p->chip[1].irq_base + (low >= 0 ? low : 7);
        }
    }
    pic_update(c);
    return vector;
}

void pic_notify(struct irqchip *c)
{
    while (c->pic.acked) {
        unsigned pin = (unsigned)__builtin_ctz(c->pic.acked);
        c->pic.acked &= (uint16_t)~BIT(pin);
        irqchip_notify_ack(c, pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, pin & 7);
    }
}

/* ICW1 begins initialization: edges and all modes are forgotten, levels stay. */
static void begin_init(struct pic *p, unsigned chip, uint8_t val)
{
    struct kvm_pic_state *s = &p->chip[chip];
    p->acked |= (uint16_t)((s->isr | (s->irr & ~s->elcr)) << chip * 8);
    s->irr &= s->elcr;
    s->last_irr = s->isr = s->imr = 0;
    s->priority_add = s->special_mask = s->read_reg_select = s->poll = 0;
    s->init4 = val & 1;
    if (!s->init4)
        s->special_fully_nested_mode = s->auto_eoi = s->rotate_on_auto_eoi = 0;
    s->init_state = ICW2;
}

static void write_ocw2(struct pic *p, unsigned chip, uint8_t val)
{
    struct kvm_pic_state *s = &p->chip[chip];
    unsigned prio, pin = val & 7;
    switch (val >> 5) {
    case 0: /* rotate in automatic EOI mode: clear, set */
    case 4: s->rotate_on_auto_eoi = val >> 7; break;
    case 1: /* non-specific EOI, plain or rotating; special mask mode hides masked levels from it */
    case 5:
        prio = priority(s, s->special_mask ? s->isr & (uint8_t)~s->imr : s->isr);
        if (prio == 8)
            break;
        pin = (prio + s->priority_add) & 7;
        if (val >> 5 == 5)
            s->priority_add = (pin + 1) & 7;
        end_interrupt(p, chip, pin);
        break;
    case 3: end_interrupt(p, chip, pin); break;
    case 6: s->priority_add = (pin + 1) & 7; break;
    case 7:
        s->priority_add = (pin + 1) & 7;
        end_interrupt(p, chip, pin);
        break;
    default: break; /* 2: no operation */
    }
}

static void write_ocw3(struct kvm_pic_state *s, uint8_t val)
{
    if (val & 4)
        s->poll = 1;
    if (val & 2)
        s->read_reg_select = val & 1;
    if (val & 0x40)
        s->special_mask = (val >> 5) & 1;
}

static void write_mask(struct irqchip *c, unsigned chip, uint8_t val)
{
    struct kvm_pic_state *s = &c->pic.chip[chip];
    unsigned unmasked = s->imr & (uint8_t)~val;
    s->imr = val;
    for (unsigned pin = 0; pin < 8; pin++)
        if (unmasked >> pin & 1)
            irqchip_notify_unmask(c, chip ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER, pin);
}

static void write_data(struct irqchip *c, unsigned chip, uint8_t val)
{
    struct kvm_pic_state *s = &c->pic.chip[chip];
    switch (s->init_state) {
    case ICW_DONE: write_mask(c, chip, val); break;
    case ICW2:
        s->irq_base = val & 0xf8;
        s->init_state = ICW3;
        break;
    case ICW3: s->init_state = s->init4 ? ICW4 : ICW_DONE; break; /* the cascade is wired as it is */
    default:
        s->special_fully_nested_mode = (val >> 4) & 1;
        s->auto_eoi = (val >> 1) & 1;
        s->init_state = ICW_DONE;
        break;
    }
}

void pic_write(struct irqchip *c, uint16_t port, uint8_t val)
{
    struct pic *p = &c->pic;
    if ((port & ~1) == 0x4d0) {
        p->chip[port & 1].elcr = val & elcr_mask[port & 1];
        return;
    }
    unsigned chip = port >> 7 & 1;
    if (port & 1)
        write_data(c, chip, val);
    else if (val & 0x10)
        begin_init(p, chip, val);
    else if (val & 0x08)
        write_ocw3(&p->chip[chip], val);
    else
        write_ocw2(p, chip, val);
    pic_update(c);
}

uint8_t pic_read(struct irqchip *c, uint16_t port)
{
    struct pic *p = &c->pic;
    if ((port & ~1) == 0x4d0)
        return p->chip[port & 1].elcr;
    unsigned chip = port >> 7 & 1;
    struct kvm_pic_state *s = &p->chip[chip];
    if (s->poll) {
        /* A read after a poll command is the acknowledge cycle. */
        int pin = pic_pending(p, chip);
        s->poll = 0;
        if (pin < 0)
            return 0;
        acknowledge(p, chip, (unsigned)pin);
        pic_update(c);
        return (uint8_t)(0x80 | pin);
    }
    if (port & 1)
        return s->imr;
    return s->read_reg_select ? s->isr : s->irr;
}

void pic_reset(struct irqchip *c)
{
    memset(&c->pic, 0, sizeof(c->pic));
    for (unsigned chip = 0; chip < 2; chip++)
        c->pic.chip[chip].elcr_mask = elcr_mask[chip];
    atomic_store_explicit(&c->pic_output, false, memory_order_release);
}

void pic_set_state(struct irqchip *c, unsigned chip, const struct kvm_pic_state *s)
{
    struct kvm_pic_state *d = &c->pic.chip[chip];
    *d = *s;
    d->priority_add &= 7;
    d->irq_base &= 0xf8;
    d->init_state &= 3;
    d->read_reg_select &= 1;
    d->poll &= 1;
    d->special_mask &= 1;
    d->auto_eoi &= 1;
    d->rotate_on_auto_eoi &= 1;
    d->special_fully_nested_mode &= 1;
    d->init4 &= 1;
    d->elcr &= elcr_mask[chip];
    d->elcr_mask = elcr_mask[chip];
    pic_update(c);
}
