/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's locks on image files, by which QEMU and Lodge keep out of each other's images. */
#ifndef LODGE_BLOCK_LOCK_H
#define LODGE_BLOCK_LOCK_H

#include <stdbool.h>

#include "base/error.h"

/* Takes them for `fd`. `what` and `path` name it in errors. 0, or -1 with err. */
int block_lock(int fd, const char *what, const char *path, bool readonly, struct error *err);
/* Gives them back: before close(), since other references to the description can live on. */
void block_unlock(int fd);

#endif
