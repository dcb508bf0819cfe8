// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One port without the control queues (virtio 1.2, 5.3): queue 0 takes input to the guest, queue 1 output from it.
 *
 * Input waits in a backlog under the device lock until the guest has a buffer for it; the I/O thread moves it.
 */
#include "devices/virtio/vconsole.h"

#include <string.h>

#include "base/util.h"
#include "devices/virtio/virtio.h"

#define VCONSOLE_RX      0
#define VCONSOLE_TX      1
#define VCONSOLE_BACKLOG 4096 /* bytes */

#define VCONSOLE_F_SIZE        BIT64(0)
#define VCONSOLE_F_EMERG_WRITE BIT64(2)

/* Device configuration (5.3.4). */
#define CONFIG_COLS  0
#define CONFIG_ROWS  2
#define CONFIG_EMERG 8
#define CONFIG_BYTES 12

struct vconsole {
    struct virtio_dev virtio; /* first */
    struct chardev chr;
    /* [lock] */
    uint8_t backlog[VCONSOLE_BACKLOG];
    uint32_t head, count;
    bool starved; /* an input call took less than it was given */
};

static struct vconsole *vconsole_of(struct virtio_dev *v)
{
    return container_of(v, struct vconsole, virtio);
}

static void write_out(struct vconsole *c, struct virtio_dev *v)
{
    struct vq_elem *e;
    while (virtio_pop(v, VCONSOLE_TX, &e) > 0) {
        for (unsigned i = 0; i < e->nout; i++)
            c->chr.write(c->chr.opaque, e->out[i].iov_base, e->out[i].iov_len);
        virtio_push(v, VCONSOLE_TX, e, 0);
        if (c->chr.wait)
            c->chr.wait(c->chr.opaque);
    }
}

/* Takes up to `len` bytes off the backlog. */
static size_t take_input(struct vconsole *c, uint8_t *buf, size_t len)
{
    pthread_mutex_lock(&c->virtio.bus->lock);
    size_t n = MIN(len, c->count);
    for (size_t i = 0; i < n; i++)
        buf[i] = c->backlog[(c->head + i) % VCONSOLE_BACKLOG];
    c->head = (uint32_t)(c->head + n) % VCONSOLE_BACKLOG;
    c->count -= (uint32_t)n;
    bool ready = c->starved && c->count <= VCONSOLE_BACKLOG / 2;
    if (ready)
        c->starved = false;
    pthread_mutex_unlock(&c->virtio.bus->lock);
    if (ready && c->chr.input_ready)
        c->chr.input_ready(c->chr.opaque);
    return n;
}

static bool have_input(struct vconsole *c)
{
    pthread_mutex_lock(&c->virtio.bus->lock);
    bool have = c->count;
    pthread_mutex_unlock(&c->virtio.bus->lock);
    return have;
}

static void read_in(struct vconsole *c, struct virtio_dev *v)
{
    struct vq_elem *e;
    while (have_input(c) && virtio_pop(v, VCONSOLE_RX, &e) > 0) {
        uint8_t buf[256];
        size_t n = take_input(c, buf, MIN(sizeof buf, (size_t)e->in_len));
        iov_write(e->in, e->nin, 0, buf, n);
        virtio_push(v, VCONSOLE_RX, e, (uint32_t)n);
    }
}

static void vconsole_queue_ready(struct virtio_dev *v, unsigned q)
{
    if (q == VCONSOLE_TX)
        write_out(vconsole_of(v), v);
    else
        read_in(vconsole_of(v), v);
}

/* Woken by vconsole_input(). */
static void vconsole_dispatch(struct virtio_dev *v, struct pollset *p)
{
    (void)p;
    read_in(vconsole_of(v), v);
}

/* A character written to the configuration is output before any queue works (5.3.6.1). */
static void vconsole_config_written(struct virtio_dev *v, unsigned off, unsigned size)
{
    struct vconsole *c = vconsole_of(v);
    if (off <= CONFIG_EMERG && CONFIG_EMERG < off + size)
        c->chr.write(c->chr.opaque, v->config + CONFIG_EMERG, 1);
}

static const struct virtio_class vconsole_class = {
    .name = "virtio-console",
    .type = 3,
    .pci_class = 0x078000,
    .queue_size = 64,
    .config_len = CONFIG_BYTES,
    .config_wmask = {[CONFIG_EMERG] = 0xff, 0xff, 0xff, 0xff},
    .config_written = vconsole_config_written,
    .queue_ready = vconsole_queue_ready,
    .dispatch = vconsole_dispatch,
};

size_t vconsole_input(struct vconsole *c, const void *buf, size_t len)
{
    const uint8_t *p = buf;
    pthread_mutex_lock(&c->virtio.bus->lock);
    size_t n = MIN(len, VCONSOLE_BACKLOG - c->count);
    for (size_t i = 0; i < n; i++)
        c->backlog[(c->head + c->count++) % VCONSOLE_BACKLOG] = p[i];
    c->starved = n < len;
    pthread_mutex_unlock(&c->virtio.bus->lock);
    virtio_wake(&c->virtio);
    return n;
}

static void set_size(uint8_t *config, uint16_t cols, uint16_t rows)
{
    pci_set16(config + CONFIG_COLS, cols);
    pci_set16(config + CONFIG_ROWS, rows);
}

void vconsole_resize(struct vconsole *c, uint16_t cols, uint16_t rows)
{
    struct virtio_dev *v = &c->virtio;
    pthread_mutex_lock(&v->bus->lock);
    set_size(v->config, cols, rows);
    set_size(v->config_reset, cols, rows);
    virtio_config_changed(v);
    pthread_mutex_unlock(&v->bus->lock);
}

int vconsole_create(struct pci_host *h, const struct vconsole_config *cfg, struct vconsole **out, struct error *err)
{
    uint8_t config[CONFIG_BYTES] = {0};
    set_size(config, 80, 25);
    config[4] = 1; /* max_nr_ports; without F_MULTIPORT it says nothing */
    struct vconsole *c = calloc(1, sizeof *c);
    if (!c)
        return error_set(err, 0, "device 'virtio-console': out of memory; close other programs");
    c->chr = cfg->chr;
    if (virtio_create(&c->virtio, &vconsole_class, 2, h, cfg->slot, VCONSOLE_F_SIZE | VCONSOLE_F_EMERG_WRITE, config, err) < 0) {
        free(c);
        return -1;
    }
    *out = c;
    return 0;
}

void vconsole_destroy(struct vconsole *c)
{
    if (!c)
        return;
    virtio_destroy(&c->virtio);
    free(c);
}
