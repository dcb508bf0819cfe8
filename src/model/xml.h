/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading XML by tables: a document is accepted exactly as far as a table of its elements says.
 *
 * Each element names its attributes and its children; whatever the table does not name is refused by name and line, so nothing that
 * a document says is ever ignored. Hostile documents are bounded: size, libxml2's depth limit, no document type declaration (hence
 * no entities of its own), no network, no external files.
 */
#ifndef LODGE_MODEL_XML_H
#define LODGE_MODEL_XML_H

#include <libxml/tree.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum xml_flags {
    XML_TEXT = 1,     /* has text content; without it, only white space is allowed between children */
    XML_MANY = 2,     /* may occur more than once */
    XML_REQUIRED = 4, /* must occur */
    XML_FOREIGN = 8,  /* of the namespace given to xml_parse(); without it, of none */
};

struct xml_element {
    const char *name;
    unsigned flags;
    const char *attrs; /* names separated by spaces, '!' after a required one; NULL for none */
    int (*begin)(xmlNode *node, void *object, struct error *err); /* takes attributes and text, before the children; may be NULL */
    const struct xml_element *children;                           /* ends with a NULL name; NULL for none */
};

/* Parses `xml` and walks it by `root`. `what` begins every error: "domain XML". */
int xml_parse(const char *xml, size_t len, const char *what, const char *foreign_ns, const struct xml_element *root, void *object,
              struct error *err);

/* For begin functions. Strings live as long as the document; xml_text() is trimmed and to be freed, NULL when memory is out. */
const char *xml_attr(const xmlNode *node, const char *name);
char *xml_text(xmlNode *node);
/* Fails with "line N: <element>: …". Returns -1. */
int xml_error(const xmlNode *node, struct error *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Index of the attribute's value in the NULL-terminated list `words`, `absent` when there is no such attribute, -1 with err. */
int xml_attr_word(const xmlNode *node, const char *name, const char *const words[], int absent, struct error *err);
/* The same for the element's text, which must be there. */
int xml_text_word(xmlNode *node, const char *const words[], struct error *err);
int xml_number(const xmlNode *node, const char *text, uint64_t max, uint64_t *value, struct error *err);

#endif
