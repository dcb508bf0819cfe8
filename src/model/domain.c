// SPDX-License-Identifier: GPL-2.0-or-later
/* struct domain: defaults, limits, and the small values (sizes, UUIDs) that its notation is made of. */
#include "model/domain.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/util.h"

void domain_init(struct domain *d)
{
    *d = (struct domain){.memory = 512 * MIB, .vcpus = 1, .on_reboot = DOMAIN_RESTART};
}

void domain_free(struct domain *d)
{
    for (unsigned i = 0; i < d->ndisks; i++)
        free(d->disks[i].file);
    for (unsigned i = 0; i < d->nchars; i++)
        free(d->chars[i].path);
    free(d->disks);
    free(d->ifaces);
    free(d->chars);
    free(d->name);
    free(d->title);
    free(d->description);
    free(d->os.kernel);
    free(d->os.initrd);
    free(d->os.cmdline);
    *d = (struct domain){0};
}

static void *append(void *array, unsigned *count, size_t size, unsigned limit, const char *what, struct error *err)
{
    if (*count >= limit) {
        error_set(err, 0, "domain: more than %u %s; a guest has room for %u", limit, what, limit);
        return NULL;
    }
    char *grown = realloc(*(void **)array, (*count + 1) * size);
    if (!grown) {
        error_set(err, ENOMEM, "domain: out of memory");
        return NULL;
    }
    *(void **)array = grown;
    void *element = grown + size * (*count)++;
    memset(element, 0, size);
    return element;
}

const char *const disk_format_names[DISK_FORMATS] = {"raw", "qcow2"};

struct domain_disk *domain_add_disk(struct domain *d, struct error *err)
{
    return append(&d->disks, &d->ndisks, sizeof *d->disks, DOMAIN_MAX_DISKS, "disks", err);
}

struct domain_iface *domain_add_iface(struct domain *d, struct error *err)
{
    return append(&d->ifaces, &d->nifaces, sizeof *d->ifaces, DOMAIN_MAX_IFACES, "network interfaces", err);
}

struct domain_char *domain_add_char(struct domain *d, struct error *err)
{
    return append(&d->chars, &d->nchars, sizeof *d->chars, DOMAIN_MAX_CHARS, "serial ports and consoles", err);
}

static int check_disks(struct domain *d, struct error *err)
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

static int check_chars(const struct domain *d, struct error *err)
{
    unsigned stdio = 0, kinds[3] = {0};
    for (unsigned i = 0; i < d->nchars; i++) {
        const struct domain_char *c = &d->chars[i];
        stdio += c->backend == DOMAIN_CHAR_STDIO && c->kind != DOMAIN_CHAR_DEBUGCON;
        if (++kinds[c->kind] > 1)
            return error_set(err, 0, "domain: two %s; one is supported",
                             c->kind == DOMAIN_CHAR_SERIAL   ? "serial ports"
                             : c->kind == DOMAIN_CHAR_VIRTIO ? "virtio consoles"
                                                             : "debug consoles");
        if (c->backend == DOMAIN_CHAR_FILE && (!c->path || !c->path[0]))
            return error_set(err, 0, "domain: a console of type 'file' names no path; add <source path='…'/>");
    }
    if (stdio > 1)
        return error_set(err, 0, "domain: the terminal is wanted by two devices; give one of them type 'file' or 'null'");
    return 0;
}

/* MAC addresses in the locally administered range that KVM guests use, distinct within the guest and stable for its UUID. */
static void fill_macs(struct domain *d)
{
    static const uint8_t none[6];
    for (unsigned i = 0; i < d->nifaces; i++) {
        uint8_t *mac = d->ifaces[i].mac;
        if (memcmp(mac, none, 6) != 0)
            continue;
        const uint8_t made[6] = {0x52, 0x54, 0x00, d->uuid[13], d->uuid[14], (uint8_t)(d->uuid[15] + i)};
        memcpy(mac, made, 6);
    }
}

int domain_check(struct domain *d, struct error *err)
{
    if (!d->name || !d->name[0])
        return error_set(err, 0, "domain: no name; add <name>");
    if (strpbrk(d->name, "/\n"))
        return error_set(err, 0, "domain: the name holds a slash or a line break; choose another name");
    if (!d->os.kernel || !d->os.kernel[0])
        return error_set(err, 0, "domain '%s': no kernel; name one with --kernel or <os><kernel>", d->name);
    if (d->os.cmdline && strlen(d->os.cmdline) >= DOMAIN_MAX_CMDLINE)
        return error_set(err, 0, "kernel command line: longer than %u bytes; shorten it", DOMAIN_MAX_CMDLINE - 1);
    if (d->vcpus < 1 || d->vcpus > DOMAIN_MAX_VCPUS)
        return error_set(err, 0, "domain '%s': %u CPUs; give it 1 to %u", d->name, d->vcpus, DOMAIN_MAX_VCPUS);
    if (d->memory < DOMAIN_MIN_MEMORY || d->memory > DOMAIN_MAX_MEMORY)
        return error_set(err, 0, "domain '%s': %llu KiB of memory; give it 4 MiB to 4 TiB", d->name,
                         (unsigned long long)(d->memory / KIB));
    d->memory = ALIGN_UP(d->memory, PAGE_SIZE);
    if (!d->has_uuid) {
        if (getrandom(d->uuid, sizeof d->uuid, 0) != (ssize_t)sizeof d->uuid)
            return error_set(err, errno, "domain '%s': no random numbers for a UUID: %s", d->name, strerror(errno));
        d->uuid[6] = (d->uuid[6] & 0x0f) | 0x40; /* RFC 4122: version 4, variant 1 */
        d->uuid[8] = (d->uuid[8] & 0x3f) | 0x80;
        d->has_uuid = true;
    }
    fill_macs(d);
    if (check_disks(d, err) < 0)
        return -1;
    return check_chars(d, err);
}

int domain_parse_size(const char *text, uint64_t unit, uint64_t *bytes)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } units[] = {
        {"b", 1},          {"bytes", 1},        {"KB", 1000},          {"k", KIB}, {"KiB", KIB}, {"MB", 1000000},
        {"M", MIB},        {"MiB", MIB},        {"GB", 1000000000ull}, {"G", GIB}, {"GiB", GIB}, {"TB", 1000000000000ull},
        {"T", 1024 * GIB}, {"TiB", 1024 * GIB},
    };
    if (!isdigit((unsigned char)text[0]))
        return -1;
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno)
        return -1;
    uint64_t factor = *end ? 0 : unit;
    for (unsigned i = 0; *end && i < ARRAY_SIZE(units); i++) {
        if (strcasecmp(end, units[i].name) == 0)
            factor = units[i].factor;
    }
    return factor == 0 || __builtin_mul_overflow((uint64_t)n, factor, bytes) ? -1 : 0;
}

int domain_parse_uuid(const char *text, uint8_t uuid[16])
{
    unsigned digits = 0;
    uint8_t parsed[16] = {0};
    for (const char *p = text; *p; p++) {
        if (*p == '-')
            continue;
        if (!isxdigit((unsigned char)*p) || digits == 32)
            return -1;
        unsigned digit = isdigit((unsigned char)*p) ? (unsigned)(*p - '0') : (unsigned)(tolower((unsigned char)*p) - 'a' + 10);
        parsed[digits / 2] |= (uint8_t)(digits % 2 ? digit : digit << 4);
        digits++;
    }
    if (digits != 32)
        return -1;
    memcpy(uuid, parsed, 16);
    return 0;
}

void domain_format_uuid(const uint8_t uuid[16], char text[37])
{
    for (unsigned i = 0; i < 16; i++) {
        text += sprintf(text, "%02x", uuid[i]);
        if (i == 3 || i == 5 || i == 7 || i == 9)
            *text++ = '-';
    }
    *text = 0;
}
