// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * irqfds: an eventfd that raises a GSI, for level interrupts with a second one that says when the guest has ended it.
 *
 * We keep our own copy of each descriptor, so that user space may close its own, and know eventfds apart by the id that the kernel
 * gives them. The GSI is looked up in the routing table at each event, so a change of routes is seen at once.
 *
 * Locks: irqfds.change lets one KVM_IRQFD in at a time. irqfds.lock guards the lists and is taken by ack notifiers, which run
 * inside irqchip calls. So neither worker_unwatch() nor any irqchip call that may wait for a notifier is made with it held.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "softkvm/api/api.h"

struct irqfd {
    struct irqfd *next;
    struct softkvm_vm *vm;
    struct worker_source source; /* fd owned */
    uint64_t id;
    uint32_t gsi;
    int resample_fd; /* owned; -1: edge */
};

/* All resampling irqfds of one GSI share its line. */
struct resampler {
    struct resampler *next;
    struct softkvm_vm *vm;
    uint32_t gsi;
    unsigned users;
};

int eventfd_identify(int fd, uint64_t *id)
{
    char path[64], line[128];
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    FILE *f = fopen(path, "re");
    if (!f)
        return fcntl(fd, F_GETFD) < 0 ? -EBADF : -errno;
    bool found = false;
    while (!found && fgets(line, sizeof(line), f)) {
        unsigned long long n;
        found = sscanf(line, "eventfd-id: %llu", &n) == 1;
        if (found)
            *id = n;
    }
    fclose(f);
    return found ? 0 : -EINVAL;
}

int eventfd_dup(int fd, uint64_t *id)
{
    int err = eventfd_identify(fd, id);
    if (err)
        return err;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? -errno : copy;
}

/* Takes the count; false when another reader was faster. The descriptor may be a blocking one, and is user space's too. */
static bool consume(int fd)
{
    uint64_t count;
    struct iovec iov = {.iov_base = &count, .iov_len = sizeof(count)};
    return preadv2(fd, &iov, 1, -1, RWF_NOWAIT) == (ssize_t)sizeof(count);
}

static void signal_eventfd(int fd)
{
    uint64_t one = 1;
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* On the worker. */
static void irqfd_fire(struct worker_source *s)
{
    struct irqfd *f = container_of(s, struct irqfd, source);
    if (!consume(s->fd))
        return;
    if (f->resample_fd >= 0) {
        irqchip_set_gsi(f->vm, (unsigned)f->vm->api->irqfds.source, f->gsi, true);
        return;
    }
    irqchip_set_gsi(f->vm, 0, f->gsi, true);
    irqchip_set_gsi(f->vm, 0, f->gsi, false);
}

/* The guest has ended the interrupt: the line goes down, and whoever still wants it raises it again. */
static void resampler_ack(void *opaque)
{
    struct resampler *r = opaque;
    struct irqfds *q = &r->vm->api->irqfds;
    irqchip_set_gsi(r->vm, (unsigned)q->source, r->gsi, false);
    pthread_mutex_lock(&q->lock);
    for (struct irqfd *f = q->list; f; f = f->next)
        if (f->gsi == r->gsi && f->resample_fd >= 0)
            signal_eventfd(f->resample_fd);
    pthread_mutex_unlock(&q->lock);
}

/* With the lock held: the GSI's resampler, with one more user. `first`: its notifier is to be added. */
static struct resampler *resampler_take(struct softkvm_vm *vm, uint32_t gsi, bool *first)
{
    struct irqfds *q = &vm->api->irqfds;
    struct resampler *r = q->resamplers;
    while (r && r->gsi != gsi)
        r = r->next;
    if (!r && (r = calloc(1, sizeof(*r)))) {
        r->vm = vm;
        r->gsi = gsi;
        r->next = q->resamplers;
        q->resamplers = r;
    }
    if (r)
        *first = r->users++ == 0;
    return r;
}

static void resampler_release(struct softkvm_vm *vm, uint32_t gsi)
{
    struct irqfds *q = &vm->api->irqfds;
    pthread_mutex_lock(&q->lock);
    struct resampler *r = q->resamplers;
    while (r && r->gsi != gsi)
        r = r->next;
    bool last = r && --r->users == 0;
    pthread_mutex_unlock(&q->lock);
    if (!last)
        return;
    irqchip_del_ack_notifier(vm, gsi, resampler_ack, r);
    irqchip_set_gsi(vm, (unsigned)q->source, gsi, false);
}

static int resampler_start(struct softkvm_vm *vm, uint32_t gsi)
{
    struct irqfds *q = &vm->api->irqfds;
    bool first = false;
    pthread_mutex_lock(&q->lock);
    if (q->source < 0)
        q->source = irqchip_source_alloc(vm);
    struct resampler *r = q->source < 0 ? NULL : resampler_take(vm, gsi, &first);
    pthread_mutex_unlock(&q->lock);
    if (!r)
        return -ENOMEM;
    return first ? irqchip_add_ack_notifier(vm, gsi, resampler_ack, r) : 0;
}

static void irqfd_destroy(struct irqfd *f)
{
    if (f->source.fd >= 0)
        close(f->source.fd);
    if (f->resample_fd >= 0)
        close(f->resample_fd);
    free(f);
}

static int irqfd_open(struct softkvm_vm *vm, const struct kvm_irqfd *k, struct irqfd **out)
{
    struct irqfd *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    f->vm = vm;
    f->gsi = k->gsi;
    f->resample_fd = -1;
    f->source.fn = irqfd_fire;
    f->source.fd = eventfd_dup((int)k->fd, &f->id);
    int err = f->source.fd < 0 ? f->source.fd : 0;
    if (!err && (k->flags & KVM_IRQFD_FLAG_RESAMPLE)) {
        uint64_t id;
        f->resample_fd = eventfd_dup((int)k->resamplefd, &id);
        err = f->resample_fd < 0 ? f->resample_fd : 0;
    }
    if (err) {
        irqfd_destroy(f);
        return err;
    }
    *out = f;
    return 0;
}

static void irqfd_end(struct softkvm_vm *vm, struct irqfd *f)
{
    worker_unwatch(vm, &f->source);
    if (f->resample_fd >= 0)
        resampler_release(vm, f->gsi);
    irqfd_destroy(f);
}

/* One eventfd raises one GSI. */
static int irqfd_link(struct irqfds *q, struct irqfd *f)
{
    int err = 0;
    pthread_mutex_lock(&q->lock);
    for (struct irqfd *o = q->list; o && !err; o = o->next)
        if (o->id == f->id)
            err = -EBUSY;
    if (!err) {
        f->next = q->list;
        q->list = f;
    }
    pthread_mutex_unlock(&q->lock);
    return err;
}

/* Takes the first irqfd that is on this eventfd and GSI, or, with any = true, the first at all, out of the list. */
static struct irqfd *irqfd_unlink(struct irqfds *q, bool any, uint64_t id, uint32_t gsi)
{
    pthread_mutex_lock(&q->lock);
    struct irqfd **at = &q->list;
    while (*at && !any && !((*at)->id == id && (*at)->gsi == gsi))
        at = &(*at)->next;
    struct irqfd *f = *at;
    if (f)
        *at = f->next;
    pthread_mutex_unlock(&q->lock);
    return f;
}

static int irqfd_assign(struct softkvm_vm *vm, const struct kvm_irqfd *k)
{
    struct irqfds *q = &vm->api->irqfds;
    struct irqfd *f;
    int err = irqfd_open(vm, k, &f);
    if (err)
        return err;
    err = irqfd_link(q, f);
    if (err) {
        irqfd_destroy(f);
        return err;
    }
    if (f->resample_fd >= 0)
        err = resampler_start(vm, f->gsi);
    if (!err) /* an event that is there already fires at once */
        err = worker_watch(vm, &f->source);
    if (err)
        irqfd_end(vm, irqfd_unlink(q, false, f->id, f->gsi));
    return err;
}

static int irqfd_deassign(struct softkvm_vm *vm, const struct kvm_irqfd *k)
{
    uint64_t id;
    int err = eventfd_identify((int)k->fd, &id);
    if (err)
        return err;
    struct irqfd *f = irqfd_unlink(&vm->api->irqfds, false, id, k->gsi);
    if (f)
        irqfd_end(vm, f);
    return 0; /* as KVM: it is not there, that is what was asked for */
}

int irqfd_ioctl(struct softkvm_vm *vm, void *arg)
{
    struct irqfds *q = &vm->api->irqfds;
    struct kvm_irqfd k = *(const struct kvm_irqfd *)arg;
    if (k.flags & ~(uint32_t)(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
        return -EINVAL;
    bool assign = !(k.flags & KVM_IRQFD_FLAG_DEASSIGN);
    if (assign && (!vm->irqchip || k.gsi >= IRQ_MAX_GSI))
        return -EINVAL;
    if (assign && (k.flags & KVM_IRQFD_FLAG_RESAMPLE) && vm->split_irqchip) /* level interrupts are user space's there */
        return -EINVAL;
    pthread_mutex_lock(&q->change);
    int err = assign ? irqfd_assign(vm, &k) : irqfd_deassign(vm, &k);
    pthread_mutex_unlock(&q->change);
    return err;
}

void irqfd_init(struct softkvm_vm *vm)
{
    pthread_mutex_init(&vm->api->irqfds.change, NULL);
    pthread_mutex_init(&vm->api->irqfds.lock, NULL);
    vm->api->irqfds.source = -1;
}

void irqfd_release_all(struct softkvm_vm *vm)
{
    for (struct irqfd *f; (f = irqfd_unlink(&vm->api->irqfds, true, 0, 0));)
        irqfd_end(vm, f);
}

void irqfd_free(struct softkvm_vm *vm)
{
    struct irqfds *q = &vm->api->irqfds;
    for (struct resampler *r = q->resamplers, *next; r; r = next) {
        next = r->next;
        free(r);
    }
    pthread_mutex_destroy(&q->lock);
    pthread_mutex_destroy(&q->change);
}
