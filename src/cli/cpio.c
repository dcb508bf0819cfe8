// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/cpio.h"

#include <string.h>

#include "base/util.h"

#define TRAILER "TRAILER!!!"

static void put(struct cpio *c, const void *data, size_t len)
{
    c->pos += fwrite(data, 1, len, c->out);
}

/* Headers and contents begin at multiples of four. */
static void pad(struct cpio *c)
{
    put(c, "\0\0\0", ALIGN_UP(c->pos, 4) - c->pos);
}

void cpio_add(struct cpio *c, const char *name, uint32_t mode, const void *data, size_t len)
{
    unsigned name_len = (unsigned)strlen(name) + 1;
    /* magic, inode, mode, uid, gid, links, mtime, size, device, rdev, length of the name, no checksum */
    int n = fprintf(c->out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ++c->inode, mode, 0, 0, 1, 0,
                    (unsigned)len, 0, 0, 0, 0, name_len, 0);
    c->pos += n > 0 ? (size_t)n : 0;
    put(c, name, name_len);
    pad(c);
    if (len)
        put(c, data, len);
    pad(c);
}

void cpio_end(struct cpio *c)
{
    cpio_add(c, TRAILER, 0, NULL, 0);
}
