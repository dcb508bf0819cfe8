/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The terminal (or pipe) that lodge-vm was started on, as the back end of the guest's console.
 *
 * Invariants
 * - A terminal on standard input is in raw mode between terminal_open() and terminal_close(), and gets its old mode back whatever
 * ends the process: a child of a few pages waits for that, holding nothing but the terminal.
 * - Output is buffered and written by the main thread. Devices write under the device lock, which the main thread needs, too: so
 * writing never waits, and drops what finds no room. Threads that hold no lock (CPUs between two entries, a console's own) call
 * chardev.wait, which waits while much of it is pending: no output is lost, and a guest is as fast as its terminal.
 * - Ctrl-A begins a command, Ctrl-A Ctrl-A is a Ctrl-A for the guest.
 */
#ifndef LODGE_MACHINE_TERMINAL_H
#define LODGE_MACHINE_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pollset.h"
#include "devices/chardev.h"

enum terminal_command { TERMINAL_QUIT, TERMINAL_POWER, TERMINAL_BREAK, TERMINAL_HANGUP };

struct terminal_ops {
    /* Input for the guest: bytes taken. When fewer than `len`, chardev.input_ready must follow. */
    size_t (*input)(void *opaque, const void *buf, size_t len);
    void (*command)(void *opaque, enum terminal_command command);
    void *opaque;
};

struct terminal;

/* Before any thread: it forks. 0, or -1 with err. */
int terminal_open(struct terminal **out, struct error *err);
/* Writes what is left of the output, for at most two seconds. The main thread. */
void terminal_flush(struct terminal *t);
/* Flushes, and restores the terminal. */
void terminal_close(struct terminal *t);
/* What the guest's console is given; it writes from any thread. */
struct chardev terminal_chardev(struct terminal *t);
/* From now on (or not) nobody waits for room: the machine is being stopped. */
void terminal_release(struct terminal *t, bool release);
/* Who gets input and commands; NULL: nobody, and input waits. */
void terminal_attach(struct terminal *t, const struct terminal_ops *ops);
/* The terminal's size; -1 when it has none. */
int terminal_size(const struct terminal *t, uint16_t *cols, uint16_t *rows);

/* The main thread's loop: around each poll(). Calls the ops. */
void terminal_prepare(struct terminal *t, struct pollset *p);
void terminal_dispatch(struct terminal *t, struct pollset *p);

#endif
