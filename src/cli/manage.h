/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The verbs that talk to a daemon: a table, which parses their arguments, and of which help and completion are made. Verbs have
 * virsh's names where virsh has them.
 */
#ifndef LODGE_CLI_MANAGE_H
#define LODGE_CLI_MANAGE_H

#include "cli/session.h"

#define MANAGE_WORDS   4u        /* arguments of a verb that are no options */
#define MANAGE_OPTIONS 8u        /* options of a verb's own */
#define MANAGE_POOL    "default" /* where no pool is named */

/* What an argument names: completion offers these. */
enum object_kind { OBJECT_NONE, OBJECT_DOMAIN, OBJECT_POOL, OBJECT_VOLUME, OBJECT_FILE };

struct manage_option {
    const char *name;  /* without the dashes */
    const char *value; /* what the help calls it; NULL when there is none */
    const char *help;
    enum object_kind object;
};

struct manage_verb;
struct arguments {
    const struct manage_verb *verb;
    const char *words[MANAGE_WORDS];
    unsigned nwords;
    const char *values[MANAGE_OPTIONS]; /* by the verb's options; NULL: not given, "" for one without a value */
};

/* 0, or -1 with err. */
typedef int manage_fn(struct session *s, const struct arguments *a, struct error *err);
typedef int manage_domain_fn(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a,
                             struct error *err);

struct manage_verb {
    const char *name, *usage, *help;     /* usage: the arguments */
    const struct manage_option *options; /* ends with a NULL name; NULL: none */
    unsigned min, max;                   /* of words */
    enum object_kind objects[MANAGE_WORDS];
    manage_fn *run;
    manage_domain_fn *run_domain; /* in place of run: for the domain that the first word names */
    /* In place of both: takes the arguments as they are, without -c and --json. */
    int (*run_raw)(struct session *s, int argc, char **argv, struct error *err);
    void (*print_options)(void); /* what --help adds */
};

extern const struct manage_verb manage_verbs[]; /* ends with a NULL name */

const struct manage_verb *manage_find(const char *name);
/* Parses and runs one verb; argv[0] is its name. Exit status, with err when it is not 0. */
int manage_run(struct session *s, int argc, char **argv, struct error *err);
void manage_help(const struct manage_verb *v);
/* An option's value, "" for one that has none, NULL when it was not given. The name is one of the verb's. */
const char *manage_option(const struct arguments *a, const char *name);

/* In verb_domain.c */
manage_fn manage_list, manage_define, manage_domstats;
manage_domain_fn manage_act, manage_undefine, manage_start, manage_dumpxml, manage_dominfo, manage_domstate, manage_autostart, manage_desc;
/* In verb_device.c */
manage_domain_fn manage_domblklist, manage_domiflist, manage_setmem, manage_vcpucount, manage_setvcpus;
/* In verb_edit.c and verb_console.c */
manage_domain_fn manage_edit, manage_console;
/* In verb_storage.c */
manage_fn manage_pool_list, manage_pool_info, manage_pool_act, manage_vol_list, manage_vol_info, manage_vol_create,
    manage_vol_delete, manage_vol_resize, manage_vol_upload, manage_vol_download;

/* The domain XML in a file, or of standard input for "-"; to be freed. NULL with err. */
char *manage_read_xml(const char *file, struct error *err);
int manage_define_text(struct session *s, const char *xml, struct arena *kept, struct remote_nonnull_domain *dom,
                       struct error *err);
/* A domain's XML in `kept`; flags: VIR_DOMAIN_XML_…. NULL with err. */
const char *manage_domain_xml(struct session *s, const struct remote_nonnull_domain *dom, unsigned flags, struct arena *kept,
                              struct error *err);
struct xml_node;
/* The first child of that name; NULL: there is none, or no node. */
const struct xml_node *manage_xml_child(const struct xml_node *node, const char *name);
/* The text of the element at a path of names below the root, or its attribute; in `kept`. NULL: there is none. */
const char *manage_xml_text(const char *xml, const char *const names[], const char *attr, struct arena *kept);
int manage_console_of(struct session *s, const struct remote_nonnull_domain *dom, struct error *err);

#endif
