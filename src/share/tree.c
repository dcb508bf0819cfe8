// SPDX-License-Identifier: GPL-2.0-or-later
/* What changes folders: new entries, links, renames, removals. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/util.h"
#include "share/p9.h"

#define UNLINK_DIR 0x200u /* P9_DOTL_AT_REMOVEDIR */

/* The folder that a request changes: checked, and writable. */
static int folder(struct p9_call *c, uint32_t fid, struct p9_fid **out)
{
    struct p9_fid *f = p9_fid_find(c->s, fid);
    if (c->in.bad)
        return -EINVAL;
    if (!f || f->xattr)
        return -EBADF;
    *out = f;
    return c->s->readonly ? -EROFS : 0;
}

/* Owner and qid of what was just made. What cannot get its owner does not stay. */
static int finish(struct p9_call *c, const struct p9_fid *dir, const char *name, uint32_t gid, uint32_t mode, uint64_t rdev)
{
    struct stat st;
    AUTO_CLOSE int fd = openat(dir->node->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int ret = p9_own(c->s, fd, dir->uid, gid, mode, rdev);
    if (ret == 0)
        ret = p9_stat(c->s, fd, &st);
    if (ret == 0)
        p9_put_qid(&c->out, c->s, &st);
    else
        unlinkat(dir->node->fd, name, S_ISDIR(mode) ? AT_REMOVEDIR : 0);
    return ret;
}

int p9_symlink(struct p9_call *c)
{
    uint32_t fid = p9_get32(&c->in);
    char name[P9_NAME_MAX + 1], target[PATH_MAX];
    struct p9_fid *dir;
    p9_get_name(&c->in, name);
    p9_get_string(&c->in, target, PATH_MAX - 1);
    uint32_t gid = p9_get32(&c->in);
    int ret = folder(c, fid, &dir);
    if (ret < 0)
        return ret;
    return symlinkat(target, dir->node->fd, name) < 0 ? -errno : finish(c, dir, name, gid, S_IFLNK | 0777, 0);
}

int p9_mkdir(struct p9_call *c)
{
    uint32_t fid = p9_get32(&c->in);
    char name[P9_NAME_MAX + 1];
    struct p9_fid *dir;
    p9_get_name(&c->in, name);
    uint32_t mode = p9_get32(&c->in) & 07777, gid = p9_get32(&c->in);
    int ret = folder(c, fid, &dir);
    if (ret < 0)
        return ret;
    return mkdirat(dir->node->fd, name, p9_host_mode(c->s, mode, true)) < 0 ? -errno : finish(c, dir, name, gid, S_IFDIR | mode, 0);
}

/* With a mapping, an empty file stands for a FIFO, a socket or a device. */
int p9_mknod(struct p9_call *c)
{
    uint32_t fid = p9_get32(&c->in);
    char name[P9_NAME_MAX + 1];
    struct p9_fid *dir;
    p9_get_name(&c->in, name);
    uint32_t mode = p9_get32(&c->in) & (S_IFMT | 07777), major = p9_get32(&c->in), minor = p9_get32(&c->in), gid = p9_get32(&c->in);
    bool mapped = c->s->access == SHARE_MAPPED;
    int ret = folder(c, fid, &dir);
    if (ret < 0)
        return ret;
    if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode) && !S_ISCHR(mode) && !S_ISBLK(mode))
        return -EINVAL;
    if (c->s->access == SHARE_SQUASH && (S_ISCHR(mode) || S_ISBLK(mode)))
        return -EPERM; /* it would be the host's device */
    uint64_t rdev = S_ISCHR(mode) || S_ISBLK(mode) ? makedev(major, minor) : 0;
    uint32_t host = p9_host_mode(c->s, mode, false) | (mapped ? S_IFREG : mode & S_IFMT);
    return mknodat(dir->node->fd, name, host, mapped ? 0 : rdev) < 0 ? -errno : finish(c, dir, name, gid, mode, rdev);
}

int p9_link(struct p9_call *c)
{
    uint32_t dirfid = p9_get32(&c->in);
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in)), *dir;
    char name[P9_NAME_MAX + 1], path[P9_PROC_PATH];
    p9_get_name(&c->in, name);
    int ret = folder(c, dirfid, &dir);
    if (ret < 0)
        return ret;
    if (!f || f->xattr)
        return -EBADF;
    p9_proc_path(f->node->fd, path);
    return linkat(AT_FDCWD, path, dir->node->fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int p9_readlink(struct p9_call *c)
{
    struct p9_fid *f = p9_fid_find(c->s, p9_get32(&c->in));
    char target[PATH_MAX];
    if (!f || f->xattr)
        return -EBADF;
    ssize_t n = readlinkat(f->node->fd, "", target, sizeof target);
    if (n < 0)
        return errno == ENOENT ? -EINVAL : -errno; /* not a link */
    p9_put_string(&c->out, target, (size_t)n);
    return 0;
}

int p9_renameat(struct p9_call *c)
{
    uint32_t oldfid = p9_get32(&c->in);
    char oldname[P9_NAME_MAX + 1], newname[P9_NAME_MAX + 1];
    struct p9_fid *from, *to;
    p9_get_name(&c->in, oldname);
    uint32_t newfid = p9_get32(&c->in);
    p9_get_name(&c->in, newname);
    int ret = folder(c, oldfid, &from);
    if (ret == 0)
        ret = folder(c, newfid, &to);
    if (ret < 0)
        return ret;
    return renameat(from->node->fd, oldname, to->node->fd, newname) < 0 ? -errno : 0;
}

int p9_unlinkat(struct p9_call *c)
{
    uint32_t fid = p9_get32(&c->in);
    char name[P9_NAME_MAX + 1];
    struct p9_fid *dir;
    p9_get_name(&c->in, name);
    uint32_t flags = p9_get32(&c->in);
    int ret = folder(c, fid, &dir);
    if (ret < 0)
        return ret;
    return unlinkat(dir->node->fd, name, flags & UNLINK_DIR ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
}
