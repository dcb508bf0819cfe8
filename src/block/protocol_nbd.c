// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disks that an NBD server exports, by libnbd. Names: nbd://HOST[:PORT]/EXPORT, nbds:// (TLS), nbd+unix:///EXPORT?socket=PATH, and QEMU's
 * nbd:HOST:PORT[:exportname=NAME] and nbd:unix:PATH[:exportname=NAME].
 */
#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <linux/falloc.h>
#include <string.h>

#include "base/util.h"
#include "block/file.h"
#include "block/library.h"

#define CALLS(X)                                                                                                                                    \
    X(nbd_create)                                                                                                                                   \
    X(nbd_close)                                                                                                                                    \
    X(nbd_get_error)                                                                                                                                \
    X(nbd_get_errno)                                                                                                                                \
    X(nbd_add_meta_context)                                                                                                                         \
    X(nbd_can_meta_context)                                                                                                                         \
    X(nbd_set_export_name)                                                                                                                          \
    X(nbd_connect_uri)                                                                                                                              \
    X(nbd_connect_unix)                                                                                                                             \
    X(nbd_connect_tcp)                                                                                                                              \
    X(nbd_get_size)                                                                                                                                 \
    X(nbd_is_read_only)                                                                                                                             \
    X(nbd_can_flush)                                                                                                                                \
    X(nbd_can_trim)                                                                                                                                 \
    X(nbd_can_zero)                                                                                                                                 \
    X(nbd_pread)                                                                                                                                    \
    X(nbd_pwrite)                                                                                                                                   \
    X(nbd_flush)                                                                                                                                    \
    X(nbd_trim)                                                                                                                                     \
    X(nbd_zero)                                                                                                                                     \
    X(nbd_block_status)                                                                                                                             \
    X(nbd_shutdown)

#define CALL(name) LIBRARY_CALL(lib, name),
#define TRANSFER_MAX (32 * MIB) /* bytes of one request; every server takes that */
#define RANGE_MAX    GIB        /* of one that carries no data */
#define ALLOCATION   "base:allocation"

static struct {
    CALLS(LIBRARY_POINTER)
} lib;
static const struct library_call calls[] = {CALLS(CALL)};

struct nbd {
    struct nbd_handle *h;
    bool has_status;
};

/* ---- connecting ---- */

/* QEMU's own notation: what is behind "nbd:". Cuts `text` into pieces. */
static int connect_qemu(struct nbd *n, char *text)
{
    char *export = strstr(text, ":exportname=");
    if (export) {
        *export = 0;
        if (lib.nbd_set_export_name(n->h, export + strlen(":exportname=")) < 0)
            return -1;
    }
    if (strncmp(text, "unix:", 5) == 0)
        return lib.nbd_connect_unix(n->h, text + 5);
    char *colon = strrchr(text, ':');
    if (colon)
        *colon = 0;
    return lib.nbd_connect_tcp(n->h, *text ? text : "localhost", colon ? colon + 1 : "10809");
}

static int connect_to(struct nbd *n, const char *name)
{
    if (lib.nbd_add_meta_context(n->h, ALLOCATION) < 0)
        return -1;
    if (strncmp(name, "nbd:", 4) != 0 || strncmp(name, "nbd://", 6) == 0)
        return lib.nbd_connect_uri(n->h, name);
    AUTO_FREE char *copy = strdup(name + 4);
    return copy ? connect_qemu(n, copy) : -1;
}

static void nbd_release(struct nbd *n)
{
    if (n->h)
        lib.nbd_close(n->h);
    free(n);
}

static int nbd_open(struct file *f, const char *what, struct error *err)
{
    if (library_load("libnbd.so.0", "libnbd0", calls, ARRAY_SIZE(calls), what, f->path, err) < 0)
        return -1;
    struct nbd *n = calloc(1, sizeof *n);
    if (!n)
        return error_set(err, ENOMEM, "%s '%s': out of memory; close other programs", what, f->path);
    n->h = lib.nbd_create();
    int64_t size = n->h && connect_to(n, f->path) == 0 ? lib.nbd_get_size(n->h) : -1;
    if (size < 0) {
        error_set(err, lib.nbd_get_errno(), "%s '%s': cannot connect: %s; check that the server runs and has this export", what, f->path, lib.nbd_get_error());
        nbd_release(n);
        return -1;
    }
    f->size = (uint64_t)size;
    f->readonly |= lib.nbd_is_read_only(n->h) != 0;
    n->has_status = lib.nbd_can_meta_context(n->h, ALLOCATION) > 0;
    f->remote = n;
    return 0;
}

static void nbd_end(struct file *f)
{
    struct nbd *n = f->remote;
    lib.nbd_shutdown(n->h, 0);
    nbd_release(n);
}

/* ---- requests ---- */

static int result(int ret)
{
    return ret < 0 ? -(lib.nbd_get_errno() ? lib.nbd_get_errno() : EIO) : 0;
}

static ssize_t transfer(struct file *f, const struct io_step *s)
{
    struct nbd *n = f->remote;
    uint64_t at = s->offset, left = MIN(s->len, s->offset < f->size ? f->size - s->offset : 0);
    if (s->kind == IO_WRITE && left < s->len)
        return -ENOSPC;
    for (int i = 0; i < s->niov && left; i++)
        for (uint64_t done = 0, part, len = MIN(s->iov[i].iov_len, left); done < len; done += part, at += part, left -= part) {
            uint8_t *p = (uint8_t *)s->iov[i].iov_base + done;
            part = MIN(len - done, TRANSFER_MAX);
            int ret = result(s->kind == IO_READ ? lib.nbd_pread(n->h, p, part, at, 0) : lib.nbd_pwrite(n->h, p, part, at, 0));
            if (ret < 0)
                return ret;
        }
    return (ssize_t)(at - s->offset);
}

static ssize_t allocate(struct file *f, const struct io_step *s)
{
    struct nbd *n = f->remote;
    bool punch = s->mode & FALLOC_FL_PUNCH_HOLE;
    int ret = 0;
    if (lib.nbd_can_zero(n->h) <= 0)
        return -EOPNOTSUPP;
    for (uint64_t done = 0, part; ret == 0 && done < s->len; done += part) {
        part = MIN(s->len - done, RANGE_MAX);
        ret = result(lib.nbd_zero(n->h, part, s->offset + done, punch ? 0 : LIBNBD_CMD_FLAG_NO_HOLE));
    }
    return ret;
}

static ssize_t nbd_run(struct file *f, const struct io_step *s)
{
    struct nbd *n = f->remote;
    switch (s->kind) {
    case IO_READ:
    case IO_WRITE: return transfer(f, s);
    case IO_SYNC: return lib.nbd_can_flush(n->h) > 0 ? result(lib.nbd_flush(n->h, 0)) : 0;
    case IO_ALLOCATE: return allocate(f, s);
    case IO_CALL: break;
    }
    return -EOPNOTSUPP;
}

struct status {
    uint64_t len;
    bool zero, any;
};

static int first_extent(void *opaque, const char *context, uint64_t offset, uint32_t *entries, size_t n, int *error)
{
    struct status *st = opaque;
    (void)offset;
    (void)error;
    if (strcmp(context, ALLOCATION) == 0 && n >= 2 && !st->any)
        *st = (struct status){entries[0], entries[1] & LIBNBD_STATE_ZERO, true};
    return 0;
}

static int nbd_is_zero(struct file *f, uint64_t offset, uint64_t *len, bool *zero)
{
    struct nbd *n = f->remote;
    struct status st = {0};
    *zero = false;
    if (!n->has_status || offset >= f->size)
        return 0;
    uint64_t want = MIN(MIN(*len, f->size - offset), RANGE_MAX);
    int ret = result(lib.nbd_block_status(n->h, want, offset, (nbd_extent_callback){.callback = first_extent, .user_data = &st}, LIBNBD_CMD_FLAG_REQ_ONE));
    *len = want;
    if (ret < 0 || !st.any || !st.len)
        return ret;
    *zero = st.zero;
    *len = MIN(want, st.len);
    return 0;
}

static const char *const prefixes[] = {"nbd:", "nbds://", "nbd+unix://", "nbds+unix://", NULL};
const struct file_protocol protocol_nbd = {prefixes, nbd_open, nbd_end, nbd_run, nbd_is_zero};
