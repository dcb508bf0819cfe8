// SPDX-License-Identifier: GPL-2.0-or-later
/* Calls about domains: finding, defining, their life. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "daemon/calls.h"

/* The argument that nearly every call begins with. */
struct one_domain {
    struct remote_nonnull_domain dom;
    uint32_t flags; /* of calls that have them */
};

struct dom *call_dom(struct call *c, const struct remote_nonnull_domain *ref)
{
    char uuid[37];
    struct dom *dom = dom_find_uuid(c->client->hv, ref->uuid);
    domain_format_uuid(ref->uuid, uuid);
    if (!dom)
        call_fail(c, VIR_ERR_NO_DOMAIN, "Domain not found: no domain with matching uuid '%s' (%s)", uuid, ref->name);
    return dom;
}

struct dom *call_dom_locked(struct call *c, const struct remote_nonnull_domain *ref)
{
    struct dom *dom = call_dom(c, ref);
    if (dom && dom_lock(dom, &c->err) == 0)
        return dom;
    dom_unref(dom);
    return NULL;
}

void call_dom_done(struct dom *dom)
{
    if (!dom)
        return;
    dom_unlock(dom);
    dom_unref(dom);
}

int call_set_ref(struct call *c, struct remote_nonnull_domain *ref, const struct dom *dom)
{
    ref->name = call_string(c, dom->name);
    memcpy(ref->uuid, dom->uuid, 16);
    ref->id = dom->id;
    return ref->name ? 0 : -1;
}

const struct domain *dom_now(const struct dom *dom)
{
    return dom_active(dom) && dom->live ? dom->live : dom->config;
}

int call_affects(struct call *c, const struct dom *dom, unsigned flags, bool *live, bool *config)
{
    *live = flags & VIR_DOMAIN_AFFECT_LIVE;
    *config = flags & VIR_DOMAIN_AFFECT_CONFIG;
    if (!*live && !*config)
        *live = dom_active(dom), *config = !*live;
    if (*live && !dom_active(dom))
        return call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    if (*config && !dom->config)
        return call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is transient and has no configuration", dom->name);
    return 0;
}

/* ---- finding ---- */

static int found(struct call *c, struct dom *dom, struct remote_nonnull_domain *ref, const char *what)
{
    if (!dom)
        return call_fail(c, VIR_ERR_NO_DOMAIN, "Domain not found: no domain with matching %s", what);
    int result = call_set_ref(c, ref, dom);
    dom_unref(dom);
    return result;
}

static int lookup_by_name(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_lookup_by_name_args *a = args;
    char what[300];
    snprintf(what, sizeof what, "name '%.256s'", a->name);
    return found(c, dom_find_name(c->client->hv, a->name), &((struct remote_domain_lookup_by_name_ret *)ret)->dom, what);
}

static int lookup_by_id(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_lookup_by_id_args *a = args;
    char what[32];
    snprintf(what, sizeof what, "id %d", a->id);
    return found(c, dom_find_id(c->client->hv, a->id), &((struct remote_domain_lookup_by_id_ret *)ret)->dom, what);
}

static int lookup_by_uuid(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_lookup_by_uuid_args *a = args;
    char uuid[37], what[48];
    domain_format_uuid(a->uuid, uuid);
    snprintf(what, sizeof what, "uuid '%s'", uuid);
    return found(c, dom_find_uuid(c->client->hv, a->uuid), &((struct remote_domain_lookup_by_uuid_ret *)ret)->dom, what);
}

/* Each group of filters lets through who matches one of it, or everybody when none of it is set. */
static bool passes(const struct dom *dom, unsigned flags)
{
    const struct {
        unsigned flag, group;
        bool match;
    } rows[] = {
        {VIR_CONNECT_LIST_DOMAINS_ACTIVE, 0, dom->id >= 0},
        {VIR_CONNECT_LIST_DOMAINS_INACTIVE, 0, dom->id < 0},
        {VIR_CONNECT_LIST_DOMAINS_PERSISTENT, 1, dom->config != NULL},
        {VIR_CONNECT_LIST_DOMAINS_TRANSIENT, 1, dom->config == NULL},
        {VIR_CONNECT_LIST_DOMAINS_RUNNING, 2, dom->state == VIR_DOMAIN_RUNNING},
        {VIR_CONNECT_LIST_DOMAINS_PAUSED, 2, dom->state == VIR_DOMAIN_PAUSED},
        {VIR_CONNECT_LIST_DOMAINS_SHUTOFF, 2, dom->state == VIR_DOMAIN_SHUTOFF},
        {VIR_CONNECT_LIST_DOMAINS_OTHER, 2, false},
        {VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE, 3, false},
        {VIR_CONNECT_LIST_DOMAINS_NO_MANAGEDSAVE, 3, true},
        {VIR_CONNECT_LIST_DOMAINS_AUTOSTART, 4, dom->autostart},
        {VIR_CONNECT_LIST_DOMAINS_NO_AUTOSTART, 4, !dom->autostart},
        {VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT, 5, false},
        {VIR_CONNECT_LIST_DOMAINS_NO_SNAPSHOT, 5, true},
        {VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT, 6, false},
        {VIR_CONNECT_LIST_DOMAINS_NO_CHECKPOINT, 6, true},
    };
    unsigned asked = 0, matched = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        asked |= flags & rows[i].flag ? 1u << rows[i].group : 0;
        matched |= (flags & rows[i].flag) && rows[i].match ? 1u << rows[i].group : 0;
    }
    return asked == matched;
}

static int list_all(struct call *c, const void *args, void *ret)
{
    const struct remote_connect_list_all_domains_args *a = args;
    struct remote_connect_list_all_domains_ret *r = ret;
    struct hypervisor *hv = c->client->hv;
    int result = 0;
    pthread_mutex_lock(&c->daemon->lock);
    r->domains.val = a->need_results ? arena_alloc(&c->arena, (hv->count + 1) * sizeof *r->domains.val) : NULL;
    for (struct dom *dom = hv->doms; dom && result == 0; dom = dom->next) {
        if (!passes(dom, a->flags))
            continue;
        r->ret++;
        if (a->need_results)
            result = r->domains.val ? call_set_ref(c, &r->domains.val[r->domains.len++], dom) : -1;
    }
    pthread_mutex_unlock(&c->daemon->lock);
    return result;
}

static int num_of_domains(struct call *c, const void *args, void *ret)
{
    (void)args;
    pthread_mutex_lock(&c->daemon->lock);
    for (struct dom *dom = c->client->hv->doms; dom; dom = dom->next)
        ((struct remote_connect_num_of_domains_ret *)ret)->num += dom->id >= 0;
    pthread_mutex_unlock(&c->daemon->lock);
    return 0;
}

static int num_of_defined(struct call *c, const void *args, void *ret)
{
    (void)args;
    pthread_mutex_lock(&c->daemon->lock);
    for (struct dom *dom = c->client->hv->doms; dom; dom = dom->next)
        ((struct remote_connect_num_of_defined_domains_ret *)ret)->num += dom->id < 0;
    pthread_mutex_unlock(&c->daemon->lock);
    return 0;
}

/* The calls of clients that know no list_all. */
static int list_ids(struct call *c, const void *args, void *ret)
{
    const struct remote_connect_list_domains_args *a = args;
    struct remote_connect_list_domains_ret *r = ret;
    unsigned max = (unsigned)MAX(a->maxids, 0);
    pthread_mutex_lock(&c->daemon->lock);
    r->ids.val = arena_alloc(&c->arena, (MIN(max, c->client->hv->count) + 1) * sizeof *r->ids.val);
    for (struct dom *dom = c->client->hv->doms; dom && r->ids.val; dom = dom->next)
        if (dom->id >= 0 && r->ids.len < max)
            r->ids.val[r->ids.len++] = dom->id;
    pthread_mutex_unlock(&c->daemon->lock);
    return r->ids.val ? 0 : -1;
}

static int list_defined(struct call *c, const void *args, void *ret)
{
    const struct remote_connect_list_defined_domains_args *a = args;
    struct remote_connect_list_defined_domains_ret *r = ret;
    unsigned max = (unsigned)MAX(a->maxnames, 0);
    int result = 0;
    pthread_mutex_lock(&c->daemon->lock);
    r->names.val = arena_alloc(&c->arena, (MIN(max, c->client->hv->count) + 1) * sizeof *r->names.val);
    for (struct dom *dom = c->client->hv->doms; dom && r->names.val && result == 0; dom = dom->next) {
        if (dom->id >= 0 || r->names.len == max)
            continue;
        char *name = call_string(c, dom->name);
        r->names.val[r->names.len++] = name;
        result = name ? 0 : -1;
    }
    pthread_mutex_unlock(&c->daemon->lock);
    return r->names.val ? result : -1;
}

/* ---- defining ---- */

struct domain *call_parse(struct call *c, const char *xml)
{
    struct domain *d = calloc(1, sizeof *d);
    if (d && domain_parse(d, xml, strlen(xml), &c->err) == 0 && domain_assign_pci(d, &c->err) == 0)
        return d;
    dom_drop(d);
    if (error_is_set(&c->err))
        error_code(&c->err, VIR_ERR_XML_ERROR);
    return NULL;
}

static int define(struct call *c, const char *xml, struct remote_nonnull_domain *ref)
{
    struct domain *d = call_parse(c, xml);
    struct dom *dom = d ? dom_define(c->client->hv, d, false, &c->err) : NULL;
    int result = dom ? call_set_ref(c, ref, dom) : -1;
    call_dom_done(dom);
    return result;
}

static int define_xml(struct call *c, const void *args, void *ret)
{
    return define(c, ((const struct remote_domain_define_xml_args *)args)->xml, &((struct remote_domain_define_xml_ret *)ret)->dom);
}

static int define_xml_flags(struct call *c, const void *args, void *ret)
{
    return define(c, ((const struct remote_domain_define_xml_flags_args *)args)->xml,
                  &((struct remote_domain_define_xml_flags_ret *)ret)->dom);
}

static int create_xml(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_create_xml_args *a = args;
    struct domain *d = call_parse(c, a->xml_desc);
    struct dom *dom = d ? dom_define(c->client->hv, d, true, &c->err) : NULL;
    if (!dom)
        return -1;
    int result = dom_start(dom, a->flags & VIR_DOMAIN_START_PAUSED, &c->err);
    if (result < 0)
        dom_remove(dom);
    else
        result = call_set_ref(c, &((struct remote_domain_create_xml_ret *)ret)->dom, dom);
    call_dom_done(dom);
    return result;
}

static int undefine_as(struct call *c, const struct remote_nonnull_domain *ref, enum dom_nvram nvram)
{
    struct dom *dom = call_dom_locked(c, ref);
    int result = dom ? dom_undefine(dom, nvram, &c->err) : -1;
    call_dom_done(dom);
    return result;
}

static int undefine(struct call *c, const void *args, void *ret)
{
    (void)ret;
    return undefine_as(c, &((const struct one_domain *)args)->dom, DOM_NVRAM_UNSAID);
}

static int undefine_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_undefine_flags_args *a = args;
    bool remove = a->flags & VIR_DOMAIN_UNDEFINE_NVRAM, keep = a->flags & VIR_DOMAIN_UNDEFINE_KEEP_NVRAM;
    (void)ret;
    if (remove && keep)
        return call_fail(c, VIR_ERR_INVALID_ARG, "the firmware's variables cannot be both removed and kept; give one of the two");
    return undefine_as(c, &a->dom, remove ? DOM_NVRAM_REMOVE : keep ? DOM_NVRAM_KEEP : DOM_NVRAM_UNSAID);
}

static int get_xml(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_get_xml_desc_args *a = args;
    struct dom *dom = call_dom(c, &a->dom);
    if (!dom)
        return -1;
    pthread_mutex_lock(&c->daemon->lock);
    bool inactive = (a->flags & VIR_DOMAIN_XML_INACTIVE) && dom->config;
    const struct domain *d = inactive ? dom->config : dom_now(dom);
    AUTO_FREE char *xml = d ? dom_xml(d, inactive ? -1 : dom->id, &c->err) : NULL;
    pthread_mutex_unlock(&c->daemon->lock);
    dom_unref(dom);
    ((struct remote_domain_get_xml_desc_ret *)ret)->xml = call_string(c, xml);
    return xml ? 0 : -1;
}

/* ---- life ---- */

static int start(struct call *c, const struct remote_nonnull_domain *ref, bool paused, struct remote_nonnull_domain *out)
{
    struct dom *dom = call_dom_locked(c, ref);
    int result = dom ? dom_start(dom, paused, &c->err) : -1;
    if (result == 0 && out)
        result = call_set_ref(c, out, dom);
    call_dom_done(dom);
    return result;
}

static int create(struct call *c, const void *args, void *ret)
{
    (void)ret;
    return start(c, &((const struct one_domain *)args)->dom, false, NULL);
}

static int create_with_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_create_with_flags_args *a = args;
    if (a->flags & VIR_DOMAIN_START_AUTODESTROY)
        return call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED, "flag 'autodestroy' is not supported; start without it");
    return start(c, &a->dom, a->flags & VIR_DOMAIN_START_PAUSED, &((struct remote_domain_create_with_flags_ret *)ret)->dom);
}

static int destroy_it(struct call *c, const struct remote_nonnull_domain *ref, bool graceful)
{
    struct dom *dom = call_dom_locked(c, ref);
    int result = -1;
    if (dom && !dom_active(dom))
        call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    else if (dom)
        result = dom->hv->driver->destroy(dom, graceful, &c->err);
    call_dom_done(dom);
    return result;
}

static int destroy(struct call *c, const void *args, void *ret)
{
    (void)ret;
    return destroy_it(c, &((const struct one_domain *)args)->dom, false);
}

static int destroy_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_destroy_flags_args *a = args;
    (void)ret;
    return destroy_it(c, &a->dom, a->flags & VIR_DOMAIN_DESTROY_GRACEFUL);
}

static int command(struct call *c, const void *args, const char *qmp)
{
    struct dom *dom = call_dom_locked(c, &((const struct one_domain *)args)->dom);
    int result = -1;
    if (dom && !dom_active(dom))
        call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    else if (dom)
        result = dom->hv->driver->command(dom, qmp, &c->err);
    call_dom_done(dom);
    return result;
}

static int suspend(struct call *c, const void *args, void *ret)
{
    (void)ret;
    return command(c, args, "stop");
}

static int resume(struct call *c, const void *args, void *ret)
{
    (void)ret;
    return command(c, args, "cont");
}

static int shutdown_domain(struct call *c, const void *args, void *ret)
{
    (void)ret;
    return command(c, args, "system_powerdown");
}

static int by_agent(struct call *c, const struct remote_nonnull_domain *ref, bool reboot)
{
    struct dom *dom = call_dom_locked(c, ref);
    int result = dom ? agent_shutdown(dom, reboot, &c->err) : -1;
    call_dom_done(dom);
    return result;
}

static int shutdown_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_shutdown_flags_args *a = args;
    (void)ret;
    if (a->flags == VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)
        return by_agent(c, &a->dom, false);
    if (a->flags & ~(unsigned)VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        return call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED, "shutdown mode 0x%x is not supported; use --mode acpi or agent",
                         a->flags);
    return command(c, args, "system_powerdown");
}

static int reboot(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_reboot_args *a = args;
    (void)ret;
    if (a->flags == VIR_DOMAIN_REBOOT_GUEST_AGENT)
        return by_agent(c, &a->dom, true);
    if (a->flags & ~(unsigned)VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
        return call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED, "reboot mode 0x%x is not supported; use --mode acpi or agent", a->flags);
    return command(c, args, "x-reboot");
}

static int reset(struct call *c, const void *args, void *ret)
{
    (void)ret;
    return command(c, args, "system_reset");
}

static int get_autostart(struct call *c, const void *args, void *ret)
{
    struct dom *dom = call_dom(c, &((const struct one_domain *)args)->dom);
    if (!dom)
        return -1;
    ((struct remote_domain_get_autostart_ret *)ret)->autostart = dom->autostart;
    dom_unref(dom);
    return 0;
}

static int set_autostart(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_set_autostart_args *a = args;
    struct dom *dom = call_dom_locked(c, &a->dom);
    int result = -1;
    (void)ret;
    if (dom && !dom->config)
        call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is transient; define it first", dom->name);
    else if (dom)
        result = dom->hv->driver->save_autostart(dom, a->autostart, &c->err);
    if (result == 0)
        dom->autostart = a->autostart;
    call_dom_done(dom);
    return result;
}

/* ---- the console ---- */

static int open_console(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_open_console_args *a = args;
    struct dom *dom = call_dom(c, &a->dom);
    int index = -1;
    (void)ret;
    if (!dom)
        return -1;
    pthread_mutex_lock(&c->daemon->lock);
    const struct domain *d = dom_active(dom) ? dom->live : NULL;
    for (unsigned i = 0; d && i < d->nchars && index < 0; i++)
        if (d->chars[i].backend == DOMAIN_CHAR_PTY)
            index = (int)i;
    pthread_mutex_unlock(&c->daemon->lock);
    AUTO_FREE char *path = index < 0 ? NULL : process_console_path(dom, (unsigned)index);
    int result;
    if (!d)
        result = call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    else if (dom->hv->driver != &lodge_driver || !path)
        result =
            call_fail(c, VIR_ERR_INTERNAL_ERROR, "domain '%s': cannot find console device; add <console type='pty'/>", dom->name);
    else
        result = stream_open_socket(c, path);
    dom_unref(dom);
    return result;
}

const struct handler stream_handlers[] = {
    {REMOTE_PROC_DOMAIN_OPEN_CONSOLE, open_console, false},
    {0, NULL, false},
};

const struct handler domain_handlers[] = {
    {REMOTE_PROC_DOMAIN_LOOKUP_BY_NAME, lookup_by_name, false},
    {REMOTE_PROC_DOMAIN_LOOKUP_BY_ID, lookup_by_id, false},
    {REMOTE_PROC_DOMAIN_LOOKUP_BY_UUID, lookup_by_uuid, false},
    {REMOTE_PROC_CONNECT_LIST_ALL_DOMAINS, list_all, false},
    {REMOTE_PROC_CONNECT_NUM_OF_DOMAINS, num_of_domains, false},
    {REMOTE_PROC_CONNECT_NUM_OF_DEFINED_DOMAINS, num_of_defined, false},
    {REMOTE_PROC_CONNECT_LIST_DOMAINS, list_ids, false},
    {REMOTE_PROC_CONNECT_LIST_DEFINED_DOMAINS, list_defined, false},
    {REMOTE_PROC_DOMAIN_DEFINE_XML, define_xml, false},
    {REMOTE_PROC_DOMAIN_DEFINE_XML_FLAGS, define_xml_flags, false},
    {REMOTE_PROC_DOMAIN_CREATE_XML, create_xml, false},
    {REMOTE_PROC_DOMAIN_UNDEFINE, undefine, false},
    {REMOTE_PROC_DOMAIN_UNDEFINE_FLAGS, undefine_flags, false},
    {REMOTE_PROC_DOMAIN_GET_XML_DESC, get_xml, false},
    {REMOTE_PROC_DOMAIN_CREATE, create, false},
    {REMOTE_PROC_DOMAIN_CREATE_WITH_FLAGS, create_with_flags, false},
    {REMOTE_PROC_DOMAIN_DESTROY, destroy, false},
    {REMOTE_PROC_DOMAIN_DESTROY_FLAGS, destroy_flags, false},
    {REMOTE_PROC_DOMAIN_SUSPEND, suspend, false},
    {REMOTE_PROC_DOMAIN_RESUME, resume, false},
    {REMOTE_PROC_DOMAIN_SHUTDOWN, shutdown_domain, false},
    {REMOTE_PROC_DOMAIN_SHUTDOWN_FLAGS, shutdown_flags, false},
    {REMOTE_PROC_DOMAIN_REBOOT, reboot, false},
    {REMOTE_PROC_DOMAIN_RESET, reset, false},
    {REMOTE_PROC_DOMAIN_GET_AUTOSTART, get_autostart, false},
    {REMOTE_PROC_DOMAIN_SET_AUTOSTART, set_autostart, false},
    {0, NULL, false},
};
