// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/pvpanic.h"

#include <errno.h>

#include "base/log.h"
#include "base/util.h"

enum { EVENT_PANICKED = 1 << 0, EVENT_CRASH_LOADED = 1 << 1 };

struct pvpanic {
    struct bus *bus;
    uint16_t port;
    struct log_limit limit;
};

static const struct field fields[] = {{.name = NULL}}; /* stateless */
const struct device_desc pvpanic_desc = {.name = "pvpanic", .fields = fields};

/* Reads as the events that it understands. */
static uint64_t pvpanic_read(void *dev, uint64_t off, unsigned size)
{
    (void)dev;
    (void)off;
    (void)size;
    return EVENT_PANICKED | EVENT_CRASH_LOADED;
}

/* A guest with a crash kernel says so instead of EVENT_PANICKED, and goes on into that kernel. */
static void pvpanic_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct pvpanic *p = dev;
    (void)off;
    (void)size;
    if (val & EVENT_PANICKED)
        p->bus->ops->event(p->bus->board, BOARD_PANIC, 0);
    else if (val & EVENT_CRASH_LOADED)
        log_guest(&p->limit, "the guest's kernel panicked and starts its crash kernel");
}

static const struct io_ops pvpanic_ops = {.read = pvpanic_read, .write = pvpanic_write, .max_size = 1};

int pvpanic_create(struct bus *b, uint16_t port, struct pvpanic **out, struct error *err)
{
    struct pvpanic *p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, ENOMEM, "pvpanic: out of memory");
    *p = (struct pvpanic){.bus = b, .port = port};
    if (bus_map(b, BUS_PORT, port, 1, &pvpanic_ops, p, pvpanic_desc.name, err) < 0) {
        free(p);
        return -1;
    }
    *out = p;
    return 0;
}

void pvpanic_destroy(struct pvpanic *p)
{
    if (!p)
        return;
    bus_unmap(p->bus, BUS_PORT, p->port);
    free(p);
}
