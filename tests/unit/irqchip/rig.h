/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine without an engine: a VM, vCPUs and 1 MiB of RAM that the interrupt controllers can be tested on. vcpu_kick() only notes that it was
 * called; a test plays the vCPU by calling the lapic_* functions itself.
 */
#ifndef LODGE_TESTS_IRQCHIP_RIG_H
#define LODGE_TESTS_IRQCHIP_RIG_H

#include <string.h>

#include "../devices/check.h"
#include "softkvm/irqchip/irqchip_priv.h"
#include "softkvm/irqchip/lapic.h"
#include "softkvm/x86/cpu.h"

#define RIG_RAM MIB

struct rig {
    struct softkvm_vm vm;
    uint8_t ram[RIG_RAM] __attribute__((aligned(4096)));
};

enum rig_kind { RIG_FULL, RIG_SPLIT, RIG_BARE };

struct rig *rig_new(enum rig_kind kind, unsigned vcpus);
void rig_free(struct rig *r);
static inline struct vcpu *rig_cpu(struct rig *r, unsigned n)
{
    return r->vm.vcpus[n];
}

/* Registers as the guest reaches them; the vCPU's mode (xAPIC page or MSRs) decides how. */
uint32_t apic_get(struct vcpu *v, enum lapic_reg r);
void apic_set(struct vcpu *v, enum lapic_reg r, uint32_t val);
void apic_icr(struct vcpu *v, uint32_t dest, uint32_t icr);
void apic_enable(struct vcpu *v);       /* SVR with spurious vector 0xff */
void apic_to_x2apic(struct vcpu *v);
int apic_take(struct vcpu *v);          /* the next vector, or -1 */
void apic_eoi(struct vcpu *v);

uint32_t io_get(struct vcpu *v, uint8_t reg); /* IOAPIC, indirect */
void io_set(struct vcpu *v, uint8_t reg, uint32_t val);
void io_route(struct vcpu *v, unsigned pin, uint64_t rte);
uint8_t port_in(struct vcpu *v, uint16_t port);
void port_out(struct vcpu *v, uint16_t port, uint8_t val);

bool rig_wait(struct vcpu *v, unsigned ms); /* for an interrupt: polls */

static inline uint64_t rig_random(uint64_t *state) /* xorshift64* */
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}
/* From the environment (SEED), or the clock; printed. */
uint64_t rig_seed(const char *test);

#endif
