/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Consoles on Unix sockets: whoever connects gets what the guest wrote last, and then what it writes and can type.
 *
 * Invariants
 * - The sockets outlive machines: a reboot is seen by a client as output.
 * - Writing never waits: output goes into a ring of CHARSOCK_RING bytes, from which the main thread serves each client at the
 * client's own speed. A client that falls behind by more than the ring misses what was overwritten.
 */
#ifndef LODGE_MACHINE_CHARSOCK_H
#define LODGE_MACHINE_CHARSOCK_H

#include "base/error.h"
#include "base/pollset.h"
#include "devices/chardev.h"
#include "model/domain.h"

#define CHARSOCK_RING    65536u /* bytes */
#define CHARSOCK_CLIENTS 4      /* of one console */

struct charsock;

/* Listens for each console of the domain with the back end DOMAIN_CHAR_UNIX. 0, or -1 with err. */
int charsock_open(const struct domain *d, struct charsock **out, struct error *err);
void charsock_close(struct charsock *s);
/* What the console `index` is given. */
struct chardev charsock_chardev(struct charsock *s, unsigned index);
/* Who gets input: returns the bytes that were taken. NULL: nobody, and input waits. */
void charsock_attach(struct charsock *s, size_t (*input)(void *opaque, unsigned index, const void *buf, size_t len), void *opaque);
/* The path of the console's terminal in /dev/pts, which is served as a client is while somebody has it open. NULL: it has none. */
const char *charsock_terminal(const struct charsock *s, unsigned index);
/* Around each poll(), on the main thread. */
void charsock_prepare(struct charsock *s, struct pollset *p);
void charsock_dispatch(struct charsock *s, struct pollset *p);

#endif
