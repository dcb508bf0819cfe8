// SPDX-License-Identifier: GPL-2.0-or-later
/* MSI with one message (PCI 3.0, 6.8.1): for devices that have one interrupt and so need no table. */
#include "devices/pci/internal.h"

#define MSI_CONTROL  2 /* in the capability */
#define MSI_ADDRESS  4 /* 8 bytes */
#define MSI_DATA     12
#define MSI_CAP_LEN  14
#define MSI_ENABLE   0x0001
#define MSI_64BIT    0x0080
#define MSI_ADDR_LOW 0xfffffffcu

void pci_dev_msi(struct pci_dev *d)
{
    unsigned at = pci_dev_cap(d, PCI_CAP_MSI, MSI_CAP_LEN);
    if (!at)
        return;
    pci_set16(d->config + at + MSI_CONTROL, MSI_64BIT);
    pci_set16(d->wmask + at + MSI_CONTROL, MSI_ENABLE);
    pci_set32(d->wmask + at + MSI_ADDRESS, MSI_ADDR_LOW);
    pci_set32(d->wmask + at + MSI_ADDRESS + 4, 0xffffffff);
    pci_set16(d->wmask + at + MSI_DATA, 0xffff);
    d->msi = at;
}

bool pci_msi_enabled(const struct pci_dev *d)
{
    return d->msi && (pci_get16(d->config + d->msi + MSI_CONTROL) & MSI_ENABLE);
}

void pci_msi_notify(struct pci_dev *d)
{
    struct bus *bus = d->host->bus;
    const uint8_t *c = d->config + d->msi;
    if (pci_msi_enabled(d) && pci_dev_dma(d))
        bus->ops->send_msi(bus->board, pci_get32(c + MSI_ADDRESS) | (uint64_t)pci_get32(c + MSI_ADDRESS + 4) << 32,
                           pci_get16(c + MSI_DATA));
}
