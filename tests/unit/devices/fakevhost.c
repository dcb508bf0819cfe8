// SPDX-License-Identifier: GPL-2.0-or-later
#include "fakevhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

struct fake_vhost fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static unsigned count_backends(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < 2 * VHOST_KERNEL_PAIRS_MAX; i++)
        n += fake.pairs[i / 2].rings[i % 2].backend >= 0;
    return n;
}

static void clear_pair(struct fake_pair *p)
{
    *p = (struct fake_pair){.fd = -1, .tap = p->tap, .attached = p->attached};
    for (unsigned i = 0; i < 2; i++)
        p->rings[i] = (struct fake_ring){.kick = -1, .call = -1, .trouble = -1, .backend = -1};
}

static void drop(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void fake_reset(void)
{
    pthread_mutex_lock(&fake.lock);
    fake.opened = fake.taps = fake.calls = fake.fail_at = 0;
    fake.offered = BIT64(32) | BIT64(15) | BIT64(28) | BIT64(29) | BIT64(VHOST_F_LOG_ALL) | BIT64(VHOST_NET_F_VIRTIO_NET_HDR);
    for (unsigned i = 0; i < VHOST_KERNEL_PAIRS_MAX; i++) {
        fake.pairs[i].tap = -1;
        clear_pair(&fake.pairs[i]);
    }
    pthread_mutex_unlock(&fake.lock);
}

unsigned fake_backends(void)
{
    pthread_mutex_lock(&fake.lock);
    unsigned n = count_backends();
    pthread_mutex_unlock(&fake.lock);
    return n;
}

bool fake_wait_backends(unsigned n)
{
    struct timespec end;
    int r = 0;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 60;
    pthread_mutex_lock(&fake.lock);
    while (count_backends() != n && r == 0)
        r = pthread_cond_timedwait(&fake.changed, &fake.lock, &end);
    bool reached = count_backends() == n;
    pthread_mutex_unlock(&fake.lock);
    return reached;
}

/* ---- the kernel's side, under the lock ---- */

static bool fails(void)
{
    if (++fake.calls != fake.fail_at)
        return false;
    errno = fake.fail_with;
    return true;
}

static int set_memory(struct fake_pair *p, const struct vhost_memory *m)
{
    CHECK(m->nregions && m->nregions <= ARRAY_SIZE(p->regions) && !m->padding);
    memcpy(p->regions, m->regions, m->nregions * sizeof m->regions[0]);
    p->nregions = m->nregions;
    p->has_memory = true;
    return 0;
}

/* The kernel wants the rings within the table. */
static bool in_memory(const struct fake_pair *p, uint64_t addr, uint64_t len)
{
    for (unsigned i = 0; i < p->nregions; i++)
        if (addr >= p->regions[i].userspace_addr && addr + len <= p->regions[i].userspace_addr + p->regions[i].memory_size)
            return true;
    return false;
}

static int set_backend(struct fake_pair *p, const struct vhost_vring_file *f)
{
    struct fake_ring *r = &p->rings[f->index];
    if (f->fd >= 0) {
        CHECK(p->has_features && p->has_memory && p->attached && r->sized && r->based && r->addressed && r->kick >= 0 &&
              r->call >= 0 && r->trouble >= 0);
        CHECK_EQ(f->fd, p->tap);
        CHECK(in_memory(p, r->addr.desc_user_addr, 16 * r->size) && in_memory(p, r->addr.avail_user_addr, 4 + 2 * r->size) &&
              in_memory(p, r->addr.used_user_addr, 4 + 8 * r->size));
    }
    r->backend = f->fd;
    return 0;
}

static int set_ring(struct fake_pair *p, unsigned long request, const void *arg)
{
    unsigned index;
    memcpy(&index, arg, sizeof index); /* of each of them the first field */
    CHECK(index < 2);
    struct fake_ring *r = &p->rings[index];
    const struct vhost_vring_state *state = arg;
    const struct vhost_vring_file *file = arg;
    if (request == VHOST_NET_SET_BACKEND)
        return set_backend(p, arg);
    CHECK(r->backend < 0 && p->has_memory);
    if (request == VHOST_SET_VRING_NUM) {
        CHECK(state->num && !(state->num & (state->num - 1)));
        r->size = state->num;
        r->sized = true;
    } else if (request == VHOST_SET_VRING_BASE) {
        r->base = state->num;
        r->based = true;
    } else if (request == VHOST_SET_VRING_ADDR) {
        memcpy(&r->addr, arg, sizeof r->addr);
        CHECK(!r->addr.flags && !(r->addr.desc_user_addr % 16) && !(r->addr.used_user_addr % 4) && !(r->addr.avail_user_addr % 2));
        r->addressed = true;
    } else {
        int *fd = request == VHOST_SET_VRING_KICK ? &r->kick : request == VHOST_SET_VRING_CALL ? &r->call : &r->trouble;
        drop(fd);
        *fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0); /* a reference of its own, as the kernel has */
        CHECK(*fd >= 0);
    }
    return 0;
}

static int obey(struct fake_pair *p, unsigned long request, void *arg)
{
    CHECK(p->owned || request == VHOST_SET_OWNER);
    switch (request) {
    case VHOST_SET_OWNER:
        CHECK(!p->owned);
        p->owned = true;
        return 0;
    case VHOST_GET_FEATURES:
        memcpy(arg, &fake.offered, sizeof fake.offered);
        return 0;
    case VHOST_SET_FEATURES:
        memcpy(&p->features, arg, sizeof p->features);
        CHECK(!(p->features & ~fake.offered));
        p->has_features = true;
        return 0;
    case VHOST_SET_MEM_TABLE:
        return set_memory(p, arg);
    case VHOST_NET_SET_BACKEND:
    case VHOST_SET_VRING_NUM:
    case VHOST_SET_VRING_BASE:
    case VHOST_SET_VRING_ADDR:
    case VHOST_SET_VRING_KICK:
    case VHOST_SET_VRING_CALL:
    case VHOST_SET_VRING_ERR:
        return set_ring(p, request, arg);
    default:
        CHECK(!"an ioctl that the kernel has");
        return -1;
    }
}

static int tap_obeys(struct fake_pair *p, unsigned long request, void *arg)
{
    if (request == TUNSETOFFLOAD) {
        fake.offloads = (unsigned)(uintptr_t)arg;
        return 0;
    }
    CHECK(request == TUNSETQUEUE);
    const struct ifreq *ifr = arg;
    bool on = ifr->ifr_flags == IFF_ATTACH_QUEUE;
    CHECK(on != p->attached && (on || (p->rings[0].backend < 0 && p->rings[1].backend < 0)));
    p->attached = on;
    return 0;
}

/* ---- the calls ---- */

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
    int r = -1;
    pthread_mutex_lock(&fake.lock);
    if (!fails())
        for (unsigned i = 0; i < VHOST_KERNEL_PAIRS_MAX; i++) {
            struct fake_pair *p = &fake.pairs[i];
            if (fd == p->fd || fd == p->tap) {
                r = fd == p->fd ? obey(p, request, arg) : tap_obeys(p, request, arg);
                break;
            }
        }
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
    return r;
}

static int fake_open(const char *path, int flags)
{
    int fd = -1;
    CHECK(strcmp(path, "/dev/vhost-net") == 0 && (flags & O_CLOEXEC));
    pthread_mutex_lock(&fake.lock);
    if (!fails()) {
        struct fake_pair *p = fake.pairs;
        while (p < fake.pairs + VHOST_KERNEL_PAIRS_MAX && p->fd >= 0)
            p++;
        CHECK(p < fake.pairs + VHOST_KERNEL_PAIRS_MAX);
        p->fd = fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        fake.opened++;
    }
    pthread_mutex_unlock(&fake.lock);
    return fd;
}

static void fake_close(int fd)
{
    struct fake_pair *p = fake.pairs;
    pthread_mutex_lock(&fake.lock);
    while (p < fake.pairs + VHOST_KERNEL_PAIRS_MAX && p->fd != fd)
        p++;
    CHECK(p < fake.pairs + VHOST_KERNEL_PAIRS_MAX);
    for (unsigned i = 0; i < 2; i++) {
        drop(&p->rings[i].kick);
        drop(&p->rings[i].call);
        drop(&p->rings[i].trouble);
    }
    clear_pair(p);
    close(fd);
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

static int fake_open_tap(const struct net_tap_config *cfg, unsigned queues, struct net_tap_queues *out, struct error *err)
{
    int r = 0;
    (void)cfg;
    pthread_mutex_lock(&fake.lock);
    if (fails())
        r = error_set(err, EPERM, "tap '" FAKE_TAP "': not permitted; ask root");
    for (unsigned i = 0; r == 0 && i < queues; i++) {
        out->fds[out->count++] = fake.pairs[i].tap = open("/dev/null", O_RDWR | O_CLOEXEC);
        fake.pairs[i].attached = true;
        fake.taps++;
    }
    strcpy(out->name, FAKE_TAP);
    pthread_mutex_unlock(&fake.lock);
    return r;
}

const struct vhost_kernel_sys fake_sys = {fake_open, fake_close, fake_ioctl, fake_open_tap};
