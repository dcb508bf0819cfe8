// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Interrupts (82574 data sheet, 7.4 and 10.2.4). Causes gather in ICR, and those that IMS lets through reach the guest in one of
 * three ways: by the pin while one stands, by one message (MSI) when the first comes, or, with MSI-X, by messages for five groups
 * of causes, each by the vector that IVAR has for it. With MSI-X a queue has one cause for all that it tells, and what belongs to
 * no queue sets the cause OTHER besides. A message may clear its group in ICR (EIAC) and mask it (IAM with EIAME) by itself.
 *
 * Nothing is moderated: ITR and EITR are memory.
 */
#include "devices/ether/e1000e_internal.h"

#define IVAR_VALID  8u
#define IVAR_VECTOR 7u

#define OTHER_CAUSES (INT_LSC | INT_RXO | INT_MDAC)

static const struct {
    uint32_t cause;
    unsigned shift; /* of the group's four bits in IVAR */
} groups[] = {{INT_RXQ0, 0}, {INT_RXQ1, 4}, {INT_TXQ0, 8}, {INT_TXQ1, 12}, {INT_OTHER, 16}};

static uint32_t active(struct e1000e *e)
{
    return *e_reg(e, ICR) & *e_reg(e, IMS) & ~INT_ASSERTED;
}

/* Sends the messages of these causes, as far as IVAR has vectors for them; returns those. */
static uint32_t send_messages(struct e1000e *e, uint32_t causes)
{
    uint32_t sent = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(groups); i++) {
        unsigned entry = *e_reg(e, IVAR) >> groups[i].shift;
        uint32_t cause = groups[i].cause;
        if (!(causes & cause) || !(entry & IVAR_VALID))
            continue;
        pci_msix_notify(&e->pci, entry & IVAR_VECTOR); /* there may be no such vector */
        *e_reg(e, ICR) &= ~(*e_reg(e, EIAC) & cause);
        if (*e_reg(e, CTRL_EXT) & CTRL_EXT_EIAME)
            *e_reg(e, IMS) &= ~(*e_reg(e, IAM) & cause);
        sent |= cause;
    }
    return sent;
}

void e1000e_update_irq(struct e1000e *e)
{
    bool msix = pci_msix_enabled(&e->pci);
    uint32_t sent = msix ? send_messages(e, active(e) & ~e->told) : 0;
    bool level = active(e);
    e->told = msix ? (e->told | sent) & active(e) : 0;
    *e_reg(e, ICR) = (*e_reg(e, ICR) & ~INT_ASSERTED) | (level ? INT_ASSERTED : 0);
    if (level && !e->irq && !msix)
        pci_msi_notify(&e->pci);
    e->irq = level && !msix;
    pci_intx_set(&e->pci, e->irq);
}

void e1000e_cause(struct e1000e *e, uint32_t bits)
{
    if (pci_msix_enabled(&e->pci) && (bits & OTHER_CAUSES))
        bits |= INT_OTHER;
    *e_reg(e, ICR) |= bits & ~INT_ASSERTED;
    e1000e_update_irq(e);
}

void e1000e_queue_cause(struct e1000e *e, unsigned queue, bool transmit, uint32_t bits)
{
    if (pci_msix_enabled(&e->pci))
        bits = (transmit ? INT_TXQ0 : INT_RXQ0) << queue;
    e1000e_cause(e, bits);
}

/* Reading clears; with IAME, it masks as well what IAM names (10.2.4.1). */
uint32_t e1000e_read_icr(struct e1000e *e)
{
    uint32_t v = *e_reg(e, ICR);
    if ((v & INT_ASSERTED) && (*e_reg(e, CTRL_EXT) & CTRL_EXT_IAME))
        *e_reg(e, IMS) &= ~*e_reg(e, IAM);
    *e_reg(e, ICR) = 0;
    e1000e_update_irq(e);
    return v;
}
