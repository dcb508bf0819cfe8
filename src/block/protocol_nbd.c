// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disks that an NBD server exports, by libnbd. Names: nbd://HOST[:PORT]/EXPORT, nbds:// (TLS), nbd+unix:///EXPORT?socket=PATH, and
 * QEMU's nbd:HOST:PORT[:exportname=NAME] and nbd:unix:PATH[:exportname=NAME].
 */
#include <errno.h>
#include <libnbd.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/util.h"
#include "block/library.h"
#include "block/remote.h"

#define CALLS(X)              \
    X(nbd_create)             \
    X(nbd_close)              \
    X(nbd_get_error)          \
    X(nbd_get_errno)          \
    X(nbd_add_meta_context)   \
    X(nbd_can_meta_context)   \
    X(nbd_set_export_name)    \
    X(nbd_aio_connect_uri)    \
    X(nbd_aio_connect_unix)   \
    X(nbd_aio_connect_tcp)    \
    X(nbd_aio_is_connecting)  \
    X(nbd_aio_is_negotiating) \
    X(nbd_aio_is_ready)       \
    X(nbd_aio_is_dead)        \
    X(nbd_aio_is_closed)      \
    X(nbd_poll)               \
    X(nbd_get_size)           \
    X(nbd_get_block_size)     \
    X(nbd_is_read_only)       \
    X(nbd_can_flush)          \
    X(nbd_can_zero)           \
    X(nbd_aio_get_fd)         \
    X(nbd_aio_get_direction)  \
    X(nbd_aio_notify_read)    \
    X(nbd_aio_notify_write)   \
    X(nbd_aio_pread)          \
    X(nbd_aio_pwrite)         \
    X(nbd_aio_flush)          \
    X(nbd_aio_zero)           \
    X(nbd_aio_block_status)   \
    X(nbd_aio_disconnect)

#define CALL(name) LIBRARY_CALL(lib, name),
#define ALLOCATION "base:allocation"
#define UNIT_MAX   4096
#define SEND_BYTES (1 << 20)

static struct {
    CALLS(LIBRARY_POINTER)
} lib;
static const struct library_call calls[] = {CALLS(CALL)};

struct nbd {
    struct nbd_handle *h; /* NULL: cut */
    bool has_status, can_flush, can_zero;
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
        return lib.nbd_aio_connect_unix(n->h, text + 5);
    char *colon = strrchr(text, ':');
    if (colon)
        *colon = 0;
    return lib.nbd_aio_connect_tcp(n->h, *text ? text : "localhost", colon ? colon + 1 : "10809");
}

static int begin_to_connect(struct nbd *n, const char *name)
{
    if (lib.nbd_add_meta_context(n->h, ALLOCATION) < 0)
        return -1;
    if (strncmp(name, "nbd:", 4) != 0 || strncmp(name, "nbd://", 6) == 0)
        return lib.nbd_aio_connect_uri(n->h, name);
    AUTO_FREE char *copy = strdup(name + 4);
    return copy ? connect_qemu(n, copy) : -1;
}

/* NULL, or why not. */
static const char *connect_to(struct nbd *n, const char *name)
{
    uint64_t end = now_ns() + remote_patience() * NS_PER_S;
    if (begin_to_connect(n, name) < 0)
        return lib.nbd_get_error();
    while (lib.nbd_aio_is_connecting(n->h) > 0 || lib.nbd_aio_is_negotiating(n->h) > 0) {
        uint64_t now = now_ns();
        int ret = now < end ? lib.nbd_poll(n->h, (int)MIN((end - now) / 1000000 + 1, 1000u)) : 0;
        if (ret < 0)
            return lib.nbd_get_error();
        if (ret == 0 && now >= end)
            return "the server does not answer";
    }
    return lib.nbd_aio_is_ready(n->h) > 0 ? NULL : lib.nbd_get_error();
}

/* What a Unix socket holds is set by the sender, and is three writes of 64 KiB unless asked for: the server would wait for each three. TCP finds its size itself. */
static void widen(struct nbd *n)
{
    int fd = lib.nbd_aio_get_fd(n->h), domain = 0, bytes = SEND_BYTES;
    socklen_t len = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes); /* as far as the host lets it */
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
    const char *why = n->h ? connect_to(n, f->path) : lib.nbd_get_error();
    int64_t size = why ? -1 : lib.nbd_get_size(n->h);
    if (size < 0) {
        why = why ? why : lib.nbd_get_error();
        error_set(err, 0, "%s '%s': cannot connect: %s; check that the server runs and has this export", what, f->path,
                  why ? why : "the server hung up");
        nbd_release(n);
        return -1;
    }
    widen(n);
    int64_t unit = lib.nbd_get_block_size(n->h, LIBNBD_SIZE_MINIMUM);
    f->unit = unit > 0 && unit <= UNIT_MAX && !(unit & (unit - 1)) ? (unsigned)unit : 1;
    f->physical = MAX(f->unit, BLOCK_SECTOR);
    f->size = (uint64_t)size;
    f->readonly |= lib.nbd_is_read_only(n->h) != 0;
    n->has_status = lib.nbd_can_meta_context(n->h, ALLOCATION) > 0;
    n->can_flush = lib.nbd_can_flush(n->h) > 0;
    n->can_zero = lib.nbd_can_zero(n->h) > 0;
    f->connection = n;
    return 0;
}

/* The server hears of it if it listens at once; nobody waits for one that does not. */
static void nbd_end(struct file *f)
{
    struct nbd *n = f->connection;
    if (n->h)
        lib.nbd_aio_disconnect(n->h, 0);
    nbd_release(n);
}

static void nbd_cut(struct file *f)
{
    struct nbd *n = f->connection;
    lib.nbd_close(n->h);
    n->h = NULL;
}

/* ---- commands ---- */

static int answered(void *opaque, int *error)
{
    remote_answer(opaque, -*error);
    return 1; /* the handle forgets it */
}

static int first_extent(void *opaque, const char *context, uint64_t offset, uint32_t *entries, size_t n, int *error)
{
    struct remote_cmd *c = opaque;
    (void)offset;
    (void)error;
    if (strcmp(context, ALLOCATION) == 0 && n >= 2 && entries[0]) {
        c->zero = entries[1] & LIBNBD_STATE_ZERO;
        c->len = MIN(c->len, entries[0]);
    }
    return 0;
}

/* 0: its end comes by answered(); 1: it has ended; -1: libnbd does not take it. */
static int issue(struct nbd *n, struct remote_cmd *c)
{
    nbd_completion_callback end = {.callback = answered, .user_data = c};
    nbd_extent_callback extent = {.callback = first_extent, .user_data = c};
    switch (c->op) {
    case REMOTE_READ:
        return lib.nbd_aio_pread(n->h, c->data, c->len, c->offset, end, 0) < 0 ? -1 : 0;
    case REMOTE_WRITE:
        return lib.nbd_aio_pwrite(n->h, c->data, c->len, c->offset, end, 0) < 0 ? -1 : 0;
    case REMOTE_SYNC:
        return !n->can_flush ? 1 : lib.nbd_aio_flush(n->h, end, 0) < 0 ? -1 : 0;
    case REMOTE_ZERO:
        return !n->can_zero                                                                                 ? 1
               : lib.nbd_aio_zero(n->h, c->len, c->offset, end, c->punch ? 0 : LIBNBD_CMD_FLAG_NO_HOLE) < 0 ? -1
                                                                                                            : 0;
    case REMOTE_EXTENT:
        return !n->has_status                                                                                ? 1
               : lib.nbd_aio_block_status(n->h, c->len, c->offset, extent, end, LIBNBD_CMD_FLAG_REQ_ONE) < 0 ? -1
                                                                                                             : 0;
    }
    return 1;
}

static void nbd_start(struct file *f, struct remote_cmd *c)
{
    enum remote_op op = c->op;
    int ret = issue(f->connection, c);
    if (ret > 0)
        remote_answer(c, op == REMOTE_ZERO ? -EOPNOTSUPP : 0);
    else if (ret < 0)
        remote_answer(c, lib.nbd_get_errno() ? -lib.nbd_get_errno() : -EIO);
}

static bool hung_up(struct nbd *n)
{
    return lib.nbd_aio_is_dead(n->h) > 0 || lib.nbd_aio_is_closed(n->h) > 0;
}

static int nbd_socket(struct file *f, uint32_t *events)
{
    struct nbd *n = f->connection;
    unsigned want = lib.nbd_aio_get_direction(n->h);
    *events = (want & LIBNBD_AIO_DIRECTION_READ ? EPOLLIN : 0) | (want & LIBNBD_AIO_DIRECTION_WRITE ? EPOLLOUT : 0);
    return lib.nbd_aio_get_fd(n->h);
}

static int nbd_ready(struct file *f, uint32_t events)
{
    struct nbd *n = f->connection;
    bool reads = lib.nbd_aio_get_direction(n->h) & LIBNBD_AIO_DIRECTION_READ;
    if (reads && events & ~(uint32_t)EPOLLOUT)
        lib.nbd_aio_notify_read(n->h);
    else
        lib.nbd_aio_notify_write(n->h);
    return hung_up(n) ? -ECONNRESET : 0;
}

static const char *const prefixes[] = {"nbd:", "nbds://", "nbd+unix://", "nbds+unix://", NULL};
const struct file_protocol protocol_nbd = {.prefixes = prefixes,
                                           .open = nbd_open,
                                           .close = nbd_end,
                                           .start = nbd_start,
                                           .socket = nbd_socket,
                                           .ready = nbd_ready,
                                           .cut = nbd_cut,
                                           .transfer_max = 4 * MIB, /* every server takes that */
                                           .range_max = GIB,
                                           .has_zero = true,
                                           .has_extents = true};
