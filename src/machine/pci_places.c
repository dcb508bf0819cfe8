// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/pci_places.h"

#include <errno.h>
#include <sys/eventfd.h>

#include "base/util.h"

struct pci_places {
    int released_fd;
    struct rootport *ports[DOMAIN_MAX_CONTROLLERS]; /* by the controller's place in the domain */
};

int pci_place(const struct domain_pci_address *a)
{
    return a->set ? PCI_PLACE(a->bus, a->slot, a->function) : PCI_SLOT_AUTO;
}

/* A controller's place in the domain; -1: the domain does not name it. */
static int find_controller(const struct domain *d, enum controller_type type, unsigned index)
{
    for (unsigned i = 0; i < d->ncontrollers; i++)
        if (d->controllers[i].type == type && d->controllers[i].index == (int)index)
            return (int)i;
    return -1;
}

int pci_controller_place(const struct domain *d, enum controller_type type)
{
    int i = find_controller(d, type, 0);
    return i >= 0 ? pci_place(&d->controllers[i].address) : PCI_SLOT_AUTO;
}

static void reserve(struct pci_host *pci, const struct domain_pci_address *a)
{
    if (a->set && a->bus == 0)
        pci_host_reserve(pci, a->slot);
}

static void reserve_all(const struct domain *d, struct pci_host *pci)
{
    for (unsigned i = 0; i < d->ncontrollers; i++)
        reserve(pci, &d->controllers[i].address);
    for (unsigned i = 0; i < d->ndisks; i++)
        reserve(pci, &d->disks[i].address);
    for (unsigned i = 0; i < d->nifaces; i++)
        reserve(pci, &d->ifaces[i].address);
    for (unsigned i = 0; i < d->nshares; i++)
        reserve(pci, &d->shares[i].address);
    for (unsigned i = 0; i < d->npmems; i++)
        reserve(pci, &d->pmems[i].address);
    reserve(pci, &d->balloon.address);
    reserve(pci, &d->vsock.address);
    reserve(pci, &d->rng_address);
}

static void tell_released(void *opaque)
{
    eventfd_write(((struct pci_places *)opaque)->released_fd, 1);
}

static int make_port(struct pci_places *p, const struct domain_controller *c, unsigned i, struct pci_host *pci, struct error *err)
{
    struct rootport_config cfg = {.slot = pci_place(&c->address),
                                  .bus = (unsigned)c->index,
                                  .number = (unsigned)(c->target_chassis >= 0 ? c->target_chassis : c->index),
                                  .hotplug = !c->no_hotplug,
                                  .released = tell_released,
                                  .opaque = p};
    return rootport_create(pci, &cfg, &p->ports[i], err);
}

int pci_places_create(const struct domain *d, struct pci_host *pci, int released_fd, struct pci_places **out, struct error *err)
{
    struct pci_places *p = *out = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, ENOMEM, "machine: out of memory");
    p->released_fd = released_fd;
    reserve_all(d, pci);
    for (unsigned i = 0; i < d->ncontrollers; i++)
        if (d->controllers[i].model == CONTROLLER_ROOT_PORT && make_port(p, &d->controllers[i], i, pci, err) < 0)
            return -1;
    return 0;
}

struct rootport *pci_places_port(const struct pci_places *p, const struct domain *d, unsigned bus)
{
    int i = find_controller(d, CONTROLLER_PCI, bus);
    return i >= 0 ? p->ports[i] : NULL;
}

void pci_places_destroy(struct pci_places *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(p->ports); i++)
        rootport_destroy(p->ports[i]);
    free(p);
}
