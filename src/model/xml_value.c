// SPDX-License-Identifier: GPL-2.0-or-later
/* Values of attributes and texts, read with an error that names them, and written with escapes. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/xml.h"

int xml_error(const struct xml_node *node, struct error *err, const char *fmt, ...)
{
    AUTO_FREE char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    return error_set(err, 0, "line %u: <%.64s>: %s", node->line, node->name, text ? text : "out of memory");
}

const char *xml_attr(const struct xml_node *node, const char *name)
{
    for (const struct xml_attribute *a = node->attrs; a; a = a->next)
        if (strcmp(a->name, name) == 0)
            return a->value;
    return NULL;
}

char *xml_text(const struct xml_node *node)
{
    static const char space[] = " \t\r\n";
    const char *start = node->text + strspn(node->text, space);
    size_t len = strlen(start);
    while (len && strchr(space, start[len - 1]))
        len--;
    return strndup(start, len);
}

int xml_take_text(const struct xml_node *node, char **to, struct error *err)
{
    free(*to);
    *to = xml_text(node);
    return *to ? 0 : xml_error(node, err, "out of memory");
}

int xml_take_attr(const struct xml_node *node, const char *name, char **to, struct error *err)
{
    const char *value = xml_attr(node, name);
    free(*to);
    *to = value ? strdup(value) : NULL;
    return *to || !value ? 0 : xml_error(node, err, "out of memory");
}

static int match_word(const struct xml_node *node, const char *attr, const char *value, const char *const words[],
                      struct error *err)
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

int xml_attr_word(const struct xml_node *node, const char *name, const char *const words[], int absent, struct error *err)
{
    const char *value = xml_attr(node, name);
    return value ? match_word(node, name, value, words, err) : absent;
}

int xml_attr_only(const struct xml_node *node, const char *name, const char *word, struct error *err)
{
    return xml_attr_word(node, name, (const char *const[]){word, NULL}, 0, err);
}

int xml_attr_switch(const struct xml_node *node, const char *name, int absent, struct error *err)
{
    int i = xml_attr_word(node, name, (const char *const[]){"no", "yes", "off", "on", NULL}, -2, err);
    return i == -2 ? absent : i < 0 ? -1 : i & 1;
}

int xml_text_word(const struct xml_node *node, const char *const words[], struct error *err)
{
    AUTO_FREE char *value = xml_text(node);
    return value ? match_word(node, NULL, value, words, err) : xml_error(node, err, "out of memory");
}

int xml_number(const struct xml_node *node, const char *text, uint64_t max, uint64_t *value, struct error *err)
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

int xml_attr_number(const struct xml_node *node, const char *name, uint64_t max, uint64_t *value, struct error *err)
{
    const char *text = xml_attr(node, name);
    return text ? xml_number(node, text, max, value, err) : 0;
}

/* Control characters have no place in XML 1.0; they become spaces. */
void xml_put_text(FILE *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        switch (*p) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '\'':
            fputs("&apos;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        case '\t':
            fputs("&#9;", out);
            break;
        case '\n':
            fputs("&#10;", out);
            break;
        default:
            fputc((unsigned char)*p < 0x20 ? ' ' : *p, out);
        }
    }
}

void xml_put_element(FILE *out, int indent, const char *name, const char *text)
{
    if (!text)
        return;
    fprintf(out, "%*s<%s>", indent, "", name);
    xml_put_text(out, text);
    fprintf(out, "</%s>\n", name);
}

void xml_put_attr(FILE *out, const char *before, const char *value, const char *after)
{
    if (!value)
        return;
    fputs(before, out);
    xml_put_text(out, value);
    fputs(after, out);
}
