// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge image`: disk images, with qemu-img's verbs and letters. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "cli/image.h"
#include "cli/options.h"
#include "cli/verbs.h"

enum {
    OPT_JSON = 256, OPT_SHRINK, OPT_RATE, OPT_OUTPUT, OPT_SECRET, OPT_NEW_SECRET, OPT_SIZE, OPT_BITMAPS, OPT_ADD, OPT_REMOVE, OPT_CLEAR, OPT_ENABLE, OPT_DISABLE,
    OPT_MERGE, OPT_SOCKET, OPT_TCP, OPT_NAME, OPT_READONLY, OPT_ONCE, OPT_BITMAP, OPT_TLS_CERTIFICATES, OPT_TLS_PSK, OPT_SYNC
};

static const struct verb {
    const char *name, *letters, *longs, *args, *help; /* longs: names of options, each between spaces */
    int min, max; /* arguments */
    int (*run)(struct image_args *a, struct error *err);
} verbs[] = {
    {"create", "f:o:b:F:q", " secret-file ", "-f FORMAT [-o OPTIONS] [-b FILE -F FORMAT] FILE [SIZE]", "make an image", 1, 2, image_create},
    {"info", "f:", " json output secret-file ", "-f FORMAT [--json] FILE", "what an image is", 1, 1, image_info},
    {"check", "f:r:q", " json output secret-file ", "-f FORMAT [-r leaks|all] [--json] FILE", "look for errors, and mend them; status 2: errors, 3: leaks only, 63: a format without tables", 1, 1, image_check},
    {"map", "f:", " json output secret-file ", "-f FORMAT [--json] FILE", "which ranges hold data", 1, 1, image_map},
    {"measure", "f:O:o:", " json output size secret-file ", "-O FORMAT [-o OPTIONS] [--json] --size SIZE | -f FORMAT FILE", "how much space an image would take", 0, 1, image_measure},
    {"convert", "f:O:o:cCpm:qr:", " rate new-secret-file bitmaps sync secret-file ", "-f FORMAT -O FORMAT [-o OPTIONS] [-c | -C] [-p] [-m JOBS] [-r BYTES] [--bitmaps] [--sync] FILE NEW", "copy into another format", 2, 2, image_convert},
    {"dd", "f:O:o:C", " new-secret-file sync secret-file ", "-f FORMAT -O FORMAT [-C] if=FILE of=FILE [bs=SIZE] [count=N] [skip=N]", "copy a part into another format", 2, 5, image_dd},
    {"amend", "f:o:q", " new-secret-file secret-file ", "-f FORMAT -o OPTIONS FILE", "change what kind of image it is", 1, 1, image_amend},
    {"bitmap", "f:g:b:F:", " add remove clear enable disable merge secret-file ", "-f FORMAT --add [-g BYTES] | --remove | --clear | --enable | --disable | --merge SOURCE [-b FILE -F FORMAT] FILE NAME",
     "dirty bitmaps", 2, 2, image_bitmap},
    {"serve", "f:q", " socket tcp name read-only once bitmap tls-certificates tls-psk secret-file ", "-f FORMAT --socket PATH | --tcp [HOST:]PORT [--name EXPORT] [--read-only] [--once] [--bitmap NAME] [--tls-certificates DIR | --tls-psk FILE] FILE",
     "export it by NBD", 1, 1, image_serve},
    {"resize", "f:q", " shrink secret-file ", "-f FORMAT [--shrink] FILE [+|-]SIZE", "another size of the disk", 2, 2, image_resize},
    {"snapshot", "f:lc:a:d:q", " secret-file ", "-f FORMAT -l | -c NAME | -a NAME | -d NAME FILE", "list, create, apply, delete internal snapshots", 1, 1, image_snapshot},
    {"commit", "f:pq", " secret-file ", "-f FORMAT [-p] FILE", "write an overlay's data into its backing file", 1, 1, image_commit},
    {"rebase", "f:ub:F:pq", " secret-file ", "-f FORMAT [-u] -b FILE -F FORMAT FILE", "another backing file; -u: it has the same contents", 1, 1, image_rebase},
    {"compare", "f:F:pq", " secret-file ", "-f FORMAT [-F FORMAT] [-p] FILE FILE", "are two disks the same? status 1: no; 2: it cannot be said", 2, 2, image_compare},
    {NULL, NULL, NULL, NULL, NULL, 0, 0, NULL},
};

static const struct option longs[] = {
    {"json", 0, NULL, OPT_JSON},         {"output", 1, NULL, OPT_OUTPUT},       {"shrink", 0, NULL, OPT_SHRINK},
    {"rate", 1, NULL, OPT_RATE},         {"secret-file", 1, NULL, OPT_SECRET},  {"new-secret-file", 1, NULL, OPT_NEW_SECRET},
    {"size", 1, NULL, OPT_SIZE},         {"bitmaps", 0, NULL, OPT_BITMAPS},     {"add", 0, NULL, OPT_ADD},
    {"remove", 0, NULL, OPT_REMOVE},     {"clear", 0, NULL, OPT_CLEAR},         {"enable", 0, NULL, OPT_ENABLE},
    {"disable", 0, NULL, OPT_DISABLE},   {"merge", 1, NULL, OPT_MERGE},         {"socket", 1, NULL, OPT_SOCKET},
    {"tcp", 1, NULL, OPT_TCP},           {"name", 1, NULL, OPT_NAME},           {"read-only", 0, NULL, OPT_READONLY},
    {"once", 0, NULL, OPT_ONCE},         {"bitmap", 1, NULL, OPT_BITMAP},       {"tls-certificates", 1, NULL, OPT_TLS_CERTIFICATES},
    {"tls-psk", 1, NULL, OPT_TLS_PSK},   {"sync", 0, NULL, OPT_SYNC},           {NULL, 0, NULL, 0}};

/* ---- what the verbs share ---- */

/* Names in an image are any bytes; JSON is UTF-8. */
void print_json_string(const char *s)
{
    json_auto_t *json = s ? json_string(s) : json_null();
    if (!json) {
        AUTO_FREE char *ascii = strdup(s);
        for (char *p = ascii; p && *p; p++)
            if (*p & 0x80)
                *p = '?';
        json = json_string(ascii ? ascii : "");
    }
    json_dumpf(json, stdout, JSON_ENCODE_ANY);
}

int image_args_open(const struct image_args *a, const char *path, const char *format, bool readonly, struct image **im, struct error *err)
{
    if (!format)
        return error_set(err, 0, "image '%s': no format, and it is never guessed; add -f FORMAT, for instance -f qcow2", path);
    struct image_options o = {.path = path, .format = format, .readonly = readonly, .what = "image", .secret_file = a->secret_file};
    return image_open(a->loop, &o, im, err);
}

int image_end(struct image *im, int ret, struct error *err)
{
    if (!im)
        return ret;
    AUTO_FREE char *path = strdup(im->file->path);
    im->given_up = true;
    int closed = image_close(im);
    if (ret < 0 || closed == 0)
        return ret;
    return error_set(err, -closed, "image '%s': cannot be written back: %s; what was not flushed is lost, so look at it with 'lodge image check'", path ? path : "", strerror(-closed));
}

int image_need_qcow2(const struct image *im, const char *verb, struct error *err)
{
    if (im->driver == &qcow2_driver)
        return 0;
    return error_set(err, 0, "image '%s': format %s has no %s; convert it to qcow2", im->file->path, im->driver->name, verb);
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
    int ret = image_need_qcow2(im, "internal snapshots", err);
    if (ret == 0)
        switch (a->action) {
        case 'c': ret = qcow2_snapshot_create(im, a->snapshot, err); break;
        case 'a': ret = qcow2_snapshot_apply(im, a->snapshot, err); break;
        case 'd': ret = qcow2_snapshot_delete(im, a->snapshot, err); break;
        default: list_snapshots(qcow2_of(im)); break;
        }
    return image_end(im, ret, err);
}

/* ---- the command ---- */

static int usage(void)
{
    puts("usage: lodge image VERB [OPTION]… FILE…\n");
    for (const struct verb *v = verbs; v->name; v++)
        printf("  %-9s %s\n            %s\n", v->name, v->args, v->help);
    puts("\nA format is raw, qcow2, luks, vmdk, vdi, vpc, vhdx, parallels, dmg or cloop, and is never guessed. Sizes are bytes, or have K, M, G, T behind them.");
    return 0;
}

static int add_action(struct image_args *a, char what, const char *value, struct error *err)
{
    if (a->nactions == ARRAY_SIZE(a->actions))
        return error_set(err, 0, "image verb 'bitmap': does %zu things at a time; call it again for more", ARRAY_SIZE(a->actions));
    a->actions[a->nactions++] = (struct image_action){what, value};
    return 0;
}

/* Several -o are one list. */
static int add_options(struct image_args *a, const char *text, struct error *err)
{
    char *all;
    if (asprintf(&all, "%s%s%s", a->options ? a->options : "", a->options ? "," : "", text) < 0)
        return error_set(err, ENOMEM, "option '-o': out of memory; close other programs");
    free(a->options);
    a->options = all;
    return 0;
}

static int set_jobs(struct image_args *a, const char *text, struct error *err)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || n < 1 || n > 16)
        return error_set(err, 0, "option '-m': '%s' is no number of transfers; give 1 to 16", text);
    a->jobs = (unsigned)n;
    return 0;
}

static int set_output(struct image_args *a, const char *text, struct error *err)
{
    a->json = strcmp(text, "json") == 0;
    if (!a->json && strcmp(text, "human") != 0)
        return error_set(err, 0, "option '--output': '%s' is not known; give json or human", text);
    return 0;
}

/* What `snapshot` is to do: one thing. */
static int set_action(struct image_args *a, int c, struct error *err)
{
    if (a->action)
        return error_set(err, 0, "image verb 'snapshot': does one thing at a time, and -%c and -%c are two; call it twice", a->action, c);
    a->action = (char)c;
    a->snapshot = optarg;
    return 0;
}

/* getopt() leaves a letter in optopt, and of a long option nothing. */
static int unknown(const struct verb *v, int c, const char *word, struct error *err)
{
    char letter[] = {'-', (char)optopt, 0};
    const char *name = optopt > 0 && optopt < 256 ? letter : word;
    if (c == ':')
        return error_set(err, 0, "option '%s': wants a value behind it; usage: lodge image %s %s", name, v->name, v->args);
    return error_set(err, 0, "image verb '%s': does not know '%s'; usage: lodge image %s %s", v->name, name, v->name, v->args);
}

/* `word` is the one that getopt() took `c` from. */
static int set_letter(struct image_args *a, const struct verb *v, int c, const char *word, struct error *err)
{
    switch (c) {
    case 'f': a->format = optarg; return 0;
    case 'O': a->out_format = optarg; return 0;
    case 'o': return add_options(a, optarg, err);
    case 'b': a->backing = optarg; return 0;
    case 'F': a->backing_format = optarg; return 0;
    case 'u': a->unsafe = true; return 0;
    case 'C': a->offload = true; return 0;
    case 'p': a->progress = true; return 0;
    case 'q': a->quiet = true; return 0;
    case 'm': return set_jobs(a, optarg, err);
    case 'r':
        if (v->run == image_convert) /* qemu-img's letter for a rate */
            return parse_size(optarg, &a->rate, err);
        if (strcmp(optarg, "leaks") != 0 && strcmp(optarg, "all") != 0)
            return error_set(err, 0, "option '-r': '%s' is no repair; give leaks or all", optarg);
        a->action = *optarg;
        return 0;
    case 'l':
    case 'a':
    case 'd': return set_action(a, c, err);
    case 'c':
        a->compress = v->run == image_convert;
        return a->compress ? 0 : set_action(a, c, err);
    case OPT_JSON: a->json = true; return 0;
    case OPT_OUTPUT: return set_output(a, optarg, err);
    case OPT_SHRINK: a->shrink = true; return 0;
    case 'g': return parse_size(optarg, &a->granularity, err);
    case OPT_SECRET: a->secret_file = optarg; return 0;
    case OPT_NEW_SECRET: a->new_secret_file = optarg; return 0;
    case OPT_SIZE: a->has_size = true; return parse_size(optarg, &a->size, err);
    case OPT_BITMAPS: a->bitmaps = true; return 0;
    case OPT_ADD: return add_action(a, 'a', NULL, err);
    case OPT_REMOVE: return add_action(a, 'r', NULL, err);
    case OPT_CLEAR: return add_action(a, 'c', NULL, err);
    case OPT_ENABLE: return add_action(a, 'e', NULL, err);
    case OPT_DISABLE: return add_action(a, 'd', NULL, err);
    case OPT_MERGE: return add_action(a, 'm', optarg, err);
    case OPT_SOCKET: a->socket = optarg; return 0;
    case OPT_TCP: a->tcp = optarg; return 0;
    case OPT_NAME: a->export = optarg; return 0;
    case OPT_READONLY: a->readonly = true; return 0;
    case OPT_ONCE: a->once = true; return 0;
    case OPT_SYNC: a->sync = true; return 0;
    case OPT_BITMAP: a->bitmap = optarg; return 0;
    case OPT_TLS_CERTIFICATES: a->tls_certificates = optarg; return 0;
    case OPT_TLS_PSK: a->tls_psk = optarg; return 0;
    case OPT_RATE: return parse_size(optarg, &a->rate, err);
    default: return unknown(v, c, word, err);
    }
}

/* The long options that a verb knows; `out` has room for all. */
static void longs_of(const struct verb *v, struct option *out)
{
    char name[32];
    for (const struct option *o = longs; o->name; o++) {
        snprintf(name, sizeof name, " %s ", o->name);
        if (strstr(v->longs, name))
            *out++ = *o;
    }
    *out = (struct option){NULL, 0, NULL, 0};
}

/* "-1G" is a size here, and an option to getopt(). */
static bool ends_in_size(const struct verb *v, int argc, char **argv)
{
    return v->run == image_resize && argc > 1 && argv[argc - 1][0] == '-' && isdigit((unsigned char)argv[argc - 1][1]);
}

static int parse_args(struct image_args *a, const struct verb *v, int argc, char **argv, struct error *err)
{
    struct option known[ARRAY_SIZE(longs)];
    char letters[40];
    int size = ends_in_size(v, argc, argv);
    longs_of(v, known);
    snprintf(letters, sizeof letters, ":%s", v->letters);
    opterr = 0;
    optind = 0;
    for (int c; (c = getopt_long(argc - size, argv, letters, known, NULL)) >= 0;)
        if (set_letter(a, v, c, argv[optind - 1], err) < 0)
            return -1;
    a->argc = argc - optind;
    a->argv = argv + optind;
    if (a->argc < v->min || a->argc > v->max)
        return error_set(err, 0, "image verb '%s': wants %s arguments; usage: lodge image %s %s", v->name, a->argc < v->min ? "more" : "fewer", v->name, v->args);
    return 0;
}

static int run_verb(const struct verb *v, int argc, char **argv, struct error *err)
{
    struct image_args a = {.jobs = 8};
    int ret = parse_args(&a, v, argc, argv, err);
    if (ret == 0)
        ret = io_loop_create(BLOCK_ENGINE_AUTO, &a.loop, err);
    if (ret == 0) {
        ret = v->run(&a, err);
        io_loop_free(a.loop);
    }
    free(a.options);
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
