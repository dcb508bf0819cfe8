// SPDX-License-Identifier: GPL-2.0-or-later
/* Raw images: byte n of the disk is byte n of the file or block device. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/util.h"
#include "block/internal.h"

#define PHYSICAL_MAX 4096u /* bytes; larger preferred sizes are about throughput, not about atomic writes */

static int open_file(struct block *b, struct error *err)
{
    b->fd = open(b->path, (b->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (b->fd >= 0)
        return 0;
    const char *remedy = "check the path";
    if (errno == ENOENT)
        remedy = "give the path of an existing image, or make one with 'truncate -s 10G FILE'";
    else if (errno == EACCES || errno == EROFS || errno == EPERM)
        remedy = b->readonly ? "get permission to read it" : "get permission to write to it, or add 'readonly'";
    else if (errno == EISDIR)
        remedy = "give the path of a file or block device";
    return error_set(err, errno, "disk '%s': cannot open: %s; %s", b->path, strerror(errno), remedy);
}

static int measure(struct block *b, struct error *err)
{
    struct stat st;
    if (fstat(b->fd, &st) < 0)
        return error_set(err, errno, "disk '%s': cannot get its size: %s; check its file system", b->path, strerror(errno));
    b->physical = BLOCK_SECTOR;
    if (S_ISBLK(st.st_mode)) {
        unsigned physical = 0;
        b->device = true;
        if (ioctl(b->fd, BLKGETSIZE64, &b->size) < 0)
            return error_set(err, errno, "disk '%s': cannot get its size: %s; check the device", b->path, strerror(errno));
        if (ioctl(b->fd, BLKPBSZGET, &physical) == 0)
            b->physical = physical;
    } else if (S_ISREG(st.st_mode)) {
        b->size = (uint64_t)st.st_size;
        b->physical = (unsigned)st.st_blksize;
    } else {
        return error_set(err, 0, "disk '%s': is neither a file nor a block device; give the path of one", b->path);
    }
    if (b->physical > PHYSICAL_MAX || b->physical < BLOCK_SECTOR || (b->physical & (b->physical - 1)))
        b->physical = b->physical > PHYSICAL_MAX ? PHYSICAL_MAX : BLOCK_SECTOR;
    if (b->size < BLOCK_SECTOR)
        return error_set(err, 0, "disk '%s': is %llu bytes long, shorter than a sector; give an image of at least %u bytes",
                         b->path, (unsigned long long)b->size, BLOCK_SECTOR);
    if (b->size % BLOCK_SECTOR)
        return error_set(err, 0, "disk '%s': is %llu bytes long, not a multiple of %u; lengthen it with 'truncate -s %%%u'",
                         b->path, (unsigned long long)b->size, BLOCK_SECTOR, BLOCK_SECTOR);
    return 0;
}

int raw_open(struct block *b, struct error *err)
{
    if (open_file(b, err) < 0 || block_lock(b->fd, b->path, b->readonly, err) < 0)
        return -1;
    return measure(b, err);
}
