// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The part of a virtio device that is the same on any transport: features, status, and the I/O thread.
 *
 * The thread's loop: poll its control eventfd, the kick eventfds of the queues and what the device adds; obey the registers (start,
 * stop, quit); give each kicked queue to the device. Register handlers only change `io` and friends and write the control eventfd.
 */
#include "devices/virtio/virtio.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/util.h"

#define TURN_REQUESTS 1024 /* that one queue may take in one turn of the loop */

static const struct field virtio_fields[] = {
    FIELD(FIELD_U64, struct virtio_dev, features),
    FIELD(FIELD_U32, struct virtio_dev, offered_select),
    FIELD(FIELD_U32, struct virtio_dev, features_select),
    FIELD(FIELD_U16, struct virtio_dev, config_vector),
    FIELD(FIELD_U16, struct virtio_dev, queue_select),
    FIELD(FIELD_U8, struct virtio_dev, status),
    FIELD(FIELD_U8, struct virtio_dev, isr),
    FIELD(FIELD_U8, struct virtio_dev, generation),
    FIELD_ARRAY(FIELD_BYTES, struct virtio_dev, config),
    VQ_FIELDS(struct virtio_dev),
    {0},
};

const struct device_desc virtio_desc = {
    .name = "virtio",
    .fields = virtio_fields,
    .why_unsaved = "its I/O thread cannot pause between two requests",
};

static void signal_fd(int fd)
{
    uint64_t one = 1;
    /* EAGAIN means that the counter is full, so that the reader is awake already. */
    if (write(fd, &one, sizeof one) < 0 && errno != EAGAIN)
        log_error("virtio: cannot write an eventfd: %s", strerror(errno));
}

static bool clear_fd(int fd)
{
    uint64_t n;
    return read(fd, &n, sizeof n) == (ssize_t)sizeof n;
}

void virtio_wake(struct virtio_dev *v)
{
    signal_fd(v->control_fd);
}

void virtio_kick(struct virtio_dev *v, unsigned q)
{
    if (q < v->nqueues)
        signal_fd(v->kick_fds[q]);
}

/* ---- registers, under the lock ---- */

static void reset_registers(struct virtio_dev *v)
{
    v->features = 0;
    v->offered_select = v->features_select = 0;
    v->config_vector = VIRTIO_NO_VECTOR;
    v->queue_select = 0;
    v->status = v->isr = 0;
    v->generation++;
    memcpy(v->config, v->config_reset, sizeof v->config);
    for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
        v->qcfg[q] = (struct vq_config){.size = q < v->nqueues ? v->cls->queue_size : 0, .vector = VIRTIO_NO_VECTOR};
    pci_intx_set(&v->pci, false);
}

static void ask_stop(struct virtio_dev *v)
{
    if (v->io == VIRTIO_IO_STOPPED) {
        reset_registers(v);
    } else if (v->io == VIRTIO_IO_RUNNING) {
        v->io = VIRTIO_IO_STOPPING;
        virtio_wake(v);
    }
}

void virtio_set_status(struct virtio_dev *v, uint8_t status)
{
    if (v->io == VIRTIO_IO_STOPPING)
        return;
    if (status == 0) {
        ask_stop(v);
        return;
    }
    uint8_t set = status & (uint8_t) ~(v->status | VIRTIO_S_NEEDS_RESET);
    if ((set & VIRTIO_S_FEATURES_OK) && ((v->features & ~v->offered) || !virtio_has(v, VIRTIO_F_VERSION_1)))
        set &= (uint8_t)~VIRTIO_S_FEATURES_OK;
    if (!((v->status | set) & VIRTIO_S_FEATURES_OK))
        set &= (uint8_t)~VIRTIO_S_DRIVER_OK;
    v->status |= set;
    if (set & VIRTIO_S_DRIVER_OK) {
        v->io = VIRTIO_IO_RUNNING;
        virtio_wake(v);
    }
}

void virtio_set_dma(struct virtio_dev *v, bool on)
{
    if (v->dma == on)
        return;
    v->dma = on;
    virtio_wake(v);
}

void virtio_interrupt(struct virtio_dev *v, uint8_t isr_bit, uint16_t vector)
{
    if (v->io != VIRTIO_IO_RUNNING)
        return;
    v->isr |= isr_bit;
    if (pci_msix_enabled(&v->pci))
        pci_msix_notify(&v->pci, vector); /* VIRTIO_NO_VECTOR is none of the vectors */
    else
        pci_intx_set(&v->pci, true);
}

void virtio_config_changed(struct virtio_dev *v)
{
    v->generation++;
    virtio_interrupt(v, VIRTIO_ISR_CONFIG, v->config_vector);
}

void virtio_ioeventfds(struct virtio_dev *v, uint64_t base)
{
    const struct board_ops *ops = v->bus->ops;
    for (unsigned q = 0; ops->ioeventfd && q < v->nqueues; q++) {
        uint64_t off = VIRTIO_NOTIFY_STRIDE * q;
        if (v->ioeventfds & BIT64(q))
            ops->ioeventfd(v->bus->board, v->kick_fds[q], BUS_MMIO, v->notify_base + off, 2, false, 0, false);
        v->ioeventfds &= ~BIT64(q);
        /* When the board refuses, kicks arrive as writes to the BAR. */
        if (base && ops->ioeventfd(v->bus->board, v->kick_fds[q], BUS_MMIO, base + off, 2, false, 0, true) == 0)
            v->ioeventfds |= BIT64(q);
    }
    v->notify_base = base;
}

void virtio_reset_wait(struct virtio_dev *v)
{
    pthread_mutex_lock(&v->bus->lock);
    v->dma = false;
    ask_stop(v);
    while (v->io == VIRTIO_IO_STOPPING)
        pthread_cond_wait(&v->stopped, &v->bus->lock);
    pthread_mutex_unlock(&v->bus->lock);
}

/* ---- requests, on the I/O thread ---- */

int virtio_pop(struct virtio_dev *v, unsigned q, struct vq_elem **out)
{
    struct vq *vq = &v->queues[q];
    if (!v->running || v->broken || !v->dma_now || !vq->started)
        return 0;
    if (v->budget == 0) {
        virtio_kick(v, q);
        return 0;
    }
    for (;;) {
        int r = vq_pop(vq, out);
        if (r < 0) {
            virtio_break(v, vq->broken);
            return 0;
        }
        if (r > 0) {
            if (vq->kicks_wanted)
                vq_set_kicks(vq, false);
            v->budget--;
            return 1;
        }
        if (vq->kicks_wanted || !vq_set_kicks(vq, true))
            return 0;
    }
}

void virtio_notify(struct virtio_dev *v, unsigned q)
{
    if (!vq_should_notify(&v->queues[q]))
        return;
    pthread_mutex_lock(&v->bus->lock);
    virtio_interrupt(v, VIRTIO_ISR_QUEUE, v->qcfg[q].vector);
    pthread_mutex_unlock(&v->bus->lock);
}

void virtio_push(struct virtio_dev *v, unsigned q, struct vq_elem *e, uint32_t written)
{
    vq_push(&v->queues[q], e, written);
    virtio_notify(v, q);
}

void virtio_break(struct virtio_dev *v, const char *why)
{
    if (v->broken)
        return;
    v->broken = true;
    log_guest(&v->limit, "%s: %s; the device rests until the guest resets it", v->cls->name, why);
    pthread_mutex_lock(&v->bus->lock);
    v->status |= VIRTIO_S_NEEDS_RESET;
    virtio_config_changed(v);
    pthread_mutex_unlock(&v->bus->lock);
}

/* ---- the loop ---- */

static void run_queue(struct virtio_dev *v, unsigned q)
{
    if (!v->running || v->broken || !v->dma_now || !v->queues[q].started)
        return;
    v->budget = TURN_REQUESTS;
    v->cls->queue_ready(v, q);
}

static void run_all(struct virtio_dev *v)
{
    for (unsigned q = 0; q < v->nqueues; q++)
        run_queue(v, q);
}

static void start_queues(struct virtio_dev *v, const struct vq_config *cfg)
{
    v->running = true;
    v->broken = false;
    bool packed = virtio_has(v, VIRTIO_F_RING_PACKED), event = virtio_has(v, VIRTIO_F_EVENT_IDX),
         indirect = virtio_has(v, VIRTIO_F_INDIRECT_DESC);
    for (unsigned q = 0; q < v->nqueues; q++) {
        if (cfg[q].enabled && vq_start(&v->queues[q], v->bus->mem, &cfg[q], packed, event, indirect) < 0)
            virtio_break(v, v->queues[q].broken);
    }
    if (v->cls->start)
        v->cls->start(v);
    run_all(v);
}

static void stop_queues(struct virtio_dev *v)
{
    if (v->running && v->cls->stop)
        v->cls->stop(v);
    for (unsigned q = 0; q < v->nqueues; q++)
        vq_stop(&v->queues[q]);
    v->running = v->broken = false;
}

/* Does what the registers ask for; false to quit. */
static bool obey(struct virtio_dev *v)
{
    struct vq_config cfg[VIRTIO_QUEUES_MAX];
    pthread_mutex_lock(&v->bus->lock);
    enum virtio_io io = v->io;
    bool quit = v->quit, dma = v->dma;
    memcpy(cfg, v->qcfg, sizeof cfg);
    pthread_mutex_unlock(&v->bus->lock);

    bool dma_on = dma && !v->dma_now;
    v->dma_now = dma;
    if (quit || io == VIRTIO_IO_STOPPING) {
        stop_queues(v);
        pthread_mutex_lock(&v->bus->lock);
        reset_registers(v);
        v->io = VIRTIO_IO_STOPPED;
        pthread_cond_broadcast(&v->stopped);
        pthread_mutex_unlock(&v->bus->lock);
    } else if (io == VIRTIO_IO_RUNNING && !v->running) {
        start_queues(v, cfg);
    } else if (dma_on) {
        run_all(v);
    }
    return !quit;
}

static void *virtio_thread(void *arg)
{
    struct virtio_dev *v = arg;
    const struct virtio_class *cls = v->cls;
    int kick[VIRTIO_QUEUES_MAX];
    for (;;) {
        struct pollset *p = &v->poll;
        pollset_clear(p);
        int control = pollset_add(p, v->control_fd, POLLIN);
        for (unsigned q = 0; q < v->nqueues; q++)
            kick[q] = v->handed_over & BIT64(q) ? -1 : pollset_add(p, v->kick_fds[q], POLLIN);
        if (cls->prepare)
            cls->prepare(v, p);
        int n = poll(p->fds, p->n, p->timeout_ms);
        if (n < 0 && errno != EINTR)
            log_error("%s: cannot poll: %s", cls->name, strerror(errno));
        if (n < 0)
            continue;
        if ((pollset_revents(p, control) & POLLIN) && clear_fd(v->control_fd) && !obey(v))
            return NULL;
        v->budget = TURN_REQUESTS;
        if (cls->dispatch)
            cls->dispatch(v, p);
        for (unsigned q = 0; q < v->nqueues; q++) {
            bool own = !(v->handed_over & BIT64(q)); /* it may just have been handed over, and the kick with it */
            if (own && (pollset_revents(p, kick[q]) & POLLIN) && clear_fd(v->kick_fds[q]))
                run_queue(v, q);
        }
    }
}

/* ---- life ---- */

static int open_fds(struct virtio_dev *v, struct error *err)
{
    v->control_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool ok = v->control_fd >= 0;
    for (unsigned q = 0; q < v->nqueues; q++) {
        v->kick_fds[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        ok = ok && v->kick_fds[q] >= 0;
    }
    if (!ok)
        return error_set(err, errno, "device '%s': cannot create an eventfd: %s; raise the limit of open files (ulimit -n)",
                         v->cls->name, strerror(errno));
    return 0;
}

int virtio_create(struct virtio_dev *v, const struct virtio_class *cls, unsigned nqueues, struct pci_host *h, int slot,
                  uint64_t features, const void *config, struct error *err)
{
    *v = (struct virtio_dev){.cls = cls, .nqueues = nqueues, .bus = pci_host_bus(h), .control_fd = -1};
    memset(v->kick_fds, -1, sizeof v->kick_fds);
    pthread_cond_init(&v->stopped, NULL);
    v->offered = features | VIRTIO_F_VERSION_1;
    if (!cls->foreign)
        v->offered |= VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED;
    if (config)
        memcpy(v->config_reset, config, cls->config_len);
    if (open_fds(v, err) < 0 || virtio_pci_init(v, err) < 0)
        goto fail;
    pthread_mutex_lock(&v->bus->lock);
    int added = pci_dev_add(h, &v->pci, slot, err);
    pthread_mutex_unlock(&v->bus->lock);
    if (added < 0)
        goto fail;
    reset_registers(v);
    int e = pthread_create(&v->thread, NULL, virtio_thread, v);
    if (e) {
        error_set(err, e, "device '%s': cannot start its thread: %s; raise the limit of processes (ulimit -u)", cls->name,
                  strerror(e));
        goto fail;
    }
    v->thread_started = true;
    pthread_setname_np(v->thread, cls->name);
    return 0;
fail:
    virtio_destroy(v);
    return -1;
}

void virtio_destroy(struct virtio_dev *v)
{
    if (v->thread_started) {
        pthread_mutex_lock(&v->bus->lock);
        v->quit = true;
        pthread_mutex_unlock(&v->bus->lock);
        virtio_wake(v);
        pthread_join(v->thread, NULL);
    }
    pthread_mutex_lock(&v->bus->lock);
    pci_dev_remove(&v->pci);
    pthread_mutex_unlock(&v->bus->lock);
    if (v->control_fd >= 0)
        close(v->control_fd);
    for (unsigned q = 0; q < v->nqueues; q++) {
        if (v->kick_fds[q] >= 0)
            close(v->kick_fds[q]);
    }
    pollset_free(&v->poll);
    pthread_cond_destroy(&v->stopped);
}
