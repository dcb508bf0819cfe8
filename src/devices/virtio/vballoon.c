// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The balloon. Queue 0 takes lists of page frame numbers to give away, queue 1 of those to have back, queue 2 statistics, queue 3 free pages by reporting.
 *
 * A page that was given away is a hole in the memory's file. The guest gets it back by touching it, so deflating needs no work here; nor does a guest
 * that lies: it loses its own pages' contents.
 */
#include "devices/virtio/vballoon.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/util.h"
#include "devices/virtio/virtio.h"

enum { VBALLOON_INFLATE, VBALLOON_DEFLATE, VBALLOON_STATS_QUEUE, VBALLOON_REPORTING, VBALLOON_QUEUES };

#define VBALLOON_F_STATS_VQ       BIT64(1)
#define VBALLOON_F_DEFLATE_ON_OOM BIT64(2)
#define VBALLOON_F_PAGE_POISON    BIT64(4)
#define VBALLOON_F_REPORTING      BIT64(5)

/* Device configuration (5.5.4). */
#define CONFIG_NUM_PAGES 0
#define CONFIG_ACTUAL    4
#define CONFIG_POISON    12
#define CONFIG_BYTES     16

#define VBALLOON_PAGE  4096u
#define VBALLOON_BATCH 1024 /* page frame numbers that are handled at a time */

/* A statistic in the guest's buffer. */
struct vballoon_entry {
    uint16_t tag;
    uint64_t value;
} __attribute__((packed));

struct vballoon {
    struct virtio_dev virtio; /* first */
    _Atomic uint64_t reported;
    /* [lock] */
    uint64_t stats[VBALLOON_STATS];
    bool have_stats, want_stats;
    /* [io] */
    struct vq_elem *stats_elem; /* the guest's buffer, which it gets back to fill */
    bool poisoned;              /* freed pages hold a pattern that must not change */
};

static const struct field vballoon_fields[] = {
    FIELD_ARRAY(FIELD_U64, struct vballoon, stats),
    FIELD(FIELD_BOOL, struct vballoon, have_stats),
    {0},
};

static struct vballoon *vballoon_of(struct virtio_dev *v)
{
    return container_of(v, struct vballoon, virtio);
}

/* ---- pages ---- */

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Neighbours go together: a hole costs a system call and a TLB flush, whatever its size. Pages that are no memory are left alone. */
static void discard_pages(struct vballoon *b, uint32_t *pages, unsigned n)
{
    const struct guestmem *mem = b->virtio.bus->mem;
    qsort(pages, n, sizeof *pages, by_number);
    for (unsigned i = 0, run; i < n; i += run) {
        run = 1;
        while (i + run < n && pages[i + run] == pages[i] + run)
            run++;
        void *host = guestmem_ptr(mem, (uint64_t)pages[i] * VBALLOON_PAGE, (uint64_t)run * VBALLOON_PAGE);
        int ret = host ? guestmem_discard(mem, host, (uint64_t)run * VBALLOON_PAGE) : -EFAULT;
        if (ret < 0)
            log_guest(&b->virtio.limit, "virtio-balloon: %u pages from frame 0x%x stay: %s", run, pages[i], strerror(-ret));
    }
}

static void inflate(struct vballoon *b, const struct vq_elem *e)
{
    uint32_t pages[VBALLOON_BATCH];
    size_t at = 0, n;
    while ((n = iov_read(e->out, e->nout, at, pages, sizeof pages) / sizeof *pages) > 0) {
        discard_pages(b, pages, (unsigned)n);
        at += n * sizeof *pages;
    }
}

/* The buffers are the free pages themselves. */
static void report(struct vballoon *b, const struct vq_elem *e)
{
    for (unsigned i = 0; i < e->nin && !b->poisoned; i++)
        if (guestmem_discard(b->virtio.bus->mem, e->in[i].iov_base, e->in[i].iov_len) == 0)
            atomic_fetch_add(&b->reported, e->in[i].iov_len);
}

/* ---- statistics ---- */

static void read_stats(struct vballoon *b, const struct vq_elem *e)
{
    struct vballoon_entry entries[4 * VBALLOON_STATS];
    size_t n = iov_read(e->out, e->nout, 0, entries, sizeof entries) / sizeof entries[0];
    pthread_mutex_lock(&b->virtio.bus->lock);
    memset(b->stats, 0xff, sizeof b->stats);
    for (size_t i = 0; i < n; i++)
        if (entries[i].tag < VBALLOON_STATS)
            b->stats[entries[i].tag] = entries[i].value;
    b->have_stats = true;
    pthread_mutex_unlock(&b->virtio.bus->lock);
}

/* Returns the buffer, for the guest to fill it anew, if somebody asked. */
static void answer_wish(struct vballoon *b)
{
    pthread_mutex_lock(&b->virtio.bus->lock);
    bool want = b->want_stats && b->stats_elem;
    if (want)
        b->want_stats = false;
    pthread_mutex_unlock(&b->virtio.bus->lock);
    if (want)
        virtio_push(&b->virtio, VBALLOON_STATS_QUEUE, steal_ptr(&b->stats_elem), 0);
}

/* The guest has one buffer. Holding it means that nobody asked. */
static void take_stats(struct vballoon *b)
{
    struct vq_elem *e;
    while (virtio_pop(&b->virtio, VBALLOON_STATS_QUEUE, &e) > 0) {
        if (e->out_len)
            read_stats(b, e);
        if (b->stats_elem)
            virtio_push(&b->virtio, VBALLOON_STATS_QUEUE, b->stats_elem, 0);
        b->stats_elem = e;
    }
    answer_wish(b);
}

static void vballoon_dispatch(struct virtio_dev *v, struct pollset *p)
{
    (void)p;
    answer_wish(vballoon_of(v));
}

/* ---- the I/O thread ---- */

static void vballoon_queue_ready(struct virtio_dev *v, unsigned q)
{
    struct vballoon *b = vballoon_of(v);
    struct vq_elem *e;
    /* Queues are numbered without gaps: without statistics, reporting takes their place (5.5.2). */
    bool statistics = virtio_has(v, VBALLOON_F_STATS_VQ);
    if (q == VBALLOON_STATS_QUEUE && statistics) {
        take_stats(b);
        return;
    }
    while (virtio_pop(v, q, &e) > 0) {
        if (q == VBALLOON_INFLATE)
            inflate(b, e);
        else if (q == (unsigned)VBALLOON_REPORTING - !statistics && virtio_has(v, VBALLOON_F_REPORTING))
            report(b, e);
        virtio_push(v, q, e, 0);
    }
}

static void vballoon_start(struct virtio_dev *v)
{
    struct vballoon *b = vballoon_of(v);
    pthread_mutex_lock(&v->bus->lock);
    b->poisoned = virtio_has(v, VBALLOON_F_PAGE_POISON) && pci_get32(v->config + CONFIG_POISON);
    pthread_mutex_unlock(&v->bus->lock);
}

static void vballoon_stop(struct virtio_dev *v)
{
    struct vballoon *b = vballoon_of(v);
    if (b->stats_elem)
        vq_discard(&v->queues[VBALLOON_STATS_QUEUE], steal_ptr(&b->stats_elem));
}

static const struct virtio_class vballoon_class = {
    .name = "virtio-balloon",
    .type = 5,
    .pci_class = 0x00ff00,
    .fields = vballoon_fields,
    .queue_size = 128,
    .config_len = CONFIG_BYTES,
    .config_wmask = {[CONFIG_ACTUAL] = 0xff, 0xff, 0xff, 0xff, [CONFIG_POISON] = 0xff, 0xff, 0xff, 0xff},
    .start = vballoon_start,
    .queue_ready = vballoon_queue_ready,
    .stop = vballoon_stop,
    .dispatch = vballoon_dispatch,
};

/* ---- the host's side ---- */

void vballoon_set(struct vballoon *b, uint64_t bytes)
{
    struct virtio_dev *v = &b->virtio;
    uint32_t pages = (uint32_t)MIN(bytes / VBALLOON_PAGE, UINT32_MAX);
    pthread_mutex_lock(&v->bus->lock);
    pci_set32(v->config + CONFIG_NUM_PAGES, pages);
    pci_set32(v->config_reset + CONFIG_NUM_PAGES, pages);
    virtio_config_changed(v);
    pthread_mutex_unlock(&v->bus->lock);
}

uint64_t vballoon_inflated(const struct vballoon *b)
{
    pthread_mutex_lock(&b->virtio.bus->lock);
    uint64_t pages = pci_get32(b->virtio.config + CONFIG_ACTUAL);
    pthread_mutex_unlock(&b->virtio.bus->lock);
    return pages * VBALLOON_PAGE;
}

uint64_t vballoon_reported(const struct vballoon *b)
{
    return atomic_load(&b->reported);
}

bool vballoon_stats(struct vballoon *b, uint64_t stats[VBALLOON_STATS])
{
    pthread_mutex_lock(&b->virtio.bus->lock);
    bool have = b->have_stats;
    memcpy(stats, b->stats, sizeof b->stats);
    b->want_stats = true;
    pthread_mutex_unlock(&b->virtio.bus->lock);
    virtio_wake(&b->virtio);
    return have;
}

int vballoon_create(struct pci_host *h, const struct vballoon_config *cfg, struct vballoon **out, struct error *err)
{
    uint8_t config[CONFIG_BYTES] = {0};
    struct vballoon *b = calloc(1, sizeof *b);
    if (!b)
        return error_set(err, 0, "device 'virtio-balloon': out of memory; close other programs");
    pci_set32(config + CONFIG_NUM_PAGES, (uint32_t)MIN(cfg->inflated / VBALLOON_PAGE, UINT32_MAX));
    uint64_t features = VBALLOON_F_STATS_VQ | VBALLOON_F_PAGE_POISON | (cfg->deflate_on_oom ? VBALLOON_F_DEFLATE_ON_OOM : 0) |
                        (cfg->reporting ? VBALLOON_F_REPORTING : 0);
    if (virtio_create(&b->virtio, &vballoon_class, VBALLOON_QUEUES, h, cfg->slot, features, config, err) < 0) {
        free(b);
        return -1;
    }
    *out = b;
    return 0;
}

void vballoon_destroy(struct vballoon *b)
{
    if (!b)
        return;
    virtio_destroy(&b->virtio);
    free(b);
}
