// SPDX-License-Identifier: GPL-2.0-or-later
/* lodge: the command line. A table of verbs; every error is one line, `lodge: OBJECT: CAUSE; REMEDY`, and status 1. */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cli/manage.h"
#include "cli/options.h"
#include "cli/verbs.h"

static int verb_help(int argc, char **argv, struct error *err);
static int verb_version(int argc, char **argv, struct error *err);

static const struct verb {
    const char *name, *help;
    int (*run)(int argc, char **argv, struct error *err);
} verbs[] = {
    {"run", "run a guest in the foreground", verb_run},
    {"image", "make, convert, check and change disk images", verb_image},
    {"list", "show the guests that run, or with --all, all", verb_manage},
    {"define", "define a guest by its XML file", verb_manage},
    {"undefine", "forget a guest", verb_manage},
    {"start", "start a guest", verb_manage},
    {"shutdown", "press its power button", verb_manage},
    {"reboot", "reboot it in order", verb_manage},
    {"reset", "reset it at once", verb_manage},
    {"destroy", "end it at once", verb_manage},
    {"suspend", "stop its CPUs", verb_manage},
    {"resume", "let them go on", verb_manage},
    {"console", "talk to its console", verb_manage},
    {"dumpxml", "show its XML", verb_manage},
    {"dominfo", "show what it is and does", verb_manage},
    {"autostart", "start it with the daemon: on, or off", verb_manage},
    {"setmem", "give it so much memory by its balloon", verb_manage},
    {"help", "show this, or a verb's options", verb_help},
    {"version", "show the version", verb_version},
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
    const char *nearest = nearest_word(name, &verbs->name, sizeof *verbs);
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
        if (!v)
            return unknown_verb(argv[0], err);
        if (v->run == verb_run || v->run == verb_image)
            return v->run(1, help, err);
    }
    puts("usage: lodge VERB [OPTION]…\n");
    for (const struct verb *v = verbs; v->name; v++)
        printf("  %-10s %s\n", v->name, v->help);
    return 0;
}

int main(int argc, char **argv)
{
    ERROR_SCOPED(err);
    int status = 1;
    const char *name = argc > 1 ? argv[1] : "help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0)
        name = "version";
    const struct verb *v = find_verb(name);
    if (v)
        status = v->run(MAX(argc - 2, 0), argv + MIN(argc, 2), &err);
    else
        unknown_verb(name, &err);
    if (error_is_set(&err))
        fprintf(stderr, "lodge: %s\n", error_text(&err));
    return status;
}
