// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge image serve`: an image as an NBD export. */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "base/unix.h"
#include "base/util.h"
#include "block/nbd_server.h"
#include "cli/image.h"

#define BACKLOG 16

static int listen_unix(const char *path, struct error *err)
{
    int fd = unix_listen(path, 0, 0777, BACKLOG);
    if (fd < 0)
        return error_set(err, errno, "socket '%s': cannot listen: %s; %s", path, unix_strerror(errno),
                         errno == EADDRINUSE ? "remove it if no server uses it" : "check the folder that it is to be in");
    return fd;
}

/* "PORT", "HOST:PORT", "[V6]:PORT"; without a host only this one can connect. */
static int listen_tcp(char *address, struct error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    char *colon = strrchr(address, ':'), *host = address, *port = colon ? colon + 1 : address;
    int on = 1, e;
    if (colon)
        *colon = 0;
    if (colon && host[0] == '[' && colon > host && colon[-1] == ']') {
        host++;
        colon[-1] = 0;
    }
    if ((e = getaddrinfo(colon ? host : "localhost", port, &hints, &found)) != 0)
        return error_set(err, 0, "address '%s': cannot be found: %s; give HOST:PORT or PORT", address, gai_strerror(e));
    AUTO_CLOSE int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    bool ok = fd >= 0 && bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
    e = errno;
    freeaddrinfo(found);
    return ok ? steal_fd(&fd) : error_set(err, e, "address '%s': cannot listen on port %s: %s; use another", address, port, strerror(e));
}

static int quit_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static int serve(struct image_args *a, struct nbd_server *s, struct error *err)
{
    AUTO_CLOSE int listener = a->socket ? listen_unix(a->socket, err) : listen_tcp(a->tcp, err);
    AUTO_CLOSE int quit = quit_signals();
    if (listener < 0)
        return -1;
    s->listen_fd = listener;
    s->quit_fd = quit;
    if (!a->quiet) {
        printf("Serving '%s' on %s.\n", a->argv[0], a->socket ? a->socket : "TCP");
        fflush(stdout);
    }
    int ret = nbd_server_run(s, err);
    if (a->socket)
        unlink(a->socket);
    return ret;
}

int image_serve(struct image_args *a, struct error *err)
{
    struct nbd_server s = {.name = a->export ? a->export : "", .readonly = a->readonly, .once = a->once, .bitmap = a->bitmap};
    if (!a->socket == !a->tcp)
        return error_set(err, 0, "image verb 'serve': wants --socket PATH or --tcp [HOST:]PORT");
    if (strlen(s.name) > NBD_STRING_MAX || (s.bitmap && strlen(s.bitmap) > QCOW2_BITMAP_NAME_MAX))
        return error_set(err, 0, "image verb 'serve': a name is longer than the protocol allows; use a shorter one");
    if ((a->tls_certificates || a->tls_psk) && !(s.tls = nbd_tls_new(a->tls_certificates, a->tls_psk, err)))
        return -1;
    int ret = image_args_open(a, a->argv[0], a->format, a->readonly, &s.image, err);
    if (ret == 0 && s.bitmap && (ret = image_need_qcow2(s.image, "bitmaps", err)) == 0)
        ret = qcow2_bitmap_check(s.image, s.bitmap, err);
    if (ret == 0)
        ret = serve(a, &s, err);
    int closed = image_close(s.image);
    if (ret == 0 && closed < 0)
        ret = error_set(err, -closed, "image '%s': cannot be written back: %s; check the disk that holds it", a->argv[0], strerror(-closed));
    nbd_tls_free(s.tls);
    return ret;
}
