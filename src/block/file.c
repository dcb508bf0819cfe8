// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Transfers go on where the kernel stops short. Zeroes try the cheap ways first and are written in the end:
 *
 *     may_unmap: punch a hole -> zero the range -> write
 *     otherwise:                 zero the range -> write
 *
 * What the file system refused once is not tried again.
 */
#include "block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/util.h"
#include "block/internal.h"
#include "block/remote.h"

#define PHYSICAL_MAX 4096u /* bytes; larger preferred sizes are about throughput, not about atomic writes */
#define ZERO_BYTES   (256 * KIB)

static uint8_t zeroes[ZERO_BYTES] __attribute__((aligned(4096))); /* never written, so it costs no memory */

/* ---- opening ---- */

static const char *remedy_for(int e, bool readonly)
{
    switch (e) {
    case ENOENT: return "give the path of an existing image, or make one with 'lodge image create'";
    case EACCES:
    case EROFS:
    case EPERM: return readonly ? "get permission to read it" : "get permission to write to it, or add 'readonly'";
    case EISDIR: return "give the path of a file or block device";
    default: return "check the path";
    }
}

static int measure(struct file *f, const char *what, struct error *err)
{
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return error_set(err, errno, "%s '%s': cannot get its size: %s; check its file system", what, f->path, strerror(errno));
    f->physical = BLOCK_SECTOR;
    if (S_ISBLK(st.st_mode)) {
        unsigned physical = 0;
        f->device = true;
        if (ioctl(f->fd, BLKGETSIZE64, &f->size) < 0)
            return error_set(err, errno, "%s '%s': cannot get its size: %s; check the device", what, f->path, strerror(errno));
        if (ioctl(f->fd, BLKPBSZGET, &physical) == 0)
            f->physical = physical;
    } else if (S_ISREG(st.st_mode)) {
        f->size = (uint64_t)st.st_size;
        f->physical = (unsigned)st.st_blksize;
    } else {
        return error_set(err, 0, "%s '%s': is neither a file nor a block device; give the path of one", what, f->path);
    }
    if (f->physical > PHYSICAL_MAX || f->physical < BLOCK_SECTOR || (f->physical & (f->physical - 1)))
        f->physical = f->physical > PHYSICAL_MAX ? PHYSICAL_MAX : BLOCK_SECTOR;
    return 0;
}

static struct file *file_new(struct io_loop *l, const char *path)
{
    struct file *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(path))) {
        free(f);
        return NULL;
    }
    f->loop = l;
    f->fd = f->direct_fd = -1;
    return f;
}

static int open_with(struct io_loop *l, const char *what, const char *path, int flags, struct file **out, struct error *err)
{
    struct file *f = file_new(l, path);
    bool readonly = (flags & O_ACCMODE) == O_RDONLY;
    if (!f)
        return error_set(err, 0, "%s '%s': out of memory; close other programs", what, path);
    f->readonly = readonly;
    f->fd = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0666); /* a FIFO without a writer is refused, not waited for */
    if (f->fd < 0) {
        error_set(err, errno, "%s '%s': cannot open: %s; %s", what, path, strerror(errno), remedy_for(errno, readonly));
    } else if (fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) & ~O_NONBLOCK) < 0) {
        error_set(err, errno, "%s '%s': cannot open: %s; check the path", what, path, strerror(errno));
    } else if (measure(f, what, err) == 0 && block_lock(f->fd, what, path, readonly, err) == 0) {
        *out = f;
        return 0;
    }
    file_close(f);
    return -1;
}

int file_open(struct io_loop *l, const char *what, const char *path, bool readonly, struct file **out, struct error *err)
{
    return open_with(l, what, path, readonly ? O_RDONLY : O_RDWR, out, err);
}

static const struct file_protocol *protocol_of(const char *name)
{
    static const struct file_protocol *const all[] = {&protocol_nbd, &protocol_iscsi, &protocol_http};
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        for (const char *const *p = all[i]->prefixes; *p; p++)
            if (strncmp(name, *p, strlen(*p)) == 0)
                return all[i];
    return NULL;
}

bool file_is_remote(const char *path)
{
    return protocol_of(path);
}

bool file_is_same(const char *path, const char *other)
{
    struct stat a, b;
    return strcmp(path, other) == 0 || (stat(path, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

int file_open_named(struct io_loop *l, const char *what, const char *path, bool readonly, struct file **out, struct error *err)
{
    const struct file_protocol *protocol = protocol_of(path);
    if (!protocol)
        return file_open(l, what, path, readonly, out, err);
    struct file *f = file_new(l, path);
    if (!f)
        return error_set(err, 0, "%s '%s': out of memory; close other programs", what, path);
    f->readonly = readonly;
    f->protocol = protocol;
    f->physical = BLOCK_SECTOR;
    f->unit = 1;
    if (remote_open(f, what, err) == 0 && f->readonly && !readonly)
        error_set(err, EROFS, "%s '%s': its server lets nobody write to it; add 'readonly', or ask its owner", what, path);
    else if (f->remote) {
        *out = f;
        return 0;
    }
    file_close(f);
    return -1;
}

int file_create(struct io_loop *l, const char *what, const char *path, bool replace, struct file **out, struct error *err)
{
    if (open_with(l, what, path, O_RDWR | O_CREAT | (replace ? 0 : O_EXCL), out, err) < 0)
        return -1;
    if ((*out)->device || file_truncate(*out, 0) == 0)
        return 0;
    error_set(err, errno, "%s '%s': cannot be emptied: %s; remove it first", what, path, strerror(errno));
    file_close(*out);
    return -1;
}

void file_close(struct file *f)
{
    if (!f)
        return;
    if (f->remote)
        remote_close(f);
    if (f->direct_fd >= 0)
        close(f->direct_fd);
    if (f->fd >= 0) {
        block_unlock(f->fd);
        close(f->fd);
    }
    free(f->path);
    free(f);
}

/* ---- transfers ---- */

void *file_buffer(uint64_t bytes)
{
    void *buf;
    return posix_memalign(&buf, PAGE_SIZE, MAX(bytes, 1u)) == 0 ? buf : NULL;
}

int file_set_direct(struct file *f)
{
    char name[32];
    if (f->protocol || f->direct_fd >= 0)
        return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", f->fd);
    AUTO_FREE void *buf = file_buffer(FILE_DIRECT_ALIGN);
    if (!buf)
        return -ENOMEM;
    int fd = open(name, (f->readonly ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
    if (fd < 0 || pread(fd, buf, FILE_DIRECT_ALIGN, 0) < 0) {
        int ret = -errno;
        if (fd >= 0)
            close(fd);
        return ret;
    }
    f->direct_fd = fd;
    return 0;
}

static bool is_aligned(const struct io_step *s)
{
    return (s->kind == IO_READ || s->kind == IO_WRITE) && s->offset % FILE_DIRECT_ALIGN == 0 && iov_is_aligned(s->iov, s->niov);
}

static ssize_t step(struct file *f, struct io_step *s)
{
    ssize_t ret;
    if (f->protocol)
        return remote_step(f, s);
    bool direct = f->direct_fd >= 0 && is_aligned(s);
    s->fd = direct ? f->direct_fd : f->fd;
    s->cached = !direct;
    bool observed = f->observe && s->kind != IO_READ;
    if (observed)
        f->observe(f->observer, s, false);
    do
        ret = io_run(f->loop, s);
    while (ret == -EINTR || ret == -EAGAIN);
    if (observed)
        f->observe(f->observer, s, true);
    return ret;
}

/* Drops the transferred bytes from the front. */
static void consume(struct iovec **iov, int *niov, size_t bytes)
{
    while (bytes && *niov) {
        size_t part = MIN(bytes, (*iov)->iov_len);
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + part;
        (*iov)->iov_len -= part;
        bytes -= part;
        if ((*iov)->iov_len == 0)
            ++*iov, --*niov;
    }
}

ssize_t file_readv(struct file *f, uint64_t offset, uint64_t len, struct iovec *iov, int niov)
{
    uint64_t done = 0;
    while (done < len) {
        struct io_step s = {.kind = IO_READ, .offset = offset + done, .len = len - done, .iov = iov, .niov = niov};
        ssize_t ret = step(f, &s);
        if (ret < 0)
            return ret;
        if (ret == 0)
            break;
        done += (uint64_t)ret;
        consume(&iov, &niov, (size_t)ret);
    }
    return (ssize_t)done;
}

int file_writev(struct file *f, uint64_t offset, uint64_t len, struct iovec *iov, int niov)
{
    for (uint64_t done = 0; done < len;) {
        struct io_step s = {.kind = IO_WRITE, .offset = offset + done, .len = len - done, .iov = iov, .niov = niov};
        ssize_t ret = step(f, &s);
        if (ret <= 0)
            return ret < 0 ? (int)ret : -EIO;
        done += (uint64_t)ret;
        consume(&iov, &niov, (size_t)ret);
    }
    return 0;
}

int file_read(struct file *f, uint64_t offset, void *buf, uint64_t len)
{
    struct iovec iov = {buf, len};
    ssize_t ret = file_readv(f, offset, len, &iov, 1);
    if (ret < 0)
        return (int)ret;
    memset((uint8_t *)buf + ret, 0, len - (uint64_t)ret);
    return 0;
}

int file_write(struct file *f, uint64_t offset, const void *buf, uint64_t len)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    return file_writev(f, offset, len, &iov, 1);
}

int file_sync(struct file *f)
{
    struct io_step s = {.kind = IO_SYNC};
    if (f->no_sync)
        return 0;
    return (int)step(f, &s);
}

/* ---- space ---- */

static bool unsupported(ssize_t ret)
{
    return ret == -EOPNOTSUPP || ret == -ENOSYS || ret == -EINVAL || ret == -ENOTTY || ret == -ENODEV;
}

static int allocate(struct file *f, int mode, uint64_t offset, uint64_t len)
{
    struct io_step s = {.kind = IO_ALLOCATE, .mode = mode | FALLOC_FL_KEEP_SIZE, .offset = offset, .len = len};
    return (int)step(f, &s);
}

int file_discard(struct file *f, uint64_t offset, uint64_t len)
{
    if (f->no_punch || len == 0)
        return 0;
    int ret = allocate(f, FALLOC_FL_PUNCH_HOLE, offset, len);
    f->no_punch |= unsupported(ret) && ret != -EINVAL;
    return unsupported(ret) ? 0 : ret;
}

int file_fill(struct file *f, uint64_t offset, uint64_t len)
{
    for (uint64_t done = 0; done < len;) {
        uint64_t part = MIN(len - done, ZERO_BYTES);
        int ret = file_write(f, offset + done, zeroes, part);
        if (ret < 0)
            return ret;
        done += part;
    }
    return 0;
}

int file_zero(struct file *f, uint64_t offset, uint64_t len, bool may_unmap)
{
    bool *const refused[] = {&f->no_punch, &f->no_zero_range};
    static const int mode[] = {FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE};
    for (unsigned way = may_unmap ? 0 : 1; len && way < ARRAY_SIZE(mode); way++) {
        if (*refused[way])
            continue;
        int ret = allocate(f, mode[way], offset, len);
        if (!unsupported(ret))
            return ret;
        /* EINVAL is about this range (a device's alignment), the others are about the file system. */
        *refused[way] |= ret != -EINVAL;
    }
    return file_fill(f, offset, len);
}

struct copying {
    int from, to;
    uint64_t at, offset, len;
};

static ssize_t call_share(void *arg)
{
    const struct copying *c = arg;
    struct file_clone_range r = {.src_fd = c->from, .src_offset = c->at, .src_length = c->len, .dest_offset = c->offset};
    return ioctl(c->to, FICLONERANGE, &r) < 0 ? -errno : 0;
}

static ssize_t call_copy(void *arg)
{
    struct copying *c = arg;
    while (c->len) {
        off_t at = (off_t)c->at, offset = (off_t)c->offset;
        ssize_t n = copy_file_range(c->from, &at, c->to, &offset, c->len, 0);
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA; /* behind the file's end, which formats have their own idea of */
        c->at += (uint64_t)n;
        c->offset += (uint64_t)n;
        c->len -= (uint64_t)n;
    }
    return 0;
}

int file_copy(struct file *f, uint64_t offset, struct file *from, uint64_t at, uint64_t len)
{
    f->no_copy |= f->protocol || from->protocol || f->device || from->device || f->observe;
    if (f->no_copy)
        return -EOPNOTSUPP;
    struct copying c = {from->fd, f->fd, at, offset, len};
    ssize_t ret = io_call(f->loop, f->copy_unshared ? call_copy : call_share, &c);
    f->no_copy = ret == -EOPNOTSUPP || ret == -ENOSYS || ret == -EXDEV;
    return unsupported(ret) || ret == -EXDEV || ret == -EBADF || ret == -ENODATA ? -EOPNOTSUPP : (int)ret; /* EBADF: opened to append */
}

void file_write_in_place(struct file *f)
{
    int flags;
    if (!f->protocol && ioctl(f->fd, FS_IOC_GETFLAGS, &flags) == 0 && !(flags & FS_NOCOW_FL)) {
        flags |= FS_NOCOW_FL;
        f->no_copy |= ioctl(f->fd, FS_IOC_SETFLAGS, &flags) == 0; /* blocks of both kinds are not shared */
    }
}

int file_truncate(struct file *f, uint64_t size)
{
    if (f->protocol)
        return -EOPNOTSUPP;
    if (ftruncate(f->fd, (off_t)size) < 0)
        return -errno;
    f->size = size;
    return 0;
}

/* Behind RLIMIT_FSIZE there would be a signal, which ends the process. */
int file_extend(struct file *f, uint64_t size)
{
    struct io_step s = {.kind = IO_EXTEND, .offset = size};
    struct rlimit limit;
    if (file_keeps_size(f))
        return -EOPNOTSUPP;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && size > limit.rlim_cur ? -EFBIG : (int)step(f, &s);
}

int file_length(struct file *f, uint64_t *size)
{
    struct stat st;
    *size = f->size;
    if (f->device || f->protocol)
        return 0;
    if (fstat(f->fd, &st) < 0)
        return -errno;
    *size = (uint64_t)st.st_size;
    return 0;
}

int file_is_hole(struct file *f, uint64_t offset, uint64_t *len, bool *hole)
{
    *hole = false;
    if (f->protocol)
        return remote_is_zero(f, offset, len, hole);
    off_t data = lseek(f->fd, (off_t)offset, SEEK_DATA);
    if (data < 0) {
        *hole = errno == ENXIO; /* up to the end */
    } else if ((uint64_t)data > offset) {
        *hole = true;
        *len = MIN(*len, (uint64_t)data - offset);
    } else {
        off_t end = lseek(f->fd, (off_t)offset, SEEK_HOLE);
        if (end > data)
            *len = MIN(*len, (uint64_t)end - offset);
    }
    return 0;
}

/* ---- buffers ---- */

bool iov_is_aligned(const struct iovec *iov, int niov)
{
    uint64_t bits = 0;
    for (int i = 0; i < niov; i++)
        bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
    return bits % FILE_DIRECT_ALIGN == 0;
}

int iov_slice(struct iovec *dst, const struct iovec *src, int niov, uint64_t offset, uint64_t len)
{
    int n = 0;
    for (int i = 0; i < niov && len; i++) {
        if (offset >= src[i].iov_len) {
            offset -= src[i].iov_len;
            continue;
        }
        dst[n].iov_base = (uint8_t *)src[i].iov_base + offset;
        dst[n].iov_len = MIN(src[i].iov_len - offset, len);
        len -= dst[n++].iov_len;
        offset = 0;
    }
    return n;
}

typedef void part_fn(void *part, void *other, size_t n);

static void each_part(const struct iovec *iov, int niov, uint64_t offset, uint64_t len, uint8_t *other, part_fn *fn)
{
    for (int i = 0; i < niov && len; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t n = MIN(iov[i].iov_len - offset, len);
        fn((uint8_t *)iov[i].iov_base + offset, other, n);
        if (other)
            other += n;
        len -= n;
        offset = 0;
    }
}

static void part_zero(void *part, void *other, size_t n)
{
    (void)other;
    memset(part, 0, n);
}
static void part_from(void *part, void *other, size_t n)
{
    memcpy(part, other, n);
}
static void part_to(void *part, void *other, size_t n)
{
    memcpy(other, part, n);
}

void iov_zero(const struct iovec *iov, int niov, uint64_t offset, uint64_t len)
{
    each_part(iov, niov, offset, len, NULL, part_zero);
}

void iov_from(const struct iovec *iov, int niov, uint64_t offset, const void *buf, uint64_t len)
{
    each_part(iov, niov, offset, len, (uint8_t *)(uintptr_t)buf, part_from);
}

void iov_to(const struct iovec *iov, int niov, uint64_t offset, void *buf, uint64_t len)
{
    each_part(iov, niov, offset, len, buf, part_to);
}

static bool zero_plain(const uint8_t *b, uint64_t len)
{
    /* memcmp() is the C library's vector code: a block is zero when its first bytes are and each byte equals one further on. */
    uint64_t head = MIN(len, 16u);
    for (uint64_t i = 0; i < head; i++)
        if (b[i])
            return false;
    return len <= 16 || memcmp(b, b + 16, len - 16) == 0;
}

/* 128 bytes in one step, each read once. */
static bool __attribute__((target("avx2"))) zero_avx2(const uint8_t *b, uint64_t len)
{
    for (; len >= 128; b += 128, len -= 128) {
        const __m256i *v = (const __m256i *)(const void *)b;
        __m256i any = _mm256_or_si256(_mm256_or_si256(_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)), _mm256_or_si256(_mm256_loadu_si256(v + 2), _mm256_loadu_si256(v + 3)));
        if (!_mm256_testz_si256(any, any))
            return false;
    }
    return zero_plain(b, len);
}

bool bytes_are_zero(const void *p, uint64_t len)
{
    return __builtin_cpu_supports("avx2") ? zero_avx2(p, len) : zero_plain(p, len);
}
