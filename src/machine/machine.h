/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine made from a struct domain: board, CPUs, devices, kernel. It runs once; a reboot is a new machine from the same domain.
 */
#ifndef LODGE_MACHINE_MACHINE_H
#define LODGE_MACHINE_MACHINE_H

#include <stdio.h>

#include "base/error.h"
#include "machine/board.h"
#include "machine/charsock.h"
#include "machine/terminal.h"
#include "model/domain.h"

struct machine;
struct vballoon;
struct net_stats;

/* `d`, `t` and `sockets` outlive the machine; `d` changes with what is attached and detached; `t` has been given nobody. 0, or -1 with err; then nothing is left. */
int machine_create(struct domain *d, enum domain_accel accel, struct terminal *t, struct charsock *sockets, struct machine **out, struct error *err);
/*
 * What else the machine's loop serves: called around each poll(), on the thread of machine_run(). Everything below may be called from
 * there.
 */
struct machine_watch {
    void (*prepare)(void *opaque, struct pollset *p);
    void (*dispatch)(void *opaque, struct pollset *p);
    /* A device that was asked for has gone; `disk` was its number, or it is -1. */
    void (*detached)(void *opaque, const char *name, int disk);
    void *opaque;
};
void machine_set_watch(struct machine *m, const struct machine_watch *watch);
/* Takes the CPUs out of the guest and keeps them there; devices finish what they have begun. */
void machine_pause(struct machine *m);
void machine_resume(struct machine *m);
/* Hot plug (hotplug.h): attaches the one disk or interface of `from`; asks the guest to give one back. 0, or -1 with err. */
int machine_attach(struct machine *m, struct domain *from, struct error *err);
int machine_detach(struct machine *m, const char *name, struct error *err);
/* Before machine_run(): the CPUs wait for machine_resume() before their first instruction. */
void machine_start_paused(struct machine *m);
bool machine_paused(const struct machine *m);
void machine_power_button(struct machine *m);
/* Ends the machine as board_end() does. */
void machine_stop(struct machine *m, enum board_end end, int code);
/* The host thread of a CPU, 0 before it runs. */
pid_t machine_cpu_tid(struct machine *m, unsigned cpu);
/* NULL without a medium. */
const struct block_stats *machine_disk_stats(const struct machine *m, unsigned disk);
/* What a network card has carried; false: there is none, or it is not known. */
bool machine_net_stats(const struct machine *m, unsigned iface, struct net_stats *s);
/* The path of a console's terminal; NULL: it has none. */
const char *machine_char_terminal(const struct machine *m, unsigned index);
/* An eventfd that is readable after a disk's request failed. */
int machine_disk_error_fd(const struct machine *m);
/* The errno value of the request that a disk keeps, and paused the machine for; 0: none. machine_resume() tries it again. */
int machine_disk_stopped(const struct machine *m, unsigned disk);
uint64_t machine_disk_size(const struct machine *m, unsigned disk); /* bytes */

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
