// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The descriptors of softkvm in a program that takes them for the kernel's: their ioctls, and what ends or copies them.
 *
 * A child of vfork() shares our memory but has descriptors of its own: what it closes must not end a VM of its parent. So whatever changes
 * softkvm's table looks whether this is still the process that the table belongs to.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/util.h"
#include "softkvm.h"
#include "softkvm/api/hosting.h"
#include "softkvm/preload/shim.h"

static pid_t owner;

static void remember_process(void)
{
    owner = getpid();
}

__attribute__((constructor)) static void start(void)
{
    cpuid_places_as_host();
    remember_process();
    pthread_atfork(NULL, NULL, remember_process);
}

static bool owned(int fd)
{
    return softkvm_owns(fd) && getpid() == owner;
}

/*
 * A thread that is cancelled asynchronously must not end with softkvm's locks held. So cancellation waits until the call is over;
 * KVM_RUN, which may take for ever, is ended by pthread_cancel() below.
 */
static int kvm_ioctl(int fd, unsigned long request, void *arg)
{
    int type, state, other;
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
    if (type == PTHREAD_CANCEL_DEFERRED)
        return softkvm_ioctl(fd, request, arg);
    if (request == KVM_RUN)
        run_announce(fd, true);
    pthread_testcancel(); /* from here on pthread_cancel() finds the announcement */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    int r = softkvm_ioctl(fd, request, arg);
    int saved = errno;
    if (request == KVM_RUN)
        run_announce(fd, false);
    pthread_setcancelstate(state, &other);
    pthread_testcancel();
    pthread_setcanceltype(type, &other);
    errno = saved;
    return r;
}

SHIM int pthread_cancel(pthread_t thread)
{
    int err = REAL(pthread_cancel)(thread);
    run_cancelled(thread);
    return err;
}

SHIM int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    va_start(ap, request);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    if (_IOC_TYPE(request) == KVMIO && (softkvm_owns(fd) || fds_recognize(fd)))
        return kvm_ioctl(fd, request, arg);
    return REAL(ioctl)(fd, request, arg);
}

/* softkvm_close() comes here again, when its table no longer has the descriptor. */
SHIM int close(int fd)
{
    return owned(fd) ? softkvm_close(fd) : REAL(close)(fd);
}

#define CLOSE_MAX 65536 /* descriptors above are not looked at: KVM's are not made there unless all below are in use */

SHIM int close_range(unsigned first, unsigned last, int flags)
{
    if (!(flags & CLOSE_RANGE_CLOEXEC))
        for (unsigned fd = first; fd <= MIN(last, CLOSE_MAX - 1u); fd++)
            if (owned((int)fd))
                softkvm_close((int)fd);
    return REAL(close_range)(first, last, flags);
}

SHIM void closefrom(int first)
{
    close_range((unsigned)MAX(first, 0), ~0u, 0);
}

/* `to` is a copy of `from` now, whatever it was before; or -1. Returns it, or -1 with errno when the copy could not be noted. */
static int copied(int from, int to)
{
    if (to < 0 || to == from || getpid() != owner)
        return to;
    fds_forget(to);
    if (!softkvm_owns(from))
        return to;
    int err = fds_duplicated(from, to);
    if (!err)
        return to;
    REAL(close)(to);
    errno = -err;
    return -1;
}

SHIM int dup(int fd)
{
    return copied(fd, REAL(dup)(fd));
}

SHIM int dup2(int from, int to)
{
    return copied(from, REAL(dup2)(from, to));
}

SHIM int dup3(int from, int to, int flags)
{
    return copied(from, REAL(dup3)(from, to, flags));
}

/* All of fcntl()'s arguments fit in a pointer. */
#define FCNTL(name)                                                                                                                        \
    SHIM int name(int fd, int cmd, ...)                                                                                                    \
    {                                                                                                                                      \
        va_list ap;                                                                                                                        \
        va_start(ap, cmd);                                                                                                                 \
        void *arg = va_arg(ap, void *);                                                                                                    \
        va_end(ap);                                                                                                                        \
        int r = REAL(name)(fd, cmd, arg);                                                                                                  \
        return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC ? copied(fd, r) : r;                                                               \
    }
FCNTL(fcntl)
FCNTL(fcntl64)
