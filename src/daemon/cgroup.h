/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Limits of what a guest's process may take of the host: a control group (cgroup v2) for each guest, UUID in a folder that was
 * given to the daemon. The daemon needs no rights beyond that folder, and makes no group elsewhere.
 */
#ifndef LODGE_DAEMON_CGROUP_H
#define LODGE_DAEMON_CGROUP_H

#include "model/domain.h"

/* Can groups with limits of memory be made in this folder? It has no processes of its own. 0, or -1 with err. */
int cgroup_open(const char *folder, struct error *err);
/* Makes a guest's group, if it is not there, and sets its limits. */
int cgroup_make(const char *folder, const uint8_t uuid[16], const struct domain_limits *l, struct error *err);
int cgroup_limit(const char *folder, const uint8_t uuid[16], const struct domain_limits *l, struct error *err);
/* A descriptor for a process that is to join: it writes 0 there. -1 with err. */
int cgroup_door(const char *folder, const uint8_t uuid[16], struct error *err);
void cgroup_remove(const char *folder, const uint8_t uuid[16]); /* when nobody is in it */

#endif
