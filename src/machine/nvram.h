/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A firmware's variables: a file of the host as a flash chip, right below the firmware's image. */
#ifndef LODGE_MACHINE_NVRAM_H
#define LODGE_MACHINE_NVRAM_H

#include "machine/board.h"

struct nvram_config {
    const char *path;   /* the variables' file */
    const char *origin; /* a file that it begins as when it does not exist; NULL: that of the image beside it */
    const char *image;  /* the firmware's */
    uint64_t end;       /* where the firmware's image begins */
};

struct nvram;
/* No CPU exists yet. The file is locked until nvram_destroy(). */
int nvram_create(struct board *b, const struct nvram_config *cfg, struct nvram **out, struct error *err);
void nvram_destroy(struct nvram *n);

#endif
