/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The LAPIC's timer: one-shot, periodic and TSC-deadline (SDM vol. 3, 10.5.4).
 *
 * The count is not kept: TMCCT is computed from the time of its first zero, and the timer thread is armed for that time. Periodic mode stays
 * on the grid of that first zero. A TSC deadline is converted to CLOCK_MONOTONIC, which the host's NTP may slew against the TSC; so the
 * callback looks at the TSC, and sleeps again if it is early.
 */
#include <x86intrin.h>

#include "softkvm/irqchip/lapic.h"

#define MIN_PERIOD_NS 200000u /* no guest gets periodic interrupts faster (KVM's min_timer_period_us) */
#define FAR_NS        (1ull << 61)

static unsigned timer_mode(const struct lapic *l)
{
    return LVTT_MODE(lapic_reg(l, LR_LVTT));
}

/* Bus ticks of one count: 2, 4, ... 128, 1 (SDM vol. 3, figure 10-10). A bus tick is 1 ns. */
static unsigned divider(const struct lapic *l)
{
    uint32_t d = lapic_reg(l, LR_TDCR);
    return BIT((((d & 3) | (d & 8) >> 1) + 1) & 7);
}

static uint64_t tsc_to_ns(uint64_t ticks, uint32_t khz)
{
    unsigned __int128 ns = (unsigned __int128)ticks * 1000000 / MAX(khz, 1);
    return ns < FAR_NS ? (uint64_t)ns : FAR_NS;
}

static uint64_t fire_deadline(struct lapic *l)
{
    int64_t left = (int64_t)(l->host_deadline - __rdtsc());
    if (left > 0)
        return now_ns() + MAX(tsc_to_ns((uint64_t)left, l->v->tsc_khz), 1);
    atomic_store_explicit(&l->tsc_deadline, 0, memory_order_relaxed);
    atomic_store_explicit(&l->timer_running, false, memory_order_relaxed);
    lapic_local(l, LR_LVTT);
    return 0;
}

static uint64_t lapic_timer_fire(void *opaque, uint64_t deadline)
{
    struct lapic *l = opaque;
    (void)deadline;
    unsigned mode = timer_mode(l);
    if (mode == LVTT_DEADLINE)
        return fire_deadline(l);
    if (mode != LVTT_PERIODIC) {
        atomic_store_explicit(&l->timer_running, false, memory_order_relaxed);
        lapic_local(l, LR_LVTT);
        return 0;
    }
    lapic_local(l, LR_LVTT);
    uint64_t now = now_ns();
    uint64_t passed = now > l->first_ns ? (now - l->first_ns) / l->period_ns : 0;
    l->ticks = MAX(l->ticks, passed) + 1; /* ticks that were missed would coalesce in IRR */
    return l->first_ns + l->ticks * l->period_ns;
}

int lapic_timer_init(struct lapic *l)
{
    l->timer = (struct vm_timer){.fire = lapic_timer_fire, .opaque = l};
    return timers_start(&l->chip->timers);
}

void lapic_timer_stop(struct lapic *l)
{
    timer_cancel(&l->chip->timers, &l->timer, true);
    atomic_store_explicit(&l->timer_running, false, memory_order_relaxed);
}

void lapic_timer_start(struct lapic *l, uint32_t count)
{
    lapic_timer_stop(l);
    uint64_t initial = lapic_reg(l, LR_TMICT);
    if (!initial || !count || timer_mode(l) == LVTT_DEADLINE)
        return;
    uint64_t delay = (uint64_t)count * divider(l);
    l->period_ns = MAX(initial * divider(l), MIN_PERIOD_NS);
    if (timer_mode(l) == LVTT_PERIODIC && count == initial)
        delay = l->period_ns;
    l->first_ns = now_ns() + delay;
    l->ticks = 0;
    atomic_store_explicit(&l->timer_running, true, memory_order_relaxed);
    timer_arm(&l->chip->timers, &l->timer, l->first_ns, true);
}

uint32_t lapic_timer_count(const struct lapic *l)
{
    unsigned mode = timer_mode(l);
    if (mode == LVTT_DEADLINE || !atomic_load_explicit(&l->timer_running, memory_order_relaxed))
        return 0;
    uint64_t now = now_ns(), left = 0;
    if (now < l->first_ns)
        left = l->first_ns - now;
    else if (mode == LVTT_PERIODIC)
        left = l->period_ns - (now - l->first_ns) % l->period_ns;
    uint64_t count = (left + divider(l) - 1) / divider(l);
    return (uint32_t)MIN(count, (uint64_t)lapic_reg(l, LR_TMICT));
}

void lapic_timer_set_divider(struct lapic *l, uint32_t tdcr)
{
    bool running = atomic_load_explicit(&l->timer_running, memory_order_relaxed) && timer_mode(l) != LVTT_DEADLINE;
    uint32_t count = lapic_timer_count(l);
    lapic_reg_set(l, LR_TDCR, tdcr & 0xb);
    if (running)
        lapic_timer_start(l, count);
}

uint64_t lapic_tsc_deadline_get(struct vcpu *v)
{
    return v->lapic ? atomic_load_explicit(&v->lapic->tsc_deadline, memory_order_relaxed) : 0;
}

void lapic_tsc_deadline_set(struct vcpu *v, uint64_t tsc)
{
    struct lapic *l = v->lapic;
    if (!l || timer_mode(l) != LVTT_DEADLINE)
        return;
    lapic_timer_stop(l);
    atomic_store_explicit(&l->tsc_deadline, tsc, memory_order_relaxed);
    if (!tsc)
        return;
    uint64_t guest_now = __rdtsc() + (uint64_t)v->tsc_offset;
    l->host_deadline = tsc - (uint64_t)v->tsc_offset;
    if (tsc <= guest_now) {
        fire_deadline(l);
        return;
    }
    atomic_store_explicit(&l->timer_running, true, memory_order_relaxed);
    timer_arm(&l->chip->timers, &l->timer, now_ns() + tsc_to_ns(tsc - guest_now, v->tsc_khz), true);
}
