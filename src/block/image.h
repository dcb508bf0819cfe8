/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image: a driver for its format over a file, and perhaps another image behind it. What is not in the image itself is read from that one, its
 * backing image; a backing image is opened only with the format that its overlay's header or the user names.
 *
 * All transfers may wait and so run in fibers, or outside of them alone. Offsets and lengths are bytes within the virtual disk; image_read() and the
 * others check them once, drivers do not.
 */
#ifndef LODGE_BLOCK_IMAGE_H
#define LODGE_BLOCK_IMAGE_H

#include "block/file.h"

struct image;

/* What a range of the disk is, for `map`, and for copying only what is there. */
enum extent_kind { EXTENT_NONE /* not in this image: the backing's, or zeroes */, EXTENT_ZERO, EXTENT_DATA, EXTENT_COMPRESSED };
struct extent {
    enum extent_kind kind;
    uint64_t len;  /* bytes from the offset that was asked for */
    uint64_t host; /* EXTENT_DATA: offset in the file */
    bool has_host;
    bool zero; /* EXTENT_DATA that is known to be zeroes: its place is a hole in the file */
    struct file *file; /* EXTENT_DATA whose bytes stand as they are in this file at `host`; NULL: do not */
};

/* A new image, as a user describes it. */
#define IMAGE_OPTIONS_MAX 32
struct image_option {
    const char *name, *value;
};
struct image_new {
    const char *path;
    uint64_t size; /* bytes */
    bool replace;  /* an existing file is emptied */
    bool no_sync;  /* it need not be on stable storage yet: data follow */
    const char *backing, *backing_format; /* NULL: none */
    const char *secret_file;              /* what an encrypted image is to be opened with; NULL: none */
    unsigned noptions;
    struct image_option options[IMAGE_OPTIONS_MAX];
};

#define IMAGE_REPORTS_MAX 100

/* What a check finds. */
struct image_check {
    uint64_t corruptions, leaks, corruptions_fixed, leaks_fixed;
    uint64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
    uint64_t end; /* offset behind the last used cluster */
    void (*report)(void *opaque, const char *line); /* one for each finding, at most IMAGE_REPORTS_MAX; NULL: none */
    void *opaque;
    unsigned reported;
};

struct image_driver {
    const char *name;
    bool noise; /* what was never written reads as noise, not as zeroes */
    /* Sets im->size and what it needs. im->file is open. 0, or -1 with err. */
    int (*open)(struct image *im, struct error *err);
    /* Does the backing image, which is open now, belong to this one? 0, or -1 with err. NULL: any does. */
    int (*check_backing)(struct image *im, struct error *err);
    /* Writes back what is left to write, and frees. 0 or -errno. */
    int (*close)(struct image *im);
    int (*read)(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov);
    int (*write)(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov);
    int (*zero)(struct image *im, uint64_t offset, uint64_t len, bool may_unmap);
    int (*discard)(struct image *im, uint64_t offset, uint64_t len);
    int (*flush)(struct image *im);
    /* The range, or its begin, *len being cut, becomes what `from` has at `host`, copied by the kernel. 0, -EOPNOTSUPP: it cannot, which goes for the *len bytes
     * that are left, or -errno. NULL: never can. */
    int (*copy)(struct image *im, uint64_t offset, uint64_t *len, struct file *from, uint64_t host);
    int (*extent)(struct image *im, uint64_t offset, uint64_t len, struct extent *out);
    int (*check)(struct image *im, struct image_check *out); /* looks at the tables, changes nothing. 0 or -errno. NULL: there is nothing to look at */
    int (*create)(struct io_loop *l, const struct image_new *n, struct error *err); /* NULL: reads only */
    int (*resize)(struct image *im, uint64_t size, bool shrink, struct error *err); /* NULL: keeps its size. A smaller size comes with shrink only */
};

struct image {
    const struct image_driver *driver;
    void *state; /* the driver's */
    struct io_loop *loop;
    struct file *file;
    struct image *backing; /* NULL: none */
    struct image *overlay; /* whose backing image this is; NULL: none */
    char *backing_name, *backing_format; /* as the header has them; NULL: none */
    uint64_t size;         /* of the disk */
    uint64_t cluster;      /* bytes that the format has a place for; 0: it keeps no table of places */
    bool readonly, for_repair, no_backing;
    bool given_up;         /* its user has told that it failed: closing does not log that again */
    const char *secret_file; /* while it is opened */
};

struct image_options {
    const char *path, *format; /* format: never guessed from the contents */
    bool readonly;
    bool no_backing; /* leave the backing image closed: reading what is not there fails */
    bool for_repair; /* what forbids writing does not: the caller will mend it */
    const char *what; /* begins the errors: "disk", "image" */
    const char *secret_file; /* its bytes open what is encrypted; NULL: none */
};

/* 0, or -1 with err. */
int image_open(struct io_loop *l, const struct image_options *o, struct image **out, struct error *err);
/* 0 or -errno: what could not be written back. */
int image_close(struct image *im);
int image_create_new(struct io_loop *l, const char *format, const struct image_new *n, struct error *err);
int image_resize_to(struct image *im, uint64_t size, bool shrink, struct error *err);
/* Tells a check's finding, unless as many as are wanted have been told. */
void image_report(struct image_check *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* -1 with the error that a driver does not know an option; `known` lists those that it knows. */
int image_bad_option(const struct image_option *o, const char *known, struct error *err);
const struct image_driver *image_driver(const char *format); /* NULL: unknown */
/* The path of a backing file as an image at `path` names it. Malloced, NULL without memory. */
char *image_backing_path(const char *path, const char *name);
/* May the image at `path` name this backing file? It is a file of this host, of a known format (NULL: none is said), and another one. 0, or -1 with err. */
int image_check_backing(const char *path, const char *name, const char *format, struct error *err);

int image_read(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov);
int image_write(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov);
int image_zero(struct image *im, uint64_t offset, uint64_t len, bool may_unmap);
int image_discard(struct image *im, uint64_t offset, uint64_t len);
int image_flush(struct image *im);
/* The range of `to` becomes that of `from` at `at`, or its begin does, *len being cut, without the bytes' passing through this process. *copied: it has. */
int image_copy(struct image *to, uint64_t offset, struct image *from, uint64_t at, uint64_t *len, bool *copied);
int image_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out);
/* Does every byte of a new image read as zero? */
bool image_is_blank(const struct image *im);
/* Does the range begin with what reads as zeroes, in this image and those behind it? *len is cut to what is alike. */
int image_is_zero(struct image *im, uint64_t offset, uint64_t *len, bool *zero);
/* Reads from the image behind; zeroes where it ends or is missing. */
int image_read_backing(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov);

extern const struct image_driver raw_driver, qcow2_driver, luks_driver, vmdk_driver, vdi_driver, vpc_driver, vhdx_driver, parallels_driver, dmg_driver,
    cloop_driver;

#endif
