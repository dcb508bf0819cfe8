// SPDX-License-Identifier: GPL-2.0-or-later
#include "devices/legacy/debugexit.h"

#include "base/util.h"

#define DEBUGEXIT_PORTS 4

struct debugexit {
    struct bus *bus;
    uint16_t port;
};

static const struct field debugexit_fields[] = {{0}};

const struct device_desc debugexit_desc = {.name = "debug-exit", .fields = debugexit_fields};

static void debugexit_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct debugexit *d = dev;
    (void)off, (void)size;
    d->bus->ops->event(d->bus->board, BOARD_DEBUG_EXIT, (int)(uint32_t)val);
}

static uint64_t debugexit_read(void *dev, uint64_t off, unsigned size)
{
    (void)dev, (void)off, (void)size;
    return 0;
}

static const struct io_ops debugexit_io = {.read = debugexit_read, .write = debugexit_write};

int debugexit_create(struct bus *b, uint16_t port, struct debugexit **out, struct error *err)
{
    struct debugexit *d = calloc(1, sizeof *d);
    if (!d)
        return error_set(err, 0, "device 'debug-exit': out of memory; close other programs");
    *d = (struct debugexit){.bus = b, .port = port};
    if (bus_map(b, BUS_PORT, port, DEBUGEXIT_PORTS, &debugexit_io, d, debugexit_desc.name, err) < 0) {
        free(d);
        return -1;
    }
    *out = d;
    return 0;
}

void debugexit_destroy(struct debugexit *d)
{
    if (!d)
        return;
    bus_unmap(d->bus, BUS_PORT, d->port);
    free(d);
}
