// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "block/lock.h"
#include "rpc/remote.h"

#define TRANSFERS_MAX 16u /* of a daemon, at a time */
#define CHUNK         262144u

struct transfer {
    unsigned refs; /* the thread's and the stream's */
    int file, sock;
    bool upload;
    uint64_t at, left;
    char *path;
    unsigned *running; /* how many there are */
    bool ended;        /* the thread has no more to say: `failed` is its result */
    struct error failed;
};

void transfer_unref(struct transfer *t)
{
    if (!t || __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL))
        return;
    error_clear(&t->failed);
    free(t->path);
    free(t);
}

bool transfer_is_upload(const struct transfer *t)
{
    return t->upload;
}

int transfer_result(struct transfer *t, struct error *err)
{
    if (!__atomic_load_n(&t->ended, __ATOMIC_ACQUIRE))
        return error_set(err, VIR_ERR_INTERNAL_ERROR, "volume '%s': its copying broke off; try again", t->path);
    return error_is_set(&t->failed) ? error_copy(err, &t->failed) : 0;
}

/* ---- the thread ---- */

static int io_failed(struct transfer *t, const char *what)
{
    return error_set(&t->failed, VIR_ERR_SYSTEM_ERROR, "volume '%s': cannot %s it at %llu: %s; see to the disk", t->path, what,
                     (unsigned long long)t->at, strerror(errno));
}

/* The client has gone when this fails, and there is nobody to tell. */
static int send_all(int fd, const uint8_t *data, size_t len)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int download(struct transfer *t, uint8_t *buf)
{
    while (t->left) {
        ssize_t n = pread(t->file, buf, MIN(t->left, CHUNK), (off_t)t->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return io_failed(t, "read");
        if (n == 0 || send_all(t->sock, buf, (size_t)n) < 0)
            return 0;
        t->at += (uint64_t)n;
        t->left -= (uint64_t)n;
    }
    return 0;
}

static int write_all(struct transfer *t, const uint8_t *data, size_t len)
{
    while (len) {
        ssize_t n = pwrite(t->file, data, len, (off_t)t->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return io_failed(t, "write");
        t->at += (uint64_t)n;
        t->left -= (uint64_t)n;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int upload(struct transfer *t, uint8_t *buf)
{
    for (;;) {
        ssize_t n = recv(t->sock, buf, CHUNK, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) /* the client has sent all, or has gone */
            return fsync(t->file) < 0 ? io_failed(t, "write") : 0;
        if ((uint64_t)n > t->left)
            return error_set(&t->failed, VIR_ERR_OPERATION_FAILED,
                             "volume '%s': more was sent than it holds or than was announced; make it larger with vol-resize",
                             t->path);
        if (write_all(t, buf, (size_t)n) < 0)
            return -1;
    }
}

static void *run(void *arg)
{
    struct transfer *t = arg;
    AUTO_FREE uint8_t *buf = malloc(CHUNK);
    if (!buf)
        error_set(&t->failed, VIR_ERR_NO_MEMORY, "volume '%s': out of memory", t->path);
    else if (t->upload)
        upload(t, buf);
    else
        download(t, buf);
    block_unlock(t->file);
    close(t->file);
    __atomic_sub_fetch(t->running, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&t->ended, true, __ATOMIC_RELEASE);
    close(t->sock);
    transfer_unref(t);
    return NULL;
}

/* ---- beginning ---- */

/* Opens and locks the file; checks that the range lies in it. */
static int open_file(struct transfer *t, const struct transfer_config *cfg, struct error *err)
{
    AUTO_CLOSE int fd = open(cfg->path, (cfg->upload ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set(err, VIR_ERR_SYSTEM_ERROR, "volume '%s': cannot open it: %s; see to its rights", cfg->path,
                         strerror(errno));
    uint64_t size = (uint64_t)st.st_size;
    if (!S_ISREG(st.st_mode) || cfg->offset > size || cfg->length > size - cfg->offset)
        return error_set(err, VIR_ERR_INVALID_ARG, "volume '%s': has %llu bytes; give an offset and a length within them",
                         cfg->path, (unsigned long long)size);
    if (block_lock(fd, "volume", cfg->path, !cfg->upload, err) < 0) {
        err->errnum = VIR_ERR_OPERATION_INVALID;
        return -1;
    }
    t->file = steal_fd(&fd);
    t->at = cfg->offset;
    t->left = cfg->length ? cfg->length : size - cfg->offset;
    return 0;
}

static int start_thread(struct transfer *t, int *fd, struct error *err)
{
    int pair[2];
    pthread_t thread;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set(err, VIR_ERR_SYSTEM_ERROR, "volume '%s': cannot make a socket: %s; close other programs", t->path,
                         strerror(errno));
    t->sock = pair[1];
    t->refs = 2;
    int r = pthread_create(&thread, NULL, run, t);
    if (r) {
        close(pair[0]);
        close(pair[1]);
        return error_set(err, VIR_ERR_SYSTEM_ERROR, "volume '%s': cannot start a thread: %s; raise the limit of processes", t->path,
                         strerror(r));
    }
    pthread_detach(thread);
    *fd = pair[0];
    return 0;
}

int transfer_start(const struct transfer_config *cfg, int *fd, struct transfer **out, struct error *err)
{
    struct transfer *t = calloc(1, sizeof *t);
    char *path = strdup(cfg->path);
    if (!t || !path) {
        free(t);
        free(path);
        return error_set(err, VIR_ERR_NO_MEMORY, "volume '%s': out of memory", cfg->path);
    }
    *t = (struct transfer){.refs = 1, .file = -1, .upload = cfg->upload, .path = path, .running = cfg->running};
    int result;
    if (__atomic_add_fetch(t->running, 1, __ATOMIC_RELAXED) > TRANSFERS_MAX)
        result = error_set(err, VIR_ERR_OPERATION_FAILED, "volume '%s': %u others are being copied; try again later", cfg->path,
                           TRANSFERS_MAX);
    else
        result = open_file(t, cfg, err) < 0 ? -1 : start_thread(t, fd, err);
    if (result == 0) {
        *out = t;
        return 0;
    }
    __atomic_sub_fetch(t->running, 1, __ATOMIC_RELAXED);
    if (t->file >= 0) {
        block_unlock(t->file);
        close(t->file);
    }
    t->refs = 1;
    transfer_unref(t);
    return -1;
}
