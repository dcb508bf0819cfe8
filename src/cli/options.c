// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/options.h"

#include <stdio.h>
#include <string.h>

#include "base/util.h"

#define WORD_MAX 32
#define FAR      3 /* edits: a word that differs by as many is not what was meant */

/* Edits that turn one word into the other: insert, delete, replace (Levenshtein). */
static unsigned distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    unsigned row[WORD_MAX + 1];
    if (la > WORD_MAX || lb > WORD_MAX)
        return FAR;
    for (unsigned j = 0; j <= lb; j++)
        row[j] = j;
    for (unsigned i = 1; i <= la; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= lb; j++) {
            unsigned replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = MIN(replaced, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[lb];
}

const char *nearest_word(const char *typed, const char *const *words, size_t stride)
{
    const char *best = NULL;
    unsigned best_distance = FAR;
    for (const char *p = (const char *)words; *(const char *const *)p; p += stride) {
        const char *word = *(const char *const *)p;
        /* The beginning of a word is near, however much is missing. */
        unsigned d = strlen(typed) >= 3 && strncmp(word, typed, strlen(typed)) == 0 ? 1 : distance(typed, word);
        if (d < best_distance) {
            best_distance = d;
            best = word;
        }
    }
    return best;
}

static const struct option_row *find_row(const struct option_row *rows, const char *name, size_t len)
{
    for (; rows->name; rows++)
        if (strlen(rows->name) == len && strncmp(rows->name, name, len) == 0)
            return rows;
    return NULL;
}

static int unknown(const struct option_row *rows, const char *verb, const char *name, struct error *err)
{
    const char *nearest = nearest_word(name, &rows->name, sizeof *rows);
    return nearest ? error_set(err, 0, "option '--%s': unknown; did you mean '--%s'?", name, nearest)
                   : error_set(err, 0, "option '--%s': unknown; see 'lodge %s --help'", name, verb);
}

int options_parse(const struct option_row *rows, const char *verb, int argc, char **argv, void *object, struct error *err)
{
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (strncmp(arg, "--", 2) != 0 || !arg[2])
            return error_set(err, 0, "argument '%s': not understood, all of them are options; see 'lodge %s --help'", arg, verb);
        const char *equals = strchr(arg, '=');
        size_t len = equals ? (size_t)(equals - arg) - 2 : strlen(arg) - 2;
        AUTO_FREE char *name = strndup(arg + 2, len);
        const struct option_row *row = find_row(rows, arg + 2, len);
        if (!row)
            return unknown(rows, verb, name ? name : "", err);
        const char *value = equals ? equals + 1 : NULL;
        if (!row->value && value)
            return error_set(err, 0, "option '--%s': takes no value; leave '=%s' out", row->name, value);
        if (row->value && !value) {
            if (++i == argc)
                return error_set(err, 0, "option '--%s': lacks its value; write --%s %s", row->name, row->name, row->value);
            value = argv[i];
        }
        if (row->set(object, value, err) < 0)
            return -1;
    }
    return 0;
}

void options_help(const struct option_row *rows)
{
    for (; rows->name; rows++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", rows->name, rows->value ? " " : "", rows->value ? rows->value : "");
        printf("  %-34s %s\n", left, rows->help);
    }
}
