// SPDX-License-Identifier: GPL-2.0-or-later
#include "devices/legacy/debugcon.h"

#include "base/util.h"

#define DEBUGCON_PRESENT 0xe9

struct debugcon {
    struct bus *bus;
    uint16_t port;
    struct chardev chr;
};

static const struct field debugcon_fields[] = {{0}};

const struct device_desc debugcon_desc = {.name = "debugcon", .fields = debugcon_fields};

static void debugcon_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct debugcon *d = dev;
    uint8_t byte = (uint8_t)val;
    (void)off, (void)size;
    d->chr.write(d->chr.opaque, &byte, 1);
}

static uint64_t debugcon_read(void *dev, uint64_t off, unsigned size)
{
    (void)dev, (void)off, (void)size;
    return DEBUGCON_PRESENT;
}

static const struct io_ops debugcon_io = {.read = debugcon_read, .write = debugcon_write, .max_size = 1};

int debugcon_create(struct bus *b, uint16_t port, const struct chardev *chr, struct debugcon **out, struct error *err)
{
    struct debugcon *d = calloc(1, sizeof *d);
    if (!d)
        return error_set(err, 0, "device 'debugcon': out of memory; close other programs");
    *d = (struct debugcon){.bus = b, .port = port, .chr = *chr};
    if (bus_map(b, BUS_PORT, port, 1, &debugcon_io, d, debugcon_desc.name, err) < 0) {
        free(d);
        return -1;
    }
    *out = d;
    return 0;
}

void debugcon_destroy(struct debugcon *d)
{
    if (!d)
        return;
    bus_unmap(d->bus, BUS_PORT, d->port);
    free(d);
}
