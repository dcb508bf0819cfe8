/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What CPUID can offer (KVM_GET_SUPPORTED_CPUID), and a vCPU's own table (KVM_SET_CPUID2).
 *
 * A feature is offered when the engine implements it. System features are the engine's own, so they are there on every host; instructions that
 * run on the host's units, or may do so once they are translated, are there when the host has them. Vendor, family and model are the host's,
 * so that guests choose what suits it. AVX-512 is for the VMM to leave out: a vCPU whose table does not admit its state in leaf 0xD has less to move. There is no VMX, SVM, TSX, MPX, AMX, SGX, CET, LA57, PT or PMU.
 *
 * CPUID exits on a virtual host, at 1-2 us each, so the table is made once.
 */
#include <asm/kvm_para.h>
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "softkvm/api/api.h"
#include "softkvm/api/hosting.h"
#include "softkvm/x86/cpu.h"
#include "softkvm/x86/fpu.h"

#define TABLE_MAX      64
#define PHYS_BITS_MAX  46
#define LAPIC_BUS_KHZ  1000000u /* the LAPIC timer's clock; Linux takes 0x15's crystal for it */
#define B(n)           (1u << (n))

/* Leaf 1 ECX: SSE3 PCLMULQDQ SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
#define L1C_HOST (B(0) | B(1) | B(9) | B(12) | B(13) | B(19) | B(20) | B(22) | B(23) | B(25) | B(26) | B(28) | B(29) | B(30))
#define L1C_OWN  (B(17) | B(21) | B(24) | B(31)) /* PCID x2APIC TSC-deadline hypervisor */
/* Leaf 1 EDX: FPU VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFLUSH MMX FXSR SSE SSE2 SS */
#define L1D (0x0003fbffu | B(19) | B(23) | B(24) | B(25) | B(26) | B(27))
/* Leaf 7 EBX: BMI1 AVX2 FDP_EXCPTN_ONLY BMI2 RDSEED ADX CLFLUSHOPT CLWB SHA */
#define L7B_HOST (B(3) | B(5) | B(8) | B(18) | B(19) | B(23) | B(24) | B(29))
#define L7B_OWN  (B(0) | B(1) | B(7) | B(9) | B(10) | B(13) | B(20)) /* FSGSBASE TSC_ADJUST SMEP ERMS INVPCID ZERO_FCS_FDS SMAP */
#define L7C_HOST (B(8) | B(9) | B(10) | B(22) | B(27) | B(28))       /* GFNI VAES VPCLMULQDQ RDPID MOVDIRI MOVDIR64B */
#define L7C_PKU  B(3)
#define L7C_OWN  (B(2) | L7C_PKU)                                    /* UMIP PKU */
#define L7D_HOST B(14)                                               /* SERIALIZE */
#define L7D_OWN  (B(4) | B(26) | B(27) | B(28) | B(29)) /* FSRM, SPEC_CTRL STIBP FLUSH_L1D as storage, ARCH_CAPABILITIES */
#define L71A_HOST (B(4) | B(10) | B(11) | B(12))        /* AVX-VNNI, fast short REP */
#define L72D_OWN  B(4)                                  /* BHI_CTRL, as storage: else Linux runs a loop at every system call */
#define XSAVE_HOST 0xfu                                 /* XSAVEOPT XSAVEC XGETBV1 XSAVES */
/* Leaf 0x80000001 */
#define E1C_HOST (B(0) | B(5) | B(8))                     /* LAHF LZCNT PREFETCHW */
#define E1D_OWN  (B(11) | B(20) | B(26) | B(27) | B(29))  /* SYSCALL NX 1GB RDTSCP LM */
#define E1D_AMD  0x0183f3ffu                              /* AMD repeats these of leaf 1 */
#define E8B_HOST B(9)                                     /* WBNOINVD */
#define E8B_AMD  (B(12) | B(14) | B(15) | B(16) | B(29))  /* IBPB IBRS STIBP, IBRS always on; BTC_NO */
#define E21A_AMD (B(2) | B(6) | B(29))                    /* LFENCE serializes, null selectors clear bases; SRSO_NO */
#define E21C_AMD (B(1) | B(2))                            /* TSA_SQ_NO TSA_L1_NO */
/* What needs the host to keep AVX state */
#define L1C_AVX  (B(12) | B(28) | B(29))
#define L7B_AVX  B(5)
#define L7C_AVX  (B(9) | B(10))
#define L71A_AVX B(4)
/* What needs the host to keep AVX-512's: F DQ IFMA CD BW VL; VBMI VBMI2 VNNI BITALG VPOPCNTDQ; BF16 */
#define L7B_AVX512  (B(16) | B(17) | B(21) | B(28) | B(30) | B(31))
#define L7C_AVX512  (B(1) | B(6) | B(11) | B(12) | B(14))
#define L71A_AVX512 B(5)

#define PV_FEATURES                                                                                                                        \
    (B(KVM_FEATURE_CLOCKSOURCE) | B(KVM_FEATURE_NOP_IO_DELAY) | B(KVM_FEATURE_CLOCKSOURCE2) | B(KVM_FEATURE_STEAL_TIME) |                  \
     B(KVM_FEATURE_PV_EOI) | B(KVM_FEATURE_PV_UNHALT) | B(KVM_FEATURE_PV_SEND_IPI) | B(KVM_FEATURE_POLL_CONTROL) |                         \
     B(KVM_FEATURE_PV_SCHED_YIELD) | B(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT))

struct regs {
    uint32_t eax, ebx, ecx, edx;
};

static struct table {
    struct kvm_cpuid_entry2 e[TABLE_MAX];
    unsigned n;
} supported;
static pthread_once_t supported_once = PTHREAD_ONCE_INIT;
static bool places_as_host;

static struct regs host(uint32_t leaf, uint32_t subleaf)
{
    struct regs r = {0};
    if ((uint32_t)__get_cpuid_max(leaf & 0x80000000, NULL) >= leaf)
        __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
    return r;
}

static void add(struct table *t, uint32_t leaf, int subleaf, struct regs r)
{
    if (t->n == TABLE_MAX)
        return;
    t->e[t->n++] = (struct kvm_cpuid_entry2){
        .function = leaf,
        .index = subleaf < 0 ? 0 : (uint32_t)subleaf,
        .flags = subleaf < 0 ? 0 : KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        .eax = r.eax,
        .ebx = r.ebx,
        .ecx = r.ecx,
        .edx = r.edx,
    };
}

static bool is_amd(void)
{
    struct regs r = host(0, 0);
    return r.ebx == 0x68747541 || r.ebx == 0x6f677948; /* AuthenticAMD, HygonGenuine */
}

static unsigned gcd(unsigned a, unsigned b)
{
    return b ? gcd(b, a % b) : a;
}

/* 0x15 with the LAPIC's clock as crystal. Guests multiply in 32 bits, so a ratio that needs more is left to user space and kvmclock. */
static struct regs tsc_ratio(void)
{
    unsigned khz = (unsigned)host_tsc_khz(), g = gcd(khz, LAPIC_BUS_KHZ);
    if (!khz || (uint64_t)(khz / g) * LAPIC_BUS_KHZ > UINT32_MAX)
        return (struct regs){0};
    return (struct regs){LAPIC_BUS_KHZ / g, khz / g, LAPIC_BUS_KHZ * 1000, 0};
}

void cpuid_places_as_host(void)
{
    places_as_host = true;
}

/* PKRU's place in the XSAVE area is the engine's; with places_as_host it is there only if the host's is the same. */
uint64_t cpuid_offered_xcr0(void)
{
    uint64_t xcr0 = xstate_supported();
    uint32_t size, offset;
    struct regs h = host(0xd, 9);
    if (places_as_host && (!xstate_component(9, &size, &offset) || h.eax != size || h.ebx != offset))
        xcr0 &= ~(uint64_t)XCR0_PKRU;
    return xcr0;
}

static void add_basic(struct table *t, bool avx)
{
    struct regs h = host(0, 0);
    add(t, 0, -1, (struct regs){0x16, h.ebx, h.ecx, h.edx});
    h = host(1, 0);
    uint32_t ecx = (h.ecx & L1C_HOST & (avx ? ~0u : ~L1C_AVX)) | L1C_OWN;
    add(t, 1, -1, (struct regs){h.eax, (h.ebx & 0xff00) | 1u << 16, ecx, L1D}); /* one logical CPU, APIC ID 0 */
    if (!is_amd()) {
        add(t, 2, -1, host(2, 0));
        for (int i = 0; i < 8 && ((h = host(4, (uint32_t)i)).eax & 31); i++)
            add(t, 4, i, (struct regs){h.eax & 0x3fff, h.ebx, h.ecx, h.edx}); /* unshared: the VMM knows the topology */
    }
    add(t, 6, -1, (struct regs){.eax = B(2)}); /* the LAPIC timer always runs */

    h = host(7, 0);
    bool avx512 = xstate_supported() & XCR0_AVX512;
    uint32_t l7b = L7B_HOST | (avx512 ? L7B_AVX512 : 0), l7c = L7C_HOST | (avx512 ? L7C_AVX512 : 0), l71a = L71A_HOST | (avx512 ? L71A_AVX512 : 0);
    struct regs h1 = h.eax >= 1 ? host(7, 1) : (struct regs){0};
    add(t, 7, 0,
        (struct regs){2, (h.ebx & l7b & (avx ? ~0u : ~L7B_AVX)) | L7B_OWN | (fpu_fdp_exceptions_only() ? B(6) : 0),
                      (h.ecx & l7c & (avx ? ~0u : ~L7C_AVX)) | (cpuid_offered_xcr0() & XCR0_PKRU ? L7C_OWN : L7C_OWN & ~L7C_PKU),
                      (h.edx & L7D_HOST) | L7D_OWN});
    add(t, 7, 1, (struct regs){.eax = h1.eax & l71a & (avx ? ~0u : ~L71A_AVX)});
    add(t, 7, 2, (struct regs){.edx = L72D_OWN});
}

/* Topology of a single CPU, sizes of the XSAVE area, clocks. */
static void add_upper(struct table *t)
{
    add(t, 0xb, 0, (struct regs){0, 1, 0x100, 0});
    add(t, 0xb, 1, (struct regs){0, 1, 0x201, 0});

    uint64_t xcr0 = cpuid_offered_xcr0();
    uint32_t size, offset, all = xstate_size(xcr0, false);
    add(t, 0xd, 0, (struct regs){(uint32_t)xcr0, all, all, (uint32_t)(xcr0 >> 32)});
    add(t, 0xd, 1, (struct regs){.eax = host(0xd, 1).eax & XSAVE_HOST, .ebx = xstate_size(xcr0, true)});
    for (unsigned n = 2; n < 63; n++)
        if (((xcr0 >> n) & 1) && xstate_component(n, &size, &offset))
            add(t, 0xd, (int)n, (struct regs){size, offset, 0, 0});

    uint32_t mhz = (uint32_t)((host_tsc_khz() + 500) / 1000);
    add(t, 0x15, -1, tsc_ratio());
    add(t, 0x16, -1, (struct regs){mhz, mhz, 100, 0});
}

static void add_hypervisor(struct table *t)
{
    add(t, KVM_CPUID_SIGNATURE, -1, (struct regs){KVM_CPUID_FEATURES, 0x4b4d564b, 0x564b4d56, 0x4d}); /* KVMKVMKVM */
    add(t, KVM_CPUID_FEATURES, -1, (struct regs){.eax = PV_FEATURES});
}

static void add_extended(struct table *t)
{
    bool amd = is_amd();
    struct regs h = host(0x80000000, 0);
    add(t, 0x80000000, -1, (struct regs){amd ? 0x80000021 : 0x80000008, h.ebx, h.ecx, h.edx});
    h = host(0x80000001, 0);
    add(t, 0x80000001, -1, (struct regs){amd ? h.eax : 0, 0, h.ecx & E1C_HOST, E1D_OWN | (amd ? L1D & E1D_AMD : 0)});
    for (uint32_t leaf = 0x80000002; leaf <= 0x80000006; leaf++)
        add(t, leaf, -1, host(leaf, 0));
    add(t, 0x80000007, -1, (struct regs){.edx = host(0x80000007, 0).edx & B(8)}); /* invariant TSC */
    h = host(0x80000008, 0);
    uint32_t phys = h.eax & 0xff ? MIN(h.eax & 0xff, PHYS_BITS_MAX) : 36;
    add(t, 0x80000008, -1, (struct regs){phys | 48 << 8, (h.ebx & E8B_HOST) | (amd ? E8B_AMD : 0), 0, 0});
    if (amd)
        add(t, 0x80000021, -1, (struct regs){.eax = E21A_AMD, .ecx = E21C_AMD});
}

static void make_supported(void)
{
    bool avx = xstate_supported() & XCR0_AVX;
    add_basic(&supported, avx);
    add_upper(&supported);
    add_hypervisor(&supported);
    add_extended(&supported);
}

int cpuid_supported(struct kvm_cpuid_entry2 *entries, unsigned *count)
{
    pthread_once(&supported_once, make_supported);
    if (*count < supported.n)
        return -E2BIG;
    memcpy(entries, supported.e, supported.n * sizeof(entries[0]));
    *count = supported.n;
    return 0;
}

/* ---- a vCPU's table ---- */

static struct regs lookup(const struct kvm_cpuid_entry2 *e, unsigned n, uint32_t leaf, uint32_t subleaf)
{
    for (unsigned i = 0; i < n; i++)
        if (e[i].function == leaf && (!(e[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e[i].index == subleaf))
            return (struct regs){e[i].eax, e[i].ebx, e[i].ecx, e[i].edx};
    return (struct regs){0};
}

static void derive(struct vcpu *v)
{
    const struct kvm_cpuid_entry2 *e = v->cpuid;
    unsigned n = v->cpuid_count;
    struct regs l1 = lookup(e, n, 1, 0), l7 = lookup(e, n, 7, 0), ld = lookup(e, n, 0xd, 0);
    struct regs e1 = lookup(e, n, 0x80000001, 0), e8 = lookup(e, n, 0x80000008, 0);
    v->has.mwait = l1.ecx & B(3);
    v->has.pcid = l1.ecx & B(17);
    v->has.x2apic = l1.ecx & B(21);
    v->has.xsave = l1.ecx & B(26);
    v->has.avx = l1.ecx & B(28);
    v->has.pse = l1.edx & B(3);
    v->has.pae = l1.edx & B(6);
    v->has.pge = l1.edx & B(13);
    v->has.fsgsbase = l7.ebx & B(0);
    v->has.avx2 = l7.ebx & B(5);
    v->has.smep = l7.ebx & B(7);
    v->has.invpcid = l7.ebx & B(10);
    v->has.smap = l7.ebx & B(20);
    v->has.umip = l7.ecx & B(2);
    v->has.pku = l7.ecx & B(3);
    v->has.syscall = e1.edx & B(11);
    v->has.nx = e1.edx & B(20);
    v->has.gbpages = e1.edx & B(26);
    v->has.rdtscp = e1.edx & B(27);
    v->has.lm = e1.edx & B(29);
    v->phys_bits = e8.eax & 0xff ? (uint8_t)MIN(MAX(e8.eax & 0xff, 32), 52) : 36;
    v->guest_xcr0_mask = (ld.eax | (uint64_t)ld.edx << 32) & xstate_supported();
}

int cpuid_set(struct vcpu *v, const struct kvm_cpuid_entry2 *entries, unsigned count)
{
    uint32_t linear = lookup(entries, count, 0x80000008, 0).eax >> 8 & 0xff;
    if (linear && linear != 48 && linear != 57) /* KVM's check; five levels are never offered, though */
        return -EINVAL;
    struct kvm_cpuid_entry2 *copy = malloc((count + 1) * sizeof(*copy));
    if (!copy)
        return -ENOMEM;
    if (count)
        memcpy(copy, entries, count * sizeof(*copy));
    free(v->cpuid);
    v->cpuid = copy;
    v->cpuid_count = count;
    derive(v);
    cpu_request(v, REQ_TLB_FLUSH); /* reserved bits of page tables may differ now */
    return 0;
}
