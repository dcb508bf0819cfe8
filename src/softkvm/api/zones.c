// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest writes that user space need not see at once: ioeventfds (a doorbell becomes an eventfd) and coalesced zones (writes are put
 * into a ring that user space empties before it handles its next exit).
 *
 * There is one ring for each VM, as in KVM. It lies in the mapping of the first vCPU: a page cannot be part of two memfds, so the
 * other vCPUs' mappings have a ring page that stays empty.
 */
#include <errno.h>
#include <string.h>

#include "softkvm/api/api.h"

#define MAX_IOEVENTFDS 1000 /* as NR_IOBUS_DEVS */
#define MAX_COALESCED  1000

struct ioeventfd {
    uint64_t addr, datamatch;
    uint64_t id; /* of the eventfd */
    uint32_t len; /* 0: any */
    bool port, match;
    int fd; /* owned */
};

void zones_init(struct io_zones *z)
{
    pthread_rwlock_init(&z->lock, NULL);
}

void zones_free(struct io_zones *z)
{
    for (unsigned i = 0; i < z->nevents; i++)
        close(z->events[i].fd);
    free(z->events);
    free(z->coalesced);
    pthread_rwlock_destroy(&z->lock);
}

/* ---- ioeventfd ---- */

static int check_ioeventfd(const struct kvm_ioeventfd *e)
{
    if (e->len > 8 || (e->len & (e->len - 1) && e->len)) /* 0 (any), 1, 2, 4, 8 */
        return -EINVAL;
    if (e->addr + e->len < e->addr)
        return -EINVAL;
    if (e->flags & ~(uint32_t)(KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN))
        return -EINVAL;
    if (!e->len && (e->flags & KVM_IOEVENTFD_FLAG_DATAMATCH))
        return -EINVAL;
    return 0;
}

/* Would both take the same write? */
static bool collide(const struct ioeventfd *a, const struct ioeventfd *b)
{
    if (a->port != b->port || a->addr != b->addr)
        return false;
    if (!a->len || !b->len)
        return true;
    return a->len == b->len && (!a->match || !b->match || a->datamatch == b->datamatch);
}

static bool same(const struct ioeventfd *a, const struct ioeventfd *b)
{
    return a->id == b->id && a->port == b->port && a->addr == b->addr && a->len == b->len && a->match == b->match &&
           (!a->match || a->datamatch == b->datamatch);
}

static int event_add(struct io_zones *z, const struct ioeventfd *e)
{
    for (unsigned i = 0; i < z->nevents; i++)
        if (collide(&z->events[i], e))
            return -EEXIST;
    if (z->nevents == MAX_IOEVENTFDS)
        return -ENOSPC;
    struct ioeventfd *more = realloc(z->events, (z->nevents + 1) * sizeof(*more));
    if (!more)
        return -ENOMEM;
    z->events = more;
    z->events[z->nevents++] = *e;
    return 0;
}

static int event_remove(struct io_zones *z, const struct ioeventfd *e)
{
    for (unsigned i = 0; i < z->nevents; i++) {
        if (!same(&z->events[i], e))
            continue;
        close(z->events[i].fd);
        z->events[i] = z->events[--z->nevents];
        return 0;
    }
    return -ENOENT;
}

int ioeventfd_ioctl(struct softkvm_vm *vm, void *arg)
{
    struct io_zones *z = &vm->api->zones;
    struct kvm_ioeventfd k = *(const struct kvm_ioeventfd *)arg;
    int err = check_ioeventfd(&k);
    if (err)
        return err;
    struct ioeventfd e = {.addr = k.addr,
                          .datamatch = k.datamatch,
                          .len = k.len,
                          .port = k.flags & KVM_IOEVENTFD_FLAG_PIO,
                          .match = k.flags & KVM_IOEVENTFD_FLAG_DATAMATCH,
                          .fd = -1};
    bool remove = k.flags & KVM_IOEVENTFD_FLAG_DEASSIGN;
    if (remove)
        err = eventfd_identify(k.fd, &e.id);
    else if ((e.fd = eventfd_dup(k.fd, &e.id)) < 0)
        err = e.fd;
    if (err)
        return err;
    pthread_rwlock_wrlock(&z->lock);
    err = remove ? event_remove(z, &e) : event_add(z, &e);
    pthread_rwlock_unlock(&z->lock);
    if (err && e.fd >= 0)
        close(e.fd);
    return err;
}

static uint64_t value_of(const void *data, unsigned size)
{
    uint64_t val = 0;
    memcpy(&val, data, size);
    return val;
}

static bool event_write(const struct io_zones *z, bool port, uint64_t addr, const void *data, unsigned size)
{
    for (unsigned i = 0; i < z->nevents; i++) {
        const struct ioeventfd *e = &z->events[i];
        if (e->addr != addr || e->port != port || (e->len && e->len != size))
            continue;
        if (e->match && value_of(data, size) != e->datamatch)
            continue;
        uint64_t one = 1;
        while (write(e->fd, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
        return true;
    }
    return false;
}

/* ---- coalesced zones ---- */

static bool zone_covers(const struct kvm_coalesced_mmio_zone *z, uint64_t addr, uint64_t size)
{
    return addr >= z->addr && addr - z->addr <= z->size && size <= z->size - (addr - z->addr);
}

int coalesced_register(struct softkvm_vm *vm, void *arg)
{
    struct io_zones *z = &vm->api->zones;
    struct kvm_coalesced_mmio_zone zone = *(const struct kvm_coalesced_mmio_zone *)arg;
    if (zone.pio > 1)
        return -EINVAL;
    int err = 0;
    pthread_rwlock_wrlock(&z->lock);
    struct kvm_coalesced_mmio_zone *more = NULL;
    if (z->ncoalesced == MAX_COALESCED)
        err = -ENOSPC;
    else if (!(more = realloc(z->coalesced, (z->ncoalesced + 1) * sizeof(*more))))
        err = -ENOMEM;
    if (more) {
        z->coalesced = more;
        z->coalesced[z->ncoalesced++] = zone;
    }
    pthread_rwlock_unlock(&z->lock);
    return err;
}

/* Removes every zone that covers the given range; none is no error. */
int coalesced_unregister(struct softkvm_vm *vm, void *arg)
{
    struct io_zones *z = &vm->api->zones;
    struct kvm_coalesced_mmio_zone zone = *(const struct kvm_coalesced_mmio_zone *)arg;
    if (zone.pio > 1)
        return -EINVAL;
    pthread_rwlock_wrlock(&z->lock);
    unsigned kept = 0;
    for (unsigned i = 0; i < z->ncoalesced; i++)
        if (z->coalesced[i].pio != zone.pio || !zone_covers(&z->coalesced[i], zone.addr, zone.size))
            z->coalesced[kept++] = z->coalesced[i];
    z->ncoalesced = kept;
    pthread_rwlock_unlock(&z->lock);
    return 0;
}

/* False when the ring is full: the write then becomes an ordinary exit, at which user space empties the ring. */
static bool ring_put(struct kvm_coalesced_mmio_ring *ring, bool port, uint64_t addr, const void *data, unsigned size)
{
    uint32_t first = __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE), last = ring->last;
    if (last >= KVM_COALESCED_MMIO_MAX || (last + 1) % KVM_COALESCED_MMIO_MAX == first)
        return false;
    struct kvm_coalesced_mmio *m = &ring->coalesced_mmio[last];
    m->phys_addr = addr;
    m->len = size;
    m->pio = port;
    memcpy(m->data, data, size);
    __atomic_store_n(&ring->last, (last + 1) % KVM_COALESCED_MMIO_MAX, __ATOMIC_RELEASE);
    return true;
}

static bool coalesced_hit(const struct io_zones *z, bool port, uint64_t addr, unsigned size)
{
    for (unsigned i = 0; i < z->ncoalesced; i++)
        if (z->coalesced[i].pio == port && zone_covers(&z->coalesced[i], addr, size))
            return true;
    return false;
}

bool zones_write(struct softkvm_vm *vm, bool port, uint64_t addr, const void *data, unsigned size)
{
    struct io_zones *z = &vm->api->zones;
    pthread_rwlock_rdlock(&z->lock);
    bool taken = event_write(z, port, addr, data, size);
    bool coalesce = !taken && coalesced_hit(z, port, addr, size);
    pthread_rwlock_unlock(&z->lock);
    if (!coalesce)
        return taken;
    pthread_rwlock_wrlock(&z->lock); /* one vCPU at a time fills the ring */
    taken = z->ring && coalesced_hit(z, port, addr, size) && ring_put(z->ring, port, addr, data, size);
    pthread_rwlock_unlock(&z->lock);
    return taken;
}
