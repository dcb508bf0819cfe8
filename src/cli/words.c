// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void words_free(struct words *w)
{
    free(w->text);
    *w = (struct words){0};
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One word from *at to *to. False when a quote is not closed. */
static bool take_word(const char **at, char **to)
{
    char quote = 0;
    const char *p = *at;
    for (; *p; p++) {
        if (!quote && (is_space(*p) || *p == ';'))
            break;
        if (quote ? *p == quote : *p == '\'' || *p == '"')
            quote = quote ? 0 : *p;
        else if (*p == '\\' && quote != '\'' && p[1])
            *(*to)++ = *++p;
        else
            *(*to)++ = *p;
    }
    *(*to)++ = 0;
    *at = p;
    return !quote;
}

int words_take(const char **line, bool partial, struct words *w, struct error *err)
{
    const char *p = *line;
    *w = (struct words){.text =
                            malloc(2 * strlen(p) + 2)}; /* a word's end takes no more than what ends it, and the last one's NUL */
    char *to = w->text;
    if (!w->text)
        return error_set(err, ENOMEM, "command: out of memory");
    for (;;) {
        while (is_space(*p))
            p++;
        if (!*p || *p == ';' || *p == '#')
            break;
        if (w->argc == WORDS_MAX)
            return error_set(err, 0, "command '%s': has more than %u words; leave some out", w->argv[0], WORDS_MAX);
        w->argv[w->argc++] = to;
        if (!take_word(&p, &to) && !partial)
            return error_set(err, 0, "command '%s': a quote is not closed; close it", w->argv[0]);
    }
    w->after_space = p == *line || is_space(p[-1]) || p[-1] == ';';
    *line = *p == ';' ? p + 1 : NULL;
    return 0;
}
