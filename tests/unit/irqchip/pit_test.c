/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 8254: counting by mode, latches, read-back, gates, BCD, the speaker port, interrupts and their reinjection. */
#include "rig.h"

#include <errno.h>

#define MS 1000000u

static struct rig *pc(uint32_t flags)
{
    struct rig *r = rig_new(RIG_FULL, 1);
    CHECK_EQ(pit_create(&r->vm, flags), 0);
    return r;
}
/* Makes `ticks` clock ticks pass on a channel, and half of one, so that the reading is not at an edge. */
static void pass(struct rig *r, unsigned n, uint64_t ticks)
{
    r->vm.irqchip->pit->ch[n].s.count_load_time = (int64_t)(now_ns() - (2 * ticks + 1) * NS_PER_S / PIT_HZ / 2);
}
static void program(struct vcpu *v, unsigned n, unsigned mode, unsigned count)
{
    port_out(v, 0x43, (uint8_t)(n << 6 | 0x30 | mode << 1));
    port_out(v, (uint16_t)(0x40 + n), (uint8_t)count);
    port_out(v, (uint16_t)(0x40 + n), (uint8_t)(count >> 8));
}
static unsigned counter(struct vcpu *v, unsigned n)
{
    port_out(v, 0x43, (uint8_t)(n << 6)); /* latch */
    unsigned lo = port_in(v, (uint16_t)(0x40 + n));
    return lo | (unsigned)port_in(v, (uint16_t)(0x40 + n)) << 8;
}
static uint8_t status(struct vcpu *v, unsigned n)
{
    port_out(v, 0x43, (uint8_t)(0xe0 | 2u << n));
    return port_in(v, (uint16_t)(0x40 + n));
}
/* Time goes on while the test runs: a counter may be a few ticks further. */
static bool about(unsigned val, unsigned want)
{
    return val <= want && val + 200 > want;
}
/* What `expr` gives right after `ticks` have passed on channel n: again, when the machine took the CPU away meanwhile. */
#define AFTER(r, n, ticks, expr)                                                                                                           \
    ({                                                                                                                                     \
        __typeof__(expr) val_;                                                                                                             \
        uint64_t start_;                                                                                                                   \
        unsigned tries_ = 0;                                                                                                               \
        do {                                                                                                                               \
            start_ = now_ns();                                                                                                             \
            pass(r, n, ticks);                                                                                                             \
            val_ = (expr);                                                                                                                 \
        } while (now_ns() - start_ > 100000 && ++tries_ < 10000);                                                                          \
        val_;                                                                                                                              \
    })

/* Likewise for some steps that belong together. */
#define QUICKLY(ns, steps)                                             \
    do {                                                               \
        unsigned tries_ = 0;                                           \
        for (uint64_t start_ = 0; !start_ || (now_ns() - start_ > (ns) && ++tries_ < 10000);) { \
            start_ = now_ns();                                         \
            steps;                                                     \
        }                                                              \
    } while (false)

static void counting(void)
{
    struct rig *r = pc(KVM_PIT_SPEAKER_DUMMY);
    struct vcpu *v = rig_cpu(r, 0);
    CHECK_EQ(pit_create(&r->vm, 0), -EEXIST);
    /* Channel 1, whose gate is always high. */
    program(v, 1, 0, 10000);
    CHECK_EQ(status(v, 1) & 0x3f, 0x30);
    CHECK(about(AFTER(r, 1, 4000, counter(v, 1)), 6000));
    CHECK(!(AFTER(r, 1, 4000, status(v, 1)) & 0x80));
    CHECK(about(AFTER(r, 1, 12000, counter(v, 1)), 65536 - 2000)); /* goes on below zero */
    CHECK(AFTER(r, 1, 12000, status(v, 1)) & 0x80);
    program(v, 1, 2, 10000);
    CHECK(about(AFTER(r, 1, 24000, counter(v, 1)), 6000));
    CHECK_EQ(AFTER(r, 1, 24000, status(v, 1)), 0xb4);
    program(v, 1, 3, 10000);
    CHECK(about(AFTER(r, 1, 21000, counter(v, 1)), 8000)); /* by twos */
    CHECK(AFTER(r, 1, 21000, status(v, 1)) & 0x80);
    CHECK(about(AFTER(r, 1, 26000, counter(v, 1)), 8000));
    CHECK(!(AFTER(r, 1, 26000, status(v, 1)) & 0x80));
    program(v, 1, 4, 10000);
    CHECK(AFTER(r, 1, 10, status(v, 1)) & 0x80);
    CHECK(about(AFTER(r, 1, 20000, counter(v, 1)), 65536 - 10000));
    program(v, 1, 2, 0); /* 0 is 65536 */
    CHECK(about(AFTER(r, 1, 65000, counter(v, 1)), 536));
    port_out(v, 0x43, 0x70 | 7 << 1); /* modes 6 and 7 are 2 and 3; no count yet */
    CHECK_EQ(status(v, 1), 0x80 | 0x40 | 0x30 | 3 << 1);
    rig_free(r);
}

static void bcd(void)
{
    struct rig *r = pc(0);
    struct vcpu *v = rig_cpu(r, 0);
    port_out(v, 0x43, 0x70 | 1);
    port_out(v, 0x41, 0x00);
    port_out(v, 0x41, 0x50);
    CHECK_EQ(r->vm.irqchip->pit->ch[1].s.count, 5000);
    unsigned val = AFTER(r, 1, 1001, counter(v, 1));
    CHECK_EQ(val & 0xf000, 0x3000);
    CHECK(((val >> 4) & 15) < 10 && (val & 15) < 10);
    program(v, 1, 0, 0xffff);
    rig_free(r);
}

static void access_modes(void)
{
    struct rig *r = pc(0);
    struct vcpu *v = rig_cpu(r, 0);
    port_out(v, 0x43, 0x60 | 2 << 1); /* high byte only */
    port_out(v, 0x41, 0x20);
    CHECK_EQ(r->vm.irqchip->pit->ch[1].s.count, 0x2000);
    uint8_t high = AFTER(r, 1, 0x0801, port_in(v, 0x41));
    CHECK(high == 0x17 || high == 0x16);
    port_out(v, 0x43, 0x50 | 2 << 1); /* low byte only */
    port_out(v, 0x41, 0x80);
    CHECK_EQ(r->vm.irqchip->pit->ch[1].s.count, 0x80);
    /* A latched count stays; status comes before it. */
    program(v, 1, 0, 0x8000);
    unsigned state, val;
    QUICKLY(10 * MS, {
        pass(r, 1, 0x1000);
        port_out(v, 0x43, 0xc0 | 4); /* read back count and status of channel 1 */
        pass(r, 1, 0x7000);
        port_out(v, 0x43, 0x40); /* a second latch does nothing */
        state = port_in(v, 0x41);
        val = port_in(v, 0x41);
        val |= (unsigned)port_in(v, 0x41) << 8;
    });
    CHECK_EQ(state, 0x30);
    CHECK(val <= 0x7000 && val > 0x1000);
    CHECK(about(AFTER(r, 1, 0x7000, counter(v, 1)), 0x1000));
    CHECK_EQ(port_in(v, 0x43), 0);
    rig_free(r);
}

static void gate_and_speaker(void)
{
    struct rig *r = pc(KVM_PIT_SPEAKER_DUMMY);
    struct vcpu *v = rig_cpu(r, 0);
    port_out(v, 0x61, 0);
    program(v, 2, 0, 60000);
    CHECK_EQ(AFTER(r, 2, 5000, counter(v, 2)), 60000); /* the gate is low: it does not count */
    port_out(v, 0x61, 1);
    CHECK(about(AFTER(r, 2, 5000, counter(v, 2)), 55000));
    CHECK_EQ(AFTER(r, 2, 5000, port_in(v, 0x61)) & 0x21, 1);
    unsigned held, later, resumed;
    QUICKLY(20 * MS, {
        port_out(v, 0x61, 1);
        pass(r, 2, 5000);
        port_out(v, 0x61, 0);
        held = counter(v, 2);
        nanosleep(&(struct timespec){.tv_nsec = MS}, NULL);
        later = counter(v, 2);
        port_out(v, 0x61, 3);
        resumed = counter(v, 2);
    });
    CHECK(held <= 55000);
    CHECK_EQ(later, held);
    CHECK(resumed <= held && resumed + 30000 > held);
    CHECK_EQ(port_in(v, 0x61) & 3, 3);
    pass(r, 2, 60001);
    CHECK_EQ(port_in(v, 0x61) & 0x20, 0x20); /* what Linux's quick calibration waits for */
    program(v, 2, 1, 60000); /* a one-shot waits for the gate to rise */
    CHECK_EQ(port_in(v, 0x61) & 0x20, 0x20);
    uint8_t output;
    QUICKLY(20 * MS, {
        port_out(v, 0x61, 0);
        port_out(v, 0x61, 1);
        output = port_in(v, 0x61) & 0x20;
    });
    CHECK_EQ(output, 0);
    pass(r, 2, 60001);
    CHECK_EQ(port_in(v, 0x61) & 0x20, 0x20);
    uint8_t first = port_in(v, 0x61) & 0x10;
    uint64_t end = now_ns() + 120000ull * MS;
    while ((port_in(v, 0x61) & 0x10) == first)
        CHECK(now_ns() < end);
    rig_free(r);

    r = pc(0);
    uint32_t val;
    CHECK(!irqchip_port_in(rig_cpu(r, 0), 0x61, 1, &val));
    rig_free(r);
}

static void interrupts(void)
{
    struct rig *r = pc(0);
    struct vcpu *v = rig_cpu(r, 0);
    CHECK_EQ(pit_reinject(&r->vm, false), 0);
    apic_enable(v);
    apic_set(v, LR_LINT0, LVT_MASKED); /* not by way of the PIC */
    io_route(v, 0, 0x30);
    uint64_t start = now_ns();
    program(v, 0, 2, 5966); /* 5 ms */
    for (int n = 0; n < 5; n++) {
        CHECK(rig_wait(v, 120000));
        CHECK_EQ(apic_take(v), 0x30);
        apic_eoi(v);
    }
    CHECK(now_ns() - start >= 24 * MS);
    port_out(v, 0x43, 0x34); /* a control word stops it; a sixth tick may have come */
    while (rig_wait(v, 10)) {
        CHECK_EQ(apic_take(v), 0x30);
        apic_eoi(v);
    }
    program(v, 0, 0, 2386); /* 2 ms, once */
    CHECK(rig_wait(v, 120000));
    CHECK_EQ(apic_take(v), 0x30);
    apic_eoi(v);
    CHECK(!rig_wait(v, 10));
    program(v, 0, 2, 2386);
    port_out(v, 0x43, 0x34);
    while (rig_wait(v, 10)) {
        CHECK_EQ(apic_take(v), 0x30);
        apic_eoi(v);
    }
    struct kvm_pit_state2 s;
    CHECK_EQ(pit_get(&r->vm, &s), 0);
    program(v, 0, 2, 2386);
    s.flags = KVM_PIT_FLAGS_HPET_LEGACY; /* the HPET has taken the line */
    CHECK_EQ(pit_set(&r->vm, &s), 0);
    program(v, 0, 2, 2386);
    while (rig_wait(v, 10)) {
        CHECK_EQ(apic_take(v), 0x30);
        apic_eoi(v);
    }
    CHECK(!rig_wait(v, 10));
    rig_free(r);
}

static bool acked(struct irqchip *c)
{
    pthread_mutex_lock(&c->lock);
    bool yes = c->pit->acked;
    pthread_mutex_unlock(&c->lock);
    return yes;
}

/* Ticks that the guest was too slow for come one after the other, each when the last has been ended: through the IOAPIC and the PIC. */
static void reinjection(bool pic)
{
    struct rig *r = pc(0);
    struct vcpu *v = rig_cpu(r, 0);
    struct irqchip *c = r->vm.irqchip;
    if (pic) {
        static const uint8_t icw[] = {0x20, 0x04, 0x01, 0xfe};
        port_out(v, 0x20, 0x11);
        for (unsigned i = 0; i < 4; i++)
            port_out(v, 0x21, icw[i]);
    } else {
        apic_enable(v);
        io_route(v, 0, 0x30);
        apic_set(v, LR_LINT0, LVT_MASKED);
    }
    program(v, 0, 2, 2386);
    for (uint64_t end = now_ns() + 120000ull * MS; acked(c);) /* until the first tick */
        CHECK(now_ns() < end);
    port_out(v, 0x43, 0x34);
    pthread_mutex_lock(&c->lock);
    c->pit->pending = 7; /* what the last program() forgot, for a definite number */
    c->pit->acked = false;
    pthread_mutex_unlock(&c->lock);
    for (int n = 0; n < 8; n++) {
        CHECK_EQ(apic_take(v), pic ? 0x20 : 0x30);
        CHECK_EQ(apic_take(v), -1);
        if (pic)
            port_out(v, 0x20, 0x20);
        else
            apic_eoi(v);
    }
    CHECK_EQ(apic_take(v), -1);
    CHECK(c->pit->acked);
    /* Unmasking starts afresh. */
    c->pit->pending = 100;
    if (pic) {
        port_out(v, 0x21, 0xff);
        port_out(v, 0x21, 0xfe);
    } else {
        io_route(v, 0, RTE_MASKED | 0x30);
        io_route(v, 0, 0x30);
    }
    CHECK_EQ(c->pit->pending, 0);
    rig_free(r);
}

/* Ticks accumulate while the guest does not end the first. */
static void lost_ticks(void)
{
    struct rig *r = pc(0);
    struct vcpu *v = rig_cpu(r, 0);
    apic_enable(v);
    io_route(v, 0, 0x30);
    apic_set(v, LR_LINT0, LVT_MASKED);
    uint64_t pending = 0, start = now_ns();
    program(v, 0, 2, 1193); /* 1 ms */
    CHECK(rig_wait(v, 120000));
    CHECK_EQ(apic_take(v), 0x30);
    while (pending < 20) {
        CHECK(now_ns() - start < 120000ull * MS);
        pthread_mutex_lock(&r->vm.irqchip->lock);
        pending = r->vm.irqchip->pit->pending;
        pthread_mutex_unlock(&r->vm.irqchip->lock);
    }
    CHECK(now_ns() - start > 18 * MS); /* and no more than there were */
    rig_free(r);
}

static void watchdog(void)
{
    struct rig *r = pc(0);
    struct vcpu *v = rig_cpu(r, 0);
    apic_enable(v);
    apic_set(v, LR_LINT0, APIC_NMI << 8);
    program(v, 0, 2, 1193);
    for (uint64_t end = now_ns() + 120000ull * MS; !atomic_load(&v->ev.nmi_pending);)
        CHECK(now_ns() < end);
    rig_free(r);
}

static void state(void)
{
    struct rig *r = pc(0);
    struct vcpu *v = rig_cpu(r, 0);
    struct kvm_pit_state2 s;
    program(v, 1, 3, 0x1234);
    CHECK_EQ(pit_get(&r->vm, &s), 0);
    CHECK_EQ(s.channels[1].count, 0x1234);
    CHECK_EQ(s.channels[1].mode, 3);
    memset(&s, 0xff, sizeof(s));
    CHECK_EQ(pit_set(&r->vm, &s), 0);
    for (unsigned n = 0; n < 3; n++) {
        const struct kvm_pit_channel_state *c = &r->vm.irqchip->pit->ch[n].s;
        CHECK_EQ(c->mode, 0xff);
        CHECK_EQ(c->count, 10000);
        CHECK(c->rw_mode <= 3 && c->read_state <= 4 && c->write_state <= 4);
        for (int i = 0; i < 8; i++)
            port_in(v, (uint16_t)(0x40 + n));
        program(v, n, 2, 1);
        counter(v, n);
    }
    for (unsigned mode = 0; mode < 256; mode++) { /* every count divides by something */
        for (unsigned n = 0; n < 3; n++)
            s.channels[n] = (struct kvm_pit_channel_state){.mode = (uint8_t)mode, .count = mode & 1, .bcd = 1, .count_load_time = INT64_MIN};
        CHECK_EQ(pit_set(&r->vm, &s), 0);
        counter(v, mode % 3);
        status(v, mode % 3);
    }
    rig_free(r);
}

int main(void)
{
    counting();
    bcd();
    access_modes();
    gate_and_speaker();
    interrupts();
    reinjection(false);
    reinjection(true);
    lost_ticks();
    watchdog();
    state();
    return 0;
}
