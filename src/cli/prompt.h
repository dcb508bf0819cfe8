/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verbs that are typed at a prompt, or come line by line on standard input. */
#ifndef LODGE_CLI_PROMPT_H
#define LODGE_CLI_PROMPT_H

#include "cli/session.h"

/* With a terminal, until `quit`, and errors are shown and forgotten. Otherwise a script, which its first error ends. Exit status,
 * with err when it is not 0. */
int prompt_run(struct session *s, struct error *err);

/* In lodge.c: one command, argv[0] is the verb. Exit status, with err when it is not 0. */
int run_verb(struct session *s, int argc, char **argv, struct error *err);

#endif
