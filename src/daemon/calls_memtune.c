// SPDX-License-Identifier: GPL-2.0-or-later
/* virsh memtune: the limits of <memtune>, in KiB. */
#include <string.h>

#include "base/util.h"
#include "daemon/calls.h"
#include "daemon/cgroup.h"
#include "daemon/params.h"

#define ROWS 3

static const char *const names[ROWS] = {"hard_limit", "soft_limit", "swap_hard_limit"};

static uint64_t *field(struct domain_limits *l, unsigned row)
{
    uint64_t *const fields[ROWS] = {&l->hard, &l->soft, &l->swap_hard};
    return fields[row];
}

static int get_limits(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_get_memory_parameters_args *a = args;
    struct remote_domain_get_memory_parameters_ret *r = ret;
    struct dom *dom = call_dom(c, &a->dom);
    struct params p = {.c = c};
    bool live, config;
    if (!dom)
        return -1;
    pthread_mutex_lock(&c->daemon->lock);
    int result = call_affects(c, dom, a->flags, &live, &config);
    struct domain_limits l = result < 0 ? (struct domain_limits){0} : (live ? dom->live : dom->config)->limits;
    pthread_mutex_unlock(&c->daemon->lock);
    for (unsigned i = 0; result == 0 && a->nparams && i < ROWS; i++)
        params_u64(&p, *field(&l, i) ? *field(&l, i) / KIB : LIMITS_NONE_KIB, "%s", names[i]);
    r->nparams = ROWS;
    r->params.len = p.len;
    r->params.val = p.val;
    dom_unref(dom);
    return result;
}

/* Puts what the client gives over what is. */
static int change(struct call *c, const struct remote_domain_set_memory_parameters_args *a, struct domain_limits *l)
{
    for (unsigned i = 0; i < a->params.len; i++) {
        const struct remote_typed_param *row = &a->params.val[i];
        unsigned k = 0;
        while (k < ROWS && strcmp(row->field, names[k]) != 0)
            k++;
        if (k == ROWS || row->value.type != VIR_TYPED_PARAM_ULLONG)
            return call_fail(
                c, VIR_ERR_INVALID_ARG,
                "memory parameter '%.64s' is not supported, or not of this type; use hard_limit, soft_limit and swap_hard_limit",
                row->field);
        if (row->value.ul == 0)
            return call_fail(c, VIR_ERR_INVALID_ARG,
                             "memory parameter '%s': no guest lives on 0 KiB; give more, or -1 for no limit", names[k]);
        *field(l, k) = row->value.ul >= LIMITS_NONE_KIB ? 0 : row->value.ul * KIB;
    }
    return domain_check_limits(l, &c->err) < 0 ? error_code(&c->err, VIR_ERR_INVALID_ARG) : 0;
}

/* The job is held. */
static int change_live(struct call *c, struct dom *dom, const struct domain_limits *l)
{
    const char *folder = c->daemon->cgroup_dir;
    if (!folder || dom->hv->driver != &lodge_driver)
        return call_fail(c, VIR_ERR_OPERATION_UNSUPPORTED,
                         "domain '%s': its memory cannot be limited while it runs; start lodged with --cgroup DIR before it",
                         dom->name);
    if (cgroup_limit(folder, dom->uuid, l, &c->err) < 0)
        return -1;
    pthread_mutex_lock(&c->daemon->lock);
    int result = dom->live ? 0 : call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    if (result == 0) {
        dom->live->limits = *l;
        result = dom->hv->driver->save_live(dom, &c->err);
    }
    pthread_mutex_unlock(&c->daemon->lock);
    return result;
}

static int set_limits(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_set_memory_parameters_args *a = args;
    struct dom *dom = call_dom_locked(c, &a->dom);
    struct domain_limits now = {0}, next = {0};
    bool live, config;
    (void)ret;
    if (!dom)
        return -1;
    pthread_mutex_lock(&c->daemon->lock);
    int result = call_affects(c, dom, a->flags, &live, &config);
    if (result == 0 && live)
        now = dom->live->limits;
    if (result == 0 && config)
        next = dom->config->limits;
    pthread_mutex_unlock(&c->daemon->lock);
    if (result == 0 && live)
        result = change(c, a, &now) < 0 ? -1 : change_live(c, dom, &now);
    if (result == 0 && config) {
        struct domain *d = change(c, a, &next) < 0 ? NULL : dom_copy(dom->config, &c->err);
        if (d)
            d->limits = next;
        result = d ? call_replace_config(c, dom, d) : -1;
    }
    call_dom_done(dom);
    return result;
}

const struct handler memtune_handlers[] = {
    {REMOTE_PROC_DOMAIN_GET_MEMORY_PARAMETERS, get_limits, false},
    {REMOTE_PROC_DOMAIN_SET_MEMORY_PARAMETERS, set_limits, false},
    {0, NULL, false},
};
