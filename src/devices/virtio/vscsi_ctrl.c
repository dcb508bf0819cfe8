// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Task management and events (5.6.6.2, 5.6.6.3). The block layer cannot take a request back, so a function that aborts waits until
 * the requests concerned have ended, and they end with the response that says so; nothing touches their memory afterwards.
 */
#include <string.h>

#include "devices/virtio/vscsi_internal.h"

enum { T_TMF = 0, T_AN_QUERY = 1, T_AN_SUBSCRIBE = 2 };
enum {
    TMF_ABORT_TASK,
    TMF_ABORT_TASK_SET,
    TMF_CLEAR_ACA,
    TMF_CLEAR_TASK_SET,
    TMF_NEXUS_RESET,
    TMF_UNIT_RESET,
    TMF_QUERY_TASK,
    TMF_QUERY_TASK_SET
};

struct tmf_request {
    uint32_t type, subtype;
    uint8_t lun[VSCSI_LUN_BYTES];
    uint64_t id;
};
struct an_request {
    uint32_t type;
    uint8_t lun[VSCSI_LUN_BYTES];
    uint32_t event_requested;
};
struct an_response {
    uint32_t event_actual;
    uint8_t response;
} __attribute__((packed));

enum { EVENT_TRANSPORT_RESET = 1, RESET_RESCAN = 1 };
struct event {
    uint32_t event;
    uint8_t lun[VSCSI_LUN_BYTES];
    uint32_t reason;
};

static void respond(struct vscsi *s, struct vq_elem *e, uint8_t response)
{
    virtio_push(&s->virtio, VSCSI_CONTROL, e, (uint32_t)iov_write(e->in, e->nin, 0, &response, sizeof response));
}

/* ---- task management ---- */

static void tmf_end(struct vscsi *s, struct vscsi_tmf *t)
{
    for (unsigned i = 0; i < VSCSI_UNITS; i++)
        if (t->reset & BIT(i))
            scsi_unit_reset(vscsi_unit(s, i));
    respond(s, t->elem, VSCSI_S_OK); /* FUNCTION COMPLETE */
    free(t);
    s->tmf = NULL;
    virtio_kick(&s->virtio, VSCSI_CONTROL); /* for those that waited */
}

void vscsi_tmf_progress(struct vscsi *s, struct vscsi_tmf *t)
{
    if (--t->pending == 0)
        tmf_end(s, t);
}

/* `tag` NULL: any request of the unit. */
static unsigned count_requests(const struct vscsi *s, unsigned lun, const uint64_t *tag)
{
    unsigned n = 0;
    for (const struct vscsi_req *r = s->in_flight; r; r = r->next)
        n += r->lun == lun && (!tag || r->tag == *tag);
    return n;
}

/* Aborts requests of a unit (-1: of every one). */
static void abort_requests(struct vscsi *s, int lun, const uint64_t *tag, uint8_t verdict, struct vscsi_tmf *t)
{
    for (struct vscsi_req *r = s->in_flight; r; r = r->next) {
        if ((lun >= 0 && r->lun != (unsigned)lun) || (tag && r->tag != *tag))
            continue;
        r->verdict = verdict;
        r->tmf = t;
        t->pending++;
    }
}

static void start_abort(struct vscsi *s, struct vq_elem *e, const struct tmf_request *q, unsigned lun)
{
    bool nexus = q->subtype == TMF_NEXUS_RESET, reset = nexus || q->subtype == TMF_UNIT_RESET;
    struct vscsi_tmf *t = calloc(1, sizeof *t);
    if (!t) {
        respond(s, e, VSCSI_S_FUNCTION_REJECTED);
        return;
    }
    t->elem = e;
    s->tmf = t;
    for (unsigned i = 0; reset && i < VSCSI_UNITS; i++)
        t->reset |= vscsi_unit(s, i) && (nexus || i == lun) ? BIT(i) : 0;
    abort_requests(s, nexus ? -1 : (int)lun, q->subtype == TMF_ABORT_TASK ? &q->id : NULL, reset ? VSCSI_S_RESET : VSCSI_S_ABORTED,
                   t);
    if (t->pending == 0)
        tmf_end(s, t);
}

static void task_management(struct vscsi *s, struct vq_elem *e)
{
    struct tmf_request q;
    unsigned lun = 0;
    if (iov_read(e->out, e->nout, 0, &q, sizeof q) != sizeof q) {
        respond(s, e, VSCSI_S_FUNCTION_REJECTED);
        return;
    }
    enum vscsi_place place = vscsi_find(s, q.lun, &lun);
    if (place != VSCSI_UNIT && !(place == VSCSI_NO_UNIT && q.subtype == TMF_NEXUS_RESET)) {
        respond(s, e, place == VSCSI_NO_UNIT ? VSCSI_S_INCORRECT_LUN : VSCSI_S_BAD_TARGET);
        return;
    }
    switch (q.subtype) {
    case TMF_ABORT_TASK:
    case TMF_ABORT_TASK_SET:
    case TMF_CLEAR_TASK_SET:
    case TMF_NEXUS_RESET:
    case TMF_UNIT_RESET:
        start_abort(s, e, &q, lun);
        break;
    case TMF_QUERY_TASK:
    case TMF_QUERY_TASK_SET:
        respond(s, e, count_requests(s, lun, q.subtype == TMF_QUERY_TASK ? &q.id : NULL) ? VSCSI_S_FUNCTION_SUCCEEDED : VSCSI_S_OK);
        break;
    default: /* there is no ACA to clear */
        respond(s, e, VSCSI_S_FUNCTION_REJECTED);
        break;
    }
}

/* Asynchronous notifications: units have none to offer. */
static void notifications(struct vscsi *s, struct vq_elem *e)
{
    struct an_request q;
    struct an_response a = {0};
    unsigned lun;
    bool whole = iov_read(e->out, e->nout, 0, &q, sizeof q) == sizeof q;
    a.response = whole && vscsi_find(s, q.lun, &lun) == VSCSI_UNIT ? VSCSI_S_OK : VSCSI_S_BAD_TARGET;
    virtio_push(&s->virtio, VSCSI_CONTROL, e, (uint32_t)iov_write(e->in, e->nin, 0, &a, sizeof a));
}

/* One function at a time: what comes behind it stays in the ring. */
void vscsi_control_ready(struct vscsi *s)
{
    struct vq_elem *e;
    while (!s->tmf && virtio_pop(&s->virtio, VSCSI_CONTROL, &e) > 0) {
        uint32_t type = UINT32_MAX;
        iov_read(e->out, e->nout, 0, &type, sizeof type);
        if (type == T_TMF)
            task_management(s, e);
        else if (type == T_AN_QUERY || type == T_AN_SUBSCRIBE)
            notifications(s, e);
        else
            respond(s, e, VSCSI_S_FUNCTION_REJECTED);
    }
}

/* ---- events ---- */

/* Units that were added wait for the driver's buffers; there are no more events than units, so none gets lost. */
void vscsi_send_events(struct vscsi *s)
{
    struct vq_elem *e;
    if (!s->virtio.running || !virtio_has(&s->virtio, VSCSI_F_HOTPLUG))
        return;
    uint32_t added = __atomic_load_n(&s->added, __ATOMIC_ACQUIRE);
    while (added && virtio_pop(&s->virtio, VSCSI_EVENTS, &e) > 0) {
        unsigned lun = (unsigned)__builtin_ctz(added);
        struct event v = {.event = EVENT_TRANSPORT_RESET, .lun = {1, 0, 0x40, (uint8_t)lun}, .reason = RESET_RESCAN};
        virtio_push(&s->virtio, VSCSI_EVENTS, e, (uint32_t)iov_write(e->in, e->nin, 0, &v, sizeof v));
        added = __atomic_and_fetch(&s->added, ~BIT(lun), __ATOMIC_ACQ_REL);
    }
}
