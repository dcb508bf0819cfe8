// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge run: makes a struct domain of its options and becomes lodge-vm, which reads the domain as XML from a memfd. Without options
 * it runs the files that `make demo` made.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "cli/root.h"
#include "cli/run.h"
#include "cli/seed.h"
#include "cli/verbs.h"

/* ---- options ---- */

static int set_name(void *o, const char *value, struct error *err)
{
    return run_set_text(&((struct run *)o)->d.name, value, err);
}

int run_set_kernel(void *o, const char *value, struct error *err)
{
    return run_set_path(&((struct run *)o)->d.os.kernel, value, err);
}

/* With modules ("file arguments,file2"), only a list of one file is made absolute. */
int run_set_initrd(void *o, const char *value, struct error *err)
{
    struct run *r = o;
    return strpbrk(value, ", ") && access(value, F_OK) < 0 ? run_set_text(&r->d.os.initrd, value, err)
                                                           : run_set_path(&r->d.os.initrd, value, err);
}

int run_set_append(void *o, const char *value, struct error *err)
{
    return run_set_text(&((struct run *)o)->d.os.cmdline, value, err);
}

int run_set_cpus(void *o, const char *value, struct error *err)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || errno || n < 1 || n > DOMAIN_MAX_VCPUS)
        return error_set(err, 0, "option '--cpus': '%s' is not a number of CPUs; give 1 to %u", value, DOMAIN_MAX_VCPUS);
    ((struct run *)o)->d.vcpus = (unsigned)n;
    return 0;
}

int run_set_accel(void *o, const char *value, struct error *err)
{
    static const char *const names[] = {"auto", "kvm", "softkvm", NULL}; /* enum domain_accel */
    for (int i = 0; names[i]; i++) {
        if (strcmp(value, names[i]) == 0) {
            ((struct run *)o)->d.accel = (enum domain_accel)i;
            return 0;
        }
    }
    return error_set(err, 0, "option '--accel': '%s' is no accelerator; give auto, kvm or softkvm", value);
}

int run_set_cdrom(void *o, const char *value, struct error *err)
{
    struct domain_disk *disk = domain_add_disk(&((struct run *)o)->d, err);
    if (!disk)
        return -1;
    disk->cdrom = true;
    disk->bus = DISK_SATA;
    return run_set_disk_name(disk, value, err);
}

int run_set_cloud_init(void *o, const char *value, struct error *err)
{
    return run_set_path(&((struct run *)o)->cloud_init, value, err);
}

int run_set_firmware(void *o, const char *value, struct error *err)
{
    struct run *r = o;
    r->firmware = true;
    if (strcmp(value, "bios") == 0)
        return 0;
    if (strcmp(value, "uefi") != 0)
        return run_set_path(&r->d.os.loader, value, err);
    r->d.os.loader_flash = true;
    return run_set_text(&r->d.os.loader, LODGE_UEFI, err);
}

int run_set_nvram(void *o, const char *value, struct error *err)
{
    return run_set_path(&((struct run *)o)->d.os.nvram, value, err);
}

void run_take_nvram(struct run *r)
{
    r->d.os.loader_flash |= r->d.os.nvram && r->d.os.loader;
}

static int set_firmware_log(void *o, const char *value, struct error *err)
{
    struct domain_char *c = domain_add_char(&((struct run *)o)->d, err);
    if (!c)
        return -1;
    c->kind = DOMAIN_CHAR_DEBUGCON;
    c->iobase = DOMAIN_FIRMWARE_LOG;
    c->backend = DOMAIN_CHAR_FILE;
    return run_set_path(&c->path, value, err);
}

static int set_serial2(void *o, const char *value, struct error *err)
{
    struct domain_char *c = domain_add_char(&((struct run *)o)->d, err);
    if (!c)
        return -1;
    c->kind = DOMAIN_CHAR_SERIAL;
    c->port = 1;
    c->backend = DOMAIN_CHAR_FILE;
    return run_set_path(&c->path, value, err);
}

static int set_parallel(void *o, const char *value, struct error *err)
{
    if (strncmp(value, "file:", 5) != 0)
        return error_set(err, 0, "option '--parallel': '%s' is not understood; write file:PATH", value);
    struct domain_char *c = domain_add_char(&((struct run *)o)->d, err);
    if (!c)
        return -1;
    c->kind = DOMAIN_CHAR_PARALLEL;
    c->backend = DOMAIN_CHAR_FILE;
    return run_set_path(&c->path, value + 5, err);
}

OPTION_SETS(set_boot_menu, struct run, d.os.boot_menu, true)

static int set_console(void *o, const char *value, struct error *err)
{
    struct run *r = o;
    if (strcmp(value, "serial") != 0 && strcmp(value, "virtio") != 0)
        return error_set(err, 0, "option '--console': '%s' is no console; give serial or virtio", value);
    r->console = value[0] == 'v' ? DOMAIN_CHAR_VIRTIO : DOMAIN_CHAR_SERIAL;
    return 0;
}

static int set_genid(void *o, const char *value, struct error *err)
{
    return domain_parse_uuid(value, ((struct run *)o)->d.genid) < 0
               ? error_set(err, 0, "option '--genid': '%s' is not a UUID; write 32 hexadecimal digits", value)
               : 0;
}

OPTION_SETS(set_hpet, struct run, d.hpet, true)
OPTION_SETS(set_no_reboot, struct run, d.on_reboot, DOMAIN_DESTROY)
OPTION_SETS(set_debug_exit, struct run, d.debug_exit, DOMAIN_DEBUG_EXIT)

static int set_debugcon(void *o, const char *value, struct error *err)
{
    struct domain_char *c = domain_add_char(&((struct run *)o)->d, err);
    if (!c)
        return -1;
    c->kind = DOMAIN_CHAR_DEBUGCON;
    c->iobase = DOMAIN_DEBUGCON_PORT;
    c->backend = strcmp(value, "-") == 0 ? DOMAIN_CHAR_STDIO : DOMAIN_CHAR_FILE;
    return c->backend == DOMAIN_CHAR_FILE ? run_set_path(&c->path, value, err) : 0;
}

static int set_cpu_feature(void *o, const char *value, struct error *err)
{
    if (strcmp(value, "avx512") != 0)
        return error_set(err, 0, "option '--cpu-feature': '%s' is not known; give avx512", value);
    ((struct run *)o)->d.avx512 = true;
    return 0;
}

OPTION_SETS(set_snapshot, struct run, snapshot, true)
OPTION_SETS(set_stats, struct run, stats, true)
OPTION_SETS(set_print_xml, struct run, print_xml, true)
OPTION_SETS(set_help, struct run, help, true)

static const struct option_row rows[] = {
    {"kernel", "FILE", "bzImage, ELF with a PVH entry, or Multiboot kernel", run_set_kernel},
    {"initrd", "FILE", "initial RAM disk, or Multiboot modules \"FILE ARGS,FILE2\"", run_set_initrd},
    {"root", "DIR[,readonly]", "a folder of the host as the kernel's root file system", run_set_root},
    {"append", "TEXT", "the kernel's command line", run_set_append},
    {"cpus", "N", "virtual CPUs (1)", run_set_cpus},
    {"cpu-feature", "avx512", "a feature that guests do not get unless they ask", set_cpu_feature},
    {"memory", "SIZE[,…]", "guest memory, such as 512M or 2G (512M)", run_set_memory},
    {"numa", "cpus=SET,memory=SIZE[,…]", "a NUMA node of the guest's; may be given several times", run_set_numa},
    {"accel", "auto|kvm|softkvm", "who runs the guest's CPUs (auto)", run_set_accel},
    {"disk", "PATH[,format=raw|qcow2][,…]", "a disk, or type=vhost-user,path=SOCKET; may be given several times", run_set_disk},
    {"pmem", "FILE", "a file that is persistent memory, /dev/pmem0 and so on; may be given several times", run_set_pmem},
    {"snapshot", NULL, "no disk is written to: writes go to temporary overlays", set_snapshot},
    {"cdrom", "FILE", "a disc in a CD-ROM drive; may be given several times", run_set_cdrom},
    {"cloud-init", "FILE", "user-data for cloud-init, which the guest finds on a disk of its own", run_set_cloud_init},
    {"firmware", "bios|uefi|FILE", "boot by SeaBIOS, OVMF or another firmware (bios, when there is a disk and no kernel)", run_set_firmware},
    {"nvram", "FILE", "where a UEFI firmware keeps its variables; made when it does not exist", run_set_nvram},
    {"boot-menu", NULL, "offer the firmware's boot menu", set_boot_menu},
    {"firmware-log", "FILE", "what the firmware tells its developers goes to this file", set_firmware_log},
    {"channel", "NAME,path=PATH", "a port /dev/virtio-ports/NAME in the guest, this unix socket on the host", run_set_channel},
    {"vsock", "PATH[,cid=N]", "sockets between guest and host, at this unix socket", run_set_vsock},
    {"share", "DIR:TAG[,readonly]", "a folder that the guest mounts (mount -t 9p TAG /mnt), or SOCKET:TAG,vhost-user (virtiofs)", run_set_share},
    {"net", "user|tap|socket|vhost-user|none[,…]", "a network (user); may be given several times", run_set_net},
    {"console", "serial|virtio", "which console the terminal is (serial)", set_console},
    {"serial2", "FILE", "a second serial port, which writes to this file", set_serial2},
    {"parallel", "file:PATH", "a parallel port, which prints to this file", set_parallel},
    {"name", "NAME", "the guest's name (the kernel's file name)", set_name},
    {"genid", "UUID", "the VM generation ID (a new one at each start)", set_genid},
    {"hpet", NULL, "an HPET beside the other timers", set_hpet},
    {"no-reboot", NULL, "a reboot ends the guest, with status 3", set_no_reboot},
    {"debug-exit", NULL, "port 0xf4 ends the guest: status (value << 1) | 1", set_debug_exit},
    {"debugcon", "FILE|-", "port 0xe9 writes to this file, or to the terminal", set_debugcon},
    {"stats", NULL, "print what the engine has counted when the guest ends", set_stats},
    {"print-xml", NULL, "print the domain XML that would run, and end", set_print_xml},
    {"help", NULL, "show this", set_help},
    {NULL, NULL, NULL, NULL},
};

const struct option_row *run_option_rows(void)
{
    return rows;
}

/* ---- the demo ---- */

/* Where `make demo` puts its files: $LODGE_DEMO, else the user's data folder, else the system's. NULL when they are nowhere. */
static char *find_demo(void)
{
    const char *own = getenv("LODGE_DEMO"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    const struct {
        const char *base, *below;
    } places[] = {
        {own, ""}, {data, "/lodge/demo"}, {data && *data ? NULL : home, "/.local/share/lodge/demo"}, {"/var/lib", "/lodge/demo"}};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        AUTO_FREE char *dir = NULL, *kernel = NULL;
        if (!places[i].base || !*places[i].base)
            continue;
        if (asprintf(&dir, "%s%s", places[i].base, places[i].below) < 0 || asprintf(&kernel, "%s/vmlinuz", dir) < 0)
            return NULL;
        if (access(kernel, R_OK) == 0)
            return steal_ptr(&dir);
    }
    return NULL;
}

static int use_demo(struct run *r, struct error *err)
{
    AUTO_FREE char *dir = find_demo();
    if (!dir)
        return error_set(
            err, 0, "lodge run: no kernel is named, and the demo's files are not there; give --kernel FILE, or run 'make demo'");
    if (asprintf(&r->d.os.kernel, "%s/vmlinuz", dir) < 0 || asprintf(&r->d.os.initrd, "%s/initrd.gz", dir) < 0)
        return error_set(err, ENOMEM, "command line: out of memory");
    return r->d.os.cmdline ? 0 : run_set_text(&r->d.os.cmdline, "console=ttyS0 quiet", err);
}

/* ---- becoming lodge-vm ---- */

/* lodge-vm lies beside this program, in the build tree's folder, in libexec of the tree that this program is installed in, wherever
 * that was moved, or in libexecdir. */
static int exec_vm(int domain_fd, bool stats, struct error *err)
{
    char self[PATH_MAX], path[PATH_MAX + 32], fd_text[16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? (self[n] = 0, strrchr(self, '/')) : NULL;
    if (slash)
        *slash = 0;
    snprintf(fd_text, sizeof fd_text, "%d", domain_fd);
    static const char *const places[] = {"/lodge-vm", "/../control/lodge-vm", "/../libexec/lodge-vm", LODGE_LIBEXECDIR "/lodge-vm"};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        bool beside = i + 1 < ARRAY_SIZE(places);
        if (beside && !slash)
            continue;
        snprintf(path, sizeof path, "%s%s", beside ? self : "", places[i]);
        char *argv[] = {"lodge-vm", "--domain-fd", fd_text, NULL},
             *with_stats[] = {"lodge-vm", "--stats", "--domain-fd", fd_text, NULL};
        execv(path, stats ? with_stats : argv);
        if (errno != ENOENT)
            return error_set(err, errno, "'%s': cannot start: %s; install Lodge again", path, strerror(errno));
    }
    return error_set(err, 0, "lodge-vm: neither beside lodge nor in " LODGE_LIBEXECDIR "; install Lodge again");
}

static int write_memfd(const struct domain *d, struct error *err)
{
    int fd = memfd_create("lodge-domain", 0);
    int copy = fd >= 0 ? dup(fd) : -1;
    FILE *f = copy >= 0 ? fdopen(copy, "w") : NULL;
    if (!f || domain_write(d, f) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
        error_set(err, errno, "domain XML: cannot write it: %s; free some memory", strerror(errno));
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    if (f)
        fclose(f);
    else if (copy >= 0)
        close(copy);
    return fd;
}

/* The seed lives in memory; lodge-vm, which this process becomes, opens it by its descriptor. */
static int add_seed(struct run *r, struct error *err)
{
    int fd = seed_make(r->cloud_init, r->d.name, err);
    struct domain_disk *disk = fd >= 0 ? domain_add_disk(&r->d, err) : NULL;
    if (!disk)
        return -1;
    disk->readonly = true;
    return asprintf(&disk->file, "/proc/self/fd/%d", fd) < 0 ? error_set(err, ENOMEM, "command line: out of memory") : 0;
}

/* As the seed's, the initramfs's descriptor goes to lodge-vm. */
static int add_root(struct run *r, struct error *err)
{
    struct domain *d = &r->d;
    if (!d->os.kernel || d->os.initrd)
        return error_set(err, 0, "option '--root': %s", d->os.kernel ? "lodge makes the initrd itself; leave out --initrd" : "needs a kernel; add --kernel FILE");
    const struct domain_share *share = d->shares;
    while (strcmp(share->tag, ROOT_TAG) != 0)
        share++;
    int fd = root_make_initramfs(share, d->os.kernel, err);
    if (fd < 0)
        return -1;
    if (asprintf(&d->os.initrd, "/proc/self/fd/%d", fd) < 0)
        return error_set(err, ENOMEM, "command line: out of memory");
    return d->os.cmdline ? 0 : run_set_text(&d->os.cmdline, "console=ttyS0 panic=-1", err);
}

/* What no option says: the name, the devices that every guest has. */
static int complete(struct run *r, struct error *err)
{
    struct domain *d = &r->d;
    if (r->firmware && d->os.kernel)
        return error_set(err, 0, "lodge run: both --kernel and --firmware; leave out one of them");
    run_take_nvram(r);
    if (r->firmware && !d->os.loader && run_set_text(&d->os.loader, LODGE_BIOS, err) < 0)
        return -1;
    if (!d->os.kernel && !r->firmware && !r->root && !d->ndisks && use_demo(r, err) < 0)
        return -1;
    if (!d->name) {
        const char *from = d->os.kernel ? d->os.kernel : d->ndisks && d->disks[0].file ? d->disks[0].file : "firmware";
        const char *slash = strrchr(from, '/');
        if (run_set_text(&d->name, slash ? slash + 1 : from, err) < 0)
            return -1;
    }
    if ((r->cloud_init && add_seed(r, err) < 0) || (r->root && add_root(r, err) < 0))
        return -1;
    for (unsigned i = 0; r->snapshot && i < d->ndisks; i++)
        d->disks[i].snapshot = !d->disks[i].readonly && !d->disks[i].cdrom;
    d->os.bios_serial = !d->os.kernel && r->console == DOMAIN_CHAR_SERIAL;
    struct domain_char *c = domain_add_char(d, err);
    if (!c)
        return -1;
    c->kind = r->console;
    c->backend = DOMAIN_CHAR_STDIO;
    d->rng = d->pvpanic = d->has_genid = d->balloon.present = true;
    if (!r->no_net && !domain_add_iface(d, err))
        return -1;
    return domain_check(d, err);
}

static void print_help(void)
{
    puts("usage: lodge run [OPTION]…\n\n"
         "Runs a guest in the foreground, on this terminal. Without --kernel and disks, it runs the demo that 'make demo' made.\n"
         "Ctrl-A x ends the guest, Ctrl-A h lists the other keys.\n");
    options_help(rows);
    puts("\nExit status: 0 the guest switched itself off, or Ctrl-A x; 1 an error; 3 reset with --no-reboot; 4 the guest's kernel\n"
         "crashed; 5 triple fault; 128+N ended by signal N. See lodge-run(1).");
}

int verb_run(int argc, char **argv, struct error *err)
{
    struct run r = {.console = DOMAIN_CHAR_SERIAL};
    int status = 1;
    domain_init(&r.d);
    if (options_parse(rows, "run", argc, argv, &r, err) == 0) {
        if (r.help) {
            print_help();
            status = 0;
        } else if (complete(&r, err) == 0) {
            int fd = r.print_xml ? -1 : write_memfd(&r.d, err);
            if (r.print_xml)
                status = domain_write(&r.d, stdout) < 0;
            else if (fd >= 0)
                exec_vm(fd, r.stats, err);
        }
    }
    free(r.cloud_init);
    domain_free(&r.d);
    return status;
}
