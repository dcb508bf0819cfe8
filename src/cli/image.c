// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge image`: disk images, with qemu-img's verbs and letters. */
#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"
#include "cli/image.h"
#include "cli/options.h"
#include "cli/verbs.h"

enum { OPT_JSON = 256, OPT_SHRINK, OPT_RATE, OPT_OUTPUT };

static const struct verb {
    const char *name, *letters, *args, *help;
    int min, max; /* arguments */
    int (*run)(struct image_args *a, struct error *err);
} verbs[] = {
    {"create", "f:o:b:F:q", "-f FORMAT [-o OPTIONS] [-b FILE -F FORMAT] FILE [SIZE]", "make an image", 1, 2, image_create},
    {"info", "f:", "-f FORMAT [--json] FILE", "what an image is", 1, 1, image_info},
    {"check", "f:r:", "-f FORMAT [-r leaks|all] [--json] FILE", "look for errors, and mend them; status 2: errors, 3: leaks only", 1, 1, image_check},
    {"map", "f:", "-f FORMAT [--json] FILE", "which ranges hold data", 1, 1, image_map},
    {"convert", "f:O:o:cpm:q", "-f FORMAT -O FORMAT [-o OPTIONS] [-c] [-p] [-m JOBS] [--rate BYTES] FILE NEW", "copy into another format", 2, 2, image_convert},
    {"resize", "f:", "-f FORMAT [--shrink] FILE [+|-]SIZE", "another size of the disk", 2, 2, image_resize},
    {"snapshot", "f:lc:a:d:", "-f FORMAT -l | -c NAME | -a NAME | -d NAME FILE", "list, create, apply, delete internal snapshots", 1, 1, image_snapshot},
    {"commit", "f:pq", "-f FORMAT [-p] FILE", "write an overlay's data into its backing file", 1, 1, image_commit},
    {"rebase", "f:ub:F:p", "-f FORMAT [-u] -b FILE -F FORMAT FILE", "another backing file; -u: it has the same contents", 1, 1, image_rebase},
    {"compare", "f:F:q", "-f FORMAT -F FORMAT FILE FILE", "are two disks the same? status 1: no", 2, 2, image_compare},
    {NULL, NULL, NULL, NULL, 0, 0, NULL},
};

static const struct option longs[] = {{"json", 0, NULL, OPT_JSON}, {"output", 1, NULL, OPT_OUTPUT}, {"shrink", 0, NULL, OPT_SHRINK}, {"rate", 1, NULL, OPT_RATE}, {NULL, 0, NULL, 0}};

/* ---- what the verbs share ---- */

int parse_size(const char *text, uint64_t *bytes, struct error *err)
{
    static const char units[] = "KMGTPE";
    char *end;
    double n = strtod(text, &end);
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    bool ok = end != text && n >= 0 && isdigit((unsigned char)text[0]) && (!*end || (unit && (!end[1] || strcasecmp(end + 1, "iB") == 0 || strcasecmp(end + 1, "B") == 0)));
    if (!ok || n * (double)(1ull << shift) >= 9e18)
        return error_set(err, 0, "size '%s': is no size; write bytes, or a number with K, M, G or T, for instance 10G", text);
    uint64_t whole = strtoull(text, &end, 10);
    *bytes = *end == '.' ? (uint64_t)(n * (double)(1ull << shift)) : whole << shift;
    return 0;
}

void print_size(char *out, size_t n, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    unsigned u = 0;
    for (; v >= 1024 && u + 1 < ARRAY_SIZE(units); u++)
        v /= 1024;
    snprintf(out, n, v == (double)(uint64_t)v ? "%.0f %s" : "%.3g %s", v, units[u]);
}

void print_json_string(const char *s)
{
    if (!s) {
        fputs("null", stdout);
        return;
    }
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if ((unsigned char)*s < 32)
            printf("\\u%04x", *s);
        else
            putchar(*s);
    }
    putchar('"');
}

int image_args_open(const struct image_args *a, const char *path, const char *format, bool readonly, struct image **im, struct error *err)
{
    if (!format)
        return error_set(err, 0, "image '%s': no format, and it is never guessed; add -f raw or -f qcow2", path);
    struct image_options o = {.path = path, .format = format, .readonly = readonly, .what = "image"};
    return image_open(a->loop, &o, im, err);
}

static int need_qcow2(const struct image *im, const char *verb, struct error *err)
{
    if (im->driver == &qcow2_driver)
        return 0;
    return error_set(err, 0, "image '%s': format %s has no %s; convert it to qcow2", im->file->path, im->driver->name, verb);
}

/* ---- create ---- */

static int set_option(struct qcow2_create *c, const char *name, const char *value, struct error *err)
{
    static const char *const preallocs[] = {"off", "metadata", "falloc", "full"};
    bool on = strcmp(value, "on") == 0 || strcmp(value, "true") == 0;
    uint64_t n = 0;
    if (strcmp(name, "cluster_size") == 0) {
        if (parse_size(value, &n, err) < 0)
            return -1;
        if (!n || (n & (n - 1)) || n > 1u << QCOW2_MAX_CLUSTER)
            return error_set(err, 0, "option 'cluster_size': '%s' is none; give a power of two from 512 to 2M", value);
        c->cluster_bits = (unsigned)__builtin_ctzll(n);
    } else if (strcmp(name, "compat") == 0) {
        if (strcmp(value, "0.10") != 0 && strcmp(value, "1.1") != 0 && strcmp(value, "v2") != 0 && strcmp(value, "v3") != 0)
            return error_set(err, 0, "option 'compat': '%s' is none; give 0.10 or 1.1", value);
        c->version = strcmp(value, "0.10") == 0 || strcmp(value, "v2") == 0 ? 2 : 3;
    } else if (strcmp(name, "refcount_bits") == 0) {
        n = strtoull(value, NULL, 10);
        if (!n || n > 64 || (n & (n - 1)))
            return error_set(err, 0, "option 'refcount_bits': '%s' is none; give 1, 2, 4, 8, 16, 32 or 64", value);
        c->refcount_order = (unsigned)__builtin_ctzll(n);
    } else if (strcmp(name, "preallocation") == 0) {
        unsigned k = 0;
        while (k < ARRAY_SIZE(preallocs) && strcmp(preallocs[k], value) != 0)
            k++;
        if (k == ARRAY_SIZE(preallocs))
            return error_set(err, 0, "option 'preallocation': '%s' is none; give off, metadata, falloc or full", value);
        c->prealloc = k;
    } else if (strcmp(name, "lazy_refcounts") == 0) {
        c->lazy = on;
    } else if (strcmp(name, "extended_l2") == 0) {
        c->ext_l2 = on;
    } else if (strcmp(name, "data_file_raw") == 0) {
        c->data_file_raw = on;
    } else if (strcmp(name, "compression_type") == 0 && (strcmp(value, "zlib") == 0 || strcmp(value, "zstd") == 0)) {
        c->zstd = value[1] == 's';
    } else if (strcmp(name, "data_file") == 0) {
        c->data_file = value;
    } else if (strcmp(name, "backing_file") == 0) {
        c->backing = value;
    } else if (strcmp(name, "backing_fmt") == 0) {
        c->backing_format = value;
    } else {
        return error_set(err, 0,
                         "option '%s=%s': is not known; there are cluster_size, compat, refcount_bits, preallocation, lazy_refcounts, extended_l2, "
                         "compression_type, data_file, data_file_raw, backing_file, backing_fmt",
                         name, value);
    }
    return 0;
}

/* `text` is cut at its commas; values point into it. */
static int parse_options(struct qcow2_create *c, char *text, struct error *err)
{
    for (char *save = NULL, *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        char *value = strchr(word, '=');
        if (!value)
            return error_set(err, 0, "option '%s': has no value; write %s=VALUE", word, word);
        *value++ = 0;
        if (set_option(c, word, value, err) < 0)
            return -1;
    }
    return 0;
}

static int make_raw(const struct image_args *a, const char *path, uint64_t size, bool replace, struct error *err)
{
    struct file *f;
    if (a->options)
        return error_set(err, 0, "option '-o': raw images have none; leave it out");
    if (a->backing)
        return error_set(err, 0, "option '-b': raw images have no backing file; use qcow2");
    if (file_create(a->loop, "image", path, replace, &f, err) < 0)
        return -1;
    int ret = f->device ? 0 : file_truncate(f, size);
    file_close(f);
    return ret < 0 ? error_set(err, -ret, "image '%s': cannot be made: %s; check the disk that is to hold it", path, strerror(-ret)) : 0;
}

/* The size of the backing image, for an overlay without a size of its own; and a look whether it opens. */
static int backing_size(const struct image_args *a, const struct qcow2_create *c, uint64_t *size, struct error *err)
{
    if (!c->backing_format)
        return error_set(err, 0, "backing file '%s': no format, and it is never guessed; add -F raw or -F qcow2", c->backing);
    AUTO_FREE char *path = image_backing_path(c->path, c->backing);
    struct image *im;
    if (!path)
        return error_set(err, 0, "image '%s': out of memory; close other programs", c->path);
    if (image_args_open(a, path, c->backing_format, true, &im, err) < 0)
        return -1;
    if (*size == UINT64_MAX)
        *size = im->size;
    image_close(im);
    return 0;
}

int image_make(const struct image_args *a, const char *path, const char *format, uint64_t size, bool replace, struct error *err)
{
    struct qcow2_create c = {.path = path, .version = 3, .cluster_bits = 16, .refcount_order = 4, .replace = replace, .backing = a->backing,
                             .backing_format = a->backing_format};
    AUTO_FREE char *text = a->options ? strdup(a->options) : NULL;
    if (strcmp(format, "raw") == 0)
        return make_raw(a, path, size, replace, err);
    if (strcmp(format, "qcow2") != 0)
        return error_set(err, 0, "image '%s': format '%s' is not known; use raw or qcow2", path, format);
    if (text && parse_options(&c, text, err) < 0)
        return -1;
    if (c.backing && backing_size(a, &c, &size, err) < 0)
        return -1;
    if (size == UINT64_MAX)
        return error_set(err, 0, "image '%s': has no size; give one, for instance 10G", path);
    c.size = size;
    return qcow2_create(a->loop, &c, err);
}

int image_create(struct image_args *a, struct error *err)
{
    uint64_t size = UINT64_MAX;
    if (!a->format)
        return error_set(err, 0, "image '%s': no format; add -f raw or -f qcow2", a->argv[0]);
    if (a->argc > 1 && parse_size(a->argv[1], &size, err) < 0)
        return -1;
    if (size != UINT64_MAX)
        size = ALIGN_UP(size, (uint64_t)BLOCK_SECTOR);
    if (size == UINT64_MAX && strcmp(a->format, "raw") == 0)
        return error_set(err, 0, "image '%s': has no size; give one, for instance 10G", a->argv[0]);
    return image_make(a, a->argv[0], a->format, size, true, err);
}

/* ---- resize, snapshot, rebase ---- */

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
    if (ret == 0 && im->driver == &qcow2_driver) {
        ret = qcow2_resize(im, size, a->shrink, err);
    } else if (ret == 0) {
        if (size < im->size && !a->shrink)
            ret = error_set(err, 0, "image '%s': is larger than that, and what lies behind the new end would be lost; say --shrink to want that", a->argv[0]);
        else if ((ret = file_truncate(im->file, size)) < 0)
            ret = error_set(err, -ret, "image '%s': cannot be resized: %s; check the disk that holds it", a->argv[0], strerror(-ret));
    }
    image_close(im);
    return ret;
}

static void list_snapshots(const struct qcow2 *q)
{
    printf("%-8s %-24s %12s %19s\n", "ID", "TAG", "VM SIZE", "DATE");
    for (uint32_t i = 0; i < q->h.nsnapshots; i++) {
        const struct qcow2_snapshot *s = &q->snapshots[i];
        time_t at = s->date_sec;
        struct tm tm;
        char date[32], size[32];
        strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", localtime_r(&at, &tm));
        print_size(size, sizeof size, s->vm_state_size);
        printf("%-8s %-24s %12s %19s\n", s->id, s->name, size, date);
    }
}

int image_snapshot(struct image_args *a, struct error *err)
{
    struct image *im;
    if (image_args_open(a, a->argv[0], a->format, a->action == 'l' || !a->action, &im, err) < 0)
        return -1;
    int ret = need_qcow2(im, "internal snapshots", err);
    if (ret == 0)
        switch (a->action) {
        case 'c': ret = qcow2_snapshot_create(im, a->snapshot, err); break;
        case 'a': ret = qcow2_snapshot_apply(im, a->snapshot, err); break;
        case 'd': ret = qcow2_snapshot_delete(im, a->snapshot, err); break;
        default: list_snapshots(qcow2_of(im)); break;
        }
    image_close(im);
    return ret;
}

/* ---- the command ---- */

static int usage(void)
{
    puts("usage: lodge image VERB [OPTION]… FILE…\n");
    for (const struct verb *v = verbs; v->name; v++)
        printf("  %-9s %s\n            %s\n", v->name, v->args, v->help);
    puts("\nA format is raw or qcow2, and is never guessed. Sizes are bytes, or have K, M, G, T behind them.");
    return 0;
}

static int set_letter(struct image_args *a, const struct verb *v, int c, struct error *err)
{
    switch (c) {
    case 'f': a->format = optarg; return 0;
    case 'O': a->out_format = optarg; return 0;
    case 'o': a->options = optarg; return 0;
    case 'b': a->backing = optarg; return 0;
    case 'F': a->backing_format = optarg; return 0;
    case 'u': a->unsafe = true; return 0;
    case 'p': a->progress = true; return 0;
    case 'q': a->quiet = true; return 0;
    case 'm': a->jobs = (unsigned)MIN(MAX(strtoul(optarg, NULL, 10), 1ul), 16ul); return 0;
    case 'r':
        if (strcmp(optarg, "leaks") != 0 && strcmp(optarg, "all") != 0)
            return error_set(err, 0, "option '-r': '%s' is no repair; give leaks or all", optarg);
        a->action = *optarg;
        return 0;
    case 'l':
    case 'a':
    case 'd': a->action = (char)c; a->snapshot = optarg; return 0;
    case 'c':
        a->compress = v->run == image_convert;
        a->action = (char)c;
        a->snapshot = optarg;
        return 0;
    case OPT_JSON: a->json = true; return 0;
    case OPT_OUTPUT: a->json = strcmp(optarg, "json") == 0; return 0;
    case OPT_SHRINK: a->shrink = true; return 0;
    case OPT_RATE: return parse_size(optarg, &a->rate, err);
    default: return error_set(err, 0, "image verb '%s': does not know '%s'; usage: lodge image %s %s", v->name, optopt ? (char[]){'-', (char)optopt, 0} : "that option", v->name, v->args);
    }
}

static int run_verb(const struct verb *v, int argc, char **argv, struct error *err)
{
    struct image_args a = {.jobs = 8};
    opterr = 0;
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, v->letters, longs, NULL)) >= 0;)
        if (set_letter(&a, v, c, err) < 0)
            return 1;
    a.argc = argc - optind;
    a.argv = argv + optind;
    if (a.argc < v->min || a.argc > v->max) {
        error_set(err, 0, "image verb '%s': wants %s arguments; usage: lodge image %s %s", v->name, a.argc < v->min ? "more" : "fewer", v->name, v->args);
        return 1;
    }
    if (io_loop_create(BLOCK_ENGINE_AUTO, &a.loop, err) < 0)
        return 1;
    int ret = v->run(&a, err);
    io_loop_free(a.loop);
    return ret < 0 ? 1 : ret;
}

int verb_image(int argc, char **argv, struct error *err)
{
    if (argc < 1 || strcmp(argv[0], "help") == 0 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)
        return usage();
    for (const struct verb *v = verbs; v->name; v++)
        if (strcmp(v->name, argv[0]) == 0)
            return run_verb(v, argc, argv, err);
    const char *nearest = nearest_word(argv[0], &verbs->name, sizeof *verbs);
    error_set(err, 0, nearest ? "image verb '%s': unknown; did you mean 'lodge image %s'?" : "image verb '%s': unknown; see 'lodge image help'", argv[0], nearest);
    return 1;
}
