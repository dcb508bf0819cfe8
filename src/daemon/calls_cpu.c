// SPDX-License-Identifier: GPL-2.0-or-later
/* Calls about a domain's CPUs: the threads of the running guest, their times, and the CPUs of the host that they may run on. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/util.h"
#include "daemon/calls.h"
#include "daemon/cputime.h"
#include "daemon/params.h"

#define MAP_BYTES_MAX 8192 /* of a client's CPU map */

/* Is it a thread of the guest's process? What the process says is not believed. */
static bool is_thread(int pid, int tid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d", pid, tid);
    return pid > 0 && tid > 0 && access(path, F_OK) == 0;
}

/* The threads of the guest's CPUs, `max` at most: their number, or -1 with err. */
static int cpu_threads(struct dom *dom, int pid, int *tids, unsigned max, struct error *err)
{
    json_t *answer = process_ask(dom, "query-cpus-fast", NULL, err);
    const json_t *list = json_object_get(answer, "return");
    unsigned n = (unsigned)MIN(json_array_size(list), (size_t)max);
    for (unsigned i = 0; i < n; i++) {
        int tid = (int)json_get_int(json_array_get(list, i), "thread-id", 0);
        tids[i] = is_thread(pid, tid) ? tid : 0;
    }
    bool answered = answer;
    json_decref(answer);
    return answered ? (int)n : -1;
}

/* The CPUs that a thread may run on; 0: all that the host has. `map` is clear. */
static void put_affinity(int tid, uint8_t *map, unsigned len)
{
    unsigned host = (unsigned)sysconf(_SC_NPROCESSORS_CONF);
    cpu_set_t set;
    CPU_ZERO(&set);
    bool known = tid > 0 && sched_getaffinity(tid, sizeof set, &set) == 0;
    for (unsigned i = 0; i < host && i / 8 < len; i++)
        if (!known || (i < CPU_SETSIZE && CPU_ISSET(i, &set)))
            map[i / 8] |= (uint8_t)(1u << (i % 8));
}

/* ---- what they do ---- */

static int get_vcpus(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_get_vcpus_args *a = args;
    struct remote_domain_get_vcpus_ret *r = ret;
    int tids[DOMAIN_MAX_VCPUS], n = -1;
    struct facts f;
    struct dom *dom = call_facts(c, args, &f);
    if (!dom)
        return -1;
    if (!f.active || dom->hv->driver != &lodge_driver)
        call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    else if (a->maxinfo < 0 || a->maplen < 0 || a->maplen > MAP_BYTES_MAX)
        call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s': %d CPUs with maps of %d bytes are none to ask for", dom->name, a->maxinfo,
                  a->maplen);
    else
        n = cpu_threads(dom, f.pid, tids, MIN((unsigned)a->maxinfo, (unsigned)DOMAIN_MAX_VCPUS), &c->err);
    unsigned count = (unsigned)MAX(n, 0), len = n < 0 ? 0 : (unsigned)a->maplen;
    r->info.val = arena_alloc(&c->arena, (count + 1) * sizeof *r->info.val);
    r->cpumaps.val = arena_alloc(&c->arena, (size_t)count * len + 1);
    if (n >= 0 && r->info.val && r->cpumaps.val) {
        r->info.len = count;
        r->cpumaps.len = count * len;
        for (unsigned i = 0; i < count; i++) {
            int cpu;
            uint64_t ns = cputime_thread(f.pid, tids[i], &cpu);
            r->info.val[i] = (struct remote_vcpu_info){i, VIR_VCPU_RUNNING, ns, cpu};
            put_affinity(tids[i], r->cpumaps.val + (size_t)i * len, len);
        }
    }
    dom_unref(dom);
    return n >= 0 && r->info.val && r->cpumaps.val ? 0 : -1;
}

/* A configuration pins nothing: the maps of a domain that does not run are full. */
static int get_vcpu_pin_info(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_get_vcpu_pin_info_args *a = args;
    struct remote_domain_get_vcpu_pin_info_ret *r = ret;
    int tids[DOMAIN_MAX_VCPUS] = {0}, result = 0;
    struct facts f;
    struct dom *dom = call_facts(c, args, &f);
    if (!dom)
        return -1;
    unsigned n = a->ncpumaps < 0 ? 0 : MIN(f.vcpus, (unsigned)a->ncpumaps),
             len = a->maplen < 0 ? 0 : MIN((unsigned)a->maplen, 1024u);
    n = MIN(n, (unsigned)DOMAIN_MAX_VCPUS);
    if ((a->flags & VIR_DOMAIN_AFFECT_LIVE) && !f.active)
        result = call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    else if (f.active && !(a->flags & VIR_DOMAIN_AFFECT_CONFIG) && dom->hv->driver == &lodge_driver)
        result = cpu_threads(dom, f.pid, tids, n, &c->err);
    r->cpumaps.val = arena_alloc(&c->arena, (size_t)n * len + 1);
    if (result >= 0 && r->cpumaps.val) {
        r->num = (int)n;
        r->cpumaps.len = n * len;
        for (unsigned i = 0; i < n; i++)
            put_affinity(tids[i], r->cpumaps.val + (size_t)i * len, len);
    }
    dom_unref(dom);
    return result >= 0 && r->cpumaps.val ? 0 : -1;
}

static int get_cpu_stats(struct call *c, const void *args, void *ret)
{
    static char name[] = "cpu_time";
    const struct remote_domain_get_cpu_stats_args *a = args;
    struct remote_domain_get_cpu_stats_ret *r = ret;
    struct facts f;
    struct dom *dom = call_facts(c, args, &f);
    int result = dom ? 0 : -1;
    if (dom && !f.active)
        result = call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    else if (dom && a->start_cpu >= 0)
        result = call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED, "domain '%s': time by CPU of the host is not kept; ask for --total",
                           dom->name);
    r->nparams = 1;
    if (result == 0 && a->nparams) {
        r->params.val = arena_alloc(&c->arena, sizeof *r->params.val);
        r->params.len = r->params.val ? 1 : 0;
        if (r->params.val)
            *r->params.val = (struct remote_typed_param){name, {.type = VIR_TYPED_PARAM_ULLONG, .ul = cputime_process(f.pid)}};
    }
    dom_unref(dom);
    return result;
}

void cpu_stats(struct params *p, struct dom *dom, const struct facts *f)
{
    int tids[DOMAIN_MAX_VCPUS];
    int n = f->active && dom->hv->driver == &lodge_driver ? cpu_threads(dom, f->pid, tids, DOMAIN_MAX_VCPUS, NULL) : 0;
    params_uint(p, f->vcpus, "vcpu.current");
    params_uint(p, f->vcpus, "vcpu.maximum");
    for (int i = 0; i < n; i++) {
        params_int(p, VIR_VCPU_RUNNING, "vcpu.%d.state", i);
        params_u64(p, cputime_thread(f->pid, tids[i], NULL), "vcpu.%d.time", i);
    }
}

/* ---- pinning ---- */

static int pin_thread(struct call *c, struct dom *dom, unsigned vcpu, const uint8_t *map, unsigned len)
{
    int tids[DOMAIN_MAX_VCPUS];
    int n = cpu_threads(dom, dom->pid, tids, DOMAIN_MAX_VCPUS, &c->err);
    cpu_set_t set;
    CPU_ZERO(&set);
    if (n < 0)
        return -1;
    if (vcpu >= (unsigned)n || !tids[vcpu])
        return call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s' has no CPU %u; see vcpuinfo", dom->name, vcpu);
    for (unsigned i = 0; i < len * 8 && i < CPU_SETSIZE; i++)
        if (map[i / 8] & (1u << (i % 8)))
            CPU_SET(i, &set);
    if (sched_setaffinity(tids[vcpu], sizeof set, &set) == 0)
        return 0;
    return call_fail(c, VIR_ERR_SYSTEM_ERROR, "domain '%s': cannot pin CPU %u: %s; name CPUs that the host has", dom->name, vcpu,
                     strerror(errno));
}

static int pin(struct call *c, const struct remote_nonnull_domain *ref, unsigned vcpu, const uint8_t *map, unsigned len,
               unsigned flags)
{
    struct dom *dom = call_dom_locked(c, ref);
    bool live, config;
    int result = dom ? call_affects(c, dom, flags, &live, &config) : -1;
    if (result == 0 && (config || dom->hv->driver != &lodge_driver))
        result = call_fail(c, VIR_ERR_OPERATION_UNSUPPORTED, "domain '%s': CPUs can be pinned while it runs only; use --live",
                           dom->name);
    if (result == 0)
        result = pin_thread(c, dom, vcpu, map, len);
    call_dom_done(dom);
    return result;
}

static int pin_vcpu(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_pin_vcpu_args *a = args;
    (void)ret;
    return pin(c, &a->dom, a->vcpu, a->cpumap.val, a->cpumap.len, VIR_DOMAIN_AFFECT_LIVE);
}

static int pin_vcpu_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_pin_vcpu_flags_args *a = args;
    (void)ret;
    return pin(c, &a->dom, a->vcpu, a->cpumap.val, a->cpumap.len, a->flags);
}

const struct handler cpu_handlers[] = {
    {REMOTE_PROC_DOMAIN_GET_VCPUS, get_vcpus, false},           {REMOTE_PROC_DOMAIN_GET_VCPU_PIN_INFO, get_vcpu_pin_info, false},
    {REMOTE_PROC_DOMAIN_GET_CPU_STATS, get_cpu_stats, false},   {REMOTE_PROC_DOMAIN_PIN_VCPU, pin_vcpu, false},
    {REMOTE_PROC_DOMAIN_PIN_VCPU_FLAGS, pin_vcpu_flags, false}, {0, NULL, false},
};
