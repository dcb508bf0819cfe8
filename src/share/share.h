/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A folder of the host that a guest sees: a 9P2000.L server over a tree of files.
 *
 * Invariants
 * - Names from the guest are single components. Each is opened relative to its folder's descriptor, without following a link; what a fid is, is
 * a descriptor (O_PATH), never a path. So no link, no "..", and no rename leads out of the tree.
 * - Only regular files and folders are ever opened; FIFOs, sockets and devices of the host are seen, not touched.
 * - The guest's numbers are bounded: fids by SHARE_FIDS, messages by SHARE_MSIZE, what is kept of an extended attribute by its limit.
 * - A share belongs to one thread at a time. Requests are answered one after the other, each at once.
 */
#ifndef LODGE_SHARE_H
#define LODGE_SHARE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"

#define SHARE_MSIZE (512u * 1024 + 4096) /* bytes: a transfer of 512 KiB with its header */
#define SHARE_FIDS  65536u

/* Whose the files are (libvirt's accessmode). */
enum share_access {
    SHARE_PASSTHROUGH, /* the host's owners and modes; what this process may not do fails */
    SHARE_SQUASH,      /* the same, but changing an owner does nothing where it is not permitted; no devices, no set-ID bits */
    SHARE_MAPPED,      /* the guest's owners, modes and devices are extended attributes; QEMU's, so that either reads what the other wrote */
};

struct share_config {
    const char *path; /* of the folder */
    enum share_access access;
    bool readonly;
};

struct share;
/* 0, or -1 with err. */
int share_open(const struct share_config *cfg, struct share **out, struct error *err);
void share_close(struct share *s);
/* Forgets every fid, as when the guest resets the device. */
void share_reset(struct share *s);

/*
 * Answers the message in `out` (the guest's, changing at any time) into `in`: the bytes written, or 0 when there is no way to answer. The lengths are
 * the sums over the vectors.
 */
uint32_t share_serve(struct share *s, const struct iovec *out, unsigned nout, uint32_t out_len, const struct iovec *in, unsigned nin, uint32_t in_len);

#endif
