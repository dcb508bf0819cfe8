/* SPDX-License-Identifier: GPL-2.0-or-later */
/* MSRs and CPUID: rules, what the tables promise, and random accesses. Uses the engine's own FPU layout and TLB, and the LAPIC of the rig. */
#include "rig.h"

#include <asm/kvm_para.h>
#include <cpuid.h>
#include <errno.h>
#include <x86intrin.h>

#include "softkvm/x86/fpu.h"
#include "softkvm/x86/mem.h"
#include "softkvm/x86/msr.h"

/* Nothing here executes guest code, so these are never reached. */
void vm_exclusive_begin(struct vcpu *v)
{
    (void)v;
    abort();
}
void vm_exclusive_end(struct vcpu *v)
{
    (void)v;
    abort();
}
void cpu_mmio_read(struct vcpu *v, uint64_t gpa, void *data, unsigned size)
{
    (void)v, (void)gpa, (void)data, (void)size;
    abort();
}
void cpu_mmio_write(struct vcpu *v, uint64_t gpa, const void *data, unsigned size)
{
    (void)v, (void)gpa, (void)data, (void)size;
    abort();
}
uint32_t cpu_port_in(struct vcpu *v, uint16_t port, unsigned size)
{
    (void)v, (void)port, (void)size;
    abort();
}
void cpu_port_out(struct vcpu *v, uint16_t port, unsigned size, uint32_t val)
{
    (void)v, (void)port, (void)size, (void)val;
    abort();
}

/* ---- CPUID ---- */

static struct kvm_cpuid_entry2 table[256];
static unsigned table_len;

static struct kvm_cpuid_entry2 *entry(uint32_t leaf, uint32_t subleaf)
{
    for (unsigned n = 0; n < table_len; n++)
        if (table[n].function == leaf && (!(table[n].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || table[n].index == subleaf))
            return &table[n];
    return NULL;
}

static struct rig *machine(unsigned vcpus)
{
    struct rig *r = rig_new(RIG_FULL, vcpus);
    for (unsigned n = 0; n < vcpus; n++) {
        struct vcpu *v = rig_cpu(r, n);
        mmu_init(v);
        msr_reset(v);
        CHECK_EQ(cpuid_set(v, table, table_len), 0);
        cpu_reset(v, false);
    }
    return r;
}

static void supported(void)
{
    unsigned few = 3;
    CHECK_EQ(cpuid_supported(table, &few), -E2BIG);
    table_len = ARRAY_SIZE(table);
    CHECK_EQ(cpuid_supported(table, &table_len), 0);
    for (unsigned i = 0; i < table_len; i++) /* no entry twice */
        for (unsigned k = 0; k < i; k++)
            CHECK(table[i].function != table[k].function || table[i].index != table[k].index);

    uint32_t a, b, c, d;
    __cpuid(1, a, b, c, d);
    const struct kvm_cpuid_entry2 *e = entry(1, 0);
    CHECK_EQ(e->eax, a);
    uint32_t own = BIT(17) | BIT(21) | BIT(24) | BIT(31);
    CHECK_EQ(e->ecx & ~own & ~c, 0); /* whatever runs on the host's units, the host has */
    CHECK_EQ(e->ecx & own, own);
    CHECK(!(e->ecx & (BIT(3) | BIT(5) | BIT(6) | BIT(18)))); /* no MWAIT, VMX, SMX, DCA */
    e = entry(7, 0);
    CHECK_EQ(e->ebx & (BIT(4) | BIT(11) | BIT(14) | BIT(25)), 0); /* no HLE, RTM, MPX, PT */
    CHECK_EQ(!(e->ebx & BIT(16)), !(xstate_supported() & XCR0_AVX512));
    CHECK_EQ(e->ebx & (BIT(7) | BIT(20)), BIT(7) | BIT(20));
    CHECK_EQ(e->ecx & (BIT(2) | BIT(3) | BIT(16)), BIT(2) | BIT(3)); /* UMIP, PKU; no LA57 */
    CHECK(!(entry(0x80000001, 0)->ecx & BIT(2)));                    /* no SVM */
    e = entry(0x80000008, 0);
    CHECK((e->eax & 0xff) >= 36 && (e->eax & 0xff) <= 46);
    CHECK_EQ(e->eax >> 8 & 0xff, 48);
    CHECK_EQ(entry(KVM_CPUID_FEATURES, 0)->eax & BIT(KVM_FEATURE_CLOCKSOURCE2), BIT(KVM_FEATURE_CLOCKSOURCE2));

    /* CPUID 0x15's arithmetic, in 32 bits as Linux does it, is exact where it is given. */
    e = entry(0x15, 0);
    if (e->eax)
        CHECK_EQ(e->ecx / 1000 * e->ebx / e->eax, host_tsc_khz());
}

static void xsave_sizes(void)
{
    uint32_t a, b, c, d, end = 576, compact = 576;
    for (unsigned n = 2; n < 63; n++) {
        const struct kvm_cpuid_entry2 *e = entry(0xd, n);
        if (!e)
            continue;
        CHECK(entry(0xd, 0)->eax & BIT(n));
        __cpuid_count(0xd, n, a, b, c, d);
        if (a) { /* PKRU may be the engine's own */
            CHECK_EQ(e->eax, a);
            CHECK_EQ(e->ebx, b);
        }
        end = MAX(end, e->ebx + e->eax);
        compact += e->eax;
    }
    CHECK_EQ(entry(0xd, 0)->ecx, end);

    struct rig *r = machine(1);
    struct vcpu *v = rig_cpu(r, 0);
    uint32_t out[4];
    CHECK_EQ(v->guest_xcr0_mask, entry(0xd, 0)->eax);
    cpuid_query(v, 0xd, 0, out);
    CHECK_EQ(out[1], 576); /* XCR0 is 1 after reset */
    v->xcr0 = v->guest_xcr0_mask;
    cpuid_query(v, 0xd, 0, out);
    CHECK_EQ(out[1], end);
    cpuid_query(v, 0xd, 1, out);
    if (out[0] & BIT(1))
        CHECK_EQ(out[1], compact);
    rig_free(r);
}

static void dynamic_bits(void)
{
    struct rig *r = machine(1);
    struct vcpu *v = rig_cpu(r, 0);
    uint32_t out[4], top[4];
    cpuid_query(v, 1, 0, out);
    CHECK(!(out[2] & BIT(27)) && (out[3] & BIT(9)));
    v->cr4 = CR4_OSXSAVE | CR4_PKE;
    CHECK_EQ(lapic_set_base(v, 0xfee00000, false), 0);
    cpuid_query(v, 1, 5, out);
    CHECK((out[2] & BIT(27)) && !(out[3] & BIT(9)));
    cpuid_query(v, 7, 0, out);
    CHECK(out[2] & BIT(4));
    /* Intel: beyond the highest leaf comes the highest basic one; within a range, what is missing is zero. */
    memcpy(&entry(0, 0)->ebx, "Genu", 4);
    memcpy(&entry(0, 0)->edx, "ineI", 4);
    memcpy(&entry(0, 0)->ecx, "ntel", 4);
    CHECK_EQ(cpuid_set(v, table, table_len), 0);
    cpuid_query(v, entry(0, 0)->eax, 0, top);
    static const uint32_t beyond[] = {0x17, 0x3fffffff, 0x40000002, 0x40000100, 0x80000022, 0xc0000000, 0xffffffff};
    for (unsigned i = 0; i < ARRAY_SIZE(beyond); i++) {
        cpuid_query(v, beyond[i], 0, out);
        CHECK_EQ(memcmp(out, top, sizeof(out)), 0);
    }
    cpuid_query(v, 0x10, 0, out);
    CHECK_EQ(out[0] | out[1] | out[2] | out[3], 0);
    cpuid_query(v, 0xb, 0x1234, out);
    CHECK_EQ(out[2], 0x34);
    memcpy(&entry(0, 0)->ebx, "Auth", 4);
    memcpy(&entry(0, 0)->edx, "enti", 4);
    memcpy(&entry(0, 0)->ecx, "cAMD", 4);
    CHECK_EQ(cpuid_set(v, table, table_len), 0);
    cpuid_query(v, 0x3fffffff, 0, out);
    CHECK_EQ(out[0] | out[1] | out[2] | out[3], 0);
    CHECK_EQ(cpuid_set(v, NULL, 0), 0); /* an empty table */
    cpuid_query(v, 1, 0, out);
    CHECK_EQ(out[0] | out[1] | out[2] | out[3], 0);
    CHECK(!v->has.lm && v->phys_bits == 36 && v->guest_xcr0_mask == 0);
    struct kvm_cpuid_entry2 odd = {.function = 0x80000008, .eax = 0x2f30};
    CHECK_EQ(cpuid_set(v, &odd, 1), -EINVAL);
    rig_free(r);
    supported();
}

/* What Linux 6.1's cpu/bugs.c and cpu/common.c need to say "Not affected", or to choose enhanced IBRS alone. */
static void mitigations(void)
{
    uint64_t caps = 0;
    CHECK_EQ(msr_feature_read(MSR_ARCH_CAPABILITIES, &caps), 0);
    static const uint8_t bits[] = {0 /* RDCL */, 1 /* IBRS_ALL */, 3 /* SKIP_L1DFL */, 5 /* MDS */, 6 /* PSCHANGE_MC */, 8 /* TAA */, 13 /* SBDR_SSDP */,
                                   14 /* FBSDP */, 15 /* PSDP */, 20 /* BHI */, 24 /* PBRSB */, 26 /* GDS */, 27 /* RFDS */, 62 /* ITS */};
    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
        CHECK(caps >> bits[i] & 1);
    CHECK(!(caps & (BIT(2) | BIT(7) | BIT(19)))); /* RSBA, TSX_CTRL, RRSBA would cost */
    CHECK_EQ(entry(7, 0)->edx & (BIT(26) | BIT(29)), BIT(26) | BIT(29));
    CHECK(entry(7, 0)->eax >= 2 && (entry(7, 2)->edx & BIT(4))); /* BHI_CTRL: BHI_NO alone is not believed in a virtual machine */
    struct rig *r = machine(1);
    struct vcpu *v = rig_cpu(r, 0);
    uint64_t val;
    CHECK_EQ(msr_read(v, MSR_ARCH_CAPABILITIES, &val, false), 0);
    CHECK_EQ(val, caps);
    CHECK_EQ(msr_write(v, MSR_ARCH_CAPABILITIES, 0, false), -1);
    CHECK_EQ(msr_write(v, MSR_SPEC_CTRL, 1, false), 0);
    CHECK_EQ(msr_read(v, MSR_SPEC_CTRL, &val, false), 0);
    CHECK_EQ(val, 1);
    CHECK_EQ(msr_write(v, MSR_SPEC_CTRL, BIT(10) | 1, false), 0); /* BHI_DIS_S */
    CHECK_EQ(msr_write(v, MSR_SPEC_CTRL, 4, false), -1);
    CHECK_EQ(msr_write(v, MSR_SPEC_CTRL, 8, false), -1);
    CHECK_EQ(msr_write(v, MSR_PRED_CMD, 1, false), 0);
    CHECK_EQ(msr_write(v, MSR_PRED_CMD, 2, false), -1);
    CHECK_EQ(msr_read(v, MSR_PRED_CMD, &val, false), -1);
    CHECK_EQ(msr_write(v, MSR_FLUSH_CMD, 1, false), 0);
    rig_free(r);
}

/* ---- MSRs ---- */

static void rules(void)
{
    struct rig *r = machine(1);
    struct vcpu *v = rig_cpu(r, 0);
    static const struct {
        uint32_t index;
        uint64_t val;
        int guest, host;
    } w[] = {
        {MSR_LSTAR, 0x7fffffffffff, 0, 0},
        {MSR_LSTAR, 0x800000000000, -1, -1},
        {MSR_KERNEL_GS_BASE, 0xffff800000000000, 0, 0},
        {MSR_FS_BASE, 0x1000000000000, -1, -1},
        {MSR_SYSENTER_EIP, 0x8000000000000000, -1, -1},
        {MSR_SFMASK, 0x100000000, -1, -1},
        {MSR_STAR, ~0ull, 0, 0},
        {MSR_TSC_AUX, BIT64(32), -1, -1},
        {MSR_EFER, EFER_SCE | EFER_NX, 0, 0},
        {MSR_EFER, 2, -1, -1},
        {MSR_EFER, BIT64(12), -1, -1},
        {MSR_PAT, 0x0007040600070406, 0, 0},
        {MSR_PAT, 0x02, -1, -1},
        {MSR_PAT, 0x08ull << 56, -1, -1},
        {MSR_MTRR_DEF_TYPE, 0xc06, 0, 0},
        {MSR_MTRR_DEF_TYPE, 0xc07, -1, -1},
        {MSR_MTRR_DEF_TYPE, 0x1c06, -1, -1},
        {MSR_MTRR_FIX4K + 3, 0x0605040100000000, 0, 0},
        {MSR_MTRR_FIX4K + 3, 0x0700000000000000, -1, -1},
        {MSR_MTRR_PHYS, 0xc0000000, 0, 0},
        {MSR_MTRR_PHYS, 0xc0000102, -1, -1},
        {MSR_MTRR_PHYS + 1, 0x3fffc0000800, 0, 0},
        {MSR_MTRR_PHYS + 1, 0x3fffc0000001, -1, -1},
        {MSR_MTRR_PHYS + 15, BIT64(60), -1, -1},
        {MSR_MTRR_PHYS + 16, 0, -1, -1},
        {MSR_MTRR_CAP, 0, -1, -1},
        {MSR_DEBUGCTL, 3, 0, 0},
        {MSR_DEBUGCTL, 0x40, -1, -1},
        {MSR_XSS, 1, -1, -1},
        {MSR_XSS, 0, 0, 0},
        {MSR_FEATURE_CONTROL, 1, -1, 0},
        {MSR_UCODE_REV, 0, 0, 0}, /* the guest's write is dropped: how one asks for the revision */
        {MSR_SMBASE, 0x30000, -1, 0},
        {MSR_MCG_CAP, 0, -1, -1},
        {MSR_MC0_CTL, ~0ull, 0, 0},
        {MSR_MC0_CTL, 5, -1, -1},
        {MSR_MC0_CTL + 1, 5, -1, 0},
        {MSR_MC0_CTL + 4 * 32, 0, -1, -1},
        {MSR_P6_PERFCTR0, 5, 0, 0},
        {MSR_APIC_BASE, 0xfee00900, 0, 0},
        {MSR_APIC_BASE, 0xfee00901, -1, -1},
        {0x808, 0, -1, -1}, /* not in x2APIC mode */
        {0x480, 0, -1, -1}, /* VMX */
        {0xdeadbeef, 0, -1, -1},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(w); i++) {
        if (msr_write(v, w[i].index, w[i].val, false) != w[i].guest || msr_write(v, w[i].index, w[i].val, true) != w[i].host) {
            fprintf(stderr, "MSR 0x%x = 0x%llx\n", w[i].index, (unsigned long long)w[i].val);
            exit(1);
        }
    }
    uint64_t val;
    CHECK_EQ(msr_read(v, MSR_UCODE_REV, &val, false), 0);
    CHECK_EQ(msr_read(v, MSR_SMBASE, &val, false), -1);
    CHECK_EQ(msr_read(v, MSR_MTRR_CAP, &val, false), 0);
    CHECK_EQ(val, 0x508);
    CHECK_EQ(msr_write(v, MSR_FS_BASE, 0x1234, false), 0);
    CHECK_EQ(v->seg[SEG_FS].base, 0x1234);
    rig_free(r);
}

static void efer(void)
{
    struct rig *r = machine(1);
    struct vcpu *v = rig_cpu(r, 0);
    CHECK_EQ(msr_write(v, MSR_EFER, EFER_LME | EFER_LMA, false), 0);
    CHECK_EQ(v->efer, EFER_LME); /* LMA cannot be written */
    v->paging = true;
    CHECK_EQ(msr_write(v, MSR_EFER, 0, false), -1);
    CHECK_EQ(msr_write(v, MSR_EFER, EFER_LME | EFER_SCE, false), 0);
    v->paging = false;
    v->has.nx = v->has.lm = false;
    CHECK_EQ(msr_write(v, MSR_EFER, EFER_NX, false), -1);
    CHECK_EQ(msr_write(v, MSR_EFER, EFER_LME, false), -1);
    CHECK_EQ(msr_write(v, MSR_EFER, EFER_NX | EFER_LME, true), 0);
    rig_free(r);
}

static void tsc(void)
{
    struct rig *r = machine(3);
    struct vcpu *v = rig_cpu(r, 0), *w = rig_cpu(r, 1), *x = rig_cpu(r, 2);
    uint64_t val, second = host_tsc_khz() * 1000;
    for (unsigned n = 0; n < 3; n++)
        rig_cpu(r, n)->tsc_offset = 0;
    CHECK_EQ(msr_write(v, MSR_TSC, 1000 * second, false), 0);
    CHECK_EQ(msr_read(v, MSR_TSC, &val, false), 0);
    CHECK(val - 1000 * second < second);
    CHECK_EQ(v->msr.tsc_adjust, (uint64_t)v->tsc_offset); /* SDM vol. 3, 17.17.3: a write to the TSC shows here */
    CHECK_EQ(msr_write(v, MSR_TSC_ADJUST, 0, false), 0);
    CHECK_EQ(v->tsc_offset, 0);
    CHECK_EQ(msr_write(v, MSR_TSC_ADJUST, 77, true), 0);
    CHECK_EQ(v->tsc_offset, 0); /* user space restores a value, not a time */
    /* Two CPUs' TSCs restored one after the other are one. */
    CHECK_EQ(msr_write(v, MSR_TSC, 5000 * second, true), 0);
    CHECK_EQ(msr_write(w, MSR_TSC, 5000 * second, true), 0);
    CHECK_EQ(v->tsc_offset, w->tsc_offset);
    CHECK(v->tsc_offset != x->tsc_offset);
    CHECK_EQ(msr_write(x, MSR_TSC, 0, true), 0);
    CHECK_EQ(v->tsc_offset, x->tsc_offset);
    CHECK_EQ(msr_write(x, MSR_TSC, 9000 * second, true), 0);
    CHECK(v->tsc_offset != x->tsc_offset);
    CHECK(guest_tsc(x) >= 9000 * second);
    uint64_t last = 0;
    for (int i = 0; i < 100000; i++) {
        uint64_t now = guest_tsc(i & 1 ? v : w);
        CHECK(now >= last);
        last = now;
    }
    rig_free(r);
}

/* Whatever KVM_GET_MSR_INDEX_LIST names can be saved, and restored on another machine. */
static void lists(void)
{
    struct rig *r = machine(1), *s = machine(1);
    for (unsigned i = 0; i < msr_list_count; i++) {
        uint64_t val = 0, again = 0;
        for (unsigned k = 0; k < i; k++)
            CHECK(msr_list[i] != msr_list[k]);
        if (msr_read(rig_cpu(r, 0), msr_list[i], &val, true) || msr_write(rig_cpu(s, 0), msr_list[i], val, true) ||
            msr_read(rig_cpu(s, 0), msr_list[i], &again, true)) {
            fprintf(stderr, "MSR 0x%x is listed, but cannot be saved\n", msr_list[i]);
            exit(1);
        }
        if (msr_list[i] != MSR_TSC)
            CHECK_EQ(val, again);
    }
    for (unsigned i = 0; i < msr_feature_list_count; i++) {
        uint64_t val;
        CHECK_EQ(msr_feature_read(msr_feature_list[i], &val), 0);
    }
    rig_free(r);
    rig_free(s);
}

/* Random accesses by guest and host: nothing crashes, and the state stays one that the engine may trust. */
static void fuzz(void)
{
    static const uint32_t ranges[][2] = {{0, 0x1000}, {0x800, 0x100}, {0xc0000080, 8}, {0xc0000100, 8}, {0xc0010000, 0x200}, {0xc0011000, 0x40},
                                         {0x4b564d00, 0x100}, {0x200, 0x100}, {0x400, 0x100}};
    uint64_t seed = rig_seed("msr fuzz"), ok = 0;
    struct rig *r = machine(2);
    for (unsigned i = 0; i < 300000; i++) {
        struct vcpu *v = rig_cpu(r, rig_random(&seed) & 1);
        unsigned pick = rig_random(&seed) % (ARRAY_SIZE(ranges) + 1);
        uint32_t index = pick == ARRAY_SIZE(ranges) ? (uint32_t)rig_random(&seed) : ranges[pick][0] + (uint32_t)(rig_random(&seed) % ranges[pick][1]);
        uint64_t val = rig_random(&seed) >> rig_random(&seed) % 64, back = 0;
        bool host = rig_random(&seed) % 4 == 0;
        if (rig_random(&seed) & 1)
            val &= rig_random(&seed) & rig_random(&seed);
        if (index == MSR_APIC_BASE && !host && (i & 3))
            continue; /* else it is off for most of the time */
        bool wrote = !msr_write(v, index, val, host);
        ok += wrote;
        msr_read(v, index, &back, host);
        CHECK(is_canonical(v->msr.lstar) && is_canonical(v->msr.cstar) && is_canonical(v->msr.kernel_gs_base));
        CHECK(is_canonical(v->msr.sysenter_eip) && is_canonical(v->msr.sysenter_esp));
        CHECK(is_canonical(v->seg[SEG_FS].base) && is_canonical(v->seg[SEG_GS].base));
        CHECK_EQ(v->efer & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NX), 0);
        CHECK((v->apic_base & (APIC_BASE_EN | APIC_BASE_EXTD)) != APIC_BASE_EXTD && !(v->apic_base >> v->phys_bits));
        CHECK_EQ(v->msr.xss, 0);
        CHECK_EQ(v->msr.mcg_cap, 32);
    }
    printf("%llu of 300000 random writes were accepted\n", (unsigned long long)ok);
    CHECK(ok > 1000);
    rig_free(r);
}

int main(void)
{
    CHECK_EQ(native_init(), 0);
    supported();
    xsave_sizes();
    dynamic_bits();
    mitigations();
    rules();
    efer();
    tsc();
    lists();
    fuzz();
    return 0;
}
