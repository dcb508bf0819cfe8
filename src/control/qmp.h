/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP: the machine protocol that QEMU's managers speak, on a Unix socket of the guest's process (docs/qmp.md).
 *
 * The server runs on the main thread, between two polls of the machine's loop: a command never races with the machine, and takes no
 * lock. It outlives machines: a reboot is a new machine behind the same socket. A client is hostile: lines, answers that it does
 * not read, and the number of clients are bounded, and whoever exceeds a bound is disconnected.
 */
#ifndef LODGE_CONTROL_QMP_H
#define LODGE_CONTROL_QMP_H

#include <stdio.h>

#include "base/json.h"
#include "machine/machine.h"
#include "model/domain.h"

struct qmp;

/* Listens on "unix:PATH", or takes "fd:NUMBER", a socket that does. 0, or -1 with err. `d` outlives the server. */
int qmp_open(const char *address, const struct domain *d, struct qmp **out, struct error *err);
void qmp_close(struct qmp *q);
/* The machine that commands are for; NULL between two machines. Its loop serves the clients. */
void qmp_set_machine(struct qmp *q, struct machine *m);
/* Sends an event to every client that has negotiated. `data` is a JSON object. All of this takes a NULL q. */
void qmp_event(struct qmp *q, const char *name, const char *data_format, ...) __attribute__((format(printf, 3, 4)));
/* Did a client ask that the next power-off be a reboot (x-reboot)? Asking forgets it. */
bool qmp_take_reboot(struct qmp *q);

/* ---- for commands ---- */

struct qmp_command {
    const char *name;
    const char *args; /* names that it knows, separated by spaces, '!' after a required one; NULL for none */
    /* Writes the answer's value, if it is other than {}. 0, or -1 with err. */
    int (*run)(struct qmp *q, const json_t *args, FILE *answer, struct error *err);
};
extern const struct qmp_command qmp_commands[]; /* ends with a NULL name; docs/qmp.md lists them */

struct machine *qmp_machine(struct qmp *q); /* not NULL while a command runs */
const struct domain *qmp_domain(const struct qmp *q);
void qmp_ask_reboot(struct qmp *q);

#endif
