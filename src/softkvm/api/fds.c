// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The descriptors: which numbers of this process are softkvm's, and what they stand for.
 *
 * Each is a memfd, so that it is a real descriptor and so that a vCPU's can be mapped. The table holds one reference on its object, every
 * call under way another; an object ends with its last reference, as a file does in the kernel. A child of fork() has the descriptors but
 * not the threads and not the shared guest: there VMs and vCPUs answer EIO, as KVM's do in another address space.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "softkvm.h"
#include "softkvm/api/api.h"
#include "softkvm/api/hosting.h"

struct object {
    enum object_kind kind;
    _Atomic unsigned refs;
    bool foreign; /* made before fork(), seen in the child */
    void *what;   /* struct softkvm_vm or struct vcpu */
    dev_t dev;    /* the memfd, by which a duplicate is recognized */
    ino_t ino;
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

/* Gives the caller's reference on `o` to the table. */
static int table_set(int fd, struct object *o)
{
    pthread_mutex_lock(&table.lock);
    int err = table_grow(fd);
    struct object *stale = NULL;
    if (!err) {
        stale = table.slots[fd]; /* was closed with close(2), or the kernel would not have given the number out again */
        table.slots[fd] = o;
    }
    pthread_mutex_unlock(&table.lock);
    if (stale)
        object_put(stale);
    return err;
}

static struct object *object_new(int fd, enum object_kind kind, void *what)
{
    struct stat st;
    struct object *o = fstat(fd, &st) == 0 ? calloc(1, sizeof(*o)) : NULL;
    if (!o)
        return NULL;
    o->kind = kind;
    o->refs = 1;
    o->what = what;
    o->dev = st.st_dev;
    o->ino = st.st_ino;
    return o;
}

int fds_install(int fd, enum object_kind kind, void *what)
{
    struct object *o = object_new(fd, kind, what);
    int err = o ? table_set(fd, o) : -ENOMEM;
    if (err)
        free(o);
    return err;
}

/* ---- for a shim: hosting.h ---- */

static int process_ready(void);

int fds_duplicated(int from, int to)
{
    struct object *o = object_get(from);
    if (!o)
        return -EBADF;
    int err = table_set(to, o);
    if (err)
        object_put(o);
    return err;
}

static struct object *table_remove(int fd)
{
    pthread_mutex_lock(&table.lock);
    struct object *o = fd >= 0 && fd < table.count ? table.slots[fd] : NULL;
    if (o)
        table.slots[fd] = NULL;
    pthread_mutex_unlock(&table.lock);
    return o;
}

void fds_forget(int fd)
{
    struct object *o = table_remove(fd);
    if (o)
        object_put(o);
}

/* The object that a memfd belongs to, with a reference; or NULL. */
static struct object *object_by_file(const struct stat *st)
{
    struct object *o = NULL;
    pthread_mutex_lock(&table.lock);
    for (int i = 0; i < table.count && !o; i++)
        if (table.slots[i] && table.slots[i]->ino == st->st_ino && table.slots[i]->dev == st->st_dev)
            o = table.slots[i];
    if (o)
        atomic_fetch_add(&o->refs, 1);
    pthread_mutex_unlock(&table.lock);
    return o;
}

/* A memfd of another process's softkvm, by its name. */
static struct object *object_by_name(int fd)
{
    static const struct {
        const char *name;
        enum object_kind kind;
    } names[] = {{"/memfd:softkvm (deleted)", OBJECT_SYSTEM}, {"/memfd:softkvm-vm (deleted)", OBJECT_VM}, {"/memfd:softkvm-vcpu:", OBJECT_VCPU}};
    char path[32], target[64] = "";
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (readlink(path, target, sizeof(target) - 1) < 0)
        return NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        if (strncmp(target, names[i].name, strlen(names[i].name)))
            continue;
        struct object *o = object_new(fd, names[i].kind, NULL);
        if (o)
            o->foreign = true;
        return o;
    }
    return NULL;
}

bool fds_recognize(int fd)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    struct object *o = object_by_file(&st);
    if (!o)
        o = object_by_name(fd);
    if (!o)
        return false;
    if (process_ready() == 0 && table_set(fd, o) == 0)
        return true;
    object_put(o);
    return false;
}

void run_announce(int fd, bool begins)
{
    pthread_mutex_lock(&table.lock);
    struct object *o = fd >= 0 && fd < table.count ? table.slots[fd] : NULL;
    if (o && o->kind == OBJECT_VCPU && !o->foreign) {
        struct vcpu_api *a = ((struct vcpu *)o->what)->api;
        if (begins)
            a->runner = pthread_self();
        a->announced = begins;
    }
    pthread_mutex_unlock(&table.lock);
}

void run_cancelled(pthread_t thread)
{
    pthread_mutex_lock(&table.lock);
    for (int i = 0; i < table.count; i++) {
        struct object *o = table.slots[i];
        if (!o || o->kind != OBJECT_VCPU || o->foreign)
            continue;
        struct vcpu *v = o->what;
        if (v->api->announced && pthread_equal(v->api->runner, thread))
            vcpu_kick(v, REQ_EXIT);
    }
    pthread_mutex_unlock(&table.lock);
}

/* ---- fork(), opening, closing ---- */

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

/* Also for a descriptor that came from another process. */
static int process_ready(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, process_init);
    return process_error;
}

int softkvm_open(void)
{
    int err = process_ready();
    if (err) {
        errno = -err;
        return -1;
    }
    int fd = memfd_create("softkvm", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    err = fds_install(fd, OBJECT_SYSTEM, NULL);
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

int softkvm_share_memory(int vm_fd, const void *memory, uint64_t bytes, int fd, uint64_t offset)
{
    struct object *o = object_get(vm_fd);
    int err = !o || o->kind != OBJECT_VM || o->foreign ? -EBADF : direct_memory(o->what, memory, bytes, fd, offset);
    if (o)
        object_put(o);
    if (err)
        errno = -err;
    return err ? -1 : 0;
}

int softkvm_close(int fd)
{
    struct object *o = table_remove(fd);
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
