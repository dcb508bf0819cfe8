// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Registers of the 82574L. Most are memory that the driver's own code reads again; the few with an effect are in the switches
 * below. The PHY is on a cable that is always good for a gigabit; the NVM holds the MAC address and what drivers ask of it.
 */
#include "devices/ether/e1000e_internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#define BAR_SIZE    0x20000u
#define BAR_MSIX    3
#define NVM_WORDS   0x40u
#define NVM_SUM     0xbaba
#define TURN_FRAMES 64

#define STATUS_VALUE  0x00000083u /* full duplex, link up, 1000 Mbit/s */
#define STATUS_MASTER BIT(19)
#define EEC_VALUE     0x00000300u /* an NVM is there and has been read */
#define EERD_START    BIT(0)
#define EERD_DONE     BIT(1)
#define CFG_DONE      BIT(18)
#define RAH_VALID     BIT(31)

#define MDIC_WRITE (1u << 26)
#define MDIC_READ  (2u << 26)
#define MDIC_OP    (3u << 26)
#define MDIC_READY BIT(28)
#define MDIC_IRQ   BIT(29)
#define MDIC_ERROR BIT(30)
#define PHY_ADDR   1u

static const struct field e1000e_fields[] = {
    FIELD_ARRAY(FIELD_BYTES, struct e1000e, pci.config),
    FIELD_ARRAY(FIELD_U32, struct e1000e, regs),
    FIELD_ARRAY(FIELD_U16, struct e1000e, phy),
    FIELD_EACH(FIELD_U8, struct e1000e, tx, context.ipcss),
    FIELD_EACH(FIELD_U8, struct e1000e, tx, context.ipcso),
    FIELD_EACH(FIELD_U8, struct e1000e, tx, context.tucss),
    FIELD_EACH(FIELD_U8, struct e1000e, tx, context.tucso),
    FIELD_EACH(FIELD_U16, struct e1000e, tx, context.ipcse),
    FIELD_EACH(FIELD_U16, struct e1000e, tx, context.tucse),
    FIELD_EACH(FIELD_U16, struct e1000e, tx, context.mss),
    FIELD_EACH(FIELD_U8, struct e1000e, tx, context.tucmd),
    FIELD_EACH(FIELD_U8, struct e1000e, tx, context.hdrlen),
    FIELD(FIELD_BOOL, struct e1000e, irq),
    FIELD(FIELD_U32, struct e1000e, told),
    {0},
};
static const struct device_desc e1000e_desc = {
    .name = "e1000e", .fields = e1000e_fields, .why_unsaved = "a frame that is half gathered is not among its fields"};

/* ---- PHY and NVM ---- */

enum { PHY_CONTROL = 0, PHY_STATUS = 1 };
#define PHY_RESET   0x8000
#define PHY_RESTART 0x0200

static void reset_phy(struct e1000e *e)
{
    static const uint16_t values[32] = {
        [PHY_CONTROL] = 0x1140, [PHY_STATUS] = 0x796d, /* link, negotiation complete */
        [2] = 0x0141,           [3] = 0x0cb1,          /* the PHY of the 82574 */
        [4] = 0x0de1,           [5] = 0x45e1,          [6] = 0x000f,  [9] = 0x0e00,
        [10] = 0x7800,          [15] = 0x3000,         [16] = 0x0068, [17] = 0xac08, /* 1000 Mbit/s, full duplex, resolved, link */
    };
    memcpy(e->phy, values, sizeof values);
}

static bool phy_writable(unsigned reg)
{
    return reg == PHY_CONTROL || reg == 4 || reg == 9 || reg == 16 || reg == 18 || reg == 20 || reg == 22 || reg >= 26;
}

static void write_mdic(struct e1000e *e, uint32_t val)
{
    unsigned reg = val >> 16 & 31, op = val & MDIC_OP;
    uint32_t result = (val & ~0xffffu) | MDIC_READY;
    if ((val >> 21 & 31) != PHY_ADDR || (op != MDIC_READ && op != MDIC_WRITE)) {
        result |= MDIC_ERROR;
    } else if (op == MDIC_READ) {
        result |= e->phy[reg];
    } else {
        result |= val & 0xffff;
        if (reg == PHY_CONTROL && (val & PHY_RESET))
            reset_phy(e);
        else if (phy_writable(reg))
            e->phy[reg] = (uint16_t)(reg == PHY_CONTROL ? val & ~(uint32_t)PHY_RESTART : val);
    }
    *e_reg(e, MDIC) = result;
    if (val & MDIC_IRQ)
        e1000e_cause(e, INT_MDAC);
}

static uint16_t nvm_word(const struct e1000e *e, unsigned at)
{
    uint16_t w[NVM_WORDS] = {[0x0a] = 0x4400, [0x0b] = 0x0000, [0x0c] = 0x8086, [0x0d] = 0x10d3, [0x0e] = 0x8086, [0x37] = 0xffff};
    uint16_t sum = 0;
    for (unsigned i = 0; i < 3; i++)
        w[i] = (uint16_t)(e->mac[2 * i] | e->mac[2 * i + 1] << 8);
    for (unsigned i = 0; i < NVM_WORDS - 1; i++)
        sum = (uint16_t)(sum + w[i]);
    w[NVM_WORDS - 1] = (uint16_t)(NVM_SUM - sum);
    return at < NVM_WORDS ? w[at] : 0xffff;
}

static void write_eerd(struct e1000e *e, uint32_t val)
{
    uint32_t data = val & EERD_START ? (uint32_t)nvm_word(e, val >> 2 & 0x3fff) << 16 | EERD_DONE : 0;
    *e_reg(e, EERD) = (val & 0xfffc) | data;
}

/* ---- registers ---- */

static void kick(struct e1000e *e)
{
    if (e->has_thread)
        eventfd_write(e->kick_fd, 1);
}

static void reset_card(struct e1000e *e)
{
    memset(e->regs, 0, sizeof e->regs);
    for (unsigned i = 0; i < E_QUEUES; i++)
        e->tx[i] = (struct e1000e_tx){.frame = e->tx[i].frame};
    *e_reg(e, EEC) = EEC_VALUE;
    *e_reg(e, EEMNGCTL) = CFG_DONE;
    *e_reg(e, RAL) = (uint32_t)(e->mac[0] | e->mac[1] << 8 | e->mac[2] << 16) | (uint32_t)e->mac[3] << 24;
    *e_reg(e, RAL + 4) = (uint32_t)(e->mac[4] | e->mac[5] << 8) | RAH_VALID;
    e1000e_update_irq(e);
    kick(e); /* a card that is off drops frames, and the thread may be waiting for room */
}

/* Where a driver finds again what it wrote. Everything else that has no effect reads as it was reset. */
static bool is_memory(unsigned at)
{
    static const struct {
        unsigned first, last;
    } ranges[] = {{0x0018, 0x001c}, {0x0028, 0x003c}, {0x00c4, 0x00c4}, {0x00dc, 0x00fc}, {0x0100, 0x0100},
                  {0x0170, 0x0178}, {0x0400, 0x0418}, {0x0e00, 0x0e04}, {0x0f00, 0x0f14}, {0x1000, 0x100c},
                  {0x1014, 0x1038}, {0x2008, 0x2010}, {0x2160, 0x2174}, {0x2800, 0x282c}, {0x2900, 0x292c},
                  {0x2c00, 0x2c08}, {0x3800, 0x3840}, {0x3900, 0x3940}, {0x5000, 0x5010}, {0x5200, 0x57fc},
                  {0x5800, 0x582c}, {0x5900, 0x5a00}, {0x5b00, 0x5b5c}, {0x5c00, 0x5cfc}, {0xb600, 0xb640}};
    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
        if (at >= ranges[i].first && at <= ranges[i].last)
            return true;
    return false;
}

static uint32_t read_reg(struct e1000e *e, unsigned at)
{
    uint32_t v = *e_reg(e, at);
    switch (at) {
    case STATUS:
        return STATUS_VALUE | (*e_reg(e, CTRL) & CTRL_MASTER_DISABLE ? 0 : STATUS_MASTER);
    case ICR:
        return e1000e_read_icr(e);
    case SYSTIML:
        return (uint32_t)now_ns();
    case SYSTIMH:
        return (uint32_t)(now_ns() >> 32);
    case STATS ... STATS_END - 4:
        *e_reg(e, at) = 0;
        return v;
    default:
        return v;
    }
}

static uint64_t e1000e_read(void *dev, uint64_t off, unsigned size)
{
    unsigned at = (unsigned)off & ~3u;
    uint32_t v = at < E_REG_BYTES ? read_reg(dev, at) : 0;
    v >>= 8 * (off & 3);
    return size < 4 ? v & ((1u << (8 * size)) - 1) : v;
}

static void write_ctrl(struct e1000e *e, uint32_t val)
{
    if (val & CTRL_RST) {
        reset_card(e);
        return;
    }
    if (val & CTRL_PHY_RST)
        reset_phy(e);
    *e_reg(e, CTRL) = val & ~CTRL_PHY_RST;
}

static void write_reg(struct e1000e *e, unsigned at, uint32_t v)
{
    switch (at) {
    case CTRL:
    case 0x0004: /* where CTRL is seen a second time */
        write_ctrl(e, v);
        break;
    case EERD:
        write_eerd(e, v);
        break;
    case MDIC:
        write_mdic(e, v);
        break;
    case ICR:
        *e_reg(e, ICR) &= ~v;
        break;
    case ICS:
        e1000e_cause(e, v);
        break;
    case IMS:
        *e_reg(e, IMS) |= v;
        break;
    case IMC:
        *e_reg(e, IMS) &= ~v;
        break;
    case RDLEN:
    case RDLEN + E_QUEUE:
    case TDLEN:
    case TDLEN + E_QUEUE:
        *e_reg(e, at) = v & 0xfff80;
        break;
    case RDH:
    case RDH + E_QUEUE:
    case RDT:
    case RDT + E_QUEUE:
    case TDH:
    case TDH + E_QUEUE:
    case TDT:
    case TDT + E_QUEUE:
        *e_reg(e, at) = v & 0xffff;
        kick(e);
        break;
    default:
        if (is_memory(at))
            *e_reg(e, at) = v;
        if (at == TCTL || at == RCTL)
            kick(e);
        break;
    }
    e1000e_update_irq(e);
}

/* Registers are written as dwords; smaller writes are dropped. */
static void e1000e_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    if (size == 4 && off % 4 == 0 && off < E_REG_BYTES)
        write_reg(dev, (unsigned)off, (uint32_t)val);
}

static const struct io_ops e1000e_io = {.read = e1000e_read, .write = e1000e_write, .max_size = 4};

/* ---- the thread ---- */

static void *card_main(void *arg)
{
    struct e1000e *e = arg;
    struct pollset p = {.timeout_ms = -1};
    eventfd_t count;
    for (;;) {
        pthread_mutex_lock(&e->bus->lock);
        bool quit = e->quit;
        pthread_mutex_unlock(&e->bus->lock);
        if (quit)
            break;
        bool more = e1000e_transmit(e, TURN_FRAMES), room = e1000e_has_room(e);
        pollset_clear(&p);
        p.timeout_ms = more ? 0 : -1;
        int kicked = pollset_add(&p, e->kick_fd, POLLIN);
        if (room)
            e->net->ops->prepare(e->net, &p);
        if (poll(p.fds, p.n, p.timeout_ms) < 0)
            continue;
        if (pollset_revents(&p, kicked))
            eventfd_read(e->kick_fd, &count);
        if (room)
            e->net->ops->dispatch(e->net, &p);
        if (e->pcap)
            pcap_flush(e->pcap);
    }
    pollset_free(&p);
    return NULL;
}

static void e1000e_reset(struct pci_dev *d)
{
    struct e1000e *e = container_of(d, struct e1000e, pci);
    pthread_mutex_lock(&e->bus->lock);
    reset_card(e);
    reset_phy(e);
    pthread_mutex_unlock(&e->bus->lock);
}

static void e1000e_bus_reset(struct pci_dev *d)
{
    struct e1000e *e = container_of(d, struct e1000e, pci);
    reset_card(e);
    reset_phy(e);
}

/* Bus mastering or messages may have been switched on. */
static void e1000e_config_written(struct pci_dev *d, unsigned off, unsigned size)
{
    struct e1000e *e = container_of(d, struct e1000e, pci);
    (void)off, (void)size;
    e1000e_update_irq(e);
    kick(e);
}

static const struct pci_ops e1000e_pci_ops = {
    .desc = &e1000e_desc, .config_written = e1000e_config_written, .reset = e1000e_reset, .bus_reset = e1000e_bus_reset};

static int start(struct e1000e *e, struct error *err)
{
    e->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool room = (e->tx_room = malloc(NET_FRAME_MAX));
    for (unsigned i = 0; i < E_QUEUES; i++)
        room = (e->tx[i].frame = malloc(NET_FRAME_MAX)) && room;
    if (e->kick_fd < 0 || !room)
        return error_set(err, errno, "device 'e1000e': no room for it: %s; raise the limit of open files (ulimit -n)",
                         strerror(errno));
    int r = pthread_create(&e->thread, NULL, card_main, e);
    e->has_thread = r == 0;
    return r ? error_set(err, r, "device 'e1000e': cannot start its thread: %s; raise the limit of processes (ulimit -u)",
                         strerror(r))
             : 0;
}

int e1000e_create(struct pci_host *h, const struct e1000e_config *cfg, struct e1000e **out, struct error *err)
{
    static const struct pci_id id = {
        .vendor = 0x8086, .device = 0x10d3, .subsystem_vendor = 0x8086, .subsystem = 0x0000, .class_code = 0x020000};
    struct e1000e *e = calloc(1, sizeof *e);
    if (!e)
        return error_set(err, ENOMEM, "device 'e1000e': out of memory; close other programs");
    e->bus = pci_host_bus(h);
    e->net = cfg->net;
    e->pcap = cfg->pcap;
    e->kick_fd = -1;
    memcpy(e->mac, cfg->mac, sizeof e->mac);
    pci_dev_init(&e->pci, e1000e_desc.name, &e1000e_pci_ops, &id);
    pci_dev_bar(&e->pci, 0, PCI_BAR_MEM32, BAR_SIZE, &e1000e_io, e);
    pci_dev_msi(&e->pci);
    pci_dev_express(&e->pci);
    pci_dev_pin(&e->pci);
    if (pci_dev_msix(&e->pci, BAR_MSIX, E_VECTORS, err) < 0 || pci_dev_add(h, &e->pci, cfg->slot, err) < 0) {
        e1000e_destroy(e);
        return -1;
    }
    reset_card(e);
    reset_phy(e);
    e->net->receive = e1000e_receive;
    e->net->opaque = e;
    if (start(e, err) < 0) {
        e1000e_destroy(e);
        return -1;
    }
    *out = e;
    return 0;
}

unsigned e1000e_slot(const struct e1000e *e)
{
    return PCI_SLOT(e->pci.devfn);
}

void e1000e_destroy(struct e1000e *e)
{
    if (!e)
        return;
    if (e->has_thread) {
        pthread_mutex_lock(&e->bus->lock);
        e->quit = true;
        kick(e);
        pthread_mutex_unlock(&e->bus->lock);
        pthread_join(e->thread, NULL);
    }
    e->net->receive = NULL;
    pci_dev_remove(&e->pci);
    if (e->kick_fd >= 0)
        close(e->kick_fd);
    for (unsigned i = 0; i < E_QUEUES; i++)
        free(e->tx[i].frame);
    free(e->tx_room);
    free(e);
}
