// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge image` create, measure, resize, amend. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cli/image.h"

/* ---- options ---- */

/* Cuts `text` at its commas, two of which stand for one that belongs to a value. The parts stay in `text`. */
static char *next_option(char **text)
{
    char *start = *text, *to = start;
    if (!start || !*start)
        return NULL;
    for (char *p = start;; p++) {
        if (*p == ',' && p[1] == ',') {
            *to++ = *p++;
            continue;
        }
        if (*p && *p != ',') {
            *to++ = *p;
            continue;
        }
        *text = *p ? p + 1 : p;
        *to = 0;
        return start;
    }
}

int image_parse_options(char *text, struct image_new *n, uint64_t *size, struct error *err)
{
    for (char *word; (word = next_option(&text));) {
        char *value = strchr(word, '=');
        if (!value)
            return error_set(err, 0, "option '%s': has no value; write %s=VALUE", word, word);
        *value++ = 0;
        if (strcmp(word, "backing_file") == 0)
            n->backing = value;
        else if (strcmp(word, "backing_fmt") == 0)
            n->backing_format = value;
        else if (size && strcmp(word, "size") == 0) {
            if (*size != UINT64_MAX)
                return error_set(err, 0, "option 'size=%s': the size is given already; leave it out", value);
            if (parse_size(value, size, err) < 0)
                return -1;
        } else if (n->noptions < IMAGE_OPTIONS_MAX)
            n->options[n->noptions++] = (struct image_option){word, value};
        else
            return error_set(err, 0, "option '%s': comes behind %u others; give fewer", word, IMAGE_OPTIONS_MAX);
    }
    return 0;
}

/* ---- create ---- */

/* The size of the backing image, for an overlay without a size of its own; and a look whether it opens. */
static int backing_size(const struct image_args *a, const struct image_new *n, uint64_t *size, struct error *err)
{
    if (!n->backing_format)
        return error_set(err, 0, "backing file '%s': no format, and it is never guessed; add -F raw or -F qcow2", n->backing);
    AUTO_FREE char *path = image_backing_path(n->path, n->backing);
    struct image *im;
    if (!path)
        return error_set(err, 0, "image '%s': out of memory; close other programs", n->path);
    if (image_args_open(a, path, n->backing_format, true, &im, err) < 0)
        return -1;
    if (*size == UINT64_MAX)
        *size = im->size;
    image_close(im);
    return 0;
}

int image_make(const struct image_args *a, const char *path, const char *format, uint64_t size, bool replace, struct error *err)
{
    struct image_new n = {.path = path, .replace = replace, .no_sync = a->data_follow, .backing = a->backing, .backing_format = a->backing_format,
                          .secret_file = a->new_secret_file ? a->new_secret_file : a->secret_file};
    AUTO_FREE char *text = a->options ? strdup(a->options) : NULL;
    if (text && image_parse_options(text, &n, &size, err) < 0)
        return -1;
    if (n.backing && backing_size(a, &n, &size, err) < 0)
        return -1;
    if (size == UINT64_MAX)
        return error_set(err, 0, "image '%s': has no size; give one, for instance 10G", path);
    n.size = ALIGN_UP(size, (uint64_t)BLOCK_SECTOR);
    return image_create_new(a->loop, format, &n, err);
}

int image_create(struct image_args *a, struct error *err)
{
    uint64_t size = UINT64_MAX;
    if (!a->format)
        return error_set(err, 0, "image '%s': no format; add -f FORMAT, for instance -f raw or -f qcow2", a->argv[0]);
    if (a->argc > 1 && parse_size(a->argv[1], &size, err) < 0)
        return -1;
    return image_make(a, a->argv[0], a->format, size, true, err);
}

/* ---- resize ---- */

int image_resize(struct image_args *a, struct error *err)
{
    struct image *im;
    const char *text = a->argv[1];
    char sign = *text == '+' || *text == '-' ? *text++ : 0;
    uint64_t size;
    if (parse_size(text, &size, err) < 0 || image_args_open(a, a->argv[0], a->format, false, &im, err) < 0)
        return -1;
    int ret = 0;
    if (sign == '-' && size > im->size)
        ret = error_set(err, 0, "image '%s': is smaller than that; give a smaller number", a->argv[0]);
    size = ALIGN_UP(size, (uint64_t)BLOCK_SECTOR);
    size = sign == '+' ? im->size + size : sign == '-' ? im->size - size : size;
    if (ret == 0)
        ret = image_resize_to(im, size, a->shrink, err);
    return image_end(im, ret, err);
}

/* ---- amend ---- */

/* Takes the options about passphrases out of the list. `erase` is the slot that is to be emptied, or -1. */
static int key_options(struct image_new *n, int *erase, struct error *err)
{
    unsigned kept = 0;
    *erase = -1;
    for (unsigned i = 0; i < n->noptions; i++) {
        const struct image_option *o = &n->options[i];
        char *end = NULL;
        if (strcmp(o->name, "erase-slot") != 0 && strcmp(o->name, "encrypt.erase-slot") != 0) {
            n->options[kept++] = *o;
            continue;
        }
        *erase = (int)strtol(o->value, &end, 10);
        if (*end || !*o->value || *erase < 0 || *erase >= (int)LUKS_SLOTS)
            return error_set(err, 0, "option '%s': '%s' is none; give a slot from 0 to 7", o->name, o->value);
    }
    n->noptions = kept;
    return 0;
}

static int amend_keys(const struct image_args *a, struct image *im, int erase, struct error *err)
{
    struct luks *l = im->driver == &luks_driver ? im->state : im->driver == &qcow2_driver ? qcow2_of(im)->luks : NULL;
    if (!l)
        return error_set(err, 0, "image '%s': is not encrypted, and has no key slots; convert it to an encrypted one", a->argv[0]);
    if (a->new_secret_file && luks_add_key(l, im->file, a->new_secret_file, err) < 0)
        return -1;
    return erase < 0 ? 0 : luks_erase_slot(l, im->file, (unsigned)erase, err);
}

int image_amend(struct image_args *a, struct error *err)
{
    struct image *im;
    struct image_new n = {.path = a->argv[0]};
    int erase;
    AUTO_FREE char *text = strdup(a->options ? a->options : "");
    if (!text || image_parse_options(text, &n, NULL, err) < 0 || key_options(&n, &erase, err) < 0)
        return -1;
    bool keys = a->new_secret_file || erase >= 0, others = n.noptions || n.backing;
    if (!keys && !others)
        return error_set(err, 0, "image '%s': nothing to change; give options with -o, or another passphrase with --new-secret-file", a->argv[0]);
    if (image_args_open(a, a->argv[0], a->format, false, &im, err) < 0)
        return -1;
    int ret = keys ? amend_keys(a, im, erase, err) : 0;
    if (ret == 0 && n.backing)
        ret = error_set(err, 0, "option 'backing_file': is changed by 'lodge image rebase'");
    if (ret == 0 && others && (ret = image_need_qcow2(im, "options to amend", err)) == 0)
        ret = qcow2_amend(im, &n, err);
    return image_end(im, ret, err);
}

/* ---- measure ---- */

/* Bytes of the units of `unit` bytes that hold something, in an image and those behind it. */
static int count_data(struct image *im, uint64_t unit, uint64_t *bytes)
{
    *bytes = 0;
    for (uint64_t at = 0, len; at < im->size; at += len) {
        bool zero;
        len = im->size - at;
        int ret = image_is_zero(im, at, &len, &zero);
        if (ret < 0)
            return ret;
        if (zero)
            continue;
        len = ALIGN_UP(at + len, unit) - at;
        *bytes += at % unit + len;
    }
    return 0;
}

struct measured {
    uint64_t required, full, bitmaps;
    bool has_bitmaps;
};

static int measure_qcow2(struct image *im, const struct image_new *n, struct measured *m, struct error *err)
{
    struct qcow2_create c;
    if (qcow2_describe(&c, n, err) < 0 || qcow2_check_create(&c, err) < 0)
        return -1;
    uint64_t cluster = 1ull << c.cluster_bits, disk = ALIGN_UP(n->size, cluster), data = 0;
    int ret = im && c.prealloc < PREALLOC_FALLOC ? count_data(im, cluster, &data) : 0;
    if (ret < 0)
        return error_set(err, -ret, "image '%s': cannot be read: %s; try 'lodge image check'", im->file->path, strerror(-ret));
    m->full = qcow2_full_size(&c) + (c.encrypt ? ALIGN_UP(luks_header_size(&c.luks, NULL), cluster) : 0);
    m->required = m->full - disk + (c.prealloc >= PREALLOC_FALLOC ? disk : data);
    m->has_bitmaps = im && im->driver == &qcow2_driver && qcow2_of(im)->h.version >= 3 && c.version >= 3;
    m->bitmaps = m->has_bitmaps ? qcow2_bitmaps_size(im, c.cluster_bits) : 0;
    return 0;
}

static int measure_raw(const struct image_new *n, struct measured *m, struct error *err)
{
    if (n->noptions)
        return image_bad_option(&n->options[0], "none to measure raw images with", err);
    m->full = m->required = n->size; /* holes count as well: they are part of the file's length */
    return 0;
}

static void print_measured(const struct measured *m, bool json)
{
    if (json) {
        puts("{");
        if (m->has_bitmaps)
            printf("    \"bitmaps\": %" PRIu64 ",\n", m->bitmaps);
        printf("    \"required\": %" PRIu64 ",\n    \"fully-allocated\": %" PRIu64 "\n}\n", m->required, m->full);
        return;
    }
    printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", m->required, m->full);
    if (m->has_bitmaps)
        printf("bitmaps size: %" PRIu64 "\n", m->bitmaps);
}

int image_measure(struct image_args *a, struct error *err)
{
    const char *out = a->out_format ? a->out_format : "raw";
    struct image *im = NULL;
    struct image_new n = {.path = "measured", .size = a->size};
    struct measured m = {0};
    AUTO_FREE char *text = strdup(a->options ? a->options : "");
    if (!text || image_parse_options(text, &n, NULL, err) < 0)
        return -1;
    if ((a->argc == 1) == a->has_size)
        return error_set(err, 0, "image verb 'measure': wants an image or --size SIZE, and not both");
    if (a->argc == 1 && image_args_open(a, a->argv[0], a->format, true, &im, err) < 0)
        return -1;
    if (im)
        n.size = im->size;
    n.size = ALIGN_UP(n.size, (uint64_t)BLOCK_SECTOR);
    int ret = strcmp(out, "qcow2") == 0 ? measure_qcow2(im, &n, &m, err)
              : strcmp(out, "raw") == 0 ? measure_raw(&n, &m, err)
                                        : error_set(err, 0, "format '%s': is not measured; use -O raw or -O qcow2", out);
    if (ret == 0)
        print_measured(&m, a->json);
    image_close(im);
    return ret;
}
