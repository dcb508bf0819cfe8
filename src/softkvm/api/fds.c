// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The descriptors: which numbers of this process are softkvm's, and what they stand for.
 *
 * Each is a memfd, so that it is a real descriptor and so that a vCPU's can be mapped. The table holds one reference on its object, every
 * call under way another; an object ends with its last reference, as a file does in the kernel. A child of fork() has the descriptors but
 * not the threads and not the shared guest: there VMs and vCPUs answer EIO, as KVM's do in another address space.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "softkvm.h"
#include "softkvm/api/api.h"

struct object {
    enum object_kind kind;
    _Atomic unsigned refs;
    bool foreign; /* made before fork(), seen in the child */
    void *what;   /* struct softkvm_vm or struct vcpu */
};

static struct {
    pthread_mutex_t lock;
    struct object **slots; /* by descriptor */
    int count;
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void object_put(struct object *o)
{
    if (atomic_fetch_sub(&o->refs, 1) != 1)
        return;
    if (o->kind == OBJECT_VM && !o->foreign)
        vm_descriptor_closed(o->what);
    else if (o->kind == OBJECT_VCPU && !o->foreign)
        vm_put(((struct vcpu *)o->what)->vm);
    free(o);
}

static struct object *object_get(int fd)
{
    pthread_mutex_lock(&table.lock);
    struct object *o = fd >= 0 && fd < table.count ? table.slots[fd] : NULL;
    if (o)
        atomic_fetch_add(&o->refs, 1);
    pthread_mutex_unlock(&table.lock);
    return o;
}

static int table_grow(int fd)
{
    if (fd < table.count)
        return 0;
    int count = MAX(fd + 1, 2 * table.count);
    struct object **slots = realloc(table.slots, (size_t)count * sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    for (int i = table.count; i < count; i++)
        slots[i] = NULL;
    table.slots = slots;
    table.count = count;
    return 0;
}

int fds_install(int fd, enum object_kind kind, void *what)
{
    struct object *o = calloc(1, sizeof(*o));
    if (!o)
        return -ENOMEM;
    o->kind = kind;
    o->refs = 1;
    o->what = what;

    pthread_mutex_lock(&table.lock);
    int err = table_grow(fd);
    struct object *stale = NULL;
    if (!err) {
        stale = table.slots[fd]; /* was closed with close(2), or the kernel would not have given the number out again */
        table.slots[fd] = o;
    }
    pthread_mutex_unlock(&table.lock);
    if (err)
        free(o);
    if (stale)
        object_put(stale);
    return err;
}

/* fork(): the table is consistent in the child, and nothing in it is the child's own. */
static void fork_prepare(void)
{
    pthread_mutex_lock(&table.lock);
}
static void fork_parent(void)
{
    pthread_mutex_unlock(&table.lock);
}
static void fork_child(void)
{
    for (int i = 0; i < table.count; i++)
        if (table.slots[i])
            table.slots[i]->foreign = true;
    pthread_mutex_unlock(&table.lock);
}

static int process_error;
static void process_init(void)
{
    int err = native_init();
    if (!err)
        err = -pthread_atfork(fork_prepare, fork_parent, fork_child);
    process_error = err;
}

int softkvm_open(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, process_init);
    if (process_error) {
        errno = -process_error;
        return -1;
    }
    int fd = memfd_create("softkvm", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    int err = fds_install(fd, OBJECT_SYSTEM, NULL);
    if (err) {
        close(fd);
        errno = -err;
        return -1;
    }
    return fd;
}

static int object_ioctl(struct object *o, uint32_t request, void *arg)
{
    if (o->kind == OBJECT_SYSTEM)
        return system_ioctl(request, arg);
    if (o->foreign)
        return -EIO;
    return o->kind == OBJECT_VM ? vm_ioctl(o->what, request, arg) : vcpu_ioctl(o->what, request, arg);
}

int softkvm_ioctl(int fd, unsigned long request, void *arg)
{
    struct object *o = object_get(fd);
    if (!o) {
        errno = EBADF;
        return -1;
    }
    /* A request that went through an int arrives sign-extended; its number has 32 bits. */
    int r = object_ioctl(o, (uint32_t)request, arg);
    object_put(o);
    if (r < 0) {
        errno = -r;
        return -1;
    }
    return r;
}

int softkvm_close(int fd)
{
    pthread_mutex_lock(&table.lock);
    struct object *o = fd >= 0 && fd < table.count ? table.slots[fd] : NULL;
    if (o)
        table.slots[fd] = NULL;
    pthread_mutex_unlock(&table.lock);
    if (!o) {
        errno = EBADF;
        return -1;
    }
    close(fd);
    object_put(o);
    return 0;
}

int softkvm_owns(int fd)
{
    struct object *o = object_get(fd);
    if (!o)
        return 0;
    object_put(o);
    return 1;
}
