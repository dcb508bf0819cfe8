/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The board's physical addresses and ports (docs/machine.md draws them). They follow the q35 board, so that guests find what they
 * expect.
 */
#ifndef LODGE_MACHINE_MEMMAP_H
#define LODGE_MACHINE_MEMMAP_H

/* Memory. RAM is [0, MEM_LOW_LIMIT) and from 4 GiB on, without the VGA window. */
#define MEM_VGA_BASE     0x000a0000ull
#define MEM_VGA_END      0x000c0000ull
#define MEM_EBDA         0x0009fc00ull /* end of conventional memory */
#define MEM_TABLES       0x000e0000ull /* ACPI tables, in the range that guests search for the RSDP (ACPI 6.4, 5.2.5.1) */
#define MEM_SMBIOS       0x000ff000ull /* the SMBIOS tables, in the range that guests search for their anchor (DSP0134, 5.2.1) */
#define MEM_TABLES_END   0x00100000ull
#define MEM_BIOS         0x00100000ull /* the firmware ends here and, again, at 4 GiB */
#define MEM_LOW_LIMIT    0xb0000000ull
#define MEM_ECAM         0xb0000000ull
#define MEM_ECAM_BUSES   256u
#define MEM_ECAM_SIZE    0x10000000ull
#define MEM_PCI32        0xc0000000ull
#define MEM_PCI32_END    0xfec00000ull
#define MEM_IOAPIC       0xfec00000ull
#define MEM_LAPIC        0xfee00000ull
#define MEM_GENID        0xfeffb000ull /* a page with the VM generation ID */
#define MEM_KVM_IDENTITY 0xfeffc000ull /* a page, then three for the TSS: KVM on Intel's real mode helpers, where SeaBIOS reserves them */
#define MEM_KVM_TSS      0xfeffd000ull
#define MEM_HIGH         0x100000000ull
#define MEM_PCI64_SIZE   0x1000000000ull /* 64 GiB, aligned to its size, above all RAM */

/* What loaders put below BOOT_LOW_END; kernels are loaded at or above it. */
#define BOOT_GDT         0x1000ull
#define BOOT_PVH_INFO    0x6000ull
#define BOOT_PARAMS      0x7000ull
#define BOOT_PAGE_TABLES 0x9000ull  /* six pages */
#define BOOT_STACK       0x1f000ull /* grows down */
#define BOOT_CMDLINE     0x20000ull
#define BOOT_CMDLINE_MAX 0x10000ull
#define BOOT_LOW_END     0x30000ull
#define BOOT_KERNEL_MIN  0x100000ull

/* Ports. */
#define PORT_PM      0x600 /* ICH9's power management block (PMBASE) */
#define PORT_PVPANIC 0x505
#define PORT_BIOSLOG 0x402 /* SeaBIOS's messages for its developers */
#define PORT_RESET   0xcf9 /* the PCI host bridge's reset control register */
#define PORT_PCI     0x1000
#define PORT_PCI_END 0x10000

/* Interrupts: GSI n is pin n of the IOAPIC; the PIT's line 0 arrives at pin 2, as on every PC. */
#define GSI_COUNT    24
#define GSI_PIT      0 /* the line, which arrives at the pin GSI_TIMER */
#define GSI_TIMER    2
#define GSI_KEYBOARD 1
#define GSI_COM1     4
#define GSI_COM2     3
#define GSI_LPT1     7
#define GSI_RTC      8
#define GSI_SCI      9

#endif
