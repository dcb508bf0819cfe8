// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VM's helper thread: waits for irqfds, and ticks vCPUs that translate or run with a signal mask.
 *
 * It is started by the first of these needs and sleeps otherwise. Ticks are only made while somebody wants them: the thread goes
 * back to an endless sleep after a tick that found no such vCPU awake in KVM_RUN. Who begins KVM_RUN, or wakes up in it, first
 * says so (`ticked`, `waiting`) and then wakes the thread: a tick in between finds it.
 *
 * It sleeps in poll() on the epoll descriptor and fetches events with the lock held, so that a source that has been unwatched is
 * never called again.
 */
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "softkvm/api/api.h"

#define WORKER_TICK_MS 2
#define WORKER_BATCH   16

static void wake(struct worker *w)
{
    uint64_t one = 1;
    while (write(w->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void wake_drain(struct worker_source *s)
{
    uint64_t count;
    while (read(s->fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
}

static void tick(struct softkvm_vm *vm, struct worker *w)
{
    /* Cleared before the look, so that a vCPU that comes too late for it sets it again. */
    atomic_store(&w->ticking, false);
    unsigned n = atomic_load(&vm->nvcpus);
    for (unsigned i = 0; i < n; i++) {
        struct vcpu *v = atomic_load(&vm->vcpus[i]);
        if (!atomic_load(&v->api->ticked) || atomic_load(&v->api->waiting))
            continue;
        atomic_store(&w->ticking, true);
        /* Translated code does not see immediate_exit by itself. */
        if (atomic_load(&v->api->sigmask.running) || (atomic_load(&v->bt.running) && api_immediate_exit(v))) {
            cpu_request(v, REQ_TICK);
            vcpu_poke(v);
        }
    }
}

static void *worker_main(void *arg)
{
    struct softkvm_vm *vm = arg;
    struct worker *w = &vm->api->worker;
    pthread_setname_np(pthread_self(), "softkvm-worker");
    while (!atomic_load(&w->stop)) {
        bool ticking = atomic_load(&w->ticking);
        struct pollfd p = {.fd = w->epoll_fd, .events = POLLIN};
        if (poll(&p, 1, ticking ? WORKER_TICK_MS : -1) > 0) {
            pthread_mutex_lock(&w->lock);
            struct epoll_event events[WORKER_BATCH];
            int n = epoll_wait(w->epoll_fd, events, WORKER_BATCH, 0);
            for (int i = 0; i < n; i++) {
                struct worker_source *s = events[i].data.ptr;
                s->fn(s);
            }
            pthread_mutex_unlock(&w->lock);
        }
        if (ticking)
            tick(vm, w);
    }
    return NULL;
}

void worker_init(struct worker *w)
{
    pthread_mutex_init(&w->lock, NULL);
    w->epoll_fd = w->wake_fd = -1;
}

static int add_source(struct worker *w, struct worker_source *s)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
    return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, s->fd, &e) < 0 ? -errno : 0;
}

static void close_fds(struct worker *w)
{
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    if (w->epoll_fd >= 0)
        close(w->epoll_fd);
    w->epoll_fd = w->wake_fd = -1;
}

/* With the lock held. */
static int start(struct softkvm_vm *vm)
{
    struct worker *w = &vm->api->worker;
    if (w->running)
        return 0;
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int err = w->epoll_fd < 0 || w->wake_fd < 0 ? -errno : 0;
    if (!err) {
        w->wake = (struct worker_source){.fd = w->wake_fd, .fn = wake_drain};
        err = add_source(w, &w->wake);
    }
    if (!err)
        err = thread_create(&w->thread, worker_main, vm);
    if (err) {
        close_fds(w);
        return err;
    }
    w->running = true;
    return 0;
}

int worker_watch(struct softkvm_vm *vm, struct worker_source *s)
{
    struct worker *w = &vm->api->worker;
    pthread_mutex_lock(&w->lock);
    int err = start(vm);
    if (!err)
        err = add_source(w, s);
    pthread_mutex_unlock(&w->lock);
    return err;
}

void worker_unwatch(struct softkvm_vm *vm, struct worker_source *s)
{
    struct worker *w = &vm->api->worker;
    pthread_mutex_lock(&w->lock);
    epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
    pthread_mutex_unlock(&w->lock);
}

void worker_tick(struct softkvm_vm *vm)
{
    struct worker *w = &vm->api->worker;
    if (atomic_exchange(&w->ticking, true))
        return;
    pthread_mutex_lock(&w->lock);
    if (start(vm) == 0) /* without the thread a masked signal is seen when KVM_RUN next leaves the guest for another reason */
        wake(w);
    pthread_mutex_unlock(&w->lock);
}

void worker_stop(struct softkvm_vm *vm)
{
    struct worker *w = &vm->api->worker;
    pthread_mutex_lock(&w->lock);
    bool running = w->running;
    w->running = false;
    if (running) {
        atomic_store(&w->stop, true);
        wake(w);
    }
    pthread_mutex_unlock(&w->lock);
    if (running)
        pthread_join(w->thread, NULL);
    close_fds(w);
    pthread_mutex_destroy(&w->lock);
}
