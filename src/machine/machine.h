/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine made from a struct domain: board, CPUs, devices, kernel. It runs once; a reboot is a new machine from the same domain.
 */
#ifndef LODGE_MACHINE_MACHINE_H
#define LODGE_MACHINE_MACHINE_H

#include <stdio.h>

#include "base/error.h"
#include "machine/board.h"
#include "machine/terminal.h"
#include "model/domain.h"

struct machine;
struct vballoon;

/* `d` and `t` outlive the machine; `t` has been given nobody. 0, or -1 with err; then nothing is left. */
int machine_create(const struct domain *d, enum domain_accel accel, struct terminal *t, struct machine **out, struct error *err);
/* Runs it on this thread's loop until it ends. `signal_fd` is a signalfd of the signals that end it, and SIGWINCH. */
int machine_run(struct machine *m, int signal_fd, struct error *err);
void machine_destroy(struct machine *m);

/* After machine_run(): why it ended, and the value or signal that belongs to it. */
enum board_end machine_end(const struct machine *m, int *code);
/* Of END_FAILED. */
const char *machine_failure(const struct machine *m);
/*
 * Of END_RESET: what the guest was when it reset the machine. A kernel without a driver for the panic device cannot say that it
 * panicked, but the interrupt controllers do: Linux's panic leaves the IOAPIC alone and switches all local APICs off; an orderly
 * reboot masks the IOAPIC and leaves a local APIC on for the firmware; other systems leave both on.
 */
enum machine_reset {
    RESET_ORDERLY,
    RESET_CRASHED, /* IOAPIC in use, local APICs off */
    RESET_EARLY,   /* neither was ever set up: started again, the guest would only come here again */
};
enum machine_reset machine_reset(const struct machine *m);
/* What the accelerator has counted, after machine_run(). */
void machine_print_stats(const struct machine *m, FILE *out);
/* The guest's balloon, for the monitor; NULL: it has none. */
struct vballoon *machine_balloon(const struct machine *m);
/* Which accelerator it runs on. */
enum domain_accel machine_accel(const struct machine *m);

#endif
