/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio device: feature bits, status, queues and an I/O thread (virtio.c), on PCI (virtio_pci.c; virtio 1.2, 4.1, modern only).
 *
 * Threads
 * - A vCPU's register accesses run under the device lock and never wait: a kick is a write to an eventfd, a reset is a request to
 * the I/O thread, during which the status register still reads non-zero (4.1.4.3.2 makes the driver wait for zero).
 * - The I/O thread owns the started queues and everything marked [io]; it takes the device lock only for what is marked [lock].
 * - What is latched when DRIVER_OK is set is written under the lock while the I/O thread is stopped, and read by it afterwards.
 */
#ifndef LODGE_DEVICES_VIRTIO_H
#define LODGE_DEVICES_VIRTIO_H

#include "base/log.h"
#include "base/pollset.h"
#include "devices/pci/pci.h"
#include "devices/virtio/queue.h"

#define VIRTIO_QUEUES_MAX 64
#define VIRTIO_CONFIG_MAX 96 /* bytes of device configuration */
#define VIRTIO_NO_VECTOR  0xffff

/* Device status (2.1). */
#define VIRTIO_S_ACKNOWLEDGE 1
#define VIRTIO_S_DRIVER      2
#define VIRTIO_S_DRIVER_OK   4
#define VIRTIO_S_FEATURES_OK 8
#define VIRTIO_S_NEEDS_RESET 64
#define VIRTIO_S_FAILED      128

/* Interrupt status (4.1.4.5). */
#define VIRTIO_ISR_QUEUE  1
#define VIRTIO_ISR_CONFIG 2

#define VIRTIO_NOTIFY_STRIDE 4u /* bytes between the notification addresses of two queues */

/* Reserved feature bits (6). */
#define VIRTIO_F_INDIRECT_DESC BIT64(28)
#define VIRTIO_F_EVENT_IDX     BIT64(29)
#define VIRTIO_F_VERSION_1     BIT64(32)
#define VIRTIO_F_RING_PACKED   BIT64(34)

struct virtio_dev;

struct virtio_class {
    const char *name;   /* "virtio-blk" */
    uint16_t type;      /* device type (5) */
    uint32_t pci_class; /* 24 bits */
    const struct field *fields; /* saved state of the device itself, from the start of its struct; may be NULL */
    uint16_t queue_size;        /* largest, descriptors */
    bool foreign; /* another process serves its rings, and can what the device's features say: no ring format is offered besides */
    unsigned config_len; /* bytes */
    uint8_t config_wmask[VIRTIO_CONFIG_MAX];
    /* [lock] After the guest changed configuration bytes; may be NULL. */
    void (*config_written)(struct virtio_dev *v, unsigned off, unsigned size);
    /* [io] The rest runs on the I/O thread; all but queue_ready may be NULL. */
    void (*start)(struct virtio_dev *v);                      /* the driver is ready; v->features are final */
    void (*queue_ready)(struct virtio_dev *v, unsigned q);    /* kicked, or just started */
    void (*stop)(struct virtio_dev *v);                       /* reset: complete or discard everything that is in flight */
    void (*prepare)(struct virtio_dev *v, struct pollset *p); /* around every poll(2), running or not */
    void (*dispatch)(struct virtio_dev *v, struct pollset *p);
};

enum virtio_io { VIRTIO_IO_STOPPED, VIRTIO_IO_RUNNING, VIRTIO_IO_STOPPING };

struct virtio_dev {
    struct pci_dev pci; /* first */
    const struct virtio_class *cls;
    unsigned nqueues;
    struct bus *bus;
    struct log_limit limit;

    /* [lock] registers */
    uint64_t offered, features; /* feature bits of the device, and those the driver took */
    uint32_t offered_select, features_select;
    uint16_t config_vector, queue_select;
    uint8_t status, isr, generation;
    uint8_t config[VIRTIO_CONFIG_MAX];
    uint8_t config_reset[VIRTIO_CONFIG_MAX];
    struct vq_config qcfg[VIRTIO_QUEUES_MAX];
    unsigned window_cap;  /* offset of the PCI configuration access capability */
    uint64_t notify_base; /* where the notification area is on the bus; 0: nowhere */
    uint64_t ioeventfds;  /* bit per queue: the board watches for its kicks */

    /* [lock] what the registers ask of the I/O thread */
    enum virtio_io io;
    bool dma, quit;
    pthread_cond_t stopped; /* io became VIRTIO_IO_STOPPED */

    /* [io] */
    struct vq queues[VIRTIO_QUEUES_MAX];
    bool running, dma_now, broken;
    uint64_t handed_over; /* bit per queue that another process serves: its kicks are not for this thread */
    unsigned budget; /* requests that may still be popped in this turn of the loop */
    struct pollset poll;

    int control_fd, kick_fds[VIRTIO_QUEUES_MAX]; /* eventfds, fixed */
    pthread_t thread;
    bool thread_started;
};

/*
 * Fills *v, adds it to PCI and starts its thread; `features` are the device's own bits, `config` its initial configuration. 0, or
 * -1 with err and nothing left behind.
 */
int virtio_create(struct virtio_dev *v, const struct virtio_class *cls, unsigned nqueues, struct pci_host *h, int slot,
                  uint64_t features, const void *config, struct error *err);
/* Stops the thread (after the class's stop) and removes the device. No vCPU runs; lock not held. */
void virtio_destroy(struct virtio_dev *v);

/* [io] */
/*
 * The next request of queue q: 1, or 0 when there is none now (then the driver is asked to kick, and queue_ready is called again).
 * A broken queue breaks the device. A driver that adds without end gets its turn and no more: the loop comes back to it after the
 * others.
 */
int virtio_pop(struct virtio_dev *v, unsigned q, struct vq_elem **out);
/* Returns a request and interrupts the driver if it wants that. */
void virtio_push(struct virtio_dev *v, unsigned q, struct vq_elem *e, uint32_t written);
void virtio_notify(struct virtio_dev *v, unsigned q); /* the interrupt alone, after several vq_push() */
/* The driver broke a rule: DEVICE_NEEDS_RESET, a configuration interrupt, a log line; the queues rest until a reset. */
void virtio_break(struct virtio_dev *v, const char *why);

/* Any thread, lock not held: makes the I/O thread take another turn. */
void virtio_wake(struct virtio_dev *v);
/* [lock] The device changed its configuration: generation and interrupt. */
void virtio_config_changed(struct virtio_dev *v);
static inline bool virtio_has(const struct virtio_dev *v, uint64_t feature)
{
    return v->features & feature;
}

/* Between virtio.c and virtio_pci.c, under the lock. */
void virtio_set_status(struct virtio_dev *v, uint8_t status);
void virtio_kick(struct virtio_dev *v, unsigned q);
void virtio_set_dma(struct virtio_dev *v, bool on);
void virtio_reset_wait(struct virtio_dev *v); /* lock not held: resets and waits until the I/O thread is done */
void virtio_interrupt(struct virtio_dev *v, uint8_t isr_bit, uint16_t vector);
void virtio_ioeventfds(struct virtio_dev *v, uint64_t base); /* moves them; 0: none */
int virtio_pci_init(struct virtio_dev *v, struct error *err);
extern const struct device_desc virtio_desc;

#endif
