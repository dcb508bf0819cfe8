// SPDX-License-Identifier: GPL-2.0-or-later
/* The server's outside: opening a folder, and the table of messages. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/util.h"
#include "share/p9.h"

static int version(struct p9_call *c)
{
    char text[32];
    uint32_t msize = p9_get32(&c->in);
    p9_get_string(&c->in, text, sizeof text - 1);
    if (c->in.bad || msize < P9_SMALL)
        return -EINVAL;
    share_reset(c->s);
    c->s->msize = MIN(msize, SHARE_MSIZE);
    const char *answer = strcmp(text, "9P2000.L") == 0 ? text : "unknown";
    p9_put32(&c->out, c->s->msize);
    p9_put_string(&c->out, answer, strlen(answer));
    return 0;
}

/* Whatever it names has been answered already. */
static int flush(struct p9_call *c)
{
    (void)c;
    return 0;
}

static int (*const operations[256])(struct p9_call *c) = {
    [P9_TSTATFS] = p9_statfs,
    [P9_TLOPEN] = p9_open,
    [P9_TLCREATE] = p9_create,
    [P9_TSYMLINK] = p9_symlink,
    [P9_TMKNOD] = p9_mknod,
    [P9_TREADLINK] = p9_readlink,
    [P9_TGETATTR] = p9_getattr,
    [P9_TSETATTR] = p9_setattr,
    [P9_TXATTRWALK] = p9_xattrwalk,
    [P9_TXATTRCREATE] = p9_xattrcreate,
    [P9_TREADDIR] = p9_readdir,
    [P9_TFSYNC] = p9_fsync,
    [P9_TLOCK] = p9_lock,
    [P9_TGETLOCK] = p9_getlock,
    [P9_TLINK] = p9_link,
    [P9_TMKDIR] = p9_mkdir,
    [P9_TRENAMEAT] = p9_renameat,
    [P9_TUNLINKAT] = p9_unlinkat,
    [P9_TVERSION] = version,
    [P9_TATTACH] = p9_attach,
    [P9_TFLUSH] = flush,
    [P9_TWALK] = p9_walk,
    [P9_TREAD] = p9_read,
    [P9_TWRITE] = p9_write,
    [P9_TCLUNK] = p9_clunk,
};

static size_t copy(const struct iovec *iov, unsigned n, uint8_t *buf, size_t len, bool to_guest)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        size_t part = MIN(iov[i].iov_len, len - done);
        memcpy(to_guest ? iov[i].iov_base : buf + done, to_guest ? buf + done : iov[i].iov_base, part);
        done += part;
    }
    return done;
}

static int run(struct p9_call *c, uint8_t type)
{
    int (*op)(struct p9_call *) = operations[type];
    if (!op)
        return -EOPNOTSUPP;
    if (type != P9_TVERSION && !c->s->msize)
        return -EINVAL;
    int ret = op(c);
    /* A message that is too short has been read as zeroes; nothing with a name was done on its account. */
    return ret == 0 && (c->in.bad || c->out.bad) ? -EINVAL : ret;
}

uint32_t share_serve(struct share *s, const struct iovec *out, unsigned nout, uint32_t out_len, const struct iovec *in, unsigned nin, uint32_t in_len)
{
    uint32_t have = (uint32_t)copy(out, nout, s->request, MIN(out_len, sizeof s->request), false), size;
    struct p9_call c = {.s = s,
                        .in = {.p = s->request + P9_HEADER},
                        .out = {.p = s->answer + P9_HEADER, .len = MIN(in_len, sizeof s->answer) - P9_HEADER},
                        .data_out = out,
                        .data_in = in,
                        .ndata_out = nout,
                        .ndata_in = nin,
                        .data_out_len = out_len,
                        .data_in_len = in_len};
    if (have < P9_HEADER || in_len < P9_HEADER + 4)
        return 0;
    memcpy(&size, s->request, sizeof size);
    uint8_t type = s->request[4], reply = type + 1;
    /* The message may be shorter than its buffers, and never longer. */
    int ret = size < P9_HEADER || size > out_len || (s->msize && size > s->msize) ? -EINVAL : 0;
    if (ret == 0) {
        c.in.len = MIN(size, have) - P9_HEADER;
        c.data_out_len = size;
        ret = run(&c, type);
    }
    if (ret < 0) {
        reply = P9_RLERROR;
        c.out.at = c.data_written = 0;
        c.out.bad = false;
        p9_put32(&c.out, (uint32_t)-ret);
    }
    uint32_t total = P9_HEADER + c.out.at + c.data_written;
    memcpy(s->answer, &total, sizeof total);
    s->answer[4] = reply;
    memcpy(s->answer + 5, s->request + 5, 2);
    copy(in, nin, s->answer, P9_HEADER + c.out.at, true);
    return total;
}

/* ---- life ---- */

/* Each file that the guest remembers is a descriptor here. */
static void raise_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

int share_open(const struct share_config *cfg, struct share **out, struct error *err)
{
    struct share *s = calloc(1, sizeof *s);
    uint8_t *large = malloc(SHARE_MSIZE);
    if (!s || !large) {
        free(s);
        free(large);
        return error_set(err, ENOMEM, "share '%s': out of memory; close other programs", cfg->path);
    }
    *s = (struct share){.access = cfg->access, .readonly = cfg->readonly, .large = large};
    s->root = open(cfg->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->root < 0 || fstat(s->root, &s->root_stat) < 0) {
        error_set(err, errno, "share '%s': cannot open: %s; give the path of a folder that you may read", cfg->path, strerror(errno));
        goto fail;
    }
    if (access("/proc/self/fd", X_OK) < 0) {
        error_set(err, errno, "share '%s': /proc is not there, and files are opened through it; mount it", cfg->path);
        goto fail;
    }
    raise_limit();
    *out = s;
    return 0;
fail:
    share_close(s);
    return -1;
}

void share_reset(struct share *s)
{
    for (unsigned i = 0; i < P9_BUCKETS; i++)
        while (s->fids[i])
            p9_fid_free(s, s->fids[i]);
    s->msize = 0;
}

void share_close(struct share *s)
{
    if (!s)
        return;
    share_reset(s);
    if (s->root >= 0)
        close(s->root);
    free(s->large);
    free(s);
}
