// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The contents are in memory of this process, which the guest sees read-only while the chip reads as memory; what it changes is
 * written to the file at once. The host's page cache has it then: variables outlive this process, and are on the disk when it ends
 * in order.
 */
#include "machine/nvram.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/util.h"
#include "devices/legacy/pflash.h"
#include "machine/memmap.h"
#include "machine/shadow.h"

struct nvram {
    struct board *board;
    const char *path; /* the domain's */
    int fd;
    uint8_t *data;
    uint64_t base, size;
    struct pflash *flash;
    struct log_limit limit;
};

/* ---- the file ---- */

static int refuse(const char *path, const char *what, struct error *err)
{
    return error_set(err, errno, "firmware variables '%s': %s: %s; give the path of a file that you may write with --nvram", path,
                     what, strerror(errno));
}

/* Debian's OVMF_CODE_4M.fd comes with OVMF_VARS_4M.fd. */
static char *default_origin(const char *image)
{
    const char *code = strstr(image, "_CODE");
    char *origin = NULL;
    if (code && asprintf(&origin, "%.*s_VARS%s", (int)(code - image), image, code + strlen("_CODE")) < 0)
        return NULL;
    return origin;
}

static int copy(int from, int to)
{
    uint8_t buf[65536];
    ssize_t n;
    while ((n = read(from, buf, sizeof buf)) > 0)
        if (write(to, buf, (size_t)n) != n)
            return -1;
    return n < 0 ? -1 : fsync(to);
}

/* A new file is whole when it gets its name. */
static int make_file(const struct nvram_config *cfg, struct error *err)
{
    AUTO_FREE char *beside = cfg->origin ? NULL : default_origin(cfg->image), *fresh = NULL;
    const char *origin = cfg->origin ? cfg->origin : beside;
    if (!origin)
        return error_set(err, 0,
                         "firmware variables '%s': no such file, and '%s' has none to begin with; give it a copy of those "
                         "that came with the firmware",
                         cfg->path, cfg->image);
    AUTO_CLOSE int from = open(origin, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (from < 0)
        return error_set(err, errno, "firmware variables '%s': cannot begin as '%s': %s; install the package 'ovmf'", cfg->path,
                         origin, strerror(errno));
    if (asprintf(&fresh, "%s.new-%d", cfg->path, (int)getpid()) < 0)
        return error_set(err, ENOMEM, "firmware variables: out of memory");
    AUTO_CLOSE int to = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return refuse(cfg->path, "cannot create", err);
    /* link() does not replace one that another guest has made meanwhile. */
    bool made = copy(from, to) == 0 && (link(fresh, cfg->path) == 0 || errno == EEXIST);
    int r = made ? 0 : refuse(cfg->path, "cannot create", err);
    unlink(fresh);
    return r;
}

static int open_file(struct nvram *n, const struct nvram_config *cfg, struct error *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat st;
    n->fd = open(cfg->path, O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (n->fd < 0 && errno == ENOENT) {
        if (make_file(cfg, err) < 0)
            return -1;
        n->fd = open(cfg->path, O_RDWR | O_CLOEXEC | O_NOCTTY);
    }
    if (n->fd < 0 || fstat(n->fd, &st) < 0)
        return refuse(cfg->path, "cannot open", err);
    uint64_t room = cfg->end - (MEM_HIGH - SHADOW_IMAGE_MAX);
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size % PFLASH_BLOCK || (uint64_t)st.st_size > room)
        return error_set(err, 0,
                         "firmware variables '%s': not a file of whole blocks of %u bytes that fits below the firmware; give it a "
                         "copy of those that came with the firmware",
                         cfg->path, PFLASH_BLOCK);
    if (fcntl(n->fd, F_OFD_SETLK, &whole) < 0)
        return error_set(err, errno, "firmware variables '%s': %s; end the guest that uses them", cfg->path,
                         errno == EAGAIN || errno == EACCES ? "another process has locked them" : strerror(errno));
    n->size = (uint64_t)st.st_size;
    return 0;
}

static int read_file(struct nvram *n, struct error *err)
{
    void *data = mmap(NULL, n->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return refuse(n->path, "no memory for them", err);
    n->data = data;
    ssize_t got = pread(n->fd, data, n->size, 0);
    if (got >= 0 && (uint64_t)got != n->size)
        errno = EIO;
    return got == (ssize_t)n->size ? 0 : refuse(n->path, "cannot read", err);
}

/* ---- what the chip asks for, under the lock ---- */

static void mapped(void *nvram, bool mapped)
{
    struct nvram *n = nvram;
    if (board_slot(n->board, SLOT_NVRAM, n->base, mapped ? n->size : 0, n->data, true) < 0)
        board_fail(n->board, "%s: cannot map the firmware's variables; use another accelerator with --accel",
                   n->board->vm.accel->name);
}

static int store(void *nvram, uint64_t off, size_t len)
{
    struct nvram *n = nvram;
    ssize_t done = pwrite(n->fd, n->data + off, len, (off_t)off);
    if (done == (ssize_t)len)
        return 0;
    int e = done < 0 ? errno : EIO;
    log_guest(&n->limit, "firmware variables '%s': cannot write: %s; the guest is told", n->path, strerror(e));
    return -e;
}

/* ---- life ---- */

int nvram_create(struct board *b, const struct nvram_config *cfg, struct nvram **out, struct error *err)
{
    struct nvram *n = calloc(1, sizeof *n);
    if (!n)
        return error_set(err, ENOMEM, "firmware variables: out of memory");
    *n = (struct nvram){.board = b, .path = cfg->path, .fd = -1};
    if (open_file(n, cfg, err) < 0 || read_file(n, err) < 0)
        goto fail;
    n->base = cfg->end - n->size;
    const struct pflash_config flash = {
        .base = n->base, .size = n->size, .data = n->data, .mapped = mapped, .store = store, .opaque = n};
    if (pflash_create(&b->bus, &flash, &n->flash, err) < 0)
        goto fail;
    int r = board_slot(b, SLOT_NVRAM, n->base, n->size, n->data, true);
    if (r < 0) {
        error_set(err, -r, "%s: cannot give it the firmware's variables: %s; use another accelerator with --accel",
                  b->vm.accel->name, strerror(-r));
        goto fail;
    }
    *out = n;
    return 0;
fail:
    nvram_destroy(n);
    return -1;
}

void nvram_destroy(struct nvram *n)
{
    if (!n)
        return;
    pflash_destroy(n->flash);
    if (n->base)
        board_slot(n->board, SLOT_NVRAM, n->base, 0, NULL, false);
    if (n->data)
        munmap(n->data, n->size);
    if (n->fd >= 0) {
        fdatasync(n->fd);
        close(n->fd);
    }
    free(n);
}
