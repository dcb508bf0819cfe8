// SPDX-License-Identifier: GPL-2.0-or-later
/* The VM and its wiring: memory slots, interrupt chips, interrupt routes, and how a machine ends. See board.h. */
#include "machine/board.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sysinfo.h>

#include "base/log.h"
#include "base/util.h"
#include "machine/cpumodel.h"
#include "machine/memmap.h"

struct msi_route {
    bool used;
    uint64_t addr;
    uint32_t data;
};

#define PIC_PINS  8
#define PIC_SLAVE 2 /* the master's pin that the slave is wired to */
#define WIRED_MAX (GSI_COUNT + 2 * PIC_PINS)

/* ---- the end ---- */

/* The first end is the machine's, but one from outside outweighs the guest's: who ends a guest that is about to start again does not ask a second time. */
static bool outweighs(enum board_end new, enum board_end old)
{
    return old == END_NONE || ((new == END_USER || new == END_SIGNAL) && (old < END_FAILED || old == END_RESTART));
}

void board_end(struct board *b, enum board_end end, int code)
{
    pthread_mutex_lock(&b->end_lock);
    if (outweighs(end, b->end)) {
        b->end_code = code;
        atomic_store_explicit(&b->end, end, memory_order_release);
        eventfd_write(b->end_fd, 1);
    }
    pthread_mutex_unlock(&b->end_lock);
    pthread_mutex_lock(&b->pause_lock);
    pthread_cond_broadcast(&b->pause_change);
    pthread_mutex_unlock(&b->pause_lock);
}

void board_fail(struct board *b, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&b->end_lock);
    error_set(&b->failure, 0, "%s", text);
    pthread_mutex_unlock(&b->end_lock);
    board_end(b, END_FAILED, 0);
}

/* ---- pausing ---- */

void board_wait_paused(struct board *b)
{
    pthread_mutex_lock(&b->pause_lock);
    b->paused_cpus++;
    pthread_cond_broadcast(&b->pause_change);
    while (b->paused && !board_ended(b))
        pthread_cond_wait(&b->pause_change, &b->pause_lock);
    b->paused_cpus--;
    pthread_mutex_unlock(&b->pause_lock);
}

void board_pause(struct board *b, bool paused)
{
    pthread_mutex_lock(&b->pause_lock);
    b->paused = paused;
    pthread_cond_broadcast(&b->pause_change);
    pthread_mutex_unlock(&b->pause_lock);
}

void board_wait_cpus(struct board *b, unsigned ncpus)
{
    pthread_mutex_lock(&b->pause_lock);
    while (b->paused_cpus < ncpus && !board_ended(b))
        pthread_cond_wait(&b->pause_change, &b->pause_lock);
    pthread_mutex_unlock(&b->pause_lock);
}

/* ---- what devices ask for ---- */

/* A call's result as devices want it: 0 or more, or -errno. */
static int vm_call(struct board *b, unsigned long request, void *arg)
{
    int r = board_ioctl(b, b->vm.vm_fd, request, arg);
    return r < 0 ? -errno : r;
}

static int board_set_gsi(void *board, unsigned gsi, bool level)
{
    struct kvm_irq_level line = {.irq = gsi, .level = level};
    return vm_call(board, KVM_IRQ_LINE, &line);
}

static int board_send_msi(void *board, uint64_t addr, uint32_t data)
{
    struct kvm_msi msi = {.address_lo = (uint32_t)addr, .address_hi = (uint32_t)(addr >> 32), .data = data};
    int r = vm_call(board, KVM_SIGNAL_MSI, &msi);
    return r < 0 ? r : 0;
}

static int board_ioeventfd(void *board, int fd, enum bus_space space, uint64_t addr, unsigned size, bool match, uint64_t data,
                           bool assign)
{
    struct kvm_ioeventfd io = {.datamatch = data, .addr = addr, .len = size, .fd = fd};
    io.flags = (space == BUS_PORT ? KVM_IOEVENTFD_FLAG_PIO : 0) | (match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
               (assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN);
    return vm_call(board, KVM_IOEVENTFD, &io);
}

/* The pins of the IOAPIC and, for the first sixteen GSIs, of the PICs. Line 0, the PIT's, is pin 2 of the IOAPIC. */
static unsigned wired_routes(struct kvm_irq_routing_entry *e)
{
    unsigned n = 0;
    for (unsigned gsi = 0; gsi < GSI_COUNT; gsi++) {
        if (gsi != GSI_TIMER)
            e[n++] = (struct kvm_irq_routing_entry){
                .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {KVM_IRQCHIP_IOAPIC, gsi == 0 ? GSI_TIMER : gsi}};
        if (gsi < 2 * PIC_PINS && gsi != PIC_SLAVE)
            e[n++] = (struct kvm_irq_routing_entry){
                .gsi = gsi,
                .type = KVM_IRQ_ROUTING_IRQCHIP,
                .u.irqchip = {gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, gsi % PIC_PINS}};
    }
    return n;
}

/* route_lock held, or the board is being made. */
static int install_routes(struct board *b)
{
    AUTO_FREE struct kvm_irq_routing *table = calloc(1, sizeof *table + (WIRED_MAX + b->nroutes) * sizeof table->entries[0]);
    if (!table)
        return -ENOMEM;
    table->nr = wired_routes(table->entries);
    for (unsigned i = 0; i < b->nroutes; i++) {
        const struct msi_route *r = &b->routes[i];
        if (r->used)
            table->entries[table->nr++] = (struct kvm_irq_routing_entry){
                .gsi = GSI_COUNT + i,
                .type = KVM_IRQ_ROUTING_MSI,
                .u.msi = {.address_lo = (uint32_t)r->addr, .address_hi = (uint32_t)(r->addr >> 32), .data = r->data}};
    }
    return vm_call(b, KVM_SET_GSI_ROUTING, table);
}

/* The index of a free route, or -errno. */
static int find_route(struct board *b)
{
    for (unsigned i = 0; i < b->nroutes; i++) {
        if (!b->routes[i].used)
            return (int)i;
    }
    if (b->nroutes == b->max_routes)
        return -ENOSPC;
    unsigned grown = MIN(b->nroutes + 32, b->max_routes);
    struct msi_route *routes = realloc(b->routes, grown * sizeof *routes);
    if (!routes)
        return -ENOMEM;
    memset(routes + b->nroutes, 0, (grown - b->nroutes) * sizeof *routes);
    unsigned first = b->nroutes;
    b->routes = routes;
    b->nroutes = grown;
    return (int)first;
}

static int irqfd_call(struct board *b, int fd, unsigned gsi, unsigned flags)
{
    struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = gsi, .flags = flags};
    return vm_call(b, KVM_IRQFD, &irqfd);
}

static int board_irqfd_msi(void *board, int fd, uint64_t addr, uint32_t data)
{
    struct board *b = board;
    pthread_mutex_lock(&b->route_lock);
    int i = find_route(b), r = i;
    if (i >= 0) {
        b->routes[i] = (struct msi_route){true, addr, data};
        r = install_routes(b);
        if (r == 0)
            r = irqfd_call(b, fd, GSI_COUNT + (unsigned)i, 0);
        if (r < 0)
            b->routes[i].used = false;
        else
            r = GSI_COUNT + i;
    }
    pthread_mutex_unlock(&b->route_lock);
    return r;
}

/* The route itself stays in the accelerator's table until the next change: nothing raises it. */
static void board_irqfd_free(void *board, int fd, int handle)
{
    struct board *b = board;
    pthread_mutex_lock(&b->route_lock);
    irqfd_call(b, fd, (unsigned)handle, KVM_IRQFD_FLAG_DEASSIGN);
    b->routes[handle - GSI_COUNT].used = false;
    pthread_mutex_unlock(&b->route_lock);
}

static void board_event(void *board, int event, int code)
{
    static const enum board_end ends[] = {
        [BOARD_POWEROFF] = END_POWEROFF, [BOARD_RESET] = END_RESET, [BOARD_DEBUG_EXIT] = END_DEBUG_EXIT, [BOARD_PANIC] = END_PANIC};
    board_end(board, ends[event], code);
}

static const struct board_ops board_ops = {
    .set_gsi = board_set_gsi,
    .send_msi = board_send_msi,
    .ioeventfd = board_ioeventfd,
    .irqfd_msi = board_irqfd_msi,
    .irqfd_free = board_irqfd_free,
    .event = board_event,
};

bool board_ioapic_used(struct board *b)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    bool used = false;
    if (vm_call(b, KVM_GET_IRQCHIP, &chip) < 0)
        return true;
    for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
        used |= !chip.chip.ioapic.redirtbl[i].fields.mask;
    return used;
}

/* ---- making it ---- */

static int check_host(uint64_t memory, unsigned ncpus, struct error *err)
{
    struct sysinfo host;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (cpus > 0 && ncpus > (unsigned long)cpus)
        return error_set(err, 0, "guest CPUs: %u, more than the %ld of this host; give it fewer with --cpus", ncpus, cpus);
    if (sysinfo(&host) == 0 && memory > (uint64_t)host.totalram * host.mem_unit)
        return error_set(err, 0, "guest memory: %llu MiB, more than the %llu MiB of this host; give it less with --memory",
                         (unsigned long long)(memory / MIB), (unsigned long long)((uint64_t)host.totalram * host.mem_unit / MIB));
    return 0;
}

static int check_capabilities(struct board *b, unsigned ncpus, struct error *err)
{
    static const struct {
        int cap;
        const char *name;
    } needed[] = {{KVM_CAP_IRQCHIP, "interrupt chips"},
                  {KVM_CAP_USER_MEMORY, "guest memory"},
                  {KVM_CAP_PIT2, "timer"},
                  {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
                  {KVM_CAP_SIGNAL_MSI, "MSI"},
                  {KVM_CAP_IRQFD, "irqfd"},
                  {KVM_CAP_IOEVENTFD, "ioeventfd"},
                  {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"}};
    for (unsigned i = 0; i < ARRAY_SIZE(needed); i++) {
        if (vm_call(b, KVM_CHECK_EXTENSION, (void *)(intptr_t)needed[i].cap) <= 0)
            return error_set(err, 0, "%s: lacks the %s that the machine needs; use --accel %s", b->vm.accel->name, needed[i].name,
                             b->vm.accel->kind == DOMAIN_ACCEL_KVM ? "softkvm" : "kvm");
    }
    int max = vm_call(b, KVM_CHECK_EXTENSION, (void *)KVM_CAP_MAX_VCPUS);
    if (max > 0 && ncpus > (unsigned)max)
        return error_set(err, 0, "guest CPUs: %u, more than the %d that %s has room for; give it fewer with --cpus", ncpus, max,
                         b->vm.accel->name);
    /* The route table is bounded by the accelerator; the wired pins take their part. */
    int gsis = vm_call(b, KVM_CHECK_EXTENSION, (void *)KVM_CAP_IRQ_ROUTING);
    b->max_routes = gsis > 2 * WIRED_MAX ? (unsigned)gsis - WIRED_MAX : WIRED_MAX;
    return 0;
}

int board_slot(struct board *b, unsigned slot, uint64_t gpa, uint64_t size, const void *host, bool readonly)
{
    struct kvm_userspace_memory_region region = {.slot = slot,
                                                 .flags = readonly ? KVM_MEM_READONLY : 0,
                                                 .guest_phys_addr = gpa,
                                                 .memory_size = size,
                                                 .userspace_addr = (uintptr_t)host};
    return vm_call(b, KVM_SET_USER_MEMORY_REGION, &region);
}

static int add_slot(struct board *b, unsigned slot, uint64_t gpa, uint64_t end, struct error *err)
{
    if (end <= gpa)
        return 0;
    int r = board_slot(b, slot, gpa, end - gpa, guestmem_ptr(&b->mem, gpa, end - gpa), false);
    return r < 0 ? error_set(err, -r, "%s: cannot give it the guest's memory: %s; give the guest less with --memory",
                             b->vm.accel->name, strerror(-r))
                 : 0;
}

/* The guest runs without it, only slower; so it does where its memory comes in huge pages, of which nobody maps a part. */
static void share_memory(struct board *b)
{
    const struct accel *a = b->vm.accel;
    for (unsigned i = 0; a->share_memory && b->mem.fd >= 0 && b->mem.page_size == PAGE_SIZE && i < b->mem.count; i++) {
        const struct guestmem_region *r = &b->mem.regions[i];
        if (a->share_memory(b->vm.vm_fd, r->host, r->size, b->mem.fd, r->fd_offset) < 0)
            log_debug("guest memory: not known to %s as a file: %s; user code will not run natively", a->name, strerror(errno));
    }
}

static int make_memory(struct board *b, const struct guestmem_config *memory, struct error *err)
{
    struct guestmem_config cfg = *memory;
    cfg.low_limit = MEM_LOW_LIMIT;
    if (guestmem_create(&b->mem, &cfg, err) < 0)
        return -1;
    share_memory(b);
    if (add_slot(b, SLOT_LOW, 0, MEM_VGA_BASE, err) < 0 || add_slot(b, SLOT_SHADOW, MEM_VGA_END, MEM_BIOS, err) < 0 ||
        add_slot(b, SLOT_MAIN, MEM_BIOS, b->mem.regions[0].size, err) < 0)
        return -1;
    for (unsigned i = 1; i < b->mem.count; i++) {
        const struct guestmem_region *r = &b->mem.regions[i];
        if (add_slot(b, SLOT_HIGH + i - 1, r->gpa, r->gpa + r->size, err) < 0)
            return -1;
    }
    return 0;
}

static int make_chips(struct board *b, unsigned ncpus, struct error *err)
{
    uint64_t identity = MEM_KVM_IDENTITY;
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    const char *what = "its helper pages";
    int r = vm_call(b, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    if (r >= 0)
        r = vm_call(b, KVM_SET_TSS_ADDR, (void *)MEM_KVM_TSS);
    if (r >= 0)
        what = "interrupt chips", r = vm_call(b, KVM_CREATE_IRQCHIP, NULL);
    if (r >= 0)
        what = "a timer", r = vm_call(b, KVM_CREATE_PIT2, &pit);
    if (r >= 0)
        what = "interrupt routes", r = install_routes(b);
    if (r >= 0 && ncpus > 255) {
        /* APIC IDs of 32 bits, also in MSIs and in KVM_GET_LAPIC. */
        struct kvm_enable_cap cap = {.cap = KVM_CAP_X2APIC_API,
                                     .args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK}};
        what = "wide APIC IDs", r = vm_call(b, KVM_ENABLE_CAP, &cap);
    }
    return r < 0 ? error_set(err, -r, "%s: cannot make %s: %s; use another accelerator with --accel", b->vm.accel->name, what,
                             strerror(-r))
                 : 0;
}

void board_replace_pit(struct board *b, bool replaced)
{
    struct kvm_pit_state2 pit;
    if (vm_call(b, KVM_GET_PIT2, &pit) < 0)
        return;
    pit.flags = (pit.flags & ~(uint32_t)KVM_PIT_FLAGS_HPET_LEGACY) | (replaced ? KVM_PIT_FLAGS_HPET_LEGACY : 0);
    vm_call(b, KVM_SET_PIT2, &pit);
}

/*
 * Some of OVMF's images map all that the CPU can address by pages of 2 MiB, which takes 256 MiB of page tables for 46 bits. As many
 * bits as this are enough for most guests.
 */
#define FIRMWARE_BITS 40u

static uint64_t memory_end(const struct board *b)
{
    const struct guestmem_region *last = &b->mem.regions[b->mem.count - 1];
    return last->gpa + last->size;
}

/* Above all RAM, aligned to its own size. */
static void place_pci64(struct board *b, unsigned physical_bits)
{
    b->pci64_base = ALIGN_UP(memory_end(b), MEM_PCI64_SIZE);
    b->physical_bits = physical_bits;
    b->pci64_end = b->pci64_base + MEM_PCI64_SIZE;
    if (b->pci64_end > 1ull << physical_bits)
        b->pci64_end = b->pci64_base;
    b->pmem_base = b->pci64_end;
}

void board_open_pci64(struct board *b, uint64_t room)
{
    b->pmem_base = ALIGN_UP(MAX(memory_end(b), MEM_HIGH), (uint64_t)GIB);
    b->pci64_base = b->pmem_base + room;
    if (b->pci64_base + MEM_PCI64_SIZE <= 1ull << FIRMWARE_BITS)
        b->physical_bits = MIN(b->physical_bits, FIRMWARE_BITS);
    b->pci64_end = MAX(b->pci64_base, 1ull << b->physical_bits);
}

int board_create(struct board *b, enum domain_accel accel, const struct guestmem_config *memory, unsigned ncpus, struct error *err)
{
    *b = (struct board){.vm = {.sys_fd = -1, .vm_fd = -1}, .mem = {.fd = -1}, .end_fd = -1};
    pthread_mutex_init(&b->end_lock, NULL);
    pthread_mutex_init(&b->route_lock, NULL);
    pthread_mutex_init(&b->pause_lock, NULL);
    pthread_cond_init(&b->pause_change, NULL);
    bus_init(&b->bus, &b->mem, &board_ops, b);
    if (check_host(memory->bytes, ncpus, err) < 0)
        goto fail;
    b->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (b->end_fd < 0) {
        error_set(err, errno, "machine: cannot create an eventfd: %s; raise the limit of open files (ulimit -n)", strerror(errno));
        goto fail;
    }
    if (accel_open(accel, &b->vm, err) < 0 || check_capabilities(b, ncpus, err) < 0 || make_memory(b, memory, err) < 0 ||
        make_chips(b, ncpus, err) < 0)
        goto fail;
    place_pci64(b, cpumodel_physical_bits(b));
    return 0;
fail:
    board_destroy(b);
    return -1;
}

/* The VM goes before its memory: softkvm's CPUs must not find a hole in a slot. */
void board_destroy(struct board *b)
{
    if (b->vm.accel)
        accel_close(&b->vm);
    bus_free(&b->bus);
    guestmem_free(&b->mem);
    if (b->end_fd >= 0)
        close(b->end_fd);
    free(b->routes);
    error_clear(&b->failure);
    pthread_mutex_destroy(&b->end_lock);
    pthread_mutex_destroy(&b->route_lock);
    pthread_mutex_destroy(&b->pause_lock);
    pthread_cond_destroy(&b->pause_change);
}
