// SPDX-License-Identifier: GPL-2.0-or-later
/* Fids: the guest's numbers for files, in a hash table, and the descriptors behind them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/util.h"
#include "share/p9.h"

struct p9_node *p9_node_new(int fd)
{
    struct p9_node *n = malloc(sizeof *n);
    if (n)
        *n = (struct p9_node){.fd = fd, .refs = 1};
    else
        close(fd);
    return n;
}

void p9_node_put(struct p9_node *n)
{
    if (!n || --n->refs)
        return;
    close(n->fd);
    free(n);
}

static struct p9_fid **slot(struct share *s, uint32_t fid)
{
    struct p9_fid **p = &s->fids[fid % P9_BUCKETS];
    while (*p && (*p)->fid != fid)
        p = &(*p)->next;
    return p;
}

struct p9_fid *p9_fid_find(struct share *s, uint32_t fid)
{
    return *slot(s, fid);
}

int p9_fid_new(struct share *s, uint32_t fid, uint32_t uid, struct p9_node *node, struct p9_fid **out)
{
    struct p9_fid **p = slot(s, fid);
    if (*p || fid == P9_NOFID)
        return -EBADF;
    if (s->nfids == SHARE_FIDS)
        return -ENFILE;
    struct p9_fid *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    *f = (struct p9_fid){.fid = fid, .uid = uid, .node = node, .io = -1};
    node->refs++;
    s->nfids++;
    *p = f;
    if (out)
        *out = f;
    return 0;
}

void p9_fid_move(struct p9_fid *f, struct p9_node *node)
{
    p9_node_put(f->node);
    f->node = node;
}

/* An attribute that the guest wrote piece by piece takes effect when its fid goes, and only when it is whole. */
static int store_xattr(const struct p9_fid *f)
{
    const struct p9_xattr *x = f->xattr;
    char path[P9_PROC_PATH];
    if (!x || !x->writing)
        return 0;
    if (x->have != x->size)
        return -EINVAL;
    p9_proc_path(f->node->fd, path);
    int r = x->size ? setxattr(path, x->name, x->value, x->size, x->flags) : removexattr(path, x->name);
    return r < 0 ? -errno : 0;
}

int p9_fid_free(struct share *s, struct p9_fid *f)
{
    int ret = store_xattr(f);
    *slot(s, f->fid) = f->next;
    s->nfids--;
    if (f->io >= 0)
        close(f->io);
    if (f->xattr) {
        s->nxattrs--;
        free(f->xattr->value);
        free(f->xattr);
    }
    p9_node_put(f->node);
    free(f);
    return ret;
}

void p9_proc_path(int fd, char path[P9_PROC_PATH])
{
    snprintf(path, P9_PROC_PATH, "/proc/self/fd/%d", fd);
}

/* The link in /proc leads to the file itself, whatever its name is by now. */
int p9_reopen(int fd, int flags)
{
    char path[P9_PROC_PATH];
    p9_proc_path(fd, path);
    int r = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return r < 0 ? -errno : r;
}
