// SPDX-License-Identifier: GPL-2.0-or-later
/* Calls that change the devices and the metadata of a domain's configuration, by its XML: what comes out is checked as a whole. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "daemon/calls.h"
#include "model/xml.h"

/* What tells one device of a kind from another: an attribute of its child, or nothing where there is one at most. */
static const struct device_kind {
    const char *name, *child, *attr;
} kinds[] = {
    {"disk", "target", "dev"},     {"interface", "mac", "address"}, {"filesystem", "target", "dir"},
    {"channel", "target", "name"}, {"controller", NULL, NULL},      {"rng", NULL, NULL},
    {"vsock", NULL, NULL},         {"panic", NULL, NULL},           {"memballoon", NULL, NULL},
};

static const struct device_kind *kind_of(const struct xml_node *device)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
        if (strcmp(kinds[i].name, device->name) == 0)
            return &kinds[i];
    return NULL;
}

static const char *key_of(const struct device_kind *kind, const struct xml_node *device)
{
    for (const struct xml_node *n = kind->child ? device->children : NULL; n; n = n->next)
        if (strcmp(n->name, kind->child) == 0)
            return xml_attr(n, kind->attr);
    return NULL;
}

/* The domain's device that `device` means. NULL with c->err. */
static const struct xml_node *find_device(struct call *c, const struct dom *dom, const struct xml_node *devices,
                                          const struct xml_node *device)
{
    const struct device_kind *kind = kind_of(device);
    const struct xml_node *found = NULL;
    unsigned count = 0;
    if (!kind || strcmp(device->name, "controller") == 0) {
        call_fail(c, VIR_ERR_OPERATION_UNSUPPORTED,
                  "domain '%s': a device <%.64s> cannot be detached or changed by itself; define the domain without it", dom->name,
                  device->name);
        return NULL;
    }
    const char *key = key_of(kind, device);
    for (const struct xml_node *n = devices->children; n; n = n->next) {
        const char *its = strcmp(n->name, device->name) == 0 ? key_of(kind, n) : NULL;
        bool match = strcmp(n->name, device->name) == 0 && (!key || (its && strcasecmp(its, key) == 0));
        found = match ? n : found;
        count += match;
    }
    if (count == 1)
        return found;
    call_fail(c, count ? VIR_ERR_OPERATION_FAILED : VIR_ERR_DEVICE_MISSING,
              "domain '%s': %s device <%s>%s%s in its configuration%s", dom->name, count ? "more than one" : "no", device->name,
              key ? " with " : "", key ? key : "", count ? "; say which" : "; see dumpxml --inactive");
    return NULL;
}

static const char *last_of(const char *text, const char *part)
{
    const char *found = NULL;
    for (const char *at = text; (at = strstr(at, part)); at++)
        found = at;
    return found;
}

static void put_device(FILE *out, const struct xml_node *device)
{
    AUTO_FREE char *text = xml_node_text(device);
    fprintf(out, "%s\n", text ? text : "");
}

/* The domain's XML with one device more, less or changed. In what domain_write() writes, <devices> stands behind all that is kept
 * as it came, so its last tags are the domain's own. */
static char *changed_xml(const char *xml, const struct xml_node *devices, const struct xml_node *old, const struct xml_node *new)
{
    static const char open[] = "  <devices>\n", close[] = "  </devices>\n";
    const char *from = last_of(xml, open), *to = last_of(xml, close);
    char *text = NULL;
    size_t len;
    FILE *out = from && to ? open_memstream(&text, &len) : NULL;
    if (!out)
        return NULL;
    fprintf(out, "%.*s", (int)(from - xml + (long)strlen(open)), xml);
    for (const struct xml_node *n = devices->children; n; n = n->next) {
        if (n != old)
            put_device(out, n);
        else if (new)
            put_device(out, new);
    }
    if (!old)
        put_device(out, new);
    fputs(to, out);
    return fclose(out) == 0 ? text : NULL;
}

const struct xml_node *call_devices(const struct xml_doc *doc)
{
    const struct xml_node *n = xml_doc_root(doc)->children;
    while (n && strcmp(n->name, "devices") != 0)
        n = n->next;
    return n;
}

/* Makes `d` the configuration, durably; it is the callee's in any case. */
int call_replace_config(struct call *c, struct dom *dom, struct domain *d)
{
    pthread_mutex_lock(&c->daemon->lock);
    struct domain *old = dom->config;
    dom->config = d;
    pthread_mutex_unlock(&c->daemon->lock);
    int result = dom->hv->driver->save(dom, &c->err);
    if (result < 0) {
        pthread_mutex_lock(&c->daemon->lock);
        dom->config = old;
        pthread_mutex_unlock(&c->daemon->lock);
        old = d;
    }
    dom_drop(old);
    return result;
}

char *call_edited_xml(struct call *c, const struct dom *dom, const struct domain *d, enum call_change change, const char *device_xml,
                      char **key)
{
    AUTO_FREE char *xml = dom_xml(d, -1, &c->err);
    char *whole = NULL;
    struct xml_doc *doc = xml ? xml_doc_parse(xml, strlen(xml), &c->err) : NULL;
    struct xml_doc *device = doc ? xml_doc_parse(device_xml, strlen(device_xml), &c->err) : NULL;
    const struct xml_node *devices = device ? call_devices(doc) : NULL, *old = NULL;
    if (doc && !device)
        error_code(&c->err, VIR_ERR_XML_ERROR);
    if (devices && change != CALL_ATTACH)
        old = find_device(c, dom, devices, xml_doc_root(device));
    if (devices && (old || change == CALL_ATTACH))
        whole = changed_xml(xml, devices, old, change == CALL_DETACH ? NULL : xml_doc_root(device));
    if (old && key) {
        const char *own = key_of(kind_of(old), old);
        *key = own ? strdup(own) : NULL;
    }
    xml_doc_free(device);
    xml_doc_free(doc);
    return whole;
}

static int edit_config(struct call *c, struct dom *dom, enum call_change change, const char *device_xml)
{
    AUTO_FREE char *whole = call_edited_xml(c, dom, dom->config, change, device_xml, NULL);
    struct domain *d = whole ? call_parse(c, whole) : NULL;
    return d ? call_replace_config(c, dom, d) : -1;
}

static int edit_live(struct call *c, struct dom *dom, enum call_change change, const char *device_xml)
{
    if (change == CALL_UPDATE)
        return call_fail(c, VIR_ERR_OPERATION_UNSUPPORTED, "domain '%s' is running: devices cannot be changed in it; use --config",
                         dom->name);
    if (!dom->hv->driver->attach)
        return call_fail(c, VIR_ERR_OPERATION_UNSUPPORTED, "domain '%s': this driver has no hot plug; use --config", dom->name);
    return change == CALL_ATTACH ? call_attach_live(c, dom, device_xml) : call_detach_live(c, dom, device_xml);
}

static int change_device(struct call *c, const struct remote_nonnull_domain *ref, enum call_change change, const char *xml,
                         unsigned flags)
{
    struct dom *dom = call_dom_locked(c, ref);
    bool live, config;
    int result = dom ? call_affects(c, dom, flags, &live, &config) : -1;
    if (result == 0 && live)
        result = edit_live(c, dom, change, xml);
    if (result == 0 && config)
        result = edit_config(c, dom, change, xml);
    call_dom_done(dom);
    return result;
}

/* The XML of the device that a user has named so, in what runs or in the configuration; to be freed. NULL with c->err. */
static char *named_device(struct call *c, struct dom *dom, const char *alias, bool live)
{
    pthread_mutex_lock(&c->daemon->lock);
    AUTO_FREE char *xml = dom_xml(live ? dom->live : dom->config, -1, &c->err);
    pthread_mutex_unlock(&c->daemon->lock);
    struct xml_doc *doc = xml ? xml_doc_parse(xml, strlen(xml), &c->err) : NULL;
    const struct xml_node *devices = doc ? call_devices(doc) : NULL;
    char *text = NULL;
    for (const struct xml_node *n = devices ? devices->children : NULL; n && !text; n = n->next)
        for (const struct xml_node *child = n->children; child && !text; child = child->next)
            if (strcmp(child->name, "alias") == 0 && xml_attr(child, "name") && strcmp(xml_attr(child, "name"), alias) == 0)
                text = xml_node_text(n);
    if (doc && !text)
        call_fail(c, VIR_ERR_DEVICE_MISSING, "domain '%s': no device has the alias '%s'; see dumpxml%s", dom->name, alias,
                  live ? "" : " --inactive");
    xml_doc_free(doc);
    return text;
}

static int detach_alias(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_detach_device_alias_args *a = args;
    struct dom *dom = call_dom_locked(c, &a->dom);
    bool live = false, config = false;
    (void)ret;
    int result = dom ? call_affects(c, dom, a->flags, &live, &config) : -1;
    AUTO_FREE char *of_live = result == 0 && live ? named_device(c, dom, a->alias, true) : NULL;
    AUTO_FREE char *of_config = result == 0 && config && (!live || of_live) ? named_device(c, dom, a->alias, false) : NULL;
    if ((live && !of_live) || (config && !of_config))
        result = -1;
    if (result == 0 && live)
        result = edit_live(c, dom, CALL_DETACH, of_live);
    if (result == 0 && config)
        result = edit_config(c, dom, CALL_DETACH, of_config);
    call_dom_done(dom);
    return result;
}

static int attach(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_attach_device_args *a = args;
    (void)ret;
    return change_device(c, &a->dom, CALL_ATTACH, a->xml, VIR_DOMAIN_AFFECT_LIVE);
}

static int attach_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_attach_device_flags_args *a = args;
    (void)ret;
    return change_device(c, &a->dom, CALL_ATTACH, a->xml, a->flags);
}

static int detach(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_detach_device_args *a = args;
    (void)ret;
    return change_device(c, &a->dom, CALL_DETACH, a->xml, VIR_DOMAIN_AFFECT_LIVE);
}

static int detach_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_detach_device_flags_args *a = args;
    (void)ret;
    return change_device(c, &a->dom, CALL_DETACH, a->xml, a->flags);
}

static int update_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_update_device_flags_args *a = args;
    (void)ret;
    return change_device(c, &a->dom, CALL_UPDATE, a->xml, a->flags & ~(unsigned)VIR_DOMAIN_DEVICE_MODIFY_FORCE);
}

/* ---- title, description and metadata elements ---- */

static int set_one(struct call *c, struct domain *d, const struct remote_domain_set_metadata_args *a)
{
    if (a->type == VIR_DOMAIN_METADATA_ELEMENT)
        return domain_set_metadata(d, a->key, a->uri, a->metadata, &c->err) < 0 ? error_code(&c->err, VIR_ERR_XML_ERROR) : 0;
    char *text = a->metadata ? strdup(a->metadata) : NULL;
    char **field = a->type == VIR_DOMAIN_METADATA_TITLE ? &d->title : &d->description;
    if (a->metadata && !text)
        return -1;
    free(*field);
    *field = text;
    return 0;
}

static int set_metadata(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_set_metadata_args *a = args;
    struct dom *dom = call_dom_locked(c, &a->dom);
    bool live, config;
    (void)ret;
    int result = dom ? call_affects(c, dom, a->flags, &live, &config) : -1;
    if (result == 0 && (a->type < VIR_DOMAIN_METADATA_DESCRIPTION || a->type > VIR_DOMAIN_METADATA_ELEMENT))
        result = call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s': metadata of the type %d is unknown", dom->name, a->type);
    if (result == 0 && a->type == VIR_DOMAIN_METADATA_ELEMENT && (!a->uri || (a->metadata && !a->key)))
        result = call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s': a metadata element needs a uri and a key; give both", dom->name);
    struct domain *d = result == 0 && config ? dom_copy(dom->config, &c->err) : NULL;
    if (result == 0 && config && (!d || set_one(c, d, a) < 0)) {
        dom_drop(d);
        result = -1;
    } else if (result == 0 && config) {
        result = call_replace_config(c, dom, d);
    }
    pthread_mutex_lock(&c->daemon->lock);
    if (result == 0 && live && dom->live)
        result = set_one(c, dom->live, a);
    pthread_mutex_unlock(&c->daemon->lock);
    call_dom_done(dom);
    return result;
}

static int get_metadata(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_get_metadata_args *a = args;
    struct dom *dom = call_dom(c, &a->dom);
    AUTO_FREE char *element = NULL;
    const char *text = NULL;
    if (!dom)
        return -1;
    pthread_mutex_lock(&c->daemon->lock);
    const struct domain *d = a->flags & VIR_DOMAIN_AFFECT_CONFIG ? dom->config : dom_now(dom);
    if (d && a->type == VIR_DOMAIN_METADATA_ELEMENT && a->uri)
        text = element = domain_metadata(d, a->uri);
    else if (d && a->type == VIR_DOMAIN_METADATA_DESCRIPTION)
        text = d->description;
    else if (d && a->type == VIR_DOMAIN_METADATA_TITLE)
        text = d->title;
    char *answer = text ? call_string(c, text) : NULL;
    pthread_mutex_unlock(&c->daemon->lock);
    ((struct remote_domain_get_metadata_ret *)ret)->metadata = answer;
    int result = answer ? 0 : call_fail(c, VIR_ERR_NO_DOMAIN_METADATA, "domain '%s': metadata not found", dom->name);
    dom_unref(dom);
    return result;
}

/* ---- what follows the guest's end ---- */

static int set_lifecycle_action(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_set_lifecycle_action_args *a = args;
    struct dom *dom = call_dom_locked(c, &a->dom);
    bool live, config;
    (void)ret;
    int result = dom ? call_affects(c, dom, a->flags, &live, &config) : -1;
    if (result == 0 && live)
        result = call_fail(c, VIR_ERR_OPERATION_UNSUPPORTED, "domain '%s' is running: its actions cannot change; use --config",
                           dom->name);
    if (result == 0 && (a->type > VIR_DOMAIN_LIFECYCLE_CRASH || a->action > VIR_DOMAIN_LIFECYCLE_ACTION_RESTART))
        result = call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED, "domain '%s': this action is not supported; use destroy or restart",
                           dom->name);
    struct domain *d = result == 0 ? dom_copy(dom->config, &c->err) : NULL;
    if (d) {
        enum domain_action *const fields[] = {&d->on_poweroff, &d->on_reboot, &d->on_crash};
        *fields[a->type] = a->action == VIR_DOMAIN_LIFECYCLE_ACTION_RESTART ? DOMAIN_RESTART : DOMAIN_DESTROY;
        result = call_replace_config(c, dom, d);
    }
    call_dom_done(dom);
    return d ? result : -1;
}

const struct handler config_handlers[] = {
    {REMOTE_PROC_DOMAIN_ATTACH_DEVICE, attach, false},
    {REMOTE_PROC_DOMAIN_ATTACH_DEVICE_FLAGS, attach_flags, false},
    {REMOTE_PROC_DOMAIN_DETACH_DEVICE, detach, false},
    {REMOTE_PROC_DOMAIN_DETACH_DEVICE_FLAGS, detach_flags, false},
    {REMOTE_PROC_DOMAIN_DETACH_DEVICE_ALIAS, detach_alias, false},
    {REMOTE_PROC_DOMAIN_UPDATE_DEVICE_FLAGS, update_flags, false},
    {REMOTE_PROC_DOMAIN_SET_METADATA, set_metadata, false},
    {REMOTE_PROC_DOMAIN_GET_METADATA, get_metadata, false},
    {REMOTE_PROC_DOMAIN_SET_LIFECYCLE_ACTION, set_lifecycle_action, false},
    {0, NULL, false},
};
