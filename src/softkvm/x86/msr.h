/* SPDX-License-Identifier: GPL-2.0-or-later */
/* MSR numbers that softkvm knows: SDM vol. 4, and AMD's APM vol. 2 for 0xc001xxxx. The paravirtual ones are in <asm/kvm_para.h>. */
#ifndef LODGE_SOFTKVM_X86_MSR_H
#define LODGE_SOFTKVM_X86_MSR_H

#define MSR_TSC               0x10
#define MSR_PLATFORM_ID       0x17
#define MSR_APIC_BASE         0x1b
#define MSR_EBL_CR_POWERON    0x2a
#define MSR_EBC_FREQUENCY_ID  0x2c
#define MSR_SMI_COUNT         0x34
#define MSR_FEATURE_CONTROL   0x3a
#define MSR_TSC_ADJUST        0x3b
#define MSR_SPEC_CTRL         0x48
#define MSR_PRED_CMD          0x49
#define MSR_UCODE_WRITE       0x79
#define MSR_UCODE_REV         0x8b
#define MSR_SMBASE            0x9e
#define MSR_P6_PERFCTR0       0xc1
#define MSR_FSB_FREQ          0xcd
#define MSR_PLATFORM_INFO     0xce
#define MSR_MTRR_CAP          0xfe
#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_FLUSH_CMD         0x10b
#define MSR_BBL_CR_CTL3       0x11e
#define MSR_SYSENTER_CS       0x174
#define MSR_SYSENTER_ESP      0x175
#define MSR_SYSENTER_EIP      0x176
#define MSR_MCG_CAP           0x179
#define MSR_MCG_STATUS        0x17a
#define MSR_MCG_CTL           0x17b
#define MSR_P6_EVNTSEL0       0x186
#define MSR_PERF_STATUS       0x198
#define MSR_PERF_CTL          0x199
#define MSR_MISC_ENABLE       0x1a0
#define MSR_DEBUGCTL          0x1d9
#define MSR_LASTBRANCH_FROM   0x1db
#define MSR_LASTINT_TO        0x1de
#define MSR_POWER_CTL         0x1fc
#define MSR_MTRR_PHYS         0x200 /* base, mask, base, mask, ... */
#define MSR_MTRR_FIX64K       0x250
#define MSR_MTRR_FIX16K       0x258
#define MSR_MTRR_FIX4K        0x268
#define MSR_PAT               0x277
#define MSR_MTRR_DEF_TYPE     0x2ff
#define MSR_MC0_CTL           0x400
#define MSR_RAPL_POWER_UNIT   0x606
#define MSR_PKG_ENERGY        0x611
#define MSR_DRAM_ENERGY       0x619
#define MSR_PP0_ENERGY        0x639
#define MSR_PP1_ENERGY        0x641
#define MSR_TSC_DEADLINE      0x6e0
#define MSR_X2APIC_FIRST      0x800
#define MSR_X2APIC_LAST       0x8ff
#define MSR_XSS               0xda0
#define MSR_EFER              0xc0000080
#define MSR_STAR              0xc0000081
#define MSR_LSTAR             0xc0000082
#define MSR_CSTAR             0xc0000083
#define MSR_SFMASK            0xc0000084
#define MSR_FS_BASE           0xc0000100
#define MSR_GS_BASE           0xc0000101
#define MSR_KERNEL_GS_BASE    0xc0000102
#define MSR_TSC_AUX           0xc0000103
#define MSR_K7_EVNTSEL0       0xc0010000
#define MSR_K7_PERFCTR3       0xc0010007
#define MSR_AMD_SYSCFG        0xc0010010
#define MSR_K7_HWCR           0xc0010015
#define MSR_AMD_NB_CFG        0xc001001f
#define MSR_AMD_PATCH_LOADER  0xc0010020
#define MSR_AMD_INT_PENDING   0xc0010055
#define MSR_AMD_MMIO_CONF     0xc0010058
#define MSR_K8_TSEG_ADDR      0xc0010112
#define MSR_K8_TSEG_MASK      0xc0010113
#define MSR_VM_HSAVE_PA       0xc0010117
#define MSR_AMD_OSVW_LENGTH   0xc0010140
#define MSR_AMD_OSVW_STATUS   0xc0010141
#define MSR_AMD_DC_CFG        0xc0011022
#define MSR_AMD_TW_CFG        0xc0011023
#define MSR_AMD_DE_CFG        0xc0011029
#define MSR_AMD_BU_CFG2       0xc001102a
#define MSR_F15H_EX_CFG       0xc001102c

/* IA32_ARCH_CAPABILITIES: what Linux's cpu/bugs.c looks at. */
#define ARCH_CAP_RDCL_NO        BIT64(0)
#define ARCH_CAP_IBRS_ALL       BIT64(1)
#define ARCH_CAP_SKIP_L1DFL     BIT64(3)
#define ARCH_CAP_MDS_NO         BIT64(5)
#define ARCH_CAP_PSCHANGE_MC_NO BIT64(6)
#define ARCH_CAP_TAA_NO         BIT64(8)
#define ARCH_CAP_SBDR_SSDP_NO   BIT64(13)
#define ARCH_CAP_FBSDP_NO       BIT64(14)
#define ARCH_CAP_PSDP_NO        BIT64(15)
#define ARCH_CAP_BHI_NO         BIT64(20)
#define ARCH_CAP_PBRSB_NO       BIT64(24)
#define ARCH_CAP_GDS_NO         BIT64(26)
#define ARCH_CAP_RFDS_NO        BIT64(27)
#define ARCH_CAP_ITS_NO         BIT64(62)

#endif
