/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection to a guest's QMP socket. The main thread reads it; workers send a command and wait for its answer, with a deadline:
 * a guest's process that does not answer fails that call and nothing else.
 */
#ifndef LODGE_DAEMON_MONITOR_H
#define LODGE_DAEMON_MONITOR_H

#include "base/json.h"
#include "daemon/daemon.h"

struct monitor;

/* Takes over `fd`; the domain's monitor from now on. `adopted`: the domain counts as running already. The caller gets
 * a reference; NULL with err. */
struct monitor *monitor_attach(struct dom *dom, int fd, bool adopted, struct error *err);
/* Until the process has told its number. -1 when it ends before, or does not come. */
int monitor_wait_ready(struct monitor *m, unsigned seconds, struct error *err);
bool monitor_is_dead(struct monitor *m);
/* A reference to the domain's monitor; NULL when it does not run. */
struct monitor *monitor_of(struct dom *dom);
void monitor_unref(struct monitor *m);
/* The answer's value, to be freed; NULL with err. */
json_t *monitor_ask(struct monitor *m, const char *command, const char *arguments, struct error *err);
/* Ends the process; it is gone and the domain knows it, when this returns 0. */
int monitor_end(struct monitor *m, bool graceful, struct error *err);
/* In process.c. */
void process_forget_run(struct dom *dom, int id);

#endif
