// SPDX-License-Identifier: GPL-2.0-or-later
/* vsock: connections both ways, data with credit, endings, and a guest that keeps to no rule. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "devices/virtio/vsock_internal.h"
#include "modes.h"

#define RX    0
#define TX    1
#define CID   7
#define RXLEN 4096u
#define BUFS  8

static struct drv d;
static uint64_t rx, tx;
static uint16_t rx_of[DRV_SIZE];
static char path[64], path_99[80];

static void post(unsigned i)
{
    uint16_t id = drv_add(&d, RX, &(struct drv_buf){rx + i * RXLEN, RXLEN, true}, 1);
    rx_of[id] = (uint16_t)i;
    drv_kick(&d, RX);
}

/* The next packet from the host; its data in `data`. */
static struct vsock_header next_packet(uint8_t *data)
{
    struct vsock_header h;
    uint16_t id;
    uint32_t len;
    CHECK(drv_wait(&d, RX, &id, &len));
    const uint8_t *p = rig_at(d.rig, rx + rx_of[id] * RXLEN);
    memcpy(&h, p, sizeof h);
    CHECK_EQ(len, sizeof h + h.len);
    CHECK(h.src_cid == 2 && h.dst_cid == CID && h.type == 1);
    if (data)
        memcpy(data, p + sizeof h, h.len);
    post(rx_of[id]);
    return h;
}

static void send_packet(struct vsock_header h, const void *data, uint32_t len)
{
    h.src_cid = h.src_cid ? h.src_cid : CID;
    h.dst_cid = h.dst_cid ? h.dst_cid : 2;
    h.type = h.type ? h.type : 1;
    memcpy(rig_at(d.rig, tx), &h, sizeof h);
    if (len)
        memcpy(rig_at(d.rig, tx + 100), data, len);
    struct drv_buf bufs[] = {{tx, 20, false}, {tx + 20, sizeof h - 20, false}, {tx + 100, len, false}};
    drv_do(&d, TX, bufs, 3);
}

static int dial(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    return fd;
}

static void read_exactly(int fd, void *buf, size_t len)
{
    CHECK_EQ(recv(fd, buf, len, MSG_WAITALL), len);
}

static void from_host(void)
{
    char line[32];
    static uint8_t data[RXLEN], out[20000], in[20000];
    int fd = dial();
    CHECK(send(fd, "CONNECT 1234\nearly", 18, 0) == 18);
    struct vsock_header h = next_packet(NULL), reply = {.src_port = 1234, .dst_port = h.src_port, .op = VSOCK_RESPONSE, .buf_alloc = 10000};
    CHECK(h.op == VSOCK_REQUEST && h.dst_port == 1234 && h.buf_alloc == VSOCK_BUFFER);
    send_packet(reply, NULL, 0);
    int n = snprintf(line, sizeof line, "OK %u\n", h.src_port);
    read_exactly(fd, in, (size_t)n);
    CHECK(memcmp(in, line, (size_t)n) == 0);
    h = next_packet(data);
    CHECK(h.op == VSOCK_RW && h.len == 5 && memcmp(data, "early", 5) == 0);
    /* The guest has 10000 bytes of room: no more comes until it says so. */
    for (unsigned i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i * 13 >> 1);
    CHECK(send(fd, out, sizeof out, 0) == sizeof out);
    uint32_t got = 0;
    while (got < 10000 - 5) {
        h = next_packet(in + got);
        CHECK(h.op == VSOCK_RW);
        got += h.len;
    }
    CHECK_EQ(got, 10000 - 5);
    reply.op = VSOCK_CREDIT_UPDATE;
    reply.fwd_cnt = 10000;
    while (got < sizeof out) {
        send_packet(reply, NULL, 0);
        reply.fwd_cnt += 10000;
        for (uint32_t part = 0; part < 10000 && got < sizeof out; part += h.len) {
            h = next_packet(in + got);
            CHECK(h.op == VSOCK_RW);
            got += h.len;
        }
    }
    CHECK(memcmp(in, out, sizeof out) == 0);
    /* Back, and the end. */
    reply.op = VSOCK_RW;
    reply.fwd_cnt = sizeof out + 5;
    reply.len = 1000;
    send_packet(reply, out, 1000);
    read_exactly(fd, in, 1000);
    CHECK(memcmp(in, out, 1000) == 0);
    close(fd);
    h = next_packet(NULL);
    CHECK(h.op == VSOCK_SHUTDOWN || h.op == VSOCK_RST);
    reply.op = VSOCK_RST;
    reply.len = 0;
    send_packet(reply, NULL, 0);
}

static void from_guest(int listener)
{
    uint8_t data[64];
    struct vsock_header h = {.src_port = 5000, .dst_port = 98, .op = VSOCK_REQUEST, .buf_alloc = 4096};
    send_packet(h, NULL, 0);
    CHECK_EQ(next_packet(NULL).op, VSOCK_RST); /* nobody listens */
    h.dst_port = 99;
    send_packet(h, NULL, 0);
    CHECK_EQ(next_packet(NULL).op, VSOCK_RESPONSE);
    int fd = accept(listener, NULL, NULL);
    CHECK(fd >= 0);
    h.op = VSOCK_RW;
    h.len = 4;
    send_packet(h, "ping", 4);
    read_exactly(fd, data, 4);
    CHECK(send(fd, "pong", 4, 0) == 4);
    CHECK(next_packet(data).op == VSOCK_RW && memcmp(data, "pong", 4) == 0);
    h.op = VSOCK_SHUTDOWN;
    h.len = 0;
    h.flags = 3;
    send_packet(h, NULL, 0);
    CHECK_EQ(next_packet(NULL).op, VSOCK_RST);
    CHECK_EQ(recv(fd, data, 1, 0), 0);
    close(fd);
}

static void hostile(int listener)
{
    static uint8_t big[VSOCK_BUFFER];
    static const struct vsock_header wrong[] = {
        {.src_port = 1, .dst_port = 2, .op = VSOCK_RW},       {.src_port = 1, .dst_port = 2, .op = 77},
        {.src_port = 1, .dst_port = 99, .op = VSOCK_RESPONSE}, {.src_port = 1, .dst_port = 99, .op = VSOCK_REQUEST, .type = 9},
        {.src_port = 1, .dst_port = 99, .op = VSOCK_REQUEST, .dst_cid = 5},
    };
    struct vsock_header h;
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        uint16_t id;
        uint32_t len;
        send_packet(wrong[i], NULL, 0);
        CHECK(drv_wait(&d, RX, &id, &len));
        memcpy(&h, rig_at(d.rig, rx + rx_of[id] * RXLEN), sizeof h);
        CHECK(h.op == VSOCK_RST && h.dst_port == 1);
        post(rx_of[id]);
    }
    /* More than there is room for ends the connection; so does a length that the packet does not have. */
    for (unsigned round = 0; round < 2; round++) {
        h = (struct vsock_header){.src_port = 6000 + round, .dst_port = 99, .op = VSOCK_REQUEST};
        send_packet(h, NULL, 0);
        CHECK_EQ(next_packet(NULL).op, VSOCK_RESPONSE);
        int fd = accept(listener, NULL, NULL), size = 4096;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        h.op = VSOCK_RW;
        h.len = round ? 5000 : 16384;
        unsigned sent = 0;
        do
            send_packet(h, big, round ? 100 : 16384);
        while (!round && ++sent < 40 && !(poll(&(struct pollfd){.fd = fd, .events = POLLRDHUP}, 1, 0) > 0));
        do
            h = next_packet(NULL);
        while (h.op == VSOCK_CREDIT_UPDATE);
        CHECK_EQ(h.op, VSOCK_RST);
        close(fd);
    }
    /* As many connections as there may be, and programs that speak nonsense. */
    int fds[3];
    for (unsigned i = 0; i < 3; i++)
        fds[i] = dial();
    CHECK(send(fds[0], "HELLO\n", 6, 0) == 6);
    CHECK(send(fds[1], "CONNECT 99999999999999999999999999999999999999\n", 47, 0) == 47);
    uint8_t byte;
    CHECK(recv(fds[0], &byte, 1, 0) <= 0 && recv(fds[1], &byte, 1, 0) <= 0);
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
    struct rnd r = {42};
    for (unsigned i = 0; i < 3000; i++) {
        h = (struct vsock_header){.src_port = 1 + rnd_below(&r, 300), .dst_port = 98 + rnd_below(&r, 2), .op = (uint16_t)rnd_below(&r, 9),
                                  .len = rnd_below(&r, 50), .buf_alloc = rnd_below(&r, 5000), .flags = rnd_below(&r, 4)};
        send_packet(h, big, rnd_below(&r, 60));
        uint16_t id;
        uint32_t len;
        while (drv_take(&d, RX, &id, &len))
            post(rx_of[id]);
    }
    CHECK_EQ(drv_read(&d, DRV_STATUS, 1) & 64, 0);
}

static void test_mode(const struct mode *m, int listener)
{
    struct rig r;
    struct vsock *s;
    ERROR_SCOPED(err);
    rig_init(&r);
    CHECK(vsock_create(r.pci, &(struct vsock_config){3, 2, path}, &s, &err) < 0);
    error_clear(&err);
    CHECK(vsock_create(r.pci, &(struct vsock_config){3, CID, path}, &s, &err) == 0);
    CHECK(pci_host_assign(r.pci, &err) == 0);
    drv_find(&d, &r, PCI_DEVFN(3, 0), m->msix, 0);
    CHECK_EQ(rig_read(&r, BUS_MMIO, d.device, 4), CID);
    drv_start(&d, m->features, 3, MIN(m->size, 64));
    rx = rig_alloc(&r, BUFS * RXLEN, 16);
    tx = rig_alloc(&r, 70000, 16);
    for (unsigned i = 0; i < BUFS; i++)
        post(i);
    from_host();
    from_guest(listener);
    hostile(listener);
    vsock_destroy(s);
    CHECK(access(path, F_OK) < 0);
    rig_free(&r);
    /* What the guest's noise connected to is left at the listener. */
    for (int fd; poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, 0) > 0 && (fd = accept(listener, NULL, NULL)) >= 0;)
        close(fd);
}

int main(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(path, sizeof path, "/tmp/lodge-vsock-%d", (int)getpid());
    snprintf(path_99, sizeof path_99, "%s_99", path);
    strcpy(a.sun_path, path_99);
    unlink(path_99); /* of a process that ended too soon */
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 64) == 0);
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++)
        test_mode(&modes[i], listener);
    close(listener);
    unlink(path_99);
    return 0;
}
