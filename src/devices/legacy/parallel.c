// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Three registers: data, status, control. The falling edge of STROBE# (its bit is inverted: it is set) prints what is in the data
 * register; the acknowledgement is an edge on the interrupt line when the driver has enabled it.
 */
#include "devices/legacy/parallel.h"

#include <errno.h>

#include "base/util.h"

enum { REG_DATA, REG_STATUS, REG_CONTROL, REGS };

/* Status. BUSY is inverted: set, the printer is ready. */
#define STATUS_NO_ERROR 0x08
#define STATUS_SELECTED 0x10
#define STATUS_NO_ACK   0x40
#define STATUS_READY    0x80
#define STATUS_UNUSED   0x07

#define CONTROL_STROBE 0x01
#define CONTROL_INIT   0x04 /* clear: the printer is being reset */
#define CONTROL_IRQ    0x10
#define CONTROL_MASK   0x1f /* there is no direction bit: data only goes out */
#define CONTROL_UNUSED 0xc0

struct parallel {
    struct bus *bus;
    uint16_t port;
    unsigned gsi;
    struct chardev chr;
    uint8_t data, control;
};

static const struct field parallel_fields[] = {
    FIELD(FIELD_U8, struct parallel, data),
    FIELD(FIELD_U8, struct parallel, control),
    {0},
};
const struct device_desc parallel_desc = {.name = "parallel", .fields = parallel_fields};

static uint64_t parallel_read(void *dev, uint64_t off, unsigned size)
{
    const struct parallel *p = dev;
    (void)size;
    switch (off) {
    case REG_DATA:
        return p->data;
    case REG_STATUS:
        return STATUS_READY | STATUS_NO_ACK | STATUS_SELECTED | STATUS_NO_ERROR | STATUS_UNUSED;
    default:
        return p->control | CONTROL_UNUSED;
    }
}

static void write_control(struct parallel *p, uint8_t val)
{
    const struct board_ops *ops = p->bus->ops;
    bool strobe = val & ~p->control & CONTROL_STROBE;
    p->control = val & CONTROL_MASK;
    if (!strobe || !(val & CONTROL_INIT))
        return;
    p->chr.write(p->chr.opaque, &p->data, 1);
    if (p->control & CONTROL_IRQ) {
        ops->set_gsi(p->bus->board, p->gsi, true);
        ops->set_gsi(p->bus->board, p->gsi, false);
    }
}

static void parallel_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct parallel *p = dev;
    (void)size;
    if (off == REG_DATA)
        p->data = (uint8_t)val;
    else if (off == REG_CONTROL)
        write_control(p, (uint8_t)val);
}

static const struct io_ops parallel_io = {.read = parallel_read, .write = parallel_write, .max_size = 1};

int parallel_create(struct bus *b, const struct parallel_config *cfg, struct parallel **out, struct error *err)
{
    struct parallel *p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, ENOMEM, "device 'parallel': out of memory; close other programs");
    *p = (struct parallel){.bus = b, .port = cfg->port, .gsi = cfg->gsi, .chr = cfg->chr, .control = CONTROL_INIT};
    if (bus_map(b, BUS_PORT, cfg->port, REGS, &parallel_io, p, parallel_desc.name, err) < 0) {
        free(p);
        return -1;
    }
    *out = p;
    return 0;
}

void parallel_destroy(struct parallel *p)
{
    if (!p)
        return;
    bus_unmap(p->bus, BUS_PORT, p->port);
    free(p);
}
