// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where a vCPU's thread and its stubs run: on one CPU of the host, since they take turns. Left to itself the host's scheduler wakes each of them on an idle
 * CPU, which costs 50 us on a virtual host instead of 4. Being bound costs where others want the same CPU; so who gets less than PIN_SHARE of it while he is
 * bound is let go for a while. A mask that somebody else has set meanwhile is left alone.
 */
#include <sched.h>

#include "softkvm/api/api.h"
#include "softkvm/api/stub.h"
#include "softkvm/x86/bt_priv.h"

#define PIN_WINDOW_NS 50000000u
#define PIN_SHARE     70u /* percent */
#define PIN_REST_NS   200000000u

static bool still_bound(const struct pin *p)
{
    cpu_set_t now;
    return sched_getaffinity(0, sizeof(now), &now) == 0 && CPU_COUNT(&now) == 1 && CPU_ISSET((size_t)p->cpu, &now);
}

void pin_end(struct vcpu *v)
{
    struct pin *p = &v->api->pin;
    if (!p->bound)
        return;
    if (still_bound(p))
        sched_setaffinity(0, sizeof(p->before), &p->before);
    p->bound = false;
}

static void bind(struct pin *p, uint64_t now)
{
    cpu_set_t one;
    int cpu = sched_getcpu();
    if (cpu < 0 || sched_getaffinity(0, sizeof(p->before), &p->before) < 0)
        return;
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    p->bound = sched_setaffinity(0, sizeof(one), &one) == 0;
    p->cpu = cpu;
    p->since = now;
    p->used = 0;
}

/* What the thread and the stub have had of the window that ends now. */
static bool has_its_share(struct pin *p, const struct stub *s, uint64_t now)
{
    uint64_t used = bt_cpu_time() + stub_cpu_ns(s);
    bool share = !p->used || p->stub != s || (used - p->used) * 100 >= (now - p->since) * PIN_SHARE;
    p->since = now;
    p->used = used;
    p->stub = s;
    return share;
}

void pin_stub(struct vcpu *v, struct stub *s)
{
    struct pin *p = &v->api->pin;
    uint64_t now = now_ns();
    if (!p->bound && now >= p->rest)
        bind(p, now);
    if (p->bound && now - p->since > PIN_WINDOW_NS && !has_its_share(p, s, now)) {
        pin_end(v);
        p->rest = now + PIN_REST_NS;
    }
    int cpu = p->bound ? p->cpu : -1;
    if (cpu == s->cpu)
        return;
    cpu_set_t set = p->before;
    if (p->bound) {
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
    }
    if (sched_setaffinity(s->pid, sizeof(set), &set) == 0)
        s->cpu = cpu;
}
