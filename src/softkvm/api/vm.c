// SPDX-License-Identifier: GPL-2.0-or-later
/* VMs: life, and the table of their ioctls. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "softkvm/api/api.h"

/* ---- life ---- */

void vm_get(struct softkvm_vm *vm)
{
    atomic_fetch_add(&vm->api->refs, 1);
}

/* Nobody has a descriptor any more: no thread of user space is inside, only our own remain. */
static void vm_destroy(struct softkvm_vm *vm)
{
    worker_stop(vm);
    irqchip_stop(vm);
    unsigned n = atomic_exchange(&vm->nvcpus, 0);
    for (unsigned i = 0; i < n; i++)
        vcpu_free(atomic_load(&vm->vcpus[i]));
    irqfd_free(vm);
    irqchip_destroy(vm);
    zones_free(&vm->api->zones);
    memslot_free_all(vm);
    pause_free(vm);
    bt_destroy(vm);
    direct_memory_free(vm);
    stats_free(&vm->api->stats);
    pthread_mutex_destroy(&vm->lock);
    free(vm->api);
    free(vm);
}

void vm_put(struct softkvm_vm *vm)
{
    if (atomic_fetch_sub(&vm->api->refs, 1) == 1)
        vm_destroy(vm);
}

void vm_descriptor_closed(struct softkvm_vm *vm)
{
    irqfd_release_all(vm);
    vm_put(vm);
}

static struct softkvm_vm *vm_alloc(void)
{
    struct softkvm_vm *vm = calloc(1, sizeof(*vm));
    if (!vm)
        return NULL;
    vm->api = calloc(1, sizeof(*vm->api));
    if (!vm->api || memslot_init(vm)) {
        free(vm->api);
        free(vm);
        return NULL;
    }
    pthread_mutex_init(&vm->lock, NULL);
    vm->api->refs = 1;
    vm->api->tsc_base = __rdtsc();
    vm->api->tsc_khz = (uint32_t)host_tsc_khz();
    vm->api->halt_poll_ns = HALT_POLL_NS;
    pause_init(vm);
    zones_init(&vm->api->zones);
    irqfd_init(vm);
    worker_init(&vm->api->worker);
    pv_clock_set(vm, &(struct kvm_clock_data){0});
    bt_create(vm); /* without a code cache its vCPUs interpret */
    return vm;
}

int vm_create(void)
{
    AUTO_CLOSE int fd = memfd_create("softkvm-vm", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct softkvm_vm *vm = vm_alloc();
    if (!vm)
        return -ENOMEM;
    int err = fds_install(fd, OBJECT_VM, vm);
    if (err) {
        vm_put(vm);
        return err;
    }
    return steal_fd(&fd);
}

/* ---- addresses that only matter to Intel's real mode under VT-x ---- */

static int set_tss_addr(struct softkvm_vm *vm, void *arg)
{
    uintptr_t addr = (uintptr_t)arg;
    if (addr > 0u - 3 * (unsigned)PAGE_SIZE) /* three pages below 4 GiB */
        return -EINVAL;
    vm->tss_addr = addr;
    return 0;
}

static int set_identity_map_addr(struct softkvm_vm *vm, void *arg)
{
    if (atomic_load(&vm->nvcpus))
        return -EINVAL;
    vm->identity_map_addr = *(const uint64_t *)arg;
    return 0;
}

/* ---- interrupt controllers ---- */

static int create_chip(struct softkvm_vm *vm, bool split, unsigned pins)
{
    pthread_mutex_lock(&vm->lock);
    int err = 0;
    if (vm->irqchip)
        err = -EEXIST;
    else if (atomic_load(&vm->nvcpus))
        err = split ? -EEXIST : -EINVAL; /* as KVM has it */
    else
        err = irqchip_create(vm, split, pins);
    pthread_mutex_unlock(&vm->lock);
    return err;
}

static int create_irqchip(struct softkvm_vm *vm, void *arg)
{
    (void)arg;
    return create_chip(vm, false, 0);
}

static bool full_chip(const struct softkvm_vm *vm)
{
    return vm->irqchip && !vm->split_irqchip;
}

static int create_pit2(struct softkvm_vm *vm, void *arg)
{
    if (!full_chip(vm))
        return -ENOENT;
    pthread_mutex_lock(&vm->lock);
    int err = pit_create(vm, ((const struct kvm_pit_config *)arg)->flags);
    pthread_mutex_unlock(&vm->lock);
    return err;
}

static int create_pit(struct softkvm_vm *vm, void *arg)
{
    (void)arg;
    struct kvm_pit_config c = {.flags = KVM_PIT_SPEAKER_DUMMY};
    return create_pit2(vm, &c);
}

static int get_pit2(struct softkvm_vm *vm, void *arg)
{
    return full_chip(vm) ? pit_get(vm, arg) : -ENXIO;
}

static int set_pit2(struct softkvm_vm *vm, void *arg)
{
    return full_chip(vm) ? pit_set(vm, arg) : -ENXIO;
}

/* struct kvm_pit_state is the front of kvm_pit_state2. */
static int get_pit(struct softkvm_vm *vm, void *arg)
{
    struct kvm_pit_state2 s = {0};
    int err = get_pit2(vm, &s);
    if (!err)
        memcpy(arg, s.channels, sizeof(s.channels));
    return err;
}

static int set_pit(struct softkvm_vm *vm, void *arg)
{
    struct kvm_pit_state2 s = {0};
    int err = get_pit2(vm, &s);
    if (err)
        return err;
    memcpy(s.channels, arg, sizeof(s.channels));
    return set_pit2(vm, &s);
}

static int reinject_control(struct softkvm_vm *vm, void *arg)
{
    return full_chip(vm) ? pit_reinject(vm, ((const struct kvm_reinject_control *)arg)->pit_reinject) : -ENXIO;
}

static int get_irqchip(struct softkvm_vm *vm, void *arg)
{
    return full_chip(vm) ? irqchip_get(vm, arg) : -ENXIO;
}

static int set_irqchip(struct softkvm_vm *vm, void *arg)
{
    return full_chip(vm) ? irqchip_set(vm, arg) : -ENXIO;
}

static int irq_line_status(struct softkvm_vm *vm, void *arg)
{
    struct kvm_irq_level *l = arg;
    if (!vm->irqchip)
        return -ENXIO;
    l->status = irqchip_set_gsi(vm, 0, l->irq, l->level != 0);
    return 0;
}

static int irq_line(struct softkvm_vm *vm, void *arg)
{
    struct kvm_irq_level l = *(const struct kvm_irq_level *)arg;
    return irq_line_status(vm, &l);
}

static int set_gsi_routing(struct softkvm_vm *vm, void *arg)
{
    const struct kvm_irq_routing *r = arg;
    if (!vm->irqchip || r->nr > IRQ_MAX_GSI || r->flags)
        return -EINVAL;
    return irqchip_set_routes(vm, r->entries, r->nr);
}

static int signal_msi(struct softkvm_vm *vm, void *arg)
{
    const struct kvm_msi *m = arg;
    if (!vm->irqchip || (m->flags & ~(uint32_t)KVM_MSI_VALID_DEVID)) /* the device's ID means nothing on x86 */
        return -EINVAL;
    return irqchip_signal_msi(vm, (uint64_t)m->address_hi << 32 | m->address_lo, m->data);
}

static int set_boot_cpu(struct softkvm_vm *vm, void *arg)
{
    if (atomic_load(&vm->nvcpus))
        return -EBUSY;
    vm->bsp_id = (unsigned)(uintptr_t)arg;
    return 0;
}

/* ---- clocks ---- */

static int get_clock(struct softkvm_vm *vm, void *arg)
{
    return pv_clock_get(vm, arg);
}

static int set_clock(struct softkvm_vm *vm, void *arg)
{
    const struct kvm_clock_data *c = arg;
    if (c->flags & ~(uint32_t)(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC))
        return -EINVAL;
    return pv_clock_set(vm, c);
}

static int get_tsc_khz(struct softkvm_vm *vm, void *arg)
{
    (void)arg;
    return (int)vm->api->tsc_khz;
}

static int set_tsc_khz(struct softkvm_vm *vm, void *arg)
{
    return state_pick_tsc_khz(arg, &vm->api->tsc_khz);
}

/* ---- capabilities ---- */

static int enable_dirty_protect(struct softkvm_vm *vm, uint64_t flags)
{
    uint64_t allowed = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
    if (flags & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) /* the second is for those who have the first */
        allowed |= KVM_DIRTY_LOG_INITIALLY_SET;
    if (flags & ~allowed)
        return -EINVAL;
    pthread_mutex_lock(&vm->api->slots_mutex);
    vm->api->manual_dirty_log = flags & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
    vm->api->dirty_initially_set = flags & KVM_DIRTY_LOG_INITIALLY_SET;
    pthread_mutex_unlock(&vm->api->slots_mutex);
    return 0;
}

static int limit_vcpu_id(struct softkvm_vm *vm, uint64_t limit)
{
    if (limit == 0 || limit > SOFTKVM_MAX_VCPUS)
        return -EINVAL;
    pthread_mutex_lock(&vm->lock);
    bool settled = atomic_load(&vm->nvcpus) || (vm->api->max_vcpu_id && vm->api->max_vcpu_id != limit);
    int err = settled ? -EINVAL : 0;
    if (!err)
        vm->api->max_vcpu_id = (unsigned)limit;
    pthread_mutex_unlock(&vm->lock);
    return err;
}

static int enable_cap(struct softkvm_vm *vm, void *arg)
{
    const struct kvm_enable_cap *c = arg;
    if (c->flags)
        return -EINVAL;
    switch (c->cap) {
    case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
        return enable_dirty_protect(vm, c->args[0]);
    case KVM_CAP_SPLIT_IRQCHIP:
        return c->args[0] > IRQ_MAX_GSI ? -EINVAL : create_chip(vm, true, (unsigned)c->args[0]);
    case KVM_CAP_X2APIC_API:
        if (c->args[0] & ~(uint64_t)(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK))
            return -EINVAL;
        vm->x2apic_api |= c->args[0];
        return 0;
    case KVM_CAP_MAX_VCPU_ID:
        return limit_vcpu_id(vm, c->args[0]);
    case KVM_CAP_MSR_PLATFORM_INFO:
        vm->platform_info_hidden = !c->args[0];
        return 0;
    case KVM_CAP_EXCEPTION_PAYLOAD:
        vm->api->exception_payload = c->args[0];
        return 0;
    case KVM_CAP_HALT_POLL:
        if (c->args[0] != (uint32_t)c->args[0])
            return -EINVAL;
        atomic_store(&vm->api->halt_poll_ns, (uint32_t)c->args[0]);
        return 0;
    case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
        vm->api->triple_fault_event = c->args[0];
        return 0;
    default:
        return -EINVAL;
    }
}

/* A bound for KVM's shadow page tables, of which there are none: kept for who asks. */
static int set_nr_mmu_pages(struct softkvm_vm *vm, void *arg)
{
    enum { KVM_MIN_ALLOC_MMU_PAGES = 64 };
    if ((uintptr_t)arg < KVM_MIN_ALLOC_MMU_PAGES)
        return -EINVAL;
    vm->api->nr_mmu_pages = (uint32_t)(uintptr_t)arg;
    return 0;
}

static int get_nr_mmu_pages(struct softkvm_vm *vm, void *arg)
{
    (void)arg;
    return (int)vm->api->nr_mmu_pages;
}

static int check_extension(struct softkvm_vm *vm, void *arg)
{
    return api_check_extension(vm, (uintptr_t)arg);
}

/* ---- the table ---- */

static const struct vm_ioctl ioctls[] = {
    {KVM_CHECK_EXTENSION, ARG_VALUE, check_extension},
    {KVM_ENABLE_CAP, ARG_PTR, enable_cap},
    {KVM_CREATE_VCPU, ARG_VALUE, vcpu_create},
    {KVM_SET_USER_MEMORY_REGION, ARG_PTR, memslot_set},
    {KVM_GET_DIRTY_LOG, ARG_PTR, memslot_dirty_log},
    {KVM_CLEAR_DIRTY_LOG, ARG_PTR, memslot_dirty_clear},
    {KVM_REGISTER_COALESCED_MMIO, ARG_PTR, coalesced_register},
    {KVM_UNREGISTER_COALESCED_MMIO, ARG_PTR, coalesced_unregister},
    {KVM_GET_STATS_FD, ARG_VALUE, stats_vm_fd},
    {KVM_SET_NR_MMU_PAGES, ARG_VALUE, set_nr_mmu_pages},
    {KVM_GET_NR_MMU_PAGES, ARG_VALUE, get_nr_mmu_pages},
    {KVM_SET_TSS_ADDR, ARG_VALUE, set_tss_addr},
    {KVM_SET_IDENTITY_MAP_ADDR, ARG_PTR, set_identity_map_addr},
    {KVM_CREATE_IRQCHIP, ARG_VALUE, create_irqchip},
    {KVM_GET_IRQCHIP, ARG_PTR, get_irqchip},
    {KVM_SET_IRQCHIP, ARG_PTR, set_irqchip},
    {KVM_IRQ_LINE, ARG_PTR, irq_line},
    {KVM_IRQ_LINE_STATUS, ARG_PTR, irq_line_status},
    {KVM_SET_GSI_ROUTING, ARG_PTR, set_gsi_routing},
    {KVM_SIGNAL_MSI, ARG_PTR, signal_msi},
    {KVM_IRQFD, ARG_PTR, irqfd_ioctl},
    {KVM_IOEVENTFD, ARG_PTR, ioeventfd_ioctl},
    {KVM_CREATE_PIT, ARG_VALUE, create_pit},
    {KVM_CREATE_PIT2, ARG_PTR, create_pit2},
    {KVM_GET_PIT, ARG_PTR, get_pit},
    {KVM_SET_PIT, ARG_PTR, set_pit},
    {KVM_GET_PIT2, ARG_PTR, get_pit2},
    {KVM_SET_PIT2, ARG_PTR, set_pit2},
    {KVM_REINJECT_CONTROL, ARG_PTR, reinject_control},
    {KVM_SET_BOOT_CPU_ID, ARG_VALUE, set_boot_cpu},
    {KVM_GET_CLOCK, ARG_PTR, get_clock},
    {KVM_SET_CLOCK, ARG_PTR, set_clock},
    {KVM_GET_TSC_KHZ, ARG_VALUE, get_tsc_khz},
    {KVM_SET_TSC_KHZ, ARG_VALUE, set_tsc_khz},
};

int vm_ioctl(struct softkvm_vm *vm, uint32_t request, void *arg)
{
    for (unsigned i = 0; i < ARRAY_SIZE(ioctls); i++) {
        if (ioctls[i].request != request)
            continue;
        int err = api_check_arg(ioctls[i].arg, arg);
        return err ? err : ioctls[i].fn(vm, arg);
    }
    return -ENOTTY;
}
