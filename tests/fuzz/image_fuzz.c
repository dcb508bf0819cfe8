// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Images that lie. An input is a recipe: which image to make (by the formats' own code, once), and which of its bytes to change. Sums are put right again
 * when the recipe says so, so that changes get behind them. Then the image is opened, mapped, read, checked, and perhaps written to; nothing may crash,
 * read or write outside of what it holds, or go on without end.
 *
 *     byte 0  the image        byte 1  1: write to it, 2: put sums right, 4: the rest is the whole file
 *     then changes: place (4 bytes, little endian, taken modulo the file's length), count (1), as many bytes
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/util.h"
#include "block/blockmap.h"
#include "block/qcow2.h"
#include "block/vhdx.h"

#define DISK     (3 * MIB + 512)
#define FILE_MAX (24 * MIB)

static const struct recipe {
    const char *format, *name[3], *value[3];
} recipes[] = {
    {.format = "qcow2"},
    {"qcow2", {"cluster_size"}, {"4096"}},
    {"qcow2", {"compat"}, {"0.10"}},
    {"qcow2", {"extended_l2"}, {"on"}},
    {"qcow2", {"refcount_bits", "cluster_size"}, {"1", "512"}},
    {"qcow2", {"encrypt.format", "encrypt.iter-time"}, {"luks", "1"}},
    {.format = "vmdk"},
    {"vmdk", {"subformat"}, {"streamOptimized"}},
    {.format = "vdi"},
    {.format = "vpc"},
    {"vpc", {"subformat"}, {"fixed"}},
    {.format = "vhdx"},
    {"luks", {"iter-time"}, {"1"}},
    {.format = "parallels"},
    {.format = "cloop"},
    {.format = "dmg"},
};

static struct {
    struct io_loop *loop;
    int fd;
    char path[64], secret[64];
    uint8_t *base[ARRAY_SIZE(recipes)];
    size_t len[ARRAY_SIZE(recipes)];
} t;

/* ---- what the images are made of ---- */

static void must(bool ok, const char *what, const struct error *err)
{
    if (ok)
        return;
    fprintf(stderr, "%s: %s\n", what, error_text(err));
    abort();
}

static void add_data(const struct recipe *r)
{
    ERROR_SCOPED(err);
    struct image *im;
    struct image_options o = {.path = t.path, .format = r->format, .what = "image", .secret_file = t.secret};
    must(image_open(t.loop, &o, &im, &err) == 0, r->format, &err);
    for (unsigned i = 0; i < 3; i++) {
        static uint8_t data[70000];
        memset(data, (int)(i + 1), sizeof data);
        struct iovec iov = {data, 69632};
        must(image_write(im, i * 900 * KIB, iov.iov_len, &iov, 1) == 0, "write", &err);
    }
    if (strcmp(r->format, "qcow2") == 0 && qcow2_of(im)->h.version > 2 && qcow2_of(im)->h.refcount_order)
        must(qcow2_bitmap_add(im, "map", 16, true, &err) == 0 && qcow2_snapshot_create(im, "snapshot", &err) == 0, "extras", &err);
    must(image_close(im) == 0, "close", &err);
}

/* The formats that nothing here writes. */
static size_t make_by_hand(const char *format, uint8_t *b)
{
    memset(b, 0, 8192);
    if (strcmp(format, "parallels") == 0) {
        memcpy(b, "WithoutFreeSpace", 16);
        le_put(b + 16, 2, 4);
        le_put(b + 28, 4, 4);
        le_put(b + 32, 16, 4);
        le_put(b + 36, 64, 8);
        le_put(b + 64, 2, 4);
        return 4096;
    }
    if (strcmp(format, "cloop") == 0) {
        be_put(b + 128, 1024, 4);
        be_put(b + 132, 2, 4);
        for (unsigned i = 0; i < 3; i++)
            be_put(b + 136 + 8 * i, 160 + 20 * i, 8);
        return 300;
    }
    static const char list[] = "<plist><data>bWlzaAAAAAEAAAAAAAAAAAAAAAAAAAAQ</data></plist>";
    memcpy(b + 1024, list, sizeof list);
    memcpy(b + 2048, "koly", 4);
    be_put(b + 2048 + 216, 1024, 8);
    be_put(b + 2048 + 224, sizeof list - 1, 8);
    be_put(b + 2048 + 492, 64, 8);
    return 2048 + 512;
}

static void make(unsigned i)
{
    const struct recipe *r = &recipes[i];
    ERROR_SCOPED(err);
    struct image_new n = {.path = t.path, .size = DISK, .replace = true, .secret_file = t.secret};
    for (; n.noptions < 3 && r->name[n.noptions]; n.noptions++)
        n.options[n.noptions] = (struct image_option){r->name[n.noptions], r->value[n.noptions]};
    t.base[i] = malloc(FILE_MAX);
    must(ftruncate(t.fd, 0) == 0, "truncate", &err);
    if (image_driver(r->format)->create) {
        must(image_create_new(t.loop, r->format, &n, &err) == 0, r->format, &err);
        add_data(r);
        ssize_t got = pread(t.fd, t.base[i], FILE_MAX, 0);
        must(got > 0, "read", &err);
        t.len[i] = (size_t)got;
    } else {
        t.len[i] = make_by_hand(r->format, t.base[i]);
    }
}

/* ---- sums ---- */

static void vhd_sum(uint8_t *p, unsigned n, unsigned at)
{
    uint32_t sum = 0;
    be_put(p + at, 0, 4);
    for (unsigned i = 0; i < n; i++)
        sum += p[i];
    be_put(p + at, ~sum, 4);
}

static void put_sums_right(const char *format, uint8_t *b, size_t n)
{
    if (strcmp(format, "vpc") == 0 && n > 4096) {
        vhd_sum(b, 512, 64);
        vhd_sum(b + 512, 1024, 36);
        vhd_sum(b + n - 512, 512, 64);
    } else if (strcmp(format, "vhdx") == 0 && n > MIB) {
        for (unsigned at = 64 << 10; at <= 256 << 10; at += 64 << 10) {
            unsigned len = at <= 128 << 10 ? VHDX_HEADER : 64 << 10;
            le_put(b + at + 4, vhdx_sum(b + at, len, 4), 4);
        }
    }
}

/* ---- using an image ---- */

static void look_around(struct image *im)
{
    static uint8_t buf[256 * KIB];
    struct extent e;
    uint64_t at = 0;
    for (unsigned i = 0; i < 200 && at < im->size; i++, at += e.len)
        if (image_extent(im, at, im->size - at, &e) < 0 || e.len == 0)
            break;
    for (unsigned i = 0; i < 12; i++) {
        uint64_t place = i < 6 ? i * 700 * KIB : i < 11 ? im->size / 11 * i : im->size - MIN(im->size, 512u);
        place = ALIGN_DOWN(MIN(place, im->size), (uint64_t)512);
        struct iovec iov = {buf, MIN(sizeof buf, im->size - place)};
        if (iov.iov_len)
            image_read(im, place, iov.iov_len, &iov, 1);
    }
}

static void change(struct image *im)
{
    static uint8_t buf[100 * KIB];
    for (unsigned i = 0; i < 6; i++) {
        uint64_t place = ALIGN_DOWN(im->size / 6 * i, (uint64_t)512);
        struct iovec iov = {buf, MIN(sizeof buf, im->size - place)};
        if (iov.iov_len && i % 3 == 0)
            image_zero(im, place, iov.iov_len, true);
        else if (iov.iov_len)
            image_write(im, place, iov.iov_len, &iov, 1);
        if (i % 2)
            image_flush(im);
    }
}

static void use(const char *format, bool writable)
{
    ERROR_SCOPED(err);
    struct image *im;
    struct image_options o = {.path = t.path, .format = format, .readonly = !writable, .no_backing = true, .what = "image", .secret_file = t.secret};
    struct image_check k = {0};
    if (image_open(t.loop, &o, &im, &err) < 0) {
        must(error_is_set(&err) && !strchr(error_text(&err), '\n'), "an error without a text", &err);
        return;
    }
    look_around(im);
    if (im->driver == &qcow2_driver)
        qcow2_check(im, REPAIR_NONE, &k, &err);
    else if (im->driver->check)
        im->driver->check(im, &k);
    if (writable)
        change(im);
    if (writable && im->driver == &qcow2_driver)
        qcow2_check(im, REPAIR_ALL, &k, NULL);
    image_close(im);
}

/* ---- inputs ---- */

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);

static void prepare(void)
{
    ERROR_SCOPED(err);
    if (t.loop)
        return;
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){4ull << 30, 4ull << 30}); /* what a table says may be far behind the end */
    signal(SIGXFSZ, SIG_IGN);
    log_set_level(LOG_ERROR);
    t.fd = memfd_create("image", 0);
    int secret = memfd_create("secret", 0);
    must(t.fd >= 0 && write(secret, "secret", 6) == 6, "memfd", &err);
    snprintf(t.path, sizeof t.path, "/proc/self/fd/%d", t.fd);
    snprintf(t.secret, sizeof t.secret, "/proc/self/fd/%d", secret);
    must(io_loop_create(BLOCK_ENGINE_THREADS, &t.loop, &err) == 0, "loop", &err);
    for (unsigned i = 0; i < ARRAY_SIZE(recipes); i++)
        make(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    static uint8_t file[FILE_MAX];
    prepare();
    if (size < 2)
        return 0;
    unsigned i = in[0] % ARRAY_SIZE(recipes);
    size_t n = in[1] & 4 ? size - 2 : t.len[i];
    memcpy(file, in[1] & 4 ? in + 2 : t.base[i], n);
    for (size_t at = 2; !(in[1] & 4) && at + 5 <= size;) {
        size_t place = le_get(in + at, 4) % n, count = MIN(MIN(in[at + 4], n - place), size - at - 5);
        memcpy(file + place, in + at + 5, count);
        at += 5 + in[at + 4];
    }
    if ((in[1] & 2) && !(in[1] & 4))
        put_sums_right(recipes[i].format, file, n);
    if (ftruncate(t.fd, 0) < 0 || pwrite(t.fd, file, n, 0) != (ssize_t)n)
        return 0;
    use(recipes[i].format, in[1] & 1);
    return 0;
}

#ifdef STANDALONE
#include "random.h"

/* Changes of header fields and table entries: near the beginnings, aligned, of values that hurt. */
static size_t random_input(uint8_t *in)
{
    static const uint8_t values[][8] = {{0}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x80}, {0, 0, 0, 0, 0, 0, 0, 0x80}, {1}, {0, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 2}, {0x7f, 0xff}};
    static const uint32_t places[] = {128, 512, 2048, 5000, 66000, 132000, 400000, 2u << 20, 4u << 20};
    size_t at = 2;
    in[0] = (uint8_t)next(256);
    in[1] = (uint8_t)next(4);
    for (unsigned k = next(4) + 1; k; k--) {
        uint32_t place = next(places[next(ARRAY_SIZE(places))]), count = 1u << next(4);
        place = next(4) ? ALIGN_DOWN(place, count) : place;
        le_put(in + at, place, 4);
        in[at + 4] = (uint8_t)count;
        for (unsigned i = 0; i < count; i++)
            in[at + 5 + i] = next(3) ? values[next(ARRAY_SIZE(values))][i] : (uint8_t)next(256);
        if (next(2))
            memcpy(in + at + 5, values[next(ARRAY_SIZE(values))], count);
        at += 5 + count;
    }
    return at;
}

int main(int argc, char **argv)
{
    uint64_t runs = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000, seed = argc > 2 ? strtoull(argv[2], NULL, 0) : now_ns();
    uint8_t in[256];
    printf("seed 0x%llx\n", (unsigned long long)seed);
    fflush(stdout);
    state = seed;
    for (uint64_t i = 0; i < runs; i++) {
        size_t n = random_input(in);
        uint64_t began = now_ns();
        LLVMFuzzerTestOneInput(in, n);
        if (now_ns() - began > 60 * NS_PER_S) {
            fprintf(stderr, "run %llu of image %u took longer than a minute\n", (unsigned long long)i, in[0]);
            return 1;
        }
    }
    io_loop_free(t.loop);
    return 0;
}
#endif
