/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's paravirtual interface (Documentation/virt/kvm/x86/msr.rst and hypercalls.rst): kvmclock, wall clock, steal time, hypercalls.
 *
 * kvmclock is the host's TSC, scaled, plus a constant: one pair (TSC, CLOCK_BOOTTIME) is taken when the process first needs it, and all
 * vCPUs' clocks are straight lines from that point. So they agree with each other and never step back, which is what the "stable" flag
 * promises; and a vCPU's page changes only when its TSC offset or the VM's clock is set.
 */
#include <asm/kvm_para.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm_para.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <x86intrin.h>

#include "softkvm/irqchip/irqchip.h"
#include "softkvm/vm.h"
#include "softkvm/x86/cpu.h"

#define PVCLOCK_TSC_STABLE    1
#define PVCLOCK_GUEST_STOPPED 2
#define STEAL_RESERVED_BITS   0x3eull /* the structure is 64-byte aligned */
#define STEAL_INTERVAL_NS     (50 * 1000000ull)
#define CLOCK_PAIRING_TRIES   4

/* struct pvclock_vcpu_time_info and pvclock_wall_clock: ABI between KVM and its guests. */
struct clock_page {
    uint32_t version; /* odd while it is written */
    uint32_t pad0;
    uint64_t tsc_timestamp, system_time; /* ns */
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags;
    uint8_t pad[2];
};
struct wall_page {
    uint32_t version, sec, nsec;
};

/* ---- the host's clock ---- */

/* ns = base_ns + ((tsc - base_tsc) << shift) * mul / 2^32 */
static struct host_clock {
    uint64_t base_tsc, base_ns;
    uint32_t mul;
    int8_t shift;
} host_clock;
static pthread_once_t host_clock_once = PTHREAD_ONCE_INIT;

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* A clock's value and the TSC at the same moment, from the narrowest of a few tries. */
static uint64_t clock_at_tsc(clockid_t id, uint64_t *tsc)
{
    uint64_t best = UINT64_MAX, ns = 0;
    *tsc = 0;
    for (int i = 0; i < CLOCK_PAIRING_TRIES; i++) {
        uint64_t before = __rdtsc(), val = read_clock(id), after = __rdtsc();
        if (after - before < best) {
            best = after - before;
            ns = val;
            *tsc = before + best / 2;
        }
    }
    return ns;
}

static void host_clock_init(void)
{
    uint64_t hz = MAX(host_tsc_khz(), 1) * 1000;
    while (hz << host_clock.shift <= NS_PER_S) /* mul must stay below 2^32 */
        host_clock.shift++;
    host_clock.mul = (uint32_t)(((unsigned __int128)NS_PER_S << 32) / (hz << host_clock.shift));
    host_clock.base_ns = clock_at_tsc(CLOCK_BOOTTIME, &host_clock.base_tsc);
}

static const struct host_clock *get_host_clock(void)
{
    pthread_once(&host_clock_once, host_clock_init);
    return &host_clock;
}

static uint64_t host_ns_at(uint64_t tsc)
{
    const struct host_clock *h = get_host_clock();
    int64_t delta = (int64_t)(tsc - h->base_tsc);
    return h->base_ns + (uint64_t)(int64_t)(((__int128)delta * ((__int128)1 << h->shift) * h->mul) >> 32);
}

static int64_t vm_offset(const struct softkvm_vm *vm)
{
    return __atomic_load_n(&vm->kvmclock_offset, __ATOMIC_RELAXED);
}

/* ---- kvmclock's page ---- */

/*
 * Writes 4-byte words of a structure whose word `version` counts its changes: odd, then the words, then even. Readers on other vCPUs retry on
 * an odd or changed version. Nothing is written when nothing changes.
 */
static void publish(uint32_t *to, const void *from, unsigned words, unsigned version)
{
    uint32_t want[16];
    bool same = true;
    memcpy(want, from, words * 4);
    for (unsigned i = 0; i < words; i++)
        same &= i == version || __atomic_load_n(&to[i], __ATOMIC_RELAXED) == want[i];
    uint32_t count = __atomic_load_n(&to[version], __ATOMIC_RELAXED);
    if (same && !(count & 1) && count)
        return;
    count |= 1;
    __atomic_store_n(&to[version], count, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    for (unsigned i = 0; i < words; i++)
        if (i != version)
            __atomic_store_n(&to[i], want[i], __ATOMIC_RELAXED);
    __atomic_store_n(&to[version], count + 1 ? count + 1 : 2, __ATOMIC_RELEASE);
}

static void *pv_area(struct vcpu *v, uint64_t gpa, unsigned size)
{
    return gpa & 3 ? NULL : vm_phys_host(v->vm, gpa, size, true);
}

/* The guest aligns its page to 4 bytes only. */
static uint8_t *page_flags(uint32_t *page)
{
    return (uint8_t *)page + offsetof(struct clock_page, flags);
}

static void update_clock(struct vcpu *v)
{
    if (!(v->msr.kvm_system_time & KVM_MSR_ENABLED))
        return;
    uint32_t *page = pv_area(v, v->msr.kvm_system_time & ~1ull, sizeof(struct clock_page));
    if (!page)
        return;
    const struct host_clock *h = get_host_clock();
    struct clock_page p = {
        .tsc_timestamp = h->base_tsc + (uint64_t)v->tsc_offset,
        .system_time = h->base_ns + (uint64_t)vm_offset(v->vm),
        .tsc_to_system_mul = h->mul,
        .tsc_shift = h->shift,
        .flags = PVCLOCK_TSC_STABLE,
    };
    p.flags |= __atomic_load_n(page_flags(page), __ATOMIC_RELAXED) & PVCLOCK_GUEST_STOPPED; /* until the guest has seen it */
    publish(page, &p, sizeof(p) / 4, 0);
}

int pv_clock_paused(struct vcpu *v)
{
    if (!(v->msr.kvm_system_time & KVM_MSR_ENABLED))
        return -EINVAL;
    uint32_t *page = pv_area(v, v->msr.kvm_system_time & ~1ull, sizeof(struct clock_page));
    if (page)
        __atomic_fetch_or(page_flags(page), PVCLOCK_GUEST_STOPPED, __ATOMIC_RELAXED);
    return 0;
}

/* The time of day at which the guest's kvmclock was 0. */
static void write_wall_clock(struct vcpu *v, uint64_t gpa)
{
    uint32_t *page = gpa ? pv_area(v, gpa, sizeof(struct wall_page)) : NULL;
    if (!page)
        return;
    uint64_t tsc, real = clock_at_tsc(CLOCK_REALTIME, &tsc);
    uint64_t boot = real - (host_ns_at(tsc) + (uint64_t)vm_offset(v->vm));
    struct wall_page w = {.sec = (uint32_t)(boot / NS_PER_S), .nsec = (uint32_t)(boot % NS_PER_S)};
    publish(page, &w, 3, 0);
}

/* ---- steal time: what the host's scheduler let this thread wait ---- */

static uint64_t run_delay_ns(void)
{
    AUTO_CLOSE int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    char buf[96];
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
    if (n <= 0)
        return 0;
    buf[n] = 0;
    unsigned long long ran, waited;
    return sscanf(buf, "%llu %llu", &ran, &waited) == 2 ? waited : 0;
}

static void update_steal(struct vcpu *v)
{
    struct kvm_steal_time *st = pv_area(v, v->msr.kvm_steal_time & ~(STEAL_RESERVED_BITS | KVM_MSR_ENABLED), sizeof(*st));
    if (!st)
        return;
    /* A vCPU may move to another thread between runs, whose delays are not its own. */
    int tid = gettid();
    uint64_t delay = run_delay_ns();
    struct kvm_steal_time now = {0};
    now.steal = __atomic_load_n(&st->steal, __ATOMIC_RELAXED);
    if (tid == v->pv.steal_tid && delay > v->pv.steal_seen)
        now.steal += delay - v->pv.steal_seen;
    v->pv.steal_tid = tid;
    v->pv.steal_seen = delay;
    publish((uint32_t *)(void *)st, &now, 5, offsetof(struct kvm_steal_time, version) / 4);
}

void pv_run_begins(struct vcpu *v)
{
    if (!(v->msr.kvm_steal_time & KVM_MSR_ENABLED))
        return;
    struct rusage now; /* without a context switch nothing was stolen */
    if (getrusage(RUSAGE_THREAD, &now) == 0 && v->pv.steal_switches != now.ru_nvcsw + now.ru_nivcsw) {
        v->pv.steal_switches = now.ru_nvcsw + now.ru_nivcsw;
        v->pv.steal_due = 0;
    }
    struct kvm_steal_time *st = pv_area(v, v->msr.kvm_steal_time & ~(STEAL_RESERVED_BITS | KVM_MSR_ENABLED), sizeof(*st));
    if (st)
        __atomic_store_n(&st->version, (__atomic_load_n(&st->version, __ATOMIC_RELAXED) | 1) + 1, __ATOMIC_RELEASE);
}

void pv_before_run(struct vcpu *v)
{
    update_clock(v);
    if (!(v->msr.kvm_steal_time & KVM_MSR_ENABLED))
        return;
    uint64_t now = now_ns();
    if (now >= v->pv.steal_due) {
        v->pv.steal_due = now + STEAL_INTERVAL_NS;
        update_steal(v);
    }
}

/* ---- MSRs ---- */

/* KVM_CAP_ENFORCE_PV_FEATURE_CPUID: what CPUID does not show is not there. */
static bool offered(const struct vcpu *v, unsigned feature)
{
    if (!v->pv.enforce)
        return true;
    for (unsigned i = 0; i < v->cpuid_count; i++)
        if (v->cpuid[i].function == KVM_CPUID_FEATURES)
            return v->cpuid[i].eax & BIT(feature);
    return false;
}

static bool msr_offered(const struct vcpu *v, uint32_t index)
{
    static const struct {
        uint32_t index;
        unsigned feature;
    } needs[] = {
        {MSR_KVM_WALL_CLOCK, KVM_FEATURE_CLOCKSOURCE},           {MSR_KVM_SYSTEM_TIME, KVM_FEATURE_CLOCKSOURCE},
        {MSR_KVM_WALL_CLOCK_NEW, KVM_FEATURE_CLOCKSOURCE2},      {MSR_KVM_SYSTEM_TIME_NEW, KVM_FEATURE_CLOCKSOURCE2},
        {MSR_KVM_STEAL_TIME, KVM_FEATURE_STEAL_TIME},            {MSR_KVM_PV_EOI_EN, KVM_FEATURE_PV_EOI},
        {MSR_KVM_POLL_CONTROL, KVM_FEATURE_POLL_CONTROL},        {MSR_KVM_MIGRATION_CONTROL, KVM_FEATURE_MIGRATION_CONTROL},
        {MSR_KVM_ASYNC_PF_EN, KVM_FEATURE_ASYNC_PF},             {MSR_KVM_ASYNC_PF_INT, KVM_FEATURE_ASYNC_PF_INT},
        {MSR_KVM_ASYNC_PF_ACK, KVM_FEATURE_ASYNC_PF_INT},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(needs); i++)
        if (needs[i].index == index)
            return offered(v, needs[i].feature);
    return true;
}

int pv_msr_read(struct vcpu *v, uint32_t index, uint64_t *val, bool host)
{
    (void)host;
    if (!msr_offered(v, index))
        return -1;
    switch (index) {
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW: *val = v->msr.kvm_wall_clock; return 0;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW: *val = v->msr.kvm_system_time; return 0;
    case MSR_KVM_STEAL_TIME: *val = v->msr.kvm_steal_time; return 0;
    case MSR_KVM_PV_EOI_EN: *val = v->msr.kvm_pv_eoi; return 0;
    case MSR_KVM_POLL_CONTROL: *val = v->msr.kvm_poll_control; return 0;
    case MSR_KVM_MIGRATION_CONTROL: *val = v->msr.kvm_migration; return 0;
    case MSR_KVM_ASYNC_PF_EN:
    case MSR_KVM_ASYNC_PF_INT:
    case MSR_KVM_ASYNC_PF_ACK: *val = 0; return 0;
    default: return -1;
    }
}

int pv_msr_write(struct vcpu *v, uint32_t index, uint64_t val, bool host)
{
    (void)host;
    if (!msr_offered(v, index))
        return -1;
    switch (index) {
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW:
        v->msr.kvm_wall_clock = val;
        write_wall_clock(v, val);
        return 0;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW:
        v->msr.kvm_system_time = val;
        update_clock(v);
        return 0;
    case MSR_KVM_STEAL_TIME:
        if (val & STEAL_RESERVED_BITS)
            return -1;
        v->msr.kvm_steal_time = val;
        v->pv.steal_tid = 0;
        v->pv.steal_due = 0;
        if (val & KVM_MSR_ENABLED)
            update_steal(v);
        return 0;
    case MSR_KVM_PV_EOI_EN: return lapic_pv_eoi_set(v, val);
    case MSR_KVM_POLL_CONTROL: /* bit 0: the host may poll before the vCPU sleeps (api/wait.c) */
        if (val & ~1ull)
            return -1;
        v->msr.kvm_poll_control = val;
        return 0;
    case MSR_KVM_MIGRATION_CONTROL:
        if (val & ~1ull)
            return -1;
        v->msr.kvm_migration = val;
        return 0;
    case MSR_KVM_ASYNC_PF_EN: /* not offered; guests write 0 to be sure */
    case MSR_KVM_ASYNC_PF_INT: return val ? -1 : 0;
    case MSR_KVM_ASYNC_PF_ACK: return 0;
    default: return -1;
    }
}

/* ---- hypercalls ---- */

static long clock_pairing(struct vcpu *v, uint64_t gpa, uint64_t type)
{
    if (type != KVM_CLOCK_PAIRING_WALLCLOCK)
        return -KVM_EOPNOTSUPP;
    uint64_t tsc, real = clock_at_tsc(CLOCK_REALTIME, &tsc);
    struct kvm_clock_pairing p = {
        .sec = (int64_t)(real / NS_PER_S), .nsec = (int64_t)(real % NS_PER_S), .tsc = tsc + (uint64_t)v->tsc_offset};
    return vm_phys_write(v->vm, gpa, &p, sizeof(p)) ? 0 : -KVM_EFAULT;
}

static long dispatch(struct vcpu *v, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, bool op64)
{
    if (v->cpl != 0)
        return -KVM_EPERM;
    if ((nr == KVM_HC_KICK_CPU && !offered(v, KVM_FEATURE_PV_UNHALT)) || (nr == KVM_HC_SEND_IPI && !offered(v, KVM_FEATURE_PV_SEND_IPI)) ||
        (nr == KVM_HC_SCHED_YIELD && !offered(v, KVM_FEATURE_PV_SCHED_YIELD)))
        return -KVM_ENOSYS;
    switch (nr) {
    case KVM_HC_VAPIC_POLL_IRQ: return 0; /* leaving the guest was the point */
    case KVM_HC_KICK_CPU: lapic_pv_kick(v->vm, (uint32_t)a1); return 0;
    case KVM_HC_CLOCK_PAIRING: return clock_pairing(v, a0, a1);
    case KVM_HC_SEND_IPI: return lapic_pv_ipi(v, a0, a1, (uint32_t)a2, (uint32_t)a3, op64);
    case KVM_HC_SCHED_YIELD: sched_yield(); return 0; /* a0 names the vCPU to yield to; the host offers no directed yield */
    default: return -KVM_ENOSYS;
    }
}

uint64_t pv_hypercall(struct vcpu *v, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, bool op64)
{
    if (op64)
        return (uint64_t)dispatch(v, nr, a0, a1, a2, a3, true);
    return (uint32_t)dispatch(v, (uint32_t)nr, (uint32_t)a0, (uint32_t)a1, (uint32_t)a2, (uint32_t)a3, false);
}

/* ---- KVM_GET_CLOCK, KVM_SET_CLOCK ---- */

int pv_clock_get(struct softkvm_vm *vm, struct kvm_clock_data *c)
{
    uint64_t tsc, real = clock_at_tsc(CLOCK_REALTIME, &tsc);
    memset(c, 0, sizeof(*c));
    c->clock = host_ns_at(tsc) + (uint64_t)vm_offset(vm);
    c->flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
    c->realtime = real;
    c->host_tsc = tsc;
    return 0;
}

int pv_clock_set(struct softkvm_vm *vm, const struct kvm_clock_data *c)
{
    if (c->flags & ~(uint32_t)(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC))
        return -EINVAL;
    uint64_t tsc, real = clock_at_tsc(CLOCK_REALTIME, &tsc), clock = c->clock;
    /* The time since the clock was read counts, unless this host's time of day is behind. */
    if ((c->flags & KVM_CLOCK_REALTIME) && real > c->realtime)
        clock += real - c->realtime;
    __atomic_store_n(&vm->kvmclock_offset, (int64_t)(clock - host_ns_at(tsc)), __ATOMIC_RELAXED);
    return 0;
}
