// SPDX-License-Identifier: GPL-2.0-or-later
/* lodge: the command line. A table of verbs; every error is one line, `lodge: OBJECT: CAUSE; REMEDY`, and status 1. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "cli/complete.h"
#include "cli/manage.h"
#include "cli/options.h"
#include "cli/prompt.h"
#include "cli/verbs.h"

static int verb_help(int argc, char **argv, struct error *err);
static int verb_version(int argc, char **argv, struct error *err);

static const struct verb {
    const char *name, *help;
    int (*run)(int argc, char **argv, struct error *err);
} verbs[] = {
    {"run", "run a guest in the foreground", verb_run},
    {"image", "make, convert, check and change disk images", verb_image},
    {"help", "show this, or a verb's options", verb_help},
    {"version", "show the version", verb_version},
    {"relay", "join standard input and output to a daemon's socket, for qemu+ssh://", verb_relay},
    {NULL, NULL, NULL},
};

static const struct verb *find_verb(const char *name)
{
    for (const struct verb *v = verbs; v->name; v++)
        if (strcmp(v->name, name) == 0)
            return v;
    return NULL;
}

static int verb_version(int argc, char **argv, struct error *err)
{
    (void)argc;
    (void)argv;
    (void)err;
    puts("lodge " LODGE_VERSION);
    return 0;
}

static int unknown_verb(const char *name, struct error *err)
{
    const char *nearest = nearest_word(name, &manage_verbs->name, sizeof *manage_verbs);
    if (!nearest)
        nearest = nearest_word(name, &verbs->name, sizeof *verbs);
    if (nearest)
        error_set(err, 0, "verb '%s': unknown; did you mean 'lodge %s'?", name, nearest);
    else
        error_set(err, 0, "verb '%s': unknown; see 'lodge help'", name);
    return 1;
}

static int verb_help(int argc, char **argv, struct error *err)
{
    char option[] = "--help", *help[] = {option};
    if (argc > 0) {
        const struct verb *v = find_verb(argv[0]);
        const struct manage_verb *m = manage_find(argv[0]);
        if (m)
            manage_help(m);
        if (m)
            return 0;
        if (!v)
            return unknown_verb(argv[0], err);
        if (v->run == verb_run || v->run == verb_image)
            return v->run(1, help, err);
    }
    puts("usage: lodge [-c URI] [VERB [OPTION]...]\n\nWithout a verb, verbs are read from a prompt, or from standard "
         "input.\n\nWithout a daemon:\n");
    for (const struct verb *v = verbs; v->name; v++)
        printf("  %-30s %s\n", v->name, v->help);
    puts("\nWith one, as virsh(1) has them:\n");
    for (const struct manage_verb *v = manage_verbs; v->name; v++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", v->name, v->usage);
        printf("  %-30s %s\n", left, v->help);
    }
    puts("\n'lodge VERB --help' shows a verb's options; lodge(1) has the rest.");
    return 0;
}

/* `lodge -c URI VERB`, as virsh has it: what stands before the verb is as if it stood behind it. */
static int leading_options(int *argc, char ***argv, struct session *s, struct error *err)
{
    while (*argc > 2 && (strcmp((*argv)[1], "-c") == 0 || strcmp((*argv)[1], "--connect") == 0)) {
        free(s->uri);
        s->uri = strdup((*argv)[2]);
        if (!s->uri)
            return error_set(err, ENOMEM, "command line: out of memory");
        *argc -= 2;
        *argv += 2;
    }
    return 0;
}

/* At the prompt: another daemon, or the user's own. */
static int connect_verb(struct session *s, int argc, char **argv, struct error *err)
{
    if (argc > 2)
        return error_set(err, 0, "lodge connect: '%s' is too many; write connect [URI]", argv[2]), 1;
    session_close(s);
    free(s->uri);
    s->uri = argc > 1 ? strdup(argv[1]) : NULL;
    return session_open(s, err) < 0;
}

int run_verb(struct session *s, int argc, char **argv, struct error *err)
{
    const char *name = strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0 ? "help"
                       : strcmp(argv[0], "--version") == 0                          ? "version"
                                                                                    : argv[0];
    const struct verb *v = find_verb(name);
    if (manage_find(name))
        return manage_run(s, argc, argv, err);
    if (strcmp(name, "connect") == 0)
        return connect_verb(s, argc, argv, err);
    return v ? v->run(argc - 1, argv + 1, err) : unknown_verb(name, err);
}

static int run(int argc, char **argv, struct error *err)
{
    struct session s = {0};
    int status = 1;
    if (leading_options(&argc, &argv, &s, err) < 0)
        return 1;
    if (argc == 1)
        status = prompt_run(&s, err);
    else if (strcmp(argv[1], "complete") == 0)
        status = complete_print(&s, argc - 2, argv + 2);
    else
        status = run_verb(&s, argc - 1, argv + 1, err);
    session_close(&s);
    free(s.uri);
    return status;
}

int main(int argc, char **argv)
{
    ERROR_SCOPED(err);
    int status = run(argc, argv, &err);
    if (error_is_set(&err))
        fprintf(stderr, "lodge: %s\n", error_text(&err));
    return status;
}
