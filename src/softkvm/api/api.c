// SPDX-License-Identifier: GPL-2.0-or-later
/* The system descriptor's ioctls, and what KVM_CHECK_EXTENSION answers. */
#include <errno.h>

#include "softkvm/api/api.h"
#include "softkvm/x86/fpu.h"

/* What is there. A capability that is not in this table answers 0, and what it stands for fails as in a KVM without it. */
static const struct {
    uint16_t cap;
    int value;
} capabilities[] = {
    {KVM_CAP_IRQCHIP, 1},
    {KVM_CAP_HLT, 1},
    {KVM_CAP_USER_MEMORY, 1},
    {KVM_CAP_SET_TSS_ADDR, 1},
    {KVM_CAP_EXT_CPUID, 1},
    {KVM_CAP_EXT_EMUL_CPUID, 1},
    {KVM_CAP_CLOCKSOURCE, 1},
    {KVM_CAP_MAX_VCPUS, SOFTKVM_MAX_VCPUS},
    {KVM_CAP_MAX_VCPU_ID, SOFTKVM_MAX_VCPUS},
    {KVM_CAP_MMU_SHADOW_CACHE_CONTROL, 1},
    {KVM_CAP_NR_MEMSLOTS, SOFTKVM_MAX_SLOTS},
    {KVM_CAP_PIT, 1},
    {KVM_CAP_NOP_IO_DELAY, 1},
    {KVM_CAP_MP_STATE, 1},
    {KVM_CAP_COALESCED_MMIO, KVM_COALESCED_MMIO_PAGE_OFFSET},
    {KVM_CAP_COALESCED_PIO, 1},
    {KVM_CAP_SYNC_MMU, 1},
    {KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1},
    {KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1},
    {KVM_CAP_USER_NMI, 1},
    {KVM_CAP_SET_GUEST_DEBUG, 1},
    {KVM_CAP_SET_GUEST_DEBUG2, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW_BP |
                                   KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_BLOCKIRQ},
    {KVM_CAP_X86_ROBUST_SINGLESTEP, 1},
    {KVM_CAP_REINJECT_CONTROL, 1},
    {KVM_CAP_IRQ_ROUTING, IRQ_MAX_GSI},
    {KVM_CAP_IRQ_INJECT_STATUS, 1},
    {KVM_CAP_MCE, API_MCE_BANKS},
    {KVM_CAP_IRQFD, 1},
    {KVM_CAP_IRQFD_RESAMPLE, 1},
    {KVM_CAP_PIT2, 1},
    {KVM_CAP_PIT_STATE2, 1},
    {KVM_CAP_SET_BOOT_CPU_ID, 1},
    {KVM_CAP_IOEVENTFD, 1},
    {KVM_CAP_IOEVENTFD_NO_LENGTH, 1},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, 1},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, 1},
    {KVM_CAP_ADJUST_CLOCK, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC},
    {KVM_CAP_INTERNAL_ERROR_DATA, 1},
    {KVM_CAP_VCPU_EVENTS, 1},
    {KVM_CAP_INTR_SHADOW, 1},
    {KVM_CAP_DEBUGREGS, 1},
    {KVM_CAP_ENABLE_CAP, 1},
    {KVM_CAP_ENABLE_CAP_VM, 1},
    {KVM_CAP_CHECK_EXTENSION_VM, 1},
    {KVM_CAP_XSAVE, 1},
    {KVM_CAP_XCRS, 1},
    {KVM_CAP_GET_TSC_KHZ, 1},
    {KVM_CAP_TSC_DEADLINE_TIMER, 1},
    {KVM_CAP_SYNC_REGS, KVM_SYNC_X86_VALID_FIELDS},
    {KVM_CAP_KVMCLOCK_CTRL, 1},
    {KVM_CAP_SIGNAL_MSI, 1},
    {KVM_CAP_READONLY_MEM, 1},
    {KVM_CAP_SPLIT_IRQCHIP, 1},
    {KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK},
    {KVM_CAP_IMMEDIATE_EXIT, 1},
    {KVM_CAP_GET_MSR_FEATURES, 1},
    {KVM_CAP_EXCEPTION_PAYLOAD, 1},
    {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET},
    {KVM_CAP_MSR_PLATFORM_INFO, 1},
    {KVM_CAP_STEAL_TIME, 1},
    {KVM_CAP_VCPU_ATTRIBUTES, 1},
    {KVM_CAP_BINARY_STATS_FD, 1},
    {KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1},
    {KVM_CAP_SREGS2, 1},
    {KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1},
    {KVM_CAP_HALT_POLL, 1},
};

int api_check_extension(const struct softkvm_vm *vm, uintptr_t cap)
{
    (void)vm;
    switch (cap) {
    case KVM_CAP_NR_VCPUS: { /* what makes sense here */
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        return (int)MAX(1, MIN(n, SOFTKVM_MAX_VCPUS));
    }
    case KVM_CAP_XSAVE2:
        return (int)fpu_xsave_size();
    }
    for (unsigned i = 0; i < ARRAY_SIZE(capabilities); i++)
        if (capabilities[i].cap == cap)
            return capabilities[i].value;
    return 0;
}

uint64_t api_supported_xcr0(void)
{
    return xstate_supported();
}

int system_ioctl(uint32_t request, void *arg)
{
    static const struct {
        uint32_t request;
        uint8_t arg;
        int (*fn)(void *arg);
    } ioctls[] = {
        {KVM_GET_MSR_INDEX_LIST, ARG_PTR, tables_msr_list},
        {KVM_GET_MSR_FEATURE_INDEX_LIST, ARG_PTR, tables_feature_msr_list},
        {KVM_GET_MSRS, ARG_PTR, tables_feature_msrs},
        {KVM_GET_SUPPORTED_CPUID, ARG_PTR, tables_supported_cpuid},
        {KVM_GET_EMULATED_CPUID, ARG_PTR, tables_emulated_cpuid},
    };
    switch (request) {
    case KVM_GET_API_VERSION:
        return arg ? -EINVAL : KVM_API_VERSION;
    case KVM_CREATE_VM: /* type 0 is the only one */
        return arg ? -EINVAL : vm_create();
    case KVM_GET_VCPU_MMAP_SIZE:
        return arg ? -EINVAL : (int)API_RUN_SIZE;
    case KVM_CHECK_EXTENSION:
        return api_check_extension(NULL, (uintptr_t)arg);
    case KVM_X86_GET_MCE_CAP_SUPPORTED:
        if ((uintptr_t)arg < PAGE_SIZE)
            return -EFAULT;
        *(uint64_t *)arg = mce_supported;
        return 0;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(ioctls); i++) {
        if (ioctls[i].request != request)
            continue;
        int err = api_check_arg(ioctls[i].arg, arg);
        return err ? err : ioctls[i].fn(arg);
    }
    return -EINVAL; /* x86's KVM answers unknown requests so, but on a VM's descriptor with ENOTTY */
}
