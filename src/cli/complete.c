// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/complete.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "cli/create.h"
#include "cli/manage.h"

#define CANDIDATES_MAX 100000u

static const char *const own_verbs[] = {"run", "image", "help", "version", NULL};
static const char *const common_options[] = {"connect", "json", "help", NULL};

static void add(struct candidates *c, const char *typed, const char *prefix, const char *word, size_t len)
{
    size_t before = strlen(prefix);
    AUTO_FREE char *whole = malloc(before + len + 1);
    if (!whole || c->n == CANDIDATES_MAX)
        return;
    memcpy(whole, prefix, before);
    memcpy(whole + before, word, len);
    whole[before + len] = 0;
    if (strncmp(whole, typed, strlen(typed)) != 0)
        return;
    if (c->n == c->cap) {
        size_t cap = MAX(2 * c->cap, (size_t)16);
        char **grown = realloc(c->words, cap * sizeof *grown);
        if (!grown)
            return;
        c->words = grown;
        c->cap = cap;
    }
    c->words[c->n++] = steal_ptr(&whole);
}

static void add_word(struct candidates *c, const char *typed, const char *word)
{
    add(c, typed, "", word, strlen(word));
}

void candidates_free(struct candidates *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->words[i]);
    free(c->words);
    *c = (struct candidates){0};
}

/* ---- objects of the daemon ---- */

static void add_domains(struct session *s, const char *typed, struct candidates *out)
{
    const struct remote_connect_list_all_domains_args args = {.need_results = 1};
    struct remote_connect_list_all_domains_ret ret;
    if (client_connect_list_all_domains(s->c, &args, &ret, NULL) < 0)
        return;
    for (unsigned i = 0; i < ret.domains.len; i++)
        add_word(out, typed, ret.domains.val[i].name);
}

static void add_pools(struct session *s, const char *typed, struct candidates *out)
{
    const struct remote_connect_list_all_storage_pools_args args = {.need_results = 1};
    struct remote_connect_list_all_storage_pools_ret ret;
    if (client_connect_list_all_storage_pools(s->c, &args, &ret, NULL) < 0)
        return;
    for (unsigned i = 0; i < ret.pools.len; i++)
        add_word(out, typed, ret.pools.val[i].name);
}

static void add_volumes(struct session *s, const char *pool, const char *typed, struct candidates *out)
{
    struct remote_storage_pool_list_all_volumes_args args = {.need_results = 1};
    struct remote_storage_pool_list_all_volumes_ret ret;
    ARENA_SCOPED(kept);
    if (session_pool(s, pool, &args.pool, &kept, NULL) < 0 || client_storage_pool_list_all_volumes(s->c, &args, &ret, NULL) < 0)
        return;
    for (unsigned i = 0; i < ret.vols.len; i++)
        add_word(out, typed, ret.vols.val[i].name);
}

static void add_objects(struct session *s, enum object_kind kind, const char *pool, const char *typed, struct candidates *out)
{
    if (kind == OBJECT_FILE)
        out->files = true;
    if (kind == OBJECT_NONE || kind == OBJECT_FILE || (!s->c && !session_is_local(s)) || session_open(s, NULL) < 0)
        return;
    if (kind == OBJECT_DOMAIN)
        add_domains(s, typed, out);
    else if (kind == OBJECT_POOL)
        add_pools(s, typed, out);
    else
        add_volumes(s, pool, typed, out);
}

/* ---- options ---- */

/* "raw|qcow2" offers both, "FILE" and the like a file's name, anything else nothing. */
static void add_values(const char *usage, const char *typed, struct candidates *out)
{
    static const char *const files[] = {"FILE", "DISK", "PATH", "DIR"};
    for (const char *p = usage; *p;) {
        size_t len = strcspn(p, "|,[");
        if (len && *p >= 'a' && *p <= 'z' && !memchr(p, '=', len))
            add(out, typed, "", p, len);
        if (p[len] != '|')
            break;
        p += len + 1;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++)
        out->files |= strncmp(usage, files[i], strlen(files[i])) == 0 || strstr(usage, "|FILE") != NULL;
}

static void complete_rows(const struct option_row *rows, const char *before, const char *typed, struct candidates *out)
{
    for (; rows->name; rows++) {
        if (rows->value && strncmp(before, "--", 2) == 0 && strcmp(before + 2, rows->name) == 0) {
            add_values(rows->value, typed, out);
            return;
        }
        if (typed[0] == '-')
            add(out, typed, "--", rows->name, strlen(rows->name));
    }
}

/* The option that the word is, when its value stands behind it; else NULL. */
static const struct manage_option *option_with_value(const struct manage_verb *v, const char *word)
{
    for (const struct manage_option *o = v->options; o && o->name && strncmp(word, "--", 2) == 0; o++)
        if (o->value && strcmp(o->name, word + 2) == 0)
            return o;
    return NULL;
}

static void complete_value(struct session *s, const struct manage_option *o, const char *typed, struct candidates *out)
{
    if (o->object == OBJECT_NONE)
        add_values(o->value, typed, out);
    else
        add_objects(s, o->object, NULL, typed, out);
}

static void complete_verb(struct session *s, const struct manage_verb *v, int argc, char *const *argv, struct candidates *out)
{
    const char *typed = argv[argc - 1], *before = argc > 2 ? argv[argc - 2] : "", *pool = MANAGE_POOL;
    unsigned words = 0;
    if (v->run_raw)
        complete_rows(create_option_rows(), before, typed, out);
    const struct manage_option *option = option_with_value(v, before);
    if (option) {
        complete_value(s, option, typed, out);
        return;
    }
    if (typed[0] == '-') {
        for (const struct manage_option *o = v->options; o && o->name; o++)
            add(out, typed, "--", o->name, strlen(o->name));
        for (unsigned i = 0; common_options[i]; i++)
            add(out, typed, "--", common_options[i], strlen(common_options[i]));
        return;
    }
    for (int i = 1; i < argc - 1; i++) {
        if (strcmp(argv[i], "--pool") == 0 && i + 1 < argc - 1)
            pool = argv[i + 1];
        if (option_with_value(v, argv[i]))
            i++;
        else
            words += argv[i][0] != '-';
    }
    if (words < v->max && words < MANAGE_WORDS)
        add_objects(s, v->objects[words], pool, typed, out);
}

static void complete_verbs(const char *typed, struct candidates *out)
{
    for (const struct manage_verb *v = manage_verbs; v->name; v++)
        add_word(out, typed, v->name);
    for (unsigned i = 0; own_verbs[i]; i++)
        add_word(out, typed, own_verbs[i]);
}

void complete(struct session *s, int argc, char *const *argv, struct candidates *out)
{
    *out = (struct candidates){0};
    while (argc > 2 && (strcmp(argv[0], "-c") == 0 || strcmp(argv[0], "--connect") == 0)) {
        free(s->uri);
        s->uri = strdup(argv[1]);
        argc -= 2;
        argv += 2;
    }
    if (argc < 1)
        return;
    const struct manage_verb *v = argc > 1 ? manage_find(argv[0]) : NULL;
    if (argc == 1 || (argc == 2 && strcmp(argv[0], "help") == 0))
        complete_verbs(argv[argc - 1], out);
    else if (v)
        complete_verb(s, v, argc, argv, out);
    else if (strcmp(argv[0], "run") == 0)
        complete_rows(run_option_rows(), argv[argc - 2], argv[argc - 1], out);
    else
        out->files = strcmp(argv[0], "image") == 0;
}

int complete_print(struct session *s, int argc, char **argv)
{
    struct candidates c;
    complete(s, argc, argv, &c);
    for (size_t i = 0; i < c.n; i++)
        puts(c.words[i]);
    if (c.n == 0 && c.files)
        puts("/");
    candidates_free(&c);
    return 0;
}
