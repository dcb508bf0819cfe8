/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The accelerator: who runs the guest's CPUs. KVM and softkvm speak the same API (<linux/kvm.h>); what differs is this table.
 */
#ifndef LODGE_MACHINE_ACCEL_H
#define LODGE_MACHINE_ACCEL_H

#include "base/error.h"
#include "model/domain.h"

struct accel {
    const char *name;
    enum domain_accel kind;
    int (*open)(void);                                      /* a system descriptor, or -1 with errno */
    int (*ioctl)(int fd, unsigned long request, void *arg); /* as ioctl(2) */
    int (*close)(int fd);
    /* Tells of guest memory that is a shared mapping of a file (softkvm_share_memory()); NULL: no use for that. 0, or -1 with errno. */
    int (*share_memory)(int vm_fd, const void *memory, uint64_t bytes, int fd, uint64_t offset);
};

/* A new VM and the system descriptor it came from. */
struct accel_vm {
    const struct accel *accel;
    int sys_fd, vm_fd;
    char notice[320]; /* after DOMAIN_ACCEL_AUTO: one line that says which one was taken, why, and what would help */
};

/*
 * Opens the accelerator that `want` names and creates a VM. DOMAIN_ACCEL_AUTO takes KVM where it works and has hardware behind it,
 * else softkvm. 0, or -1 with err.
 */
int accel_open(enum domain_accel want, struct accel_vm *vm, struct error *err);
void accel_close(struct accel_vm *vm);

static inline int accel_ioctl(const struct accel *a, int fd, unsigned long request, void *arg)
{
    return a->ioctl(fd, request, arg);
}

#endif
