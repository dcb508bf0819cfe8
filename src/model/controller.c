// SPDX-License-Identifier: GPL-2.0-or-later
/* <controller>. The PCIe root and the SATA controller are the board's; root ports are made as they are named. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

const char *const controller_type_names[] = {"pci", "usb", "sata", "virtio-serial", "scsi", NULL}; /* enum controller_type */
/* enum controller_model */
static const char *const models[] = {
    "", "pcie-root", "pcie-root-port", "pcie-to-pci-bridge", "qemu-xhci", "none", "ich9-ahci", "virtio-scsi", NULL};
static const enum controller_type model_types[] = {
    [CONTROLLER_ROOT] = CONTROLLER_PCI,        [CONTROLLER_ROOT_PORT] = CONTROLLER_PCI, [CONTROLLER_PCI_BRIDGE] = CONTROLLER_PCI,
    [CONTROLLER_XHCI] = CONTROLLER_USB,        [CONTROLLER_NONE] = CONTROLLER_USB,      [CONTROLLER_AHCI] = CONTROLLER_SATA,
    [CONTROLLER_VIRTIO_SCSI] = CONTROLLER_SCSI};

struct domain_controller *controller_add(struct domain *d, enum controller_type type, enum controller_model model, int index,
                                         struct error *err)
{
    struct domain_controller *c =
        domain_append(&d->controllers, &d->ncontrollers, sizeof *d->controllers, DOMAIN_MAX_CONTROLLERS, "controllers", err);
    if (c)
        *c = (struct domain_controller){.type = type, .model = model, .index = index, .target_chassis = -1, .target_port = -1};
    return c;
}

struct domain_controller *controller_find(struct domain *d, enum controller_type type)
{
    for (unsigned i = 0; i < d->ncontrollers; i++)
        if (d->controllers[i].type == type && d->controllers[i].index <= 0)
            return &d->controllers[i];
    return NULL;
}

/* Is there such a device? */
bool controller_served(const struct domain_controller *c)
{
    switch (c->type) {
    case CONTROLLER_PCI:
        return c->model == CONTROLLER_ROOT || c->model == CONTROLLER_ROOT_PORT;
    case CONTROLLER_USB:
        return c->model == CONTROLLER_NONE;
    case CONTROLLER_SATA:
    case CONTROLLER_SERIAL:
    case CONTROLLER_SCSI:
        return c->index <= 0;
    }
    return false;
}

static struct domain_controller *last(void *object)
{
    struct domain *d = object;
    return &d->controllers[d->ncontrollers - 1];
}

static int begin_controller(const struct xml_node *node, void *object, struct error *err)
{
    int type = xml_attr_word(node, "type", controller_type_names, 0, err);
    int model = xml_attr_word(node, "model", models, CONTROLLER_DEFAULT, err);
    uint64_t index = 0, ports = 0;
    if (type < 0 || model < 0 || xml_attr_number(node, "index", PCI_LAST_BUS, &index, err) < 0 ||
        xml_attr_number(node, "ports", 127, &ports, err) < 0)
        return -1;
    if (model != CONTROLLER_DEFAULT && (int)model_types[model] != type)
        return xml_error(node, err, "model '%s' is not one of type '%s'; correct it", models[model], controller_type_names[type]);
    if (type == CONTROLLER_PCI && model == CONTROLLER_DEFAULT)
        return xml_error(node, err, "a PCI controller names its model; write 'pcie-root' or 'pcie-root-port'");
    struct domain_controller *c = controller_add(object, (enum controller_type)type, (enum controller_model)model,
                                                 xml_attr(node, "index") ? (int)index : -1, err);
    if (!c)
        return -1;
    c->ports = (unsigned)ports;
    return 0;
}

static int begin_model(const struct xml_node *node, void *object, struct error *err)
{
    if (last(object)->model != CONTROLLER_ROOT_PORT)
        return xml_error(node, err, "only a root port's model has a name; remove it");
    return xml_attr_only(node, "name", "pcie-root-port", err);
}

static int begin_target(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_controller *c = last(object);
    uint64_t chassis = 0, port = 0;
    int hotplug = xml_attr_switch(node, "hotplug", 1, err);
    if (hotplug < 0 || xml_attr_number(node, "chassis", 255, &chassis, err) < 0 ||
        xml_attr_number(node, "port", 255, &port, err) < 0)
        return -1;
    if (c->model != CONTROLLER_ROOT_PORT)
        return xml_error(node, err, "only a root port has a target; remove it");
    c->target_chassis = xml_attr(node, "chassis") ? (int)chassis : -1;
    c->target_port = xml_attr(node, "port") ? (int)port : -1;
    c->no_hotplug = !hotplug;
    return 0;
}

static int begin_address(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_controller *c = last(object);
    if (c->model == CONTROLLER_ROOT || c->model == CONTROLLER_NONE)
        return xml_error(node, err, "a controller '%s' has no address; remove it", models[c->model]);
    return pci_take_address(node, &c->address, err);
}

static void controller_free(struct domain *d)
{
    free(d->controllers);
}

static bool index_taken(const struct domain *d, enum controller_type type, int index, unsigned before)
{
    for (unsigned i = 0; i < before; i++)
        if (d->controllers[i].type == type && d->controllers[i].index == index)
            return true;
    return false;
}

/* Those without an index get the next of their type. A PCIe root is number 0, and nothing else on PCI is. */
static int controller_check(struct domain *d, struct error *err)
{
    for (unsigned i = 0; i < d->ncontrollers; i++) {
        struct domain_controller *c = &d->controllers[i];
        bool root = c->model == CONTROLLER_ROOT;
        if (c->index >= 0 && index_taken(d, c->type, c->index, i))
            return error_set(err, 0, "controller '%s' %d: there are two of that index; give each its own",
                             controller_type_names[c->type], c->index);
        if (c->type == CONTROLLER_PCI && c->index >= 0 && root != (c->index == 0))
            return error_set(err, 0, "controller 'pci' %d: index 0 is the PCIe root's, and nothing else's; correct it", c->index);
    }
    for (unsigned i = 0; i < d->ncontrollers; i++) {
        struct domain_controller *c = &d->controllers[i];
        int index = c->type == CONTROLLER_PCI && c->model != CONTROLLER_ROOT ? 1 : 0;
        if (c->index >= 0)
            continue;
        while (index_taken(d, c->type, index, d->ncontrollers))
            index++;
        if (c->model == CONTROLLER_ROOT && index)
            return error_set(err, 0, "domain: two PCIe roots; a machine has one");
        c->index = index;
    }
    return 0;
}

static void write_start(FILE *out, const struct domain_controller *c)
{
    fprintf(out, "<controller type='%s' index='%d'", controller_type_names[c->type], c->index);
    if (c->model != CONTROLLER_DEFAULT)
        fprintf(out, " model='%s'", models[c->model]);
    if (c->ports)
        fprintf(out, " ports='%u'", c->ports);
}

static void write_target(FILE *out, const struct domain_controller *c)
{
    fputs("      <model name='pcie-root-port'/>\n", out);
    if (c->target_chassis < 0 && c->target_port < 0 && !c->no_hotplug)
        return;
    fputs("      <target", out);
    if (c->target_chassis >= 0)
        fprintf(out, " chassis='%d'", c->target_chassis);
    if (c->target_port >= 0)
        fprintf(out, " port='0x%x'", (unsigned)c->target_port);
    fprintf(out, "%s/>\n", c->no_hotplug ? " hotplug='off'" : "");
}

static void controller_write(const struct domain *d, FILE *out)
{
    for (unsigned i = 0; i < d->ncontrollers; i++) {
        const struct domain_controller *c = &d->controllers[i];
        bool port = c->model == CONTROLLER_ROOT_PORT;
        fputs("    ", out);
        write_start(out, c);
        fputs(port || c->address.set ? ">\n" : "/>\n", out);
        if (port)
            write_target(out, c);
        pci_put_address(out, 6, &c->address);
        if (port || c->address.set)
            fputs("    </controller>\n", out);
    }
}

void controller_name_unserved(const struct domain *d, FILE *out, const char *prefix)
{
    for (unsigned i = 0; i < d->ncontrollers; i++) {
        if (controller_served(&d->controllers[i]))
            continue;
        fputs(prefix, out);
        write_start(out, &d->controllers[i]);
        fputs("/>: there is no such device yet; the guest does not see it\n", out);
    }
}

static const struct xml_element controller_children[] = {
    {"model", 0, "name!", begin_model, NULL, NULL},
    {"target", 0, "chassis port hotplug", begin_target, NULL, NULL},
    {"address", 0, PCI_ADDRESS_ATTRS, begin_address, NULL, NULL},
    ALIAS_ELEMENT(alias_refuse),
    XML_END,
};
static const struct xml_element controller_devices[] = {
    {"controller", XML_MANY, "type! model ports index", begin_controller, controller_children, NULL},
    XML_END,
};
const struct domain_part controller_part = {
    .devices = controller_devices, .free = controller_free, .check = controller_check, .write_devices = controller_write};
