/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The vCPU of the differential tests, as guest.c and progrun.c share it. */
#ifndef LODGE_TESTS_GUEST_H
#define LODGE_TESTS_GUEST_H

#include "diff.h"
#include "softkvm/x86/cpu.h"

/* Guest-physical memory: page tables, tables and stack of the kernel, then the scratch area. */
enum {
    GPA_PML4 = 0x1000,
    GPA_PDPT_LOW = 0x2000,
    GPA_PDPT_HIGH = 0x3000,
    GPA_PD_LOW = 0x4000,
    GPA_PD_HIGH = 0x5000,
    GPA_PT_LOW = 0x6000,
    GPA_PT_HIGH = 0x7000,
    GPA_GDT = 0x8000,
    GPA_LDT = 0x8800,
    GPA_IDT = 0x9000,
    GPA_TSS = 0xa000,
    GPA_STACK = 0xc000, /* grows down from here */
    GPA_KERNEL_END = 0x10000,
    GPA_SCRATCH = 0x10000,
    RAM_SIZE = GPA_SCRATCH + SCRATCH_SIZE,
};
#define KERNEL_BASE  0xffffffff80000000ull
#define HANDLER_BASE (KERNEL_BASE + 0xe000) /* + 16 * vector */

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_G = 0x100 };
#define PTE_NX BIT64(63)

enum { SEL_KERNEL_CS32 = 0x08, SEL_KERNEL_CS = 0x10, SEL_KERNEL_DS = 0x18, SEL_TSS = 0x40, SEL_LDTR = 0x50, SEL_CPU = 0x78 };

struct softkvm_vm;
extern struct softkvm_vm guest_vm;
extern struct vcpu *guest_vcpu;
extern uint8_t *guest_ram;

/* A segment register from its descriptor; those of ring 0 are flat. */
void guest_load_segment(struct vcpu *v, enum seg_reg n, uint16_t sel);
/* The state of user code that is about to run; of code that an exception has ended. */
void guest_set_state(struct vcpu *v, const struct cpu_image *in);
void guest_get_state(struct vcpu *v, struct cpu_image *out);

#endif
