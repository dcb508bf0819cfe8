// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The path /dev/kvm: opening it gives a descriptor of softkvm, and looking at it shows KVM's character device with access for everybody.
 * Other names of the file (relative, through links) are left alone.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "softkvm.h"
#include "softkvm/preload/shim.h"

#define KVM_MAJOR 10 /* misc devices */
#define KVM_MINOR 232

static bool is_kvm(const char *path)
{
    return path && strcmp(path, "/dev/kvm") == 0;
}

/* ---- opening ---- */

static int open_kvm(int flags)
{
    shim_internal_signals();
    int fd = softkvm_open();
    if (fd >= 0 && !(flags & O_CLOEXEC))
        fcntl(fd, F_SETFD, 0);
    return fd;
}

static bool has_mode(int flags)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

/* The mode of a variadic open(); 0 when there is none. */
#define OPEN_MODE(flags)                                                                                                                   \
    ({                                                                                                                                     \
        mode_t mode_ = 0;                                                                                                                  \
        if (has_mode(flags)) {                                                                                                             \
            va_list ap_;                                                                                                                   \
            va_start(ap_, flags);                                                                                                          \
            mode_ = va_arg(ap_, mode_t);                                                                                                   \
            va_end(ap_);                                                                                                                   \
        }                                                                                                                                  \
        mode_;                                                                                                                             \
    })

SHIM int open(const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);
    return is_kvm(path) ? open_kvm(flags) : REAL(open)(path, flags, mode);
}

SHIM int open64(const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);
    return is_kvm(path) ? open_kvm(flags) : REAL(open64)(path, flags, mode);
}

SHIM int openat(int dir, const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);
    return is_kvm(path) ? open_kvm(flags) : REAL(openat)(dir, path, flags, mode);
}

SHIM int openat64(int dir, const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);
    return is_kvm(path) ? open_kvm(flags) : REAL(openat64)(dir, path, flags, mode);
}

/* What _FORTIFY_SOURCE makes of calls without a mode. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

SHIM int __open_2(const char *path, int flags)
{
    return is_kvm(path) ? open_kvm(flags) : REAL(__open_2)(path, flags);
}

SHIM int __open64_2(const char *path, int flags)
{
    return is_kvm(path) ? open_kvm(flags) : REAL(__open64_2)(path, flags);
}

SHIM int __openat_2(int dir, const char *path, int flags)
{
    return is_kvm(path) ? open_kvm(flags) : REAL(__openat_2)(dir, path, flags);
}

SHIM int __openat64_2(int dir, const char *path, int flags)
{
    return is_kvm(path) ? open_kvm(flags) : REAL(__openat64_2)(dir, path, flags);
}

/* ---- looking ---- */

SHIM int access(const char *path, int mode)
{
    return is_kvm(path) ? 0 : REAL(access)(path, mode);
}

SHIM int eaccess(const char *path, int mode)
{
    return is_kvm(path) ? 0 : REAL(eaccess)(path, mode);
}

SHIM int euidaccess(const char *path, int mode)
{
    return is_kvm(path) ? 0 : REAL(euidaccess)(path, mode);
}

SHIM int faccessat(int dir, const char *path, int mode, int flags)
{
    return is_kvm(path) ? 0 : REAL(faccessat)(dir, path, mode, flags);
}

static int stat_kvm(struct stat *st)
{
    *st = (struct stat){.st_mode = S_IFCHR | 0666, .st_nlink = 1, .st_rdev = makedev(KVM_MAJOR, KVM_MINOR), .st_blksize = 4096};
    return 0;
}

/* On x86-64 struct stat64 is struct stat by another name. */
static int stat64_kvm(struct stat64 *st)
{
    _Static_assert(sizeof(struct stat64) == sizeof(struct stat), "x86-64 has one struct stat");
    struct stat plain;
    stat_kvm(&plain);
    memcpy(st, &plain, sizeof *st);
    return 0;
}

SHIM int stat(const char *path, struct stat *st)
{
    return is_kvm(path) ? stat_kvm(st) : REAL(stat)(path, st);
}

SHIM int stat64(const char *path, struct stat64 *st)
{
    return is_kvm(path) ? stat64_kvm(st) : REAL(stat64)(path, st);
}

SHIM int lstat(const char *path, struct stat *st)
{
    return is_kvm(path) ? stat_kvm(st) : REAL(lstat)(path, st);
}

SHIM int lstat64(const char *path, struct stat64 *st)
{
    return is_kvm(path) ? stat64_kvm(st) : REAL(lstat64)(path, st);
}

SHIM int fstatat(int dir, const char *path, struct stat *st, int flags)
{
    return is_kvm(path) ? stat_kvm(st) : REAL(fstatat)(dir, path, st, flags);
}

SHIM int fstatat64(int dir, const char *path, struct stat64 *st, int flags)
{
    return is_kvm(path) ? stat64_kvm(st) : REAL(fstatat64)(dir, path, st, flags);
}

/* What stat() was in programs built with a glibc before 2.33; `version` is the layout's, and there is one. */
int __xstat(int version, const char *path, struct stat *st);
int __xstat64(int version, const char *path, struct stat64 *st);

SHIM int __xstat(int version, const char *path, struct stat *st)
{
    return is_kvm(path) ? stat_kvm(st) : REAL(__xstat)(version, path, st);
}

SHIM int __xstat64(int version, const char *path, struct stat64 *st)
{
    return is_kvm(path) ? stat64_kvm(st) : REAL(__xstat64)(version, path, st);
}

SHIM int statx(int dir, const char *path, int flags, unsigned mask, struct statx *st)
{
    if (!is_kvm(path))
        return REAL(statx)(dir, path, flags, mask, st);
    *st = (struct statx){
        .stx_mask = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID,
        .stx_blksize = 4096,
        .stx_nlink = 1,
        .stx_mode = S_IFCHR | 0666,
        .stx_rdev_major = KVM_MAJOR,
        .stx_rdev_minor = KVM_MINOR,
    };
    return 0;
}
