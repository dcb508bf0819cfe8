// SPDX-License-Identifier: GPL-2.0-or-later
/* The XML parser: characters, namespaces, bounds. */
#include <stdlib.h>
#include <string.h>

#include "../devices/check.h"
#include "model/xml.h"

static struct xml_doc *parse(const char *xml)
{
    ERROR_SCOPED(err);
    struct xml_doc *doc = xml_doc_parse(xml, strlen(xml), &err);
    if (!doc)
        fprintf(stderr, "%s: %s\n", xml, error_text(&err));
    CHECK(doc);
    return doc;
}

static void refuse(const char *xml, size_t len, const char *word)
{
    ERROR_SCOPED(err);
    struct xml_doc *doc = xml_doc_parse(xml, len, &err);
    if (doc || !strstr(error_text(&err), word)) {
        fprintf(stderr, "%.200s: %s, not '%s'\n", xml, doc ? "accepted" : error_text(&err), word);
        exit(1);
    }
}

static void test_text(void)
{
    static const struct {
        const char *xml, *text;
    } rows[] = {
        {"<a>x</a>", "x"},
        {"<a> x y </a>", " x y "},
        {"<a>&lt;&amp;&gt;&quot;&apos;</a>", "<&>\"'"},
        {"<a>&#65;&#x42;&#x20AC;&#x1F600;</a>", "AB\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"<a>1<![CDATA[<&>]]>2</a>", "1<&>2"},
        {"<a>1<!-- <b> -->2</a>", "12"},
        {"<a>1<?pi x?>2</a>", "12"},
        {"<a>a\r\nb\rc</a>", "a\nb\nc"},
        {"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- c --><a>\xc3\xa9</a>\n<!-- d -->\n", "\xc3\xa9"},
        {"<a\n/>", ""},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct xml_doc *doc = parse(rows[i].xml);
        CHECK(strcmp(xml_doc_root(doc)->text, rows[i].text) == 0);
        xml_doc_free(doc);
    }
}

static void test_attributes(void)
{
    struct xml_doc *doc = parse("<a b='1 \"&lt;\"\n2' c = \"&#10;'\"><d/>\n <e f=''/></a>");
    const struct xml_node *a = xml_doc_root(doc);
    CHECK(strcmp(xml_attr(a, "b"), "1 \"<\" 2") == 0);
    CHECK(strcmp(xml_attr(a, "c"), "\n'") == 0);
    CHECK(strcmp(a->children->next->name, "e") == 0);
    CHECK_EQ(a->children->next->line, 3);
    CHECK(strcmp(xml_attr(a->children->next, "f"), "") == 0);
    xml_doc_free(doc);
}

static void test_namespaces(void)
{
    struct xml_doc *doc = parse("<a xmlns:p='urn:p'><p:b/><c xmlns='urn:d'><d/><e xmlns=''/></c><f xmlns:q='urn:q' q:x='1'/></a>");
    const struct xml_node *b = xml_doc_root(doc)->children, *c = b->next, *f = c->next;
    CHECK(strcmp(b->ns, "urn:p") == 0 && strcmp(b->name, "b") == 0);
    CHECK(strcmp(c->ns, "urn:d") == 0 && strcmp(c->children->ns, "urn:d") == 0 && !c->children->next->ns);
    CHECK(!f->ns && strcmp(f->attrs->name, "q:x") == 0 && !f->attrs->next);
    xml_doc_free(doc);
}

/* What is only kept comes back whole, with the declarations that it needs. */
static void test_kept(void)
{
    static const char *const rows[][2] = {
        {"<a><b c='&lt;&quot;'>x<d/>y</b></a>", "<b c=\"&lt;&quot;\">x<d/>y</b>"},
        {"<a xmlns:p='urn:p'><p:b p:c='1'/></a>", "<p:b xmlns:p=\"urn:p\" p:c=\"1\"/>"},
        {"<a><b xmlns='urn:d'><c/></b></a>", "<b xmlns=\"urn:d\"><c/></b>"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct xml_doc *doc = parse(rows[i][0]);
        char *text = xml_node_text(xml_doc_root(doc)->children);
        CHECK(text);
        if (strcmp(text, rows[i][1]) != 0)
            fprintf(stderr, "%s, not %s\n", text, rows[i][1]);
        CHECK(strcmp(text, rows[i][1]) == 0);
        free(text);
        xml_doc_free(doc);
    }
}

static void test_refusals(void)
{
    static const char *const malformed[] = {
        "",
        "x",
        "<a>",
        "<a></b>",
        "<a></ab>",
        "<a/><b/>",
        "<a b='1' b='2'/>",
        "<a b=1/>",
        "<a b='<'/>",
        "<a b/>",
        "<a b='1'c='2'/>",
        "<a>&#0;</a>",
        "<a>&#xD800;</a>",
        "<a>&#x110000;</a>",
        "<a>&#99999999999999999999;</a>",
        "<a>&x;</a>",
        "<a>&</a>",
        "<a>]]></a>",
        "<a><![CDATA[</a>",
        "<a><!-- -- --></a>",
        "<a>\x01</a>",
        "<a>\xc0\x80</a>",
        "<a>\xed\xa0\x80</a>",
        "<a>\xff</a>",
        "<a>\xe2\x82</a>",
        "<p:a/>",
        "<a p:b='1'/>",
        " <?xml version='1.0'?><a/>",
        "<a><!DOCTYPE a></a>",
    };
    for (unsigned i = 0; i < sizeof malformed / sizeof *malformed; i++)
        refuse(malformed[i], strlen(malformed[i]), "correct the XML");
    refuse("<a>\0</a>", 8, "correct the XML");
    static const char doctype[] = "<!DOCTYPE a [<!ENTITY b 'bb'><!ENTITY c '&b;&b;'>]><a>&c;</a>";
    refuse(doctype, strlen(doctype), "DOCTYPE");
    static const char external[] = "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>";
    refuse(external, strlen(external), "DOCTYPE");
}

/* `count` repetitions of `piece` between `head` and `tail`. */
static void refuse_many(const char *head, const char *piece, unsigned count, const char *tail, const char *word)
{
    size_t len = strlen(head) + strlen(piece) * count + strlen(tail) + 1;
    char *xml = malloc(len), *p = xml;
    CHECK(xml);
    p = stpcpy(p, head);
    while (count--)
        p = stpcpy(p, piece);
    p = stpcpy(p, tail);
    refuse(xml, (size_t)(p - xml), word);
    free(xml);
}

static void test_bounds(void)
{
    refuse_many("", "<a>", 200000, "", "deeper");
    refuse_many("<a>", "<b/>", 200000, "</a>", "more than");
    refuse_many("<a ", "b='' ", 200000, "/>", "in one tag");
    refuse_many("<a>", "<!--", 200000, "", "correct the XML");
    refuse_many("<a>", "\n<b/>\n", 70000, "</a>", "more than");
    refuse_many("<a>", "x", XML_MAX_BYTES, "</a>", "more than");
    char attrs[8192] = "<a", *p = attrs + 2;
    for (unsigned i = 0; i < 500; i++)
        p += sprintf(p, " b%u=''", i);
    strcpy(p, "/>");
    refuse(attrs, strlen(attrs), "more attributes than");
}

int main(void)
{
    test_text();
    test_attributes();
    test_namespaces();
    test_kept();
    test_refusals();
    test_bounds();
    return 0;
}
