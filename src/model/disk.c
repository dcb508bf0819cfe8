// SPDX-License-Identifier: GPL-2.0-or-later
/* <disk>. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"
#include "model/reconnect.h"

static const char *const type_names[] = {"file", "block", "network", "vhostuser", NULL};
const char *const disk_format_names[DISK_FORMATS] = {"raw", "qcow2", "luks", "vmdk", "vdi", "vpc", "vhdx", "parallels", "dmg", "cloop"};
const char *const disk_bus_names[DISK_BUSES + 1] = {"virtio", "sata", "scsi", NULL};

const char *const disk_cache_names[] = {"writeback", "none", "writethrough", "unsafe", "directsync", "default", NULL};
const char *const disk_io_names[] = {"default", "native", "threads", "io_uring", NULL};
const char *const disk_discard_names[] = {"default", "unmap", "ignore", NULL};
const char *const disk_zeroes_names[] = {"off", "on", "unmap", NULL};
const char *const disk_on_error_names[] = {"report", "stop", "enospace", NULL};
const char *const disk_rate_names[DISK_RATES] = {"total", "read", "write"};

struct domain_disk *domain_add_disk(struct domain *d, struct error *err)
{
    struct domain_disk *disk = domain_append(&d->disks, &d->ndisks, sizeof *d->disks, DOMAIN_MAX_DISKS, "disks", err);
    if (disk)
        disk->write_errors = DISK_STOP_ENOSPC;
    return disk;
}

enum disk_cache disk_cache_of(int name)
{
    return name > DISK_DIRECTSYNC ? DISK_WRITEBACK : (enum disk_cache)name;
}

bool disk_extended(const struct domain *d)
{
    for (unsigned i = 0; i < d->ndisks; i++)
        if (d->disks[i].secret_file)
            return true;
    return false;
}

static struct domain_disk *last(void *object)
{
    struct domain *d = object;
    return &d->disks[d->ndisks - 1];
}

static int begin_disk(const struct xml_node *node, void *object, struct error *err)
{
    int device = xml_attr_word(node, "device", (const char *const[]){"disk", "cdrom", NULL}, 0, err);
    int type = device < 0 ? -1 : xml_attr_word(node, "type", type_names, DISK_FILE, err);
    if (type < 0)
        return -1;
    if (xml_attr(node, "snapshot") && type != DISK_VHOSTUSER)
        return xml_error(node, err, "snapshot is for a disk of type 'vhostuser'; remove it");
    struct domain_disk *disk = xml_attr_only(node, "snapshot", "no", err) < 0 ? NULL : domain_add_disk(object, err);
    if (!disk)
        return -1;
    disk->type = (enum disk_type)type;
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
        return xml_error(node, err, "format '%.64s' is not supported; convert the image to 'raw' or 'qcow2', or give one of docs/formats.md", type);
    struct domain_disk *disk = last(object);
    disk->format = (enum disk_format)f;
    int cache = xml_attr_word(node, "cache", disk_cache_names, DISK_WRITEBACK, err);
    int io = xml_attr_word(node, "io", disk_io_names, DISK_IO_ANY, err);
    int discard = xml_attr_word(node, "discard", disk_discard_names, DISK_DISCARD_ANY, err);
    int zeroes = xml_attr_word(node, "detect_zeroes", disk_zeroes_names, DISK_ZEROES_OFF, err);
    int write_errors = xml_attr_word(node, "error_policy", disk_on_error_names, DISK_STOP_ENOSPC, err);
    int read_errors = xml_attr_word(node, "rerror_policy", disk_on_error_names, DISK_REPORT, err);
    uint64_t queues = 0;
    if (cache < 0 || io < 0 || discard < 0 || zeroes < 0 || write_errors < 0 || read_errors < 0 || xml_attr_number(node, "queues", 8, &queues, err) < 0)
        return -1;
    disk->cache = disk_cache_of(cache);
    disk->io = (enum disk_io)io;
    disk->discard = (enum disk_discard)discard;
    disk->zeroes = (enum disk_zeroes)zeroes;
    disk->write_errors = (enum disk_on_error)write_errors;
    disk->read_errors = (enum disk_on_error)read_errors;
    disk->queues = (unsigned)queues;
    return xml_attr_only(node, "name", "qemu", err);
}

static int begin_serial(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &last(object)->serial, err);
}

static int begin_secret(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_attr(node, "file", &last(object)->secret_file, err);
}

/* Without a place for it, a transient disk's changes are forgotten. */
BEGIN_FLAG(begin_transient, last(object)->snapshot)

/* total_bytes_sec, read_iops_sec_max, and so on: the element's name says which. */
static int begin_rate(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_disk *disk = last(object);
    for (unsigned i = 0; i < DISK_RATES; i++) {
        size_t n = strlen(disk_rate_names[i]);
        if (strncmp(node->name, disk_rate_names[i], n) != 0)
            continue;
        struct disk_rates *r = strncmp(node->name + n, "_bytes", 6) == 0 ? &disk->bytes : &disk->ops;
        uint64_t *to = strlen(node->name) > 4 && strcmp(node->name + strlen(node->name) - 4, "_max") == 0 ? r->burst : r->rate;
        AUTO_FREE char *text = xml_text(node);
        return text ? xml_number(node, text, INT64_MAX, &to[i], err) : -1;
    }
    return -1;
}

/* Each type of disk has attributes of its own. */
static int begin_source(const struct xml_node *node, void *object, struct error *err)
{
    static const char *const names[] = {"file", "dev", "protocol", "path"};
    struct domain_disk *disk = last(object);
    const char *name = names[disk->type];
    unsigned others = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        others += i != disk->type && xml_attr(node, names[i]);
    bool network = xml_attr(node, "name") || xml_attr(node, "query") || xml_attr(node, "tls");
    if (!xml_attr(node, name) || others || (network && disk->type != DISK_NETWORK) || (xml_attr(node, "type") && disk->type != DISK_VHOSTUSER))
        return xml_error(node, err, "does not fit the disk's type; type 'file' has a 'file', 'block' a 'dev', 'network' a 'protocol', 'vhostuser' a 'type' and a 'path'");
    if (disk->type == DISK_NETWORK)
        return netdisk_take_source(&disk->net, node, err);
    if (disk->type == DISK_VHOSTUSER)
        return xml_attr_only(node, "type", "unix", err) < 0 ? -1 : xml_take_attr(node, name, &disk->socket, err);
    if (disk->cdrom && !xml_attr(node, name)[0]) /* virsh's word for no disc */
        return 0;
    return xml_take_attr(node, name, &disk->file, err);
}

static int begin_host(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_disk *disk = last(object);
    return disk->type == DISK_NETWORK ? netdisk_take_host(&disk->net, node, err) : xml_error(node, err, "is for a disk of type 'network'; remove it");
}

static int begin_reconnect(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_disk *disk = last(object);
    return disk->type == DISK_VHOSTUSER ? reconnect_take(node, &disk->reconnect, err) : xml_error(node, err, "is for a disk of type 'vhostuser'; remove it");
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

BEGIN_FLAG(begin_readonly, last(object)->readonly)

static int begin_address(const struct xml_node *node, void *object, struct error *err)
{
    return pci_take_address(node, &last(object)->address, err);
}

static int begin_alias(const struct xml_node *node, void *object, struct error *err)
{
    return alias_take(node, &last(object)->alias, err);
}

static void free_disk(struct domain_disk *disk)
{
    free(disk->file);
    netdisk_free(&disk->net);
    free(disk->socket);
    free(disk->secret_file);
    free(disk->serial);
    free(disk->alias);
    free(disk->overlay);
}

void domain_remove_disk(struct domain *d, unsigned i)
{
    free_disk(&d->disks[i]);
    memmove(&d->disks[i], &d->disks[i + 1], (--d->ndisks - i) * sizeof *d->disks);
}

static void disk_free(struct domain *d)
{
    for (unsigned i = 0; i < d->ndisks; i++)
        free_disk(&d->disks[i]);
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

static const char *where(const struct domain_disk *disk)
{
    return disk->file ? disk->file : disk->socket ? disk->socket : "";
}

static int check_distinct(const struct domain *d, unsigned i, struct error *err)
{
    const struct domain_disk *disk = &d->disks[i];
    for (unsigned j = 0; j < i; j++) {
        const struct domain_disk *other = &d->disks[j];
        if (strcmp(disk->target, other->target) == 0)
            return error_set(err, 0, "disk '%s': target '%s' is taken by disk '%s'; give each disk its own target",
                             where(disk), disk->target, where(other));
        if (disk->boot_order && disk->boot_order == other->boot_order)
            return error_set(err, 0, "disk '%s': place %u of the boot order is that of disk '%s'; give each its own", disk->target,
                             disk->boot_order, other->target);
    }
    return 0;
}

static bool has_rates(const struct disk_rates *r)
{
    return r->rate[0] || r->rate[1] || r->rate[2];
}

/* Most of what a disk may have is the back end's to say. */
static int check_vhostuser(const struct domain_disk *disk, unsigned number, struct error *err)
{
    if (!disk->socket || !disk->socket[0])
        return error_set(err, 0, "disk %u: no socket of a vhost-user back end; name its path", number);
    if (disk->file || disk->cdrom || disk->bus != DISK_VIRTIO || disk->format != DISK_RAW)
        return error_set(err, 0, "disk %u: a vhost-user back end is a raw disk on the bus 'virtio'; make it that, and no CD-ROM drive", number);
    if (disk->readonly || disk->snapshot || disk->serial || disk->cache != DISK_WRITEBACK || disk->io || disk->discard || disk->zeroes || has_rates(&disk->bytes) || has_rates(&disk->ops))
        return error_set(err, 0,
                         "disk %u: read-only, transient, serial, cache, io, discard, detect_zeroes and limits of rate are the vhost-user back end's own; set them there, "
                         "and leave them out here",
                         number);
    if (disk->write_errors != DISK_STOP_ENOSPC || disk->read_errors != DISK_REPORT)
        return error_set(err, 0, "disk %u: a vhost-user back end reports its errors to the guest by itself; leave out the error policies", number);
    return 0;
}

/* The URL says what the XML does: the one makes the other, and back. */
static int check_network(struct domain_disk *disk, unsigned number, struct error *err)
{
    if (disk->file && !disk->net.host && !disk->net.socket && netdisk_parse(&disk->net, disk->file, err) < 0)
        return -1;
    if (netdisk_check(&disk->net, number, err) < 0)
        return -1;
    if (disk->snapshot)
        return error_set(err, 0, "disk %u: a transient disk's overlay names a file, no server; make it read-only, or copy the image", number);
    if (!disk->file && !(disk->file = netdisk_url(&disk->net)))
        return error_set(err, 0, "disk %u: out of memory", number);
    return 0;
}

static int disk_check(struct domain *d, struct error *err)
{
    for (unsigned i = 0; i < d->ndisks; i++) {
        struct domain_disk *disk = &d->disks[i];
        if (disk->type == DISK_VHOSTUSER && check_vhostuser(disk, i + 1, err) < 0)
            return -1;
        if (disk->type == DISK_NETWORK && check_network(disk, i + 1, err) < 0)
            return -1;
        if (disk->cdrom)
            disk->readonly = true;
        else if (disk->type != DISK_VHOSTUSER && (!disk->file || !disk->file[0]))
            return error_set(err, 0, "disk %u: no file; name the image's file", i + 1);
        if (disk->serial && strlen(disk->serial) > 20)
            return error_set(err, 0, "disk %u: the serial '%s' is longer than 20 characters; shorten it", i + 1, disk->serial);
        if (disk->cdrom && disk->bus == DISK_VIRTIO)
            return error_set(err, 0, "disk %u: the bus 'virtio' has no CD-ROM drives; give it the bus 'sata' or 'scsi'", i + 1);
        if (disk->address.set && disk->bus != DISK_VIRTIO)
            return error_set(err, 0, "disk %u: a disk on the bus '%s' has no PCI address; its controller has", i + 1,
                             disk_bus_names[disk->bus]);
        if (!disk->target[0])
            fill_target(d, disk);
        if (check_distinct(d, i, err) < 0)
            return -1;
    }
    return 0;
}

static void write_rates(const struct disk_rates *r, const char *unit, FILE *out)
{
    for (unsigned i = 0; i < DISK_RATES; i++)
        if (r->rate[i])
            fprintf(out, "        <%s_%s_sec>%llu</%s_%s_sec>\n", disk_rate_names[i], unit, (unsigned long long)r->rate[i], disk_rate_names[i], unit);
    for (unsigned i = 0; i < DISK_RATES; i++)
        if (r->burst[i])
            fprintf(out, "        <%s_%s_sec_max>%llu</%s_%s_sec_max>\n", disk_rate_names[i], unit, (unsigned long long)r->burst[i], disk_rate_names[i],
                    unit);
}

static void write_driver(FILE *out, const struct domain_disk *disk)
{
    fprintf(out, "      <driver name='qemu' type='%s'", disk_format_names[disk->format]);
    if (disk->cache != DISK_WRITEBACK)
        fprintf(out, " cache='%s'", disk_cache_names[disk->cache]);
    if (disk->io)
        fprintf(out, " io='%s'", disk_io_names[disk->io]);
    if (disk->discard)
        fprintf(out, " discard='%s'", disk_discard_names[disk->discard]);
    if (disk->zeroes)
        fprintf(out, " detect_zeroes='%s'", disk_zeroes_names[disk->zeroes]);
    if (disk->write_errors != DISK_STOP_ENOSPC)
        fprintf(out, " error_policy='%s'", disk_on_error_names[disk->write_errors]);
    if (disk->read_errors != DISK_REPORT)
        fprintf(out, " rerror_policy='%s'", disk_on_error_names[disk->read_errors]);
    if (disk->queues)
        fprintf(out, " queues='%u'", disk->queues);
    fputs("/>\n", out);
}

static void write_disk(FILE *out, const struct domain_disk *disk)
{
    fprintf(out, "    <disk type='%s' device='%s'%s>\n", type_names[disk->type], disk->cdrom ? "cdrom" : "disk", disk->type == DISK_VHOSTUSER ? " snapshot='no'" : "");
    write_driver(out, disk);
    if (disk->socket)
        reconnect_put_source(out, " type='unix' path='", disk->socket, "'", disk->reconnect);
    if (disk->type == DISK_NETWORK)
        netdisk_put(out, &disk->net);
    else
        xml_put_attr(out, disk->type == DISK_DEVICE ? "      <source dev='" : "      <source file='", disk->file, "'/>\n");
    fprintf(out, "      <target dev='%s' bus='%s'/>\n", disk->target, disk_bus_names[disk->bus]);
    if (has_rates(&disk->bytes) || has_rates(&disk->ops)) {
        fputs("      <iotune>\n", out);
        write_rates(&disk->bytes, "bytes", out);
        write_rates(&disk->ops, "iops", out);
        fputs("      </iotune>\n", out);
    }
    xml_put_attr(out, "      <lodge:secret file='", disk->secret_file, "'/>\n");
    xml_put_element(out, 6, "serial", disk->serial);
    if (disk->snapshot)
        fputs("      <transient/>\n", out);
    if (disk->readonly)
        fputs("      <readonly/>\n", out);
    if (disk->boot_order)
        fprintf(out, "      <boot order='%u'/>\n", disk->boot_order);
    alias_put(out, disk->alias);
    pci_put_address(out, 6, &disk->address);
    fputs("    </disk>\n", out);
}

static void disk_write(const struct domain *d, FILE *out)
{
    for (unsigned i = 0; i < d->ndisks; i++)
        write_disk(out, &d->disks[i]);
}

static const struct xml_element iotune_children[] = {
    {"total_bytes_sec", XML_TEXT, NULL, begin_rate, NULL, NULL},
    {"total_bytes_sec_max", XML_TEXT, NULL, begin_rate, NULL, NULL},
    {"read_bytes_sec", XML_TEXT, NULL, begin_rate, NULL, NULL},
    {"read_bytes_sec_max", XML_TEXT, NULL, begin_rate, NULL, NULL},
    {"write_bytes_sec", XML_TEXT, NULL, begin_rate, NULL, NULL},
    {"write_bytes_sec_max", XML_TEXT, NULL, begin_rate, NULL, NULL},
    {"total_iops_sec", XML_TEXT, NULL, begin_rate, NULL, NULL},
    {"total_iops_sec_max", XML_TEXT, NULL, begin_rate, NULL, NULL},
    {"read_iops_sec", XML_TEXT, NULL, begin_rate, NULL, NULL},
    {"read_iops_sec_max", XML_TEXT, NULL, begin_rate, NULL, NULL},
    {"write_iops_sec", XML_TEXT, NULL, begin_rate, NULL, NULL},
    {"write_iops_sec_max", XML_TEXT, NULL, begin_rate, NULL, NULL},
    XML_END,
};
static const struct xml_element source_children[] = {
    {"reconnect", 0, RECONNECT_ATTRS, begin_reconnect, NULL, NULL},
    {"host", 0, "name port transport socket", begin_host, NULL, NULL},
    XML_END,
};
static const struct xml_element disk_children[] = {
    {"driver", 0, "name type cache io discard detect_zeroes error_policy rerror_policy queues", begin_driver, NULL, NULL},
    {"source", 0, "file dev protocol name query tls type path", begin_source, source_children, NULL},
    {"target", XML_REQUIRED, "dev! bus", begin_target, NULL, NULL},
    {"boot", 0, "order!", begin_boot, NULL, NULL},
    {"iotune", 0, NULL, NULL, iotune_children, NULL},
    {"serial", XML_TEXT, NULL, begin_serial, NULL, NULL},
    {"secret", XML_FOREIGN, "file!", begin_secret, NULL, NULL},
    {"transient", 0, NULL, begin_transient, NULL, NULL},
    {"readonly", 0, NULL, begin_readonly, NULL, NULL},
    {"address", 0, PCI_ADDRESS_ATTRS, begin_address, NULL, NULL},
    ALIAS_ELEMENT(begin_alias),
    XML_END,
};
static const struct xml_element disk_devices[] = {
    {"disk", XML_MANY, "type device snapshot", begin_disk, disk_children, NULL},
    XML_END,
};
const struct domain_part disk_part = {.devices = disk_devices, .free = disk_free, .check = disk_check, .write_devices = disk_write};
