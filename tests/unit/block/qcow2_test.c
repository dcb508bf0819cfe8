// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * qcow2 against a shadow copy in memory: random requests, many at a time, on images of many kinds, with snapshots, resizes and reopenings between. In the
 * end qemu-img finds nothing wrong with the image and reads the same bytes from it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "block/internal.h"
#include "block/qcow2.h"
#include "check.h"

#define SLOTS     16
#define SNAPSHOTS 4
#define DISK_MAX  (24 * MIB)

static char dir[] = "/tmp/lodge-qcow2-XXXXXX";
static bool have_qemu;

struct kind {
    const char *name;
    struct qcow2_create o;
    uint64_t backing; /* bytes of a raw backing file; 0 none */
    unsigned refcount_bits; /* 0: 16 */
    unsigned rounds;
};

struct slot {
    struct block_req req;
    struct iovec iov[3];
    int niov;
    uint8_t *buf;
    bool busy;
    int ret;
};

static struct {
    struct rnd rnd;
    struct block *b;
    uint64_t size;
    uint8_t *shadow, *snapshot[SNAPSHOTS];
    uint64_t snapshot_size[SNAPSHOTS];
    bool has_backing;
    struct slot slots[SLOTS];
    char path[64], backing[64];
    struct io_loop *loop;
} t;

static int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int sh(const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    return system(line);
}

static void must(int ret, struct error *err)
{
    if (ret < 0)
        fprintf(stderr, "%s\n", error_text(err));
    CHECK(ret == 0);
}

static void open_disk(void)
{
    ERROR_SCOPED(err);
    must(block_open(&(struct block_config){.path = t.path, .format = "qcow2"}, &t.b, &err), &err);
    CHECK_EQ(block_size(t.b), t.size);
}

static void close_disk(void)
{
    block_close(t.b);
    t.b = NULL;
}

/* ---- random requests ---- */

static void done(struct block_req *req, int ret)
{
    struct slot *s = req->opaque;
    s->ret = ret;
    s->busy = false;
    CHECK(ret == 0);
    if (req->op == BLOCK_READ && memcmp(s->buf, t.shadow + req->offset, req->len) != 0) {
        uint64_t at = 0;
        while (s->buf[at] == t.shadow[req->offset + at])
            at++;
        fprintf(stderr, "offset 0x%llx reads 0x%02x, not 0x%02x\n", (unsigned long long)(req->offset + at), s->buf[at], t.shadow[req->offset + at]);
        exit(1);
    }
}

static bool overlaps(uint64_t offset, uint64_t len)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (t.slots[i].busy && t.slots[i].req.offset < offset + len && offset < t.slots[i].req.offset + t.slots[i].req.len)
            return true;
    return false;
}

static enum block_op random_op(void)
{
    static const enum block_op ops[] = {BLOCK_READ, BLOCK_READ, BLOCK_READ, BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE, BLOCK_ZERO, BLOCK_DISCARD, BLOCK_FLUSH};
    return ops[rnd_below(&t.rnd, ARRAY_SIZE(ops))];
}

static void start(struct slot *s)
{
    uint64_t sectors = t.size / 512, len = (1 + rnd_below(&t.rnd, rnd_below(&t.rnd, 8) ? 64 : 1024)) * 512ull;
    uint64_t offset = rnd_below(&t.rnd, (uint32_t)sectors) * 512ull;
    enum block_op op = random_op();
    len = MIN(len, t.size - offset);
    if (op != BLOCK_FLUSH && overlaps(offset, len))
        return;
    s->req = (struct block_req){.op = op, .offset = offset, .len = len, .iov = s->iov, .may_unmap = rnd_below(&t.rnd, 2), .done = done, .opaque = s};
    if (op == BLOCK_FLUSH)
        s->req.offset = s->req.len = 0;
    uint64_t cut = rnd_below(&t.rnd, (uint32_t)len / 512) * 512ull;
    s->iov[0] = (struct iovec){s->buf, cut};
    s->iov[1] = (struct iovec){s->buf + cut, len - cut};
    s->req.niov = 2;
    if (op == BLOCK_WRITE) {
        memset(s->buf, rnd_below(&t.rnd, 4) ? (int)(1 + rnd_below(&t.rnd, 255)) : 0, len);
        memcpy(t.shadow + offset, s->buf, len);
    } else if (op == BLOCK_ZERO) {
        memset(t.shadow + offset, 0, len);
    }
    s->busy = true;
    block_submit(t.b, &s->req);
}

/* What a discard leaves is the image's choice: it is read, and holds from then on. */
static void settle_discard(const struct slot *s)
{
    int ret;
    struct iovec iov = {t.shadow + s->req.offset, s->req.len};
    ret = image_read(t.b->image, s->req.offset, s->req.len, &iov, 1);
    CHECK(ret == 0);
}

static void requests(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct slot *s = &t.slots[rnd_below(&t.rnd, SLOTS)];
        for (block_poll(t.b); s->busy; block_poll(t.b))
            io_loop_turn(t.b->loop);
        start(s);
        if (s->busy && s->req.op == BLOCK_DISCARD) {
            block_drain(t.b);
            settle_discard(s);
        }
        if (rnd_below(&t.rnd, 4) == 0)
            block_poll(t.b);
    }
    block_drain(t.b);
}

static void read_all(void)
{
    uint8_t *buf = malloc(t.size);
    struct iovec iov = {buf, t.size};
    CHECK(image_read(t.b->image, 0, t.size, &iov, 1) == 0);
    for (uint64_t i = 0; i < t.size; i++)
        if (buf[i] != t.shadow[i]) {
            fprintf(stderr, "offset 0x%llx reads 0x%02x, not 0x%02x\n", (unsigned long long)i, buf[i], t.shadow[i]);
            exit(1);
        }
    free(buf);
}

/* ---- snapshots and sizes ---- */

static void snapshot_step(void)
{
    ERROR_SCOPED(err);
    char name[8];
    unsigned k = rnd_below(&t.rnd, SNAPSHOTS);
    snprintf(name, sizeof name, "s%u", k);
    if (!t.snapshot[k]) {
        must(qcow2_snapshot_create(t.b->image, name, &err), &err);
        t.snapshot[k] = malloc(DISK_MAX);
        memcpy(t.snapshot[k], t.shadow, DISK_MAX);
        t.snapshot_size[k] = t.size;
    } else if (rnd_below(&t.rnd, 2)) {
        must(qcow2_snapshot_apply(t.b->image, name, &err), &err);
        memcpy(t.shadow, t.snapshot[k], DISK_MAX);
        t.size = t.snapshot_size[k];
        CHECK_EQ(block_size(t.b), t.size);
    } else {
        must(qcow2_snapshot_delete(t.b->image, name, &err), &err);
        free(t.snapshot[k]);
        t.snapshot[k] = NULL;
    }
}

static void resize_step(const struct kind *k)
{
    ERROR_SCOPED(err);
    uint64_t size = (1 + rnd_below(&t.rnd, DISK_MAX / 512)) * 512ull;
    if (k->backing)
        return;
    must(qcow2_resize(t.b->image, size, true, &err), &err);
    if (size < t.size)
        memset(t.shadow + size, 0, DISK_MAX - size);
    t.size = size;
}

static void check_clean(bool leaks_too)
{
    ERROR_SCOPED(err);
    struct image_check c = {0};
    must(qcow2_check(t.b->image, REPAIR_NONE, &c, &err), &err);
    CHECK_EQ(c.corruptions, 0);
    if (leaks_too)
        CHECK_EQ(c.leaks, 0);
}

/* ---- the peer ---- */

static void qemu_agrees(void)
{
    char raw[80];
    if (!have_qemu)
        return;
    int ret = sh("qemu-img check -f qcow2 %s >%s/log 2>&1", t.path, dir);
    if (ret != 0)
        sh("cat %s/log; qemu-img info %s", dir, t.path);
    CHECK_EQ(ret, 0);
    snprintf(raw, sizeof raw, "%s/raw", dir);
    AUTO_CLOSE int fd = open(raw, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(write(fd, t.shadow, t.size) == (ssize_t)t.size);
    CHECK_EQ(sh("qemu-img compare -q -f qcow2 -F raw %s %s", t.path, raw), 0);
}

static void start_kind(const struct kind *k)
{
    ERROR_SCOPED(err);
    struct qcow2_create o = k->o;
    o.path = t.path;
    o.replace = true;
    char data[64];
    snprintf(data, sizeof data, "%s/data", dir); /* QEMU takes a relative name as relative to where it runs */
    o.data_file = o.data_file ? data : NULL;
    t.size = o.size;
    memset(t.shadow, 0, DISK_MAX);
    if (k->backing) {
        AUTO_CLOSE int fd = open(t.backing, O_RDWR | O_CREAT | O_TRUNC, 0600);
        for (uint64_t i = 0; i < k->backing; i++)
            t.shadow[i] = (uint8_t)(i >> 9 | 1);
        CHECK(write(fd, t.shadow, k->backing) == (ssize_t)k->backing);
        memset(t.shadow + t.size, 0, DISK_MAX - t.size);
        o.backing = "backing";
        o.backing_format = "raw";
    }
    must(qcow2_create(t.loop, &o, &err), &err);
}

static void run_kind(const struct kind *k)
{
    start_kind(k);
    open_disk();
    for (unsigned r = 0; r < k->rounds; r++) {
        requests(300);
        if (!k->o.data_file && k->refcount_bits != 1 && rnd_below(&t.rnd, 2))
            snapshot_step();
        if (rnd_below(&t.rnd, 4) == 0)
            resize_step(k);
        read_all();
        check_clean(false);
        if (rnd_below(&t.rnd, 3) == 0) {
            close_disk();
            open_disk();
            check_clean(true);
            read_all();
        }
        if (r % 2 == 1) {
            close_disk();
            qemu_agrees();
            open_disk();
        }
    }
    close_disk();
    qemu_agrees();
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        free(t.snapshot[i]);
        t.snapshot[i] = NULL;
    }
}

/* ---- allocation in batches ---- */

struct counts {
    unsigned writes, extensions;
};

static void count_steps(void *opaque, const struct io_step *s, bool ended)
{
    struct counts *n = opaque;
    n->writes += !ended && s->kind == IO_WRITE;
    n->extensions += !ended && s->kind == IO_EXTEND;
}

/*
 * A guest writes on and on and flushes behind each cluster. Such a flush writes one piece of an L2 table; refcounts only now and then, since they are
 * counted for many clusters at a time. The file is made longer once. When the image is closed, nothing of that is left over.
 */
static void allocates_in_batches(void)
{
    enum { CLUSTERS = 128, BITS = 16 };
    static uint8_t data[1 << BITS];
    ERROR_SCOPED(err);
    struct image *im;
    struct counts n = {0};
    struct qcow2_create o = {.path = t.path, .size = CLUSTERS << BITS, .version = 3, .cluster_bits = BITS, .refcount_order = 4, .replace = true};
    must(qcow2_create(t.loop, &o, &err), &err);
    must(image_open(t.loop, &(struct image_options){.path = t.path, .format = "qcow2", .what = "image"}, &im, &err), &err);
    im->file->observe = count_steps;
    im->file->observer = &n;
    memset(data, 1, sizeof data);
    for (uint64_t at = 0; at < o.size; at += sizeof data) {
        CHECK(image_write(im, at, sizeof data, &(struct iovec){data, sizeof data}, 1) == 0);
        CHECK(image_flush(im) == 0);
    }
    printf("%u writes for %u clusters of data, each flushed\n", n.writes, (unsigned)CLUSTERS);
    CHECK(n.writes >= 2 * CLUSTERS && n.writes <= 2 * CLUSTERS + CLUSTERS / 8);
    CHECK_EQ(n.extensions, 1);
    CHECK(image_close(im) == 0);
    t.size = o.size;
    open_disk();
    check_clean(true);
    close_disk();
    CHECK(!have_qemu || sh("qemu-img check -q -f qcow2 %s", t.path) == 0);
}

/* ---- what was never written to ---- */

static struct image *make_image(const struct qcow2_create *kind)
{
    ERROR_SCOPED(err);
    struct image *im;
    struct qcow2_create o = *kind;
    o.path = t.path;
    o.version = 3;
    o.refcount_order = 4;
    o.replace = true;
    must(qcow2_create(t.loop, &o, &err), &err);
    must(image_open(t.loop, &(struct image_options){.path = t.path, .format = "qcow2", .what = "image"}, &im, &err), &err);
    return im;
}

static void put(struct image *im, uint64_t offset, uint8_t byte, uint64_t len)
{
    AUTO_FREE uint8_t *data = malloc(len);
    memset(data, byte, len);
    CHECK_EQ(image_write(im, offset, len, &(struct iovec){data, len}, 1), 0);
}

static void reads_as(struct image *im, uint64_t offset, uint8_t byte, uint64_t len)
{
    AUTO_FREE uint8_t *data = malloc(len);
    CHECK_EQ(image_read(im, offset, len, &(struct iovec){data, len}, 1), 0);
    for (uint64_t i = 0; i < len; i++)
        CHECK_EQ(data[i], byte);
}

/* A snapshot that cannot be made has written tables to clusters that stay free. Whoever gets these later does not read the tables. */
static void free_clusters_of_a_failed_commit(void)
{
    ERROR_SCOPED(err);
    struct image *im = make_image(&(struct qcow2_create){.size = MIB, .cluster_bits = 12});
    struct qcow2 *q = qcow2_of(im);
    put(im, 0, 1, 4096);
    CHECK_EQ(qcow2_settle(q), 0);
    signal(SIGXFSZ, SIG_IGN);
    limit_files(q->fresh + 2 * 4096);
    CHECK(qcow2_snapshot_create(im, "no room", &err) < 0);
    limit_files(RLIM_INFINITY);
    signal(SIGXFSZ, SIG_DFL);
    for (uint64_t at = 64 * KIB; at < 128 * KIB; at += 4096) {
        put(im, at + 2048, 2, 512);
        reads_as(im, at, 0, 2048);
        reads_as(im, at + 2560, 0, 1536);
    }
    CHECK_EQ(image_close(im), 0);
}

/* Of a file that was cut off, clusters in use lie behind its end. What is written there stays, though new clusters lie before it. */
static void clusters_behind_the_end(void)
{
    enum { BITS = 16, CUT = 1 * MIB, HOLE = 8 * MIB, LAST = 64 * MIB - (1 << BITS) };
    ERROR_SCOPED(err);
    struct image *im = make_image(&(struct qcow2_create){.size = 64 * MIB, .cluster_bits = BITS});
    for (uint64_t at = 0; at <= LAST; at += 1 << BITS) {
        put(im, at, 1, 512);
        CHECK_EQ(at ? 0 : image_flush(im), 0); /* the table comes first */
    }
    CHECK_EQ(image_close(im), 0);
    CHECK(truncate(t.path, CUT) == 0);
    for (unsigned again = 0; again < 2; again++) {
        must(image_open(t.loop, &(struct image_options){.path = t.path, .format = "qcow2", .what = "image"}, &im, &err), &err);
        if (again == 0) {
            CHECK_EQ(image_discard(im, HOLE, 1 << BITS), 0);
            CHECK_EQ(image_flush(im), 0);
            put(im, LAST, 3, 1 << BITS);
            put(im, HOLE, 4, 512);
        }
        reads_as(im, LAST, 3, 1 << BITS);
        reads_as(im, HOLE, 4, 512);
        CHECK_EQ(image_close(im), 0);
    }
}

/* The file is made longer ahead of its clusters, but not beyond what the process may write: that would end it. */
static void grows_within_a_limit(void)
{
    struct image *im = make_image(&(struct qcow2_create){.size = 4 * MIB, .cluster_bits = 16});
    limit_files(3 * MIB);
    put(im, 0, 5, 2 * MIB);
    CHECK_EQ(image_flush(im), 0);
    reads_as(im, 0, 5, 2 * MIB);
    CHECK_EQ(image_close(im), 0);
    limit_files(RLIM_INFINITY);
}

#define KIND(n, bits, ...) {.name = n, .rounds = 4, .o = {.cluster_bits = bits, __VA_ARGS__}}

static const struct kind kinds[] = {
    KIND("64K", 16, ), KIND("64K backing", 16, ), KIND("512", 9, ), KIND("4K", 12, ), KIND("4K backing", 12, ), KIND("2M", 21, .size = 16 * MIB),
    KIND("v2", 16, .version = 2), KIND("v2 backing", 16, .version = 2), {.name = "refcount 1", .refcount_bits = 1, .rounds = 2, .o = {.cluster_bits = 16}}, {.name = "refcount 64", .refcount_bits = 64, .rounds = 4, .o = {.cluster_bits = 12}},
    {.name = "refcount 8", .refcount_bits = 8, .rounds = 4, .o = {.cluster_bits = 9}}, KIND("ext", 16, .ext_l2 = true), KIND("ext backing", 16, .ext_l2 = true), KIND("ext 16K backing", 14, .ext_l2 = true),
    KIND("metadata", 16, .prealloc = PREALLOC_METADATA), KIND("falloc", 16, .prealloc = PREALLOC_FALLOC), KIND("full", 12, .prealloc = PREALLOC_FULL),
    KIND("ext metadata", 16, .ext_l2 = true, .prealloc = PREALLOC_METADATA), KIND("data file", 16, .data_file = "data"), KIND("odd size", 16, .size = 5 * MIB + 512),
};

int main(int argc, char **argv)
{
    ERROR_SCOPED(err);
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : now_ns();
    printf("seed 0x%llx\n", (unsigned long long)seed);
    have_qemu = system("command -v qemu-img >/dev/null") == 0;
    CHECK(mkdtemp(dir));
    snprintf(t.path, sizeof t.path, "%s/disk", dir);
    snprintf(t.backing, sizeof t.backing, "%s/backing", dir);
    t.rnd.state = seed | 1;
    t.shadow = malloc(DISK_MAX);
    for (unsigned i = 0; i < SLOTS; i++)
        t.slots[i].buf = malloc(MIB);
    must(io_loop_create(BLOCK_ENGINE_AUTO, &t.loop, &err), &err);
    allocates_in_batches();
    free_clusters_of_a_failed_commit();
    clusters_behind_the_end();
    grows_within_a_limit();
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct kind k = kinds[i];
        if (argc > 2 && strcmp(argv[2], k.name) != 0)
            continue;
        k.backing = strstr(k.name, "backing") ? 6 * MIB : 0;
        k.o.size = k.o.size ? k.o.size : 8 * MIB;
        k.o.version = k.o.version ? k.o.version : 3;
        k.o.refcount_order = k.refcount_bits ? (unsigned)__builtin_ctz(k.refcount_bits) : 4;
        printf("%s\n", k.name);
        fflush(stdout);
        run_kind(&k);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        free(t.slots[i].buf);
    free(t.shadow);
    io_loop_free(t.loop);
    sh("rm -r %s", dir);
    return 0;
}
