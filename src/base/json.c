// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

struct cursor {
    const char *start, *p, *end;
    struct error *err;
};

static int fail(struct cursor *c, const char *what)
{
    return error_set(c->err, 0, "JSON: byte %zu: %s", (size_t)(c->p - c->start), what);
}

static void skip_space(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

static bool take(struct cursor *c, char ch)
{
    skip_space(c);
    if (c->p == c->end || *c->p != ch)
        return false;
    c->p++;
    return true;
}

/* ---- strings ---- */

static int hex4(struct cursor *c, uint32_t *code)
{
    *code = 0;
    if (c->end - c->p < 4)
        return fail(c, "an escape is cut off");
    for (unsigned i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *d = memchr(digits, *c->p | (*c->p >= 'A' ? 0x20 : 0), 16);
        if (!d)
            return fail(c, "an escape is not four hexadecimal digits");
        *code = *code << 4 | (uint32_t)(d - digits);
        c->p++;
    }
    return 0;
}

static char *put_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        *out++ = (char)code;
        return out;
    }
    unsigned extra = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *out++ = (char)((0xf00u >> (extra + 1)) | (code >> (6 * extra)));
    while (extra--)
        *out++ = (char)(0x80 | ((code >> (6 * extra)) & 0x3f));
    return out;
}

static int unicode_escape(struct cursor *c, char **out)
{
    uint32_t code, low;
    if (hex4(c, &code) < 0)
        return -1;
    if (code >= 0xd800 && code < 0xdc00) {
        if (c->end - c->p < 6 || c->p[0] != '\\' || c->p[1] != 'u')
            return fail(c, "a surrogate stands alone");
        c->p += 2;
        if (hex4(c, &low) < 0)
            return -1;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(c, "a surrogate stands alone");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code == 0 || (code >= 0xdc00 && code <= 0xdfff))
        return fail(c, "an escape is not a character");
    *out = put_utf8(code, *out);
    return 0;
}

/* After the opening quote. NULL with err. */
static char *take_string(struct cursor *c)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *close = c->p;
    while (close < c->end && *close != '"')
        close += *close == '\\' && c->end - close > 1 ? 2 : 1;
    char *s = malloc((size_t)(close - c->p) + 1), *out = s;
    if (!s || close >= c->end) {
        fail(c, s ? "a string does not end" : "out of memory");
        free(s);
        return NULL;
    }
    while (c->p < close) {
        const char *escape;
        int bad = 0;
        if ((unsigned char)*c->p < 0x20) {
            bad = fail(c, "a control character in a string");
        } else if (*c->p != '\\') {
            *out++ = *c->p++;
        } else if (c->p[1] == 'u') {
            c->p += 2;
            bad = unicode_escape(c, &out);
        } else if ((escape = memchr(from, c->p[1], sizeof from - 1))) {
            *out++ = to[escape - from];
            c->p += 2;
        } else {
            bad = fail(c, "an unknown escape");
        }
        if (bad) {
            free(s);
            return NULL;
        }
    }
    *out = 0;
    c->p++;
    return s;
}

/* ---- values ---- */

static int take_number(struct cursor *c, struct json *j)
{
    char text[64], *end;
    size_t n = 0;
    while (c->p + n < c->end && n < sizeof text - 1 && strchr("+-.eE0123456789", c->p[n]) && c->p[n])
        n++;
    memcpy(text, c->p, n);
    text[n] = 0;
    const char *digits = text + (text[0] == '-');
    if (digits[0] < '0' || digits[0] > '9' || (digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9'))
        return fail(c, "not a value");
    errno = 0;
    j->number = strtod(text, &end);
    if (*end || !isfinite(j->number))
        return fail(c, "not a number");
    errno = 0;
    j->integer = strtoll(text, &end, 10);
    j->is_integer = !*end && errno == 0;
    c->p += n;
    return 0;
}

static struct json *take_value(struct cursor *c, unsigned depth);

static int take_members(struct cursor *c, struct json *j, unsigned depth)
{
    struct json **tail = &j->children;
    const char close = j->type == JSON_OBJECT ? '}' : ']';
    if (take(c, close))
        return 0;
    for (;;) {
        AUTO_FREE char *key = NULL;
        if (j->type == JSON_OBJECT) {
            if (!take(c, '"'))
                return fail(c, "a member's name is expected");
            key = take_string(c);
            if (!key)
                return -1;
            if (!take(c, ':'))
                return fail(c, "':' is expected");
        }
        *tail = take_value(c, depth + 1);
        if (!*tail)
            return -1;
        (*tail)->key = steal_ptr(&key);
        tail = &(*tail)->next;
        if (take(c, close))
            return 0;
        if (!take(c, ','))
            return fail(c, "',' is expected");
    }
}

static int fill(struct cursor *c, struct json *j, unsigned depth)
{
    static const struct {
        const char *word;
        enum json_type type;
        bool boolean;
    } words[] = {{"null", JSON_NULL, false}, {"true", JSON_BOOL, true}, {"false", JSON_BOOL, false}};
    if (depth >= JSON_MAX_DEPTH)
        return fail(c, "nested too deep");
    if (take(c, '{') || take(c, '[')) {
        j->type = c->p[-1] == '{' ? JSON_OBJECT : JSON_ARRAY;
        return take_members(c, j, depth);
    }
    if (take(c, '"')) {
        j->type = JSON_STRING;
        j->string = take_string(c);
        return j->string ? 0 : -1;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        size_t n = strlen(words[i].word);
        if ((size_t)(c->end - c->p) >= n && memcmp(c->p, words[i].word, n) == 0) {
            j->type = words[i].type;
            j->boolean = words[i].boolean;
            c->p += n;
            return 0;
        }
    }
    j->type = JSON_NUMBER;
    return take_number(c, j);
}

static struct json *take_value(struct cursor *c, unsigned depth)
{
    struct json *j = calloc(1, sizeof *j);
    if (!j) {
        error_set(c->err, ENOMEM, "JSON: out of memory");
        return NULL;
    }
    if (fill(c, j, depth) == 0)
        return j;
    json_free(j);
    return NULL;
}

struct json *json_parse(const char *text, size_t len, struct error *err)
{
    struct cursor c = {text, text, text + len, err};
    struct json *j = take_value(&c, 0);
    skip_space(&c);
    if (j && c.p < c.end) {
        fail(&c, "something follows the value");
        json_free(j);
        return NULL;
    }
    return j;
}

void json_free(struct json *j)
{
    for (struct json *next; j; j = next) {
        next = j->next;
        json_free(j->children);
        free(j->key);
        free(j->string);
        free(j);
    }
}

const struct json *json_get(const struct json *object, const char *key)
{
    for (const struct json *j = object && object->type == JSON_OBJECT ? object->children : NULL; j; j = j->next)
        if (strcmp(j->key, key) == 0)
            return j;
    return NULL;
}

const char *json_get_string(const struct json *object, const char *key)
{
    const struct json *j = json_get(object, key);
    return j && j->type == JSON_STRING ? j->string : NULL;
}

int64_t json_get_int(const struct json *object, const char *key, int64_t absent)
{
    const struct json *j = json_get(object, key);
    return j && j->type == JSON_NUMBER && j->is_integer ? j->integer : absent;
}

/* ---- writing ---- */

static unsigned utf8_len(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    unsigned len = p[0] < 0x80                   ? 1
                   : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                   : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                   : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                 : 0;
    for (unsigned i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

void json_put_string(FILE *out, const char *s)
{
    fputc('"', out);
    while (*s) {
        unsigned len = utf8_len(s);
        if (len == 0)
            fputc('?', out);
        else if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            fprintf(out, "\\u%04x", *s);
        else
            fwrite(s, 1, len, out);
        s += MAX(len, 1u);
    }
    fputc('"', out);
}

void json_put(FILE *out, const struct json *j)
{
    switch (j->type) {
    case JSON_NULL:
        fputs("null", out);
        break;
    case JSON_BOOL:
        fputs(j->boolean ? "true" : "false", out);
        break;
    case JSON_NUMBER:
        if (j->is_integer)
            fprintf(out, "%lld", (long long)j->integer);
        else
            fprintf(out, "%.17g", j->number);
        break;
    case JSON_STRING:
        json_put_string(out, j->string);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        fputc(j->type == JSON_OBJECT ? '{' : '[', out);
        for (const struct json *m = j->children; m; m = m->next) {
            if (m->key) {
                json_put_string(out, m->key);
                fputs(": ", out);
            }
            json_put(out, m);
            fputs(m->next ? ", " : "", out);
        }
        fputc(j->type == JSON_OBJECT ? '}' : ']', out);
        break;
    }
}
