/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections by libvirt's URIs: DRIVER[+TRANSPORT]://[USER@][HOST][:PORT]/PATH[?PARAMETERS]. lodge(1) lists what there is. */
#ifndef LODGE_CLI_CONNECT_H
#define LODGE_CLI_CONNECT_H

#include "rpc/client.h"

/* Connects, authenticates and opens. 0, or -1 with err. */
int connect_uri(const char *uri, struct rpc_client **c, struct error *err);

#endif
