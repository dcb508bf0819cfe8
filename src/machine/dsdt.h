/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The byte code of the board's DSDT, without the table's header. */
#ifndef LODGE_MACHINE_DSDT_H
#define LODGE_MACHINE_DSDT_H

#include "machine/acpi.h"
#include "machine/aml.h"

void dsdt_build(struct aml *a, const struct acpi_config *cfg);

#endif
