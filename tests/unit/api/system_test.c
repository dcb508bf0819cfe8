// SPDX-License-Identifier: GPL-2.0-or-later
/* The system and VM descriptors' own calls: versions, capabilities, tables, chips. */
#include "harness.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Arguments with room for what follows them. */
struct cpuid_table {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 e[256];
};
struct one_msr {
    struct kvm_msrs head;
    struct kvm_msr_entry e;
};

static void versions(void)
{
    struct guest *g = guest_new(0, 0);
    CHECK_EQ(OK(g->sys, KVM_GET_API_VERSION, 0), 12);
    FAILS(g->sys, KVM_GET_API_VERSION, 1, EINVAL);
    CHECK(OK(g->sys, KVM_GET_VCPU_MMAP_SIZE, 0) >= 3 * 4096);
    FAILS(g->sys, KVM_GET_VCPU_MMAP_SIZE, 1, EINVAL);
    FAILS(g->sys, KVM_CREATE_VM, 0x1000, EINVAL);
    FAILS(g->sys, KVM_RUN, 0, EINVAL);
    FAILS(g->sys, KVM_GET_REGS, 0x1000, EINVAL);
    FAILS(g->vm, KVM_RUN, 0, ENOTTY);
    FAILS(g->vm, KVM_GET_API_VERSION, 0, ENOTTY);
    /* as it arrives through an int */
    CHECK_EQ(OK(g->sys, (unsigned long)(long)(int)KVM_GET_API_VERSION, 0), 12);
}

static void capabilities(void)
{
    struct guest *g = guest_new(0, 0);
    static const int have[] = {KVM_CAP_IRQCHIP,
                               KVM_CAP_HLT,
                               KVM_CAP_USER_MEMORY,
                               KVM_CAP_SET_TSS_ADDR,
                               KVM_CAP_EXT_CPUID,
                               KVM_CAP_NR_VCPUS,
                               KVM_CAP_MAX_VCPUS,
                               KVM_CAP_MAX_VCPU_ID,
                               KVM_CAP_NR_MEMSLOTS,
                               KVM_CAP_PIT2,
                               KVM_CAP_PIT_STATE2,
                               KVM_CAP_MP_STATE,
                               KVM_CAP_COALESCED_MMIO,
                               KVM_CAP_COALESCED_PIO,
                               KVM_CAP_SYNC_MMU,
                               KVM_CAP_DESTROY_MEMORY_REGION_WORKS,
                               KVM_CAP_JOIN_MEMORY_REGIONS_WORKS,
                               KVM_CAP_USER_NMI,
                               KVM_CAP_SET_GUEST_DEBUG,
                               KVM_CAP_SET_GUEST_DEBUG2,
                               KVM_CAP_X86_ROBUST_SINGLESTEP,
                               KVM_CAP_REINJECT_CONTROL,
                               KVM_CAP_IRQ_ROUTING,
                               KVM_CAP_IRQ_INJECT_STATUS,
                               KVM_CAP_MCE,
                               KVM_CAP_IRQFD,
                               KVM_CAP_IRQFD_RESAMPLE,
                               KVM_CAP_SET_BOOT_CPU_ID,
                               KVM_CAP_IOEVENTFD,
                               KVM_CAP_IOEVENTFD_ANY_LENGTH,
                               KVM_CAP_SET_IDENTITY_MAP_ADDR,
                               KVM_CAP_ADJUST_CLOCK,
                               KVM_CAP_INTERNAL_ERROR_DATA,
                               KVM_CAP_VCPU_EVENTS,
                               KVM_CAP_DEBUGREGS,
                               KVM_CAP_XSAVE,
                               KVM_CAP_XSAVE2,
                               KVM_CAP_XCRS,
                               KVM_CAP_GET_TSC_KHZ,
                               KVM_CAP_TSC_DEADLINE_TIMER,
                               KVM_CAP_SYNC_REGS,
                               KVM_CAP_KVMCLOCK_CTRL,
                               KVM_CAP_SIGNAL_MSI,
                               KVM_CAP_READONLY_MEM,
                               KVM_CAP_SPLIT_IRQCHIP,
                               KVM_CAP_X2APIC_API,
                               KVM_CAP_IMMEDIATE_EXIT,
                               KVM_CAP_GET_MSR_FEATURES,
                               KVM_CAP_EXCEPTION_PAYLOAD,
                               KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                               KVM_CAP_SREGS2,
                               KVM_CAP_ENABLE_CAP_VM,
                               KVM_CAP_CHECK_EXTENSION_VM,
                               KVM_CAP_CLOCKSOURCE,
                               KVM_CAP_X86_TRIPLE_FAULT_EVENT};
    for (unsigned i = 0; i < ARRAY_SIZE(have); i++) {
        int r = OK(g->sys, KVM_CHECK_EXTENSION, have[i]);
        if (r <= 0)
            test_fail(__FILE__, __LINE__, "capability %d is missing", have[i]);
        CHECK(OK(g->vm, KVM_CHECK_EXTENSION, have[i]) > 0);
    }
    CHECK_EQ(OK(g->sys, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO), KVM_COALESCED_MMIO_PAGE_OFFSET);
    CHECK_EQ(OK(g->sys, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2), 4096);
    CHECK_EQ(OK(g->sys, KVM_CHECK_EXTENSION, KVM_CAP_X2APIC_API) & 3, 3);
    CHECK_EQ(OK(g->sys, KVM_CHECK_EXTENSION, KVM_CAP_PPC_HIOR), 0);
    CHECK_EQ(OK(g->sys, KVM_CHECK_EXTENSION, 123456), 0);
}

/* What is not there says so and fails as in a KVM that was built without it. */
static void absences(void)
{
    struct guest *g = guest_new(1, 0);
    static const int lack[] = {KVM_CAP_X86_SMM,           KVM_CAP_NESTED_STATE,   KVM_CAP_HYPERV,         KVM_CAP_XEN_HVM,
                               KVM_CAP_TSC_CONTROL,       KVM_CAP_DEVICE_CTRL,    KVM_CAP_DIRTY_LOG_RING, KVM_CAP_X86_MSR_FILTER,
                               KVM_CAP_ONE_REG,        KVM_CAP_ASYNC_PF,       KVM_CAP_VAPIC,
                               KVM_CAP_X86_DISABLE_EXITS, KVM_CAP_PMU_CAPABILITY, KVM_CAP_EXIT_HYPERCALL};
    for (unsigned i = 0; i < ARRAY_SIZE(lack); i++)
        CHECK_EQ(OK(g->sys, KVM_CHECK_EXTENSION, lack[i]), 0);
    static const unsigned long vcpu[] = {KVM_GET_ONE_REG,      KVM_SET_ONE_REG,          KVM_GET_NESTED_STATE,
                                         KVM_SET_NESTED_STATE, KVM_TPR_ACCESS_REPORTING, KVM_SET_VAPIC_ADDR};
    for (unsigned i = 0; i < ARRAY_SIZE(vcpu); i++)
        FAILS(g->vcpu[0], vcpu[i], g->ram, EINVAL);
    FAILS(g->vcpu[0], KVM_SMI, 0, ENOTTY);
    static const unsigned long vm[] = {KVM_CREATE_DEVICE, KVM_X86_SET_MSR_FILTER, KVM_XEN_HVM_CONFIG, KVM_RESET_DIRTY_RINGS};
    for (unsigned i = 0; i < ARRAY_SIZE(vm); i++)
        FAILS(g->vm, vm[i], g->ram, ENOTTY);
    struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING, .args = {4096}};
    FAILS(g->vm, KVM_ENABLE_CAP, &cap, EINVAL);
    cap.cap = KVM_CAP_HYPERV_SYNIC;
    FAILS(g->vcpu[0], KVM_ENABLE_CAP, &cap, EINVAL);
}

static void cpuid_tables(void)
{
    struct guest *g = guest_new(1, 0);
    static struct cpuid_table c, d;
    c.head.nent = 0;
    FAILS(g->sys, KVM_GET_SUPPORTED_CPUID, &c, E2BIG);
    c.head.nent = 2;
    FAILS(g->sys, KVM_GET_SUPPORTED_CPUID, &c, E2BIG);
    c.head.nent = 256;
    OK(g->sys, KVM_GET_SUPPORTED_CPUID, &c);
    uint32_t n = c.head.nent;
    CHECK(n > 5 && n < 256);
    d.head.nent = 256;
    OK(g->vcpu[0], KVM_GET_CPUID2, &d);
    CHECK_EQ(d.head.nent, 0);
    OK(g->vcpu[0], KVM_SET_CPUID2, &c);
    d.head.nent = n - 1;
    FAILS(g->vcpu[0], KVM_GET_CPUID2, &d, E2BIG);
    d.head.nent = 256;
    OK(g->vcpu[0], KVM_GET_CPUID2, &d);
    CHECK_EQ(d.head.nent, n);
    for (uint32_t i = 0; i < n; i++)
        CHECK_EQ(d.e[i].function, c.e[i].function);
    c.head.nent = 257;
    FAILS(g->vcpu[0], KVM_SET_CPUID2, &c, E2BIG);
    struct {
        struct kvm_cpuid head;
        struct kvm_cpuid_entry e[2];
    } old = {.head.nent = 2, .e = {{.function = 0, .eax = 1}, {.function = 1, .eax = 0x12345}}};
    OK(g->vcpu[0], KVM_SET_CPUID, &old);
    OK(g->vcpu[0], KVM_GET_CPUID2, &d);
    bool found = false;
    for (uint32_t i = 0; i < d.head.nent; i++)
        found |= d.e[i].function == 1 && d.e[i].eax == 0x12345;
    CHECK(found);
    c.head.nent = 0;
    FAILS(g->sys, KVM_GET_EMULATED_CPUID, &c, E2BIG);
    memset(&c, 0, sizeof(c));
    c.head.nent = 256;
    OK(g->sys, KVM_GET_EMULATED_CPUID, &c);
}

/* Once the guest has run, its CPUID may only be set to what it is. */
static void cpuid_after_run(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    static struct cpuid_table c;
    guest_real(g, 0, 0x1000, CODE(0xf4));
    RUN(g, 0, KVM_EXIT_HLT);
    c.head.nent = 256;
    OK(g->vcpu[0], KVM_GET_CPUID2, &c);
    OK(g->vcpu[0], KVM_SET_CPUID2, &c);
    c.head.nent--;
    FAILS(g->vcpu[0], KVM_SET_CPUID2, &c, EINVAL);
    c.head.nent++;
    c.e[1].eax ^= 1;
    FAILS(g->vcpu[0], KVM_SET_CPUID2, &c, EINVAL);
}

/* The table that is read has what follows from the vCPU's state, and is still the same table when it is set again. */
static void cpuid_follows_state(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    static struct cpuid_table c;
    /* mov eax,cr4; or eax,1<<18; mov cr4,eax; hlt */
    guest_real(g, 0, 0x1000, CODE(0x0f, 0x20, 0xe0, 0x66, 0x0d, 0x00, 0x00, 0x04, 0x00, 0x0f, 0x22, 0xe0, 0xf4));
    for (unsigned i = 0; i < 2; i++) {
        c.head.nent = 256;
        OK(g->vcpu[0], KVM_GET_CPUID2, &c);
        unsigned n = 0;
        while (n < c.head.nent && c.e[n].function != 1)
            n++;
        CHECK(n < c.head.nent);
        CHECK_EQ(c.e[n].ecx >> 27 & 1, i); /* OSXSAVE */
        if (i == 0)
            RUN(g, 0, KVM_EXIT_HLT);
        OK(g->vcpu[0], KVM_SET_CPUID2, &c);
    }
}

static void limits(void)
{
    struct guest *g = guest_new(0, 0);
    FAILS(g->vm, KVM_SET_NR_MMU_PAGES, 63, EINVAL);
    OK(g->vm, KVM_SET_NR_MMU_PAGES, 64);
    if (!be->real) /* later kernels than 6.2 have no such request */
        CHECK_EQ(OK(g->vm, KVM_GET_NR_MMU_PAGES, 0), 64);
    struct kvm_enable_cap cap = {.cap = KVM_CAP_MAX_VCPU_ID, .args = {1u << 30}};
    FAILS(g->vm, KVM_ENABLE_CAP, &cap, EINVAL);
    cap.args[0] = 2;
    OK(g->vm, KVM_ENABLE_CAP, &cap);
    OK(g->vm, KVM_ENABLE_CAP, &cap);
    cap.args[0] = 3;
    FAILS(g->vm, KVM_ENABLE_CAP, &cap, EINVAL);
    FAILS(g->vm, KVM_CREATE_VCPU, 2, EINVAL);
    int fd = OK(g->vm, KVM_CREATE_VCPU, 1);
    CHECK_EQ(be->close(fd), 0);
}

/* KVM_CAP_MSR_PLATFORM_INFO decides whether a guest may read the MSR; user space always may. */
static void platform_info(void)
{
    enum { MSR_PLATFORM_INFO = 0xce };
    struct one_msr m = {.head.nmsrs = 1, .e = {.index = MSR_PLATFORM_INFO, .data = 0xab00}};
    for (unsigned hidden = 0; hidden < 2; hidden++) {
        struct guest *g = guest_new(1, GUEST_CPUID);
        struct kvm_enable_cap cap = {.cap = KVM_CAP_MSR_PLATFORM_INFO, .args = {!hidden}};
        OK(g->vm, KVM_ENABLE_CAP, &cap);
        CHECK_EQ(OK(g->vcpu[0], KVM_SET_MSRS, &m), 1);
        /* mov ecx,0xce; rdmsr; hlt. The IDT is empty: #GP ends in a triple fault. */
        guest_long(g, 0, 0x10000, CODE(0xb9, 0xce, 0x00, 0x00, 0x00, 0x0f, 0x32, 0xf4));
        RUN(g, 0, hidden ? KVM_EXIT_SHUTDOWN : KVM_EXIT_HLT);
        if (!hidden)
            CHECK_EQ(guest_regs(g, 0).rax, 0xab00);
        guest_free(g);
    }
}

static void statistics(void)
{
    const char *engine = getenv("SOFTKVM_ENGINE");
    bool translates = engine && strcmp(engine, "bt") == 0;
    struct guest *g = guest_new(1, GUEST_CPUID);
    CHECK_EQ(OK(g->sys, KVM_CHECK_EXTENSION, KVM_CAP_BINARY_STATS_FD), 1);
    int vm = OK(g->vm, KVM_GET_STATS_FD, 0), vcpu = OK(g->vcpu[0], KVM_GET_STATS_FD, 0), again = OK(g->vcpu[0], KVM_GET_STATS_FD, 0);
    char id[8];
    CHECK_EQ(pread(vm, id, 3, sizeof(struct kvm_stats_header)), 3);
    CHECK(!memcmp(id, "kvm", 3));
    int64_t exits = figure(vcpu, "exits");
    guest_long(g, 0, 0x10000, CODE(0xe6, 0x10, 0xeb, 0xfc)); /* out 0x10,al; jmp back */
    for (unsigned i = 0; i < 100; i++)
        RUN(g, 0, KVM_EXIT_IO);
    if (be->real) {
        CHECK(figure(vcpu, "exits") > exits);
    } else {
        CHECK_EQ(figure(vcpu, "exits"), 100);
        CHECK_EQ(figure(again, "io_exits"), 100);
        CHECK_EQ(figure(vcpu, "mmio_exits"), 0);
        CHECK(figure(vm, "bt_blocks") >= 0);
        CHECK(figure(vcpu, "bt_translations") == 0 || figure(vm, "bt_code_bytes") > 0);
        CHECK(figure(vcpu, "bt_translations") > 0 || !translates);
    }
    CHECK_EQ(figure(vcpu, "nonsense"), -1);
    CHECK_EQ(write(vcpu, id, 1), -1);
    close(vm);
    close(vcpu);
    close(again);
}

/* What KVM's CPUID leaf does not show is not there for a guest once that is asked for. */
static void enforced_features(void)
{
    for (unsigned enforce = 0; enforce < 2; enforce++) {
        struct guest *g = guest_new(1, 0);
        /* mov ecx,MSR_KVM_STEAL_TIME; rdmsr; hlt. The IDT is empty: #GP ends in a triple fault. */
        guest_long(g, 0, 0x10000, CODE(0xb9, 0x03, 0x4d, 0x56, 0x4b, 0x0f, 0x32, 0xf4));
        struct kvm_enable_cap cap = {.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = {enforce}};
        OK(g->vcpu[0], KVM_ENABLE_CAP, &cap);
        struct {
            struct kvm_cpuid2 head;
            struct kvm_cpuid_entry2 e;
        } c = {.head.nent = 1, .e = {.function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d}};
        OK(g->vcpu[0], KVM_SET_CPUID2, &c);
        RUN(g, 0, enforce ? KVM_EXIT_SHUTDOWN : KVM_EXIT_HLT);
    }
}

static void msr_lists(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    static struct {
        struct kvm_msr_list head;
        uint32_t index[1024];
    } l;
    l.head.nmsrs = 0;
    FAILS(g->sys, KVM_GET_MSR_INDEX_LIST, &l, E2BIG);
    uint32_t n = l.head.nmsrs;
    CHECK(n > 10 && n < 1024);
    OK(g->sys, KVM_GET_MSR_INDEX_LIST, &l);
    CHECK_EQ(l.head.nmsrs, n);
    bool star = false, tsc = false;
    for (uint32_t i = 0; i < n; i++) {
        star |= l.index[i] == 0xc0000081;
        tsc |= l.index[i] == 0x10;
    }
    CHECK(star && tsc);
    l.head.nmsrs = 0;
    int r = be->ioctl(g->sys, KVM_GET_MSR_FEATURE_INDEX_LIST, &l);
    CHECK(r == 0 || errno == E2BIG);
    n = l.head.nmsrs;
    OK(g->sys, KVM_GET_MSR_FEATURE_INDEX_LIST, &l);
    struct one_msr m = {.head.nmsrs = 1};
    for (uint32_t i = 0; i < n; i++) {
        m.e.index = l.index[i];
        CHECK_EQ(OK(g->sys, KVM_GET_MSRS, &m), 1);
    }
    m.e.index = 0xc0000081; /* no feature: fails with KVM 6.1, reads 0 with 6.18 */
    if (!be->real)
        CHECK_EQ(OK(g->sys, KVM_GET_MSRS, &m), 0);
}

/* Every MSR of the list can be read, and written back. */
static void msr_round_trip(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID | GUEST_IRQCHIP);
    static struct {
        struct kvm_msr_list head;
        uint32_t index[1024];
    } l = {.head.nmsrs = 1024};
    OK(g->sys, KVM_GET_MSR_INDEX_LIST, &l);
    struct one_msr m = {.head.nmsrs = 1};
    for (uint32_t i = 0; i < l.head.nmsrs; i++) {
        m.e.index = l.index[i];
        if (OK(g->vcpu[0], KVM_GET_MSRS, &m) != 1)
            test_fail(__FILE__, __LINE__, "MSR %#x of the list cannot be read", l.index[i]);
        if (OK(g->vcpu[0], KVM_SET_MSRS, &m) != 1)
            test_fail(__FILE__, __LINE__, "MSR %#x of the list cannot be written back", l.index[i]);
    }
}

static void msrs(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    static struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e[256];
    } m;
    m.head.nmsrs = 3;
    m.e[0] = (struct kvm_msr_entry){.index = 0xc0000081, .data = 0x0023001000000000};
    m.e[1] = (struct kvm_msr_entry){.index = 0x12345678, .data = 1};
    m.e[2] = (struct kvm_msr_entry){.index = 0xc0000082, .data = 0xffffffff81000000};
    CHECK_EQ(OK(g->vcpu[0], KVM_SET_MSRS, &m), 1); /* stops at the second */
    m.e[1].index = 0xc0000102;
    m.e[1].data = 0x1234;
    CHECK_EQ(OK(g->vcpu[0], KVM_SET_MSRS, &m), 3);
    m.e[0].data = m.e[1].data = m.e[2].data = 0;
    CHECK_EQ(OK(g->vcpu[0], KVM_GET_MSRS, &m), 3);
    CHECK_EQ(m.e[0].data, 0x0023001000000000);
    CHECK_EQ(m.e[1].data, 0x1234);
    CHECK_EQ(m.e[2].data, 0xffffffff81000000);
    m.head.nmsrs = 256;
    FAILS(g->vcpu[0], KVM_GET_MSRS, &m, E2BIG);
    FAILS(g->vcpu[0], KVM_SET_MSRS, &m, E2BIG);
}

static void addresses(void)
{
    struct guest *g = guest_new(0, 0);
    uint64_t at = 0xfffbc000;
    OK(g->vm, KVM_SET_TSS_ADDR, 0xfffbd000u);
    FAILS(g->vm, KVM_SET_TSS_ADDR, 0xffffe000u, EINVAL);
    OK(g->vm, KVM_SET_IDENTITY_MAP_ADDR, &at);
    OK(g->vm, KVM_SET_BOOT_CPU_ID, 1);
    int v = OK(g->vm, KVM_CREATE_VCPU, 0);
    FAILS(g->vm, KVM_SET_IDENTITY_MAP_ADDR, &at, EINVAL);
    FAILS(g->vm, KVM_SET_BOOT_CPU_ID, 1, EBUSY);
    FAILS(g->vm, KVM_CREATE_VCPU, 0, EEXIST);
    FAILS(g->vm, KVM_CREATE_VCPU, 1 << 20, EINVAL);
    be->close(v);
    FAILS(g->vm, KVM_CREATE_VCPU, 0, EEXIST); /* it lives as long as the VM */
}

static void chips(void)
{
    struct guest *g = guest_new(0, GUEST_NO_RAM);
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    struct kvm_irq_level level = {.irq = 5, .level = 1};
    struct kvm_pit_state2 pit;
    struct kvm_pit_config config = {0};
    struct kvm_reinject_control reinject = {.pit_reinject = 0};
    struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 0x31};
    struct kvm_irq_routing routing = {0};
    FAILS(g->vm, KVM_GET_IRQCHIP, &chip, ENXIO);
    FAILS(g->vm, KVM_SET_IRQCHIP, &chip, ENXIO);
    FAILS(g->vm, KVM_IRQ_LINE, &level, ENXIO);
    if (!be->real) /* KVM 6.1; 6.18 has EPERM */
        FAILS(g->vm, KVM_SIGNAL_MSI, &msi, EINVAL);
    FAILS(g->vm, KVM_GET_PIT2, &pit, ENXIO);
    FAILS(g->vm, KVM_REINJECT_CONTROL, &reinject, ENXIO);
    FAILS(g->vm, KVM_SET_GSI_ROUTING, &routing, EINVAL);
    FAILS(g->vm, KVM_CREATE_PIT2, &config, ENOENT);
    OK(g->vm, KVM_CREATE_IRQCHIP, 0);
    FAILS(g->vm, KVM_CREATE_IRQCHIP, 0, EEXIST);
    FAILS(g->vm, KVM_GET_PIT2, &pit, ENXIO);
    OK(g->vm, KVM_CREATE_PIT2, &config);
    FAILS(g->vm, KVM_CREATE_PIT2, &config, EEXIST);
    OK(g->vm, KVM_GET_PIT2, &pit);
    OK(g->vm, KVM_SET_PIT2, &pit);
    OK(g->vm, KVM_GET_PIT, &pit);
    OK(g->vm, KVM_SET_PIT, &pit);
    OK(g->vm, KVM_REINJECT_CONTROL, &reinject);
    for (unsigned i = 0; i < 3; i++) {
        chip.chip_id = i;
        OK(g->vm, KVM_GET_IRQCHIP, &chip);
        OK(g->vm, KVM_SET_IRQCHIP, &chip);
    }
    chip.chip_id = 3;
    FAILS(g->vm, KVM_GET_IRQCHIP, &chip, EINVAL);
    FAILS(g->vm, KVM_SET_IRQCHIP, &chip, EINVAL);
    OK(g->vm, KVM_IRQ_LINE, &level);
    msi.flags = 2;
    if (!be->real) /* as above */
        FAILS(g->vm, KVM_SIGNAL_MSI, &msi, EINVAL);
}

static void chips_too_late(void)
{
    struct guest *g = guest_new(1, GUEST_NO_RAM);
    struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
    FAILS(g->vm, KVM_CREATE_IRQCHIP, 0, EINVAL);
    FAILS(g->vm, KVM_ENABLE_CAP, &cap, EEXIST);
}

static void split_chip(void)
{
    struct guest *g = guest_new(0, GUEST_NO_RAM);
    struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {5000}};
    struct kvm_irqchip chip = {0};
    struct kvm_pit_config config = {0};
    FAILS(g->vm, KVM_ENABLE_CAP, &cap, EINVAL);
    cap.args[0] = 24;
    OK(g->vm, KVM_ENABLE_CAP, &cap);
    FAILS(g->vm, KVM_ENABLE_CAP, &cap, EEXIST);
    FAILS(g->vm, KVM_CREATE_IRQCHIP, 0, EEXIST);
    FAILS(g->vm, KVM_GET_IRQCHIP, &chip, ENXIO);
    FAILS(g->vm, KVM_CREATE_PIT2, &config, ENOENT);
    cap = (struct kvm_enable_cap){.cap = KVM_CAP_X2APIC_API, .args = {0x100}};
    FAILS(g->vm, KVM_ENABLE_CAP, &cap, EINVAL);
    cap.args[0] = 3;
    OK(g->vm, KVM_ENABLE_CAP, &cap);
}

static void routing(void)
{
    struct guest *g = guest_new(0, GUEST_IRQCHIP);
    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry e[2];
    } r = {.head.nr = 1, .e = {{.gsi = 40, .type = KVM_IRQ_ROUTING_MSI, .u.msi = {.address_lo = 0xfee00000, .data = 0x40}}}};
    OK(g->vm, KVM_SET_GSI_ROUTING, &r);
    r.head.flags = 1;
    FAILS(g->vm, KVM_SET_GSI_ROUTING, &r, EINVAL);
    r.head.flags = 0;
    r.head.nr = 5000;
    FAILS(g->vm, KVM_SET_GSI_ROUTING, &r, EINVAL);
    r.head.nr = 1;
    r.e[0].gsi = 5000;
    FAILS(g->vm, KVM_SET_GSI_ROUTING, &r, EINVAL);
    r.e[0] = (struct kvm_irq_routing_entry){.gsi = 1, .type = 99};
    FAILS(g->vm, KVM_SET_GSI_ROUTING, &r, EINVAL);
    r.e[0] = (struct kvm_irq_routing_entry){.gsi = 1, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {.irqchip = 7, .pin = 1}};
    FAILS(g->vm, KVM_SET_GSI_ROUTING, &r, EINVAL);
    r.e[0].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
    r.e[0].u.irqchip.pin = 24;
    FAILS(g->vm, KVM_SET_GSI_ROUTING, &r, EINVAL);
    r.head.nr = 0;
    OK(g->vm, KVM_SET_GSI_ROUTING, &r);
}

static void clocks(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    struct kvm_clock_data a, b;
    OK(g->vm, KVM_GET_CLOCK, &a);
    CHECK(a.clock < 60 * NS_PER_S); /* a new VM's clock is young */
    usleep(20000);
    OK(g->vm, KVM_GET_CLOCK, &b);
    CHECK(b.clock - a.clock >= 19000000 && b.clock - a.clock < 60 * NS_PER_S);
    a = (struct kvm_clock_data){.clock = 1000 * NS_PER_S};
    OK(g->vm, KVM_SET_CLOCK, &a);
    OK(g->vm, KVM_GET_CLOCK, &b);
    CHECK(b.clock - a.clock < 60 * NS_PER_S);
    a.flags = 1 << 10;
    FAILS(g->vm, KVM_SET_CLOCK, &a, EINVAL);
    OK(g->vm, KVM_SET_CLOCK, &b); /* what GET has given */
    int khz = OK(g->vcpu[0], KVM_GET_TSC_KHZ, 0);
    CHECK(khz > 100000);
    OK(g->vcpu[0], KVM_SET_TSC_KHZ, khz);
    OK(g->vcpu[0], KVM_SET_TSC_KHZ, 0);
    CHECK_EQ(OK(g->vm, KVM_GET_TSC_KHZ, 0), khz);
    if (!be->real) { /* hardware may scale */
        FAILS(g->vcpu[0], KVM_SET_TSC_KHZ, khz / 2, EINVAL);
        FAILS(g->vm, KVM_SET_TSC_KHZ, khz / 2, EINVAL);
        CHECK_EQ(OK(g->vcpu[0], KVM_GET_TSC_KHZ, 0), khz);
        CHECK_EQ(OK(g->vm, KVM_GET_TSC_KHZ, 0), khz);
    }
    FAILS(g->vcpu[0], KVM_KVMCLOCK_CTRL, 0, EINVAL); /* the guest has no kvmclock yet */
}

/* KVM_KVMCLOCK_CTRL sets kvmclock's "guest stopped" flag. */
static void clock_pause(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    struct one_msr m = {.head.nmsrs = 1, .e = {.index = 0x4b564d01, .data = 0x5001}};
    CHECK_EQ(OK(g->vcpu[0], KVM_SET_MSRS, &m), 1);
    guest_real(g, 0, 0x1000, CODE(0xf4, 0xf4, 0xf4));
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK(*(uint32_t *)(void *)(g->ram + 0x5000) != 0); /* version */
    CHECK_EQ(g->ram[0x501d] & 2, 0);
    OK(g->vcpu[0], KVM_KVMCLOCK_CTRL, 0);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(g->ram[0x501d] & 2, 2);
    g->ram[0x501d] &= ~2; /* the guest has seen it */
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(g->ram[0x501d] & 2, 0);
}

/* The TSCs of a VM start near 0 and go in step. */
static void tsc_in_step(void)
{
    struct guest *g = guest_new(2, GUEST_CPUID);
    struct one_msr m[2] = {{.head.nmsrs = 1, .e.index = 0x10}, {.head.nmsrs = 1, .e.index = 0x10}};
    int khz = OK(g->vcpu[0], KVM_GET_TSC_KHZ, 0);
    OK(g->vcpu[0], KVM_GET_MSRS, &m[0]);
    OK(g->vcpu[1], KVM_GET_MSRS, &m[1]);
    if (!be->real) /* a software-only /dev/kvm gives the host's TSC */
        CHECK(m[0].e.data < 60000ull * (unsigned)khz);
    CHECK(m[1].e.data - m[0].e.data < 1000ull * (unsigned)khz); /* read later, by less than a second */
}

static void machine_checks(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    uint64_t cap = 0;
    OK(g->sys, KVM_X86_GET_MCE_CAP_SUPPORTED, &cap);
    CHECK(cap & 0x100);
    cap = 0x100 | 33;
    FAILS(g->vcpu[0], KVM_X86_SETUP_MCE, &cap, EINVAL);
    cap = 0x100;
    FAILS(g->vcpu[0], KVM_X86_SETUP_MCE, &cap, EINVAL);
    cap = 1ull << 40 | 4;
    FAILS(g->vcpu[0], KVM_X86_SETUP_MCE, &cap, EINVAL);
    cap = 0x100 | 10;
    OK(g->vcpu[0], KVM_X86_SETUP_MCE, &cap);
    struct kvm_x86_mce m = {.status = 1ull << 63 | 0x17, .addr = 0x1234000, .bank = 10};
    FAILS(g->vcpu[0], KVM_X86_SET_MCE, &m, EINVAL);
    m.bank = 3;
    m.status = 0x17;
    FAILS(g->vcpu[0], KVM_X86_SET_MCE, &m, EINVAL);
    m.status |= 1ull << 63;
    OK(g->vcpu[0], KVM_X86_SET_MCE, &m);
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e[3];
    } r = {.head.nmsrs = 3, .e = {{.index = 0x179}, {.index = 0x401 + 12}, {.index = 0x402 + 12}}};
    CHECK_EQ(OK(g->vcpu[0], KVM_GET_MSRS, &r), 3);
    CHECK_EQ(r.e[0].data, cap);
    CHECK_EQ(r.e[1].data, m.status);
    CHECK_EQ(r.e[2].data, m.addr);
    m.status |= 1ull << 61; /* uncorrected, no action required: logged */
    OK(g->vcpu[0], KVM_X86_SET_MCE, &m);
    CHECK_EQ(OK(g->vcpu[0], KVM_GET_MSRS, &r), 3);
    CHECK_EQ(r.e[1].data, m.status);
    m.mcg_status = 4; /* in earnest, and CR4.MCE is clear */
    guest_real(g, 0, 0x1000, CODE(0xf4));
    OK(g->vcpu[0], KVM_X86_SET_MCE, &m);
    RUN(g, 0, KVM_EXIT_SHUTDOWN);
}

static void faults(void)
{
    struct guest *g = guest_new(1, 0);
    FAILS(g->vcpu[0], KVM_GET_REGS, 0, EFAULT);
    FAILS(g->vcpu[0], KVM_SET_SREGS, 0, EFAULT);
    FAILS(g->vcpu[0], KVM_GET_MSRS, 0, EFAULT);
    FAILS(g->vm, KVM_IOEVENTFD, 0, EFAULT);
    FAILS(g->sys, KVM_GET_SUPPORTED_CPUID, 0, EFAULT);
    FAILS(g->vcpu[0], KVM_CHECK_EXTENSION, 0, EINVAL);
    FAILS(g->vcpu[0], KVM_CREATE_VCPU, 0, EINVAL);
    FAILS(-1, KVM_RUN, 0, EBADF);
}

const struct test tests[] = {
    {"versions", versions, NULL},
    {"capabilities", capabilities, NULL},
    {"absences", absences, "the kernel has more than softkvm"},
    {"cpuid tables", cpuid_tables, NULL},
    {"cpuid after run", cpuid_after_run, NULL},
    {"cpuid follows state", cpuid_follows_state, NULL},
    {"limits", limits, NULL},
    {"statistics", statistics, NULL},
    {"enforced features", enforced_features, NULL},
    {"platform info", platform_info, NULL},
    {"msr lists", msr_lists, NULL},
    {"msr round trip", msr_round_trip, NULL},
    {"msrs", msrs, NULL},
    {"addresses", addresses, NULL},
    {"chips", chips, NULL},
    {"chips too late", chips_too_late, NULL},
    {"split chip", split_chip, NULL},
    {"routing", routing, NULL},
    {"clocks", clocks, NULL},
    {"clock pause", clock_pause, NULL},
    {"tsc in step", tsc_in_step, NULL},
    {"machine checks", machine_checks, NULL},
    {"faults", faults, NULL},
    {NULL, NULL, NULL},
};
