/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fakes that stand in for the engine and the API, and small helpers: see rig.h. */
#include "rig.h"

/* ---- what the engine and the API provide otherwise ---- */

void vcpu_kick(struct vcpu *v, uint32_t requests)
{
    atomic_fetch_or(&v->requests, requests);
}

void *vm_phys_host(struct softkvm_vm *vm, uint64_t gpa, unsigned n, bool write)
{
    struct rig *r = container_of(vm, struct rig, vm);
    (void)write;
    return gpa < RIG_RAM && n <= RIG_RAM - gpa ? r->ram + gpa : NULL;
}

bool vm_phys_read(struct softkvm_vm *vm, uint64_t gpa, void *buf, unsigned n)
{
    const void *p = vm_phys_host(vm, gpa, n, false);
    if (p)
        memcpy(buf, p, n);
    return p;
}

bool vm_phys_write(struct softkvm_vm *vm, uint64_t gpa, const void *buf, unsigned n)
{
    void *p = vm_phys_host(vm, gpa, n, true);
    if (p)
        memcpy(p, buf, n);
    return p;
}

/* ---- the machine ---- */

struct rig *rig_new(enum rig_kind kind, unsigned vcpus)
{
    struct rig *r = aligned_alloc(4096, ALIGN_UP(sizeof(*r), 4096));
    CHECK(r);
    memset(r, 0, sizeof(*r));
    pthread_mutex_init(&r->vm.lock, NULL);
    if (kind != RIG_BARE)
        CHECK_EQ(irqchip_create(&r->vm, kind == RIG_SPLIT, kind == RIG_SPLIT ? 24 : 0), 0);
    for (unsigned n = 0; n < vcpus; n++) {
        struct vcpu *v = aligned_alloc(_Alignof(struct vcpu), sizeof(*v));
        CHECK(v);
        memset(v, 0, sizeof(*v));
        v->vm = &r->vm;
        v->id = n;
        v->phys_bits = 46;
        v->has.x2apic = v->has.rdtscp = v->has.nx = v->has.lm = true;
        v->tsc_khz = (uint32_t)host_tsc_khz();
        if (kind != RIG_BARE)
            CHECK_EQ(lapic_create(v), 0);
        else
            lapic_reset(v, false);
        r->vm.vcpus[n] = v;
        r->vm.nvcpus = n + 1;
    }
    return r;
}

void rig_free(struct rig *r)
{
    irqchip_stop(&r->vm);
    for (unsigned n = 0; n < r->vm.nvcpus; n++) {
        lapic_destroy(r->vm.vcpus[n]);
        free(r->vm.vcpus[n]->cpuid);
        free(r->vm.vcpus[n]);
    }
    irqchip_destroy(&r->vm);
    free(r);
}

uint32_t apic_get(struct vcpu *v, enum lapic_reg r)
{
    if (lapic_mode(v->lapic) == LAPIC_X2APIC) {
        uint64_t val = 0;
        CHECK_EQ(lapic_msr_read(v, 0x800 + r, &val), 0);
        return (uint32_t)val;
    }
    uint32_t val;
    CHECK(irqchip_mmio_read(v, (v->apic_base & PAGE_MASK) + r * 16, &val, 4));
    return val;
}

void apic_set(struct vcpu *v, enum lapic_reg r, uint32_t val)
{
    if (lapic_mode(v->lapic) == LAPIC_X2APIC)
        CHECK_EQ(lapic_msr_write(v, 0x800 + r, val), 0);
    else
        CHECK(irqchip_mmio_write(v, (v->apic_base & PAGE_MASK) + r * 16, &val, 4));
}

void apic_icr(struct vcpu *v, uint32_t dest, uint32_t icr)
{
    if (lapic_mode(v->lapic) == LAPIC_X2APIC) {
        CHECK_EQ(lapic_msr_write(v, 0x830, (uint64_t)dest << 32 | icr), 0);
        return;
    }
    apic_set(v, LR_ICR2, dest << 24);
    apic_set(v, LR_ICR, icr);
}

void apic_enable(struct vcpu *v)
{
    apic_set(v, LR_SVR, 0x1ff);
}

void apic_to_x2apic(struct vcpu *v)
{
    CHECK_EQ(lapic_set_base(v, v->apic_base | APIC_BASE_EXTD, false), 0);
}

int apic_take(struct vcpu *v)
{
    return lapic_has_interrupt(v) ? lapic_take_interrupt(v) : -1;
}

void apic_eoi(struct vcpu *v)
{
    apic_set(v, LR_EOI, 0);
}

uint32_t io_get(struct vcpu *v, uint8_t reg)
{
    uint32_t val = reg;
    CHECK(irqchip_mmio_write(v, IOAPIC_BASE, &val, 4));
    CHECK(irqchip_mmio_read(v, IOAPIC_BASE + 0x10, &val, 4));
    return val;
}

void io_set(struct vcpu *v, uint8_t reg, uint32_t val)
{
    uint32_t sel = reg;
    CHECK(irqchip_mmio_write(v, IOAPIC_BASE, &sel, 4));
    CHECK(irqchip_mmio_write(v, IOAPIC_BASE + 0x10, &val, 4));
}

void io_route(struct vcpu *v, unsigned pin, uint64_t rte)
{
    io_set(v, (uint8_t)(0x11 + pin * 2), (uint32_t)(rte >> 32));
    io_set(v, (uint8_t)(0x10 + pin * 2), (uint32_t)rte);
}

uint8_t port_in(struct vcpu *v, uint16_t port)
{
    uint32_t val = 0;
    CHECK(irqchip_port_in(v, port, 1, &val));
    return (uint8_t)val;
}

void port_out(struct vcpu *v, uint16_t port, uint8_t val)
{
    CHECK(irqchip_port_out(v, port, 1, val));
}

bool rig_wait(struct vcpu *v, unsigned ms)
{
    for (uint64_t end = now_ns() + ms * 1000000ull; now_ns() < end;) {
        if (lapic_has_interrupt(v))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    return false;
}

uint64_t rig_seed(const char *test)
{
    const char *env = getenv("SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : now_ns();
    printf("%s: SEED=0x%llx\n", test, (unsigned long long)seed);
    return seed | 1;
}
