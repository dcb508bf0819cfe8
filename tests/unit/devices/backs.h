/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Back ends of vhost-user as processes, on a socket that listens before any of them runs, so that none is too late. */
#ifndef LODGE_TESTS_BACKS_H
#define LODGE_TESTS_BACKS_H

#include <sys/types.h>

#include "check.h"

extern char backs_path[64]; /* of the socket */
extern char backs_file[64]; /* beside it: room for a file */

void backs_open(const char *program);
void backs_close(void);
/* Starts one with these arguments; the first NULL ends them. */
#define back_start(...) back_run((const char *const[]){__VA_ARGS__, NULL})
pid_t back_run(const char *const *arguments);
void back_kill(pid_t pid);
/* Waits for one that ends by itself. */
void back_wait(pid_t pid);
unsigned backs_open_fds(void); /* of this process */

#endif
