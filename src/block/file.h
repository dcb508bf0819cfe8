/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host file or block device that holds an image, or a part of one. Transfers may wait (loop.h). Offsets and lengths are bytes; results are 0 or
 * -errno unless said otherwise.
 */
#ifndef LODGE_BLOCK_FILE_H
#define LODGE_BLOCK_FILE_H

#include "block/loop.h"

struct file_protocol; /* where the bytes are when they are not in a file of this host: remote.h */
struct remote;

struct file {
    struct io_loop *loop;
    char *path;
    int fd;
    bool readonly, device; /* device: a block device */
    int direct_fd;         /* another description of it, for transfers that pass the page cache by; -1: all go through that */
    uint64_t size;         /* when it was opened, or as file_truncate() made it */
    unsigned physical;     /* the write that needs no read-modify-write */
    bool no_sync; /* file_sync() does nothing: a copy that can be made again */
    bool no_punch, no_zero_range; /* the file system refused that way before */
    bool no_copy;                 /* so did file_copy() */
    bool copy_unshared;           /* file_copy() copies in the kernel where blocks cannot be shared: for servers that do it themselves */
    const struct file_protocol *protocol; /* NULL: a file or device of this host */
    struct remote *remote;
    void *connection; /* the protocol's */
    unsigned unit;    /* bytes that transfers with the server are multiples of; a power of two */
    /* Tests look at each change when it begins and when it has ended; NULL: nobody does. */
    void (*observe)(void *opaque, const struct io_step *s, bool ended);
    void *observer;
};

/* Opens and locks (lock.c). `what` begins the errors: "disk", "backing file". 0, or -1 with err. */
int file_open(struct io_loop *l, const char *what, const char *path, bool readonly, struct file **out, struct error *err);
/* The same for a name that a user gave: it may also begin with a protocol's prefix. */
int file_open_named(struct io_loop *l, const char *what, const char *path, bool readonly, struct file **out, struct error *err);
bool file_is_remote(const char *path);                /* does it begin so? */
bool file_is_same(const char *path, const char *other); /* do both lead to one file? */
/* Creates a file that must not exist, or, with `replace`, empties one that nobody uses. */
int file_create(struct io_loop *l, const char *what, const char *path, bool replace, struct file **out, struct error *err);
/*
 * From now on transfers pass the page cache by when they and their buffers are aligned to FILE_DIRECT_ALIGN, as those of a disk's contents are. A format's tables, whose
 * buffers are not, stay in the page cache; the two must not share a page. 0 or -errno; nothing for a server's file.
 */
#define FILE_DIRECT_ALIGN 512u /* bytes */
int file_set_direct(struct file *f);
void *file_buffer(uint64_t bytes); /* aligned so; NULL without memory; its owner calls free() */
void file_close(struct file *f);

/* The bytes that were read: fewer than `len` at the end of the file only. Changes iov. */
ssize_t file_readv(struct file *f, uint64_t offset, uint64_t len, struct iovec *iov, int niov);
int file_writev(struct file *f, uint64_t offset, uint64_t len, struct iovec *iov, int niov);
/* What lies behind the end of the file reads as zeroes. */
int file_read(struct file *f, uint64_t offset, void *buf, uint64_t len);
int file_write(struct file *f, uint64_t offset, const void *buf, uint64_t len);
int file_sync(struct file *f);    /* all that was written is on stable storage */
int file_discard(struct file *f, uint64_t offset, uint64_t len); /* a hint: what the file system cannot do is no error */
int file_zero(struct file *f, uint64_t offset, uint64_t len, bool may_unmap);
int file_fill(struct file *f, uint64_t offset, uint64_t len); /* writes zeroes, whatever else there is */
/* Copies from another file, in the kernel: the two share their blocks, or see copy_unshared. -EOPNOTSUPP: these two files cannot. */
int file_copy(struct file *f, uint64_t offset, struct file *from, uint64_t at, uint64_t len);
void file_write_in_place(struct file *f); /* a hint to file systems that copy on write, while the file is empty (chattr +C) */
/* A block device or a server's disk: nobody makes it longer or shorter here. */
static inline bool file_keeps_size(const struct file *f)
{
    return f->device || f->protocol;
}
int file_truncate(struct file *f, uint64_t size);
int file_extend(struct file *f, uint64_t size); /* to more than it has; it reads as zeroes there. Waits, as transfers do */
int file_length(struct file *f, uint64_t *size); /* now */
/* Is the range a hole at its begin? *len is cut to what is alike. Files that cannot tell are data. */
int file_is_hole(struct file *f, uint64_t offset, uint64_t *len, bool *hole);

/* dst gets the part [offset, offset + len) of src; returns its number of entries, at most niov. */
int iov_slice(struct iovec *dst, const struct iovec *src, int niov, uint64_t offset, uint64_t len);
void iov_zero(const struct iovec *iov, int niov, uint64_t offset, uint64_t len);
void iov_from(const struct iovec *iov, int niov, uint64_t offset, const void *buf, uint64_t len);
void iov_to(const struct iovec *iov, int niov, uint64_t offset, void *buf, uint64_t len);
bool bytes_are_zero(const void *p, uint64_t len);
bool iov_is_aligned(const struct iovec *iov, int niov); /* to FILE_DIRECT_ALIGN, each begin and length */

#endif
