// SPDX-License-Identifier: GPL-2.0-or-later
/* The options of `lodge run` that describe devices: lists of words and of NAME=VALUE, separated by commas. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "cli/root.h"
#include "cli/run.h"
#include "model/reconnect.h"

int run_set_text(char **to, const char *text, struct error *err)
{
    free(*to);
    *to = strdup(text);
    return *to ? 0 : error_set(err, ENOMEM, "command line: out of memory");
}

int run_set_path(char **to, const char *path, struct error *err)
{
    char cwd[PATH_MAX];
    if (!path[0])
        return error_set(err, 0, "command line: an empty file name; give the path of a file");
    if (path[0] == '/' || !getcwd(cwd, sizeof cwd))
        return run_set_text(to, path, err);
    free(*to);
    if (asprintf(to, "%s/%s", cwd, path) < 0)
        *to = NULL;
    return *to ? 0 : error_set(err, ENOMEM, "command line: out of memory");
}

int run_set_pci(const char *option, struct domain_pci_address *a, const char *value, struct error *err)
{
    unsigned bus, slot, function = 0;
    int used = 0;
    if (sscanf(value, "%2x:%2x.%1x%n", &bus, &slot, &function, &used) != 3 && sscanf(value, "%2x:%2x%n", &bus, &slot, &used) != 2)
        used = 0;
    if (!used || value[used] || slot > PCI_LAST_SLOT || function > PCI_LAST_FUNCTION)
        return error_set(err, 0, "option '--%s': '%s' is not a place on PCI; write BUS:SLOT, such as 1:0", option, value);
    *a = (struct domain_pci_address){.set = true, .bus = (uint8_t)bus, .slot = (uint8_t)slot, .function = (uint8_t)function};
    return 0;
}

/* ---- lists ---- */

bool run_next_field(const char **list, char *field)
{
    const char *p = *list;
    size_t len = 0;
    if (!*p)
        return false;
    while (*p && (*p != ',' || p[1] == ',')) {
        p += *p == ',';
        field[len++] = *p++;
    }
    field[len] = 0;
    *list = p + (*p == ',');
    return true;
}

int run_set_fields(const char *option, const char *list, const struct field_row *rows, const char *usage, void *object, struct error *err)
{
    AUTO_FREE char *field = malloc(strlen(list) + 1);
    if (!field)
        return error_set(err, ENOMEM, "option '--%s': out of memory", option);
    while (run_next_field(&list, field)) {
        char *value = strchr(field, '=');
        if (value)
            *value++ = 0;
        const struct field_row *row = rows;
        while (row->name && (strcmp(row->name, field) != 0 || row->has_value != (value != NULL)))
            row++;
        if (!row->name)
            return error_set(err, 0, "option '--%s': '%s%s%s' is not understood; write %s", option, field, value ? "=" : "", value ? value : "", usage);
        if (row->set(object, value, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- disks ---- */

int run_set_disk_name(struct domain_disk *disk, const char *name, struct error *err)
{
    bool url = netdisk_is_url(name);
    disk->type = url ? DISK_NETWORK : DISK_FILE;
    return url ? run_set_text(&disk->file, name, err) : run_set_path(&disk->file, name, err);
}

static int disk_file(void *object, const char *value, struct error *err)
{
    return run_set_disk_name(object, value, err);
}

static int disk_type(void *object, const char *value, struct error *err)
{
    bool vhostuser = strcmp(value, "vhost-user") == 0;
    if (!vhostuser && strcmp(value, "file") != 0)
        return error_set(err, 0, "option '--disk': there is no type '%s'; give file or vhost-user", value);
    if (vhostuser)
        ((struct domain_disk *)object)->type = DISK_VHOSTUSER;
    return 0;
}

static int disk_socket(void *object, const char *value, struct error *err)
{
    return run_set_path(&((struct domain_disk *)object)->socket, value, err);
}

int run_set_reconnect(const char *option, const char *value, unsigned *seconds, struct error *err)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || n < 1 || n > RECONNECT_MAX)
        return error_set(err, 0, "option '--%s': reconnect '%s' is not a time; give 1 to %u seconds", option, value, RECONNECT_MAX);
    *seconds = (unsigned)n;
    return 0;
}

static int disk_reconnect(void *object, const char *value, struct error *err)
{
    return run_set_reconnect("disk", value, &((struct domain_disk *)object)->reconnect, err);
}

OPTION_SETS(disk_readonly, struct domain_disk, readonly, true)
OPTION_SETS(disk_cdrom, struct domain_disk, cdrom, true)

static int disk_format(void *object, const char *value, struct error *err)
{
    unsigned f = 0;
    while (f < DISK_FORMATS && strcmp(value, disk_format_names[f]) != 0)
        f++;
    if (f == DISK_FORMATS)
        return error_set(err, 0, "option '--disk': format '%s' is not supported; lodge-run(1) has those that are, and 'lodge image convert' makes raw or qcow2 of others", value);
    ((struct domain_disk *)object)->format = (enum disk_format)f;
    return 0;
}

static int disk_bus(void *object, const char *value, struct error *err)
{
    unsigned b = 0;
    while (b < DISK_BUSES && strcmp(value, disk_bus_names[b]) != 0)
        b++;
    if (b == DISK_BUSES)
        return error_set(err, 0, "option '--disk': there is no bus '%s'; give virtio, scsi or sata", value);
    ((struct domain_disk *)object)->bus = (enum disk_bus)b;
    return 0;
}

static int disk_boot_order(void *object, const char *value, struct error *err)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || n < 1 || n > DISK_MAX_BOOT)
        return error_set(err, 0, "bootindex '%s': not a place in the boot order; give 1 to %u", value, DISK_MAX_BOOT);
    ((struct domain_disk *)object)->boot_order = (unsigned)n;
    return 0;
}

/* What the file's name says of its format; its contents are never asked, because a guest may have written them. */
static bool format_by_name(struct domain_disk *disk)
{
    static const struct {
        const char *suffix;
        enum disk_format format;
    } names[] = {{".qcow2", DISK_QCOW2}, {".raw", DISK_RAW}, {".iso", DISK_RAW}, {".vmdk", DISK_VMDK}, {".vdi", DISK_VDI}, {".vhdx", DISK_VHDX}};
    size_t len = strlen(disk->file);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        size_t n = strlen(names[i].suffix);
        if (len > n && strcmp(disk->file + len - n, names[i].suffix) == 0) {
            disk->format = names[i].format;
            return true;
        }
    }
    return false;
}

static int pick(const char *option, const char *what, const char *value, const char *const names[], struct error *err)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(value, names[i]) == 0)
            return i;
    return error_set(err, 0, "option '--%s': %s '%s' is not known; see lodge-run(1)", option, what, value);
}

static int disk_cache(void *object, const char *value, struct error *err)
{
    int i = pick("disk", "cache", value, disk_cache_names, err);
    ((struct domain_disk *)object)->cache = disk_cache_of(MAX(i, 0));
    return i < 0 ? -1 : 0;
}

static const char *const error_words[] = {"report", "stop", "enospc", NULL}; /* enum disk_on_error, in QEMU's words */

/* A setter for a field of a disk that is one of some words. */
#define DISK_PICKS(fn, field, what, words)                                                    \
    static int fn(void *object, const char *value, struct error *err)                         \
    {                                                                                         \
        struct domain_disk *disk = object;                                                    \
        int i = pick("disk", what, value, words, err);                                        \
        disk->field = (typeof(disk->field))MAX(i, 0);                                         \
        return i < 0 ? -1 : 0;                                                                \
    }
DISK_PICKS(disk_io, io, "io", disk_io_names)
DISK_PICKS(disk_discard, discard, "discard", disk_discard_names)
DISK_PICKS(disk_zeroes, zeroes, "detect-zeroes", disk_zeroes_names)
DISK_PICKS(disk_write_errors, write_errors, "werror", error_words)
DISK_PICKS(disk_read_errors, read_errors, "rerror", error_words)

static int disk_serial(void *object, const char *value, struct error *err)
{
    return run_set_text(&((struct domain_disk *)object)->serial, value, err);
}

static int disk_secret(void *object, const char *value, struct error *err)
{
    return run_set_path(&((struct domain_disk *)object)->secret_file, value, err);
}

OPTION_SETS(disk_snapshot, struct domain_disk, snapshot, true)

static int disk_queues(void *object, const char *value, struct error *err)
{
    if (value[0] < '1' || value[0] > '8' || value[1])
        return error_set(err, 0, "option '--disk': queues '%s'; give 1 to 8", value);
    ((struct domain_disk *)object)->queues = (unsigned)(value[0] - '0');
    return 0;
}

static int disk_amount(const char *what, const char *value, uint64_t *out, struct error *err)
{
    return domain_parse_size(value, 1, out) < 0 ? error_set(err, 0, "option '--disk': %s '%s' is not a number; write such as 500 or 20M", what, value) : 0;
}

static int disk_bps(void *object, const char *value, struct error *err)
{
    return disk_amount("bps", value, &((struct domain_disk *)object)->bytes.rate[0], err);
}

static int disk_bps_max(void *object, const char *value, struct error *err)
{
    return disk_amount("bps-max", value, &((struct domain_disk *)object)->bytes.burst[0], err);
}

static int disk_iops(void *object, const char *value, struct error *err)
{
    return disk_amount("iops", value, &((struct domain_disk *)object)->ops.rate[0], err);
}

static int disk_iops_max(void *object, const char *value, struct error *err)
{
    return disk_amount("iops-max", value, &((struct domain_disk *)object)->ops.burst[0], err);
}

static int disk_pci(void *object, const char *value, struct error *err)
{
    return run_set_pci("disk", &((struct domain_disk *)object)->address, value, err);
}

static const struct field_row disk_fields[] = {
    {"cache", true, disk_cache},
    {"io", true, disk_io},
    {"discard", true, disk_discard},
    {"detect-zeroes", true, disk_zeroes},
    {"werror", true, disk_write_errors},
    {"rerror", true, disk_read_errors},
    {"serial", true, disk_serial},
    {"secret-file", true, disk_secret},
    {"snapshot", false, disk_snapshot},
    {"queues", true, disk_queues},
    {"bps", true, disk_bps},
    {"bps-max", true, disk_bps_max},
    {"iops", true, disk_iops},
    {"iops-max", true, disk_iops_max},
    {"file", true, disk_file},
    {"type", true, disk_type},
    {"path", true, disk_socket},
    {"reconnect", true, disk_reconnect},
    {"format", true, disk_format},
    {"bus", true, disk_bus},
    {"bootindex", true, disk_boot_order},
    {"pci", true, disk_pci},
    {"cdrom", false, disk_cdrom},
    {"readonly", false, disk_readonly},
    {NULL, false, NULL},
};

/* A first word that is no field is the path. */
int run_set_disk(void *o, const char *value, struct error *err)
{
    static const char usage[] = "[file=]PATH|URL[,format=raw|qcow2][,bus=virtio|scsi|sata][,bootindex=N][,readonly], or type=vhost-user,path=SOCKET";
    struct domain_disk *disk = domain_add_disk(&((struct run *)o)->d, err);
    AUTO_FREE char *first = malloc(strlen(value) + 1);
    if (!disk || !first)
        return error_set(err, ENOMEM, "option '--disk': out of memory");
    disk->format = DISK_FORMATS;
    const char *rest = value;
    if (run_next_field(&rest, first) && (netdisk_is_url(first) || !strchr(first, '=')) && strcmp(first, "readonly") != 0) {
        if (run_set_disk_name(disk, first, err) < 0)
            return -1;
        value = rest;
    }
    if (run_set_fields("disk", value, disk_fields, usage, disk, err) < 0)
        return -1;
    bool vhostuser = disk->type == DISK_VHOSTUSER;
    if (vhostuser && disk->format == DISK_FORMATS)
        disk->format = DISK_RAW;
    if (!vhostuser && (disk->socket || disk->reconnect))
        return error_set(err, 0, "option '--disk': path and reconnect are a vhost-user back end's; add type=vhost-user, or write file=PATH");
    if (!disk->file && !vhostuser)
        return error_set(err, 0, "option '--disk': names no file; write %s", usage);
    if (disk->format == DISK_FORMATS && !format_by_name(disk))
        return error_set(err, 0, "disk '%s': no format, and it is never guessed; add format=raw or format=qcow2", disk->file);
    return 0;
}

/* ---- persistent memory ---- */

/* Its size is the file's. */
int run_set_pmem(void *o, const char *value, struct error *err)
{
    struct domain_pmem *m = domain_add_pmem(&((struct run *)o)->d, err);
    struct stat st;
    if (!m || run_set_path(&m->path, value, err) < 0)
        return -1;
    if (stat(m->path, &st) < 0)
        return error_set(err, errno, "persistent memory '%s': %s; make the file, such as by truncate -s 1G", m->path, strerror(errno));
    m->size = (uint64_t)st.st_size;
    return 0;
}

/* ---- channels ---- */

static int channel_path(void *object, const char *value, struct error *err)
{
    return run_set_path(&((struct domain_channel *)object)->path, value, err);
}

static const struct field_row channel_fields[] = {
    {"path", true, channel_path},
    {NULL, false, NULL},
};

int run_set_channel(void *o, const char *value, struct error *err)
{
    struct domain_channel *c = domain_add_channel(&((struct run *)o)->d, err);
    AUTO_FREE char *name = malloc(strlen(value) + 1);
    if (!c || !name)
        return error_set(err, ENOMEM, "option '--channel': out of memory");
    name[0] = 0;
    run_next_field(&value, name);
    if (run_set_text(&c->name, name, err) < 0)
        return -1;
    if (run_set_fields("channel", value, channel_fields, "NAME,path=PATH", c, err) < 0)
        return -1;
    return c->path ? 0 : error_set(err, 0, "channel '%s': no socket; write %s,path=PATH", c->name, c->name);
}

/* ---- vsock ---- */

static int vsock_cid(void *object, const char *value, struct error *err)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || n < 3 || n >= UINT32_MAX)
        return error_set(err, 0, "option '--vsock': cid '%s'; give 3 or more", value);
    ((struct domain *)object)->vsock.cid = (uint32_t)n;
    return 0;
}

static const struct field_row vsock_fields[] = {
    {"cid", true, vsock_cid},
    {NULL, false, NULL},
};

int run_set_vsock(void *o, const char *value, struct error *err)
{
    struct domain *d = &((struct run *)o)->d;
    AUTO_FREE char *path = malloc(strlen(value) + 1);
    if (!path)
        return error_set(err, ENOMEM, "option '--vsock': out of memory");
    path[0] = 0;
    run_next_field(&value, path);
    if (run_set_path(&d->vsock.path, path, err) < 0)
        return -1;
    return run_set_fields("vsock", value, vsock_fields, "PATH[,cid=N]", d, err);
}

/* ---- folders ---- */

OPTION_SETS(share_virtiofs, struct domain_share, virtiofs, true)
OPTION_SETS(share_readonly, struct domain_share, readonly, true)

static int share_access(void *object, const char *value, struct error *err)
{
    for (unsigned i = 0; domain_share_access_names[i]; i++) {
        if (strcmp(value, domain_share_access_names[i]) == 0) {
            ((struct domain_share *)object)->access = (enum domain_share_access)i;
            return 0;
        }
    }
    return error_set(err, 0, "access '%s': no way of access to a folder; give passthrough, squash or mapped", value);
}

#define FOLDER_FIELDS {"readonly", false, share_readonly}, {"access", true, share_access}

static const struct field_row root_fields[] = {FOLDER_FIELDS, {NULL, false, NULL}};
static const struct field_row share_fields[] = {FOLDER_FIELDS, {"vhost-user", false, share_virtiofs}, {NULL, false, NULL}};

/* The last colon before the fields ends the folder. */
int run_set_share(void *o, const char *value, struct error *err)
{
    static const char usage[] = "DIR:TAG[,readonly][,access=passthrough|squash|mapped], or SOCKET:TAG,vhost-user";
    struct domain_share *share = domain_add_share(&((struct run *)o)->d, err);
    AUTO_FREE char *folder = malloc(strlen(value) + 1);
    if (!share || !folder)
        return error_set(err, ENOMEM, "option '--share': out of memory");
    folder[0] = 0;
    run_next_field(&value, folder);
    char *colon = strrchr(folder, ':');
    if (!colon || colon == folder || !colon[1])
        return error_set(err, 0, "option '--share': '%s' is not a folder and a tag; write %s", folder, usage);
    *colon = 0;
    share->access = DOMAIN_SHARE_SQUASH;
    if (run_set_text(&share->tag, colon + 1, err) < 0 || run_set_path(&share->path, folder, err) < 0)
        return -1;
    if (run_set_fields("share", value, share_fields, usage, share, err) < 0)
        return -1;
    if (!share->virtiofs)
        return 0;
    share->socket = steal_ptr(&share->path);
    share->access = share->access == DOMAIN_SHARE_SQUASH ? DOMAIN_SHARE_PASSTHROUGH : share->access; /* the default is a folder's */
    return 0;
}

/* Of a root file system the guest keeps owners and modes, whoever runs Lodge. */
int run_set_root(void *o, const char *value, struct error *err)
{
    struct run *r = o;
    struct domain_share *share = r->root ? NULL : domain_add_share(&r->d, err);
    AUTO_FREE char *folder = malloc(strlen(value) + 1);
    if (r->root)
        return error_set(err, 0, "option '--root': given twice; name one folder");
    if (!share || !folder)
        return error_set(err, ENOMEM, "option '--root': out of memory");
    folder[0] = 0;
    run_next_field(&value, folder);
    r->root = true;
    share->access = DOMAIN_SHARE_MAPPED;
    if (run_set_text(&share->tag, ROOT_TAG, err) < 0 || run_set_path(&share->path, folder, err) < 0)
        return -1;
    return run_set_fields("root", value, root_fields, "DIR[,readonly][,access=passthrough|squash|mapped]", share, err);
}
