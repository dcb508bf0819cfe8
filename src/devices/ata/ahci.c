// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The controller's registers and its ports.
 *
 * A driver puts a command into a slot and sets the slot's bit in CI (and before that in SACT, when the command is queued). The
 * port's thread takes queued commands as they come and others one at a time, and the bits fall when the device has answered.
 * Stopping a port or resetting it lets what is in flight end unseen: CR, BSY or HR read as set until then, so that a driver which
 * waits for them may use its memory again.
 */
#include "devices/ata/ahci_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#define AHCI_SLOT     31
#define AHCI_FUNCTION 2
#define AHCI_BAR      5
#define AHCI_BAR_SIZE 4096

/* Registers of the controller (AHCI 1.3, 3.1). */
enum { R_CAP = 0x00, R_GHC = 0x04, R_IS = 0x08, R_PI = 0x0c, R_VS = 0x10, R_PORTS = 0x100 };

/* Six ports, 32 slots, 3 Gbit/s, AHCI only, CLO, queueing, 64-bit addresses. */
#define CAP_VALUE ((AHCI_PORTS - 1) | (AHCI_SLOTS - 1) << 8 | BIT(18) | 2 << 20 | BIT(24) | BIT(30) | BIT(31))
#define VERSION   0x00010300u

#define GHC_HR BIT(0)
#define GHC_IE BIT(1)
#define GHC_AE BIT(31)

#define SCTL_DET 0x0fu
#define SIG_NONE 0xffffffffu
#define TFD_NONE 0x7fu

static const struct field ahci_fields[] = {
    FIELD_ARRAY(FIELD_BYTES, struct ahci, pci.config), FIELD(FIELD_U32, struct ahci, ghc),  FIELD(FIELD_U32, struct ahci, is),
    FIELD_ARRAY(FIELD_U32, struct ahci, port_regs),    FIELD(FIELD_BOOL, struct ahci, irq), {0},
};
static const struct device_desc ahci_desc = {
    .name = "ich9-ahci", .fields = ahci_fields, .why_unsaved = "commands that are in flight are not among its fields"};

/* ---- interrupts ---- */

/* The pin is a level; a message is sent when the level rises (and when bits are left after the driver cleared some: ahci_write()).
 */
static void update_irq(struct ahci *a)
{
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        if (a->ports[i].regs[P_IS] & a->ports[i].regs[P_IE])
            a->is |= BIT(i);
    bool level = (a->ghc & GHC_IE) && a->is;
    if (level && !a->irq)
        pci_msi_notify(&a->pci);
    a->irq = level;
    pci_intx_set(&a->pci, level);
}

void ahci_port_event(struct ahci_port *p, uint32_t is)
{
    p->regs[P_IS] |= is;
    update_irq(p->hba);
}

/* ---- ports ---- */

static void kick(struct ahci_port *p)
{
    if (p->has_thread)
        eventfd_write(p->kick_fd, 1);
}

/* Nothing that is in flight is seen any more. */
static void stop_port(struct ahci_port *p, bool reset)
{
    p->regs[P_CI] = p->regs[P_SACT] = 0;
    p->halted = false;
    p->reset |= reset;
    p->draining = p->in_flight || p->reset;
    kick(p);
}

/* The link goes down; it comes up again when the device has been reset. */
static void link_down(struct ahci_port *p)
{
    p->regs[P_SSTS] = 0;
    p->regs[P_TFD] = p->dev ? TFD_NONE | ATA_BUSY : TFD_NONE;
    p->regs[P_SIG] = SIG_NONE;
    p->soft_reset = false;
}

static void reset_port(struct ahci_port *p)
{
    memset(p->regs, 0, P_REGS * sizeof *p->regs);
    p->regs[P_CMD] = CMD_SUD | CMD_POD;
    link_down(p);
    if (p->dev)
        stop_port(p, true);
}

static bool any_draining(const struct ahci *a)
{
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        if (a->ports[i].draining)
            return true;
    return false;
}

/* In-flight commands are gone: the port is as a stop or a reset leaves it. Lock held, on the thread. */
static void drained(struct ahci_port *p)
{
    p->draining = false;
    if (p->reset && (p->regs[P_SCTL] & SCTL_DET) == 0) {
        p->reset = false;
        p->dev->kind->reset(p->dev);
        p->regs[P_SSTS] = SSTS_UP;
        p->regs[P_SERR] |= SERR_X;
        ahci_post_signature(p);
        ahci_port_event(p, IS_PC);
    }
    if (!any_draining(p->hba))
        p->hba->ghc &= ~GHC_HR;
    pthread_cond_broadcast(&p->hba->drained);
}

/* The commands to start now. Queued ones go together, every other one alone. */
static uint32_t startable(const struct ahci_port *p)
{
    uint32_t pending = p->regs[P_CI] & ~p->taken, queued = pending & p->regs[P_SACT];
    if (!(p->regs[P_CMD] & CMD_ST) || p->draining || p->halted || p->exclusive || !pci_dev_dma(&p->hba->pci))
        return 0;
    if (queued)
        return queued;
    return p->in_flight ? 0 : pending & -pending;
}

static uint32_t take(struct ahci_port *p)
{
    uint32_t slots = startable(p);
    bool queued = slots & p->regs[P_SACT];
    for (unsigned i = 0; i < AHCI_SLOTS; i++) {
        if (!(slots & BIT(i)))
            continue;
        p->slots[i].list = p->regs[P_CLB] | (uint64_t)p->regs[P_CLBU] << 32;
        p->slots[i].queued = queued;
        p->in_flight++;
    }
    p->exclusive |= slots && !queued;
    p->taken |= slots;
    return slots;
}

static void wait_for_work(struct ahci_port *p)
{
    struct pollfd fds[2] = {{.fd = p->kick_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    eventfd_t count;
    if (p->dev->block)
        fds[1].fd = block_event_fd(p->dev->block);
    poll(fds, ARRAY_SIZE(fds), p->dev->block ? block_timeout(p->dev->block) : -1);
    eventfd_read(p->kick_fd, &count);
}

static void *port_main(void *arg)
{
    struct ahci_port *p = arg;
    pthread_mutex_t *lock = &p->hba->bus->lock;
    pthread_mutex_lock(lock);
    while (!p->quit) {
        if (p->draining && !p->in_flight)
            drained(p);
        uint32_t slots = take(p);
        pthread_mutex_unlock(lock);
        for (unsigned i = 0; i < AHCI_SLOTS; i++)
            if (slots & BIT(i))
                ahci_command_run(p, i);
        if (p->dev->block)
            block_poll(p->dev->block);
        pthread_mutex_lock(lock);
        bool more = (p->draining && !p->in_flight) || startable(p);
        pthread_mutex_unlock(lock);
        if (!more)
            wait_for_work(p);
        pthread_mutex_lock(lock);
    }
    pthread_mutex_unlock(lock);
    if (p->dev->block)
        block_drain(p->dev->block);
    return NULL;
}

/* ---- registers ---- */

static uint32_t read_port(const struct ahci_port *p, unsigned reg)
{
    uint32_t v = p->regs[reg];
    if (reg == P_CMD) {
        v |= v & CMD_ST || p->draining ? CMD_CR : 0;
        v |= v & CMD_FRE ? CMD_FR : 0;
    }
    return v;
}

static uint64_t ahci_read(void *dev, uint64_t off, unsigned size)
{
    struct ahci *a = dev;
    uint64_t at = off & ~3ull;
    uint32_t v = 0;
    if (at >= R_PORTS) {
        unsigned port = (unsigned)(at - R_PORTS) / (P_REGS * 4);
        v = port < AHCI_PORTS ? read_port(&a->ports[port], (unsigned)(at - R_PORTS) % (P_REGS * 4) / 4) : 0;
    } else if (at == R_CAP) {
        v = CAP_VALUE;
    } else if (at == R_GHC) {
        v = a->ghc;
    } else if (at == R_IS) {
        v = a->is;
    } else if (at == R_PI) {
        v = BIT(AHCI_PORTS) - 1;
    } else if (at == R_VS) {
        v = VERSION;
    }
    v >>= 8 * (off & 3);
    return size < 4 ? v & ((1u << (8 * size)) - 1) : v;
}

static void write_cmd(struct ahci_port *p, uint32_t val)
{
    uint32_t old = p->regs[P_CMD];
    p->regs[P_CMD] = (old & ~CMD_WRITE) | (val & CMD_WRITE);
    if ((val & CMD_CLO) && !(old & CMD_ST))
        p->regs[P_TFD] &= ~(uint32_t)(ATA_BUSY | ATA_DRQ);
    if ((old & CMD_ST) && !(val & CMD_ST) && p->dev)
        stop_port(p, false);
    kick(p);
}

/* DET 1 keeps the link in reset, 0 lets it come up, 4 switches the port off. */
static void write_sctl(struct ahci_port *p, uint32_t val)
{
    uint32_t old = p->regs[P_SCTL] & SCTL_DET, det = val & SCTL_DET;
    p->regs[P_SCTL] = val & 0xfff;
    if (!p->dev || old == det)
        return;
    if (det) {
        link_down(p);
        stop_port(p, true);
    } else {
        p->draining = true;
        kick(p);
    }
}

static void write_port(struct ahci_port *p, unsigned reg, uint32_t val)
{
    switch (reg) {
    case P_CLB:
        p->regs[reg] = val & ~0x3ffu;
        break;
    case P_FB:
        p->regs[reg] = val & ~0xffu;
        break;
    case P_CLBU:
    case P_FBU:
        p->regs[reg] = val;
        break;
    case P_IS:
        p->regs[reg] &= ~(val & ~IS_PC);
        break;
    case P_IE:
        p->regs[reg] = val & IS_KNOWN;
        break;
    case P_CMD:
        write_cmd(p, val);
        break;
    case P_SCTL:
        write_sctl(p, val);
        break;
    case P_SERR:
        p->regs[reg] &= ~val;
        if (!(p->regs[reg] & SERR_X))
            p->regs[P_IS] &= ~IS_PC;
        break;
    case P_SACT:
    case P_CI:
        if (p->dev && (p->regs[P_CMD] & CMD_ST))
            p->regs[reg] |= val;
        if (reg == P_CI)
            kick(p);
        break;
    default: /* read-only, or not there */
        break;
    }
}

static void reset_hba(struct ahci *a)
{
    a->ghc = GHC_AE;
    a->is = 0;
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        reset_port(&a->ports[i]);
}

/* Registers are written as dwords (3); smaller writes are dropped. */
static void ahci_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct ahci *a = dev;
    uint32_t v = (uint32_t)val;
    if (size != 4 || off % 4)
        return;
    if (off >= R_PORTS) {
        unsigned port = (unsigned)(off - R_PORTS) / (P_REGS * 4);
        if (port < AHCI_PORTS)
            write_port(&a->ports[port], (unsigned)(off - R_PORTS) % (P_REGS * 4) / 4, v);
    } else if (off == R_GHC) {
        a->ghc = (v & GHC_IE) | GHC_AE;
        if (v & GHC_HR) {
            reset_hba(a);
            a->ghc |= any_draining(a) ? GHC_HR : 0;
        }
    } else if (off == R_IS) {
        a->is &= ~v;
        a->irq = false; /* what is left interrupts anew */
    }
    update_irq(a);
}

static const struct io_ops ahci_io = {.read = ahci_read, .write = ahci_write, .max_size = 4};

/* ---- the PCI function ---- */

/* Bus mastering may have been switched on: commands that waited for it go. */
static void ahci_config_written(struct pci_dev *d, unsigned off, unsigned size)
{
    struct ahci *a = container_of(d, struct ahci, pci);
    (void)off, (void)size;
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        if (a->ports[i].regs[P_CI])
            kick(&a->ports[i]);
}

static void ahci_reset(struct pci_dev *d)
{
    struct ahci *a = container_of(d, struct ahci, pci);
    pthread_mutex_lock(&a->bus->lock);
    reset_hba(a);
    update_irq(a);
    while (any_draining(a))
        pthread_cond_wait(&a->drained, &a->bus->lock);
    pthread_mutex_unlock(&a->bus->lock);
}

static const struct pci_ops ahci_pci_ops = {.desc = &ahci_desc, .config_written = ahci_config_written, .reset = ahci_reset};

int ahci_create(struct pci_host *h, struct ahci **out, struct error *err)
{
    static const struct pci_id id = {.vendor = 0x8086, .device = 0x2922, .class_code = 0x010601, .revision = 2};
    struct ahci *a = calloc(1, sizeof *a);
    if (!a)
        return error_set(err, ENOMEM, "device 'ich9-ahci': out of memory; close other programs");
    a->bus = pci_host_bus(h);
    pthread_cond_init(&a->drained, NULL);
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        a->ports[i] = (struct ahci_port){.hba = a, .index = i, .regs = a->port_regs + i * P_REGS, .kick_fd = -1};
    reset_hba(a);
    pci_dev_init(&a->pci, ahci_desc.name, &ahci_pci_ops, &id);
    pci_dev_bar(&a->pci, AHCI_BAR, PCI_BAR_MEM32, AHCI_BAR_SIZE, &ahci_io, a);
    pci_dev_msi(&a->pci);
    pci_dev_pin(&a->pci);
    if (pci_dev_add(h, &a->pci, PCI_PLACE(0, AHCI_SLOT, AHCI_FUNCTION), err) < 0) {
        ahci_destroy(a);
        return -1;
    }
    *out = a;
    return 0;
}

int ahci_attach(struct ahci *a, unsigned port, struct ata_device *dev, struct error *err)
{
    struct ahci_port *p = port < AHCI_PORTS ? &a->ports[port] : NULL;
    if (!p || p->dev)
        return error_set(err, 0, "device 'ich9-ahci': no free port; it has %d, attach fewer disks to the bus 'sata'", AHCI_PORTS);
    p->slots = calloc(AHCI_SLOTS, sizeof *p->slots);
    p->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!p->slots || p->kick_fd < 0)
        return error_set(err, errno, "device 'ich9-ahci': no room for a port: %s; raise the limit of open files (ulimit -n)",
                         strerror(errno));
    for (unsigned i = 0; i < AHCI_SLOTS; i++)
        p->slots[i].port = p;
    p->dev = dev;
    pthread_mutex_lock(&a->bus->lock);
    reset_port(p);
    int r = pthread_create(&p->thread, NULL, port_main, p);
    p->has_thread = r == 0;
    p->dev = r == 0 ? dev : NULL;
    pthread_mutex_unlock(&a->bus->lock);
    return r ? error_set(err, r, "device 'ich9-ahci': cannot start a port's thread: %s; raise the limit of processes (ulimit -u)",
                         strerror(r))
             : 0;
}

void ahci_destroy(struct ahci *a)
{
    if (!a)
        return;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        struct ahci_port *p = &a->ports[i];
        if (p->has_thread) {
            pthread_mutex_lock(&a->bus->lock);
            p->quit = true;
            pthread_mutex_unlock(&a->bus->lock);
            kick(p);
            pthread_join(p->thread, NULL);
        }
        if (p->kick_fd >= 0)
            close(p->kick_fd);
        free(p->slots);
        ata_destroy(p->dev);
    }
    pci_dev_remove(&a->pci);
    pthread_cond_destroy(&a->drained);
    free(a);
}
