// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The SMBus controller of the ICH9 (data sheet, chapter 18). Nothing is on its bus, so every transaction ends at once with the
 * device error that an address without an answer gives.
 */
#include "base/util.h"
#include "devices/pci/internal.h"

#define SMBUS_SLOT     31
#define SMBUS_FUNCTION 3
#define SMBUS_BAR      4
#define SMBUS_PORTS    32
#define SMBUS_HOSTC    0x40 /* configuration: bit 0 enables the host controller */

enum { HST_STS = 0x00, HST_CNT = 0x02, HST_CMD = 0x03, XMIT_SLVA = 0x04, HST_D0 = 0x05, HST_D1 = 0x06, AUX_CTL = 0x0d };

#define STS_DEV_ERR 0x04
#define STS_CLEAR   0xfe /* written ones clear these; bit 0 is busy */
#define CNT_INTREN  0x01
#define CNT_START   0x40

struct smbus {
    struct pci_dev pci;
    uint8_t status, control, command, address, data[2], aux;
};

static const struct field smbus_fields[] = {
    FIELD_ARRAY(FIELD_BYTES, struct smbus, pci.config),
    FIELD(FIELD_U8, struct smbus, status),
    FIELD(FIELD_U8, struct smbus, control),
    FIELD(FIELD_U8, struct smbus, command),
    FIELD(FIELD_U8, struct smbus, address),
    FIELD_ARRAY(FIELD_BYTES, struct smbus, data),
    FIELD(FIELD_U8, struct smbus, aux),
    {0},
};
static const struct device_desc smbus_desc = {.name = "ich9-smbus", .fields = smbus_fields};

static void update_irq(struct smbus *s)
{
    pci_intx_set(&s->pci, s->status && (s->control & CNT_INTREN));
}

static uint64_t smbus_read(void *dev, uint64_t off, unsigned size)
{
    const struct smbus *s = dev;
    (void)size;
    switch (off) {
    case HST_STS:
        return s->status;
    case HST_CNT:
        return s->control;
    case HST_CMD:
        return s->command;
    case XMIT_SLVA:
        return s->address;
    case HST_D0:
    case HST_D1:
        return s->data[off - HST_D0];
    case AUX_CTL:
        return s->aux;
    default:
        return 0;
    }
}

static void smbus_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct smbus *s = dev;
    uint8_t v = (uint8_t)val;
    (void)size;
    switch (off) {
    case HST_STS:
        s->status &= (uint8_t) ~(v & STS_CLEAR);
        break;
    case HST_CNT:
        s->control = v & (uint8_t)~CNT_START;
        if ((v & CNT_START) && (s->pci.config[SMBUS_HOSTC] & 1))
            s->status |= STS_DEV_ERR;
        break;
    case HST_CMD:
        s->command = v;
        break;
    case XMIT_SLVA:
        s->address = v;
        break;
    case HST_D0:
    case HST_D1:
        s->data[off - HST_D0] = v;
        break;
    case AUX_CTL:
        s->aux = v & 3;
        break;
    default: /* block data and slave mode: there is nobody to talk to */
        break;
    }
    update_irq(s);
}

static const struct io_ops smbus_io = {.read = smbus_read, .write = smbus_write, .max_size = 1};

static void smbus_reset(struct pci_dev *d)
{
    struct smbus *s = container_of(d, struct smbus, pci);
    s->status = s->control = s->command = s->address = s->aux = 0;
    s->data[0] = s->data[1] = 0;
}

static const struct pci_ops smbus_ops = {.desc = &smbus_desc, .reset = smbus_reset};

int smbus_create(struct pci_host *h, struct smbus **out, struct error *err)
{
    static const struct pci_id id = {.vendor = 0x8086, .device = 0x2930, .class_code = 0x0c0500, .revision = 2};
    struct smbus *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, 0, "device 'ich9-smbus': out of memory; close other programs");
    pci_dev_init(&s->pci, smbus_desc.name, &smbus_ops, &id);
    pci_dev_bar(&s->pci, SMBUS_BAR, PCI_BAR_IO, SMBUS_PORTS, &smbus_io, s);
    pci_dev_pin(&s->pci);
    s->pci.config[SMBUS_HOSTC] = 1;
    s->pci.wmask[SMBUS_HOSTC] = 1;
    if (pci_dev_add(h, &s->pci, PCI_PLACE(0, SMBUS_SLOT, SMBUS_FUNCTION), err) < 0) {
        free(s);
        return -1;
    }
    *out = s;
    return 0;
}

void smbus_destroy(struct smbus *s)
{
    if (!s)
        return;
    pci_dev_remove(&s->pci);
    free(s);
}
