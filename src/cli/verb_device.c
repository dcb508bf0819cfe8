// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Verbs for a domain's disks, network cards, memory and CPUs. The XML of any libvirt daemon is read here, and more of it than
 * Lodge's guests can have: so it is walked as a tree, and what is not known is passed over.
 */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "cli/manage.h"
#include "model/domain.h"
#include "model/xml.h"

#define MAX_VCPUS 65536ul /* what a number of CPUs can be at all; the daemon knows its own limit */

const struct xml_node *manage_xml_child(const struct xml_node *node, const char *name)
{
    const struct xml_node *c = node ? node->children : NULL;
    while (c && strcmp(c->name, name) != 0)
        c = c->next;
    return c;
}

/* The first of these attributes that the child has. */
static const char *child_attr(const struct xml_node *node, const char *name, const char *const attrs[])
{
    const struct xml_node *c = manage_xml_child(node, name);
    for (unsigned i = 0; c && attrs[i]; i++) {
        const char *value = xml_attr(c, attrs[i]);
        if (value)
            return value;
    }
    return NULL;
}

/* Each element `name` of <devices> as a row. NULL with err. */
static json_t *device_rows(struct session *s, const struct remote_nonnull_domain *dom, const char *name,
                           json_t *(*row)(struct session *s, const struct remote_nonnull_domain *dom, const struct xml_node *node),
                           const struct arguments *a, struct error *err)
{
    ARENA_SCOPED(kept);
    const char *xml = manage_domain_xml(s, dom, manage_option(a, "inactive") ? VIR_DOMAIN_XML_INACTIVE : 0, &kept, err);
    struct xml_doc *doc = xml ? xml_doc_parse(xml, strlen(xml), err) : NULL;
    if (!doc) {
        error_prefix(err, "domain '%s': its XML cannot be read: ", dom->name);
        return NULL;
    }
    json_t *rows = json_array();
    const struct xml_node *devices = manage_xml_child(xml_doc_root(doc), "devices");
    for (const struct xml_node *n = devices ? devices->children : NULL; rows && n; n = n->next)
        if (strcmp(n->name, name) == 0)
            json_array_append_new(rows, row(s, dom, n));
    xml_doc_free(doc);
    return rows;
}

static json_t *disk_row(struct session *s, const struct remote_nonnull_domain *dom, const struct xml_node *node)
{
    static const char *const source[] = {"file", "dev", "dir", "name", "volume", NULL};
    const char *target = child_attr(node, "target", (const char *const[]){"dev", NULL});
    const char *device = xml_attr(node, "device");
    const struct remote_domain_get_block_info_args args = {.dom = *dom, .path = (char *)target};
    struct remote_domain_get_block_info_ret info;
    bool sized = target && manage_xml_child(node, "source") && client_domain_get_block_info(s->c, &args, &info, NULL) == 0;
    return json_pack("{so ss so so so so so so}", "target", sheet_text(target), "device", device ? device : "disk", "bus",
                     sheet_text(child_attr(node, "target", (const char *const[]){"bus", NULL})), "format",
                     sheet_text(child_attr(node, "driver", (const char *const[]){"type", NULL})), "readonly",
                     json_boolean(manage_xml_child(node, "readonly") != NULL), "capacity",
                     sized ? json_integer((json_int_t)info.capacity) : json_null(), "allocation",
                     sized ? json_integer((json_int_t)info.allocation) : json_null(), "source",
                     sheet_text(child_attr(node, "source", source)));
}

int manage_domblklist(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    static const struct column columns[] = {{"target", "target", COLUMN_TEXT},     {"device", "device", COLUMN_TEXT},
                                            {"bus", "bus", COLUMN_TEXT},           {"format", "format", COLUMN_TEXT},
                                            {"capacity", "capacity", COLUMN_SIZE}, {"allocation", "allocated", COLUMN_SIZE},
                                            {"source", "source", COLUMN_TEXT},     COLUMN_END};
    json_t *rows = device_rows(s, dom, "disk", disk_row, a, err);
    return rows ? session_show(s, rows, columns, err) : -1;
}

static json_t *iface_row(struct session *s, const struct remote_nonnull_domain *dom, const struct xml_node *node)
{
    static const char *const source[] = {"network", "bridge", "dev", "path", "address", NULL};
    const char *link = child_attr(node, "link", (const char *const[]){"state", NULL});
    (void)s;
    (void)dom;
    return json_pack("{so so so so so so}", "target", sheet_text(child_attr(node, "target", (const char *const[]){"dev", NULL})),
                     "type", sheet_text(xml_attr(node, "type")), "source", sheet_text(child_attr(node, "source", source)), "model",
                     sheet_text(child_attr(node, "model", (const char *const[]){"type", NULL})), "mac",
                     sheet_text(child_attr(node, "mac", (const char *const[]){"address", NULL})), "link",
                     sheet_text(link ? link : "up"));
}

int manage_domiflist(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    static const struct column columns[] = {{"target", "interface", COLUMN_TEXT},
                                            {"type", "type", COLUMN_TEXT},
                                            {"source", "source", COLUMN_TEXT},
                                            {"model", "model", COLUMN_TEXT},
                                            {"mac", "MAC", COLUMN_TEXT},
                                            {"link", "link", COLUMN_TEXT},
                                            COLUMN_END};
    json_t *rows = device_rows(s, dom, "interface", iface_row, a, err);
    return rows ? session_show(s, rows, columns, err) : -1;
}

/* ---- memory and CPUs ---- */

/* --live and --config as libvirt's flags. */
static unsigned affects(const struct arguments *a)
{
    return (manage_option(a, "live") ? VIR_DOMAIN_AFFECT_LIVE : 0) | (manage_option(a, "config") ? VIR_DOMAIN_AFFECT_CONFIG : 0);
}

int manage_setmem(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    uint64_t bytes;
    if (domain_parse_size(a->words[1], MIB, &bytes) < 0)
        return error_set(err, 0, "setmem: '%s' is not an amount of memory; give one such as 512M", a->words[1]);
    const struct remote_domain_set_memory_flags_args args = {.dom = *dom, .memory = bytes / KIB, .flags = affects(a)};
    if (client_domain_set_memory_flags(s->c, &args, err) < 0)
        return -1;
    session_say(s, "domain '%s': is to have %llu MiB", dom->name, (unsigned long long)(bytes / MIB));
    return 0;
}

static json_t *vcpus_of(struct session *s, const struct remote_nonnull_domain *dom, unsigned flags)
{
    const struct remote_domain_get_vcpus_flags_args args = {.dom = *dom, .flags = flags};
    struct remote_domain_get_vcpus_flags_ret ret;
    return client_domain_get_vcpus_flags(s->c, &args, &ret, NULL) == 0 ? json_integer(ret.num) : json_null();
}

int manage_vcpucount(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    static const struct column columns[] = {{"maximum_config", "maximum, configured", COLUMN_NUMBER},
                                            {"maximum_live", "maximum, running", COLUMN_NUMBER},
                                            {"current_config", "current, configured", COLUMN_NUMBER},
                                            {"current_live", "current, running", COLUMN_NUMBER},
                                            COLUMN_END};
    (void)a;
    return session_show(s,
                        json_pack("{so so so so so}", "name", sheet_text(dom->name), "maximum_config",
                                  vcpus_of(s, dom, VIR_DOMAIN_VCPU_CONFIG | VIR_DOMAIN_VCPU_MAXIMUM), "maximum_live",
                                  vcpus_of(s, dom, VIR_DOMAIN_VCPU_LIVE | VIR_DOMAIN_VCPU_MAXIMUM), "current_config",
                                  vcpus_of(s, dom, VIR_DOMAIN_VCPU_CONFIG), "current_live", vcpus_of(s, dom, VIR_DOMAIN_VCPU_LIVE)),
                        columns, err);
}

int manage_setvcpus(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    char *end;
    const char *text = a->words[1];
    unsigned long n = strtoul(text, &end, 10);
    if (text[0] < '1' || text[0] > '9' || *end || n > MAX_VCPUS)
        return error_set(err, 0, "setvcpus: '%s' is not a number of CPUs; give one such as 2", text);
    const struct remote_domain_set_vcpus_flags_args args = {
        .dom = *dom, .nvcpus = (uint32_t)n, .flags = affects(a) | (manage_option(a, "maximum") ? VIR_DOMAIN_VCPU_MAXIMUM : 0)};
    if (client_domain_set_vcpus_flags(s->c, &args, err) < 0)
        return -1;
    session_say(s, "domain '%s': is to have %lu CPU%s", dom->name, n, n == 1 ? "" : "s");
    return 0;
}
