// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge image` info, check and map: for people, and as JSON with qemu-img's names of fields. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "cli/image.h"

static uint64_t bytes_on_disk(const struct image *im)
{
    struct stat st;
    return fstat(im->file->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static const char *yes(bool b)
{
    return b ? "true" : "false";
}

/* ---- info ---- */

static void qcow2_text(const struct image *im)
{
    const struct qcow2 *q = im->state;
    if (im->backing_name)
        printf("backing file: %s\n", im->backing_name);
    if (im->backing_format)
        printf("backing file format: %s\n", im->backing_format);
    if (q->h.nsnapshots)
        puts("Snapshot list:");
    for (uint32_t i = 0; i < q->h.nsnapshots; i++)
        printf("    %s: %s\n", q->snapshots[i].id, q->snapshots[i].name);
    printf("Format specific information:\n    compat: %s\n    compression type: %s\n    lazy refcounts: %s\n    refcount bits: %u\n", q->h.version < 3 ? "0.10" : "1.1",
           q->h.compression ? "zstd" : "zlib", yes(q->h.compatible & QCOW2_COMPAT_LAZY), 1u << q->h.refcount_order);
    if (q->data_name)
        printf("    data file: %s\n    data file raw: %s\n", q->data_name, yes(q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA));
    for (unsigned i = 0; i < q->nbitmaps; i++) {
        const struct qcow2_bitmap *b = &q->bitmaps[i];
        printf("    bitmap: %s, granularity %" PRIu64 "%s\n", b->name, b->granularity < 64 ? (uint64_t)1 << b->granularity : 0,
               b->foreign ? ", not valid (in use)" : b->flags & QCOW2_BITMAP_AUTO ? ", records" : ", disabled");
    }
    printf("    corrupt: %s\n    extended l2: %s\n", yes(q->h.incompatible & QCOW2_INCOMPAT_CORRUPT), yes(q->granules > 1));
}

static void info_text(const struct image *im, bool encrypted)
{
    char virtual[32], disk[32];
    print_size(virtual, sizeof virtual, im->size);
    print_size(disk, sizeof disk, bytes_on_disk(im));
    printf("image: %s\nfile format: %s\nvirtual size: %s (%" PRIu64 " bytes)\ndisk size: %s\n", im->file->path, im->driver->name, virtual, im->size, disk);
    if (encrypted)
        puts("encrypted: yes");
    if (im->cluster)
        printf("cluster_size: %" PRIu64 "\n", im->cluster);
    if (im->driver == &qcow2_driver)
        qcow2_text(im);
    else if (im->driver == &luks_driver || im->driver == &vmdk_driver)
        puts("Format specific information:");
}

static void json_snapshots(const struct qcow2 *q)
{
    if (!q->h.nsnapshots)
        return;
    puts("    \"snapshots\": [");
    for (uint32_t i = 0; i < q->h.nsnapshots; i++) {
        const struct qcow2_snapshot *s = &q->snapshots[i];
        fputs("        {\"id\": ", stdout);
        print_json_string(s->id);
        fputs(", \"name\": ", stdout);
        print_json_string(s->name);
        printf(", \"vm-state-size\": %" PRIu64 ", \"date-sec\": %u, \"date-nsec\": %u, \"vm-clock-sec\": %" PRIu64 ", \"vm-clock-nsec\": %" PRIu64, s->vm_state_size,
               s->date_sec, s->date_ns, (uint64_t)(s->vm_clock_ns / NS_PER_S), (uint64_t)(s->vm_clock_ns % NS_PER_S));
        if (s->icount != UINT64_MAX)
            printf(", \"icount\": %" PRIu64, s->icount);
        puts(i + 1 < q->h.nsnapshots ? "}," : "}");
    }
    puts("    ],");
}

static void json_bitmaps(const struct qcow2 *q)
{
    if (!q->nbitmaps)
        return;
    fputs("\"bitmaps\": [", stdout);
    for (unsigned i = 0; i < q->nbitmaps; i++) {
        const struct qcow2_bitmap *b = &q->bitmaps[i];
        bool in_use = b->flags & QCOW2_BITMAP_IN_USE, automatic = b->flags & QCOW2_BITMAP_AUTO;
        printf("%s{\"flags\": [%s%s%s], \"name\": ", i ? ", " : "", in_use ? "\"in-use\"" : "", in_use && automatic ? ", " : "", automatic ? "\"auto\"" : "");
        print_json_string(b->name);
        printf(", \"granularity\": %" PRIu64 "}", b->granularity < 64 ? (uint64_t)1 << b->granularity : 0);
    }
    fputs("], ", stdout);
}

static void json_qcow2(const struct image *im, const struct luks_info *encryption)
{
    const struct qcow2 *q = im->state;
    json_snapshots(q);
    if (im->backing_name) {
        AUTO_FREE char *full = image_backing_path(im->file->path, im->backing_name);
        fputs("    \"backing-filename\": ", stdout);
        print_json_string(im->backing_name);
        fputs(",\n    \"full-backing-filename\": ", stdout);
        print_json_string(full);
        puts(",");
    }
    if (im->backing_format) {
        fputs("    \"backing-filename-format\": ", stdout);
        print_json_string(im->backing_format);
        puts(",");
    }
    if (q->h.crypt)
        puts("    \"encrypted\": true,");
    printf("    \"format-specific\": {\"type\": \"qcow2\", \"data\": {\"compat\": \"%s\", \"compression-type\": \"%s\", \"lazy-refcounts\": %s, "
           "\"refcount-bits\": %u, ",
           q->h.version < 3 ? "0.10" : "1.1", q->h.compression ? "zstd" : "zlib", yes(q->h.compatible & QCOW2_COMPAT_LAZY), 1u << q->h.refcount_order);
    if (q->data_name) {
        fputs("\"data-file\": ", stdout);
        print_json_string(q->data_name);
        printf(", \"data-file-raw\": %s, ", yes(q->h.autoclear & QCOW2_AUTOCLEAR_RAW_DATA));
    }
    json_bitmaps(q);
    image_describe_json(im, encryption);
    printf("\"corrupt\": %s, \"extended-l2\": %s}},\n", yes(q->h.incompatible & QCOW2_INCOMPAT_CORRUPT), yes(q->granules > 1));
}

int image_info(struct image_args *a, struct error *err)
{
    struct image *im;
    if (!a->format)
        return error_set(err, 0, "image '%s': no format, and it is never guessed; add -f raw or -f qcow2", a->argv[0]);
    struct image_options o = {.path = a->argv[0], .format = a->format, .readonly = true, .no_backing = true, .what = "image", .secret_file = a->secret_file};
    if (image_open(a->loop, &o, &im, err) < 0)
        return -1;
    struct luks_info luks;
    int ret = image_encryption(im, &luks, err);
    const struct luks_info *encryption = ret == 0 ? &luks : NULL;
    if (ret >= 0 && !a->json) {
        info_text(im, encryption);
        image_describe(im, encryption);
    } else if (ret >= 0) {
        fputs("{\n    \"filename\": ", stdout);
        print_json_string(im->file->path);
        printf(",\n    \"format\": \"%s\",\n    \"virtual-size\": %" PRIu64 ",\n", im->driver->name, im->size);
        if (im->cluster)
            printf("    \"cluster-size\": %" PRIu64 ",\n", im->cluster);
        if (im->driver == &qcow2_driver)
            json_qcow2(im, encryption);
        else
            image_describe_json(im, encryption);
        printf("    \"actual-size\": %" PRIu64 ",\n    \"dirty-flag\": %s\n}\n", bytes_on_disk(im),
               yes(im->driver == &qcow2_driver && (qcow2_of(im)->h.incompatible & QCOW2_INCOMPAT_DIRTY)));
    }
    image_close(im);
    return ret < 0 ? -1 : 0;
}

/* ---- check ---- */

static void print_line(void *opaque, const char *line)
{
    (void)opaque;
    puts(line);
}

static void check_json(const struct image *im, const struct image_check *k)
{
    fputs("{\n    \"filename\": ", stdout);
    print_json_string(im->file->path);
    printf(",\n    \"format\": \"%s\",\n    \"check-errors\": 0,\n", im->driver->name);
    const struct {
        const char *name;
        uint64_t n;
    } rows[] = {{"corruptions", k->corruptions}, {"leaks", k->leaks}, {"corruptions-fixed", k->corruptions_fixed}, {"leaks-fixed", k->leaks_fixed},
                {"fragmented-clusters", k->fragmented_clusters}, {"compressed-clusters", k->compressed_clusters}};
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].n)
            printf("    \"%s\": %" PRIu64 ",\n", rows[i].name, rows[i].n);
    printf("    \"image-end-offset\": %" PRIu64 ",\n    \"total-clusters\": %" PRIu64 ",\n    \"allocated-clusters\": %" PRIu64 "\n}\n", k->end, k->total_clusters,
           k->allocated_clusters);
}

static void check_text(const struct image *im, const struct image_check *k)
{
    if (k->corruptions_fixed || k->leaks_fixed)
        printf("Mended: %" PRIu64 " errors, %" PRIu64 " leaked clusters.\n", k->corruptions_fixed, k->leaks_fixed);
    if (k->corruptions)
        printf("%" PRIu64 " errors: data may be lost, or get lost when the image is written to; %s.\n", k->corruptions,
               im->driver == &qcow2_driver ? "mend them with -r all" : "copy what can be read with 'lodge image convert'");
    if (k->leaks)
        printf("%" PRIu64 " leaked clusters: space that nothing uses, and no harm; give it back with -r leaks.\n", k->leaks);
    if (!k->corruptions && !k->leaks)
        puts("No errors were found on the image.");
    if (k->total_clusters)
        printf("%" PRIu64 "/%" PRIu64 " = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n", k->allocated_clusters, k->total_clusters,
               100.0 * (double)k->allocated_clusters / (double)k->total_clusters,
               k->allocated_clusters ? 100.0 * (double)k->fragmented_clusters / (double)k->allocated_clusters : 0.0,
               k->allocated_clusters ? 100.0 * (double)k->compressed_clusters / (double)k->allocated_clusters : 0.0);
    printf("Image end offset: %" PRIu64 "\n", k->end);
}

static int run_check(const struct image_args *a, struct image *im, struct image_check *k, struct error *err)
{
    if (im->driver == &qcow2_driver)
        return qcow2_check(im, a->action == 'a' ? REPAIR_ALL : a->action ? REPAIR_LEAKS : REPAIR_NONE, k, err);
    if (!im->driver->check) {
        error_set(err, 0, "image '%s': format %s has no tables that could be checked; compare it with a copy", a->argv[0], im->driver->name);
        return IMAGE_NO_CHECK;
    }
    if (a->action)
        return error_set(err, 0, "image '%s': format %s is looked at and not mended; leave -r out, and convert what can be read", a->argv[0], im->driver->name);
    int ret = im->driver->check(im, k);
    return ret < 0 ? error_set(err, -ret, "image '%s': cannot be checked: %s; check the disk that holds it", a->argv[0], strerror(-ret)) : 0;
}

int image_check(struct image_args *a, struct error *err)
{
    struct image *im;
    struct image_check k = {.report = a->json || a->quiet ? NULL : print_line};
    if (!a->format)
        return error_set(err, 0, "image '%s': no format, and it is never guessed; add -f qcow2", a->argv[0]);
    struct image_options o = {.path = a->argv[0], .format = a->format, .readonly = !a->action, .no_backing = true, .for_repair = a->action, .what = "image"};
    if (image_open(a->loop, &o, &im, err) < 0)
        return -1;
    if (a->action && im->driver == &vhdx_driver) { /* opening it for writing has worked off its log */
        puts("No errors were found on the image.");
        return image_close(im) < 0 ? -1 : 0;
    }
    int ret = run_check(a, im, &k, err);
    if (ret == 0)
        a->json ? check_json(im, &k) : a->quiet ? (void)0 : check_text(im, &k);
    image_close(im);
    return ret ? ret : k.corruptions ? 2 : k.leaks ? 3 : 0;
}

/* ---- map ---- */

struct piece {
    uint64_t start, len, host;
    unsigned depth;
    enum extent_kind kind;
    bool has_host, zero;
    const struct image *im;
};

/* The image of the chain that a range's content comes from. */
static int find_piece(struct image *top, uint64_t at, struct piece *p)
{
    uint64_t len = top->size - at;
    *p = (struct piece){.start = at};
    for (struct image *im = top; im && at < im->size; im = im->backing, p->depth++) {
        struct extent e;
        int ret = image_extent(im, at, MIN(len, im->size - at), &e);
        if (ret < 0)
            return ret;
        len = e.len;
        p->im = im;
        p->kind = e.kind;
        p->host = e.host;
        p->has_host = e.has_host;
        p->zero = e.zero;
        if (e.kind != EXTENT_NONE || !im->backing)
            break;
    }
    p->len = len;
    return 0;
}

static bool joins(const struct piece *a, const struct piece *b)
{
    return a->im == b->im && a->kind == b->kind && a->has_host == b->has_host && a->zero == b->zero && (!a->has_host || a->host + a->len == b->host);
}

static void print_piece(const struct piece *p, bool json, bool first)
{
    bool data = p->kind == EXTENT_DATA || p->kind == EXTENT_COMPRESSED, zero = !data || p->zero;
    if (json) {
        printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s, \"compressed\": %s", first ? "[" : ",\n", p->start,
               p->len, p->depth, yes(p->kind != EXTENT_NONE), yes(zero), yes(data), yes(p->kind == EXTENT_COMPRESSED));
        if (p->has_host)
            printf(", \"offset\": %" PRIu64, p->host);
        printf("}");
    } else if (p->kind == EXTENT_DATA && !p->zero) {
        printf("%#-16" PRIx64 " %#-16" PRIx64 " %#-16" PRIx64 " %s\n", p->start, p->len, p->host, p->im->file->path);
    } else if (p->kind == EXTENT_COMPRESSED) {
        printf("%#-16" PRIx64 " %#-16" PRIx64 " %-16s %s\n", p->start, p->len, "compressed", p->im->file->path);
    }
}

int image_map(struct image_args *a, struct error *err)
{
    struct image *im;
    struct piece last = {0}, p;
    bool first = true;
    if (image_args_open(a, a->argv[0], a->format, true, &im, err) < 0)
        return -1;
    if (!a->json)
        printf("%-16s %-16s %-16s %s\n", "Offset", "Length", "Mapped to", "File");
    int ret = 0;
    for (uint64_t at = 0; ret == 0 && at < im->size; at += p.len) {
        ret = find_piece(im, at, &p);
        if (ret == 0 && last.len && joins(&last, &p)) {
            last.len += p.len;
            continue;
        }
        if (last.len) {
            print_piece(&last, a->json, first);
            first = false;
        }
        last = p;
    }
    if (ret == 0 && last.len)
        print_piece(&last, a->json, first);
    if (a->json)
        puts(first && !last.len ? "[]" : "]");
    image_close(im);
    return ret < 0 ? error_set(err, -ret, "image '%s': cannot be read: %s; try 'lodge image check'", a->argv[0], strerror(-ret)) : 0;
}
