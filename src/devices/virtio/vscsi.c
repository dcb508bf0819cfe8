// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A request (5.6.6.1) is a header with the CDB and the data to the device, then a response with sense data and the data to the
 * driver. Both headers' sizes are the driver's choice, and so is where the buffers are cut; what is left of them is the unit's to
 * transfer.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/virtio/vscsi_internal.h"

#define VSCSI_QUEUE_SIZE 256

enum { CONFIG_SENSE_SIZE = 20, CONFIG_CDB_SIZE = 24 };
enum { OP_REQUEST_SENSE = 0x03, OP_INQUIRY = 0x12, OP_REPORT_LUNS = 0xa0 };

/* The device configuration (5.6.4). */
struct vscsi_space {
    uint32_t num_queues, seg_max, max_sectors, cmd_per_lun, event_info_size, sense_size, cdb_size;
    uint16_t max_channel, max_target;
    uint32_t max_lun;
};
_Static_assert(offsetof(struct vscsi_space, sense_size) == CONFIG_SENSE_SIZE &&
                   offsetof(struct vscsi_space, cdb_size) == CONFIG_CDB_SIZE,
               "the sizes are where the guest writes them");

struct header {
    uint8_t lun[VSCSI_LUN_BYTES];
    uint64_t id;
    uint8_t task_attr, prio, crn; /* the CDB follows */
} __attribute__((packed));

struct response {
    uint32_t sense_len, residual;
    uint16_t status_qualifier;
    uint8_t status, response; /* the sense data follows */
};

/* The target is 0; units are numbered flat (5.6.6.1; SAM-5, 4.7). */
enum vscsi_place vscsi_find(const struct vscsi *s, const uint8_t lun[VSCSI_LUN_BYTES], unsigned *index)
{
    if (lun[0] != 1 || lun[1] != 0)
        return VSCSI_NO_TARGET;
    *index = scsi_get16(lun + 2) & 0x3fff;
    return vscsi_unit(s, *index) ? VSCSI_UNIT : VSCSI_NO_UNIT;
}

/* ---- the end of a request ---- */

static void answer(struct vscsi_req *r, struct response *a)
{
    struct vscsi *s = r->adapter;
    struct vq_elem *e = r->elem;
    uint8_t sense[SCSI_SENSE_BYTES];
    uint64_t written = sizeof *a;
    if (a->status == SCSI_CHECK_CONDITION) {
        scsi_sense_data(r->scsi.sense, sense);
        a->sense_len = (uint32_t)MIN(s->sense_size, sizeof sense);
        written += iov_write(e->in, e->nin, sizeof *a, sense, a->sense_len);
    }
    iov_write(e->in, e->nin, 0, a, sizeof *a);
    if (r->scsi.transferred && r->scsi.in.len)
        written = sizeof *a + s->sense_size + r->scsi.transferred;
    virtio_push(&s->virtio, r->queue, e, (uint32_t)written);
}

static void request_done(struct scsi_request *scsi)
{
    struct vscsi_req *r = container_of(scsi, struct vscsi_req, scsi);
    struct vscsi_tmf *tmf = r->tmf;
    struct vscsi *s = r->adapter;
    struct response a = {.residual = (uint32_t)(r->room - MIN(r->room, scsi->transferred))};
    if (r->verdict)
        a.response = r->verdict;
    else if (scsi->overrun)
        a.response = VSCSI_S_OVERRUN;
    else if (scsi->sense)
        a.status = SCSI_CHECK_CONDITION;
    answer(r, &a);
    *r->prev = r->next;
    if (r->next)
        r->next->prev = r->prev;
    free(r);
    if (tmf)
        vscsi_tmf_progress(s, tmf);
}

/* ---- what the target answers itself ---- */

static void report_luns(struct vscsi_req *r)
{
    const struct vscsi *s = r->adapter;
    uint8_t data[8 + 8 * VSCSI_UNITS] = {0};
    size_t len = 8;
    if (r->scsi.cdb[2] > 2) {
        scsi_refuse(&r->scsi, SENSE_INVALID_FIELD);
        return;
    }
    for (unsigned i = 0; i < VSCSI_UNITS && r->scsi.cdb[2] != 1; i++) { /* 1: well-known units, which are none */
        if (vscsi_unit(s, i)) {
            data[len + 1] = (uint8_t)i;
            len += 8;
        }
    }
    scsi_put32(data, (uint32_t)len - 8);
    scsi_give(&r->scsi, data, len, scsi_get32(r->scsi.cdb + 6));
}

/* For a unit that is none. */
static void no_unit(struct vscsi_req *r)
{
    uint8_t data[36];
    switch (r->scsi.cdb[0]) {
    case OP_INQUIRY:
        scsi_inquiry_data(data, 0x7f, ""); /* neither there, nor could it be */
        if (r->scsi.cdb[1] & 1)
            scsi_refuse(&r->scsi, SENSE_INVALID_FIELD);
        else
            scsi_give(&r->scsi, data, sizeof data, scsi_get16(r->scsi.cdb + 3));
        break;
    case OP_REQUEST_SENSE:
        scsi_sense_data(SENSE_NO_UNIT, data);
        scsi_give(&r->scsi, data, SCSI_SENSE_BYTES, r->scsi.cdb[4]);
        break;
    default:
        scsi_refuse(&r->scsi, SENSE_NO_UNIT);
        break;
    }
}

/* ---- the start of a request ---- */

/* `list` without its first `skip` bytes, copied to `to`. */
static struct scsi_data data_behind(const struct iovec *list, unsigned n, uint64_t skip, struct iovec *to)
{
    struct scsi_data d = {.iov = to};
    for (unsigned i = 0; i < n; i++) {
        uint64_t cut = MIN(skip, (uint64_t)list[i].iov_len);
        skip -= cut;
        if (list[i].iov_len == cut)
            continue;
        to[d.niov] = (struct iovec){(uint8_t *)list[i].iov_base + cut, list[i].iov_len - cut};
        d.len += to[d.niov++].iov_len;
    }
    return d;
}

static void start_request(struct vscsi *s, unsigned queue, struct vq_elem *e)
{
    struct header h;
    uint64_t out_head = sizeof h + s->cdb_size, in_head = sizeof(struct response) + s->sense_size;
    static const uint8_t report_luns_unit[VSCSI_LUN_BYTES] = {0xc1, 0x01};
    unsigned lun = 0;
    if (e->out_len < out_head || e->in_len < in_head) {
        virtio_push(&s->virtio, queue, e, 0);
        virtio_break(&s->virtio, "a request is shorter than its headers");
        return;
    }
    struct vscsi_req *r = calloc(1, sizeof *r + (e->nout + e->nin) * sizeof r->iov[0]);
    if (!r) {
        vq_discard(&s->virtio.queues[queue], e);
        virtio_break(&s->virtio, "the host has no memory for a request");
        return;
    }
    iov_read(e->out, e->nout, 0, &h, sizeof h);
    iov_read(e->out, e->nout, sizeof h, r->scsi.cdb, MIN(s->cdb_size, (uint64_t)SCSI_CDB_MAX));
    r->adapter = s;
    r->elem = e;
    r->queue = queue;
    r->tag = h.id;
    r->scsi.done = request_done;
    r->scsi.out = data_behind(e->out, e->nout, out_head, r->iov);
    r->scsi.in = data_behind(e->in, e->nin, in_head, r->iov + e->nout);
    r->room = r->scsi.out.len + r->scsi.in.len;
    r->next = s->in_flight;
    r->prev = &s->in_flight;
    if (r->next)
        r->next->prev = &r->next;
    s->in_flight = r;
    bool well_known = memcmp(h.lun, report_luns_unit, sizeof h.lun) == 0;
    enum vscsi_place place = well_known ? VSCSI_NO_UNIT : vscsi_find(s, h.lun, &lun);
    r->lun = lun;
    if (place == VSCSI_NO_TARGET) {
        r->verdict = VSCSI_S_BAD_TARGET;
        scsi_good(&r->scsi);
    } else if (r->scsi.cdb[0] == OP_REPORT_LUNS) {
        report_luns(r);
    } else if (place == VSCSI_NO_UNIT) {
        no_unit(r);
    } else {
        scsi_start(vscsi_unit(s, lun), &r->scsi);
    }
}

/* ---- the I/O thread ---- */

static struct vscsi *vscsi_of(struct virtio_dev *v)
{
    return container_of(v, struct vscsi, virtio);
}

static uint32_t config_word(struct virtio_dev *v, unsigned at)
{
    pthread_mutex_lock(&v->bus->lock);
    uint32_t word = pci_get32(v->config + at);
    pthread_mutex_unlock(&v->bus->lock);
    return word;
}

static void vscsi_start(struct virtio_dev *v)
{
    struct vscsi *s = vscsi_of(v);
    s->cdb_size = config_word(v, CONFIG_CDB_SIZE);
    s->sense_size = config_word(v, CONFIG_SENSE_SIZE);
    __atomic_store_n(&s->added, 0, __ATOMIC_RELAXED); /* the driver looks for units itself */
    for (unsigned i = 0; i < VSCSI_UNITS; i++)
        if (vscsi_unit(s, i))
            scsi_unit_reset(vscsi_unit(s, i));
}

static void vscsi_queue_ready(struct virtio_dev *v, unsigned q)
{
    struct vscsi *s = vscsi_of(v);
    struct vq_elem *e;
    if (q == VSCSI_CONTROL)
        vscsi_control_ready(s);
    else if (q == VSCSI_EVENTS)
        vscsi_send_events(s);
    else
        while (virtio_pop(v, q, &e) > 0)
            start_request(s, q, e);
}

static void vscsi_prepare(struct virtio_dev *v, struct pollset *p)
{
    struct vscsi *s = vscsi_of(v);
    if (__atomic_load_n(&s->added, __ATOMIC_ACQUIRE))
        vscsi_send_events(s);
    for (unsigned i = 0; i < VSCSI_UNITS; i++) {
        const struct scsi_unit *u = vscsi_unit(s, i);
        if (!u || !u->block)
            continue;
        block_poll(u->block);
        pollset_timeout(p, block_timeout(u->block));
        pollset_add(p, block_event_fd(u->block), POLLIN);
    }
}

static void vscsi_stop(struct virtio_dev *v)
{
    struct vscsi *s = vscsi_of(v);
    for (unsigned i = 0; i < VSCSI_UNITS; i++)
        if (vscsi_unit(s, i) && vscsi_unit(s, i)->block)
            block_drain(vscsi_unit(s, i)->block);
}

static const struct virtio_class vscsi_class = {
    .name = "virtio-scsi",
    .type = 8,
    .pci_class = 0x010000,
    .queue_size = VSCSI_QUEUE_SIZE,
    .config_len = sizeof(struct vscsi_space),
    .config_wmask = {[CONFIG_SENSE_SIZE] = 0xff, 0xff, 0xff, 0xff, [CONFIG_CDB_SIZE] = 0xff, 0xff, 0xff, 0xff},
    .start = vscsi_start,
    .queue_ready = vscsi_queue_ready,
    .stop = vscsi_stop,
    .prepare = vscsi_prepare,
};

/* ---- life ---- */

int vscsi_create(struct pci_host *h, const struct vscsi_config *cfg, struct vscsi **out, struct error *err)
{
    struct vscsi *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, ENOMEM, "device 'virtio-scsi': out of memory; close other programs");
    unsigned queues = MIN(MAX(cfg->queues, 1u), (unsigned)VSCSI_QUEUES_MAX);
    struct vscsi_space space = {
        .num_queues = queues,
        .seg_max = VSCSI_QUEUE_SIZE - 2,
        .max_sectors = 0xffff,
        .cmd_per_lun = VSCSI_QUEUE_SIZE / 2,
        .event_info_size = 16,
        .sense_size = 96,
        .cdb_size = 32,
        .max_lun = VSCSI_UNITS - 1,
    };
    if (virtio_create(&s->virtio, &vscsi_class, VSCSI_REQUESTS + queues, h, cfg->slot, VSCSI_F_HOTPLUG, &space, err) < 0) {
        free(s);
        return -1;
    }
    *out = s;
    return 0;
}

int vscsi_attach(struct vscsi *s, unsigned lun, const struct vscsi_unit_config *cfg, struct error *err)
{
    struct scsi_unit *u = lun < VSCSI_UNITS && !vscsi_unit(s, lun) ? calloc(1, sizeof *u) : NULL;
    if (!u)
        return error_set(err, 0, "device 'virtio-scsi': no room for unit %u; give the disk another bus", lun);
    u->kind = cfg->cdrom ? &scsi_cdrom : &scsi_disk;
    u->block = cfg->block;
    snprintf(u->serial, sizeof u->serial, "%s", cfg->serial ? cfg->serial : "");
    scsi_unit_reset(u);
    __atomic_store_n(&s->units[lun], u, __ATOMIC_RELEASE);
    __atomic_fetch_or(&s->added, BIT(lun), __ATOMIC_RELEASE);
    virtio_wake(&s->virtio);
    return 0;
}

const struct pci_dev *vscsi_pci(const struct vscsi *s)
{
    return &s->virtio.pci;
}

void vscsi_destroy(struct vscsi *s)
{
    if (!s)
        return;
    virtio_destroy(&s->virtio);
    for (unsigned i = 0; i < VSCSI_UNITS; i++)
        free(s->units[i]);
    free(s);
}
