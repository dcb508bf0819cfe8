/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kvmclock's arithmetic and protocol, wall clock, steal time, hypercalls, KVM_GET/SET_CLOCK. */
#include "rig.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <linux/kvm_para.h>
#include <x86intrin.h>

struct clock_page {
    uint32_t version, pad0;
    uint64_t tsc_timestamp, system_time;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad[2];
};

#define PAGE_OF(n) (0x2000u + (n) * 0x1000u)

/* Reads the page as a guest does: again, while its version is odd or changes. */
static struct clock_page read_page(struct rig *r, unsigned n)
{
    const uint32_t *from = (const uint32_t *)(const void *)(r->ram + PAGE_OF(n));
    uint32_t words[8];
    do {
        words[0] = __atomic_load_n(&from[0], __ATOMIC_ACQUIRE);
        for (unsigned i = 1; i < 8; i++)
            words[i] = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
    } while ((words[0] & 1) || words[0] != __atomic_load_n(&from[0], __ATOMIC_RELAXED));
    struct clock_page p;
    memcpy(&p, words, sizeof(p));
    return p;
}

static uint64_t clock_at(const struct clock_page *p, uint64_t guest_tsc)
{
    uint64_t delta = guest_tsc - p->tsc_timestamp;
    delta = p->shift < 0 ? delta >> -p->shift : delta << p->shift;
    return p->system_time + (uint64_t)((unsigned __int128)delta * p->mul >> 32);
}

static uint64_t raw_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static struct rig *with_clocks(void)
{
    struct rig *r = rig_new(RIG_FULL, 2);
    CHECK_EQ(pv_clock_set(&r->vm, &(struct kvm_clock_data){0}), 0);
    rig_cpu(r, 0)->tsc_offset = -1234567890123;
    rig_cpu(r, 1)->tsc_offset = 998877665544332211;
    for (unsigned n = 0; n < 2; n++)
        CHECK_EQ(pv_msr_write(rig_cpu(r, n), MSR_KVM_SYSTEM_TIME_NEW, PAGE_OF(n) | KVM_MSR_ENABLED, false), 0);
    return r;
}

static void arithmetic(void)
{
    struct rig *r = with_clocks();
    struct clock_page p[2] = {read_page(r, 0), read_page(r, 1)};
    uint64_t last = 0;
    for (unsigned n = 0; n < 2; n++) {
        CHECK(p[n].version && !(p[n].version & 1));
        CHECK_EQ(p[n].flags, 1);
    }
    for (unsigned i = 0; i < 200000; i++) { /* one clock on all CPUs, that never steps back */
        struct vcpu *v = rig_cpu(r, i & 1);
        uint64_t now = clock_at(&p[i & 1], __rdtsc() + (uint64_t)v->tsc_offset);
        CHECK(now >= last);
        last = now;
    }
    CHECK(last < 60 * NS_PER_S);
    struct kvm_clock_data d;
    uint64_t before = (uint64_t)time(NULL) * NS_PER_S;
    CHECK_EQ(pv_clock_get(&r->vm, &d), 0);
    uint64_t after = (uint64_t)time(NULL) * NS_PER_S;
    CHECK_EQ(d.flags, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC);
    CHECK_EQ(clock_at(&p[0], d.host_tsc + (uint64_t)rig_cpu(r, 0)->tsc_offset), d.clock);
    CHECK(d.realtime + NS_PER_S >= before && d.realtime <= after + 2 * NS_PER_S); /* time() is the last tick's */
    rig_free(r);
}

/* Both clocks at one moment: of many readings the one that took the least time. */
static void read_both(const struct clock_page *p, uint64_t offset, uint64_t *raw, uint64_t *clock)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 1000; i++) {
        uint64_t before = raw_ns(), now = clock_at(p, __rdtsc() + offset), after = raw_ns();
        if (after - before >= best)
            continue;
        best = after - before;
        *raw = before + best / 2;
        *clock = now;
    }
}

static void rate(void)
{
    struct rig *r = with_clocks();
    struct clock_page p = read_page(r, 0);
    uint64_t offset = (uint64_t)rig_cpu(r, 0)->tsc_offset, raw0, raw1, clock0, clock1;
    read_both(&p, offset, &raw0, &clock0);
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    read_both(&p, offset, &raw1, &clock1);
    uint64_t real = raw1 - raw0, shown = clock1 - clock0, diff = real > shown ? real - shown : shown - real;
    uint64_t ppm = diff * 1000000 / real;
    printf("kvmclock is within %llu ppm of CLOCK_MONOTONIC_RAW\n", (unsigned long long)ppm);
    CHECK(ppm <= 50);
    rig_free(r);
}

static void updates(void)
{
    struct rig *r = with_clocks();
    struct vcpu *v = rig_cpu(r, 0);
    struct clock_page before = read_page(r, 0);
    pv_before_run(v);
    CHECK_EQ(read_page(r, 0).version, before.version); /* nothing has changed: nothing is written */
    v->tsc_offset += 1000;
    pv_before_run(v);
    CHECK_EQ(read_page(r, 0).version, before.version + 2);
    CHECK_EQ(read_page(r, 0).tsc_timestamp, before.tsc_timestamp + 1000);
    CHECK_EQ(pv_clock_paused(v), 0); /* KVM_KVMCLOCK_CTRL's flag stays until the guest clears it */
    v->tsc_offset += 1000;
    pv_before_run(v);
    CHECK_EQ(read_page(r, 0).flags, 3);
    r->ram[PAGE_OF(0) + offsetof(struct clock_page, flags)] = 1;
    v->tsc_offset += 1000;
    pv_before_run(v);
    CHECK_EQ(read_page(r, 0).flags, 1);
    struct kvm_clock_data d = {.clock = 5000 * NS_PER_S};
    CHECK_EQ(pv_clock_set(&r->vm, &d), 0);
    pv_before_run(v);
    struct clock_page p = read_page(r, 0);
    uint64_t now = clock_at(&p, __rdtsc() + (uint64_t)v->tsc_offset);
    CHECK(now >= 5000 * NS_PER_S && now < 5060 * NS_PER_S);
    d.flags = KVM_CLOCK_REALTIME; /* a clock that was read ten seconds ago */
    d.realtime = (uint64_t)time(NULL) * NS_PER_S - 10 * NS_PER_S;
    CHECK_EQ(pv_clock_set(&r->vm, &d), 0);
    CHECK_EQ(pv_clock_get(&r->vm, &d), 0);
    CHECK(d.clock >= 5010 * NS_PER_S && d.clock < 5070 * NS_PER_S);
    d.flags = 1;
    CHECK_EQ(pv_clock_set(&r->vm, &d), -EINVAL);
    /* Off, and to places where there is no RAM. */
    CHECK_EQ(pv_msr_write(v, MSR_KVM_SYSTEM_TIME, PAGE_OF(0), false), 0);
    CHECK_EQ(pv_clock_paused(v), -EINVAL);
    v->tsc_offset += 1000;
    pv_before_run(v);
    CHECK_EQ(read_page(r, 0).version, p.version);
    static const uint64_t nowhere[] = {RIG_RAM, RIG_RAM - 16, ~0ull, 0x8000000000000001, 3};
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        CHECK_EQ(pv_msr_write(v, MSR_KVM_SYSTEM_TIME, nowhere[i] | 1, false), 0);
        pv_before_run(v);
    }
    rig_free(r);
}

/* A reader on another CPU never sees half an update. */
struct race {
    struct rig *r;
    _Atomic bool stop;
};
static void *reader(void *opaque)
{
    struct race *x = opaque;
    struct clock_page first = read_page(x->r, 0);
    for (unsigned long n = 0; !atomic_load(&x->stop); n++) {
        struct clock_page p = read_page(x->r, 0);
        CHECK_EQ(p.tsc_timestamp - first.tsc_timestamp, p.system_time - first.system_time);
    }
    return NULL;
}
static void seqlock(void)
{
    struct race x = {.r = with_clocks()};
    struct vcpu *v = rig_cpu(x.r, 0);
    pthread_t t;
    CHECK_EQ(pthread_create(&t, NULL, reader, &x), 0);
    for (int i = 0; i < 30000; i++) { /* both halves move by the same amount */
        __atomic_store_n(&x.r->vm.kvmclock_offset, x.r->vm.kvmclock_offset + i, __ATOMIC_RELAXED);
        v->tsc_offset += i;
        pv_before_run(v);
    }
    atomic_store(&x.stop, true);
    pthread_join(t, NULL);
    rig_free(x.r);
}

static void wall_clock(void)
{
    struct rig *r = with_clocks();
    uint32_t w[3];
    CHECK_EQ(pv_msr_write(rig_cpu(r, 0), MSR_KVM_WALL_CLOCK_NEW, 0x8000, false), 0);
    memcpy(w, r->ram + 0x8000, sizeof(w));
    CHECK(w[0] && !(w[0] & 1));
    CHECK(w[2] < NS_PER_S);
    struct kvm_clock_data d;
    pv_clock_get(&r->vm, &d);
    int64_t apart = (int64_t)(w[1] * NS_PER_S + w[2] + d.clock) - (int64_t)d.realtime;
    CHECK(llabs(apart) < 100000000); /* boot time + clock = time of day */
    CHECK_EQ(pv_msr_write(rig_cpu(r, 0), MSR_KVM_WALL_CLOCK, ~0ull, false), 0);
    rig_free(r);
}

static void steal_time(void)
{
    struct rig *r = with_clocks();
    struct vcpu *v = rig_cpu(r, 0);
    struct kvm_steal_time st;
    CHECK_EQ(pv_msr_write(v, MSR_KVM_STEAL_TIME, 0x9000 | 0x21, false), -1);
    CHECK_EQ(pv_msr_write(v, MSR_KVM_STEAL_TIME, 0x9000 | KVM_MSR_ENABLED, false), 0);
    memcpy(&st, r->ram + 0x9000, sizeof(st));
    CHECK_EQ(st.steal, 0);
    CHECK(st.version && !(st.version & 1));
    v->pv.steal_seen = 0; /* as if this thread had waited for all of its delays just now */
    v->pv.steal_due = 0;
    pv_before_run(v);
    memcpy(&st, r->ram + 0x9000, sizeof(st));
    CHECK_EQ(st.steal, v->pv.steal_seen);
    v->pv.steal_tid = 1; /* it ran on another thread before */
    v->pv.steal_seen = 0;
    v->pv.steal_due = 0;
    uint64_t before = st.steal, version = st.version;
    pv_before_run(v);
    memcpy(&st, r->ram + 0x9000, sizeof(st));
    CHECK_EQ(st.steal, before);
    pv_run_begins(v); /* the guest sees that its vCPU was away */
    memcpy(&st, r->ram + 0x9000, sizeof(st));
    CHECK(st.version > version && !(st.version & 1));
    CHECK_EQ(st.steal, before);
    CHECK_EQ(pv_msr_write(v, MSR_KVM_STEAL_TIME, ~0x3eull, false), 0);
    rig_free(r);
}

static void hypercalls(void)
{
    struct rig *r = with_clocks();
    struct vcpu *v = rig_cpu(r, 0);
    apic_enable(rig_cpu(r, 1));
    CHECK_EQ(pv_hypercall(v, KVM_HC_VAPIC_POLL_IRQ, 0, 0, 0, 0, true), 0);
    CHECK_EQ(pv_hypercall(v, 999, 0, 0, 0, 0, true), (uint64_t)-KVM_ENOSYS);
    CHECK_EQ(pv_hypercall(v, 999, 0, 0, 0, 0, false), (uint32_t)-KVM_ENOSYS);
    CHECK_EQ(pv_hypercall(v, BIT64(32) | KVM_HC_SCHED_YIELD, 0, 0, 0, 0, false), 0);
    CHECK_EQ(pv_hypercall(v, BIT64(32) | KVM_HC_SCHED_YIELD, 0, 0, 0, 0, true), (uint64_t)-KVM_ENOSYS);
    CHECK_EQ(pv_hypercall(v, KVM_HC_KICK_CPU, 0, 1, 0, 0, true), 0);
    CHECK(lapic_take_unhalt(rig_cpu(r, 1)));
    CHECK_EQ(pv_hypercall(v, KVM_HC_SEND_IPI, 2, 0, 0, 0x44, true), 1);
    CHECK_EQ(apic_take(rig_cpu(r, 1)), 0x44);
    CHECK_EQ(pv_hypercall(v, KVM_HC_CLOCK_PAIRING, 0xa000, 1, 0, 0, true), (uint64_t)-KVM_EOPNOTSUPP);
    CHECK_EQ(pv_hypercall(v, KVM_HC_CLOCK_PAIRING, RIG_RAM, 0, 0, 0, true), (uint64_t)-KVM_EFAULT);
    CHECK_EQ(pv_hypercall(v, KVM_HC_CLOCK_PAIRING, 0xa000, 0, 0, 0, true), 0);
    struct kvm_clock_pairing p;
    memcpy(&p, r->ram + 0xa000, sizeof(p));
    CHECK(llabs(p.sec - time(NULL)) <= 2);
    CHECK(__rdtsc() + (uint64_t)v->tsc_offset - p.tsc < 10000000000ull);
    v->cpl = 3;
    CHECK_EQ(pv_hypercall(v, KVM_HC_KICK_CPU, 0, 1, 0, 0, true), (uint64_t)-KVM_EPERM);
    CHECK(!lapic_take_unhalt(rig_cpu(r, 1)));
    rig_free(r);
}

static void msrs(void)
{
    struct rig *r = with_clocks();
    struct vcpu *v = rig_cpu(r, 0);
    uint64_t val;
    static const struct {
        uint32_t index;
        uint64_t val;
        int ret;
    } cases[] = {{MSR_KVM_POLL_CONTROL, 1, 0},   {MSR_KVM_POLL_CONTROL, 2, -1}, {MSR_KVM_MIGRATION_CONTROL, 1, 0}, {MSR_KVM_MIGRATION_CONTROL, 2, -1},
                 {MSR_KVM_ASYNC_PF_EN, 0, 0},    {MSR_KVM_ASYNC_PF_EN, 1, -1},  {MSR_KVM_PV_EOI_EN, 0xb001, 0},    {MSR_KVM_PV_EOI_EN, 0xb003, -1},
                 {MSR_KVM_WALL_CLOCK, 0xb000, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        CHECK_EQ(pv_msr_write(v, cases[i].index, cases[i].val, false), cases[i].ret);
        CHECK_EQ(pv_msr_read(v, cases[i].index, &val, false), 0);
        if (!cases[i].ret)
            CHECK_EQ(val, cases[i].val);
    }
    CHECK_EQ(pv_msr_read(v, 0x4b564d09, &val, false), -1);
    CHECK_EQ(pv_msr_write(v, 0x4b564dff, 0, false), -1);
    rig_free(r);
}

int main(void)
{
    printf("TSC: %llu kHz\n", (unsigned long long)host_tsc_khz());
    arithmetic();
    rate();
    updates();
    seqlock();
    wall_clock();
    steal_time();
    hypercalls();
    msrs();
    return 0;
}
