// SPDX-License-Identifier: GPL-2.0-or-later
/* Builds a machine from a domain, in the order in which its parts need each other, and takes it apart in the reverse order. */
#include "machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include "base/log.h"
#include "base/util.h"
#include "block/block.h"
#include "devices/legacy/debugcon.h"
#include "devices/legacy/debugexit.h"
#include "devices/legacy/fwcfg.h"
#include "devices/legacy/hpet.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/parallel.h"
#include "devices/legacy/rtc.h"
#include "devices/legacy/serial.h"
#include "devices/pci/pci.h"
#include "devices/virtio/vconsole.h"
#include "machine/acpi.h"
#include "machine/boot.h"
#include "machine/cpumodel.h"
#include "machine/emulated_devices.h"
#include "machine/firmware.h"
#include "machine/genid.h"
#include "machine/hotplug.h"
#include "machine/memmap.h"
#include "machine/numa.h"
#include "machine/nvram.h"
#include "machine/pci_places.h"
#include "machine/pm.h"
#include "machine/pmem.h"
#include "machine/pvpanic.h"
#include "machine/shadow.h"
#include "machine/smbios.h"
#include "machine/stats.h"
#include "machine/virtio_devices.h"
#include "machine/vmcpu.h"

/* A console's file, when it is not the terminal. */
struct char_file {
    int fd;
};

struct machine {
    struct domain *domain;
    struct terminal *terminal;
    struct charsock *sockets;
    struct board board;
    bool has_board;
    enum machine_reset reset;
    struct machine_watch watch;
    int disk_error_fd, disk_stop_fd, released_fd; /* eventfds */
    struct vmcpu *cpus;
    unsigned ncpus; /* that exist */

    struct pm *pm;
    struct pvpanic *pvpanic;
    struct genid *genid;
    struct rtc *rtc;
    struct hpet *hpet;
    struct i8042 *i8042;
    struct serial *serials[DOMAIN_SERIALS];
    struct debugcon *debugcons[DOMAIN_MAX_CHARS];
    struct parallel *parallel;
    struct debugexit *debugexit;
    struct pci_host *pci;
    struct pci_places *places;
    struct lpc *lpc;
    struct smbus *smbus;
    struct shadow *shadow; /* with a firmware */
    struct nvram *nvram;   /* with a firmware that keeps its variables */
    struct fwcfg *fwcfg;   /* with a firmware */
    struct boot_order order;
    struct acpi_numa numa;
    struct vconsole *vconsole;
    struct virtio_devices *virtio;
    struct pmem *pmem;
    struct emulated_devices *emulated;
    struct char_file files[DOMAIN_MAX_CHARS];
};

/* ---- consoles ---- */

static void file_write(void *opaque, const void *buf, size_t len)
{
    const struct char_file *f = opaque;
    for (const char *p = buf; len;) {
        ssize_t n = write(f->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* a full disk loses output; the guest goes on */
        p += n;
        len -= (size_t)n;
    }
}

static void null_write(void *opaque, const void *buf, size_t len)
{
    (void)opaque;
    (void)buf;
    (void)len;
}

static int make_chardev(struct machine *m, unsigned index, struct chardev *chr, struct error *err)
{
    const struct domain_char *c = &m->domain->chars[index];
    struct char_file *f = &m->files[index];
    *chr = (struct chardev){.write = null_write};
    switch (c->backend) {
    case DOMAIN_CHAR_NULL:
        return 0;
    case DOMAIN_CHAR_STDIO:
        *chr = terminal_chardev(m->terminal);
        return 0;
    case DOMAIN_CHAR_UNIX:
        *chr = charsock_chardev(m->sockets, index);
        return 0;
    case DOMAIN_CHAR_PTY:
        return error_set(err, 0, "console: type 'pty' is lodged's; use type 'unix' or 'stdio'");
    case DOMAIN_CHAR_FILE:
        break;
    }
    f->fd = open(c->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
    if (f->fd < 0)
        return error_set(err, errno, "console '%s': cannot open for writing: %s; give another file", c->path, strerror(errno));
    *chr = (struct chardev){.write = file_write, .opaque = f};
    return 0;
}

static int make_char(struct machine *m, unsigned index, struct error *err)
{
    const struct domain_char *c = &m->domain->chars[index];
    struct chardev chr;
    if (make_chardev(m, index, &chr, err) < 0)
        return -1;
    switch (c->kind) {
    case DOMAIN_CHAR_SERIAL:
        return serial_create(&m->board.bus,
                             c->port ? &(struct serial_config){SERIAL_COM2_PORT, SERIAL_COM2_GSI, chr}
                                     : &(struct serial_config){SERIAL_COM1_PORT, SERIAL_COM1_GSI, chr},
                             &m->serials[c->port], err);
    case DOMAIN_CHAR_DEBUGCON:
        return debugcon_create(&m->board.bus, c->iobase, &chr, &m->debugcons[index], err);
    case DOMAIN_CHAR_PARALLEL:
        return parallel_create(&m->board.bus, &(struct parallel_config){PARALLEL_LPT1_PORT, PARALLEL_LPT1_GSI, chr}, &m->parallel, err);
    case DOMAIN_CHAR_VIRTIO:
        return vconsole_create(m->pci, &(struct vconsole_config){PCI_SLOT_AUTO, chr}, &m->vconsole, err);
    case DOMAIN_CHAR_KINDS:
        break;
    }
    return 0;
}

static size_t console_input(void *opaque, const void *buf, size_t len)
{
    struct machine *m = opaque;
    for (unsigned i = 0; i < m->domain->nchars; i++) {
        const struct domain_char *c = &m->domain->chars[i];
        if (c->backend == DOMAIN_CHAR_STDIO && c->kind == DOMAIN_CHAR_SERIAL)
            return serial_input(m->serials[c->port], buf, len);
        if (c->backend == DOMAIN_CHAR_STDIO && c->kind == DOMAIN_CHAR_VIRTIO)
            return vconsole_input(m->vconsole, buf, len);
    }
    return len;
}

/* Input for one of the consoles; bytes taken. */
static size_t char_input(void *opaque, unsigned index, const void *buf, size_t len)
{
    struct machine *m = opaque;
    switch (m->domain->chars[index].kind) {
    case DOMAIN_CHAR_SERIAL:
        return serial_input(m->serials[m->domain->chars[index].port], buf, len);
    case DOMAIN_CHAR_VIRTIO:
        return vconsole_input(m->vconsole, buf, len);
    default:
        return len;
    }
}

static void console_command(void *opaque, enum terminal_command command)
{
    struct machine *m = opaque;
    switch (command) {
    case TERMINAL_QUIT:
        board_end(&m->board, END_USER, 0);
        break;
    case TERMINAL_POWER:
        pm_power_button(m->pm);
        break;
    case TERMINAL_BREAK:
        if (m->serials[0])
            serial_break(m->serials[0]);
        break;
    case TERMINAL_HANGUP:
        board_end(&m->board, END_SIGNAL, SIGHUP);
        break;
    }
}

static void tell_size(struct machine *m)
{
    uint16_t cols, rows;
    if (m->vconsole && terminal_size(m->terminal, &cols, &rows) == 0)
        vconsole_resize(m->vconsole, cols, rows);
}

/* ---- devices ---- */

/* Does a firmware start, and not a kernel? */
static bool by_firmware(const struct domain *d)
{
    return !d->os.kernel;
}

static void pm_moved(void *opaque, uint16_t port)
{
    struct machine *m = opaque;
    pm_move(m->pm, port);
}

static int make_firmware(struct machine *m, struct error *err)
{
    const char *path = m->domain->os.loader ? m->domain->os.loader : LODGE_BIOS;
    if (shadow_create(&m->board, path, &m->shadow, err) < 0)
        return -1;
    const struct nvram_config nvram = {.path = m->domain->os.nvram,
                                       .origin = m->domain->os.nvram_template,
                                       .image = path,
                                       .end = shadow_image_base(m->shadow)};
    if (nvram.path && nvram_create(&m->board, &nvram, &m->nvram, err) < 0)
        return -1;
    return fwcfg_create(&m->board.bus, &m->fwcfg, err);
}

/* The HPET's timers stand in for the PIT and the RTC's periodic interrupt. */
static void hpet_replace(void *opaque, bool on)
{
    struct machine *m = opaque;
    board_replace_pit(&m->board, on);
    rtc_replace(m->rtc, on);
}

static int make_platform(struct machine *m, struct error *err)
{
    bool firmware = by_firmware(m->domain);
    struct board *b = &m->board;
    const struct guestmem *mem = &b->mem;
    struct rtc_config rtc = {.ram_below_4g = mem->regions[0].size,
                             .ram_above_4g = mem->total - mem->regions[0].size,
                             .gsi = GSI_RTC,
                             .cpus = m->domain->vcpus};
    if (firmware)
        board_open_pci64(b, pmem_room(m->domain));
    struct lpc_config lpc = {.pmbase = PORT_PM, .pm_moved = firmware ? pm_moved : NULL, .opaque = m};
    struct pci_host_config pci = {.ecam_base = MEM_ECAM,
                                  .buses = MEM_ECAM_BUSES,
                                  .mmio32 = {MEM_PCI32, MEM_PCI32_END - MEM_PCI32},
                                  .mmio64 = {b->pci64_base, b->pci64_end - b->pci64_base},
                                  .io = {PORT_PCI, PORT_PCI_END - PORT_PCI}};
    if (firmware && make_firmware(m, err) < 0)
        return -1;
    pci.pam = firmware ? shadow_pam : NULL;
    pci.opaque = m->shadow;
    if (pm_create(&b->bus, firmware ? 0 : PORT_PM, GSI_SCI, &m->pm, err) < 0 || rtc_create(&b->bus, &rtc, &m->rtc, err) < 0 ||
        i8042_create(&b->bus, GSI_KEYBOARD, &m->i8042, err) < 0 || pci_host_create(&b->bus, &pci, &m->pci, err) < 0 ||
        lpc_create(m->pci, &lpc, &m->lpc, err) < 0 || smbus_create(m->pci, &m->smbus, err) < 0 ||
        pci_places_create(m->domain, m->pci, m->released_fd, &m->places, err) < 0)
        return -1;
    const struct hpet_config hpet = {.timer_gsi = GSI_PIT, .rtc_gsi = GSI_RTC, .replace = hpet_replace, .opaque = m};
    if (m->domain->hpet && hpet_create(&b->bus, &hpet, &m->hpet, err) < 0)
        return -1;
    if (m->domain->pvpanic && pvpanic_create(&b->bus, PORT_PVPANIC, &m->pvpanic, err) < 0)
        return -1;
    if (m->domain->has_genid && genid_create(b, m->domain->genid, &m->genid, err) < 0)
        return -1;
    if (m->domain->debug_exit && debugexit_create(&b->bus, m->domain->debug_exit, &m->debugexit, err) < 0)
        return -1;
    return 0;
}

/* The block behind a disk, whatever its bus; NULL without a medium. */
static struct block *disk_block(const struct machine *m, unsigned disk)
{
    struct block *b = virtio_devices_block(m->virtio, disk);
    return b ? b : emulated_devices_block(m->emulated, disk);
}

static void watch_disk(struct machine *m, unsigned i)
{
    if (!disk_block(m, i))
        return;
    block_watch_errors(disk_block(m, i), m->disk_error_fd);
    block_watch_stops(disk_block(m, i), m->disk_stop_fd);
}

static int make_devices(struct machine *m, struct error *err)
{
    const struct domain *d = m->domain;
    if (make_platform(m, err) < 0)
        return -1;
    for (unsigned i = 0; i < d->nchars; i++)
        if (make_char(m, i, err) < 0)
            return -1;
    if (virtio_devices_create(d, m->pci, &m->order, &m->virtio, err) < 0 ||
        emulated_devices_create(d, m->pci, &m->order, &m->emulated, err) < 0 ||
        (d->npmems && pmem_create(d, &m->board, m->pci, &m->pmem, err) < 0))
        return -1;
    for (unsigned i = 0; i < d->ndisks; i++)
        watch_disk(m, i);
    tell_size(m);
    return by_firmware(d) ? 0 : pci_host_assign(m->pci, err);
}

static void destroy_devices(struct machine *m)
{
    pmem_destroy(m->pmem);
    virtio_devices_destroy(m->virtio);
    emulated_devices_destroy(m->emulated);
    vconsole_destroy(m->vconsole);
    debugexit_destroy(m->debugexit);
    for (unsigned i = 0; i < DOMAIN_MAX_CHARS; i++)
        debugcon_destroy(m->debugcons[i]);
    for (unsigned i = 0; i < DOMAIN_SERIALS; i++)
        serial_destroy(m->serials[i]);
    parallel_destroy(m->parallel);
    genid_destroy(m->genid);
    pvpanic_destroy(m->pvpanic);
    pci_places_destroy(m->places);
    smbus_destroy(m->smbus);
    lpc_destroy(m->lpc);
    pci_host_destroy(m->pci);
    i8042_destroy(m->i8042);
    fwcfg_destroy(m->fwcfg);
    nvram_destroy(m->nvram);
    shadow_destroy(m->shadow);
    hpet_destroy(m->hpet);
    rtc_destroy(m->rtc);
    pm_destroy(m->pm);
    for (unsigned i = 0; i < DOMAIN_MAX_CHARS; i++)
        if (m->files[i].fd >= 0)
            close(m->files[i].fd);
}

/* ---- CPUs and kernel ---- */

static int make_cpus(struct machine *m, struct error *err)
{
    unsigned n = m->domain->vcpus;
    AUTO_FREE struct kvm_cpuid2 *model = cpumodel_create(&m->board, numa_socket_cpus(m->domain), m->domain->avx512, err);
    m->cpus = model ? calloc(n, sizeof *m->cpus) : NULL;
    if (!m->cpus)
        return model ? error_set(err, ENOMEM, "CPUs: out of memory") : -1;
    for (; m->ncpus < n; m->ncpus++)
        if (vmcpu_create(&m->cpus[m->ncpus], &m->board, m->ncpus, model, err) < 0)
            return -1;
    return 0;
}

static struct acpi_config describe_acpi(struct machine *m)
{
    numa_describe(m->domain, &m->board.mem, &m->numa);
    return (struct acpi_config){.cpus = m->domain->vcpus,
                                .pci64_base = m->board.pci64_base,
                                .pci64_end = m->board.pci64_end,
                                .serial = {m->serials[0] != NULL, m->serials[1] != NULL},
                                .parallel = m->parallel != NULL,
                                .hpet = m->hpet != NULL,
                                .pvpanic = m->pvpanic != NULL,
                                .genid = m->genid != NULL,
                                .numa = m->domain->ncells ? &m->numa : NULL};
}

/* The CPUs start as a reset leaves them, in the image. */
static int load_firmware(struct machine *m, struct error *err)
{
    const struct domain *d = m->domain;
    struct acpi_config acpi = describe_acpi(m);
    struct firmware_config cfg = {.acpi = &acpi,
                                  .mem = &m->board.mem,
                                  .uuid = d->uuid,
                                  .cpus = d->vcpus,
                                  .order = &m->order,
                                  .serial = d->os.bios_serial && m->serials[0] ? SERIAL_COM1_PORT : 0,
                                  .menu = d->os.boot_menu,
                                  .menu_ms = d->os.boot_menu_ms};
    return firmware_describe(&cfg, m->fwcfg, err);
}

static void install_smbios(struct machine *m)
{
    struct smbios_config cfg = {.cpus = m->domain->vcpus, .mem = &m->board.mem};
    struct smbios tables;
    memcpy(cfg.uuid, m->domain->uuid, sizeof cfg.uuid);
    smbios_build(&cfg, &tables);
    smbios_install(&tables, &m->board.mem);
}

static int load_kernel(struct machine *m, struct error *err)
{
    struct board *b = &m->board;
    struct acpi_config acpi = describe_acpi(m);
    struct e820 map;
    struct boot_config boot = {.os = &m->domain->os, .mem = &b->mem, .map = &map};
    struct boot_entry entry;
    e820_build(&map, &b->mem);
    install_smbios(m);
    if (acpi_install(&acpi, &b->mem, &boot.rsdp, err) < 0 || boot_load(&boot, &entry, err) < 0)
        return -1;
    return vmcpu_set_entry(&m->cpus[0], &entry, err);
}

int machine_create(struct domain *d, enum domain_accel accel, struct terminal *t, struct charsock *sockets, struct machine **out, struct error *err)
{
    struct machine *m = calloc(1, sizeof *m);
    if (!m)
        return error_set(err, ENOMEM, "machine: out of memory");
    m->domain = d;
    m->terminal = t;
    m->sockets = sockets;
    m->disk_error_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    m->disk_stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    m->released_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (unsigned i = 0; i < DOMAIN_MAX_CHARS; i++)
        m->files[i].fd = -1;
    struct numa_memory memory;
    numa_memory_config(d, &memory);
    m->has_board = board_create(&m->board, accel, &memory.config, d->vcpus, err) == 0;
    if (!m->has_board || make_devices(m, err) < 0 || make_cpus(m, err) < 0 ||
        (by_firmware(d) ? load_firmware(m, err) : load_kernel(m, err)) < 0) {
        machine_destroy(m);
        return -1;
    }
    m->board.console = terminal_chardev(t);
    *out = m;
    return 0;
}

void machine_print_stats(const struct machine *m, FILE *out)
{
    stats_print(out, &m->board, m->cpus, m->ncpus);
}

void machine_destroy(struct machine *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->ncpus; i++)
        vmcpu_destroy(&m->cpus[i]);
    if (m->has_board) {
        destroy_devices(m);
        board_destroy(&m->board);
    }
    if (m->disk_error_fd >= 0)
        close(m->disk_error_fd);
    if (m->disk_stop_fd >= 0)
        close(m->disk_stop_fd);
    if (m->released_fd >= 0)
        close(m->released_fd);
    free(m->cpus);
    free(m);
}

/* ---- running ---- */

/* A disk kept a request that failed: the guest waits until somebody has mended the cause. */
static void take_stops(struct machine *m)
{
    eventfd_t count;
    eventfd_read(m->disk_stop_fd, &count);
    for (unsigned i = 0; i < m->domain->ndisks; i++) {
        int error = machine_disk_stopped(m, i);
        if (error)
            log_warn("disk '%s': %s; the guest is paused: mend the cause, and send QMP's 'cont' or 'kill -CONT %d'", m->domain->disks[i].file,
                     strerror(error), (int)getpid());
    }
    machine_pause(m);
}

int machine_disk_stopped(const struct machine *m, unsigned disk)
{
    const struct block *b = disk_block(m, disk);
    return b ? block_stopped(b) : 0;
}

static void take_signal(struct machine *m, int signal_fd)
{
    struct signalfd_siginfo info;
    if (read(signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    if (info.ssi_signo == SIGWINCH)
        tell_size(m);
    else if (info.ssi_signo == SIGCONT)
        machine_resume(m);
    else
        board_end(&m->board, END_SIGNAL, (int)info.ssi_signo);
}

void machine_set_watch(struct machine *m, const struct machine_watch *watch)
{
    m->watch = *watch;
}

static void kick_cpus(struct machine *m)
{
    for (unsigned i = 0; i < m->ncpus; i++)
        vmcpu_kick(&m->cpus[i]);
}

/* Takes the CPUs out of the guest; false: they are out already. */
static bool hold_cpus(struct machine *m)
{
    if (m->board.paused)
        return false;
    terminal_release(m->terminal, true); /* a CPU that waits for this thread to write its output would not come */
    board_pause(&m->board, true);
    kick_cpus(m);
    board_wait_cpus(&m->board, m->ncpus);
    return true;
}

void machine_pause(struct machine *m)
{
    hold_cpus(m);
}

void machine_resume(struct machine *m)
{
    if (!m->board.paused)
        return;
    terminal_release(m->terminal, false);
    for (unsigned i = 0; i < m->domain->ndisks; i++)
        if (machine_disk_stopped(m, i))
            block_retry(disk_block(m, i));
    for (unsigned i = 0; i < m->ncpus; i++)
        vmcpu_tell_paused(&m->cpus[i]);
    board_pause(&m->board, false);
}

/* ---- hot plug ---- */

/* After a moment of hold_cpus(), which is no pause that anybody is told of. */
static void let_cpus(struct machine *m, bool held)
{
    if (!held)
        return;
    terminal_release(m->terminal, false);
    board_pause(&m->board, false);
}

static struct hotplug hotplug_of(const struct machine *m)
{
    return (struct hotplug){m->domain, m->pci, m->places, m->virtio};
}

int machine_attach(struct machine *m, struct domain *from, struct error *err)
{
    const struct hotplug h = hotplug_of(m);
    unsigned disks = m->domain->ndisks;
    bool held = hold_cpus(m);
    int result = hotplug_attach(&h, from, err);
    if (m->domain->ndisks > disks)
        watch_disk(m, disks);
    let_cpus(m, held);
    return result;
}

int machine_detach(struct machine *m, const char *name, struct error *err)
{
    const struct hotplug h = hotplug_of(m);
    return hotplug_detach(&h, name, err);
}

/* The guest has given devices back. */
static void take_released(struct machine *m)
{
    const struct hotplug h = hotplug_of(m);
    char name[HOTPLUG_NAME_MAX];
    eventfd_t count;
    int disk;
    eventfd_read(m->released_fd, &count);
    bool held = hold_cpus(m);
    while (hotplug_reap(&h, name, &disk)) {
        if (disk >= 0)
            emulated_devices_renumber(m->emulated, (unsigned)disk);
        if (m->watch.detached)
            m->watch.detached(m->watch.opaque, name, disk);
    }
    let_cpus(m, held);
}

void machine_start_paused(struct machine *m)
{
    board_pause(&m->board, true);
}

bool machine_paused(const struct machine *m)
{
    return m->board.paused;
}

void machine_power_button(struct machine *m)
{
    pm_power_button(m->pm);
}

void machine_stop(struct machine *m, enum board_end end, int code)
{
    board_end(&m->board, end, code);
}

pid_t machine_cpu_tid(struct machine *m, unsigned cpu)
{
    return cpu < m->ncpus ? vmcpu_tid(&m->cpus[cpu]) : 0;
}

const struct block_stats *machine_disk_stats(const struct machine *m, unsigned disk)
{
    const struct block *b = disk_block(m, disk);
    return b ? block_stats(b) : NULL;
}

bool machine_net_stats(const struct machine *m, unsigned iface, struct net_stats *s)
{
    return virtio_devices_net_stats(m->virtio, iface, s);
}

const char *machine_char_terminal(const struct machine *m, unsigned index)
{
    return m->sockets ? charsock_terminal(m->sockets, index) : NULL;
}

int machine_disk_error_fd(const struct machine *m)
{
    return m->disk_error_fd;
}

uint64_t machine_disk_size(const struct machine *m, unsigned disk)
{
    const struct block *b = disk_block(m, disk);
    return b ? block_size(b) : 0;
}

static void loop(struct machine *m, int signal_fd)
{
    struct pollset p = {.timeout_ms = -1};
    while (!board_ended(&m->board)) {
        pollset_clear(&p);
        terminal_prepare(m->terminal, &p);
        charsock_prepare(m->sockets, &p);
        int stops = pollset_add(&p, m->disk_stop_fd, POLLIN), released = pollset_add(&p, m->released_fd, POLLIN);
        int signals = pollset_add(&p, signal_fd, POLLIN), timer = pollset_add(&p, pm_timer_fd(m->pm), POLLIN);
        pollset_add(&p, m->board.end_fd, POLLIN);
        if (m->watch.prepare)
            m->watch.prepare(m->watch.opaque, &p);
        if (poll(p.fds, p.n, p.timeout_ms) < 0)
            continue;
        terminal_dispatch(m->terminal, &p);
        charsock_dispatch(m->sockets, &p);
        if (pollset_revents(&p, stops))
            take_stops(m);
        if (pollset_revents(&p, released))
            take_released(m);
        if (pollset_revents(&p, signals))
            take_signal(m, signal_fd);
        if (pollset_revents(&p, timer))
            pm_timer(m->pm);
        if (m->watch.dispatch)
            m->watch.dispatch(m->watch.opaque, &p);
    }
    pollset_free(&p);
}

/* No CPU runs. */
static enum machine_reset judge_reset(struct machine *m)
{
    for (unsigned i = 0; i < m->ncpus; i++)
        if (vmcpu_apic_enabled(&m->cpus[i]))
            return RESET_ORDERLY;
    /* A firmware resets as it likes: to start from the beginning is its way out. */
    if (by_firmware(m->domain) && !board_ioapic_used(&m->board))
        return RESET_ORDERLY;
    return board_ioapic_used(&m->board) ? RESET_CRASHED : RESET_EARLY;
}

int machine_run(struct machine *m, int signal_fd, struct error *err)
{
    const struct terminal_ops ops = {console_input, console_command, m};
    int result = 0;
    if (m->board.vm.notice[0])
        fprintf(stderr, "lodge: %s\n", m->board.vm.notice);
    terminal_release(m->terminal, false);
    for (unsigned i = 0; i < m->ncpus && result == 0; i++)
        result = vmcpu_start(&m->cpus[i], err);
    if (result < 0)
        board_end(&m->board, END_FAILED, 0);
    terminal_attach(m->terminal, &ops);
    charsock_attach(m->sockets, char_input, m);
    loop(m, signal_fd);
    terminal_attach(m->terminal, NULL);
    charsock_attach(m->sockets, NULL, NULL);
    terminal_release(m->terminal, true); /* until the next machine runs: devices are stopped after the CPUs */
    kick_cpus(m);
    for (unsigned i = 0; i < m->ncpus; i++)
        vmcpu_join(&m->cpus[i]);
    m->reset = judge_reset(m);
    return result;
}

enum board_end machine_end(const struct machine *m, int *code)
{
    *code = m->board.end_code;
    return (enum board_end)m->board.end;
}

const char *machine_failure(const struct machine *m)
{
    return error_text(&m->board.failure);
}

enum machine_reset machine_reset(const struct machine *m)
{
    return m->reset;
}

struct vballoon *machine_balloon(const struct machine *m)
{
    return virtio_devices_balloon(m->virtio);
}

enum domain_accel machine_accel(const struct machine *m)
{
    return m->board.vm.accel->kind;
}
