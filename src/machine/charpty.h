/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A console's pseudo-terminal, beside its socket: for programs that want a device in /dev/pts.
 *
 * A terminal has no connection that one could accept: what is written while nobody has it open would lie there, stale, for whoever
 * comes next. So the kernel tells of opens and closes (inotify(7)), and it is served only between them. An end of our own stays
 * open, so that the other programs' last close is no hang-up.
 */
#ifndef LODGE_MACHINE_CHARPTY_H
#define LODGE_MACHINE_CHARPTY_H

#include <stdbool.h>

#include "base/pollset.h"

struct charpty;

/* NULL with errno where there are no pseudo-terminals. */
struct charpty *charpty_open(void);
void charpty_close(struct charpty *t); /* NULL is allowed */
const char *charpty_path(const struct charpty *t);
int charpty_fd(const struct charpty *t); /* does not wait */

void charpty_prepare(struct charpty *t, struct pollset *set);
/* Takes what the kernel has told. Somebody has it open; *anew: and has just opened it. */
bool charpty_dispatch(struct charpty *t, struct pollset *set, bool *anew);

#endif
