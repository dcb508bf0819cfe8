// SPDX-License-Identifier: GPL-2.0-or-later
#include "rig.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

#define WAIT_NS (150 * NS_PER_S)

static int set_gsi(void *board, unsigned gsi, bool level)
{
    struct rig *r = board;
    CHECK(gsi < ARRAY_SIZE(r->gsi));
    pthread_mutex_lock(&r->lock);
    r->gsi_rises[gsi] += level && !r->gsi[gsi];
    r->gsi[gsi] = level;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

static int send_msi(void *board, uint64_t addr, uint32_t data)
{
    struct rig *r = board;
    pthread_mutex_lock(&r->lock);
    if (addr == 0xfee00000 && data < RIG_VECTORS)
        r->msi[data]++;
    else
        r->msi_other++;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

static int ioeventfd(void *board, int fd, enum bus_space space, uint64_t addr, unsigned size, bool match, uint64_t data,
                     bool assign)
{
    struct rig *r = board;
    (void)data;
    CHECK(space == BUS_MMIO && size == 2 && !match);
    if (!r->use_ioeventfds)
        return -ENOSYS;
    for (unsigned i = 0; i < ARRAY_SIZE(r->ioeventfds); i++) {
        struct rig_ioeventfd *e = &r->ioeventfds[i];
        if (assign ? e->addr == 0 : e->addr == addr && e->fd == fd) {
            *e = assign ? (struct rig_ioeventfd){fd, addr} : (struct rig_ioeventfd){0};
            return 0;
        }
    }
    CHECK(!"an ioeventfd that was assigned");
    return -ENOENT;
}

static void event(void *board, int what, int code)
{
    struct rig *r = board;
    pthread_mutex_lock(&r->lock);
    r->events[what]++;
    r->event_code = code;
    pthread_mutex_unlock(&r->lock);
}

static const struct board_ops rig_ops = {.set_gsi = set_gsi, .send_msi = send_msi, .ioeventfd = ioeventfd, .event = event};

void rig_init(struct rig *r)
{
    rig_init_firmware(r, NULL, NULL);
}

void rig_init_firmware(struct rig *r, void (*pam)(void *, const uint8_t *), void *opaque)
{
    const struct pci_host_config pci = {
        .ecam_base = RIG_ECAM,
        .buses = 256,
        .mmio32 = {RIG_MMIO32, 64 * MIB},
        .mmio64 = {RIG_MMIO64, GIB},
        .io = {RIG_IO, 0x1000},
        .pam = pam,
        .opaque = opaque,
    };
    ERROR_SCOPED(err);
    memset(r, 0, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    CHECK(guestmem_init(&r->mem, RIG_LOW + RIG_HIGH, RIG_LOW, &err) == 0);
    bus_init(&r->bus, &r->mem, &rig_ops, r);
    CHECK(pci_host_create(&r->bus, &pci, &r->pci, &err) == 0);
    r->next = MIB;
    r->use_ioeventfds = true;
}

void rig_free(struct rig *r)
{
    pci_host_destroy(r->pci);
    for (unsigned i = 0; i < ARRAY_SIZE(r->ioeventfds); i++)
        CHECK_EQ(r->ioeventfds[i].addr, 0);
    CHECK_EQ(r->bus.nranges[BUS_MMIO], 0);
    CHECK_EQ(r->bus.nranges[BUS_PORT], 0);
    bus_free(&r->bus);
    guestmem_free(&r->mem);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
}

uint64_t rig_alloc(struct rig *r, uint64_t len, uint64_t align)
{
    uint64_t gpa = ALIGN_UP(r->next, align);
    CHECK(gpa + len <= RIG_LOW);
    r->next = gpa + len;
    memset(rig_at(r, gpa), 0, len);
    return gpa;
}

void *rig_at(struct rig *r, uint64_t gpa)
{
    void *p = guestmem_ptr(&r->mem, gpa, 1);
    CHECK(p);
    return p;
}

uint64_t rig_read(struct rig *r, enum bus_space space, uint64_t addr, unsigned size)
{
    uint64_t v = 0;
    bus_read(&r->bus, space, addr, &v, size);
    return v;
}

void rig_write(struct rig *r, enum bus_space space, uint64_t addr, unsigned size, uint64_t val)
{
    uint64_t one = 1;
    for (unsigned i = 0; space == BUS_MMIO && size == 2 && i < ARRAY_SIZE(r->ioeventfds); i++) {
        if (addr && r->ioeventfds[i].addr == addr) {
            CHECK(write(r->ioeventfds[i].fd, &one, sizeof one) == sizeof one);
            return;
        }
    }
    bus_write(&r->bus, space, addr, &val, size);
}

uint32_t rig_cfg_read(struct rig *r, unsigned devfn, unsigned off, unsigned size)
{
    return (uint32_t)rig_read(r, BUS_MMIO, RIG_ECAM + (devfn << 12) + off, size);
}

void rig_cfg_write(struct rig *r, unsigned devfn, unsigned off, unsigned size, uint32_t val)
{
    rig_write(r, BUS_MMIO, RIG_ECAM + (devfn << 12) + off, size, val);
}

unsigned rig_cap(struct rig *r, unsigned devfn, uint8_t id, unsigned after)
{
    unsigned at = rig_cfg_read(r, devfn, after ? after + 1 : 0x34, 1);
    for (unsigned i = 0; at && i < 64; i++) {
        CHECK(at >= 0x40 && at % 4 == 0);
        if (rig_cfg_read(r, devfn, at, 1) == id)
            return at;
        at = rig_cfg_read(r, devfn, at + 1, 1);
    }
    CHECK_EQ(at, 0);
    return 0;
}

/* Waits for a change of the record until the deadline; false when it has passed. The lock is held. */
static bool wait_change(struct rig *r, uint64_t deadline)
{
    struct timespec ts;
    uint64_t now = now_ns();
    if (now >= deadline)
        return false;
    clock_gettime(CLOCK_REALTIME, &ts);
    uint64_t ns = (uint64_t)ts.tv_nsec + MIN(deadline - now, 100000000ull);
    ts.tv_sec += (time_t)(ns / NS_PER_S);
    ts.tv_nsec = (long)(ns % NS_PER_S);
    pthread_cond_timedwait(&r->changed, &r->lock, &ts);
    return true;
}

bool rig_wait_msi(struct rig *r, unsigned data, unsigned seen)
{
    uint64_t deadline = now_ns() + WAIT_NS;
    pthread_mutex_lock(&r->lock);
    while (r->msi[data] <= seen && wait_change(r, deadline))
        ;
    bool ok = r->msi[data] > seen;
    pthread_mutex_unlock(&r->lock);
    return ok;
}

bool rig_wait_gsi(struct rig *r, unsigned gsi, bool level)
{
    uint64_t deadline = now_ns() + WAIT_NS;
    pthread_mutex_lock(&r->lock);
    while (r->gsi[gsi] != level && wait_change(r, deadline))
        ;
    bool ok = r->gsi[gsi] == level;
    pthread_mutex_unlock(&r->lock);
    return ok;
}

unsigned rig_msis(struct rig *r, unsigned data)
{
    pthread_mutex_lock(&r->lock);
    unsigned n = r->msi[data];
    pthread_mutex_unlock(&r->lock);
    return n;
}

bool rig_gsi(struct rig *r, unsigned gsi)
{
    pthread_mutex_lock(&r->lock);
    bool level = r->gsi[gsi];
    pthread_mutex_unlock(&r->lock);
    return level;
}

unsigned rig_events(struct rig *r, int what)
{
    pthread_mutex_lock(&r->lock);
    unsigned n = r->events[what];
    pthread_mutex_unlock(&r->lock);
    return n;
}
