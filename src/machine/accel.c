// SPDX-License-Identifier: GPL-2.0-or-later
/* KVM by libc, softkvm by its library, and the choice between them: see accel.h. */
#include "machine/accel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/util.h"
#include "softkvm.h"

#define KVM_DEVICE "/dev/kvm"

static int kvm_open(void)
{
    return open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
}

static int kvm_ioctl(int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg);
}

static const struct accel accel_kvm = {"KVM", DOMAIN_ACCEL_KVM, kvm_open, kvm_ioctl, close, NULL};
static const struct accel accel_softkvm = {"softkvm", DOMAIN_ACCEL_SOFTKVM, softkvm_open, softkvm_ioctl, softkvm_close, softkvm_share_memory};

/* "vmx", "svm", or NULL: what the host's CPU offers to a hypervisor, by the first "flags" line of /proc/cpuinfo. */
static const char *hardware_virtualization(void)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char *line = NULL;
    size_t cap = 0;
    const char *found = NULL;
    while (f && getline(&line, &cap, f) > 0) {
        if (strncmp(line, "flags", 5) != 0)
            continue;
        for (char *save, *word = strtok_r(line, " \t\n", &save); word && !found; word = strtok_r(NULL, " \t\n", &save))
            found = strcmp(word, "vmx") == 0 ? "vmx" : strcmp(word, "svm") == 0 ? "svm" : NULL;
        break;
    }
    free(line);
    if (f)
        fclose(f);
    return found;
}

/* What a person can do about an open() of /dev/kvm that failed. */
static const char *open_remedy(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return "load the module kvm_intel or kvm_amd, and enable virtualization in the firmware";
    case EACCES:
    case EPERM:
        return "add yourself to the group 'kvm' (adduser USER kvm) and log in again";
    default:
        return "enable virtualization in the firmware, or nested virtualization if this host is a virtual machine";
    }
}

static int open_accel(const struct accel *a, struct accel_vm *vm, struct error *err)
{
    *vm = (struct accel_vm){.accel = a, .sys_fd = a->open(), .vm_fd = -1};
    if (vm->sys_fd < 0)
        return error_set(err, errno, "%s: cannot open: %s; %s", a->kind == DOMAIN_ACCEL_KVM ? KVM_DEVICE : a->name, strerror(errno),
                         a->kind == DOMAIN_ACCEL_KVM ? open_remedy(errno) : "free some memory or file descriptors");
    int version = a->ioctl(vm->sys_fd, KVM_GET_API_VERSION, NULL);
    if (version != KVM_API_VERSION) {
        error_set(err, 0, "%s: API version %d, not %d; use --accel softkvm", a->name, version, KVM_API_VERSION);
        goto fail;
    }
    vm->vm_fd = a->ioctl(vm->sys_fd, KVM_CREATE_VM, NULL);
    if (vm->vm_fd < 0) {
        error_set(err, errno, "%s: cannot create a virtual machine: %s; %s", a->name, strerror(errno),
                  a->kind == DOMAIN_ACCEL_KVM ? "end other hypervisors on this host, or use --accel softkvm" : "free some memory");
        goto fail;
    }
    return 0;
fail:
    accel_close(vm);
    return -1;
}

static int open_auto(struct accel_vm *vm, struct error *err)
{
    ERROR_SCOPED(kvm_error);
    const char *hardware = hardware_virtualization();
    if (hardware && open_accel(&accel_kvm, vm, &kvm_error) == 0) {
        snprintf(vm->notice, sizeof vm->notice, "KVM runs this guest: " KVM_DEVICE " works, with %s behind it", hardware);
        return 0;
    }
    if (open_accel(&accel_softkvm, vm, err) < 0)
        return -1;
    snprintf(
        vm->notice, sizeof vm->notice, "softkvm runs this guest, KVM would be faster: %s",
        hardware
            ? error_text(&kvm_error)
            : "the CPU shows neither vmx nor svm; enable virtualization in the firmware, or nested virtualization if this host is "
              "a virtual machine");
    return 0;
}

int accel_open(enum domain_accel want, struct accel_vm *vm, struct error *err)
{
    switch (want) {
    case DOMAIN_ACCEL_KVM:
        return open_accel(&accel_kvm, vm, err);
    case DOMAIN_ACCEL_SOFTKVM:
        return open_accel(&accel_softkvm, vm, err);
    case DOMAIN_ACCEL_AUTO:
        break;
    }
    return open_auto(vm, err);
}

void accel_close(struct accel_vm *vm)
{
    if (vm->vm_fd >= 0)
        vm->accel->close(vm->vm_fd);
    if (vm->sys_fd >= 0)
        vm->accel->close(vm->sys_fd);
    vm->vm_fd = vm->sys_fd = -1;
}
