// SPDX-License-Identifier: GPL-2.0-or-later
/* Calls that ask what a domain is and does: information, statistics, the bulk of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/util.h"
#include "daemon/calls.h"
#include "daemon/cputime.h"
#include "daemon/params.h"

struct one_domain {
    struct remote_nonnull_domain dom;
};

static struct facts facts_of(struct dom *dom)
{
    struct daemon *daemon = dom->hv->daemon;
    pthread_mutex_lock(&daemon->lock);
    const struct domain *d = dom_now(dom);
    struct facts f = {dom->state,      dom->reason, dom->pid, dom_active(dom), d ? d->memory : 0, d ? d->current_memory : 0,
                      d ? d->vcpus : 0};
    pthread_mutex_unlock(&daemon->lock);
    return f;
}

struct dom *call_facts(struct call *c, const void *args, struct facts *f)
{
    struct dom *dom = call_dom(c, &((const struct one_domain *)args)->dom);
    if (dom)
        *f = facts_of(dom);
    return dom;
}

/* ---- memory ---- */

static uint64_t resident_bytes(int pid)
{
    char path[64];
    unsigned long long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *f = pid > 0 ? fopen(path, "re") : NULL;
    if (f && fscanf(f, "%*u %llu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * PAGE_SIZE;
}

/* What the balloon has left the guest; the configured memory when there is none. */
static uint64_t balloon_bytes(struct dom *dom, const struct facts *f)
{
    if (!f->active || dom->hv->driver != &lodge_driver)
        return f->current ? f->current : f->memory;
    json_t *answer = process_ask(dom, "query-balloon", NULL, NULL);
    int64_t actual = json_get_int(json_object_get(answer, "return"), "actual", -1);
    json_decref(answer);
    return actual > 0 ? (uint64_t)actual : f->memory;
}

/* ---- information ---- */

static int get_info(struct call *c, const void *args, void *ret)
{
    struct remote_domain_get_info_ret *r = ret;
    struct facts f;
    struct dom *dom = call_facts(c, args, &f);
    if (!dom)
        return -1;
    *r = (struct remote_domain_get_info_ret){(uint8_t)f.state, f.memory / KIB, balloon_bytes(dom, &f) / KIB, (uint16_t)f.vcpus,
                                             cputime_process(f.pid)};
    dom_unref(dom);
    return 0;
}

static int get_state(struct call *c, const void *args, void *ret)
{
    struct facts f;
    struct dom *dom = call_facts(c, args, &f);
    dom_unref(dom);
    *(struct remote_domain_get_state_ret *)ret = (struct remote_domain_get_state_ret){dom ? f.state : 0, dom ? f.reason : 0};
    return dom ? 0 : -1;
}

static int get_max_memory(struct call *c, const void *args, void *ret)
{
    struct facts f;
    struct dom *dom = call_facts(c, args, &f);
    ((struct remote_domain_get_max_memory_ret *)ret)->memory = dom ? f.memory / KIB : 0;
    dom_unref(dom);
    return dom ? 0 : -1;
}

static int get_max_vcpus(struct call *c, const void *args, void *ret)
{
    struct facts f;
    struct dom *dom = call_facts(c, args, &f);
    ((struct remote_domain_get_max_vcpus_ret *)ret)->num = dom ? (int)f.vcpus : 0;
    dom_unref(dom);
    return dom ? 0 : -1;
}

static int get_vcpus_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_get_vcpus_flags_args *a = args;
    struct facts f;
    struct dom *dom = call_facts(c, args, &f);
    int result = dom ? 0 : -1;
    if (dom && (a->flags & VIR_DOMAIN_AFFECT_LIVE) && !f.active)
        result = call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    ((struct remote_domain_get_vcpus_flags_ret *)ret)->num = dom ? (int)f.vcpus : 0;
    dom_unref(dom);
    return result;
}

static int get_os_type(struct call *c, const void *args, void *ret)
{
    struct dom *dom = call_dom(c, &((const struct one_domain *)args)->dom);
    ((struct remote_domain_get_os_type_ret *)ret)->type = call_string(c, "hvm");
    dom_unref(dom);
    return dom ? 0 : -1;
}

static int is_active(struct call *c, const void *args, void *ret)
{
    struct dom *dom = call_dom(c, &((const struct one_domain *)args)->dom);
    ((struct remote_domain_is_active_ret *)ret)->active = dom && dom_active(dom);
    dom_unref(dom);
    return dom ? 0 : -1;
}

static int is_persistent(struct call *c, const void *args, void *ret)
{
    struct dom *dom = call_dom(c, &((const struct one_domain *)args)->dom);
    ((struct remote_domain_is_persistent_ret *)ret)->persistent = dom && dom->config;
    dom_unref(dom);
    return dom ? 0 : -1;
}

/* For calls whose answer is zero or empty for every domain: nothing is saved, labelled, updated or warned of. */
static int empty_answer(struct call *c, const void *args, void *ret)
{
    struct dom *dom = call_dom(c, &((const struct one_domain *)args)->dom);
    (void)ret;
    dom_unref(dom);
    return dom ? 0 : -1;
}

static int get_security_label(struct call *c, const void *args, void *ret)
{
    static char none[1];
    struct remote_domain_get_security_label_ret *r = ret;
    r->label.len = 1;
    r->label.val = none;
    return empty_answer(c, args, ret);
}

static int memory_stats(struct call *c, const void *args, void *ret)
{
    static const struct {
        const char *name;
        int tag;
        bool bytes;
    } rows[] = {{"swap-in", VIR_DOMAIN_MEMORY_STAT_SWAP_IN, true},
                {"swap-out", VIR_DOMAIN_MEMORY_STAT_SWAP_OUT, true},
                {"major-faults", VIR_DOMAIN_MEMORY_STAT_MAJOR_FAULT, false},
                {"minor-faults", VIR_DOMAIN_MEMORY_STAT_MINOR_FAULT, false},
                {"free", VIR_DOMAIN_MEMORY_STAT_UNUSED, true},
                {"total", VIR_DOMAIN_MEMORY_STAT_AVAILABLE, true},
                {"available", VIR_DOMAIN_MEMORY_STAT_USABLE, true},
                {"disk-caches", VIR_DOMAIN_MEMORY_STAT_DISK_CACHES, true}};
    const struct remote_domain_memory_stats_args *a = args;
    struct remote_domain_memory_stats_ret *r = ret;
    struct facts f;
    struct dom *dom = call_facts(c, args, &f);
    if (!dom)
        return -1;
    if (!f.active) {
        call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
        dom_unref(dom);
        return -1;
    }
    json_t *answer = dom->hv->driver == &lodge_driver ? process_ask(dom, "x-query-balloon-stats", NULL, NULL) : NULL;
    struct remote_domain_memory_stat *s = arena_alloc(&c->arena, (ARRAY_SIZE(rows) + 2) * sizeof *s);
    unsigned n = 0;
    if (s) {
        s[n++] = (struct remote_domain_memory_stat){VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON, balloon_bytes(dom, &f) / KIB};
        s[n++] = (struct remote_domain_memory_stat){VIR_DOMAIN_MEMORY_STAT_RSS, resident_bytes(f.pid) / KIB};
        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
            int64_t value = json_get_int(json_object_get(answer, "return"), rows[i].name, -1);
            if (value >= 0)
                s[n++] = (struct remote_domain_memory_stat){rows[i].tag, (uint64_t)value / (rows[i].bytes ? KIB : 1)};
        }
    }
    r->stats.len = MIN(n, a->maxStats);
    r->stats.val = s;
    json_decref(answer);
    dom_unref(dom);
    return s ? 0 : -1;
}

/* ---- disks ---- */

static const char *const block_names[][2] = {
    {"rd_operations", "rd_operations"},       {"rd_bytes", "rd_bytes"},
    {"wr_operations", "wr_operations"},       {"wr_bytes", "wr_bytes"},
    {"flush_operations", "flush_operations"}, {"rd_total_times", "rd_total_time_ns"},
    {"wr_total_times", "wr_total_time_ns"},   {"flush_total_times", "flush_total_time_ns"}};

/* The statistics of one disk, by its target or its file; NULL: of all. The answer is to be freed. */
static const json_t *find_disk(const json_t *answer, const struct domain *d, const char *path)
{
    const json_t *list = json_object_get(answer, "return");
    for (unsigned i = 0; d && i < d->ndisks; i++)
        if (strcmp(d->disks[i].target, path) == 0 || (d->disks[i].file && strcmp(d->disks[i].file, path) == 0))
            return json_object_get(json_array_get(list, i), "stats");
    return NULL;
}

static json_t *ask_disk(struct call *c, struct dom *dom, const char *path, const json_t **stats)
{
    json_t *answer =
        dom->hv->driver == &lodge_driver && dom_active(dom) ? process_ask(dom, "query-blockstats", NULL, &c->err) : NULL;
    if (!answer && !error_is_set(&c->err))
        call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    pthread_mutex_lock(&c->daemon->lock);
    *stats = find_disk(answer, dom->live, path);
    pthread_mutex_unlock(&c->daemon->lock);
    if (answer && !*stats)
        call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s' has no disk '%s'; see domblklist", dom->name, path);
    if (*stats && !json_object_size(*stats)) {
        *stats = NULL;
        call_fail(c, VIR_ERR_OPERATION_UNSUPPORTED,
                  "domain '%s': what disk '%s' has done is not known here; ask the vhost-user back end that serves it", dom->name, path);
    }
    return answer;
}

static int block_stats_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_block_stats_flags_args *a = args;
    struct remote_domain_block_stats_flags_ret *r = ret;
    struct dom *dom = call_dom(c, &a->dom);
    const json_t *stats = NULL;
    json_t *answer = dom ? ask_disk(c, dom, a->path, &stats) : NULL;
    unsigned n = ARRAY_SIZE(block_names);
    r->nparams = (int)n;
    if (stats && a->nparams) {
        r->params.val = arena_alloc(&c->arena, n * sizeof *r->params.val);
        r->params.len = r->params.val ? n : 0;
        for (unsigned i = 0; i < r->params.len; i++)
            r->params.val[i] = (struct remote_typed_param){
                (char *)block_names[i][0], {.type = VIR_TYPED_PARAM_LLONG, .l = json_get_int(stats, block_names[i][1], 0)}};
    }
    json_decref(answer);
    dom_unref(dom);
    return stats ? 0 : -1;
}

static int block_stats_call(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_block_stats_args *a = args;
    struct dom *dom = call_dom(c, &a->dom);
    const json_t *s = NULL;
    json_t *answer = dom ? ask_disk(c, dom, a->path, &s) : NULL;
    if (s)
        *(struct remote_domain_block_stats_ret *)ret = (struct remote_domain_block_stats_ret){
            json_get_int(s, "rd_operations", 0), json_get_int(s, "rd_bytes", 0), json_get_int(s, "wr_operations", 0),
            json_get_int(s, "wr_bytes", 0), json_get_int(s, "failed_operations", -1)};
    json_decref(answer);
    dom_unref(dom);
    return s ? 0 : -1;
}

/* ---- all of it at once ---- */

static void add_disks(struct params *p, struct dom *dom, const struct facts *f)
{
    json_t *answer = f->active && dom->hv->driver == &lodge_driver ? process_ask(dom, "query-blockstats", NULL, NULL) : NULL;
    const json_t *list = json_object_get(answer, "return");
    pthread_mutex_lock(&p->c->daemon->lock);
    const struct domain *d = dom_now(dom);
    params_uint(p, d ? d->ndisks : 0, "block.count");
    for (unsigned i = 0; d && i < d->ndisks; i++) {
        const json_t *s = json_object_get(json_array_get(list, i), "stats");
        params_string(p, d->disks[i].target, "block.%u.name", i);
        params_string(p, d->disks[i].file, "block.%u.path", i);
        if (s && json_object_size(s)) {
            params_u64(p, (uint64_t)json_get_int(s, "rd_operations", 0), "block.%u.rd.reqs", i);
            params_u64(p, (uint64_t)json_get_int(s, "rd_bytes", 0), "block.%u.rd.bytes", i);
            params_u64(p, (uint64_t)json_get_int(s, "wr_operations", 0), "block.%u.wr.reqs", i);
            params_u64(p, (uint64_t)json_get_int(s, "wr_bytes", 0), "block.%u.wr.bytes", i);
            params_u64(p, (uint64_t)json_get_int(s, "flush_operations", 0), "block.%u.fl.reqs", i);
        }
    }
    pthread_mutex_unlock(&p->c->daemon->lock);
    json_decref(answer);
}

static int add_record(struct call *c, struct dom *dom, unsigned stats, struct remote_domain_stats_record *out)
{
    struct params p = {.c = c};
    struct facts f = facts_of(dom);
    if (!stats || (stats & VIR_DOMAIN_STATS_STATE)) {
        params_int(&p, f.state, "state.state");
        params_int(&p, f.reason, "state.reason");
    }
    if (f.active && (!stats || (stats & VIR_DOMAIN_STATS_CPU_TOTAL)))
        params_u64(&p, cputime_process(f.pid), "cpu.time");
    if (!stats || (stats & VIR_DOMAIN_STATS_BALLOON)) {
        params_u64(&p, balloon_bytes(dom, &f) / KIB, "balloon.current");
        params_u64(&p, f.memory / KIB, "balloon.maximum");
        if (f.active)
            params_u64(&p, resident_bytes(f.pid) / KIB, "balloon.rss");
    }
    if (!stats || (stats & VIR_DOMAIN_STATS_VCPU))
        cpu_stats(&p, dom, &f);
    if (!stats || (stats & VIR_DOMAIN_STATS_BLOCK))
        add_disks(&p, dom, &f);
    if (f.active && (!stats || (stats & VIR_DOMAIN_STATS_INTERFACE)))
        interface_stats(&p, dom);
    out->params.len = p.len;
    out->params.val = p.val;
    return call_set_ref(c, &out->dom, dom);
}

static int get_all_stats(struct call *c, const void *args, void *ret)
{
    const struct remote_connect_get_all_domain_stats_args *a = args;
    struct remote_connect_get_all_domain_stats_ret *r = ret;
    unsigned n = a->doms.len;
    struct dom **all = n ? NULL : dom_all(c->client->hv, &n);
    int result = 0;
    r->retStats.val = arena_alloc(&c->arena, (n + 1) * sizeof *r->retStats.val);
    for (unsigned i = 0; i < n; i++) {
        struct dom *dom = all ? all[i] : dom_find_uuid(c->client->hv, a->doms.val[i].uuid);
        bool active = dom && dom_active(dom);
        bool wanted =
            dom && (!(a->flags & (VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE)) ||
                    (a->flags & (active ? VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE : VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE)));
        if (wanted && r->retStats.val && result == 0)
            result = add_record(c, dom, a->stats, &r->retStats.val[r->retStats.len++]);
        dom_unref(dom);
    }
    free(all);
    return r->retStats.val ? result : -1;
}

const struct handler stats_handlers[] = {
    {REMOTE_PROC_DOMAIN_GET_INFO, get_info, false},
    {REMOTE_PROC_DOMAIN_GET_STATE, get_state, false},
    {REMOTE_PROC_DOMAIN_GET_MAX_MEMORY, get_max_memory, false},
    {REMOTE_PROC_DOMAIN_GET_MAX_VCPUS, get_max_vcpus, false},
    {REMOTE_PROC_DOMAIN_GET_VCPUS_FLAGS, get_vcpus_flags, false},
    {REMOTE_PROC_DOMAIN_GET_OS_TYPE, get_os_type, false},
    {REMOTE_PROC_DOMAIN_IS_ACTIVE, is_active, false},
    {REMOTE_PROC_DOMAIN_IS_PERSISTENT, is_persistent, false},
    {REMOTE_PROC_DOMAIN_IS_UPDATED, empty_answer, false},
    {REMOTE_PROC_DOMAIN_HAS_MANAGED_SAVE_IMAGE, empty_answer, false},
    {REMOTE_PROC_DOMAIN_SNAPSHOT_NUM, empty_answer, false},
    {REMOTE_PROC_DOMAIN_LIST_ALL_SNAPSHOTS, empty_answer, false},
    {REMOTE_PROC_DOMAIN_HAS_CURRENT_SNAPSHOT, empty_answer, false},
    {REMOTE_PROC_DOMAIN_LIST_ALL_CHECKPOINTS, empty_answer, false},
    {REMOTE_PROC_DOMAIN_GET_MESSAGES, empty_answer, false},
    {REMOTE_PROC_DOMAIN_GET_CONTROL_INFO, empty_answer, false},
    {REMOTE_PROC_DOMAIN_GET_SECURITY_LABEL, get_security_label, false},
    {REMOTE_PROC_DOMAIN_MEMORY_STATS, memory_stats, false},
    {REMOTE_PROC_DOMAIN_BLOCK_STATS, block_stats_call, false},
    {REMOTE_PROC_DOMAIN_BLOCK_STATS_FLAGS, block_stats_flags, false},
    {REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS, get_all_stats, false},
    {0, NULL, false},
};
