/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `lodge image`: what its verbs share. They take qemu-img's option letters. */
#ifndef LODGE_CLI_IMAGE_H
#define LODGE_CLI_IMAGE_H

#include "base/size.h"
#include "block/qcow2.h"

struct image_action {
    char what;
    const char *value; /* of --merge */
};

struct image_args {
    struct io_loop *loop;
    const char *format, *out_format; /* -f, -O */
    char *options;                   /* all of -o, with commas between them; malloced */
    const char *backing, *backing_format;      /* -b, -F */
    const char *snapshot;                      /* the name behind -c, -a, -d of `snapshot` */
    char action;                               /* 'l', 'c', 'a', 'd' of `snapshot`; 'l', 'e' (all) of `check -r` */
    bool compress, offload /* -C */, unsafe, json, progress, shrink, quiet;
    unsigned jobs;   /* -m: transfers at a time */
    uint64_t rate;   /* --rate: bytes a second; 0 none */
    const char *secret_file, *new_secret_file; /* --secret-file; --new-secret-file: of what is made */
    uint64_t size;   /* --size, if has_size */
    bool has_size, bitmaps /* --bitmaps: takes them along */;
    struct image_action actions[8]; /* of `bitmap` */
    unsigned nactions;
    uint64_t granularity; /* -g, bytes; 0: as usual */
    char *tcp;            /* what `serve` is told */
    const char *socket, *export, *bitmap, *tls_certificates, *tls_psk;
    bool readonly, once, sync, data_follow; /* data_follow: `convert` makes an image, and may lose it in a power cut */
    int argc;        /* what is left: files, sizes */
    char **argv;
};

#define IMAGE_COMPARE_FAILED 2 /* statuses, with err: those of qemu-img */
#define IMAGE_NO_CHECK       63

/* Status: 0, -1 with err, or what `compare` and `check` say by it. */
int image_measure(struct image_args *a, struct error *err);
int image_amend(struct image_args *a, struct error *err);
int image_bitmap(struct image_args *a, struct error *err);
int image_dd(struct image_args *a, struct error *err);
int image_serve(struct image_args *a, struct error *err);
int image_create(struct image_args *a, struct error *err);
int image_info(struct image_args *a, struct error *err);
int image_check(struct image_args *a, struct error *err);
int image_map(struct image_args *a, struct error *err);
int image_resize(struct image_args *a, struct error *err);
int image_snapshot(struct image_args *a, struct error *err);
int image_rebase(struct image_args *a, struct error *err);
int image_convert(struct image_args *a, struct error *err);
int image_commit(struct image_args *a, struct error *err);
int image_compare(struct image_args *a, struct error *err);

/* Opens with the format of -f; it is never guessed. */
int image_args_open(const struct image_args *a, const char *path, const char *format, bool readonly, struct image **im, struct error *err);
/* Closes an image that was changed, NULL being none. `ret`, or -1 with err if that was 0 and not all could be written back. */
int image_end(struct image *im, int ret, struct error *err);
int image_need_qcow2(const struct image *im, const char *what, struct error *err);
/* The header of an image's encryption; a passphrase is not needed for it. 1: it has none; 0, or -1 with err. */
int image_encryption(struct image *im, struct luks_info *out, struct error *err);
/* What `info` tells of it, NULL being none, and of VMDK's parts. */
void image_describe(const struct image *im, const struct luks_info *l);
void image_describe_json(const struct image *im, const struct luks_info *l);
void print_json_string(const char *text);             /* with quotes; "null" for NULL */
/* Options from `text`, which they stay in; that of a size into *size, NULL where there is none to be given. 0, or -1 with err. */
int image_parse_options(char *text, struct image_new *n, uint64_t *size, struct error *err);
/* Creates an image of `size` bytes as -o and the backing say. */
int image_make(const struct image_args *a, const char *path, const char *format, uint64_t size, bool replace, struct error *err);

#endif
