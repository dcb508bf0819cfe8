// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libvirt's domain XML into struct domain. The tables at the end are the grammar: what they do not name is refused (xml.h).
 *
 * libvirt lists the first serial port a second time as <console>; from_console[] marks those, and merge_consoles() takes them out
 * again.
 */
#include "model/domain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "model/xml.h"

struct parse {
    struct domain *d;
    uint64_t current_memory;             /* bytes, 0 when not given */
    bool from_console[DOMAIN_MAX_CHARS]; /* the char came from <console> */
};

static struct domain_disk *last_disk(void *object)
{
    struct domain *d = ((struct parse *)object)->d;
    return &d->disks[d->ndisks - 1];
}

static struct domain_iface *last_iface(void *object)
{
    struct domain *d = ((struct parse *)object)->d;
    return &d->ifaces[d->nifaces - 1];
}

static struct domain_char *last_char(void *object)
{
    struct domain *d = ((struct parse *)object)->d;
    return &d->chars[d->nchars - 1];
}

/* For elements and attributes with exactly one word that Lodge has: it is checked and says nothing more. */
static int only_word(const xmlNode *node, const char *attr, const char *word, struct error *err)
{
    return xml_attr_word(node, attr, (const char *const[]){word, NULL}, 0, err);
}

/* ---- top level ---- */

static int begin_domain(xmlNode *node, void *object, struct error *err)
{
    struct parse *p = object;
    int type = xml_attr_word(node, "type", (const char *const[]){"kvm", "qemu", NULL}, 0, err);
    p->d->accel = type == 1 ? DOMAIN_ACCEL_SOFTKVM : DOMAIN_ACCEL_KVM;
    return type < 0 ? -1 : 0;
}

static int begin_accel(xmlNode *node, void *object, struct error *err)
{
    int mode = xml_attr_word(node, "mode", (const char *const[]){"auto", "kvm", "softkvm", NULL}, 0, err);
    if (mode < 0)
        return -1;
    ((struct parse *)object)->d->accel = (enum domain_accel)mode;
    return 0;
}

static int begin_name(xmlNode *node, void *object, struct error *err)
{
    (void)err;
    return (((struct parse *)object)->d->name = xml_text(node)) ? 0 : -1;
}

static int begin_title(xmlNode *node, void *object, struct error *err)
{
    (void)err;
    return (((struct parse *)object)->d->title = xml_text(node)) ? 0 : -1;
}

static int begin_description(xmlNode *node, void *object, struct error *err)
{
    (void)err;
    return (((struct parse *)object)->d->description = xml_text(node)) ? 0 : -1;
}

static int begin_uuid(xmlNode *node, void *object, struct error *err)
{
    struct domain *d = ((struct parse *)object)->d;
    AUTO_FREE char *text = xml_text(node);
    if (!text)
        return -1;
    if (domain_parse_uuid(text, d->uuid) < 0)
        return xml_error(node, err, "'%.64s' is not a UUID; write 32 hexadecimal digits", text);
    d->has_uuid = true;
    return 0;
}

static int parse_memory(xmlNode *node, uint64_t *bytes, struct error *err)
{
    const char *unit = xml_attr(node, "unit");
    AUTO_FREE char *text = xml_text(node);
    AUTO_FREE char *whole = NULL;
    if (!text || asprintf(&whole, "%s%s", text, unit ? unit : "KiB") < 0)
        return -1;
    if (domain_parse_size(whole, 0, bytes) < 0)
        return xml_error(node, err, "'%.64s' is not an amount of memory; write a number, and a unit such as 'MiB'", whole);
    return 0;
}

static int begin_memory(xmlNode *node, void *object, struct error *err)
{
    return parse_memory(node, &((struct parse *)object)->d->memory, err);
}

static int begin_current_memory(xmlNode *node, void *object, struct error *err)
{
    return parse_memory(node, &((struct parse *)object)->current_memory, err);
}

static int begin_vcpu(xmlNode *node, void *object, struct error *err)
{
    AUTO_FREE char *text = xml_text(node);
    uint64_t n;
    if (!text || only_word(node, "placement", "static", err) < 0 || xml_number(node, text, DOMAIN_MAX_VCPUS, &n, err) < 0)
        return -1;
    ((struct parse *)object)->d->vcpus = (unsigned)n;
    return 0;
}

static int begin_clock(xmlNode *node, void *object, struct error *err)
{
    (void)object;
    return only_word(node, "offset", "utc", err);
}

static int parse_action(xmlNode *node, enum domain_action *action, struct error *err)
{
    int i = xml_text_word(node, (const char *const[]){"destroy", "restart", NULL}, err);
    *action = i == 1 ? DOMAIN_RESTART : DOMAIN_DESTROY;
    return i < 0 ? -1 : 0;
}

static int begin_on_poweroff(xmlNode *node, void *object, struct error *err)
{
    return parse_action(node, &((struct parse *)object)->d->on_poweroff, err);
}

static int begin_on_reboot(xmlNode *node, void *object, struct error *err)
{
    return parse_action(node, &((struct parse *)object)->d->on_reboot, err);
}

static int begin_on_crash(xmlNode *node, void *object, struct error *err)
{
    return parse_action(node, &((struct parse *)object)->d->on_crash, err);
}

/* ---- <os> ---- */

static int begin_os_type(xmlNode *node, void *object, struct error *err)
{
    (void)object;
    const char *machine = xml_attr(node, "machine");
    if (only_word(node, "arch", "x86_64", err) < 0 || xml_text_word(node, (const char *const[]){"hvm", NULL}, err) < 0)
        return -1;
    if (machine && strcmp(machine, "q35") != 0 && strncmp(machine, "pc-q35-", 7) != 0)
        return xml_error(node, err, "machine '%.64s' is not supported; write 'q35'", machine);
    return 0;
}

static int begin_kernel(xmlNode *node, void *object, struct error *err)
{
    (void)err;
    return (((struct parse *)object)->d->os.kernel = xml_text(node)) ? 0 : -1;
}

static int begin_initrd(xmlNode *node, void *object, struct error *err)
{
    (void)err;
    return (((struct parse *)object)->d->os.initrd = xml_text(node)) ? 0 : -1;
}

static int begin_cmdline(xmlNode *node, void *object, struct error *err)
{
    (void)err;
    return (((struct parse *)object)->d->os.cmdline = xml_text(node)) ? 0 : -1;
}

/* ---- <disk> ---- */

static int begin_disk(xmlNode *node, void *object, struct error *err)
{
    if (only_word(node, "type", "file", err) < 0 || only_word(node, "device", "disk", err) < 0)
        return -1;
    return domain_add_disk(((struct parse *)object)->d, err) ? 0 : -1;
}

static int begin_disk_driver(xmlNode *node, void *object, struct error *err)
{
    const char *type = xml_attr(node, "type");
    unsigned f = 0;
    while (type && f < DISK_FORMATS && strcmp(type, disk_format_names[f]) != 0)
        f++;
    if (f == DISK_FORMATS)
        return xml_error(node, err, "format '%.64s' is not supported; convert the image to 'raw' or 'qcow2'", type);
    last_disk(object)->format = (enum disk_format)f;
    return only_word(node, "name", "qemu", err);
}

static int begin_disk_source(xmlNode *node, void *object, struct error *err)
{
    (void)err;
    return (last_disk(object)->file = strdup(xml_attr(node, "file"))) ? 0 : -1;
}

static int begin_disk_target(xmlNode *node, void *object, struct error *err)
{
    struct domain_disk *disk = last_disk(object);
    const char *dev = xml_attr(node, "dev");
    if (only_word(node, "bus", "virtio", err) < 0)
        return -1;
    if (strncmp(dev, "vd", 2) != 0 || strlen(dev) >= sizeof disk->target ||
        strspn(dev + 2, "abcdefghijklmnopqrstuvwxyz") != strlen(dev + 2))
        return xml_error(node, err, "dev '%.64s' is not a virtio disk's name; write 'vda', 'vdb', …", dev);
    strcpy(disk->target, dev);
    return 0;
}

static int begin_disk_readonly(xmlNode *node, void *object, struct error *err)
{
    (void)node;
    (void)err;
    last_disk(object)->readonly = true;
    return 0;
}

/* ---- <interface> ---- */

static int begin_iface(xmlNode *node, void *object, struct error *err)
{
    const char *type = xml_attr(node, "type");
    if (strcmp(type, "user") != 0)
        return xml_error(node, err, "type '%.64s' is not supported; write 'user'", type);
    return domain_add_iface(((struct parse *)object)->d, err) ? 0 : -1;
}

static int begin_iface_mac(xmlNode *node, void *object, struct error *err)
{
    uint8_t *mac = last_iface(object)->mac;
    const char *text = xml_attr(node, "address");
    int used = 0;
    if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &used) != 6 ||
        used != 17 || text[used])
        return xml_error(node, err, "'%.64s' is not a MAC address; write six pairs of hexadecimal digits", text);
    if (mac[0] & 1)
        return xml_error(node, err, "'%s' is a multicast address; make the first byte even", text);
    return 0;
}

static int begin_virtio_model(xmlNode *node, void *object, struct error *err)
{
    (void)object;
    return only_word(node, "type", "virtio", err);
}

/* ---- <serial>, <console> ---- */

static int begin_char(xmlNode *node, void *object, struct error *err)
{
    static const char *const types[] = {"stdio", "file", "null", NULL}; /* enum domain_char_backend */
    struct parse *p = object;
    int type = xml_attr_word(node, "type", types, 0, err);
    struct domain_char *c = type < 0 ? NULL : domain_add_char(p->d, err);
    if (!c)
        return -1;
    c->backend = (enum domain_char_backend)type;
    p->from_console[p->d->nchars - 1] = strcmp((const char *)node->name, "console") == 0;
    return 0;
}

static int begin_char_source(xmlNode *node, void *object, struct error *err)
{
    struct domain_char *c = last_char(object);
    if (c->backend != DOMAIN_CHAR_FILE)
        return xml_error(node, err, "only type 'file' has a source; remove it");
    return (c->path = strdup(xml_attr(node, "path"))) ? 0 : -1;
}

static int begin_serial_target(xmlNode *node, void *object, struct error *err)
{
    struct domain_char *c = last_char(object);
    int type = xml_attr_word(node, "type", (const char *const[]){"isa-serial", "isa-debug", NULL}, 0, err);
    if (type < 0 || only_word(node, "port", "0", err) < 0)
        return -1;
    c->kind = type == 1 ? DOMAIN_CHAR_DEBUGCON : DOMAIN_CHAR_SERIAL;
    c->iobase = DOMAIN_DEBUGCON_PORT;
    return 0;
}

static int begin_serial_model(xmlNode *node, void *object, struct error *err)
{
    return only_word(node, "name", last_char(object)->kind == DOMAIN_CHAR_DEBUGCON ? "isa-debugcon" : "isa-serial", err);
}

static int begin_isa_address(xmlNode *node, void *object, struct error *err)
{
    struct domain_char *c = last_char(object);
    uint64_t port;
    if (only_word(node, "type", "isa", err) < 0 || xml_number(node, xml_attr(node, "iobase"), 0xffff, &port, err) < 0)
        return -1;
    if (c->kind != DOMAIN_CHAR_DEBUGCON && port != 0x3f8)
        return xml_error(node, err, "iobase of a serial port is 0x3f8; write that or remove the address");
    c->iobase = (uint16_t)port;
    return 0;
}

static int begin_console_target(xmlNode *node, void *object, struct error *err)
{
    int type = xml_attr_word(node, "type", (const char *const[]){"serial", "virtio", NULL}, 0, err);
    if (type < 0 || only_word(node, "port", "0", err) < 0)
        return -1;
    last_char(object)->kind = type == 1 ? DOMAIN_CHAR_VIRTIO : DOMAIN_CHAR_SERIAL;
    return 0;
}

/* ---- other devices ---- */

static int begin_rng(xmlNode *node, void *object, struct error *err)
{
    ((struct parse *)object)->d->rng = true;
    return only_word(node, "model", "virtio", err);
}

static int begin_rng_backend(xmlNode *node, void *object, struct error *err)
{
    (void)object;
    if (only_word(node, "model", "random", err) < 0)
        return -1;
    return xml_text_word(node, (const char *const[]){"/dev/urandom", "/dev/random", NULL}, err) < 0 ? -1 : 0;
}

static int begin_panic(xmlNode *node, void *object, struct error *err)
{
    ((struct parse *)object)->d->pvpanic = true;
    return only_word(node, "model", "isa", err);
}

static int begin_debug_exit(xmlNode *node, void *object, struct error *err)
{
    const char *iobase = xml_attr(node, "iobase");
    uint64_t port = DOMAIN_DEBUG_EXIT;
    if (iobase && xml_number(node, iobase, 0xfffc, &port, err) < 0)
        return -1;
    if (port == 0)
        return xml_error(node, err, "iobase 0 is not a port for it; write '0xf4'");
    ((struct parse *)object)->d->debug_exit = (uint16_t)port;
    return 0;
}

/* ---- the grammar ---- */

#define END          \
    {                \
        .name = NULL \
    }

static const struct xml_element os_children[] = {
    {"type", XML_TEXT | XML_REQUIRED, "arch machine", begin_os_type, NULL},
    {"kernel", XML_TEXT, NULL, begin_kernel, NULL},
    {"initrd", XML_TEXT, NULL, begin_initrd, NULL},
    {"cmdline", XML_TEXT, NULL, begin_cmdline, NULL},
    END,
};
/* The machine always has ACPI and an APIC; libvirt's XML says so explicitly, and a document without them asks for another machine.
 */
static const struct xml_element features_children[] = {
    {"acpi", XML_REQUIRED, NULL, NULL, NULL},
    {"apic", 0, NULL, NULL, NULL},
    END,
};
static const struct xml_element disk_children[] = {
    {"driver", 0, "name type", begin_disk_driver, NULL},
    {"source", XML_REQUIRED, "file!", begin_disk_source, NULL},
    {"target", XML_REQUIRED, "dev! bus", begin_disk_target, NULL},
    {"readonly", 0, NULL, begin_disk_readonly, NULL},
    END,
};
static const struct xml_element iface_children[] = {
    {"mac", 0, "address!", begin_iface_mac, NULL},
    {"model", 0, "type!", begin_virtio_model, NULL},
    END,
};
static const struct xml_element serial_target_children[] = {
    {"model", 0, "name!", begin_serial_model, NULL},
    END,
};
static const struct xml_element serial_children[] = {
    {"source", 0, "path!", begin_char_source, NULL},
    {"target", 0, "type port", begin_serial_target, serial_target_children},
    {"address", 0, "type! iobase!", begin_isa_address, NULL},
    END,
};
static const struct xml_element console_children[] = {
    {"source", 0, "path!", begin_char_source, NULL},
    {"target", 0, "type port", begin_console_target, NULL},
    END,
};
static const struct xml_element rng_children[] = {
    {"backend", XML_TEXT | XML_REQUIRED, "model!", begin_rng_backend, NULL},
    END,
};
static const struct xml_element devices_children[] = {
    {"disk", XML_MANY, "type device", begin_disk, disk_children},
    {"interface", XML_MANY, "type!", begin_iface, iface_children},
    {"serial", XML_MANY, "type!", begin_char, serial_children},
    {"console", XML_MANY, "type!", begin_char, console_children},
    {"rng", 0, "model!", begin_rng, rng_children},
    {"panic", 0, "model!", begin_panic, NULL},
    {"debug-exit", XML_FOREIGN, "iobase", begin_debug_exit, NULL},
    END,
};
static const struct xml_element domain_children[] = {
    {"name", XML_TEXT | XML_REQUIRED, NULL, begin_name, NULL},
    {"uuid", XML_TEXT, NULL, begin_uuid, NULL},
    {"title", XML_TEXT, NULL, begin_title, NULL},
    {"description", XML_TEXT, NULL, begin_description, NULL},
    {"memory", XML_TEXT | XML_REQUIRED, "unit", begin_memory, NULL},
    {"currentMemory", XML_TEXT, "unit", begin_current_memory, NULL},
    {"vcpu", XML_TEXT, "placement", begin_vcpu, NULL},
    {"os", XML_REQUIRED, NULL, NULL, os_children},
    {"features", XML_REQUIRED, NULL, NULL, features_children},
    {"clock", 0, "offset", begin_clock, NULL},
    {"on_poweroff", XML_TEXT, NULL, begin_on_poweroff, NULL},
    {"on_reboot", XML_TEXT, NULL, begin_on_reboot, NULL},
    {"on_crash", XML_TEXT, NULL, begin_on_crash, NULL},
    {"devices", 0, NULL, NULL, devices_children},
    {"accel", XML_FOREIGN, "mode!", begin_accel, NULL},
    END,
};
static const struct xml_element domain_element = {"domain", 0, "type!", begin_domain, domain_children};

static bool same_backend(const struct domain_char *a, const struct domain_char *b)
{
    return a->backend == b->backend && (a->backend != DOMAIN_CHAR_FILE || (a->path && b->path && strcmp(a->path, b->path) == 0));
}

/* Drops each <console> that is a serial port listed a second time. */
static void merge_consoles(struct parse *p)
{
    struct domain *d = p->d;
    unsigned kept = 0;
    for (unsigned i = 0; i < d->nchars; i++) {
        bool twin = false;
        for (unsigned j = 0; j < d->nchars && p->from_console[i] && d->chars[i].kind == DOMAIN_CHAR_SERIAL; j++)
            twin |= !p->from_console[j] && d->chars[j].kind == DOMAIN_CHAR_SERIAL && same_backend(&d->chars[i], &d->chars[j]);
        if (twin) {
            free(d->chars[i].path);
            d->chars[i].path = NULL;
            d->chars[i].backend = DOMAIN_CHAR_NULL;
            continue;
        }
        p->from_console[kept] = p->from_console[i];
        d->chars[kept++] = d->chars[i];
    }
    d->nchars = kept;
}

int domain_parse(struct domain *d, const char *xml, size_t len, struct error *err)
{
    struct parse p = {.d = d};
    domain_init(d);
    if (len > DOMAIN_XML_MAX)
        return error_set(err, 0, "domain XML: longer than %u bytes; shorten it", DOMAIN_XML_MAX);
    if (xml_parse(xml, len, "domain XML", DOMAIN_NS, &domain_element, &p, err) < 0)
        goto fail;
    if (p.current_memory && p.current_memory != d->memory) {
        error_set(err, 0, "domain XML: <currentMemory> differs from <memory>; a balloon is not supported, make them equal");
        goto fail;
    }
    merge_consoles(&p);
    if (domain_check(d, err) == 0)
        return 0;
fail:
    domain_free(d);
    return -1;
}

int domain_parse_fd(struct domain *d, int fd, struct error *err)
{
    AUTO_FREE char *xml = malloc(DOMAIN_XML_MAX + 1);
    size_t len = 0;
    domain_init(d);
    if (!xml)
        return error_set(err, ENOMEM, "domain XML: out of memory");
    while (len <= DOMAIN_XML_MAX) {
        ssize_t n = read(fd, xml + len, DOMAIN_XML_MAX + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, errno, "domain XML: cannot read: %s", strerror(errno));
        if (n == 0)
            break;
        len += (size_t)n;
    }
    return domain_parse(d, xml, len, err);
}
