// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Text to tree. libxml2 parses; what it builds is laid out as struct xml_node, elements in one array and attributes in another,
 * whose strings are the parser's. Bounds are checked while it parses, at each start of an element, so a hostile document is given
 * up early.
 */
#include <errno.h>
#include <libxml/parser.h>
#include <libxml/SAX2.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "model/xml.h"

/* libxml2 looks for attributes that occur twice by comparing each with each, before anybody can count them. */
#define MAX_EQUALS 16384u

struct xml_doc {
    xmlDoc *tree;
    struct xml_node *nodes;
    struct xml_attribute *attrs;
    unsigned nnodes, nattrs;
    struct error *err; /* while parsing */
};

/* ---- while libxml2 parses ---- */

static void give_up(xmlParserCtxt *parser, const char *what, unsigned limit)
{
    struct xml_doc *doc = parser->_private;
    if (!error_is_set(doc->err))
        error_set(doc->err, 0, "line %d: %s %u; shorten the document", xmlSAX2GetLineNumber(parser), what, limit);
    xmlStopParser(parser);
}

static void start_element(void *ctx, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int nns, const xmlChar **ns,
                          int nattrs, int ndefaulted, const xmlChar **attrs)
{
    xmlParserCtxt *parser = ctx;
    struct xml_doc *doc = parser->_private;
    unsigned own = (unsigned)nattrs + (unsigned)nns;
    doc->nnodes++;
    doc->nattrs += own;
    if (parser->nodeNr >= (int)XML_MAX_DEPTH)
        give_up(parser, "elements are nested deeper than", XML_MAX_DEPTH);
    else if (own > XML_MAX_ATTRS)
        give_up(parser, "an element has more attributes than", XML_MAX_ATTRS);
    else if (doc->nnodes + doc->nattrs > XML_MAX_NODES)
        give_up(parser, "elements and attributes are more than", XML_MAX_NODES);
    else
        xmlSAX2StartElementNs(ctx, name, prefix, uri, nns, ns, nattrs, ndefaulted, attrs);
}

/* Called at "<!DOCTYPE": without a document type there are no entities but the five of XML itself. */
static void refuse_doctype(void *ctx, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
    (void)name;
    (void)external;
    (void)system;
    xmlParserCtxt *parser = ctx;
    struct xml_doc *doc = parser->_private;
    error_set(doc->err, 0, "a document type declaration is not allowed; remove <!DOCTYPE …>");
    xmlStopParser(parser);
}

/* The first error is the last: libxml2 would go on, and describe one by one all that a hostile document has to offer. */
static void report(void *ctx, xmlError *e)
{
    xmlParserCtxt *parser = ctx;
    struct xml_doc *doc = parser->_private;
    const char *message = e->message ? e->message : "not well-formed";
    if (e->level < XML_ERR_ERROR || error_is_set(doc->err))
        return;
    error_set(doc->err, 0, "line %d: %.*s; correct the XML", e->line, (int)strcspn(message, "\n"), message);
    xmlStopParser(parser);
}

static int check_equals(const char *xml, size_t len, struct error *err)
{
    unsigned count = 0;
    for (size_t i = 0; i < len; i++) {
        count = xml[i] == '<' ? 0 : count + (xml[i] == '=');
        if (count > MAX_EQUALS)
            return error_set(err, 0, "more than %u '=' stand in one tag; shorten the document", MAX_EQUALS);
    }
    return 0;
}

static int parse_tree(struct xml_doc *doc, const char *xml, size_t len)
{
    xmlParserCtxt *parser = xmlNewParserCtxt();
    if (!parser)
        return error_set(doc->err, ENOMEM, "out of memory");
    parser->_private = doc;
    parser->sax->internalSubset = refuse_doctype;
    parser->sax->startElementNs = start_element;
    parser->sax->serror = report;
    /* NOENT: without entities of the document's own it stands for character references in attributes. */
    doc->tree = xmlCtxtReadMemory(parser, xml, (int)len, NULL, NULL,
                                  XML_PARSE_NONET | XML_PARSE_NOENT | XML_PARSE_NOCDATA | XML_PARSE_BIG_LINES);
    if (!doc->tree && !error_is_set(doc->err))
        error_set(doc->err, 0, "line %d: not well-formed; correct the XML", xmlSAX2GetLineNumber(parser));
    xmlFreeParserCtxt(parser);
    return error_is_set(doc->err) ? -1 : 0;
}

/* ---- from its tree to ours ---- */

/* The parser's copy of a name with its prefix, when it has one. */
static const char *full_name(const struct xml_doc *doc, const xmlNs *ns, const xmlChar *name)
{
    const xmlChar *full = ns && ns->prefix ? xmlDictQLookup(doc->tree->dict, ns->prefix, name) : name;
    return (const char *)full;
}

/* An element's own text: one piece as a rule, more where comments lie in between. NULL: out of memory. */
static const char *own_text(const struct xml_doc *doc, const xmlNode *element)
{
    const xmlNode *first = NULL;
    unsigned pieces = 0;
    for (const xmlNode *n = element->children; n; n = n->next) {
        if (n->type != XML_TEXT_NODE)
            continue;
        first = first ? first : n;
        pieces++;
    }
    if (pieces <= 1)
        return first ? (const char *)first->content : "";
    xmlBuffer *joined = xmlBufferCreate();
    for (const xmlNode *n = first; joined && n; n = n->next)
        if (n->type == XML_TEXT_NODE)
            xmlBufferCat(joined, n->content);
    const xmlChar *text = joined ? xmlDictLookup(doc->tree->dict, xmlBufferContent(joined), xmlBufferLength(joined)) : NULL;
    xmlBufferFree(joined);
    return (const char *)text;
}

static int lay_out_attributes(struct xml_doc *doc, struct xml_node *node, const xmlNode *element)
{
    struct xml_attribute **tail = &node->attrs;
    for (const xmlAttr *a = element->properties; a; a = a->next) {
        struct xml_attribute *to = &doc->attrs[doc->nattrs++];
        to->name = full_name(doc, a->ns, a->name);
        to->value = a->children ? (const char *)a->children->content : "";
        if (!to->name || !to->value)
            return -1;
        *tail = to;
        tail = &to->next;
    }
    return 0;
}

static struct xml_node *lay_out(struct xml_doc *doc, struct xml_node *parent, const xmlNode *element)
{
    struct xml_node *node = &doc->nodes[doc->nnodes++];
    *node = (struct xml_node){.name = (const char *)element->name,
                              .ns = element->ns ? (const char *)element->ns->href : NULL,
                              .text = own_text(doc, element),
                              .line = (unsigned)xmlGetLineNo(element),
                              .parent = parent,
                              .element = element};
    if (!node->text || lay_out_attributes(doc, node, element) < 0)
        return NULL;
    struct xml_node **tail = &node->children;
    for (const xmlNode *child = element->children; child; child = child->next) {
        if (child->type != XML_ELEMENT_NODE)
            continue;
        *tail = lay_out(doc, node, child);
        if (!*tail)
            return NULL;
        tail = &(*tail)->next;
    }
    return node;
}

struct xml_doc *xml_doc_parse(const char *xml, size_t len, struct error *err)
{
    struct xml_doc *doc = NULL;
    ERROR_SCOPED(unseen);
    err = err ? err : &unseen;
    if (len > XML_MAX_BYTES) {
        error_set(err, EFBIG, "more than %u bytes; shorten the document", XML_MAX_BYTES);
        return NULL;
    }
    if (check_equals(xml, len, err) < 0)
        return NULL;
    doc = calloc(1, sizeof *doc);
    if (!doc)
        goto no_memory;
    doc->err = err;
    if (parse_tree(doc, xml, len) < 0) {
        xml_doc_free(doc);
        return NULL;
    }
    doc->nodes = calloc(doc->nnodes, sizeof *doc->nodes);
    doc->attrs = calloc(doc->nattrs + 1, sizeof *doc->attrs);
    doc->nnodes = doc->nattrs = 0;
    if (doc->nodes && doc->attrs && lay_out(doc, NULL, xmlDocGetRootElement(doc->tree)))
        return doc;
no_memory:
    error_set(err, ENOMEM, "out of memory");
    xml_doc_free(doc);
    return NULL;
}

struct xml_node *xml_doc_root(const struct xml_doc *doc)
{
    return doc->nodes;
}

void xml_doc_free(struct xml_doc *doc)
{
    if (!doc)
        return;
    free(doc->attrs);
    free(doc->nodes);
    xmlFreeDoc(doc->tree);
    free(doc);
}

char *xml_node_text(const struct xml_node *node)
{
    char *text = NULL;
    xmlDoc *around = xmlNewDoc(NULL);
    xmlBuffer *out = xmlBufferCreate();
    /* A copy declares the prefixes that it uses and that were declared further out. */
    xmlNode *copy = around && out ? xmlDocCopyNode((xmlNode *)(uintptr_t)node->element, around, 1) : NULL;
    if (copy) {
        xmlDocSetRootElement(around, copy);
        if (xmlNodeDump(out, around, copy, 0, 0) > 0)
            text = strdup((const char *)xmlBufferContent(out));
    }
    xmlBufferFree(out);
    xmlFreeDoc(around);
    return text;
}
