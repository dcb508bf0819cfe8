// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What NBD clients send. An input is all the bytes of one connection, from the handshake's flags on; they go through a socket to the server, which exports
 * a small qcow2 image with a bitmap. The server must not crash, must answer in well-formed messages, and must be done when the client is; the image must be
 * whole afterwards. Bit 0 of the first byte makes the export read-only and is not sent.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/log.h"
#include "base/util.h"
#include "block/nbd_server.h"
#include "block/qcow2.h"

#define DISK     (MIB + 512)
#define FILE_MAX MIB

static struct {
    struct io_loop *loop;
    int fd, quit[2], listen;
    struct sockaddr_un address;
    socklen_t address_len;
    char path[64];
    uint8_t base[FILE_MAX];
    size_t len;
} t;

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "nbd_fuzz: %s\n", what);
    abort();
}

static void prepare(void)
{
    ERROR_SCOPED(err);
    struct image *im = NULL;
    if (t.loop)
        return;
    log_set_level(LOG_ERROR);
    t.fd = memfd_create("image", 0);
    snprintf(t.path, sizeof t.path, "/proc/self/fd/%d", t.fd);
    must(t.fd >= 0 && pipe(t.quit) == 0 && io_loop_create(BLOCK_ENGINE_THREADS, &t.loop, &err) == 0, "no descriptors");
    struct image_new n = {.path = t.path, .size = DISK, .replace = true, .options = {{"cluster_size", "4096"}}, .noptions = 1};
    struct image_options o = {.path = t.path, .format = "qcow2", .what = "image"};
    must(image_create_new(t.loop, "qcow2", &n, &err) == 0 && image_open(t.loop, &o, &im, &err) == 0, "no image");
    must(qcow2_bitmap_add(im, "map", 16, true, &err) == 0 && image_close(im) == 0, "no bitmap");
    ssize_t got = pread(t.fd, t.base, sizeof t.base, 0);
    must(got > 0 && got < (ssize_t)sizeof t.base, "no bytes of the image");
    t.len = (size_t)got;
    /* A name of the kernel's choice in the abstract name space. */
    t.address.sun_family = AF_UNIX;
    t.address_len = sizeof t.address;
    t.listen = socket(AF_UNIX, SOCK_STREAM, 0);
    must(bind(t.listen, (struct sockaddr *)&t.address, sizeof(sa_family_t)) == 0 && listen(t.listen, 4) == 0, "no socket");
    must(getsockname(t.listen, (struct sockaddr *)&t.address, &t.address_len) == 0, "no address");
}

/* ---- the client ---- */

struct client {
    int fd;
    const uint8_t *in;
    size_t n, sent, got;
    uint8_t *out; /* the first OUT_MAX bytes of what the server says */
};
#define OUT_MAX (4 * MIB)

static void *converse(void *arg)
{
    struct client *c = arg;
    uint8_t rest[65536];
    for (ssize_t got = 1; got > 0;) {
        struct pollfd p = {.fd = c->fd, .events = (short)(POLLIN | (c->sent < c->n ? POLLOUT : 0))};
        poll(&p, 1, -1);
        if (p.revents & POLLOUT) {
            ssize_t n = send(c->fd, c->in + c->sent, c->n - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            c->sent = n >= 0 ? c->sent + (size_t)n : errno == EAGAIN ? c->sent : c->n;
        }
        if (c->sent == c->n)
            shutdown(c->fd, SHUT_WR);
        if (!(p.revents & (POLLIN | POLLHUP | POLLERR)))
            continue;
        bool room = c->got + sizeof rest <= OUT_MAX;
        got = recv(c->fd, room ? c->out + c->got : rest, sizeof rest, MSG_DONTWAIT);
        c->got += room && got > 0 ? (size_t)got : 0;
        got = got < 0 && errno == EAGAIN ? 1 : got;
    }
    return NULL;
}

/* Walks over what the server has said as far as it can be told without the requests: up to an answer to EXPORT_NAME, or a simple reply. */
static void check_answers(const struct client *c)
{
    const uint8_t *p = c->out;
    size_t left = c->got;
    must(left >= 18 && memcmp(p, "NBDMAGICIHAVEOPT", 16) == 0, "no greeting");
    for (p += 18, left -= 18; left >= 20;) {
        bool option = nbd_get(p, 8) == 0x0003e889045565a9ull, chunk = nbd_get(p, 4) == 0x668e33efu;
        uint64_t len = nbd_get(p + 16, 4);
        if (!option && !chunk)
            return;
        must(!option || nbd_get(p + 12, 4) != 0, "a reply of no type");
        must(!chunk || nbd_get(p + 6, 2) < 6 || nbd_get(p + 6, 2) == 32769, "a chunk of no type");
        must(len <= NBD_REQUEST_MAX + 8, "an answer that is too long");
        if (len > left - 20)
            return; /* cut off when the client's end was reached */
        p += 20 + len;
        left -= 20 + len;
    }
}

/* ---- one input ---- */

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    static uint8_t out[OUT_MAX];
    ERROR_SCOPED(err);
    struct image *im;
    pthread_t thread;
    prepare();
    if (size < 1)
        return 0;
    must(ftruncate(t.fd, 0) == 0 && pwrite(t.fd, t.base, t.len, 0) == (ssize_t)t.len, "cannot write the image");
    struct image_options o = {.path = t.path, .format = "qcow2", .readonly = in[0] & 1, .what = "image"};
    must(image_open(t.loop, &o, &im, &err) == 0, "cannot open the image");
    im->file->no_sync = true;
    struct nbd_server s = {.image = im, .name = "disk", .readonly = in[0] & 1, .once = true, .bitmap = "map", .listen_fd = t.listen, .quit_fd = t.quit[0]};
    struct client c = {.fd = socket(AF_UNIX, SOCK_STREAM, 0), .in = in + 1, .n = size - 1, .out = out};
    must(connect(c.fd, (struct sockaddr *)&t.address, t.address_len) == 0, "cannot connect");
    must(pthread_create(&thread, NULL, converse, &c) == 0, "no thread");
    must(nbd_server_run(&s, &err) == 0 && s.nconns == 0, "the server has failed");
    pthread_join(thread, NULL);
    close(c.fd);
    check_answers(&c);
    struct image_check k = {0};
    must(qcow2_check(im, REPAIR_NONE, &k, &err) == 0 && k.corruptions == 0, "the image is corrupt");
    must(image_close(im) == 0, "cannot close the image");
    return 0;
}

#ifdef STANDALONE
#include "random.h"

static uint64_t number(unsigned bytes)
{
    static const uint64_t values[] = {0, 1, 2, 511, 512, 4096, 65536, DISK - 512, DISK, DISK + 1, 32 * MIB, 32 * MIB + 1, UINT32_MAX, INT64_MAX, UINT64_MAX - 511, UINT64_MAX};
    uint64_t v = next(3) ? next(DISK / 512) * 512ull : values[next(ARRAY_SIZE(values))];
    return bytes == 8 ? v : v & ((1ull << 8 * bytes) - 1);
}

static size_t put_option(uint8_t *p, uint32_t option, const void *data, uint32_t len, uint32_t said)
{
    memcpy(p, "IHAVEOPT", 8);
    nbd_put(p + 8, option, 4);
    nbd_put(p + 12, said, 4);
    memcpy(p + 16, data, len);
    return 16 + len;
}

/* u32 length, name, and what follows: few of them whole, most with a field that lies. */
static size_t random_option(uint8_t *p)
{
    static const char *const words[] = {"base:allocation", "qemu:dirty-bitmap:map", "qemu:", "base:", ""};
    uint8_t data[256];
    uint32_t n = 8, option = next(12);
    const char *word = words[next(ARRAY_SIZE(words))];
    if ((option == 1 || option == 2 || option == 7) && next(10)) /* few that end the handshake */
        option = 10;
    nbd_put(data, next(4) ? 4 : number(4), 4);
    memcpy(data + 4, "disk", 4);
    if (option == 9 || option == 10) {
        nbd_put(data + n, next(4) ? 1 : number(4), 4);
        nbd_put(data + n + 4, next(4) ? strlen(word) : number(4), 4);
        memcpy(data + n + 8, word, strlen(word));
        n += 8 + (uint32_t)strlen(word);
    } else if (option == 6 || option == 7) {
        nbd_put(data + n, next(4) ? 0 : number(2), 2);
        n += 2;
    } else if (next(4)) {
        n = 0;
    }
    return put_option(p, option, data, n, next(40) ? n : (uint32_t)number(4));
}

static size_t random_request(uint8_t *p)
{
    uint32_t type = next(9), len = next(type == 1 ? 16 : 4) ? next(16) * 512 : (uint32_t)number(4);
    nbd_put(p, next(60) ? 0x25609513u : number(4), 4);
    nbd_put(p + 4, next(3) ? 0 : next(32), 2);
    type = type == 2 && next(8) ? 0 : type; /* few goodbyes */
    nbd_put(p + 6, next(20) ? type : number(2), 2);
    nbd_put(p + 8, state, 8);
    nbd_put(p + 16, number(8), 8);
    nbd_put(p + 24, len, 4);
    size_t payload = type == 1 ? MIN(len, 16u * 512) : 0;
    memset(p + 28, (int)type + 7, payload);
    return 28 + payload;
}

static size_t random_input(uint8_t *in)
{
    size_t at = 5;
    in[0] = (uint8_t)(next(4) == 0);
    nbd_put(in + 1, next(20) ? 1 + 2 * next(2) : number(4), 4);
    if (next(4))
        at += put_option(in + at, 8, NULL, 0, 0);
    for (unsigned k = next(6); k; k--)
        at += random_option(in + at);
    at += put_option(in + at, 7, "\0\0\0\4disk\0\0", 10, 10);
    for (unsigned k = next(20); k; k--)
        at += random_request(in + at);
    if (next(4) == 0) /* a client may leave in the middle */
        return at - next(64) % at;
    nbd_put(in + at, 0x25609513u, 4);
    nbd_put(in + at + 4, 2, 4); /* goodbye */
    return at + 28;
}

int main(int argc, char **argv)
{
    static uint8_t in[256 * KIB];
    uint64_t runs = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000, seed = argc > 2 ? strtoull(argv[2], NULL, 0) : now_ns();
    printf("seed 0x%llx\n", (unsigned long long)seed);
    fflush(stdout);
    state = seed;
    for (uint64_t i = 0; i < runs; i++)
        LLVMFuzzerTestOneInput(in, random_input(in));
    io_loop_free(t.loop);
    return 0;
}
#endif
