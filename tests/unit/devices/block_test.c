// SPDX-License-Identifier: GPL-2.0-or-later
/* The block layer: data against a shadow copy with many requests in flight, both engines; refusals; locks, also against QEMU;
 * errors. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/util.h"
#include "block/block.h"
#include "block/image.h"
#include "block/internal.h"
#include "check.h"

#define IMAGE_BYTES (8 * MIB)
#define SLOTS       64
#define SLOT_BYTES  (IMAGE_BYTES / SLOTS)

static char path[] = "/tmp/lodge-block-XXXXXX";

static struct block *open_image(bool readonly, enum block_engine engine)
{
    struct block *b;
    struct block_config cfg = {.path = path, .format = "raw", .readonly = readonly, .engine = engine};
    ERROR_SCOPED(err);
    if (block_open(&cfg, &b, &err) < 0) {
        fprintf(stderr, "%s\n", error_text(&err));
        exit(1);
    }
    return b;
}

static void done_one(struct block_req *req, int ret)
{
    *(int *)req->opaque = ret;
}

/* One request, waited for; its result. */
static int run(struct block *b, enum block_op op, uint64_t offset, uint64_t len, void *buf, bool unmap)
{
    int ret = 1;
    struct iovec iov = {buf, len};
    struct block_req req = {
        .op = op, .offset = offset, .len = len, .iov = &iov, .niov = 1, .may_unmap = unmap, .done = done_one, .opaque = &ret};
    block_submit(b, &req);
    block_drain(b);
    CHECK(ret <= 0);
    return ret;
}

/* ---- data ---- */

/* A slot is a part of the image with one request in flight at a time. */
struct slot {
    struct block_req req;
    struct iovec iov[3];
    uint64_t offset, len; /* of the request, in the image */
    uint8_t *shadow, buf[16 * KIB];
    bool busy;
};

static struct slot slots[SLOTS];

static void slot_done(struct block_req *req, int ret)
{
    struct slot *s = container_of(req, struct slot, req);
    CHECK_EQ(ret, 0);
    if (req->op == BLOCK_READ)
        CHECK(memcmp(s->buf, s->shadow + s->offset, s->len) == 0);
    s->busy = false;
}

static void slot_start(struct block *b, struct slot *s, unsigned index, struct rnd *rnd)
{
    static const enum block_op ops[] = {BLOCK_READ, BLOCK_READ, BLOCK_WRITE, BLOCK_WRITE, BLOCK_ZERO, BLOCK_FLUSH};
    enum block_op op = ops[rnd_below(rnd, ARRAY_SIZE(ops))];
    s->len = 512ull * (1 + rnd_below(rnd, sizeof s->buf / 512));
    s->offset = index * SLOT_BYTES + 512ull * rnd_below(rnd, (uint32_t)((SLOT_BYTES - s->len) / 512 + 1));
    uint64_t a = rnd_below(rnd, (uint32_t)s->len), c = rnd_below(rnd, (uint32_t)(s->len - a));
    s->iov[0] = (struct iovec){s->buf, a};
    s->iov[1] = (struct iovec){s->buf + a, c};
    s->iov[2] = (struct iovec){s->buf + a + c, s->len - a - c};
    if (op == BLOCK_WRITE) {
        for (unsigned i = 0; i < s->len; i++)
            s->buf[i] = (uint8_t)rnd64(rnd);
        memcpy(s->shadow + s->offset, s->buf, s->len);
    } else if (op == BLOCK_ZERO) {
        memset(s->shadow + s->offset, 0, s->len);
    }
    s->req = (struct block_req){
        .op = op, .offset = s->offset, .len = s->len, .iov = s->iov, .niov = 3, .may_unmap = rnd_below(rnd, 2), .done = slot_done};
    s->busy = true;
    block_submit(b, &s->req);
}

static void data(enum block_engine engine, bool no_fallocate)
{
    struct rnd rnd = {5 + engine};
    struct block *b = open_image(false, engine);
    uint8_t *shadow = calloc(1, IMAGE_BYTES), *whole = malloc(IMAGE_BYTES);
    b->image->file->no_punch = b->image->file->no_zero_range = no_fallocate;
    CHECK_EQ(run(b, BLOCK_ZERO, 0, IMAGE_BYTES, NULL, true), 0);
    for (unsigned turn = 0; turn < 300; turn++) {
        for (unsigned i = 0; i < SLOTS; i++) {
            slots[i].shadow = shadow;
            if (!slots[i].busy && rnd_below(&rnd, 4))
                slot_start(b, &slots[i], i, &rnd);
        }
        struct pollfd p = {.fd = block_event_fd(b), .events = POLLIN};
        block_poll(b);
        poll(&p, 1, 1);
    }
    block_drain(b);
    CHECK_EQ(run(b, BLOCK_READ, 0, IMAGE_BYTES, whole, false), 0);
    CHECK(memcmp(shadow, whole, IMAGE_BYTES) == 0);
    block_close(b);
    AUTO_CLOSE int fd = open(path, O_RDONLY);
    CHECK(pread(fd, whole, IMAGE_BYTES, 0) == (ssize_t)IMAGE_BYTES);
    CHECK(memcmp(shadow, whole, IMAGE_BYTES) == 0);
    free(shadow);
    free(whole);
}

/* Discarding and zeroing with leave to unmap give storage back, where the file system can. */
static void storage(void)
{
    struct stat full, empty;
    struct block *b = open_image(false, BLOCK_ENGINE_AUTO);
    uint8_t *buf = malloc(IMAGE_BYTES);
    memset(buf, 'x', IMAGE_BYTES);
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(run(b, BLOCK_WRITE, 0, IMAGE_BYTES, buf, false), 0);
        CHECK_EQ(run(b, BLOCK_FLUSH, 0, 0, NULL, false), 0);
        CHECK(stat(path, &full) == 0);
        CHECK_EQ(run(b, i ? BLOCK_DISCARD : BLOCK_ZERO, 0, IMAGE_BYTES, NULL, true), 0);
        CHECK(stat(path, &empty) == 0 && empty.st_size == full.st_size);
        CHECK(empty.st_blocks < full.st_blocks / 2 || b->image->file->no_punch);
    }
    free(buf);
    block_close(b);
}

/* ---- refusals ---- */

static void refuse(const char *name, const char *format, bool readonly, const char *text)
{
    struct block *b = NULL;
    ERROR_SCOPED(err);
    struct block_config cfg = {.path = name, .format = format, .readonly = readonly};
    CHECK(block_open(&cfg, &b, &err) < 0);
    if (!strstr(error_text(&err), text))
        fprintf(stderr, "%s\n", error_text(&err));
    CHECK(strstr(error_text(&err), text) && strstr(error_text(&err), name) && strstr(error_text(&err), ";"));
}

static void refusals(void)
{
    refuse("/nonexistent/disk", "raw", false, "No such file");
    refuse("/tmp", "raw", true, "neither a file nor a block device");
    refuse("/dev/null", "raw", false, "neither a file nor a block device");
    refuse(path, "qed", false, "format 'qed'");
    refuse(path, "qcow2", false, "is no qcow2 image");
    CHECK(truncate(path, 511) == 0);
    refuse(path, "raw", false, "shorter than a sector");
    CHECK(truncate(path, 0) == 0);
    refuse(path, "raw", true, "0 bytes long");
    CHECK(truncate(path, 1000) == 0);
    refuse(path, "raw", false, "not a multiple of 512");
    CHECK(truncate(path, IMAGE_BYTES) == 0);
}

/* ---- locks ---- */

#define QEMU_VM "qemu-system-x86_64 -S -accel tcg -nodefaults -display none -drive if=virtio,format=raw,file=%s%s"

static char qemu_log[sizeof path + 8];

static bool log_says(const char *text)
{
    char line[128];
    snprintf(line, sizeof line, "grep -qs '%s' %s", text, qemu_log);
    return system(line) == 0;
}

/* Runs a QEMU tool on the image to its end; true when it succeeds. */
static bool qemu(const char *format, const char *arg)
{
    char line[512] = "timeout 120 ";
    size_t len = strlen(line);
    snprintf(line + len, sizeof line - len, format, path, arg);
    len = strlen(line);
    snprintf(line + len, sizeof line - len, " </dev/null >%s 2>&1", qemu_log);
    return system(line) == 0;
}

static void lodge_first(void)
{
    struct block *b = open_image(false, BLOCK_ENGINE_AUTO);
    CHECK(!qemu("qemu-io -f raw %s %s", "-c 'write 0 512'") && log_says("lock"));
    CHECK(!qemu(QEMU_VM, "") && log_says("lock"));
    CHECK(!qemu(QEMU_VM, ",readonly=on") && log_says("lock"));
    block_close(b);
    CHECK(qemu("qemu-io -f raw %s %s", "-c 'write 0 512'"));
    b = open_image(true, BLOCK_ENGINE_AUTO);
    CHECK(qemu("qemu-io -f raw -r %s %s", "-c 'read 0 512'"));
    CHECK(!qemu("qemu-io -f raw %s %s", "-c 'write 0 512'"));
    CHECK(!qemu(QEMU_VM, "") && log_says("lock"));
    block_close(b);
}

/* A paused QEMU machine that answers on its monitor holds its disks. */
static void qemu_first(void)
{
    for (int readonly = 0; readonly <= 1; readonly++) {
        char line[512];
        snprintf(line, sizeof line, "exec " QEMU_VM " -monitor stdio >%s 2>&1", path, readonly ? ",readonly=on" : "", qemu_log);
        unlink(qemu_log); /* what the machine before this one said does not count */
        FILE *f = popen(line, "w");
        CHECK(f);
        fputs("info status\n", f);
        fflush(f);
        for (unsigned i = 0; i < 6000 && !log_says("VM status"); i++)
            usleep(10000);
        refuse(path, "raw", false, "another guest or image tool uses it");
        if (readonly)
            block_close(open_image(true, BLOCK_ENGINE_AUTO));
        else
            refuse(path, "raw", true, "another guest or image tool uses it for writing");
        fputs("quit\n", f);
        CHECK_EQ(pclose(f), 0);
    }
}

static void locks_against_qemu(void)
{
    if (system("command -v qemu-io >/dev/null && command -v qemu-system-x86_64 >/dev/null") != 0) {
        printf("skipped: QEMU is not installed\n");
        return;
    }
    snprintf(qemu_log, sizeof qemu_log, "%s.log", path);
    lodge_first();
    qemu_first();
    unlink(qemu_log);
}

static void locks(void)
{
    struct block *a = open_image(false, BLOCK_ENGINE_AUTO);
    refuse(path, "raw", false, "another guest or image tool uses it");
    refuse(path, "raw", true, "another guest or image tool uses it");
    block_close(a);
    a = open_image(true, BLOCK_ENGINE_AUTO);
    struct block *b = open_image(true, BLOCK_ENGINE_AUTO);
    refuse(path, "raw", false, "another guest or image tool uses it");
    block_close(b);
    block_close(a);
    locks_against_qemu();
}

/* ---- errors ---- */

static void errors(enum block_engine engine)
{
    struct block *b = open_image(false, engine);
    uint8_t *buf = calloc(1, MIB);
    struct rlimit old, limit;
    /* A file size limit: the write that crosses it is cut short first, and then fails. */
    signal(SIGXFSZ, SIG_IGN);
    CHECK(truncate(path, 2 * MIB) == 0);
    CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
    limit = (struct rlimit){3 * MIB, old.rlim_max};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_EQ(run(b, BLOCK_WRITE, 3 * MIB - 4096, 8192, buf, false), -EFBIG);
    CHECK_EQ(run(b, BLOCK_WRITE, 0, 8192, buf, false), 0);
    CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
    /* Cut short behind our back. */
    CHECK(truncate(path, 4096) == 0);
    CHECK_EQ(run(b, BLOCK_READ, 0, 8192, buf, false), -EIO);
    CHECK_EQ(run(b, BLOCK_READ, MIB, 512, buf, false), -EIO);
    CHECK_EQ(run(b, BLOCK_READ, 0, 4096, buf, false), 0);
    CHECK(truncate(path, IMAGE_BYTES) == 0);
    free(buf);
    block_close(b);
}

int main(void)
{
    static const enum block_engine engines[] = {BLOCK_ENGINE_AUTO, BLOCK_ENGINE_THREADS};
    AUTO_CLOSE int fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK(ftruncate(fd, IMAGE_BYTES) == 0);
    close(steal_fd(&fd));
    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
        data(engines[i], false);
        data(engines[i], true);
        errors(engines[i]);
    }
    struct block *b = open_image(true, BLOCK_ENGINE_AUTO);
    printf("engine: %s, physical sector: %u bytes\n", block_engine_name(b), block_physical_sector(b));
    CHECK_EQ(block_size(b), IMAGE_BYTES);
    CHECK(block_readonly(b));
    block_close(b);
    storage();
    refusals();
    locks();
    unlink(path);
    return 0;
}
