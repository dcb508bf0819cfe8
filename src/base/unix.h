/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stream sockets that have a path (unix(7)). They are close-on-exec; whoever gets one closes it. */
#ifndef LODGE_BASE_UNIX_H
#define LODGE_BASE_UNIX_H

#include <sys/socket.h>
#include <sys/un.h>

/* 0, or -1 with errno ENAMETOOLONG. */
int unix_address(const char *path, struct sockaddr_un *a);

/* `flags`: SOCK_NONBLOCK or 0. `limit_s`: seconds that connecting, sending and receiving may take each, 0 for any number. The
 * socket, or -1 with errno. */
int unix_connect(const char *path, int flags, unsigned limit_s);

/* A file that the umask makes no more than `mode`. What is at `path` must be gone. The socket, or -1 with errno. */
int unix_listen(const char *path, int flags, unsigned mode, int backlog);

/* strerror() for these functions' errno. */
const char *unix_strerror(int errnum);

#endif
