/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <disk type='network'>: an image that a server has. As a URL it is a name that the block layer opens (docs/formats.md, "Disks on servers"). */
#ifndef LODGE_MODEL_NETDISK_H
#define LODGE_MODEL_NETDISK_H

#include <stdbool.h>
#include <stdio.h>

#include "model/xml.h"

enum netdisk_protocol { NETDISK_NBD, NETDISK_ISCSI, NETDISK_HTTP, NETDISK_HTTPS };

/* Strings are owned, not escaped; NULL: not given. */
struct netdisk {
    enum netdisk_protocol protocol;
    bool tls;     /* of NBD */
    char *name;   /* NBD's export, iSCSI's TARGET/LUN, the path of a URL without its first slash */
    char *query;  /* of a URL, as it stands there */
    char *host, *socket;
    unsigned port; /* 0: the protocol's own */
};

bool netdisk_is_url(const char *name); /* does it begin as one of ours? */
/* 0, or -1 with err that names the URL. Frees what was there before. */
int netdisk_parse(struct netdisk *n, const char *url, struct error *err);
/* To be freed; NULL without memory. */
char *netdisk_url(const struct netdisk *n);
void netdisk_free(struct netdisk *n);

int netdisk_take_source(struct netdisk *n, const struct xml_node *node, struct error *err);
int netdisk_take_host(struct netdisk *n, const struct xml_node *node, struct error *err);
/* What a protocol needs, and no more. `number`: of the disk, for the error. */
int netdisk_check(const struct netdisk *n, unsigned number, struct error *err);
void netdisk_put(FILE *out, const struct netdisk *n);

#endif
