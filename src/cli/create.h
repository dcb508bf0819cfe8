/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `lodge create`: what the table of verbs needs of it. */
#ifndef LODGE_CLI_CREATE_H
#define LODGE_CLI_CREATE_H

#include "cli/options.h"
#include "cli/session.h"

int manage_create(struct session *s, int argc, char **argv, struct error *err);
void create_options(void); /* prints them */
const struct option_row *create_option_rows(void);

#endif
