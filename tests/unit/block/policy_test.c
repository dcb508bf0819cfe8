// SPDX-License-Identifier: GPL-2.0-or-later
/* What a disk does besides its requests: stopping at a full file system and going on, rates, cache modes, snapshots, locks. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../devices/check.h"
#include "base/util.h"
#include "block/file.h"
#include "block/image.h"
#include "block/internal.h"

#define DISK  (8u << 20)
#define CHUNK 65536u

static char path[] = "/var/tmp/lodge-policy-XXXXXX";
static uint8_t data[CHUNK] __attribute__((aligned(4096)));
static unsigned done, failed;

struct request {
    struct block_req block;
    struct iovec iov;
};

static void completed(struct block_req *b, int ret)
{
    done++;
    failed += ret < 0;
    free(b->opaque);
}

static void submit(struct block *b, enum block_op op, uint64_t offset, void *buf, uint32_t len)
{
    struct request *r = calloc(1, sizeof *r);
    r->iov = (struct iovec){buf, len};
    r->block = (struct block_req){.op = op, .offset = offset, .len = len, .iov = &r->iov, .niov = 1, .done = completed, .opaque = r};
    block_submit(b, &r->block);
}

/* Turns of the disk's loop until so many requests are done, or `ms` have passed. */
static void turns(struct block *b, unsigned want, unsigned ms)
{
    for (uint64_t end = now_ns() + ms * 1000000ull; done < want && now_ns() < end;) {
        block_poll(b);
        int wait = block_timeout(b);
        struct pollfd p = {.fd = block_event_fd(b), .events = POLLIN};
        if (done < want)
            poll(&p, 1, wait < 0 || wait > 50 ? 50 : wait);
    }
}

/* Turns until the disk has stopped and what was under way then has ended. */
static bool stops(struct block *b)
{
    for (uint64_t end = now_ns() + 120 * NS_PER_S; !block_stopped(b) && now_ns() < end;)
        turns(b, done + 1, 20);
    turns(b, UINT_MAX, 300);
    return block_stopped(b);
}

static struct block *open_disk(struct block_config cfg)
{
    struct block *b;
    ERROR_SCOPED(err);
    cfg.path = cfg.path ? cfg.path : path;
    cfg.format = cfg.format ? cfg.format : "raw";
    done = failed = 0;
    if (block_open(&cfg, &b, &err) < 0) {
        fprintf(stderr, "%s\n", error_text(&err));
        exit(1);
    }
    return b;
}

static void make_image(void)
{
    int fd = open(path, O_RDWR | O_TRUNC);
    CHECK(fd >= 0 && ftruncate(fd, DISK) == 0);
    close(fd);
}

/* A limit on file sizes stands for a full file system: EFBIG comes where ENOSPC would. Nothing that was submitted is lost. */
static void stopping(void)
{
    int fd = eventfd(0, EFD_NONBLOCK);
    eventfd_t count;
    make_image();
    struct block *b = open_disk((struct block_config){.write_errors = BLOCK_STOP, .engine = BLOCK_ENGINE_THREADS});
    block_watch_stops(b, fd);
    limit_files(DISK / 2);
    for (unsigned i = 0; i < 16; i++) {
        memset(data, 0x40, sizeof data);
        submit(b, BLOCK_WRITE, DISK / 4 + i * (DISK / 32), data, CHUNK);
    }
    CHECK(stops(b));
    CHECK(done >= 1 && done <= 8 && failed == 0);
    CHECK_EQ(block_stopped(b), EFBIG);
    CHECK(eventfd_read(fd, &count) == 0);
    /* Trying again in vain stops again; a read waits too. */
    static uint8_t other[CHUNK];
    submit(b, BLOCK_READ, 0, other, CHUNK);
    block_retry(b);
    CHECK(stops(b));
    CHECK(done < 17 && failed == 0 && block_stopped(b) == EFBIG);
    limit_files(RLIM_INFINITY);
    block_retry(b);
    turns(b, 17, 120000);
    CHECK(done == 17 && failed == 0 && block_stopped(b) == 0);
    block_close(b);
    int image = open(path, O_RDONLY);
    for (unsigned i = 0; i < 16; i++) {
        uint8_t byte;
        CHECK(pread(image, &byte, 1, DISK / 4 + i * (DISK / 32) + CHUNK - 1) == 1 && byte == 0x40);
    }
    close(image);
    close(fd);
}

struct part {
    struct block_req block;
    struct iovec iov[3];
    int ret;
};

static void part_completed(struct block_req *b, int ret)
{
    ((struct part *)b->opaque)->ret = ret;
    done++;
}

/* Writes one behind the other, which may go to the kernel together: of them end well what lies below a limit, and no others. */
static void adjacent_writes(enum block_engine engine)
{
    enum { PARTS = 96, BELOW = 44, PART = 8192 }; /* eight go into a call */
    static struct part parts[PARTS];
    static uint8_t buf[PARTS][PART], back[PART];
    make_image();
    CHECK(truncate(path, 0) == 0 && truncate(path, PARTS * PART) == 0);
    struct block *b = open_disk((struct block_config){.engine = engine});
    limit_files(BELOW * PART + 5000);
    for (unsigned n = 0; n < PARTS; n++) {
        unsigned i = n < 16 ? 15 - n : n; /* backwards they are not adjacent */
        memset(buf[i], (int)i + 1, PART);
        parts[i].iov[0] = (struct iovec){buf[i], 4096};
        parts[i].iov[1] = (struct iovec){buf[i] + 4096, 512};
        parts[i].iov[2] = (struct iovec){buf[i] + 4608, PART - 4608};
        parts[i].block = (struct block_req){.op = BLOCK_WRITE, .offset = i * PART, .len = PART, .iov = parts[i].iov, .niov = 3, .done = part_completed, .opaque = &parts[i]};
        block_submit(b, &parts[i].block);
    }
    turns(b, PARTS, 120000);
    limit_files(RLIM_INFINITY);
    CHECK_EQ(done, PARTS);
    for (unsigned i = 0; i < PARTS; i++)
        CHECK_EQ(parts[i].ret, i < BELOW ? 0 : -EFBIG);
    block_close(b);
    int image = open(path, O_RDONLY);
    for (unsigned i = 0; i < PARTS; i++) {
        memset(buf[0], i < BELOW ? (int)i + 1 : 0, PART);
        memset(buf[0], (int)i + 1, i == BELOW ? 5000 : 0);
        CHECK(pread(image, back, PART, i * PART) == PART && memcmp(back, buf[0], PART) == 0);
    }
    close(image);
}

/* A reset of the device does not wait for anybody: what was kept fails. */
static void stopped_and_drained(void)
{
    make_image();
    struct block *b = open_disk((struct block_config){.write_errors = BLOCK_STOP, .engine = BLOCK_ENGINE_THREADS});
    limit_files(DISK / 2);
    submit(b, BLOCK_WRITE, DISK - CHUNK, data, CHUNK);
    CHECK(stops(b));
    CHECK_EQ(done, 0);
    block_drain(b);
    CHECK(done == 1 && failed == 1 && !block_stopped(b));
    /* With the policy to report, and with one for full file systems alone, the guest sees it. */
    block_close(b);
    b = open_disk((struct block_config){.write_errors = BLOCK_STOP_ENOSPC, .engine = BLOCK_ENGINE_THREADS});
    submit(b, BLOCK_WRITE, DISK - CHUNK, data, CHUNK);
    turns(b, 1, 120000);
    CHECK(done == 1 && failed == 1);
    limit_files(RLIM_INFINITY);
    block_close(b);
}

static void rates(void)
{
    make_image();
    struct block *b = open_disk((struct block_config){.bytes[BLOCK_RATE_TOTAL] = {16 * CHUNK, 4 * CHUNK}});
    uint64_t start = now_ns();
    for (unsigned i = 0; i < 12; i++)
        submit(b, i % 2 ? BLOCK_READ : BLOCK_WRITE, i * CHUNK, data, CHUNK);
    turns(b, 12, 120000);
    CHECK(done == 12 && failed == 0 && now_ns() - start > 350000000); /* 12 less a burst of 4, and the one that goes into debt */
    block_close(b);
    b = open_disk((struct block_config){.ops[BLOCK_RATE_WRITE] = {10, 1}});
    start = now_ns();
    for (unsigned i = 0; i < 40; i++)
        submit(b, BLOCK_READ, 0, data, 512);
    turns(b, 40, 120000);
    for (unsigned i = 0; i < 4; i++)
        submit(b, BLOCK_WRITE, 0, data, 512);
    turns(b, 44, 120000);
    CHECK(done == 44 && now_ns() - start > 200000000);
    for (unsigned i = 0; i < 1000; i++)
        submit(b, BLOCK_WRITE, 0, data, 512);
    block_close(b); /* without waiting for their turn */
    CHECK(done == 1044 && failed == 0);
}

/* Every mode, and buffers that lie askew, for which direct transfers take a copy. */
static void caches(void)
{
    static const enum block_cache modes[] = {BLOCK_CACHE_WRITEBACK, BLOCK_CACHE_NONE, BLOCK_CACHE_WRITETHROUGH, BLOCK_CACHE_UNSAFE, BLOCK_CACHE_DIRECTSYNC};
    static uint8_t out[CHUNK + 1], in[CHUNK + 3];
    for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
        make_image();
        struct block *b = open_disk((struct block_config){.cache = modes[m]});
        for (unsigned i = 0; i < sizeof out; i++)
            out[i] = (uint8_t)(i * 11 + m);
        submit(b, BLOCK_WRITE, 512, out + 1, CHUNK - 512);
        submit(b, BLOCK_FLUSH, 0, NULL, 0);
        turns(b, 2, 120000);
        submit(b, BLOCK_ZERO, 1024, NULL, 512);
        turns(b, 3, 120000);
        memset(out + 513, 0, 512);
        submit(b, BLOCK_READ, 512, in + 3, CHUNK - 512);
        turns(b, 4, 120000);
        CHECK(done == 4 && failed == 0 && memcmp(out + 1, in + 3, CHUNK - 512) == 0);
        block_close(b);
    }
}

/* A qcow2 image on a base: pieces of clusters are copied around writes of a sector, and both files are read past the page cache; what lies in them is as without. */
static void direct_qcow2(unsigned cluster)
{
    char overlay[64], base[64], size[16];
    static uint8_t all[DISK / 4], shadow[DISK / 4], out[CHUNK + 1];
    snprintf(overlay, sizeof overlay, "%s.over", path);
    snprintf(base, sizeof base, "%s.base", path);
    snprintf(size, sizeof size, "%u", cluster);
    struct io_loop *l;
    ERROR_SCOPED(err);
    CHECK(io_loop_create(BLOCK_ENGINE_AUTO, &l, &err) == 0);
    struct image_new n = {.path = base, .size = sizeof all, .replace = true};
    CHECK(image_create_new(l, "qcow2", &n, &err) == 0);
    n = (struct image_new){.path = overlay, .size = sizeof all, .replace = true, .backing = base, .backing_format = "qcow2", .options = {{"cluster_size", size}}, .noptions = 1};
    CHECK(image_create_new(l, "qcow2", &n, &err) == 0);
    io_loop_free(l);
    memset(shadow, 0x5a, sizeof shadow);
    struct block *b = open_disk((struct block_config){.path = base, .format = "qcow2"});
    submit(b, BLOCK_WRITE, 0, shadow, sizeof shadow);
    turns(b, 1, 120000);
    block_close(b);
    b = open_disk((struct block_config){.path = overlay, .format = "qcow2", .cache = BLOCK_CACHE_NONE});
    CHECK(b->image->file->direct_fd >= 0 && b->image->backing->file->direct_fd >= 0);
    for (unsigned i = 0; i < 200; i++) {
        uint64_t at = i * 2654435761u % (sizeof all / 512) * 512, len = MIN(512u + i % 7 * 4096, sizeof all - at);
        memset(out, (int)i, sizeof out);
        submit(b, i % 5 == 4 ? BLOCK_ZERO : BLOCK_WRITE, at, out + i % 2, (uint32_t)len);
        memset(shadow + at, i % 5 == 4 ? 0 : (int)i, len);
        turns(b, i + 1, 120000);
    }
    submit(b, BLOCK_READ, 0, all, sizeof all);
    turns(b, 201, 120000);
    CHECK(failed == 0 && memcmp(all, shadow, sizeof all) == 0);
    block_close(b);
    b = open_disk((struct block_config){.path = overlay, .format = "qcow2", .readonly = true});
    memset(all, 0, sizeof all);
    submit(b, BLOCK_READ, 0, all, sizeof all);
    turns(b, 1, 120000);
    CHECK(failed == 0 && memcmp(all, shadow, sizeof all) == 0);
    block_close(b);
    unlink(overlay);
    unlink(base);
}

static long long blocks_of_file(void)
{
    struct stat st;
    CHECK(stat(path, &st) == 0);
    return (long long)st.st_blocks;
}

/* Zeroes that are written become holes, when they are to be found; discards do nothing where storage is to be kept. */
static void storage(void)
{
    static const struct { enum block_zeroes zeroes; bool keep, gone; } cases[] = {
        {BLOCK_ZEROES_WRITTEN, false, false}, {BLOCK_ZEROES_DETECTED, false, false}, {BLOCK_ZEROES_UNMAPPED, false, true}, {BLOCK_ZEROES_UNMAPPED, true, false}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        make_image();
        struct block *b = open_disk((struct block_config){.zeroes = cases[i].zeroes, .keep_storage = cases[i].keep});
        memset(data, 0x33, sizeof data);
        submit(b, BLOCK_WRITE, 0, data, CHUNK);
        submit(b, BLOCK_WRITE, CHUNK, data, CHUNK);
        submit(b, BLOCK_FLUSH, 0, NULL, 0);
        turns(b, 3, 120000);
        long long full = blocks_of_file();
        memset(data, 0, sizeof data);
        submit(b, BLOCK_WRITE, 0, data, CHUNK);
        turns(b, 4, 120000);
        memset(data, 1, sizeof data);
        submit(b, BLOCK_READ, 0, data, CHUNK);
        turns(b, 5, 120000);
        CHECK(failed == 0 && data[0] == 0 && memcmp(data, data + 1, CHUNK - 1) == 0);
        CHECK(cases[i].gone == (blocks_of_file() < full));
        long long before = blocks_of_file();
        submit(b, BLOCK_DISCARD, CHUNK, NULL, CHUNK);
        turns(b, 6, 120000);
        CHECK(failed == 0 && cases[i].keep == (blocks_of_file() == before));
        block_close(b);
    }
}

/* Tables and contents in one page, or a format that mixes them: no direct transfers. */
static void direct_refused(void)
{
    struct io_loop *l;
    struct block *b;
    ERROR_SCOPED(err);
    CHECK(io_loop_create(BLOCK_ENGINE_AUTO, &l, &err) == 0);
    struct image_new n = {.path = path, .size = DISK, .replace = true, .options = {{"cluster_size", "512"}}, .noptions = 1};
    CHECK(image_create_new(l, "qcow2", &n, &err) == 0);
    io_loop_free(l);
    CHECK(block_open(&(struct block_config){.path = path, .format = "qcow2", .cache = BLOCK_CACHE_NONE}, &b, &err) < 0);
    CHECK(strstr(error_text(&err), "use cache=writeback"));
}

static void snapshot(void)
{
    struct stat before, after;
    uint8_t byte;
    make_image();
    CHECK(stat(path, &before) == 0);
    char overlay[64];
    int overlay_fd = block_make_overlay(&(struct block_config){.path = path, .format = "raw"}, NULL);
    CHECK(overlay_fd >= 0);
    snprintf(overlay, sizeof overlay, "/proc/self/fd/%d", overlay_fd);
    done = failed = 0;
    struct block_config cfg = {.path = overlay, .format = "qcow2", .cache = BLOCK_CACHE_UNSAFE};
    struct block *b;
    CHECK(block_open(&cfg, &b, NULL) == 0);
    CHECK(block_size(b) == DISK && !block_readonly(b));
    memset(data, 0x77, sizeof data);
    submit(b, BLOCK_WRITE, CHUNK, data, CHUNK);
    turns(b, 1, 120000);
    memset(data, 0, sizeof data);
    submit(b, BLOCK_READ, CHUNK, data, CHUNK);
    turns(b, 2, 120000);
    CHECK(done == 2 && failed == 0 && data[5] == 0x77);
    block_close(b);
    CHECK(block_open(&cfg, &b, NULL) == 0); /* as after a reset of the guest */
    memset(data, 0, sizeof data);
    submit(b, BLOCK_READ, CHUNK, data, CHUNK);
    turns(b, 3, 120000);
    CHECK(done == 3 && failed == 0 && data[5] == 0x77);
    block_close(b);
    close(overlay_fd);
    CHECK(stat(path, &after) == 0 && after.st_blocks == before.st_blocks);
    int fd = open(path, O_RDONLY);
    CHECK(pread(fd, &byte, 1, CHUNK) == 1 && byte == 0);
    close(fd);
}

static bool can_open(struct io_loop *l, bool readonly)
{
    struct file *f = NULL;
    ERROR_SCOPED(err);
    int ret = file_open(l, "disk", path, readonly, &f, &err);
    file_close(f);
    return ret == 0;
}

/* A description outlives close() in a copy of the descriptor, as in a request of io_uring or in a child; its locks must not. */
static void locks_end_with_close(void)
{
    struct io_loop *l;
    struct file *f;
    int go[2];
    ERROR_SCOPED(err);
    CHECK(io_loop_create(BLOCK_ENGINE_AUTO, &l, &err) == 0 && pipe(go) == 0);
    CHECK(file_open(l, "disk", path, false, &f, &err) == 0);
    CHECK(!can_open(l, false) && !can_open(l, true));
    int copy = dup(f->fd);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(go[1]);
        _exit(read(go[0], &byte, 1) != 0); /* until the parent closes its end */
    }
    CHECK(copy >= 0 && child > 0);
    file_close(f);
    CHECK(can_open(l, false) && can_open(l, true));
    /* An attempt that fails takes nothing from who holds them. */
    CHECK(file_open(l, "disk", path, true, &f, &err) == 0);
    CHECK(!can_open(l, false) && can_open(l, true) && !can_open(l, false));
    file_close(f);
    close(copy);
    close(go[1]);
    CHECK(waitpid(child, NULL, 0) == child);
    close(go[0]);
    io_loop_free(l);
}

int main(void)
{
    signal(SIGXFSZ, SIG_IGN);
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
    stopping();
    for (unsigned i = 0; i < 10; i++) {
        adjacent_writes(BLOCK_ENGINE_AUTO);
        adjacent_writes(BLOCK_ENGINE_THREADS);
    }
    stopped_and_drained();
    rates();
    caches();
    direct_qcow2(65536);
    direct_qcow2(4096);
    direct_refused();
    storage();
    snapshot();
    locks_end_with_close();
    unlink(path);
    return 0;
}
