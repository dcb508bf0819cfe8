// SPDX-License-Identifier: GPL-2.0-or-later
/* <filesystem>. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

const char *const domain_share_access_names[] = {"passthrough", "squash", "mapped", NULL};

struct domain_share *domain_add_share(struct domain *d, struct error *err)
{
    return domain_append(&d->shares, &d->nshares, sizeof *d->shares, DOMAIN_MAX_SHARES, "shared folders", err);
}

static struct domain_share *last(void *object)
{
    struct domain *d = object;
    return &d->shares[d->nshares - 1];
}

static int begin_filesystem(const struct xml_node *node, void *object, struct error *err)
{
    int access = xml_attr_word(node, "accessmode", domain_share_access_names, DOMAIN_SHARE_PASSTHROUGH, err);
    if (access < 0 || xml_attr_only(node, "type", "mount", err) < 0)
        return -1;
    struct domain_share *share = domain_add_share(object, err);
    if (share)
        share->access = (enum domain_share_access)access;
    return share ? 0 : -1;
}

static int begin_driver(const struct xml_node *node, void *object, struct error *err)
{
    int type = xml_attr_word(node, "type", (const char *const[]){"path", "virtiofs", NULL}, 0, err);
    last(object)->virtiofs = type == 1;
    return type < 0 ? -1 : 0;
}

static int begin_source(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_share *share = last(object);
    return xml_take_attr(node, "dir", &share->path, err) < 0 ? -1 : xml_take_attr(node, "socket", &share->socket, err);
}

static int begin_target(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_attr(node, "dir", &last(object)->tag, err);
}

BEGIN_FLAG(begin_readonly, last(object)->readonly)

static int begin_address(const struct xml_node *node, void *object, struct error *err)
{
    return pci_take_address(node, &last(object)->address, err);
}

static int begin_alias(const struct xml_node *node, void *object, struct error *err)
{
    return alias_take(node, &last(object)->alias, err);
}

static void filesystem_free(struct domain *d)
{
    for (unsigned i = 0; i < d->nshares; i++) {
        free(d->shares[i].path);
        free(d->shares[i].socket);
        free(d->shares[i].tag);
        free(d->shares[i].alias);
    }
    free(d->shares);
}

/* What a back end serves, and how, is its own to say. */
static int check_virtiofs(const struct domain_share *s, unsigned number, struct error *err)
{
    if (s->path || !s->socket || !s->socket[0])
        return error_set(err, 0, "shared folder %u: Lodge starts no virtiofsd; start one, and name its socket in place of the folder", number);
    if (s->readonly || s->access != DOMAIN_SHARE_PASSTHROUGH)
        return error_set(err, 0, "shared folder %u: read-only and the way of access are virtiofsd's own; set them there, and leave them out here", number);
    return 0;
}

static const char *where(const struct domain_share *s)
{
    return s->path ? s->path : s->socket;
}

static int filesystem_check(struct domain *d, struct error *err)
{
    for (unsigned i = 0; i < d->nshares; i++) {
        const struct domain_share *s = &d->shares[i];
        if (s->virtiofs && check_virtiofs(s, i + 1, err) < 0)
            return -1;
        if (s->socket && !s->virtiofs)
            return error_set(err, 0, "shared folder %u: a socket is for virtiofs; write <driver type='virtiofs'/>, or name a folder", i + 1);
        if (!s->tag || !s->tag[0] || (!s->virtiofs && (!s->path || !s->path[0])))
            return error_set(err, 0, "shared folder %u: no path or no tag; name both", i + 1);
        for (unsigned j = 0; j < i; j++)
            if (strcmp(s->tag, d->shares[j].tag) == 0)
                return error_set(err, 0, "share '%s': tag '%s' is taken by share '%s'; give each its own tag", where(s), s->tag,
                                 where(&d->shares[j]));
    }
    return 0;
}

static void filesystem_write(const struct domain *d, FILE *out)
{
    for (unsigned i = 0; i < d->nshares; i++) {
        const struct domain_share *s = &d->shares[i];
        fprintf(out, "    <filesystem type='mount' accessmode='%s'>\n", domain_share_access_names[s->access]);
        if (s->virtiofs)
            fputs("      <driver type='virtiofs'/>\n", out);
        if (s->socket)
            xml_put_attr(out, "      <source socket='", s->socket, "'/>\n");
        else
            xml_put_attr(out, "      <source dir='", s->path, "'/>\n");
        xml_put_attr(out, "      <target dir='", s->tag, "'/>\n");
        if (s->readonly)
            fputs("      <readonly/>\n", out);
        alias_put(out, s->alias);
        pci_put_address(out, 6, &s->address);
        fputs("    </filesystem>\n", out);
    }
}

static const struct xml_element filesystem_children[] = {
    {"driver", 0, "type", begin_driver, NULL, NULL},
    {"source", XML_REQUIRED, "dir socket", begin_source, NULL, NULL},
    {"target", XML_REQUIRED, "dir!", begin_target, NULL, NULL},
    {"readonly", 0, NULL, begin_readonly, NULL, NULL},
    {"address", 0, PCI_ADDRESS_ATTRS, begin_address, NULL, NULL},
    ALIAS_ELEMENT(begin_alias),
    XML_END,
};
static const struct xml_element filesystem_devices[] = {
    {"filesystem", XML_MANY, "type accessmode", begin_filesystem, filesystem_children, NULL},
    XML_END,
};
const struct domain_part filesystem_part = {
    .devices = filesystem_devices, .free = filesystem_free, .check = filesystem_check, .write_devices = filesystem_write};
