// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Power cuts. A random workload runs on a small qcow2 image while every change of its file is recorded: when it begins, and when it has ended. At each of
 * these moments the power may fail. The file is then what syncs have made stable, and of everything else any part, sector by sector. Such files are made
 * up, several for each moment, and must open, check without corruption (leaks are allowed), and read back every byte that a completed flush had covered,
 * or a later content of it. A dirty bitmap is made and removed between; one that counts as valid must have every change since it was made that has
 * completed, and of those under way every one that the disk shows.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/util.h"
#include "block/internal.h"
#include "block/lock.h"
#include "block/qcow2.h"
#include "check.h"

#define DISK     (192 * KIB)
#define SECTORS  (DISK / 512)
#define FILE_MAX (4 * MIB)
#define HISTORY  64
#define SLOTS    8
#define PENDING  8192
#define QEMU_EVERY 500 /* moments at which qemu-img looks at the file as well */

struct change {
    enum { CHANGE_WRITE, CHANGE_PUNCH, CHANGE_EXTEND } kind;
    uint64_t offset, len;
    uint8_t *data;
    const struct io_step *step; /* while it has not ended */
    bool covered;               /* ended before the sync under way began */
};

struct sector { /* contents since the last flush that covers it, oldest first; 0 is zeroes */
    uint32_t values[HISTORY];
    bool discard[HISTORY]; /* this zero or what is before it: a discard is a hint */
    unsigned n, completed, at_flush;
};

struct slot {
    struct block_req req;
    struct iovec iov;
    uint8_t buf[64 * 512];
    bool busy;
};

static struct {
    struct rnd rnd;
    struct io_loop *loop; /* for the files after a cut */
    struct block *b;
    uint8_t stable[FILE_MAX], cut[FILE_MAX];
    uint64_t end;    /* bytes of both that matter */
    uint64_t length; /* of the stable file */
    struct change pending[PENDING];
    unsigned npending;
    struct sector sectors[SECTORS];
    struct slot slots[SLOTS];
    bool changed[SECTORS];  /* by a request that was made since the bitmap was, and has completed */
    uint32_t seq, made_seq; /* of the last write; of the last one before the bitmap was made */
    uint64_t onward;        /* the sector behind the last write: a guest writes on and on */
    uint64_t cuts, want, moments;
    unsigned per_moment;
    struct fiber_queue held; /* writes that have begun, as seen from here, and go on later */
    unsigned hold;           /* one of so many is held; 0: none */
    int fd;
    char name[64], image[64];
    bool have_qemu, checking;
} t;

/* ---- what a cut leaves ---- */

static void apply(uint8_t *to, const struct change *c, uint64_t from, uint64_t len)
{
    if (c->kind == CHANGE_PUNCH)
        memset(to + c->offset + from, 0, len);
    else
        memcpy(to + c->offset + from, c->data + from, len);
}

enum { KEEP_ALL = 4 };

/* Of what no sync has covered, `keep` of four sectors have been written. */
static void make_cut(unsigned keep)
{
    uint64_t length = t.length;
    memcpy(t.cut, t.stable, t.end);
    for (unsigned i = 0; i < t.npending; i++) {
        const struct change *c = &t.pending[i];
        for (uint64_t at = 0, n; at < c->len; at += n) {
            n = MIN(512 - ((c->offset + at) & 511), c->len - at);
            if (rnd_below(&t.rnd, 4) >= keep)
                continue;
            apply(t.cut, c, at, n);
            if (c->kind == CHANGE_WRITE)
                length = MAX(length, c->offset + at + n);
        }
        if (c->kind == CHANGE_EXTEND && rnd_below(&t.rnd, 4) < keep)
            length = MAX(length, c->offset);
    }
    CHECK(ftruncate(t.fd, 0) == 0);
    CHECK(pwrite(t.fd, t.cut, MIN(t.end, length), 0) == (ssize_t)MIN(t.end, length));
    CHECK(ftruncate(t.fd, (off_t)length) == 0);
}

static uint32_t content(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    for (unsigned i = 4; i < 512; i += 4)
        CHECK(memcmp(p, p + i, 4) == 0); /* a sector is of one piece */
    return v;
}

static bool allowed(const struct sector *s, uint32_t v)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->values[i] == v)
            return true;
    return false;
}

static void fail(const char *what)
{
    fprintf(stderr, "cut %llu: %s; the file is in /tmp/lodge-power-failed\n", (unsigned long long)t.cuts, what);
    int fd = open("/tmp/lodge-power-failed", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(write(fd, t.cut, t.end) == (ssize_t)t.end);
    exit(1);
}

static void print_line(void *opaque, const char *line)
{
    (void)opaque;
    fprintf(stderr, "%s\n", line);
}

/* Readers refuse an extension for bitmaps that names none (spec. "Bitmaps extension"). */
static void check_extension(const struct qcow2 *q)
{
    for (uint32_t at = 0; at + 12 <= q->extensions_len; at += 8 + ALIGN_UP(be32_get(q->extensions + at + 4), 8u))
        if (be32_get(q->extensions + at) == QCOW2_EXT_BITMAPS && be32_get(q->extensions + at + 8) == 0)
            fail("the header has an extension for bitmaps, and none in it");
}

/*
 * A request that has not completed may have changed nothing yet, so that a bitmap of before it is still valid; where its data is on the disk, or where
 * another request has completed, a bitmap without it is not.
 */
static void check_bitmap(struct image *im, const uint8_t *disk)
{
    const struct qcow2 *q = qcow2_of(im);
    check_extension(q);
    for (unsigned i = 0; q->nbitmaps && !q->bitmaps[0].foreign && i < SECTORS; i++) {
        uint64_t len = 512;
        bool dirty = false;
        if (qcow2_bitmap_at(im, q->bitmaps[0].name, i * 512, &len, &dirty) < 0)
            fail("the bitmap cannot be read");
        if (!dirty && t.changed[i])
            fail("the bitmap is valid and has lost a change");
        if (!dirty && content(disk + i * 512) > t.made_seq)
            fail("the bitmap is valid and lacks a change that the disk shows");
    }
}

static void check_cut(void)
{
    static uint8_t disk[DISK];
    ERROR_SCOPED(err);
    struct image *im;
    struct image_check k = {.report = NULL};
    struct iovec iov = {disk, DISK};
    struct image_options o = {.path = t.name, .format = "qcow2", .readonly = true, .what = "image"};
    if (image_open(t.loop, &o, &im, &err) < 0)
        fail(error_text(&err));
    if (qcow2_check(im, REPAIR_NONE, &k, &err) < 0)
        fail(error_text(&err));
    if (k.corruptions) {
        k = (struct image_check){.report = print_line};
        qcow2_check(im, REPAIR_NONE, &k, &err);
        fail("the image is corrupt");
    }
    if (image_read(im, 0, DISK, &iov, 1) < 0)
        fail("the disk cannot be read");
    for (unsigned i = 0; i < SECTORS; i++)
        if (!allowed(&t.sectors[i], content(disk + i * 512))) {
            fprintf(stderr, "sector %u: content %u; flushed %u\n", i, content(disk + i * 512), t.sectors[i].values[0]);
            fail("a flushed sector is lost");
        }
    check_bitmap(im, disk);
    image_close(im);
}

static void qemu_looks(void)
{
    char line[160];
    snprintf(line, sizeof line, "qemu-img check -q -f qcow2 /proc/%d/fd/%d >/dev/null 2>&1", (int)getpid(), t.fd);
    int status = system(line);
    if (status != 0 && status != 3 << 8) /* 3: leaks only */
        fail("qemu-img check finds errors");
}

static void moment(void)
{
    if (t.cuts >= t.want)
        return;
    for (unsigned i = 0; i < t.per_moment; i++) {
        make_cut(i == 0 ? KEEP_ALL : i == 1 ? 0 : rnd_below(&t.rnd, KEEP_ALL + 1)); /* first as if all had been written in order, then as if nothing had */
        check_cut();
        t.cuts++;
    }
    if (t.have_qemu && ++t.moments % QEMU_EVERY == 0)
        qemu_looks();
}

/* ---- recording ---- */

static void grow(uint64_t end)
{
    CHECK(end <= FILE_MAX);
    t.end = MAX(t.end, end);
}

/* What the file is now counts as stable. */
static void start_recording(const char *path)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY);
    t.end = 0;
    memset(t.stable, 0, sizeof t.stable);
    t.length = (uint64_t)lseek(fd, 0, SEEK_END);
    grow(t.length);
    CHECK(pread(fd, t.stable, FILE_MAX, 0) == (ssize_t)t.end);
}

static void begin(const struct io_step *s)
{
    CHECK(t.npending < PENDING);
    struct change *c = &t.pending[t.npending++];
    *c = (struct change){.kind = s->kind == IO_WRITE ? CHANGE_WRITE : CHANGE_PUNCH, .offset = s->offset, .len = s->len, .step = s};
    if (s->kind == IO_EXTEND) {
        c->kind = CHANGE_EXTEND;
        return;
    }
    grow(s->offset + s->len);
    if (s->kind != IO_WRITE)
        return;
    c->data = malloc(s->len);
    iov_to(s->iov, s->niov, 0, c->data, s->len);
}

static void sync_begins(void)
{
    for (unsigned i = 0; i < t.npending; i++)
        t.pending[i].covered = !t.pending[i].step;
}

/* Changes become stable in the order in which they were made. */
static void sync_ended(void)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < t.npending; i++) {
        struct change *c = &t.pending[i];
        if (c->covered) {
            if (c->kind != CHANGE_EXTEND)
                apply(t.stable, c, 0, c->len);
            if (c->kind != CHANGE_PUNCH)
                t.length = MAX(t.length, c->offset + c->len);
            free(c->data);
        } else {
            t.pending[kept++] = *c;
        }
    }
    t.npending = kept;
}

static void record(const struct io_step *s, bool ended)
{
    if (s->kind == IO_SYNC) {
        ended ? sync_ended() : sync_begins();
    } else if (!ended) {
        begin(s);
    } else {
        for (unsigned i = 0; i < t.npending; i++)
            if (t.pending[i].step == s)
                t.pending[i].step = NULL;
    }
}

static bool is_data(const struct io_step *s)
{
    const uint8_t *p = s->iov[s->niov - 1].iov_base, *q = s->iov->iov_base, *slots = (const uint8_t *)t.slots;
    return (p >= slots && p < slots + sizeof t.slots) || (q >= slots && q < slots + sizeof t.slots);
}

/* Of the guest's writes, one in t.hold stays under way for long, so that flushes come meanwhile; and now and then one of a table does. */
static bool is_held(const struct io_step *s)
{
    if (!t.hold || s->kind != IO_WRITE || !fiber_self())
        return false;
    return is_data(s) ? rnd_below(&t.rnd, t.hold) == 0 : t.hold > 1 && rnd_below(&t.rnd, 16) == 0;
}

static void observe(void *opaque, const struct io_step *s, bool ended)
{
    (void)opaque;
    record(s, ended);
    moment();
    if (ended || !is_held(s))
        return;
    fiber_queue_push(&t.held, fiber_self());
    fiber_yield();
}

/* ---- the workload ---- */

/* One of the writes that are held is made. */
static bool go_on(void)
{
    struct fiber *f = fiber_queue_pop(&t.held);
    if (f)
        fiber_queue_push(&t.b->loop->ready, f);
    return f;
}

static void drain(void)
{
    unsigned hold = t.hold;
    t.hold = 0;
    while (go_on())
        ;
    block_drain(t.b);
    t.hold = hold;
}

static void done(struct block_req *req, int ret)
{
    struct slot *s = req->opaque;
    CHECK(ret == 0);
    s->busy = false;
    for (uint64_t i = req->offset / 512; i < (req->offset + req->len) / 512; i++)
        if (req->op != BLOCK_FLUSH) {
            t.sectors[i].completed = t.sectors[i].n;
            t.changed[i] |= req->op != BLOCK_DISCARD; /* that may leave all as it is */
        }
    if (req->op != BLOCK_FLUSH)
        return;
    for (unsigned i = 0; i < SECTORS; i++) {
        struct sector *c = &t.sectors[i];
        if (c->at_flush < 2)
            continue;
        unsigned drop = c->at_flush - 1;
        while (drop && c->discard[drop])
            drop--;
        memmove(c->values, c->values + drop, (c->n - drop) * sizeof *c->values);
        memmove(c->discard, c->discard + drop, (c->n - drop) * sizeof *c->discard);
        c->n -= drop;
        c->completed -= drop;
        c->at_flush -= drop;
    }
}

static void add(unsigned i, uint32_t v, bool discard)
{
    struct sector *s = &t.sectors[i];
    CHECK(s->n < HISTORY);
    s->discard[s->n] = discard;
    s->values[s->n++] = v;
}

static bool busy(uint64_t first, uint64_t n, bool flush)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct block_req *r = &t.slots[i].req;
        if (t.slots[i].busy && ((r->op == BLOCK_FLUSH && flush) || (r->op != BLOCK_FLUSH && r->offset / 512 < first + n && first < (r->offset + r->len) / 512)))
            return true;
    }
    for (uint64_t k = first; k < first + n; k++)
        if (t.sectors[k].n >= HISTORY - 2)
            return true;
    return false;
}

static void submit(struct slot *s, enum block_op op, uint64_t first, uint64_t n)
{
    uint32_t v = op == BLOCK_WRITE ? ++t.seq : 0;
    t.onward = op == BLOCK_WRITE ? first + n : t.onward;
    for (unsigned i = 0; i < SECTORS && op == BLOCK_FLUSH; i++)
        t.sectors[i].at_flush = t.sectors[i].completed;
    for (uint64_t k = first; k < first + n; k++)
        add((unsigned)k, v, op == BLOCK_DISCARD);
    for (unsigned i = 0; i < n * 512; i += 4)
        memcpy(s->buf + i, &v, 4);
    s->iov = (struct iovec){s->buf, n * 512};
    s->req = (struct block_req){.op = op, .offset = first * 512, .len = n * 512, .iov = &s->iov, .niov = 1, .may_unmap = rnd_below(&t.rnd, 2), .done = done, .opaque = s};
    s->busy = true;
    block_submit(t.b, &s->req);
}

static void start(struct slot *s)
{
    static const enum block_op ops[] = {BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE, BLOCK_ZERO, BLOCK_DISCARD, BLOCK_FLUSH, BLOCK_FLUSH};
    enum block_op op = ops[rnd_below(&t.rnd, ARRAY_SIZE(ops))];
    uint64_t first = rnd_below(&t.rnd, 2) && t.onward < SECTORS ? t.onward : rnd_below(&t.rnd, SECTORS), want = 1 + rnd_below(&t.rnd, rnd_below(&t.rnd, 3) ? 8 : 64);
    uint64_t n = MIN(want, SECTORS - first);
    if (op == BLOCK_FLUSH)
        first = n = 0;
    if (busy(first, n, op == BLOCK_FLUSH))
        return;
    submit(s, op, first, n);
}

static void bitmap_step(struct image *im)
{
    ERROR_SCOPED(err);
    struct qcow2 *q = qcow2_of(im);
    if (q->h.version < 3)
        return;
    if (q->nbitmaps && rnd_below(&t.rnd, 2)) {
        CHECK(qcow2_bitmap_remove(im, "map", &err) == 0);
    } else if (!q->nbitmaps) {
        CHECK(qcow2_bitmap_add(im, "map", 9, true, &err) == 0);
        memset(t.changed, 0, sizeof t.changed);
        t.made_seq = t.seq;
    }
}

static void whole_image_step(void)
{
    ERROR_SCOPED(err);
    struct image *im = t.b->image;
    struct qcow2 *q = qcow2_of(im);
    drain();
    switch (rnd_below(&t.rnd, 4)) {
    case 3: bitmap_step(im); break;
    case 0: CHECK(q->h.nsnapshots > 3 || qcow2_snapshot_create(im, q->h.nsnapshots ? q->h.nsnapshots == 1 ? "b" : q->h.nsnapshots == 2 ? "c" : "d" : "a", &err) == 0 || strstr(error_text(&err), "already")); break;
    case 1: CHECK(!q->h.nsnapshots || qcow2_snapshot_delete(im, q->snapshots[rnd_below(&t.rnd, q->h.nsnapshots)].name, &err) == 0); break;
    default: CHECK(qcow2_resize(im, DISK + 512 * rnd_below(&t.rnd, 64), true, &err) == 0); break;
    }
}

/* A discard lets the disk choose; what it has chosen is seen when the image is opened again. */
static void open_again(bool first)
{
    ERROR_SCOPED(err);
    if (!first) {
        drain();
        block_close(t.b);
        sync_begins();
        sync_ended();
        struct stat st;
        CHECK(stat(t.image, &st) == 0);
        t.length = (uint64_t)st.st_size; /* closing has cut off what was not needed */
    }
    CHECK(block_open(&(struct block_config){.path = t.image, .format = "qcow2"}, &t.b, &err) == 0);
    t.b->image->file->observe = observe;
}

static void begin_workload(const struct qcow2_create *kind)
{
    ERROR_SCOPED(err);
    struct qcow2_create o = *kind;
    o.path = t.image;
    o.size = DISK;
    o.replace = true;
    CHECK(qcow2_create(t.loop, &o, &err) == 0);
    start_recording(o.path);
    for (unsigned i = 0; i < SECTORS; i++)
        t.sectors[i] = (struct sector){.n = 1, .completed = 1, .at_flush = 1};
    open_again(true);
}

static void end_workload(void)
{
    drain();
    block_close(t.b);
    sync_begins();
    sync_ended();
}

static void workload(const struct qcow2_create *kind, unsigned steps)
{
    begin_workload(kind);
    t.hold = 2;
    for (unsigned n = 0; n < steps && t.cuts < t.want; n++) {
        struct slot *s = &t.slots[rnd_below(&t.rnd, SLOTS)];
        if (!s->busy)
            start(s);
        if (rnd_below(&t.rnd, 3) == 0)
            block_poll(t.b);
        if (rnd_below(&t.rnd, 4) == 0)
            go_on();
        if (rnd_below(&t.rnd, 60) == 0)
            whole_image_step();
        if (rnd_below(&t.rnd, 150) == 0)
            open_again(false);
    }
    end_workload();
}

/* Other requests may be held meanwhile, so that the loop would wait for them. */
static void finish(const struct slot *s)
{
    struct pollfd p = {.fd = block_event_fd(t.b), .events = POLLIN};
    for (block_poll(t.b); s->busy; block_poll(t.b))
        poll(&p, 1, -1);
}

/* Flushes while nothing of new clusters is written yet. The first flush writes their table, which lies behind the first cluster. */
static void held_writes(const struct qcow2_create *kind)
{
    struct slot *flush = &t.slots[SLOTS - 1];
    uint64_t sectors = (1ull << kind->cluster_bits) / 512;
    begin_workload(kind);
    for (unsigned i = 0; i < SLOTS - 1 && i * sectors < SECTORS; i++) {
        t.hold = i > 0;
        submit(&t.slots[i], BLOCK_WRITE, i * sectors, 1);
        block_poll(t.b);
        submit(flush, BLOCK_FLUSH, 0, 0);
        finish(flush);
        moment();
    }
    end_workload();
}

/* ---- headers with long names ---- */

struct header_kind {
    unsigned cluster_bits, data_len /* of the name of an external data file; 0: none */;
    bool theirs; /* qemu-img makes the image, which lays out the header in its own way */
};

static struct {
    char before[1024], after[1024]; /* of the backing file: either is right; "": none */
    char data[1024];
    uint64_t cuts;
} names;

static void check_name(void)
{
    ERROR_SCOPED(err);
    struct image *im;
    struct image_options o = {.path = t.name, .format = "qcow2", .readonly = true, .no_backing = true, .what = "image"};
    make_cut(rnd_below(&t.rnd, KEEP_ALL + 1));
    if (image_open(t.loop, &o, &im, &err) < 0)
        fail(error_text(&err));
    const char *name = im->backing_name ? im->backing_name : "";
    if ((strcmp(name, names.before) != 0 && strcmp(name, names.after) != 0) || (*name && (!im->backing_format || strcmp(im->backing_format, "raw") != 0)))
        fail("the backing file's name is neither the old nor the new one");
    if (*names.data && (!qcow2_of(im)->data_name || strcmp(qcow2_of(im)->data_name, names.data) != 0))
        fail("the data file's name is another one");
    check_extension(qcow2_of(im));
    image_close(im);
    names.cuts++;
}

static void observe_name(void *opaque, const struct io_step *s, bool ended)
{
    (void)opaque;
    record(s, ended);
    for (unsigned i = 0; i < 8; i++)
        check_name();
}

/* Cuts open the same data file as the image, which is never written to here: it is left unlocked. */
static struct image *make_headed(const struct header_kind *k)
{
    ERROR_SCOPED(err);
    struct image *im;
    char line[1400];
    struct qcow2_create o = {.path = t.image, .size = DISK, .version = 3, .cluster_bits = k->cluster_bits, .refcount_order = 4, .replace = true};
    memset(&names, 0, offsetof(typeof(names), cuts));
    if (k->data_len) {
        char file[64];
        snprintf(file, sizeof file, "lodge-power-%d.data", (int)getpid());
        strcpy(names.data, "/tmp/");
        while (strlen(names.data) + strlen(file) < k->data_len)
            strcat(names.data, "./");
        strcat(names.data, file);
        o.data_file = names.data;
    }
    snprintf(line, sizeof line, "qemu-img create -q -f qcow2 -o cluster_size=%u%s%s %s %u", 1u << k->cluster_bits, k->data_len ? ",data_file=" : "", names.data, t.image, (unsigned)DISK);
    CHECK(k->theirs ? system(line) == 0 : qcow2_create(t.loop, &o, &err) == 0);
    CHECK(image_open(t.loop, &(struct image_options){.path = t.image, .format = "qcow2", .no_backing = true, .what = "image"}, &im, &err) == 0);
    if (k->data_len)
        block_unlock(qcow2_of(im)->data->fd);
    return im;
}

/* Another name takes the old one's place; false if there is no room for both, and then nothing has changed. */
static bool rename_once(struct image *im, unsigned i)
{
    ERROR_SCOPED(err);
    unsigned len = 1 + (unsigned)rnd_below(&t.rnd, rnd_below(&t.rnd, 2) ? 900 : 200);
    memset(names.after, 'a' + (int)(i % 26), len);
    names.after[len] = 0;
    if (qcow2_set_backing(im, names.after, "raw", &err) < 0) {
        CHECK(strstr(error_text(&err), "no room"));
        strcpy(names.after, names.before);
        return false;
    }
    strcpy(names.before, names.after);
    return true;
}

static void qemu_reads(const char *name)
{
    char line[1400];
    if (!t.have_qemu || !*name)
        return;
    snprintf(line, sizeof line, "qemu-img info -U -f qcow2 %s | grep -q '^backing file: %s'", t.image, name);
    CHECK(system(line) == 0);
}

/* Names of 1 to 900 bytes take each other's places, and bitmaps come and go, which moves what is in front of the name. */
static void rename_backing(const struct header_kind *k, unsigned rounds)
{
    ERROR_SCOPED(err);
    if (k->theirs && !t.have_qemu)
        return;
    struct image *im = make_headed(k);
    struct qcow2 *q = qcow2_of(im);
    unsigned done = 0;
    start_recording(t.image);
    im->file->observe = observe_name;
    for (unsigned i = 0; i < rounds; i++) {
        done += rename_once(im, i);
        if (rnd_below(&t.rnd, 2))
            continue;
        int ret = q->nbitmaps ? qcow2_bitmap_remove(im, "map", &err) : qcow2_bitmap_add(im, "map", 9, true, &err);
        CHECK(ret == 0 || strstr(error_text(&err), "no room"));
        CHECK(qcow2_bitmaps_store(q) == 0);
    }
    CHECK(done == rounds || k->cluster_bits < 16); /* smaller clusters may have no room for two long names */
    CHECK(image_close(im) == 0);
    qemu_reads(names.before);
    sync_begins();
    sync_ended();
    if (k->data_len)
        unlink(names.data);
}

int main(int argc, char **argv)
{
    static const struct qcow2_create kinds[] = {
        {.version = 3, .cluster_bits = 12, .refcount_order = 4}, {.version = 3, .cluster_bits = 9, .refcount_order = 4},
        {.version = 2, .cluster_bits = 10, .refcount_order = 4}, {.version = 3, .cluster_bits = 14, .refcount_order = 4, .ext_l2 = true},
        {.version = 3, .cluster_bits = 9, .refcount_order = 6},  {.version = 3, .cluster_bits = 16, .refcount_order = 3},
    };
    static const struct header_kind headers[] = {
        {9, 0, false},  {10, 0, false}, {12, 0, false},   {16, 0, false},   {9, 200, false},  {10, 400, false}, {11, 1000, false},
        {12, 1000, false}, {16, 700, false}, {12, 900, true}, {16, 1000, true}, {10, 300, true},
    };
    ERROR_SCOPED(err);
    uint64_t cuts = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000, seed = argc > 2 ? strtoull(argv[2], NULL, 0) : now_ns();
    printf("seed 0x%llx\n", (unsigned long long)seed);
    fflush(stdout);
    t.rnd.state = seed | 1;
    t.have_qemu = system("command -v qemu-img >/dev/null") == 0;
    t.fd = memfd_create("cut", 0);
    CHECK(t.fd >= 0);
    snprintf(t.name, sizeof t.name, "/proc/self/fd/%d", t.fd);
    snprintf(t.image, sizeof t.image, "/tmp/lodge-power-%d", (int)getpid());
    CHECK(io_loop_create(BLOCK_ENGINE_THREADS, &t.loop, &err) == 0);
    for (unsigned i = 0; i < ARRAY_SIZE(headers); i++)
        rename_backing(&headers[i], 12);
    printf("%llu cuts of headers with long names\n", (unsigned long long)names.cuts);
    t.per_moment = 3;
    for (unsigned round = 0; cuts == 0 || t.cuts < cuts; round++) {
        t.want = cuts == 0 ? UINT64_MAX : MIN(cuts, t.cuts + 3000);
        const struct qcow2_create *kind = &kinds[round % ARRAY_SIZE(kinds)];
        if (rnd_below(&t.rnd, 2))
            held_writes(kind);
        workload(kind, rnd_below(&t.rnd, 8) ? 30 : 400); /* it is in the beginning that there are clusters which nothing was ever written to */
    }
    printf("%llu cuts\n", (unsigned long long)t.cuts);
    io_loop_free(t.loop);
    unlink(t.image);
    return 0;
}
