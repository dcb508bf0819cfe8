/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LODGE_MACHINE_STATS_H
#define LODGE_MACHINE_STATS_H

#include <stdio.h>

#include "machine/vmcpu.h"

/* Prints the accelerator's figures of the VM and its CPUs, none of which runs. */
void stats_print(FILE *out, const struct board *b, const struct vmcpu *cpus, unsigned ncpus);

#endif
