// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * PCI addresses: read, written, checked, and assigned.
 *
 * domain_assign_pci() gives addresses as libvirt does for a q35 machine: each device a root port of its own, ports in the functions
 * of slots from 1 on, and one port to spare in a domain that left its ports to the daemon. What has an address keeps it.
 */
#include "model/pci.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

#define LAST_PORT_SLOT 30u /* slot 31 is the board's: ISA bridge, SATA, SMBus */
#define SATA_SLOT      31u
#define SATA_FUNCTION  2u
#define MAX_USERS      (DOMAIN_MAX_CONTROLLERS + DOMAIN_MAX_SHARES + DOMAIN_MAX_IFACES + DOMAIN_MAX_DISKS + DOMAIN_MAX_PMEMS + 3u)

/* ---- XML ---- */

int pci_take_address(const struct xml_node *node, struct domain_pci_address *a, struct error *err)
{
    uint64_t domain = 0, bus = 0, slot = 0, function = 0;
    int multifunction = xml_attr_switch(node, "multifunction", 0, err);
    if (multifunction < 0 || xml_attr_only(node, "type", "pci", err) < 0 || xml_attr_number(node, "domain", 0, &domain, err) < 0 ||
        xml_attr_number(node, "bus", PCI_LAST_BUS, &bus, err) < 0 || xml_attr_number(node, "slot", PCI_LAST_SLOT, &slot, err) < 0 ||
        xml_attr_number(node, "function", PCI_LAST_FUNCTION, &function, err) < 0)
        return -1;
    *a = (struct domain_pci_address){.set = xml_attr(node, "bus") || xml_attr(node, "slot"), /* else: any of the type */
                                     .multifunction = multifunction,
                                     .bus = (uint8_t)bus,
                                     .slot = (uint8_t)slot,
                                     .function = (uint8_t)function};
    return 0;
}

void pci_put_address(FILE *out, int indent, const struct domain_pci_address *a)
{
    if (a->set)
        fprintf(out, "%*s<address type='pci' domain='0x0000' bus='0x%02x' slot='0x%02x' function='0x%x'%s/>\n", indent, "", a->bus,
                a->slot, a->function, a->multifunction ? " multifunction='on'" : "");
}

/* ---- who is on PCI ---- */

struct user {
    char what[48]; /* for messages */
    struct domain_pci_address *address;
    const struct domain_controller *controller; /* NULL: another device */
};

static bool is_port(const struct user *u)
{
    return u->controller && u->controller->model == CONTROLLER_ROOT_PORT;
}

struct users {
    struct user list[MAX_USERS];
    unsigned count;
};

static void add(struct users *u, struct domain_pci_address *address, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void add(struct users *u, struct domain_pci_address *address, const char *fmt, ...)
{
    struct user *user = &u->list[u->count++];
    va_list ap;
    *user = (struct user){.address = address};
    va_start(ap, fmt);
    vsnprintf(user->what, sizeof user->what, fmt, ap);
    va_end(ap);
}

static void add_controllers(struct users *u, struct domain *d, bool ports)
{
    for (unsigned i = 0; i < d->ncontrollers; i++) {
        struct domain_controller *c = &d->controllers[i];
        bool port = c->model == CONTROLLER_ROOT_PORT;
        if (port != ports || c->model == CONTROLLER_ROOT || c->model == CONTROLLER_NONE ||
            (!controller_served(c) && !c->address.set))
            continue;
        add(u, &c->address, "controller '%s' %d", controller_type_names[c->type], c->index);
        u->list[u->count - 1].controller = c;
    }
}

/* In the order in which libvirt gives them addresses. */
static void list_users(struct users *u, struct domain *d)
{
    u->count = 0;
    add_controllers(u, d, true);
    for (unsigned i = 0; i < d->nshares; i++)
        add(u, &d->shares[i].address, "shared folder '%.16s'", d->shares[i].tag);
    for (unsigned i = 0; i < d->nifaces; i++)
        add(u, &d->ifaces[i].address, "network interface %u", i + 1);
    add_controllers(u, d, false);
    for (unsigned i = 0; i < d->ndisks; i++)
        if (d->disks[i].bus == DISK_VIRTIO)
            add(u, &d->disks[i].address, "disk '%s'", d->disks[i].target);
    if (d->balloon.present)
        add(u, &d->balloon.address, "memory balloon");
    if (d->rng)
        add(u, &d->rng_address, "random number device");
    if (d->vsock.path)
        add(u, &d->vsock.address, "vsock");
    for (unsigned i = 0; i < d->npmems; i++)
        add(u, &d->pmems[i].address, "persistent memory %u", i + 1);
}

static const struct user *user_at(const struct users *u, unsigned bus, unsigned slot, unsigned function)
{
    for (unsigned i = 0; i < u->count; i++) {
        const struct domain_pci_address *a = u->list[i].address;
        if (a->set && a->bus == bus && a->slot == slot && a->function == function)
            return &u->list[i];
    }
    return NULL;
}

/* ---- checking ---- */

static struct domain_controller *pci_controller(struct domain *d, unsigned index)
{
    for (unsigned i = 0; i < d->ncontrollers; i++)
        if (d->controllers[i].type == CONTROLLER_PCI && d->controllers[i].index == (int)index)
            return &d->controllers[i];
    return NULL;
}

/* Addresses may name buses before anything else does: the root ports up to there are made. */
static int add_named_ports(struct domain *d, struct error *err)
{
    struct users *u = calloc(1, sizeof *u);
    unsigned last = 0;
    if (!u)
        return error_set(err, 0, "domain: out of memory");
    list_users(u, d);
    for (unsigned i = 0; i < u->count; i++)
        if (u->list[i].address->set)
            last = MAX(last, u->list[i].address->bus);
    free(u);
    for (unsigned bus = 1; bus <= last; bus++)
        if (!pci_controller(d, bus) && controller_add(d, CONTROLLER_PCI, CONTROLLER_ROOT_PORT, (int)bus, err) == NULL)
            return -1;
    return 0;
}

static int check_place(struct domain *d, const struct user *user, struct error *err)
{
    const struct domain_pci_address *a = user->address;
    const struct domain_controller *behind = a->bus ? pci_controller(d, a->bus) : NULL;
    if (a->bus && is_port(user))
        return error_set(err, 0, "%s: a root port is on PCI bus 0; change the bus of its address", user->what);
    if (a->bus && behind->model != CONTROLLER_ROOT_PORT)
        return error_set(err, 0, "%s: PCI bus %u is not behind a root port; give it another bus", user->what, a->bus);
    if (a->bus && a->slot != 0)
        return error_set(err, 0, "%s: PCI bus %u has no slot %u; behind a root port there is slot 0 only", user->what, a->bus,
                         a->slot);
    if (!a->bus && a->slot == 0)
        return error_set(err, 0, "%s: slot 0 of PCI bus 0 is the host bridge's; give it one from 1 to %u", user->what,
                         LAST_PORT_SLOT);
    if (!a->bus && a->slot == PCI_LAST_SLOT)
        return error_set(err, 0, "%s: slot %u of PCI bus 0 is the board's; give it one from 1 to %u", user->what, a->slot,
                         LAST_PORT_SLOT);
    return 0;
}

static int check_user(struct domain *d, const struct users *u, unsigned i, struct error *err)
{
    const struct user *user = &u->list[i];
    const struct domain_pci_address *a = user->address;
    if (!a->set)
        return 0;
    if (user->controller && user->controller->type == CONTROLLER_SATA)
        return a->bus == 0 && a->slot == SATA_SLOT && a->function == SATA_FUNCTION
                   ? 0
                   : error_set(err, 0, "%s: the board has it at 0000:00:1f.2; write that, or leave the address out", user->what);
    if (check_place(d, user, err) < 0)
        return -1;
    const struct user *other = user_at(u, a->bus, a->slot, a->function), *first = user_at(u, a->bus, a->slot, 0);
    if (other != user)
        return error_set(err, 0, "%s: PCI address 0000:%02x:%02x.%x is that of %s; give it another", user->what, a->bus, a->slot,
                         a->function, other->what);
    if (a->function && !(first && first->address->multifunction))
        return error_set(err, 0, "%s: function %u of a PCI slot whose function 0 %s; set multifunction='on' there", user->what,
                         a->function, first ? "is alone" : "is empty");
    return 0;
}

static int pci_check(struct domain *d, struct error *err)
{
    if (add_named_ports(d, err) < 0)
        return -1;
    AUTO_FREE struct users *u = calloc(1, sizeof *u);
    if (!u)
        return error_set(err, 0, "domain: out of memory");
    list_users(u, d);
    for (unsigned i = 0; i < u->count; i++)
        if (check_user(d, u, i, err) < 0)
            return -1;
    return 0;
}

const struct domain_part pci_part = {.check = pci_check};

/* ---- assigning ---- */

/* The next function of bus 0 for a root port: beside other ports, or a slot of its own. */
static int place_port(const struct users *u, struct domain_pci_address *a, struct error *err)
{
    for (unsigned slot = 1; slot <= LAST_PORT_SLOT; slot++) {
        const struct user *first = user_at(u, 0, slot, 0);
        if (first && (!is_port(first) || !first->address->multifunction))
            continue;
        for (unsigned f = 0; f <= PCI_LAST_FUNCTION; f++) {
            if (user_at(u, 0, slot, f))
                continue;
            *a = (struct domain_pci_address){.set = true, .multifunction = f == 0, .slot = (uint8_t)slot, .function = (uint8_t)f};
            return 0;
        }
    }
    return error_set(err, 0, "domain: PCI bus 0 is full; use fewer devices");
}

static int place_ports(struct domain *d, struct error *err)
{
    AUTO_FREE struct users *u = calloc(1, sizeof *u);
    if (!u)
        return error_set(err, 0, "domain: out of memory");
    list_users(u, d);
    for (unsigned i = 0; i < d->ncontrollers; i++) {
        struct domain_controller *c = &d->controllers[i];
        if (c->model != CONTROLLER_ROOT_PORT)
            continue;
        if (!c->address.set && place_port(u, &c->address, err) < 0)
            return -1;
        if (c->target_chassis < 0)
            c->target_chassis = c->index;
        if (c->target_port < 0)
            c->target_port = c->address.slot << 3 | c->address.function;
    }
    return 0;
}

static bool bus_taken(const struct users *u, unsigned bus)
{
    for (unsigned i = 0; i < u->count; i++)
        if (u->list[i].address->set && u->list[i].address->bus == bus)
            return true;
    return false;
}

/* The first bus behind a port with nothing on it; a new port's, when there is none. 0 with err. */
static unsigned free_bus(struct domain *d, const struct users *u, unsigned *added, struct error *err)
{
    unsigned bus = 1;
    for (; bus <= PCI_LAST_BUS; bus++) {
        const struct domain_controller *c = pci_controller(d, bus);
        if (!c)
            break;
        if (c->model == CONTROLLER_ROOT_PORT && !bus_taken(u, bus))
            return bus;
    }
    if (bus > PCI_LAST_BUS || !controller_add(d, CONTROLLER_PCI, CONTROLLER_ROOT_PORT, (int)bus, err))
        return 0;
    ++*added;
    return bus;
}

/* Controllers that the domain's devices imply. */
static int add_implied(struct domain *d, struct error *err)
{
    bool buses[DISK_BUSES] = {false};
    for (unsigned i = 0; i < d->ndisks; i++)
        buses[d->disks[i].bus] = true;
    if (!pci_controller(d, 0) && !controller_add(d, CONTROLLER_PCI, CONTROLLER_ROOT, 0, err))
        return -1;
    if (buses[DISK_SCSI] && !controller_find(d, CONTROLLER_SCSI) &&
        !controller_add(d, CONTROLLER_SCSI, CONTROLLER_VIRTIO_SCSI, 0, err))
        return -1;
    if (buses[DISK_SATA] && !controller_find(d, CONTROLLER_SATA) && !controller_add(d, CONTROLLER_SATA, CONTROLLER_DEFAULT, 0, err))
        return -1;
    if (d->nchannels && !controller_find(d, CONTROLLER_SERIAL) && !controller_add(d, CONTROLLER_SERIAL, CONTROLLER_DEFAULT, 0, err))
        return -1;
    struct domain_controller *sata = controller_find(d, CONTROLLER_SATA);
    if (sata)
        sata->address = (struct domain_pci_address){.set = true, .slot = SATA_SLOT, .function = SATA_FUNCTION};
    return 0;
}

/* The first device without an address; NULL: all have one. */
static struct user *next_homeless(struct users *u, struct domain *d)
{
    list_users(u, d);
    for (unsigned i = 0; i < u->count; i++)
        if (!u->list[i].address->set && !is_port(&u->list[i]))
            return &u->list[i];
    return NULL;
}

int domain_assign_pci(struct domain *d, struct error *err)
{
    AUTO_FREE struct users *u = calloc(1, sizeof *u);
    unsigned added = 0;
    bool own_ports = false;
    if (!u)
        return error_set(err, 0, "domain: out of memory");
    for (unsigned i = 0; i < d->ncontrollers; i++)
        own_ports |= d->controllers[i].type == CONTROLLER_PCI && d->controllers[i].model != CONTROLLER_ROOT;
    if (add_implied(d, err) < 0)
        return -1;
    while (next_homeless(u, d)) {
        unsigned bus = free_bus(d, u, &added, err);
        if (!bus)
            return -1;
        *next_homeless(u, d)->address =
            (struct domain_pci_address){.set = true, .bus = (uint8_t)bus}; /* the array may have moved */
    }
    if (added && !own_ports && !free_bus(d, u, &added, err))
        return -1;
    return place_ports(d, err);
}
