/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of small files in one folder, each durable by a single write: a file is written beside its place, the change is appended
 * to the journal and synced, and the file is renamed into its place without a sync of its own.
 *
 *     FOLDER/journal   1 page: magic, epoch, the boot in which it was written, CRC; then records of that epoch:
 *                      magic, CRC of what follows, epoch, operation, lengths, the file's name, its text; padded to 8 bytes
 *
 * Whether the daemon is killed or the power cut, a file is there as it was before the change or after it. What the kernel had not
 * written when the power was cut is done again from the journal at the next start, when the boot is another one; in the same boot
 * the files are right as they are, and a person may have changed them.
 */
#ifndef LODGE_DAEMON_JOURNAL_H
#define LODGE_DAEMON_JOURNAL_H

#include <stddef.h>

#include "base/error.h"

struct journal;

/* Does again what a power cut has undone. NULL with err. */
struct journal *journal_open(const char *folder, struct error *err);
/* Durable when they return 0. Any thread. */
int journal_write(struct journal *j, const char *name, const char *text, size_t len, struct error *err);
int journal_remove(struct journal *j, const char *name, struct error *err); /* 0 also where there is no such file */

#endif
