/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a word of the command line can become: for the prompt, and for shells by `lodge complete`. */
#ifndef LODGE_CLI_COMPLETE_H
#define LODGE_CLI_COMPLETE_H

#include <stddef.h>

#include "cli/session.h"

struct candidates {
    char **words; /* owned, as the array is */
    size_t n, cap;
    bool files; /* names of files are wanted */
};

/*
 * Candidates for the last of `argv`, which may be empty; before it stand the words behind `lodge`. Names of objects are asked of a
 * daemon of this host, or of the one that the session is connected to: nobody types a password for a completion.
 */
void complete(struct session *s, int argc, char *const *argv, struct candidates *out);
void candidates_free(struct candidates *c);
/* Prints them, one on a line; for files, a single line "/". */
int complete_print(struct session *s, int argc, char **argv);

#endif
