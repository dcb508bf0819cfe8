/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPUID as the guest executes it: a look into the vCPU's table (KVM_SET_CPUID2), with the bits that follow the CPU's state put in. What the
 * table may hold is api/cpuid_table.c's.
 */
#include "softkvm/x86/cpu.h"
#include "softkvm/x86/fpu.h"

#define APIC_BASE_EN BIT64(11)

static const struct kvm_cpuid_entry2 *find(const struct vcpu *v, uint32_t leaf, uint32_t subleaf)
{
    for (unsigned n = 0; n < v->cpuid_count; n++) {
        const struct kvm_cpuid_entry2 *e = &v->cpuid[n];
        if (e->function == leaf && (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf))
            return e;
    }
    return NULL;
}

static bool vendor_is_intel(const struct vcpu *v)
{
    const struct kvm_cpuid_entry2 *e = find(v, 0, 0);
    return e && e->ebx == 0x756e6547 && e->edx == 0x49656e69 && e->ecx == 0x6c65746e; /* "GenuineIntel" */
}

/*
 * A leaf beyond the highest of its range shows the highest basic leaf's data on Intel's processors, and zeros on others (SDM vol. 2, CPUID).
 * Hypervisors' leaves are ranges of 0x100 each. Returns the leaf to show, or the given one when it is within its range.
 */
static uint32_t clamp_leaf(const struct vcpu *v, uint32_t leaf)
{
    const struct kvm_cpuid_entry2 *basic = find(v, 0, 0);
    uint32_t first = leaf >= 0x40000000 && leaf <= 0x4fffffff ? leaf & 0xffffff00 : leaf & 0x80000000;
    const struct kvm_cpuid_entry2 *range = find(v, first, 0);
    if (!basic || (range && leaf <= range->eax) || !vendor_is_intel(v))
        return leaf;
    return basic->eax;
}

void cpuid_patch(const struct vcpu *v, struct kvm_cpuid_entry2 *e)
{
    if (e->function == 1) {
        e->ecx = (e->ecx & ~BIT(27)) | (v->cr4 & CR4_OSXSAVE ? BIT(27) : 0);
        if (!(v->apic_base & APIC_BASE_EN))
            e->edx &= ~BIT(9);
    } else if (e->function == 7 && e->index == 0) {
        e->ecx = (e->ecx & ~BIT(4)) | (v->cr4 & CR4_PKE ? BIT(4) : 0);
    } else if (e->function == 0xd && e->index == 0 && e->eax) {
        e->ebx = xstate_size(v->xcr0, false);
    } else if (e->function == 0xd && e->index == 1 && (e->eax & (BIT(1) | BIT(3)))) {
        e->ebx = xstate_size(v->xcr0 | v->msr.xss, true);
    }
}

void cpuid_query(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct kvm_cpuid_entry2 *e = find(v, leaf, subleaf);
    if (!e) {
        leaf = clamp_leaf(v, leaf);
        e = find(v, leaf, subleaf);
    }
    out[0] = out[1] = out[2] = out[3] = 0;
    if (e) {
        struct kvm_cpuid_entry2 now = *e;
        cpuid_patch(v, &now);
        out[0] = now.eax;
        out[1] = now.ebx;
        out[2] = now.ecx;
        out[3] = now.edx;
    } else if ((leaf == 0xb || leaf == 0x1f) && (e = find(v, leaf, 1)) != NULL) {
        /* Beyond the topology's levels: the level number is echoed and the x2APIC ID is still there. */
        out[2] = subleaf & 0xff;
        out[3] = e->edx;
    }
}
