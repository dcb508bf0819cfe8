/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of the 9P server: messages, fids, and the table of operations. */
#ifndef LODGE_SHARE_P9_H
#define LODGE_SHARE_P9_H

#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "share/share.h"

#define P9_HEADER    7u /* size[4] type[1] tag[2] */
#define P9_QID       13u
#define P9_NOFID     0xffffffffu
#define P9_WALK_MAX  16u
#define P9_NAME_MAX  255u
#define P9_SMALL     8192u /* bytes: every message but the data of reads and writes, and directories */
#define P9_XATTR_MAX 65536u
#define P9_XATTRS    128u /* fids that hold one */

/* 9P2000.L; the answer to a request is its number plus one. */
enum p9_type {
    P9_RLERROR = 7,
    P9_TSTATFS = 8,
    P9_TLOPEN = 12,
    P9_TLCREATE = 14,
    P9_TSYMLINK = 16,
    P9_TMKNOD = 18,
    P9_TREADLINK = 22,
    P9_TGETATTR = 24,
    P9_TSETATTR = 26,
    P9_TXATTRWALK = 30,
    P9_TXATTRCREATE = 32,
    P9_TREADDIR = 40,
    P9_TFSYNC = 50,
    P9_TLOCK = 52,
    P9_TGETLOCK = 54,
    P9_TLINK = 70,
    P9_TMKDIR = 72,
    P9_TRENAMEAT = 74,
    P9_TUNLINKAT = 76,
    P9_TVERSION = 100,
    P9_TATTACH = 104,
    P9_TFLUSH = 108,
    P9_TWALK = 110,
    P9_TREAD = 116,
    P9_TWRITE = 118,
    P9_TCLUNK = 120,
};

/* A file that one or more fids stand for. */
struct p9_node {
    int fd; /* O_PATH */
    unsigned refs;
};

/* An extended attribute that is read or written through a fid. */
struct p9_xattr {
    char name[P9_NAME_MAX + 1];
    uint8_t *value; /* owned */
    uint32_t size, have;
    int flags;
    bool writing;
};

struct p9_fid {
    struct p9_fid *next; /* of the same bucket */
    uint32_t fid, uid;
    struct p9_node *node;
    int io; /* opened for reading or writing, or -1 */
    bool is_dir, dirty;
    struct p9_xattr *xattr; /* owned; NULL: the fid is a file */
};

#define P9_BUCKETS 4096u

struct share {
    int root; /* O_PATH */
    struct stat root_stat;
    enum share_access access;
    bool readonly;
    uint32_t msize;
    unsigned nfids, nxattrs;
    struct p9_fid *fids[P9_BUCKETS];
    uint8_t *large; /* SHARE_MSIZE bytes: a directory's answer */
    uint8_t request[P9_SMALL], answer[P9_SMALL];
};

/* A message that is read or written field by field. What does not fit sets `bad`; reading then gives zeroes, writing does nothing. */
struct p9_msg {
    uint8_t *p;
    uint32_t at, len;
    bool bad;
};

/* One request with its answer. */
struct p9_call {
    struct share *s;
    struct p9_msg in;  /* behind the header */
    struct p9_msg out; /* behind the header */
    /* The data of reads and writes: the guest's buffers behind what was parsed. */
    const struct iovec *data_out, *data_in;
    unsigned ndata_out, ndata_in;
    uint32_t data_out_len, data_in_len; /* bytes of all of it, header included */
    uint32_t data_written;              /* into data_in, behind out */
};

uint8_t p9_get8(struct p9_msg *m);
uint16_t p9_get16(struct p9_msg *m);
uint32_t p9_get32(struct p9_msg *m);
uint64_t p9_get64(struct p9_msg *m);
/* A string of at most `max` bytes without a zero byte; buf has max + 1. */
void p9_get_string(struct p9_msg *m, char *buf, uint32_t max);
/* A string that is one component of a path, and neither "." nor "..". */
void p9_get_name(struct p9_msg *m, char buf[P9_NAME_MAX + 1]);
void p9_put8(struct p9_msg *m, uint8_t v);
void p9_put16(struct p9_msg *m, uint16_t v);
void p9_put32(struct p9_msg *m, uint32_t v);
void p9_put64(struct p9_msg *m, uint64_t v);
void p9_put_string(struct p9_msg *m, const char *text, size_t len);
void p9_put_qid(struct p9_msg *m, const struct share *s, const struct stat *st);

/* Fids (fid.c). All but find return 0 or -errno. */
struct p9_fid *p9_fid_find(struct share *s, uint32_t fid);
int p9_fid_new(struct share *s, uint32_t fid, uint32_t uid, struct p9_node *node, struct p9_fid **out); /* takes a reference of its own */
int p9_fid_free(struct share *s, struct p9_fid *f);
void p9_fid_move(struct p9_fid *f, struct p9_node *node); /* takes over the caller's reference */
struct p9_node *p9_node_new(int fd);                                      /* owns fd, also when it fails; one reference, the caller's */
void p9_node_put(struct p9_node *n);
/* Opens what the fid's descriptor stands for. The path works where only a path will do. */
#define P9_PROC_PATH 32
void p9_proc_path(int fd, char path[P9_PROC_PATH]);
int p9_reopen(int fd, int flags);

/* Attributes with the share's mapping (attr.c). */
int p9_stat(const struct share *s, int fd, struct stat *st);
/* Gives a new file its owner and mode. `mode` with its type. */
int p9_own(const struct share *s, int fd, uint32_t uid, uint32_t gid, uint32_t mode, uint64_t rdev);
uint32_t p9_host_mode(const struct share *s, uint32_t mode, bool dir); /* what a new file gets on the host */
bool p9_xattr_hidden(const struct share *s, const char *name);

/* Operations: 0 or -errno. */
int p9_attach(struct p9_call *c);
int p9_walk(struct p9_call *c);
int p9_clunk(struct p9_call *c);
int p9_open(struct p9_call *c);
int p9_create(struct p9_call *c);
int p9_read(struct p9_call *c);
int p9_write(struct p9_call *c);
int p9_readdir(struct p9_call *c);
int p9_fsync(struct p9_call *c);
int p9_lock(struct p9_call *c);
int p9_getlock(struct p9_call *c);
int p9_statfs(struct p9_call *c);
int p9_getattr(struct p9_call *c);
int p9_setattr(struct p9_call *c);
int p9_xattrwalk(struct p9_call *c);
int p9_xattrcreate(struct p9_call *c);
int p9_symlink(struct p9_call *c);
int p9_mknod(struct p9_call *c);
int p9_mkdir(struct p9_call *c);
int p9_link(struct p9_call *c);
int p9_readlink(struct p9_call *c);
int p9_renameat(struct p9_call *c);
int p9_unlinkat(struct p9_call *c);

#endif
