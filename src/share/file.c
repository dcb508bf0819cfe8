// SPDX-License-Identifier: GPL-2.0-or-later
/* Finding, opening, reading and writing files. Data moves between the guest's buffers and the file without a copy. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "share/p9.h"

/* Of the flags of an open; the numbers are Linux's on x86. What the guest's kernel does itself, appending among it, is left out. */
#define OPEN_FLAGS   (O_ACCMODE | O_TRUNC | O_DSYNC | O_SYNC | O_DIRECTORY)
#define CREATE_EXCL  O_EXCL
#define IOV_MAX_HERE 128
#define UP_MAX       256 /* folders on the way to the root */

/* ---- finding ---- */

int p9_attach(struct p9_call *c)
{
    uint32_t fid = p9_get32(&c->in), afid = p9_get32(&c->in);
    char user[P9_NAME_MAX + 1], tree[P9_NAME_MAX + 1];
    struct stat st;
    p9_get_string(&c->in, user, P9_NAME_MAX);
    p9_get_string(&c->in, tree, P9_NAME_MAX);
    uint32_t uid = p9_get32(&c->in);
    if (c->in.bad)
        return -EINVAL;
    if (afid != P9_NOFID)
        return -EOPNOTSUPP;
    if (tree[0] && strcmp(tree, "/") != 0)
        return -ENOENT;
    int fd = fcntl(c->s->root, F_DUPFD_CLOEXEC, 0), ret = fd < 0 ? -errno : 0;
    struct p9_node *n = fd < 0 ? NULL : p9_node_new(fd);
    if (!n)
        return ret < 0 ? ret : -ENOMEM;
    ret = p9_stat(c->s, n->fd, &st);
    if (ret == 0)
        ret = p9_fid_new(c->s, fid, uid == P9_NOFID ? 0 : uid, n, NULL);
    if (ret == 0)
        p9_put_qid(&c->out, c->s, &st);
    p9_node_put(n);
    return ret;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Is the folder in the tree? It is when the way up from it passes the root. */
static bool below_root(const struct share *s, int dir)
{
    int fd = fcntl(dir, F_DUPFD_CLOEXEC, 0);
    bool found = false;
    for (unsigned i = 0; fd >= 0 && i < UP_MAX; i++) {
        struct stat st;
        found = fstatat(fd, "", &st, AT_EMPTY_PATH) == 0 && same_file(&st, &s->root_stat);
        if (found)
            break;
        int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close(fd);
        fd = up;
    }
    if (fd >= 0)
        close(fd);
    return found;
}

/* The root is its own parent. A folder that was moved out of the tree has none that the guest may see. */
static int step_up(const struct share *s, int dir)
{
    struct stat st;
    if (fstatat(dir, "", &st, AT_EMPTY_PATH) < 0)
        return -errno;
    int fd = same_file(&st, &s->root_stat) ? fcntl(dir, F_DUPFD_CLOEXEC, 0) : openat(dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (below_root(s, fd))
        return fd;
    close(fd);
    return -EXDEV;
}

static int step(const struct share *s, int dir, const char *name)
{
    if (strcmp(name, "..") == 0)
        return step_up(s, dir);
    if (!name[0] || strcmp(name, ".") == 0 || strchr(name, '/'))
        return -EINVAL;
    int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Walks as far as it goes; the node that was reached in *out, and a qid for each step. The number of steps, or what the first one failed with. */
static int walk_names(struct p9_call *c, struct p9_node *from, unsigned names, struct p9_node **out)
{
    unsigned done = 0;
    int ret = 0;
    *out = from;
    from->refs++;
    while (done < names && ret == 0) {
        char name[P9_NAME_MAX + 1];
        struct stat st;
        p9_get_string(&c->in, name, P9_NAME_MAX);
        int fd = c->in.bad ? -EINVAL : step(c->s, (*out)->fd, name);
        struct p9_node *n = fd < 0 ? NULL : p9_node_new(fd);
        ret = n ? p9_stat(c->s, n->fd, &st) : fd < 0 ? fd : -ENOMEM;
        if (ret < 0) {
            p9_node_put(n);
            break;
        }
        p9_node_put(*out);
        *out = n;
        p9_put_qid(&c->out, c->s, &st);
        done++;
    }
    return done || ret == 0 ? (int)done : ret;
}

int p9_walk(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    uint32_t newfid = p9_get32(&c->in);
    uint16_t names = p9_get16(&c->in);
    struct p9_node *n;
    if (c->in.bad || names > P9_WALK_MAX)
        return -EINVAL;
    if (!f || f->xattr || f->io >= 0)
        return -EBADF;
    if (newfid != f->fid && p9_fid_find(c->s, newfid))
        return -EBADF;
    p9_put16(&c->out, 0);
    int done = walk_names(c, f->node, names, &n), ret = done < 0 ? done : 0;
    if (done == names && newfid == f->fid)
        p9_fid_move(f, n);
    else if (done == names)
        ret = p9_fid_new(c->s, newfid, f->uid, n, NULL);
    if (!(done == names && newfid == f->fid))
        p9_node_put(n);
    if (ret == 0) {
        uint16_t count = (uint16_t)done;
        memcpy(c->out.p, &count, sizeof count);
    }
    return ret;
}

int p9_clunk(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    return f ? p9_fid_free(c->s, f) : -EBADF;
}

/* ---- opening ---- */

static uint32_t io_unit(const struct share *s)
{
    return s->msize - P9_HEADER - 16;
}

static void put_opened(struct p9_call *c, const struct stat *st)
{
    p9_put_qid(&c->out, c->s, st);
    p9_put32(&c->out, io_unit(c->s));
}

/* Looks before it opens, because opening a device or a FIFO does something. */
static int open_node(const struct share *s, int fd, uint32_t flags, struct stat *st)
{
    struct stat host;
    int ret = p9_stat(s, fd, st);
    if (ret < 0)
        return ret;
    if (fstatat(fd, "", &host, AT_EMPTY_PATH) < 0)
        return -errno;
    bool write = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
    if (S_ISDIR(host.st_mode))
        return write ? -EISDIR : p9_reopen(fd, O_RDONLY | O_DIRECTORY);
    if (S_ISLNK(host.st_mode))
        return -ELOOP;
    if (!S_ISREG(host.st_mode) || !S_ISREG(st->st_mode))
        return -EACCES;
    if (flags & O_DIRECTORY)
        return -ENOTDIR;
    return write && s->readonly ? -EROFS : p9_reopen(fd, (int)(flags & OPEN_FLAGS));
}

int p9_open(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    uint32_t flags = p9_get32(&c->in);
    struct stat st;
    if (c->in.bad)
        return -EINVAL;
    if (!f || f->xattr || f->io >= 0)
        return -EBADF;
    int io = open_node(c->s, f->node->fd, flags, &st);
    if (io < 0)
        return io;
    f->io = io;
    f->is_dir = S_ISDIR(st.st_mode);
    put_opened(c, &st);
    return 0;
}

/* A new file, or one that is there when the guest did not forbid that: its O_PATH descriptor, and the one to use in *io. */
static int create_in(const struct p9_call *c, const struct p9_fid *dir, const char *name, uint32_t flags, uint32_t mode, uint32_t gid, int *io)
{
    const struct share *s = c->s;
    struct stat st;
    int how = (int)(flags & OPEN_FLAGS & ~(unsigned)O_DIRECTORY) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    *io = openat(dir->node->fd, name, how, p9_host_mode(s, mode, false));
    if (*io < 0 && (errno != EEXIST || (flags & CREATE_EXCL)))
        return -errno;
    bool made = *io >= 0;
    int fd = openat(dir->node->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int ret = fd < 0 ? -errno : 0;
    if (ret == 0 && made)
        ret = p9_own(s, *io, dir->uid, gid, (mode & 07777) | S_IFREG, 0);
    else if (ret == 0)
        ret = *io = open_node(s, fd, flags, &st);
    if (ret >= 0)
        return fd;
    if (fd >= 0)
        close(fd);
    if (*io >= 0)
        close(*io);
    *io = -1;
    return ret;
}

int p9_create(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    char name[P9_NAME_MAX + 1];
    struct stat st;
    int io;
    p9_get_name(&c->in, name);
    uint32_t flags = p9_get32(&c->in), mode = p9_get32(&c->in), gid = p9_get32(&c->in);
    if (c->in.bad)
        return -EINVAL;
    if (!f || f->xattr || f->io >= 0)
        return -EBADF;
    if (c->s->readonly)
        return -EROFS;
    int fd = create_in(c, f, name, flags, mode, gid, &io);
    if (fd < 0)
        return fd;
    struct p9_node *n = p9_node_new(fd);
    int ret = n ? p9_stat(c->s, n->fd, &st) : -ENOMEM;
    if (ret == 0 && !S_ISREG(st.st_mode))
        ret = -EISDIR;
    if (ret < 0) {
        p9_node_put(n);
        close(io);
        return ret;
    }
    p9_fid_move(f, n);
    f->io = io;
    put_opened(c, &st);
    return 0;
}

/* ---- data ---- */

/* The part [off, off + len) of a vector, at most IOV_MAX_HERE pieces of it. */
static int slice(const struct iovec *iov, unsigned n, size_t off, size_t len, struct iovec *part)
{
    int pieces = 0;
    for (unsigned i = 0; i < n && len && pieces < IOV_MAX_HERE; i++) {
        if (off >= iov[i].iov_len) {
            off -= iov[i].iov_len;
            continue;
        }
        size_t here = MIN(iov[i].iov_len - off, len);
        part[pieces++] = (struct iovec){(uint8_t *)iov[i].iov_base + off, here};
        len -= here;
        off = 0;
    }
    return pieces;
}

static ssize_t read_xattr(const struct p9_xattr *x, uint64_t offset, const struct iovec *part, int pieces)
{
    ssize_t done = 0;
    if (x->writing)
        return -EBADF;
    for (int i = 0; i < pieces && offset < x->size; i++) {
        size_t n = MIN(part[i].iov_len, x->size - offset);
        memcpy(part[i].iov_base, x->value + offset, n);
        offset += n;
        done += (ssize_t)n;
    }
    return done;
}

int p9_read(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    uint64_t offset = p9_get64(&c->in);
    uint32_t count = p9_get32(&c->in), head = P9_HEADER + 4;
    struct iovec part[IOV_MAX_HERE];
    if (c->in.bad || offset > INT64_MAX || c->data_in_len < head)
        return -EINVAL;
    if (!f)
        return -EBADF;
    count = MIN(count, MIN(c->data_in_len, c->s->msize) - head);
    int pieces = slice(c->data_in, c->ndata_in, head, count, part);
    ssize_t n;
    if (f->xattr)
        n = read_xattr(f->xattr, offset, part, pieces);
    else if (f->io < 0 || f->is_dir)
        return -EBADF;
    else if ((n = preadv(f->io, part, pieces, (off_t)offset)) < 0)
        n = -errno;
    if (n < 0)
        return (int)n;
    p9_put32(&c->out, (uint32_t)n);
    c->data_written = (uint32_t)n;
    return 0;
}

static ssize_t write_xattr(struct p9_xattr *x, uint64_t offset, const struct iovec *part, int pieces)
{
    ssize_t done = 0;
    if (!x->writing || offset != x->have)
        return -EINVAL;
    for (int i = 0; i < pieces; i++) {
        if (part[i].iov_len > x->size - x->have)
            return -ENOSPC;
        memcpy(x->value + x->have, part[i].iov_base, part[i].iov_len);
        x->have += (uint32_t)part[i].iov_len;
        done += (ssize_t)part[i].iov_len;
    }
    return done;
}

int p9_write(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    uint64_t offset = p9_get64(&c->in);
    uint32_t count = p9_get32(&c->in), head = P9_HEADER + 16;
    struct iovec part[IOV_MAX_HERE];
    if (c->in.bad || offset > INT64_MAX || c->data_out_len < head || count > c->data_out_len - head)
        return -EINVAL;
    if (!f || (!f->xattr && (f->io < 0 || f->is_dir)))
        return -EBADF;
    int pieces = slice(c->data_out, c->ndata_out, head, count, part);
    ssize_t n = f->xattr ? write_xattr(f->xattr, offset, part, pieces) : pwritev(f->io, part, pieces, (off_t)offset);
    if (n < 0)
        return f->xattr ? (int)n : -errno;
    p9_put32(&c->out, (uint32_t)n);
    return 0;
}

int p9_fsync(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    uint32_t data_only = c->in.len - c->in.at >= 4 ? p9_get32(&c->in) : 0; /* older drivers leave it out */
    if (!f || f->io < 0)
        return -EBADF;
    return (data_only ? fdatasync(f->io) : fsync(f->io)) < 0 ? -errno : 0;
}

/* ---- folders ---- */

struct dirent64_head {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
};
#define DIRENT_NAME 19 /* offset of the name */

/* Adds one entry; false when it does not fit any more. The parent of the root is not the guest's business, so ".." is the folder itself. */
static bool put_entry(struct p9_call *c, struct p9_msg *o, const struct stat *dir, const uint8_t *entry)
{
    struct dirent64_head h;
    struct stat st = {.st_dev = dir->st_dev};
    const char *name = (const char *)entry + DIRENT_NAME;
    memcpy(&h, entry, DIRENT_NAME);
    st.st_ino = strcmp(name, "..") == 0 ? dir->st_ino : h.ino;
    st.st_mode = h.type == DT_DIR ? S_IFDIR : h.type == DT_LNK ? S_IFLNK : S_IFREG;
    if (o->len - o->at < P9_QID + 8 + 1 + 2 + strlen(name))
        return false;
    p9_put_qid(o, c->s, &st);
    p9_put64(o, (uint64_t)h.off);
    p9_put8(o, c->s->access == SHARE_MAPPED && h.type == DT_REG ? 0 : h.type); /* a mapped file may be of any kind */
    p9_put_string(o, name, strlen(name));
    return true;
}

int p9_readdir(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    uint64_t offset = p9_get64(&c->in);
    uint32_t count = p9_get32(&c->in), head = P9_HEADER + 4;
    uint8_t entries[32768];
    struct stat dir;
    if (c->in.bad || c->data_in_len < head)
        return -EINVAL;
    if (!f || f->io < 0 || !f->is_dir)
        return -EBADF;
    struct p9_msg o = {.p = c->s->large, .len = MIN(count, MIN(c->data_in_len, c->s->msize) - head)};
    if (fstat(f->io, &dir) < 0 || lseek(f->io, (off_t)offset, SEEK_SET) < 0)
        return -errno;
    bool room = true;
    while (room) {
        long n = syscall(SYS_getdents64, f->io, entries, sizeof entries);
        if (n < 0 && o.at == 0)
            return -errno;
        if (n <= 0)
            break;
        for (long at = 0; at < n && room;) {
            uint16_t reclen;
            memcpy(&reclen, entries + at + offsetof(struct dirent64_head, reclen), sizeof reclen);
            room = put_entry(c, &o, &dir, entries + at);
            at += reclen;
        }
    }
    struct iovec part[IOV_MAX_HERE];
    int pieces = slice(c->data_in, c->ndata_in, head, o.at, part);
    uint32_t done = 0;
    for (int i = 0; i < pieces; i++) {
        memcpy(part[i].iov_base, o.p + done, part[i].iov_len);
        done += (uint32_t)part[i].iov_len;
    }
    if (done < o.at)
        return -EINVAL; /* the answer's buffer is in more pieces than any driver makes */
    p9_put32(&c->out, done);
    c->data_written = done;
    return 0;
}

/* ---- locks ---- */

enum { P9_RDLCK, P9_WRLCK, P9_UNLCK };
enum { P9_LOCKED, P9_BLOCKED };

static bool get_lock(struct p9_msg *m, struct flock *l, uint8_t *type)
{
    static const short types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
    *type = p9_get8(m);
    *l = (struct flock){.l_type = *type <= P9_UNLCK ? types[*type] : F_UNLCK, .l_whence = SEEK_SET};
    return *type <= P9_UNLCK;
}

/* The guest's kernel settles its own locks; those of the host's programs are met by locks of the open file, which never wait here: it asks again. */
int p9_lock(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    struct flock l;
    uint8_t type;
    bool known = get_lock(&c->in, &l, &type);
    p9_get32(&c->in); /* flags: whether the guest would wait */
    uint64_t start = p9_get64(&c->in), length = p9_get64(&c->in);
    if (c->in.bad || !known || start > INT64_MAX || length > INT64_MAX)
        return -EINVAL;
    if (!f || f->io < 0)
        return -EBADF;
    l.l_start = (off_t)start;
    l.l_len = (off_t)length;
    int ret = fcntl(f->io, F_OFD_SETLK, &l);
    if (ret < 0 && errno != EAGAIN && errno != EACCES)
        return -errno;
    p9_put8(&c->out, ret < 0 ? P9_BLOCKED : P9_LOCKED);
    return 0;
}

int p9_getlock(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    struct flock l;
    uint8_t type;
    char client[P9_NAME_MAX + 1];
    bool known = get_lock(&c->in, &l, &type);
    uint64_t start = p9_get64(&c->in), length = p9_get64(&c->in);
    uint32_t pid = p9_get32(&c->in);
    p9_get_string(&c->in, client, P9_NAME_MAX);
    if (c->in.bad || !known || start > INT64_MAX || length > INT64_MAX)
        return -EINVAL;
    if (!f || f->io < 0)
        return -EBADF;
    l.l_start = (off_t)start;
    l.l_len = (off_t)length;
    if (type != P9_UNLCK && fcntl(f->io, F_OFD_GETLK, &l) < 0)
        return -errno;
    p9_put8(&c->out, l.l_type == F_UNLCK ? P9_UNLCK : l.l_type == F_WRLCK ? P9_WRLCK : P9_RDLCK);
    p9_put64(&c->out, (uint64_t)l.l_start);
    p9_put64(&c->out, (uint64_t)l.l_len);
    p9_put32(&c->out, pid);
    p9_put_string(&c->out, client, strlen(client));
    return 0;
}
