/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading XML by tables: a document is accepted exactly as far as a table of its elements says.
 *
 * Each element names its attributes and its children; whatever the table does not name is refused by name and line, so nothing that
 * a document says is ever ignored. libxml2 parses. A document type declaration is refused, hence there are no entities of a document's
 * own, no external files and no network. Hostile documents are bounded: see the limits below.
 */
#ifndef LODGE_MODEL_XML_H
#define LODGE_MODEL_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

#define XML_MAX_BYTES (16u << 20)
#define XML_MAX_DEPTH 64u
#define XML_MAX_ATTRS 128u   /* of one element, namespace declarations included */
#define XML_MAX_NODES 65536u /* elements and attributes of a document */

struct xml_attribute {
    const char *name; /* with its prefix, when it has one */
    const char *value;
    struct xml_attribute *next;
};

struct xml_node {
    const char *name; /* without the prefix */
    const char *ns;   /* the namespace's URI, NULL for none */
    const char *text; /* its own character data, not that of children; never NULL */
    unsigned line;
    struct xml_attribute *attrs; /* without namespace declarations */
    struct xml_node *parent, *children, *next;
    const void *element; /* libxml2's */
};

struct xml_doc;

/* Parses a document. NULL with err. */
struct xml_doc *xml_doc_parse(const char *xml, size_t len, struct error *err);
struct xml_node *xml_doc_root(const struct xml_doc *doc);
void xml_doc_free(struct xml_doc *doc);
/* The element as XML that can stand alone, to be freed: what is only kept is given back by it. NULL when memory is out. */
char *xml_node_text(const struct xml_node *node);

enum xml_flags {
    XML_TEXT = 1,     /* has text content; without it, only white space is allowed between children */
    XML_MANY = 2,     /* may occur more than once */
    XML_REQUIRED = 4, /* must occur */
    XML_FOREIGN = 8,  /* of the namespace given to xml_parse(); without it, of none */
    XML_RAW = 16,     /* anything may be in it: only `begin` looks */
};

struct xml_element {
    const char *name;
    unsigned flags;
    const char *attrs; /* names separated by spaces, '!' after a required one; NULL for none */
    int (*begin)(const struct xml_node *node, void *object, struct error *err); /* takes attributes and text, before the children */
    const struct xml_element *children;                                         /* ends with a NULL name; NULL for none */
    /* May be NULL: after the children. */
    int (*end)(const struct xml_node *node, void *object, struct error *err);
};
#define XML_END      \
    {                \
        .name = NULL \
    }

/* Parses `xml` and walks it by `root`. `what` begins every error: "domain XML". */
int xml_parse(const char *xml, size_t len, const char *what, const char *foreign_ns, const struct xml_element *root, void *object,
              struct error *err);

/* For begin functions. Attributes live as long as the document; xml_text() is trimmed and to be freed, NULL when memory is out. */
const char *xml_attr(const struct xml_node *node, const char *name);
char *xml_text(const struct xml_node *node);
/* The text, or the attribute's value, in place of *to (NULL when there is no such attribute). */
int xml_take_text(const struct xml_node *node, char **to, struct error *err);
int xml_take_attr(const struct xml_node *node, const char *name, char **to, struct error *err);
/* Fails with "line N: <element>: …". Returns -1. */
int xml_error(const struct xml_node *node, struct error *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Index of the attribute's value in the NULL-terminated list `words`, `absent` when there is no such attribute, -1 with err. */
int xml_attr_word(const struct xml_node *node, const char *name, const char *const words[], int absent, struct error *err);
/* For an attribute with exactly one word that is supported: checked, and it says nothing more. 0, or -1 with err. */
int xml_attr_only(const struct xml_node *node, const char *name, const char *word, struct error *err);
/* 'yes' or 'on' is 1, 'no' or 'off' 0. */
int xml_attr_switch(const struct xml_node *node, const char *name, int absent, struct error *err);
/* A number that the attribute must hold when it is there; *value stays when it is not. */
int xml_attr_number(const struct xml_node *node, const char *name, uint64_t max, uint64_t *value, struct error *err);
/* Index of the element's text in `words`, -1 with err. */
int xml_text_word(const struct xml_node *node, const char *const words[], struct error *err);
int xml_number(const struct xml_node *node, const char *text, uint64_t max, uint64_t *value, struct error *err);

/* For writing. Text is escaped for elements and attributes alike. A NULL text writes nothing. */
void xml_put_text(FILE *out, const char *text);
void xml_put_element(FILE *out, int indent, const char *name, const char *text);
void xml_put_attr(FILE *out, const char *before, const char *value, const char *after);

#endif
