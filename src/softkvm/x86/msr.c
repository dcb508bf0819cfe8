/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model-specific registers: what KVM offers, as far as the machine has it. An MSR that is not known raises #GP.
 *
 * Most are storage with a rule about the bits that may be set; those are rows of `plain`. The rest have a case of their own.
 * KVM_SET_MSRS (host) may write what a guest may not: read-only registers whose value is user space's choice.
 */
#include "softkvm/x86/msr.h"

#include <asm/kvm_para.h>

#include "softkvm/irqchip/irqchip.h"
#include "softkvm/vm.h"
#include "softkvm/x86/cpu.h"
#include "softkvm/x86/mem.h"

#define MTRR_VARIABLE  8
#define MTRR_CAP       (MTRR_VARIABLE | BIT(8) | BIT(10)) /* fixed ranges and write-combining */
#define MCG_CTL_P      BIT64(8)
#define MCE_BANKS_MAX  32
#define MISC_ENABLE_RESET (BIT64(0) | BIT64(11) | BIT64(12)) /* fast strings; no BTS, no PEBS */
#define PAT_RESET      0x0007040600070406ull
#define DE_CFG_LFENCE  2 /* LFENCE serializes */
#define UCODE_REV      BIT64(32)
#define ARCH_CAPABILITIES                                                                                                                  \
    (ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_SKIP_L1DFL | ARCH_CAP_MDS_NO | ARCH_CAP_PSCHANGE_MC_NO | ARCH_CAP_TAA_NO |            \
     ARCH_CAP_SBDR_SSDP_NO | ARCH_CAP_FBSDP_NO | ARCH_CAP_PSDP_NO | ARCH_CAP_BHI_NO | ARCH_CAP_PBRSB_NO | ARCH_CAP_GDS_NO |                \
     ARCH_CAP_RFDS_NO | ARCH_CAP_ITS_NO)

enum { GPR_EAX, GPR_EBX, GPR_ECX, GPR_EDX };

static uint32_t cpuid_reg(struct vcpu *v, uint32_t leaf, uint32_t subleaf, unsigned reg)
{
    uint32_t out[4];
    cpuid_query(v, leaf, subleaf, out);
    return out[reg];
}

/* ---- the TSC ---- */

uint64_t guest_tsc(const struct vcpu *v)
{
    return __builtin_ia32_rdtsc() + (uint64_t)v->tsc_offset;
}

/* Other vCPUs' threads read it when they synchronize. */
void msr_set_tsc_offset(struct vcpu *v, int64_t offset)
{
    __atomic_store_n(&v->tsc_offset, offset, __ATOMIC_RELAXED);
    fpu_put(v);
    pv_before_run(v);
}

/*
 * User space that sets the TSCs of several vCPUs cannot do so at the same moment, so a value within a second of where another vCPU's TSC
 * is means that one, and 0 means any other's: KVM's rule, by which guests find synchronized TSCs.
 */
static int64_t synchronized_offset(struct vcpu *v, uint64_t tsc)
{
    int64_t offset = (int64_t)(tsc - __builtin_ia32_rdtsc()), second = (int64_t)v->tsc_khz * 1000;
    unsigned n = v->vm ? atomic_load_explicit(&v->vm->nvcpus, memory_order_acquire) : 0;
    for (unsigned i = 0; i < MIN(n, SOFTKVM_MAX_VCPUS); i++) {
        struct vcpu *o = atomic_load_explicit(&v->vm->vcpus[i], memory_order_acquire);
        if (!o || o == v)
            continue;
        int64_t other = __atomic_load_n(&o->tsc_offset, __ATOMIC_RELAXED), apart = (int64_t)((uint64_t)offset - (uint64_t)other);
        if (tsc == 0 || (apart < second && apart > -second))
            return other;
    }
    return offset;
}

static void write_tsc(struct vcpu *v, uint64_t val, bool host)
{
    if (host) {
        msr_set_tsc_offset(v, synchronized_offset(v, val));
        return;
    }
    int64_t offset = (int64_t)(val - __builtin_ia32_rdtsc());
    v->msr.tsc_adjust += (uint64_t)offset - (uint64_t)v->tsc_offset; /* SDM vol. 3, 17.17.3 */
    msr_set_tsc_offset(v, offset);
}

static void write_tsc_adjust(struct vcpu *v, uint64_t val, bool host)
{
    uint64_t delta = val - v->msr.tsc_adjust;
    v->msr.tsc_adjust = val;
    if (!host)
        msr_set_tsc_offset(v, (int64_t)((uint64_t)v->tsc_offset + delta));
}

/* ---- EFER, SDM vol. 3, 2.2.1 ---- */

static int write_efer(struct vcpu *v, uint64_t val, bool host)
{
    uint64_t allowed = EFER_SCE | EFER_LMA | (host || v->has.lm ? EFER_LME : 0) | (host || v->has.nx ? EFER_NX : 0);
    if (val & ~allowed)
        return -1;
    if (!host && v->paging && ((v->efer ^ val) & EFER_LME))
        return -1;
    uint64_t old = v->efer;
    v->efer = (val & ~EFER_LMA) | (old & EFER_LMA); /* LMA follows CR0.PG and LME */
    if ((old ^ v->efer) & (EFER_NX | EFER_LME)) {
        mmu_flush_all(v);
        cpu_update_mode(v);
    }
    return 0;
}

/* ---- memory types, SDM vol. 3, 11.11 and 11.12 ---- */

/* Each byte of `val` must be a memory type: UC, WC, WT, WP, WB, and for the PAT also UC-. */
static bool types_valid(uint64_t val, unsigned bytes, bool pat)
{
    for (unsigned i = 0; i < bytes; i++, val >>= 8) {
        uint8_t t = (uint8_t)val;
        if (t > 7 || t == 2 || t == 3 || (t == 7 && !pat))
            return false;
    }
    return true;
}

static uint64_t *mtrr_slot(struct vcpu *v, uint32_t index)
{
    if (index >= MSR_MTRR_PHYS && index < MSR_MTRR_PHYS + 2 * MTRR_VARIABLE)
        return &v->msr.mtrr_var[index - MSR_MTRR_PHYS];
    if (index == MSR_MTRR_FIX64K)
        return &v->msr.mtrr_fixed[0];
    if (index - MSR_MTRR_FIX16K < 2)
        return &v->msr.mtrr_fixed[1 + index - MSR_MTRR_FIX16K];
    if (index - MSR_MTRR_FIX4K < 8)
        return &v->msr.mtrr_fixed[3 + index - MSR_MTRR_FIX4K];
    return index == MSR_MTRR_DEF_TYPE ? &v->msr.mtrr_def_type : NULL;
}

static int write_mtrr(struct vcpu *v, uint32_t index, uint64_t val)
{
    uint64_t too_high = ~(BIT64(MAX(v->phys_bits, 36)) - 1);
    bool ok;
    if (index == MSR_MTRR_DEF_TYPE)
        ok = !(val & ~0xcffull) && types_valid(val & 0xff, 1, false);
    else if (index >= MSR_MTRR_FIX64K)
        ok = types_valid(val, 8, false);
    else if (index & 1)
        ok = !(val & (too_high | 0x7ff));
    else
        ok = !(val & (too_high | 0xf00)) && types_valid(val & 0xff, 1, false);
    if (!ok)
        return -1;
    *mtrr_slot(v, index) = val; /* all RAM is write-back for the interpreter, whatever the type */
    return 0;
}

/* ---- machine check, SDM vol. 3, 15.3 ---- */

static uint64_t *mc_bank_slot(struct vcpu *v, uint32_t index)
{
    uint32_t banks = MIN((uint32_t)v->msr.mcg_cap & 0xff, MCE_BANKS_MAX);
    return index - MSR_MC0_CTL < 4 * banks ? &v->msr.mc_banks[index - MSR_MC0_CTL] : NULL;
}

static int write_mc_bank(struct vcpu *v, uint32_t index, uint64_t val, bool host)
{
    unsigned kind = index & 3;
    /* Control takes all ones or zero; KVM forgives bits 0 and 10, which some systems leave clear. Status can only be cleared. */
    if (kind == 0 && val != 0 && (val | BIT64(10) | 1) != ~0ull)
        return -1;
    if (kind == 1 && !host && val != 0)
        return -1;
    *mc_bank_slot(v, index) = val;
    return 0;
}

/* ---- speculation control ---- */

/* Bits that a guest may set, by CPUID; they are storage. 0 when there is no such MSR. */
static uint64_t spec_ctrl_bits(struct vcpu *v)
{
    uint32_t edx = cpuid_reg(v, 7, 0, GPR_EDX);
    if (!(edx & (BIT(26) | BIT(27) | BIT(31))))
        return 0;
    return BIT(0) | BIT(1) | (edx & BIT(31) ? BIT(2) : 0) | (cpuid_reg(v, 7, 2, GPR_EDX) & BIT(4) ? BIT(10) : 0); /* IBRS STIBP SSBD BHI_DIS_S */
}

/* Commands are accepted and need nothing: an interpreted guest cannot train the host's predictors with its own branches. */
static int write_command(struct vcpu *v, uint32_t index, uint64_t val, bool host)
{
    uint32_t edx = cpuid_reg(v, 7, 0, GPR_EDX);
    bool there = index == MSR_PRED_CMD ? (edx & BIT(26)) || (cpuid_reg(v, 0x80000008, 0, GPR_EBX) & BIT(12)) : edx & BIT(28);
    return (there || host) && !(val & ~1ull) ? 0 : -1;
}

/* ---- plain storage ---- */

enum rule {
    CANONICAL = 1 << 0, /* an address; else #GP */
    HOST_WRITE = 1 << 1, /* read-only for the guest */
    HOST_ONLY = 1 << 2,  /* not for the guest at all */
    IGNORE = 1 << 3,     /* the guest's writes are dropped */
};

struct plain {
    uint32_t index;
    uint32_t offset; /* in struct vcpu */
    uint32_t rules;
    uint64_t writable; /* other bits raise #GP */
};

#define AT(field) offsetof(struct vcpu, field)
#define ALL       (~0ull)
static const struct plain plain[] = {
    {MSR_KERNEL_GS_BASE, AT(msr.kernel_gs_base), CANONICAL, ALL},
    {MSR_FS_BASE, AT(seg[SEG_FS].base), CANONICAL, ALL},
    {MSR_GS_BASE, AT(seg[SEG_GS].base), CANONICAL, ALL},
    {MSR_STAR, AT(msr.star), 0, ALL},
    {MSR_LSTAR, AT(msr.lstar), CANONICAL, ALL},
    {MSR_CSTAR, AT(msr.cstar), CANONICAL, ALL},
    {MSR_SFMASK, AT(msr.sfmask), 0, 0xffffffff},
    {MSR_SYSENTER_CS, AT(msr.sysenter_cs), 0, ALL},
    {MSR_SYSENTER_ESP, AT(msr.sysenter_esp), CANONICAL, ALL},
    {MSR_SYSENTER_EIP, AT(msr.sysenter_eip), CANONICAL, ALL},
    {MSR_MISC_ENABLE, AT(msr.misc_enable), 0, ALL},
    {MSR_DEBUGCTL, AT(msr.debugctl), 0, 3}, /* LBR, BTF */
    {MSR_POWER_CTL, AT(msr.power_ctl), 0, ALL},
    {MSR_MCG_STATUS, AT(msr.mcg_status), 0, ALL},
    {MSR_XSS, AT(msr.xss), 0, 0}, /* no supervisor states */
    {MSR_FEATURE_CONTROL, AT(msr.feature_control), HOST_WRITE, 0xfff07}, /* locked without VMX: SDM vol. 3, 23.7 */
    {MSR_ARCH_CAPABILITIES, AT(msr.arch_capabilities), HOST_WRITE, ALL},
    {MSR_PLATFORM_INFO, AT(msr.platform_info), HOST_WRITE, ALL},
    {MSR_UCODE_REV, AT(msr.ucode_rev), HOST_WRITE | IGNORE, ALL},
    {MSR_SMI_COUNT, AT(msr.smi_count), HOST_WRITE, 0xffffffff},
    {MSR_SMBASE, AT(msr.smbase), HOST_ONLY, 0xffffffff},
    {MSR_K7_HWCR, AT(msr.hwcr), 0, 0x1040148}, /* what firmware and Linux set without asking */
    {MSR_AMD_OSVW_LENGTH, AT(msr.osvw[0]), HOST_WRITE, ALL},
    {MSR_AMD_OSVW_STATUS, AT(msr.osvw[1]), HOST_WRITE, ALL},
};

static const struct plain *find_plain(uint32_t index)
{
    for (unsigned n = 0; n < ARRAY_SIZE(plain); n++)
        if (plain[n].index == index)
            return &plain[n];
    return NULL;
}

static uint64_t *plain_slot(struct vcpu *v, const struct plain *p)
{
    return (uint64_t *)(void *)((uint8_t *)v + p->offset);
}

static int write_plain(struct vcpu *v, const struct plain *p, uint64_t val, bool host)
{
    if (!host && (p->rules & IGNORE))
        return 0;
    if (!host && (p->rules & (HOST_WRITE | HOST_ONLY)))
        return -1;
    if ((val & ~p->writable) || ((p->rules & CANONICAL) && !is_canonical(val)))
        return -1;
    *plain_slot(v, p) = val;
    return 0;
}

/* ---- constants ---- */

/* Registers that systems read, and some write, without asking whether they are there. KVM shows the same values and drops what is written. */
struct constant {
    uint32_t first, last;
    uint64_t val;
    bool writable;
};
static const struct constant constants[] = {
    {MSR_PLATFORM_ID, MSR_PLATFORM_ID, 0, false},
    {MSR_EBL_CR_POWERON, MSR_EBL_CR_POWERON, 0, false},
    {MSR_EBC_FREQUENCY_ID, MSR_EBC_FREQUENCY_ID, 1 << 24, false},
    {MSR_UCODE_WRITE, MSR_UCODE_WRITE, 0, true},
    {MSR_P6_PERFCTR0, MSR_P6_PERFCTR0 + 1, 0, true},
    {MSR_P6_EVNTSEL0, MSR_P6_EVNTSEL0 + 1, 0, true},
    {MSR_FSB_FREQ, MSR_FSB_FREQ, 3, false},
    {MSR_MTRR_CAP, MSR_MTRR_CAP, MTRR_CAP, false},
    {MSR_BBL_CR_CTL3, MSR_BBL_CR_CTL3, 0xbe702111, false},
    {MSR_PERF_STATUS, MSR_PERF_STATUS, 1000 | 4ull << 40, false},
    {MSR_PERF_CTL, MSR_PERF_CTL, 0, false},
    {MSR_LASTBRANCH_FROM, MSR_LASTINT_TO, 0, false},
    {MSR_RAPL_POWER_UNIT, MSR_RAPL_POWER_UNIT, 0, false},
    {MSR_PKG_ENERGY, MSR_PKG_ENERGY, 0, false},
    {MSR_DRAM_ENERGY, MSR_DRAM_ENERGY, 0, false},
    {MSR_PP0_ENERGY, MSR_PP0_ENERGY, 0, false},
    {MSR_PP1_ENERGY, MSR_PP1_ENERGY, 0, false},
    {MSR_K7_EVNTSEL0, MSR_K7_PERFCTR3, 0, true},
    {MSR_AMD_SYSCFG, MSR_AMD_SYSCFG, 0, false},
    {MSR_AMD_NB_CFG, MSR_AMD_NB_CFG, 0, true},
    {MSR_AMD_PATCH_LOADER, MSR_AMD_PATCH_LOADER, 0, true},
    {MSR_AMD_INT_PENDING, MSR_AMD_INT_PENDING, 0, false},
    {MSR_AMD_MMIO_CONF, MSR_AMD_MMIO_CONF, 0, false},
    {MSR_K8_TSEG_ADDR, MSR_K8_TSEG_MASK, 0, false},
    {MSR_VM_HSAVE_PA, MSR_VM_HSAVE_PA, 0, true},
    {MSR_AMD_DC_CFG, MSR_AMD_TW_CFG, 0, true},
    {MSR_AMD_DE_CFG, MSR_AMD_DE_CFG, DE_CFG_LFENCE, true},
    {MSR_AMD_BU_CFG2, MSR_AMD_BU_CFG2, 0, true},
    {MSR_F15H_EX_CFG, MSR_F15H_EX_CFG, 0, true},
};

static const struct constant *find_constant(uint32_t index)
{
    for (unsigned n = 0; n < ARRAY_SIZE(constants); n++)
        if (index >= constants[n].first && index <= constants[n].last)
            return &constants[n];
    return NULL;
}

/* ---- reading and writing ---- */

static bool is_pv(uint32_t index)
{
    return index == MSR_KVM_WALL_CLOCK || index == MSR_KVM_SYSTEM_TIME || index >> 8 == MSR_KVM_WALL_CLOCK_NEW >> 8;
}
static bool is_x2apic(uint32_t index)
{
    return index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST;
}

static int read_storage(struct vcpu *v, uint32_t index, uint64_t *val, bool host)
{
    const uint64_t *slot = mtrr_slot(v, index);
    if (!slot)
        slot = mc_bank_slot(v, index);
    const struct plain *p = find_plain(index);
    if (p && (host || !(p->rules & HOST_ONLY)))
        slot = plain_slot(v, p);
    const struct constant *c = find_constant(index);
    if (!slot && !c)
        return -1;
    *val = slot ? *slot : c->val;
    return 0;
}

int msr_read(struct vcpu *v, uint32_t index, uint64_t *val, bool host)
{
    if (is_x2apic(index)) {
        fpu_put(v);
        return lapic_msr_read(v, index, val);
    }
    if (is_pv(index)) {
        fpu_put(v);
        return pv_msr_read(v, index, val, host);
    }
    switch (index) {
    case MSR_TSC: *val = guest_tsc(v); return 0;
    case MSR_TSC_ADJUST: *val = v->msr.tsc_adjust; return 0;
    case MSR_TSC_AUX: *val = v->msr.tsc_aux; return host || v->has.rdtscp ? 0 : -1;
    case MSR_TSC_DEADLINE:
        fpu_put(v);
        *val = lapic_tsc_deadline_get(v);
        return 0;
    case MSR_APIC_BASE: *val = v->apic_base; return 0;
    case MSR_EFER: *val = v->efer; return 0;
    case MSR_PAT: *val = v->msr.pat; return 0;
    case MSR_SPEC_CTRL: *val = v->msr.spec_ctrl; return host || spec_ctrl_bits(v) ? 0 : -1;
    case MSR_ARCH_CAPABILITIES:
        if (!host && !(cpuid_reg(v, 7, 0, GPR_EDX) & BIT(29)))
            return -1;
        break;
    case MSR_PLATFORM_INFO: *val = v->msr.platform_info; return host || !v->vm->platform_info_hidden ? 0 : -1;
    case MSR_MCG_CAP: *val = v->msr.mcg_cap; return 0;
    case MSR_MCG_CTL: *val = v->msr.mcg_ctl; return host || (v->msr.mcg_cap & MCG_CTL_P) ? 0 : -1;
    default: break;
    }
    return read_storage(v, index, val, host);
}

static int write_storage(struct vcpu *v, uint32_t index, uint64_t val, bool host)
{
    if (mtrr_slot(v, index))
        return write_mtrr(v, index, val);
    if (mc_bank_slot(v, index))
        return write_mc_bank(v, index, val, host);
    const struct plain *p = find_plain(index);
    if (p)
        return write_plain(v, p, val, host);
    const struct constant *c = find_constant(index);
    return c && (c->writable || (host && val == c->val)) ? 0 : -1;
}

int msr_write(struct vcpu *v, uint32_t index, uint64_t val, bool host)
{
    if (is_x2apic(index)) {
        fpu_put(v);
        return lapic_msr_write(v, index, val);
    }
    if (is_pv(index)) {
        fpu_put(v);
        return pv_msr_write(v, index, val, host);
    }
    switch (index) {
    case MSR_TSC: write_tsc(v, val, host); return 0;
    case MSR_TSC_ADJUST: write_tsc_adjust(v, val, host); return 0;
    case MSR_TSC_AUX:
        if ((val >> 32) || !(host || v->has.rdtscp))
            return -1;
        v->msr.tsc_aux = val;
        return 0;
    case MSR_TSC_DEADLINE:
        fpu_put(v);
        lapic_tsc_deadline_set(v, val);
        return 0;
    case MSR_APIC_BASE: fpu_put(v); return lapic_set_base(v, val, host);
    case MSR_EFER: return write_efer(v, val, host);
    case MSR_PAT:
        if (!types_valid(val, 8, true))
            return -1;
        v->msr.pat = val;
        return 0;
    case MSR_SPEC_CTRL:
        if (!host && (!spec_ctrl_bits(v) || (val & ~spec_ctrl_bits(v))))
            return -1;
        v->msr.spec_ctrl = val;
        return 0;
    case MSR_PRED_CMD:
    case MSR_FLUSH_CMD: return write_command(v, index, val, host);
    case MSR_MCG_CTL:
        if (!(v->msr.mcg_cap & MCG_CTL_P) ? val || !host : val && val != ALL)
            return -1;
        v->msr.mcg_ctl = val;
        return 0;
    default: return write_storage(v, index, val, host);
    }
}

void msr_reset(struct vcpu *v)
{
    uint64_t *words = (uint64_t *)(void *)&v->msr;
    for (unsigned n = 0; n < sizeof(v->msr) / sizeof(*words); n++)
        words[n] = 0;
    v->msr.pat = PAT_RESET;
    v->msr.misc_enable = MISC_ENABLE_RESET;
    v->msr.feature_control = 1; /* locked */
    v->msr.arch_capabilities = ARCH_CAPABILITIES;
    v->msr.ucode_rev = UCODE_REV;
    v->msr.mcg_cap = MCE_BANKS_MAX;
    v->msr.smbase = 0x30000;
    v->msr.kvm_poll_control = 1;
}

/* ---- the lists of KVM_GET_MSR_INDEX_LIST and KVM_GET_MSR_FEATURE_INDEX_LIST ---- */

const uint32_t msr_list[] = {
    MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK, MSR_KERNEL_GS_BASE, MSR_FS_BASE, MSR_GS_BASE,
    MSR_TSC, MSR_TSC_ADJUST, MSR_TSC_AUX, MSR_TSC_DEADLINE, MSR_EFER, MSR_PAT, MSR_APIC_BASE, MSR_SPEC_CTRL, MSR_MISC_ENABLE, MSR_DEBUGCTL,
    MSR_FEATURE_CONTROL, MSR_ARCH_CAPABILITIES, MSR_PLATFORM_INFO, MSR_POWER_CTL, MSR_UCODE_REV, MSR_SMI_COUNT, MSR_SMBASE, MSR_XSS,
    MSR_MCG_STATUS, MSR_MCG_CTL, MSR_K7_HWCR,
    MSR_MTRR_DEF_TYPE, MSR_MTRR_FIX64K, MSR_MTRR_FIX16K, MSR_MTRR_FIX16K + 1, MSR_MTRR_FIX4K, MSR_MTRR_FIX4K + 1, MSR_MTRR_FIX4K + 2,
    MSR_MTRR_FIX4K + 3, MSR_MTRR_FIX4K + 4, MSR_MTRR_FIX4K + 5, MSR_MTRR_FIX4K + 6, MSR_MTRR_FIX4K + 7,
    MSR_MTRR_PHYS, MSR_MTRR_PHYS + 1, MSR_MTRR_PHYS + 2, MSR_MTRR_PHYS + 3, MSR_MTRR_PHYS + 4, MSR_MTRR_PHYS + 5, MSR_MTRR_PHYS + 6,
    MSR_MTRR_PHYS + 7, MSR_MTRR_PHYS + 8, MSR_MTRR_PHYS + 9, MSR_MTRR_PHYS + 10, MSR_MTRR_PHYS + 11, MSR_MTRR_PHYS + 12, MSR_MTRR_PHYS + 13,
    MSR_MTRR_PHYS + 14, MSR_MTRR_PHYS + 15,
    MSR_KVM_SYSTEM_TIME, MSR_KVM_WALL_CLOCK, MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_STEAL_TIME, MSR_KVM_PV_EOI_EN,
    MSR_KVM_POLL_CONTROL, MSR_KVM_MIGRATION_CONTROL,
};
const unsigned msr_list_count = ARRAY_SIZE(msr_list);

const uint32_t msr_feature_list[] = {MSR_ARCH_CAPABILITIES, MSR_UCODE_REV, MSR_PLATFORM_INFO, MSR_AMD_DE_CFG};
const unsigned msr_feature_list_count = ARRAY_SIZE(msr_feature_list);

int msr_feature_read(uint32_t index, uint64_t *val)
{
    switch (index) {
    case MSR_ARCH_CAPABILITIES: *val = ARCH_CAPABILITIES; return 0;
    case MSR_UCODE_REV: *val = UCODE_REV; return 0;
    case MSR_PLATFORM_INFO: *val = 0; return 0;
    case MSR_AMD_DE_CFG: *val = DE_CFG_LFENCE; return 0;
    default: return -1;
    }
}
