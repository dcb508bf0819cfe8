/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM generation ID (Microsoft's "Virtual Machine Generation ID"): 16 bytes that are new whenever the guest's time has been
 * turned back, at MEM_GENID, in a page of memory that the guest may read. ACPI tells where it is. Nothing turns the time of a
 * running guest back, so no event of ACPI's tells of a change.
 */
#ifndef LODGE_MACHINE_GENID_H
#define LODGE_MACHINE_GENID_H

#include "machine/board.h"

struct genid;
int genid_create(struct board *b, const uint8_t uuid[16], struct genid **out, struct error *err);
void genid_destroy(struct genid *g); /* no vCPU runs */

#endif
