/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs that talk to a daemon: list, define, start, …; argv[-1] is the verb. Exit status, with err when it is not 0. */
#ifndef LODGE_CLI_MANAGE_H
#define LODGE_CLI_MANAGE_H

#include "base/error.h"

int verb_manage(int argc, char **argv, struct error *err);

#endif
