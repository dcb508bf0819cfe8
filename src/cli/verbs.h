/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs of `lodge`. Each gets the arguments behind it and returns the process's exit status; with 1, err may be set. */
#ifndef LODGE_CLI_VERBS_H
#define LODGE_CLI_VERBS_H

#include "base/error.h"

int verb_image(int argc, char **argv, struct error *err);
int verb_relay(int argc, char **argv, struct error *err);
int verb_run(int argc, char **argv, struct error *err);

#endif
