// SPDX-License-Identifier: GPL-2.0-or-later
/* Tables over libxml2's tree: see xml.h. */
#include "model/xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHILD_KINDS 64

struct walk {
    const char *foreign_ns;
    void *object;
    struct error *err;
};

int xml_error(const xmlNode *node, struct error *err, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    error_set(err, 0, "line %ld: <%s>: %s", xmlGetLineNo(node), (const char *)node->name, text ? text : "out of memory");
    free(text);
    return -1;
}

const char *xml_attr(const xmlNode *node, const char *name)
{
    for (const xmlAttr *a = node->properties; a; a = a->next) {
        if (!a->ns && strcmp((const char *)a->name, name) == 0)
            return a->children && a->children->content ? (const char *)a->children->content : "";
    }
    return NULL;
}

char *xml_text(xmlNode *node)
{
    xmlChar *content = xmlNodeGetContent(node);
    if (!content)
        return NULL;
    static const char space[] = " \t\r\n";
    const char *start = (const char *)content + strspn((const char *)content, space);
    size_t len = strlen(start);
    while (len && strchr(space, start[len - 1]))
        len--;
    char *text = strndup(start, len);
    xmlFree(content);
    return text;
}

static int match_word(const xmlNode *node, const char *attr, const char *value, const char *const words[], struct error *err)
{
    char list[256] = "";
    for (int i = 0; words[i]; i++) {
        if (strcmp(words[i], value) == 0)
            return i;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s'%s'", i ? ", " : "", words[i]);
    }
    return xml_error(node, err, "%s%s'%.64s' is not supported; write %s", attr ? attr : "", attr ? " " : "", value, list);
}

int xml_attr_word(const xmlNode *node, const char *name, const char *const words[], int absent, struct error *err)
{
    const char *value = xml_attr(node, name);
    return value ? match_word(node, name, value, words, err) : absent;
}

int xml_text_word(xmlNode *node, const char *const words[], struct error *err)
{
    char *value = xml_text(node);
    if (!value)
        return xml_error(node, err, "out of memory");
    int i = match_word(node, NULL, value, words, err);
    free(value);
    return i;
}

int xml_number(const xmlNode *node, const char *text, uint64_t max, uint64_t *value, struct error *err)
{
    char *end = NULL;
    bool hex = text[0] == '0' && (text[1] | 0x20) == 'x';
    errno = 0;
    if (text[0] >= '0' && text[0] <= '9')
        *value = strtoull(text, &end, hex ? 16 : 10);
    if (!end || *end || errno || *value > max)
        return xml_error(node, err, "'%.64s' is not a number from 0 to %llu", text, (unsigned long long)max);
    return 0;
}

/* True when the space-separated list names `name`. */
static bool list_has(const char *list, const char *name)
{
    size_t len = strlen(name);
    for (const char *p = list; p && *p; p += strcspn(p, " "), p += strspn(p, " ")) {
        size_t word = strcspn(p, " !");
        if (word == len && strncmp(p, name, len) == 0)
            return true;
    }
    return false;
}

static int check_attributes(const struct walk *w, const xmlNode *node, const struct xml_element *e)
{
    for (const xmlAttr *a = node->properties; a; a = a->next) {
        if (a->ns || !list_has(e->attrs, (const char *)a->name))
            return xml_error(node, w->err, "attribute '%.64s' is not supported; remove it", (const char *)a->name);
        if (a->children && a->children->next)
            return xml_error(node, w->err, "attribute '%.64s' holds an entity; write plain text", (const char *)a->name);
    }
    for (const char *p = e->attrs; p && *p; p += strcspn(p, " "), p += strspn(p, " ")) {
        char name[64];
        size_t word = strcspn(p, " !");
        snprintf(name, sizeof name, "%.*s", (int)word, p);
        if (p[word] == '!' && !xml_attr(node, name))
            return xml_error(node, w->err, "attribute '%s' is missing; add it", name);
    }
    return 0;
}

static bool is_element(const struct walk *w, const xmlNode *node, const struct xml_element *e)
{
    if (strcmp((const char *)node->name, e->name) != 0)
        return false;
    if (e->flags & XML_FOREIGN)
        return node->ns && strcmp((const char *)node->ns->href, w->foreign_ns) == 0;
    return node->ns == NULL;
}

static int walk_element(struct walk *w, xmlNode *node, const struct xml_element *e);

static int walk_child(struct walk *w, const xmlNode *parent, xmlNode *node, const struct xml_element *e, bool *seen)
{
    switch (node->type) {
    case XML_COMMENT_NODE:
        return 0;
    case XML_TEXT_NODE:
    case XML_CDATA_SECTION_NODE:
        if ((e->flags & XML_TEXT) || xmlIsBlankNode(node))
            return 0;
        return xml_error(parent, w->err, "text is not expected here; remove it");
    case XML_ELEMENT_NODE:
        break;
    default:
        return xml_error(parent, w->err, "holds something other than elements and text; remove it");
    }
    for (unsigned i = 0; e->children && e->children[i].name && i < MAX_CHILD_KINDS; i++) {
        const struct xml_element *child = &e->children[i];
        if (!is_element(w, node, child))
            continue;
        if (seen[i] && !(child->flags & XML_MANY))
            return xml_error(node, w->err, "occurs twice in <%s>; keep one", (const char *)parent->name);
        seen[i] = true;
        return walk_element(w, node, child);
    }
    return xml_error(node, w->err, "this element is not supported in <%s>; remove it", (const char *)parent->name);
}

static int walk_element(struct walk *w, xmlNode *node, const struct xml_element *e)
{
    bool seen[MAX_CHILD_KINDS] = {false};
    if (check_attributes(w, node, e) < 0)
        return -1;
    if (e->begin && e->begin(node, w->object, w->err) < 0) {
        if (!error_is_set(w->err))
            xml_error(node, w->err, "out of memory");
        return -1;
    }
    for (xmlNode *child = node->children; child; child = child->next) {
        if (walk_child(w, node, child, e, seen) < 0)
            return -1;
    }
    for (unsigned i = 0; e->children && e->children[i].name && i < MAX_CHILD_KINDS; i++) {
        if ((e->children[i].flags & XML_REQUIRED) && !seen[i])
            return xml_error(node, w->err, "<%s> is missing; add it", e->children[i].name);
    }
    return 0;
}

/* Called at "<!DOCTYPE": without a document type there are no entities but the five of XML itself. */
static void refuse_doctype(void *ctx, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
    (void)name;
    (void)external;
    (void)system;
    xmlParserCtxt *parser = ctx;
    *(bool *)parser->_private = true;
    xmlStopParser(parser);
}

static void set_parse_error(xmlParserCtxt *parser, bool doctype, struct error *err)
{
    if (doctype) {
        error_set(err, 0, "a document type declaration is not allowed; remove <!DOCTYPE …>");
        return;
    }
    const xmlError *e = xmlCtxtGetLastError(parser);
    const char *message = e && e->message ? e->message : "not well-formed";
    error_set(err, 0, "line %d: %.*s; correct the XML", e ? e->line : 0, (int)strcspn(message, "\n"), message);
}

int xml_parse(const char *xml, size_t len, const char *what, const char *foreign_ns, const struct xml_element *root, void *object,
              struct error *err)
{
    bool doctype = false;
    int result = -1;
    xmlDoc *doc = NULL;
    xmlParserCtxt *parser = xmlNewParserCtxt();
    if (!parser) {
        error_set(err, ENOMEM, "out of memory");
        goto out;
    }
    parser->_private = &doctype;
    parser->sax->internalSubset = refuse_doctype;
    doc = xmlCtxtReadMemory(parser, xml, (int)len, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlNode *top = doc ? xmlDocGetRootElement(doc) : NULL;
    struct walk w = {foreign_ns, object, err};
    if (!top || doctype)
        set_parse_error(parser, doctype, err);
    else if (!is_element(&w, top, root))
        xml_error(top, err, "the document's element must be <%s>", root->name);
    else
        result = walk_element(&w, top, root);
out:
    xmlFreeDoc(doc);
    xmlFreeParserCtxt(parser);
    if (result < 0)
        error_prefix(err, "%s: ", what);
    return result;
}
