/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random accesses to all of the interrupt controllers, by the guest, by devices and by user space's restores, with the invariants looked at
 * after each; and threads that send interrupts while others take them: none is lost, none comes twice.
 */
#include "rig.h"

#define STEPS 1000000
#define CPUS  3

static uint64_t seed;

static uint64_t rnd(void)
{
    return rig_random(&seed);
}
static uint64_t sparse(void)
{
    return rnd() & rnd() & rnd();
}

/* ---- one thread, everything ---- */

static void random_lapic(struct vcpu *v)
{
    uint64_t val = rnd() & 1 ? sparse() : rnd();
    unsigned r = rnd() % 0x42;
    if (r == LR_SVR && rnd() % 4)
        val |= SVR_ENABLE;
    if (r == LR_TMICT)
        val |= 1000000; /* the timers' own test is elsewhere */
    uint64_t out;
    switch (rnd() % 4) {
    case 0: irqchip_mmio_write(v, (v->apic_base & PAGE_MASK) + r * 16, &val, 4); break;
    case 1: irqchip_mmio_read(v, (v->apic_base & PAGE_MASK) + (rnd() & 0xfff), &out, BIT(rnd() % 4)); break;
    case 2: lapic_msr_write(v, 0x800 + r, val & (rnd() & 1 ? 0xffff : ~0ull)); break;
    default: lapic_msr_read(v, 0x800 + r, &out); break;
    }
}

static void random_port(struct vcpu *v)
{
    static const uint16_t ports[] = {0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61};
    uint16_t port = ports[rnd() % ARRAY_SIZE(ports)];
    uint32_t val;
    if (rnd() & 1)
        irqchip_port_out(v, port, 1u << rnd() % 3, (uint32_t)rnd());
    else
        irqchip_port_in(v, port, 1u << rnd() % 3, &val);
}

static void random_restore(struct rig *r, struct vcpu *v)
{
    struct kvm_lapic_state l;
    struct kvm_irqchip k = {.chip_id = rnd() % 4};
    struct kvm_pit_state2 p;
    uint8_t *bytes = rnd() & 1 ? (uint8_t *)&k.chip : (uint8_t *)&l;
    switch (rnd() % 4) {
    case 0:
        lapic_get(v, &l);
        for (unsigned n = 0; n < 20; n++)
            l.regs[rnd() % sizeof(l.regs)] = (char)rnd();
        lapic_set(v, &l);
        break;
    case 1:
        for (unsigned n = 0; n < sizeof(p); n++)
            ((uint8_t *)&p)[n] = (uint8_t)rnd();
        p.flags |= KVM_PIT_FLAGS_HPET_LEGACY;
        pit_set(&r->vm, &p);
        break;
    case 2:
        for (unsigned n = 0; n < sizeof(k.chip); n++)
            ((uint8_t *)&k.chip)[n] = (uint8_t)rnd();
        irqchip_set(&r->vm, &k);
        break;
    default:
        memset(bytes, 0, 1);
        irqchip_get(&r->vm, &k);
        break;
    }
}

static void random_routes(struct rig *r)
{
    struct kvm_irq_routing_entry e[8];
    for (unsigned n = 0; n < 8; n++) {
        e[n] = (struct kvm_irq_routing_entry){.gsi = rnd() % 40, .type = 1 + rnd() % 2};
        if (e[n].type == KVM_IRQ_ROUTING_IRQCHIP)
            e[n].u.irqchip = (struct kvm_irq_routing_irqchip){.irqchip = rnd() % 4, .pin = rnd() % 25};
        else
            e[n].u.msi = (struct kvm_irq_routing_msi){.address_lo = 0xfee00000 | (uint32_t)(rnd() & 0xff00c), .data = rnd() & 0x87ff};
    }
    irqchip_set_routes(&r->vm, e, 8);
}

static void random_step(struct rig *r, struct vcpu *v)
{
    uint32_t val = (uint32_t)rnd();
    switch (rnd() % 16) {
    case 0: case 1: case 2: random_lapic(v); break;
    case 3: case 4: random_port(v); break;
    case 5: case 6: io_set(v, (uint8_t)(rnd() % 0x44), val & (rnd() & 1 ? 0x1ffff : ~0u)); break;
    case 7: irqchip_mmio_write(v, IOAPIC_BASE + (rnd() & 0xff), &val, BIT(rnd() % 4) > 4 ? 4 : BIT(rnd() % 3)); break;
    case 8: case 9: irqchip_set_gsi(&r->vm, rnd() % 70, rnd() % 40, rnd() & 1); break;
    case 10: irqchip_signal_msi(&r->vm, 0xfee00000 | (rnd() & 0xff00c), rnd() & 0x87ff); break;
    case 11: lapic_set_base(v, rnd() % 8 ? 0xfee00000 | (rnd() & 3) << 10 | APIC_BASE_EN : sparse(), rnd() & 1); break;
    case 12:
        if (rnd() % 50 == 0)
            random_restore(r, v);
        else if (rnd() % 50 == 0)
            random_routes(r);
        else if (rnd() % 200 == 0)
            lapic_reset(v, rnd() & 1);
        break;
    case 13: lapic_pv_eoi_set(v, rnd() & 1 ? (rnd() % (2 * RIG_RAM) & ~3ull) | (rnd() & 3) : 0); break;
    case 14:
        lapic_tpr_set(v, rnd() % 4 ? 0 : rnd() % 16);
        lapic_pv_eoi_sync(v);
        break;
    default: apic_take(v); break;
    }
}

static int top_bit(const struct lapic *l, unsigned bank)
{
    for (int n = 255; n >= 0; n--)
        if (lapic_bit(l, bank, (uint8_t)n))
            return n;
    return -1;
}

static void check_lapic(struct vcpu *v)
{
    const struct lapic *l = v->lapic;
    uint64_t bits = v->apic_base & (APIC_BASE_EN | APIC_BASE_EXTD);
    CHECK_EQ(lapic_mode(l), bits == 0 ? LAPIC_OFF : bits == APIC_BASE_EN ? LAPIC_XAPIC : LAPIC_X2APIC);
    CHECK_EQ(lapic_reg(l, LR_ISR) & 0xffff, 0);
    CHECK_EQ(lapic_reg(l, LR_SVR) & ~0x1ffu, 0);
    CHECK_EQ(lapic_reg(l, LR_TPR) & ~0xffu, 0);
    CHECK(!(lapic_reg(l, LR_TDCR) & ~0xbu));
    if (lapic_mode(l) == LAPIC_X2APIC)
        CHECK_EQ(lapic_reg(l, LR_ID), v->id);
    CHECK(atomic_load(&v->ev.nmi_pending) <= 2);
    /* What is offered for delivery is of a higher class than what is in service and than the task's. */
    if (!atomic_load(&l->chip->pic_output) && lapic_has_interrupt(v)) {
        int irr = top_bit(l, LR_IRR), isr = top_bit(l, LR_ISR);
        CHECK(irr >> 4 > isr >> 4 || isr < 0);
        CHECK((unsigned)irr >> 4 > lapic_reg(l, LR_TPR) >> 4);
    }
}

static void check_chips(const struct irqchip *c)
{
    for (unsigned n = 0; n < IOAPIC_PINS; n++)
        CHECK((c->ioapic.rte[n] & RTE_LEVEL) || !(c->ioapic.rte[n] & RTE_REMOTE_IRR));
    for (unsigned n = 0; n < 2; n++) {
        const struct kvm_pic_state *s = &c->pic.chip[n];
        CHECK(s->priority_add < 8 && s->init_state < 4 && !(s->irq_base & 7) && !(s->elcr & ~s->elcr_mask));
    }
    for (unsigned n = 0; n < 3; n++) {
        const struct kvm_pit_channel_state *s = &c->pit->ch[n].s;
        CHECK(s->count >= 1 && s->count <= 0x10000 && (s->mode <= 5 || s->mode == 0xff) && s->rw_mode >= 1 && s->rw_mode <= 3);
    }
}

static void everything(void)
{
    struct rig *r = rig_new(RIG_FULL, CPUS);
    struct irqchip *c = r->vm.irqchip;
    CHECK_EQ(pit_create(&r->vm, KVM_PIT_SPEAKER_DUMMY), 0);
    for (unsigned i = 0; i < STEPS; i++) {
        struct vcpu *v = rig_cpu(r, rnd() % CPUS);
        random_step(r, v);
        if (c->ioapic.base != IOAPIC_BASE) { /* a restore has moved it */
            struct kvm_irqchip k = {.chip_id = KVM_IRQCHIP_IOAPIC};
            irqchip_get(&r->vm, &k);
            k.chip.ioapic.base_address = IOAPIC_BASE;
            irqchip_set(&r->vm, &k);
        }
        check_lapic(v);
        pthread_mutex_lock(&c->lock);
        check_chips(c);
        pthread_mutex_unlock(&c->lock);
    }
    rig_free(r);
}

/* ---- threads ---- */

#define VECTORS 64 /* 0x40... for each CPU */
#define ROUNDS  3000

struct traffic {
    struct rig *r;
    _Atomic unsigned taken[2][VECTORS]; /* by CPU and vector: how often */
    _Atomic bool stop;
    _Atomic unsigned levels;
};

/* Plays a vCPU: takes what is there and ends it. */
static void *cpu_thread(void *opaque)
{
    struct traffic *t = ((void **)opaque)[0];
    unsigned n = (unsigned)(uintptr_t)((void **)opaque)[1];
    struct vcpu *v = rig_cpu(t->r, n);
    while (!atomic_load(&t->stop)) {
        atomic_fetch_and(&v->requests, ~(unsigned)REQ_EVENT);
        int vector = apic_take(v);
        if (vector < 0) {
            sched_yield();
            continue;
        }
        if (vector == 0x30) {
            irqchip_set_gsi(&t->r->vm, 0, 20, false); /* the device's handler, before the device goes on */
            atomic_fetch_add(&t->levels, 1);
        } else {
            CHECK(vector >= 0x40 && vector < 0x40 + VECTORS);
            atomic_fetch_add(&t->taken[n][vector - 0x40], 1);
        }
        apic_eoi(v);
    }
    return NULL;
}

/* Sends each of its vectors again only once the last one was taken. */
static void *sender(void *opaque)
{
    struct traffic *t = ((void **)opaque)[0];
    unsigned half = (unsigned)(uintptr_t)((void **)opaque)[1];
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned cpu = round & 1, k = half * (VECTORS / 2) + round / 2 % (VECTORS / 2), before = atomic_load(&t->taken[cpu][k]);
        CHECK_EQ(irqchip_signal_msi(&t->r->vm, 0xfee00000 | cpu << 12, 0x40 + k), 1);
        for (uint64_t end = now_ns() + 20 * NS_PER_S; atomic_load(&t->taken[cpu][k]) == before; sched_yield())
            CHECK(now_ns() < end);
    }
    return NULL;
}

static void *level_sender(void *opaque)
{
    struct traffic *t = opaque;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned before = atomic_load(&t->levels);
        irqchip_set_gsi(&t->r->vm, 0, 20, true);
        for (uint64_t end = now_ns() + 20 * NS_PER_S; atomic_load(&t->levels) == before; sched_yield())
            CHECK(now_ns() < end);
    }
    return NULL;
}

static void threads(void)
{
    static struct traffic t;
    t.r = rig_new(RIG_FULL, 2);
    pthread_t cpus[2], send[2], level;
    void *args[4][2];
    for (unsigned n = 0; n < 2; n++)
        apic_enable(rig_cpu(t.r, n));
    apic_set(rig_cpu(t.r, 0), LR_LINT0, LVT_MASKED);
    lapic_pv_eoi_set(rig_cpu(t.r, 0), 0x5000 | 1);
    io_route(rig_cpu(t.r, 0), 20, 1ull << 56 | RTE_LEVEL | 0x30);
    for (unsigned n = 0; n < 2; n++) {
        args[n][0] = args[2 + n][0] = &t;
        args[n][1] = args[2 + n][1] = (void *)(uintptr_t)n;
        CHECK_EQ(pthread_create(&cpus[n], NULL, cpu_thread, args[n]), 0);
        CHECK_EQ(pthread_create(&send[n], NULL, sender, args[2 + n]), 0);
    }
    CHECK_EQ(pthread_create(&level, NULL, level_sender, &t), 0);
    for (unsigned n = 0; n < 2; n++)
        pthread_join(send[n], NULL);
    pthread_join(level, NULL);
    atomic_store(&t.stop, true);
    for (unsigned n = 0; n < 2; n++)
        pthread_join(cpus[n], NULL);
    unsigned sum = 0;
    for (unsigned n = 0; n < 2 * VECTORS; n++)
        sum += atomic_load(&t.taken[n / VECTORS][n % VECTORS]);
    CHECK_EQ(sum, 2 * ROUNDS);
    rig_free(t.r);
}

int main(void)
{
    seed = rig_seed("chip_fuzz");
    everything();
    threads();
    return 0;
}
