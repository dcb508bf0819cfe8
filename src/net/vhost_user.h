/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The front end of vhost-user: a back end that is another process. It maps the guest's memory by its descriptor, and is told the rest
 * over a Unix socket, at which it listens.
 *
 * The back end is trusted with the guest's memory, but not with this process: its answers are checked, and one that is not whole
 * within VHOST_USER_WAIT_S ends the connection.
 */
#ifndef LODGE_NET_VHOST_USER_H
#define LODGE_NET_VHOST_USER_H

#include "net/vhost_back.h"

#define VHOST_USER_WAIT_S 20 /* seconds for an answer */

/* Not connected yet; NULL when memory is out. */
struct vhost_back *vhost_user_create(const char *path);

#endif
