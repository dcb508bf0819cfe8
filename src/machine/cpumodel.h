/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The CPU that guests see: what the accelerator supports on this host, less SMAP and, on softkvm, AVX-512, with the guest's own topology. */
#ifndef LODGE_MACHINE_CPUMODEL_H
#define LODGE_MACHINE_CPUMODEL_H

#include <linux/kvm.h>

#include "machine/board.h"

#define CPUMODEL_MAX 256 /* entries */

/* The entries for CPU 0 of `ncpus`; to be freed. `avx512`: the guest is to have it. NULL with err. */
struct kvm_cpuid2 *cpumodel_create(struct board *b, unsigned ncpus, bool avx512, struct error *err);
/* How many bits the CPUs' physical addresses have. */
unsigned cpumodel_physical_bits(struct board *b);
/* Makes them those of the CPU with this APIC ID. */
void cpumodel_set_cpu(struct kvm_cpuid2 *model, unsigned apic_id);
/* Adds the frequency leaf, where the CPU has one: needs the first CPU's frequency. */
void cpumodel_set_tsc(struct kvm_cpuid2 *model, unsigned tsc_khz);

#endif
