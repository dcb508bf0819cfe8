// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ISA bridge of the ICH9 (data sheet, chapter 13). It routes nothing: the board wires the legacy devices, and the pins of PCI
 * go to the IOAPIC. Its registers read as a firmware left them, so that a guest finds the ports of the ACPI block reserved.
 */
#include "base/util.h"
#include "devices/pci/internal.h"

#define LPC_SLOT      31
#define LPC_PMBASE    0x40 /* port of the ACPI registers, bit 0 set */
#define LPC_ACPI_CNTL 0x44
#define LPC_PIRQ_A    0x60 /* to D; 0x68 to 0x6b: E to H */
#define LPC_PIRQ_E    0x68

#define ACPI_CNTL_ENABLE 0x80
#define PIRQ_UNROUTED    0x80

struct lpc {
    struct pci_dev pci;
};

static const struct field lpc_fields[] = {FIELD_ARRAY(FIELD_BYTES, struct lpc, pci.config), {0}};
static const struct device_desc lpc_desc = {.name = "ich9-lpc", .fields = lpc_fields};
static const struct pci_ops lpc_ops = {.desc = &lpc_desc};

int lpc_create(struct pci_host *h, uint16_t pmbase, struct lpc **out, struct error *err)
{
    static const struct pci_id id = {.vendor = 0x8086, .device = 0x2918, .class_code = 0x060100, .revision = 2};
    struct lpc *l = calloc(1, sizeof *l);
    if (!l)
        return error_set(err, 0, "device 'ich9-lpc': out of memory; close other programs");
    pci_dev_init(&l->pci, lpc_desc.name, &lpc_ops, &id);
    uint8_t *c = l->pci.config;
    pci_set32(c + LPC_PMBASE, pmbase ? pmbase | 1u : 1u);
    c[LPC_ACPI_CNTL] = pmbase ? ACPI_CNTL_ENABLE : 0;
    for (unsigned i = 0; i < 4; i++) {
        c[LPC_PIRQ_A + i] = c[LPC_PIRQ_E + i] = PIRQ_UNROUTED;
        l->pci.wmask[LPC_PIRQ_A + i] = l->pci.wmask[LPC_PIRQ_E + i] = 0x8f;
    }
    if (pci_dev_add(h, &l->pci, LPC_SLOT, err) < 0) {
        free(l);
        return -1;
    }
    *out = l;
    return 0;
}

void lpc_destroy(struct lpc *l)
{
    if (!l)
        return;
    pci_dev_remove(&l->pci);
    free(l);
}
