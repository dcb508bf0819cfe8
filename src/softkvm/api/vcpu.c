// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vCPUs: creation, the mapping of kvm_run, and the table of their ioctls.
 *
 * A vCPU lives as long as its VM (other vCPUs send it messages); its descriptor only keeps the VM alive. The descriptor is a memfd
 * of which we map the same pages as user space does.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "softkvm/api/api.h"
#include "softkvm/x86/fpu.h"
#include "softkvm/x86/mem.h"

#define PHYS_BITS_WITHOUT_CPUID 36 /* SDM vol. 3, 4.1.4 */
#define APIC_BASE_BSP           BIT64(8)

bool vcpu_is_bsp(const struct vcpu *v)
{
    return v->id == v->vm->bsp_id;
}

/* ---- life ---- */

static int map_run(struct vcpu *v, int fd)
{
    if (ftruncate(fd, API_RUN_SIZE) < 0)
        return -errno;
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW); /* or our pages could go away under us */
    void *p = mmap(NULL, API_RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    v->run = p;
    return 0;
}

static int vcpu_memfd(unsigned id)
{
    char name[32];
    snprintf(name, sizeof(name), "softkvm-vcpu:%u", id);
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? -errno : fd;
}

void vcpu_free(struct vcpu *v)
{
    direct_destroy(v);
    lapic_destroy(v);
    interp_free(v);
    if (v->run)
        munmap(v->run, API_RUN_SIZE);
    if (v->api) {
        sigmask_free(&v->api->sigmask);
        stats_free(&v->api->stats);
    }
    free(v->api);
    free(v->cpuid);
    pthread_mutex_destroy(&v->lock);
    bt_cpu_unmap(v);
}

/* The state after power-up, SDM vol. 3, table 9-1. */
static int power_up(struct vcpu *v)
{
    v->phys_bits = PHYS_BITS_WITHOUT_CPUID;
    v->tsc_khz = v->vm->api->tsc_khz;
    v->tsc_offset = -(int64_t)v->vm->api->tsc_base;
    mmu_init(v);
    cpu_reset(v, false);
    msr_reset(v);
    int err = v->vm->irqchip ? lapic_create(v) : 0;
    if (err)
        return err;
    if (!v->lapic)
        lapic_reset(v, false); /* IA32_APIC_BASE is there all the same */
    v->apic_base = (v->apic_base & ~APIC_BASE_BSP) | (vcpu_is_bsp(v) ? APIC_BASE_BSP : 0);
    bool runs = !v->lapic || vcpu_is_bsp(v);
    atomic_store(&v->mp_state, runs ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED);
    return 0;
}

static int vcpu_alloc(struct softkvm_vm *vm, unsigned id, int fd, struct vcpu **out)
{
    /* Fresh pages are zero, and those of the TLB are only touched when they are used. */
    struct vcpu *v = bt_cpu_map();
    if (!v)
        return -ENOMEM;
    pthread_mutex_init(&v->lock, NULL);
    v->vm = vm;
    v->id = id;
    v->delivering = -1;
    v->api = calloc(1, sizeof(*v->api));
    int err = v->api ? 0 : -ENOMEM;
    if (!err) {
        sigmask_init(&v->api->sigmask);
        v->api->ext_vector = -1;
        err = map_run(v, fd);
    }
    if (!err)
        err = interp_init(v);
    if (!err)
        bt_cpu_init(v);
    if (!err)
        err = direct_create(v);
    if (!err)
        err = power_up(v);
    if (err) {
        vcpu_free(v);
        return err;
    }
    *out = v;
    return 0;
}

/* Makes the vCPU visible to everybody. With vm->lock held. */
static void publish(struct softkvm_vm *vm, struct vcpu *v)
{
    struct io_zones *z = &vm->api->zones;
    unsigned n = atomic_load(&vm->nvcpus);
    if (n == 0) {
        pthread_rwlock_wrlock(&z->lock);
        z->ring = (void *)((uint8_t *)v->run + KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_SIZE);
        pthread_rwlock_unlock(&z->lock);
    }
    atomic_store(&vm->vcpus[n], v);
    atomic_store(&vm->nvcpus, n + 1);
}

static int check_id(struct softkvm_vm *vm, uintptr_t id)
{
    unsigned n = atomic_load(&vm->nvcpus);
    unsigned limit = vm->api->max_vcpu_id ? vm->api->max_vcpu_id : SOFTKVM_MAX_VCPUS;
    if (id >= limit || n >= SOFTKVM_MAX_VCPUS)
        return -EINVAL;
    for (unsigned i = 0; i < n; i++)
        if (atomic_load(&vm->vcpus[i])->id == id)
            return -EEXIST;
    return 0;
}

static int create_locked(struct softkvm_vm *vm, uintptr_t id)
{
    int err = check_id(vm, id);
    if (err)
        return err;
    AUTO_CLOSE int fd = vcpu_memfd((unsigned)id);
    if (fd < 0)
        return fd;
    struct vcpu *v;
    err = vcpu_alloc(vm, (unsigned)id, fd, &v);
    if (err)
        return err;
    vm_get(vm);
    err = fds_install(fd, OBJECT_VCPU, v);
    if (err) {
        vcpu_free(v);
        vm_put(vm);
        return err;
    }
    publish(vm, v);
    return steal_fd(&fd);
}

int vcpu_create(struct softkvm_vm *vm, void *id)
{
    pthread_mutex_lock(&vm->lock);
    int fd = create_locked(vm, (uintptr_t)id);
    pthread_mutex_unlock(&vm->lock);
    return fd;
}

/* ---- ioctls ---- */

static int kvmclock_ctrl(struct vcpu *v, void *arg)
{
    (void)arg;
    return pv_clock_paused(v);
}

static int set_signal_mask(struct vcpu *v, void *arg)
{
    return arg && (uintptr_t)arg < PAGE_SIZE ? -EFAULT : sigmask_set(&v->api->sigmask, arg);
}

static int set_vapic_addr(struct vcpu *v, void *arg)
{
    return lapic_vapic_set(v, ((const struct kvm_vapic_addr *)arg)->vapic_addr);
}

static int enable_cap(struct vcpu *v, void *arg)
{
    const struct kvm_enable_cap *c = arg;
    if (c->flags || c->cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID) /* Hyper-V's are not there */
        return -EINVAL;
    v->pv.enforce = c->args[0];
    return 0;
}

static int smi(struct vcpu *v, void *arg)
{
    (void)v;
    (void)arg; /* there is no SMM */
    return -ENOTTY;
}

static const struct vcpu_ioctl ioctls[] = {
    {KVM_RUN, ARG_NONE, run_ioctl},
    {KVM_GET_REGS, ARG_PTR, state_get_regs},
    {KVM_SET_REGS, ARG_PTR, state_set_regs},
    {KVM_GET_SREGS, ARG_PTR, state_get_sregs},
    {KVM_SET_SREGS, ARG_PTR, state_set_sregs},
    {KVM_GET_SREGS2, ARG_PTR, state_get_sregs2},
    {KVM_SET_SREGS2, ARG_PTR, state_set_sregs2},
    {KVM_TRANSLATE, ARG_PTR, state_translate},
    {KVM_INTERRUPT, ARG_PTR, events_interrupt},
    {KVM_NMI, ARG_VALUE, events_nmi},
    {KVM_SMI, ARG_VALUE, smi},
    {KVM_GET_MSRS, ARG_PTR, tables_get_msrs},
    {KVM_SET_MSRS, ARG_PTR, tables_set_msrs},
    {KVM_SET_CPUID, ARG_PTR, tables_set_cpuid},
    {KVM_SET_CPUID2, ARG_PTR, tables_set_cpuid2},
    {KVM_GET_CPUID2, ARG_PTR, tables_get_cpuid2},
    {KVM_SET_SIGNAL_MASK, ARG_VALUE, set_signal_mask},
    {KVM_GET_FPU, ARG_PTR, fpustate_get_fpu},
    {KVM_SET_FPU, ARG_PTR, fpustate_set_fpu},
    {KVM_GET_XSAVE, ARG_PTR, fpustate_get_xsave},
    {KVM_GET_XSAVE2, ARG_PTR, fpustate_get_xsave},
    {KVM_SET_XSAVE, ARG_PTR, fpustate_set_xsave},
    {KVM_GET_XCRS, ARG_PTR, fpustate_get_xcrs},
    {KVM_SET_XCRS, ARG_PTR, fpustate_set_xcrs},
    {KVM_GET_LAPIC, ARG_PTR, state_get_lapic},
    {KVM_SET_LAPIC, ARG_PTR, state_set_lapic},
    {KVM_SET_VAPIC_ADDR, ARG_PTR, set_vapic_addr},
    {KVM_GET_MP_STATE, ARG_PTR, events_get_mp_state},
    {KVM_SET_MP_STATE, ARG_PTR, events_set_mp_state},
    {KVM_SET_GUEST_DEBUG, ARG_PTR, guestdebug_set},
    {KVM_GET_VCPU_EVENTS, ARG_PTR, events_get},
    {KVM_SET_VCPU_EVENTS, ARG_PTR, events_set},
    {KVM_GET_DEBUGREGS, ARG_PTR, state_get_debugregs},
    {KVM_SET_DEBUGREGS, ARG_PTR, state_set_debugregs},
    {KVM_HAS_DEVICE_ATTR, ARG_PTR, state_has_attr},
    {KVM_GET_DEVICE_ATTR, ARG_PTR, state_get_attr},
    {KVM_SET_DEVICE_ATTR, ARG_PTR, state_set_attr},
    {KVM_GET_STATS_FD, ARG_VALUE, stats_vcpu_fd},
    {KVM_GET_TSC_KHZ, ARG_VALUE, state_get_tsc_khz},
    {KVM_SET_TSC_KHZ, ARG_VALUE, state_set_tsc_khz},
    {KVM_KVMCLOCK_CTRL, ARG_VALUE, kvmclock_ctrl},
    {KVM_ENABLE_CAP, ARG_PTR, enable_cap},
    {KVM_X86_SETUP_MCE, ARG_PTR, mce_setup},
    {KVM_X86_SET_MCE, ARG_PTR, mce_inject},
};

int vcpu_ioctl(struct vcpu *v, uint32_t request, void *arg)
{
    for (unsigned i = 0; i < ARRAY_SIZE(ioctls); i++) {
        if (ioctls[i].request != request)
            continue;
        int r = api_check_arg(ioctls[i].arg, arg);
        if (r)
            return r;
        pthread_mutex_lock(&v->lock);
        section_enter(v);
        r = ioctls[i].fn(v, arg);
        section_leave(v);
        pthread_mutex_unlock(&v->lock);
        return r;
    }
    return -EINVAL; /* as x86's KVM */
}
