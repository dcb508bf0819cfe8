// SPDX-License-Identifier: GPL-2.0-or-later
/* <disk>. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

const char *const disk_format_names[DISK_FORMATS] = {"raw", "qcow2"};

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
    if (xml_attr_only(node, "type", "file", err) < 0 || xml_attr_only(node, "device", "disk", err) < 0)
        return -1;
    return domain_add_disk(object, err) ? 0 : -1;
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

static int begin_target(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_disk *disk = last(object);
    const char *dev = xml_attr(node, "dev");
    if (xml_attr_only(node, "bus", "virtio", err) < 0)
        return -1;
    if (strncmp(dev, "vd", 2) != 0 || strlen(dev) >= sizeof disk->target ||
        strspn(dev + 2, "abcdefghijklmnopqrstuvwxyz") != strlen(dev + 2))
        return xml_error(node, err, "dev '%.64s' is not a virtio disk's name; write 'vda', 'vdb', …", dev);
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

static int disk_check(struct domain *d, struct error *err)
{
    for (unsigned i = 0; i < d->ndisks; i++) {
        struct domain_disk *disk = &d->disks[i];
        if (!disk->file || !disk->file[0])
            return error_set(err, 0, "disk %u: no file; name the image's file", i + 1);
        if (!disk->target[0])
            snprintf(disk->target, sizeof disk->target, "vd%c", 'a' + i);
        for (unsigned j = 0; j < i; j++) {
            if (strcmp(disk->target, d->disks[j].target) == 0)
                return error_set(err, 0, "disk '%s': target '%s' is taken by disk '%s'; give each disk its own target", disk->file,
                                 disk->target, d->disks[j].file);
        }
    }
    return 0;
}

static void write_disk(FILE *out, const struct domain_disk *disk)
{
    fprintf(out, "    <disk type='file' device='disk'>\n      <driver name='qemu' type='%s'/>\n", disk_format_names[disk->format]);
    xml_put_attr(out, "      <source file='", disk->file, "'/>\n");
    fprintf(out, "      <target dev='%s' bus='virtio'/>\n", disk->target);
    if (disk->readonly)
        fputs("      <readonly/>\n", out);
    fputs("    </disk>\n", out);
}

static void disk_write(const struct domain *d, FILE *out)
{
    for (unsigned i = 0; i < d->ndisks; i++)
        write_disk(out, &d->disks[i]);
}

static const struct xml_element disk_children[] = {
    {"driver", 0, "name type", begin_driver, NULL, NULL},
    {"source", XML_REQUIRED, "file!", begin_source, NULL, NULL},
    {"target", XML_REQUIRED, "dev! bus", begin_target, NULL, NULL},
    {"readonly", 0, NULL, begin_readonly, NULL, NULL},
    XML_END,
};
static const struct xml_element disk_devices[] = {
    {"disk", XML_MANY, "type device", begin_disk, disk_children, NULL},
    XML_END,
};
const struct domain_part disk_part = {.devices = disk_devices, .free = disk_free, .check = disk_check, .write_devices = disk_write};
