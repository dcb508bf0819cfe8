// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Attributes: what a file is to the guest, and how a guest's changes reach the host.
 *
 * With SHARE_MAPPED the guest's owner, mode and device number are extended attributes of the file, under the names and in the form that QEMU
 * gives them (virtfs, mapped-xattr). A file without them that belongs to this process's user is root's in the guest, so that a tree unpacked without
 * privileges boots. Links cannot have such attributes and keep the host's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/util.h"
#include "share/p9.h"

#define MAPPED_PREFIX "user.virtfs."
#define MAPPED_UID    MAPPED_PREFIX "uid"
#define MAPPED_GID    MAPPED_PREFIX "gid"
#define MAPPED_MODE   MAPPED_PREFIX "mode"
#define MAPPED_RDEV   MAPPED_PREFIX "rdev"

#define MODE_BITS   07777u
#define GETATTR_ALL  0x7ffull /* the attributes of stat(2): P9_STATS_BASIC */
#define SETATTR_MODE 0x001u
#define SETATTR_UID  0x002u
#define SETATTR_GID  0x004u
#define SETATTR_SIZE 0x008u
#define SETATTR_ATIME     0x010u
#define SETATTR_MTIME     0x020u
#define SETATTR_ATIME_SET 0x080u
#define SETATTR_MTIME_SET 0x100u

/* ---- the mapping ---- */

static bool get_mapped(const char *path, const char *name, void *value, size_t size)
{
    return getxattr(path, name, value, size) == (ssize_t)size;
}

static int set_mapped(int fd, const char *name, const void *value, size_t size)
{
    char path[P9_PROC_PATH];
    p9_proc_path(fd, path);
    return setxattr(path, name, value, size, 0) < 0 ? -errno : 0;
}

static void map_stat(int fd, struct stat *st)
{
    char path[P9_PROC_PATH];
    uint32_t uid = st->st_uid == geteuid() ? 0 : st->st_uid, gid = st->st_gid == getegid() ? 0 : st->st_gid, mode;
    uint64_t rdev;
    p9_proc_path(fd, path);
    if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) {
        get_mapped(path, MAPPED_UID, &uid, sizeof uid);
        get_mapped(path, MAPPED_GID, &gid, sizeof gid);
        /* Only a regular file may stand for another kind. */
        if (get_mapped(path, MAPPED_MODE, &mode, sizeof mode))
            st->st_mode = S_ISDIR(st->st_mode) || S_ISDIR(mode) || !(mode & S_IFMT) ? (st->st_mode & S_IFMT) | (mode & 07777) : mode & (S_IFMT | 07777);
        if (get_mapped(path, MAPPED_RDEV, &rdev, sizeof rdev))
            st->st_rdev = rdev;
    }
    st->st_uid = uid;
    st->st_gid = gid;
}

int p9_stat(const struct share *s, int fd, struct stat *st)
{
    if (fstatat(fd, "", st, AT_EMPTY_PATH) < 0)
        return -errno;
    if (s->access == SHARE_MAPPED)
        map_stat(fd, st);
    return 0;
}

/* A file of the host's that runs as another user is only for a guest that is trusted with the host's owners. */
static uint32_t mode_bits(const struct share *s)
{
    return s->access == SHARE_SQUASH ? MODE_BITS & ~(uint32_t)(S_ISUID | S_ISGID) : MODE_BITS;
}

uint32_t p9_host_mode(const struct share *s, uint32_t mode, bool dir)
{
    return s->access == SHARE_MAPPED ? (dir ? 0700 : 0600) : mode & mode_bits(s);
}

static int change_mode(const struct share *s, int fd, uint32_t mode)
{
    char path[P9_PROC_PATH];
    struct stat st;
    if (s->access != SHARE_MAPPED) {
        p9_proc_path(fd, path);
        return chmod(path, mode & mode_bits(s)) < 0 ? -errno : 0;
    }
    int ret = p9_stat(s, fd, &st);
    mode = (st.st_mode & S_IFMT) | (mode & MODE_BITS);
    return ret < 0 ? ret : set_mapped(fd, MAPPED_MODE, &mode, sizeof mode);
}

static int change_owner(const struct share *s, int fd, uint32_t uid, uint32_t gid)
{
    int ret = 0;
    if (s->access == SHARE_MAPPED) {
        struct stat st;
        if (fstatat(fd, "", &st, AT_EMPTY_PATH) < 0)
            return -errno;
        if (S_ISLNK(st.st_mode))
            return 0;
        if (uid != P9_NOFID)
            ret = set_mapped(fd, MAPPED_UID, &uid, sizeof uid);
        return ret < 0 || gid == P9_NOFID ? ret : set_mapped(fd, MAPPED_GID, &gid, sizeof gid);
    }
    if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
        ret = s->access == SHARE_SQUASH && errno == EPERM ? 0 : -errno;
    return ret;
}

/* Owner before mode: changing the owner takes set-user-ID bits away. */
int p9_own(const struct share *s, int fd, uint32_t uid, uint32_t gid, uint32_t mode, uint64_t rdev)
{
    int ret = change_owner(s, fd, uid, gid);
    if (ret < 0 || S_ISLNK(mode))
        return ret;
    if (s->access != SHARE_MAPPED)
        return change_mode(s, fd, mode);
    ret = set_mapped(fd, MAPPED_MODE, &mode, sizeof mode);
    return ret < 0 || !rdev ? ret : set_mapped(fd, MAPPED_RDEV, &rdev, sizeof rdev);
}

bool p9_xattr_hidden(const struct share *s, const char *name)
{
    return s->access == SHARE_MAPPED && strncmp(name, MAPPED_PREFIX, strlen(MAPPED_PREFIX)) == 0;
}

/* ---- operations ---- */

int p9_getattr(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    struct stat st;
    if (!f || f->xattr)
        return -EBADF;
    int ret = p9_stat(c->s, f->node->fd, &st);
    if (ret < 0)
        return ret;
    struct p9_msg *o = &c->out;
    p9_put64(o, GETATTR_ALL);
    p9_put_qid(o, c->s, &st);
    p9_put32(o, st.st_mode);
    p9_put32(o, st.st_uid);
    p9_put32(o, st.st_gid);
    p9_put64(o, st.st_nlink);
    p9_put64(o, st.st_rdev);
    p9_put64(o, (uint64_t)st.st_size);
    p9_put64(o, (uint64_t)st.st_blksize);
    p9_put64(o, (uint64_t)st.st_blocks);
    const struct timespec times[] = {st.st_atim, st.st_mtim, st.st_ctim, {0, 0}}; /* the last is the birth's, which is not valid */
    for (unsigned i = 0; i < ARRAY_SIZE(times); i++) {
        p9_put64(o, (uint64_t)times[i].tv_sec);
        p9_put64(o, (uint64_t)times[i].tv_nsec);
    }
    p9_put64(o, 0); /* generation and data version: not valid either */
    p9_put64(o, 0);
    return 0;
}

static struct timespec wanted_time(uint32_t valid, uint32_t change, uint32_t set, uint64_t sec, uint64_t nsec)
{
    if (!(valid & change))
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    if (!(valid & set))
        return (struct timespec){.tv_nsec = UTIME_NOW};
    return (struct timespec){(time_t)sec, nsec < NS_PER_S ? (long)nsec : 0};
}

/* By the descriptor that the guest writes through, when there is one: its mode may forbid opening the file anew. */
static int change_size(const struct p9_fid *f, uint64_t size)
{
    char path[P9_PROC_PATH];
    struct stat st;
    if (size > INT64_MAX)
        return -EFBIG;
    if (f->io >= 0 && ftruncate(f->io, (off_t)size) == 0)
        return 0;
    if (fstatat(f->node->fd, "", &st, AT_EMPTY_PATH) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    p9_proc_path(f->node->fd, path);
    return truncate(path, (off_t)size) < 0 ? -errno : 0;
}

int p9_setattr(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    uint32_t valid = p9_get32(&c->in), mode = p9_get32(&c->in), uid = p9_get32(&c->in), gid = p9_get32(&c->in);
    uint64_t v[5]; /* size, atime, its nanoseconds, mtime, its nanoseconds */
    int ret = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
        v[i] = p9_get64(&c->in);
    if (c->in.bad)
        return -EINVAL;
    if (!f || f->xattr)
        return -EBADF;
    if (c->s->readonly)
        return -EROFS;
    int fd = f->node->fd;
    if (valid & SETATTR_SIZE)
        ret = change_size(f, v[0]);
    if (ret == 0 && (valid & (SETATTR_UID | SETATTR_GID)))
        ret = change_owner(c->s, fd, valid & SETATTR_UID ? uid : P9_NOFID, valid & SETATTR_GID ? gid : P9_NOFID);
    if (ret == 0 && (valid & SETATTR_MODE))
        ret = change_mode(c->s, fd, mode);
    if (ret == 0 && (valid & (SETATTR_ATIME | SETATTR_MTIME))) {
        const struct timespec times[2] = {wanted_time(valid, SETATTR_ATIME, SETATTR_ATIME_SET, v[1], v[2]),
                                          wanted_time(valid, SETATTR_MTIME, SETATTR_MTIME_SET, v[3], v[4])};
        ret = utimensat(fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
    }
    return ret;
}

int p9_statfs(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    struct statfs st;
    if (!f)
        return -EBADF;
    if (fstatfs(f->node->fd, &st) < 0)
        return -errno;
    struct p9_msg *o = &c->out;
    uint64_t fsid;
    memcpy(&fsid, &st.f_fsid, sizeof fsid);
    p9_put32(o, 0x01021997); /* V9FS_MAGIC */
    p9_put32(o, (uint32_t)st.f_bsize);
    const uint64_t counts[] = {st.f_blocks, st.f_bfree, st.f_bavail, st.f_files, st.f_ffree, fsid};
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++)
        p9_put64(o, counts[i]);
    p9_put32(o, P9_NAME_MAX);
    return 0;
}

/* ---- extended attributes ---- */

/* Takes the names that the guest must not see out of a list of zero-terminated ones; its new length. */
static ssize_t filter_list(const struct share *s, char *list, ssize_t len)
{
    ssize_t kept = 0;
    for (ssize_t at = 0; at < len;) {
        size_t n = strnlen(list + at, (size_t)(len - at)) + 1;
        if (!p9_xattr_hidden(s, list + at)) {
            memmove(list + kept, list + at, n);
            kept += (ssize_t)n;
        }
        at += (ssize_t)n;
    }
    return MIN(kept, len);
}

static ssize_t fetch_xattr(const struct share *s, int fd, const char *name, uint8_t *value)
{
    char path[P9_PROC_PATH];
    struct stat st;
    if (fstatat(fd, "", &st, AT_EMPTY_PATH) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return -EOPNOTSUPP;
    if (p9_xattr_hidden(s, name))
        return -ENODATA;
    p9_proc_path(fd, path);
    ssize_t n = name[0] ? getxattr(path, name, value, P9_XATTR_MAX) : listxattr(path, (char *)value, P9_XATTR_MAX);
    if (n < 0)
        return -errno;
    return name[0] ? n : filter_list(s, (char *)value, n);
}

int p9_xattrwalk(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in)), *made;
    uint32_t newfid = p9_get32(&c->in);
    char name[P9_NAME_MAX + 1];
    p9_get_string(&c->in, name, P9_NAME_MAX);
    if (c->in.bad)
        return -EINVAL;
    if (!f || f->xattr)
        return -EBADF;
    if (c->s->nxattrs == P9_XATTRS)
        return -ENFILE;
    AUTO_FREE uint8_t *value = malloc(P9_XATTR_MAX);
    AUTO_FREE struct p9_xattr *x = calloc(1, sizeof *x);
    if (!value || !x)
        return -ENOMEM;
    ssize_t n = fetch_xattr(c->s, f->node->fd, name, value);
    if (n < 0)
        return (int)n;
    int ret = p9_fid_new(c->s, newfid, f->uid, f->node, &made);
    if (ret < 0)
        return ret;
    uint8_t *fitting = realloc(value, MAX((size_t)n, 1)); /* many may be held, most are short */
    x->value = fitting ? fitting : value;
    x->size = x->have = (uint32_t)n;
    value = NULL;
    made->xattr = steal_ptr(&x);
    c->s->nxattrs++;
    p9_put64(&c->out, (uint64_t)n);
    return 0;
}

int p9_xattrcreate(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    char name[P9_NAME_MAX + 1];
    p9_get_string(&c->in, name, P9_NAME_MAX);
    uint64_t size = p9_get64(&c->in);
    uint32_t flags = p9_get32(&c->in);
    if (c->in.bad || !name[0] || (flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)))
        return -EINVAL;
    if (!f || f->xattr || f->io >= 0)
        return -EBADF;
    if (c->s->readonly)
        return -EROFS;
    if (p9_xattr_hidden(c->s, name))
        return -EPERM;
    if (size > P9_XATTR_MAX)
        return -E2BIG;
    if (c->s->nxattrs == P9_XATTRS)
        return -ENFILE;
    struct stat st;
    if (fstatat(f->node->fd, "", &st, AT_EMPTY_PATH) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return -EOPNOTSUPP;
    AUTO_FREE struct p9_xattr *x = calloc(1, sizeof *x);
    AUTO_FREE uint8_t *value = malloc(MAX(size, 1));
    if (!x || !value)
        return -ENOMEM;
    memcpy(x->name, name, sizeof name);
    x->value = steal_ptr(&value);
    x->size = (uint32_t)size;
    x->flags = (int)flags;
    x->writing = true;
    f->xattr = steal_ptr(&x);
    c->s->nxattrs++;
    return 0;
}
