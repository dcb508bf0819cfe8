// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge create: a guest from an image in one line. Its options make a struct domain, as those of `lodge run` do, which the daemon
 * defines and starts. When a step fails, the steps before it are undone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/util.h"
#include "cli/create.h"
#include "cli/manage.h"
#include "cli/run.h"
#include "cli/seed.h"
#include "model/xml.h"

#define CREATE_MEMORY (1 * GIB)
#define SEED_PREFIX   "lodge-seed-"

struct create {
    struct run r; /* first: the setters of `lodge run` take it */
    bool console, autostart, no_start, print_xml, help;
    char *seed; /* the file that was made, until the guest is there */
};

/* ---- options ---- */

static int set_import(void *o, const char *value, struct error *err)
{
    return run_set_disk(o, value, err) < 0 ? error_prefix(err, "option '--import': ") : 0;
}

static int set_vcpus(void *o, const char *value, struct error *err)
{
    ERROR_SCOPED(own);
    return run_set_cpus(o, value, &own) < 0
               ? error_set(err, 0, "option '--vcpus': '%s' is not a number of CPUs; give 1 to %u", value, DOMAIN_MAX_VCPUS)
               : 0;
}

/* virt-install's bridge=NAME is a tap device on it. */
static int set_network(void *o, const char *value, struct error *err)
{
    AUTO_FREE char *tap = NULL;
    if (strncmp(value, "bridge=", 7) != 0)
        return run_set_net(o, value, err);
    return asprintf(&tap, "tap,%s", value) < 0 ? error_set(err, ENOMEM, "command line: out of memory") : run_set_net(o, tap, err);
}

static int set_title(void *o, const char *value, struct error *err)
{
    return run_set_text(&((struct create *)o)->r.d.title, value, err);
}

OPTION_SETS(set_console, struct create, console, true)
OPTION_SETS(set_autostart, struct create, autostart, true)
OPTION_SETS(set_no_start, struct create, no_start, true)
OPTION_SETS(set_print_xml, struct create, print_xml, true)
OPTION_SETS(set_help, struct create, help, true)

static const struct option_row rows[] = {
    {"import", "DISK[,format=FORMAT][,...]", "the image to start from; it is used, not copied", set_import},
    {"cloud-init", "FILE", "user-data for cloud-init, on a disk of its own", run_set_cloud_init},
    {"memory", "SIZE[,current=SIZE]", "guest memory (1G)", run_set_memory},
    {"vcpus", "N", "virtual CPUs (1)", set_vcpus},
    {"network", "user|bridge=NAME|tap|none", "a network (user); may be given several times", set_network},
    {"disk", "PATH[,format=FORMAT][,...]", "one more disk; may be given several times", run_set_disk},
    {"cdrom", "FILE", "a disc in a CD-ROM drive", run_set_cdrom},
    {"share", "DIR:TAG[,readonly]", "a folder that the guest mounts", run_set_share},
    {"kernel", "FILE", "a kernel, in place of the firmware", run_set_kernel},
    {"initrd", "FILE", "its initial RAM disk", run_set_initrd},
    {"append", "TEXT", "its command line", run_set_append},
    {"firmware", "bios|uefi|FILE", "OVMF, or another firmware than SeaBIOS", run_set_firmware},
    {"nvram", "FILE", "where a UEFI firmware keeps its variables; made when it does not exist", run_set_nvram},
    {"accel", "auto|kvm|softkvm", "who runs the guest's CPUs (auto)", run_set_accel},
    {"title", "TEXT", "a title for lists", set_title},
    {"autostart", NULL, "start it with the daemon", set_autostart},
    {"console", NULL, "talk to its console", set_console},
    {"no-start", NULL, "define it only", set_no_start},
    {"print-xml", NULL, "print the domain XML, and end; no daemon is asked", set_print_xml},
    {"help", NULL, "show this", set_help},
    {NULL, NULL, NULL, NULL},
};

void create_options(void)
{
    for (const struct option_row *r = rows; r->name; r++)
        if (strcmp(r->name, "help") != 0)
            options_help((const struct option_row[]){*r, {NULL, NULL, NULL, NULL}});
}

const struct option_row *create_option_rows(void)
{
    return rows;
}

/* ---- the domain ---- */

static int check_name(const char *name, struct error *err)
{
    for (const char *p = name; *p; p++)
        if (*p == '/' || (unsigned char)*p < 0x20)
            return error_set(err, 0, "domain '%s': a name has no '/' and no control characters; choose another", name);
    return *name ? 0 : error_set(err, 0, "lodge create: the name is empty; write lodge create NAME --import DISK");
}

/* A file on a host where this process may look: the daemon's error would name lodge-vm's log. */
static int check_files(const struct domain *d, struct error *err)
{
    for (unsigned i = 0; i < d->ndisks; i++)
        if (d->disks[i].file && d->disks[i].type != DISK_NETWORK && access(d->disks[i].file, F_OK) < 0 && errno == ENOENT)
            return error_set(err, ENOENT,
                             "disk '%s': there is no such file; name one that exists, or make it with 'lodge image create'",
                             d->disks[i].file);
    return 0;
}

static int complete(struct create *n, struct error *err)
{
    struct domain *d = &n->r.d;
    if (!d->ndisks && !d->os.kernel)
        return error_set(err, 0, "domain '%s': nothing to start it from; add --import DISK, --cdrom FILE or --kernel FILE",
                         d->name);
    if (d->os.kernel && n->r.firmware)
        return error_set(err, 0, "domain '%s': both --kernel and --firmware; leave out one of them", d->name);
    run_take_nvram(&n->r);
    if (d->accel == DOMAIN_ACCEL_AUTO)
        d->accel = DOMAIN_ACCEL_KVM; /* the daemon takes softkvm where KVM is not there */
    d->os.bios_serial = !d->os.kernel;
    struct domain_char *c = domain_add_char(d, err);
    if (!c)
        return -1;
    c->kind = DOMAIN_CHAR_SERIAL;
    c->backend = DOMAIN_CHAR_PTY;
    d->rng = d->pvpanic = d->balloon.present = true;
    return !n->r.no_net && !domain_add_iface(d, err) ? -1 : 0;
}

/* ---- the seed ---- */

/* The folder of the default pool, in `kept`: it is where the daemon and, on the same host, this process have files. NULL with err.
 */
static const char *pool_folder(struct session *s, struct arena *kept, struct error *err)
{
    ARENA_SCOPED(pool_kept);
    struct remote_storage_pool_get_xml_desc_args args = {0};
    struct remote_storage_pool_get_xml_desc_ret ret;
    if (session_pool(s, MANAGE_POOL, &args.pool, &pool_kept, err) < 0 ||
        client_storage_pool_get_xml_desc(s->c, &args, &ret, err) < 0)
        return NULL;
    const char *path = manage_xml_text(ret.xml, (const char *const[]){"target", "path", NULL}, NULL, kept);
    if (!path)
        error_set(err, 0, "pool '%s': has no folder; put the seed on a disk of your own, and give it with --cdrom", MANAGE_POOL);
    return path;
}

/* Under another name first, so that no guest reads half of it. */
static int write_seed(int seed, const char *path, struct error *err)
{
    struct stat st;
    AUTO_FREE char *tmp = NULL;
    if (fstat(seed, &st) < 0 || asprintf(&tmp, "%s.new", path) < 0)
        return error_set(err, ENOMEM, "seed '%s': out of memory", path);
    AUTO_CLOSE int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    off_t at = 0;
    if (fd >= 0 && sendfile(fd, seed, &at, (size_t)st.st_size) == st.st_size && rename(tmp, path) == 0)
        return 0;
    error_set(err, errno,
              "seed '%s': cannot write: %s; the daemon's host and user must be yours: otherwise make the seed there, and give it "
              "with --cdrom",
              path, strerror(errno));
    if (fd >= 0)
        unlink(tmp);
    return -1;
}

static int add_seed(struct session *s, struct create *n, struct error *err)
{
    ARENA_SCOPED(kept);
    AUTO_CLOSE int fd = seed_make(n->r.cloud_init, n->r.d.name, err);
    const char *folder = fd >= 0 ? pool_folder(s, &kept, err) : NULL;
    struct domain_disk *disk = folder ? domain_add_disk(&n->r.d, err) : NULL;
    AUTO_FREE char *path = NULL;
    if (!disk)
        return -1;
    if (asprintf(&path, "%s/" SEED_PREFIX "%s.iso", folder, n->r.d.name) < 0)
        return error_set(err, ENOMEM, "seed: out of memory");
    disk->readonly = true;
    disk->format = DISK_RAW;
    if (run_set_text(&disk->file, path, err) < 0 || write_seed(fd, path, err) < 0)
        return -1;
    n->seed = steal_ptr(&path);
    return 0;
}

/* ---- the daemon ---- */

static int refuse_existing(struct session *s, const char *name, struct error *err)
{
    const struct remote_domain_lookup_by_name_args args = {.name = (char *)name};
    struct remote_domain_lookup_by_name_ret ret;
    ERROR_SCOPED(own);
    if (client_domain_lookup_by_name(s->c, &args, &ret, &own) == 0)
        return error_set(err, 0, "domain '%s': exists at %s already; choose another name, or 'lodge undefine %s' first", name,
                         session_uri(s), name);
    return own.errnum == VIR_ERR_NO_DOMAIN ? 0 : error_copy(err, &own);
}

static char *domain_text(const struct domain *d, struct error *err)
{
    char *xml = NULL;
    size_t len;
    FILE *f = open_memstream(&xml, &len);
    if (f && domain_write(d, f) == 0 && fclose(f) == 0)
        return xml;
    error_set(err, errno, "domain XML: cannot write it: %s; free some memory", strerror(errno));
    return NULL;
}

static int define_and_start(struct session *s, struct create *n, struct remote_nonnull_domain *dom, struct arena *kept,
                            struct error *err)
{
    AUTO_FREE char *xml = domain_text(&n->r.d, err);
    if (!xml || manage_define_text(s, xml, kept, dom, err) < 0)
        return -1;
    const struct remote_domain_set_autostart_args autostart = {.dom = *dom, .autostart = 1};
    const struct remote_domain_create_args start = {.dom = *dom};
    const struct remote_domain_undefine_flags_args undefine = {.dom = *dom, .flags = VIR_DOMAIN_UNDEFINE_KEEP_NVRAM};
    if ((!n->autostart || client_domain_set_autostart(s->c, &autostart, err) == 0) &&
        (n->no_start || client_domain_create(s->c, &start, err) == 0))
        return 0;
    client_domain_undefine_flags(s->c, &undefine, NULL);
    return -1;
}

static int create(struct session *s, struct create *n, struct error *err)
{
    struct remote_nonnull_domain dom;
    ARENA_SCOPED(kept);
    struct domain *d = &n->r.d;
    if (session_open(s, err) < 0 || refuse_existing(s, d->name, err) < 0)
        return -1;
    if (session_is_local(s) && check_files(d, err) < 0)
        return -1;
    if (n->r.cloud_init && !session_is_local(s))
        return error_set(err, 0, "option '--cloud-init': %s is on another host; make the seed there, and give it with --cdrom",
                         session_uri(s));
    if (n->r.cloud_init && add_seed(s, n, err) < 0)
        return -1;
    if (domain_check(d, err) < 0 || define_and_start(s, n, &dom, &kept, err) < 0)
        return -1;
    free(steal_ptr(&n->seed)); /* it is the guest's */
    if (s->json)
        return session_show(s, json_pack("{so sb}", "name", sheet_text(d->name), "started", !n->no_start), NULL, err);
    session_say(s, "domain '%s': %s", d->name, n->no_start ? "defined" : "defined and started");
    return n->console && !n->no_start ? manage_console_of(s, &dom, err) : 0;
}

static int run_parsed(struct session *s, struct create *n, struct error *err)
{
    if (check_name(n->r.d.name, err) < 0 || complete(n, err) < 0)
        return -1;
    if (!n->print_xml)
        return create(s, n, err);
    if (n->r.cloud_init)
        return error_set(err, 0, "option '--print-xml': the seed's place is the daemon's to say; leave out --cloud-init");
    if (domain_check(&n->r.d, err) < 0)
        return -1;
    return domain_write(&n->r.d, stdout) < 0
               ? error_set(err, errno, "domain XML: cannot write it: %s; free some space", strerror(errno))
               : 0;
}

int manage_create(struct session *s, int argc, char **argv, struct error *err)
{
    struct create n = {0};
    int result;
    bool named = argc > 1 && argv[1][0] != '-';
    domain_init(&n.r.d);
    n.r.d.memory = CREATE_MEMORY;
    result = named ? run_set_text(&n.r.d.name, argv[1], err) : 0;
    if (result == 0)
        result = options_parse(rows, "create", argc - 1 - named, argv + 1 + named, &n, err);
    if (result == 0 && n.help)
        manage_help(manage_find("create"));
    else if (result == 0 && !named)
        result = error_set(err, 0, "lodge create: names no guest; write lodge create NAME --import DISK");
    else if (result == 0)
        result = run_parsed(s, &n, err);
    if (n.seed)
        unlink(n.seed);
    free(n.seed);
    free(n.r.cloud_init);
    domain_free(&n.r.d);
    return result;
}
