/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of direct execution share: the mappings of a stub (direct_map.c). */
#ifndef LODGE_SOFTKVM_API_DIRECT_MAP_H
#define LODGE_SOFTKVM_API_DIRECT_MAP_H

#include "softkvm/api/stub.h"
#include "softkvm/direct.h"

/*
 * Makes the mappings of an active space what the guest's TLB may hold: takes away what is to go, and maps what the stub has missed and what it is about to
 * execute, each with its neighbours, as far as the guest's page tables have them in use. False: the stub is of no use any more.
 */
bool direct_settle(struct vcpu *v, struct direct_space *s);
/* n bytes of guest memory, within one page, without side effects. False: not all of them are there. */
bool direct_peek(struct vcpu *v, uint64_t la, void *to, unsigned n);

#endif
