/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What vscsi.c (requests) and vscsi_ctrl.c (task management, events) share. Everything runs on the I/O thread unless marked
 * otherwise. */
#ifndef LODGE_DEVICES_VSCSI_INTERNAL_H
#define LODGE_DEVICES_VSCSI_INTERNAL_H

#include "base/util.h"
#include "devices/scsi/scsi.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio/vscsi.h"

enum { VSCSI_CONTROL, VSCSI_EVENTS, VSCSI_REQUESTS /* and those behind it */ };

/* Responses (5.6.6.1, 5.6.6.2). */
enum {
    VSCSI_S_OK = 0,
    VSCSI_S_OVERRUN = 1,
    VSCSI_S_ABORTED = 2,
    VSCSI_S_BAD_TARGET = 3,
    VSCSI_S_RESET = 4,
    VSCSI_S_FUNCTION_SUCCEEDED = 10,
    VSCSI_S_FUNCTION_REJECTED = 11,
    VSCSI_S_INCORRECT_LUN = 12
};

#define VSCSI_F_HOTPLUG BIT64(1)
#define VSCSI_LUN_BYTES 8

/* What a LUN field names. */
enum vscsi_place { VSCSI_UNIT, VSCSI_NO_UNIT /* of our target */, VSCSI_NO_TARGET };

/* A task management function that waits for the ends of requests. */
struct vscsi_tmf {
    struct vq_elem *elem;
    unsigned pending;
    unsigned reset; /* bit per unit to reset at the end */
};

struct vscsi_req {
    struct scsi_request scsi;
    struct vscsi *adapter;
    struct vq_elem *elem;
    unsigned queue, lun;
    uint64_t tag;
    uint64_t room;                  /* bytes of data, both ways */
    uint8_t verdict;                /* the response that a task management function gave it, or 0 */
    struct vscsi_tmf *tmf;          /* that waits for it */
    struct vscsi_req *next, **prev; /* in flight */
    struct iovec iov[];
};

struct vscsi {
    struct virtio_dev virtio;             /* first */
    struct scsi_unit *units[VSCSI_UNITS]; /* set once; read and written atomically */
    struct vscsi_req *in_flight;
    struct vscsi_tmf *tmf;         /* the function that waits, or NULL */
    uint64_t cdb_size, sense_size; /* latched when the driver is ready */
    uint32_t added;                /* bit per unit whose event is to be sent; atomic */
};

static inline struct scsi_unit *vscsi_unit(const struct vscsi *s, unsigned lun)
{
    return lun < VSCSI_UNITS ? __atomic_load_n(&s->units[lun], __ATOMIC_ACQUIRE) : NULL;
}
enum vscsi_place vscsi_find(const struct vscsi *s, const uint8_t lun[VSCSI_LUN_BYTES], unsigned *index);

/* ---- vscsi_ctrl.c ---- */

void vscsi_control_ready(struct vscsi *s);
void vscsi_send_events(struct vscsi *s);
void vscsi_tmf_progress(struct vscsi *s, struct vscsi_tmf *t); /* one of its requests has ended */

#endif
