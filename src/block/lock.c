// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Image locking, compatible with QEMU's (qemu/docs: "Image locking"; block/file-posix.c defines the bytes).
 *
 * Each kind of access has a number. A user holds a shared lock on byte 100+n for each kind that it uses and on byte 200+n for each
 * kind that it does not let others use. It may proceed when nobody else holds 200+n for what it uses, or 100+n for what it forbids.
 * All are open file description locks: two users inside one process conflict as well, and the kernel drops them with the last reference to the
 * description. That may come later than close(): a request of io_uring that ends at this moment or a child that was forked meanwhile holds one
 * more. So whoever closes a file unlocks it first; one that dies leaves that to the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "block/internal.h"

#define USES_BASE    100
#define FORBIDS_BASE 200

enum { ACCESS_READ, ACCESS_WRITE, ACCESS_WRITE_UNCHANGED, ACCESS_RESIZE, ACCESS_KINDS };

static int lock_shared(int fd, off_t byte)
{
    struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &l);
}

static bool held_by_another(int fd, off_t byte)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

int block_lock(int fd, const char *what, const char *path, bool readonly, struct error *err)
{
    const unsigned uses = BIT(ACCESS_READ) | (readonly ? 0 : BIT(ACCESS_WRITE)), forbids = BIT(ACCESS_WRITE) | BIT(ACCESS_RESIZE);
    for (unsigned i = 0; i < ACCESS_KINDS; i++) {
        bool ok = (!(uses & BIT(i)) || lock_shared(fd, USES_BASE + i) == 0) &&
                  (!(forbids & BIT(i)) || lock_shared(fd, FORBIDS_BASE + i) == 0);
        if (ok)
            continue;
        if (errno != EAGAIN && errno != EACCES) {
            log_warn("%s '%s': its file system has no locks (%s); nothing keeps another program from writing to it", what, path,
                     strerror(errno));
            return 0;
        }
        return error_set(err, errno, "%s '%s': another program locks it; stop that program", what, path);
    }
    for (unsigned i = 0; i < ACCESS_KINDS; i++) {
        if (((uses & BIT(i)) && held_by_another(fd, FORBIDS_BASE + i)) ||
            ((forbids & BIT(i)) && held_by_another(fd, USES_BASE + i)))
            return error_set(err, EAGAIN, "%s '%s': another guest or image tool uses it%s; stop that one, or use a copy", what, path,
                             readonly ? " for writing" : "");
    }
    return 0;
}

void block_unlock(int fd)
{
    struct flock l = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = USES_BASE, .l_len = FORBIDS_BASE + ACCESS_KINDS - USES_BASE};
    fcntl(fd, F_OFD_SETLK, &l); /* fails where there are no locks, so that there is nothing to give back */
}
