// SPDX-License-Identifier: GPL-2.0-or-later
/* Elements below <metadata>: each has a namespace of its own, by which programs find theirs again. */
#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

static struct domain_kept *find_kept(const struct domain *d)
{
    for (unsigned i = 0; i < d->nkept; i++)
        if (d->kept[i].place == KEPT_METADATA)
            return &d->kept[i];
    return NULL;
}

/* A document that xml_doc_parse() has accepted: without a document type, and within the limits. NULL with err. */
static xmlDoc *read_doc(const char *xml, struct error *err)
{
    struct xml_doc *checked = xml_doc_parse(xml, strlen(xml), err);
    if (!checked)
        return NULL;
    xml_doc_free(checked);
    xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (!doc)
        error_set(err, EINVAL, "metadata: cannot be read; correct its XML");
    return doc;
}

static xmlNode *find_element(xmlDoc *doc, const char *uri)
{
    xmlNode *n = xmlFirstElementChild(xmlDocGetRootElement(doc));
    while (n && !(n->ns && n->ns->href && strcmp((const char *)n->ns->href, uri) == 0))
        n = xmlNextElementSibling(n);
    return n;
}

static char *dump(xmlDoc *doc, xmlNode *node)
{
    xmlBuffer *out = xmlBufferCreate();
    char *text = out && xmlNodeDump(out, doc, node, 0, 0) > 0 ? strdup((const char *)xmlBufferContent(out)) : NULL;
    xmlBufferFree(out);
    return text;
}

/* Takes the namespace off an element and what is below it. */
static void bare(xmlNode *node, const char *uri)
{
    for (xmlNode *n = node; n;) {
        if (n->type == XML_ELEMENT_NODE && n->ns && n->ns->href && strcmp((const char *)n->ns->href, uri) == 0)
            xmlSetNs(n, NULL);
        if (n->type == XML_ELEMENT_NODE && n->children) {
            n = n->children;
            continue;
        }
        while (n != node && !n->next)
            n = n->parent;
        n = n == node ? NULL : n->next;
    }
    for (xmlNs **p = &node->nsDef; *p;) {
        xmlNs *ns = *p;
        if (strcmp((const char *)ns->href, uri) != 0) {
            p = &ns->next;
            continue;
        }
        *p = ns->next;
        ns->next = NULL;
        xmlFreeNs(ns);
    }
}

char *domain_metadata(const struct domain *d, const char *uri)
{
    ERROR_SCOPED(err);
    const struct domain_kept *k = find_kept(d);
    xmlDoc *doc = k ? read_doc(k->xml, &err) : NULL;
    xmlNode *n = doc ? find_element(doc, uri) : NULL;
    char *text = NULL;
    xmlDoc *around = n ? xmlNewDoc(NULL) : NULL;
    xmlNode *copy = around ? xmlDocCopyNode(n, around, 1) : NULL; /* declares the prefixes that it uses */
    if (copy) {
        xmlDocSetRootElement(around, copy);
        bare(copy, uri);
        text = dump(around, copy);
    }
    xmlFreeDoc(around);
    xmlFreeDoc(doc);
    return text;
}

/* Puts a copy of the element below <metadata>, in the namespace. */
static int add_element(xmlDoc *doc, const char *key, const char *uri, const char *xml, struct error *err)
{
    xmlDoc *new = read_doc(xml, err);
    xmlNode *copy = new ? xmlDocCopyNode(xmlDocGetRootElement(new), doc, 1) : NULL;
    xmlNs *ns = copy ? xmlNewNs(copy, (const xmlChar *)uri, (const xmlChar *)key) : NULL;
    xmlFreeDoc(new);
    if (!ns) {
        xmlFreeNode(copy);
        return error_is_set(err)
                   ? -1
                   : error_set(err, EINVAL, "metadata: the key '%.64s' is in use by the element itself; give another", key);
    }
    xmlSetNs(copy, ns);
    xmlAddChild(xmlDocGetRootElement(doc), copy);
    return 0;
}

int domain_set_metadata(struct domain *d, const char *key, const char *uri, const char *xml, struct error *err)
{
    struct domain_kept *k = find_kept(d);
    if (!uri[0] || (xml && (!key[0] || xmlValidateNCName((const xmlChar *)key, 0) != 0)))
        return error_set(err, EINVAL, "metadata: '%.64s' cannot be the key of an element; give a name, and a uri", key ? key : "");
    xmlDoc *doc = read_doc(k ? k->xml : "<metadata/>", err);
    if (!doc)
        return -1;
    xmlNode *old = find_element(doc, uri);
    if (old) {
        xmlUnlinkNode(old);
        xmlFreeNode(old);
    }
    int result = xml ? add_element(doc, key, uri, xml, err) : 0;
    char *text = result == 0 ? dump(doc, xmlDocGetRootElement(doc)) : NULL;
    if (result == 0 && text && !k &&
        (k = domain_append(&d->kept, &d->nkept, sizeof *k, DOMAIN_MAX_KEPT, "elements that are only kept", err)))
        k->place = KEPT_METADATA;
    xmlFreeDoc(doc);
    if (result < 0 || !text || !k) {
        free(text);
        return error_is_set(err) ? -1 : error_set(err, ENOMEM, "metadata: out of memory");
    }
    free(k->xml);
    k->xml = text;
    return 0;
}
