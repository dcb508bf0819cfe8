// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Text to tree. One pass over the bytes with a cursor; nodes and decoded strings come from an arena that is freed as a whole.
 * Recursion is bounded by XML_MAX_DEPTH, memory by XML_MAX_NODES and the document's own size (a decoded string is never longer than
 * its source).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/xml.h"

#define CHUNK 16384u

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(16) char data[];
};

struct xml_doc {
    struct chunk *chunks;
    struct xml_node *root;
    unsigned nodes;
};

struct cursor {
    struct xml_doc *doc;
    const char *p, *end;
    unsigned line;
    struct error *err;
};

static void *arena(struct cursor *c, size_t size)
{
    struct chunk *k = c->doc->chunks;
    size = ALIGN_UP(size, 16);
    if (!k || k->size - k->used < size) {
        size_t room = MAX(size, (size_t)CHUNK);
        k = malloc(sizeof *k + room);
        if (!k) {
            error_set(c->err, ENOMEM, "out of memory");
            return NULL;
        }
        *k = (struct chunk){.next = c->doc->chunks, .size = room};
        c->doc->chunks = k;
    }
    void *p = k->data + k->used;
    k->used += size;
    memset(p, 0, size);
    return p;
}

static int fail(struct cursor *c, const char *what)
{
    return error_set(c->err, 0, "line %u: %s; correct the XML", c->line, what);
}

/* ---- characters ---- */

static bool at(const struct cursor *c, const char *word)
{
    size_t n = strlen(word);
    return (size_t)(c->end - c->p) >= n && memcmp(c->p, word, n) == 0;
}

static void advance(struct cursor *c, size_t n)
{
    for (; n; n--, c->p++)
        c->line += *c->p == '\n';
}

static bool is_space(char ch)
{
    return ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r';
}

static bool skip_space(struct cursor *c)
{
    const char *start = c->p;
    while (c->p < c->end && is_space(*c->p))
        advance(c, 1);
    return c->p > start;
}

/* Letters beyond ASCII are allowed in names without telling them from other characters. */
static bool is_name_start(unsigned char ch)
{
    return ((ch | 0x20u) - 'a') < 26u || ch == '_' || ch >= 0x80;
}

static bool is_name(unsigned char ch)
{
    return is_name_start(ch) || (unsigned)ch - '0' < 10u || ch == '-' || ch == '.' || ch == ':';
}

/* Bytes of the valid UTF-8 sequence at p (no overlong forms, surrogates, U+FFFE, U+FFFF or control characters), 0 for none. */
static unsigned char_len(const char *at, const char *end)
{
    const unsigned char *p = (const unsigned char *)at;
    unsigned len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (len == 0 || (size_t)(end - at) < len)
        return 0;
    if (len == 1)
        return p[0] >= 0x20 || is_space((char)p[0]) ? 1 : 0;
    uint32_t code = p[0] & (0xffu >> (len + 1));
    for (unsigned i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3f);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    bool valid = code >= least[len] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) && code != 0xfffe && code != 0xffff;
    return valid ? len : 0;
}

static unsigned put_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    unsigned len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (unsigned i = len - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((0xf00u >> len) | code);
    return len;
}

/* "&#…;" at the cursor: decoded to `out`. Bytes written, 0 with err. */
static unsigned char_reference(struct cursor *c, char *out)
{
    const char *p = c->p + 2, *first;
    bool hex = p < c->end && *p == 'x';
    uint32_t code = 0;
    p += hex;
    for (first = p; p < c->end && *p != ';' && p - first < 8; p++) {
        unsigned digit = (unsigned char)*p - '0';
        if (hex && digit > 9)
            digit = (unsigned)((*p | 0x20) - 'a') < 6 ? (unsigned)((*p | 0x20) - 'a' + 10) : 16;
        if (digit >= (hex ? 16u : 10u))
            break;
        code = code * (hex ? 16 : 10) + digit;
    }
    unsigned len = code <= 0x10ffff ? put_utf8(code, out) : 0;
    if (p == first || p == c->end || *p != ';' || len == 0 || char_len(out, out + len) != len) {
        fail(c, "a character reference is not a character");
        return 0;
    }
    c->p = p + 1;
    return len;
}

/* A '&' at the cursor. */
static unsigned reference(struct cursor *c, char *out)
{
    static const struct {
        const char *text;
        char ch;
    } entities[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    if (at(c, "&#"))
        return char_reference(c, out);
    for (unsigned i = 0; i < ARRAY_SIZE(entities); i++) {
        if (at(c, entities[i].text)) {
            c->p += strlen(entities[i].text);
            *out = entities[i].ch;
            return 1;
        }
    }
    fail(c, "an entity is not defined");
    return 0;
}

/* Copies one character or reference; line ends become '\n'. -1 with err. */
static int take_char(struct cursor *c, char **out)
{
    if (*c->p == '&') {
        unsigned n = reference(c, *out);
        *out += n;
        return n ? 0 : -1;
    }
    unsigned n = char_len(c->p, c->end);
    if (n == 0)
        return fail(c, "a byte is not a character of UTF-8 that XML allows");
    if (*c->p == '\r') {
        advance(c, 1);
        if (c->p == c->end || *c->p != '\n')
            *(*out)++ = '\n';
        return 0;
    }
    memcpy(*out, c->p, n);
    *out += n;
    advance(c, n);
    return 0;
}

/* ---- names and attributes ---- */

static const char *take_name(struct cursor *c)
{
    const char *start = c->p;
    if (c->p == c->end || !is_name_start((unsigned char)*c->p)) {
        fail(c, "a name is expected");
        return NULL;
    }
    while (c->p < c->end && is_name((unsigned char)*c->p)) {
        unsigned n = char_len(c->p, c->end);
        if (n == 0) {
            fail(c, "a name is not UTF-8");
            return NULL;
        }
        c->p += n;
    }
    char *name = arena(c, (size_t)(c->p - start) + 1);
    if (name)
        memcpy(name, start, (size_t)(c->p - start));
    return name;
}

static const char *take_value(struct cursor *c)
{
    char quote = c->p < c->end ? *c->p : 0;
    if (quote != '"' && quote != '\'') {
        fail(c, "an attribute's value must be quoted");
        return NULL;
    }
    c->p++;
    const char *close = memchr(c->p, quote, (size_t)(c->end - c->p));
    if (!close) {
        fail(c, "an attribute's value does not end");
        return NULL;
    }
    char *value = arena(c, (size_t)(close - c->p) + 1), *out = value;
    while (value && c->p < close) {
        if (*c->p == '<') {
            fail(c, "'<' is not allowed in an attribute's value");
            return NULL;
        }
        bool plain = *c->p != '&';
        if (take_char(c, &out) < 0)
            return NULL;
        if (plain && out > value && is_space(out[-1])) /* XML 1.0, 3.3.3; a reference to a line end stays one */
            out[-1] = ' ';
    }
    c->p++;
    return value;
}

static bool has_attribute(const struct xml_attribute *list, const char *name)
{
    for (; list; list = list->next)
        if (strcmp(list->name, name) == 0)
            return true;
    return false;
}

static int count_node(struct cursor *c)
{
    if (c->doc->nodes++ < XML_MAX_NODES)
        return 0;
    return error_set(c->err, 0, "line %u: more than %u elements and attributes; shorten the document", c->line, XML_MAX_NODES);
}

static int take_attribute(struct cursor *c, struct xml_node *node, struct xml_attribute ***tail)
{
    struct xml_attribute *a = arena(c, sizeof *a);
    if (!a || count_node(c) < 0)
        return -1;
    a->name = take_name(c);
    if (!a->name)
        return -1;
    skip_space(c);
    if (c->p == c->end || *c->p != '=')
        return fail(c, "an attribute has no value");
    c->p++;
    skip_space(c);
    a->value = take_value(c);
    if (!a->value)
        return -1;
    bool declares = strncmp(a->name, "xmlns", 5) == 0 && (a->name[5] == ':' || !a->name[5]);
    if (declares) {
        a->name = a->name[5] ? a->name + 6 : "";
        if (has_attribute(node->declarations, a->name))
            return fail(c, "a namespace is declared twice");
        a->next = node->declarations;
        node->declarations = a;
        return 0;
    }
    if (has_attribute(node->attrs, a->name))
        return fail(c, "an attribute occurs twice");
    **tail = a;
    *tail = &a->next;
    return 0;
}

/* ---- namespaces ---- */

/* Finds what a prefix means, and marks the elements on the way out to its declaration. NULL when it is declared nowhere. */
static const char *resolve(struct xml_node *node, const char *prefix)
{
    for (struct xml_node *n = node; n; n = n->parent) {
        for (const struct xml_attribute *d = n->declarations; d; d = d->next)
            if (strcmp(d->name, prefix) == 0)
                return d->value;
        n->outer_prefix |= n->parent && prefix[0];
    }
    return NULL;
}

static int resolve_names(struct cursor *c, struct xml_node *node)
{
    const char *colon = strchr(node->name, ':'), *uri;
    char prefix[64] = "";
    if (colon)
        snprintf(prefix, sizeof prefix, "%.*s", (int)(colon - node->name), node->name);
    uri = resolve(node, prefix);
    if (colon && (!uri || !uri[0]))
        return fail(c, "an element's prefix is not declared; add xmlns:PREFIX='…'");
    node->ns = uri && uri[0] ? uri : NULL;
    node->name = colon ? colon + 1 : node->name;
    for (const struct xml_attribute *a = node->attrs; a; a = a->next) {
        colon = strchr(a->name, ':');
        if (!colon || strncmp(a->name, "xml:", 4) == 0)
            continue;
        snprintf(prefix, sizeof prefix, "%.*s", (int)(colon - a->name), a->name);
        if (!resolve(node, prefix))
            return fail(c, "an attribute's prefix is not declared; add xmlns:PREFIX='…'");
    }
    return 0;
}

/* ---- markup ---- */

/* Skips "<!-- … -->" or "<? … ?>" at the cursor. */
static int skip_to(struct cursor *c, size_t open, const char *close)
{
    advance(c, open);
    while (c->p < c->end) {
        unsigned n = char_len(c->p, c->end);
        if (at(c, close)) {
            advance(c, strlen(close));
            return 0;
        }
        if (n == 0)
            return fail(c, "a byte is not a character of UTF-8 that XML allows");
        if (close[0] == '-' && at(c, "--"))
            return fail(c, "'--' is not allowed in a comment");
        advance(c, n);
    }
    return fail(c, "a comment or instruction does not end");
}

/* A comment or processing instruction, when there is one: 1 skipped, 0 none, -1 with err. */
static int skip_markup(struct cursor *c)
{
    if (at(c, "<!--"))
        return skip_to(c, 4, "-->") < 0 ? -1 : 1;
    if (at(c, "<?xml") && c->p + 5 < c->end && is_space(c->p[5]))
        return fail(c, "an XML declaration is only allowed at the beginning");
    if (at(c, "<?"))
        return skip_to(c, 2, "?>") < 0 ? -1 : 1;
    if (at(c, "<!DOCTYPE"))
        return error_set(c->err, 0, "a document type declaration is not allowed; remove <!DOCTYPE …>");
    return 0;
}

static int take_cdata(struct cursor *c, char **out)
{
    advance(c, 9);
    while (c->p < c->end && !at(c, "]]>")) {
        if (*c->p == '&') {
            *(*out)++ = *c->p++;
            continue;
        }
        if (take_char(c, out) < 0)
            return -1;
    }
    if (c->p == c->end)
        return fail(c, "a CDATA section does not end");
    c->p += 3;
    return 0;
}

/* Character data up to the next tag, appended to the node's. */
static int take_text(struct cursor *c, struct xml_node *node)
{
    const char *stop = c->p;
    while (stop < c->end && *stop != '<')
        stop++;
    bool cdata = at(c, "<![CDATA[");
    for (; cdata && stop < c->end && !(stop[0] == ']' && c->end - stop >= 3 && memcmp(stop, "]]>", 3) == 0); stop++)
        ;
    size_t old = strlen(node->text);
    char *text = arena(c, old + (size_t)(stop - c->p) + 1), *out = text + old;
    if (!text)
        return -1;
    memcpy(text, node->text, old);
    node->text = text;
    if (cdata)
        return take_cdata(c, &out);
    while (c->p < stop) {
        if (at(c, "]]>"))
            return fail(c, "']]>' is not allowed in text");
        if (take_char(c, &out) < 0)
            return -1;
    }
    return 0;
}

static struct xml_node *take_element(struct cursor *c, struct xml_node *parent, unsigned depth);

/* Whitespace between children is not kept: gathering it piece by piece would cost a square of the number of children. */
static int skip_blank(struct cursor *c)
{
    const char *p = c->p;
    while (p < c->end && is_space(*p))
        p++;
    if (p == c->p || p == c->end || *p != '<')
        return 0;
    advance(c, (size_t)(p - c->p));
    return 1;
}

static int take_content(struct cursor *c, struct xml_node *node, unsigned depth)
{
    struct xml_node **tail = &node->children;
    unsigned pieces = 0;
    while (c->p < c->end && !at(c, "</")) {
        int skipped = skip_markup(c);
        if (skipped == 0 && (!node->text[0] || node->children))
            skipped = skip_blank(c);
        if (skipped < 0)
            return -1;
        if (skipped)
            continue;
        if (*c->p != '<' || at(c, "<![CDATA[")) {
            if (pieces++ >= 64)
                return fail(c, "text is in more than 64 pieces");
            if (take_text(c, node) < 0)
                return -1;
            continue;
        }
        *tail = take_element(c, node, depth + 1);
        if (!*tail)
            return -1;
        tail = &(*tail)->next;
    }
    return c->p == c->end ? fail(c, "an element does not end") : 0;
}

/* The end tag repeats the start tag's name, whose source begins at `name`. */
static int take_end_tag(struct cursor *c, const struct xml_node *node, const char *name, size_t len)
{
    c->p += 2;
    if ((size_t)(c->end - c->p) < len || memcmp(c->p, name, len) != 0 || (c->p + len < c->end && is_name((unsigned char)c->p[len])))
        return error_set(c->err, 0, "line %u: <%.64s> of line %u is not closed; correct the XML", c->line, node->name, node->line);
    c->p += len;
    skip_space(c);
    if (c->p == c->end || *c->p != '>')
        return fail(c, "an end tag does not end");
    c->p++;
    return 0;
}

static struct xml_node *take_element(struct cursor *c, struct xml_node *parent, unsigned depth)
{
    struct xml_node *node = arena(c, sizeof *node);
    if (!node)
        return NULL;
    if (depth >= XML_MAX_DEPTH)
        error_set(c->err, 0, "line %u: elements are nested deeper than %u; shorten the document", c->line, XML_MAX_DEPTH);
    if (depth >= XML_MAX_DEPTH || count_node(c) < 0)
        return NULL;
    *node = (struct xml_node){.parent = parent, .line = c->line, .source = c->p, .text = ""};
    struct xml_attribute **tail = &node->attrs;
    unsigned attrs = 0;
    const char *name = ++c->p;
    node->name = take_name(c);
    size_t len = (size_t)(c->p - name);
    if (!node->name)
        return NULL;
    while (skip_space(c) && c->p < c->end && *c->p != '>' && *c->p != '/') {
        if (attrs++ == XML_MAX_ATTRS)
            fail(c, "an element has too many attributes");
        if (attrs > XML_MAX_ATTRS || take_attribute(c, node, &tail) < 0)
            return NULL;
    }
    bool empty = at(c, "/>");
    if (!empty && !at(c, ">")) {
        fail(c, "a start tag does not end");
        return NULL;
    }
    c->p += empty ? 2 : 1;
    if (resolve_names(c, node) < 0 || (!empty && (take_content(c, node, depth) < 0 || take_end_tag(c, node, name, len) < 0)))
        return NULL;
    node->source_len = (size_t)(c->p - node->source);
    return node;
}

static int skip_misc(struct cursor *c)
{
    int skipped;
    do {
        skip_space(c);
        skipped = skip_markup(c);
    } while (skipped > 0);
    return skipped;
}

/* "<?xml version='1.0' encoding='utf-8'?>": another encoding is refused rather than misread. */
static int take_declaration(struct cursor *c)
{
    if (at(c, "\xef\xbb\xbf"))
        c->p += 3;
    if (!at(c, "<?xml") || c->p + 5 == c->end || !is_space(c->p[5]))
        return 0;
    const char *close = memmem(c->p, (size_t)(c->end - c->p), "?>", 2);
    const char *encoding = close ? memmem(c->p, (size_t)(close - c->p), "encoding", 8) : NULL;
    if (!close)
        return fail(c, "the XML declaration does not end");
    if (encoding) {
        size_t skip = strcspn(encoding, "'\"") + 1;
        if (encoding + skip + 5 > close || strncasecmp(encoding + skip, "utf-8", 5) != 0)
            return error_set(c->err, 0, "line 1: the encoding is not UTF-8; convert the document");
    }
    advance(c, (size_t)(close - c->p) + 2);
    return 0;
}

struct xml_doc *xml_doc_parse(const char *xml, size_t len, struct error *err)
{
    struct xml_doc *doc = calloc(1, sizeof *doc);
    struct cursor c = {doc, xml, xml + len, 1, err};
    if (!doc) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    if (take_declaration(&c) < 0 || skip_misc(&c) < 0)
        goto fail;
    if (c.p == c.end || *c.p != '<') {
        fail(&c, "an element is expected");
        goto fail;
    }
    doc->root = take_element(&c, NULL, 0);
    if (!doc->root || skip_misc(&c) < 0)
        goto fail;
    if (c.p < c.end) {
        fail(&c, "something follows the document's element");
        goto fail;
    }
    return doc;
fail:
    xml_doc_free(doc);
    return NULL;
}

struct xml_node *xml_doc_root(const struct xml_doc *doc)
{
    return doc->root;
}

void xml_doc_free(struct xml_doc *doc)
{
    if (!doc)
        return;
    for (struct chunk *next, *k = doc->chunks; k; k = next) {
        next = k->next;
        free(k);
    }
    free(doc);
}
