// SPDX-License-Identifier: GPL-2.0-or-later
/* Walking a tree by a table of its elements: see xml.h. */
#include <string.h>

#include "model/xml.h"

#define MAX_CHILD_KINDS 64

struct walk {
    const char *foreign_ns;
    void *object;
    struct error *err;
};

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

static int check_attributes(const struct walk *w, const struct xml_node *node, const struct xml_element *e)
{
    for (const struct xml_attribute *a = node->attrs; a; a = a->next)
        if (!list_has(e->attrs, a->name))
            return xml_error(node, w->err, "attribute '%.64s' is not supported; remove it", a->name);
    for (const char *p = e->attrs; p && *p; p += strcspn(p, " "), p += strspn(p, " ")) {
        char name[64];
        size_t word = strcspn(p, " !");
        snprintf(name, sizeof name, "%.*s", (int)word, p);
        if (p[word] == '!' && !xml_attr(node, name))
            return xml_error(node, w->err, "attribute '%s' is missing; add it", name);
    }
    return 0;
}

static bool is_element(const struct walk *w, const struct xml_node *node, const struct xml_element *e)
{
    if (strcmp(node->name, e->name) != 0)
        return false;
    return e->flags & XML_FOREIGN ? node->ns && strcmp(node->ns, w->foreign_ns) == 0 : node->ns == NULL;
}

static int walk_element(struct walk *w, const struct xml_node *node, const struct xml_element *e);

static int walk_child(struct walk *w, const struct xml_node *node, const struct xml_element *e, bool *seen)
{
    for (unsigned i = 0; e->children && e->children[i].name && i < MAX_CHILD_KINDS; i++) {
        const struct xml_element *child = &e->children[i];
        if (!is_element(w, node, child))
            continue;
        if (seen[i] && !(child->flags & XML_MANY))
            return xml_error(node, w->err, "occurs twice in <%s>; keep one", node->parent->name);
        seen[i] = true;
        return walk_element(w, node, child);
    }
    return xml_error(node, w->err, "this element is not supported in <%s>; remove it", node->parent->name);
}

static int call(struct walk *w, const struct xml_node *node, int (*fn)(const struct xml_node *, void *, struct error *))
{
    if (!fn || fn(node, w->object, w->err) == 0)
        return 0;
    if (!error_is_set(w->err))
        xml_error(node, w->err, "out of memory");
    return -1;
}

static int walk_element(struct walk *w, const struct xml_node *node, const struct xml_element *e)
{
    bool seen[MAX_CHILD_KINDS] = {false};
    if (check_attributes(w, node, e) < 0 || call(w, node, e->begin) < 0)
        return -1;
    if (e->flags & XML_RAW)
        return 0;
    if (!(e->flags & XML_TEXT) && node->text[strspn(node->text, " \t\r\n")])
        return xml_error(node, w->err, "text is not expected here; remove it");
    for (const struct xml_node *child = node->children; child; child = child->next)
        if (walk_child(w, child, e, seen) < 0)
            return -1;
    for (unsigned i = 0; e->children && e->children[i].name && i < MAX_CHILD_KINDS; i++)
        if ((e->children[i].flags & XML_REQUIRED) && !seen[i])
            return xml_error(node, w->err, "<%s> is missing; add it", e->children[i].name);
    return call(w, node, e->end);
}

int xml_parse(const char *xml, size_t len, const char *what, const char *foreign_ns, const struct xml_element *root, void *object,
              struct error *err)
{
    int result = -1;
    struct walk w = {foreign_ns, object, err};
    struct xml_doc *doc = xml_doc_parse(xml, len, err);
    if (doc) {
        const struct xml_node *top = xml_doc_root(doc);
        if (!is_element(&w, top, root))
            xml_error(top, err, "the document's element must be <%s>", root->name);
        else
            result = walk_element(&w, top, root);
    }
    xml_doc_free(doc);
    if (result < 0)
        error_prefix(err, "%s: ", what);
    return result;
}
