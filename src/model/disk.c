// SPDX-License-Identifier: GPL-2.0-or-later
/* <disk>. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

const char *const disk_format_names[DISK_FORMATS] = {"raw", "qcow2"};
const char *const disk_bus_names[DISK_BUSES + 1] = {"virtio", "sata", NULL};

struct domain_disk *domain_add_disk(struct domain *d, struct error *err)
{
    return domain_append(&d->disks, &d->ndisks, sizeof *d->disks, DOMAIN_MAX_DISKS, "disks", err);
}

static struct domain_disk *last(void *object)
{
    struct domain *d = object;
    return &d->disks[d->ndisks - 1];
}

static int begin_disk(const struct xml_node *node, void *object, struct error *err)
{
    int device = xml_attr_word(node, "device", (const char *const[]){"disk", "cdrom", NULL}, 0, err);
    if (device < 0 || xml_attr_only(node, "type", "file", err) < 0)
        return -1;
    struct domain_disk *disk = domain_add_disk(object, err);
    if (!disk)
        return -1;
    disk->cdrom = device == 1;
    disk->bus = disk->cdrom ? DISK_SATA : DISK_VIRTIO;
    return 0;
}

static int begin_boot(const struct xml_node *node, void *object, struct error *err)
{
    uint64_t order = 0;
    if (xml_attr_number(node, "order", DISK_MAX_BOOT, &order, err) < 0)
        return -1;
    if (order == 0)
        return xml_error(node, err, "order 0 is none; the first is 1");
    last(object)->boot_order = (unsigned)order;
    return 0;
}

static int begin_driver(const struct xml_node *node, void *object, struct error *err)
{
    const char *type = xml_attr(node, "type");
    unsigned f = 0;
    while (type && f < DISK_FORMATS && strcmp(type, disk_format_names[f]) != 0)
        f++;
    if (f == DISK_FORMATS)
        return xml_error(node, err, "format '%.64s' is not supported; convert the image to 'raw' or 'qcow2'", type);
    last(object)->format = (enum disk_format)f;
    return xml_attr_only(node, "name", "qemu", err);
}

static int begin_source(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_attr(node, "file", &last(object)->file, err);
}

static const char *target_prefix(enum disk_bus bus)
{
    return bus == DISK_VIRTIO ? "vd" : "sd";
}

static int begin_target(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_disk *disk = last(object);
    const char *dev = xml_attr(node, "dev");
    int bus = xml_attr_word(node, "bus", disk_bus_names, strncmp(dev, "sd", 2) == 0 ? DISK_SATA : DISK_VIRTIO, err);
    if (bus < 0)
        return -1;
    disk->bus = (enum disk_bus)bus;
    const char *prefix = target_prefix(disk->bus);
    if (strncmp(dev, prefix, 2) != 0 || !dev[2] || strlen(dev) >= sizeof disk->target ||
        strspn(dev + 2, "abcdefghijklmnopqrstuvwxyz") != strlen(dev + 2))
        return xml_error(node, err, "dev '%.64s' is not the name of a %s disk; write '%sa', '%sb', …", dev,
                         disk_bus_names[disk->bus], prefix, prefix);
    strcpy(disk->target, dev);
    return 0;
}

static int begin_readonly(const struct xml_node *node, void *object, struct error *err)
{
    (void)node;
    (void)err;
    last(object)->readonly = true;
    return 0;
}

static void disk_free(struct domain *d)
{
    for (unsigned i = 0; i < d->ndisks; i++)
        free(d->disks[i].file);
    free(d->disks);
}

static bool has_target(const struct domain *d, const char *target)
{
    for (unsigned i = 0; i < d->ndisks; i++)
        if (strcmp(d->disks[i].target, target) == 0)
            return true;
    return false;
}

/* The first free name of the bus; there are fewer disks than letters. */
static void fill_target(const struct domain *d, struct domain_disk *disk)
{
    char name[sizeof disk->target];
    for (char letter = 'a'; letter <= 'z' && !disk->target[0]; letter++) {
        snprintf(name, sizeof name, "%s%c", target_prefix(disk->bus), letter);
        if (!has_target(d, name))
            strcpy(disk->target, name);
    }
}

static int check_distinct(const struct domain *d, unsigned i, struct error *err)
{
    const struct domain_disk *disk = &d->disks[i];
    for (unsigned j = 0; j < i; j++) {
        const struct domain_disk *other = &d->disks[j];
        if (strcmp(disk->target, other->target) == 0)
            return error_set(err, 0, "disk '%s': target '%s' is taken by disk '%s'; give each disk its own target",
                             disk->file ? disk->file : "", disk->target, other->file ? other->file : "");
        if (disk->boot_order && disk->boot_order == other->boot_order)
            return error_set(err, 0, "disk '%s': place %u of the boot order is that of disk '%s'; give each its own", disk->target,
                             disk->boot_order, other->target);
    }
    return 0;
}

static int disk_check(struct domain *d, struct error *err)
{
    for (unsigned i = 0; i < d->ndisks; i++) {
        struct domain_disk *disk = &d->disks[i];
        if (disk->cdrom)
            disk->readonly = true;
        else if (!disk->file || !disk->file[0])
            return error_set(err, 0, "disk %u: no file; name the image's file", i + 1);
        if (disk->cdrom && disk->bus == DISK_VIRTIO)
            return error_set(err, 0, "disk %u: the bus 'virtio' has no CD-ROM drives; give it the bus 'sata'", i + 1);
        if (!disk->target[0])
            fill_target(d, disk);
        if (check_distinct(d, i, err) < 0)
            return -1;
    }
    return 0;
}

static void write_disk(FILE *out, const struct domain_disk *disk)
{
    fprintf(out, "    <disk type='file' device='%s'>\n      <driver name='qemu' type='%s'/>\n", disk->cdrom ? "cdrom" : "disk",
            disk_format_names[disk->format]);
    if (disk->file)
        xml_put_attr(out, "      <source file='", disk->file, "'/>\n");
    fprintf(out, "      <target dev='%s' bus='%s'/>\n", disk->target, disk_bus_names[disk->bus]);
    if (disk->readonly)
        fputs("      <readonly/>\n", out);
    if (disk->boot_order)
        fprintf(out, "      <boot order='%u'/>\n", disk->boot_order);
    fputs("    </disk>\n", out);
}

static void disk_write(const struct domain *d, FILE *out)
{
    for (unsigned i = 0; i < d->ndisks; i++)
        write_disk(out, &d->disks[i]);
}

static const struct xml_element disk_children[] = {
    {"driver", 0, "name type", begin_driver, NULL, NULL},
    {"source", 0, "file!", begin_source, NULL, NULL},
    {"target", XML_REQUIRED, "dev! bus", begin_target, NULL, NULL},
    {"boot", 0, "order!", begin_boot, NULL, NULL},
    {"readonly", 0, NULL, begin_readonly, NULL, NULL},
    XML_END,
};
static const struct xml_element disk_devices[] = {
    {"disk", XML_MANY, "type device", begin_disk, disk_children, NULL},
    XML_END,
};
const struct domain_part disk_part = {.devices = disk_devices, .free = disk_free, .check = disk_check, .write_devices = disk_write};
