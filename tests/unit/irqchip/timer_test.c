/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The timer thread's heap, and the LAPIC's timer in its three modes. Upper bounds are wide, as the test machine may be busy. */
#include "rig.h"

#include <x86intrin.h>

#define MS 1000000u

static unsigned fired;
static uint64_t order[64];

static uint64_t note(void *opaque, uint64_t deadline)
{
    (void)deadline;
    order[fired % 64] = (uintptr_t)opaque; /* there is one timer thread */
    __atomic_store_n(&fired, fired + 1, __ATOMIC_SEQ_CST);
    return 0;
}
static void wait_fired(unsigned n)
{
    for (uint64_t end = now_ns() + 120000ull * MS; __atomic_load_n(&fired, __ATOMIC_SEQ_CST) < n;) {
        CHECK(now_ns() < end);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
}

static void heap_order(void)
{
    static struct timers t;
    static struct vm_timer tm[40];
    uint64_t seed = rig_seed("heap_order"), base = now_ns() + 50 * MS;
    CHECK_EQ(timers_init(&t), 0);
    for (unsigned n = 0; n < 40; n++)
        tm[n] = (struct vm_timer){.fire = note, .opaque = (void *)(uintptr_t)n};
    fired = 0;
    for (unsigned n = 0; n < 40; n++) /* armed at random, moved, and every fourth cancelled */
        timer_arm(&t, &tm[n], base + rig_random(&seed) % MS, true);
    for (unsigned n = 40; n-- > 0;)
        timer_arm(&t, &tm[n], base + n * 100000ull, true);
    for (unsigned n = 0; n < 40; n += 4)
        timer_cancel(&t, &tm[n], true);
    CHECK_EQ(timers_start(&t), 0);
    CHECK_EQ(timers_start(&t), 0);
    wait_fired(30);
    CHECK(now_ns() >= base + 39 * 100000ull);
    for (unsigned i = 0, n = 0; i < 30; i++, n++) {
        n += n % 4 == 0;
        CHECK_EQ(order[i], n);
    }
    timer_arm(&t, &tm[0], 1, true); /* a deadline of the past */
    wait_fired(31);
    timer_arm(&t, &tm[1], UINT64_MAX, true); /* never; and destroying does not wait for it */
    timers_destroy(&t);
    CHECK_EQ(fired, 31);
}

/* Arms and disarms a timer before it fires: again, when the machine took the CPU away meanwhile. */
#define WITHIN(ns, v, what)                               \
    do {                                                  \
        uint64_t start_ = now_ns();                       \
        what;                                             \
        if (now_ns() - start_ < (ns))                     \
            break;                                        \
        for (int vector_; (vector_ = apic_take(v)) >= 0;) \
            apic_eoi(v);                                  \
    } while (true)

static struct vcpu *timer_cpu(struct rig **r, uint32_t lvtt)
{
    *r = rig_new(RIG_FULL, 1);
    struct vcpu *v = rig_cpu(*r, 0);
    apic_enable(v);
    apic_set(v, LR_TDCR, 0xb);
    apic_set(v, LR_LVTT, lvtt);
    return v;
}

static void oneshot(void)
{
    struct rig *r;
    struct vcpu *v = timer_cpu(&r, 0x40);
    apic_set(v, LR_TDCR, 0xa); /* by 128: minutes */
    apic_set(v, LR_TMICT, 4000 * MS);
    uint32_t left = apic_get(v, LR_TMCCT);
    CHECK(left > 0 && left <= 4000 * MS);
    /* Changing the divider keeps the count. */
    apic_set(v, LR_TDCR, 3);
    CHECK(apic_get(v, LR_TMCCT) <= left && apic_get(v, LR_TMCCT) > left - 3500 * MS);
    apic_set(v, LR_TMICT, 0);
    apic_set(v, LR_TDCR, 0xb);
    uint64_t start = now_ns();
    apic_set(v, LR_TMICT, 5 * MS);
    CHECK(rig_wait(v, 120000));
    CHECK(now_ns() - start >= 5 * MS);
    CHECK_EQ(apic_take(v), 0x40);
    CHECK_EQ(apic_get(v, LR_TMCCT), 0);
    apic_eoi(v);
    CHECK(!rig_wait(v, 12));
    /* Divided by 16; stopped by writing 0. */
    apic_set(v, LR_TDCR, 3);
    start = now_ns();
    apic_set(v, LR_TMICT, MS);
    CHECK(rig_wait(v, 120000));
    CHECK(now_ns() - start >= 16 * MS);
    CHECK_EQ(apic_take(v), 0x40);
    apic_eoi(v);
    WITHIN(3 * MS, v, (apic_set(v, LR_TMICT, MS / 4), apic_set(v, LR_TMICT, 0)));
    CHECK(!rig_wait(v, 10));
    apic_set(v, LR_TDCR, 0xb);
    /* Masked: it counts, but says nothing. */
    apic_set(v, LR_LVTT, LVT_MASKED | 0x40);
    apic_set(v, LR_TMICT, MS);
    CHECK(!rig_wait(v, 10));
    CHECK_EQ(apic_get(v, LR_TMCCT), 0);
    rig_free(r);
}

static void periodic(void)
{
    struct rig *r;
    struct vcpu *v = timer_cpu(&r, 0x40 | LVTT_PERIODIC << 17);
    uint64_t start = now_ns();
    apic_set(v, LR_TMICT, 2 * MS);
    for (int n = 0; n < 10; n++) {
        CHECK(rig_wait(v, 120000));
        CHECK_EQ(apic_take(v), 0x40);
        apic_eoi(v);
        CHECK(apic_get(v, LR_TMCCT) <= 2 * MS);
    }
    CHECK(now_ns() - start >= 20 * MS); /* the grid: ten periods */
    /* Switched to one-shot, the current period is the last. */
    apic_set(v, LR_LVTT, 0x40);
    while (rig_wait(v, 10)) {
        CHECK_EQ(apic_take(v), 0x40);
        apic_eoi(v);
    }
    CHECK(!rig_wait(v, 10));
    CHECK_EQ(apic_get(v, LR_TMCCT), 0);
    /* A period of 1 ns becomes KVM's shortest. */
    apic_set(v, LR_LVTT, 0x40 | LVTT_PERIODIC << 17);
    start = now_ns();
    apic_set(v, LR_TMICT, 1);
    for (int n = 0; n < 20; n++) {
        CHECK(rig_wait(v, 120000));
        apic_take(v);
        apic_eoi(v);
    }
    CHECK(now_ns() - start >= 19 * 200000ull);
    rig_free(r);
}

static void deadline(void)
{
    struct rig *r;
    struct vcpu *v = timer_cpu(&r, 0x40);
    uint64_t khz = v->tsc_khz;
    v->tsc_offset = 12345678901;
    lapic_tsc_deadline_set(v, 1); /* not in deadline mode: ignored */
    CHECK_EQ(lapic_tsc_deadline_get(v), 0);
    CHECK_EQ(apic_take(v), -1);
    apic_set(v, LR_LVTT, 0x40 | LVTT_DEADLINE << 17);
    apic_set(v, LR_TMICT, MS); /* ignored in this mode */
    CHECK_EQ(apic_get(v, LR_TMICT), 0);
    for (int n = 0; n < 5; n++) {
        uint64_t then = __rdtsc() + 12345678901 + 3 * khz;
        lapic_tsc_deadline_set(v, then);
        CHECK(rig_wait(v, 120000));
        CHECK(__rdtsc() + 12345678901 >= then);
        CHECK_EQ(lapic_tsc_deadline_get(v), 0);
        CHECK_EQ(apic_take(v), 0x40);
        apic_eoi(v);
    }
    /* A host clock that runs fast against the TSC (NTP slews it) wakes the thread early; the guest sees nothing before its time. */
    v->tsc_khz *= 2;
    uint64_t goal = __rdtsc() + 12345678901 + 4 * khz;
    lapic_tsc_deadline_set(v, goal);
    CHECK(rig_wait(v, 120000));
    CHECK(__rdtsc() + 12345678901 >= goal);
    CHECK_EQ(apic_take(v), 0x40);
    apic_eoi(v);
    v->tsc_khz = (uint32_t)khz;
    lapic_tsc_deadline_set(v, 1); /* past: at once, without the thread */
    CHECK_EQ(apic_take(v), 0x40);
    apic_eoi(v);
    lapic_tsc_deadline_set(v, UINT64_MAX); /* never */
    CHECK_EQ(lapic_tsc_deadline_get(v), UINT64_MAX);
    CHECK(!rig_wait(v, 5));
    WITHIN(3 * MS, v, (lapic_tsc_deadline_set(v, __rdtsc() + 12345678901 + 5 * khz), lapic_tsc_deadline_set(v, 0)));
    CHECK(!rig_wait(v, 10));
    /* Leaving the mode disarms. */
    WITHIN(3 * MS, v,
           (apic_set(v, LR_LVTT, 0x40 | LVTT_DEADLINE << 17), lapic_tsc_deadline_set(v, __rdtsc() + 12345678901 + 5 * khz),
            apic_set(v, LR_LVTT, 0x40)));
    CHECK_EQ(lapic_tsc_deadline_get(v), 0);
    CHECK(!rig_wait(v, 10));
    rig_free(r);
}

/* KVM_SET_LAPIC resumes a running count. */
static void restored(void)
{
    struct rig *r, *s;
    struct vcpu *v = timer_cpu(&r, 0x40 | LVTT_PERIODIC << 17), *w = timer_cpu(&s, 0);
    struct kvm_lapic_state state;
    apic_set(v, LR_TMICT, 40 * MS);
    nanosleep(&(struct timespec){.tv_nsec = 10 * MS}, NULL);
    CHECK_EQ(lapic_get(v, &state), 0);
    uint32_t left = *(uint32_t *)(void *)(state.regs + LR_TMCCT * 16);
    CHECK(left <= 30 * MS);
    uint64_t start = now_ns();
    CHECK_EQ(lapic_set(w, &state), 0);
    CHECK(rig_wait(w, 120000));
    CHECK(now_ns() - start >= left);
    CHECK_EQ(apic_take(w), 0x40);
    apic_eoi(w);
    CHECK(rig_wait(w, 120000));
    /* The count itself, with minutes to go. */
    apic_set(v, LR_TDCR, 0xa);
    apic_set(v, LR_TMICT, 4000 * MS);
    CHECK_EQ(lapic_get(v, &state), 0);
    left = *(uint32_t *)(void *)(state.regs + LR_TMCCT * 16);
    CHECK_EQ(lapic_set(w, &state), 0);
    CHECK(apic_get(w, LR_TMCCT) <= left && apic_get(w, LR_TMCCT) > 0);
    rig_free(r);
    rig_free(s);
}

/* Each timer interrupt comes, and none before its time; how much later is printed. */
static void latency(void)
{
    struct rig *r;
    struct vcpu *v = timer_cpu(&r, 0x40);
    unsigned worse = 0;
    for (int n = 0; n < 100; n++) {
        uint64_t goal = now_ns() + 1200000;
        apic_set(v, LR_TMICT, 1200000);
        while (!lapic_has_interrupt(v))
            CHECK(now_ns() < goal + 120000ull * MS);
        CHECK(now_ns() >= goal);
        worse += now_ns() - goal > 200000;
        apic_take(v);
        apic_eoi(v);
    }
    printf("timer interrupts later than 200 us: %u of 100\n", worse);
    rig_free(r);
}

int main(void)
{
    heap_order();
    oneshot();
    periodic();
    deadline();
    restored();
    latency();
    return 0;
}
