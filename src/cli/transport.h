/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ways to a daemon that is not behind a socket of this host. `text` is the URI, for errors. 0, or -1 with err. */
#ifndef LODGE_CLI_TRANSPORT_H
#define LODGE_CLI_TRANSPORT_H

#include "cli/uri.h"
#include "rpc/client.h"

#define SYSTEM_SOCKET "/run/libvirt/libvirt-sock" /* of qemu:///system, on any host */

/* By a program whose standard input and output are the connection: ssh(1), or the one that ?command= names. */
int transport_ssh(const struct uri *uri, const char *text, struct rpc_client **c, struct error *err);
int transport_ext(const struct uri *uri, const char *text, struct rpc_client **c, struct error *err);
/* By TCP, without and with TLS. */
int transport_tcp(const struct uri *uri, const char *text, struct rpc_client **c, struct error *err);
int transport_tls(const struct uri *uri, const char *text, struct rpc_client **c, struct error *err);

#endif
