/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A volume's bytes on their way from or to a client. A thread of its own copies between the file and one end of a socket pair; the
 * other end is a stream like a console's. So the thread may wait for the disk, and the main thread does not.
 *
 * The thread closes its end when it is done or has failed; whoever has the other end asks transfer_result() then.
 */
#ifndef LODGE_DAEMON_TRANSFER_H
#define LODGE_DAEMON_TRANSFER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct transfer;
struct transfer_config {
    const char *path; /* locked as QEMU does it: an image that a guest uses is not copied */
    bool upload;
    uint64_t offset, length; /* bytes; length 0: up to the end */
    unsigned *running;       /* the daemon's count of them */
};
/* *fd is the other end; *out a reference. 0, or -1 with err. */
int transfer_start(const struct transfer_config *cfg, int *fd, struct transfer **out, struct error *err);
bool transfer_is_upload(const struct transfer *t);
/* After the thread has closed its end. 0, or -1 with err. */
int transfer_result(struct transfer *t, struct error *err);
void transfer_unref(struct transfer *t); /* NULL is allowed */

#endif
