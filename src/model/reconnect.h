/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <reconnect enabled='yes' timeout='SECONDS'/>, below the <source> of a vhost-user device. */
#ifndef LODGE_MODEL_RECONNECT_H
#define LODGE_MODEL_RECONNECT_H

#include "model/xml.h"

#define RECONNECT_ATTRS "enabled! timeout"
#define RECONNECT_MAX   3600u /* seconds */

/* Seconds between two attempts; 0: none are made. */
int reconnect_take(const struct xml_node *node, unsigned *seconds, struct error *err);
/* The <source>, and what is in it. */
void reconnect_put_source(FILE *out, const char *attrs_before, const char *path, const char *attrs_after, unsigned seconds);

#endif
